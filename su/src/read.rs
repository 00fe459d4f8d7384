//! From places in the index to entries of a process's log.
//!
//! Only reads. The invariant: an entry comes from the log's own bytes, and its assignment says the
//! process and slot it was found under, or the reader refuses to go on.

use std::sync::Arc;

use spec::contract::{Answer, Class, Content, LogEntry, LogPage, Span};
use spec::{Assignment, ItemId, ProcessId, Refusal};
use weave::{Position, Record};

use crate::assign::Head;
use crate::check;
use crate::error::{Error, Result};
use crate::index::{Index, Key, Row, View};
use crate::journal::Journal;

/// Reads logs.
#[derive(Clone)]
pub struct Reader {
    /// The log of all.
    pub journal: Arc<dyn Journal>,
    /// Where things stand in it.
    pub index: Arc<Index>,
    /// A page ends early once its items have this many bytes.
    pub page_bytes_max: usize,
}

/// Rows to read, and whether the span holds more.
pub struct Plan {
    process: ProcessId,
    first: u64,
    rows: Vec<Row>,
    more: bool,
}

impl Plan {
    /// How many entries there are to read.
    pub fn count(&self) -> usize {
        self.rows.len()
    }
}

impl Reader {
    /// Which rows a span asks for, at most `limit`.
    ///
    /// # Errors
    /// If the process has no log here.
    pub fn plan(&self, process: ProcessId, span: Span, limit: usize) -> Answer<Plan> {
        let view = self.index.view()?;
        let last = view.last_slot(process)?.ok_or_else(|| unknown_process(process))?;
        let (first, end) = match span {
            Span::Slots(first, to) => (first, to.saturating_add(1)),
            Span::Times(from, to) => {
                let first = from.map_or(Ok(0), |from| view.first_after(process, from))?;
                (first, view.first_after(process, to)?)
            }
        };
        let wanted = end.min(last + 1).saturating_sub(first);
        let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(limit);
        let rows = view.rows(process, first, count)?;
        assert_eq!(rows.len(), count, "slots are gapless");
        Ok(Plan {
            process,
            first,
            rows,
            more: wanted > count as u64,
        })
    }

    /// Reads a plan's entries. At least one if it has any.
    pub fn page(&self, plan: &Plan) -> Answer<LogPage> {
        let mut page = LogPage {
            entries: Vec::with_capacity(plan.rows.len()),
            has_next_page: plan.more,
        };
        let mut bytes = 0;
        for (slot, row) in (plan.first..).zip(&plan.rows) {
            if bytes >= self.page_bytes_max {
                page.has_next_page = true;
                break;
            }
            let entry = self.entry(plan.process, slot, row)?;
            bytes += entry.assignment.item.bytes().len() + entry.item().map_or(0, |item| item.bytes().len());
            page.entries.push(entry);
        }
        assert!(
            page.entries.len() <= plan.rows.len(),
            "a page holds what was planned, or less and says so"
        );
        Ok(page)
    }

    /// The entry of a message or an assignment.
    pub fn message(&self, process: ProcessId, id: ItemId) -> Answer<LogEntry> {
        let key = Key::of_id(process, id);
        let found = {
            let view = self.index.view()?;
            let slot = view.place(key)?;
            slot.map(|slot| Ok::<_, Error>((slot, view.row(process, slot)?)))
                .transpose()?
        };
        let (slot, row) = found.ok_or_else(not_found)?;
        let row = row.ok_or_else(|| Error::index(format!("slot {slot} of {process} is missing")))?;
        let entry = self.entry(process, slot, &row)?;
        let is_it = entry.assignment.subject() == id || entry.assignment.item.id() == id;
        is_it.then_some(entry).ok_or_else(not_found)
    }

    /// The entry at a slot, or at the end of the log.
    pub fn at(&self, process: ProcessId, slot: Option<u64>) -> Answer<LogEntry> {
        let (slot, row) = {
            let view = self.index.view()?;
            let last = view.last_slot(process)?.ok_or_else(|| unknown_process(process))?;
            let slot = slot.unwrap_or(last);
            (slot, view.row(process, slot)?)
        };
        let row = row.ok_or_else(not_found)?;
        Ok(self.entry(process, slot, &row)?)
    }

    /// Whether a process is scheduled here, is not permanent, and not on its way there.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub fn is_local(&self, process: ProcessId) -> Answer<bool> {
        if self.index.view()?.last_slot(process)?.is_none() {
            return Ok(false);
        }
        let first = self.at(process, Some(0))?;
        Ok(!self.is_permanent(&first.assignment)?)
    }

    /// Whether a process is permanent, or on its way there; its first assignment is at hand.
    pub fn is_permanent(&self, first: &Assignment) -> Result<bool> {
        let view = self.index.view()?;
        Ok(class(&view, first)? == Class::Permanent || view.stage(first.process)?.is_some())
    }

    fn entry(&self, process: ProcessId, slot: u64, row: &Row) -> Result<LogEntry> {
        let assignment = assignment(&*self.journal, row.assignment)?;
        if (assignment.process, assignment.slot) != (process, slot) {
            let found = format!(
                "slot {slot} of {process} leads to slot {} of {}",
                assignment.slot, assignment.process
            );
            return Err(Error::index(found));
        }
        let content = match row.message {
            None => Content::Elsewhere,
            Some(at) => match self.journal.read(at)? {
                Record::Item(item) => {
                    item.trust_own_log();
                    Content::Item(item)
                }
                Record::Withheld(withheld) => Content::Withheld(withheld),
                Record::Note(_) => {
                    return Err(Error::index(format!("slot {slot} of {process} leads to a note")));
                }
            },
        };
        Ok(LogEntry { assignment, content })
    }
}

/// The assignment at a position.
pub fn assignment(journal: &dyn Journal, at: Position) -> Result<Assignment> {
    let record = journal.read(at)?;
    let item = record
        .item()
        .ok_or_else(|| Error::index(format!("{at:?} holds no assignment")))?;
    item.trust_own_log();
    Ok(Assignment::read(item.clone())?)
}

/// Where a process's log ends; `None` if it has none.
pub fn head(journal: &dyn Journal, view: &View<'_>, process: ProcessId) -> Result<Option<Head>> {
    let Some(last) = view.last_slot(process)? else {
        return Ok(None);
    };
    let at = |slot| {
        let row = view.row(process, slot)?;
        let row = row.ok_or_else(|| Error::index(format!("slot {slot} of {process} is missing")))?;
        assignment(journal, row.assignment)
    };
    let (first, last) = (at(0)?, at(last)?);
    let class = class(view, &first)?;
    Ok(Some(Head::after(&last, class)))
}

/// The class of a process, by its first assignment and what came since.
pub fn class(view: &View<'_>, first: &Assignment) -> Result<Class> {
    let at_spawn = first.item.tag("Storage").and_then(check::class_of);
    let has_arrived = || Ok::<_, Error>(view.stage(first.process)?.is_some_and(|stage| stage.is_done));
    match at_spawn {
        Some(Class::Permanent) => Ok(Class::Permanent),
        _ if has_arrived()? => Ok(Class::Permanent),
        _ => Ok(Class::Local),
    }
}

fn unknown_process(process: ProcessId) -> Refusal {
    let text = format!("Process {process} is not scheduled here");
    Refusal::not_found("unknown-process", text)
}

fn not_found() -> Refusal {
    Refusal::not_found("not-found", "Message or Process not found")
}
