//! Records: what the log is made of, and the position each has.
//!
//! Not here: how they lie on disk; see `frame.rs` and `spec/storage.md`.

use bytes::Bytes;
use spec::contract::Class;
use spec::{DataItem, ItemId, Withheld};

/// Where a record stands in the log: opaque, ordered like the appends, valid for ever.
///
/// Fit to be stored in indexes and used as a cursor. It is a logical offset: it stays the same
/// when the data of an item before it is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub(crate) u64);

impl Position {
    /// The number to store; never interpret it.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// From a stored number.
    pub const fn from_number(number: u64) -> Position {
        Position(number)
    }
}

/// What kind of decision a note records. Each unit numbers its own kinds in its own range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoteKind(pub u16);

impl NoteKind {
    /// The dev chain's birth; the weave's range is 0x0100-0x01ff.
    pub const GENESIS: NoteKind = NoteKind(0x0100);
    /// Bytes registered under a published id.
    pub const REGISTERED: NoteKind = NoteKind(0x0101);
    /// The item before it must not leave this machine: version 1, id.
    pub const KEPT_LOCAL: NoteKind = NoteKind(0x0102);
    /// First kind of the scheduler, 0x0200-0x02ff.
    pub const SCHEDULER: NoteKind = NoteKind(0x0200);
    /// First kind of the compute unit, 0x0300-0x03ff.
    pub const COMPUTE: NoteKind = NoteKind(0x0300);
    /// First kind of the messenger, 0x0400-0x04ff.
    pub const MESSENGER: NoteKind = NoteKind(0x0400);
    /// First kind of the node, 0x0500-0x05ff.
    pub const NODE: NoteKind = NoteKind(0x0500);
}

/// A decision of the node that is no data item. Its writer owns the meaning of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it decides.
    pub kind: NoteKind,
    /// The decision.
    pub body: Bytes,
}

/// What an append is made of.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A new record.
    New(Record),
    /// The record that stands there, once more; without its data if that was withheld by then.
    Copy(Position),
}

/// One record of the log.
#[derive(Debug, Clone)]
pub enum Record {
    /// A signed item, verbatim.
    Item(DataItem),
    /// A signed item without its data.
    Withheld(Withheld),
    /// A decision that is no item.
    Note(Note),
}

impl Record {
    /// The item's id; notes have none.
    pub fn id(&self) -> Option<ItemId> {
        match self {
            Record::Item(item) => Some(item.id()),
            Record::Withheld(withheld) => Some(withheld.id()),
            Record::Note(_) => None,
        }
    }

    /// The item, if it is one and whole.
    pub fn item(&self) -> Option<&DataItem> {
        match self {
            Record::Item(item) => Some(item),
            _ => None,
        }
    }

    /// The note, if it is one.
    pub fn note(&self) -> Option<&Note> {
        match self {
            Record::Note(note) => Some(note),
            _ => None,
        }
    }
}

/// A record with all the log knows about it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// When it was appended, ms since 1970; never decreasing along the log.
    pub time_ms: u64,
    /// Whether its segment may be uploaded.
    pub class: Class,
    /// The record.
    pub record: Record,
}
