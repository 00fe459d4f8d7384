//! Nodes that upload, as real processes against the double: what was acknowledged becomes permanent, whatever is
//! killed meanwhile, and the commands tell how far it got.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::double::{Double, wallet};
use support::{Node, add_outcome_module, get, message_item, post, process_item, signer, weft};

/// Longest wait for everything to be permanent.
const SETTLE: Duration = Duration::from_secs(90);
/// Quick enough for a double with quick blocks.
const QUICK: &str = "poll_ms = 100\nretry_ms = 100\nretry_ms_max = 500\nseal_age_l1_ms = 500\n\
                     seal_age_bundler_ms = 500\naudit_ms = 1000\n";

fn config(folder: &Path, more: &str) -> PathBuf {
    let path = folder.join("weft.toml");
    std::fs::write(&path, format!("[upload]\n{QUICK}{more}")).unwrap();
    path
}

fn start(folder: &Path, double: &Double, more: &str, flags: &[&str]) -> Node {
    let (config, wallet) = (config(folder, more), wallet(folder));
    let mut all = vec![
        "--config",
        config.to_str().unwrap(),
        "--upload-wallet",
        wallet.to_str().unwrap(),
    ];
    double.urls.iter().for_each(|url| all.extend(["--upstream", url]));
    all.extend(flags);
    Node::start_with(&folder.join("node"), &all)
}

fn ask(node: &Node, words: &[&str]) -> Output {
    weft()
        .args(words)
        .args(["--node", node.text("url")])
        .output()
        .unwrap()
}

