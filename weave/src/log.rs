//! The log: append-only segments of verbatim items, and the order over all of them.
//!
//! Not here: what a record means, and finding one by anything but its position. The invariant: a
//! group whose append was answered is durable; after a crash each group is there whole or not at
//! all, and groups of one class keep the order in which they were handed in.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, Wake};
use std::thread::JoinHandle;

use spec::contract::Class;
use tokio::sync::oneshot;

use crate::ahead::Ahead;
use crate::config::Config;
use crate::error::{At, Error, Result};
use crate::frame::{self, FrameKind, SegmentHead};
use crate::record::{Entry, Piece, Position, Record};
use crate::scan::{self, Tail, Window};
use crate::segment::{self, Content, Segment, Span};
use crate::writer::{Active, Copies, Group, Job, Writer};

/// Tells the time, ms since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Sees every batch after it is durable and before it is acknowledged, in the log's order.
/// It runs on the writer's thread: hand off and return.
pub type Observer = Box<dyn FnMut(Vec<Entry>) + Send>;

/// The system's clock.
pub fn system_clock() -> Clock {
    let since = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Arc::new(move || since().map_or(0, |since| since.as_millis() as u64))
}

/// A stretch of the order and the file it lies in.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) span: Span,
    pub(crate) segment: Arc<Segment>,
}

/// A segment as a whole.
#[derive(Debug, Clone)]
pub struct Sealable {
    /// The file; another one after data in it was withheld.
    pub segment: Arc<Segment>,
    /// Whether its footer stands: nothing is added any more.
    pub is_sealed: bool,
    /// Positions it takes: its frames' bytes as they were appended, whatever was withheld since.
    pub bytes: u64,
    /// Items in it; `None` in one that was sealed before the log was opened.
    pub items: Option<u64>,
}

/// Where every position lies; shared by readers and the writer.
#[derive(Debug, Default)]
pub(crate) struct Map {
    /// Ascending and disjoint.
    pub(crate) extents: Vec<Extent>,
    /// By number.
    pub(crate) segments: BTreeMap<u64, Sealable>,
    pub(crate) spool: Spool,
    /// How often data was withheld since the log was opened.
    pub(crate) withheld: u64,
    pub(crate) end: Option<Position>,
}

impl Map {
    /// Adds what was written behind all else.
    pub(crate) fn push(&mut self, span: Span, items: u64, segment: &Arc<Segment>) {
        let known = self.known(segment);
        assert!(!known.is_sealed, "nothing is added behind a footer");
        known.bytes += span.len;
        known.items = known.items.map(|before| before + items);
        self.spool.written(segment.head(), span.len);
        if let Some(last) = self.extents.last_mut() {
            let end = last.span.logical + last.span.len;
            assert!(end <= span.logical, "positions only grow");
            let goes_on = end == span.logical && last.span.at + last.span.len == span.at;
            if goes_on && Arc::ptr_eq(&last.segment, segment) {
                last.span.len += span.len;
                return;
            }
        }
        let segment = segment.clone();
        self.extents.push(Extent { span, segment });
    }

    fn known(&mut self, segment: &Arc<Segment>) -> &mut Sealable {
        let new = || Sealable {
            segment: segment.clone(),
            is_sealed: false,
            bytes: 0,
            items: Some(0),
        };
        self.segments.entry(segment.head().number).or_insert_with(new)
    }

    /// A segment's footer stands.
    pub(crate) fn sealed(&mut self, number: u64) {
        // A segment that nothing was written to takes no position and is not known here.
        if let Some(known) = self.segments.get_mut(&number) {
            known.is_sealed = true;
        }
    }

