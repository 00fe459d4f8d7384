//! What is really there: the report of the upload, for the node and for one process, as JSON and as text.
//!
//! Not here: counting items by state for the node (`weave::upload`). The invariant: each item is counted once, in its
//! present state, and nothing is called permanent that the uploader does not.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use spec::contract::{Answer, Class, Content, LogEntry, Scheduler, Span};
use spec::{Address, ItemId, ProcessId, Refusal};
use tokio::sync::OnceCell;
use weave::upload::{
    CarrierReport, Cost, Count, Ledger, Report, State, States, Uploader, ledger_of, newest_carriers,
};
use weave::{Held, Weave};

use super::Settings;
use super::run::{Upload, now_ms};

/// Slots that are counted for one answer, which anybody may ask for; what is left is counted for the next ones.
const SLOTS_MAX: u64 = 20_000;
/// Slots read at once.
const PAGE_SLOTS: usize = 500;
/// How long a turn of the uploader that is under way is waited for, ms.
const TURN_TIME_MS: u64 = 10_000;
/// Carriers told at most.
const CARRIERS_MAX: usize = 1_000;
/// Processes whose counts are kept.
const TALLIES_MAX: usize = 1_024;

/// Everything that `GET /status` tells.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Whether an upload route is configured: else nothing is ever uploaded.
    pub uploads: bool,
    /// Arweave nodes and gateways.
    pub upstreams: Vec<String>,
    /// Bundling services.
    pub bundlers: Vec<String>,
    /// Who pays.
    pub wallet: Option<Address>,
    /// The rest.
    #[serde(flatten)]
    pub report: Report,
}

/// The same of one process.
#[derive(Debug, Serialize)]
pub struct ProcessStatus {
    /// Whether an upload route is configured.
    pub uploads: bool,
    /// Whose.
    pub process: ProcessId,
    /// `permanent` if its items go up, `local` if they stay.
    pub class: &'static str,
    /// Slots of its log.
    pub slots: u64,
    /// Items by state: messages and assignments.
    pub states: States,
    /// Those that stay on this machine.
    pub local: Count,
    /// Age of its oldest item that is not permanent, ms.
    pub oldest_unsettled_ms: Option<u64>,
    /// Its share, by bytes, of what its carriers cost, in winston.
    pub cost: Cost,
}

/// What one process has in one segment.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    items: u64,
    bytes: u64,
    is_permanent: bool,
    first_ms: u64,
}

/// What is known of one process's log up to a slot. Logs only grow, so it stays true; but what stands in the local part
/// of a process that became permanent is copied, and then counted anew.
#[derive(Debug, Clone, Default)]
struct Tally {
    next_slot: u64,
    /// The log itself says so, at its spawn or later.
    is_permanent: bool,
    parts: BTreeMap<u64, Part>,
}

/// Who can tell.
pub struct Board {
    weave: Arc<Weave>,
    scheduler: Option<Arc<dyn Scheduler>>,
    upload: Option<Arc<Upload>>,
    settings: Settings,
    wallet: Option<Address>,
    /// Where the uploader keeps its snapshot.
    cache: PathBuf,
    /// What went up before, where nothing does now. It cannot change then.
    before: OnceCell<Arc<Ledger>>,
    tallies: Mutex<HashMap<ProcessId, Tally>>,
}

impl Board {
    /// Of a node's weave, its scheduler and its uploader, where they are.
    pub fn new(
        weave: Arc<Weave>,
        scheduler: Option<Arc<dyn Scheduler>>,
        upload: Option<Arc<Upload>>,
        (settings, wallet): (Settings, Option<Address>),
        cache: PathBuf,
    ) -> Board {
        Board {
            weave,
            scheduler,
            upload,
            settings,
            wallet,
            cache,
            before: OnceCell::new(),
            tallies: Mutex::default(),
        }
    }

    /// The uploader.
    ///
    /// # Errors
    /// If none is configured.
    pub fn upload(&self) -> Answer<&Arc<Upload>> {
        let text = "nothing is uploaded: start the node with --upstream URL --upload-wallet FILE";
        self.upload
            .as_ref()
            .ok_or_else(|| Refusal::invalid("no-upload-route", text))
    }

