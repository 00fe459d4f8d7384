//! Lets a suspended scheduler go on: it says where each log stood, and begins another epoch.
//!
//! Only while no scheduler runs on the folder. Not here: what a reader makes of it
//! (`spec::continuity`). The invariant: the items and the note that ends the suspension are durable
//! together, in the permanent class, before any slot is given.

use std::path::Path;

use spec::contract::Class;
use spec::resume::{ROWS_MAX, Stand};
use spec::{Address, Resume, Signer};
use weave::Record;

use crate::authority::{self, Authority};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::journal::Journal;
use crate::note::{Link, Told};
use crate::{open_index, read, rebuild};

/// That scheduling goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Under this epoch.
    pub epoch: u64,
    /// As many logs.
    pub processes: usize,
}

/// Ends a suspension. `None` if there is none: then nothing is written. `now_ms` since 1970.
///
/// # Errors
/// A key that is not the scheduler's, a log that contradicts itself, or one that cannot be written.
pub async fn resume(
    config: &Config,
    data: &Path,
    journal: &dyn Journal,
    signer: &std::sync::Arc<Signer>,
    now_ms: u64,
) -> Result<Option<Resumed>> {
    let index = open_index(config, data, journal)?;
    rebuild::catch_up(&index, journal)?;
    let turns = index.past().turns;
    if !turns.is_suspended() {
        index.close()?;
        return Ok(None);
    }
    let authority = Authority::read(signer.clone(), journal, turns)?;
    let stands = stands(&index, journal, &authority)?;
    let epoch = next_epoch(authority.epoch(), now_ms);
    assert!(
        stands.is_sorted_by(|a, b| a.process < b.process),
        "a process stands in one place"
    );
    let signed = match stands.is_empty() {
        true => vec![Resume::sign(epoch, &[], signer)],
        false => stands
            .chunks(ROWS_MAX)
            .map(|stands| Resume::sign(epoch, stands, signer))
            .collect(),
    };
    let items = signed.into_iter().map(|made| made.map(|made| made.item));
    let items = items.collect::<std::result::Result<Vec<_>, _>>();
    let items = items.map_err(|error| Error::Turn(error.to_string().into()))?;
    let told = Told::Resumed {
        epoch,
        items: items.iter().map(spec::DataItem::id).collect(),
    };
    let records = [told.record()]
        .into_iter()
        .chain(items.into_iter().map(Record::Item));
    journal.append(records.collect(), Class::Permanent).await?;
    index.close()?;
    Ok(Some(Resumed {
        epoch,
        processes: stands.len(),
    }))
}

/// The epoch of what is scheduled on a log, and whether scheduling is suspended: for a node without a scheduler.
///
/// # Errors
/// A log that cannot be read or contradicts itself.
pub fn standing(config: &Config, data: &Path, journal: &dyn Journal) -> Result<(u64, bool)> {
    let index = open_index(config, data, journal)?;
    rebuild::catch_up(&index, journal)?;
    let turns = index.past().turns;
    index.close()?;
    let resumed = turns
        .resumed
        .map(|at| authority::resumed(journal, at))
        .transpose()?;
    Ok((resumed.map_or(0, |(epoch, _)| epoch), turns.is_suspended()))
}

/// The epoch after one. An epoch that was lost whole, its resume item with it, is not known here: the second of its
/// beginning, which comes only once, keeps it from being begun again.
fn next_epoch(last: u64, now_ms: u64) -> u64 {
    // What a note says counts even if the newest assignment of every log was lost.
    (1 + last).max(now_ms / 1000)
}

/// Where each log stands, by process. Each must be one that the key may go on with.
fn stands(index: &Index, journal: &dyn Journal, authority: &Authority) -> Result<Vec<Stand>> {
    let view = index.view()?;
    let mut stands = Vec::new();
    for (process, slot) in view.processes()? {
        let head = read::head(journal, &view, process)?.expect("it has a slot");
        authority
            .check(&head)
            .map_err(|refusal| Error::Turn(refusal.text.into()))?;
        let assignment = head.last.expect("it has a slot");
        stands.push(Stand {
            process,
            slot,
            assignment,
        });
    }
    Ok(stands)
}

/// The scheduler's keys so far, oldest first.
fn keys(config: &Config, data: &Path, journal: &dyn Journal) -> Result<Vec<Link>> {
    let index = open_index(config, data, journal)?;
    rebuild::catch_up(&index, journal)?;
    let links = authority::links(journal, index.past().turns)?;
    index.close()?;
    Ok(links)
}

/// Writes that `to` signs from now on, in the name of the key that does so far.
///
/// # Errors
/// A key that is not the scheduler's, or that names itself; a log that cannot be written.
pub async fn succeed(
    config: &Config,
    data: &Path,
    journal: &dyn Journal,
    old: &Signer,
    to: Address,
) -> Result<Link> {
    let mut links = keys(config, data, journal)?;
    if let Some(last) = links.last().copied() {
        if last.to == to && last.from == old.address() {
            // Written before, and interrupted after.
            return Ok(last);
        }
        if last.to != old.address() {
            return Err(Error::Key {
                named: last.to,
                given: old.address(),
            });
        }
    }
    if links.iter().any(|link| link.from == to) {
        return Err(Error::Turn(
            "a key that was replaced cannot come back; make a new one".into(),
        ));
    }
    if links.len() >= spec::succession::STEPS_MAX {
        // A process that rests through all of them, or names the first key, could not be gone on with.
        let text = "as many keys have followed each other as an assignment can name; this one stays";
        return Err(Error::Turn(text.into()));
    }
    let made = spec::Succession::sign(to, old).map_err(|error| Error::Turn(error.to_string().into()))?;
    let link = Link {
        from: made.from,
        to: made.to,
        item: made.item.id(),
    };
    assert_eq!(
        link.from,
        old.address(),
        "the key that hands over signs that it does"
    );
    links.push(link);
    let records = vec![Told::Succeeded(links).record(), Record::Item(made.item)];
    journal.append(records, Class::Permanent).await?;
    Ok(link)
}
