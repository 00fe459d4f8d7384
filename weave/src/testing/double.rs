//! The double's state machine: time, chain, peers, bundler and gateway, without any socket or clock of its own.
//!
//! The invariant: the same rules, faults and inputs make the same history. `tick` is the only thing that moves time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use spec::chunks::{Hash, Tree};
use spec::transaction::BODY_DATA_LEN_MAX;
use spec::{Address, DataItem, ItemId, Refusal, Transaction};

use super::PEERS;
use super::bundler::{Bundler, Carrier, ItemStatus, Receipt};
use super::chain::{Account, Block, Chain, Mined, TransactionRefused, root_of, spent};
use super::faults::{Dice, Fault, Faults};
use super::library::{Library, Unbundled};
use super::peer::{Bounds, ChunkPost, ChunkRefused, Kept, Peer};
use super::rules::Rules;

/// Blocks below the newest whose hash is given as an anchor: a fork should not make it void.
const ANCHOR_DEPTH: u64 = 6;
/// Lines of history that can be read; its hash covers all.
const LINES_MAX: usize = 4096;
/// For how many block intervals a peer remembers an id it handled.
const SEEN_BLOCKS: u64 = 5;
/// What the bundler has at birth.
const BUNDLER_WINSTON: u128 = 1 << 100;

/// Where a transaction stands as one peer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// In a block.
    Mined {
        /// Its block's height.
        height: u64,
        /// Blocks from its own to the newest.
        confirmations: u64,
    },
    /// In the peer's mempool.
    Pending,
    /// Not here.
    Unknown,
}

/// What the gateway holds under an id.
#[derive(Debug, Clone)]
pub enum Served {
    /// A transaction and its data.
    Transaction(Arc<Transaction>, Bytes),
    /// An item of a bundle.
    Item(DataItem),
}

/// Something on its way to a peer.
#[derive(Debug, Clone)]
enum Parcel {
    Transaction(usize, Arc<Transaction>),
    Chunk(usize, ChunkPost),
}

/// The strict double.
pub struct Double {
    pub(super) rules: Rules,
    pub(super) chain: Chain,
    pub(super) peers: Vec<Peer>,
    pub(super) library: Library,
    pub(super) bundler: Bundler,
    pub(super) dice: Dice,
    /// What `/peers` answers.
    pub(super) addresses: Vec<String>,
    parcels: BTreeMap<(u64, u64), Parcel>,
    sent: u64,
    now_ms: u64,
    next_block_ms: u64,
    hash: Hash,
    lines: VecDeque<String>,
}

impl Double {
    /// A double with one block and nothing in it.
    pub fn new(rules: Rules, faults: Faults) -> Double {
        let mut double = Double {
            chain: Chain::new(&rules),
            peers: (0..PEERS).map(|_| Peer::default()).collect(),
            library: Library::default(),
            bundler: Bundler::new(rules.genesis_ms + rules.bundle_ms),
            dice: Dice::new(faults),
            addresses: Vec::new(),
            parcels: BTreeMap::new(),
            sent: 0,
            now_ms: rules.genesis_ms,
            next_block_ms: rules.genesis_ms + rules.block_ms,
            hash: [0; 32],
            lines: VecDeque::new(),
            rules,
        };
        double.chain.mint(double.bundler.address(), BUNDLER_WINSTON);
        double
    }

    /// What its peers answer when they are asked for peers.
    pub fn set_addresses(&mut self, addresses: Vec<String>) {
        self.addresses = addresses;
    }

    /// The simulated clock, ms since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The newest block's height.
    pub fn height(&self) -> u64 {
        self.chain.height()
    }

    /// What it enforces.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// SHA-256 over everything that happened, in order.
    pub fn history_hash(&self) -> Hash {
        self.hash
    }

