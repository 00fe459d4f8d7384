//! What goes up and who may go on, with the real program: a local process becomes permanent under
//! kill -9, the permanent class alone makes a folder again, which rests until it is resumed, and a
//! key follows another.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use spec::contract::Class;
use spec::{Assignment, ItemId, Signer};
use support::{Node, add_outcome_module, get, message_item, post, process_item, signer, weft};
use wire::client::Http;

const MESSAGES: usize = 1500;
const PERMANENT: &[(&str, &str)] = &[("Storage", "permanent")];

/// What lies in the permanent class of a folder: slots of a process in the log's order, all ids.
fn published(data: &Path, process: &str) -> (Vec<u64>, BTreeSet<ItemId>) {
    // A copy: the node may be at work, and a log has one opener.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(data.join("log")).unwrap() {
        let file = file.unwrap();
        // A draft may be gone by now.
        let _ = std::fs::copy(file.path(), copy.path().join(file.file_name()));
    }
    let log = weave::Log::open(&weave::Config::default(), copy.path()).unwrap();
    let (mut slots, mut ids) = (Vec::new(), BTreeSet::new());
    for entry in log.entries(None).map(Result::unwrap) {
        if entry.class == Class::Permanent {
            ids.extend(entry.record.id());
            let assignment = entry
                .record
                .item()
                .and_then(|item| Assignment::read(item.clone()).ok());
            let of_process = assignment.filter(|assignment| assignment.process.to_string() == process);
            slots.extend(of_process.map(|assignment| assignment.slot));
        }
    }
    (slots, ids)
}

/// A folder with nothing but the keys and what was published, as a rebuild leaves it.
fn rebuilt(data: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("log")).unwrap();
    std::fs::create_dir_all(to.join("keys")).unwrap();
    for key in std::fs::read_dir(data.join("keys")).unwrap() {
        let key = key.unwrap();
        std::fs::copy(key.path(), to.join("keys").join(key.file_name())).unwrap();
    }
    let from = weave::Log::open(&weave::Config::default(), &data.join("log")).unwrap();
    let log = weave::Log::open(&weave::Config::default(), &to.join("log")).unwrap();
    let entries = from.entries(None).map(Result::unwrap);
    let permanent = entries.filter(|entry| entry.class == Class::Permanent);
    let records: Vec<_> = permanent.map(|entry| entry.record).collect();
    for chunk in records.chunks(1000) {
        log.append(chunk.to_vec(), Class::Permanent).wait().unwrap();
    }
    log.append(vec![su::note::suspended()], Class::Local)
        .wait()
        .unwrap();
}

fn echo(key: &Signer, process: &str, number: usize) -> spec::DataItem {
    message_item(key, process, &format!(r#"{{"Output":"o{number}"}}"#), &[])
}

async fn try_post(unit: &Http, item: &spec::DataItem) -> (u16, String) {
    let sent = unit
        .post("/", "application/octet-stream", item.bytes().clone())
        .await;
    let reply = sent.unwrap();
    (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
}

/// The newest entry as the field's clients read it, and its outcome.
async fn newest(node: &Node, process: &str) -> (Value, Value) {
    let (status, latest) = get(&node.http("su"), &format!("/{process}/latest")).await;
    assert_eq!(status, 200, "{latest}");
    let id = latest["message"]["id"].as_str().unwrap();
    let (status, result) = get(&node.http("cu"), &format!("/result/{id}?process-id={process}")).await;
    assert_eq!(status, 200, "{result}");
    (latest, result)
}

fn tag<'a>(entry: &'a Value, name: &str) -> &'a str {
    let tags = entry["assignment"]["tags"].as_array().unwrap();
    let found = tags.iter().find(|tag| tag["name"] == name);
    found.map_or("", |tag| tag["value"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_becomes_permanent_through_kills_and_outlives_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let module = add_outcome_module(&node);
    let (owner, stranger) = (signer(1), signer(2));
    let spawn = |name| process_item(&owner, &module, node.text("su_address"), &[("Name", name)]);
    let (item, other) = (spawn("widened"), spawn("stays"));
    let (process, other) = (item.id().to_string(), other);
    post(&node.http("mu"), &item).await;
    post(&node.http("mu"), &other).await;
    let su = node.http("su");
    let sends = (0..MESSAGES).map(|number| {
        let (su, item) = (su.clone(), echo(&owner, &process, number));
        async move { post(&su, &item).await }
    });
    let sends: Vec<_> = sends.collect();
    for send in sends {
        send.await;
    }
    post(&su, &message_item(&stranger, &process, "{}", PERMANENT)).await;
    assert!(published(&data, &process).0.is_empty(), "nobody but the owner");
    post(&su, &message_item(&owner, &process, "{}", PERMANENT)).await;
    node.kill();
    for wait_ms in [0, 3, 15] {
        let node = Node::start(&data);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        node.kill();
    }
    let node = Node::start(&data);
    let slots = MESSAGES as u64 + 3;
    for _ in 0..300 {
        if published(&data, &process).0.len() as u64 == slots {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    post(&node.http("mu"), &echo(&owner, &process, 9000)).await;
    let before = newest(&node, &process).await;
    node.terminate();
    let (found, ids) = published(&data, &process);
    assert_eq!(found, (0..=slots).collect::<Vec<_>>(), "each slot once, in order");
    assert!(ids.contains(&module.parse().unwrap()), "the module goes along");
    assert!(!ids.contains(&other.id()), "nobody else does");

    let again = folder.path().join("again");
    rebuilt(&data, &again);
    rests_and_resumes(&again, &process, slots + 1, &before).await;
    goes_on_with_another_key(&again, &process).await;
}

/// A rebuilt folder answers what was asked before, and gives `next` as its first slot once it may.
async fn rests_and_resumes(data: &Path, process: &str, next: u64, before: &(Value, Value)) {
    let owner = signer(1);
    let node = Node::start(data);
    let (status, text) = try_post(&node.http("mu"), &echo(&owner, process, 1)).await;
    assert!(
        status != 202 || text.contains("exists"),
        "what has its slot is told so: {text}"
    );
    let (status, text) = try_post(&node.http("su"), &echo(&owner, process, 9001)).await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("--resume-scheduling"), "{text}");
    assert_eq!(newest(&node, process).await, *before, "reads go on");
    node.kill();
    let node = Node::start_with(data, &["--resume-scheduling"]);
    post(&node.http("mu"), &echo(&owner, process, 9001)).await;
    let (latest, result) = newest(&node, process).await;
    assert_eq!(tag(&latest, "Nonce"), next.to_string());
    // An epoch is a second that has passed: one that was lost is not given again.
    assert!(tag(&latest, "Epoch").parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(result["Output"], "o9001");
    node.terminate();
}

async fn goes_on_with_another_key(data: &Path, process: &str) {
    let owner = signer(1);
    let done = weft()
        .args(["keys", "succeed", "--data"])
        .arg(data)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let new = String::from_utf8(done.stdout).unwrap();
    // Asked again where nothing is suspended: nothing happens.
    let node = Node::start_with(data, &["--resume-scheduling"]);
    assert_eq!(node.text("su_address"), new.trim());
    post(&node.http("mu"), &echo(&owner, process, 9002)).await;
    let (latest, result) = newest(&node, process).await;
    assert!(tag(&latest, "Epoch").parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(result["Output"], "o9002");
    assert_eq!(latest["assignment"]["owner"]["address"], new.trim());
    node.terminate();
}
