//! The threads that evaluate: few, with stacks deep enough for a module, behind a bounded queue.
//!
//! Evaluations block, so they never run on the async runtime's workers. Not here: what is evaluated.

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

/// A handle; the threads end when the last one is dropped.
pub struct Pool {
    queue: Arc<Queue>,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    jobs_max: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Pool {
    /// Starts the threads.
    pub fn start(threads: usize, jobs_max: usize) -> Result<Pool, Error> {
        assert!(threads > 0, "a pool has threads");
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            jobs_max,
        });
        for index in 0..threads {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(format!("cu-{index}"))
                .stack_size(STACK_BYTES + STACK_EXTRA_BYTES)
                .spawn(move || queue.work())
                .map_err(Error::Thread)?;
        }
        Ok(Pool { queue })
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
    async fn a_full_queue_refuses() {
        let pool = Pool::start(1, 0).unwrap();
        assert_eq!(pool.run(|| ()).await.unwrap_err().kind, spec::Kind::Busy);
    }
}
