//! How a request reaches a peer: one trait, carried by HTTP or, in tests, by the double's own routers.
//!
//! Not here: what a request means. The invariant: no more than `bytes_max` bytes of an answer are ever held.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use spec::contract::Answer;

/// A way to one peer.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request whose URI is a path (with its query) below the peer's base, and reads an answer of at most
    /// `bytes_max` bytes, whatever its status.
    ///
    /// # Errors
    /// The peer cannot be reached, is late, or answers more than that: kind `Upstream`.
    async fn send(&self, request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>>;
}
