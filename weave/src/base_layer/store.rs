//! Keeping what is posted of the base layer: transactions, chunks until the data is whole, the items of bundles.
//!
//! Not here: routes. The invariant: what was answered as taken is durable; a bundle's items are found as soon as the
//! last of its chunks was taken, and once only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use spec::bundle::{self, Bundle};
use spec::chunks::{Tree, spans};
use spec::contract::{Answer, Class, Posted, Stored};
use spec::placement::padded;
use spec::{Address, DataItem, ItemId, Refusal, Tag, Transaction, tags};

use super::chunk::{ChunkPost, ChunkRefused, Root};
use super::note::{self, Head, Piece, Unfolded};
use crate::error::{Error, Result};
use crate::facts;
use crate::record::{Entry, Record};
use crate::weave::{Shared, Weave};

/// Most transactions whose chunks are awaited in memory; beyond it all are looked up anew.
const AWAITED_MAX: usize = 1024;
/// Newest transactions that are looked at, at the start, for bundles that a crash left folded.
const UNFINISHED_MAX: usize = 256;
/// Records that are appended at once when a bundle is unfolded, and ids of a note.
const UNFOLD_RECORDS: usize = 1024;

/// Whether what was posted was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is held now.
    New,
    /// It was held before.
    Known,
}

/// What is kept in memory: everything here follows from the log.
#[derive(Default)]
pub(crate) struct Shelf {
    /// `None` until somebody asks.
    places: Mutex<Option<Places>>,
    awaited: Mutex<HashMap<Root, Awaited>>,
}

/// Where the data of transactions lies, counted from 1 over everything posted here.
#[derive(Default)]
struct Places {
    /// By the end of its data.
    by_end: BTreeMap<u64, Head>,
}

impl Places {
    /// Where data that comes next ends. Each begins on a whole chunk, as on the network.
    fn next(&self, size: u64) -> u64 {
        let last = self.by_end.last_key_value();
        let end = last.map_or(0, |(end, head)| end - head.size() + padded(head.size()));
        end + size
    }
}

impl Head {
    fn size(&self) -> u64 {
        self.root.map_or(0, |(_, size)| size)
    }
}

/// The chunks of one transaction's data that are here.
#[derive(Default)]
struct Awaited {
    /// Everything before it is here.
    whole: u64,
    /// Ends of chunks behind that, by their start.
    beyond: BTreeMap<u64, u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changed by whole assignments; a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Weave {
    /// Takes a transaction as nodes do: its JSON, with the data if it is short enough to come along.
    ///
    /// # Errors
    /// A transaction that does not verify, of another format, or with more data than is taken.
    pub async fn post_transaction(&self, json: Bytes) -> Answer<Taken> {
        let checked = self
            .blocking(move |shared| shared.check_transaction(&json))
            .await?;
        let Some((transaction, data)) = checked else {
            return Ok(Taken::Known);
        };
        let content = &transaction.content;
        let root = content.data_root.map(|root| (root, content.data_size));
        let (id, owner) = (transaction.id, transaction.owner.address());
        let head = self.blocking(move |shared| shared.place(id, owner, root)).await?;
        let note = note::transaction(&head, &transaction, &data.unwrap_or_default());
        self.log().append(vec![Record::Note(note)], Class::Local).await?;
        self.unfold(id).await?;
        Ok(Taken::New)
    }

    /// Takes a chunk of a transaction that was posted.
    ///
    /// # Errors
    /// The network's words for what is wrong with it, as the refusal's text.
    pub async fn post_chunk(&self, json: Bytes) -> Answer<Taken> {
        let proved = self.blocking(move |shared| shared.check_chunk(&json)).await?;
        let Some((piece, end)) = proved else {
            return Ok(Taken::Known);
        };
        let note = note::chunk(&piece);
        self.log().append(vec![Record::Note(note)], Class::Local).await?;
        let done = self.blocking(move |shared| shared.arrived(&piece, end)).await?;
        for id in done {
            self.unfold(id).await?;
        }
        Ok(Taken::New)
    }

    /// Makes the items of a bundle findable, if it is one and all of it is here.
    async fn unfold(&self, id: ItemId) -> Answer<()> {
        let records = self.blocking(move |shared| shared.unfolded(id)).await?;
        for group in groups(records) {
            self.log().append(group, Class::Local).await?;
        }
        Ok(())
    }

    /// The bundle that an item lies in directly, where one was posted.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub async fn bundle_of(&self, item: ItemId) -> Answer<Option<ItemId>> {
        self.blocking(move |shared| shared.bundle_of(item)).await
    }

