//! The scheduler's contract on the wire: the field's JSON shapes, our verbatim form, and the client.
//!
//! The JSON shows data as text and so loses bytes that are no UTF-8; other nodes expect exactly
//! that. Our own client reads the verbatim form, in which every item keeps its bytes. Not here: any
//! route's handler, any decision about a message.

use std::borrow::Cow;

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use spec::assignment::padded_height;
use spec::contract::{Answer, Content, Field, LogEntry, LogPage, Scheduled, Scheduler, Span, Tick};
use spec::ids::base64url;
use spec::{Address, Assignment, DataItem, ItemId, ProcessId, Refusal, Tag, Withheld};

use crate::client::Http;

// ---- The field's JSON ----

/// A tag as text.
#[derive(Debug, Serialize)]
pub struct TagJson<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

/// Who signed.
#[derive(Debug, Serialize)]
pub struct OwnerJson {
    address: Address,
    key: String,
}

/// A message, or the process item, inside an entry.
#[derive(Debug, Serialize)]
pub struct MessageJson<'a> {
    id: ItemId,
    owner: OwnerJson,
    data: Option<Cow<'a, str>>,
    tags: Vec<TagJson<'a>>,
    signature: String,
    anchor: Option<Cow<'a, str>>,
    target: String,
}

/// An assignment inside an entry.
#[derive(Debug, Serialize)]
pub struct AssignmentJson<'a> {
    id: ItemId,
    owner: OwnerJson,
    tags: Vec<TagJson<'a>>,
    signature: String,
    anchor: Option<Cow<'a, str>>,
    target: &'static str,
}

/// One place of a log.
#[derive(Debug, Serialize)]
pub struct EntryJson<'a> {
    message: Option<MessageJson<'a>>,
    assignment: AssignmentJson<'a>,
}

/// A page of a log.
#[derive(Debug, Serialize)]
pub struct PageJson<'a> {
    page_info: PageInfo,
    edges: Vec<EdgeJson<'a>>,
}

#[derive(Debug, Serialize)]
struct PageInfo {
    has_next_page: bool,
}

#[derive(Debug, Serialize)]
struct EdgeJson<'a> {
    cursor: String,
    node: EntryJson<'a>,
}

/// A process item without its assignment.
#[derive(Debug, Serialize)]
pub struct ProcessJson<'a> {
    process_id: ProcessId,
    block: String,
    owner: OwnerJson,
    tags: Vec<TagJson<'a>>,
    timestamp: u64,
    data: Option<Cow<'a, str>>,
    anchor: Option<Cow<'a, str>>,
    signature: String,
    target: String,
}

/// The answer to a scheduled item.
#[derive(Debug, Serialize, Deserialize)]
pub struct AcceptedJson {
    /// When, in ms.
    pub timestamp: u64,
    /// The item's id, or the assignment's for an assignment.
    pub id: ItemId,
}

/// What a page's cursors count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorKind {
    /// Timestamps in ms.
    Timestamp,
    /// Slots.
    Nonce,
}

fn tags_json(tags: &[Tag]) -> Vec<TagJson<'_>> {
    let tags = tags.iter().map(|tag| TagJson {
        name: tag.name_text(),
        value: tag.value_text(),
    });
    tags.collect()
}

fn owner_json(item: &DataItem) -> OwnerJson {
    OwnerJson {
        address: item.owner_address(),
        key: base64url(item.owner()),
    }
}

fn target_text(item: &DataItem) -> String {
    item.target().map_or(String::new(), |target| base64url(target))
}

/// An anchor is shown if it is text; nothing else is.
fn anchor_text(item: &DataItem) -> Option<Cow<'_, str>> {
    let anchor = item.anchor()?;
    std::str::from_utf8(anchor).ok().map(Cow::Borrowed)
}

/// The item of an entry. What was withheld is shown by its head, without data.
struct Shown {
    item: DataItem,
    data: Option<Bytes>,
}

