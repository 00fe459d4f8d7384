//! The command line as a person meets it: what it prints, what it refuses, how it stops.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use support::{Node, get, weft};

fn output(args: &[&str]) -> Output {
    weft().args(args).output().unwrap()
}

fn error(args: &[&str]) -> String {
    let output = output(args);
    assert!(!output.status.success(), "{args:?} must fail");
    assert!(output.stdout.is_empty(), "errors go to standard error");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_ready_line_has_exactly_its_keys_and_sigterm_stops_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    let keys: Vec<&String> = node.ready.as_object().unwrap().keys().collect();
    let mut expected = [
        "ready",
        "url",
        "mu",
        "su",
        "cu",
        "gateway",
        "mu_address",
        "su_address",
        "cu_address",
        "data",
    ];
    expected.sort_unstable();
    let mut found: Vec<&str> = keys.iter().map(|k| k.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(node.text("url").starts_with("http://127.0.0.1:"));
    assert!(node.terminate() < Duration::from_secs(5));
}

#[tokio::test]
async fn health_and_metrics_answer() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    let http = node.http("url");
    assert_eq!(get(&http, "/health/live").await.0, 200);
    assert_eq!(get(&http, "/health/ready").await.0, 200);
    assert_eq!(get(&http, "/metrics").await.0, 200);
    let (status, body) = get(&http, "/no/such/route").await;
    assert_eq!(status, 404);
    assert!(
        body["error"].as_str().unwrap().contains("/no/such/route"),
        "{body}"
    );
}

#[test]
fn keys_and_folders_are_private_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Node::start(&data);
    let address = first.text("su_address").to_string();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for name in ["su.json", "mu.json", "cu.json"] {
        assert_eq!(mode(&data.join("keys").join(name)), 0o600);
    }
    first.kill();
    assert_eq!(Node::start(&data).text("su_address"), address);
}

#[test]
fn a_second_node_on_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let text = error(&[
        "node",
        "--listen",
        "127.0.0.1:0",
        "--data",
        data.to_str().unwrap(),
    ]);
    assert!(text.contains("another node uses this data folder"), "{text}");
    drop(node);
}

#[test]
fn wrong_flags_keys_and_addresses_are_refused_with_a_remedy() {
    let text = error(&["node", "--dat", "x"]);
    assert!(text.contains("--data"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weft.toml");
    std::fs::write(&config, "[http]\nbody_byte_max = 5\n").unwrap();
    let config = config.to_str().unwrap();
    let text = error(&["node", "--data", "x", "--config", config]);
    assert!(text.contains("body_bytes_max"), "{text}");
    let data = folder.path().join("data");
    let text = error(&[
        "node",
        "--data",
        data.to_str().unwrap(),
        "--roles",
        "mu",
        "--listen",
        "127.0.0.1:0",
    ]);
    assert!(text.contains("--su-url"), "{text}");
    assert!(error(&["node"]).contains("--data"));
}

#[test]
fn wallets_are_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wallet.json");
    let path = file.to_str().unwrap();
    let made = output(&["wallet", "new", path]);
    assert!(made.status.success());
    let address = String::from_utf8(made.stdout).unwrap();
    assert_eq!(address.trim().len(), 43);
    let told = output(&["wallet", "address", path]);
    assert_eq!(String::from_utf8(told.stdout).unwrap(), address);
    let ed25519 = error(&["rebuild", "--from", "http://h", "--wallet", path, "--data", "x"]);
    assert!(ed25519.contains("signs no transactions"), "{ed25519}");
    let missing = error(&[
        "rebuild", "--from", "http://h", "--wallet", "nowhere", "--data", "x",
    ]);
    assert!(missing.contains("no file has that name"), "{missing}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&file).unwrap();
    assert!(error(&["wallet", "new", path]).contains("never overwritten"));
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_module_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not.wasm");
    std::fs::write(&file, "hello").unwrap();
    let text = error(&[
        "module",
        "add",
        file.to_str().unwrap(),
        "--node",
        "http://127.0.0.1:1",
    ]);
    assert!(text.contains("--format"), "{text}");
}
