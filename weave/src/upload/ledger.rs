//! The uploader's ledger: every carrier and how far it got, as the notes tell it.
//!
//! Not here: files, peers, clocks. The invariant: the ledger is a function of the notes in their order; nothing else
//! changes it. A note that contradicts those before it is damage.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use spec::ItemId;
use spec::carrier::PREVIOUS_MAX;
use spec::chunks::Hash;

use super::note::{Bundled, Moved, Promised, Route, Signed, Step, Told};
use crate::record::Position;

/// Milliseconds of a day, the period of budgets.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How far the items of a segment got, in the words of every report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Durable here, in the segment being written.
    Appended,
    /// In a sealed segment, perhaps signed for.
    Sealed,
    /// A peer or a bundler took it.
    Posted,
    /// In a block.
    Mined,
    /// Deep in the chain, and its data was proved to be there.
    Permanent,
}

impl State {
    /// All of them, in order.
    pub const ALL: [State; 5] = [
        State::Appended,
        State::Sealed,
        State::Posted,
        State::Mined,
        State::Permanent,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            State::Appended => "appended",
            State::Sealed => "sealed",
            State::Posted => "posted",
            State::Mined => "mined",
            State::Permanent => "permanent",
        }
    }
}

/// How far one vehicle got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Signed and stored; no effect yet, or none that was noted.
    Signed,
    /// Taken by a peer or bundler.
    Posted,
    /// Its chunks taken by enough peers.
    Seeded,
    /// In a block.
    Mined,
    /// Deep enough, data proved.
    Permanent,
    /// Proved again, long after.
    Archived,
}

impl Stage {
    fn state(self) -> State {
        match self {
            Stage::Signed => State::Sealed,
            Stage::Posted | Stage::Seeded => State::Posted,
            Stage::Mined => State::Mined,
            Stage::Permanent | Stage::Archived => State::Permanent,
        }
    }
}

/// One vehicle on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// Where it goes.
    pub route: Route,
    /// The vehicle's id.
    pub id: ItemId,
    /// Position of the note that holds the vehicle.
    pub note: u64,
    /// When it was signed, ms since 1970.
    pub signed_ms: u64,
    /// The chain's height then.
    pub signed_height: u64,
    /// What it costs, in winston.
    pub cost: u128,
    /// The transactions that it names as the ones before it.
    pub previous: Vec<ItemId>,
    /// How far it got.
    pub stage: Stage,
    /// Whom it was posted to last; empty before.
    pub posted_to: String,
    /// The transaction it is mined in.
    pub transaction: Option<ItemId>,
    /// Height of its block.
    pub height: u64,
    /// Height by which a bundler promised it.
    pub deadline: Option<u64>,
    /// When it last got anywhere, ms since 1970.
    pub moved_ms: u64,
}

impl Trip {
    /// Signed, and not in a block as far as is known.
    pub fn is_unmined(&self) -> bool {
        self.stage < Stage::Mined
    }
}

/// One sealed segment on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carrier {
    /// Counts the carriers, from 0.
    pub sequence: u64,
    /// Number of the segment file.
    pub segment: u64,
    /// SHA-256 of the file.
    pub segment_sha256: Hash,
    /// Root over the bundle's chunks.
    pub data_root: Hash,
    /// Bytes of the bundle.
    pub bundle_len: u64,
    /// Items of the segment.
    pub items: u64,
    /// The bundle's item of the node that tells of the segment.
    pub segment_item: ItemId,
    /// Position of the note that holds the node's own items.
    pub note: u64,
    /// When it was bundled, ms since 1970.
    pub bundled_ms: u64,
    /// Cost of vehicles of a bundle that was made again since, in winston.
    pub sunk: u128,
    /// Its vehicles, in the order they were signed.
    pub trips: Vec<Trip>,
}

impl Carrier {
    fn of(bundled: &Bundled, note: Position, time_ms: u64) -> Carrier {
        Carrier {
            sequence: bundled.sequence,
            segment: bundled.segment,
            segment_sha256: bundled.segment_sha256,
            data_root: bundled.data_root,
            bundle_len: bundled.bundle_len,
            items: bundled.items,
            segment_item: bundled.segment_item(),
            note: note.number(),
            bundled_ms: time_ms,
            sunk: 0,
            trips: Vec::new(),
        }
    }

    /// How far its items got: as far as the vehicle that got farthest.
    pub fn state(&self) -> State {
        let farthest = self.trips.iter().map(|trip| trip.stage).max();
        farthest.map_or(State::Sealed, Stage::state)
    }

