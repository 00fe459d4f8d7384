//! What the scheduler writes into the log beside items: which items it scheduled, and how far its
//! promise about ticks goes. Drawn byte by byte in `spec/assignment.md`.
//!
//! Only the node writes notes, so what they say cannot be forged by uploading an assignment.

use bytes::{BufMut, BytesMut};
use spec::{Address, ItemId, ProcessId};
use weave::{Note, NoteKind, Record};

use crate::error::{Error, Result};

/// The records after this one are messages and assignments, in the pattern of the body.
pub const SCHEDULED: NoteKind = NoteKind(NoteKind::SCHEDULER.0);
/// No tick after the body's moment was handed out so far.
pub const LEASE: NoteKind = NoteKind(NoteKind::SCHEDULER.0 + 1);
/// The records after this one are copies of a process's messages and assignments, in the other class.
pub const COPIED: NoteKind = NoteKind(NoteKind::SCHEDULER.0 + 2);
/// Nothing gets a slot in this log until a later [`RESUMED`].
pub const SUSPENDED: NoteKind = NoteKind(NoteKind::SCHEDULER.0 + 3);
/// Slots are given again, under another epoch.
pub const RESUMED: NoteKind = NoteKind(NoteKind::SCHEDULER.0 + 4);
/// Another key signs assignments from here on.
pub const SUCCEEDED: NoteKind = NoteKind(NoteKind::SCHEDULER.0 + 5);

/// The record that ends the making of a data folder from what was published: the scheduler that kept
/// this log may have given slots that nobody published. It must be the last record of the folder.
pub fn suspended() -> Record {
    Told::Suspended.record()
}

/// Version of all bodies.
const VERSION: u8 = 1;

/// How one assignment stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Whether the message stands right before the assignment; else it lives elsewhere.
    pub with_message: bool,
    /// By what a pushed message is known again; kept here because its data may be withheld later.
    pub pushed: Option<u128>,
    /// Whether the message turns its process permanent.
    pub widens: bool,
}

/// One key's place taken by another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Who signed assignments before.
    pub from: Address,
    /// Who does from then on.
    pub to: Address,
    /// The item by which `from` says so.
    pub item: ItemId,
}

/// A note of the scheduler, read.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The assignments that follow, in order.
    Scheduled(Vec<Mark>),
    /// Ticks up to this moment in ms may have been handed out.
    Lease(u64),
    /// Copies of these slots of a process follow, from `first` on.
    Copied {
        /// Whose.
        process: ProcessId,
        /// The first slot copied.
        first: u64,
        /// One per slot.
        marks: Vec<Mark>,
        /// Whether all later slots lie in the class of the copies themselves.
        is_last: bool,
    },
    /// Nothing is scheduled any more.
    Suspended,
    /// Scheduling went on under this epoch; these items say where each log stood.
    Resumed {
        /// The epoch of assignments from here on.
        epoch: u64,
        /// The resume items.
        items: Vec<ItemId>,
    },
    /// The keys of this scheduler so far, oldest first.
    Succeeded(Vec<Link>),
}

/// Bit of a mark: the message stands before the assignment.
const WITH_MESSAGE: u8 = 1;
/// Bit of a mark: 16 bytes follow, by which the message is known again.
const PUSHED: u8 = 2;
/// Bit of a mark: the message turns its process permanent.
const WIDENS: u8 = 4;

impl Told {
    /// The record to append.
    pub fn record(&self) -> Record {
        let mut body = BytesMut::new();
        body.put_u8(VERSION);
        self.write(&mut body);
        Record::Note(Note {
            kind: self.kind(),
            body: body.freeze(),
        })
    }

    fn kind(&self) -> NoteKind {
        match self {
            Told::Scheduled(_) => SCHEDULED,
            Told::Lease(_) => LEASE,
            Told::Copied { .. } => COPIED,
            Told::Suspended => SUSPENDED,
            Told::Resumed { .. } => RESUMED,
            Told::Succeeded(_) => SUCCEEDED,
        }
    }

    fn write(&self, body: &mut BytesMut) {
        match self {
            Told::Scheduled(marks) => marks.iter().for_each(|mark| mark.write(body)),
            Told::Lease(until_ms) => body.put_u64_le(*until_ms),
            Told::Copied {
                process,
                first,
                marks,
                is_last,
            } => {
                body.put_slice(process.bytes());
                body.put_u64_le(*first);
                body.put_u8(u8::from(*is_last));
                marks.iter().for_each(|mark| mark.write(body));
            }
            Told::Suspended => {}
            Told::Resumed { epoch, items } => {
                body.put_u64_le(*epoch);
                items.iter().for_each(|id| body.put_slice(id.bytes()));
            }
            Told::Succeeded(links) => links.iter().for_each(|link| {
                body.put_slice(link.from.bytes());
                body.put_slice(link.to.bytes());
                body.put_slice(link.item.bytes());
            }),
        }
    }

