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

/// Threads for each processor: while one waits for the disk, others evaluate.
const PER_PROCESSOR: usize = 2;
/// Messages of one process that are read and evaluated in one go.
const TURN: usize = 1_000;
/// Processes that are brought back at once, for each thread: while one's log is read, others are evaluated.
const PER_THREAD: usize = 2;

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
    if config.cu.threads == 0 {
        config.cu.threads = PER_PROCESSOR * config.cu.thread_count();
    }
    // Nobody waits for a turn of his own.
    config.cu.log_page = config.cu.log_page.max(TURN);
    config.cu.turn_evaluations_max = config.cu.turn_evaluations_max.max(TURN);
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
    let scheduler = args.scheduler.map(|scheduler| format!(" by {scheduler}"));
    let scheduler = scheduler.unwrap_or_default();
    match args.wallet.is_empty() {
        false => format!(
            "wallet {}{scheduler}",
            sorted(args.wallet.iter().map(ToString::to_string).collect())
        ),
        true => format!(
            "processes {}{scheduler}",
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
    let groups = match args.wallet.is_empty() {
        true => {
            let wallets = wallets(sources, &args.process).await?;
            wallets.into_iter().map(|wallet| vec![wallet]).collect()
        }
        false => vec![args.wallet.clone()],
    };
    let (wallets, brought) = furthest(args, sources, groups, &staging, shown).await?;
    brought.place(&args.data, &staging, &wallets).await
}

/// The log that goes furthest, of those that these wallets carried: anybody can carry the beginning of one again.
async fn furthest(
    args: &RebuildArgs,
    sources: &Sources,
    mut groups: Vec<Vec<Address>>,
    staging: &Arc<Staging>,
    shown: &Shown,
) -> Result<(Vec<Address>, Brought)> {
    let (mut best, mut failed) = (None::<(Vec<Address>, Brought)>, Vec::new());
    let mut at = 0;
    while let Some(group) = groups.get(at).cloned() {
        at += 1;
        let found = shown.during(Phase::Find, retrieve::find(sources, &group)).await;
        let found = found.map(|mut found| {
            found.leave_out(&args.leave_out);
            found
        });
        // Of a wallet that could not be looked at, nothing is known: it may go furthest.
        let claimed = found.as_ref().map_or(Some((u64::MAX, u64::MAX)), Found::newest);
        let brought = match found {
            Ok(found) => log_of(args, sources, found, staging, shown).await,
            Err(error) => Err(error.into()),
        };
        if let (Ok(one), true) = (&brought, args.wallet.is_empty()) {
            // Who carried the beginning again may be all that the process's items lead to.
            for other in retrieve::wallets_of_node(sources, one.node()).await {
                if !groups.iter().flatten().any(|known| *known == other) {
                    groups.push(vec![other]);
                }
            }
        }
        match brought {
            Ok(other) if best.as_ref().is_none_or(|(_, best)| best.reach() < other.reach()) => {
                best = Some((group.clone(), other));
            }
            Ok(_) => {}
            // Somebody else may have carried the process's items too; what he carried proves nothing.
            Err(error) => failed.push((claimed, error.context(format!("wallet {}", group[0])))),
        }
        // All together at last: the node's own wallet may have changed, and one alone has not the whole log.
        if at == groups.len() && at > 1 && group.len() == 1 {
            groups.push(groups.concat());
        }
    }
    let reach = best.as_ref().map(|(_, best)| best.reach());
    let is_further =
        |(claimed, error): &(Option<(u64, u64)>, anyhow::Error)| *claimed > reach && is_unknown(error);
    if reach.is_none() || failed.iter().any(is_further) {
        let at = failed.iter().position(is_further).unwrap_or(0);
        let error = (at < failed.len()).then(|| failed.swap_remove(at).1);
        let error = error.unwrap_or_else(|| anyhow!("no wallet was found that carried these processes"));
        return Err(error.context("if it is not the log's wallet, say with --wallet which one is"));
    }
    let (wallets, mut brought) = best.expect("it reaches somewhere");
    if groups.len() > 1 {
        // Another wallet's segments may have taken the places of its own since.
        brought = log_of(args, sources, brought.found, staging, shown).await?;
    }
    Ok((wallets, brought))
}

/// Whether what failed may be a whole log all the same, at another time or by other gateways.
fn is_unknown(error: &anyhow::Error) -> bool {
    use retrieve::Error::{Late, Missing, NotHad};
    let error = error.downcast_ref();
    error.is_some_and(|error| matches!(error, NotHad { .. } | Late { .. } | Missing { .. }))
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

/// A whole log, verified and kept beside its place.
struct Brought {
    found: Found,
    segments: Vec<logs::Segment>,
    logs: Logs,
    meter: Arc<Meter>,
}

async fn log_of(
    args: &RebuildArgs,
    sources: &Sources,
    found: Found,
    staging: &Arc<Staging>,
    shown: &Shown,
) -> Result<Brought> {
    let of = |scheduler: Option<Address>| log_by(args, sources, found.clone(), staging, shown, scheduler);
    match of(args.scheduler).await {
        // The process says which of them it is in.
        Err(error) if !args.process.is_empty() => match error.downcast_ref() {
            Some(retrieve::Error::TwoNodes { ours, other, .. }) => match of(Some(*ours)).await {
                Ok(brought) => Ok(brought),
                Err(first) => {
                    let second = of(Some(*other)).await;
                    second.map_err(|second| second.context(format!("the log of {ours}: {first:#}")))
                }
            },
            _ => Err(error),
        },
        done => done,
    }
}

async fn log_by(
    args: &RebuildArgs,
    sources: &Sources,
    mut found: Found,
    staging: &Arc<Staging>,
    shown: &Shown,
    scheduler: Option<Address>,
) -> Result<Brought> {
    let meter = Arc::new(Meter::default());
    let collector = Collector::new(sources.clone(), staging.clone(), Look, meter.clone());
    let collector = collector.of_scheduler(scheduler);
    let segments = shown
        .during(Phase::Collect(meter.clone()), collector.run(&mut found))
        .await?;
    drop(collector);
    let logs = Logs::join(&segments, args.wallet.is_empty())?;
    logs.must_have(&args.process)?;
    Ok(Brought {
        found,
        segments,
        logs,
        meter,
    })
}

impl Brought {
    /// How far it goes: epoch and sequence of its newest carrier.
    fn reach(&self) -> (u64, u64) {
        let newest = self.segments.last().expect("a log has a segment");
        (newest.epoch, newest.sequence)
    }

    /// The account that signed its newest segment.
    fn node(&self) -> Address {
        let newest = self.segments.last().expect("a log has a segment");
        spec::signature::address(&newest.owner)
    }

    /// Puts the log in its place, with a note of what it is.
    async fn place(self, data: &Path, staging: &Arc<Staging>, wallets: &[Address]) -> Result<Report> {
        let names: Vec<String> = wallets.iter().map(ToString::to_string).collect();
        let Brought {
            found,
            segments,
            logs,
            meter,
        } = self;
        let report = Report {
            wallet: names.join(", "),
            carriers: segments.len() as u64,
            bytes: meter.bytes_done.load(Ordering::Relaxed),
            items: meter.items.load(Ordering::Relaxed),
            messages: logs.messages(),
            left_out: found.left_out.iter().map(ToString::to_string).collect(),
            notes: found.notes,
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
}

/// Evaluates what the log holds: from the newest checkpoints that it confirms.
async fn replay(config: &Config, shown: &Shown, report: &mut Report) -> Result<()> {
    let node = shown.during(Phase::Index, Node::open(config)).await?;
    let cu = node.cu.clone().context("the rebuild opens a compute unit")?;
    let ids: Vec<ProcessId> = report.processes.iter().map(|process| process.id).collect();
    let at_once = PER_THREAD * config.cu.thread_count();
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
