//! The four contracts between units, on one page.
//!
//! Each has two carriers: the unit itself, called in process, and the `wire` client over HTTP.
//! Callers cannot tell them apart but by speed. Not here: anything a unit keeps to itself.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::assignment::Assignment;
use crate::ids::{Address, ItemId, ProcessId};
use crate::item::DataItem;
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::tags::Tags;
use crate::transaction::Transaction;
use crate::withheld::Withheld;

/// Every answer across a contract.
pub type Answer<T> = Result<T, Refusal>;

/// Time and block height, as the scheduler hands them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick {
    /// Milliseconds since 1970; strictly increasing within a process.
    pub timestamp_ms: u64,
    /// Height of the chain; never decreasing.
    pub block_height: u64,
}

/// A field of a message that an assignment can hide from the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The data.
    Data,
    /// The tags.
    Tags,
    /// The signature.
    Signature,
    /// The anchor.
    Anchor,
}

impl Field {
    /// All of them.
    pub const ALL: [Field; 4] = [Field::Data, Field::Tags, Field::Signature, Field::Anchor];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Data => "Data",
            Field::Tags => "Tags",
            Field::Signature => "Signature",
            Field::Anchor => "Anchor",
        }
    }

    /// Reads a name of the wire, in any case.
    pub fn parse(name: &str) -> Option<Field> {
        Field::ALL
            .into_iter()
            .find(|field| field.name().eq_ignore_ascii_case(name))
    }

    /// Reads a comma list, as `exclude=` carries it; empty parts are skipped.
    ///
    /// # Errors
    /// Names the part that is no field.
    pub fn parse_list(list: &str) -> Answer<Vec<Field>> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let parse = |name: &str| {
            let text = format!("`{name}` cannot be excluded; Data, Tags, Signature and Anchor can");
            Field::parse(name).ok_or_else(|| Refusal::invalid("invalid-exclude", text))
        };
        names.map(parse).collect()
    }
}

/// Whether an item is meant for the public weave or for this machine only; fixed at spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Never uploaded.
    Local,
    /// Uploaded when an upload route is configured.
    Permanent,
}

// ---- Permanent: the weave ----

/// Something the weave holds under an id.
#[derive(Debug, Clone)]
pub enum Stored {
    /// A signed item, whole.
    Item(DataItem),
    /// A signed item without its data.
    Withheld(Withheld),
    /// Bytes that somebody registered under a published id; the id proves nothing about them.
    Registered(Arc<Registered>),
    /// A transaction of the base layer that was posted to this node.
    Posted(Arc<Posted>),
}

/// A base-layer transaction; its signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Its header.
    pub transaction: Transaction,
    /// Its data; `None` as long as chunks are missing.
    pub data: Option<Bytes>,
}

/// Bytes held under an id on an operator's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The published id.
    pub id: ItemId,
    /// Who registered them.
    pub by: Address,
    /// The tags they are served with.
    pub tags: Tags,
    /// The bytes.
    pub data: Bytes,
}

impl Stored {
    /// The id.
    pub fn id(&self) -> ItemId {
        match self {
            Stored::Item(item) => item.id(),
            Stored::Withheld(withheld) => withheld.id(),
            Stored::Registered(registered) => registered.id,
            Stored::Posted(posted) => posted.transaction.id,
        }
    }

    /// The tags, in order.
    pub fn tags(&self) -> Tags {
        match self {
            Stored::Item(item) => item.tags().to_vec(),
            Stored::Withheld(withheld) => withheld.tags().unwrap_or_default(),
            Stored::Registered(registered) => registered.tags.clone(),
            Stored::Posted(posted) => posted.transaction.content.tags.clone(),
        }
    }

    /// The data, unless it was withheld or has not come yet.
    pub fn data(&self) -> Option<Bytes> {
        match self {
            Stored::Item(item) => Some(item.data()),
            Stored::Withheld(_) => None,
            Stored::Registered(registered) => Some(registered.data.clone()),
            Stored::Posted(posted) => posted.data.clone(),
        }
    }

    /// The signed item, if it is one and whole.
    pub fn item(&self) -> Option<&DataItem> {
        match self {
            Stored::Item(item) => Some(item),
            _ => None,
        }
    }

    /// The account as a process sees it.
    pub fn owner_text(&self) -> String {
        match self {
            Stored::Item(item) => item.signer_text().into(),
            Stored::Withheld(withheld) => withheld.owner_text(),
            Stored::Registered(registered) => registered.by.to_string(),
            Stored::Posted(posted) => posted.transaction.owner.address().to_string(),
        }
    }
}

/// One tag condition: the name's value is one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter {
    /// Exact name.
    pub name: String,
    /// Any of these values.
    pub values: Vec<String>,
}

