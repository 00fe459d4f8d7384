//! What the scheduler writes into the log beside items: which items it scheduled, and how far its
//! promise about ticks goes. Drawn byte by byte in `spec/assignment.md`.
//!
//! Only the node writes notes, so what they say cannot be forged by uploading an assignment.

use bytes::{BufMut, BytesMut};
use weave::{Note, NoteKind, Record};

use crate::error::{Error, Result};

/// The records after this one are messages and assignments, in the pattern of the body.
pub const SCHEDULED: NoteKind = NoteKind(NoteKind::SCHEDULER.0);
/// No tick after the body's moment was handed out so far.
pub const LEASE: NoteKind = NoteKind(NoteKind::SCHEDULER.0 + 1);

/// Version of both bodies.
const VERSION: u8 = 1;

/// How one assignment stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Whether the message stands right before the assignment; else it lives elsewhere.
    pub with_message: bool,
    /// By what a pushed message is known again; kept here because its data may be withheld later.
    pub pushed: Option<u128>,
}

/// A note of the scheduler, read.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The assignments that follow, in order.
    Scheduled(Vec<Mark>),
    /// Ticks up to this moment in ms may have been handed out.
    Lease(u64),
}

/// Bit of a mark: the message stands before the assignment.
const WITH_MESSAGE: u8 = 1;
/// Bit of a mark: 16 bytes follow, by which the message is known again.
const PUSHED: u8 = 2;

impl Told {
    /// The record to append.
    pub fn record(&self) -> Record {
        let mut body = BytesMut::new();
        body.put_u8(VERSION);
        let kind = match self {
            Told::Scheduled(marks) => {
                marks.iter().for_each(|mark| mark.write(&mut body));
                SCHEDULED
            }
            Told::Lease(until_ms) => {
                body.put_u64_le(*until_ms);
                LEASE
            }
        };
        Record::Note(Note {
            kind,
            body: body.freeze(),
        })
    }

    /// Reads a note; `None` if it is not the scheduler's.
    ///
    /// # Errors
    /// A body the scheduler never wrote, or of a newer version.
    pub fn read(note: &Note) -> Result<Option<Told>> {
        if note.kind != SCHEDULED && note.kind != LEASE {
            return Ok(None);
        }
        let broken =
            |why: &str| Error::corrupt(format!("a scheduler's note of kind {:#06x}", note.kind.0), why);
        let (version, rest) = note.body.split_first().ok_or_else(|| broken("it is empty"))?;
        if *version != VERSION {
            return Err(broken("its version is newer than this program"));
        }
        if note.kind == LEASE {
            let until_ms = rest.try_into().map_err(|_| broken("its length is wrong"))?;
            return Ok(Some(Told::Lease(u64::from_le_bytes(until_ms))));
        }
        let marks = marks(rest).ok_or_else(|| broken("its marks are cut off or unknown"))?;
        Ok(Some(Told::Scheduled(marks)))
    }
}

impl Mark {
    fn write(&self, body: &mut BytesMut) {
        let pushed = if self.pushed.is_some() { PUSHED } else { 0 };
        body.put_u8((u8::from(self.with_message) * WITH_MESSAGE) | pushed);
        if let Some(key) = self.pushed {
            body.put_u128_le(key);
        }
    }

    fn read(bytes: &[u8]) -> Option<(Mark, &[u8])> {
        let (flags, rest) = bytes.split_first()?;
        let with_message = flags & WITH_MESSAGE != 0;
        match flags & !WITH_MESSAGE {
            0 => Some((
                Mark {
                    with_message,
                    pushed: None,
                },
                rest,
            )),
            PUSHED => {
                let (key, rest) = rest.split_first_chunk()?;
                Some((
                    Mark {
                        with_message,
                        pushed: Some(u128::from_le_bytes(*key)),
                    },
                    rest,
                ))
            }
            _ => None,
        }
    }
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
        let mark = |with_message, pushed| Mark { with_message, pushed };
        let marks = vec![
            mark(true, None),
            mark(false, Some(7)),
            mark(true, Some(u128::MAX)),
            mark(false, None),
        ];
        for told in [Told::Scheduled(marks), Told::Scheduled(vec![]), Told::Lease(77)] {
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
        for broken in [&b""[..], b"\x02", b"\x01\x07", b"\x01\x02short"] {
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
