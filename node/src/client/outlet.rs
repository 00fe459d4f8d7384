//! Where commands write: values to standard output, everything else to standard error.
//!
//! The invariant: text of processes is made safe before a terminal sees it; a pipe gets it as it is.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use aos_shell::error::Problem;
use aos_shell::render::{Style, safe, without_colors};
use spec::Outcome;

/// Time after which waiting is shown, in ms.
const PATIENCE_MS: u64 = 1_000;
/// Time between two pictures of the wait, in ms.
const FRAME_MS: u64 = 120;
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub struct Outlet {
    json: bool,
    out: Style,
    out_is_terminal: bool,
    err: Style,
    err_is_terminal: bool,
}

impl Outlet {
    /// The program's own; `json` makes errors JSON on standard output too.
    pub fn new(json: bool) -> Outlet {
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Outlet {
            json,
            out: Style::for_output(out),
            out_is_terminal: out,
            err: Style::for_output(err),
            err_is_terminal: err,
        }
    }

    /// How standard output is written.
    pub fn style(&self) -> Style {
        self.out
    }

    /// A value, with a line end. A reader that went away is no reason to fail.
    pub fn value(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
        let _ = std::io::stdout().flush();
    }

    /// What an outcome holds for whoever asked; nothing if that is nothing. Colours reach terminals only.
    pub fn outcome(&self, outcome: &Outcome) {
        let Some(text) = aos_shell::render::shown(outcome).text else {
            return;
        };
        match self.out_is_terminal {
            true => self.value(&safe(&text, self.out)),
            false => self.value(&without_colors(&text)),
        }
    }

    /// JSON on one line.
    pub fn json(&self, value: &impl serde::Serialize) {
        self.value(&serde_json::to_string(value).expect("made of texts and numbers"));
    }

    /// A word to the person.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Tells what went wrong; the exit status that says it too.
    pub fn fail(&self, problem: &Problem) -> ExitCode {
        if self.json {
            self.json(&serde_json::json!({ "ok": false, "error": problem.json() }));
        } else {
            let _ = write!(std::io::stderr(), "{}", problem.render(self.err));
        }
        ExitCode::from(problem.exit())
    }

    /// Waits for something, and shows so on a terminal once it takes longer than a second.
    pub async fn wait<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if !self.err_is_terminal {
            return work.await;
        }
        let start = tokio::time::Instant::now();
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(PATIENCE_MS), &mut work).await {
            return done;
        }
        for frame in FRAMES.iter().cycle() {
            let seconds = start.elapsed().as_secs_f32();
            let _ = write!(std::io::stderr(), "\r{frame} {what} ({seconds:.1} s) \u{1b}[K");
            let _ = std::io::stderr().flush();
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(FRAME_MS), &mut work).await {
                let _ = write!(std::io::stderr(), "\r\u{1b}[K");
                return done;
            }
        }
        unreachable!("a cycle of frames has no end")
    }
}
