//! The queue's file: how far each process is cranked, and what waits to be delivered.
//!
//! A cache of the log: deleted, it is rebuilt by cranking every process from slot 0, whose
//! deliveries the scheduler knows again. Invariant: a row of what waits is durable before the
//! cursor behind it is. Cursors are written in batches: a stale one only repeats work.
//!
//! Tables of `mu.redb`, version 1: `meta` (name -> text), `cursors` (process -> next slot),
//! `crons` (process -> last cron pushed, JSON), `pending` (process + order -> row of
//! `delivery.rs`), `origins` (id -> deliveries, time of the last in ms).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use spec::{ItemId, ProcessId};
use tokio::sync::Notify;

use crate::delivery::{self, Delivery, Order, Place, Tries};
use crate::error::Error;

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const CURSORS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("cursors");
const CRONS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("crons");
const PENDING: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pending");
const ORIGINS: TableDefinition<'_, [u8; 32], (u64, u64)> = TableDefinition::new("origins");

const MAGIC: &str = "weft-mu-queue";
const VERSION: &str = "1";
/// Says that the origins were counted after the file was made anew.
const COUNTED: &str = "counted";

type Result<T> = std::result::Result<T, Error>;

/// The open file, with what is not written to it yet.
pub struct Queue {
    db: Database,
    dirty: Mutex<Dirty>,
    pending_rows: AtomicU64,
    /// Told when there is something to flush.
    pub changed: Notify,
}

#[derive(Default, Clone)]
struct Dirty {
    slots: HashMap<ProcessId, u64>,
    crons: HashMap<ProcessId, Place>,
    origins: HashMap<ItemId, (u64, u64)>,
    delivered: HashSet<Vec<u8>>,
}

impl Queue {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// A file of another program or a newer version, or one that cannot be read.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Queue> {
        let db = Database::builder().set_cache_size(cache_bytes).create(path)?;
        let write = db.begin_write()?;
        check_meta(&write)?;
        write.open_table(CURSORS)?;
        write.open_table(CRONS)?;
        write.open_table(ORIGINS)?;
        let pending_rows = AtomicU64::new(write.open_table(PENDING)?.len()?);
        write.commit()?;
        Ok(Queue {
            db,
            dirty: Mutex::default(),
            pending_rows,
            changed: Notify::new(),
        })
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        // A panic while it was held can only have left a stale cursor, which repeats work.
        self.dirty.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// The first slot of a process that is not known to be cranked.
    pub fn next_slot(&self, process: ProcessId) -> Result<u64> {
        if let Some(slot) = self.dirty().slots.get(&process) {
            return Ok(*slot);
        }
        let table = self.db.begin_read()?.open_table(CURSORS)?;
        Ok(table.get(process.0)?.map_or(0, |slot| slot.value()))
    }

    /// All that comes before `slot` is delivered or waits in the file.
    pub fn set_next_slot(&self, process: ProcessId, slot: u64) {
        let before = self.dirty().slots.insert(process, slot);
        debug_assert!(
            before.is_none_or(|before| before <= slot),
            "cursors never go back"
        );
        self.changed.notify_one();
    }

