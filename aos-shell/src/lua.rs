//! Lua read before it is signed: is a text a whole chunk, the beginning of one, or broken, and where?
//!
//! Lua 5.3 itself decides, the same language that processes run; nothing read here is ever run here.
//! The invariant: a [`Chunk`] compiles, and only [`read`] makes one, so nothing broken can be signed.

use std::fmt;

use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaOptions, StdLib};

use crate::token::{Kind, tokens};

/// Longest text read, in bytes: a message must fit the messenger's limit with room for its tags.
pub const SOURCE_BYTES_MAX: usize = 8 << 20;

/// What a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// It compiles.
    Complete(Chunk),
    /// More lines could complete it.
    Incomplete,
    /// No continuation mends it.
    Broken(LuaError),
}

/// Lua that compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    source: String,
    is_expression: bool,
}

impl Chunk {
    /// The text, as it was typed.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it is an expression, whose value an evaluation shows.
    pub fn is_expression(&self) -> bool {
        self.is_expression
    }

    /// Whether there is nothing in it but white space and comments.
    pub fn is_empty(&self) -> bool {
        tokens(&self.source)
            .iter()
            .all(|token| token.kind == Kind::Comment)
    }
}

/// Why and where a text is no Lua.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuaError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1; one past the line's end for what is missing there.
    pub column: usize,
    /// What Lua says, without the place.
    pub text: String,
    /// The line itself.
    pub source_line: String,
}

impl LuaError {
    /// The line with a caret under the place.
    pub fn frame(&self) -> String {
        let number = self.line.to_string();
        let line = self.source_line.replace('\t', " ");
        format!(
            "{number} | {line}\n{blank} | {indent}^ {text}",
            blank = " ".repeat(number.len()),
            indent = " ".repeat(self.column.saturating_sub(1)),
            text = self.text
        )
    }
}

impl fmt::Display for LuaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.text)
    }
}

impl std::error::Error for LuaError {}

/// Reads a text: as an expression first, then as statements.
pub fn read(source: &str) -> Read {
    if source.len() > SOURCE_BYTES_MAX {
        let text = format!(
            "{} bytes are more than the {SOURCE_BYTES_MAX} that a message holds",
            source.len()
        );
        return Read::Broken(error_at(source, 0, text));
    }
    let chunk = |is_expression| {
        Read::Complete(Chunk {
            source: source.to_owned(),
            is_expression,
        })
    };
    let expression = match compile(&as_expression(source)) {
        Ok(()) => return chunk(!is_blank(source)),
        Err(message) => message,
    };
    let statement = match compile(source) {
        Ok(()) => return chunk(false),
        Err(message) => message,
    };
    let can_continue = [&expression, &statement].iter().any(|message| is_at_end(message));
    if can_continue && !ends_in_open_text(source) {
        return Read::Incomplete;
    }
    Read::Broken(broken(source, &expression, &statement))
}

/// Where `return ` would make lines longer, a line of its own keeps columns and shifts nothing else.
fn as_expression(source: &str) -> String {
    format!("return {source}")
}

fn is_blank(source: &str) -> bool {
    tokens(source).iter().all(|token| token.kind == Kind::Comment)
}

/// Whether Lua ran out of text, so that more could help.
fn is_at_end(message: &str) -> bool {
    message.ends_with("near <eof>")
}

/// A text in quotes cannot go on after a line end, unless a backslash stands before it.
fn ends_in_open_text(source: &str) -> bool {
    let Some(last) = tokens(source).last().copied() else {
        return false;
    };
    let text = &source[last.start..last.end];
    let is_quoted = last.kind == Kind::Text && last.is_open && !text.starts_with('[');
    is_quoted && !text.trim_end().ends_with("\\z") && !text.ends_with('\\') && !text.ends_with("\\\n")
}

thread_local! {
    /// A state without libraries: it compiles and never runs.
    static COMPILER: Lua = Lua::new_with(StdLib::NONE, LuaOptions::default())
        .expect("a state without libraries needs nothing that could be missing");
}

/// Compiles as text, never as bytecode. The error is Lua's message: `:LINE: what near token`.
fn compile(source: &str) -> Result<(), String> {
    COMPILER.with(|lua| {
        let chunk = lua.load(source).set_name("=").set_mode(ChunkMode::Text);
        match chunk.into_function() {
            Ok(_) => Ok(()),
            Err(mlua::Error::SyntaxError { message, .. }) => Err(message),
            Err(other) => Err(format!(":1: {other}")),
        }
    })
}

/// A message of Lua taken apart.
struct Complaint<'a> {
    line: usize,
    text: &'a str,
    /// The token that Lua stopped at; `None` at the end, or where Lua names none.
    near: Option<&'a str>,
}

