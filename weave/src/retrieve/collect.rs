//! Collects a whole log: every carrier from the first to the newest, several at once, each verified and kept.
//!
//! Not here: slots. The invariant: the segments answered with follow each other by `Sequence` and `Prev-Segment` from
//! the first on, without a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        }
    }
}

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
        }
    }

    /// All segments of a log in order.
    ///
    /// # Errors
    /// A carrier that is missing, cannot be had, or is wrong. What was kept stays for the next try.
    pub async fn run(&self, found: &mut Found) -> Result<Vec<Segment<I::Summary>>> {
        let newest = self.newest(found).await?;
        let mut segments = self.all_below(newest.sequence, found).await?;
        segments.push(newest);
        self.link(segments, found).await
    }

    /// The newest carrier that is there. Hints of newer ones that nothing confirms are dropped, and noted.
    async fn newest(&self, found: &mut Found) -> Result<Segment<I::Summary>> {
        loop {
            let Some((sequence, claims)) = found.claims.last_key_value() else {
                let (of, notes) = (found.of(), found.notes.clone());
                return Err(Error::Nothing { of, notes });
            };
            let (sequence, claims) = (*sequence, claims.clone());
            self.meter
                .carriers
                .store(found.claims.len() as u64, Ordering::Relaxed);
            let size = |claims: &Vec<Claim>| claims.first().map_or(0, Claim::size);
            let bytes: u64 = found.claims.values().map(size).fold(0, u64::saturating_add);
            self.meter.bytes.store(bytes, Ordering::Relaxed);
            match self.one(&found.wallets, sequence, &claims, None).await {
                Ok(segment) => return Ok(segment),
                Err(error) if claims.iter().any(Claim::is_signed) => return Err(error),
                Err(error) => {
                    let note = format!("carrier {sequence} is only heard of, and left out: {error}");
                    found.notes.push(note);
                    found.claims.remove(&sequence);
                }
            }
        }
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
        // What the wallet signed first: hints cost a liar nothing. One that stands for the one wanted does as well.
        let mut claims: Vec<&Claim> = claims.iter().collect();
        claims.sort_by_key(|claim| (!is_it(claim), !claim.is_signed()));
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
        Ok(Segment {
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
