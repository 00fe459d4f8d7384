//! A scheduler in a temporary folder for tests: a real log that can be told to fail, a clock that
//! tests set, and both carriers of the contract.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use spec::contract::{Answer, Class, Hits, LogEntry, Permanent, Query, Scheduler, Span, Stored};
use spec::{DataItem, ItemId, ItemParts, ProcessId, Refusal, Signer, Tag, Tags};
use su::belongings::{Belongings, IsLocal};
use su::journal::{Journal, Pending, Replay};
use su::{Config, Parts, Su};
use tempfile::TempDir;
use weave::{Piece, Position, Record};
use wire::client::{Http, Limits};

/// The log, and a way to make its next appends fail.
pub struct Faulty {
    pub log: Arc<weave::Log>,
    /// Appends to refuse, counted down.
    pub failures: AtomicUsize,
    /// Appends that went to the disk.
    pub appends: AtomicUsize,
}

impl Journal for Faulty {
    fn append(&self, records: Vec<Record>, class: Class) -> Pending {
        let countdown = |n: usize| n.checked_sub(1);
        if self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, countdown)
            .is_ok()
        {
            return Box::pin(async { Err(weave::Error::Busy("a test")) });
        }
        self.appends.fetch_add(1, Ordering::SeqCst);
        Journal::append(&*self.log, records, class)
    }

    fn append_pieces(&self, pieces: Vec<Piece>, class: Class) -> Pending {
        let countdown = |n: usize| n.checked_sub(1);
        let failed = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, countdown);
        if failed.is_ok() {
            return Box::pin(async { Err(weave::Error::Busy("a test")) });
        }
        Journal::append_pieces(&*self.log, pieces, class)
    }

    fn read(&self, at: Position) -> weave::error::Result<Record> {
        self.log.read(at)
    }

    fn replay(&self, after: Option<Position>) -> Replay<'_> {
        Journal::replay(&*self.log, after)
    }
}

/// Finds items by walking the log.
struct Shelf(Arc<weave::Log>);

/// What was asked for beside logs.
#[derive(Default)]
pub struct Asked {
    pub kept: Mutex<Vec<(ItemId, Class)>>,
    pub sent: Mutex<Vec<ProcessId>>,
    /// Items that are for these processes are private where they are local.
    pub letters: Mutex<Vec<(ItemId, ProcessId)>>,
    /// Askings to refuse, counted down.
    pub failures: AtomicUsize,
}

#[async_trait]
impl Belongings for Asked {
    async fn private(&self, ids: &[ItemId], is_local: &IsLocal<'_>) -> Answer<Vec<ItemId>> {
        let letters = self.letters.lock().unwrap().clone();
        let mut private = Vec::new();
        for (id, process) in letters.into_iter().filter(|(id, _)| ids.contains(id)) {
            private.extend(is_local(process)?.then_some(id));
        }
        Ok(private)
    }

    async fn keep(&self, ids: Vec<ItemId>, class: Class) -> Answer<()> {
        let countdown = |n: usize| n.checked_sub(1);
        let failed = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, countdown);
        if failed.is_ok() {
            return Err(Refusal::busy("test", "a test"));
        }
        let mut kept = self.kept.lock().unwrap();
        kept.extend(ids.into_iter().map(|id| (id, class)));
        Ok(())
    }

    async fn keep_sent(&self, process: ProcessId) -> Answer<()> {
        self.sent.lock().unwrap().push(process);
        Ok(())
    }
}

#[async_trait]
impl Permanent for Shelf {
    async fn append(&self, items: Vec<DataItem>, class: Class) -> Answer<()> {
        let records = items.into_iter().map(Record::Item).collect();
        self.0
            .append(records, class)
            .await
            .map(drop)
            .map_err(Refusal::from)
    }

    async fn fetch(&self, id: ItemId) -> Answer<Stored> {
        let mut records = self.0.replay(None).map(|entry| entry.unwrap().1);
        let found = records.find(|record| record.id() == Some(id));
        match found {
            Some(Record::Item(item)) => Ok(Stored::Item(item)),
            Some(Record::Withheld(withheld)) => Ok(Stored::Withheld(withheld)),
            _ => Err(Refusal::not_found("no-item", format!("{id} is not held here"))),
        }
    }

    async fn find(&self, _: Query) -> Answer<Hits> {
        Ok(Hits::default())
    }
}

type Stop = tokio::sync::oneshot::Sender<()>;

