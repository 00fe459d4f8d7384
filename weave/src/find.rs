//! Looking for records: by id, and by any conditions page by page.
//!
//! Not here: where terms are kept. The invariant: a hit is checked on the record itself, an id is
//! listed once, and a cursor names a position, so pages stay what they are while the log grows.

use std::borrow::Cow;

use spec::contract::{Hit, Hits, Query};
use spec::ids::{base64url, from_base64url};
use spec::{ItemId, Refusal};

use crate::base_layer::note;
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::facts::{self, ANY, Facts, Term};
use crate::frame::payload_len;
use crate::index::{Index, View};
use crate::log::Log;
use crate::recent::Recent;
use crate::record::{Entry, Position};

/// Hits of a page at most (the field's limit).
pub const PAGE_MAX: usize = 100;

/// What a search reads, and its bounds.
pub struct Finder<'a> {
    /// The records.
    pub log: &'a Log,
    /// What the index does not have yet.
    pub recent: &'a Recent,
    /// All the rest.
    pub index: &'a Index,
    /// Gives heights.
    pub chain: &'a Chain,
    /// Most values of all conditions together.
    pub values_max: usize,
    /// Most steps through the index.
    pub steps_max: usize,
    /// A page ends early once its items have so many bytes.
    pub bytes_max: u64,
}

