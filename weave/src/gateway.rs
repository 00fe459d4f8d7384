//! The gateway's answers about one id: its data, whole or in part, and its JSON forms.
//!
//! Not here: routes and searching. The invariant: bytes are served as they were stored, and no tag
//! of a stranger's item sets a header that browsers or proxies act on.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use spec::contract::Stored;
use spec::ids::base64url;
use spec::signature::SignatureType;
use spec::transaction::Owner;
use spec::{Refusal, Tag, Transaction};
use wire::server::Reject;

use crate::chain::Chain;
use crate::range;
use crate::weave::Found;

/// Longest tag value that becomes a header, in bytes.
const HEADER_VALUE_LEN_MAX: usize = 1024;
/// Most tags that become headers.
const HEADER_TAGS_MAX: usize = 64;

/// Headers with a meaning of their own: no tag sets them. Names that begin like these neither.
const RESERVED: [&str; 16] = [
    "accept-",
    "access-control-",
    "age",
    "alt-svc",
    "authorization",
    "clear-site-data",
    "cross-origin-",
    "link",
    "location",
    "origin-",
    "proxy-",
    "sec-",
    "server",
    "strict-",
    "x-",
    "www-",
];
const RESERVED_WHOLE: [&str; 19] = [
    "allow",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "etag",
    "expires",
    "host",
    "keep-alive",
    "last-modified",
    "nel",
    "permissions-policy",
    "pragma",
    "range",
    "referrer-policy",
    "refresh",
    "report-to",
    "set-cookie",
    "set-cookie2",
];

/// What anybody stored is a page of nobody here: it runs in an origin of its own, so that its scripts
/// cannot speak for this node's origin.
const SANDBOX: &str = "sandbox allow-scripts allow-forms allow-popups allow-downloads";

/// The data under an id, whole or the range asked for.
pub fn data(found: &Found, request: &HeaderMap) -> Response {
    let Some(data) = found.stored.data() else {
        if let Stored::Posted(posted) = &found.stored {
            let text = format!(
                "chunks of {} are missing; its header is at /tx/{0}",
                posted.transaction.id
            );
            return Reject(Refusal::not_found("data-missing", text)).into_response();
        }
        let text = format!(
            "the data of {} was withheld; its header is at /tx/{0}",
            found.stored.id()
        );
        let refusal = Refusal::not_found("data-withheld", text);
        return (StatusCode::GONE, Reject(refusal)).into_response();
    };
    let etag = format!("\"{}\"", found.stored.id());
    let headers = headers(found, &etag);
    if is_known(request, &etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    // An item's id hashes its signature, which covers the data: the data cannot hold it.
    range::answer(request, headers, data, &found.stored.id().to_string())
}

fn headers(found: &Found, etag: &str) -> HeaderMap {
    let tags = found.stored.tags();
    let mut headers = HeaderMap::new();
    // Tags first, so that what we say ourselves stands.
    for tag in tags.iter().take(HEADER_TAGS_MAX) {
        if let Some((name, value)) = tag_header(tag) {
            headers.entry(name).or_insert(value);
        }
    }
    let content_type = tag_value(&tags, "content-type");
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Some(encoding) = tag_value(&tags, "content-encoding") {
        headers.insert(header::CONTENT_ENCODING, encoding);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, text_value(etag));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    // Nobody can prove registered bytes, and a signed item may come for the id.
    let is_signed = !matches!(found.stored, Stored::Registered(_));
    let (cache, verified) = match is_signed {
        true => ("public, max-age=2592000, immutable", "true"),
        false => ("no-cache", "false"),
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    for (name, value) in [
        ("x-ar-io-verified", verified),
        ("x-ar-io-trusted", "true"),
        ("x-ar-io-stable", verified),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

/// A tag as a response header, as the field's messengers read a process's tags.
fn tag_header(tag: &Tag) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(&tag.name).ok()?;
    let text = name.as_str();
    let hop = [
        "content-",
        "te",
        "trailer",
        "transfer-",
        "upgrade",
        "via",
        "vary",
        "warning",
    ];
    let is_reserved = RESERVED
        .iter()
        .chain(&hop)
        .any(|begin| match begin.ends_with('-') {
            true => text.starts_with(begin),
            false => text == *begin,
        });
    if is_reserved || RESERVED_WHOLE.contains(&text) || tag.value.len() > HEADER_VALUE_LEN_MAX {
        return None;
    }
    Some((name, HeaderValue::from_bytes(&tag.value).ok()?))
}

/// The first value of a tag in any case, as a header can carry it.
fn tag_value(tags: &[Tag], name: &str) -> Option<HeaderValue> {
    let tag = tags
        .iter()
        .find(|tag| tag.name.eq_ignore_ascii_case(name.as_bytes()))?;
    HeaderValue::from_bytes(&tag.value).ok()
}

fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, ids and ASCII words")
}

fn is_known(request: &HeaderMap, etag: &str) -> bool {
    let known = request
        .get(header::IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok());
    let mut known = known.unwrap_or("").split(',').map(str::trim);
    known.any(|known| known == "*" || known.trim_start_matches("W/") == etag)
}

/// The fields of what is held, in the form of a transaction of Arweave's nodes; without the data.
pub fn transaction(stored: &Stored) -> Value {
    if let Stored::Posted(posted) = stored {
        let json = posted.transaction.to_json(None);
        return serde_json::from_str(&json).expect("our own JSON");
    }
    let tags: Vec<_> = stored.tags().iter().map(tag_json).collect();
    let fields = Fields::of(stored);
    json!({
        "format": 2,
        "id": stored.id(),
        "last_tx": base64url(fields.anchor),
        "owner": base64url(fields.owner),
        "tags": tags,
        "target": base64url(fields.target),
        "quantity": "0",
        "data": "",
        "data_size": fields.data_len.to_string(),
        "data_root": "",
        "data_tree": [],
        "reward": "0",
        "signature": base64url(fields.signature),
    })
}

fn tag_json(tag: &Tag) -> Value {
    json!({ "name": base64url(&tag.name), "value": base64url(&tag.value) })
}

/// The signed fields, empty where there are none.
pub struct Fields<'a> {
    /// The public key.
    pub owner: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
    /// The number of the signature's type; 0 for registered bytes.
    pub signature_type: u16,
    /// Whom it is for.
    pub target: &'a [u8],
    /// The anchor; of a transaction its `last_tx`.
    pub anchor: &'a [u8],
    /// Bytes of the data.
    pub data_len: u64,
}

impl Fields<'_> {
    /// Of anything held.
    pub fn of(stored: &Stored) -> Fields<'_> {
        match stored {
            Stored::Item(item) => Fields {
                owner: item.owner(),
                signature: item.signature(),
                signature_type: item.signature_type().number(),
                target: item.target().map_or(&[], |target| target),
                anchor: item.anchor().map_or(&[], |anchor| anchor),
                data_len: item.data_len(),
            },
            Stored::Withheld(item) => Fields {
                owner: item.owner(),
                signature: item.signature(),
                signature_type: item.signature_type().number(),
                target: item.target().map_or(&[], |target| target),
                anchor: item.anchor().map_or(&[], |anchor| anchor),
                data_len: item.data_len(),
            },
            Stored::Registered(registered) => Fields {
                owner: &[],
                signature: &[],
                signature_type: 0,
                target: &[],
                anchor: &[],
                data_len: registered.data.len() as u64,
            },
            Stored::Posted(posted) => Fields::of_transaction(&posted.transaction),
        }
    }
}

