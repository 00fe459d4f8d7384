//! What the double's gateway knows: mined transactions, and the items of bundles whose data is there.
//!
//! Not here: HTTP, GraphQL's words. The invariant: an item is listed only while its carrier is in the chain, and only
//! if its signature verifies.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use spec::bundle::{self, Bundle};
use spec::{DataItem, ItemId, Tag, Transaction, tags};

/// Where something stands in the order of all: height, transaction of the block, item of the bundle (0: itself).
pub(super) type Place = (u64, usize, usize);

/// What stands at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    pub(super) id: ItemId,
    /// One bit for each of its tags, several tags to a bit: what lacks a bit lacks the tag.
    pub(super) marks: u64,
}

impl Listing {
    fn new(id: ItemId, tags: &[Tag]) -> Listing {
        let marks = tags.iter().map(|tag| mark(&tag.name, &tag.value));
        let marks = marks.fold(0, |all, mark| all | mark);
        Listing { id, marks }
    }
}

/// The bit of a tag.
pub(super) fn mark(name: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.write_u8(0xff);
    hasher.write(value);
    1 << (hasher.finish() % 64)
}

/// An item of a bundle.
#[derive(Debug, Clone)]
pub(super) struct Unbundled {
    pub(super) item: DataItem,
    /// The bundle it stands in directly.
    pub(super) parent: ItemId,
    pub(super) place: Place,
}

/// The gateway's index.
#[derive(Debug, Default)]
pub(super) struct Library {
    pub(super) order: BTreeMap<Place, Listing>,
    pub(super) items: BTreeMap<ItemId, Unbundled>,
    /// Carriers whose items are not listed yet.
    waiting: BTreeMap<ItemId, (u64, usize)>,
}

/// Whether a transaction's data is a bundle.
pub(super) fn is_carrier(transaction: &Transaction) -> bool {
    let tags = &transaction.content.tags;
    tags::first(tags, "Bundle-Format") == Some("binary")
        && tags::first(tags, "Bundle-Version") == Some("2.0.0")
}

impl Library {
    /// A transaction was mined.
    pub(super) fn mined(&mut self, transaction: &Transaction, height: u64, index: usize) {
        let listing = Listing::new(transaction.id, &transaction.content.tags);
        self.order.insert((height, index, 0), listing);
        if is_carrier(transaction) {
            self.waiting.insert(transaction.id, (height, index));
        }
    }

    /// A block was taken back.
    pub(super) fn undo(&mut self, height: u64) {
        let gone = self.order.split_off(&(height, 0, 0));
        for Listing { id, .. } in gone.values() {
            self.items.remove(id);
            self.waiting.remove(id);
        }
    }

    /// Carriers whose data should be looked for.
    pub(super) fn waiting(&self) -> Vec<ItemId> {
        self.waiting.keys().copied().collect()
    }

    /// The data of a waiting carrier is there.
    pub(super) fn unbundle(&mut self, carrier: ItemId, data: &Bytes) {
        let Some((height, index)) = self.waiting.remove(&carrier) else {
            return;
        };
        let mut count = 0;
        let mut level = vec![(carrier, data.clone())];
        for _ in 0..bundle::DEPTH_MAX {
            let bundles = std::mem::take(&mut level);
            for (parent, data) in bundles {
                // What says it is a bundle and is none stays an item like any other.
                for item in Bundle::parse(&data)
                    .map(|bundle| bundle.items)
                    .unwrap_or_default()
                {
                    if item.verify().is_err() || self.items.contains_key(&item.id()) {
                        continue;
                    }
                    count += 1;
                    if bundle::is_carrier(&item) {
                        level.push((item.id(), item.data()));
                    }
                    self.list(item, parent, (height, index, count));
                }
            }
        }
    }

    fn list(&mut self, item: DataItem, parent: ItemId, place: Place) {
        self.order.insert(place, Listing::new(item.id(), item.tags()));
        let listed = self.items.insert(item.id(), Unbundled { item, parent, place });
        assert!(listed.is_none(), "each item is listed once");
    }
}
