//! The gateway's routes, relative to its root.
//!
//! Not here: what the answers look like (`gateway.rs`, `graphql`), limits of the listener (`wire`).

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use spec::contract::{Answer, Class, Permanent};
use spec::{DataItem, ItemId, Refusal};
use wire::permanent::Uploaded;
use wire::server::Reject;

use crate::base_layer;
use crate::gateway;
use crate::graphql::{self, Schema};
pub use crate::graphql::{StandIn, StandIns};
use crate::manifest::{self, Manifest};
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
        .route("/{id}", get(resolved))
        .route("/raw/{id}", get(data))
        .route("/tx/{id}", get(transaction))
        .route("/tx/{id}/status", get(status))
        .route("/tx/{id}/data", get(data_text))
        .route("/tx/arweave", post(upload_permanent))
        .route("/tx", post(upload))
        .route("/tx/local", post(upload_local))
        .route("/info", get(info))
        .route("/height", get(height))
        .route("/block/height/{height}", get(block))
        .route("/block/hash/{id}", get(block_of_id))
        .route("/block/current", get(current_block))
        .with_state(weave.clone())
        .merge(graphql)
        .merge(base_layer::http::router(weave))
}

fn unknown(id: &str) -> Refusal {
    Refusal::not_found("unknown-id", format!("nothing is held under `{id}`"))
}

async fn find(weave: &Weave, id: &str) -> Answer<Found> {
    let parsed: ItemId = id.parse().map_err(|_| unknown(id))?;
    weave.lookup(parsed).await?.ok_or_else(|| unknown(id))
}

/// As [`find`], for what tells nothing of the data.
async fn find_header(weave: &Weave, id: &str) -> Answer<Found> {
    let parsed: ItemId = id.parse().map_err(|_| unknown(id))?;
    weave.lookup_header(parsed).await?.ok_or_else(|| unknown(id))
}

