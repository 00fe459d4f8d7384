//! The uploader: what is due is done, one turn after the other.
//!
//! Not here: a clock or a thread of its own (`run`), the routes (`l1`, `service`), what the notes mean (`ledger`). The
//! invariant: each decision is a note in the log before its effect, so an uploader that was stopped anywhere goes on
//! from the log; what is kept beside the ledger may be lost at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use spec::carrier::{Draft, REPLACES_MAX};
use spec::contract::{Answer, Class};
use spec::{ItemId, Kind, Refusal, Signer};

use super::bundle::{self, Bundle};
use super::cache;
use super::config::Config;
use super::crowd::{Crowd, Find};
use super::ledger::{Carrier, Ledger, Trip};
use super::note::{Bundled, Moved, Route, Signed, Step, Told};
use super::report::{self, Alarm, CarrierReport, Preview, Report, newest_carriers};
use crate::error::Error;
use crate::log::{Log, Sealable};
use crate::network::{BundlerService, Peer};
use crate::record::{Position, Record};
use crate::segment::Segment;

/// Code of the refusal that ends what is done for a bundle that is void.
pub(super) const AGAIN: &str = "bundled-again";

/// What an uploader works with.
pub struct Parts {
    /// The log whose permanent segments go up, and which holds the notes.
    pub log: Arc<Log>,
    /// Where the ledger is kept between starts; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// The node's key: it signs what a bundle says of itself.
    pub node: Arc<Signer>,
    /// The scheduler's epoch: what is bundled says it.
    pub epoch: u64,
    /// The key that pays and signs what carries bundles.
    pub wallet: Arc<Signer>,
    /// Nodes of the network. Without any, nothing can be confirmed.
    pub peers: Vec<Peer>,
    /// Makes clients of the peers that these name; `None`: nobody else is asked.
    pub find: Option<Find>,
    /// Bundling services, the preferred one first.
    pub bundlers: Vec<BundlerService>,
}

/// When the next turn is due, ms since 1970. An earlier one does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Then.
    pub at_ms: u64,
}

/// What is known of a vehicle beside the notes; lost at a start, and found out again.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Nothing is done for it before.
    pub(super) due_ms: u64,
    failures: u32,
    /// Height at which it was last posted, as far as is known.
    pub(super) posted_at: Option<u64>,
    /// Places of chunks that a peer took, by peer.
    pub(super) seeded: BTreeMap<usize, BTreeSet<u64>>,
    /// Those that it took for a while only.
    pub(super) temporary: BTreeMap<usize, BTreeSet<u64>>,
    /// Height of the last look at its chunks.
    pub(super) looked_at: Option<u64>,
    /// Places of chunks that were proved, and at which height.
    pub(super) proved: BTreeMap<u64, u64>,
    /// Whether the last look found all of them.
    pub(super) is_whole: bool,
    /// Height from which on no look of this run found all of them.
    pub(super) hollow_since: Option<u64>,
    /// Height at which it was first seen, where none was known when it was signed.
    first_height: Option<u64>,
    /// Where a bundler's bundle holds the item: transaction, offset.
    pub(super) found_in: Option<(ItemId, u64)>,
}

/// A bundle, the note it was made from, and the file: another one after data in it was withheld.
struct Loaded {
    note: u64,
    segment: Arc<Segment>,
    bundle: Arc<Bundle>,
}

/// The uploader of one node.
pub struct Uploader {
    pub(super) log: Arc<Log>,
    cache: Option<PathBuf>,
    pub(super) node: Arc<Signer>,
    epoch: u64,
    pub(super) wallet: Arc<Signer>,
    pub(super) bundlers: Vec<BundlerService>,
    pub(super) crowd: Crowd,
    find: Option<Find>,
    /// The peers' own peers are asked for not before.
    guests_due_ms: u64,
    pub(super) config: Config,
    pub(super) ledger: Ledger,
    routes: Vec<Route>,
    pub(super) now_ms: u64,
    /// The chain's height as of this turn.
    pub(super) height: Option<u64>,
    pub(super) pending: BTreeMap<ItemId, Pending>,
    /// The bundle used last.
    loaded: Option<Loaded>,
    /// No other segment is bundled before: the scheduler needs the processor, too.
    bundle_due_ms: u64,
    pub(super) alarms: BTreeSet<Alarm>,
    raised: BTreeSet<Alarm>,
    preview: Option<Preview>,
    /// When settled carriers were last looked at, by sequence.
    pub(super) audited: BTreeMap<u64, u64>,
    /// Those of them of which the last look found nothing.
    pub(super) doubted: BTreeSet<u64>,
    pub(super) audit_due_ms: u64,
    /// Carriers in blocks before this one were looked at last.
    tended: u64,
    notes: u64,
    opened_ms: Option<u64>,
}

