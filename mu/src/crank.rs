//! The crank: the only loop in the system. For each process its evaluations in order, and what
//! they send; a delivered message wakes its receiver, which is cranked in turn.
//!
//! Invariant: a cursor passes an evaluation only after each of its deliveries is settled or stands
//! in the queue's file. So a crash at any point repeats work, and repeated work has no effect.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use spec::{ProcessId, Refusal};
use tokio::task::{Id, JoinError, JoinSet};

use crate::deliver::{self, Attempt};
use crate::delivery::{Delivery, Lane, Place, Tries};
use crate::error::Error;
use crate::feed::{Fed, Feed, Turn};
use crate::lanes::{Lanes, Waiting, Window};
use crate::shared::{Shared, Signal, now_ms};
use crate::traces::Step;

/// Starts a crank for each process that is woken, and ends when it is dropped.
pub async fn dispatch(shared: Arc<Shared>) {
    let mut cranks = Cranks {
        shared: shared.clone(),
        tasks: JoinSet::new(),
        active: HashMap::new(),
    };
    loop {
        tokio::select! {
            () = shared.wakes.wait() => {}
            Some(ended) = cranks.tasks.join_next_with_id(), if !cranks.tasks.is_empty() => cranks.ended(ended),
        }
        for (process, what) in shared.wakes.take() {
            cranks.raise(process, what);
        }
        shared.wakes.set_busy(!cranks.active.is_empty());
        metrics::gauge!("mu_active_processes").set(cranks.active.len() as f64);
    }
}

/// The running cranks. Processes with nothing to do have none and cost nothing.
struct Cranks {
    shared: Arc<Shared>,
    tasks: JoinSet<ProcessId>,
    active: HashMap<ProcessId, (Arc<Signal>, Id)>,
}

impl Cranks {
    fn raise(&mut self, process: ProcessId, what: u8) {
        if let Some((signal, _)) = self.active.get(&process) {
            return signal.raise(what);
        }
        let signal = Arc::new(Signal::default());
        signal.raise(what);
        let (shared, heard) = (self.shared.clone(), signal.clone());
        let task = async move {
            match Crank::open(shared, process, heard) {
                Ok(crank) => crank.run().await,
                Err(error) => tracing::error!(%process, "the process cannot be cranked: {error}"),
            }
            process
        };
        let id = self.tasks.spawn(task).id();
        self.active.insert(process, (signal, id));
    }

    /// What was said while the crank ended is not lost. After a panic the next wake tries again.
    fn ended(&mut self, ended: Result<(Id, ProcessId), JoinError>) {
        match ended {
            Ok((_, process)) => {
                let signal = self.active.remove(&process).map(|(signal, _)| signal);
                match signal.map_or(0, |signal| signal.take()) {
                    0 => {}
                    what => self.raise(process, what),
                }
            }
            Err(error) => {
                tracing::error!("a crank ended badly: {error}");
                self.active.retain(|_, (_, id)| *id != error.id());
            }
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => pending().await,
    }
}

/// What a task of a crank brings back.
enum Event {
    Fed(Box<Feed>, Fed),
    Tried(Lane, Box<Delivery>, Attempt),
}

/// One process being cranked: one evaluation at a time, its deliveries beside it.
struct Crank {
    shared: Arc<Shared>,
    process: ProcessId,
    signal: Arc<Signal>,
    /// At rest here, or away with a task that evaluates.
    feed: Option<Box<Feed>>,
    failures: u32,
    /// Not before this moment the feed goes again; `None`: not before the next wake.
    feed_due_ms: Option<u64>,
    lanes: Lanes,
    window: Window<Place>,
    tasks: JoinSet<Event>,
}

impl Crank {
    fn open(shared: Arc<Shared>, process: ProcessId, signal: Arc<Signal>) -> Result<Crank, Error> {
        let feed = Some(Box::new(Feed::open(&shared, process)?));
        let mut lanes = Lanes::default();
        for (delivery, tries) in shared.queue.pending(process)? {
            lanes.push(delivery.lane(process), Waiting { delivery, turn: None }, tries);
        }
        let (window, tasks) = (Window::default(), JoinSet::new());
        Ok(Crank {
            shared,
            process,
            signal,
            feed,
            failures: 0,
            feed_due_ms: Some(0),
            lanes,
            window,
            tasks,
        })
    }

