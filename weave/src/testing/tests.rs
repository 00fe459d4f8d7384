//! The double refuses what it should, mines what it takes, and goes wrong only as its dice say.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use spec::chunks::Tree;
use spec::ids::{base64url, from_base64url};
use spec::placement::BlockPlace;
use spec::transaction::Content;
use spec::{Bundle, DataItem, ItemParts, Signer, Tag, Transaction};
use tower::ServiceExt;

use super::chain::TransactionRefused as Refused;
use super::*;

const KIB: usize = 1024;
const RICH: u128 = 1 << 90;

fn signer(n: u8) -> Signer {
    Signer::ethereum(&[n; 32]).unwrap()
}

fn double(faults: Faults) -> Double {
    let mut double = Double::new(Rules::default(), faults);
    double.mint(signer(1).transaction_owner().unwrap().address(), RICH);
    double
}

fn pattern(n: u8, len: usize) -> Bytes {
    (0..len).map(|i| (i >> 5) as u8 ^ (i >> 15) as u8 ^ n).collect()
}

fn content(double: &Double, data: &[u8]) -> Content {
    Content {
        last_tx: double.anchor().to_vec(),
        reward: double.price(data.len() as u64, None),
        ..Content::carrying(data)
    }
}

fn signed(double: &Double, data: &[u8]) -> Transaction {
    content(double, data).sign(&signer(1)).unwrap()
}

fn carrier(double: &Double, data: &[u8]) -> Transaction {
    let tags = vec![
        Tag::new("Bundle-Format", "binary"),
        Tag::new("Bundle-Version", "2.0.0"),
    ];
    let content = Content {
        tags,
        ..content(double, data)
    };
    content.sign(&signer(1)).unwrap()
}

fn chunks(data: &Bytes) -> Vec<ChunkPost> {
    let tree = Tree::of(data);
    let post = |chunk: spec::chunks::Chunk| ChunkPost {
        root: (tree.root(), data.len() as u64),
        offset: chunk.end - 1,
        data_path: tree.proof(chunk.start).unwrap().into(),
        chunk: data.slice(chunk.start as usize..chunk.end as usize),
    };
    tree.chunks().map(post).collect()
}

fn seed(double: &mut Double, peer: usize, data: &Bytes) {
    for post in chunks(data) {
        double.post_chunk(peer, post).unwrap();
    }
}

fn item(n: u8, data: &'static str) -> DataItem {
    let parts = ItemParts {
        tags: vec![
            Tag::new("Content-Type", "text/plain"),
            Tag::new("N", n.to_string()),
        ],
        data: Bytes::from_static(data.as_bytes()),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&[n; 32])).unwrap()
}

#[test]
fn a_transaction_goes_from_pending_to_confirmed_and_its_chunks_prove_their_place() {
    let mut double = double(Faults::none());
    let (small, data) = (pattern(1, 5), pattern(2, 700 * KIB));
    let first = signed(&double, &small);
    double.post_transaction(0, first, Some(small)).unwrap();
    let sent = signed(&double, &data);
    double.post_transaction(0, sent.clone(), None).unwrap();
    assert_eq!(double.status(0, &sent.id), Status::Pending);
    assert_eq!(double.status(1, &sent.id), Status::Unknown);
    double.tick(double.rules().gossip_ms);
    assert_eq!(double.status(1, &sent.id), Status::Pending);
    seed(&mut double, 0, &data);
    seed(&mut double, 2, &data);
    double.mine_block();
    assert_eq!(
        double.status(1, &sent.id),
        Status::Mined {
            height: 1,
            confirmations: 1
        }
    );
    assert_eq!(double.holders(&sent), 2);

    let offset: Value =
        serde_json::from_slice(&double.get(0, &format!("/tx/{}/offset", sent.id)).body).unwrap();
    let end: u64 = offset["offset"].as_str().unwrap().parse().unwrap();
    let block: Value = serde_json::from_slice(&double.get(0, "/block/height/1").body).unwrap();
    let number = |name: &str| block[name].as_str().unwrap().parse::<u64>().unwrap();
    let place = BlockPlace {
        tx_root: from_base64url(block["tx_root"].as_str().unwrap())
            .unwrap()
            .try_into()
            .unwrap(),
        start: number("weave_size") - number("block_size"),
        end: number("weave_size"),
    };
    let mut at = end - data.len() as u64 + 1;
    while at <= end {
        let chunk: Value = serde_json::from_slice(&double.get(2, &format!("/chunk/{at}")).body).unwrap();
        let part = |name: &str| from_base64url(chunk[name].as_str().unwrap()).unwrap();
        let bytes = part("chunk");
        let (placed, proved) = place
            .verify_chunk(at, &part("tx_path"), &part("data_path"), &bytes)
            .unwrap();
        assert_eq!(
            (placed.end, Some(placed.data_root)),
            (end, sent.content.data_root)
        );
        assert_eq!(bytes, data[proved.start as usize..proved.end as usize]);
        at += bytes.len() as u64;
    }
    assert_eq!(
        double.get(1, &format!("/chunk/{end}")).status,
        404,
        "peer 1 was never seeded"
    );
    assert_eq!(double.get(1, &format!("/raw/{}", sent.id)).body, data);
}

