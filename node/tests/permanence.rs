//! The README's commands about permanence, as they stand: a double, a node that uploads to it, a proof that is checked
//! without any network, and the node again from the double alone.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::weft;

/// What comes right before the README's script.
const MARK: &str = "<!-- test: skip permanence.rs plays it -->";
/// Quick enough for a double with quick blocks.
const QUICK: &str = "[upload]\npoll_ms = 100\nretry_ms = 100\nretry_ms_max = 500\nseal_age_l1_ms = 500\n";
/// What stays runs in the background, on ports of its own, and ends with the script.
const SHIM: &str = r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
weft() {
  case "$1" in
    double) stays double.log "$@" --listen "127.0.0.1:$DOUBLE_PORT" --block-ms 100 ;;
    node) stays node.log "$@" --listen "127.0.0.1:$NODE_PORT" --config quick.toml ;;
    *) command weft "$@" ;;
  esac
}
stays() {
  local log="$1"
  shift
  command weft "$@" > "$log" 2>&1 &
  for _ in $(seq 600); do
    if grep -q 'is ready' "$log"; then return; fi
    sleep 0.1
  done
  cat "$log"
  return 1
}
"#;

fn script() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let after = page.split(MARK).nth(1).expect("the README has the script");
    let body = after
        .split("```sh\n")
        .nth(1)
        .and_then(|text| text.split("```").next());
    body.unwrap().to_owned()
}

/// The first of some neighbouring ports that nobody listens on just now.
fn free_ports(count: u16) -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let found = (0..100).find_map(|_| {
        let first = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let last = first.checked_add(count - 1)?;
        (first..=last).all(is_free).then_some(first)
    });
    found.expect("there are free ports")
}

fn play(folder: &Path, script: &str) -> Output {
    let (double, node) = (free_ports(3), free_ports(1));
    let binary = Path::new(env!("CARGO_BIN_EXE_weft")).parent().unwrap();
    let path = format!(
        "{}:{}",
        binary.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let script = script.replace(":1984", &format!(":{double}"));
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("{SHIM}\n{script}")])
        .current_dir(folder)
        .env("PATH", path)
        .env("HOME", folder)
        .env_remove("XDG_CONFIG_HOME")
        .env("DOUBLE_PORT", double.to_string())
        .env("NODE_PORT", node.to_string())
        .env("WEFT_NODE", format!("http://127.0.0.1:{node}"))
        .stdin(Stdio::null());
    command.output().unwrap()
}

/// The permanent segments of a data folder, by name.
fn segments(data: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(data.join("log")).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .filter(|(name, _)| name.contains("permanent"))
        .collect();
    found.sort();
    found
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_the_readme_says_of_permanence_is_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("quick.toml"), QUICK).unwrap();
    // After what the README says: a key follows the node's, and then all is lost but the gateway. `wait` tells that the
    // node was killed, which is no failure here.
    let more = r#"
        kill %2 && wait %2 || true
        weft keys succeed --data ./kept > /dev/null
        weft node --data ./kept --upstream http://127.0.0.1:1984 --upload-wallet upload.json
        weft send kept --data later --no-wait > /dev/null
        weft seal && weft status --wait > /dev/null
        PROCESS=$(weft ps | grep kept | cut -d' ' -f1)
        weft rebuild --from http://127.0.0.1:1984 --process "$PROCESS" --data ./stranger > stranger.txt
        weft verify --process "$PROCESS" --full --from http://127.0.0.1:1984 > replayed.txt
        kill $! && wait $! || true
        weft verify --process "$PROCESS" --full --data ./kept > folder.txt
    "#;
    let output = play(folder.path(), &format!("{}\n{more}", script()));
    assert!(output.status.success(), "{}", told(&output));
    let told = told(&output);
    assert!(
        told.contains("permanent") && told.contains("rebuilt 1 processes"),
        "{told}"
    );
    let at = |name: &str| folder.path().join(name);

    let (kept, again, stranger) = (
        segments(&at("kept")),
        segments(&at("again")),
        segments(&at("stranger")),
    );
    assert!(!again.is_empty() && kept.starts_with(&again), "byte for byte");
    assert!(
        stranger.len() > again.len() && kept.starts_with(&stranger),
        "byte for byte"
    );
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    let root = read("replayed.txt").split_whitespace().last().unwrap().to_owned();
    assert!(read("stranger.txt").contains(&root), "{root}");
    assert!(read("folder.txt").contains(&root), "{root}");

    // The file alone shows it, and a file with one other bit shows nothing.
    let mut proof = std::fs::read(at("my.proof")).unwrap();
    assert!(proof.len() < 64 << 10);
    let verify = || weft().arg("verify").arg(at("my.proof")).output().unwrap();
    assert!(verify().status.success());
    let middle = proof.len() / 2;
    proof[middle] ^= 1;
    std::fs::write(at("my.proof"), proof).unwrap();
    let refused = verify();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("error[proof-refused]"));
}
