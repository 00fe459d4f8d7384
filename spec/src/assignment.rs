//! Assignments: the scheduler's signed statement that a message has a place in a process's log.
//!
//! An assignment is itself a data item, built here and read here. The hash chain covers each one:
//! `chain(0) = SHA-256(process)`, `chain(n) = SHA-256(previous assignment id + previous chain)`.
//! Source: the legacy scheduler's wire; the vectors in `spec/vectors/chain.json` pin the chain.

use aws_lc_rs::digest::{SHA256, digest};

use crate::contract::{Field, Tick};
use crate::ids::{ItemId, ModuleId, ProcessId, base64url, from_base64url};
use crate::item::{DataItem, ItemError, ItemParts};
use crate::keys::Signer;
use crate::tags::{self, Tag, Tags};

/// One value of a process's hash chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The value before any message: the hash of the process id.
    pub fn first(process: ProcessId) -> Chain {
        Chain::hash(process.bytes())
    }

    /// The value after an assignment: that assignment's id first, then its own chain value.
    pub fn next(self, assignment: ItemId) -> Chain {
        Chain::hash(&[*assignment.bytes(), self.0].concat())
    }

    fn hash(bytes: &[u8]) -> Chain {
        let mut value = [0; 32];
        value.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Chain(value)
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&base64url(&self.0))
    }
}

/// What an assignment says, before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Whose log.
    pub process: ProcessId,
    /// Which place in it; on the wire `Nonce`.
    pub slot: u64,
    /// Covers every assignment before this one.
    pub chain: Chain,
    /// When.
    pub tick: Tick,
    /// What is assigned; absent for the process item's own assignment at slot 0.
    pub message: Option<ItemId>,
    /// Fields of the message that the process must not see.
    pub exclude: Vec<Field>,
    /// Further tags, such as the engine epoch and other decisions taken at spawn.
    pub notes: Tags,
    /// Makes the item differ from any other; 32 bytes.
    pub anchor: [u8; 32],
}

/// A signed assignment, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The signed item.
    pub item: DataItem,
    /// Whose log.
    pub process: ProcessId,
    /// Which place in it.
    pub slot: u64,
    /// 0 at first; a scheduler that goes on after it may have lost slots begins the next one.
    pub epoch: u64,
    /// Covers every assignment before this one.
    pub chain: Chain,
    /// When.
    pub tick: Tick,
    /// What is assigned; `None` for the process item itself.
    pub message: Option<ItemId>,
    /// Fields of the message that the process must not see.
    pub exclude: Vec<Field>,
}

