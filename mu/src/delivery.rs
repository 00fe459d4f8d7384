//! Deliveries: what one outbox entry asks of the world, its place, and its form on disk.
//!
//! Not here: how it is carried out. Invariant: a delivery is known by (sender, place, index), which
//! only our own evaluation of the log gives; nothing a stranger writes is part of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spec::contract::Field;
use spec::{DataItem, ItemId, ProcessId};

use crate::error::Error;
use crate::lineage::FROM_SLOT;

/// Which evaluation of a process: a slot, or a cron after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The slot; for a cron the slot before it.
    pub slot: u64,
    /// The cron, if it is one. Slots sort before the crons that follow them.
    pub cron: Option<CronPlace>,
}

/// One firing of a cron.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CronPlace {
    /// When, in ms.
    pub timestamp_ms: u64,
    /// Which, `<index>-<interval>`.
    pub name: String,
}

impl Place {
    /// A slot.
    pub fn slot(slot: u64) -> Place {
        Place { slot, cron: None }
    }

    /// The value of the tag `From-Slot` of the entry `index`.
    pub fn entry(&self, index: u32) -> String {
        match &self.cron {
            None => format!("{}.{index}", self.slot),
            Some(cron) => format!("{}.{}.{}.{index}", self.slot, cron.name, cron.timestamp_ms),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cron {
            None => write!(f, "slot {}", self.slot),
            Some(cron) => write!(
                f,
                "cron {} at {} after slot {}",
                cron.name, cron.timestamp_ms, self.slot
            ),
        }
    }
}

/// The order of deliveries of one process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Order {
    /// Which evaluation.
    pub place: Place,
    /// Which entry of its outbox: messages first, then spawns, then assignments.
    pub index: u32,
}

impl Order {
    /// A key that sorts as the order does within one evaluation and is unique within a process.
    pub fn key(&self) -> Vec<u8> {
        let cron = self.place.cron.as_ref();
        let mut key = self.place.slot.to_be_bytes().to_vec();
        key.extend(cron.map_or(0, |cron| cron.timestamp_ms).to_be_bytes());
        key.extend(self.index.to_be_bytes());
        key.extend(cron.map_or(&b""[..], |cron| cron.name.as_bytes()));
        key
    }
}

/// One thing to deliver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its place among the sender's deliveries.
    pub order: Order,
    /// The id counted against the origin's limits.
    pub origin: ItemId,
    /// What to do.
    pub what: What,
}

/// What to do.
#[derive(Debug, Clone)]
pub enum What {
    /// Schedule a message, or keep it in the weave if its target is no process.
    Message {
        /// The signed item; without a target if the target is no id.
        item: DataItem,
        /// Processes that the item is assigned to once it is stored.
        also: Vec<ProcessId>,
    },
    /// Make a process, then tell the spawner.
    Spawn {
        /// The signed process item.
        item: DataItem,
    },
    /// Assign an item to a process.
    Assign(Assign),
}

/// An assignment to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// To whom.
    pub process: ProcessId,
    /// What.
    pub item: ItemId,
    /// Whether it is a transaction of the base layer.
    pub base_layer: bool,
    /// Names of fields the process must not see.
    pub exclude: Vec<String>,
}

impl Assign {
    /// The fields to hide; names were checked when the delivery was built.
    pub fn fields(&self) -> Vec<Field> {
        self.exclude
            .iter()
            .filter_map(|name| Field::parse(name))
            .collect()
    }
}

/// The deliveries of one sender to one receiver wait in one lane.
pub type Lane = Arc<str>;

impl Delivery {
    /// The lane, given the sender: a spawn's reply goes back to the sender, so it waits there.
    pub fn lane(&self, sender: ProcessId) -> Lane {
        match &self.what {
            What::Message { item, .. } => match item.target() {
                Some(target) => ItemId(*target).to_string().into(),
                None => item.tag("Target").unwrap_or("").into(),
            },
            What::Spawn { .. } => sender.to_string().into(),
            What::Assign(assign) => assign.process.to_string().into(),
        }
    }

    /// The item it concerns.
    pub fn item_id(&self) -> ItemId {
        match &self.what {
            What::Message { item, .. } | What::Spawn { item } => item.id(),
            What::Assign(assign) => assign.item,
        }
    }

