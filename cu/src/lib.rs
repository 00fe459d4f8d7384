//! Compute unit: reads a process's log, evaluates its module and keeps results and checkpoints.
//!
//! Not here: scheduling, pushing, signing of messages. Everything it keeps is a cache: deleting it costs
//! a replay of the log and changes nothing.

mod admission;
pub mod ai;
pub mod bench;
mod checkpoint;
mod config;
mod cron;
mod error;
pub mod eval;
mod fields;
mod following;
pub mod http;
mod message;
mod owners;
pub mod permanent;
mod pool;
mod process;
mod program;
mod results;
pub mod rewrite;
mod runner;
pub mod runtime;
mod shared;
pub mod shipped;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use spec::contract::{
    Answer, Compute, DryRun, Evaluated, LogEntry, OutcomesPage, OutcomesQuery, Permanent, Scheduler, Span,
    State, Tick,
};
use spec::{ItemId, Outcome, ProcessId, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub use config::Config;
pub use error::Error;
use message::Encoding;
use process::Command;
use runner::{Fork, Runner, Target};
use runtime::Engine;
use shared::Shared;
pub use shipped::kernel_id;

/// How often unwritten outcomes are written.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How often a request looks for a new owner when the one it asked was just leaving.
const ASKS_MAX: usize = 8;

/// The engine epoch of this build, for slot 0's tag `Engine-Epoch`.
pub fn engine_epoch() -> &'static str {
    Engine::epoch()
}

/// The compute unit.
pub struct Cu {
    shared: Arc<Shared>,
    address: String,
}

impl Cu {
    /// Opens the unit with its caches under `data_dir/cache/cu`. Must be called within a tokio runtime.
    /// `address` is the account shown by `GET /`.
    ///
    /// # Errors
    /// If the caches cannot be opened or made, or threads cannot be started.
    pub fn open(
        config: Config,
        scheduler: Arc<dyn Scheduler>,
        permanent: Arc<dyn Permanent>,
        data_dir: &Path,
        address: String,
    ) -> Result<Arc<Cu>, Error> {
        let folder = data_dir.join("cache").join("cu");
        std::fs::create_dir_all(&folder).map_err(|source| Error::File {
            path: folder.clone(),
            source,
        })?;
        let bounds = runtime::Bounds {
            module_bytes_max: config.module_bytes_max,
            compile_ms_max: config.compile_ms_max,
            ..runtime::Bounds::default()
        };
        let modules = config.modules.clone().unwrap_or_else(|| folder.join("modules"));
        let mut runtime = runtime::Config::default();
        (runtime.cache, runtime.bounds) = (Some(modules), bounds);
        let engine = Engine::new(runtime)?;
        let results = results::Results::open(&folder.join("results.redb"), Engine::epoch(), &config)?;
        let shared = Arc::new(Shared {
            ai: ai::Ai::new(&config.inference, permanent.clone()),
            scheduler,
            permanent,
            engine,
            modules: program::Modules::default(),
            results: Arc::new(results),
            checkpoints: checkpoint::Checkpoints::open(&folder.join("checkpoints"))?,
            checkpointing: permanent::Checkpointing::new(&config.permanent),
            pool: pool::Pool::start(config.thread_count(), config.jobs_max)?,
            owners: owners::Owners::default(),
            reads: Arc::new(Semaphore::new(config.read_count())),
            reads_waiting: 0.into(),
            is_closing: false.into(),
            config,
        });
        tokio::spawn(write_regularly(Arc::downgrade(&shared)));
        Ok(Arc::new(Cu { shared, address }))
    }

    /// The account shown by `GET /`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The scheduler's present.
    pub async fn tick(&self) -> Answer<Tick> {
        self.shared.scheduler.tick().await
    }

    /// Has processes ask models of a service that others use too, instead of one of the unit's own. To be said before
    /// anything is evaluated; says whether it was.
    pub fn infer_with(&self, service: inference::service::Service) -> bool {
        self.shared.ai.share(service)
    }

    /// Has permanent checkpoints made of processes of the permanent class, from now on.
    pub fn publish_checkpoints(&self, publisher: permanent::Publisher) {
        self.shared.checkpointing.publish(publisher);
    }

    /// Builds on the permanent checkpoints of these accounts too.
    pub fn trust_checkpoints(&self, signers: impl IntoIterator<Item = spec::Address>) {
        self.shared.checkpointing.trust(signers);
    }

    /// How many processes hold a machine just now.
    pub fn live_count(&self) -> usize {
        self.shared.owners.live_count()
    }

    /// Puts every process to sleep and writes everything unwritten: the next start replays nothing.
    /// Evaluations under way end after their turn; who waits for more is refused as busy.
    pub async fn close(&self) {
        self.shared.is_closing.store(true, Ordering::Relaxed);
        for handle in self.shared.owners.all() {
            let (reply, answer) = oneshot::channel();
            if handle.commands.send(Command::Sleep(Some(reply))).await.is_ok() {
                // An owner that just left holds nothing.
                let _ = answer.await;
            }
        }
        self.shared.owners.clear();
        self.shared.checkpointing.close().await;
        let results = self.shared.results.clone();
        if let Ok(Err(error)) = self.shared.pool.run(move || results.flush()).await {
            tracing::warn!("outcomes were not written and will be evaluated again: {error}");
        }
    }

