//! Who watches an asker's answers as they are written. Not here: answers.
//! Invariant: watching never slows or changes an answer: a watcher who does not keep up is let go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ModelRef, Refusal};
use crate::generate::Finish;

/// Events that wait for a watcher; one that has more waiting is let go.
const EVENTS_WAITING: usize = 4096;
/// Watchers of all askers.
pub const WATCHERS_MAX: usize = 1024;

/// What a watcher sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// Which answer: a number of this service, rising.
    pub answer: u64,
    /// The model that writes it.
    pub model: ModelRef,
    /// What is new.
    pub news: News,
}

/// What is new of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Text that is certain.
    Text(String),
    /// It ended. What a process makes of it is told by its outcome alone.
    Ended(Finish),
    /// There is no answer: what was seen of it is worth nothing.
    Refused(String),
}

/// Watchers, each with its number, by whose answers they see.
type ByAsker = HashMap<String, Vec<(u64, SyncSender<Watched>)>>;

/// The watchers of a service.
#[derive(Default)]
pub struct Watchers {
    by_asker: Mutex<ByAsker>,
    next: AtomicU64,
}

/// A watcher's place; dropped, it is free.
pub struct Watch {
    /// What it sees.
    pub seen: Receiver<Watched>,
    asker: String,
    number: u64,
    watchers: Arc<Watchers>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, ByAsker> {
        self.by_asker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new answer's number.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Watches an asker.
    pub fn watch(self: &Arc<Self>, asker: &str) -> Result<Watch, Refusal> {
        let (tell, seen) = sync_channel(EVENTS_WAITING);
        let (number, mut all) = (self.number(), self.lock());
        if all.values().map(Vec::len).sum::<usize>() >= WATCHERS_MAX {
            return Err(Refusal::busy(format!("{WATCHERS_MAX} watch answers already")));
        }
        all.entry(asker.to_owned()).or_default().push((number, tell));
        Ok(Watch {
            seen,
            asker: asker.to_owned(),
            number,
            watchers: Arc::clone(self),
        })
    }

    /// Tells an asker's watchers, if there are any.
    pub fn tell(&self, asker: &str, what: impl FnOnce() -> Watched) {
        let mut all = self.lock();
        if let Some(watchers) = all.get_mut(asker) {
            let what = what();
            watchers.retain(|(_, tell)| tell.try_send(what.clone()).is_ok());
            if watchers.is_empty() {
                all.remove(asker);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = self.watchers.lock();
        if let Some(watchers) = all.get_mut(&self.asker) {
            watchers.retain(|(number, _)| *number != self.number);
            if watchers.is_empty() {
                all.remove(&self.asker);
            }
        }
    }
}
