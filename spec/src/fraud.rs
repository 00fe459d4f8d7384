//! Fraud: two assignments of one scheduler that contradict each other, and the file that shows it to anybody.
//!
//! Pure. Not here: finding them. The invariant: a file that verifies holds two statements signed by one key of which at
//! most one belongs into an honest log. Source: spec/fraud.md.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use crate::assignment::Assignment;
use crate::chunks::sha256;
use crate::ids::{ItemId, ProcessId};
use crate::item::DataItem;

/// First bytes of a fraud file.
pub const MAGIC: &[u8; 8] = b"WEFTFRD\n";
/// The version written, and the newest read.
pub const VERSION: u32 = 1;
/// Longest file that is read: two assignments and what is around them.
pub const FILE_LEN_MAX: usize = 64 << 10;
/// Bytes of the checksum.
const SUM_LEN: usize = 32;

/// How two assignments of one process and one scheduler contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Contradiction {
    /// One slot of one epoch was given twice.
    Slot {
        /// Which.
        slot: u64,
        /// The scheduler's epoch.
        epoch: u64,
        /// Whether both name the same message: then only time, notes or chain differ.
        one_message: bool,
    },
    /// Neighbouring slots of one epoch whose hash chain does not lead from one to the other.
    Chain {
        /// The later one.
        slot: u64,
    },
    /// One message has two slots.
    Message {
        /// Which.
        message: ItemId,
        /// Its slots, the lower first.
        slots: (u64, u64),
        /// Epochs of these slots.
        epochs: (u64, u64),
    },
    /// A later slot in an earlier epoch, or one slot in two: an epoch begins above all slots of those before it.
    Epoch {
        /// Slots, the lower first.
        slots: (u64, u64),
        /// Epochs of these slots.
        epochs: (u64, u64),
    },
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Contradiction::Slot {
                slot,
                epoch,
                one_message,
            } => {
                let what = if *one_message {
                    "with one message"
                } else {
                    "with two messages"
                };
                write!(f, "slot {slot} of epoch {epoch} was given twice, {what}")
            }
            Contradiction::Chain { slot } => {
                write!(
                    f,
                    "the hash chain is broken between slots {} and {slot}",
                    slot - 1
                )
            }
            Contradiction::Message { message, slots, .. } => {
                write!(f, "message {message} has slots {} and {}", slots.0, slots.1)
            }
            Contradiction::Epoch { slots, epochs } => write!(
                f,
                "slot {} is of epoch {} and slot {} of epoch {}",
                slots.0, epochs.0, slots.1, epochs.1
            ),
        }
    }
}

impl Contradiction {
    /// Whether it is none where a resume item of the scheduler tells that the later epoch begins below: a scheduler that
    /// lost its newest slots, and says so, gives them again.
    pub fn may_be_told(&self) -> bool {
        match self {
            Contradiction::Slot { .. } | Contradiction::Chain { .. } => false,
            Contradiction::Message { epochs, .. } => epochs.0 != epochs.1,
            Contradiction::Epoch { .. } => true,
        }
    }
}

/// Whether two assignments contradict each other. Their signatures are the caller's to check.
pub fn contradiction(one: &Assignment, other: &Assignment) -> Option<Contradiction> {
    let alike = one.process == other.process && one.item.owner() == other.item.owner();
    if !alike || one.item.id() == other.item.id() {
        return None;
    }
    let (low, high) = if one.slot <= other.slot {
        (one, other)
    } else {
        (other, one)
    };
    let slots = (low.slot, high.slot);
    if low.epoch == high.epoch && low.slot == high.slot {
        return Some(Contradiction::Slot {
            slot: low.slot,
            epoch: low.epoch,
            one_message: low.subject() == high.subject(),
        });
    }
    if low.epoch > high.epoch || (low.slot == high.slot && low.epoch != high.epoch) {
        return Some(Contradiction::Epoch {
            slots,
            epochs: (low.epoch, high.epoch),
        });
    }
    if low.subject() == high.subject() {
        return Some(Contradiction::Message {
            message: low.subject(),
            slots,
            epochs: (low.epoch, high.epoch),
        });
    }
    let neighbours = low.epoch == high.epoch && low.slot + 1 == high.slot;
    (neighbours && low.chain.next(low.item.id()) != high.chain)
        .then_some(Contradiction::Chain { slot: high.slot })
}

/// Two statements of a scheduler that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fraud {
    /// Lower slot first, then lower epoch, then lower id: each pair has one order.
    statements: [Assignment; 2],
    found: Contradiction,
}

/// What a fraud file shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Whose log.
    pub process: ProcessId,
    /// The account that signed both.
    pub scheduler: String,
    /// The assignments.
    pub statements: [ItemId; 2],
    /// What each gave its slot to.
    pub subjects: [ItemId; 2],
    /// How they contradict each other.
    pub contradiction: Contradiction,
}

