//! `weft bench verify`: how many signed items one core verifies in a second.
//!
//! Rates are items per second of this thread's CPU time, so that a busy machine does not bend them.
//! Every item is parsed, deep-hashed and checked anew, as at the edge of a unit. Not here: signing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use spec::DataItem;

/// Items per second and core that RSA-PSS must reach with any salt; the others are held against it too.
const BAR_PER_S: f64 = 10_000.0;
/// CPU time of one measurement; the kernel's account of it is exact to a few milliseconds.
const MEASURE: Duration = Duration::from_millis(400);
/// Items between two looks at the clock.
const BATCH: u64 = 500;

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../../spec/vectors/items/", $name, ".bin")).as_slice()
    };
}

/// What is measured: a name and a signed item.
const CASES: [(&str, &[u8]); 5] = [
    ("RSA-PSS, salt 0", vector!("arweave_salt0")),
    ("RSA-PSS, salt 32", vector!("arweave_salt32")),
    ("RSA-PSS, salt 478", vector!("arweave_salt478")),
    ("Ed25519", vector!("ed25519")),
    ("Ethereum", vector!("ethereum")),
];

/// Measures every kind `runs` times (at least once) and prints the medians.
pub fn run(runs: usize) {
    let (clock, name) = clock();
    println!(
        "items verified per second of one thread ({name}), median of {} runs",
        runs.max(1)
    );
    for (name, item) in CASES {
        let mut rates: Vec<f64> = (0..runs.max(1)).map(|_| rate(item, clock)).collect();
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        let ratio = median / BAR_PER_S;
        println!("{name:<18} {median:>9.0}/s   {ratio:>5.2} x the bar of {BAR_PER_S:.0}/s");
    }
}

/// Items per second of one measurement.
fn rate(item: &'static [u8], clock: Clock) -> f64 {
    let start = clock();
    let mut done = 0;
    loop {
        (0..BATCH).for_each(|_| verify(item));
        done += BATCH;
        let spent = clock().saturating_sub(start);
        if spent >= MEASURE {
            return done as f64 / spent.as_secs_f64();
        }
    }
}

/// Verifies a fresh copy: an item that has verified once remembers it.
fn verify(item: &'static [u8]) {
    let verified = DataItem::parse_verified(Bytes::from_static(item));
    assert!(verified.is_ok(), "the vectors are valid");
}

/// Tells a time that only grows.
type Clock = fn() -> Duration;

/// The thread's CPU time, if the kernel keeps it; also warms the core up.
fn clock() -> (Clock, &'static str) {
    let until = Instant::now() + MEASURE / 4;
    while Instant::now() < until {
        verify(CASES[0].1);
    }
    match cpu_time() {
        Some(spent) if spent > Duration::ZERO => (|| cpu_time().unwrap_or_default(), "CPU time"),
        _ => (wall_time, "wall time"),
    }
}

fn wall_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// CPU time of this thread as Linux counts it: the first number of its `schedstat`, in ns.
pub fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ns))
}
