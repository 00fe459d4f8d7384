//! Inputs made by somebody who wants to be believed, or wants one content under two ids: refused.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use spec::item::ItemParts;
use spec::{
    Assignment, Bundle, DataItem, ItemId, ProcessId, SignatureType, Signer, SignerText, Tag, Withheld,
};

fn item(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/items");
    std::fs::read(path.join(format!("{name}.bin"))).unwrap().into()
}

fn signed(tags: Vec<Tag>, data: impl Into<Bytes>) -> DataItem {
    let parts = ItemParts {
        tags,
        data: data.into(),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&[7; 32])).unwrap()
}

#[test]
fn an_ethereum_signature_has_one_last_byte() {
    for name in ["ethereum", "kyve", "typed_ethereum"] {
        let good = item(name);
        for v in 0..=255u8 {
            let mut bytes = good.to_vec();
            bytes[2 + 64] = v;
            let verified = DataItem::parse_verified(bytes.into()).is_ok();
            assert_eq!(verified, v == good[2 + 64], "{name} with v = {v}");
        }
    }
}

#[test]
fn unused_slots_of_a_multi_signature_are_zero() {
    let good = item("multi_aptos_1of1");
    DataItem::parse_verified(good.clone()).unwrap();
    for at in [2 + 64, 2 + 100, 2 + 64 * 32 - 1] {
        let mut bytes = good.to_vec();
        bytes[at] = 1;
        assert!(
            DataItem::parse_verified(bytes.into()).is_err(),
            "byte {at} would make another id"
        );
    }
}

/// With a key of small order `R = S·B` verifies for about one message in eight under lax rules.
#[test]
fn keys_of_small_order_sign_nothing() {
    let base_point = {
        let mut point = [0x66; 32];
        point[0] = 0x58;
        point
    };
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&base_point);
    signature[32] = 1;
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut order_eight = *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
        \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a";
    let mut lax = 0;
    for message in 0..64u8 {
        for key in [identity, order_eight] {
            let raw = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, key);
            lax += usize::from(raw.verify(&[message; 48], &signature).is_ok());
            let verified = SignatureType::Ed25519.verify(&key, &signature, &[message; 48]);
            assert!(!verified, "nobody signed message {message}");
        }
        order_eight[31] ^= 0x80;
    }
    assert!(
        lax > 64,
        "the forgery works under lax rules, else this test shows nothing: {lax}"
    );
}

#[test]
fn a_wallet_files_error_does_not_print_the_secret() {
    for json in [
        "\"SECRET\"",
        r#"{"kty":"OKP","crv":"Ed25519","d":{"SECRET":1}}"#,
        r#"{"kty":"RSA","d":987654}"#,
    ] {
        let error = Signer::from_jwk(json).err().unwrap().to_string();
        assert!(!error.contains("SECRET") && !error.contains("987654"), "{error}");
    }
}

#[test]
fn a_withheld_item_with_unreadable_tags_is_none() {
    let whole = signed(vec![Tag::new("a", "b")], "data").withhold();
    let mut head = whole.head().to_vec();
    let end = head.len();
    head[end - 1] = 0x02;
    assert!(DataItem::parse(head.clone().into()).is_err());
    assert!(Withheld::new(head.into(), whole.data_len(), *whole.inner_hash()).is_err());
}

#[test]
fn a_tag_blocks_byte_count_must_be_true() {
    let block = |size: u8| Bytes::from(vec![0x01, size << 1, 0x02, 0x61, 0x02, 0x62, 0x00]);
    for size in 0..64 {
        assert_eq!(spec::tags::decode(&block(size)).is_ok(), size == 4, "size {size}");
    }
}

/// Anybody can store an item that claims to be a bundle; that must not hide its neighbours.
#[test]
fn a_false_carrier_does_not_spoil_its_bundle() {
    let claim = || {
        vec![
            Tag::new("Bundle-Format", "binary"),
            Tag::new("Bundle-Version", "2.0.0"),
        ]
    };
    let good = signed(vec![], "good");
    let carrier = signed(claim(), Bundle::encode(std::slice::from_ref(&good)));
    let mut deep = Bundle::encode(&[signed(vec![], "bottom")]);
    for _ in 0..spec::bundle::DEPTH_MAX {
        deep = Bundle::encode(&[signed(claim(), deep)]);
    }
    let items = [signed(claim(), "rubbish"), carrier, signed(claim(), deep)];
    let found = Bundle::parse_nested(&Bundle::encode(&items)).unwrap();
    assert!(found.contains(&good));
    assert_eq!(found.len(), 3 + 1 + spec::bundle::DEPTH_MAX - 1);
}

#[test]
fn only_assignments_read_as_assignments() {
    let mut tags = vec![
        Tag::new("Process", ItemId([1; 32]).to_string()),
        Tag::new("Epoch", "0"),
        Tag::new("Nonce", "1"),
        Tag::new("Hash-Chain", ItemId([2; 32]).to_string()),
        Tag::new("Block-Height", "000000000001"),
        Tag::new("Timestamp", "1"),
        Tag::new("Data-Protocol", "ao"),
        Tag::new("Type", "Assignment"),
    ];
    assert_eq!(
        Assignment::read(signed(tags.clone(), "")).unwrap().process,
        ProcessId([1; 32])
    );
    tags[7] = Tag::new("Type", "Message");
    assert!(
        Assignment::read(signed(tags, "")).is_err(),
        "a message with an assignment's tags"
    );
}

#[test]
fn an_account_text_is_never_somebodys_free_text() {
    let owner = b"0x../../../etc/passwd?account=fcoN_xJeisVs";
    assert_eq!(owner.len(), 42);
    let text = SignerText::of(owner);
    assert_eq!(text.as_str(), spec::signature::address(owner).to_string());
}
