//! Frames: the bytes around each record and each group, and the head of a segment file.
//!
//! Not here: files. The invariant: a frame's checksum starts from its segment's random salt, so
//! that nobody can put bytes into an item that would pass for a frame.

use bytes::Bytes;
use crc32fast::Hasher;
use spec::contract::Class;
use spec::{DataItem, Withheld};

use crate::record::{Note, NoteKind, Record};

/// First bytes of every segment file.
pub const SEGMENT_MAGIC: &[u8; 8] = b"WEFTSEG\n";
/// The version written, and the newest read.
pub const SEGMENT_VERSION: u32 = 1;
/// Length of a segment's head.
pub const HEAD_LEN: usize = 64;
/// Length of a frame before its payload.
pub const FRAME_LEN: usize = 20;
/// Marks a group's frame; what a search for later groups looks for.
pub const GROUP_MAGIC: &[u8; 4] = b"\x93GRP";
/// Length of a group frame's payload.
pub const GROUP_PAYLOAD_LEN: usize = 52;
/// Length of a whole group frame.
pub const GROUP_LEN: usize = FRAME_LEN + GROUP_PAYLOAD_LEN;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Opens a group; the records follow.
    Group,
    /// A data item.
    Item,
    /// An item appended without its data.
    Withheld,
    /// A note.
    Note,
    /// An item whose data was taken out of the log later; its place in the order is as before.
    Emptied,
}

impl FrameKind {
    const ALL: [FrameKind; 5] = [
        FrameKind::Group,
        FrameKind::Item,
        FrameKind::Withheld,
        FrameKind::Note,
        FrameKind::Emptied,
    ];

    fn number(self) -> u16 {
        match self {
            FrameKind::Group => 1,
            FrameKind::Item => 2,
            FrameKind::Withheld => 3,
            FrameKind::Note => 4,
            FrameKind::Emptied => 5,
        }
    }

    fn from_number(number: u16) -> Option<FrameKind> {
        FrameKind::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The kind of a record's frame.
    pub fn of(record: &Record) -> FrameKind {
        match record {
            Record::Item(_) => FrameKind::Item,
            Record::Withheld(_) => FrameKind::Withheld,
            Record::Note(_) => FrameKind::Note,
        }
    }
}

/// A frame's head, read; its checksum is checked with the whole frame.
#[derive(Debug, Clone, Copy)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub len: u32,
    /// When, ms since 1970.
    pub time_ms: u64,
    /// What it holds.
    pub kind: FrameKind,
}

impl FrameHead {
    /// Reads a head; `None` if it can be none.
    pub fn read(bytes: &[u8]) -> Option<FrameHead> {
        let bytes: &[u8; FRAME_LEN] = bytes.first_chunk()?;
        (bytes[18..] == [0, 0]).then_some(())?;
        Some(FrameHead {
            len: u32_at(bytes, 4),
            time_ms: u64_at(bytes, 8),
            kind: FrameKind::from_number(u16::from_le_bytes([bytes[16], bytes[17]]))?,
        })
    }

    /// Bytes of the whole frame.
    pub fn span(&self) -> u64 {
        FRAME_LEN as u64 + u64::from(self.len)
    }
}

/// Whether a whole frame's checksum holds.
pub fn checks(frame: &[u8], salt: u32) -> bool {
    assert!(frame.len() >= FRAME_LEN, "callers hand in whole frames");
    crc_of(&frame[4..], salt) == u32_at(frame, 0)
}

fn crc_of(bytes: &[u8], salt: u32) -> u32 {
    checksum(&[bytes], salt)
}

/// The checksum of a frame whose bytes after the checksum come in parts.
pub fn checksum(parts: &[&[u8]], salt: u32) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Appends one frame to a write buffer; `fill` writes the payload.
pub fn put(out: &mut Vec<u8>, kind: FrameKind, time_ms: u64, salt: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&time_ms.to_le_bytes());
    out.extend_from_slice(&kind.number().to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    fill(out);
    assert!(out.len() >= start + FRAME_LEN, "a payload is only added");
    let len = out.len() - start - FRAME_LEN;
    let len = u32::try_from(len).expect("record_bytes_max is far below 4 GiB");
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    close(&mut out[start..], salt);
}

