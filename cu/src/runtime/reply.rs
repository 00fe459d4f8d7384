//! A module's reply: JSON text, read as far as a verdict needs it.
//! Not here: where the text comes from, what an outcome makes of it.

use super::{Answer, Fault, Verdict};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest response that is read, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;

#[derive(Deserialize)]
struct Envelope<'a> {
    ok: bool,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

/// The verdict of `{"ok": …, "response": …}`.
pub fn parse(text: &[u8], gas_used: u64) -> Verdict {
    // The field's decoder replaces bytes that are not UTF-8.
    let text = String::from_utf8_lossy(text);
    let envelope: Envelope<'_> =
        serde_json::from_str(&text).map_err(|e| Fault::BadResponse(e.to_string()))?;
    let response = envelope.response.map_or("null", RawValue::get);
    if !envelope.ok {
        return Err(Fault::Thrown(response.to_string()));
    }
    if !response.starts_with('{') {
        return Err(Fault::BadResponse("response is not an object".into()));
    }
    Ok(Answer {
        response: Bytes::copy_from_slice(response.as_bytes()),
        gas_used,
    })
}

/// Whether a text is `{"ok": true, …}`; whatever it says otherwise is the fault.
pub fn is_ok(text: &[u8]) -> Result<(), Fault> {
    let text = String::from_utf8_lossy(text);
    let envelope: Envelope<'_> =
        serde_json::from_str(&text).map_err(|e| Fault::BadResponse(e.to_string()))?;
    let response = envelope.response.map_or("null", RawValue::get);
    match envelope.ok {
        true => Ok(()),
        false => Err(Fault::Thrown(response.to_string())),
    }
}