#[test]
fn a_transaction_that_breaks_a_rule_is_refused_by_name() {
    let mut double = double(Faults::none());
    let data = pattern(1, 10);
    let good = content(&double, &data);
    let sign = |content: Content| content.sign(&signer(1)).unwrap();
    let mut post =
        |transaction: Transaction, body: Option<Bytes>| double.post_transaction(0, transaction, body);

    let anchor = sign(Content {
        last_tx: vec![7; 48],
        ..good.clone()
    });
    assert!(matches!(post(anchor, None), Err(Refused::Anchor(50))));
    let other = sign(Content {
        last_tx: vec![7; 32],
        ..good.clone()
    });
    assert!(matches!(post(other, None), Err(Refused::Anchor(50))));
    let cheap = sign(Content {
        reward: good.reward - 1,
        ..good.clone()
    });
    assert!(matches!(post(cheap, None), Err(Refused::Reward { .. })));
    let poor = good.clone().sign(&signer(2)).unwrap();
    assert!(matches!(
        post(poor, None),
        Err(Refused::Balance { balance: 0, .. })
    ));
    let new = Content {
        target: Some(spec::Address([9; 32])),
        quantity: 1,
        ..good.clone()
    };
    assert!(matches!(
        post(sign(new.clone()), None),
        Err(Refused::Reward { .. })
    ));
    let mut forged = sign(good.clone());
    forged.content.reward += 1;
    assert!(matches!(post(forged, None), Err(Refused::Verification(_))));
    assert!(matches!(
        post(sign(good.clone()), Some(pattern(9, 10))),
        Err(Refused::Verification(_))
    ));
    let many = sign(Content {
        reward: RICH - 5,
        ..good.clone()
    });
    post(many, None).unwrap();
    assert!(matches!(
        post(sign(good.clone()), None),
        Err(Refused::Balance { .. })
    ));
}

#[test]
fn what_was_taken_is_not_taken_twice_and_expires_with_its_anchor() {
    let mut double = double(Faults::none());
    let data = pattern(1, 10);
    let sent = signed(&double, &data);
    double.post_transaction(0, sent.clone(), None).unwrap();
    assert_eq!(
        double.post_transaction(0, sent.clone(), None),
        Err(Refused::Known)
    );
    double.mine_block();
    // Remembered for a while, then known from the chain.
    assert_eq!(
        double.post_transaction(0, sent.clone(), None),
        Err(Refused::Known)
    );
    assert_eq!(
        double.post_transaction(1, sent.clone(), None),
        Err(Refused::Mined)
    );
    let own = Content {
        last_tx: sent.id.0.to_vec(),
        ..content(&double, &data)
    };
    double
        .post_transaction(0, own.sign(&signer(1)).unwrap(), None)
        .unwrap();

    // Their anchor is the first block.
    let [late, later] = [3, 4].map(|n| signed(&double, &pattern(n, 10)));
    (0..48).for_each(|_| double.mine_block());
    assert_eq!(
        double.post_transaction(0, late, None),
        Ok(()),
        "among the last 50"
    );
    double.mine_block();
    assert_eq!(double.post_transaction(0, later, None), Err(Refused::Anchor(50)));
}

