//! The log's one writer: takes what is queued, writes it in one piece, syncs, then answers.
//!
//! Not here: reading. The invariant: nothing is acknowledged before its fdatasync returned, and
//! nothing is written after one failed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use spec::contract::Class;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::frame::{self, FRAME_LEN, FrameKind, GROUP_LEN, GroupHead, SEGMENT_VERSION, SegmentHead};
use crate::log::{Clock, Map, Observer};
use crate::record::{Entry, Position, Record};
use crate::scan;
use crate::segment::{self, Content, Segment, Span};

/// Bytes the write buffer keeps between batches.
const BUFFER_LEN_KEPT: usize = 16 << 20;

/// One append.
pub struct Group {
    pub(crate) records: Vec<Record>,
    pub(crate) copies: Option<Copies>,
    pub(crate) class: Class,
    pub(crate) bytes: u64,
    pub(crate) done: oneshot::Sender<Result<Vec<Position>>>,
}

/// Which records of a group stand in the log already.
pub struct Copies {
    /// How often data had been withheld when they were read.
    pub(crate) withheld: u64,
    /// Index in the group, and where the original stands.
    pub(crate) of: Vec<(usize, Position)>,
}

/// What the writer is asked to do.
pub enum Job {
    /// Store a group.
    Append(Group),
    /// Take an item's data out.
    Withhold {
        /// Which item.
        at: Position,
        /// Told when it is gone.
        done: Sender<Result<()>>,
    },
    /// Close a segment for good.
    Seal {
        /// Of which class.
        class: Class,
        /// Told when it is closed.
        done: Sender<Result<()>>,
    },
}

/// The segment that a class is written to.
pub struct Active {
    segment: Arc<Segment>,
    content: Content,
    reserved: u64,
}

impl Active {
    /// Goes on with a segment that has no footer yet.
    pub fn resume(segment: Arc<Segment>, content: Content) -> Result<Active> {
        let reserved = segment.file_len()?;
        assert!(content.end <= reserved, "groups end inside the file");
        Ok(Active {
            segment,
            content,
            reserved,
        })
    }
}

/// The writer's state; it lives on its own thread.
pub struct Writer {
    config: Config,
    folder: PathBuf,
    clock: Clock,
    observer: Option<Observer>,
    map: Arc<RwLock<Map>>,
    active: [Option<Active>; 2],
    number: u64,
    logical: u64,
    batch: u64,
    time_ms: u64,
    poisoned: Option<Arc<str>>,
    buffer: Vec<u8>,
}

fn slot(class: Class) -> usize {
    usize::from(class == Class::Permanent)
}

impl Writer {
    /// A writer that knows of no segment yet.
    pub fn new(
        config: Config,
        folder: PathBuf,
        clock: Clock,
        observer: Option<Observer>,
        map: Arc<RwLock<Map>>,
    ) -> Writer {
        Writer {
            config,
            folder,
            clock,
            observer,
            map,
            active: [None, None],
            number: 0,
            logical: 0,
            batch: 0,
            time_ms: 0,
            poisoned: None,
            buffer: Vec::new(),
        }
    }

    /// Goes on where the segments end.
    pub fn resume(&mut self, contents: Vec<(u64, Content)>, active: Vec<Active>) -> Result<()> {
        for (number, content) in &contents {
            let end = content.spans.last().map_or(0, |span| span.logical + span.len);
            self.number = self.number.max(*number);
            self.logical = self.logical.max(end);
            self.batch = self.batch.max(content.batch);
            self.time_ms = self.time_ms.max(content.time_ms);
        }
        for active in active {
            let slot = slot(active.segment.head().class);
            self.active[slot] = Some(active);
        }
        Ok(())
    }

    /// Works until the log is dropped.
    pub fn run(mut self, queue: &Receiver<Job>, queued: &AtomicU64) {
        let mut groups = Vec::new();
        while let Ok(job) = queue.recv() {
            let mut job = Some(job);
            let mut bytes = 0;
            while let Some(Job::Append(group)) = job {
                bytes += group.bytes;
                groups.push(group);
                let more = bytes < self.config.batch_bytes_max;
                job = more.then(|| queue.try_recv().ok()).flatten();
            }
            queued.fetch_sub(bytes, Ordering::Relaxed);
            self.commit(&mut groups);
            match job {
                Some(Job::Withhold { at, done }) => drop(done.send(self.withhold(at))),
                Some(Job::Seal { class, done }) => drop(done.send(self.seal(class))),
                Some(Job::Append(_)) | None => {}
            }
        }
        self.give_back();
    }