impl Shown {
    fn of(content: &Content) -> Option<Shown> {
        match content {
            Content::Item(item) => Some(Shown {
                item: item.clone(),
                data: Some(item.data()),
            }),
            Content::Withheld(withheld) => {
                // A head alone parses as an item without data.
                let item = DataItem::parse(withheld.head().clone()).ok()?;
                Some(Shown { item, data: None })
            }
            Content::Elsewhere => None,
        }
    }
}

/// An entry, ready to be shown as JSON.
pub struct EntryView<'a> {
    entry: &'a LogEntry,
    shown: Option<Shown>,
}

impl<'a> EntryView<'a> {
    /// Of an entry.
    pub fn new(entry: &'a LogEntry) -> EntryView<'a> {
        EntryView {
            entry,
            shown: Shown::of(&entry.content),
        }
    }

    /// The entry's JSON. `show_anchor` writes the assignment's anchor as base64url.
    pub fn json(&self, show_anchor: bool) -> EntryJson<'_> {
        let is_process = self.entry.assignment.message.is_none();
        let message = self.shown.as_ref().map(|shown| MessageJson {
            id: shown.item.id(),
            owner: owner_json(&shown.item),
            data: data_text(shown, is_process),
            tags: tags_json(shown.item.tags()),
            signature: base64url(shown.item.signature()),
            anchor: anchor_text(&shown.item),
            target: target_text(&shown.item),
        });
        EntryJson {
            message,
            assignment: assignment_json(&self.entry.assignment, show_anchor),
        }
    }

    /// The process item's JSON; `None` if the entry is none.
    pub fn process(&self) -> Option<ProcessJson<'_>> {
        let (shown, assignment) = (self.shown.as_ref()?, &self.entry.assignment);
        Some(ProcessJson {
            process_id: assignment.process,
            block: padded_height(assignment.tick.block_height),
            owner: owner_json(&shown.item),
            tags: tags_json(shown.item.tags()),
            timestamp: assignment.tick.timestamp_ms,
            data: data_text(shown, true),
            anchor: anchor_text(&shown.item),
            signature: base64url(shown.item.signature()),
            target: target_text(&shown.item),
        })
    }
}

fn assignment_json(assignment: &Assignment, show_anchor: bool) -> AssignmentJson<'_> {
    let item = &assignment.item;
    let anchor = match show_anchor {
        true => item.anchor().map(|anchor| base64url(anchor).into()),
        false => anchor_text(item),
    };
    AssignmentJson {
        id: item.id(),
        owner: owner_json(item),
        tags: tags_json(item.tags()),
        signature: base64url(item.signature()),
        anchor,
        target: "",
    }
}

/// A message's data as text, invalid bytes replaced; a process's only if it is text.
fn data_text(shown: &Shown, is_process: bool) -> Option<Cow<'_, str>> {
    let data = shown.data.as_ref()?;
    match is_process {
        true => std::str::from_utf8(data).ok().map(Cow::Borrowed),
        false => Some(String::from_utf8_lossy(data)),
    }
}

/// The JSON text of a page.
///
/// # Errors
/// Never in practice: all parts are text and numbers.
pub fn page_json(
    page: &LogPage,
    cursors: CursorKind,
    show_anchor: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    let views: Vec<EntryView<'_>> = page.entries.iter().map(EntryView::new).collect();
    let edges = views.iter().map(|view| {
        let assignment = &view.entry.assignment;
        let cursor = match cursors {
            CursorKind::Timestamp => assignment.tick.timestamp_ms,
            CursorKind::Nonce => assignment.slot,
        };
        EdgeJson {
            cursor: cursor.to_string(),
            node: view.json(show_anchor),
        }
    });
    let page_info = PageInfo {
        has_next_page: page.has_next_page,
    };
    serde_json::to_vec(&PageJson {
        page_info,
        edges: edges.collect(),
    })
}

// ---- Our verbatim form ----

/// Content type of the verbatim form.
pub const VERBATIM_TYPE: &str = "application/octet-stream";
/// First byte of a verbatim page.
const VERBATIM_VERSION: u8 = 1;

