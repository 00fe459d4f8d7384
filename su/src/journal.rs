//! What the scheduler needs of the log, as a trait: the log itself, or a test's log that fails.
//!
//! The invariant an implementation keeps: a group is in the log whole or not at all, in the order
//! of the appends; after an append failed, either the group is not in the log, or every later
//! append fails too.

use std::pin::Pin;

use spec::contract::Class;
use weave::{Piece, Position, Record};

/// An append under way; it ends when the group is durable.
pub type Pending = Pin<Box<dyn Future<Output = weave::error::Result<Vec<Position>>> + Send>>;
/// Records in the order of the log.
pub type Replay<'a> = Box<dyn Iterator<Item = weave::error::Result<(Position, Record)>> + 'a>;

/// An append-only log.
pub trait Journal: Send + Sync {
    /// Starts to append a group of records.
    fn append(&self, records: Vec<Record>, class: Class) -> Pending;
    /// Starts to append a group that holds copies of what stands in the log.
    fn append_pieces(&self, pieces: Vec<Piece>, class: Class) -> Pending;
    /// The record at a position.
    fn read(&self, at: Position) -> weave::error::Result<Record>;
    /// The records after a position, or all of them.
    fn replay(&self, after: Option<Position>) -> Replay<'_>;
}

impl Journal for weave::Log {
    fn append(&self, records: Vec<Record>, class: Class) -> Pending {
        Box::pin(weave::Log::append(self, records, class))
    }

    fn append_pieces(&self, pieces: Vec<Piece>, class: Class) -> Pending {
        Box::pin(weave::Log::append_pieces(self, pieces, class))
    }

    fn read(&self, at: Position) -> weave::error::Result<Record> {
        weave::Log::read(self, at)
    }

    fn replay(&self, after: Option<Position>) -> Replay<'_> {
        match self.entries_ahead(after) {
            Ok(entries) => {
                let both = |entry: weave::Entry| (entry.position, entry.record);
                Box::new(entries.map(move |entry| entry.map(both)))
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}
