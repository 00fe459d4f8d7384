//! `weft follow`: another scheduler's log, read from gateways alone, verified and evaluated here as it grows.
//!
//! Not here: what the log's order is (`ledger`), how items are had (`gather`). The invariant: what is evaluated was
//! signed by the process's scheduler and chains from slot 0; contradicting statements end it, and are kept as a file.

pub mod args;
pub mod audit;
pub(crate) mod gather;
mod ledger;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aos_shell::error::Problem;
use spec::contract::{Answer, Compute, Permanent, State};
use spec::fraud::Fraud;
use spec::resume::{self, Resume};
use spec::{Address, Assignment, DataItem, ItemId, ProcessId, Refusal, carrier, tags};
use weave::Weave;
use weave::network::Peer;

use cu::permanent::NAMING;

use crate::client::{Done, Outlet};
use crate::gateways;
use args::FollowArgs;
use gather::Gateway;
use ledger::{Ledger, Next, Offered};
use store::Store;

/// After so many wrong or missing answers in one look a gateway is left alone until the next.
const COMPLAINTS_MAX: usize = 100;
/// Messages kept until their slots are taken, in bytes; what is beyond is asked for when its slot comes.
const MESSAGES_BYTES_MAX: usize = 256 << 20;
/// Slots evaluated with one question.
const STEP: u64 = 10_000;

/// Why following ended.
#[derive(Debug)]
pub enum Ended {
    /// The scheduler contradicted itself.
    Fraud(Box<Fraud>),
    /// The log is no log, or the gateways are of no use.
    Refused(Refusal),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Ended {
        Ended::Refused(refusal)
    }
}

/// A log that is followed.
pub struct Follower {
    process: ProcessId,
    scheduler: Address,
    gateways: Vec<Gateway>,
    ledger: Ledger,
    store: Arc<Store>,
    compute: Arc<cu::Cu>,
    /// Messages that came in bundles, until their slots are taken; wrappers by the id they stand for.
    messages: HashMap<ItemId, DataItem>,
    messages_bytes: usize,
    /// What gateways refused or lied about at the last look.
    complaints: Vec<String>,
}

impl Follower {
    /// Opens the folder, and finds the process and its scheduler.
    ///
    /// # Errors
    /// A folder in use; a process that no gateway knows; one without a scheduler.
    pub async fn open(
        process: ProcessId,
        scheduler: Option<Address>,
        peers: Vec<Peer>,
        data: &Path,
    ) -> Answer<Follower> {
        Follower::open_with(process, [scheduler, None], peers, data, data).await
    }

    /// As [`Follower::open`], with the compute unit's caches, and all that comes from gateways, in a folder of their own:
    /// then nothing is added to the log that is read. Where nobody says whose log it is (`scheduler`), the process does,
    /// unless the folder holds one that begins by the account whose folder it is (`own`): the process was adopted.
    pub async fn open_with(
        process: ProcessId,
        [scheduler, own]: [Option<Address>; 2],
        peers: Vec<Peer>,
        data: &Path,
        caches: &Path,
    ) -> Answer<Follower> {
        let (config, folder) = (weave::Config::default(), data.to_path_buf());
        let opened = tokio::task::spawn_blocking(move || Weave::open(config, &folder)).await;
        let weave = opened.map_err(|error| Refusal::internal(error.to_string()))??;
        weave.overlay(cu::shipped::items())?;
        let beside = match caches == data {
            true => weave.clone(),
            false => open_beside(caches).await?,
        };
        let store = Arc::new(Store::new(process, weave, beside, peers.clone()));
        let spawn = store.fetch(process.into()).await?;
        if tags::first(&spawn.tags(), "Type") != Some("Process") {
            let text = format!("{process} is an item, but no process");
            return Err(Refusal::invalid("no-process", text));
        }
        let named = spawn.item().and_then(|item| item.tag("Scheduler"));
        let named = named.and_then(|named| named.parse().ok());
        let scheduler = match scheduler {
            Some(scheduler) => Some(scheduler),
            None => store.begun_by(named.into_iter().chain(own)).await?.or(named),
        };
        let scheduler = scheduler.ok_or_else(|| {
            Refusal::invalid(
                "no-scheduler",
                "the process names no scheduler by its address; name the one that signs its log with --scheduler",
            )
        })?;
        let compute = cu::Cu::open(
            cu::Config::default(),
            store.clone(),
            store.clone(),
            caches,
            scheduler.to_string(),
        );
        let mut follower = Follower {
            process,
            scheduler,
            gateways: peers.into_iter().map(Gateway::new).collect(),
            ledger: Ledger::new(process, scheduler),
            compute: compute.map_err(|error| Refusal::internal(error.to_string()))?,
            store,
            messages: HashMap::new(),
            messages_bytes: 0,
            complaints: Vec::new(),
        };
        follower.read_own().await?;
        Ok(follower)
    }

