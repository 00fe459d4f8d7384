//! The live feed: outcomes of a process as they happen, each once, from any node.
//!
//! In this program through the contract, from a Weft node as events, from others by asking again. The
//! invariant: a connection that breaks is resumed after the last outcome handed out, so nothing is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use spec::ProcessId;
use spec::contract::{Answer, Evaluated, OutcomesQuery};
use wire::events::{Events, Follower, From, is_passing, position_of};

use crate::node::{Feed, Node};

/// First pause before a broken connection is tried again, in ms; it doubles.
const RETRY_MS: u64 = 200;
/// Longest such pause, in ms.
const RETRY_MS_MAX: u64 = 5_000;

/// What outcomes come from.
enum Source {
    Follower(Follower),
    Events(Events),
}

struct Live {
    node: Arc<Node>,
    process: ProcessId,
    from: From,
    source: Option<Source>,
    ready: VecDeque<Evaluated>,
    /// Failures since the last outcome.
    failures: u32,
    is_over: bool,
}

/// The outcomes of a process from a place on. A broken connection is an error once, and then tried again
/// and again; a refusal that no waiting mends is the last item.
pub fn live(
    node: Arc<Node>,
    process: ProcessId,
    from: From,
) -> impl Stream<Item = Answer<Evaluated>> + Send + Unpin {
    let live = Live {
        node,
        process,
        from,
        source: None,
        ready: VecDeque::new(),
        failures: 0,
        is_over: false,
    };
    Box::pin(unfold(live, async |mut live| {
        let item = live.next().await?;
        Some((item, live))
    }))
}

impl Live {
    async fn next(&mut self) -> Option<Answer<Evaluated>> {
        while !self.is_over {
            if let Some(at) = self.ready.pop_front() {
                self.from = From::After(position_of(&at));
                return Some(Ok(at));
            }
            match self.fill().await {
                Ok(()) => {}
                Err(refusal) if !is_passing(&refusal) => {
                    self.is_over = true;
                    return Some(Err(refusal));
                }
                Err(refusal) => {
                    self.source = None;
                    self.failures += 1;
                    if self.failures == 1 {
                        return Some(Err(refusal));
                    }
                    self.pause().await;
                }
            }
        }
        None
    }

    async fn pause(&self) {
        let doubled = RETRY_MS << self.failures.min(6);
        tokio::time::sleep(Duration::from_millis(doubled.min(RETRY_MS_MAX))).await;
    }

    /// Waits for outcomes; opens the source first if there is none.
    async fn fill(&mut self) -> Answer<()> {
        if self.source.is_none() {
            self.source = Some(self.open().await?);
        }
        let source = self.source.as_mut().expect("opened right above");
        match source {
            Source::Follower(follower) => self.ready.extend(follower.next().await?),
            Source::Events(events) => match events.next().await? {
                Some(at) => self.ready.push_back(at),
                // The node stopped or let go: connect again.
                None => self.source = None,
            },
        }
        if !self.ready.is_empty() {
            self.failures = 0;
        }
        Ok(())
    }

    async fn open(&mut self) -> Answer<Source> {
        self.settle().await?;
        let (node, from) = (self.node.clone(), self.from.clone());
        match &self.node.feed {
            Feed::Events(http) => Ok(Source::Events(Events::open(http, self.process, &from).await?)),
            Feed::Contract | Feed::Polling => {
                let follower = Follower::open(node.compute.clone(), &*node.scheduler, self.process, from);
                Ok(Source::Follower(follower.await?))
            }
        }
    }

    /// "Now" becomes a place before anything can go wrong, so that a second try begins where the first did.
    async fn settle(&mut self) -> Answer<()> {
        if self.from != From::Now {
            return Ok(());
        }
        let newest = OutcomesQuery {
            limit: 1,
            descending: true,
            failed: true,
            ..OutcomesQuery::default()
        };
        let page = self.node.compute.results(self.process, newest).await?;
        self.from = page
            .outcomes
            .first()
            .map_or(From::Slot(0), |at| From::After(position_of(at)));
        Ok(())
    }
}
