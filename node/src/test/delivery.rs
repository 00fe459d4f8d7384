//! How messages reach processes: sent by a spec, or pumped from the outboxes of other processes.
//!
//! Not here: births. The form of what is pumped is the messenger's: signed by the authority, `From-Process` says
//! whom it is from. A pump has a bound: processes that answer each other for ever end the test.

use std::rc::Rc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use spec::Outcome;
use spec::outcome::{OutAssignment, OutMessage, OutTag, OutValue, Scalar};

use super::birth::{Birth, error_text};
use super::message::{Message, TagText, is_reserved};
use super::world::{Parcel, World, eval_message, wallet};

/// Most messages waiting for a pump.
const QUEUE_MAX: usize = 100_000;
/// Tags that only a messenger writes.
const MESSENGERS: [&str; 5] = [
    "Data-Protocol",
    "Type",
    "From-Process",
    "From-Module",
    "Assignments",
];

/// What a spec says of a message; absent parts have defaults.
#[derive(Default, Clone)]
pub struct Draft {
    /// Who it is from; the process's owner if not said.
    pub from: Option<String>,
    /// Who signed it.
    pub owner: Option<String>,
    /// Its target; the process if not said.
    pub target: Option<String>,
    /// Its data.
    pub data: Option<String>,
    /// Its id.
    pub id: Option<String>,
    /// Its anchor.
    pub anchor: Option<String>,
    /// Its time; the clock if not said.
    pub timestamp_ms: Option<u64>,
    /// Its block height.
    pub height: Option<u64>,
    /// Whether a cron sent it.
    pub is_cron: bool,
    /// Whether nothing may come of it.
    pub is_dry: bool,
    /// Its tags.
    pub tags: Vec<TagText>,
}

/// What a pump did.
#[derive(Default)]
pub struct Pumped {
    /// What was delivered, with what came of it.
    pub delivered: Vec<(Message, Outcome)>,
    /// What nobody here takes.
    pub unknown: Vec<Message>,
    /// Processes that were made.
    pub spawned: Vec<u64>,
    /// What could not be sent, and why.
    pub dropped: Vec<String>,
}

impl World {
    /// Sends a message to a process.
    ///
    /// # Errors
    /// If the process is gone, or the engine failed. What the process itself says is in the outcome.
    pub fn send(&mut self, serial: u64, draft: Draft) -> Result<Outcome, String> {
        let index = self.at(serial)?;
        if draft.is_dry {
            let stand = self.stand();
            let mut message = self.compose(index, draft);
            self.stand_at(stand);
            message.read_only = true;
            return self.processes[index].dry(&message);
        }
        let message = self.compose(index, draft);
        self.deliver(index, message)
    }

    fn compose(&mut self, index: usize, draft: Draft) -> Message {
        let process = &mut self.processes[index];
        let (id, slot) = (process.id.clone(), process.slot());
        let from = draft.from.unwrap_or_else(|| process.owner.clone());
        let is_process = self.find(&from).is_some();
        let signer = if is_process {
            wallet("authority")
        } else {
            from.clone()
        };
        let owner = draft.owner.unwrap_or(signer);
        let mut tags = draft.tags;
        let given = |tags: &[TagText], name: &str| tags.iter().any(|tag| tag.name == name);
        let is_forwarded = owner != from;
        if is_forwarded && !given(&tags, "From-Process") {
            tags.push(TagText::new("From-Process", &from));
        }
        for (name, value) in [
            ("Data-Protocol", "ao"),
            ("Variant", "ao.TN.1"),
            ("Type", "Message"),
        ] {
            if !given(&tags, name) {
                tags.push(TagText::new(name, value));
            }
        }
        tags.retain(|tag| !is_reserved(&tag.name));
        self.clock_ms = self.clock_ms.max(draft.timestamp_ms.unwrap_or(0));
        let mut message = self.stamped(slot);
        message.id = draft.id.unwrap_or(message.id);
        message.block_height = draft.height.unwrap_or(message.block_height);
        Message {
            data: draft.data.unwrap_or_else(|| " ".into()),
            target: draft.target.unwrap_or(id),
            anchor: draft.anchor,
            forwarded_by: is_forwarded.then(|| owner.clone()),
            owner,
            from,
            tags,
            cron: draft.is_cron,
            ..message
        }
    }

    fn deliver(&mut self, index: usize, message: Message) -> Result<Outcome, String> {
        let depth = self.depth();
        let process = &mut self.processes[index];
        let id = process.id.clone();
        let outcome = process.send(&message, depth)?;
        self.items.push(Rc::new(message));
        self.collect(&id, &outcome)?;
        Ok(outcome)
    }

    /// Evaluates Lua as the owner.
    ///
    /// # Errors
    /// What the process says is wrong, with the place.
    pub fn eval(&mut self, serial: u64, code: &str) -> Result<Outcome, String> {
        let draft = Draft {
            data: Some(code.to_owned()),
            tags: vec![TagText::new("Action", "Eval")],
            ..Draft::default()
        };
        let outcome = self.send(serial, draft)?;
        error_text(&outcome).map_or(Ok(outcome), Err)
    }