    /// Takes what is on this disk already. It was verified before it was written.
    async fn read_own(&mut self) -> Answer<()> {
        let mut from = 0;
        while let Some(signer) = self.ledger.signers().get(from).copied() {
            from += 1;
            let words = self.store.words(signer).await?;
            words.iter().for_each(|word| self.ledger.hear(word));
        }
        for assignment in self.store.held(self.ledger.signers()).await? {
            self.ledger.offer(assignment);
        }
        while let Next::Fits(next, needs) = self.ledger.next() {
            let Some(content) = self.content(&next).await? else {
                return Ok(());
            };
            let evidence = self.evidence(&needs).await;
            if self.ledger.take(&evidence).is_err() {
                return Ok(());
            }
            self.store.put(&next, &content).await?;
        }
        Ok(())
    }

    /// The first slot that is not there.
    pub fn next_slot(&self) -> u64 {
        self.ledger.next_slot()
    }

    /// Looks at every gateway once, and takes all slots that follow. Answers how many.
    ///
    /// # Errors
    /// A contradiction, or a log that no honest scheduler writes.
    pub async fn look(&mut self) -> Result<u64, Ended> {
        let before = self.next_slot();
        self.complaints.clear();
        for at in 0..self.gateways.len() {
            self.hear(at).await;
        }
        for at in 0..self.gateways.len() {
            let signers = self.ledger.signers().to_vec();
            let complaints = self.complaints.len();
            match self.gateways[at].assignments(self.process, &signers).await {
                Ok(entries) => {
                    self.gather(at, &entries).await?;
                    let is_taken = |entry: &gather::Entry| {
                        entry.slot.is_some_and(|slot| self.ledger.knows(entry.id, slot))
                    };
                    // What failed is listed again at the next look.
                    let missed = entries.iter().filter(|entry| !is_taken(entry));
                    let missed = missed.filter_map(|entry| entry.height).min();
                    let failed = self.complaints.len() > complaints;
                    self.gateways[at].looked(missed.filter(|_| failed));
                }
                Err(refusal) => self.complaints.push(refusal.to_string()),
            }
            self.advance_now().await?;
        }
        self.advance().await?;
        Ok(self.next_slot() - before)
    }

    /// Takes slots while others come in. Where a key was replaced, its slots wait for what the later ones gave.
    async fn advance_now(&mut self) -> Result<(), Ended> {
        match self.ledger.signers().len() {
            1 => self.advance().await,
            _ => Ok(()),
        }
    }

    /// Hears what the scheduler's keys say of themselves; keys that they name as their successors are heard too.
    async fn hear(&mut self, at: usize) {
        let mut from = 0;
        while let Some(signer) = self.ledger.signers().get(from).copied() {
            from += 1;
            match self.gateways[at].words(signer).await {
                Ok(words) => {
                    words.iter().for_each(|word| self.ledger.hear(word));
                    // Whose checkpoints count, the compute unit reads for itself.
                    let naming = words.into_iter().filter(|word| word.tag("Type") == Some(NAMING));
                    if let Err(refusal) = self.store.keep(naming.collect()).await {
                        self.complaints.push(refusal.to_string());
                    }
                }
                Err(refusal) => self.complaints.push(refusal.to_string()),
            }
        }
    }