/// What to look for. All conditions hold at once; empty lists ask nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Any of these ids.
    pub ids: Vec<ItemId>,
    /// Signed by any of these accounts.
    pub owners: Vec<Address>,
    /// For any of these targets.
    pub recipients: Vec<[u8; 32]>,
    /// Every one of these.
    pub tags: Vec<TagFilter>,
    /// Directly in any of these bundles.
    pub bundled_in: Vec<ItemId>,
    /// Lowest height, inclusive.
    pub height_min: Option<u64>,
    /// Highest height, inclusive.
    pub height_max: Option<u64>,
    /// Oldest first instead of newest first.
    pub ascending: bool,
    /// At most this many; the weave caps it at 100.
    pub first: usize,
    /// Only what comes after this cursor of an earlier answer.
    pub after: Option<String>,
}

/// One hit of a query.
#[derive(Debug, Clone)]
pub struct Hit {
    /// To go on from here.
    pub cursor: String,
    /// Height at which it was stored.
    pub block_height: u64,
    /// What is held.
    pub stored: Stored,
}

/// One page of hits.
#[derive(Debug, Clone, Default)]
pub struct Hits {
    /// In the order asked for.
    pub hits: Vec<Hit>,
    /// Whether more follow.
    pub has_next_page: bool,
}

/// The weave: permanent storage.
#[async_trait]
pub trait Permanent: Send + Sync {
    /// Makes items durable and findable; what is held already is left as it is. Answers after fsync.
    async fn append(&self, items: Vec<DataItem>, class: Class) -> Answer<()>;
    /// What is held under an id.
    async fn fetch(&self, id: ItemId) -> Answer<Stored>;
    /// Looks for items.
    async fn find(&self, query: Query) -> Answer<Hits>;
}

// ---- Scheduler: the SU ----

/// That a message has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// Whose log.
    pub process: ProcessId,
    /// Which place.
    pub slot: u64,
    /// The item that was given the place.
    pub message: ItemId,
    /// The signed assignment.
    pub assignment: ItemId,
    /// When.
    pub tick: Tick,
}

/// The message of a log entry.
#[derive(Debug, Clone)]
pub enum Content {
    /// The message, or the process item at slot 0.
    Item(DataItem),
    /// Its data was withheld since.
    Withheld(Withheld),
    /// A pure assignment: the item lives elsewhere in the weave, under the assignment's subject.
    Elsewhere,
}

/// One place of a process's log.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// The scheduler's statement.
    pub assignment: Assignment,
    /// What has this place.
    pub content: Content,
}

impl LogEntry {
    /// The item, if it is here and whole.
    pub fn item(&self) -> Option<&DataItem> {
        match &self.content {
            Content::Item(item) => Some(item),
            _ => None,
        }
    }
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Slots from the first to the second, both inclusive.
    Slots(u64, u64),
    /// Timestamps in ms: after the first (exclusive; `None`: from slot 0), up to the second (inclusive).
    Times(Option<u64>, u64),
}

/// One page of a log.
#[derive(Debug, Clone, Default)]
pub struct LogPage {
    /// Ascending by slot, gapless.
    pub entries: Vec<LogEntry>,
    /// Whether the span holds more.
    pub has_next_page: bool,
}

/// The scheduler: gives each message a slot in its process's log.
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// Schedules a message or makes a process. Answers after the assignment is durable.
    async fn schedule(&self, item: DataItem) -> Answer<Scheduled>;
    /// Gives an item that lives elsewhere a place in a process's log.
    async fn assign(
        &self,
        process: ProcessId,
        id: ItemId,
        base_layer: bool,
        exclude: Vec<Field>,
    ) -> Answer<Scheduled>;
    /// A part of a process's log, at most `limit` entries.
    async fn log(&self, process: ProcessId, span: Span, limit: usize) -> Answer<LogPage>;
    /// The entry of a message, by its id or its assignment's; `process` disambiguates.
    async fn message(&self, process: ProcessId, id: ItemId) -> Answer<LogEntry>;
    /// The entry with the highest slot.
    async fn latest(&self, process: ProcessId) -> Answer<LogEntry>;
    /// The process item's own entry, slot 0.
    async fn process(&self, id: ProcessId) -> Answer<LogEntry>;
    /// The present, never earlier than any assignment and never later than any future one.
    async fn tick(&self) -> Answer<Tick>;
}

// ---- Compute: the CU ----

/// The outcome of one evaluation and where it stands.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The slot evaluated; for a cron the slot before it.
    pub slot: u64,
    /// When.
    pub tick: Tick,
    /// Which cron, `<index>-<interval>`; `None` for a message.
    pub cron: Option<Arc<str>>,
    /// What was evaluated; `None` for a cron.
    pub message: Option<ItemId>,
    /// What came of it.
    pub outcome: Arc<Outcome>,
}

/// Where to go on in a list of outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// After or up to a moment, in ms.
    Time(u64),
    /// At an evaluation.
    Evaluation {
        /// Its timestamp in ms.
        timestamp_ms: u64,
        /// Its slot.
        slot: u64,
        /// Which cron.
        cron: Option<String>,
    },
}

