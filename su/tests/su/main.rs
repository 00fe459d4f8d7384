//! The scheduler's tests, in one program so that they are linked once.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod checklist;
mod common;
mod contract;
mod turns;