    /// Evaluates Lua that reads, on a fork.
    ///
    /// # Errors
    /// What the process says is wrong, with the place.
    pub fn read(&mut self, serial: u64, code: &str) -> Result<String, String> {
        let index = self.at(serial)?;
        let (clock_ms, height) = (self.clock_ms, self.height);
        let process = &mut self.processes[index];
        let message = eval_message(&process.id, &process.owner, code, clock_ms, height);
        let outcome = process.dry(&message)?;
        error_text(&outcome).map_or_else(|| printed(&outcome), Err)
    }

    /// Puts what an outcome sends on its way.
    pub(super) fn collect(&mut self, from: &str, outcome: &Outcome) -> Result<(), String> {
        let from = from.to_owned();
        for message in entries::<OutMessage>(&outcome.messages)? {
            let message = Rc::new(message);
            let assigned = assigned(&message);
            self.queue.push_back(Parcel::Message {
                from: from.clone(),
                message,
            });
            // The id is not known before it is sent: the parcel behind it is about the newest message.
            for process in assigned {
                self.queue.push_back(Parcel::Assign {
                    process,
                    item: String::new(),
                });
            }
        }
        for message in entries::<OutMessage>(&outcome.spawns)? {
            self.queue.push_back(Parcel::Spawn {
                from: from.clone(),
                message: Rc::new(message),
            });
        }
        for assignment in entries::<OutAssignment>(&outcome.assignments)? {
            let item = assignment.message.unwrap_or_default();
            let parcel = |process| Parcel::Assign {
                process,
                item: item.clone(),
            };
            self.queue.extend(assignment.processes.into_iter().map(parcel));
        }
        match self.queue.len() > QUEUE_MAX {
            true => Err(format!("more than {QUEUE_MAX} messages wait for a pump")),
            false => Ok(()),
        }
    }

    /// Delivers what is on its way, and what comes of that, until nothing is.
    ///
    /// # Errors
    /// If more than `bound` things were delivered, or the engine failed.
    pub fn pump(&mut self, bound: usize) -> Result<Pumped, String> {
        let mut pumped = Pumped::default();
        let mut turns = 0;
        let mut newest = None;
        while let Some(parcel) = self.queue.pop_front() {
            turns += 1;
            if turns > bound {
                let waiting = self.queue.len() + 1;
                return Err(format!(
                    "pump delivered {bound} messages and {waiting} still wait: do processes answer each other for ever? (pump(N) sets the bound)"
                ));
            }
            match parcel {
                Parcel::Message { from, message } => newest = self.push(&from, &message, &mut pumped)?,
                Parcel::Spawn { from, message } => self.push_spawn(&from, &message, &mut pumped)?,
                Parcel::Assign { process, item } => {
                    let item = if item.is_empty() {
                        newest.clone()
                    } else {
                        Some(item)
                    };
                    self.push_assignment(&process, item, &mut pumped)?;
                }
            }
        }
        Ok(pumped)
    }

    /// Delivers a message of a process; answers its id.
    fn push(
        &mut self,
        from: &str,
        message: &OutMessage,
        pumped: &mut Pumped,
    ) -> Result<Option<String>, String> {
        let Some(target) = message
            .target
            .clone()
            .map(|target| target.0)
            .filter(|target| !target.is_empty())
        else {
            pumped.dropped.push(format!("a message of {from} has no Target"));
            return Ok(None);
        };
        let index = self.find(&target);
        let slot = index.map_or(0, |index| self.processes[index].slot());
        let mut tags = self.pushed_tags("Message", from);
        tags.extend(custom(message));
        let message = Message {
            data: data(message),
            anchor: message.anchor.clone().map(|anchor| anchor.0),
            ..self.pushed(from, target, tags, slot)
        };
        let id = message.id.clone();
        let Some(index) = index else {
            self.items.push(Rc::new(message.clone()));
            pumped.unknown.push(message);
            return Ok(Some(id));
        };
        let outcome = self.deliver(index, message.clone())?;
        pumped.delivered.push((message, outcome));
        Ok(Some(id))
    }

    fn pushed_tags(&mut self, kind: &str, from: &str) -> Vec<TagText> {
        let module = self
            .find(from)
            .map(|index| self.processes[index].module.id.clone());
        vec![
            TagText::new("Data-Protocol", "ao"),
            TagText::new("Type", kind),
            TagText::new("From-Process", from),
            TagText::new("From-Module", module.unwrap_or_default()),
        ]
    }

    fn pushed(&mut self, from: &str, target: String, mut tags: Vec<TagText>, slot: u64) -> Message {
        tags.retain(|tag| !is_reserved(&tag.name));
        let authority = wallet("authority");
        Message {
            owner: authority.clone(),
            from: from.to_owned(),
            forwarded_by: Some(authority),
            target,
            tags,
            ..self.stamped(slot)
        }
    }

