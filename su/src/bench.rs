//! `weft bench su`: how many signed messages the scheduler makes durable in a second, and how long
//! one caller waits.
//!
//! Messages are signed beforehand and verified, scheduled and synced in the measurement, through
//! the contract and over loopback HTTP, on two threads that also carry the callers. Beside the wall
//! clock stands the processor time a message costs, which a busy machine bends less. Not here: any
//! claim; whoever reads the figures compares them with the bars printed beside them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spec::contract::{Class, Scheduler};
use spec::{Address, DataItem, ItemId, ItemParts, ProcessId, Signer, Tag, Tags};
use wire::client::Http;

use crate::belongings::InWeave;
use crate::{Config, Parts, Su};

/// Callers at once.
const CALLERS: usize = 64;
/// Threads of the runtime; the writers and the disk's threads come on top.
const THREADS: usize = 2;
/// Processes the messages are spread over.
const PROCESSES: u8 = 16;
/// Messages of one measurement.
const RSA_MESSAGES: usize = 12_000;
const ED25519_MESSAGES: usize = 50_000;
/// Acknowledgements waited for one after the other.
const ACKNOWLEDGEMENTS: usize = 400;

/// What a user's client writes on a message.
fn message_tags(n: usize) -> Tags {
    let pairs = [
        ("Action", "Ping"),
        ("SDK", "aoconnect"),
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
    ];
    let mut tags: Tags = pairs
        .into_iter()
        .map(|(name, value)| Tag::new(name, value))
        .collect();
    tags.push(Tag::new("Type", "Message"));
    tags.push(Tag::new("Reference", n.to_string()));
    tags
}

fn process_items() -> io::Result<Vec<DataItem>> {
    let owner = Signer::ed25519(&[1; 32]);
    let module = ItemId([7; 32]).to_string();
    let item = |n: u8| {
        let pairs = [
            ("Data-Protocol", "ao"),
            ("Type", "Process"),
            ("Module", &*module),
            ("Scheduler", &*module),
        ];
        let mut tags: Tags = pairs
            .into_iter()
            .map(|(name, value)| Tag::new(name, value))
            .collect();
        tags.push(Tag::new("Name", format!("bench-{n}")));
        DataItem::sign(
            &ItemParts {
                tags,
                ..ItemParts::default()
            },
            &owner,
        )
        .map_err(io::Error::other)
    };
    (0..PROCESSES).map(item).collect()
}

/// Signs messages on two threads. Bytes, so that every measurement parses and verifies them anew.
fn sign(signer: &Signer, processes: &[ProcessId], count: usize) -> io::Result<Vec<Bytes>> {
    let one = |n: usize| {
        let target = Some(processes[n % processes.len()].0);
        let data = Bytes::from(format!("message number {n} of a benchmark of the scheduler"));
        let parts = ItemParts {
            target,
            anchor: None,
            tags: message_tags(n),
            data,
        };
        DataItem::sign(&parts, signer)
            .map(|item| item.bytes().clone())
            .map_err(io::Error::other)
    };
    let half = count / 2;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| (half..count).map(one).collect::<io::Result<Vec<_>>>());
        let mut items: Vec<Bytes> = (0..half).map(one).collect::<io::Result<_>>()?;
        items.extend(other.join().map_err(|_| io::Error::other("signing panicked"))??);
        Ok(items)
    })
}

/// A node's weave and scheduler in a folder of their own, removed when dropped.
struct Stage {
    su: Arc<Su>,
    weave: Arc<weave::Weave>,
    folder: PathBuf,
}

