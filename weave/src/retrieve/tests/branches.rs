//! Two ways on from one carrier: an epoch that was given up and the one that went on, two nodes at one wallet, and a
//! newest carrier that is only listed.

use std::cell::Cell;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use spec::ItemId;
use spec::contract::Answer;
use spec::ids::base64url;

use super::super::find::find;
use super::super::{Collector, Error, Source, Sources, Staging};
use super::world::{Anything, World, limits, rebuild};
use crate::network::Transport;
use crate::testing::transport;

/// Five segments: two in carriers, the fourth and the fifth in carriers after them, and the third not yet.
fn abandoned() -> (World, Option<ItemId>) {
    let (count, before) = (Cell::new(0), Cell::new(None));
    let world = World::made(5, |publisher, double, number, file| {
        if count.get() == 2 {
            before.set(publisher.prev_segment);
        } else {
            publisher.publish(double, number, file);
        }
        count.set(count.get() + 1);
    });
    (world, before.get())
}

#[tokio::test]
async fn a_later_epoch_counts_however_far_the_one_before_went() {
    let (mut world, before) = abandoned();
    // The node was lost after the second carrier was seen, and goes on from there; what it had posted comes later.
    world.publisher.epoch = 1;
    (world.publisher.sequence, world.publisher.prev_segment) = (2, before);
    let (number, file) = world.files[2].clone();
    world.publisher.publish(&mut world.handle.lock(), number, &file);
    let folder = tempfile::tempdir().unwrap();
    let numbers = rebuild(&world.sources(&[0]), world.wallet, folder.path()).await;
    assert_eq!(numbers.unwrap(), world.numbers()[..3]);
}

#[tokio::test]
async fn two_segments_for_one_place_in_one_epoch_are_refused_by_name() {
    let (mut world, before) = abandoned();
    let fourth = world.publisher.previous[1];
    // As far as the other branch, and not by way of it.
    (world.publisher.sequence, world.publisher.prev_segment) = (2, before);
    let (number, file) = world.files[2].clone();
    let third = world
        .publisher
        .publish(&mut world.handle.lock(), number, &file)
        .id;
    let sources = world.sources(&[0]);
    let mut found = find(&sources, &[world.wallet]).await.unwrap();
    found.claims.remove(&3);
    let folder = tempfile::tempdir().unwrap();
    let (staging, _) = Staging::open(folder.path(), "w").unwrap();
    let collector = Collector::new(sources, Arc::new(staging), Anything, Arc::default());
    let refused = collector.run(&mut found).await.unwrap_err().to_string();
    assert!(
        refused.contains(&third.to_string()) && refused.contains(&fourth.to_string()),
        "{refused}"
    );
    found.leave_out(&[fourth]);
    let segments = collector.run(&mut found).await.unwrap();
    assert_eq!(segments.last().unwrap().carrier, third);
    assert_eq!(found.left_out, [fourth]);
}

/// Two nodes that posted by one wallet, the second one shorter.
fn two_nodes() -> (World, Vec<u64>, [spec::Address; 2]) {
    let mut world = World::made(5, |publisher, double, number, file| {
        publisher.publish(double, number, file);
    });
    let other = World::made(3, |_, _, _, _| ());
    let ours = spec::signature::address(world.publisher.node.owner());
    world.publisher.node = spec::Signer::ed25519(&[7; 32]);
    (world.publisher.sequence, world.publisher.prev_segment) = (0, None);
    for (number, file) in &other.files {
        world.publisher.publish(&mut world.handle.lock(), *number, file);
    }
    let theirs = spec::signature::address(world.publisher.node.owner());
    (world, other.numbers(), [ours, theirs])
}

#[tokio::test]
async fn of_two_nodes_at_one_wallet_none_is_left_out_without_a_word() {
    let (world, short, [ours, theirs]) = two_nodes();
    let sources = world.sources(&[0]);
    let found = find(&sources, &[world.wallet]).await.unwrap();
    let by = async |scheduler: Option<spec::Address>| {
        let folder = tempfile::tempdir().unwrap();
        let (staging, _) = Staging::open(folder.path(), "w").unwrap();
        let collector = Collector::new(sources.clone(), Arc::new(staging), Anything, Arc::default());
        let collector = collector.of_scheduler(scheduler);
        let segments = collector.run(&mut found.clone()).await;
        segments.map(|segments| segments.iter().map(|one| one.number).collect::<Vec<_>>())
    };
    match by(None).await {
        Err(Error::TwoNodes { ours: one, other, .. }) => assert_eq!([one, other], [ours, theirs]),
        other => panic!("{other:?}"),
    }
    assert_eq!(by(Some(ours)).await.unwrap(), world.numbers());
    assert_eq!(by(Some(theirs)).await.unwrap(), short);
    let nobody = by(Some(world.wallet)).await.unwrap_err();
    assert!(matches!(nobody, Error::Nothing { .. }), "{nobody}");
}

/// What a gateway does to one path.
struct Bent<F> {
    inner: Arc<dyn Transport>,
    bend: F,
}

#[async_trait]
impl<F: Fn(&str, &mut Response<Bytes>) + Send + Sync> Transport for Bent<F> {
    async fn send(&self, request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        let path = request.uri().path().to_owned();
        let mut response = self.inner.send(request, bytes_max).await?;
        (self.bend)(&path, &mut response);
        Ok(response)
    }
}