#[test]
fn chunks_are_refused_with_the_words_of_the_network() {
    let mut double = double(Faults::none());
    let data = pattern(1, 700 * KIB);
    let posts = chunks(&data);
    assert_eq!(
        double.post_chunk(0, posts[0].clone()),
        Err(ChunkRefused::RootUnknown)
    );
    let sent = signed(&double, &data);
    double.post_transaction(0, sent, None).unwrap();
    assert_eq!(double.post_chunk(0, posts[0].clone()), Ok(Kept::Stored));
    assert_eq!(
        double.post_chunk(1, posts[0].clone()),
        Err(ChunkRefused::RootUnknown)
    );
    let wrong = ChunkPost {
        chunk: posts[1].chunk.clone(),
        ..posts[0].clone()
    };
    assert_eq!(double.post_chunk(0, wrong), Err(ChunkRefused::Proof));
    let elsewhere = ChunkPost {
        offset: 600 * KIB as u64,
        ..posts[0].clone()
    };
    assert_eq!(double.post_chunk(0, elsewhere), Err(ChunkRefused::Proof));
    let thin = ChunkPost {
        chunk: Bytes::from_static(b"x"),
        ..posts[0].clone()
    };
    assert_eq!(double.post_chunk(0, thin), Err(ChunkRefused::Ratio));

    let wire = |size: Value, offset: Value, chunk: &[u8]| {
        let root = base64url(&posts[0].root.0);
        let path = base64url(&posts[0].data_path);
        let json = json!({ "data_root": root, "data_size": size, "data_path": path, "offset": offset,
            "chunk": base64url(chunk) });
        ChunkPost::from_json(json.to_string().as_bytes()).map(|post| post.offset)
    };
    let size = json!(data.len().to_string());
    assert_eq!(wire(size.clone(), json!("7"), &[]), Ok(7));
    assert_eq!(wire(json!(data.len()), json!("7"), &[]), Err(ChunkRefused::Json));
    assert_eq!(wire(size.clone(), json!(7), &[]), Err(ChunkRefused::Json));
    assert_eq!(
        wire(size.clone(), json!("9".repeat(40)), &[]),
        Err(ChunkRefused::OffsetTooBig)
    );
    assert_eq!(
        wire(json!("9".repeat(40)), json!("7"), &[]),
        Err(ChunkRefused::SizeTooBig)
    );
    let long = vec![0; 256 * KIB + 1];
    assert_eq!(wire(size, json!("7"), &long), Err(ChunkRefused::ChunkTooBig));
}

#[test]
fn a_root_that_is_not_mined_in_time_is_forgotten_with_its_chunks() {
    let rules = Rules {
        block_txs_max: 0,
        ..Rules::default()
    };
    let mut double = Double::new(rules, Faults::none());
    double.mint(signer(1).transaction_owner().unwrap().address(), RICH);
    let data = pattern(1, 300 * KIB);
    let sent = signed(&double, &data);
    double.post_transaction(0, sent.clone(), None).unwrap();
    seed(&mut double, 0, &data);
    (0..14).for_each(|_| double.mine_block());
    assert_eq!(double.holders(&sent), 1);
    (0..2).for_each(|_| double.mine_block());
    assert_eq!(double.holders(&sent), 0);
    assert_eq!(
        double.post_chunk(0, chunks(&data).remove(0)),
        Err(ChunkRefused::RootUnknown)
    );
    assert_eq!(
        double.status(0, &sent.id),
        Status::Pending,
        "the header waits until its anchor is too old"
    );
    (0..50).for_each(|_| double.mine_block());
    assert_eq!(double.status(0, &sent.id), Status::Unknown);
}

