//! `weft bench rebuild`: how many messages a second come back from gateways alone, with every state.
//!
//! A log is written and signed beforehand and put on a double, which answers over loopback and shares the processors.
//! The command itself runs as a program of its own. Not here: any tuning for the benchmark. Beside the wall clock
//! stands the command's processor time, which a busy machine bends less, and the rate that it comes to on two cores.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use spec::contract::{Class, Compute as _, Tick};
use spec::{DataItem, ItemId, ItemParts, ProcessId, Signer, Tag, Tags};
use su::assign::{Ask, Head};
use su::authority::Authority;
use su::note::{Mark, Told};
use weave::log::system_clock;
use weave::testing::{Double, Faults, Handle, Publisher, Rules, serve};
use weave::{Chain, Log, Note, NoteKind, Record};

use crate::assemble::Node;
use crate::cli::NodeArgs;
use crate::config::Config;
use crate::rebuild::Report;

/// Messages a second that must come back, by the key of their senders.
const BARS: [(&str, f64); 2] = [("Ed25519", 20_000.0), ("RSA-4096", 10_000.0)];
/// Messages of one group of the scheduler.
const GROUP: usize = 256;
/// Bytes of a segment: what the upload seals at most.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Code that each process runs first; then each message is counted.
const SETUP: &str = "Count = 0; Handlers.add('count', Handlers.utils.hasMatchingTag('Action', 'Count'), function(m) Count = Count + 1 end)";
/// How long making a checkpoint may take.
const MAKING_MAX: Duration = Duration::from_secs(30);
/// When the log's time begins, ms since 1970, and its blocks.
const GENESIS_MS: u64 = 1_700_000_000_000;
const BLOCK_MS: u64 = 10_000;

/// `weft bench rebuild`
#[derive(Args, Debug)]
pub struct BenchRebuildArgs {
    /// Messages of each measurement; signing them with RSA takes a while beforehand.
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Processes that they are spread over.
    #[arg(long, default_value_t = 100)]
    processes: u64,
    /// Messages of one process, to show what a longer log costs; 0 leaves it out.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    lengths: Vec<u64>,
    /// A folder on the disk to measure; a temporary folder is made in it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// Runs the benchmark and prints what it saw.
pub fn run(args: &BenchRebuildArgs) -> Result<()> {
    let folder = args
        .dir
        .join(format!("weft-bench-rebuild-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(measure(args, &folder));
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    done
}

async fn measure(args: &BenchRebuildArgs, folder: &Path) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "messages brought back per second, all states included ({cores} processors, the double among them)"
    );
    for (at, (name, bar)) in BARS.into_iter().enumerate() {
        let sender = sender(at)?;
        let world = World::make(&folder.join(name), &sender, args.processes, args.messages, None).await?;
        let run = world.rebuild(&folder.join(name).join("back")).await?;
        let rate = run.report.messages as f64 / run.wall.as_secs_f64();
        let on_two = 2.0 * run.report.messages as f64 / run.processor.as_secs_f64();
        let verdict = if rate >= bar { "met" } else { "MISSED" };
        println!(
            "{name:<9} {rate:>8.0}/s   bar >= {bar:.0}: {verdict}; {on_two:.0}/s by its processor time on two cores"
        );
        println!("          {run}");
    }
    println!(
        "one process of so many messages, with checkpoints: the log is verified whole, the states are not replayed whole"
    );
    for length in args.lengths.iter().copied().filter(|length| *length > 0) {
        let place = folder.join(format!("length-{length}"));
        let world = World::make(&place, &sender(0)?, 1, length, Some(2_000)).await?;
        let run = world.rebuild(&place.join("back")).await?;
        let evaluated: u64 = run.report.processes.iter().map(|process| process.evaluated).sum();
        println!("{length:>9} messages: {evaluated:>6} evaluated; {run}");
    }
    Ok(())
}

fn sender(kind: usize) -> Result<Signer> {
    match kind {
        0 => Ok(Signer::ed25519(&[1; 32])),
        _ => Ok(Signer::from_jwk(&Signer::generate_rsa_jwk()?)?),
    }
}

/// A log on a double.
struct World {
    wallet: spec::Address,
    urls: Vec<String>,
    _double: Handle,
}

/// One rebuild.
struct Run {
    report: Report,
    wall: Duration,
    processor: Duration,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (log, wall) = (self.report.log_ms as f64 / 1000.0, self.wall.as_secs_f64());
        let per_message = self.processor.as_secs_f64() * 1e6 / self.report.messages as f64;
        write!(
            f,
            "{} messages in {wall:.2} s: the log {log:.2} s, indexes and states {:.2} s; {per_message:.0} us of processor time each",
            self.report.messages,
            wall - log
        )
    }
}

