//! The weave: log, index and chain of one data folder, as one.
//!
//! Not here: HTTP. The invariant: one weave per data folder; what it answers is what the log holds,
//! visible from the moment it is durable.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use spec::contract::{Answer, Class, Hit, Hits, Permanent, Query, Registered, Stored};
use spec::{Address, DataItem, ItemId, Refusal, Tags};

use crate::ahead::Ahead;
use crate::base_layer::Shelf;
use crate::chain::Chain;
use crate::config::Config;
use crate::error::{At, Error, Result};
use crate::facts;
use crate::find::Finder;
use crate::frame::payload_len;
use crate::index::{Batch, Index};
use crate::log::{Clock, Log, system_clock};
use crate::recent::{Recent, Work};
use crate::record::{Entry, Note, NoteKind, Piece, Position, Record};
use crate::registered;

/// Permanent storage of one data folder. Share it by `Arc`.
pub struct Weave {
    shared: Arc<Shared>,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

/// What tasks that read the disk take with them.
pub(crate) struct Shared {
    pub(crate) log: Arc<Log>,
    chain: Chain,
    recent: Arc<Recent>,
    index: Arc<Index>,
    failed: Arc<AtomicBool>,
    pub(crate) config: Config,
    pub(crate) shelf: Shelf,
    overlay: RwLock<Vec<DataItem>>,
    // Held as long as the log is open.
    _lock: std::fs::File,
}

/// What an id stands for.
#[derive(Debug, Clone)]
pub struct Found {
    /// What is held.
    pub stored: Stored,
    /// When it was appended, ms since 1970.
    pub time_ms: u64,
    /// The chain's height then.
    pub block_height: u64,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Number of the segment.
    pub segment: u64,
    /// Whether it may be uploaded.
    pub class: Class,
    /// When it was appended, ms since 1970.
    pub time_ms: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Weave {
    /// Opens a data folder, made if it is missing: takes its lock, repairs the log's tail, brings
    /// the index up to date.
    ///
    /// # Errors
    /// [`Error::Locked`] if another node uses the folder; whatever keeps the log from opening.
    pub fn open(config: Config, data: &Path) -> Result<Arc<Weave>> {
        Weave::open_with(config, data, system_clock())
    }

    /// As [`Weave::open`], with a clock.
    pub fn open_with(config: Config, data: &Path, clock: Clock) -> Result<Arc<Weave>> {
        let cache = data.join("cache");
        std::fs::create_dir_all(&cache).at(&cache, "create the folder")?;
        let lock = lock(data)?;
        let recent = Arc::new(Recent::new(&config));
        // While the index catches up, what the chain notes is not to be seen twice.
        let (is_open, seen) = (Arc::new(AtomicBool::new(false)), recent.clone());
        let is_ready = is_open.clone();
        let observer = move |entries: Vec<Entry>| {
            if is_ready.load(Ordering::Acquire) {
                seen.add(entries);
            }
        };
        let log = Log::open_with(
            &config,
            &data.join("log"),
            clock.clone(),
            Some(Box::new(observer)),
        )?;
        let chain = Chain::open(&log, config.chain_interval_ms, clock)?;
        let mark = log
            .segments()
            .first()
            .map_or(0, |segment| u64::from(segment.head().salt));
        let index = Index::open(
            &cache.join("weave.redb"),
            config.index_cache_bytes,
            mark,
            log.end(),
        )?;
        catch_up(&log, &index, config.index_flush_records)?;
        is_open.store(true, Ordering::Release);

        let (index, failed) = (Arc::new(index), Arc::new(AtomicBool::new(false)));
        let flusher = Flusher {
            index: index.clone(),
            recent: recent.clone(),
            failed: failed.clone(),
            sync_after: Duration::from_millis(config.index_sync_ms),
        };
        let thread = std::thread::Builder::new().name("weave-index".into());
        let thread = thread
            .spawn(move || flusher.run())
            .at(data, "start the index's thread")?;
        let shared = Shared {
            log: Arc::new(log),
            chain,
            recent,
            index,
            failed,
            config,
            shelf: Shelf::default(),
            overlay: RwLock::default(),
            _lock: lock,
        };
        shared.finish_unfolding()?;
        Ok(Arc::new(Weave {
            shared: Arc::new(shared),
            flusher: Mutex::new(Some(thread)),
        }))
    }

    /// The log; what is appended to it directly is found like all else.
    pub fn log(&self) -> &Arc<Log> {
        &self.shared.log
    }

    /// The chain that gives heights.
    pub fn chain(&self) -> &Chain {
        &self.shared.chain
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Answers these items as if they had been there since the genesis, without writing them: what a program
    /// brings along itself. What the log holds under an id wins. They are few: each question by id looks at all.
    ///
    /// # Errors
    /// If one does not verify; then none is taken.
    pub fn overlay(&self, items: Vec<DataItem>) -> Answer<()> {
        items.iter().try_for_each(DataItem::verify)?;
        let mut overlay = self
            .shared
            .overlay
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        overlay.extend(items);
        Ok(())
    }

    /// What an id stands for, with its time; `None` if nothing is held under it.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub async fn lookup(&self, id: ItemId) -> Answer<Option<Found>> {
        // Written moments ago: still in the system's memory.
        let found = match self.shared.recent.find(&id) {
            Some((_, true)) => self.shared.lookup(id)?,
            _ => self.blocking(move |shared| shared.lookup(id)).await?,
        };
        Ok(found.or_else(|| self.shared.brought_along(id)))
    }

    /// As [`Weave::lookup`], without the data of transactions, which may be large and in many pieces.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub async fn lookup_header(&self, id: ItemId) -> Answer<Option<Found>> {
        let found = self.blocking(move |shared| shared.lookup_head(id)).await?;
        Ok(found.or_else(|| self.shared.brought_along(id)))
    }

