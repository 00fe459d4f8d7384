//! Whether a log's assignments follow each other: slot, hash chain, time, epoch, signer.
//!
//! Pure, and used by every reader of a log. Not here: fetching, and the assignments' own signatures.
//! The invariant: what was accepted is one gapless chain; an epoch or a signer changes only by an
//! item of the scheduler that says so. Source: spec/assignment.md.

use bytes::Bytes;

use crate::assignment::{Assignment, Chain};
use crate::contract::Tick;
use crate::ids::{Address, ItemId, ProcessId};
use crate::item::DataItem;
use crate::resume::{self, Resume, Stand};
use crate::signature;
use crate::succession::{self, Succession};
use crate::tags;

/// Where an assignment does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// It is of another process.
    #[error("an assignment of another process, {0}")]
    Process(ProcessId),
    /// It has another slot than the one that comes next.
    #[error("slot {0} where slot {1} comes next")]
    Slot(u64, u64),
    /// Its chain value is not the one that follows.
    #[error("the hash chain does not follow")]
    Chain,
    /// It is not later than the one before.
    #[error("it is not later than the assignment before it")]
    Time,
    /// Its epoch is lower than one before.
    #[error("epoch {0} after epoch {1}: the scheduler equivocates")]
    Epoch(u64, u64),
    /// Its epoch is higher, and no resume item of the scheduler says so.
    #[error("epoch {epoch} without a resume item of its scheduler that fits: {why}")]
    Resume {
        /// The epoch it claims.
        epoch: u64,
        /// What is missing.
        why: String,
    },
    /// Another key signed it, and no succession leads there.
    #[error("it is signed by {found}, the one before by {before}, and no succession leads there: {why}")]
    Signer {
        /// Who signed it.
        found: Address,
        /// Who signed the one before.
        before: Address,
        /// What is missing.
        why: String,
    },
}

/// Where a log stands, as far as it was read.
#[derive(Debug, Clone)]
pub struct Continuity {
    process: ProcessId,
    next_slot: u64,
    chain: Chain,
    tick: Tick,
    epoch: u64,
    last: Option<Last>,
    /// Whether two entries may have one time.
    is_lenient: bool,
}

#[derive(Debug, Clone)]
struct Last {
    assignment: ItemId,
    owner: Bytes,
}

impl Continuity {
    /// Before slot 0.
    pub fn start(process: ProcessId) -> Continuity {
        Continuity {
            process,
            next_slot: 0,
            chain: Chain::first(process),
            tick: Tick::default(),
            epoch: 0,
            last: None,
            is_lenient: false,
        }
    }

    /// As it is read of a scheduler of another kind: some give two messages of one millisecond one time.
    pub fn lenient(self) -> Continuity {
        Continuity {
            is_lenient: true,
            ..self
        }
    }

    /// After an assignment that was accepted once.
    pub fn after(last: &Assignment) -> Continuity {
        Continuity {
            process: last.process,
            next_slot: last.slot + 1,
            chain: last.chain.next(last.item.id()),
            tick: last.tick,
            epoch: last.epoch,
            last: Some(Last {
                assignment: last.item.id(),
                owner: last.item.bytes().slice_ref(last.item.owner()),
            }),
            is_lenient: false,
        }
    }

    /// The slot that comes next.
    pub fn next_slot(&self) -> u64 {
        self.next_slot
    }

    /// The last assignment accepted.
    pub fn last(&self) -> Option<ItemId> {
        self.last.as_ref().map(|last| last.assignment)
    }

    /// The items that show why an assignment follows: none, but where epoch or signer change.
    pub fn needs(&self, next: &Assignment) -> Vec<ItemId> {
        if next.epoch == self.epoch && !self.is_other_signer(next) {
            return Vec::new();
        }
        let named = [resume::TAG, succession::TAG];
        let named = named.iter().flat_map(|name| tags::all(next.item.tags(), name));
        named
            .filter_map(|id| id.parse().ok())
            .take(1 + succession::STEPS_MAX)
            .collect()
    }

