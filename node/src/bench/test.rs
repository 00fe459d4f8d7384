//! `weft bench test`: how many trivial tests of a process `weft test` runs per second.
//!
//! Each test is one of its own: a fork of a loaded process, one message, one assertion on the answer. Beside it the
//! same number of tests that touch no process: what the runner itself costs. Not here: the runner.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::verify::cpu_time;
use crate::test::{BenchTestArgs, Modules, rates};

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

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
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
        rates(&file, modules, cpu_time)?;
        let runs = 0..args.runs.max(1);
        let runs = runs
            .map(|_| rates(&file, modules, cpu_time))
            .collect::<Result<Vec<_>>>()?;
        let (wall, cpu) = runs.into_iter().unzip();
        println!(
            "{} tests, each {what}: {:.0} tests/s of CPU time, {:.0} tests/s as it went",
            args.tests,
            median(cpu),
            median(wall)
        );
    }
    println!("bar: >= 1,000 tests/s, one file on one core");
    Ok(())
}
