//! Traces: what happened to messages, for people who look for one. A bounded ring in memory.
//!
//! Not here: anything the messenger itself relies on; a restart starts with none.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use spec::contract::{Trace, TracePage, TraceQuery};
use spec::{ItemId, ProcessId};

/// Most traces of one page.
pub const PAGE_MAX: usize = 100;

/// Longest text of a trace, in bytes: texts may quote what strangers wrote.
pub const LOG_LEN_MAX: usize = 1_000;

/// The ring.
pub struct Traces {
    max: usize,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    traces: VecDeque<Arc<Trace>>,
    next: u64,
    /// The latest trace of each item in the ring.
    of_item: HashMap<ItemId, u64>,
}

/// What a trace is made from.
pub struct Step<'a> {
    /// The item it is about.
    pub item: ItemId,
    /// Whose log it went into, or would have.
    pub process: Option<ProcessId>,
    /// Who sent it.
    pub wallet: String,
    /// `MESSAGE`, `PROCESS`, `ASSIGNMENT` ...
    pub kind: &'a str,
    /// The item whose trace is the parent.
    pub cause: Option<ItemId>,
    /// What happened.
    pub log: String,
    /// When, in ms.
    pub now_ms: u64,
}

impl Traces {
    /// A ring of at most `max` traces.
    pub fn new(max: usize) -> Traces {
        Traces {
            max,
            ring: Mutex::default(),
        }
    }

    /// Adds a trace, its text cut at [`LOG_LEN_MAX`]; the oldest one goes if there are too many.
    pub fn add(&self, mut step: Step<'_>) {
        let end = (0..=step.log.len().min(LOG_LEN_MAX))
            .rev()
            .find(|end| step.log.is_char_boundary(*end));
        step.log.truncate(end.unwrap_or(0));
        let mut ring = self.ring.lock().unwrap_or_else(|poison| poison.into_inner());
        let number = ring.next;
        ring.next += 1;
        let parent_id = step
            .cause
            .and_then(|cause| ring.of_item.get(&cause))
            .map(u64::to_string);
        ring.of_item.insert(step.item, number);
        ring.traces.push_back(Arc::new(Trace {
            id: number.to_string(),
            message_id: step.item,
            process_id: step.process,
            wallet: step.wallet,
            timestamp: step.now_ms,
            parent_id,
            kind: step.kind.to_owned(),
            logs: vec![step.log],
        }));
        while ring.traces.len() > self.max {
            let oldest = ring.next - ring.traces.len() as u64;
            let Some(gone) = ring.traces.pop_front() else {
                break;
            };
            if ring.of_item.get(&gone.message_id) == Some(&oldest) {
                ring.of_item.remove(&gone.message_id);
            }
        }
    }

    /// A page, newest first. Looks through the whole ring, which is small.
    pub fn page(&self, query: &TraceQuery) -> TracePage {
        let ring = self.ring.lock().unwrap_or_else(|poison| poison.into_inner());
        let fits = |trace: &&Arc<Trace>| {
            query
                .process
                .is_none_or(|process| trace.process_id == Some(process))
                && query.item.is_none_or(|item| trace.message_id == item)
                && query.wallet.as_ref().is_none_or(|wallet| trace.wallet == *wallet)
        };
        let size = query.page_size.clamp(1, PAGE_MAX);
        let skip = query.page.saturating_sub(1).saturating_mul(size);
        let mut found = ring.traces.iter().rev().filter(fits).skip(skip);
        let traces = found
            .by_ref()
            .take(size)
            .map(|trace| Trace::clone(trace))
            .collect();
        TracePage {
            traces,
            has_next_page: found.next().is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(item: u8, process: u8, cause: Option<u8>) -> Step<'static> {
        Step {
            item: ItemId([item; 32]),
            process: Some(ProcessId([process; 32])),
            wallet: format!("w{item}"),
            kind: "MESSAGE",
            cause: cause.map(|id| ItemId([id; 32])),
            log: "scheduled".into(),
            now_ms: 1,
        }
    }

    #[test]
    fn pages_are_filtered_newest_first_and_bounded() {
        let traces = Traces::new(3);
        for item in 1..=4 {
            traces.add(step(item, item % 2, item.checked_sub(1)));
        }
        let ids = |query: &TraceQuery| {
            let page = traces.page(query);
            (
                page.traces
                    .iter()
                    .map(|t| t.id.clone())
                    .collect::<Vec<_>>()
                    .join(","),
                page.has_next_page,
            )
        };
        let all = TraceQuery {
            page: 1,
            page_size: 10,
            ..TraceQuery::default()
        };
        assert_eq!(ids(&all), ("3,2,1".into(), false));
        assert_eq!(
            ids(&TraceQuery {
                page: 2,
                page_size: 2,
                ..all.clone()
            }),
            ("1".into(), false)
        );
        assert_eq!(
            ids(&TraceQuery {
                page_size: 2,
                ..all.clone()
            }),
            ("3,2".into(), true)
        );
        let even = TraceQuery {
            process: Some(ProcessId([0; 32])),
            ..all.clone()
        };
        assert_eq!(ids(&even), ("3,1".into(), false));
        assert_eq!(
            ids(&TraceQuery {
                wallet: Some("w3".into()),
                ..all.clone()
            }),
            ("2".into(), false)
        );
        assert_eq!(traces.page(&all).traces[0].parent_id.as_deref(), Some("2"));
        traces.add(Step {
            log: "ü".repeat(LOG_LEN_MAX),
            ..step(9, 9, None)
        });
        assert_eq!(traces.page(&all).traces[0].logs[0].len(), LOG_LEN_MAX);
    }
}
