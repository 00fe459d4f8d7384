//! Proofs: what shows, without any network, that an item has its place in a process's log and its bytes a place on the
//! weave.
//!
//! Pure. Not here: where the parts come from, and whether the chain has the block that the proof names; that only a node
//! of the network can tell. The invariant: `verify` answers with nothing that signatures and hashes in the proof do not
//! show, but the block, which it marks as claimed. Source: spec/proof.md.

mod file;
mod make;
mod stretch;

use bytes::Bytes;
use serde::Serialize;

use crate::assignment::{Assignment, Chain};
use crate::carrier::{self, CarrierTags, Digest};
use crate::chunks::Hash;
use crate::deep_hash::DEEP_HASH_LEN;
use crate::digest::{self, Leaf};
use crate::ids::{Address, ItemId, ProcessId, base64url};
use crate::item::DataItem;
use crate::midstate::Sha384;
use crate::placement::BlockPlace;
use crate::signature;
use crate::transaction::Transaction;
use crate::withheld::Withheld;

pub use crate::midstate::{Sha256 as Sha256State, Sha384 as Sha384State};
pub use file::{FILE_LEN_MAX, MAGIC, VERSION};
pub use make::{Members, members};
pub use stretch::Stretch;

/// Why a proof shows nothing: where it is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Refused {
    /// Which part.
    pub place: &'static str,
    /// What is wrong with it.
    pub why: String,
}

type Result<T> = std::result::Result<T, Refused>;

fn refuse<T>(place: &'static str, why: impl ToString) -> Result<T> {
    Err(refused(place, why))
}

fn refused(place: &'static str, why: impl ToString) -> Refused {
    Refused {
        place,
        why: why.to_string(),
    }
}

/// An item as far as the proof has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Whole.
    Whole(DataItem),
    /// Its head, and its data by length and hash: large items, whose data is elsewhere.
    Head(Withheld),
    /// The bundle's stand-in for an item whose data was withheld.
    Wrapper(DataItem),
}

/// How an item's place in the bundle is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// Its first byte, counted from the start of the bundle.
    pub offset: u64,
    /// Its index, and the neighbours up to the digest's root. Without: the stretches hold its bytes.
    pub path: Option<(u64, Vec<Hash>)>,
}

/// An item of the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub body: Body,
    /// Where it lies; `None` for one that lies elsewhere.
    pub at: Option<At>,
}

/// The end of a carrier item's data, from some block of SHA-384 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Bytes of the data before it; whole blocks.
    pub before: u64,
    /// SHA-384 after these.
    pub state: Sha384,
    /// The rest.
    pub bytes: Bytes,
}

/// What brought the bundle to the weave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// A transaction whose data is the bundle.
    Transaction(Transaction),
    /// A bundler's data item whose data is the bundle; its signature covers the data's hash.
    Item {
        /// The item without its data.
        item: Withheld,
        /// The data's end.
        tail: Tail,
    },
}

/// A block as the proof names it. Nothing here is shown: ask nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockClaim {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: Bytes,
    /// Where it lies, and the root over its transactions.
    pub place: BlockPlace,
}

/// Where the transaction's data lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The transaction that carries the carrier item; `None` where the carrier is a transaction.
    pub transaction: Option<Transaction>,
    /// Where the bundle begins in the transaction's data.
    pub base: u64,
    /// Parts of the data.
    pub stretches: Vec<Stretch>,
    /// From the block's root to the data root.
    pub tx_path: Bytes,
    /// The last byte's place on the weave, counted from 1.
    pub end: u64,
    /// The block.
    pub block: BlockClaim,
}

/// A proof, read and not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What it is about.
    pub subject: Member,
    /// The scheduler's statement about it; none where the subject is one, or has none.
    pub assignment: Option<Member>,
    /// The assignment of the slot before.
    pub previous: Option<Member>,
    /// The assignment of the slot after.
    pub next: Option<Member>,
    /// The bundle's last item.
    pub digest: Option<DataItem>,
    /// What carries the bundle.
    pub carrier: Carried,
    /// Where that lies on the weave; without, nothing is shown to be there.
    pub place: Option<Place>,
}

/// How the place of an item is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placed {
    /// Its bytes are in the proof's chunks.
    Bytes,
    /// The node's digest, which is in the proof's chunks, states it.
    Digest,
    /// It lies elsewhere.
    Elsewhere,
}

