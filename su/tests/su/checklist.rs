//! The conformance checklist's items that a scheduler answers for, each as a named test over HTTP
//! with the shapes that other nodes and clients expect.

use std::collections::BTreeSet;

use crate::common::*;
use bytes::Bytes;
use serde_json::Value;
use spec::assignment::Chain;
use spec::contract::{Content, Scheduler, Span};
use spec::ids::base64url;
use spec::{DataItem, ItemParts, ProcessId, Signer, Tag};
use wire::client::Http;

/// A world, its listener, and a process in it.
async fn start() -> (World, Http, ProcessId) {
    let world = World::new();
    let http = world.listen().await;
    let process = world.spawn(1).await;
    (world, http, process)
}

/// Sends messages `m0`, `m1` …
async fn send(http: &Http, process: ProcessId, count: usize) -> Vec<DataItem> {
    let items: Vec<_> = (0..count).map(|n| message(process, &format!("m{n}"))).collect();
    for item in &items {
        assert_eq!(post(http, "/", item.bytes().clone()).await.0, 200);
    }
    items
}

fn tag<'a>(node: &'a Value, name: &str) -> Option<&'a str> {
    let tags = node["tags"].as_array().unwrap();
    tags.iter()
        .find(|tag| tag["name"] == name)
        .and_then(|tag| tag["value"].as_str())
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn vector(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/items");
    std::fs::read(folder.join(name)).unwrap()
}

// ---- Data items ----

