//! The derived index: which records bear a term, and from where in time they come.
//!
//! Not here: what terms mean, and records that are too fresh (`recent.rs`). The invariant: the
//! index holds exactly the records up to its cursor; it can be deleted and is built again.
//!
//! A row per tag would cost a tree walk per tag. Instead each flush writes one *run*: all its
//! (term, position) pairs, sorted, in rows of [`ROW_PAIRS`]. Runs cover neighbouring stretches of
//! the log; neighbours of like size are merged, so that there are few.

use std::path::Path;
use std::sync::Arc;

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use crate::error::{Error, Result};
use crate::facts::{self, Term};
use crate::frame::u64_at;
use crate::record::{Entry, Position};

/// Version of the tables; another one is deleted and built anew.
const VERSION: u64 = 1;
/// Pairs of a row: with its key it fills a page of 4 KiB.
const ROW_PAIRS: usize = 240;
const PAIR_LEN: usize = 16;
/// A run takes its place among others of its size class; four neighbours of one class are merged.
const MERGE_COUNT: usize = 4;
/// Runs up to this many pairs are one size class; each further class is four times as large.
const SMALLEST_CLASS_PAIRS: u64 = 4096;
/// Larger runs are left alone, so that no merge takes long.
const MERGE_PAIRS_MAX: u64 = 4 << 20;
/// One moment is noted for so many records.
const MOMENT_RECORDS: usize = 1024;

/// (run, term, position of the first pair) -> sorted pairs of (term, position), u64 LE each.
const POSTINGS: TableDefinition<'_, (u64, u64, u64), &[u8]> = TableDefinition::new("postings");
/// First position -> (run, last position, pairs).
const RUNS: TableDefinition<'_, u64, (u64, u64, u64)> = TableDefinition::new("runs");
/// Time in ms -> the first position noted at it.
const MOMENTS: TableDefinition<'_, u64, u64> = TableDefinition::new("moments");
/// Name -> number.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

type Pair = (Term, u64);

/// A sorted batch and the stretch of the log it comes from.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    last: u64,
    id: u64,
    pairs: u64,
}

