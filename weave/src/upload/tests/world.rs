//! A node that appends and uploads, the double it uploads to, and a way to stop it anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use spec::contract::{Answer, Class};
use spec::{Bundle, DataItem, ItemId, ItemParts, ProcessId, Signer, Tag, Transaction, carrier};
use tokio::sync::Notify;

use crate::log::{Clock, Log};
use crate::network::{BundlerService, Peer, Transport};
use crate::record::{Position, Record};
use crate::retrieve::{Checked, Collector, Inspector, Limits, Source, Sources, Staging, find};
use crate::testing::{Double, Faults, Handle, PEERS, Rules, loopback};
use crate::upload::cache;
use crate::upload::ledger::Carrier;
use crate::upload::note::{Route, Told};
use crate::upload::{Config, Find, Next, Parts, State, Uploader};
use crate::{Error, config};

/// Where an uploader is stopped: before or after the request that a counter comes to.
#[derive(Default)]
pub struct Fuse {
    left: Mutex<Option<(u64, bool)>>,
    blown: Notify,
    /// No request gets through while this is set.
    pub cut: AtomicBool,
    /// No chunk is taken while this is set.
    pub no_chunks: AtomicBool,
    /// The first peer says of every transaction that it was mined long ago.
    pub is_lied: AtomicBool,
    /// No peer tells the height.
    pub is_silent: AtomicBool,
    /// Every transaction is refused.
    pub is_refusing: AtomicBool,
    /// No peer knows where a transaction stands.
    pub is_forgotten: AtomicBool,
    /// No chunk is given by others than the first peer, nor taken by them, while this is set.
    pub guests_lack_chunks: AtomicBool,
}

impl Fuse {
    /// Stops at the request after so many; `is_done`: it takes effect, and its answer is lost.
    pub fn light(&self, requests: u64, is_done: bool) {
        *self.left.lock().unwrap() = Some((requests, is_done));
    }

    /// Whether this request is the one, and takes effect.
    fn burn(&self) -> Option<bool> {
        let mut left = self.left.lock().unwrap();
        let (requests, is_done) = left.take()?;
        match requests.checked_sub(1) {
            Some(less) => {
                *left = Some((less, is_done));
                None
            }
            None => Some(is_done),
        }
    }
}

/// What a peer says of a transaction that is not so, or no answer of its own.
fn lie(fuse: &Fuse, number: usize, path: &str) -> Option<Response<Bytes>> {
    let is_status = path.starts_with("/tx/") && path.ends_with("/status");
    let is_block = path.starts_with("/block/height/");
    let answer = |status: u16, body: String| {
        let answer = Response::builder().status(status).body(body.into());
        answer.unwrap()
    };
    if fuse.is_lied.load(Ordering::Relaxed) && number == 0 && (is_status || is_block) {
        let lie = match is_status {
            true => r#"{"block_height":3,"block_indep_hash":"AAAA","number_of_confirmations":99}"#,
            false => r#"{"height":3,"indep_hash":"AAAA","timestamp":1,"txs":[]}"#,
        };
        return Some(answer(200, lie.into()));
    }
    if fuse.is_silent.load(Ordering::Relaxed) && path == "/info" {
        return Some(answer(503, "busy".into()));
    }
    if fuse.is_refusing.load(Ordering::Relaxed) && path == "/tx" {
        return Some(answer(400, "Invalid anchor (last_tx).".into()));
    }
    let is_forgotten = fuse.is_forgotten.load(Ordering::Relaxed) && is_status;
    is_forgotten.then(|| answer(404, "Not Found".into()))
}

