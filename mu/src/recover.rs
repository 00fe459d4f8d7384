//! Recovery: at each start, what is not cranked yet is found and woken.
//!
//! It asks the weave for all processes and the scheduler for their latest slots, so that it also
//! finds what was scheduled just before a crash, or while the queue's file was lost. It goes on
//! until the other units have answered; what they refuse for good is none of ours.

use std::pin::Pin;

use spec::contract::{Answer, Hits, LogPage, Query, Span, TagFilter};
use spec::{ProcessId, Refusal};

use crate::lineage::Lineage;
use crate::monitor;
use crate::shared::{LOG, Shared, now_ms};

/// Processes read at once.
const PAGE: usize = 100;

/// What must be known before anything is cranked: the monitors, and what each origin has caused.
/// The counts must not start anew with a lost file, nor count what is delivered meanwhile twice.
pub async fn prepare(shared: &Shared) {
    report(patiently(shared, || Box::pin(monitor::recover(shared))).await);
    match shared.on_queue(|queue| queue.is_counted()).await {
        Ok(true) => {
            let before_ms = now_ms().saturating_sub(shared.config.origin_keep_ms);
            report(
                shared
                    .on_queue(move |queue| queue.forget_origins(before_ms))
                    .await,
            );
        }
        _ => {
            let mut walk = Walk::default();
            while let Some(processes) = walk.next(shared).await {
                for process in processes {
                    report(count(shared, process).await);
                }
            }
            report(shared.on_queue(|queue| queue.set_counted()).await);
        }
    }
}

/// Wakes whatever may have something to do.
pub async fn run(shared: &Shared) {
    match shared.on_queue(|queue| queue.senders()).await {
        Ok(senders) => senders
            .into_iter()
            .for_each(|sender| shared.wakes.wake(sender, LOG)),
        Err(refusal) => tracing::error!("what waits cannot be found: {refusal}"),
    }
    let mut walk = Walk::default();
    while let Some(processes) = walk.next(shared).await {
        for process in processes {
            wake(shared, process).await;
        }
    }
}

fn report(done: Answer<()>) {
    if let Err(refusal) = done {
        tracing::error!("recovery is incomplete: {refusal}");
    }
}

/// A call that may be made again.
type Call<'a, T> = Pin<Box<dyn Future<Output = Answer<T>> + Send + 'a>>;

/// Calls until there is an answer that does not change.
async fn patiently<'a, T>(shared: &'a Shared, mut call: impl FnMut() -> Call<'a, T>) -> Answer<T> {
    let mut attempts = 0;
    loop {
        match call().await {
            Err(refusal) if refusal.is_retryable() => wait(shared, &mut attempts, &refusal).await,
            answer => return answer,
        }
    }
}

async fn wait(shared: &Shared, attempts: &mut u32, refusal: &Refusal) {
    *attempts += 1;
    tracing::warn!(attempts, "recovery will go on: {refusal}");
    tokio::time::sleep(shared.config.backoff(*attempts)).await;
}

/// A walk over all processes that the weave knows.
#[derive(Default)]
struct Walk {
    after: Option<String>,
    is_over: bool,
}

impl Walk {
    /// The next page of processes; some may be none of our scheduler's.
    async fn next(&mut self, shared: &Shared) -> Option<Vec<ProcessId>> {
        if self.is_over {
            return None;
        }
        let condition = |name: &str, value: &str| TagFilter {
            name: name.into(),
            values: vec![value.into()],
        };
        let query = Query {
            tags: vec![condition("Data-Protocol", "ao"), condition("Type", "Process")],
            first: PAGE,
            ascending: true,
            after: self.after.take(),
            ..Query::default()
        };
        let page: Answer<Hits> = patiently(shared, || shared.units.permanent.find(query.clone())).await;
        let page = page
            .inspect_err(|refusal| tracing::error!("processes cannot be found: {refusal}"))
            .ok()?;
        self.after = page.hits.last().map(|hit| hit.cursor.clone());
        self.is_over = !page.has_next_page || self.after.is_none();
        Some(page.hits.iter().map(|hit| hit.stored.id().into()).collect())
    }
}

async fn wake(shared: &Shared, process: ProcessId) {
    // Waits for a place, so that a great many processes are not all woken at once.
    drop(shared.cranks.acquire().await);
    let latest = patiently(shared, || shared.units.scheduler.latest(process)).await;
    let Ok(latest) = latest else { return };
    match shared.queue.next_slot(process) {
        Ok(next) if next > latest.assignment.slot => {}
        _ => shared.wakes.wake(process, LOG),
    }
}

async fn count(shared: &Shared, process: ProcessId) -> Answer<()> {
    let size = shared.config.page_slots.max(1);
    let mut from = 0;
    loop {
        let span = Span::Slots(from, from.saturating_add(size as u64 - 1));
        let page: Answer<LogPage> =
            patiently(shared, || shared.units.scheduler.log(process, span, size)).await;
        // The weave may hold a process that is not one of our scheduler's.
        let Ok(page) = page else { return Ok(()) };
        for item in page.entries.iter().filter_map(|entry| entry.item()) {
            let lineage = Lineage::of(item.id(), item.tags(), item.owner() == shared.signer.owner());
            if lineage.depth > 0 {
                shared.queue.add(lineage.origin, 1, now_ms())?;
            }
        }
        let Some(last) = page.entries.last() else {
            return Ok(());
        };
        from = last.assignment.slot + 1;
    }
}
