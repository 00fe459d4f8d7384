//! The double over HTTP: one router for each of its peers.
//!
//! Not here: what is answered (`answer`, `input`, `graphql`), listening (`serve`). The invariant: whatever changes the
//! double is noted before it is applied, in the order in which it is applied.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::answer::Answer;
use super::double::Double;
use super::graphql::{self, Schema};
use super::input::Input;
use super::serve::Journal;
use crate::range;

/// Longest body: a bundle in one item.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A double that requests share.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    double: Mutex<Double>,
    journal: Option<Mutex<Journal>>,
}

impl Handle {
    /// Of a double that is forgotten with its program.
    pub fn new(double: Double) -> Handle {
        Handle::of(double, None)
    }

    pub(super) fn of(double: Double, journal: Option<Journal>) -> Handle {
        let (double, journal) = (Mutex::new(double), journal.map(Mutex::new));
        Handle(Arc::new(Inner { double, journal }))
    }

    /// The double itself. Nothing may be awaited while it is held.
    pub fn lock(&self) -> MutexGuard<'_, Double> {
        self.0.double.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change, and notes it where notes are kept.
    pub fn apply(&self, input: &Input) -> Answer {
        let mut double = self.lock();
        if let Some(journal) = &self.0.journal {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = journal.write(double.now_ms(), input) {
                return Answer::text(503, format!("the double cannot write its journal: {error}"));
            }
        }
        double.apply(input)
    }

    /// Lets time pass, and notes how far.
    pub(super) fn tick(&self, ms: u64) -> std::io::Result<()> {
        let mut double = self.lock();
        double.tick(ms);
        match &self.0.journal {
            Some(journal) => journal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .note_time(double.now_ms()),
            None => Ok(()),
        }
    }
}

#[derive(Clone)]
struct Peer {
    handle: Handle,
    schema: Schema,
    number: usize,
}

/// The routes of one of the peers; gateway, GraphQL and bundler answer at each.
pub fn router(handle: &Handle, number: usize) -> Router {
    assert!(number < super::PEERS, "there are three peers");
    let peer = Peer {
        handle: handle.clone(),
        schema: graphql::schema(handle.clone()),
        number,
    };
    Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(peer)
}

async fn answer(State(peer): State<Peer>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let received = peer.handle.lock().receive(peer.number);
    let delay_ms = match received {
        Ok(delay_ms) => delay_ms,
        Err(refused) => return response(*refused, &parts.headers, false),
    };
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return response(Answer::text(413, "Payload too large"), &parts.headers, false);
    };
    let path = parts.uri.path().trim_end_matches('/');
    if delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
    if path == "/graphql" {
        return search(&peer.schema, &parts.method, &body).await;
    }
    let is_head = parts.method == Method::HEAD;
    let answered = match (
        &parts.method,
        change(&parts.method, &parts.uri, peer.number, &body),
    ) {
        (_, Some(input)) => peer.handle.apply(&input),
        (&Method::GET | &Method::HEAD, None) => peer.handle.lock().get(peer.number, path),
        (&Method::OPTIONS, None) => Answer::text(200, ""),
        _ => Answer::text(405, "Method not allowed"),
    };
    response(answered, &parts.headers, is_head)
}

/// The change that a request asks for.
fn change(method: &Method, uri: &Uri, peer: usize, body: &Bytes) -> Option<Input> {
    let path: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    match (method, &path[..]) {
        // An item begins with the number of its signature type, never with a brace.
        (&Method::POST, ["tx"]) if body.first() == Some(&b'{') => {
            Some(Input::Transaction(peer, body.clone()))
        }
        (&Method::POST, ["chunk"]) => Some(Input::Chunk(peer, body.clone())),
        (&Method::POST, ["tx"] | ["tx", _]) => Some(Input::Item(body.clone())),
        (&Method::POST, ["v1" | "bundler", "tx"] | ["v1" | "bundler", "tx", _]) => {
            Some(Input::Item(body.clone()))
        }
        (&Method::GET, ["mint", address, winston]) => {
            Some(Input::Mint(address.parse().ok()?, winston.to_string()))
        }
        (&Method::GET, ["mine"]) => Some(Input::Mine(1)),
        (&Method::GET, ["mine", blocks]) => Some(Input::Mine(blocks.parse().ok()?)),
        _ => None,
    }
}

async fn search(schema: &Schema, method: &Method, body: &[u8]) -> Response {
    if method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "POST a query").into_response();
    }
    match serde_json::from_slice::<async_graphql::Request>(body) {
        Ok(request) => axum::Json(schema.execute(request).await).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn response(answer: Answer, request: &HeaderMap, is_head: bool) -> Response {
    let mut headers = HeaderMap::new();
    let value = |text: &str| HeaderValue::from_str(text).ok();
    let kind = value(&answer.content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        "x-weft-double",
        HeaderValue::from_static("no network, nothing here is permanent"),
    );
    if let Some(encoding) = answer.content_encoding.as_deref().and_then(value) {
        headers.insert(header::CONTENT_ENCODING, encoding);
    }
    let status = StatusCode::from_u16(answer.status).expect("statuses are constants");
    let mut response = match answer.data_of {
        Some(id) => {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            headers.extend(value(&format!("\"{id}\"")).map(|tag| (header::ETAG, tag)));
            range::answer(request, headers, answer.body, &id.to_string())
        }
        None => (status, headers, answer.body).into_response(),
    };
    if is_head {
        *response.body_mut() = Body::empty();
    }
    response
}
