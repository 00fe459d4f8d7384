//! The feed of one process: its log and its crons, evaluated in order, as deliveries to make.
//!
//! Invariant: slots come in order and none is left out. Not here: the deliveries themselves.

use std::collections::VecDeque;
use std::sync::Arc;

use spec::contract::{Answer, Content, Evaluated, LogEntry, OutcomesQuery, Position, Span};
use spec::{ItemId, Outcome, ProcessId, Refusal};

use crate::delivery::{CronPlace, Delivery, Place};
use crate::lineage::Lineage;
use crate::outbox::{self, Evaluation, Outbox, Sender};
use crate::shared::{CRONS, LOG, Shared};

/// Where a process stands, and what of its log is read ahead.
pub struct Feed {
    process: ProcessId,
    next_slot: u64,
    log: VecDeque<LogEntry>,
    last_cron: Option<Place>,
    crons: VecDeque<Evaluated>,
    wanted: u8,
    sender: Option<Arc<Sender>>,
}

/// What an evaluation asks for.
pub struct Turn {
    /// Which one. All slots before it are covered too.
    pub place: Place,
    /// What was evaluated; `None` for a cron.
    pub message: Option<ItemId>,
    /// What to deliver, and what cannot be.
    pub outbox: Outbox,
}

/// What a step of the feed gave.
pub enum Fed {
    /// An evaluation, or the last of several whose outboxes are empty.
    Turn(Turn),
    /// Nothing is new.
    CaughtUp,
    /// Another unit would not or could not.
    Failed(Refusal),
}

impl Feed {
    /// A feed that goes on where the queue's file says.
    pub fn open(shared: &Shared, process: ProcessId) -> Result<Feed, crate::Error> {
        Ok(Feed {
            process,
            next_slot: shared.queue.next_slot(process)?,
            log: VecDeque::new(),
            last_cron: shared.queue.last_cron(process)?,
            crons: VecDeque::new(),
            // Whatever it was woken for, a crash or a refusal may have left slots behind.
            wanted: LOG,
            sender: None,
        })
    }

    /// Says what to look at: [`LOG`], [`CRONS`] or both.
    pub fn want(&mut self, what: u8) {
        self.wanted |= what;
    }

    /// Whether there may be something to evaluate.
    pub fn is_hungry(&self) -> bool {
        self.wanted != 0 || !self.log.is_empty() || !self.crons.is_empty()
    }

    /// Evaluates until something is to be delivered, a page ends, or nothing is new.
    pub async fn step(&mut self, shared: &Shared) -> Fed {
        let _permit = shared.cranks.acquire().await;
        match self.try_step(shared).await {
            Ok(Some(turn)) => Fed::Turn(turn),
            Ok(None) => Fed::CaughtUp,
            Err(refusal) => Fed::Failed(refusal),
        }
    }

    async fn try_step(&mut self, shared: &Shared) -> Answer<Option<Turn>> {
        if self.log.is_empty() && self.wanted & LOG != 0 {
            self.read_log(shared).await?;
        }
        if !self.log.is_empty() {
            return self.slots(shared).await.map(Some);
        }
        if self.crons.is_empty() && self.wanted & CRONS != 0 {
            self.read_crons(shared).await?;
        }
        match self.crons.pop_front() {
            Some(evaluated) => self.cron(shared, evaluated).await.map(Some),
            None => Ok(None),
        }
    }

    async fn read_log(&mut self, shared: &Shared) -> Answer<()> {
        let size = shared.config.page_slots.max(1);
        let span = Span::Slots(self.next_slot, self.next_slot.saturating_add(size as u64 - 1));
        let page = shared.units.scheduler.log(self.process, span, size).await?;
        for (entry, slot) in page.entries.iter().zip(self.next_slot..) {
            if entry.assignment.slot != slot {
                let text = format!("the log of {} skips slot {slot}", self.process);
                return Err(Refusal::upstream("log-gap", text));
            }
        }
        if page.entries.is_empty() || (page.entries.len() < size && !page.has_next_page) {
            self.wanted &= !LOG;
        }
        self.log = page.entries.into();
        Ok(())
    }

    /// Evaluates slots of the page up to the first one that sends something.
    async fn slots(&mut self, shared: &Shared) -> Answer<Turn> {
        loop {
            let entry = self.log.front().expect("the caller saw one");
            let subject = entry.assignment.subject();
            let evaluated = shared.units.compute.result(self.process, subject).await?;
            let place = Place::slot(entry.assignment.slot);
            let outbox = self.slot(shared, &place, &evaluated.outcome).await?;
            self.log.pop_front();
            self.next_slot = place.slot + 1;
            if !outbox.deliveries.is_empty() || outbox.dropped > 0 || self.log.is_empty() {
                return Ok(Turn {
                    place,
                    message: Some(subject),
                    outbox,
                });
            }
        }
    }

