//! Server plumbing shared by all units: refusals as answers, parsed queries, limits, CORS, and the
//! accept loop.
//!
//! This file holds the only map from a refusal's kind to an HTTP status. Not here: any route.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use spec::contract::Answer;
use spec::{Kind, Refusal};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt};
use tower_http::cors::CorsLayer;

use crate::linger::Lingering;

/// Bounds of a listener. At a bound new work waits or is refused; nothing grows.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest request body, in bytes.
    pub body_bytes_max: usize,
    /// Most bytes of a request's head.
    pub head_bytes_max: usize,
    /// Most headers of a request.
    pub headers_max: usize,
    /// How long a client may take to send a request's head, in ms.
    pub head_timeout_ms: u64,
    /// How long a client may take to send a request's body, in ms.
    pub body_timeout_ms: u64,
    /// Connections served at once; later ones wait in the listener's backlog.
    pub connections_max: usize,
    /// Readers that may follow processes at once.
    pub feeds_max: usize,
    /// How long open connections may finish their requests at shutdown, in ms.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 10 * 1024 * 1024,
            head_bytes_max: 64 * 1024,
            headers_max: 128,
            head_timeout_ms: 15_000,
            body_timeout_ms: 60_000,
            connections_max: 4096,
            feeds_max: 1024,
            drain_ms: 3_000,
        }
    }
}

/// The status of each kind of refusal.
pub fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Limit => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Upstream => StatusCode::BAD_GATEWAY,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The kind behind a status, for clients.
pub fn kind_of(status: u16) -> Kind {
    match status {
        404 | 410 => Kind::NotFound,
        408 | 425 | 429 | 503 => Kind::Busy,
        413 => Kind::Limit,
        502 | 504 => Kind::Upstream,
        400..=499 => Kind::Invalid,
        _ => Kind::Internal,
    }
}

/// Header that carries a refusal's stable code, for our own clients.
pub const CODE_HEADER: &str = "x-weft-code";

/// A refusal as an HTTP answer: `{"error": text}` with its kind's status.
#[derive(Debug, Clone)]
pub struct Reject(pub Refusal);

impl<E: Into<Refusal>> From<E> for Reject {
    fn from(error: E) -> Self {
        Reject(error.into())
    }
}

impl IntoResponse for Reject {
    fn into_response(self) -> Response {
        let Reject(refusal) = self;
        if refusal.kind == Kind::Internal {
            tracing::error!(code = %refusal.code, "{}", refusal.text);
        }
        let body = Json(serde_json::json!({ "error": refusal.text }));
        let mut response = (status_of(refusal.kind), body).into_response();
        let headers = response.headers_mut();
        if let Ok(code) = HeaderValue::from_str(&refusal.code) {
            headers.insert(CODE_HEADER, code);
        }
        if refusal.kind == Kind::Busy {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A parsed query string. Of a repeated name the first counts.
#[derive(Debug, Clone, Default)]
pub struct Params(HashMap<String, String>);

impl Params {
    /// Reads a query string; never fails, odd escapes stay as they are.
    pub fn parse(query: &str) -> Params {
        let mut params = HashMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            params.entry(decode(name)).or_insert_with(|| decode(value));
        }
        Params(params)
    }

    /// A parameter's text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A parameter that must be an id.
    ///
    /// # Errors
    /// If it is missing, empty or no id.
    pub fn id<T: std::str::FromStr>(&self, name: &str) -> Answer<T> {
        let text = self.get(name).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| {
            Refusal::invalid(
                "missing-parameter",
                format!("the query parameter `{name}` is required"),
            )
        })?;
        text.parse().map_err(|_| {
            let error = format!("the query parameter `{name}` must be an id of 43 characters, not `{text}`");
            Refusal::invalid("invalid-parameter", error)
        })
    }

    /// A parameter that must be a whole number, if it is there.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Answer<Option<T>> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let error = || format!("the query parameter `{name}` must be a whole number, not `{text}`");
        text.parse()
            .map(Some)
            .map_err(|_| Refusal::invalid("invalid-parameter", error()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Params::parse(parts.uri.query().unwrap_or("")))
    }
}

/// Decodes `%XX` and `+` of a query part.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = hex.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Encodes a text for a query or a path segment.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Puts the house's limits and CORS around routes, and answers unknown routes in JSON.
pub fn harden(router: Router, limits: &Limits) -> Router {
    let not_found = |uri: Uri| async move {
        let text = format!(
            "there is no route {}; see the README for the routes of each unit",
            uri.path()
        );
        Reject(Refusal::not_found("no-route", text))
    };
    let body_timeout = Duration::from_millis(limits.body_timeout_ms);
    router
        .fallback(not_found)
        .method_not_allowed_fallback(|uri: Uri| async move {
            let text = format!("the route {} does not take this method", uri.path());
            (
                StatusCode::METHOD_NOT_ALLOWED,
                Json(serde_json::json!({ "error": text })),
            )
        })
        .layer(axum::middleware::map_response(json_errors))
        .layer(DefaultBodyLimit::max(limits.body_bytes_max))
        .layer(tower_http::timeout::RequestBodyTimeoutLayer::new(body_timeout))
        .layer(
            CorsLayer::very_permissive()
                .allow_credentials(false)
                .expose_headers(tower_http::cors::Any),
        )
}

/// The framework's own refusals (a body over the limit) are text; clients expect JSON.
async fn json_errors(response: Response) -> Response {
    let status = response.status();
    let is_text = response.headers().get(header::CONTENT_TYPE);
    let is_text = is_text.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_text || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let body = axum::body::to_bytes(response.into_body(), 4096)
        .await
        .unwrap_or_default();
    let mut text = String::from_utf8_lossy(&body).into_owned();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        text = "the request body is larger than this node accepts".into();
    }
    (status, Json(serde_json::json!({ "error": text }))).into_response()
}

