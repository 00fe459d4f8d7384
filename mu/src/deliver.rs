//! One attempt at one delivery: schedule, assign, or keep in the weave.
//!
//! Invariant: at least once, and a second time has no effect. The scheduler knows a second copy by
//! its id or by its hash within our signer; what it cannot know is looked up first.

use std::time::Duration;

use spec::contract::{Answer, Class, LogEntry, Query, TagFilter};
use spec::{DataItem, ItemId, ProcessId, Refusal};

use crate::delivery::{Assign, Delivery, What};
use crate::lineage::FROM_SLOT;
use crate::outbox;
use crate::shared::{LOG, Shared, now_ms};

/// How an attempt ended.
#[derive(Debug)]
pub enum Attempt {
    /// It is where it should be.
    Delivered(&'static str),
    /// It never will be.
    Refused(Refusal),
    /// It may be later.
    Again(Refusal),
}

/// Tries once, within the time that the configuration gives.
pub async fn attempt(shared: &Shared, sender: ProcessId, delivery: &Delivery) -> Attempt {
    let _permit = shared.deliveries.acquire().await;
    let limit = Duration::from_millis(shared.config.attempt_timeout_ms);
    let work = async {
        check_origin(shared, delivery)?;
        match &delivery.what {
            What::Message { item, also } => message(shared, sender, delivery.origin, item, also).await,
            What::Spawn { item } => spawn(shared, sender, delivery.origin, item).await,
            What::Assign(order) => assign(shared, delivery.origin, order).await,
        }
    };
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(how)) => Attempt::Delivered(how),
        Ok(Err(refusal)) if refusal.is_retryable() => Attempt::Again(refusal),
        Ok(Err(refusal)) => Attempt::Refused(refusal),
        Err(_) => {
            let text = format!("no answer within {} ms", limit.as_millis());
            Attempt::Again(Refusal::upstream("timeout", text))
        }
    }
}

/// A storm is cut by its total.
fn check_origin(shared: &Shared, delivery: &Delivery) -> Answer<()> {
    let (count, max) = (
        shared.queue.count(delivery.origin)?,
        shared.config.origin_total_max,
    );
    if count < max {
        return Ok(());
    }
    let text = format!(
        "message {} has caused {count} deliveries, the limit (origin_total_max)",
        delivery.origin
    );
    Err(Refusal::limit("origin-total", text))
}

/// Whether a scheduler says that it holds this already: delivered, then.
fn is_duplicate(refusal: &Refusal) -> bool {
    refusal.code.ends_with("-exists") || refusal.text.contains("already exists")
}

/// Schedules an item; `true` if it was new. Either way the process has something to crank.
async fn schedule(shared: &Shared, origin: ItemId, process: ProcessId, item: &DataItem) -> Answer<bool> {
    let is_new = match shared.units.scheduler.schedule(item.clone()).await {
        Ok(_) => true,
        Err(refusal) if is_duplicate(&refusal) => false,
        Err(refusal) => return Err(refusal),
    };
    if is_new {
        shared.queue.add(origin, 1, now_ms())?;
    }
    shared.wakes.wake(process, LOG);
    Ok(is_new)
}

async fn message(
    shared: &Shared,
    sender: ProcessId,
    origin: ItemId,
    item: &DataItem,
    also: &[ProcessId],
) -> Answer<&'static str> {
    let how = match item.target().copied().map(ProcessId) {
        Some(target) => match schedule(shared, origin, target, item).await {
            Ok(true) => "scheduled",
            Ok(false) => "was scheduled before",
            Err(refusal) if !refusal.is_retryable() && !is_process(shared, target).await? => {
                keep(shared, sender, item).await?
            }
            Err(refusal) => return Err(refusal),
        },
        None => keep(shared, sender, item).await?,
    };
    for process in also {
        let order = Assign {
            process: *process,
            item: item.id(),
            base_layer: false,
            exclude: Vec::new(),
        };
        match assign(shared, origin, &order).await {
            Err(refusal) if refusal.is_retryable() => return Err(refusal),
            Err(refusal) => {
                tracing::warn!(%process, item = %item.id(), "an assignment is refused: {refusal}")
            }
            Ok(_) => {}
        }
    }
    Ok(how)
}

