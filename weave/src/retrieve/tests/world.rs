//! A log of a few segments whose carriers are on the double, and a rebuild of it in one call.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use spec::contract::Class;
use spec::{Address, DataItem, ItemId, ItemParts, ProcessId, Signer, Tag};

use super::super::{Checked, Collector, Error, Inspector, Limits, Source, Sources, Staging, find};
use crate::chain::Chain;
use crate::config::Config;
use crate::log::{Log, system_clock};
use crate::record::{Note, NoteKind, Position, Record};
use crate::testing::{Double, Faults, Handle, Publisher, Rules, transport};

pub const GENESIS_MS: u64 = 1_700_000_000_000;

/// Takes everything; counts records.
pub struct Anything;

impl Inspector for Anything {
    type Summary = u64;

    fn inspect(&self, segment: &Checked) -> Result<u64, String> {
        Ok(segment.records.len() as u64)
    }
}

pub struct World {
    pub handle: Handle,
    pub wallet: Address,
    pub process: ProcessId,
    /// The sealed files by number.
    pub files: Vec<(u64, Bytes)>,
    pub ids: Vec<ItemId>,
    pub positions: Vec<Position>,
    pub publisher: Publisher,
}

fn wallet(number: u8) -> Signer {
    Signer::ethereum(&[number; 32]).unwrap()
}

/// The limits of tests: no waiting.
pub fn limits() -> Limits {
    Limits {
        rounds_max: 40,
        round_wait_ms: 0,
        ..Limits::default()
    }
}

pub fn item(by: u8, tags: &[(&str, &str)], data: impl Into<Bytes>) -> DataItem {
    let parts = ItemParts {
        tags: tags.iter().map(|(name, value)| Tag::new(*name, *value)).collect(),
        data: data.into(),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&[by; 32])).unwrap()
}

impl World {
    /// A log with some permanent segments among local ones, each carried by a transaction.
    pub fn new(segments: u64, faults: Faults) -> World {
        World::made(segments, |publisher, double, number, file| {
            publisher.publish(double, number, file);
        })
        .with(faults)
    }

    /// The same, carried by the bundler.
    pub fn by_bundler(segments: u64) -> World {
        World::made(segments, |publisher, double, number, file| {
            publisher.publish_item(double, number, file);
        })
    }

    /// The same, carried by transactions and by the bundler in turns.
    pub fn by_both(segments: u64) -> World {
        World::made(segments, |publisher, double, number, file| {
            match publisher.sequence.is_multiple_of(2) {
                true => drop(publisher.publish(double, number, file)),
                false => drop(publisher.publish_item(double, number, file)),
            }
        })
    }

    /// The same, the second half of it carried by transactions of another wallet; `publisher` has that one.
    pub fn by_two_wallets(segments: u64) -> World {
        let mut left = segments / 2;
        let mut world = World::made(segments, |publisher, double, number, file| {
            if left == 0 && publisher.wallet.owner() == wallet(1).owner() {
                publisher.wallet = wallet(3);
                double.mint(publisher.address(), 1 << 90);
            }
            left = left.saturating_sub(1);
            publisher.publish(double, number, file);
        });
        let owner = wallet(1).transaction_owner();
        world.wallet = owner.expect("a wallet of the base layer").address();
        world
    }

    pub fn made(segments: u64, mut publish: impl FnMut(&mut Publisher, &mut Double, u64, &Bytes)) -> World {
        let mut double = Double::new(Rules::default(), Faults::none());
        let mut publisher = Publisher::new(wallet(1), Signer::ed25519(&[2; 32]));
        let wallet = publisher.address();
        double.mint(wallet, 1 << 90);
        let log = Written::new(segments);
        for (number, file) in &log.files {
            publish(&mut publisher, &mut double, *number, file);
        }
        let Written {
            files,
            ids,
            positions,
            process,
        } = log;
        World {
            handle: Handle::new(double),
            wallet,
            process,
            files,
            ids,
            positions,
            publisher,
        }
    }

    /// From here on things go wrong.
    fn with(self, faults: Faults) -> World {
        self.handle.lock().set_faults(faults);
        self
    }

    pub fn sources(&self, peers: &[usize]) -> Sources {
        let source = |number: &usize| {
            Source::new(
                &format!("peer-{number}"),
                transport(&self.handle, *number),
                &limits(),
            )
        };
        Sources::new(peers.iter().map(source).collect(), limits())
    }

