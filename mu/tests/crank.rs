//! The crank under failures: order, lanes that do not wait for each other, poison, loops, storms,
//! crons. Seeded and in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::world::{Fault, World, quick, settle, until};
use mu::Config;
use serde_json::{Value, json};
use spec::contract::{Messenger, TraceQuery};
use spec::{DataItem, ItemId, ProcessId, Refusal, Signer};

fn send(target: ProcessId, number: usize) -> Value {
    json!({ "Target": target.to_string(), "Tags": [{ "name": "Number", "value": number }], "Data": "{}" })
}

fn outcome(messages: Vec<Value>) -> String {
    json!({ "Messages": messages }).to_string()
}

fn numbers(world: &World, process: ProcessId) -> Vec<usize> {
    world
        .log_of(process)
        .iter()
        .map(|item| item.tag("Number").unwrap().parse().unwrap())
        .collect()
}

fn down() -> Refusal {
    Refusal::upstream("down", "the scheduler is down")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_receiver_gets_a_senders_messages_in_order_through_failures() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let from = world.process().await;
    let to = [
        world.process().await,
        world.process().await,
        world.process().await,
    ];
    // Every call fails again and again, by a fixed pattern.
    let calls = AtomicU32::new(0);
    world.fault(move |call, _| {
        let n = calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(2_654_435_761) >> 28;
        if n < 6 && call != "find" {
            Fault::Refuse(down())
        } else {
            Fault::None
        }
    });
    let mu = world.messenger(dir.path());
    for slot in 0..20 {
        let messages = (0..6).map(|i| send(to[i % 3], slot * 6 + i)).collect();
        let item = world.message(from, &outcome(messages));
        while let Err(refusal) = mu.push(item.clone()).await {
            assert!(refusal.is_retryable(), "{refusal}");
        }
    }
    settle(&mu).await;
    for (which, process) in to.into_iter().enumerate() {
        let expected: Vec<_> = (0..120).filter(|n| n % 3 == which).collect();
        assert_eq!(numbers(&world, process), expected);
    }
}

#[tokio::test]
async fn a_receiver_that_is_down_holds_up_nobody_else() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (from, bad, good) = (
        world.process().await,
        world.process().await,
        world.process().await,
    );
    let is_down = Arc::new(AtomicBool::new(true));
    let switch = is_down.clone();
    world.fault(move |call, process| {
        let hit = call == "schedule" && process == Some(bad) && switch.load(Ordering::Relaxed);
        if hit { Fault::Refuse(down()) } else { Fault::None }
    });
    // More wait for the one that is down than may be under way at once.
    let mu = world.messenger_with(
        dir.path(),
        Config {
            window_max: 8,
            ..quick()
        },
        Signer::ed25519(&[9; 32]),
    );
    for n in 0..30 {
        mu.push(world.message(from, &outcome(vec![send(bad, n), send(good, n)])))
            .await
            .unwrap();
    }
    until("the good one has all", || world.log_of(good).len() == 30).await;
    assert_eq!(world.log_of(bad).len(), 0);
    is_down.store(false, Ordering::Relaxed);
    settle(&mu).await;
    assert_eq!(numbers(&world, bad), (0..30).collect::<Vec<_>>());
    assert_eq!(numbers(&world, good), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_waits_survives_a_restart_with_its_tries() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (from, to) = (world.process().await, world.process().await);
    let is_down = Arc::new(AtomicBool::new(true));
    let (switch, tries) = (is_down.clone(), Arc::new(AtomicU32::new(0)));
    let counted = tries.clone();
    world.fault(move |call, process| {
        let hit = call == "schedule" && process == Some(to) && switch.load(Ordering::Relaxed);
        if hit {
            counted.fetch_add(1, Ordering::Relaxed);
            return Fault::Refuse(down());
        }
        Fault::None
    });
    let config = Config {
        attempts_max: 8,
        ..quick()
    };
    let open = |config: &Config| world.messenger_with(dir.path(), config.clone(), Signer::ed25519(&[9; 32]));
    let mu = open(&config);
    mu.push(world.message(from, &outcome(vec![send(to, 0), send(to, 1)])))
        .await
        .unwrap();
    until("it was tried", || tries.load(Ordering::Relaxed) >= 3).await;
    mu.close().await;
    drop(mu);
    reopenable(dir.path()).await;
    let mu = open(&config);
    settle(&mu).await;
    // Eight attempts each, the restart between them notwithstanding; then they are given up.
    assert_eq!(tries.load(Ordering::Relaxed), 16);
    let traces = mu
        .traces(TraceQuery {
            page_size: 50,
            ..TraceQuery::default()
        })
        .await
        .unwrap()
        .traces;
    assert_eq!(
        traces
            .iter()
            .filter(|trace| trace.logs[0].contains("given up after 8"))
            .count(),
        2
    );
    is_down.store(false, Ordering::Relaxed);
    mu.push(world.message(from, &outcome(vec![send(to, 2)])))
        .await
        .unwrap();
    settle(&mu).await;
    assert_eq!(numbers(&world, to), [2]);
}

