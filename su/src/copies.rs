//! Copies of a local process's log in the permanent class, slot by slot, until all of it is there.
//!
//! Plans only; the writer appends. Not here: the decision, which is a message in the log. The
//! invariant: copies follow each other without a gap, and nothing is permanent from the start before
//! everything earlier is copied, so that the permanent class alone holds a whole log.

use spec::{ItemId, ProcessId, tags};
use weave::{Piece, Record};

use crate::error::Result;
use crate::index::{Index, Row, Stage};
use crate::journal::Journal;
use crate::note::{Mark, Told};
use crate::pushed;
use crate::read;

/// Slots copied in one group.
const SLOTS_MAX: usize = 512;
/// Bytes of items after which a group ends.
const BYTES_MAX: u64 = 4 << 20;

/// A group of copies.
pub struct Plan {
    /// Whose.
    pub process: ProcessId,
    /// What is known once they are durable.
    pub stage: Stage,
    /// What to append.
    pub pieces: Vec<Piece>,
    /// How many records that were, once the append has begun.
    pub count: usize,
    /// Items that are no part of the log, and must be permanent first.
    pub needs: Vec<ItemId>,
    /// Whether this is the first group: what the process sent to others has to go, too.
    pub is_first: bool,
}

/// What to copy next of a process, all of which is durable up to its last slot. `None` if it has
/// arrived.
pub fn plan(index: &Index, journal: &dyn Journal, process: ProcessId) -> Result<Option<Plan>> {
    let view = index.view()?;
    let stage = view.stage(process)?.unwrap_or_default();
    if stage.is_done {
        return Ok(None);
    }
    let next = view.last_slot(process)?.map_or(0, |last| last + 1);
    let rows = fitting(view.rows(process, stage.copied, SLOTS_MAX)?);
    drop(view);
    let copied = stage.copied + rows.len() as u64;
    assert!(copied <= next, "only what has a slot is copied");
    let is_first = stage.copied == 0;
    let mut plan = Plan {
        process,
        stage: Stage {
            copied,
            is_done: copied == next,
        },
        pieces: Vec::with_capacity(1 + 2 * rows.len()),
        count: 0,
        needs: Vec::new(),
        is_first,
    };
    let mut marks = Vec::with_capacity(rows.len());
    for row in &rows {
        marks.push(plan.take(journal, row)?);
    }
    let told = Told::Copied {
        process,
        first: stage.copied,
        marks,
        is_last: plan.stage.is_done,
    };
    plan.pieces.insert(0, Piece::New(told.record()));
    Ok(Some(plan))
}

impl Plan {
    /// Adds a slot.
    fn take(&mut self, journal: &dyn Journal, row: &Row) -> Result<Mark> {
        let mut mark = Mark {
            with_message: row.message.is_some(),
            pushed: None,
            widens: false,
        };
        match row.message {
            Some(at) => {
                // How a message that was withheld is known again cannot be told any more.
                if let Record::Item(item) = journal.read(at)? {
                    mark.pushed = pushed(self.process, &item).map(|key| key.0);
                    if self.pieces.is_empty() && self.is_first {
                        self.needs.extend(needs(item.tags()));
                    }
                }
                self.pieces.push(Piece::Copy(at));
            }
            None => {
                let assignment = read::assignment(journal, row.assignment)?;
                self.needs.push(assignment.subject());
            }
        }
        self.pieces.push(Piece::Copy(row.assignment));
        Ok(mark)
    }
}

/// What a process item names: its module, and what it reads when it boots.
pub fn needs(process: &[spec::Tag]) -> Vec<ItemId> {
    let module = tags::first(process, "Module").and_then(|id| id.parse().ok());
    let on_boot = tags::first(process, "On-Boot").and_then(|id| id.parse().ok());
    module.into_iter().chain(on_boot).collect()
}

/// As many rows as make one group; at least one.
fn fitting(mut rows: Vec<Row>) -> Vec<Row> {
    let mut bytes = 0;
    let fits = |row: &&Row| {
        let is_room = bytes < BYTES_MAX;
        // A message stands right before its assignment.
        bytes += row.message.map_or(0, |at| row.assignment.number() - at.number());
        is_room
    };
    let count = rows.iter().take_while(fits).count();
    rows.truncate(count);
    rows
}