    async fn gather(&mut self, at: usize, entries: &[gather::Entry]) -> Result<(), Ended> {
        let most = self.complaints.len() + COMPLAINTS_MAX;
        for entry in entries {
            if self.complaints.len() >= most {
                return Ok(());
            }
            if entry.slot.is_some_and(|slot| self.ledger.knows(entry.id, slot)) {
                continue;
            }
            if let Some(bundle) = entry.bundle {
                match self.gateways[at].bundle(bundle).await {
                    Ok(items) => self.sort(items).await?,
                    Err(refusal) => self.complaints.push(refusal.to_string()),
                }
                self.advance_now().await?;
            }
            if entry.slot.is_some_and(|slot| self.ledger.knows(entry.id, slot)) {
                continue;
            }
            match gather::item(&self.gateways[at].peer, entry.id).await {
                Ok(item) => self.sort(vec![item]).await?,
                Err(refusal) => self.complaints.push(refusal.to_string()),
            }
            self.advance_now().await?;
        }
        Ok(())
    }

    /// What of some items is this log's: assignments go to the ledger, their messages are kept until they have a slot.
    async fn sort(&mut self, items: Vec<DataItem>) -> Result<(), Ended> {
        let mut wanted = HashSet::new();
        for item in &items {
            let Ok(assignment) = Assignment::read(item.clone()) else {
                continue;
            };
            if !self.ledger.is_ours(&assignment) || self.ledger.knows(item.id(), assignment.slot) {
                continue;
            }
            if let Err(error) = item.verify() {
                self.complaints.push(format!("{}: {error}", item.id()));
                continue;
            }
            wanted.insert(assignment.subject());
            let own = on_own_bytes(item).and_then(|own| Assignment::read(own).ok());
            self.offer(own.unwrap_or(assignment)).await?;
        }
        for item in items {
            let stands_for = match self.ledger.signers().contains(&item.owner_address()) {
                true => carrier::unwrap(&item).map_or(item.id(), |left| left.id()),
                false => item.id(),
            };
            if wanted.contains(&stands_for) {
                self.keep_message(stands_for, &item);
            }
        }
        Ok(())
    }

    /// Keeps a message until its slot is taken, on bytes of its own: the bundle it came in is not held.
    fn keep_message(&mut self, id: ItemId, item: &DataItem) {
        let len = item.bytes().len();
        if self.messages_bytes + len <= MESSAGES_BYTES_MAX
            && let Some(own) = on_own_bytes(item)
            && self.messages.insert(id, own).is_none()
        {
            self.messages_bytes += len;
        }
    }

    fn drop_message(&mut self, id: ItemId) {
        if let Some(item) = self.messages.remove(&id) {
            self.messages_bytes -= item.bytes().len();
        }
    }

    async fn offer(&mut self, assignment: Assignment) -> Result<(), Ended> {
        match self.ledger.offer(assignment.clone()) {
            Offered::Known | Offered::Waits => Ok(()),
            Offered::Full => {
                self.complaints.push(format!(
                    "slot {} is missing, and {} later ones wait for it; what is furthest is left for another look",
                    self.next_slot(),
                    self.ledger.waiting()
                ));
                Ok(())
            }
            Offered::Replaced => {
                self.complaints.push(format!(
                    "assignment {} of slot {} is signed by {}, whom another key had followed by then",
                    assignment.item.id(),
                    assignment.slot,
                    assignment.item.owner_address()
                ));
                Ok(())
            }
            Offered::Overrules(id) => {
                let text = format!(
                    "slot {} was taken as {id}, signed by a key that {} had followed by then",
                    assignment.slot,
                    assignment.item.owner_address()
                );
                Err(Refusal::invalid("log-superseded", text).into())
            }
            Offered::AgainstTaken(id) => {
                let other = self.taken(id).await?;
                let fraud = fraud(assignment.clone(), other.clone())?;
                match self.told(&fraud).await {
                    // The scheduler said that it lost what comes here now.
                    true if assignment.epoch < other.epoch => Ok(()),
                    true => Err(superseded(&other)),
                    false => Err(Ended::Fraud(fraud)),
                }
            }
            Offered::AgainstWaiting(other) => {
                let fraud = fraud(assignment.clone(), *other.clone())?;
                match self.told(&fraud).await {
                    true if assignment.epoch < other.epoch => {}
                    true => self.ledger.replace(assignment),
                    false => return Err(Ended::Fraud(fraud)),
                }
                Ok(())
            }
        }
    }

    async fn taken(&self, id: ItemId) -> Answer<Assignment> {
        let item = self.store.item(id).await?;
        let assignment = item.and_then(|item| Assignment::read(item).ok());
        assignment.ok_or_else(|| Refusal::internal(format!("assignment {id} is not here")))
    }

