//! A followed log on this disk: what verified, as a scheduler and a weave that a compute unit can read.
//!
//! Not here: what may be stored (`ledger`). The invariant: nothing is scheduled here, and the log's order is the
//! ledger's.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use spec::contract::{
    Answer, Class, Content, Field, Hits, LogEntry, LogPage, Permanent, Query, Scheduled, Scheduler, Span,
    Stored, TagFilter, Tick,
};
use spec::{Address, Assignment, DataItem, ItemId, Kind, ProcessId, Refusal, carrier, resume, succession};
use weave::Weave;
use weave::network::Peer;

use super::gather;

/// Cursors of what is beside begin so.
const BESIDE: &str = "beside:";
/// Assignments read at once when a folder is opened again.
const PAGE: usize = 1_000;

/// A slot's two items, by their ids.
#[derive(Debug, Clone, Copy)]
struct Slot {
    assignment: ItemId,
    /// The message, or the wrapper that stands for it.
    content: ItemId,
    timestamp_ms: u64,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    /// By the ids of messages and assignments.
    by_id: HashMap<ItemId, usize>,
}

/// A log that is followed.
pub struct Store {
    process: ProcessId,
    weave: Arc<Weave>,
    /// Where new things go; the same one, or another where that is only read.
    beside: Arc<Weave>,
    peers: Vec<Peer>,
    slots: RwLock<Slots>,
}

fn read_only() -> Refusal {
    Refusal::invalid(
        "read-only",
        "this log is followed; only its scheduler gives slots in it",
    )
}

impl Store {
    /// In a folder's weave; what it lacks is asked for at these gateways, and goes `beside`.
    pub fn new(process: ProcessId, weave: Arc<Weave>, beside: Arc<Weave>, peers: Vec<Peer>) -> Store {
        Store {
            process,
            weave,
            beside,
            peers,
            slots: RwLock::default(),
        }
    }

    /// The assignments of these signers that are on this disk, in the order of their slots.
    pub async fn held(&self, signers: &[Address]) -> Answer<Vec<Assignment>> {
        let process = self.process.to_string();
        let items = self
            .own(signers, &[("Process", &process), ("Type", "Assignment")])
            .await?;
        let read = |item| Assignment::read(item).ok();
        let mut held: Vec<Assignment> = items.into_iter().filter_map(read).collect();
        held.sort_by_key(|assignment| assignment.slot);
        Ok(held)
    }

    /// The first of these accounts by whose signature the log begins on this disk.
    pub async fn begun_by(&self, accounts: impl Iterator<Item = Address>) -> Answer<Option<Address>> {
        let process = self.process.to_string();
        let tags = [("Process", &*process), ("Type", "Assignment"), ("Nonce", "0")];
        for account in accounts {
            if !self.own(&[account], &tags).await?.is_empty() {
                return Ok(Some(account));
            }
        }
        Ok(None)
    }

    /// What a scheduler's key says of itself, by items on this disk.
    pub async fn words(&self, signer: Address) -> Answer<Vec<DataItem>> {
        let mut words = Vec::new();
        for kind in [succession::TYPE, resume::TYPE] {
            let tags = [("Data-Protocol", carrier::PROTOCOL), ("Type", kind)];
            words.extend(self.own(&[signer], &tags).await?);
        }
        Ok(words)
    }

    /// Items on this disk by their signers and tags, oldest first.
    async fn own(&self, signers: &[Address], tags: &[(&str, &str)]) -> Answer<Vec<DataItem>> {
        let filter = |(name, value): &(&str, &str)| TagFilter {
            name: (*name).into(),
            values: vec![(*value).into()],
        };
        let mut query = Query {
            owners: signers.to_vec(),
            tags: tags.iter().map(filter).collect(),
            ascending: true,
            first: PAGE,
            ..Query::default()
        };
        let mut items = Vec::new();
        loop {
            let page = self.find(query.clone()).await?;
            query.after = page.hits.last().map(|hit| hit.cursor.clone());
            items.extend(page.hits.iter().filter_map(|hit| hit.stored.item().cloned()));
            if !page.has_next_page {
                return Ok(items);
            }
        }
    }

