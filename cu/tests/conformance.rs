//! The compute contract holds on both of its carriers: the unit itself, and the client over HTTP.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod fakes;

use std::sync::Arc;

use fakes::*;
use serde_json::value::RawValue;
use spec::contract::{Compute, DryRun, Evaluated, OutcomesQuery, Position, Tick};
use spec::{ItemId, Kind, ProcessId};
use wire::compute::ComputeClient;

/// A unit's client over loopback HTTP.
async fn over_http(world: &World) -> Arc<dyn Compute> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limits = wire::server::Limits::default();
    let router = wire::server::harden(world.router(), &limits);
    tokio::spawn(wire::server::serve(
        listener,
        router,
        limits,
        std::future::pending(),
    ));
    Arc::new(ComputeClient::new(
        wire::client::Http::new(&url, &wire::client::Limits::default()).unwrap(),
    ))
}

async fn conforms(world: &World, compute: Arc<dyn Compute>) {
    let process = world.scheduler.spawn(MODULE, &[("Cron-Interval", "2-seconds")]);
    let first = world.scheduler.send(process, "send", &[]);
    let failed = world.scheduler.send(process, "fail", &[]);
    let last = world.scheduler.send(process, "x", &[]);

    let boot = compute.result(process, process.into()).await.unwrap();
    let booted = (boot.slot, boot.message, boot.cron);
    assert_eq!(booted, (0, Some(process.into()), None));
    let at = compute.result(process, first).await.unwrap();
    let tick = world.scheduler.entry(process, 1).assignment.tick;
    assert_eq!((at.slot, at.tick, at.message), (1, tick, Some(first)));
    assert!(at.outcome.messages.get().contains(r#""value":1"#));
    assert!(compute.result(process, failed).await.unwrap().outcome.is_error());
    assert_eq!(compute.result(process, last).await.unwrap().slot, 3);

    lists(world, &*compute, process, tick.timestamp_ms).await;
    reads(&*compute, process, first, tick).await;
    refuses(world, &*compute).await;
}

/// Slots 0, 1 and 3 have outcomes to list; crons are due every two seconds.
async fn lists(world: &World, compute: &dyn Compute, process: ProcessId, first_ms: u64) {
    let query = OutcomesQuery {
        limit: 2,
        ..OutcomesQuery::default()
    };
    let list = async |query| {
        let page = compute.results(process, query).await.unwrap();
        let slots: Vec<_> = page.outcomes.iter().map(|at| at.slot).collect();
        (slots, page.has_next_page)
    };
    assert_eq!(list(query.clone()).await, (vec![0, 1], true));
    let from = Some(Position::Evaluation {
        timestamp_ms: first_ms,
        slot: 1,
        cron: None,
    });
    assert_eq!(
        list(OutcomesQuery {
            from,
            ..query.clone()
        })
        .await,
        (vec![3], false)
    );
    let newest = OutcomesQuery {
        descending: true,
        ..query.clone()
    };
    assert_eq!(list(newest).await, (vec![3, 1], true));

    world.scheduler.pass(5_000);
    let crons = compute
        .crons(process, OutcomesQuery { limit: 9, ..query })
        .await
        .unwrap();
    assert_eq!(crons.outcomes.len(), 2);
    let is_cron = |at: &Evaluated| at.cron.as_deref() == Some("0-2-seconds") && at.message.is_none();
    assert!(crons.outcomes.iter().all(is_cron));
}

fn dry_run(to: Option<ItemId>) -> DryRun {
    DryRun {
        message: RawValue::from_string(r#"{"Owner":"me"}"#.into()).unwrap(),
        to,
    }
}

async fn reads(compute: &dyn Compute, process: ProcessId, first: ItemId, tick: Tick) {
    let dry = compute.dry_run(process, dry_run(Some(first))).await.unwrap();
    assert!(dry.output.get().starts_with(r#"{"count":3,"#), "{}", dry.output);
    let state = compute.state(process, Some(tick.timestamp_ms)).await.unwrap();
    assert_eq!((state.slot, state.tick, state.memory[512]), (1, tick, 2));
    assert_eq!(compute.watch(process, Some(2)).await.unwrap(), 3);
}

async fn refuses(world: &World, compute: &dyn Compute) {
    let unknown = spec::ProcessId([1; 32]);
    assert_eq!(
        compute.result(unknown, unknown.into()).await.unwrap_err().kind,
        Kind::NotFound
    );
    assert_eq!(
        compute
            .results(unknown, OutcomesQuery::default())
            .await
            .unwrap_err()
            .kind,
        Kind::NotFound
    );
    assert_eq!(
        compute.dry_run(unknown, dry_run(None)).await.unwrap_err().kind,
        Kind::NotFound
    );
    assert_eq!(
        compute.watch(unknown, None).await.unwrap_err().kind,
        Kind::NotFound
    );
    let process = world.scheduler.spawn(spec::ModuleId([8; 32]), &[]);
    let refusal = compute.result(process, process.into()).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.code.as_ref()),
        (Kind::NotFound, "module-not-found")
    );
    let process = world.scheduler.spawn(MODULE, &[("Memory-Limit", "64-gb")]);
    let refusal = compute.result(process, process.into()).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.code.as_ref()),
        (Kind::Limit, "limit-exceeded")
    );
    let process = world.scheduler.spawn(MODULE, &[("Extension", "Unheard-Of")]);
    let refusal = compute.result(process, process.into()).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.code.as_ref()),
        (Kind::Invalid, "module-extension")
    );
}

#[tokio::test]
async fn the_unit_itself_conforms() {
    let world = World::new();
    conforms(&world, world.cu.clone()).await;
}

#[tokio::test]
async fn the_client_over_http_conforms() {
    let world = World::new();
    conforms(&world, over_http(&world).await).await;
}

#[tokio::test]
async fn watching_waits_for_the_next_slot() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    world.outcome(process, process).await;
    let client = over_http(&world).await;
    let watch = tokio::spawn(async move { client.watch(process, Some(0)).await });
    let message = world.scheduler.send(process, "x", &[]);
    world.outcome(process, message).await;
    assert_eq!(watch.await.unwrap(), Ok(1));
}