impl Finder<'_> {
    /// The record that an id stands for: the first signed item, else the first registered bytes.
    pub fn id(&self, id: &ItemId) -> Result<Option<Entry>> {
        let recent = self.recent.find(id);
        let view = self.index.view()?;
        let mut registered = None;
        let mut from = 0;
        while let Some(position) = view.first_from(facts::id_term(id), from)? {
            let entry = self.log.entry(Position(position))?;
            match Facts::of(&entry.record).filter(|facts| facts.id == *id) {
                Some(facts) if facts.is_signed => return Ok(Some(entry)),
                Some(_) if registered.is_none() => registered = Some(entry),
                _ => {}
            }
            from = position + 1;
        }
        match recent {
            Some((position, is_signed)) if is_signed || registered.is_none() => {
                self.log.entry(position).map(Some)
            }
            _ => Ok(registered),
        }
    }

    /// What `read` makes of records that bear a term, at most so many, from the oldest or the newest on.
    pub fn noted<T>(
        &self,
        term: Term,
        newest_first: bool,
        most: usize,
        read: impl Fn(&Entry) -> Option<T>,
    ) -> Result<Vec<T>> {
        // What moves into the index meanwhile is then seen twice, not missed.
        let recent = self.recent.snapshot();
        let view = self.index.view()?;
        let fresh = recent.iter().flat_map(|chunk| chunk.iter());
        let fresh = fresh.filter(|entry| Some(entry.position.0) > view.end());
        let mut fresh: Vec<T> = fresh.filter_map(&read).collect();
        let mut found = Vec::new();
        if newest_first {
            fresh.reverse();
            found.append(&mut fresh);
        }
        let step = |at: u64| match newest_first {
            true => view.last_up_to(term, at),
            false => view.first_from(term, at),
        };
        let mut at = Some(if newest_first { u64::MAX } else { 0 });
        while let Some(from) = at.filter(|_| found.len() < most) {
            let Some(position) = step(from)? else { break };
            found.extend(read(&self.log.entry(Position(position))?));
            at = if newest_first {
                position.checked_sub(1)
            } else {
                position.checked_add(1)
            };
        }
        found.append(&mut fresh);
        found.truncate(most);
        Ok(found)
    }

    /// The query with the bundles asked for as the ids that lie in them; `None` if nothing can meet it.
    fn unfolded<'q>(&self, query: &'q Query) -> Result<Option<Cow<'q, Query>>> {
        if query.bundled_in.is_empty() {
            return Ok(Some(Cow::Borrowed(query)));
        }
        let mut ids = Vec::new();
        for bundle in &query.bundled_in {
            let read = |entry: &Entry| {
                let unfolded = entry.record.note().and_then(note::bundle)?;
                (unfolded.bundle == *bundle).then_some(unfolded.items)
            };
            let lists = self.noted(facts::bundle_term(bundle), false, usize::MAX, read)?;
            ids.extend(lists.into_iter().flatten());
        }
        if !query.ids.is_empty() {
            ids.retain(|id| query.ids.contains(id));
        }
        ids.sort_unstable();
        ids.dedup();
        let is_met = !ids.is_empty();
        Ok(is_met.then(|| Cow::Owned(Query { ids, ..query.clone() })))
    }

    /// Every position of an id.
    pub fn positions(&self, id: &ItemId) -> Result<Vec<Position>> {
        let of_id = |entry: &Entry| Facts::of(&entry.record).is_some_and(|facts| facts.id == *id);
        let recent = self.recent.snapshot();
        let recent = recent.iter().flat_map(|chunk| chunk.iter());
        let mut positions: Vec<_> = recent
            .filter(|entry| of_id(entry))
            .map(|entry| entry.position)
            .collect();
        let view = self.index.view()?;
        let mut from = 0;
        while let Some(position) = view.first_from(facts::id_term(id), from)? {
            if of_id(&self.log.entry(Position(position))?) {
                positions.push(Position(position));
            }
            from = position + 1;
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }

    /// A page of hits.
    ///
    /// # Errors
    /// A cursor that is none, too many values, or a search that takes too many steps.
    pub fn page(&self, query: &Query) -> Result<Hits> {
        let values = query.tags.iter().map(|filter| filter.values.len()).sum::<usize>();
        let values = values + query.ids.len() + query.owners.len() + query.recipients.len();
        let values = values + query.bundled_in.len();
        if values > self.values_max {
            return Err(Error::Limit {
                what: "the number of values of a query",
                actual: values as u64,
                limit: self.values_max as u64,
            });
        }
        let after = query.after.as_deref().map(read_cursor).transpose()?;
        let first = query.first.min(PAGE_MAX);
        let Some(query) = self.unfolded(query)? else {
            return Ok(Hits::default());
        };
        // One more than asked for says whether more follow.
        let (mut hits, is_cut) = self.hits(&query, after, first + 1)?;
        assert!(hits.len() <= first + 1, "a page is bounded");
        let has_next_page = hits.len() > first || is_cut;
        hits.truncate(first);
        Ok(Hits { hits, has_next_page })
    }

    /// The hits, and whether they were cut off because they are too large.
    fn hits(&self, query: &Query, after: Option<u64>, want: usize) -> Result<(Vec<Hit>, bool)> {
        // First what is recent: what moves into the index meanwhile is then seen twice, not missed.
        let recent = self.recent.snapshot();
        let view = self.index.view()?;
        let indexed = view.end();
        let fresh = recent.iter().flat_map(|chunk| chunk.iter());
        let fresh = fresh.filter(|entry| Some(entry.position.0) > indexed);
        let times = self.times(query);
        let fits = |entry: &&Entry| {
            let matches = Facts::of(&entry.record).is_some_and(|facts| facts.match_query(query));
            matches && (times.0..times.1).contains(&entry.time_ms) && is_after(query, after, entry.position.0)
        };
        let mut fresh: Vec<u64> = fresh.filter(fits).map(|entry| entry.position.0).collect();
        if !query.ascending {
            fresh.reverse();
        }
        let mut page = Page {
            finder: self,
            view: &view,
            want,
            hits: Vec::new(),
            bytes: 0,
        };
        if !query.ascending {
            page.take_all(&fresh)?;
        }
        self.search(query, after, times, &mut page)?;
        if query.ascending {
            page.take_all(&fresh)?;
        }
        let is_cut = page.bytes >= self.bytes_max;
        Ok((page.hits, is_cut))
    }

    /// The times that the heights asked for stand for: from, and up to (exclusive).
    fn times(&self, query: &Query) -> (u64, u64) {
        let from = query.height_min.filter(|height| *height > 1);
        let to = query.height_max.filter(|height| *height < u64::MAX);
        (
            from.map_or(0, |height| self.chain.start_of(height)),
            to.map_or(u64::MAX, |height| self.chain.start_of(height + 1)),
        )
    }

    /// Adds hits from the index to a page.
    fn search(
        &self,
        query: &Query,
        after: Option<u64>,
        times: (u64, u64),
        page: &mut Page<'_, '_>,
    ) -> Result<()> {
        let view = page.view;
        let mut walk = Walk::new(view, query, self.steps_max);
        if !query.ids.is_empty() {
            let mut positions = self.id_positions(query)?;
            // The others are recent, and looked at as such.
            positions.retain(|position| Some(*position) <= view.end());
            walk.ids = Some(positions);
        }
        let mut at = match (query.ascending, after) {
            (true, None) => view.not_after(times.0)?,
            (false, None) => view.not_before(times.1)?,
            (true, Some(after)) => view.not_after(times.0)?.max(after.saturating_add(1)),
            (false, Some(after)) => match after.checked_sub(1) {
                Some(before) => view.not_before(times.1)?.min(before),
                None => return Ok(()),
            },
        };
        while !page.is_full() {
            let Some(position) = walk.next(at)? else { break };
            assert!(
                if query.ascending {
                    position >= at
                } else {
                    position <= at
                },
                "a walk never turns"
            );
            let entry = self.log.entry(Position(position))?;
            let passed = match query.ascending {
                true => entry.time_ms >= times.1,
                false => entry.time_ms < times.0,
            };
            if passed {
                break;
            }
            let matches = Facts::of(&entry.record).is_some_and(|facts| facts.match_query(query));
            if matches && (times.0..times.1).contains(&entry.time_ms) {
                page.take(entry)?;
            }
            at = match (query.ascending, position.checked_sub(1)) {
                (true, _) => position + 1,
                (false, Some(before)) => before,
                (false, None) => break,
            };
        }
        Ok(())
    }

    /// Where the ids asked for stand, ascending: a few exact places beat walking a term for each.
    fn id_positions(&self, query: &Query) -> Result<Vec<u64>> {
        let mut positions = Vec::with_capacity(query.ids.len());
        for id in &query.ids {
            positions.extend(self.id(id)?.map(|entry| entry.position.0));
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }
}

fn is_after(query: &Query, after: Option<u64>, position: u64) -> bool {
    match (after, query.ascending) {
        (None, _) => true,
        (Some(after), true) => position > after,
        (Some(after), false) => position < after,
    }
}

/// The cursor of a position: opaque to clients.
pub fn cursor(position: Position) -> String {
    base64url(format!("p{}", position.0).as_bytes())
}

fn read_cursor(text: &str) -> Result<u64> {
    let bytes = from_base64url(text);
    let number = bytes
        .as_deref()
        .and_then(|bytes| std::str::from_utf8(bytes.strip_prefix(b"p")?).ok());
    number.and_then(|number| number.parse().ok()).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let text =
            format!("`{shown}` is no cursor of this gateway; pass one from an earlier page, unchanged");
        Error::Refused(Refusal::invalid("invalid-cursor", text))
    })
}

