//! Monitors: processes whose crons are pushed.
//!
//! A monitor is remembered as an item of ours in the weave (`Weft-Monitor`, `Weft-Unmonitor`) that
//! carries the client's item as its data: the client's own item has no tags and may come twice, so
//! it can neither be found again nor be told from its repetition. Invariant: the monitors are a
//! function of those items, in their order; nothing else remembers them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use spec::contract::{Answer, Class, Query, TagFilter};
use spec::{Address, DataItem, ItemParts, ProcessId, Refusal, Tag};
use tokio::sync::Notify;

use crate::shared::{CRONS, Shared};

const START: &str = "Weft-Monitor";
const STOP: &str = "Weft-Unmonitor";
/// Items read at once when monitors are found again.
const PAGE: usize = 100;

/// The monitored processes.
#[derive(Default)]
pub struct Monitors {
    watched: Mutex<HashMap<ProcessId, Watched>>,
    started: Notify,
}

struct Watched {
    since_ms: u64,
    by: BTreeSet<Address>,
}

impl Monitors {
    fn watched(&self) -> MutexGuard<'_, HashMap<ProcessId, Watched>> {
        self.watched.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// Since when a process is monitored, in ms; `None` if it is not.
    pub fn since_ms(&self, process: ProcessId) -> Option<u64> {
        self.watched().get(&process).map(|watched| watched.since_ms)
    }

    fn is_by(&self, process: ProcessId, who: Address) -> bool {
        self.watched()
            .get(&process)
            .is_some_and(|watched| watched.by.contains(&who))
    }

    fn len(&self) -> usize {
        self.watched().len()
    }

    fn processes(&self) -> Vec<ProcessId> {
        self.watched().keys().copied().collect()
    }

    fn start(&self, process: ProcessId, who: Address, since_ms: u64) {
        let new = || Watched {
            since_ms,
            by: BTreeSet::new(),
        };
        self.watched().entry(process).or_insert_with(new).by.insert(who);
        self.started.notify_one();
    }

    fn stop(&self, process: ProcessId, who: Address) {
        let mut watched = self.watched();
        let Some(entry) = watched.get_mut(&process) else {
            return;
        };
        entry.by.remove(&who);
        if entry.by.is_empty() {
            watched.remove(&process);
        }
    }
}

/// Wakes monitored processes at an interval. Without any it waits for the first one.
pub async fn run(shared: &Shared) {
    let interval = std::time::Duration::from_millis(shared.config.monitor_interval_ms.max(10));
    loop {
        let processes = shared.monitors.processes();
        if processes.is_empty() {
            shared.monitors.started.notified().await;
            continue;
        }
        for process in processes {
            shared.wakes.wake(process, CRONS);
        }
        tokio::time::sleep(interval).await;
    }
}

/// Starts to monitor a process for whoever signed the item; again is no error.
///
/// # Errors
/// An item that does not verify or is for another process, an unknown process, too many monitors.
pub async fn start(shared: &Shared, process: ProcessId, item: &DataItem) -> Answer<()> {
    check(process, item)?;
    let who = item.owner_address();
    if shared.monitors.is_by(process, who) {
        return Ok(());
    }
    if shared.monitors.len() >= shared.config.monitors_max {
        let text = format!(
            "this messenger monitors {} processes (monitors_max)",
            shared.config.monitors_max
        );
        return Err(Refusal::busy("too-many-monitors", text));
    }
    shared.units.scheduler.process(process).await?;
    let since_ms = shared.units.scheduler.tick().await?.timestamp_ms;
    remember(shared, START, process, item, since_ms).await?;
    shared.monitors.start(process, who, since_ms);
    Ok(())
}

/// Stops it, for whoever signed the item; a process that is not monitored is no error.
///
/// # Errors
/// As [`start`], and if only others monitor the process.
pub async fn stop(shared: &Shared, process: ProcessId, item: &DataItem) -> Answer<()> {
    check(process, item)?;
    let who = item.owner_address();
    if shared.monitors.since_ms(process).is_none() {
        return Ok(());
    }
    if !shared.monitors.is_by(process, who) {
        let text = "the process is monitored by others; sign with the key that started it";
        return Err(Refusal::invalid("not-your-monitor", text));
    }
    let now_ms = shared.units.scheduler.tick().await?.timestamp_ms;
    remember(shared, STOP, process, item, now_ms).await?;
    shared.monitors.stop(process, who);
    Ok(())
}

fn check(process: ProcessId, item: &DataItem) -> Answer<()> {
    item.verify()?;
    match item.target() {
        Some(target) if *target != process.0 => {
            let text = format!("the item is for {}, not for {process}", ProcessId(*target));
            Err(Refusal::invalid("wrong-target", text))
        }
        _ => Ok(()),
    }
}

async fn remember(
    shared: &Shared,
    kind: &str,
    process: ProcessId,
    item: &DataItem,
    timestamp_ms: u64,
) -> Answer<()> {
    let tags = vec![
        Tag::new("Type", kind),
        Tag::new("Process", process.to_string()),
        Tag::new("Timestamp", timestamp_ms.to_string()),
    ];
    let parts = ItemParts {
        tags,
        data: item.bytes().clone(),
        ..ItemParts::default()
    };
    let record = DataItem::sign(&parts, &shared.signer)?;
    shared.units.permanent.append(vec![record], Class::Local).await
}

/// Finds the monitors again, in the order in which they were started and stopped.
pub async fn recover(shared: &Shared) -> Answer<()> {
    let kinds = TagFilter {
        name: "Type".into(),
        values: vec![START.into(), STOP.into()],
    };
    let mut query = Query {
        owners: vec![shared.signer.address()],
        tags: vec![kinds],
        first: PAGE,
        ascending: true,
        ..Query::default()
    };
    loop {
        let page = shared.units.permanent.find(query.clone()).await?;
        for record in page.hits.iter().filter_map(|hit| hit.stored.item()) {
            replay(&shared.monitors, record);
        }
        query.after = page.hits.last().map(|hit| hit.cursor.clone());
        if !page.has_next_page || query.after.is_none() {
            return Ok(());
        }
    }
}

fn replay(monitors: &Monitors, record: &DataItem) {
    let process = record.tag("Process").and_then(|text| text.parse().ok());
    let since_ms = record.tag("Timestamp").and_then(|text| text.parse().ok());
    let item = DataItem::parse(record.data());
    let (Some(process), Some(since_ms), Ok(item)) = (process, since_ms, item) else {
        return tracing::warn!(id = %record.id(), "a monitor's record cannot be read");
    };
    match record.tag("Type") {
        Some(START) => monitors.start(process, item.owner_address(), since_ms),
        _ => monitors.stop(process, item.owner_address()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_monitored_while_anybody_asks_for_it() {
        let monitors = Monitors::default();
        let (process, a, b) = (ProcessId([1; 32]), Address([2; 32]), Address([3; 32]));
        monitors.start(process, a, 10);
        monitors.start(process, b, 20);
        monitors.stop(process, a);
        assert_eq!(monitors.since_ms(process), Some(10));
        monitors.stop(process, a);
        monitors.stop(process, b);
        assert_eq!((monitors.since_ms(process), monitors.len()), (None, 0));
    }
}
