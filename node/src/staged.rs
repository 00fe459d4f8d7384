//! For tests: logs of processes, brought to the double of Arweave in carriers, through blocks or through its bundler.
//!
//! Not here: the node's own upload. The invariant: all keys and times come from constants.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use bytes::Bytes;
use spec::assignment::Chain;
use spec::carrier::{CarrierTags, Draft as Segment};
use spec::chunks::Tree;
use spec::contract::Tick;
use spec::item::ItemParts;
use spec::transaction::Content;
use spec::{Assignment, Bundle, Carrier, DataItem, Draft, ItemId, ProcessId, Signer, Tag};
use weave::network::{ChunkPost, Peer};
use weave::testing::{self, Double, Faults, Handle, Rules};

/// The key of the scheduler.
pub fn scheduler() -> Signer {
    Signer::ed25519(&[2; 32])
}

/// The wallet that pays.
pub fn wallet() -> Signer {
    Signer::ethereum(&[7; 32]).unwrap()
}

/// An item of the test's user.
pub fn signed(tags: &[(&str, &str)], data: impl Into<Bytes>, target: Option<ProcessId>) -> DataItem {
    let parts = ItemParts {
        target: target.map(|process| process.0),
        tags: tags.iter().map(|(name, value)| Tag::new(*name, *value)).collect(),
        data: data.into(),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).unwrap()
}

/// A message of the test's user.
pub fn message(process: ProcessId, data: impl Into<Bytes>) -> DataItem {
    let tags = [
        ("Data-Protocol", "ao"),
        ("Type", "Message"),
        ("Variant", "ao.TN.1"),
    ];
    signed(&tags, data, Some(process))
}

/// A process's log as its scheduler writes it.
pub struct Log {
    /// The process.
    pub process: ProcessId,
    /// The next slot.
    pub slot: u64,
    /// The chain's value before it.
    pub chain: Chain,
    /// What was written: each message and its assignment.
    pub records: Vec<DataItem>,
}

impl Log {
    /// With slot 0, the process item; `name` makes it differ from others.
    pub fn of(spawn: DataItem) -> Log {
        let process = ProcessId::from(spawn.id());
        let mut log = Log {
            process,
            slot: 0,
            chain: Chain::first(process),
            records: Vec::new(),
        };
        log.put(spawn);
        log
    }

    /// A log of a process that nothing evaluates.
    pub fn named(name: &str) -> Log {
        let tags = [
            ("Data-Protocol", "ao"),
            ("Type", "Process"),
            ("Variant", "ao.TN.1"),
            ("Name", name),
            ("Scheduler", &scheduler().address().to_string()),
        ];
        Log::of(signed(&tags, Bytes::new(), None))
    }

    /// A log of a process of the kernel that comes along.
    pub fn kernel(name: &str) -> Log {
        let tags = [
            ("Data-Protocol", "ao"),
            ("Type", "Process"),
            ("Variant", "ao.TN.1"),
            ("Name", name),
            ("Module", &cu::kernel_id().to_string()),
            ("Scheduler", &scheduler().address().to_string()),
        ];
        Log::of(signed(&tags, Bytes::new(), None))
    }

    /// Gives a slot to a line of Lua by the process's owner.
    pub fn eval(&mut self, line: &str) -> DataItem {
        let tags = [
            ("Data-Protocol", "ao"),
            ("Type", "Message"),
            ("Variant", "ao.TN.1"),
            ("Action", "Eval"),
            ("Nth", &self.slot.to_string()),
        ];
        let item = signed(&tags, line.to_owned(), Some(self.process));
        self.put(item.clone());
        item
    }

    /// What the next assignment says of a message.
    pub fn draft(&self, message: &DataItem) -> Draft {
        Draft {
            process: self.process,
            slot: self.slot,
            chain: self.chain,
            tick: Tick {
                timestamp_ms: 1_700_000_000_000 + 10 * self.slot,
                block_height: 9,
            },
            message: (self.slot > 0).then(|| message.id()),
            exclude: Vec::new(),
            notes: Vec::new(),
            anchor: [self.slot as u8; 32],
        }
    }

    /// Gives a message the next slot.
    pub fn put(&mut self, message: DataItem) -> Assignment {
        let assignment = self.draft(&message).sign(&scheduler()).unwrap();
        self.records.extend([message, assignment.item.clone()]);
        self.chain = self.chain.next(assignment.item.id());
        self.slot += 1;
        assignment
    }