    /// Whether it needs nothing but an audit now and then.
    pub fn is_settled(&self) -> bool {
        self.state() == State::Permanent
    }

    /// The vehicle of a route.
    pub fn trip(&self, route: &Route) -> Option<&Trip> {
        self.trips.iter().find(|trip| trip.route == *route)
    }

    /// The vehicle that made it permanent.
    pub fn settled_trip(&self) -> Option<&Trip> {
        self.trips.iter().find(|trip| trip.stage >= Stage::Permanent)
    }
}

/// Money, in winston.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// For what is in blocks.
    pub spent: u128,
    /// For what is signed and may still get into one.
    pub committed: u128,
}

/// A note that cannot follow those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("carrier {sequence}: {why}")]
pub struct Contradiction {
    /// Which carrier.
    pub sequence: u64,
    /// What is wrong.
    pub why: &'static str,
}

type Result<T> = std::result::Result<T, Contradiction>;

/// All carriers of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    carriers: BTreeMap<u64, Carrier>,
    /// By day since 1970: what was signed for, less what can never be mined.
    days: BTreeMap<u64, u128>,
}

impl Ledger {
    /// From the carriers and days of an earlier one.
    pub(super) fn restore(carriers: Vec<Carrier>, days: BTreeMap<u64, u128>) -> Ledger {
        let carriers = carriers.into_iter().map(|carrier| (carrier.sequence, carrier));
        Ledger {
            carriers: carriers.collect(),
            days,
        }
    }

    /// Takes in a note that stands at a position of the log.
    ///
    /// # Errors
    /// If it contradicts those before it.
    pub fn apply(&mut self, note: Position, time_ms: u64, told: &Told) -> Result<()> {
        match told {
            Told::Bundled(bundled) => self.bundled(bundled, note, time_ms),
            Told::Signed(signed) => self.signed(signed, note, time_ms),
            Told::Moved(moved) => self.moved(moved, time_ms),
            Told::Promised(promised) => self.promised(promised, time_ms),
        }
    }

    fn bundled(&mut self, bundled: &Bundled, note: Position, time_ms: u64) -> Result<()> {
        let sequence = bundled.sequence;
        let wrong = |why| Err(Contradiction { sequence, why });
        let next = self.next_sequence();
        if sequence > next {
            return wrong("the one before it is missing");
        }
        if sequence == next && bundled.segment < self.next_segment() {
            return wrong("its segment is in another carrier");
        }
        let before = self.carriers.get(&sequence);
        if before.is_some_and(|before| before.segment != bundled.segment || before.is_settled()) {
            return wrong("it was bundled otherwise before");
        }
        let mut carrier = Carrier::of(bundled, note, time_ms);
        carrier.sunk = before.map_or(0, |before| {
            before
                .trips
                .iter()
                .fold(before.sunk, |sum, trip| sum.saturating_add(trip.cost))
        });
        self.carriers.insert(sequence, carrier);
        Ok(())
    }

    fn signed(&mut self, signed: &Signed, note: Position, time_ms: u64) -> Result<()> {
        let carrier = self.carrier_mut(signed.sequence)?;
        if carrier.trip(&signed.route).is_some() {
            return Err(Contradiction {
                sequence: signed.sequence,
                why: "it was signed for this route before",
            });
        }
        carrier.trips.push(Trip {
            route: signed.route.clone(),
            id: signed.id,
            note: note.number(),
            signed_ms: time_ms,
            signed_height: signed.height,
            cost: signed.cost,
            previous: signed.previous(),
            stage: Stage::Signed,
            posted_to: String::new(),
            transaction: None,
            height: 0,
            deadline: None,
            moved_ms: time_ms,
        });
        // A bundler's price is its own word: a sum beyond all money is as good as any other.
        let day = self.days.entry(time_ms / DAY_MS).or_default();
        *day = day.saturating_add(signed.cost);
        Ok(())
    }

    fn moved(&mut self, moved: &Moved, time_ms: u64) -> Result<()> {
        let trip = self.trip_mut(moved.sequence, moved.id)?;
        trip.moved_ms = time_ms;
        match moved.step {
            Step::Posted => {
                trip.stage = trip.stage.max(Stage::Posted);
                trip.posted_to.clone_from(&moved.by);
            }
            Step::Seeded => trip.stage = Stage::Seeded,
            Step::Mined => {
                (trip.stage, trip.transaction, trip.height) = (Stage::Mined, moved.transaction, moved.height);
            }
            Step::Permanent => trip.stage = Stage::Permanent,
            Step::Archived => trip.stage = Stage::Archived,
            Step::Unmined => (trip.stage, trip.transaction, trip.height) = (Stage::Posted, None, 0),
            Step::Lost => trip.stage = Stage::Mined,
            Step::Expired => self.expired(moved),
        }
        Ok(())
    }

