//! Collects a whole log: every carrier from the first to the newest, several at once, each verified and kept.
//!
//! Not here: slots. The invariant: the segments answered with follow each other by `Sequence` and `Prev-Segment` from
//! the first on, without a gap.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spec::signature::address;
use spec::verifier::Verifier;
use spec::{Address, ItemId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::find::{Claim, Found};
use super::source::Sources;
use super::staging::Staging;
use super::{Checked, Error, Result, check, fetch};

/// Looks at each segment's records beside what was verified already. It may be asked on several threads, in any order,
/// and about one sequence more than once; the last answer counts.
pub trait Inspector: Send + Sync + 'static {
    /// What is known of a segment once it was looked at.
    type Summary: Send + 'static;

    /// Looks at a segment.
    ///
    /// # Errors
    /// What is wrong, with the item and where it is: the carrier is then refused.
    fn inspect(&self, segment: &Checked) -> std::result::Result<Self::Summary, String>;
}

/// How far a rebuild is. Read it from anywhere.
#[derive(Debug, Default)]
pub struct Meter {
    /// Carriers there are.
    pub carriers: AtomicU64,
    /// Carriers verified and kept.
    pub carriers_done: AtomicU64,
    /// Bytes of their bundles, by their headers' words.
    pub bytes: AtomicU64,
    /// Bytes verified and kept.
    pub bytes_done: AtomicU64,
    /// Items verified.
    pub items: AtomicU64,
}

/// One segment of the log.
#[derive(Debug, Clone)]
pub struct Segment<S> {
    /// The scheduler's epoch as it was bundled.
    pub epoch: u64,
    /// How many of its items were withheld.
    withheld: usize,
    /// Its carrier's place.
    pub sequence: u64,
    /// The transaction or item that brought it.
    pub carrier: ItemId,
    /// Its segment item.
    pub segment_item: ItemId,
    /// The one before it.
    pub prev_segment: Option<ItemId>,
    /// Segment items of its place that it stands for, too.
    pub replaces: Vec<ItemId>,
    /// Its number in the log.
    pub number: u64,
    /// The public key that signed it: the node's.
    pub owner: bytes::Bytes,
    /// What the inspector said.
    pub summary: S,
}

impl<S> Segment<S> {
    /// Whether it is what a later one names as the one before it.
    fn stands_for(&self, wanted: Option<ItemId>) -> bool {
        let is_it = |wanted: ItemId| wanted == self.segment_item || self.replaces.contains(&wanted);
        wanted.is_some_and(is_it)
    }
}

/// What collects. Cloning shares everything.
pub struct Collector<I> {
    sources: Sources,
    staging: Arc<Staging>,
    inspector: Arc<I>,
    verifier: Arc<Verifier>,
    meter: Arc<Meter>,
    memory: Arc<Semaphore>,
    scheduler: Option<Address>,
}

impl<I> Clone for Collector<I> {
    fn clone(&self) -> Self {
        Collector {
            sources: self.sources.clone(),
            staging: self.staging.clone(),
            inspector: self.inspector.clone(),
            verifier: self.verifier.clone(),
            meter: self.meter.clone(),
            memory: self.memory.clone(),
            scheduler: self.scheduler,
        }
    }
}

/// Most epochs that another node's carriers are looked for in.
const EPOCHS_MAX: usize = 16;

/// Memory is counted in steps of this many bytes.
const STEP: u64 = 64 << 10;

impl<I: Inspector> Collector<I> {
    /// Collects from `sources` into `staging`.
    pub fn new(sources: Sources, staging: Arc<Staging>, inspector: I, meter: Arc<Meter>) -> Collector<I> {
        let steps = usize::try_from(sources.limits().in_flight_bytes_max / STEP).unwrap_or(usize::MAX);
        Collector {
            sources,
            staging,
            inspector: Arc::new(inspector),
            verifier: Arc::default(),
            meter,
            memory: Arc::new(Semaphore::new(steps.clamp(1, Semaphore::MAX_PERMITS))),
            scheduler: None,
        }
    }

