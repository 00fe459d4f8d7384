//! What all tasks of one messenger share: the other units, the key, the queue, and the wakes.
//!
//! Not here: any step of a message's way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use spec::contract::{Answer, Compute, Permanent, Scheduler};
use spec::{ProcessId, Refusal, Signer};
use tokio::sync::{Notify, Semaphore};

use crate::config::Config;
use crate::error::Error;
use crate::monitor::Monitors;
use crate::queue::Queue;
use crate::traces::Traces;

/// The other units, as the contracts show them.
#[derive(Clone)]
pub struct Units {
    /// Gives messages their slots.
    pub scheduler: Arc<dyn Scheduler>,
    /// Evaluates them.
    pub compute: Arc<dyn Compute>,
    /// Keeps items for wallets, and the monitors.
    pub permanent: Arc<dyn Permanent>,
}

/// Shared by all tasks.
pub struct Shared {
    /// Limits.
    pub config: Config,
    /// Signs what we push.
    pub signer: Arc<Signer>,
    /// The other units.
    pub units: Units,
    /// Cursors and what waits.
    pub queue: Arc<Queue>,
    /// For people.
    pub traces: Traces,
    /// Processes whose crons are pushed.
    pub monitors: Monitors,
    /// Processes that have something to do.
    pub wakes: Wakes,
    /// Bounds evaluations.
    pub cranks: Semaphore,
    /// Bounds deliveries.
    pub deliveries: Semaphore,
}

impl Shared {
    /// Runs work on the queue's file away from the async threads.
    pub async fn on_queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Queue) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let queue = self.queue.clone();
        let done = tokio::task::spawn_blocking(move || work(&queue)).await;
        let done = done.map_err(|error| Refusal::internal(format!("work on the queue failed: {error}")))?;
        Ok(done?)
    }
}

/// Milliseconds since 1970: for retries and traces only, never for a result.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// Something may be new in the log.
pub const LOG: u8 = 1;
/// Something may be new among the crons.
pub const CRONS: u8 = 2;

/// Processes to look at, each once however often it was named.
#[derive(Default)]
pub struct Wakes {
    named: Mutex<HashMap<ProcessId, u8>>,
    notify: Notify,
    /// Whether something that was taken is not done yet.
    busy: AtomicBool,
}

impl Wakes {
    /// Names a process. `what` is [`LOG`] or [`CRONS`].
    pub fn wake(&self, process: ProcessId, what: u8) {
        let mut named = self.named.lock().unwrap_or_else(|poison| poison.into_inner());
        *named.entry(process).or_default() |= what;
        drop(named);
        self.notify.notify_one();
    }

    /// Waits until one is named.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Takes all that were named. Whoever takes them is busy until he says otherwise.
    pub fn take(&self) -> HashMap<ProcessId, u8> {
        self.set_busy(true);
        std::mem::take(&mut *self.named.lock().unwrap_or_else(|poison| poison.into_inner()))
    }

    /// Says whether anything that was taken is not done yet.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::SeqCst);
    }

    /// Whether nothing is named and nothing is under way.
    pub fn is_idle(&self) -> bool {
        // In this order: what left the list was marked busy before it left.
        let is_empty = self
            .named
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
            .is_empty();
        is_empty && !self.busy.load(Ordering::SeqCst)
    }
}

/// How the dispatcher reaches a process's running crank.
#[derive(Default)]
pub struct Signal {
    flags: AtomicU8,
    notify: Notify,
}

impl Signal {
    /// Says what may be new.
    pub fn raise(&self, what: u8) {
        self.flags.fetch_or(what, Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// Takes what was said.
    pub fn take(&self) -> u8 {
        self.flags.swap(0, Ordering::AcqRel)
    }

    /// Waits until something is said.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}
