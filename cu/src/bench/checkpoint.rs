//! `weft bench checkpoint`: what a permanent checkpoint costs, in bytes and time, beside the reference's way (gzip over
//! the whole linear memory).
//! Not here: how often one is made.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use bytes::Bytes;

use super::stream::{Stream, WORKLOADS};
use super::{MODULE, host, kernel, on_a_deep_thread, published};
use crate::eval;
use crate::message::{self, Encoding};
use crate::runtime::{Error, Limits, MEMORY_BYTES_MAX, Machine, Module};

/// A table that is built up and then changed here and there.
const TABLE: (&str, &str) = (
    "a table of 20,000",
    "T = {} for i = 1, 20000 do T[i] = { id = 'entry-' .. i, n = i * 7919 % 10007 } end",
);
const CHANGE: &str = "for i = 1, 20 do local k = (#Inbox * 97 + i * 991) % 20000 + 1 T[k].n = T[k].n + i end";

/// One state, packed.
#[derive(Clone, Debug)]
pub struct Row {
    /// What ran, and how long.
    pub name: String,
    /// Bytes of linear memory.
    pub memory_bytes: u64,
    /// Against the module's dictionary.
    pub full: Cost,
    /// Against the state some messages before.
    pub next: Cost,
    /// gzip over the whole memory, as the reference does; `None` where there is no gzip.
    pub gzip: Option<Cost>,
}

/// Bytes, and the ms that making and taking them took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Bytes.
    pub bytes: usize,
    /// To make them.
    pub make_ms: f64,
    /// To have the state again, its root checked.
    pub take_ms: f64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report(pub Vec<Row>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:34} {:>9} {:>27} {:>27} {:>24}",
            "", "memory", "full", "next", "gzip -9 of all"
        )?;
        let head = "KiB   make    take ms";
        writeln!(
            f,
            "{:34} {:>9} {head:>27} {head:>27} {:>24}",
            "", "MiB", "KiB  make ms  ratio"
        )?;
        for row in &self.0 {
            let mib = row.memory_bytes as f64 / (1 << 20) as f64;
            write!(f, "{:34} {mib:9.1} {} {}", row.name, row.full, row.next)?;
            match row.gzip {
                Some(gzip) => {
                    let ratio = gzip.bytes as f64 / row.full.bytes as f64;
                    writeln!(f, " {:9.1} {:8.1} {ratio:5.2}x", gzip.kib(), gzip.make_ms)?;
                }
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl Cost {
    fn kib(&self) -> f64 {
        self.bytes as f64 / 1024.0
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10.1} {:7.2} {:8.2}", self.kib(), self.make_ms, self.take_ms)
    }
}

/// Measures; `modules` holds the published modules. Prints nothing.
///
/// # Errors
/// If something does not run at all.
pub fn run(modules: &Path) -> Result<Report, Error> {
    let wasm = std::fs::read(modules.join(MODULE)).ok().map(Bytes::from);
    on_a_deep_thread(move || {
        let mut rows = measure("kernel", &kernel()?, 2000)?;
        if let Some(wasm) = &wasm {
            rows.extend(measure("aos 2.0.1", &published(wasm)?, 200)?);
        }
        Ok(Report(rows))
    })
}

fn measure(what: &str, module: &Module, count: usize) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for workload in &WORKLOADS[1..] {
        let mut stream = Stream::for_workload(workload)?;
        for _ in 0..2 * count {
            stream.send(workload.tags, workload.data)?;
        }
        rows.push(row(
            &format!("{what}, {}, {count}", workload.name),
            module,
            &stream,
            count,
        )?);
    }
    let mut stream = Stream::of("bench")?;
    stream.send(&[("Action", "Eval")], TABLE.1)?;
    for _ in 0..2 * count {
        stream.send(&[("Action", "Eval")], CHANGE)?;
    }
    rows.push(row(
        &format!("{what}, {}, {count}", TABLE.0),
        module,
        &stream,
        count,
    )?);
    Ok(rows)
}

/// The state after all but `count` entries, and the one after all.
fn row(name: &str, module: &Module, stream: &Stream, count: usize) -> Result<Row, Error> {
    let encoding = Encoding::from(module.format());
    let env = stream.env(encoding);
    let mut machine = Machine::start(module, Limits::default())?;
    let run = |machine: &mut Machine, from: usize, to: usize| {
        for entry in &stream.entries[from..to] {
            let message = message::scheduled(entry, None, encoding).map_err(host)?;
            if let Some(error) = eval::evaluate(machine, &message, &env)?.error {
                return Err(host(format!("slot {}: {error}", entry.assignment.slot)));
            }
        }
        Ok(())
    };
    let all = stream.entries.len();
    run(&mut machine, 0, all - count)?;
    let packed = machine.pack(None)?;
    let base = module.unpack(MEMORY_BYTES_MAX, None, &packed)?;
    run(&mut machine, all - count, all)?;
    let full = cost(module, &mut machine, None)?;
    let next = cost(module, &mut machine, Some(&base))?;
    Ok(Row {
        name: name.to_owned(),
        memory_bytes: machine.memory_bytes(),
        full,
        next,
        gzip: gzip(machine.memory())?,
    })
}

fn cost(module: &Module, machine: &mut Machine, base: Option<&crate::runtime::State>) -> Result<Cost, Error> {
    let root = machine.state_root()?;
    let started = Instant::now();
    let packed = machine.pack(base)?;
    let make_ms = started.elapsed().as_secs_f64() * 1e3;
    let started = Instant::now();
    let state = module.unpack(MEMORY_BYTES_MAX, base, &packed)?;
    if state.root() != root {
        return Err(host("the state that was unpacked has another root"));
    }
    Machine::stand_on(module, Limits::default(), &state)?;
    let take_ms = started.elapsed().as_secs_f64() * 1e3;
    Ok(Cost {
        bytes: packed.len(),
        make_ms,
        take_ms,
    })
}

/// gzip at level 9, the reference's choice.
fn gzip(memory: &[u8]) -> Result<Option<Cost>, Error> {
    let mut command = Command::new("gzip");
    command
        .args(["-c", "-9"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let started = Instant::now();
    let Ok(mut child) = command.spawn() else {
        return Ok(None);
    };
    let mut input = child.stdin.take().expect("it was asked for");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(memory));
        child.wait_with_output()
    });
    let bytes = output.map_err(host)?.stdout.len();
    Ok(Some(Cost {
        bytes,
        make_ms: started.elapsed().as_secs_f64() * 1e3,
        take_ms: 0.0,
    }))
}
