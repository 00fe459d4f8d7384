//! Every vector of `spec/vectors`, read and held against the code.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use spec::assignment::Chain;
use spec::ids::{base64url, from_base64url};
use spec::push_hash::of_parts;
use spec::{Assignment, Bundle, DataItem, Draft, ItemId, ProcessId, SignatureType, Tag};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let text = std::fs::read_to_string(vectors().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemVector {
    name: String,
    id: ItemId,
    signature_type: u16,
    bytes: usize,
    deep_hash: String,
    valid: bool,
}

fn item_bytes(name: &str) -> Bytes {
    std::fs::read(vectors().join("items").join(format!("{name}.bin")))
        .unwrap()
        .into()
}

#[test]
fn items_verify_or_are_refused_as_listed() {
    let list: Vec<ItemVector> = read("items/index.json");
    let files = std::fs::read_dir(vectors().join("items")).unwrap();
    let files = files
        .filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "bin"))
        .count();
    assert_eq!(list.len(), files, "every file is listed");
    for vector in list {
        let bytes = item_bytes(&vector.name);
        assert_eq!(bytes.len(), vector.bytes, "{}", vector.name);
        let verified = DataItem::parse_verified(bytes.clone());
        assert_eq!(verified.is_ok(), vector.valid, "{}: {verified:?}", vector.name);
        let Ok(item) = DataItem::parse(bytes) else {
            continue;
        };
        assert_eq!(item.id(), vector.id, "{}", vector.name);
        assert_eq!(
            item.signature_type().number(),
            vector.signature_type,
            "{}",
            vector.name
        );
        assert_eq!(
            spec::signature::hex(&item.deep_hash()),
            vector.deep_hash,
            "{}",
            vector.name
        );
    }
}

#[test]
fn one_flipped_bit_anywhere_is_refused() {
    let list: Vec<ItemVector> = read("items/index.json");
    for vector in list.iter().filter(|v| v.valid) {
        let bytes = item_bytes(&vector.name);
        // RSA items are long and slow to check: every 7th byte there, every byte elsewhere.
        for at in (0..bytes.len()).step_by(if bytes.len() > 600 { 7 } else { 1 }) {
            let mut mutated = bytes.to_vec();
            mutated[at] ^= 1 << (at % 8);
            assert!(
                DataItem::parse_verified(mutated.into()).is_err(),
                "{} byte {at}",
                vector.name
            );
        }
    }
}

#[test]
fn withheld_items_still_verify() {
    let list: Vec<ItemVector> = read("items/index.json");
    for vector in list.iter().filter(|v| v.valid) {
        let item = DataItem::parse_verified(item_bytes(&vector.name)).unwrap();
        let withheld = spec::Withheld::decode(&item.withhold().encode()).unwrap();
        assert_eq!(withheld.id(), item.id());
        withheld.verify().unwrap();
        let mut encoded = item.withhold().encode().to_vec();
        encoded[8] ^= 1;
        assert!(
            spec::Withheld::decode(&encoded.into()).unwrap().verify().is_err(),
            "{}",
            vector.name
        );
    }
}

#[test]
fn hash_chain() {
    #[derive(Deserialize)]
    struct Rows {
        chain: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        process: ProcessId,
        previous_assignment: ItemId,
        first: String,
        next: String,
    }
    for row in read::<Rows>("chain.json").chain {
        let first = Chain::first(row.process);
        assert_eq!(first.to_string(), row.first);
        assert_eq!(first.next(row.previous_assignment).to_string(), row.next);
    }
}

#[test]
fn push_hash() {
    #[derive(Deserialize)]
    struct Row {
        process: ProcessId,
        anchor: String,
        data: String,
        tags: Vec<(String, String)>,
        hash: String,
    }
    for row in read::<Vec<Row>>("push_hash.json") {
        let tags: Vec<_> = row
            .tags
            .into_iter()
            .map(|(name, value)| Tag::new(name, value))
            .collect();
        let hash = of_parts(
            row.process.bytes(),
            row.anchor.as_bytes(),
            &tags,
            row.data.as_bytes(),
        );
        assert_eq!(base64url(&hash), row.hash);
    }
}

#[test]
fn every_type_is_covered_by_a_vector() {
    let list: Vec<ItemVector> = read("items/index.json");
    for kind in SignatureType::ALL {
        assert!(
            list.iter().any(|v| v.valid && v.signature_type == kind.number()),
            "{kind:?}"
        );
    }
}

#[test]
fn keys_have_the_listed_accounts_and_unfit_ones_are_refused() {
    #[derive(Deserialize)]
    struct Rows {
        keys: Vec<Row>,
        refused: Vec<Refused>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        name: String,
        signature_type: u16,
        jwk: Box<serde_json::value::RawValue>,
        owner: String,
        address: String,
        account: String,
    }
    #[derive(Deserialize)]
    struct Refused {
        name: String,
        jwk: Box<serde_json::value::RawValue>,
        error: String,
    }
    let rows: Rows = read("keys.json");
    for row in rows.keys {
        let signer = spec::Signer::from_jwk(row.jwk.get()).unwrap();
        let item = DataItem::sign(&spec::ItemParts::default(), &signer).unwrap();
        DataItem::parse_verified(item.bytes().clone()).unwrap();
        assert_eq!(item.signature_type().number(), row.signature_type, "{}", row.name);
        assert_eq!(base64url(item.owner()), row.owner, "{}", row.name);
        assert_eq!(item.owner_address().to_string(), row.address, "{}", row.name);
        assert_eq!(item.signer_text().as_str(), row.account, "{}", row.name);
    }
    for row in rows.refused {
        let error = spec::Signer::from_jwk(row.jwk.get()).err();
        let error = error
            .unwrap_or_else(|| panic!("{} was accepted", row.name))
            .to_string();
        assert!(error.contains(&row.error), "{}: {error}", row.name);
    }
}

