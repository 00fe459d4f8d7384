//! A log comes back byte for byte, and nothing that a gateway says can make it another one.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod branches;
mod insider;
mod liar;
mod world;

use std::sync::Arc;

use super::find::{find, wallets_of};
use super::{Collector, Error, Inspector, Meter, Staged, Staging};
use crate::chain::Chain;
use crate::config::Config;
use crate::log::{Log, system_clock};
use crate::testing::{Fault, Faults};
use crate::upload::Ledger;
use crate::upload::note::Told;
use world::{Anything, GENESIS_MS, World, rebuild};

fn chain() -> Chain {
    Chain::new(GENESIS_MS, 10_000, system_clock())
}

#[tokio::test]
async fn a_log_comes_back_byte_for_byte_from_plain_nodes() {
    let world = World::new(4, Faults::none());
    let folder = tempfile::tempdir().unwrap();
    let sources = world.sources(&[0, 1]);
    let numbers = rebuild(&sources, world.wallet, folder.path()).await.unwrap();
    assert_eq!(numbers, world.numbers());
    world.assert_same(folder.path());
    let log = Log::open(&Config::default(), &folder.path().join("log")).unwrap();
    assert_eq!(
        Chain::open(&log, 1, system_clock()).unwrap().describe(),
        chain().describe()
    );
    let ids = |log: &Log| {
        log.replay(None)
            .filter_map(|one| one.unwrap().1.id())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&log), world.ids, "every item, in the order of its appending");
    let mut ledger = Ledger::default();
    for entry in log.entries(None).map(Result::unwrap) {
        if let Some(told) = entry.record.note().and_then(|note| Told::read(note).unwrap()) {
            ledger.apply(entry.position, entry.time_ms, &told).unwrap();
        }
    }
    assert_eq!(ledger.next_sequence(), 4, "the uploader knows what was carried");
    assert_eq!(ledger.next_segment(), world.numbers()[3] + 1);
    for at in world.positions.iter().zip(&world.ids) {
        assert_eq!(
            log.read(*at.0).unwrap().id().as_ref(),
            Some(at.1),
            "positions stay valid"
        );
    }
}

#[tokio::test]
async fn a_bundlers_carriers_come_back_too_and_a_process_leads_to_its_wallet() {
    let world = World::by_bundler(3);
    let folder = tempfile::tempdir().unwrap();
    let sources = world.sources(&[0]);
    let account = world.publisher.item_address();
    assert_eq!(wallets_of(&sources, world.process).await.unwrap(), [account]);
    rebuild(&sources, account, folder.path()).await.unwrap();
    world.assert_same(folder.path());
    let plain = World::new(2, Faults::none());
    assert_eq!(
        wallets_of(&plain.sources(&[2]), plain.process).await.unwrap(),
        [plain.wallet]
    );
}

/// A secp256k1 key signs transactions under one account and items under another; either leads to both.
#[tokio::test]
async fn a_keys_transactions_lead_to_its_items() {
    let world = World::by_both(4);
    assert_ne!(world.wallet, world.publisher.item_address());
    let folder = tempfile::tempdir().unwrap();
    rebuild(&world.sources(&[0]), world.wallet, folder.path())
        .await
        .unwrap();
    world.assert_same(folder.path());
}

/// A node may post by one wallet and later by another; each has to be named, and a stranger's is never taken in.
#[tokio::test]
async fn a_log_that_two_wallets_posted_comes_back_when_both_are_named() {
    let world = World::by_two_wallets(4);
    let [first, second] = [world.wallet, world.publisher.address()];
    assert_ne!(first, second);
    let sources = world.sources(&[0, 1]);
    let find = |wallets: &'static [usize]| {
        let wallets: Vec<_> = wallets.iter().map(|one| [first, second][*one]).collect();
        let sources = sources.clone();
        async move { find(&sources, &wallets).await }
    };
    for (wallets, is_short) in [(&[1][..], true), (&[0, 1][..], false), (&[1, 0][..], false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut found = find(wallets).await.unwrap();
        let (staging, _) = Staging::open(folder.path(), "w").unwrap();
        let staging = Arc::new(staging);
        let collector = Collector::new(sources.clone(), staging.clone(), Anything, Arc::default());
        match (collector.run(&mut found).await, is_short) {
            (Ok(segments), false) => {
                let numbers: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
                assert_eq!(numbers, world.numbers());
                staging.place(&numbers, &chain(), Vec::new()).unwrap();
                world.assert_same(folder.path());
            }
            (Err(error), true) => {
                let told = error.to_string();
                assert!(told.contains("which another wallet signed"), "{told}");
                assert!(told.contains("--wallet"), "{told}");
            }
            (done, _) => panic!("{wallets:?}: {:?}", done.map(|segments| segments.len())),
        }
    }
}