    /// The newest lines of what happened.
    pub fn history(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// From here on other things go wrong.
    pub fn set_faults(&mut self, faults: Faults) {
        self.dice = Dice::new(faults);
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let line = format!("{} {what}", self.now_ms);
        let bytes = [&self.hash[..], line.as_bytes()].concat();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        self.hash = digest.as_ref().try_into().expect("a digest has 32 bytes");
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Lets time pass: blocks are mined, parcels arrive, the bundler bundles.
    pub fn tick(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            let parcel = self
                .parcels
                .first_key_value()
                .map_or(u64::MAX, |((due, _), _)| *due);
            let next = self.next_block_ms.min(self.bundler.next_ms).min(parcel);
            if next > end {
                break;
            }
            assert!(next >= self.now_ms, "time does not go back");
            self.now_ms = next;
            if next == parcel {
                self.deliver();
            } else if next == self.bundler.next_ms {
                self.bundler.next_ms += self.rules.bundle_ms;
                self.bundle();
            } else {
                self.next_block_ms += self.rules.block_ms;
                self.mine();
            }
        }
        self.now_ms = end;
    }

    /// Lets time pass until the next block is mined.
    pub fn mine_block(&mut self) {
        let height = self.height();
        self.tick(self.next_block_ms - self.now_ms);
        assert!(
            self.height() > height || self.height() >= self.rules.height_max,
            "a block was due"
        );
    }

    /// Gives an account money from nowhere.
    pub fn mint(&mut self, address: Address, winston: u128) {
        self.chain.mint(address, winston);
        self.note(format_args!("mint {address} {winston}"));
    }

    /// An account as the chain has it.
    pub fn account(&self, address: &Address) -> Account {
        self.chain.account(address)
    }

    /// A block by its height.
    pub fn block(&self, height: u64) -> Option<&Block> {
        self.chain.block(height)
    }

    /// A mined transaction and its block.
    pub fn mined(&self, id: &ItemId) -> Option<(&Block, &Mined)> {
        self.chain.find(id)
    }

    /// A block's hash that will do as an anchor.
    pub fn anchor(&self) -> [u8; 48] {
        let height = self.height().saturating_sub(ANCHOR_DEPTH);
        self.chain.block(height).expect("below the newest").hash
    }

    /// What a transaction must pay, in winston.
    pub fn price(&self, len: u64, target: Option<&Address>) -> u128 {
        let is_new = target.is_some_and(|target| self.chain.is_new(target));
        self.rules.price(len, is_new)
    }

    /// Where a transaction stands as a peer sees it.
    pub fn status(&self, peer: usize, id: &ItemId) -> Status {
        match self.chain.find(id) {
            Some((block, _)) => Status::Mined {
                height: block.height,
                confirmations: self.height() - block.height + 1,
            },
            None if self.peers[peer].mempool.contains_key(id) => Status::Pending,
            None => Status::Unknown,
        }
    }

    /// Posts a transaction to a peer.
    ///
    /// # Errors
    /// The peer's reason.
    pub fn post_transaction(
        &mut self,
        peer: usize,
        transaction: Transaction,
        data: Option<Bytes>,
    ) -> Result<(), TransactionRefused> {
        self.check(peer, &transaction, data.as_ref())?;
        let (id, transaction) = (transaction.id, Arc::new(transaction));
        let seen_until = self.now_ms + SEEN_BLOCKS * self.rules.block_ms;
        self.peers[peer].seen.insert(id, seen_until);
        if self.dice.roll(Fault::DropTransaction, self.chain.height()) {
            self.note(format_args!("fault: peer {peer} drops transaction {id}"));
            return Ok(());
        }
        self.note(format_args!("peer {peer} takes transaction {id}"));
        self.admit(peer, &transaction);
        for other in self.others(peer) {
            self.send(
                self.rules.gossip_ms,
                Parcel::Transaction(other, transaction.clone()),
            );
        }
        if let Some(data) = data {
            self.post_all(peer, &transaction, &data);
        }
        Ok(())
    }

    fn check(&self, peer: usize, new: &Transaction, data: Option<&Bytes>) -> Result<(), TransactionRefused> {
        let here = &self.peers[peer];
        if here.seen.contains_key(&new.id) || here.mempool.contains_key(&new.id) {
            return Err(TransactionRefused::Known);
        }
        if data.is_some_and(|data| data.len() > BODY_DATA_LEN_MAX) {
            return Err(TransactionRefused::TooLarge);
        }
        new.verify().map_err(TransactionRefused::Verification)?;
        if let Some(data) = data {
            new.verify_data(data).map_err(TransactionRefused::Verification)?;
        }
        if self.chain.find(&new.id).is_some() {
            return Err(TransactionRefused::Mined);
        }
        if !self.chain.is_anchored(new, self.rules.anchor_blocks) {
            return Err(TransactionRefused::Anchor(self.rules.anchor_blocks));
        }
        let (content, owner) = (&new.content, new.owner.address());
        let (reward, price) = (
            content.reward,
            self.price(content.data_size, content.target.as_ref()),
        );
        if reward < price {
            return Err(TransactionRefused::Reward { reward, price });
        }
        let balance = self.chain.account(&owner).balance;
        let spent = here.spending(&owner).saturating_add(spent(new));
        if spent > balance {
            return Err(TransactionRefused::Balance { balance, spent });
        }
        match here.mempool.len() < self.rules.mempool_max {
            true => Ok(()),
            false => Err(TransactionRefused::Busy),
        }
    }

    /// Lets a transaction wait at a peer, and its chunks come.
    fn admit(&mut self, peer: usize, transaction: &Arc<Transaction>) {
        let until = self.now_ms + self.rules.pool_blocks * self.rules.block_ms;
        let here = &mut self.peers[peer];
        here.mempool.insert(transaction.id, transaction.clone());
        if let Some(root) = root_of(transaction) {
            here.roots.insert(root, until);
        }
    }

    /// Posts all chunks of some data; those refused are simply not there.
    fn post_all(&mut self, peer: usize, transaction: &Transaction, data: &Bytes) {
        let Some(root) = root_of(transaction) else { return };
        let tree = Tree::of(data);
        for chunk in tree.chunks() {
            let data_path = tree.proof(chunk.start).expect("a place of its own");
            let post = ChunkPost {
                root,
                offset: chunk.start,
                data_path: data_path.into(),
                chunk: data.slice(chunk.start as usize..chunk.end as usize),
            };
            if let Err(refused) = self.post_chunk(peer, post) {
                self.note(format_args!("peer {peer} refuses a chunk: {refused}"));
            }
        }
    }

    /// Posts a chunk to a peer.
    ///
    /// # Errors
    /// The peer's word.
    pub fn post_chunk(&mut self, peer: usize, post: ChunkPost) -> Result<Kept, ChunkRefused> {
        let height = self.chain.height();
        let is_temporary = self.dice.roll(Fault::TemporaryChunk, height);
        let is_lost = self.dice.roll(Fault::LoseChunk, height);
        let bounds = self.bounds();
        if is_lost {
            // It is checked all the same: what would be refused is refused.
            self.peers[peer].prove(&post, &self.chain)?;
            self.note(format_args!("fault: peer {peer} loses a chunk"));
            return Ok(Kept::Stored);
        }
        let is_new = self.peers[peer].keep(&post, is_temporary, &self.chain, &bounds)?;
        if is_new {
            self.note(format_args!(
                "peer {peer} keeps a chunk, temporary {is_temporary}"
            ));
        }
        match (is_temporary, self.rules.chunk_gossip_ms) {
            (true, _) => return Ok(Kept::Temporary),
            (false, Some(ms)) if is_new => {
                for other in self.others(peer) {
                    self.send(ms, Parcel::Chunk(other, post.clone()));
                }
            }
            _ => {}
        }
        Ok(Kept::Stored)
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            pool_bytes_max: self.rules.pool_bytes_max,
            store_bytes_max: self.rules.store_bytes_max,
        }
    }

