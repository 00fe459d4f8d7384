//! Outcomes: everything one evaluation returns.
//!
//! The free-form parts stay JSON text as the process wrote them: units hand them on without
//! understanding them. Only the messenger reads messages, spawns and assignments.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// What one evaluation returned. Serialises with the wire's keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Messages to push.
    #[serde(rename = "Messages", default = "empty_list")]
    pub messages: Box<RawValue>,
    /// Items to assign to processes.
    #[serde(rename = "Assignments", default = "empty_list")]
    pub assignments: Box<RawValue>,
    /// Processes to make.
    #[serde(rename = "Spawns", default = "empty_list")]
    pub spawns: Box<RawValue>,
    /// For whoever asked: a string, an object, or "".
    #[serde(rename = "Output", default = "empty_text")]
    pub output: Box<RawValue>,
    /// Gas used, in the unit of the module's format; 0 where the format has none.
    #[serde(rename = "GasUsed", default)]
    pub gas_used: u64,
    /// Why the state is what it was before: any JSON value.
    #[serde(
        rename = "Error",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub error: Option<Box<RawValue>>,
}

/// Reads `"Error": null` as no error.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Box<RawValue>>, D::Error> {
    let value = Box::<RawValue>::deserialize(d)?;
    Ok((value.get() != "null").then_some(value))
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("the callers pass valid JSON")
}

fn empty_list() -> Box<RawValue> {
    raw("[]")
}

fn empty_text() -> Box<RawValue> {
    raw("\"\"")
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome {
            messages: empty_list(),
            assignments: empty_list(),
            spawns: empty_list(),
            output: empty_text(),
            gas_used: 0,
            error: None,
        }
    }
}

impl Outcome {
    /// An outcome that only says why nothing happened.
    pub fn failed(error: &str) -> Outcome {
        let text = serde_json::to_string(error).expect("a text is JSON");
        Outcome {
            error: Some(raw(&text)),
            ..Outcome::default()
        }
    }

    /// Whether the state stays what it was.
    pub fn is_error(&self) -> bool {
        self.error.is_some()
    }
}

/// One message of an outbox. Values of tags may be numbers or booleans: processes write them so.
#[derive(Debug, Clone, Deserialize)]
pub struct OutMessage {
    /// Whom it is for: text, for a wallet of any kind or a process.
    #[serde(rename = "Target")]
    pub target: Option<Scalar>,
    /// 32 bytes of text that tell otherwise equal messages apart.
    #[serde(rename = "Anchor")]
    pub anchor: Option<Scalar>,
    /// The data, text.
    #[serde(rename = "Data")]
    pub data: Option<Scalar>,
    /// Its tags; an empty Lua table arrives as `[]` or `{}`.
    #[serde(rename = "Tags", default)]
    pub tags: OutTags,
}

/// One process of an outbox.
pub type OutSpawn = OutMessage;

/// One assignment of an outbox.
#[derive(Debug, Clone, Deserialize)]
pub struct OutAssignment {
    /// To whom.
    #[serde(rename = "Processes", default)]
    pub processes: Vec<String>,
    /// What.
    #[serde(rename = "Message")]
    pub message: Option<String>,
    /// Whether it is a transaction of the base layer.
    #[serde(rename = "BaseLayer", default)]
    pub base_layer: Option<Scalar>,
    /// Fields the process must not see.
    #[serde(rename = "Exclude", default)]
    pub exclude: Option<Vec<String>>,
}

/// The tags of an outgoing message, in order.
#[derive(Debug, Clone, Default)]
pub struct OutTags(pub Vec<OutTag>);

/// One outgoing tag.
#[derive(Debug, Clone, Deserialize)]
pub struct OutTag {
    /// The name; `None` if it is no text, number or boolean.
    #[serde(default, deserialize_with = "scalar_or_none")]
    pub name: Option<Scalar>,
    /// The value.
    #[serde(default)]
    pub value: OutValue,
}

/// The value of an outgoing tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OutValue {
    /// A text, number or boolean, as text.
    Scalar(Scalar),
    /// A list of those: only the tag `Assignments` may hold one.
    List(Vec<Scalar>),
    /// Anything else, which no tag can hold.
    #[default]
    Other,
}

impl OutValue {
    fn from_json(json: &str) -> OutValue {
        if json.starts_with('[') {
            return serde_json::from_str(json).map_or(OutValue::Other, OutValue::List);
        }
        Scalar::from_json(json).map_or(OutValue::Other, OutValue::Scalar)
    }
}

impl<'de> Deserialize<'de> for OutValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(d)?;
        Ok(OutValue::from_json(value.get()))
    }
}

/// Tables and nulls become `None`, so that the messenger can name the tag it cannot send.
fn scalar_or_none<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Scalar>, D::Error> {
    let value = Box::<RawValue>::deserialize(d)?;
    Ok(Scalar::from_json(value.get()))
}

impl<'de> Deserialize<'de> for OutTags {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(d)?;
        let tags = match value.get().as_bytes().first() {
            Some(b'[') => serde_json::from_str(value.get()),
            // An empty Lua table, or a map of names to values as some processes write it.
            _ => serde_json::from_str(value.get()).map(from_map),
        };
        tags.map(OutTags).map_err(serde::de::Error::custom)
    }
}

fn from_map(map: std::collections::BTreeMap<String, Box<RawValue>>) -> Vec<OutTag> {
    let tag = |(name, value): (_, Box<RawValue>)| OutTag {
        name: Some(Scalar(name)),
        value: OutValue::from_json(value.get()),
    };
    map.into_iter().map(tag).collect()
}

/// A text, number or boolean, as text: what a tag value must become on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(pub String);

impl Scalar {
    /// Reads a JSON text, number or boolean; numbers keep the digits the process wrote.
    fn from_json(json: &str) -> Option<Scalar> {
        match json.as_bytes().first()? {
            b'"' => serde_json::from_str(json).ok().map(Scalar),
            b'-' | b'0'..=b'9' | b't' | b'f' => Some(Scalar(json.to_owned())),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(d)?;
        let error = || serde::de::Error::custom("expected a text, a number or a boolean");
        Scalar::from_json(value.get()).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outgoing_tags_keep_numbers_and_booleans_as_text() {
        let json = r#"{"Target":"T","Tags":[{"name":"N","value":1},{"value":true,"name":"B"},{"name":"F","value":1e3}]}"#;
        assert!(
            serde_json::from_str::<OutMessage>(r#"{"Target":"T","Tags":[{"name":"N","value":{}}]}"#).is_ok()
        );
        let message: OutMessage = serde_json::from_str(json).unwrap();
        let scalar = |text: &str| OutValue::Scalar(Scalar(text.into()));
        let values: Vec<_> = message.tags.0.into_iter().map(|t| t.value).collect();
        assert_eq!(values, ["1", "true", "1e3"].map(scalar));
        let list: OutTag = serde_json::from_str(r#"{"name":"Assignments","value":["a",2]}"#).unwrap();
        assert_eq!(
            list.value,
            OutValue::List(["a", "2"].map(|t| Scalar(t.into())).into())
        );
    }

    #[test]
    fn outcome_has_the_wires_keys() {
        let json = serde_json::to_string(&Outcome::failed("boom")).unwrap();
        assert_eq!(
            json,
            r#"{"Messages":[],"Assignments":[],"Spawns":[],"Output":"","GasUsed":0,"Error":"boom"}"#
        );
        let back: Outcome = serde_json::from_str(&json).unwrap();
        assert!(back.is_error());
        assert!(
            !serde_json::to_string(&Outcome::default())
                .unwrap()
                .contains("Error")
        );
    }
}
