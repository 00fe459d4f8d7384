//! Permanent checkpoints: states of processes as signed items of the weave, so that a node that lost everything does
//! not have to evaluate its logs from their beginning.
//!
//! Not here: checkpoints on this machine (`checkpoint`), which are a cache. Invariant: a permanent checkpoint is a
//! claim; what a process is stays a function of its log, and a claim that its log does not confirm is left out.
//! Drawn in spec/checkpoint.md.

pub mod confirm;
pub mod find;
pub mod item;
pub mod publish;
pub mod rebuild;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use spec::contract::{Answer, Class};
use spec::{Address, DataItem, ItemId, ProcessId, Signer};
use tokio::sync::Semaphore;

pub use item::{NAMING, naming};
pub use rebuild::{Audit, Progress, Rebuilt};

use crate::program::Program;
use crate::shared::Shared;

/// Checkpoints being made at once.
const MAKING_MAX: usize = 2;
/// Refused checkpoints remembered; beyond it all are looked at anew.
const REFUSED_MAX: usize = 4096;

/// Settings of permanent checkpoints: when they are made, and whose are built on.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Make them, where the node uploads at all.
    pub makes: bool,
    /// Look for them when a process has nothing on this machine.
    pub reads: bool,
    /// Evaluations after which one is made.
    pub evaluations: u64,
    /// Evaluation time after which one is made, in ms.
    pub evaluation_ms: u64,
    /// Bytes that a second of replay is worth: a larger last one asks for more time before the next.
    pub bytes_per_second_saved: u64,
    /// Evaluation time after which one is made whatever it costs, in ms: what a replay from it takes at most, more or
    /// less.
    pub evaluation_ms_max: u64,
    /// Bytes of all of them in a day; beyond it none is made.
    pub bytes_per_day_max: u64,
    /// Bytes of one; a larger one is neither made nor read.
    pub item_bytes_max: u64,
    /// Of so many, one stands alone; the others may be packed against the one before. At most 16.
    pub full_every: u32,
    /// Log entries below which looking for one is not worth it; processes with crons always look.
    pub lookup_slots_min: u64,
    /// Accounts whose checkpoints are built on, beside this node's own.
    pub signers: Vec<Address>,
    /// Whether those of the compute unit are built on that the log's own scheduler names.
    pub trusts_scheduler: bool,
    /// Take this node's own newest one without evaluating from the one before.
    pub takes_own_at_once: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            makes: true,
            reads: true,
            evaluations: 20_000,
            evaluation_ms: 1_000,
            bytes_per_second_saved: 1 << 20,
            evaluation_ms_max: 5_000,
            bytes_per_day_max: 1 << 30,
            item_bytes_max: 64 << 20,
            full_every: 8,
            lookup_slots_min: 256,
            signers: Vec::new(),
            trusts_scheduler: true,
            takes_own_at_once: false,
        }
    }
}

/// Says of a process whether its owner widened it to the permanent class after its spawn.
pub type IsWidened = Arc<dyn Fn(ProcessId) -> bool + Send + Sync>;

/// What it takes to make checkpoints.
#[derive(Clone)]
pub struct Publisher {
    /// The compute unit's key.
    pub signer: Arc<Signer>,
    /// The item by which the scheduler beside it names it ([`naming`]); goes up with the first checkpoint.
    pub naming: Option<DataItem>,
    /// For processes that slot 0 calls local.
    pub is_widened: Option<IsWidened>,
}

impl Publisher {
    fn is_permanent(&self, program: &Program) -> bool {
        let process = program.key.process;
        program.class == Class::Permanent || self.is_widened.as_ref().is_some_and(|widened| widened(process))
    }

    /// The naming item, if the weave does not say the same already.
    async fn naming(&self, shared: &Shared) -> Answer<Option<DataItem>> {
        let Some(item) = &self.naming else { return Ok(None) };
        let named = find::named_by(shared, item.owner_address()).await?;
        let is_said = item::named(item).is_none_or(|own| named.contains(&own));
        Ok((!is_said).then(|| item.clone()))
    }
}

/// A checkpoint that is known of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its item.
    pub id: ItemId,
    /// Who signed it.
    pub signer: Address,
    /// The last message's slot.
    pub slot: u64,
    /// The moment of the last evaluation, in ms.
    pub timestamp_ms: u64,
    /// The cron that it was, if it was one.
    pub cron: Option<String>,
    /// The state root that it claims.
    pub root: [u8; 32],
}

impl find::Candidate {
    /// For a report.
    pub fn known(&self) -> Known {
        let place = &self.says.place;
        Known {
            id: self.id,
            signer: self.signer,
            slot: place.slot,
            timestamp_ms: place.tick.timestamp_ms,
            cron: place.cron.clone(),
            root: self.says.root,
        }
    }
}

/// How far somebody who waits sees a process.
#[derive(Debug, Default)]
pub struct Meter {
    slot: AtomicU64,
    evaluated: AtomicU64,
}

impl Meter {
    fn put(&self, slot: u64, evaluated: u64) {
        self.slot.store(slot, Ordering::Relaxed);
        self.evaluated.fetch_add(evaluated, Ordering::Relaxed);
    }
}

/// What all processes share about permanent checkpoints.
pub struct Checkpointing {
    publisher: OnceLock<Publisher>,
    trusted: Mutex<BTreeSet<Address>>,
    refused: Mutex<BTreeSet<ItemId>>,
    meters: Mutex<HashMap<ProcessId, Arc<Meter>>>,
    making: Arc<Semaphore>,
    budget: publish::Budget,
}

impl Checkpointing {
    /// Nothing is made until there is a publisher.
    pub fn new(settings: &Settings) -> Checkpointing {
        Checkpointing {
            publisher: OnceLock::new(),
            trusted: Mutex::default(),
            refused: Mutex::default(),
            meters: Mutex::default(),
            making: Arc::new(Semaphore::new(MAKING_MAX)),
            budget: publish::Budget::full(settings),
        }
    }

    /// Lets checkpoints be made; the first publisher stays.
    pub fn publish(&self, publisher: Publisher) {
        let _ = self.publisher.set(publisher);
    }

    /// Waits for those being made; none is begun afterwards.
    pub async fn close(&self) {
        // They hold one permit each; an error says that this was done before.
        let _ = self.making.acquire_many(MAKING_MAX as u32).await;
        self.making.close();
    }

    fn publisher(&self) -> Option<&Publisher> {
        self.publisher.get()
    }

    /// This node's account.
    fn own(&self) -> Option<Address> {
        self.publisher().map(|publisher| publisher.signer.address())
    }

    /// Adds accounts whose checkpoints are built on.
    pub fn trust(&self, signers: impl IntoIterator<Item = Address>) {
        locked(&self.trusted).extend(signers);
    }

    fn signers(&self) -> BTreeSet<Address> {
        let mut signers = locked(&self.trusted).clone();
        signers.extend(self.own());
        signers
    }

    fn refuse(&self, id: ItemId) {
        let mut refused = locked(&self.refused);
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        refused.insert(id);
    }

    fn is_refused(&self, id: ItemId) -> bool {
        locked(&self.refused).contains(&id)
    }

    /// Notes how far a process is, for whoever waits for it.
    pub fn note(&self, process: ProcessId, slot: u64, evaluated: u64) {
        if let Some(meter) = locked(&self.meters).get(&process) {
            meter.put(slot, evaluated);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one: what is done under it is a look or a change of a set.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