    fn others(&self, peer: usize) -> impl Iterator<Item = usize> + use<> {
        (0..PEERS).filter(move |other| *other != peer)
    }

    fn send(&mut self, ms: u64, parcel: Parcel) {
        self.sent += 1;
        self.parcels.insert((self.now_ms + ms, self.sent), parcel);
    }

    fn deliver(&mut self) {
        let Some((_, parcel)) = self.parcels.pop_first() else {
            return;
        };
        match parcel {
            Parcel::Transaction(peer, transaction) => {
                if !self.is_away(peer) && self.check(peer, &transaction, None).is_ok() {
                    self.admit(peer, &transaction);
                }
            }
            Parcel::Chunk(peer, post) => {
                let bounds = self.bounds();
                if !self.is_away(peer) {
                    // One that is refused here is not here.
                    let _ = self.peers[peer].keep(&post, false, &self.chain, &bounds);
                }
            }
        }
    }

    /// Whether a peer answers nothing just now.
    pub fn is_away(&self, peer: usize) -> bool {
        self.peers[peer].away_until_ms > self.now_ms
    }

    fn mine(&mut self) {
        if self.height() >= self.rules.height_max {
            return;
        }
        let height = self.height();
        self.sync_bare();
        self.lose_peer(height);
        if self.dice.roll(Fault::Fork, height) {
            let depth = 1 + self.dice.pick(Fault::Fork, self.dice.faults.fork_blocks_max);
            self.fork(depth.min(height));
        }
        let turn = self.height() as usize;
        let miner = (0..PEERS)
            .map(|n| (turn + n) % PEERS)
            .find(|peer| !self.is_away(*peer));
        let rules = (self.rules.anchor_blocks, self.rules.block_txs_max);
        let candidates = miner.map(|peer| self.peers[peer].candidates(&self.chain, rules.0, rules.1));
        self.push(candidates.unwrap_or_default());
    }

