//! The derived index: equal to looking at every record, live, rebuilt, and caught up; pages stay
//! what they are while the log grows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use spec::contract::{Class, Permanent, Query, TagFilter};
use spec::{DataItem, ItemId};
use weave::{Config, Record, Weave};

/// A small generator: the same numbers at every run.
struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn random_item(seed: &mut Seed, n: usize) -> DataItem {
    let target = [[1; 32], [2; 32], [3; 32]].get(seed.below(5) as usize).copied();
    let (kind, group) = (
        ["Message", "Process", "Assignment"][seed.below(3) as usize],
        seed.below(40).to_string(),
    );
    let tags = [("Type", kind), ("Group", group.as_str()), ("N", &n.to_string())];
    item_to(
        seed.below(4) as u8,
        target,
        &tags,
        vec![b'x'; seed.below(50) as usize],
    )
}

fn random_query(seed: &mut Seed, items: &[DataItem]) -> Query {
    let mut query = Query {
        first: 1 + seed.below(100) as usize,
        ascending: seed.below(2) == 0,
        ..Query::default()
    };
    if seed.below(3) == 0 {
        query.owners = vec![signer(seed.below(5) as u8).address(), signer(1).address()];
    }
    if seed.below(3) == 0 {
        query.recipients = vec![[1 + seed.below(4) as u8; 32]];
    }
    let tag = |name: &str, values: Vec<String>| TagFilter {
        name: name.into(),
        values,
    };
    if seed.below(2) == 0 {
        let groups = (0..1 + seed.below(3)).map(|_| seed.below(45).to_string());
        query.tags.push(tag("Group", groups.collect()));
    }
    if seed.below(2) == 0 {
        query.tags.push(tag("Type", vec!["Process".into()]));
    }
    if seed.below(4) == 0 {
        query.height_min = Some(seed.below(20));
    }
    if seed.below(4) == 0 {
        query.height_max = Some(seed.below(25));
    }
    if seed.below(6) == 0 {
        query.ids = (0..20)
            .map(|_| items[seed.below(items.len() as u64) as usize].id())
            .collect();
    }
    query
}

/// Every page of a query.
async fn all(weave: &Arc<Weave>, query: &Query) -> Vec<ItemId> {
    let (mut query, mut ids) = (query.clone(), Vec::new());
    loop {
        let page = weave.find(query.clone()).await.unwrap();
        ids.extend(page.hits.iter().map(|hit| hit.stored.id()));
        let Some(last) = page.hits.last().filter(|_| page.has_next_page) else {
            return ids;
        };
        query.after = Some(last.cursor.clone());
    }
}

/// What the query should find, by looking at every item with its height.
fn expected(query: &Query, items: &[(DataItem, u64)]) -> Vec<ItemId> {
    let fits = |(item, height): &&(DataItem, u64)| {
        let tag = |filter: &TagFilter| {
            item.tag(&filter.name)
                .is_some_and(|value| filter.values.iter().any(|v| v == value))
        };
        (query.ids.is_empty() || query.ids.contains(&item.id()))
            && (query.owners.is_empty() || query.owners.contains(&item.owner_address()))
            && (query.recipients.is_empty()
                || item
                    .target()
                    .is_some_and(|target| query.recipients.contains(target)))
            && query.tags.iter().all(tag)
            && query.height_min.is_none_or(|min| *height >= min)
            && query.height_max.is_none_or(|max| *height <= max)
    };
    let mut ids: Vec<_> = items.iter().filter(fits).map(|(item, _)| item.id()).collect();
    if !query.ascending {
        ids.reverse();
    }
    ids
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match file.file_type().unwrap().is_dir() {
            true => copy_folder(&file.path(), &to.join(file.file_name())),
            false => drop(fs::copy(file.path(), to.join(file.file_name())).unwrap()),
        }
    }
}