impl Uploader {
    /// Reads the log's notes and bounds the spool.
    ///
    /// # Errors
    /// Damage to the log, a note of a newer version.
    pub fn open(parts: Parts, config: Config) -> Answer<Uploader> {
        let ledger = cache::open(&parts.log, parts.cache.as_deref())?;
        let settled: BTreeSet<u64> = ledger
            .carriers()
            .filter(|carrier| carrier.is_settled())
            .map(|carrier| carrier.segment)
            .collect();
        parts
            .log
            .bound_spool(config.spool_bytes_max, |number| settled.contains(&number));
        let bundlers = parts
            .bundlers
            .iter()
            .map(|service| Route::Bundler(service.name().into()));
        let mut routes: Vec<Route> = bundlers.collect();
        if parts.wallet.transaction_owner().is_some() && !parts.peers.is_empty() {
            routes.push(Route::L1);
        }
        Ok(Uploader {
            log: parts.log,
            cache: parts.cache,
            node: parts.node,
            epoch: parts.epoch,
            wallet: parts.wallet,
            bundlers: parts.bundlers,
            crowd: Crowd::new(parts.peers),
            find: parts.find,
            guests_due_ms: 0,
            config,
            ledger,
            routes,
            now_ms: 0,
            height: None,
            pending: BTreeMap::new(),
            loaded: None,
            bundle_due_ms: 0,
            alarms: BTreeSet::new(),
            raised: BTreeSet::new(),
            preview: None,
            audited: BTreeMap::new(),
            doubted: BTreeSet::new(),
            audit_due_ms: 0,
            tended: 0,
            notes: 0,
            opened_ms: None,
        })
    }

    /// Does what is due at a time. If the clock went back far, what was due by the old time is due now.
    ///
    /// # Errors
    /// What is wrong with the log or a segment. What goes wrong upstream is no error: it is tried again, and told in
    /// the report.
    pub async fn turn(&mut self, now_ms: u64) -> Answer<Next> {
        self.begin(now_ms);
        if self.config.dry_run {
            self.look_ahead().await;
            self.count_items().await?;
            return Ok(self.finish());
        }
        self.seal_if_due().await?;
        if self.log.spool().bytes > 0 || self.ledger.newest().is_some() {
            self.height = self.crowd.height().await;
            self.look_around().await;
        }
        let done = self.work().await;
        if let Err(refusal) = &done {
            self.crowd.is_in_trouble(refusal);
            self.alarms.insert(Alarm::Failed);
        }
        self.count_items().await?;
        let next = self.finish();
        done.map(|()| next)
    }

    /// Counts the items of segments that nobody counted yet where it holds nobody up; the log remembers.
    async fn count_items(&self) -> Answer<()> {
        let (log, from) = (self.log.clone(), self.ledger.next_segment());
        let count = move || {
            let known = log.permanent_from(from);
            known.iter().try_for_each(|known| log.items_of(known).map(drop))
        };
        Ok(blocking(count).await??)
    }

    fn begin(&mut self, now_ms: u64) {
        if now_ms.saturating_add(self.config.poll_ms) < self.now_ms {
            self.turn_back(now_ms);
        }
        self.now_ms = self.now_ms.max(now_ms);
        self.crowd.now_ms = self.now_ms;
        self.opened_ms.get_or_insert(self.now_ms);
        self.height = None;
        self.alarms.clear();
    }

