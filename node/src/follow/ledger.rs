//! The order of a followed log: which assignment has which slot, and what contradicts what.
//!
//! Pure. Not here: fetching, storing, evaluating. The invariant: slots are taken in order, each chains to the one before,
//! and no message is taken twice; what would break this is answered and changes nothing.

use std::collections::{BTreeMap, HashMap};

use spec::assignment::Chain;
use spec::{Address, Assignment, ItemId, ProcessId};

/// Most assignments that wait for an earlier one.
pub const WAITING_MAX: usize = 100_000;

/// What is kept of a slot that was taken.
#[derive(Debug, Clone, Copy)]
struct Taken {
    assignment: ItemId,
    chain: Chain,
    epoch: u64,
}

/// The log so far.
pub struct Ledger {
    process: ProcessId,
    scheduler: Address,
    taken: Vec<Taken>,
    subjects: HashMap<ItemId, u64>,
    waiting: BTreeMap<u64, Assignment>,
    /// The epoch that a resume item allows from a slot on.
    told: BTreeMap<u64, u64>,
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
    /// This one, and it fits.
    Fits(Box<Assignment>),
    /// This one, and it contradicts the taken one with this id.
    Against(Box<Assignment>, ItemId),
    /// This one does not fit, and no pair of statements shows why.
    Wrong(Box<Assignment>, &'static str),
}

impl Ledger {
    /// Of a process whose assignments this account signs.
    pub fn new(process: ProcessId, scheduler: Address) -> Ledger {
        Ledger {
            process,
            scheduler,
            taken: Vec::new(),
            subjects: HashMap::new(),
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// The slot that comes next.
    pub fn next_slot(&self) -> u64 {
        self.taken.len() as u64
    }

    /// Slots above the next that are there already.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a slot has this assignment.
    pub fn knows(&self, assignment: ItemId, slot: u64) -> bool {
        let taken = usize::try_from(slot).ok().and_then(|slot| self.taken.get(slot));
        taken.map(|taken| taken.assignment) == Some(assignment)
            || self.waiting.get(&slot).map(|one| one.item.id()) == Some(assignment)
    }

    /// A resume item of the scheduler: the epoch begins after this slot.
    pub fn tell(&mut self, epoch: u64, last_slot: u64) {
        self.told.insert(epoch, last_slot);
    }

    /// Takes an assignment that verified.
    pub fn offer(&mut self, assignment: Assignment) -> Offered {
        let ours = assignment.process == self.process && assignment.item.owner_address() == self.scheduler;
        if !ours || self.knows(assignment.item.id(), assignment.slot) {
            return Offered::Known;
        }
        if let Some(taken) = self.taken_at(assignment.slot) {
            return Offered::AgainstTaken(taken.assignment);
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

    fn taken_at(&self, slot: u64) -> Option<Taken> {
        self.taken.get(usize::try_from(slot).ok()?).copied()
    }

    /// The next slot's assignment, held against what was taken. It stays until [`Ledger::take`].
    pub fn next(&self) -> Next {
        let Some(next) = self.waiting.get(&self.next_slot()) else {
            return Next::Nothing;
        };
        let boxed = || Box::new(next.clone());
        if let Some(slot) = self.subjects.get(&next.subject()) {
            let taken = self.taken_at(*slot).expect("subjects have slots");
            return Next::Against(boxed(), taken.assignment);
        }
        let Some(last) = self.taken.last() else {
            return match () {
                () if next.message.is_some() => Next::Wrong(boxed(), "slot 0 is not the process itself"),
                () if next.chain != Chain::first(self.process) => {
                    Next::Wrong(boxed(), "its hash chain does not begin with the process")
                }
                () => Next::Fits(boxed()),
            };
        };
        if last.chain.next(last.assignment) != next.chain || next.epoch < last.epoch {
            return match next.epoch > last.epoch {
                true => Next::Wrong(boxed(), "its hash chain does not go on from the epoch before"),
                false => Next::Against(boxed(), last.assignment),
            };
        }
        let is_told = next.epoch == last.epoch || self.told.get(&next.epoch) == Some(&(next.slot - 1));
        match is_told {
            true => Next::Fits(boxed()),
            false => Next::Wrong(
                boxed(),
                "it begins another epoch, and no resume item of its scheduler says so",
            ),
        }
    }

    /// Gives the next slot to its assignment.
    ///
    /// # Panics
    /// If it does not fit: callers ask [`Ledger::next`] first.
    pub fn take(&mut self) -> Assignment {
        assert!(matches!(self.next(), Next::Fits(_)), "only what fits is taken");
        let slot = self.next_slot();
        let next = self.waiting.remove(&slot).expect("it fits, so it is there");
        self.subjects.insert(next.subject(), slot);
        self.taken.push(Taken {
            assignment: next.item.id(),
            chain: next.chain,
            epoch: next.epoch,
        });
        next
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
            assert_eq!(ledger.take().slot, slot);
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
        (0..4).for_each(|_| drop(ledger.take()));
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
            ledger.take();
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
