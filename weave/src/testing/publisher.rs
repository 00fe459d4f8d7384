//! Brings sealed segments to the double as carriers, at once and without a state of its own: what a rebuild is tried on.
//!
//! Not here: our own upload, which does the same over days and failures.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use spec::carrier::{self, Draft, Range, SegmentData};
use spec::chunks::{Tree, sha256};
use spec::transaction::Content;
use spec::{Address, Carrier, CarrierTags, DataItem, ItemId, ItemParts, ProcessId, Signer, Transaction};

use super::double::Double;
use super::peer::ChunkPost;
use super::{PEERS, Status};
use crate::record::Record;
use crate::segment::Segment;
use crate::skeleton::{self, Parts};

/// Level of compression; the weave is paid for by the byte.
const LEVEL: i32 = 3;

/// A node's carriers so far.
pub struct Publisher {
    /// Signs the carriers.
    pub wallet: Signer,
    /// Signs what closes them.
    pub node: Signer,
    /// The scheduler's.
    pub epoch: u64,
    /// The next one's place.
    pub sequence: u64,
    /// The segment item before it.
    pub prev_segment: Option<ItemId>,
    /// Earlier carriers, the newest first.
    pub previous: Vec<ItemId>,
}

impl Publisher {
    /// One that has published nothing.
    pub fn new(wallet: Signer, node: Signer) -> Publisher {
        Publisher {
            wallet,
            node,
            epoch: 0,
            sequence: 0,
            prev_segment: None,
            previous: Vec::new(),
        }
    }

    /// The wallet's account.
    pub fn address(&self) -> Address {
        let owner = self.wallet.transaction_owner();
        owner.expect("a wallet of the base layer").address()
    }

    /// The account that the wallet's items are of; another one than that of its transactions, unless it is RSA.
    pub fn item_address(&self) -> Address {
        spec::signature::address(self.wallet.owner())
    }

    /// The carrier of a sealed segment file of a number.
    pub fn carrier(&self, number: u64, file: &Bytes) -> Carrier {
        let apart = apart(file).expect("a sealed segment");
        let records = bundled(&apart.records, &self.node);
        let data = SegmentData {
            file_len: file.len() as u64,
            ranges: ranges(&records),
            skeleton: apart.skeleton.into(),
        };
        let draft = self.draft(number, file, &data);
        Carrier::build(records, &draft, &self.node).expect("a key that signs")
    }

    /// What the next segment item says.
    pub fn draft(&self, number: u64, file: &[u8], data: &SegmentData) -> Draft {
        Draft {
            epoch: self.epoch,
            sequence: self.sequence,
            segment: number,
            prev_segment: self.prev_segment,
            replaces: Vec::new(),
            segment_sha256: sha256(&[file]),
            data: compressed(&data.encode().expect("ranges in order")),
        }
    }

    /// The tags of whatever brings a carrier.
    pub fn tags(&self, carrier: &Carrier) -> spec::Tags {
        let previous = self.previous.iter().copied().take(1).collect();
        let (sequence, segment_item) = (carrier.segment().sequence, carrier.segment_item().id());
        let tags = CarrierTags {
            epoch: carrier.segment().epoch,
            sequence,
            segment_item,
            previous,
        };
        tags.encode().expect("one carrier before it")
    }

    /// Posts a sealed segment as a transaction of its own, seeds it everywhere and has it mined.
    pub fn publish(&mut self, double: &mut Double, number: u64, file: &Bytes) -> Transaction {
        let carrier = self.carrier(number, file);
        let bundle: Bytes = carrier.pieces().collect::<Vec<_>>().concat().into();
        let transaction = post(double, &self.wallet, self.tags(&carrier), &bundle);
        self.went(&carrier, transaction.id);
        transaction
    }

