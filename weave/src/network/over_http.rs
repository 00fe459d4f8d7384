//! The transport over HTTP, by the pooled client of the contracts.
//!
//! Not here: TLS, redirects; neither is followed. The invariant: an answer that is late or too long is a refusal.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use spec::contract::Answer;
use wire::client::{Http, Limits};

use super::Transport;

/// A peer at an `http://` URL.
pub struct HttpTransport(Http);

impl HttpTransport {
    /// Of a base URL, with or without a path.
    ///
    /// # Errors
    /// If it is no such URL.
    pub fn new(base: &str, limits: &Limits) -> Answer<HttpTransport> {
        Ok(HttpTransport(Http::new(base, limits)?))
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        self.0.exchange(request, bytes_max).await
    }
}
