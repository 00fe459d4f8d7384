//! What aos 2.0.16 sends in both its modes, captured on the wire, replayed against a fresh node that
//! has no module but its own kernel. Each answer has what the client reads from it, and says what the
//! client showed when it was captured.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::Node;

/// Seed of the messenger's key under which the traffic was captured: mainnet clients make the
/// messenger's address the authority of what they spawn.
const MESSENGER: [u8; 32] = [8; 32];

/// Polls before a slot must be there: 20 s.
const POLLS_MAX: usize = 400;

/// A node with the captured traffic's messenger.
fn start(data: &Path) -> Node {
    let key = data.with_extension("mu.json");
    std::fs::write(&key, spec::Signer::ed25519_jwk(&MESSENGER).as_bytes()).unwrap();
    Node::start_with(data, &["--mu-key", key.to_str().unwrap()])
}

/// An answer.
struct Seen {
    status: u64,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request on a connection of its own, with exactly the headers given.
fn send(node: &Node, method: &str, path: &str, headers: &Value, body: &[u8]) -> Seen {
    let host = node.text("url").trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers.as_object().into_iter().flatten() {
        head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap()));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Seen {
        status: status.parse().unwrap(),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: answer[end + 4..].to_vec(),
    }
}

/// Waits until a process's highest slot is at least this: what it sends itself comes when it comes.
fn wait_for_slot(node: &Node, process: &str, slot: u64) {
    for _ in 0..POLLS_MAX {
        let seen = send(
            node,
            "GET",
            &format!("/{process}/slot/current"),
            &Value::Null,
            b"",
        );
        if seen.text().parse::<u64>().unwrap() >= slot {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("slot {slot} of {process} never came");
}

/// What the client reads from any outcome, and what it showed of this one.
fn check_outcome(outcome: &Value, saw: &Value, place: &str) {
    assert_eq!(
        !outcome["Error"].is_null(),
        saw["error"].as_bool().unwrap(),
        "{place}: {outcome}"
    );
    for list in ["Messages", "Spawns", "Assignments"] {
        assert!(outcome[list].is_array(), "{place}: {outcome}");
    }
    let Some(data) = saw["data"].as_str() else { return };
    let output = &outcome["Output"];
    let shown = output["data"]["output"].as_str().or(output["data"].as_str());
    assert_eq!(shown, Some(data), "{place}: {outcome}");
    let prompt = output["prompt"].as_str().or(output["data"]["prompt"].as_str());
    assert!(prompt.is_some() || output["print"] == true, "{place}: {outcome}");
}

fn check(seen: &Seen, request: &Value) {
    let (path, saw) = (request["path"].as_str().unwrap(), &request["saw"]);
    let place = format!("{} {path}", request["method"]);
    assert_eq!(
        seen.status,
        saw["status"].as_u64().unwrap(),
        "{place}: {}",
        seen.text()
    );
    match path {
        "/graphql" => assert!(seen.json()["data"]["transactions"]["edges"].is_array(), "{place}"),
        "/~meta@1.0/info/address" => assert_eq!(seen.text().len(), 43),
        "/push" => assert_eq!(seen.headers["process"].len(), 43),
        "/mu" => assert_eq!(seen.json()["id"].as_str().unwrap().len(), 43, "{place}"),
        _ if path.ends_with("/slot/current") => assert!(seen.text().parse::<u64>().is_ok(), "{place}"),
        _ if path.starts_with("/cu/results/") => assert!(seen.json()["edges"].is_array(), "{place}"),
        _ if path.starts_with("/cu/") => check_outcome(&seen.json(), saw, &place),
        _ => {
            let answer = seen.json();
            assert_eq!(answer["slot"], saw["slot"], "{place}: {answer}");
            check_outcome(&answer["raw"], saw, &place);
        }
    }
}

/// Replays a capture and answers the process it is about.
fn replay(node: &Node, capture: &str) -> String {
    let capture: Value = serde_json::from_str(capture).unwrap();
    let mut process = String::new();
    for request in capture["requests"].as_array().unwrap() {
        let (method, path) = (
            request["method"].as_str().unwrap(),
            request["path"].as_str().unwrap(),
        );
        if let Some(slot) = request["saw"]["slot"].as_u64().filter(|slot| *slot > 0) {
            let before = u64::from(path.ends_with("/push") || path == "/mu");
            wait_for_slot(node, &process, slot - before);
        }
        let body = spec::ids::from_base64url(request["body"].as_str().unwrap()).unwrap();
        let seen = send(node, method, path, &request["headers"], &body);
        check(&seen, request);
        let spawned = seen.headers.get("process").cloned();
        let spawned = spawned.or_else(|| Some(seen.json_or_null()["processId"].as_str()?.to_owned()));
        if process.is_empty() {
            process = spawned.unwrap_or_default();
        }
    }
    process
}

impl Seen {
    fn json_or_null(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn get(node: &Node, path: &str) -> Value {
    send(node, "GET", path, &Value::Null, b"").json()
}

/// Slot 0's tags.
fn decisions(node: &Node, process: &str) -> HashMap<String, String> {
    let page = get(node, &format!("/su/{process}?process-id={process}&limit=1"));
    let tags = page["edges"][0]["node"]["assignment"]["tags"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    tags.iter()
        .map(|tag| (text(&tag["name"]), text(&tag["value"])))
        .collect()
}

#[test]
fn aos_2_0_16_in_mainnet_mode() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder.path().join("data"));
    let process = replay(&node, include_str!("compat/aos-traffic-mainnet.json"));
    let decided = decisions(&node, &process);
    assert_eq!(
        decided["Adopted-From"],
        "n_XZJhUnmldNFo4dhajoPZWhBXuJk-OcQr5JQ49c4Zo"
    );
    assert_eq!(decided["Module-Used"], cu::kernel_id().to_string());
    assert_eq!(decided["Storage"], "local");
}

#[test]
fn aos_2_0_16_in_legacy_mode() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder.path().join("data"));
    let process = replay(&node, include_str!("compat/aos-traffic-legacy.json"));
    let decided = decisions(&node, &process);
    assert_eq!(
        decided["Adopted-From"],
        "_GQ33BkPtZrqxA84vM8Zk-N2aO0toNNu_C-l-rawrBA"
    );
    assert_eq!(decided["Module-Used"], cu::kernel_id().to_string());
    // The client's fixed authority is not this node's messenger: what the process sent itself is
    // dropped, until the messenger was added to the authorities as the notice says.
    let shown = get(&node, &format!("/cu/results/{process}?limit=100")).to_string();
    assert!(shown.contains("not trusted"), "{shown}");
}

/// Later bytes change nothing for a process that was spawned without them.
#[test]
fn bytes_that_come_later_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = start(&data);
    let process = replay(&node, include_str!("compat/aos-traffic-mainnet.json"));
    let before = get(&node, &format!("/{process}/compute/results=2"));
    let published = "ISShJH1ij-hPPt9St5UFFr_8Ys3Kj5cyg7zrMGt7H9s";
    let wasm = folder.path().join("other.wasm");
    std::fs::write(&wasm, b"\0asm\x01\0\0\0").unwrap();
    node.add_module(
        &wasm,
        &["--id", published, "--format", "wasm32-unknown-emscripten4"],
    );
    node.terminate();
    std::fs::remove_dir_all(data.join("cache")).unwrap();
    let node = start(&data);
    assert_eq!(get(&node, &format!("/{process}/compute/results=2")), before);
    let spawn: Value = serde_json::from_str(include_str!("compat/aos-traffic-legacy.json")).unwrap();
    let spawn = &spawn["requests"][2];
    let body = spec::ids::from_base64url(spawn["body"].as_str().unwrap()).unwrap();
    let seen = send(&node, "POST", "/mu", &spawn["headers"], &body).json();
    assert!(seen["moduleUsed"].is_null(), "now its bytes are here: {seen}");
    assert!(seen["adoptedFrom"].is_string(), "{seen}");
    let notices = seen["notices"].as_array().unwrap();
    assert!(
        notices
            .iter()
            .any(|notice| notice.as_str().unwrap().contains("Authority=")),
        "{seen}"
    );
}

