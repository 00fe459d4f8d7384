//! Permanent checkpoints: whatever they are, a process is what its log makes of it.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod fakes;

use std::sync::Arc;

use cu::permanent::{Publisher, Rebuilt, naming};
use fakes::*;
use spec::contract::{Class, Compute, Content, OutcomesQuery, Permanent};
use spec::{DataItem, ItemId, ItemParts, ProcessId, Signer, Tag};

const ACTIONS: [&str; 7] = ["a", "fail", "b", "trap", "send", "throw", "c"];

fn unit_key() -> Arc<Signer> {
    Arc::new(Signer::ed25519(&[40; 32]))
}

fn scheduler_key() -> Signer {
    Signer::ed25519(&[9; 32])
}

fn config(evaluations: u64) -> cu::Config {
    let mut config = cu::Config {
        threads: 2,
        turn_evaluations_max: 3,
        ..cu::Config::default()
    };
    config.permanent.evaluations = evaluations;
    config.permanent.evaluation_ms = u64::MAX;
    config.permanent.evaluation_ms_max = u64::MAX;
    config.permanent.bytes_per_second_saved = u64::MAX;
    config.permanent.lookup_slots_min = 1;
    config
}

fn publisher() -> Publisher {
    Publisher {
        signer: unit_key(),
        naming: None,
        is_widened: None,
    }
}

/// A compute unit that makes checkpoints after so many evaluations.
fn world(evaluations: u64) -> World {
    let world = World::with(config(evaluations));
    world.scheduler.note("Storage", "permanent");
    world.cu.publish_checkpoints(publisher());
    world
}

/// The process's checkpoints, oldest first.
fn checkpoints(world: &World) -> Vec<DataItem> {
    let items = world.permanent.items().into_iter();
    items
        .filter(|item| item.tag("Type") == Some("Checkpoint"))
        .collect()
}

fn slot(item: &DataItem) -> u64 {
    item.tag("Nonce").unwrap().parse().unwrap()
}

