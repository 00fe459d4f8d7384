//! What the double enforces: intervals, windows, prices, limits.

use spec::placement;

/// Bytes that every transaction pays for beside its data.
const HEADER_BYTES: u64 = 3210;

/// The rules of one double. The defaults are the network's, but for prices.
#[derive(Debug, Clone)]
pub struct Rules {
    /// When the simulated clock begins, ms since 1970.
    pub genesis_ms: u64,
    /// Between blocks, ms of the simulated clock.
    pub block_ms: u64,
    /// A block's hash anchors a transaction while it is among so many last ones.
    pub anchor_blocks: u64,
    /// After how long a transaction reaches the other peers, ms.
    pub gossip_ms: u64,
    /// After how long a chunk reaches the other peers, ms; `None`: only if it is posted to them. With it a peer that lost
    /// everything takes it over from the others when it is back.
    pub chunk_gossip_ms: Option<u64>,
    /// How long the root of a transaction that is not mined is known to a peer, in block intervals.
    pub pool_blocks: u64,
    /// Most bytes of chunks of one such root.
    pub pool_bytes_max: u64,
    /// Most bytes of chunks that a peer holds.
    pub store_bytes_max: u64,
    /// Most transactions that wait at a peer.
    pub mempool_max: usize,
    /// Most transactions of a block.
    pub block_txs_max: usize,
    /// No block is mined beyond this height.
    pub height_max: u64,
    /// Winston a byte, of data padded to whole chunks and its header.
    pub winston_per_byte: u128,
    /// Winston more for a target that never had a balance.
    pub new_account_winston: u128,
    /// What every account has at birth, winston.
    pub birth_winston: u128,
    /// Between bundles that the bundler makes, ms.
    pub bundle_ms: u64,
    /// Most items that wait for the bundler.
    pub bundler_items_max: usize,
    /// Confirmations at which the bundler calls an item permanent.
    pub permanent_blocks: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            genesis_ms: 1_700_000_000_000,
            block_ms: 120_000,
            anchor_blocks: 50,
            gossip_ms: 2_000,
            chunk_gossip_ms: None,
            pool_blocks: 15,
            pool_bytes_max: 256 << 20,
            store_bytes_max: 4 << 30,
            mempool_max: 10_000,
            block_txs_max: 1_000,
            height_max: 10_000_000,
            winston_per_byte: 1_000,
            new_account_winston: 1_000_000,
            birth_winston: 0,
            bundle_ms: 60_000,
            bundler_items_max: 100_000,
            permanent_blocks: 18,
        }
    }
}

impl Rules {
    /// Those of a double started by hand: quick blocks, everything in proportion, and money for everybody.
    pub fn by_hand(genesis_ms: u64, block_ms: u64) -> Rules {
        Rules {
            genesis_ms,
            block_ms,
            gossip_ms: block_ms / 4,
            chunk_gossip_ms: Some(block_ms),
            birth_winston: 1_000_000_000_000_000,
            bundle_ms: block_ms,
            ..Rules::default()
        }
    }

    /// What a transaction with so many bytes of data must pay at least.
    pub fn price(&self, len: u64, is_new_account: bool) -> u128 {
        let bytes = placement::padded(len) + HEADER_BYTES;
        let account = if is_new_account {
            self.new_account_winston
        } else {
            0
        };
        u128::from(bytes) * self.winston_per_byte + account
    }
}
