//! The owners of processes, and which of them hold a machine.
//!
//! Not here: what an owner does. Beyond the bounds of configuration the least recently used machines are
//! told to sleep.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spec::ProcessId;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::process::{self, Command};
use crate::shared::Shared;

/// Bytes of a page in `/proc/self/statm`.
const PAGE_BYTES: u64 = 4096;

/// The way to an owner.
#[derive(Clone)]
pub struct Handle {
    /// To ask it something.
    pub commands: mpsc::Sender<Command>,
    /// The newest slot it has evaluated since it was started.
    pub progress: watch::Receiver<Option<u64>>,
}

/// All owners.
#[derive(Default)]
pub struct Owners(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    handles: HashMap<ProcessId, Handle>,
    /// Processes with a machine, and when each was last used, in turns.
    live: HashMap<ProcessId, u64>,
    turn: u64,
}

impl Owners {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner of a process, started if there is none.
    pub fn get(&self, shared: &Arc<Shared>, id: ProcessId) -> Handle {
        let mut inner = self.inner();
        if let Some(handle) = inner
            .handles
            .get(&id)
            .filter(|handle| !handle.commands.is_closed())
        {
            return handle.clone();
        }
        let handle = process::start(shared, id);
        inner.handles.insert(id, handle.clone());
        handle
    }

    /// Takes an owner out of the map; it must end then.
    pub fn retire(&self, id: ProcessId) -> bool {
        self.inner().handles.remove(&id).is_some()
    }

    /// Notes that a process was used and holds a machine; tells others to sleep if there are too many.
    pub fn touch(&self, id: ProcessId, config: &Config) {
        let mut inner = self.inner();
        inner.turn += 1;
        let turn = inner.turn;
        let is_new = inner.live.insert(id, turn).is_none();
        metrics::gauge!("cu_live_processes").set(inner.live.len() as f64);
        let mut too_many = inner.live.len().saturating_sub(config.live_max.max(1));
        if is_new && too_many == 0 && is_memory_short(config) {
            too_many = 1;
        }
        for _ in 0..too_many {
            inner.send_oldest_to_sleep(id);
        }
    }

    /// Notes that a process holds no machine.
    pub fn forget(&self, id: ProcessId) {
        self.inner().live.remove(&id);
    }

    /// How many processes hold a machine.
    pub fn live_count(&self) -> usize {
        self.inner().live.len()
    }

    /// All owners there are.
    pub fn all(&self) -> Vec<Handle> {
        self.inner().handles.values().cloned().collect()
    }

    /// Lets every owner end once it has done what it was asked.
    pub fn clear(&self) {
        self.inner().handles.clear();
    }
}

impl Inner {
    fn send_oldest_to_sleep(&mut self, but: ProcessId) {
        let others = self.live.iter().filter(|(id, _)| **id != but);
        let Some(oldest) = others.min_by_key(|(_, turn)| **turn).map(|(id, _)| *id) else {
            return;
        };
        self.live.remove(&oldest);
        // One whose queue is full is in use: it comes back by its next command.
        if let Some(handle) = self.handles.get(&oldest) {
            let _ = handle.commands.try_send(Command::Sleep(None));
        }
    }
}

fn is_memory_short(config: &Config) -> bool {
    config.resident_bytes_max > 0 && resident_bytes().is_some_and(|bytes| bytes > config.resident_bytes_max)
}

/// Resident memory of this program; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}