    /// Whether a resume item tells of the loss that two statements of different epochs show.
    async fn told(&self, fraud: &Fraud) -> bool {
        if !fraud.contradiction().may_be_told() {
            return false;
        }
        let [one, other] = fraud.statements();
        let later = if one.epoch > other.epoch { one } else { other };
        let named = later.item.tag(resume::TAG).and_then(|id| id.parse().ok());
        let Some(id) = named else { return false };
        let evidence = self.evidence(&[id]).await;
        let told = evidence.into_iter().find_map(|item| Resume::read(item).ok());
        let stand = told.filter(|told| told.epoch == later.epoch && told.item.owner() == later.item.owner());
        let stand = stand.and_then(|told| told.stand(self.process));
        stand.is_some_and(|stand| stand.slot < one.slot.min(other.slot))
    }

    /// Items that show why an assignment may follow; what is not to be had is left out.
    async fn evidence(&self, ids: &[ItemId]) -> Vec<DataItem> {
        let mut found = Vec::new();
        for id in ids {
            let item = self.store.fetch(*id).await.ok();
            let item = item.and_then(|stored| stored.item().cloned());
            found.extend(item.filter(|item| item.verify().is_ok()));
        }
        found
    }

    /// Takes slots as long as the next one is there with its message.
    async fn advance(&mut self) -> Result<(), Ended> {
        loop {
            let (next, needs) = match self.ledger.next() {
                Next::Nothing => return Ok(()),
                Next::Fits(next, needs) => (next, needs),
                Next::Against(next, taken) => {
                    let other = self.taken(taken).await?;
                    let fraud = fraud(*next, other.clone())?;
                    return match self.told(&fraud).await {
                        true => Err(superseded(&other)),
                        false => Err(Ended::Fraud(fraud)),
                    };
                }
            };
            let Some(content) = self.content(&next).await? else {
                let text = format!(
                    "message {} of slot {} is not to be had",
                    next.subject(),
                    next.slot
                );
                self.complaints.push(text);
                return Ok(());
            };
            let evidence = self.evidence(&needs).await;
            if let Err(why) = self.ledger.take(&evidence) {
                let text = format!("slot {} (assignment {}): {why}", next.slot, next.item.id());
                return Err(Refusal::invalid("broken-log", text).into());
            }
            self.store.put(&next, &content).await?;
            self.drop_message(next.subject());
        }
    }

    /// The message of an assignment: from its bundle, this disk, or any gateway.
    async fn content(&mut self, assignment: &Assignment) -> Answer<Option<DataItem>> {
        let id = assignment.subject();
        if let Some(item) = self.messages.get(&id)
            && item.verify().is_ok()
        {
            return Ok(Some(item.clone()));
        }
        match self.store.fetch(id).await {
            Ok(stored) => Ok(stored.item().cloned()),
            Err(refusal) => {
                self.complaints.push(refusal.to_string());
                Ok(None)
            }
        }
    }

    /// Evaluates all slots that were taken; answers where the process stands then.
    ///
    /// # Errors
    /// What keeps the compute unit from evaluating: a module that is not to be had, say.
    pub async fn evaluate(&self, from: u64) -> Answer<State> {
        let last = self.next_slot().saturating_sub(1);
        let mut slot = from;
        while slot < last {
            slot = (slot + STEP).min(last);
            let entry = self.store.slot(slot).await?;
            self.compute
                .result(self.process, entry.assignment.subject())
                .await?;
        }
        self.compute.state(self.process, None).await
    }

    /// What gateways refused or lied about at the last look.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Writes what is unwritten.
    pub async fn close(&self) {
        self.compute.close().await;
        self.store.close().await;
    }
}

/// Another item of the same bytes; its signature is checked when it is used.
fn on_own_bytes(item: &DataItem) -> Option<DataItem> {
    DataItem::parse(bytes::Bytes::copy_from_slice(item.bytes())).ok()
}

/// A weave for what comes from gateways, where the one that is read stays as it is.
async fn open_beside(folder: &Path) -> Answer<Arc<Weave>> {
    let folder = folder.join("beside");
    let opened = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder).map_err(|error| Refusal::internal(error.to_string()))?;
        Ok::<_, Refusal>(Weave::open(weave::Config::default(), &folder)?)
    });
    opened
        .await
        .map_err(|error| Refusal::internal(error.to_string()))?
}

