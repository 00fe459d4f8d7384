//! A process somebody works with: finding or spawning it, and talking to it under one key.
//!
//! The invariants: a lookup that fails never spawns; what is signed as Lua is a [`Chunk`], so it compiles.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use spec::contract::{Answer, DryRun, Evaluated, Query, TagFilter};
use spec::ids::base64url;
use spec::{Address, DataItem, ItemId, ItemParts, ModuleId, Outcome, ProcessId, Refusal, Signer, Tag, Tags};

use crate::lua::Chunk;
use crate::node::Node;

/// Most processes listed of one account.
pub const PROCESSES_MAX: usize = 1_000;
/// What names the program on the processes that it spawns.
const APP_NAME: &str = "weft";

/// Somebody at work with a process.
#[derive(Clone)]
pub struct Session {
    /// The node that both are on.
    pub node: Arc<Node>,
    /// The process.
    pub process: ProcessId,
    /// Whose messages these are.
    pub signer: Arc<Signer>,
    /// The process's name; its id where it has none.
    pub name: String,
}

/// A process of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: ProcessId,
    /// Its tag `Name`, or empty.
    pub name: String,
    /// Its module.
    pub module: Option<ModuleId>,
}

impl Session {
    /// Makes a process and waits until it has booted.
    ///
    /// # Errors
    /// What the node refuses, and what went wrong in the boot.
    pub async fn spawn(
        node: Arc<Node>,
        signer: Arc<Signer>,
        name: &str,
        module: ModuleId,
        tags: Tags,
        data: Bytes,
    ) -> Answer<Session> {
        let item = process_item(&node, &signer, name, module, tags, data)?;
        let process = ProcessId::from(item.id());
        node.messenger.push(item).await?;
        let session = Session::of(node, signer, process, name);
        session.result(process.into()).await?;
        Ok(session)
    }

    /// A session with a process whose id is known.
    pub fn of(node: Arc<Node>, signer: Arc<Signer>, process: ProcessId, name: &str) -> Session {
        let name = match name {
            "" => process.to_string(),
            name => name.to_owned(),
        };
        Session {
            node,
            process,
            signer,
            name,
        }
    }

    /// The newest process of an owner with a name. `None` means that there is none; a lookup that
    /// failed is an error.
    ///
    /// # Errors
    /// If the weave cannot be asked.
    pub async fn find(node: &Node, owner: Address, name: &str) -> Answer<Option<ProcessId>> {
        let query = Query {
            tags: filters(&[("Data-Protocol", "ao"), ("Type", "Process"), ("Name", name)]),
            owners: vec![owner],
            first: 1,
            ..Query::default()
        };
        let hits = node.permanent.find(query).await?.hits;
        Ok(hits.first().map(|hit| ProcessId::from(hit.stored.id())))
    }

    /// A session with the process that a text names: an id, or the name of one of the signer's own.
    ///
    /// # Errors
    /// If there is none, or the lookup failed.
    pub async fn open(node: Arc<Node>, signer: Arc<Signer>, name_or_id: &str) -> Answer<Session> {
        if let Ok(id) = name_or_id.parse::<ProcessId>() {
            let stored = node.permanent.fetch(id.into()).await?;
            let is_process = |tag: &&Tag| tag.name == "Type" && tag.value == "Process";
            let tags = stored.tags();
            if tags.iter().find(is_process).is_none() {
                let text = format!("{id} is an item, but no process");
                return Err(Refusal::invalid("no-process", text));
            }
            let name = spec::tags::first(&tags, "Name").unwrap_or("").to_owned();
            return Ok(Session::of(node, signer, id, &name));
        }
        match Session::find(&node, signer.address(), name_or_id).await? {
            Some(id) => Ok(Session::of(node, signer, id, name_or_id)),
            None => {
                let text = format!("{} has no process named `{name_or_id}`", signer.address());
                Err(Refusal::not_found("unknown-name", text))
            }
        }
    }

    /// Signs a chunk as an evaluation, schedules it, and waits for what comes of it.
    ///
    /// # Errors
    /// What the node refuses. What goes wrong in the process is in the outcome.
    pub async fn eval(&self, chunk: &Chunk) -> Answer<Evaluated> {
        let tags = vec![Tag::new("Action", "Eval")];
        let id = self
            .send(self.process, tags, Bytes::from(chunk.source().to_owned()))
            .await?;
        self.result(id).await
    }

    /// Evaluates a chunk without scheduling it; nothing changes.
    ///
    /// # Errors
    /// What the node refuses.
    pub async fn dry(&self, chunk: &Chunk) -> Answer<Arc<Outcome>> {
        let tags = vec![Tag::new("Action", "Eval")];
        self.dry_message(self.process, &tags, chunk.source()).await
    }

    /// Sends a message to any process; its id.
    ///
    /// # Errors
    /// What the node refuses.
    pub async fn send(&self, target: ProcessId, tags: Tags, data: Bytes) -> Answer<ItemId> {
        let parts = ItemParts {
            target: Some(target.0),
            anchor: None,
            tags: with_protocol("Message", tags),
            data,
        };
        let item = sign(parts, &self.signer)?;
        Ok(self.node.messenger.push(item).await?.id)
    }

