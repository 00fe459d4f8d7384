//! The WASM runtime: loads a module, keeps its instances live, and runs one message at a time.
//!
//! Not here: the log, outcomes, HTTP, files of checkpoints. Nothing in here reads a clock, a random source or
//! the configuration in a way that could reach a result.
//!
//! How an owner uses it:
//!
//! ```text
//! let engine  = Engine::new(Config { cache: Some(dir), ..Config::default() })?;
//! let module  = engine.load(&wasm, ModuleFormat::detect(&wasm)?)?;   // slow once, then from the cache
//! let mut m   = Machine::start(&module, limits)?;                    // or Machine::restore(&module, limits, &image)?
//! match m.call(&message_json, &env_json)? {                          // outer error: the host is in trouble, record nothing
//!     Ok(answer) if !answer.has_error => m.commit(),
//!     _ => m.roll_back()?,                                           // an Error or a Fault: the state before stays
//! }
//! let image = m.encode()?;                                           // a checkpoint; the owner stores the bytes
//! ```
//!
//! Every call blocks its thread. A thread made with [`STACK_BYTES`] of stack is used as it is; on a smaller one
//! each call moves to a fresh thread of that size (tens of microseconds).

mod anchor;
mod artefact;
mod dictionary;
mod emscripten;
mod engine;
mod format;
pub mod frame;
mod host;
mod image;
mod layout;
mod live;
mod lua;
mod machine;
mod module;
mod packed;
mod pages;
mod reply;
mod root;
mod watch;

pub use crate::rewrite::bounds::Bounds;
pub use engine::{Engine, prepare};
pub use format::ModuleFormat;
pub use host::oracle::{Answered, Oracle, Place};
pub use lua::sha256;
pub use machine::Machine;
pub use module::Module;
pub use packed::State;

use bytes::Bytes;
use std::path::PathBuf;

/// Stack a thread needs so that a call can run on it directly.
pub const STACK_BYTES: usize = 24 << 20;
/// Largest linear memory that any process may get.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Gas of one message where nothing else is said: about 10 s of one core.
pub const GAS_DEFAULT: u64 = 150_000_000_000;

/// What the node decides about the runtime. It may refuse an evaluation, it never changes a result.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Folder for compiled modules, private to this user; `None` compiles anew each time.
    pub cache: Option<PathBuf>,
    /// Bounds on what is compiled at all.
    pub bounds: Bounds,
    /// Interpret instead of running native code. For tests: a message that does not end is not stopped.
    #[cfg(feature = "pulley")]
    pub interprets: bool,
}

impl Config {
    /// Whether code is interpreted.
    fn interprets(&self) -> bool {
        #[cfg(feature = "pulley")]
        return self.interprets;
        #[cfg(not(feature = "pulley"))]
        return false;
    }
}

/// What a process may use; part of the process or module, never of the node's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, bytes. Growth past it fails inside the module. Rounded down to 64 KiB.
    pub memory_bytes_max: u64,
    /// Gas of one message, in units of the rewritten module (see [`GAS_DEFAULT`]).
    pub gas_max: u64,
    /// Gas of one message as the metering formats count it (`Compute-Limit`); unused by the others.
    pub metered_gas_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes_max: 1 << 30,
            gas_max: GAS_DEFAULT,
            metered_gas_max: 9_000_000_000_000,
        }
    }
}

/// Why something could not be done that has nothing to do with the message: nothing may be recorded as a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The module is invalid, unsupported or beyond a bound; the text names the place.
    #[error("module refused: {0}")]
    Refused(String),
    /// The image is not one of ours, damaged, or of another module or engine epoch: replay the log instead.
    #[error("image refused: {0}")]
    Image(String),
    /// The machine under us failed (memory, files, threads).
    #[error("host: {0}")]
    Host(String),
    /// What the message asked of this node is not to be had now. The state before it stays; it can be run again.
    #[error("{0}")]
    Unavailable(spec::Refusal),
}

/// Why a message has no answer. A function of the log: the same on every machine, and recorded as the outcome's `Error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The module answered `ok: false`; the raw JSON of its response (usually a string).
    #[error("{0}")]
    Thrown(String),
    /// It trapped, aborted, or called an import that is not provided.
    #[error("{0}")]
    Trap(String),
    /// The gas limit, ours or the metered one.
    #[error("out of gas!")]
    OutOfGas,
    /// The message does not fit the module's own stack.
    #[error("message of {0} bytes does not fit the module's stack")]
    MessageTooBig(u64),
    /// Calls nested too deep.
    #[error("call stack exhausted")]
    StackDepth,
    /// What came back is not JSON text of the expected shape.
    #[error("the module's response is not valid: {0}")]
    BadResponse(String),
}

impl Fault {
    /// The value of the outcome's `Error`, as JSON text.
    pub fn error_json(&self) -> String {
        match self {
            Fault::Thrown(json) => json.clone(),
            other => serde_json::Value::from(other.to_string()).to_string(),
        }
    }
}

/// What a module answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Raw JSON of `response`: Output, Messages, Spawns, Assignments, Error and whatever else.
    pub response: Bytes,
    /// `GasUsed` of the metering formats, else 0.
    pub gas_used: u64,
}

/// The outcome of running one message.
pub type Verdict = Result<Answer, Fault>;
