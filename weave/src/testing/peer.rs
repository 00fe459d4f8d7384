//! One peer of the double: the transactions that wait at it and the chunks it holds.
//!
//! Not here: the chain, which all peers share. The invariant: every chunk held was proved against a root that the
//! peer knew.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::Deserialize;
use spec::chunks::{self, CHUNK_LEN_MAX, Chunk, Hash};
use spec::ids::from_base64url;
use spec::{Address, ItemId, Transaction};

use super::chain::{Chain, root_of, spent};

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

/// What a peer did with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Kept (200).
    Stored,
    /// Kept for a while, which is no promise (303).
    Temporary,
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
}

/// A chunk that a peer holds.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
    pub(super) data_path: Bytes,
    pub(super) is_temporary: bool,
}

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) mempool: BTreeMap<ItemId, Arc<Transaction>>,
    /// Ids handled lately, and until when they are remembered.
    pub(super) seen: BTreeMap<ItemId, u64>,
    /// Roots of transactions that are not mined, and until when they are known.
    pub(super) roots: BTreeMap<Root, u64>,
    /// By the end of each chunk within the data.
    pub(super) chunks: BTreeMap<Root, BTreeMap<u64, Held>>,
    bytes: u64,
    /// Until when it answers nothing.
    pub(super) away_until_ms: u64,
}

/// What bounds a peer's store.
pub(super) struct Bounds {
    pub(super) pool_bytes_max: u64,
    pub(super) store_bytes_max: u64,
}

impl Peer {
    /// Whether a chunk is one of a root that is known here.
    pub(super) fn prove(&self, post: &ChunkPost, chain: &Chain) -> Result<Chunk, ChunkRefused> {
        if !post.is_attractive() {
            return Err(ChunkRefused::Ratio);
        }
        if !chain.has_root(&post.root) && !self.roots.contains_key(&post.root) {
            return Err(ChunkRefused::RootUnknown);
        }
        let (root, len) = post.root;
        let proved =
            chunks::verify(&root, len, post.offset, &post.data_path).map_err(|_| ChunkRefused::Proof)?;
        let is_whole = proved.end - proved.start == post.chunk.len() as u64;
        match is_whole && digest(&SHA256, &post.chunk).as_ref() == proved.hash {
            true => Ok(proved),
            false => Err(ChunkRefused::Proof),
        }
    }

    /// Keeps a chunk if it is proved. Answers whether it is new.
    pub(super) fn keep(
        &mut self,
        post: &ChunkPost,
        is_temporary: bool,
        chain: &Chain,
        bounds: &Bounds,
    ) -> Result<bool, ChunkRefused> {
        let proved = self.prove(post, chain)?;
        let is_mined = chain.has_root(&post.root);
        let held = self.chunks.entry(post.root).or_default();
        if held
            .get(&proved.end)
            .is_some_and(|held| !held.is_temporary || is_temporary)
        {
            return Ok(false);
        }
        let (new, pool): (u64, u64) = (
            post.chunk.len() as u64,
            held.values().map(|held| held.bytes.len() as u64).sum(),
        );
        if !is_mined && pool + new > bounds.pool_bytes_max {
            return Err(ChunkRefused::PoolFull);
        }
        if self.bytes + new > bounds.store_bytes_max {
            return Err(ChunkRefused::DiskFull);
        }
        let chunk = Held {
            start: proved.start,
            bytes: post.chunk.clone(),
            data_path: post.data_path.clone(),
            is_temporary,
        };
        let before = held.insert(proved.end, chunk);
        self.bytes += if before.is_none() { new } else { 0 };
        Ok(true)
    }

    /// The chunk that holds a byte of some data.
    pub(super) fn chunk(&self, root: &Root, offset: u64) -> Option<(u64, &Held)> {
        let (end, held) = self.chunks.get(root)?.range(offset + 1..).next()?;
        (held.start <= offset).then_some((*end, held))
    }

    /// What an account's waiting transactions spend.
    pub(super) fn spending(&self, owner: &Address) -> u128 {
        let waiting = self.mempool.values().filter(|one| one.owner.address() == *owner);
        waiting.map(|one| spent(one)).sum()
    }

    /// Those that may be in the next block, the best paying first.
    pub(super) fn candidates(&self, chain: &Chain, anchor_blocks: u64, most: usize) -> Vec<Arc<Transaction>> {
        let fit = self
            .mempool
            .values()
            .filter(|one| chain.is_anchored(one, anchor_blocks));
        let mut fit: Vec<Arc<Transaction>> = fit.cloned().collect();
        fit.sort_by_key(|one| (std::cmp::Reverse(one.content.reward), one.id));
        fit.truncate(most);
        fit
    }

    /// A block took this transaction: it waits no more, and chunks kept only for a while are gone.
    pub(super) fn mined(&mut self, transaction: &Transaction) {
        self.mempool.remove(&transaction.id);
        if let Some(root) = root_of(transaction) {
            self.roots.remove(&root);
            if let Some(held) = self.chunks.get_mut(&root) {
                held.retain(|_, held| !held.is_temporary);
            }
        }
    }

    /// Drops what has been here too long.
    pub(super) fn expire(&mut self, now_ms: u64, chain: &Chain, anchor_blocks: u64) {
        self.mempool
            .retain(|_, one| chain.is_anchored(one, anchor_blocks));
        self.seen.retain(|_, until| *until > now_ms);
        self.roots.retain(|_, until| *until > now_ms);
        let roots = &self.roots;
        self.chunks
            .retain(|root, _| roots.contains_key(root) || chain.has_root(root));
        self.count();
    }

    /// Comes back with nothing.
    pub(super) fn wipe(&mut self) {
        let away_until_ms = self.away_until_ms;
        *self = Peer {
            away_until_ms,
            ..Peer::default()
        };
    }

    fn count(&mut self) {
        let all = self.chunks.values().flat_map(|held| held.values());
        self.bytes = all.map(|held| held.bytes.len() as u64).sum();
    }
}