    fn push(&mut self, candidates: Vec<Arc<Transaction>>) {
        let mined = self.chain.push(candidates, self.now_ms);
        let tip = self.chain.tip();
        let height = tip.height;
        for (index, mined) in tip.transactions.iter().enumerate() {
            self.library.mined(&mined.transaction, height, index);
            self.peers
                .iter_mut()
                .for_each(|peer| peer.mined(&mined.transaction));
        }
        let list: Vec<String> = mined.iter().map(ItemId::to_string).collect();
        self.note(format_args!("block {height} [{}]", list.join(" ")));
        for peer in &mut self.peers {
            peer.expire(self.now_ms, &self.chain, self.rules.anchor_blocks);
        }
        self.look_after_carriers();
    }

    /// Where peers pass chunks on, one that lost everything has it again from those that did not once it is back.
    fn sync_bare(&mut self) {
        for bare in 0..PEERS {
            if self.rules.chunk_gossip_ms.is_none() || !self.peers[bare].is_bare || self.is_away(bare) {
                continue;
            }
            let mut peer = std::mem::take(&mut self.peers[bare]);
            for other in self.others(bare).filter(|other| !self.is_away(*other)) {
                peer.sync(&self.peers[other], &self.chain);
            }
            self.peers[bare] = peer;
        }
    }

    fn lose_peer(&mut self, height: u64) {
        let all_here = (0..PEERS).all(|peer| !self.is_away(peer));
        if !all_here || !self.dice.roll(Fault::LosePeer, height) {
            return;
        }
        let peer = self.dice.pick(Fault::LosePeer, PEERS as u64) as usize;
        let blocks = 1 + self.dice.pick(Fault::LosePeer, self.dice.faults.away_blocks_max);
        let is_wiped = self.dice.pick(Fault::LosePeer, 2) == 0;
        self.lose(peer, blocks, is_wiped);
    }

    /// Makes a peer answer nothing for some blocks; `is_wiped`: it comes back with nothing of what it held.
    pub fn lose(&mut self, peer: usize, blocks: u64, is_wiped: bool) {
        self.note(format_args!(
            "fault: peer {peer} away for {blocks} blocks, wiped {is_wiped}"
        ));
        let here = &mut self.peers[peer];
        here.away_until_ms = self.now_ms + blocks * self.rules.block_ms;
        if is_wiped {
            here.wipe();
        }
    }

    /// Takes blocks back and puts as many others in their place; half of the transactions come back to the mempools,
    /// the others are lost.
    pub fn fork(&mut self, depth: u64) {
        assert!(depth <= self.height(), "the first block is never taken back");
        let mut timestamps = Vec::new();
        for _ in 0..depth {
            let block = self.chain.pop();
            self.library.undo(block.height);
            timestamps.push(block.timestamp_ms);
            for mined in block.transactions {
                self.unmine(&mined.transaction);
            }
        }
        self.note(format_args!("fork of {depth} blocks"));
        for timestamp_ms in timestamps.into_iter().rev() {
            self.chain.push(Vec::new(), timestamp_ms);
        }
    }

    fn unmine(&mut self, transaction: &Arc<Transaction>) {
        let is_lost = self.dice.pick(Fault::Fork, 2) == 0;
        self.note(format_args!(
            "fork: transaction {} lost {is_lost}",
            transaction.id
        ));
        for peer in 0..PEERS {
            self.admit(peer, transaction);
            if is_lost {
                self.peers[peer].mempool.remove(&transaction.id);
                self.peers[peer].seen.remove(&transaction.id);
            }
        }
    }

    /// All data under a root that peers hold together; `None` if some is missing.
    pub fn data(&self, transaction: &Transaction) -> Option<Bytes> {
        let Some(root) = root_of(transaction) else {
            return Some(Bytes::new());
        };
        let (mut at, mut parts) = (0, Vec::new());
        while at < root.1 {
            let here = (0..PEERS).filter(|peer| !self.is_away(*peer));
            let (end, held) = here.filter_map(|peer| self.peers[peer].chunk(&root, at)).next()?;
            parts.push(held.bytes.clone());
            at = end;
        }
        Some(match parts.len() {
            1 => parts.remove(0),
            _ => parts.concat().into(),
        })
    }

