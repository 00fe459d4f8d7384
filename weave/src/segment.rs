//! One segment file: its head, its frames by offset, its footer.
//!
//! Not here: which segment is written to, and the order across segments. The invariant: a footer
//! is durable before the next segment of the class exists, so only the newest one may lack it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes, BytesMut};
use spec::Bundle;
use spec::contract::Class;

use crate::error::{At, Error, Result};
use crate::frame::{self, FrameHead, FrameKind, HEAD_LEN, HeadError, SegmentHead};
use crate::record::Record;
use crate::scan::Window;

/// First bytes of a footer.
pub(crate) const FOOTER_MAGIC: &[u8; 8] = b"WEFTFOOT";
const END_MAGIC: &[u8; 8] = b"WEFTEND\n";
/// Footer length and end magic.
const TRAILER_LEN: u64 = 12;
/// Footer without its spans: magic, six numbers, checksum.
const FOOTER_FIXED_LEN: usize = 8 + 6 * 8 + 4;
/// Most records fit; one read then suffices.
const READ_AHEAD: usize = 2048;

/// A stretch of the log's order that lies in one piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First position.
    pub logical: u64,
    /// How many positions.
    pub len: u64,
    /// Offset of the first in the file.
    pub at: u64,
}

/// What is known of a segment's content without reading it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Where the positions lie, ascending.
    pub spans: Vec<Span>,
    /// Offset after the last group.
    pub end: u64,
    /// Position of the last record.
    pub last: Option<u64>,
    /// How many records.
    pub records: u64,
    /// Number of the last batch.
    pub batch: u64,
    /// Time of the last group, ms since 1970.
    pub time_ms: u64,
}

impl Content {
    /// Of a segment without groups.
    pub(crate) fn empty() -> Content {
        Content {
            end: HEAD_LEN as u64,
            ..Content::default()
        }
    }

    /// Adds a stretch, joined to the last one where both orders allow it.
    pub(crate) fn add(&mut self, span: Span) {
        match self.spans.last_mut() {
            Some(last) if last.logical + last.len == span.logical && last.at + last.len == span.at => {
                last.len += span.len;
            }
            _ => self.spans.push(span),
        }
    }
}

/// An open segment file.
#[derive(Debug)]
pub struct Segment {
    file: File,
    path: PathBuf,
    head: SegmentHead,
}

/// `00000001-local.seg`.
pub(crate) fn file_name(number: u64, class: Class) -> String {
    let class = match class {
        Class::Local => "local",
        Class::Permanent => "permanent",
    };
    format!("{number:08}-{class}.seg")
}

/// A salt for a new segment.
pub(crate) fn salt(number: u64) -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(number) as u32
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let opened = File::open(folder).at(folder, "open the folder")?;
    opened.sync_all().at(folder, "sync the folder")
}

impl Segment {
    /// Makes a new file under `path`, durable together with its name.
    pub(crate) fn create(path: &Path, head: SegmentHead) -> Result<Segment> {
        let draft = path.with_extension("tmp");
        let segment = Segment::draft(&draft, head)?;
        segment.sync_all()?;
        segment.publish(path)
    }

