//! `weft bench checkpoint`: hands on what the compute unit measures of permanent checkpoints.

use anyhow::Result;

use crate::cli::BenchCheckpointArgs;

/// Runs the benchmark.
pub fn run(args: &BenchCheckpointArgs) -> Result<()> {
    print!("{}", cu::bench::checkpoint::run(&args.modules)?);
    Ok(())
}
