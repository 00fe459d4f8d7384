//! Transactions of the base layer posted to the gateway: whole, in chunks, as bundles in bundles.

use crate::common::*;
use bytes::Bytes;
use serde_json::{Value, json};
use spec::chunks::Tree;
use spec::contract::{Permanent, Query};
use spec::ids::{base64url, from_base64url};
use spec::transaction::Content;
use spec::{Bundle, DataItem, ItemId, ItemParts, Signer, Tag, Transaction};
use weave::Weave;
use weave::base_layer::Taken;

const KIB: usize = 1024;

fn owner() -> Signer {
    Signer::ethereum(&[9; 32]).unwrap()
}

fn signed(data: &[u8], tags: &[(&str, &str)]) -> Transaction {
    let content = Content {
        last_tx: vec![7; 32],
        reward: 1_500_000_000_000,
        tags: tags.iter().map(|(name, value)| Tag::new(*name, *value)).collect(),
        ..Content::carrying(data)
    };
    content.sign(&owner()).unwrap()
}

const BUNDLE: [(&str, &str); 2] = [("Bundle-Format", "binary"), ("Bundle-Version", "2.0.0")];

fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i >> 3) as u8 ^ (i >> 11) as u8).collect()
}

fn chunks(data: &Bytes) -> Vec<Bytes> {
    let tree = Tree::of(data);
    let chunks = tree.chunks().filter(|chunk| chunk.end > chunk.start);
    let post = |chunk: spec::chunks::Chunk| {
        let json = json!({
            "data_root": base64url(&tree.root()),
            "data_size": data.len().to_string(),
            "data_path": base64url(&tree.proof(chunk.start).unwrap()),
            "offset": (chunk.end - 1).to_string(),
            "chunk": base64url(&data[chunk.start as usize..chunk.end as usize]),
        });
        json.to_string().into()
    };
    chunks.map(post).collect()
}

async fn text(weave: &std::sync::Arc<Weave>, path: &str) -> String {
    let reply = get(weave, path).await;
    assert_eq!(reply.status.as_u16(), 200, "{path}");
    String::from_utf8(reply.body.to_vec()).unwrap()
}

async fn post_tx(weave: &std::sync::Arc<Weave>, transaction: &Transaction, data: Option<&[u8]>) -> u16 {
    post(weave, "/tx", transaction.to_json(data).into())
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn a_transaction_with_its_data_is_served_like_any_item_and_read_as_nodes_tell_it() {
    let folder = tempfile::tempdir().unwrap();
    let weave = open(folder.path(), &Time::new());
    let sent = signed(
        b"hello base layer",
        &[("Content-Type", "text/plain"), ("App", "x")],
    );
    assert_eq!(post_tx(&weave, &sent, Some(b"hello base layer")).await, 200);
    assert_eq!(post_tx(&weave, &sent, Some(b"hello base layer")).await, 208);

    let reply = get_with(&weave, &format!("/{}", sent.id), &[("range", "bytes=6-9")]).await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (206, &b"base"[..]));
    assert_eq!(
        (reply.header("content-type"), reply.header("x-ar-io-verified")),
        ("text/plain", "true")
    );
    let json = text(&weave, &format!("/tx/{}", sent.id)).await;
    let (read, _) = Transaction::from_json(json.as_bytes()).unwrap();
    assert_eq!(read, sent);
    assert_eq!(
        text(&weave, &format!("/tx/{}/reward", sent.id)).await,
        "1500000000000"
    );
    assert_eq!(
        text(&weave, &format!("/tx/{}/data", sent.id)).await,
        base64url(b"hello base layer")
    );
    let address = sent.owner.address();
    assert_eq!(
        text(&weave, &format!("/wallet/{address}/last_tx")).await,
        sent.id.to_string()
    );
    assert_eq!(
        text(&weave, &format!("/wallet/{}/last_tx", ItemId([1; 32]))).await,
        ""
    );
    assert_eq!(text(&weave, "/price/1000").await, "0");
    assert_eq!(
        from_base64url(&text(&weave, "/tx_anchor").await).unwrap().len(),
        32
    );
    let status: Value =
        serde_json::from_str(&text(&weave, &format!("/tx/{}/status", sent.id)).await).unwrap();
    assert_eq!(status["number_of_confirmations"], 1);

    let query = "query($o: [String!]) { transactions(owners: $o) { edges { node { id anchor owner { address } \
                 fee { winston ar } data { size type } tags { name value } bundledIn { id } } } } }";
    let found = ask(&weave, query, json!({ "o": [address] })).await;
    let node = &found["transactions"]["edges"][0]["node"];
    assert_eq!(node["id"], sent.id.to_string());
    assert_eq!(
        (&node["fee"]["ar"], &node["data"]["size"]),
        (&json!("1.500000000000"), &json!("16"))
    );
    assert_eq!(
        (&node["owner"]["address"], &node["bundledIn"]),
        (&json!(address), &Value::Null)
    );
}