    async fn slot(&mut self, shared: &Shared, place: &Place, outcome: &Arc<Outcome>) -> Answer<Outbox> {
        let entry = self.log.front().expect("the slot stays until it is evaluated");
        let subject = entry.assignment.subject();
        let boot = entry
            .item()
            .filter(|item| place.slot == 0 && item.target().is_some())
            .cloned();
        if boot.is_none() && outbox::is_empty(outcome) {
            return Ok(Outbox::default());
        }
        let cause = match &entry.content {
            Content::Item(item) => Lineage::of(item.id(), item.tags(), item.owner() == shared.signer.owner()),
            Content::Withheld(_) | Content::Elsewhere => elsewhere(shared, subject).await?,
        };
        let mut outbox = self
            .build(shared, place.clone(), Some(cause), outcome.clone())
            .await?;
        let announced: Option<Delivery> = boot.and_then(|item| outbox::announce(&item, place, &cause));
        outbox.deliveries.extend(announced);
        Ok(outbox)
    }

    /// Signs what an outcome sends, away from the async threads.
    async fn build(
        &mut self,
        shared: &Shared,
        place: Place,
        cause: Option<Lineage>,
        outcome: Arc<Outcome>,
    ) -> Answer<Outbox> {
        if outbox::is_empty(&outcome) {
            return Ok(Outbox::default());
        }
        let sender = self.sender(shared).await?;
        let (signer, config) = (shared.signer.clone(), shared.config.clone());
        let work = move || {
            let (sender, place, cause) = (&*sender, &place, cause.as_ref());
            outbox::build(
                &Evaluation {
                    sender,
                    place,
                    cause,
                    outcome: &outcome,
                },
                &signer,
                &config,
            )
        };
        let built = tokio::task::spawn_blocking(work).await;
        built.map_err(|error| Refusal::internal(format!("an outbox could not be built: {error}")))
    }

    async fn sender(&mut self, shared: &Shared) -> Answer<Arc<Sender>> {
        if let Some(sender) = &self.sender {
            return Ok(sender.clone());
        }
        let entry = shared.units.scheduler.process(self.process).await?;
        let tags = match &entry.content {
            Content::Item(item) => item.tags().to_vec(),
            Content::Withheld(withheld) => withheld.tags()?,
            Content::Elsewhere => shared.units.permanent.fetch(self.process.into()).await?.tags(),
        };
        let tag = |name| spec::tags::first(&tags, name).unwrap_or("").to_owned();
        let sender = Sender {
            process: self.process,
            module: tag("Module"),
            scheduler: tag("Scheduler"),
        };
        Ok(self.sender.insert(Arc::new(sender)).clone())
    }

    async fn read_crons(&mut self, shared: &Shared) -> Answer<()> {
        let Some(since_ms) = shared.monitors.since_ms(self.process) else {
            self.wanted &= !CRONS;
            return Ok(());
        };
        let pushed = self
            .last_cron
            .as_ref()
            .and_then(|place| Some((place.slot, place.cron.as_ref()?)));
        let from = match pushed.filter(|(_, cron)| cron.timestamp_ms > since_ms) {
            Some((slot, cron)) => Position::Evaluation {
                timestamp_ms: cron.timestamp_ms,
                slot,
                cron: Some(cron.name.clone()),
            },
            None => Position::Time(since_ms),
        };
        let limit = shared.config.cron_page;
        let query = OutcomesQuery {
            from: Some(from),
            to: None,
            limit,
            descending: false,
            failed: false,
        };
        let page = shared.units.compute.crons(self.process, query).await?;
        if page.outcomes.is_empty() || !page.has_next_page {
            self.wanted &= !CRONS;
        }
        self.crons = page.outcomes.into();
        Ok(())
    }

    async fn cron(&mut self, shared: &Shared, evaluated: Evaluated) -> Answer<Turn> {
        let name = evaluated.cron.as_deref().unwrap_or("").to_owned();
        let cron = CronPlace {
            timestamp_ms: evaluated.tick.timestamp_ms,
            name,
        };
        let place = Place {
            slot: evaluated.slot,
            cron: Some(cron),
        };
        let built = self
            .build(shared, place.clone(), None, evaluated.outcome.clone())
            .await;
        match built {
            Ok(outbox) => {
                self.last_cron = Some(place.clone());
                Ok(Turn {
                    place,
                    message: None,
                    outbox,
                })
            }
            Err(refusal) => {
                self.crons.push_front(evaluated);
                Err(refusal)
            }
        }
    }
}

/// The lineage of an item that is not in the log itself; what nobody holds is its own origin.
async fn elsewhere(shared: &Shared, id: ItemId) -> Answer<Lineage> {
    match shared.units.permanent.fetch(id).await {
        Ok(stored) => {
            let ours = stored.owner_text() == spec::SignerText::of(shared.signer.owner()).as_str();
            Ok(Lineage::of(id, &stored.tags(), ours))
        }
        Err(refusal) if refusal.is_retryable() => Err(refusal),
        Err(_) => Ok(Lineage::user(id)),
    }
}
