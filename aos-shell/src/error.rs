//! Errors as people read them: what happened, where, why, and what to do.
//!
//! The words for why and what to do stand in `catalogue.rs`. Not here: the decision that something is an
//! error. The invariant: everything printed went through [`safe`].

use std::path::Path;

use spec::{Outcome, Refusal};

use crate::catalogue;
use crate::load::{LoadError, Place, SourceMap};
use crate::lua::LuaError;
use crate::render::{Style, safe, shown, without_colors};
use crate::token::{Kind, tokens};

/// What a command exits with when Lua was wrong.
pub const EXIT_LUA: u8 = 1;
/// What a command exits with when it was used wrongly, or a node could not be reached or refused.
pub const EXIT_USAGE: u8 = 2;
/// What a command exits with when the time was over.
pub const EXIT_TIMEOUT: u8 = 124;

/// An error, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its code in the catalogue.
    pub code: &'static str,
    /// What happened.
    pub what: String,
    /// Where: `file:line`, or the part of the input.
    pub place: Option<Box<str>>,
    /// The line with a caret.
    pub frame: Option<Box<str>>,
    /// Lua's traceback, one step a line.
    pub trace: Vec<String>,
    /// What the process printed before it went wrong.
    pub printed: Vec<String>,
}

impl Problem {
    /// An error with a code of the catalogue.
    pub fn new(code: &'static str, what: impl Into<String>) -> Problem {
        Problem {
            code,
            what: what.into(),
            place: None,
            frame: None,
            trace: Vec::new(),
            printed: Vec::new(),
        }
    }

    /// A text that does not compile, of a file or of the prompt.
    pub fn syntax(error: &LuaError, file: Option<&Path>) -> Problem {
        let file = file.map_or_else(|| "input".to_owned(), |file| file.display().to_string());
        Problem {
            place: Some(format!("{file}:{}:{}", error.line, error.column).into()),
            frame: Some(error.frame().into()),
            ..Problem::new("lua-syntax", error.text.clone())
        }
    }

    /// What a process says went wrong. `None` if it says nothing of the kind.
    pub fn of_outcome(outcome: &Outcome, map: Option<&SourceMap>) -> Option<Problem> {
        let text = shown(outcome).error?;
        Some(Problem::of_text(&text, map))
    }

    /// The error text of a process. The kernel's console puts what was printed before in front of it.
    pub fn of_text(text: &str, map: Option<&SourceMap>) -> Problem {
        let text = without_colors(text);
        let (printed, error) = match text.rfind("\nerror:\n") {
            Some(at) => (&text[..at], &text[at + "\nerror:\n".len()..]),
            None => ("", text.strip_prefix("error:\n").unwrap_or(&text)),
        };
        let mut lines = error.trim().lines();
        let first = within_evaluation(lines.next().unwrap_or("unknown error"));
        let (what, place) = match chunk_place(first) {
            Some((0, end, line)) => {
                let what = first[end..].trim_start_matches(':').trim_start().to_owned();
                (what, Some((line, map.and_then(|map| map.place(line)))))
            }
            _ => (first.to_owned(), None),
        };
        let code = match () {
            () if what.ends_with("not enough memory") => "lua-memory",
            () if what.starts_with("out of gas for questions") || what.ends_with("(out-of-gas)") => {
                "lua-inference-gas"
            }
            () if what.starts_with("out of gas") => "lua-gas",
            () => "lua-runtime",
        };
        let trace = lines.map(|line| map.map_or_else(|| line.to_owned(), |map| map.translate(line)));
        let printed = printed.lines().map(str::to_owned);
        let mut problem = Problem {
            printed: printed.filter(|line| !line.trim().is_empty()).collect(),
            trace: trace
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty())
                .collect(),
            ..Problem::new(code, what)
        };
        match place {
            Some((_, Some(place))) => {
                problem.frame = Some(frame(&place, &problem.what).into());
                problem.place = Some(format!("{}:{}", place.path.display(), place.line).into());
            }
            Some((line, None)) => {
                problem.place = Some(format!("line {line} of the evaluation that defined it").into())
            }
            None => {}
        }
        problem
    }

    /// What a command exits with.
    pub fn exit(&self) -> u8 {
        match self.code {
            "timeout" => EXIT_TIMEOUT,
            code if code.starts_with("lua-") || code.starts_with("load-") => EXIT_LUA,
            _ => EXIT_USAGE,
        }
    }

    /// All of it: what, where, why, what to do.
    pub fn render(&self, style: Style) -> String {
        let clean = |text: &str| safe(text, Style::default());
        let mut out = style.paint("1;31", &format!("error[{}]", self.code));
        out.push_str(&format!(": {}\n", clean(&self.what)));
        if let Some(place) = &self.place {
            out.push_str(&format!("{} {}\n", style.paint("34", "  -->"), clean(place)));
        }
        for line in self.frame.iter().flat_map(|frame| frame.lines()) {
            out.push_str(&format!("  {}\n", clean(line)));
        }
        for line in &self.trace {
            out.push_str(&format!("    {}\n", clean(line)));
        }
        for line in &self.printed {
            out.push_str(&format!("{} {}\n", style.paint("34", "  printed:"), clean(line)));
        }
        if let Some(entry) = catalogue::find(self.code) {
            out.push_str(&format!("{} {}\n", style.paint("34", "  why:"), entry.why));
            out.push_str(&format!("{} {}\n", style.paint("32", "  try:"), entry.remedy));
        }
        out
    }

    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        let entry = catalogue::find(self.code);
        serde_json::json!({
            "code": self.code, "what": self.what, "where": self.place, "trace": self.trace,
            "printed": self.printed,
            "why": entry.map(|entry| entry.why), "try": entry.map(|entry| entry.remedy),
        })
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Problem {
        let code = catalogue::find(&refusal.code).map_or("upstream", |entry| entry.code);
        Problem::new(code, refusal.text.clone())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem::from(&refusal)
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Problem {
        match &error {
            LoadError::Lua { path, error } => Problem::syntax(error, Some(path)),
            LoadError::File { .. } => Problem::new("load-file", error.to_string()),
            LoadError::Cycle { .. } => Problem::new("load-cycle", error.to_string()),
            LoadError::TooMany | LoadError::TooLarge(_) => Problem::new("load-size", error.to_string()),
        }
    }
}