    /// What can never be mined costs nothing.
    fn expired(&mut self, moved: &Moved) {
        let carrier = self.carriers.get_mut(&moved.sequence);
        let trips = carrier
            .map(|carrier| &mut carrier.trips)
            .expect("looked up by the caller");
        let at = trips.iter().position(|trip| trip.id == moved.id);
        let trip = trips.remove(at.expect("looked up by the caller"));
        let day = self.days.entry(trip.signed_ms / DAY_MS).or_default();
        *day = day.saturating_sub(trip.cost);
    }

    fn promised(&mut self, promised: &Promised, time_ms: u64) -> Result<()> {
        let trip = self.trip_mut(promised.sequence, promised.id)?;
        // A later receipt does not make an earlier promise void.
        trip.deadline = Some(trip.deadline.unwrap_or(u64::MAX).min(promised.deadline));
        (trip.stage, trip.moved_ms) = (trip.stage.max(Stage::Posted), time_ms);
        Ok(())
    }

    fn carrier_mut(&mut self, sequence: u64) -> Result<&mut Carrier> {
        let why = "it was never bundled";
        self.carriers
            .get_mut(&sequence)
            .ok_or(Contradiction { sequence, why })
    }

    fn trip_mut(&mut self, sequence: u64, id: ItemId) -> Result<&mut Trip> {
        let why = "its vehicle was never signed";
        let carrier = self.carrier_mut(sequence)?;
        let trip = carrier.trips.iter_mut().find(|trip| trip.id == id);
        trip.ok_or(Contradiction { sequence, why })
    }

    /// All carriers by sequence.
    pub fn carriers(&self) -> impl DoubleEndedIterator<Item = &Carrier> {
        self.carriers.values()
    }

    /// One carrier.
    pub fn carrier(&self, sequence: u64) -> Option<&Carrier> {
        self.carriers.get(&sequence)
    }

