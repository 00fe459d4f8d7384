//! Carriers: the vector read and made again, round trips, and damage of every kind refused.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use spec::carrier::{CarrierError, CarrierTags, Draft, PREVIOUS_MAX, Range, SegmentData, unwrap, wrap};
use spec::item::ItemParts;
use spec::{Bundle, Carrier, DataItem, ItemId, ProcessId, Signer, Tag, digest};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    node_seed: String,
    sequence: u64,
    segment: u64,
    prev_segment: ItemId,
    segment_sha256: ItemId,
    segment_item: ItemId,
    digest_item: ItemId,
    root: String,
    withheld: ItemId,
    segment_data: String,
    range: RangeVector,
    skeleton: String,
    file_len: u64,
    tags: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RangeVector {
    process: ProcessId,
    first: u64,
    last: u64,
    count: u64,
    last_assignment: ItemId,
}

fn vector() -> (Bytes, Vector) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let bundle = std::fs::read(folder.join("carrier_v1.bin")).unwrap();
    let text = std::fs::read_to_string(folder.join("carrier_v1.json")).unwrap();
    (bundle.into(), serde_json::from_str(&text).unwrap())
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

fn seed(text: &str) -> [u8; 32] {
    from_hex(text).try_into().unwrap()
}

fn item(n: usize) -> DataItem {
    let parts = ItemParts {
        data: vec![n as u8; n * 7 % 900].into(),
        tags: vec![Tag::new("N", n.to_string())],
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).unwrap()
}

fn draft(sequence: u64) -> Draft {
    Draft {
        epoch: 0,
        sequence,
        segment: 2 * sequence + 1,
        prev_segment: (sequence > 0).then_some(ItemId([9; 32])),
        replaces: Vec::new(),
        segment_sha256: [8; 32],
        data: Bytes::from_static(b"compressed"),
    }
}

fn node() -> Signer {
    Signer::ed25519(&[2; 32])
}

fn whole(carrier: &Carrier) -> Bytes {
    let bundle: Vec<u8> = carrier.pieces().flatten().collect();
    assert_eq!(bundle.len() as u64, carrier.bundle_len());
    bundle.into()
}

#[test]
fn the_vector_reads_as_it_says_and_is_made_again_byte_for_byte() {
    let (bundle, vector) = vector();
    let carrier = Carrier::parse(&bundle).unwrap();
    let expected = Draft {
        epoch: 0,
        sequence: vector.sequence,
        segment: vector.segment,
        prev_segment: Some(vector.prev_segment),
        replaces: Vec::new(),
        segment_sha256: vector.segment_sha256.0,
        data: carrier.segment_item().data(),
    };
    assert_eq!(*carrier.segment(), expected);
    assert_eq!(carrier.segment_item().id(), vector.segment_item);
    assert_eq!(carrier.digest_item().id(), vector.digest_item);
    assert_eq!(spec::signature::hex(&carrier.tree().root()), vector.root);
    assert_eq!(unwrap(&carrier.records()[2]).unwrap().id(), vector.withheld);

    let signer = Signer::ed25519(&seed(&vector.node_seed));
    let withheld = unwrap(&carrier.records()[2]).unwrap();
    assert_eq!(wrap(&withheld, &signer).unwrap(), carrier.records()[2]);
    let again = Carrier::build(carrier.records().to_vec(), carrier.segment(), &signer).unwrap();
    assert_eq!(whole(&again), bundle);
    let tags: Vec<Tag> = vector.tags.into_iter().map(|(n, v)| Tag::new(n, v)).collect();
    let read = CarrierTags::read(&tags).unwrap();
    assert_eq!((read.segment_item, read.previous.len()), (vector.segment_item, 2));
    assert_eq!(read.encode().unwrap(), tags);
}

#[test]
fn the_vectors_segment_data_reads_and_is_what_the_item_compresses() {
    let (bundle, vector) = vector();
    let bytes: Bytes = from_hex(&vector.segment_data).into();
    // The vector's frame holds one raw block: ten bytes of zstd's heads before it.
    let data = Carrier::parse(&bundle).unwrap().segment_item().data();
    assert_eq!(data.slice(data.len() - bytes.len()..), bytes);
    let read = SegmentData::decode(&bytes).unwrap();
    let range = Range {
        process: vector.range.process,
        first: vector.range.first,
        last: vector.range.last,
        count: vector.range.count,
        last_assignment: vector.range.last_assignment,
    };
    assert_eq!(read.ranges, [range]);
    assert_eq!(
        (read.file_len, &read.skeleton[..]),
        (vector.file_len, vector.skeleton.as_bytes())
    );
    assert_eq!(read.encode().unwrap(), bytes);
}