    /// In which segments items stand, and what they take there; `None` for what the log does not hold. Of an item that
    /// became permanent later and is held twice, `class` says which copy is meant.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub async fn segments_of(&self, ids: Vec<ItemId>, class: Class) -> Answer<Vec<Option<Held>>> {
        let held = move |shared: &Shared| ids.iter().map(|id| shared.held(id, class)).collect();
        self.blocking(held).await
    }

    /// Holds bytes under a published id on an operator's word. The id proves nothing about them.
    ///
    /// # Errors
    /// Refused if a signed item or other bytes are held under the id.
    pub async fn register(&self, id: ItemId, tags: Tags, data: Bytes, by: Address) -> Answer<()> {
        let new = Registered { id, by, tags, data };
        match self.lookup(id).await? {
            Some(found) if is_same(&found.stored, &new) => return Ok(()),
            Some(_) => return Err(taken(id)),
            None => {}
        }
        let note = Record::Note(registered::note(&new));
        self.shared.log.append(vec![note], Class::Local).await?;
        // Of two that came at once, the first one stays.
        match self.lookup(id).await? {
            Some(found) if is_same(&found.stored, &new) => Ok(()),
            _ => Err(taken(id)),
        }
    }

    /// Takes an item's data out of the log for good; the id still resolves and the rest still
    /// verifies. Answers whether an item of the id is held.
    ///
    /// # Errors
    /// Damage, or a failing disk.
    pub async fn withhold(&self, id: ItemId) -> Answer<bool> {
        self.blocking(move |shared| shared.withhold(id)).await
    }

    /// Makes what stands for these ids part of a class too: items as they are held (data that was
    /// withheld stays so), and what the program brought along. What is nowhere is left out.
    ///
    /// # Errors
    /// Damage, a failing disk, or a full queue.
    pub async fn keep(&self, ids: Vec<ItemId>, class: Class) -> Answer<()> {
        self.append_missing(class, move |shared| shared.missing_copies(&ids, class))
            .await
    }

    /// Appends an item that nobody else may ever make permanent. One that is held already stays what it is.
    ///
    /// # Errors
    /// As `append`.
    pub async fn append_kept_local(&self, item: DataItem) -> Answer<()> {
        let mark = kept_local(item.id());
        let choose = move |shared: &Shared| {
            let mut pieces = shared.new_pieces(vec![item], Class::Local)?;
            let is_new = !pieces.is_empty();
            pieces.extend(is_new.then_some(Piece::New(Record::Note(mark))));
            Ok(pieces)
        };
        self.append_missing(Class::Local, choose).await
    }

