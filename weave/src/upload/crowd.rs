//! The peers together: what enough of them agree on.
//!
//! Not here: proofs, which need nobody's word. The invariant: a fact that one peer alone tells is none, as long as
//! there are others to ask; and the word of peers that only peers named is none at all: they take data and give proofs.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use spec::contract::Answer;
use spec::{Address, ItemId, Refusal};

use crate::network::{BlockGot, Info, Peer, TxStatus};

/// Peers that make a fact of what they agree on, when there are so many.
const QUORUM: usize = 2;
/// Most peers asked at once.
const ASKED_MAX: usize = 8;
/// Most guests that are tried at one look around.
const TRIED_MAX: usize = 16;
/// Blocks that a guest may be behind or ahead.
const APART_MAX: u64 = 10;

/// Makes a client of a peer that a peer names, by the named one's `host:port` and the namer's name; `None` if it is
/// none to be asked.
pub type Find = Arc<dyn Fn(&str, &str) -> Option<Peer> + Send + Sync>;

/// What peers say of a transaction together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Enough of them have it in this block.
    Mined {
        /// The block's height.
        height: u64,
        /// The block's hash.
        block: Bytes,
    },
    /// Enough of them have it in no block.
    Unmined {
        /// Whether none of them has it waiting either.
        is_missing: bool,
    },
    /// Too few answered, or they differ on the block, too.
    Unclear,
}

/// Something that went wrong upstream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Trouble {
    /// When, ms since 1970.
    pub at_ms: u64,
    /// What, in words for people.
    pub text: String,
}

/// The peers.
#[derive(Debug)]
pub struct Crowd {
    /// Those that the operator named, then those that these name: the guests.
    peers: Vec<Peer>,
    /// How many the operator named.
    own: usize,
    /// Guests that were of use when they were last asked.
    here: BTreeSet<usize>,
    /// Guests that were tried so far.
    tried: usize,
    /// Where the next rotation begins.
    turn: usize,
    pub(super) now_ms: u64,
    /// When any peer last answered; at first when the uploader was opened.
    pub(super) answered_ms: Option<u64>,
    pub(super) trouble: Option<Trouble>,
}

impl Crowd {
    /// Of these peers.
    pub fn new(peers: Vec<Peer>) -> Crowd {
        Crowd {
            own: peers.len(),
            peers,
            here: BTreeSet::new(),
            tried: 0,
            turn: 0,
            now_ms: 0,
            answered_ms: None,
            trouble: None,
        }
    }

    /// How many there are, whether of use or not.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// How many the operator named; they come first.
    pub fn own(&self) -> usize {
        self.own
    }

    /// How many can take data.
    pub fn takers(&self) -> usize {
        self.own + self.here.len()
    }

    /// One of them.
    pub fn peer(&self, at: usize) -> &Peer {
        &self.peers[at]
    }

    /// How many must agree.
    pub fn quorum(&self) -> usize {
        self.own.clamp(1, QUORUM)
    }

    /// Those that the operator named, beginning with another one each time.
    pub fn rotation(&mut self) -> Vec<usize> {
        let (from, count) = (self.turn, self.own);
        self.turn = self.turn.wrapping_add(1);
        (0..count).map(|at| (from + at) % count).collect()
    }

    /// The same, and after them the guests.
    pub fn all(&mut self) -> Vec<usize> {
        let from = self.turn % self.here.len().max(1);
        let mut all = self.rotation();
        all.extend(self.here.iter().skip(from).chain(self.here.iter().take(from)));
        all
    }

    /// Those that are not of this name, guests that were of no use lately only where there is nobody else; all, if
    /// there is no other.
    pub fn others(&mut self, name: &str) -> Vec<usize> {
        let all = self.all();
        let others = |from: Vec<usize>| {
            let is_other = |at: &usize| self.peers[*at].name() != name;
            from.into_iter().filter(is_other).collect::<Vec<usize>>()
        };
        let guests = (self.own..self.peers.len()).collect();
        let found = [others(all.clone()), others(guests)];
        found.into_iter().find(|one| !one.is_empty()).unwrap_or(all)
    }

    /// Whether the operator named a peer of another name.
    pub fn has_other_own(&self, name: &str) -> bool {
        self.peers[..self.own].iter().any(|peer| peer.name() != name)
    }

