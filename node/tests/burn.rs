//! Burn the machine: a node is killed under load, its whole data folder is deleted, and `weft rebuild` brings back the
//! same bytes and the same states from gateways alone.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use spec::contract::{Class, Compute, Scheduler};
use spec::{Address, ProcessId, Signer};
use support::double::wallet;
use support::{Node, get, message_item, process_item, signer, weft};
use weave::testing::{Double, Faults, Handle, Publisher, Rules, serve};

/// Senders at once; a sender waits for its answer before the next message.
const SENDERS: usize = 8;

/// What a burnt node leaves: its carriers on the double, and what it was.
struct Burnt {
    double: Upstream,
    urls: Vec<String>,
    wallet: Address,
    /// Permanent segments that settled, by file name.
    settled: BTreeMap<String, Vec<u8>>,
    /// State roots as of what settled.
    roots: BTreeMap<String, String>,
    messages: u64,
    /// What the rebuild is configured by.
    config: Option<PathBuf>,
}

/// The double, in this program or in one of its own.
enum Upstream {
    Here { _handle: Handle },
    Beside { _double: support::double::Double },
}

struct Size {
    processes: usize,
    messages: u64,
    seal_bytes_max: u64,
}

#[test]
fn a_burnt_node_comes_back_whole() {
    burn(&Size {
        processes: 10,
        messages: 1_000,
        seal_bytes_max: 96 << 10,
    });
}

#[test]
#[ignore = "a hundred thousand messages take minutes; run it before a release: --run-ignored all"]
fn a_hundred_thousand_messages_come_back_whole() {
    burn(&Size {
        processes: 100,
        messages: 100_000,
        seal_bytes_max: 4 << 20,
    });
}

/// Everything at once: a double on which things go wrong by a seed, a node that uploads to it and is killed again and
/// again, and a rebuild over the same bad lines, killed too.
#[test]
fn a_node_killed_in_a_storm_comes_back_whole() {
    storm(number("WEFT_SEED").unwrap_or(6), 4);
}