/// Waits until the tasks of a dropped messenger have let go of the queue's file.
async fn reopenable(dir: &std::path::Path) {
    let path = dir.join(mu::QUEUE_FILE);
    until("the file is free", || {
        mu::queue::Queue::open(&path, 1 << 20).is_ok()
    })
    .await;
}

#[tokio::test]
async fn poison_does_not_keep_the_rest_back() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (from, to) = (world.process().await, world.process().await);
    let mu = world.messenger(dir.path());
    let poison = json!([
        "no message at all",
        { "Tags": [], "Data": "no target" },
        { "Target": to.to_string(), "Tags": [{ "name": "T", "value": {} }] },
        { "Target": to.to_string(), "Tags": [{ "name": "", "value": "empty name" }] },
        { "Target": to.to_string(), "Tags": [{ "name": "Big", "value": "x".repeat(4000) }] },
        { "Target": to.to_string(), "Tags": [], "Data": { "no": "text" } },
        { "Target": { "no": "text" }, "Tags": [] },
        send(to, 7),
    ]);
    let spawns = json!([{ "Tags": [{ "name": "No-Module", "value": "x" }] }, 5]);
    let assignments =
        json!([{ "Processes": ["nobody"], "Message": from.to_string() }, { "Processes": [] }, null]);
    let json = json!({ "Messages": poison, "Spawns": spawns, "Assignments": assignments, "Error": "odd" });
    let item = world.message(from, &json.to_string());
    let id = item.id();
    mu.push(item).await.unwrap();
    mu.push(world.message(from, r#"{"Messages":"no list","Spawns":7}"#))
        .await
        .unwrap();
    mu.push(world.message(from, &outcome(vec![send(to, 8)])))
        .await
        .unwrap();
    settle(&mu).await;
    assert_eq!(numbers(&world, to), [7, 8]);
    assert_eq!(
        world.log_of(to)[0].tag("From-Slot"),
        Some("1.7"),
        "dropped entries keep their place"
    );
    let query = TraceQuery {
        item: Some(id),
        page_size: 50,
        ..TraceQuery::default()
    };
    let traces = mu.traces(query).await.unwrap().traces;
    let dropped = traces
        .iter()
        .filter(|trace| trace.logs[0].contains("not sent"))
        .count();
    assert_eq!(dropped, 7 + 2 + 3, "{traces:#?}");
}

#[tokio::test]
async fn a_refusal_for_good_is_traced_and_passed_over() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (from, to) = (world.process().await, world.process().await);
    world.fault(move |call, process| match (call, process == Some(to)) {
        ("schedule", true) => Fault::Refuse(Refusal::limit("too-large", "the message is too large")),
        _ => Fault::None,
    });
    let mu = world.messenger(dir.path());
    mu.push(world.message(from, &outcome(vec![send(to, 1)])))
        .await
        .unwrap();
    settle(&mu).await;
    world.heal();
    mu.push(world.message(from, &outcome(vec![send(to, 2)])))
        .await
        .unwrap();
    settle(&mu).await;
    assert_eq!(numbers(&world, to), [2]);
    let traces = mu
        .traces(TraceQuery {
            page_size: 50,
            ..TraceQuery::default()
        })
        .await
        .unwrap()
        .traces;
    assert!(
        traces
            .iter()
            .any(|trace| trace.logs[0].contains("refused: the message is too large"))
    );
}

