//! Proofs: made of a bundle in a block, verified, and refused with any bit of them changed.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use bytes::Bytes;
use spec::assignment::Chain;
use spec::carrier::{self, CarrierTags, Draft as Segment};
use spec::chunks::Tree;
use spec::contract::Tick;
use spec::item::ItemParts;
use spec::placement::{BlockPlace, BlockTree};
use spec::proof::{BlockClaim, Body, Carried, Place, Placed, Proof, Stretch, Tail, members};
use spec::transaction::Content;
use spec::{Assignment, Bundle, Carrier, DataItem, Draft, ItemId, ProcessId, Signer, Tag, Transaction};

fn scheduler() -> Signer {
    Signer::ed25519(&[2; 32])
}

fn wallet() -> Signer {
    Signer::ethereum(&[7; 32]).unwrap()
}

fn signed(data: Vec<u8>, target: Option<ProcessId>) -> DataItem {
    let parts = ItemParts {
        target: target.map(|process| process.0),
        tags: vec![Tag::new("Data-Protocol", "ao"), Tag::new("Type", "Message")],
        data: data.into(),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).unwrap()
}

fn assign(message: &DataItem, slot: u64, chain: Chain, process: ProcessId) -> Assignment {
    let draft = Draft {
        process,
        slot,
        chain,
        tick: Tick {
            timestamp_ms: 1_700_000_000_000 + slot,
            block_height: 9,
        },
        message: (slot > 0).then(|| message.id()),
        exclude: Vec::new(),
        notes: Vec::new(),
        anchor: [slot as u8; 32],
    };
    draft.sign(&scheduler()).unwrap()
}

/// A log of some messages of so many bytes, as a segment's records.
fn log(messages: u64, len: usize) -> Vec<DataItem> {
    let spawn = signed(vec![1; 10], None);
    let process = ProcessId::from(spawn.id());
    let (mut chain, mut records) = (Chain::first(process), Vec::new());
    for slot in 0..messages {
        let message = match slot {
            0 => spawn.clone(),
            slot => signed(vec![slot as u8; len + slot as usize % 7], Some(process)),
        };
        let assignment = assign(&message, slot, chain, process);
        chain = chain.next(assignment.item.id());
        records.extend([message, assignment.item]);
    }
    records
}

fn bundle(carrier: &Carrier) -> Bytes {
    carrier.pieces().flatten().collect::<Vec<u8>>().into()
}

fn close(records: Vec<DataItem>) -> Carrier {
    let draft = Segment {
        epoch: 0,
        sequence: 0,
        segment: 2,
        prev_segment: None,
        replaces: Vec::new(),
        segment_sha256: [5; 32],
        data: Bytes::from_static(b"compressed"),
    };
    Carrier::build(records, &draft, &scheduler()).unwrap()
}

fn tags(carrier: &Carrier) -> Vec<Tag> {
    let tags = CarrierTags {
        epoch: 0,
        sequence: 0,
        segment_item: carrier.segment_item().id(),
        previous: vec![ItemId([3; 32])],
    };
    tags.encode().unwrap()
}

/// The place in a block of a transaction with this data, whose stretches begin at these bytes of it.
fn place(data: &Bytes, tags: Vec<Tag>, from: &[usize]) -> (Transaction, Place) {
    let content = Content {
        tags,
        last_tx: vec![4; 48],
        reward: 1_000,
        ..Content::carrying(data)
    };
    let transaction = content.sign(&wallet()).unwrap();
    let tree = Tree::of(data);
    let block = BlockTree::of([
        ([8; 32], 300_000),
        (tree.root(), data.len() as u64),
        ([9; 32], 77),
    ]);
    let start = 1_000_000;
    let end = start + spec::placement::padded(300_000) + data.len() as u64;
    let stretch = |from: &usize| {
        let chunk = tree.chunks().find(|chunk| (*from as u64) < chunk.end).unwrap();
        let bytes = data.slice(chunk.start as usize..chunk.end as usize);
        let path = tree.proof(chunk.start).unwrap().into();
        Stretch::of(&bytes, chunk.start, path, from - chunk.start as usize)
    };
    let place = Place {
        transaction: None,
        base: 0,
        stretches: from.iter().map(stretch).collect(),
        tx_path: block.proof(end - start - 1).unwrap().into(),
        end,
        block: BlockClaim {
            height: 1_234_567,
            hash: vec![6; 48].into(),
            place: BlockPlace {
                tx_root: block.root().unwrap(),
                start,
                end: start + block.len(),
            },
        },
    };
    (transaction, place)
}

