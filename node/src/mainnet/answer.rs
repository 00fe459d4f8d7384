//! The answers of the mainnet routes: JSON with the keys that clients read, and the same as headers.
//!
//! Not here: how an answer is found. An outcome stands under `raw`, in the wire's own form.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use spec::contract::{Answer, Evaluated, Scheduled};
use spec::{Address, DataItem, ItemId, Outcome, ProcessId};
use wire::messenger::Spawned;
use wire::server::CODE_HEADER;

/// What a node tells about itself.
#[derive(Serialize)]
pub struct Facts {
    /// Signs what is pushed.
    pub address: Address,
    /// Signs assignments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Address>,
    /// Of this program.
    pub version: &'static str,
}

/// One evaluation.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evaluation<'a> {
    process: ProcessId,
    slot: u64,
    at_slot: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<ItemId>,
    timestamp: u64,
    block_height: u64,
    raw: &'a Outcome,
}

impl<'a> Evaluation<'a> {
    /// From the compute unit's answer.
    pub fn of(process: ProcessId, evaluated: &'a Evaluated) -> Evaluation<'a> {
        Evaluation {
            process,
            slot: evaluated.slot,
            at_slot: evaluated.slot,
            id: evaluated.message,
            timestamp: evaluated.tick.timestamp_ms,
            block_height: evaluated.tick.block_height,
            raw: &evaluated.outcome,
        }
    }
}

/// What became of a message.
pub struct Pushed {
    /// Whose log.
    pub process: ProcessId,
    /// The message.
    pub id: ItemId,
    /// Its place.
    pub slot: u64,
    /// Its evaluation, or why there is none.
    pub evaluated: Answer<Evaluated>,
}

fn headers(said: &[(&'static str, String)]) -> HeaderMap {
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let said = said.iter();
    said.filter_map(|(name, value)| Some((HeaderName::from_static(name), text(value)?)))
        .collect()
}

/// An outcome at a slot.
pub fn evaluated(evaluation: Evaluation<'_>) -> Response {
    let said = [
        ("process", evaluation.process.to_string()),
        ("slot", evaluation.slot.to_string()),
    ];
    (headers(&said), Json(evaluation)).into_response()
}

/// A scheduled message; without its outcome if there is none, which the answer then explains.
pub fn pushed(pushed: Pushed) -> Response {
    let Pushed {
        process,
        id,
        slot,
        evaluated,
    } = pushed;
    let said = [
        ("process", process.to_string()),
        ("slot", slot.to_string()),
        ("id", id.to_string()),
    ];
    let mut headers = headers(&said);
    match evaluated {
        Ok(evaluated) => {
            let mut evaluation = Evaluation::of(process, &evaluated);
            evaluation.id = Some(id);
            (headers, Json(evaluation)).into_response()
        }
        Err(refusal) => {
            let code = HeaderValue::from_str(&refusal.code).ok();
            code.and_then(|code| headers.insert(CODE_HEADER, code));
            let body = json!({ "process": process, "slot": slot, "id": id, "error": refusal.text });
            (headers, Json(body)).into_response()
        }
    }
}

/// An item that has its slot, as schedulers of the mainnet say it.
pub fn scheduled(scheduled: &Scheduled) -> Response {
    let said = [
        ("process", scheduled.process.to_string()),
        ("slot", scheduled.slot.to_string()),
        ("id", scheduled.message.to_string()),
        ("assignment", scheduled.assignment.to_string()),
        ("timestamp", scheduled.tick.timestamp_ms.to_string()),
        ("block-height", scheduled.tick.block_height.to_string()),
    ];
    let body = json!({
        "process": scheduled.process,
        "slot": scheduled.slot,
        "id": scheduled.message,
        "assignment": scheduled.assignment,
        "timestamp": scheduled.tick.timestamp_ms,
        "block-height": scheduled.tick.block_height,
    });
    (headers(&said), Json(body)).into_response()
}

/// A new process, and what was decided about it.
pub fn spawned(process: ProcessId, spawned: Spawned) -> Response {
    #[derive(Serialize)]
    struct Body {
        process: ProcessId,
        id: ProcessId,
        slot: u64,
        #[serde(flatten)]
        spawned: Spawned,
    }
    let said = [
        ("process", process.to_string()),
        ("id", process.to_string()),
        ("slot", "0".into()),
    ];
    let mut headers = headers(&said);
    headers.extend(spawned.headers());
    let body = Body {
        process,
        id: process,
        slot: 0,
        spawned,
    };
    (StatusCode::OK, headers, Json(body)).into_response()
}

/// The outcome of a dry run.
pub fn dry(process: ProcessId, outcome: &Outcome) -> Response {
    Json(json!({ "process": process, "raw": outcome })).into_response()
}

/// The message of a dry run: who signed the item sends its data with the path's tags.
pub fn dry_message(
    process: ProcessId,
    item: Option<&DataItem>,
    nobody: &str,
    tags: &[(String, String)],
) -> String {
    let own = [
        ("Data-Protocol", "ao"),
        ("Type", "Message"),
        ("Variant", "ao.N.1"),
    ];
    let is_new = |name: &str| !tags.iter().any(|(given, _)| given == name);
    let own = own.into_iter().filter(|(name, _)| is_new(name));
    let own = own.map(|(name, value)| json!({ "name": name, "value": value }));
    let given = tags
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }));
    let tags: Vec<_> = given.chain(own).collect();
    let owner = item.map(|item| item.signer_text().into());
    let data = item.map(|item| String::from_utf8_lossy(&item.data()).into_owned());
    json!({
        "Id": item.map_or_else(|| nobody.to_owned(), |item| item.id().to_string()),
        "Target": process,
        "Owner": owner.unwrap_or_else(|| nobody.to_owned()),
        "Anchor": "0",
        "Data": data.unwrap_or_default(),
        "Tags": tags,
    })
    .to_string()
}