    /// Asks the operator's peers for theirs, and keeps at most so many that are of the same network. `find` makes a
    /// client of what a peer (its name comes second) names.
    ///
    /// Answers the places that hold another peer than before.
    pub async fn look_around(&mut self, find: &Find, most: usize) -> Vec<usize> {
        let infos = self.ask(async |peer: Peer| peer.info().await).await;
        let (Some(height), Some(network)) = (self.agreed_height(&infos), self.agreed_network(&infos)) else {
            return Vec::new();
        };
        let is_alike = |answer: &Answer<Info>| {
            let alike = |info: &Info| info.network == network && info.height.abs_diff(height) <= APART_MAX;
            answer.as_ref().is_ok_and(alike)
        };
        let answers = join_all(self.peers[self.own..].iter().map(Peer::info)).await;
        let here = answers.iter().enumerate().filter(|(_, answer)| is_alike(answer));
        self.here = here.map(|(at, _)| self.own + at).collect();
        if self.here.len() >= most {
            return Vec::new();
        }
        let tried = self.candidates(find).await;
        let answers = join_all(tried.iter().map(Peer::info)).await;
        let of_use = tried
            .into_iter()
            .zip(answers)
            .filter(|(_, answer)| is_alike(answer));
        let room = most - self.here.len();
        of_use
            .take(room)
            .map(|(peer, _)| self.welcome(peer, most))
            .collect()
    }

    fn agreed_network(&self, infos: &[Info]) -> Option<String> {
        let named = |one: &&Info| infos.iter().filter(|info| info.network == one.network).count();
        let most_named = infos.iter().max_by_key(named)?;
        (named(&most_named) >= self.quorum()).then(|| most_named.network.clone())
    }

    /// Peers that are named and not known yet: the next ones of each list, as many of one as of another.
    async fn candidates(&mut self, find: &Find) -> Vec<Peer> {
        let namers: Vec<Peer> = self.peers[..self.own].iter().take(ASKED_MAX).cloned().collect();
        let lists = join_all(namers.iter().map(Peer::peers)).await;
        let mut tried: Vec<Peer> = Vec::new();
        let share = TRIED_MAX.div_ceil(namers.len().max(1));
        for (namer, list) in namers.iter().zip(lists) {
            let list = self.heard(list).unwrap_or_default();
            let from = self.tried % list.len().max(1);
            let named = list.iter().skip(from).chain(list.iter().take(from));
            let peers = named.filter_map(|text| find(text, namer.name()));
            for peer in peers.take(share) {
                let is_known = |known: &Peer| known.name() == peer.name();
                if !self.peers.iter().chain(&tried).any(is_known) {
                    tried.push(peer);
                }
            }
        }
        self.tried += share;
        tried
    }

    /// Takes a guest in, in the place of one that is of no use if there are enough. Where it is now.
    fn welcome(&mut self, peer: Peer, most: usize) -> usize {
        tracing::info!(peer = peer.name(), "a peer of a peer takes data, too");
        let mut guests = self.own..self.peers.len();
        let free = guests.find(|at| !self.here.contains(at));
        let at = free.filter(|_| self.peers.len() >= self.own + most);
        let at = at.unwrap_or(self.peers.len());
        match self.peers.get_mut(at) {
            Some(place) => *place = peer,
            None => self.peers.push(peer),
        }
        self.here.insert(at);
        assert!(self.here.len() <= most, "no more guests than were asked for");
        at
    }

    /// A guest that refuses what it was kept for is none until it is looked for again.
    pub fn dismiss(&mut self, at: usize) {
        self.here.remove(&at);
    }

    /// Notes whether a peer answered.
    pub fn heard<T>(&mut self, answer: Answer<T>) -> Answer<T> {
        match &answer {
            Ok(_) => self.answered_ms = Some(self.now_ms),
            Err(refusal) => self.is_in_trouble(refusal),
        }
        answer
    }

    /// Notes what went wrong.
    pub fn is_in_trouble(&mut self, refusal: &Refusal) {
        tracing::debug!(code = %refusal.code, "{}", refusal.text);
        metrics::counter!("weave_upload_errors_total", "code" => refusal.code.to_string()).increment(1);
        self.trouble = Some(Trouble {
            at_ms: self.now_ms,
            text: refusal.text.clone(),
        });
    }

    /// Asks the operator's peers at once.
    async fn ask<T, F: Future<Output = Answer<T>>>(&mut self, question: impl Fn(Peer) -> F) -> Vec<T> {
        let asked = self.peers[..self.own]
            .iter()
            .take(ASKED_MAX)
            .cloned()
            .map(question);
        let answers = join_all(asked).await;
        answers
            .into_iter()
            .filter_map(|answer| self.heard(answer).ok())
            .collect()
    }

    /// The chain's height: the highest that enough of them have reached.
    pub async fn height(&mut self) -> Option<u64> {
        let infos = self.ask(async |peer: Peer| peer.info().await).await;
        self.agreed_height(&infos)
    }

    fn agreed_height(&self, infos: &[Info]) -> Option<u64> {
        let mut heights: Vec<u64> = infos.iter().map(|info| info.height).collect();
        heights.sort_unstable_by(|a, b| b.cmp(a));
        heights.get(self.quorum() - 1).copied()
    }

