//! Administration routes: what only the operator of this machine may do over HTTP.
//!
//! They answer only to connections from this machine that carry a header no web page can send
//! without being asked (there is no CORS here). Not here: anything a client needs.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::HeaderMap;
use axum::routing::post;
use spec::contract::{Answer, Class, Permanent};
use spec::{DataItem, ItemId, ItemParts, Refusal};
use weave::upload::Preview;
use wire::server::{Limits, Params, Peer, Reject};

use crate::assemble::Node;
use crate::module::Description;
use crate::upload::Board;

/// The header that marks a request as the operator's.
pub const ADMIN_HEADER: &str = "x-weft-admin";

/// The routes.
pub fn router(node: Arc<Node>, limits: &Limits) -> Router {
    Router::new()
        .route("/weft/modules", post(add_module))
        .route("/weft/seal", post(seal))
        .route("/weft/upload/preview", post(preview))
        .layer(DefaultBodyLimit::max(limits.body_bytes_max))
        .with_state(node)
}

/// Browsers name the page that asks in these headers; the command line sends none of them. The header
/// of ours keeps out forms, these keep out scripts of pages that the gateway itself serves.
const BROWSER_HEADERS: [&str; 3] = ["origin", "referer", "sec-fetch-site"];

fn check(peer: &Peer, headers: &HeaderMap) -> Answer<()> {
    let local = peer.0.is_some_and(|address| address.ip().is_loopback());
    let browser = BROWSER_HEADERS.iter().any(|name| headers.contains_key(*name));
    if local && !browser && headers.contains_key(ADMIN_HEADER) && names_loopback(headers) {
        return Ok(());
    }
    let text =
        format!("this route answers only to programs on the machine itself, with the header {ADMIN_HEADER}");
    Err(Refusal::invalid("not-operator", text))
}

/// Whether the request was sent to a loopback name: a foreign name that resolves here is an attack.
fn names_loopback(headers: &HeaderMap) -> bool {
    let host = headers
        .get("host")
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, _)| name)
        .trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn board(node: &Node) -> Answer<&Board> {
    let text = "this node has no weave, so there is nothing to upload";
    node.board
        .as_deref()
        .ok_or_else(|| Refusal::invalid("no-weave", text))
}

/// Seals what is open, so that it goes up at once.
async fn seal(
    State(node): State<Arc<Node>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Reject> {
    check(&peer, &headers)?;
    board(&node)?.seal().await?;
    Ok(Json(serde_json::json!({ "sealed": true })))
}

/// Asks what everything that waits would cost.
async fn preview(
    State(node): State<Arc<Node>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Json<Preview>, Reject> {
    check(&peer, &headers)?;
    Ok(Json(board(&node)?.upload()?.preview().await?))
}

/// Stores a module signed by the node, or registers its bytes under a published id.
async fn add_module(
    State(node): State<Arc<Node>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    params: Params,
    body: Bytes,
) -> Result<Json<serde_json::Value>, Reject> {
    check(&peer, &headers)?;
    let weave = node.weave.as_ref();
    let weave = weave
        .ok_or_else(|| Refusal::invalid("no-weave", "this node has no weave: ask the gateway's node"))?;
    let description = Description::from_params(&params)?;
    let id: ItemId = match params.get("id") {
        Some(_) => {
            let id = params.id("id")?;
            weave
                .register(id, description.tags(), body, node.signer.address())
                .await?;
            id
        }
        None => {
            let parts = ItemParts {
                tags: description.tags(),
                data: body,
                ..ItemParts::default()
            };
            let item = DataItem::sign(&parts, &node.signer)?;
            // It goes up once a permanent process runs it.
            weave.append(vec![item.clone()], Class::Local).await?;
            item.id()
        }
    };
    Ok(Json(serde_json::json!({ "id": id })))
}
