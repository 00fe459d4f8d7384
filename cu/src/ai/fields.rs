//! The fields of a question, read one by one, each complaint in our own words: they become state.
//! Not here: which fields there are. Invariant: a question whose fields were not all taken is refused.

use inference::service::Code;
use serde_json::{Map, Value};

use super::question::Wrong;

/// Largest whole number that a field may have: what every JSON library writes exactly.
const WHOLE_MAX: u64 = 1 << 53;

/// What is left of a question.
pub struct Fields(Map<String, Value>);

fn wrong(text: String) -> Wrong {
    Wrong::new(Code::Invalid.name(), text)
}

impl Fields {
    /// A JSON object.
    pub fn read(question: &[u8]) -> Result<Fields, Wrong> {
        match serde_json::from_slice(question) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            _ => Err(wrong("the question is no JSON object of UTF-8 text".into())),
        }
    }

    /// Whether a field is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A text that must be there.
    pub fn text(&mut self, name: &str) -> Result<String, Wrong> {
        match self.take(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wrong(format!("`{name}` must be a text"))),
            None => Err(wrong(format!("`{name}` is missing"))),
        }
    }

    /// A number within a range, or none.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f32>, Wrong> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        let number =
            number.ok_or_else(|| wrong(format!("`{name}` must be a number from {least} to {most}")))?;
        Ok(Some(number as f32))
    }

    /// A whole number within a range, or none.
    pub fn whole(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Wrong> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = whole(&value).filter(|number| (least..=most).contains(number));
        let number =
            number.ok_or_else(|| wrong(format!("`{name}` must be a whole number from {least} to {most}")))?;
        Ok(Some(number))
    }

    /// `true`, or what else counts as no.
    pub fn flag(&mut self, name: &str) -> Result<bool, Wrong> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong(format!("`{name}` must be true or false"))),
        }
    }

    /// A text, or several; none if it is not there.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, Wrong> {
        let bad = || wrong(format!("`{name}` must be a text or a list of texts"));
        let text = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(bad()),
        };
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.into_iter().map(text).collect(),
            Some(value) => Ok(vec![text(value)?]),
        }
    }

    /// A list of tokens.
    pub fn tokens(&mut self, name: &str) -> Result<Vec<u32>, Wrong> {
        let bad = || wrong(format!("`{name}` must be a list of tokens, whole numbers from 0"));
        let Some(value) = self.take(name) else {
            return Ok(Vec::new());
        };
        let list = value.as_array().ok_or_else(bad)?;
        let token = |value| whole(value).and_then(|number| u32::try_from(number).ok());
        list.iter().map(|value| token(value).ok_or_else(bad)).collect()
    }

    /// Whatever is there.
    pub fn any(&mut self, name: &str) -> Option<Value> {
        self.take(name)
    }

    /// Nothing may be left: a misspelt setting must not be a setting left out.
    pub fn end(self) -> Result<(), Wrong> {
        match self.0.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => Err(wrong(format!("`{name}` is no field of this question"))),
        }
    }
}

/// A number without a fraction: Lua writes large ones as floats.
fn whole(value: &Value) -> Option<u64> {
    let of_float = |number: f64| (number >= 0.0 && number.fract() == 0.0).then_some(number as u64);
    let number = value.as_u64().or_else(|| value.as_f64().and_then(of_float));
    number.filter(|number| *number <= WHOLE_MAX)
}
