//! The GraphQL that clients of Arweave gateways speak.
//!
//! Not here: parsing and execution (the library's), searching (`find.rs`). The invariant: an id
//! that is unknown or malformed is simply not found; only a query that cannot be meant is an error.

mod block;
mod stand_in;
mod transaction;

use std::sync::Arc;

use async_graphql::{Context, EmptyMutation, EmptySubscription, Enum, ID, Object, Request, SimpleObject};
use spec::Refusal;

use crate::weave::Weave;
pub(crate) use block::by_ids;
use block::{Block, BlockConnection};
use transaction::{BlockFilter, TagFilter, Transaction, TransactionConnection};

/// The schema, with the weave it asks.
pub type Schema = async_graphql::Schema<Query, EmptyMutation, EmptySubscription>;

pub use stand_in::{StandIn, StandIns};

/// Makes the schema of a weave.
pub fn schema(weave: Arc<Weave>, stand_ins: StandIns) -> Schema {
    let config = weave.config();
    let (depth, complexity) = (config.graphql_depth_max, config.graphql_complexity_max);
    Schema::build(Query, EmptyMutation, EmptySubscription)
        .limit_depth(depth)
        .limit_complexity(complexity)
        .data(weave)
        .data(stand_ins)
        .finish()
}

/// Fills in the defaults of variables that a request leaves out. The library does so for arguments,
/// but not for the conditions of `@skip` and `@include`.
pub fn fill_defaults(request: &mut Request) {
    let name = request.operation_name.clone();
    // What cannot be parsed is refused at execution, with its place.
    let Ok(document) = request.parsed_query() else {
        return;
    };
    let operations = document.operations.iter();
    let meant =
        operations.filter(|(named, _)| name.is_none() || named.map(|n| n.as_str()) == name.as_deref());
    let variables = meant.flat_map(|(_, operation)| &operation.node.variable_definitions);
    let defaults = variables.filter_map(|variable| {
        let default = variable.node.default_value.as_ref()?;
        Some((variable.node.name.node.clone(), default.node.clone()))
    });
    let defaults: Vec<_> = defaults.collect();
    for (name, value) in defaults {
        request.variables.entry(name).or_insert(value);
    }
}

/// Order of a list; newest first unless asked otherwise.
#[derive(Enum, Copy, Clone, Eq, PartialEq, Default)]
pub enum SortOrder {
    /// Oldest first.
    HeightAsc,
    /// Newest first.
    #[default]
    HeightDesc,
}

/// Where a page stands among all.
#[derive(SimpleObject)]
pub struct PageInfo {
    /// Whether more follow the last edge.
    has_next_page: bool,
}

fn weave<'a>(context: &Context<'a>) -> &'a Arc<Weave> {
    context.data_unchecked::<Arc<Weave>>()
}

fn stand_ins<'a>(context: &Context<'a>) -> &'a StandIns {
    context.data_unchecked::<StandIns>()
}

fn error(refusal: Refusal) -> async_graphql::Error {
    async_graphql::Error::new(refusal.text)
}

/// A page's size: at least nothing, at most the field's limit.
fn page_size(first: Option<i32>) -> usize {
    usize::try_from(first.unwrap_or(10))
        .unwrap_or(0)
        .min(crate::find::PAGE_MAX)
}

/// What can be asked.
pub struct Query;

#[Object]
impl Query {
    /// What is held under one id; null if nothing is.
    #[graphql(complexity = "20 + child_complexity")]
    async fn transaction(&self, context: &Context<'_>, id: ID) -> async_graphql::Result<Option<Transaction>> {
        transaction::one(weave(context), stand_ins(context), &id)
            .await
            .map_err(error)
    }

    /// What is held that meets every condition given.
    #[graphql(complexity = "50 + child_complexity")]
    #[allow(
        clippy::too_many_arguments,
        reason = "one parameter for each argument of the field"
    )]
    async fn transactions(
        &self,
        context: &Context<'_>,
        ids: Option<Vec<ID>>,
        owners: Option<Vec<String>>,
        recipients: Option<Vec<String>>,
        tags: Option<Vec<TagFilter>>,
        bundled_in: Option<Vec<ID>>,
        block: Option<BlockFilter>,
        first: Option<i32>,
        after: Option<String>,
        sort: Option<SortOrder>,
    ) -> async_graphql::Result<TransactionConnection> {
        let filter = transaction::Filter {
            ids,
            owners,
            recipients,
            tags,
            bundled_in,
            block,
        };
        let page = (page_size(first), after, sort.unwrap_or_default());
        transaction::list(weave(context), stand_ins(context), filter, page)
            .await
            .map_err(error)
    }

    /// The block of an id; null if there is none.
    #[graphql(complexity = "50 + child_complexity")]
    async fn block(&self, context: &Context<'_>, id: Option<String>) -> Option<Block> {
        block::one(weave(context), &id?).await
    }

    /// Blocks of the chain.
    #[graphql(complexity = "50 + child_complexity")]
    async fn blocks(
        &self,
        context: &Context<'_>,
        ids: Option<Vec<ID>>,
        height: Option<BlockFilter>,
        first: Option<i32>,
        after: Option<String>,
        sort: Option<SortOrder>,
    ) -> async_graphql::Result<BlockConnection> {
        let page = (page_size(first), after, sort.unwrap_or_default());
        block::list(weave(context), ids, height, page)
            .await
            .map_err(error)
    }
}