    /// The newest transaction that an account posted.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub async fn last_posted(&self, owner: Address) -> Answer<Option<ItemId>> {
        let read = move |entry: &Entry| {
            let head = head(entry).filter(|head| head.owner == owner)?;
            Some(head.id)
        };
        let term = facts::posted_by_term(&owner);
        let newest = self
            .blocking(move |shared| shared.finder()?.noted(term, true, 1, read))
            .await?;
        Ok(newest.into_iter().next())
    }

    /// Where a posted transaction's data ends, counted from 1 over everything posted here, and its bytes.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub async fn posted_place(&self, id: ItemId) -> Answer<Option<(u64, u64)>> {
        let read = move |entry: &Entry| head(entry).filter(|head| head.id == id);
        let term = facts::id_term(&id);
        let heads = self
            .blocking(move |shared| shared.finder()?.noted(term, false, 1, read))
            .await?;
        let head = heads.first().filter(|head| head.root.is_some());
        Ok(head.map(|head| (head.end, head.size())))
    }

    /// The chunk that holds a place: its bytes and its proof.
    ///
    /// # Errors
    /// Damage, or a failing index.
    pub async fn posted_chunk(&self, place: u64) -> Answer<Option<(Bytes, Bytes)>> {
        self.blocking(move |shared| shared.chunk_at(place)).await
    }
}

/// Records in groups that can be appended at once.
fn groups(records: Vec<Record>) -> impl Iterator<Item = Vec<Record>> {
    let mut rest = records.into_iter();
    std::iter::from_fn(move || {
        let group: Vec<Record> = rest.by_ref().take(UNFOLD_RECORDS).collect();
        (!group.is_empty()).then_some(group)
    })
}

fn head(entry: &Entry) -> Option<Head> {
    entry.record.note().and_then(note::head)
}

fn is_carrier(tags: &[Tag]) -> bool {
    tags::first(tags, "Bundle-Format") == Some("binary")
        && tags::first(tags, "Bundle-Version") == Some("2.0.0")
}

impl Shared {
    /// The transaction and its data, if it is not held.
    fn check_transaction(&self, json: &[u8]) -> Result<Option<(Transaction, Option<Bytes>)>> {
        let refuse = |error: spec::transaction::TransactionError| {
            let text = format!("Transaction verification failed: {error}.");
            Error::Refused(Refusal::invalid("invalid-transaction", text))
        };
        let (transaction, data) = Transaction::from_json(json).map_err(refuse)?;
        transaction.verify().map_err(refuse)?;
        if let Some(data) = &data {
            transaction.verify_data(data).map_err(refuse)?;
        }
        if transaction.content.data_size > self.config.posted_bytes_max {
            return Err(Error::Limit {
                what: "the number of bytes of a transaction's data",
                actual: transaction.content.data_size,
                limit: self.config.posted_bytes_max,
            });
        }
        let held = self.lookup_head(transaction.id)?;
        let is_held = held.is_some_and(|found| !matches!(found.stored, Stored::Registered(_)));
        Ok((!is_held).then_some((transaction, data)))
    }

    /// Gives a transaction its place.
    fn place(&self, id: ItemId, owner: Address, root: Option<Root>) -> Result<Head> {
        let Some((_, size)) = root else {
            return Ok(Head {
                id,
                owner,
                end: 0,
                root,
            });
        };
        self.with_places(|places| {
            let end = places.next(size);
            let head = Head { id, owner, end, root };
            let before = places.by_end.insert(end, head);
            assert!(before.is_none(), "places only grow");
            head
        })
    }

    fn with_places<T>(&self, work: impl FnOnce(&mut Places) -> T) -> Result<T> {
        let mut places = locked(&self.shelf.places);
        if places.is_none() {
            let all = self.finder()?.noted(facts::POSTED, false, usize::MAX, head)?;
            let by_end = all.into_iter().filter(|head| head.root.is_some());
            let by_end = by_end.map(|head| (head.end, head)).collect();
            *places = Some(Places { by_end });
        }
        Ok(work(places.as_mut().expect("filled above")))
    }

