//! JSON as Lua values and back, for spec files. Not here: what a process itself does with JSON.
//! `null` becomes nil; an object's keys are texts; a number without a point is an integer.

use mlua::{Lua, Table, Value};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// How deep a value may nest.
const DEPTH_MAX: usize = 128;

/// Reads JSON text.
///
/// # Errors
/// What is wrong with the text, and where.
pub fn from_json(lua: &Lua, json: &str) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let value = Seed(lua)
        .deserialize(&mut reader)
        .map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

struct Seed<'a>(&'a Lua);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

fn failed<E: serde::de::Error>(error: mlua::Error) -> E {
    E::custom(error)
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.0.create_string(text).map(Value::String).map_err(failed)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let table = self.0.create_table().map_err(failed)?;
        let mut at = 1;
        while let Some(value) = list.next_element_seed(Seed(self.0))? {
            table.raw_set(at, value).map_err(failed)?;
            at += 1;
        }
        Ok(Value::Table(table))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let table = self.0.create_table().map_err(failed)?;
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let value = map.next_value_seed(Seed(self.0))?;
            table.raw_set(&*key, value).map_err(failed)?;
        }
        Ok(Value::Table(table))
    }
}

/// Writes a value as JSON: a table with a first element is a list, keys of others are sorted.
///
/// # Errors
/// Names the kind of value that JSON cannot hold.
pub fn to_json(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    write(value, &mut out, 0)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String, depth: usize) -> Result<(), String> {
    match value {
        Value::Nil => out.push_str("null"),
        Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Integer(value) => out.push_str(&value.to_string()),
        Value::Number(value) if value.is_finite() => out.push_str(&value.to_string()),
        Value::String(text) => out.push_str(&quoted(&text.to_string_lossy())),
        Value::Table(_) if depth >= DEPTH_MAX => return Err(format!("nested deeper than {DEPTH_MAX}")),
        Value::Table(table) => return write_table(table, out, depth),
        other => return Err(format!("JSON cannot hold a {}", other.type_name())),
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

fn write_table(table: &Table, out: &mut String, depth: usize) -> Result<(), String> {
    let first: Value = table.raw_get(1).map_err(|error| error.to_string())?;
    if !first.is_nil() {
        return write_list(table, out, depth);
    }
    let mut entries = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|error| error.to_string())?;
        let key = key.to_string().map_err(|error| error.to_string())?;
        entries.push((key, value));
    }
    if entries.is_empty() {
        out.push_str("[]");
        return Ok(());
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (at, (key, value)) in entries.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        out.push_str(&quoted(key));
        out.push(':');
        write(value, out, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

fn write_list(table: &Table, out: &mut String, depth: usize) -> Result<(), String> {
    for at in 1..=table.raw_len() {
        out.push(if at == 1 { '[' } else { ',' });
        let value: Value = table.raw_get(at).map_err(|error| error.to_string())?;
        write(&value, out, depth + 1)?;
    }
    out.push(']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_there_and_back() {
        let lua = Lua::new();
        for json in [
            r#"{"a":[1,2.5,"x\u0001\"é"],"b":{"c":true}}"#,
            "[]",
            "-7",
            "\"\"",
            "9007199254740993",
        ] {
            assert_eq!(to_json(&from_json(&lua, json).unwrap()).unwrap(), json);
        }
        assert!(from_json(&lua, "null").unwrap().is_nil());
        assert!(from_json(&lua, "{} x").is_err() && from_json(&lua, "[1,").is_err());
        let function = lua.load("return { f = print }").eval().unwrap();
        assert_eq!(to_json(&function).unwrap_err(), "JSON cannot hold a function");
        let cycle = lua.load("local t = {} t.t = t return t").eval().unwrap();
        assert!(to_json(&cycle).unwrap_err().contains("deeper"));
    }
}
