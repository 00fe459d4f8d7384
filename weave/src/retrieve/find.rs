//! Finds a wallet's carriers: from its newest transaction along `Prev-Bundle`, and by what gateways list.
//!
//! Not here: downloading them. The invariant: a claim made of a transaction is signed by the wallet; one made of a
//! gateway's words is a hint, and is taken for nothing until the carrier's own bytes verify.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use spec::contract::Answer;
use spec::{Address, CarrierTags, ItemId, ProcessId, Refusal, Transaction};
use tokio::task::JoinSet;

use super::search::{self, Node};
use super::source::{Sources, lie};
use super::{Checked, Error, Result};
use crate::network::Peer;
use crate::record::Note;
use crate::upload::note::{Bundled, Moved, Route, Signed, Step, Told, Vehicle};

/// The route of carriers by a bundler that nothing names any more.
const UNKNOWN: &str = "unknown";
/// Rounds for things that other ways lead to as well.
const HINT_ROUNDS: usize = 3;
/// Assignments looked at to find where a process's log lies.
const ASSIGNMENTS: usize = 100;

/// How a carrier came to the weave.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// As a transaction; its signature is checked.
    Transaction(Arc<Transaction>),
    /// As a bundler's item; nothing is checked yet.
    Item(Arc<Node>),
}

/// Something that says it is the wallet's carrier of a number.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The transaction or item.
    pub id: ItemId,
    /// What its tags say.
    pub tags: CarrierTags,
    pub(super) way: Way,
}

impl Claim {
    /// Bytes of its data, by its header's word.
    pub fn size(&self) -> u64 {
        match &self.way {
            Way::Transaction(transaction) => transaction.content.data_size,
            Way::Item(node) => node.size(),
        }
    }

    /// What the uploader of the rebuilt log is told, so that it does not carry the segment again: bundled, signed for
    /// and in a block. That it is permanent, it finds out itself.
    pub(super) fn notes(&self, checked: &Checked, bundle: &Bytes, height: u64) -> Vec<Note> {
        let sequence = self.tags.sequence;
        let (route, vehicle, transaction) = match &self.way {
            Way::Transaction(transaction) => {
                let vehicle = Vehicle::Transaction(Box::new(Transaction::clone(transaction)));
                (Route::L1, Some(vehicle), Some(self.id))
            }
            Way::Item(node) => {
                let header = node
                    .item(bundle)
                    .map(|item| item.bytes().slice(..item.bytes().len() - bundle.len()));
                let carrier = node.bundled_in.as_ref().map(|bundle| bundle.id);
                (Route::Bundler(UNKNOWN.into()), header.map(Vehicle::Item), carrier)
            }
        };
        let Some(vehicle) = vehicle else {
            return Vec::new();
        };
        let bundled = Bundled {
            sequence,
            segment: checked.segment.segment,
            segment_sha256: checked.segment.segment_sha256,
            data_root: spec::chunks::Tree::of(bundle).root(),
            bundle_len: bundle.len() as u64,
            items: checked
                .records
                .iter()
                .filter(|record| record.id().is_some())
                .count() as u64,
            own: checked.own.clone(),
        };
        // What was spent before counts in no budget of this node.
        let (id, cost) = (self.id, 0);
        let signed = Signed {
            sequence,
            route,
            height,
            cost,
            id,
            vehicle,
        };
        let moved = |step, transaction| {
            Told::Moved(Moved {
                sequence,
                id,
                step,
                transaction,
                height,
                by: "rebuild".into(),
            })
        };
        let told = [
            Told::Bundled(bundled),
            Told::Signed(signed),
            moved(Step::Posted, None),
            moved(Step::Mined, transaction),
        ];
        told.iter().map(Told::encode).collect()
    }

    /// Whether the wallet's signature over the header was checked already.
    pub fn is_signed(&self) -> bool {
        matches!(self.way, Way::Transaction(_))
    }
}

/// What was found of a wallet.
#[derive(Debug, Clone)]
pub struct Found {
    /// Whose carriers they are: the wallets, and for a secp256k1 key its other account, for it signs transactions
    /// under one and items under another.
    pub wallets: Vec<Address>,
    /// By sequence.
    pub claims: BTreeMap<u64, Vec<Claim>>,
    /// What gateways said that was not so, or could not be had, and was not needed.
    pub notes: Vec<String>,
}

impl Found {
    /// Whose log it is, in words.
    pub fn of(&self) -> String {
        let names: Vec<String> = self.wallets.iter().map(ToString::to_string).collect();
        format!("wallet {}", names.join(", "))
    }
}