    /// The kind, as traces name it.
    pub fn kind(&self) -> &'static str {
        match &self.what {
            What::Message { .. } => "MESSAGE",
            What::Spawn { .. } => "PROCESS",
            What::Assign(_) => "ASSIGNMENT",
        }
    }

    /// The value of the item's `From-Slot`, if it carries an item of ours.
    pub fn from_slot(&self) -> Option<&str> {
        match &self.what {
            What::Message { item, .. } | What::Spawn { item } => item.tag(FROM_SLOT),
            What::Assign(_) => None,
        }
    }
}

/// How often a waiting delivery was tried, and when it is due again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tries {
    /// Failed attempts so far.
    pub attempts: u32,
    /// Not before this moment, in ms since 1970.
    pub due_ms: u64,
}

/// The part of a row that is JSON; an item's bytes follow it.
#[derive(Serialize, Deserialize)]
struct Head {
    order: Order,
    origin: ItemId,
    tries: Tries,
    what: HeadKind,
}

#[derive(Serialize, Deserialize)]
enum HeadKind {
    Message { also: Vec<ProcessId> },
    Spawn,
    Assign(Assign),
}

/// A row of the queue: length of the head (u32 LE), head as JSON, item.
pub fn encode(delivery: &Delivery, tries: Tries) -> Vec<u8> {
    let (what, item) = match &delivery.what {
        What::Message { item, also } => (HeadKind::Message { also: also.clone() }, Some(item)),
        What::Spawn { item } => (HeadKind::Spawn, Some(item)),
        What::Assign(assign) => (HeadKind::Assign(assign.clone()), None),
    };
    let (order, origin) = (delivery.order.clone(), delivery.origin);
    let head = serde_json::to_vec(&Head {
        order,
        origin,
        tries,
        what,
    })
    .expect("plain fields are JSON");
    let mut row = (head.len() as u32).to_le_bytes().to_vec();
    row.extend_from_slice(&head);
    row.extend_from_slice(item.map_or(&b""[..], |item| item.bytes()));
    row
}

/// Reads a row of the queue.
///
/// # Errors
/// A row that [`encode`] did not write.
pub fn decode(row: &[u8]) -> Result<(Delivery, Tries), Error> {
    let len = row.first_chunk::<4>().ok_or(Error::Damaged("length"))?;
    let rest = &row[4..];
    let (head, item) = rest
        .split_at_checked(u32::from_le_bytes(*len) as usize)
        .ok_or(Error::Damaged("head"))?;
    let head: Head = serde_json::from_slice(head).map_err(|_| Error::Damaged("head"))?;
    let item = || DataItem::parse(Bytes::copy_from_slice(item)).map_err(|_| Error::Damaged("item"));
    let what = match head.what {
        HeadKind::Message { also } => What::Message { item: item()?, also },
        HeadKind::Spawn => What::Spawn { item: item()? },
        HeadKind::Assign(assign) => What::Assign(assign),
    };
    let delivery = Delivery {
        order: head.order,
        origin: head.origin,
        what,
    };
    Ok((delivery, head.tries))
}

#[cfg(test)]
mod tests {
    use spec::{ItemParts, Signer};

    use super::*;

    fn cron(slot: u64, timestamp_ms: u64) -> Place {
        let cron = CronPlace {
            timestamp_ms,
            name: "0-10-seconds".into(),
        };
        Place {
            slot,
            cron: Some(cron),
        }
    }

    #[test]
    fn slots_come_before_the_crons_that_follow_them() {
        let places = [Place::slot(4), cron(4, 10), cron(4, 20), Place::slot(5)];
        assert!(places.is_sorted());
        assert_eq!(places[0].entry(3), "4.3");
        assert_eq!(places[2].entry(3), "4.0-10-seconds.20.3");
    }

    #[test]
    fn rows_read_back_and_damage_is_named() {
        let item = DataItem::sign(&ItemParts::default(), &Signer::ed25519(&[1; 32])).unwrap();
        let also = vec![ProcessId([3; 32])];
        let delivery = Delivery {
            order: Order {
                place: cron(1, 2),
                index: 3,
            },
            origin: ItemId([4; 32]),
            what: What::Message {
                item: item.clone(),
                also,
            },
        };
        let tries = Tries {
            attempts: 5,
            due_ms: 6,
        };
        let row = encode(&delivery, tries);
        let (back, back_tries) = decode(&row).unwrap();
        assert_eq!(
            (back.order, back.origin, back_tries),
            (delivery.order, delivery.origin, tries)
        );
        assert!(matches!(back.what, What::Message { item: i, also } if i == item && also.len() == 1));
        for len in 0..row.len() {
            assert!(decode(&row[..len]).is_err(), "cut at {len}");
        }
    }
}