#[tokio::test]
async fn what_is_forged_too_large_or_not_json_is_refused_and_nothing_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let config = weave::Config {
        posted_bytes_max: 1 << 20,
        ..weave::Config::default()
    };
    let weave = Weave::open_with(config, folder.path(), Time::new().clock()).unwrap();
    let sent = signed(b"data", &[]);
    assert_eq!(post_tx(&weave, &sent, Some(b"date")).await, 400, "other data");
    let forged = Transaction {
        id: ItemId([1; 32]),
        ..sent.clone()
    };
    assert_eq!(post_tx(&weave, &forged, None).await, 400);
    assert_eq!(post(&weave, "/tx", "{}".into()).await.status.as_u16(), 400);
    let large = signed(&pattern((1 << 20) + 1), &[]);
    assert_eq!(post_tx(&weave, &large, None).await, 413);
    for id in [sent.id, forged.id, large.id] {
        assert_eq!(get(&weave, &format!("/tx/{id}")).await.status.as_u16(), 404);
    }
    let orphan = chunks(&pattern(10)).remove(0);
    let reply = post(&weave, "/chunk", orphan).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()["error"].clone()),
        (400, json!("data_root_not_found"))
    );
    assert_eq!(
        post(&weave, "/chunk", "[]".into()).await.json()["error"],
        "invalid_json"
    );
}

#[tokio::test]
async fn chunks_come_in_any_order_outlive_a_restart_and_are_read_back_with_proofs() {
    let folder = tempfile::tempdir().unwrap();
    let (time, data) = (Time::new(), pattern(900 * KIB));
    let weave = open(folder.path(), &time);
    let first = signed(b"small", &[]);
    assert_eq!(post_tx(&weave, &first, Some(b"small")).await, 200);
    let sent = signed(&data, &[("Content-Type", "image/png")]);
    assert_eq!(post_tx(&weave, &sent, None).await, 200);
    let mut posts = chunks(&data);
    assert_eq!(posts.len(), 4);
    posts.swap(0, 2);
    let mut broken: Value = serde_json::from_slice(&posts[3]).unwrap();
    broken["chunk"] = json!(base64url(b"other bytes"));
    let reply = post(&weave, "/chunk", broken.to_string().into()).await;
    assert_eq!(reply.json()["error"], "invalid_proof");
    for post_of in &posts[..2] {
        assert_eq!(post(&weave, "/chunk", post_of.clone()).await.status.as_u16(), 200);
    }
    let reply = get(&weave, &format!("/raw/{}", sent.id)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-weft-code")),
        (404, "data-missing")
    );

    weave.close().await;
    drop(weave);
    let weave = open(folder.path(), &time);
    for post_of in &posts[2..] {
        assert_eq!(post(&weave, "/chunk", post_of.clone()).await.status.as_u16(), 200);
    }
    assert_eq!(weave.post_chunk(posts[0].clone()).await, Ok(Taken::Known));
    let reply = get(&weave, &format!("/raw/{}", sent.id)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type")),
        (200, "image/png")
    );
    assert_eq!(reply.body, data);

    for (transaction, data) in [(&first, Bytes::from("small")), (&sent, data.clone())] {
        let place = text(&weave, &format!("/tx/{}/offset", transaction.id)).await;
        let place: Value = serde_json::from_str(&place).unwrap();
        let number = |name: &str| place[name].as_str().unwrap().parse::<u64>().unwrap();
        let (end, size) = (number("offset"), number("size"));
        assert_eq!(size, data.len() as u64);
        let (mut at, mut read) = (end - size + 1, Vec::new());
        while at <= end {
            let got: Value = serde_json::from_str(&text(&weave, &format!("/chunk/{at}")).await).unwrap();
            let bytes = |name: &str| from_base64url(got[name].as_str().unwrap()).unwrap();
            let root = transaction.content.data_root.unwrap();
            let offset = at - (end - size + 1);
            let proved = spec::chunks::verify(&root, size, offset, &bytes("data_path")).unwrap();
            assert_eq!(proved.start, read.len() as u64);
            read.extend_from_slice(&bytes("chunk"));
            at += proved.end - proved.start;
        }
        assert_eq!(read, data);
    }
    assert_eq!(get(&weave, "/chunk/6").await.status.as_u16(), 404, "padding");
}

