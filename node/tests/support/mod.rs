//! A node under test: the real binary in its own process and folder, and what tests ask of it.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part")]

pub mod double;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use spec::{DataItem, ItemParts, Signer, Tag};
use wire::client::{Http, Limits};

/// A running node. Dropping it kills it.
pub struct Node {
    child: Child,
    /// Its ready line.
    pub ready: Value,
}

/// The built binary.
pub fn weft() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weft"))
}

/// The folder of the real clients' package.
pub fn compat() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

/// Whether the real clients are installed, installing them if npm is here.
///
/// Without npm the tests say loudly that they did not run; where CI is set that is a failure.
pub fn installed() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let folder = compat();
        if folder.join("node_modules/.package-lock.json").exists() {
            return true;
        }
        let done = Command::new("npm")
            .args(["ci", "--ignore-scripts"])
            .current_dir(&folder)
            .status();
        let done = done.is_ok_and(|status| status.success());
        assert!(
            done || std::env::var_os("CI").is_none(),
            "npm ci failed in {}",
            folder.display()
        );
        if !done {
            eprintln!(
                "SKIPPED: `npm ci` failed in {}; the real clients were NOT tested",
                folder.display()
            );
        }
        done
    })
}

impl Node {
    /// Starts a node on a folder and waits for its ready line.
    pub fn start(data: &Path) -> Node {
        Node::start_with(data, &[])
    }

    /// The same, with more flags.
    pub fn start_with(data: &Path, flags: &[&str]) -> Node {
        Node::start_at(data, "127.0.0.1:0", flags)
    }

    /// The same, at an address.
    pub fn start_at(data: &Path, address: &str, flags: &[&str]) -> Node {
        let mut command = weft();
        command
            .args(["node", "--listen", address, "--json", "--data"])
            .arg(data)
            .args(flags);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("ready line `{line}`: {e}"));
        Node { child, ready }
    }

    /// A text of the ready line.
    pub fn text(&self, key: &str) -> &str {
        self.ready[key]
            .as_str()
            .unwrap_or_else(|| panic!("the ready line has no {key}"))
    }

    /// A client of a unit: `mu`, `su`, `cu`, `gateway` or `url`.
    pub fn http(&self, unit: &str) -> Http {
        Http::new(self.text(unit), &Limits::default()).unwrap()
    }

    /// Process id of the node.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power switch would: no warning, no flush.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop and waits; answers how long that took.
    pub fn terminate(mut self) -> Duration {
        let start = Instant::now();
        let done = Command::new("kill")
            .arg("-TERM")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(done.success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        start.elapsed()
    }

    /// Adds a module and answers its id.
    pub fn add_module(&self, file: &Path, flags: &[&str]) -> String {
        let mut command = weft();
        command
            .args(["module", "add"])
            .arg(file)
            .args(["--node", self.text("url")])
            .args(flags);
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "module add {}: {error}", file.display());
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A key for tests, the same for the same number.
pub fn signer(number: u8) -> Signer {
    Signer::ed25519(&[number; 32])
}

/// Tags from pairs.
pub fn tags(pairs: &[(&str, &str)]) -> Vec<Tag> {
    pairs
        .iter()
        .map(|(name, value)| Tag::new(*name, *value))
        .collect()
}

/// A signed process item.
pub fn process_item(signer: &Signer, module: &str, scheduler: &str, more: &[(&str, &str)]) -> DataItem {
    let mut all = tags(&[
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Process"),
        ("Module", module),
        ("Scheduler", scheduler),
    ]);
    all.extend(tags(more));
    let parts = ItemParts {
        tags: all,
        data: Bytes::from_static(b" "),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, signer).unwrap()
}

/// A signed message item.
pub fn message_item(signer: &Signer, process: &str, data: &str, more: &[(&str, &str)]) -> DataItem {
    let mut all = tags(&[
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Message"),
    ]);
    all.extend(tags(more));
    let target: spec::ItemId = process.parse().unwrap();
    let data = Bytes::from(data.to_string());
    let parts = ItemParts {
        target: Some(target.0),
        tags: all,
        data,
        ..ItemParts::default()
    };
    DataItem::sign(&parts, signer).unwrap()
}

/// Posts an item and answers the JSON of a success.
pub async fn post(unit: &Http, item: &DataItem) -> Value {
    let reply = unit
        .post("/", "application/octet-stream", item.bytes().clone())
        .await
        .unwrap();
    assert!(
        (200..300).contains(&reply.status),
        "{}: {}",
        reply.status,
        String::from_utf8_lossy(&reply.body)
    );
    serde_json::from_slice(&reply.body).unwrap()
}

/// The JSON of an answer, whatever its status.
pub async fn get(unit: &Http, path: &str) -> (u16, Value) {
    let reply = unit.get(path).await.unwrap();
    let json = serde_json::from_slice(&reply.body);
    (
        reply.status,
        json.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&reply.body).into_owned())),
    )
}

/// Adds the module whose answers are what it is sent (see the fixture) and answers its id.
pub fn add_outcome_module(node: &Node) -> String {
    let wat = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/outcome.wat");
    let folder = tempfile::tempdir().unwrap();
    let wasm = folder.path().join("outcome.wasm");
    std::fs::write(&wasm, wat::parse_file(wat).unwrap()).unwrap();
    node.add_module(&wasm, &["--format", "wasm32-unknown-emscripten4"])
}