fn bent(
    world: &World,
    rounds_max: usize,
    bend: impl Fn(&str, &mut Response<Bytes>) + Send + Sync + 'static,
) -> Sources {
    let mut limits = limits();
    limits.rounds_max = rounds_max;
    let inner = transport(&world.handle, 0);
    let bent = Source::new("bent", Arc::new(Bent { inner, bend }), &limits);
    Sources::new(vec![bent], limits)
}

#[tokio::test]
async fn a_newest_carrier_whose_bytes_are_late_is_left_out_only_by_name() {
    let world = World::by_bundler(3);
    let newest = world.publisher.previous[0];
    let late = format!("/raw/{newest}");
    let sources = bent(&world, 2, move |path, response| {
        if path == late {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let refused = rebuild(&sources, world.wallet_of_items(), folder.path())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, Error::Late { sequence: 2, id, .. } if id == newest),
        "{refused}"
    );
    assert!(refused.to_string().contains("--leave-out"), "{refused}");

    let mut found = find(&sources, &[world.wallet_of_items()]).await.unwrap();
    found.leave_out(&[newest]);
    let (staging, _) = Staging::open(folder.path(), &world.wallet_of_items().to_string()).unwrap();
    let collector = Collector::new(sources, Arc::new(staging), Anything, Arc::default());
    assert_eq!(collector.run(&mut found).await.unwrap().len(), 2);
    assert_eq!(found.left_out, [newest]);
}

/// Changes the first edge of every list of carriers.
fn list(body: &mut Response<Bytes>, change: impl Fn(&mut Vec<Value>)) {
    let Ok(mut json) = serde_json::from_slice::<Value>(body.body()) else {
        return;
    };
    let edges = json
        .pointer_mut("/data/transactions/edges")
        .and_then(Value::as_array_mut);
    if let Some(edges) = edges.filter(|edges| !edges.is_empty()) {
        change(edges);
        *body.body_mut() = json.to_string().into();
    }
}

#[tokio::test]
async fn one_gateways_inventions_crowd_nothing_out() {
    let world = World::by_bundler(3);
    // 200 carriers for one place, each with an id that its signature has, by the wallet's key.
    let liar = move |path: &str, response: &mut Response<Bytes>| {
        if path == "/graphql" {
            list(response, |edges| {
                let edge = edges[0].clone();
                edges.clear();
                for n in 0..90u8 {
                    let mut edge = edge.clone();
                    let signature = [n; 65];
                    edge["node"]["signature"] = base64url(&signature).into();
                    edge["node"]["id"] = ItemId(spec::chunks::sha256(&[&signature])).to_string().into();
                    edge["node"]["bundledIn"] = json!({ "id": ItemId([n; 32]) });
                    edges.push(edge);
                }
            });
        }
    };
    let limits = limits();
    let inner = transport(&world.handle, 0);
    let liar = Source::new("liar", Arc::new(Bent { inner, bend: liar }), &limits);
    let honest = Source::new("honest", transport(&world.handle, 1), &limits);
    let sources = Sources::new(vec![liar, honest], limits);
    let found = find(&sources, &[world.wallet_of_items()]).await.unwrap();
    let honest = world.publisher.previous.iter().rev().enumerate();
    for (sequence, id) in honest {
        let claims = &found.claims[&(sequence as u64)];
        assert!(
            claims.iter().any(|claim| claim.id == *id),
            "carrier {sequence} is known"
        );
        assert!(claims.len() <= 2 * sources.limits().claims_max);
    }
}

#[tokio::test]
async fn what_is_forged_about_a_true_carrier_is_seen_through() {
    let world = World::by_bundler(3);
    let forged = |path: &str, response: &mut Response<Bytes>| {
        if path == "/graphql" {
            list(response, |edges| {
                for tag in edges[0]["node"]["tags"].as_array_mut().unwrap() {
                    if tag["name"] == "Sequence" {
                        tag["value"] = "77".into();
                    }
                }
            });
        }
    };
    let mut limits = limits();
    limits.rounds_max = 2;
    let inner = transport(&world.handle, 0);
    let liar = Source::new("liar", Arc::new(Bent { inner, bend: forged }), &limits);
    let honest = Source::new("honest", transport(&world.handle, 1), &limits);
    let sources = Sources::new(vec![liar, honest], limits);
    let folder = tempfile::tempdir().unwrap();
    rebuild(&sources, world.wallet_of_items(), folder.path())
        .await
        .unwrap();
    world.assert_same(folder.path());
}

#[tokio::test]
async fn a_key_has_one_other_account_whatever_a_gateway_makes_of_it() {
    let world = World::by_bundler(2);
    // Only x and parity are the key's: the compressed form is the wallet's all the same.
    let turn = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let sources = bent(&world, 2, move |path, response| {
        if path == "/graphql" {
            list(response, |edges| {
                for edge in edges {
                    let key = edge["node"]["owner"]["key"].as_str().unwrap();
                    let mut key = spec::ids::from_base64url(key).unwrap();
                    let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    key[40..48].copy_from_slice(&turn.to_le_bytes());
                    edge["node"]["owner"]["key"] = base64url(&key).into();
                }
            });
        }
    });
    let found = find(&sources, &[world.wallet]).await;
    let wallets = found.map_or(1, |found| found.wallets.len());
    assert!(wallets <= 2, "{wallets} accounts of one key");
}