    /// Of several nodes that posted by one wallet, the one whose newest segment this account signed.
    pub fn of_scheduler(mut self, scheduler: Option<Address>) -> Collector<I> {
        self.scheduler = scheduler;
        self
    }

    /// All segments of a log in order.
    ///
    /// # Errors
    /// A carrier that is missing, cannot be had, or is wrong. What was kept stays for the next try.
    pub async fn run(&self, found: &mut Found) -> Result<Vec<Segment<I::Summary>>> {
        let all: Vec<Claim> = found.claims.values().flatten().cloned().collect();
        let newest = self.newest(found).await?;
        let mut segments = self.all_below(newest.sequence, found).await?;
        segments.push(newest);
        let segments = self.link(segments, found).await?;
        if self.scheduler.is_none() {
            self.must_be_one_nodes(&segments, &all, &found.wallets).await?;
        }
        Ok(segments)
    }

    /// Refuses what leaves another node's log out without a word. Of each epoch the last carrier that is not in the log
    /// is looked at: an earlier epoch of the same node may have gone further, and that one is given up.
    async fn must_be_one_nodes(
        &self,
        segments: &[Segment<I::Summary>],
        all: &[Claim],
        wallets: &[Address],
    ) -> Result<()> {
        let log: HashSet<ItemId> = segments
            .iter()
            .flat_map(|one| one.replaces.iter().chain([&one.segment_item]))
            .copied()
            .collect();
        let mut last: BTreeMap<u64, &Claim> = BTreeMap::new();
        for claim in all.iter().filter(|claim| !log.contains(&claim.tags.segment_item)) {
            let known = last.entry(claim.tags.epoch).or_insert(claim);
            if known.tags.sequence < claim.tags.sequence {
                *known = claim;
            }
        }
        let newest = segments.last().expect("a log has a segment");
        for claim in last.into_values().rev().take(EPOCHS_MAX) {
            // What cannot be had, or is wrong, is nobody's log.
            let Ok(owner) = self.owner(wallets, claim).await else {
                continue;
            };
            if segments.iter().all(|one| one.owner != owner) {
                return Err(Error::TwoNodes {
                    ours: address(&newest.owner),
                    other: address(&owner),
                    sequence: claim.tags.sequence,
                    id: claim.id,
                });
            }
        }
        Ok(())
    }

    /// Who signed a carrier's segment; nothing is kept.
    async fn owner(&self, wallets: &[Address], claim: &Claim) -> Result<bytes::Bytes> {
        let bundle = fetch::bundle(&self.sources, wallets, claim).await?;
        let (this, one) = (self.clone(), claim.clone());
        let checked = tokio::task::spawn_blocking(move || {
            check::check(&one, &bundle, &this.verifier).map_err(|why| wrong(&one, why))
        });
        let checked = checked.await.map_err(stopped)??;
        Ok(bytes::Bytes::copy_from_slice(checked.segment_item.owner()))
    }

    /// The newest carrier: of the latest epoch the last. One that was had and is wrong, and that only gateways told of,
    /// is left out and noted; one that is not to be had may have brought what was acknowledged.
    async fn newest(&self, found: &mut Found) -> Result<Segment<I::Summary>> {
        loop {
            let Some(top) = found.newest() else {
                let (of, notes) = (found.of(), found.notes.clone());
                return Err(Error::Nothing { of, notes });
            };
            let claims = found.at(top);
            self.expect(found);
            let error = match self.only(found, &claims).await {
                Ok(segment) if self.is_its(&segment) => {
                    drop_abandoned(found, top.1);
                    return Ok(segment);
                }
                Ok(_) => {
                    found.drop_claims(|claim| (claim.tags.epoch, claim.tags.sequence) == top);
                    continue;
                }
                Err(error) => error,
            };
            let is_wrong = matches!(error, Error::Wrong { .. });
            if claims.iter().any(Claim::is_signed) || matches!(error, Error::Weave(_)) {
                return Err(error);
            }
            if !is_wrong && !self.is_forged(found, &claims).await {
                let (sequence, id, why) = (top.1, claims[0].id, Box::new(error));
                return Err(Error::Late { sequence, id, why });
            }
            found.note(format!("carrier {} is left out: {error}", top.1));
            let out = found.drop_claims(|claim| (claim.tags.epoch, claim.tags.sequence) == top);
            found.left_out.extend(out.into_iter().filter(|_| is_wrong));
        }
    }

