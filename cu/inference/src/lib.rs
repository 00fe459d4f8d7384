//! Bit-exact evaluation of neural networks: the same bits on every machine, device, batch and chunking.
//!
//! `spec/inference.md` says what is computed (DIN-1), `backend/cpu.rs` is that text as short scalar code, and every
//! faster path must equal it on every input. Not here: who asks, who pays, sockets, clocks, any other crate of ours.
//! Invariant: sums run over integers only, so no order of adding can change a result; floats are element-wise.

pub mod backend;
pub mod balance;
pub mod bert;
pub mod blocks;
pub mod chat;
pub mod decoder;
pub mod device;
pub mod encoder;
pub mod engine;
mod error;
pub mod generate;
pub mod gguf;
pub mod math;
mod merge;
pub mod model;
pub mod package;
pub mod pairs;
pub mod rope;
pub mod safetensors;
pub mod sample;
pub mod service;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tokenizer;
pub mod trace;
pub mod vocabulary;
pub mod weight;

pub use backend::Backend;
pub use error::Error;

/// The name of the numerics; it stands in every receipt. A change of one bit in any result changes it.
pub const NUMERICS: &str = "din1";

/// How finely activations are quantised before a dot product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// 16-bit activations: the default.
    A16,
    /// 8 bits of an activation count: less work on graphics devices, about three times the error.
    A8,
}

impl Profile {
    /// The name in model ids and receipts.
    pub fn name(self) -> &'static str {
        match self {
            Profile::A16 => "din1-a16",
            Profile::A8 => "din1-a8",
        }
    }

    /// The profile of that name.
    pub fn named(name: &str) -> Option<Profile> {
        [Profile::A16, Profile::A8]
            .into_iter()
            .find(|profile| profile.name() == name)
    }
}