impl World {
    /// Writes a log, with permanent checkpoints each so many evaluations, and publishes it.
    async fn make(
        folder: &Path,
        sender: &Signer,
        processes: u64,
        messages: u64,
        every: Option<u64>,
    ) -> Result<World> {
        let data = folder.join("data");
        std::fs::create_dir_all(data.join("keys"))?;
        let node = Signer::ed25519(&[2; 32]);
        let config = config(&data, every)?;
        write_key(&data.join("keys/su.json"))?;
        let written =
            tokio::task::block_in_place(|| Written::write(&config, node, sender, processes, messages))?;
        if let Some(every) = every {
            checkpoint(&config, &written.at_every(every)).await?;
        }
        publish(&config).await
    }

    async fn rebuild(&self, data: &Path) -> Result<Run> {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.args([
            "rebuild",
            "--json",
            "--wallet",
            &self.wallet.to_string(),
            "--data",
        ]);
        command.arg(data).stderr(std::process::Stdio::null());
        self.urls.iter().for_each(|url| {
            command.args(["--from", url]);
        });
        let (begun, before) = (Instant::now(), processor_time());
        let output = tokio::task::block_in_place(|| command.output())?;
        let (wall, processor) = (begun.elapsed(), processor_time().saturating_sub(before));
        let report: Report = serde_json::from_slice(&output.stdout).context("the command's report")?;
        anyhow::ensure!(
            output.status.success() && report.failed() == 0,
            "every process comes back: {report:?}"
        );
        std::fs::remove_dir_all(data)?;
        Ok(Run {
            report,
            wall,
            processor,
        })
    }
}

fn config(data: &Path, every: Option<u64>) -> Result<Config> {
    use crate::cli::Role;
    let mut config = Config::load(&NodeArgs {
        data: Some(data.to_path_buf()),
        roles: vec![Role::Su, Role::Cu],
        ..NodeArgs::default()
    })?;
    config.weave.seal_bytes_max = SEGMENT_BYTES;
    if let Some(every) = every {
        config.cu.permanent.evaluations = every;
        config.cu.permanent.evaluation_ms = u64::MAX;
        config.cu.permanent.bytes_per_second_saved = u64::MAX;
    }
    Ok(config)
}

fn write_key(path: &Path) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(Signer::ed25519_jwk(&[2; 32]).as_bytes())?)
}

/// A log under way.
struct Written<'a> {
    log: Log,
    node: Authority,
    sender: &'a Signer,
    heads: Vec<Head>,
    now_ms: u64,
    marks: Vec<Mark>,
    records: Vec<Record>,
    /// What the first process was sent.
    of_first: Vec<ItemId>,
}

