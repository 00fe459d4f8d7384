//! The double's bundler: takes items, promises them by a signed receipt, and carries them to the chain itself.
//!
//! Not here: posting, which the double does with what this hands out. The invariant: an item that is not forgotten
//! stays in a carrier until that one is permanent.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use spec::chunks::Tree;
use spec::ids::base64url;
use spec::transaction::Content;
use spec::{Address, Bundle, DataItem, ItemId, Signer, Tag, Transaction, deep_hash};

/// Blocks for which a receipt promises.
const DEADLINE_BLOCKS: u64 = 200;
/// Of the receipt's form.
const VERSION: &str = "1.0.0";
/// Keys that are printed in the vectors guard nothing.
const KEYS: &str = include_str!("../../../spec/vectors/keys.json");

/// The answer to an item: a promise that it will be permanent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The item.
    pub id: ItemId,
    /// When it was taken, ms since 1970.
    pub timestamp: u64,
    /// Who signed the item.
    pub owner: Address,
    /// What it cost.
    pub winc: String,
    /// Of this form.
    pub version: &'static str,
    /// Height by which it will be mined.
    pub deadline_height: u64,
    /// Gateways that have the data.
    pub data_caches: Vec<String>,
    /// Gateways that have the header.
    pub fast_finality_indexes: Vec<String>,
    /// The bundler's public key.
    pub public: String,
    /// Of the deep hash of `["Bundlr", version, id, deadlineHeight, timestamp]`.
    pub signature: String,
}

/// How far an item has come by the bundler's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemStatus {
    /// `CONFIRMED`, or `FINALIZED`.
    pub status: &'static str,
    /// `new`, `pending` or `permanent`.
    pub info: &'static str,
    /// Its carrier, once there is one.
    pub bundle_id: Option<ItemId>,
}

/// A bundle on its way.
#[derive(Debug, Clone)]
pub(super) struct Carrier {
    pub(super) transaction: Transaction,
    pub(super) data: Bytes,
    /// Height at which it was signed.
    pub(super) signed_at: u64,
    items: Vec<ItemId>,
}

/// The bundler.
pub(super) struct Bundler {
    wallet: Signer,
    receipts: Signer,
    queue: Vec<DataItem>,
    /// Where each item is; `None` before it is in a carrier.
    items: BTreeMap<ItemId, Option<usize>>,
    pub(super) carriers: Vec<Carrier>,
    pub(super) next_ms: u64,
}

impl Bundler {
    pub(super) fn new(next_ms: u64) -> Bundler {
        let keys: serde_json::Value = serde_json::from_str(KEYS).expect("the vectors are JSON");
        let jwk = keys["keys"][0]["jwk"].to_string();
        Bundler {
            wallet: Signer::ethereum(&[0xB1; 32]).expect("a number below the order"),
            receipts: Signer::from_jwk(&jwk).expect("the first key of the vectors is RSA"),
            queue: Vec::new(),
            items: BTreeMap::new(),
            carriers: Vec::new(),
            next_ms,
        }
    }

    /// The account that pays for carriers.
    pub(super) fn address(&self) -> Address {
        let owner = self
            .wallet
            .transaction_owner()
            .expect("a secp256k1 key signs transactions");
        owner.address()
    }

    /// Items that wait for a carrier.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes an item, or only says so.
    pub(super) fn take(&mut self, item: &DataItem, is_forgotten: bool, height: u64, now_ms: u64) -> Receipt {
        let is_new = !self.items.contains_key(&item.id());
        if is_new {
            self.items.insert(item.id(), None);
            if !is_forgotten {
                self.queue.push(item.clone());
            }
        }
        self.receipt(item, height + DEADLINE_BLOCKS, now_ms)
    }

    fn receipt(&self, item: &DataItem, deadline_height: u64, timestamp: u64) -> Receipt {
        let texts = [
            item.id().to_string(),
            deadline_height.to_string(),
            timestamp.to_string(),
        ];
        let [id, deadline, time] = texts.each_ref().map(String::as_bytes);
        let hash = deep_hash::list(&[b"Bundlr", VERSION.as_bytes(), id, deadline, time]);
        let signature = self.receipts.sign(&hash).expect("an RSA key signs");
        Receipt {
            id: item.id(),
            timestamp,
            owner: item.owner_address(),
            winc: "0".into(),
            version: VERSION,
            deadline_height,
            data_caches: Vec::new(),
            fast_finality_indexes: Vec::new(),
            public: base64url(self.receipts.owner()),
            signature: base64url(&signature),
        }
    }

    /// Makes a carrier of what waits: its place among the carriers.
    pub(super) fn bundle(
        &mut self,
        anchor: &[u8],
        price: impl Fn(u64) -> u128,
        height: u64,
    ) -> Option<usize> {
        if self.queue.is_empty() {
            return None;
        }
        let items = std::mem::take(&mut self.queue);
        let (data, at) = (Bundle::encode(&items), self.carriers.len());
        let transaction = self.sign(&data, anchor, price(data.len() as u64));
        let ids: Vec<ItemId> = items.iter().map(DataItem::id).collect();
        ids.iter()
            .for_each(|id| *self.items.entry(*id).or_default() = Some(at));
        self.carriers.push(Carrier {
            transaction,
            data,
            signed_at: height,
            items: ids,
        });
        Some(at)
    }

    /// Signs a carrier of the same bytes again: the old one can never be mined any more.
    pub(super) fn sign_again(&mut self, at: usize, anchor: &[u8], price: impl Fn(u64) -> u128, height: u64) {
        let data = self.carriers[at].data.clone();
        let transaction = self.sign(&data, anchor, price(data.len() as u64));
        let carrier = &mut self.carriers[at];
        carrier.transaction = transaction;
        carrier.signed_at = height;
        assert!(!carrier.items.is_empty(), "a carrier carries items");
    }

    fn sign(&self, data: &[u8], anchor: &[u8], reward: u128) -> Transaction {
        let content = Content {
            last_tx: anchor.to_vec(),
            tags: vec![
                Tag::new("Bundle-Format", "binary"),
                Tag::new("Bundle-Version", "2.0.0"),
            ],
            reward,
            data_size: data.len() as u64,
            data_root: Some(Tree::of(data).root()),
            ..Content::default()
        };
        content.sign(&self.wallet).expect("within all limits")
    }

    /// What it says of an item, given how many confirmations a carrier has.
    pub(super) fn status(
        &self,
        id: &ItemId,
        confirmations: impl Fn(&ItemId) -> u64,
        permanent: u64,
    ) -> Option<ItemStatus> {
        let carrier = self.items.get(id)?.map(|at| self.carriers[at].transaction.id);
        let (status, info) = match carrier.map(|id| confirmations(&id)) {
            None => ("CONFIRMED", "new"),
            Some(count) if count < permanent => ("CONFIRMED", "pending"),
            Some(_) => ("FINALIZED", "permanent"),
        };
        Some(ItemStatus {
            status,
            info,
            bundle_id: carrier,
        })
    }
}
