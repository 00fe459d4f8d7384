//! Clients of a node: the shell that people live in. Works against any node, in process or by URL.
//!
//! Not here: any unit, any storage. The invariant: nothing that does not compile is ever signed.

pub mod catalogue;
pub mod error;
pub mod legacy;
pub mod live;
pub mod load;
pub mod lua;
pub mod node;
pub mod render;
pub mod repl;
pub mod session;
pub mod token;
pub mod trace;

pub use error::Problem;
pub use node::{Facts, Feed, Node, Urls};
pub use session::Session;
