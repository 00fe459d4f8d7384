//! The world of one spec file: its processes, its clock, and the messages on their way.
//!
//! Not here: Lua, birth (`birth.rs`) and delivery (`delivery.rs`). Everything is a function of the seed and of what the spec does, in order. The invariant: after
//! [`World::restore`] nothing can tell that what came after the mark ever happened.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use cu::runtime::Machine;
use spec::Outcome;
use spec::outcome::OutMessage;

use super::coverage::Coverage;
use super::message::{Message, TagText};
use super::modules::Modules;
use super::process::Process;

/// Where the clock stands when a file begins, in milliseconds.
const START_MS: u64 = 1_700_000_000_000;
/// The block height then.
const START_HEIGHT: u64 = 1_300_000;

/// Something on its way.
#[derive(Clone)]
pub enum Parcel {
    /// A message of a process.
    Message {
        /// Which process.
        from: String,
        /// What it wrote.
        message: Rc<OutMessage>,
    },
    /// A process that a process makes.
    Spawn {
        /// Which process.
        from: String,
        /// What it wrote.
        message: Rc<OutMessage>,
    },
    /// A message that a process gets as well.
    Assign {
        /// Who gets it.
        process: String,
        /// Which message; the newest pushed one if empty.
        item: String,
    },
}

struct Mark {
    processes: usize,
    queue: VecDeque<Parcel>,
    clock_ms: u64,
    height: u64,
    count: u64,
    items: usize,
}

/// A process booted and loaded, to be forked.
pub struct Image {
    /// In the state after loading.
    pub machine: Machine,
    /// The slot of its next message.
    pub slot: u64,
    /// What booting and loading sent.
    pub outcomes: Vec<Outcome>,
}

/// The world of one spec file.
pub struct World {
    pub(super) modules: Arc<Modules>,
    seed: u64,
    pub(super) processes: Vec<Process>,
    pub(super) queue: VecDeque<Parcel>,
    pub(super) clock_ms: u64,
    pub(super) height: u64,
    /// Ids made.
    count: u64,
    /// Serials handed out; never goes back.
    pub(super) serial: u64,
    /// What was sent, for assignments.
    pub(super) items: Vec<Rc<Message>>,
    marks: Vec<Mark>,
    pub(super) images: HashMap<String, Image>,
    /// Lines counted, if they are.
    pub coverage: Option<Coverage>,
}

/// A made-up id: the same text, the same id.
pub fn id_of(text: &str) -> String {
    spec::item::item_id(text.as_bytes()).to_string()
}

/// The id of a wallet that exists only by its name.
pub fn wallet(name: &str) -> String {
    id_of(&format!("weft test wallet {name}"))
}

impl World {
    /// An empty world.
    pub fn new(modules: Arc<Modules>, seed: u64, counts_lines: bool) -> World {
        World {
            modules,
            seed,
            processes: Vec::new(),
            queue: VecDeque::new(),
            clock_ms: START_MS,
            height: START_HEIGHT,
            count: 0,
            serial: 0,
            items: Vec::new(),
            marks: Vec::new(),
            images: HashMap::new(),
            coverage: counts_lines.then(Coverage::default),
        }
    }

    pub(super) fn next_id(&mut self, what: &str) -> String {
        self.count += 1;
        id_of(&format!("weft test {what} {} {}", self.seed, self.count))
    }

    /// Where the clock and the ids are.
    pub(super) fn stand(&self) -> (u64, u64) {
        (self.clock_ms, self.count)
    }

    /// Makes as if nothing had been stamped since.
    pub(super) fn stand_at(&mut self, (clock_ms, count): (u64, u64)) {
        (self.clock_ms, self.count) = (clock_ms, count);
    }

    /// How many marks are open.
    pub(super) fn depth(&self) -> usize {
        self.marks.len()
    }

    /// Remembers how things are.
    pub fn mark(&mut self) -> usize {
        self.marks.push(Mark {
            processes: self.processes.len(),
            queue: self.queue.clone(),
            clock_ms: self.clock_ms,
            height: self.height,
            count: self.count,
            items: self.items.len(),
        });
        self.marks.len()
    }

    /// Makes things as they were at a mark, and forgets it and all later ones.
    pub fn restore(&mut self, mark: usize) -> Result<(), String> {
        assert!(mark >= 1 && mark <= self.marks.len(), "a mark is restored once");
        self.count_lines(mark)?;
        let mut then = self.marks.drain(mark - 1..);
        let then = then.next().expect("the mark is there");
        self.processes.truncate(then.processes);
        for process in &mut self.processes {
            process.restore(mark - 1);
        }
        self.queue = then.queue;
        (self.clock_ms, self.height, self.count) = (then.clock_ms, then.height, then.count);
        self.items.truncate(then.items);
        Ok(())
    }

    /// Takes the lines that processes ran since a mark, before their states are dropped.
    fn count_lines(&mut self, mark: usize) -> Result<(), String> {
        let Some(mut coverage) = self.coverage.take() else {
            return Ok(());
        };
        let (clock_ms, height) = (self.clock_ms, self.height);
        let mut result = Ok(());
        for process in self
            .processes
            .iter_mut()
            .filter(|process| process.is_changed(mark))
        {
            let message = eval_message(&process.id, &process.owner, Coverage::TAKE, clock_ms, height);
            let outcome = process.dry(&message);
            result = result.and(outcome.and_then(|outcome| coverage.add(&outcome)));
        }
        self.coverage = Some(coverage);
        result
    }

    pub(super) fn at(&self, serial: u64) -> Result<usize, String> {
        let found = self.processes.iter().position(|process| process.serial == serial);
        found.ok_or_else(|| "this process belongs to another test or block, and is gone".to_owned())
    }

    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.processes.iter().position(|process| process.id == id)
    }

    /// The time the next message carries.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// Sets the clock. It never goes back: a scheduler's does not either.
    pub fn set_clock(&mut self, ms: u64) -> Result<(), String> {
        if ms < self.clock_ms {
            return Err(format!(
                "the clock stands at {} and cannot go back to {ms}",
                self.clock_ms
            ));
        }
        self.clock_ms = ms;
        Ok(())
    }

    /// The block height.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Sets the block height, which never goes back.
    pub fn set_height(&mut self, height: u64) -> Result<(), String> {
        if height < self.height {
            return Err(format!(
                "the block height is {} and cannot go back to {height}",
                self.height
            ));
        }
        self.height = height;
        Ok(())
    }
}

/// The message of an Eval that reads.
pub(super) fn eval_message(process: &str, owner: &str, code: &str, clock_ms: u64, height: u64) -> Message {
    Message {
        id: id_of(code),
        data: code.to_owned(),
        owner: owner.to_owned(),
        target: process.to_owned(),
        anchor: Some("0".into()),
        from: owner.to_owned(),
        tags: [
            ("Action", "Eval"),
            ("Data-Protocol", "ao"),
            ("Variant", "ao.TN.1"),
            ("Type", "Message"),
        ]
        .map(|(name, value)| TagText::new(name, value))
        .into(),
        timestamp: clock_ms,
        block_height: height,
        read_only: true,
        ..Message::default()
    }
}
