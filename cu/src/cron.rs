//! Crons: messages a process gets at fixed times or blocks without anybody sending them.
//!
//! Pure. Everything comes from the log: the schedule from the process item's tags, the origin from
//! slot 0's tick, block times from slot 0's tag `Chain`. A cron due at moment t runs after every
//! message stamped <= t and before every later one, so live and replayed runs agree.
//! Source: spec/outcome.md, "Crons".

use spec::contract::{LogEntry, Tick};
use spec::{Tag, tags};

/// Milliseconds of a second.
const SECOND_MS: u64 = 1000;
/// Most crons of one process; later `Cron-Interval` tags are ignored. Part of the protocol.
pub const CRONS_MAX: usize = 128;
/// Seconds of a year of 365.25 days, of which a month is a twelfth.
const YEAR_S: f64 = 31_557_600.0;

/// One cron of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// `<index>-<interval>`, as cursors carry it.
    pub name: String,
    /// The tags of its messages.
    pub tags: Vec<Tag>,
    every: Every,
    order: Order,
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Every {
    Blocks(u64),
    Seconds(u64),
}

/// Where an evaluation stands among those of one moment: the message, then blocks, then times, each by
/// ascending interval, then by place in the tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Order {
    /// 0 message, 1 block cron, 2 time cron.
    pub class: u8,
    /// Blocks or seconds.
    pub interval: u64,
    /// Place among the process's crons.
    pub index: u32,
}

impl Order {
    /// Of a message: before every cron of its moment.
    pub const MESSAGE: Order = Order {
        class: 0,
        interval: 0,
        index: 0,
    };

    /// After every cron of its moment.
    pub const LAST: Order = Order {
        class: u8::MAX,
        interval: u64::MAX,
        index: u32::MAX,
    };

    /// Of a cron's name, as a cursor carries it; `None` if it is no such name.
    pub fn of_name(name: &str) -> Option<Order> {
        let (index, interval) = name.split_once('-')?;
        let (every, index) = (Every::parse(interval)?, index.parse().ok()?);
        Some(every.order(index))
    }
}

impl Every {
    /// Reads `<n>-<unit>`.
    fn parse(text: &str) -> Option<Every> {
        let (number, unit) = text.trim().split_once('-')?;
        let (number, unit) = (number.trim(), unit.trim().to_ascii_lowercase());
        if matches!(unit.as_str(), "block" | "blocks") {
            return number.parse().ok().filter(|n| *n > 0).map(Every::Blocks);
        }
        let seconds = number.parse::<f64>().ok()? * unit_seconds(&unit)?;
        // 1e12 seconds are 30,000 years; the bound also refuses infinity.
        (1.0..1e12)
            .contains(&seconds)
            .then_some(Every::Seconds(seconds as u64))
    }

    fn order(self, index: u32) -> Order {
        match self {
            Every::Blocks(interval) => Order {
                class: 1,
                interval,
                index,
            },
            Every::Seconds(interval) => Order {
                class: 2,
                interval,
                index,
            },
        }
    }
}

/// The units of the field's duration library, and months.
fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "years" | "year" | "yrs" | "yr" | "y" => YEAR_S,
        "months" | "month" => YEAR_S / 12.0,
        "weeks" | "week" | "w" => 604_800.0,
        "days" | "day" | "d" => 86_400.0,
        "hours" | "hour" | "hrs" | "hr" | "h" => 3600.0,
        "minutes" | "minute" | "mins" | "min" | "m" => 60.0,
        "seconds" | "second" | "secs" | "sec" | "s" => 1.0,
        "milliseconds" | "millisecond" | "msecs" | "msec" | "ms" => 0.001,
        _ => return None,
    })
}

/// When blocks begin: on the development chain, a function of its two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockTimes {
    genesis_ms: u64,
    interval_ms: u64,
}