#[test]
fn a_fork_takes_blocks_money_and_items_back() {
    let mut double = double(Faults::none());
    let owner = signer(1).transaction_owner().unwrap().address();
    let before = double.account(&owner);
    let bundle = Bundle::encode(&[item(1, "one")]);
    let mut sent = Vec::new();
    for n in 0..6 {
        let data = if n == 0 { bundle.clone() } else { pattern(n, 9) };
        let transaction = if n == 0 {
            carrier(&double, &data)
        } else {
            signed(&double, &data)
        };
        double
            .post_transaction(0, transaction.clone(), Some(data))
            .unwrap();
        sent.push(transaction);
        double.mine_block();
    }
    assert!(double.serve(&item(1, "one").id()).is_some());
    let after = double.account(&owner);
    assert!(after.balance < before.balance && after.last_tx == Some(sent[5].id));
    let (height, hash) = (double.height(), double.block(2).unwrap().hash);
    double.fork(height);
    assert_eq!(double.height(), height);
    assert_ne!(double.block(2).unwrap().hash, hash);
    assert_eq!(double.account(&owner), before);
    assert!(double.serve(&item(1, "one").id()).is_none());
    let pending = sent
        .iter()
        .filter(|one| double.status(1, &one.id) == Status::Pending)
        .count();
    assert!(
        (1..6).contains(&pending),
        "some come back, some are lost: {pending}"
    );
}

#[test]
fn the_bundler_carries_items_to_the_chain_and_signs_its_promise() {
    let mut double = double(Faults::none());
    let sent = item(3, "carried");
    let receipt = double.post_item(&sent).unwrap();
    assert_eq!(double.item_status(&sent.id()).unwrap().info, "new");
    let texts = [
        sent.id().to_string(),
        receipt.deadline_height.to_string(),
        receipt.timestamp.to_string(),
    ];
    let [id, deadline, time] = texts.each_ref().map(String::as_bytes);
    let hash = spec::deep_hash::list(&[b"Bundlr", receipt.version.as_bytes(), id, deadline, time]);
    let [owner, signature] = [&receipt.public, &receipt.signature].map(|text| from_base64url(text).unwrap());
    assert!(spec::SignatureType::Arweave.verify(&owner, &signature, &hash));
    (0..3).for_each(|_| double.mine_block());
    let status = double.item_status(&sent.id()).unwrap();
    assert_eq!((status.status, status.info), ("CONFIRMED", "pending"));
    let Some(Served::Item(served)) = double.serve(&sent.id()) else {
        panic!("not served")
    };
    assert_eq!(served, sent);
    (0..18).for_each(|_| double.mine_block());
    let status = double.item_status(&sent.id()).unwrap();
    assert_eq!(status.status, "FINALIZED");
    let (_, mined) = double.mined(&status.bundle_id.unwrap()).unwrap();
    assert_eq!(double.holders(&mined.transaction.clone()), PEERS);

    let mut forgetful = self::double(Faults::none().with(Fault::ForgetItem, 1_000));
    forgetful.post_item(&sent).unwrap();
    (0..60).for_each(|_| forgetful.mine_block());
    assert_eq!(forgetful.item_status(&sent.id()).unwrap().info, "new");
    assert!(forgetful.serve(&sent.id()).is_none());
}

