//! A compute unit of any legacynet, spoken to by the field's own routes.
//!
//! Those routes leave out where an outcome stands, so its slot is known only from a list's cursor, and
//! lists leave out errors. Not here: our own nodes, which `wire::compute` speaks to without loss.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use spec::contract::{
    Answer, Compute, DryRun, Evaluated, OutcomesPage, OutcomesQuery, Position, State, Tick,
};
use spec::{ItemId, Outcome, ProcessId, Refusal};
use wire::client::Http;
use wire::compute::{cursor_text, parse_position, sort_text};
use wire::server::encode;

/// How often a list is asked for, in ms: the field's own shell asks as often.
const POLL_MS: u64 = 1_000;

/// A compute unit that speaks the field's routes only.
#[derive(Clone)]
pub struct LegacyCompute {
    http: Http,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    page_info: PageInfo,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
}

#[derive(Deserialize)]
struct Edge {
    node: Outcome,
    cursor: String,
}

impl LegacyCompute {
    /// The unit behind `http`'s base URL.
    pub fn new(http: Http) -> LegacyCompute {
        LegacyCompute { http }
    }

    async fn page(&self, route: &str, process: ProcessId, query: OutcomesQuery) -> Answer<OutcomesPage> {
        let sort = sort_text(query.descending);
        let mut path = format!("/{route}/{process}?limit={}&sort={sort}", query.limit);
        for (name, position) in [("from", &query.from), ("to", &query.to)] {
            if let Some(position) = position {
                path.push_str(&format!(
                    "&{name}={}",
                    encode(&cursor_text(position, query.descending))
                ));
            }
        }
        let page: Page = self.http.get(&path).await?.json()?;
        let outcomes = page.edges.into_iter().map(evaluated).collect::<Answer<_>>()?;
        Ok(OutcomesPage {
            outcomes,
            has_next_page: page.page_info.has_next_page,
        })
    }

    fn lacks(&self, what: &str) -> Refusal {
        let text = format!("{} is no Weft node and cannot tell {what}", self.http.base());
        Refusal::invalid("not-weft", text)
    }
}

/// What a list says of an outcome; its cursor knows the place.
fn evaluated(edge: Edge) -> Answer<Evaluated> {
    let (tick, slot, cron) = match parse_position(&edge.cursor)?.0 {
        Position::Time(timestamp_ms) => (timestamp_ms, 0, None),
        Position::Evaluation {
            timestamp_ms,
            slot,
            cron,
        } => (timestamp_ms, slot, cron),
    };
    Ok(Evaluated {
        slot,
        tick: Tick {
            timestamp_ms: tick,
            block_height: 0,
        },
        cron: cron.map(Arc::from),
        message: None,
        outcome: Arc::new(edge.node),
    })
}

#[async_trait]
impl Compute for LegacyCompute {
    async fn result(&self, process: ProcessId, message: ItemId) -> Answer<Evaluated> {
        let path = format!("/result/{message}?process-id={process}");
        let outcome: Outcome = self.http.get(&path).await?.json()?;
        Ok(Evaluated {
            slot: 0,
            tick: Tick::default(),
            cron: None,
            message: Some(message),
            outcome: Arc::new(outcome),
        })
    }

    async fn results(&self, process: ProcessId, page: OutcomesQuery) -> Answer<OutcomesPage> {
        self.page("results", process, page).await
    }

    async fn crons(&self, process: ProcessId, page: OutcomesQuery) -> Answer<OutcomesPage> {
        self.page("cron", process, page).await
    }

    async fn dry_run(&self, process: ProcessId, run: DryRun) -> Answer<Arc<Outcome>> {
        let to = run.to.map(|id| format!("&to={id}")).unwrap_or_default();
        let path = format!("/dry-run?process-id={process}{to}");
        let body = String::from(Box::<str>::from(run.message));
        let outcome: Outcome = self
            .http
            .post(&path, "application/json", body.into())
            .await?
            .json()?;
        Ok(Arc::new(outcome))
    }

    async fn state(&self, _: ProcessId, _: Option<u64>) -> Answer<State> {
        Err(self.lacks("a process's state root"))
    }

    async fn watch(&self, process: ProcessId, after: Option<u64>) -> Answer<u64> {
        let newest = OutcomesQuery {
            limit: 1,
            descending: true,
            ..OutcomesQuery::default()
        };
        loop {
            let page = self.results(process, newest.clone()).await?;
            let slot = page.outcomes.first().map(|at| at.slot);
            if let Some(slot) = slot.filter(|slot| after.is_none_or(|after| *slot > after)) {
                return Ok(slot);
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
    }
}
