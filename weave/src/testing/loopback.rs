//! Requests to the double without sockets: its routers as a transport of the network's clients.
//!
//! The invariant: what passes here is what would pass over HTTP, headers and statuses included.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::Response;
use spec::Refusal;
use spec::contract::Answer;
use tower::ServiceExt;

use super::PEERS;
use super::http::{Handle, router};
use crate::network::{BundlerService, Peer, Transport};

struct Loopback(Router);

#[async_trait]
impl Transport for Loopback {
    async fn send(&self, request: http::Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        let request: Request = request.map(Body::from);
        let Ok(response) = self.0.clone().oneshot(request).await;
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, bytes_max).await;
        let body = body.map_err(|error| Refusal::upstream("unreachable", error.to_string()))?;
        Ok(Response::from_parts(head, body))
    }
}

/// The way to one of the double's peers.
pub fn transport(handle: &Handle, number: usize) -> Arc<dyn Transport> {
    Arc::new(Loopback(router(handle, number)))
}

/// A client of one of the double's peers.
pub fn peer(handle: &Handle, number: usize) -> Peer {
    Peer::new(&format!("peer-{number}"), transport(handle, number))
}

/// Clients of all its peers.
pub fn peers(handle: &Handle) -> Vec<Peer> {
    (0..PEERS).map(|number| peer(handle, number)).collect()
}

/// A client of its bundler, which answers at the first peer.
pub fn bundler(handle: &Handle) -> BundlerService {
    BundlerService::new("bundler", Arc::new(Loopback(router(handle, 0))), "arweave")
}
