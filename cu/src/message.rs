//! Messages and environments as a process sees them: JSON text, or frames for Lua, made from log entries.
//!
//! Pure. Keys and their order are fixed, because processes see both (table order, memory layout).
//! Data and tags are text: bytes that are no UTF-8 are replaced, as every unit of the field does.
//! Source: spec/outcome.md, "What a process is given".

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use spec::contract::{Answer, Content, Field, LogEntry, Stored, Tick};
use spec::{DataItem, ModuleId, ProcessId, Refusal, Tag};

use crate::fields::Fields;
use crate::runtime::{ModuleFormat, frame};

/// How a process takes what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON text.
    Json,
    /// Frames.
    Frame,
}

impl From<ModuleFormat> for Encoding {
    fn from(format: ModuleFormat) -> Encoding {
        match format {
            format if format.is_lua() => Encoding::Frame,
            _ => Encoding::Json,
        }
    }
}

impl Encoding {
    fn bytes(self, value: &impl Serialize) -> Vec<u8> {
        match self {
            Encoding::Json => serde_json::to_vec(value).expect("texts and numbers are JSON"),
            Encoding::Frame => frame::of(value).expect("texts, numbers, lists and structs have frames"),
        }
    }
}

/// One message; a key that is `None` is left out.
#[derive(Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Cow<'a, str>>,
    owner: Cow<'a, str>,
    target: String,
    /// Inner `None` is `null`: there is none, or it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<Option<Cow<'a, str>>>,
    from: Cow<'a, str>,
    #[serde(rename = "Forwarded-By", skip_serializing_if = "Option::is_none")]
    forwarded_by: Option<Cow<'a, str>>,
    tags: Vec<TagJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<u64>,
    timestamp: u64,
    #[serde(rename = "Block-Height")]
    block_height: u64,
    #[serde(rename = "Hash-Chain", skip_serializing_if = "Option::is_none")]
    hash_chain: Option<String>,
    cron: bool,
    #[serde(rename = "Read-Only", skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
}

#[derive(Serialize)]
struct TagJson<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

/// Who a message is from.
struct Sender<'a> {
    owner: Cow<'a, str>,
    from: Cow<'a, str>,
    forwarded_by: Option<Cow<'a, str>>,
}

impl<'a> Sender<'a> {
    /// `From` is the first non-empty `From-Process`, else the owner; whoever forwards is the owner.
    fn of(owner: Cow<'a, str>, from_process: Option<Cow<'a, str>>) -> Sender<'a> {
        let forwarded_by = from_process.is_some().then(|| owner.clone());
        let from = from_process.filter(|from| !from.is_empty());
        Sender {
            from: from.unwrap_or_else(|| owner.clone()),
            forwarded_by,
            owner,
        }
    }

    fn of_tags(owner: Cow<'a, str>, tags: &'a [Tag]) -> Sender<'a> {
        let from = tags.iter().find(|tag| *tag.name == *b"From-Process");
        Sender::of(owner, from.map(Tag::value_text))
    }
}

/// Whether a user may not say this about himself.
fn is_reserved(name: &str) -> bool {
    name == "From" || name == "Owner"
}

fn tags_json(tags: &[Tag]) -> Vec<TagJson<'_>> {
    let json = |tag| TagJson {
        name: Tag::name_text(tag),
        value: Tag::value_text(tag),
    };
    tags.iter().map(json).collect()
}

fn stripped(tags: &[Tag]) -> Vec<TagJson<'_>> {
    let mut tags = tags_json(tags);
    tags.retain(|tag| !is_reserved(&tag.name));
    tags
}

/// The environment of a process: itself and its module.
pub fn env(
    process: &DataItem,
    module: ModuleId,
    module_owner: &str,
    module_tags: &[Tag],
    encoding: Encoding,
) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Env<'a> {
        process: Part<'a>,
        module: Part<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Part<'a> {
        id: String,
        owner: String,
        tags: Vec<TagJson<'a>>,
    }
    encoding.bytes(&Env {
        process: Part {
            id: process.id().to_string(),
            owner: process.signer_text().into(),
            tags: tags_json(process.tags()),
        },
        module: Part {
            id: module.to_string(),
            owner: module_owner.to_owned(),
            tags: tags_json(module_tags),
        },
    })
}

/// The message of a log entry; the process item at slot 0 is a message too. `elsewhere` is what the
/// weave holds under the subject of a pure assignment.
///
/// # Errors
/// If the content was withheld: no copy of the process can be computed past it.
pub fn scheduled(entry: &LogEntry, elsewhere: Option<&Stored>, encoding: Encoding) -> Answer<Vec<u8>> {
    let process = || entry.assignment.process.to_string();
    match (&entry.content, elsewhere) {
        (Content::Item(item), _) => Ok(of_item(entry, item, process(), encoding)),
        (Content::Elsewhere, Some(Stored::Item(item))) => {
            Ok(of_item(entry, item, target_text(item), encoding))
        }
        (Content::Elsewhere, Some(Stored::Registered(item))) => {
            let owner = item.by.to_string();
            let data = String::from_utf8_lossy(&item.data);
            let parts = of_parts(
                entry,
                owner.into(),
                &item.tags,
                String::new(),
                Some(data),
                None,
                None,
            );
            Ok(encoding.bytes(&parts))
        }
        _ => {
            let id = entry.assignment.subject();
            let slot = entry.assignment.slot;
            let text = format!(
                "the data of {id} at slot {slot} was withheld: the process cannot be computed past it"
            );
            Err(Refusal::not_found("data-withheld", text))
        }
    }
}

