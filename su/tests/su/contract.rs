//! One suite for the scheduler's contract, run on the unit and on its HTTP client, and what only the
//! unit can show: concurrency, failures, restarts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::*;
use spec::contract::{Class, Content, Field, Scheduler, Span, Tick};
use spec::{DataItem, ItemId, Kind, ProcessId, Signer};

/// What any carrier of the contract must do.
async fn suite(su: Arc<dyn Scheduler>) {
    let before = su.tick().await.unwrap();
    let spawned = su.schedule(process_item(1)).await.unwrap();
    let process = spawned.process;
    assert_eq!((spawned.slot, spawned.message), (0, process.into()));
    assert!(spawned.tick >= before);
    let binary = message(process, "\u{0}ÿ");
    let scheduled = su.schedule(binary.clone()).await.unwrap();
    assert_eq!(
        (scheduled.process, scheduled.slot, scheduled.message),
        (process, 1, binary.id())
    );
    assert!(su.tick().await.unwrap() >= scheduled.tick);

    for id in [scheduled.message, scheduled.assignment] {
        let entry = su.message(process, id).await.unwrap();
        assert_eq!(entry.item(), Some(&binary), "every byte survives");
        assert_eq!(
            (entry.assignment.slot, entry.assignment.tick),
            (1, scheduled.tick)
        );
    }
    assert_eq!(
        su.latest(process).await.unwrap().assignment.item.id(),
        scheduled.assignment
    );
    assert_eq!(su.process(process).await.unwrap().item(), Some(&process_item(1)));

    pages(&*su, process, scheduled.tick).await;
    assignments(&*su, process, &binary).await;
    refusals(&*su, process, binary).await;
}

async fn pages(su: &dyn Scheduler, process: ProcessId, last: Tick) {
    let slots = |span, limit| async move {
        let page = su.log(process, span, limit).await.unwrap();
        (
            page.entries.iter().map(|e| e.assignment.slot).collect::<Vec<_>>(),
            page.has_next_page,
        )
    };
    assert_eq!(slots(Span::Slots(0, u64::MAX), 10).await, (vec![0, 1], false));
    assert_eq!(slots(Span::Slots(0, u64::MAX), 1).await, (vec![0], true));
    assert_eq!(slots(Span::Slots(1, 1), 1).await, (vec![1], false));
    assert_eq!(slots(Span::Slots(2, 9), 1).await, (vec![], false));
    let at = last.timestamp_ms;
    assert_eq!(slots(Span::Times(None, at), 10).await, (vec![0, 1], false));
    assert_eq!(slots(Span::Times(None, at - 1), 10).await, (vec![0], false));
    assert_eq!(slots(Span::Times(Some(at), u64::MAX), 10).await, (vec![], false));
    assert_eq!(
        slots(Span::Times(Some(at - 1), u64::MAX), 10).await,
        (vec![1], false)
    );
}

async fn assignments(su: &dyn Scheduler, process: ProcessId, message: &DataItem) {
    let other = su.schedule(process_item(2)).await.unwrap().process;
    let exclude = vec![Field::Tags, Field::Data, Field::Tags];
    let assigned = su.assign(other, message.id(), true, exclude).await.unwrap();
    assert_eq!(
        (assigned.process, assigned.slot, assigned.message),
        (other, 1, message.id())
    );
    let entry = su.message(other, message.id()).await.unwrap();
    assert!(matches!(entry.content, Content::Elsewhere));
    assert_eq!(entry.assignment.exclude, [Field::Data, Field::Tags]);
    let again = su.assign(other, message.id(), false, vec![]).await.unwrap_err();
    assert_eq!(again.code, "message-exists");
    let own = su.assign(process, message.id(), false, vec![]).await.unwrap_err();
    assert_eq!(own.code, "message-exists");
    let missing = su
        .assign(other, ItemId([9; 32]), false, vec![])
        .await
        .unwrap_err();
    assert_eq!(missing.kind, Kind::NotFound);
}

