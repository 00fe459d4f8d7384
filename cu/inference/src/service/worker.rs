//! A thread that owns a loaded model, and the inbox through which asks reach it.
//!
//! Not here: what it does with them. Invariant: an ask that was let in is answered, refused, or its asker sees the
//! worker gone; a worker that ended lets nothing in.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::Refusal;
use super::queue::{Queue, Waits};

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all askers.
    pub queue_max: usize,
    /// Of one.
    pub asker_max: usize,
}

/// Where asks wait for a worker.
pub struct Inbox<J> {
    state: Mutex<State<J>>,
    wake: Condvar,
    limits: Limits,
}

/// What an inbox holds.
pub struct State<J> {
    pub queue: Queue<J>,
    closed: bool,
}

impl<J: Waits> Inbox<J> {
    pub fn lock(&self) -> MutexGuard<'_, State<J>> {
        // A panic elsewhere leaves the queue whole: each change of it is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue, once something waits in it; `None` when the inbox is closed and empty.
    pub fn wait(&self) -> Option<MutexGuard<'_, State<J>>> {
        let mut state = self.lock();
        while state.queue.waiting() == 0 {
            if state.closed {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Some(state)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }
}

/// A worker's handle; dropped, it waits for the thread to end.
pub struct Worker<J> {
    inbox: Arc<Inbox<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Waits + Send + 'static> Worker<J> {
    /// Starts one. Fails where the system has no thread left.
    pub fn start(limits: Limits, run: impl FnOnce(&Inbox<J>) + Send + 'static) -> Result<Worker<J>, Refusal> {
        let state = State {
            queue: Queue::new(),
            closed: false,
        };
        let inbox = Arc::new(Inbox {
            state: Mutex::new(state),
            wake: Condvar::new(),
            limits,
        });
        let shared = Leaves(Arc::clone(&inbox));
        let thread = thread::Builder::new().name("model".to_owned());
        let thread = thread.spawn(move || run(&shared.0));
        Ok(Worker {
            inbox,
            thread: Some(thread.map_err(|error| Refusal::room(format!("no thread: {error}")))?),
        })
    }

    /// Lets an ask in.
    pub fn submit(&self, job: J) -> Result<(), Refusal> {
        let mut state = self.inbox.lock();
        let Limits { queue_max, asker_max } = self.inbox.limits;
        if state.closed {
            return Err(Refusal::busy("the model is being loaded anew"));
        }
        if state.queue.waiting() >= queue_max {
            return Err(Refusal::busy(format!("{queue_max} asks wait for this model")));
        }
        if state.queue.waiting_of(job.asker()) >= asker_max {
            return Err(Refusal::busy(format!(
                "{asker_max} asks of one asker wait for this model"
            )));
        }
        state.queue.push(job);
        self.inbox.wake.notify_all();
        Ok(())
    }

    /// Asks that wait.
    pub fn waiting(&self) -> usize {
        self.inbox.lock().queue.waiting()
    }

    /// Whether it ended, for whatever reason.
    pub fn is_over(&self) -> bool {
        self.inbox.lock().closed
    }
}

/// Closes the inbox when its worker ends, even by a panic, and lets go of what waits there.
struct Leaves<J: Waits>(Arc<Inbox<J>>);

impl<J: Waits> Drop for Leaves<J> {
    fn drop(&mut self) {
        self.0.close();
        let left = self.0.lock().queue.drain();
        drop(left);
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.inbox
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.inbox.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has already let its askers go.
            let _ended = thread.join();
        }
    }
}