/// A place in a process's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownSlot {
    /// Whose log.
    pub process: ProcessId,
    /// Which place.
    pub slot: u64,
    /// The scheduler's epoch.
    pub epoch: u64,
    /// ms since 1970, by the scheduler's clock.
    pub timestamp_ms: u64,
    /// The assignment.
    pub assignment: ItemId,
    /// The account that signed it.
    pub scheduler: String,
    /// Whether the process item is the item itself and names that account as its scheduler. Where not, nothing here shows
    /// that this log is the process's: anybody can sign assignments.
    pub scheduler_named: bool,
    /// The chain's value before it.
    pub chain: String,
    /// Whether the chain was followed from the assignment before.
    pub follows: bool,
    /// Whether the assignment after it chains to it.
    pub followed: bool,
    /// How its place in the bundle is shown.
    pub placed: Placed,
}

/// The bundle's closing statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownDigest {
    /// The digest item.
    pub id: ItemId,
    /// Which carrier of the node.
    pub sequence: u64,
    /// Items before it.
    pub count: u64,
    /// The node's account.
    pub signer: String,
}

/// The transaction and the block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownPlace {
    /// The transaction whose data holds the bundle.
    pub transaction: ItemId,
    /// Whose it is.
    pub wallet: Address,
    /// Bytes of its data.
    pub data_size: u64,
    /// The weave's place (from 1) of its last byte.
    pub end: u64,
    /// Claimed: height of the block.
    pub height: u64,
    /// Claimed: the block's hash.
    pub block: String,
    /// Claimed: root over its transactions, to which the transaction's data was followed.
    pub tx_root: String,
    /// Claimed: bytes of the weave before the block and with it.
    pub weave: (u64, u64),
}

/// What a verified proof shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The item.
    pub id: ItemId,
    /// Its bytes, data included.
    pub size: u64,
    /// Who signed it.
    pub signer: String,
    /// Whether the proof has its data.
    pub has_data: bool,
    /// SHA-384 of its data, base64url.
    pub data_sha384: String,
    /// How its place in the bundle is shown.
    pub placed: Placed,
    /// Its place in a log.
    pub slot: Option<ShownSlot>,
    /// The bundle's digest.
    pub digest: Option<ShownDigest>,
    /// The carrier: a transaction's or an item's id.
    pub carrier: ItemId,
    /// Whether the carrier is a bundler's item.
    pub by_bundler: bool,
    /// Where the bytes are. Without: the upload wallet signed the bundle, and nothing shows that it is on the weave.
    pub place: Option<ShownPlace>,
}

const SUBJECT: &str = "the item";
const ASSIGNMENT: &str = "the assignment";
const PREVIOUS: &str = "the assignment before";
const NEXT: &str = "the assignment after";
const DIGEST: &str = "the digest item";
const CARRIER: &str = "the carrier";
const PLACE: &str = "the place on the weave";
const STRETCH: &str = "a stretch of the data";

impl Body {
    fn verify(&self, name: &'static str) -> Result<()> {
        let verified = match self {
            Body::Whole(item) => item.verify(),
            Body::Head(head) => head.verify(),
            Body::Wrapper(item) => {
                return carrier::unwrap(item)
                    .map(drop)
                    .map_err(|error| refused(name, error));
            }
        };
        verified.map_err(|error| refused(name, error))
    }

    /// What is left of the item that it stands for.
    fn item(&self, name: &'static str) -> Result<Withheld> {
        match self {
            Body::Whole(item) => Ok(item.withhold()),
            Body::Head(head) => Ok(head.clone()),
            Body::Wrapper(item) => carrier::unwrap(item).map_err(|error| refused(name, error)),
        }
    }

    /// Id and size of what lies in the bundle.
    fn in_bundle(&self) -> (ItemId, u64) {
        match self {
            Body::Whole(item) | Body::Wrapper(item) => (item.id(), item.bytes().len() as u64),
            Body::Head(head) => (
                head.id(),
                (head.head().len() as u64).saturating_add(head.data_len()),
            ),
        }
    }

    fn known_bytes(&self) -> &Bytes {
        match self {
            Body::Whole(item) | Body::Wrapper(item) => item.bytes(),
            Body::Head(head) => head.head(),
        }
    }
}