    /// Reads copies again whose originals may have lost their data since they were read.
    fn refresh(&self, group: &mut Group) -> Result<()> {
        let Some(copies) = group.copies.take() else {
            return Ok(());
        };
        if self.map.read().unwrap_or_else(PoisonError::into_inner).withheld == copies.withheld {
            return Ok(());
        }
        for (index, at) in copies.of {
            let place = self.map.read().unwrap_or_else(PoisonError::into_inner).place(at);
            let (segment, offset) = place?;
            group.records[index] = segment.record(offset)?.1;
        }
        group.bytes = group.records.iter().map(frame::payload_len).sum();
        Ok(())
    }

    /// The group with its copies as they are now; one that cannot be read again is answered.
    fn refreshed(&self, mut group: Group) -> Option<Group> {
        match self.refresh(&mut group) {
            Ok(()) => Some(group),
            Err(error) => {
                // Who no longer waits does not need the answer.
                let _ = group.done.send(Err(error));
                None
            }
        }
    }

    /// Stores a batch, class by class, and answers each group.
    fn commit(&mut self, groups: &mut Vec<Group>) {
        // Each refused group is told at once; that it cannot be read again is no fault of the others.
        *groups = std::mem::take(groups)
            .into_iter()
            .filter_map(|group| self.refreshed(group))
            .collect();
        for class in [Class::Local, Class::Permanent] {
            let of_class: Vec<_> = groups.extract_if(.., |group| group.class == class).collect();
            if of_class.is_empty() {
                continue;
            }
            match self.write(class, &of_class) {
                Ok(positions) => self.answer(of_class, positions),
                Err(error) => {
                    tracing::error!(%error, groups = of_class.len(), "a batch could not be stored");
                    metrics::counter!("weave_append_errors_total").increment(1);
                    let refuse = |group: Group| drop(group.done.send(Err(error.clone())));
                    of_class.into_iter().for_each(refuse);
                }
            }
        }
        assert!(groups.is_empty(), "every group has one of two classes");
    }

    /// Shows a durable batch to the observer, then acknowledges it.
    fn answer(&mut self, groups: Vec<Group>, positions: Vec<Vec<Position>>) {
        assert_eq!(groups.len(), positions.len(), "each group has its positions");
        let mut entries = Vec::new();
        let mut waiting = Vec::with_capacity(groups.len());
        for (group, positions) in groups.into_iter().zip(positions) {
            if self.observer.is_some() {
                let records = group.records.into_iter().zip(&positions);
                entries.extend(records.map(|(record, position)| Entry {
                    position: *position,
                    time_ms: self.time_ms,
                    class: group.class,
                    record,
                }));
            }
            waiting.push((group.done, positions));
        }
        if let Some(observer) = &mut self.observer {
            observer(entries);
        }
        for (done, positions) in waiting {
            // Who no longer waits does not need the answer.
            let _ = done.send(Ok(positions));
        }
    }

    /// Writes the groups of one class and makes them durable.
    fn write(&mut self, class: Class, groups: &[Group]) -> Result<Vec<Vec<Position>>> {
        if let Some(why) = &self.poisoned {
            return Err(Error::Poisoned(why.clone()));
        }
        let mut active = self.take_active(class)?;
        let done = self.write_to(&mut active, groups);
        self.active[slot(class)] = Some(active);
        done
    }

    fn write_to(&mut self, active: &mut Active, groups: &[Group]) -> Result<Vec<Vec<Position>>> {
        self.time_ms = self.time_ms.max((self.clock)());
        // A failed batch keeps its number, so that nothing left of it can pass for a later one.
        self.batch += 1;
        let at = active.content.end;
        let (positions, records) = self.encode(groups, at, active.segment.head().salt);
        let len = self.buffer.len() as u64;
        self.reserve(active, at + len)?;
        assert!(
            active.content.end == at && at + len <= active.reserved,
            "a batch goes behind the last one"
        );
        active.segment.write(&self.buffer, at)?;
        self.sync(&active.segment)?;

        let span = Span {
            logical: self.logical,
            len,
            at,
        };
        let last = positions.last().and_then(|group| group.last()).copied();
        let all = groups.iter().flat_map(|group| &group.records);
        let items = all.filter(|record| record.note().is_none()).count() as u64;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        map.push(span, items, &active.segment);
        map.end = last;
        drop(map);
        self.logical += len;
        let content = &mut active.content;
        content.add(span);
        content.end += len;
        content.records += records;
        (content.last, content.batch, content.time_ms) = (last.map(|p| p.0), self.batch, self.time_ms);
        metrics::counter!("weave_append_bytes_total").increment(len);
        metrics::counter!("weave_append_records_total").increment(records);
        self.buffer.shrink_to(BUFFER_LEN_KEPT);
        Ok(positions)
    }