    /// Whether an item is in no permanent segment: `Some` then, and whether who brought it wanted that. `None` also for
    /// what is not held.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub async fn local_only(&self, id: ItemId) -> Answer<Option<bool>> {
        self.blocking(move |shared| shared.local_only(&id)).await
    }

    /// Appends what `choose` finds missing; what is read for it holds nobody up.
    async fn append_missing(
        &self,
        class: Class,
        choose: impl FnOnce(&Shared) -> Result<Vec<Piece>> + Send + 'static,
    ) -> Answer<()> {
        let begin = move |shared: &Shared| Ok(shared.log.append_pieces(choose(shared)?, class));
        self.blocking(begin).await?.await?;
        Ok(())
    }

    /// Runs what may read the disk where it holds nobody up.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        let done =
            done.map_err(|error| Refusal::internal(format!("a task of the weave stopped: {error}")))?;
        Ok(done?)
    }

    /// Makes the index durable and stops its thread. The log needs no closing: what it
    /// acknowledged is durable.
    pub async fn close(&self) {
        if let Some(thread) = self.stop_flusher() {
            // A thread that panicked has said so; the index is rebuilt from the log then.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn stop_flusher(&self) -> Option<JoinHandle<()>> {
        self.shared.recent.close();
        self.flusher.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until the index holds everything appended so far. For tests and measurements.
    pub fn settle(&self) {
        self.shared.recent.settle();
    }
}

impl Shared {
    pub(crate) fn finder(&self) -> Result<Finder<'_>> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Index("it could not be written, see the node's log".into()));
        }
        Ok(Finder {
            log: &self.log,
            recent: &self.recent,
            index: &self.index,
            chain: &self.chain,
            values_max: self.config.query_values_max,
            steps_max: self.config.query_steps_max,
            bytes_max: self.config.query_bytes_max,
        })
    }

    pub(crate) fn lookup(&self, id: ItemId) -> Result<Option<Found>> {
        let Some(mut found) = self.lookup_head(id)? else {
            return Ok(None);
        };
        found.stored = self.completed(found.stored)?;
        Ok(Some(found))
    }

    /// As [`Shared::lookup`], without data that came in chunks.
    pub(crate) fn lookup_head(&self, id: ItemId) -> Result<Option<Found>> {
        let entry = match self.recent.find(&id) {
            Some((position, true)) => Some(self.log.entry(position)?),
            _ => self.finder()?.id(&id)?,
        };
        let Some(entry) = entry else { return Ok(None) };
        let (time_ms, block_height) = (entry.time_ms, self.chain.height_at(entry.time_ms));
        let Some(stored) = facts::stored(entry.record) else {
            return Ok(None);
        };
        Ok(Some(Found {
            stored,
            time_ms,
            block_height,
        }))
    }

    fn held(&self, id: &ItemId, class: Class) -> Result<Option<Held>> {
        let first = match self.recent.find(id) {
            Some((position, true)) => Some(self.log.entry(position)?),
            _ => self.finder()?.id(id)?,
        };
        let entry = match &first {
            Some(entry) if class == Class::Permanent && entry.class == Class::Local => {
                self.permanent_copy(id)?.or(first)
            }
            _ => first,
        };
        let held = entry.and_then(|entry| {
            Some(Held {
                segment: self.log.segment_of(entry.position)?,
                class: entry.class,
                time_ms: entry.time_ms,
                bytes: payload_len(&entry.record),
            })
        });
        Ok(held)
    }

    /// The item of an id in the permanent class, if it is there.
    fn permanent_copy(&self, id: &ItemId) -> Result<Option<Entry>> {
        for position in self.finder()?.positions(id)? {
            let entry = self.log.entry(position)?;
            if entry.class == Class::Permanent && entry.record.note().is_none() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn brought_along(&self, id: ItemId) -> Option<Found> {
        let overlay = self.overlay.read().unwrap_or_else(PoisonError::into_inner);
        let item = overlay.iter().find(|item| item.id() == id)?;
        Some(Found {
            stored: Stored::Item(item.clone()),
            time_ms: self.chain.start_of(1),
            block_height: 1,
        })
    }

    /// A page of hits; what was brought along stands at the genesis, before everything else.
    fn page(&self, query: &Query) -> Result<Hits> {
        let mut page = self.finder()?.page(query)?;
        let early = query.height_min.is_none_or(|height| height <= 1);
        let is_asked = early && !query.ids.is_empty() && query.after.is_none();
        if !is_asked || page.has_next_page {
            return Ok(page);
        }
        for id in &query.ids {
            let is_hit = page.hits.iter().any(|hit| hit.stored.id() == *id);
            let Some(found) = self.brought_along(*id).filter(|_| !is_hit) else {
                continue;
            };
            let record = found.stored.item().cloned().map(Record::Item);
            let matches = record.is_some_and(|record| {
                facts::Facts::of(&record).is_some_and(|facts| facts.match_query(query))
            });
            if matches && page.hits.len() < query.first {
                let place = if query.ascending { 0 } else { page.hits.len() };
                page.hits.insert(place, genesis_hit(found));
            }
        }
        Ok(page)
    }

    fn withhold(&self, id: ItemId) -> Result<bool> {
        let mut is_held = false;
        loop {
            let mut is_whole = false;
            for position in self.finder()?.positions(&id)? {
                let record = self.log.read(position)?;
                is_held |= record.note().is_none();
                if record.item().is_some() {
                    self.log.withhold(position)?;
                    is_whole = true;
                }
            }
            // A copy that was written meanwhile is found the next time.
            if !is_whole {
                break;
            }
        }
        // The records kept for the index hold the data, too.
        self.recent.settle();
        Ok(is_held)
    }

    /// As records for the local class, into which nothing is ever copied.
    pub(crate) fn new_records(&self, items: Vec<DataItem>) -> Result<Vec<Record>> {
        let pieces = self.new_pieces(items, Class::Local)?.into_iter();
        let new = pieces.filter_map(|piece| match piece {
            Piece::New(record) => Some(record),
            Piece::Copy(_) => None,
        });
        Ok(new.collect())
    }

    /// The items that are not held yet, and those that are held in the other class only: a permanent
    /// item is local, too, but a local one is not permanent.
    fn new_pieces(&self, items: Vec<DataItem>, class: Class) -> Result<Vec<Piece>> {
        let mut new = Vec::with_capacity(items.len());
        let mut seen = HashSet::with_capacity(items.len());
        for item in items {
            item.verify().map_err(|error| Error::Refused(error.into()))?;
            if !seen.insert(item.id()) {
                continue;
            }
            let held = self.lookup(item.id())?;
            match held.filter(|found| !matches!(found.stored, Stored::Registered(_))) {
                None => new.push(Piece::New(Record::Item(item))),
                Some(_) if class == Class::Permanent => new.extend(self.missing_copy(&item.id())?),
                Some(_) => {}
            }
        }
        Ok(new)
    }

    fn local_only(&self, id: &ItemId) -> Result<Option<bool>> {
        let Some(Piece::Copy(at)) = self.missing_copy(id)? else {
            return Ok(None);
        };
        let next = self.log.entries(Some(at)).next().transpose()?;
        Ok(Some(next.is_some_and(|entry| {
            entry.record.note() == Some(&kept_local(*id))
        })))
    }

    /// What has to be appended for these ids to be in a class.
    fn missing_copies(&self, ids: &[ItemId], class: Class) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut seen = HashSet::with_capacity(ids.len());
        for id in ids.iter().filter(|id| seen.insert(**id)) {
            match self.lookup(*id)? {
                Some(_) if class == Class::Permanent => pieces.extend(self.missing_copy(id)?),
                Some(_) => {}
                None => {
                    let brought = self
                        .brought_along(*id)
                        .and_then(|found| found.stored.item().cloned());
                    pieces.extend(brought.map(|item| Piece::New(Record::Item(item))));
                }
            }
        }
        Ok(pieces)
    }

    /// The copy of what is held under an id that the permanent class lacks, if it does. Bytes that are
    /// only registered are a note; where an item of the id is held, that is what counts.
    fn missing_copy(&self, id: &ItemId) -> Result<Option<Piece>> {
        let (mut item, mut note, mut has_note) = (None, None, false);
        for position in self.finder()?.positions(id)? {
            let entry = self.log.entry(position)?;
            match (entry.record.note().is_some(), entry.class) {
                (false, Class::Permanent) => return Ok(None),
                (false, Class::Local) => item = item.or(Some(position)),
                (true, Class::Permanent) => has_note = true,
                (true, Class::Local) => note = note.or(Some(position)),
            }
        }
        let missing = item.or(note.filter(|_| !has_note));
        Ok(missing.map(Piece::Copy))
    }
}

