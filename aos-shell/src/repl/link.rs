//! What the prompt needs of a process, so that it can be tried without a node.
//!
//! Not here: how a node is reached (`node`), how items are signed (`session`). The invariant: what is
//! sent as Lua is a [`Chunk`], so it compiles.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use spec::contract::{Answer, Evaluated};
use spec::{DataItem, ItemId, ItemParts, Outcome, ProcessId, Tag, Tags};

use crate::lua::Chunk;
use crate::render::Style;
use crate::session::{Listed, Session};
use crate::trace;

/// Outcomes as they happen.
pub(crate) type Feed = BoxStream<'static, Answer<Evaluated>>;

/// A process as the prompt uses it.
#[async_trait]
pub(crate) trait Link: Send + Sync {
    /// The process.
    fn process(&self) -> ProcessId;
    /// Its name, for people.
    fn name(&self) -> String;
    /// All that is known of it without asking, for people.
    fn about(&self) -> Vec<(&'static str, String)>;
    /// Signs and schedules an evaluation; its id.
    async fn send(&self, chunk: &Chunk) -> Answer<ItemId>;
    /// Waits for the outcome of a message.
    async fn result(&self, message: ItemId) -> Answer<Evaluated>;
    /// Evaluates without scheduling.
    async fn dry(&self, chunk: &Chunk) -> Answer<Arc<Outcome>>;
    /// The slot evaluated last, and the slot of a message.
    async fn progress(&self, message: ItemId) -> Answer<(u64, u64)>;
    /// Outcomes from now on.
    fn live(&self) -> Feed;
    /// The tags of a message.
    async fn tags(&self, message: ItemId) -> Answer<Tags>;
    /// Lets the node run the crons, or stops it.
    async fn monitor(&self, is_on: bool) -> Answer<()>;
    /// The processes of the account.
    async fn processes(&self) -> Answer<Vec<Listed>>;
    /// The way of a message, for people.
    async fn trace(&self, message: ItemId, style: Style) -> Answer<String>;
}

#[async_trait]
impl Link for Session {
    fn process(&self) -> ProcessId {
        self.process
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn about(&self) -> Vec<(&'static str, String)> {
        let node = self.node.facts.url.clone();
        vec![
            ("process", self.process.to_string()),
            ("name", self.name.clone()),
            ("owner", self.signer.address().to_string()),
            ("node", node.unwrap_or_else(|| "in this program".to_owned())),
        ]
    }

    async fn send(&self, chunk: &Chunk) -> Answer<ItemId> {
        let tags = vec![Tag::new("Action", "Eval")];
        let data = Bytes::from(chunk.source().to_owned());
        Session::send(self, self.process, tags, data).await
    }

    async fn result(&self, message: ItemId) -> Answer<Evaluated> {
        Session::result(self, message).await
    }

    async fn dry(&self, chunk: &Chunk) -> Answer<Arc<Outcome>> {
        Session::dry(self, chunk).await
    }

    async fn progress(&self, message: ItemId) -> Answer<(u64, u64)> {
        let entry = self.node.scheduler.message(self.process, message).await?;
        let at = self.node.compute.watch(self.process, None).await?;
        Ok((at, entry.assignment.slot))
    }

    fn live(&self) -> Feed {
        crate::live::live(Arc::clone(&self.node), self.process, wire::events::From::Now).boxed()
    }

    async fn tags(&self, message: ItemId) -> Answer<Tags> {
        let entry = self.node.scheduler.message(self.process, message).await?;
        Ok(entry.item().map(|item| item.tags().to_vec()).unwrap_or_default())
    }

    async fn monitor(&self, is_on: bool) -> Answer<()> {
        let parts = ItemParts {
            target: Some(self.process.0),
            anchor: None,
            tags: Tags::new(),
            data: Bytes::new(),
        };
        let item = DataItem::sign(&parts, &self.signer)?;
        match is_on {
            true => self.node.messenger.monitor(self.process, item).await,
            false => self.node.messenger.unmonitor(self.process, item).await,
        }
    }

    async fn processes(&self) -> Answer<Vec<Listed>> {
        Session::list(&self.node, Some(self.signer.address())).await
    }

    async fn trace(&self, message: ItemId, style: Style) -> Answer<String> {
        let process = trace::process_of(&self.node, message).await?;
        Ok(trace::trace(&self.node, process, message).await?.render(style))
    }
}
