//! Proofs out of what a gateway holds: the item in its bundle, the end of a chunk, the transaction's place in a block.
//!
//! Not here: finding the bundle (`find`). The invariant: what comes of it verifies without the gateway.

use std::ops::Range;

use serde::Serialize;
use spec::chunks::Tree;
use spec::contract::Answer;
use spec::proof::{At, BlockClaim, Body, Carried, Member, Place, Proof, Stretch, Tail, members};
use spec::{
    Address, Assignment, Bundle, Carrier, DataItem, ItemId, Kind, Refusal, Succession, Transaction,
    succession,
};
use weave::network::{Peer, TxStatus};

use super::find::{Found, find};
use crate::follow::gather;

/// The proof of an item, from the first gateway that has what it takes.
pub async fn proof(peers: &[Peer], id: ItemId, carrier: Option<ItemId>, full: bool) -> Answer<Proof> {
    let mut refused = None;
    for peer in peers {
        match from_one(peer, id, carrier, full).await {
            Ok(proof) => return Ok(proof),
            Err(refusal) => {
                tracing::info!(peer = peer.name(), %refusal, "no proof from this gateway");
                refused.get_or_insert(refusal);
            }
        }
    }
    Err(refused.unwrap_or_else(|| Refusal::invalid("no-gateway", "no gateway was named")))
}

async fn from_one(peer: &Peer, id: ItemId, carrier: Option<ItemId>, full: bool) -> Answer<Proof> {
    let found = find(peer, id, carrier).await?;
    let mut full = full;
    let mut proof = match found.as_carrier() {
        Some(carrier) => {
            let small = of_carrier(&found, &carrier, id, full)?;
            // A key that followed another closes its bundles; its word counts for its own statements.
            let is_other = is_of_another_key(&small);
            full |= is_other;
            if is_other {
                of_carrier(&found, &carrier, id, true)?
            } else {
                small
            }
        }
        None => of_bundle(&found, id)?,
    };
    let mut place = place(peer, &found).await?;
    place.stretches = stretches(&found, &wanted(&proof, &found, full), full);
    proof.place = Some(place);
    match proof.verify() {
        Ok(_) => Ok(proof),
        Err(refused) => Err(Refusal::upstream(
            "gateway-lied",
            format!("{}: {refused}", peer.name()),
        )),
    }
}

fn missing(found: &Found, id: ItemId) -> Refusal {
    let transaction = found.transaction.id;
    Refusal::not_found(
        "not-on-the-weave",
        format!("the data of {transaction} does not hold {id}"),
    )
}

/// Whether the slot was given by another key than the one that closed the bundle.
fn is_of_another_key(proof: &Proof) -> bool {
    let assignment = proof.assignment.as_ref().unwrap_or(&proof.subject);
    let digest = proof.digest.as_ref().map(DataItem::owner);
    let Body::Whole(item) = &assignment.body else {
        return false;
    };
    Assignment::read(item.clone()).is_ok() && digest.is_some_and(|owner| owner != item.owner())
}

/// What carries the bundle, as the proof has it.
fn carried(found: &Found, digest: Option<&DataItem>) -> Carried {
    match &found.carrier {
        None => Carried::Transaction(found.transaction.clone()),
        Some(item) => {
            let end = digest.map_or(0, |digest| digest.bytes().len());
            Carried::Item {
                item: item.withhold(),
                tail: Tail::of(&found.bundle, found.bundle.len() - end),
            }
        }
    }
}

/// Of an item in a carrier of a node's: paths to its digest.
fn of_carrier(found: &Found, carrier: &Carrier, id: ItemId, full: bool) -> Answer<Proof> {
    let members = members(carrier, id, full).ok_or_else(|| missing(found, id))?;
    let digest = carrier.digest_item().clone();
    Ok(Proof {
        subject: members.subject,
        assignment: members.assignment,
        previous: members.previous,
        next: members.next,
        carrier: carried(found, Some(&digest)),
        digest: Some(digest),
        place: None,
    })
}

