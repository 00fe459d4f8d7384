//! Inputs made by somebody who wants to be believed, or wants one content under two ids: refused.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

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

/// `a + b` of two little-endian numbers of 32 bytes, if it fits.
fn sum(a: &[u8], b: &[u8; 32]) -> Option<Vec<u8>> {
    let mut carry = 0u16;
    let add = |(a, b): (&u8, &u8)| {
        carry += u16::from(*a) + u16::from(*b);
        let low = carry as u8;
        carry >>= 8;
        low
    };
    let bytes: Vec<u8> = a.iter().zip(b).map(add).collect();
    (carry == 0).then_some(bytes)
}

#[test]
fn an_ed25519_signature_has_one_form() {
    // The order of the group, 2^252 + 27742317777372353535851937790883648493.
    let order = *b"\xed\xd3\xf5\x5c\x1a\x63\x12\x58\xd6\x9c\xf7\xa2\xde\xf9\xde\x14\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10";
    let (signer, hash) = (Signer::ed25519(&[5; 32]), [9; 48]);
    let good = signer.sign(&hash).unwrap();
    assert!(SignatureType::Ed25519.verify(signer.owner(), &good, &hash));
    let mut s = good[32..].to_vec();
    for _ in 0..15 {
        s = sum(&s, &order).unwrap();
        let twin = [&good[..32], &s].concat();
        assert!(!SignatureType::Ed25519.verify(signer.owner(), &twin, &hash));
    }
}

#[test]
fn an_ethereum_signature_has_no_twin() {
    // The order of secp256k1's group, big-endian.
    let order = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\
        \xba\xae\xdc\xe6\xaf\x48\xa0\x3b\xbf\xd2\x5e\x8c\xd0\x36\x41\x41";
    let (signer, hash) = (Signer::ethereum(&[5; 32]).unwrap(), [9; 48]);
    let good = signer.sign(&hash).unwrap();
    assert!(SignatureType::Ethereum.verify(signer.owner(), &good, &hash));
    let mut borrow = 0i16;
    let mut twin = good.clone();
    for at in (0..32).rev() {
        let digit = i16::from(order[at]) - i16::from(good[32 + at]) - borrow;
        borrow = i16::from(digit < 0);
        twin[32 + at] = digit.rem_euclid(256) as u8;
    }
    // The twin of `(r, s)` is `(r, order - s)` with the other parity; a lax verifier takes it.
    twin[64] = 27 + 28 - good[64];
    let mut normal = secp256k1::ecdsa::Signature::from_compact(&twin[..64]).unwrap();
    normal.normalize_s();
    assert_eq!(normal.serialize_compact()[32..], good[32..64], "it is the twin");
    assert!(!SignatureType::Ethereum.verify(signer.owner(), &twin, &hash));
}

#[test]
fn no_type_stands_in_for_another_of_its_size() {
    let same_size: [(&str, &[u16]); 5] = [
        ("ed25519", &[4, 5]),
        ("solana_hex", &[2, 5]),
        ("injected_aptos", &[2, 4]),
        ("ethereum", &[101]),
        ("kyve", &[3]),
    ];
    for (name, others) in same_size {
        for other in others {
            let mut bytes = item(name).to_vec();
            bytes[..2].copy_from_slice(&other.to_le_bytes());
            let item = DataItem::parse(bytes.into()).unwrap();
            assert!(item.verify().is_err(), "{name} as type {other}");
        }
    }
}

#[test]
fn absurd_rsa_keys_verify_nothing() {
    let one: [u8; 512] = std::array::from_fn(|at| u8::from(at == 511));
    let mut even = [0xff; 512];
    even[511] = 0xfe;
    let mut short = [0xff; 512];
    short[..256].fill(0);
    for modulus in [[0; 512], one, [0xff; 512], even, short] {
        for signature in [[0; 512], one, [0xff; 512], even, short] {
            assert!(!SignatureType::Arweave.verify(&modulus, &signature, &[0; 48]));
        }
    }
}

#[test]
fn a_multi_signature_needs_enough_different_keys() {
    let hash = [3; 48];
    let signers = [1, 2, 3].map(|seed| Signer::ed25519(&[seed; 32]));
    // Slot by slot: which signer's key stands there, and whether it signed.
    let verify = |threshold: u8, slots: &[(usize, bool)]| {
        let (mut owner, mut signature) = (vec![0; 1025], vec![0; 2052]);
        owner[1024] = threshold;
        for (at, (signer, signs)) in slots.iter().enumerate() {
            owner[32 * at..][..32].copy_from_slice(signers[*signer].owner());
            if *signs {
                signature[64 * at..][..64].copy_from_slice(&signers[*signer].sign(&hash).unwrap());
                signature[2048 + at / 8] |= 0x80 >> (at % 8);
            }
        }
        SignatureType::MultiAptos.verify(&owner, &signature, &hash)
    };
    assert!(verify(1, &[(0, true)]));
    assert!(verify(2, &[(0, true), (1, false), (2, true)]));
    assert!(verify(2, &[(0, true), (1, true), (2, true)]));
    assert!(!verify(0, &[(0, true)]), "a threshold of none");
    assert!(!verify(1, &[(0, false)]), "nobody signed");
    assert!(!verify(2, &[(0, true), (1, false), (2, false)]), "too few");
    assert!(!verify(2, &[(0, true), (0, true)]), "one key twice");
    assert!(!verify(33, &[(0, true)]), "more than there are");
}
