//! Outcomes already evaluated: an index on disk, written in batches, and what is not written yet.
//!
//! A cache: whatever is missing is evaluated again from the log. Keys sort as evaluations happened:
//! process, timestamp, slot, then place within the moment. Outcomes with an error stand in a table of
//! their own, so that lists need not step over them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle};
use spec::contract::{Answer, Evaluated, OutcomesPage, OutcomesQuery, Position};
use spec::{ItemId, ProcessId, Refusal};
use wire::compute::EvaluatedJson;

use crate::config::Config;
use crate::cron::Order;
use crate::error::Error;

/// Version of the tables; another one is dropped and evaluated anew.
const VERSION: &str = "1";
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const LISTED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("listed");
const FAILED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("failed");
const CRONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("crons");
/// Process and message to the evaluation's key.
const MESSAGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("messages");

/// What all tables of evaluations have in common.
type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

const KEY_BYTES: usize = 32 + 8 + 8 + 1 + 8 + 4;

/// Where an evaluation stands among all; sorts as they happened.
type Key = [u8; KEY_BYTES];

fn key(process: ProcessId, timestamp_ms: u64, slot: u64, order: Order) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..32].copy_from_slice(process.bytes());
    key[32..40].copy_from_slice(&timestamp_ms.to_be_bytes());
    key[40..48].copy_from_slice(&slot.to_be_bytes());
    key[48] = order.class;
    key[49..57].copy_from_slice(&order.interval.to_be_bytes());
    key[57..].copy_from_slice(&order.index.to_be_bytes());
    key
}

fn key_of(process: ProcessId, at: &Evaluated) -> Answer<Key> {
    let order = order_of(at.cron.as_deref())?;
    Ok(key(process, at.tick.timestamp_ms, at.slot, order))
}

fn order_of(cron: Option<&str>) -> Answer<Order> {
    let invalid = || Refusal::invalid("invalid-cursor", "the cursor names a cron that cannot be");
    cron.map_or(Some(Order::MESSAGE), Order::of_name)
        .ok_or_else(invalid)
}

fn message_key(process: ProcessId, message: ItemId) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(process.bytes());
    key[32..].copy_from_slice(message.bytes());
    key
}

/// The index.
pub struct Results {
    db: Database,
    unwritten: Mutex<Unwritten>,
    /// One writer at a time.
    writing: Mutex<()>,
    unwritten_max: usize,
    unwritten_bytes_max: usize,
    page_bytes_max: usize,
}

#[derive(Default)]
struct Unwritten {
    rows: BTreeMap<Key, Evaluated>,
    /// Of all outcomes in `rows`, more or less: one put twice counts twice.
    bytes: usize,
    messages: BTreeMap<[u8; 64], Key>,
}

type Range = (Bound<Key>, Bound<Key>);

impl Results {
    /// Opens or makes the index; one that cannot be read or is of another epoch is made anew.
    pub fn open(path: &Path, epoch: &str, config: &Config) -> Result<Results, Error> {
        let db = match open_db(path, epoch, config) {
            Ok(db) => db,
            Err(Error::Index(why)) if path.exists() && !why.contains("already open") => {
                tracing::warn!(path = %path.display(), "the index of outcomes is made anew: {why}");
                std::fs::remove_file(path).map_err(|source| Error::File {
                    path: path.into(),
                    source,
                })?;
                open_db(path, epoch, config)?
            }
            Err(error) => return Err(error),
        };
        Ok(Results {
            db,
            unwritten: Mutex::default(),
            writing: Mutex::default(),
            unwritten_max: config.unwritten_max.max(1),
            unwritten_bytes_max: config.unwritten_bytes_max,
            page_bytes_max: config.page_bytes_max,
        })
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an outcome. Blocks when many are unwritten.
    pub fn put(&self, process: ProcessId, at: Evaluated) -> Result<(), Error> {
        let key = key_of(process, &at).map_err(|refusal| Error::Index(refusal.text))?;
        let mut unwritten = self.unwritten();
        if let Some(message) = at.message {
            unwritten.messages.insert(message_key(process, message), key);
        }
        unwritten.bytes += weight(&at);
        unwritten.rows.insert(key, at);
        let is_full =
            unwritten.rows.len() >= self.unwritten_max || unwritten.bytes >= self.unwritten_bytes_max;
        drop(unwritten);
        if is_full { self.flush() } else { Ok(()) }
    }

    /// Whether anything waits to be written.
    pub fn has_unwritten(&self) -> bool {
        !self.unwritten().rows.is_empty()
    }

    /// Writes what is unwritten. Blocks.
    pub fn flush(&self) -> Result<(), Error> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<_> = self
            .unwritten()
            .rows
            .iter()
            .map(|(k, at)| (*k, at.clone()))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        self.write(&rows).map_err(Error::from)?;
        let mut unwritten = self.unwritten();
        for (key, at) in &rows {
            unwritten.rows.remove(key);
            unwritten.bytes = unwritten.bytes.saturating_sub(weight(at));
            if let Some(message) = at.message {
                unwritten.messages.remove(&message_key(process_of(key), message));
            }
        }
        Ok(())
    }

