//! Upload: sealed segments of class permanent become bundles on the weave, and stay watched until they are there.
//!
//! Not here: clients of the network (`network`), the bundle's form (`spec::carrier`). The invariant: each state is
//! durable before the next effect; nothing is called permanent on anybody's word but the chain's, and one peer's lie
//! is never enough. Source: spec/carrier.md, spec/storage.md.

pub mod bundle;
pub mod ledger;
pub mod note;
