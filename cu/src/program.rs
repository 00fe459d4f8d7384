//! Programs: what a process runs, loaded from its log's first entry and its module.
//!
//! A module is compiled once and shared. A failure to load is never remembered: once the module is
//! there, or configuration allows it, the process runs (invariant 6).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use spec::assignment::MODULE_USED;
use spec::contract::{Answer, Class, LogEntry, Stored};
use spec::{DataItem, ItemId, ModuleId, ProcessId, Refusal, Tag, Tags};
use tokio::sync::OnceCell;

use crate::admission::{self, Admitted};
use crate::checkpoint::Key;
use crate::cron::Schedule;
use crate::error::from_runtime;
use crate::message;
use crate::runtime::{Engine, Limits, Module, ModuleFormat, Oracle};
use crate::shared::Shared;

/// A process's unchanging part.
pub struct Program {
    /// The process item.
    pub process: DataItem,
    /// Its environment, as its module takes it.
    pub env: Bytes,
    /// Its crons.
    pub schedule: Schedule,
    /// Its compiled module.
    pub module: Module,
    /// Its limits.
    pub limits: Limits,
    /// What answers its questions, if it may ask.
    pub oracle: Option<Arc<dyn Oracle>>,
    /// What its checkpoints are of.
    pub key: Key,
    /// The module that runs.
    pub module_id: ModuleId,
    /// Where its items go, as slot 0 says.
    pub class: Class,
}

impl Program {
    /// Loads a process's program.
    ///
    /// # Errors
    /// Not found where process or module are not; `module-…` or a limit where the module cannot run here.
    pub async fn load(shared: &Shared, id: ProcessId) -> Answer<Program> {
        let slot0 = shared.scheduler.process(id).await?;
        let process = process_item(&slot0, id)?;
        let named = module_id(process)?;
        let used = module_used(&slot0)?;
        let module_id = used.unwrap_or(named);
        let source = shared.modules.get(shared, module_id).await?;
        let admitted = admission::admit(process.tags(), &source.tags, &shared.config);
        // Registered bytes and their tags can be replaced: they are looked up again next time.
        let Admitted { limits, asks, .. } = admitted.inspect_err(|_| shared.modules.forget(module_id))?;
        let module = source.module.clone();
        check_epoch(shared, &slot0, id, module.format())?;
        let encoding = module.format().into();
        let tags = env_tags(&source.tags, named, module_id);
        let env = message::env(process, named, &source.owner, &tags, encoding);
        let sha256: String = module.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Program {
            env: env.into(),
            schedule: Schedule::of(process.tags(), &slot0),
            limits,
            oracle: asks.map(|asks| shared.ai.oracle(id, asks)),
            key: Key {
                process: id,
                module: sha256,
                epoch: Engine::epoch_of(module.format()).to_owned(),
                module_used: used,
            },
            process: process.clone(),
            module,
            module_id,
            class: match slot0.assignment.item.tag("Storage") {
                Some("permanent") => Class::Permanent,
                _ => Class::Local,
            },
        })
    }
}

fn process_item(slot0: &LogEntry, id: ProcessId) -> Answer<&DataItem> {
    let item = slot0.item().filter(|item| item.id() == ItemId::from(id));
    item.ok_or_else(|| {
        let text = format!("the log of {id} does not begin with its process item: it cannot be evaluated");
        Refusal::not_found("process-item-missing", text)
    })
}

fn module_id(process: &DataItem) -> Answer<ModuleId> {
    let text = process.tag("Module").unwrap_or("");
    text.parse().map_err(|_| {
        let text = format!("the process's tag `Module` is `{text}`, which is no id");
        Refusal::invalid("module-missing", text)
    })
}

/// The module that the scheduler's node decided on at spawn. Nothing else counts: bytes that came
/// under the process's own module since change nothing.
fn module_used(slot0: &LogEntry) -> Answer<Option<ModuleId>> {
    let used = slot0.assignment.module_used();
    used.map_err(|error| Refusal::invalid("module-used", format!("the log's first entry: {error}")))
}

