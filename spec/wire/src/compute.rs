//! The compute contract on the wire: cursors, JSON shapes, and the client that carries it.
//!
//! Legacy routes have fixed shapes that leave out where an evaluation stands, so our own client
//! speaks the routes under `/contract`, which carry the contract whole. Not here: any evaluation.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use spec::contract::{
    Answer, Compute, DryRun, Evaluated, OutcomesPage, OutcomesQuery, Position, State, Tick,
};
use spec::{ItemId, Outcome, ProcessId, Refusal};
use std::sync::Arc;

use crate::client::Http;
use crate::server::encode;

/// Bytes before the memory in a framed state: slot, timestamp, height (u64 LE each), state root.
const STATE_HEAD_BYTES: usize = 3 * 8 + 32;
/// Longest cursor read, in characters.
const CURSOR_CHARS_MAX: usize = 512;

/// A result cursor; base64 of its JSON, whose keys stand in this order because clients look inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Cursor<'a> {
    timestamp: u64,
    ordinate: String,
    cron: Option<&'a str>,
    sort: &'static str,
}

/// What a cursor of ours or of another node says.
#[derive(Deserialize)]
struct CursorRead {
    timestamp: Number,
    ordinate: Number,
    #[serde(default)]
    cron: Option<String>,
    #[serde(default)]
    sort: Option<String>,
}

/// A whole number, as number or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<u64> {
        match self {
            Number::Number(number) => Some(*number),
            Number::Text(text) => text.parse().ok(),
        }
    }
}

/// The word for a direction.
pub const fn sort_text(descending: bool) -> &'static str {
    if descending { "DESC" } else { "ASC" }
}

/// Reads a direction, in any case.
///
/// # Errors
/// If it is neither `ASC` nor `DESC`.
pub fn parse_sort(text: &str) -> Answer<bool> {
    match text.to_ascii_uppercase().as_str() {
        "ASC" => Ok(false),
        "DESC" => Ok(true),
        _ => {
            let text = format!("`sort` must be ASC or DESC, not `{text}`");
            Err(Refusal::invalid("invalid-parameter", text))
        }
    }
}

/// The cursor of an evaluation in a list read in one direction.
pub fn cursor(at: &Evaluated, descending: bool) -> String {
    encode_cursor(at.tick.timestamp_ms, at.slot, at.cron.as_deref(), descending)
}

fn encode_cursor(timestamp: u64, slot: u64, cron: Option<&str>, descending: bool) -> String {
    let sort = sort_text(descending);
    let cursor = Cursor {
        timestamp,
        ordinate: slot.to_string(),
        cron,
        sort,
    };
    STANDARD.encode(serde_json::to_string(&cursor).expect("texts and numbers are JSON"))
}

/// Reads `from` or `to`: a cursor or a timestamp in ms. A cursor also says its direction.
///
/// # Errors
/// If it is neither.
pub fn parse_position(text: &str) -> Answer<(Position, Option<bool>)> {
    if let Ok(timestamp) = text.parse() {
        return Ok((Position::Time(timestamp), None));
    }
    let invalid = || {
        let shown: String = text.chars().take(60).collect();
        let text = format!("`{shown}` is neither a cursor of a result nor a timestamp in ms");
        Refusal::invalid("invalid-cursor", text)
    };
    if text.len() > CURSOR_CHARS_MAX {
        return Err(invalid());
    }
    // A query's `+` arrives as a space.
    let json = STANDARD.decode(text.replace(' ', "+")).map_err(|_| invalid())?;
    let read: CursorRead = serde_json::from_slice(&json).map_err(|_| invalid())?;
    let (timestamp_ms, slot) = read
        .timestamp
        .value()
        .zip(read.ordinate.value())
        .ok_or_else(invalid)?;
    let sort = read.sort.as_deref().map(parse_sort).transpose()?;
    Ok((
        Position::Evaluation {
            timestamp_ms,
            slot,
            cron: read.cron,
        },
        sort,
    ))
}

/// A position as `from` and `to` carry it.
pub fn cursor_text(position: &Position, descending: bool) -> String {
    match position {
        Position::Time(ms) => ms.to_string(),
        Position::Evaluation {
            timestamp_ms,
            slot,
            cron,
        } => encode_cursor(*timestamp_ms, *slot, cron.as_deref(), descending),
    }
}