    /// An item from this disk.
    pub async fn item(&self, id: ItemId) -> Answer<Option<DataItem>> {
        let found = match self.weave.lookup(id).await? {
            None if self.is_apart() => self.beside.lookup(id).await?,
            found => found,
        };
        Ok(found.and_then(|found| found.stored.item().cloned()))
    }

    fn is_apart(&self) -> bool {
        !Arc::ptr_eq(&self.weave, &self.beside)
    }

    /// Keeps verified items that are not held yet.
    pub async fn keep(&self, items: Vec<DataItem>) -> Answer<()> {
        let mut new = Vec::new();
        for item in items {
            if self.item(item.id()).await?.is_none() {
                new.push(item);
            }
        }
        match new.is_empty() {
            true => Ok(()),
            false => self.beside.append(new, Class::Local).await,
        }
    }

    /// A page of what is beside, from where its cursor says.
    async fn find_beside(&self, mut query: Query) -> Answer<Hits> {
        query.after = query
            .after
            .and_then(|after| after.strip_prefix(BESIDE).map(str::to_owned));
        let mut page = self.beside.find(query).await?;
        for hit in &mut page.hits {
            hit.cursor.insert_str(0, BESIDE);
        }
        Ok(page)
    }

    /// Makes the next slot durable, then visible.
    pub async fn put(&self, assignment: &Assignment, content: &DataItem) -> Answer<()> {
        self.keep(vec![content.clone(), assignment.item.clone()]).await?;
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let at = slots.all.len();
        assert_eq!(at as u64, assignment.slot, "slots are put in order");
        slots.all.push(Slot {
            assignment: assignment.item.id(),
            content: content.id(),
            timestamp_ms: assignment.tick.timestamp_ms,
        });
        for id in [assignment.item.id(), assignment.subject()] {
            slots.by_id.insert(id, at);
        }
        Ok(())
    }

    /// What stands at a slot that was taken.
    pub async fn slot(&self, slot: u64) -> Answer<LogEntry> {
        let row = self.slots(|slots| {
            usize::try_from(slot)
                .ok()
                .and_then(|slot| slots.all.get(slot).copied())
        });
        let row =
            row.ok_or_else(|| Refusal::not_found("not-found", format!("slot {slot} was not taken yet")))?;
        self.entry(row).await
    }

    /// Writes what is unwritten.
    pub async fn close(&self) {
        self.weave.close().await;
        self.beside.close().await;
    }

