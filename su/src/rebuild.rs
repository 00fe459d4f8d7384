//! Brings the index up to the end of the log: after a start, after a crash, or from nothing.
//!
//! The invariant: only what a note of the scheduler announces counts as scheduled, so an assignment
//! that somebody uploads is an item like any other.

use std::collections::VecDeque;

use spec::{Assignment, ProcessId};
use weave::{Position, Record};

use crate::error::{Error, Result};
use crate::index::{Index, Key, Placed, Row};
use crate::journal::Journal;
use crate::note::{Mark, Told};

/// Assignments taken into the index at once.
const CHUNK: usize = 4096;

/// Replays the log from the index's cursor. Answers how many assignments were taken in.
///
/// # Errors
/// A log that breaks off inside a group, or says what the scheduler never says.
pub fn catch_up(index: &Index, journal: &dyn Journal) -> Result<u64> {
    let mut replay = Replay::default();
    let mut total = 0;
    for entry in journal.replay(index.cursor()) {
        let (position, record) = entry?;
        if !replay.take(position, record)? {
            continue;
        }
        if replay.placed.len() >= CHUNK || replay.lease.is_some() {
            total += replay.hand_over(index, position)?;
        }
        replay.end = Some(position);
    }
    if !replay.expected.is_empty() {
        return Err(Error::corrupt(
            "the end of the log",
            "a group of the scheduler is incomplete",
        ));
    }
    assert!(replay.message.is_none(), "a message waits only inside a group");
    if let Some(end) = replay.end.filter(|_| !replay.placed.is_empty()) {
        total += replay.hand_over(index, end)?;
    }
    Ok(total)
}

/// Where a replay stands.
#[derive(Default)]
struct Replay {
    /// Assignments announced and not seen yet.
    expected: VecDeque<Mark>,
    /// The message before the assignment that comes next.
    message: Option<(Position, spec::ItemId)>,
    placed: Vec<Placed>,
    lease: Option<u64>,
    end: Option<Position>,
}

impl Replay {
    /// Takes a record; true if it was the scheduler's and its group is complete.
    fn take(&mut self, position: Position, record: Record) -> Result<bool> {
        match &record {
            Record::Note(note) => match Told::read(note)? {
                Some(_) if !self.expected.is_empty() => Err(contradiction(position, "a note inside a group")),
                Some(Told::Scheduled(marks)) => {
                    self.expected = marks.into();
                    Ok(self.expected.is_empty())
                }
                Some(Told::Lease(until_ms)) => {
                    self.lease = self.lease.max(Some(until_ms));
                    Ok(true)
                }
                None => Ok(false),
            },
            Record::Item(_) | Record::Withheld(_) => self.take_item(position, record),
        }
    }

    fn take_item(&mut self, position: Position, record: Record) -> Result<bool> {
        let Some(mark) = self.expected.front().copied() else {
            return Ok(false);
        };
        if mark.with_message && self.message.is_none() {
            self.message = record.id().map(|id| (position, id));
            return Ok(false);
        }
        let Record::Item(item) = record else {
            return Err(contradiction(position, "an assignment was withheld"));
        };
        let assignment =
            Assignment::read(item).map_err(|error| contradiction(position, &error.to_string()))?;
        let message = self.message.take();
        if message.is_some_and(|(_, id)| id != assignment.subject()) {
            return Err(contradiction(
                position,
                "the assignment is not of the message before it",
            ));
        }
        self.placed
            .push(placed(&assignment, message.map(|(at, _)| at), position, mark));
        self.expected.pop_front();
        Ok(self.expected.is_empty())
    }

    fn hand_over(&mut self, index: &Index, cursor: Position) -> Result<u64> {
        assert!(
            self.expected.is_empty() && self.message.is_none(),
            "a cursor never stands inside a group"
        );
        let placed = std::mem::take(&mut self.placed);
        index.apply(&placed, self.lease.take(), cursor)?;
        index.maintain()?;
        Ok(placed.len() as u64)
    }
}

fn placed(assignment: &Assignment, message: Option<Position>, position: Position, mark: Mark) -> Placed {
    let process: ProcessId = assignment.process;
    Placed {
        process,
        slot: assignment.slot,
        row: Row {
            message,
            assignment: position,
            timestamp_ms: assignment.tick.timestamp_ms,
        },
        tick: assignment.tick,
        ids: [assignment.subject(), assignment.item.id()].map(|id| Key::of_id(process, id)),
        pushed: mark.pushed.map(Key),
    }
}

fn contradiction(position: Position, why: &str) -> Error {
    Error::corrupt(format!("{position:?}"), why)
}
