//! The outbox: an outcome becomes signed items, spawns and assignments. Pure: everything comes in
//! as an argument and goes out as a value; the key's signature is the only work.
//!
//! Invariant: the same outcome at the same place gives the same contents, and with a deterministic
//! key the same ids. One entry that cannot be sent never keeps the others back.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use spec::contract::Field;
use spec::outcome::{OutAssignment, OutMessage, OutSpawn, OutTag, OutValue, Scalar};
use spec::{DataItem, ItemId, ItemParts, Outcome, ProcessId, Signer, Tag, tags};

use crate::config::Config;
use crate::delivery::{Assign, Delivery, Order, Place, What};
use crate::lineage::{FROM_SLOT, Lineage, PUSH_DEPTH, PUSHED_FOR};

/// Tags that only we write; a process's own of these names are left out.
const OURS: [&str; 7] = [
    "Data-Protocol",
    "Type",
    "From-Process",
    "From-Module",
    PUSHED_FOR,
    FROM_SLOT,
    PUSH_DEPTH,
];
/// The tag that names processes to assign the message to.
const ASSIGNMENTS: &str = "Assignments";
/// The dialect of a spawned process, unless it names one of the other network's.
const VARIANT: &str = "ao.TN.1";
/// Bytes of an anchor.
const ANCHOR_LEN: usize = 32;

/// Who sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The process.
    pub process: ProcessId,
    /// Its tag `Module`.
    pub module: String,
    /// Its tag `Scheduler`: where its children go unless they say otherwise.
    pub scheduler: String,
}

/// One evaluation whose outcome is to be sent.
pub struct Evaluation<'a> {
    /// Who sends.
    pub sender: &'a Sender,
    /// Which evaluation.
    pub place: &'a Place,
    /// Where the evaluated message came from; `None` for a cron.
    pub cause: Option<&'a Lineage>,
    /// What came of it.
    pub outcome: &'a Outcome,
}

/// What an outcome asks for.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To deliver, in order.
    pub deliveries: Vec<Delivery>,
    /// What was not as it should be, the first [`NOTES_MAX`] of it.
    pub notes: Vec<Note>,
    /// How many entries, or parts of one, are not sent.
    pub dropped: u64,
}

/// Most notes kept of one outcome.
pub const NOTES_MAX: usize = 100;

/// Why an entry is not sent, or not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which entry, by the index it has or would have had.
    pub index: u32,
    /// Whether it is not sent at all.
    pub dropped: bool,
    /// Why, for people.
    pub why: String,
}

/// Whether an outcome has an empty outbox, without reading it all.
pub fn is_empty(outcome: &Outcome) -> bool {
    let lists = [&outcome.messages, &outcome.spawns, &outcome.assignments];
    lists
        .into_iter()
        .all(|list| matches!(list.get(), "[]" | "{}" | "null" | "\"\""))
}

/// Turns an outcome into deliveries.
pub fn build(evaluation: &Evaluation<'_>, signer: &Signer, config: &Config) -> Outbox {
    let mut builder = Builder {
        evaluation,
        signer,
        config,
        index: 0,
        outbox: Outbox::default(),
    };
    let outcome = evaluation.outcome;
    builder.each(&outcome.messages, "Messages", Builder::message);
    builder.each(&outcome.spawns, "Spawns", Builder::spawn);
    builder.each(&outcome.assignments, "Assignments", Builder::assignment);
    builder.outbox
}

/// An index beyond any outbox: the place of what we add to an evaluation ourselves.
const INDEX_ADDED: u32 = u32::MAX;

/// A process item that has a target is assigned to that target when it boots.
pub fn announce(item: &DataItem, place: &Place, cause: &Lineage) -> Option<Delivery> {
    let process = ProcessId(*item.target()?);
    let assign = Assign {
        process,
        item: item.id(),
        base_layer: false,
        exclude: Vec::new(),
    };
    let order = Order {
        place: place.clone(),
        index: INDEX_ADDED,
    };
    Some(Delivery {
        order,
        origin: cause.origin,
        what: What::Assign(assign),
    })
}

/// The message that tells a spawner of its new process: the spawn's tags, so that it is recognised.
///
/// # Errors
/// Says why it cannot be signed, even without the spawn's own tags.
pub fn spawned_reply(spawn: &DataItem, spawner: ProcessId, signer: &Signer) -> Result<DataItem, String> {
    let reply = |keep: &dyn Fn(&Tag) -> bool| {
        let mut reply = vec![
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Type", "Message"),
            Tag::new("Variant", VARIANT),
            Tag::new("Action", "Spawned"),
            Tag::new("Process", spawn.id().to_string()),
        ];
        let replaced = |tag: &Tag| reply.iter().any(|ours| ours.name == tag.name);
        let kept: Vec<_> = spawn
            .tags()
            .iter()
            .filter(|tag| !replaced(tag) && keep(tag))
            .collect();
        reply.extend(kept.into_iter().cloned());
        let data = Bytes::from_static(b" ");
        let parts = ItemParts {
            target: Some(spawner.0),
            anchor: None,
            tags: reply,
            data,
        };
        DataItem::sign(&parts, signer)
    };
    let needed = [
        "From-Process",
        "From-Module",
        PUSHED_FOR,
        FROM_SLOT,
        PUSH_DEPTH,
        "Reference",
    ];
    let is_needed = |tag: &Tag| needed.iter().any(|name| tag.name == *name);
    // The reply has more tags than the spawn; if that is too many, the spawn's own give way.
    reply(&|_| true)
        .or_else(|_| reply(&is_needed))
        .map_err(|error| error.to_string())
}

