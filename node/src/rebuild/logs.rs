//! What segments say of processes' logs: every assignment in its slot, in its chain, of its message.
//!
//! Not here: bytes and signatures, which hold already. The invariant: what `join` takes is, for each process, one chain
//! from slot 0 without a gap, told by the scheduler's own notes.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail};
use spec::assignment::ADOPTED_FROM;
use spec::continuity::{Continuity, succeeds};
use spec::signature::address;
use spec::{Address, Assignment, DataItem, ItemId, ProcessId};
use su::note::{Mark, Told};
use weave::Record;
use weave::log::system_clock;
use weave::retrieve::{self, Checked, Inspector};

/// A segment and what was found in it.
pub type Segment = retrieve::Segment<Summary>;

/// Consecutive slots of one process in one segment.
#[derive(Debug, Clone)]
pub struct Stretch {
    process: ProcessId,
    /// The first and the last assignment, on bytes of their own: the bundle they came in is not held.
    first: Assignment,
    last: Assignment,
    /// Who signed the assignments.
    signers: Vec<Address>,
    /// The ids of all, where they are copies and may be known already; else none.
    copies: Option<Vec<ItemId>>,
    /// What slot 0 says, if it is here.
    birth: Option<Birth>,
}

/// What a process's slot 0 decides.
#[derive(Debug, Clone)]
struct Birth {
    chain: Option<String>,
    /// The scheduler that the process item names.
    names: Option<String>,
    is_adopted: bool,
}

/// The processes of one segment.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    stretches: Vec<Stretch>,
    /// Items by which a scheduler says that it goes on after a loss, or under another key.
    evidence: Vec<DataItem>,
}

/// Looks at segments.
pub struct Look;

impl Inspector for Look {
    type Summary = Summary;

    fn inspect(&self, segment: &Checked) -> Result<Summary, String> {
        let mut reading = Reading::default();
        for record in &segment.records {
            reading.take(record)?;
        }
        if reading.expected != 0 {
            return Err("it ends inside a group of the scheduler".into());
        }
        reading.own();
        hold_against_ranges(segment, &reading.stretches)?;
        Ok(Summary {
            stretches: reading.stretches,
            evidence: reading.evidence,
        })
    }
}

/// What the segment item says of logs must be what is in the segment.
fn hold_against_ranges(segment: &Checked, stretches: &[Stretch]) -> Result<(), String> {
    let node = address(segment.segment_item.owner());
    for stretch in stretches.iter().filter(|stretch| stretch.signers == [node]) {
        let at = segment
            .ranges
            .binary_search_by_key(&stretch.process, |range| range.process);
        let range = at.ok().map(|at| &segment.ranges[at]);
        let (first, last) = (stretch.first.slot, stretch.last.slot);
        if !range.is_some_and(|range| range.first <= first && last <= range.last) {
            return Err(format!(
                "slots {first} to {last} of process {} are in it, and its segment item says otherwise",
                stretch.process
            ));
        }
    }
    Ok(())
}

/// Where a walk through a segment stands.
#[derive(Default)]
struct Reading {
    /// Marks of the note before, the next one last.
    marks: Vec<Mark>,
    expected: usize,
    message: Option<Message>,
    /// Whether copies are expected.
    is_copied: bool,
    /// Which stretch a process's next slot goes on with.
    places: HashMap<ProcessId, usize>,
    stretches: Vec<Stretch>,
    /// Items that the scheduler's notes name as evidence: anybody may post others that look like it.
    named: HashSet<ItemId>,
    evidence: Vec<DataItem>,
}

/// What stands before an assignment.
struct Message {
    id: ItemId,
    /// The tag `Scheduler`, of what may be a process item.
    names: Option<String>,
}

impl Message {
    fn of(record: &Record) -> Option<Message> {
        let names = record
            .item()
            .and_then(|item| item.tag("Scheduler"))
            .map(str::to_owned);
        record.id().map(|id| Message { id, names })
    }
}

