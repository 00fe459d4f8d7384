//! `weft bench su`: hands the scheduler unit's own benchmark its folder.

use anyhow::Result;

use crate::cli::BenchSuArgs;

/// Runs the benchmark.
pub fn run(args: &BenchSuArgs) -> Result<()> {
    Ok(su::bench::run(&args.dir, args.runs)?)
}
