//! What the compute unit keeps is a cache: it may be lost, damaged or foreign, and nothing changes.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod fakes;

use std::sync::Arc;

use fakes::*;
use serde_json::Value;
use spec::contract::{Compute, Content, OutcomesQuery};
use spec::{Kind, ModuleId, ProcessId};

fn small(live_max: usize) -> cu::Config {
    cu::Config {
        threads: 2,
        live_max,
        checkpoint_evaluations: 5,
        ..cu::Config::default()
    }
}

async fn results(world: &World, process: ProcessId) -> Value {
    world.get(&format!("/results/{process}?limit=1000")).await.1
}

fn checkpoint(world: &World, process: ProcessId) -> std::path::PathBuf {
    world
        .dir
        .path()
        .join(format!("cache/cu/checkpoints/{process}.checkpoint"))
}

/// A process with failing and other messages, evaluated.
async fn busy(world: &World, messages: usize) -> ProcessId {
    let process = world.scheduler.spawn(MODULE, &[]);
    let mut last = process.into();
    for index in 0..messages {
        let action = ["a", "fail", "b", "trap", "send"][index % 5];
        last = world.scheduler.send(process, action, &[]);
    }
    world.outcome(process, last).await;
    process
}

#[tokio::test]
async fn deleting_the_cache_gives_equal_results_and_an_equal_state() {
    let mut world = World::with(small(8));
    let process = busy(&world, 23).await;
    let (before, root) = (results(&world, process).await, world.root(process).await);
    world.restart(false).await;
    let last = world.scheduler.entry(process, 23).assignment.message.unwrap();
    world.outcome(process, last).await;
    assert_eq!(
        (results(&world, process).await, world.root(process).await),
        (before, root)
    );
}

#[tokio::test]
async fn a_restart_goes_on_from_the_checkpoint() {
    let mut world = World::with(small(8));
    let process = busy(&world, 12).await;
    let (before, root) = (results(&world, process).await, world.root(process).await);
    world.restart(true).await;
    assert_eq!(
        results(&world, process).await,
        before,
        "outcomes are there without evaluating"
    );
    // Were the log read from its beginning, this break in it would be seen.
    world.scheduler.break_slot(process, 3);
    let next = world.scheduler.send(process, "x", &[]);
    assert_eq!(world.outcome(process, next).await["Output"]["count"], 9);
    assert_ne!(world.root(process).await, root);
}

#[tokio::test]
async fn a_crash_at_any_point_costs_a_replay_and_nothing_else() {
    let mut world = World::with(small(8));
    let process = busy(&world, 7).await;
    let (before, root) = (results(&world, process).await, world.root(process).await);
    world.crash(true).await;
    let last = world.scheduler.entry(process, 7).assignment.message.unwrap();
    world.outcome(process, last).await;
    assert_eq!(
        (results(&world, process).await, world.root(process).await),
        (before, root)
    );
}

#[tokio::test]
async fn damaged_and_foreign_checkpoints_are_left_out() {
    let mut world = World::with(small(8));
    let (process, other) = (busy(&world, 9).await, busy(&world, 3).await);
    let root = world.root(process).await;
    world.restart(true).await;
    let path = checkpoint(&world, process);
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let foreign = std::fs::read(checkpoint(&world, other)).unwrap();
    for bytes in [damaged, whole[..100].to_vec(), Vec::new(), foreign] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(world.root(process).await, root);
        world.restart(true).await;
    }
}