fn bundle_of(items: &[DataItem], by: u8) -> DataItem {
    item(by, &BUNDLE, Bundle::encode(items))
}

#[tokio::test]
async fn a_bundle_is_unfolded_level_by_level_and_each_item_says_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let (time, page) = (
        Time::new(),
        item(1, &[("Content-Type", "text/html")], "<p>page</p>"),
    );
    let weave = open(folder.path(), &time);
    let manifest = json!({
        "manifest": "arweave/paths", "version": "0.2.0",
        "index": { "path": "a.html" }, "paths": { "a.html": { "id": page.id() } },
    });
    let manifest = item(
        2,
        &[("Content-Type", "application/x.arweave-manifest+json")],
        manifest.to_string(),
    );
    let inner = bundle_of(std::slice::from_ref(&page), 3);
    let mut parts = page.bytes().to_vec();
    *parts.last_mut().unwrap() ^= 1;
    let forged = DataItem::parse(parts.into()).unwrap();
    let lonely = item(4, &[("Kind", "lonely")], "x");
    let data = Bundle::encode(&[inner.clone(), manifest.clone(), forged, lonely.clone()]);
    let carrier = signed(&data, &BUNDLE);
    assert_eq!(post_tx(&weave, &carrier, Some(&data)).await, 200);

    assert_eq!(text(&weave, &format!("/{}", page.id())).await, "<p>page</p>");
    assert_eq!(text(&weave, &format!("/{}", manifest.id())).await, "<p>page</p>");
    let query = "query($ids: [ID!]) { transactions(ids: $ids) { edges { node { id bundledIn { id } parent { id } } } } }";
    for (of, parent) in [(&page, inner.id()), (&inner, carrier.id), (&lonely, carrier.id)] {
        let found = ask(&weave, query, json!({ "ids": [of.id()] })).await;
        let node = &found["transactions"]["edges"][0]["node"];
        assert_eq!(node["bundledIn"]["id"], parent.to_string());
        assert_eq!(node["bundledIn"], node["parent"]);
    }
    let within = "query($in: [ID!], $t: [TagFilter!]) { transactions(bundledIn: $in, tags: $t, sort: HEIGHT_ASC) { \
                  edges { node { id } } } }";
    let found = ask(&weave, within, json!({ "in": [carrier.id] })).await;
    assert_eq!(
        found["transactions"]["edges"].as_array().unwrap().len(),
        3,
        "the forged one is left out"
    );
    let kind = json!([{ "name": "Kind", "values": ["lonely"] }]);
    let found = ask(
        &weave,
        within,
        json!({ "in": [carrier.id, inner.id()], "t": kind }),
    )
    .await;
    assert_eq!(
        found["transactions"]["edges"],
        json!([{ "node": { "id": lonely.id() } }])
    );
    let found = ask(&weave, within, json!({ "in": [lonely.id()] })).await;
    assert_eq!(found["transactions"]["edges"], json!([]));

    // The same once the index has it, and after it was built anew.
    weave.close().await;
    drop(weave);
    std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
    let weave = open(folder.path(), &time);
    assert_eq!(weave.bundle_of(page.id()).await, Ok(Some(inner.id())));
    let query = Query {
        bundled_in: vec![inner.id()],
        first: 10,
        ..Query::default()
    };
    assert_eq!(weave.find(query).await.unwrap().hits[0].stored.id(), page.id());
}

