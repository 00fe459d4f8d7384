//! Outcomes as they happen: following a process through the contract, and the same as server-sent events.
//!
//! An event's id is the cursor of its outcome, so a reader who names the last id it saw loses nothing and
//! gets nothing twice. Not here: the route, which the node serves; any evaluation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spec::contract::{Answer, Compute, Evaluated, OutcomesQuery, Position, Scheduler, Span};
use spec::{Kind, ProcessId, Refusal};

use crate::client::{Body, Http, refusal_from};
use crate::compute::{EvaluatedJson, cursor, parse_position};
use crate::server::{Params, encode, status_of};

/// Outcomes read at once.
const PAGE: usize = 100;
/// How long a follower waits before it looks again, in ms: a watch wakes at slots, not at crons.
const LOOK_MS: u64 = 1_000;
/// Longest event read, in bytes.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// Silence after which a reader takes the connection for dead, in ms; a server speaks once a second.
const SILENCE_MS: u64 = 15_000;
/// The type of the answer.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// With the next outcome.
    Now,
    /// With the outcome of this slot.
    Slot(u64),
    /// After this outcome.
    After(Position),
}

impl From {
    /// Reads the query's `from` (a slot, or an event's id) and the header that browsers send when they
    /// connect again, which knows better.
    ///
    /// # Errors
    /// If a text is neither.
    pub fn read(params: &Params, last_event_id: Option<&str>) -> Answer<From> {
        let last = last_event_id.filter(|id| !id.is_empty());
        match (last, params.get("from").filter(|from| !from.is_empty())) {
            (Some(id), _) => Ok(From::After(parse_position(id)?.0)),
            (None, Some(from)) => match from.parse() {
                Ok(slot) => Ok(From::Slot(slot)),
                Err(_) => Ok(From::After(parse_position(from)?.0)),
            },
            (None, None) => Ok(From::Now),
        }
    }

    fn query(&self) -> String {
        match self {
            From::Now => String::new(),
            From::Slot(slot) => format!("&from={slot}"),
            From::After(position) => {
                format!("&from={}", encode(&crate::compute::cursor_text(position, false)))
            }
        }
    }
}

/// Where an outcome stands.
pub fn position_of(at: &Evaluated) -> Position {
    Position::Evaluation {
        timestamp_ms: at.tick.timestamp_ms,
        slot: at.slot,
        cron: at.cron.as_deref().map(str::to_owned),
    }
}

/// Follows a process through the contract.
pub struct Follower {
    compute: Arc<dyn Compute>,
    process: ProcessId,
    after: Option<Position>,
    /// The newest slot seen.
    slot: Option<u64>,
}

impl Follower {
    /// Begins to follow.
    ///
    /// # Errors
    /// If the process is unknown, or a unit cannot be asked.
    pub async fn open(
        compute: Arc<dyn Compute>,
        scheduler: &dyn Scheduler,
        process: ProcessId,
        from: From,
    ) -> Answer<Follower> {
        let newest = OutcomesQuery {
            limit: 1,
            descending: true,
            failed: true,
            ..OutcomesQuery::default()
        };
        // Also tells whether there is such a process.
        let newest = compute
            .results(process, newest)
            .await?
            .outcomes
            .into_iter()
            .next();
        let after = match from {
            From::After(position) => Some(position),
            From::Slot(0) => None,
            From::Slot(slot) => Some(before_slot(scheduler, process, slot).await?),
            From::Now => newest.as_ref().map(position_of),
        };
        Ok(Follower {
            compute,
            process,
            after,
            slot: None,
        })
    }

    /// What has happened since, in order. Waits a while if that is nothing, and then says so.
    ///
    /// # Errors
    /// If the unit cannot be asked.
    pub async fn next(&mut self) -> Answer<Vec<Evaluated>> {
        let found = self.look().await?;
        if !found.is_empty() {
            return Ok(found);
        }
        let look = Duration::from_millis(LOOK_MS);
        if let Ok(slot) = tokio::time::timeout(look, self.compute.watch(self.process, self.slot)).await {
            self.slot = Some(slot?);
        }
        self.look().await
    }

    async fn look(&mut self) -> Answer<Vec<Evaluated>> {
        let query = OutcomesQuery {
            from: self.after.clone(),
            limit: PAGE,
            failed: true,
            ..OutcomesQuery::default()
        };
        let found = self.compute.results(self.process, query).await?.outcomes;
        if let Some(last) = found.last() {
            self.after = Some(position_of(last));
            self.slot = self.slot.max(Some(last.slot));
        }
        Ok(found)
    }
}

/// The moment right before a slot; before the first slot that is not there yet, if it is not.
async fn before_slot(scheduler: &dyn Scheduler, process: ProcessId, slot: u64) -> Answer<Position> {
    // The end is asked for first: a slot given meanwhile lies behind it, and is not passed over.
    let latest = scheduler.latest(process).await?.assignment;
    if latest.slot < slot {
        return Ok(Position::Time(latest.tick.timestamp_ms));
    }
    let page = scheduler.log(process, Span::Slots(slot, slot), 1).await?;
    let entry = page.entries.first();
    let entry = entry.ok_or_else(|| Refusal::upstream("bad-answer", format!("the log lacks slot {slot}")))?;
    Ok(Position::Time(
        entry.assignment.tick.timestamp_ms.saturating_sub(1),
    ))
}

