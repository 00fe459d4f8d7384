//! Items as GraphQL shows them; Arweave's word for all of them is transaction.
//!
//! Not here: searching.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use spec::contract::{self, Answer, Hit, Permanent, Stored};
use spec::ids::{base64url, from_base64url};
use spec::transaction::Content;
use spec::{Address, ItemId, signature};

use super::block::Block;
use super::{PageInfo, SortOrder, StandIns};
use crate::gateway::Fields;
use crate::weave::Weave;

/// Winston in an AR.
const WINSTON_PER_AR: u128 = 1_000_000_000_000;

/// Conditions on one tag.
#[derive(InputObject)]
pub struct TagFilter {
    name: String,
    values: Vec<String>,
    op: Option<TagOperator>,
}

/// How a tag's value is compared.
#[derive(Enum, Copy, Clone, Eq, PartialEq)]
pub enum TagOperator {
    /// Exactly one of the values.
    Eq,
}

/// Heights, both inclusive.
#[derive(InputObject)]
pub struct BlockFilter {
    min: Option<i64>,
    max: Option<i64>,
}

impl BlockFilter {
    /// Lowest and highest height.
    pub fn bounds(&self) -> (u64, u64) {
        let low = self.min.map_or(0, |min| u64::try_from(min).unwrap_or(0));
        let high = self.max.map_or(u64::MAX, |max| u64::try_from(max).unwrap_or(0));
        (low, high)
    }
}

/// An item, or bytes registered under an id.
pub struct Transaction {
    stored: Stored,
    block_height: u64,
}

impl Transaction {
    /// Nothing held, only described: as old as the chain.
    fn standing_in(stored: Stored) -> Transaction {
        Transaction {
            stored,
            block_height: 1,
        }
    }
}

/// Who signed.
#[derive(SimpleObject)]
pub struct Owner {
    address: String,
    key: String,
}

/// An amount of money; items cost none here.
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

/// A tag; text, invalid UTF-8 replaced.
#[derive(SimpleObject)]
pub struct Tag {
    name: String,
    value: String,
}

/// What contains an item.
#[derive(SimpleObject)]
pub struct Bundle {
    id: ID,
}

impl Amount {
    fn of(winston: u128) -> Amount {
        Amount {
            winston: winston.to_string(),
            ar: format!("{}.{:012}", winston / WINSTON_PER_AR, winston % WINSTON_PER_AR),
        }
    }
}

impl Transaction {
    /// An amount that a transaction names; items name none.
    fn amount(&self, of: impl Fn(&Content) -> u128) -> Amount {
        match &self.stored {
            Stored::Posted(posted) => Amount::of(of(&posted.transaction.content)),
            _ => Amount::of(0),
        }
    }

    async fn bundle(&self, context: &Context<'_>) -> async_graphql::Result<Option<Bundle>> {
        let found = super::weave(context).bundle_of(self.stored.id()).await;
        let found = found.map_err(super::error)?;
        Ok(found.map(|id| Bundle {
            id: id.to_string().into(),
        }))
    }
}

#[Object]
impl Transaction {
    /// Its id.
    async fn id(&self) -> ID {
        self.stored.id().to_string().into()
    }

    /// What makes it differ from otherwise equal items.
    async fn anchor(&self) -> String {
        base64url(Fields::of(&self.stored).anchor)
    }

    /// The signature; empty for registered bytes.
    async fn signature(&self) -> String {
        base64url(Fields::of(&self.stored).signature)
    }

    /// How it is signed; 0 for registered bytes.
    async fn signature_type(&self) -> i32 {
        Fields::of(&self.stored).signature_type.into()
    }

    /// Whom it is for; empty if nobody.
    async fn recipient(&self) -> String {
        base64url(Fields::of(&self.stored).target)
    }

    /// Who signed or registered it.
    async fn owner(&self) -> Owner {
        let key = Fields::of(&self.stored).owner;
        let address = match &self.stored {
            Stored::Registered(registered) => registered.by,
            _ => signature::address(key),
        };
        Owner {
            address: address.to_string(),
            key: base64url(key),
        }
    }

    /// What storing it cost.
    async fn fee(&self) -> Amount {
        self.amount(|content| content.reward)
    }

    /// What it transfers.
    async fn quantity(&self) -> Amount {
        self.amount(|content| content.quantity)
    }

    /// Size and type of the data.
    async fn data(&self) -> MetaData {
        let tags = self.stored.tags();
        let kind = tags
            .iter()
            .find(|tag| tag.name.eq_ignore_ascii_case(b"content-type"));
        MetaData {
            size: Fields::of(&self.stored).data_len.to_string(),
            r#type: kind.map(|tag| tag.value_text().into_owned()),
        }
    }

    /// The tags, in order.
    async fn tags(&self) -> Vec<Tag> {
        let tags = self.stored.tags();
        let text = |tag: &spec::Tag| Tag {
            name: tag.name_text().into_owned(),
            value: tag.value_text().into_owned(),
        };
        tags.iter().map(text).collect()
    }

