//! The gateway's routes, as clients of Arweave gateways use them (checklist 89-92).

use crate::common::*;
use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use spec::contract::{Class, Permanent, Query, Stored, TagFilter};
use spec::ids::base64url;
use spec::{ItemId, Tag};
use weave::{Config, Error, Weave};

#[tokio::test]
async fn item_90_an_uploaded_item_is_served_at_once_with_its_tags_as_headers() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let tags = [
        ("Type", "Process"),
        ("Data-Protocol", "ao"),
        ("content-type", "text/plain"),
        ("Set-Cookie", "a=b"),
    ];
    let item = item(1, &tags, "hello permanent world");
    let reply = post(&weave, "/tx/arweave", item.bytes().clone()).await;
    assert_eq!(reply.status, 200);
    let receipt = reply.json();
    assert_eq!(receipt["id"], item.id().to_string());
    assert_eq!(receipt["timestamp"], GENESIS_MS);

    for path in [format!("/{}", item.id()), format!("/raw/{}", item.id())] {
        let reply = get(&weave, &path).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body[..]),
            (200, &b"hello permanent world"[..])
        );
        assert_eq!(reply.header("type"), "Process");
        assert_eq!(reply.header("data-protocol"), "ao");
        assert_eq!(reply.header("content-type"), "text/plain");
        assert_eq!(reply.header("content-length"), "21");
        assert_eq!(reply.header("accept-ranges"), "bytes");
        assert_eq!(reply.header("x-ar-io-verified"), "true");
        assert_eq!(reply.header("set-cookie"), "");

        let head = Request::head(&path).body(Body::empty()).unwrap();
        let head = send(&weave, head).await;
        assert_eq!(
            (
                head.status.as_u16(),
                head.header("content-length"),
                head.body.len()
            ),
            (200, "21", 0)
        );
        assert_eq!(head.header("type"), "Process");

        let known = get_with(&weave, &path, &[("if-none-match", reply.header("etag"))]).await;
        assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    }
    // Again is as good as once.
    assert_eq!(
        post(&weave, "/tx/arweave", item.bytes().clone()).await.status,
        200
    );
    let end = weave.log().end();
    assert_eq!(post(&weave, "/tx", item.bytes().clone()).await.status, 200);
    assert_eq!(weave.log().end(), end);
}

#[tokio::test]
async fn item_90_ranges_are_served_in_part_or_refused() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let item = item(1, &[], "0123456789");
    weave.append(vec![item.clone()], Class::Local).await.unwrap();
    let path = format!("/raw/{}", item.id());
    let part = get_with(&weave, &path, &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &b"234"[..]));
    assert_eq!(
        (part.header("content-range"), part.header("content-length")),
        ("bytes 2-4/10", "3")
    );
    let tail = get_with(&weave, &path, &[("range", "bytes=-4")]).await;
    assert_eq!((tail.status.as_u16(), &tail.body[..]), (206, &b"6789"[..]));
    let beyond = get_with(&weave, &path, &[("range", "bytes=10-")]).await;
    assert_eq!(
        (beyond.status.as_u16(), beyond.header("content-range")),
        (416, "bytes */10")
    );
    assert!(beyond.json()["error"].is_string());
    assert_eq!(get_with(&weave, &path, &[("range", "bytes=x")]).await.status, 400);

    let several = get_with(&weave, &path, &[("range", "bytes=0-1,-2,50-")]).await;
    assert_eq!(several.status, 206);
    let boundary = several
        .header("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range: &str, data: &str| {
        format!(
            "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/10\r\n\r\n{data}\r\n"
        )
    };
    let expected = format!("{}{}--{boundary}--\r\n", part("0-1", "01"), part("8-9", "89"));
    assert_eq!(several.body, expected);
    assert_eq!(several.header("content-length"), expected.len().to_string());
    let etag = several.header("etag");
    let same = [("range", "bytes=2-4"), ("if-range", etag)];
    assert_eq!(get_with(&weave, &path, &same).await.status, 206);
    let other = [("range", "bytes=2-4"), ("if-range", "\"x\"")];
    assert_eq!(get_with(&weave, &path, &other).await.body, "0123456789");
}

#[tokio::test]
async fn what_is_unknown_or_no_item_is_refused_in_json() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let unknown = ItemId([9; 32]);
    for path in [
        format!("/{unknown}"),
        format!("/raw/{unknown}"),
        format!("/tx/{unknown}/status"),
        "/tx/short".into(),
        "/favicon.ico".into(),
    ] {
        let reply = get(&weave, &path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.json()["error"].is_string());
    }
    let mut forged = item(1, &[], "data").bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    for bytes in [forged, b"no item".to_vec(), vec![]] {
        let reply = post(&weave, "/tx/arweave", bytes.into()).await;
        assert_eq!(reply.status, 400);
        assert!(reply.json()["error"].is_string());
    }
    assert_eq!(weave.log().replay(None).count(), 1, "only the chain's birth");
}

