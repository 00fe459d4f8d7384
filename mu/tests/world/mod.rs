//! A world in memory around the messenger: a scheduler, a compute unit and a weave that keep the
//! contracts, and faults to put into them. Not a test by itself.
//!
//! Processes are puppets: the outcome of a message is its data, if that is JSON of an outcome, or
//! what the process's own script says.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mu::{Config, Mu, Units};
use spec::assignment::Chain;
use spec::contract::*;
use spec::push_hash::push_hash;
use spec::{DataItem, Draft, ItemId, ItemParts, Outcome, ProcessId, Refusal, Signer, Tag};

/// What a fault does to a call.
#[derive(Clone)]
pub enum Fault {
    /// It passes.
    None,
    /// It is refused.
    Refuse(Refusal),
    /// It never answers and has no effect.
    HangBefore,
    /// It has its effect and never answers.
    HangAfter,
}

type Faults = Box<dyn FnMut(&str, Option<ProcessId>) -> Fault + Send>;
type Script = Arc<dyn Fn(&DataItem, u64) -> String + Send + Sync>;

/// The other units in one.
pub struct World {
    state: Mutex<State>,
    faults: Mutex<Option<Faults>>,
    su: Signer,
    pub user: Signer,
}

#[derive(Default)]
struct State {
    logs: HashMap<ProcessId, Vec<LogEntry>>,
    hashes: HashSet<(ProcessId, Vec<u8>, Vec<u8>)>,
    weave: Vec<DataItem>,
    scripts: HashMap<ProcessId, Script>,
    crons: HashMap<ProcessId, Vec<Evaluated>>,
    now_ms: u64,
    made: u64,
    evaluations: u64,
}

impl World {
    pub fn new() -> Arc<World> {
        Arc::new(World {
            state: Mutex::new(State {
                now_ms: 1_000_000,
                ..State::default()
            }),
            faults: Mutex::new(None),
            su: Signer::ed25519(&[7; 32]),
            user: Signer::ed25519(&[8; 32]),
        })
    }

    pub fn units(self: &Arc<Self>) -> Units {
        Units {
            scheduler: self.clone(),
            compute: self.clone(),
            permanent: self.clone(),
        }
    }

    /// A messenger in this world, with waits short enough for tests.
    pub fn messenger(self: &Arc<Self>, dir: &std::path::Path) -> Arc<Mu> {
        self.messenger_with(dir, quick(), Signer::ed25519(&[9; 32]))
    }

    pub fn messenger_with(self: &Arc<Self>, dir: &std::path::Path, config: Config, key: Signer) -> Arc<Mu> {
        Mu::open(config, dir, Arc::new(key), self.units()).expect("the queue opens")
    }

    /// Puts a fault into calls, named by method and process.
    pub fn fault(&self, fault: impl FnMut(&str, Option<ProcessId>) -> Fault + Send + 'static) {
        *self.faults.lock().unwrap() = Some(Box::new(fault));
    }

    pub fn heal(&self) {
        *self.faults.lock().unwrap() = None;
    }

    async fn before(&self, call: &str, process: Option<ProcessId>) -> Answer<bool> {
        let fault = self
            .faults
            .lock()
            .unwrap()
            .as_mut()
            .map_or(Fault::None, |fault| fault(call, process));
        match fault {
            Fault::None => Ok(false),
            Fault::Refuse(refusal) => Err(refusal),
            Fault::HangBefore => pending().await,
            Fault::HangAfter => Ok(true),
        }
    }

    /// A user's item; no two are alike.
    pub fn item(&self, target: Option<ProcessId>, tags: &[(&str, &str)], data: &str) -> DataItem {
        let mut state = self.state.lock().unwrap();
        state.made += 1;
        let mut tags: Vec<_> = tags.iter().map(|(name, value)| Tag::new(*name, *value)).collect();
        tags.push(Tag::new("Made", state.made.to_string()));
        let parts = ItemParts {
            target: target.map(|id| id.0),
            anchor: None,
            tags,
            data: data.to_owned().into(),
        };
        DataItem::sign(&parts, &self.user).unwrap()
    }

    pub fn message(&self, target: ProcessId, outcome: &str) -> DataItem {
        self.item(
            Some(target),
            &[("Data-Protocol", "ao"), ("Type", "Message")],
            outcome,
        )
    }

