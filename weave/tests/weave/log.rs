//! The log's promises: order, groups whole or not at all, torn tails, damage, withholding.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use spec::contract::Class;
use spec::{Bundle, DataItem, ItemParts, Signer, Tag};
use weave::log::Clock;
use weave::{Config, Error, Log, Note, NoteKind, Position, Record};

fn item(n: u64, len: usize) -> DataItem {
    let parts = ItemParts {
        tags: vec![Tag::new("N", n.to_string())],
        data: vec![n as u8; len].into(),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&[7; 32])).unwrap()
}

fn group(from: u64, len: usize) -> Vec<Record> {
    (from..from + 3).map(|n| Record::Item(item(n, len))).collect()
}

fn note(text: &'static str) -> Record {
    let body = Bytes::from_static(text.as_bytes());
    Record::Note(Note {
        kind: NoteKind::NODE,
        body,
    })
}

fn open(folder: &Path) -> Log {
    Log::open(&Config::default(), folder).unwrap()
}

/// What the log holds, as comparable bytes.
fn dump(log: &Log) -> Vec<(Position, Bytes)> {
    log.replay(None)
        .map(|entry| {
            let (position, record) = entry.unwrap();
            let bytes = match record {
                Record::Item(item) => item.bytes().clone(),
                Record::Withheld(withheld) => withheld.encode(),
                Record::Note(note) => note.body,
            };
            (position, bytes)
        })
        .collect()
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

#[test]
fn what_was_appended_is_read_replayed_and_found_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    assert_eq!(log.end(), None);
    let mut positions = log.append(group(1, 10), Class::Permanent).wait().unwrap();
    positions.extend(log.append(vec![note("a decision")], Class::Local).wait().unwrap());
    positions.extend(log.append(group(4, 5_000), Class::Permanent).wait().unwrap());
    assert!(positions.is_sorted());
    let before = dump(&log);
    assert_eq!(before.iter().map(|entry| entry.0).collect::<Vec<_>>(), positions);
    assert_eq!(log.read(positions[5]).unwrap().item(), Some(&item(5, 5_000)));
    assert!(log.read(positions[0]).unwrap().item().unwrap().is_verified());
    drop(log);

    let log = open(folder.path());
    assert_eq!(dump(&log), before);
    assert_eq!(log.end(), positions.last().copied());
    for (index, position) in positions.iter().enumerate() {
        let after: Vec<_> = log
            .replay(Some(*position))
            .map(|entry| entry.unwrap().0)
            .collect();
        assert_eq!(after, positions[index + 1..]);
    }
    let more = log.append(group(9, 1), Class::Permanent).wait().unwrap();
    assert!(more[0] > positions[6]);
    assert!(matches!(
        log.read(Position::from_number(1 << 40)),
        Err(Error::NoRecord(_))
    ));
}

#[test]
fn a_torn_last_group_is_cut_off_at_every_byte_and_nothing_else_is_lost() {
    let source = tempfile::tempdir().unwrap();
    let log = open(source.path());
    log.append(group(1, 30), Class::Local).wait().unwrap();
    let kept = dump(&log);
    drop(log);
    let whole_before = fs::read(only_file(source.path())).unwrap().len();
    let log = open(source.path());
    log.append(vec![Record::Item(item(4, 30)), note("end")], Class::Local)
        .wait()
        .unwrap();
    let all = dump(&log);
    drop(log);
    let bytes = fs::read(only_file(source.path())).unwrap();
    let name = only_file(source.path()).file_name().unwrap().to_owned();

    for cut in whole_before..=bytes.len() {
        let folder = tempfile::tempdir().unwrap();
        // What a crash leaves in reserved space: a prefix, then zeros.
        let mut torn = bytes[..cut].to_vec();
        torn.resize(bytes.len() + 100, 0);
        fs::write(folder.path().join(&name), torn).unwrap();
        let log = open(folder.path());
        let expected = if cut == bytes.len() { &all } else { &kept };
        // The very last bytes may be zeros of their own; then the group is whole already.
        let found = dump(&log);
        assert!(
            &found == expected || (found == all && bytes[cut..].iter().all(|b| *b == 0)),
            "cut at {cut}"
        );
        log.append(vec![note("goes on")], Class::Local).wait().unwrap();
        drop(log);
        assert_eq!(dump(&open(folder.path())).len(), found.len() + 1, "cut at {cut}");
    }
}