    /// Takes the next assignment; `evidence` holds the items it [`needs`](Continuity::needs).
    ///
    /// # Errors
    /// Says what does not follow; nothing is taken then.
    pub fn accept(&mut self, next: &Assignment, evidence: &[DataItem]) -> Result<(), Break> {
        if next.process != self.process {
            return Err(Break::Process(next.process));
        }
        if next.slot != self.next_slot {
            return Err(Break::Slot(next.slot, self.next_slot));
        }
        if next.chain != self.chain {
            return Err(Break::Chain);
        }
        let is_same_time = self.is_lenient && next.tick.timestamp_ms == self.tick.timestamp_ms;
        let is_later = (is_same_time || next.tick.timestamp_ms > self.tick.timestamp_ms)
            && next.tick.block_height >= self.tick.block_height;
        if !is_later && self.next_slot > 0 {
            return Err(Break::Time);
        }
        if self.is_other_signer(next) {
            self.check_succession(next, evidence)?;
        }
        if next.epoch < self.epoch {
            return Err(Break::Epoch(next.epoch, self.epoch));
        }
        if next.epoch > self.epoch {
            self.check_resume(next, evidence).map_err(|why| Break::Resume {
                epoch: next.epoch,
                why,
            })?;
        }
        *self = Continuity {
            is_lenient: self.is_lenient,
            ..Continuity::after(next)
        };
        Ok(())
    }

    fn is_other_signer(&self, next: &Assignment) -> bool {
        self.last
            .as_ref()
            .is_some_and(|last| last.owner != next.item.owner())
    }

    fn check_succession(&self, next: &Assignment, evidence: &[DataItem]) -> Result<(), Break> {
        let last = self.last.as_ref().expect("there is another signer before");
        let (before, found) = (signature::address(&last.owner), next.item.owner_address());
        succeeds(next, before, evidence).map_err(|why| Break::Signer { found, before, why })
    }

    fn check_resume(&self, next: &Assignment, evidence: &[DataItem]) -> Result<(), String> {
        let item = named(next.item.tag(resume::TAG).unwrap_or(""), evidence)?;
        item.verify().map_err(|error| error.to_string())?;
        if item.owner() != next.item.owner() {
            return Err("it is signed by another key than the assignment".into());
        }
        let resume = Resume::read(item.clone()).map_err(|error| error.to_string())?;
        if resume.epoch != next.epoch {
            return Err(format!("it is of epoch {}", resume.epoch));
        }
        let here = self.last.as_ref().map(|last| Stand {
            process: self.process,
            slot: self.next_slot - 1,
            assignment: last.assignment,
        });
        match resume.stand(self.process) == here {
            true => Ok(()),
            false => Err("it says that the log stood elsewhere".into()),
        }
    }
}

/// Whether the successions that an assignment names lead from one key to the key that signed it.
/// The same is asked of slot 0, from the scheduler that the process names.
///
/// # Errors
/// What is missing.
pub fn succeeds(next: &Assignment, from: Address, evidence: &[DataItem]) -> Result<(), String> {
    let mut at = from;
    for id in tags::all(next.item.tags(), succession::TAG).take(succession::STEPS_MAX) {
        let item = named(id, evidence)?;
        item.verify().map_err(|error| error.to_string())?;
        let step = Succession::read(item.clone()).map_err(|error| error.to_string())?;
        if step.from != at {
            return Err(format!("{id} is signed by {}", step.from));
        }
        at = step.to;
    }
    match at == next.item.owner_address() {
        true => Ok(()),
        false => Err("the assignment names none that ends at its signer".into()),
    }
}

