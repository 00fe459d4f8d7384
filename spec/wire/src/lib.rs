//! The HTTP and JSON form of the four contracts: server plumbing, the pooled client, and for each
//! contract its JSON shapes and the client that carries it.
//!
//! Not here: any unit, any decision about a message.

pub mod client;
pub mod compute;
pub mod events;
mod linger;
pub mod messenger;
pub mod permanent;
pub mod scheduler;
pub mod server;
pub mod telemetry;