    /// Puts a segment's new extents in the place of its old ones.
    pub(crate) fn replace(&mut self, segment: &Arc<Segment>, spans: &[Span]) {
        let number = segment.head().number;
        let known = self
            .segments
            .get_mut(&number)
            .expect("what is replaced was written");
        assert_eq!(
            spans.iter().map(|span| span.len).sum::<u64>(),
            known.bytes,
            "withholding moves no position"
        );
        known.segment = segment.clone();
        self.withheld += 1;
        self.extents
            .retain(|extent| extent.segment.head().number != number);
        self.extents.extend(spans.iter().map(|span| Extent {
            span: *span,
            segment: segment.clone(),
        }));
        self.extents.sort_unstable_by_key(|extent| extent.span.logical);
        let disjoint = |a: &Extent, b: &Extent| a.span.logical + a.span.len <= b.span.logical;
        assert!(
            self.extents.is_sorted_by(disjoint),
            "every position lies in one place"
        );
    }

    /// What to read, and where, for the record at a position.
    pub(crate) fn place(&self, at: Position) -> Result<(Arc<Segment>, u64)> {
        let extent = self.find(at).map(|index| &self.extents[index]);
        let extent = extent.ok_or(Error::NoRecord(at))?;
        Ok((
            extent.segment.clone(),
            extent.span.at + (at.0 - extent.span.logical),
        ))
    }

    /// Index of the extent that holds a position.
    fn find(&self, at: Position) -> Option<usize> {
        let after = self.extents.partition_point(|extent| extent.span.logical <= at.0);
        let index = after.checked_sub(1)?;
        let span = &self.extents[index].span;
        (at.0 < span.logical + span.len).then_some(index)
    }
}

/// The open log of one data folder. One per folder; share it by `Arc`.
///
/// Dropping it finishes what is queued and gives reserved disk space back.
pub struct Log {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    map: Arc<RwLock<Map>>,
    queued_bytes: Arc<AtomicU64>,
    config: Config,
}

/// The answer to an append, once it is durable: a future, or to be waited for.
#[must_use = "nothing is durable before this answers"]
pub struct Append(std::result::Result<oneshot::Receiver<Result<Vec<Position>>>, Error>);

impl Append {
    /// Waits, blocking the thread. Where async tasks run, `await` it instead.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn wait(mut self) -> Result<Vec<Position>> {
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut context) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