/// The module's tags as its process sees them; one that stands in for another says so.
fn env_tags(tags: &Tags, named: ModuleId, used: ModuleId) -> Tags {
    let mut tags = tags.clone();
    if used != named {
        tags.push(Tag::new(MODULE_USED, used.to_string()));
    }
    tags
}

/// Another engine epoch may give another result in a corner: said loudly, or refused where an operator asks so.
fn check_epoch(shared: &Shared, slot0: &LogEntry, id: ProcessId, format: ModuleFormat) -> Answer<()> {
    let Some(epoch) = slot0.assignment.item.tag("Engine-Epoch") else {
        return Ok(());
    };
    if Engine::reproduces(epoch, format) {
        return Ok(());
    }
    let text = format!(
        "{id} was spawned under engine epoch `{epoch}`, this node runs `{}`",
        Engine::epoch()
    );
    if shared.config.engine_epoch_strict {
        return Err(Refusal::invalid("module-epoch", text));
    }
    tracing::warn!("{text}");
    Ok(())
}

/// A module as loaded.
pub struct Source {
    /// The compiled module.
    pub module: Module,
    /// Its tags.
    pub tags: Tags,
    /// Its owner's account.
    pub owner: String,
}

/// The modules in use, each compiled once.
#[derive(Default)]
pub struct Modules(Mutex<Inner>);

/// Empty until its module is loaded.
type Cell = Arc<OnceCell<Arc<Source>>>;

#[derive(Default)]
struct Inner {
    turn: u64,
    /// With the turn of its last use.
    cells: HashMap<ModuleId, (u64, Cell)>,
}

impl Modules {
    /// A module, from memory or else from the weave.
    async fn get(&self, shared: &Shared, id: ModuleId) -> Answer<Arc<Source>> {
        let cell = self.cell(id, shared.config.modules_max);
        // A failed load leaves the cell empty: the next request tries again.
        cell.get_or_try_init(|| load(shared, id)).await.cloned()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: ModuleId) {
        self.inner().cells.remove(&id);
    }

    fn cell(&self, id: ModuleId, modules_max: usize) -> Cell {
        let mut inner = self.inner();
        inner.turn += 1;
        let turn = inner.turn;
        if inner.cells.len() >= modules_max.max(1) && !inner.cells.contains_key(&id) {
            let oldest = inner
                .cells
                .iter()
                .min_by_key(|(_, (turn, _))| *turn)
                .map(|(id, _)| *id);
            oldest.and_then(|oldest| inner.cells.remove(&oldest));
        }
        let entry = inner.cells.entry(id).or_default();
        entry.0 = turn;
        entry.1.clone()
    }
}

async fn load(shared: &Shared, id: ModuleId) -> Answer<Arc<Source>> {
    let stored = shared
        .fetch(id.into())
        .await
        .map_err(|refusal| missing(id, refusal))?;
    let (tags, wasm) = (stored.tags(), data(&stored, id)?);
    if wasm.len() > shared.config.module_bytes_max {
        let text = format!(
            "the module {id} has {} bytes, this node loads at most {}",
            wasm.len(),
            shared.config.module_bytes_max
        );
        return Err(Refusal::limit("module-bytes", text));
    }
    // The format is the module's own affair; a process's limits are checked per process.
    let format = admission::format(&tags)?;
    let engine = shared.engine.clone();
    let loaded = shared.pool.run(move || engine.load(&wasm, format)).await?;
    let module = loaded.map_err(from_runtime)?;
    Ok(Arc::new(Source {
        module,
        tags,
        owner: stored.owner_text(),
    }))
}

fn missing(id: ModuleId, refusal: Refusal) -> Refusal {
    if refusal.kind != spec::Kind::NotFound {
        return refusal;
    }
    Refusal::not_found(
        "module-not-found",
        format!("the module {id} is not in the weave; add it with `weft module add`"),
    )
}

fn data(stored: &Stored, id: ModuleId) -> Answer<Bytes> {
    let withheld = || {
        Refusal::not_found(
            "module-withheld",
            format!("the data of the module {id} was withheld"),
        )
    };
    stored.data().ok_or_else(withheld)
}