fn small(carrier: &Carrier, id: ItemId) -> Proof {
    let data = bundle(carrier);
    let tail = data.len() - carrier.digest_item().bytes().len();
    let (transaction, place) = place(&data, tags(carrier), &[tail]);
    let found = members(carrier, id, false).unwrap();
    Proof {
        subject: found.subject,
        assignment: found.assignment,
        previous: found.previous,
        next: found.next,
        digest: Some(carrier.digest_item().clone()),
        carrier: Carried::Transaction(transaction),
        place: Some(place),
    }
}

#[test]
fn a_message_of_1_kib_is_proved_in_a_file_far_below_64_kib() {
    let carrier = close(log(400, 1024));
    let id = carrier.records()[602].id();
    let file = small(&carrier, id).encode();
    assert!(file.len() < 16 << 10, "{} bytes", file.len());
    let (proof, shown) = Proof::read_verified(&file).unwrap();
    assert_eq!(proof.encode(), file);
    assert_eq!((shown.id, shown.placed), (id, Placed::Digest));
    let slot = shown.slot.unwrap();
    assert_eq!((slot.slot, slot.follows, slot.followed), (301, true, true));
    assert_eq!(slot.placed, Placed::Digest);
    assert_eq!(shown.place.unwrap().height, 1_234_567);
}

#[test]
fn the_first_and_the_last_slot_an_assignment_and_a_lone_item_are_proved() {
    let mut records = log(5, 100);
    records.push(signed(vec![9; 3], None));
    let carrier = close(records);
    let of = |index: usize| small(&carrier, carrier.records()[index].id()).verify().unwrap();
    let first = of(0).slot.unwrap();
    assert_eq!((first.slot, first.follows, first.followed), (0, true, true));
    let last = of(8).slot.unwrap();
    assert_eq!((last.slot, last.follows, last.followed), (4, true, false));
    let assignment = of(5);
    assert_eq!(assignment.slot.unwrap().assignment, assignment.id);
    assert_eq!(of(10).slot, None);
}

#[test]
fn no_flipped_bit_passes_and_behind_a_mended_checksum_only_the_blocks_claims_do() {
    let carrier = close(log(3, 40));
    let proof = small(&carrier, carrier.records()[2].id());
    let file = proof.encode();
    let shown = proof.verify().unwrap();
    let mut claims = 0;
    for bit in 0..file.len() * 8 {
        let mut bad = file.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let refused = Proof::read_verified(&bad.clone().into()).unwrap_err();
        assert!(!refused.place.is_empty() && !refused.why.is_empty());
        let body = bad.len() - 32;
        // A part that does not hold is refused with any checksum.
        if bit / 8 >= body || refused.place != "the file's checksum" {
            continue;
        }
        let sum = sha256(&bad[..body]);
        bad[body..].copy_from_slice(&sum);
        // Whoever can write the checksum anew can change what the proof marks as claimed, and nothing else.
        if let Ok((_, other)) = Proof::read_verified(&bad.into()) {
            let (mut other, mut shown) = (other, shown.clone());
            for shown in [&mut other, &mut shown] {
                let place = shown.place.as_mut().unwrap();
                (place.height, place.weave) = (0, (0, 0));
                place.block.clear();
            }
            assert_eq!(other, shown, "bit {bit} of byte {}", bit / 8);
            claims += 1;
        }
    }
    assert!(
        (448..=600).contains(&claims),
        "{claims} bits are the block's height, hash and end"
    );
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .unwrap()
}

