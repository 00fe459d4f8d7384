//! Files of `spec/vectors`: read, compared, and written anew where `WEFT_BLESS` is set.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(unused, reason = "each test binary uses its own part")]

use std::path::PathBuf;

use serde_json::{Value, json};

/// Where vectors lie.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors"))
}

pub fn blessing() -> bool {
    std::env::var_os("WEFT_BLESS").is_some()
}

pub fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

pub fn write(name: &str, value: &Value) {
    let mut text = String::new();
    layout(value, DEPTH, &mut text);
    std::fs::write(folder().join(name), text + "\n").unwrap();
}

/// Levels of a file that have a line for each part.
const DEPTH: usize = 5;

/// The first place at which two values differ.
fn difference(place: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            let mut both = a.iter().zip(b.values());
            both.find_map(|((key, a), b)| difference(&format!("{place}/{key}"), a, b))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut both = a.iter().zip(b).enumerate();
            both.find_map(|(at, (a, b))| difference(&format!("{place}/{at}"), a, b))
        }
        _ => (ours != theirs).then(|| format!("{place}: {ours} is not the committed {theirs}")),
    }
}

pub fn same(what: &str, ours: &Value, theirs: &Value) {
    if let Some(place) = difference("", ours, theirs) {
        panic!("{what}, {place}");
    }
}

/// A value with a line for each part, to some depth.
fn layout(value: &Value, depth: usize, out: &mut String) {
    let indent = " ".repeat(DEPTH + 1 - depth);
    let end = format!("\n{}", " ".repeat(DEPTH - depth));
    match value {
        Value::Object(map) if depth > 0 => {
            for (at, (key, value)) in map.iter().enumerate() {
                out.push_str(if at == 0 { "{\n" } else { ",\n" });
                out.push_str(&format!("{indent}{}: ", json!(key)));
                layout(value, depth - 1, out);
            }
            out.push_str(&end);
            out.push('}');
        }
        Value::Array(list) if depth > 0 && list.iter().any(|item| item.is_object() || item.is_array()) => {
            for (at, value) in list.iter().enumerate() {
                out.push_str(if at == 0 { "[\n" } else { ",\n" });
                out.push_str(&indent);
                layout(value, depth - 1, out);
            }
            out.push_str(&end);
            out.push(']');
        }
        _ => out.push_str(&value.to_string()),
    }
}