/// Of an item in anybody's bundle: its bytes in the chunks. Places count from the start of the transaction's data.
fn of_bundle(found: &Found, id: ItemId) -> Answer<Proof> {
    let items = Bundle::parse(&found.bundle).map(|bundle| bundle.items);
    let items = items.map_err(|error| Refusal::upstream("bad-answer", error.to_string()))?;
    let member = |item: &DataItem| Member {
        body: Body::Whole(item.clone()),
        at: Some(At {
            offset: found.offset_of(item.bytes()),
            path: None,
        }),
    };
    let subject = items.iter().find(|item| item.id() == id);
    let subject = subject.ok_or_else(|| missing(found, id))?;
    let assigns = |item: &&DataItem| Assignment::read((*item).clone()).is_ok_and(|one| one.subject() == id);
    Ok(Proof {
        subject: member(subject),
        assignment: items.iter().find(assigns).map(member),
        previous: None,
        next: None,
        digest: None,
        carrier: Carried::Transaction(found.transaction.clone()),
        place: None,
    })
}

/// The parts of the transaction's data that the proof needs.
fn wanted(proof: &Proof, found: &Found, full: bool) -> Vec<Range<u64>> {
    let base = base(proof, found);
    let members = [
        Some(&proof.subject),
        proof.assignment.as_ref(),
        proof.previous.as_ref(),
        proof.next.as_ref(),
    ];
    let mut wanted = Vec::new();
    for member in members.into_iter().flatten() {
        let (Some(at), Body::Whole(item) | Body::Wrapper(item)) = (&member.at, &member.body) else {
            continue;
        };
        if full || at.path.is_none() {
            let start = base + at.offset;
            wanted.push(start..start + item.bytes().len() as u64);
        }
    }
    wanted.extend(proof.digest.as_ref().map(|digest| {
        let end = found.offset_of(&found.bundle) + found.bundle.len() as u64;
        end - digest.bytes().len() as u64..end
    }));
    wanted
}

/// Where the bundle begins, as the proof counts.
fn base(proof: &Proof, found: &Found) -> u64 {
    match proof.carrier {
        Carried::Transaction(_) => 0,
        Carried::Item { .. } => found.offset_of(&found.bundle),
    }
}

/// Of each chunk that holds wanted bytes, what is needed: from the first of them to the chunk's end, or all.
fn stretches(found: &Found, wanted: &[Range<u64>], full: bool) -> Vec<Stretch> {
    let tree = Tree::of(&found.data);
    let mut stretches = Vec::new();
    for chunk in tree.chunks() {
        let inside = wanted
            .iter()
            .filter(|range| range.start < chunk.end && range.end > chunk.start);
        let Some(from) = inside.map(|range| range.start.max(chunk.start)).min() else {
            continue;
        };
        let from = if full { 0 } else { (from - chunk.start) as usize };
        let bytes = found.data.slice(chunk.start as usize..chunk.end as usize);
        let path = tree.proof(chunk.start).expect("the tree has the chunk");
        stretches.push(Stretch::of(&bytes, chunk.start, path.into(), from));
    }
    stretches
}

/// Where the transaction's data lies, by the gateway's block and chunk.
async fn place(peer: &Peer, found: &Found) -> Answer<Place> {
    let id = found.transaction.id;
    let TxStatus::Mined { height, .. } = peer.status(id).await? else {
        return Err(Refusal::not_found(
            "not-on-the-weave",
            format!("{}: the transaction {id} is in no block yet", peer.name()),
        ));
    };
    let lie = |why: &str| Refusal::upstream("gateway-lied", format!("{}: {why}", peer.name()));
    let block = peer.block_at(height).await?;
    let claimed = block
        .place()
        .ok_or_else(|| lie("the block does not say where it lies"))?;
    let (end, size) = peer
        .offset(id)
        .await?
        .ok_or_else(|| lie("it does not say where the data lies"))?;
    if size != found.data.len() as u64 {
        return Err(lie(
            "the transaction's data has another length than the one it tells",
        ));
    }
    let chunk = peer.chunk(end).await?;
    claimed
        .verify_chunk(end, &chunk.tx_path, &chunk.data_path, &chunk.chunk)
        .map_err(|error| lie(&format!("the last chunk of {id}: {error}")))?;
    let base = found.carrier.as_ref().map(|_| found.offset_of(&found.bundle));
    Ok(Place {
        transaction: base.map(|_| found.transaction.clone()),
        base: base.unwrap_or(0),
        stretches: Vec::new(),
        tx_path: chunk.tx_path,
        end,
        block: BlockClaim {
            height,
            hash: block.hash,
            place: claimed,
        },
    })
}