#[tokio::test]
async fn the_chain_is_told_in_the_form_of_a_node() {
    let (data, time) = (tempfile::tempdir().unwrap(), Time::new());
    let weave = open(data.path(), &time);
    time.pass(25_000);
    let item = item_to(1, Some([5; 32]), &[("Name", "Wert")], "data");
    weave.append(vec![item.clone()], Class::Permanent).await.unwrap();
    time.pass(10_000);

    let info = get(&weave, "/info").await.json();
    assert_eq!(info["height"], 4);
    assert_eq!(get(&weave, "/height").await.body, "4");
    let current = get(&weave, "/block/current").await.json();
    assert_eq!(current["indep_hash"], info["current"]);
    let block = get(&weave, "/block/height/3").await.json();
    assert_eq!(block["timestamp"], GENESIS_MS / 1000 + 20);
    assert_eq!(current["previous_block"], block["indep_hash"]);
    assert_eq!(get(&weave, "/block/height/5").await.status, 404);
    assert_eq!(get(&weave, "/block/height/0").await.status, 404);
    assert_eq!(get(&weave, "/block/height/x").await.status, 400);

    let status = get(&weave, &format!("/tx/{}/status", item.id())).await.json();
    assert_eq!(
        status,
        json!({ "block_height": 3, "block_indep_hash": block["indep_hash"], "number_of_confirmations": 2 })
    );
    let tx = get(&weave, &format!("/tx/{}", item.id())).await.json();
    assert_eq!(
        tx["tags"],
        json!([{ "name": base64url(b"Name"), "value": base64url(b"Wert") }])
    );
    assert_eq!(tx["owner"], base64url(item.owner()));
    assert_eq!(tx["target"], base64url(&[5; 32]));
    assert_eq!((&tx["data_size"], &tx["format"]), (&json!("4"), &json!(2)));
    assert_eq!(
        get(&weave, &format!("/tx/{}/data", item.id())).await.body,
        base64url(b"data")
    );
}

#[tokio::test]
async fn registered_bytes_are_served_until_a_signed_item_comes() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let true_item = item(1, &[("Type", "Module")], "the true bytes");
    let (id, by) = (true_item.id(), signer(3).address());
    let tags = vec![Tag::new("Type", "Module"), Tag::new("Module-Format", "x")];
    let register = |bytes: &'static str| weave.register(id, tags.clone(), bytes.into(), by);
    register("some bytes").await.unwrap();
    register("some bytes").await.unwrap();
    let refusal = register("other bytes").await.unwrap_err();
    assert_eq!(refusal.code, "id-taken");

    let reply = get(&weave, &format!("/{id}")).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body[..]),
        (200, &b"some bytes"[..])
    );
    assert_eq!(
        (reply.header("x-ar-io-verified"), reply.header("cache-control")),
        ("false", "no-cache")
    );
    let Stored::Registered(held) = weave.fetch(id).await.unwrap() else {
        panic!("not registered")
    };
    assert_eq!((held.by, &held.tags), (by, &tags));
    let query = Query {
        tags: vec![TagFilter {
            name: "Module-Format".into(),
            values: vec!["x".into()],
        }],
        first: 10,
        ..Query::default()
    };
    assert_eq!(weave.find(query.clone()).await.unwrap().hits.len(), 1);

    weave
        .append(vec![true_item.clone()], Class::Permanent)
        .await
        .unwrap();
    for settled in [false, true] {
        if settled {
            weave.settle();
        }
        assert_eq!(get(&weave, &format!("/{id}")).await.body, "the true bytes");
        let by_id = Query {
            ids: vec![id],
            first: 10,
            ..Query::default()
        };
        let hits = weave.find(by_id).await.unwrap().hits;
        assert_eq!(hits.len(), 1);
        assert_eq!(hits[0].stored.item(), Some(&true_item));
        assert_eq!(weave.find(query.clone()).await.unwrap().hits.len(), 0);
    }
    let refusal = register("some bytes").await.unwrap_err();
    assert_eq!(refusal.code, "id-taken");
}

#[tokio::test]
async fn withheld_data_is_gone_and_the_rest_stays() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let item = item(1, &[("Name", "kept")], "not for ever, after all");
    weave.append(vec![item.clone()], Class::Permanent).await.unwrap();
    assert!(weave.withhold(item.id()).await.unwrap());
    assert!(!weave.withhold(ItemId([1; 32])).await.unwrap());
    let reply = get(&weave, &format!("/{}", item.id())).await;
    assert_eq!(reply.status, 410);
    assert!(reply.json()["error"].as_str().unwrap().contains("withheld"));
    let tx = get(&weave, &format!("/tx/{}", item.id())).await.json();
    assert_eq!(tx["data_size"], "23");
    let Stored::Withheld(rest) = weave.fetch(item.id()).await.unwrap() else {
        panic!("still whole")
    };
    rest.verify().unwrap();
    let query = r#"{ transactions(tags: [{ name: "Name", values: ["kept"] }]) { edges { node { id data { size } } } } }"#;
    let node = ask(&weave, query, json!({})).await["transactions"]["edges"][0]["node"].take();
    assert_eq!(node, json!({ "id": item.id(), "data": { "size": "23" } }));
    // It is held already, so it does not come back with its data.
    weave.append(vec![item.clone()], Class::Permanent).await.unwrap();
    assert_eq!(get(&weave, &format!("/{}", item.id())).await.status, 410);
}