#[tokio::test]
async fn a_compute_unit_that_refuses_is_asked_again_and_nothing_is_lost() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (from, to) = (world.process().await, world.process().await);
    let failures = AtomicU32::new(0);
    world.fault(move |call, process| match (call, process == Some(from)) {
        ("result", true) if failures.fetch_add(1, Ordering::Relaxed) < 5 => Fault::Refuse(down()),
        _ => Fault::None,
    });
    let mu = world.messenger(dir.path());
    mu.push(world.message(from, &outcome(vec![send(to, 1)])))
        .await
        .unwrap();
    settle(&mu).await;
    assert_eq!(numbers(&world, to), [1]);
    // Refused for good (a module that is not here): parked, and found again at the next wake.
    world.fault(|call, _| match call {
        "result" => Fault::Refuse(Refusal::not_found("no-module", "the module is not here")),
        _ => Fault::None,
    });
    mu.push(world.message(from, &outcome(vec![send(to, 2)])))
        .await
        .unwrap();
    settle(&mu).await;
    assert_eq!(numbers(&world, to), [1]);
    world.heal();
    mu.push(world.message(from, &outcome(vec![send(to, 3)])))
        .await
        .unwrap();
    settle(&mu).await;
    assert_eq!(numbers(&world, to), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_is_cut_at_its_depth_and_stays_cut() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (a, b) = (world.process().await, world.process().await);
    for (from, to) in [(a, b), (b, a)] {
        let reply = outcome(vec![send(to, 0)]);
        world.script(
            from,
            move |_, slot| if slot == 0 { "{}".into() } else { reply.clone() },
        );
    }
    let config = Config {
        depth_max: 25,
        ..quick()
    };
    let mu = world.messenger_with(dir.path(), config.clone(), Signer::ed25519(&[9; 32]));
    mu.push(world.message(a, "")).await.unwrap();
    settle(&mu).await;
    assert_eq!(world.log_of(a).len() + world.log_of(b).len(), 1 + 25);
    // Forgetting everything revives nothing: the depth stands in the log.
    let fresh = tempfile::tempdir().unwrap();
    let again = world.messenger_with(fresh.path(), config, Signer::ed25519(&[9; 32]));
    settle(&again).await;
    assert_eq!(world.log_of(a).len() + world.log_of(b).len(), 1 + 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_of_assignments_is_cut_too() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let a = world.process().await;
    let wallet = ProcessId([0x33; 32]).to_string();
    // Each message goes to a wallet and comes back by the tag `Assignments`.
    let tags = json!([{ "name": "Assignments", "value": [a.to_string()] }]);
    let reply = outcome(vec![json!({ "Target": wallet, "Tags": tags, "Data": "x" })]);
    world.script(
        a,
        move |_, slot| if slot == 0 { "{}".into() } else { reply.clone() },
    );
    let config = Config {
        depth_max: 10,
        ..quick()
    };
    let mu = world.messenger_with(dir.path(), config, Signer::ed25519(&[9; 32]));
    mu.push(world.message(a, "")).await.unwrap();
    settle(&mu).await;
    assert_eq!(world.entries(a).len(), 1 + 1 + 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_is_cut_by_width_and_by_total() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let from = world.process().await;
    let mut to = Vec::new();
    for _ in 0..3 {
        to.push(world.process().await);
    }
    let storm = outcome(to.iter().map(|process| send(*process, 0)).collect());
    for process in &to {
        let storm = storm.clone();
        world.script(
            *process,
            move |_, slot| if slot == 0 { "{}".into() } else { storm.clone() },
        );
    }
    let total = 200;
    let config = Config {
        origin_total_max: total,
        fan_out_max: 2,
        deliveries_max: 1,
        ..quick()
    };
    let mu = world.messenger_with(dir.path(), config.clone(), Signer::ed25519(&[9; 32]));
    let all = || {
        to.iter()
            .map(|process| world.log_of(*process).len())
            .sum::<usize>()
    };
    mu.push(world.message(from, &storm)).await.unwrap();
    settle(&mu).await;
    assert_eq!(all() as u64, total);
    assert_eq!(world.log_of(to[2]).len(), 0, "beyond the width of two");
    // The count is found again in the log.
    let fresh = tempfile::tempdir().unwrap();
    let again = world.messenger_with(fresh.path(), config, Signer::ed25519(&[9; 32]));
    settle(&again).await;
    assert_eq!(all() as u64, total);
    // Another origin has a count of its own.
    again
        .push(world.message(from, &outcome(vec![send(to[2], 0)])))
        .await
        .unwrap();
    settle(&again).await;
    assert!(world.log_of(to[2]).len() == 1 && all() as u64 > total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crons_outbox_is_pushed_once_even_if_everything_is_forgotten() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (cron, to) = (world.process().await, world.process().await);
    world.fire(cron, "0-1-second", &outcome(vec![send(to, 99)]));
    let mu = world.messenger(dir.path());
    mu.monitor(cron, world.item(Some(cron), &[], " ")).await.unwrap();
    for n in 0..7 {
        world.fire(cron, "0-1-second", &outcome(vec![send(to, n)]));
    }
    until("the crons are pushed", || world.log_of(to).len() == 7).await;
    drop(mu);
    let fresh = tempfile::tempdir().unwrap();
    let again = world.messenger(fresh.path());
    world.fire(cron, "1-5-seconds", &outcome(vec![send(to, 7)]));
    until("the monitor lives on", || world.log_of(to).len() == 8).await;
    again
        .unmonitor(cron, world.item(Some(cron), &[], " "))
        .await
        .unwrap();
    settle(&again).await;
    world.fire(cron, "0-1-second", &outcome(vec![send(to, 98)]));
    drop(again);
    let third = tempfile::tempdir().unwrap();
    let last = world.messenger(third.path());
    settle(&last).await;
    // Neither what fired before the monitor, nor what fired after it; each of the others once.
    assert_eq!(numbers(&world, to), (0..8).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeded_crowd_gets_every_message_once_and_in_order() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut processes = Vec::new();
    for _ in 0..12 {
        processes.push(world.process().await);
    }
    let mu = world.messenger(dir.path());
    let mut seed = 0x9e37_79b9_u32;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) as usize % below
    };
    let mut expected: HashMap<(ProcessId, ProcessId), Vec<usize>> = HashMap::new();
    let mut number = 0;
    for _ in 0..150 {
        let from = processes[random(12)];
        let mut messages = Vec::new();
        for _ in 0..random(5) {
            let to = processes[random(12)];
            number += 1;
            messages.push(send(to, number));
            expected.entry((from, to)).or_default().push(number);
        }
        mu.push(world.message(from, &outcome(messages))).await.unwrap();
    }
    settle(&mu).await;
    let mut seen: HashMap<(ProcessId, ProcessId), Vec<usize>> = HashMap::new();
    for to in processes {
        for item in world
            .log_of(to)
            .iter()
            .filter(|item| item.tag("Number").is_some())
        {
            let from: ItemId = item.tag("From-Process").unwrap().parse().unwrap();
            seen.entry((from.into(), to))
                .or_default()
                .push(item.tag("Number").unwrap().parse().unwrap());
        }
    }
    assert!(number > 200 && seen == expected);
}

#[tokio::test]
async fn an_idle_messenger_evaluates_nothing() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    for _ in 0..50 {
        world.process().await;
    }
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let mu = world.messenger(dir.path());
    settle(&mu).await;
    world.fault(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Fault::None
    });
    let process = world.process().await;
    let pushed: DataItem = world.message(process, "");
    mu.push(pushed).await.unwrap();
    settle(&mu).await;
    // Slot 0 was scheduled beside the messenger: one call; push: one; log: two; results: two.
    assert!(calls.load(Ordering::Relaxed) <= 6, "{calls:?}");
}
