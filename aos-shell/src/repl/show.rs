//! What the prompt says about outcomes, beyond their value: the outbox, the first rows, errors in place.
//!
//! Not here: reading an outcome and making it safe (`render`). The invariant: every text of a process
//! passes `render::safe` on its way out.

use serde_json::Value;
use spec::Outcome;

use crate::render::{self, Style};

/// Rows of an output shown without asking for more.
pub(crate) const ROWS_MAX: usize = 400;

/// A text in one line of at most so many characters, without colours.
pub(crate) fn one_line(text: &str, characters_max: usize) -> String {
    let plain = Style { colors: false };
    let clean = render::safe(text, plain).replace(['\n', '\t'], " ");
    match clean.char_indices().nth(characters_max) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

/// What an outcome says, as the process wrote it.
pub(crate) fn text(outcome: &Outcome) -> String {
    render::shown(outcome).text.unwrap_or_default()
}

/// The prompt that an outcome brings: its last line, safe to print.
pub(crate) fn prompt(outcome: &Outcome, style: Style) -> Option<String> {
    let prompt = render::shown(outcome).prompt?;
    let last = prompt.lines().last()?;
    (!last.trim().is_empty()).then(|| render::safe(last, style))
}

/// The messages, spawns and assignments of an outcome, a line each.
pub(crate) fn outbox(outcome: &Outcome) -> Vec<String> {
    let parse = |raw: &str| serde_json::from_str::<Vec<Value>>(raw).unwrap_or_default();
    let messages = parse(outcome.messages.get());
    let spawns = parse(outcome.spawns.get());
    let assignments = parse(outcome.assignments.get());
    let lines = messages.iter().map(|message| message_line("message to", message));
    let lines = lines.chain(spawns.iter().map(|spawn| message_line("spawn", spawn)));
    lines.chain(assignments.iter().map(assignment_line)).collect()
}

/// Tags that every message has.
const COMMON_TAGS: [&str; 6] = [
    "Data-Protocol",
    "Variant",
    "Type",
    "Reference",
    "From-Process",
    "From-Module",
];

fn message_line(what: &str, message: &Value) -> String {
    let text = |name: &str| message.get(name).map(scalar).unwrap_or_default();
    let tags = message.get("Tags").and_then(Value::as_array);
    let own = tags.into_iter().flatten().filter_map(|tag| {
        let name = tag.get("name")?.as_str()?;
        let is_own = !COMMON_TAGS.contains(&name);
        is_own.then(|| Some(format!("{name}={}", scalar(tag.get("value")?))))?
    });
    let tags: Vec<String> = own.collect();
    let head = format!("{what} {}  {}", text("Target"), tags.join(" "));
    let data = match text("Data") {
        data if data.is_empty() => String::new(),
        data => format!("  {}", one_line(&format!("{data:?}"), 60)),
    };
    format!("{}{data}", one_line(head.trim_end(), 160))
}

fn assignment_line(assignment: &Value) -> String {
    let processes = assignment.get("Processes").map(scalar).unwrap_or_default();
    let message = assignment.get("Message").map(scalar).unwrap_or_default();
    one_line(&format!("assignment of {message} to {processes}"), 160)
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The first rows of a text, and how many there are in all if that is more.
pub(crate) fn first_rows(text: &str) -> (String, Option<usize>) {
    let rows = text.lines().count();
    if rows <= ROWS_MAX {
        return (text.to_owned(), None);
    }
    let first: Vec<&str> = text.lines().take(ROWS_MAX).collect();
    (first.join("\n"), Some(rows))
}

/// A list of records as rows of columns; `None` if the value is no list of records.
pub(crate) fn table(value: &Value) -> Option<String> {
    let rows: Vec<&serde_json::Map<String, Value>> = match value {
        Value::Array(list) => list.iter().map(Value::as_object).collect::<Option<_>>()?,
        Value::Object(map) => map.values().map(Value::as_object).collect::<Option<_>>()?,
        _ => return None,
    };
    let names: Vec<Option<&String>> = match value {
        Value::Object(map) => map.keys().map(Some).collect(),
        _ => vec![None; rows.len()],
    };
    let mut columns: Vec<&String> = rows.iter().flat_map(|row| row.keys()).collect();
    columns.sort();
    columns.dedup();
    let head = std::iter::once(String::new()).chain(columns.iter().map(|name| cell(name)));
    let mut lines = vec![head.collect::<Vec<_>>()];
    for (at, (row, name)) in rows.iter().zip(names).enumerate() {
        let first = name.map_or_else(|| (at + 1).to_string(), |name| cell(name));
        let rest = columns
            .iter()
            .map(|column| row.get(*column).map(scalar).unwrap_or_default());
        lines.push(
            std::iter::once(first)
                .chain(rest.map(|text| cell(&text)))
                .collect(),
        );
    }
    (!rows.is_empty() && !columns.is_empty()).then(|| aligned(&lines))
}

/// Characters of a cell.
const CELL_CHARS: usize = 43;

fn cell(text: &str) -> String {
    one_line(text, CELL_CHARS)
}

/// Rows of cells in columns as wide as their widest cell.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    use unicode_width::UnicodeWidthStr;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.width())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let padded = cells.map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.width())));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(json: &str) -> Outcome {
        serde_json::from_str(json).expect("an outcome")
    }

    #[test]
    fn the_outbox_is_told_in_lines() {
        let json = r#"{"Messages":[{"Target":"T","Data":"a\nb","Tags":[{"name":"Type","value":"Message"},
            {"name":"Action","value":"Hi"},{"name":"N","value":1}]}],
            "Assignments":[{"Processes":["P"],"Message":"M"}]}"#;
        let lines = outbox(&outcome(json));
        assert_eq!(lines[0], "message to T  Action=Hi N=1  \"a\\nb\"");
        assert_eq!(lines[1], "assignment of M to [\"P\"]");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(one_line("abc\ndef", 5), "abc d…");
        let text = "x\n".repeat(ROWS_MAX + 2);
        assert_eq!(first_rows(&text).1, Some(ROWS_MAX + 2));
        assert_eq!(first_rows("x").1, None);
    }

    #[test]
    fn records_become_a_table() {
        let rows = json!([{ "name": "a", "n": 1 }, { "name": "日本" }]);
        assert_eq!(table(&rows).expect("a table"), "   n  name\n1  1  a\n2     日本");
        let named = json!({ "x": { "n": 1 } });
        assert_eq!(table(&named).expect("a table"), "   n\nx  1");
        assert_eq!(table(&json!([1, 2])), None);
        assert_eq!(table(&json!([])), None);
    }
}
