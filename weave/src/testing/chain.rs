//! The double's chain: blocks, accounts, and what each transaction must be to enter.
//!
//! Not here: mempools, chunks, time. The invariant: accounts are what the blocks from the first to the last make of
//! them, also after blocks were taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use spec::chunks::Hash;
use spec::deep_hash::sha384;
use spec::placement::{BlockPlace, BlockTree, padded};
use spec::{Address, ItemId, Transaction};

use super::peer::Root;
use super::rules::Rules;

/// A block's id.
pub type BlockHash = [u8; 48];

/// Bytes of the weave before the double's first block, so that no offset is small by chance.
const WEAVE_START: u64 = 1 << 30;

/// A transaction in a block.
#[derive(Debug, Clone)]
pub struct Mined {
    /// It.
    pub transaction: Arc<Transaction>,
    /// Bytes of the weave with its data: its offset.
    pub end: u64,
}

/// A block.
#[derive(Debug)]
pub struct Block {
    /// Blocks before it.
    pub height: u64,
    /// Its id.
    pub hash: BlockHash,
    /// The id of the one before.
    pub previous: BlockHash,
    /// When it was mined, ms since 1970.
    pub timestamp_ms: u64,
    /// In their order.
    pub transactions: Vec<Mined>,
    /// Over their data.
    pub tree: BlockTree,
    /// Bytes of the weave before it.
    pub start: u64,
    /// Accounts as they were before it.
    undo: Vec<(Address, Option<Moves>)>,
}

impl Block {
    /// Bytes of the weave with it.
    pub fn end(&self) -> u64 {
        self.start + self.tree.len()
    }

    /// What its header says of its place; `None` if it has no data.
    pub fn place(&self) -> Option<BlockPlace> {
        Some(BlockPlace {
            tx_root: self.tree.root()?,
            start: self.start,
            end: self.end(),
        })
    }
}

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// In winston.
    pub balance: u128,
    /// Its newest transaction in a block.
    pub last_tx: Option<ItemId>,
}

/// What blocks did to an account.
#[derive(Debug, Clone, Copy, Default)]
struct Moves {
    received: u128,
    spent: u128,
    last_tx: Option<ItemId>,
}

/// Why a peer takes no transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionRefused {
    /// The peer has seen it moments ago.
    #[error("Transaction already processed.")]
    Known,
    /// It is in a block.
    #[error("Transaction is already on the weave.")]
    Mined,
    /// Shape, limits, id, signature or data.
    #[error("Transaction verification failed: {0}.")]
    Verification(spec::transaction::TransactionError),
    /// Its anchor is neither a recent block nor the account's last transaction.
    #[error(
        "Invalid anchor (last_tx): neither one of the last {0} blocks nor the account's last transaction."
    )]
    Anchor(u64),
    /// It pays too little.
    #[error("The reward is {reward} winston, the price is {price}.")]
    Reward {
        /// What it pays.
        reward: u128,
        /// What it must.
        price: u128,
    },
    /// Its account cannot pay.
    #[error("The account has {balance} winston, the waiting transactions and this one spend {spent}.")]
    Balance {
        /// What there is.
        balance: u128,
        /// What would be spent.
        spent: u128,
    },
    /// The data sent along is too long for one body.
    #[error("Data of more than 10 MiB goes up chunk by chunk.")]
    TooLarge,
    /// The mempool is full.
    #[error("The mempool is full.")]
    Busy,
}

/// The chain.
pub(super) struct Chain {
    blocks: Vec<Block>,
    heights: BTreeMap<BlockHash, u64>,
    accounts: BTreeMap<Address, Moves>,
    /// What was given from outside of the chain; no fork takes it back.
    granted: BTreeMap<Address, u128>,
    places: BTreeMap<ItemId, (u64, usize)>,
    /// How many mined transactions have a root.
    roots: BTreeMap<Root, u32>,
    birth_winston: u128,
    /// Makes the blocks of a fork differ from those they replace.
    made: u64,
}

impl Chain {
    /// One block without transactions.
    pub(super) fn new(rules: &Rules) -> Chain {
        let mut chain = Chain {
            blocks: Vec::new(),
            heights: BTreeMap::new(),
            accounts: BTreeMap::new(),
            granted: BTreeMap::new(),
            places: BTreeMap::new(),
            roots: BTreeMap::new(),
            birth_winston: rules.birth_winston,
            made: 0,
        };
        chain.push(Vec::new(), rules.genesis_ms);
        chain
    }

    pub(super) fn tip(&self) -> &Block {
        self.blocks.last().expect("the first block is never taken back")
    }

    pub(super) fn height(&self) -> u64 {
        self.tip().height
    }