/// Waits until what is being made beside the process has been appended.
async fn settled(world: &World, at_least: usize) -> Vec<DataItem> {
    for _ in 0..500 {
        let made = checkpoints(world);
        if made.len() >= at_least {
            return made;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} of {at_least} checkpoints were made", checkpoints(world).len());
}

/// Evaluates so many messages one by one, until there are so many checkpoints at least.
async fn busy(world: &World, process: ProcessId, messages: usize, at_least: usize) {
    for index in 0..messages {
        let last = world.scheduler.send(process, ACTIONS[index % ACTIONS.len()], &[]);
        world.outcome(process, last).await;
    }
    settled(world, at_least).await;
}

/// A busy process's checkpoints, once no further one is made, and its state root.
async fn made(world: &World, messages: usize, at_least: usize) -> (ProcessId, Vec<DataItem>, [u8; 32]) {
    let process = world.scheduler.spawn(MODULE, &[]);
    busy(world, process, messages, at_least).await;
    let root = world.root(process).await;
    world.cu.close().await;
    (process, checkpoints(world), root)
}

/// The same log, evaluated by a unit that has nothing but the log and the weave, and builds on the unit's key.
async fn afresh(world: &mut World) {
    world.restart(false).await;
    world.cu.trust_checkpoints([unit_key().address()]);
}

async fn rebuilt(world: &World, process: ProcessId) -> Rebuilt {
    let mut done = world.cu.rebuild(&[process], 0, &|_| ()).await;
    let (id, rebuilt) = done.pop().unwrap();
    assert_eq!((id, done.len()), (process, 0));
    rebuilt.unwrap()
}

/// All outcomes, without where they were evaluated.
async fn outcomes(world: &World, process: ProcessId) -> Vec<String> {
    let query = OutcomesQuery {
        limit: 1000,
        failed: true,
        ..OutcomesQuery::default()
    };
    let page = world.cu.results(process, query).await.unwrap();
    let text = |at: &spec::contract::Evaluated| {
        let outcome = serde_json::to_string(&*at.outcome).unwrap();
        let hash = blake3::hash(outcome.as_bytes()).to_hex();
        format!(
            "{} {} {:?} {}",
            at.slot,
            at.tick.timestamp_ms,
            at.cron,
            &hash[..8]
        )
    };
    page.outcomes.iter().map(text).collect()
}

#[tokio::test]
async fn what_is_made_at_any_point_gives_the_state_that_the_log_gives() {
    for (seed, every) in [(1u64, 2), (2, 5), (3, 9)] {
        let (mut world, plain) = (world(every), World::with(config(u64::MAX)));
        let process = world.scheduler.spawn(MODULE, &[("Cron-Interval", "10-seconds")]);
        let mut random = seed;
        for index in 0..40 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
            world.scheduler.pass((random >> 33) % 9_000);
            let last = world.scheduler.send(process, ACTIONS[index % ACTIONS.len()], &[]);
            world.outcome(process, last).await;
        }
        settled(&world, 2).await;
        let (root, all) = (world.root(process).await, outcomes(&world, process).await);
        // A unit without any checkpoints on the same log.
        let dir = tempfile::tempdir().unwrap();
        let alone = open(&plain.config, &world.scheduler, &plain.permanent, dir.path());
        assert_eq!(
            alone.state(process, None).await.unwrap().root,
            root,
            "seed {seed}"
        );
        afresh(&mut world).await;
        let report = rebuilt(&world, process).await;
        assert_eq!((report.root, report.slot), (root, 40), "seed {seed}");
        let (begun, confirmed) = (report.begun_at.unwrap(), report.confirmed.unwrap());
        assert!(begun.slot < confirmed.slot && report.wrong.is_empty());
        assert!(report.evaluated < 60, "{} evaluations", report.evaluated);
        // Outcomes before the checkpoint are evaluated when somebody asks for them.
        for number in 0..=40 {
            let message = world.scheduler.entry(process, number).assignment.subject();
            world.outcome(process, message).await;
        }
        assert_eq!(outcomes(&world, process).await, all, "seed {seed}");
        // And it goes on as it would have.
        world.scheduler.pass(25_000);
        let next = world.scheduler.send(process, "x", &[]);
        let expected = alone.result(process, next).await.unwrap();
        let found = world.cu.result(process, next).await.unwrap();
        assert_eq!(
            serde_json::to_string(&*found.outcome).unwrap(),
            serde_json::to_string(&*expected.outcome).unwrap()
        );
        assert_eq!(
            world.root(process).await,
            alone.state(process, None).await.unwrap().root
        );
    }
}

#[tokio::test]
async fn time_to_come_back_does_not_grow_with_the_log() {
    let mut evaluated = Vec::new();
    for messages in [40, 160] {
        let mut world = world(10);
        let process = world.scheduler.spawn(MODULE, &[]);
        busy(&world, process, messages, messages / 20).await;
        let root = world.root(process).await;
        afresh(&mut world).await;
        let report = rebuilt(&world, process).await;
        assert_eq!(report.root, root);
        evaluated.push(report.evaluated);
    }
    assert!(evaluated.iter().all(|count| *count <= 40), "{evaluated:?}");
}

#[tokio::test]
async fn only_permanent_processes_have_them_and_only_within_the_budget() {
    let local = World::with(config(2));
    local.cu.publish_checkpoints(publisher());
    let mut poor = config(2);
    poor.permanent.bytes_per_day_max = 0;
    let poor = World::with(poor);
    poor.scheduler.note("Storage", "permanent");
    poor.cu.publish_checkpoints(publisher());
    let unpublished = World::with(config(2));
    unpublished.scheduler.note("Storage", "permanent");
    let mut small = config(2);
    small.permanent.item_bytes_max = 10;
    let small = World::with(small);
    small.scheduler.note("Storage", "permanent");
    small.cu.publish_checkpoints(publisher());
    for world in [local, poor, unpublished, small] {
        let process = world.scheduler.spawn(MODULE, &[]);
        busy(&world, process, 12, 0).await;
        world.cu.close().await;
        assert!(checkpoints(&world).is_empty());
    }
    let widened = World::with(config(2));
    widened.cu.publish_checkpoints(Publisher {
        is_widened: Some(Arc::new(|_| true)),
        ..publisher()
    });
    let process = widened.scheduler.spawn(MODULE, &[]);
    busy(&widened, process, 12, 1).await;
}

