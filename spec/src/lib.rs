//! The protocol: ids, tags, data items, signatures, bundles, assignments, outcomes, and the four
//! contracts between units.
//!
//! Everything here is a pure function of its arguments: no clock, no randomness but a signature's
//! own salt, no files, no sockets, no async runtime, no logging.

pub mod address;
pub mod assignment;
pub mod bundle;
pub mod carrier;
pub mod chunks;
pub mod continuity;
pub mod contract;
pub mod deep_hash;
pub mod digest;
pub mod fraud;
pub mod ids;
pub mod item;
pub mod keys;
mod midstate;
pub mod outcome;
pub mod placement;
pub mod proof;
mod pss;
pub mod push_hash;
pub mod refusal;
pub mod resume;
pub mod signature;
pub mod succession;
pub mod tags;
pub mod transaction;
pub mod verifier;
pub mod withheld;

pub use address::SignerText;
pub use assignment::{Assignment, Draft};
pub use bundle::Bundle;
pub use carrier::{Carrier, CarrierTags};
pub use continuity::Continuity;
pub use ids::{Address, ItemId, ModuleId, ProcessId};
pub use item::{DataItem, ItemError, ItemParts};
pub use keys::Signer;
pub use outcome::Outcome;
pub use refusal::{Kind, Refusal};
pub use resume::Resume;
pub use signature::SignatureType;
pub use succession::Succession;
pub use tags::{Tag, Tags};
pub use transaction::Transaction;
pub use withheld::Withheld;