    /// Gives slots to so many messages.
    pub fn grow(&mut self, messages: u64) {
        for _ in 0..messages {
            let text = format!("message {}", self.slot);
            self.put(message(self.process, text));
        }
    }

    /// What was written since it was asked last.
    pub fn take(&mut self) -> Vec<DataItem> {
        std::mem::take(&mut self.records)
    }
}

/// A double with money in the wallet.
pub fn double(faults: Faults) -> Handle {
    let mut double = Double::new(Rules::default(), faults);
    double.mint(wallet().transaction_owner().unwrap().address(), 1 << 90);
    Handle::new(double)
}

/// Carriers of one node.
#[derive(Default)]
pub struct Node {
    sequence: u64,
    previous: Option<ItemId>,
    segment: Option<ItemId>,
}

impl Node {
    /// Closes some records.
    pub fn carrier(&mut self, records: Vec<DataItem>) -> (Carrier, Vec<Tag>) {
        let draft = Segment {
            epoch: 0,
            sequence: self.sequence,
            segment: 2 * self.sequence + 2,
            prev_segment: self.segment,
            replaces: Vec::new(),
            segment_sha256: [5; 32],
            data: Bytes::from_static(b"compressed"),
        };
        let carrier = Carrier::build(records, &draft, &scheduler()).unwrap();
        let tags = CarrierTags {
            epoch: 0,
            sequence: self.sequence,
            segment_item: carrier.segment_item().id(),
            previous: self.previous.into_iter().collect(),
        };
        self.sequence += 1;
        self.segment = Some(carrier.segment_item().id());
        (carrier, tags.encode().unwrap())
    }

    /// Brings records to the double in a transaction, and lets it be mined.
    pub async fn publish(&mut self, handle: &Handle, records: Vec<DataItem>) -> ItemId {
        let (carrier, tags) = self.carrier(records);
        let data: Vec<u8> = carrier.pieces().flatten().collect();
        let id = post(handle, data.into(), tags).await;
        self.previous = Some(id);
        id
    }

    /// The same through the double's bundler.
    pub async fn publish_by_bundler(&mut self, handle: &Handle, records: Vec<DataItem>) -> ItemId {
        let (carrier, tags) = self.carrier(records);
        let data: Vec<u8> = carrier.pieces().flatten().collect();
        let parts = ItemParts {
            tags,
            data: data.into(),
            ..ItemParts::default()
        };
        let item = DataItem::sign(&parts, &wallet()).unwrap();
        testing::bundler(handle).post(&item).await.unwrap().unwrap();
        let bundle_ms = handle.lock().rules().bundle_ms;
        handle.lock().tick(bundle_ms);
        handle.lock().mine_block();
        self.previous = Some(item.id());
        item.id()
    }
}

/// Brings anybody's items to the double in a bundle of its own.
pub async fn publish_plain(handle: &Handle, items: &[DataItem]) -> ItemId {
    let tags = vec![
        Tag::new("Bundle-Format", "binary"),
        Tag::new("Bundle-Version", "2.0.0"),
    ];
    post(handle, Bundle::encode(items), tags).await
}

async fn post(handle: &Handle, data: Bytes, tags: Vec<Tag>) -> ItemId {
    let peer: Peer = testing::peer(handle, 0);
    let content = Content {
        tags,
        last_tx: peer.anchor().await.unwrap().to_vec(),
        reward: peer.price(data.len() as u64).await.unwrap(),
        ..Content::carrying(&data)
    };
    let transaction = content.sign(&wallet()).unwrap();
    peer.post_transaction(&transaction).await.unwrap();
    let tree = Tree::of(&data);
    for chunk in tree.chunks() {
        let chunk = ChunkPost {
            data_root: tree.root(),
            data_size: data.len() as u64,
            data_path: tree.proof(chunk.start).unwrap().into(),
            offset: chunk.end - 1,
            chunk: data.slice(chunk.start as usize..chunk.end as usize),
        };
        for peer in testing::peers(handle) {
            // Another peer may not know the transaction yet.
            let _ = peer.post_chunk(&chunk).await;
        }
    }
    handle.lock().mine_block();
    transaction.id
}

/// The same statement in another epoch.
pub fn in_epoch(assignment: &Assignment, epoch: u64) -> DataItem {
    let tag = |tag: &Tag| match &tag.name[..] {
        b"Epoch" => Tag::new("Epoch", epoch.to_string()),
        _ => tag.clone(),
    };
    let parts = ItemParts {
        tags: assignment.item.tags().iter().map(tag).collect(),
        anchor: assignment.item.anchor().copied(),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &scheduler()).unwrap()
}
