//! Any bytes as a tag block: no panic, and the canonical form says the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spec::tags::{RAW_TAGS_LEN_MAX, decode, encode, encode_unchecked};

fuzz_target!(|input: &[u8]| {
    let Ok(tags) = decode(&Bytes::copy_from_slice(input)) else {
        return;
    };
    let canonical = Bytes::from(encode_unchecked(&tags));
    if canonical.len() <= RAW_TAGS_LEN_MAX {
        assert_eq!(decode(&canonical).as_ref(), Ok(&tags));
    }
    if let Ok(written) = encode(&tags) {
        assert_eq!(written, canonical);
    }
});