/// What stands before an entry's second part.
const ELSEWHERE: u8 = 0;
const ITEM: u8 = 1;
const WITHHELD: u8 = 2;

/// Writes entries verbatim: version (1 byte), whether more follow (1), and for each entry the
/// assignment's length (u64 LE) and bytes, the content's kind (1: 0 elsewhere, 1 item, 2 withheld),
/// its length (u64 LE) and bytes.
pub fn encode_page(page: &LogPage) -> Bytes {
    let parts: Vec<(u8, Bytes)> = page.entries.iter().map(content_parts).collect();
    let items = page
        .entries
        .iter()
        .map(|entry| entry.assignment.item.bytes().len());
    let len = 2 + items.sum::<usize>() + parts.iter().map(|(_, bytes)| 17 + bytes.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(len);
    out.put_u8(VERBATIM_VERSION);
    out.put_u8(page.has_next_page.into());
    for (entry, (kind, content)) in page.entries.iter().zip(parts) {
        let assignment = entry.assignment.item.bytes();
        out.put_u64_le(assignment.len() as u64);
        out.put_slice(assignment);
        out.put_u8(kind);
        out.put_u64_le(content.len() as u64);
        out.put_slice(&content);
    }
    debug_assert_eq!(out.len(), len);
    out.freeze()
}

fn content_parts(entry: &LogEntry) -> (u8, Bytes) {
    match &entry.content {
        Content::Elsewhere => (ELSEWHERE, Bytes::new()),
        Content::Item(item) => (ITEM, item.bytes().clone()),
        Content::Withheld(withheld) => (WITHHELD, withheld.encode()),
    }
}

/// Reads a verbatim page. The items' signatures are the caller's to check.
///
/// # Errors
/// Bytes that are none.
pub fn decode_page(mut bytes: Bytes) -> Answer<LogPage> {
    if bytes.len() < 2 || bytes[0] != VERBATIM_VERSION {
        return Err(bad_page("its version is not 1"));
    }
    let has_next_page = bytes[1] != 0;
    bytes.advance(2);
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let item = DataItem::parse(take(&mut bytes)?)?;
        let assignment = Assignment::read(item).map_err(|error| bad_page(&error.to_string()))?;
        let kind = bytes.first().copied().ok_or_else(|| bad_page("it is cut off"))?;
        bytes.advance(1);
        let content = take(&mut bytes)?;
        let content = match kind {
            ELSEWHERE => Content::Elsewhere,
            ITEM => Content::Item(DataItem::parse(content)?),
            WITHHELD => Content::Withheld(Withheld::decode(&content)?),
            _ => return Err(bad_page("an entry's kind is unknown")),
        };
        entries.push(LogEntry { assignment, content });
    }
    Ok(LogPage {
        entries,
        has_next_page,
    })
}

fn take(bytes: &mut Bytes) -> Answer<Bytes> {
    let len = bytes.first_chunk().copied().map(u64::from_le_bytes);
    let len = len
        .and_then(|len| usize::try_from(len).ok())
        .filter(|len| *len <= bytes.len() - 8);
    let len = len.ok_or_else(|| bad_page("it is cut off"))?;
    bytes.advance(8);
    Ok(bytes.split_to(len))
}

fn bad_page(why: &str) -> Refusal {
    Refusal::upstream(
        "bad-answer",
        format!("the scheduler's page cannot be read: {why}"),
    )
}

/// That an item has its place, in full.
#[derive(Debug, Serialize, Deserialize)]
pub struct ScheduledJson {
    process: ProcessId,
    slot: u64,
    message: ItemId,
    assignment: ItemId,
    timestamp: u64,
    block_height: u64,
}

impl From<Scheduled> for ScheduledJson {
    fn from(s: Scheduled) -> Self {
        let Tick {
            timestamp_ms: timestamp,
            block_height,
        } = s.tick;
        let (process, slot, message, assignment) = (s.process, s.slot, s.message, s.assignment);
        ScheduledJson {
            process,
            slot,
            message,
            assignment,
            timestamp,
            block_height,
        }
    }
}

