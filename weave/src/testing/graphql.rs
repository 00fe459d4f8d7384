//! The double's GraphQL: mined transactions and items of bundles, by ids, owners, tags and heights.
//!
//! Not here: fuzzy search, `blocks`. The invariant: pages follow one order, height then place in the block then place
//! in the bundle, and a cursor is a place in it.

use std::collections::BTreeSet;
use std::ops::Bound;

use async_graphql::{Context, EmptyMutation, EmptySubscription, Enum, ID, InputObject, Object, SimpleObject};
use spec::ids::{base64url, from_base64url};
use spec::signature::address;
use spec::{Address, ItemId, Tag};

use super::answer::tag;
use super::chain::Block;
use super::double::Double;
use super::http::Handle;
use super::library::{Listing, Place, Unbundled, mark};

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
        Some(Listed::find(&double, &id.parse().ok()?)?.describe())
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
            ids: ids.map(|ids| ids.iter().filter_map(|id| id.parse().ok()).collect()),
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
    /// What cannot be an id names nothing.
    ids: Option<BTreeSet<ItemId>>,
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
    let places: Box<dyn Iterator<Item = (&Place, &Listing)>> = match sort {
        SortOrder::HeightAsc => Box::new(order.range((after, Bound::Unbounded))),
        SortOrder::HeightDesc => Box::new(order.range((Bound::Unbounded, after)).rev()),
    };
    let (low, high) = (
        filter.block.min.unwrap_or(0),
        filter.block.max.unwrap_or(u64::MAX),
    );
    let inside = places.filter(|(place, _)| (low..=high).contains(&place.0));
    let marks: Vec<u64> = filter.tags.iter().filter_map(TagFilter::marks).collect();
    let mut edges: Vec<Edge> = inside
        .filter(|(_, listing)| marks.iter().all(|any| listing.marks & any != 0))
        .filter(|(_, listing)| filter.ids.as_ref().is_none_or(|ids| ids.contains(&listing.id)))
        .filter_map(|(place, listing)| Some((place, Listed::at(double, place, &listing.id)?)))
        .filter(|(_, listed)| filter.takes(listed))
        .take(first + 1)
        .map(|(place, listed)| Edge {
            cursor: cursor(place),
            node: listed.describe(),
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
    /// Compares before anything is put into words: a query may look through a million items.
    fn takes(&self, listed: &Listed<'_>) -> bool {
        let among = |set: &Option<Vec<String>>, text: &dyn Fn() -> String| {
            set.as_ref().is_none_or(|set| set.contains(&text()))
        };
        let is_inside = |set: &Vec<ID>| {
            let bundle = listed.bundle().map(|bundle| bundle.to_string());
            bundle.is_some_and(|bundle| set.iter().any(|one| **one == bundle))
        };
        self.tags.iter().all(|wanted| wanted.is_met(listed.tags()))
            && among(&self.owners, &|| listed.owner().to_string())
            && among(&self.recipients, &|| listed.recipient())
            && self.bundled_in.as_ref().is_none_or(is_inside)
    }
}

impl TagFilter {
    /// Bits of which what meets it has one; `None`: any may meet it.
    fn marks(&self) -> Option<u64> {
        let of = |value: &String| mark(self.name.as_bytes(), value.as_bytes());
        let all = self.values.iter().fold(0, |all, value| all | of(value));
        (self.op != Some(TagOperator::Neq)).then_some(all)
    }

    fn is_met(&self, tags: &[Tag]) -> bool {
        let is_it = |tag: &Tag| {
            let mut values = self.values.iter();
            tag.name == self.name.as_bytes() && values.any(|wanted| tag.value == wanted.as_bytes())
        };
        tags.iter().any(is_it) == (self.op != Some(TagOperator::Neq))
    }
}

fn cursor(place: &Place) -> String {
    base64url(format!("[{},{},{}]", place.0, place.1, place.2).as_bytes())
}

fn read_cursor(text: &str) -> Option<Place> {
    serde_json::from_slice(&from_base64url(text)?).ok()
}

/// A mined transaction, or an item of a listed bundle.
enum Listed<'a> {
    Transaction(&'a Block, &'a spec::Transaction),
    Item(&'a Block, &'a Unbundled),
}

impl<'a> Listed<'a> {
    fn find(double: &'a Double, id: &ItemId) -> Option<Listed<'a>> {
        if let Some((block, mined)) = double.chain.find(id) {
            return Some(Listed::Transaction(block, &mined.transaction));
        }
        Listed::item(double, id)
    }

    /// What stands at a place: what is in a bundle need not be looked for in the chain.
    fn at(double: &'a Double, place: &Place, id: &ItemId) -> Option<Listed<'a>> {
        match place.2 {
            0 => Listed::find(double, id),
            _ => Listed::item(double, id),
        }
    }

    fn item(double: &'a Double, id: &ItemId) -> Option<Listed<'a>> {
        let found = double.library.items.get(id)?;
        Some(Listed::Item(double.chain.block(found.place.0)?, found))
    }

    fn tags(&self) -> &[Tag] {
        match self {
            Listed::Transaction(_, transaction) => &transaction.content.tags,
            Listed::Item(_, found) => found.item.tags(),
        }
    }

    fn owner(&self) -> Address {
        match self {
            Listed::Transaction(_, transaction) => transaction.owner.address(),
            Listed::Item(_, found) => found.item.owner_address(),
        }
    }

    /// Empty without one.
    fn recipient(&self) -> String {
        match self {
            Listed::Transaction(_, transaction) => {
                let target = transaction.content.target;
                target.map(|target| target.to_string()).unwrap_or_default()
            }
            Listed::Item(_, found) => {
                let target = found.item.target();
                target.map(|target| base64url(target)).unwrap_or_default()
            }
        }
    }

    fn bundle(&self) -> Option<ItemId> {
        match self {
            Listed::Transaction(..) => None,
            Listed::Item(_, found) => Some(found.parent),
        }
    }

    fn describe(&self) -> Transaction {
        match self {
            Listed::Transaction(block, transaction) => self.describe_transaction(block, transaction),
            Listed::Item(block, found) => self.describe_item(block, found),
        }
    }

    fn describe_item(&self, block: &Block, found: &Unbundled) -> Transaction {
        let item = &found.item;
        let parent = Parent {
            id: found.parent.to_string().into(),
        };
        Transaction {
            id: item.id().to_string().into(),
            anchor: item.anchor().map(|anchor| base64url(anchor)).unwrap_or_default(),
            signature: base64url(item.signature()),
            recipient: self.recipient(),
            owner: Owner {
                address: self.owner().to_string(),
                key: base64url(item.owner()),
            },
            fee: amount(0),
            quantity: amount(0),
            data: meta(item.tags(), item.data_len()),
            tags: pairs(item.tags()),
            block: Some(head(block)),
            parent: Some(parent.clone()),
            bundled_in: Some(parent),
        }
    }

    fn describe_transaction(&self, block: &Block, transaction: &spec::Transaction) -> Transaction {
        let content = &transaction.content;
        let key = match &transaction.owner {
            spec::transaction::Owner::Rsa(modulus) => base64url(modulus),
            spec::transaction::Owner::Secp256k1(key) => base64url(key),
        };
        Transaction {
            id: transaction.id.to_string().into(),
            anchor: base64url(&content.last_tx),
            signature: base64url(&transaction.signature),
            recipient: self.recipient(),
            owner: Owner {
                address: self.owner().to_string(),
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
