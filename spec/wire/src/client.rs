//! The pooled HTTP client under every contract's client.
//!
//! It carries bytes and turns failures into refusals. Not here: what any route means.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, Uri, body::Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use spec::Refusal;
use spec::contract::Answer;

use crate::server::{CODE_HEADER, kind_of};

/// Longest answer read, in bytes: a process's memory is the largest thing on the wire.
pub const ANSWER_BYTES_MAX: usize = 4 << 30;

/// Bounds of a client.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long an answer may take, in ms; evaluations are waited for.
    pub timeout_ms: u64,
    /// Idle connections kept per host.
    pub idle_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            timeout_ms: 120_000,
            idle_max: 64,
        }
    }
}

/// A client of one base URL. Cloning shares its connections.
#[derive(Clone)]
pub struct Http {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
    header: Option<(&'static str, &'static str)>,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The stable code of a refusal, from our own servers.
    pub code: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body of a 2xx answer; anything else becomes the refusal it stands for.
    pub fn success(self) -> Answer<Bytes> {
        match self.status {
            200..=299 => Ok(self.body),
            status => Err(refusal_from(status, self.code, &self.body)),
        }
    }

    /// The JSON of a 2xx answer.
    pub fn json<T: for<'de> serde::Deserialize<'de>>(self) -> Answer<T> {
        let body = self.success()?;
        serde_json::from_slice(&body).map_err(|error| {
            Refusal::upstream(
                "bad-answer",
                format!("the answer is not the JSON expected: {error}"),
            )
        })
    }
}

/// The refusal behind an error answer.
pub fn refusal_from(status: u16, code: Option<String>, body: &[u8]) -> Refusal {
    #[derive(serde::Deserialize)]
    struct Error {
        #[serde(alias = "message")]
        error: String,
    }
    let text = serde_json::from_slice::<Error>(body).map(|e| e.error);
    let text = text.unwrap_or_else(|_| String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned());
    let mut refusal = Refusal::new(kind_of(status), "upstream", text);
    if let Some(code) = code {
        refusal.code = code.into();
    }
    refusal
}

impl Http {
    /// A client of `base`, an `http://` URL with or without a path.
    ///
    /// # Errors
    /// If it is no such URL.
    pub fn new(base: &str, limits: &Limits) -> Answer<Http> {
        let base = base.trim_end_matches('/').to_string();
        let uri: Option<Uri> = base.parse().ok();
        if !uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some()) {
            let text = format!("`{base}` is not an http:// URL");
            return Err(Refusal::invalid("invalid-url", text));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(limits.idle_max)
            .build(connector);
        Ok(Http {
            base,
            client,
            timeout: Duration::from_millis(limits.timeout_ms),
            header: None,
        })
    }

    /// The same client with one more header on every request.
    pub fn with_header(mut self, name: &'static str, value: &'static str) -> Http {
        self.header = Some((name, value));
        self
    }

    /// The base URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET of a path (with its query), which starts with `/` or is empty.
    pub async fn get(&self, path: &str) -> Answer<Reply> {
        self.send(Method::GET, path, "", Bytes::new()).await
    }

    /// POST of a body.
    pub async fn post(&self, path: &str, content_type: &str, body: Bytes) -> Answer<Reply> {
        self.send(Method::POST, path, content_type, body).await
    }

    /// DELETE with a body.
    pub async fn delete(&self, path: &str, content_type: &str, body: Bytes) -> Answer<Reply> {
        self.send(Method::DELETE, path, content_type, body).await
    }

    /// Any request, its URI a path (with its query) below the base; the answer whatever its status, with its headers.
    ///
    /// # Errors
    /// If the other side cannot be reached, is late, or answers more than `bytes_max` bytes.
    pub async fn exchange(&self, request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        let url = format!("{}{}", self.base, request.uri());
        let failed = |why: String| unreachable(&url, &why);
        let (mut head, body) = request.into_parts();
        let target = url.parse();
        head.uri = target.map_err(|e| Refusal::invalid("invalid-url", format!("{url}: {e}")))?;
        let request = Request::from_parts(head, Full::new(body));
        let exchange = async {
            let response = self.client.request(request).await;
            let (head, body) = response.map_err(|error| failed(reason(&error)))?.into_parts();
            let body = Limited::new(body, bytes_max).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let answer = tokio::time::timeout(self.timeout, exchange).await;
        answer.map_err(|_| failed(format!("no answer within {} ms", self.timeout.as_millis())))?
    }

    /// GET of an answer that is read as it comes. Only its head must arrive in time.
    pub async fn stream(&self, path: &str) -> Answer<Body> {
        let response = self.begin(Method::GET, path, "", Bytes::new());
        let response = tokio::time::timeout(self.timeout, response)
            .await
            .map_err(|_| self.timed_out(path))??;
        if response.status().is_success() {
            let url = format!("{}{path}", self.base);
            return Ok(Body {
                url,
                body: response.into_body(),
            });
        }
        let reply = tokio::time::timeout(self.timeout, read(response)).await;
        let reply = reply.map_err(|_| self.timed_out(path))?;
        let reply = reply.map_err(|why| unreachable(&format!("{}{path}", self.base), &why))?;
        Err(refusal_from(reply.status, reply.code, &reply.body))
    }

    fn timed_out(&self, path: &str) -> Refusal {
        let why = format!("no answer within {} ms", self.timeout.as_millis());
        unreachable(&format!("{}{path}", self.base), &why)
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: Bytes) -> Answer<Reply> {
        let exchange = async {
            let response = self.begin(method, path, content_type, body).await?;
            let failed = |why: String| unreachable(&format!("{}{path}", self.base), &why);
            read(response).await.map_err(failed)
        };
        let answer = tokio::time::timeout(self.timeout, exchange).await;
        answer.map_err(|_| self.timed_out(path))?
    }

    async fn begin(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Answer<Response<Incoming>> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if !content_type.is_empty() {
            request = request.header(hyper::header::CONTENT_TYPE, content_type);
        }
        if let Some((name, value)) = self.header {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|e| Refusal::invalid("invalid-url", format!("{url}: {e}")))?;
        let response = self.client.request(request).await;
        response.map_err(|error| unreachable(&url, &reason(&error)))
    }
}

/// An answer that is still coming.
pub struct Body {
    url: String,
    body: Incoming,
}

impl Body {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn next(&mut self) -> Answer<Option<Bytes>> {
        loop {
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| unreachable(&self.url, &reason(&error)))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}

fn unreachable(url: &str, why: &str) -> Refusal {
    Refusal::upstream("unreachable", format!("{url} cannot be reached: {why}"))
}

async fn read(response: Response<Incoming>) -> Result<Reply, String> {
    let status = response.status().as_u16();
    let code = response
        .headers()
        .get(CODE_HEADER)
        .and_then(|code| code.to_str().ok());
    let code = code.map(str::to_string);
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(Reply { status, code, body })
}

/// The innermost cause, which is the one that says something.
fn reason(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => reason(source),
        None => error.to_string(),
    }
}
