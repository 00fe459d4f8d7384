//! The weave's promises, from the log up to the gateway. One program, so that it is linked once.
#![allow(clippy::unwrap_used)]

mod common;
mod gateway;
mod graphql;
mod index;
mod log;