/// Why a fraud file shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FraudError {
    /// Not the form.
    #[error("the fraud file: {0}")]
    Form(String),
    /// A statement is none.
    #[error("statement {which} of the fraud file: {why}")]
    Statement {
        /// Counted from 1.
        which: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Both may stand in one honest log.
    #[error("the two statements do not contradict each other")]
    Agree,
}

fn form(why: impl Into<String>) -> FraudError {
    FraudError::Form(why.into())
}

impl Fraud {
    /// Of two assignments.
    ///
    /// # Errors
    /// A signature that does not verify, or no contradiction.
    pub fn of(one: Assignment, other: Assignment) -> Result<Fraud, FraudError> {
        let mut statements = [one, other];
        statements.sort_by_key(|one| (one.slot, one.epoch, one.item.id()));
        for (at, statement) in statements.iter().enumerate() {
            let verified = statement.item.verify();
            verified.map_err(|error| FraudError::Statement {
                which: at + 1,
                why: error.to_string(),
            })?;
        }
        let found = contradiction(&statements[0], &statements[1]).ok_or(FraudError::Agree)?;
        Ok(Fraud { statements, found })
    }

    /// How they contradict each other.
    pub fn contradiction(&self) -> &Contradiction {
        &self.found
    }

    /// The two assignments.
    pub fn statements(&self) -> &[Assignment; 2] {
        &self.statements
    }

    /// What it shows.
    pub fn shown(&self) -> Shown {
        let [one, other] = &self.statements;
        Shown {
            process: one.process,
            scheduler: one.item.signer_text().into(),
            statements: [one.item.id(), other.item.id()],
            subjects: [one.subject(), other.subject()],
            contradiction: self.found.clone(),
        }
    }

    /// The file's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::from(&MAGIC[..]);
        out.put_u32_le(VERSION);
        for statement in &self.statements {
            let bytes = statement.item.bytes();
            out.put_u32_le(u32::try_from(bytes.len()).expect("assignments are short"));
            out.put_slice(bytes);
        }
        let sum = sha256(&[&out]);
        out.put_slice(&sum);
        out.freeze()
    }

    /// Reads and verifies a file.
    ///
    /// # Errors
    /// Says what does not hold, and where.
    pub fn read_verified(bytes: &Bytes) -> Result<Fraud, FraudError> {
        if bytes.len() > FILE_LEN_MAX {
            return Err(form("longer than 64 KiB"));
        }
        let mut rest = bytes.clone();
        if take(&mut rest, MAGIC.len())?[..] != MAGIC[..] {
            return Err(form("it does not begin as one does"));
        }
        let version = number(&mut rest)?;
        if version != VERSION {
            return Err(form(format!(
                "it is of version {version}, this program knows {VERSION}; use a newer program"
            )));
        }
        let one = statement(&mut rest, 1)?;
        let other = statement(&mut rest, 2)?;
        if rest.len() != SUM_LEN {
            return Err(form("bytes follow its statements, or its checksum is cut off"));
        }
        let fraud = Fraud::of(one, other)?;
        // One order of the two, and one checksum: each pair has one file.
        match fraud.encode() == bytes {
            true => Ok(fraud),
            false => Err(form(
                "the statements are in the other order, or its checksum is not that of the file",
            )),
        }
    }
}

fn take(rest: &mut Bytes, len: usize) -> Result<Bytes, FraudError> {
    match len <= rest.len() {
        true => Ok(rest.split_to(len)),
        false => Err(form("it is cut off")),
    }
}

fn number(rest: &mut Bytes) -> Result<u32, FraudError> {
    let bytes = take(rest, 4)?;
    Ok(u32::from_le_bytes(*bytes.first_chunk().expect("four bytes")))
}

