//! The way of a message: what it caused, slot by slot, as a tree.
//!
//! Read from the log: a pushed item carries the place of the outbox entry it comes from, so the tree is
//! there after any restart, and for messages still in flight as far as they have come. Not here: pushing.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;
use spec::contract::{Answer, Evaluated, Query, Stored, TagFilter, TraceQuery};
use spec::{ItemId, Outcome, ProcessId, Tag};

use crate::error::Problem;
use crate::node::Node;
use crate::render::{Style, safe, shown};
use crate::session::Session;

/// Deepest branch that is followed.
pub const DEPTH_MAX: usize = 32;
/// Most messages of one tree.
pub const NODES_MAX: usize = 500;
/// How long a message may be in flight before the tree says so and goes on, in ms.
const WAIT_MS: u64 = 2_000;
/// The tag that names the outbox entry a pushed item comes from.
const FROM_SLOT: &str = "From-Slot";

/// A message and what it caused.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Trace {
    /// The item; `None` for what was not delivered.
    pub id: Option<ItemId>,
    /// Whom it is for, as the sender wrote it.
    pub to: String,
    /// What it asks for: its tag `Action`, or its kind.
    pub label: String,
    /// Where it stands.
    pub state: State,
    /// Its slot in the log of the process it is for.
    pub slot: Option<u64>,
    /// From the cause's slot to this one, in ms.
    pub latency_ms: Option<u64>,
    /// What came of it, in one line.
    pub result: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// What the messenger noted about it.
    pub notes: Vec<String>,
    /// What it caused, in the outbox's order.
    pub children: Vec<Trace>,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In an outbox, and not yet anywhere else.
    #[default]
    Pushing,
    /// It has a slot, and no outcome yet.
    Scheduled,
    /// It was evaluated.
    Evaluated,
    /// It is for no process, and kept.
    Stored,
    /// The tree ends here: too deep, or too large.
    Cut,
}

/// An entry of an outbox, as far as a tree shows it.
#[derive(serde::Deserialize)]
struct Entry {
    #[serde(rename = "Target", default)]
    target: Option<serde_json::Value>,
    #[serde(rename = "Tags", default)]
    tags: serde_json::Value,
}

/// Follows a message of a process.
///
/// # Errors
/// If the process or message is unknown.
pub async fn trace(node: &Node, process: ProcessId, message: ItemId) -> Answer<Trace> {
    let stored = node.permanent.fetch(message).await?;
    let mut left = NODES_MAX;
    Ok(follow(node, process, &stored, None, DEPTH_MAX, &mut left).await)
}

/// The same as text for people, for a message of a session's process.
///
/// # Errors
/// If the message is unknown.
pub async fn tree(session: &Session, message: ItemId) -> Answer<String> {
    let style = Style::for_output(std::io::stdout().is_terminal());
    Ok(trace(&session.node, session.process, message)
        .await?
        .render(style))
}

/// The process that a message is in the log of: its target, or itself.
///
/// # Errors
/// If nothing is known under the id, or it is for no process.
pub async fn process_of(node: &Node, message: ItemId) -> Answer<ProcessId> {
    let stored = node.permanent.fetch(message).await?;
    match target_of(&stored) {
        Some(process) => Ok(process),
        None => Err(spec::Refusal::invalid(
            "no-process",
            format!("{message} is for no process"),
        )),
    }
}

fn target_of(stored: &Stored) -> Option<ProcessId> {
    let item = stored.item()?;
    match item.tag("Type") {
        Some("Process") => Some(item.id().into()),
        _ => item.target().map(|target| ProcessId(*target)),
    }
}

async fn follow(
    node: &Node,
    process: ProcessId,
    stored: &Stored,
    cause_ms: Option<u64>,
    depth: usize,
    left: &mut usize,
) -> Trace {
    let id = stored.id();
    let mut trace = Trace {
        id: Some(id),
        to: process.to_string(),
        label: label(&stored.tags()),
        notes: notes(node, id).await,
        ..Trace::default()
    };
    let wait = Duration::from_millis(WAIT_MS);
    let at = match tokio::time::timeout(wait, node.compute.result(process, id)).await {
        Ok(Ok(at)) => at,
        Ok(Err(refusal)) => {
            trace.state = State::Scheduled;
            trace.error = Some(refusal.text);
            return trace;
        }
        Err(_) => {
            trace.state = State::Scheduled;
            return trace;
        }
    };
    trace.evaluated(&at, cause_ms);
    trace.children = children(node, process, &at, depth, left).await;
    trace
}

