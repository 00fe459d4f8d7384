//! The clients against the double, and against peers that answer anything at all.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;
use spec::chunks::Tree;
use spec::contract::Answer;
use spec::transaction::Content;
use spec::{Address, DataItem, ItemId, ItemParts, Kind, Refusal, Signer, Tag, Transaction};

use super::*;
use crate::testing::{self, Double, Fault, Faults, Handle, Rules};

/// A peer that says one thing, and what it was asked.
struct Canned {
    status: u16,
    body: Bytes,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Canned {
    async fn send(&self, request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        let packing = request.headers().get("x-packing").map(|_| " unpacked");
        let asked = format!("{} {}{}", request.method(), request.uri(), packing.unwrap_or(""));
        self.asked.lock().unwrap().push(asked);
        if self.body.len() > bytes_max {
            return Err(Refusal::upstream("unreachable", "too long"));
        }
        Ok(Response::builder()
            .status(self.status)
            .body(self.body.clone())
            .unwrap())
    }
}

fn canned(status: u16, body: impl Into<Bytes>) -> Peer {
    let (body, asked) = (body.into(), Mutex::default());
    Peer::new("http://p", Arc::new(Canned { status, body, asked }))
}

fn service(status: u16, body: impl Into<Bytes>) -> BundlerService {
    let (body, asked) = (body.into(), Mutex::default());
    BundlerService::new("http://b", Arc::new(Canned { status, body, asked }), "arweave")
}

fn signer() -> Signer {
    Signer::ethereum(&[1; 32]).unwrap()
}

fn account() -> Address {
    signer().transaction_owner().unwrap().address()
}

fn handle(faults: Faults) -> Handle {
    let mut double = Double::new(Rules::default(), faults);
    double.mint(account(), 1 << 90);
    Handle::new(double)
}

async fn signed(peer: &Peer, data: &[u8]) -> Transaction {
    let content = Content {
        last_tx: peer.anchor().await.unwrap().to_vec(),
        reward: peer.price(data.len() as u64).await.unwrap(),
        tags: vec![Tag::new("App", "test")],
        ..Content::carrying(data)
    };
    content.sign(&signer()).unwrap()
}

fn posts(data: &Bytes) -> Vec<ChunkPost> {
    let tree = Tree::of(data);
    let post = |chunk: spec::chunks::Chunk| ChunkPost {
        data_root: tree.root(),
        data_size: data.len() as u64,
        data_path: tree.proof(chunk.start).unwrap().into(),
        offset: chunk.end - 1,
        chunk: data.slice(chunk.start as usize..chunk.end as usize),
    };
    tree.chunks()
        .filter(|chunk| chunk.end > chunk.start)
        .map(post)
        .collect()
}

fn item(data: &'static [u8]) -> DataItem {
    let parts = ItemParts {
        data: Bytes::from_static(data),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&[3; 32])).unwrap()
}

#[tokio::test]
async fn a_transaction_is_posted_seeded_mined_and_proved_through_the_clients() {
    let handle = handle(Faults::none());
    let peers = testing::peers(&handle);
    let data: Bytes = (0..700_000u32).map(|i| (i ^ (i >> 9)) as u8).collect();
    let sent = signed(&peers[0], &data).await;
    assert_eq!(peers[0].status(sent.id).await, Ok(TxStatus::Missing));
    assert_eq!(peers[0].post_transaction(&sent).await, Ok(Accepted::New));
    assert_eq!(peers[0].post_transaction(&sent).await, Ok(Accepted::Known));
    assert_eq!(peers[0].status(sent.id).await, Ok(TxStatus::Pending));
    assert_eq!(peers[0].transaction(sent.id).await, Ok(None), "it waits");
    assert_eq!(peers[0].offset(sent.id).await, Ok(None));
    assert_eq!(peers[0].data(sent.id).await.unwrap_err().kind, Kind::NotFound);
    for post in posts(&data) {
        assert_eq!(peers[0].post_chunk(&post).await, Ok(ChunkAccepted::Stored));
    }
    handle.lock().mine_block();
    assert_eq!(
        peers[0].post_transaction(&sent).await,
        Ok(Accepted::Known),
        "in a block"
    );

    let TxStatus::Mined {
        height: 1,
        block,
        confirmations: 1,
    } = peers[2].status(sent.id).await.unwrap()
    else {
        panic!("mined at height 1");
    };
    let header = peers[2].block_at(1).await.unwrap();
    assert_eq!((&header.hash, header.txs.as_slice()), (&block, &[sent.id][..]));
    assert_eq!(peers[1].transaction(sent.id).await.unwrap().as_ref(), Some(&sent));
    let (end, size) = peers[1].offset(sent.id).await.unwrap().unwrap();
    assert_eq!(size, data.len() as u64);
    let (place, mut at) = (header.place().unwrap(), end - size + 1);
    while at <= end {
        let got = peers[0].chunk(at).await.unwrap();
        let (placed, chunk) = place
            .verify_chunk(at, &got.tx_path, &got.data_path, &got.chunk)
            .unwrap();
        assert_eq!(Some(placed.data_root), sent.content.data_root);
        assert_eq!(got.chunk, data[chunk.start as usize..chunk.end as usize]);
        at += got.chunk.len() as u64;
    }
    assert_eq!(
        peers[1].chunk(end).await.unwrap_err().kind,
        Kind::NotFound,
        "never seeded"
    );
    assert_eq!(peers[1].data(sent.id).await.unwrap(), data);
    assert_eq!(peers[1].last_tx(account()).await, Ok(Some(sent.id)));
    assert_eq!(peers[1].last_tx(Address([7; 32])).await, Ok(None));
    assert_eq!(
        peers[1].balance(account()).await.unwrap(),
        (1 << 90) - sent.content.reward
    );
    assert_eq!(peers[1].height().await, Ok(1));
}

