//! Stretches: the end of a chunk, shown to be in a transaction's data without what stands before it in the chunk.
//!
//! Pure. The invariant: the bytes of a stretch that verifies are those that its data root was made of.
//! Source: spec/proof.md, "A stretch".

use bytes::Bytes;

use crate::chunks::{self, Hash};
use crate::midstate::Sha256;

/// The bytes of a chunk from some block of SHA-256 to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Where the chunk begins in the transaction's data.
    pub chunk_start: u64,
    /// Bytes of the chunk before the stretch; whole blocks.
    pub skipped: u32,
    /// SHA-256 after these.
    pub state: Sha256,
    /// From the data root to the chunk.
    pub data_path: Bytes,
    /// The chunk's bytes from there.
    pub bytes: Bytes,
}

impl Stretch {
    /// Of a chunk, from the block that holds its byte `from` on; the whole chunk for 0.
    pub fn of(chunk: &Bytes, chunk_start: u64, data_path: Bytes, from: usize) -> Stretch {
        assert!(from <= chunk.len(), "a stretch begins in its chunk");
        let skipped = from - from % Sha256::BLOCK;
        Stretch {
            chunk_start,
            skipped: u32::try_from(skipped).expect("a chunk has 256 KiB"),
            state: Sha256::FIRST.after(&chunk[..skipped]),
            data_path,
            bytes: chunk.slice(skipped..),
        }
    }

    /// Whether it is the end of a chunk of data of this root and length.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(super) fn verify(&self, root: &Hash, len: u64) -> Result<(), String> {
        let chunk = chunks::verify(root, len, self.chunk_start, &self.data_path);
        let chunk = chunk.map_err(|error| error.to_string())?;
        let end = self
            .start()
            .and_then(|start| start.checked_add(self.bytes.len() as u64));
        if chunk.start != self.chunk_start || end != Some(chunk.end) {
            return Err("its bounds are not those of the chunk that its data_path leads to".into());
        }
        if !(self.skipped as usize).is_multiple_of(Sha256::BLOCK) {
            return Err("it does not begin at a block of the hash".into());
        }
        if self.skipped == 0 && self.state != Sha256::FIRST {
            return Err("the hash's state before the chunk is not the first one".into());
        }
        match self.state.finish(self.skipped.into(), &self.bytes) == chunk.hash {
            true => Ok(()),
            false => Err("state and bytes do not hash to the chunk that its data_path leads to".into()),
        }
    }

    /// Where its bytes begin in the transaction's data.
    fn start(&self) -> Option<u64> {
        self.chunk_start.checked_add(self.skipped.into())
    }
}

/// Whether the stretches hold `expected` at `offset` of the data; `None` if they do not reach over all of it.
pub(super) fn holds(stretches: &[Stretch], offset: u64, expected: &[u8]) -> Option<bool> {
    let (mut at, mut rest) = (offset, expected);
    while !rest.is_empty() {
        let part = stretches.iter().find_map(|stretch| {
            let from = usize::try_from(at.checked_sub(stretch.start()?)?).ok()?;
            stretch.bytes.get(from..).filter(|part| !part.is_empty())
        })?;
        let len = part.len().min(rest.len());
        if part[..len] != rest[..len] {
            return Some(false);
        }
        (at, rest) = (at.checked_add(len as u64)?, &rest[len..]);
    }
    Some(true)
}