impl BlockTimes {
    /// Reads `dev/<genesis_ms>/<interval_ms>`.
    pub fn parse(text: &str) -> Option<BlockTimes> {
        let (genesis, interval) = text.strip_prefix("dev/")?.split_once('/')?;
        let (genesis_ms, interval_ms) = (genesis.parse().ok()?, interval.parse().ok()?);
        (interval_ms > 0).then_some(BlockTimes {
            genesis_ms,
            interval_ms,
        })
    }

    /// The height at a moment.
    pub fn height_at(&self, ms: u64) -> u64 {
        1 + ms.saturating_sub(self.genesis_ms) / self.interval_ms
    }

    /// When a block begins, in ms.
    fn begin(&self, height: u64) -> Option<u64> {
        let passed = height.checked_sub(1)?.checked_mul(self.interval_ms)?;
        self.genesis_ms.checked_add(passed)
    }
}

/// Everything that decides a process's crons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    crons: Vec<Cron>,
    origin: Tick,
    blocks: Option<BlockTimes>,
}

/// A cron that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due<'a> {
    /// Which.
    pub cron: &'a Cron,
    /// When; the height is the one at that moment.
    pub tick: Tick,
}

impl Cron {
    /// Its place among the evaluations of one moment.
    pub fn order(&self) -> Order {
        self.order
    }
}

impl Schedule {
    /// The crons of a process, from the entry at its slot 0.
    pub fn of(process_tags: &[Tag], slot0: &LogEntry) -> Schedule {
        let chain = tags::first(slot0.assignment.item.tags(), "Chain");
        Schedule::new(
            process_tags,
            slot0.assignment.tick,
            chain.and_then(BlockTimes::parse),
        )
    }

    /// From its parts. Crons whose interval cannot be read never run, nor do block crons where the log
    /// does not say when blocks begin.
    pub fn new(process_tags: &[Tag], origin: Tick, blocks: Option<BlockTimes>) -> Schedule {
        let mut crons = read(process_tags);
        crons.retain(|cron| blocks.is_some() || !matches!(cron.every, Every::Blocks(_)));
        crons.sort_by_key(Cron::order);
        Schedule {
            crons,
            origin,
            blocks,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.crons.is_empty()
    }

    /// The first cron after an evaluation at `after` with its order, and not after the moment `until` and its order.
    /// `height` is the one to report where the log does not tell block times.
    pub fn next(&self, after: Tick, order: Order, until: (u64, Order)) -> Option<Due<'_>> {
        let due = |cron| Some((self.due(cron, after.timestamp_ms, order)?, cron));
        let first = self
            .crons
            .iter()
            .filter_map(due)
            .min_by_key(|(at, cron)| (*at, cron.order));
        let (timestamp_ms, cron) = first.filter(|(at, cron)| (*at, cron.order) <= until)?;
        let height = self.blocks.map_or(0, |blocks| blocks.height_at(timestamp_ms));
        let tick = Tick {
            timestamp_ms,
            block_height: height.max(after.block_height),
        };
        Some(Due { cron, tick })
    }

    /// The first moment of a cron that is later than (`after_ms`, `order`), never the origin's own.
    fn due(&self, cron: &Cron, after_ms: u64, order: Order) -> Option<u64> {
        let from = after_ms.max(self.origin.timestamp_ms);
        let is_past = |at: u64| at < from || (at == after_ms && cron.order <= order);
        let at = |turn: u64| self.moment(cron, turn);
        let mut turn = self.turn_before(cron, from).max(1);
        while is_past(at(turn)?) || at(turn)? <= self.origin.timestamp_ms {
            turn += 1;
        }
        at(turn)
    }

    /// When a cron's n-th turn after the origin is due.
    fn moment(&self, cron: &Cron, turn: u64) -> Option<u64> {
        match cron.every {
            Every::Seconds(seconds) => {
                let passed = seconds.checked_mul(SECOND_MS)?.checked_mul(turn)?;
                self.origin.timestamp_ms.checked_add(passed)
            }
            Every::Blocks(blocks) => {
                let height = self.origin.block_height.checked_add(blocks.checked_mul(turn)?)?;
                self.blocks?.begin(height)
            }
        }
    }