#[tokio::test]
async fn the_index_finds_what_is_there_live_rebuilt_and_caught_up() {
    let (data, time, mut seed) = (tempfile::tempdir().unwrap(), Time::new(), Seed(1));
    let weave = open(data.path(), &time);
    let mut items = Vec::new();
    for n in 0..3_000 {
        let item = random_item(&mut seed, n);
        let class = [Class::Local, Class::Permanent][n % 2];
        let append = weave.log().append(vec![Record::Item(item.clone())], class);
        items.push((item, weave.chain().height()));
        if n % 100 == 99 {
            append.wait().unwrap();
            time.pass(seed.below(10_000));
        } else {
            drop(append);
        }
        // Small runs, so that there is something to merge.
        if n % 500 == 499 {
            weave.settle();
        }
    }
    // Groups of two classes that are queued together may change places; the log's order counts.
    let order: Vec<_> = weave
        .log()
        .replay(None)
        .filter_map(|entry| entry.unwrap().1.id())
        .collect();
    items.sort_by_cached_key(|(item, _)| order.iter().position(|id| *id == item.id()));
    assert_eq!(order.len(), items.len());
    let only_items: Vec<_> = items.iter().map(|(item, _)| item.clone()).collect();
    let queries: Vec<_> = (0..60).map(|_| random_query(&mut seed, &only_items)).collect();
    let found = queries
        .iter()
        .map(|query| expected(query, &items))
        .collect::<Vec<_>>();
    assert!(found.iter().filter(|ids| !ids.is_empty()).count() > 30);

    // As a crash leaves it: the log whole, the index as it last reached the disk.
    let crashed = tempfile::tempdir().unwrap();
    copy_folder(data.path(), crashed.path());
    check(&weave, &queries, &found).await;
    weave.settle();
    check(&weave, &queries, &found).await;
    drop(weave);
    check(&open(data.path(), &time), &queries, &found).await;
    check(&open(crashed.path(), &time), &queries, &found).await;
    fs::remove_dir_all(data.path().join("cache")).unwrap();
    check(&open(data.path(), &time), &queries, &found).await;
}

async fn check(weave: &Arc<Weave>, queries: &[Query], found: &[Vec<ItemId>]) {
    for (query, ids) in queries.iter().zip(found) {
        assert_eq!(&all(weave, query).await, ids, "{query:?}");
    }
}

