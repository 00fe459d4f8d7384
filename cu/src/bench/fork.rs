//! `weft bench fork`: what a stored process of our kernel costs, and how soon it answers again.
//! Not here: a whole node (`weft bench density`).

use std::fmt;
use std::time::Instant;

use super::stream::Stream;
use super::{host, kernel, median, on_a_deep_thread};
use crate::eval;
use crate::message::{self, Encoding};
use crate::runtime::{Error, Limits, Machine};

/// Processes, each with a name of another length from 3 to 60 characters.
const PROCESSES: usize = 58;
/// Bars.
const FIRST_ANSWER_MS_MAX: f64 = 1.0;
const MEMORY_MIB_MAX: f64 = 6.0;
const DISK_KIB_MAX: f64 = 200.0;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// From a stored image to the first answer, median, ms.
    pub first_answer_ms: f64,
    /// The same, the slowest in 100.
    pub first_answer_p99_ms: f64,
    /// Linear memory of a booted process, the largest, MiB.
    pub memory_mib: f64,
    /// Bytes of an image beyond what the module's processes share, the largest, KiB.
    pub disk_kib: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "fork of a stored process, first answer p50 {:7.2} ms    bar <= {FIRST_ANSWER_MS_MAX}",
            self.first_answer_ms
        )?;
        writeln!(
            f,
            "                                       p99 {:7.2} ms",
            self.first_answer_p99_ms
        )?;
        writeln!(
            f,
            "linear memory of a booted process, largest {:7.2} MiB   bar <= {MEMORY_MIB_MAX}",
            self.memory_mib
        )?;
        writeln!(
            f,
            "on disk beyond the shared image, largest   {:7.1} KiB   bar <= {DISK_KIB_MAX}",
            self.disk_kib
        )
    }
}

/// Measures. Prints nothing.
///
/// # Errors
/// If something does not run at all.
pub fn run() -> Result<Report, Error> {
    on_a_deep_thread(measure)
}

fn measure() -> Result<Report, Error> {
    let module = kernel()?;
    let (mut times, mut memory, mut disk) = (Vec::new(), 0, 0);
    for length in 3..3 + PROCESSES {
        let mut stream = Stream::of(&"n".repeat(length))?;
        stream.send(&[("Action", "Eval")], "return 1")?;
        let env = stream.env(Encoding::Frame);
        let [boot, eval] =
            [0, 1].map(|slot| message::scheduled(&stream.entries[slot], None, Encoding::Frame));
        let (boot, eval) = (boot.map_err(host)?, eval.map_err(host)?);
        let mut machine = Machine::start(&module, Limits::default())?;
        answered(&mut machine, &boot, &env)?;
        memory = memory.max(machine.memory_bytes());
        let image = machine.encode()?;
        drop(machine);
        disk = disk.max(image.len());
        for _ in 0..4 {
            let started = Instant::now();
            let mut woken = Machine::restore(&module, Limits::default(), &image)?;
            answered(&mut woken, &eval, &env)?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    let p50 = median(&mut times);
    Ok(Report {
        first_answer_ms: p50,
        first_answer_p99_ms: times[times.len() * 99 / 100],
        memory_mib: memory as f64 / (1 << 20) as f64,
        disk_kib: disk as f64 / 1024.0,
    })
}

fn answered(machine: &mut Machine, message: &[u8], env: &[u8]) -> Result<(), Error> {
    match eval::evaluate(machine, message, env)?.error {
        None => Ok(()),
        Some(error) => Err(host(error)),
    }
}
