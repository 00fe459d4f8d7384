//! The clock's only part in evaluation: it makes a long-running message stop at its next safepoint.
//! The stopped message is then run again under gas, whose verdict is a function of the log.
//! Invariant: nothing here reaches a result.

use super::pages::Region;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often the watch looks, in ms.
const TICK_MS: u64 = 20;

/// The watch over one machine's running message.
#[derive(Debug)]
pub struct Guarded {
    region: Arc<Region>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    deadline: Option<Instant>,
    fired: bool,
}

impl Guarded {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the message has this long.
    pub fn begin(&self, limit: Duration) {
        self.state().deadline = Some(Instant::now() + limit);
    }

    /// The message is over; says whether it was told to stop.
    pub fn end(&self) -> std::io::Result<bool> {
        let mut state = self.state();
        state.deadline = None;
        let fired = std::mem::take(&mut state.fired);
        if fired {
            self.region.open_safepoint()?;
        }
        Ok(fired)
    }

    /// The message waits for somebody else: its time stands still until [`Guarded::go_on`].
    pub fn stand_still(&self) -> Option<Duration> {
        let deadline = self.state().deadline.take();
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The message runs again, for as long as it had left.
    pub fn go_on(&self, left: Option<Duration>) {
        self.state().deadline = left.map(|left| Instant::now() + left);
    }

    fn look(&self, now: Instant) {
        let mut state = self.state();
        if !state.fired && state.deadline.is_some_and(|d| now >= d) {
            // Should the kernel refuse, the next look tries again.
            state.fired = self.region.close_safepoint().is_ok();
        }
    }
}

/// A thread that looks at all running messages; ends with its engine.
pub struct Watch {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    guarded: Mutex<Vec<Weak<Guarded>>>,
    ended: Mutex<bool>,
    wake: Condvar,
}

impl Watch {
    pub fn start() -> std::io::Result<Watch> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        std::thread::Builder::new()
            .name("cu-watch".into())
            .spawn(move || theirs.run())?;
        Ok(Watch { shared })
    }

    /// Puts a machine's memory under the watch.
    pub fn guard(&self, region: Arc<Region>) -> Arc<Guarded> {
        let guarded = Arc::new(Guarded {
            region,
            state: Mutex::default(),
        });
        let mut all = self.shared.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|g| g.strong_count() > 0);
        all.push(Arc::downgrade(&guarded));
        guarded
    }
}

impl Shared {
    fn run(&self) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            let waited = self.wake.wait_timeout(ended, Duration::from_millis(TICK_MS));
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
            let all = self
                .guarded
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let now = Instant::now();
            all.iter().filter_map(Weak::upgrade).for_each(|g| g.look(now));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
    }
}