/// A refusal as plain text: what, why, what to do.
pub fn refusal(refusal: &Refusal) -> String {
    Problem::from(refusal).render(Style::default())
}

/// What Lua calls the text of an evaluation.
const CHUNK: &str = "[string \"aos\"]:";

/// The first place in a text of Lua's: where it starts and ends, and its line.
pub fn chunk_place(text: &str) -> Option<(usize, usize, usize)> {
    let start = text.find(CHUNK)?;
    let digits = &text[start + CHUNK.len()..];
    let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let line = digits[..length].parse().ok()?;
    Some((start, start + CHUNK.len() + length, line))
}

/// A message without the places inside the kernel that stand before the one in the person's own text.
fn within_evaluation(line: &str) -> &str {
    let is_kernel = |text: &str| {
        let mut parts = text.trim_end_matches(": ").split(": ");
        parts.all(|part| {
            let place = part
                .strip_prefix("[string \".")
                .and_then(|part| part.rsplit_once("\"]:"));
            place.is_some_and(|(_, n)| n.parse::<u32>().is_ok())
        })
    };
    match chunk_place(line) {
        Some((start, ..)) if start > 0 && is_kernel(&line[..start]) => &line[start..],
        _ => line,
    }
}

/// The line of a place, with a caret under what the message names, or under the whole of it.
fn frame(place: &Place, what: &str) -> String {
    let line = place.text.replace('\t', " ");
    let number = place.line.to_string();
    let code = line.trim();
    let indent = line.chars().take_while(|c| c.is_whitespace()).count();
    let (column, width) = named(&line, what).unwrap_or((indent, code.chars().count().max(1)));
    format!(
        "{number} | {line}\n{blank} | {space}{carets}",
        blank = " ".repeat(number.len()),
        space = " ".repeat(column),
        carets = "^".repeat(width)
    )
}