    async fn run(mut self) {
        loop {
            self.start();
            if self.tasks.is_empty() && self.lanes.is_empty() && self.feed_is_done() {
                return;
            }
            let (signal, due_in) = (self.signal.clone(), self.due_in());
            tokio::select! {
                Some(event) = self.tasks.join_next(), if !self.tasks.is_empty() => match event {
                    Ok(event) => self.on(event).await,
                    // The cursor has not moved: whoever wakes us next repeats what is lost here.
                    Err(error) => return tracing::error!(process = %self.process, "a step ended badly: {error}"),
                },
                () = signal.wait() => self.feed_due_ms = self.feed_due_ms.or(Some(0)),
                () = sleep(due_in) => {}
            }
        }
    }

    /// Starts all that may start now.
    fn start(&mut self) {
        let now_ms = now_ms();
        while let Some((lane, delivery)) = self.lanes.start(now_ms) {
            let (shared, process) = (self.shared.clone(), self.process);
            self.tasks.spawn(async move {
                let attempt = deliver::attempt(&shared, process, &delivery).await;
                Event::Tried(lane, Box::new(delivery), attempt)
            });
        }
        if self.is_full() {
            return;
        }
        let is_due = self.feed_due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        let Some(mut feed) = self.feed.take_if(|_| is_due) else {
            return;
        };
        feed.want(self.signal.take());
        if !feed.is_hungry() {
            self.feed = Some(feed);
            return;
        }
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            let fed = feed.step(&shared).await;
            Event::Fed(feed, fed)
        });
    }

    /// Whether the feed has nothing to do, or is parked until somebody wakes it.
    fn feed_is_done(&self) -> bool {
        let Some(feed) = &self.feed else { return false };
        self.feed_due_ms.is_none() || !feed.is_hungry()
    }

    /// Whether the next evaluation waits until more of what was sent is delivered.
    fn is_full(&self) -> bool {
        let config = &self.shared.config;
        self.window.open_deliveries() >= config.window_max || self.lanes.len() >= config.waiting_max
    }

    /// How long until a waiting lane or the feed is due; `None` if nothing waits for a time.
    fn due_in(&self) -> Option<Duration> {
        let feed_waits = self.feed.as_ref().is_some_and(|feed| feed.is_hungry()) && !self.is_full();
        let feed = self.feed_due_ms.filter(|_| feed_waits);
        let due_ms = self.lanes.next_due_ms().into_iter().chain(feed).min()?;
        // A clock that was set back must not make anything wait longer than it ever would.
        let wait_ms = due_ms
            .saturating_sub(now_ms())
            .min(self.shared.config.retry_most_ms);
        Some(Duration::from_millis(wait_ms))
    }

    async fn on(&mut self, event: Event) {
        match event {
            Event::Fed(feed, fed) => {
                self.feed = Some(feed);
                self.fed(fed).await;
            }
            Event::Tried(lane, delivery, attempt) => self.tried(lane, *delivery, attempt).await,
        }
    }

    async fn fed(&mut self, fed: Fed) {
        match fed {
            Fed::Turn(turn) => {
                self.failures = 0;
                self.turn(turn).await;
            }
            Fed::CaughtUp => self.failures = 0,
            Fed::Failed(refusal) => self.feed_failed(&refusal),
        }
    }

    /// A failing unit is asked again, ever more rarely. One that refuses for good is asked at the
    /// next wake: what it lacks (a module, say) may have come by then.
    fn feed_failed(&mut self, refusal: &Refusal) {
        self.failures += 1;
        let wait_ms = self.shared.config.backoff(self.failures).as_millis() as u64;
        self.feed_due_ms = refusal.is_retryable().then(|| now_ms() + wait_ms);
        metrics::counter!("mu_evaluations_failed").increment(1);
        if self.failures == 1 {
            tracing::warn!(process = %self.process, "its next outcome cannot be had: {refusal}");
            let log = format!("the next outcome cannot be had: {refusal}");
            self.trace(self.process.into(), None, "RESULT", log);
        }
    }

    async fn turn(&mut self, turn: Turn) {
        let Turn {
            place,
            message,
            outbox,
        } = turn;
        for note in &outbox.notes {
            let what = if note.dropped { "not sent" } else { "sent" };
            let log = format!("entry {} of {place}: {what}: {}", note.index, note.why);
            let item = message.unwrap_or(self.process.into());
            self.trace(item, message, "OUTBOX", log);
        }
        if outbox.dropped > 0 {
            metrics::counter!("mu_dropped").increment(outbox.dropped);
            tracing::warn!(process = %self.process, %place, dropped = outbox.dropped, "entries of an outbox are not sent");
        }
        let turn = self.window.open(place, outbox.deliveries.len());
        let mut blocked: Vec<Lane> = Vec::new();
        for delivery in outbox.deliveries {
            let lane = delivery.lane(self.process);
            let waiting = Waiting {
                delivery,
                turn: Some(turn),
            };
            if !self.lanes.push(lane.clone(), waiting, Tries::default()) {
                // It stands in the queue's file since before a restart.
                self.window.settle(turn);
            } else if self.lanes.is_blocked(&lane) && !blocked.contains(&lane) {
                blocked.push(lane);
            }
        }
        for lane in blocked {
            self.park(&lane).await;
        }
        self.close();
    }

    async fn tried(&mut self, lane: Lane, delivery: Delivery, attempt: Attempt) {
        let mut tries = self.lanes.tries(&lane);
        match attempt {
            Attempt::Delivered(how) => self.settle(&lane, &delivery, how.to_owned()),
            Attempt::Refused(refusal) => {
                metrics::counter!("mu_refused").increment(1);
                tracing::warn!(process = %self.process, item = %delivery.item_id(), to = %lane, "not delivered: {refusal}");
                self.settle(&lane, &delivery, format!("refused: {refusal}"));
            }
            Attempt::Again(refusal)
                if tries.attempts + 1 >= self.shared.config.attempts_max && !is_suspended(&refusal) =>
            {
                metrics::counter!("mu_given_up").increment(1);
                tracing::error!(process = %self.process, item = %delivery.item_id(), to = %lane, "given up: {refusal}");
                self.settle(
                    &lane,
                    &delivery,
                    format!("given up after {} attempts: {refusal}", tries.attempts + 1),
                );
            }
            Attempt::Again(refusal) => {
                // A scheduler that waits for its operator may take days: nothing is given up over that.
                tries.attempts = tries.attempts.saturating_add(1);
                tries.due_ms = now_ms() + self.shared.config.backoff(tries.attempts).as_millis() as u64;
                self.lanes.again(&lane, tries);
                metrics::counter!("mu_retries").increment(1);
                if tries.attempts == 1 {
                    self.trace_delivery(&delivery, &lane, format!("waits for another attempt: {refusal}"));
                }
                self.park(&lane).await;
                self.close();
            }
        }
    }

    fn settle(&mut self, lane: &Lane, delivery: &Delivery, log: String) {
        let settled = self.lanes.settle(lane);
        match settled.turn {
            Some(turn) => self.window.settle(turn),
            None => self.shared.queue.remove(self.process, &delivery.order),
        }
        self.trace_delivery(delivery, lane, log);
        self.close();
    }

    /// Makes a blocked lane durable, so that the cursor need not wait for it. If the queue's file
    /// has no room, the cursor waits instead.
    async fn park(&mut self, lane: &Lane) {
        let rows = self.lanes.waiting(lane);
        let room = self
            .shared
            .config
            .pending_max
            .saturating_sub(self.shared.queue.pending_rows());
        if rows.is_empty() || rows.len() as u64 > room {
            return;
        }
        let process = self.process;
        match self
            .shared
            .on_queue(move |queue| queue.park(process, &rows))
            .await
        {
            Ok(()) => {
                for turn in self.lanes.release(lane) {
                    self.window.settle(turn);
                }
            }
            Err(refusal) => tracing::error!(%process, "what waits is not durable: {refusal}"),
        }
    }

    /// Moves the cursors over all that is settled.
    fn close(&mut self) {
        while let Some(place) = self.window.close() {
            match place.cron {
                None => self.shared.queue.set_next_slot(self.process, place.slot + 1),
                Some(_) => self.shared.queue.set_last_cron(self.process, place),
            }
        }
    }

    fn trace_delivery(&self, delivery: &Delivery, lane: &Lane, log: String) {
        let entry = delivery
            .from_slot()
            .map(|entry| format!(" (entry {entry})"))
            .unwrap_or_default();
        let log = format!("to {lane}{entry}: {log}");
        self.trace(delivery.item_id(), Some(delivery.origin), delivery.kind(), log);
    }

    fn trace(&self, item: spec::ItemId, cause: Option<spec::ItemId>, kind: &str, log: String) {
        let wallet = self.process.to_string();
        let process = Some(self.process);
        self.shared.traces.add(Step {
            item,
            process,
            wallet,
            kind,
            cause,
            log,
            now_ms: now_ms(),
        });
    }
}
/// Whether a scheduler gives no slots until its operator says so.
fn is_suspended(refusal: &Refusal) -> bool {
    refusal.code == "scheduling-suspended"
}