    /// Asks a process's owner.
    async fn ask<T>(&self, process: ProcessId, command: impl Fn(oneshot::Sender<T>) -> Command) -> Answer<T> {
        for _ in 0..ASKS_MAX {
            let owner = self.shared.owners.get(&self.shared, process);
            let (reply, answer) = oneshot::channel();
            match owner.commands.try_send(command(reply)) {
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let text = format!("too many requests wait for {process}; try again");
                    return Err(Refusal::busy("requests-waiting", text));
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {}
                Ok(()) => {
                    if let Ok(done) = answer.await {
                        return Ok(done);
                    }
                }
            }
        }
        Err(Refusal::busy(
            "owner-leaving",
            format!("{process} is being put to sleep; try again"),
        ))
    }

    async fn catch_up(&self, process: ProcessId, target: Target) -> Answer<()> {
        self.ask(process, |reply| Command::CatchUp(target, reply)).await?
    }

    /// Evaluates up to a slot, and answers as soon as its outcome is there.
    async fn evaluated(&self, process: ProcessId, slot: u64, message: ItemId) -> Answer<Option<Evaluated>> {
        let mut progress = self.shared.owners.get(&self.shared, process).progress;
        let mut done = std::pin::pin!(self.catch_up(process, Target::Slot(slot)));
        loop {
            tokio::select! {
                done = &mut done => {
                    done?;
                    return self.known(process, message);
                }
                Ok(()) = progress.changed() => {
                    if *progress.borrow_and_update() >= Some(slot)
                        && let Some(at) = self.known(process, message)?
                    {
                        return Ok(Some(at));
                    }
                }
            }
        }
    }

    fn known(&self, process: ProcessId, message: ItemId) -> Answer<Option<Evaluated>> {
        Ok(self.shared.results.of_message(process, message)?)
    }

    async fn entry(&self, process: ProcessId, message: ItemId) -> Answer<LogEntry> {
        if message == ItemId::from(process) {
            return self.shared.scheduler.process(process).await;
        }
        self.shared.scheduler.message(process, message).await
    }

    /// Counts a dry run or a state read until it ends.
    fn read_waits(&self) -> Answer<Waiting> {
        let waiting = Waiting(self.shared.clone());
        let before = self.shared.reads_waiting.fetch_add(1, Ordering::Relaxed);
        if before >= self.shared.config.reads_waiting_max.max(1) {
            let text = "too many dry runs and state reads wait already; try again";
            return Err(Refusal::busy("reads-waiting", text));
        }
        Ok(waiting)
    }

