//! The commands that talk to processes, as a person or a script meets them: values, errors, exit codes.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use spec::contract::Answer;
use support::{Node, weft};

/// A person's home, and perhaps a node.
struct World {
    home: tempfile::TempDir,
    node: Option<Node>,
}

impl World {
    fn alone() -> World {
        World {
            home: tempfile::tempdir().unwrap(),
            node: None,
        }
    }

    fn with_node() -> World {
        let mut world = World::alone();
        world.node = Some(Node::start(&world.home.path().join("node")));
        world
    }

    fn run_with(&self, args: &[&str], input: &str) -> Output {
        let mut command = weft();
        command
            .args(args)
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("WEFT_NODE")
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(node) = &self.node {
            command.env("WEFT_NODE", node.text("url"));
        }
        let mut child = command.spawn().unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "")
    }

    /// Standard output of a success, without its last line end.
    fn value(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", err(&output));
        out(&output).trim_end_matches('\n').to_owned()
    }

    /// Exit status and standard error of a failure that prints no value.
    fn failure(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} must fail: {}", out(&output));
        assert_eq!(out(&output), "", "{args:?}: values only on standard output");
        (output.status.code().unwrap(), err(&output))
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_evaluation_prints_its_value_and_nothing_else() {
    let world = World::alone();
    assert_eq!(world.value(&["eval", "-e", "1+1"]), "2");
    assert_eq!(world.value(&["eval", "-e", "x = 20", "-e", "return x + 2"]), "22");
    let file = write(
        world.home.path(),
        "a.lua",
        "local b = require('b')\nreturn b.twice(21)",
    );
    write(
        world.home.path(),
        "b.lua",
        "return { twice = function(n) return 2 * n end }",
    );
    assert_eq!(world.value(&["eval", &file]), "42");
    let piped = world.run_with(&["eval", "-"], "return 'from a pipe'");
    assert_eq!(out(&piped), "from a pipe\n");
    let json: Value = serde_json::from_str(&world.value(&["eval", "--json", "-e", "'v'"])).unwrap();
    assert_eq!(
        (&json["ok"], &json["value"], &json["slot"]),
        (&true.into(), &"v".into(), &1.into())
    );
    assert!(
        !world.home.path().join(".config").exists(),
        "one evaluation makes no key file"
    );
}

/// Where the system lets nobody make a network namespace, this shows nothing, and says so.
#[test]
fn an_evaluation_needs_no_network() {
    let world = World::alone();
    let offline = |program: &str| {
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--map-root-user", "--net", program])
            .env("HOME", world.home.path());
        command
    };
    if !offline("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no network namespace can be made here");
        return;
    }
    let done = offline(env!("CARGO_BIN_EXE_weft"))
        .args(["eval", "-e", "1+1"])
        .output()
        .unwrap();
    assert_eq!(out(&done), "2\n", "{}", err(&done));
}

#[test]
fn an_idle_node_is_small_and_leaves_nothing_behind() {
    let world = World::with_node();
    world.value(&["spawn", "small"]);
    world.value(&["eval", "--process", "small", "-e", "1"]);
    let pid = world.node.as_ref().unwrap().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib <= 80 * 1024, "{kib} KiB resident");
    let memory = Path::new("/dev/shm");
    let ours = |pid: u32| {
        let name = format!("weft-temporary-{pid}-");
        let entries = std::fs::read_dir(memory).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
            .count()
    };
    let child = weft()
        .args(["eval", "-e", "2"])
        .env("HOME", world.home.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(ours(pid), 0);
}

#[test]
fn weft_alone_without_a_terminal_reads_lua() {
    let world = World::alone();
    let done = world.run_with(&[], "x = 3\nreturn x * 2");
    assert_eq!(
        (out(&done).as_str(), done.status.code()),
        ("6\n", Some(0)),
        "{}",
        err(&done)
    );
    let done = world.run_with(&["dev", "bank"], "return ao.id ~= nil");
    assert_eq!(out(&done), "true\n", "{}", err(&done));
    let broken = world.run_with(&[], "x = = 3");
    assert_eq!((broken.status.code(), out(&broken).as_str()), (Some(1), ""));
    assert!(err(&broken).contains("stdin:1:5"), "{}", err(&broken));
}

#[test]
fn kept_data_is_there_again() {
    let world = World::alone();
    for expected in ["1\n", "2\n"] {
        let done = world.run_with(
            &["dev", "bank", "--keep", "data"],
            "Balance = (Balance or 0) + 1 return Balance",
        );
        assert_eq!(out(&done), expected, "{}", err(&done));
    }
    assert!(world.home.path().join("data/log").is_dir());
}