/// Puts a whole frame's checksum in its place.
pub fn close(frame: &mut [u8], salt: u32) {
    assert!(frame.len() >= FRAME_LEN, "callers hand in whole frames");
    let crc = crc_of(&frame[4..], salt);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a record's frame.
pub fn put_record(out: &mut Vec<u8>, record: &Record, time_ms: u64, salt: u32) {
    put(out, FrameKind::of(record), time_ms, salt, |out| match record {
        Record::Item(item) => out.extend_from_slice(item.bytes()),
        Record::Withheld(withheld) => out.extend_from_slice(&withheld.encode()),
        Record::Note(note) => {
            out.extend_from_slice(&note.kind.0.to_le_bytes());
            out.extend_from_slice(&note.body);
        }
    });
}

/// Bytes of a record's payload.
pub fn payload_len(record: &Record) -> u64 {
    match record {
        Record::Item(item) => item.bytes().len() as u64,
        Record::Withheld(withheld) => 56 + withheld.head().len() as u64,
        Record::Note(note) => 2 + note.body.len() as u64,
    }
}

/// Reads a record from its payload; the text says why not.
pub fn record(kind: FrameKind, payload: Bytes) -> Result<Record, String> {
    match kind {
        FrameKind::Item => {
            let item = DataItem::parse(payload).map_err(|e| e.to_string())?;
            // Verified before it was written; the checksum says that the bytes are still the same.
            item.trust_own_log();
            Ok(Record::Item(item))
        }
        FrameKind::Withheld | FrameKind::Emptied => {
            let withheld = Withheld::decode(&payload).map_err(|e| e.to_string())?;
            Ok(Record::Withheld(withheld))
        }
        FrameKind::Note => {
            let kind = payload.first_chunk::<2>().ok_or("the note has no kind")?;
            let kind = NoteKind(u16::from_le_bytes(*kind));
            let body = payload.slice(2..);
            Ok(Record::Note(Note { kind, body }))
        }
        FrameKind::Group => Err("a group's frame is no record".into()),
    }
}

/// A group's frame: what makes its records one, and its place certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHead {
    /// When, ms since 1970.
    pub time_ms: u64,
    /// How many records follow.
    pub records: u32,
    /// Bytes of their frames.
    pub body_len: u64,
    /// Counts the batches of the log; groups of one batch became durable together.
    pub batch: u64,
    /// Where the batch began in this file.
    pub batch_at: u64,
    /// Where this frame is in this file.
    pub at: u64,
    /// The position of this frame in the log's order.
    pub logical: u64,
}

impl GroupHead {
    /// Appends the frame.
    pub fn put(&self, out: &mut Vec<u8>, salt: u32) {
        put(out, FrameKind::Group, self.time_ms, salt, |out| {
            out.extend_from_slice(GROUP_MAGIC);
            out.extend_from_slice(&self.records.to_le_bytes());
            for number in [self.body_len, self.batch, self.batch_at, self.at, self.logical] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&[0; 4]);
        });
        assert!(
            out.len() >= GROUP_LEN && self.batch_at <= self.at,
            "a group lies in its batch"
        );
    }

    /// Reads a frame with its checksum; `None` if it is none.
    pub fn read(bytes: &[u8], salt: u32) -> Option<GroupHead> {
        let frame: &[u8; GROUP_LEN] = bytes.first_chunk()?;
        let head = FrameHead::read(frame)?;
        let payload = &frame[FRAME_LEN..];
        let fits = head.kind == FrameKind::Group && head.len as usize == GROUP_PAYLOAD_LEN;
        (fits && payload[..4] == *GROUP_MAGIC && checks(frame, salt)).then(|| GroupHead {
            time_ms: head.time_ms,
            records: u32_at(payload, 4),
            body_len: u64_at(payload, 8),
            batch: u64_at(payload, 16),
            batch_at: u64_at(payload, 24),
            at: u64_at(payload, 32),
            logical: u64_at(payload, 40),
        })
    }
}

/// The head of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    /// The format.
    pub version: u32,
    /// Whether it may be uploaded.
    pub class: Class,
    /// Its place among the segments, from 1; also in its name.
    pub number: u64,
    /// Random; every checksum of the file starts from it.
    pub salt: u32,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
}

