//! Compute unit: reads a process's log, evaluates its module and keeps results and checkpoints.
//! Not here: scheduling, pushing, signing of messages.

pub mod runtime;