    pub fn process_item(&self, tags: &[(&str, &str)]) -> DataItem {
        let base = [
            ("Data-Protocol", "ao"),
            ("Type", "Process"),
            ("Module", MODULE),
            ("Scheduler", "the-su"),
        ];
        self.item(None, &[&base[..], tags].concat(), "{}")
    }

    /// A process that is there already, at slot 0.
    pub async fn process(self: &Arc<Self>) -> ProcessId {
        let scheduled = Scheduler::schedule(&**self, self.process_item(&[]))
            .await
            .unwrap();
        scheduled.process
    }

    /// Gives a process a script: (message, slot) to JSON of an outcome.
    pub fn script(
        &self,
        process: ProcessId,
        script: impl Fn(&DataItem, u64) -> String + Send + Sync + 'static,
    ) {
        self.state
            .lock()
            .unwrap()
            .scripts
            .insert(process, Arc::new(script));
    }

    /// Lets a cron fire.
    pub fn fire(&self, process: ProcessId, name: &str, outcome: &str) {
        let mut state = self.state.lock().unwrap();
        state.now_ms += 1_000;
        let tick = Tick {
            timestamp_ms: state.now_ms,
            block_height: 1,
        };
        let slot = state.logs[&process].len() as u64 - 1;
        let outcome = Arc::new(serde_json::from_str(outcome).unwrap());
        let fired = Evaluated {
            slot,
            tick,
            cron: Some(name.into()),
            message: None,
            outcome,
        };
        state.crons.entry(process).or_default().push(fired);
    }

    /// The items of a process's log after slot 0; those of pure assignments too.
    pub fn log_of(&self, process: ProcessId) -> Vec<DataItem> {
        let state = self.state.lock().unwrap();
        let entries = state.logs.get(&process).map_or(&[][..], |log| &log[1..]);
        let find = |entry: &LogEntry| {
            state
                .weave
                .iter()
                .find(|item| item.id() == entry.assignment.subject())
        };
        entries.iter().filter_map(find).cloned().collect()
    }

    pub fn entries(&self, process: ProcessId) -> Vec<LogEntry> {
        self.state
            .lock()
            .unwrap()
            .logs
            .get(&process)
            .cloned()
            .unwrap_or_default()
    }

    pub fn weave(&self) -> Vec<DataItem> {
        self.state.lock().unwrap().weave.clone()
    }

    pub fn processes(&self) -> Vec<ProcessId> {
        self.state.lock().unwrap().logs.keys().copied().collect()
    }

    pub fn evaluations(&self) -> u64 {
        self.state.lock().unwrap().evaluations
    }

    /// Adds a place to a log; the caller checked everything.
    fn place(
        &self,
        state: &mut State,
        process: ProcessId,
        message: Option<ItemId>,
        exclude: Vec<Field>,
        content: Content,
    ) -> Scheduled {
        state.now_ms += 1;
        let tick = Tick {
            timestamp_ms: state.now_ms,
            block_height: 1,
        };
        let log = state.logs.entry(process).or_default();
        let slot = log.len() as u64;
        let mut anchor = [0; 32];
        anchor[..8].copy_from_slice(&state.now_ms.to_be_bytes());
        let notes = vec![Tag::new("Storage", "local")];
        let chain = Chain::first(process);
        let draft = Draft {
            process,
            slot,
            chain,
            tick,
            message,
            exclude,
            notes,
            anchor,
        };
        let assignment = draft.sign(&self.su).unwrap();
        let (id, subject) = (assignment.item.id(), assignment.subject());
        log.push(LogEntry { assignment, content });
        Scheduled {
            process,
            slot,
            message: subject,
            assignment: id,
            tick,
        }
    }

    fn try_schedule(&self, item: DataItem) -> Answer<Scheduled> {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        if item.tag("Type") == Some("Process") {
            let process = item.id().into();
            if state.logs.contains_key(&process) {
                return Err(Refusal::invalid("process-exists", "Process already exists"));
            }
            state.weave.push(item.clone());
            return Ok(self.place(state, process, None, vec![], Content::Item(item)));
        }
        let process = ProcessId(*item.target().expect("messages have targets"));
        let log = state.logs.get(&process);
        let log = log.ok_or_else(|| Refusal::invalid("not-found", "Message or Process not found"))?;
        if log.iter().any(|entry| entry.assignment.subject() == item.id()) {
            return Err(Refusal::invalid("message-exists", "Message already exists"));
        }
        if item.tag("From-Process").is_some() {
            let hash = (process, item.owner().to_vec(), push_hash(&item).to_vec());
            if !state.hashes.insert(hash) {
                return Err(Refusal::invalid("deep-hash-exists", "Deep hash already exists"));
            }
        }
        state.weave.push(item.clone());
        Ok(self.place(state, process, Some(item.id()), vec![], Content::Item(item)))
    }

