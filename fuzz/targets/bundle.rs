//! Any bytes as a bundle: no panic, one form, and items that lie inside the input.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spec::Bundle;

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(bundle) = Bundle::parse(&bytes) else {
        assert!(Bundle::parse_nested(&bytes).is_err());
        return;
    };
    assert_eq!(Bundle::encode(&bundle.items), bytes);
    let all = Bundle::parse_nested(&bytes).expect("its outermost level reads");
    assert_eq!(all[..bundle.items.len()], bundle.items);
});
