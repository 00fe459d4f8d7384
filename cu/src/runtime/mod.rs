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
}

/// Bounds on a module, checked before it is compiled.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Bytes of the module.
    pub module_bytes_max: usize,
    /// Functions it defines.
    pub functions_max: usize,
    /// Bytes of one function's body.
    pub body_bytes_max: usize,
    /// Locals of one function, parameters included.
    pub locals_max: usize,
    /// Wall time of one compilation; past it the module is refused.
    pub compile_ms_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { module_bytes_max: 32 << 20, functions_max: 50_000, body_bytes_max: 256 << 10, locals_max: 5_000, compile_ms_max: 60_000 }
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
        Limits { memory_bytes_max: 1 << 30, gas_max: GAS_DEFAULT, metered_gas_max: 9_000_000_000_000 }
    }
}

/// The module formats of the field that we run (tag `Module-Format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModuleFormat {
    /// `wasm32-unknown-emscripten`
    Emscripten1,
    /// `wasm32-unknown-emscripten2`
    Emscripten2,
    /// `wasm32-unknown-emscripten3`
    Emscripten3,
    /// `wasm32-unknown-emscripten4`
    Emscripten4,
    /// `wasm32-unknown-emscripten-metering`
    Emscripten4Metering,
    /// `wasm64-unknown-emscripten-draft_2024_02_15`
    Wasm64,
    /// `wasm64-unknown-emscripten-draft_2024_10_16-metering`
    Wasm64Metering,
}

impl ModuleFormat {
    /// All of them.
    pub const ALL: [ModuleFormat; 7] = [
        ModuleFormat::Emscripten1,
        ModuleFormat::Emscripten2,
        ModuleFormat::Emscripten3,
        ModuleFormat::Emscripten4,
        ModuleFormat::Emscripten4Metering,
        ModuleFormat::Wasm64,
        ModuleFormat::Wasm64Metering,
    ];

    /// The value of the tag `Module-Format`.
    pub fn name(self) -> &'static str {
        match self {
            ModuleFormat::Emscripten1 => "wasm32-unknown-emscripten",
            ModuleFormat::Emscripten2 => "wasm32-unknown-emscripten2",
            ModuleFormat::Emscripten3 => "wasm32-unknown-emscripten3",
            ModuleFormat::Emscripten4 => "wasm32-unknown-emscripten4",
            ModuleFormat::Emscripten4Metering => "wasm32-unknown-emscripten-metering",
            ModuleFormat::Wasm64 => "wasm64-unknown-emscripten-draft_2024_02_15",
            ModuleFormat::Wasm64Metering => "wasm64-unknown-emscripten-draft_2024_10_16-metering",
        }
    }

    /// The format a tag value names.
    pub fn from_name(name: &str) -> Option<ModuleFormat> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }

    /// The format a binary's imports and exports show; never a metering one, which cannot be told apart.
    pub fn detect(_wasm: &[u8]) -> Option<ModuleFormat> {
        unreachable!("body follows")
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

/// The compiler and its settings; one per node. Cheap to clone.
#[derive(Clone)]
pub struct Engine;

impl Engine {
    /// Sets up the compiler and the watch over running messages.
    pub fn new(_config: Config) -> Result<Engine, Error> {
        unreachable!("body follows")
    }

    /// The engine epoch: engine version, settings and rewriter version. Part of slot 0's assignment and of cache keys.
    pub fn epoch() -> &'static str {
        unreachable!("body follows")
    }

    /// Loads a module: from the cache of compiled ones, or else checked against the bounds, rewritten and compiled.
    /// Slow on a miss (100 to 400 ms for aos): call it where blocking is allowed, and keep the result.
    pub fn load(&self, _wasm: &Bytes, _format: ModuleFormat) -> Result<Module, Error> {
        unreachable!("body follows")
    }
}

/// A compiled module with its boot image. Cheap to clone.
#[derive(Clone)]
pub struct Module;

impl Module {
    /// SHA-256 of the binary as published.
    pub fn sha256(&self) -> [u8; 32] {
        unreachable!("body follows")
    }

    /// Its format.
    pub fn format(&self) -> ModuleFormat {
        unreachable!("body follows")
    }
}

/// A live process: one instance, its state, and the way back to the state before the last call. `Send`, not `Sync`.
pub struct Machine;

impl Machine {
    /// A fresh process: constructors have run, no message has.
    pub fn start(_module: &Module, _limits: Limits) -> Result<Machine, Error> {
        unreachable!("body follows")
    }

    /// A process from an image made by [`Machine::encode`] of the same module and engine epoch.
    pub fn restore(_module: &Module, _limits: Limits, _image: &Bytes) -> Result<Machine, Error> {
        unreachable!("body follows")
    }

    /// Runs one message; both arguments are JSON text without NUL. [`Machine::commit`] or [`Machine::roll_back`] must
    /// follow. `Err` says that the host failed: the state is as before the call, nothing may be recorded.
    pub fn call(&mut self, _message: &[u8], _env: &[u8]) -> Result<Verdict, Error> {
        unreachable!("body follows")
    }

    /// Keeps the last call's effect.
    pub fn commit(&mut self) -> Result<(), Error> {
        unreachable!("body follows")
    }

    /// Takes the last call's effect back. Costs what the calls since the last anchor cost, at most about 100 ms.
    pub fn roll_back(&mut self) -> Result<(), Error> {
        unreachable!("body follows")
    }

    /// A second machine in the same state, for dry runs beside the live one.
    pub fn fork(&mut self) -> Result<Machine, Error> {
        unreachable!("body follows")
    }

    /// The state as bytes to keep: non-zero pages only, relative to the module's boot image, compressed.
    pub fn encode(&mut self) -> Result<Bytes, Error> {
        unreachable!("body follows")
    }

    /// The state root: BLAKE3 Merkle tree over pages, with memory size, mutable globals and host state.
    pub fn state_root(&mut self) -> Result<[u8; 32], Error> {
        unreachable!("body follows")
    }

    /// Bytes of linear memory.
    pub fn memory_bytes(&self) -> u64 {
        unreachable!("body follows")
    }

    /// The raw linear memory (`/state`, ao Checkpoint). Mostly untouched zero pages: do not copy it lightly.
    pub fn memory(&self) -> &[u8] {
        unreachable!("body follows")
    }
}