impl Proof {
    /// Checks everything that can be checked without a network.
    ///
    /// # Errors
    /// The first part that does not hold, and why.
    pub fn verify(&self) -> Result<Shown> {
        self.subject.body.verify(SUBJECT)?;
        let digest = self.verify_digest()?;
        self.verify_carrier(digest.as_ref())?;
        let place = self.verify_place()?;
        let placed = self.placed(SUBJECT, &self.subject, digest.as_ref())?;
        let slot = self.verify_slot(digest.as_ref())?;
        for (name, member) in [(PREVIOUS, &self.previous), (NEXT, &self.next)] {
            if let Some(member) = member {
                self.placed(name, member, digest.as_ref())?;
            }
        }
        let at_slot = slot.as_ref().map_or(Placed::Elsewhere, |slot| slot.placed);
        if placed == Placed::Elsewhere && at_slot == Placed::Elsewhere {
            return refuse(
                SUBJECT,
                "nothing shows where it lies, nor where its assignment does",
            );
        }
        let item = self.subject.body.item(SUBJECT)?;
        Ok(Shown {
            id: item.id(),
            size: item.head().len() as u64 + item.data_len(),
            signer: item.owner_text(),
            has_data: matches!(self.subject.body, Body::Whole(_)),
            data_sha384: base64url(item.inner_hash()),
            placed,
            slot,
            digest: self
                .digest
                .as_ref()
                .zip(digest)
                .map(|(item, digest)| ShownDigest {
                    id: item.id(),
                    sequence: digest.sequence,
                    count: digest.count,
                    signer: item.signer_text().into(),
                }),
            carrier: self.carrier.id(),
            by_bundler: matches!(self.carrier, Carried::Item { .. }),
            place,
        })
    }

    fn verify_digest(&self) -> Result<Option<Digest>> {
        let Some(item) = &self.digest else {
            return Ok(None);
        };
        item.verify().map_err(|error| refused(DIGEST, error))?;
        Digest::read(item)
            .map(Some)
            .map_err(|error| refused(DIGEST, error))
    }

    /// The carrier is signed, and ends in the digest.
    fn verify_carrier(&self, digest: Option<&Digest>) -> Result<()> {
        let tags = match &self.carrier {
            Carried::Transaction(transaction) => {
                transaction.verify().map_err(|error| refused(CARRIER, error))?;
                if self.place.is_none() {
                    return refuse(
                        PLACE,
                        "it is missing, and only it binds the bundle to the transaction",
                    );
                }
                transaction.content.tags.clone()
            }
            Carried::Item { item, tail } => {
                item.verify().map_err(|error| refused(CARRIER, error))?;
                let ends = self.digest.as_ref().map(DataItem::bytes);
                let ends =
                    ends.ok_or_else(|| refused(CARRIER, "no digest ties a carrier item to the rest"))?;
                tail.verify(item, ends).map_err(|why| refused(CARRIER, why))?;
                item.tags().map_err(|error| refused(CARRIER, error))?
            }
        };
        let Some(digest) = digest else {
            return Ok(());
        };
        let tags = CarrierTags::read(&tags).map_err(|error| refused(CARRIER, error))?;
        match tags.sequence == digest.sequence {
            true => Ok(()),
            false => refuse(CARRIER, "its tag `Sequence` is not the digest's"),
        }
    }

