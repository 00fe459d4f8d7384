//! `weft bench cu`: hands the compute unit's own benchmark its files.

use anyhow::Result;

use crate::cli::BenchCuArgs;

/// Runs the benchmark.
pub fn run(args: &BenchCuArgs) -> Result<()> {
    let loader = args.loader.exists().then_some(args.loader.as_path());
    if loader.is_none() {
        eprintln!(
            "{} is not there: only our own rates are printed",
            args.loader.display()
        );
    }
    let report = cu::bench::run(&args.modules, loader)?;
    print!("{report}");
    Ok(())
}