impl Trace {
    fn evaluated(&mut self, at: &Evaluated, cause_ms: Option<u64>) {
        self.state = State::Evaluated;
        self.slot = Some(at.slot);
        self.latency_ms = cause_ms.map(|cause| at.tick.timestamp_ms.saturating_sub(cause));
        let shown = shown(&at.outcome);
        self.error = shown
            .error
            .as_deref()
            .map(|text| Problem::of_text(text, None).what);
        self.result = shown
            .text
            .as_deref()
            .and_then(|text| text.lines().next())
            .map(str::to_owned);
    }
}

/// What an outcome sent, in the order of its outbox: messages, spawns, assignments.
async fn children(
    node: &Node,
    process: ProcessId,
    at: &Evaluated,
    depth: usize,
    left: &mut usize,
) -> Vec<Trace> {
    let entries = outbox(&at.outcome);
    let sent = sent(node, process, at.slot, entries.len()).await;
    let mut children = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        if depth == 0 || *left == 0 {
            children.push(Trace {
                state: State::Cut,
                ..entry
            });
            break;
        }
        *left -= 1;
        let place = format!("{}.{index}", at.slot);
        let is_it = |stored: &&Stored| spec::tags::first(&stored.tags(), FROM_SLOT) == Some(&place);
        let child = match sent.iter().find(is_it) {
            None => entry,
            Some(stored) => match target_of(stored) {
                Some(target) => {
                    let cause = Some(at.tick.timestamp_ms);
                    Box::pin(follow(node, target, stored, cause, depth - 1, left)).await
                }
                None => Trace {
                    id: Some(stored.id()),
                    state: State::Stored,
                    ..entry
                },
            },
        };
        children.push(child);
    }
    children
}

/// The entries of an outbox, before anything is known of their way.
fn outbox(outcome: &Outcome) -> Vec<Trace> {
    let parts = [
        (&outcome.messages, "message"),
        (&outcome.spawns, "spawn"),
        (&outcome.assignments, "assignment"),
    ];
    let mut all = Vec::new();
    for (json, kind) in parts {
        let entries: Vec<Entry> = serde_json::from_str(json.get()).unwrap_or_default();
        all.extend(entries.into_iter().map(|entry| {
            let action = action_of(&entry.tags);
            let to = entry.target.map(|target| match target {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            });
            Trace {
                to: to.unwrap_or_default(),
                label: action.unwrap_or_else(|| kind.to_owned()),
                ..Trace::default()
            }
        }));
    }
    all
}

fn action_of(tags: &serde_json::Value) -> Option<String> {
    let is_action = |tag: &&serde_json::Value| tag["name"] == "Action";
    let action = tags.as_array()?.iter().find(is_action)?;
    action["value"].as_str().map(str::to_owned)
}

/// The items that the entries of a slot's outbox became. A lookup that fails shows them as on their way.
async fn sent(node: &Node, process: ProcessId, slot: u64, count: usize) -> Vec<Stored> {
    let places: Vec<String> = (0..count.min(NODES_MAX))
        .map(|index| format!("{slot}.{index}"))
        .collect();
    let mut found = Vec::new();
    for some in places.chunks(100) {
        let filter = |name: &str, values: Vec<String>| TagFilter {
            name: name.to_owned(),
            values,
        };
        let query = Query {
            tags: vec![
                filter("From-Process", vec![process.to_string()]),
                filter(FROM_SLOT, some.to_vec()),
            ],
            first: 100,
            ..Query::default()
        };
        if let Ok(page) = node.permanent.find(query).await {
            found.extend(page.hits.into_iter().map(|hit| hit.stored));
        }
    }
    found
}

/// What the messenger noted, oldest first; nothing from nodes that keep no notes.
async fn notes(node: &Node, item: ItemId) -> Vec<String> {
    let query = TraceQuery {
        item: Some(item),
        page: 1,
        page_size: 20,
        ..TraceQuery::default()
    };
    let page = node.messenger.traces(query).await.unwrap_or_default();
    let logs = page.traces.into_iter().rev().flat_map(|trace| trace.logs);
    logs.filter(|log| log != "scheduled").collect()
}