impl<'a> Complaint<'a> {
    fn of(message: &'a str) -> Complaint<'a> {
        let (line, text) = message
            .trim_start_matches(':')
            .split_once(": ")
            .unwrap_or(("1", message));
        let near = text.rfind(" near ").map(|at| &text[at + " near ".len()..]);
        let near = near.filter(|near| *near != "<eof>");
        Complaint {
            line: line.parse().unwrap_or(1),
            text,
            near: near.map(|near| {
                near.strip_prefix('\'')
                    .and_then(|near| near.strip_suffix('\''))
                    .unwrap_or(near)
            }),
        }
    }
}

/// Of the two readings the one that came further is the one that was meant.
fn broken(source: &str, expression: &str, statement: &str) -> LuaError {
    let expression = place(source, "return ", expression);
    let statement = place(source, "", statement);
    let further = match expression.0 > statement.0 {
        true => expression,
        false => statement,
    };
    error_at(source, further.0, further.1)
}

/// The byte that a message is about, and its text.
fn place(source: &str, prefix: &str, message: &str) -> (usize, String) {
    let complaint = Complaint::of(message);
    let line_start = line_start(source, complaint.line);
    let line_end = source[line_start..]
        .find('\n')
        .map_or(source.len(), |at| line_start + at);
    let at = match complaint.near {
        None if is_at_end(message) => source.trim_end().len(),
        None => line_start,
        Some(near) => culprit(source, prefix, message, near, line_start..line_end),
    };
    (at, complaint.text.to_owned())
}

/// The first token on the line with which the text fails just so, while without it it does not.
fn culprit(source: &str, prefix: &str, message: &str, near: &str, line: std::ops::Range<usize>) -> usize {
    let candidates = tokens(source).into_iter().filter(|token| {
        let text = &source[token.start..token.end];
        let is_on_line = token.start < line.end && token.end > line.start;
        is_on_line && (text == near || text.starts_with(near) || near.starts_with(text))
    });
    let candidates: Vec<_> = candidates.collect();
    let fails = |end: usize| {
        let text = format!("{prefix}{}", &source[..end]);
        compile(&text).is_err_and(|found| found == message || !is_at_end(&found))
    };
    let first = candidates.iter().find(|token| fails(token.end));
    let found = first.or(candidates.last()).map(|token| token.start);
    found
        .or_else(|| source[line.clone()].find(near).map(|at| line.start + at))
        .unwrap_or(line.start)
}

fn line_start(source: &str, line: usize) -> usize {
    let starts = source.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0)
        .chain(starts)
        .nth(line.saturating_sub(1))
        .unwrap_or(source.len())
}

/// What is wrong with a whole text that is incomplete: Lua's own words, at the end.
pub fn at_end(source: &str) -> LuaError {
    let message = compile(source).err().unwrap_or_default();
    let (at, text) = place(source, "", &message);
    error_at(source, at, text)
}

fn error_at(source: &str, at: usize, text: String) -> LuaError {
    let before = &source[..at.min(source.len())];
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    LuaError {
        line: before.matches('\n').count() + 1,
        column: before[start..].chars().count() + 1,
        text,
        source_line: source[start..].lines().next().unwrap_or("").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_complete(source: &str) -> bool {
        matches!(read(source), Read::Complete(_))
    }

    fn error(source: &str) -> LuaError {
        match read(source) {
            Read::Broken(error) => error,
            other => panic!("{source}: {other:?}"),
        }
    }

    #[test]
    fn expressions_and_statements_are_told_apart() {
        let expression = |source| match read(source) {
            Read::Complete(chunk) => chunk.is_expression(),
            other => panic!("{source}: {other:?}"),
        };
        assert!(expression("1 + 1") && expression("f(x), g") && expression("function() end"));
        assert!(!expression("x = 1") && !expression("return 1") && !expression("local function f() end"));
        assert!(!expression("-- nothing") && !expression(""));
        // An expression as a comment ends it must not swallow what follows.
        assert!(expression("1 -- one") && is_complete("f()\ng()"));
    }

    #[test]
    fn what_can_go_on_is_incomplete() {
        let starts = [
            "function f()",
            "local t = {",
            "print(",
            "1 +",
            "a.",
            "x =",
            "if a then",
            "--[[ open",
            "s = [[ long",
            "'a\\",
            "for i = 1,",
            "f(\n1,",
            "repeat x = 1",
            "\"a\\z ",
            "return",
            "a, b",
        ];
        for source in starts
            .iter()
            .filter(|source| !["return", "a, b"].contains(*source))
        {
            assert_eq!(read(source), Read::Incomplete, "{source}");
        }
        assert!(is_complete("return") && is_complete("a, b"));
    }

    #[test]
    fn what_no_line_mends_is_broken_with_its_place() {
        let place = |source| {
            let error = error(source);
            (error.line, error.column)
        };
        assert_eq!(place("x = = 1"), (1, 5));
        assert_eq!(place("1 +* 2"), (1, 4));
        assert_eq!(place("local a = 1\nlocal b = a a c"), (2, 15));
        assert_eq!(place("end"), (1, 1));
        assert_eq!(place("f(]"), (1, 3));
        assert_eq!(place("x = 'abc"), (1, 9));
        assert_eq!(place("print('ü' 'x' 3 )"), (1, 11));
        assert_eq!(place("x = 3..4"), (1, 5));
        assert_eq!(place("x = 1\nbreak"), (2, 1));
        assert_eq!(place("a = 'x\ny'"), (1, 5));
        assert!(error("goto nowhere").text.contains("nowhere"));
    }

    #[test]
    fn bytecode_is_no_text() {
        assert!(matches!(read("\u{1b}Lua"), Read::Broken(_)));
        assert!(matches!(read("x = '\0'"), Read::Complete(_)));
    }

    #[test]
    fn the_frame_points_at_the_place() {
        let expected = "1 | x = = 1\n  |     ^ unexpected symbol near '='";
        assert_eq!(error("x = = 1").frame(), expected);
        let text = error("local t = {\n  a = 1,\n  b = = 2\n}").frame();
        assert_eq!(text, "3 |   b = = 2\n  |       ^ unexpected symbol near '='");
    }

    #[test]
    fn no_prefix_of_a_program_panics() {
        let program = "local t = { a = 'é', [\"b\"] = [[x]] } -- ü\nfor k, v in pairs(t) do print(k .. '\\z\n  ') end\nreturn t";
        assert!(is_complete(program));
        for (at, _) in program.char_indices() {
            read(&program[..at]);
        }
    }
}