impl From<ScheduledJson> for Scheduled {
    fn from(s: ScheduledJson) -> Self {
        let tick = Tick {
            timestamp_ms: s.timestamp,
            block_height: s.block_height,
        };
        let (process, slot, message, assignment) = (s.process, s.slot, s.message, s.assignment);
        Scheduled {
            process,
            slot,
            message,
            assignment,
            tick,
        }
    }
}

/// The present, as the field's route `/timestamp` tells it: both as text.
#[derive(Debug, Serialize, Deserialize)]
pub struct TickJson {
    timestamp: String,
    block_height: String,
}

impl From<Tick> for TickJson {
    fn from(tick: Tick) -> Self {
        let (timestamp, block_height) = (tick.timestamp_ms.to_string(), padded_height(tick.block_height));
        TickJson {
            timestamp,
            block_height,
        }
    }
}

impl TickJson {
    fn tick(&self) -> Answer<Tick> {
        let number = |text: &str| {
            text.parse()
                .map_err(|_| Refusal::upstream("bad-answer", "the scheduler's timestamp is no number"))
        };
        Ok(Tick {
            timestamp_ms: number(&self.timestamp)?,
            block_height: number(&self.block_height)?,
        })
    }
}

// ---- The client ----

/// A scheduler on another machine, of our own kind.
pub struct Client {
    http: Http,
}

impl Client {
    /// A client of the scheduler at a base URL.
    pub fn new(http: Http) -> Client {
        Client { http }
    }

    async fn page(&self, path: String) -> Answer<LogPage> {
        decode_page(self.http.get(&path).await?.success()?)
    }

    async fn entry(&self, path: String) -> Answer<LogEntry> {
        let mut page = self.page(path).await?;
        page.entries.pop().ok_or_else(|| bad_page("it is empty"))
    }
}

#[async_trait]
impl Scheduler for Client {
    async fn schedule(&self, item: DataItem) -> Answer<Scheduled> {
        let reply = self
            .http
            .post("/schedule", VERBATIM_TYPE, item.bytes().clone())
            .await?;
        reply.json::<ScheduledJson>().map(Scheduled::from)
    }

    async fn assign(
        &self,
        process: ProcessId,
        id: ItemId,
        base: bool,
        exclude: Vec<Field>,
    ) -> Answer<Scheduled> {
        let mut path = format!("/assign?process-id={process}&assign={id}");
        if base {
            path.push_str("&base-layer");
        }
        if !exclude.is_empty() {
            let names: Vec<&str> = exclude.iter().map(|field| field.name()).collect();
            path.push_str(&format!("&exclude={}", names.join(",")));
        }
        let reply = self.http.post(&path, "", Bytes::new()).await?;
        reply.json::<ScheduledJson>().map(Scheduled::from)
    }

    async fn log(&self, process: ProcessId, span: Span, limit: usize) -> Answer<LogPage> {
        let span = match span {
            Span::Slots(from, to) => format!("from-slot={from}&to-slot={to}"),
            Span::Times(Some(from), to) => format!("from={from}&to={to}"),
            Span::Times(None, to) => format!("to={to}"),
        };
        self.page(format!("/log/{process}?{span}&limit={limit}")).await
    }

    async fn message(&self, process: ProcessId, id: ItemId) -> Answer<LogEntry> {
        self.entry(format!("/log/{process}/message/{id}")).await
    }

    async fn latest(&self, process: ProcessId) -> Answer<LogEntry> {
        self.entry(format!("/log/{process}/latest")).await
    }

    async fn process(&self, id: ProcessId) -> Answer<LogEntry> {
        self.entry(format!("/log/{id}?from-slot=0&to-slot=0&limit=1"))
            .await
    }

    async fn tick(&self) -> Answer<Tick> {
        self.http.get("/timestamp").await?.json::<TickJson>()?.tick()
    }
}