    fn write(&self, rows: &[(Key, Evaluated)]) -> Result<(), redb::Error> {
        let mut txn = self.db.begin_write()?;
        // Opening after a kill must not scan the file.
        txn.set_quick_repair(true);
        {
            let (mut listed, mut failed) = (txn.open_table(LISTED)?, txn.open_table(FAILED)?);
            let (mut crons, mut messages) = (txn.open_table(CRONS)?, txn.open_table(MESSAGES)?);
            // Keys of one batch differ: what a table lacked before, nothing has to be taken out of.
            let (no_listed, no_failed, no_crons) =
                (listed.is_empty()?, failed.is_empty()?, crons.is_empty()?);
            for (key, at) in rows {
                let row = serde_json::to_vec(&EvaluatedJson::from(at)).expect("texts and numbers are JSON");
                let is_listed = !at.outcome.is_error();
                // Another binary registered under the module's id may have failed where this one does not.
                let (table, other, is_bare) = match is_listed {
                    true => (&mut listed, &mut failed, no_failed),
                    false => (&mut failed, &mut listed, no_listed),
                };
                table.insert(&key[..], &row[..])?;
                if !is_bare {
                    other.remove(&key[..])?;
                }
                match at.cron.is_some() && is_listed {
                    true => drop(crons.insert(&key[..], &[][..])?),
                    false if no_crons => {}
                    false => drop(crons.remove(&key[..])?),
                }
                if let Some(message) = at.message {
                    messages.insert(&message_key(process_of(key), message)[..], &key[..])?;
                }
            }
        }
        Ok(txn.commit()?)
    }

    /// The outcome of a message.
    pub fn of_message(&self, process: ProcessId, message: ItemId) -> Result<Option<Evaluated>, Error> {
        let message = message_key(process, message);
        {
            let unwritten = self.unwritten();
            let found = unwritten
                .messages
                .get(&message)
                .and_then(|key| unwritten.rows.get(key));
            if let Some(at) = found {
                return Ok(Some(at.clone()));
            }
        }
        self.read_message(&message).map_err(Error::from)
    }

    fn read_message(&self, message: &[u8; 64]) -> Result<Option<Evaluated>, redb::Error> {
        let txn = self.db.begin_read()?;
        let Some(key) = txn.open_table(MESSAGES)?.get(&message[..])? else {
            return Ok(None);
        };
        for table in [LISTED, FAILED] {
            if let Some(row) = txn.open_table(table)?.get(key.value())? {
                return Ok(decode(row.value()));
            }
        }
        Ok(None)
    }

    /// The newest slot evaluated, whatever came of it.
    pub fn newest_slot(&self, process: ProcessId) -> Result<Option<u64>, Error> {
        let range = whole(process);
        let unwritten = self
            .unwritten()
            .rows
            .range(range)
            .next_back()
            .map(|(key, _)| *key);
        let written = self.newest_written(range).map_err(Error::from)?;
        Ok(unwritten.max(written).map(|key| slot_of(&key)))
    }

    fn newest_written(&self, range: Range) -> Result<Option<Key>, redb::Error> {
        let txn = self.db.begin_read()?;
        let mut newest = None;
        for table in [LISTED, FAILED] {
            let table = txn.open_table(table)?;
            let last = table.range::<&[u8]>(borrowed(&range))?.next_back().transpose()?;
            newest = newest.max(last.and_then(|(key, _)| key.value().try_into().ok()));
        }
        Ok(newest)
    }

    /// A page of outcomes, with errors if they are asked for, or of crons only.
    ///
    /// # Errors
    /// If the query names a cron that cannot be.
    pub fn list(&self, process: ProcessId, query: &OutcomesQuery, crons_only: bool) -> Answer<OutcomesPage> {
        let Some(range) = range_of(process, query)? else {
            return Ok(OutcomesPage::default());
        };
        let wanted = query.limit + 1;
        // The unwritten first: what is written meanwhile is then found in both, never in neither.
        let mut rows = self.list_unwritten(&range, query, wanted, crons_only);
        let tables: &[Table] = match (crons_only, query.failed) {
            (true, _) => &[CRONS],
            (false, false) => &[LISTED],
            (false, true) => &[LISTED, FAILED],
        };
        for table in tables {
            let written = self.list_written(*table, &range, query.descending, wanted);
            rows.extend(written.map_err(Error::from)?);
        }
        let ascending = rows.into_values();
        match query.descending {
            true => Ok(self.page(ascending.rev(), query.limit)),
            false => Ok(self.page(ascending, query.limit)),
        }
    }

