//! Sealed segments: what is known of them, taking them apart and putting them together, and the spool's bound.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use spec::contract::Class;
use spec::{DataItem, ItemParts, Signer, Tag};
use weave::skeleton::{self, Unfit};
use weave::{Config, Error, Log, Note, NoteKind, Record};

fn item(n: u64, len: usize) -> Record {
    let parts = ItemParts {
        tags: vec![Tag::new("N", n.to_string())],
        data: vec![n as u8; len].into(),
        ..ItemParts::default()
    };
    Record::Item(DataItem::sign(&parts, &Signer::ed25519(&[7; 32])).unwrap())
}

fn note() -> Record {
    let (kind, body) = (NoteKind::SCHEDULER, Bytes::from_static(b"told"));
    Record::Note(Note { kind, body })
}

fn node() -> Signer {
    Signer::ed25519(&[2; 32])
}

/// As it goes into a bundle.
fn bundled(record: &Record) -> DataItem {
    match record {
        Record::Item(item) => item.clone(),
        Record::Withheld(withheld) => spec::carrier::wrap(withheld, &node()).unwrap(),
        Record::Note(_) => panic!("a note is in the skeleton"),
    }
}

fn open(folder: &Path) -> Log {
    Log::open(&Config::default(), folder).unwrap()
}

/// A sealed segment with every kind of frame.
fn sealed(folder: &Path) -> Log {
    let log = open(folder);
    let Record::Item(early) = item(90, 700) else {
        panic!("an item")
    };
    let positions = log
        .append(vec![note(), item(1, 100), item(2, 3_000)], Class::Permanent)
        .wait()
        .unwrap();
    log.append(vec![item(3, 0)], Class::Local).wait().unwrap();
    log.append(
        vec![Record::Withheld(early.withhold()), item(4, 10)],
        Class::Permanent,
    )
    .wait()
    .unwrap();
    log.withhold(positions[1]).unwrap();
    log
}

#[test]
fn a_sealed_segment_taken_apart_is_put_together_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let log = sealed(folder.path());
    let known = log.permanent_from(0).remove(0);
    assert!(known.is_sealed, "withholding seals");
    let parts = skeleton::take(&known.segment).unwrap();
    let file = fs::read(known.segment.path()).unwrap();
    assert_eq!(parts.records.len(), 4);
    assert_eq!(parts.file_len, file.len() as u64);
    assert_eq!(parts.sha256, skeleton::sha256(&known.segment).unwrap());
    let records: Vec<DataItem> = parts.records.iter().map(bundled).collect();
    let put = |skeleton: &[u8], records: &[DataItem]| -> Result<Vec<u8>, Unfit> {
        let mut out = Vec::new();
        let skeleton = Bytes::copy_from_slice(skeleton);
        skeleton::put(&skeleton, records, node().owner(), |bytes| {
            out.extend_from_slice(bytes)
        })?;
        Ok(out)
    };
    assert_eq!(put(&parts.skeleton, &records).unwrap(), file);

    assert!(put(&parts.skeleton, &records[1..]).is_err());
    let more = [&records[..], &records[..1]].concat();
    assert!(put(&parts.skeleton, &more).is_err());
    for cut in 0..parts.skeleton.len() {
        // What is missing of the footer, the file's hash tells.
        assert_ne!(
            put(&parts.skeleton[..cut], &records).ok(),
            Some(file.clone()),
            "cut at {cut}"
        );
    }
}

#[test]
fn what_is_known_of_segments_is_the_same_after_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let log = sealed(folder.path());
    log.append(vec![note(), item(5, 100), item(6, 100)], Class::Permanent)
        .wait()
        .unwrap();
    let known = |log: &Log| -> Vec<(u64, bool, u64)> {
        let all = log.permanent_from(0).into_iter();
        all.map(|known| (known.segment.head().number, known.is_sealed, known.bytes))
            .collect()
    };
    let (before, spool) = (known(&log), log.spool());
    assert_eq!(before.len(), 2);
    assert_eq!((before[0].1, before[1].1), (true, false));
    assert_eq!(log.permanent_from(0)[1].items, Some(2));
    assert_eq!(spool.bytes, before[0].2 + before[1].2);
    drop(log);
    let log = open(folder.path());
    assert_eq!((known(&log), log.spool()), (before.clone(), spool));
    assert_eq!(log.permanent_from(0)[1].items, Some(2));
    assert_eq!(log.permanent_from(before[1].0).len(), 1);
}

#[test]
fn at_its_bound_the_spool_refuses_and_what_settles_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let append = |class| log.append(vec![item(1, 1_000)], class).wait();
    append(Class::Permanent).unwrap();
    log.seal(Class::Permanent).unwrap();
    let first = log.permanent_from(0)[0].segment.head().number;
    assert_eq!(log.spool().bytes_max, None);
    let bytes = log.spool().bytes;
    log.bound_spool(3 * bytes, |_| false);
    append(Class::Permanent).unwrap();
    append(Class::Permanent).unwrap();
    for _ in 0..3 {
        assert!(matches!(
            append(Class::Permanent),
            Err(Error::Busy("spool_bytes_max"))
        ));
    }
    append(Class::Local).unwrap();
    log.set_settled(first, true);
    append(Class::Permanent).unwrap();
    assert!(append(Class::Permanent).is_err());
    log.set_settled(first, false);
    assert_eq!(log.spool().bytes, 4 * bytes);
    log.bound_spool(3 * bytes, |number| number == first);
    assert_eq!(log.spool().bytes, 3 * bytes);
}