    /// The block it was stored in.
    async fn block(&self, context: &Context<'_>) -> Option<Block> {
        Some(super::weave(context).chain().block(self.block_height).into())
    }

    /// The old name of `bundledIn`.
    async fn parent(&self, context: &Context<'_>) -> async_graphql::Result<Option<Bundle>> {
        self.bundle(context).await
    }

    /// The bundle it lies in directly.
    async fn bundled_in(&self, context: &Context<'_>) -> async_graphql::Result<Option<Bundle>> {
        self.bundle(context).await
    }
}

/// A page of items.
#[derive(SimpleObject)]
pub struct TransactionConnection {
    page_info: PageInfo,
    edges: Vec<TransactionEdge>,
}

/// An item and where to go on after it.
#[derive(SimpleObject)]
pub struct TransactionEdge {
    cursor: String,
    node: Transaction,
}

/// Conditions as a client sends them.
pub struct Filter {
    pub ids: Option<Vec<ID>>,
    pub owners: Option<Vec<String>>,
    pub recipients: Option<Vec<String>>,
    pub tags: Option<Vec<TagFilter>>,
    pub bundled_in: Option<Vec<ID>>,
    pub block: Option<BlockFilter>,
}

/// What is held under an id, or stands in for it.
pub async fn one(weave: &Arc<Weave>, stand_ins: &StandIns, id: &str) -> Answer<Option<Transaction>> {
    let Ok(id) = id.parse::<ItemId>() else {
        return Ok(None);
    };
    let Some(found) = weave.lookup(id).await? else {
        return Ok(stand_ins.get(id).map(Transaction::standing_in));
    };
    Ok(Some(Transaction {
        stored: found.stored,
        block_height: found.block_height,
    }))
}

/// A page of what meets the conditions.
pub async fn list(
    weave: &Arc<Weave>,
    stand_ins: &StandIns,
    filter: Filter,
    (first, after, sort): (usize, Option<String>, SortOrder),
) -> Answer<TransactionConnection> {
    let empty = TransactionConnection {
        page_info: PageInfo { has_next_page: false },
        edges: Vec::new(),
    };
    let Some(mut query) = conditions(filter) else {
        return Ok(empty);
    };
    (query.first, query.ascending) = (first, sort == SortOrder::HeightAsc);
    query.after = after.filter(|after| !after.is_empty());
    let absent = stand_ins.matching(weave, &query).await?;
    let hits = weave.find(query).await?;
    let edge = |hit: Hit| TransactionEdge {
        cursor: hit.cursor,
        node: Transaction {
            stored: hit.stored,
            block_height: hit.block_height,
        },
    };
    let absent = absent.into_iter().map(|stored| TransactionEdge {
        cursor: String::new(),
        node: Transaction::standing_in(stored),
    });
    Ok(TransactionConnection {
        page_info: PageInfo {
            has_next_page: hits.has_next_page,
        },
        edges: hits
            .hits
            .into_iter()
            .map(edge)
            .chain(absent)
            .take(first)
            .collect(),
    })
}

/// The query; `None` if a condition cannot be met by anything.
fn conditions(filter: Filter) -> Option<contract::Query> {
    let bundles = filter.bundled_in;
    let bundles = bundles.map(|ids| ids.iter().map(|id| id.to_string()).collect());
    let (height_min, height_max) = match filter.block {
        Some(block) => (
            block.min.map(|_| block.bounds().0),
            block.max.map(|_| block.bounds().1),
        ),
        None => (None, None),
    };
    let ids = filter
        .ids
        .map(|ids| ids.iter().map(|id| id.to_string()).collect());
    let tags = filter.tags.unwrap_or_default().into_iter().map(|tag| {
        // The only operator there is.
        let _ = tag.op.unwrap_or(TagOperator::Eq);
        contract::TagFilter {
            name: tag.name,
            values: tag.values,
        }
    });
    Some(contract::Query {
        ids: readable(ids, |id| id.parse().ok())?,
        owners: readable(filter.owners, accounts)?,
        recipients: readable(filter.recipients, |target| {
            target.parse::<Address>().ok().map(|target| target.0)
        })?,
        tags: tags.collect(),
        bundled_in: readable(bundles, |id| id.parse().ok())?,
        height_min,
        height_max,
        ..contract::Query::default()
    })
}

/// The values that can be read. If there are values but none of them can, nothing is meant:
/// clients pass empty texts for what they do not know.
fn readable<T, I: IntoIterator<Item = T>>(
    values: Option<Vec<String>>,
    read: impl Fn(&str) -> I,
) -> Option<Vec<T>> {
    let values = values.unwrap_or_default();
    let read: Vec<T> = values.iter().flat_map(|value| read(value)).collect();
    (values.is_empty() || !read.is_empty()).then_some(read)
}

/// An owner's address, given as such or as the public key. An Ed25519 key has an address's length,
/// so it may be meant as either.
fn accounts(text: &str) -> impl Iterator<Item = Address> + use<> {
    let key = from_base64url(text).filter(|key| key.len() >= 32);
    let of_key = key.map(|key| signature::address(&key));
    text.parse().ok().into_iter().chain(of_key)
}