    /// Cuts a page off by number and by bytes.
    fn page(&self, rows: impl Iterator<Item = Evaluated>, limit: usize) -> OutcomesPage {
        let (mut page, mut bytes) = (OutcomesPage::default(), 0);
        for at in rows {
            if page.outcomes.len() >= limit || bytes > self.page_bytes_max {
                page.has_next_page = true;
                break;
            }
            bytes += weight(&at);
            page.outcomes.push(at);
        }
        page
    }

    fn list_unwritten(
        &self,
        range: &Range,
        query: &OutcomesQuery,
        wanted: usize,
        crons_only: bool,
    ) -> BTreeMap<Key, Evaluated> {
        let unwritten = self.unwritten();
        let fits = |at: &&Evaluated| match crons_only {
            true => at.cron.is_some() && !at.outcome.is_error(),
            false => query.failed || !at.outcome.is_error(),
        };
        let rows = unwritten.rows.range(*range).filter(|(_, at)| fits(at));
        let copy = |(key, at): (&Key, &Evaluated)| (*key, at.clone());
        match query.descending {
            true => rows.rev().take(wanted).map(copy).collect(),
            false => rows.take(wanted).map(copy).collect(),
        }
    }

    fn list_written(
        &self,
        definition: Table,
        range: &Range,
        descending: bool,
        wanted: usize,
    ) -> Result<Vec<(Key, Evaluated)>, redb::Error> {
        let txn = self.db.begin_read()?;
        let (listed, table) = (txn.open_table(LISTED)?, txn.open_table(definition)?);
        let is_pointer = definition.name() == CRONS.name();
        let mut rows = table.range::<&[u8]>(borrowed(range))?;
        let (mut out, mut bytes, mut is_enough) = (Vec::new(), 0, false);
        while out.len() < wanted && !is_enough {
            // One more than fits, so that the page knows that more follow.
            is_enough = bytes > self.page_bytes_max;
            let next = if descending { rows.next_back() } else { rows.next() };
            let Some((key, value)) = next.transpose()? else {
                break;
            };
            let at = match is_pointer {
                true => listed.get(key.value())?.and_then(|row| decode(row.value())),
                false => decode(value.value()),
            };
            bytes += at.as_ref().map_or(0, weight);
            out.extend(key.value().try_into().ok().zip(at));
        }
        Ok(out)
    }
}

fn open_db(path: &Path, epoch: &str, config: &Config) -> Result<Database, Error> {
    let open = || -> Result<Database, redb::Error> {
        let db = redb::Builder::new()
            .set_cache_size(config.index_cache_bytes)
            .create(path)?;
        let txn = db.begin_write()?;
        {
            let mut meta = txn.open_table(META)?;
            let is_ours = |key, expected: &str| -> Result<bool, redb::Error> {
                Ok(meta.get(key)?.is_some_and(|found| found.value() == expected))
            };
            if !is_ours("version", VERSION)? || !is_ours("epoch", epoch)? {
                for table in [LISTED, FAILED, CRONS, MESSAGES] {
                    txn.delete_table(table)?;
                }
                meta.insert("version", VERSION)?;
                meta.insert("epoch", epoch)?;
            }
            for table in [LISTED, FAILED, CRONS, MESSAGES] {
                txn.open_table(table)?;
            }
        }
        txn.commit()?;
        Ok(db)
    };
    open().map_err(Error::from)
}

/// Bytes of an outcome's free-form parts.
fn weight(at: &Evaluated) -> usize {
    let outcome = &at.outcome;
    let parts = [
        &outcome.messages,
        &outcome.assignments,
        &outcome.spawns,
        &outcome.output,
    ];
    let error = outcome.error.as_ref().map_or(0, |error| error.get().len());
    parts.iter().map(|part| part.get().len()).sum::<usize>() + error
}

/// A row that cannot be read counts as missing: it is evaluated again.
fn decode(row: &[u8]) -> Option<Evaluated> {
    serde_json::from_slice::<EvaluatedJson>(row)
        .ok()
        .map(Evaluated::from)
}