#[tokio::test]
async fn lost_outcomes_are_evaluated_again_though_the_state_is_past_them() {
    let mut world = World::with(small(8));
    let process = busy(&world, 12).await;
    let (before, root) = (results(&world, process).await, world.root(process).await);
    world.cu.close().await;
    let kept = std::fs::read(checkpoint(&world, process)).unwrap();
    world.crash(false).await;
    std::fs::create_dir_all(checkpoint(&world, process).parent().unwrap()).unwrap();
    std::fs::write(checkpoint(&world, process), kept).unwrap();
    assert_eq!(world.root(process).await, root, "the checkpoint is taken");
    let first = world.scheduler.entry(process, 1).assignment.message.unwrap();
    assert_eq!(world.outcome(process, first).await["Output"]["count"], 2);
    let last = world.scheduler.entry(process, 12).assignment.message.unwrap();
    world.outcome(process, last).await;
    assert_eq!(
        (results(&world, process).await, world.root(process).await),
        (before, root)
    );
}

#[tokio::test]
async fn idle_processes_go_to_their_checkpoints_and_come_back() {
    let world = World::with(small(2));
    let processes: Vec<_> = (0..12).map(|_| world.scheduler.spawn(MODULE, &[])).collect();
    for round in 1..4u64 {
        for process in &processes {
            let message = world.scheduler.send(*process, "x", &[]);
            assert_eq!(
                world.outcome(*process, message).await["Output"]["count"],
                round + 1
            );
        }
        assert!(world.cu.live_count() <= 2, "{}", world.cu.live_count());
    }
}

#[tokio::test]
async fn a_module_that_comes_late_is_found() {
    let world = World::new();
    let module = ModuleId([50; 32]);
    let process = world.scheduler.spawn(module, &[]);
    let message = world.scheduler.send(process, "x", &[]);
    for _ in 0..2 {
        let refusal = world.cu.result(process, message).await.unwrap_err();
        assert_eq!(
            (refusal.kind, refusal.code.as_ref()),
            (Kind::NotFound, "module-not-found")
        );
    }
    world.permanent.register(
        module,
        "rubbish".into(),
        module_tags("wasm32-unknown-emscripten4"),
    );
    let refusal = world.cu.result(process, message).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.code.as_ref()),
        (Kind::Invalid, "module-refused")
    );
    world.permanent.register(
        module,
        fakes::module::wasm(),
        module_tags("wasm32-unknown-emscripten4"),
    );
    assert_eq!(world.outcome(process, message).await["Output"]["count"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_one_evaluation_and_processes_run_beside_each_other() {
    let world = Arc::new(World::new());
    let processes: Vec<_> = (0..4).map(|_| world.scheduler.spawn(MODULE, &[])).collect();
    let mut tasks = Vec::new();
    for process in &processes {
        let messages: Vec<_> = (0..20)
            .map(|_| world.scheduler.send(*process, "x", &[]))
            .collect();
        for (index, message) in messages.into_iter().enumerate().rev() {
            for _ in 0..3 {
                let (world, process) = (world.clone(), *process);
                tasks.push(tokio::spawn(async move {
                    let outcome = world.outcome(process, message).await;
                    assert_eq!(outcome["Output"]["count"], index as u64 + 2);
                }));
            }
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    for process in processes {
        assert_eq!(world.cu.state(process, None).await.unwrap().memory[512], 21);
    }
}

#[tokio::test]
async fn more_crons_than_one_request_may_wait_for_are_done_in_several() {
    let config = cu::Config {
        request_evaluations_max: 100,
        turn_evaluations_max: 10,
        ..small(8)
    };
    let world = World::with(config);
    let process = world.scheduler.spawn(MODULE, &[("Cron-Interval", "1-second")]);
    world.scheduler.pass(250_500);
    let mut refused = 0;
    let crons = loop {
        match world
            .cu
            .crons(
                process,
                OutcomesQuery {
                    limit: 1000,
                    ..OutcomesQuery::default()
                },
            )
            .await
        {
            Ok(page) => break page.outcomes,
            Err(refusal) => assert_eq!(
                (refusal.kind, refusal.code.as_ref()),
                (Kind::Busy, "evaluations-due")
            ),
        }
        refused += 1;
    };
    assert_eq!((refused, crons.len()), (2, 250));
}

#[tokio::test]
async fn what_cannot_be_had_stops_the_process_before_it_and_nowhere_else() {
    let world = World::new();
    let process = busy(&world, 2).await;
    let item = spec::DataItem::sign(
        &spec::ItemParts {
            data: "x".into(),
            ..Default::default()
        },
        &user(),
    )
    .unwrap();
    let before = world.scheduler.send(process, "a", &[]);
    world
        .scheduler
        .put(process, Content::Elsewhere, Some(item.id()), vec![]);
    let after = world.scheduler.send(process, "a", &[]);
    assert_eq!(
        world.cu.result(process, after).await.unwrap_err().kind,
        Kind::NotFound
    );
    assert_eq!(world.outcome(process, before).await["Output"]["count"], 3);
    world.permanent.hold(item);
    assert_eq!(world.outcome(process, after).await["Output"]["count"], 5);
}

#[tokio::test]
async fn a_withheld_message_is_named() {
    let world = World::new();
    let process = busy(&world, 1).await;
    let item = spec::DataItem::sign(
        &spec::ItemParts {
            data: "x".into(),
            ..Default::default()
        },
        &user(),
    )
    .unwrap();
    world.scheduler.put(
        process,
        Content::Withheld(item.withhold()),
        Some(item.id()),
        vec![],
    );
    let refusal = world.cu.result(process, item.id()).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.code.as_ref()),
        (Kind::NotFound, "data-withheld")
    );
    assert!(
        refusal.text.contains(&item.id().to_string()) && refusal.text.contains("slot 2"),
        "{}",
        refusal.text
    );
}

#[tokio::test]
async fn a_log_whose_chain_breaks_is_not_evaluated() {
    let world = World::new();
    let process = busy(&world, 1).await;
    let message = world.scheduler.send(process, "x", &[]);
    world.scheduler.break_slot(process, 2);
    let refusal = world.cu.result(process, message).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.code.as_ref()),
        (Kind::Upstream, "hash-chain")
    );
}

