//! A sitting at the prompt: each line is a command or Lua, and what came of it is told.
//!
//! Not here: the edit line (`line`), what the other commands do (`act`). The invariant: a line is sent at
//! most once, and only as a chunk that compiles.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use spec::contract::{Answer, Evaluated};
use spec::{ItemId, Outcome, Refusal};

use super::act;
use super::commands;
use super::complete::SENT;
use super::desk::{Desk, Mode};
use super::dry::{self, Preview};
use super::feed::Watcher;
use super::line::{Line, Typed};
use super::link::Link;
use super::show;
use super::tab::Library;
use super::wait::{self, Waited};
use super::watch::Watch;
use crate::error::Problem;
use crate::load::{Loader, SourceMap};
use crate::lua::{self, Chunk, LuaError, Read};
use crate::render::{self, Style};

/// Results kept for `.json`, `.table` and `.last`.
const RESULTS_MAX: usize = 9;

/// How a sitting goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// With another line.
    Line,
    /// Not at all.
    Leave,
}

/// How a line ended, for the exit code of a program that runs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was evaluated.
    Done,
    /// The process refused it, or it was not sent.
    Failed,
}

/// What a person has switched on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Switches {
    /// Every line is run dry.
    pub(crate) is_dry: bool,
    /// Every line is shown as a preview and asked about.
    pub(crate) confirms: bool,
    /// The time of each line is told.
    pub(crate) is_timed: bool,
}

/// A sitting.
pub(crate) struct Shell {
    pub(crate) link: Arc<dyn Link>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) library: Arc<Library>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) line: Line,
    pub(crate) style: Style,
    pub(crate) switches: Switches,
    pub(crate) loader: Arc<tokio::sync::Mutex<Loader>>,
    pub(crate) watch: Option<Watch>,
    /// Where texts of this process are kept.
    pub(crate) folder: Option<PathBuf>,
    /// Programs that can be loaded by name.
    pub(crate) blueprints: Vec<(String, String)>,
    results: VecDeque<String>,
    /// Whether Ctrl-C was just answered by a hint.
    is_hinted: bool,
}

/// What a sitting needs.
pub(crate) struct Parts {
    pub(crate) link: Arc<dyn Link>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) library: Arc<Library>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) line: Line,
    pub(crate) style: Style,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) blueprints: Vec<(String, String)>,
}

impl Shell {
    /// A sitting that has not begun.
    pub(crate) fn new(parts: Parts) -> Shell {
        Shell {
            link: parts.link,
            desk: parts.desk,
            library: parts.library,
            watcher: parts.watcher,
            line: parts.line,
            style: parts.style,
            switches: Switches::default(),
            loader: Arc::default(),
            watch: None,
            folder: parts.folder,
            blueprints: parts.blueprints,
            results: VecDeque::new(),
            is_hinted: false,
        }
    }

    /// Reads lines until the person leaves.
    ///
    /// # Errors
    /// If the terminal fails.
    pub(crate) async fn sit(&mut self) -> io::Result<()> {
        loop {
            let question = self
                .switches
                .is_dry
                .then(|| format!("dry {}", self.desk.prompt()));
            let typed = self.line.read(Mode::Lua, question.as_deref()).await?;
            let next = match typed {
                Typed::Line(line) => self.take(&line).await?,
                Typed::Cancelled => self.hint(),
                Typed::Done => Next::Leave,
            };
            if next == Next::Leave {
                return Ok(());
            }
        }
    }

    /// Ctrl-C on an empty line twice is somebody looking for the way out.
    fn hint(&mut self) -> Next {
        if !self.is_hinted && self.line.was_empty() {
            self.say(&self.dim("Ctrl-D or .exit leaves"));
            self.is_hinted = true;
        }
        Next::Line
    }

    /// One line.
    ///
    /// # Errors
    /// If the terminal fails.
    pub(crate) async fn take(&mut self, line: &str) -> io::Result<Next> {
        if line.trim().is_empty() {
            return Ok(Next::Line);
        }
        if let Some((name, rest)) = commands::split(line) {
            return act::command(self, name, rest).await;
        }
        if let Some(chunk) = self.checked(line) {
            self.submit(&chunk, None).await?;
        }
        Ok(Next::Line)
    }