/// The hits found so far.
struct Page<'a, 'b> {
    finder: &'a Finder<'b>,
    view: &'a View,
    want: usize,
    hits: Vec<Hit>,
    bytes: u64,
}

impl Page<'_, '_> {
    fn is_full(&self) -> bool {
        self.hits.len() >= self.want || self.bytes >= self.finder.bytes_max
    }

    fn take_all(&mut self, positions: &[u64]) -> Result<()> {
        for position in positions {
            if self.is_full() {
                break;
            }
            self.take(self.finder.log.entry(Position(*position))?)?;
        }
        Ok(())
    }

    /// Adds a record, unless its id is listed at another position.
    fn take(&mut self, entry: Entry) -> Result<()> {
        let identity = facts::identity(&entry.record);
        let Some((id, is_signed)) = identity else {
            return Ok(());
        };
        // The first position of a signed item is the one that is listed; else it has to be looked up.
        let is_first = self.view.first_from(facts::id_term(&id), 0)? == Some(entry.position.0);
        if !(is_signed && is_first) {
            let listed = self.finder.id(&id)?;
            if listed.is_none_or(|listed| listed.position != entry.position) {
                return Ok(());
            }
        }
        self.bytes += payload_len(&entry.record);
        let (cursor, block_height) = (cursor(entry.position), self.finder.chain.height_at(entry.time_ms));
        let stored = facts::stored(entry.record).expect("what has facts is stored");
        self.hits.push(Hit {
            cursor,
            block_height,
            stored,
        });
        Ok(())
    }
}