    fn slots<T>(&self, read: impl FnOnce(&Slots) -> T) -> T {
        read(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn check(&self, process: ProcessId) -> Answer<()> {
        match process == self.process {
            true => Ok(()),
            false => Err(Refusal::not_found(
                "unknown-process",
                format!("{process} is not followed here"),
            )),
        }
    }

    async fn entry(&self, slot: Slot) -> Answer<LogEntry> {
        let lost = |id| Refusal::internal(format!("item {id} was stored and is not here"));
        let assignment = self.item(slot.assignment).await?;
        let assignment = assignment.ok_or_else(|| lost(slot.assignment))?;
        let assignment =
            Assignment::read(assignment).map_err(|error| Refusal::internal(error.to_string()))?;
        let item = self.item(slot.content).await?.ok_or_else(|| lost(slot.content))?;
        let content = match item.id() == assignment.subject() {
            true => Content::Item(item),
            false => {
                let withheld = carrier::unwrap(&item);
                Content::Withheld(withheld.map_err(|error| Refusal::internal(error.to_string()))?)
            }
        };
        Ok(LogEntry { assignment, content })
    }

    fn range(&self, span: Span) -> (usize, usize) {
        self.slots(|slots| {
            let all = &slots.all;
            let within = |slot: u64| usize::try_from(slot).unwrap_or(usize::MAX).min(all.len());
            match span {
                Span::Slots(from, to) => (within(from), within(to.saturating_add(1))),
                Span::Times(from, to) => (
                    from.map_or(0, |from| all.partition_point(|slot| slot.timestamp_ms <= from)),
                    all.partition_point(|slot| slot.timestamp_ms <= to),
                ),
            }
        })
    }
}

#[async_trait]
impl Scheduler for Store {
    async fn schedule(&self, _item: DataItem) -> Answer<Scheduled> {
        Err(read_only())
    }

    async fn assign(&self, _: ProcessId, _: ItemId, _: bool, _: Vec<Field>) -> Answer<Scheduled> {
        Err(read_only())
    }

    async fn log(&self, process: ProcessId, span: Span, limit: usize) -> Answer<LogPage> {
        self.check(process)?;
        let (from, to) = self.range(span);
        let end = to.min(from.saturating_add(limit.max(1))).max(from);
        let mut entries = Vec::with_capacity(end - from);
        for at in from..end {
            entries.push(self.entry(self.slots(|slots| slots.all[at])).await?);
        }
        Ok(LogPage {
            entries,
            has_next_page: end < to,
        })
    }

    async fn message(&self, process: ProcessId, id: ItemId) -> Answer<LogEntry> {
        self.check(process)?;
        let slot = self.slots(|slots| slots.by_id.get(&id).map(|at| slots.all[*at]));
        let slot = slot.ok_or_else(|| Refusal::not_found("not-found", format!("{id} has no slot here")))?;
        self.entry(slot).await
    }

    async fn latest(&self, process: ProcessId) -> Answer<LogEntry> {
        self.check(process)?;
        let last = self.slots(|slots| slots.all.last().copied());
        let last = last.ok_or_else(|| Refusal::not_found("not-found", "the log has no slot yet"))?;
        self.entry(last).await
    }

    async fn process(&self, id: ProcessId) -> Answer<LogEntry> {
        self.check(id)?;
        let first = self.slots(|slots| slots.all.first().copied());
        let first = first.ok_or_else(|| Refusal::not_found("not-found", "the log has no slot yet"))?;
        self.entry(first).await
    }

    /// The newest moment that the log tells of: what comes after it, only its scheduler knows.
    async fn tick(&self) -> Answer<Tick> {
        Ok(self.latest(self.process).await?.assignment.tick)
    }
}

#[async_trait]
impl Permanent for Store {
    async fn append(&self, items: Vec<DataItem>, class: Class) -> Answer<()> {
        self.beside.append(items, class).await
    }

    /// From this disk, or else from the first gateway that has it: then it is kept.
    async fn fetch(&self, id: ItemId) -> Answer<Stored> {
        let mut here = self.weave.fetch(id).await;
        if here.is_err() && self.is_apart() {
            here = self.beside.fetch(id).await;
        }
        if here.is_ok() || self.peers.is_empty() {
            return here;
        }
        let mut failed = None;
        for peer in &self.peers {
            match gather::item(peer, id).await {
                Ok(item) => {
                    self.beside.append(vec![item.clone()], Class::Local).await?;
                    return Ok(Stored::Item(item));
                }
                Err(refusal) => {
                    tracing::info!(peer = peer.name(), %refusal, "an item is not to be had here");
                    failed = Some(refusal)
                        .filter(|refusal| refusal.kind != Kind::NotFound)
                        .or(failed);
                }
            }
        }
        // That a gateway could not be asked says nothing about what there is.
        match failed {
            Some(refusal) => Err(refusal),
            None => here,
        }
    }

    /// What is here, then what is beside.
    async fn find(&self, query: Query) -> Answer<Hits> {
        if !self.is_apart() {
            return self.weave.find(query).await;
        }
        if query
            .after
            .as_ref()
            .is_some_and(|after| after.starts_with(BESIDE))
        {
            return self.find_beside(query).await;
        }
        let mut page = self.weave.find(query.clone()).await?;
        if page.has_next_page {
            return Ok(page);
        }
        let room = query.first.saturating_sub(page.hits.len());
        let rest = Query {
            after: None,
            first: room.max(1),
            ..query
        };
        let more = self.find_beside(rest).await?;
        page.has_next_page = more.has_next_page || (room == 0 && !more.hits.is_empty());
        page.hits.extend(more.hits.into_iter().take(room));
        Ok(page)
    }
}
