//! Carriers that the right wallet signed and that are wrong all the same: what no gateway can make, a broken node can.

use bytes::Bytes;
use spec::carrier::{Draft, SegmentData};
use spec::{Bundle, Carrier, CarrierTags, DataItem, ItemId, Signer, Tags};

use super::world::{World, item, rebuild};
use crate::testing::Faults;
use crate::testing::publisher::{self, apart, bundled};

/// One carrier, made wrong in one way, and the words of its refusal.
struct Case {
    name: &'static str,
    reason: &'static str,
    make: fn(&mut Parts),
}

/// What a carrier is made of.
struct Parts {
    records: Vec<DataItem>,
    draft: Draft,
    node: Signer,
    /// Changes the tags.
    tags: fn(&mut CarrierTags),
    /// Changes the finished bundle's items.
    items: fn(&mut Vec<DataItem>),
}

const CASES: [Case; 9] = [
    Case {
        name: "an item whose signature does not hold",
        reason: "at byte",
        make: |parts| {
            let mut bytes = parts.records[2].bytes().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            parts.records[2] = DataItem::parse(bytes.into()).unwrap();
        },
    },
    Case {
        name: "two records in each other's place",
        reason: "the frame is for",
        make: |parts| parts.records.swap(0, 2),
    },
    Case {
        name: "a record too few",
        reason: "fewer records than the skeleton",
        make: |parts| drop(parts.records.pop()),
    },
    Case {
        name: "another file's hash",
        reason: "comes out with SHA-256",
        make: |parts| parts.draft.segment_sha256[0] ^= 1,
    },
    Case {
        name: "another segment's number",
        reason: "the file's head says",
        make: |parts| parts.draft.segment += 5,
    },
    Case {
        name: "tags of another sequence",
        reason: "its tags say sequence 1",
        make: |parts| {
            parts.draft.sequence = 7;
            parts.tags = |tags| tags.sequence = 1;
        },
    },
    Case {
        name: "tags that name another segment item",
        reason: "another segment item",
        make: |parts| parts.tags = |tags| tags.segment_item = ItemId([3; 32]),
    },
    Case {
        name: "data that unpacks to more than the limit",
        reason: "no zstd frame of at most 64 MiB",
        make: |parts| {
            let mut out = Vec::with_capacity(1 << 20);
            zstd_safe::compress(&mut out, &vec![0; 65 << 20], 1).unwrap();
            parts.draft.data = out.into();
        },
    },
    Case {
        name: "an item that the digest does not know",
        reason: "digest item states another root",
        make: |parts| parts.items = |items| items[1] = item(9, &[("Put", "in")], "later"),
    },
];

fn parts(world: &World) -> Parts {
    let (number, file) = &world.files[0];
    let apart = apart(file).unwrap();
    let node = Signer::ed25519(&[2; 32]);
    let data = SegmentData {
        file_len: file.len() as u64,
        ranges: Vec::new(),
        skeleton: apart.skeleton.into(),
    };
    Parts {
        records: bundled(&apart.records, &node),
        draft: world.publisher.draft(*number, file, &data),
        node,
        tags: |_| (),
        items: |_| (),
    }
}

fn bundle(parts: &Parts) -> (Bytes, Tags) {
    let carrier = Carrier::build(parts.records.clone(), &parts.draft, &parts.node).unwrap();
    let mut items = carrier.items().to_vec();
    (parts.items)(&mut items);
    let mut tags = CarrierTags {
        epoch: carrier.segment().epoch,
        sequence: carrier.segment().sequence,
        segment_item: carrier.segment_item().id(),
        previous: Vec::new(),
    };
    (parts.tags)(&mut tags);
    let rows: Vec<(u64, ItemId)> = items
        .iter()
        .map(|item| (item.bytes().len() as u64, item.id()))
        .collect();
    let mut out = Bundle::table(rows.into_iter()).to_vec();
    items.iter().for_each(|item| out.extend_from_slice(item.bytes()));
    (out.into(), tags.encode().unwrap())
}

#[tokio::test]
async fn what_the_wallet_signed_wrongly_is_refused_by_its_place() {
    for case in &CASES {
        let world = World::new(1, Faults::none());
        let mut parts = parts(&world);
        (case.make)(&mut parts);
        let (bundle, tags) = bundle(&parts);
        let posted = {
            let mut double = world.handle.lock();
            publisher::post(&mut double, &world.publisher.wallet, tags, &bundle)
        };
        let folder = tempfile::tempdir().unwrap();
        let refused = rebuild(&world.sources(&[0, 1]), world.wallet, folder.path()).await;
        let text = refused.expect_err(case.name).to_string();
        assert!(text.contains(case.reason), "{}: {text}", case.name);
        assert!(text.contains(&posted.id.to_string()), "{}: {text}", case.name);
        assert!(!folder.path().join("log").exists(), "{}", case.name);
    }
}

/// A whole second history of the wallet: only the chain from the newest carrier counts.
#[tokio::test]
async fn a_carrier_of_another_history_is_left_out() {
    let world = World::new(3, Faults::none());
    let mut other = parts(&world);
    other.draft.sequence = 1;
    other.draft.prev_segment = Some(ItemId([8; 32]));
    let (bundle, tags) = bundle(&other);
    {
        let mut double = world.handle.lock();
        publisher::post(&mut double, &world.publisher.wallet, tags, &bundle);
    }
    let folder = tempfile::tempdir().unwrap();
    rebuild(&world.sources(&[0]), world.wallet, folder.path())
        .await
        .unwrap();
    world.assert_same(folder.path());
}
