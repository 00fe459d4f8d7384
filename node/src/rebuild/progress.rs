//! Progress of a rebuild on standard error: one line that changes on a terminal, else a line now and then.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cu::permanent::Progress;
use serde_json::json;
use spec::ProcessId;
use weave::retrieve::Meter;

/// How often a terminal's line changes, and how often another reader gets one.
const TERMINAL_EVERY: Duration = Duration::from_millis(200);
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// What is being done.
pub enum Phase {
    /// Looking for carriers.
    Find,
    /// Downloading and verifying them.
    Collect(Arc<Meter>),
    /// Opening the log and its indexes.
    Index,
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Phase::Find => "finding carriers",
            Phase::Collect(_) => "verifying",
            Phase::Index => "indexing",
        }
    }

    /// Done and all, in bytes; and what else to say.
    fn state(&self) -> (u64, u64, String) {
        let Phase::Collect(meter) = self else {
            return (0, 0, String::new());
        };
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let more = format!(
            "{} of {} carriers, {} items",
            read(&meter.carriers_done),
            read(&meter.carriers),
            read(&meter.items)
        );
        (read(&meter.bytes_done), read(&meter.bytes), more)
    }
}

/// Where progress is shown.
pub struct Shown {
    as_json: bool,
    is_terminal: bool,
}

impl Shown {
    /// On standard error.
    pub fn new(as_json: bool) -> Shown {
        let is_terminal = std::io::stderr().is_terminal() && !as_json;
        Shown { as_json, is_terminal }
    }

    fn every(&self) -> Duration {
        if self.is_terminal {
            TERMINAL_EVERY
        } else {
            PLAIN_EVERY
        }
    }

    /// Shows a phase as long as some work takes.
    pub async fn during<T>(&self, phase: Phase, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(self.every(), &mut work).await {
                Ok(done) => {
                    self.clear();
                    return done;
                }
                Err(_) => {
                    let (done, all, more) = phase.state();
                    self.line(phase.name(), done, all, "bytes", &more, begun);
                }
            }
        }
    }

    /// Shows evaluations as they are told.
    pub fn replaying(&self, total: u64) -> Replaying<'_> {
        Replaying {
            shown: self,
            total,
            begun: Instant::now(),
            state: Mutex::default(),
        }
    }

    fn line(&self, phase: &str, done: u64, all: u64, unit: &str, more: &str, begun: Instant) {
        let seconds = begun.elapsed().as_secs_f64().max(0.001);
        let rate = done as f64 / seconds;
        let left = (rate > 0.0 && all > done).then(|| (all - done) as f64 / rate);
        let text = match self.as_json {
            true => {
                json!({ "phase": phase, "done": done, "all": all, "unit": unit, "per_second": rate as u64,
                "left_s": left.map(|left| left as u64), "text": more })
                .to_string()
            }
            false => {
                let percent = (done * 100).checked_div(all);
                let percent = percent.map(|part| format!(" {part}%")).unwrap_or_default();
                let left = left.map(|left| format!(", {left:.0} s left")).unwrap_or_default();
                let rate = if done > 0 {
                    format!(", {} {unit}/s{left}", short(rate))
                } else {
                    String::new()
                };
                format!("{phase}{percent} {more}{rate}")
            }
        };
        let mut out = std::io::stderr().lock();
        // A reader that went away is no reason to stop.
        let _ = match self.is_terminal {
            true => write!(out, "\r\x1b[2K{text}").and_then(|()| out.flush()),
            false => writeln!(out, "{text}"),
        };
    }

    fn clear(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

/// A number in three digits or so.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e4 => format!("{:.0} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// Evaluations under way.
pub struct Replaying<'a> {
    shown: &'a Shown,
    total: u64,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: HashMap<ProcessId, u64>,
    told: Option<Instant>,
}

impl Replaying<'_> {
    /// A process has come further.
    pub fn put(&self, progress: &Progress) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.slots.insert(progress.process, progress.slot + 1);
        let is_due = state.told.is_none_or(|told| told.elapsed() >= self.shown.every());
        if is_due {
            state.told = Some(Instant::now());
            let done: u64 = state.slots.values().sum();
            let more = format!("{} processes", state.slots.len());
            self.shown.line(
                "replaying",
                done.min(self.total),
                self.total,
                "messages",
                &more,
                self.begun,
            );
        }
    }

    /// All are done.
    pub fn end(&self) {
        self.shown.clear();
    }
}
