//! The prompt that people live in.

mod atlas;
mod commands;
mod complete;
mod shape;
