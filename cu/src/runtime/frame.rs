//! Frames: values as the Lua engine takes them, made straight from what they describe or from JSON text.
//!
//! ```text
//! frame: version 1, value
//! value: kind 1 and what the kind says
//!   0 nil   1 false   2 true
//!   3 float 8   4 integer 8
//!   5 text: length 4, bytes
//!   6 list: count 4, values
//!   7 object: count 4, each: length 4, bytes of the key, value
//! ```
//! Numbers are little-endian. Not here: which keys a message has. Invariant: the frame of a value is the frame of its
//! JSON text, so that both kinds of module are told the same.
//! Source: spec/lua.md, "The frame".

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{self, Impossible, Serialize, Serializer};
use std::fmt;

/// The version that this engine takes.
const VERSION: u8 = 1;

const NIL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const FLOAT: u8 = 3;
const INTEGER: u8 = 4;
const TEXT: u8 = 5;
const LIST: u8 = 6;
const OBJECT: u8 = 7;

/// The frame of a value made of texts, numbers, lists and structs.
///
/// # Errors
/// If it has another kind of part.
pub fn of(value: &impl Serialize) -> Result<Vec<u8>, Unframed> {
    // Most messages fit.
    let mut out = Vec::with_capacity(2048);
    out.push(VERSION);
    value.serialize(Writer(&mut out))?;
    Ok(out)
}

/// The frame of a JSON text.
///
/// # Errors
/// If it is no JSON, or nested deeper than 128 levels.
pub fn of_json(text: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 2 + 16);
    out.push(VERSION);
    let mut json = serde_json::Deserializer::from_slice(text);
    Reader(&mut out).deserialize(&mut json)?;
    json.end()?;
    Ok(out)
}

fn length(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n).expect("no message has 4 GiB");
    out.extend_from_slice(&n.to_le_bytes());
}

fn key(out: &mut Vec<u8>, name: &str) {
    length(out, name.len());
    out.extend_from_slice(name.as_bytes());
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.push(TEXT);
    key(out, value);
}

fn float(out: &mut Vec<u8>, value: f64) {
    out.push(FLOAT);
    out.extend_from_slice(&value.to_le_bytes());
}

fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(INTEGER);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Past what an integer of Lua holds, a number is a float, as when Lua reads its digits.
fn natural(out: &mut Vec<u8>, value: u64) {
    match i64::try_from(value) {
        Ok(value) => integer(out, value),
        Err(_) => float(out, value as f64),
    }
}

// ---- from values ----

/// A kind of part that no message has.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be framed")]
pub struct Unframed(String);