impl Stage {
    async fn open(folder: &Path, processes: &[DataItem]) -> io::Result<Stage> {
        let folder = folder.join(format!("weft-bench-su-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let weave = weave::Weave::open(weave::Config::default(), &folder).map_err(io::Error::other)?;
        let chain = weave.clone();
        let parts = Parts {
            signer: Arc::new(Signer::ed25519(&[2; 32])),
            journal: weave.log().clone(),
            permanent: weave.clone(),
            now: crate::clock::wall_clock(),
            heights: Arc::new(move |ms| chain.chain().height_at(ms)),
            chain: weave.chain().describe(),
            boot_tags: Arc::new(|_| Box::pin(std::future::ready(Ok(Tags::new())))),
            class: Class::Local,
            belongings: Arc::new(InWeave {
                weave: weave.clone(),
                messenger: Address([0; 32]),
            }),
        };
        let su = Su::open(Config::default(), &folder, parts).map_err(io::Error::other)?;
        for item in processes {
            su.schedule(item.clone()).await.map_err(io::Error::other)?;
        }
        Ok(Stage { su, weave, folder })
    }

    async fn close(self) -> io::Result<()> {
        let su = self.su;
        let closed = tokio::task::spawn_blocking(move || su.close())
            .await
            .map_err(io::Error::other)?;
        closed.map_err(io::Error::other)?;
        self.weave.close().await;
        drop(self.weave);
        fs::remove_dir_all(&self.folder)
    }

    /// A listener as a node has it, and a client of it.
    async fn listen(&self) -> io::Result<Http> {
        let limits = wire::server::Limits::default();
        let router = wire::server::harden(crate::http::router(self.su.clone()), &limits);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        tokio::spawn(wire::server::serve(
            listener,
            router,
            limits,
            std::future::pending(),
        ));
        Http::new(&base, &wire::client::Limits::default()).map_err(io::Error::other)
    }
}

/// How one measurement went.
#[derive(Clone, Copy)]
struct Rate {
    per_s: f64,
    cpu_us: f64,
}

/// Lets the callers work through all items.
async fn drive<F, R>(items: &Arc<Vec<Bytes>>, call: F) -> io::Result<Rate>
where
    F: Fn(Bytes) -> R + Clone + Send + 'static,
    R: Future<Output = io::Result<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let (start, cpu) = (Instant::now(), cpu_time()?);
    let callers = (0..CALLERS).map(|_| {
        let (items, next, call) = (items.clone(), next.clone(), call.clone());
        tokio::spawn(async move {
            while let Some(bytes) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                call(bytes.clone()).await?;
            }
            io::Result::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.map_err(io::Error::other)??;
    }
    let (wall, cpu) = (start.elapsed(), cpu_time()? - cpu);
    let count = items.len() as f64;
    Ok(Rate {
        per_s: count / wall.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / count,
    })
}

/// Processor time of this program so far, all threads.
fn cpu_time() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name in parentheses; user and system time are fields 14 and 15, in 1/100 s.
    let (_, rest) = stat
        .rsplit_once(')')
        .ok_or_else(|| io::Error::other("/proc/self/stat"))?;
    let ticks = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    Ok(Duration::from_millis(10 * ticks.sum::<u64>()))
}

async fn contract(stage: &Stage, items: &Arc<Vec<Bytes>>) -> io::Result<Rate> {
    let su = stage.su.clone();
    let call = move |bytes| {
        let su = su.clone();
        async move {
            let item = DataItem::parse(bytes).map_err(io::Error::other)?;
            su.schedule(item).await.map(drop).map_err(io::Error::other)
        }
    };
    drive(items, call).await
}

async fn over_http(stage: &Stage, items: &Arc<Vec<Bytes>>) -> io::Result<Rate> {
    let http = stage.listen().await?;
    let call = move |bytes| {
        let http = http.clone();
        async move {
            let reply = http.post("/", wire::scheduler::VERBATIM_TYPE, bytes).await;
            reply
                .and_then(|reply| reply.success())
                .map(drop)
                .map_err(io::Error::other)
        }
    };
    drive(items, call).await
}

/// Median waits of one caller for an acknowledgement, and of a bare write and fdatasync between.
async fn latency(stage: &Stage, items: &[Bytes]) -> io::Result<(Duration, Duration)> {
    let mut file = File::create(stage.folder.join("bare"))?;
    file.write_all(&vec![0; 2048 * ACKNOWLEDGEMENTS])?;
    file.sync_all()?;
    io::Seek::rewind(&mut file)?;
    let (mut waits, mut bare) = (Vec::new(), Vec::new());
    for bytes in items.iter().take(ACKNOWLEDGEMENTS) {
        let start = Instant::now();
        let item = DataItem::parse(bytes.clone()).map_err(io::Error::other)?;
        stage.su.schedule(item).await.map_err(io::Error::other)?;
        waits.push(start.elapsed());
        let start = Instant::now();
        file.write_all(&[1; 2048])?;
        file.sync_data()?;
        bare.push(start.elapsed());
    }
    Ok((median(waits), median(bare)))
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("measurements are numbers"));
    values[values.len() / 2]
}

/// Prints the median of several rates beside its bar.
fn report(name: &str, rates: &[Rate], bar: f64) {
    let per_s = median(rates.iter().map(|rate| rate.per_s).collect());
    let cpu_us = median(rates.iter().map(|rate| rate.cpu_us).collect());
    let two_cores = THREADS as f64 * 1e6 / cpu_us;
    let held = if per_s >= bar { "held" } else { "missed" };
    println!(
        "{name:<34}{per_s:>9.0}/s   bar {bar:>6.0}/s {held:<7} {cpu_us:>6.1} us of processor each ({two_cores:.0}/s on two cores)"
    );
}

/// Measures in a folder on a real disk, `runs` times each, and prints medians.
///
/// # Errors
/// The disk's, the network's, or a refusal that should not be.
pub fn run(folder: &Path, runs: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    let processes = process_items()?;
    let ids: Vec<ProcessId> = processes.iter().map(|item| item.id().into()).collect();
    println!("signing {RSA_MESSAGES} messages with RSA and {ED25519_MESSAGES} with Ed25519");
    let jwk = Signer::generate_rsa_jwk().map_err(io::Error::other)?;
    let rsa = Signer::from_jwk(&jwk).map_err(io::Error::other)?;
    let rsa = Arc::new(sign(&rsa, &ids, RSA_MESSAGES)?);
    let ed25519 = Arc::new(sign(&Signer::ed25519(&[3; 32]), &ids, ED25519_MESSAGES)?);
    println!(
        "{CALLERS} callers, {PROCESSES} processes, {THREADS} threads, durable in {}",
        folder.display()
    );
    runtime.block_on(async {
        let mut rates: [Vec<Rate>; 3] = Default::default();
        let mut waits = Vec::new();
        for _ in 0..runs.max(1) {
            for (kind, rates) in rates.iter_mut().enumerate() {
                let stage = Stage::open(folder, &processes).await?;
                rates.push(match kind {
                    0 => contract(&stage, &ed25519).await?,
                    1 => contract(&stage, &rsa).await?,
                    _ => over_http(&stage, &rsa).await?,
                });
                stage.close().await?;
            }
            let stage = Stage::open(folder, &processes).await?;
            waits.push(latency(&stage, &ed25519).await?);
            stage.close().await?;
        }
        report("contract, Ed25519-signed", &rates[0], 25_000.0);
        report("contract, RSA-signed", &rates[1], 10_000.0);
        report("loopback HTTP, RSA-signed", &rates[2], 5_000.0);
        report_waits(&waits);
        Ok(())
    })
}

fn report_waits(waits: &[(Duration, Duration)]) {
    let wait = median(waits.iter().map(|(wait, _)| *wait).collect());
    let bare = median(waits.iter().map(|(_, bare)| *bare).collect());
    let bar = bare * 2 + Duration::from_millis(1);
    let held = if wait <= bar { "held" } else { "missed" };
    println!(
        "one caller waits {wait:.0?} (median), a bare write and fdatasync {bare:.0?}; bar {bar:.0?} {held}"
    );
}