/// A running scheduler and all around it.
pub struct World {
    pub su: Arc<Su>,
    pub log: Arc<weave::Log>,
    pub journal: Arc<Faulty>,
    pub shelf: Arc<dyn Permanent>,
    pub asked: Arc<Asked>,
    /// What the wall clock shows, in ms; 0: the machine's.
    pub now_ms: Arc<AtomicU64>,
    pub folder: Arc<TempDir>,
    config: Config,
    listeners: Mutex<Vec<(Stop, tokio::task::JoinHandle<()>)>>,
}

pub fn small() -> Config {
    // Few enough that tests cross from memory to disk and back.
    Config {
        unflushed_max: 50,
        inline_entries_max: 4,
        ..Config::default()
    }
}

impl World {
    pub fn new() -> World {
        World::with(small(), Signer::ed25519(&[1; 32]))
    }

    pub fn with(config: Config, signer: Signer) -> World {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        World::open(folder, config, signer, Arc::new(AtomicU64::new(0)))
    }

    fn open(folder: Arc<TempDir>, config: Config, signer: Signer, now_ms: Arc<AtomicU64>) -> World {
        let log = weave::Log::open(&weave::Config::default(), &folder.path().join("log")).unwrap();
        let log = Arc::new(log);
        let journal = Faulty {
            log: log.clone(),
            failures: AtomicUsize::new(0),
            appends: AtomicUsize::new(0),
        };
        let (journal, shelf) = (Arc::new(journal), Arc::new(Shelf(log.clone())));
        let (set, wall) = (now_ms.clone(), su::clock::wall_clock());
        let now = move || match set.load(Ordering::SeqCst) {
            0 => wall(),
            set => set,
        };
        let asked = Arc::new(Asked::default());
        let parts = Parts {
            signer: Arc::new(signer),
            journal: journal.clone(),
            permanent: shelf.clone(),
            now: Arc::new(now),
            heights: Arc::new(|ms| 1 + ms / 10_000),
            chain: "dev/0/10000".into(),
            boot_tags: Arc::new(|_| {
                let tags = vec![Tag::new("Engine-Epoch", "test-1")];
                Box::pin(std::future::ready(Ok(tags)))
            }),
            class: Class::Local,
            belongings: asked.clone(),
        };
        let su = Su::open(config.clone(), folder.path(), parts).unwrap();
        World {
            su,
            log,
            journal,
            shelf,
            asked,
            now_ms,
            folder,
            config,
            listeners: Mutex::default(),
        }
    }

    /// Stops the scheduler and the log, does something to the folder, and starts both again.
    pub fn restart(self, meanwhile: impl FnOnce(&Path)) -> World {
        self.restart_as(Signer::ed25519(&[1; 32]), meanwhile)
    }

    /// As [`World::restart`], with a key.
    pub fn restart_as(self, signer: Signer, meanwhile: impl FnOnce(&Path)) -> World {
        let World {
            su,
            log,
            journal,
            shelf,
            now_ms,
            folder,
            config,
            ..
        } = self;
        su.close().unwrap();
        assert_eq!(Arc::strong_count(&su), 1, "somebody still holds the scheduler");
        drop((su, journal, shelf));
        drop(Arc::into_inner(log).expect("somebody still holds the log"));
        meanwhile(folder.path());
        World::open(folder, config, signer, now_ms)
    }