/// One term's positions; it remembers where it stands.
struct Stream {
    term: Term,
    at: Option<u64>,
    is_done: bool,
}

/// Walks the positions at which every condition holds.
struct Walk<'a> {
    view: &'a View,
    ascending: bool,
    conditions: Vec<Vec<Stream>>,
    ids: Option<Vec<u64>>,
    steps: usize,
    steps_max: usize,
}

impl<'a> Walk<'a> {
    fn new(view: &'a View, query: &Query, steps_max: usize) -> Walk<'a> {
        let stream = |term| Stream {
            term,
            at: None,
            is_done: false,
        };
        let mut conditions: Vec<Vec<Stream>> = Vec::new();
        let owners = query.owners.iter().map(|owner| stream(facts::owner_term(owner)));
        conditions.push(owners.collect());
        let recipients = query.recipients.iter();
        conditions.push(
            recipients
                .map(|target| stream(facts::recipient_term(target)))
                .collect(),
        );
        for filter in &query.tags {
            let values = filter.values.iter();
            let terms = values.map(|value| facts::tag_term(filter.name.as_bytes(), value.as_bytes()));
            conditions.push(terms.map(stream).collect());
        }
        conditions.retain(|condition| !condition.is_empty());
        if conditions.is_empty() {
            conditions.push(vec![stream(ANY)]);
        }
        Walk {
            view,
            ascending: query.ascending,
            conditions,
            ids: None,
            steps: 0,
            steps_max,
        }
    }

    /// The next position from `at` on (inclusive) in the direction of the query.
    fn next(&mut self, at: u64) -> Result<Option<u64>> {
        if let Some(ids) = &self.ids {
            let found = match self.ascending {
                true => ids.get(ids.partition_point(|id| *id < at)),
                false => ids
                    .partition_point(|id| *id <= at)
                    .checked_sub(1)
                    .map(|index| &ids[index]),
            };
            return Ok(found.copied());
        }
        let mut at = at;
        let mut agreed = 0;
        // Each condition in turn moves to where the others stand, until none has to move.
        for index in (0..self.conditions.len()).cycle() {
            let Some(found) = self.seek(index, at)? else {
                return Ok(None);
            };
            agreed = if found == at { agreed + 1 } else { 1 };
            at = found;
            if agreed == self.conditions.len() {
                return Ok(Some(at));
            }
        }
        unreachable!("there is at least one condition")
    }

    /// Where a condition holds next.
    fn seek(&mut self, index: usize, at: u64) -> Result<Option<u64>> {
        let mut best = None;
        for stream in &mut self.conditions[index] {
            let is_behind = stream
                .at
                .is_none_or(|found| if self.ascending { found < at } else { found > at });
            if is_behind && !stream.is_done {
                self.steps += 1;
                stream.at = match self.ascending {
                    true => self.view.first_from(stream.term, at)?,
                    false => self.view.last_up_to(stream.term, at)?,
                };
                stream.is_done = stream.at.is_none();
            }
            best = match (best, stream.at) {
                (Some(best), Some(found)) if self.ascending => Some(found.min(best)),
                (Some(best), Some(found)) => Some(found.max(best)),
                (best, found) => best.or(found),
            };
        }
        if self.steps > self.steps_max {
            let text = "the query matches too loosely to be answered; add a condition that few items meet";
            return Err(Error::Refused(Refusal::limit("query-too-broad", text)));
        }
        Ok(best)
    }
}