#[tokio::test]
async fn what_others_signed_is_never_built_on() {
    let mut world = world(5);
    let (process, _, root) = made(&world, 30, 3).await;
    world.restart(false).await;
    let report = rebuilt(&world, process).await;
    assert_eq!((report.root, report.begun_at, report.evaluated), (root, None, 31));
}

#[tokio::test]
async fn the_unit_that_the_scheduler_names_is_built_on() {
    let mut world = World::with(config(5));
    world.scheduler.note("Storage", "permanent");
    let item = naming(&scheduler_key(), unit_key().address()).unwrap();
    world.cu.publish_checkpoints(Publisher {
        naming: Some(item.clone()),
        ..publisher()
    });
    let (process, _, _) = made(&world, 30, 3).await;
    let named = world
        .permanent
        .items()
        .iter()
        .filter(|held| held.id() == item.id())
        .count();
    assert_eq!(named, 1, "it is said once");
    // Somebody else's naming counts for nothing.
    world.permanent.lose(item.id());
    world
        .permanent
        .hold(naming(&Signer::ed25519(&[66; 32]), unit_key().address()).unwrap());
    world.restart(false).await;
    assert_eq!(rebuilt(&world, process).await.begun_at, None);
    world.permanent.hold(item);
    world.restart(false).await;
    assert!(rebuilt(&world, process).await.begun_at.is_some());
    world.config.permanent.trusts_scheduler = false;
    world.restart(false).await;
    assert_eq!(rebuilt(&world, process).await.begun_at, None);
}

/// Another item with a checkpoint's data and tags, some of them changed.
fn forged(
    item: &DataItem,
    changes: &[(&str, String)],
    data: Option<bytes::Bytes>,
    signer: &Signer,
) -> DataItem {
    let changed = |tag: &Tag| {
        let change = changes.iter().find(|(name, _)| tag.name_text() == *name);
        change.map_or_else(|| tag.clone(), |(name, value)| Tag::new(*name, value.clone()))
    };
    let parts = ItemParts {
        tags: item.tags().iter().map(changed).collect(),
        data: data.unwrap_or_else(|| item.data()),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, signer).unwrap()
}

/// The statement of `newest`, with the state of an earlier full checkpoint: a lie that unpacks.
fn lie(full: &DataItem, newest: &DataItem) -> DataItem {
    let of = |name: &'static str| (name, newest.tag(name).unwrap().to_owned());
    let place = ["Nonce", "Timestamp", "Block-Height", "Assignment"].map(of);
    forged(full, &place, None, &unit_key())
}

#[tokio::test]
async fn a_false_state_under_a_good_key_is_found_out_and_left_out() {
    let mut world = world(5);
    let (process, made, root) = made(&world, 60, 6).await;
    let newest = made.last().unwrap();
    let full = made.iter().find(|item| item.tag("Base").is_none()).unwrap();
    // The newest one is replaced: going back by one further helps.
    let false_one = lie(full, newest);
    world.permanent.lose(newest.id());
    world.permanent.hold(false_one.clone());
    afresh(&mut world).await;
    let report = rebuilt(&world, process).await;
    assert_eq!(report.root, root);
    assert_eq!(
        report.wrong.iter().map(|one| one.id).collect::<Vec<_>>(),
        [false_one.id()]
    );
    assert!(report.confirmed.unwrap().slot < slot(newest));
    let audit = world.cu.audit(process, &|_| ()).await.unwrap();
    assert_eq!(
        audit.differ.iter().map(|(one, _)| one.id).collect::<Vec<_>>(),
        [false_one.id()]
    );
    assert_eq!(audit.agree.len(), made.len() - 1);
    assert_eq!((audit.root, audit.slot), (root, 60));
    // All but the oldest are false: they do not follow from each other, so the log itself is replayed.
    for item in &made[1..] {
        world.permanent.lose(item.id());
        world.permanent.hold(lie(full, item));
    }
    afresh(&mut world).await;
    let report = rebuilt(&world, process).await;
    assert_eq!(
        (report.root, report.begun_at, report.confirmed),
        (root, None, None)
    );
}