    /// Where a transaction stands. `before`: the height at which enough of them had it when they were last asked.
    ///
    /// Peers forget where a transaction is, and one that says that it is in a block may lie: where they do not agree
    /// on it, the block that enough of them have decides.
    pub async fn verdict(&mut self, id: ItemId, before: Option<u64>) -> Verdict {
        let told = self
            .ask(move |peer: Peer| async move { peer.status(id).await })
            .await;
        let (mut mined, mut unmined, mut is_missing) = (BTreeMap::new(), 0, true);
        for status in told {
            match status {
                TxStatus::Mined { height, block, .. } => *mined.entry((height, block)).or_insert(0) += 1,
                TxStatus::Pending => (unmined, is_missing) = (unmined + 1, false),
                TxStatus::Missing => unmined += 1,
            }
        }
        let agreed = mined.iter().find(|(_, votes)| **votes >= self.quorum());
        if let Some(((height, block), _)) = agreed {
            return Verdict::Mined {
                height: *height,
                block: block.clone(),
            };
        }
        let mut doubts: BTreeMap<u64, usize> = BTreeMap::new();
        doubts.extend(before.map(|height| (height, 0)));
        for ((height, _), votes) in mined {
            *doubts.entry(height).or_default() += votes;
        }
        match self.refuted(id, doubts).await {
            Ok(refuted) if unmined + refuted >= self.quorum() => Verdict::Unmined { is_missing },
            Ok(_) => Verdict::Unclear,
            Err(verdict) => verdict,
        }
    }

    /// How many peers said that a transaction is in a block in which it is not. `Err`: it is in one of them, or nobody
    /// can tell.
    async fn refuted(&mut self, id: ItemId, doubts: BTreeMap<u64, usize>) -> Result<usize, Verdict> {
        let newest = match doubts.is_empty() {
            true => return Ok(0),
            false => self.height().await.ok_or(Verdict::Unclear)?,
        };
        let mut refuted = 0;
        // Where enough of them are not yet, it is in no block that enough of them have.
        for (height, votes) in doubts.into_iter().filter(|(height, _)| *height <= newest) {
            let Some(block) = self.block(height).await else {
                let text =
                    format!("peers disagree about block {height}, in which transaction {id} is said to be");
                self.is_in_trouble(&Refusal::upstream("too-few-peers", text));
                return Err(Verdict::Unclear);
            };
            if block.txs.contains(&id) {
                let (height, block) = (block.height, block.hash);
                return Err(Verdict::Mined { height, block });
            }
            refuted += votes;
        }
        Ok(refuted)
    }

    /// The block of a height that enough of them have.
    pub async fn block(&mut self, height: u64) -> Option<BlockGot> {
        let told = self
            .ask(move |peer: Peer| async move { peer.block_at(height).await })
            .await;
        let is_agreed = |one: &&BlockGot| told.iter().filter(|other| *other == *one).count() >= self.quorum();
        told.iter().find(is_agreed).cloned()
    }

    /// Where a transaction's data ends, by anybody's word: the most named first. Proofs tell which is right.
    pub async fn ends(&mut self, id: ItemId, len: u64) -> Vec<u64> {
        let told = self
            .ask(move |peer: Peer| async move { peer.offset(id).await })
            .await;
        let mut ends = BTreeMap::new();
        for (end, _) in told.into_iter().flatten().filter(|(_, size)| *size == len) {
            *ends.entry(end).or_insert(0) += 1;
        }
        let mut ends: Vec<(u64, usize)> = ends.into_iter().collect();
        ends.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        ends.into_iter().map(|(end, _)| end).collect()
    }

    /// The price of so many bytes, in winston: the middle of what they name, the lower one of two. A liar's price is
    /// refused by the others, or never paid.
    ///
    /// # Errors
    /// If too few name one.
    pub async fn price(&mut self, bytes: u64) -> Answer<u128> {
        let mut prices = self
            .ask(move |peer: Peer| async move { peer.price(bytes).await })
            .await;
        prices.sort_unstable();
        match prices.len() >= self.quorum() {
            true => Ok(prices[(prices.len() - 1) / 2]),
            false => Err(too_few("a price")),
        }
    }

    /// What an account has, in winston: the middle of what they say.
    ///
    /// # Errors
    /// If none says.
    pub async fn balance(&mut self, address: Address) -> Answer<u128> {
        let mut told = self
            .ask(move |peer: Peer| async move { peer.balance(address).await })
            .await;
        told.sort_unstable();
        let middle = told.len().saturating_sub(1) / 2;
        told.get(middle).copied().ok_or_else(|| too_few("a balance"))
    }

    /// An anchor by the next one that gives any.
    ///
    /// # Errors
    /// If none does.
    pub async fn anchor(&mut self) -> Answer<Bytes> {
        for at in self.rotation() {
            let told = self.peers[at].anchor().await;
            if let Ok(anchor) = self.heard(told) {
                return Ok(anchor);
            }
        }
        Err(too_few("an anchor"))
    }
}

fn too_few(what: &str) -> Refusal {
    Refusal::upstream(
        "too-few-peers",
        format!("too few upstreams answered with {what}, or not alike"),
    )
}