#[test]
fn every_cut_is_refused_and_names_a_part() {
    let carrier = close(log(3, 40));
    let file = small(&carrier, carrier.records()[2].id()).encode();
    for end in 0..file.len() {
        let refused = Proof::read_verified(&file.slice(..end)).unwrap_err();
        assert!(refused.to_string().contains(": "), "{refused}");
    }
    let longer: Bytes = [&file[..], &[0]].concat().into();
    assert!(Proof::read_verified(&longer).is_err());
}

#[test]
fn parts_of_other_proofs_do_not_fit() {
    let carrier = close(log(6, 40));
    let id = |index: usize| carrier.records()[index].id();
    let (one, two) = (small(&carrier, id(4)), small(&carrier, id(8)));
    let with = |change: &dyn Fn(&mut Proof)| {
        let mut proof = one.clone();
        change(&mut proof);
        proof.verify().unwrap_err().to_string()
    };
    let says = |text: String, part: &str| assert!(text.contains(part), "{text}");
    says(
        with(&|p| p.assignment = two.assignment.clone()),
        "of another item",
    );
    says(with(&|p| p.previous = two.previous.clone()), "neighbouring slot");
    says(with(&|p| p.next = p.previous.clone()), "neighbouring slot");
    says(with(&|p| p.assignment = None), "its neighbours are there");
    says(with(&|p| p.subject.at = two.subject.at.clone()), "path");
    says(with(&|p| p.digest = None), "no digest");
    says(with(&|p| p.place = None), "missing");
    says(
        with(&|p| p.place.as_mut().unwrap().stretches.clear()),
        "does not end in the digest",
    );
    says(with(&|p| p.place.as_mut().unwrap().end += 1), "tx_path");
    let other = small(&close(log(7, 40)), id(2));
    says(
        with(&|p| p.carrier = other.carrier.clone()),
        "does not lead from the data root",
    );
    says(
        with(&|p| p.place = other.place.clone()),
        "does not lead from the data root",
    );
    says(with(&|p| p.digest = other.digest.clone()), "digest");
    let nowhere = with(&|p| {
        p.subject.at = None;
        p.assignment.as_mut().unwrap().at = None;
    });
    says(nowhere, "nothing shows where it lies");
}

#[test]
fn a_carrier_item_without_a_digest_is_tied_to_nothing() {
    let carrier = close(log(3, 40));
    let data = bundle(&carrier);
    let whole: Vec<usize> = Tree::of(&data)
        .chunks()
        .map(|chunk| chunk.start as usize)
        .collect();
    let (transaction, mut found) = place(&data, tags(&carrier), &whole);
    let parts = ItemParts {
        data: data.clone(),
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, &wallet()).unwrap();
    found.transaction = Some(transaction);
    let members = members(&carrier, carrier.records()[2].id(), true).unwrap();
    let mut subject = members.subject;
    subject.at.as_mut().unwrap().path = None;
    let mut proof = Proof {
        subject,
        assignment: None,
        previous: None,
        next: None,
        digest: Some(carrier.digest_item().clone()),
        carrier: Carried::Item {
            item: item.withhold(),
            tail: Tail::of(&data, data.len() - carrier.digest_item().bytes().len()),
        },
        place: Some(found),
    };
    proof.digest = None;
    let refused = proof.verify().unwrap_err().to_string();
    assert!(refused.contains("no digest ties"), "{refused}");
}

#[test]
fn a_look_alike_of_a_strangers_before_the_true_assignment_is_passed_over() {
    let mut records = log(3, 40);
    let (message, honest) = (records[2].clone(), Assignment::read(records[3].clone()).unwrap());
    let draft = Draft {
        process: honest.process,
        slot: 1,
        chain: honest.chain,
        tick: honest.tick,
        message: Some(message.id()),
        exclude: Vec::new(),
        notes: Vec::new(),
        anchor: [7; 32],
    };
    let stranger = draft.sign(&Signer::ed25519(&[9; 32])).unwrap();
    records.insert(0, stranger.item);
    let shown = small(&close(records), message.id()).verify().unwrap();
    assert_eq!(shown.slot.unwrap().assignment, honest.item.id());
}