/// What a gateway said to a proof's block.
#[derive(Debug, Serialize)]
pub struct Agreed {
    /// Its name.
    pub gateway: String,
    /// Blocks from the proof's to its newest.
    pub confirmations: u64,
    /// Whether the process item, and successor items, lead to the key that signed the assignment. `None`: the proof has no
    /// slot.
    pub scheduler_named: Option<bool>,
}

/// Whether a process is scheduled by the key that signed the proof's assignment, by signed items that a gateway has.
async fn scheduler_named(peer: &Peer, proof: &Proof) -> Answer<Option<bool>> {
    let member = proof.assignment.as_ref().unwrap_or(&proof.subject);
    let (Body::Whole(item) | Body::Wrapper(item)) = &member.body else {
        return Ok(None);
    };
    let Ok(assignment) = Assignment::read(item.clone()) else {
        return Ok(None);
    };
    let Ok(process) = gather::item(peer, assignment.process.into()).await else {
        return Ok(Some(false));
    };
    let Some(named) = process
        .tag("Scheduler")
        .and_then(|text| text.parse::<Address>().ok())
    else {
        return Ok(Some(false));
    };
    let (mut gateway, mut at) = (gather::Gateway::new(peer.clone()), named);
    for _ in 0..=succession::STEPS_MAX {
        if at == assignment.item.owner_address() {
            return Ok(Some(true));
        }
        let words = gateway.words(at).await?;
        let step = words.into_iter().find_map(|word| Succession::read(word).ok());
        let Some(step) = step else { break };
        at = step.to;
    }
    let text = format!(
        "process {} names the scheduler {named}, and no succession leads from there to {}, who signed this assignment",
        assignment.process,
        assignment.item.owner_address()
    );
    Err(Refusal::invalid("proof-denied", text))
}

/// Asks a gateway whether the chain has the block that the proof names, and the transaction in it.
pub async fn compare(peer: &Peer, proof: &Proof) -> Answer<Agreed> {
    let differs = |what: &str| {
        Err(Refusal::invalid(
            "proof-denied",
            format!("{} has another {what} than the proof", peer.name()),
        ))
    };
    let Some(place) = &proof.place else {
        return Err(Refusal::invalid(
            "proof-denied",
            "the proof names no block: it shows that the upload wallet signed the bundle, no more",
        ));
    };
    let own: &Transaction = match (&place.transaction, &proof.carrier) {
        (Some(root), _) => root,
        (None, Carried::Transaction(own)) => own,
        (None, Carried::Item { .. }) => return differs("transaction"),
    };
    let block = match peer.block_at(place.block.height).await {
        Err(refusal) if refusal.kind == Kind::NotFound => return differs("chain, without this height,"),
        block => block?,
    };
    if block.hash != place.block.hash {
        return differs("block at this height");
    }
    if block.place() != Some(place.block.place) {
        return differs("root or size of the block");
    }
    if peer.transaction(own.id).await?.as_ref() != Some(own) {
        return differs("transaction of this id");
    }
    match peer.status(own.id).await? {
        TxStatus::Mined {
            height,
            confirmations,
            ..
        } if height == place.block.height => Ok(Agreed {
            gateway: peer.name().to_owned(),
            confirmations,
            scheduler_named: scheduler_named(peer, proof).await?,
        }),
        _ => differs("block for the transaction"),
    }
}