#[test]
fn each_fault_does_what_it_says_and_nothing_else() {
    let data = pattern(1, 300 * KIB);
    let post = |fault| {
        let mut double = double(Faults::none().with(fault, 1_000).until(3));
        let sent = signed(&double, &data);
        double.post_transaction(0, sent.clone(), None).unwrap();
        let kept = double.post_chunk(0, chunks(&data).remove(0));
        (double, sent, kept)
    };
    let (double, sent, kept) = post(Fault::DropTransaction);
    assert_eq!(
        (double.status(0, &sent.id), kept),
        (Status::Unknown, Err(ChunkRefused::RootUnknown))
    );
    let (mut double, sent, kept) = post(Fault::LoseChunk);
    assert_eq!(kept, Ok(Kept::Stored));
    double.mine_block();
    assert!(matches!(double.status(0, &sent.id), Status::Mined { .. }));
    assert!(double.data(&sent).is_none(), "mined without data");
    (0..3).for_each(|_| double.mine_block());
    seed(&mut double, 0, &data);
    assert_eq!(
        double.holders(&sent),
        1,
        "it can be seeded later, once faults have healed"
    );
    let (mut double, sent, kept) = post(Fault::TemporaryChunk);
    assert_eq!(kept, Ok(Kept::Temporary));
    double.mine_block();
    assert_eq!(double.holders(&sent), 0);

    let (mut double, sent, _) = post(Fault::Lie);
    seed(&mut double, 0, &data);
    double.mine_block();
    let served = double.get(0, &format!("/{}", sent.id)).body;
    assert_eq!((served.len(), served == data), (data.len(), false));
    let (mut double, ..) = post(Fault::TooMany);
    assert_eq!(double.receive(1).unwrap_err().status, 429);
    let (mut double, ..) = post(Fault::LosePeer);
    double.mine_block();
    let away: Vec<usize> = (0..PEERS).filter(|peer| double.is_away(*peer)).collect();
    assert_eq!(away.len(), 1);
    assert_eq!(double.receive(away[0]).unwrap_err().status, 503);
}

/// Where peers pass chunks on, nothing is lost for good as long as one of them has it; elsewhere it is.
#[test]
fn a_peer_that_lost_everything_has_it_again_from_the_others() {
    for gossip in [None, Some(1_000)] {
        let rules = Rules {
            chunk_gossip_ms: gossip,
            ..Rules::default()
        };
        let mut double = Double::new(rules, Faults::none());
        double.mint(signer(1).transaction_owner().unwrap().address(), RICH);
        let data = pattern(3, 300_000);
        let sent = signed(&double, &data);
        double.post_transaction(0, sent.clone(), None).unwrap();
        double.tick(double.rules().gossip_ms);
        (0..PEERS).for_each(|peer| seed(&mut double, peer, &data));
        double.mine_block();
        for peer in 0..PEERS {
            double.lose(peer, 2, true);
            (0..4).for_each(|_| double.mine_block());
        }
        let expected = if gossip.is_some() { PEERS } else { 0 };
        assert_eq!(double.holders(&sent), expected, "{gossip:?}");
    }
}

/// Posts, seeds and mines for a while under some faults.
fn history(seed: u64) -> (spec::chunks::Hash, usize) {
    let mut double = double(Faults::seeded(seed));
    for n in 0..30u8 {
        let data = pattern(n, 1000 * usize::from(n + 1));
        let sent = signed(&double, &data);
        let _ = double.post_transaction(usize::from(n) % PEERS, sent, Some(data));
        double.post_item(&item(n + 1, "x")).unwrap();
        double.mine_block();
    }
    let faults = double
        .history()
        .filter(|line| line.contains("fault") || line.contains("fork"))
        .count();
    (double.history_hash(), faults)
}

#[test]
fn the_same_seed_makes_the_same_history_and_another_seed_another() {
    let of: Vec<_> = (0..12).map(history).collect();
    for (seed, one) in of.iter().enumerate() {
        assert_eq!(*one, history(seed as u64));
        assert!(of.iter().filter(|other| other.0 == one.0).count() == 1 || one.1 == 0);
    }
    assert!(
        of.iter().filter(|one| one.1 > 0).count() > 8,
        "most seeds bring faults"
    );
}

async fn send(handle: &Handle, request: Request<Body>) -> (u16, Response<Bytes>) {
    let response = http::router(handle, 0).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), Response::from_parts(parts, body))
}

async fn get(handle: &Handle, path: &str) -> (u16, Bytes) {
    let (status, response) = send(handle, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, response.into_body())
}

async fn post(handle: &Handle, path: &str, body: impl Into<Body>) -> (u16, Bytes) {
    let (status, response) = send(handle, Request::post(path).body(body.into()).unwrap()).await;
    (status, response.into_body())
}