    /// Makes a process that a process asked for, and tells it.
    fn push_spawn(&mut self, from: &str, spawn: &OutMessage, pumped: &mut Pumped) -> Result<(), String> {
        let tags: Vec<TagText> = custom(spawn).collect();
        let named = |name: &str| {
            tags.iter()
                .find(|tag| tag.name == name)
                .map(|tag| tag.value.clone())
        };
        let module = named("Module").unwrap_or_default();
        let Some(loaded) = self
            .processes
            .iter()
            .find(|p| p.module.id == module)
            .map(|p| p.module.clone())
        else {
            let text = format!("{from} spawns a process of module `{module}`, which no process here runs");
            pumped.dropped.push(text);
            return Ok(());
        };
        let birth = Birth {
            name: named("Name"),
            owner: None,
            parent: Some(from.to_owned()),
            data: Some(data(spawn)),
            tags: tags.clone(),
        };
        let serial = self.spawn_loaded(&birth, &loaded, &[])?;
        pumped.spawned.push(serial);
        let child = self.processes[self.at(serial)?].id.clone();
        let mut told = vec![TagText::new("Action", "Spawned"), TagText::new("Process", child)];
        told.splice(0..0, self.pushed_tags("Message", from));
        let kept = tags
            .into_iter()
            .filter(|tag| tag.name != "Action" && tag.name != "Process");
        told.extend(kept);
        let Some(index) = self.find(from) else {
            return Ok(());
        };
        let slot = self.processes[index].slot();
        let message = Message {
            data: " ".into(),
            ..self.pushed(from, from.to_owned(), told, slot)
        };
        let outcome = self.deliver(index, message.clone())?;
        pumped.delivered.push((message, outcome));
        Ok(())
    }

    fn push_assignment(
        &mut self,
        process: &str,
        item: Option<String>,
        pumped: &mut Pumped,
    ) -> Result<(), String> {
        let item = item.unwrap_or_default();
        let known = self.items.iter().rev().find(|known| known.id == item).cloned();
        let (Some(index), Some(known)) = (self.find(process), known) else {
            let text = format!("message `{item}` is assigned to `{process}`: one of them is not known here");
            pumped.dropped.push(text);
            return Ok(());
        };
        let slot = self.processes[index].slot();
        let stamp = self.stamped(slot);
        let message = Message {
            nonce: stamp.nonce,
            timestamp: stamp.timestamp,
            block_height: stamp.block_height,
            hash_chain: stamp.hash_chain,
            ..(*known).clone()
        };
        let outcome = self.deliver(index, message.clone())?;
        pumped.delivered.push((message, outcome));
        Ok(())
    }
}

/// The entries of a part of an outcome; an empty table is written in several ways.
fn entries<T: DeserializeOwned>(part: &RawValue) -> Result<Vec<T>, String> {
    match part.get() {
        "{}" | "null" | "\"\"" => Ok(Vec::new()),
        json => serde_json::from_str(json)
            .map_err(|error| format!("the process's outbox is not well formed: {error}")),
    }
}

fn data(message: &OutMessage) -> String {
    let data = message.data.as_ref().map(|data| data.0.clone());
    data.filter(|data| !data.is_empty()).unwrap_or_else(|| " ".into())
}

/// The process's own tags.
fn custom(message: &OutMessage) -> impl Iterator<Item = TagText> + '_ {
    let text = |tag: &OutTag| match (&tag.name, &tag.value) {
        (Some(name), OutValue::Scalar(value)) => Some(TagText::new(&name.0, &value.0)),
        _ => None,
    };
    let tags = message.tags.0.iter().filter_map(text);
    tags.filter(|tag| !MESSENGERS.contains(&tag.name.as_str()))
}

/// The processes that the tag `Assignments` names.
fn assigned(message: &OutMessage) -> Vec<String> {
    let is_it = |tag: &&OutTag| tag.name.as_ref().is_some_and(|name| name.0 == "Assignments");
    match message.tags.0.iter().find(is_it).map(|tag| &tag.value) {
        Some(OutValue::List(list)) => list.iter().map(|scalar| scalar.0.clone()).collect(),
        Some(OutValue::Scalar(Scalar(text))) => serde_json::from_str(text)
            .unwrap_or_else(|_| text.split(',').map(|part| part.trim().to_owned()).collect()),
        _ => Vec::new(),
    }
}

/// What an outcome prints, as text: `Output` is a text, or a table that has it under `data` or `output`.
pub fn printed(outcome: &Outcome) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Table<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        #[serde(borrow)]
        output: Option<&'a RawValue>,
    }
    let mut json = outcome.output.get();
    while let Ok(table) = serde_json::from_str::<Table<'_>>(json) {
        match table.data.or(table.output) {
            Some(inner) => json = inner.get(),
            None => break,
        }
    }
    serde_json::from_str(json)
        .map_err(|_| format!("the process printed nothing to read: {}", outcome.output.get()))
}