    /// How many peers hold every chunk of a transaction: what permanence means here, whatever anybody says.
    pub fn holders(&self, transaction: &Transaction) -> usize {
        let Some(root) = root_of(transaction) else {
            return PEERS;
        };
        let holds = |peer: &&Peer| {
            let mut at = 0;
            while let Some((end, held)) = peer.chunk(&root, at).filter(|_| at < root.1) {
                if held.is_temporary {
                    return false;
                }
                at = end;
            }
            at >= root.1
        };
        self.peers.iter().filter(holds).count()
    }

    /// What the gateway serves under an id: mined, with all its data there.
    pub fn serve(&mut self, id: &ItemId) -> Option<Served> {
        if let Some((_, mined)) = self.chain.find(id) {
            let transaction = mined.transaction.clone();
            let data = self.data(&transaction)?;
            return Some(Served::Transaction(transaction, data));
        }
        self.unbundled(id).map(|found| Served::Item(found.item.clone()))
    }

    pub(super) fn unbundled(&mut self, id: &ItemId) -> Option<&Unbundled> {
        self.unbundle();
        self.library.items.get(id)
    }

    /// Lists the items of carriers whose data has come.
    pub(super) fn unbundle(&mut self) {
        for carrier in self.library.waiting() {
            let (_, mined) = self.chain.find(&carrier).expect("what waits is mined");
            if let Some(data) = self.data(&mined.transaction) {
                self.library.unbundle(carrier, &data);
            }
        }
    }

    /// Gives an item to the bundler.
    ///
    /// # Errors
    /// An item that does not verify, or too many that wait.
    pub fn post_item(&mut self, item: &DataItem) -> Result<Receipt, Refusal> {
        item.verify()?;
        if self.bundler.waiting() >= self.rules.bundler_items_max {
            return Err(Refusal::busy(
                "bundler-busy",
                "too many items wait for the bundler",
            ));
        }
        let height = self.height();
        let is_forgotten = self.dice.roll(Fault::ForgetItem, height);
        let kind = if is_forgotten { "fault: forgets" } else { "takes" };
        self.note(format_args!("the bundler {kind} item {}", item.id()));
        Ok(self.bundler.take(item, is_forgotten, height, self.now_ms))
    }

    /// What the bundler says of an item; `None` if it never took it.
    pub fn item_status(&self, id: &ItemId) -> Option<ItemStatus> {
        let confirmations = |id: &ItemId| match self.status(0, id) {
            Status::Mined { confirmations, .. } => confirmations,
            _ => 0,
        };
        self.bundler
            .status(id, confirmations, self.rules.permanent_blocks)
    }

    fn bundle(&mut self) {
        let (anchor, height, rules) = (self.anchor(), self.height(), self.rules.clone());
        let price = |len| rules.price(len, false);
        if let Some(at) = self.bundler.bundle(&anchor, price, height) {
            self.post_carrier(at);
        }
    }

    /// Posts a carrier to a peer, and its chunks to all.
    fn post_carrier(&mut self, at: usize) {
        let Carrier {
            transaction, data, ..
        } = self.bundler.carriers[at].clone();
        let peer = (0..PEERS).find(|peer| !self.is_away(*peer)).unwrap_or(0);
        if let Err(refused) = self.post_transaction(peer, transaction.clone(), None) {
            self.note(format_args!(
                "peer {peer} refuses carrier {}: {refused}",
                transaction.id
            ));
        }
        self.post_all(peer, &transaction, &data);
    }

    /// After each block: carriers that can never be mined are signed again, those whose data is missing are seeded.
    fn look_after_carriers(&mut self) {
        let (anchor, height, rules) = (self.anchor(), self.height(), self.rules.clone());
        for at in 0..self.bundler.carriers.len() {
            let carrier = &self.bundler.carriers[at];
            match self.status(0, &carrier.transaction.id) {
                Status::Mined { .. } if self.holders(&carrier.transaction) < PEERS => {
                    let Carrier {
                        transaction, data, ..
                    } = carrier.clone();
                    (0..PEERS).for_each(|peer| self.post_all(peer, &transaction, &data));
                }
                Status::Mined { .. } => {}
                _ if height > carrier.signed_at + rules.anchor_blocks => {
                    let price = |len| rules.price(len, false);
                    self.bundler.sign_again(at, &anchor, price, height);
                    self.post_carrier(at);
                }
                _ => {}
            }
        }
    }
}