fn statement(rest: &mut Bytes, which: usize) -> Result<Assignment, FraudError> {
    let len = number(rest)? as usize;
    let bytes = take(rest, len)?;
    let wrong = |why: String| FraudError::Statement { which, why };
    let item = DataItem::parse(bytes).map_err(|error| wrong(error.to_string()))?;
    Assignment::read(item).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::{Chain, Draft};
    use crate::contract::Tick;
    use crate::item::ItemParts;
    use crate::keys::Signer;
    use crate::tags::Tag;

    const PROCESS: ProcessId = ProcessId([8; 32]);

    fn draft(slot: u64, message: u8, chain: Chain) -> Draft {
        Draft {
            process: PROCESS,
            slot,
            chain,
            tick: Tick {
                timestamp_ms: 1_000 + slot,
                block_height: 3,
            },
            message: Some(ItemId([message; 32])),
            exclude: Vec::new(),
            notes: Vec::new(),
            anchor: [slot as u8; 32],
        }
    }

    fn signed(draft: Draft) -> Assignment {
        draft.sign(&Signer::ed25519(&[2; 32])).expect("a key that signs")
    }

    /// The same statement in another epoch.
    fn in_epoch(assignment: &Assignment, epoch: u64) -> Assignment {
        let epoch_tag = |tag: &Tag| match &tag.name[..] {
            b"Epoch" => Tag::new("Epoch", epoch.to_string()),
            _ => tag.clone(),
        };
        let parts = ItemParts {
            tags: assignment.item.tags().iter().map(epoch_tag).collect(),
            anchor: assignment.item.anchor().copied(),
            ..ItemParts::default()
        };
        let item = DataItem::sign(&parts, &Signer::ed25519(&[2; 32])).expect("a key that signs");
        Assignment::read(item).expect("an assignment")
    }

    fn found(one: &Assignment, other: &Assignment) -> Contradiction {
        let fraud = Fraud::of(one.clone(), other.clone()).expect("a contradiction");
        assert_eq!(
            Fraud::of(other.clone(), one.clone()).as_ref(),
            Ok(&fraud),
            "either order"
        );
        assert_eq!(Fraud::read_verified(&fraud.encode()).as_ref(), Ok(&fraud));
        fraud.contradiction().clone()
    }

    #[test]
    fn each_kind_of_contradiction_is_found_and_read_back() {
        let chain = Chain::first(PROCESS);
        let first = signed(draft(4, 1, chain));
        let slot = |one_message| Contradiction::Slot {
            slot: 4,
            epoch: 0,
            one_message,
        };
        assert_eq!(found(&first, &signed(draft(4, 2, chain))), slot(false));
        assert_eq!(found(&first, &signed(draft(4, 1, Chain([7; 32])))), slot(true));
        let broken = signed(draft(5, 2, Chain([7; 32])));
        assert_eq!(found(&first, &broken), Contradiction::Chain { slot: 5 });
        let again = signed(draft(9, 1, chain));
        let message = ItemId([1; 32]);
        let twice = |epochs| Contradiction::Message {
            message,
            slots: (4, 9),
            epochs,
        };
        assert_eq!(found(&again, &first), twice((0, 0)));
        let resumed = found(&in_epoch(&again, 1), &first);
        assert_eq!(resumed, twice((0, 1)));
        assert!(resumed.may_be_told() && !twice((0, 0)).may_be_told());
        let back = in_epoch(&first, 3);
        let later = in_epoch(&signed(draft(6, 6, chain)), 2);
        let epoch = |slots, epochs| Contradiction::Epoch { slots, epochs };
        assert_eq!(found(&back, &later), epoch((4, 6), (3, 2)));
        assert_eq!(found(&first, &back), epoch((4, 4), (0, 3)));
    }

    #[test]
    fn an_honest_log_another_process_and_another_scheduler_contradict_nothing() {
        let mut chain = Chain::first(PROCESS);
        let mut log = Vec::new();
        for slot in 0..5 {
            let assignment = signed(draft(slot, slot as u8, chain));
            chain = chain.next(assignment.item.id());
            log.push(assignment);
        }
        log.push(in_epoch(&signed(draft(5, 5, chain)), 1));
        for one in &log {
            assert!(log.iter().all(|other| contradiction(one, other).is_none()));
        }
        let other = Draft {
            process: ProcessId([9; 32]),
            ..draft(2, 9, chain)
        };
        assert_eq!(Fraud::of(log[2].clone(), signed(other)), Err(FraudError::Agree));
        let stranger = draft(2, 9, chain)
            .sign(&Signer::ed25519(&[3; 32]))
            .expect("a key that signs");
        assert_eq!(Fraud::of(log[2].clone(), stranger), Err(FraudError::Agree));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let chain = Chain::first(PROCESS);
        let fraud = Fraud::of(signed(draft(4, 1, chain)), signed(draft(4, 2, chain)));
        let file = fraud.expect("a contradiction").encode();
        for bit in 0..file.len() * 8 {
            let mut bad = file.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Fraud::read_verified(&bad.into()).is_err(), "bit {bit}");
        }
        assert!((0..file.len()).all(|end| Fraud::read_verified(&file.slice(..end)).is_err()));
    }

    #[test]
    fn the_vector_of_version_1_is_read_and_written_as_it_is() {
        let chain = Chain::first(PROCESS);
        let fraud = Fraud::of(signed(draft(4, 1, chain)), signed(draft(4, 2, chain)));
        let made = fraud.expect("a contradiction").encode();
        let file = Bytes::from_static(include_bytes!("../vectors/fraud_v1.bin"));
        assert!(Fraud::read_verified(&file).is_ok());
        assert_eq!(made, file, "keys, times and layout are fixed");
    }
}
