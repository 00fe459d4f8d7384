//! The order of a followed log: which assignment has which slot, and what contradicts what.
//!
//! Pure. Not here: fetching, storing, evaluating; what follows what (`spec::continuity`). The invariant: slots are taken
//! in order, each follows the one before, and no message is taken twice; what would break this changes nothing.

use std::collections::{BTreeMap, HashMap};

use spec::assignment::Chain;
use spec::continuity::{self, Continuity};
use spec::resume::Resume;
use spec::succession::{self, Succession};
use spec::{Address, Assignment, DataItem, ItemId, ProcessId, tags};

/// Most assignments that wait for an earlier one.
pub const WAITING_MAX: usize = 100_000;

/// Most keys of one scheduler that are listened to.
const SIGNERS_MAX: usize = 1 + succession::STEPS_MAX;

/// The slot taken last.
#[derive(Debug, Clone)]
struct Last {
    assignment: ItemId,
    chain: Chain,
    epoch: u64,
    signer: Address,
}

/// What a resume item says of this log: who says it, the epoch that begins, and the last slot before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Loss {
    /// The key's place among the scheduler's.
    rank: usize,
    epoch: u64,
    last: u64,
}

impl Loss {
    /// Whether this slot of this epoch was lost. A key has no say about slots that a later one gave.
    fn is_of(&self, rank: usize, epoch: u64, slot: u64) -> bool {
        rank <= self.rank && epoch < self.epoch && slot > self.last
    }
}

/// The log so far.
pub struct Ledger {
    process: ProcessId,
    /// The scheduler's key, and those that came after it, each by the word of the one before.
    signers: Vec<Address>,
    /// The lowest slot that each of them was seen to give: from there on the ones before it give none.
    begins: Vec<u64>,
    taken: Vec<ItemId>,
    /// The rank of the key that signed each.
    taken_by: Vec<usize>,
    subjects: HashMap<ItemId, u64>,
    waiting: BTreeMap<u64, Assignment>,
    at: Continuity,
    last: Option<Last>,
    /// What was lost, by resume items.
    told: Vec<Loss>,
}

/// What becomes of an assignment.
#[derive(Debug)]
pub enum Offered {
    /// It is known, or not of this log.
    Known,
    /// It waits for its turn.
    Waits,
    /// Too many wait: a slot before them is missing, and the one that is furthest from it is not kept.
    Full,
    /// A key that was replaced signed it.
    Replaced,
    /// A later key than the one that signed the taken assignment with this id.
    Overrules(ItemId),
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
            begins: vec![u64::MAX],
            taken: Vec::new(),
            taken_by: Vec::new(),
            subjects: HashMap::new(),
            waiting: BTreeMap::new(),
            at: Continuity::start(process).lenient(),
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
        let Some(rank) = self.rank(&word.owner_address()) else {
            return;
        };
        // The first word of each key counts: one that was replaced cannot name another successor.
        if let Ok(step) = Succession::read(word.clone())
            && !self.signers.contains(&step.to)
            && rank + 1 == self.signers.len()
            && self.signers.len() < SIGNERS_MAX
        {
            self.signers.push(step.to);
            self.begins.push(u64::MAX);
        }
        let told = Resume::read(word.clone()).ok();
        let loss = told.and_then(|told| {
            let (epoch, last) = (told.epoch, told.stand(self.process)?.slot);
            Some(Loss { rank, epoch, last })
        });
        if let Some(loss) = loss.filter(|loss| !self.told.contains(loss)) {
            self.told.push(loss);
            let signers = &self.signers;
            let rank = |one: &Assignment| rank_in(signers, &one.item.owner_address()).unwrap_or(usize::MAX);
            self.waiting
                .retain(|slot, one| !loss.is_of(rank(one), one.epoch, *slot));
        }
    }

    /// A key's place among the scheduler's.
    fn rank(&self, signer: &Address) -> Option<usize> {
        rank_in(&self.signers, signer)
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
        let (slot, signer) = (assignment.slot, assignment.item.owner_address());
        let rank = self.rank(&signer).filter(|_| self.is_ours(&assignment));
        let Some(rank) = rank.filter(|_| !self.knows(assignment.item.id(), slot)) else {
            return Offered::Known;
        };
        if self
            .told
            .iter()
            .any(|loss| loss.is_of(rank, assignment.epoch, slot))
        {
            return Offered::Known;
        }
        if self.begins[rank + 1..].iter().any(|begins| *begins <= slot) {
            return Offered::Replaced;
        }
        self.begin(rank, slot);
        if let Some(taken) = self.taken_at(slot) {
            return match self.taken_by[slot as usize] < rank {
                true => Offered::Overrules(taken),
                false => Offered::AgainstTaken(taken),
            };
        }
        if let Some(waiting) = self.waiting.get(&assignment.slot) {
            return Offered::AgainstWaiting(Box::new(waiting.clone()));
        }
        self.waiting.insert(slot, assignment);
        match self.waiting.len() > WAITING_MAX {
            // What comes sooner is worth more; the rest is found again at the next look.
            true => {
                self.waiting.pop_last();
                Offered::Full
            }
            false => Offered::Waits,
        }
    }

    /// A key gives slots from here on, by its own signature: what keys before it gave there, they had no say in.
    fn begin(&mut self, rank: usize, slot: u64) {
        if rank == 0 || self.begins[rank] <= slot {
            self.begins[rank] = self.begins[rank].min(slot);
            return;
        }
        self.begins[rank] = slot;
        let signers = &self.signers;
        let is_earlier = |one: &Assignment| rank_in(signers, &one.item.owner_address()) < Some(rank);
        self.waiting.retain(|at, one| *at < slot || !is_earlier(one));
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
        self.at
            .accept(&next, evidence)
            .map_err(|error| error.to_string())?;
        let rank = self.rank(&next.item.owner_address()).expect("it is ours");
        self.waiting.remove(&slot);
        self.subjects.insert(next.subject(), slot);
        self.taken.push(next.item.id());
        self.taken_by.push(rank);
        self.last = Some(Last {
            assignment: next.item.id(),
            chain: next.chain,
            epoch: next.epoch,
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
}

fn rank_in(signers: &[Address], signer: &Address) -> Option<usize> {
    signers.iter().position(|one| one == signer)
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