/// Why an item is no assignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// A tag is missing or its value has not the form it must have.
    #[error("the assignment's tag `{0}` is missing or malformed")]
    Tag(&'static str),
    /// It could not be signed or read back.
    #[error(transparent)]
    Item(#[from] ItemError),
}

/// Slot 0's tag for the scheduler that a process names, where another one keeps its log.
pub const ADOPTED_FROM: &str = "Adopted-From";
/// Slot 0's tag for the module that runs a process in place of the one it names.
pub const MODULE_USED: &str = "Module-Used";

/// Digits of the padded block height.
const HEIGHT_DIGITS: usize = 12;

/// A block height as the wire writes it: 12 digits, padded with zeros.
pub fn padded_height(height: u64) -> String {
    format!("{height:0>HEIGHT_DIGITS$}")
}

impl Draft {
    /// The tags in the wire's order.
    fn tags(&self, epoch: u64) -> Tags {
        let mut tags = vec![
            Tag::new("Process", self.process.to_string()),
            Tag::new("Epoch", epoch.to_string()),
            Tag::new("Nonce", self.slot.to_string()),
            Tag::new("Hash-Chain", self.chain.to_string()),
            Tag::new("Block-Height", padded_height(self.tick.block_height)),
            Tag::new("Timestamp", self.tick.timestamp_ms.to_string()),
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Type", "Assignment"),
            Tag::new("Variant", "ao.TN.1"),
        ];
        tags.extend(self.message.map(|id| Tag::new("Message", id.to_string())));
        tags.extend(self.exclude.iter().map(|field| Tag::new("Exclude", field.name())));
        tags.extend_from_slice(&self.notes);
        tags
    }

    /// Signs the assignment under the first epoch.
    ///
    /// # Errors
    /// Tags that cannot be written; the key's failure.
    pub fn sign(self, signer: &Signer) -> Result<Assignment, AssignmentError> {
        self.sign_in(0, signer)
    }

    /// Signs the assignment under an epoch.
    ///
    /// # Errors
    /// As for [`Draft::sign`].
    pub fn sign_in(self, epoch: u64, signer: &Signer) -> Result<Assignment, AssignmentError> {
        let anchor = Some(self.anchor);
        let parts = ItemParts {
            anchor,
            tags: self.tags(epoch),
            ..ItemParts::default()
        };
        let item = DataItem::sign(&parts, signer)?;
        let Draft {
            process,
            slot,
            chain,
            tick,
            message,
            exclude,
            ..
        } = self;
        Ok(Assignment {
            item,
            process,
            slot,
            epoch,
            chain,
            tick,
            message,
            exclude,
        })
    }
}

impl Assignment {
    /// Whether an item claims to be an assignment.
    pub fn is_one(item: &DataItem) -> bool {
        item.tag("Type") == Some("Assignment") && item.tag("Data-Protocol") == Some("ao")
    }

    /// Reads an assignment's tags. The signature is the caller's to check.
    ///
    /// # Errors
    /// Names the tag that is missing or malformed. A message is none, whatever else its tags say:
    /// a node may sign both with one key, and processes choose most tags of what it pushes.
    pub fn read(item: DataItem) -> Result<Assignment, AssignmentError> {
        if !Assignment::is_one(&item) {
            return Err(AssignmentError::Tag("Type"));
        }
        let id = |name| item.tag(name).map(str::parse::<ItemId>);
        let process = id("Process")
            .and_then(Result::ok)
            .ok_or(AssignmentError::Tag("Process"))?;
        let message = id("Message")
            .transpose()
            .map_err(|_| AssignmentError::Tag("Message"))?;
        let chain = item.tag("Hash-Chain").and_then(from_base64url);
        let chain = chain
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(AssignmentError::Tag("Hash-Chain"))?;
        let exclude = tags::all(item.tags(), "Exclude")
            .map(Field::parse)
            .collect::<Option<_>>();
        let tick = Tick {
            timestamp_ms: number(&item, "Timestamp")?,
            block_height: number(&item, "Block-Height")?,
        };
        Ok(Assignment {
            process: process.into(),
            slot: number(&item, "Nonce")?,
            epoch: number(&item, "Epoch")?,
            chain: Chain(chain),
            tick,
            message,
            exclude: exclude.ok_or(AssignmentError::Tag("Exclude"))?,
            item,
        })
    }

    /// The scheduler that the process names, if another one keeps its log. Slot 0 says so.
    pub fn adopted_from(&self) -> Option<&str> {
        self.item.tag(ADOPTED_FROM)
    }

    /// The module that runs the process in place of the one it names. Decided at spawn; slot 0 says so.
    ///
    /// # Errors
    /// The tag is no id: then nothing may be evaluated.
    pub fn module_used(&self) -> Result<Option<ModuleId>, AssignmentError> {
        let used = self.item.tag(MODULE_USED).map(str::parse).transpose();
        used.map_err(|_| AssignmentError::Tag(MODULE_USED))
    }

    /// The id of what has its place here: the message, or the process item at slot 0.
    pub fn subject(&self) -> ItemId {
        self.message.unwrap_or(self.process.into())
    }
}

fn number(item: &DataItem, name: &'static str) -> Result<u64, AssignmentError> {
    let text = item
        .tag(name)
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .ok_or(AssignmentError::Tag(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_reads_back_as_it_was_signed() {
        let signer = Signer::ed25519(&[1; 32]);
        let process = ProcessId([2; 32]);
        let draft = Draft {
            process,
            slot: 7,
            chain: Chain::first(process),
            tick: Tick {
                timestamp_ms: 1_700_000_000_000,
                block_height: 1_393_008,
            },
            message: Some(ItemId([3; 32])),
            exclude: vec![Field::Data, Field::Tags],
            notes: vec![Tag::new("Engine-Epoch", "x")],
            anchor: [4; 32],
        };
        let made = draft.sign(&signer).unwrap();
        let read = Assignment::read(DataItem::parse_verified(made.item.bytes().clone()).unwrap()).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.item.tag("Block-Height"), Some("000001393008"));
        assert_eq!(read.item.tag("Engine-Epoch"), Some("x"));
    }
}