#[tokio::test]
async fn a_chain_that_lost_a_part_is_left_out() {
    let mut world = world(5);
    let (process, made, root) = made(&world, 60, 6).await;
    assert!(
        made.iter().any(|item| item.tag("Base").is_some()),
        "chains are made"
    );
    assert!(
        made.iter()
            .all(|item| item.tag("Depth").unwrap().parse::<u32>().unwrap() < 8)
    );
    for item in made.iter().filter(|item| item.tag("Base").is_none()) {
        world.permanent.lose(item.id());
    }
    afresh(&mut world).await;
    let report = rebuilt(&world, process).await;
    assert_eq!((report.root, report.begun_at), (root, None));
}

#[tokio::test]
async fn one_that_stands_in_another_log_is_left_out() {
    let mut world = world(5);
    let (process, made, root) = made(&world, 30, 3).await;
    for item in &made {
        let other = [("Assignment", ItemId([1; 32]).to_string())];
        world.permanent.lose(item.id());
        world.permanent.hold(forged(item, &other, None, &unit_key()));
    }
    afresh(&mut world).await;
    let report = rebuilt(&world, process).await;
    assert_eq!((report.root, report.begun_at), (root, None));
    assert!(!report.wrong.is_empty());
}

#[tokio::test]
async fn crons_alone_move_a_process_on_and_are_not_evaluated_from_the_boot() {
    let mut world = world(5);
    let process = world.scheduler.spawn(MODULE, &[("Cron-Interval", "1-second")]);
    world.outcome(process, process).await;
    for _ in 0..20 {
        world.scheduler.pass(3_000);
        world.get(&format!("/cron/{process}")).await;
    }
    let made = settled(&world, 4).await;
    assert!(made.iter().any(|item| item.tag("Cron") == Some("0-1-second")));
    let newest = made.last().unwrap().clone();
    let next = world.scheduler.send(process, "x", &[]);
    let count = world.outcome(process, next).await["Output"]["count"].clone();
    afresh(&mut world).await;
    assert_eq!(world.outcome(process, next).await["Output"]["count"], count);
    afresh(&mut world).await;
    let report = rebuilt(&world, process).await;
    assert!(report.confirmed.is_some() && report.evaluated < 40, "{report:?}");
    // A moment that has not come is nowhere in the log, however long its crons would run.
    let far = [("Timestamp", (BEGIN_MS + 1_000_000_000_000).to_string())];
    world.permanent.hold(forged(&newest, &far, None, &unit_key()));
    afresh(&mut world).await;
    let report = rebuilt(&world, process).await;
    assert_eq!(report.wrong.len(), 1);
    assert!(report.confirmed.is_some());
}

#[tokio::test]
async fn an_operator_may_take_his_own_at_once() {
    let mut world = world(5);
    let (process, made, root) = made(&world, 30, 3).await;
    world.config.permanent.takes_own_at_once = true;
    world.restart(false).await;
    world.cu.publish_checkpoints(publisher());
    let report = rebuilt(&world, process).await;
    let newest = made.iter().map(slot).max().unwrap();
    assert_eq!(
        (report.root, report.begun_at.map(|one| one.slot)),
        (root, Some(newest))
    );
    assert!(report.evaluated <= 30 - newest);
}

