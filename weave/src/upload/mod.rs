//! Upload: sealed segments of class permanent become bundles on the weave, and stay watched until they are there.
//!
//! Not here: clients of the network (`network`), the bundle's form (`spec::carrier`). The invariant: each state is
//! durable before the next effect; nothing is called permanent on anybody's word but the chain's, and one peer's lie
//! is never enough. Source: spec/carrier.md, spec/storage.md.

mod audit;
pub mod bundle;
mod cache;
mod config;
mod confirm;
mod crowd;
mod l1;
pub mod ledger;
pub mod note;
mod report;
mod service;
#[cfg(test)]
mod tests;
mod uploader;

pub use cache::ledger_of;
pub use config::Config;
pub use crowd::{Find, Trouble};
pub use ledger::{Cost, Ledger, State};
pub use report::{Alarm, CarrierReport, Count, Preview, Report, States, VehicleReport, newest_carriers};
pub use uploader::{Next, Parts, Uploader};
