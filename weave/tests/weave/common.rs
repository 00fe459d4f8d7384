//! What the weave's tests share: items, a weave in a folder, requests without a socket.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use spec::{DataItem, ItemParts, Signer, Tag};
use tower::ServiceExt;
use weave::{Config, Weave};

/// When the tests' chain begins.
pub const GENESIS_MS: u64 = 1_700_000_000_000;

/// A clock that tests move.
#[derive(Clone)]
pub struct Time(Arc<AtomicU64>);

impl Time {
    pub fn new() -> Time {
        Time(Arc::new(AtomicU64::new(GENESIS_MS)))
    }

    pub fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }

    pub fn clock(&self) -> weave::log::Clock {
        let now = self.0.clone();
        Arc::new(move || now.load(Ordering::Relaxed))
    }
}

pub fn open(data: &Path, time: &Time) -> Arc<Weave> {
    Weave::open_with(Config::default(), data, time.clock()).unwrap()
}

pub fn signer(n: u8) -> Signer {
    Signer::ed25519(&[n; 32])
}

pub fn item(by: u8, tags: &[(&str, &str)], data: impl Into<Bytes>) -> DataItem {
    item_to(by, None, tags, data)
}

pub fn item_to(by: u8, target: Option<[u8; 32]>, tags: &[(&str, &str)], data: impl Into<Bytes>) -> DataItem {
    let parts = ItemParts {
        target,
        tags: tags.iter().map(|(name, value)| Tag::new(*name, *value)).collect(),
        data: data.into(),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &signer(by)).unwrap()
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub async fn send(weave: &Arc<Weave>, request: Request<Body>) -> Reply {
    send_to(weave::http::router(weave.clone()), request).await
}

pub async fn send_to(router: axum::Router, request: Request<Body>) -> Reply {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Reply {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

pub async fn get(weave: &Arc<Weave>, path: &str) -> Reply {
    get_with(weave, path, &[]).await
}

pub async fn get_with(weave: &Arc<Weave>, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(weave, request.body(Body::empty()).unwrap()).await
}

pub async fn post(weave: &Arc<Weave>, path: &str, body: Bytes) -> Reply {
    let request = Request::post(path).header("content-type", "application/octet-stream");
    send(weave, request.body(Body::from(body)).unwrap()).await
}

/// The whole answer to a query.
pub async fn graphql(weave: &Arc<Weave>, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables });
    let request = Request::post("/graphql").header("content-type", "application/json");
    let reply = send(weave, request.body(Body::from(body.to_string())).unwrap()).await;
    assert_eq!(reply.status, StatusCode::OK);
    reply.json()
}

/// The data of an answer without errors.
pub async fn ask(weave: &Arc<Weave>, query: &str, variables: Value) -> Value {
    let mut answer = graphql(weave, query, variables).await;
    assert_eq!(answer.get("errors"), None, "{answer}");
    answer["data"].take()
}
