//! Where things stand: (process, slot) to positions in the log, and (process, id) to a slot.
//!
//! Derived: `cache/su.redb` is built from the log alone and may be deleted. Not here: the log, and
//! any decision. What is not on disk yet lies in memory, in two layers: one that grows and one that
//! a thread writes out. The invariant: a [`View`] sees every applied entry, exactly once flushed or
//! not; slots of a process are gapless.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use spec::contract::Tick;
use spec::{Address, ItemId, ProcessId};
use weave::Position;

use crate::clock::{Past, Turns, later};
use crate::config::Config;
use crate::error::{Error, Result};

/// Runs of rows: (process, first slot) to [`Row`]s back to back.
const ROWS: TableDefinition<'_, (&[u8; 32], u64), &[u8]> = TableDefinition::new("rows");
/// [`Key`] to slot.
const PLACES: TableDefinition<'_, u128, u64> = TableDefinition::new("places");
/// Of processes that were turned permanent: how far. The slot copied next, times two; one more if done.
const STAGES: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("stages");
/// Cursor and past.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Version of the file; another one is deleted and rebuilt.
const FORMAT: u64 = 2;
/// Every so many flushes one is made durable; a crash replays the log from there.
const DURABLE_EVERY: u64 = 8;
/// Times the flush bound that may lie in memory before the writer waits for the disk.
const BACKLOG: usize = 4;

/// What stands at a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Where the message is; `None` if it lives elsewhere.
    pub message: Option<Position>,
    /// Where the assignment is.
    pub assignment: Position,
    /// The assignment's timestamp, in ms.
    pub timestamp_ms: u64,
}

/// Length of a row on disk.
const ROW_LEN: usize = 24;
/// On disk: no message here. No position has this number, it would be the log's last byte ever.
const ELSEWHERE: u64 = u64::MAX;

impl Row {
    fn encode(&self) -> [u8; ROW_LEN] {
        let message = self.message.map_or(ELSEWHERE, Position::number);
        assert!(
            self.message.is_none() || message != ELSEWHERE,
            "the last number means nothing here"
        );
        let mut bytes = [0; ROW_LEN];
        let numbers = [message, self.assignment.number(), self.timestamp_ms];
        for (field, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Row {
        let number = |at: usize| {
            u64::from_le_bytes(
                bytes[at..at + 8]
                    .try_into()
                    .expect("a row has three times 8 bytes"),
            )
        };
        Row {
            message: Some(number(0))
                .filter(|n| *n != ELSEWHERE)
                .map(Position::from_number),
            assignment: Position::from_number(number(8)),
            timestamp_ms: number(16),
        }
    }
}

/// Something known in one process, hashed: an item id, or what a pushed message is known again by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u128);

impl Key {
    /// Of a message or an assignment.
    pub fn of_id(process: ProcessId, id: ItemId) -> Key {
        Key::hash(b"id", &[process.bytes(), id.bytes()])
    }

    /// Of a pushed message: within one signer, so that nobody can occupy another's place.
    pub fn of_push(process: ProcessId, signer: Address, hash: &spec::deep_hash::DeepHash) -> Key {
        Key::hash(b"push", &[process.bytes(), signer.bytes(), hash])
    }

    fn hash(domain: &[u8], parts: &[&[u8]]) -> Key {
        let mut context = Vec::with_capacity(128);
        context.extend_from_slice(domain);
        parts.iter().for_each(|part| context.extend_from_slice(part));
        let digest = spec::item::item_id(&context);
        let (key, _) = digest.bytes().split_first_chunk().expect("16 of 32 bytes");
        Key(u128::from_be_bytes(*key))
    }
}

/// One assignment in its place.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// Whose log.
    pub process: ProcessId,
    /// Which place.
    pub slot: u64,
    /// What stands there.
    pub row: Row,
    /// When.
    pub tick: Tick,
    /// The keys of the subject and of the assignment.
    pub ids: [Key; 2],
    /// The key of a pushed message.
    pub pushed: Option<Key>,
    /// Whether the message turns its process permanent.
    pub widens: bool,
}

/// How far a process that was local has come on its way into the permanent class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stage {
    /// Slots before this one are copied.
    pub copied: u64,
    /// Whether all later ones are permanent from the start.
    pub is_done: bool,
}

impl Stage {
    fn encode(self) -> u64 {
        (self.copied << 1) | u64::from(self.is_done)
    }

    fn decode(number: u64) -> Stage {
        Stage {
            copied: number >> 1,
            is_done: number & 1 == 1,
        }
    }

