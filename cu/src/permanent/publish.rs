//! Makes permanent checkpoints: when one is due, against what it is packed, and how it reaches the weave.
//!
//! It works on a second machine, so the process goes on meanwhile. Not here: any influence on what is evaluated; a
//! checkpoint that is not made costs a longer replay and nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use spec::contract::{Answer, Class};
use spec::{DataItem, ItemId, Refusal};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::item::{Before, DEPTH_MAX, Place, Statement};
use super::{Publisher, Settings, find};
use crate::error::Error;
use crate::program::Program;
use crate::runner::Fork;
use crate::runtime::{Machine, State};
use crate::shared::Shared;

/// What happened to a process since its newest permanent checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// Evaluations.
    pub evaluations: u64,
    /// Time they took, in ms.
    pub ms: u64,
    /// That checkpoint; `None` where this machine has made none that it knows of.
    pub last: Option<ItemId>,
    /// Bytes of that checkpoint's data.
    pub bytes: u64,
}

impl Since {
    /// Whether the replay that another one saves is long enough, and worth as many bytes as the last one had.
    pub fn is_due(&self, settings: &Settings) -> bool {
        let is_long = self.evaluations >= settings.evaluations || self.ms >= settings.evaluation_ms;
        let worth = self.ms.max(1).saturating_mul(settings.bytes_per_second_saved) / 1000;
        let is_due = is_long && worth >= self.bytes || self.ms >= settings.evaluation_ms_max;
        self.evaluations > 0 && is_due
    }

    /// Begins anew when one is being made.
    pub fn restart(&mut self) {
        (self.evaluations, self.ms) = (0, 0);
    }
}

/// What may be spent: bytes of a day, refilled evenly.
#[derive(Debug)]
pub struct Budget(Mutex<(f64, Instant)>);

impl Budget {
    /// A whole day's worth.
    pub fn full(settings: &Settings) -> Budget {
        Budget(Mutex::new((settings.bytes_per_day_max as f64, Instant::now())))
    }

    /// Whether anything is left; what is spent may go below nothing once.
    fn has_some(&self, settings: &Settings) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let day = settings.bytes_per_day_max as f64;
        let refill = day * left.1.elapsed().as_secs_f64() / 86_400.0;
        *left = ((left.0 + refill).min(day), Instant::now());
        left.0 > 0.0
    }

    fn spend(&self, bytes: u64) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.0 -= bytes as f64;
    }
}

/// A checkpoint that was made: its id, and the bytes of its data.
pub type Made = (ItemId, u64);

/// One that is being made; answers with nothing where it could not be made.
pub type Making = oneshot::Receiver<Option<Made>>;

/// A turn to make one, if one may be made now.
pub fn turn(shared: &Shared, program: &Program) -> Option<OwnedSemaphorePermit> {
    let publisher = shared.checkpointing.publisher()?;
    if !publisher.is_permanent(program) || !shared.checkpointing.budget.has_some(&shared.config.permanent) {
        return None;
    }
    shared.checkpointing.making.clone().try_acquire_owned().ok()
}

/// Makes one of a second machine's state, beside the process.
pub fn start(shared: &Arc<Shared>, fork: Fork, last: Option<ItemId>, turn: OwnedSemaphorePermit) -> Making {
    let (shared, (done, making)) = (shared.clone(), oneshot::channel());
    tokio::spawn(async move {
        let process = fork.program.key.process;
        let made = make(&shared, fork, last).await;
        let made = made.unwrap_or_else(|refusal| {
            tracing::warn!(%process, "no permanent checkpoint was made: {refusal}");
            None
        });
        drop(turn);
        // An owner that is gone finds it in the weave.
        let _ = done.send(made);
    });
    making
}