    /// Seals the open segment, so that it goes up at once.
    ///
    /// # Errors
    /// If no uploader is configured, or it runs dry.
    pub async fn seal(&self) -> Answer<()> {
        let upload = self.upload()?;
        if self.settings.config.dry_run {
            let text = "the node runs dry: nothing is sealed, signed or paid";
            return Err(Refusal::invalid("dry-run", text));
        }
        upload.seal().await
    }

    /// Of the whole node.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub async fn status(&self) -> Answer<Status> {
        let report = match &self.upload {
            Some(upload) => upload.report().await?,
            None => {
                let (log, before) = (self.weave.log().clone(), self.before().await?);
                let report = move || Report::without_routes(&log, &before, now_ms());
                let made = tokio::task::spawn_blocking(report).await;
                made.map_err(|error| Refusal::internal(format!("a task stopped: {error}")))??
            }
        };
        Ok(Status {
            uploads: self.upload.is_some(),
            upstreams: self.settings.upstream.clone(),
            bundlers: self.settings.bundler.clone(),
            wallet: self.wallet,
            report,
        })
    }

    /// The ledger of a node that uploads nothing, read once and where it holds nobody up.
    async fn before(&self) -> Answer<Arc<Ledger>> {
        let read = || async {
            let (log, cache) = (self.weave.log().clone(), self.cache.clone());
            let read = tokio::task::spawn_blocking(move || ledger_of(&log, Some(&cache))).await;
            let ledger = read.map_err(|error| Refusal::internal(format!("a task stopped: {error}")))??;
            Ok::<_, Refusal>(Arc::new(ledger))
        };
        self.before.get_or_try_init(read).await.cloned()
    }

    /// Of one process.
    ///
    /// # Errors
    /// A process that is not scheduled here; `counting` while a long log is being counted.
    pub async fn process(&self, process: ProcessId) -> Answer<ProcessStatus> {
        let tally = self.tallied(process).await?;
        let mut status = ProcessStatus {
            uploads: self.upload.is_some(),
            process,
            class: if tally.is_permanent { "permanent" } else { "local" },
            slots: tally.next_slot,
            states: States::default(),
            local: Count::default(),
            oldest_unsettled_ms: None,
            cost: Cost::default(),
        };
        let segments: Vec<u64> = tally.parts.keys().copied().collect();
        let places = self.places(segments).await?;
        for (segment, part) in &tally.parts {
            status.add(part, &places[segment]);
        }
        Ok(status)
    }

    async fn tallied(&self, process: ProcessId) -> Answer<Tally> {
        let refusal = || {
            Refusal::invalid(
                "role-missing",
                "this node schedules nothing: ask the scheduler's node",
            )
        };
        let scheduler = self.scheduler.as_ref().ok_or_else(refusal)?;
        let lock = || self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tally = lock().get(&process).cloned().unwrap_or_default();
        let stop = tally.next_slot + SLOTS_MAX;
        let mut has_more = true;
        while has_more && tally.next_slot < stop {
            let span = Span::Slots(tally.next_slot, u64::MAX);
            let page = scheduler.log(process, span, PAGE_SLOTS).await?;
            let begun = tally.next_slot;
            self.count(&mut tally, &page.entries).await?;
            // A log that turns out to have become permanent is counted from its beginning again.
            has_more = page.has_next_page || tally.next_slot < begun;
        }
        let mut kept = lock();
        if kept.len() >= TALLIES_MAX {
            kept.clear();
        }
        match has_more || !tally.is_moving() {
            true => drop(kept.insert(process, tally.clone())),
            false => drop(kept.remove(&process)),
        }
        match has_more {
            false => Ok(tally),
            true => {
                let text = format!(
                    "{} slots of {process} are counted so far; ask again",
                    tally.next_slot
                );
                Err(Refusal::busy("counting", text))
            }
        }
    }

    async fn count(&self, tally: &mut Tally, entries: &[LogEntry]) -> Answer<()> {
        let ids = entries.iter().flat_map(ids_of).collect();
        if !tally.is_permanent && entries.iter().any(says_permanent) {
            // What was counted as local before is copied now.
            let slots = std::mem::take(tally).next_slot;
            tally.is_permanent = true;
            if slots > 0 {
                return Ok(());
            }
        }
        let class = match tally.is_permanent {
            true => Class::Permanent,
            false => Class::Local,
        };
        for held in self.weave.segments_of(ids, class).await?.into_iter().flatten() {
            tally.add(&held);
        }
        tally.next_slot += entries.len() as u64;
        Ok(())
    }

    /// How far each of these segments got, and what its carrier cost.
    async fn places(&self, segments: Vec<u64>) -> Answer<BTreeMap<u64, Place>> {
        let log = self.weave.log().clone();
        let unsent = move |segment: u64| match log.segment(segment).is_some_and(|known| known.is_sealed) {
            true => Place::of(State::Sealed),
            false => Place::of(State::Appended),
        };
        let place = move |ledger: &Ledger, segment: u64| match ledger.of_segment(segment) {
            Some(carrier) => Place {
                state: carrier.state(),
                bytes: carrier.bundle_len,
                winston: carrier.sunk + carrier.trips.iter().map(|trip| trip.cost).sum::<u128>(),
            },
            None => unsent(segment),
        };
        let all = move |ledger: &Ledger| {
            let places = segments.iter().map(|segment| (*segment, place(ledger, *segment)));
            places.collect()
        };
        self.see(all).await
    }

    /// The newest carriers, and what carries each.
    ///
    /// # Errors
    /// `turn-under-way` while the uploader waits for its upstreams.
    pub async fn carriers(&self, most: usize) -> Answer<Vec<CarrierReport>> {
        let most = most.min(CARRIERS_MAX);
        self.see(move |ledger| newest_carriers(ledger, most)).await
    }

    /// What somebody sees of the ledger: the uploader's between two turns, or the one from before.
    async fn see<T: Send + 'static>(&self, look: impl FnOnce(&Ledger) -> T + Send + 'static) -> Answer<T> {
        let Some(upload) = &self.upload else {
            let before = self.before().await?;
            return Ok(look(&before));
        };
        let see = move |uploader: &Uploader| look(uploader.ledger());
        let looked = tokio::time::timeout(Duration::from_millis(TURN_TIME_MS), upload.look(see)).await;
        let text = "the uploader is waiting for its upstreams; ask again";
        looked.unwrap_or_else(|_| Err(Refusal::busy("turn-under-way", text)))
    }
}

