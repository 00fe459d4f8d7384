//! Benchmarks of `weft bench`: each prints its figures beside the bar they must clear.
//!
//! Not here: tests. A benchmark decides nothing; whoever runs it reads the ratio.

pub mod verify;
