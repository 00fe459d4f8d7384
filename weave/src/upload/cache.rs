//! The ledger in the cache, so that a start need not read the whole log.
//!
//! Not here: the truth, which is the log's notes. The invariant: a snapshot that is used is of this log and version,
//! and reaches no farther than the log; any other is as good as none.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ledger::{Carrier, Ledger};
use super::note::Told;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::record::Position;

/// Of snapshots written.
const VERSION: u32 = 2;
const FILE: &str = "upload.json";

#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    /// The first segment's salt: which log it is of.
    mark: u32,
    /// Up to where the log's notes are in it.
    end: Option<u64>,
    carriers: Vec<Carrier>,
    days: BTreeMap<u64, u128>,
}

fn mark(log: &Log) -> u32 {
    log.segments().first().map_or(0, |segment| segment.head().salt)
}

/// The ledger of a node that uploads nothing: what went up before is there. A log that has nothing permanent is not read.
/// `folder` is the one with a snapshot, if there is one.
///
/// # Errors
/// Damage to the log; a note of a newer version.
pub fn ledger_of(log: &Log, folder: Option<&Path>) -> Result<Ledger> {
    match log.permanent_from(0).is_empty() {
        true => Ok(Ledger::default()),
        false => open(log, folder),
    }
}

/// The ledger as the log tells it, with the snapshot's help where there is one.
///
/// # Errors
/// Damage to the log; a note of a newer version.
pub fn open(log: &Log, folder: Option<&Path>) -> Result<Ledger> {
    let snapshot = folder.and_then(|folder| read(log, folder));
    let (mut ledger, after) = match snapshot {
        Some(held) => (
            Ledger::restore(held.carriers, held.days),
            held.end.map(Position::from_number),
        ),
        None => (Ledger::default(), None),
    };
    for entry in log.entries(after) {
        let entry = entry?;
        let Some(note) = entry.record.note() else { continue };
        let wrong = |why: String| Error::Note {
            at: entry.position,
            why,
        };
        if let Some(told) = Told::read(note).map_err(|error| wrong(error.to_string()))? {
            let applied = ledger.apply(entry.position, entry.time_ms, &told);
            applied.map_err(|error| wrong(error.to_string()))?;
        }
    }
    Ok(ledger)
}

fn read(log: &Log, folder: &Path) -> Option<Snapshot> {
    let bytes = std::fs::read(folder.join(FILE)).ok()?;
    let held: Snapshot = serde_json::from_slice(&bytes).ok()?;
    let is_ours = held.version == VERSION && held.mark == mark(log);
    (is_ours && held.end <= log.end().map(Position::number)).then_some(held)
}

/// Writes a snapshot. `end` is the log's end before the ledger was last looked at.
///
/// # Errors
/// The operating system's refusal; nothing depends on it.
pub fn write(log: &Log, folder: &Path, ledger: &Ledger, end: Option<Position>) -> std::io::Result<()> {
    let snapshot = Snapshot {
        version: VERSION,
        mark: mark(log),
        end: end.map(Position::number),
        carriers: ledger.carriers().cloned().collect(),
        days: ledger.days().clone(),
    };
    let draft = folder.join("upload.tmp");
    std::fs::write(&draft, serde_json::to_vec(&snapshot)?)?;
    std::fs::rename(draft, folder.join(FILE))
}