impl Drop for Weave {
    fn drop(&mut self) {
        if let Some(thread) = self.stop_flusher() {
            // As in `close`.
            let _ = thread.join();
        }
    }
}

/// A hit that is at no position: whoever goes on from it goes on from the log's first record.
fn genesis_hit(found: Found) -> Hit {
    Hit {
        cursor: crate::find::cursor(Position(0)),
        block_height: found.block_height,
        stored: found.stored,
    }
}

/// The note behind an item that must not leave this machine.
fn kept_local(id: ItemId) -> Note {
    let mut body = vec![1];
    body.extend_from_slice(id.bytes());
    Note {
        kind: NoteKind::KEPT_LOCAL,
        body: body.into(),
    }
}

fn is_same(stored: &Stored, new: &Registered) -> bool {
    matches!(stored, Stored::Registered(held) if held.data == new.data && held.tags == new.tags)
}

fn taken(id: ItemId) -> Refusal {
    let text = format!("{id} stands for other bytes here; nothing can be registered under it");
    Refusal::invalid("id-taken", text)
}

/// Takes a data folder's lock.
pub(crate) fn lock(data: &Path) -> Result<std::fs::File> {
    let path = data.join("lock");
    let file = std::fs::File::create(&path).at(&path, "open the lock")?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => Error::Locked(data.into()),
        std::fs::TryLockError::Error(source) => Error::Io {
            path,
            action: "take the lock",
            source: Arc::new(source),
        },
    })?;
    Ok(file)
}