#[test]
fn the_gateway_describes_a_published_module_that_the_kernel_answers_for() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder.path().join("data"));
    let query = r#"{"query":"{ transactions(ids: [\"ISShJH1ij-hPPt9St5UFFr_8Ys3Kj5cyg7zrMGt7H9s\"]) { edges { node { tags { name value } } } } }"}"#;
    let headers = serde_json::json!({ "content-type": "application/json" });
    let seen = send(&node, "POST", "/graphql", &headers, query.as_bytes()).json();
    let tags = &seen["data"]["transactions"]["edges"][0]["node"]["tags"];
    let used = tags
        .as_array()
        .unwrap()
        .iter()
        .find(|tag| tag["name"] == "Module-Used");
    assert_eq!(used.unwrap()["value"], cu::kernel_id().to_string());
}

/// Rubbish in paths is refused in JSON, and nothing stops the node.
#[test]
fn rubbish_ids_and_paths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder.path().join("data"));
    let process = replay(&node, include_str!("compat/aos-traffic-mainnet.json"));
    let (absent, odd) = ("A".repeat(43), "_".repeat(43));
    let bases = [
        process.as_str(),
        &absent,
        &odd,
        "x",
        "~process@1.0",
        "%00",
        "..",
        "~meta@1.0",
    ];
    let tails = [
        "push",
        "slot/current",
        "compute",
        "compute/results=",
        "compute/results=-1",
        "compute/results=7%00",
        "compute/results=18446744073709551616",
        "compute=99999",
        "now/x/y/z",
        "as=execution/compute&&&==&%",
        "as=execution",
        "%FF%FE",
        "~scheduler@1.0/schedule",
        "slot/current/more",
        "&slot=1",
        "compute&slot=A",
        "compute?slot=-5",
    ];
    for base in bases {
        for tail in tails {
            for (method, body) in [("GET", &b""[..]), ("POST", b""), ("POST", b"\x01\x00rubbish")] {
                let path = format!("/{base}/{tail}");
                let seen = send(&node, method, &path, &Value::Null, body);
                assert!(
                    seen.status < 500,
                    "{method} {path}: {} {}",
                    seen.status,
                    seen.text()
                );
                let refused = seen.status >= 400;
                assert!(
                    !refused || seen.json()["error"].is_string(),
                    "{method} {path}: {}",
                    seen.text()
                );
            }
        }
    }
    assert_eq!(get(&node, "/~meta@1.0/info")["address"], node.text("mu_address"));
}