    /// Waits for a turn to read; dry runs must not take every thread from the log. The turn belongs to the
    /// work: a caller who goes away does not end it.
    async fn read_turn(&self, process: ProcessId, at: Option<u64>, waiting: Waiting) -> Answer<ReadTurn> {
        // Before the turn: a process may stand for long at a message that waits for a model, and others are read meanwhile.
        self.catch_up(process, at.map_or(Target::Latest, Target::Slot))
            .await?;
        let permit = self.shared.reads.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Refusal::internal("the semaphore is never closed"))?;
        Ok(ReadTurn {
            permit,
            _waiting: waiting,
        })
    }

    /// A second machine: in the latest state, or in the one right after a slot's message.
    async fn fork(&self, process: ProcessId, at: Option<u64>) -> Answer<Fork> {
        if let Some(fork) = self.ask(process, |reply| Command::Fork(at, reply)).await?? {
            return Ok(fork);
        }
        let slot = at.ok_or_else(|| Refusal::internal("the latest state can always be forked"))?;
        let mut scratch = Runner::new(self.shared.clone(), process, None);
        scratch.wake(slot).await?;
        let (from, max) = (scratch.next_slot(), self.shared.config.replay_slots_max);
        if slot.saturating_sub(from) > max {
            let text =
                format!("the state at slot {slot} is past; this node replays at most {max} slots to find it");
            return Err(Refusal::limit("replay-slots", text));
        }
        scratch.catch_up(Target::Slot(slot)).await?;
        scratch.fork().await
    }

    /// The slot of the last message not later than a moment.
    async fn slot_at(&self, process: ProcessId, to_ms: u64) -> Answer<u64> {
        let scheduler = &self.shared.scheduler;
        let latest = scheduler.latest(process).await?.assignment;
        if latest.tick.timestamp_ms <= to_ms {
            return Ok(latest.slot);
        }
        // The first slot later than the moment lies within low..=high.
        let (mut low, mut high) = (0, latest.slot);
        while low < high {
            let middle = low.midpoint(high);
            let page = scheduler.log(process, Span::Slots(middle, middle), 1).await?;
            let entry = page.entries.first();
            let entry =
                entry.ok_or_else(|| Refusal::upstream("log-incomplete", "the scheduler's log has a gap"))?;
            match entry.assignment.tick.timestamp_ms <= to_ms {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let before = || Refusal::invalid("before-process", format!("{process} did not exist at {to_ms}"));
        low.checked_sub(1).ok_or_else(before)
    }

    /// A list of nothing may be one of an unknown process.
    async fn must_exist(&self, process: ProcessId) -> Answer<()> {
        if self.shared.results.newest_slot(process)?.is_none() {
            self.shared.scheduler.process(process).await?;
        }
        Ok(())
    }

    fn bounded(&self, mut page: OutcomesQuery) -> OutcomesQuery {
        page.limit = page.limit.clamp(1, self.shared.config.page_max.max(1));
        page
    }
}

impl Drop for Cu {
    fn drop(&mut self) {
        self.shared.owners.clear();
    }
}

/// A place among those who read.
struct ReadTurn {
    permit: OwnedSemaphorePermit,
    _waiting: Waiting,
}

struct Waiting(Arc<Shared>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.reads_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes outcomes from time to time, as long as the unit is there.
async fn write_regularly(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        if !shared.results.has_unwritten() {
            continue;
        }
        let results = shared.results.clone();
        if let Ok(Err(error)) = shared.pool.run(move || results.flush()).await {
            tracing::error!("outcomes cannot be written: {error}");
        }
    }
}

#[async_trait]
impl Compute for Cu {
    async fn result(&self, process: ProcessId, message: ItemId) -> Answer<Evaluated> {
        if let Some(at) = self.known(process, message)? {
            return Ok(at);
        }
        let entry = self.entry(process, message).await?;
        let (slot, message) = (entry.assignment.slot, entry.assignment.subject());
        if let Some(at) = self.evaluated(process, slot, message).await? {
            return Ok(at);
        }
        // The state is past the slot, but its outcome is not here: it was lost, or the process began at a checkpoint.
        tracing::info!(%process, slot, "an outcome is not here; that part of the log is evaluated again");
        let done = self.ask(process, |reply| Command::Again(slot, reply)).await?;
        if let Some(at) = self.known(process, message)? {
            return Ok(at);
        }
        done?;
        Err(Refusal::internal(format!(
            "slot {slot} of {process} has no outcome"
        )))
    }

    async fn results(&self, process: ProcessId, page: OutcomesQuery) -> Answer<OutcomesPage> {
        self.must_exist(process).await?;
        self.shared.results.list(process, &self.bounded(page), false)
    }

    async fn crons(&self, process: ProcessId, page: OutcomesQuery) -> Answer<OutcomesPage> {
        self.catch_up(process, Target::Now).await?;
        self.shared.results.list(process, &self.bounded(page), true)
    }

    async fn dry_run(&self, process: ProcessId, run: DryRun) -> Answer<Arc<Outcome>> {
        // A mistake of the caller must not cost an evaluation.
        message::dry_run(process, Tick::default(), &run.message, Encoding::Frame)?;
        let waiting = self.read_waits()?;
        let slot = match run.to {
            Some(id) => Some(self.entry(process, id).await?.assignment.slot),
            None => None,
        };
        let turn = self.read_turn(process, slot, waiting).await?;
        let Fork {
            mut machine,
            stand,
            program,
        } = self.fork(process, slot).await?;
        let encoding = program.module.format().into();
        let message = message::dry_run(process, stand.tick, &run.message, encoding)?;
        let call = move || {
            let ReadTurn { permit, _waiting } = turn;
            pool::until_aside(permit);
            machine
                .call(&message, &program.env)
                .map(|verdict| eval::judge(verdict).0)
        };
        let outcome = self.shared.pool.run(call).await?.map_err(Error::from)?;
        Ok(Arc::new(outcome))
    }

    async fn state(&self, process: ProcessId, to_ms: Option<u64>) -> Answer<State> {
        let waiting = self.read_waits()?;
        let slot = match to_ms {
            Some(to_ms) => Some(self.slot_at(process, to_ms).await?),
            None => None,
        };
        let turn = self.read_turn(process, slot, waiting).await?;
        let Fork {
            mut machine, stand, ..
        } = self.fork(process, slot).await?;
        let read = move || {
            let _turn = turn;
            machine
                .state_root()
                .map(|root| (root, Bytes::copy_from_slice(machine.memory())))
        };
        let (root, memory) = self.shared.pool.run(read).await?.map_err(Error::from)?;
        Ok(State {
            slot: stand.slot,
            tick: stand.tick,
            root,
            memory,
        })
    }

    async fn watch(&self, process: ProcessId, after: Option<u64>) -> Answer<u64> {
        self.must_exist(process).await?;
        loop {
            let mut progress = self.shared.owners.get(&self.shared, process).progress;
            loop {
                let newest = (*progress.borrow_and_update()).max(self.shared.results.newest_slot(process)?);
                if let Some(slot) = newest.filter(|slot| after.is_none_or(|after| *slot > after)) {
                    return Ok(slot);
                }
                if progress.changed().await.is_err() {
                    break;
                }
            }
        }
    }
}