#[test]
fn carriers_of_any_size_read_back_and_every_leaf_is_shown() {
    for count in [0, 1, 2, 3, 60] {
        let records: Vec<DataItem> = (0..count).map(item).collect();
        let carrier = Carrier::build(records.clone(), &draft(0), &node()).unwrap();
        let bundle = whole(&carrier);
        let read = Carrier::parse(&bundle).unwrap();
        assert_eq!(read.records(), records);
        assert_eq!(read.leaves(), carrier.leaves());
        let stated = spec::carrier::Digest::read(read.digest_item()).unwrap();
        for leaf in read.leaves() {
            let path = read.tree().path(leaf.index).unwrap();
            assert!(digest::verify(&stated.root, stated.count, leaf, &path));
            let bytes = bundle.slice(leaf.offset as usize..(leaf.offset + leaf.size) as usize);
            assert_eq!(DataItem::parse(bytes).unwrap().id(), leaf.id);
        }
    }
}

#[test]
fn one_flipped_bit_anywhere_is_refused_or_lies_in_a_record_that_no_longer_verifies() {
    let (bundle, _) = vector();
    let whole = Carrier::parse(&bundle).unwrap();
    for bit in 0..bundle.len() * 8 {
        let mut bytes = bundle.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(read) = Carrier::parse(&bytes.into()) else {
            continue;
        };
        let bad = read
            .records()
            .iter()
            .filter(|item| item.verify().is_err())
            .count();
        assert_eq!(bad, 1, "bit {bit}");
        assert_eq!(read.digest_item(), whole.digest_item());
    }
}

#[test]
fn cut_reordered_replaced_and_borrowed_parts_are_refused() {
    let carrier = Carrier::build((0..5).map(item).collect(), &draft(3), &node()).unwrap();
    let other = Carrier::build((0..6).map(item).collect(), &draft(4), &node()).unwrap();
    let stranger = Carrier::build((0..5).map(item).collect(), &draft(3), &Signer::ed25519(&[3; 32])).unwrap();
    let with = |change: &dyn Fn(&mut Vec<DataItem>)| {
        let mut items = carrier.items().to_vec();
        change(&mut items);
        let bytes = Bundle::encode(&items);
        Carrier::parse(&bytes).unwrap_err()
    };
    let digest = |what| CarrierError::Digest(what);
    assert_eq!(with(&|items| items.swap(0, 1)), digest("root"));
    assert_eq!(with(&|items| items[2] = item(77)), digest("root"));
    assert_eq!(with(&|items| drop(items.remove(1))), digest("count"));
    assert_eq!(with(&|items| items.insert(1, item(8))), digest("count"));
    assert!(matches!(
        with(&|items| items.swap(5, 6)),
        CarrierError::Tag { .. }
    ));
    assert_eq!(with(&|items| items.truncate(1)), CarrierError::Short(1));
    assert!(matches!(
        with(&|items| drop(items.pop())),
        CarrierError::Tag { .. }
    ));
    assert_eq!(
        with(&|items| items[6] = other.digest_item().clone()),
        CarrierError::Differ("sequence")
    );
    assert_eq!(
        with(&|items| items[6] = stranger.digest_item().clone()),
        CarrierError::Differ("signer")
    );
    let bundle = whole(&carrier);
    assert!((0..bundle.len()).all(|end| Carrier::parse(&bundle.slice(..end)).is_err()));
}

#[test]
fn a_carrier_that_was_made_again_says_for_what() {
    let old = |count: u8| (0..count).map(|n| ItemId([n; 32])).collect::<Vec<_>>();
    let of = |count| Draft {
        replaces: old(count),
        ..draft(3)
    };
    for count in [0, 1, 48] {
        let carrier = Carrier::build(vec![item(1)], &of(count), &node()).unwrap();
        let read = Carrier::parse(&whole(&carrier)).unwrap();
        assert_eq!(
            (read.segment(), &read.segment().replaces),
            (&of(count), &old(count))
        );
    }
    assert!(Carrier::build(vec![item(1)], &of(49), &node()).is_err());
}

#[test]
fn a_first_carrier_names_none_before_it_and_every_other_one_does() {
    let lone = Draft {
        prev_segment: None,
        ..draft(4)
    };
    let after_nothing = Draft {
        prev_segment: Some(ItemId([1; 32])),
        ..draft(0)
    };
    for draft in [lone, after_nothing] {
        let refused = Carrier::build(vec![item(1)], &draft, &node()).unwrap_err();
        assert!(matches!(
            refused,
            CarrierError::Tag {
                tag: "Prev-Segment",
                ..
            }
        ));
    }
}