#[tokio::test]
async fn over_http_node_gateway_and_bundler_answer_at_one_port() {
    let handle = Handle::new(double(Faults::none()));
    let data = Bundle::encode(&[item(1, "alpha"), item(2, "beta")]);
    let sent = carrier(&handle.lock(), &data);
    let (status, _) = post(&handle, "/tx", sent.to_json(Some(&data))).await;
    assert_eq!(status, 200);
    assert_eq!(post(&handle, "/tx", sent.to_json(Some(&data))).await.0, 208);
    assert_eq!(
        get(&handle, &format!("/tx/{}", sent.id)).await,
        (202, "Pending".into())
    );
    assert_eq!(get(&handle, &format!("/tx/{}/status", sent.id)).await.0, 202);
    let (status, receipt) = post(&handle, "/tx", item(3, "gamma").bytes().clone()).await;
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!((status, receipt["deadlineHeight"].as_u64()), (200, Some(200)));
    assert_eq!(get(&handle, "/mine/3").await, (200, "3".into()));
    let (_, status) = get(&handle, &format!("/tx/{}/status", sent.id)).await;
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["number_of_confirmations"], 3);
    let (_, status) = get(&handle, &format!("/tx/{}/status", item(3, "gamma").id())).await;
    assert_eq!(
        serde_json::from_slice::<Value>(&status).unwrap()["status"],
        "CONFIRMED"
    );
    assert_eq!(
        get(&handle, &format!("/{}", item(2, "beta").id())).await,
        (200, "beta".into())
    );
    let range = Request::get(format!("/raw/{}", item(2, "beta").id())).header("range", "bytes=1-2");
    assert_eq!(
        send(&handle, range.body(Body::empty()).unwrap())
            .await
            .1
            .into_body(),
        "et"
    );

    let query = r#"query($owners: [String!], $after: String) { transactions(first: 1, after: $after, owners: $owners,
        tags: [{ name: "N", values: ["1", "2"] }], sort: HEIGHT_ASC)
        { pageInfo { hasNextPage } edges { cursor node { id tags { name value } bundledIn { id } block { height } } } } }"#;
    let ask = async |variables: Value| {
        let body = json!({ "query": query, "variables": variables }).to_string();
        let (_, answer) = post(&handle, "/graphql", body).await;
        serde_json::from_slice::<Value>(&answer).unwrap()["data"]["transactions"].take()
    };
    let first = ask(json!({})).await;
    assert_eq!(
        (
            &first["pageInfo"]["hasNextPage"],
            first["edges"].as_array().unwrap().len()
        ),
        (&json!(true), 1)
    );
    let node = &first["edges"][0]["node"];
    assert_eq!(
        (&node["id"], &node["bundledIn"]["id"]),
        (&json!(item(1, "alpha").id()), &json!(sent.id))
    );
    let second = ask(json!({ "after": first["edges"][0]["cursor"] })).await;
    assert_eq!(second["edges"][0]["node"]["id"], json!(item(2, "beta").id()));
    assert_eq!(second["pageInfo"]["hasNextPage"], false);
    let own = ask(json!({ "owners": [item(2, "beta").owner_address()] })).await;
    assert_eq!(own["edges"][0]["node"]["id"], json!(item(2, "beta").id()));
}

fn place(double: &Double) -> (spec::chunks::Hash, u64, u64) {
    (double.history_hash(), double.height(), double.now_ms())
}

#[tokio::test]
async fn a_double_by_hand_is_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let setting = serve::Setting::new(1_700_000_000_000, 200, Some(5));
    let handle = serve::open(folder.path(), &setting).unwrap();
    for n in 0..20u8 {
        let data = pattern(n, 3000);
        let sent = signed(&handle.lock(), &data);
        post(&handle, "/tx", sent.to_json(Some(&data))).await;
        post(&handle, "/tx", item(n + 1, "x").bytes().clone()).await;
        handle.tick(130).unwrap();
    }
    let was = place(&handle.lock());
    drop(handle);
    let later = serve::Setting::new(1_800_000_000_000, 200, Some(5));
    let again = serve::open(folder.path(), &later).unwrap();
    assert_eq!(place(&again.lock()), was);
    let other = serve::Setting::new(1_800_000_000_000, 200, None);
    assert!(serve::open(folder.path(), &other).is_err());
}