/// Wakes a thread that waits.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Future for Append {
    type Output = Result<Vec<Position>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or(Err(Error::Closed))),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl Log {
    /// Opens the log in `folder` (`DATA/log`), made if it is missing, and repairs a torn tail.
    ///
    /// # Errors
    /// Damage to what was acknowledged, a newer format, or the operating system's refusal.
    pub fn open(config: &Config, folder: &Path) -> Result<Log> {
        Log::open_with(config, folder, system_clock(), None)
    }

    /// As [`Log::open`], with a clock and somebody who sees each batch.
    pub fn open_with(
        config: &Config,
        folder: &Path,
        clock: Clock,
        observer: Option<Observer>,
    ) -> Result<Log> {
        std::fs::create_dir_all(folder).at(folder, "create the folder")?;
        let opened = Opened::read(folder)?;
        let map = Arc::new(RwLock::new(opened.map));
        let queued_bytes = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::new(config.clone(), folder.into(), clock, observer, map.clone());
        writer.resume(opened.contents, opened.active)?;
        let (jobs, queue) = sync_channel(config.queue_groups_max);
        let queued = queued_bytes.clone();
        let thread = std::thread::Builder::new().name("weave-log".into());
        let thread = thread
            .spawn(move || writer.run(&queue, &queued))
            .at(folder, "start the writer")?;
        Ok(Log {
            jobs: Some(jobs),
            thread: Some(thread),
            map,
            queued_bytes,
            config: config.clone(),
        })
    }

    /// Appends records as one group: after a crash all of them are there or none.
    ///
    /// Answers with their positions after one fdatasync, which all groups share that were queued
    /// meanwhile. Groups of one class are stored in the order of these calls. The records are the
    /// caller's to have verified. An empty group answers at once.
    ///
    /// # Errors
    /// [`Error::Busy`] if the queue is full, [`Error::Limit`] for a record or group too large,
    /// [`Error::Io`] if the batch could not be written (nothing of it is stored; the disk may be
    /// full), [`Error::Poisoned`] after a failed sync until the log is opened again.
    pub fn append(&self, records: Vec<Record>, class: Class) -> Append {
        Append(self.queue(records, None, class))
    }

    /// As [`Log::append`], with copies of records that stand in the log already, which are read
    /// here. What is withheld before the group is written is withheld in the copy, too.
    ///
    /// # Errors
    /// As for [`Log::append`] and [`Log::read`].
    pub fn append_pieces(&self, pieces: Vec<Piece>, class: Class) -> Append {
        // The count first: what is withheld from here on is looked at again by the writer.
        let mut copies = Copies {
            withheld: self.map().withheld,
            of: Vec::new(),
        };
        let mut records = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::New(record) => records.push(record),
                Piece::Copy(at) => match self.read(at) {
                    Ok(record) => {
                        copies.of.push((records.len(), at));
                        records.push(record);
                    }
                    Err(error) => return Append(Err(error)),
                },
            }
        }
        Append(self.queue(records, Some(copies), class))
    }

    fn queue(
        &self,
        records: Vec<Record>,
        copies: Option<Copies>,
        class: Class,
    ) -> Result<oneshot::Receiver<Result<Vec<Position>>>> {
        let (done, answer) = oneshot::channel();
        if records.is_empty() {
            // The receiver is still here, so this cannot fail.
            let _ = done.send(Ok(Vec::new()));
            return Ok(answer);
        }
        let bytes = self.check(&records)?;
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let refused = if queued > 0 && queued + bytes > self.config.queue_bytes_max {
            Some("queue_bytes_max")
        } else if class == Class::Permanent && !self.map().spool.takes(queued + bytes) {
            metrics::counter!("weave_spool_refused_total").increment(1);
            Some("spool_bytes_max")
        } else {
            None
        };
        if let Some(bound) = refused {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Error::Busy(bound));
        }
        let group = Group {
            records,
            copies,
            class,
            bytes,
            done,
        };
        let sent = self.jobs().try_send(Job::Append(group));
        sent.map_err(|error| {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Error::Busy("queue_groups_max"),
                TrySendError::Disconnected(_) => Error::Closed,
            }
        })?;
        Ok(answer)
    }

    /// Bytes of a group that keeps the limits.
    fn check(&self, records: &[Record]) -> Result<u64> {
        let limit = |what, actual: u64, limit: u64| match actual > limit {
            true => Err(Error::Limit { what, actual, limit }),
            false => Ok(()),
        };
        limit(
            "the number of records of a group",
            records.len() as u64,
            self.config.group_records_max as u64,
        )?;
        let mut bytes = 0;
        for record in records {
            let len = frame::payload_len(record);
            limit("the size of a record in bytes", len, self.config.record_bytes_max)?;
            bytes += len;
        }
        Ok(bytes)
    }

    fn jobs(&self) -> &SyncSender<Job> {
        self.jobs.as_ref().expect("taken only when the log is dropped")
    }

    fn map(&self) -> std::sync::RwLockReadGuard<'_, Map> {
        // The map is changed by single assignments only; a panic elsewhere leaves it whole.
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn map_mut(&self) -> std::sync::RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record at a position.
    ///
    /// # Errors
    /// [`Error::NoRecord`] for a position never given out, [`Error::Corrupt`] for damage.
    pub fn read(&self, at: Position) -> Result<Record> {
        self.entry(at).map(|entry| entry.record)
    }

    /// The record at a position with its time and class.
    ///
    /// # Errors
    /// As for [`Log::read`].
    pub fn entry(&self, at: Position) -> Result<Entry> {
        let (segment, offset) = self.map().place(at)?;
        let (time_ms, record) = segment.record(offset)?;
        Ok(Entry {
            position: at,
            time_ms,
            class: segment.head().class,
            record,
        })
    }

    /// All records after a position (`None`: from the first), in order, up to the present end.
    pub fn replay(
        &self,
        after: Option<Position>,
    ) -> impl Iterator<Item = Result<(Position, Record)>> + use<> {
        self.entries(after)
            .map(|entry| entry.map(|entry| (entry.position, entry.record)))
    }

    /// As [`Log::replay`], with time and class.
    pub fn entries(&self, after: Option<Position>) -> impl Iterator<Item = Result<Entry>> + use<> {
        Replay::new(&self.map(), after)
    }

    /// As [`Log::entries`], read and parsed on a thread of its own: for who has much to do with each record.
    ///
    /// # Errors
    /// The operating system has no thread for it.
    pub fn entries_ahead(
        &self,
        after: Option<Position>,
    ) -> Result<impl Iterator<Item = Result<Entry>> + use<>> {
        Ahead::of(self.entries(after), AHEAD, AHEAD_MAX)
    }

    /// The position of the last record; `None` if there is none.
    pub fn end(&self) -> Option<Position> {
        self.map().end
    }

    /// Takes an item's data out of the log for good. The rest stays at its position and verifies.
    /// Blocks while the item's segment is written anew; appends wait meanwhile.
    ///
    /// # Errors
    /// As for [`Log::read`]; notes have no data to withhold.
    pub fn withhold(&self, at: Position) -> Result<()> {
        let (done, answer) = std::sync::mpsc::channel();
        self.command(Job::Withhold { at, done })?;
        answer.recv().unwrap_or(Err(Error::Closed))
    }

    /// Seals the segment of a class now; the next append opens a new one.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn seal(&self, class: Class) -> Result<()> {
        let (done, answer) = std::sync::mpsc::channel();
        self.command(Job::Seal { class, done })?;
        answer.recv().unwrap_or(Err(Error::Closed))
    }

    fn command(&self, job: Job) -> Result<()> {
        self.jobs().send(job).map_err(|_| Error::Closed)
    }

    /// The segments by number, the ones being written included; a sealed one has a footer.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        let map = self.map();
        map.segments.values().map(|known| known.segment.clone()).collect()
    }

    /// The number of the segment that a record stands in.
    pub fn segment_of(&self, position: Position) -> Option<u64> {
        let map = self.map();
        let extent = &map.extents[map.find(position)?];
        Some(extent.segment.head().number)
    }

    /// The segment of a number, if anything was written to it.
    pub fn segment(&self, number: u64) -> Option<Sealable> {
        self.map().segments.get(&number).cloned()
    }

    /// The permanent segments from a number on, ascending.
    pub fn permanent_from(&self, number: u64) -> Vec<Sealable> {
        let map = self.map();
        let of_class = |known: &&Sealable| known.segment.head().class == Class::Permanent;
        map.segments
            .range(number..)
            .map(|(_, known)| known)
            .filter(of_class)
            .cloned()
            .collect()
    }

    /// How many items a segment holds, whole or without their data. Reads it the first time if it was sealed before
    /// the log was opened.
    ///
    /// # Errors
    /// Damage to the segment.
    pub fn items_of(&self, known: &Sealable) -> Result<u64> {
        if let Some(items) = known.items {
            return Ok(items);
        }
        let content = known.segment.footer()?;
        let items = known
            .segment
            .count_items(content.map_or(0, |content| content.end))?;
        let number = known.segment.head().number;
        let mut map = self.map_mut();
        if let Some(known) = map.segments.get_mut(&number) {
            known.items = Some(items);
        }
        Ok(items)
    }

    /// Bounds the bytes of class permanent that are not settled; without this call nothing does. `is_settled` tells
    /// of each permanent segment written so far.
    pub fn bound_spool(&self, bytes_max: u64, is_settled: impl Fn(u64) -> bool) {
        let mut map = self.map_mut();
        let open = |(number, known): &(&u64, &Sealable)| {
            known.segment.head().class == Class::Permanent && !is_settled(**number)
        };
        let bytes = map
            .segments
            .iter()
            .filter(open)
            .map(|(_, known)| known.bytes)
            .sum();
        map.spool = Spool {
            bytes,
            bytes_max: Some(bytes_max),
        };
    }

    /// A permanent segment is settled upstream, or (`false`) is not any more.
    pub fn set_settled(&self, number: u64, is_settled: bool) {
        let mut map = self.map_mut();
        let bytes = map.segments.get(&number).map_or(0, |known| known.bytes);
        let spool = &mut map.spool;
        match is_settled {
            true => spool.bytes = spool.bytes.checked_sub(bytes).expect("what settles was spooled"),
            false => spool.bytes += bytes,
        }
    }

    /// What of class permanent is not settled upstream.
    pub fn spool(&self) -> Spool {
        self.map().spool
    }
}