#[test]
fn segment_data_with_a_wrong_length_order_or_range_is_refused() {
    let range = |n| Range {
        process: ProcessId([n; 32]),
        first: 4,
        last: 9,
        count: 6,
        last_assignment: ItemId([n; 32]),
    };
    let data = SegmentData {
        file_len: 500,
        ranges: vec![range(1), range(2)],
        skeleton: Bytes::from_static(b"skeleton"),
    };
    let bytes = data.encode().unwrap();
    assert_eq!(SegmentData::decode(&bytes).unwrap(), data);
    for end in 0..bytes.len() {
        assert!(SegmentData::decode(&bytes.slice(..end)).is_err());
    }
    // Lengths, version and magic: all of the head but the file's length is held against something.
    for at in (0..16).chain(24..32) {
        let mut bad = bytes.to_vec();
        bad[at] ^= 0x80;
        assert!(SegmentData::decode(&bad.into()).is_err(), "byte {at}");
    }
    let bad = |change: &dyn Fn(&mut SegmentData)| {
        let mut data = data.clone();
        change(&mut data);
        data.encode().unwrap_err()
    };
    assert!(bad(&|data| data.ranges.swap(0, 1)).to_string().contains("order"));
    assert!(
        bad(&|data| data.ranges[1].process = ProcessId([1; 32]))
            .to_string()
            .contains("order")
    );
    assert!(bad(&|data| data.ranges[0].last = 3).to_string().contains("range"));
    assert!(
        bad(&|data| data.ranges[0].count = 7)
            .to_string()
            .contains("range")
    );
    assert!(
        bad(&|data| data.ranges[0].count = 0)
            .to_string()
            .contains("range")
    );
    assert!(bad(&|data| data.file_len = 7).to_string().contains("longer"));
}

#[test]
fn a_wrapper_stands_for_its_item_only_and_its_signature_counts() {
    let withheld = item(40).withhold();
    let wrapper = wrap(&withheld, &node()).unwrap();
    assert_eq!(unwrap(&wrapper).unwrap(), withheld);
    for bit in 0..wrapper.bytes().len() * 8 {
        let mut bytes = wrapper.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = DataItem::parse(bytes.into());
        assert!(read.map_or(true, |item| unwrap(&item).is_err()), "bit {bit}");
    }
    // The node's own signature does not make a wrapper of what its owner never signed.
    let mut encoded = withheld.encode().to_vec();
    *encoded.last_mut().unwrap() ^= 1;
    let tags = wrapper.tags().to_vec();
    let parts = ItemParts {
        tags,
        data: encoded.into(),
        ..ItemParts::default()
    };
    assert!(unwrap(&DataItem::sign(&parts, &node()).unwrap()).is_err());
}

#[test]
fn carrier_tags_have_one_form() {
    let tags = CarrierTags {
        epoch: u64::MAX,
        sequence: 7,
        segment_item: ItemId([1; 32]),
        previous: vec![ItemId([2; 32]); PREVIOUS_MAX],
    };
    let written = tags.encode().unwrap();
    assert_eq!(CarrierTags::read(&written).unwrap(), tags);
    let len: usize = written.iter().map(|tag| tag.name.len() + tag.value.len()).sum();
    assert!(
        len <= spec::transaction::TAGS_LEN_MAX,
        "{len} bytes fit a transaction"
    );
    let mut more = tags.clone();
    more.previous.push(ItemId([3; 32]));
    assert_eq!(
        more.encode().unwrap_err(),
        CarrierError::Previous(PREVIOUS_MAX + 1)
    );
    for at in 0..written.len() {
        let mut bad = written.clone();
        bad[at].value = [&bad[at].value[..], b" "].concat().into();
        assert!(CarrierTags::read(&bad).is_err(), "tag {at}");
    }
    let padded = |tag: &Tag| match &tag.name[..] {
        b"Sequence" => Tag::new("Sequence", "07"),
        _ => tag.clone(),
    };
    let padded: Vec<Tag> = written.iter().map(padded).collect();
    assert!(CarrierTags::read(&padded).is_err());
    let first = CarrierTags { epoch: 0, ..tags };
    let mut written = first.encode().unwrap();
    assert_eq!(CarrierTags::read(&written).unwrap(), first);
    assert!(
        written.iter().all(|tag| tag.name != "Epoch"),
        "the first is not written"
    );
    written.push(Tag::new("Epoch", "0"));
    assert!(CarrierTags::read(&written).is_err(), "nor read");
}

#[test]
fn an_epoch_is_signed_for_with_the_segment() {
    let later = Draft {
        epoch: 1_700_000_000,
        ..draft(3)
    };
    let carrier = Carrier::build(vec![item(1)], &later, &node()).unwrap();
    assert_eq!(
        Carrier::parse(&whole(&carrier)).unwrap().segment().epoch,
        1_700_000_000
    );
}
