//! A chunk as it is posted to a node: its JSON, and whether it is what its root says.
//!
//! Not here: whether the root is known, keeping it. The invariant: what `prove` accepts has a proof that leads to
//! exactly its bytes.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::Deserialize;
use spec::chunks::{self, CHUNK_LEN_MAX, Chunk, Hash};
use spec::ids::from_base64url;

/// What chunks are of: a data root and the size of the data.
pub type Root = (Hash, u64);

/// A chunk as it is posted.
#[derive(Debug, Clone)]
pub struct ChunkPost {
    /// What it is of.
    pub root: Root,
    /// A byte of the data that it holds, from 0.
    pub offset: u64,
    /// The proof.
    pub data_path: Bytes,
    /// Its bytes.
    pub chunk: Bytes,
}

/// Why a peer takes no chunk: the network's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkRefused {
    /// Not the JSON of a chunk; numbers must be texts.
    #[error("invalid_json")]
    Json,
    /// More than 256 KiB.
    #[error("chunk_too_big")]
    ChunkTooBig,
    /// A proof of more than 256 KiB.
    #[error("data_path_too_big")]
    PathTooBig,
    /// An offset beyond any data.
    #[error("offset_too_big")]
    OffsetTooBig,
    /// A size beyond any data.
    #[error("data_size_too_big")]
    SizeTooBig,
    /// The proof is longer than what it proves, and it is not the last chunk.
    #[error("chunk_proof_ratio_not_attractive")]
    Ratio,
    /// The proof does not lead to these bytes.
    #[error("invalid_proof")]
    Proof,
    /// No transaction with this root has been posted here, or too long ago.
    #[error("data_root_not_found")]
    RootUnknown,
    /// Too much for one transaction that is not mined yet.
    #[error("exceeds_disk_pool_size_limit")]
    PoolFull,
    /// The peer's store is full.
    #[error("disk_full")]
    DiskFull,
}

#[derive(Deserialize)]
struct Wire {
    data_root: String,
    data_size: String,
    data_path: String,
    offset: String,
    chunk: String,
}

impl ChunkPost {
    /// Reads the JSON of the network, in the order in which peers check it.
    ///
    /// # Errors
    /// The peer's word for what is wrong.
    pub fn from_json(json: &[u8]) -> Result<ChunkPost, ChunkRefused> {
        let wire: Wire = serde_json::from_slice(json).map_err(|_| ChunkRefused::Json)?;
        let bytes = |text: &str| from_base64url(text).ok_or(ChunkRefused::Json);
        let number =
            |text: &str, too_big| match text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
                true => text.parse::<u64>().map_err(|_| too_big),
                false => Err(ChunkRefused::Json),
            };
        let (chunk, data_path) = (bytes(&wire.chunk)?, bytes(&wire.data_path)?);
        let data_root = bytes(&wire.data_root)?
            .try_into()
            .map_err(|_| ChunkRefused::Json)?;
        if chunk.len() as u64 > CHUNK_LEN_MAX {
            return Err(ChunkRefused::ChunkTooBig);
        }
        if data_path.len() as u64 > CHUNK_LEN_MAX {
            return Err(ChunkRefused::PathTooBig);
        }
        let offset = number(&wire.offset, ChunkRefused::OffsetTooBig)?;
        let data_size = number(&wire.data_size, ChunkRefused::SizeTooBig)?;
        Ok(ChunkPost {
            root: (data_root, data_size),
            offset,
            data_path: data_path.into(),
            chunk: chunk.into(),
        })
    }

    /// Whether the proof is worth storing: it is short, or the chunk is the last one.
    fn is_attractive(&self) -> bool {
        let last = self.root.1.to_be_bytes();
        !self.data_path.is_empty()
            && (self.data_path.ends_with(&last) || self.data_path.len() <= self.chunk.len())
    }

    /// Whether it is a chunk of its root, in the order in which nodes check it.
    ///
    /// # Errors
    /// The node's word for what is wrong.
    pub fn prove(&self, is_root_known: bool) -> Result<Chunk, ChunkRefused> {
        if !self.is_attractive() {
            return Err(ChunkRefused::Ratio);
        }
        if !is_root_known {
            return Err(ChunkRefused::RootUnknown);
        }
        let (root, len) = self.root;
        let proved =
            chunks::verify(&root, len, self.offset, &self.data_path).map_err(|_| ChunkRefused::Proof)?;
        let is_whole = proved.end - proved.start == self.chunk.len() as u64;
        match is_whole && digest(&SHA256, &self.chunk).as_ref() == proved.hash {
            true => Ok(proved),
            false => Err(ChunkRefused::Proof),
        }
    }
}