/// An evaluation as `/contract` routes carry it.
#[derive(Debug, Serialize, Deserialize)]
pub struct EvaluatedJson {
    slot: u64,
    timestamp: u64,
    block_height: u64,
    cron: Option<String>,
    message: Option<ItemId>,
    outcome: Outcome,
}

impl From<&Evaluated> for EvaluatedJson {
    fn from(evaluated: &Evaluated) -> Self {
        EvaluatedJson {
            slot: evaluated.slot,
            timestamp: evaluated.tick.timestamp_ms,
            block_height: evaluated.tick.block_height,
            cron: evaluated.cron.as_deref().map(str::to_owned),
            message: evaluated.message,
            outcome: Outcome::clone(&evaluated.outcome),
        }
    }
}

impl From<EvaluatedJson> for Evaluated {
    fn from(json: EvaluatedJson) -> Self {
        Evaluated {
            slot: json.slot,
            tick: Tick {
                timestamp_ms: json.timestamp,
                block_height: json.block_height,
            },
            cron: json.cron.map(Arc::from),
            message: json.message,
            outcome: Arc::new(json.outcome),
        }
    }
}

/// A page of evaluations as `/contract` routes carry it.
#[derive(Debug, Serialize, Deserialize)]
pub struct PageJson {
    outcomes: Vec<EvaluatedJson>,
    has_next_page: bool,
}

impl From<&OutcomesPage> for PageJson {
    fn from(page: &OutcomesPage) -> Self {
        let outcomes = page.outcomes.iter().map(EvaluatedJson::from).collect();
        PageJson {
            outcomes,
            has_next_page: page.has_next_page,
        }
    }
}

impl From<PageJson> for OutcomesPage {
    fn from(json: PageJson) -> Self {
        let outcomes = json.outcomes.into_iter().map(Evaluated::from).collect();
        OutcomesPage {
            outcomes,
            has_next_page: json.has_next_page,
        }
    }
}

/// The legacy shape of a page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgesJson<'a> {
    page_info: PageInfo,
    edges: Vec<Edge<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
}

#[derive(Serialize)]
struct Edge<'a> {
    node: Node<'a>,
    cursor: String,
}

/// An outcome in a legacy list: without gas, and never with an error.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node<'a> {
    messages: &'a RawValue,
    assignments: &'a RawValue,
    spawns: &'a RawValue,
    output: &'a RawValue,
}

impl<'a> EdgesJson<'a> {
    /// The legacy shape of `page`, read in one direction.
    pub fn new(page: &'a OutcomesPage, descending: bool) -> EdgesJson<'a> {
        let edge = |at: &'a Evaluated| Edge {
            node: Node {
                messages: &at.outcome.messages,
                assignments: &at.outcome.assignments,
                spawns: &at.outcome.spawns,
                output: &at.outcome.output,
            },
            cursor: cursor(at, descending),
        };
        EdgesJson {
            page_info: PageInfo {
                has_next_page: page.has_next_page,
            },
            edges: page.outcomes.iter().map(edge).collect(),
        }
    }
}

/// The slot a watch answers with.
#[derive(Debug, Serialize, Deserialize)]
pub struct SlotJson {
    /// The newest slot evaluated.
    pub slot: u64,
}

/// Puts what a state's headers would say in front of its memory. The memory is copied once.
pub fn frame_state(state: &State) -> Bytes {
    let mut out = BytesMut::with_capacity(STATE_HEAD_BYTES + state.memory.len());
    out.put_u64_le(state.slot);
    out.put_u64_le(state.tick.timestamp_ms);
    out.put_u64_le(state.tick.block_height);
    out.put_slice(&state.root);
    out.put_slice(&state.memory);
    out.freeze()
}

fn unframe_state(mut bytes: Bytes) -> Answer<State> {
    if bytes.len() < STATE_HEAD_BYTES {
        return Err(Refusal::upstream("bad-answer", "the state answered is cut off"));
    }
    let slot = bytes.get_u64_le();
    let tick = Tick {
        timestamp_ms: bytes.get_u64_le(),
        block_height: bytes.get_u64_le(),
    };
    let mut root = [0; 32];
    bytes.copy_to_slice(&mut root);
    Ok(State {
        slot,
        tick,
        root,
        memory: bytes,
    })
}

