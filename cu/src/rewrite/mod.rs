//! Load-time rewrites that make a published module cheap and safe to run.
//!
//! 1. **Metering** (formats that ask for it): gas statements as the field counts them (`gas`).
//! 2. **Asyncify strip**: a host that answers every import at once never leaves Asyncify's state 0, so each read of
//!    its state global becomes the constant 0 and the branches it decides are removed (`fold`, `body`).
//! 3. **memory64 to memory32**: pointers stay 64-bit values; only the address of an access is narrowed, and an
//!    address that would trap still traps (`lower`).
//! 4. **Guard**: safepoints, a call-depth counter, and exports through which all state can be saved (`guard`).
//!
//! Not here: compiling, running. Invariant: 2 and 3 keep every result and every byte of memory; 1 and 4 add only what
//! their pages say. Whatever has not the expected shape is refused, never guessed at.

mod body;
pub mod bounds;
mod facts;
mod fold;
pub mod gas;
pub mod guard;
mod lower;
mod plan;

use wasm_encoder::reencode;
use wasmparser::WasmFeatures;

/// Part of the engine epoch: bumped whenever the output for some module changes.
pub const VERSION: u32 = 1;

/// Why a module is not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid, or uses a proposal that is not accepted.
    #[error("the module is invalid or uses a proposal that is not accepted: {0}")]
    Invalid(#[from] wasmparser::Error),
    /// It has not the expected shape, or is beyond a bound.
    #[error("{0}")]
    Shape(String),
    /// As before, in one function.
    #[error("function {0}: {1}")]
    Function(u32, Box<Error>),
    /// The encoder could not write it.
    #[error("re-encoding failed: {0}")]
    Encode(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn shape(text: impl Into<String>) -> Error {
        Error::Shape(text.into())
    }

    fn in_function(self, index: u32) -> Error {
        Error::Function(index, Box::new(self))
    }
}

impl From<reencode::Error<Error>> for Error {
    fn from(e: reencode::Error<Error>) -> Error {
        match e {
            reencode::Error::UserError(e) => e,
            reencode::Error::ParseError(e) => Error::Invalid(e),
            e => Error::Encode(e.to_string()),
        }
    }
}

impl From<reencode::Error> for Error {
    fn from(e: reencode::Error) -> Error {
        match e {
            reencode::Error::ParseError(e) => Error::Invalid(e),
            e => Error::Encode(e.to_string()),
        }
    }
}

/// Turns "must hold" into a refusal.
fn require(holds: bool, text: impl Into<String>) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::shape(text)) }
}

/// What the fold and the lowering do; all on except in tests that measure or compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// Remove Asyncify's instrumentation where the module has any.
    pub strip_asyncify: bool,
    /// Lower a 64-bit memory to a 32-bit one where the module has one.
    pub lower_memory64: bool,
    /// Leave a bounds guard out where the address is known to fit already.
    pub elide_guards: bool,
    /// Fold constants and remove dead branches here instead of leaving that to the compiler.
    pub fold: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            strip_asyncify: true,
            lower_memory64: true,
            elide_guards: true,
            fold: true,
        }
    }
}

/// What a rewrite did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Asyncify was removed.
    pub stripped: bool,
    /// The memory was lowered.
    pub lowered: bool,
    /// Reads of the Asyncify state that became 0.
    pub state_reads: usize,
    /// Branches whose condition was known.
    pub branches_folded: usize,
    /// Memory accesses narrowed.
    pub accesses: usize,
    /// Of them, those that needed a bounds guard.
    pub guards: usize,
}

/// The Asyncify strip and the lowering, each where it applies.
pub fn simplify(wasm: &[u8], options: &Options) -> Result<(Vec<u8>, Stats)> {
    fold::simplify(wasm, options)
}

/// Everything the translators model; the validator refuses anything else.
pub fn accepted_features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::FLOATS
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::CALL_INDIRECT_OVERLONG
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::GC_TYPES
        | WasmFeatures::SIMD
        | WasmFeatures::MEMORY64
}