async fn make(shared: &Arc<Shared>, fork: Fork, last: Option<ItemId>) -> Answer<Option<Made>> {
    let Some(publisher) = shared.checkpointing.publisher() else {
        return Ok(None);
    };
    let place = Place {
        slot: fork.stand.slot,
        assignment: fork.stand.assignment,
        tick: fork.stand.tick,
        cron: fork.stand.cron.clone(),
    };
    let base = match base(shared, publisher, &fork.program, last, &place).await? {
        Found::Newer(made) => return Ok(Some(made)),
        Found::Base(base) => Some(*base),
        Found::Nothing => None,
    };
    let (program, signer) = (fork.program.clone(), publisher.signer.clone());
    let mut machine = fork.machine;
    let made = shared.pool.run(move || -> Answer<(DataItem, usize)> {
        let (statement, data) = packed(&mut machine, &program, place, base)?;
        let bytes = data.len();
        let item = statement.sign(data, &signer);
        Ok((item.map_err(|error| Refusal::internal(error.to_string()))?, bytes))
    });
    let (item, bytes) = made.await??;
    append(shared, publisher, item, bytes as u64).await.map(Some)
}

async fn append(shared: &Shared, publisher: &Publisher, item: DataItem, bytes: u64) -> Answer<Made> {
    let max = shared.config.permanent.item_bytes_max;
    if bytes > max {
        let text = format!("it would have {bytes} bytes, more than {max} (`item_bytes_max`)");
        return Err(Refusal::limit("checkpoint-bytes", text));
    }
    let id = item.id();
    let items = publisher
        .naming(shared)
        .await?
        .into_iter()
        .chain([item])
        .collect();
    shared.permanent.append(items, Class::Permanent).await?;
    shared.checkpointing.budget.spend(bytes);
    metrics::counter!("cu_permanent_checkpoints_total").increment(1);
    metrics::counter!("cu_permanent_checkpoint_bytes_total").increment(bytes);
    Ok((id, bytes))
}

enum Found {
    /// The weave has one of this place or a later one already.
    Newer(Made),
    /// What to pack against.
    Base(Box<(Statement, ItemId, State)>),
    /// Nothing to pack against.
    Nothing,
}

/// The checkpoint before: the one that is known, or this node's newest in the weave.
async fn base(
    shared: &Shared,
    publisher: &Publisher,
    program: &Arc<Program>,
    last: Option<ItemId>,
    place: &Place,
) -> Answer<Found> {
    let last = match last {
        Some(id) => Some(id),
        None => {
            let own = [publisher.signer.address()].into();
            let found = find::candidates(shared, program.key.process, Some(&own), 1).await?;
            let newest = found.into_iter().find(|one| one.says.is_of(program));
            match newest {
                Some(one) if one.says.place.rank() >= place.rank() => {
                    return Ok(Found::Newer((one.id, one.bytes)));
                }
                newest => newest.map(|one| one.id),
            }
        }
    };
    let Some(id) = last else { return Ok(Found::Nothing) };
    let per_chain = shared.config.permanent.full_every.clamp(1, DEPTH_MAX);
    // Whatever is wrong with it: the next one stands alone.
    match find::state(shared, program, id).await {
        Ok((says, state)) if says.depth + 1 < per_chain && says.place.rank() < place.rank() => {
            Ok(Found::Base(Box::new((says, id, state))))
        }
        _ => Ok(Found::Nothing),
    }
}

/// Packed against the state before where that is smaller by a third at least: a chain has to be fetched and unpacked.
fn packed(
    machine: &mut Machine,
    program: &Program,
    place: Place,
    base: Option<(Statement, ItemId, State)>,
) -> Result<(Statement, bytes::Bytes), Error> {
    let root = machine.state_root()?;
    let full = machine.pack(None)?;
    let next = match &base {
        Some((_, _, state)) => Some(machine.pack(Some(state))?),
        None => None,
    };
    let mut statement = Statement {
        process: program.key.process,
        module: program.module_id,
        module_sha256: program.key.module.clone(),
        epoch: program.key.epoch.clone(),
        place,
        root,
        before: None,
        depth: 0,
    };
    match (next, base) {
        (Some(next), Some((says, id, _))) if next.len() * 3 <= full.len() * 2 => {
            statement.depth = says.depth + 1;
            statement.before = Some(Before { id, root: says.root });
            Ok((statement, next))
        }
        _ => Ok((statement, full)),
    }
}