/// A transport with a fuse.
struct Fused {
    number: usize,
    inner: Arc<dyn Transport>,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl Transport for Fused {
    async fn send(&self, request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        if self.fuse.cut.load(Ordering::Relaxed) {
            return Err(spec::Refusal::upstream("unreachable", "the line is cut"));
        }
        if self.fuse.no_chunks.load(Ordering::Relaxed) && request.uri().path() == "/chunk" {
            return Err(spec::Refusal::upstream("no-room", "disk_full"));
        }
        if let Some(lie) = lie(&self.fuse, self.number, request.uri().path()) {
            return Ok(lie);
        }
        let lacks = self.number > 0 && self.fuse.guests_lack_chunks.load(Ordering::Relaxed);
        if lacks && request.uri().path().starts_with("/chunk") {
            return Err(spec::Refusal::not_found("not-found", "no such chunk here"));
        }
        match self.fuse.burn() {
            None => self.inner.send(request, bytes_max).await,
            Some(is_done) => {
                if is_done {
                    let _ = self.inner.send(request, bytes_max).await;
                }
                self.fuse.blown.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// Numbers that follow from a seed.
pub struct Dice(pub u64);

impl Dice {
    /// Below `below`.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What was acknowledged to somebody.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub id: ItemId,
    pub at: Position,
}

/// Takes every segment.
struct Anything;

impl Inspector for Anything {
    type Summary = ();

    fn inspect(&self, _: &Checked) -> Result<(), String> {
        Ok(())
    }
}

/// Everything.
pub struct World {
    pub double: Handle,
    pub dice: Dice,
    pub config: Config,
    pub fuse: Arc<Fuse>,
    pub log: Option<Arc<Log>>,
    pub uploader: Option<Uploader>,
    pub acknowledged: Vec<Acknowledged>,
    pub withheld: BTreeSet<ItemId>,
    /// Those of them that nobody outside had seen.
    unseen: BTreeSet<ItemId>,
    /// Appends refused because the spool was full.
    pub refused: u64,
    pub crashes: u64,
    with_bundler: bool,
    /// How many of the double's peers are configured; they name the others.
    upstreams: usize,
    slots: BTreeMap<ProcessId, u64>,
    clock: Arc<AtomicU64>,
    folder: tempfile::TempDir,
    settled: BTreeSet<u64>,
    next_ms: u64,
}

fn wallet() -> Signer {
    Signer::ethereum(&[0xA1; 32]).unwrap()
}

fn node() -> Signer {
    Signer::ed25519(&[0xA2; 32])
}

impl World {
    pub fn new(seed: u64, faults: Faults, rules: Rules, config: Config, with_bundler: bool) -> World {
        let mut double = Double::new(rules, faults);
        double.mint(wallet().transaction_owner().unwrap().address(), 1 << 100);
        double.tick(1);
        let clock = Arc::new(AtomicU64::new(double.now_ms()));
        let mut world = World {
            double: Handle::new(double),
            dice: Dice(seed),
            config,
            fuse: Arc::default(),
            log: None,
            uploader: None,
            acknowledged: Vec::new(),
            withheld: BTreeSet::new(),
            unseen: BTreeSet::new(),
            refused: 0,
            crashes: 0,
            with_bundler,
            upstreams: PEERS,
            slots: BTreeMap::new(),
            clock,
            folder: tempfile::tempdir().unwrap(),
            settled: BTreeSet::new(),
            next_ms: 0,
        };
        let addresses = (0..PEERS).map(|number| format!("127.0.0.1:{number}"));
        world.double.lock().set_addresses(addresses.collect());
        world.start();
        world
    }

    /// When the uploader wants its next turn.
    pub fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// Starts again without the bundler.
    pub fn without_bundler(&mut self) {
        self.with_bundler = false;
        self.crash();
    }

    /// Starts again with so many upstreams.
    pub fn with_upstreams(mut self, upstreams: usize) -> World {
        self.upstreams = upstreams;
        self.crash();
        self
    }

    fn transport(&self, number: usize) -> Arc<dyn Transport> {
        Arc::new(Fused {
            number,
            inner: loopback::transport(&self.double, number),
            fuse: self.fuse.clone(),
        })
    }

    /// Opens log and uploader, as a node does that starts.
    pub fn start(&mut self) {
        let clock = self.clock.clone();
        let clock: Clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let config = config::Config {
            seal_bytes_max: self.config.seal_bytes_min * 32,
            preallocate_bytes: 4096,
            ..config::Config::default()
        };
        let log = Log::open_with(&config, &self.folder.path().join("log"), clock, None).unwrap();
        let log = Arc::new(log);
        let peers: Vec<Peer> = (0..PEERS)
            .map(|number| Peer::new(&format!("127.0.0.1:{number}"), self.transport(number)))
            .collect();
        let all = peers.clone();
        let find: Find = Arc::new(move |text, _| all.iter().find(|peer| peer.name() == text).cloned());
        let bundler = BundlerService::new("bundler", self.transport(0), "arweave");
        let parts = Parts {
            log: log.clone(),
            cache: Some(self.folder.path().into()),
            node: Arc::new(node()),
            epoch: 0,
            wallet: Arc::new(wallet()),
            peers: peers[..self.upstreams].to_vec(),
            find: Some(find),
            bundlers: self.with_bundler.then_some(bundler).into_iter().collect(),
        };
        self.uploader = Some(Uploader::open(parts, self.config.clone()).unwrap());
        self.log = Some(log);
        self.next_ms = 0;
    }

    /// Stops everything, and starts it again on what is on disk.
    pub fn crash(&mut self) {
        let before = self.uploader().ledger().clone();
        self.uploader = None;
        self.log = None;
        self.crashes += 1;
        self.start();
        let whole = cache::open(self.log(), None).unwrap();
        for ledger in [&before, &whole] {
            assert_eq!(
                self.uploader().ledger(),
                ledger,
                "the ledger is a function of the notes"
            );
        }
    }

    pub fn uploader(&self) -> &Uploader {
        self.uploader.as_ref().unwrap()
    }

    /// The uploader's notes.
    pub fn told(&self) -> Vec<Told> {
        let entries = self.log().entries(None).map(Result::unwrap);
        let notes = entries.filter_map(|entry| Told::read(entry.record.note()?).unwrap());
        notes.collect()
    }

    pub fn log(&self) -> &Arc<Log> {
        self.log.as_ref().unwrap()
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    pub fn height(&self) -> u64 {
        self.double.lock().height()
    }

    /// Lets time pass, in the double and here.
    pub fn pass(&mut self, ms: u64) {
        let mut double = self.double.lock();
        double.tick(ms);
        self.clock.store(double.now_ms(), Ordering::Relaxed);
    }

    /// Schedules a message: it and an assignment with the next slot, as one group. A slot is taken only by what was
    /// acknowledged.
    pub async fn schedule(&mut self, len: usize) {
        let process = ProcessId([self.dice.below(3) as u8; 32]);
        let slot = self.slots.get(&process).copied().unwrap_or(0);
        let data: Vec<u8> = (0..len).map(|_| self.dice.below(256) as u8).collect();
        let message = ItemParts {
            tags: vec![Tag::new("N", self.dice.below(u64::MAX).to_string())],
            data: data.into(),
            ..ItemParts::default()
        };
        let message = DataItem::sign(&message, &Signer::ed25519(&[7; 32])).unwrap();
        let tags = [
            ("Type", "Assignment".to_string()),
            ("Process", process.to_string()),
            ("Nonce", slot.to_string()),
            ("Message", message.id().to_string()),
        ];
        let assignment = ItemParts {
            tags: tags.map(|(name, value)| Tag::new(name, value)).into(),
            ..ItemParts::default()
        };
        let assignment = DataItem::sign(&assignment, &node()).unwrap();
        let ids = [message.id(), assignment.id()];
        let records = vec![Record::Item(message), Record::Item(assignment)];
        match self.log().append(records, Class::Permanent).await {
            Ok(positions) => {
                self.slots.insert(process, slot + 1);
                let new = ids.into_iter().zip(positions);
                self.acknowledged
                    .extend(new.map(|(id, at)| Acknowledged { id, at }));
            }
            Err(Error::Busy("spool_bytes_max")) => self.refused += 1,
            Err(error) => panic!("{error}"),
        }
    }

    /// Takes a message's data out of the log.
    pub fn withhold(&mut self) {
        if self.acknowledged.is_empty() {
            return;
        }
        let at = self.dice.below(self.acknowledged.len() as u64 / 2) as usize * 2;
        let chosen = self.acknowledged[at].clone();
        let carrier = self.log().segment_of(chosen.at);
        let carrier = carrier.and_then(|number| self.uploader().ledger().of_segment(number));
        if !self.withheld.contains(&chosen.id)
            && carrier.is_none_or(|carrier| carrier.trips.is_empty() && carrier.sunk == 0)
        {
            self.unseen.insert(chosen.id);
        }
        self.log().withhold(chosen.at).unwrap();
        self.withheld.insert(chosen.id);
    }

    /// Takes the first message of a carrier out of the log.
    pub fn withhold_of(&mut self, sequence: u64) {
        let number = self.uploader().ledger().carrier(sequence).unwrap().segment;
        let of_segment = |one: &&Acknowledged| self.log().segment_of(one.at) == Some(number);
        let chosen = self.acknowledged.iter().find(of_segment).unwrap().clone();
        self.log().withhold(chosen.at).unwrap();
        self.withheld.insert(chosen.id);
    }

    /// One turn of the uploader, if it asked for one; it may be stopped in the middle.
    pub async fn turn(&mut self) {
        if self.now_ms() < self.next_ms {
            return;
        }
        let (now_ms, fuse) = (self.now_ms(), self.fuse.clone());
        let mut uploader = self.uploader.take().unwrap();
        let turned: Option<Answer<Next>> = tokio::select! {
            biased;
            turned = uploader.turn(now_ms) => Some(turned),
            () = fuse.blown.notified() => None,
        };
        self.uploader = Some(uploader);
        match turned {
            Some(next) => self.next_ms = next.unwrap().at_ms,
            None => self.crash(),
        }
        self.check_settled();
    }

    /// What was just called permanent is it, by the double's own truth.
    fn check_settled(&mut self) {
        let ledger = self.uploader.as_ref().unwrap().ledger();
        let now: Vec<Carrier> = ledger
            .carriers()
            .filter(|carrier| carrier.is_settled())
            .cloned()
            .collect();
        let double = self.double.lock();
        let mut settled = BTreeSet::new();
        for carrier in now {
            settled.insert(carrier.sequence);
            let trip = carrier.settled_trip().unwrap();
            let transaction = trip.transaction.unwrap();
            let (block, mined) = double.mined(&transaction).expect("permanent means mined");
            let confirmations = double.height() - block.height + 1;
            assert!(
                confirmations >= 18,
                "permanent with {confirmations} confirmations"
            );
            if self.settled.contains(&carrier.sequence) {
                continue;
            }
            let data = double
                .data(&mined.transaction)
                .expect("permanent means that the data is there");
            let bundle = match &trip.route {
                Route::L1 => data,
                Route::Bundler(_) => {
                    let items = Bundle::parse(&data).unwrap().items;
                    let item = items.iter().find(|item| item.id() == trip.id);
                    item.expect("the item is in its bundle").data()
                }
            };
            let whole = carrier::Carrier::parse(&bundle).unwrap();
            assert_eq!(whole.segment().sequence, carrier.sequence);
            assert_eq!(whole.records().len() as u64, carrier.items);
        }
        self.settled = settled;
    }

    /// What the log's clock shows from now on, until time passes.
    pub fn clock_is(&mut self, ms: u64) {
        self.clock.store(ms, Ordering::Relaxed);
        self.next_ms = 0;
    }

    /// Whether everything appended is permanent.
    pub fn is_done(&self) -> bool {
        self.log().spool().bytes == 0
    }

    /// Everything acknowledged is in the chain, deep enough, with its data; and in no other slot.
    pub fn check_all(&self) {
        let double = self.double.lock();
        let (mut held, mut slots) = (BTreeMap::new(), BTreeMap::new());
        for height in 0..=double.height().saturating_sub(17) {
            for mined in &double.block(height).unwrap().transactions {
                let Some(data) = data_of(&double, &mined.transaction) else {
                    continue;
                };
                for item in Bundle::parse_nested(&data).unwrap_or_default() {
                    item.verify().unwrap();
                    assert!(
                        !self.unseen.contains(&item.id()),
                        "what was withheld in time went up: {}",
                        item.id()
                    );
                    let id = carrier::unwrap(&item).map_or(item.id(), |withheld| withheld.id());
                    held.insert(id, item.clone());
                    if item.tag("Type") == Some("Assignment") {
                        let slot = (
                            item.tag("Process").unwrap().to_string(),
                            item.tag("Nonce").unwrap().to_string(),
                        );
                        let before = slots.insert(slot, item.id());
                        assert!(
                            before.is_none_or(|before| before == item.id()),
                            "a slot was used twice"
                        );
                    }
                }
            }
        }
        let missing = self.acknowledged.iter().filter(|one| !held.contains_key(&one.id));
        let missing: Vec<_> = missing.map(|one| (one, self.log().segment_of(one.at))).collect();
        let ledger = self.uploader().ledger();
        let carriers: Vec<_> = missing
            .iter()
            .filter_map(|(_, segment)| ledger.of_segment((*segment)?))
            .collect();
        assert!(
            missing.is_empty(),
            "acknowledged and not permanent: {missing:?} {carriers:?}"
        );
        let report = self.uploader().report().unwrap();
        let all = self.acknowledged.len() as u64;
        assert_eq!(report.states.permanent.items, all, "each item is counted once");
        let others = [
            report.states.appended,
            report.states.sealed,
            report.states.posted,
            report.states.mined,
        ];
        assert!(others.iter().all(|count| count.items == 0 && count.bytes == 0));
        assert_eq!(
            (report.oldest_unsettled_ms, report.cost.committed),
            (None, self.sunk())
        );
    }

    fn sunk(&self) -> u128 {
        let carriers = self.uploader().ledger().carriers();
        let open = carriers.map(|carrier| {
            let trips = carrier.trips.iter().filter(|trip| trip.is_unmined());
            carrier.sunk + trips.map(|trip| trip.cost).sum::<u128>()
        });
        open.sum()
    }

    /// From the wallet's last transaction, carriers lead back to all of them.
    pub fn check_chain(&self) {
        let double = self.double.lock();
        let address = wallet().transaction_owner().unwrap().address();
        let (mut next, mut seen, mut sequences) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        next.extend(double.account(&address).last_tx);
        while let Some(id) = next.pop().filter(|id| seen.insert(*id)).or_else(|| next.pop()) {
            seen.insert(id);
            let Some((_, mined)) = double.mined(&id) else {
                continue;
            };
            let tags = spec::CarrierTags::read(&mined.transaction.content.tags).unwrap();
            sequences.insert(tags.sequence);
            next.extend(tags.previous.into_iter().filter(|id| !seen.contains(id)));
        }
        let all: BTreeSet<u64> = (0..self.uploader().ledger().next_sequence()).collect();
        assert_eq!(sequences, all, "the last transaction leads to every carrier");
    }

    /// From the gateways alone the log comes back, byte for byte; only what was withheld after it was posted is withheld
    /// here and not there.
    pub async fn check_comes_back(&self) {
        let name = |number: usize| format!("peer-{number}");
        let limits = Limits {
            rounds_max: 40,
            round_wait_ms: 0,
            ..Limits::default()
        };
        let one = |number| Source::new(&name(number), loopback::transport(&self.double, number), &limits);
        let sources = Sources::new((0..3).map(one).collect(), limits.clone());
        let address = wallet().transaction_owner().unwrap().address();
        let mut found = find(&sources, &[address, wallet().address()]).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let staging = Arc::new(Staging::open(folder.path(), "schedule").unwrap().0);
        let collector = Collector::new(sources, staging, Anything, Arc::default());
        let segments = collector.run(&mut found).await.unwrap();
        let mut all: Vec<u64> = self
            .uploader()
            .ledger()
            .carriers()
            .map(|one| one.segment)
            .collect();
        all.sort_unstable();
        let numbers: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
        assert_eq!(numbers, all, "each segment comes back, in order");
        for number in numbers {
            let name = format!("{number:08}-permanent.seg");
            let [here, back] = ["log", "rebuild/log"].map(|log| log.to_owned() + "/" + &name);
            let here = std::fs::read(self.folder.path().join(here)).unwrap();
            let back = std::fs::read(folder.path().join(back)).unwrap();
            let is_withheld = |one: &&Acknowledged| {
                self.withheld.contains(&one.id) && self.log().segment_of(one.at) == Some(number)
            };
            let is_later = self.acknowledged.iter().any(|one| is_withheld(&one));
            assert!(is_later || here == back, "segment {number} is another file");
        }
    }

    /// In the order of their sequence, the heights at which carriers got into blocks.
    pub fn heights(&self) -> Vec<u64> {
        let carriers = self.uploader().ledger().carriers();
        carriers
            .map(|carrier| carrier.settled_trip().unwrap().height)
            .collect()
    }

    pub fn state_of(&self, sequence: u64) -> State {
        self.uploader().ledger().carrier(sequence).unwrap().state()
    }
}

fn data_of(double: &Double, transaction: &Transaction) -> Option<Bytes> {
    double.data(transaction).filter(|data| !data.is_empty())
}