fn told(node: &Node, words: &[&str]) -> Value {
    let output = ask(node, words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn items(status: &Value, state: &str) -> u64 {
    status["states"][state]["items"].as_u64().unwrap()
}

fn unsettled(status: &Value) -> u64 {
    ["appended", "sealed", "posted", "mined"]
        .iter()
        .map(|state| items(status, state))
        .sum()
}

/// Waits until everything is permanent.
fn settle(node: &Node) -> Value {
    let begun = Instant::now();
    loop {
        let status = told(node, &["status", "--json"]);
        if unsettled(&status) == 0 && items(&status, "permanent") > 0 {
            return status;
        }
        assert!(begun.elapsed() < SETTLE, "not permanent in time: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

async fn send(node: &Node, process: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    let (mu, mut ids) = (node.http("mu"), Vec::new());
    for number in numbers {
        let label = number.to_string();
        let item = message_item(&signer(1), process, r#"{"Output":""}"#, &[("N", &label)]);
        post(&mu, &item).await;
        ids.push(item.id().to_string());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_becomes_permanent_though_the_node_is_killed_midway() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(&folder.path().join("double"), 100);
    let node = start(folder.path(), &double, "", &[]);
    let module = add_outcome_module(&node);
    let process = process_item(&signer(9), &module, node.text("su_address"), &[("Name", "kept")]);
    post(&node.http("mu"), &process).await;
    let process = process.id().to_string();
    let mut ids = send(&node, &process, 0..20).await;
    let begun = Instant::now();
    while items(&told(&node, &["status", "--json"]), "posted") == 0 {
        assert!(begun.elapsed() < SETTLE, "nothing is posted");
        std::thread::sleep(Duration::from_millis(20));
    }
    ids.extend(send(&node, &process, 20..30).await);
    node.kill();

    let node = start(folder.path(), &double, "", &[]);
    ids.extend(send(&node, &process, 30..40).await);
    let before = told(&node, &["status", "--json"]);
    assert!(
        unsettled(&before) > 0 && before["oldest_unsettled_ms"].is_u64(),
        "{before}"
    );
    assert_eq!(
        (
            before["uploads"].clone(),
            before["upstreams"].as_array().unwrap().len()
        ),
        (json!(true), 3)
    );
    let status = settle(&node);
    assert_eq!(
        (status["oldest_unsettled_ms"].clone(), status["alarms"].clone()),
        (Value::Null, json!([]))
    );
    assert!(status["cost"]["spent"].as_u64().unwrap() > 0, "{status}");
    // The process item, forty messages, an assignment for each; and what came along.
    let own = told(&node, &["status", "--json", "--process", &process]);
    assert_eq!(
        (items(&own, "permanent"), unsettled(&own), own["slots"].clone()),
        (82, 0, json!(41))
    );
    assert_eq!(own["class"], "permanent");
    assert!(items(&status, "permanent") >= 82, "{status}");

    shows_carriers(&node, &double).await;

    // What it says is so: the double's gateway hands out every message, and nobody else lies behind it.
    let gateway = double.http(2);
    for id in &ids {
        let (status, data) = get(&gateway, &format!("/raw/{id}")).await;
        assert_eq!((status, data), (200, json!({ "Output": "" })), "{id}");
    }
    let shown = ask(&node, &["status"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("uploads to http://127.0.0.1") && shown.contains("permanent "),
        "{shown}"
    );
}

/// The newest carrier is told with the transaction that the network has.
async fn shows_carriers(node: &Node, double: &Double) {
    let carriers = told(node, &["status", "--carriers", "--json"]);
    let newest = carriers["carriers"].as_array().unwrap().last().unwrap().clone();
    let transaction = newest["vehicles"][0]["transaction"].as_str().unwrap().to_owned();
    assert_eq!(newest["state"], "permanent", "{newest}");
    assert_eq!(
        get(&double.http(1), &format!("/tx/{transaction}/status")).await.0,
        200
    );
    let shown = ask(node, &["status", "--carriers", "1"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.starts_with("carrier ") && shown.contains(&transaction) && shown.lines().count() == 2,
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_route_says_that_nothing_is_uploaded() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path());
    let status = told(&node, &["status", "--json"]);
    assert_eq!(
        (status["uploads"].clone(), status["routes"].clone()),
        (json!(false), json!([]))
    );
    assert_eq!(unsettled(&status) + items(&status, "permanent"), 0);
    let shown = ask(&node, &["status"]);
    assert!(String::from_utf8_lossy(&shown.stdout).starts_with("nothing is uploaded"));
    for words in [&["seal"][..], &["upload", "preview"]] {
        let refused = ask(&node, words);
        assert!(!refused.status.success());
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("--upstream URL"),
            "{words:?}"
        );
    }
    // Nothing waits, so there is nothing to wait for.
    told(&node, &["status", "--json", "--wait"]);
    let nobody = ask(&node, &["status", "--process", "nobody"]);
    assert!(
        String::from_utf8_lossy(&nobody.stderr).contains("error[unknown-name]"),
        "{nobody:?}"
    );
    let unknown = ask(&node, &["status", "--process", &"A".repeat(43)]);
    assert!(!unknown.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_are_told_before_they_are_paid_and_a_dry_run_pays_none() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(&folder.path().join("double"), 100);
    let node = start(folder.path(), &double, "", &["--upload-dry-run"]);
    let module = add_outcome_module(&node);
    let process = process_item(&signer(9), &module, node.text("su_address"), &[]);
    post(&node.http("mu"), &process).await;
    let preview = told(&node, &["upload", "preview", "--json"]);
    assert_eq!(
        (preview["route"].clone(), preview["carriers"].clone()),
        (json!("l1"), json!(1))
    );
    let (cost, has) = (
        preview["winston"].as_u64().unwrap(),
        preview["balance"].as_u64().unwrap(),
    );
    assert!(cost > 256 * 1024 * 1000 && has > cost, "{preview}");
    let shown = ask(&node, &["upload", "preview"]);
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("1 carrier of"),
        "{shown:?}"
    );
    std::thread::sleep(Duration::from_millis(1500));
    let status = told(&node, &["status", "--json"]);
    assert_eq!(status["dry_run"], true);
    assert_eq!(
        (items(&status, "posted"), status["cost"]["committed"].clone()),
        (0, json!(0))
    );
    assert_eq!(status["preview"]["carriers"], 1, "{status}");
    let refused = ask(&node, &["seal"]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("error[dry-run]"),
        "{refused:?}"
    );
    drop(node);

    // The same folder in earnest, with a budget that covers nothing: it waits, and says so.
    let node = start(folder.path(), &double, "budget_winston_per_day = 1\n", &[]);
    let begun = Instant::now();
    loop {
        let status = told(&node, &["status", "--json"]);
        if status["alarms"].as_array().unwrap().contains(&json!("budget")) {
            assert_eq!(
                items(&status, "posted") + items(&status, "permanent"),
                0,
                "{status}"
            );
            break;
        }
        assert!(begun.elapsed() < SETTLE, "no alarm: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(node);
    let node = start(folder.path(), &double, "", &[]);
    told(&node, &["seal", "--json"]);
    assert!(items(&settle(&node), "permanent") >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_its_owner_makes_permanent_goes_up_whole_and_is_counted_so() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(&folder.path().join("double"), 100);
    let node = start(folder.path(), &double, "", &[]);
    let run = |words: &[&str]| {
        let mut command = weft();
        command
            .env("HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path());
        let output = command
            .args(words)
            .args(["--node", node.text("url")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["spawn", "kept", "--tag", "Storage=local"]);
    run(&["send", "kept", "--data", "before"]);
    let of = || -> Value { serde_json::from_str(&run(&["status", "--json", "--process", "kept"])).unwrap() };
    let before = of();
    assert_eq!(
        (before["class"].clone(), before["local"]["items"].clone()),
        (json!("local"), json!(4))
    );
    run(&["send", "kept", "--tag", "Storage=permanent"]);
    run(&["send", "kept", "--data", "after"]);
    run(&["seal"]);
    let begun = Instant::now();
    let after = loop {
        run(&["status", "--wait"]);
        let after = of();
        if items(&after, "permanent") == 8 {
            break after;
        }
        assert!(begun.elapsed() < SETTLE, "not copied in time: {after}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(
        (
            after["class"].clone(),
            after["local"]["items"].clone(),
            unsettled(&after)
        ),
        (json!("permanent"), json!(0), 0)
    );

    // Without a route the node still knows what is there.
    drop(node);
    let node = Node::start(&folder.path().join("node"));
    let status = told(&node, &["status", "--json", "--wait"]);
    assert_eq!((status["uploads"].clone(), unsettled(&status)), (json!(false), 0));
    assert!(items(&status, "permanent") >= 8, "{status}");
    assert!(status["cost"]["spent"].as_u64().unwrap() > 0, "{status}");
}

#[test]
fn a_node_that_could_not_pay_is_not_started() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |flags: &[&str]| {
        let mut command = weft();
        command
            .args(["node", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("node"));
        let output = command.args(flags).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--upstream", "http://h"]).contains("--upload-wallet"));
    assert!(refused(&["--upload-wallet", "w"]).contains("--upstream URL"));
    let missing = refused(&["--upstream", "http://h", "--upload-wallet", "/nowhere"]);
    assert!(
        missing.contains("/nowhere") && missing.contains("weft wallet new"),
        "{missing}"
    );
    assert!(refused(&["--upstream", "http://h", "--upload-wallet", "/"]).contains("no file"));
    let ed25519 = folder.path().join("key.json");
    assert!(
        weft()
            .args(["wallet", "new"])
            .arg(&ed25519)
            .output()
            .unwrap()
            .status
            .success()
    );
    let flags = [
        "--upstream",
        "http://h",
        "--upload-wallet",
        ed25519.to_str().unwrap(),
    ];
    assert!(refused(&flags).contains("--type rsa"));
    let flags = [
        "--roles",
        "cu",
        "--su-url",
        "http://h",
        "--gateway-url",
        "http://h",
    ];
    let more = ["--upstream", "http://h", "--upload-wallet", "w"];
    assert!(refused(&[&flags[..], &more].concat()).contains("role su or gateway"));
    // None of these touched the folder.
    assert!(!folder.path().join("node").exists());
}
