//! What all processes of one compute unit share.
//!
//! Not here: any process's state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use spec::contract::{Answer, Permanent, Scheduler, Stored};
use spec::{ItemId, Refusal};
use tokio::sync::Semaphore;

use crate::ai::Ai;
use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::owners::Owners;
use crate::permanent::Checkpointing;
use crate::pool::Pool;
use crate::program::Modules;
use crate::results::Results;
use crate::runtime::Engine;

/// The unit's parts.
pub struct Shared {
    /// Settings.
    pub config: Config,
    /// Where logs come from.
    pub scheduler: Arc<dyn Scheduler>,
    /// Where modules and assigned items come from.
    pub permanent: Arc<dyn Permanent>,
    /// The way to models.
    pub ai: Arc<Ai>,
    /// The compiler.
    pub engine: Engine,
    /// Compiled modules.
    pub modules: Modules,
    /// Outcomes.
    pub results: Arc<Results>,
    /// Checkpoints.
    pub checkpoints: Checkpoints,
    /// Permanent checkpoints.
    pub checkpointing: Checkpointing,
    /// Threads.
    pub pool: Pool,
    /// Owners of processes.
    pub owners: Owners,
    /// Lets only so many dry runs and state reads go on.
    pub reads: Arc<Semaphore>,
    /// Dry runs and state reads under way or waiting.
    pub reads_waiting: AtomicUsize,
    /// Whether evaluations are to end soon.
    pub is_closing: AtomicBool,
}

impl Shared {
    /// What the weave holds under an id, proven as far as it can be.
    pub async fn fetch(&self, id: ItemId) -> Answer<Stored> {
        let stored = self.permanent.fetch(id).await?;
        if stored.id() != id {
            let text = format!("the weave answers with {} where {id} was asked for", stored.id());
            return Err(Refusal::upstream("wrong-item", text));
        }
        if let Some(item) = stored.item() {
            item.verify()?;
        }
        Ok(stored)
    }
}