fn process_of(key: &Key) -> ProcessId {
    let mut id = [0; 32];
    id.copy_from_slice(&key[..32]);
    ProcessId(id)
}

fn slot_of(key: &Key) -> u64 {
    let mut slot = [0; 8];
    slot.copy_from_slice(&key[40..48]);
    u64::from_be_bytes(slot)
}

fn whole(process: ProcessId) -> Range {
    let mut last = [0xff; KEY_BYTES];
    last[..32].copy_from_slice(process.bytes());
    (
        Bound::Included(key(process, 0, 0, Order::MESSAGE)),
        Bound::Included(last),
    )
}

fn borrowed(range: &Range) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (
        range.0.as_ref().map(|key| &key[..]),
        range.1.as_ref().map(|key| &key[..]),
    )
}

/// The keys a query asks for; `None` if there can be none.
fn range_of(process: ProcessId, query: &OutcomesQuery) -> Answer<Option<Range>> {
    let (mut low, mut high) = whole(process);
    let at = |ms: u64| key(process, ms, 0, Order::MESSAGE);
    match &query.from {
        Some(Position::Time(u64::MAX)) => return Ok(None),
        Some(Position::Time(ms)) => low = Bound::Included(at(ms + 1)),
        Some(position) => low = Bound::Excluded(exact(process, position)?),
        None => {}
    }
    match &query.to {
        Some(Position::Time(u64::MAX)) | None => {}
        Some(Position::Time(ms)) => high = Bound::Excluded(at(ms + 1)),
        Some(position) => high = Bound::Included(exact(process, position)?),
    }
    let (Bound::Included(first) | Bound::Excluded(first), Bound::Included(last) | Bound::Excluded(last)) =
        (low, high)
    else {
        unreachable!("both ends are bounded by the process")
    };
    Ok((first < last).then_some((low, high)))
}