#[test]
fn a_broken_record_before_a_later_batch_is_refused_with_its_place() {
    let source = tempfile::tempdir().unwrap();
    let log = open(source.path());
    for n in 0..3 {
        log.append(group(3 * n, 30), Class::Local).wait().unwrap();
    }
    drop(log);
    let file = only_file(source.path());
    let bytes = fs::read(&file).unwrap();
    let group_len = (bytes.len() - 64) / 3;
    for at in (64..64 + 2 * group_len).step_by(7) {
        let mut broken = bytes.clone();
        broken[at] ^= 0x40;
        fs::write(&file, broken).unwrap();
        let error = Log::open(&Config::default(), source.path()).unwrap_err();
        let Error::Corrupt {
            path, offset, remedy, ..
        } = error
        else {
            panic!("{error} at {at}")
        };
        assert_eq!(path, file);
        assert_eq!(offset, (64 + (at - 64) / group_len * group_len) as u64);
        assert!(remedy.contains("backup"));
    }
    // In the last batch the same damage cannot be told from a torn write.
    let mut broken = bytes.clone();
    broken[64 + 2 * group_len + 80] ^= 0x40;
    fs::write(&file, broken).unwrap();
    assert_eq!(dump(&open(source.path())).len(), 6);
}

#[test]
fn an_item_cannot_pass_for_a_later_group() {
    // Somebody who has seen a segment puts its groups into an item; then that item is torn.
    let seen = tempfile::tempdir().unwrap();
    let log = open(seen.path());
    log.append(group(1, 30), Class::Local).wait().unwrap();
    log.append(group(4, 30), Class::Local).wait().unwrap();
    drop(log);
    let planted = fs::read(only_file(seen.path())).unwrap()[64..].to_vec();

    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let parts = ItemParts {
        data: [planted.clone(), planted].concat().into(),
        ..ItemParts::default()
    };
    let bad = DataItem::sign(&parts, &Signer::ed25519(&[8; 32])).unwrap();
    log.append(vec![Record::Item(bad)], Class::Local).wait().unwrap();
    drop(log);
    let file = only_file(folder.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[64 + 80] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(dump(&open(folder.path())), vec![]);
}

#[test]
fn segments_are_sealed_at_their_size_and_are_the_bodies_of_bundles() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        segment_bytes_max: 4_000,
        seal_bytes_max: 4_000,
        preallocate_bytes: 1_000,
        ..Config::default()
    };
    let log = Log::open(&config, folder.path()).unwrap();
    for n in 0..20 {
        let class = [Class::Local, Class::Permanent][n as usize % 2];
        let mut records = group(3 * n, 100);
        records.push(note("between"));
        log.append(records, class).wait().unwrap();
    }
    let before = dump(&log);
    assert_eq!(before.len(), 80);
    log.seal(Class::Local).unwrap();
    log.seal(Class::Permanent).unwrap();
    let mut items = 0;
    for segment in log.segments() {
        let content = segment.footer().unwrap().expect("sealed");
        let mut bundle = segment.bundle_table(&content).unwrap().to_vec();
        let body = segment.items(&content).unwrap();
        body.iter()
            .for_each(|item| bundle.extend_from_slice(item.bytes()));
        let parsed = Bundle::parse(&bundle.into()).unwrap();
        assert_eq!(parsed.items, body);
        assert!(body.iter().all(|item| item.verify().is_ok()));
        items += body.len();
    }
    assert_eq!(items, 60);
    assert!(log.segments().len() >= 4);
    drop(log);
    assert_eq!(dump(&Log::open(&config, folder.path()).unwrap()), before);
}

#[test]
fn a_lost_footer_is_written_again_and_a_lost_segment_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    for n in 0..3 {
        log.append(group(3 * n, 100), Class::Local).wait().unwrap();
        log.seal(Class::Local).unwrap();
    }
    let before = dump(&log);
    let end = log.segments()[0].footer().unwrap().unwrap().end;
    drop(log);
    let first = folder.path().join("00000001-local.seg");
    let bytes = fs::read(&first).unwrap();
    for cut in end as usize..bytes.len() {
        fs::write(&first, &bytes[..cut]).unwrap();
        let opened = Log::open(&Config::default(), folder.path());
        // Part of the footer's own name may be missing: then it reads as damage.
        if let Ok(log) = opened {
            assert_eq!(dump(&log), before, "cut at {cut}");
            assert!(log.segments()[0].footer().unwrap().is_some());
        } else {
            assert!((1..8).contains(&(cut - end as usize)), "cut at {cut}");
        }
    }
    fs::write(&first, &bytes[..end as usize]).unwrap();
    let log = open(folder.path());
    log.append(vec![note("goes into a new one")], Class::Local)
        .wait()
        .unwrap();
    drop(log);
    assert_eq!(dump(&open(folder.path()))[..9], before);
    assert_eq!(fs::read(&first).unwrap(), bytes);
    fs::remove_file(folder.path().join("00000002-local.seg")).unwrap();
    let error = Log::open(&Config::default(), folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("segment 00000002 is missing"),
        "{error}"
    );
}

