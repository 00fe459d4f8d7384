//! Permanent storage: the segment log every unit's truth lives in, the index derived from it, the
//! local dev chain, and the gateway that serves it all.
//!
//! Not here: slots, processes, evaluation. The invariant: what [`Log::append`] acknowledged is
//! durable, and everything in `DATA/cache` can be deleted and is built again.

mod ahead;
pub mod base_layer;
pub mod chain;
pub mod config;
pub mod error;
mod facts;
mod find;
mod frame;
mod gateway;
mod graphql;
pub mod http;
mod index;
pub mod log;
pub mod manifest;
pub mod network;
mod range;
mod recent;
pub mod record;
mod registered;
pub mod retrieve;
mod scan;
mod segment;
pub mod skeleton;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod upload;
pub mod weave;
mod writer;

pub use chain::{Block, Chain};
pub use config::Config;
pub use error::Error;
pub use frame::SegmentHead;
pub use log::{Append, Log, Sealable, Spool};
pub use record::{Entry, Note, NoteKind, Piece, Position, Record};
pub use segment::{Content, Segment, Span};
pub use weave::{Found, Held, Weave};
