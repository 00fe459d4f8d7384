//! What a line would do: its outcome and the globals that it would change, by two dry runs.
//!
//! The second run wraps the line between two snapshots of the globals. The invariant: nothing is sent.

use std::sync::Arc;

use spec::Outcome;
use spec::contract::Answer;

use super::atlas::unescape;
use super::link::Link;
use super::show;
use crate::lua::{self, Chunk, Read};

const PROGRAM: &str = include_str!("changes.lua");

/// What a line would do.
pub(crate) struct Preview {
    /// What it would return, print and send.
    pub(crate) outcome: Arc<Outcome>,
    /// What it would change; `None` where that could not be found out.
    pub(crate) changes: Option<Vec<Change>>,
}

/// One global, or a place below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// `+` new, `-` gone, `~` another value.
    pub(crate) sign: char,
    /// Where.
    pub(crate) path: String,
    /// The value before, in short.
    pub(crate) before: String,
    /// The value after, in short.
    pub(crate) after: String,
}

impl Change {
    /// The change in one line.
    pub(crate) fn line(&self) -> String {
        let Change {
            sign,
            path,
            before,
            after,
        } = self;
        let text = match sign {
            '+' => format!("+ {path} = {after}"),
            '-' => format!("- {path} (was {before})"),
            _ => format!("~ {path}: {before} -> {after}"),
        };
        show::one_line(&text, 160)
    }
}

/// Runs a line dry, twice.
///
/// # Errors
/// What the node refuses.
pub(crate) async fn preview(link: &dyn Link, chunk: &Chunk) -> Answer<Preview> {
    let outcome = link.dry(chunk).await?;
    let changes = match outcome.is_error() {
        true => None,
        false => changes(link, chunk).await,
    };
    Ok(Preview { outcome, changes })
}

async fn changes(link: &dyn Link, chunk: &Chunk) -> Option<Vec<Change>> {
    let Read::Complete(program) = lua::read(&wrapped(chunk.source())) else {
        return None;
    };
    let outcome = link.dry(&program).await.ok()?;
    parse(&show::text(&outcome))
}

/// The program around a line, which it holds as a long string.
fn wrapped(source: &str) -> String {
    let level = (0..).find(|level| !source.contains(&format!("]{}", "=".repeat(*level))));
    let signs = "=".repeat(level.unwrap_or(0));
    PROGRAM.replacen("__CODE__", &format!("[{signs}[\n{source}\n]{signs}]"), 1)
}

fn parse(text: &str) -> Option<Vec<Change>> {
    const HEAD: &str = "weft-changes";
    let body = &text[text.find(HEAD)? + HEAD.len()..];
    let lines = body.lines().skip(1).take_while(|line| *line != "weft-end");
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    if lines.iter().any(|line| line.starts_with('!')) {
        return None;
    }
    Some(lines.into_iter().filter_map(parse_change).collect())
}

fn parse_change(line: &str) -> Option<Change> {
    let mut parts = line.split(',');
    Some(Change {
        sign: parts.next()?.chars().next()?,
        path: unescape(parts.next()?),
        before: unescape(parts.next()?),
        after: unescape(parts.next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes that a native Lua finds.
    fn changes_of(setup: &str, line: &str) -> Option<Vec<String>> {
        let lua = mlua::Lua::new();
        lua.load(setup).exec().expect("the set-up runs");
        let listing: String = lua.load(wrapped(line)).eval().expect("the program runs");
        let changes = parse(&listing)?;
        Some(changes.iter().map(Change::line).collect())
    }

    #[test]
    fn new_other_and_gone_globals_are_told() {
        let setup = "A = 1; B = 'x'; T = { a = { b = 1 }, gone = true }";
        let changes = changes_of(
            setup,
            "A = 2; B = nil; T.a.b = 'y'; T.gone = nil; T['c d'] = { 1, 2 }",
        );
        let expected = [
            "+ T[\"c d\"] = table of 2",
            "- B (was \"x\")",
            "- T.gone (was true)",
            "~ A: 1 -> 2",
            "~ T.a.b: 1 -> \"y\"",
        ];
        assert_eq!(changes.expect("listed"), expected);
    }

    #[test]
    fn expressions_and_locals_change_nothing() {
        assert_eq!(changes_of("", "1 + 1"), Some(vec![]));
        assert_eq!(changes_of("", "local x = 5"), Some(vec![]));
    }

    #[test]
    fn any_source_can_be_wrapped() {
        assert_eq!(changes_of("", "X = [==[ ]] ]=] ]==]").map(|c| c.len()), Some(1));
        assert_eq!(changes_of("", "X = t[t[1]]"), None);
        assert_eq!(
            changes_of("t = {1}", "X = t[t[1]] -- ]").expect("listed"),
            ["+ X = 1"]
        );
    }

    #[test]
    fn a_failing_line_has_no_changes() {
        assert_eq!(changes_of("", "X = 1 error('boom')"), None);
    }
}
