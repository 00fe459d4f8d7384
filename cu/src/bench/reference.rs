//! The field's reference evaluator on the same messages, in a process of its own.
//! Not here: what its rate is compared with.

use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::stream::{Stream, Workload};
use super::{host, median};
use crate::message::Encoding;
use crate::runtime::{Error, ModuleFormat};

/// How the reference is run: its mode, how many messages, and how many to a batch.
pub struct Mode {
    name: &'static str,
    count: usize,
    batch: usize,
}

/// As deployed: the whole memory is copied for each message, which takes about 100 ms.
pub const DEPLOYED: Mode = Mode {
    name: "copies",
    count: 25,
    batch: 1,
};

/// Without those copies.
pub const NO_COPIES: Mode = Mode {
    name: "no-copies",
    count: 2000,
    batch: 100,
};

/// Messages per second of the process's CPU time: the median batch, first tenth left out as warm-up.
pub fn rate(script: &Path, module: &Path, mode: &Mode, workload: &Workload) -> Result<f64, Error> {
    let mut command = Command::new("node");
    command
        .arg("--experimental-wasm-memory64")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| host(format!("node: {e}")))?;
    let mut input = child.stdin.take().ok_or_else(|| host("node has no input"))?;
    let output = child.stdout.take().ok_or_else(|| host("node has no output"))?;
    let (format, name) = (ModuleFormat::Wasm64.name(), mode.name);
    let module = serde_json::Value::from(module.to_string_lossy());
    writeln!(
        input,
        r#"{{"module":{module},"format":"{format}","mode":"{name}"}}"#
    )
    .map_err(host)?;
    let mut stream = Stream::for_workload(workload)?;
    let before = stream.entries.len();
    for _ in 0..mode.count {
        stream.send(workload.tags, workload.data)?;
    }
    let env = String::from_utf8(stream.env(Encoding::Json)).map_err(host)?;
    for entry in &stream.entries {
        let message = stream.json(entry)?;
        writeln!(input, r#"{{"env":{env},"message":{message},"fails":false}}"#).map_err(host)?;
    }
    drop(input);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(host)?;
    let ended = child.wait().map_err(host)?;
    let times: Times =
        serde_json::from_str(&line).map_err(|e| host(format!("node ended with {ended}: {e}")))?;
    let warm = times.ms.get(before + mode.count / 10..).unwrap_or_default();
    let mut rates: Vec<f64> = warm
        .chunks_exact(mode.batch)
        .map(|b| b.len() as f64 * 1e3 / b.iter().sum::<f64>())
        .collect();
    Ok(median(&mut rates))
}

/// CPU time of each message, ms.
#[derive(Deserialize)]
struct Times {
    ms: Vec<f64>,
}
