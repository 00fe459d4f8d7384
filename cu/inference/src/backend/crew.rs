//! A few threads that share the parts of one job, with as little waiting as a token's hundred small jobs allow.
//!
//! Not here: what a job is. Invariant: [`Crew::run`] returns only after every part has run exactly once and no helper
//! holds the job any more; which thread ran which part never shows in a result.
#![allow(
    unsafe_code,
    reason = "a job borrows from its caller's stack while helpers run it"
)]

use std::cell::UnsafeCell;
use std::ops::Range;
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

/// What has a cache line to itself, and the one that a processor fetches along with it.
#[repr(align(128))]
struct Apart<T>(T);

/// [`Shared::state`] counts jobs in steps of this; below it are the helpers that are inside the current one.
const JOB: usize = 1 << 16;
/// No helper may go inside any more.
const CLOSED: usize = JOB - 1;

struct Shared {
    state: Apart<AtomicUsize>,
    /// The job that runs, written only while it is closed.
    work: UnsafeCell<Option<(*const Job, usize)>>,
    /// Of each thread, the next of its own parts.
    next: Vec<Apart<AtomicUsize>>,
    failed: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `work` is written by the one caller that holds `turn`, while the state is closed, before it is opened
// (Release); helpers read it after they have gone inside (Acquire) and before they leave.
unsafe impl Sync for Shared {}
// SAFETY: the pointer inside `work` is used only between those two points, while the caller keeps the job alive.
unsafe impl Send for Shared {}

impl Crew {
    /// A crew of that many threads, the caller included.
    pub fn new(threads: usize) -> Crew {
        let threads = threads.clamp(1, CLOSED);
        let shared = Arc::new(Shared {
            state: Apart(AtomicUsize::new(CLOSED)),
            work: UnsafeCell::new(None),
            next: (0..threads).map(|_| Apart(AtomicUsize::new(0))).collect(),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let spawn = |thread| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("infer".to_owned())
                .spawn(move || shared.help(thread))
        };
        let helpers: Vec<_> = (1..threads).filter_map(|n| spawn(n).ok()).collect();
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

    /// Runs parts 0 to `parts` - 1, each once: of neighbours the same threads' as far as those keep pace, so that a
    /// job's part finds near by what the same part of the job before it left.
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
        // SAFETY: only the lifetime changes; `close` waits, also when a part panics, until no helper uses the pointer.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(job) };
        // SAFETY: `turn` is held and the state is closed, so nobody else touches `work`.
        unsafe { *self.shared.work.get() = Some((job, parts)) };
        for (thread, next) in self.shared.next.iter().enumerate() {
            next.0
                .store(self.shared.own(thread, parts).start, Ordering::Relaxed);
        }
        self.shared.state.0.fetch_add(1, Ordering::Release);
        self.wake.iter().for_each(Thread::unpark);
        let close = Close(&self.shared);
        self.shared.parts(0, &part, parts);
        drop(close);
        assert!(
            !self.shared.failed.load(Ordering::Relaxed),
            "a helper thread panicked"
        );
    }
}

/// Waits until no helper is inside the job and none can go inside, when it goes. Who comes late is not waited for.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let mut turns = 0_u32;
        loop {
            let state = self.0.state.0.load(Ordering::Relaxed);
            let empty = state.is_multiple_of(JOB);
            let close = |state| {
                let (to, order) = (state + CLOSED, Ordering::Acquire);
                let word = &self.0.state.0;
                word.compare_exchange(state, to, order, Ordering::Relaxed).is_ok()
            };
            if empty && close(state) {
                return;
            }
            turns += 1;
            if turns.is_multiple_of(SPINS) {
                thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
        }
    }
}

/// Leaves the job when it goes, and reports a panic.
struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
        self.0.state.0.fetch_sub(1, Ordering::Release);
    }
}

impl Shared {
    /// The parts that are a thread's own.
    fn own(&self, thread: usize, parts: usize) -> Range<usize> {
        let from = |thread| parts * thread / self.next.len();
        from(thread)..from(thread + 1)
    }

    /// A thread's own parts, then what the others have not come to.
    fn parts(&self, thread: usize, job: &(dyn Fn(usize) + Sync), parts: usize) {
        let threads = self.next.len();
        for whose in (thread..threads).chain(0..thread) {
            let (next, end) = (&self.next[whose].0, self.own(whose, parts).end);
            // Looking first spares the owner of the line from losing it for nothing.
            while next.load(Ordering::Relaxed) < end {
                match next.fetch_add(1, Ordering::Relaxed) {
                    part if part < end => job(part),
                    _ => break,
                }
            }
        }
    }

    fn help(&self, thread: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let inside = Inside(self);
            // SAFETY: this helper is inside the job, so the caller waits for it.
            let work = unsafe { (*self.work.get()).map(|(job, parts)| (&*job, parts)) };
            if let Some((job, parts)) = work {
                self.parts(thread, job, parts);
            }
            drop(inside);
        }
    }

    /// Goes inside the next job after the one numbered `seen`, and returns its number.
    fn wait(&self, seen: usize) -> usize {
        let mut turns = 0;
        loop {
            let state = self.state.0.load(Ordering::Relaxed);
            if state / JOB != seen && state % JOB != CLOSED {
                let word = &self.state.0;
                let enter = word.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
                if enter.is_ok() {
                    return state / JOB;
                }
                continue;
            }
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop()
            } else {
                thread::park();
                turns = 0;
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.state.0.fetch_add(1, Ordering::Release);
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
    fn a_part_that_panics_is_reported_whoever_had_it() {
        for bad in [0, 99] {
            let (crew, runs) = (Crew::new(2), AtomicUsize::new(0));
            let job = std::panic::AssertUnwindSafe(|| {
                crew.run(100, |part| {
                    assert!(part != bad, "as it should");
                    runs.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(std::panic::catch_unwind(job).is_err());
            assert!(runs.into_inner() <= 99);
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