/// Collapses `//` in a path and drops a trailing slash: clients build URLs by appending.
fn normalize<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path();
    if !path.contains("//") && (path.len() == 1 || !path.ends_with('/')) {
        return request;
    }
    let mut clean = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    if let Some(query) = request.uri().query() {
        clean.push('?');
        clean.push_str(query);
    }
    if let Ok(uri) = clean.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// Who is at the other end of a connection; an extension of every request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer(pub Option<SocketAddr>);

/// Serves hardened routes until `stop` resolves, then lets open requests finish for a while.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) {
    let service = tower::util::MapRequestLayer::new(normalize).layer(router);
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.head_timeout_ms))
        .max_buf_size(limits.head_bytes_max.max(8192))
        .max_headers(limits.headers_max)
        .pipeline_flush(true);
    let mut stop = std::pin::pin!(stop);
    loop {
        let slot = slots
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors: wait for one to come back instead of spinning.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Small answers must not wait for a delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let handler = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(Some(peer)));
            let asks_first = request.headers().contains_key(header::EXPECT);
            let request = request.map(|body| Lingering::new(body, asks_first));
            service.clone().oneshot(request)
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), handler));
        tokio::spawn(async move {
            let _ = connection.await;
            drop(slot);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(Duration::from_millis(limits.drain_ms), graceful.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_checked() {
        let params = Params::parse("process-id=&assign=%41+b&base-layer&n=x&n=2");
        assert!(params.has("base-layer") && params.get("base-layer") == Some(""));
        assert_eq!(params.get("assign"), Some("A b"));
        assert!(params.id::<spec::ProcessId>("process-id").is_err());
        assert!(params.number::<u64>("n").is_err());
        assert_eq!(params.number::<u64>("absent"), Ok(None));
        assert_eq!(decode("%zz%4%+f"), "%zz%4% f");
        assert_eq!(decode(&encode("a b/ü=&")), "a b/ü=&");
    }

    /// What a client reads that sends `chunks` mebibytes, whatever the node says meanwhile.
    fn refused_upload(address: SocketAddr, head: &str, mebibytes: usize) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).expect("the listener is up");
        let chunk = vec![b'x'; 1 << 20];
        write!(stream, "POST /in HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n").expect("the head is taken");
        for _ in 0..mebibytes {
            if head.contains("chunked") {
                write!(stream, "{:x}\r\n", chunk.len()).expect("the node still reads");
            }
            stream.write_all(&chunk).expect("the node still reads");
            if head.contains("chunked") {
                stream.write_all(b"\r\n").expect("the node still reads");
            }
        }
        // The connection lives on: a second request is answered on it.
        if head.contains("chunked") {
            stream.write_all(b"0\r\n\r\n").expect("the node still reads");
        }
        write!(
            stream,
            "GET /gone HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .expect("it still reads");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("no reset");
        answers
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refused_upload_hears_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let limits = Limits {
            body_bytes_max: 1 << 20,
            ..Limits::default()
        };
        let routes = Router::new().route("/in", axum::routing::post(async |_: bytes::Bytes| "taken"));
        let served = serve(listener, harden(routes, &limits), limits, std::future::pending());
        tokio::spawn(served);
        let mebibytes = 40;
        for head in [
            format!("content-length: {}", mebibytes << 20),
            "transfer-encoding: chunked".to_owned(),
        ] {
            let sent = head.clone();
            let answers = tokio::task::spawn_blocking(move || refused_upload(address, &sent, mebibytes));
            let answers = answers.await.expect("the client heard both answers");
            assert!(answers.starts_with("HTTP/1.1 413"), "{head}: {answers}");
            assert!(
                answers.contains("larger than this node accepts"),
                "{head}: {answers}"
            );
            assert!(answers.contains("HTTP/1.1 404"), "{head}: {answers}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_asks_first_is_not_told_to_send() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let limits = Limits::default();
        let served = serve(
            listener,
            harden(Router::new(), &limits),
            limits,
            std::future::pending(),
        );
        tokio::spawn(served);
        let head = "expect: 100-continue\r\nconnection: close\r\ncontent-length: 99999999";
        let answers = tokio::task::spawn_blocking(move || refused_upload(address, head, 0));
        let answers = answers.await.expect("answered");
        assert!(answers.starts_with("HTTP/1.1 404"), "{answers}");
        assert!(!answers.contains("100 Continue"), "{answers}");
    }

    #[test]
    fn paths_lose_double_and_trailing_slashes() {
        let path = |uri: &str| {
            let request = Request::builder().uri(uri).body(()).expect("valid");
            normalize(request).uri().to_string()
        };
        assert_eq!(path("//cu//result/x/?a=//b"), "/cu/result/x?a=//b");
        assert_eq!(path("/"), "/");
        assert_eq!(path("//"), "/");
    }
}
