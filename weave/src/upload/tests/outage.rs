//! Nobody upstream for a day; a spool that is full; then everything settles, in order.

use std::sync::atomic::Ordering;

use super::torture::block_on;
use super::world::World;
use crate::testing::{Faults, Rules};
use crate::upload::{Alarm, Config};

const HOUR_MS: u64 = 60 * 60 * 1000;

fn config(spool_bytes_max: u64) -> Config {
    Config {
        seal_bytes_min: 2_000,
        seal_age_l1_ms: HOUR_MS,
        poll_ms: 60_000,
        spool_bytes_max,
        ..Config::default()
    }
}

fn world(spool_bytes_max: u64) -> World {
    World::new(
        1,
        Faults::none(),
        Rules::default(),
        config(spool_bytes_max),
        false,
    )
}

async fn settle(world: &mut World) {
    while !world.is_done() {
        world.turn().await;
        world.pass(60_000);
        assert!(world.height() < 3_000, "it does not come to an end");
    }
}

async fn a_day_without(mut world: World) {
    world.schedule(100).await;
    world.turn().await;
    world.fuse.cut.store(true, Ordering::Relaxed);
    let begun_ms = world.now_ms();
    let mut is_alarmed = None;
    while world.now_ms() < begun_ms + 24 * HOUR_MS {
        world.schedule(300).await;
        world.turn().await;
        let report = world.uploader().report().unwrap();
        if report.alarms.contains(&Alarm::Silent) {
            is_alarmed.get_or_insert(world.now_ms());
        }
        let (bytes, most) = (report.spool_bytes, report.spool_bytes_max.unwrap());
        assert!(bytes <= most, "{bytes} bytes in a spool of {most}");
        if world.dice.once_in(200) {
            world.crash();
        }
        world.pass(60_000);
    }
    let after_ms = is_alarmed.expect("somebody is told") - begun_ms;
    assert!(after_ms <= 180_000, "the alarm came after {after_ms} ms");
    assert!(world.acknowledged.len() > 100, "the node goes on acknowledging");
    world.fuse.cut.store(false, Ordering::Relaxed);
    settle(&mut world).await;
    world.check_all();
    world.check_chain();
    let heights = world.heights();
    assert!(heights.len() > 3 && heights.is_sorted(), "in order: {heights:?}");
    let refused = world.refused;
    world.schedule(300).await;
    assert_eq!(world.refused, refused, "there is room again");
}

#[test]
fn a_day_without_upstream_is_spooled_and_settles_in_order() {
    block_on(async {
        let world = world(8 << 20);
        a_day_without(world).await;
    });
}

#[test]
fn a_full_spool_refuses_and_loses_nothing() {
    block_on(async {
        let world = world(400_000);
        a_day_without(world).await;
    });
    block_on(async {
        let mut world = world(20_000);
        world.fuse.cut.store(true, Ordering::Relaxed);
        for _ in 0..100 {
            world.schedule(300).await;
            world.turn().await;
            world.pass(1_000);
        }
        assert!(world.refused > 0, "at the bound it refuses");
        let report = world.uploader().report().unwrap();
        assert!(report.alarms.contains(&Alarm::Spool), "{:?}", report.alarms);
        world.fuse.cut.store(false, Ordering::Relaxed);
        settle(&mut world).await;
        world.check_all();
    });
}
