//! One peer of the double: the transactions that wait at it and the chunks it holds.
//!
//! Not here: the chain, which all peers share. The invariant: every chunk held was proved against a root that the
//! peer knew.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use spec::chunks::Chunk;
use spec::{Address, ItemId, Transaction};

use super::chain::{Chain, root_of, spent};
pub use crate::base_layer::chunk::{ChunkPost, ChunkRefused, Root};

/// What a peer did with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Kept (200).
    Stored,
    /// Kept for a while, which is no promise (303).
    Temporary,
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
    /// It lost what it held, and has not taken it over from the others again.
    pub(super) is_bare: bool,
}

/// What bounds a peer's store.
pub(super) struct Bounds {
    pub(super) pool_bytes_max: u64,
    pub(super) store_bytes_max: u64,
}

impl Peer {
    /// Whether a chunk is one of a root that is known here.
    pub(super) fn prove(&self, post: &ChunkPost, chain: &Chain) -> Result<Chunk, ChunkRefused> {
        let is_known = chain.has_root(&post.root) || self.roots.contains_key(&post.root);
        post.prove(is_known)
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
            is_bare: true,
            ..Peer::default()
        };
    }

    /// Takes over what another peer holds of transactions in blocks, as nodes of the network do in time.
    pub(super) fn sync(&mut self, other: &Peer, chain: &Chain) {
        let mined = other.chunks.iter().filter(|(root, _)| chain.has_root(root));
        for (root, theirs) in mined {
            let held = self.chunks.entry(*root).or_default();
            let lasting = theirs.iter().filter(|(_, held)| !held.is_temporary);
            held.extend(lasting.map(|(end, held)| (*end, held.clone())));
        }
        self.is_bare = false;
        self.count();
    }

    fn count(&mut self) {
        let all = self.chunks.values().flat_map(|held| held.values());
        self.bytes = all.map(|held| held.bytes.len() as u64).sum();
    }
}
