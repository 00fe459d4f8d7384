//! What a process needs beside its log: its module, items that its assignments name, items that were
//! kept for it in the weave.
//!
//! The invariant an implementation keeps: what it answered for is durable in the class asked for;
//! what is held nowhere is left out.

use std::sync::Arc;

use async_trait::async_trait;
use spec::contract::{Answer, Class, Permanent, Query, Stored, TagFilter};
use spec::{Address, ItemId, ProcessId, tags};
use weave::Weave;

/// Hits read at once.
const PAGE: usize = 100;

/// Whether a process is scheduled here and not permanent.
pub type IsLocal<'a> = dyn Fn(ProcessId) -> Answer<bool> + Send + Sync + 'a;

/// Finds what belongs to processes.
#[async_trait]
pub trait Belongings: Send + Sync {
    /// Which of these items are on this machine alone and stay there, unless who has them makes them permanent: what
    /// was brought to stay, and what is of a local process: its item, its assignments, what it got and what it sent.
    async fn private(&self, ids: &[ItemId], is_local: &IsLocal<'_>) -> Answer<Vec<ItemId>>;
    /// Makes items part of a class, as they are held: data that was withheld stays so.
    async fn keep(&self, ids: Vec<ItemId>, class: Class) -> Answer<()>;
    /// Makes what a process sent to others than processes part of the permanent class.
    async fn keep_sent(&self, process: ProcessId) -> Answer<()>;
}

/// What belongs to processes, in the weave of their scheduler's node.
pub struct InWeave {
    /// The weave.
    pub weave: Arc<Weave>,
    /// Who signs what processes send.
    pub messenger: Address,
}

impl InWeave {
    /// Whether an item is for an account: the target is no process here, and it is none itself.
    async fn is_for_account(&self, stored: &Stored) -> Answer<bool> {
        let is_process = |stored: &Stored| tags::first(&stored.tags(), "Type") == Some("Process");
        let target = match stored {
            Stored::Item(item) => item.target().copied(),
            Stored::Withheld(withheld) => withheld.target().copied(),
            Stored::Registered(_) | Stored::Posted(_) => return Ok(false),
        };
        let Some(target) = target else {
            return Ok(!is_process(stored));
        };
        let found = self.weave.lookup(ItemId(target)).await?;
        Ok(!found.is_some_and(|found| is_process(&found.stored)))
    }
}

/// Of whose log an item may be a part: what it is for, who sent it, what it assigns; and it may be a process itself.
fn processes_of(stored: &Stored) -> Vec<ProcessId> {
    let target = match stored {
        Stored::Item(item) => item.target().copied(),
        Stored::Withheld(withheld) => withheld.target().copied(),
        Stored::Registered(_) | Stored::Posted(_) => None,
    };
    let tags = stored.tags();
    let named = ["Process", "From-Process"].map(|name| tags::first(&tags, name)?.parse().ok());
    let own = [Some(ProcessId::from(stored.id())), target.map(ProcessId)];
    own.into_iter().chain(named).flatten().collect()
}

#[async_trait]
impl Belongings for InWeave {
    async fn private(&self, ids: &[ItemId], is_local: &IsLocal<'_>) -> Answer<Vec<ItemId>> {
        let mut private = Vec::new();
        for id in ids {
            let is_private = match self.weave.local_only(*id).await? {
                None => false,
                Some(true) => true,
                Some(false) => {
                    let found = self.weave.lookup(*id).await?;
                    let processes = found.map_or(Vec::new(), |found| processes_of(&found.stored));
                    let mut any = false;
                    for process in processes {
                        any = any || is_local(process)?;
                    }
                    any
                }
            };
            private.extend(is_private.then_some(*id));
        }
        Ok(private)
    }

    async fn keep(&self, ids: Vec<ItemId>, class: Class) -> Answer<()> {
        self.weave.keep(ids, class).await
    }

    async fn keep_sent(&self, process: ProcessId) -> Answer<()> {
        let from = TagFilter {
            name: "From-Process".into(),
            values: vec![process.to_string()],
        };
        let mut query = Query {
            owners: vec![self.messenger],
            tags: vec![from],
            first: PAGE,
            ascending: true,
            ..Query::default()
        };
        loop {
            let page = self.weave.find(query.clone()).await?;
            let mut ids = Vec::new();
            for hit in &page.hits {
                if self.is_for_account(&hit.stored).await? {
                    ids.push(hit.stored.id());
                }
            }
            self.keep(ids, Class::Permanent).await?;
            query.after = page.hits.last().map(|hit| hit.cursor.clone());
            if !page.has_next_page || query.after.is_none() {
                return Ok(());
            }
        }
    }
}
