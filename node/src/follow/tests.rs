//! Following logs on the double: honest ones, forked ones, and gateways that lie or hide.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::path::Path;

use spec::contract::{Answer, Compute};
use spec::fraud::{Contradiction, Fraud};
use spec::resume::{Resume, Stand};
use spec::succession::Succession;
use spec::{Draft, ItemId};
use weave::network::Peer;
use weave::testing::{self, Fault, Faults, Handle};

use super::{Ended, Follower, audit};
use crate::staged::{Log, Node, double, message, publish_plain, scheduler, signed};

async fn open(log: &Log, peers: Vec<Peer>, data: &Path) -> Answer<Follower> {
    Follower::open(log.process, None, peers, data).await
}

fn one(handle: &Handle) -> Vec<Peer> {
    vec![testing::peer(handle, 0)]
}

fn fraud(ended: Ended) -> Fraud {
    match ended {
        Ended::Fraud(fraud) => *fraud,
        Ended::Refused(refusal) => panic!("refused: {refusal}"),
    }
}

/// A log of the kernel with a counter.
fn counting(name: &str, lines: u64) -> Log {
    let mut log = Log::kernel(name);
    (0..lines).for_each(|_| drop(log.eval("Count = (Count or 0) + 1; return Count")));
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_carriers_is_verified_evaluated_and_goes_on_as_it_grows() {
    let (handle, folder) = (double(Faults::none()), tempfile::tempdir().unwrap());
    let (mut log, mut node) = (counting("grows", 5), Node::default());
    node.publish(&handle, log.take()).await;
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), 6);
    let first = follower.evaluate(0).await.unwrap();
    let last = log.eval("return Count");
    node.publish_by_bundler(&handle, log.take()).await;
    assert_eq!(follower.look().await.unwrap(), 1);
    let second = follower.evaluate(6).await.unwrap();
    assert_eq!((first.slot, second.slot), (5, 6));
    assert_ne!(first.root, second.root);
    let outcome = follower
        .compute
        .result(log.process, last.id())
        .await
        .unwrap()
        .outcome;
    assert!(outcome.output.get().contains('5'), "{}", outcome.output.get());
    follower.close().await;
    drop(follower);

    // A later start has it all on its own disk.
    let again = open(&log, Vec::new(), folder.path()).await.unwrap();
    assert_eq!(again.next_slot(), 7);
    assert_eq!(again.evaluate(0).await.unwrap().root, second.root);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_log_of_one_bundle_a_message_comes_to_the_same_state() {
    let (ours, theirs) = (double(Faults::none()), double(Faults::none()));
    let mut log = counting("foreign", 4);
    let records = log.take();
    Node::default().publish(&ours, records.clone()).await;
    // Out of order, and a message apart from its assignment.
    for pair in records.chunks(2).rev() {
        publish_plain(&theirs, &pair[1..]).await;
        publish_plain(&theirs, &pair[..1]).await;
    }
    let mut roots = Vec::new();
    for handle in [&ours, &theirs] {
        let folder = tempfile::tempdir().unwrap();
        let mut follower = open(&log, one(handle), folder.path()).await.unwrap();
        assert_eq!(follower.look().await.unwrap(), 5);
        roots.push(follower.evaluate(0).await.unwrap().root);
    }
    assert_eq!(roots[0], roots[1]);
}

