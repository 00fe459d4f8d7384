//! The gateway's routes, relative to its root.
//!
//! Not here: what the answers look like (`gateway.rs`, `graphql`), limits of the listener (`wire`).

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use spec::contract::{Answer, Class, Permanent};
use spec::{DataItem, ItemId, Refusal};
use wire::permanent::Uploaded;
use wire::server::Reject;

use crate::gateway;
use crate::graphql::{self, Schema};
pub use crate::graphql::{StandIn, StandIns};
use crate::weave::{Found, Weave};

/// Blocks after which an upload's promise ends, as receipts of bundlers say.
const DEADLINE_BLOCKS: u64 = 200;

type Reply<T> = Result<T, Reject>;

/// The routes of gateway and GraphQL.
pub fn router(weave: Arc<Weave>) -> Router {
    router_with(weave, StandIns::default())
}

/// The same; `stand_ins` are described to whoever asks GraphQL for their
/// ids, as long as nothing is held under them: clients look a module up before they name it.
pub fn router_with(weave: Arc<Weave>, stand_ins: StandIns) -> Router {
    let schema = graphql::schema(weave.clone(), stand_ins);
    let graphql = Router::new()
        .route("/graphql", post(search).get(explain))
        .with_state((schema, weave.config().graphql_bytes_max));
    Router::new()
        .route("/{id}", get(data))
        .route("/raw/{id}", get(data))
        .route("/tx/{id}", get(transaction))
        .route("/tx/{id}/status", get(status))
        .route("/tx/{id}/data", get(data_text))
        .route("/tx/arweave", post(upload))
        .route("/tx", post(upload))
        .route("/tx/local", post(upload_local))
        .route("/info", get(info))
        .route("/height", get(height))
        .route("/block/height/{height}", get(block))
        .route("/block/current", get(current_block))
        .with_state(weave)
        .merge(graphql)
}

async fn find(weave: &Weave, id: &str) -> Answer<Found> {
    let unknown = || Refusal::not_found("unknown-id", format!("nothing is held under `{id}`"));
    let parsed: ItemId = id.parse().map_err(|_| unknown())?;
    weave.lookup(parsed).await?.ok_or_else(unknown)
}

async fn data(
    State(weave): State<Arc<Weave>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Reply<Response> {
    let found = find(&weave, &id).await?;
    Ok(gateway::data(&found, &headers))
}

/// As Arweave's nodes answer: the data as base64url text.
async fn data_text(State(weave): State<Arc<Weave>>, Path(id): Path<String>) -> Reply<Response> {
    let found = find(&weave, &id).await?;
    let data = found.stored.data();
    let data =
        data.ok_or_else(|| Refusal::not_found("data-withheld", format!("the data of {id} was withheld")))?;
    Ok(spec::ids::base64url(&data).into_response())
}

async fn transaction(State(weave): State<Arc<Weave>>, Path(id): Path<String>) -> Reply<Json<Value>> {
    let found = find(&weave, &id).await?;
    Ok(Json(gateway::transaction(&found.stored)))
}

async fn status(State(weave): State<Arc<Weave>>, Path(id): Path<String>) -> Reply<Json<Value>> {
    let found = find(&weave, &id).await?;
    Ok(Json(gateway::status(&found, weave.chain())))
}

async fn info(State(weave): State<Arc<Weave>>) -> Json<Value> {
    Json(gateway::info(weave.chain()))
}

async fn height(State(weave): State<Arc<Weave>>) -> String {
    weave.chain().height().to_string()
}

async fn current_block(State(weave): State<Arc<Weave>>) -> Json<Value> {
    Json(gateway::block(weave.chain(), weave.chain().height()))
}

async fn block(State(weave): State<Arc<Weave>>, Path(height): Path<String>) -> Reply<Json<Value>> {
    let number: u64 = height
        .parse()
        .map_err(|_| Refusal::invalid("invalid-height", format!("`{height}` is not a block height")))?;
    let last = weave.chain().height();
    if number == 0 || number > last {
        let text = format!("there is no block {number}; the chain has blocks 1 to {last}");
        return Err(Refusal::not_found("unknown-block", text).into());
    }
    Ok(Json(gateway::block(weave.chain(), number)))
}

async fn upload(State(weave): State<Arc<Weave>>, body: Bytes) -> Reply<Json<Uploaded>> {
    store(&weave, body, Class::Permanent).await
}

/// For items that must not leave this machine; other gateways have no such route.
async fn upload_local(State(weave): State<Arc<Weave>>, body: Bytes) -> Reply<Json<Uploaded>> {
    store(&weave, body, Class::Local).await
}

/// Stores a signed item; the answer has the form of a bundler's receipt.
async fn store(weave: &Weave, body: Bytes, class: Class) -> Reply<Json<Uploaded>> {
    let item = DataItem::parse(body).map_err(Refusal::from)?;
    // Verified where checking a signature holds nobody up.
    weave.append(vec![item.clone()], class).await?;
    let chain = weave.chain();
    Ok(Json(Uploaded {
        id: item.id(),
        timestamp: chain.now_ms(),
        owner: item.owner_address(),
        winc: "0".into(),
        version: "1.0.0".into(),
        deadline_height: chain.height() + DEADLINE_BLOCKS,
        data_caches: Vec::new(),
        fast_finality_indexes: Vec::new(),
    }))
}

async fn search(
    State((schema, bytes_max)): State<(Schema, usize)>,
    headers: HeaderMap,
    body: Bytes,
) -> Reply<Response> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    // Other content types could be sent by any web page without the browser asking first.
    if !kind.is_some_and(|kind| {
        kind.trim_start()
            .to_ascii_lowercase()
            .starts_with("application/json")
    }) {
        let refusal = Refusal::invalid("invalid-content-type", "send the query as application/json");
        return Ok((StatusCode::UNSUPPORTED_MEDIA_TYPE, Reject(refusal)).into_response());
    }
    if body.len() > bytes_max {
        let text = format!("the query has {} bytes, the limit is {bytes_max}", body.len());
        return Err(Refusal::limit("query-too-large", text).into());
    }
    let mut request: async_graphql::Request = serde_json::from_slice(&body).map_err(|error| {
        Refusal::invalid(
            "invalid-query",
            format!("the body is no GraphQL request: {error}"),
        )
    })?;
    graphql::fill_defaults(&mut request);
    let response = schema.execute(request).await;
    Ok(Json(response).into_response())
}

async fn explain() -> Json<Value> {
    Json(json!({
        "message": "This is the GraphQL endpoint: POST {\"query\": \"…\", \"variables\": {…}} as application/json.",
        "example": "{ transactions(first: 10, tags: [{ name: \"Type\", values: [\"Process\"] }]) { edges { node { id } } } }",
    }))
}
