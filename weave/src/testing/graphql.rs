//! The double's GraphQL: mined transactions and items of bundles, by ids, owners, tags and heights.
//!
//! Not here: fuzzy search, `blocks`. The invariant: pages follow one order, height then place in the block then place
//! in the bundle, and a cursor is a place in it.

use std::ops::Bound;

use async_graphql::{Context, EmptyMutation, EmptySubscription, Enum, ID, InputObject, Object, SimpleObject};
use spec::ids::{base64url, from_base64url};
use spec::signature::address;
use spec::{Address, ItemId, Tag};

use super::answer::tag;
use super::chain::Block;
use super::double::Double;
use super::http::Handle;
use super::library::Place;

/// Most edges of a page.
const PAGE_MAX: usize = 100;

/// The schema over one double.
pub(super) type Schema = async_graphql::Schema<Query, EmptyMutation, EmptySubscription>;

/// Makes it.
pub(super) fn schema(handle: Handle) -> Schema {
    async_graphql::Schema::build(Query, EmptyMutation, EmptySubscription)
        .data(handle)
        .finish()
}

/// Conditions on one tag.
#[derive(InputObject)]
pub struct TagFilter {
    name: String,
    values: Vec<String>,
    op: Option<TagOperator>,
}

/// How values are compared.
#[derive(Enum, Copy, Clone, Eq, PartialEq)]
pub enum TagOperator {
    /// Exactly one of the values.
    Eq,
    /// None of the values.
    Neq,
}

/// Heights, both inclusive.
#[derive(InputObject, Default)]
pub struct BlockFilter {
    min: Option<u64>,
    max: Option<u64>,
}

/// Which come first.
#[derive(Enum, Copy, Clone, Eq, PartialEq, Default)]
pub enum SortOrder {
    /// The oldest.
    HeightAsc,
    /// The newest.
    #[default]
    HeightDesc,
}

/// A transaction or an item.
#[derive(SimpleObject)]
pub struct Transaction {
    id: ID,
    anchor: String,
    signature: String,
    recipient: String,
    owner: Owner,
    fee: Amount,
    quantity: Amount,
    data: MetaData,
    tags: Vec<TagPair>,
    block: Option<BlockHead>,
    parent: Option<Parent>,
    bundled_in: Option<Parent>,
}

/// Who signed.
#[derive(SimpleObject)]
pub struct Owner {
    address: String,
    key: String,
}

/// Money.
#[derive(SimpleObject)]
pub struct Amount {
    winston: String,
    ar: String,
}

/// What the data is.
#[derive(SimpleObject)]
pub struct MetaData {
    size: String,
    r#type: Option<String>,
}

/// A tag as text.
#[derive(SimpleObject)]
pub struct TagPair {
    name: String,
    value: String,
}

/// A block in a transaction's answer.
#[derive(SimpleObject)]
pub struct BlockHead {
    id: ID,
    timestamp: u64,
    height: u64,
    previous: ID,
}

/// The bundle of an item.
#[derive(SimpleObject, Clone)]
pub struct Parent {
    id: ID,
}

/// A page.
#[derive(SimpleObject)]
pub struct Connection {
    page_info: PageInfo,
    edges: Vec<Edge>,
}

/// Whether more follow.
#[derive(SimpleObject)]
pub struct PageInfo {
    has_next_page: bool,
}

/// One of a page.
#[derive(SimpleObject)]
pub struct Edge {
    cursor: String,
    node: Transaction,
}

/// What can be asked.
pub struct Query;

#[Object]
impl Query {
    /// What is mined under an id.
    async fn transaction(&self, context: &Context<'_>, id: ID) -> Option<Transaction> {
        let mut double = context.data_unchecked::<Handle>().lock();
        double.unbundle();
        describe(&double, &id.parse().ok()?)
    }

    /// What is mined and meets all conditions.
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
        first: Option<u32>,
        after: Option<String>,
        sort: Option<SortOrder>,
    ) -> async_graphql::Result<Connection> {
        let filter = Filter {
            ids,
            owners: owners.map(|owners| owners.iter().map(|owner| account(owner)).collect()),
            recipients,
            tags: tags.unwrap_or_default(),
            bundled_in,
            block: block.unwrap_or_default(),
        };
        let after = after.filter(|after| !after.is_empty());
        let after = after
            .map(|after| read_cursor(&after).ok_or("the cursor is none of ours"))
            .transpose()?;
        let mut double = context.data_unchecked::<Handle>().lock();
        double.unbundle();
        let first = first.unwrap_or(10).min(PAGE_MAX as u32) as usize;
        Ok(page(&double, &filter, first, after, sort.unwrap_or_default()))
    }
}

struct Filter {
    ids: Option<Vec<ID>>,
    owners: Option<Vec<String>>,
    recipients: Option<Vec<String>>,
    tags: Vec<TagFilter>,
    bundled_in: Option<Vec<ID>>,
    block: BlockFilter,
}

/// An owner is an account or a whole key.
fn account(owner: &str) -> String {
    match owner.parse::<Address>() {
        Ok(account) => account.to_string(),
        Err(_) => from_base64url(owner).map_or(owner.to_string(), |key| address(&key).to_string()),
    }
}