/// Indexes what the log holds beyond the index's cursor, read on a thread of its own.
fn catch_up(log: &Log, index: &Index, batch: usize) -> Result<()> {
    let mut walk = log.entries(index.cursor()?);
    let read = std::iter::from_fn(move || {
        let entries: Result<Vec<Entry>> = walk.by_ref().take(batch).collect();
        let is_end = entries.as_ref().is_ok_and(Vec::is_empty);
        (!is_end).then(|| entries.map(|entries| Batch::of(entries.iter())))
    });
    let mut records = 0;
    for batch in Ahead::of(read, 1, 1)? {
        let batch = batch?;
        records += batch.records;
        index.put(batch)?;
        while index.merge()? {}
    }
    if records > 0 {
        index.sync()?;
        tracing::info!(records, "the index caught up with the log");
    }
    assert_eq!(index.cursor()?, log.end(), "the index holds the whole log");
    Ok(())
}

/// Moves what is recent into the index, on a thread of its own.
struct Flusher {
    index: Arc<Index>,
    recent: Arc<Recent>,
    failed: Arc<AtomicBool>,
    sync_after: Duration,
}

impl Flusher {
    fn run(self) {
        if let Err(error) = self.work() {
            tracing::error!(%error, "the index stopped; the log goes on, but nothing new is found until the node is restarted");
            self.failed.store(true, Ordering::Release);
            self.recent.fail();
        }
    }

    fn work(&self) -> Result<()> {
        let mut unsynced: Option<Instant> = None;
        loop {
            match self.recent.work(self.sync_after) {
                Work::Flush(generation) => {
                    let begun = Instant::now();
                    self.index.add(generation.entries())?;
                    self.recent.flushed();
                    while self.index.merge()? {}
                    metrics::histogram!("weave_index_flush_seconds").record(begun.elapsed().as_secs_f64());
                    unsynced.get_or_insert(begun);
                }
                Work::Idle => {}
                Work::Closed => return self.index.sync(),
            }
            if unsynced.is_some_and(|since| since.elapsed() >= self.sync_after) {
                self.index.sync()?;
                unsynced = None;
            }
        }
    }
}

#[async_trait]
impl Permanent for Weave {
    async fn append(&self, items: Vec<DataItem>, class: Class) -> Answer<()> {
        self.append_missing(class, move |shared| shared.new_pieces(items, class))
            .await
    }

    async fn fetch(&self, id: ItemId) -> Answer<Stored> {
        let missing = || Refusal::not_found("unknown-id", format!("nothing is held under {id}"));
        let found = self.lookup(id).await?;
        found.map(|found| found.stored).ok_or_else(missing)
    }

    async fn find(&self, query: Query) -> Answer<Hits> {
        self.blocking(move |shared| shared.page(&query)).await
    }
}
