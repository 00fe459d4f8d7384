//! The routes by which writers of the base layer speak to a node.
//!
//! Not here: keeping. The invariant: statuses and words are the network's, so that its clients understand them.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use spec::contract::Answer;
use spec::ids::base64url;
use spec::{Address, ItemId, Refusal};
use wire::server::Reject;

use super::Taken;
use crate::gateway;
use crate::weave::Weave;

/// Blocks below the newest whose id is given as an anchor.
const ANCHOR_DEPTH: u64 = 6;

type Reply<T> = Result<T, Reject>;

/// The routes.
pub fn router(weave: Arc<Weave>) -> Router {
    Router::new()
        .route("/tx_anchor", get(anchor))
        .route("/price/{bytes}", get(|_: Path<u64>| async { "0" }))
        .route(
            "/price/{bytes}/{target}",
            get(|_: Path<(u64, Address)>| async { "0" }),
        )
        .route("/wallet/{address}/balance", get(|_: Path<Address>| async { "0" }))
        .route("/wallet/{address}/last_tx", get(last_tx))
        .route("/tx/pending", get(|| async { Json(json!([])) }))
        .route("/tx/{id}/offset", get(offset))
        .route("/tx/{id}/{field}", get(field))
        .route("/chunk", post(post_chunk))
        .route("/chunk/{offset}", get(chunk))
        .route("/peers", get(|| async { Json(json!([])) }))
        .with_state(weave)
}

/// A transaction as JSON.
pub async fn post_transaction(weave: &Weave, json: Bytes) -> Reply<Response> {
    Ok(match weave.post_transaction(json).await? {
        Taken::New => "OK".into_response(),
        Taken::Known => {
            let status = StatusCode::ALREADY_REPORTED;
            (status, "Transaction already processed.").into_response()
        }
    })
}

async fn post_chunk(State(weave): State<Arc<Weave>>, json: Bytes) -> Reply<&'static str> {
    weave.post_chunk(json).await?;
    Ok("OK")
}

async fn anchor(State(weave): State<Arc<Weave>>) -> String {
    let height = weave.chain().height().saturating_sub(ANCHOR_DEPTH).max(1);
    weave.chain().block(height).id.to_string()
}

async fn last_tx(State(weave): State<Arc<Weave>>, Path(address): Path<Address>) -> Reply<String> {
    let last = weave.last_posted(address).await?;
    Ok(last.map(|id| id.to_string()).unwrap_or_default())
}

async fn offset(State(weave): State<Arc<Weave>>, Path(id): Path<ItemId>) -> Reply<Json<Value>> {
    let place = weave.posted_place(id).await?;
    let (end, size) = place.ok_or_else(|| unknown(&format!("data of a transaction {id}")))?;
    Ok(Json(
        json!({ "offset": end.to_string(), "size": size.to_string() }),
    ))
}

fn unknown(what: &str) -> Refusal {
    Refusal::not_found("not-found", format!("there is no {what} here"))
}

/// One field of a transaction or item, as text; `data.` and any ending is the data itself.
async fn field(
    State(weave): State<Arc<Weave>>,
    Path((id, field)): Path<(ItemId, String)>,
    headers: HeaderMap,
) -> Reply<Response> {
    let found = weave.lookup(id).await?;
    let found = found.ok_or_else(|| unknown(&format!("transaction {id}")))?;
    if field.starts_with("data.") {
        return Ok(gateway::data(&found, &headers));
    }
    match gateway::transaction(&found.stored)
        .get_mut(&field)
        .map(Value::take)
    {
        Some(Value::String(text)) => Ok(text.into_response()),
        Some(other) => Ok(Json(other).into_response()),
        None => Err(unknown(&format!("field `{field}` of a transaction")).into()),
    }
}

async fn chunk(State(weave): State<Arc<Weave>>, Path(place): Path<u64>) -> Reply<Json<Value>> {
    let found: Answer<_> = weave.posted_chunk(place).await;
    let (chunk, data_path) = found?.ok_or_else(|| unknown(&format!("chunk at {place}")))?;
    // Nothing is mined here, so no path leads on to a block.
    Ok(Json(json!({
        "chunk": base64url(&chunk),
        "data_path": base64url(&data_path),
        "tx_path": "",
        "packing": "unpacked",
    })))
}