#[test]
fn broken_lua_is_exit_1_with_the_place_and_is_never_sent() {
    let world = World::alone();
    let (code, text) = world.failure(&["eval", "-e", "x = = 1"]);
    assert_eq!(code, 1);
    for part in ["error[lua-syntax]", "-e:1:5", "x = = 1", "^", "why:", "try:"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = world.failure(&["eval", "-e", "function f("]);
    assert!(code == 1 && text.contains("lua-incomplete"), "{text}");
    let file = write(world.home.path(), "bad.lua", "local x = 1\n\nreturn x.y.z");
    let (code, text) = world.failure(&["eval", &file]);
    assert!(code == 1 && text.contains("lua-runtime"), "{text}");
    assert!(
        text.contains("bad.lua:3") && text.contains("return x.y.z"),
        "{text}"
    );
    let json = world.run(&["eval", "--json", "-e", "error('boom')"]);
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (json.status.code(), &told["ok"], &told["error"]["code"]),
        (Some(1), &false.into(), &"lua-runtime".into())
    );
    assert!(told["error"]["what"].as_str().unwrap().contains("boom"), "{told}");
}

#[test]
fn usage_and_transport_are_exit_2_with_a_remedy() {
    let world = World::alone();
    let fails = |args: &[&str], parts: &[&str]| {
        let (code, text) = world.failure(args);
        assert_eq!(code, 2, "{args:?}: {text}");
        parts
            .iter()
            .for_each(|part| assert!(text.contains(part), "{args:?}: {part}: {text}"));
    };
    fails(&["eval", "--nod", "x"], &["--node"]);
    fails(&["evla"], &["eval"]);
    fails(
        &["ps", "--node", "http://127.0.0.1:1"],
        &["error[unreachable]", "http://127.0.0.1:1", "weft node"],
    );
    fails(&["ps", "--node", "ftp://x"], &["error[invalid-url]"]);
    fails(&["ps", "--node", "rubbish"], &["error[invalid-url]"]);
    fails(
        &["ps", "--mu-url", "http://127.0.0.1:1"],
        &["error[units-missing]", "--cu-url"],
    );
    fails(&["result", "not-an-id"], &["43 characters"]);
    fails(
        &["ps", "--wallet", "missing.json"],
        &["error[wallet]", "missing.json"],
    );
    fails(&["spawn", "x", "--tag", "rubbish"], &["error[no-tags-text]"]);
    let (code, text) = world.failure(&["eval", "missing.lua"]);
    assert!(code == 1 && text.contains("error[load-file]"), "{text}");
    assert!(
        world
            .failure(&["explain", "unreachabel"])
            .1
            .contains("unreachable")
    );
}

#[test]
fn processes_are_spawned_named_and_asked() {
    let world = World::with_node();
    let id = world.value(&["spawn", "bank"]);
    assert_eq!(id.len(), 43);
    let (code, text) = world.failure(&["spawn", "bank"]);
    assert!(code == 2 && text.contains("error[name-taken]"), "{text}");
    assert_eq!(
        world.value(&["eval", "--process", "bank", "-e", "Balance = 7 return Balance"]),
        "7"
    );
    assert_eq!(world.value(&["eval", "--process", &id, "-e", "Balance"]), "7");
    assert_eq!(world.value(&["dry", "bank", "-e", "Balance + 1"]), "8");
    assert_eq!(world.value(&["dry", "bank", "-e", "Balance"]), "7");
    let message = world.value(&["send", "bank", "--action", "Ping", "--data", "hi", "--no-wait"]);
    let result: Value = serde_json::from_str(&world.value(&["result", &message, "--json"])).unwrap();
    assert_eq!(
        (&result["ok"], &result["process"]),
        (&true.into(), &id.as_str().into())
    );
    let listed: Value = serde_json::from_str(&world.value(&["ps", "--json"])).unwrap();
    let row = &listed[0];
    assert_eq!(
        (&row["id"], &row["name"], &row["slot"]),
        (&id.as_str().into(), &"bank".into(), &3.into())
    );
    assert_eq!(row["module"].as_str().unwrap().len(), 43);
    let piped = world.run_with(&["shell", "bank"], "return Balance * 2");
    assert_eq!(out(&piped), "14\n", "{}", err(&piped));
    let (code, text) = world.failure(&["dry", "nobody", "-e", "1"]);
    assert!(code == 2 && text.contains("error[unknown-name]"), "{text}");
    let mode = world
        .home
        .path()
        .join(".config/weft/wallet.json")
        .metadata()
        .unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );
}