    /// The account that the wallet's items are of.
    pub fn wallet_of_items(&self) -> Address {
        self.publisher.item_address()
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.files.iter().map(|(number, _)| *number).collect()
    }

    /// Every file of the log is the one it was, and there is no other permanent one.
    pub fn assert_same(&self, data: &Path) {
        let mut count = 0;
        for entry in std::fs::read_dir(data.join("log")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if let Some(number) = name.strip_suffix("-permanent.seg") {
                let number: u64 = number.parse().unwrap();
                let file = self.files.iter().find(|(one, _)| *one == number).unwrap();
                assert!(std::fs::read(&path).unwrap() == file.1, "{name} is another file");
                count += 1;
            }
        }
        assert_eq!(count, self.files.len());
    }
}

struct Written {
    files: Vec<(u64, Bytes)>,
    ids: Vec<ItemId>,
    positions: Vec<Position>,
    process: ProcessId,
}

impl Written {
    fn new(segments: u64) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let clock: crate::log::Clock = Arc::new(|| GENESIS_MS);
        let log = Log::open_with(&Config::default(), folder.path(), clock.clone(), None).unwrap();
        Chain::open(&log, 10_000, clock).unwrap();
        let process = item(7, &[("Type", "Process")], "p");
        let mut written = Written {
            files: Vec::new(),
            ids: Vec::new(),
            positions: Vec::new(),
            process: process.id().into(),
        };
        for segment in 0..segments {
            let mut records = written.records(segment, (segment == 0).then(|| process.clone()));
            records.push(Record::Withheld(
                item(8, &[("Secret", "1")], format!("s{segment}")).withhold(),
            ));
            let ids: Vec<ItemId> = records.iter().filter_map(Record::id).collect();
            let is_item: Vec<bool> = records.iter().map(|record| record.id().is_some()).collect();
            let positions = log.append(records, Class::Permanent).wait().unwrap();
            let of_items = positions.iter().zip(is_item).filter(|(_, is_item)| *is_item);
            written.positions.extend(of_items.map(|(at, _)| *at));
            written.ids.extend(ids);
            // A local item stays behind; what comes after it keeps its position.
            let local = Record::Item(item(9, &[("Local", "1")], format!("l{segment}")));
            log.append(vec![local], Class::Local).wait().unwrap();
            log.seal(Class::Permanent).unwrap();
            if segment % 2 == 0 {
                log.seal(Class::Local).unwrap();
            }
        }
        drop(log);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if let Some(number) = name.strip_suffix("-permanent.seg") {
                let file = Bytes::from(std::fs::read(&path).unwrap());
                written.files.push((number.parse().unwrap(), file));
            }
        }
        written.files.sort();
        written
    }

    fn records(&self, segment: u64, process: Option<DataItem>) -> Vec<Record> {
        let note = Note {
            kind: NoteKind::SCHEDULER,
            body: Bytes::from(segment.to_le_bytes().to_vec()),
        };
        let mut records = vec![Record::Note(note)];
        records.extend(process.map(Record::Item));
        let owner = self.process.to_string();
        for number in 0..6 {
            let nonce = (segment * 6 + number).to_string();
            let tags = [("Type", "Assignment"), ("Process", &owner), ("Nonce", &nonce)];
            records.push(Record::Item(item(2, &tags, "")));
            records.push(Record::Item(item(
                number as u8,
                &[("N", &nonce)],
                vec![b'x'; 300],
            )));
        }
        records
    }
}

/// Finds, collects and places a wallet's log.
pub async fn rebuild(sources: &Sources, wallet: Address, data: &Path) -> Result<Vec<u64>, Error> {
    let mut found = find(sources, &[wallet]).await?;
    let (staging, _) = Staging::open(data, &wallet.to_string())?;
    let staging = Arc::new(staging);
    let collector = Collector::new(sources.clone(), staging.clone(), Anything, Arc::default());
    let segments = collector.run(&mut found).await?;
    let numbers: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
    let chain = Chain::new(GENESIS_MS, 10_000, system_clock());
    staging.place(&numbers, &chain, Vec::new())?;
    drop(collector);
    Arc::try_unwrap(staging).map_or(Ok(()), Staging::finish)?;
    Ok(numbers)
}