/// An outcome as an event.
pub fn frame(at: &Evaluated) -> Bytes {
    let json = serde_json::to_string(&EvaluatedJson::from(at)).expect("texts and numbers are JSON");
    debug_assert!(!json.contains('\n'), "JSON has no line ends of its own");
    format!("id: {}\nevent: outcome\ndata: {json}\n\n", cursor(at, false)).into()
}

/// A refusal as an event; the stream ends with it.
pub fn refusal_frame(refusal: &Refusal) -> Bytes {
    let status = status_of(refusal.kind).as_u16();
    let json = serde_json::json!({ "status": status, "code": refusal.code, "error": refusal.text });
    format!("event: refusal\ndata: {json}\n\n").into()
}

/// What keeps a silent connection from looking dead.
pub fn heartbeat() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// The events of a node, as they come.
pub struct Events {
    body: Body,
    buffer: BytesMut,
    ready: VecDeque<Evaluated>,
}

impl Events {
    /// Connects to the unit behind `http`'s base URL.
    ///
    /// # Errors
    /// What the node refuses.
    pub async fn open(http: &Http, process: ProcessId, from: &From) -> Answer<Events> {
        let path = format!("/events?process={process}{}", from.query());
        Ok(Events {
            body: http.stream(&path).await?,
            buffer: BytesMut::new(),
            ready: VecDeque::new(),
        })
    }

    /// The next outcome; `None` if the node ended the stream.
    ///
    /// # Errors
    /// If the connection broke or fell silent, or the node refused to go on.
    pub async fn next(&mut self) -> Answer<Option<Evaluated>> {
        loop {
            if let Some(at) = self.ready.pop_front() {
                return Ok(Some(at));
            }
            let silence = Duration::from_millis(SILENCE_MS);
            let bytes = tokio::time::timeout(silence, self.body.next()).await;
            let bytes =
                bytes.map_err(|_| Refusal::upstream("unreachable", "the event stream fell silent"))??;
            let Some(bytes) = bytes else { return Ok(None) };
            self.buffer.extend_from_slice(&bytes);
            self.cut()?;
        }
    }

    /// Takes the whole events out of the buffer.
    fn cut(&mut self) -> Answer<()> {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event = self.buffer.split_to(end + 2);
            if let Some(at) = parse(&event)? {
                self.ready.push_back(at);
            }
        }
        match self.buffer.len() <= EVENT_BYTES_MAX {
            true => Ok(()),
            false => Err(Refusal::upstream(
                "bad-answer",
                "an event is longer than any outcome",
            )),
        }
    }
}

/// The outcome of an event; `None` for a heartbeat or a kind that we do not know.
fn parse(event: &[u8]) -> Answer<Option<Evaluated>> {
    let bad = |why: String| Refusal::upstream("bad-answer", format!("an event cannot be read: {why}"));
    let text = std::str::from_utf8(event).map_err(|error| bad(error.to_string()))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    match (field("event: "), field("data: ")) {
        (Some("outcome"), Some(data)) => {
            let json: EvaluatedJson = serde_json::from_str(data).map_err(|error| bad(error.to_string()))?;
            Ok(Some(json.into()))
        }
        (Some("refusal"), Some(data)) => {
            #[derive(serde::Deserialize)]
            struct Told {
                status: u16,
                code: String,
            }
            let told: Told = serde_json::from_str(data).map_err(|error| bad(error.to_string()))?;
            Err(refusal_from(told.status, Some(told.code), data.as_bytes()))
        }
        _ => Ok(None),
    }
}

/// Whether the same stream may be there again later.
pub fn is_passing(refusal: &Refusal) -> bool {
    matches!(refusal.kind, Kind::Busy | Kind::Upstream)
}

#[cfg(test)]
mod tests {
    use spec::Outcome;
    use spec::contract::Tick;

    use super::*;

    fn evaluated(slot: u64, cron: Option<&str>) -> Evaluated {
        Evaluated {
            slot,
            tick: Tick {
                timestamp_ms: 1_000 + slot,
                block_height: 3,
            },
            cron: cron.map(Arc::from),
            message: None,
            outcome: Arc::new(Outcome::failed("a\nb")),
        }
    }

    #[test]
    fn an_event_reads_back_and_its_id_is_where_to_go_on() {
        let at = evaluated(7, Some("0-10-s"));
        let bytes = frame(&at);
        let back = parse(&bytes).unwrap().unwrap();
        assert_eq!((back.slot, back.cron.as_deref()), (7, Some("0-10-s")));
        assert!(back.outcome.is_error());
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let id = text.lines().next().unwrap().strip_prefix("id: ").unwrap();
        let from = From::read(&Params::parse("from=3"), Some(id)).unwrap();
        assert_eq!(from, From::After(position_of(&at)));
        assert_eq!(From::read(&Params::parse("from=3"), None), Ok(From::Slot(3)));
        assert_eq!(From::read(&Params::parse(""), Some("")), Ok(From::Now));
        assert!(From::read(&Params::parse("from=x"), None).is_err());
    }

    #[test]
    fn heartbeats_are_nothing_and_refusals_are_themselves() {
        assert!(parse(&heartbeat()).unwrap().is_none());
        let refusal = Refusal::busy("feeds-open", "too many");
        let told = parse(&refusal_frame(&refusal)).unwrap_err();
        assert_eq!(
            (told.kind, told.code.as_ref(), told.text.as_str()),
            (Kind::Busy, "feeds-open", "too many")
        );
    }
}