#[test]
fn a_trace_shows_what_a_message_caused() {
    let world = World::with_node();
    let (one, two) = (world.value(&["spawn", "one"]), world.value(&["spawn", "two"]));
    let code = format!("Send({{ Target = '{two}', Action = 'Hello', Data = 'x' }}) return 'sent'");
    let json: Value =
        serde_json::from_str(&world.value(&["eval", "--process", &one, "--json", "-e", &code])).unwrap();
    let message = json["message"].as_str().unwrap();
    // The messenger delivers after the answer.
    let tree = (0..100).find_map(|_| {
        let tree: Value = serde_json::from_str(&world.value(&["trace", message, "--json"])).unwrap();
        (tree["children"][0]["state"] == "evaluated").then_some(tree)
    });
    let tree = tree.expect("the message arrives");
    assert_eq!((&tree["label"], &tree["slot"]), (&"Eval".into(), &1.into()));
    let child = &tree["children"][0];
    assert_eq!(
        (&child["label"], &child["to"], &child["slot"]),
        (&"Hello".into(), &two.as_str().into(), &1.into())
    );
    let text = world.value(&["trace", message]);
    assert!(
        text.starts_with("Eval -> ") && text.contains("└─ Hello -> "),
        "{text}"
    );
}

#[test]
fn what_never_answers_is_exit_124() {
    let world = World::with_node();
    world.value(&["spawn", "loop"]);
    let (code, text) = world.failure(&[
        "eval",
        "--process",
        "loop",
        "--timeout",
        "1",
        "-e",
        "while true do end",
    ]);
    assert!(code == 124 && text.contains("error[timeout]"), "{code} {text}");
}

/// Follows a process through the events of the node; a second reader begins after the first one's third.
#[tokio::test(flavor = "multi_thread")]
async fn events_carry_every_outcome_once_and_resume() -> Answer<()> {
    let world = World::with_node();
    let id = world.value(&["spawn", "noisy"]);
    let http = world.node.as_ref().unwrap().http("cu");
    let process: spec::ProcessId = id.parse()?;
    let mut events = wire::events::Events::open(&http, process, &wire::events::From::Slot(1)).await?;
    for number in 0..6 {
        let code = match number % 3 {
            2 => format!("error('e{number}')"),
            _ => format!("print('p{number}')"),
        };
        world.run(&["eval", "--process", &id, "-e", &code]);
    }
    let mut seen = Vec::new();
    let mut third = None;
    while seen.len() < 6 {
        let at = events.next().await?.expect("the node goes on");
        seen.push((at.slot, at.outcome.is_error()));
        if seen.len() == 3 {
            third = Some(wire::events::position_of(&at));
        }
    }
    assert_eq!(
        seen,
        [
            (1, false),
            (2, false),
            (3, true),
            (4, false),
            (5, false),
            (6, true)
        ]
    );
    let from = wire::events::From::After(third.unwrap());
    let mut again = wire::events::Events::open(&http, process, &from).await?;
    assert_eq!(again.next().await?.unwrap().slot, 4);
    let unknown = spec::ProcessId([9; 32]);
    let refused = wire::events::Events::open(&http, unknown, &wire::events::From::Now).await;
    assert!(refused.is_err());
    drop((events, again));
    let node = world.node.unwrap();
    assert!(node.terminate() < std::time::Duration::from_secs(5));
    Ok(())
}

/// A feed whose node is killed and comes back goes on after the last outcome that it handed out.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_feed_outlives_its_node() -> Answer<()> {
    use aos_shell::{Session, live::live};
    use futures_util::StreamExt;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path());
    let (url, address) = (
        node.text("url").to_owned(),
        node.text("url")["http://".len()..].to_owned(),
    );
    let client = std::sync::Arc::new(aos_shell::Node::connect(&url).await?);
    let signer = std::sync::Arc::new(support::signer(5));
    let kernel = client.facts.kernel.expect("our nodes name theirs");
    let data = bytes::Bytes::from_static(b" ");
    let session = Session::spawn(client.clone(), signer, "feed", kernel, Vec::new(), data).await?;
    let mut feed = live(client, session.process, wire::events::From::Slot(1));
    let chunk = |text: String| match aos_shell::lua::read(&text) {
        aos_shell::lua::Read::Complete(chunk) => chunk,
        other => panic!("{other:?}"),
    };
    let (mut seen, mut breaks) = (Vec::new(), 0);
    session.eval(&chunk("print(1)".into())).await?;
    session.eval(&chunk("error(2)".into())).await?;
    seen.push(feed.next().await.unwrap()?.slot);
    node.kill();
    let _node = Node::start_at(folder.path(), &address, &[]);
    session.eval(&chunk("print(3)".into())).await?;
    while seen.last() != Some(&3) {
        match feed.next().await.expect("a feed has no end") {
            Ok(at) => seen.push(at.slot),
            Err(refusal) => {
                breaks += 1;
                assert!(wire::events::is_passing(&refusal), "{refusal}");
            }
        }
    }
    assert_eq!(seen, [1, 2, 3]);
    assert!(breaks <= 1, "a broken connection is told once");
    Ok(())
}

