//! What of a bundle goes into a proof: the item, its assignment, and the neighbours in the chain.
//!
//! Pure. Not here: finding the bundle. The invariant: members lie in the carrier they were taken from, each with its
//! path.

use super::{At, Body, Member};
use crate::assignment::Assignment;
use crate::carrier::{self, Carrier};
use crate::ids::{ItemId, ProcessId};
use crate::item::DataItem;

/// Items longer than this go into a small proof without their data.
const WHOLE_LEN_MAX: usize = 24 << 10;

/// The items of one proof.
#[derive(Debug, Clone)]
pub struct Members {
    /// What the proof is about.
    pub subject: Member,
    /// Its assignment, if that lies in the same bundle.
    pub assignment: Option<Member>,
    /// That of the slot before.
    pub previous: Option<Member>,
    /// That of the slot after.
    pub next: Option<Member>,
}

/// Takes an item and what is about it out of its carrier; `None` if it is not there. A small proof has long items by
/// their heads.
pub fn members(carrier: &Carrier, id: ItemId, full: bool) -> Option<Members> {
    let stands_for = |item: &DataItem| item.id() == id || withheld_id(carrier, item) == Some(id);
    let index = carrier.items().iter().position(stands_for)?;
    let all = Assignments(carrier);
    let own = Assignment::read(carrier.items()[index].clone());
    let (assignment, at) = match own {
        Ok(own) => (None, Some(own)),
        // Anybody can sign a look-alike; who closed the bundle is asked first.
        Err(_) => match all
            .find(|one| one.subject() == id && one.item.owner() == carrier.digest_item().owner())
            .or_else(|| all.find(|one| one.subject() == id))
        {
            Some((place, found)) => (Some(member(carrier, place, true)), Some(found)),
            None => (None, None),
        },
    };
    let beside = |process: ProcessId, slot: Option<u64>, owner: &[u8]| {
        let found =
            all.find(|one| one.process == process && Some(one.slot) == slot && one.item.owner() == owner);
        found.map(|(place, _)| member(carrier, place, true))
    };
    let neighbour = |slot: fn(u64) -> Option<u64>| {
        let at = at.as_ref()?;
        beside(at.process, slot(at.slot), at.item.owner())
    };
    Some(Members {
        subject: member(carrier, index, full),
        assignment,
        previous: neighbour(|slot| slot.checked_sub(1)),
        next: neighbour(|slot| slot.checked_add(1)),
    })
}

/// A carrier's assignments, read as they are looked at.
struct Assignments<'a>(&'a Carrier);

impl Assignments<'_> {
    fn find(&self, wanted: impl Fn(&Assignment) -> bool) -> Option<(usize, Assignment)> {
        let records = self.0.records().iter().enumerate();
        let mut read =
            records.filter_map(|(index, item)| Some((index, Assignment::read(item.clone()).ok()?)));
        read.find(|(_, assignment)| wanted(assignment))
    }
}

/// What a wrapper of the node's stands for.
fn withheld_id(carrier: &Carrier, item: &DataItem) -> Option<ItemId> {
    let is_ours = item.owner() == carrier.digest_item().owner() && item.tag("Type") == Some("Withheld");
    is_ours.then(|| carrier::unwrap(item).ok().map(|left| left.id()))?
}

fn member(carrier: &Carrier, index: usize, full: bool) -> Member {
    let item = carrier.items()[index].clone();
    let body = match withheld_id(carrier, &item) {
        Some(_) => Body::Wrapper(item),
        None if full || item.bytes().len() <= WHOLE_LEN_MAX => Body::Whole(item),
        None => Body::Head(item.withhold()),
    };
    let leaf = carrier.leaves().get(index);
    let at = leaf.map(|leaf| At {
        offset: leaf.offset,
        path: carrier.tree().path(leaf.index).map(|path| (leaf.index, path)),
    });
    Member { body, at }
}