/// Bytes of class permanent that are not settled upstream, and how many there may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spool {
    /// Frames' bytes, as appended.
    pub bytes: u64,
    /// Beyond it appends of the class are refused as busy; `None`: no bound.
    pub bytes_max: Option<u64>,
}

impl Spool {
    fn written(&mut self, head: &SegmentHead, len: u64) {
        if head.class == Class::Permanent {
            self.bytes += len;
        }
    }

    /// Whether so many bytes more are within the bound.
    fn takes(&self, len: u64) -> bool {
        self.bytes_max.is_none_or(|max| self.bytes + len <= max)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has said so; there is nothing left to finish.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log(end {:?})", self.end())
    }
}

/// What a folder holds.
struct Opened {
    map: Map,
    contents: Vec<(u64, Content)>,
    active: Vec<Active>,
}

impl Opened {
    fn read(folder: &Path) -> Result<Opened> {
        let paths = segment_paths(folder)?;
        let segments = paths.iter().map(|path| Segment::open(path));
        let segments = segments.collect::<Result<Vec<_>>>()?;
        let mut opened = Opened {
            map: Map::default(),
            contents: Vec::new(),
            active: Vec::new(),
        };
        for (index, segment) in segments.iter().enumerate() {
            check_name(segment, index)?;
        }
        let newest = |class| segments.iter().rposition(|segment| segment.head().class == class);
        let newest = [Class::Local, Class::Permanent].map(newest);
        for (index, segment) in segments.into_iter().enumerate() {
            opened.add(segment, newest.contains(&Some(index)))?;
        }
        let extents = &mut opened.map.extents;
        extents.sort_unstable_by_key(|extent| extent.span.logical);
        let disjoint = |pair: &[Extent]| pair[0].span.logical + pair[0].span.len <= pair[1].span.logical;
        if let Some(pair) = extents.windows(2).find(|pair| !disjoint(pair)) {
            let why = "its positions overlap those of another segment";
            return Err(Error::corrupt(pair[1].segment.path(), pair[1].span.at, why));
        }
        Ok(opened)
    }

