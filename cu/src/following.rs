//! Reads a scheduler's log as whoever does not trust it: each entry must follow the one before.
//!
//! Not here: what follows what (`spec::continuity`), and evaluation. The invariant: an entry whose
//! epoch or signer differs from the one before is taken only with the scheduler's own item that
//! says why. Schedulers of other kinds are read, too: two entries may have one time.

use spec::contract::{Answer, LogEntry, Span};
use spec::{Continuity, DataItem, ItemId, Kind, ProcessId, Refusal};

use crate::shared::Shared;

/// Checks a page of a log that begins at a slot, after the assignment `before`. `known` is what an
/// earlier page led to; it is used if it fits.
///
/// # Errors
/// `hash-chain` where an entry does not follow.
pub async fn follow(
    shared: &Shared,
    known: Option<Continuity>,
    process: ProcessId,
    before: Option<(u64, ItemId)>,
    entries: &[LogEntry],
) -> Answer<Continuity> {
    let fits = |log: &Continuity| log.last() == before.map(|(_, id)| id);
    let mut log = match (known.filter(fits), before) {
        (Some(log), _) => log,
        (None, None) => Continuity::start(process).lenient(),
        (None, Some((slot, id))) => after(shared, process, slot, id).await?,
    };
    for entry in entries {
        let assignment = &entry.assignment;
        let mut evidence = Vec::new();
        for id in log.needs(assignment) {
            evidence.extend(item(shared, id).await?);
        }
        log.accept(assignment, &evidence)
            .map_err(|why| broken(process, log.next_slot(), &why.to_string()))?;
    }
    Ok(log)
}

/// Where a log stands after an entry that was evaluated already.
async fn after(shared: &Shared, process: ProcessId, slot: u64, id: ItemId) -> Answer<Continuity> {
    let page = shared.scheduler.log(process, Span::Slots(slot, slot), 1).await?;
    let entry = page.entries.first();
    let entry = entry.filter(|entry| entry.assignment.item.id() == id);
    let entry = entry.ok_or_else(|| {
        broken(
            process,
            slot,
            "another assignment has the slot than the one that was evaluated",
        )
    })?;
    entry.assignment.item.verify()?;
    Ok(Continuity::after(&entry.assignment).lenient())
}

/// An item that shows something, if it is to be had.
async fn item(shared: &Shared, id: ItemId) -> Answer<Option<DataItem>> {
    match shared.fetch(id).await {
        Ok(stored) => Ok(stored.item().cloned()),
        Err(refusal) if refusal.kind == Kind::NotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn broken(process: ProcessId, slot: u64, why: &str) -> Refusal {
    let text = format!("the log of {process} breaks at slot {slot}: {why}");
    Refusal::upstream("hash-chain", text)
}
