//! The edit line: reedline put together with our keys, colours, history and completion.
//!
//! The invariant: what `read` gives back as a line was taken by the validator or is plain text.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nu_ansi_term::{Color, Style};
use reedline::{
    ColumnarMenu, DefaultHinter, EditCommand, EditMode, Emacs, ExternalPrinter, Highlighter, Hinter, History,
    HistoryItem, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode, PromptHistorySearch, Reedline,
    ReedlineEvent, ReedlineMenu, ReedlineRawEvent, Signal, StyledText, ValidationResult, Validator,
    default_emacs_keybindings,
};

use super::commands;
use super::desk::{CONTINUATION, Desk, Mode, WORD_SIGNS};
use super::history::Journal;
use super::shape;
use super::tab::{Library, Tab};
use crate::token::{Kind, Token, tokens};

/// How often the loop looks for lines to print while nobody types.
const POLL: Duration = Duration::from_millis(30);
/// Batches between the desk and reedline.
const BATCHES_MAX: usize = 1;
const MENU: &str = "offers";

/// The edit line.
pub(crate) struct Line {
    reedline: Option<Reedline>,
    desk: Arc<Desk>,
}

/// What was typed.
pub(crate) enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C: the line is dropped.
    Cancelled,
    /// Ctrl-D: leave.
    Done,
}

impl Line {
    /// A line with its history in a file.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub(crate) fn open(
        desk: Arc<Desk>,
        library: Arc<Library>,
        history: Option<&Path>,
        is_coloured: bool,
    ) -> io::Result<Line> {
        let journal = Journal::open(Arc::clone(&desk), history)?;
        let printer = ExternalPrinter::new(BATCHES_MAX);
        let sender = printer.sender();
        let menu = ColumnarMenu::default()
            .with_name(MENU)
            .with_marker("")
            .with_word_chars(WORD_SIGNS);
        let mut reedline = Reedline::create()
            .with_history(Box::new(journal))
            .with_completer(Box::new(Tab::new(library, Arc::clone(&desk))))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_highlighter(Box::new(Paint(Arc::clone(&desk))))
            .with_validator(Box::new(Check(Arc::clone(&desk))))
            .with_hinter(Box::new(Hint(DefaultHinter::default())))
            .with_edit_mode(Box::new(Keys::new(Arc::clone(&desk))))
            .with_external_printer(printer)
            .with_poll_interval(POLL)
            .with_ansi_colors(is_coloured)
            .use_bracketed_paste(true);
        let signal = reedline.repaint_signal();
        desk.attach(sender, Arc::new(move || signal.request_repaint()));
        Ok(Line {
            reedline: Some(reedline),
            desk,
        })
    }

    /// Reads one line on a thread of its own; Ctrl-C and Ctrl-D are answers, not errors.
    ///
    /// # Errors
    /// If the terminal fails.
    pub(crate) async fn read(&mut self, mode: Mode, question: Option<&str>) -> io::Result<Typed> {
        let mut reedline = self.reedline.take().expect("put back after every line below");
        self.desk.begin(mode, question);
        let face = Face(Arc::clone(&self.desk));
        let reading = tokio::task::spawn_blocking(move || {
            let signal = reedline.read_line(&face);
            (reedline, signal)
        });
        let (reedline, signal) = reading.await.map_err(io::Error::other)?;
        self.reedline = Some(reedline);
        Ok(match signal? {
            Signal::Success(line) => Typed::Line(line),
            Signal::CtrlD => Typed::Done,
            _ => Typed::Cancelled,
        })
    }

    /// Whether nothing stood on the line that was read last.
    pub(crate) fn was_empty(&self) -> bool {
        self.desk.painted_line().is_empty()
    }

    /// Keeps a text in the history that was written elsewhere.
    pub(crate) fn remember(&mut self, text: &str) {
        self.desk.begin(Mode::Lua, None);
        if let Some(reedline) = &mut self.reedline {
            // A history that cannot be written must not stop the sitting.
            let _ = reedline.history_mut().save(HistoryItem::from_command_line(text));
        }
    }
}

fn dim() -> Style {
    Style::new().fg(Color::DarkGray)
}

// ---- The prompt ----

struct Face(Arc<Desk>);

impl Prompt for Face {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.shown_prompt())
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        self.0.asked_for_right();
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed(CONTINUATION)
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(history: {}) ", search.term))
    }
}

// ---- Enter ----

struct Check(Arc<Desk>);

impl Validator for Check {
    fn validate(&self, line: &str) -> ValidationResult {
        match self.0.takes(line) {
            true => ValidationResult::Complete,
            false => ValidationResult::Incomplete,
        }
    }
}

// ---- Hints ----

/// The newest line of the history that begins as this one; of a text of many lines, the first is shown.
struct Hint(DefaultHinter);

