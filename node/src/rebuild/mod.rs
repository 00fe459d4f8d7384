//! `weft rebuild`: a node's whole log from gateways alone, and the state of every process in it.
//!
//! Not here: finding, downloading, verifying (`weave::retrieve`), evaluating (`cu`). The invariant: the log is in its
//! place only once all of it was verified, with the note that keeps the scheduler from giving slots again; a rebuild
//! that is killed goes on where it was.

mod args;
mod logs;
mod progress;
mod report;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use aos_shell::error::Problem;
use spec::{Address, ProcessId};
use weave::network::HttpTransport;
use weave::retrieve::{self, Collector, Found, Limits, Meter, Source, Sources, Staged, Staging};
use wire::client;

pub use args::RebuildArgs;
use logs::{Logs, Look};
use progress::{Phase, Shown};
pub use report::Report;

use crate::assemble::Node;
use crate::cli::{NodeArgs, Role};
use crate::client::{Done, Outlet};
use crate::config::Config;

/// Runs the command. Its exit status is 1 if the log is whole and some process could not be evaluated.
pub async fn run(args: &RebuildArgs, outlet: &Outlet) -> Done {
    let has_key = args.data.join("keys").join("su.json").exists();
    let failed = |error: anyhow::Error| Problem::new("rebuild-failed", format!("{error:#}"));
    let config = config(args).map_err(failed)?;
    let report = rebuild(args, &config).await.map_err(failed)?;
    report.print(args.json);
    match report.failed() {
        0 if args.json => Ok(0),
        0 => {
            outlet.value(&what_next(&args.data, has_key));
            Ok(0)
        }
        failed => {
            let text =
                format!("{failed} processes could not be brought back; the log itself is whole (see above)");
            outlet.note(&text);
            Ok(1)
        }
    }
}

fn config(args: &RebuildArgs) -> Result<Config> {
    let node = NodeArgs {
        data: Some(args.data.clone()),
        config: args.config.clone(),
        roles: vec![Role::Su, Role::Cu],
        ..NodeArgs::default()
    };
    let mut config = Config::load(&node)?;
    // What comes back is not carried again while it comes back.
    config.upload = Default::default();
    Ok(config)
}

/// What somebody does with a folder that was made.
fn what_next(data: &Path, has_key: bool) -> String {
    let data = data.display();
    let key = match has_key {
        true => String::new(),
        false => format!(" and with the old scheduler's key in {data}/keys/su.json (the one there is new)"),
    };
    format!(
        "Start it with `weft node --data {data}`: it serves reads. It schedules again after --resume-scheduling{key}."
    )
}

/// Brings a log back, and every process in it.
///
/// # Errors
/// A log that cannot be had whole, or is wrong. What is done is kept, and nothing wrong is.
pub async fn rebuild(args: &RebuildArgs, config: &Config) -> Result<Report> {
    let begun = Instant::now();
    let shown = Shown::new(args.json);
    let sources = sources(&args.from, &config.rebuild)?;
    let mut report = bring_back(args, &sources, &shown).await?;
    report.log_ms = begun.elapsed().as_millis();
    report.gateways = sources.faults();
    replay(config, &shown, &mut report).await?;
    // Its folder says until now that there is something to go on with.
    remove_folder(&args.data)?;
    report.elapsed_ms = begun.elapsed().as_millis();
    Ok(report)
}

fn sources(from: &[String], limits: &Limits) -> Result<Sources> {
    let source = |url: &String| {
        let url = url.trim_end_matches('/');
        let transport = HttpTransport::new(url, &client::Limits::default()).map_err(|e| anyhow!(e.text))?;
        Ok(Source::new(url, Arc::new(transport), limits))
    };
    let all = from.iter().map(source).collect::<Result<Vec<_>>>()?;
    Ok(Sources::new(all, limits.clone()))
}

/// What a rebuild is of, for its folder: the same words again go on with it.
fn of(args: &RebuildArgs) -> String {
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all.dedup();
        all.join(" ")
    };
    match args.wallet.is_empty() {
        false => format!(
            "wallet {}",
            sorted(args.wallet.iter().map(ToString::to_string).collect())
        ),
        true => format!(
            "processes {}",
            sorted(args.process.iter().map(ToString::to_string).collect())
        ),
    }
}

