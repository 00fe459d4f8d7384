//! The threads that evaluate: few, with stacks deep enough for a module, behind a bounded queue.
//!
//! Evaluations block, so they never run on the async runtime's workers. Not here: what is evaluated.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use spec::Refusal;
use spec::contract::Answer;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::runtime::STACK_BYTES;

/// What our own frames need beyond what a module may use.
const STACK_EXTRA_BYTES: usize = 2 << 20;

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The queue that this thread works for.
    static OWN: RefCell<Option<Arc<Queue>>> = const { RefCell::new(None) };
}

/// Waits for what somebody else computes; meanwhile another thread works in this one's place, as long as no more than
/// `most` wait like this. Elsewhere than on a thread of a pool it only waits.
pub fn aside<T>(most: usize, wait: impl FnOnce() -> T) -> T {
    struct Back(Arc<Queue>);
    impl Drop for Back {
        fn drop(&mut self) {
            self.0.lock().aside -= 1;
        }
    }
    let Some(queue) = OWN.with(|own| own.borrow().clone()) else {
        return wait();
    };
    queue.clone().step_aside(most);
    let _back = Back(queue);
    wait()
}

/// A handle; the threads end when the last one is dropped.
pub struct Pool {
    queue: Arc<Queue>,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    jobs_max: usize,
    /// Threads that are to work at once.
    threads: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
    /// Threads there are.
    threads: usize,
    /// Those that wait aside.
    aside: usize,
}

impl Pool {
    /// Starts the threads.
    pub fn start(threads: usize, jobs_max: usize) -> Result<Pool, Error> {
        assert!(threads > 0, "a pool has threads");
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            jobs_max,
            threads,
        });
        let pool = Pool { queue };
        for _ in 0..threads {
            pool.queue.clone().start_thread().map_err(Error::Thread)?;
        }
        Ok(pool)
    }

    /// Runs a job to its end, also if nobody waits for it any more.
    ///
    /// # Errors
    /// Busy if the queue is full; internal if the job panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let job = move || {
            let _ = reply.send(job());
        };
        self.queue.push(Box::new(job))?;
        answer
            .await
            .map_err(|_| Refusal::internal("an evaluation ended without an answer"))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it: jobs run outside.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Answer<()> {
        let mut state = self.lock();
        if state.jobs.len() >= self.jobs_max {
            let text = format!("{} evaluations are waiting already; try again", self.jobs_max);
            return Err(Refusal::busy("evaluations-waiting", text));
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn start_thread(self: Arc<Queue>) -> std::io::Result<()> {
        self.lock().threads += 1;
        let queue = self.clone();
        let started = std::thread::Builder::new()
            .name("cu-evaluates".into())
            .stack_size(STACK_BYTES + STACK_EXTRA_BYTES)
            .spawn(move || {
                OWN.with(|own| *own.borrow_mut() = Some(queue.clone()));
                queue.work();
            });
        if started.is_err() {
            self.lock().threads -= 1;
        }
        started.map(|_| ())
    }

    /// This thread waits from now on; another is started if that leaves too few.
    fn step_aside(self: Arc<Queue>, most: usize) {
        let is_short = {
            let mut state = self.lock();
            state.aside += 1;
            let working = state.threads - state.aside;
            !state.is_closed && working < self.threads && state.aside <= most
        };
        // Without one more thread the others have more to do, and that is all.
        if is_short && let Err(error) = self.start_thread() {
            tracing::warn!("no thread takes the place of one that waits: {error}");
        }
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            // A panic must cost its own request only; what it held is given up with it.
            if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("an evaluation panicked; its process starts again from its checkpoint");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            // One that took another's place goes when that one is back.
            if state.threads - state.aside > self.threads {
                state.threads -= 1;
                // What woke this one may have been a job.
                self.changed.notify_one();
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_its_own_request_only() {
        let pool = Pool::start(1, 8).unwrap();
        let failed: Answer<()> = pool.run(|| panic!("on purpose")).await;
        assert_eq!(failed.unwrap_err().kind, spec::Kind::Internal);
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn who_waits_aside_keeps_nobody_from_working() {
        let pool = Pool::start(1, 8).unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let waits = pool.run(move || aside(2, || receive.recv().unwrap()));
        let works = pool.run(move || send.send(7).unwrap());
        let (waited, worked) = tokio::join!(waits, works);
        assert_eq!((waited, worked), (Ok(7), Ok(())));
        for n in 0..10 {
            assert_eq!(pool.run(move || n).await, Ok(n));
        }
        let state = pool.queue.lock();
        assert!(state.threads <= 2 && state.aside == 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let pool = Pool::start(1, 0).unwrap();
        assert_eq!(pool.run(|| ()).await.unwrap_err().kind, spec::Kind::Busy);
    }
}
