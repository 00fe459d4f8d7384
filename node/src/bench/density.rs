//! `weft bench density`: many spawned processes on one node: memory resident, disk per process, and
//! how long an idle one takes to answer again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use spec::contract::{Class, Compute, DryRun, Messenger, Permanent};
use spec::{DataItem, ItemParts, ProcessId, Signer, Tag};

use crate::assemble::Node;
use crate::cli::BenchDensityArgs;
use crate::config::Config;

/// Bars this benchmark is held against.
const RESIDENT_MIB_MAX: f64 = 1024.0;
const DISK_KIB_MAX: f64 = 512.0;
const WAKE_MS_MAX: f64 = 50.0;

/// How long processes may take to fall asleep after the last one was spawned.
const SETTLE: Duration = Duration::from_secs(2);

/// Runs the benchmark and prints what it saw.
pub fn run(args: &BenchDensityArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = args
        .dir
        .join(format!("weft-bench-density-{}", std::process::id()));
    let done = runtime.block_on(measure(args, &folder));
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    done
}

async fn measure(args: &BenchDensityArgs, folder: &Path) -> Result<()> {
    let flags = crate::cli::NodeArgs {
        data: Some(folder.to_path_buf()),
        ..Default::default()
    };
    let node = Node::open(&Config::load(&flags)?).await?;
    let (weave, cu) = (
        node.weave.as_ref().expect("all roles"),
        node.cu.as_ref().expect("all roles"),
    );
    let module = module(args.module.as_deref(), &node.signer)?;
    weave.append(vec![module.clone()], Class::Local).await?;
    let start = Instant::now();
    let mut processes = Vec::with_capacity(args.processes);
    for number in 0..args.processes {
        processes.push(spawn(&node, &module, number).await?);
    }
    let spawned_s = start.elapsed().as_secs_f64();
    // What was just used is still awake; idle processes are put to sleep in the background.
    tokio::time::sleep(SETTLE).await;
    let awake = cu.live_count();
    let resident_mib = resident_mib()?;
    let disk_kib =
        folder_bytes(&folder.join("cache/cu/checkpoints"))? as f64 / 1024.0 / args.processes as f64;
    let mut wakes = Vec::new();
    for process in processes.iter().take(args.wakes) {
        let start = Instant::now();
        dry_run(cu.as_ref(), *process).await?;
        wakes.push(start.elapsed().as_secs_f64() * 1e3);
    }
    wakes.sort_by(f64::total_cmp);
    let (p50, p95) = (wakes[wakes.len() / 2], wakes[wakes.len() * 95 / 100]);
    let rate = args.processes as f64 / spawned_s;
    println!(
        "{} processes of {}: {rate:.0} spawned/s, {awake} awake",
        args.processes,
        args.module
            .as_ref()
            .map_or("our kernel".into(), |path| path.display().to_string())
    );
    println!("resident memory      {resident_mib:>8.0} MiB   bar <= {RESIDENT_MIB_MAX}");
    println!("disk per process     {disk_kib:>8.1} KiB   bar <= {DISK_KIB_MAX}");
    println!("wake and answer p50  {p50:>8.1} ms    bar <= {WAKE_MS_MAX}");
    println!("wake and answer p95  {p95:>8.1} ms");
    node.close().await;
    Ok(())
}

/// The module of a file, or our kernel.
fn module(file: Option<&Path>, signer: &Signer) -> Result<DataItem> {
    let Some(file) = file else {
        let mut items = cu::shipped::items().into_iter();
        let kernel = items.find(|item| item.id() == cu::kernel_id().into());
        return kernel.context("the kernel comes along");
    };
    let wasm = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    crate::module::item(wasm.into(), signer)
}

/// Spawns one process, with a name of 3 to 60 characters, and waits for its boot.
async fn spawn(node: &Node, module: &DataItem, number: usize) -> Result<ProcessId> {
    let name = format!("p{number:0>width$}", width = 2 + (number * 7) % 58);
    let tags = vec![
        Tag::new("Data-Protocol", "ao"),
        Tag::new("Type", "Process"),
        Tag::new("Variant", "ao.TN.1"),
        Tag::new("Module", module.id().to_string()),
        Tag::new("Scheduler", node.signer.address().to_string()),
        Tag::new("Name", name),
    ];
    let parts = ItemParts {
        tags,
        data: Bytes::from_static(b" "),
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, &Signer::ed25519(&[7; 32]))?;
    let (mu, cu) = (
        node.mu.as_ref().expect("all roles"),
        node.cu.as_ref().expect("all roles"),
    );
    let pushed = mu.push(item).await?;
    let process = ProcessId::from(pushed.id);
    cu.result(process, pushed.id).await?;
    Ok(process)
}

async fn dry_run(cu: &dyn Compute, process: ProcessId) -> Result<()> {
    let message = serde_json::json!({
        "Owner": "bench", "Id": "1234", "Anchor": "0", "Data": "return 1",
        "Tags": [{"name": "Action", "value": "Eval"}],
    });
    let message = serde_json::value::to_raw_value(&message)?;
    cu.dry_run(process, DryRun { message, to: None }).await?;
    Ok(())
}

/// Resident memory of this program.
fn resident_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS in /proc/self/status")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// Bytes of all files below a folder, as the disk counts them.
fn folder_bytes(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let data = entry.metadata()?;
            match data.is_dir() {
                true => folders.push(entry.path()),
                false => sum += data.blocks() * 512,
            }
        }
    }
    Ok(sum)
}
