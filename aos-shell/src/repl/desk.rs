//! What is on the edit line and what waits to be printed above it: shared by the helpers of reedline.
//!
//! reedline prints above the line by itself, but counts the rows of the line without its prompt and
//! its wrapping. So lines are handed to it only while it paints a line that it will print above before
//! it reads another key, with the correction for the rows that it misses. The invariant: a line that
//! waits is handed over exactly once, and never while the row it would land on is unknown.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reedline::{EditCommand, ReedlineEvent};
use unicode_width::UnicodeWidthChar;

use super::shape;
use crate::lua::{self, Read};

/// Lines that may wait; at the limit the feed stops reading.
pub(crate) const WAITING_MAX: usize = 4_096;
/// Lines handed over in one turn.
const BATCH_MAX: usize = 512;
/// Spaces of one step of indentation.
const STEP: usize = 2;

/// Asks for the line to be painted again, from any thread.
pub(crate) type Repaint = Arc<dyn Fn() + Send + Sync>;

/// What the edit line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// Lua or a command, checked before it is taken.
    #[default]
    Lua,
    /// An answer to a question; not kept in the history, not coloured.
    Plain,
    /// A line of a longer text; not kept in the history.
    Text,
}

/// Shared by the prompt, the highlighter, the keys, the validator and the feed.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mode: Mode,
    prompt: String,
    /// A prompt for one line only.
    question: Option<String>,
    /// The prompt that is on the screen, or is being painted.
    shown: String,
    line: String,
    cursor: usize,
    /// Whether `line` and `cursor` are what reedline holds.
    is_known: bool,
    /// Whether the line has been taken, so that reedline is about to return.
    is_leaving: bool,
    waiting: VecDeque<String>,
    printer: Option<SyncSender<String>>,
    repaint: Option<Repaint>,
    /// Whether a batch is with reedline and not printed yet.
    is_handed_over: bool,
    /// Whether the next paint is one that keys follow, not printing.
    is_settled: bool,
    /// Whether the prompt on the right is asked for by the paint under way.
    is_painting: bool,
    /// Whether a menu may be open below the line.
    has_menu: bool,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands lines to this printer from now on, and asks for paints by this signal.
    pub(crate) fn attach(&self, printer: SyncSender<String>, repaint: Repaint) {
        let mut state = self.state();
        state.printer = Some(printer);
        state.repaint = Some(repaint);
    }

    /// Asks for a paint, so that what waits is printed.
    pub(crate) fn repaint(&self) {
        let repaint = self.state().repaint.clone();
        if let Some(repaint) = repaint {
            repaint();
        }
    }

    /// Sets what the line is for, before reedline reads one.
    pub(crate) fn begin(&self, mode: Mode, question: Option<&str>) {
        let mut state = self.state();
        state.mode = mode;
        state.question = question.map(str::to_owned);
        state.shown = state.wanted().to_owned();
        state.is_known = false;
        state.is_leaving = false;
        state.is_settled = false;
        state.is_painting = false;
        state.has_menu = false;
    }

    /// What the line is for.
    pub(crate) fn mode(&self) -> Mode {
        self.state().mode
    }

    /// The prompt that the process asked for.
    pub(crate) fn prompt(&self) -> String {
        self.state().prompt.clone()
    }

    /// What stood on the line when it was painted last.
    pub(crate) fn painted_line(&self) -> String {
        self.state().line.clone()
    }

    /// The prompt as the paint under way shows it.
    pub(crate) fn shown_prompt(&self) -> String {
        self.state().shown.clone()
    }

    /// Sets the prompt; whether it changed.
    pub(crate) fn set_prompt(&self, prompt: &str) -> bool {
        let mut state = self.state();
        let is_new = state.prompt != prompt;
        state.prompt = prompt.to_owned();
        is_new
    }

    /// Puts lines in the queue. They are printed above the edit line.
    pub(crate) fn print(&self, text: &str) {
        let mut state = self.state();
        match text.is_empty() {
            true => state.waiting.push_back(String::new()),
            false => state.waiting.extend(text.lines().map(str::to_owned)),
        }
    }

    /// How many lines wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Takes what waits, to be printed by a caller who has the terminal for himself.
    pub(crate) fn take_waiting(&self) -> Vec<String> {
        self.state().waiting.drain(..).collect()
    }

    /// reedline paints this line; what it prints next lands above the line as it is now.
    pub(crate) fn painted(&self, line: &str, cursor: usize) {
        let mut state = self.state();
        line.clone_into(&mut state.line);
        state.cursor = cursor.min(line.len());
        state.is_known = true;
        state.shown = state.wanted().to_owned();
        state.is_painting = true;
        let is_next = !state.is_leaving && !state.is_handed_over && !state.is_settled;
        state.is_settled = false;
        if is_next {
            state.release();
        }
        let again = state
            .repaint
            .clone()
            .filter(|_| !state.is_handed_over && !state.waiting.is_empty());
        drop(state);
        if let Some(repaint) = again {
            repaint();
        }
    }

    /// reedline asks for the prompt on the right: once in every paint, after the line, and once more
    /// when it prints what it was handed. After that it paints again and reads keys.
    pub(crate) fn asked_for_right(&self) {
        let mut state = self.state();
        let is_printing = !state.is_painting;
        state.is_painting = false;
        if is_printing {
            state.is_handed_over = false;
            state.is_settled = true;
        }
    }

    /// reedline is about to paint outside of its turn, and then reads keys.
    pub(crate) fn settle(&self) {
        self.state().is_settled = true;
    }

    /// Whether the line can be taken as it is. Called by the validator.
    pub(crate) fn takes(&self, line: &str) -> bool {
        let mut state = self.state();
        state.is_leaving = state.mode != Mode::Lua || !is_incomplete(line);
        state.is_leaving
    }

    /// What a key means here: an event of the key map, with indentation where it continues a block.
    pub(crate) fn meaning(&self, event: ReedlineEvent) -> ReedlineEvent {
        let mut state = self.state();
        state.watch_menu(&event);
        if !state.is_known || state.mode != Mode::Lua {
            return event;
        }
        match &event {
            ReedlineEvent::Enter if is_incomplete(&state.line) => state.continued(),
            ReedlineEvent::Enter => event,
            ReedlineEvent::Edit(edits) => match state.apply(edits) {
                true => state.outdented(event),
                false => event,
            },
            _ => {
                state.is_known = false;
                event
            }
        }
    }
}