    /// Fills the write buffer; answers with each group's positions and the number of records.
    fn encode(&mut self, groups: &[Group], batch_at: u64, salt: u32) -> (Vec<Vec<Position>>, u64) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut records = 0;
        let mut positions = Vec::with_capacity(groups.len());
        for group in groups {
            let start = buffer.len() as u64;
            let frames = group.records.len() as u64 * FRAME_LEN as u64;
            let head = GroupHead {
                time_ms: self.time_ms,
                records: group.records.len() as u32,
                body_len: group.bytes + frames,
                batch: self.batch,
                batch_at,
                at: batch_at + start,
                logical: self.logical + start,
            };
            head.put(&mut buffer, salt);
            let place = |record: &Record| {
                let position = Position(self.logical + buffer.len() as u64);
                frame::put_record(&mut buffer, record, self.time_ms, salt);
                position
            };
            positions.push(group.records.iter().map(place).collect());
            records += u64::from(head.records);
            let end = start + GROUP_LEN as u64 + head.body_len;
            assert_eq!(buffer.len() as u64, end, "a group is as long as its head says");
        }
        self.buffer = buffer;
        (positions, records)
    }

    /// Reserves disk space up to `end` and a step more.
    fn reserve(&self, active: &mut Active, end: u64) -> Result<()> {
        if end <= active.reserved {
            return Ok(());
        }
        let to = end + self.config.preallocate_bytes;
        let from = active.reserved;
        // Without room for the step ahead the batch itself may still fit.
        match active.segment.reserve(from, to - from) {
            Ok(()) => active.reserved = to,
            Err(_) => {
                active.segment.reserve(from, end - from)?;
                active.reserved = end;
            }
        }
        Ok(())
    }

    fn sync(&mut self, segment: &Segment) -> Result<()> {
        let begun = Instant::now();
        let done = segment.sync_data();
        metrics::histogram!("weave_fsync_seconds").record(begun.elapsed().as_secs_f64());
        if let Err(error) = &done {
            // The kernel may have dropped the pages: what is on disk is unknown until it is read again.
            self.poisoned = Some(error.to_string().into());
        }
        done
    }

    /// The segment to write to; a full one is sealed first.
    fn take_active(&mut self, class: Class) -> Result<Active> {
        let most = match class {
            Class::Local => self.config.segment_bytes_max,
            Class::Permanent => self.config.seal_bytes_max,
        };
        let full = |active: &Active| active.content.end >= most;
        if self.active[slot(class)].as_ref().is_some_and(full) {
            self.seal(class)?;
        }
        match self.active[slot(class)].take() {
            Some(active) => Ok(active),
            None => self.create(class),
        }
    }

    fn create(&mut self, class: Class) -> Result<Active> {
        let number = self.number + 1;
        let head = SegmentHead {
            version: SEGMENT_VERSION,
            class,
            number,
            salt: segment::salt(number),
            created_ms: (self.clock)(),
        };
        let path = self.folder.join(segment::file_name(number, class));
        let segment = Segment::create(&path, head)?;
        self.number = number;
        Active::resume(Arc::new(segment), Content::empty())
    }

    /// Writes the footer of a class's segment. Without one there is nothing to do.
    fn seal(&mut self, class: Class) -> Result<()> {
        if let Some(why) = &self.poisoned {
            return Err(Error::Poisoned(why.clone()));
        }
        let Some(active) = self.active[slot(class)].take() else {
            return Ok(());
        };
        let sealed = active.segment.seal(&active.content);
        match &sealed {
            Err(error) => self.poisoned = Some(error.to_string().into()),
            Ok(()) => {
                let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
                map.sealed(active.segment.head().number);
            }
        }
        sealed
    }

    /// Writes the segment of an item anew, without the item's data.
    fn withhold(&mut self, at: Position) -> Result<()> {
        let segment = self.segment_of(at).ok_or(Error::NoRecord(at))?;
        let class = segment.head().class;
        if self.active[slot(class)]
            .as_ref()
            .is_some_and(|active| Arc::ptr_eq(&active.segment, &segment))
        {
            self.seal(class)?;
        }
        let old = segment.footer()?.ok_or(Error::NoRecord(at))?;
        let draft = Segment::draft(&segment.path().with_extension("tmp"), *segment.head())?;
        let end = copy_without(&segment, &old, &draft, at)?;
        draft.set_len(end)?;
        let content = scan::scan(&draft)?;
        assert_eq!(
            (content.end, content.records, content.last),
            (end, old.records, old.last),
            "the copy holds every record in its place"
        );
        draft.seal(&content)?;
        let path = segment.path().to_owned();
        let segment = Arc::new(draft.publish(&path)?);
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        map.replace(&segment, &content.spans);
        Ok(())
    }

    fn segment_of(&self, at: Position) -> Option<Arc<Segment>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let holds = |span: &Span| (span.logical..span.logical + span.len).contains(&at.0);
        let extent = map.extents.iter().find(|extent| holds(&extent.span));
        extent.map(|extent| extent.segment.clone())
    }

    /// Gives reserved space back; what was acknowledged is durable already.
    fn give_back(&mut self) {
        if self.poisoned.is_some() {
            return;
        }
        for active in self.active.iter().flatten() {
            if let Err(error) = active.segment.set_len(active.content.end) {
                tracing::warn!(%error, "could not give reserved space back");
            }
        }
    }
}