async fn data(
    State(weave): State<Arc<Weave>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Reply<Response> {
    let found = find(&weave, &id).await?;
    Ok(gateway::data(&found, &headers))
}

/// As [`data`], but a manifest answers with its index.
async fn resolved(
    State(weave): State<Arc<Weave>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Reply<Response> {
    let found = find(&weave, &id).await?;
    match manifest::is_manifest(&found.stored) {
        true => below(&weave, &found, "", &headers).await,
        false => Ok(gateway::data(&found, &headers)),
    }
}

/// What a manifest has at a path.
async fn below(weave: &Weave, found: &Found, path: &str, headers: &HeaderMap) -> Reply<Response> {
    let id = found.stored.id();
    let Some(data) = found.stored.data() else {
        return Ok(gateway::data(found, headers));
    };
    let limit = weave.config().manifest_bytes_max;
    if data.len() > limit {
        let text = format!(
            "the manifest {id} has {} bytes, the limit is {limit}; /raw/{id} serves it",
            data.len()
        );
        return Err(Refusal::limit("manifest-too-large", text).into());
    }
    let manifest = Manifest::parse(&data).map_err(|error| {
        let text = format!("{id} cannot be resolved: {error}; /raw/{id} serves it as it is");
        Refusal::not_found("invalid-manifest", text)
    })?;
    let target = manifest.resolve(path).ok_or_else(|| {
        let text = format!(
            "the manifest {id} has no path `{}` and no fallback",
            manifest::decoded(path)
        );
        Refusal::not_found("unknown-path", text)
    })?;
    let target = find(weave, &target.to_string()).await?;
    Ok(gateway::data(&target, headers))
}

/// Serves paths below manifests wherever no other route does: what any route answers but 404 stands.
pub fn with_manifests(routes: Router, weave: Arc<Weave>) -> Router {
    routes.layer(axum::middleware::from_fn_with_state(weave, last_resort))
}

async fn last_resort(State(weave): State<Arc<Weave>>, request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::GET || request.method() == Method::HEAD)
        .then(|| (request.uri().path().to_string(), request.headers().clone()));
    let is_head = request.method() == Method::HEAD;
    let answer = next.run(request).await;
    let Some((path, headers)) = asked.filter(|_| answer.status() == StatusCode::NOT_FOUND) else {
        return answer;
    };
    match manifest_at(&weave, &path, &headers).await {
        None => answer,
        Some(found) => stand_in(answer, found.unwrap_or_else(IntoResponse::into_response), is_head),
    }
}

/// The answer of a manifest to `/{id}/{path}`; `None` if there is none of that id.
async fn manifest_at(weave: &Weave, path: &str, headers: &HeaderMap) -> Option<Reply<Response>> {
    let (id, path) = path.trim_start_matches('/').split_once('/')?;
    let id: ItemId = id.parse().ok()?;
    let found = match weave.lookup(id).await {
        Ok(found) => found.filter(|found| manifest::is_manifest(&found.stored))?,
        Err(refusal) => return Some(Err(refusal.into())),
    };
    Some(below(weave, &found, path, headers).await)
}

/// One answer in another's place; what stands for the whole listener (CORS) is kept.
fn stand_in(refused: Response, mut answer: Response, is_head: bool) -> Response {
    for (name, value) in refused.headers() {
        if name.as_str().starts_with("access-control-") || name == header::VARY {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
    }
    if is_head {
        *answer.body_mut() = Body::empty();
    }
    answer
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
    let found = find_header(&weave, &id).await?;
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

async fn block_of_id(State(weave): State<Arc<Weave>>, Path(id): Path<ItemId>) -> Reply<Json<Value>> {
    let found = graphql::by_ids(&weave, vec![id]).await?;
    let unknown = || Refusal::not_found("unknown-block", format!("the chain has no block {id}"));
    let block = found.first().ok_or_else(unknown)?;
    Ok(Json(gateway::block(weave.chain(), block.height)))
}

async fn upload(State(weave): State<Arc<Weave>>, body: Bytes) -> Reply<Response> {
    // A transaction is JSON; an item begins with the number of its signature type, which is no brace.
    if body.first() == Some(&b'{') {
        return base_layer::http::post_transaction(&weave, body).await;
    }
    // Nobody said that it is to be uploaded: it goes up once a permanent process needs it.
    Ok(store(&weave, body, Class::Local).await?.into_response())
}

/// As [`upload`], for items that are to be uploaded whether a process needs them or not.
async fn upload_permanent(State(weave): State<Arc<Weave>>, body: Bytes) -> Reply<Response> {
    if body.first() == Some(&b'{') {
        return base_layer::http::post_transaction(&weave, body).await;
    }
    Ok(store(&weave, body, Class::Permanent).await?.into_response())
}

/// For items that must not leave this machine; other gateways have no such route.
async fn upload_local(State(weave): State<Arc<Weave>>, body: Bytes) -> Reply<Json<Uploaded>> {
    let item = DataItem::parse(body).map_err(Refusal::from)?;
    weave.append_kept_local(item.clone()).await?;
    Ok(receipt(&weave, &item))
}

/// Stores a signed item.
async fn store(weave: &Weave, body: Bytes, class: Class) -> Reply<Json<Uploaded>> {
    let item = DataItem::parse(body).map_err(Refusal::from)?;
    // Verified where checking a signature holds nobody up.
    weave.append(vec![item.clone()], class).await?;
    Ok(receipt(weave, &item))
}

/// The answer has the form of a bundler's receipt.
fn receipt(weave: &Weave, item: &DataItem) -> Json<Uploaded> {
    let chain = weave.chain();
    Json(Uploaded {
        id: item.id(),
        timestamp: chain.now_ms(),
        owner: item.owner_address(),
        winc: "0".into(),
        version: "1.0.0".into(),
        deadline_height: chain.height() + DEADLINE_BLOCKS,
        data_caches: Vec::new(),
        fast_finality_indexes: Vec::new(),
    })
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