/// Whether the scheduler knows a process; an answer that may change is not taken for a no.
async fn is_process(shared: &Shared, id: ProcessId) -> Answer<bool> {
    match shared.units.scheduler.process(id).await {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.is_retryable() => Err(refusal),
        Err(_) => Ok(false),
    }
}

/// Keeps an item for a wallet in the weave, in the class of the process that sent it.
async fn keep(shared: &Shared, sender: ProcessId, item: &DataItem) -> Answer<&'static str> {
    if held(shared, item).await?.is_some() {
        return Ok("was kept in the weave before");
    }
    let process = shared.units.scheduler.process(sender).await?;
    let class = match process.assignment.item.tag("Storage") {
        Some("permanent") => Class::Permanent,
        _ if is_widened(shared, &process).await? => Class::Permanent,
        _ => Class::Local,
    };
    shared.units.permanent.append(vec![item.clone()], class).await?;
    Ok("kept in the weave: its target is no process")
}

/// Whether a local process was turned permanent: a message of its owner says so, and its scheduler took
/// it so.
async fn is_widened(shared: &Shared, process: &LogEntry) -> Answer<bool> {
    let Some(item) = process.item() else {
        return Ok(false);
    };
    let query = Query {
        owners: vec![item.owner_address()],
        recipients: vec![*item.id().bytes()],
        tags: vec![TagFilter {
            name: "Storage".into(),
            values: vec!["permanent".into()],
        }],
        first: 100,
        ascending: true,
        ..Query::default()
    };
    for hit in shared.units.permanent.find(query).await?.hits {
        let entry = shared
            .units
            .scheduler
            .message(process.assignment.process, hit.stored.id())
            .await;
        match entry {
            Ok(entry) if entry.assignment.item.tag("Storage") == Some("permanent") => return Ok(true),
            Err(refusal) if refusal.is_retryable() => return Err(refusal),
            _ => {}
        }
    }
    Ok(false)
}

async fn spawn(shared: &Shared, sender: ProcessId, origin: ItemId, item: &DataItem) -> Answer<&'static str> {
    // A process made before a crash keeps its id, even if our key never signs twice alike.
    let known = held(shared, item).await?;
    let item = known.as_ref().unwrap_or(item);
    let is_new = schedule(shared, origin, item.id().into(), item).await?;
    let reply = outbox::spawned_reply(item, sender, &shared.signer);
    let reply =
        reply.map_err(|why| Refusal::invalid("reply", format!("the spawner cannot be told: {why}")))?;
    schedule(shared, origin, sender, &reply).await?;
    Ok(if is_new { "spawned" } else { "was spawned before" })
}

/// Our item for the same outbox entry, signed before, if the key cannot give the same id again.
async fn held(shared: &Shared, item: &DataItem) -> Answer<Option<DataItem>> {
    if shared.signer.is_deterministic() {
        return Ok(None);
    }
    let condition = |name: &str| {
        let values = item.tag(name).into_iter().map(str::to_owned).collect();
        TagFilter {
            name: name.into(),
            values,
        }
    };
    let query = Query {
        owners: vec![item.owner_address()],
        tags: ["From-Process", FROM_SLOT, "Type"].map(condition).into(),
        first: 10,
        ascending: true,
        ..Query::default()
    };
    let hits = shared.units.permanent.find(query).await?.hits;
    let same = |held: &&DataItem| held.target() == item.target() && held.tag("Action") == item.tag("Action");
    Ok(hits
        .iter()
        .filter_map(|hit| hit.stored.item())
        .find(same)
        .cloned())
}

async fn assign(shared: &Shared, origin: ItemId, order: &Assign) -> Answer<&'static str> {
    let scheduler = &shared.units.scheduler;
    let process = order.process;
    match scheduler.message(process, order.item).await {
        Ok(entry) if entry.assignment.process == process => {
            shared.wakes.wake(process, LOG);
            return Ok("was assigned before");
        }
        Err(refusal) if refusal.is_retryable() => return Err(refusal),
        _ => {}
    }
    match scheduler
        .assign(process, order.item, order.base_layer, order.fields())
        .await
    {
        Ok(_) => shared.queue.add(origin, 1, now_ms())?,
        Err(refusal) if is_duplicate(&refusal) => {}
        Err(refusal) => return Err(refusal),
    }
    shared.wakes.wake(process, LOG);
    Ok("assigned")
}