    /// What is known after both: neither goes back.
    fn later(self, other: Stage) -> Stage {
        Stage {
            copied: self.copied.max(other.copied),
            is_done: self.is_done || other.is_done,
        }
    }
}

/// What else the log says beside assignments.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// A lease on ticks.
    pub lease: Option<u64>,
    /// Decisions about scheduling.
    pub turns: Turns,
    /// Processes on their way into the permanent class.
    pub stages: Vec<(ProcessId, Stage)>,
}

/// Consecutive rows of one process.
#[derive(Default)]
struct Run {
    first: u64,
    rows: Vec<Row>,
}

/// Entries that are not on disk yet.
#[derive(Default)]
struct Layer {
    runs: HashMap<ProcessId, Run>,
    places: BTreeMap<u128, u64>,
    stages: HashMap<ProcessId, Stage>,
    count: usize,
    cursor: Option<Position>,
    past: Past,
}

impl Layer {
    /// An empty layer that goes on after `before`.
    fn after(before: &Layer) -> Layer {
        Layer {
            cursor: before.cursor,
            past: before.past,
            ..Layer::default()
        }
    }

    fn push(&mut self, placed: &Placed) -> Result<()> {
        let run = self.runs.entry(placed.process).or_default();
        if run.rows.is_empty() {
            run.first = placed.slot;
        }
        if run.first + run.rows.len() as u64 != placed.slot {
            let why = format!(
                "slot {} does not follow slot {}",
                placed.slot,
                run.first + run.rows.len() as u64 - 1
            );
            return Err(Error::corrupt(format!("process {}", placed.process), why));
        }
        run.rows.push(placed.row);
        let keys = placed.ids.iter().chain(&placed.pushed);
        self.places.extend(keys.map(|key| (key.0, placed.slot)));
        if placed.widens {
            // Unless it is known already: then this says nothing new.
            self.stages.entry(placed.process).or_default();
        }
        self.past.highest = later(self.past.highest, placed.tick);
        assert!(
            placed.row.timestamp_ms <= self.past.highest.timestamp_ms,
            "no row is later than the past"
        );
        self.count += 1;
        Ok(())
    }
}

/// The two layers in memory.
struct Layers {
    growing: Layer,
    flushing: Option<Arc<Layer>>,
}

/// The index of all processes.
pub struct Index {
    database: Arc<Database>,
    layers: RwLock<Layers>,
    flusher: Mutex<Option<Flusher>>,
    shared: Arc<Flushed>,
    unflushed_max: usize,
}

/// The thread that writes layers out.
struct Flusher {
    work: SyncSender<Arc<Layer>>,
    thread: JoinHandle<()>,
}

/// What the flushing thread tells.
#[derive(Default)]
struct Flushed {
    idle: Mutex<FlushState>,
    changed: Condvar,
    failed: AtomicBool,
}

#[derive(Default)]
struct FlushState {
    busy: bool,
    error: Option<Error>,
}

impl Index {
    /// Opens the index, an empty one if the file is missing, unreadable or of another version.
    pub fn open(path: &Path, config: &Config) -> Result<Index> {
        let database = open_or_reset(path, config.index_cache_bytes)?;
        let growing = read_meta(&database)?;
        let database = Arc::new(database);
        let shared = Arc::new(Flushed::default());
        let (work, queue) = sync_channel(1);
        let (target, report) = (database.clone(), shared.clone());
        let thread = std::thread::Builder::new().name("su-index".into());
        let thread = thread.spawn(move || flush_all(&target, &queue, &report));
        let thread = thread.map_err(|error| Error::Thread(error.to_string().into()))?;
        Ok(Index {
            database,
            layers: RwLock::new(Layers {
                growing,
                flushing: None,
            }),
            flusher: Mutex::new(Some(Flusher { work, thread })),
            shared,
            unflushed_max: config.unflushed_max,
        })
    }

    /// The last record of the log that is reflected here.
    pub fn cursor(&self) -> Option<Position> {
        self.read().growing.cursor
    }

    /// What the log says about time so far.
    pub fn past(&self) -> Past {
        self.read().growing.past
    }

    /// Takes in assignments that are durable, and all the log up to `cursor`.
    ///
    /// # Errors
    /// A slot that does not follow the one before; the log is broken then.
    pub fn apply(&self, placed: &[Placed], change: &Change, cursor: Position) -> Result<()> {
        let mut layers = self.layers.write().expect("no holder of this lock panics");
        assert!(
            layers.growing.cursor.is_none_or(|before| before < cursor),
            "the cursor moves forward"
        );
        for one in placed {
            layers.growing.push(one)?;
        }
        for (process, stage) in &change.stages {
            let known = layers.growing.stages.entry(*process).or_default();
            *known = known.later(*stage);
        }
        let past = &mut layers.growing.past;
        past.leased_until_ms = past.leased_until_ms.max(change.lease.unwrap_or(0));
        past.turns = past.turns.later(change.turns);
        layers.growing.cursor = Some(cursor);
        Ok(())
    }

