//! Finds a wallet's carriers: from its newest transaction along `Prev-Bundle`, and by what gateways list.
//!
//! Not here: downloading them. The invariant: a claim made of a transaction is signed by the wallet; one made of a
//! gateway's words is a hint, and is taken for nothing until the carrier's own bytes verify.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
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
/// Notes kept; a gateway can make up any number.
const NOTES_MAX: usize = 1_000;
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

impl Way {
    /// Whether both are one header.
    fn is_same(&self, other: &Way) -> bool {
        match (self, other) {
            (Way::Transaction(one), Way::Transaction(other)) => one.id == other.id,
            (Way::Item(one), Way::Item(other)) => one.is_same_header(other),
            _ => false,
        }
    }
}

/// Something that says it is the wallet's carrier of a number.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The transaction or item.
    pub id: ItemId,
    /// What its tags say.
    pub tags: CarrierTags,
    pub(super) way: Way,
    /// Which gateway told of it, where only gateways do.
    told_by: Option<usize>,
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
    /// Newest carriers that the log is taken back without: what was wrong in them, the notes say.
    pub left_out: Vec<ItemId>,
    /// What gateways said that was not so, or could not be had, and was not needed.
    pub notes: Vec<String>,
}

impl Found {
    /// Whose log it is, in words.
    pub fn of(&self) -> String {
        let names: Vec<String> = self.wallets.iter().map(ToString::to_string).collect();
        format!("wallet {}", names.join(", "))
    }

    /// Where the newest carrier claims to stand: its epoch, its sequence. What an epoch carried after the slots that
    /// the next one begins with is older, however far it went.
    pub fn newest(&self) -> Option<(u64, u64)> {
        let claims = self.claims.values().flatten();
        claims.map(|claim| (claim.tags.epoch, claim.tags.sequence)).max()
    }

    /// Takes these carriers for none: who asks says that the log counts without them.
    pub fn leave_out(&mut self, ids: &[ItemId]) {
        let out = self.drop_claims(|claim| ids.contains(&claim.id));
        self.left_out.extend(out);
    }

    /// All claims to be the carrier of an epoch and a sequence.
    pub(super) fn at(&self, (epoch, sequence): (u64, u64)) -> Vec<Claim> {
        let claims = self.claims.get(&sequence).into_iter().flatten();
        claims
            .filter(|claim| claim.tags.epoch == epoch)
            .cloned()
            .collect()
    }

    /// Forgets some claims; their ids, each once.
    pub(super) fn drop_claims(&mut self, is_out: impl Fn(&Claim) -> bool) -> BTreeSet<ItemId> {
        let mut out = BTreeSet::new();
        for claims in self.claims.values_mut() {
            out.extend(claims.iter().filter(|claim| is_out(claim)).map(|claim| claim.id));
            claims.retain(|claim| !is_out(claim));
        }
        self.claims.retain(|_, claims| !claims.is_empty());
        out
    }

    pub(super) fn note(&mut self, text: String) {
        match self.notes.len() {
            count if count < NOTES_MAX => self.notes.push(text),
            NOTES_MAX => self.notes.push("and more".into()),
            _ => {}
        }
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
    /// Ids wanted so far, each with the gateway that first told of it, if only gateways did.
    seen: HashMap<ItemId, Option<usize>>,
    /// How many ids each gateway's word made us look at.
    wanted: HashMap<usize, usize>,
    queue: VecDeque<ItemId>,
    hints: HashMap<ItemId, Vec<Hint>>,
    found: Found,
    count: usize,
    others: usize,
}

/// What a gateway says of an item.
#[derive(Debug, Clone)]
struct Hint {
    by: usize,
    node: Arc<Node>,
}

/// What an id turned out to be.
enum Resolved {
    Transaction(Arc<Transaction>),
    /// As each gateway describes it, and why it is taken for no transaction.
    Item(Vec<Hint>, String),
    Unknown(String),
}

impl Walk {
    fn new(sources: Sources, wallets: &[Address]) -> Walk {
        let found = Found {
            wallets: wallets.to_vec(),
            claims: BTreeMap::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
        };
        Walk {
            sources,
            seen: HashMap::new(),
            wanted: HashMap::new(),
            queue: VecDeque::new(),
            hints: HashMap::new(),
            found,
            count: 0,
            others: 0,
        }
    }