    /// The transaction whose data holds the bundle, the bundle's start in it and its length.
    fn bundle_in<'a>(&'a self, place: &'a Place) -> Result<(&'a Transaction, u64, u64)> {
        match (&self.carrier, &place.transaction) {
            (Carried::Transaction(own), None) if place.base == 0 => Ok((own, 0, own.content.data_size)),
            (Carried::Item { item, .. }, Some(root)) => {
                root.verify().map_err(|error| refused(PLACE, error))?;
                Ok((root, place.base, item.data_len()))
            }
            _ => refuse(PLACE, "it is of another carrier than the proof's"),
        }
    }

    fn verify_place(&self) -> Result<Option<ShownPlace>> {
        let Some(place) = &self.place else {
            return Ok(None);
        };
        let (transaction, base, bundle_len) = self.bundle_in(place)?;
        let content = &transaction.content;
        let root = content
            .data_root
            .ok_or_else(|| refused(PLACE, "the transaction has no data"))?;
        for stretch in &place.stretches {
            stretch
                .verify(&root, content.data_size)
                .map_err(|why| refused(STRETCH, why))?;
        }
        if let Some(digest) = &self.digest {
            let end = base
                .checked_add(bundle_len)
                .filter(|end| *end <= content.data_size);
            let at = end.and_then(|end| end.checked_sub(digest.bytes().len() as u64));
            let held = at.and_then(|at| stretch::holds(&place.stretches, at, digest.bytes()));
            if held != Some(true) {
                return refuse(STRETCH, "the bundle does not end in the digest item");
            }
        }
        let block = &place.block;
        let found = block.place.verify(place.end, &place.tx_path);
        let found = found.map_err(|error| refused(PLACE, format!("its tx_path: {error}")))?;
        let spans = (found.end.checked_sub(found.start), found.end);
        if found.data_root != root || spans != (Some(content.data_size), place.end) {
            return refuse(
                PLACE,
                "the block's tree has other data at this place than the transaction's",
            );
        }
        Ok(Some(ShownPlace {
            transaction: transaction.id,
            wallet: transaction.owner.address(),
            data_size: content.data_size,
            end: place.end,
            height: block.height,
            block: base64url(&block.hash),
            tx_root: base64url(&block.place.tx_root),
            weave: (block.place.start, block.place.end),
        }))
    }

    /// How a member's place is shown; what is there must hold.
    fn placed(&self, name: &'static str, member: &Member, digest: Option<&Digest>) -> Result<Placed> {
        if let (Body::Wrapper(item), signer) = (&member.body, self.digest.as_ref().map(DataItem::owner))
            && signer != Some(item.owner())
        {
            return refuse(
                name,
                "its wrapper is not signed by the node that signed the digest",
            );
        }
        let Some(at) = &member.at else {
            return Ok(Placed::Elsewhere);
        };
        let by_digest = match (&at.path, digest) {
            (None, _) => false,
            (Some(_), None) => return refuse(name, "it has a path, and there is no digest to lead to"),
            (Some((index, path)), Some(digest)) => {
                let (id, size) = member.body.in_bundle();
                let leaf = Leaf {
                    index: *index,
                    id,
                    offset: at.offset,
                    size,
                };
                if !digest::verify(&digest.root, digest.count, &leaf, path) {
                    return refuse(name, "its path does not lead to the digest's root");
                }
                true
            }
        };
        match self.held(at.offset, member.body.known_bytes()) {
            Some(false) => refuse(name, "the data has other bytes at its place"),
            Some(true) if !matches!(member.body, Body::Head(_)) => Ok(Placed::Bytes),
            _ if by_digest => Ok(Placed::Digest),
            _ => refuse(name, "neither a path nor a stretch shows its place"),
        }
    }

    fn held(&self, offset: u64, bytes: &[u8]) -> Option<bool> {
        let place = self.place.as_ref()?;
        let at = place.base.checked_add(offset)?;
        stretch::holds(&place.stretches, at, bytes)
    }

    /// The item's assignment, its neighbours in the chain, and who signed them.
    fn verify_slot(&self, digest: Option<&Digest>) -> Result<Option<ShownSlot>> {
        let subject = self.subject.body.item(SUBJECT)?;
        let (name, member) = match &self.assignment {
            Some(member) => (ASSIGNMENT, member),
            None if is_assignment(&subject) => (SUBJECT, &self.subject),
            None if self.previous.is_some() || self.next.is_some() => {
                return refuse(ASSIGNMENT, "it is missing, and its neighbours are there");
            }
            None => return Ok(None),
        };
        let assignment = read_assignment(name, member)?;
        if self.assignment.is_some() && assignment.subject() != subject.id() {
            return refuse(ASSIGNMENT, "it is of another item");
        }
        let placed = self.placed(name, member, digest)?;
        let by_digest = [placed, self.placed(SUBJECT, &self.subject, digest)?].contains(&Placed::Digest);
        // What lies in the chunks themselves needs nobody's word: a scheduler whose key changed closes bundles with the new one.
        if let Some(signer) = self.digest.as_ref().map(DataItem::owner)
            && by_digest
            && signer != assignment.item.owner()
        {
            return refuse(
                DIGEST,
                "it is not signed by the scheduler that signed the assignment, so its word for where they lie does not count; \
                 a whole proof (--full) needs none",
            );
        }
        let follows = self.verify_previous(&assignment)?;
        let followed = self.verify_next(&assignment)?;
        Ok(Some(ShownSlot {
            process: assignment.process,
            slot: assignment.slot,
            epoch: assignment.epoch,
            timestamp_ms: assignment.tick.timestamp_ms,
            assignment: assignment.item.id(),
            scheduler_named: names(&subject, &assignment),
            scheduler: assignment.item.signer_text().into(),
            chain: base64url(&assignment.chain.0),
            follows,
            followed,
            placed,
        }))
    }

    fn verify_previous(&self, assignment: &Assignment) -> Result<bool> {
        let Some(member) = &self.previous else {
            let first = Chain::first(assignment.process);
            return match assignment.slot == 0 && assignment.chain != first {
                true => refuse(ASSIGNMENT, "its hash chain does not begin with its process"),
                false => Ok(assignment.slot == 0),
            };
        };
        let previous = read_assignment(PREVIOUS, member)?;
        succeeds(&previous, assignment).map_err(|why| refused(PREVIOUS, why))?;
        Ok(true)
    }

    fn verify_next(&self, assignment: &Assignment) -> Result<bool> {
        let Some(member) = &self.next else {
            return Ok(false);
        };
        let next = read_assignment(NEXT, member)?;
        succeeds(assignment, &next).map_err(|why| refused(NEXT, why))?;
        Ok(true)
    }
}