/// Finds the carriers of a log: what these wallets posted, which are one node's, one after the other or at once.
///
/// # Errors
/// No gateway answers, or none knows a carrier; more than the limits.
pub async fn find(sources: &Sources, wallets: &[Address]) -> Result<Found> {
    let mut walk = Walk::new(sources.clone(), wallets);
    let mut asked = 0;
    // A key may turn out to have a second account.
    while let Some(wallet) = walk.found.wallets.get(asked).copied() {
        let heads = walk.heads(wallet).await;
        let listed = walk.listed(wallet).await;
        if let (Err(error), false) = (heads, listed || asked >= wallets.len()) {
            return Err(error);
        }
        walk.run().await?;
        asked += 1;
    }
    match walk.found.claims.is_empty() {
        true => Err(Error::Nothing {
            of: walk.found.of(),
            notes: walk.found.notes,
        }),
        false => Ok(walk.found),
    }
}

struct Walk {
    sources: Sources,
    seen: HashSet<ItemId>,
    queue: VecDeque<ItemId>,
    hints: HashMap<ItemId, Arc<Node>>,
    found: Found,
    count: usize,
    others: usize,
}

/// What an id turned out to be.
enum Resolved {
    Transaction(Arc<Transaction>),
    Item(Arc<Node>),
    Unknown(String),
}

impl Walk {
    fn new(sources: Sources, wallets: &[Address]) -> Walk {
        let found = Found {
            wallets: wallets.to_vec(),
            claims: BTreeMap::new(),
            notes: Vec::new(),
        };
        Walk {
            sources,
            seen: HashSet::new(),
            queue: VecDeque::new(),
            hints: HashMap::new(),
            found,
            count: 0,
            others: 0,
        }
    }

    fn want(&mut self, id: ItemId) {
        if self.seen.insert(id) {
            self.queue.push_back(id);
        }
    }

    /// The wallet's newest transaction, by each gateway's word.
    async fn heads(&mut self, wallet: Address) -> Result<()> {
        let ask = |peer: Peer| async move { peer.last_tx(wallet).await };
        let (heads, tried) = self.sources.each(HINT_ROUNDS, ask).await;
        if heads.is_empty() {
            let what = format!("the newest transaction of wallet {wallet}");
            return Err(Error::NotHad { what, tried });
        }
        heads.into_iter().flatten().for_each(|head| self.want(head));
        Ok(())
    }

    /// What gateways list. Whether one listed anything.
    async fn listed(&mut self, wallet: Address) -> bool {
        let most = self.sources.limits().carriers_max;
        let ask = move |peer: Peer| async move { search::carriers(&peer, wallet, most).await };
        let (lists, tried) = self.sources.each(HINT_ROUNDS, ask).await;
        let note = |(name, why)| format!("{name} lists no carriers: {why}");
        self.found.notes.extend(tried.into_iter().map(note));
        for node in lists.into_iter().flatten() {
            let id = node.id;
            self.hints.insert(id, Arc::new(node));
            self.want(id);
        }
        !self.hints.is_empty()
    }

    /// Looks at every id until none leads further.
    async fn run(&mut self) -> Result<()> {
        let mut tasks = JoinSet::new();
        let limits = self.sources.limits().clone();
        loop {
            while tasks.len() < limits.parallel.max(1) * 2
                && let Some(id) = self.queue.pop_front()
            {
                let (sources, hint) = (self.sources.clone(), self.hints.get(&id).cloned());
                let wallets = self.found.wallets.clone();
                tasks.spawn(async move { (id, resolve(&sources, &wallets, id, hint).await) });
            }
            let Some(done) = tasks.join_next().await else {
                return Ok(());
            };
            let (id, resolved) = done.map_err(|error| crate::Error::Index(error.to_string().into()))?;
            self.take(id, resolved);
            for (what, actual, limit) in [
                ("the number of carriers", self.count, limits.carriers_max),
                (
                    "the number of a wallet's other transactions",
                    self.others,
                    limits.transactions_max,
                ),
            ] {
                if actual > limit {
                    let (actual, limit) = (actual as u64, limit as u64);
                    return Err(Error::Limit { what, actual, limit });
                }
            }
        }
    }

    fn take(&mut self, id: ItemId, resolved: Resolved) {
        if let Resolved::Item(node) = &resolved {
            self.learn(node);
        }
        match resolved {
            Resolved::Unknown(why) => self.found.notes.push(format!("{id}: {why}")),
            Resolved::Transaction(transaction) => match CarrierTags::read(&transaction.content.tags) {
                Ok(tags) => self.claim(id, tags, Way::Transaction(transaction)),
                Err(_) => {
                    // Not a carrier: the one before it may be. An anchor of 32 bytes names it.
                    self.others += 1;
                    let before = transaction.content.last_tx.as_slice().try_into();
                    before.into_iter().for_each(|before| self.want(ItemId(before)));
                }
            },
            Resolved::Item(node) => match CarrierTags::read(&node.tags()) {
                Ok(tags) if node.owner.address.parse().is_ok_and(|owner| self.is_ours(&owner)) => {
                    self.claim(id, tags, Way::Item(node));
                }
                _ => self.found.notes.push(format!(
                    "{id} was given as the wallet's carrier, and says it is none"
                )),
            },
        }
    }

    fn is_ours(&self, owner: &Address) -> bool {
        self.found.wallets.contains(owner)
    }

