//! How processes come into the world of a spec: booted, loaded, and forked from one of the same kind if there is one.
//! Not here: what happens to them then.

use std::path::Path;
use std::sync::Arc;

use cu::eval;
use cu::runtime::{Limits, Machine};
use spec::Outcome;

use super::bundle::{self, Source};
use super::coverage::Coverage;
use super::message::{self, Message, TagText};
use super::modules::Loaded;
use super::process::{Parts, Process};
use super::world::{Image, World, eval_message, id_of, wallet};

/// Most processes of a file at one time.
const PROCESSES_MAX: usize = 1_000;
/// Booted and loaded processes kept to fork new ones from.
const IMAGES_MAX: usize = 64;
/// Tags of a process that a spawn's own tags replace.
const ALWAYS: [&str; 6] = [
    "Data-Protocol",
    "Variant",
    "Type",
    "Module",
    "Scheduler",
    "Authority",
];

/// What a spec says of a new process.
#[derive(Default)]
pub struct Birth {
    /// Its name.
    pub name: Option<String>,
    /// Who owns it.
    pub owner: Option<String>,
    /// Tags beyond those every process has.
    pub tags: Vec<TagText>,
    /// The process that makes it.
    pub parent: Option<String>,
    /// The data of its process item.
    pub data: Option<String>,
}

/// An error outcome's text.
pub fn error_text(outcome: &Outcome) -> Option<String> {
    let raw = outcome.error.as_ref()?.get();
    let text = serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned());
    Some(without_colours(&text).trim().to_owned())
}

/// Without escape sequences such as `ESC [ 31 m`.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic());
        out.push_str(end.map_or("", |end| &part[end + 1..]));
    }
    out
}

impl World {
    /// Makes a process, boots it and loads files into it. Answers how specs hold it.
    ///
    /// # Errors
    /// If the module cannot be loaded, or the boot or a file fails: with the place, as the process told it.
    pub fn spawn(&mut self, birth: &Birth, module: Option<&Path>, sources: &[Source]) -> Result<u64, String> {
        let loaded = self.modules.get(module)?;
        self.spawn_loaded(birth, &loaded, sources)
    }

    /// The same, of a module that is there already.
    pub(super) fn spawn_loaded(
        &mut self,
        birth: &Birth,
        loaded: &Arc<Loaded>,
        sources: &[Source],
    ) -> Result<u64, String> {
        if self.processes.len() >= PROCESSES_MAX {
            return Err(format!(
                "a spec file may have {PROCESSES_MAX} processes at one time"
            ));
        }
        let id = self.next_id("process");
        let signer = birth
            .parent
            .as_ref()
            .map_or_else(|| wallet("owner"), |_| wallet("authority"));
        let signer = birth.owner.clone().unwrap_or(signer);
        let tags = process_tags(birth, loaded);
        let env: Arc<[u8]> = message::env(&id, &signer, &tags, &loaded.id, loaded.encoding).into();
        let owner = birth.parent.clone().unwrap_or_else(|| signer.clone());
        let mut messages = vec![self.boot_message(birth, &id, &signer, tags)];
        if !sources.is_empty() {
            messages.push(self.load_message(&id, &owner, sources));
        }
        self.serial += 1;
        let parts = Parts {
            serial: self.serial,
            name: birth.name.clone().unwrap_or_default(),
            id,
            owner,
            module: loaded.clone(),
            env,
        };
        self.born(parts, &messages)?;
        Ok(self.serial)
    }

    /// The process item, as the first message of its own log.
    fn boot_message(&mut self, birth: &Birth, id: &str, signer: &str, tags: Vec<TagText>) -> Message {
        let data = birth.data.clone().unwrap_or_else(|| " ".into());
        Message {
            id: id.to_owned(),
            signature: Some(id_of(id)),
            data,
            from: birth.parent.clone().unwrap_or_else(|| signer.to_owned()),
            forwarded_by: birth.parent.as_ref().map(|_| signer.to_owned()),
            owner: signer.to_owned(),
            target: id.to_owned(),
            tags,
            ..self.stamped(0)
        }
    }

