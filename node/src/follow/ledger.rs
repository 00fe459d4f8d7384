//! The order of a followed log: which assignment has which slot, and what contradicts what.
//!
//! Pure. Not here: fetching, storing, evaluating; what follows what (`spec::continuity`). The invariant: slots are taken
//! in order, each follows the one before, and no message is taken twice; what would break this changes nothing.

use std::collections::{BTreeMap, HashMap};

use spec::assignment::Chain;
use spec::continuity::{self, Break, Continuity};
use spec::contract::Tick;
use spec::resume::Resume;
use spec::succession::{self, Succession};
use spec::{Address, Assignment, DataItem, ItemId, ProcessId, tags};

/// Most assignments that wait for an earlier one.
pub const WAITING_MAX: usize = 100_000;

/// The slot taken last.
#[derive(Debug, Clone)]
struct Last {
    assignment: ItemId,
    chain: Chain,
    epoch: u64,
    tick: Tick,
    signer: Address,
}

/// The log so far.
pub struct Ledger {
    process: ProcessId,
    /// The scheduler's key, and those that came after it.
    signers: Vec<Address>,
    taken: Vec<ItemId>,
    subjects: HashMap<ItemId, u64>,
    waiting: BTreeMap<u64, Assignment>,
    at: Continuity,
    last: Option<Last>,
    /// Epochs, and the last slot before each, by resume items.
    told: Vec<(u64, u64)>,
}

/// Whether a resume item says that this slot of this epoch was lost.
fn is_lost(told: &[(u64, u64)], epoch: u64, slot: u64) -> bool {
    told.iter().any(|(later, last)| epoch < *later && slot > *last)
}

/// What becomes of an assignment.
#[derive(Debug)]
pub enum Offered {
    /// It is known, or not of this log.
    Known,
    /// It waits for its turn.
    Waits,
    /// Too many wait: a slot before them is missing.
    Full,
    /// It contradicts the assignment with this id, which was taken.
    AgainstTaken(ItemId),
    /// It contradicts one that waits.
    AgainstWaiting(Box<Assignment>),
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// Nothing: the slot is not there yet.
    Nothing,
    /// This one, if these items show that it may.
    Fits(Box<Assignment>, Vec<ItemId>),
    /// This one, and it contradicts the taken one with this id.
    Against(Box<Assignment>, ItemId),
}

impl Ledger {
    /// Of a process whose assignments this account signs at first.
    pub fn new(process: ProcessId, scheduler: Address) -> Ledger {
        Ledger {
            process,
            signers: vec![scheduler],
            taken: Vec::new(),
            subjects: HashMap::new(),
            waiting: BTreeMap::new(),
            at: Continuity::start(process),
            last: None,
            told: Vec::new(),
        }
    }

    /// The accounts whose assignments are heard.
    pub fn signers(&self) -> &[Address] {
        &self.signers
    }

    /// Hears what a key of the scheduler's says of itself. A successor's key is listened to; whether it may sign, its
    /// assignments' successions must show. What a resume item says was lost is not listened to any more.
    pub fn hear(&mut self, word: &DataItem) {
        if !self.signers.contains(&word.owner_address()) {
            return;
        }
        if let Ok(step) = Succession::read(word.clone())
            && !self.signers.contains(&step.to)
            && self.signers.len() <= succession::STEPS_MAX
        {
            self.signers.push(step.to);
        }
        let told = Resume::read(word.clone()).ok();
        let stand = told.and_then(|told| Some((told.epoch, told.stand(self.process)?.slot)));
        if let Some(told) = stand.filter(|told| !self.told.contains(told)) {
            self.told.push(told);
            self.waiting
                .retain(|slot, one| !is_lost(&[told], one.epoch, *slot));
        }
    }

    /// Whether it is an assignment of this log.
    pub fn is_ours(&self, assignment: &Assignment) -> bool {
        assignment.process == self.process && self.signers.contains(&assignment.item.owner_address())
    }