#[tokio::test]
async fn another_engine_epoch_is_refused_where_an_operator_asks_so() {
    for is_strict in [false, true] {
        let world = World::with(cu::Config {
            engine_epoch_strict: is_strict,
            ..small(4)
        });
        world.scheduler.note("Engine-Epoch", "another");
        let process = world.scheduler.spawn(MODULE, &[]);
        let answer = world.cu.result(process, process.into()).await;
        match is_strict {
            false => assert!(!answer.unwrap().outcome.is_error()),
            true => assert_eq!(answer.unwrap_err().code, "module-epoch"),
        }
    }
    let world = World::with(cu::Config {
        engine_epoch_strict: true,
        ..small(4)
    });
    world.scheduler.note("Engine-Epoch", cu::engine_epoch());
    let process = world.scheduler.spawn(MODULE, &[]);
    assert_eq!(world.outcome(process, process).await["Output"]["count"], 1);
}

#[tokio::test]
async fn too_many_dry_runs_are_refused() {
    let config = cu::Config {
        reads_waiting_max: 2,
        ..small(4)
    };
    let world = World::with(config);
    let process = busy(&world, 1).await;
    let message = || serde_json::value::RawValue::from_string(r#"{"Owner":"me"}"#.into()).unwrap();
    let runs = (0..5).map(|_| {
        world.cu.dry_run(
            process,
            spec::contract::DryRun {
                message: message(),
                to: None,
            },
        )
    });
    let answers = futures(runs).await;
    let busy = |answer: &&spec::contract::Answer<_>| {
        answer
            .as_ref()
            .is_err_and(|refusal: &spec::Refusal| refusal.kind == Kind::Busy)
    };
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
    assert_eq!(answers.iter().filter(busy).count(), 3);
}

/// Polls all at once.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(move |context| {
        for (one, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = one.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        match all.iter().all(|(_, done)| done.is_some()) {
            true => std::task::Poll::Ready(all.iter_mut().map(|(_, done)| done.take().unwrap()).collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}