#[test]
#[ignore = "minutes: WEFT_SEED is the first of WEFT_STORMS seeds; run it before a release: --run-ignored all"]
fn nodes_killed_in_many_storms_come_back_whole() {
    let (first, count) = (
        number("WEFT_SEED").unwrap_or(100),
        number("WEFT_STORMS").unwrap_or(10),
    );
    (first..first + count).for_each(|seed| storm(seed, 8));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

fn storm(seed: u64, kills: u64) {
    println!("seed {seed}");
    let (runtime, folder) = (runtime(), tempfile::tempdir().unwrap());
    let burnt = runtime.block_on(live_in_a_storm(folder.path(), seed, kills));
    let data = folder.path().join("data");
    let report = rebuild(&burnt, &data, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    assert_eq!(report["messages"], burnt.messages, "{report}");
    assert_same(&burnt, &data, &report);
    let rows = report["processes"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["wrong_checkpoints"] == 0), "{report}");
    assert!(
        rows.iter().any(|row| row["checkpoint"].is_u64()),
        "some began at a checkpoint: {report}"
    );
    runtime.block_on(serves_reads(&burnt, &data));
    drop(burnt.double);
}

/// Quick enough for a double with quick blocks.
const QUICK: &str = "[weave]\nseal_bytes_max = 65536\n[upload]\npoll_ms = 100\nretry_ms = 100\nretry_ms_max = 500\n\
                     seal_bytes_min = 32768\nseal_age_l1_ms = 500\naudit_ms = 1000\n\
                     [cu.permanent]\nevaluations = 6\nevaluation_ms = 3600000\nevaluation_ms_max = 3600000\n\
                     bytes_per_second_saved = 1000000000000\nlookup_slots_min = 1\n";
/// Longest wait for everything to be permanent.
const SETTLE: Duration = Duration::from_secs(240);

async fn live_in_a_storm(folder: &Path, seed: u64, kills: u64) -> Burnt {
    let flags = ["--faults", &*seed.to_string()];
    let double = support::double::Double::start_with(&folder.join("double"), 100, &flags);
    let (data, config, wallet) = (folder.join("data"), folder.join("weft.toml"), wallet(folder));
    std::fs::write(&config, QUICK).unwrap();
    let mut flags = vec!["--config", config.to_str().unwrap()];
    flags.extend(["--upload-wallet", wallet.to_str().unwrap()]);
    double
        .urls
        .iter()
        .for_each(|url| flags.extend(["--upstream", url]));
    let (mut processes, mut acknowledged) = (Vec::new(), Vec::new());
    for kill in 0..kills {
        let node = Node::start_with(&data, &flags);
        if processes.is_empty() {
            processes = spawn(&node, 3).await;
        }
        let load = tokio::spawn(send_some(node.http("su"), processes.clone(), kill, 60));
        let ms = 50 + (seed ^ kill).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 2_000;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        node.kill();
        acknowledged.extend(load.await.unwrap());
    }
    let node = Node::start_with(&data, &flags);
    for round in 0..5 {
        acknowledged.extend(send_some(node.http("su"), processes.clone(), kills + round, 18).await);
        evaluate(&node, &processes).await;
    }
    settle(&node).await;
    // Checkpoints are made beside the processes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    settle(&node).await;
    node.kill();
    let settled = settled(&data);
    let (roots, messages) = roots_of(&data, &settled).await;
    let ids = ids_of(&data.join("log"));
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !ids.contains(*id)).collect();
    assert!(
        lost.is_empty(),
        "acknowledged, and in no permanent segment: {lost:?}"
    );
    std::fs::remove_dir_all(&data).unwrap();
    let key = std::fs::read_to_string(&wallet).unwrap();
    Burnt {
        urls: double.urls.clone(),
        double: Upstream::Beside { _double: double },
        wallet: Signer::from_jwk(&key)
            .unwrap()
            .transaction_owner()
            .unwrap()
            .address(),
        settled,
        roots,
        messages,
        config: Some(config),
    }
}

/// Asks for each process's newest outcome, which evaluates all before it.
async fn evaluate(node: &Node, processes: &[String]) {
    for process in processes {
        let (status, latest) = get(
            &node.http("su"),
            &format!("/{process}/latest?process-id={process}"),
        )
        .await;
        assert_eq!(status, 200, "{latest}");
        let last = latest["message"]["id"]
            .as_str()
            .or(latest["assignment"]["id"].as_str())
            .unwrap();
        let (status, result) = get(&node.http("cu"), &format!("/result/{last}?process-id={process}")).await;
        assert_eq!(status, 200, "{result}");
    }
}

