//! Parts of some bytes: what a `Range` header asks for and the answer to it, one part or several.
//!
//! Not here: which bytes, and their other headers. The invariant: what is answered is what stands at those places,
//! and never more bytes than asked of once.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use spec::Refusal;
use wire::server::Reject;

/// Most ranges answered one by one; a request for more gets the whole.
const RANGES_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    /// Both ends inclusive, at least one.
    Parts(Vec<(u64, u64)>),
    Beyond,
    Malformed,
}

/// Answers with `data`, or the parts of it that were asked for. `boundary` is a text that cannot stand in the data.
pub fn answer(request: &HeaderMap, mut headers: HeaderMap, data: Bytes, boundary: &str) -> Response {
    let len = data.len() as u64;
    match asked_under_condition(request, &headers, len) {
        Asked::Whole => whole(StatusCode::OK, headers, data),
        Asked::Parts(parts) => match parts[..] {
            [(from, to)] => {
                headers.insert(header::CONTENT_RANGE, text_value(&content_range(from, to, len)));
                let part = data.slice(from as usize..=to as usize);
                whole(StatusCode::PARTIAL_CONTENT, headers, part)
            }
            _ => several(headers, &data, &parts, boundary),
        },
        Asked::Beyond => {
            let all = text_value(&format!("bytes */{len}"));
            let text = format!("the range lies outside of the {len} bytes");
            let refusal = Reject(Refusal::invalid("range-not-satisfiable", text));
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            (status, [(header::CONTENT_RANGE, all)], refusal).into_response()
        }
        Asked::Malformed => Reject(Refusal::invalid(
            "invalid-range",
            "the header `Range` is malformed; write `bytes=0-99`",
        ))
        .into_response(),
    }
}

fn whole(status: StatusCode, mut headers: HeaderMap, data: Bytes) -> Response {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(data.len()));
    (status, headers, Body::from(data)).into_response()
}

fn content_range(from: u64, to: u64, len: u64) -> String {
    format!("bytes {from}-{to}/{len}")
}

/// As `multipart/byteranges` (RFC 9110, section 14.6).
fn several(mut headers: HeaderMap, data: &Bytes, parts: &[(u64, u64)], boundary: &str) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).cloned();
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut body = BytesMut::new();
    for (from, to) in parts {
        body.put_slice(format!("--{boundary}\r\nContent-Type: ").as_bytes());
        body.put_slice(kind.as_bytes());
        let range = content_range(*from, *to, data.len() as u64);
        body.put_slice(format!("\r\nContent-Range: {range}\r\n\r\n").as_bytes());
        body.put_slice(&data[*from as usize..=*to as usize]);
        body.put_slice(b"\r\n");
    }
    body.put_slice(format!("--{boundary}--\r\n").as_bytes());
    let kind = text_value(&format!("multipart/byteranges; boundary={boundary}"));
    headers.insert(header::CONTENT_TYPE, kind);
    whole(StatusCode::PARTIAL_CONTENT, headers, body.freeze())
}

fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, ids and ASCII words")
}

/// `If-Range` with another tag than ours says: only if it is still the same, else the whole.
fn asked_under_condition(request: &HeaderMap, answer: &HeaderMap, len: u64) -> Asked {
    match request.get(header::IF_RANGE) {
        Some(tag) if Some(tag) != answer.get(header::ETAG) => Asked::Whole,
        _ => asked(request, len),
    }
}

/// What a `Range` header asks of `len` bytes.
fn asked(request: &HeaderMap, len: u64) -> Asked {
    let Some(text) = request.get(header::RANGE) else {
        return Asked::Whole;
    };
    let set = text
        .to_str()
        .ok()
        .and_then(|text| text.trim().strip_prefix("bytes="));
    let Some(set) = set else {
        return Asked::Malformed;
    };
    let (mut parts, mut count) = (Vec::new(), 0);
    for one in set.split(',').take(RANGES_MAX + 1) {
        count += 1;
        match part(one.trim(), len) {
            Ok(part) => parts.extend(part),
            Err(()) => return Asked::Malformed,
        }
    }
    let total: u64 = parts.iter().map(|(from, to)| to - from + 1).sum();
    match parts.len() {
        _ if count > RANGES_MAX => Asked::Whole,
        0 => Asked::Beyond,
        // Parts that overlap could ask for many times what is there.
        2.. if total > len => Asked::Whole,
        _ => Asked::Parts(parts),
    }
}

/// One range of a set: `None` if it lies outside.
fn part(text: &str, len: u64) -> Result<Option<(u64, u64)>, ()> {
    let (from, to) = text.split_once('-').ok_or(())?;
    let number = |text: &str| match text {
        "" => Ok(None),
        text if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(text.parse().unwrap_or(u64::MAX))),
        _ => Err(()),
    };
    match (number(from)?, number(to)?) {
        (Some(from), to) if to.is_none_or(|to| from <= to) => {
            Ok((from < len).then(|| (from, to.unwrap_or(u64::MAX).min(len - 1))))
        }
        (None, Some(last)) => Ok(match last.min(len) {
            0 => None,
            last => Some((len - last, len - 1)),
        }),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, len: u64) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, text.parse().unwrap());
        asked(&headers, len)
    }

    fn one(from: u64, to: u64) -> Asked {
        Asked::Parts(vec![(from, to)])
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(asked(&HeaderMap::new(), 10), Asked::Whole);
        assert_eq!(of("bytes=0-0", 10), one(0, 0));
        assert_eq!(of("bytes=2-", 10), one(2, 9));
        assert_eq!(of("bytes=2-99999999999999999999999", 10), one(2, 9));
        assert_eq!(of("bytes=-3", 10), one(7, 9));
        assert_eq!(of("bytes=-30", 10), one(0, 9));
        assert_eq!(of("bytes=10-", 10), Asked::Beyond);
        assert_eq!(of("bytes=-0", 10), Asked::Beyond);
        assert_eq!(of("bytes=0-", 0), Asked::Beyond);
        for bad in [
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "items=0-1",
            "bytes=+1-2",
            "bytes=0-1,x",
        ] {
            assert_eq!(of(bad, 10), Asked::Malformed, "{bad}");
        }
    }

    #[test]
    fn of_several_ranges_those_inside_are_answered_unless_they_are_too_much() {
        assert_eq!(of("bytes=0-1, 3-4", 10), Asked::Parts(vec![(0, 1), (3, 4)]));
        assert_eq!(of("bytes=0-1,20-30", 10), one(0, 1));
        assert_eq!(of("bytes=20-30,40-", 10), Asked::Beyond);
        assert_eq!(of("bytes=0-9,0-9", 10), Asked::Whole);
        let many = format!("bytes={}0-0", "0-0,".repeat(RANGES_MAX));
        assert_eq!(of(&many, 1000), Asked::Whole);
    }
}
