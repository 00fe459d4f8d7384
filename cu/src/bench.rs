//! `weft bench cu`: aos Eval messages per second of one thread's CPU time, with the production switches on, beside
//! the reference evaluator's on the same messages in the same run.
//! Not here: any tuning for the benchmark; the machine is used as an owner uses it.

use crate::runtime::{Config, Engine, Error, Limits, Machine, ModuleFormat, STACK_BYTES};
use bytes::Bytes;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The module that is measured.
const MODULE: &str = "aos2_0_1.wasm";
/// Messages per batch, and batches; the median batch counts.
const BATCH: usize = 200;
const BATCHES: usize = 9;
/// Messages for the reference: with copies each takes about 100 ms.
const COPIES: usize = 25;
const NO_COPIES: usize = 4000;
const REFERENCE_BATCH: usize = 100;

/// Messages per second of CPU time, medians.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Ours.
    pub ours: f64,
    /// The reference as it is deployed, with its copies; `None` where it was not run.
    pub deployed: Option<f64>,
    /// The reference without copies.
    pub no_copies: Option<f64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "aos 2.0.1, Eval \"1 + 1\", messages per second of CPU time (medians)"
        )?;
        writeln!(f, "  weft                       {:8.0}", self.ours)?;
        let rows = [
            ("reference as deployed", self.deployed),
            ("reference without copies", self.no_copies),
        ];
        for (name, rate) in rows.into_iter().filter_map(|(name, rate)| Some((name, rate?))) {
            writeln!(f, "  {name:26} {rate:8.1}   weft is {:.1}x", self.ours / rate)?;
        }
        Ok(())
    }
}

/// Measures. `modules` holds the published modules; `loader` is the reference's script, run with `node` from where
/// it stands. Prints nothing.
pub fn run(modules: &Path, loader: Option<&Path>) -> Result<Report, Error> {
    let path = modules.join(MODULE);
    let before = ours(&path)?;
    let deployed = loader
        .map(|l| reference(l, &path, "copies", COPIES, 1))
        .transpose()?;
    let no_copies = loader
        .map(|l| reference(l, &path, "no-copies", NO_COPIES, REFERENCE_BATCH))
        .transpose()?;
    // Once more after the reference, so that a machine that slows down or speeds up shows in both.
    let after = ours(&path)?;
    Ok(Report {
        ours: median(&mut [before, after, before.midpoint(after)]),
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

const ENV: &str = r#"{"Process":{"Id":"PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP","Owner":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Tags":[{"name":"Data-Protocol","value":"ao"},{"name":"Variant","value":"ao.TN.1"},{"name":"Type","value":"Process"},{"name":"Module","value":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"},{"name":"Name","value":"bench"}]},"Module":{"Id":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM","Owner":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Tags":[{"name":"Data-Protocol","value":"ao"},{"name":"Type","value":"Module"}]}}"#;

/// The boot message in slot 0, Evals after it.
fn message(slot: usize) -> String {
    let (kind, id, action, data) = match slot {
        0 => (
            "Process",
            "P".repeat(43),
            r#"{"name":"Module","value":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"}"#,
            " ",
        ),
        _ => (
            "Message",
            format!("{slot:043}"),
            r#"{"name":"Action","value":"Eval"}"#,
            "1 + 1",
        ),
    };
    let (process, owner) = ("P".repeat(43), "O".repeat(43));
    format!(
        r#"{{"Id":"{id}","Signature":"","Data":"{data}","Owner":"{owner}","Target":"{process}","Anchor":null,"From":"{owner}","Tags":[{{"name":"Data-Protocol","value":"ao"}},{{"name":"Variant","value":"ao.TN.1"}},{{"name":"Type","value":"{kind}"}},{action}],"Epoch":0,"Nonce":{slot},"Timestamp":{},"Block-Height":1500000,"Hash-Chain":"","Cron":false,"Read-Only":false}}"#,
        1_700_000_000_000 + slot
    )
}

/// Runs on a thread with the stack that an owner's thread has.
fn ours(path: &Path) -> Result<f64, Error> {
    let path = path.to_path_buf();
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let thread = thread.spawn(move || measure(&path)).map_err(host)?;
    thread.join().map_err(|_| host("the measuring thread panicked"))?
}

fn measure(path: &PathBuf) -> Result<f64, Error> {
    let wasm = Bytes::from(std::fs::read(path).map_err(|e| host(format!("{}: {e}", path.display())))?);
    let format = ModuleFormat::detect(&wasm).ok_or_else(|| host("the module's format is unknown"))?;
    let module = Engine::new(Config::default())?.load(&wasm, format)?;
    let mut machine = Machine::start(&module, Limits::default())?;
    let mut slot = 0;
    batch(&mut machine, &mut slot, BATCH)?;
    let mut rates = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let started = cpu_seconds()?;
        batch(&mut machine, &mut slot, BATCH)?;
        rates.push(BATCH as f64 / (cpu_seconds()? - started));
    }
    Ok(median(&mut rates))
}

fn batch(machine: &mut Machine, slot: &mut usize, count: usize) -> Result<(), Error> {
    for _ in 0..count {
        let answer = machine.call(message(*slot).as_bytes(), ENV.as_bytes())?;
        answer.map_err(|fault| host(format!("slot {slot}: {fault}")))?;
        machine.commit()?;
        *slot += 1;
    }
    Ok(())
}

/// CPU time of this thread.
fn cpu_seconds() -> Result<f64, Error> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").map_err(host)?;
    let nanos = text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    Ok(nanos.ok_or_else(|| host("schedstat has no number"))? / 1e9)
}

/// The reference on the same messages: the median batch, first tenth left out as warm-up.
fn reference(script: &Path, module: &Path, mode: &str, count: usize, batch: usize) -> Result<f64, Error> {
    let mut command = Command::new("node");
    command
        .arg("--experimental-wasm-memory64")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| host(format!("node: {e}")))?;
    let mut input = child.stdin.take().ok_or_else(|| host("node has no input"))?;
    let output = child.stdout.take().ok_or_else(|| host("node has no output"))?;
    let format = ModuleFormat::Wasm64.name();
    let module = serde_json::Value::from(module.to_string_lossy());
    writeln!(
        input,
        r#"{{"module":{module},"format":"{format}","mode":"{mode}"}}"#
    )
    .map_err(host)?;
    for slot in 0..count {
        writeln!(
            input,
            r#"{{"env":{ENV},"message":{},"fails":false}}"#,
            message(slot)
        )
        .map_err(host)?;
    }
    drop(input);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(host)?;
    let ended = child.wait().map_err(host)?;
    let times: Times =
        serde_json::from_str(&line).map_err(|e| host(format!("node ended with {ended}: {e}")))?;
    let warm = &times.ms[times.ms.len() / 10..];
    let mut rates: Vec<f64> = warm
        .chunks_exact(batch)
        .map(|b| b.len() as f64 * 1e3 / b.iter().sum::<f64>())
        .collect();
    Ok(median(&mut rates))
}

/// CPU time of each message, ms.
#[derive(serde::Deserialize)]
struct Times {
    ms: Vec<f64>,
}