/// Waits until everything is permanent.
async fn settle(node: &Node) {
    let begun = Instant::now();
    loop {
        let output = weft()
            .args(["status", "--json", "--node", node.text("url")])
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let items = |state: &str| status["states"][state]["items"].as_u64();
        let waiting: Option<u64> = ["appended", "sealed", "posted", "mined"]
            .map(items)
            .into_iter()
            .sum();
        if waiting == Some(0) && items("permanent") > Some(0) {
            return;
        }
        assert!(begun.elapsed() < SETTLE, "not permanent in time: {status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The ids of all items of a log.
fn ids_of(log: &Path) -> BTreeSet<String> {
    let log = weave::log::Log::open(&weave::Config::default(), log).unwrap();
    let ids = log.replay(None).filter_map(|entry| entry.unwrap().1.id());
    ids.map(|id| id.to_string()).collect()
}

/// Sends messages until the node is gone; answers with those that it acknowledged.
async fn send_some(su: wire::client::Http, processes: Vec<String>, round: u64, most: usize) -> Vec<String> {
    let (owner, mut acknowledged) = (signer(1), Vec::new());
    for number in 0..most {
        let lua = format!(
            "Sum = (Sum or 0) + {number}; Last = '{round}.{number}'; Pad = '{}'",
            "x".repeat(900)
        );
        let item = message_item(
            &owner,
            &processes[number % processes.len()],
            &lua,
            &[("Action", "Eval")],
        );
        match su
            .post("/", "application/octet-stream", item.bytes().clone())
            .await
        {
            Ok(reply) if reply.status < 300 => acknowledged.push(item.id().to_string()),
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(_) => break,
        }
    }
    acknowledged
}

fn burn(size: &Size) {
    let (runtime, folder) = (runtime(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let burnt = runtime.block_on(live_and_burn(&data, size, seed));
    assert!(!data.exists(), "nothing is left");

    let begun = Instant::now();
    let report = rebuild(&burnt, &data, seed);
    let spent = begun.elapsed().as_secs_f64();
    println!("{} messages came back in {spent:.1} s", burnt.messages);
    assert_eq!(report["messages"], burnt.messages, "{report}");
    assert_same(&burnt, &data, &report);
    // A stranger carried the beginning of the log, too; a process leads to him, and all of the log comes back.
    let second = folder.path().join("second");
    let process = report["processes"][0]["id"].as_str().unwrap();
    let mut again = weft();
    again
        .args(["rebuild", "--json", "--process", process, "--data"])
        .arg(&second);
    for url in &burnt.urls {
        again.args(["--from", url]);
    }
    let again = again.output().unwrap();
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success(), "{error}");
    assert_same_files(&burnt, &second);
    runtime.block_on(serves_reads(&burnt, &data));
    drop(burnt.double);
}

/// The same files, and the same states.
fn assert_same(burnt: &Burnt, data: &Path, report: &Value) {
    assert_same_files(burnt, data);
    let roots: BTreeMap<String, String> = report["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["id"].as_str().unwrap().into(),
                row["root"].as_str().unwrap_or("none").into(),
            )
        })
        .collect();
    assert!(roots == burnt.roots, "every state is the one it was");
}

/// Runs a node, loads it, kills it at a random moment, brings what was sealed to the double, deletes everything.
async fn live_and_burn(data: &Path, size: &Size, seed: u64) -> Burnt {
    let config = data.with_extension("toml");
    std::fs::write(
        &config,
        format!("[weave]\nseal_bytes_max = {}\n", size.seal_bytes_max),
    )
    .unwrap();
    let node = Node::start_with(data, &["--config", config.to_str().unwrap()]);
    let processes = spawn(&node, size.processes).await;
    let sent = Arc::new(AtomicU64::new(0));
    // Somewhere in the last third, whatever is under way.
    let most = size.messages - seed % (size.messages / 3).max(1);
    let load: Vec<_> = (0..SENDERS)
        .map(|sender| {
            tokio::spawn(send(
                node.http("su"),
                processes.clone(),
                sender,
                most,
                sent.clone(),
            ))
        })
        .collect();
    while sent.load(Ordering::Relaxed) < most {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let key = std::fs::read_to_string(data.join("keys/su.json")).unwrap();
    let node_key = || Signer::from_jwk(&key).unwrap();
    node.kill();
    for task in load {
        task.await.unwrap();
    }
    let settled = settled(data);
    let roots = roots_of(data, &settled).await;
    std::fs::remove_dir_all(data).unwrap();
    publish(settled, roots, [node_key(), node_key()]).await
}

async fn spawn(node: &Node, count: usize) -> Vec<String> {
    let (owner, mut processes) = (signer(1), Vec::new());
    for number in 0..count {
        let tags = [("Name", &*format!("p{number}")), ("Storage", "permanent")];
        let item = process_item(
            &owner,
            &cu::kernel_id().to_string(),
            node.text("su_address"),
            &tags,
        );
        post(node, &item).await;
        processes.push(item.id().to_string());
    }
    processes
}

async fn post(node: &Node, item: &spec::DataItem) {
    let reply = node
        .http("su")
        .post("/", "application/octet-stream", item.bytes().clone())
        .await
        .unwrap();
    assert!(reply.status < 300, "{}", String::from_utf8_lossy(&reply.body));
}

async fn send(
    su: wire::client::Http,
    processes: Vec<String>,
    sender: usize,
    most: u64,
    sent: Arc<AtomicU64>,
) {
    let owner = signer(1);
    for number in 0.. {
        let total = sent.load(Ordering::Relaxed);
        let process = &processes[(number * SENDERS + sender) % processes.len()];
        let lua = format!(
            "Sum = (Sum or 0) + {number}; Last = \"{sender}.{number}.{}\"",
            total % 7
        );
        let item = message_item(&owner, process, &lua, &[("Action", "Eval")]);
        match su
            .post("/", "application/octet-stream", item.bytes().clone())
            .await
        {
            Ok(reply) if reply.status < 300 => drop(sent.fetch_add(1, Ordering::Relaxed)),
            Ok(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(_) => return,
        }
        if sent.load(Ordering::Relaxed) >= most {
            return;
        }
    }
}

/// The permanent segments that are sealed, by name.
fn settled(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut settled = BTreeMap::new();
    for (path, name) in segments(data) {
        let bytes = std::fs::read(&path).unwrap();
        if name.contains("permanent") && bytes.ends_with(b"WEFTEND\n") {
            settled.insert(name, bytes);
        }
    }
    assert!(
        settled.len() > 2,
        "several segments are sealed by then: {}",
        settled.len()
    );
    settled
}

fn segments(data: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(data.join("log")).unwrap();
    let path = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (path, name)
    };
    entries
        .map(path)
        .filter(|(_, name)| name.ends_with(".seg"))
        .collect()
}

/// State roots of the node as it was when its last settled segment was sealed: evaluated from its own folder without
/// what came later.
async fn roots_of(data: &Path, settled: &BTreeMap<String, Vec<u8>>) -> (BTreeMap<String, String>, u64) {
    for (path, name) in segments(data) {
        if name.contains("permanent") && !settled.contains_key(&name) {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::remove_dir_all(data.join("cache")).unwrap();
    let weave = weave::Weave::open(weave::Config::default(), data).unwrap();
    weave.overlay(cu::shipped::items()).unwrap();
    let chain = weave.clone();
    let parts = su::Parts {
        signer: signer(9).into(),
        journal: weave.log().clone(),
        permanent: weave.clone(),
        now: su::clock::wall_clock(),
        heights: Arc::new(move |ms| chain.chain().height_at(ms)),
        chain: weave.chain().describe(),
        boot_tags: Arc::new(|_| Box::pin(async { Ok(Vec::new()) })),
        class: Class::Local,
        belongings: Arc::new(su::belongings::InWeave {
            weave: weave.clone(),
            messenger: signer(9).address(),
        }),
    };
    let su = su::Su::open(su::Config::default(), data, parts).unwrap();
    let unit = cu::Cu::open(
        cu::Config::default(),
        su.clone(),
        weave.clone(),
        data,
        String::new(),
    )
    .unwrap();
    let ids: Vec<ProcessId> = weave
        .log()
        .replay(None)
        .filter_map(|entry| entry.unwrap().1.item().cloned())
        .filter(|item| item.tag("Type") == Some("Process"))
        .map(|item| item.id().into())
        .collect();
    let (mut roots, mut messages) = (BTreeMap::new(), 0);
    for id in ids {
        messages += su.latest(id).await.unwrap().assignment.slot + 1;
        let last = su.latest(id).await.unwrap().assignment.subject();
        // A request does only so much; asking again goes on.
        while unit.result(id, last).await.is_err() {}
        let root = unit.state(id, None).await.unwrap().root;
        roots.insert(id.to_string(), spec::signature::hex(&root));
    }
    unit.close().await;
    weave.close().await;
    (roots, messages)
}

async fn publish(
    settled: BTreeMap<String, Vec<u8>>,
    (roots, messages): (BTreeMap<String, String>, u64),
    [node, same]: [Signer; 2],
) -> Burnt {
    let mut double = Double::new(Rules::default(), Faults::none());
    let mut stranger = Publisher::new(Signer::ethereum(&[9; 32]).unwrap(), same);
    double.mint(stranger.address(), 1 << 100);
    for (name, file) in settled.iter().take(2) {
        stranger.publish(
            &mut double,
            name[..8].parse().unwrap(),
            &Bytes::from(file.clone()),
        );
    }
    let mut publisher = Publisher::new(Signer::ethereum(&[1; 32]).unwrap(), node);
    let wallet = publisher.address();
    double.mint(wallet, 1 << 100);
    for (name, file) in &settled {
        let number = name[..8].parse().unwrap();
        publisher.publish(&mut double, number, &Bytes::from(file.clone()));
    }
    let double = Handle::new(double);
    let listeners = serve::listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let urls = listeners
        .iter()
        .map(|one| format!("http://{}", one.local_addr().unwrap()))
        .collect();
    tokio::spawn(serve::run(
        double.clone(),
        listeners,
        None,
        std::future::pending(),
    ));
    Burnt {
        double: Upstream::Here { _handle: double },
        urls,
        wallet,
        settled,
        roots,
        messages,
        config: None,
    }
}

fn command(burnt: &Burnt, data: &Path) -> Command {
    let mut command = weft();
    command
        .args([
            "rebuild",
            "--json",
            "--wallet",
            &burnt.wallet.to_string(),
            "--data",
        ])
        .arg(data);
    for url in &burnt.urls {
        command.args(["--from", url]);
    }
    if let Some(config) = &burnt.config {
        command.arg("--config").arg(config);
    }
    command
}

/// Rebuilds; kills the command a few times before it is done, at moments that get later.
fn rebuild(burnt: &Burnt, data: &Path, seed: u64) -> Value {
    for kill in 0..3 {
        let mut child = command(burnt, data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(5 + (seed >> (8 * kill)) % (60 << kill)));
        child.kill().unwrap();
        child.wait().unwrap();
        // If it was done already, the folder is a node's, and the command says so.
        if data.join("log").exists() && !data.join("rebuild").exists() {
            std::fs::remove_dir_all(data).unwrap();
        }
    }
    let mut output = command(burnt, data).output().unwrap();
    // Over bad lines it may say that something cannot be had now; what is done is kept, and it is asked again.
    for _ in 0..10 {
        if output.status.success() || matches!(burnt.double, Upstream::Here { .. }) {
            break;
        }
        println!(
            "again: {}",
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
        );
        output = command(burnt, data).output().unwrap();
    }
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let again = command(burnt, data).output().unwrap();
    assert!(!again.status.success(), "a folder that is a node's is refused");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_same_files(burnt: &Burnt, data: &Path) {
    let mut found = BTreeMap::new();
    for (path, name) in segments(data) {
        if name.contains("permanent") {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    assert!(
        found.keys().eq(burnt.settled.keys()),
        "the same segments, no more"
    );
    for (name, bytes) in &burnt.settled {
        assert!(found[name] == *bytes, "{name} is another file");
    }
    assert!(!data.join("rebuild").exists(), "nothing of the rebuild is left");
}

async fn serves_reads(burnt: &Burnt, data: &Path) {
    let node = Node::start(data);
    for process in burnt.roots.keys().take(3) {
        let path = format!("/{process}?process-id={process}&limit=1000");
        let (status, log) = get(&node.http("su"), &path).await;
        assert_eq!(status, 200, "{log}");
        let last = log["edges"].as_array().unwrap().last().unwrap()["node"]["message"]["id"].clone();
        let path = format!("/result/{}?process-id={process}", last.as_str().unwrap());
        let (status, result) = get(&node.http("cu"), &path).await;
        assert_eq!((status, &result["Error"]), (200, &Value::Null), "{result}");
    }
}