fn named<'a>(id: &str, evidence: &'a [DataItem]) -> Result<&'a DataItem, String> {
    if id.is_empty() {
        return Err("the assignment names none".into());
    }
    let id: ItemId = id.parse().map_err(|_| format!("`{id}` is no id"))?;
    let found = evidence.iter().find(|item| item.id() == id);
    found.ok_or_else(|| format!("{id} was not found"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draft;
    use crate::keys::Signer;
    use crate::tags::{Tag, Tags};

    const PROCESS: ProcessId = ProcessId([9; 32]);

    fn next(before: Option<&Assignment>, epoch: u64, notes: Tags, signer: &Signer) -> Assignment {
        let slot = before.map_or(0, |before| before.slot + 1);
        let chain = before.map_or(Chain::first(PROCESS), |b| b.chain.next(b.item.id()));
        let draft = Draft {
            process: PROCESS,
            slot,
            chain,
            tick: Tick {
                timestamp_ms: slot + 1,
                block_height: 1,
            },
            message: (slot > 0).then_some(ItemId([slot as u8; 32])),
            exclude: Vec::new(),
            notes,
            anchor: [slot as u8; 32],
        };
        draft.sign_in(epoch, signer).unwrap()
    }

    fn tag(name: &'static str, item: &DataItem) -> Tag {
        Tag::new(name, item.id().to_string())
    }

    fn stand(last: &Assignment) -> Stand {
        Stand {
            process: PROCESS,
            slot: last.slot,
            assignment: last.item.id(),
        }
    }

    #[test]
    fn slots_chain_and_time_must_follow() {
        let key = Signer::ed25519(&[1; 32]);
        let first = next(None, 0, vec![], &key);
        let second = next(Some(&first), 0, vec![], &key);
        let mut log = Continuity::start(PROCESS);
        assert_eq!(log.accept(&second, &[]), Err(Break::Slot(1, 0)));
        log.accept(&first, &[]).unwrap();
        assert_eq!(log.accept(&first, &[]), Err(Break::Slot(0, 1)));
        let forged = Assignment {
            chain: first.chain,
            ..second.clone()
        };
        assert_eq!(log.accept(&forged, &[]), Err(Break::Chain));
        let early = Assignment {
            tick: first.tick,
            ..second.clone()
        };
        assert_eq!(log.accept(&early, &[]), Err(Break::Time));
        let mut foreign = log.clone().lenient();
        foreign.accept(&early, &[]).unwrap();
        let third = next(Some(&early), 0, vec![], &key);
        let earlier = Assignment {
            tick: Tick::default(),
            ..third.clone()
        };
        assert_eq!(
            foreign.accept(&earlier, &[]),
            Err(Break::Time),
            "nothing goes back"
        );
        foreign.accept(&third, &[]).unwrap();
        assert!(log.needs(&second).is_empty());
        log.accept(&second, &[]).unwrap();
        assert_eq!((log.next_slot(), log.last()), (2, Some(second.item.id())));
    }

    #[test]
    fn an_epoch_rises_only_by_the_schedulers_word_and_never_falls() {
        let key = Signer::ed25519(&[1; 32]);
        let first = next(None, 0, vec![], &key);
        let resume = Resume::sign(1, &[stand(&first)], &key).unwrap().item;
        let second = next(Some(&first), 1, vec![tag(resume::TAG, &resume)], &key);
        let mut log = Continuity::after(&first);
        assert_eq!(log.needs(&second), [resume.id()]);
        let refused = |log: &mut Continuity, next: &Assignment, evidence: &[DataItem]| {
            matches!(log.accept(next, evidence), Err(Break::Resume { .. }))
        };
        assert!(refused(&mut log, &second, &[]), "nothing shows it");
        let silent = next(Some(&first), 1, vec![], &key);
        assert!(
            refused(&mut log, &silent, std::slice::from_ref(&resume)),
            "nothing is named"
        );
        let stranger = Resume::sign(1, &[stand(&first)], &Signer::ed25519(&[7; 32]))
            .unwrap()
            .item;
        let named = next(Some(&first), 1, vec![tag(resume::TAG, &stranger)], &key);
        assert!(refused(&mut log, &named, &[stranger]), "a stranger's");
        let behind = Stand {
            slot: 5,
            ..stand(&first)
        };
        let elsewhere = Resume::sign(1, &[behind], &key).unwrap().item;
        let named = next(Some(&first), 1, vec![tag(resume::TAG, &elsewhere)], &key);
        assert!(refused(&mut log, &named, &[elsewhere]), "it names other slots");
        let other_epoch = next(Some(&first), 2, vec![tag(resume::TAG, &resume)], &key);
        assert!(refused(&mut log, &other_epoch, std::slice::from_ref(&resume)));
        log.accept(&second, &[resume]).unwrap();
        let old = next(Some(&second), 0, vec![], &key);
        assert_eq!(log.accept(&old, &[]), Err(Break::Epoch(0, 1)));
        log.accept(&next(Some(&second), 1, vec![], &key), &[]).unwrap();
    }

    #[test]
    fn a_signer_changes_only_along_successions() {
        let keys = [1u8, 2, 3].map(|n| Signer::ed25519(&[n; 32]));
        let steps = [0, 1].map(|n| Succession::sign(keys[n + 1].address(), &keys[n]).unwrap().item);
        let first = next(None, 0, vec![], &keys[0]);
        let along = steps.iter().map(|step| tag(succession::TAG, step)).collect();
        let second = next(Some(&first), 0, along, &keys[2]);
        let mut log = Continuity::after(&first);
        assert_eq!(log.needs(&second), steps.each_ref().map(DataItem::id));
        let refused = |log: &mut Continuity, next: &Assignment| {
            matches!(log.accept(next, &steps), Err(Break::Signer { .. }))
        };
        assert!(refused(&mut log, &next(Some(&first), 0, vec![], &keys[2])));
        let half = vec![tag(succession::TAG, &steps[1])];
        assert!(refused(&mut log, &next(Some(&first), 0, half, &keys[2])));
        log.accept(&second, &steps).unwrap();
        let back = next(Some(&second), 0, vec![], &keys[0]);
        assert!(refused(&mut log, &back), "the old key has no say any more");
        assert!(succeeds(&second, keys[0].address(), &steps).is_ok());
        assert!(succeeds(&second, keys[1].address(), &steps).is_err());
    }
}