#[test]
fn withheld_data_is_gone_from_disk_and_the_item_still_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let secret = DataItem::sign(
        &ItemParts {
            data: Bytes::from_static(b"the secret that must not stay on this disk"),
            ..ItemParts::default()
        },
        &Signer::ed25519(&[1; 32]),
    )
    .unwrap();
    let mut records = group(1, 40);
    records.insert(1, Record::Item(secret.clone()));
    // Shorter than what replaces it, too.
    records.push(Record::Item(item(50, 1)));
    let positions = log.append(records, Class::Permanent).wait().unwrap();
    log.append(group(10, 40), Class::Permanent).wait().unwrap();
    let before = dump(&log);

    log.withhold(positions[1]).unwrap();
    log.withhold(positions[4]).unwrap();
    log.withhold(positions[4]).unwrap();
    let check = |log: &Log| {
        let Record::Withheld(withheld) = log.read(positions[1]).unwrap() else {
            panic!("still whole")
        };
        assert_eq!(withheld.id(), secret.id());
        withheld.verify().unwrap();
        let after = dump(log);
        let kept = |entries: &[(Position, Bytes)]| {
            let kept = entries
                .iter()
                .filter(|entry| entry.0 != positions[1] && entry.0 != positions[4]);
            kept.cloned().collect::<Vec<_>>()
        };
        assert_eq!(kept(&after), kept(&before));
        assert_eq!(after.len(), before.len());
        for (position, _) in &after {
            log.read(*position).unwrap();
            assert_eq!(
                log.replay(Some(*position)).count(),
                after.iter().filter(|entry| entry.0 > *position).count()
            );
        }
    };
    check(&log);
    let more = log.append(group(20, 1), Class::Permanent).wait().unwrap();
    assert!(more[0] > before.last().unwrap().0);
    drop(log);
    for file in fs::read_dir(folder.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(10).any(|part| part == b"the secret"));
    }
    let log = open(folder.path());
    let after: Vec<_> = dump(&log);
    assert_eq!(after.len(), before.len() + 3);
    let Record::Withheld(withheld) = log.read(positions[4]).unwrap() else {
        panic!("still whole")
    };
    withheld.verify().unwrap();
    assert!(
        log.withhold(Position::from_number(3)).is_err(),
        "no record begins there"
    );
}

#[test]
fn concurrent_appenders_lose_and_mix_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(folder.path()));
    let threads: Vec<_> = (0..8u64)
        .map(|thread| {
            let log = log.clone();
            std::thread::spawn(move || {
                let mut last = None;
                for n in 0..40 {
                    let class = [Class::Local, Class::Permanent][n as usize % 2];
                    let positions = log
                        .append(group(1000 * thread + 3 * n, 20), class)
                        .wait()
                        .unwrap();
                    assert!(positions.is_sorted() && Some(positions[0]) > last);
                    last = positions.last().copied();
                    assert!(log.end() >= last);
                    assert_eq!(log.read(positions[1]).unwrap().item().unwrap().data().len(), 20);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let all = dump(&log);
    assert_eq!(all.len(), 8 * 40 * 3);
    assert!(all.is_sorted_by(|a, b| a.0 < b.0));
    drop(log);
    assert_eq!(dump(&open(folder.path())), all);
}

#[test]
fn what_is_too_large_or_too_much_is_refused_and_stores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        record_bytes_max: 1_000,
        group_records_max: 4,
        queue_bytes_max: 2_000,
        ..Config::default()
    };
    let log = Log::open(&config, folder.path()).unwrap();
    let large = log
        .append(vec![Record::Item(item(1, 2_000))], Class::Local)
        .wait();
    assert!(matches!(large, Err(Error::Limit { limit: 1_000, .. })));
    let many = (0..5).map(|n| Record::Item(item(n, 1))).collect();
    assert!(matches!(
        log.append(many, Class::Local).wait(),
        Err(Error::Limit { limit: 4, .. })
    ));
    assert_eq!(log.append(Vec::new(), Class::Local).wait().unwrap(), vec![]);
    assert_eq!(log.end(), None);
    log.append(group(1, 1), Class::Local).wait().unwrap();
    assert_eq!(dump(&log).len(), 3);
}

#[test]
fn a_disk_without_room_to_reserve_ahead_still_takes_what_fits() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        preallocate_bytes: 1 << 55,
        ..Config::default()
    };
    let log = Log::open(&config, folder.path()).unwrap();
    for n in 0..3 {
        log.append(group(3 * n, 30), Class::Local).wait().unwrap();
    }
    let all = dump(&log);
    assert_eq!(all.len(), 9);
    drop(log);
    assert_eq!(dump(&open(folder.path())), all);
}