async fn refusals(su: &dyn Scheduler, process: ProcessId, known: DataItem) {
    let code = |refusal: spec::Refusal| refusal.code.into_owned();
    assert_eq!(code(su.schedule(known).await.unwrap_err()), "message-exists");
    assert_eq!(
        code(su.schedule(process_item(1)).await.unwrap_err()),
        "message-exists"
    );
    let stranger = ProcessId([3; 32]);
    let refusal = su.schedule(message(stranger, "x")).await.unwrap_err();
    assert_eq!(
        (refusal.kind, code(refusal)),
        (Kind::NotFound, "unknown-process".into())
    );
    for answer in [su.process(stranger).await, su.latest(stranger).await] {
        assert_eq!(answer.unwrap_err().kind, Kind::NotFound);
    }
    assert_eq!(
        su.message(process, ItemId([9; 32])).await.unwrap_err().kind,
        Kind::NotFound
    );
    assert_eq!(
        su.log(stranger, Span::Slots(0, 9), 5).await.unwrap_err().kind,
        Kind::NotFound
    );
    let linked = message_with(process, "x", &[("a+link", "b")], &user(0));
    assert_eq!(code(su.schedule(linked).await.unwrap_err()), "link-tag");
    let mut forged = message(process, "forged").bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = DataItem::parse(forged.into()).unwrap();
    assert_eq!(code(su.schedule(forged).await.unwrap_err()), "invalid-item");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_in_process() {
    let world = World::new();
    suite(world.su.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_over_http() {
    let world = World::new();
    let client = wire::scheduler::Client::new(world.listen().await);
    suite(Arc::new(client)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_rsa_key_keeps_each_processes_order() {
    let key = Signer::from_jwk(&Signer::generate_rsa_jwk().unwrap()).unwrap();
    let world = World::with(small(), key);
    let processes = [world.spawn(1).await, world.spawn(2).await, world.spawn(3).await];
    let send = |n: usize| world.su.schedule(message(processes[n % 3], &format!("m{n}")));
    for answer in futures_util::future::join_all((0..30).map(send)).await {
        answer.unwrap();
    }
    for process in processes {
        let entries = world.whole(process).await;
        assert_eq!(entries.len(), 11);
        verify_log(process, &entries);
    }
}

/// 64 callers, some of whose appends fail: everybody acknowledged has a slot, nobody else has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_appends_leave_no_gap_and_lose_nothing() {
    let world = World::new();
    let processes = [world.spawn(1).await, world.spawn(2).await];
    let caller = |n: usize| {
        let (su, journal) = (world.su.clone(), world.journal.clone());
        async move {
            let mut acknowledged = Vec::new();
            for i in 0..20 {
                if n == 0 && i % 3 == 0 {
                    journal.failures.fetch_add(2, Ordering::SeqCst);
                }
                let item = message(processes[(n + i) % 2], &format!("{n}.{i}"));
                match su.schedule(item.clone()).await {
                    Ok(scheduled) => acknowledged.push(scheduled),
                    Err(refusal) => assert_eq!(refusal.kind, Kind::Busy, "{refusal}"),
                }
            }
            acknowledged
        }
    };
    let tasks: Vec<_> = (0..64).map(|n| tokio::spawn(caller(n))).collect();
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    assert!(acknowledged.len() < 64 * 20, "no append failed");
    check_acknowledged(&world, &processes, &acknowledged).await;
    let world = world.restart(|_| ());
    check_acknowledged(&world, &processes, &acknowledged).await;
    let world = world.restart(|folder| std::fs::remove_dir_all(folder.join("cache")).unwrap());
    check_acknowledged(&world, &processes, &acknowledged).await;
    let next = world
        .su
        .schedule(message(processes[0], "after all"))
        .await
        .unwrap();
    let mine = acknowledged.iter().filter(|s| s.process == processes[0]).count();
    assert_eq!(next.slot, mine as u64 + 1, "heads survive");
}

async fn check_acknowledged(
    world: &World,
    processes: &[ProcessId],
    acknowledged: &[spec::contract::Scheduled],
) {
    let mut total = 0;
    for process in processes {
        let entries = world.whole(*process).await;
        verify_log(*process, &entries);
        total += entries.len() - 1;
    }
    assert_eq!(
        total,
        acknowledged.len(),
        "a slot nobody was told of, or one lost"
    );
    for scheduled in acknowledged {
        let entry = world
            .su
            .message(scheduled.process, scheduled.message)
            .await
            .unwrap();
        assert_eq!(entry.assignment.item.id(), scheduled.assignment);
        assert_eq!(
            (entry.assignment.slot, entry.assignment.tick),
            (scheduled.slot, scheduled.tick)
        );
    }
}

/// A duplicate that waits behind its twin's failing append must not be told that it exists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_of_a_failed_message_is_not_called_a_duplicate() {
    let world = World::new();
    let process = world.spawn(1).await;
    let item = message(process, "twin");
    for _ in 0..20 {
        world.journal.failures.store(1, Ordering::SeqCst);
        let twins = (0..8).map(|_| world.su.schedule(item.clone()));
        let answers = futures_util::future::join_all(twins).await;
        let stored = world.su.message(process, item.id()).await.is_ok();
        let told = answers
            .iter()
            .any(|a| a.is_ok() || a.as_ref().is_err_and(|e| e.code == "message-exists"));
        assert_eq!(stored, told, "{answers:?}");
        if stored {
            return;
        }
    }
    // All twins shared each failing append.
    world.su.schedule(item).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_are_never_undercut_even_when_the_clock_goes_back() {
    let mut world = World::new();
    world.now_ms.store(1_000_000, Ordering::SeqCst);
    let process = world.spawn(1).await;
    let appends = world.journal.appends.load(Ordering::SeqCst);
    let mut tick = Tick::default();
    for _ in 0..50 {
        world.now_ms.fetch_add(7, Ordering::SeqCst);
        tick = world.su.tick().await.unwrap();
    }
    let leases = world.journal.appends.load(Ordering::SeqCst) - appends;
    assert_eq!(leases, 1, "one lease covers the ticks of its time");
    for cache in [false, true] {
        world.now_ms.store(500, Ordering::SeqCst);
        world = world.restart(|folder| {
            if cache {
                std::fs::remove_dir_all(folder.join("cache")).unwrap();
            }
        });
        assert!(world.su.tick().await.unwrap() >= tick);
        let scheduled = world
            .su
            .schedule(message(process, &format!("late {cache}")))
            .await
            .unwrap();
        assert!(scheduled.tick >= tick, "{scheduled:?} undercuts {tick:?}");
        tick = world.su.tick().await.unwrap();
        assert!(tick >= scheduled.tick);
    }
    world.journal.failures.store(1, Ordering::SeqCst);
    world.now_ms.store(9_000_000, Ordering::SeqCst);
    assert!(
        world.su.tick().await.is_err(),
        "a tick whose lease failed is not told"
    );
    assert!(world.su.tick().await.unwrap().timestamp_ms >= 9_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uploaded_assignment_is_no_assignment() {
    let world = World::new();
    let process = world.spawn(1).await;
    // Signed with the scheduler's own key, as after a lost disk.
    let mut head = su::assign::Head::after(&world.su.latest(process).await.unwrap().assignment, Class::Local);
    let ask = su::assign::Ask {
        message: Some(ItemId([5; 32])),
        ..Default::default()
    };
    let forged = head.assign(
        ask,
        Tick {
            timestamp_ms: u64::MAX / 2,
            block_height: u64::MAX / 2,
        },
        &su::authority::Authority::first(std::sync::Arc::new(Signer::ed25519(&[1; 32]))),
    );
    world
        .shelf
        .append(vec![forged.unwrap().item], Class::Local)
        .await
        .unwrap();
    let world = world.restart(|folder| std::fs::remove_dir_all(folder.join("cache")).unwrap());
    assert_eq!(world.whole(process).await.len(), 1);
    assert_eq!(world.su.schedule(message(process, "x")).await.unwrap().slot, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_are_fixed_at_spawn_and_survive_in_one_log() {
    let world = World::new();
    let local = world.spawn(1).await;
    let item = process_item_with(2, &[("Storage", "permanent")]);
    let permanent = world.su.schedule(item).await.unwrap().process;
    let world = world.restart(|_| ());
    let send = |n: usize| {
        world
            .su
            .schedule(message([local, permanent][n % 2], &format!("{n}")))
    };
    for answer in futures_util::future::join_all((0..100).map(send)).await {
        answer.unwrap();
    }
    for entry in world.log.entries(None).map(|entry| entry.unwrap()) {
        let Some(item) = entry.record.item() else { continue };
        let of_permanent = item.id() == permanent.into()
            || item.target() == Some(&permanent.0)
            || item.tag("Process") == Some(&permanent.to_string());
        assert_eq!(entry.class == Class::Permanent, of_permanent);
    }
    let world = world.restart(|folder| std::fs::remove_dir_all(folder.join("cache")).unwrap());
    for (process, storage) in [(local, "local"), (permanent, "permanent")] {
        let entries = world.whole(process).await;
        assert_eq!(entries.len(), 51);
        verify_log(process, &entries);
        let boot = &entries[0].assignment.item;
        assert_eq!(boot.tag("Storage"), Some(storage));
        assert_eq!(
            (boot.tag("Engine-Epoch"), boot.tag("Chain")),
            (Some("test-1"), Some("dev/0/10000"))
        );
    }
    let odd = process_item_with(3, &[("Storage", "forever")]);
    assert_eq!(world.su.schedule(odd).await.unwrap_err().code, "invalid-storage");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_pages_stay_within_their_bounds() {
    let config = su::Config {
        heads_max: 2,
        page_entries_max: 5,
        page_bytes_max: 1500,
        batch_max: 3,
        ..small()
    };
    let world = World::with(config, Signer::ed25519(&[1; 32]));
    let mut processes = Vec::new();
    for n in 0..8 {
        processes.push(world.spawn(n).await);
    }
    for n in 0..40 {
        world
            .su
            .schedule(message(processes[n % 8], &format!("{n}")))
            .await
            .unwrap();
    }
    for process in &processes {
        let entries = world.whole(*process).await;
        assert_eq!(entries.len(), 6);
        verify_log(*process, &entries);
    }
    let page = world.su.log(processes[0], Span::Slots(0, 99), 100).await.unwrap();
    assert!(
        page.has_next_page && page.entries.len() < 5,
        "pages end at their bytes"
    );
}

/// Heads that are dropped while their batches are under way must not come back stale.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_may_go_at_any_moment() {
    let config = su::Config {
        heads_max: 1,
        batch_max: 5,
        ..small()
    };
    let world = World::with(config, Signer::ed25519(&[1; 32]));
    let mut processes = Vec::new();
    for n in 0..5 {
        processes.push(world.spawn(n).await);
    }
    let callers = (0..32usize).map(|caller| {
        let (su, processes) = (world.su.clone(), processes.clone());
        tokio::spawn(async move {
            for n in 0..20 {
                let item = message(processes[(caller + n) % 5], &format!("{caller}.{n}"));
                su.schedule(item).await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let mut total = 0;
    for process in &processes {
        let entries = world.whole(*process).await;
        verify_log(*process, &entries);
        total += entries.len() - 1;
    }
    assert_eq!(total, 32 * 20);
}

/// A full queue refuses; nothing waits without bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_as_busy() {
    let config = su::Config {
        queue_max: 1,
        ..small()
    };
    let world = World::with(config, Signer::ed25519(&[1; 32]));
    let process = world.spawn(1).await;
    let items: Vec<_> = (0..200).map(|n| message(process, &format!("{n}"))).collect();
    let answers =
        futures_util::future::join_all(items.iter().map(|item| world.su.schedule(item.clone()))).await;
    let busy = answers
        .iter()
        .filter_map(|a| a.as_ref().err())
        .inspect(|e| assert_eq!(e.code, "scheduler-busy"));
    let (busy, total) = (busy.count(), answers.len());
    assert!(busy > 0 && busy < total);
    assert_eq!(world.whole(process).await.len(), 1 + total - busy);
}