#[tokio::test]
async fn an_index_that_is_broken_or_anothers_is_built_again() {
    let (data, other, time) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        Time::new(),
    );
    let item = item(1, &[("Name", "x")], "data");
    for folder in [&data, &other] {
        let weave = open(folder.path(), &time);
        weave.append(vec![item.clone()], Class::Local).await.unwrap();
        weave.close().await;
    }
    let file = |folder: &tempfile::TempDir| folder.path().join("cache/weave.redb");
    let ours = fs::read(file(&data)).unwrap();
    let theirs = fs::read(file(&other)).unwrap();
    let cut = ours[..ours.len() / 2].to_vec();
    for bytes in [theirs, cut, b"no database at all".to_vec(), vec![]] {
        fs::write(file(&data), bytes).unwrap();
        let weave = open(data.path(), &time);
        let query = Query {
            owners: vec![item.owner_address()],
            first: 10,
            ..Query::default()
        };
        assert_eq!(all(&weave, &query).await, [item.id()]);
        assert_eq!(weave.fetch(item.id()).await.unwrap().item(), Some(&item));
        weave.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_items_are_paged_without_loss_while_more_come() {
    let (data, time) = (tempfile::tempdir().unwrap(), Time::new());
    let weave = open(data.path(), &time);
    let named = |n: usize| item(1, &[("App", "paged"), ("N", &n.to_string())], "");
    let items: Vec<_> = (0..10_000).map(named).collect();
    for chunk in items.chunks(500) {
        weave.append(chunk.to_vec(), Class::Local).await.unwrap();
    }
    let writer = tokio::spawn({
        let weave = weave.clone();
        async move {
            for n in 10_000..10_600 {
                weave.append(vec![named(n)], Class::Permanent).await.unwrap();
            }
        }
    });
    let query = Query {
        tags: vec![TagFilter {
            name: "App".into(),
            values: vec!["paged".into()],
        }],
        first: 100,
        ..Query::default()
    };
    let newest_first = all(&weave, &query).await;
    writer.await.unwrap();
    let old: BTreeSet<_> = items.iter().map(DataItem::id).collect();
    let seen: Vec<_> = newest_first.into_iter().filter(|id| old.contains(id)).collect();
    assert!(
        seen.iter()
            .rev()
            .eq(items.iter().map(DataItem::id).collect::<Vec<_>>().iter()),
        "each once, in order"
    );
    let oldest_first = all(
        &weave,
        &Query {
            ascending: true,
            ..query
        },
    )
    .await;
    assert_eq!(oldest_first.len(), 10_600);
    assert!(oldest_first[..10_000].iter().eq(seen.iter().rev()));
}

#[tokio::test]
async fn a_page_of_large_items_ends_early_and_loses_none() {
    let (data, time) = (tempfile::tempdir().unwrap(), Time::new());
    let config = Config {
        query_bytes_max: 10_000,
        ..Config::default()
    };
    let weave = Weave::open_with(config, data.path(), time.clock()).unwrap();
    let items: Vec<_> = (0..10u8)
        .map(|n| item(n, &[("Size", "large")], vec![n; 4_000]))
        .collect();
    weave.append(items.clone(), Class::Local).await.unwrap();
    let tags = vec![TagFilter {
        name: "Size".into(),
        values: vec!["large".into()],
    }];
    let query = Query {
        tags,
        first: 100,
        ascending: true,
        ..Query::default()
    };
    for settled in [false, true] {
        if settled {
            weave.settle();
        }
        let page = weave.find(query.clone()).await.unwrap();
        assert_eq!((page.hits.len(), page.has_next_page), (3, true));
        assert_eq!(
            all(&weave, &query).await,
            items.iter().map(DataItem::id).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn an_item_appended_twice_is_listed_once() {
    let (data, time) = (tempfile::tempdir().unwrap(), Time::new());
    let weave = open(data.path(), &time);
    let twice = item(1, &[("Name", "twice")], "data");
    for class in [Class::Local, Class::Permanent] {
        weave
            .log()
            .append(vec![Record::Item(twice.clone())], class)
            .await
            .unwrap();
    }
    let query = Query {
        tags: vec![TagFilter {
            name: "Name".into(),
            values: vec!["twice".into()],
        }],
        first: 10,
        ..Query::default()
    };
    assert_eq!(all(&weave, &query).await, [twice.id()]);
    weave.settle();
    assert_eq!(all(&weave, &query).await, [twice.id()]);
    assert!(weave.withhold(twice.id()).await.unwrap());
    let whole = weave
        .log()
        .replay(None)
        .filter(|entry| entry.as_ref().unwrap().1.item().is_some());
    assert_eq!(whole.count(), 0, "both copies are without data");
}

/// The classes in which an id lies, and whether its data is there.
fn copies(weave: &Weave, id: ItemId) -> Vec<(Class, bool)> {
    let entries = weave.log().entries(None).map(Result::unwrap);
    let of_id = entries.filter(|entry| entry.record.id() == Some(id));
    of_id
        .map(|entry| (entry.class, entry.record.item().is_some()))
        .collect()
}

#[tokio::test]
async fn an_item_is_held_in_both_classes_once_it_is_asked_for() {
    let (data, time) = (tempfile::tempdir().unwrap(), Time::new());
    let weave = open(data.path(), &time);
    let (one, other, brought) = (
        item(1, &[], "one"),
        item(1, &[], "other"),
        item(1, &[], "brought"),
    );
    weave.overlay(vec![brought.clone()]).unwrap();
    let both = vec![one.clone(), other.clone()];
    weave.append(both.clone(), Class::Local).await.unwrap();
    weave.append(both, Class::Local).await.unwrap();
    assert!(weave.withhold(other.id()).await.unwrap());
    weave.append(vec![one.clone()], Class::Permanent).await.unwrap();
    let wanted = vec![one.id(), other.id(), brought.id(), ItemId([5; 32])];
    for settled in [false, true] {
        weave.keep(wanted.clone(), Class::Permanent).await.unwrap();
        assert_eq!(
            copies(&weave, one.id()),
            [(Class::Local, true), (Class::Permanent, true)]
        );
        let withheld = [(Class::Local, false), (Class::Permanent, false)];
        assert_eq!(copies(&weave, other.id()), withheld, "what was withheld stays so");
        assert_eq!(copies(&weave, brought.id()), [(Class::Permanent, true)]);
        if !settled {
            weave.settle();
        }
    }
    weave.append(vec![one.clone()], Class::Local).await.unwrap();
    assert_eq!(copies(&weave, one.id()).len(), 2);
    assert!(weave.withhold(one.id()).await.unwrap());
    assert!(copies(&weave, one.id()).iter().all(|(_, has_data)| !has_data));
    // Bytes held on an operator's word are a note; it is copied once, too.
    let id = ItemId([9; 32]);
    weave
        .register(id, vec![], "bytes".into(), signer(1).address())
        .await
        .unwrap();
    let notes = || {
        let entries = weave.log().entries(None).map(Result::unwrap);
        let of_class = entries.filter(|entry| entry.class == Class::Permanent);
        of_class.filter(|entry| entry.record.note().is_some()).count()
    };
    assert_eq!(notes(), 0);
    weave.keep(vec![id], Class::Permanent).await.unwrap();
    weave.keep(vec![id], Class::Permanent).await.unwrap();
    assert_eq!(notes(), 1);
}

#[tokio::test]
async fn a_copy_under_way_loses_data_that_is_withheld_meanwhile() {
    let (data, time) = (tempfile::tempdir().unwrap(), Time::new());
    let weave = open(data.path(), &time);
    for round in 0..20 {
        let item = item(1, &[], format!("data {round}"));
        weave.append(vec![item.clone()], Class::Local).await.unwrap();
        let (keep, withhold) = tokio::join!(
            weave.keep(vec![item.id()], Class::Permanent),
            weave.withhold(item.id())
        );
        keep.unwrap();
        withhold.unwrap();
        assert!(copies(&weave, item.id()).iter().all(|(_, has_data)| !has_data));
    }
}