    /// Moves what lies in memory towards the disk. Waits only when the disk is far behind.
    ///
    /// # Errors
    /// If an earlier flush failed; then nothing more may be scheduled.
    pub fn maintain(&self) -> Result<()> {
        let count = self.read().growing.count;
        if count < self.unflushed_max {
            return Ok(());
        }
        let mut state = self.shared.idle.lock().expect("no holder of this lock panics");
        while state.busy && count >= self.unflushed_max * BACKLOG {
            state = self
                .shared
                .changed
                .wait(state)
                .expect("no holder of this lock panics");
        }
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        if state.busy {
            return Ok(());
        }
        state.busy = true;
        drop(state);
        let layer = self.rotate();
        let flusher = self.flusher.lock().expect("no holder of this lock panics");
        let sent = flusher.as_ref().map(|flusher| flusher.work.send(layer));
        sent.ok_or(Error::Closed)?
            .map_err(|_| Error::index("its thread has stopped"))
    }

    /// The growing layer becomes the flushing one. The one before is on disk by now.
    fn rotate(&self) -> Arc<Layer> {
        let mut layers = self.layers.write().expect("no holder of this lock panics");
        assert!(
            layers.flushing.is_none() || layers.growing.cursor.is_some(),
            "layers follow each other"
        );
        let next = Layer::after(&layers.growing);
        let full = Arc::new(std::mem::replace(&mut layers.growing, next));
        layers.flushing = Some(full.clone());
        full
    }

    /// Writes everything to disk, durably, and stops the thread.
    pub fn close(&self) -> Result<()> {
        let flusher = self.flusher.lock().expect("no holder of this lock panics").take();
        let Some(Flusher { work, thread }) = flusher else {
            return Ok(());
        };
        drop(work);
        thread.join().map_err(|_| Error::index("its thread panicked"))?;
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(Error::index("an earlier flush failed"));
        }
        let rest = self.rotate();
        flush(&self.database, &rest, Durability::Immediate)
    }

    /// A consistent look at everything applied so far. Holds a lock: drop it before an append.
    pub fn view(&self) -> Result<View<'_>> {
        // The lock comes first: what a flush drops from memory later is in the snapshot or still
        // in memory.
        let layers = self.read();
        let snapshot = self.database.begin_read().map_err(Error::index)?;
        let rows = snapshot.open_table(ROWS).map_err(Error::index)?;
        let places = snapshot.open_table(PLACES).map_err(Error::index)?;
        let stages = snapshot.open_table(STAGES).map_err(Error::index)?;
        Ok(View {
            layers,
            rows,
            places,
            stages,
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().expect("no holder of this lock panics")
    }
}

/// The index at one moment.
pub struct View<'a> {
    layers: RwLockReadGuard<'a, Layers>,
    rows: ReadOnlyTable<(&'static [u8; 32], u64), &'static [u8]>,
    places: ReadOnlyTable<u128, u64>,
    stages: ReadOnlyTable<&'static [u8; 32], u64>,
}

