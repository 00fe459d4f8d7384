//! `weft bench test`: how many trivial tests of a process `weft test` runs per second.
//!
//! Each test is one of its own: a fork of a loaded process, one message, one assertion on the answer. Beside it the
//! same number of tests that touch no process: what the runner itself costs. Not here: the runner.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::test::{BenchTestArgs, Modules, rate};

/// The spec of `count` tests that send one message each.
fn with_process(count: usize) -> String {
    let mut spec = String::from(
        "local p = spawn { source = 'Count = 0 Handlers.add(\"ping\", \"Ping\", function(msg) Count = Count + 1 msg.reply({ Action = \"Pong\", Count = tostring(Count) }) end)' }\n",
    );
    for at in 0..count {
        let _ = writeln!(
            spec,
            "it('answers {at}', function() assert.equal('1', p:send({{ Action = 'Ping' }}):message({{ Action = 'Pong' }}).Count) end)"
        );
    }
    spec
}

/// The spec of `count` tests that touch no process.
fn without(count: usize) -> String {
    (0..count)
        .map(|at| {
            format!(
                "it('adds {at}', function() assert.equal({}, {at} + 1) end)\n",
                at + 1
            )
        })
        .collect()
}

fn median(runs: usize, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut rates = (0..runs.max(1)).map(|_| run()).collect::<Result<Vec<_>>>()?;
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

/// Runs the benchmark.
pub fn run(args: &BenchTestArgs) -> Result<()> {
    let modules = Arc::new(Modules::new(args.module.clone())?);
    let folder = std::env::temp_dir().join(format!("weft-bench-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let measured = measure(args, &modules, &folder);
    std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    measured
}

fn measure(args: &BenchTestArgs, modules: &Arc<Modules>, folder: &std::path::Path) -> Result<()> {
    let file = folder.join("bench_spec.lua");
    for (what, spec) in [
        ("one message to a forked process", with_process(args.tests)),
        ("no process", without(args.tests)),
    ] {
        std::fs::write(&file, spec).with_context(|| file.display().to_string())?;
        // The first run compiles the module, if that was never done on this machine.
        rate(&file, modules)?;
        let rate = median(args.runs, || rate(&file, modules))?;
        println!("{} tests, each {what}: {rate:.0} tests/s on one core", args.tests);
    }
    println!("bar: >= 1,000 tests/s");
    Ok(())
}
