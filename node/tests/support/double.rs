//! A double of Arweave under test: the real binary, and a wallet that it gives money to.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;
use wire::client::{Http, Limits};

use super::weft;

/// A running double. Dropping it kills it.
pub struct Double {
    child: Child,
    /// URLs of its peers.
    pub urls: Vec<String>,
}

impl Double {
    /// Starts one on a folder, with a block each so many milliseconds.
    pub fn start(data: &Path, block_ms: u64) -> Double {
        Double::start_with(data, block_ms, &[])
    }

    /// The same, with more flags.
    pub fn start_with(data: &Path, block_ms: u64, flags: &[&str]) -> Double {
        let mut command = weft();
        command.args([
            "double",
            "--listen",
            "127.0.0.1:0",
            "--block-ms",
            &block_ms.to_string(),
        ]);
        let mut child = command
            .arg("--data")
            .arg(data)
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut ready)
            .unwrap();
        let words = ready.split([' ', ',']).filter(|word| word.starts_with("http://"));
        let urls: Vec<String> = words.map(str::to_owned).collect();
        assert_eq!(urls.len(), 3, "{ready}");
        Double { child, urls }
    }

    /// A client of one of its peers.
    pub fn http(&self, peer: usize) -> Http {
        Http::new(&self.urls[peer], &Limits::default()).unwrap()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes one of the published test keys, RSA, as a wallet that is its owner's alone.
pub fn wallet(folder: &Path) -> PathBuf {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/keys.json");
    let keys: Value = serde_json::from_slice(&std::fs::read(keys).unwrap()).unwrap();
    let path = folder.join("wallet.json");
    std::fs::write(&path, keys["keys"][0]["jwk"].to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}
