//! The scheduler's tests, in one program so that they are linked once.
#![allow(clippy::unwrap_used)]

mod checklist;
mod common;
mod contract;
