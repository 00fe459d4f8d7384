//! The scheduler's routes, relative to its own root: the field's, and ours for verbatim items.
//!
//! Not here: limits and CORS, which lie around all units' routes, and the JSON shapes, which the
//! client shares. The field answers 400 where it does not know an id, and so do its routes here;
//! our own routes keep the refusal's kind.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{StatusCode, header};
use spec::contract::{Answer, Field, LogEntry, LogPage, Scheduled, Scheduler, Span};
use spec::{DataItem, ItemId, Kind, ProcessId, Refusal};
use wire::scheduler::{
    AcceptedJson, CursorKind, EntryView, ScheduledJson, TickJson, VERBATIM_TYPE, encode_page, page_json,
};
use wire::server::{Params, Reject};

use crate::Su;

/// A handler's answer.
type Handled = Result<Response, Reject>;

/// All routes of a scheduler.
pub fn router(su: Arc<Su>) -> Router {
    Router::new()
        .route("/", get(root).post(submit))
        .route("/timestamp", get(timestamp))
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/processes/{process}", get(process))
        .route("/{id}", get(read))
        .route("/{id}/latest", get(latest))
        .route("/schedule", post(schedule))
        .route("/assign", post(assign))
        .route("/log/{process}", get(verbatim_page))
        .route("/log/{process}/latest", get(verbatim_latest))
        .route("/log/{process}/message/{id}", get(verbatim_message))
        .with_state(su)
}

/// The field knows one status for everything a client asks in vain.
fn legacy(refusal: Refusal) -> Reject {
    let kind = match refusal.kind {
        Kind::NotFound => Kind::Invalid,
        kind => kind,
    };
    Reject(Refusal { kind, ..refusal })
}

fn json(body: impl serde::Serialize) -> Handled {
    let body = serde_json::to_vec(&body).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(json_bytes(body))
}