    /// The chunk of a text, or nothing and a word on why.
    pub(crate) fn checked(&self, source: &str) -> Option<Chunk> {
        match lua::read(source) {
            Read::Complete(chunk) if chunk.is_empty() => None,
            Read::Complete(chunk) => Some(chunk),
            Read::Incomplete => {
                self.say(&self.red("the text ends in the middle; not sent"));
                None
            }
            Read::Broken(error) => {
                self.say(&self.broken(&error));
                None
            }
        }
    }

    fn broken(&self, error: &LuaError) -> String {
        let frame = render::safe(&error.frame(), Style { colors: false });
        format!("{}\n{}", self.red(&frame), self.dim("not sent; ↑ brings it back"))
    }

    /// Sends a chunk, or does with it what the switches say.
    ///
    /// # Errors
    /// If the terminal fails.
    pub(crate) async fn submit(&mut self, chunk: &Chunk, map: Option<&SourceMap>) -> io::Result<Ending> {
        if self.switches.is_dry {
            return self.run_dry(chunk, map).await;
        }
        if self.switches.confirms {
            self.show_preview(chunk).await;
            if !self.asks("send? y/N ").await? {
                self.say(&self.dim("not sent"));
                return Ok(Ending::Failed);
            }
        }
        let began = Instant::now();
        let link = Arc::clone(&self.link);
        let sent = wait::anything("sending", self.watcher.sending(link.send(chunk))).await;
        let ending = match sent {
            Waited::Answered(Ok(id)) => self.follow(id, chunk, map).await,
            Waited::Answered(Err(refusal)) => self.refuse(&refusal),
            Waited::Left => {
                self.say(&self.red("stopped while sending: whether the message was taken is not known"));
                Ending::Failed
            }
        };
        if self.switches.is_timed {
            self.say(&self.dim(&format!("{:.1} ms", began.elapsed().as_secs_f64() * 1e3)));
        }
        Ok(ending)
    }

    /// Waits for a message that has its slot, and tells what came of it.
    async fn follow(&mut self, id: ItemId, chunk: &Chunk, map: Option<&SourceMap>) -> Ending {
        self.library.learn(
            id.to_string(),
            format!("{SENT}{}", show::one_line(chunk.source(), 40)),
        );
        let waited = wait::outcome(&self.link, id).await;
        self.library.mark_stale();
        self.library.refresh();
        match waited {
            Waited::Answered(Ok(evaluated)) => self.tell(&evaluated, chunk, map),
            Waited::Answered(Err(refusal)) => self.refuse(&refusal),
            Waited::Left => {
                self.say(&format!(
                    "left; the message is permanent and will be evaluated: {id}"
                ));
                self.say(&self.dim(&format!(".trace {id} tells what came of it")));
                Ending::Failed
            }
        }
    }

    fn tell(&mut self, evaluated: &Evaluated, chunk: &Chunk, map: Option<&SourceMap>) -> Ending {
        for line in self.desk.take_waiting() {
            self.say(&line);
        }
        if let Some(prompt) = show::prompt(&evaluated.outcome, self.style) {
            self.desk.set_prompt(&prompt);
        }
        let ending = self.tell_outcome(&evaluated.outcome, chunk, map);
        if let (Ending::Failed, Some(id)) = (ending, evaluated.message) {
            self.say(&self.dim(&format!("message {id}, slot {}", evaluated.slot)));
        }
        ending
    }

    /// The value of an outcome, or its error in place.
    fn tell_outcome(&mut self, outcome: &Outcome, chunk: &Chunk, map: Option<&SourceMap>) -> Ending {
        let shown = render::shown(outcome);
        if let Some(text) = shown.text {
            self.remember(text);
            self.say_long(0);
        }
        let input = SourceMap::of(Path::new("input"), chunk.source());
        match Problem::of_outcome(outcome, Some(map.unwrap_or(&input))) {
            None => Ending::Done,
            Some(problem) => self.fail(&problem),
        }
    }

    /// What went wrong, where, why, and what one can do.
    pub(crate) fn fail(&self, problem: &Problem) -> Ending {
        self.say(problem.render(self.style).trim_end());
        Ending::Failed
    }