#[tokio::test]
async fn faults_of_every_kind_are_worked_around() {
    for seed in 0..12 {
        let mut faults = Faults::none()
            .with(Fault::Lie, 300)
            .with(Fault::Truncate, 200)
            .with(Fault::TooMany, 200)
            .with(Fault::Unavailable, 200);
        faults.seed = seed;
        let world = World::new(3, faults);
        let folder = tempfile::tempdir().unwrap();
        // Which gateways are so bad changes by seed; with more rounds than usual the truth comes through.
        let done = rebuild(&world.sources(&[0, 1, 2]), world.wallet, folder.path()).await;
        match done {
            Ok(_) => world.assert_same(folder.path()),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_rebuild_goes_on_from_what_was_kept() {
    let world = World::new(4, Faults::none());
    let folder = tempfile::tempdir().unwrap();
    let sources = world.sources(&[0]);
    let mut found = find(&sources, &[world.wallet]).await.unwrap();
    // As if it had been killed: two segments are kept, a third is half written.
    let (staging, staged) = Staging::open(folder.path(), "w").unwrap();
    assert_eq!(staged, Staged::Segments(0));
    let meter = Arc::new(Meter::default());
    let collector = Collector::new(sources.clone(), Arc::new(staging), Anything, meter);
    let segments = collector.run(&mut found).await.unwrap();
    drop(collector);
    let log = folder.path().join("rebuild/log");
    let victim = log.join(format!("{:08}-permanent.seg", segments[1].number));
    std::fs::write(&victim, &std::fs::read(&victim).unwrap()[..100]).unwrap();
    std::fs::remove_file(log.join(format!("{:08}.items", segments[2].number))).unwrap();
    std::fs::write(log.join("00000009-local.seg"), b"half").unwrap();
    std::fs::write(log.join("x.new"), b"half").unwrap();

    let refused = Staging::open(folder.path(), "another").unwrap_err();
    assert!(matches!(refused, Error::Other { .. }), "{refused}");
    let (staging, staged) = Staging::open(folder.path(), "w").unwrap();
    assert_eq!(
        staged,
        Staged::Segments(3),
        "two whole ones, and one whose file is cut off"
    );
    let meter = Arc::new(Meter::default());
    let staging = Arc::new(staging);
    let collector = Collector::new(sources, staging.clone(), Anything, meter.clone());
    let again = collector.run(&mut found).await.unwrap();
    let verified = meter.items.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        verified,
        segments[1].summary + segments[2].summary,
        "only those two were fetched again"
    );
    let numbers: Vec<u64> = again.iter().map(|segment| segment.number).collect();
    staging.place(&numbers, &chain(), Vec::new()).unwrap();
    world.assert_same(folder.path());
    drop((collector, staging));
    assert_eq!(Staging::open(folder.path(), "w").unwrap().1, Staged::Log);
    assert!(!Staging::is_unfinished(folder.path()));
    let (staging, _) = Staging::open(folder.path(), "w").unwrap();
    staging.finish().unwrap();
    let refused = Staging::open(folder.path(), "w").unwrap_err().to_string();
    assert!(refused.contains("log"), "{refused}");
}

/// Carriers of two histories may bring a segment of one number at the same time.
#[tokio::test]
async fn a_number_is_kept_by_several_at_once() {
    let world = World::new(1, Faults::none());
    let folder = tempfile::tempdir().unwrap();
    let sources = world.sources(&[0]);
    let mut found = find(&sources, &[world.wallet]).await.unwrap();
    let staging = Arc::new(Staging::open(folder.path(), "w").unwrap().0);
    let collector = Collector::new(sources, staging.clone(), Anything, Arc::default());
    let segments = collector.run(&mut found).await.unwrap();
    let kept = || staging.read(segments[0].segment_item).unwrap().unwrap();
    let checked = kept();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| staging.keep(&checked, &[]).unwrap()));
        }
    });
    assert_eq!(kept().file, checked.file);
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_takes_the_logs_place() {
    let world = World::new(3, Faults::none());
    let folder = tempfile::tempdir().unwrap();
    let sources = world.sources(&[0]);
    let other = spec::Address([9; 32]);
    let nothing = rebuild(&sources, other, folder.path()).await.unwrap_err();
    assert!(matches!(nothing, Error::Nothing { .. }), "{nothing}");
    // A mistyped wallet keeps nothing, so the folder is free for the right one.
    drop(Staging::open(folder.path(), "mistyped").unwrap());
    let is_taken = Staging::is_unfinished(folder.path());
    assert!(is_taken, "no node may begin a log here");
    let mut found = find(&sources, &[world.wallet]).await.unwrap();
    found.claims.remove(&1);
    let (staging, _) = Staging::open(folder.path(), "w").unwrap();
    let collector = Collector::new(sources, Arc::new(staging), Anything, Arc::default());
    let missing = collector.run(&mut found).await.unwrap_err();
    assert!(matches!(missing, Error::Missing { sequence: 1, .. }), "{missing}");
    assert!(!folder.path().join("log").exists());
}

/// The inspector's word is the last: what it refuses is not kept.
#[tokio::test]
async fn a_segment_that_the_inspector_refuses_is_not_kept() {
    struct Never;
    impl Inspector for Never {
        type Summary = ();
        fn inspect(&self, _: &super::Checked) -> Result<(), String> {
            Err("slot 7 is not there".into())
        }
    }
    let world = World::new(1, Faults::none());
    let folder = tempfile::tempdir().unwrap();
    let sources = world.sources(&[0]);
    let mut found = find(&sources, &[world.wallet]).await.unwrap();
    let (staging, _) = Staging::open(folder.path(), "w").unwrap();
    let collector = Collector::new(sources, Arc::new(staging), Never, Arc::default());
    let refused = collector.run(&mut found).await.unwrap_err().to_string();
    assert!(
        refused.contains("carrier 0") && refused.contains("slot 7"),
        "{refused}"
    );
    drop(collector);
    assert_eq!(Staging::open(folder.path(), "w").unwrap().1, Staged::Segments(0));
}

/// The number of a segment is the word of whoever signed it.
#[test]
fn a_segment_of_a_number_far_off_makes_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let (staging, _) = Staging::open(folder.path(), "w").unwrap();
    let refused = staging.place(&[1 << 60], &chain(), Vec::new()).unwrap_err();
    assert!(matches!(refused, Error::Limit { .. }), "{refused}");
    let made = std::fs::read_dir(folder.path().join("rebuild/log")).unwrap();
    assert_eq!(made.count(), 0);
}