/// Where a line has the name that a message puts in quotes, as in `(global 'x')`.
fn named(line: &str, what: &str) -> Option<(usize, usize)> {
    let name = what.split('\'').nth(1)?;
    let all = tokens(line);
    let token = all
        .iter()
        .find(|token| token.kind == Kind::Name && &line[token.start..token.end] == name)?;
    Some((line[..token.start].chars().count(), name.chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lua::{Read, read};

    fn broken(source: &str) -> Problem {
        match read(source) {
            Read::Broken(error) => Problem::syntax(&error, None),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_syntax_error_says_what_where_why_and_what_to_do() {
        insta::assert_snapshot!(broken("local t = {\n  a = = 1\n}").render(Style::default()), @r#"
        error[lua-syntax]: unexpected symbol near '='
          --> input:2:7
          2 |   a = = 1
            |       ^ unexpected symbol near '='
          why: the text is no Lua 5.3; it was not signed and not sent
          try: mend the place under the caret and run it again
        "#);
    }

    #[test]
    fn a_runtime_error_points_into_the_file() {
        let map = SourceMap::of(
            Path::new("bank.lua"),
            "local function pay(x)\n\treturn x.total + 1\nend\npay()",
        );
        let text = "[string \"aos\"]:2: attempt to index a nil value (local 'x')\nstack traceback:\n\t[string \"aos\"]:4: in main chunk";
        insta::assert_snapshot!(Problem::of_text(text, Some(&map)).render(Style::default()), @r#"
        error[lua-runtime]: attempt to index a nil value (local 'x')
          --> bank.lua:2
          2 |  return x.total + 1
            |         ^
            stack traceback:
            bank.lua:4: in main chunk
          why: the process raised an error while it evaluated the message; its state is what it was before
          try: mend the line named above; `weft dry` runs a change without sending it
        "#);
    }

    #[test]
    fn a_handlers_error_is_found_behind_what_was_printed() {
        let text =
            "\u{1b}[31mError\u{1b}[0m handling\n\n\u{1b}[31merror:\n\u{1b}[0m[string \"aos\"]:1: no money";
        let problem = Problem::of_text(text, None);
        assert_eq!(
            (problem.what.as_str(), problem.printed.join("|")),
            ("no money", "Error handling".into())
        );
        assert_eq!(Problem::of_text("error:\nplain", None).what, "plain");
        let text = "[string \".handlers\"]:196: [string \"aos\"]:3: boom";
        assert_eq!(Problem::of_text(text, None).what, "boom");
        let text = "no: [string \"aos\"]:3: boom";
        assert_eq!(Problem::of_text(text, None).what, text);
    }

    #[test]
    fn what_ran_out_of_gas_names_the_limit_to_raise() {
        for (text, code) in [
            ("out of gas!", "lua-gas"),
            ("out of gas for questions! and more", "lua-inference-gas"),
            (
                "[string \"aos\"]:1: ai.generate: it costs more (out-of-gas)",
                "lua-inference-gas",
            ),
        ] {
            let problem = Problem::of_text(text, None);
            assert_eq!(problem.code, code, "{text}");
            let shown = problem.render(Style::default());
            assert_eq!(shown.contains("Inference-Limit"), code != "lua-gas", "{shown}");
        }
    }

    #[test]
    fn an_error_of_an_older_evaluation_names_its_line() {
        let problem = Problem::of_text("[string \"aos\"]:7: \u{1b}[2Jboom", None);
        insta::assert_snapshot!(problem.render(Style::default()), @r#"
        error[lua-runtime]: ␛[2Jboom
          --> line 7 of the evaluation that defined it
          why: the process raised an error while it evaluated the message; its state is what it was before
          try: mend the line named above; `weft dry` runs a change without sending it
        "#);
        assert_eq!(problem.exit(), EXIT_LUA);
    }

    #[test]
    fn every_entry_reads_whole() {
        let mut all = String::new();
        for (_, entries) in catalogue::SECTIONS {
            for entry in entries {
                let problem = Problem::new(entry.code, "what happened");
                all.push_str(&format!(
                    "[exit {}] {}",
                    problem.exit(),
                    problem.render(Style::default())
                ));
                assert!(!entry.why.is_empty() && !entry.remedy.is_empty());
            }
        }
        insta::assert_snapshot!("catalogue", all);
    }

    #[test]
    fn the_page_of_errors_is_the_catalogue() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
        if std::env::var_os("WEFT_WRITE_DOCS").is_some() {
            std::fs::write(path, catalogue::page()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == catalogue::page(),
            "run this test once with WEFT_WRITE_DOCS=1"
        );
    }

    #[test]
    fn codes_are_unique_and_unknown_ones_are_somebody_elses() {
        let mut codes: Vec<_> = catalogue::SECTIONS
            .iter()
            .flat_map(|(_, all)| all.iter())
            .map(|e| e.code)
            .collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
        let refusal = Refusal::invalid("strange", "no");
        assert_eq!(Problem::from(&refusal).code, "upstream");
    }
}