    /// The chunk and where it ends, if it is not held.
    fn check_chunk(&self, json: &[u8]) -> Result<Option<(Piece, u64)>> {
        let refuse =
            |refused: ChunkRefused| Error::Refused(Refusal::invalid("chunk-refused", refused.to_string()));
        let post = ChunkPost::from_json(json).map_err(refuse)?;
        let is_known = !self.heads_of(&post.root)?.is_empty();
        let chunk = post.prove(is_known).map_err(refuse)?;
        if self.piece(&post.root, chunk.start)?.is_some() {
            return Ok(None);
        }
        let piece = Piece {
            root: post.root,
            start: chunk.start,
            data_path: post.data_path,
            bytes: post.chunk,
        };
        Ok(Some((piece, chunk.end)))
    }

    /// The transactions with this data, oldest first.
    fn heads_of(&self, root: &Root) -> Result<Vec<Head>> {
        let read = |entry: &Entry| head(entry).filter(|head| head.root.as_ref() == Some(root));
        self.finder()?
            .noted(facts::root_term(root), false, AWAITED_MAX, read)
    }

    fn piece(&self, root: &Root, start: u64) -> Result<Option<Piece>> {
        let read = |entry: &Entry| {
            let piece = entry.record.note().and_then(note::piece)?;
            (piece.root == *root && piece.start == start).then_some(piece)
        };
        let found = self
            .finder()?
            .noted(facts::chunk_term(root, start), false, 1, read)?;
        Ok(found.into_iter().next())
    }

    /// A chunk is durable. Answers the transactions whose data is whole by it.
    fn arrived(&self, piece: &Piece, end: u64) -> Result<Vec<ItemId>> {
        let mut all = locked(&self.shelf.awaited);
        if all.len() >= AWAITED_MAX {
            all.clear();
        }
        let awaited = all.entry(piece.root).or_default();
        awaited.beyond.insert(piece.start, end);
        loop {
            let next = match awaited.beyond.remove(&awaited.whole) {
                Some(end) => Some(end),
                // One that came before the node was started, or while this one was forgotten.
                None => self
                    .piece(&piece.root, awaited.whole)?
                    .map(|piece| piece.start + piece.bytes.len() as u64),
            };
            match next.filter(|end| *end > awaited.whole) {
                Some(end) => awaited.whole = end,
                None => break,
            }
        }
        if awaited.whole < piece.root.1 {
            return Ok(Vec::new());
        }
        all.remove(&piece.root);
        drop(all);
        Ok(self
            .heads_of(&piece.root)?
            .into_iter()
            .map(|head| head.id)
            .collect())
    }

    /// What is held, with its data if all chunks are here.
    pub(crate) fn completed(&self, stored: Stored) -> Result<Stored> {
        let Stored::Posted(posted) = &stored else {
            return Ok(stored);
        };
        let content = &posted.transaction.content;
        let Some(root) = content.data_root.filter(|_| posted.data.is_none()) else {
            return Ok(stored);
        };
        let data = self.gathered(&(root, content.data_size))?;
        let transaction = posted.transaction.clone();
        Ok(Stored::Posted(Arc::new(Posted { transaction, data })))
    }

    /// All data of a root, if all its chunks are here.
    fn gathered(&self, root: &Root) -> Result<Option<Bytes>> {
        let mut data = BytesMut::new();
        while (data.len() as u64) < root.1 {
            match self.piece(root, data.len() as u64)? {
                Some(piece) if !piece.bytes.is_empty() => data.extend_from_slice(&piece.bytes),
                _ => return Ok(None),
            }
        }
        assert_eq!(
            data.len() as u64,
            root.1,
            "each chunk was proved to end within the data"
        );
        Ok(Some(data.freeze()))
    }