    fn try_assign(&self, process: ProcessId, id: ItemId, exclude: Vec<Field>) -> Answer<Scheduled> {
        let mut state = self.state.lock().unwrap();
        let is_known = state.logs.contains_key(&process) && state.weave.iter().any(|item| item.id() == id);
        if !is_known {
            return Err(Refusal::invalid("not-found", "Message or Process not found"));
        }
        Ok(self.place(&mut state, process, Some(id), exclude, Content::Elsewhere))
    }

    fn evaluate(&self, process: ProcessId, message: ItemId) -> Answer<Evaluated> {
        let entry = self.entry(process, |entry| entry.assignment.subject() == message)?;
        let mut state = self.state.lock().unwrap();
        state.evaluations += 1;
        let item = state
            .weave
            .iter()
            .find(|item| item.id() == message)
            .cloned()
            .expect("it is in the weave");
        let script = state.scripts.get(&process).cloned();
        drop(state);
        let slot = entry.assignment.slot;
        let json = match script {
            Some(script) => script(&item, slot),
            None => String::from_utf8_lossy(&item.data()).into_owned(),
        };
        let outcome = Arc::new(serde_json::from_str::<Outcome>(&json).unwrap_or_default());
        Ok(Evaluated {
            slot,
            tick: entry.assignment.tick,
            cron: None,
            message: Some(message),
            outcome,
        })
    }

    fn keep(&self, items: Vec<DataItem>) {
        let mut state = self.state.lock().unwrap();
        for item in items {
            if !state.weave.contains(&item) {
                state.weave.push(item);
            }
        }
    }

    fn entry(&self, process: ProcessId, wanted: impl Fn(&LogEntry) -> bool) -> Answer<LogEntry> {
        let state = self.state.lock().unwrap();
        let entry = state
            .logs
            .get(&process)
            .and_then(|log| log.iter().rev().find(|entry| wanted(entry)));
        entry
            .cloned()
            .ok_or_else(|| Refusal::invalid("not-found", "Message or Process not found"))
    }
}

/// The module of every process here.
pub const MODULE: &str = "the-module";

/// Limits with waits short enough for tests.
pub fn quick() -> Config {
    Config {
        retry_first_ms: 1,
        retry_most_ms: 20,
        monitor_interval_ms: 10,
        flush_interval_ms: 1,
        ..Config::default()
    }
}