/// Reads a list of entries one by one, so that one that is malformed spoils no other.
fn entries<'a>(list: &'a RawValue, name: &str) -> Result<Vec<&'a RawValue>, String> {
    match list.get() {
        // An empty Lua table is written in several ways.
        "{}" | "null" | "\"\"" => Ok(Vec::new()),
        json => serde_json::from_str(json).map_err(|error| format!("`{name}` is not a list: {error}")),
    }
}

/// What a single entry becomes, or why it is dropped.
type Built = Result<Vec<What>, String>;

struct Builder<'a> {
    evaluation: &'a Evaluation<'a>,
    signer: &'a Signer,
    config: &'a Config,
    index: u32,
    outbox: Outbox,
}

impl Builder<'_> {
    fn each<'j, T: Deserialize<'j>>(
        &mut self,
        list: &'j RawValue,
        name: &str,
        build: fn(&mut Self, T) -> Built,
    ) {
        let entries = match entries(list, name) {
            Ok(entries) => entries,
            Err(why) => return self.note(true, why),
        };
        for entry in entries {
            let read =
                serde_json::from_str(entry.get()).map_err(|error| format!("an entry of `{name}`: {error}"));
            let built = read.and_then(|entry| self.check_limits().and_then(|()| build(self, entry)));
            match built {
                Ok(whats) => whats.into_iter().for_each(|what| self.add(what)),
                Err(why) => self.drop_entry(why),
            }
        }
    }

    /// A loop is cut by its depth, a storm by its width.
    fn check_limits(&self) -> Result<(), String> {
        let depth = self.evaluation.cause.map_or(0, |cause| cause.depth);
        if depth >= self.config.depth_max {
            return Err(format!(
                "the message is {depth} pushes away from its origin, the limit (depth_max)"
            ));
        }
        match self.outbox.deliveries.len() >= self.config.fan_out_max {
            true => Err(format!(
                "an outcome may send {} things (fan_out_max)",
                self.config.fan_out_max
            )),
            false => Ok(()),
        }
    }

    fn add(&mut self, what: What) {
        if let Err(why) = self.check_limits() {
            return self.drop_entry(why);
        }
        let order = Order {
            place: self.evaluation.place.clone(),
            index: self.index,
        };
        let origin = self.evaluation.cause.map(|cause| cause.origin);
        let first_below_cron = || match &what {
            What::Message { item, .. } | What::Spawn { item } => item.id(),
            What::Assign(assign) => assign.item,
        };
        let origin = origin.unwrap_or_else(first_below_cron);
        self.outbox.deliveries.push(Delivery { order, origin, what });
        self.index += 1;
    }

    /// An entry that is not sent keeps its index: limits may change, the places of others must not.
    fn drop_entry(&mut self, why: String) {
        self.note(true, why);
        self.index += 1;
    }

    fn note(&mut self, dropped: bool, why: String) {
        self.outbox.dropped += u64::from(dropped);
        if self.outbox.notes.len() < NOTES_MAX {
            self.outbox.notes.push(Note {
                index: self.index,
                dropped,
                why,
            });
        }
    }

    fn message(&mut self, message: OutMessage) -> Built {
        let target = message
            .target
            .map(|target| target.0)
            .filter(|target| !target.is_empty());
        let target = target.ok_or("the message has no `Target`")?;
        let (custom, also) = self.custom_tags(message.tags.0)?;
        let mut item_tags = self.protocol_tags("Message");
        item_tags.extend(custom);
        let id = target.parse::<ItemId>().ok();
        if id.is_none() {
            // An item's target is 32 bytes; an account of another network is kept as a tag.
            item_tags.retain(|tag| tag.name != "Target");
            item_tags.push(Tag::new("Target", target));
        }
        let anchor = self.anchor(message.anchor);
        let data = message.data.map(|data| data.0).filter(|data| !data.is_empty());
        let data = data.unwrap_or_else(|| " ".into()).into();
        let parts = ItemParts {
            target: id.map(|id| id.0),
            anchor,
            tags: item_tags,
            data,
        };
        Ok(vec![What::Message {
            item: self.sign(&parts)?,
            also,
        }])
    }

    fn spawn(&mut self, spawn: OutSpawn) -> Built {
        let (custom, _) = self.custom_tags(spawn.tags.0)?;
        let variant = tags::first(&custom, "Variant").filter(|variant| variant.starts_with("ao.N."));
        let variant = variant.unwrap_or(VARIANT).to_owned();
        if tags::first(&custom, "Module").is_none_or(str::is_empty) {
            return Err("the spawn has no tag `Module`".into());
        }
        let mut item_tags = self.protocol_tags("Process");
        item_tags.push(Tag::new("Variant", variant));
        if tags::first(&custom, "Scheduler").is_none() {
            item_tags.push(Tag::new("Scheduler", self.evaluation.sender.scheduler.clone()));
        }
        item_tags.extend(custom.into_iter().filter(|tag| tag.name != "Variant"));
        let data = spawn.data.map(|data| data.0).filter(|data| !data.is_empty());
        let data = data.unwrap_or_else(|| " ".into()).into();
        let parts = ItemParts {
            target: None,
            anchor: None,
            tags: item_tags,
            data,
        };
        Ok(vec![What::Spawn {
            item: self.sign(&parts)?,
        }])
    }

    fn assignment(&mut self, assignment: OutAssignment) -> Built {
        let item = assignment.message.ok_or("the assignment has no `Message`")?;
        let item: ItemId = item
            .parse()
            .map_err(|error| format!("the assignment's `Message`: {error}"))?;
        let base_layer = assignment.base_layer.is_some_and(|flag| flag.0 != "false");
        let exclude = assignment.exclude.unwrap_or_default();
        Field::parse_list(&exclude.join(",")).map_err(|refusal| refusal.text)?;
        let processes = self.process_ids(assignment.processes);
        let assign = |process| {
            What::Assign(Assign {
                process,
                item,
                base_layer,
                exclude: exclude.clone(),
            })
        };
        Ok(processes.into_iter().map(assign).collect())
    }

    /// Those that are ids; the others are noted.
    fn process_ids(&mut self, texts: Vec<String>) -> Vec<ProcessId> {
        let mut ids = Vec::new();
        for text in texts {
            match text.trim().parse() {
                Ok(id) => ids.push(id),
                Err(error) => self.note(true, format!("an assignment to a process: {error}")),
            }
        }
        ids
    }

    /// What every item of ours says, in the order in which it is written.
    fn protocol_tags(&self, kind: &str) -> Vec<Tag> {
        let Evaluation {
            sender, place, cause, ..
        } = self.evaluation;
        let mut tags = vec![
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Type", kind),
            Tag::new("From-Process", sender.process.to_string()),
            Tag::new("From-Module", sender.module.clone()),
            Tag::new(FROM_SLOT, place.entry(self.index)),
        ];
        tags.extend(Lineage::child_tags(*cause));
        tags
    }

    /// The process's own tags as texts, and the processes that `Assignments` names.
    fn custom_tags(&mut self, tags: Vec<OutTag>) -> Result<(Vec<Tag>, Vec<ProcessId>), String> {
        let (mut custom, mut also) = (Vec::with_capacity(tags.len()), Vec::new());
        for (index, tag) in tags.into_iter().enumerate() {
            let name = tag
                .name
                .ok_or_else(|| format!("the name of tag {index} is not a text"))?
                .0;
            match tag.value {
                value if name == ASSIGNMENTS => also.extend(self.process_ids(assigned(value))),
                _ if OURS.contains(&name.as_str()) => {}
                OutValue::Scalar(value) => custom.push(Tag::new(name, value.0)),
                OutValue::List(_) | OutValue::Other => {
                    return Err(format!(
                        "the value of the tag `{name}` is no text, number or boolean"
                    ));
                }
            }
        }
        Ok((custom, also))
    }

    /// Anchors are 32 bytes; a message is worth more than an anchor of another length.
    fn anchor(&mut self, anchor: Option<Scalar>) -> Option<[u8; ANCHOR_LEN]> {
        let text = anchor?.0;
        let anchor = text.as_bytes().try_into().ok();
        if anchor.is_none() && !text.is_empty() {
            self.note(
                false,
                format!(
                    "the anchor has {} bytes instead of 32 and was left out",
                    text.len()
                ),
            );
        }
        anchor
    }

    fn sign(&self, parts: &ItemParts) -> Result<DataItem, String> {
        let max = self.config.item_bytes_max;
        if parts.data.len() > max {
            return Err(format!(
                "the data has {} bytes, an item may have {max}",
                parts.data.len()
            ));
        }
        DataItem::sign(parts, self.signer).map_err(|error| error.to_string())
    }
}

/// The processes named by the tag `Assignments`: a list, a list written as JSON, or a comma list.
fn assigned(value: OutValue) -> Vec<String> {
    match value {
        OutValue::List(list) => list.into_iter().map(|scalar| scalar.0).collect(),
        OutValue::Scalar(Scalar(text)) => serde_json::from_str(&text).unwrap_or_else(|_| {
            text.split(',')
                .filter(|part| !part.trim().is_empty())
                .map(str::to_owned)
                .collect()
        }),
        OutValue::Other => Vec::new(),
    }
}