impl View<'_> {
    fn memory(&self) -> impl Iterator<Item = &Layer> {
        [Some(&self.layers.growing), self.layers.flushing.as_deref()]
            .into_iter()
            .flatten()
    }

    /// The slot of something known.
    pub fn place(&self, key: Key) -> Result<Option<u64>> {
        if let Some(slot) = self.memory().find_map(|layer| layer.places.get(&key.0)) {
            return Ok(Some(*slot));
        }
        let found = self.places.get(key.0).map_err(Error::index)?;
        Ok(found.map(|slot| slot.value()))
    }

    /// How far a process that was turned permanent has come; `None` if it never was.
    pub fn stage(&self, process: ProcessId) -> Result<Option<Stage>> {
        let known = self
            .memory()
            .filter_map(|layer| layer.stages.get(&process).copied());
        let found = self.stages.get(process.bytes()).map_err(Error::index)?;
        let found = found.map(|stage| Stage::decode(stage.value()));
        Ok(known.chain(found).reduce(Stage::later))
    }

    /// The processes that are on their way into the permanent class and have not arrived.
    pub fn widening(&self) -> Result<Vec<ProcessId>> {
        let mut found = BTreeMap::new();
        for entry in self.stages.iter().map_err(Error::index)? {
            let (process, stage) = entry.map_err(Error::index)?;
            found.insert(ProcessId(*process.value()), Stage::decode(stage.value()));
        }
        for (process, stage) in self.memory().flat_map(|layer| &layer.stages) {
            let known = found.entry(*process).or_default();
            *known = known.later(*stage);
        }
        let on_the_way = found.into_iter().filter(|(_, stage)| !stage.is_done);
        Ok(on_the_way.map(|(process, _)| process).collect())
    }

    /// All processes, each with its last slot. Walks the whole index.
    pub fn processes(&self) -> Result<BTreeMap<ProcessId, u64>> {
        let mut found = BTreeMap::new();
        let mut next = Some([0; 32]);
        while let Some(from) = next {
            let Some(row) = self.rows.range((&from, 0)..).map_err(Error::index)?.next() else {
                break;
            };
            let (key, _) = row.map_err(Error::index)?;
            let process = ProcessId(*key.value().0);
            found.insert(process, 0);
            next = successor(process.0);
        }
        for layer in self.memory() {
            found.extend(layer.runs.keys().map(|process| (*process, 0)));
        }
        for (process, last) in &mut found {
            *last = self.last_slot(*process)?.expect("it has a row");
        }
        Ok(found)
    }

    /// The last slot of a process; `None` if there is no such process.
    pub fn last_slot(&self, process: ProcessId) -> Result<Option<u64>> {
        for layer in self.memory() {
            if let Some(run) = layer.runs.get(&process) {
                return Ok(Some(run.first + run.rows.len() as u64 - 1));
            }
        }
        let run = self.run_on_disk(process, u64::MAX, |first, bytes| {
            first + (bytes.len() / ROW_LEN) as u64 - 1
        })?;
        Ok(run)
    }

    /// At most `count` rows from a slot on; empty if the slot does not exist.
    pub fn rows(&self, process: ProcessId, slot: u64, count: usize) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        while rows.len() < count {
            let before = rows.len();
            self.extend(&mut rows, process, slot + before as u64, count - before)?;
            if rows.len() == before {
                break;
            }
        }
        Ok(rows)
    }

    /// The row of a slot.
    pub fn row(&self, process: ProcessId, slot: u64) -> Result<Option<Row>> {
        Ok(self.rows(process, slot, 1)?.pop())
    }

    /// Adds rows from the run that holds a slot.
    fn extend(&self, out: &mut Vec<Row>, process: ProcessId, slot: u64, count: usize) -> Result<()> {
        for layer in self.memory() {
            let run = layer.runs.get(&process).filter(|run| run.first <= slot);
            if let Some(run) = run {
                out.extend(run.rows.iter().skip((slot - run.first) as usize).take(count));
                return Ok(());
            }
        }
        self.run_on_disk(process, slot, |first, bytes| {
            let rows = bytes.chunks_exact(ROW_LEN).skip((slot - first) as usize);
            out.extend(rows.take(count).map(Row::decode));
        })?;
        Ok(())
    }

    /// The run on disk that begins at or before a slot.
    fn run_on_disk<T>(
        &self,
        process: ProcessId,
        slot: u64,
        read: impl FnOnce(u64, &[u8]) -> T,
    ) -> Result<Option<T>> {
        let span = (process.bytes(), 0)..=(process.bytes(), slot);
        let Some(found) = self.rows.range(span).map_err(Error::index)?.next_back() else {
            return Ok(None);
        };
        let (key, bytes) = found.map_err(Error::index)?;
        let (_, first) = key.value();
        Ok(Some(read(first, bytes.value())))
    }

    /// The first slot whose timestamp is later than a moment in ms; one past the end if none is.
    pub fn first_after(&self, process: ProcessId, moment_ms: u64) -> Result<u64> {
        let (mut low, mut high) = (0, self.last_slot(process)?.map_or(0, |last| last + 1));
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.row(process, middle)?;
            let row = row.ok_or_else(|| Error::index(format!("slot {middle} of {process} is missing")))?;
            match row.timestamp_ms > moment_ms {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Ok(low)
    }
}

/// The next number of 256 bits.
fn successor(mut number: [u8; 32]) -> Option<[u8; 32]> {
    for byte in number.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(number);
        }
    }
    None
}

fn open_or_reset(path: &Path, cache_bytes: usize) -> Result<Database> {
    let open = || -> Result<Database> {
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create(path)
            .map_err(Error::index)?;
        prepare(&database)?;
        Ok(database)
    };
    open().or_else(|error| {
        tracing::warn!("{} is rebuilt: {error}", path.display());
        std::fs::remove_file(path).map_err(Error::index)?;
        open()
    })
}

