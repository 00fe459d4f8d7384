//! Any bytes as a data item, whole and withheld: no panic, and what reads reads back.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spec::{Assignment, DataItem, Withheld};

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(item) = DataItem::parse(bytes.clone()) {
        assert_eq!(item.bytes(), &bytes);
        let verified = item.verify().is_ok();
        let withheld = item.withhold();
        assert_eq!(withheld.verify().is_ok(), verified);
        assert_eq!(Withheld::decode(&withheld.encode()).as_ref(), Ok(&withheld));
        let _ = (
            Assignment::read(item.clone()),
            item.signer_text(),
            spec::push_hash::push_hash(&item),
        );
    }
    if let Ok(withheld) = Withheld::decode(&bytes) {
        assert_eq!(withheld.encode(), bytes);
        let _ = withheld.verify();
    }
});
