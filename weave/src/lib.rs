//! Permanent storage: the segment log every unit's truth lives in, the index derived from it, the
//! local dev chain, and the gateway that serves it all.
//!
//! Not here: slots, processes, evaluation. The invariant: what [`Log::append`] acknowledged is
//! durable, and everything outside `DATA/log` can be deleted and is built again.

pub mod config;
pub mod error;
mod frame;
pub mod log;
pub mod record;
mod scan;
mod segment;
mod writer;

pub use config::Config;
pub use error::Error;
pub use log::{Append, Log};
pub use record::{Entry, Note, NoteKind, Position, Record};