/// The log, from wherever it is: the gateways, or its place already.
async fn bring_back(args: &RebuildArgs, sources: &Sources, shown: &Shown) -> Result<Report> {
    let (staging, staged) = Staging::open(&args.data, &of(args))?;
    if staged == Staged::Log {
        // It was killed after the log was whole.
        return report::read(&args.data);
    }
    let staging = Arc::new(staging);
    if !args.wallet.is_empty() {
        return log_of(args, sources, &args.wallet, &staging, shown).await;
    }
    let wallets = wallets(sources, &args.process).await?;
    // Somebody else may have carried the process's items too, and what he carried proves nothing; or the node's own
    // wallet changed, and one alone has not the whole log.
    let alone = wallets.chunks(1);
    let together = (wallets.len() > 1).then_some(&wallets[..]);
    let mut first = None;
    for some in alone.chain(together) {
        match log_of(args, sources, some, &staging, shown).await {
            Ok(report) => return Ok(report),
            Err(error) => first = first.or(Some(error.context(format!("wallet {}", some[0])))),
        }
    }
    Err(first.unwrap_or_else(|| anyhow!("no wallet was found that carried these processes")))
}

/// Wallets that carried one of the processes.
async fn wallets(sources: &Sources, processes: &[ProcessId]) -> Result<Vec<Address>> {
    let mut wallets = Vec::new();
    for process in processes {
        for wallet in retrieve::wallets_of(sources, *process).await? {
            if !wallets.contains(&wallet) {
                wallets.push(wallet);
            }
        }
    }
    Ok(wallets)
}

async fn log_of(
    args: &RebuildArgs,
    sources: &Sources,
    wallets: &[Address],
    staging: &Arc<Staging>,
    shown: &Shown,
) -> Result<Report> {
    let mut found = shown
        .during(Phase::Find, retrieve::find(sources, wallets))
        .await?;
    let meter = Arc::new(Meter::default());
    let collector = Collector::new(sources.clone(), staging.clone(), Look, meter.clone());
    let segments = shown
        .during(Phase::Collect(meter.clone()), collector.run(&mut found))
        .await?;
    drop(collector);
    let logs = Logs::join(&segments, args.wallet.is_empty())?;
    logs.must_have(&args.process)?;
    let report = place(&args.data, staging, &segments, &logs, &found, &meter, wallets).await?;
    Ok(report)
}

/// Puts the log in its place, with a note of what it is.
async fn place(
    data: &Path,
    staging: &Arc<Staging>,
    segments: &[logs::Segment],
    logs: &Logs,
    found: &Found,
    meter: &Meter,
    wallets: &[Address],
) -> Result<Report> {
    let names: Vec<String> = wallets.iter().map(ToString::to_string).collect();
    let report = Report {
        wallet: names.join(", "),
        carriers: segments.len() as u64,
        bytes: meter.bytes_done.load(Ordering::Relaxed),
        items: meter.items.load(Ordering::Relaxed),
        messages: logs.messages(),
        notes: found.notes.clone(),
        processes: logs.processes(),
        ..Report::default()
    };
    report::write(data, &report)?;
    let numbers: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
    let (staging, chain, notes) = (staging.clone(), logs.chain()?, logs.notes());
    let placed = tokio::task::spawn_blocking(move || staging.place(&numbers, &chain, notes));
    placed
        .await?
        .context("the verified log could not be put in its place")?;
    Ok(report)
}

/// Evaluates what the log holds: from the newest checkpoints that it confirms.
async fn replay(config: &Config, shown: &Shown, report: &mut Report) -> Result<()> {
    let node = shown.during(Phase::Index, Node::open(config)).await?;
    let cu = node.cu.clone().context("the rebuild opens a compute unit")?;
    let ids: Vec<ProcessId> = report.processes.iter().map(|process| process.id).collect();
    let at_once = config.cu.thread_count();
    let total = report.messages;
    let tell = shown.replaying(total);
    let done = cu.rebuild(&ids, at_once, &|progress| tell.put(progress)).await;
    tell.end();
    for (process, answer) in done {
        report.put(process, answer);
    }
    node.close().await;
    Ok(())
}

fn remove_folder(data: &Path) -> Result<()> {
    let folder = data.join("rebuild");
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}