impl Written<'_> {
    fn write<'a>(
        config: &Config,
        node: Signer,
        sender: &'a Signer,
        processes: u64,
        messages: u64,
    ) -> Result<Written<'a>> {
        let data = config.data.as_ref().expect("set above");
        let log = Log::open(&config.weave, &data.join("log"))?;
        let mut body = GENESIS_MS.to_le_bytes().to_vec();
        body.extend_from_slice(&BLOCK_MS.to_le_bytes());
        let genesis = Note {
            kind: NoteKind::GENESIS,
            body: body.into(),
        };
        log.append(vec![Record::Note(genesis)], Class::Local).wait()?;
        let mut written = Written {
            log,
            node: Authority::first(node.into()),
            sender,
            heads: Vec::new(),
            now_ms: GENESIS_MS,
            marks: Vec::new(),
            records: Vec::new(),
            of_first: Vec::new(),
        };
        for number in 0..processes {
            written.spawn(number)?;
        }
        let count = messages.saturating_sub(2 * processes);
        for first in (0..count).step_by(GROUP) {
            written.counts(first..count.min(first + GROUP as u64))?;
        }
        written.group()?;
        written.log.seal(Class::Permanent)?;
        Ok(written)
    }

    /// The first process's messages at every so many slots.
    fn at_every(self, every: u64) -> Vec<(ProcessId, ItemId)> {
        let process = self.heads[0].process;
        let stops = self
            .of_first
            .into_iter()
            .skip(every as usize)
            .step_by(every as usize);
        stops.map(|message| (process, message)).collect()
    }

    fn spawn(&mut self, number: u64) -> Result<()> {
        let (module, scheduler) = (cu::kernel_id().to_string(), self.node.address().to_string());
        let name = format!("bench-{number}");
        let tags = [
            ("Data-Protocol", "ao"),
            ("Variant", "ao.TN.1"),
            ("Type", "Process"),
            ("Module", &*module),
            ("Scheduler", &*scheduler),
            ("Storage", "permanent"),
            ("Name", &*name),
        ];
        let item = signed(self.sender, None, &tags, "")?;
        self.heads.push(Head::unborn(
            item.id().into(),
            Class::Permanent,
            self.node.address(),
        ));
        let chain = Chain::new(GENESIS_MS, BLOCK_MS, system_clock()).describe();
        let notes: Tags = [
            ("Engine-Epoch", cu::engine_epoch()),
            ("Chain", &*chain),
            ("Storage", "permanent"),
        ]
        .map(|(name, value)| Tag::new(name.to_owned(), value.to_owned()))
        .into();
        let at = self.heads.len() - 1;
        self.put(
            at,
            item,
            Ask {
                notes,
                ..Ask::default()
            },
        )?;
        self.message(at, &[("Action", "Eval")], SETUP)
    }

    /// Messages of these numbers, each to the next process; signed on all processors.
    fn counts(&mut self, numbers: Range<u64>) -> Result<()> {
        let at = |number: u64| (number % self.heads.len() as u64) as usize;
        let (sender, heads) = (self.sender, &self.heads);
        let sign = |number: u64| {
            let tags = [("Action", "Count"), ("Number", &*number.to_string())];
            message(sender, heads[at(number)].process, &tags, "")
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let numbers: Vec<u64> = numbers.collect();
        let items = std::thread::scope(|scope| {
            let parts = numbers.chunks(numbers.len().div_ceil(cores).max(1));
            let work = parts.map(|part| {
                scope.spawn(move || {
                    part.iter()
                        .map(|number| sign(*number))
                        .collect::<Result<Vec<_>>>()
                })
            });
            let work: Vec<_> = work.collect();
            let done = work.into_iter().map(|one| one.join().expect("a key that signs"));
            done.collect::<Result<Vec<_>>>()
        })?;
        let places: Vec<usize> = numbers.iter().map(|number| at(*number)).collect();
        let mut all = places.into_iter().zip(items.into_iter().flatten());
        all.try_for_each(|(at, item)| self.scheduled(at, item))
    }

    fn message(&mut self, at: usize, more: &[(&str, &str)], data: &str) -> Result<()> {
        let item = message(self.sender, self.heads[at].process, more, data)?;
        self.scheduled(at, item)
    }

    fn scheduled(&mut self, at: usize, item: DataItem) -> Result<()> {
        let message = Some(item.id());
        self.of_first.extend(message.filter(|_| at == 0));
        self.put(
            at,
            item,
            Ask {
                message,
                ..Ask::default()
            },
        )
    }

    fn put(&mut self, at: usize, item: DataItem, ask: Ask) -> Result<()> {
        self.now_ms += 1;
        let tick = Tick {
            timestamp_ms: self.now_ms,
            block_height: 1 + (self.now_ms - GENESIS_MS) / BLOCK_MS,
        };
        let assignment = self.heads[at].assign(ask, tick, &self.node)?;
        self.marks.push(Mark {
            with_message: true,
            pushed: None,
            widens: false,
        });
        self.records
            .extend([Record::Item(item), Record::Item(assignment.item)]);
        match self.marks.len() == GROUP {
            true => self.group(),
            false => Ok(()),
        }
    }

    fn group(&mut self) -> Result<()> {
        let note = Told::Scheduled(std::mem::take(&mut self.marks)).record();
        let records = std::iter::once(note).chain(self.records.drain(..)).collect();
        self.log.append(records, Class::Permanent).wait()?;
        Ok(())
    }
}