#[test]
fn only_the_process_item_shows_whose_log_it_is() {
    let carrier = close(log(3, 40));
    let of = |index: usize| small(&carrier, carrier.records()[index].id()).verify().unwrap();
    assert!(!of(2).slot.unwrap().scheduler_named);
    // The log's process names nobody.
    assert!(!of(0).slot.unwrap().scheduler_named);
    let parts = ItemParts {
        tags: vec![Tag::new("Scheduler", scheduler().address().to_string())],
        ..ItemParts::default()
    };
    let spawn = DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).unwrap();
    let process = ProcessId::from(spawn.id());
    let assignment = assign(&spawn, 0, Chain::first(process), process).item;
    let id = spawn.id();
    let shown = small(&close(vec![spawn, assignment]), id).verify().unwrap();
    assert!(shown.slot.unwrap().scheduler_named);
}

/// The scheduler's key changed before the bundle was closed.
#[test]
fn whole_chunks_need_no_word_of_the_key_that_closed_the_bundle() {
    let draft = Segment {
        replaces: vec![],
        epoch: 0,
        sequence: 0,
        segment: 2,
        prev_segment: None,
        segment_sha256: [5; 32],
        data: Bytes::new(),
    };
    let carrier = Carrier::build(log(3, 40), &draft, &Signer::ed25519(&[3; 32])).unwrap();
    let data = bundle(&carrier);
    let whole: Vec<usize> = Tree::of(&data)
        .chunks()
        .map(|chunk| chunk.start as usize)
        .collect();
    let (transaction, found) = place(&data, tags(&carrier), &whole);
    let members = members(&carrier, carrier.records()[2].id(), true).unwrap();
    let proof = Proof {
        subject: members.subject,
        assignment: members.assignment,
        previous: members.previous,
        next: members.next,
        digest: Some(carrier.digest_item().clone()),
        carrier: Carried::Transaction(transaction),
        place: Some(found),
    };
    assert_eq!(proof.verify().unwrap().slot.unwrap().placed, Placed::Bytes);
}

#[test]
fn a_digest_by_another_key_than_the_schedulers_shows_nothing() {
    let draft = Segment {
        epoch: 0,
        sequence: 0,
        segment: 2,
        prev_segment: None,
        replaces: Vec::new(),
        segment_sha256: [5; 32],
        data: Bytes::new(),
    };
    let stranger = Carrier::build(log(3, 40), &draft, &Signer::ed25519(&[3; 32])).unwrap();
    let refused = small(&stranger, stranger.records()[2].id()).verify().unwrap_err();
    assert!(
        refused.to_string().contains("not signed by the scheduler"),
        "{refused}"
    );
}

#[test]
fn whole_chunks_show_the_bytes_themselves_and_long_items_go_by_their_heads() {
    let mut records = log(3, 60 << 10);
    records.extend((0..6).map(|n| signed(vec![n; 100_000], None)));
    let carrier = close(records);
    let data = bundle(&carrier);
    let id = carrier.records()[2].id();
    let head = small(&carrier, id);
    assert!(matches!(head.subject.body, Body::Head(_)));
    let shown = head.verify().unwrap();
    assert_eq!((shown.placed, shown.has_data), (Placed::Digest, false));
    assert!(head.encode().len() < 16 << 10);

    let starts: Vec<usize> = Tree::of(&data)
        .chunks()
        .map(|chunk| chunk.start as usize)
        .collect();
    assert!(starts.len() > 2);
    let (transaction, place) = place(&data, tags(&carrier), &starts);
    let found = members(&carrier, id, true).unwrap();
    let mut full = Proof {
        subject: found.subject,
        assignment: found.assignment,
        carrier: Carried::Transaction(transaction),
        place: Some(place),
        ..head
    };
    let shown = full.verify().unwrap();
    assert_eq!(
        (shown.placed, shown.slot.unwrap().placed),
        (Placed::Bytes, Placed::Bytes)
    );
    // Without the digest, as for anybody's bundle, the chunks alone must show it.
    let mut anybodys = full.clone();
    anybodys.digest = None;
    for member in [&mut anybodys.subject, anybodys.assignment.as_mut().unwrap()] {
        member.at.as_mut().unwrap().path = None;
    }
    (anybodys.previous, anybodys.next) = (None, None);
    assert_eq!(anybodys.verify().unwrap().placed, Placed::Bytes);
    anybodys.subject.at.as_mut().unwrap().offset += 1;
    assert!(anybodys.verify().unwrap_err().to_string().contains("other bytes"));
    // A state of one's own before a chunk said to be whole.
    let stretch = &mut full.place.as_mut().unwrap().stretches[0];
    stretch.state = spec::proof::Sha256State::from_bytes(&[1; 32]);
    assert!(full.verify().is_err());
}