impl Hinter for Hint {
    fn handle(
        &mut self,
        line: &str,
        position: usize,
        history: &dyn History,
        is_coloured: bool,
        folder: &str,
    ) -> String {
        let hint = self.0.handle(line, position, history, false, folder);
        let first = hint.lines().next().unwrap_or("");
        match is_coloured && !first.is_empty() {
            true => dim().paint(first).to_string(),
            false => first.to_owned(),
        }
    }

    fn complete_hint(&self) -> String {
        self.0.complete_hint()
    }

    fn next_hint_token(&self) -> String {
        self.0.next_hint_token()
    }
}

// ---- Keys ----

struct Keys {
    desk: Arc<Desk>,
    emacs: Emacs,
}

impl Keys {
    fn new(desk: Arc<Desk>) -> Keys {
        let mut bindings = default_emacs_keybindings();
        let tab = ReedlineEvent::UntilFound(vec![
            ReedlineEvent::Menu(MENU.to_owned()),
            ReedlineEvent::MenuNext,
        ]);
        bindings.add_binding(KeyModifiers::NONE, KeyCode::Tab, tab);
        bindings.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        let new_line = ReedlineEvent::Edit(vec![EditCommand::InsertNewline]);
        bindings.add_binding(KeyModifiers::ALT, KeyCode::Enter, new_line);
        Keys {
            desk,
            emacs: Emacs::new(bindings),
        }
    }
}

impl EditMode for Keys {
    fn parse_event(&mut self, event: ReedlineRawEvent) -> ReedlineEvent {
        let event = self.emacs.parse_event(event);
        self.desk.meaning(event)
    }

    fn edit_mode(&self) -> PromptEditMode {
        PromptEditMode::Emacs
    }
}

// ---- Colours ----

struct Paint(Arc<Desk>);

impl Highlighter for Paint {
    fn highlight(&self, line: &str, cursor: usize) -> StyledText {
        self.0.painted(line, cursor);
        if self.0.mode() == Mode::Plain {
            return unstyled(line);
        }
        match commands::split(line) {
            Some((name, _)) => command(line, name),
            None => lua(line, cursor),
        }
    }
}

fn unstyled(line: &str) -> StyledText {
    let mut text = StyledText::new();
    text.push((Style::new(), line.to_owned()));
    text
}

/// A known name in one colour, an unknown one in another, and Lua after it as Lua.
fn command(line: &str, name: &str) -> StyledText {
    let end = line.find(name).map_or(0, |at| at + name.len());
    let style = match commands::find(name) {
        Some(_) => Style::new().fg(Color::Cyan).bold(),
        None => Style::new().fg(Color::Red),
    };
    let mut text = StyledText::new();
    text.push((style, line[..end].to_owned()));
    let takes_code = commands::find(name).is_some_and(|c| c.takes == commands::Takes::Code);
    match takes_code {
        true => text.buffer.extend(lua(&line[end..], line.len()).buffer),
        false => text.push((Style::new(), line[end..].to_owned())),
    }
    text
}

fn lua(line: &str, cursor: usize) -> StyledText {
    let mut text = StyledText::new();
    let mut at = 0;
    for token in tokens(line) {
        if token.start > at {
            text.push((Style::new(), line[at..token.start].to_owned()));
        }
        text.push((style(&token, line), shape::text(&token, line).to_owned()));
        at = token.end;
    }
    text.push((Style::new(), line[at..].to_owned()));
    let before = cursor.checked_sub(1);
    let pair = before
        .and_then(|at| shape::partners(line, at))
        .or_else(|| shape::partners(line, cursor));
    for at in pair.into_iter().flat_map(|(open, close)| [open, close]) {
        text.style_range(at, at + 1, Style::new().fg(Color::Yellow).bold().underline());
    }
    text
}

fn style(token: &Token, line: &str) -> Style {
    match token.kind {
        Kind::Keyword => match shape::text(token, line) {
            "true" | "false" | "nil" => Style::new().fg(Color::Cyan),
            _ => Style::new().fg(Color::Purple),
        },
        Kind::Text => Style::new().fg(Color::Green),
        Kind::Number => Style::new().fg(Color::Cyan),
        Kind::Comment => dim(),
        Kind::Unknown => Style::new().fg(Color::Red),
        Kind::Name | Kind::Sign => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_no_character() {
        for line in [
            "",
            "x = {1, 'a' -- é\n}",
            ".dry x = [[",
            "\u{1b}",
            ".nope a",
            "f(\")",
        ] {
            let paint = Paint(Arc::new(Desk::default()));
            for (cursor, _) in line.char_indices().chain([(line.len(), ' ')]) {
                assert_eq!(paint.highlight(line, cursor).raw_string(), line);
            }
        }
    }
}
