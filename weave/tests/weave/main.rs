//! The weave's promises, from the log up to the gateway. One program, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod base_layer;
mod common;
mod gateway;
mod graphql;
mod index;
mod log;
mod manifest;
mod seal;