/// Whether a line is the beginning of Lua; commands and blank lines are whole.
fn is_incomplete(line: &str) -> bool {
    let is_command = super::commands::split(line).is_some();
    !is_command && matches!(lua::read(line), Read::Incomplete)
}

impl State {
    /// The prompt that the next paint shows.
    fn wanted(&self) -> &str {
        self.question.as_deref().unwrap_or(&self.prompt)
    }

    /// Tab may open the menu; what is typed goes on with its word, or closes it.
    fn watch_menu(&mut self, event: &ReedlineEvent) {
        self.has_menu = match event {
            ReedlineEvent::UntilFound(_) => true,
            ReedlineEvent::Edit(edits) => {
                let goes_on = |edit: &EditCommand| match edit {
                    EditCommand::InsertChar(c) => c.is_alphanumeric() || WORD_SIGNS.contains(*c),
                    _ => true,
                };
                self.has_menu && edits.iter().all(goes_on)
            }
            ReedlineEvent::Enter | ReedlineEvent::Esc | ReedlineEvent::CtrlC => false,
            _ => self.has_menu,
        };
    }

    /// A new line with the indentation of its block, unless an open menu takes the key.
    fn continued(&mut self) -> ReedlineEvent {
        let before = &self.line[..self.cursor];
        let steps = match shape::ends_in_open_text(before) {
            true => 0,
            false => shape::depth(before),
        };
        self.is_known = false;
        ReedlineEvent::UntilFound(vec![
            ReedlineEvent::MenuAccept,
            ReedlineEvent::Edit(vec![
                EditCommand::InsertNewline,
                EditCommand::InsertString(" ".repeat(steps * STEP)),
            ]),
        ])
    }

    /// Follows simple edits; `false` and unknown from then on if there is another among them.
    fn apply(&mut self, edits: &[EditCommand]) -> bool {
        for edit in edits {
            let text = match edit {
                EditCommand::InsertChar(c) => c.to_string(),
                EditCommand::InsertString(text) => text.clone(),
                _ => {
                    self.is_known = false;
                    return false;
                }
            };
            self.line.insert_str(self.cursor, &text);
            self.cursor += text.len();
        }
        true
    }

    /// A word that closes a block moves one step to the left as its last letter is typed.
    fn outdented(&mut self, event: ReedlineEvent) -> ReedlineEvent {
        let ReedlineEvent::Edit(edits) = &event else {
            return event;
        };
        let start = self.line[..self.cursor].rfind('\n').map_or(0, |at| at + 1);
        let typed = &self.line[start..self.cursor];
        let indent = typed.len() - typed.trim_start().len();
        let wanted = shape::depth(&self.line[..self.cursor]) * STEP;
        let opens = usize::from(typed.trim() == "else") * STEP;
        let is_deeper = indent + opens > wanted && indent >= STEP;
        let one_letter = matches!(edits.as_slice(), [EditCommand::InsertChar(_)]);
        if start == 0 || !one_letter || !shape::closes_a_block(typed) || !is_deeper {
            return event;
        }
        self.is_known = false;
        let mut edits = edits.clone();
        edits.push(EditCommand::MoveToLineStart { select: false });
        edits.extend([EditCommand::Delete, EditCommand::Delete]);
        edits.push(EditCommand::MoveToLineEnd { select: false });
        ReedlineEvent::Edit(edits)
    }