fn exact(process: ProcessId, position: &Position) -> Answer<Key> {
    match position {
        Position::Time(ms) => Ok(key(process, *ms, 0, Order::MESSAGE)),
        Position::Evaluation {
            timestamp_ms,
            slot,
            cron,
        } => Ok(key(process, *timestamp_ms, *slot, order_of(cron.as_deref())?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use spec::Outcome;
    use spec::contract::Tick;

    const P: ProcessId = ProcessId([1; 32]);

    fn results(dir: &Path) -> Results {
        Results::open(&dir.join("results.redb"), "epoch", &Config::default()).unwrap()
    }

    fn evaluated(ms: u64, slot: u64, cron: Option<&str>, error: bool) -> Evaluated {
        let outcome = if error {
            Outcome::failed("x")
        } else {
            Outcome::default()
        };
        let message = cron.is_none().then_some(ItemId([slot as u8; 32]));
        let tick = Tick {
            timestamp_ms: ms,
            block_height: 1,
        };
        Evaluated {
            slot,
            tick,
            cron: cron.map(Arc::from),
            message,
            outcome: Arc::new(outcome),
        }
    }

    fn slots(results: &Results, query: &OutcomesQuery) -> (Vec<u64>, bool) {
        let page = results.list(P, query, false).unwrap();
        (
            page.outcomes.iter().map(|at| at.slot).collect(),
            page.has_next_page,
        )
    }

    fn fill(results: &Results, slots: std::ops::Range<u64>) {
        for slot in slots {
            results
                .put(P, evaluated(100 + slot, slot, None, slot % 3 == 1))
                .unwrap();
        }
    }

    #[test]
    fn lists_leave_errors_out_before_they_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let results = results(dir.path());
        fill(&results, 0..6);
        results.flush().unwrap();
        fill(&results, 6..12);
        let query = OutcomesQuery {
            limit: 5,
            ..OutcomesQuery::default()
        };
        assert_eq!(slots(&results, &query), (vec![0, 2, 3, 5, 6], true));
        let rest = OutcomesQuery {
            from: Some(Position::Time(106)),
            limit: 3,
            ..query.clone()
        };
        assert_eq!(slots(&results, &rest), (vec![8, 9, 11], false));
        let down = OutcomesQuery {
            limit: 3,
            descending: true,
            ..query
        };
        assert_eq!(slots(&results, &down), (vec![11, 9, 8], true));
        assert_eq!(results.newest_slot(P).unwrap(), Some(11));
    }

    #[test]
    fn a_list_with_errors_steps_through_both_tables_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let results = results(dir.path());
        fill(&results, 0..6);
        results.flush().unwrap();
        fill(&results, 6..12);
        let query = OutcomesQuery {
            limit: 5,
            failed: true,
            ..OutcomesQuery::default()
        };
        assert_eq!(slots(&results, &query), (vec![0, 1, 2, 3, 4], true));
        let rest = OutcomesQuery {
            from: Some(Position::Time(104)),
            limit: 9,
            ..query.clone()
        };
        assert_eq!(slots(&results, &rest), ((5..12).collect(), false));
        let down = OutcomesQuery {
            limit: 3,
            descending: true,
            ..query
        };
        assert_eq!(slots(&results, &down), (vec![11, 10, 9], true));
    }

    #[test]
    fn cursors_are_exclusive_below_inclusive_above_and_numeric() {
        let dir = tempfile::tempdir().unwrap();
        let results = results(dir.path());
        for (ms, slot, cron) in [
            (5, 9, None),
            (5, 9, Some("1-2-s")),
            (5, 9, Some("0-10-s")),
            (5, 9, Some("0-3-blocks")),
            (6, 10, None),
        ] {
            results.put(P, evaluated(ms, slot, cron, false)).unwrap();
        }
        results.flush().unwrap();
        let at = |slot, cron: Option<&str>| {
            Some(Position::Evaluation {
                timestamp_ms: slot - 4,
                slot,
                cron: cron.map(str::to_owned),
            })
        };
        let query = |from, to| OutcomesQuery {
            from,
            to,
            limit: 10,
            descending: false,
            failed: false,
        };
        let names = |query: &OutcomesQuery| {
            let page = results.list(P, query, false).unwrap();
            page.outcomes
                .iter()
                .map(|at| at.cron.as_deref().unwrap_or("-").to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&query(None, None)),
            ["-", "0-3-blocks", "1-2-s", "0-10-s", "-"]
        );
        assert_eq!(
            names(&query(at(9, None), at(9, Some("1-2-s")))),
            ["0-3-blocks", "1-2-s"]
        );
        assert_eq!(names(&query(at(9, Some("0-10-s")), None)), ["-"]);
        assert!(names(&query(at(10, None), None)).is_empty());
        let crons = results.list(P, &query(None, None), true).unwrap();
        assert!(crons.outcomes.len() == 3 && crons.outcomes.iter().all(|at| at.cron.is_some()));
        assert!(
            results
                .list(P, &query(at(9, Some("nonsense")), None), false)
                .is_err()
        );
    }

    #[test]
    fn another_epoch_or_rubbish_starts_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.redb");
        let open = |epoch| Results::open(&path, epoch, &Config::default()).unwrap();
        let first = open("a");
        fill(&first, 0..2);
        first.flush().unwrap();
        drop(first);
        let again = open("a");
        assert_eq!(
            again.of_message(P, ItemId([1; 32])).unwrap().map(|at| at.slot),
            Some(1)
        );
        drop(again);
        assert_eq!(open("b").newest_slot(P).unwrap(), None);
        std::fs::write(&path, b"rubbish").unwrap();
        assert_eq!(open("b").newest_slot(P).unwrap(), None);
    }

    #[test]
    fn a_page_ends_by_bytes_and_says_that_more_follow() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            page_bytes_max: 16,
            ..Config::default()
        };
        let results = Results::open(&dir.path().join("results.redb"), "epoch", &config).unwrap();
        for slot in 0..9 {
            results.put(P, evaluated(slot, slot, None, false)).unwrap();
            if slot == 5 {
                results.flush().unwrap();
            }
        }
        let query = OutcomesQuery {
            limit: 100,
            ..OutcomesQuery::default()
        };
        // An empty outcome weighs 8 bytes.
        assert_eq!(slots(&results, &query), (vec![0, 1, 2], true));
        let rest = OutcomesQuery {
            from: Some(Position::Time(4)),
            ..query.clone()
        };
        assert_eq!(slots(&results, &rest), (vec![5, 6, 7], true));
        assert_eq!(
            slots(
                &results,
                &OutcomesQuery {
                    descending: true,
                    ..query
                }
            ),
            (vec![8, 7, 6], true)
        );
    }

    #[test]
    fn an_outcome_that_changes_sides_stands_on_one() {
        let dir = tempfile::tempdir().unwrap();
        let results = results(dir.path());
        for error in [true, false, true] {
            results.put(P, evaluated(5, 1, Some("0-1-s"), error)).unwrap();
            results.flush().unwrap();
            let query = OutcomesQuery {
                limit: 9,
                ..OutcomesQuery::default()
            };
            let crons = results.list(P, &query, true).unwrap().outcomes.len();
            assert_eq!(
                (slots(&results, &query).0.len(), crons),
                (usize::from(!error), usize::from(!error))
            );
        }
    }
}