    /// Reads a note; `None` if it is not the scheduler's.
    ///
    /// # Errors
    /// A body the scheduler never wrote, or of a newer version.
    pub fn read(note: &Note) -> Result<Option<Told>> {
        if !(SCHEDULED.0..=SUCCEEDED.0).contains(&note.kind.0) {
            return Ok(None);
        }
        let broken =
            |why: &str| Error::corrupt(format!("a scheduler's note of kind {:#06x}", note.kind.0), why);
        let (version, rest) = note.body.split_first().ok_or_else(|| broken("it is empty"))?;
        if *version != VERSION {
            return Err(broken("its version is newer than this program"));
        }
        let told = match note.kind {
            SCHEDULED => marks(rest).map(Told::Scheduled),
            LEASE => rest.try_into().ok().map(|ms| Told::Lease(u64::from_le_bytes(ms))),
            COPIED => copied(rest),
            SUSPENDED => rest.is_empty().then_some(Told::Suspended),
            RESUMED => resumed(rest),
            _ => links(rest).map(Told::Succeeded),
        };
        told.map(Some)
            .ok_or_else(|| broken("its body is cut off or says what this program does not know"))
    }
}

impl Mark {
    fn write(&self, body: &mut BytesMut) {
        let flags = [
            (self.with_message, WITH_MESSAGE),
            (self.pushed.is_some(), PUSHED),
            (self.widens, WIDENS),
        ];
        body.put_u8(flags.iter().map(|(is_set, bit)| u8::from(*is_set) * bit).sum());
        if let Some(key) = self.pushed {
            body.put_u128_le(key);
        }
    }

    fn read(bytes: &[u8]) -> Option<(Mark, &[u8])> {
        let (flags, rest) = bytes.split_first()?;
        if flags & !(WITH_MESSAGE | PUSHED | WIDENS) != 0 {
            return None;
        }
        let (pushed, rest) = match flags & PUSHED {
            0 => (None, rest),
            _ => {
                let (key, rest) = rest.split_first_chunk()?;
                (Some(u128::from_le_bytes(*key)), rest)
            }
        };
        let mark = Mark {
            with_message: flags & WITH_MESSAGE != 0,
            pushed,
            widens: flags & WIDENS != 0,
        };
        Some((mark, rest))
    }
}

fn copied(bytes: &[u8]) -> Option<Told> {
    let (process, rest) = bytes.split_first_chunk()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (is_last, rest) = rest.split_first()?;
    Some(Told::Copied {
        process: ProcessId(*process),
        first: u64::from_le_bytes(*first),
        is_last: [false, true]
            .into_iter()
            .find(|flag| u8::from(*flag) == *is_last)?,
        marks: marks(rest)?,
    })
}

fn resumed(bytes: &[u8]) -> Option<Told> {
    let (epoch, rest) = bytes.split_first_chunk()?;
    let epoch = u64::from_le_bytes(*epoch);
    let items = ids(rest)?.into_iter().map(ItemId).collect();
    Some(Told::Resumed { epoch, items })
}

fn links(bytes: &[u8]) -> Option<Vec<Link>> {
    let ids = ids(bytes)?;
    let link = |ids: &[[u8; 32]]| Link {
        from: Address(ids[0]),
        to: Address(ids[1]),
        item: ItemId(ids[2]),
    };
    (ids.len() % 3 == 0).then(|| ids.chunks_exact(3).map(link).collect())
}

fn ids(bytes: &[u8]) -> Option<Vec<[u8; 32]>> {
    let (ids, rest) = bytes.as_chunks();
    rest.is_empty().then(|| ids.to_vec())
}

fn marks(mut bytes: &[u8]) -> Option<Vec<Mark>> {
    let mut marks = Vec::new();
    while !bytes.is_empty() {
        let (mark, rest) = Mark::read(bytes)?;
        marks.push(mark);
        bytes = rest;
    }
    Some(marks)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn notes_read_back_and_foreign_ones_are_left_alone() {
        let mark = |with_message, pushed| Mark {
            with_message,
            pushed,
            widens: pushed == Some(7),
        };
        let marks = vec![
            mark(true, None),
            mark(false, Some(7)),
            mark(true, Some(u128::MAX)),
            mark(false, None),
        ];
        let copied = Told::Copied {
            process: ProcessId([3; 32]),
            first: 9,
            marks: marks.clone(),
            is_last: true,
        };
        let link = Link {
            from: Address([1; 32]),
            to: Address([2; 32]),
            item: ItemId([3; 32]),
        };
        let resumed = Told::Resumed {
            epoch: 3,
            items: vec![ItemId([4; 32])],
        };
        let rest = [
            copied,
            resumed,
            Told::Suspended,
            Told::Succeeded(vec![link; 2]),
            Told::Lease(77),
        ];
        let all = [Told::Scheduled(marks), Told::Scheduled(vec![])]
            .into_iter()
            .chain(rest);
        for told in all {
            let record = told.record();
            assert_eq!(Told::read(record.note().unwrap()).unwrap(), Some(told));
        }
        assert_eq!(
            Told::read(&Note {
                kind: NoteKind::GENESIS,
                body: Bytes::new()
            })
            .unwrap(),
            None
        );
        for broken in [&b""[..], b"\x02", b"\x01\x08", b"\x01\x02short"] {
            assert!(
                Told::read(&Note {
                    kind: SCHEDULED,
                    body: broken.into()
                })
                .is_err()
            );
        }
        assert!(
            Told::read(&Note {
                kind: LEASE,
                body: Bytes::from_static(b"\x01\x00")
            })
            .is_err()
        );
    }
}