/// Two logs of one scheduler that differ from some slot on, and the followed one.
async fn forked(change: impl FnOnce(Draft) -> Draft) -> (Log, Handle, ItemId) {
    let handle = double(Faults::none());
    let (mut log, mut node) = (Log::named("forked"), Node::default());
    log.grow(3);
    let other = message(log.process, "the other branch");
    let fork = change(log.draft(&other)).sign(&scheduler()).unwrap();
    let id = fork.item.id();
    log.grow(2);
    let honest = log.take();
    node.publish(&handle, honest).await;
    node.publish(&handle, vec![other, fork.item]).await;
    (log, handle, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_items_for_one_slot_are_caught_and_the_file_says_so_to_anybody() {
    let (log, handle, fork) = forked(|draft| draft).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    let caught = fraud(follower.look().await.unwrap_err());
    let read = Fraud::read_verified(&caught.encode()).unwrap();
    let shown = read.shown();
    assert!(matches!(
        shown.contradiction,
        Contradiction::Slot {
            slot: 4,
            one_message: false,
            ..
        }
    ));
    assert!(shown.statements.contains(&fork));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_another_gateway_shows_is_caught_too() {
    let (here, elsewhere) = (double(Faults::none()), double(Faults::none()));
    let mut log = Log::named("two faces");
    log.grow(3);
    let shared = log.take();
    let mut branches = Vec::new();
    for text in ["one face", "another face"] {
        let item = message(log.process, text);
        let assignment = log.draft(&item).sign(&scheduler()).unwrap();
        branches.push([&shared[..], &[item, assignment.item]].concat());
    }
    Node::default().publish(&here, branches[0].clone()).await;
    Node::default().publish(&elsewhere, branches[1].clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&here), folder.path()).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), 5);
    drop(follower);
    let folder = tempfile::tempdir().unwrap();
    let both = [one(&here), one(&elsewhere)].concat();
    let mut follower = open(&log, both, folder.path()).await.unwrap();
    let caught = fraud(follower.look().await.unwrap_err());
    assert!(matches!(
        caught.contradiction(),
        Contradiction::Slot { slot: 4, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chain_and_a_message_in_two_slots_are_caught() {
    let after = |log: &Log, change: &dyn Fn(Draft) -> Draft| {
        let item = message(log.process, "next");
        let assignment = change(log.draft(&item)).sign(&scheduler()).unwrap();
        vec![item, assignment.item]
    };
    let mut found = Vec::new();
    for kind in 0..2 {
        let handle = double(Faults::none());
        let mut log = Log::named("dishonest");
        log.grow(2);
        let honest = log.take();
        let first = honest[2].id();
        let broken = |draft: Draft| match kind {
            0 => Draft {
                chain: spec::assignment::Chain([7; 32]),
                ..draft
            },
            _ => Draft {
                message: Some(first),
                ..draft
            },
        };
        let mut records = honest;
        records.extend(after(&log, &broken));
        publish_plain(&handle, &records).await;
        let folder = tempfile::tempdir().unwrap();
        let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
        found.push(fraud(follower.look().await.unwrap_err()).contradiction().clone());
        assert_eq!(follower.next_slot(), 3, "what was honest stays");
    }
    assert_eq!(found[0], Contradiction::Chain { slot: 3 });
    assert!(matches!(found[1], Contradiction::Message { slots: (1, 3), .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_gateway_adds_nothing_and_an_honest_one_beside_it_suffices() {
    for fault in [Fault::Lie, Fault::Truncate] {
        let liar = double(Faults::none().with(fault, 1_000));
        let honest = double(Faults::none());
        let mut log = Log::named("lied about");
        log.grow(8);
        let records = log.take();
        Node::default().publish(&liar, records.clone()).await;
        Node::default().publish(&honest, records).await;
        let folder = tempfile::tempdir().unwrap();
        let alone = open(&log, one(&liar), folder.path()).await;
        if let Ok(mut follower) = alone {
            // Each item stands for itself: one wrong byte in a bundle spoils one of them.
            follower.look().await.unwrap();
            assert!(
                follower.next_slot() == 9 || !follower.complaints().is_empty(),
                "{fault:?}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let both = [one(&liar), one(&honest)].concat();
        let mut follower = open(&log, both, folder.path()).await.unwrap();
        follower.look().await.unwrap();
        assert_eq!(follower.next_slot(), 9, "{fault:?}: {:?}", follower.complaints());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_slot_stops_the_log_there_until_somebody_shows_it() {
    let (handle, other) = (double(Faults::none()), double(Faults::none()));
    let mut log = Log::named("hidden");
    log.grow(6);
    let records = log.take();
    let hidden = [&records[..6], &records[8..]].concat();
    publish_plain(&handle, &hidden).await;
    publish_plain(&other, &records[6..8]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    follower.look().await.unwrap();
    assert_eq!(follower.next_slot(), 3);
    drop(follower);
    let folder = tempfile::tempdir().unwrap();
    let both = [one(&handle), one(&other)].concat();
    let mut follower = open(&log, both, folder.path()).await.unwrap();
    follower.look().await.unwrap();
    assert_eq!(follower.next_slot(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_epoch_that_nobody_told_of_is_refused() {
    let handle = double(Faults::none());
    let mut log = Log::named("epoch");
    log.grow(2);
    let next = message(log.process, "next");
    let assignment = log.draft(&next).sign(&scheduler()).unwrap();
    let in_epoch_1 = crate::staged::in_epoch(&assignment, 1);
    let mut records = log.take();
    records.extend([next, in_epoch_1]);
    publish_plain(&handle, &records).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    match follower.look().await {
        Err(Ended::Refused(refusal)) => assert!(refusal.text.contains("resume item"), "{refusal}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(follower.next_slot(), 3);
}

/// A scheduler that goes on under epoch 1 after slot 3, having lost slot 4 or not.
fn resumed(log: &mut Log, named: &str) -> (Vec<spec::DataItem>, Vec<spec::DataItem>) {
    log.grow(3);
    let before = log.take();
    let stand = Stand {
        process: log.process,
        slot: 3,
        assignment: before[7].id(),
    };
    let resume = Resume::sign(1, &[stand], &scheduler()).unwrap().item;
    let next = message(log.process, format!("after the loss, {named}"));
    let mut draft = log.draft(&next);
    draft.notes = vec![spec::Tag::new(spec::resume::TAG, resume.id().to_string())];
    let assignment = draft.sign_in(1, &scheduler()).unwrap();
    (before, vec![resume, next, assignment.item])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_its_scheduler_told_of_goes_on_and_lost_slots_are_no_fraud() {
    let handle = double(Faults::none());
    let (mut log, mut node) = (Log::named("told"), Node::default());
    let (before, after) = resumed(&mut log, "told");
    // What was lost, and turns up later.
    let lost = message(log.process, "lost");
    let assignment = log.draft(&lost).sign(&scheduler()).unwrap();
    node.publish(&handle, before).await;
    node.publish(&handle, after).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    follower.look().await.unwrap();
    assert_eq!(follower.next_slot(), 5);
    publish_plain(&handle, &[lost, assignment.item]).await;
    assert_eq!(follower.look().await.unwrap(), 0);
    assert_eq!(follower.next_slot(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_read_a_slot_before_it_was_lost_is_told_to_begin_anew() {
    let handle = double(Faults::none());
    let (mut log, mut node) = (Log::named("superseded"), Node::default());
    let (mut before, after) = resumed(&mut log, "superseded");
    let lost = message(log.process, "lost");
    let assignment = log.draft(&lost).sign(&scheduler()).unwrap();
    before.extend([lost, assignment.item]);
    node.publish(&handle, before).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), 5);
    node.publish(&handle, after).await;
    match follower.look().await {
        Err(Ended::Refused(refusal)) => assert_eq!(&*refusal.code, "log-superseded"),
        other => panic!("{other:?}"),
    }
    drop(follower);
    // Who begins anew sees both at once.
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), 5);
    assert_eq!(follower.store.slot(4).await.unwrap().assignment.epoch, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_scheduler_named_its_successor_signs_on() {
    let (handle, new) = (double(Faults::none()), spec::Signer::ed25519(&[4; 32]));
    let mut log = Log::named("successor");
    log.grow(2);
    let step = Succession::sign(new.address(), &scheduler()).unwrap().item;
    let next = message(log.process, "by the new key");
    let mut draft = log.draft(&next);
    draft.notes = vec![spec::Tag::new(spec::succession::TAG, step.id().to_string())];
    let assignment = draft.sign(&new).unwrap();
    publish_plain(&handle, &log.take()).await;
    publish_plain(&handle, &[step, next, assignment.item]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    follower.look().await.unwrap();
    assert_eq!(follower.next_slot(), 4, "{:?}", follower.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_log_is_replayed_from_gateways_and_from_the_disk_alike() {
    let (handle, folder) = (double(Faults::none()), tempfile::tempdir().unwrap());
    let mut log = counting("audited", 4);
    Node::default().publish(&handle, log.take()).await;
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    let replayed = audit::audit(&mut follower).await.unwrap();
    assert_eq!((replayed.slot, replayed.differ.len()), (4, 0));
    assert_eq!(replayed.root, follower.evaluate(0).await.unwrap().root);
    follower.close().await;
    drop(follower);
    let caches = tempfile::tempdir().unwrap();
    let held = Follower::open_with(
        log.process,
        [None, None],
        Vec::new(),
        folder.path(),
        caches.path(),
    )
    .await;
    let again = audit::audit(&mut held.unwrap()).await.unwrap();
    assert_eq!((again.slot, again.root), (replayed.slot, replayed.root));
}

/// A log whose key is replaced after slot 2, and what the old key signs beside the new one's slot 3: a resume item of a
/// far epoch, and a slot in it.
fn replaced(name: &str) -> (Log, Vec<spec::DataItem>, Vec<spec::DataItem>, spec::Signer) {
    let new = spec::Signer::ed25519(&[4; 32]);
    let mut log = Log::named(name);
    log.grow(2);
    let step = Succession::sign(new.address(), &scheduler()).unwrap().item;
    let next = message(log.process, "by the new key");
    let mut draft = log.draft(&next);
    draft.notes = vec![spec::Tag::new(spec::succession::TAG, step.id().to_string())];
    let honest = vec![step, next, draft.sign(&new).unwrap().item];
    let stand = Stand {
        process: log.process,
        slot: 2,
        assignment: log.records[5].id(),
    };
    let resume = Resume::sign(999, &[stand], &scheduler()).unwrap().item;
    let forged = message(log.process, "by the old key");
    let mut draft = log.draft(&forged);
    draft.notes = vec![spec::Tag::new(spec::resume::TAG, resume.id().to_string())];
    let assignment = draft.sign_in(999, &scheduler()).unwrap().item;
    (log, honest, vec![resume, forged, assignment], new)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_replaced_takes_no_log_over_whatever_comes_first() {
    for forged_first in [false, true] {
        let handle = double(Faults::none());
        let (mut log, honest, forged, new) = replaced("taken over");
        publish_plain(&handle, &log.take()).await;
        let both = if forged_first {
            [&forged, &honest]
        } else {
            [&honest, &forged]
        };
        for items in both {
            publish_plain(&handle, items).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
        follower.look().await.unwrap();
        assert_eq!(follower.next_slot(), 4, "{:?}", follower.complaints());
        let third = follower.store.slot(3).await.unwrap().assignment;
        assert_eq!(third.item.owner_address(), new.address());
        follower.close().await;
        drop(follower);
        let again = open(&log, Vec::new(), folder.path()).await.unwrap();
        assert_eq!(again.next_slot(), 4, "so it stays on disk");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signature_of_a_replaced_key_ends_no_follower() {
    let handle = double(Faults::none());
    let (mut log, honest, _, _) = replaced("disturbed");
    let before = log.take();
    publish_plain(&handle, &before).await;
    publish_plain(&handle, &honest).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), 4);
    let late = message(log.process, "too late");
    let assignment = log.draft(&late).sign(&scheduler()).unwrap().item;
    publish_plain(&handle, &[late, assignment]).await;
    assert_eq!(follower.look().await.unwrap(), 0);
    assert!(
        follower
            .complaints()
            .iter()
            .any(|one| one.contains("had followed")),
        "{:?}",
        follower.complaints()
    );
    assert_eq!(follower.next_slot(), 4);
}

/// Answers everything but data while it is told to.
struct Ill {
    inner: std::sync::Arc<dyn weave::network::Transport>,
    is_ill: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

#[async_trait::async_trait]
impl weave::network::Transport for Ill {
    async fn send(
        &self,
        request: axum::http::Request<bytes::Bytes>,
        bytes_max: usize,
    ) -> Answer<axum::http::Response<bytes::Bytes>> {
        let is_ill = self.is_ill.load(std::sync::atomic::Ordering::SeqCst);
        if is_ill && request.uri().path() != "/graphql" {
            return Err(spec::Refusal::upstream("unreachable", "later"));
        }
        self.inner.send(request, bytes_max).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_at_one_look_is_had_at_the_next() {
    let handle = double(Faults::none());
    let mut log = Log::named("ill");
    log.grow(2);
    publish_plain(&handle, &log.take()).await;
    (0..200).for_each(|_| {
        handle.lock().mine_block();
    });
    log.grow(1);
    publish_plain(&handle, &log.take()).await;
    let is_ill = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let inner = testing::transport(&handle, 0);
    let ill = Ill {
        inner,
        is_ill: is_ill.clone(),
    };
    let peer = Peer::new("ill", std::sync::Arc::new(ill));
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, vec![peer], folder.path()).await.unwrap();
    is_ill.store(true, std::sync::atomic::Ordering::SeqCst);
    follower.look().await.unwrap();
    assert_eq!(follower.next_slot(), 0);
    is_ill.store(false, std::sync::atomic::Ordering::SeqCst);
    follower.look().await.unwrap();
    assert_eq!(follower.next_slot(), 4, "{:?}", follower.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_messages_of_one_millisecond_are_evaluated() {
    let handle = double(Faults::none());
    let mut log = counting("one millisecond", 2);
    let tags = [
        ("Data-Protocol", "ao"),
        ("Type", "Message"),
        ("Variant", "ao.TN.1"),
        ("Action", "Eval"),
    ];
    let item = signed(&tags, "return Count", Some(log.process));
    let mut draft = log.draft(&item);
    draft.tick.timestamp_ms -= 10;
    let assignment = draft.sign(&scheduler()).unwrap().item;
    let mut records = log.take();
    records.extend([item, assignment]);
    publish_plain(&handle, &records).await;
    let folder = tempfile::tempdir().unwrap();
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), 4);
    assert_eq!(follower.evaluate(0).await.unwrap().slot, 3);
}

/// All bytes of a folder's log.
fn bytes_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder.join("log")).unwrap();
    let mut all: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            (path.display().to_string(), std::fs::read(&path).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gateways_list_is_not_written_into_the_log_that_is_verified() {
    let (handle, folder) = (double(Faults::none()), tempfile::tempdir().unwrap());
    let mut log = counting("read only", 2);
    Node::default().publish(&handle, log.take()).await;
    let mut follower = open(&log, one(&handle), folder.path()).await.unwrap();
    follower.look().await.unwrap();
    follower.close().await;
    drop(follower);
    let process = log.process.to_string();
    let tags = [
        ("Data-Protocol", "Weft"),
        ("Type", "Checkpoint"),
        ("Process", &process),
    ];
    publish_plain(&handle, &[signed(&tags, "a stranger's", None)]).await;
    log.eval("return Count");
    publish_plain(&handle, &log.take()).await;
    let before = bytes_of(folder.path());
    let beside = tempfile::tempdir().unwrap();
    let opened = Follower::open_with(
        log.process,
        [None, None],
        one(&handle),
        folder.path(),
        beside.path(),
    );
    let mut follower = opened.await.unwrap();
    let replayed = audit::audit(&mut follower).await.unwrap();
    assert_eq!(replayed.slot, 3, "what is beside is read, too");
    assert!(!replayed.is_wrong());
    follower.close().await;
    drop(follower);
    assert!(bytes_of(folder.path()) == before, "not one byte was added");
}

#[test]
fn a_folder_that_is_there_is_not_taken() {
    let one = super::TemporaryFolder::new().unwrap();
    let other = super::TemporaryFolder::new().unwrap();
    assert_ne!(one.path(), other.path());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(one.path()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}
