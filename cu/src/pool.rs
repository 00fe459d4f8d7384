//! The threads that evaluate: few, with stacks deep enough for a module, behind a bounded queue.
//!
//! Evaluations block, so they never run on the async runtime's workers. Not here: what is evaluated.

use std::any::Any;
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
    /// What this thread's job has until it waits aside.
    static TURN: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// Waits for what somebody else computes, while another thread works in this one's place. `None`, at once, where `most`
/// wait like this already or there is no thread to take the place: whoever waits never keeps a thread from those who
/// compute. Elsewhere than on a thread of a pool it only waits.
pub fn aside<T>(most: usize, wait: impl FnOnce() -> T) -> Option<T> {
    struct Back(Arc<Queue>);
    impl Drop for Back {
        fn drop(&mut self) {
            self.0.lock().aside -= 1;
        }
    }
    let Some(queue) = OWN.with(|own| own.borrow().clone()) else {
        return Some(wait());
    };
    if !queue.clone().step_aside(most) {
        return None;
    }
    let _back = Back(queue);
    drop(TURN.with(|turn| turn.borrow_mut().take()));
    Some(wait())
}

/// Keeps something until this thread's job ends or waits aside: a turn to compute, which one that waits does not use.
/// Elsewhere than on a thread of a pool it is let go at once.
pub fn until_aside(turn: impl Any) {
    if OWN.with(|own| own.borrow().is_some()) {
        TURN.with(|own| *own.borrow_mut() = Some(Box::new(turn)));
    }
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

    /// This thread waits from now on, if it may; another is started if that leaves too few.
    fn step_aside(self: Arc<Queue>, most: usize) -> bool {
        let is_short = {
            let mut state = self.lock();
            if state.aside >= most {
                return false;
            }
            state.aside += 1;
            !state.is_closed && state.threads - state.aside < self.threads
        };
        if !is_short {
            return true;
        }
        let started = self.clone().start_thread();
        if let Err(error) = &started {
            tracing::warn!("no thread takes the place of one that would wait: {error}");
            self.lock().aside -= 1;
        }
        started.is_ok()
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            // A panic must cost its own request only; what it held is given up with it.
            if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("an evaluation panicked; its process starts again from its checkpoint");
            }
            drop(TURN.with(|turn| turn.borrow_mut().take()));
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
        let waits = pool.run(move || aside(2, || receive.recv().unwrap()).unwrap());
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
    async fn beyond_the_bound_nobody_waits_and_others_work_on() {
        let pool = Pool::start(1, 8).unwrap();
        let (here, is_here) = std::sync::mpsc::channel();
        let (gates, waits): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let ((send, receive), here) = (std::sync::mpsc::channel::<()>(), here.clone());
                let waits = move || {
                    let wait = || {
                        here.send(()).unwrap();
                        receive.recv().unwrap();
                    };
                    aside(2, wait).is_some()
                };
                (send, pool.run(waits))
            })
            .unzip();
        let waits = futures_util::future::join_all(waits);
        let others = async {
            pool.run(|| ()).await.unwrap();
            (0..2).for_each(|_| is_here.recv().unwrap());
            let refused = pool.run(|| aside(2, || ()).is_none()).await.unwrap();
            assert_eq!(pool.run(|| 7).await, Ok(7));
            gates.iter().for_each(|gate| gate.send(()).unwrap());
            refused
        };
        let (waited, refused) = tokio::join!(waits, others);
        assert!(refused && waited.into_iter().all(Result::unwrap));
        assert_eq!(pool.run(|| aside(2, || 8)).await, Ok(Some(8)));
    }

    #[tokio::test]
    async fn what_is_held_until_aside_is_let_go_there_or_at_the_jobs_end() {
        let pool = Pool::start(1, 8).unwrap();
        let turn = Arc::new(());
        for waits in [true, false] {
            let (held, seen) = (turn.clone(), turn.clone());
            let counts = move || {
                until_aside(held);
                let before = Arc::strong_count(&seen);
                if waits {
                    aside(1, || ());
                }
                (before, Arc::strong_count(&seen))
            };
            assert_eq!(pool.run(counts).await, Ok((3, if waits { 2 } else { 3 })));
            pool.run(|| ()).await.unwrap();
            assert_eq!(Arc::strong_count(&turn), 1);
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let pool = Pool::start(1, 0).unwrap();
        assert_eq!(pool.run(|| ()).await.unwrap_err().kind, spec::Kind::Busy);
    }
}
