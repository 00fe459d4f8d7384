//! Everything outside the log is a cache: delete it, kill the node, start again, and every answer is
//! what it was.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use support::{Node, add_outcome_module, get, message_item, post, process_item, signer};

/// What a stranger can see of a process.
#[derive(PartialEq, Debug)]
struct Seen {
    log: serde_json::Value,
    results: serde_json::Value,
    memory: Bytes,
}

async fn see(node: &Node, process: &str) -> Seen {
    let (status, log) = get(
        &node.http("su"),
        &format!("/{process}?process-id={process}&limit=1000"),
    )
    .await;
    assert_eq!(status, 200, "{log}");
    let last = &log["edges"].as_array().unwrap().last().unwrap()["node"];
    let last = last["message"]["id"].as_str().unwrap();
    let cu = node.http("cu");
    // Asking for the newest result catches up; only then do the lists say everything.
    assert_eq!(
        get(&cu, &format!("/result/{last}?process-id={process}")).await.0,
        200
    );
    let (_, results) = get(&cu, &format!("/results/{process}?limit=1000")).await;
    let state = cu.get(&format!("/state/{process}")).await.unwrap();
    assert_eq!(state.status, 200);
    Seen {
        log,
        results,
        memory: state.body,
    }
}

async fn world(node: &Node) -> Vec<String> {
    let module = add_outcome_module(node);
    let (key, mu) = (signer(1), node.http("mu"));
    let items =
        ["from", "to"].map(|name| process_item(&key, &module, node.text("su_address"), &[("Name", name)]));
    for item in &items {
        post(&mu, item).await;
    }
    let [from, to] = items.map(|item| item.id().to_string());
    for number in 0..20 {
        let push = format!(r#"{{"Target":"{to}","Anchor":"{number:032}","Data":"n{number}","Tags":[]}}"#);
        let data = match number % 5 {
            4 => r#"{"Error":"on purpose"}"#.to_string(),
            _ => format!(r#"{{"Output":"o{number}","Messages":[{push}]}}"#),
        };
        post(
            &mu,
            &message_item(&key, &from, &data, &[("Number", &number.to_string())]),
        )
        .await;
    }
    settle(node, &to, 1 + 16).await;
    vec![from, to]
}

/// Waits until a process's log has this many entries.
async fn settle(node: &Node, process: &str, entries: usize) {
    for _ in 0..300 {
        let (_, log) = get(
            &node.http("su"),
            &format!("/{process}?process-id={process}&limit=1000"),
        )
        .await;
        if log["edges"]
            .as_array()
            .is_some_and(|edges| edges.len() == entries)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{process} never had {entries} entries");
}

async fn see_all(node: &Node, processes: &[String]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for process in processes {
        seen.push(see(node, process).await);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_cache_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let processes = world(&node).await;
    let live = see_all(&node, &processes).await;
    assert_eq!(
        live[0].results["edges"].as_array().unwrap().len(),
        1 + 16,
        "errors are left out"
    );
    assert!(live[1].memory.iter().any(|byte| *byte != 0));

    node.terminate();
    let node = Node::start(&data);
    assert_eq!(
        see_all(&node, &processes).await,
        live,
        "after an orderly restart, from checkpoints"
    );

    node.kill();
    std::fs::remove_dir_all(data.join("cache")).unwrap();
    let node = Node::start(&data);
    assert_eq!(see_all(&node, &processes).await, live, "from the log alone");
    // The messenger's queue was in the cache too: it cranks everything again, and nothing doubles.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        see_all(&node, &processes).await,
        live,
        "after the messenger went through the log again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_keys_are_a_working_profile() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("rsa.json");
    let made = support::weft()
        .args(["wallet", "new", "--type", "rsa"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let key = key.to_str().unwrap();
    let flags = ["--su-key", key, "--mu-key", key, "--cu-key", key];
    let data = folder.path().join("data");
    let node = Node::start_with(&data, &flags);
    assert_eq!(node.text("su_address"), node.text("mu_address"));
    let processes = world(&node).await;
    let live = see_all(&node, &processes).await;
    let signature = live[1].log["edges"][1]["node"]["message"]["signature"]
        .as_str()
        .unwrap()
        .len();
    assert_eq!(signature, 683, "512 bytes in base64url");
    node.kill();
    std::fs::remove_dir_all(data.join("cache")).unwrap();
    let node = Node::start_with(&data, &flags);
    // RSA signatures differ each time, so here the push hash must recognise what was pushed before.
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(see_all(&node, &processes).await, live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_holds_a_thousand_connections() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    let address = node.text("url").strip_prefix("http://").unwrap().to_string();
    let mut idle = Vec::new();
    for _ in 0..1024 {
        idle.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let answer = tokio::time::timeout(Duration::from_secs(10), get(&node.http("url"), "/health/live")).await;
    assert_eq!(answer.unwrap().0, 200);
    drop(idle);
}

#[test]
fn a_segment_of_a_newer_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Node::start(&data).terminate();
    let segment = std::fs::read_dir(data.join("log"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&segment).unwrap();
    // Magic of eight bytes, then the version.
    bytes[8] = 0xee;
    std::fs::write(&segment, bytes).unwrap();
    let output = support::weft()
        .args(["node", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = Path::new(&segment)
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert!(error.contains(&name) && error.contains("version"), "{error}");
}