#[test]
fn time_never_runs_backwards_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(5_000));
    let clock: Clock = Arc::new({
        let now = now.clone();
        move || now.load(Ordering::Relaxed)
    });
    let log = Log::open_with(&Config::default(), folder.path(), clock.clone(), None).unwrap();
    log.append(vec![note("a")], Class::Local).wait().unwrap();
    now.store(4_000, Ordering::Relaxed);
    log.append(vec![note("b")], Class::Permanent).wait().unwrap();
    drop(log);
    let log = Log::open_with(&Config::default(), folder.path(), clock, None).unwrap();
    log.append(vec![note("c")], Class::Permanent).wait().unwrap();
    let times: Vec<_> = log.entries(None).map(|entry| entry.unwrap().time_ms).collect();
    assert_eq!(times, [5_000, 5_000, 5_000]);
}

#[test]
fn a_newer_segment_and_a_foreign_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    log.append(vec![note("a")], Class::Local).wait().unwrap();
    drop(log);
    let file = only_file(folder.path());
    let bytes = fs::read(&file).unwrap();
    let mut newer = bytes.clone();
    newer[8] = 2;
    fs::write(&file, newer).unwrap();
    let error = Log::open(&Config::default(), folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    fs::write(
        &file,
        b"something else altogether, long enough to be a segment's head, yes",
    )
    .unwrap();
    let error = Log::open(&Config::default(), folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("does not begin like a segment"),
        "{error}"
    );
}

#[test]
fn a_prefix_of_any_length_opens_with_whole_groups_only() {
    // A crash at any moment, for a file system that keeps a prefix of what was written.
    let source = tempfile::tempdir().unwrap();
    let log = open(source.path());
    for n in 0..4 {
        log.append(group(3 * n, 15), Class::Local).wait().unwrap();
    }
    let all = dump(&log);
    drop(log);
    let file = only_file(source.path());
    let bytes = fs::read(&file).unwrap();
    let name = file.file_name().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for cut in (64..bytes.len()).step_by(11) {
        fs::write(folder.path().join(name), &bytes[..cut]).unwrap();
        let found = dump(&open(folder.path()));
        assert_eq!(found.len() % 3, 0, "cut at {cut}");
        assert_eq!(found, all[..found.len()]);
    }
}

#[test]
fn a_segment_of_version_1_is_read() {
    let vector = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/segment_v1.seg");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(vector, folder.path().join("00000001-permanent.seg")).unwrap();
    let log = open(folder.path());
    let records: Vec<_> = log.entries(None).map(Result::unwrap).collect();
    assert_eq!(records.len(), 4);
    assert!(
        records
            .iter()
            .all(|entry| entry.class == Class::Permanent && entry.time_ms == 1_700_000_000_000)
    );
    assert_eq!(records[0].record.item(), Some(&item(1, 20)));
    assert_eq!(
        records[1].record.note().map(|note| (note.kind, &note.body[..])),
        Some((NoteKind::NODE, &b"a note"[..]))
    );
    for entry in &records[2..] {
        let Record::Withheld(withheld) = &entry.record else {
            panic!("not withheld")
        };
        withheld.verify().unwrap();
    }
    // One was appended without its data, the other lost it later: its place is what it was before.
    assert_eq!(records[2].record.id(), Some(item(2, 300).id()));
    assert_eq!(records[3].record.id(), Some(item(3, 400).id()));
    let end = records[3].position.number() + 20 + item(3, 400).bytes().len() as u64;
    let more = log.append(vec![note("more")], Class::Permanent).wait().unwrap();
    assert_eq!(more[0].number(), end + 72);
}

/// Writes the vector anew; only for a new version.
#[test]
#[ignore = "makes the vector that the test above reads"]
fn make_the_vector() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Clock = Arc::new(|| 1_700_000_000_000);
    let log = Log::open_with(&Config::default(), folder.path(), clock, None).unwrap();
    let withheld = Record::Withheld(item(2, 300).withhold());
    log.append(vec![Record::Item(item(1, 20)), note("a note")], Class::Permanent)
        .wait()
        .unwrap();
    let last = vec![withheld, Record::Item(item(3, 400))];
    let positions = log.append(last, Class::Permanent).wait().unwrap();
    log.withhold(positions[1]).unwrap();
    drop(log);
    let vector = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/segment_v1.seg");
    fs::copy(only_file(folder.path()), vector).unwrap();
}
