//! Lanes: what waits of one process, one lane per receiver. Pure: time comes in as an argument.
//!
//! Invariant: of one lane only the first delivery is under way, and it goes again until it is
//! settled; so one receiver gets a sender's messages in order, and another one never waits for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::delivery::{Delivery, Lane, Order, Tries};

/// A delivery that waits in a lane.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What to do.
    pub delivery: Delivery,
    /// The evaluation whose cursor it holds back; `None` once it is durable in the queue's file.
    pub turn: Option<u64>,
}

#[derive(Debug, Default)]
struct Entry {
    waiting: BTreeMap<Order, Waiting>,
    tries: Tries,
    under_way: Option<Order>,
}

/// All lanes of one sender.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<Lane, Entry>,
    ready: VecDeque<Lane>,
    timers: BTreeSet<(u64, Lane)>,
    len: usize,
}

impl Lanes {
    /// Deliveries that wait or are under way.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a delivery; `false` if it waits already.
    pub fn push(&mut self, lane: Lane, waiting: Waiting, tries: Tries) -> bool {
        let entry = self.lanes.entry(lane.clone()).or_default();
        let order = waiting.delivery.order.clone();
        if entry.waiting.contains_key(&order) {
            return false;
        }
        let is_new = entry.waiting.is_empty();
        entry.waiting.insert(order, waiting);
        self.len += 1;
        // The lane's tries are those of its first delivery, the only one that is ever tried.
        if is_new {
            entry.tries = tries;
            self.rest(lane);
        }
        true
    }

    /// Puts an idle lane where it will be found when it is due.
    fn rest(&mut self, lane: Lane) {
        let entry = self.lanes.get(&lane).expect("only existing lanes come to rest");
        match entry.tries.due_ms {
            0 => self.ready.push_back(lane),
            due_ms => {
                self.timers.insert((due_ms, lane));
            }
        }
    }

    /// The next delivery to start, if one is due; it counts as under way from here on.
    pub fn start(&mut self, now_ms: u64) -> Option<(Lane, Delivery)> {
        while self.timers.first().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let (_, lane) = self.timers.pop_first().expect("just seen");
            self.ready.push_back(lane);
        }
        let lane = self.ready.pop_front()?;
        let entry = self.lanes.get_mut(&lane).expect("ready lanes exist");
        debug_assert!(entry.under_way.is_none(), "a lane is ready only while it rests");
        let (order, waiting) = entry
            .waiting
            .first_key_value()
            .expect("ready lanes are not empty");
        entry.under_way = Some(order.clone());
        let delivery = waiting.delivery.clone();
        Some((lane, delivery))
    }

    /// The delivery under way is settled; it leaves its lane.
    pub fn settle(&mut self, lane: &Lane) -> Waiting {
        let entry = self
            .lanes
            .get_mut(lane)
            .expect("the lane of a delivery under way exists");
        let order = entry.under_way.take().expect("a delivery is under way");
        let settled = entry.waiting.remove(&order).expect("it stays in its lane");
        entry.tries = Tries::default();
        self.len -= 1;
        match entry.waiting.is_empty() {
            true => drop(self.lanes.remove(lane)),
            false => self.rest(lane.clone()),
        }
        settled
    }

    /// The delivery under way goes again when `tries` says.
    pub fn again(&mut self, lane: &Lane, tries: Tries) {
        let entry = self
            .lanes
            .get_mut(lane)
            .expect("the lane of a delivery under way exists");
        entry.under_way = None;
        entry.tries = tries;
        self.rest(lane.clone());
    }

    /// How often the first delivery of a lane failed.
    pub fn tries(&self, lane: &Lane) -> Tries {
        self.lanes.get(lane).map_or(Tries::default(), |entry| entry.tries)
    }

    /// What waits in a lane, in order; the first one with the lane's tries.
    pub fn waiting(&self, lane: &Lane) -> Vec<(Delivery, Tries)> {
        let Some(entry) = self.lanes.get(lane) else {
            return Vec::new();
        };
        let first = std::iter::once(entry.tries).chain(std::iter::repeat(Tries::default()));
        let unwritten = entry
            .waiting
            .values()
            .zip(first)
            .filter(|(w, tries)| w.turn.is_some() || tries.attempts > 0);
        unwritten
            .map(|(waiting, tries)| (waiting.delivery.clone(), tries))
            .collect()
    }

    /// All of a lane is durable now: gives back the turns that it held back.
    pub fn release(&mut self, lane: &Lane) -> Vec<u64> {
        let entry = self.lanes.get_mut(lane);
        entry
            .into_iter()
            .flat_map(|entry| entry.waiting.values_mut())
            .filter_map(|w| w.turn.take())
            .collect()
    }

    /// Whether a lane waits for another attempt.
    pub fn is_blocked(&self, lane: &Lane) -> bool {
        self.tries(lane).attempts > 0
    }

    /// When the next resting lane is due, in ms.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.timers.first().map(|(due_ms, _)| *due_ms)
    }
}

