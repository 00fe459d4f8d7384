//! A terminal for the real binary: keys in, a screen out, questions of the program answered.

use std::io::{ErrorKind, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use expectrl::process::Healthcheck;
use expectrl::process::unix::Signal;
use expectrl::session::OsSession;

/// Rows of the screen.
const ROWS: u16 = 30;
/// Columns of the screen.
const COLUMNS: u16 = 100;
/// Rows kept above the screen.
const SCROLLBACK: usize = 20_000;
/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// What programs send to learn where the cursor is.
const WHERE: &[u8] = b"\x1b[6n";

/// Enter.
pub const ENTER: &str = "\r";
/// Ctrl-C.
pub const CTRL_C: &str = "\x03";
/// Ctrl-D.
pub const CTRL_D: &str = "\x04";
/// Alt-Enter: a new line in the text.
pub const NEW_LINE: &str = "\x1b\r";

/// A program in a terminal. Dropping it kills the program.
pub struct Terminal {
    session: OsSession,
    screen: vt100::Parser,
    /// Bytes that may be the beginning of a question.
    tail: Vec<u8>,
}

impl Terminal {
    /// Starts a program.
    pub fn start(mut command: Command) -> Terminal {
        command.env("TERM", "xterm-256color");
        let mut session = OsSession::spawn(command).expect("a terminal");
        let process = session.get_process_mut();
        process.set_window_size(COLUMNS, ROWS).expect("a size");
        Terminal {
            session,
            screen: vt100::Parser::new(ROWS, COLUMNS, SCROLLBACK),
            tail: Vec::new(),
        }
    }

    /// Presses keys.
    pub fn keys(&mut self, keys: &str) {
        let mut rest = keys.as_bytes();
        while !rest.is_empty() {
            match self.session.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("the terminal is gone: {error}\n{}", self.text()),
            }
            self.read();
        }
        self.session.flush().expect("written");
    }

    /// Types a line at a prompt and presses Enter.
    pub fn line(&mut self, line: &str) {
        self.ready();
        self.type_line(line);
    }

    /// Types a line wherever the cursor is and presses Enter.
    pub fn type_line(&mut self, line: &str) {
        self.keys(line);
        self.keys(ENTER);
    }

    /// Pastes a text as terminals do.
    pub fn paste(&mut self, text: &str) {
        self.keys(&format!("\x1b[200~{}\x1b[201~", text.replace('\n', "\r")));
    }

    /// Takes in what the program wrote and answers its questions; whether there was anything.
    pub fn read(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        let count = match self.session.try_read(&mut buffer) {
            Ok(count) => count,
            Err(_) => return false,
        };
        self.tail.extend_from_slice(&buffer[..count]);
        while let Some(at) = find(&self.tail, WHERE) {
            let before: Vec<u8> = self.tail.drain(..at + WHERE.len()).collect();
            self.screen.process(&before[..at]);
            let (row, column) = self.screen.screen().cursor_position();
            let answer = format!("\x1b[{};{}R", row + 1, column + 1);
            // A program that has just ended asks no more.
            let _ = self.session.write_all(answer.as_bytes());
        }
        let kept = (0..WHERE.len())
            .rev()
            .find(|kept| self.tail.ends_with(&WHERE[..*kept]));
        let whole = self.tail.len() - kept.unwrap_or(0);
        let whole: Vec<u8> = self.tail.drain(..whole).collect();
        self.screen.process(&whole);
        count > 0
    }

    /// The screen.
    pub fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// All rows, those above the screen included, oldest first.
    pub fn rows(&mut self) -> Vec<String> {
        let rows = |screen: &vt100::Screen| screen.rows(0, COLUMNS).collect::<Vec<_>>();
        let screen = self.screen.screen_mut();
        screen.set_scrollback(usize::MAX);
        let mut above = screen.scrollback();
        let mut all = Vec::new();
        while above > 0 {
            screen.set_scrollback(above);
            let step = above.min(usize::from(ROWS));
            all.extend(rows(screen).into_iter().take(step));
            above -= step;
        }
        screen.set_scrollback(0);
        all.extend(rows(screen));
        all
    }

    /// Reads until something holds; a test that waits in vain fails with the screen.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Terminal) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "no {what}; the screen:\n{}",
                self.text()
            );
            if !self.read() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Reads until the screen shows a text.
    pub fn shows(&mut self, text: &str) {
        self.until(&format!("`{text}`"), |terminal| terminal.text().contains(text));
    }

    /// The row of the cursor, up to it.
    pub fn before_cursor(&self) -> String {
        let screen = self.screen.screen();
        let (row, column) = screen.cursor_position();
        screen.contents_between(row, 0, row, column)
    }

    /// Reads until a prompt waits for a line.
    pub fn ready(&mut self) {
        self.until("prompt", |terminal| {
            terminal.before_cursor().trim_end().ends_with('>')
        });
    }

    /// Reads until the program has ended.
    pub fn ends(&mut self) {
        self.until("end", |terminal| !terminal.session.is_alive().unwrap_or(false));
    }

    /// Ends the program as a power switch would.
    pub fn kill(&mut self) {
        let process = self.session.get_process_mut();
        process.kill(Signal::SIGKILL).expect("it runs");
        self.ends();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.session.get_process_mut().exit(true);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
