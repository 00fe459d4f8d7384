//! A few threads that share the parts of one job, with as little waiting as a token's hundred small jobs allow.
//!
//! Not here: what a job is. Invariant: [`Crew::run`] returns only after every part has run exactly once and no helper
//! holds the job any more; which thread ran which part never shows in a result.
#![allow(
    unsafe_code,
    reason = "a job borrows from its caller's stack while helpers run it"
)]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};

/// Turns that a helper waits for the next job before it sleeps: about 50 µs.
const SPINS: u32 = 2000;

type Job = dyn Fn(usize) + Sync;

/// The caller and its helpers.
pub struct Crew {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    wake: Vec<Thread>,
    turn: Mutex<()>,
}

struct Shared {
    /// Counts jobs; a helper that sees it change takes part.
    job: AtomicUsize,
    /// The job that runs, written only while no helper is busy.
    work: UnsafeCell<Option<(*const Job, usize)>>,
    next: AtomicUsize,
    busy: AtomicUsize,
    failed: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `work` is written by the one caller that holds `turn`, while `busy` is 0, before `job` is advanced (Release);
// helpers read it after they have seen `job` advance (Acquire) and before they lower `busy`.
unsafe impl Sync for Shared {}
// SAFETY: the pointer inside `work` is used only between those two points, while the caller keeps the job alive.
unsafe impl Send for Shared {}

impl Crew {
    /// A crew of that many threads, the caller included.
    pub fn new(threads: usize) -> Crew {
        let shared = Arc::new(Shared {
            job: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let spawn = |_| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("infer".to_owned())
                .spawn(move || shared.help())
        };
        let helpers: Vec<_> = (1..threads.max(1)).filter_map(|n| spawn(n).ok()).collect();
        let wake = helpers.iter().map(|helper| helper.thread().clone()).collect();
        Crew {
            shared,
            helpers,
            wake,
            turn: Mutex::new(()),
        }
    }

    /// Threads, the caller included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs parts 0 to `parts` - 1, each once, on whichever thread is free.
    ///
    /// # Panics
    /// If a part did.
    pub fn run(&self, parts: usize, part: impl Fn(usize) + Sync) {
        if self.helpers.is_empty() || parts < 2 {
            return (0..parts).for_each(part);
        }
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        assert!(
            !self.shared.failed.load(Ordering::Relaxed),
            "a helper thread panicked before"
        );
        let job: *const (dyn Fn(usize) + Sync + '_) = &part;
        // SAFETY: only the lifetime changes; `done` waits, also when a part panics, until no helper uses the pointer.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(job) };
        // SAFETY: `turn` is held and `busy` is 0, so nobody else touches `work`.
        unsafe { *self.shared.work.get() = Some((job, parts)) };
        self.shared.next.store(0, Ordering::Relaxed);
        self.shared.busy.store(self.helpers.len(), Ordering::Relaxed);
        self.shared.job.fetch_add(1, Ordering::Release);
        self.wake.iter().for_each(Thread::unpark);
        let done = Done(&self.shared);
        self.shared.parts(&part, parts);
        drop(done);
        assert!(
            !self.shared.failed.load(Ordering::Relaxed),
            "a helper thread panicked"
        );
    }
}

/// Waits for the helpers when it goes.
struct Done<'a>(&'a Shared);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut turns = 0_u32;
        while self.0.busy.load(Ordering::Acquire) != 0 {
            turns += 1;
            if turns.is_multiple_of(SPINS) {
                thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
        }
    }
}

/// Lowers `busy` when it goes, and reports a panic.
struct Busy<'a>(&'a Shared);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
        self.0.busy.fetch_sub(1, Ordering::Release);
    }
}

impl Shared {
    fn parts(&self, job: &(dyn Fn(usize) + Sync), parts: usize) {
        loop {
            match self.next.fetch_add(1, Ordering::Relaxed) {
                part if part < parts => job(part),
                _ => return,
            }
        }
    }

    fn help(&self) {
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let busy = Busy(self);
            // SAFETY: `job` has advanced and this helper has not lowered `busy`, so the caller waits for it.
            let work = unsafe { (*self.work.get()).map(|(job, parts)| (&*job, parts)) };
            if let Some((job, parts)) = work {
                self.parts(job, parts);
            }
            drop(busy);
        }
    }

    /// The number of the next job, once there is one.
    fn wait(&self, seen: usize) -> usize {
        let mut turns = 0;
        loop {
            let job = self.job.load(Ordering::Acquire);
            if job != seen {
                return job;
            }
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop()
            } else {
                thread::park()
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.job.fetch_add(1, Ordering::Release);
        self.wake.iter().for_each(Thread::unpark);
        for helper in self.helpers.drain(..) {
            // A helper that panicked was reported by `run`.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once() {
        for threads in [1, 2, 5] {
            let crew = Crew::new(threads);
            for parts in [0, 1, 2, 3, 100] {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                crew.run(parts, |part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_small_jobs_lose_nothing() {
        let (crew, sum) = (Crew::new(3), AtomicUsize::new(0));
        for _ in 0..20_000 {
            crew.run(4, |part| {
                sum.fetch_add(part, Ordering::Relaxed);
            });
        }
        assert_eq!(sum.load(Ordering::Relaxed), 6 * 20_000);
    }
}