#[tokio::test]
async fn refusals_say_whether_to_sign_again_go_elsewhere_or_give_up() {
    let handle = handle(Faults::none());
    let peer = testing::peer(&handle, 0);
    let data = Bytes::from(vec![5; 300_000]);
    let code = |refusal: Refusal| (refusal.kind, refusal.code.into_owned());

    let mut stale = signed(&peer, &data).await.content;
    stale.last_tx = vec![9; 48];
    let stale = stale.sign(&signer()).unwrap();
    let refused = peer.post_transaction(&stale).await.unwrap_err();
    assert_eq!(code(refused), (Kind::Invalid, "anchor-refused".into()));
    let mut cheap = signed(&peer, &data).await.content;
    cheap.reward = 1;
    let refused = peer
        .post_transaction(&cheap.sign(&signer()).unwrap())
        .await
        .unwrap_err();
    assert_eq!(code(refused), (Kind::Invalid, "transaction-refused".into()));

    let mut post = posts(&data).remove(0);
    let unknown = peer.post_chunk(&post).await.unwrap_err();
    assert_eq!(code(unknown), (Kind::Upstream, "data-root-not-found".into()));
    peer.post_transaction(&signed(&peer, &data).await).await.unwrap();
    post.chunk = post.chunk.slice(1..);
    let forged = peer.post_chunk(&post).await.unwrap_err();
    assert!(forged.text.starts_with("peer-0/chunk answered 400") && forged.text.contains("invalid_proof"));
    assert_eq!(code(forged), (Kind::Invalid, "chunk-refused".into()));
    for word in ["exceeds_disk_pool_size_limit", "disk_full"] {
        let peer = canned(400, json!({ "error": word }).to_string());
        assert_eq!(
            code(peer.post_chunk(&post).await.unwrap_err()),
            (Kind::Upstream, "no-room".into())
        );
    }
    let peer = canned(303, r#"{"error":"temporary"}"#);
    assert_eq!(peer.post_chunk(&post).await, Ok(ChunkAccepted::Temporary));
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let id = ItemId([1; 32]);
    let kinds = [
        (202, Kind::NotFound),
        (302, Kind::Upstream),
        (404, Kind::NotFound),
        (410, Kind::NotFound),
        (413, Kind::Limit),
        (429, Kind::Busy),
        (500, Kind::Upstream),
        (502, Kind::Upstream),
        (503, Kind::Busy),
    ];
    for (status, kind) in kinds {
        let refusal = canned(status, "so it is").block_at(1).await.unwrap_err();
        assert_eq!(refusal.kind, kind, "{status}");
        assert!(refusal.text.contains("http://p/block/height/1") && refusal.text.contains("so it is"));
    }
    for status in [404, 410] {
        assert_eq!(canned(status, "").status(id).await, Ok(TxStatus::Missing));
    }
    assert_eq!(canned(202, "Pending").status(id).await, Ok(TxStatus::Pending));
    assert_eq!(
        canned(200, "Pending").status(id).await,
        Ok(TxStatus::Pending),
        "ArLocal's way"
    );
    assert_eq!(canned(503, "").status(id).await.unwrap_err().kind, Kind::Busy);
}

#[tokio::test]
async fn numbers_come_as_texts_or_numbers() {
    assert_eq!(
        canned(200, "1234567890123456789012").price(9).await,
        Ok(1_234_567_890_123_456_789_012)
    );
    assert_eq!(canned(200, "77").balance(account()).await, Ok(77));
    for json in [r#"{"offset":"900","size":"100"}"#, r#"{"offset":900,"size":100}"#] {
        assert_eq!(
            canned(200, json).offset(ItemId([1; 32])).await,
            Ok(Some((900, 100)))
        );
    }
    for json in [
        r#"{"block_height":"5","block_indep_hash":"AAAA","number_of_confirmations":"3"}"#,
        r#"{"block_height":5,"block_indep_hash":"AAAA","number_of_confirmations":3}"#,
    ] {
        let mined = TxStatus::Mined {
            height: 5,
            block: vec![0; 3].into(),
            confirmations: 3,
        };
        assert_eq!(canned(200, json).status(ItemId([1; 32])).await, Ok(mined));
    }
    assert_eq!(service(200, "5").price(1).await, Ok(5));
    assert_eq!(service(200, r#"{"winc":"6"}"#).price(1).await, Ok(6));
    assert_eq!(service(200, r#"{"balance":7}"#).balance(account()).await, Ok(7));
    assert_eq!(service(404, "User not found").balance(account()).await, Ok(0));
}

#[tokio::test]
async fn what_a_liar_answers_is_refused_with_its_name() {
    let bad = |answer: Result<(), Refusal>| {
        let refusal = answer.unwrap_err();
        assert_eq!(
            (refusal.kind, &*refusal.code),
            (Kind::Upstream, "bad-answer"),
            "{refusal}"
        );
        assert!(
            !refusal.text.contains('\n') && refusal.text.len() < 600,
            "{refusal}"
        );
    };
    let id = ItemId([1; 32]);
    for text in ["", "-1", "1e5", "9 AR", "340282366920938463463374607431768211456"] {
        bad(canned(200, text).price(1).await.map(drop));
    }
    bad(canned(200, "A".repeat(65)).anchor().await.map(drop));
    bad(canned(200, "").anchor().await.map(drop));
    bad(canned(200, "no id").last_tx(account()).await.map(drop));
    bad(canned(200, r#"{"offset":"5","size":"6"}"#)
        .offset(id)
        .await
        .map(drop));
    bad(canned(200, format!("{{\"x\":\"\n{}", "\u{1b}[31m".repeat(200)))
        .transaction(id)
        .await
        .map(drop));
    let other = r#"{"height":2,"indep_hash":"AAAA","timestamp":1,"txs":[]}"#;
    bad(canned(200, other).block_at(1).await.map(drop));
    let packed = r#"{"chunk":"AAAA","data_path":"AAAA","packing":"spora_2_6_x"}"#;
    bad(canned(200, packed).chunk(1).await.map(drop));
    let long = format!(
        r#"{{"chunk":"{}","data_path":""}}"#,
        "A".repeat((256 << 10) * 4 / 3 + 4)
    );
    bad(canned(200, long).chunk(1).await.map(drop));
    bad(canned(200, r#"{"errors":[{"message":"no"}],"data":null}"#)
        .graphql("q", &json!({}))
        .await
        .map(drop));
    bad(canned(200, r#"{"data":null}"#)
        .graphql("q", &json!({}))
        .await
        .map(drop));
    let endless = Bytes::from(vec![b'1'; 5 << 20]);
    let refusal = canned(200, endless.clone()).price(1).await.unwrap_err();
    assert_eq!(refusal.kind, Kind::Upstream);
    let refusal = canned(200, endless)
        .with_data_bytes_max(1 << 20)
        .data(id)
        .await
        .unwrap_err();
    assert_eq!(refusal.kind, Kind::Upstream);
}

#[tokio::test]
async fn a_transaction_with_another_id_or_a_forged_field_is_refused() {
    let handle = handle(Faults::none());
    let sent = signed(&testing::peer(&handle, 0), b"x").await;
    let got = canned(200, sent.to_json(None)).transaction(sent.id).await;
    assert_eq!(got, Ok(Some(sent.clone())));
    assert!(
        canned(200, sent.to_json(None))
            .transaction(ItemId([1; 32]))
            .await
            .is_err()
    );
    let mut forged = sent.clone();
    forged.content.reward += 1;
    let got = canned(200, forged.to_json(None))
        .transaction(sent.id)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(
        got.owner.address(),
        account(),
        "the signature tells another owner"
    );
    let jwk = Signer::from_jwk(&Signer::generate_rsa_jwk().unwrap()).unwrap();
    let mut sent = sent.content.sign(&jwk).unwrap();
    assert!(
        canned(200, sent.to_json(None))
            .transaction(sent.id)
            .await
            .unwrap()
            .is_some()
    );
    sent.content.reward += 1;
    assert!(
        canned(200, sent.to_json(None))
            .transaction(sent.id)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn peers_that_are_no_addresses_are_left_out() {
    let listed = json!([
        "1.2.3.4:1984",
        "x",
        "a@b:1",
        "http://h:1/",
        "node.example:443",
        ""
    ]);
    let peers = canned(200, listed.to_string()).peers().await.unwrap();
    assert_eq!(peers, ["1.2.3.4:1984", "node.example:443"]);
    let many: Vec<String> = (0..5_000).map(|port| format!("h:{port}")).collect();
    assert_eq!(
        canned(200, json!(many).to_string()).peers().await.unwrap().len(),
        1_000
    );
}

#[tokio::test]
async fn a_bundlers_receipt_counts_only_with_its_signature_and_for_our_item() {
    let handle = handle(Faults::none());
    let bundler = testing::bundler(&handle);
    let posted = item(b"one");
    let receipt = bundler.post(&posted).await.unwrap().unwrap();
    assert_eq!((receipt.id, receipt.deadline_height), (posted.id(), 200));
    let status = bundler.status(posted.id()).await.unwrap().unwrap();
    assert_eq!(
        status,
        ItemStatus {
            state: ItemState::Taken,
            bundle_id: None
        }
    );
    assert_eq!(bundler.status(ItemId([4; 32])).await, Ok(None));
    assert!(bundler.price(1).await.unwrap() > 0);
    (0..20).for_each(|_| handle.lock().mine_block());
    let status = bundler.status(posted.id()).await.unwrap().unwrap();
    assert_eq!(status.state, ItemState::Permanent);
    let carrier = testing::peer(&handle, 1)
        .transaction(status.bundle_id.unwrap())
        .await
        .unwrap();
    assert!(carrier.is_some());

    let json = receipt.json.get();
    assert_eq!(
        service(202, "")
            .post(&posted)
            .await
            .unwrap()
            .map(|receipt| receipt.id),
        None
    );
    assert!(service(200, json.to_owned()).post(&posted).await.is_ok());
    let later = json.replace(r#""deadlineHeight":200"#, r#""deadlineHeight":201"#);
    assert_ne!(json, later);
    for (json, item) in [
        (later, &posted),
        (json.to_owned(), &item(b"two")),
        ("{}".into(), &posted),
    ] {
        let refusal = service(200, json).post(item).await.unwrap_err();
        assert_eq!((refusal.kind, &*refusal.code), (Kind::Upstream, "bad-receipt"));
    }
    assert_eq!(
        service(402, "pay").post(&posted).await.unwrap_err().code,
        "payment-required"
    );
}

#[tokio::test]
async fn a_gateways_search_and_the_doubles_faults_come_through() {
    let handle = handle(Faults::none());
    let peer = testing::peer(&handle, 0);
    let sent = signed(&peer, b"found").await;
    peer.post_transaction(&sent).await.unwrap();
    handle.lock().mine_block();
    let query = "query($o: [String!]) { transactions(owners: $o) { edges { node { id } } } }";
    let found = peer.graphql(query, &json!({ "o": [account()] })).await.unwrap();
    assert!(found.get().contains(&sent.id.to_string()));
    assert!(peer.graphql("{ nonsense }", &json!({})).await.is_err());

    let busy = self::handle(Faults::none().with(Fault::TooMany, 1_000));
    assert_eq!(
        testing::peer(&busy, 0).anchor().await.unwrap_err().kind,
        Kind::Busy
    );
    let away = self::handle(Faults::none());
    away.lock().lose(1, 5, false);
    assert_eq!(
        testing::peer(&away, 1).height().await.unwrap_err().kind,
        Kind::Busy
    );
    assert!(testing::peer(&away, 2).height().await.is_ok());
}

#[tokio::test]
async fn the_same_answers_come_over_http() {
    use crate::testing::serve;
    let handle = handle(Faults::none());
    let listeners = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", listeners[1].local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve::run(handle.clone(), listeners, None, async {
        drop(stopped.await)
    }));
    let transport = HttpTransport::new(&url, &wire::client::Limits::default()).unwrap();
    let peer = Peer::new(&url, Arc::new(transport));
    let sent = signed(&peer, b"over http").await;
    assert_eq!(peer.post_transaction(&sent).await, Ok(Accepted::New));
    assert_eq!(
        peer.post_chunk(&posts(&Bytes::from_static(b"over http"))[0])
            .await,
        Ok(ChunkAccepted::Stored)
    );
    handle.lock().mine_block();
    handle.lock().mine_block();
    assert_eq!(peer.data(sent.id).await.unwrap(), "over http");
    let refusal = peer
        .clone()
        .with_data_bytes_max(3)
        .data(sent.id)
        .await
        .unwrap_err();
    assert_eq!(refusal.kind, Kind::Upstream);
    assert_eq!(peer.peers().await.unwrap().len(), 3);
    drop(stop);
    served.await.unwrap().unwrap();
    let gone = peer.height().await.unwrap_err();
    assert_eq!((gone.kind, &*gone.code), (Kind::Upstream, "unreachable"));
    assert!(gone.text.contains(&url));
}