#[test]
fn assignments_of_one_process_form_a_chain() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        scheduler: spec::Address,
        process: ProcessId,
        chain_after: String,
        assignments: Vec<Row>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        slot: u64,
        message: Option<ItemId>,
        exclude: Vec<String>,
        timestamp_ms: u64,
        block_height: u64,
        chain: String,
        anchor: String,
        id: ItemId,
        item: String,
    }
    let rows: Rows = read("assignments.json");
    let signer = test_signer("ed25519");
    assert_eq!(signer.address(), rows.scheduler);
    let mut chain = Chain::first(rows.process);
    assert_eq!(rows.assignments.len(), 5);
    for (slot, row) in (0..).zip(rows.assignments) {
        let bytes = Bytes::from(from_base64url(&row.item).unwrap());
        let read = Assignment::read(DataItem::parse_verified(bytes).unwrap()).unwrap();
        assert_eq!((read.slot, read.process, read.epoch), (slot, rows.process, 0));
        assert_eq!(
            (read.slot, read.message, read.item.id()),
            (row.slot, row.message, row.id)
        );
        assert_eq!(
            (read.tick.timestamp_ms, read.tick.block_height),
            (row.timestamp_ms, row.block_height)
        );
        assert_eq!(
            read.exclude.iter().map(|field| field.name()).collect::<Vec<_>>(),
            row.exclude
        );
        assert_eq!((read.chain, chain.to_string()), (chain, row.chain));
        assert_eq!(read.subject(), row.message.unwrap_or(rows.process.into()));
        // Ed25519 is deterministic: what we sign is the vector, bit for bit.
        let notes = if slot == 0 {
            vec![Tag::new("Engine-Epoch", "vector")]
        } else {
            vec![]
        };
        let anchor = from_base64url(&row.anchor).unwrap().try_into().unwrap();
        let (process, tick, message) = (read.process, read.tick, read.message);
        let draft = Draft {
            process,
            slot,
            chain,
            tick,
            message,
            exclude: read.exclude.clone(),
            notes,
            anchor,
        };
        assert_eq!(draft.sign(&signer).unwrap(), read);
        chain = chain.next(row.id);
    }
    assert_eq!(chain.to_string(), rows.chain_after);
}

fn test_signer(name: &str) -> spec::Signer {
    #[derive(Deserialize)]
    struct Rows {
        keys: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        name: String,
        jwk: Box<serde_json::value::RawValue>,
    }
    let rows: Rows = read("keys.json");
    let row = rows.keys.into_iter().find(|row| row.name == name).unwrap();
    spec::Signer::from_jwk(row.jwk.get()).unwrap()
}

#[test]
fn a_nested_bundle_unfolds_as_listed() {
    #[derive(Deserialize)]
    struct Rows {
        bytes: usize,
        items: Vec<Row>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        id: ItemId,
        signature_type: u16,
        depth: usize,
        parent: Option<ItemId>,
        data_bytes: u64,
    }
    let rows: Rows = read("bundle_nested.json");
    let bytes = Bytes::from(std::fs::read(vectors().join("bundle_nested.bin")).unwrap());
    assert_eq!(bytes.len(), rows.bytes);
    let outer = Bundle::parse(&bytes).unwrap();
    assert_eq!(
        outer.items.len(),
        rows.items.iter().filter(|row| row.depth == 1).count()
    );
    let all = Bundle::parse_nested(&bytes).unwrap();
    assert_eq!(all.len(), rows.items.len());
    for (item, row) in all.iter().zip(&rows.items) {
        item.verify().unwrap();
        assert_eq!((item.id(), item.data_len()), (row.id, row.data_bytes));
        assert_eq!(item.signature_type().number(), row.signature_type);
        let parent = row
            .parent
            .map(|id| all.iter().find(|item| item.id() == id).unwrap());
        let inside = parent.map(|parent| Bundle::parse(&parent.data()).unwrap().items);
        assert!(inside.unwrap_or(outer.items.clone()).contains(item), "{}", row.id);
    }
}

#[test]
fn tag_blocks_read_as_listed() {
    #[derive(Deserialize)]
    struct Row {
        name: String,
        raw: String,
        tags: Option<Vec<(String, String)>>,
        canonical: bool,
    }
    let rows: Vec<Row> = read("tags.json");
    assert!(rows.iter().filter(|row| row.tags.is_none()).count() >= 10);
    for row in rows {
        let digits = |at| u8::from_str_radix(&row.raw[at..at + 2], 16).unwrap();
        let raw = Bytes::from((0..row.raw.len()).step_by(2).map(digits).collect::<Vec<u8>>());
        let expected = row
            .tags
            .map(|tags| tags.into_iter().map(|(n, v)| Tag::new(n, v)).collect::<Vec<_>>());
        assert_eq!(spec::tags::decode(&raw).ok(), expected, "{}", row.name);
        let written = expected.and_then(|tags| spec::tags::encode(&tags).ok());
        assert_eq!(
            written.is_some_and(|written| written == raw),
            row.canonical,
            "{}",
            row.name
        );
    }
}
