//! Downloads a carrier's bundle: whole where that works, else chunk by chunk with its proofs.
//!
//! Not here: what is in the bundle (`check`). The invariant: what is handed out is what the carrier's signature covers.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use spec::chunks::{self, Hash};
use spec::contract::Answer;
use spec::{Address, ItemId, Refusal, Transaction};

use super::find::{Claim, Way};
use super::search::Node;
use super::source::{Sources, lie};
use super::{Error, Result};
use crate::network::{Peer, TxStatus};

/// Rounds for a bundle as a whole; after them its chunks are asked for.
const WHOLE_ROUNDS: usize = 2;

/// The bundle that a claim's signature covers.
///
/// # Errors
/// No gateway gave it, whole or in chunks; larger than the limit.
pub(super) async fn bundle(sources: &Sources, wallets: &[Address], claim: &Claim) -> Result<Bytes> {
    let (actual, limit) = (claim.size(), sources.limits().bundle_bytes_max);
    if actual > limit {
        let what = "the size of a carrier's bundle in bytes";
        return Err(Error::Limit { what, actual, limit });
    }
    match &claim.way {
        Way::Item(node) => item(sources, wallets, claim.id, node).await,
        Way::Transaction(transaction) => match whole(sources, transaction).await {
            Ok(bundle) => Ok(bundle),
            Err(error) => pieces(sources, transaction)
                .await
                .map_err(|second| both(error, second)),
        },
    }
}

/// Both ways failed: what each gateway said on the second, and on the first where it was not asked again.
fn both(first: Error, second: Error) -> Error {
    match (first, second) {
        (Error::NotHad { tried: mut all, .. }, Error::NotHad { what, tried }) => {
            all.extend(tried);
            Error::NotHad { what, tried: all }
        }
        (_, second) => second,
    }
}

/// The height of a carrier's block by some gateway's word; 0 if none says. The uploader asks again before it counts.
pub(super) async fn height(sources: &Sources, claim: &Claim) -> u64 {
    let id = match &claim.way {
        Way::Transaction(transaction) => transaction.id,
        Way::Item(node) => node.bundled_in.as_ref().map_or(claim.id, |bundle| bundle.id),
    };
    let what = format!("the block of carrier {id}");
    let had = sources.first(&what, 1, |peer| async move {
        match peer.status(id).await? {
            TxStatus::Mined { height, .. } => Ok(height),
            _ => Err(Refusal::not_found("not-found", "it is in no block here")),
        }
    });
    had.await.unwrap_or(0)
}

async fn item(sources: &Sources, wallets: &[Address], id: ItemId, node: &Arc<Node>) -> Result<Bytes> {
    let what = format!("the data of carrier item {id}");
    let had = sources.first(&what, sources.limits().rounds_max, |peer| {
        let node = node.clone();
        async move {
            let data = peer.data(id).await?;
            let name = peer.name().to_owned();
            let made = blocking(move || Ok(node.item(&data).map(|item| (item.owner_address(), item.data()))));
            match made.await? {
                Some((owner, data)) if wallets.contains(&owner) => Ok(data),
                Some(_) => Err(lie(format!("{name} gave the item {id} of another wallet"))),
                None => Err(lie(format!(
                    "{name} gave data that the signature of item {id} does not cover"
                ))),
            }
        }
    });
    had.await
}

async fn whole(sources: &Sources, transaction: &Arc<Transaction>) -> Result<Bytes> {
    let id = transaction.id;
    let what = format!("the data of carrier {id}");
    let had = sources.first(&what, WHOLE_ROUNDS, |peer| {
        let transaction = transaction.clone();
        async move {
            let data = peer.data(id).await?;
            let name = peer.name().to_owned();
            blocking(move || {
                let wrong = |_| {
                    lie(format!(
                        "{name} gave data of {id} that its data_root does not cover"
                    ))
                };
                transaction
                    .verify_data(&data)
                    .map(|()| data.clone())
                    .map_err(wrong)
            })
            .await
        }
    });
    had.await
}

async fn pieces(sources: &Sources, transaction: &Arc<Transaction>) -> Result<Bytes> {
    let (id, size) = (transaction.id, transaction.content.data_size);
    let Some(root) = transaction.content.data_root else {
        return Ok(Bytes::new());
    };
    // Each gateway's word for where the data lies is as good as its chunks' proofs; wrong words prove nothing.
    let what = format!("the chunks of carrier {id}");
    let had = sources.first(&what, sources.limits().rounds_max, |peer| async move {
        let offset = peer.offset(id).await?;
        let (end, said) = offset
            .ok_or_else(|| Refusal::not_found("not-found", format!("{} has no offset", peer.name())))?;
        if said != size || end < size {
            return Err(lie(format!(
                "{} says that {id} has {said} bytes, it has {size}",
                peer.name()
            )));
        }
        all_chunks(sources, id, (root, size), end - size)
            .await
            .map_err(|error| Refusal::upstream("no-chunks", error.to_string()))
    });
    had.await
}

async fn all_chunks(sources: &Sources, id: ItemId, (root, size): (Hash, u64), before: u64) -> Result<Bytes> {
    let mut data = BytesMut::with_capacity(size as usize);
    for (start, end) in chunks::spans(size).filter(|(start, end)| end > start) {
        let what = format!("bytes {start} to {end} of carrier {id}");
        let chunk = sources.first(&what, WHOLE_ROUNDS, |peer| {
            one_chunk(peer, (root, size), (start, end), before)
        });
        data.extend_from_slice(&chunk.await?);
    }
    assert_eq!(data.len() as u64, size, "chunks cover the data");
    Ok(data.freeze())
}

async fn one_chunk(peer: Peer, (root, size): (Hash, u64), span: (u64, u64), before: u64) -> Answer<Bytes> {
    let got = peer.chunk(before + span.1).await?;
    let wrong = |why: &dyn std::fmt::Display| lie(format!("{} gave a wrong chunk: {why}", peer.name()));
    let proved = chunks::verify(&root, size, span.0, &got.data_path).map_err(|error| wrong(&error))?;
    if (proved.start, proved.end) != span || proved.hash != chunks::sha256(&[&got.chunk]) {
        return Err(wrong(&"its bytes are not the ones proved"));
    }
    Ok(got.chunk)
}

/// Runs what takes the processor where it holds no other request up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::internal(error.to_string())))
}