/// Makes the tables, and checks the version.
fn prepare(database: &Database) -> Result<()> {
    let transaction = database.begin_write().map_err(Error::index)?;
    let found = {
        transaction.open_table(ROWS).map_err(Error::index)?;
        transaction.open_table(PLACES).map_err(Error::index)?;
        transaction.open_table(STAGES).map_err(Error::index)?;
        let mut meta = transaction.open_table(META).map_err(Error::index)?;
        let found = meta
            .get("format")
            .map_err(Error::index)?
            .map(|format| format.value());
        meta.insert("format", FORMAT).map_err(Error::index)?;
        found
    };
    match found {
        None | Some(FORMAT) => transaction.commit().map_err(Error::index),
        Some(other) => Err(Error::index(format!(
            "its format is {other}, this program's is {FORMAT}"
        ))),
    }
}

fn read_meta(database: &Database) -> Result<Layer> {
    let snapshot = database.begin_read().map_err(Error::index)?;
    let meta = snapshot.open_table(META).map_err(Error::index)?;
    let number =
        |name| -> Result<Option<u64>> { Ok(meta.get(name).map_err(Error::index)?.map(|n| n.value())) };
    let highest = Tick {
        timestamp_ms: number("highest_ms")?.unwrap_or(0),
        block_height: number("highest_block")?.unwrap_or(0),
    };
    let past = Past {
        highest,
        leased_until_ms: number("leased_until_ms")?.unwrap_or(0),
        turns: Turns {
            suspended: number("suspended")?.map(Position::from_number),
            resumed: number("resumed")?.map(Position::from_number),
            succeeded: number("succeeded")?.map(Position::from_number),
        },
    };
    let cursor = number("cursor")?.map(Position::from_number);
    Ok(Layer {
        cursor,
        past,
        ..Layer::default()
    })
}

/// The flushing thread: one layer after another.
fn flush_all(database: &Database, queue: &Receiver<Arc<Layer>>, report: &Flushed) {
    for (count, layer) in (1u64..).zip(queue.iter()) {
        let durability = match count % DURABLE_EVERY {
            0 => Durability::Immediate,
            _ => Durability::None,
        };
        let done = flush(database, &layer, durability);
        let mut state = report.idle.lock().expect("no holder of this lock panics");
        state.busy = false;
        if let Err(error) = done {
            tracing::error!("{error}");
            report.failed.store(true, Ordering::Release);
            state.error = Some(error);
        }
        report.changed.notify_all();
    }
}

/// Writes one layer in one transaction.
fn flush(database: &Database, layer: &Layer, durability: Durability) -> Result<()> {
    let mut transaction = database.begin_write().map_err(Error::index)?;
    transaction.set_durability(durability).map_err(Error::index)?;
    {
        let mut rows = transaction.open_table(ROWS).map_err(Error::index)?;
        for (process, run) in sorted(&layer.runs) {
            let bytes: Vec<u8> = run.rows.iter().flat_map(Row::encode).collect();
            rows.insert((process.bytes(), run.first), &bytes[..])
                .map_err(Error::index)?;
        }
        let mut places = transaction.open_table(PLACES).map_err(Error::index)?;
        for (key, slot) in &layer.places {
            places.insert(key, slot).map_err(Error::index)?;
        }
        let mut stages = transaction.open_table(STAGES).map_err(Error::index)?;
        for (process, stage) in &layer.stages {
            let known = stages.get(process.bytes()).map_err(Error::index)?;
            let known = known.map_or(Stage::default(), |known| Stage::decode(known.value()));
            stages
                .insert(process.bytes(), known.later(*stage).encode())
                .map_err(Error::index)?;
        }
        let mut meta = transaction.open_table(META).map_err(Error::index)?;
        let turns = layer.past.turns;
        let numbers = [
            ("cursor", layer.cursor.map(Position::number)),
            ("highest_ms", Some(layer.past.highest.timestamp_ms)),
            ("highest_block", Some(layer.past.highest.block_height)),
            ("leased_until_ms", Some(layer.past.leased_until_ms)),
            ("suspended", turns.suspended.map(Position::number)),
            ("resumed", turns.resumed.map(Position::number)),
            ("succeeded", turns.succeeded.map(Position::number)),
        ];
        for (name, number) in numbers.into_iter().filter_map(|(name, n)| Some((name, n?))) {
            meta.insert(name, number).map_err(Error::index)?;
        }
    }
    transaction.commit().map_err(Error::index)
}

fn sorted(runs: &HashMap<ProcessId, Run>) -> Vec<(&ProcessId, &Run)> {
    let mut runs: Vec<_> = runs.iter().collect();
    runs.sort_unstable_by_key(|(process, _)| **process);
    runs
}
