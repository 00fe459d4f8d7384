//! Clients of what lies outside: nodes of the Arweave network, gateways and bundlers.
//!
//! Not here: what is uploaded and when (`upload`), what a rebuild does with what it reads. The invariant: nothing
//! from a peer is trusted. An answer is bounded in size and read into a type or refused; whether it is true is for
//! the caller to check against hashes and signatures.

mod answer;
mod bundler;
mod over_http;
mod peer;
#[cfg(test)]
mod tests;
mod transport;

pub use answer::{BlockGot, ChunkGot, Info};
pub use bundler::{BundlerService, ItemState, ItemStatus, Receipt};
pub use over_http::HttpTransport;
pub use peer::{Accepted, ChunkAccepted, ChunkPost, Peer, TxStatus};
pub use transport::Transport;