/// Copies a segment's groups, the item at `at` without its data. Answers where the copy ends.
fn copy_without(from: &Segment, content: &Content, to: &Segment, at: Position) -> Result<u64> {
    let salt = from.head().salt;
    let mut end = Content::empty().end;
    let mut batch = (0, 0);
    let mut found = false;
    let mut window = scan::Window::new(content.end);
    let mut offset = end;
    while offset < content.end {
        let broken = || Error::corrupt(from.path(), offset, "no group begins here");
        let bytes = window.get(from, offset, GROUP_LEN as u64)?;
        let group = bytes
            .and_then(|bytes| GroupHead::read(bytes, salt))
            .ok_or_else(broken)?;
        if batch.0 != group.batch {
            batch = (group.batch, end);
        }
        let body = copy_body(from, &mut window, &group, at, &mut found)?;
        let head = GroupHead {
            body_len: body.len() as u64,
            batch_at: batch.1,
            at: end,
            ..group
        };
        let mut out = Vec::with_capacity(GROUP_LEN + body.len());
        head.put(&mut out, salt);
        out.extend_from_slice(&body);
        to.write(&out, end)?;
        end += out.len() as u64;
        offset += GROUP_LEN as u64 + group.body_len;
    }
    found.then_some(end).ok_or(Error::NoRecord(at))
}

fn copy_body(
    from: &Segment,
    window: &mut scan::Window,
    group: &GroupHead,
    at: Position,
    found: &mut bool,
) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(group.body_len as usize);
    let mut offset = group.at + GROUP_LEN as u64;
    let mut logical = group.logical + GROUP_LEN as u64;
    for _ in 0..group.records {
        let broken = || Error::corrupt(from.path(), offset, "the record's checksum is wrong");
        let (head, frame) = window.frame(from, offset)?.ok_or_else(broken)?;
        match head.kind {
            FrameKind::Item if logical == at.0 => {
                let item = bytes::Bytes::copy_from_slice(&frame[FRAME_LEN..]);
                let item = spec::DataItem::parse(item);
                let item = item.map_err(|e| Error::corrupt(from.path(), offset, e.to_string()))?;
                let rest = item.withhold().encode();
                frame::put(
                    &mut out,
                    FrameKind::Emptied,
                    head.time_ms,
                    from.head().salt,
                    |out| {
                        out.extend_from_slice(&rest);
                    },
                );
                *found = true;
            }
            _ => out.extend_from_slice(frame),
        }
        *found |= logical == at.0 && matches!(head.kind, FrameKind::Emptied | FrameKind::Withheld);
        logical += scan::logical_span(&head, frame);
        offset += head.span();
    }
    Ok(out)
}
