//! All tests of the messenger through its public face, as one program: they share a world.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod checklist;
mod conformance;
mod crank;
mod crash;
mod outbox;
mod world;
