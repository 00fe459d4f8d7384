//! Measures the log: `cargo run --release -p weave --example append_rate -- [seconds]`.
//!
//! Pairs of small records (a message and its assignment) from 64 callers, with and without the
//! index behind them; then one caller alone beside a bare fdatasync, in the same run.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use spec::contract::{Class, Permanent, Query, TagFilter};
use spec::{DataItem, ItemParts, Signer, Tag};
use weave::{Config, Log, Record, Weave};

const CALLERS: u64 = 64;

fn pair(n: u64) -> Vec<Record> {
    let sign = |tags: Vec<(&str, String)>| {
        let tags = tags
            .into_iter()
            .map(|(name, value)| Tag::new(name, value))
            .collect();
        let parts = ItemParts {
            tags,
            data: vec![7; 200].into(),
            ..ItemParts::default()
        };
        Record::Item(DataItem::sign(&parts, &Signer::ed25519(&[(n % 50) as u8; 32])).unwrap())
    };
    let text = |text: &str| text.to_string();
    let message = vec![
        ("Data-Protocol", text("ao")),
        ("Variant", text("ao.TN.1")),
        ("Type", text("Message")),
        ("Action", text("Transfer")),
        ("Reference", n.to_string()),
    ];
    let mut assignment: Vec<_> = [
        "Process",
        "Epoch",
        "Block-Height",
        "Data-Protocol",
        "Type",
        "Variant",
    ]
    .map(|name| (name, text("the same for many")))
    .into();
    assignment
        .extend(["Nonce", "Hash-Chain", "Timestamp", "Message"].map(|name| (name, format!("{name}{n}"))));
    vec![sign(message), sign(assignment)]
}

/// Pairs stored a second by all callers together.
fn load(log: &Arc<Log>, pairs: &Arc<Vec<Vec<Record>>>, time: Duration) -> f64 {
    let stored = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (log, pairs, stored) = (log.clone(), pairs.clone(), stored.clone());
            std::thread::spawn(move || {
                let mut n = caller as usize;
                while begun.elapsed() < time {
                    // Eight at once: what a scheduler's writers hand over while a sync is under way.
                    let waiting: Vec<_> = (0..8)
                        .map(|_| {
                            n += CALLERS as usize;
                            log.append(pairs[n % pairs.len()].clone(), Class::Local)
                        })
                        .collect();
                    for append in waiting {
                        append.wait().unwrap();
                        stored.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    stored.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let time = Duration::from_secs(seconds);
    let pairs = Arc::new((0..15_000).map(pair).collect::<Vec<_>>());
    let folder = tempfile::tempdir_in(".").unwrap();

    let config = Config::default();
    let log = Arc::new(Log::open(&config, &folder.path().join("bare")).unwrap());
    alone(&log, &pairs, &folder.path().join("probe"));
    let rate = load(&log, &pairs, time);
    println!(
        "log alone:       {rate:>9.0} pairs/s = {:.0} records/s",
        2.0 * rate
    );

    let weave = Weave::open(Config::default(), folder.path()).unwrap();
    let rate = load(weave.log(), &pairs, time);
    println!(
        "log with index:  {rate:>9.0} pairs/s = {:.0} records/s",
        2.0 * rate
    );
    let begun = Instant::now();
    weave.settle();
    println!("index behind by  {:>9.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let weave = Weave::open(Config::default(), &folder.path().join("once")).unwrap();
    let appends: Vec<_> = pairs
        .iter()
        .map(|pair| weave.log().append(pair.clone(), Class::Local))
        .collect();
    appends.into_iter().for_each(|append| drop(append.wait()));
    weave.settle();
    queries(&weave);

    alone(&log, &pairs, &folder.path().join("probe"));
}

/// One caller beside a bare fdatasync, by turns.
fn alone(log: &Log, pairs: &[Vec<Record>], probe: &std::path::Path) {
    let mut file = std::fs::File::create(probe).unwrap();
    let (mut bare, mut one) = (Vec::new(), Vec::new());
    for pair in &pairs[..500] {
        let begun = Instant::now();
        file.write_all(&[7; 800]).unwrap();
        file.sync_data().unwrap();
        bare.push(begun.elapsed());
        let begun = Instant::now();
        log.append(pair.clone(), Class::Local).wait().unwrap();
        one.push(begun.elapsed());
    }
    println!(
        "bare fdatasync:  {:>9.0} us p50",
        median(bare).as_secs_f64() * 1e6
    );
    println!("one caller:      {:>9.0} us p50", median(one).as_secs_f64() * 1e6);
}

fn queries(weave: &Arc<Weave>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let tag = |name: &str, value: &str| TagFilter {
        name: name.into(),
        values: vec![value.into()],
    };
    for tags in [
        vec![tag("Type", "Message")],
        vec![tag("Data-Protocol", "ao"), tag("Reference", "149")],
    ] {
        let query = Query {
            tags,
            first: 100,
            ..Query::default()
        };
        let begun = Instant::now();
        let hits = runtime.block_on(weave.find(query)).unwrap().hits;
        println!(
            "query:           {:>9.0} us for {} hits",
            begun.elapsed().as_secs_f64() * 1e6,
            hits.len()
        );
    }
}
