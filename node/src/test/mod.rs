//! `weft test`: runs spec files of Lua processes, each in a Lua state of its own, on the real engine.
//!
//! Not here: a node, HTTP or signatures: processes are run by the compute unit's own runtime, in this program.
//! The invariant: the same files and the same seed give the same results, in any order and on any number of cores.

mod args;
mod birth;
mod bundle;
mod coverage;
mod definitions;
mod delivery;
mod find;
mod host;
mod message;
mod modules;
mod new;
mod process;
mod report;
mod suite;
mod text;
mod value;
mod world;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use args::{BenchTestArgs, NewArgs, TestArgs};
use coverage::Coverage;
pub use modules::Modules;
pub use new::run as new;
use report::{FileReport, Report};
use suite::Options;

/// Stack of a thread that runs specs: an evaluation must fit on it, below the spec's own frames.
const STACK_BYTES: usize = cu::runtime::STACK_BYTES + (8 << 20);
/// Most files run at once.
const JOBS_MAX: usize = 64;

/// `weft test`: 0 if all tests passed, 1 if some did not, 2 if there was nothing to run or nowhere to write.
pub fn run(args: &TestArgs) -> ExitCode {
    match run_all(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run_all(args: &TestArgs) -> Result<bool> {
    let files = find::specs(&args.paths)?;
    let options = Options {
        filter: args.filter.clone(),
        seed: args.seed,
        test_time_max: Duration::from_secs(args.timeout.max(1)),
        counts_lines: args.coverage.is_some(),
    };
    let modules = Arc::new(Modules::new(args.module.clone())?);
    let (report, coverage) = run_files(&files, &modules, &options, args.jobs)?;
    let lines = match coverage {
        Some(coverage) => Some(coverage.files().map_err(anyhow::Error::msg)?),
        None => None,
    };
    if let (Some(path), Some(lines)) = (&args.coverage, &lines) {
        std::fs::write(path, coverage::lcov(lines)).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, report.junit()).with_context(|| path.display().to_string())?;
    }
    match (args.tap, args.json) {
        (true, _) => print!("{}", report.tap()),
        (_, true) => println!("{}", report.json()),
        _ => print!("{}", text::write(&report, lines.as_deref(), style(args))),
    }
    let counts = report.counts();
    if counts.tests == 0 && args.filter.is_some() {
        anyhow::bail!(
            "no test has `{}` in its name",
            args.filter.as_deref().unwrap_or("")
        );
    }
    Ok(counts.failed + counts.errors == 0)
}

fn style(args: &TestArgs) -> text::Style {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    text::Style {
        has_colours: !is_plain && std::io::stdout().is_terminal(),
        is_verbose: args.verbose,
    }
}

/// Tests per second of one file of generated tests: of time, and of the thread's own time on a core as `cpu_time` tells.
///
/// # Errors
/// If any of them fails: a rate of broken tests says nothing.
pub fn rates(file: &Path, modules: &Arc<Modules>, cpu_time: fn() -> Option<Duration>) -> Result<(f64, f64)> {
    let options = Options {
        filter: None,
        seed: 0,
        test_time_max: Duration::from_secs(60),
        counts_lines: false,
    };
    let work = || {
        let (started, before) = (Instant::now(), cpu_time());
        let (report, _) = suite::run(file, modules, &options);
        let spent = cpu_time().zip(before).map(|(after, before)| after - before);
        (report, started.elapsed(), spent)
    };
    let ran = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work)?;
        let ran = thread.join();
        std::io::Result::Ok(ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (report, elapsed, spent) = ran?;
    if let Some(bad) = report.tests.iter().find(|test| test.status.is_bad()) {
        anyhow::bail!("{}: {}", bad.name(), bad.message.as_deref().unwrap_or(""));
    }
    let rate = |time: Duration| report.tests.len() as f64 / time.as_secs_f64().max(1e-6);
    Ok((rate(elapsed), rate(spent.unwrap_or(elapsed))))
}

type Ran = (FileReport, Option<Coverage>);

/// Runs files on some threads; the report has them in the order given.
fn run_files(
    files: &[PathBuf],
    modules: &Arc<Modules>,
    options: &Options,
    jobs: Option<usize>,
) -> Result<(Report, Option<Coverage>)> {
    let started = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or(cores).clamp(1, JOBS_MAX).min(files.len().max(1));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((path.as_path(), suite::run(path, modules, options)));
        }
        done
    };
    let mut ran = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let spawn = |_| {
            let thread = std::thread::Builder::new()
                .name("weft-test".into())
                .stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, work)
        };
        let threads: Vec<_> = (0..jobs).map(spawn).collect::<std::io::Result<_>>()?;
        for thread in threads {
            ran.extend(
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        Ok(())
    })?;
    Ok(gather(ran, started.elapsed(), options))
}

fn gather(mut ran: Vec<(&Path, Ran)>, elapsed: Duration, options: &Options) -> (Report, Option<Coverage>) {
    ran.sort_by_key(|(path, _)| path.to_path_buf());
    let mut coverage = options.counts_lines.then(Coverage::default);
    let mut files = Vec::new();
    for (_, (file, lines)) in ran {
        files.push(file);
        if let (Some(all), Some(lines)) = (&mut coverage, lines) {
            all.merge(lines);
        }
    }
    (Report { files, elapsed }, coverage)
}
