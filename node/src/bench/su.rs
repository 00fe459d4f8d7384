//! `weft bench su` and `weft bench upload`: hand the scheduler unit's own benchmarks their folder.

use anyhow::Result;

use crate::cli::BenchSuArgs;

/// Runs the benchmark of the scheduler alone.
pub fn run(args: &BenchSuArgs) -> Result<()> {
    Ok(su::bench::run(&args.dir, args.runs)?)
}

/// Runs the benchmark of the scheduler with an upload beside it.
pub fn run_upload(args: &BenchSuArgs) -> Result<()> {
    Ok(su::bench_upload::run(&args.dir, args.runs)?)
}