    /// What the node refused.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Ending {
        self.fail(&Problem::from(refusal))
    }

    // ---- Dry runs ----

    async fn run_dry(&mut self, chunk: &Chunk, map: Option<&SourceMap>) -> io::Result<Ending> {
        let link = Arc::clone(&self.link);
        Ok(match wait::anything("running dry", link.dry(chunk)).await {
            Waited::Answered(Ok(outcome)) => {
                let ending = self.tell_outcome(&outcome, chunk, map);
                self.tell_outbox(&outcome);
                ending
            }
            Waited::Answered(Err(refusal)) => self.refuse(&refusal),
            Waited::Left => Ending::Failed,
        })
    }

    /// What a chunk would do.
    pub(crate) async fn show_preview(&mut self, chunk: &Chunk) {
        let link = Arc::clone(&self.link);
        match wait::anything("running dry", dry::preview(link.as_ref(), chunk)).await {
            Waited::Answered(Ok(preview)) => self.tell_preview(&preview, chunk),
            Waited::Answered(Err(refusal)) => {
                self.refuse(&refusal);
            }
            Waited::Left => self.say(&self.dim("stopped")),
        }
    }

    fn tell_preview(&mut self, preview: &Preview, chunk: &Chunk) {
        self.say(&self.dim("would do (nothing is sent):"));
        let ending = self.tell_outcome(&preview.outcome, chunk, None);
        self.tell_outbox(&preview.outcome);
        match &preview.changes {
            _ if ending == Ending::Failed => self.say(&self.dim("no change: after an error the state stays")),
            None => self.say(&self.dim("what would change cannot be told")),
            Some(changes) if changes.is_empty() => self.say(&self.dim("no global would change")),
            Some(changes) => {
                for change in changes {
                    self.say(&self.change_line(change));
                }
            }
        }
    }

    fn change_line(&self, change: &dry::Change) -> String {
        let colour = match change.sign {
            '+' => "32",
            '-' => "31",
            _ => "33",
        };
        self.style.paint(colour, &change.line())
    }

    fn tell_outbox(&self, outcome: &Outcome) {
        for line in show::outbox(outcome) {
            self.say(&self.style.paint("34", &format!("-> {line}")));
        }
    }

    /// Asks a yes or no.
    ///
    /// # Errors
    /// If the terminal fails.
    pub(crate) async fn asks(&mut self, question: &str) -> io::Result<bool> {
        let typed = self.line.read(Mode::Plain, Some(question)).await?;
        Ok(matches!(typed, Typed::Line(answer) if matches!(answer.trim(), "y" | "Y" | "yes")))
    }

    // ---- Results ----

    fn remember(&mut self, text: String) {
        self.results.push_front(text);
        self.results.truncate(RESULTS_MAX);
    }

    /// A result, 0 the last.
    pub(crate) fn result(&self, index: usize) -> Option<&str> {
        self.results.get(index).map(String::as_str)
    }

    /// The first rows of a result.
    fn say_long(&self, index: usize) {
        let (first, all) = show::first_rows(&render::safe(self.result(index).unwrap_or(""), self.style));
        self.say(&first);
        if let Some(all) = all {
            let more = all - show::ROWS_MAX;
            self.say(&self.dim(&format!("… {more} more rows; .last shows all")));
        }
    }

    // ---- The screen ----

    /// The last words: what was printed while nobody read.
    pub(crate) fn leave(&mut self) {
        self.watch = None;
        for line in self.desk.take_waiting() {
            self.say(&line);
        }
    }

    /// Prints a text on lines of its own. Errors of the terminal are met again at the next line read.
    pub(crate) fn say(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    /// A text in the colour of errors.
    pub(crate) fn red(&self, text: &str) -> String {
        let lines = text.lines().map(|line| self.style.paint("31", line));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A text that steps back.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.style.paint("90", text)
    }

    /// Answers of the node to a command, or nothing and a word on why.
    pub(crate) async fn ask<T>(&self, what: &str, answer: impl Future<Output = Answer<T>>) -> Option<T> {
        match wait::anything(what, answer).await {
            Waited::Answered(Ok(value)) => Some(value),
            Waited::Answered(Err(refusal)) => {
                self.refuse(&refusal);
                None
            }
            Waited::Left => None,
        }
    }
}