/// A flood of outcomes reaches a reader through the contract and a reader of events, each once.
#[tokio::test(flavor = "multi_thread")]
async fn no_outcome_of_a_flood_is_lost() -> Answer<()> {
    use aos_shell::{Feed, Session, live::live};
    use futures_util::StreamExt;
    const MESSAGES: u64 = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path());
    let client = aos_shell::Node::connect(node.text("url")).await?;
    let polling = std::sync::Arc::new(aos_shell::Node {
        feed: Feed::Contract,
        ..client.clone()
    });
    let client = std::sync::Arc::new(client);
    let kernel = client.facts.kernel.expect("our nodes name theirs");
    let data = bytes::Bytes::from_static(b" ");
    let signer = std::sync::Arc::new(support::signer(6));
    let session = Session::spawn(client.clone(), signer, "flood", kernel, Vec::new(), data).await?;
    let read = async |node| {
        let feed = live(node, session.process, wire::events::From::Slot(1));
        let slots = feed.map(|at| at.map(|at| at.slot)).take(MESSAGES as usize);
        slots
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<Answer<Vec<u64>>>()
    };
    let send = async {
        for number in 0..MESSAGES {
            let text = match number % 10 {
                9 => format!("error({number})"),
                _ => format!("print({number})"),
            };
            let tags = vec![spec::Tag::new("Action", "Eval")];
            session.send(session.process, tags, text.into()).await?;
        }
        Answer::Ok(())
    };
    let (sent, events, pages) = tokio::join!(send, read(client.clone()), read(polling));
    sent?;
    let expected: Vec<u64> = (1..=MESSAGES).collect();
    assert!(events? == expected, "events were lost, doubled or out of order");
    assert!(pages? == expected, "pages were lost, doubled or out of order");
    Ok(())
}

#[test]
fn a_reader_that_leaves_is_no_failure_worth_a_word() {
    let mut child = weft()
        .args(["bench", "verify", "--runs", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
fn completions_name_the_commands() {
    let world = World::alone();
    for shell in ["bash", "zsh", "fish"] {
        let text = world.value(&["completions", shell]);
        assert!(text.contains("eval") && text.contains("trace"), "{shell}");
    }
}

#[test]
fn an_evaluation_asks_a_model_that_was_added() {
    use inference::testing::forge::{Shape, llama};
    let world = World::with_node();
    let file = world.home.path().join("tiny.gguf");
    std::fs::write(&file, llama(&Shape::tiny(), "Q8_0")).unwrap();
    let model = world.value(&["module", "add", file.to_str().unwrap()]);
    let asks = |model: &str| {
        let question = format!(r#"{{ model = "{model}", prompt = "hello", max_tokens = 4 }}"#);
        format!("local a = ao.ai.generate{question} return #a.tokens .. a.finish .. a.attest.profile")
    };
    world.value(&["spawn", "oracle"]);
    let good = asks(&model);
    let eval = ["eval", "--process", "oracle", "-e"];
    assert_eq!(world.value(&[&eval[..], &[&good]].concat()), "4lengthdin1-a16");
    // One too large to go up lies in the node's folder, signed.
    let folder = world.home.path().join("node/models");
    let placed = world.value(&[
        "module",
        "add",
        file.to_str().unwrap(),
        "--models",
        folder.to_str().unwrap(),
    ]);
    assert_ne!(placed, model);
    let good = asks(&placed);
    assert_eq!(world.value(&[&eval[..], &[&good]].concat()), "4lengthdin1-a16");
    let bad = asks("tiny.gguf");
    let (_, error) = world.failure(&[&eval[..], &[&bad]].concat());
    assert!(error.contains("`model` must be the id of an item"), "{error}");
    // Another item under an id is none of that id; the message waits until the right one is there.
    let other = "A".repeat(43);
    std::fs::copy(
        folder.join(format!("{placed}.item")),
        folder.join(format!("{other}.item")),
    )
    .unwrap();
    let (_, error) = world.failure(&[&eval[..], &[&asks(&other)]].concat());
    assert!(error.contains(&format!("is item {placed}")), "{error}");
}