fn message(sender: &Signer, process: ProcessId, more: &[(&str, &str)], data: &str) -> Result<DataItem> {
    let mut tags = vec![
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Message"),
    ];
    tags.extend_from_slice(more);
    signed(sender, Some(process), &tags, data)
}

fn signed(sender: &Signer, target: Option<ProcessId>, tags: &[(&str, &str)], data: &str) -> Result<DataItem> {
    let tags = tags
        .iter()
        .map(|(name, value)| Tag::new(name.to_string(), value.to_string()));
    let parts = ItemParts {
        target: target.map(|process| process.0),
        tags: tags.collect(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        ..ItemParts::default()
    };
    Ok(DataItem::sign(&parts, sender)?)
}

/// Evaluates the log once where it was written, with a permanent checkpoint at each of some messages, as a node has
/// made them that evaluated the messages as they came.
async fn checkpoint(config: &Config, stops: &[(ProcessId, ItemId)]) -> Result<()> {
    let node = Node::open(config).await?;
    let (cu, weave) = (
        node.cu.clone().context("a compute unit")?,
        node.weave.clone().context("a weave")?,
    );
    let (scheduler, signer) = (Signer::ed25519(&[2; 32]), Signer::ed25519(&[3; 32]));
    let naming = cu::permanent::naming(&scheduler, signer.address());
    cu.publish_checkpoints(cu::permanent::Publisher {
        signer: signer.into(),
        naming: Some(naming?),
        is_widened: None,
    });
    for (process, message) in stops {
        let before = weave.log().end();
        let done = cu.result(*process, *message).await;
        done.map_err(|refusal| anyhow::anyhow!("{message}: {refusal}"))?;
        let made = async {
            while weave.log().end() == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let made = tokio::time::timeout(MAKING_MAX, made).await;
        made.with_context(|| format!("no checkpoint was made at message {message}"))?;
    }
    weave.log().seal(Class::Permanent)?;
    node.close().await;
    Ok(())
}

async fn publish(config: &Config) -> Result<World> {
    let data = config.data.as_ref().expect("set above");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(data.join("log"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(number) = name.strip_suffix("-permanent.seg") {
            files.push((number.parse::<u64>()?, Bytes::from(std::fs::read(&path)?)));
        }
    }
    files.sort();
    let mut double = Double::new(Rules::default(), Faults::none());
    let mut publisher = Publisher::new(Signer::ethereum(&[1; 32])?, Signer::ed25519(&[2; 32]));
    double.mint(publisher.address(), 1 << 100);
    for (number, file) in &files {
        publisher.publish(&mut double, *number, file);
    }
    let double = Handle::new(double);
    let listeners = serve::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let urls = listeners
        .iter()
        .map(|one| Ok(format!("http://{}", one.local_addr()?)));
    let urls = urls.collect::<std::io::Result<Vec<String>>>()?;
    tokio::spawn(serve::run(
        double.clone(),
        listeners,
        None,
        std::future::pending(),
    ));
    std::fs::remove_dir_all(data)?;
    // The double unbundles when it is first asked; a gateway did so long ago.
    let warm = wire::client::Http::new(&urls[0], &wire::client::Limits::default());
    let warm = warm.map_err(|refusal| anyhow::anyhow!(refusal.text))?;
    let query = r#"{"query":"{transactions(first:1){edges{node{id}}}}"}"#;
    let asked = warm
        .post(
            "/graphql",
            "application/json",
            Bytes::from_static(query.as_bytes()),
        )
        .await;
    asked.map_err(|refusal| anyhow::anyhow!(refusal.text))?;
    Ok(World {
        wallet: publisher.address(),
        urls,
        _double: double,
    })
}

/// Processor time of programs that ended and this one started, in user and kernel mode: not the double's, which runs
/// in this one.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses, which may hold spaces; the kernel counts in hundredths of a second.
    let rest = text.rsplit(") ").next().unwrap_or_default().split_whitespace();
    let ticks: u64 = rest
        .skip(13)
        .take(2)
        .filter_map(|number| number.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