    /// The clock had been ahead: nothing waits for a time that was never there.
    fn turn_back(&mut self, now_ms: u64) {
        tracing::warn!(from_ms = self.now_ms, to_ms = now_ms, "the clock went back");
        self.now_ms = now_ms;
        self.opened_ms = Some(now_ms);
        self.crowd.answered_ms = self.crowd.answered_ms.map(|then_ms| then_ms.min(now_ms));
        (self.bundle_due_ms, self.audit_due_ms, self.guests_due_ms) = (0, 0, 0);
        self.audited.clear();
        for pending in self.pending.values_mut() {
            (pending.due_ms, pending.failures) = (0, 0);
        }
    }

    /// Asks the peers for more of them, at the start and now and then.
    async fn look_around(&mut self) {
        let Some(find) = self.find.clone() else { return };
        if self.height.is_none() || self.now_ms < self.guests_due_ms || self.config.guests_max == 0 {
            return;
        }
        self.guests_due_ms = self.now_ms + self.config.guests_ms;
        for at in self.crowd.look_around(&find, self.config.guests_max).await {
            // What was noted of this place is of another peer.
            for pending in self.pending.values_mut() {
                pending.seeded.remove(&at);
                pending.temporary.remove(&at);
            }
        }
    }

    async fn work(&mut self) -> Answer<()> {
        for sequence in self.due_carriers() {
            self.tend(sequence).await?;
        }
        while self.may_bundle() && self.is_rested() {
            let Some(segment) = self.next_sealed() else { break };
            let sequence = self.ledger.next_sequence();
            self.bundle(sequence, &segment).await?;
            self.tend(sequence).await?;
        }
        self.audit().await
    }

    /// The carriers of this turn: all that are not in blocks, and so many of the others, the next ones each time.
    fn due_carriers(&mut self) -> Vec<u64> {
        let is_waiting = |carrier: &&Carrier| is_ahead(carrier) || carrier.trips.iter().any(Trip::is_unmined);
        let (waiting, mined): (Vec<&Carrier>, Vec<&Carrier>) = self.ledger.open().partition(is_waiting);
        let after = mined.partition_point(|carrier| carrier.sequence < self.tended);
        let (before, after) = mined.split_at(after);
        let next = after.iter().chain(before).take(self.config.tended_max.max(1));
        let next: Vec<u64> = next.map(|carrier| carrier.sequence).collect();
        let mut due: Vec<u64> = waiting.iter().map(|carrier| carrier.sequence).collect();
        self.tended = next.last().map_or(0, |last| last + 1);
        due.extend(next);
        due.sort_unstable();
        due
    }

    // ---- sealing and bundling ----

    /// Seals the open segment once it is worth it and nothing is ahead of it: what comes meanwhile goes along.
    async fn seal_if_due(&mut self) -> Answer<()> {
        let (Some(first), waiting) = (
            self.routes.first(),
            self.log.permanent_from(self.ledger.next_segment()),
        ) else {
            return Ok(());
        };
        let [open] = &waiting[..] else { return Ok(()) };
        let is_free = match first {
            Route::L1 => self.ledger.unsettled().all(|carrier| !is_ahead(carrier)),
            Route::Bundler(_) => self.may_bundle(),
        };
        let age_ms = match first {
            Route::L1 => self.config.seal_age_l1_ms,
            Route::Bundler(_) => self.config.seal_age_bundler_ms,
        };
        let is_old = self.now_ms >= report::created_ms(open).saturating_add(age_ms);
        let is_due = open.bytes >= self.config.seal_bytes_min || is_old;
        match is_free && is_due && !open.is_sealed {
            true => self.seal().await,
            false => Ok(()),
        }
    }

    /// Seals the open segment now.
    ///
    /// # Errors
    /// As [`Log::seal`].
    pub async fn seal(&mut self) -> Answer<()> {
        let log = self.log.clone();
        Ok(blocking(move || log.seal(Class::Permanent)).await??)
    }

    /// The oldest sealed segment that is in no carrier.
    fn next_sealed(&self) -> Option<Sealable> {
        let mut waiting = self.log.permanent_from(self.ledger.next_segment()).into_iter();
        waiting.next().filter(|known| known.is_sealed)
    }

