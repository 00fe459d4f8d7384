//! A strict double of Arweave: three peers, a gateway and a bundler, on a clock that tests move.
//!
//! It is no network: nothing it holds is permanent, and its keys are printed in `spec/vectors`. What it refuses, real
//! peers refuse; what it loses or lies about, real ones have lost. Not here: our own upload. The invariant: the same
//! seed and the same inputs make the same history, and nothing is answered as mined that is not in the chain.

mod answer;
mod bundler;
mod chain;
mod double;
mod faults;
mod graphql;
pub mod http;
mod input;
mod library;
pub mod loopback;
mod peer;
pub mod publisher;
mod rules;
pub mod serve;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use bundler::{ItemStatus, Receipt};
pub use chain::{Account, Block, BlockHash, Mined, TransactionRefused};
pub use double::{Double, Served, Status};
pub use faults::{Fault, Faults};
pub use http::Handle;
pub use input::Input;
pub use loopback::{bundler, peer, peers, transport};
pub use peer::{ChunkPost, ChunkRefused, Kept, Root};
pub use publisher::Publisher;
pub use rules::Rules;

/// How many peers it answers as.
pub const PEERS: usize = 3;