    /// Will look at an id. What only gateways tell of is bounded for each of them: none crowds out another's.
    fn want(&mut self, id: ItemId, told_by: Option<usize>) {
        if self.seen.contains_key(&id) {
            return;
        }
        if let Some(by) = told_by {
            let count = self.wanted.entry(by).or_default();
            if *count >= self.sources.limits().carriers_max {
                return;
            }
            *count += 1;
        }
        self.seen.insert(id, told_by);
        self.queue.push_back(id);
    }

    /// The wallet's newest transaction, by each gateway's word.
    async fn heads(&mut self, wallet: Address) -> Result<()> {
        let ask = |peer: Peer| async move { peer.last_tx(wallet).await };
        let (heads, tried) = self.sources.each(HINT_ROUNDS, ask).await;
        if heads.is_empty() {
            let what = format!("the newest transaction of wallet {wallet}");
            return Err(Error::NotHad { what, tried });
        }
        let heads = heads.into_iter().flatten();
        heads.for_each(|head| self.want(head, None));
        Ok(())
    }

    /// What gateways list. Whether one listed anything.
    async fn listed(&mut self, wallet: Address) -> bool {
        let most = self.sources.limits().carriers_max;
        let ask = move |peer: Peer| async move { search::carriers(&peer, wallet, most).await };
        let (lists, tried) = self.sources.each_by_number(HINT_ROUNDS, ask).await;
        for (name, why) in tried {
            self.found.note(format!("{name} lists no carriers: {why}"));
        }
        for (by, nodes) in lists {
            for node in nodes {
                let id = node.id;
                let node = Arc::new(node);
                self.hints.entry(id).or_default().push(Hint { by, node });
                self.want(id, Some(by));
            }
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
                let sources = self.sources.clone();
                let hints = self.hints.remove(&id).unwrap_or_default();
                let wallets = self.found.wallets.clone();
                tasks.spawn(async move { (id, resolve(&sources, &wallets, id, hints).await) });
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
        if let Resolved::Transaction(transaction) = &resolved {
            self.learn(transaction.owner.accounts());
        }
        match resolved {
            Resolved::Unknown(why) => self.found.note(format!("{id}: {why}")),
            Resolved::Transaction(transaction) => match CarrierTags::read(&transaction.content.tags) {
                Ok(tags) => self.claim(id, tags, Way::Transaction(transaction), None),
                Err(_) => {
                    // Not a carrier: the one before it may be. An anchor of 32 bytes names it.
                    self.others += 1;
                    let before = transaction.content.last_tx.as_slice().try_into();
                    before
                        .into_iter()
                        .for_each(|before| self.want(ItemId(before), None));
                }
            },
            Resolved::Item(hints, why) => hints.into_iter().for_each(|hint| self.take_hint(id, hint, &why)),
        }
    }

    /// A header that may be an item's of the wallet; whether it is signed, only its data shows.
    fn take_hint(&mut self, id: ItemId, Hint { by, node }: Hint, why: &str) {
        let signer = node.signer();
        if signer.is_some() {
            self.learn(node.accounts());
        }
        match CarrierTags::read(&node.tags()) {
            Ok(tags) if signer.is_some_and(|signer| self.is_ours(&signer)) => {
                self.claim(id, tags, Way::Item(node), Some(by));
            }
            _ => self.found.note(format!(
                "{id} was given as the wallet's carrier, and says it is none; as a transaction: {why}"
            )),
        }
    }

    fn is_ours(&self, owner: &Address) -> bool {
        self.found.wallets.contains(owner)
    }

    /// The other account of a key, if one of them is the wallet's: where several routes are taken, transactions are of
    /// one and a bundler's items of the other.
    fn learn(&mut self, accounts: Vec<Address>) {
        if accounts.iter().any(|account| self.is_ours(account)) {
            for account in accounts {
                if !self.is_ours(&account) {
                    self.found.wallets.push(account);
                }
            }
        }
    }

    /// Hints cost a liar nothing: they are counted by gateway, and apart from what the wallet signed.
    fn claim(&mut self, id: ItemId, tags: CarrierTags, way: Way, told_by: Option<usize>) {
        for before in &tags.previous {
            self.want(*before, told_by);
        }
        let claims = self.found.claims.entry(tags.sequence).or_default();
        let is_known = |claim: &Claim| claim.id == id && claim.way.is_same(&way);
        let alike = claims.iter().filter(|claim| claim.told_by == told_by).count();
        if !claims.iter().any(is_known) && alike < self.sources.limits().claims_max {
            self.count += usize::from(told_by.is_none());
            claims.push(Claim {
                id,
                tags,
                way,
                told_by,
            });
        }
    }
}

async fn resolve(sources: &Sources, wallets: &[Address], id: ItemId, hints: Vec<Hint>) -> Resolved {
    let what = format!("transaction {id}");
    let had = sources.first(&what, HINT_ROUNDS, |peer| owned_transaction(peer, wallets, id));
    // A transaction that a liar describes as an item is found all the same.
    let error = match had.await {
        Ok(transaction) => return Resolved::Transaction(Arc::new(transaction)),
        Err(error) => error,
    };
    let hints = match hints.is_empty() {
        true => described(sources, id).await,
        false => hints,
    };
    match hints.is_empty() {
        true => Resolved::Unknown(error.to_string()),
        false => Resolved::Item(hints, error.to_string()),
    }
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

/// An item as gateways describe it.
async fn described(sources: &Sources, id: ItemId) -> Vec<Hint> {
    let ask = |peer: Peer| async move { search::by_id(&peer, id).await };
    let (nodes, _) = sources.each_by_number(1, ask).await;
    let hint = |(by, node): (usize, Option<Node>)| {
        let node = Arc::new(node?);
        Some(Hint { by, node })
    };
    nodes.into_iter().filter_map(hint).collect()
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
    let wallets = wallets_behind(sources, nodes.into_iter().flatten()).await;
    match wallets.is_empty() {
        true => Err(Error::Nothing {
            of: format!("process {process}"),
            notes: Vec::new(),
        }),
        false => Ok(wallets),
    }
}

/// Wallets that carried a node's newest segments, by gateways' words: anybody can carry earlier ones again, and lead to
/// himself by them.
pub async fn wallets_of_node(sources: &Sources, node: Address) -> Vec<Address> {
    let ask = |peer: Peer| async move { search::segments(&peer, node, ASSIGNMENTS).await };
    let (nodes, _) = sources.each(HINT_ROUNDS, ask).await;
    wallets_behind(sources, nodes.into_iter().flatten()).await
}

/// Whose the carriers are in which items lie: the ones named most often first.
async fn wallets_behind(sources: &Sources, items: impl Iterator<Item = Node>) -> Vec<Address> {
    let bundles: HashSet<ItemId> = items
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
        let described = described(sources, bundle).await.into_iter();
        let of_carriers = described.filter(|hint| CarrierTags::read(&hint.node.tags()).is_ok());
        wallets.extend(of_carriers.filter_map(|hint| hint.node.signer()));
        wallets.sort_unstable();
        wallets.dedup();
        wallets
            .into_iter()
            .for_each(|wallet| *counts.entry(wallet).or_default() += 1);
    }
    let mut wallets: Vec<(Address, usize)> = counts.into_iter().collect();
    wallets.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    wallets.into_iter().map(|(wallet, _)| wallet).collect()
}