impl ser::Error for Unframed {
    fn custom<T: fmt::Display>(text: T) -> Unframed {
        Unframed(text.to_string())
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

type Written = Result<(), Unframed>;

fn unframed<T>(what: &str) -> Result<T, Unframed> {
    Err(Unframed(what.into()))
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Unframed;
    type SerializeSeq = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeTuple = Impossible<(), Unframed>;
    type SerializeTupleStruct = Impossible<(), Unframed>;
    type SerializeTupleVariant = Impossible<(), Unframed>;
    type SerializeMap = Impossible<(), Unframed>;
    type SerializeStructVariant = Impossible<(), Unframed>;

    fn serialize_bool(self, v: bool) -> Written {
        self.0.push(if v { TRUE } else { FALSE });
        Ok(())
    }

    fn serialize_i64(self, v: i64) -> Written {
        integer(self.0, v);
        Ok(())
    }

    fn serialize_u64(self, v: u64) -> Written {
        natural(self.0, v);
        Ok(())
    }

    fn serialize_f64(self, v: f64) -> Written {
        float(self.0, v);
        Ok(())
    }

    fn serialize_str(self, v: &str) -> Written {
        text(self.0, v);
        Ok(())
    }

    fn serialize_none(self) -> Written {
        self.0.push(NIL);
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.serialize_none()
    }

    fn serialize_seq(self, count: Option<usize>) -> Result<Parts<'a>, Unframed> {
        let count = count.ok_or_else(|| Unframed("a list of unknown length".into()))?;
        self.0.push(LIST);
        length(self.0, count);
        Ok(Parts(self.0))
    }

    fn serialize_struct(self, _: &'static str, count: usize) -> Result<Parts<'a>, Unframed> {
        self.0.push(OBJECT);
        length(self.0, count);
        Ok(Parts(self.0))
    }

    fn serialize_i8(self, v: i8) -> Written {
        self.serialize_i64(v.into())
    }

    fn serialize_i16(self, v: i16) -> Written {
        self.serialize_i64(v.into())
    }

    fn serialize_i32(self, v: i32) -> Written {
        self.serialize_i64(v.into())
    }

    fn serialize_u8(self, v: u8) -> Written {
        self.serialize_u64(v.into())
    }

    fn serialize_u16(self, v: u16) -> Written {
        self.serialize_u64(v.into())
    }

    fn serialize_u32(self, v: u32) -> Written {
        self.serialize_u64(v.into())
    }

    fn serialize_f32(self, v: f32) -> Written {
        self.serialize_f64(v.into())
    }

    fn serialize_char(self, v: char) -> Written {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }

    fn serialize_bytes(self, _: &[u8]) -> Written {
        unframed("bytes")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Written {
        unframed(name)
    }

    fn serialize_unit_variant(self, name: &'static str, _: u32, _: &'static str) -> Written {
        unframed(name)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        unframed(name)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unframed> {
        unframed("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Unframed> {
        unframed(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unframed> {
        unframed(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unframed> {
        unframed("a map")
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unframed> {
        unframed(name)
    }
}

/// The parts of a list or struct, whose count is written.
struct Parts<'a>(&'a mut Vec<u8>);

impl ser::SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = Unframed;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Written {
        value.serialize(Writer(self.0))
    }

    fn end(self) -> Written {
        Ok(())
    }
}

impl ser::SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Unframed;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Written {
        key(self.0, name);
        value.serialize(Writer(self.0))
    }

    fn end(self) -> Written {
        Ok(())
    }
}

// ---- from JSON ----

/// Takes one value of any kind.
struct Reader<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

/// Writes a count where a placeholder stands.
fn set_length<E: de::Error>(out: &mut [u8], at: usize, n: usize) -> Result<(), E> {
    let n = u32::try_from(n).map_err(|_| E::custom("too many parts"))?;
    out[at..at + 4].copy_from_slice(&n.to_le_bytes());
    Ok(())
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push(NIL);
        Ok(())
    }

    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.0.push(if v { TRUE } else { FALSE });
        Ok(())
    }

    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        integer(self.0, v);
        Ok(())
    }

    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        natural(self.0, v);
        Ok(())
    }

    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        float(self.0, v);
        Ok(())
    }

    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        text(self.0, v);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        self.0.push(LIST);
        let (at, mut count) = (self.0.len(), 0);
        length(self.0, 0);
        while parts.next_element_seed(Reader(self.0))?.is_some() {
            count += 1;
        }
        set_length(self.0, at, count)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        self.0.push(OBJECT);
        let (at, mut count) = (self.0.len(), 0);
        length(self.0, 0);
        while let Some(name) = parts.next_key::<std::borrow::Cow<'de, str>>()? {
            key(self.0, &name);
            parts.next_value_seed(Reader(self.0))?;
            count += 1;
        }
        set_length(self.0, at, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[derive(Serialize)]
    struct Sample<'a> {
        text: &'a str,
        none: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
        list: Vec<Sample<'a>>,
        small: i32,
        large: u64,
        half: f64,
        yes: bool,
    }

    fn sample(list: Vec<Sample<'_>>) -> Sample<'_> {
        Sample {
            text: "a\"é\u{1F600}",
            none: None,
            absent: None,
            list,
            small: -3,
            large: u64::MAX,
            half: 0.5,
            yes: true,
        }
    }

    #[test]
    fn a_value_and_its_json_have_one_frame() {
        let value = sample(vec![sample(vec![]), sample(vec![])]);
        let json = serde_json::to_vec(&value).unwrap();
        assert_eq!(of(&value).unwrap(), of_json(&json).unwrap());
    }

    #[test]
    fn the_bytes_are_as_the_page_says() {
        let frame = of_json(br#"{"a":[null,false,true,1,"x"],"b":0.5}"#).unwrap();
        let mut expected = vec![1, 7, 2, 0, 0, 0, 1, 0, 0, 0, b'a', 6, 5, 0, 0, 0, 0, 1, 2];
        expected.extend([4, 1, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, b'x']);
        expected.extend([1, 0, 0, 0, b'b', 3]);
        expected.extend(0.5f64.to_le_bytes());
        assert_eq!(frame, expected);
    }

    /// Made by another encoder; see spec/README.md.
    #[test]
    fn frames_are_as_the_vectors_say() {
        #[derive(serde::Deserialize)]
        struct Case {
            name: String,
            json: String,
            frame: String,
        }
        let text = include_str!("../../../spec/vectors/lua_frames.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            let frame = of_json(case.json.as_bytes()).unwrap();
            let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, case.frame, "{}", case.name);
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{}x", "[1,]", r#""\ud800""#, &"[".repeat(200)] {
            assert!(of_json(text.as_bytes()).is_err(), "{text}");
        }
    }
}