/// Waits until nothing is left to do; fails after a while that no healthy run needs.
pub async fn settle(mu: &Mu) {
    until("the messenger is idle", || mu.is_idle()).await;
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

async fn done<T>(hang: bool, answer: T) -> T {
    if hang {
        return pending().await;
    }
    answer
}

#[async_trait]
impl Scheduler for World {
    async fn schedule(&self, item: DataItem) -> Answer<Scheduled> {
        let process = item.target().map(|target| ProcessId(*target));
        let hang = self.before("schedule", process).await?;
        done(hang, self.try_schedule(item)).await
    }

    async fn assign(
        &self,
        process: ProcessId,
        id: ItemId,
        _: bool,
        exclude: Vec<Field>,
    ) -> Answer<Scheduled> {
        let hang = self.before("assign", Some(process)).await?;
        done(hang, self.try_assign(process, id, exclude)).await
    }

    async fn log(&self, process: ProcessId, span: Span, limit: usize) -> Answer<LogPage> {
        self.before("log", Some(process)).await?;
        let Span::Slots(from, to) = span else {
            unreachable!("the messenger reads by slots")
        };
        let state = self.state.lock().unwrap();
        let unknown = || Refusal::not_found("not-found", "no such process");
        let log = state.logs.get(&process).ok_or_else(unknown)?;
        let (from, to) = (log.len().min(from as usize), log.len().min(to as usize + 1));
        let entries = log[from..to].iter().take(limit).cloned().collect();
        Ok(LogPage {
            entries,
            has_next_page: false,
        })
    }

    async fn message(&self, process: ProcessId, id: ItemId) -> Answer<LogEntry> {
        self.entry(process, |entry| {
            entry.assignment.subject() == id || entry.assignment.item.id() == id
        })
    }

    async fn latest(&self, process: ProcessId) -> Answer<LogEntry> {
        self.entry(process, |_| true)
    }

    async fn process(&self, id: ProcessId) -> Answer<LogEntry> {
        self.entry(id, |entry| entry.assignment.slot == 0)
    }

    async fn tick(&self) -> Answer<Tick> {
        Ok(Tick {
            timestamp_ms: self.state.lock().unwrap().now_ms,
            block_height: 1,
        })
    }
}

#[async_trait]
impl Compute for World {
    async fn result(&self, process: ProcessId, message: ItemId) -> Answer<Evaluated> {
        let hang = self.before("result", Some(process)).await?;
        let evaluated = self.evaluate(process, message);
        done(hang, evaluated).await
    }

    async fn crons(&self, process: ProcessId, query: OutcomesQuery) -> Answer<OutcomesPage> {
        self.before("crons", Some(process)).await?;
        let from_ms = match query.from {
            Some(Position::Time(ms) | Position::Evaluation { timestamp_ms: ms, .. }) => ms,
            None => 0,
        };
        let state = self.state.lock().unwrap();
        let all = state.crons.get(&process).cloned().unwrap_or_default();
        let mut later = all.into_iter().filter(|fired| fired.tick.timestamp_ms > from_ms);
        let outcomes = later.by_ref().take(query.limit).collect();
        Ok(OutcomesPage {
            outcomes,
            has_next_page: later.next().is_some(),
        })
    }

    async fn results(&self, _: ProcessId, _: OutcomesQuery) -> Answer<OutcomesPage> {
        unreachable!("the messenger does not list results")
    }

    async fn dry_run(&self, _: ProcessId, _: DryRun) -> Answer<Arc<Outcome>> {
        unreachable!("the messenger does not dry-run")
    }

    async fn state(&self, _: ProcessId, _: Option<u64>) -> Answer<spec::contract::State> {
        unreachable!("the messenger reads no state")
    }

    async fn watch(&self, _: ProcessId, _: Option<u64>) -> Answer<u64> {
        unreachable!("the messenger does not watch")
    }
}

#[async_trait]
impl Permanent for World {
    async fn append(&self, items: Vec<DataItem>, _: Class) -> Answer<()> {
        let hang = self.before("append", None).await?;
        self.keep(items);
        done(hang, Ok(())).await
    }

    async fn fetch(&self, id: ItemId) -> Answer<Stored> {
        let state = self.state.lock().unwrap();
        let item = state.weave.iter().find(|item| item.id() == id).cloned();
        item.map(Stored::Item)
            .ok_or_else(|| Refusal::not_found("not-found", "no such item"))
    }

    async fn find(&self, query: Query) -> Answer<Hits> {
        self.before("find", None).await?;
        assert!(
            query.ascending && query.first <= 100,
            "the messenger reads oldest first, in pages"
        );
        let state = self.state.lock().unwrap();
        let has = |item: &DataItem, filter: &TagFilter| {
            item.tag(&filter.name)
                .is_some_and(|value| filter.values.iter().any(|wanted| wanted == value))
        };
        let from: usize = query
            .after
            .map_or(0, |cursor| cursor.parse::<usize>().unwrap() + 1);
        let fits = |item: &DataItem| {
            (query.owners.is_empty() || query.owners.contains(&item.owner_address()))
                && query.tags.iter().all(|filter| has(item, filter))
        };
        let mut found = state
            .weave
            .iter()
            .enumerate()
            .skip(from)
            .filter(|(_, item)| fits(item));
        // Pages of two, so that paging is put to use.
        let page = found.by_ref().take(query.first.min(2));
        let hit = |(at, item): (usize, &DataItem)| Hit {
            cursor: at.to_string(),
            block_height: 1,
            stored: Stored::Item(item.clone()),
        };
        let hits = page.map(hit).collect();
        Ok(Hits {
            hits,
            has_next_page: found.next().is_some(),
        })
    }
}