#[tokio::test]
async fn a_second_node_on_a_folder_is_refused_and_a_later_one_finds_everything() {
    let (data, time) = (tempfile::tempdir().unwrap(), Time::new());
    let weave = open(data.path(), &time);
    let item = item(1, &[], "kept");
    weave.append(vec![item.clone()], Class::Local).await.unwrap();
    let Err(error) = Weave::open(Config::default(), data.path()) else {
        panic!("opened twice")
    };
    assert!(matches!(error, Error::Locked(_)));
    assert!(error.to_string().contains("another node"), "{error}");
    let chain = weave.chain().describe();
    assert_eq!(chain, format!("dev/{GENESIS_MS}/10000"));
    weave.close().await;
    drop(weave);
    time.pass(1_000_000);
    let weave = open(data.path(), &time);
    assert_eq!(weave.chain().describe(), chain);
    assert_eq!(weave.fetch(item.id()).await.unwrap().item(), Some(&item));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_a_gateway_is_as_good_as_the_weave_itself() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limits = wire::server::Limits::default();
    let router = wire::server::harden(weave::http::router(weave.clone()), &limits);
    tokio::spawn(wire::server::serve(
        listener,
        router,
        limits,
        std::future::pending(),
    ));
    let http = wire::client::Http::new(&url, &wire::client::Limits::default()).unwrap();
    let client = wire::permanent::Client::new(http);

    let ethereum = spec::Signer::ethereum(&[7; 32]).unwrap();
    let parts = spec::ItemParts {
        target: Some([4; 32]),
        anchor: Some([6; 32]),
        tags: vec![Tag::new("Type", "Message"), Tag::new("Ü", "ß")],
        data: "over the wire".into(),
    };
    let items = vec![
        spec::DataItem::sign(&parts, &ethereum).unwrap(),
        item(1, &[("Type", "Message")], vec![0xff; 3000]),
    ];
    client.append(items.clone(), Class::Local).await.unwrap();
    for item in &items {
        let Stored::Item(fetched) = client.fetch(item.id()).await.unwrap() else {
            panic!("not proven")
        };
        assert_eq!(&fetched, item);
        assert!(fetched.is_verified());
    }
    let query = Query {
        tags: vec![TagFilter {
            name: "Type".into(),
            values: vec!["Message".into()],
        }],
        owners: vec![ethereum.address()],
        recipients: vec![[4; 32]],
        height_max: Some(10),
        first: 5,
        ..Query::default()
    };
    let (over, direct) = (
        client.find(query.clone()).await.unwrap(),
        weave.find(query).await.unwrap(),
    );
    assert_eq!(over.hits.len(), 1);
    assert_eq!(over.hits[0].stored.item(), direct.hits[0].stored.item());
    assert_eq!(
        (&over.hits[0].cursor, over.hits[0].block_height),
        (&direct.hits[0].cursor, direct.hits[0].block_height)
    );
    let missing = client.fetch(ItemId([1; 32])).await.unwrap_err();
    assert_eq!(missing.kind, spec::Kind::NotFound);
    weave
        .register(ItemId([2; 32]), vec![], "on trust".into(), signer(3).address())
        .await
        .unwrap();
    let Stored::Registered(held) = client.fetch(ItemId([2; 32])).await.unwrap() else {
        panic!("proven?")
    };
    assert_eq!((&held.data[..], held.by), (&b"on trust"[..], signer(3).address()));
}

#[tokio::test]
async fn what_a_program_brings_along_is_answered_and_never_written() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::new());
    let weave = open(folder.path(), &time);
    let item = item(7, &[("Type", "Module")], &b"brought along"[..]);
    let id = item.id();
    let end = weave.log().end();
    weave.overlay(vec![item.clone()]).unwrap();
    assert_eq!(get(&weave, &format!("/{id}")).await.body, "brought along");
    assert_eq!(
        weave.fetch(id).await.unwrap().item().unwrap().bytes(),
        item.bytes()
    );
    let query = format!(r#"{{ transactions(ids: ["{id}"]) {{ edges {{ node {{ id }} }} }} }}"#);
    let found = ask(&weave, &query, json!({})).await;
    assert_eq!(found["transactions"]["edges"][0]["node"]["id"], id.to_string());
    assert_eq!(weave.log().end(), end);
    let other = bytes::Bytes::from_static(b"other bytes");
    let by = item.owner_address();
    assert!(weave.register(id, vec![], other, by).await.is_err());
    // Whoever wants it in his log can have it there; then it is found once.
    weave.append(vec![item], Class::Local).await.unwrap();
    assert!(weave.log().end() > end);
    let found = ask(&weave, &query, json!({})).await;
    assert_eq!(found["transactions"]["edges"].as_array().unwrap().len(), 1);
}