/// Evaluations whose deliveries are not all settled, oldest first.
#[derive(Debug)]
pub struct Window<Mark> {
    turns: VecDeque<(Mark, usize)>,
    first: u64,
    open: usize,
}

impl<Mark> Default for Window<Mark> {
    fn default() -> Self {
        Window {
            turns: VecDeque::new(),
            first: 0,
            open: 0,
        }
    }
}

impl<Mark> Window<Mark> {
    /// Adds an evaluation with a number of deliveries; gives the number of its turn.
    pub fn open(&mut self, mark: Mark, deliveries: usize) -> u64 {
        self.turns.push_back((mark, deliveries));
        self.open += deliveries;
        self.first + self.turns.len() as u64 - 1
    }

    /// One delivery of a turn is settled.
    pub fn settle(&mut self, turn: u64) {
        let turn = self
            .turns
            .get_mut((turn - self.first) as usize)
            .expect("unsettled turns stay");
        assert!(turn.1 > 0, "no delivery is settled twice");
        turn.1 -= 1;
        self.open -= 1;
    }

    /// Deliveries that are not settled.
    pub fn open_deliveries(&self) -> usize {
        self.open
    }

    /// Takes the oldest evaluation if all it asked for is settled.
    pub fn close(&mut self) -> Option<Mark> {
        let (_, open) = self.turns.front()?;
        if *open > 0 {
            return None;
        }
        self.first += 1;
        self.turns.pop_front().map(|(mark, _)| mark)
    }
}

#[cfg(test)]
mod tests {
    use spec::{ItemId, ProcessId};

    use crate::delivery::{Assign, Place, What};

    use super::*;

    fn waiting(slot: u64, to: u8) -> (Lane, Waiting) {
        let process = ProcessId([to; 32]);
        let assign = Assign {
            process,
            item: ItemId([1; 32]),
            base_layer: false,
            exclude: vec![],
        };
        let order = Order {
            place: Place::slot(slot),
            index: 0,
        };
        let delivery = Delivery {
            order,
            origin: ItemId([1; 32]),
            what: What::Assign(assign),
        };
        let lane = delivery.lane(ProcessId([0; 32]));
        (
            lane,
            Waiting {
                delivery,
                turn: Some(slot),
            },
        )
    }

    fn push(lanes: &mut Lanes, slot: u64, to: u8) -> Lane {
        let (lane, waiting) = waiting(slot, to);
        assert!(lanes.push(lane.clone(), waiting, Tries::default()));
        lane
    }

    #[test]
    fn a_failing_receiver_holds_up_its_own_lane_only() {
        let mut lanes = Lanes::default();
        let (a, b) = (push(&mut lanes, 1, 1), push(&mut lanes, 1, 2));
        push(&mut lanes, 2, 1);
        push(&mut lanes, 2, 2);
        assert_eq!(lanes.start(0).unwrap().0, a);
        assert_eq!(lanes.start(0).unwrap().0, b);
        assert!(lanes.start(0).is_none(), "one delivery per lane");
        lanes.again(
            &a,
            Tries {
                attempts: 1,
                due_ms: 50,
            },
        );
        lanes.settle(&b);
        assert_eq!(lanes.start(0).unwrap().1.order.place.slot, 2);
        lanes.settle(&b);
        assert!(lanes.start(49).is_none() && lanes.is_blocked(&a));
        assert_eq!(lanes.next_due_ms(), Some(50));
        assert_eq!((lanes.waiting(&a).len(), lanes.release(&a)), (2, vec![1, 2]));
        assert_eq!(lanes.start(50).unwrap().1.order.place.slot, 1);
        lanes.settle(&a);
        assert_eq!(lanes.start(50).unwrap().1.order.place.slot, 2);
        lanes.settle(&a);
        assert!(lanes.is_empty());
    }

    #[test]
    fn the_same_delivery_waits_once() {
        let mut lanes = Lanes::default();
        push(&mut lanes, 1, 1);
        let (lane, again) = waiting(1, 1);
        assert!(!lanes.push(lane, again, Tries::default()));
        assert_eq!(lanes.len(), 1);
    }

    #[test]
    fn the_window_closes_from_its_oldest_end() {
        let mut window = Window::default();
        let (first, second) = (window.open("a", 2), window.open("b", 1));
        window.settle(second);
        window.settle(first);
        assert_eq!(window.close(), None);
        window.settle(first);
        assert_eq!(
            (window.close(), window.close(), window.close()),
            (Some("a"), Some("b"), None)
        );
        let third = window.open("c", 0);
        assert_eq!(
            (third, window.close(), window.open_deliveries()),
            (2, Some("c"), 0)
        );
    }
}
