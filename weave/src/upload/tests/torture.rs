//! Seeded schedules of faults and crashes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::world::{Dice, World};
use crate::testing::{Faults, PEERS, Rules};
use crate::upload::Config;

/// No fault happens from this height on.
const HEAL_HEIGHT: u64 = 70;
/// By then everything must be permanent.
const END_HEIGHT: u64 = 700;
/// Schedules of an ordinary run.
const SCHEDULES: u64 = 50;

fn config(dice: &mut Dice) -> Config {
    Config {
        seal_bytes_min: 2_000 << dice.below(3),
        seal_age_l1_ms: 600_000,
        seal_age_bundler_ms: 60_000,
        routes_at_once: 1 + dice.below(2) as usize,
        poll_ms: 20_000 + dice.below(100_000),
        audit_ms: 60_000,
        archive_confirmations: 40,
        snapshot_notes: 1 + dice.below(20),
        spool_bytes_max: 200_000,
        ..Config::default()
    }
}

async fn schedule(seed: u64) {
    let mut dice = Dice(seed ^ 0x5EED);
    let rules = Rules {
        chunk_gossip_ms: dice.once_in(2).then_some(30_000),
        ..Rules::default()
    };
    let with_bundler = dice.once_in(3);
    let config = config(&mut dice);
    let mut faults = Faults::seeded(seed).until(HEAL_HEIGHT);
    // Answers are late by the real clock: enough to come in another order.
    faults.delay_ms_max = 2;
    // The others are peers of the first one then.
    let upstreams = if dice.once_in(3) { 1 } else { PEERS };
    let mut world = World::new(seed, faults, rules, config, with_bundler).with_upstreams(upstreams);
    while world.height() < HEAL_HEIGHT - 10 {
        for _ in 0..dice.below(4) {
            let len = 1 << dice.below(12);
            world.schedule(len).await;
        }
        if dice.once_in(40) {
            world.withhold();
        }
        if dice.once_in(12) {
            world.fuse.light(dice.below(30), dice.once_in(2));
        }
        world.turn().await;
        let ms = 5_000 + dice.below(115_000);
        world.pass(ms);
    }
    while world.height() < HEAL_HEIGHT || !world.is_done() {
        world.turn().await;
        let ms = 30_000 + dice.below(90_000);
        world.pass(ms);
        assert!(
            world.height() < END_HEIGHT,
            "it does not come to an end: {:#?} {:#?}",
            world.uploader().report(),
            world.uploader().ledger().unsettled().collect::<Vec<_>>()
        );
    }
    // A round of audits brings what peers lost after it was proved.
    for _ in 0..world.uploader().ledger().next_sequence() * 2 {
        world.turn().await;
        world.pass(world.config.poll_ms);
    }
    while !world.is_done() {
        world.turn().await;
        world.pass(60_000);
        assert!(
            world.height() < 2 * END_HEIGHT,
            "what was lost is not brought again"
        );
    }
    world.check_all();
    world.check_comes_back().await;
    if !with_bundler {
        // A fork may have put carriers into blocks in another order than they were signed in; the next one leads to
        // all of them.
        world.schedule(100).await;
        while !world.is_done() {
            world.turn().await;
            world.pass(60_000);
        }
        world.check_chain();
        world.check_comes_back().await;
    }
}

pub fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build();
    runtime.unwrap().block_on(work);
}

fn run(seed: u64) {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(schedule(seed))));
    if let Err(panic) = done {
        eprintln!("the schedule of seed {seed} failed; WEFT_SEED={seed} runs it alone");
        std::panic::resume_unwind(panic);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn fifty_schedules_lose_nothing_and_call_nothing_permanent_that_is_not() {
    match number("WEFT_SEED") {
        Some(seed) => run(seed),
        None => all(0..SCHEDULES),
    }
}

/// Most of a schedule's time is waiting: some at once.
fn all(seeds: std::ops::Range<u64>) {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        seed if seed < seeds.end => run(seed),
                        _ => break,
                    }
                }
            });
        }
    });
}

#[test]
#[ignore = "minutes: WEFT_SCHEDULES=1000 cargo test --release upload::tests::torture -- --ignored"]
fn many_schedules_lose_nothing_and_call_nothing_permanent_that_is_not() {
    let (first, count) = (
        number("WEFT_SEED").unwrap_or(0),
        number("WEFT_SCHEDULES").unwrap_or(1_000),
    );
    all(first..first + count);
}