    /// Makes a file that has no name among the segments yet.
    pub(crate) fn draft(path: &Path, head: SegmentHead) -> Result<Segment> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path).at(path, "create the segment")?;
        file.write_all_at(&head.encode(), 0)
            .at(path, "write the segment's head")?;
        let path = path.into();
        Ok(Segment { file, path, head })
    }

    /// Gives a draft its name, replacing what had it.
    pub(crate) fn publish(self, path: &Path) -> Result<Segment> {
        std::fs::rename(&self.path, path).at(path, "name the segment")?;
        sync_folder(path.parent().expect("a segment lies in a folder"))?;
        Ok(Segment {
            path: path.into(),
            ..self
        })
    }

    /// Opens an existing file and checks its head.
    pub(crate) fn open(path: &Path) -> Result<Segment> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.at(path, "open the segment")?;
        let mut bytes = [0; HEAD_LEN];
        let len = read_some(&file, &mut bytes, 0).at(path, "read the segment's head")?;
        let head = SegmentHead::read(&bytes[..len]).map_err(|error| match error {
            HeadError::Broken(why) => Error::corrupt(path, 0, why),
            HeadError::Newer(found) => Error::Newer {
                path: path.into(),
                found,
                known: frame::SEGMENT_VERSION,
            },
        })?;
        Ok(Segment {
            file,
            path: path.into(),
            head,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its head.
    pub fn head(&self) -> &SegmentHead {
        &self.head
    }

    /// Length of the file, reserved space included.
    pub fn file_len(&self) -> Result<u64> {
        let metadata = self
            .file
            .metadata()
            .at(&self.path, "read the length of the segment")?;
        Ok(metadata.len())
    }

    /// Writes at an offset; nothing is durable yet.
    pub(crate) fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        assert!(at >= HEAD_LEN as u64, "the head is never overwritten");
        self.file
            .write_all_at(bytes, at)
            .at(&self.path, "write to the segment")
    }

    /// Makes the bytes durable.
    pub(crate) fn sync_data(&self) -> Result<()> {
        self.file.sync_data().at(&self.path, "sync the segment")
    }

    /// Makes bytes and length durable.
    pub(crate) fn sync_all(&self) -> Result<()> {
        self.file.sync_all().at(&self.path, "sync the segment")
    }

    /// Cuts the file, or gives reserved space back.
    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        self.file
            .set_len(len)
            .at(&self.path, "set the length of the segment")
    }

    /// Reserves zeroed space. File systems that cannot are left to grow by themselves.
    pub(crate) fn reserve(&self, from: u64, len: u64) -> Result<()> {
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), from, len) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(std::io::Error::from(errno)).at(&self.path, "reserve space for the segment"),
        }
    }

    /// Reads up to `buffer.len()` bytes; fewer only at the file's end.
    pub(crate) fn read_some(&self, buffer: &mut [u8], at: u64) -> Result<usize> {
        read_some(&self.file, buffer, at).at(&self.path, "read the segment")
    }

    /// Reads the frame at an offset and checks it; answers with its payload.
    pub(crate) fn frame(&self, at: u64) -> Result<(FrameHead, Bytes)> {
        let mut bytes = BytesMut::zeroed(READ_AHEAD);
        let have = self.read_some(&mut bytes, at)?;
        let head = FrameHead::read(&bytes[..have]);
        let head = head.ok_or_else(|| Error::corrupt(&self.path, at, "no record begins here"))?;
        let span = head.span() as usize;
        if span > have {
            // Before memory is taken for a length that may be damaged.
            if at + head.span() > self.file_len()? {
                return Err(Error::corrupt(&self.path, at, "the record is cut off"));
            }
            bytes.resize(span, 0);
            self.read_some(&mut bytes[have..], at + have as u64)?;
        }
        bytes.truncate(span);
        if !frame::checks(&bytes, self.head.salt) {
            return Err(Error::corrupt(&self.path, at, "the record's checksum is wrong"));
        }
        bytes.advance(frame::FRAME_LEN);
        Ok((head, bytes.freeze()))
    }

    /// Reads the record at an offset; with its time.
    pub(crate) fn record(&self, at: u64) -> Result<(u64, Record)> {
        let (head, payload) = self.frame(at)?;
        let record = frame::record(head.kind, payload);
        let record = record.map_err(|why| Error::corrupt(&self.path, at, why))?;
        Ok((head.time_ms, record))
    }

    /// Writes the footer after the last group and cuts the file there. Nothing follows it.
    pub(crate) fn seal(&self, content: &Content) -> Result<()> {
        assert!(
            content.spans.is_sorted_by(|a, b| a.logical + a.len <= b.logical),
            "positions only grow"
        );
        let footer = encode_footer(content, self.head.salt);
        let read_back = decode_footer(&footer[..footer.len() - TRAILER_LEN as usize], self.head.salt);
        assert_eq!(
            read_back.as_ref(),
            Some(content),
            "a footer reads back as it was written"
        );
        self.write(&footer, content.end)?;
        self.set_len(content.end + footer.len() as u64)?;
        self.sync_all()
    }

    /// The footer, if the segment was sealed.
    pub fn footer(&self) -> Result<Option<Content>> {
        let len = self.file_len()?;
        let mut trailer = [0; TRAILER_LEN as usize];
        let Some(trailer_at) = len.checked_sub(TRAILER_LEN) else {
            return Ok(None);
        };
        self.read_some(&mut trailer, trailer_at)?;
        let footer_len = u64::from(frame::u32_at(&trailer, 0));
        let at = trailer_at
            .checked_sub(footer_len)
            .filter(|at| *at >= HEAD_LEN as u64);
        let (Some(at), true) = (at, trailer[4..] == *END_MAGIC) else {
            return Ok(None);
        };
        let mut footer = vec![0; footer_len as usize];
        self.read_some(&mut footer, at)?;
        Ok(decode_footer(&footer, self.head.salt).filter(|content| content.end == at))
    }

    /// Whether the bytes at an offset begin like a footer.
    pub(crate) fn footer_begins(&self, at: u64) -> Result<bool> {
        let mut magic = [0; 8];
        self.read_some(&mut magic, at)?;
        Ok(magic == *FOOTER_MAGIC)
    }

    /// How many of a segment's records up to `end` are items, whole or without their data.
    pub(crate) fn count_items(&self, end: u64) -> Result<u64> {
        let (mut window, mut at, mut items) = (Window::new(end), HEAD_LEN as u64, 0);
        while at < end {
            let bytes = window.get(self, at, frame::FRAME_LEN as u64)?;
            let head = bytes.and_then(FrameHead::read);
            let head = head.ok_or_else(|| Error::corrupt(&self.path, at, "no record begins here"))?;
            items += u64::from(!matches!(head.kind, FrameKind::Group | FrameKind::Note));
            at += head.span();
        }
        Ok(items)
    }

    /// The whole items among a segment's records, in order: the body of its bundle.
    pub fn items(&self, content: &Content) -> Result<Vec<spec::DataItem>> {
        let mut items = Vec::new();
        let mut at = HEAD_LEN as u64;
        while at < content.end {
            let (head, payload) = self.frame(at)?;
            if head.kind == FrameKind::Item {
                let item = spec::DataItem::parse(payload);
                items.push(item.map_err(|e| Error::corrupt(&self.path, at, e.to_string()))?);
            }
            at += head.span();
        }
        assert_eq!(at, content.end, "frames end where the segment's groups end");
        Ok(items)
    }

    /// The table that, put before the items' bytes, makes them a bundle (ANS-104).
    pub fn bundle_table(&self, content: &Content) -> Result<Bytes> {
        let items = self.items(content)?;
        let rows = items.iter().map(|item| (item.bytes().len() as u64, item.id()));
        Ok(Bundle::table(rows))
    }
}