    /// Gives a sealed segment to the bundler as an item, and waits until it is mined.
    pub fn publish_item(&mut self, double: &mut Double, number: u64, file: &Bytes) -> DataItem {
        let carrier = self.carrier(number, file);
        let parts = ItemParts {
            tags: self.tags(&carrier),
            data: carrier.pieces().collect::<Vec<_>>().concat().into(),
            ..ItemParts::default()
        };
        let item = DataItem::sign(&parts, &self.wallet).expect("a key that signs");
        double.post_item(&item).expect("the bundler takes it");
        double.tick(4 * double.rules().block_ms);
        self.went(&carrier, item.id());
        item
    }

    /// Goes on after a carrier.
    pub fn went(&mut self, carrier: &Carrier, id: ItemId) {
        self.sequence = carrier.segment().sequence + 1;
        self.prev_segment = Some(carrier.segment_item().id());
        self.previous.insert(0, id);
    }
}

/// A sealed segment file taken apart.
///
/// # Errors
/// As [`skeleton::take`].
pub fn apart(file: &[u8]) -> crate::error::Result<Parts> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!(
        "weft-apart-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, file).expect("a folder for temporary files");
    let parts = Segment::open(&path).and_then(|segment| skeleton::take(&segment));
    // What cannot be removed is the system's to clean.
    let _ = std::fs::remove_file(&path);
    parts
}

/// A segment's records as the items of its bundle.
pub fn bundled(records: &[Record], node: &Signer) -> Vec<DataItem> {
    let item = |record: &Record| match record {
        Record::Item(item) => item.clone(),
        Record::Withheld(withheld) => carrier::wrap(withheld, node).expect("a key that signs"),
        Record::Note(_) => unreachable!("a segment's notes are in its skeleton"),
    };
    records.iter().map(item).collect()
}

/// Posts data as a transaction, seeds it at every peer and has it mined.
pub fn post(double: &mut Double, wallet: &Signer, tags: spec::Tags, data: &Bytes) -> Transaction {
    let content = Content {
        last_tx: double.anchor().to_vec(),
        reward: double.price(data.len() as u64, None),
        tags,
        ..Content::carrying(data)
    };
    let transaction = content.sign(wallet).expect("a key that signs");
    double
        .post_transaction(0, transaction.clone(), None)
        .expect("the peer takes it");
    double.tick(double.rules().gossip_ms);
    seed(double, data);
    double.mine_block();
    assert!(
        matches!(double.status(0, &transaction.id), Status::Mined { .. }),
        "it was mined"
    );
    transaction
}

fn seed(double: &mut Double, data: &Bytes) {
    let tree = Tree::of(data);
    for peer in 0..PEERS {
        for chunk in tree.chunks() {
            let post = ChunkPost {
                root: (tree.root(), data.len() as u64),
                offset: chunk.end - 1,
                data_path: tree.proof(chunk.start).expect("a place of its own").into(),
                chunk: data.slice(chunk.start as usize..chunk.end as usize),
            };
            double.post_chunk(peer, post).expect("the peer takes its chunks");
        }
    }
}

fn compressed(data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
    zstd_safe::compress(&mut out, data, LEVEL).expect("the bound is enough");
    out.into()
}

/// The stretches of processes' logs among a segment's items, by their tags.
fn ranges(records: &[DataItem]) -> Vec<Range> {
    let mut ranges: BTreeMap<ProcessId, Range> = BTreeMap::new();
    for item in records
        .iter()
        .filter(|item| item.tag("Type") == Some("Assignment"))
    {
        let process = item.tag("Process").and_then(|text| text.parse::<ItemId>().ok());
        let slot = item.tag("Nonce").and_then(|text| text.parse().ok());
        let (Some(process), Some(slot)) = (process, slot) else {
            continue;
        };
        let process = ProcessId::from(process);
        let range = ranges.entry(process).or_insert(Range {
            process,
            first: slot,
            last: slot,
            count: 0,
            last_assignment: item.id(),
        });
        (range.first, range.last) = (range.first.min(slot), range.last.max(slot));
        (range.count, range.last_assignment) = (range.count + 1, item.id());
    }
    ranges.into_values().collect()
}