    /// Hands over what waits, if the row where it will be printed is known.
    fn release(&mut self) {
        let size = crossterm::terminal::size().unwrap_or((80, 24));
        let Some(climb) = self.climb(size) else {
            return;
        };
        if self.waiting.is_empty() || self.printer.is_none() {
            return;
        }
        let count = self.waiting.len().min(BATCH_MAX);
        let lines = self.waiting.iter().take(count).map(|line| visible(line));
        let text = format!("{}{}", clear_from(climb), lines.collect::<Vec<_>>().join("\n"));
        let sent = self.printer.as_ref().map(|printer| printer.try_send(text));
        if matches!(sent, Some(Ok(()))) {
            self.waiting.drain(..count);
            self.is_handed_over = true;
        }
    }

    /// How many rows above the one that reedline goes to the prompt begins; `None` if reedline would go
    /// above the prompt, or lose rows because the line or its menu may not fit on the screen.
    fn climb(&self, (columns, rows): (u16, u16)) -> Option<u16> {
        let columns = columns.max(1);
        let painted = |line: &str| {
            let text = format!("{}{}", plain(&self.shown), line.replace('\n', INDENTED));
            rows_above(&text, columns)
        };
        let above = painted(&self.line[..self.cursor]);
        let fits = painted(&self.line) + HINT_ROWS < rows;
        if !fits || (above > 0 && self.has_menu) {
            return None;
        }
        above.checked_sub(assumed_rows(&self.line, columns))
    }
}

/// Rows kept free for a hint after the line.
const HINT_ROWS: u16 = 4;

/// What belongs to a word beside letters and digits, to the menu.
pub(crate) const WORD_SIGNS: &str = "_-";

/// What reedline paints before every line but the first.
pub(crate) const CONTINUATION: &str = "... ";
const INDENTED: &str = "\n... ";

/// An empty line would be no line to the printer.
fn visible(line: &str) -> String {
    match line.is_empty() {
        true => "\x1b[0m".to_owned(),
        false => line.to_owned(),
    }
}

fn clear_from(climb: u16) -> String {
    match climb {
        0 => "\r\x1b[J".to_owned(),
        rows => format!("\x1b[{rows}A\r\x1b[J"),
    }
}

/// Rows between the first row of a text and the cursor at its end; a full row moves the cursor on.
fn rows_above(text: &str, columns: u16) -> u16 {
    let (mut row, mut column) = (0_u16, 0_u16);
    for c in text.chars() {
        if c == '\n' {
            (row, column) = (row.saturating_add(1), 0);
            continue;
        }
        let width = u16::try_from(c.width().unwrap_or(0)).unwrap_or(0);
        if column > 0 && column + width > columns {
            (row, column) = (row.saturating_add(1), 0);
        }
        column += width;
    }
    row + u16::from(column >= columns)
}

/// The rows that reedline's printer goes up: it counts bytes, and three columns for the prompt.
fn assumed_rows(line: &str, columns: u16) -> u16 {
    let rows = line.lines().enumerate().map(|(at, text)| {
        let prompt = if at == 0 { 3 } else { 0 };
        let bytes = u16::try_from(text.len() + prompt).unwrap_or(u16::MAX);
        bytes / columns + 1
    });
    rows.fold(0, u16::saturating_add).saturating_sub(1)
}