    fn chunk_at(&self, place: u64) -> Result<Option<(Bytes, Bytes)>> {
        let found = self.with_places(|places| places.by_end.range(place..).next().map(|(_, head)| *head))?;
        let Some((head, root)) = found.and_then(|head| Some((head, head.root?))) else {
            return Ok(None);
        };
        let Some(offset) = place.checked_sub(head.end - head.size() + 1) else {
            return Ok(None);
        };
        let span = spans(root.1).find(|(_, end)| offset < *end);
        let (start, end) = span.expect("the offset lies in the data");
        if let Some(piece) = self.piece(&root, start)? {
            return Ok(Some((piece.bytes, piece.data_path)));
        }
        // It came with its transaction, whole.
        let data = self.lookup(head.id)?.and_then(|found| found.stored.data());
        Ok(data.map(|data| {
            let path = Tree::of(&data).proof(start).expect("the offset lies in the data");
            (data.slice(start as usize..end as usize), path.into())
        }))
    }

    fn bundle_of(&self, item: ItemId) -> Result<Option<ItemId>> {
        let read = |entry: &Entry| {
            let unfolded = entry.record.note().and_then(note::bundle)?;
            unfolded.items.contains(&item).then_some(unfolded.bundle)
        };
        let found = self.finder()?.noted(facts::member_term(&item), false, 1, read)?;
        Ok(found.into_iter().next())
    }

    fn is_unfolded(&self, bundle: ItemId) -> Result<bool> {
        let read = |entry: &Entry| {
            let unfolded = entry.record.note().and_then(note::bundle)?;
            (unfolded.bundle == bundle).then_some(())
        };
        Ok(!self
            .finder()?
            .noted(facts::bundle_term(&bundle), false, 1, read)?
            .is_empty())
    }

    /// What to append so that the items of a bundle are found: the items that are new, and last what lies where.
    /// Nothing if it is no bundle, is not whole, or is unfolded already.
    fn unfolded(&self, id: ItemId) -> Result<Vec<Record>> {
        // The data may be large and in many chunks: it is put together for a bundle that was not unfolded only.
        let Some(found) = self.lookup_head(id)? else {
            return Ok(Vec::new());
        };
        if !is_carrier(&found.stored.tags()) || self.is_unfolded(id)? {
            return Ok(Vec::new());
        }
        let Some(data) = self.completed(found.stored)?.data() else {
            return Ok(Vec::new());
        };
        let (items, bundles) = self.taken_apart(id, data);
        let mut records = self.new_records(items)?;
        let parts = bundles.iter().rev().flat_map(|unfolded| {
            let parts = unfolded.items.chunks(UNFOLD_RECORDS).map(<[ItemId]>::to_vec);
            // Also one that holds nothing is done with.
            let empty = unfolded.items.is_empty().then(Vec::new);
            parts.chain(empty).map(|items| Unfolded {
                bundle: unfolded.bundle,
                items,
            })
        });
        records.extend(parts.map(|part| Record::Note(note::unfolded(&part))));
        Ok(records)
    }

    /// The items of a bundle that verify, those of bundles inside it too, and what lies where; the outermost is first.
    fn taken_apart(&self, id: ItemId, data: Bytes) -> (Vec<DataItem>, Vec<Unfolded>) {
        let (mut items, mut bundles) = (Vec::new(), Vec::new());
        let mut level = vec![(id, data)];
        for _ in 0..bundle::DEPTH_MAX {
            for (bundle, data) in std::mem::take(&mut level) {
                // What says it is a bundle and is none stays what it is.
                let within = Bundle::parse(&data)
                    .map(|bundle| bundle.items)
                    .unwrap_or_default();
                let room = self.config.unfold_items_max - items.len();
                if within.len() > room {
                    tracing::warn!(%bundle, items = within.len(), "a bundle with too many items is unfolded in part");
                }
                let held = within.into_iter().take(room).filter(|item| item.verify().is_ok());
                let held: Vec<DataItem> = held.collect();
                let inner = held.iter().filter(|item| bundle::is_carrier(item));
                level.extend(inner.map(|item| (item.id(), item.data())));
                let ids = held.iter().map(DataItem::id).collect();
                bundles.push(Unfolded { bundle, items: ids });
                items.extend(held);
            }
        }
        (items, bundles)
    }

    /// Unfolds what a crash left folded.
    pub(crate) fn finish_unfolding(&self) -> Result<()> {
        let newest = self.finder()?.noted(facts::POSTED, true, UNFINISHED_MAX, head)?;
        for head in newest {
            for group in groups(self.unfolded(head.id)?) {
                self.log.append(group, Class::Local).wait()?;
            }
        }
        Ok(())
    }
}