#[tokio::test]
async fn item_1_any_salt_is_accepted_and_a_flipped_bit_is_not() {
    let (_world, http, _) = start().await;
    for name in [
        "arweave_salt0.bin",
        "arweave_salt32.bin",
        "arweave_salt478.bin",
        "arweave_saltmax.bin",
    ] {
        let mut bytes = vector(name);
        // The vectors are no ao messages: what is missing is named only after the signature held.
        let answer = post(&http, "/", bytes.clone()).await;
        assert!(error(&answer, 400).contains("tag"), "{name}: {answer:?}");
        *bytes.last_mut().unwrap() ^= 1;
        let answer = post(&http, "/", bytes).await;
        assert!(
            error(&answer, 400).contains("does not verify"),
            "{name}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn item_1_every_byte_of_a_message_counts() {
    let (world, http, process) = start().await;
    let item = message(process, "every byte");
    for at in (0..item.bytes().len()).step_by(7) {
        let mut bytes = item.bytes().to_vec();
        bytes[at] ^= 0x10;
        assert_eq!(post(&http, "/", bytes).await.0, 400, "byte {at}");
    }
    assert_eq!(world.whole(process).await.len(), 1);
    assert_eq!(post(&http, "/", item.bytes().clone()).await.0, 200);
}

#[tokio::test]
async fn item_2_ethereum_items_are_scheduled() {
    let (_world, http, process) = start().await;
    let item = message_with(process, "eth", &[], &Signer::ethereum(&[5; 32]).unwrap());
    assert_eq!(post(&http, "/", item.bytes().clone()).await.0, 200);
    let (_, node) = get(&http, &format!("/{}?process-id={process}", item.id())).await;
    // The scheduler shows the hash of the key; only processes see the 0x form.
    assert_eq!(
        node["message"]["owner"]["address"],
        item.owner_address().to_string()
    );
}

#[tokio::test]
async fn item_3_the_id_is_the_hash_of_the_signature() {
    let (_world, http, process) = start().await;
    let item = message(process, "id");
    let (_, accepted) = post(&http, "/", item.bytes().clone()).await;
    let hash = spec::item::item_id(item.signature());
    assert_eq!(accepted["id"], hash.to_string());
}

#[tokio::test]
async fn item_4_an_item_without_tags_parses_and_is_told_what_it_lacks() {
    let (_world, http, process) = start().await;
    let parts = ItemParts {
        target: Some(process.0),
        data: Bytes::from_static(b" "),
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, &user(0)).unwrap();
    let answer = post(&http, "/", item.bytes().clone()).await;
    assert_eq!(error(&answer, 400), "Type tag not present");
}

#[tokio::test]
async fn item_5_an_empty_tag_value_survives() {
    let (_world, http, process) = start().await;
    let item = message_with(process, "x", &[("Empty", "")], &user(0));
    assert_eq!(post(&http, "/", item.bytes().clone()).await.0, 200);
    let (_, node) = get(&http, &format!("/{}?process-id={process}", item.id())).await;
    assert_eq!(tag(&node["message"], "Empty"), Some(""));
}

#[tokio::test]
async fn item_6_a_wrong_tag_count_is_refused() {
    let (_world, http, process) = start().await;
    let item = message(process, "count");
    let mut bytes = item.bytes().to_vec();
    // After type, signature, owner, the target with its byte and the anchor's byte.
    let count = 2 + 64 + 32 + 33 + 1;
    assert_eq!(bytes[count], 3);
    bytes[count] = 4;
    assert!(error(&post(&http, "/", bytes).await, 400).contains("tags"));
}

#[tokio::test]
async fn item_7_ten_megabytes_pass_and_more_is_answered_not_hung() {
    let (world, http, process) = start().await;
    let limit = wire::server::Limits::default().body_bytes_max;
    let fitting = message(process, &"x".repeat(limit - 1024));
    assert_eq!(post(&http, "/", fitting.bytes().clone()).await.0, 200);
    let entry = world.su.message(process, fitting.id()).await.unwrap();
    assert_eq!(entry.item(), Some(&fitting));
    let large = message(process, &"x".repeat(limit + 1));
    let answer = post(&http, "/", large.bytes().clone()).await;
    error(&answer, 413);
}

#[tokio::test]
async fn item_8_bytes_survive_on_our_own_route() {
    let (_world, http, process) = start().await;
    let mut parts = ItemParts {
        target: Some(process.0),
        ..ItemParts::default()
    };
    parts.tags = tags(&[("Data-Protocol", "ao"), ("Type", "Message")]);
    parts.data = (0..=255).collect::<Vec<u8>>().into();
    let item = DataItem::sign(&parts, &user(0)).unwrap();
    post(&http, "/", item.bytes().clone()).await;
    let reply = http
        .get(&format!("/log/{process}/message/{}", item.id()))
        .await
        .unwrap();
    let page = wire::scheduler::decode_page(reply.body).unwrap();
    assert_eq!(page.entries[0].item().unwrap().data(), parts.data);
    let (_, node) = get(&http, &format!("/{}?process-id={process}", item.id())).await;
    assert!(
        node["message"]["data"].as_str().unwrap().contains('\u{fffd}'),
        "the field's route shows text"
    );
}

// ---- The scheduler ----

#[tokio::test]
async fn item_36_root_gives_timestamp_and_address() {
    let (world, http, process) = start().await;
    for path in ["/".to_string(), format!("/?process-id={process}")] {
        let (status, body) = get(&http, &path).await;
        assert_eq!(
            (status, keys(&body)),
            (200, BTreeSet::from(["timestamp", "address"]))
        );
        assert!(body["timestamp"].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000_000);
        assert_eq!(body["address"], world.su.address().to_string());
    }
}

#[tokio::test]
async fn item_37_timestamp_gives_two_texts() {
    let (_world, http, _) = start().await;
    let (status, body) = get(&http, "/timestamp").await;
    assert_eq!(
        (status, keys(&body)),
        (200, BTreeSet::from(["timestamp", "block_height"]))
    );
    assert!(body["timestamp"].as_str().unwrap().parse::<u64>().is_ok());
    let height = body["block_height"].as_str().unwrap();
    assert!(
        height.len() == 12 && height.parse::<u64>().unwrap() > 0,
        "{height}"
    );
    assert_eq!(get(&http, "/health").await.0, 200);
}

#[tokio::test]
async fn item_38_an_item_is_answered_with_number_and_id() {
    let (_world, http, process) = start().await;
    let item = message(process, "hello");
    let (status, body) = post(&http, "/", item.bytes().clone()).await;
    assert_eq!((status, keys(&body)), (200, BTreeSet::from(["timestamp", "id"])));
    assert!(body["timestamp"].is_u64());
    assert_eq!(body["id"], item.id().to_string());
    let spawn = process_item(9);
    let (_, body) = post(&http, "/", spawn.bytes().clone()).await;
    assert_eq!(body["id"], spawn.id().to_string());
}

#[tokio::test]
async fn item_39_a_known_message_is_refused() {
    let (world, http, process) = start().await;
    let item = send(&http, process, 1).await.remove(0);
    for _ in 0..2 {
        let answer = post(&http, "/", item.bytes().clone()).await;
        assert_eq!(error(&answer, 400), "Message already exists");
    }
    let world = world.restart_after(http).await;
    let http = world.listen().await;
    let answer = post(&http, "/", item.bytes().clone()).await;
    assert_eq!(error(&answer, 400), "Message already exists");
    let answer = post(&http, "/", process_item(1).bytes().clone()).await;
    assert_eq!(error(&answer, 400), "Message already exists");
    assert_eq!(world.whole(process).await.len(), 2);
}

#[tokio::test]
async fn item_39_a_push_signed_twice_is_refused_within_its_signer_only() {
    let (world, http, process) = start().await;
    let from = ("From-Process", "x");
    let push = |signer: &Signer, extra: &[(&str, &str)]| {
        let tags = [&[from, ("Reference", "1")], extra].concat();
        message_with(process, "ping", &tags, signer).bytes().clone()
    };
    let (messenger, stranger) = (user(1), user(2));
    // A stranger who copies a push must not be able to keep it out.
    assert_eq!(post(&http, "/", push(&stranger, &[])).await.0, 200);
    assert_eq!(
        post(&http, "/", push(&messenger, &[("Pushed-For", "a")])).await.0,
        200
    );
    let again = push(&messenger, &[("Pushed-For", "b")]);
    assert_eq!(
        error(&post(&http, "/", again.clone()).await, 400),
        "Deep hash already exists"
    );
    let world = world.restart_after(http).await;
    let http = world.listen().await;
    assert_eq!(
        error(&post(&http, "/", again).await, 400),
        "Deep hash already exists"
    );
    // What users send is known by its id only.
    let user_item = |n: &str| {
        message_with(process, "same", &[("Pushed-For", n)], &messenger)
            .bytes()
            .clone()
    };
    assert_eq!(post(&http, "/", user_item("a")).await.0, 200);
    assert_eq!(post(&http, "/", user_item("b")).await.0, 200);
    assert_eq!(world.whole(process).await.len(), 5);
}

#[tokio::test]
async fn item_40_the_first_edge_is_the_process() {
    let (world, http, process) = start().await;
    let items = send(&http, process, 3).await;
    let (status, page) = get(&http, &format!("/{process}?process-id={process}&limit=2")).await;
    assert_eq!(
        (status, keys(&page)),
        (200, BTreeSet::from(["page_info", "edges"]))
    );
    assert_eq!(page["page_info"], serde_json::json!({ "has_next_page": true }));
    let edges = page["edges"].as_array().unwrap();
    assert_eq!(edges.len(), 2);
    assert_eq!(keys(&edges[0]), BTreeSet::from(["cursor", "node"]));
    let (first, second) = (&edges[0]["node"], &edges[1]["node"]);
    assert_eq!(keys(first), BTreeSet::from(["message", "assignment"]));
    assert_eq!(first["message"]["id"], process.to_string());
    assert_eq!(tag(&first["assignment"], "Nonce"), Some("0"));
    assert_eq!(tag(&first["assignment"], "Message"), None);
    let boot = [
        ("Engine-Epoch", "test-1"),
        ("Chain", "dev/0/10000"),
        ("Storage", "local"),
    ];
    assert!(
        boot.iter()
            .all(|(name, value)| tag(&first["assignment"], name) == Some(value))
    );
    message_shape(&world, second, &items[0]);
}

/// Every field of a message object, exactly.
fn message_shape(world: &World, node: &Value, item: &DataItem) {
    let shown = &node["message"];
    let fields = ["id", "owner", "data", "tags", "signature", "anchor", "target"];
    assert_eq!(keys(shown), BTreeSet::from(fields));
    assert_eq!(shown["id"], item.id().to_string());
    assert_eq!(keys(&shown["owner"]), BTreeSet::from(["address", "key"]));
    assert_eq!(shown["owner"]["key"], base64url(item.owner()));
    assert_eq!(shown["data"], String::from_utf8(item.data().to_vec()).unwrap());
    assert_eq!(shown["signature"], base64url(item.signature()));
    assert_eq!(shown["anchor"], Value::Null);
    assert_eq!(shown["target"], base64url(item.target().unwrap()));
    let assignment = &node["assignment"];
    assert_eq!(
        keys(assignment),
        BTreeSet::from(["id", "owner", "tags", "signature", "anchor", "target"])
    );
    assert_eq!(assignment["owner"]["address"], world.su.address().to_string());
    assert_eq!(assignment["target"], "");
    let names: Vec<&str> = assignment["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let expected = [
        "Process",
        "Epoch",
        "Nonce",
        "Hash-Chain",
        "Block-Height",
        "Timestamp",
        "Data-Protocol",
        "Type",
        "Variant",
        "Message",
    ];
    assert_eq!(names, expected);
    assert_eq!(tag(assignment, "Message"), Some(&*item.id().to_string()));
    assert_eq!(tag(assignment, "Epoch"), Some("0"));
}

#[tokio::test]
async fn item_41_from_is_exclusive_and_to_inclusive() {
    let (world, http, process) = start().await;
    send(&http, process, 4).await;
    let times: Vec<u64> = world
        .whole(process)
        .await
        .iter()
        .map(|entry| entry.assignment.tick.timestamp_ms)
        .collect();
    let slots = async |query: String| {
        let (_, page) = get(&http, &format!("/{process}?process-id={process}&{query}")).await;
        let edges = page["edges"].as_array().unwrap().clone();
        let cursors: Vec<u64> = edges
            .iter()
            .map(|e| e["cursor"].as_str().unwrap().parse().unwrap())
            .collect();
        cursors
    };
    assert_eq!(
        slots(format!("from={}&to={}", times[1], times[3])).await,
        times[2..=3]
    );
    assert_eq!(slots(format!("to={}", times[2])).await, times[..=2]);
    assert_eq!(slots(format!("from={}", times[4])).await, [0u64; 0]);
    assert_eq!(slots("from=".into()).await, times);
    let odd = get(&http, &format!("/{process}?process-id={process}&from=soon")).await;
    assert!(error(&odd, 400).contains("from"));
}

#[tokio::test]
async fn item_42_nonces_page_from_minus_one() {
    let (_world, http, process) = start().await;
    send(&http, process, 8).await;
    let nonces = async |query: &str| {
        let (_, page) = get(&http, &format!("/{process}?process-id={process}&{query}")).await;
        let edges = page["edges"].as_array().unwrap().clone();
        let cursors: Vec<u64> = edges
            .iter()
            .map(|e| e["cursor"].as_str().unwrap().parse().unwrap())
            .collect();
        cursors
    };
    assert_eq!(nonces("from-nonce=-1&to-nonce=5").await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(nonces("from-nonce=5").await, [6, 7, 8]);
    assert_eq!(nonces("to-nonce=1").await, [0, 1]);
    assert_eq!(nonces("from-nonce=0&to-nonce=1").await, [1]);
    let odd = get(&http, &format!("/{process}?process-id={process}&from-nonce=-2")).await;
    error(&odd, 400);
}

#[tokio::test]
async fn item_43_has_next_page_is_exact_at_every_border() {
    let (_world, http, process) = start().await;
    send(&http, process, 4).await;
    for limit in 1..=6 {
        for from in -1..=4 {
            let query = format!("from-nonce={from}&to-nonce=4&limit={limit}");
            let (_, page) = get(&http, &format!("/{process}?process-id={process}&{query}")).await;
            let left = 4 - from;
            assert_eq!(
                page["edges"].as_array().unwrap().len() as i64,
                left.min(limit),
                "{query}"
            );
            assert_eq!(page["page_info"]["has_next_page"], left > limit, "{query}");
        }
    }
}

#[tokio::test]
async fn item_44_pages_of_one_enumerate_the_whole_log() {
    let (_world, http, process) = start().await;
    let items = send(&http, process, 60).await;
    for mode in ["from", "from-nonce"] {
        let mut seen = Vec::new();
        let mut cursor = String::from(if mode == "from" { "" } else { "-1" });
        loop {
            let query = format!("process-id={process}&{mode}={cursor}&limit=1");
            let (_, page) = get(&http, &format!("/{process}?{query}")).await;
            let edge = &page["edges"][0];
            seen.push(edge["node"]["message"]["id"].as_str().unwrap().to_string());
            cursor = edge["cursor"].as_str().unwrap().to_string();
            if page["page_info"]["has_next_page"] == false {
                break;
            }
        }
        let expected = std::iter::once(process.to_string()).chain(items.iter().map(|i| i.id().to_string()));
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_45_timestamps_strictly_increase_however_fast() {
    let (world, _, process) = start().await;
    // A clock that stands still is faster than any rate.
    world.now_ms.store(5, std::sync::atomic::Ordering::SeqCst);
    flood(&world, process, 2000).await;
    verify_log(process, &world.whole(process).await);
}

/// Many messages from 64 callers at once.
async fn flood(world: &World, process: ProcessId, count: usize) {
    let callers = (0..64).map(|caller| {
        let su = world.su.clone();
        tokio::spawn(async move {
            for n in (caller..count).step_by(64) {
                su.schedule(message(process, &format!("f{n}"))).await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_46_nonces_are_gapless_under_concurrent_and_failed_posts() {
    let (world, http, process) = start().await;
    let callers = (0..16).map(|caller| {
        let http = http.clone();
        tokio::spawn(async move {
            for n in 0..10 {
                let item = message(process, &format!("{caller}.{n}"));
                assert_eq!(post(&http, "/", item.bytes().clone()).await.0, 200);
                assert_eq!(post(&http, "/", item.bytes().clone()).await.0, 400);
                assert_eq!(post(&http, "/", "garbage").await.0, 400);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let entries = world.whole(process).await;
    assert_eq!(entries.len(), 161);
    verify_log(process, &entries);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_47_the_hash_chain_covers_the_whole_log() {
    let (world, _, process) = start().await;
    flood(&world, process, 500).await;
    let entries = world.whole(process).await;
    assert_eq!(entries.len(), 501);
    verify_log(process, &entries);
    let golden: Value = serde_json::from_str(include_str!("../../../spec/vectors/chain.json")).unwrap();
    for row in golden["chain"].as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap();
        let first = Chain::first(text("process").parse().unwrap());
        assert_eq!(first.to_string(), text("first"));
        assert_eq!(
            first
                .next(text("previous_assignment").parse().unwrap())
                .to_string(),
            text("next")
        );
    }
}

#[tokio::test]
async fn item_48_block_height_is_padded_and_never_falls() {
    let (world, http, process) = start().await;
    world
        .now_ms
        .store(10_000_000, std::sync::atomic::Ordering::SeqCst);
    send(&http, process, 2).await;
    world.now_ms.store(20, std::sync::atomic::Ordering::SeqCst);
    post(&http, "/", message(process, "later").bytes().clone()).await;
    let (_, page) = get(&http, &format!("/{process}?process-id={process}")).await;
    let heights = page["edges"].as_array().unwrap().iter();
    let heights: Vec<&str> = heights
        .map(|e| tag(&e["node"]["assignment"], "Block-Height").unwrap())
        .collect();
    assert!(
        heights
            .iter()
            .all(|height| height.len() == 12 && height.bytes().all(|b| b.is_ascii_digit()))
    );
    assert!(heights.is_sorted());
}

#[tokio::test]
async fn item_49_message_and_assignment_id_lead_to_the_same_object() {
    let (_world, http, process) = start().await;
    let item = send(&http, process, 1).await.remove(0);
    let (_, by_message) = get(&http, &format!("/{}?process-id={process}", item.id())).await;
    let assignment = by_message["assignment"]["id"].as_str().unwrap();
    let (status, by_assignment) = get(&http, &format!("/{assignment}?process-id={process}")).await;
    assert_eq!((status, &by_assignment), (200, &by_message));
    let shown = format!("/{assignment}?process-id={process}&show-anchor");
    let anchor = get(&http, &shown).await.1["assignment"]["anchor"].clone();
    assert_eq!(anchor.as_str().unwrap().len(), 43);
}

#[tokio::test]
async fn item_50_a_pure_assignment_has_no_message() {
    let (_world, http, process) = start().await;
    let other = process_item(2);
    post(&http, "/", other.bytes().clone()).await;
    let item = send(&http, process, 1).await.remove(0);
    let path = format!(
        "/?process-id={}&assign={}&base-layer&exclude=Data,Anchor",
        other.id(),
        item.id()
    );
    let (status, body) = post(&http, &path, "").await;
    assert_eq!(status, 200, "{body}");
    let (_, node) = get(
        &http,
        &format!("/{}?process-id={}", body["id"].as_str().unwrap(), other.id()),
    )
    .await;
    assert_eq!(node["message"], Value::Null);
    assert_eq!(node["assignment"]["id"], body["id"]);
    assert_eq!(tag(&node["assignment"], "Message"), Some(&*item.id().to_string()));
    let excluded = node["assignment"]["tags"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|tag| tag["name"] == "Exclude");
    let excluded: Vec<&str> = excluded.map(|tag| tag["value"].as_str().unwrap()).collect();
    assert_eq!(excluded, ["Data", "Anchor"]);
    for odd in ["exclude=Everything", "exclude=Data,Owner"] {
        let path = format!("/?process-id={}&assign={}&{odd}", other.id(), item.id());
        error(&post(&http, &path, "").await, 400);
    }
}

#[tokio::test]
async fn item_51_the_process_object_has_its_fields() {
    let (_world, http, process) = start().await;
    let (status, body) = get(&http, &format!("/processes/{process}")).await;
    let fields = [
        "process_id",
        "block",
        "owner",
        "tags",
        "timestamp",
        "data",
        "anchor",
        "signature",
        "target",
    ];
    assert_eq!((status, keys(&body)), (200, BTreeSet::from(fields)));
    assert_eq!(body["process_id"], process.to_string());
    assert_eq!(body["block"].as_str().unwrap().len(), 12);
    assert!(body["timestamp"].is_u64());
    assert_eq!(body["owner"]["key"], base64url(user(0).owner()));
    assert_eq!(body["data"], " ");
    let mut parts = ItemParts {
        data: Bytes::from_static(&[0xff, 0xfe]),
        ..ItemParts::default()
    };
    parts.tags = process_item(3).tags().to_vec();
    let binary = DataItem::sign(&parts, &user(0)).unwrap();
    post(&http, "/", binary.bytes().clone()).await;
    assert_eq!(
        get(&http, &format!("/processes/{}", binary.id())).await.1["data"],
        Value::Null
    );
    let unknown = get(&http, &format!("/processes/{}", base64url(&[1; 32]))).await;
    assert_eq!(error(&unknown, 400), "Message or Process not found");
}

#[tokio::test]
async fn item_52_latest_works_before_the_first_message() {
    let (_world, http, process) = start().await;
    let (status, body) = get(&http, &format!("/{process}/latest")).await;
    assert_eq!(
        (status, &body["message"]["id"]),
        (200, &Value::from(process.to_string()))
    );
    let items = send(&http, process, 2).await;
    let (_, body) = get(&http, &format!("/{process}/latest")).await;
    assert_eq!(body["message"]["id"], items[1].id().to_string());
    let unknown = get(&http, &format!("/{}/latest", base64url(&[1; 32]))).await;
    assert_eq!(error(&unknown, 400), "Latest message not available");
}

#[tokio::test]
async fn item_53_a_missing_process_id_is_400() {
    let (_world, http, process) = start().await;
    let item = send(&http, process, 1).await.remove(0);
    for path in [
        format!("/{}", item.id()),
        format!("/{process}?limit=2"),
        format!("/{process}?process-id="),
    ] {
        assert!(error(&get(&http, &path).await, 400).contains("process-id"));
    }
}

#[tokio::test]
async fn item_54_an_unknown_id_is_400() {
    let (_world, http, process) = start().await;
    let unknown = base64url(&[1; 32]);
    for path in [
        format!("/{unknown}?process-id={process}"),
        format!("/{unknown}?process-id={unknown}"),
    ] {
        assert_eq!(
            error(&get(&http, &path).await, 400),
            "Message or Process not found"
        );
    }
    assert_eq!(
        error(&get(&http, &format!("/short?process-id={process}")).await, 400),
        "Message or Process not found"
    );
    let stranger = message(ProcessId([4; 32]), "to nobody");
    assert!(error(&post(&http, "/", stranger.bytes().clone()).await, 400).contains("not scheduled here"));
    let path = format!("/?process-id={process}&assign={unknown}");
    error(&post(&http, &path, "").await, 400);
}

#[tokio::test]
async fn item_55_link_tags_are_refused() {
    let (world, http, process) = start().await;
    for pair in [("x+link", "y"), ("x", "y+link")] {
        let item = message_with(process, "x", &[pair], &user(0));
        assert!(error(&post(&http, "/", item.bytes().clone()).await, 400).contains("+link"));
    }
    let item = process_item_with(4, &[("x+link", "y")]);
    assert!(error(&post(&http, "/", item.bytes().clone()).await, 400).contains("+link"));
    let harmless = message_with(process, "x", &[("+link-x", "a+linked")], &user(0));
    assert_eq!(post(&http, "/", harmless.bytes().clone()).await.0, 200);
    assert_eq!(world.whole(process).await.len(), 2);
}

#[tokio::test]
async fn item_56_a_process_names_module_and_scheduler() {
    let (_world, http, _) = start().await;
    for missing in ["Module", "Scheduler"] {
        let all = process_item(5);
        let tags = all
            .tags()
            .iter()
            .filter(|tag| tag.name != missing.as_bytes())
            .cloned()
            .collect();
        let parts = ItemParts {
            tags,
            ..ItemParts::default()
        };
        let item = DataItem::sign(&parts, &user(0)).unwrap();
        assert!(error(&post(&http, "/", item.bytes().clone()).await, 400).contains(missing));
    }
    let mut parts = ItemParts {
        tags: process_item(5).tags().to_vec(),
        ..ItemParts::default()
    };
    parts.tags.push(Tag::new("On-Boot", base64url(&[8; 32])));
    let item = DataItem::sign(&parts, &user(0)).unwrap();
    assert!(error(&post(&http, "/", item.bytes().clone()).await, 400).contains("On-Boot"));
}

#[tokio::test]
async fn item_57_one_message_in_two_processes() {
    let (world, http, first) = start().await;
    let second = world.spawn(2).await;
    post(&http, "/", message(second, "before").bytes().clone()).await;
    let item = send(&http, first, 1).await.remove(0);
    let (_, assigned) = post(&http, &format!("/?process-id={second}&assign={}", item.id()), "").await;
    let in_first = get(&http, &format!("/{}?process-id={first}", item.id())).await.1;
    let in_second = get(&http, &format!("/{}?process-id={second}", item.id())).await.1;
    assert_eq!(tag(&in_first["assignment"], "Nonce"), Some("1"));
    assert_eq!(tag(&in_second["assignment"], "Nonce"), Some("2"));
    assert_eq!(in_second["assignment"]["id"], assigned["id"]);
    let page = world.su.log(second, Span::Slots(2, 2), 1).await.unwrap();
    assert!(matches!(page.entries[0].content, Content::Elsewhere));
}

#[tokio::test]
async fn item_13_one_of_two_parameters_is_named() {
    let (_world, http, process) = start().await;
    for query in [format!("process-id={process}"), format!("assign={process}")] {
        let answer = post(&http, &format!("/?{query}"), "").await;
        assert_eq!(
            error(&answer, 400),
            "If sending assign or process-id, you must send both."
        );
    }
    for body in ["", "garbage"] {
        error(&post(&http, "/", body).await, 400);
    }
}

/// What is scheduled is in the weave's log at once, the process and its messages alike.
#[tokio::test]
async fn item_89_what_was_posted_is_fetched_at_once() {
    let (world, http, process) = start().await;
    let item = send(&http, process, 1).await.remove(0);
    assert_eq!(
        world.shelf.fetch(process.into()).await.unwrap().item(),
        Some(&process_item(1))
    );
    assert_eq!(world.shelf.fetch(item.id()).await.unwrap().item(), Some(&item));
    let entry = world.su.message(process, item.id()).await.unwrap();
    assert!(world.shelf.fetch(entry.assignment.item.id()).await.is_ok());
}