    fn add(&mut self, segment: Segment, is_newest: bool) -> Result<()> {
        let sealed = segment.footer()?;
        let goes_on = is_newest && sealed.is_none();
        let content = match sealed {
            Some(content) => content,
            None => recover(&segment, is_newest)?,
        };
        let segment = Arc::new(segment);
        let bytes = content.spans.iter().map(|span| span.len).sum();
        if bytes > 0 {
            let items = goes_on.then(|| segment.count_items(content.end)).transpose()?;
            let known = self.map.known(&segment);
            (known.bytes, known.items, known.is_sealed) = (bytes, items, !goes_on);
            self.map.spool.written(segment.head(), bytes);
        }
        self.map.end = self.map.end.max(content.last.map(Position));
        self.map.extents.extend(content.spans.iter().map(|span| Extent {
            span: *span,
            segment: segment.clone(),
        }));
        self.contents.push((segment.head().number, content.clone()));
        if goes_on {
            self.active.push(Active::resume(segment, content)?);
        }
        Ok(())
    }
}

/// Reads a segment without footer; cuts off what a crash tore, seals one that is not the newest.
fn recover(segment: &Segment, is_newest: bool) -> Result<Content> {
    let content = scan::scan(segment)?;
    match scan::tail(segment, content.end)? {
        Tail::Clean if is_newest => {}
        Tail::Torn(bytes) if is_newest => {
            let file = segment.path().display();
            tracing::warn!(%file, at = content.end, bytes, "cut off the torn tail of a segment; nothing acknowledged was in it");
            metrics::counter!("weave_torn_bytes_total").increment(bytes);
            segment.set_len(content.end)?;
            segment.sync_all()?;
        }
        // Its footer was durable before a newer one was made.
        tail => {
            let only_footer = tail == Tail::Clean || segment.footer_begins(content.end)?;
            let why = "a sealed segment ends in broken records";
            only_footer
                .then_some(())
                .ok_or_else(|| Error::corrupt(segment.path(), content.end, why))?;
            segment.seal(&content)?;
        }
    }
    Ok(content)
}

