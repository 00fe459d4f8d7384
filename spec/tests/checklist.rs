//! Items 1 to 8 of the conformance checklist, as far as they concern the protocol itself.
//!
//! Not here: the body limit's HTTP answer (7) and the route `/raw/{id}` (8), which units test.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use spec::ids::base64url;
use spec::item::ItemError;
use spec::tags::TagsError;
use spec::{DataItem, ItemParts, SignatureType, Signer, Tag};

fn bytes_of(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/items");
    std::fs::read(path.join(format!("{name}.bin"))).unwrap().into()
}

fn item(name: &str) -> DataItem {
    DataItem::parse_verified(bytes_of(name)).unwrap()
}

fn signed(parts: &ItemParts) -> DataItem {
    let item = DataItem::sign(parts, &Signer::ed25519(&[1; 32])).unwrap();
    DataItem::parse_verified(item.bytes().clone()).unwrap()
}

#[test]
fn item_01_rsa_items_of_both_salts_pass_and_any_flipped_bit_fails() {
    for name in ["arweave_saltmax", "arweave_salt478", "arweave_salt32"] {
        assert_eq!(item(name).signature_type(), SignatureType::Arweave, "{name}");
    }
    for name in ["arweave_salt478", "arweave_salt32"] {
        let good = bytes_of(name);
        for bit in 0..8 * good.len() {
            let mut bytes = good.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(
                DataItem::parse_verified(bytes.into()).is_err(),
                "{name} bit {bit}"
            );
        }
    }
}

#[test]
fn item_02_ethereum_items_pass_and_show_the_checksummed_address() {
    for (name, kind) in [
        ("ethereum", SignatureType::Ethereum),
        ("typed_ethereum", SignatureType::TypedEthereum),
    ] {
        let item = item(name);
        assert_eq!(item.signature_type(), kind);
        let text = item.signer_text().to_string();
        assert!(text.len() == 42 && text.starts_with("0x"), "{text}");
        let mixed = |test: fn(&u8) -> bool| text.as_bytes()[2..].iter().any(test);
        assert!(
            mixed(u8::is_ascii_uppercase) && mixed(u8::is_ascii_lowercase),
            "{text} has no checksum"
        );
    }
    // The secret 1 has the best known address of all.
    let secret: [u8; 32] = std::array::from_fn(|at| u8::from(at == 31));
    let item = DataItem::sign(&ItemParts::default(), &Signer::ethereum(&secret).unwrap()).unwrap();
    assert_eq!(
        item.signer_text().as_str(),
        "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
    );
    // The scheduler's JSON goes on showing the hash of the key.
    assert_eq!(
        item.owner_address().to_string(),
        base64url(digest(&SHA256, item.owner()).as_ref())
    );
}

#[test]
fn item_03_the_id_is_the_hash_of_the_signature() {
    for name in [
        "arweave_salt32",
        "ed25519",
        "ethereum",
        "multi_aptos_1of1",
        "typed_ethereum",
        "kyve",
    ] {
        let item = item(name);
        assert_eq!(
            item.id().to_string(),
            base64url(digest(&SHA256, item.signature()).as_ref()),
            "{name}"
        );
    }
}

#[test]
fn item_04_items_without_tags_pass() {
    assert!(item("eth_minimal_empty").tags().is_empty());
    let item = signed(&ItemParts {
        target: Some([5; 32]),
        data: " ".into(),
        ..ItemParts::default()
    });
    assert!(item.tags().is_empty() && item.raw_tags().is_empty());
    assert_eq!(item.target(), Some(&[5; 32]));
}

#[test]
fn item_05_tags_with_an_empty_value_pass() {
    let tags = vec![Tag::new("Empty", ""), Tag::new("Full", "x")];
    let item = signed(&ItemParts {
        tags: tags.clone(),
        ..ItemParts::default()
    });
    assert_eq!(item.tags(), tags);
    assert_eq!(item.tag("Empty"), Some(""));
    // Others also sign empty names, which we read and never write.
    assert_eq!(self::item("eth_empty_tag").tag(""), Some(""));
}

#[test]
fn item_06_a_tag_count_that_is_not_the_tags_is_refused() {
    let good = signed(&ItemParts {
        tags: vec![Tag::new("a", "b")],
        ..ItemParts::default()
    });
    let count_at = 2 + 64 + 32 + 1 + 1;
    for count in [0, 2, 128, u64::MAX] {
        let mut bytes = good.bytes().to_vec();
        bytes[count_at..count_at + 8].copy_from_slice(&count.to_le_bytes());
        let error = DataItem::parse(bytes.into()).unwrap_err();
        assert_eq!(
            error,
            ItemError::Tags(TagsError::Count {
                header: count,
                decoded: 1
            })
        );
    }
}

#[test]
fn item_07_an_item_of_ten_megabytes_passes() {
    let item = signed(&ItemParts {
        data: vec![0x5a; 10_000_000].into(),
        ..ItemParts::default()
    });
    assert_eq!(item.data_len(), 10_000_000);
    // Nothing is copied: the data lies in the buffer that came.
    assert!(item.bytes().as_ptr_range().contains(&item.data().as_ptr()));
}

#[test]
fn item_08_data_keeps_every_byte() {
    let data: Bytes = (0..=255u8).cycle().take(70_000).collect();
    let item = signed(&ItemParts {
        data: data.clone(),
        ..ItemParts::default()
    });
    assert_eq!(item.data(), data);
    assert_eq!(spec::contract::Stored::Item(item).data(), Some(data));
}