    /// Whether another carrier may be begun: on the base layer once the ones before are in blocks, at a bundler while
    /// not too many are on their way.
    fn may_bundle(&self) -> bool {
        match self.routes.first() {
            None => false,
            Some(Route::L1) => {
                self.height.is_some() && self.ledger.unsettled().all(|carrier| !is_ahead(carrier))
            }
            Some(Route::Bundler(_)) => self.ledger.unsettled().count() < self.config.in_flight_max,
        }
    }

    /// Whether bundling is within its share of the machine, or the spool leaves no time for rests.
    fn is_rested(&self) -> bool {
        self.now_ms >= self.bundle_due_ms || self.is_spool_high()
    }

    /// Makes the bundle of a segment, for the first time or because the segment was written anew.
    async fn bundle(&mut self, sequence: u64, known: &Sealable) -> Answer<()> {
        let before = sequence
            .checked_sub(1)
            .and_then(|before| self.ledger.carrier(before));
        let chain = bundle::Chain {
            prev_segment: before.map(|before| before.segment_item),
            replaces: self.replaced(sequence)?,
        };
        let (segment, node) = (known.segment.clone(), self.node.clone());
        let place = (self.epoch, sequence);
        let made = blocking(move || bundle::make(&segment, place, chain, &node)).await?;
        let (bundled, bundle) = made?;
        tracing::info!(
            sequence,
            segment = bundled.segment,
            items = bundled.items,
            bytes = bundled.bundle_len,
            "a sealed segment is a bundle"
        );
        let len = bundled.bundle_len;
        let position = self.tell(Told::Bundled(bundled)).await?;
        self.loaded = Some(Loaded {
            note: position.number(),
            segment: known.segment.clone(),
            bundle: Arc::new(bundle),
        });
        let rest_ms = len.saturating_mul(1000) / self.config.bundle_bytes_per_s_max.max(1);
        self.bundle_due_ms = self.now_ms.saturating_add(rest_ms);
        Ok(())
    }

    /// The segment items of a carrier that is made again which later carriers name.
    fn replaced(&self, sequence: u64) -> Answer<Vec<ItemId>> {
        let Some(old) = self.ledger.carrier(sequence) else {
            return Ok(Vec::new());
        };
        let bundled = self.bundled(old)?;
        let draft = Draft::read(bundled.segment_data_item());
        let draft = draft.map_err(|error| Refusal::internal(error.to_string()))?;
        let mut replaces = draft.replaces;
        // One that was made after this one names it.
        let after = self.ledger.carrier(sequence + 1);
        if after.is_some_and(|after| after.note > old.note) {
            replaces.push(old.segment_item);
        }
        // The oldest are named by carriers only that were themselves made again since.
        let spare = replaces.len().saturating_sub(REPLACES_MAX);
        Ok(replaces.split_off(spare))
    }

    /// A carrier's bundle.
    ///
    /// # Errors
    /// [`AGAIN`] if its segment was written anew: then it was bundled again, and what was signed for the old bundle is
    /// forgotten. Of what is permanent nothing is made again.
    pub(super) async fn load(&mut self, carrier: &Carrier) -> Answer<Arc<Bundle>> {
        let known = self.log.segment(carrier.segment);
        let known = known.ok_or_else(|| Refusal::internal("a carrier's segment is gone"))?;
        let is_it = |held: &&Loaded| held.note == carrier.note && Arc::ptr_eq(&held.segment, &known.segment);
        if let Some(held) = self.loaded.as_ref().filter(is_it) {
            return Ok(held.bundle.clone());
        }
        let bundled = self.bundled(carrier)?;
        let segment = known.segment.clone();
        let loaded = blocking(move || bundle::load(&segment, &bundled)).await??;
        let sequence = carrier.sequence;
        if let Some(bundle) = loaded {
            let bundle = Arc::new(bundle);
            self.loaded = Some(Loaded {
                note: carrier.note,
                segment: known.segment,
                bundle: bundle.clone(),
            });
            return Ok(bundle);
        }
        if carrier.is_settled() {
            let text = format!("data of carrier {sequence} was withheld after it was permanent");
            return Err(Refusal::not_found("withheld", text));
        }
        self.bundle(sequence, &known).await?;
        let text = format!("data of carrier {sequence} was withheld: it is bundled again");
        tracing::warn!(sequence, "{text}");
        Err(Refusal::busy(AGAIN, text))
    }

