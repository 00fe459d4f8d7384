//! The peers together: what enough of them agree on.
//!
//! Not here: proofs, which need nobody's word. The invariant: a fact that one peer alone tells is none, as long as
//! there are others to ask.

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;
use futures_util::future::join_all;
use spec::contract::Answer;
use spec::{Address, ItemId, Refusal};

use crate::network::{BlockGot, Peer, TxStatus};

/// Peers that make a fact of what they agree on, when there are so many.
const QUORUM: usize = 2;
/// Most peers asked at once.
const ASKED_MAX: usize = 8;

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
    /// Enough of them have it in no block, and none has.
    Unmined {
        /// Whether none of them has it waiting either.
        is_missing: bool,
    },
    /// Too few answered, or they differ.
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
    peers: Vec<Peer>,
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
            peers,
            turn: 0,
            now_ms: 0,
            answered_ms: None,
            trouble: None,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// One of them.
    pub fn peer(&self, at: usize) -> &Peer {
        &self.peers[at]
    }

    /// How many must agree.
    pub fn quorum(&self) -> usize {
        self.peers.len().clamp(1, QUORUM)
    }

    /// All of them, beginning with another one each time.
    pub fn rotation(&mut self) -> Vec<usize> {
        let (from, count) = (self.turn, self.peers.len());
        self.turn = self.turn.wrapping_add(1);
        (0..count).map(|at| (from + at) % count).collect()
    }

    /// Those that are not of this name; all, if there is no other.
    pub fn others(&mut self, name: &str) -> Vec<usize> {
        let all = self.rotation();
        let others: Vec<usize> = all
            .iter()
            .copied()
            .filter(|at| self.peers[*at].name() != name)
            .collect();
        if others.is_empty() { all } else { others }
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

    /// Asks all at once.
    async fn ask<T, F: Future<Output = Answer<T>>>(&mut self, question: impl Fn(Peer) -> F) -> Vec<T> {
        let asked = self.peers.iter().take(ASKED_MAX).cloned().map(question);
        let answers = join_all(asked).await;
        answers
            .into_iter()
            .filter_map(|answer| self.heard(answer).ok())
            .collect()
    }

    /// The chain's height: the highest that enough of them have reached.
    pub async fn height(&mut self) -> Option<u64> {
        let mut heights = self.ask(async |peer: Peer| peer.height().await).await;
        heights.sort_unstable_by(|a, b| b.cmp(a));
        heights.get(self.quorum() - 1).copied()
    }

    /// Where a transaction stands.
    pub async fn verdict(&mut self, id: ItemId) -> Verdict {
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
        match agreed {
            Some(((height, block), _)) => Verdict::Mined {
                height: *height,
                block: block.clone(),
            },
            None if mined.is_empty() && unmined >= self.quorum() => Verdict::Unmined { is_missing },
            None => Verdict::Unclear,
        }
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
