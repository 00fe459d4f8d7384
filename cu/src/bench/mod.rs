//! `weft bench cu`: messages per second of one thread's CPU time, on the field's module and on the Lua engine, beside
//! the reference evaluator on the same messages in the same run. A message is a log entry in and an outcome out.
//! Not here: any tuning for the benchmark; machines are used as an owner uses them.

pub mod checkpoint;
pub mod fork;
mod reference;
mod stream;

use std::fmt;
use std::path::Path;

use bytes::Bytes;

use crate::eval;
use crate::message::{self, Encoding};
use crate::runtime::{Config, Engine, Error, Limits, Machine, Module, ModuleFormat, STACK_BYTES};
use crate::shipped;
use stream::{Stream, WORKLOADS, Workload};

/// The published module that is measured.
const MODULE: &str = "aos2_0_1.wasm";
/// Batches; the median one counts.
const BATCHES: usize = 9;
/// Messages per batch: the kernel counts CPU time in steps of a few ms.
const BATCH_MODULE: usize = 200;
const BATCH_LUA: usize = 2000;

/// One row: messages per second of CPU time, medians.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The workload.
    pub name: &'static str,
    /// Our kernel on the Lua engine.
    pub lua: f64,
    /// What the Lua engine must reach.
    pub bar: f64,
    /// The published module in our machine; `None` where its file is not there.
    pub module: Option<f64>,
    /// The reference as it is deployed, with its copies; `None` where it was not run.
    pub deployed: Option<f64>,
    /// The reference without copies.
    pub no_copies: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report(pub Vec<Row>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "messages per second of one thread's CPU time (medians)")?;
        for row in &self.0 {
            let verdict = if row.lua >= row.bar { "met" } else { "MISSED" };
            writeln!(f, "{}", row.name)?;
            writeln!(
                f,
                "  Lua engine, our kernel     {:9.0}   bar >= {:.0}: {verdict}",
                row.lua, row.bar
            )?;
            row.others(f)?;
        }
        Ok(())
    }
}

impl Row {
    fn others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(module) = self.module {
            writeln!(f, "  aos 2.0.1 in our machine   {module:9.0}")?;
        }
        let rows = [
            ("reference as deployed", self.deployed),
            ("reference without copies", self.no_copies),
        ];
        for (name, rate) in rows.into_iter().filter_map(|(name, rate)| Some((name, rate?))) {
            write!(f, "  {name:26} {rate:9.1}   Lua is {:.0}x", self.lua / rate)?;
            match self.module {
                Some(module) => writeln!(f, ", aos 2.0.1 {:.1}x", module / rate)?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// Measures. `modules` holds the published modules; `loader` is the reference's script, run with `node` from where
/// it stands. Prints nothing.
///
/// # Errors
/// If something does not run at all.
pub fn run(modules: &Path, loader: Option<&Path>) -> Result<Report, Error> {
    let path = modules.join(MODULE);
    let rows = WORKLOADS.iter().map(|workload| row(workload, &path, loader));
    Ok(Report(rows.collect::<Result<_, _>>()?))
}

fn row(workload: &'static Workload, path: &Path, loader: Option<&Path>) -> Result<Row, Error> {
    let lua = || on_a_deep_thread(move || measure(&kernel()?, workload, BATCH_LUA));
    let before = lua()?;
    let wasm = std::fs::read(path).ok().map(Bytes::from);
    let module =
        wasm.map(|wasm| on_a_deep_thread(move || measure(&published(&wasm)?, workload, BATCH_MODULE)));
    let loader = loader.filter(|_| path.exists());
    let reference = |mode| loader.map(|script| reference::rate(script, path, mode, workload));
    let (deployed, no_copies) = (
        reference(&reference::DEPLOYED).transpose()?,
        reference(&reference::NO_COPIES).transpose()?,
    );
    // Once more at the end, so that a machine that slows down or speeds up shows in both.
    let after = lua()?;
    Ok(Row {
        name: workload.name,
        lua: before.midpoint(after),
        bar: workload.bar,
        module: module.transpose()?,
        deployed,
        no_copies,
    })
}

fn host(e: impl fmt::Display) -> Error {
    Error::Host(e.to_string())
}

fn median(values: &mut [f64]) -> f64 {
    assert!(!values.is_empty(), "a median of something");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Our kernel, loaded.
fn kernel() -> Result<Module, Error> {
    let item = shipped::items().into_iter();
    let mut item = item.filter(|item| item.id() == shipped::kernel_id().into());
    let item = item.next().ok_or_else(|| host("the kernel comes along"))?;
    Engine::new(Config::default())?.load(&item.data(), ModuleFormat::Lua)
}

fn published(wasm: &Bytes) -> Result<Module, Error> {
    let format = ModuleFormat::detect(wasm).ok_or_else(|| host("the module's format is unknown"))?;
    Engine::new(Config::default())?.load(wasm, format)
}

/// Runs on a thread with the stack that an owner's thread has.
fn on_a_deep_thread<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).map_err(host)?;
        thread.join().map_err(|_| host("the measuring thread panicked"))?
    })
}

fn measure(module: &Module, workload: &Workload, batch: usize) -> Result<f64, Error> {
    let mut stream = Stream::for_workload(workload)?;
    let before = stream.entries.len();
    for _ in 0..batch * (BATCHES + 1) {
        stream.send(workload.tags, workload.data)?;
    }
    let encoding = Encoding::from(module.format());
    let env = stream.env(encoding);
    let mut machine = Machine::start(module, Limits::default())?;
    let mut run = |from: usize, count: usize| {
        for entry in &stream.entries[from..from + count] {
            let message = message::scheduled(entry, None, encoding).map_err(host)?;
            let outcome = eval::evaluate(&mut machine, &message, &env)?;
            if let Some(error) = outcome.error {
                return Err(host(format!("slot {}: {error}", entry.assignment.slot)));
            }
        }
        Ok(())
    };
    // The first batch warms up.
    run(0, before + batch)?;
    let mut rates = Vec::with_capacity(BATCHES);
    for number in 1..=BATCHES {
        let started = cpu_seconds()?;
        run(before + number * batch, batch)?;
        rates.push(batch as f64 / (cpu_seconds()? - started));
    }
    Ok(median(&mut rates))
}

/// CPU time of this thread.
fn cpu_seconds() -> Result<f64, Error> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").map_err(host)?;
    let nanos = text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    Ok(nanos.ok_or_else(|| host("schedstat has no number"))? / 1e9)
}
