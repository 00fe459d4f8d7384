//! Reading segments from front to back: the scan of one that has no footer, and the replay.
//!
//! Not here: repairing anything. The invariant: a group counts only whole, and only in the place
//! and batch it was written for.

use crate::error::{Error, Result};
use crate::frame::{self, FRAME_LEN, FrameHead, FrameKind, GROUP_LEN, GROUP_MAGIC, GroupHead};
use crate::segment::{Content, Segment, Span};

/// Bytes read ahead.
const WINDOW_LEN: usize = 1 << 20;

/// A moving view of a segment.
pub struct Window {
    buffer: Vec<u8>,
    start: u64,
    limit: u64,
}

impl Window {
    /// Sees no byte at or after `limit`.
    pub fn new(limit: u64) -> Window {
        let (buffer, start) = (Vec::new(), 0);
        Window { buffer, start, limit }
    }

    /// The bytes at an offset; `None` if they reach beyond the limit or the file.
    pub fn get(&mut self, segment: &Segment, at: u64, len: u64) -> Result<Option<&[u8]>> {
        if at.checked_add(len).is_none_or(|end| end > self.limit) {
            return Ok(None);
        }
        let seen = self.start + self.buffer.len() as u64;
        if at < self.start || at + len > seen {
            let want = (len as usize).max(WINDOW_LEN).min((self.limit - at) as usize);
            self.buffer.resize(want, 0);
            let have = segment.read_some(&mut self.buffer, at)?;
            self.buffer.truncate(have);
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(self.buffer.get(from..from + len as usize))
    }

    /// The whole frame at an offset, checked; `None` if there is none.
    pub fn frame(&mut self, segment: &Segment, at: u64) -> Result<Option<(FrameHead, &[u8])>> {
        let Some(head) = self.get(segment, at, FRAME_LEN as u64)?.and_then(FrameHead::read) else {
            return Ok(None);
        };
        let salt = segment.head().salt;
        let frame = self.get(segment, at, head.span())?;
        let frame = frame.filter(|frame| frame::checks(frame, salt));
        Ok(frame.map(|frame| (head, frame)))
    }
}

/// Positions that a frame takes: as many as its bytes, or as it had when its item was whole.
pub fn logical_span(head: &FrameHead, frame: &[u8]) -> u64 {
    match head.kind {
        FrameKind::Emptied if frame.len() >= FRAME_LEN + 56 => {
            let data_len = frame::u64_at(frame, FRAME_LEN);
            (frame.len() as u64 - 56).saturating_add(data_len)
        }
        _ => head.span(),
    }
}

/// Reads all whole groups of a segment from its head on.
pub fn scan(segment: &Segment) -> Result<Content> {
    let mut content = Content::empty();
    let mut window = Window::new(segment.file_len()?);
    let mut before = None;
    while let Some(group) = next_group(segment, &mut window, content.end, before)? {
        let Some(body) = body(segment, &mut window, &group)? else {
            break;
        };
        for span in body.spans {
            content.add(span);
        }
        content.last = body.last.or(content.last);
        content.records += u64::from(group.records);
        content.end = group.at + GROUP_LEN as u64 + group.body_len;
        (content.batch, content.time_ms) = (group.batch, group.time_ms);
        before = Some(group);
    }
    Ok(content)
}

/// The group at an offset, if it was written there after the one before it.
fn next_group(
    segment: &Segment,
    window: &mut Window,
    at: u64,
    before: Option<GroupHead>,
) -> Result<Option<GroupHead>> {
    let bytes = window.get(segment, at, GROUP_LEN as u64)?;
    let group = bytes.and_then(|bytes| GroupHead::read(bytes, segment.head().salt));
    // Left-overs of a batch that could not be written carry a batch number that was never completed.
    let follows = |group: &GroupHead| match before {
        Some(before) if before.batch == group.batch => before.batch_at == group.batch_at,
        Some(before) => before.batch < group.batch && group.batch_at == at,
        None => group.batch_at == at,
    };
    Ok(group.filter(|group| group.at == at && follows(group)))
}

struct Body {
    spans: Vec<Span>,
    last: Option<u64>,
}

/// The records of a group; `None` unless all are whole.
fn body(segment: &Segment, window: &mut Window, group: &GroupHead) -> Result<Option<Body>> {
    let mut at = group.at + GROUP_LEN as u64;
    let mut logical = group.logical + GROUP_LEN as u64;
    let mut content = Content::default();
    content.add(Span {
        logical: group.logical,
        len: GROUP_LEN as u64,
        at: group.at,
    });
    for _ in 0..group.records {
        let Some((head, frame)) = window.frame(segment, at)? else {
            return Ok(None);
        };
        let len = logical_span(&head, frame);
        if head.kind == FrameKind::Group {
            return Ok(None);
        }
        content.add(Span { logical, len, at });
        content.last = Some(logical);
        at += head.span();
        logical += len;
    }
    let whole = at == group.at + GROUP_LEN as u64 + group.body_len;
    let Content { spans, last, .. } = content;
    Ok(whole.then_some(Body { spans, last }))
}

/// What follows the last whole group of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing but reserved zeros.
    Clean,
    /// What a crash left of a batch that was never acknowledged: this many bytes.
    Torn(u64),
}

/// Tells a torn tail from damage.
///
/// # Errors
/// A group behind the broken place belongs to a later batch, which was begun only after the
/// broken one was durable: then acknowledged bytes are damaged.
pub fn tail(segment: &Segment, end: u64) -> Result<Tail> {
    let limit = segment.file_len()?;
    let mut window = Window::new(limit);
    let mut last = end;
    let mut at = end;
    while at < limit {
        let len = (limit - at).min(WINDOW_LEN as u64 / 2);
        // Looks a frame further, so that none is missed between two steps.
        let reach = (len + GROUP_LEN as u64).min(limit - at);
        let Some(bytes) = window.get(segment, at, reach)? else {
            break;
        };
        if let Some(i) = bytes.iter().rposition(|byte| *byte != 0) {
            last = at + i as u64 + 1;
        }
        if let Some(later) = later_batch(bytes, at, end, segment.head().salt) {
            let why = format!("a record is broken, but a later batch at byte {later} is whole");
            return Err(Error::corrupt(segment.path(), end, why));
        }
        at += len;
    }
    Ok(if last == end {
        Tail::Clean
    } else {
        Tail::Torn(last - end)
    })
}

/// A group in `bytes` (which lie at `at`) whose batch began after `end`.
fn later_batch(bytes: &[u8], at: u64, end: u64, salt: u32) -> Option<u64> {
    let magics = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == GROUP_MAGIC);
    magics
        .filter_map(|(i, _)| i.checked_sub(FRAME_LEN))
        .filter_map(|i| Some((at + i as u64, GroupHead::read(&bytes[i..], salt)?)))
        .find(|(found, group)| group.at == *found && group.batch_at > end)
        .map(|(found, _)| found)
}