    /// The carrier of a segment.
    pub fn of_segment(&self, number: u64) -> Option<&Carrier> {
        // Both count in the same order, so this is a search.
        let (mut low, mut high) = (0, self.next_sequence());
        while low < high {
            let middle = low + (high - low) / 2;
            let carrier = self.carriers.get(&middle)?;
            match carrier.segment.cmp(&number) {
                std::cmp::Ordering::Equal => return Some(carrier),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The sequence that comes next.
    pub fn next_sequence(&self) -> u64 {
        self.carriers.last_key_value().map_or(0, |(last, _)| last + 1)
    }

    /// The lowest number of a segment that is in no carrier.
    pub fn next_segment(&self) -> u64 {
        self.carriers
            .last_key_value()
            .map_or(0, |(_, last)| last.segment + 1)
    }

    /// The newest carrier.
    pub fn newest(&self) -> Option<&Carrier> {
        self.carriers.values().next_back()
    }

    /// Whether a transaction of ours may still get into a block. While one may, none is signed: so whatever was
    /// signed last leads to all before it.
    pub fn is_waiting_on_l1(&self) -> bool {
        let mut trips = self.open().flat_map(|carrier| &carrier.trips);
        trips.any(|trip| trip.route == Route::L1 && trip.is_unmined())
    }

    /// The carriers with something on its way, which may be permanent by another vehicle.
    pub fn open(&self) -> impl Iterator<Item = &Carrier> {
        let is_open = |trip: &Trip| trip.stage < Stage::Permanent;
        let carriers = self.carriers.values();
        carriers.filter(move |carrier| !carrier.is_settled() || carrier.trips.iter().any(is_open))
    }

    /// The carriers that are not permanent.
    pub fn unsettled(&self) -> impl Iterator<Item = &Carrier> {
        self.carriers.values().filter(|carrier| !carrier.is_settled())
    }

    /// What a transaction signed now names: each one in a block that no other one in a block names, the permanent ones
    /// first. So all that are in blocks are led to. `None` if these are too many for its tags.
    pub fn previous_on_l1(&self) -> Option<Vec<ItemId>> {
        let in_block = || {
            let trips = self.carriers.values().flat_map(|carrier| &carrier.trips);
            trips.filter(|trip| trip.route == Route::L1 && trip.stage >= Stage::Mined)
        };
        let named: HashSet<ItemId> = in_block()
            .flat_map(|trip| trip.previous.iter().copied())
            .collect();
        let mut previous: Vec<&Trip> = in_block().filter(|trip| !named.contains(&trip.id)).collect();
        previous.sort_by_key(|trip| (trip.stage < Stage::Permanent, trip.note));
        let is_possible = previous.len() <= PREVIOUS_MAX;
        is_possible.then(|| previous.iter().map(|trip| trip.id).collect())
    }

    /// What a bundler's item signed now names: the newest of any bundler, else the newest permanent one.
    pub fn previous_at_bundlers(&self) -> Vec<ItemId> {
        let trips = || self.carriers.values().flat_map(|carrier| &carrier.trips);
        let at_bundlers = trips().filter(|trip| trip.route != Route::L1);
        let newest = at_bundlers.max_by_key(|trip| trip.note);
        let settled = || trips().filter(|trip| trip.stage >= Stage::Permanent);
        let newest = newest.or_else(|| settled().max_by_key(|trip| trip.note));
        newest.into_iter().map(|trip| trip.id).collect()
    }

    /// What was signed for on the day of a time, less what can never be mined.
    pub fn spent_on_day_of(&self, time_ms: u64) -> u128 {
        self.days.get(&(time_ms / DAY_MS)).copied().unwrap_or_default()
    }

    pub(super) fn days(&self) -> &BTreeMap<u64, u128> {
        &self.days
    }

    /// What all carriers cost.
    pub fn cost(&self) -> Cost {
        let mut cost = Cost {
            committed: self
                .carriers
                .values()
                .fold(0, |sum, carrier| sum.saturating_add(carrier.sunk)),
            ..Cost::default()
        };
        for trip in self.carriers.values().flat_map(|carrier| &carrier.trips) {
            match trip.stage >= Stage::Mined {
                true => cost.spent = cost.spent.saturating_add(trip.cost),
                false => cost.committed = cost.committed.saturating_add(trip.cost),
            }
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use spec::{DataItem, ItemParts, Signer};

    use super::super::note::Vehicle;
    use super::*;

    fn bundled(sequence: u64, segment: u64) -> Told {
        let item = DataItem::sign(&ItemParts::default(), &Signer::ed25519(&[1; 32])).expect("signed");
        Told::Bundled(Bundled {
            sequence,
            segment,
            segment_sha256: [0; 32],
            data_root: [0; 32],
            bundle_len: 1,
            items: 1,
            own: vec![item.clone(), item],
        })
    }

    fn signed(sequence: u64, n: u8) -> Told {
        Told::Signed(Signed {
            sequence,
            route: Route::L1,
            height: 0,
            cost: 5,
            id: ItemId([n; 32]),
            vehicle: Vehicle::Item(bytes::Bytes::new()),
        })
    }

    fn moved(sequence: u64, n: u8, step: Step) -> Told {
        Told::Moved(Moved {
            sequence,
            id: ItemId([n; 32]),
            step,
            transaction: None,
            height: 3,
            by: "peer".into(),
        })
    }

    fn told(all: &[Told]) -> Result<Ledger> {
        let mut ledger = Ledger::default();
        for (at, told) in all.iter().enumerate() {
            ledger.apply(Position::from_number(at as u64), DAY_MS + 1, told)?;
        }
        Ok(ledger)
    }

    #[test]
    fn a_carrier_goes_its_way_and_back() {
        let mut all = vec![bundled(0, 2), signed(0, 1)];
        let steps = [
            (Step::Posted, State::Posted),
            (Step::Mined, State::Mined),
            (Step::Unmined, State::Posted),
            (Step::Mined, State::Mined),
            (Step::Permanent, State::Permanent),
            (Step::Lost, State::Mined),
            (Step::Permanent, State::Permanent),
            (Step::Archived, State::Permanent),
        ];
        assert_eq!(told(&all).unwrap().carrier(0).unwrap().state(), State::Sealed);
        for (step, state) in steps {
            all.push(moved(0, 1, step));
            assert_eq!(
                told(&all).unwrap().carrier(0).unwrap().state(),
                state,
                "after {step:?}"
            );
        }
        let ledger = told(&all).unwrap();
        assert_eq!((ledger.cost().spent, ledger.cost().committed), (5, 0));
        assert_eq!(ledger.of_segment(2).map(|carrier| carrier.sequence), Some(0));
        assert_eq!(ledger.of_segment(1), None);
    }

    #[test]
    fn what_expired_costs_nothing_and_is_signed_again() {
        let mut all = vec![bundled(0, 2), signed(0, 1), moved(0, 1, Step::Posted)];
        assert!(told(&all).unwrap().is_waiting_on_l1());
        assert_eq!(told(&all).unwrap().spent_on_day_of(DAY_MS), 5);
        all.push(moved(0, 1, Step::Expired));
        let ledger = told(&all).unwrap();
        assert!(!ledger.is_waiting_on_l1());
        assert_eq!(
            (ledger.spent_on_day_of(DAY_MS), ledger.cost()),
            (0, Cost::default())
        );
        all.push(signed(0, 2));
        assert_eq!(told(&all).unwrap().spent_on_day_of(DAY_MS), 5);
    }

    /// A transaction's note, with the tags by which it names others.
    fn naming(sequence: u64, n: u8, previous: &[u8]) -> Told {
        let tags = spec::CarrierTags {
            epoch: 0,
            sequence,
            segment_item: ItemId([0; 32]),
            previous: previous.iter().map(|n| ItemId([*n; 32])).collect(),
        };
        let mut content = spec::transaction::Content::carrying(b"data");
        content.tags = tags.encode().unwrap();
        let transaction = content.sign(&Signer::ethereum(&[2; 32]).unwrap()).unwrap();
        let Told::Signed(mut signed) = signed(sequence, n) else {
            unreachable!("made so")
        };
        signed.vehicle = Vehicle::Transaction(Box::new(transaction));
        Told::Signed(signed)
    }

    #[test]
    fn whatever_is_signed_last_leads_to_all_before_it() {
        let ids = |ns: &[u8]| ns.iter().map(|n| ItemId([*n; 32])).collect::<Vec<_>>();
        let mut all = Vec::new();
        for n in 0..40u8 {
            let before: Vec<u8> = n.checked_sub(1).into_iter().collect();
            let at = u64::from(n);
            all.extend([
                bundled(at, 10 + at),
                naming(at, n, &before),
                moved(at, n, Step::Mined),
            ]);
        }
        let newest = told(&all).unwrap().previous_on_l1();
        assert_eq!(newest, Some(ids(&[39])), "however many are not permanent");
        // One in the middle is signed again, last of all; then it leads to both ends of the gap.
        all.extend([moved(7, 7, Step::Unmined), moved(7, 7, Step::Expired)]);
        assert_eq!(told(&all).unwrap().previous_on_l1(), Some(ids(&[6, 39])));
        all.push(moved(39, 39, Step::Permanent));
        assert_eq!(told(&all).unwrap().previous_on_l1(), Some(ids(&[39, 6])));
        all.extend([naming(7, 99, &[39, 6]), moved(7, 99, Step::Mined)]);
        assert_eq!(told(&all).unwrap().previous_on_l1(), Some(ids(&[99])));
        // What is permanent and led to by none is named, too.
        all.extend([moved(6, 6, Step::Permanent), moved(7, 99, Step::Unmined)]);
        assert_eq!(told(&all).unwrap().previous_on_l1(), Some(ids(&[6, 39])));
    }

    #[test]
    fn no_price_is_too_high_to_count() {
        let dear = |sequence, n| match signed(sequence, n) {
            Told::Signed(mut signed) => {
                signed.cost = u128::MAX;
                Told::Signed(signed)
            }
            _ => unreachable!("made so"),
        };
        let mut all = vec![bundled(0, 2), dear(0, 1), bundled(1, 3), dear(1, 2)];
        let ledger = told(&all).unwrap();
        let most = (ledger.spent_on_day_of(DAY_MS), ledger.cost().committed);
        assert_eq!(most, (u128::MAX, u128::MAX));
        all.extend([
            moved(0, 1, Step::Expired),
            bundled(1, 3),
            dear(1, 4),
            bundled(1, 3),
        ]);
        assert_eq!(told(&all).unwrap().cost().committed, u128::MAX);
    }

    #[test]
    fn notes_that_contradict_are_damage() {
        let wrong = [
            vec![bundled(1, 2)],
            vec![bundled(0, 2), bundled(1, 2)],
            vec![bundled(0, 2), bundled(0, 3)],
            vec![signed(0, 1)],
            vec![bundled(0, 2), signed(0, 1), signed(0, 2)],
            vec![bundled(0, 2), moved(0, 1, Step::Posted)],
            vec![
                bundled(0, 2),
                signed(0, 1),
                moved(0, 1, Step::Permanent),
                bundled(0, 2),
            ],
        ];
        for all in wrong {
            assert!(told(&all).is_err(), "{all:?}");
        }
        let again = [
            bundled(0, 2),
            signed(0, 1),
            moved(0, 1, Step::Posted),
            bundled(0, 2),
        ];
        assert!(told(&again).unwrap().carrier(0).unwrap().trips.is_empty());
    }
}
