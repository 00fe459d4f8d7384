//! What people and programs are told of the upload: items and bytes by state, age, cost, alarms.
//!
//! Not here: how it is shown. The invariant: each item is counted once, in its present state.

use serde::Serialize;
use spec::ItemId;
use spec::contract::Class;

use super::crowd::Trouble;
use super::ledger::{Carrier, Cost, Ledger, State};
use crate::error::Result;
use crate::log::{Log, Sealable, Spool};

/// Items and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Count {
    /// How many items.
    pub items: u64,
    /// Bytes of their frames in the log, of their bundle once there is one.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, items: u64, bytes: u64) {
        self.items += items;
        self.bytes += bytes;
    }
}

/// Items by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct States {
    /// In the segment being written.
    pub appended: Count,
    /// In sealed segments, signed for or not.
    pub sealed: Count,
    /// Taken by a peer or a bundler.
    pub posted: Count,
    /// In a block.
    pub mined: Count,
    /// Proved to be there.
    pub permanent: Count,
}

impl States {
    /// The count of a state.
    pub fn of(&mut self, state: State) -> &mut Count {
        match state {
            State::Appended => &mut self.appended,
            State::Sealed => &mut self.sealed,
            State::Posted => &mut self.posted,
            State::Mined => &mut self.mined,
            State::Permanent => &mut self.permanent,
        }
    }
}

/// What a person should know of at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// Something waits and no peer answers.
    Silent,
    /// Something waits for too long.
    Late,
    /// The spool is nearly full, or full: the scheduler refuses then.
    Spool,
    /// A bundler's deadline is near, and there is no route to fall back to.
    Deadline,
    /// The day's budget does not cover the next carrier.
    Budget,
    /// The wallet does not cover it.
    Balance,
    /// The uploader itself failed; see the last error.
    Failed,
}

impl Alarm {
    /// All of them.
    pub const ALL: [Alarm; 7] = [
        Alarm::Silent,
        Alarm::Late,
        Alarm::Spool,
        Alarm::Deadline,
        Alarm::Budget,
        Alarm::Balance,
        Alarm::Failed,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Alarm::Silent => "silent",
            Alarm::Late => "late",
            Alarm::Spool => "spool",
            Alarm::Deadline => "deadline",
            Alarm::Budget => "budget",
            Alarm::Balance => "balance",
            Alarm::Failed => "failed",
        }
    }
}

/// What would be paid now for what waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// By which route.
    pub route: String,
    /// How many carriers.
    pub carriers: u64,
    /// Their bytes, about.
    pub bytes: u64,
    /// Winston for all of them; winston credits at a bundler.
    pub winston: u128,
    /// What the wallet has there.
    pub balance: u128,
    /// What is left of the day's budget; `None` without one.
    pub budget_left: Option<u128>,
}

/// The upload at a glance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Names of the routes, the first one first; none: nothing is uploaded.
    pub routes: Vec<String>,
    /// Nothing is sealed, signed or posted.
    pub dry_run: bool,
    /// Items by state.
    pub states: States,
    /// Age of the oldest item that is not permanent, ms.
    pub oldest_unsettled_ms: Option<u64>,
    /// Bytes not permanent, and their bound.
    pub spool_bytes: u64,
    /// See [`crate::log::Spool`].
    pub spool_bytes_max: Option<u64>,
    /// The chain's height as the peers last told it.
    pub height: Option<u64>,
    /// Money.
    pub cost: Cost,
    /// Signed for today (UTC).
    pub cost_today: u128,
    /// What may be signed for on one day.
    pub budget_per_day: Option<u64>,
    /// What is wrong.
    pub alarms: Vec<Alarm>,
    /// What last went wrong upstream.
    pub last_error: Option<Trouble>,
    /// What would be paid; asked for in a dry run only.
    pub preview: Option<Preview>,
}

/// One carrier in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CarrierReport {
    /// Counts the carriers, from 0.
    pub sequence: u64,
    /// Number of its segment file.
    pub segment: u64,
    /// Its segment item.
    pub segment_item: ItemId,
    /// How far it got.
    pub state: State,
    /// Items of the segment.
    pub items: u64,
    /// Bytes of the bundle.
    pub bytes: u64,
    /// What carries it, by route.
    pub vehicles: Vec<VehicleReport>,
}

/// A transaction, or a bundler's item, in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VehicleReport {
    /// The route's name.
    pub route: String,
    /// Its id.
    pub id: ItemId,
    /// The transaction that it is mined in, once it is: itself, or the bundler's.
    pub transaction: Option<ItemId>,
    /// That one's height; 0 before.
    pub height: u64,
}

/// The newest carriers, in their order.
pub fn newest_carriers(ledger: &Ledger, most: usize) -> Vec<CarrierReport> {
    let newest = ledger.carriers().rev().take(most);
    let mut carriers: Vec<CarrierReport> = newest.map(CarrierReport::of).collect();
    carriers.reverse();
    carriers
}

impl CarrierReport {
    fn of(carrier: &Carrier) -> CarrierReport {
        let vehicles = carrier.trips.iter().map(|trip| VehicleReport {
            route: trip.route.name().to_owned(),
            id: trip.id,
            transaction: trip.transaction,
            height: trip.height,
        });
        CarrierReport {
            sequence: carrier.sequence,
            segment: carrier.segment,
            segment_item: carrier.segment_item,
            state: carrier.state(),
            items: carrier.items,
            bytes: carrier.bundle_len,
            vehicles: vehicles.collect(),
        }
    }
}

impl Report {
    /// Of a node without any route: its permanent items stay as far as they got.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub fn without_routes(log: &Log, ledger: &Ledger, now_ms: u64) -> Result<Report> {
        let (states, oldest) = tally(log, ledger)?;
        let Spool { bytes, bytes_max } = log.spool();
        Ok(Report {
            routes: Vec::new(),
            dry_run: false,
            states,
            oldest_unsettled_ms: oldest.map(|oldest| now_ms.saturating_sub(oldest)),
            spool_bytes: bytes,
            spool_bytes_max: bytes_max,
            height: None,
            cost: ledger.cost(),
            cost_today: ledger.spent_on_day_of(now_ms),
            budget_per_day: None,
            alarms: Vec::new(),
            last_error: None,
            preview: None,
        })
    }
}

/// Items by state, and when the oldest one that is not permanent was appended.
pub(super) fn tally(log: &Log, ledger: &Ledger) -> Result<(States, Option<u64>)> {
    let (mut states, mut oldest) = (States::default(), None);
    for carrier in ledger.carriers() {
        states.of(carrier.state()).add(carrier.items, carrier.bundle_len);
        if !carrier.is_settled() && oldest.is_none() {
            oldest = log.segment(carrier.segment).map(|known| created_ms(&known));
        }
    }
    for known in log.permanent_from(ledger.next_segment()) {
        let state = if known.is_sealed {
            State::Sealed
        } else {
            State::Appended
        };
        states.of(state).add(log.items_of(&known)?, known.bytes);
        oldest = oldest.or(Some(created_ms(&known)));
    }
    Ok((states, oldest))
}

/// A segment is made for its first record.
pub(super) fn created_ms(known: &Sealable) -> u64 {
    assert_eq!(
        known.segment.head().class,
        Class::Permanent,
        "only these are uploaded"
    );
    known.segment.head().created_ms
}
