//! What is durable but not in the index yet: visible at once, bounded, handed over in batches.
//!
//! Not here: the index. The invariant: a record leaves this place only after the index has it, so
//! a reader who looks here first and there second misses nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use spec::ItemId;

use crate::config::Config;
use crate::facts;
use crate::frame::payload_len;
use crate::record::{Entry, Position};

/// Where an id was seen, and whether a signed item has it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    position: Position,
    is_signed: bool,
}

/// Records that go into the index together.
#[derive(Debug, Default)]
pub struct Generation {
    chunks: Vec<Arc<Vec<Entry>>>,
    ids: HashMap<ItemId, Seen>,
    records: usize,
    bytes: u64,
}

impl Generation {
    fn add(&mut self, entries: Vec<Entry>) {
        assert!(
            entries.is_sorted_by(|a, b| a.position < b.position),
            "a batch is in the log's order"
        );
        for entry in &entries {
            self.bytes += payload_len(&entry.record);
            let Some((id, is_signed)) = facts::identity(&entry.record) else {
                continue;
            };
            let position = entry.position;
            match self.ids.entry(id) {
                Slot::Vacant(slot) => drop(slot.insert(Seen { position, is_signed })),
                // A signed item wins over registered bytes; else the first one stays.
                Slot::Occupied(mut slot) if is_signed && !slot.get().is_signed => {
                    slot.insert(Seen { position, is_signed });
                }
                Slot::Occupied(_) => {}
            }
        }
        self.records += entries.len();
        self.chunks.push(Arc::new(entries));
    }

    /// The records in the log's order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

#[derive(Default)]
struct State {
    fresh: Generation,
    since: Option<Instant>,
    flushing: Option<Arc<Generation>>,
    closed: bool,
    failed: bool,
}

/// The records between the log and the index.
pub struct Recent {
    state: Mutex<State>,
    changed: Condvar,
    records_max: usize,
    bytes_max: u64,
    flush_records: usize,
    flush_after: Duration,
}

/// What the flusher shall do next.
pub enum Work {
    /// Index these, then say [`Recent::flushed`].
    Flush(Arc<Generation>),
    /// Nothing came for a while.
    Idle,
    /// No more will come.
    Closed,
}

impl Recent {
    /// Nothing yet.
    pub fn new(config: &Config) -> Recent {
        Recent {
            state: Mutex::default(),
            changed: Condvar::new(),
            records_max: config.index_backlog_records_max,
            bytes_max: config.index_backlog_bytes_max,
            flush_records: config.index_flush_records,
            flush_after: Duration::from_millis(config.index_flush_ms),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // State is changed by whole assignments; a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a durable batch. Waits while the index is too far behind; once it is closed, what is
    /// too much is left for the next start.
    pub fn add(&self, entries: Vec<Entry>) {
        let mut state = self.lock();
        while self.is_behind(&state) && !state.failed && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.failed || self.is_behind(&state) {
            return;
        }
        let was_empty = state.fresh.records == 0;
        state.fresh.add(entries);
        if was_empty {
            state.since = Some(Instant::now());
        }
        if was_empty || self.is_full(&state) {
            self.changed.notify_all();
        }
    }

    fn is_behind(&self, state: &State) -> bool {
        state.fresh.records >= self.records_max || state.fresh.bytes >= self.bytes_max
    }

    fn is_full(&self, state: &State) -> bool {
        state.fresh.records >= self.flush_records || state.fresh.bytes >= self.bytes_max / 2
    }

    /// Where an id is, if it is here, and whether a signed item has it.
    pub fn find(&self, id: &ItemId) -> Option<(Position, bool)> {
        let state = self.lock();
        let older = state.flushing.as_ref().and_then(|flushing| flushing.ids.get(id));
        let newer = state.fresh.ids.get(id);
        let best = match (older, newer) {
            (Some(older), Some(newer)) if newer.is_signed && !older.is_signed => Some(newer),
            (older, newer) => older.or(newer),
        };
        best.map(|seen| (seen.position, seen.is_signed))
    }

    /// Everything here, oldest first.
    pub fn snapshot(&self) -> Vec<Arc<Vec<Entry>>> {
        let state = self.lock();
        let flushing = state.flushing.iter().flat_map(|flushing| &flushing.chunks);
        flushing.chain(&state.fresh.chunks).cloned().collect()
    }

    /// Waits for something to do, at most `idle`.
    pub fn work(&self, idle: Duration) -> Work {
        let deadline = Instant::now() + idle;
        let mut state = self.lock();
        loop {
            let due = state.since.map(|since| since + self.flush_after);
            let is_due = due.is_some_and(|due| due <= Instant::now());
            if is_due || self.is_full(&state) || (state.closed && state.since.is_some()) {
                assert!(state.flushing.is_none(), "one flusher, one batch at a time");
                let fresh = Arc::new(std::mem::take(&mut state.fresh));
                (state.since, state.flushing) = (None, Some(fresh.clone()));
                self.changed.notify_all();
                return Work::Flush(fresh);
            }
            let wait = due.unwrap_or(deadline).saturating_duration_since(Instant::now());
            match wait.is_zero() {
                _ if state.closed => return Work::Closed,
                true => return Work::Idle,
                false => {
                    let waited = self.changed.wait_timeout(state, wait);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// The index has the batch.
    pub fn flushed(&self) {
        let flushed = self.lock().flushing.take();
        assert!(flushed.is_some(), "only what was handed over is flushed");
        self.changed.notify_all();
    }

    /// Waits until all that was here is in the index.
    pub fn settle(&self) {
        let mut state = self.lock();
        while !state.failed && !state.closed && (state.flushing.is_some() || state.since.is_some()) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more will come; the flusher finishes what is here.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The index failed: nothing is kept for it any longer.
    pub fn fail(&self) {
        let mut state = self.lock();
        state.failed = true;
        (state.fresh, state.flushing, state.since) = (Generation::default(), None, None);
        self.changed.notify_all();
    }
}
