//! Turns of a log: a local process becomes permanent, a scheduler goes on after it lost slots, a key
//! follows another. After each, every reader accepts the log, and what was published suffices.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::*;
use spec::contract::{Class, LogEntry, Scheduler};
use spec::{Continuity, ItemId, ProcessId, Signer};
use su::resume;

const WIDEN: &[(&str, &str)] = &[("Storage", "permanent")];

/// The message by which the owner makes a process permanent.
fn widening(process: ProcessId) -> spec::DataItem {
    message_with(process, "for ever", WIDEN, &user(0))
}

/// The slots whose assignments lie in the permanent class, in the log's order.
fn published_slots(world: &World, process: ProcessId) -> Vec<u64> {
    let entries = world.log.entries(None).map(Result::unwrap);
    let permanent = entries.filter(|entry| entry.class == Class::Permanent);
    let assignments = permanent.filter_map(|entry| spec::Assignment::read(entry.record.item()?.clone()).ok());
    assignments
        .filter(|assignment| assignment.process == process)
        .map(|assignment| assignment.slot)
        .collect()
}

async fn until_published(world: &World, process: ProcessId, slots: u64) {
    for _ in 0..2_000 {
        if published_slots(world, process).len() as u64 >= slots {
            let wanted: Vec<u64> = (0..slots).collect();
            assert_eq!(published_slots(world, process), wanted, "in order, each once");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("only {:?} were copied", published_slots(world, process));
}

/// Reads a whole log as a stranger would: every step must follow or be shown.
async fn follow(world: &World, process: ProcessId) -> Vec<LogEntry> {
    let entries = world.whole(process).await;
    let mut log = Continuity::start(process);
    for entry in &entries {
        let mut evidence = Vec::new();
        for id in log.needs(&entry.assignment) {
            let stored = world.shelf.fetch(id).await.unwrap();
            evidence.push(stored.item().unwrap().clone());
        }
        log.accept(&entry.assignment, &evidence).unwrap();
    }
    verify_log(process, &entries);
    entries
}

async fn send(world: &World, process: ProcessId, from: usize, count: usize) {
    let calls = (from..from + count).map(|n| {
        world
            .su
            .schedule(message(process, &format!("message number {n}")))
    });
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_owner_makes_a_local_process_permanent_with_all_that_came_before() {
    let world = World::new();
    let (process, other) = (world.spawn(1).await, world.spawn(2).await);
    send(&world, process, 0, 1200).await;
    send(&world, other, 0, 10).await;
    let elsewhere = message(other, "elsewhere");
    world.su.schedule(elsewhere.clone()).await.unwrap();
    world
        .su
        .assign(process, elsewhere.id(), false, vec![])
        .await
        .unwrap();
    assert!(published_slots(&world, process).is_empty());
    let widened = world.su.schedule(widening(process)).await.unwrap();
    assert_eq!(widened.slot, 1202);
    // It goes on while it is copied.
    send(&world, process, 1200, 300).await;
    until_published(&world, process, 1503).await;
    let later = world
        .su
        .assign(process, message(other, "x").id(), false, vec![])
        .await;
    assert!(later.is_err(), "what is held nowhere is not assigned");
    let entries = follow(&world, process).await;
    assert_eq!(
        entries[1202].assignment.item.tag("Storage"),
        Some("permanent"),
        "the log says from when on"
    );
    let kept = world.asked.kept.lock().unwrap().clone();
    let permanent: Vec<_> = kept
        .into_iter()
        .filter(|(_, class)| *class == Class::Permanent)
        .collect();
    assert_eq!(
        permanent,
        [ItemId([7; 32]), elsewhere.id()].map(|id| (id, Class::Permanent)),
        "its module and what it was assigned go along"
    );
    assert_eq!(*world.asked.sent.lock().unwrap(), [process]);
    assert!(published_slots(&world, other).is_empty(), "nobody else's log");
    stays_permanent(world, process, other, &entries).await;
}

/// A process that became permanent, with the entries so far: all that comes later is, too.
async fn stays_permanent(world: World, process: ProcessId, other: ProcessId, entries: &[LogEntry]) {
    // Asked again, or asked to go back: ordinary messages.
    for storage in ["permanent", "local"] {
        let again = message_with(process, storage, &[("Storage", storage)], &user(0));
        world.su.schedule(again).await.unwrap();
    }
    until_published(&world, process, 1505).await;
    let assigned = message(other, "assigned later");
    world.su.schedule(assigned.clone()).await.unwrap();
    world
        .su
        .assign(process, assigned.id(), false, vec![])
        .await
        .unwrap();
    assert_eq!(
        world.asked.kept.lock().unwrap().last(),
        Some(&(assigned.id(), Class::Permanent))
    );
    let published = world.published(Signer::ed25519(&[1; 32]));
    let left = published.whole(process).await;
    assert_eq!(left.len(), 1506);
    let ids = |entries: &[LogEntry]| entries.iter().map(|e| e.assignment.item.id()).collect::<Vec<_>>();
    assert_eq!(
        ids(&left)[..1503],
        ids(entries)[..],
        "the permanent class alone holds the log"
    );
    assert!(published.su.latest(other).await.is_err());
    let world = world.restart(|folder| std::fs::remove_dir_all(folder.join("cache")).unwrap());
    send(&world, process, 5000, 1).await;
    until_published(&world, process, 1507).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_makes_a_process_permanent() {
    let world = World::new();
    let process = world.spawn(1).await;
    let pushed = [("From-Process", "x"), ("Storage", "permanent")];
    for item in [
        message_with(process, "a stranger", WIDEN, &user(1)),
        message_with(process, "a push", &pushed, &user(0)),
        message_with(process, "another word", &[("Storage", "forever")], &user(0)),
        message_with(process, "local", &[("Storage", "local")], &user(0)),
    ] {
        let slot = world.su.schedule(item).await.unwrap().slot;
        let entry = world.whole(process).await.pop().unwrap();
        assert_eq!(entry.assignment.slot, slot);
        assert_eq!(entry.assignment.item.tag("Storage"), None);
    }
    // The owner's word to another process, assigned here by whoever likes.
    let elsewhere = widening(ProcessId([5; 32]));
    world
        .shelf
        .append(vec![elsewhere.clone()], Class::Local)
        .await
        .unwrap();
    world
        .su
        .assign(process, elsewhere.id(), false, vec![])
        .await
        .unwrap();
    send(&world, process, 0, 50).await;
    let world = world.restart(|folder| std::fs::remove_dir_all(folder.join("cache")).unwrap());
    send(&world, process, 50, 50).await;
    assert!(published_slots(&world, process).is_empty());
    let unknown = world.su.schedule(widening(ProcessId([9; 32]))).await;
    assert_eq!(unknown.unwrap_err().code, "unknown-process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copying_survives_failures_and_restarts_at_any_point() {
    let mut world = World::new();
    let process = world.spawn(1).await;
    send(&world, process, 0, 3000).await;
    world.journal.failures.store(0, Ordering::SeqCst);
    world.asked.failures.store(1, Ordering::SeqCst);
    world.su.schedule(widening(process)).await.unwrap();
    let mut sent = 3000;
    for round in 0u64..12 {
        if round % 3 == 1 {
            world.journal.failures.store(2, Ordering::SeqCst);
        }
        let answers = futures_util::future::join_all((sent..sent + 20).map(|n| {
            world
                .su
                .schedule(message(process, &format!("message number {n}")))
        }));
        sent += 20;
        // Some may be refused; then they have no slot.
        drop(answers.await);
        tokio::time::sleep(Duration::from_millis(round % 4)).await;
        world = world.restart(|folder| {
            if round % 4 == 2 {
                std::fs::remove_dir_all(folder.join("cache")).unwrap();
            }
        });
    }
    let slots = world.su.latest(process).await.unwrap().assignment.slot + 1;
    until_published(&world, process, slots).await;
    send(&world, process, sent, 5).await;
    until_published(&world, process, slots + 5).await;
    let entries = follow(&world, process).await;
    let left = world.published(Signer::ed25519(&[1; 32])).whole(process).await;
    assert_eq!(left.len(), entries.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_withheld_is_withheld_in_the_copy() {
    let world = World::new();
    let process = world.spawn(1).await;
    let secret = message(process, "a secret");
    world.su.schedule(secret.clone()).await.unwrap();
    let mut entries = world.log.entries(None).map(Result::unwrap);
    let at = entries
        .find(|entry| entry.record.id() == Some(secret.id()))
        .unwrap()
        .position;
    world.log.withhold(at).unwrap();
    world.su.schedule(widening(process)).await.unwrap();
    until_published(&world, process, 3).await;
    let whole = world
        .log
        .entries(None)
        .map(Result::unwrap)
        .filter(|entry| entry.record.item().is_some_and(|item| item.id() == secret.id()));
    assert_eq!(whole.count(), 0);
    let left = world.published(Signer::ed25519(&[1; 32])).whole(process).await;
    assert!(left[1].item().is_none());
    assert_eq!(left[1].assignment.subject(), secret.id());
}

async fn resume_of(world: &World, signer: Signer) -> Result<Option<resume::Resumed>, su::Error> {
    resume_at(world, signer, 0).await
}

async fn resume_at(world: &World, signer: Signer, now_ms: u64) -> Result<Option<resume::Resumed>, su::Error> {
    let data = world.folder.path().join("second");
    std::fs::create_dir_all(&data).unwrap();
    resume::resume(&small(), &data, &*world.log, &Arc::new(signer), now_ms).await
}

/// Both disks were lost before anything of the first resumption was published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_was_lost_whole_is_not_begun_again() {
    let key = || Signer::ed25519(&[1; 32]);
    let world = World::new();
    let process = world
        .su
        .schedule(process_item_with(1, WIDEN))
        .await
        .unwrap()
        .process;
    send(&world, process, 0, 3).await;
    let mut given = Vec::new();
    for now_ms in [1_700_000_000_000, 1_700_000_007_000] {
        let published = world.published(key());
        let resumed = resume_at(&published, key(), now_ms).await.unwrap().unwrap();
        let published = published.restart(|_| ());
        let text = format!("given in epoch {}", resumed.epoch);
        published.su.schedule(message(process, &text)).await.unwrap();
        let last = follow(&published, process)
            .await
            .last()
            .unwrap()
            .assignment
            .clone();
        given.push((last.slot, last.epoch));
    }
    assert_eq!(given[0].0, given[1].0, "one slot, given twice");
    assert!(given[0].1 < given[1].1, "in different epochs: {given:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_made_from_what_was_published_rests_until_it_is_resumed() {
    let key = || Signer::ed25519(&[1; 32]);
    let world = World::new();
    let mut processes = Vec::new();
    for n in 0..3 {
        let item = process_item_with(n, WIDEN);
        let process = world.su.schedule(item).await.unwrap().process;
        send(&world, process, 0, 5).await;
        processes.push(process);
    }
    let lost = message(processes[0], "never published");
    let published = world.published(key());
    let at_loss = world.su.schedule(lost.clone()).await.unwrap();
    rests(&published, &processes, &lost).await;
    let published = published.restart(|folder| std::fs::remove_dir_all(folder.join("cache")).unwrap());
    assert!(published.su.is_suspended(), "no start ends it");

    assert_eq!(
        resume_of(&published, key()).await.unwrap(),
        Some(resume::Resumed {
            epoch: 1,
            processes: 3
        })
    );
    assert_eq!(
        resume_of(&published, key()).await.unwrap(),
        None,
        "once is enough"
    );
    let mut resumed = published.restart(|_| ());
    assert!(!resumed.su.is_suspended());
    let again = resumed.su.schedule(lost).await.unwrap();
    assert_eq!(
        again.slot, at_loss.slot,
        "the lost slot is given again, but under another epoch"
    );
    send(&resumed, processes[0], 50, 3).await;
    let newborn = process_item_with(20, WIDEN);
    let newborn = resumed.su.schedule(newborn).await.unwrap().process;
    for cache in [true, false] {
        resumed = resumed.restart(|folder| {
            if cache {
                std::fs::remove_dir_all(folder.join("cache")).unwrap();
            }
        });
        send(&resumed, processes[1], 60 + usize::from(cache), 1).await;
        send(&resumed, newborn, usize::from(cache), 1).await;
    }
    let entries = follow(&resumed, processes[0]).await;
    let epochs: Vec<u64> = entries.iter().map(|entry| entry.assignment.epoch).collect();
    assert_eq!(epochs, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
    let named: Vec<_> = entries.iter().map(|e| e.assignment.item.tag("Resume")).collect();
    assert_eq!(
        named.iter().flatten().count(),
        1,
        "named once, where the epoch begins"
    );
    assert_eq!(follow(&resumed, newborn).await[0].assignment.epoch, 1);
    follow(&resumed, processes[1]).await;
    is_lost_again(&resumed, processes[2]).await;
}

/// A suspended scheduler reads all, gives no slot, and knows what has one.
async fn rests(published: &World, processes: &[ProcessId], lost: &spec::DataItem) {
    assert!(published.su.is_suspended());
    let refusal = published.su.schedule(lost.clone()).await.unwrap_err();
    assert_eq!(refusal.code, "scheduling-suspended");
    assert!(refusal.is_retryable() && refusal.text.contains("--resume-scheduling"));
    let known = message(processes[0], "message number 3");
    assert_eq!(
        published.su.schedule(known.clone()).await.unwrap_err().code,
        "message-exists"
    );
    let spawn = published.su.schedule(process_item(9)).await.unwrap_err();
    assert_eq!(spawn.code, "scheduling-suspended");
    let assign = published.su.assign(processes[1], known.id(), false, vec![]).await;
    assert_eq!(assign.unwrap_err().code, "scheduling-suspended");
    published.su.tick().await.unwrap();
    assert_eq!(published.whole(processes[0]).await.len(), 6);
}

/// The second epoch follows the first, also for logs that rested through it.
async fn is_lost_again(resumed: &World, process: ProcessId) {
    let key = || Signer::ed25519(&[1; 32]);
    let second = resumed.published(key());
    resume_of(&second, key()).await.unwrap();
    let second = second.restart(|_| ());
    send(&second, process, 70, 1).await;
    assert_eq!(follow(&second, process).await.last().unwrap().assignment.epoch, 2);
    assert_eq!(second.su.epoch(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_follows_another_only_by_its_word() {
    let key = |n: u8| Signer::ed25519(&[n; 32]);
    let world = World::new();
    let item = process_item_with(1, WIDEN);
    let process = world.su.schedule(item).await.unwrap().process;
    let resting = world
        .su
        .schedule(process_item_with(2, WIDEN))
        .await
        .unwrap()
        .process;
    // Another key without a word of the first.
    let world = world.restart_as(key(2), |_| ());
    let refusal = world.su.schedule(message(process, "x")).await.unwrap_err();
    assert_eq!(refusal.code, "other-key");
    let succeed = async |world: &World, old: u8, to: u8| {
        let data = world.folder.path().join("second");
        std::fs::create_dir_all(&data).unwrap();
        resume::succeed(&small(), &data, &*world.log, &key(old), key(to).address()).await
    };
    let link = succeed(&world, 1, 2).await.unwrap();
    assert_eq!(
        succeed(&world, 1, 2).await.unwrap(),
        link,
        "saying it twice says it once"
    );
    assert!(matches!(succeed(&world, 1, 3).await, Err(su::Error::Key { .. })));
    let world = world.restart_as(key(2), |_| ());
    send(&world, process, 0, 3).await;
    succeed(&world, 2, 3).await.unwrap();
    assert!(
        succeed(&world, 3, 1).await.is_err(),
        "a replaced key does not come back"
    );
    let world = world.restart_as(key(3), |folder| {
        std::fs::remove_dir_all(folder.join("cache")).unwrap()
    });
    assert_eq!(world.su.predecessors(), [key(1).address(), key(2).address()]);
    send(&world, process, 10, 2).await;
    send(&world, resting, 10, 2).await;
    let mut signers: HashMap<_, usize> = HashMap::new();
    for entry in follow(&world, process).await {
        *signers.entry(entry.assignment.item.owner_address()).or_default() += 1;
    }
    let counts = [1, 2, 3].map(|n| signers[&key(n).address()]);
    assert_eq!(counts, [1, 3, 2]);
    let steps = follow(&world, resting).await;
    let steps = spec::tags::all(steps[1].assignment.item.tags(), "Succession").count();
    assert_eq!(steps, 2, "a log that rested names every step");
    // What was published says all of it, too.
    let published = world.published(key(3));
    resume_of(&published, key(3)).await.unwrap();
    let published = published.restart_as(key(3), |_| ());
    send(&published, process, 20, 1).await;
    follow(&published, process).await;
    is_read_without_keys(&published, process).await;
}

/// A log that came back without its keys is read by anybody, and goes on for nobody but the last key.
async fn is_read_without_keys(world: &World, process: ProcessId) {
    let key = |n: u8| Signer::ed25519(&[n; 32]);
    let published = world.published(key(9));
    let all = follow(world, process).await;
    assert_eq!(published.whole(process).await.len(), all.len());
    let refusal = published.su.schedule(message(process, "y")).await.unwrap_err();
    assert_eq!(refusal.code, "scheduling-suspended");
    for wrong in [1, 2, 9] {
        let refused = resume_of(&published, key(wrong)).await;
        assert!(
            matches!(refused, Err(su::Error::Key { named, .. }) if named == key(3).address()),
            "{wrong}"
        );
    }
    assert!(resume_of(&published, key(3)).await.unwrap().is_some());
}
