//! The gateway as an Arweave node for writers: transactions of format 2, their chunks, and the items of their bundles.
//!
//! Not here: consensus. Nothing is mined, nothing costs anything, anchors and rewards are not looked at; what is
//! posted is held by this node and answered as any item is. The invariant: a transaction is held with its owner's
//! signature, its data only as what was signed, and an item of its bundle only if it verifies.

pub mod chunk;
pub mod http;
pub mod note;
mod store;

pub(crate) use store::Shelf;
pub use store::Taken;