fn target_text(item: &DataItem) -> String {
    item.target()
        .map(|target| spec::ids::base64url(target))
        .unwrap_or_default()
}

fn of_item(entry: &LogEntry, item: &DataItem, target: String, encoding: Encoding) -> Vec<u8> {
    let owner = Cow::Owned(item.signer_text().into());
    let bytes = item.data();
    let anchor = item.anchor().and_then(|anchor| std::str::from_utf8(anchor).ok());
    let signature = spec::ids::base64url(item.signature());
    let data = String::from_utf8_lossy(&bytes);
    encoding.bytes(&of_parts(
        entry,
        owner,
        item.tags(),
        target,
        Some(data),
        Some(signature),
        anchor.map(Cow::Borrowed),
    ))
}

fn of_parts<'a>(
    entry: &LogEntry,
    owner: Cow<'a, str>,
    tags: &'a [Tag],
    target: String,
    data: Option<Cow<'a, str>>,
    signature: Option<String>,
    anchor: Option<Cow<'a, str>>,
) -> Message<'a> {
    let assignment = &entry.assignment;
    let shows = |field| !assignment.exclude.contains(&field);
    let tags = if shows(Field::Tags) { tags } else { &[] };
    let sender = Sender::of_tags(owner, tags);
    Message {
        id: Some(assignment.subject().to_string()),
        signature: signature.filter(|_| shows(Field::Signature)),
        data: data.filter(|_| shows(Field::Data)),
        owner: sender.owner,
        target,
        anchor: shows(Field::Anchor).then_some(anchor),
        from: sender.from,
        forwarded_by: sender.forwarded_by,
        tags: stripped(tags),
        epoch: Some(assignment.epoch),
        nonce: Some(assignment.slot),
        timestamp: assignment.tick.timestamp_ms,
        block_height: assignment.tick.block_height,
        hash_chain: Some(assignment.chain.to_string()),
        cron: false,
        read_only: Some(false),
    }
}

/// The message of a cron: from the process's owner to the process, with the cron's own tags.
pub fn cron(process: &DataItem, tags: &[Tag], tick: Tick, encoding: Encoding) -> Vec<u8> {
    let owner: String = process.signer_text().into();
    encoding.bytes(&Message {
        owner: Cow::Borrowed(&owner),
        from: Cow::Borrowed(&owner),
        target: process.id().to_string(),
        tags: stripped(tags),
        timestamp: tick.timestamp_ms,
        block_height: tick.block_height,
        cron: true,
        ..Message::default()
    })
}

/// Keys of a dry run that are handed on as they came.
const DRY_RUN_KEYS: [&str; 9] = [
    "Id",
    "Signature",
    "Data",
    "Target",
    "Anchor",
    "Epoch",
    "Nonce",
    "Timestamp",
    "Block-Height",
];

/// The message of a dry run: what the caller sent over the defaults of the last evaluation.
///
/// # Errors
/// Names what is missing or has the wrong type; a caller without `Owner` is told so first.
pub fn dry_run(process: ProcessId, last: Tick, body: &RawValue, encoding: Encoding) -> Answer<Vec<u8>> {
    let sent: Fields = serde_json::from_str(body.get())
        .map_err(|error| invalid(format!("the body is no JSON object: {error}")))?;
    let owner = owner_of(&sent)?;
    let tags = tags_of(&sent)?;
    let from_process = tags
        .iter()
        .find(|tag| tag.name == "From-Process")
        .map(|tag| tag.value.as_str());
    let sender = Sender::of(Cow::Borrowed(&owner), from_process.map(Cow::Borrowed));
    let kept: Vec<_> = tags.iter().filter(|tag| !is_reserved(&tag.name)).collect();
    let mut out = Fields::default();
    out.set("Target", &process.to_string());
    out.set("Timestamp", &last.timestamp_ms);
    out.set("Block-Height", &last.block_height);
    out.set("Cron", &false);
    let handed_on = DRY_RUN_KEYS.into_iter().chain(["Hash-Chain", "Cron"]);
    for (key, value) in handed_on.filter_map(|key| Some((key, sent.get(key)?))) {
        out.set(key, value);
    }
    out.set("Owner", &sender.owner);
    out.set("From", &sender.from);
    if let Some(forwarded_by) = &sender.forwarded_by {
        out.set("Forwarded-By", forwarded_by);
    }
    out.set("Tags", &kept);
    out.set("Read-Only", &true);
    let json = Encoding::Json.bytes(&out);
    match encoding {
        Encoding::Json => Ok(json),
        Encoding::Frame => {
            frame::of_json(&json).map_err(|error| invalid(format!("the body cannot be read: {error}")))
        }
    }
}

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::invalid("invalid-dry-run", text)
}

fn owner_of(sent: &Fields) -> Answer<String> {
    let owner = sent
        .get("Owner")
        .ok_or_else(|| invalid("'Owner': Required. | 'From': Required."))?;
    let owner: String =
        serde_json::from_str(owner.get()).map_err(|_| invalid("'Owner': Expected string."))?;
    if owner.is_empty() {
        return Err(invalid(
            "'Owner': String must contain at least 1 character(s). | 'From': Required.",
        ));
    }
    Ok(owner)
}

/// A tag as a caller of a dry run sends it.
#[derive(serde::Deserialize, Serialize)]
struct OwnTag {
    name: String,
    value: String,
}

fn tags_of(sent: &Fields) -> Answer<Vec<OwnTag>> {
    let Some(tags) = sent.get("Tags") else {
        return Ok(Vec::new());
    };
    serde_json::from_str(tags.get()).map_err(|error| {
        invalid(format!(
            "'Tags': expected a list of {{name, value}} texts: {error}"
        ))
    })
}