impl Reading {
    fn take(&mut self, record: &Record) -> Result<(), String> {
        if let Record::Note(note) = record {
            return match Told::read(note).map_err(|error| error.to_string())? {
                Some(_) if self.expected > 0 => Err("a note stands inside a group of the scheduler".into()),
                Some(Told::Scheduled(marks)) => {
                    self.expect(marks, false);
                    Ok(())
                }
                Some(Told::Copied { process, marks, .. }) => {
                    // Copies may begin before what is known: a stretch of their own.
                    self.places.remove(&process);
                    self.expect(marks, true);
                    Ok(())
                }
                Some(Told::Resumed { items, .. }) => {
                    self.named.extend(items);
                    Ok(())
                }
                Some(Told::Succeeded(links)) => {
                    self.named.extend(links.into_iter().map(|link| link.item));
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        let Some(mark) = self.marks.last().copied() else {
            let evidence = record.item().filter(|item| self.named.contains(&item.id()));
            self.evidence
                .extend(evidence.and_then(|item| on_own_bytes(item).ok()));
            return Ok(());
        };
        if mark.with_message && self.message.is_none() {
            self.message = Message::of(record);
            return Ok(());
        }
        let item = record.item().ok_or("an assignment was withheld")?;
        let message = self.message.take();
        self.assigned(item, message.as_ref())?;
        self.marks.pop();
        self.expected -= 1;
        Ok(())
    }

    fn expect(&mut self, mut marks: Vec<Mark>, is_copied: bool) {
        (self.expected, self.is_copied) = (marks.len(), is_copied);
        marks.reverse();
        self.marks = marks;
    }

    fn assigned(&mut self, item: &DataItem, message: Option<&Message>) -> Result<(), String> {
        let wrong = |why: String| format!("assignment {}: {why}", item.id());
        let assignment = Assignment::read(item.clone()).map_err(|error| wrong(error.to_string()))?;
        if let Some(message) = message
            && message.id != assignment.subject()
        {
            return Err(wrong(format!(
                "it is of {}, and {} stands before it",
                assignment.subject(),
                message.id
            )));
        }
        if (assignment.slot == 0) != (assignment.subject() == ItemId::from(assignment.process)) {
            return Err(wrong("slot 0, and only it, is the process item's".into()));
        }
        match self.places.get(&assignment.process) {
            Some(at) => self.stretches[*at]
                .grow(assignment, &self.evidence)
                .map_err(wrong),
            None => {
                self.places.insert(assignment.process, self.stretches.len());
                self.stretches
                    .push(Stretch::of(assignment, message, self.is_copied));
                Ok(())
            }
        }
    }

    /// Lets the bundle's bytes go.
    fn own(&mut self) {
        for stretch in &mut self.stretches {
            for assignment in [&mut stretch.first, &mut stretch.last] {
                if let Ok(item) = on_own_bytes(&assignment.item) {
                    assignment.item = item;
                }
            }
        }
    }
}

/// The item on a copy of its bytes; it was verified.
fn on_own_bytes(item: &DataItem) -> Result<DataItem, spec::ItemError> {
    let own = DataItem::parse(bytes::Bytes::copy_from_slice(item.bytes()))?;
    own.trust_own_log();
    Ok(own)
}

impl Stretch {
    fn of(assignment: Assignment, message: Option<&Message>, is_copied: bool) -> Stretch {
        let birth = (assignment.slot == 0).then(|| Birth {
            chain: assignment.item.tag("Chain").map(str::to_owned),
            names: message.and_then(|message| message.names.clone()),
            is_adopted: assignment.item.tag(ADOPTED_FROM).is_some(),
        });
        Stretch {
            process: assignment.process,
            signers: vec![assignment.item.owner_address()],
            copies: is_copied.then(|| vec![assignment.item.id()]),
            birth,
            first: assignment.clone(),
            last: assignment,
        }
    }

    /// Goes on with the next assignment of the same segment.
    fn grow(&mut self, next: Assignment, evidence: &[DataItem]) -> Result<(), String> {
        follows(&self.last, &next, evidence)?;
        if next.item.owner() != self.last.item.owner() {
            self.signers.push(next.item.owner_address());
        }
        if let Some(copies) = &mut self.copies {
            copies.push(next.item.id());
        }
        self.last = next;
        Ok(())
    }

    /// Goes on with a later segment's stretch; copies may say again what is known.
    fn join(&mut self, next: &Stretch, evidence: &[DataItem]) -> Result<(), String> {
        if let Some(copies) = next.copies.as_ref().filter(|_| next.first.slot <= self.last.slot) {
            let known = (self.last.slot - next.first.slot) as usize;
            return match copies.get(known) {
                // All of them end before what is known.
                None => Ok(()),
                Some(same) if *same == self.last.item.id() => {
                    self.last = next.last.clone();
                    Ok(())
                }
                Some(other) => Err(format!(
                    "slot {} of {} is {} in one place and {other} in a copy",
                    self.last.slot,
                    self.process,
                    self.last.item.id()
                )),
            };
        }
        follows(&self.last, &next.first, evidence)?;
        self.last = next.last.clone();
        for signer in &next.signers {
            if !self.signers.contains(signer) {
                self.signers.push(*signer);
            }
        }
        Ok(())
    }
}

/// Whether an assignment follows another one of its process.
fn follows(last: &Assignment, next: &Assignment, evidence: &[DataItem]) -> Result<(), String> {
    let mut log = Continuity::after(last);
    let needs = log.needs(next);
    let is_needed = |item: &&DataItem| needs.contains(&item.id());
    let evidence: Vec<DataItem> = match needs.is_empty() {
        true => Vec::new(),
        false => evidence.iter().filter(is_needed).cloned().collect(),
    };
    log.accept(next, &evidence).map_err(|wrong| {
        format!(
            "slot {} of process {} after slot {}: {wrong}",
            next.slot, next.process, last.slot
        )
    })
}

/// All logs of a rebuild.
#[derive(Debug)]
pub struct Logs {
    by_process: BTreeMap<ProcessId, Stretch>,
}

impl Logs {
    /// Joins what was found in all segments. `is_looked_up`: the wallet was found through a process, so nothing but the
    /// process itself says who its scheduler is.
    ///
    /// # Errors
    /// Names the process, the slot and the carrier where a log breaks.
    pub fn join(segments: &[Segment], is_looked_up: bool) -> Result<Logs> {
        let nodes: Vec<Address> = segments.iter().map(|segment| address(&segment.owner)).collect();
        let mut by_process: BTreeMap<ProcessId, Stretch> = BTreeMap::new();
        let mut evidence = Vec::new();
        for segment in segments {
            let place = || format!("carrier {} ({})", segment.sequence, segment.carrier);
            evidence.extend_from_slice(&segment.summary.evidence);
            for stretch in &segment.summary.stretches {
                add(&mut by_process, stretch, &evidence, &nodes).with_context(place)?;
            }
        }
        let logs = Logs { by_process };
        if is_looked_up {
            logs.check_schedulers(&evidence)?;
        }
        Ok(logs)
    }

    /// Each process names its scheduler; somebody else's log of it proves nothing.
    fn check_schedulers(&self, evidence: &[DataItem]) -> Result<()> {
        for (process, stretch) in &self.by_process {
            let birth = stretch.birth.as_ref().context("a log begins at slot 0")?;
            let named = birth.names.as_ref().and_then(|name| name.parse().ok());
            let leads = named.is_some_and(|named| succeeds(&stretch.first, named, evidence).is_ok());
            if birth.is_adopted || !leads {
                bail!(
                    "process {process} names the scheduler {}, and the log found is signed by {}. Remedy: if that is the right \
                     one, say so with --wallet instead of --process",
                    birth.names.as_deref().unwrap_or("(none)"),
                    stretch.first.item.owner_address()
                );
            }
        }
        Ok(())
    }

    /// Refuses a log without these processes.
    pub fn must_have(&self, processes: &[ProcessId]) -> Result<()> {
        match processes
            .iter()
            .find(|process| !self.by_process.contains_key(process))
        {
            Some(process) => bail!(
                "process {process} is not in this wallet's log. Remedy: check the id, or name another gateway with --from"
            ),
            None => Ok(()),
        }
    }

    /// Every process and the last slot of its log.
    pub fn processes(&self) -> Vec<super::report::Process> {
        let process = |stretch: &Stretch| super::report::Process::new(stretch.process, stretch.last.slot);
        self.by_process.values().map(process).collect()
    }

    /// Slots of all logs.
    pub fn messages(&self) -> u64 {
        self.by_process
            .values()
            .map(|stretch| stretch.last.slot + 1)
            .sum()
    }

    /// The chain that heights are of: each slot 0 says it, and all must say the same.
    pub fn chain(&self) -> Result<weave::Chain> {
        let births = self
            .by_process
            .values()
            .filter_map(|stretch| stretch.birth.as_ref());
        let mut said: Vec<&str> = births.filter_map(|birth| birth.chain.as_deref()).collect();
        said.sort_unstable();
        said.dedup();
        match said[..] {
            [one] => weave::Chain::read(one, system_clock())
                .with_context(|| format!("slot 0 says the chain `{one}`, which this program does not know")),
            [] => bail!("no slot 0 says which chain the log is of"),
            _ => bail!("the log is of several chains: {}", said.join(", ")),
        }
    }

    /// What the rebuilt log ends in: it keeps the scheduler from giving slots again that were given and not published.
    pub fn notes(&self) -> Vec<Record> {
        vec![su::note::suspended()]
    }
}

fn add(
    by_process: &mut BTreeMap<ProcessId, Stretch>,
    stretch: &Stretch,
    evidence: &[DataItem],
    nodes: &[Address],
) -> Result<()> {
    let (first, last, process) = (stretch.first.slot, stretch.last.slot, stretch.process);
    match by_process.get_mut(&process) {
        Some(log) => log.join(stretch, evidence).map_err(anyhow::Error::msg),
        // Later keys follow from this one by its own word; it must be a node's whose carriers these are.
        None if !nodes.contains(&stretch.signers[0]) => bail!(
            "slots {first} to {last} of process {process} are signed by {}, which signed no carrier",
            stretch.signers[0]
        ),
        None if first == 0 => {
            by_process.insert(process, stretch.clone());
            Ok(())
        }
        None => bail!(
            "the log of process {process} begins with slot {first}; slots 0 to {} are in no carrier",
            first - 1
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

    use super::*;

    /// Anybody may post items that look like a scheduler's; what its notes name is kept, and no more.
    #[test]
    fn only_what_the_schedulers_notes_name_is_evidence() {
        let resume = |key: u8| spec::Resume::sign(7, &[], &spec::Signer::ed25519(&[key; 32])).unwrap();
        let (own, strangers) = (resume(1).item, resume(9).item);
        let told = Told::Resumed {
            epoch: 7,
            items: vec![own.id()],
        };
        let mut reading = Reading::default();
        for record in [
            Record::Item(strangers.clone()),
            told.record(),
            Record::Item(own.clone()),
            Record::Item(strangers),
        ] {
            reading.take(&record).unwrap();
        }
        let kept: Vec<ItemId> = reading.evidence.iter().map(DataItem::id).collect();
        assert_eq!(kept, [own.id()]);
    }
}