/// Whether an item is the assignment's process, and names who signed it.
fn names(item: &Withheld, assignment: &Assignment) -> bool {
    let tags = item.tags().unwrap_or_default();
    let named = crate::tags::first(&tags, "Scheduler").and_then(|text| text.parse::<Address>().ok());
    ProcessId::from(item.id()) == assignment.process && named == Some(assignment.item.owner_address())
}

fn is_assignment(item: &Withheld) -> bool {
    let tags = item.tags().unwrap_or_default();
    let has = |name, value| crate::tags::first(&tags, name) == Some(value);
    item.data_len() == 0 && has("Type", "Assignment") && has("Data-Protocol", "ao")
}

fn read_assignment(name: &'static str, member: &Member) -> Result<Assignment> {
    member.body.verify(name)?;
    let Body::Whole(item) = &member.body else {
        return refuse(name, "it is not whole");
    };
    Assignment::read(item.clone()).map_err(|error| refused(name, error))
}

/// Whether one assignment is the next of another, by one scheduler.
fn succeeds(before: &Assignment, after: &Assignment) -> std::result::Result<(), &'static str> {
    if before.process != after.process {
        return Err("it is of another process");
    }
    if before.item.owner() != after.item.owner() {
        return Err("another scheduler signed it");
    }
    if before.slot.checked_add(1) != Some(after.slot) {
        return Err("it is not of the neighbouring slot");
    }
    match before.chain.next(before.item.id()) == after.chain {
        true => Ok(()),
        false => Err("the hash chain does not lead from one to the other"),
    }
}

impl Carried {
    /// Of the transaction or the item.
    pub fn id(&self) -> ItemId {
        match self {
            Carried::Transaction(transaction) => transaction.id,
            Carried::Item { item, .. } => item.id(),
        }
    }

    /// The account that paid for it.
    pub fn wallet(&self) -> Address {
        match self {
            Carried::Transaction(transaction) => transaction.owner.address(),
            Carried::Item { item, .. } => signature::address(item.owner()),
        }
    }
}

impl Tail {
    /// Of some data, from the block on that holds its byte `from`.
    pub fn of(data: &[u8], from: usize) -> Tail {
        assert!(from <= data.len(), "a tail begins in the data");
        let before = from - from % Sha384::BLOCK;
        Tail {
            before: before as u64,
            state: Sha384::FIRST.after(&data[..before]),
            bytes: Bytes::copy_from_slice(&data[before..]),
        }
    }

    fn verify(&self, item: &Withheld, ends: &[u8]) -> std::result::Result<(), &'static str> {
        let whole = self.before.is_multiple_of(Sha384::BLOCK as u64);
        if !whole || self.before.checked_add(self.bytes.len() as u64) != Some(item.data_len()) {
            return Err("its data's end is not as long as it must be");
        }
        if self.before == 0 && self.state != Sha384::FIRST {
            return Err("the hash's state before its data is not the first one");
        }
        let hash: [u8; DEEP_HASH_LEN] = self.state.finish(self.before, &self.bytes);
        if hash != *item.inner_hash() {
            return Err("state and end of its data do not hash to what was signed");
        }
        match self.bytes.ends_with(ends) {
            true => Ok(()),
            false => Err("its data does not end in the digest item"),
        }
    }
}
