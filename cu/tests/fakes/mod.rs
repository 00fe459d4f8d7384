//! What the tests of the compute unit share: a scheduler and a weave in memory, and a small module that
//! speaks the field's calling convention. Not here: any expectation.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod module;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use serde_json::Value;
use spec::assignment::Chain;
use spec::contract::*;
use spec::{Address, DataItem, Draft, ItemId, ItemParts, ModuleId, ProcessId, Refusal, Signer, Tag, Tags};
use tower::ServiceExt;

/// When logs begin, in ms; in the middle of a block of ten seconds.
pub const BEGIN_MS: u64 = 1_700_000_003_000;
pub const GENESIS_MS: u64 = 1_700_000_000_000;

pub fn user() -> Signer {
    Signer::ed25519(&[7; 32])
}

pub fn tags(list: &[(&str, &str)]) -> Tags {
    list.iter().map(|(name, value)| Tag::new(*name, *value)).collect()
}

/// A scheduler that does what it is told, with a clock that stands until it is moved.
pub struct FakeScheduler {
    signer: Signer,
    state: Mutex<Logs>,
}

#[derive(Default)]
struct Logs {
    /// Further tags of slot 0's assignment.
    notes: Tags,
    logs: HashMap<ProcessId, Vec<LogEntry>>,
    now_ms: u64,
    count: u64,
}

impl FakeScheduler {
    pub fn new() -> Arc<FakeScheduler> {
        let state = Logs {
            now_ms: BEGIN_MS,
            notes: tags(&[("Chain", "dev/1700000000000/10000")]),
            ..Logs::default()
        };
        Arc::new(FakeScheduler {
            signer: Signer::ed25519(&[9; 32]),
            state: Mutex::new(state),
        })
    }

    /// Puts a tag on the first assignment of processes made from now on.
    pub fn note(&self, name: &str, value: &str) {
        self.state.lock().unwrap().notes.push(Tag::new(name, value));
    }

    /// Moves the clock on.
    pub fn pass(&self, ms: u64) {
        self.state.lock().unwrap().now_ms += ms;
    }

    /// Gives an item the next slot, one ms after whatever came before.
    pub fn put(
        &self,
        process: ProcessId,
        content: Content,
        message: Option<ItemId>,
        exclude: Vec<Field>,
    ) -> LogEntry {
        let mut state = self.state.lock().unwrap();
        state.count += 1;
        state.now_ms += 1;
        let (tick, count, notes) = (tick_at(state.now_ms), state.count, state.notes.clone());
        let log = state.logs.entry(process).or_default();
        let last = log.last().map(|entry| &entry.assignment);
        let mut anchor = [0; 32];
        anchor[..8].copy_from_slice(&count.to_le_bytes());
        let draft = Draft {
            process,
            slot: log.len() as u64,
            chain: last.map_or(Chain::first(process), |last| last.chain.next(last.item.id())),
            tick,
            message,
            exclude,
            notes: if log.is_empty() { notes } else { vec![] },
            anchor,
        };
        let entry = LogEntry {
            assignment: draft.sign(&self.signer).unwrap(),
            content,
        };
        log.push(entry.clone());
        entry
    }

    /// Makes a process.
    pub fn spawn(&self, module: ModuleId, own: &[(&str, &str)]) -> ProcessId {
        let (module, count) = (module.to_string(), self.state.lock().unwrap().count.to_string());
        let mut all = tags(&[
            ("Data-Protocol", "ao"),
            ("Type", "Process"),
            ("Module", &module),
            ("Scheduler", "S"),
        ]);
        all.extend(tags(own));
        all.push(Tag::new("Count", count));
        let item = DataItem::sign(
            &ItemParts {
                tags: all,
                data: "boot".into(),
                ..ItemParts::default()
            },
            &user(),
        );
        let item = item.unwrap();
        let process = item.id().into();
        self.put(process, Content::Item(item), None, vec![]);
        process
    }

    /// Sends a message with an action and further tags.
    pub fn send(&self, process: ProcessId, action: &str, own: &[(&str, &str)]) -> ItemId {
        self.send_as(process, action, own, &user())
    }

    pub fn send_as(&self, process: ProcessId, action: &str, own: &[(&str, &str)], signer: &Signer) -> ItemId {
        let mut all = tags(&[("Data-Protocol", "ao"), ("Type", "Message"), ("Action", action)]);
        all.extend(tags(own));
        let count = self.state.lock().unwrap().count;
        all.push(Tag::new("Count", count.to_string()));
        let parts = ItemParts {
            target: Some(process.0),
            anchor: Some([b'a'; 32]),
            tags: all,
            data: "data".into(),
        };
        let item = DataItem::sign(&parts, signer).unwrap();
        let id = item.id();
        self.put(process, Content::Item(item), Some(id), vec![]);
        id
    }

