//! Where an item lies: the transaction whose data holds its bundle, found by a gateway's word and checked by hashes.
//!
//! Not here: what is made of it. The invariant: the data is what the transaction's owner signed, and the item is in it.

use bytes::Bytes;
use serde::Deserialize;
use spec::contract::Answer;
use spec::{Bundle, Carrier, DataItem, ItemId, Refusal, Transaction, bundle};
use weave::network::Peer;

const PARENT: &str = "query($id: ID!) { transaction(id: $id) { bundledIn { id } } }";

/// An item in the data of a transaction.
pub struct Found {
    /// The transaction.
    pub transaction: Transaction,
    /// Its data.
    pub data: Bytes,
    /// The bundler's item whose data the bundle is; `None` where the transaction carries it.
    pub carrier: Option<DataItem>,
    /// The bundle that the item is in.
    pub bundle: Bytes,
}

#[derive(Deserialize)]
struct Answered {
    transaction: Option<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    bundled_in: Option<Parent>,
}

#[derive(Deserialize)]
struct Parent {
    id: ItemId,
}

/// What a gateway says an item is bundled in.
async fn parent(peer: &Peer, id: ItemId) -> Answer<Option<ItemId>> {
    let variables = serde_json::json!({ "id": id.to_string() });
    let data = peer.graphql(PARENT, &variables).await?;
    let answered: Answered = serde_json::from_str(data.get())
        .map_err(|error| Refusal::upstream("bad-answer", format!("{}: {error}", peer.name())))?;
    let parent = answered.transaction.and_then(|node| node.bundled_in);
    Ok(parent.map(|parent| parent.id))
}

/// Finds an item by one gateway. With `carrier` its first parent is known.
pub async fn find(peer: &Peer, id: ItemId, carrier: Option<ItemId>) -> Answer<Found> {
    let mut parents = Vec::new();
    let mut next = match carrier {
        Some(carrier) => Some(carrier),
        None => parent(peer, id).await?,
    };
    let transaction = loop {
        let Some(at) = next.filter(|_| parents.len() < bundle::DEPTH_MAX) else {
            let name = peer.name();
            return Err(Refusal::not_found(
                "not-on-the-weave",
                format!("{name} knows no transaction that holds {id}"),
            ));
        };
        parents.push(at);
        match peer.transaction(at).await? {
            Some(transaction) => break transaction,
            None => next = parent(peer, at).await?,
        }
    };
    let data = peer.data(transaction.id).await?;
    let lie = |why: String| Refusal::upstream("gateway-lied", format!("{}: {why}", peer.name()));
    transaction
        .verify_data(&data)
        .map_err(|error| lie(format!("the data of {}: {error}", transaction.id)))?;
    unfold(transaction, data, &parents).map_err(lie)
}

/// Goes from the transaction's data down to the bundle that the item is in.
fn unfold(transaction: Transaction, data: Bytes, parents: &[ItemId]) -> Result<Found, String> {
    let (mut bundle, mut carrier) = (data.clone(), None);
    for id in parents.iter().rev().skip(1) {
        let inside = Bundle::parse(&bundle).map_err(|error| error.to_string())?;
        let found = inside.items.into_iter().find(|item| item.id() == *id);
        let found = found.ok_or_else(|| format!("the bundle of {} does not hold {id}", transaction.id))?;
        bundle = found.data();
        carrier = Some(found);
    }
    Ok(Found {
        transaction,
        data,
        carrier,
        bundle,
    })
}

impl Found {
    /// Where some bytes of the data begin in it; they share its buffer.
    pub fn offset_of(&self, part: &Bytes) -> u64 {
        let offset = (part.as_ptr() as usize).checked_sub(self.data.as_ptr() as usize);
        let offset = offset.filter(|offset| offset + part.len() <= self.data.len());
        offset.expect("parts of the data were sliced out of it") as u64
    }

    /// The bundle as a carrier of a node's, if it is one.
    pub fn as_carrier(&self) -> Option<Carrier> {
        Carrier::parse(&self.bundle).ok()
    }
}
