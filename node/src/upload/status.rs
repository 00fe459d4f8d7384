//! What is really there: the report of the upload, for the node and for one process, as JSON and as text.
//!
//! Not here: counting items by state for the node (`weave::upload`). The invariant: each item is counted once, in its
//! present state, and nothing is called permanent that the uploader does not.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use spec::contract::{Answer, Class, Content, LogEntry, Scheduler, Span};
use spec::{Address, ItemId, ProcessId, Refusal};
use weave::upload::{Cost, Count, Report, State, States, Uploader};
use weave::{Held, Weave};

use super::Settings;
use super::run::{Upload, now_ms};

/// Slots that are counted for one answer; what is left is counted for the next ones.
const SLOTS_MAX: u64 = 100_000;
/// Slots read at once.
const PAGE_SLOTS: usize = 500;
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

/// What is known of one process's log up to a slot. Logs only grow, so it stays true.
#[derive(Debug, Clone, Default)]
struct Tally {
    next_slot: u64,
    parts: BTreeMap<u64, Part>,
}

/// Who can tell.
pub struct Board {
    weave: Arc<Weave>,
    scheduler: Option<Arc<dyn Scheduler>>,
    upload: Option<Arc<Upload>>,
    settings: Settings,
    wallet: Option<Address>,
    tallies: Mutex<HashMap<ProcessId, Tally>>,
}

impl Board {
    /// Of a node's weave, its scheduler and its uploader, where they are.
    pub fn new(
        weave: Arc<Weave>,
        scheduler: Option<Arc<dyn Scheduler>>,
        upload: Option<Arc<Upload>>,
        (settings, wallet): (Settings, Option<Address>),
    ) -> Board {
        Board {
            weave,
            scheduler,
            upload,
            settings,
            wallet,
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
            .ok_or_else(|| Refusal::invalid("no-route", text))
    }

    /// Of the whole node.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub async fn status(&self) -> Answer<Status> {
        let report = match &self.upload {
            Some(upload) => upload.report().await?,
            None => Report::without_routes(self.weave.log(), now_ms())?,
        };
        Ok(Status {
            uploads: self.upload.is_some(),
            upstreams: self.settings.upstream.clone(),
            bundlers: self.settings.bundler.clone(),
            wallet: self.wallet,
            report,
        })
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
            class: "local",
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
                "no-scheduler",
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
            has_more = page.has_next_page;
            self.count(&mut tally, &page.entries).await?;
        }
        let mut kept = lock();
        if kept.len() >= TALLIES_MAX {
            kept.clear();
        }
        kept.insert(process, tally.clone());
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
        for held in self.weave.segments_of(ids).await?.into_iter().flatten() {
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
        let Some(upload) = &self.upload else {
            return Ok(segments
                .into_iter()
                .map(|segment| (segment, unsent(segment)))
                .collect());
        };
        let see = move |uploader: &Uploader| {
            let ledger = uploader.ledger();
            let place = |segment: u64| match ledger.of_segment(segment) {
                Some(carrier) => Place {
                    state: carrier.state(),
                    bytes: carrier.bundle_len,
                    winston: carrier.sunk + carrier.trips.iter().map(|trip| trip.cost).sum::<u128>(),
                },
                None => unsent(segment),
            };
            segments
                .into_iter()
                .map(|segment| (segment, place(segment)))
                .collect()
        };
        upload.look(see).await
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

impl Tally {
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
        self.class = "permanent";
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