    /// Makes a slot's chain value wrong.
    pub fn break_slot(&self, process: ProcessId, slot: usize) {
        self.state.lock().unwrap().logs.get_mut(&process).unwrap()[slot]
            .assignment
            .chain = Chain([0; 32]);
    }

    pub fn entry(&self, process: ProcessId, slot: u64) -> LogEntry {
        self.state.lock().unwrap().logs[&process][slot as usize].clone()
    }

    pub fn now_ms(&self) -> u64 {
        self.state.lock().unwrap().now_ms
    }

    fn with<T>(&self, process: ProcessId, look: impl FnOnce(&[LogEntry]) -> Option<T>) -> Answer<T> {
        let missing = || Refusal::not_found("not-found", "Message or Process not found");
        self.state
            .lock()
            .unwrap()
            .logs
            .get(&process)
            .and_then(|log| look(log))
            .ok_or_else(missing)
    }
}

pub fn tick_at(ms: u64) -> Tick {
    Tick {
        timestamp_ms: ms,
        block_height: 1 + (ms - GENESIS_MS) / 10_000,
    }
}

#[async_trait]
impl Scheduler for FakeScheduler {
    async fn schedule(&self, _: DataItem) -> Answer<Scheduled> {
        Err(Refusal::internal("tests use put"))
    }

    async fn assign(&self, _: ProcessId, _: ItemId, _: bool, _: Vec<Field>) -> Answer<Scheduled> {
        Err(Refusal::internal("tests use put"))
    }

    async fn log(&self, process: ProcessId, span: Span, limit: usize) -> Answer<LogPage> {
        self.with(process, |log| {
            let fits = |entry: &&LogEntry| match span {
                Span::Slots(from, to) => (from..=to).contains(&entry.assignment.slot),
                Span::Times(from, to) => {
                    let at = entry.assignment.tick.timestamp_ms;
                    from.is_none_or(|from| at > from) && at <= to
                }
            };
            let mut entries: Vec<_> = log.iter().filter(fits).take(limit + 1).cloned().collect();
            let has_next_page = entries.len() > limit;
            entries.truncate(limit);
            Some(LogPage {
                entries,
                has_next_page,
            })
        })
    }

    async fn message(&self, process: ProcessId, id: ItemId) -> Answer<LogEntry> {
        self.with(process, |log| {
            log.iter()
                .find(|entry| entry.assignment.message == Some(id) || entry.assignment.item.id() == id)
                .cloned()
        })
    }

    async fn latest(&self, process: ProcessId) -> Answer<LogEntry> {
        self.with(process, |log| log.last().cloned())
    }

    async fn process(&self, id: ProcessId) -> Answer<LogEntry> {
        self.with(id, |log| log.first().cloned())
    }

    async fn tick(&self) -> Answer<Tick> {
        Ok(tick_at(self.now_ms()))
    }
}

/// A weave in memory.
#[derive(Default)]
pub struct FakePermanent(Mutex<HashMap<ItemId, Stored>>, Mutex<Vec<DataItem>>);

impl FakePermanent {
    pub fn hold(&self, item: DataItem) -> ItemId {
        let id = item.id();
        self.1.lock().unwrap().push(item.clone());
        self.0.lock().unwrap().insert(id, Stored::Item(item));
        id
    }

    /// The items that are held, as they came.
    pub fn items(&self) -> Vec<DataItem> {
        self.1.lock().unwrap().clone()
    }

    /// Loses an item.
    pub fn lose(&self, id: ItemId) {
        self.1.lock().unwrap().retain(|item| item.id() != id);
        self.0.lock().unwrap().remove(&id);
    }

    /// Holds a module's bytes under an id of our choice.
    pub fn register(&self, id: ModuleId, data: Bytes, tags: Tags) {
        let registered = Registered {
            id: id.into(),
            by: Address([3; 32]),
            tags,
            data,
        };
        self.0
            .lock()
            .unwrap()
            .insert(id.into(), Stored::Registered(Arc::new(registered)));
    }
}

#[async_trait]
impl Permanent for FakePermanent {
    async fn append(&self, items: Vec<DataItem>, _: Class) -> Answer<()> {
        for item in items {
            self.hold(item);
        }
        Ok(())
    }

    async fn fetch(&self, id: ItemId) -> Answer<Stored> {
        let missing = || Refusal::not_found("not-found", format!("{id} is not here"));
        self.0.lock().unwrap().get(&id).cloned().ok_or_else(missing)
    }