    /// Shows a process a message without scheduling it.
    ///
    /// # Errors
    /// What the node refuses.
    pub async fn dry_message(&self, target: ProcessId, tags: &[Tag], data: &str) -> Answer<Arc<Outcome>> {
        let all = with_protocol("Message", tags.to_vec());
        let tags: Vec<_> = all
            .iter()
            .map(|tag| serde_json::json!({ "name": tag.name_text(), "value": tag.value_text() }))
            .collect();
        let owner = self.signer.address().to_string();
        let message = serde_json::json!({
            "Id": base64url(&[0; 32]), "Target": target, "Owner": owner, "From": owner,
            "Anchor": "0", "Data": data, "Tags": tags,
        });
        let message = RawValue::from_string(message.to_string());
        let message = message.map_err(|error| Refusal::internal(error.to_string()))?;
        self.node
            .compute
            .dry_run(target, DryRun { message, to: None })
            .await
    }

    /// What came of a message to the process. Waits until it is evaluated.
    ///
    /// # Errors
    /// What the node refuses.
    pub async fn result(&self, message: ItemId) -> Answer<Evaluated> {
        loop {
            match self.node.compute.result(self.process, message).await {
                // The unit has evaluated as much as one request may wait for, and goes on when asked again.
                Err(refusal) if refusal.code == "evaluations-due" => {}
                answer => return answer,
            }
        }
    }

    /// Lets the messenger push what the process's crons send, or stops it.
    ///
    /// # Errors
    /// What the node refuses.
    pub async fn monitor(&self, is_on: bool) -> Answer<()> {
        let parts = ItemParts {
            anchor: Some(fresh_anchor()?),
            ..ItemParts::default()
        };
        let proof = DataItem::sign(&parts, &self.signer)?;
        match is_on {
            true => self.node.messenger.monitor(self.process, proof).await,
            false => self.node.messenger.unmonitor(self.process, proof).await,
        }
    }

    /// The processes of an account, newest first.
    ///
    /// # Errors
    /// If the weave cannot be asked.
    pub async fn list(node: &Node, owner: Option<Address>) -> Answer<Vec<Listed>> {
        let mut query = Query {
            tags: filters(&[("Data-Protocol", "ao"), ("Type", "Process")]),
            owners: owner.into_iter().collect(),
            first: 100,
            ..Query::default()
        };
        let mut found = Vec::new();
        loop {
            let page = node.permanent.find(query.clone()).await?;
            query.after = page.hits.last().map(|hit| hit.cursor.clone());
            found.extend(
                page.hits
                    .iter()
                    .map(|hit| listed(hit.stored.id(), &hit.stored.tags())),
            );
            if !page.has_next_page || query.after.is_none() || found.len() >= PROCESSES_MAX {
                return Ok(found);
            }
        }
    }
}

fn listed(id: ItemId, tags: &[Tag]) -> Listed {
    let text = |name| spec::tags::first(tags, name).unwrap_or("");
    Listed {
        id: id.into(),
        name: text("Name").to_owned(),
        module: text("Module").parse().ok(),
    }
}

fn filters(pairs: &[(&str, &str)]) -> Vec<TagFilter> {
    let filter = |(name, value): &(&str, &str)| TagFilter {
        name: (*name).to_owned(),
        values: vec![(*value).to_owned()],
    };
    pairs.iter().map(filter).collect()
}

/// The item that makes a process. Its own tags stand before those that every process has.
fn process_item(
    node: &Node,
    signer: &Signer,
    name: &str,
    module: ModuleId,
    tags: Tags,
    data: Bytes,
) -> Answer<DataItem> {
    let mut all = vec![Tag::new("App-Name", APP_NAME), Tag::new("Name", name)];
    let has = |name: &str| tags.iter().any(|tag| tag.name == name.as_bytes());
    if !has("Authority") {
        all.push(Tag::new("Authority", node.facts.authority.to_string()));
    }
    if !has("Scheduler") {
        all.push(Tag::new("Scheduler", node.facts.scheduler.to_string()));
    }
    all.push(Tag::new("Module", module.to_string()));
    all.extend(tags);
    let parts = ItemParts {
        target: None,
        anchor: None,
        tags: with_protocol("Process", all),
        data,
    };
    sign(parts, signer)
}

/// Signs under a fresh anchor, again if need be until the id can be given to a command: one that begins
/// with a dash reads as a flag.
fn sign(mut parts: ItemParts, signer: &Signer) -> Answer<DataItem> {
    loop {
        parts.anchor = Some(fresh_anchor()?);
        let item = DataItem::sign(&parts, signer)?;
        // The first six bits of 62 are written `-`.
        if item.id().bytes()[0] >> 2 != 62 {
            return Ok(item);
        }
    }
}

/// The tags that make an item one of ao's, after its own.
fn with_protocol(kind: &str, mut tags: Tags) -> Tags {
    tags.push(Tag::new("Data-Protocol", "ao"));
    tags.push(Tag::new("Variant", "ao.TN.1"));
    tags.push(Tag::new("Type", kind));
    tags
}

/// The same text sent twice is two messages: a signature alone would make them one.
fn fresh_anchor() -> Answer<[u8; 32]> {
    let mut anchor = [0; 32];
    getrandom::fill(&mut anchor).map_err(|e| Refusal::internal(format!("no randomness: {e}")))?;
    // Processes see the anchor as text.
    for byte in &mut anchor {
        *byte = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[usize::from(*byte & 63)];
    }
    Ok(anchor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_of_ours_reads_as_a_flag() {
        let signer = Signer::ed25519(&[1; 32]);
        for _ in 0..300 {
            let item = sign(ItemParts::default(), &signer).unwrap();
            assert!(!item.id().to_string().starts_with('-'));
        }
    }
}