    pub(super) fn block(&self, height: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(height).ok()?)
    }

    pub(super) fn block_of(&self, hash: &[u8]) -> Option<&Block> {
        let hash: &BlockHash = hash.try_into().ok()?;
        self.block(*self.heights.get(hash)?)
    }

    pub(super) fn account(&self, address: &Address) -> Account {
        let moves = self.accounts.get(address).copied().unwrap_or_default();
        let granted = self.granted.get(address).copied().unwrap_or_default();
        let all = self
            .birth_winston
            .saturating_add(granted)
            .saturating_add(moves.received);
        let balance = all.checked_sub(moves.spent).expect("only what is there is spent");
        let last_tx = moves.last_tx;
        Account { balance, last_tx }
    }

    /// Whether nothing was ever sent to or by an account.
    pub(super) fn is_new(&self, address: &Address) -> bool {
        !self.accounts.contains_key(address) && !self.granted.contains_key(address)
    }

    pub(super) fn mint(&mut self, address: Address, winston: u128) {
        let granted = self.granted.entry(address).or_default();
        *granted = granted.saturating_add(winston);
    }

    /// The block and the place in it of a transaction.
    pub(super) fn find(&self, id: &ItemId) -> Option<(&Block, &Mined)> {
        let (height, index) = self.places.get(id)?;
        let block = self.block(*height).expect("places are in blocks");
        Some((block, &block.transactions[*index]))
    }

    /// The transaction whose data holds an offset of the weave, counted from 1.
    pub(super) fn at(&self, offset: u64) -> Option<(&Block, &Mined)> {
        let index = self.blocks.partition_point(|block| block.end() < offset);
        let block = self.blocks.get(index).filter(|block| offset > block.start)?;
        let holds = |mined: &&Mined| {
            let start = mined.end - mined.transaction.content.data_size;
            start < offset && offset <= mined.end
        };
        Some((block, block.transactions.iter().find(holds)?))
    }

    /// Whether some mined transaction has this root.
    pub(super) fn has_root(&self, root: &Root) -> bool {
        self.roots.contains_key(root)
    }

    /// Whether a transaction may be in the next block as far as its anchor goes.
    pub(super) fn is_anchored(&self, transaction: &Transaction, anchor_blocks: u64) -> bool {
        let anchor = &transaction.content.last_tx;
        if let Some(block) = self.block_of(anchor) {
            return self.height() - block.height < anchor_blocks;
        }
        let last = self.account(&transaction.owner.address()).last_tx;
        anchor[..] == *last.as_ref().map_or(&[][..], |id| &id.0)
    }

    /// Appends a block of those candidates that can pay; answers which these are.
    pub(super) fn push(&mut self, candidates: Vec<Arc<Transaction>>, timestamp_ms: u64) -> Vec<ItemId> {
        let (start, previous) = match self.blocks.last() {
            Some(tip) => (tip.end(), tip.hash),
            None => (WEAVE_START, [0; 48]),
        };
        let (height, mut undo) = (self.blocks.len() as u64, Vec::new());
        let paid = candidates.into_iter().filter(|one| self.pay(one, &mut undo));
        let paid: Vec<Arc<Transaction>> = paid.collect();
        let data = paid
            .iter()
            .filter_map(|one| Some((one.content.data_root?, one.content.data_size)));
        let (tree, mut at) = (BlockTree::of(data), start);
        let transactions = paid.into_iter().map(|transaction| {
            let (begin, len) = (at, transaction.content.data_size);
            at += padded(len);
            Mined {
                transaction,
                end: begin + len,
            }
        });
        let transactions: Vec<Mined> = transactions.collect();
        self.made += 1;
        let hash = block_hash(&previous, height, timestamp_ms, self.made, &transactions);
        let ids: Vec<ItemId> = transactions.iter().map(|mined| mined.transaction.id).collect();
        for (index, mined) in transactions.iter().enumerate() {
            self.places.insert(mined.transaction.id, (height, index));
            root_of(&mined.transaction)
                .into_iter()
                .for_each(|root| *self.roots.entry(root).or_default() += 1);
        }
        self.heights.insert(hash, height);
        let block = Block {
            height,
            hash,
            previous,
            timestamp_ms,
            transactions,
            tree,
            start,
            undo,
        };
        assert_eq!(at.max(start), block.end(), "data lies without gaps");
        self.blocks.push(block);
        ids
    }

    /// Takes a transaction's money; false if there is too little, and nothing changed.
    fn pay(&mut self, one: &Transaction, undo: &mut Vec<(Address, Option<Moves>)>) -> bool {
        let (address, content) = (one.owner.address(), &one.content);
        if self.account(&address).balance < spent(one) {
            return false;
        }
        let payer = self.moves(address, undo);
        payer.spent += spent(one);
        payer.last_tx = Some(one.id);
        if let Some(target) = content.target {
            let payee = self.moves(target, undo);
            payee.received = payee.received.saturating_add(content.quantity);
        }
        true
    }

    /// What blocks did to an account, to be changed; as it was is noted.
    fn moves(&mut self, address: Address, undo: &mut Vec<(Address, Option<Moves>)>) -> &mut Moves {
        undo.push((address, self.accounts.get(&address).copied()));
        self.accounts.entry(address).or_default()
    }

    /// Takes the last block back.
    pub(super) fn pop(&mut self) -> Block {
        assert!(self.blocks.len() > 1, "the first block is never taken back");
        let block = self.blocks.pop().expect("more than one");
        self.heights.remove(&block.hash);
        for mined in &block.transactions {
            self.places.remove(&mined.transaction.id);
            if let Some(root) = root_of(&mined.transaction) {
                let count = self.roots.get_mut(&root).expect("counted when it was mined");
                *count -= 1;
                if *count == 0 {
                    self.roots.remove(&root);
                }
            }
        }
        for (address, before) in block.undo.iter().rev() {
            match before {
                Some(moves) => self.accounts.insert(*address, *moves),
                None => self.accounts.remove(address),
            };
        }
        block
    }
}

/// What a transaction takes from its account.
pub(super) fn spent(transaction: &Transaction) -> u128 {
    let content = &transaction.content;
    content.quantity.saturating_add(content.reward)
}

/// The root of its data, if it has data.
pub(super) fn root_of(transaction: &Transaction) -> Option<Root> {
    let content = &transaction.content;
    content.data_root.map(|root: Hash| (root, content.data_size))
}

fn block_hash(previous: &BlockHash, height: u64, time_ms: u64, made: u64, txs: &[Mined]) -> BlockHash {
    let mut bytes = b"weft-double-block".to_vec();
    bytes.extend_from_slice(previous);
    bytes.extend([height, time_ms, made].map(u64::to_be_bytes).concat());
    txs.iter()
        .for_each(|mined| bytes.extend_from_slice(&mined.transaction.id.0));
    sha384(&bytes)
}