/// A compute unit on another machine.
#[derive(Clone)]
pub struct ComputeClient {
    http: Http,
}

impl ComputeClient {
    /// The unit behind `http`'s base URL.
    pub fn new(http: Http) -> ComputeClient {
        ComputeClient { http }
    }

    async fn page(&self, route: &str, process: ProcessId, query: OutcomesQuery) -> Answer<OutcomesPage> {
        let sort = sort_text(query.descending);
        let mut path = format!("/contract/{route}/{process}?limit={}&sort={sort}", query.limit);
        for (name, position) in [("from", &query.from), ("to", &query.to)] {
            if let Some(position) = position {
                let text = cursor_text(position, query.descending);
                path.push_str(&format!("&{name}={}", encode(&text)));
            }
        }
        if query.failed {
            path.push_str("&failed");
        }
        let page: PageJson = self.http.get(&path).await?.json()?;
        Ok(page.into())
    }
}

#[async_trait]
impl Compute for ComputeClient {
    async fn result(&self, process: ProcessId, message: ItemId) -> Answer<Evaluated> {
        let path = format!("/contract/result/{process}/{message}");
        let evaluated: EvaluatedJson = self.http.get(&path).await?.json()?;
        Ok(evaluated.into())
    }

    async fn results(&self, process: ProcessId, page: OutcomesQuery) -> Answer<OutcomesPage> {
        self.page("results", process, page).await
    }

    async fn crons(&self, process: ProcessId, page: OutcomesQuery) -> Answer<OutcomesPage> {
        self.page("crons", process, page).await
    }

    async fn dry_run(&self, process: ProcessId, run: DryRun) -> Answer<Arc<Outcome>> {
        let to = run.to.map(|id| format!("&to={id}")).unwrap_or_default();
        let path = format!("/dry-run?process-id={process}{to}");
        let body = Bytes::from(String::from(Box::<str>::from(run.message)));
        let outcome: Outcome = self.http.post(&path, "application/json", body).await?.json()?;
        Ok(Arc::new(outcome))
    }

    async fn state(&self, process: ProcessId, to_ms: Option<u64>) -> Answer<State> {
        let to = to_ms.map(|ms| format!("?to={ms}")).unwrap_or_default();
        let path = format!("/contract/state/{process}{to}");
        unframe_state(self.http.get(&path).await?.success()?)
    }

    async fn watch(&self, process: ProcessId, after: Option<u64>) -> Answer<u64> {
        let after = after.map(|slot| format!("?after={slot}")).unwrap_or_default();
        let path = format!("/contract/watch/{process}{after}");
        let answer: SlotJson = self.http.get(&path).await?.json()?;
        Ok(answer.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_base64_of_json_in_the_fields_order() {
        let text = encode_cursor(1_700_000_000_001, 7, Some("0-10-seconds"), true);
        let json = String::from_utf8(STANDARD.decode(&text).unwrap()).unwrap();
        let expected = r#"{"timestamp":1700000000001,"ordinate":"7","cron":"0-10-seconds","sort":"DESC"}"#;
        assert_eq!(json, expected);
        let cron = Some("0-10-seconds".to_owned());
        let position = Position::Evaluation {
            timestamp_ms: 1_700_000_000_001,
            slot: 7,
            cron,
        };
        assert_eq!(parse_position(&text), Ok((position, Some(true))));
    }

    #[test]
    fn what_is_no_cursor_is_a_timestamp_or_refused() {
        assert_eq!(
            parse_position("1700000000001"),
            Ok((Position::Time(1_700_000_000_001), None))
        );
        for bad in ["", "-1", "abc", "e30=", "x".repeat(600).as_str()] {
            assert!(parse_position(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_framed_state_reads_back() {
        let tick = Tick {
            timestamp_ms: 5,
            block_height: 6,
        };
        let state = State {
            slot: 4,
            tick,
            root: [9; 32],
            memory: Bytes::from_static(b"memory"),
        };
        let back = unframe_state(frame_state(&state)).unwrap();
        assert_eq!((back.slot, back.tick, back.root), (4, tick, [9; 32]));
        assert_eq!(back.memory, state.memory);
        assert!(unframe_state(Bytes::from_static(b"short")).is_err());
    }
}