/// The segment files by name; drafts of an interrupted writer are removed.
fn segment_paths(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in std::fs::read_dir(folder).at(folder, "list the folder")? {
        let path = file.at(folder, "list the folder")?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("seg") => paths.push(path),
            Some("tmp") => std::fs::remove_file(&path).at(&path, "remove the draft")?,
            _ => {}
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn check_name(segment: &Segment, index: usize) -> Result<()> {
    let (head, path) = (segment.head(), segment.path());
    let expected = index as u64 + 1;
    if head.number != expected {
        let why = format!("segment {expected:08} is missing before this one");
        return Err(Error::corrupt(path, 16, why));
    }
    let name = segment::file_name(head.number, head.class);
    if path.file_name().is_none_or(|found| *found != *name) {
        let why = format!("its head says that it is {name}");
        return Err(Error::corrupt(path, 16, why));
    }
    Ok(())
}

/// Records that are read ahead at once, and how many times as many may wait.
const AHEAD: usize = 512;
const AHEAD_MAX: usize = 8;

/// Walks the extents of a moment.
struct Replay {
    extents: std::vec::IntoIter<Extent>,
    current: Option<(Extent, Window)>,
    after: Option<Position>,
}

impl Replay {
    fn new(map: &Map, after: Option<Position>) -> Replay {
        let first = after.map_or(0, |after| {
            map.extents
                .partition_point(|extent| extent.span.logical + extent.span.len <= after.0)
        });
        let mut extents = map.extents[first..].to_vec();
        if let (Some(first), Some(after)) = (extents.first_mut(), after) {
            let skip = after.0.saturating_sub(first.span.logical);
            first.span.logical += skip;
            first.span.len -= skip;
            first.span.at += skip;
        }
        Replay {
            extents: extents.into_iter(),
            current: None,
            after,
        }
    }

    /// The next record; `None` at the end.
    fn step(&mut self) -> Result<Option<Entry>> {
        loop {
            if self
                .current
                .as_ref()
                .is_none_or(|(extent, _)| extent.span.len == 0)
            {
                let Some(extent) = self.extents.next() else {
                    return Ok(None);
                };
                let window = match self.current.take() {
                    Some((before, window)) if Arc::ptr_eq(&before.segment, &extent.segment) => window,
                    _ => Window::new(extent.segment.file_len()?),
                };
                self.current = Some((extent, window));
            }
            let (extent, window) = self.current.as_mut().expect("set just now");
            if let Some(entry) = next_entry(extent, window)?
                && self.after.is_none_or(|after| entry.position > after)
            {
                return Ok(Some(entry));
            }
        }
    }
}

/// Takes one frame off the front of an extent; `None` if it opens a group.
fn next_entry(extent: &mut Extent, window: &mut Window) -> Result<Option<Entry>> {
    let (span, segment) = (&mut extent.span, &extent.segment);
    let (at, position) = (span.at, Position(span.logical));
    let frame = window.frame(segment, at)?;
    let (head, bytes) =
        frame.ok_or_else(|| Error::corrupt(segment.path(), at, "the record's checksum is wrong"))?;
    let logical = scan::logical_span(&head, bytes);
    assert!(logical <= span.len, "a frame lies in one extent");
    span.at += head.span();
    span.logical += logical;
    span.len -= logical;
    if head.kind == FrameKind::Group {
        return Ok(None);
    }
    let payload = bytes::Bytes::copy_from_slice(&bytes[frame::FRAME_LEN..]);
    let record = frame::record(head.kind, payload).map_err(|why| Error::corrupt(segment.path(), at, why))?;
    Ok(Some(Entry {
        position,
        time_ms: head.time_ms,
        class: segment.head().class,
        record,
    }))
}

impl Iterator for Replay {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            // One error ends the replay: what follows could not be in order.
            self.current = None;
            self.extents = Vec::new().into_iter();
        }
        step.transpose()
    }
}
