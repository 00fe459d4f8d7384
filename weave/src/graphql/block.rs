//! Blocks as GraphQL shows them; times in seconds.
//!
//! Not here: which blocks there are; the dev chain computes them.

use std::sync::Arc;

use async_graphql::{ID, SimpleObject};
use spec::contract::Answer;
use spec::ids::{base64url, from_base64url};
use spec::{ItemId, Refusal};

use super::transaction::BlockFilter;
use super::{PageInfo, SortOrder};
use crate::chain;
use crate::weave::Weave;

/// A block.
#[derive(SimpleObject)]
pub struct Block {
    id: ID,
    /// When it began, seconds since 1970.
    timestamp: i64,
    height: i64,
    previous: ID,
}

impl From<chain::Block> for Block {
    fn from(block: chain::Block) -> Block {
        Block {
            id: block.id.to_string().into(),
            timestamp: (block.timestamp_ms / 1000) as i64,
            height: block.height as i64,
            previous: block.previous.to_string().into(),
        }
    }
}

/// A page of blocks.
#[derive(SimpleObject)]
pub struct BlockConnection {
    page_info: PageInfo,
    edges: Vec<BlockEdge>,
}

/// A block and where to go on after it.
#[derive(SimpleObject)]
pub struct BlockEdge {
    cursor: String,
    node: Block,
}

/// The block of an id.
pub async fn one(weave: &Arc<Weave>, id: &str) -> Option<Block> {
    let id: ItemId = id.parse().ok()?;
    let blocks = by_ids(weave, vec![id]).await.ok()?;
    blocks.into_iter().next().map(Block::from)
}

/// Ids are hashes of heights, so they are looked for from the newest back, within a bound.
pub(crate) async fn by_ids(weave: &Arc<Weave>, ids: Vec<ItemId>) -> Answer<Vec<chain::Block>> {
    let (weave, bound) = (weave.clone(), weave.config().block_search_max);
    let search = move || {
        let chain = weave.chain();
        let last = chain.height();
        let heights = (1..=last).rev().take(bound);
        let blocks = heights.map(|height| chain.block(height));
        blocks
            .filter(|block| ids.contains(&block.id))
            .take(ids.len())
            .collect()
    };
    let found = tokio::task::spawn_blocking(search).await;
    found.map_err(|error| Refusal::internal(format!("a task of the weave stopped: {error}")))
}

/// A page of blocks.
pub async fn list(
    weave: &Arc<Weave>,
    ids: Option<Vec<ID>>,
    height: Option<BlockFilter>,
    (first, after, sort): (usize, Option<String>, SortOrder),
) -> Answer<BlockConnection> {
    let (mut low, mut high) = height.map_or((0, u64::MAX), |height| height.bounds());
    (low, high) = (low.max(1), high.min(weave.chain().height()));
    match (after.map(read_cursor).transpose()?, sort) {
        (Some(after), SortOrder::HeightAsc) => low = low.max(after.saturating_add(1)),
        (Some(after), SortOrder::HeightDesc) => high = high.min(after.saturating_sub(1)),
        (None, _) => {}
    }
    let mut blocks: Vec<chain::Block> = match (ids.filter(|ids| !ids.is_empty()), sort) {
        (Some(ids), _) => {
            let ids = ids.iter().filter_map(|id| id.parse().ok()).collect();
            let mut blocks = by_ids(weave, ids).await?;
            blocks.retain(|block| (low..=high).contains(&block.height));
            if sort == SortOrder::HeightAsc {
                blocks.reverse();
            }
            blocks
        }
        (None, SortOrder::HeightAsc) => {
            let heights = (low..=high).take(first + 1);
            heights.map(|height| weave.chain().block(height)).collect()
        }
        (None, SortOrder::HeightDesc) => {
            let heights = (low..=high).rev().take(first + 1);
            heights.map(|height| weave.chain().block(height)).collect()
        }
    };
    let has_next_page = blocks.len() > first;
    blocks.truncate(first);
    let edges = blocks.into_iter().map(|block| BlockEdge {
        cursor: base64url(format!("b{}", block.height).as_bytes()),
        node: block.into(),
    });
    Ok(BlockConnection {
        page_info: PageInfo { has_next_page },
        edges: edges.collect(),
    })
}

fn read_cursor(text: String) -> Answer<u64> {
    let bytes = from_base64url(&text);
    let number = bytes
        .as_deref()
        .and_then(|bytes| std::str::from_utf8(bytes.strip_prefix(b"b")?).ok());
    number.and_then(|number| number.parse().ok()).ok_or_else(|| {
        Refusal::invalid(
            "invalid-cursor",
            "this is no cursor of this gateway; pass one from an earlier page, unchanged",
        )
    })
}