    /// By owners and tags, newest first; a cursor is how many came before.
    async fn find(&self, query: Query) -> Answer<Hits> {
        let has = |item: &DataItem, filter: &TagFilter| {
            let value = item.tag(&filter.name);
            value.is_some_and(|value| filter.values.iter().any(|wanted| wanted == value))
        };
        let fits = |item: &DataItem| {
            let is_owned = query.owners.is_empty() || query.owners.contains(&item.owner_address());
            is_owned && query.tags.iter().all(|filter| has(item, filter))
        };
        let from = query
            .after
            .as_deref()
            .map_or(0, |after| after.parse::<usize>().unwrap());
        let all: Vec<_> = self.items().into_iter().rev().filter(fits).collect();
        let page = all.iter().enumerate().skip(from).take(query.first);
        let hits: Vec<_> = page
            .map(|(index, item)| Hit {
                cursor: (index + 1).to_string(),
                block_height: 1,
                stored: Stored::Item(item.clone()),
            })
            .collect();
        Ok(Hits {
            has_next_page: from + hits.len() < all.len(),
            hits,
        })
    }
}

/// The tags of a module.
pub fn module_tags(format: &str) -> Tags {
    tags(&[
        ("Data-Protocol", "ao"),
        ("Type", "Module"),
        ("Module-Format", format),
        ("Input-Encoding", "JSON-1"),
        ("Output-Encoding", "JSON-1"),
        ("Memory-Limit", "32-mb"),
        ("Compute-Limit", "100000000"),
    ])
}

pub const MODULE: ModuleId = ModuleId([77; 32]);
pub const METERED: ModuleId = ModuleId([78; 32]);

/// A compute unit on fakes.
pub struct World {
    pub dir: tempfile::TempDir,
    pub scheduler: Arc<FakeScheduler>,
    pub permanent: Arc<FakePermanent>,
    pub cu: Arc<cu::Cu>,
    pub config: cu::Config,
}

impl World {
    pub fn new() -> World {
        World::with(cu::Config {
            threads: 2,
            ..cu::Config::default()
        })
    }

    pub fn with(config: cu::Config) -> World {
        let (dir, scheduler, permanent) = (
            tempfile::tempdir().unwrap(),
            FakeScheduler::new(),
            Arc::new(FakePermanent::default()),
        );
        let wasm = module::wasm();
        permanent.register(MODULE, wasm.clone(), module_tags("wasm32-unknown-emscripten4"));
        permanent.register(METERED, wasm, module_tags("wasm32-unknown-emscripten-metering"));
        let cu = open(&config, &scheduler, &permanent, dir.path());
        World {
            dir,
            scheduler,
            permanent,
            cu,
            config,
        }
    }

    /// Ends the unit in good order and starts it again on the same log, with or without its cache.
    pub async fn restart(&mut self, keep_cache: bool) {
        self.cu.close().await;
        self.crash(keep_cache).await;
    }

    /// Drops the unit as it is and starts it again on the same log.
    pub async fn crash(&mut self, keep_cache: bool) {
        let elsewhere = tempfile::tempdir().unwrap();
        self.cu = open(&self.config, &self.scheduler, &self.permanent, elsewhere.path());
        if !keep_cache {
            self.dir = tempfile::tempdir().unwrap();
        }
        // The unit before lets go of its files once its tasks have ended.
        for _ in 0..500 {
            if let Ok(cu) = try_open(&self.config, &self.scheduler, &self.permanent, self.dir.path()) {
                self.cu = cu;
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the folder stays in use");
    }

    pub fn router(&self) -> Router {
        cu::http::router(self.cu.clone())
    }

    pub async fn request(&self, request: Request<Body>) -> (u16, HeaderMap, Bytes) {
        let response = self.router().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 30).await.unwrap();
        (status, headers, body)
    }

    pub async fn raw(&self, path: &str) -> (u16, HeaderMap, Bytes) {
        self.request(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    /// GET of JSON.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.raw(path).await;
        (
            status,
            serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{path}: {body:?}")),
        )
    }

    /// The outcome of a message, as `/result` gives it.
    pub async fn outcome(&self, process: ProcessId, message: impl std::fmt::Display) -> Value {
        let (status, json) = self.get(&format!("/result/{message}?process-id={process}")).await;
        assert_eq!(status, 200, "{json}");
        json
    }

    pub async fn dry_run(&self, process: ProcessId, query: &str, body: &str) -> (u16, Value) {
        let request =
            Request::post(format!("/dry-run?process-id={process}{query}")).body(body.to_owned().into());
        let (status, _, body) = self.request(request.unwrap()).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub async fn root(&self, process: ProcessId) -> [u8; 32] {
        self.cu.state(process, None).await.unwrap().root
    }
}

pub fn open(
    config: &cu::Config,
    scheduler: &Arc<FakeScheduler>,
    permanent: &Arc<FakePermanent>,
    dir: &Path,
) -> Arc<cu::Cu> {
    try_open(config, scheduler, permanent, dir).unwrap()
}

fn try_open(
    config: &cu::Config,
    scheduler: &Arc<FakeScheduler>,
    permanent: &Arc<FakePermanent>,
    dir: &Path,
) -> Result<Arc<cu::Cu>, cu::Error> {
    cu::Cu::open(
        config.clone(),
        scheduler.clone(),
        permanent.clone(),
        dir,
        "address".into(),
    )
}