    /// The slot that comes next.
    pub fn next_slot(&self) -> u64 {
        self.taken.len() as u64
    }

    /// Slots above the next that are there already.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn taken_at(&self, slot: u64) -> Option<ItemId> {
        self.taken.get(usize::try_from(slot).ok()?).copied()
    }

    /// Whether a slot has this assignment.
    pub fn knows(&self, assignment: ItemId, slot: u64) -> bool {
        let waits = self.waiting.get(&slot).map(|one| one.item.id());
        self.taken_at(slot) == Some(assignment) || waits == Some(assignment)
    }

    /// Takes an assignment that verified.
    pub fn offer(&mut self, assignment: Assignment) -> Offered {
        if !self.is_ours(&assignment) || self.knows(assignment.item.id(), assignment.slot) {
            return Offered::Known;
        }
        if is_lost(&self.told, assignment.epoch, assignment.slot) {
            return Offered::Known;
        }
        if let Some(taken) = self.taken_at(assignment.slot) {
            return Offered::AgainstTaken(taken);
        }
        if let Some(waiting) = self.waiting.get(&assignment.slot) {
            return Offered::AgainstWaiting(Box::new(waiting.clone()));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Offered::Full;
        }
        self.waiting.insert(assignment.slot, assignment);
        Offered::Waits
    }

    /// Lets an assignment wait in the place of another one.
    pub fn replace(&mut self, assignment: Assignment) {
        self.waiting.insert(assignment.slot, assignment);
    }

    /// The next slot's assignment, held against what was taken. It stays until [`Ledger::take`].
    pub fn next(&self) -> Next {
        let Some(next) = self.waiting.get(&self.next_slot()) else {
            return Next::Nothing;
        };
        if let Some(slot) = self.subjects.get(&next.subject()) {
            let taken = self.taken_at(*slot).expect("subjects have slots");
            return Next::Against(Box::new(next.clone()), taken);
        }
        let contradicted = self.last.as_ref().filter(|last| {
            let breaks = last.epoch == next.epoch && last.chain.next(last.assignment) != next.chain;
            last.signer == next.item.owner_address() && (breaks || next.epoch < last.epoch)
        });
        match contradicted {
            Some(last) => Next::Against(Box::new(next.clone()), last.assignment),
            None => Next::Fits(Box::new(next.clone()), self.needs(next)),
        }
    }

    fn needs(&self, next: &Assignment) -> Vec<ItemId> {
        if self.last.is_some() || next.item.owner_address() == self.signers[0] {
            return self.at.needs(next);
        }
        let named = tags::all(next.item.tags(), succession::TAG).take(succession::STEPS_MAX);
        named.filter_map(|id| id.parse().ok()).collect()
    }

    /// Gives the next slot to its assignment, with the items that it needs.
    ///
    /// # Errors
    /// Why it does not follow; then it stays where it is.
    ///
    /// # Panics
    /// If there is none: callers ask [`Ledger::next`] first.
    pub fn take(&mut self, evidence: &[DataItem]) -> Result<Assignment, String> {
        let slot = self.next_slot();
        let next = self.waiting.get(&slot).expect("callers saw it").clone();
        self.check_first(&next, evidence)?;
        match self.at.accept(&next, evidence) {
            Ok(()) => {}
            // Other schedulers give two messages of one millisecond one time.
            Err(Break::Time) if self.is_at_the_same_time(&next) => self.at = Continuity::after(&next),
            Err(error) => return Err(error.to_string()),
        }
        self.waiting.remove(&slot);
        self.subjects.insert(next.subject(), slot);
        self.taken.push(next.item.id());
        self.last = Some(Last {
            assignment: next.item.id(),
            chain: next.chain,
            epoch: next.epoch,
            tick: next.tick,
            signer: next.item.owner_address(),
        });
        assert_eq!(self.at.next_slot(), self.next_slot(), "both count the same slots");
        Ok(next)
    }

    /// Slot 0 is the process itself, by the scheduler that it names or a key that came after it.
    fn check_first(&self, next: &Assignment, evidence: &[DataItem]) -> Result<(), String> {
        if next.slot > 0 {
            return Ok(());
        }
        if next.message.is_some() {
            return Err("slot 0 is not the process itself".into());
        }
        continuity::succeeds(next, self.signers[0], evidence)
    }

    fn is_at_the_same_time(&self, next: &Assignment) -> bool {
        self.last.as_ref().is_some_and(|last| {
            let alike = last.epoch == next.epoch && last.signer == next.item.owner_address();
            let follows = last.chain.next(last.assignment) == next.chain;
            alike
                && follows
                && last.tick.timestamp_ms == next.tick.timestamp_ms
                && last.tick.block_height <= next.tick.block_height
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staged::{Log, message, scheduler};

    fn ledger(log: &Log) -> Ledger {
        Ledger::new(log.process, scheduler().address())
    }

    fn assignments(log: &mut Log) -> Vec<Assignment> {
        let read = |item: spec::DataItem| Assignment::read(item).ok();
        log.take().into_iter().filter_map(read).collect()
    }

    #[test]
    fn slots_are_taken_in_order_whatever_order_they_come_in() {
        let mut log = Log::named("order");
        log.grow(5);
        let mut ledger = ledger(&log);
        for assignment in assignments(&mut log).into_iter().rev() {
            assert!(matches!(ledger.offer(assignment.clone()), Offered::Waits));
            assert!(matches!(ledger.offer(assignment), Offered::Known));
        }
        for slot in 0..6 {
            assert_eq!(ledger.take(&[]).expect("it follows").slot, slot);
        }
        assert!(matches!(ledger.next(), Next::Nothing));
    }

    #[test]
    fn contradictions_are_answered_and_change_nothing() {
        let mut log = Log::named("liar");
        log.grow(2);
        let fork = log.draft(&message(log.process, "one"));
        let fork = fork.sign(&scheduler()).expect("a key that signs");
        log.grow(1);
        let honest = assignments(&mut log);
        let mut ledger = ledger(&log);
        for assignment in honest.clone() {
            ledger.offer(assignment);
        }
        assert!(matches!(ledger.offer(fork.clone()), Offered::AgainstWaiting(_)));
        (0..4).for_each(|_| drop(ledger.take(&[]).expect("it follows")));
        assert!(matches!(ledger.offer(fork), Offered::AgainstTaken(id) if id == honest[3].item.id()));
        // The same message in a later slot.
        let twice = spec::Draft {
            message: honest[1].message,
            ..log.draft(&message(log.process, "two"))
        };
        ledger.offer(twice.sign(&scheduler()).expect("a key that signs"));
        assert!(matches!(ledger.next(), Next::Against(_, id) if id == honest[1].item.id()));
        assert_eq!(ledger.next_slot(), 4);
    }

    #[test]
    fn a_broken_chain_is_held_against_the_slot_before() {
        let mut log = Log::named("chain");
        log.grow(1);
        let broken = spec::Draft {
            chain: Chain([7; 32]),
            ..log.draft(&message(log.process, "x"))
        };
        let honest = assignments(&mut log);
        let mut ledger = ledger(&log);
        for assignment in honest.clone() {
            ledger.offer(assignment);
            ledger.take(&[]).expect("it follows");
        }
        ledger.offer(broken.sign(&scheduler()).expect("a key that signs"));
        assert!(matches!(ledger.next(), Next::Against(_, id) if id == honest[1].item.id()));
    }

    #[test]
    fn strangers_are_not_heard() {
        let log = Log::named("stranger");
        let mut ledger = ledger(&log);
        let stranger = spec::Signer::ed25519(&[9; 32]);
        let foreign = log.draft(&message(log.process, "x")).sign(&stranger);
        assert!(matches!(
            ledger.offer(foreign.expect("a key that signs")),
            Offered::Known
        ));
        assert!(matches!(ledger.next(), Next::Nothing));
    }
}