    /// As [`World::restart`], once the listener has let go.
    pub async fn restart_after(mut self, http: Http) -> World {
        drop(http);
        for (stop, serving) in self.listeners.get_mut().unwrap().drain(..) {
            stop.send(()).unwrap();
            serving.await.unwrap();
        }
        let held = || Arc::strong_count(&self.su) > 1;
        for _ in 0..5000 {
            if !held() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(!held(), "a connection still holds the scheduler");
        self.restart(|_| ())
    }

    /// What is left if only the permanent class was published: another folder with those records,
    /// and the note that suspends scheduling.
    pub fn published(&self, signer: Signer) -> World {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let log = weave::Log::open(&weave::Config::default(), &folder.path().join("log")).unwrap();
        let entries = self.log.entries(None).map(Result::unwrap);
        let permanent = entries.filter(|entry| entry.class == Class::Permanent);
        let records: Vec<_> = permanent.map(|entry| entry.record).collect();
        for chunk in records.chunks(1000) {
            log.append(chunk.to_vec(), Class::Permanent).wait().unwrap();
        }
        log.append(vec![su::note::suspended()], Class::Local)
            .wait()
            .unwrap();
        drop(log);
        World::open(folder, small(), signer, Arc::new(AtomicU64::new(0)))
    }

    pub async fn spawn(&self, n: u8) -> ProcessId {
        let item = process_item(n);
        self.su.schedule(item).await.unwrap().process
    }

    /// The whole log of a process, page by page.
    pub async fn whole(&self, process: ProcessId) -> Vec<LogEntry> {
        let mut entries: Vec<LogEntry> = Vec::new();
        loop {
            let span = Span::Slots(entries.len() as u64, u64::MAX);
            let page = self.su.log(process, span, 37).await.unwrap();
            entries.extend(page.entries);
            if !page.has_next_page {
                return entries;
            }
        }
    }

    /// A listener with the scheduler's routes, hardened as a node does it.
    pub async fn listen(&self) -> Http {
        let limits = wire::server::Limits::default();
        let router = wire::server::harden(su::http::router(self.su.clone()), &limits);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let stopped = async move { stopped.await.unwrap_or_default() };
        let serving = tokio::spawn(wire::server::serve(listener, router, limits, stopped));
        self.listeners.lock().unwrap().push((stop, serving));
        Http::new(&base, &Limits::default()).unwrap()
    }
}

pub fn user(n: u8) -> Signer {
    Signer::ed25519(&[100 + n; 32])
}

pub fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs
        .iter()
        .map(|(name, value)| Tag::new(*name, *value))
        .collect()
}

pub fn process_item(n: u8) -> DataItem {
    process_item_with(n, &[])
}

pub fn process_item_with(n: u8, more: &[(&str, &str)]) -> DataItem {
    let module = ItemId([7; 32]).to_string();
    let mut all = tags(&[
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Process"),
        ("Module", &module),
    ]);
    all.extend(tags(&[("Scheduler", &module), ("Name", &format!("p{n}"))]));
    all.extend(tags(more));
    let parts = ItemParts {
        tags: all,
        data: Bytes::from_static(b" "),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &user(0)).unwrap()
}

pub fn message(process: ProcessId, text: &str) -> DataItem {
    message_with(process, text, &[], &user(0))
}

pub fn message_with(process: ProcessId, text: &str, more: &[(&str, &str)], signer: &Signer) -> DataItem {
    let mut all = tags(&[
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Message"),
    ]);
    all.extend(tags(more));
    let data = Bytes::copy_from_slice(text.as_bytes());
    let parts = ItemParts {
        target: Some(process.0),
        anchor: None,
        tags: all,
        data,
    };
    DataItem::sign(&parts, signer).unwrap()
}

/// Checks all that must hold over a whole log: slots, chain, timestamps, heights, signatures.
pub fn verify_log(process: ProcessId, entries: &[LogEntry]) {
    let mut chain = spec::assignment::Chain::first(process);
    for (slot, entry) in entries.iter().enumerate() {
        let assignment = &entry.assignment;
        DataItem::parse_verified(assignment.item.bytes().clone()).expect("signed");
        assert_eq!((assignment.process, assignment.slot), (process, slot as u64));
        assert_eq!(assignment.chain, chain);
        chain = chain.next(assignment.item.id());
        if let Some(item) = entry.item() {
            assert_eq!(item.id(), assignment.subject());
            DataItem::parse_verified(item.bytes().clone()).expect("signed");
        }
    }
    let ticks: Vec<_> = entries.iter().map(|entry| entry.assignment.tick).collect();
    assert!(ticks.is_sorted_by(|a, b| a.timestamp_ms < b.timestamp_ms && a.block_height <= b.block_height));
}

/// GET of a path: status and JSON.
pub async fn get(http: &Http, path: &str) -> (u16, Value) {
    let reply = http.get(path).await.unwrap();
    (
        reply.status,
        serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
    )
}

/// POST of bytes: status and JSON.
pub async fn post(http: &Http, path: &str, body: impl Into<Bytes>) -> (u16, Value) {
    let reply = http
        .post(path, "application/octet-stream", body.into())
        .await
        .unwrap();
    (
        reply.status,
        serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
    )
}

/// The text of an error answer, which must have this status.
pub fn error(answer: &(u16, Value), status: u16) -> &str {
    assert_eq!(answer.0, status, "{answer:?}");
    answer.1["error"].as_str().expect("errors are JSON")
}
