//! `weft bench fork`: hands on what the compute unit measures of stored processes.

use anyhow::Result;

/// Runs the benchmark.
pub fn run() -> Result<()> {
    print!("{}", cu::bench::fork::run()?);
    Ok(())
}