fn fraud(one: Assignment, other: Assignment) -> Result<Box<Fraud>, Ended> {
    let slots = (one.slot, other.slot);
    Fraud::of(one, other).map(Box::new).map_err(|error| {
        let text = format!("slots {} and {}: {error}", slots.0, slots.1);
        Ended::Refused(Refusal::invalid("broken-log", text))
    })
}

fn superseded(taken: &Assignment) -> Ended {
    let text = format!(
        "the scheduler lost slot {} of epoch {} and gave it again under a later epoch, as it says itself",
        taken.slot, taken.epoch
    );
    Refusal::invalid("log-superseded", text).into()
}

/// `weft follow`
pub async fn follow(args: &FollowArgs, outlet: &Outlet) -> Done {
    let peers = gateways::named(&args.from)?;
    let temporary = TemporaryFolder::new()?;
    let data = args.data.as_deref().unwrap_or(temporary.path());
    let opening = Follower::open(args.process, args.scheduler, peers, data);
    let mut follower = outlet.wait("finding the process", opening).await?;
    let done = go_on(&mut follower, args, outlet).await;
    follower.close().await;
    done
}

async fn go_on(follower: &mut Follower, args: &FollowArgs, outlet: &Outlet) -> Done {
    let (mut shown, mut idle) = (None, false);
    loop {
        match follower.look().await {
            Ok(_) => {}
            Err(Ended::Refused(refusal)) => return Err(refusal.into()),
            Err(Ended::Fraud(fraud)) => return Err(caught(&fraud, &args.fraud)),
        }
        let next = follower.next_slot();
        if shown != Some(next) && next > 0 {
            let state = follower.evaluate(shown.unwrap_or(0)).await?;
            tell(&state, args, outlet);
            shown = Some(next);
        } else if !idle {
            follower
                .complaints()
                .iter()
                .for_each(|complaint| outlet.note(complaint));
            idle = true;
        }
        match (args.once, next) {
            (true, 0) => return Err(nothing(follower, args)),
            (true, _) => return Ok(0),
            (false, _) => tokio::time::sleep(Duration::from_secs(args.poll)).await,
        }
    }
}

fn nothing(follower: &Follower, args: &FollowArgs) -> Problem {
    let mut text = format!(
        "no gateway has an assignment of {} by scheduler {}",
        args.process, follower.scheduler
    );
    for complaint in follower.complaints() {
        text.push_str("; ");
        text.push_str(complaint);
    }
    Problem::new("no-log", text)
}

fn tell(state: &State, args: &FollowArgs, outlet: &Outlet) {
    let root = spec::signature::hex(&state.root);
    match args.json {
        true => outlet.json(&serde_json::json!({
            "process": args.process, "slot": state.slot, "timestamp": state.tick.timestamp_ms, "root": root,
        })),
        false => outlet.value(&format!("slot {}  {root}", state.slot)),
    }
}

/// Writes the fraud file; the error that says so.
fn caught(fraud: &Fraud, folder: &Path) -> Problem {
    let statement = &fraud.statements()[0];
    let path = folder.join(format!("{}-{}.fraud", statement.process, statement.slot));
    let text = fraud.contradiction().to_string();
    match std::fs::write(&path, fraud.encode()) {
        Ok(()) => Problem {
            place: Some(path.display().to_string().into()),
            ..Problem::new(
                "equivocation",
                format!(
                    "the scheduler contradicts itself: {text}; both statements are in {}",
                    path.display()
                ),
            )
        },
        Err(error) => Problem::new(
            "proof-file",
            format!(
                "the scheduler contradicts itself: {text}; {} cannot be written: {error}",
                path.display()
            ),
        ),
    }
}

/// A folder that is removed at the end.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<TemporaryFolder, Problem> {
        use std::os::unix::fs::DirBuilderExt;
        let made = |error: std::io::Error| Problem::new("internal", error.to_string());
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(|error| Problem::new("internal", error.to_string()))?;
        let name = format!("weft-follow-{}", spec::ids::base64url(&name));
        let path = std::env::temp_dir().join(name);
        // Not one that is there: whoever made it chose what is read in it as verified.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(made)?;
        Ok(TemporaryFolder(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
