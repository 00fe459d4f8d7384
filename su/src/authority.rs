//! Under which epoch and by which key slots are given, and what shows a reader that both may be.
//!
//! Read once, when the scheduler is opened; it changes only while nothing runs. Not here: writing
//! such decisions (`resume.rs`, `succeed.rs`). The invariant: a key that the log does not lead to
//! signs nothing, and where epoch or signer change from one slot to the next, the assignment names
//! the items that say why.

use std::sync::Arc;

use spec::contract::Answer;
use spec::{Address, ItemId, ProcessId, Refusal, Resume, Signer, Tag, Tags, resume, succession};
use weave::Position;

use crate::assign::Head;
use crate::clock::Turns;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::note::{Link, Told};

/// Who gives slots.
pub struct Authority {
    signer: Arc<Signer>,
    address: Address,
    epoch: u64,
    /// Resume items of this epoch, each with the first process it tells of; ascending.
    resumes: Vec<(ProcessId, ItemId)>,
    /// The keys so far, oldest first; the last one leads to ours.
    links: Vec<Link>,
}

impl Authority {
    /// A key under the first epoch, with no key before it.
    pub fn first(signer: Arc<Signer>) -> Authority {
        Authority {
            address: signer.address(),
            signer,
            epoch: 0,
            resumes: Vec::new(),
            links: Vec::new(),
        }
    }

    /// What the log says of a key that is to sign.
    ///
    /// # Errors
    /// The log names another key as the scheduler's, or contradicts itself.
    pub fn read(signer: Arc<Signer>, journal: &dyn Journal, turns: Turns) -> Result<Authority> {
        let authority = Authority::told(signer, journal, turns)?;
        match authority.links.last() {
            Some(last) if last.to != authority.address => Err(Error::Key {
                named: last.to,
                given: authority.address,
            }),
            _ => Ok(authority),
        }
    }

    /// What the log says, whoever the key is: for a log that is only read, such as one that was brought back without
    /// its keys.
    ///
    /// # Errors
    /// A log that contradicts itself.
    pub fn told(signer: Arc<Signer>, journal: &dyn Journal, turns: Turns) -> Result<Authority> {
        let mut authority = Authority::first(signer);
        authority.links = links(journal, turns)?;
        if let Some(at) = turns.resumed {
            let (epoch, items) = resumed(journal, at)?;
            authority.epoch = epoch;
            authority.resumes = resume_items(journal, at, &items)?;
        }
        Ok(authority)
    }

    /// The key.
    pub fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    /// The key's account.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The epoch of what it signs.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The accounts before it, oldest first.
    pub fn predecessors(&self) -> Vec<Address> {
        self.links.iter().map(|link| link.from).collect()
    }

    /// The successions from a key to ours; none if it is ours.
    pub fn steps_from(&self, address: Address) -> Option<&[Link]> {
        if address == self.address {
            return Some(&[]);
        }
        let first = self.links.iter().rposition(|link| link.from == address)?;
        Some(&self.links[first..])
    }

    /// Refuses to go on with a log whose last slot was given by a key that does not lead to ours.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self, head: &Head) -> Answer<()> {
        let steps = self.steps_from(head.signer);
        if steps.is_some_and(|steps| steps.len() <= succession::STEPS_MAX) {
            return Ok(());
        }
        let text = format!(
            "the log of {} was scheduled by {}, this node's scheduler is {}: put that key into \
             keys/su.json of the data folder (or name it with --su-key FILE), or have it name its successor with `weft keys succeed`",
            head.process, head.signer, self.address
        );
        Err(Refusal::invalid("other-key", text))
    }

    /// The tags that the next assignment after a head needs: none but at a turn.
    pub fn evidence(&self, head: &Head) -> Tags {
        let mut evidence = Tags::new();
        if head.epoch != self.epoch {
            let after = self.resumes.partition_point(|(first, _)| *first <= head.process);
            // Whatever comes before the first item is told of by none: any of them says so.
            let item = self.resumes.get(after.saturating_sub(1));
            let (_, item) = item.expect("a later epoch has an item");
            evidence.push(Tag::new(resume::TAG, item.to_string()));
        }
        let steps = self.steps_from(head.signer).unwrap_or(&[]);
        let steps = steps
            .iter()
            .map(|link| Tag::new(succession::TAG, link.item.to_string()));
        evidence.extend(steps);
        evidence
    }
}

/// The keys of a log so far, oldest first.
pub fn links(journal: &dyn Journal, turns: Turns) -> Result<Vec<Link>> {
    let Some(at) = turns.succeeded else {
        return Ok(Vec::new());
    };
    match told(journal, at)? {
        Told::Succeeded(links) => Ok(links),
        _ => Err(Error::index(format!("{at:?} holds no succession"))),
    }
}

/// The epoch that a note begins, and its items.
pub fn resumed(journal: &dyn Journal, at: Position) -> Result<(u64, Vec<ItemId>)> {
    match told(journal, at)? {
        Told::Resumed { epoch, items } => Ok((epoch, items)),
        _ => Err(Error::index(format!("{at:?} holds no resumption"))),
    }
}

fn told(journal: &dyn Journal, at: Position) -> Result<Told> {
    let record = journal.read(at)?;
    let told = record.note().map(Told::read).transpose()?.flatten();
    told.ok_or_else(|| Error::index(format!("{at:?} holds no note of the scheduler")))
}

/// The items stand right behind their note.
fn resume_items(journal: &dyn Journal, at: Position, ids: &[ItemId]) -> Result<Vec<(ProcessId, ItemId)>> {
    let mut found = Vec::with_capacity(ids.len());
    for (entry, id) in journal.replay(Some(at)).zip(ids) {
        let (position, record) = entry?;
        let broken = |why: String| Error::corrupt(format!("{position:?}"), why);
        let item = record.item().filter(|item| item.id() == *id);
        let item = item.ok_or_else(|| broken(format!("the resume item {id} is missing")))?;
        let resume = Resume::read(item.clone()).map_err(|error| broken(error.to_string()))?;
        let first = resume
            .stands()
            .next()
            .map_or(ProcessId([0; 32]), |stand| stand.process);
        found.push((first, *id));
    }
    let is_whole = found.len() == ids.len() && !ids.is_empty() && found.is_sorted();
    is_whole
        .then_some(found)
        .ok_or_else(|| Error::corrupt(format!("{at:?}"), "the resume items are incomplete"))
}
