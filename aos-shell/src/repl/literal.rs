//! A printed Lua value read back, so that it can be shown in another form.
//!
//! It reads, it never runs: the text comes from a process. The invariant: what is no literal of
//! tables, texts, numbers, booleans and nil stays the text that it was.

use serde_json::{Map, Number, Value};

use crate::token::{Kind, Token, tokens};

/// Tables in tables that are read.
const DEPTH_MAX: usize = 64;

/// The value that a text shows; a text that shows none is a text.
pub(crate) fn read(text: &str) -> Value {
    let plain = super::desk::plain(text);
    let mut reader = Reader {
        source: &plain,
        tokens: tokens(&plain),
        at: 0,
    };
    let value = reader.value(0);
    match value {
        Some(value) if reader.at == reader.tokens.len() => value,
        _ => Value::String(plain.clone()),
    }
}

struct Reader<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<(Kind, &str)> {
        let token = self.tokens.get(self.at)?;
        Some((token.kind, &self.source[token.start..token.end]))
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_there = self.peek().is_some_and(|(_, text)| text == sign);
        self.at += usize::from(is_there);
        is_there
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.takes("{") {
            return self.table(depth);
        }
        if self.takes("-") {
            let (_, text) = self.peek()?;
            let number = number(text)?;
            self.at += 1;
            return Some(negated(&number));
        }
        let (kind, text) = self.peek()?;
        let value = match (kind, text) {
            (Kind::Number, text) => number(text).map(Value::Number)?,
            (Kind::Text, text) => Value::String(unquoted(text)?),
            (Kind::Keyword, "true") => Value::Bool(true),
            (Kind::Keyword, "false") => Value::Bool(false),
            (Kind::Keyword, "nil") => Value::Null,
            (Kind::Keyword, "function") | (Kind::Name, _) => return self.address(),
            _ => return None,
        };
        self.at += 1;
        Some(value)
    }

    /// `function: 0x12`, `table: builtin`: what has no literal, as text up to the next separator.
    fn address(&mut self) -> Option<Value> {
        let start = self.tokens.get(self.at)?.start;
        let mut end = start;
        while let Some((_, text)) = self.peek() {
            if matches!(text, "," | "}" | "=" | "{") {
                break;
            }
            end = self.tokens[self.at].end;
            self.at += 1;
        }
        (end > start).then(|| Value::String(self.source[start..end].to_owned()))
    }

    fn table(&mut self, depth: usize) -> Option<Value> {
        let mut list = Vec::new();
        let mut map = Map::new();
        while !self.takes("}") {
            match self.key() {
                Some(key) => {
                    let value = self.value(depth + 1)?;
                    put(&mut list, &mut map, key, value);
                }
                None => list.push(self.value(depth + 1)?),
            }
            if !self.takes(",") && !self.takes(";") && self.peek()?.1 != "}" {
                return None;
            }
        }
        Some(joined(list, map))
    }

    /// `name =` or `[constant] =`, if one stands here.
    fn key(&mut self) -> Option<String> {
        let start = self.at;
        let key = match self.peek()? {
            (Kind::Name, name) => {
                let name = name.to_owned();
                self.at += 1;
                Some(name)
            }
            (_, "[") => {
                self.at += 1;
                let (kind, text) = self.peek()?;
                let key = match kind {
                    Kind::Text => unquoted(text),
                    _ => Some(text.to_owned()),
                };
                self.at += 1;
                key.filter(|_| self.takes("]"))
            }
            _ => None,
        };
        let key = key.filter(|_| self.takes("="));
        if key.is_none() {
            self.at = start;
        }
        key
    }
}

/// The next place of a list goes to the list, all else to the map.
fn put(list: &mut Vec<Value>, map: &mut Map<String, Value>, key: String, value: Value) {
    match key.parse::<usize>() {
        Ok(index) if index == list.len() + 1 => list.push(value),
        _ => {
            map.insert(key, value);
        }
    }
}

fn joined(list: Vec<Value>, mut map: Map<String, Value>) -> Value {
    if map.is_empty() {
        return Value::Array(list);
    }
    for (at, value) in list.into_iter().enumerate() {
        map.insert((at + 1).to_string(), value);
    }
    Value::Object(map)
}

fn number(text: &str) -> Option<Number> {
    match text.parse::<i64>() {
        Ok(integer) => Some(Number::from(integer)),
        Err(_) => Number::from_f64(text.parse().ok()?),
    }
}

fn negated(number: &Number) -> Value {
    match number.as_i64() {
        Some(integer) => Value::from(-integer),
        None => Value::from(-number.as_f64().unwrap_or_default()),
    }
}

/// The content of a quoted text with the usual escapes.
fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => out.push(match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn printed_values_are_read_back() {
        assert_eq!(read("2"), json!(2));
        assert_eq!(read("-1.5"), json!(-1.5));
        assert_eq!(read("{ \"a\", 1, true }"), json!(["a", 1, true]));
        assert_eq!(read("{ [1] = \"a\", [2] = \"b\" }"), json!(["a", "b"]));
        let coloured = "{\n   \x1b[31ma\x1b[0m = \x1b[34m1\x1b[0m,\n   [\"b c\"] = { }\n}";
        assert_eq!(read(coloured), json!({ "a": 1, "b c": [] }));
        assert_eq!(read("{ 1, x = 2 }"), json!({ "1": 1, "x": 2 }));
    }

    #[test]
    fn what_has_no_literal_stays_text() {
        assert_eq!(read("hello world"), json!("hello world"));
        assert_eq!(
            read("{ f = function: 0x12, g = 1 }"),
            json!({ "f": "function: 0x12", "g": 1 })
        );
        assert_eq!(read("{ 1, "), json!("{ 1, "));
        assert_eq!(
            read("(function() while true do end end)()"),
            json!("(function() while true do end end)()")
        );
        assert_eq!(read("1 2"), json!("1 2"));
        let deep = "{".repeat(1000) + &"}".repeat(1000);
        assert_eq!(read(&deep), json!(deep));
    }
}