#[tokio::test]
async fn a_bundle_in_chunks_is_unfolded_with_its_last_chunk_and_nesting_ends_somewhere() {
    let folder = tempfile::tempdir().unwrap();
    let weave = open(folder.path(), &Time::new());
    let big = item(1, &[("N", "big")], pattern(600 * KIB));
    let mut deep = item(2, &[("N", "deepest")], "x");
    let mut ids = vec![deep.id()];
    for _ in 0..12 {
        deep = bundle_of(&[deep], 2);
        ids.push(deep.id());
    }
    let data = Bundle::encode(&[big.clone(), deep]);
    let carrier = signed(&data, &BUNDLE);
    assert_eq!(post_tx(&weave, &carrier, None).await, 200);
    for post_of in chunks(&data) {
        assert_eq!(
            get(&weave, &format!("/raw/{}", big.id())).await.status.as_u16(),
            404
        );
        assert_eq!(post(&weave, "/chunk", post_of).await.status.as_u16(), 200);
    }
    assert_eq!(
        get(&weave, &format!("/raw/{}", big.id())).await.body,
        pattern(600 * KIB)
    );
    let mut found = Vec::new();
    for id in ids.iter().rev() {
        found.push(weave.lookup(*id).await.unwrap().is_some());
    }
    let depth = spec::bundle::DEPTH_MAX;
    assert_eq!(found.iter().filter(|found| **found).count(), depth);
    assert!(found[..depth].iter().all(|found| *found));

    // The same bytes under another signature: a second carrier, whose items lie in the first.
    let again = Content {
        last_tx: vec![8; 32],
        ..carrier.content.clone()
    }
    .sign(&owner())
    .unwrap();
    assert_eq!(post_tx(&weave, &again, None).await, 200);
    assert_eq!(get(&weave, &format!("/raw/{}", again.id)).await.body, data);
    assert_eq!(weave.bundle_of(big.id()).await, Ok(Some(carrier.id)));
}

#[tokio::test]
async fn what_calls_itself_a_bundle_and_is_none_stays_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = weave::Config {
        unfold_items_max: 2,
        ..weave::Config::default()
    };
    let weave = Weave::open_with(config, folder.path(), Time::new().clock()).unwrap();
    let carrier = signed(b"no bundle", &BUNDLE);
    assert_eq!(post_tx(&weave, &carrier, Some(b"no bundle")).await, 200);
    assert_eq!(text(&weave, &format!("/{}", carrier.id)).await, "no bundle");

    let parts = |n: u8| ItemParts {
        data: vec![n].into(),
        ..ItemParts::default()
    };
    let items: Vec<DataItem> = (0..3)
        .map(|n| DataItem::sign(&parts(n), &signer(n + 1)).unwrap())
        .collect();
    let data = Bundle::encode(&items);
    assert_eq!(post_tx(&weave, &signed(&data, &BUNDLE), Some(&data)).await, 200);
    let mut held = 0;
    for item in &items {
        held += usize::from(weave.lookup(item.id()).await.unwrap().is_some());
    }
    assert_eq!(held, 2, "the limit binds");
}