    /// Whether a newest segment is of the log that is wanted.
    fn is_its(&self, newest: &Segment<I::Summary>) -> bool {
        self.scheduler
            .is_none_or(|wanted| address(&newest.owner) == wanted)
    }

    /// Tells the meter what is ahead.
    fn expect(&self, found: &Found) {
        let size = |claims: &Vec<Claim>| claims.first().map_or(0, Claim::size);
        let bytes: u64 = found.claims.values().map(size).fold(0, u64::saturating_add);
        let carriers = found.claims.len() as u64;
        self.meter.carriers.store(carriers, Ordering::Relaxed);
        self.meter.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The one segment of some claims to one place. A segment that was bundled again, for data in it was withheld, counts
    /// as it is now; two different ones are two nodes at one wallet.
    async fn only(&self, found: &Found, claims: &[Claim]) -> Result<Segment<I::Summary>> {
        let mut items: Vec<ItemId> = claims.iter().map(|claim| claim.tags.segment_item).collect();
        items.sort_unstable();
        items.dedup();
        let sequence = claims[0].tags.sequence;
        let (mut best, mut first): (Option<Segment<I::Summary>>, _) = (None, None);
        for item in items {
            match self.one(&found.wallets, sequence, claims, Some(item)).await {
                Ok(other) => {
                    best = Some(match best {
                        Some(one) if self.is_its(&one) && self.is_its(&other) => choose(one, other)?,
                        Some(one) if self.is_its(&one) => one,
                        _ => other,
                    });
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        best.ok_or_else(|| first.expect("somebody claims it"))
    }

    /// Whether all of some claims are lies about items that are something else: under other tags they verify.
    async fn is_forged(&self, found: &Found, claims: &[Claim]) -> bool {
        for claim in claims {
            let others = found.claims.values().flatten();
            let others = others.filter(|other| other.id == claim.id && other.tags != claim.tags);
            let mut is_forged = false;
            for other in others {
                is_forged = is_forged || self.claim(&found.wallets, other).await.is_ok();
            }
            if !is_forged {
                return false;
            }
        }
        true
    }

    async fn all_below(&self, newest: u64, found: &Found) -> Result<Vec<Segment<I::Summary>>> {
        let known = found.claims.range(..newest);
        let gap = (0..newest).zip(known.map(|(sequence, _)| *sequence));
        let first_gap = gap.clone().find(|(expected, there)| expected != there);
        let count = found.claims.range(..newest).count() as u64;
        if let Some((sequence, _)) = first_gap.or((count < newest).then_some((count, 0))) {
            let (known, notes) = (found.claims.len(), found.notes.clone());
            return Err(Error::Missing {
                sequence,
                known,
                notes,
            });
        }
        let mut tasks = JoinSet::new();
        let mut segments = Vec::new();
        let mut waiting = found.claims.range(..newest);
        loop {
            while tasks.len() < self.sources.limits().parallel.max(1)
                && let Some((sequence, claims)) = waiting.next()
            {
                let (this, wallets) = (self.clone(), found.wallets.clone());
                let (sequence, claims) = (*sequence, claims.clone());
                tasks.spawn(async move { this.one(&wallets, sequence, &claims, None).await });
            }
            let Some(done) = tasks.join_next().await else {
                break;
            };
            segments.push(done.map_err(stopped)??);
        }
        segments.sort_by_key(|segment| segment.sequence);
        Ok(segments)
    }

    /// Holds every segment against what the one after it names. Where two carriers claim one place, the chain from the
    /// newest one decides.
    async fn link(
        &self,
        mut segments: Vec<Segment<I::Summary>>,
        found: &Found,
    ) -> Result<Vec<Segment<I::Summary>>> {
        for at in (1..segments.len()).rev() {
            let (wanted, after) = (segments[at].prev_segment, segments[at].carrier);
            if !segments[at - 1].stands_for(wanted) {
                let sequence = segments[at - 1].sequence;
                let claims = &found.claims[&sequence];
                segments[at - 1] =
                    self.one(&found.wallets, sequence, claims, wanted)
                        .await
                        .map_err(|error| {
                            let why =
                                format!("the segment item before it, {wanted:?}, is not to be had: {error}");
                            Error::Wrong {
                                sequence: sequence + 1,
                                id: after,
                                why,
                            }
                        })?;
            }
            if segments[at - 1].number >= segments[at].number {
                let why = format!(
                    "it brings segment {:08}, the carrier before it {:08}",
                    segments[at].number,
                    segments[at - 1].number
                );
                let sequence = segments[at].sequence;
                return Err(Error::Wrong {
                    sequence,
                    id: after,
                    why,
                });
            }
        }
        for segment in &mut segments {
            if !self.staging.holds(segment.segment_item) {
                let claims = &found.claims[&segment.sequence];
                let wanted = Some(segment.segment_item);
                *segment = self.one(&found.wallets, segment.sequence, claims, wanted).await?;
            }
        }
        let in_order = |pair: &[Segment<I::Summary>]| pair[0].sequence + 1 == pair[1].sequence;
        assert!(segments.windows(2).all(in_order), "sequences have no gap");
        Ok(segments)
    }

    /// One carrier: from what was kept, or by the first of its claims that holds.
    async fn one(
        &self,
        wallets: &[Address],
        sequence: u64,
        claims: &[Claim],
        wanted: Option<ItemId>,
    ) -> Result<Segment<I::Summary>> {
        let mut first = None;
        let is_it = |claim: &Claim| wanted.is_none_or(|wanted| claim.tags.segment_item == wanted);
        // What the wallet signed first: hints cost a liar nothing. Then what the latest epoch carried. One that stands
        // for the one wanted does as well.
        let mut claims: Vec<&Claim> = claims.iter().collect();
        claims.sort_by_key(|claim| {
            (
                !is_it(claim),
                !claim.is_signed(),
                std::cmp::Reverse(claim.tags.epoch),
            )
        });
        for claim in claims {
            match self.claim(wallets, claim).await {
                Ok(segment) if wanted.is_none() || segment.stands_for(wanted) => return Ok(segment),
                Ok(_) => {}
                // The wallet signed something wrong, or our disk fails: another claim may still hold.
                Err(error) => first = first.or(Some(error)),
            }
        }
        let known = self.meter.carriers.load(Ordering::Relaxed) as usize;
        let notes = Vec::new();
        Err(first.unwrap_or(Error::Missing {
            sequence,
            known,
            notes,
        }))
    }

    async fn claim(&self, wallets: &[Address], claim: &Claim) -> Result<Segment<I::Summary>> {
        let (this, one) = (self.clone(), claim.clone());
        let kept = tokio::task::spawn_blocking(move || this.kept(&one))
            .await
            .map_err(stopped)??;
        if let Some(segment) = kept {
            self.count(claim);
            return Ok(segment);
        }
        let all = self.sources.limits().in_flight_bytes_max / STEP;
        let steps = (claim.size() / STEP + 1).min(all).max(1) as u32;
        let permit = self.memory.acquire_many(steps).await;
        let _permit = permit.map_err(|_| super::Error::from(crate::Error::Closed))?;
        let bundle = fetch::bundle(&self.sources, wallets, claim).await?;
        let height = fetch::height(&self.sources, claim).await;
        let (this, one) = (self.clone(), claim.clone());
        let new = tokio::task::spawn_blocking(move || this.new_one(&one, &bundle, height));
        let segment = new.await.map_err(stopped)??;
        self.count(claim);
        Ok(segment)
    }

    fn count(&self, claim: &Claim) {
        self.meter.carriers_done.fetch_add(1, Ordering::Relaxed);
        self.meter.bytes_done.fetch_add(claim.size(), Ordering::Relaxed);
    }

    fn kept(&self, claim: &Claim) -> Result<Option<Segment<I::Summary>>> {
        let Some(checked) = self.staging.read(claim.tags.segment_item)? else {
            return Ok(None);
        };
        // Its carrier's header is looked at anew; the file and its items were verified before they were kept.
        self.segment(claim, &checked).map(Some)
    }

    fn new_one(&self, claim: &Claim, bundle: &bytes::Bytes, height: u64) -> Result<Segment<I::Summary>> {
        let checked = check::check(claim, bundle, &self.verifier).map_err(|why| wrong(claim, why))?;
        let segment = self.segment(claim, &checked)?;
        self.meter
            .items
            .fetch_add(checked.records.len() as u64, Ordering::Relaxed);
        let notes = claim.notes(&checked, bundle, height);
        self.staging.keep(&checked, &notes)?;
        Ok(segment)
    }

    fn segment(&self, claim: &Claim, checked: &Checked) -> Result<Segment<I::Summary>> {
        if checked.segment.sequence != claim.tags.sequence {
            return Err(wrong(claim, "its segment item is of another place".into()));
        }
        let summary = self.inspector.inspect(checked).map_err(|why| wrong(claim, why))?;
        let is_withheld = |record: &&crate::Record| record.id().is_some() && record.item().is_none();
        Ok(Segment {
            epoch: checked.segment.epoch,
            withheld: checked.records.iter().filter(is_withheld).count(),
            sequence: checked.segment.sequence,
            carrier: claim.id,
            segment_item: checked.segment_item.id(),
            prev_segment: checked.segment.prev_segment,
            replaces: checked.segment.replaces.clone(),
            number: checked.segment.segment,
            owner: bytes::Bytes::copy_from_slice(checked.segment_item.owner()),
            summary,
        })
    }
}

/// What an earlier epoch carried beyond the newest carrier's place was given up when the later one began.
fn drop_abandoned(found: &mut Found, newest: u64) {
    let Some(after) = newest.checked_add(1) else {
        return;
    };
    let abandoned = found.claims.split_off(&after);
    if let Some((last, _)) = abandoned.last_key_value() {
        found.note(format!(
            "carriers {after} to {last} are of an epoch before the newest one's: the scheduler went on without them"
        ));
    }
}

/// Of two segments at one place, the later version of one; else neither.
fn choose<S>(one: Segment<S>, other: Segment<S>) -> Result<Segment<S>> {
    if one.number != other.number || one.owner != other.owner {
        let why = format!(
            "{} brings another segment for the same place, under the same epoch: two nodes used one wallet. Remedy: name one of \
             them with --scheduler, or --leave-out the one that does not count",
            other.carrier
        );
        let (sequence, id) = (one.sequence, one.carrier);
        return Err(Error::Wrong { sequence, id, why });
    }
    Ok(if one.withheld >= other.withheld {
        one
    } else {
        other
    })
}

fn wrong(claim: &Claim, why: String) -> Error {
    Error::Wrong {
        sequence: claim.tags.sequence,
        id: claim.id,
        why,
    }
}

fn stopped(error: tokio::task::JoinError) -> Error {
    crate::Error::Index(format!("a task of the rebuild stopped: {error}").into()).into()
}