    /// The other account of a key, if one of them is the wallet's.
    fn learn(&mut self, node: &Node) {
        let accounts = node.accounts();
        if accounts.iter().any(|account| self.is_ours(account)) {
            for account in accounts {
                if !self.is_ours(&account) {
                    self.found.wallets.push(account);
                }
            }
        }
    }

    fn claim(&mut self, id: ItemId, tags: CarrierTags, way: Way) {
        tags.previous.iter().for_each(|before| self.want(*before));
        let claims = self.found.claims.entry(tags.sequence).or_default();
        let claim = Claim { id, tags, way };
        if claims.len() < self.sources.limits().claims_max {
            self.count += 1;
            claims.push(claim);
        } else if claim.is_signed()
            && let Some(hint) = claims.iter_mut().find(|one| !one.is_signed())
        {
            // Hints cost a liar nothing; they never crowd out what the wallet signed.
            *hint = claim;
        }
    }
}

async fn resolve(sources: &Sources, wallets: &[Address], id: ItemId, hint: Option<Arc<Node>>) -> Resolved {
    let what = format!("transaction {id}");
    let had = sources.first(&what, HINT_ROUNDS, |peer| owned_transaction(peer, wallets, id));
    // A transaction that a liar describes as an item is found all the same.
    let error = match had.await {
        Ok(transaction) => return Resolved::Transaction(Arc::new(transaction)),
        Err(error) => error,
    };
    let hint = hint.filter(|node| node.bundled_in.is_some());
    let node = match hint {
        Some(node) => Some(node),
        None => described(sources, id).await,
    };
    node.map_or(Resolved::Unknown(error.to_string()), Resolved::Item)
}

/// A transaction of one of these wallets. A secp256k1 key is told by the signature alone: a header with a forged field
/// still verifies, as some other key's. So who it must be of is asked of each gateway.
async fn owned_transaction(peer: Peer, wallets: &[Address], id: ItemId) -> Answer<Transaction> {
    let missing = || Refusal::not_found("not-found", format!("{} has none", peer.name()));
    let transaction = peer.transaction(id).await?.ok_or_else(missing)?;
    let owner = transaction.owner.address();
    match wallets.contains(&owner) {
        true => Ok(transaction),
        false => Err(lie(format!(
            "{} gave {id}, which another wallet signed: {owner}",
            peer.name()
        ))),
    }
}

/// An item as some gateway describes it, if it lies in a bundle.
async fn described(sources: &Sources, id: ItemId) -> Option<Arc<Node>> {
    let ask = |peer: Peer| async move { search::by_id(&peer, id).await };
    let (nodes, _) = sources.each(1, ask).await;
    let item = nodes.into_iter().flatten().find(|node| node.bundled_in.is_some());
    item.map(Arc::new)
}

/// Wallets that carried something of a process, by gateways' words: the ones named most often first.
///
/// # Errors
/// No gateway answers, or none knows anything of the process.
pub async fn wallets_of(sources: &Sources, process: ProcessId) -> Result<Vec<Address>> {
    let ask = |peer: Peer| async move {
        let mut nodes = search::assignments(&peer, process, ASSIGNMENTS).await?;
        nodes.extend(search::by_id(&peer, process.into()).await?);
        Ok(nodes)
    };
    let (nodes, tried) = sources.each(HINT_ROUNDS, ask).await;
    if nodes.is_empty() {
        let what = format!("where process {process} lies");
        return Err(Error::NotHad { what, tried });
    }
    let bundles = nodes.into_iter().flatten();
    let bundles: HashSet<ItemId> = bundles
        .filter_map(|node| node.bundled_in.map(|bundle| bundle.id))
        .take(ASSIGNMENTS)
        .collect();
    let mut counts: BTreeMap<Address, usize> = BTreeMap::new();
    for bundle in bundles {
        // Every gateway's word counts: one that lies about a header makes up a wallet, and hides none.
        let ask = |peer: Peer| async move { peer.transaction(bundle).await };
        let (transactions, _) = sources.each(1, ask).await;
        let carriers = transactions.into_iter().flatten();
        let carriers = carriers.filter(|one| CarrierTags::read(&one.content.tags).is_ok());
        let mut wallets: Vec<Address> = carriers.map(|one| one.owner.address()).collect();
        let node = described(sources, bundle).await;
        let node = node.filter(|node| CarrierTags::read(&node.tags()).is_ok());
        wallets.extend(node.and_then(|node| node.owner.address.parse::<Address>().ok()));
        wallets
            .into_iter()
            .for_each(|wallet| *counts.entry(wallet).or_default() += 1);
    }
    let mut wallets: Vec<(Address, usize)> = counts.into_iter().collect();
    wallets.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match wallets.is_empty() {
        true => Err(Error::Nothing {
            of: format!("process {process}"),
            notes: Vec::new(),
        }),
        false => Ok(wallets.into_iter().map(|(wallet, _)| wallet).collect()),
    }
}
