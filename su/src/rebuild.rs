//! Brings the index up to the end of the log: after a start, after a crash, or from nothing.
//!
//! The invariant: only what a note of the scheduler announces counts as scheduled, so an assignment
//! that somebody uploads is an item like any other.

use std::collections::VecDeque;

use spec::{Assignment, ProcessId};
use weave::{Position, Record};

use crate::authority;
use crate::error::{Error, Result};
use crate::index::{Change, Index, Key, Placed, Row, Stage};
use crate::journal::Journal;
use crate::note::{Mark, Told};

/// Assignments taken into the index at once.
const CHUNK: usize = 4096;

/// Replays the log from the index's cursor. Answers how many assignments were taken in.
///
/// # Errors
/// A log that breaks off inside a group, or says what the scheduler never says.
pub fn catch_up(index: &Index, journal: &dyn Journal) -> Result<u64> {
    let resumed = index.past().turns.resumed;
    let resumed = resumed.map(|at| authority::resumed(journal, at)).transpose()?;
    let mut replay = Replay {
        epoch: resumed.map_or(0, |(epoch, _)| epoch),
        ..Replay::default()
    };
    let mut total = 0;
    for entry in journal.replay(index.cursor()) {
        let (position, record) = entry?;
        if is_copied(&record)? {
            // Which of the copies are new depends on all that came before.
            total += replay.settle(index)?;
        }
        if !replay.take(position, record, index)? {
            continue;
        }
        replay.end = Some(position);
        if replay.placed.len() >= CHUNK {
            total += replay.settle(index)?;
        }
    }
    if !replay.expected.is_empty() {
        return Err(Error::corrupt(
            "the end of the log",
            "a group of the scheduler is incomplete",
        ));
    }
    assert!(replay.message.is_none(), "a message waits only inside a group");
    Ok(total + replay.settle(index)?)
}

/// Where a replay stands.
#[derive(Default)]
struct Replay {
    /// The epoch of what is scheduled here.
    epoch: u64,
    /// Assignments announced and not seen yet.
    expected: VecDeque<Mark>,
    /// The message before the assignment that comes next.
    message: Option<(Position, spec::ItemId)>,
    placed: Vec<Placed>,
    /// Of the copies that are expected: whose, how many are known, and what is known after them.
    copies: Option<(ProcessId, usize, Stage)>,
    change: Change,
    /// The end of the last group that was taken in since the index was told.
    end: Option<Position>,
}

impl Replay {
    /// Takes a record; true if it was the scheduler's and its group is complete.
    fn take(&mut self, position: Position, record: Record, index: &Index) -> Result<bool> {
        match &record {
            Record::Note(note) => match Told::read(note)? {
                Some(_) if !self.expected.is_empty() => Err(contradiction(position, "a note inside a group")),
                Some(told) => self.take_note(position, told, index),
                None => Ok(false),
            },
            Record::Item(_) | Record::Withheld(_) => self.take_item(position, record),
        }
    }

    /// Takes a note; true if nothing follows that belongs to it.
    fn take_note(&mut self, position: Position, told: Told, index: &Index) -> Result<bool> {
        let turns = &mut self.change.turns;
        match told {
            Told::Scheduled(marks) => self.expected = marks.into(),
            Told::Lease(until_ms) => self.change.lease = self.change.lease.max(Some(until_ms)),
            Told::Suspended => turns.suspended = Some(position),
            Told::Resumed { epoch, .. } => {
                if epoch <= self.epoch {
                    let why = format!("epoch {epoch} is resumed after epoch {}", self.epoch);
                    return Err(contradiction(position, &why));
                }
                (self.epoch, turns.resumed) = (epoch, Some(position));
            }
            Told::Succeeded(_) => turns.succeeded = Some(position),
            Told::Copied {
                process,
                first,
                marks,
                is_last,
            } => {
                let next = index.view()?.last_slot(process)?.map_or(0, |last| last + 1);
                let copied = first + marks.len() as u64;
                let stage = Stage {
                    copied,
                    is_done: is_last,
                };
                if first > next {
                    return Err(contradiction(position, "copies leave slots out"));
                }
                let known = usize::try_from(next.min(copied) - first).expect("as many as there are marks");
                self.copies = Some((process, known, stage));
                self.expected = marks.into();
                return Ok(self.end_of_group());
            }
        }
        Ok(self.expected.is_empty())
    }

    /// Whether a group ends here; copies count once all of them are there.
    fn end_of_group(&mut self) -> bool {
        if !self.expected.is_empty() {
            return false;
        }
        if let Some((process, _, stage)) = self.copies.take() {
            self.change.stages.push((process, stage));
        }
        true
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
        if self.copies.is_none() && assignment.epoch != self.epoch {
            let why = format!(
                "slot {} of {} is of epoch {}, which was not resumed",
                assignment.slot, assignment.process, assignment.epoch
            );
            return Err(contradiction(position, &why));
        }
        let other = |(process, ..): &(ProcessId, usize, Stage)| *process != assignment.process;
        if self.copies.as_ref().is_some_and(other) {
            return Err(contradiction(
                position,
                "a copy is of another process than its note says",
            ));
        }
        let message = self.message.take();
        if message.is_some_and(|(_, id)| id != assignment.subject()) {
            return Err(contradiction(
                position,
                "the assignment is not of the message before it",
            ));
        }
        self.expected.pop_front();
        let is_known = self.copies.as_mut().is_some_and(|(_, known, _)| {
            let is_known = *known > 0;
            *known = known.saturating_sub(1);
            is_known
        });
        if !is_known {
            let row = placed(&assignment, message.map(|(at, _)| at), position, mark);
            self.placed.push(row);
        }
        Ok(self.end_of_group())
    }

    /// Tells the index what was taken in since the last time.
    fn settle(&mut self, index: &Index) -> Result<u64> {
        let Some(cursor) = self.end.take() else {
            return Ok(0);
        };
        assert!(
            self.expected.is_empty() && self.message.is_none(),
            "a cursor never stands inside a group"
        );
        let placed = std::mem::take(&mut self.placed);
        index.apply(&placed, &std::mem::take(&mut self.change), cursor)?;
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
        widens: mark.widens,
    }
}

fn is_copied(record: &Record) -> Result<bool> {
    let told = record.note().map(Told::read).transpose()?.flatten();
    Ok(matches!(told, Some(Told::Copied { .. })))
}

fn contradiction(position: Position, why: &str) -> Error {
    Error::corrupt(format!("{position:?}"), why)
}
