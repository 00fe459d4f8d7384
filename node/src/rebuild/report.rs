//! What a rebuild has done, for people and programs; also kept in its folder until all is done.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use spec::contract::Answer;
use spec::{ProcessId, signature};

/// A rebuild.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Whose log it is.
    pub wallet: String,
    /// Carriers taken back.
    pub carriers: u64,
    /// Their bundles' bytes.
    pub bytes: u64,
    /// Items verified in this run; what was kept by one before is not counted.
    pub items: u64,
    /// Slots of all logs.
    pub messages: u64,
    /// Time until the log was whole, in ms.
    pub log_ms: u128,
    /// Time until all was done, in ms.
    pub elapsed_ms: u128,
    /// Newest carriers that the log was taken back without.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// What gateways said that was not needed or not so.
    pub notes: Vec<String>,
    /// How often each gateway answered what is not so, or nothing.
    pub gateways: Vec<(String, usize)>,
    /// Every process.
    pub processes: Vec<Process>,
}

/// One process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// Which.
    pub id: ProcessId,
    /// The last slot of its log.
    pub slot: u64,
    /// Its state root there, in hex.
    pub root: Option<String>,
    /// The slot of the newest checkpoint that its log confirmed.
    pub checkpoint: Option<u64>,
    /// Checkpoints that its log did not confirm.
    pub wrong_checkpoints: usize,
    /// Evaluations it took.
    pub evaluated: u64,
    /// Why it could not be brought back.
    pub error: Option<String>,
}

impl Process {
    /// A process that is not evaluated yet.
    pub fn new(id: ProcessId, slot: u64) -> Process {
        Process {
            id,
            slot,
            root: None,
            checkpoint: None,
            wrong_checkpoints: 0,
            evaluated: 0,
            error: None,
        }
    }
}

impl Report {
    /// Notes what became of a process.
    pub fn put(&mut self, process: ProcessId, answer: Answer<cu::permanent::Rebuilt>) {
        // They stand in the order of their ids.
        let Ok(at) = self.processes.binary_search_by_key(&process, |row| row.id) else {
            return;
        };
        let row = &mut self.processes[at];
        match answer {
            Ok(done) => {
                row.root = Some(signature::hex(&done.root));
                row.checkpoint = done.confirmed.map(|known| known.slot);
                row.wrong_checkpoints = done.wrong.len();
                row.evaluated = done.evaluated;
            }
            Err(refusal) => row.error = Some(refusal.to_string()),
        }
    }

    /// Processes that could not be brought back.
    pub fn failed(&self) -> usize {
        self.processes.iter().filter(|row| row.error.is_some()).count()
    }

    /// Prints it.
    pub fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", serde_json::to_string(self).expect("numbers and texts only"));
            return;
        }
        for id in &self.left_out {
            println!("LEFT OUT: carrier {id}; what it brought is not in this log");
        }
        for note in &self.notes {
            println!("note: {note}");
        }
        for (name, faults) in self.gateways.iter().filter(|(_, faults)| *faults > 0) {
            println!("note: {name} {faults} times answered nothing, or what is not so");
        }
        for row in &self.processes {
            let state = match (&row.root, &row.error) {
                (Some(root), _) => format!("state root {root}"),
                (None, Some(error)) => format!("FAILED: {error}"),
                (None, None) => "not evaluated".into(),
            };
            let from = row
                .checkpoint
                .map(|slot| format!(", checkpoint at {slot} confirmed"));
            println!("{} slot {} {state}{}", row.id, row.slot, from.unwrap_or_default());
        }
        let seconds = (self.elapsed_ms as f64 / 1000.0).max(0.001);
        println!(
            "rebuilt {} processes, {} messages, {} carriers, {:.1} MiB in {seconds:.1} s ({:.0} messages/s); the log in {:.1} s",
            self.processes.len(),
            self.messages,
            self.carriers,
            self.bytes as f64 / 1_048_576.0,
            self.messages as f64 / seconds,
            self.log_ms as f64 / 1000.0
        );
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("rebuild").join("report.json")
}

/// Keeps a report for a run that comes after the log is in its place.
pub fn write(data: &Path, report: &Report) -> Result<()> {
    let (path, draft) = (path(data), data.join("rebuild").join("report.new"));
    let text = serde_json::to_vec(report).expect("numbers and texts only");
    let place = || format!("cannot write {}", path.display());
    std::fs::write(&draft, text).with_context(place)?;
    std::fs::File::open(&draft)
        .and_then(|file| file.sync_all())
        .with_context(place)?;
    std::fs::rename(&draft, &path).with_context(place)?;
    // The log takes its place next: the report must be there by then, too.
    let folder = path.parent().expect("it lies in a folder");
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(place)
}

/// Reads it back.
pub fn read(data: &Path) -> Result<Report> {
    let path = path(data);
    let place = || {
        format!(
            "cannot read {}; remedy: remove the data folder and rebuild again",
            path.display()
        )
    };
    let text = std::fs::read(&path).with_context(place)?;
    serde_json::from_slice(&text).with_context(place)
}
