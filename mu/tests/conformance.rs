//! One suite for the messenger's contract, run against both carriers: the unit itself and its HTTP
//! client over a loopback listener.

use std::sync::Arc;

use mu::Mu;
use serde_json::json;
use spec::contract::{Field, Messenger, Scheduler, TraceQuery};
use spec::{DataItem, ItemId, ItemParts, Kind, ProcessId};
use wire::messenger::Client;

use crate::world::{World, settle};

/// Calls each method, with what it must take and what it must refuse.
async fn suite(world: &Arc<World>, mu: &Mu, messenger: &dyn Messenger) {
    let (a, b) = (world.process().await, world.process().await);
    let message = world.message(a, "{}");
    let pushed = messenger.push(message.clone()).await.unwrap();
    assert_eq!((pushed.id, pushed.process), (message.id(), None));
    let again = messenger.push(message.clone()).await.unwrap_err();
    assert_eq!((again.kind, &*again.code), (Kind::Invalid, "message-exists"));
    let child = world.process_item(&[]);
    assert_eq!(
        messenger.push(child.clone()).await.unwrap().process,
        Some(child.id().into())
    );

    let exclude = vec![Field::Data, Field::Anchor];
    let assignment = messenger
        .assign(b, message.id(), false, exclude.clone())
        .await
        .unwrap();
    let entry = Scheduler::message(&**world, b, assignment).await.unwrap();
    assert_eq!(
        (entry.assignment.subject(), entry.assignment.exclude),
        (message.id(), exclude)
    );
    assert!(messenger.assign(b, ItemId([1; 32]), true, vec![]).await.is_err());

    let mine = DataItem::sign(
        &ItemParts {
            target: Some(a.0),
            ..ItemParts::default()
        },
        &world.user,
    )
    .unwrap();
    messenger.monitor(a, mine.clone()).await.unwrap();
    assert_eq!(
        messenger.monitor(b, mine.clone()).await.unwrap_err().code,
        "wrong-target"
    );
    messenger.unmonitor(a, mine).await.unwrap();

    let bad = world.item(Some(a), &[("Data-Protocol", "ao"), ("Type", "Nonsense")], "");
    let refusal = messenger.push(bad).await.unwrap_err();
    assert_eq!((refusal.kind, &*refusal.code), (Kind::Invalid, "invalid-type"));
    assert!(refusal.text.contains("`Nonsense`"));
    settle(mu).await;

    let of = |process: ProcessId| TraceQuery {
        process: Some(process),
        page: 1,
        page_size: 1,
        ..TraceQuery::default()
    };
    let page = messenger.traces(of(a)).await.unwrap();
    assert_eq!((page.traces.len(), page.has_next_page), (1, true));
    let query = TraceQuery {
        item: Some(message.id()),
        wallet: Some(message.signer_text().into()),
        ..of(a)
    };
    let first = messenger
        .traces(TraceQuery { page: 2, ..query })
        .await
        .unwrap()
        .traces;
    assert_eq!(json!(first[0])["logs"], json!(["scheduled"]));
}

#[tokio::test]
async fn the_unit_itself() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mu = world.messenger(dir.path());
    suite(&world, &mu, &*mu).await;
}

#[tokio::test]
async fn the_client_over_http() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mu = world.messenger(dir.path());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/mu", listener.local_addr().unwrap());
    let limits = wire::server::Limits::default();
    let routes = axum::Router::new().nest("/mu", mu::http::router(mu.clone()));
    let router = wire::server::harden(routes, &limits);
    tokio::spawn(wire::server::serve(
        listener,
        router,
        limits,
        std::future::pending(),
    ));
    let http = wire::client::Http::new(&base, &Default::default()).unwrap();
    suite(&world, &mu, &Client::new(http)).await;
}
