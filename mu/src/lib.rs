//! The messenger unit: accepts signed items, has them scheduled, and cranks what they cause.
//!
//! It knows the other units only by their contracts. Not here: slots, evaluation, storage other
//! than its own queue. Invariant: an outbox entry is known by (sender, slot, index), which the tag
//! `From-Slot` carries; delivered at least once, it has its effect once.

pub mod config;
mod crank;
mod deliver;
pub mod delivery;
pub mod error;
mod feed;
pub mod http;
pub mod intake;
mod lanes;
pub mod lineage;
mod monitor;
pub mod outbox;
pub mod queue;
mod recover;
mod shared;
mod spawned;
pub mod traces;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use spec::contract::{Answer, Field, Messenger, Pushed, TracePage, TraceQuery};
use spec::{Address, DataItem, ItemId, ProcessId, Signer};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use wire::messenger::Spawned;

pub use config::Config;
pub use error::Error;
pub use shared::Units;

use intake::Kind;
use queue::Queue;
use shared::{LOG, Shared, now_ms};
use traces::{Step, Traces};

/// Name of the queue's file inside the cache folder.
pub const QUEUE_FILE: &str = "mu.redb";

/// Which of the tasks recovers.
const RECOVERY: usize = 0;

/// A running messenger. Dropping it stops all its work, wherever that stands.
pub struct Mu {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Mu {
    /// Opens the queue in `cache_dir` and starts to crank. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// The queue's file cannot be opened.
    pub fn open(
        config: Config,
        cache_dir: &Path,
        signer: Arc<Signer>,
        units: Units,
    ) -> Result<Arc<Mu>, Error> {
        std::fs::create_dir_all(cache_dir)?;
        let queue = Queue::open(&cache_dir.join(QUEUE_FILE), config.queue_cache_bytes)?;
        let shared = Arc::new(Shared {
            signer,
            units,
            queue: Arc::new(queue),
            traces: Traces::new(config.traces_max),
            monitors: Default::default(),
            wakes: Default::default(),
            cranks: Semaphore::new(config.cranks_max),
            deliveries: Semaphore::new(config.deliveries_max),
            config,
        });
        let [recovering, cranking, monitoring] = std::array::from_fn(|_| shared.clone());
        let prepared = Arc::new(Notify::new());
        let may_crank = prepared.clone();
        let recovery = async move {
            recover::prepare(&recovering).await;
            prepared.notify_one();
            recover::run(&recovering).await;
        };
        let crank = async move {
            may_crank.notified().await;
            crank::dispatch(cranking).await;
        };
        let tasks = vec![
            tokio::spawn(recovery),
            tokio::spawn(crank),
            tokio::spawn(flush(shared.clone())),
            tokio::spawn(async move { monitor::run(&monitoring).await }),
        ];
        Ok(Arc::new(Mu { shared, tasks }))
    }

    /// The account that signs what is pushed.
    pub fn address(&self) -> Address {
        self.shared.signer.address()
    }

    /// Reads an item from the body of a request.
    ///
    /// # Errors
    /// See [`intake::read`].
    pub fn read_item(&self, bytes: Bytes) -> Answer<DataItem> {
        intake::read(bytes, self.shared.config.item_bytes_max)
    }

    /// What was decided about a process at its spawn, and what its owner should know. Also logged:
    /// clients of the field show neither headers nor bodies.
    ///
    /// # Errors
    /// The scheduler does not know the process.
    pub async fn spawned(&self, process: ProcessId) -> Answer<Spawned> {
        let slot0 = self.shared.units.scheduler.process(process).await?;
        let spawned = spawned::of(&slot0, self.address());
        for notice in &spawned.notices {
            tracing::warn!(%process, "{notice}");
        }
        Ok(spawned)
    }

    /// Whether everything known is cranked and delivered, and recovery is done.
    pub fn is_idle(&self) -> bool {
        self.tasks[RECOVERY].is_finished() && self.shared.wakes.is_idle()
    }

    /// Stops all work and writes the cursors, so that the next start repeats less.
    pub async fn close(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Err(refusal) = self.shared.on_queue(|queue| queue.flush()).await {
            tracing::warn!("the messenger's cursors are not written: {refusal}");
        }
    }

    fn trace(&self, item: ItemId, process: ProcessId, wallet: String, kind: &str, log: &str) {
        let (process, log) = (Some(process), log.to_owned());
        self.shared.traces.add(Step {
            item,
            process,
            wallet,
            kind,
            cause: None,
            log,
            now_ms: now_ms(),
        });
    }
}

impl Drop for Mu {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Writes cursors while there is work; sleeps while there is none.
async fn flush(shared: Arc<Shared>) {
    let interval = Duration::from_millis(shared.config.flush_interval_ms);
    loop {
        shared.queue.changed.notified().await;
        tokio::time::sleep(interval).await;
        if let Err(refusal) = shared.on_queue(|queue| queue.flush()).await {
            tracing::error!("cursors are not written, a restart will repeat work: {refusal}");
            shared.queue.changed.notify_one();
        }
    }
}

#[async_trait]
impl Messenger for Mu {
    async fn push(&self, item: DataItem) -> Answer<Pushed> {
        let kind = intake::classify(&item, self.shared.config.item_bytes_max)?;
        let (id, wallet) = (item.id(), item.signer_text().into());
        let process = match kind {
            Kind::Message { target } => target,
            Kind::Process => id.into(),
        };
        let name = if kind == Kind::Process {
            "PROCESS"
        } else {
            "MESSAGE"
        };
        if let Err(refusal) = self.shared.units.scheduler.schedule(item).await {
            self.trace(id, process, wallet, name, &format!("refused: {refusal}"));
            return Err(refusal);
        }
        metrics::counter!("mu_pushed").increment(1);
        self.trace(id, process, wallet, name, "scheduled");
        self.shared.wakes.wake(process, LOG);
        Ok(Pushed {
            id,
            process: (kind == Kind::Process).then_some(process),
        })
    }

    async fn assign(
        &self,
        process: ProcessId,
        id: ItemId,
        base_layer: bool,
        exclude: Vec<Field>,
    ) -> Answer<ItemId> {
        let scheduled = self
            .shared
            .units
            .scheduler
            .assign(process, id, base_layer, exclude)
            .await?;
        self.trace(id, process, String::new(), "ASSIGNMENT", "assigned");
        self.shared.wakes.wake(process, LOG);
        Ok(scheduled.assignment)
    }

    async fn monitor(&self, process: ProcessId, item: DataItem) -> Answer<()> {
        monitor::start(&self.shared, process, &item).await
    }

    async fn unmonitor(&self, process: ProcessId, item: DataItem) -> Answer<()> {
        monitor::stop(&self.shared, process, &item).await
    }

    async fn traces(&self, query: TraceQuery) -> Answer<TracePage> {
        Ok(self.shared.traces.page(&query))
    }
}