/// Why a head cannot be read.
pub enum HeadError {
    /// No segment of ours, or damaged.
    Broken(&'static str),
    /// Of a newer version.
    Newer(u32),
}

impl SegmentHead {
    /// The bytes.
    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        out[..8].copy_from_slice(SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[12..16].copy_from_slice(&u32::from(self.class == Class::Permanent).to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..28].copy_from_slice(&self.salt.to_le_bytes());
        out[28..36].copy_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc_of(&out[..HEAD_LEN - 4], 0);
        out[HEAD_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the bytes.
    pub fn read(bytes: &[u8]) -> Result<SegmentHead, HeadError> {
        let bytes: &[u8; HEAD_LEN] = bytes
            .first_chunk()
            .ok_or(HeadError::Broken("the head is cut off"))?;
        if bytes[..8] != *SEGMENT_MAGIC {
            return Err(HeadError::Broken("it does not begin like a segment"));
        }
        // The version first: what follows it may look different in a newer one.
        let version = u32_at(bytes, 8);
        if version > SEGMENT_VERSION {
            return Err(HeadError::Newer(version));
        }
        if crc_of(&bytes[..HEAD_LEN - 4], 0) != u32_at(bytes, HEAD_LEN - 4) || version == 0 {
            return Err(HeadError::Broken("the head's checksum is wrong"));
        }
        let class = match u32_at(bytes, 12) {
            0 => Class::Local,
            1 => Class::Permanent,
            _ => return Err(HeadError::Broken("its class is unknown")),
        };
        Ok(SegmentHead {
            version,
            class,
            number: u64_at(bytes, 16),
            salt: u32_at(bytes, 24),
            created_ms: u64_at(bytes, 28),
        })
    }
}

/// A little-endian u32 inside bytes known to be long enough.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// A little-endian u64 inside bytes known to be long enough.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use spec::{ItemParts, Signer};

    use super::*;

    fn records() -> [Record; 3] {
        let parts = ItemParts {
            data: Bytes::from_static(b"data"),
            ..ItemParts::default()
        };
        let item = DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).expect("a signed item");
        let note = Note {
            kind: NoteKind(0x0501),
            body: Bytes::from_static(b"body"),
        };
        [
            Record::Withheld(item.withhold()),
            Record::Item(item),
            Record::Note(note),
        ]
    }

    #[test]
    fn every_kind_of_record_reads_back() {
        for written in records() {
            let mut frame = Vec::new();
            put_record(&mut frame, &written, 77, 5);
            let head = FrameHead::read(&frame).expect("a head");
            assert_eq!((head.time_ms, head.kind), (77, FrameKind::of(&written)));
            assert_eq!(head.span(), frame.len() as u64);
            assert_eq!(u64::from(head.len), payload_len(&written));
            assert!(checks(&frame, 5) && !checks(&frame, 6), "the salt counts");
            let read = record(head.kind, Bytes::copy_from_slice(&frame[FRAME_LEN..])).expect("a record");
            assert_eq!(read.id(), written.id());
            assert_eq!(read.item(), written.item());
            assert_eq!(read.note(), written.note());
        }
    }

    #[test]
    fn no_changed_byte_passes_in_a_group_or_a_head() {
        let group = GroupHead {
            time_ms: 1,
            records: 2,
            body_len: 3,
            batch: 4,
            batch_at: 64,
            at: 64,
            logical: 7,
        };
        let mut bytes = Vec::new();
        group.put(&mut bytes, 9);
        assert_eq!(bytes.len(), GROUP_LEN);
        assert_eq!(GroupHead::read(&bytes, 9), Some(group));
        let head = SegmentHead {
            version: SEGMENT_VERSION,
            class: Class::Permanent,
            number: 3,
            salt: 9,
            created_ms: 1,
        };
        let encoded = head.encode();
        assert!(SegmentHead::read(&encoded).is_ok_and(|read| read == head));
        for at in 0..GROUP_LEN {
            bytes[at] ^= 1;
            assert_eq!(GroupHead::read(&bytes, 9), None, "byte {at}");
            bytes[at] ^= 1;
        }
        for at in 0..HEAD_LEN {
            let mut changed = encoded;
            changed[at] ^= 1;
            assert!(SegmentHead::read(&changed).is_err(), "byte {at}");
        }
    }
}