fn label(tags: &[Tag]) -> String {
    let text = |name| spec::tags::first(tags, name);
    text("Action").or(text("Type")).unwrap_or("message").to_owned()
}

impl Trace {
    /// The tree for a terminal.
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        self.write(&mut out, style, "", "");
        out
    }

    fn write(&self, out: &mut String, style: Style, first: &str, rest: &str) {
        let _ = writeln!(out, "{first}{}", self.line(style));
        let plain = |text: &str| safe(text, Style::default());
        if let Some(error) = &self.error {
            let _ = writeln!(
                out,
                "{rest}  {}",
                style.paint("31", &format!("error: {}", plain(error)))
            );
        }
        for note in &self.notes {
            let _ = writeln!(out, "{rest}  note: {}", plain(note));
        }
        for (index, child) in self.children.iter().enumerate() {
            let is_last = index + 1 == self.children.len();
            let (branch, trunk) = if is_last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            child.write(out, style, &format!("{rest}{branch}"), &format!("{rest}{trunk}"));
        }
    }

    fn line(&self, style: Style) -> String {
        let plain = |text: &str| safe(text, Style::default());
        let mut line = format!(
            "{} -> {}",
            style.paint("1", &plain(&self.label)),
            short(&plain(&self.to))
        );
        if let Some(slot) = self.slot {
            let _ = write!(line, "  slot {slot}");
        }
        if let Some(ms) = self.latency_ms {
            let _ = write!(line, "  +{ms} ms");
        }
        match self.state {
            State::Pushing => line.push_str("  on its way"),
            State::Scheduled => line.push_str("  not evaluated yet"),
            State::Stored => line.push_str("  kept: its target is no process"),
            State::Cut => line.push_str("  (and more)"),
            State::Evaluated => {}
        }
        if let Some(result) = &self.result {
            let _ = write!(line, "  = {}", cut(&plain(result)));
        }
        if let Some(id) = self.id {
            let _ = write!(line, "  {}", style.paint("2", &id.to_string()));
        }
        line
    }
}

/// An id as its ends; anything else whole.
fn short(text: &str) -> String {
    match text.len() == 43 && text.is_ascii() {
        true => format!("{}…{}", &text[..6], &text[39..]),
        false => cut(text),
    }
}

fn cut(text: &str) -> String {
    match text.chars().count() > 60 {
        true => text.chars().take(59).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_reads_like_one() {
        let leaf = Trace {
            id: Some(ItemId([7; 32])),
            to: ItemId([8; 32]).to_string(),
            label: "Credit-Notice".into(),
            state: State::Evaluated,
            slot: Some(4),
            latency_ms: Some(3),
            error: Some("boom \u{1b}[2J".into()),
            ..Trace::default()
        };
        let waiting = Trace {
            to: "0xabc".into(),
            label: "Debit-Notice".into(),
            ..Trace::default()
        };
        let root = Trace {
            children: vec![leaf, waiting],
            label: "Transfer".into(),
            to: "bank".into(),
            slot: Some(2),
            state: State::Evaluated,
            result: Some("sent".into()),
            ..Trace::default()
        };
        insta::assert_snapshot!(root.render(Style::default()), @r#"
        Transfer -> bank  slot 2  = sent
        ├─ Credit-Notice -> CAgICA…ICAg  slot 4  +3 ms  BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc
        │    error: boom ␛[2J
        └─ Debit-Notice -> 0xabc  on its way
        "#);
    }

    #[test]
    fn an_outbox_is_read_in_its_order() {
        let json = r#"{"Messages":[{"Target":"T","Tags":[{"name":"Action","value":"A"}]}],"Spawns":[{"Tags":{}}],
            "Assignments":[{"Processes":["P"]}],"Output":""}"#;
        let entries = outbox(&serde_json::from_str(json).unwrap());
        let labels: Vec<_> = entries.iter().map(|entry| entry.label.as_str()).collect();
        assert_eq!(labels, ["A", "spawn", "assignment"]);
    }
}
