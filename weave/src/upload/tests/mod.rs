//! The upload against the strict double: whatever goes wrong there, nothing acknowledged is lost, and nothing is
//! called permanent that is not.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod cases;
mod outage;
mod torture;
mod world;