fn read_some(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], at + have as u64) {
            Ok(0) => break,
            Ok(len) => have += len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

fn encode_footer(content: &Content, salt: u32) -> Vec<u8> {
    let mut out = FOOTER_MAGIC.to_vec();
    let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
    put(content.end);
    put(content.last.unwrap_or(u64::MAX));
    put(content.records);
    put(content.batch);
    put(content.time_ms);
    put(content.spans.len() as u64);
    for span in &content.spans {
        put(span.logical);
        put(span.len);
        put(span.at);
    }
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&out);
    out.extend_from_slice(&hasher.finalize().to_le_bytes());
    let len = u32::try_from(out.len()).expect("a segment has far fewer spans than 2^27");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(END_MAGIC);
    out
}

fn decode_footer(bytes: &[u8], salt: u32) -> Option<Content> {
    let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(body);
    (bytes.len() >= FOOTER_FIXED_LEN && body[..8] == *FOOTER_MAGIC).then_some(())?;
    (hasher.finalize() == frame::u32_at(crc, 0)).then_some(())?;
    let number = |i: usize| frame::u64_at(body, 8 + 8 * i);
    let spans = body[FOOTER_FIXED_LEN - 4..].chunks_exact(24).map(|row| Span {
        logical: frame::u64_at(row, 0),
        len: frame::u64_at(row, 8),
        at: frame::u64_at(row, 16),
    });
    let content = Content {
        end: number(0),
        last: Some(number(1)).filter(|last| *last != u64::MAX),
        records: number(2),
        batch: number(3),
        time_ms: number(4),
        spans: spans.collect(),
    };
    (content.spans.len() as u64 == number(5)).then_some(content)
}