/// A text without colour sequences.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 2..];
        let end = tail.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &tail[end + 1..]);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    #[test]
    fn rows_are_counted_as_a_terminal_wraps_them() {
        assert_eq!(rows_above("> ab", 4), 1);
        assert_eq!(rows_above("> a", 4), 0);
        assert_eq!(rows_above("> abc", 4), 1);
        assert_eq!(rows_above("a\nb\n", 4), 2);
        assert_eq!(rows_above("aaa\u{65e5}", 4), 1);
    }

    fn desk(batches: usize) -> (Desk, Receiver<String>) {
        let desk = Desk::default();
        let (sender, receiver) = sync_channel(batches);
        desk.attach(sender, Arc::new(|| {}));
        desk.begin(Mode::Lua, None);
        (desk, receiver)
    }

    /// One paint, and the question for the right prompt in it.
    fn paint(desk: &Desk, line: &str, cursor: usize) {
        desk.painted(line, cursor);
        desk.asked_for_right();
    }

    /// What reedline does before it reads keys: print, and paint again.
    fn print(desk: &Desk, receiver: &Receiver<String>) -> Option<String> {
        let text = receiver.try_recv().ok()?;
        desk.asked_for_right();
        paint(desk, "", 0);
        Some(text)
    }

    #[test]
    fn waiting_lines_are_handed_over_once_and_in_order() {
        let (desk, receiver) = desk(8);
        desk.print("one\ntwo");
        desk.print("");
        paint(&desk, "x = 1", 5);
        desk.print("three");
        paint(&desk, "x = 12", 6);
        assert_eq!(
            print(&desk, &receiver).as_deref(),
            Some("\r\x1b[Jone\ntwo\n\x1b[0m")
        );
        assert_eq!(
            print(&desk, &receiver),
            None,
            "keys are read after the paint that follows"
        );
        paint(&desk, "", 0);
        assert_eq!(print(&desk, &receiver).as_deref(), Some("\r\x1b[Jthree"));
    }

    #[test]
    fn lines_wait_while_reedline_would_print_over_others() {
        let (desk, receiver) = desk(8);
        desk.print("late");
        paint(&desk, "a = {\n1,\n2,", 2);
        assert!(
            receiver.try_recv().is_err(),
            "the cursor is in the first of three rows"
        );
        assert!(desk.takes("x = 1"));
        paint(&desk, "x = 1", 5);
        assert!(receiver.try_recv().is_err(), "the line is leaving");
        desk.begin(Mode::Lua, None);
        desk.settle();
        paint(&desk, "", 0);
        assert!(receiver.try_recv().is_err(), "keys are read after this paint");
        paint(&desk, "", 0);
        assert!(receiver.try_recv().is_ok());
    }

    #[test]
    fn a_full_printer_loses_nothing() {
        let (desk, receiver) = desk(1);
        for line in ["a", "b"] {
            desk.print(line);
            paint(&desk, "", 0);
        }
        assert_eq!(desk.waiting(), 1);
        assert!(print(&desk, &receiver).expect("first").ends_with('a'));
        paint(&desk, "", 0);
        assert!(print(&desk, &receiver).expect("second").ends_with('b'));
    }

    #[test]
    fn lines_wait_while_a_menu_may_push_rows_off_the_screen() {
        let (desk, receiver) = desk(8);
        paint(&desk, "f(\n  Ha", 7);
        desk.meaning(ReedlineEvent::UntilFound(vec![ReedlineEvent::MenuNext]));
        desk.print("late");
        paint(&desk, "f(\n  Ha", 7);
        assert!(receiver.try_recv().is_err());
        desk.meaning(ReedlineEvent::Edit(vec![EditCommand::InsertChar('.')]));
        paint(&desk, "f(\n  Ha.", 8);
        assert!(receiver.try_recv().is_ok());
    }

    #[test]
    fn enter_continues_a_block_with_indentation() {
        let desk = Desk::default();
        desk.begin(Mode::Lua, None);
        desk.painted("function f()", 12);
        let ReedlineEvent::UntilFound(events) = desk.meaning(ReedlineEvent::Enter) else {
            panic!("a new line is wanted");
        };
        let edits = ReedlineEvent::Edit(vec![
            EditCommand::InsertNewline,
            EditCommand::InsertString("  ".into()),
        ]);
        assert_eq!(events.last(), Some(&edits));
    }

    #[test]
    fn typed_ahead_letters_count() {
        let desk = Desk::default();
        desk.begin(Mode::Lua, None);
        desk.painted("", 0);
        for c in "x = {".chars() {
            desk.meaning(ReedlineEvent::Edit(vec![EditCommand::InsertChar(c)]));
        }
        assert!(matches!(
            desk.meaning(ReedlineEvent::Enter),
            ReedlineEvent::UntilFound(_)
        ));
    }

    #[test]
    fn a_closing_word_moves_to_the_left() {
        let desk = Desk::default();
        desk.begin(Mode::Lua, None);
        let line = "if a then\n  b()\n  en";
        desk.painted(line, line.len());
        let event = desk.meaning(ReedlineEvent::Edit(vec![EditCommand::InsertChar('d')]));
        let ReedlineEvent::Edit(edits) = event else {
            panic!("an edit")
        };
        assert_eq!(edits.len(), 5);
    }

    #[test]
    fn colours_have_no_width() {
        assert_eq!(plain("\x1b[32mx\x1b[0m> "), "x> ");
        assert_eq!(plain("\x1b[3"), "");
    }
}