fn json_bytes(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn root(State(su): State<Arc<Su>>) -> Handled {
    let tick = su.tick().await?;
    let timestamp = tick.timestamp_ms.to_string();
    json(serde_json::json!({ "timestamp": timestamp, "address": su.address() }))
}

async fn timestamp(State(su): State<Arc<Su>>) -> Handled {
    json(TickJson::from(su.tick().await?))
}

/// An item in the body, or an assignment in the query.
async fn submit(State(su): State<Arc<Su>>, params: Params, body: Bytes) -> Handled {
    let accepted = |scheduled: Scheduled, id| {
        let timestamp = scheduled.tick.timestamp_ms;
        json(AcceptedJson { timestamp, id })
    };
    if params.has("process-id") || params.has("assign") {
        let scheduled = assign_params(&su, &params).await.map_err(legacy)?;
        return accepted(scheduled, scheduled.assignment);
    }
    let item = DataItem::parse(body)?;
    let scheduled = su.schedule(item).await.map_err(legacy)?;
    accepted(scheduled, scheduled.message)
}

async fn assign_params(su: &Su, params: &Params) -> Answer<Scheduled> {
    if !(params.has("process-id") && params.has("assign")) {
        let text = "If sending assign or process-id, you must send both.";
        return Err(Refusal::invalid("incomplete-assign", text));
    }
    let (process, id): (ProcessId, ItemId) = (params.id("process-id")?, params.id("assign")?);
    let exclude = Field::parse_list(params.get("exclude").unwrap_or(""))?;
    su.assign(process, id, params.has("base-layer"), exclude).await
}

async fn schedule(State(su): State<Arc<Su>>, body: Bytes) -> Handled {
    let scheduled = su.schedule(DataItem::parse(body)?).await?;
    json(ScheduledJson::from(scheduled))
}

async fn assign(State(su): State<Arc<Su>>, params: Params) -> Handled {
    let scheduled = assign_params(&su, &params).await?;
    json(ScheduledJson::from(scheduled))
}

async fn process(State(su): State<Arc<Su>>, Path(id): Path<String>) -> Handled {
    let id: ProcessId = id.parse().map_err(Refusal::from)?;
    let entry = su.process(id).await.map_err(not_found)?;
    let view = EntryView::new(&entry);
    let process = view
        .process()
        .ok_or_else(|| Refusal::internal("slot 0 holds no process item"))?;
    json(process)
}

async fn latest(State(su): State<Arc<Su>>, Path(id): Path<String>, params: Params) -> Handled {
    let id: ProcessId = id.parse().map_err(Refusal::from)?;
    let entry = su.latest(id).await.map_err(|refusal| match refusal.kind {
        Kind::NotFound => Reject(Refusal::invalid("no-latest", "Latest message not available")),
        _ => legacy(refusal),
    })?;
    entry_json(&entry, &params)
}

fn entry_json(entry: &LogEntry, params: &Params) -> Handled {
    json(EntryView::new(entry).json(params.has("show-anchor")))
}

/// A message or assignment by its id; a page of messages by a process's.
async fn read(State(su): State<Arc<Su>>, Path(id): Path<String>, params: Params) -> Handled {
    let process: ProcessId = params.id("process-id")?;
    let id: ItemId = id.parse().map_err(|_| Refusal::invalid("not-found", NOT_FOUND))?;
    if ItemId::from(process) != id {
        match su.message(process, id).await {
            Ok(entry) => return entry_json(&entry, &params),
            Err(refusal) if refusal.kind != Kind::NotFound => return Err(legacy(refusal)),
            Err(_) => {}
        }
    }
    let (span, cursors) = span(&params)?;
    let limit = limit(&su, &params)?;
    let page = su.log(id.into(), span, limit).await.map_err(not_found)?;
    let body = page_json(&page, cursors, params.has("show-anchor"));
    Ok(json_bytes(
        body.map_err(|error| Refusal::internal(error.to_string()))?,
    ))
}

const NOT_FOUND: &str = "Message or Process not found";

fn not_found(refusal: Refusal) -> Reject {
    match refusal.kind {
        Kind::NotFound => Reject(Refusal::invalid("not-found", NOT_FOUND)),
        _ => legacy(refusal),
    }
}

/// What a page covers: by nonce if either nonce is given, else by timestamp. `from` is exclusive,
/// `to` inclusive; without `from` a page begins with the process item.
fn span(params: &Params) -> Answer<(Span, CursorKind)> {
    if params.has("from-nonce") || params.has("to-nonce") {
        let from: Option<i64> = params.number("from-nonce")?;
        let first = match from {
            None | Some(-1) => 0,
            Some(from) => u64::try_from(from)
                .map_err(|_| invalid("from-nonce"))?
                .saturating_add(1),
        };
        let to = params.number("to-nonce")?.unwrap_or(u64::MAX);
        return Ok((Span::Slots(first, to), CursorKind::Nonce));
    }
    let to = params.number("to")?.unwrap_or(u64::MAX);
    Ok((Span::Times(params.number("from")?, to), CursorKind::Timestamp))
}

fn invalid(name: &str) -> Refusal {
    Refusal::invalid(
        "invalid-parameter",
        format!("the query parameter `{name}` must be -1 or more"),
    )
}

fn limit(su: &Su, params: &Params) -> Answer<usize> {
    let limit = params.number("limit")?.unwrap_or(su.config().page_entries);
    match limit {
        0 => Err(Refusal::invalid(
            "invalid-parameter",
            "the query parameter `limit` must be 1 or more",
        )),
        limit => Ok(limit),
    }
}

fn verbatim(page: &LogPage) -> Response {
    ([(header::CONTENT_TYPE, VERBATIM_TYPE)], encode_page(page)).into_response()
}

fn verbatim_entry(entry: LogEntry) -> Response {
    verbatim(&LogPage {
        entries: vec![entry],
        has_next_page: false,
    })
}

async fn verbatim_page(State(su): State<Arc<Su>>, Path(id): Path<String>, params: Params) -> Handled {
    let process: ProcessId = id.parse().map_err(Refusal::from)?;
    let span = match params.has("from-slot") || params.has("to-slot") {
        true => {
            let from = params.number("from-slot")?.unwrap_or(0);
            Span::Slots(from, params.number("to-slot")?.unwrap_or(u64::MAX))
        }
        false => Span::Times(params.number("from")?, params.number("to")?.unwrap_or(u64::MAX)),
    };
    let limit = params.number("limit")?.unwrap_or(su.config().page_entries);
    Ok(verbatim(&su.log(process, span, limit).await?))
}

async fn verbatim_latest(State(su): State<Arc<Su>>, Path(id): Path<String>) -> Handled {
    let process: ProcessId = id.parse().map_err(Refusal::from)?;
    Ok(verbatim_entry(su.latest(process).await?))
}

async fn verbatim_message(State(su): State<Arc<Su>>, Path((process, id)): Path<(String, String)>) -> Handled {
    let process: ProcessId = process.parse().map_err(Refusal::from)?;
    let id: ItemId = id.parse().map_err(Refusal::from)?;
    Ok(verbatim_entry(su.message(process, id).await?))
}