#[tokio::test]
async fn no_flipped_bit_gives_another_state() {
    let mut world = world(5);
    let (process, made, root) = made(&world, 30, 3).await;
    let newest = made.last().unwrap().clone();
    let whole = newest.bytes().clone();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(whole.len() / 15) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let Ok(item) = DataItem::parse(bytes.into()) else {
            refused += 1;
            continue;
        };
        world.permanent.lose(newest.id());
        world.permanent.hold(item.clone());
        afresh(&mut world).await;
        let report = rebuilt(&world, process).await;
        assert_eq!(report.root, root, "byte {at}");
        assert!(
            report.confirmed.is_none_or(|one| one.id != item.id()),
            "byte {at}"
        );
        world.permanent.lose(item.id());
        refused += 1;
    }
    assert!(refused >= 15);
    // Signed anew after the flip: what is signed is not yet true.
    let data = newest.data();
    for at in (8..data.len()).step_by(data.len() / 10) {
        let mut bytes = data.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let end = bytes.len() - 32;
        let checksum = *blake3::hash(&bytes[..end]).as_bytes();
        bytes[end..].copy_from_slice(&checksum);
        let item = forged(&newest, &[], Some(bytes.into()), &unit_key());
        let is_same = item.data() == data;
        world.permanent.hold(item.clone());
        afresh(&mut world).await;
        let report = rebuilt(&world, process).await;
        assert_eq!(report.root, root, "byte {at} of the data");
        let is_taken = report.begun_at.is_some_and(|one| one.id == item.id());
        assert!(!is_taken || is_same, "byte {at} of the data");
        world.permanent.lose(item.id());
    }
}

#[tokio::test]
async fn who_comes_back_goes_on_with_the_chain() {
    let mut world = world(5);
    let process = world.scheduler.spawn(MODULE, &[]);
    busy(&world, process, 20, 2).await;
    world.cu.close().await;
    let made = checkpoints(&world);
    for keep_cache in [true, false] {
        world.restart(keep_cache).await;
        world.cu.publish_checkpoints(publisher());
        let before = checkpoints(&world).len();
        busy(&world, process, 20, before + 2).await;
    }
    let all = checkpoints(&world);
    let mut slots: Vec<u64> = all.iter().map(slot).collect();
    assert!(slots.is_sorted() && made.len() + 4 <= all.len());
    slots.dedup();
    assert_eq!(slots.len(), all.len(), "none is made twice");
    let linked = all.iter().filter_map(|item| item.tag("Base"));
    assert!(
        linked
            .map(str::to_owned)
            .all(|base| all.iter().any(|item| item.id().to_string() == base))
    );
}

#[tokio::test]
async fn a_full_weave_costs_a_checkpoint_and_nothing_else() {
    struct Full(Arc<FakePermanent>);
    #[async_trait::async_trait]
    impl Permanent for Full {
        async fn append(&self, _: Vec<DataItem>, _: Class) -> spec::contract::Answer<()> {
            Err(spec::Refusal::busy("spool", "the spool is full"))
        }
        async fn fetch(&self, id: ItemId) -> spec::contract::Answer<spec::contract::Stored> {
            self.0.fetch(id).await
        }
        async fn find(&self, query: spec::contract::Query) -> spec::contract::Answer<spec::contract::Hits> {
            self.0.find(query).await
        }
    }
    let world = world(3);
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(Full(world.permanent.clone()));
    let cu = cu::Cu::open(config(3), world.scheduler.clone(), full, dir.path(), "a".into()).unwrap();
    cu.publish_checkpoints(publisher());
    let process = world.scheduler.spawn(MODULE, &[]);
    for _ in 0..20 {
        let message = world.scheduler.send(process, "a", &[]);
        cu.result(process, message).await.unwrap();
    }
    assert!(checkpoints(&world).is_empty());
    assert!(matches!(
        world.scheduler.entry(process, 20).content,
        Content::Item(_)
    ));
}