    fn bundled(&self, carrier: &Carrier) -> Answer<Bundled> {
        match self.told(carrier.note)? {
            Told::Bundled(bundled) => Ok(bundled),
            _ => Err(Refusal::internal("a carrier's note is another one's")),
        }
    }

    /// The epoch that a carrier's bundle says, which may have been made before this one began.
    pub(super) fn epoch_of(&self, carrier: &Carrier) -> Answer<u64> {
        let bundled = self.bundled(carrier)?;
        let segment_item = bundled.own.iter().find(|item| item.id() == carrier.segment_item);
        let draft = segment_item.and_then(|item| spec::carrier::Draft::read(item).ok());
        let draft = draft.ok_or_else(|| Refusal::internal("a carrier's note lacks its segment item"))?;
        Ok(draft.epoch)
    }

    /// The note that holds a vehicle.
    pub(super) fn signed(&self, trip: &Trip) -> Answer<Signed> {
        match self.told(trip.note)? {
            Told::Signed(signed) => Ok(signed),
            _ => Err(Refusal::internal("a vehicle's note is another one's")),
        }
    }

    fn told(&self, at: u64) -> Answer<Told> {
        let at = Position::from_number(at);
        let record = self.log.read(at)?;
        let told = record.note().map(Told::read).and_then(Result::ok).flatten();
        let why = "it is none of the uploader's".into();
        Ok(told.ok_or(Error::Note { at, why })?)
    }

    // ---- routes ----

    /// Does for one carrier what is due.
    async fn tend(&mut self, sequence: u64) -> Answer<()> {
        let carrier = self.carrier(sequence);
        if self.is_due(carrier.segment_item) {
            self.set_out(&carrier).await?;
        }
        let trips = self.carrier(sequence).trips;
        for trip in trips {
            // What was done for one may have made all others void.
            let carrier = self.carrier(sequence);
            let Some(trip) = carrier.trips.iter().find(|now| now.id == trip.id) else {
                continue;
            };
            if !self.is_due(trip.id) {
                continue;
            }
            let tended = match &trip.route {
                Route::L1 => self.tend_l1(&carrier, trip).await,
                Route::Bundler(name) => self.tend_item(&carrier, trip, name).await,
            };
            self.absorb(trip.id, tended)?;
        }
        Ok(())
    }

    fn is_due(&self, id: ItemId) -> bool {
        let pending = self.pending.get(&id);
        pending.is_none_or(|pending| pending.due_ms <= self.now_ms)
    }

