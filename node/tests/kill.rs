//! Kills the real binary under load, again and again, and holds its log against what it promised:
//! nothing acknowledged is lost, doubled or reordered, and every pushed message arrives once.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use spec::{DataItem, Signer};
use support::{Node, add_outcome_module, get, message_item, post, process_item, signer};

/// Senders that post at once; each waits for its answer before the next message.
const SENDERS: u8 = 4;
/// Messages each posted message makes its process push.
const FAN_OUT: usize = 2;
/// Longest wait without a single delivery after the last start.
const SETTLE: Duration = Duration::from_secs(20);

/// What a sender was promised, in order.
type Promised = Arc<Mutex<Vec<Vec<String>>>>;

#[test]
fn ten_kills_under_load_lose_nothing() {
    torture(10);
}

#[test]
#[ignore = "300 kills take several minutes; run it before a release: --run-ignored all"]
fn three_hundred_kills_under_load_lose_nothing() {
    torture(300);
}

fn torture(rounds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (from, to) = runtime.block_on(prepare(&data));
    let promised: Promised = Arc::new(Mutex::new(vec![Vec::new(); SENDERS.into()]));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..rounds {
        let node = Node::start(&data);
        let load: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (mu, from, to) = (node.http("mu"), from.clone(), to.clone());
                runtime.spawn(send(mu, from, to, sender, round, promised.clone()))
            })
            .collect();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_millis(20 + random % 180));
        node.kill();
        for task in load {
            runtime.block_on(task).unwrap();
        }
    }
    let node = Node::start(&data);
    let promised = promised.lock().unwrap().clone();
    runtime.block_on(check(&node, &from, &to, &promised));
    println!(
        "{rounds} kills, {} messages acknowledged",
        promised.iter().map(Vec::len).sum::<usize>()
    );
}

/// A node with two processes: one that pushes what it is told, one that counts.
async fn prepare(data: &Path) -> (String, String) {
    let node = Node::start(data);
    let module = add_outcome_module(&node);
    let mu = node.http("mu");
    let mut made = Vec::new();
    for name in ["from", "to"] {
        let item = process_item(&signer(99), &module, node.text("su_address"), &[("Name", name)]);
        post(&mu, &item).await;
        made.push(item.id().to_string());
    }
    let to = made.pop().unwrap();
    node.kill();
    (made.pop().unwrap(), to)
}

/// Posts messages until the node is gone; keeps the ids of those that were acknowledged.
async fn send(mu: wire::client::Http, from: String, to: String, sender: u8, round: u64, promised: Promised) {
    let key = signer(sender);
    for number in 0.. {
        let item = work(&key, &from, &to, &format!("{sender}-{round}-{number}"));
        let answer = mu
            .post("/", "application/octet-stream", item.bytes().clone())
            .await;
        match answer.map(|reply| reply.status) {
            Ok(202) => promised.lock().unwrap()[usize::from(sender)].push(item.id().to_string()),
            Ok(503) => tokio::time::sleep(Duration::from_millis(5)).await,
            Ok(status) => panic!("status {status}"),
            Err(_) => return,
        }
    }
}

/// A message that makes its process push `FAN_OUT` messages.
fn work(key: &Signer, from: &str, to: &str, label: &str) -> DataItem {
    let push = |i| format!(r#"{{"Target":"{to}","Anchor":"{i:032}","Data":"{label}.{i}","Tags":[]}}"#);
    let pushes: Vec<String> = (0..FAN_OUT).map(push).collect();
    let data = format!(r#"{{"Output":"","Messages":[{}]}}"#, pushes.join(","));
    message_item(key, from, &data, &[("Label", label)])
}

async fn check(node: &Node, from: &str, to: &str, promised: &[Vec<String>]) {
    let pushed = log(node, from).await;
    let slots: HashMap<&str, usize> = pushed
        .iter()
        .enumerate()
        .map(|(slot, entry)| (text(&entry["message"]["id"]), slot))
        .collect();
    assert_eq!(slots.len(), pushed.len(), "a message has two slots");
    for (slot, entry) in pushed.iter().enumerate() {
        assert_eq!(
            tag(&entry["assignment"], "Nonce"),
            slot.to_string(),
            "a gap in the log"
        );
    }
    for ids in promised {
        let places: Vec<usize> = ids
            .iter()
            .map(|id| {
                *slots
                    .get(id.as_str())
                    .unwrap_or_else(|| panic!("{id} was acknowledged and is lost"))
            })
            .collect();
        assert!(places.is_sorted(), "acknowledged messages were reordered");
    }
    check_deliveries(node, to, &pushed).await;
}

/// Every slot but the process's own pushed `FAN_OUT` messages; each must have arrived once, in order.
async fn check_deliveries(node: &Node, to: &str, pushed: &[Value]) {
    let wanted = (pushed.len() - 1) * FAN_OUT;
    // The backlog of many short lives is long: wait for as long as deliveries go on.
    let mut arrived = count(node, to).await;
    let mut progress = Instant::now();
    while arrived <= wanted && progress.elapsed() < SETTLE {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = count(node, to).await;
        if now > arrived {
            (arrived, progress) = (now, Instant::now());
        }
    }
    // Anything doubled would come after the last one wanted.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let arrived = log(node, to).await;
    let labels: Vec<&str> = arrived[1..]
        .iter()
        .map(|entry| text(&entry["message"]["data"]))
        .collect();
    let distinct: HashSet<&&str> = labels.iter().collect();
    assert_eq!(
        distinct.len(),
        labels.len(),
        "a pushed message was delivered twice"
    );
    let expected: Vec<String> = pushed[1..]
        .iter()
        .flat_map(|entry| (0..FAN_OUT).map(|i| format!("{}.{i}", tag(&entry["message"], "Label"))))
        .collect();
    assert_eq!(labels, expected, "pushed messages are missing or out of order");
}

/// How many entries a process's log has.
async fn count(node: &Node, process: &str) -> usize {
    let (status, latest) = get(&node.http("su"), &format!("/{process}/latest")).await;
    assert_eq!(status, 200, "{latest}");
    tag(&latest["assignment"], "Nonce").parse::<usize>().unwrap() + 1
}

/// A whole log, page by page.
async fn log(node: &Node, process: &str) -> Vec<Value> {
    let su = node.http("su");
    let mut entries = Vec::new();
    let mut after = "-1".to_string();
    loop {
        let path = format!("/{process}?process-id={process}&from-nonce={after}&limit=1000");
        let (status, page) = get(&su, &path).await;
        assert_eq!(status, 200, "{page}");
        let edges = page["edges"].as_array().unwrap();
        entries.extend(edges.iter().map(|edge| edge["node"].clone()));
        match page["page_info"]["has_next_page"].as_bool().unwrap() {
            true => after = text(&edges.last().unwrap()["cursor"]).to_string(),
            false => return entries,
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn tag(item: &Value, name: &str) -> String {
    let tags = item["tags"].as_array().unwrap();
    let found = tags.iter().find(|tag| tag["name"] == name);
    found.unwrap_or_else(|| panic!("no tag {name} in {item}"))["value"]
        .as_str()
        .unwrap()
        .to_string()
}
