//! The dev chain: heights and blocks that follow from the time alone.
//!
//! Not here: Arweave's chain; a data folder belongs to one chain for ever. The invariant: genesis
//! and interval are written once, as a note of the log; nothing else is stored.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use spec::ItemId;
use spec::contract::Class;

use crate::error::{Error, Result};
use crate::log::{Clock, Log};
use crate::record::{Note, NoteKind, Record};

/// Length of the note's body: genesis and interval, u64 LE each.
const NOTE_LEN: usize = 16;

/// A block of the dev chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// From 1.
    pub height: u64,
    /// SHA-256 of a fixed word, genesis and height.
    pub id: ItemId,
    /// The id of the block before it.
    pub previous: ItemId,
    /// When it began, ms since 1970.
    pub timestamp_ms: u64,
}

/// The chain of one data folder.
pub struct Chain {
    genesis_ms: u64,
    interval_ms: u64,
    clock: Clock,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({})", self.describe())
    }
}

impl Chain {
    /// A chain that began at `genesis_ms` and makes a block every `interval_ms`.
    pub fn new(genesis_ms: u64, interval_ms: u64, clock: Clock) -> Chain {
        let interval_ms = interval_ms.max(1);
        Chain {
            genesis_ms,
            interval_ms,
            clock,
        }
    }

    /// The chain that `text` describes, as [`Chain::describe`] writes it; `None` if it is no such text.
    pub fn read(text: &str, clock: Clock) -> Option<Chain> {
        let (genesis, interval) = text.strip_prefix("dev/")?.split_once('/')?;
        let chain = Chain::new(genesis.parse().ok()?, interval.parse().ok()?, clock);
        (chain.describe() == text).then_some(chain)
    }

    /// The chain that a log belongs to; an empty log begins one, with `interval_ms`.
    pub fn open(log: &Log, interval_ms: u64, clock: Clock) -> Result<Chain> {
        let mut first_ms = None;
        // Written when the folder was made, so it is the first record.
        for entry in log.entries(None) {
            let entry = entry?;
            first_ms.get_or_insert(entry.time_ms);
            if let Some(note) = entry.record.note().filter(|note| note.kind == NoteKind::GENESIS) {
                let numbers: [u8; NOTE_LEN] = note.body[..]
                    .try_into()
                    .map_err(|_| Error::NoRecord(entry.position))?;
                let number = |at: usize| crate::frame::u64_at(&numbers, at);
                return Ok(Chain::new(number(0), number(8), clock));
            }
        }
        let chain = Chain::new(first_ms.unwrap_or_else(|| clock()), interval_ms, clock);
        log.append(vec![Record::Note(chain.note())], Class::Local)
            .wait()?;
        Ok(chain)
    }

    pub(crate) fn note(&self) -> Note {
        let body = [self.genesis_ms.to_le_bytes(), self.interval_ms.to_le_bytes()].concat();
        Note {
            kind: NoteKind::GENESIS,
            body: Bytes::from(body),
        }
    }

    /// The height at a moment, ms since 1970; never below 1.
    pub fn height_at(&self, time_ms: u64) -> u64 {
        1 + time_ms.saturating_sub(self.genesis_ms) / self.interval_ms
    }

    /// The chain's time, ms since 1970.
    pub fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// The height now.
    pub fn height(&self) -> u64 {
        self.height_at((self.clock)())
    }

    /// When a height began, ms since 1970.
    pub fn start_of(&self, height: u64) -> u64 {
        let blocks = height.saturating_sub(1);
        self.genesis_ms
            .saturating_add(blocks.saturating_mul(self.interval_ms))
    }

    /// The block of a height, which may be yet to come.
    pub fn block(&self, height: u64) -> Block {
        let block = Block {
            height,
            id: self.block_id(height),
            previous: self.block_id(height.saturating_sub(1)),
            timestamp_ms: self.start_of(height),
        };
        assert!(
            height == 0 || self.height_at(block.timestamp_ms) <= height,
            "a block begins at its height"
        );
        block
    }

    fn block_id(&self, height: u64) -> ItemId {
        let mut context = Context::new(&SHA256);
        context.update(b"weft-dev-block");
        context.update(&self.genesis_ms.to_le_bytes());
        context.update(&height.to_le_bytes());
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        ItemId(id)
    }

    /// `dev/<genesis ms>/<interval ms>`: all that a reader needs to place every block.
    pub fn describe(&self) -> String {
        format!("dev/{}/{}", self.genesis_ms, self.interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn heights_follow_from_the_time() {
        let chain = Chain::new(1_000_000, 10_000, Arc::new(|| 1_025_000));
        assert_eq!(chain.height_at(0), 1);
        assert_eq!(chain.height_at(1_009_999), 1);
        assert_eq!(chain.height_at(1_010_000), 2);
        assert_eq!(chain.height(), 3);
        let (first, second) = (chain.block(1), chain.block(2));
        assert_eq!((first.timestamp_ms, second.timestamp_ms), (1_000_000, 1_010_000));
        assert_eq!(second.previous, first.id);
        assert_ne!(first.id, second.id);
        assert_eq!(chain.describe(), "dev/1000000/10000");
        assert_eq!(chain.start_of(u64::MAX), u64::MAX);
    }
}