    /// Takes the route that a carrier should take now; after a while of no success also the ones after it.
    async fn set_out(&mut self, carrier: &Carrier) -> Answer<()> {
        let patience_ms = carrier.bundled_ms.saturating_add(self.config.patience_ms);
        if let Some(height) = self.height {
            for trip in carrier.trips.iter().filter(|trip| trip.signed_height == 0) {
                self.pending(trip.id).first_height.get_or_insert(height);
            }
        }
        for route in self.next_routes(carrier) {
            let started = match &route {
                Route::L1 => self.sign_transaction(carrier).await,
                Route::Bundler(name) => self.sign_item(carrier, name).await,
            };
            let is_signed = self.carrier(carrier.sequence).trip(&route).is_some();
            if let Err(refusal) = started {
                self.absorb(carrier.segment_item, Err(refusal))?;
            }
            if is_signed || !carrier.trips.is_empty() || self.now_ms < patience_ms {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn carrier(&self, sequence: u64) -> Carrier {
        let carrier = self.ledger.carrier(sequence);
        carrier.expect("carriers are never taken from the ledger").clone()
    }

    pub(super) fn pending(&mut self, id: ItemId) -> &mut Pending {
        self.pending.entry(id).or_default()
    }

    /// The routes that a carrier should take now, the preferred one first.
    fn next_routes(&mut self, carrier: &Carrier) -> Vec<Route> {
        let is_failing = !carrier.is_settled() && carrier.trips.iter().any(|trip| self.is_overdue(trip));
        let wanted = self.config.routes_at_once.max(1).min(self.routes.len());
        let is_open = |route: &&Route| carrier.trip(route).is_none();
        let mut next: Vec<Route> = self.routes.iter().filter(is_open).cloned().collect();
        if is_failing && next.is_empty() {
            self.alarms.insert(Alarm::Deadline);
        }
        if carrier.trips.len() >= wanted && !is_failing {
            return Vec::new();
        }
        let is_waiting = self.ledger.is_waiting_on_l1();
        // What is permanent already may still go where it was wanted, too; but no service is asked twice then.
        next.retain(|route| match route {
            Route::L1 => !is_waiting,
            Route::Bundler(_) => !carrier.is_settled(),
        });
        next
    }

    /// Whether a bundler had time enough.
    fn is_overdue(&self, trip: &Trip) -> bool {
        let pending = self.pending.get(&trip.id);
        // Signed while no peer told the height, it has its time from the first height on.
        let signed = match trip.signed_height {
            0 => pending.and_then(|pending| pending.first_height),
            height => Some(height),
        };
        let given = signed.map_or(u64::MAX, |height| {
            height.saturating_add(self.config.deadline_blocks)
        });
        let deadline = trip.deadline.unwrap_or(u64::MAX).min(given);
        let margin = self.config.deadline_margin_blocks;
        let is_past = |height: u64| {
            self.height
                .is_some_and(|now| now.saturating_add(margin) >= height)
        };
        let hollow_since = pending.and_then(|pending| pending.hollow_since);
        let is_late = match trip.is_unmined() {
            true => is_past(deadline),
            // It is in a block, so somebody had its data; how long nobody has is what this run saw.
            false => hollow_since.is_some_and(|since| {
                let last = since.saturating_add(self.config.expiry_blocks);
                is_past(deadline) && self.height.is_some_and(|now| now >= last)
            }),
        };
        // What a rebuild read back is there, though these peers do not hold it: it is not paid again.
        let is_rebuilt = trip.cost == 0 && self.service(trip.route.name()).is_err();
        trip.route != Route::L1 && is_late && !is_rebuilt
    }

    /// Whether the day's budget covers an amount.
    pub(super) fn is_in_budget(&mut self, cost: u128) -> bool {
        let left = self.budget_left();
        let is_covered = left.is_none_or(|left| cost <= left);
        if !is_covered {
            self.alarms.insert(Alarm::Budget);
        }
        is_covered
    }

    /// The time that a note written now gets: the log's times never go back, whatever the clock does.
    fn booking_ms(&self) -> u64 {
        let last = self.log.end().and_then(|end| self.log.entry(end).ok());
        last.map_or(0, |entry| entry.time_ms).max(self.now_ms)
    }

    fn budget_left(&self) -> Option<u128> {
        let today = self.ledger.spent_on_day_of(self.booking_ms());
        let budget = self.config.budget_winston_per_day?;
        Some(u128::from(budget).saturating_sub(today))
    }

    /// What went wrong upstream is noted and tried again later; only our own failures stop a turn.
    pub(super) fn absorb(&mut self, id: ItemId, done: Answer<()>) -> Answer<()> {
        let refusal = match done {
            Err(refusal) if refusal.kind == Kind::Internal => return Err(refusal),
            Err(refusal) if refusal.code == AGAIN => return Ok(()),
            Err(refusal) => refusal,
            Ok(()) => {
                self.pending.entry(id).and_modify(|pending| pending.failures = 0);
                return Ok(());
            }
        };
        self.crowd.is_in_trouble(&refusal);
        let (now_ms, first_ms, most_ms) = (self.now_ms, self.config.retry_ms, self.config.retry_ms_max);
        let pending = self.pending(id);
        let wait_ms = first_ms.saturating_mul(1 << pending.failures.min(16));
        pending.due_ms = now_ms + wait_ms.min(most_ms);
        pending.failures += 1;
        Ok(())
    }

    // ---- notes ----

    /// Makes a decision: durable, then in the ledger.
    pub(super) async fn tell(&mut self, told: Told) -> Answer<Position> {
        let sequence = match &told {
            Told::Bundled(bundled) => bundled.sequence,
            Told::Signed(signed) => signed.sequence,
            Told::Moved(moved) => moved.sequence,
            Told::Promised(promised) => promised.sequence,
        };
        let is_settled = |ledger: &Ledger| ledger.carrier(sequence).is_some_and(Carrier::is_settled);
        let before = is_settled(&self.ledger);
        let positions = self
            .log
            .append(vec![Record::Note(told.encode())], Class::Local)
            .await?;
        let [at] = positions[..] else {
            return Err(Refusal::internal("one note has one position"));
        };
        let time_ms = self.log.entry(at)?.time_ms;
        let applied = self.ledger.apply(at, time_ms, &told);
        applied.map_err(|why| Refusal::internal(format!("the uploader contradicts itself: {why}")))?;
        let after = is_settled(&self.ledger);
        if before != after {
            self.log.set_settled(self.carrier(sequence).segment, after);
        }
        self.notes += 1;
        Ok(at)
    }

    /// A vehicle got further, or was thrown back.
    pub(super) async fn move_to(
        &mut self,
        carrier: &Carrier,
        trip: &Trip,
        step: Step,
        by: String,
        mined: Option<(ItemId, u64)>,
    ) -> Answer<()> {
        let height = mined.map(|(_, height)| height).or(self.height).unwrap_or(0);
        let (sequence, route) = (carrier.sequence, trip.route.name());
        let cost = trip.cost;
        match step {
            Step::Unmined | Step::Expired | Step::Lost => {
                tracing::warn!(sequence, id = %trip.id, route, step = step.name(), height, %cost, by, "a carrier was thrown back");
            }
            _ => {
                tracing::info!(sequence, id = %trip.id, route, step = step.name(), height, %cost, by, "a carrier got further");
            }
        }
        metrics::counter!("weave_upload_steps_total", "step" => step.name()).increment(1);
        let moved = Moved {
            sequence,
            id: trip.id,
            step,
            transaction: mined.map(|(transaction, _)| transaction),
            height,
            by,
        };
        self.tell(Told::Moved(moved)).await?;
        if matches!(step, Step::Expired | Step::Permanent) {
            self.pending.remove(&trip.id);
        }
        Ok(())
    }

    // ---- telling ----

    fn finish(&mut self) -> Next {
        let waits = self.log.spool().bytes > 0;
        let since = self.crowd.answered_ms.or(self.opened_ms).unwrap_or(self.now_ms);
        if waits && self.now_ms - since >= self.config.alarm_silent_ms {
            self.alarms.insert(Alarm::Silent);
        }
        if self.is_spool_high() {
            self.alarms.insert(Alarm::Spool);
        }
        self.measure();
        let snapshot_due = self.notes >= self.config.snapshot_notes;
        if snapshot_due {
            self.save();
        }
        Next { at_ms: self.due_ms() }
    }

    fn is_spool_high(&self) -> bool {
        let spool = self.log.spool();
        spool.bytes > spool.bytes_max.unwrap_or(u64::MAX) / 100 * self.config.alarm_spool_percent
    }

    /// When something is due again.
    fn due_ms(&self) -> u64 {
        let pending = self.ledger.open().flat_map(|carrier| &carrier.trips);
        let pending = pending.filter_map(|trip| Some(self.pending.get(&trip.id)?.due_ms));
        let all = pending.chain([self.bundle_due_ms]);
        let soonest = all.filter(|due_ms| *due_ms > self.now_ms).min();
        let poll_ms = self.now_ms + self.config.poll_ms;
        let due_ms = soonest.unwrap_or(poll_ms).min(poll_ms);
        assert!(due_ms >= self.now_ms, "the next turn is not in the past");
        due_ms
    }

    fn measure(&mut self) {
        let spool = self.log.spool();
        metrics::gauge!("weave_upload_spool_bytes").set(spool.bytes as f64);
        if let Ok((mut states, oldest)) = report::tally(&self.log, &self.ledger) {
            for state in super::State::ALL {
                let count = states.of(state);
                metrics::gauge!("weave_upload_items", "state" => state.name()).set(count.items as f64);
                metrics::gauge!("weave_upload_bytes", "state" => state.name()).set(count.bytes as f64);
            }
            let age_ms = oldest.map_or(0, |oldest| self.now_ms.saturating_sub(oldest));
            metrics::gauge!("weave_upload_oldest_unsettled_seconds").set(age_ms as f64 / 1000.0);
            if age_ms >= self.config.alarm_age_ms {
                self.alarms.insert(Alarm::Late);
            }
        }
        for alarm in Alarm::ALL {
            let (is_on, was_on) = (self.alarms.contains(&alarm), self.raised.contains(&alarm));
            metrics::gauge!("weave_upload_alarm", "reason" => alarm.name()).set(f64::from(u8::from(is_on)));
            match (is_on, was_on) {
                (true, false) => tracing::error!(alarm = alarm.name(), "the upload needs a look"),
                (false, true) => tracing::info!(alarm = alarm.name(), "the upload's alarm is over"),
                _ => {}
            }
        }
        self.raised.clone_from(&self.alarms);
    }

    /// Writes the ledger to the cache. Nothing depends on it.
    pub fn save(&mut self) {
        self.notes = 0;
        let Some(folder) = &self.cache else { return };
        if let Err(error) = cache::write(&self.log, folder, &self.ledger, self.log.end()) {
            tracing::warn!(%error, "the uploader's ledger could not be kept; the next start reads the whole log");
        }
    }

    /// In a dry run: asks what it would cost.
    async fn look_ahead(&mut self) {
        match self.preview().await {
            Ok(preview) => self.preview = Some(preview),
            Err(refusal) => self.crowd.is_in_trouble(&refusal),
        }
    }

    /// What would be paid now for all that waits, by the first route. Nothing is done.
    ///
    /// # Errors
    /// If too few peers name a price, or there is no route.
    pub async fn preview(&mut self) -> Answer<Preview> {
        let route = self.routes.first().cloned();
        let route =
            route.ok_or_else(|| Refusal::invalid("no-upload-route", "no upload route is configured"))?;
        let unsigned = self.ledger.unsettled().filter(|carrier| carrier.trips.is_empty());
        let mut lens: Vec<u64> = unsigned.map(|carrier| carrier.bundle_len).collect();
        let waiting = self.log.permanent_from(self.ledger.next_segment());
        lens.extend(waiting.iter().map(|known| known.bytes));
        let mut winston = 0;
        for len in &lens {
            winston = u128::saturating_add(winston, self.price(&route, *len).await?);
        }
        Ok(Preview {
            route: route.name().into(),
            carriers: lens.len() as u64,
            bytes: lens.iter().sum(),
            winston,
            balance: self.balance(&route).await?,
            budget_left: self.budget_left(),
        })
    }

    /// The upload at a glance.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub fn report(&self) -> Answer<Report> {
        let (states, oldest) = report::tally(&self.log, &self.ledger)?;
        let spool = self.log.spool();
        Ok(Report {
            routes: self.routes.iter().map(|route| route.name().into()).collect(),
            dry_run: self.config.dry_run,
            states,
            oldest_unsettled_ms: oldest.map(|oldest| self.now_ms.saturating_sub(oldest)),
            spool_bytes: spool.bytes,
            spool_bytes_max: spool.bytes_max,
            height: self.height,
            cost: self.ledger.cost(),
            cost_today: self.ledger.spent_on_day_of(self.booking_ms()),
            budget_per_day: self.config.budget_winston_per_day,
            alarms: self.raised.iter().copied().collect(),
            last_error: self.crowd.trouble.clone(),
            preview: self.preview.clone(),
        })
    }

    /// Every carrier, the newest `most` of them, in their order.
    pub fn carriers(&self, most: usize) -> Vec<CarrierReport> {
        newest_carriers(&self.ledger, most)
    }

    /// The carriers as the notes tell them.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// Whether a carrier has yet to get into a block before the next one is signed.
fn is_ahead(carrier: &Carrier) -> bool {
    carrier.trips.is_empty() || carrier.trips.iter().all(Trip::is_unmined)
}

/// Runs what reads the disk or hashes much where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::internal(format!("a task of the uploader stopped: {error}")))
}