    fn load_message(&mut self, id: &str, owner: &str, sources: &[Source]) -> Message {
        let counts = self.coverage.is_some();
        let code = format!(
            "{}{}",
            if counts { Coverage::ON } else { "" },
            bundle::code(sources)
        );
        let message = eval_message(id, owner, &code, 0, 0);
        Message {
            data: message.data,
            owner: message.owner,
            target: message.target,
            from: message.from,
            tags: message.tags,
            ..self.stamped(1)
        }
    }

    /// The parts of a message that the scheduler gives; the clock goes on.
    pub(super) fn stamped(&mut self, slot: u64) -> Message {
        let id = self.next_id("message");
        let stamped = Message {
            signature: Some(id_of(&format!("signature {id}"))),
            hash_chain: Some(id_of(&format!("chain {id}"))),
            id,
            epoch: Some(0),
            nonce: Some(slot),
            timestamp: self.clock_ms,
            block_height: self.height,
            ..Message::default()
        };
        self.clock_ms += 1;
        stamped
    }

    /// Forks the process from one of the same kind, or runs its first messages.
    fn born(&mut self, parts: Parts, messages: &[Message]) -> Result<(), String> {
        let texts: Vec<Vec<u8>> = messages
            .iter()
            .map(|message| message.encode(parts.module.encoding))
            .collect();
        let mut kind = format!("{} {}", parts.module.id, String::from_utf8_lossy(&parts.env));
        texts
            .iter()
            .for_each(|text| kind.push_str(&String::from_utf8_lossy(text)));
        let kind = id_of(&kind);
        let mut image = match self.images.remove(&kind) {
            Some(image) => image,
            None => self.boot(&parts, &texts)?,
        };
        let machine = image.machine.fork().map_err(|error| error.to_string())?;
        let id = parts.id.clone();
        let (depth, slot, outcomes) = (self.depth(), image.slot, image.outcomes.clone());
        if self.images.len() >= IMAGES_MAX {
            self.images.clear();
        }
        self.images.insert(kind, image);
        self.processes.push(Process::new(parts, depth, machine, slot));
        for outcome in &outcomes {
            self.collect(&id, outcome)?;
        }
        Ok(())
    }

    fn boot(&mut self, parts: &Parts, texts: &[Vec<u8>]) -> Result<Image, String> {
        let mut machine =
            Machine::start(&parts.module.module, Limits::default()).map_err(|error| error.to_string())?;
        let mut outcomes = Vec::new();
        for text in texts {
            let outcome =
                eval::evaluate(&mut machine, text, &parts.env).map_err(|error| error.to_string())?;
            if let Some(text) = error_text(&outcome) {
                return Err(text);
            }
            outcomes.push(outcome);
        }
        if let Some(coverage) = self.coverage.as_mut().filter(|_| texts.len() > 1) {
            let take = eval_message(
                &parts.id,
                &parts.owner,
                Coverage::TAKE,
                self.clock_ms,
                self.height,
            );
            let outcome = eval::evaluate(&mut machine, &take.encode(parts.module.encoding), &parts.env);
            coverage.add(&outcome.map_err(|error| error.to_string())?)?;
        }
        Ok(Image {
            machine,
            slot: texts.len() as u64,
            outcomes,
        })
    }
}

/// The tags of a process item: those of its birth, and what each process has.
fn process_tags(birth: &Birth, loaded: &Loaded) -> Vec<TagText> {
    let values = [
        "ao",
        "ao.TN.1",
        "Process",
        &loaded.id,
        &wallet("scheduler"),
        &wallet("authority"),
    ];
    let is_given = |name: &str| birth.tags.iter().any(|tag| tag.name == name);
    let always = ALWAYS.into_iter().zip(values).filter(|(name, _)| !is_given(name));
    let mut tags: Vec<TagText> = always.map(|(name, value)| TagText::new(name, value)).collect();
    if let Some(parent) = birth.parent.as_ref().filter(|_| !is_given("From-Process")) {
        tags.push(TagText::new("From-Process", parent));
    }
    if let Some(name) = birth.name.as_ref().filter(|_| !is_given("Name")) {
        tags.push(TagText::new("Name", name));
    }
    tags.extend(birth.tags.iter().cloned());
    tags
}