/// What a bundler posts: our carrier item between others.
fn nested(carrier: &Carrier) -> (DataItem, Bytes, u64) {
    let parts = ItemParts {
        tags: tags(carrier),
        data: bundle(carrier),
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, &wallet()).unwrap();
    let items = [
        signed(vec![1; 300_000], None),
        item.clone(),
        signed(vec![2; 5_000], None),
    ];
    let data = Bundle::encode(&items);
    let base = Bundle::table_len(3) + (items[0].bytes().len() + item.bytes().len() - parts.data.len()) as u64;
    (item, data, base)
}

#[test]
fn through_a_bundler_the_carrier_items_signature_binds_the_digest_and_chunks_the_place() {
    let carrier = close(log(4, 200));
    let (item, data, base) = nested(&carrier);
    let own = bundle(&carrier);
    let digest_at = own.len() - carrier.digest_item().bytes().len();
    let found = members(&carrier, carrier.records()[4].id(), false).unwrap();
    let promised = Proof {
        subject: found.subject,
        assignment: found.assignment,
        previous: found.previous,
        next: found.next,
        digest: Some(carrier.digest_item().clone()),
        carrier: Carried::Item {
            item: item.withhold(),
            tail: Tail::of(&own, digest_at),
        },
        place: None,
    };
    let file = promised.encode();
    let (_, shown) = Proof::read_verified(&file).unwrap();
    assert!(shown.by_bundler && shown.place.is_none());
    assert!(file.len() < 16 << 10, "{} bytes", file.len());
    for bit in (0..file.len() * 8).step_by(3) {
        let mut bad = file.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let body = bad.len() - 32;
        let sum = sha256(&bad[..body]);
        bad[body..].copy_from_slice(&sum);
        assert!(
            bit / 8 >= body || Proof::read_verified(&bad.into()).is_err(),
            "bit {bit}"
        );
    }
    let (root, at) = place(&data, Vec::new(), &[base as usize + digest_at]);
    let placed = Proof {
        place: Some(Place {
            transaction: Some(root),
            base,
            ..at
        }),
        ..promised
    };
    let shown = placed.verify().unwrap();
    assert_eq!(shown.place.unwrap().data_size, data.len() as u64);
    let mut moved = placed;
    moved.place.as_mut().unwrap().base -= 1;
    assert!(moved.verify().is_err());
}

#[test]
fn a_withheld_message_is_proved_by_what_is_left_of_it() {
    let mut records = log(4, 200);
    let id = records[4].id();
    records[4] = carrier::wrap(&records[4].withhold(), &scheduler()).unwrap();
    let carrier = close(records);
    let shown = small(&carrier, id).verify().unwrap();
    assert_eq!((shown.id, shown.has_data), (id, false));
    assert_eq!(shown.slot.unwrap().slot, 2);
}

/// `WEFT_BLESS=1` writes the vector anew: only together with a new version of the format.
#[test]
fn the_vector_of_version_1_is_read_and_written_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/proof_v1.bin");
    let carrier = close(log(5, 200));
    let made = small(&carrier, carrier.records()[4].id()).encode();
    if std::env::var_os("WEFT_BLESS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let file = Bytes::from(std::fs::read(path).unwrap());
    let (proof, shown) = Proof::read_verified(&file).unwrap();
    assert_eq!(proof.encode(), file);
    assert_eq!(shown.id, carrier.records()[4].id());
    assert_eq!(made, file, "keys, times and layout are fixed");
}