impl<'a> Fields<'a> {
    fn of_transaction(transaction: &'a Transaction) -> Fields<'a> {
        let (owner, signature_type): (&[u8], _) = match &transaction.owner {
            Owner::Rsa(modulus) => (modulus, SignatureType::Arweave),
            Owner::Secp256k1(key) => (key, SignatureType::Ethereum),
        };
        let content = &transaction.content;
        Fields {
            owner,
            signature: &transaction.signature,
            signature_type: signature_type.number(),
            target: content.target.as_ref().map_or(&[], |target| &target.0[..]),
            anchor: &content.last_tx,
            data_len: content.data_size,
        }
    }
}

/// Where an id stands in the chain.
pub fn status(found: &Found, chain: &Chain) -> Value {
    let block = chain.block(found.block_height);
    json!({
        "block_height": block.height,
        "block_indep_hash": block.id,
        "number_of_confirmations": chain.height().saturating_sub(block.height) + 1,
    })
}

/// A block, in the form of Arweave's nodes; times in seconds.
pub fn block(chain: &Chain, height: u64) -> Value {
    let block = chain.block(height);
    json!({
        "height": block.height,
        "indep_hash": block.id,
        "previous_block": block.previous,
        "timestamp": block.timestamp_ms / 1000,
        "nonce": "",
        "txs": [],
        "tags": [],
        "weave_size": "0",
        "block_size": "0",
    })
}

/// The network as Arweave's nodes tell it.
pub fn info(chain: &Chain) -> Value {
    let height = chain.height();
    json!({
        "network": "weft.dev",
        "version": 5,
        "release": 1,
        "height": height,
        "current": chain.block(height).id,
        "blocks": height,
        "peers": 0,
        "queue_length": 0,
        "node_state_latency": 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_headers_but_never_ones_with_power() {
        let header = |name: &str, value: &str| tag_header(&Tag::new(name, value));
        let (name, value) = header("Type", "Process").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("type", "Process"));
        assert!(header("Data-Protocol", "ao").is_some());
        for name in [
            "Set-Cookie",
            "content-length",
            "Content-Security-Policy",
            "Location",
            "X-AR-IO-Verified",
            "ETag",
        ] {
            assert!(header(name, "x").is_none(), "{name}");
        }
        assert!(header("Bad Name", "x").is_none() && header("A", "line\nbreak").is_none());
    }
}