/// A page of outcomes to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutcomesQuery {
    /// Only what is later than this, whichever direction is asked for: a reader who keeps the newest
    /// position it has seen gets nothing twice.
    pub from: Option<Position>,
    /// Only what is not later than this.
    pub to: Option<Position>,
    /// At most this many.
    pub limit: usize,
    /// Newest first.
    pub descending: bool,
    /// Those with an error too, which lists otherwise leave out. Not for lists of crons.
    pub failed: bool,
}

/// A page of outcomes; those with an error only if they were asked for.
#[derive(Debug, Clone, Default)]
pub struct OutcomesPage {
    /// In the order asked for.
    pub outcomes: Vec<Evaluated>,
    /// Whether more follow.
    pub has_next_page: bool,
}

/// A message to evaluate without a slot.
#[derive(Debug, Clone)]
pub struct DryRun {
    /// The message as JSON text: what the caller sent, defaults not yet filled in.
    pub message: Box<serde_json::value::RawValue>,
    /// Evaluate after this message instead of after the latest.
    pub to: Option<ItemId>,
}

/// A process's memory at a slot.
#[derive(Debug, Clone)]
pub struct State {
    /// The last slot evaluated.
    pub slot: u64,
    /// When that was.
    pub tick: Tick,
    /// The state root (invariant 12).
    pub root: [u8; 32],
    /// The raw linear memory.
    pub memory: Bytes,
}

/// The compute unit: evaluates a process's log.
#[async_trait]
pub trait Compute: Send + Sync {
    /// The outcome of a message (or of the process item: the boot). Waits until it is evaluated.
    async fn result(&self, process: ProcessId, message: ItemId) -> Answer<Evaluated>;
    /// Outcomes already evaluated, crons included.
    async fn results(&self, process: ProcessId, page: OutcomesQuery) -> Answer<OutcomesPage>;
    /// Outcomes of crons only, after catching up to now.
    async fn crons(&self, process: ProcessId, page: OutcomesQuery) -> Answer<OutcomesPage>;
    /// Evaluates without a slot; changes nothing.
    async fn dry_run(&self, process: ProcessId, run: DryRun) -> Answer<Arc<Outcome>>;
    /// The memory after the last message not later than `to_ms` (default: the latest).
    async fn state(&self, process: ProcessId, to_ms: Option<u64>) -> Answer<State>;
    /// Waits until a slot after `after` has been evaluated; answers with the newest one.
    async fn watch(&self, process: ProcessId, after: Option<u64>) -> Answer<u64>;
}

// ---- Messenger: the MU ----

/// That an item was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The item.
    pub id: ItemId,
    /// The process it made, if it made one.
    pub process: Option<ProcessId>,
}

/// Which traces to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceQuery {
    /// Of this process.
    pub process: Option<ProcessId>,
    /// Of this message, assignment or spawn.
    pub item: Option<ItemId>,
    /// Of items this account sent.
    pub wallet: Option<String>,
    /// Page, from 1.
    pub page: usize,
    /// Entries of a page.
    pub page_size: usize,
}

/// One step of a message's way through the messenger.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Unique in this messenger.
    pub id: String,
    /// The item it is about.
    pub message_id: ItemId,
    /// Whose log it went into, or would have.
    pub process_id: Option<ProcessId>,
    /// Who sent it.
    pub wallet: String,
    /// When, in ms.
    pub timestamp: u64,
    /// The trace that caused this one.
    pub parent_id: Option<String>,
    /// `MESSAGE`, `PROCESS`, `ASSIGNMENT`, `WALLET` ...
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, line by line.
    pub logs: Vec<String>,
}

/// A page of traces.
#[derive(Debug, Clone, Default)]
pub struct TracePage {
    /// Newest first.
    pub traces: Vec<Trace>,
    /// Whether more follow.
    pub has_next_page: bool,
}

/// The messenger: accepts items and cranks outboxes.
#[async_trait]
pub trait Messenger: Send + Sync {
    /// Accepts a signed message or process item. Answers after its assignment is durable.
    async fn push(&self, item: DataItem) -> Answer<Pushed>;
    /// Assigns an item to a process; answers with the assignment's id.
    async fn assign(
        &self,
        process: ProcessId,
        id: ItemId,
        base_layer: bool,
        exclude: Vec<Field>,
    ) -> Answer<ItemId>;
    /// Starts to push the outcomes of a process's crons. The item proves who asks.
    async fn monitor(&self, process: ProcessId, item: DataItem) -> Answer<()>;
    /// Stops it.
    async fn unmonitor(&self, process: ProcessId, item: DataItem) -> Answer<()>;
    /// What happened to messages, newest first.
    async fn traces(&self, query: TraceQuery) -> Answer<TracePage>;
}