fn page(double: &Double, filter: &Filter, first: usize, after: Option<Place>, sort: SortOrder) -> Connection {
    let order = &double.library.order;
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    let places: Box<dyn Iterator<Item = (&Place, &ItemId)>> = match sort {
        SortOrder::HeightAsc => Box::new(order.range((after, Bound::Unbounded))),
        SortOrder::HeightDesc => Box::new(order.range((Bound::Unbounded, after)).rev()),
    };
    let (low, high) = (
        filter.block.min.unwrap_or(0),
        filter.block.max.unwrap_or(u64::MAX),
    );
    let inside = places.filter(|(place, _)| (low..=high).contains(&place.0));
    let mut edges: Vec<Edge> = inside
        .filter(|(_, id)| {
            filter
                .ids
                .as_ref()
                .is_none_or(|ids| ids.iter().any(|one| **one == id.to_string()))
        })
        .filter_map(|(place, id)| Some((place, describe(double, id)?)))
        .filter(|(_, node)| filter.takes(node))
        .take(first + 1)
        .map(|(place, node)| Edge {
            cursor: cursor(place),
            node,
        })
        .collect();
    let has_next_page = edges.len() > first;
    edges.truncate(first);
    Connection {
        page_info: PageInfo { has_next_page },
        edges,
    }
}

impl Filter {
    fn takes(&self, node: &Transaction) -> bool {
        let among =
            |set: &Option<Vec<String>>, text: &String| set.as_ref().is_none_or(|set| set.contains(text));
        let bundle = node.bundled_in.as_ref().map(|parent| &parent.id);
        let is_inside = |set: &Vec<ID>| bundle.is_some_and(|bundle| set.contains(bundle));
        among(&self.owners, &node.owner.address)
            && among(&self.recipients, &node.recipient)
            && self.bundled_in.as_ref().is_none_or(is_inside)
            && self.tags.iter().all(|wanted| wanted.is_met(&node.tags))
    }
}

impl TagFilter {
    fn is_met(&self, tags: &[TagPair]) -> bool {
        let has = tags
            .iter()
            .any(|tag| tag.name == self.name && self.values.contains(&tag.value));
        has == (self.op != Some(TagOperator::Neq))
    }
}

fn cursor(place: &Place) -> String {
    base64url(format!("[{},{},{}]", place.0, place.1, place.2).as_bytes())
}

fn read_cursor(text: &str) -> Option<Place> {
    serde_json::from_slice(&from_base64url(text)?).ok()
}

/// A mined transaction or an item of a listed bundle.
fn describe(double: &Double, id: &ItemId) -> Option<Transaction> {
    if let Some((block, mined)) = double.chain.find(id) {
        return Some(describe_transaction(block, &mined.transaction));
    }
    let found = double.library.items.get(id)?;
    let (block, item) = (double.chain.block(found.place.0)?, &found.item);
    let parent = Parent {
        id: found.parent.to_string().into(),
    };
    Some(Transaction {
        id: id.to_string().into(),
        anchor: item.anchor().map(|anchor| base64url(anchor)).unwrap_or_default(),
        signature: base64url(item.signature()),
        recipient: item.target().map(|target| base64url(target)).unwrap_or_default(),
        owner: Owner {
            address: item.owner_address().to_string(),
            key: base64url(item.owner()),
        },
        fee: amount(0),
        quantity: amount(0),
        data: meta(item.tags(), item.data_len()),
        tags: pairs(item.tags()),
        block: Some(head(block)),
        parent: Some(parent.clone()),
        bundled_in: Some(parent),
    })
}

fn describe_transaction(block: &Block, transaction: &spec::Transaction) -> Transaction {
    let content = &transaction.content;
    let key = match &transaction.owner {
        spec::transaction::Owner::Rsa(modulus) => base64url(modulus),
        spec::transaction::Owner::Secp256k1(key) => base64url(key),
    };
    Transaction {
        id: transaction.id.to_string().into(),
        anchor: base64url(&content.last_tx),
        signature: base64url(&transaction.signature),
        recipient: content
            .target
            .map(|target| target.to_string())
            .unwrap_or_default(),
        owner: Owner {
            address: transaction.owner.address().to_string(),
            key,
        },
        fee: amount(content.reward),
        quantity: amount(content.quantity),
        data: meta(&content.tags, content.data_size),
        tags: pairs(&content.tags),
        block: Some(head(block)),
        parent: None,
        bundled_in: None,
    }
}

fn head(block: &Block) -> BlockHead {
    BlockHead {
        id: base64url(&block.hash).into(),
        timestamp: block.timestamp_ms / 1000,
        height: block.height,
        previous: base64url(&block.previous).into(),
    }
}

fn amount(winston: u128) -> Amount {
    let unit = 1_000_000_000_000;
    Amount {
        winston: winston.to_string(),
        ar: format!("{}.{:012}", winston / unit, winston % unit),
    }
}

fn meta(tags: &[Tag], size: u64) -> MetaData {
    MetaData {
        size: size.to_string(),
        r#type: tag(tags, "content-type"),
    }
}

fn pairs(tags: &[Tag]) -> Vec<TagPair> {
    let pair = |tag: &Tag| TagPair {
        name: tag.name_text().into_owned(),
        value: tag.value_text().into_owned(),
    };
    tags.iter().map(pair).collect()
}
