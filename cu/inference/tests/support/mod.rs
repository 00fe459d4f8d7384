//! What tests share: seeded numbers and files made from them.
#![allow(unused, reason = "each test binary uses its own part")]

#[path = "../../src/testing/mod.rs"]
mod testing;

pub use testing::*;
