//! Items that this node does not hold, but describes to whoever asks for their ids.
//!
//! Not here: which ones, and what stands behind them. The invariant: a stand-in is never seen once
//! anything is held under its id, never found but by its id, and has no bytes.

use std::sync::Arc;

use bytes::Bytes;
use spec::contract::{Answer, Query, Registered, Stored};
use spec::{Address, ItemId, Tags};

use crate::facts::Facts;
use crate::record::Record;
use crate::registered;
use crate::weave::Weave;

/// An id with the tags it is described by.
#[derive(Debug, Clone)]
pub struct StandIn {
    /// The id.
    pub id: ItemId,
    /// Who describes it.
    pub by: Address,
    /// Its tags.
    pub tags: Tags,
}

/// All of them; few.
#[derive(Debug, Clone, Default)]
pub struct StandIns(Arc<[Arc<Registered>]>);

impl FromIterator<StandIn> for StandIns {
    fn from_iter<I: IntoIterator<Item = StandIn>>(list: I) -> StandIns {
        let data = Bytes::new();
        let described = list.into_iter().map(|StandIn { id, by, tags }| {
            let data = data.clone();
            Arc::new(Registered { id, by, tags, data })
        });
        StandIns(described.collect())
    }
}

impl StandIns {
    /// The stand-in of an id.
    pub fn get(&self, id: ItemId) -> Option<Stored> {
        let found = self.0.iter().find(|one| one.id == id);
        found.cloned().map(Stored::Registered)
    }

    /// Those that a query by ids asks for, and nothing is held under.
    pub async fn matching(&self, weave: &Weave, query: &Query) -> Answer<Vec<Stored>> {
        let mut found = Vec::new();
        if query.ids.is_empty() || query.after.is_some() || query.height_min.is_some_and(|min| min > 1) {
            return Ok(found);
        }
        for one in self.0.iter().filter(|one| query.ids.contains(&one.id)) {
            let note = Record::Note(registered::note(one));
            let matches = Facts::of(&note).is_some_and(|facts| facts.match_query(query));
            if matches && weave.lookup(one.id).await?.is_none() {
                found.push(Stored::Registered(one.clone()));
            }
        }
        assert!(
            found.len() <= query.ids.len().max(self.0.len()),
            "each id stands once"
        );
        Ok(found)
    }
}