    /// A turn that is not later than the moment, and at most two before it.
    fn turn_before(&self, cron: &Cron, ms: u64) -> u64 {
        match cron.every {
            Every::Seconds(seconds) => (ms - self.origin.timestamp_ms) / (seconds * SECOND_MS),
            Every::Blocks(blocks) => {
                let height = self.blocks.map_or(0, |times| times.height_at(ms));
                (height.saturating_sub(self.origin.block_height) / blocks).saturating_sub(1)
            }
        }
    }
}

/// Reads `Cron-Interval` tags and the `Cron-Tag-*` that follow each.
fn read(process_tags: &[Tag]) -> Vec<Cron> {
    let mut crons: Vec<Option<Cron>> = Vec::new();
    for tag in process_tags {
        let name = tag.name_text();
        if name == "Cron-Interval" && crons.len() < CRONS_MAX {
            crons.push(open(&tag.value_text(), crons.len()));
        } else if let (Some(own), Some(Some(cron))) = (name.strip_prefix("Cron-Tag-"), crons.last_mut()) {
            cron.tags.push(Tag {
                name: own.to_owned().into(),
                value: tag.value.clone(),
            });
        }
    }
    crons.into_iter().flatten().collect()
}

fn open(interval: &str, index: usize) -> Option<Cron> {
    let Some(every) = Every::parse(interval) else {
        tracing::warn!(interval, "a cron whose interval cannot be read never runs");
        return None;
    };
    let order = every.order(index.try_into().ok()?);
    Some(Cron {
        name: format!("{index}-{interval}"),
        tags: Vec::new(),
        every,
        order,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Tick = Tick {
        timestamp_ms: 1_700_000_000_123,
        block_height: 5,
    };

    fn schedule(intervals: &[&str]) -> Schedule {
        let tags: Vec<_> = intervals.iter().map(|i| Tag::new("Cron-Interval", *i)).collect();
        let genesis_ms = ORIGIN.timestamp_ms - 4 * 10_000 - 3_000;
        Schedule::new(
            &tags,
            ORIGIN,
            Some(BlockTimes {
                genesis_ms,
                interval_ms: 10_000,
            }),
        )
    }

    /// All crons between the origin and a moment: (seconds after the origin, height, name).
    fn run(schedule: &Schedule, until_ms: u64) -> Vec<(f64, u64, String)> {
        let (mut at, mut order, mut out) = (ORIGIN, Order::MESSAGE, Vec::new());
        while let Some(due) = schedule.next(at, order, (ORIGIN.timestamp_ms + until_ms, Order::MESSAGE)) {
            assert!((due.tick, due.cron.order()) > (at, order), "moments ascend");
            (at, order) = (due.tick, due.cron.order());
            let seconds = (at.timestamp_ms - ORIGIN.timestamp_ms) as f64 / 1000.0;
            out.push((seconds, at.block_height, due.cron.name.clone()));
        }
        out
    }

    fn named(list: &[(f64, u64, &str)]) -> Vec<(f64, u64, String)> {
        list.iter().map(|(s, h, n)| (*s, *h, (*n).to_owned())).collect()
    }

    #[test]
    fn time_crons_run_at_exact_offsets_shorter_intervals_first_and_not_at_the_origin() {
        let runs = run(&schedule(&["10-seconds", "5-s"]), 20_001);
        let expected = [
            (5.0, 5, "1-5-s"),
            (10.0, 6, "1-5-s"),
            (10.0, 6, "0-10-seconds"),
            (15.0, 6, "1-5-s"),
            (20.0, 7, "1-5-s"),
            (20.0, 7, "0-10-seconds"),
        ];
        assert_eq!(runs, named(&expected));
    }

    #[test]
    fn block_crons_run_when_their_block_begins_before_time_crons_of_that_moment() {
        // The origin lies 3 s into block 5: block 6 begins 7 s after it.
        let runs = run(&schedule(&["7-seconds", "1-block", "2-blocks"]), 17_001);
        let expected = [
            (7.0, 6, "1-1-block"),
            (7.0, 6, "0-7-seconds"),
            (14.0, 6, "0-7-seconds"),
            (17.0, 7, "1-1-block"),
            (17.0, 7, "2-2-blocks"),
        ];
        assert_eq!(runs, named(&expected));
    }

    #[test]
    fn a_moment_belongs_to_one_side_of_a_border() {
        let schedule = schedule(&["10-seconds"]);
        let border = Tick {
            timestamp_ms: ORIGIN.timestamp_ms + 10_000,
            ..ORIGIN
        };
        assert_eq!(
            schedule.next(ORIGIN, Order::MESSAGE, (border.timestamp_ms, Order::MESSAGE)),
            None
        );
        let after = schedule
            .next(border, Order::MESSAGE, (border.timestamp_ms, Order::LAST))
            .unwrap();
        assert_eq!(after.tick.timestamp_ms, border.timestamp_ms);
        assert_eq!(
            schedule.next(after.tick, after.cron.order(), (border.timestamp_ms, Order::LAST)),
            None
        );
    }

    #[test]
    fn a_far_moment_is_found_without_stepping() {
        let schedule = schedule(&["1-second", "1-block"]);
        let far = Tick {
            timestamp_ms: ORIGIN.timestamp_ms + 31_557_600_000_000,
            block_height: 0,
        };
        let due = schedule
            .next(
                far,
                Order {
                    class: 2,
                    interval: 1,
                    index: 0,
                },
                (u64::MAX, Order::LAST),
            )
            .unwrap();
        assert_eq!(due.tick.timestamp_ms, far.timestamp_ms + 1000);
    }

    #[test]
    fn intervals_read_as_the_field_writes_them() {
        let seconds = |text| match Every::parse(text) {
            Some(Every::Seconds(seconds)) => seconds,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(seconds("10-seconds"), 10);
        assert_eq!(seconds("1.5-Hours"), 5400);
        assert_eq!(seconds("2500-ms"), 2);
        assert_eq!(seconds("1-month"), 2_629_800);
        assert_eq!(Every::parse("3-blocks"), Some(Every::Blocks(3)));
        for never in [
            "",
            "10",
            "0-blocks",
            "1.5-blocks",
            "999-ms",
            "-5-seconds",
            "x-s",
            "1-eon",
            "inf-s",
        ] {
            assert_eq!(Every::parse(never), None, "{never}");
        }
    }

    #[test]
    fn tags_follow_their_interval_and_names_carry_the_order() {
        let tags = [
            ("Cron-Tag-A", "0"),
            ("Cron-Interval", "1-s"),
            ("Cron-Tag-Action", "x"),
            ("Cron-Interval", "bad"),
            ("Cron-Tag-B", "lost"),
            ("Cron-Interval", "2-blocks"),
            ("Cron-Tag-Action", "y"),
        ];
        let tags: Vec<_> = tags
            .into_iter()
            .map(|(name, value)| Tag::new(name, value))
            .collect();
        let crons = read(&tags);
        assert_eq!(crons.len(), 2);
        assert_eq!(crons[0].tags, [Tag::new("Action", "x")]);
        assert_eq!(
            (crons[1].name.as_str(), &crons[1].tags[0]),
            ("2-2-blocks", &Tag::new("Action", "y"))
        );
        for cron in &crons {
            assert_eq!(Order::of_name(&cron.name), Some(cron.order()));
        }
        assert_eq!(Order::of_name("nonsense"), None);
    }
}