/// The items that one slot brought to the log.
fn ids_of(entry: &LogEntry) -> Vec<ItemId> {
    let content = match &entry.content {
        Content::Item(item) => Some(item.id()),
        Content::Withheld(withheld) => Some(withheld.id()),
        Content::Elsewhere => None,
    };
    content.into_iter().chain([entry.assignment.item.id()]).collect()
}

/// Whether a process is permanent from this slot on, as its scheduler noted (spec/assignment.md).
fn says_permanent(entry: &LogEntry) -> bool {
    entry.assignment.item.tag("Storage") == Some("permanent")
}

impl Tally {
    /// Whether something of it waits to be copied into the permanent class.
    fn is_moving(&self) -> bool {
        self.is_permanent && self.parts.values().any(|part| !part.is_permanent)
    }

    fn add(&mut self, held: &Held) {
        let new = Part {
            is_permanent: held.class == Class::Permanent,
            first_ms: held.time_ms,
            ..Part::default()
        };
        let part = self.parts.entry(held.segment).or_insert(new);
        part.items += 1;
        part.bytes += held.bytes;
        part.first_ms = part.first_ms.min(held.time_ms);
    }
}

/// How far a segment got.
#[derive(Debug, Clone, Copy)]
struct Place {
    state: State,
    /// Bytes of its bundle.
    bytes: u64,
    winston: u128,
}

impl Place {
    fn of(state: State) -> Place {
        Place {
            state,
            bytes: 0,
            winston: 0,
        }
    }
}

impl ProcessStatus {
    fn add(&mut self, part: &Part, place: &Place) {
        if !part.is_permanent {
            self.local.items += part.items;
            self.local.bytes += part.bytes;
            return;
        }
        let count = self.states.of(place.state);
        count.items += part.items;
        count.bytes += part.bytes;
        if place.state != State::Permanent {
            let age_ms = now_ms().saturating_sub(part.first_ms);
            self.oldest_unsettled_ms = self.oldest_unsettled_ms.max(Some(age_ms));
        }
        if place.bytes > 0 {
            let share = place.winston * u128::from(part.bytes) / u128::from(place.bytes);
            match place.state {
                State::Mined | State::Permanent => self.cost.spent += share,
                _ => self.cost.committed += share,
            }
        }
    }
}
