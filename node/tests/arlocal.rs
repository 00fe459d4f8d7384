//! Real writers and readers of the base layer: arweave-js and arbundles against our gateway, and as readers of what a
//! node of ours posted to ArLocal.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::double::wallet;
use support::{
    Node, add_outcome_module, compat, installed, installed_in, message_item, post, process_item, signer, weft,
};
use wire::client::{Http, Limits};

/// Longest wait for ArLocal to hold everything.
const SETTLE: Duration = Duration::from_secs(60);

/// Time for the chunks of what is posted to follow it.
const CHUNKS: Duration = Duration::from_secs(2);

/// A running ArLocal. Dropping it kills it.
struct ArLocal {
    child: Child,
    url: String,
}

impl ArLocal {
    fn start(folder: &Path) -> ArLocal {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = Command::new("node");
        command
            .arg(compat().join("arlocal/arlocal.cjs"))
            .arg(port.to_string())
            .arg(folder.join("db"));
        // It writes a log where it stands, and makes its own folder anew.
        let mut child = command
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("ready")));
        assert!(ready.is_some(), "ArLocal did not start");
        // It goes on printing; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        ArLocal {
            child,
            url: format!("http://127.0.0.1:{port}"),
        }
    }
}

impl Drop for ArLocal {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a script shows, given a file of JSON.
fn script(name: &str, given: &Value) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), given.to_string()).unwrap();
    let mut command = Command::new("node");
    let output = command
        .arg(name)
        .arg(file.path())
        .current_dir(compat())
        .output()
        .unwrap();
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{name}:\n{out}\n{error}");
    out.into_owned()
}

fn shown(out: &str) -> usize {
    out.lines().filter(|line| line.starts_with("ok ")).count()
}

#[test]
fn what_arweave_js_and_arbundles_post_to_our_gateway_is_served_and_listed() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("node"));
    let given = json!({ "url": node.text("gateway"), "wallet": wallet(folder.path()) });
    let out = script("writers.mjs", &given);
    assert_eq!(shown(&out), 7, "{out}");
}

#[test]
fn odd_things_that_strangers_post_to_our_gateway_are_served_as_they_are() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("node"));
    let given = json!({ "url": node.text("gateway"), "wallet": wallet(folder.path()) });
    let out = script("strangers.mjs", &given);
    assert_eq!(shown(&out), 8, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_post_to_arlocal_is_read_back_item_by_item() {
    if !installed() || !installed_in(&compat().join("arlocal")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("arlocal");
    std::fs::create_dir(&db).unwrap();
    let arlocal = ArLocal::start(&db);
    let network = Http::new(&arlocal.url, &Limits::default()).unwrap();
    let wallet = wallet(folder.path());
    let jwk = std::fs::read_to_string(&wallet).unwrap();
    let payer = spec::Signer::from_jwk(&jwk).unwrap().address();
    network
        .get(&format!("/mint/{payer}/1000000000000000"))
        .await
        .unwrap();

    let config = folder.path().join("weft.toml");
    let quick = "[upload]\npoll_ms = 100\nretry_ms = 100\nretry_ms_max = 500\nseal_age_l1_ms = 300\n";
    std::fs::write(&config, quick).unwrap();
    let flags = [
        "--upstream",
        &arlocal.url,
        "--upload-wallet",
        wallet.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let node = Node::start_with(&folder.path().join("node"), &flags);
    let module = add_outcome_module(&node);
    let process = process_item(&signer(9), &module, node.text("su_address"), &[]);
    post(&node.http("mu"), &process).await;
    let (process, mut sent) = (process.id().to_string(), Vec::new());
    // Some in a bundle of one chunk, some in one of several.
    for number in 0..12 {
        let padding = "x".repeat(if number < 6 { 0 } else { 100_000 });
        let data = format!(r#"{{"Output":"{number}{padding}"}}"#);
        let tags = [("N", &*number.to_string())].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let item = message_item(&signer(1), &process, &data, &[("N", &tags[0].1)]);
        post(&node.http("mu"), &item).await;
        sent.push(json!({ "id": item.id(), "data": data, "tags": { "N": number.to_string() } }));
        if number == 5 {
            mined(&node, &network).await;
        }
    }
    mined(&node, &network).await;
    let out = script("arlocal.mjs", &json!({ "url": arlocal.url, "items": sent }));
    assert_eq!(shown(&out), 3, "{out}");
}

/// Waits until everything is in a block of ArLocal. It proves nothing, so nothing becomes permanent there.
async fn mined(node: &Node, network: &Http) {
    let begun = Instant::now();
    loop {
        let output = weft()
            .args(["status", "--json", "--node", node.text("url")])
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let items = |state: &str| status["states"][state]["items"].as_u64().unwrap();
        match (items("appended") + items("sealed"), items("posted")) {
            (0, 0) => {
                assert_eq!(items("permanent"), 0, "ArLocal has no proofs: {status}");
                return;
            }
            (0, _) => {
                // It takes a bundle apart when it mines it, with the chunks that it has by then, and never again.
                std::thread::sleep(CHUNKS);
                network.get("/mine").await.unwrap();
            }
            _ => {}
        }
        assert!(begun.elapsed() < SETTLE, "not mined in time: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
