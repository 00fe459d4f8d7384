//! Where time and block height enter the system.
//!
//! Not here: who keeps the promise about ticks durable; the writer appends the lease this file asks
//! for before a tick is answered. The invariants: timestamps strictly increase within a process; no
//! assignment is earlier than any tick handed out, also after a restart and with a clock set back;
//! a tick is never earlier than any assignment.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use spec::contract::Tick;
use weave::Position;

/// The wall clock, in ms since 1970. A test hands in its own.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Block height at a moment in ms.
pub type Heights = Arc<dyn Fn(u64) -> u64 + Send + Sync>;

/// The machine's clock.
pub fn wall_clock() -> WallClock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 reads as 1970; the floor below takes over.
        since.map_or(0, |since| since.as_millis() as u64)
    })
}

/// What the log says about time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// The highest tick of any assignment.
    pub highest: Tick,
    /// No tick after this moment was handed out, in ms.
    pub leased_until_ms: u64,
    /// Where it says who may schedule, and whether anybody may.
    pub turns: Turns,
}

/// Where the newest notes of each kind stand that turn the scheduler's way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    /// Nothing gets a slot after this, but for a later resumption.
    pub suspended: Option<Position>,
    /// Another epoch began.
    pub resumed: Option<Position>,
    /// Another key took over.
    pub succeeded: Option<Position>,
}

impl Turns {
    /// The newer of each.
    pub fn later(self, other: Turns) -> Turns {
        Turns {
            suspended: self.suspended.max(other.suspended),
            resumed: self.resumed.max(other.resumed),
            succeeded: self.succeeded.max(other.succeeded),
        }
    }

    /// Whether nothing may get a slot now.
    pub fn is_suspended(self) -> bool {
        self.suspended > self.resumed
    }
}

/// The one clock of a scheduler; owned by its writer.
pub struct Clock {
    now: WallClock,
    heights: Heights,
    /// No assignment may be earlier.
    floor: Tick,
    /// The highest tick of any assignment.
    highest: Tick,
    leased_until_ms: u64,
    lease_ms: u64,
}

impl Clock {
    /// A clock that keeps what was promised in the past.
    pub fn new(now: WallClock, heights: Heights, lease_ms: u64, past: Past) -> Clock {
        // Any tick up to the lease may have been handed out before the restart.
        let floor_ms = past.leased_until_ms;
        let floor = Tick {
            timestamp_ms: floor_ms,
            block_height: 0,
        };
        let highest = past.highest;
        Clock {
            now,
            heights,
            floor,
            highest,
            leased_until_ms: floor_ms,
            lease_ms,
        }
    }

    /// The tick of the assignment after one with the tick `last` in the same process.
    pub fn stamp(&mut self, last: Tick) -> Tick {
        let after_last = last.timestamp_ms + 1;
        let timestamp_ms = (self.now)().max(self.floor.timestamp_ms).max(after_last);
        let tick = self.at(timestamp_ms, last);
        assert!(
            tick.timestamp_ms >= self.floor.timestamp_ms && tick > last,
            "a stamp moves forward"
        );
        self.highest = later(self.highest, tick);
        tick
    }

    /// The present. It may be answered only once [`Clock::lease`] asks for nothing more.
    pub fn tick(&mut self) -> Tick {
        let timestamp_ms = (self.now)()
            .max(self.floor.timestamp_ms)
            .max(self.highest.timestamp_ms);
        let tick = self.at(timestamp_ms, self.highest);
        assert!(
            tick >= self.floor && tick >= self.highest,
            "a tick undercuts nothing"
        );
        self.floor = tick;
        tick
    }

    /// The lease that must be durable before the last tick is answered; `None` if one covers it.
    pub fn lease(&self) -> Option<u64> {
        let needed = self.floor.timestamp_ms > self.leased_until_ms;
        needed.then(|| self.floor.timestamp_ms + self.lease_ms)
    }

    /// A lease became durable.
    pub fn leased(&mut self, until_ms: u64) {
        assert!(until_ms >= self.leased_until_ms, "leases only grow");
        self.leased_until_ms = until_ms;
    }

    fn at(&self, timestamp_ms: u64, last: Tick) -> Tick {
        let height = (self.heights)(timestamp_ms);
        let block_height = height.max(last.block_height).max(self.floor.block_height);
        Tick {
            timestamp_ms,
            block_height,
        }
    }
}

/// The later time and the higher block of two ticks.
pub fn later(a: Tick, b: Tick) -> Tick {
    Tick {
        timestamp_ms: a.timestamp_ms.max(b.timestamp_ms),
        block_height: a.block_height.max(b.block_height),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn clock(start_ms: u64, past: Past) -> (Arc<AtomicU64>, Clock) {
        let now = Arc::new(AtomicU64::new(start_ms));
        let read = now.clone();
        let clock = Clock::new(
            Arc::new(move || read.load(Ordering::Relaxed)),
            Arc::new(|ms| 1 + ms / 100),
            2000,
            past,
        );
        (now, clock)
    }

    #[test]
    fn stamps_rise_by_one_within_a_millisecond() {
        let (_, mut clock) = clock(1000, Past::default());
        let first = clock.stamp(Tick::default());
        let second = clock.stamp(first);
        assert_eq!((first.timestamp_ms, second.timestamp_ms), (1000, 1001));
        assert_eq!(
            clock.stamp(Tick::default()).timestamp_ms,
            1000,
            "other processes keep the wall's time"
        );
    }

    #[test]
    fn no_assignment_is_earlier_than_a_tick_and_no_tick_than_an_assignment() {
        let (now, mut clock) = clock(1000, Past::default());
        let mut last = Tick::default();
        for _ in 0..50 {
            last = clock.stamp(last);
        }
        let tick = clock.tick();
        assert_eq!(tick, last, "a process ran ahead of the wall");
        assert!(
            clock.stamp(Tick::default()) >= tick,
            "another process must not fall behind the tick"
        );
        now.store(10, Ordering::Relaxed);
        assert!(
            clock.stamp(Tick::default()) >= tick,
            "nor may a clock that was set back"
        );
        assert!(clock.tick() >= tick);
    }

    #[test]
    fn a_lease_is_asked_for_once_and_kept_after_a_restart() {
        let (now, mut before) = clock(1000, Past::default());
        before.tick();
        let until = before.lease().expect("the first tick needs a lease");
        before.leased(until);
        now.store(2900, Ordering::Relaxed);
        let tick = before.tick();
        assert_eq!(before.lease(), None, "the lease covers two seconds of ticks");
        let past = Past {
            highest: Tick::default(),
            leased_until_ms: until,
            ..Past::default()
        };
        let (_, mut after) = clock(5, past);
        assert!(
            after.stamp(Tick::default()) >= tick,
            "the clock went back and the node restarted"
        );
        assert!(after.tick() >= tick);
    }
}
