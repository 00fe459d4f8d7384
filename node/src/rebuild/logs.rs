//! What segments say of processes' logs: every assignment in its slot, in its chain, of its message.
//!
//! Not here: bytes and signatures, which hold already. The invariant: what `join` takes is, for each process, one chain
//! from slot 0 without a gap, told by the scheduler's own notes.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use spec::assignment::{ADOPTED_FROM, Chain as HashChain};
use spec::contract::Tick;
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
    first: u64,
    last: u64,
    /// What the first assignment says came before it.
    before: HashChain,
    /// What the next one must say.
    after: HashChain,
    first_tick: Tick,
    last_tick: Tick,
    /// Who signed the assignments.
    signers: Vec<Address>,
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
        let stretches = reading.stretches;
        hold_against_ranges(segment, &stretches)?;
        Ok(Summary { stretches })
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
        let is_covered =
            range.is_some_and(|range| range.first <= stretch.first && stretch.last <= range.last);
        if !is_covered {
            return Err(format!(
                "slots {} to {} of process {} are in it, and its segment item says otherwise",
                stretch.first, stretch.last, stretch.process
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
    places: HashMap<ProcessId, usize>,
    stretches: Vec<Stretch>,
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
                    self.expect(marks);
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        let Some(mark) = self.marks.last().copied() else {
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

    fn expect(&mut self, mut marks: Vec<Mark>) {
        self.expected = marks.len();
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
        let new = Stretch::of(&assignment, message);
        match self.places.get(&assignment.process) {
            Some(at) => self.stretches[*at].grow(new).map_err(wrong),
            None => {
                self.places.insert(assignment.process, self.stretches.len());
                self.stretches.push(new);
                Ok(())
            }
        }
    }
}

impl Stretch {
    fn of(assignment: &Assignment, message: Option<&Message>) -> Stretch {
        let birth = (assignment.slot == 0).then(|| Birth {
            chain: assignment.item.tag("Chain").map(str::to_owned),
            names: message.and_then(|message| message.names.clone()),
            is_adopted: assignment.item.tag(ADOPTED_FROM).is_some(),
        });
        Stretch {
            process: assignment.process,
            first: assignment.slot,
            last: assignment.slot,
            before: assignment.chain,
            after: assignment.chain.next(assignment.item.id()),
            first_tick: assignment.tick,
            last_tick: assignment.tick,
            signers: vec![assignment.item.owner_address()],
            birth,
        }
    }

    /// Goes on with the stretch after this one.
    fn grow(&mut self, next: Stretch) -> Result<(), String> {
        self.check_next(&next)?;
        (self.last, self.after, self.last_tick) = (next.last, next.after, next.last_tick);
        for signer in next.signers {
            if !self.signers.contains(&signer) {
                self.signers.push(signer);
            }
        }
        Ok(())
    }

    fn check_next(&self, next: &Stretch) -> Result<(), String> {
        let process = self.process;
        if next.first != self.last + 1 {
            return Err(format!(
                "slot {} of {process} follows slot {}",
                next.first, self.last
            ));
        }
        if next.before != self.after {
            return Err(format!(
                "slot {} of {process} is not in the chain of slot {}: it says {}, it should say {}",
                next.first, self.last, next.before, self.after
            ));
        }
        let is_later = next.first_tick.timestamp_ms > self.last_tick.timestamp_ms
            && next.first_tick.block_height >= self.last_tick.block_height;
        match is_later {
            true => Ok(()),
            false => Err(format!(
                "slot {} of {process} is not later than slot {}",
                next.first, self.last
            )),
        }
    }
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
        for segment in segments {
            let place = || format!("carrier {} ({})", segment.sequence, segment.carrier);
            for stretch in &segment.summary.stretches {
                if let Some(stranger) = stretch.signers.iter().find(|signer| !nodes.contains(signer)) {
                    bail!(
                        "{}: slots {} to {} of process {} are signed by {stranger}, which signed no carrier",
                        place(),
                        stretch.first,
                        stretch.last,
                        stretch.process
                    );
                }
                add(&mut by_process, stretch).with_context(place)?;
            }
        }
        let logs = Logs { by_process };
        if is_looked_up {
            logs.check_schedulers()?;
        }
        Ok(logs)
    }

    /// Each process names its scheduler; somebody else's log of it proves nothing.
    fn check_schedulers(&self) -> Result<()> {
        for (process, stretch) in &self.by_process {
            let birth = stretch.birth.as_ref().context("a log begins at slot 0")?;
            let signer = stretch.signers.first().map(ToString::to_string);
            if birth.is_adopted || birth.names != signer {
                bail!(
                    "process {process} names the scheduler {}, and the log found is signed by {}. Remedy: if that is the right \
                     one, say so with --wallet instead of --process",
                    birth.names.as_deref().unwrap_or("(none)"),
                    signer.as_deref().unwrap_or("nobody")
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
        let process = |stretch: &Stretch| super::report::Process::new(stretch.process, stretch.last);
        self.by_process.values().map(process).collect()
    }

    /// Slots of all logs.
    pub fn messages(&self) -> u64 {
        self.by_process.values().map(|stretch| stretch.last + 1).sum()
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

    /// What the rebuilt log ends in.
    pub fn notes(&self) -> Vec<Record> {
        suspension()
    }
}

/// Keeps the scheduler from giving slots again that were given and not published.
fn suspension() -> Vec<Record> {
    Vec::new()
}

fn add(by_process: &mut BTreeMap<ProcessId, Stretch>, stretch: &Stretch) -> Result<()> {
    match by_process.get_mut(&stretch.process) {
        Some(log) => log.grow(stretch.clone()).map_err(anyhow::Error::msg),
        None if stretch.first == 0 => {
            by_process.insert(stretch.process, stretch.clone());
            Ok(())
        }
        None => bail!(
            "the log of process {} begins with slot {}; slots 0 to {} are in no carrier",
            stretch.process,
            stretch.first,
            stretch.first - 1
        ),
    }
}
