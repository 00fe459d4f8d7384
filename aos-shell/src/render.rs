//! Outcomes as people read them: values, what a process printed, errors; and text made safe to show.
//!
//! The invariant: nothing a process or a stranger wrote reaches the terminal as anything but text and
//! colours. Not here: where it is shown.

use serde_json::{Map, Value};
use spec::Outcome;

/// How text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether colours are shown; off for pipes, files and where `NO_COLOR` is set.
    pub colors: bool,
}

impl Style {
    /// What fits an output, given whether it is a terminal. `NO_COLOR` set to anything turns colours off.
    pub fn for_output(is_terminal: bool) -> Style {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Style {
            colors: is_terminal && !no_color && !is_dumb,
        }
    }

    /// Text in a colour, given its SGR number.
    pub fn paint(self, sgr: &str, text: &str) -> String {
        match self.colors && !text.is_empty() {
            true => format!("\u{1b}[{sgr}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// What an outcome has for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// The value, or what was printed.
    pub text: Option<String>,
    /// The prompt the process wants.
    pub prompt: Option<String>,
    /// Whether the process printed on its own rather than answer an evaluation.
    pub is_print: bool,
    /// What went wrong.
    pub error: Option<String>,
}

/// Takes an outcome apart, as every shell of the field does: `Error` first, then `Output.data.output`,
/// `Output.data`, and an `Output` that is a text.
pub fn shown(outcome: &Outcome) -> Shown {
    let mut shown = Shown {
        error: outcome.error.as_ref().map(|error| text_of_json(error.get())),
        ..Shown::default()
    };
    match serde_json::from_str::<Value>(outcome.output.get()) {
        Ok(Value::Object(parts)) => shown.read(&parts),
        _ => shown.text = Some(text_of_json(outcome.output.get())).filter(|text| !text.is_empty()),
    }
    shown
}

impl Shown {
    fn read(&mut self, parts: &Map<String, Value>) {
        let prompt = |parts: &Map<String, Value>| parts.get("prompt")?.as_str().map(str::to_owned);
        self.is_print = parts.get("print") == Some(&Value::Bool(true));
        self.prompt = prompt(parts);
        let data = match parts.get("data") {
            Some(Value::Object(inner)) if inner.contains_key("output") || inner.contains_key("prompt") => {
                self.prompt = self.prompt.take().or_else(|| prompt(inner));
                inner.get("output")
            }
            data => data,
        };
        self.text = data.map(text_of).filter(|text| !text.is_empty());
    }
}

fn text_of_json(json: &str) -> String {
    serde_json::from_str(json).map_or_else(|_| json.to_owned(), |value| text_of(&value))
}

/// A JSON value as text: texts as they are, the rest as JSON.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Text that is safe to write to a terminal: control characters become visible, colours stay if the
/// style shows them, and never leak into what follows.
pub fn safe(text: &str, style: Style) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_painted = false;
    while let Some(character) = rest.chars().next() {
        if character == '\u{1b}'
            && let Some((sequence, parameters)) = sgr(rest)
        {
            let kept = allowed(parameters).filter(|_| style.colors);
            if let Some(kept) = kept {
                is_painted = !matches!(kept.as_str(), "" | "0");
                out.push_str(&format!("\u{1b}[{kept}m"));
            }
            rest = &rest[sequence..];
            continue;
        }
        out.push_str(&visible(character));
        rest = &rest[character.len_utf8()..];
    }
    if is_painted {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// The length and the parameters of the colour sequence that a text starts with.
fn sgr(text: &str) -> Option<(usize, &str)> {
    let body = text.strip_prefix("\u{1b}[")?;
    let end = body.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    let is_sgr = body.as_bytes()[end] == b'm' && end <= SGR_CHARS_MAX;
    is_sgr.then(|| (end + 3, &body[..end]))
}

/// Longest parameters of a colour sequence.
const SGR_CHARS_MAX: usize = 64;

/// The parameters that only colour, weigh or underline; `None` if none is left.
fn allowed(parameters: &str) -> Option<String> {
    if parameters.is_empty() {
        return Some(String::new());
    }
    let numbers: Vec<&str> = parameters.split([';', ':']).collect();
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(number) = numbers.get(at) {
        let length = match (*number, numbers.get(at + 1).copied()) {
            ("38" | "48", Some("5")) => 3,
            ("38" | "48", Some("2")) => 5,
            _ => 1,
        };
        let is_plain = number.parse().is_ok_and(
            |n: u8| matches!(n, 0..=4 | 7 | 9 | 22..=24 | 27 | 29..=37 | 39..=47 | 49 | 90..=97 | 100..=107),
        );
        match numbers.get(at..at + length) {
            Some(color) if length > 1 || is_plain => kept.extend_from_slice(color),
            _ => {}
        }
        at += length;
    }
    (!kept.is_empty()).then(|| kept.join(";"))
}

/// A character as the terminal may have it.
fn visible(character: char) -> String {
    match character {
        '\n' | '\t' => character.into(),
        '\0'..='\u{1f}' => {
            char::from_u32(0x2400 + u32::from(character)).map_or_else(String::new, String::from)
        }
        '\u{7f}' => '\u{2421}'.into(),
        // C1 controls, and the marks that reorder text so that it reads as what it is not.
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            format!("<U+{:04X}>", u32::from(character))
        }
        _ => character.into(),
    }
}

/// A text as the process wrote it, without the colours that consoles of the field add.
pub fn without_colors(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let body = &rest[at + 2..];
        let end = body.find(|c: char| !c.is_ascii_digit() && c != ';');
        match end.filter(|end| body[*end..].starts_with('m')) {
            Some(end) => {
                out.push_str(&rest[..at]);
                rest = &body[end + 1..];
            }
            None => {
                out.push_str(&rest[..at + 2]);
                rest = body;
            }
        }
    }
    out.push_str(rest);
    out
}

/// What an evaluation gave, for a terminal.
pub fn value(outcome: &Outcome, style: Style) -> Option<String> {
    shown(outcome).text.map(|text| safe(&text, style))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLORS: Style = Style { colors: true };
    const PLAIN: Style = Style { colors: false };

    fn outcome(json: &str) -> Outcome {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn outputs_of_all_shapes_are_read() {
        let text = |output: &str| shown(&outcome(&format!("{{\"Output\":{output}}}"))).text;
        assert_eq!(text(r#"{"data":"2","prompt":"p> "}"#).as_deref(), Some("2"));
        assert_eq!(
            text(r#"{"data":{"output":"3","prompt":"p> "}}"#).as_deref(),
            Some("3")
        );
        assert_eq!(text(r#"{"data":{"json":"x","output":3}}"#).as_deref(), Some("3"));
        assert_eq!(text(r#"{"data":{"a":1}}"#).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(text(r#""plain""#).as_deref(), Some("plain"));
        assert_eq!(
            (text(r#""""#), text("[]"), text("{}")),
            (None, Some("[]".into()), None)
        );
        let print = shown(&outcome(
            r#"{"Output":{"print":true,"data":"hi","prompt":"p> "}}"#,
        ));
        assert!(print.is_print && print.prompt.as_deref() == Some("p> "));
        let failed = shown(&outcome(r#"{"Error":"[string \"aos\"]:1: boom"}"#));
        assert_eq!(failed.error.as_deref(), Some("[string \"aos\"]:1: boom"));
    }

    #[test]
    fn escape_sequences_become_text() {
        for (bad, good) in [
            ("\u{1b}]0;title\u{7}", "␛]0;title␇"),
            ("\u{1b}[2J\u{1b}[1;1H", "␛[2J␛[1;1H"),
            ("a\rb\u{8}", "a␍b␈"),
            ("\u{9b}31m", "<U+009B>31m"),
            ("\u{1b}P+q\u{1b}\\", "␛P+q␛\\"),
            ("\u{202e}live", "<U+202E>live"),
            ("\u{7f}\0", "␡␀"),
            ("\u{1b}[31", "␛[31"),
            ("\u{1b}[?25l", "␛[?25l"),
        ] {
            assert_eq!(safe(bad, COLORS), good);
            assert_eq!(safe(bad, PLAIN), good);
        }
    }

    #[test]
    fn pipes_get_text_without_colours_and_nothing_else_is_lost() {
        assert_eq!(without_colors("\u{1b}[32mok\u{1b}[0m \u{1b}[1;31mx"), "ok x");
        assert_eq!(without_colors("a\u{1b}[2Jb\u{1b}["), "a\u{1b}[2Jb\u{1b}[");
    }

    #[test]
    fn colours_stay_and_do_not_leak() {
        assert_eq!(
            safe("\u{1b}[32mok\u{1b}[0m\n\tx", COLORS),
            "\u{1b}[32mok\u{1b}[0m\n\tx"
        );
        assert_eq!(safe("\u{1b}[38;5;7;1mx", COLORS), "\u{1b}[38;5;7;1mx\u{1b}[0m");
        assert_eq!(safe("\u{1b}[32mok\u{1b}[0m", PLAIN), "ok");
        // Text that hides or blinks is text all the same.
        assert_eq!(
            safe("\u{1b}[8msecret\u{1b}[5;31mx", COLORS),
            "secret\u{1b}[31mx\u{1b}[0m"
        );
        assert_eq!(safe("ü 世界 🙂", COLORS), "ü 世界 🙂");
    }
}