    /// The last cron of a process that was pushed.
    pub fn last_cron(&self, process: ProcessId) -> Result<Option<Place>> {
        if let Some(place) = self.dirty().crons.get(&process) {
            return Ok(Some(place.clone()));
        }
        let table = self.db.begin_read()?.open_table(CRONS)?;
        let row = table.get(process.0)?;
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|_| Error::Damaged("cron"));
        row.map(|row| read(row.value())).transpose()
    }

    /// All crons up to this one are delivered or wait in the file.
    pub fn set_last_cron(&self, process: ProcessId, place: Place) {
        self.dirty().crons.insert(process, place);
        self.changed.notify_one();
    }

    /// Deliveries counted for an origin.
    pub fn count(&self, origin: ItemId) -> Result<u64> {
        self.stored_count(&self.dirty(), origin)
    }

    /// What is not in memory is in the file: both are looked at under one lock.
    fn stored_count(&self, dirty: &Dirty, origin: ItemId) -> Result<u64> {
        if let Some((count, _)) = dirty.origins.get(&origin) {
            return Ok(*count);
        }
        let table = self.db.begin_read()?.open_table(ORIGINS)?;
        Ok(table.get(origin.0)?.map_or(0, |row| row.value().0))
    }

    /// Counts deliveries for an origin.
    pub fn add(&self, origin: ItemId, deliveries: u64, now_ms: u64) -> Result<()> {
        let mut dirty = self.dirty();
        let stored = self.stored_count(&dirty, origin)?;
        let row = dirty.origins.entry(origin).or_insert((stored, now_ms));
        *row = (row.0 + deliveries, row.1.max(now_ms));
        drop(dirty);
        self.changed.notify_one();
        Ok(())
    }

    /// Rows that wait.
    pub fn pending_rows(&self) -> u64 {
        self.pending_rows.load(Ordering::Relaxed)
    }

    /// Makes deliveries of one process durable, with their tries. Blocks for an fsync.
    pub fn park(&self, process: ProcessId, rows: &[(Delivery, Tries)]) -> Result<()> {
        let write = self.db.begin_write()?;
        let mut fresh = 0;
        {
            let mut table = write.open_table(PENDING)?;
            for (delivery, tries) in rows {
                let key = row_key(process, &delivery.order);
                let row = delivery::encode(delivery, *tries);
                fresh += u64::from(table.insert(&key[..], &row[..])?.is_none());
                self.dirty().delivered.remove(&key);
            }
        }
        write.commit()?;
        self.pending_rows.fetch_add(fresh, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets a row: it is delivered or given up.
    pub fn remove(&self, process: ProcessId, order: &Order) {
        self.dirty().delivered.insert(row_key(process, order));
        self.changed.notify_one();
    }

    /// What waits of one process, in order.
    pub fn pending(&self, process: ProcessId) -> Result<Vec<(Delivery, Tries)>> {
        let table = self.db.begin_read()?.open_table(PENDING)?;
        let delivered = self.dirty().delivered.clone();
        let mut rows = Vec::new();
        for row in table.range(&process.0[..]..)? {
            let (key, value) = row?;
            if !key.value().starts_with(&process.0) {
                break;
            }
            if !delivered.contains(key.value()) {
                rows.push(delivery::decode(value.value())?);
            }
        }
        Ok(rows)
    }

    /// The processes of which something waits.
    pub fn senders(&self) -> Result<Vec<ProcessId>> {
        let table = self.db.begin_read()?.open_table(PENDING)?;
        let mut senders: Vec<ProcessId> = Vec::new();
        let mut from = Vec::new();
        // One look-up per sender: the next key after all of a sender's rows.
        while let Some(row) = table.range(&from[..]..)?.next() {
            let key = row?.0;
            let process = key.value().first_chunk::<32>().ok_or(Error::Damaged("key"))?;
            senders.push(ProcessId(*process));
            from = process.to_vec();
            from.extend([0xff; 21]);
        }
        Ok(senders)
    }

    /// Whether the origins' counts are complete.
    pub fn is_counted(&self) -> Result<bool> {
        Ok(self.db.begin_read()?.open_table(META)?.get(COUNTED)?.is_some())
    }

    /// Notes that the origins' counts are complete. Blocks for an fsync.
    pub fn set_counted(&self) -> Result<()> {
        self.flush()?;
        let write = self.db.begin_write()?;
        write.open_table(META)?.insert(COUNTED, "yes")?;
        Ok(write.commit()?)
    }

    /// Forgets the counts of origins that were quiet since `before_ms`. Blocks for an fsync.
    pub fn forget_origins(&self, before_ms: u64) -> Result<()> {
        let write = self.db.begin_write()?;
        write
            .open_table(ORIGINS)?
            .retain(|_, (_, last_ms)| last_ms >= before_ms)?;
        Ok(write.commit()?)
    }

    /// Writes cursors, counts and removals. Blocks for an fsync; does nothing if there is nothing.
    pub fn flush(&self) -> Result<()> {
        let batch = self.dirty().clone();
        let Dirty {
            slots,
            crons,
            origins,
            delivered,
        } = &batch;
        if slots.is_empty() && crons.is_empty() && origins.is_empty() && delivered.is_empty() {
            return Ok(());
        }
        let write = self.db.begin_write()?;
        let removed = write_batch(&write, &batch)?;
        write.commit()?;
        self.pending_rows.fetch_sub(removed, Ordering::Relaxed);
        let mut dirty = self.dirty();
        dirty.slots.retain(|key, value| slots.get(key) != Some(value));
        dirty.crons.retain(|key, value| crons.get(key) != Some(value));
        dirty.origins.retain(|key, value| origins.get(key) != Some(value));
        dirty.delivered.retain(|key| !delivered.contains(key));
        Ok(())
    }
}

fn check_meta(write: &WriteTransaction) -> Result<()> {
    let mut meta = write.open_table(META)?;
    let magic = meta.get("magic")?.map(|row| row.value().to_owned());
    let version = meta.get("version")?.map(|row| row.value().to_owned());
    match (magic.as_deref(), version.as_deref()) {
        (None, None) => {
            meta.insert("magic", MAGIC)?;
            meta.insert("version", VERSION)?;
            Ok(())
        }
        (Some(MAGIC), Some(VERSION)) => Ok(()),
        (Some(MAGIC), Some(version)) => Err(Error::Format(format!(
            "the messenger's queue has version {version}, this program reads {VERSION}"
        ))),
        _ => Err(Error::Format(
            "the messenger's queue is a file of another program".into(),
        )),
    }
}

/// Returns how many rows of `pending` are gone.
fn write_batch(write: &WriteTransaction, batch: &Dirty) -> Result<u64> {
    let mut cursors = write.open_table(CURSORS)?;
    for (process, slot) in &batch.slots {
        cursors.insert(process.0, slot)?;
    }
    let mut crons = write.open_table(CRONS)?;
    for (process, place) in &batch.crons {
        let json = serde_json::to_vec(place).expect("plain fields are JSON");
        crons.insert(process.0, &json[..])?;
    }
    let mut origins = write.open_table(ORIGINS)?;
    for (origin, row) in &batch.origins {
        origins.insert(origin.0, *row)?;
    }
    let mut pending = write.open_table(PENDING)?;
    let mut removed = 0;
    for key in &batch.delivered {
        removed += u64::from(pending.remove(&key[..])?.is_some());
    }
    Ok(removed)
}

/// 32 bytes of the process, then the order.
fn row_key(process: ProcessId, order: &Order) -> Vec<u8> {
    [&process.0[..], &order.key()].concat()
}

#[cfg(test)]
mod tests {
    use crate::delivery::{Assign, What};

    use super::*;

    const CACHE: usize = 1 << 20;

    fn delivery(slot: u64, index: u32) -> Delivery {
        let assign = Assign {
            process: ProcessId([9; 32]),
            item: ItemId([8; 32]),
            base_layer: false,
            exclude: vec!["Data".into()],
        };
        let order = Order {
            place: Place::slot(slot),
            index,
        };
        Delivery {
            order,
            origin: ItemId([7; 32]),
            what: What::Assign(assign),
        }
    }

    fn orders(queue: &Queue, process: ProcessId) -> Vec<Order> {
        queue
            .pending(process)
            .unwrap()
            .into_iter()
            .map(|row| row.0.order)
            .collect()
    }

    #[test]
    fn cursors_counts_and_rows_survive_a_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mu.redb");
        let (a, b) = (ProcessId([1; 32]), ProcessId([2; 32]));
        let rows = [delivery(3, 1), delivery(3, 0), delivery(300, 0)];
        {
            let queue = Queue::open(&path, CACHE).unwrap();
            assert!(!queue.is_counted().unwrap());
            queue.set_counted().unwrap();
            queue.set_next_slot(a, 4);
            queue.set_last_cron(a, Place::slot(3));
            queue.add(ItemId([5; 32]), 2, 100).unwrap();
            queue.add(ItemId([5; 32]), 1, 50).unwrap();
            queue
                .park(a, &rows.clone().map(|row| (row, Tries::default())))
                .unwrap();
            queue.park(b, &[(rows[0].clone(), Tries::default())]).unwrap();
            queue.remove(a, &rows[1].order);
            assert_eq!(orders(&queue, a), [rows[0].order.clone(), rows[2].order.clone()]);
            queue.flush().unwrap();
        }
        let queue = Queue::open(&path, CACHE).unwrap();
        assert!(queue.is_counted().unwrap());
        assert_eq!((queue.next_slot(a).unwrap(), queue.next_slot(b).unwrap()), (4, 0));
        assert_eq!(queue.last_cron(a).unwrap(), Some(Place::slot(3)));
        assert_eq!(queue.count(ItemId([5; 32])).unwrap(), 3);
        assert_eq!(orders(&queue, a), [rows[0].order.clone(), rows[2].order.clone()]);
        assert_eq!((queue.senders().unwrap(), queue.pending_rows()), (vec![a, b], 3));
        queue.forget_origins(101).unwrap();
        assert_eq!(queue.count(ItemId([5; 32])).unwrap(), 0);
    }

    #[test]
    fn parking_twice_keeps_one_row_and_the_later_tries() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::open(&dir.path().join("mu.redb"), CACHE).unwrap();
        let (process, tries) = (
            ProcessId([1; 32]),
            Tries {
                attempts: 4,
                due_ms: 77,
            },
        );
        queue
            .park(process, &[(delivery(1, 0), Tries::default())])
            .unwrap();
        queue.remove(process, &delivery(1, 0).order);
        queue.park(process, &[(delivery(1, 0), tries)]).unwrap();
        queue.flush().unwrap();
        let rows = queue.pending(process).unwrap();
        assert_eq!((rows.len(), rows[0].1, queue.pending_rows()), (1, tries, 1));
    }

    #[test]
    fn a_foreign_or_newer_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mu.redb");
        let write = |name: &str, value: &str| {
            let db = Database::create(&path).unwrap();
            let write = db.begin_write().unwrap();
            write.open_table(META).unwrap().insert(name, value).unwrap();
            write.commit().unwrap();
        };
        write("magic", "somebody-else");
        assert!(matches!(Queue::open(&path, CACHE), Err(Error::Format(_))));
        write("magic", MAGIC);
        write("version", "2");
        let error = Queue::open(&path, CACHE)
            .err()
            .map(|error| error.to_string())
            .unwrap();
        assert!(error.contains("version 2"), "{error}");
    }
}