impl Run {
    fn size_class(&self) -> u32 {
        let units = (self.pairs / SMALLEST_CLASS_PAIRS).max(1);
        units.ilog2() / 2
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Index(Arc::from(error.to_string()))
}

/// The index's file, open.
pub struct Index {
    db: Database,
}

impl Index {
    /// Opens the file, or makes it anew if it is missing, unreadable, of another version, or not of
    /// this log: `log_mark` is a number only this log has, `end` its end.
    pub fn open(path: &Path, cache_bytes: usize, log_mark: u64, end: Option<Position>) -> Result<Index> {
        let open = || {
            let db = Database::builder().set_cache_size(cache_bytes).create(path);
            db.map(|db| Index { db }).map_err(failed)
        };
        let is_of_log = |index: &Index| -> Result<bool> {
            let (version, mark) = (index.meta("version")?, index.meta("log")?);
            let cursor = index.cursor()?;
            Ok(version == Some(VERSION) && mark == Some(log_mark) && cursor <= end)
        };
        if path.exists() {
            match open().and_then(|index| Ok((is_of_log(&index)?, index))) {
                Ok((true, index)) => return Ok(index),
                Ok((false, _)) => {
                    tracing::warn!(path = %path.display(), "the index is not this log's; it is built anew")
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the index cannot be read; it is built anew")
                }
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let index = open()?;
        let txn = index.db.begin_write().map_err(failed)?;
        {
            let mut meta = txn.open_table(META).map_err(failed)?;
            meta.insert("version", VERSION).map_err(failed)?;
            meta.insert("log", log_mark).map_err(failed)?;
            txn.open_table(POSTINGS).map_err(failed)?;
            txn.open_table(RUNS).map_err(failed)?;
            txn.open_table(MOMENTS).map_err(failed)?;
        }
        txn.commit().map_err(failed)?;
        Ok(index)
    }

    fn meta(&self, name: &str) -> Result<Option<u64>> {
        let txn = self.db.begin_read().map_err(failed)?;
        let table = match txn.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let value = table.get(name).map_err(failed)?;
        Ok(value.map(|value| value.value()))
    }

    /// The last record indexed.
    pub fn cursor(&self) -> Result<Option<Position>> {
        Ok(self.meta("cursor")?.map(Position))
    }

    /// Adds records, which follow the cursor in the log's order. Not on disk before [`Index::sync`].
    pub fn add<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Result<()> {
        self.put(Batch::of(entries))
    }

    /// Adds what was read elsewhere. As [`Index::add`].
    pub fn put(&self, mut batch: Batch) -> Result<()> {
        let (Some(first), Some(last)) = (batch.first, batch.last) else {
            return Ok(());
        };
        assert!(first <= last, "records come in the log's order");
        batch.pairs.sort_unstable();
        batch.pairs.dedup();

        let txn = self.begin()?;
        let id = next_run(&txn)?;
        let pairs = write_rows(&txn, id, batch.pairs.into_iter().map(Ok))?;
        let run = Run {
            first,
            last,
            id,
            pairs,
        };
        put_run(&txn, &run)?;
        {
            let mut meta = txn.open_table(META).map_err(failed)?;
            meta.insert("cursor", last).map_err(failed)?;
            let mut moments = txn.open_table(MOMENTS).map_err(failed)?;
            for (time_ms, position) in batch.moments {
                if moments.get(time_ms).map_err(failed)?.is_none() {
                    moments.insert(time_ms, position).map_err(failed)?;
                }
            }
        }
        txn.commit().map_err(failed)
    }

    fn begin(&self) -> Result<WriteTransaction> {
        let mut txn = self.db.begin_write().map_err(failed)?;
        txn.set_durability(Durability::None).map_err(failed)?;
        Ok(txn)
    }

    /// Merges neighbouring runs of one size class, if there are enough. Says whether it did.
    pub fn merge(&self) -> Result<bool> {
        let view = self.view()?;
        let Some(group) = mergeable(&view.runs) else {
            return Ok(false);
        };
        let sources = group.iter().map(|run| Source::new(&view.postings, run.id));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let txn = self.begin()?;
        let id = next_run(&txn)?;
        let pairs = write_rows(&txn, id, Merge { sources })?;
        {
            let mut runs = txn.open_table(RUNS).map_err(failed)?;
            let mut postings = txn.open_table(POSTINGS).map_err(failed)?;
            for run in group {
                runs.remove(run.first).map_err(failed)?;
                let rows = (run.id, 0, 0)..(run.id + 1, 0, 0);
                postings.retain_in(rows, |_, _| false).map_err(failed)?;
            }
        }
        let expected: u64 = group.iter().map(|run| run.pairs).sum();
        assert_eq!(pairs, expected, "a merge keeps every pair");
        let (first, last) = (group[0].first, group[group.len() - 1].last);
        put_run(
            &txn,
            &Run {
                first,
                last,
                id,
                pairs,
            },
        )?;
        txn.commit().map_err(failed)?;
        Ok(true)
    }

    /// Makes everything added so far durable.
    pub fn sync(&self) -> Result<()> {
        let mut txn = self.db.begin_write().map_err(failed)?;
        // Else a crash would cost a walk through the whole file at the next start.
        txn.set_quick_repair(true);
        txn.commit().map_err(failed)
    }

    /// The index as it is now.
    pub fn view(&self) -> Result<View> {
        let txn = self.db.begin_read().map_err(failed)?;
        let runs = txn.open_table(RUNS).map_err(failed)?;
        let runs = runs.iter().map_err(failed)?.map(|row| {
            let (first, run) = row.map_err(failed)?;
            let (id, last, pairs) = run.value();
            let first = first.value();
            Ok(Run {
                first,
                last,
                id,
                pairs,
            })
        });
        let runs = runs.collect::<Result<Vec<_>>>()?;
        assert!(
            runs.is_sorted_by(|a, b| a.last < b.first),
            "runs cover disjoint stretches"
        );
        Ok(View {
            postings: txn.open_table(POSTINGS).map_err(failed)?,
            moments: txn.open_table(MOMENTS).map_err(failed)?,
            runs,
        })
    }
}

/// What one flush adds.
#[derive(Default)]
pub struct Batch {
    pairs: Vec<Pair>,
    moments: Vec<(u64, u64)>,
    /// How many records it is of.
    pub records: usize,
    first: Option<u64>,
    last: Option<u64>,
}

impl Batch {
    /// What records say, which follow each other in the log.
    pub fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Batch {
        let mut batch = Batch::default();
        entries.for_each(|entry| batch.add(entry));
        batch
    }

    fn add(&mut self, entry: &Entry) {
        let position = entry.position.0;
        if self.records.is_multiple_of(MOMENT_RECORDS) {
            self.moments.push((entry.time_ms, position));
        }
        self.records += 1;
        self.first.get_or_insert(position);
        self.last = Some(position);
        facts::terms(&entry.record, |term| self.pairs.push((term, position)));
    }
}

fn next_run(txn: &WriteTransaction) -> Result<u64> {
    let mut meta = txn.open_table(META).map_err(failed)?;
    let id = meta.get("runs").map_err(failed)?.map_or(0, |id| id.value());
    meta.insert("runs", id + 1).map_err(failed)?;
    Ok(id)
}

fn put_run(txn: &WriteTransaction, run: &Run) -> Result<()> {
    let mut runs = txn.open_table(RUNS).map_err(failed)?;
    runs.insert(run.first, (run.id, run.last, run.pairs))
        .map_err(failed)?;
    Ok(())
}

/// Writes a run's rows; answers with the number of pairs.
fn write_rows(txn: &WriteTransaction, run: u64, pairs: impl Iterator<Item = Result<Pair>>) -> Result<u64> {
    let mut postings = txn.open_table(POSTINGS).map_err(failed)?;
    let mut row = Vec::with_capacity(ROW_PAIRS * PAIR_LEN);
    let mut key = (run, 0, 0);
    let mut count = 0;
    for pair in pairs {
        let (term, position) = pair?;
        if row.is_empty() {
            key = (run, term, position);
        }
        row.extend_from_slice(&term.to_le_bytes());
        row.extend_from_slice(&position.to_le_bytes());
        count += 1;
        if row.len() == ROW_PAIRS * PAIR_LEN {
            postings.insert(key, &*row).map_err(failed)?;
            row.clear();
        }
    }
    if !row.is_empty() {
        postings.insert(key, &*row).map_err(failed)?;
    }
    Ok(count)
}

/// The newest neighbours worth merging.
fn mergeable(runs: &[Run]) -> Option<&[Run]> {
    let last = runs.last()?;
    let class = last.size_class();
    // A larger run may stand between smaller ones; only the tail grows, so only it is looked at.
    let tail = runs
        .iter()
        .rev()
        .take_while(|run| run.size_class() <= class)
        .count();
    let group = &runs[runs.len() - tail..];
    let pairs: u64 = group.iter().map(|run| run.pairs).sum();
    (group.len() >= MERGE_COUNT && pairs <= MERGE_PAIRS_MAX).then_some(group)
}

fn pair_at(row: &[u8], index: usize) -> Pair {
    let at = index * PAIR_LEN;
    (u64_at(row, at), u64_at(row, at + 8))
}

/// Index of the first pair not less than `pair`.
fn lower_bound(row: &[u8], pair: Pair) -> usize {
    let (mut low, mut high) = (0, row.len() / PAIR_LEN);
    while low < high {
        let middle = (low + high) / 2;
        match pair_at(row, middle) < pair {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

/// The pairs of one run, in order.
struct Source {
    rows: redb::Range<'static, (u64, u64, u64), &'static [u8]>,
    row: Vec<u8>,
    at: usize,
}

impl Source {
    fn new(postings: &ReadOnlyTable<(u64, u64, u64), &'static [u8]>, run: u64) -> Result<Source> {
        let rows = postings.range((run, 0, 0)..(run + 1, 0, 0)).map_err(failed)?;
        let mut source = Source {
            rows,
            row: Vec::new(),
            at: 0,
        };
        source.fill()?;
        Ok(source)
    }

    /// Loads the next row if this one is used up.
    fn fill(&mut self) -> Result<()> {
        if self.at * PAIR_LEN < self.row.len() {
            return Ok(());
        }
        self.row.clear();
        self.at = 0;
        if let Some(row) = self.rows.next() {
            let (_, row) = row.map_err(failed)?;
            self.row.extend_from_slice(row.value());
        }
        Ok(())
    }

    fn peek(&self) -> Option<Pair> {
        (self.at * PAIR_LEN < self.row.len()).then(|| pair_at(&self.row, self.at))
    }
}

/// The pairs of several runs, in order.
struct Merge {
    sources: Vec<Source>,
}

impl Iterator for Merge {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Result<Pair>> {
        let heads = self
            .sources
            .iter_mut()
            .filter_map(|source| Some((source.peek()?, source)));
        let (pair, source) = heads.min_by_key(|(pair, _)| *pair)?;
        source.at += 1;
        Some(source.fill().map(|()| pair))
    }
}

/// The index at one moment.
pub struct View {
    postings: ReadOnlyTable<(u64, u64, u64), &'static [u8]>,
    moments: ReadOnlyTable<u64, u64>,
    runs: Vec<Run>,
}

impl View {
    /// The last position covered.
    pub fn end(&self) -> Option<u64> {
        self.runs.last().map(|run| run.last)
    }

    /// The greatest position not above `limit` that bears a term.
    pub fn last_up_to(&self, term: Term, limit: u64) -> Result<Option<u64>> {
        for run in self.runs.iter().rev().filter(|run| run.first <= limit) {
            let upto = (run.id, term, limit);
            let mut rows = self.postings.range((run.id, 0, 0)..=upto).map_err(failed)?;
            let Some(row) = rows.next_back() else { continue };
            let (_, row) = row.map_err(failed)?;
            let row = row.value();
            // The row begins at or before the pair looked for, so this one is in it.
            let after = lower_bound(row, (term, limit.saturating_add(1)));
            let found = after.checked_sub(1).map(|index| pair_at(row, index));
            if let Some((_, position)) = found.filter(|found| found.0 == term) {
                assert!(
                    position <= limit && position >= run.first,
                    "a run keeps to its stretch"
                );
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// The least position not below `limit` that bears a term.
    pub fn first_from(&self, term: Term, limit: u64) -> Result<Option<u64>> {
        for run in self.runs.iter().filter(|run| run.last >= limit) {
            let at = (run.id, term, limit);
            let mut before = self.postings.range((run.id, 0, 0)..=at).map_err(failed)?;
            let mut after = self.postings.range(at..(run.id + 1, 0, 0)).map_err(failed)?;
            // In the row that begins before the pair looked for, or first in the one after it.
            for row in before.next_back().into_iter().chain(after.next()) {
                let (_, row) = row.map_err(failed)?;
                let row = row.value();
                let index = lower_bound(row, (term, limit));
                let found = (index * PAIR_LEN < row.len()).then(|| pair_at(row, index));
                if let Some((_, position)) = found.filter(|found| found.0 == term) {
                    assert!(
                        position >= limit && position <= run.last,
                        "a run keeps to its stretch"
                    );
                    return Ok(Some(position));
                }
            }
        }
        Ok(None)
    }

    /// A position before which everything is older than `time_ms`; 0 if none is noted.
    pub fn not_after(&self, time_ms: u64) -> Result<u64> {
        let mut rows = self.moments.range(..time_ms).map_err(failed)?;
        let row = rows.next_back().transpose().map_err(failed)?;
        Ok(row.map_or(0, |(_, position)| position.value()))
    }

    /// A position from which on nothing is older than `time_ms`; `u64::MAX` if none is noted.
    pub fn not_before(&self, time_ms: u64) -> Result<u64> {
        let mut rows = self.moments.range(time_ms..).map_err(failed)?;
        let row = rows.next().transpose().map_err(failed)?;
        Ok(row.map_or(u64::MAX, |(_, position)| position.value()))
    }
}
