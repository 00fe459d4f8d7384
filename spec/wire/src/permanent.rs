//! The weave over HTTP: a client of any Arweave gateway, and the JSON both sides share.
//!
//! Not here: the gateway itself. The invariant: what a gateway hands out is believed only if it
//! carries its proof; a signed item is rebuilt from its fields and verified under its id.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use spec::contract::{Answer, Class, Hit, Hits, Permanent, Query, Registered, Stored};
use spec::ids::{base64url, from_base64url};
use spec::{Address, DataItem, ItemId, Kind, Refusal, SignatureType, Tag, Tags, tags};

use crate::client::{Http, Reply};

/// The answer to an upload, in the form of a bundler's receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uploaded {
    /// The item.
    pub id: ItemId,
    /// When it was stored, ms since 1970.
    pub timestamp: u64,
    /// Who signed it.
    pub owner: Address,
    /// What it cost.
    pub winc: String,
    /// Of this form.
    pub version: String,
    /// Height up to which the promise holds.
    pub deadline_height: u64,
    /// Gateways that have the data already.
    pub data_caches: Vec<String>,
    /// Gateways that have the header already.
    pub fast_finality_indexes: Vec<String>,
}

/// How the gateway's own refusal of a query reads.
#[derive(Deserialize)]
struct GraphError {
    message: String,
}

#[derive(Deserialize)]
struct GraphAnswer {
    data: Option<GraphData>,
    #[serde(default)]
    errors: Vec<GraphError>,
}

#[derive(Deserialize)]
struct GraphData {
    transactions: Connection,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    page_info: PageInfo,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
}

#[derive(Deserialize)]
struct Edge {
    cursor: String,
    node: Node,
}

/// The fields asked for. Gateways leave out or null what they do not know.
#[derive(Deserialize)]
struct Node {
    id: ItemId,
    #[serde(default)]
    anchor: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    recipient: Option<String>,
    owner: Owner,
    tags: Vec<TagText>,
    #[serde(default)]
    block: Option<Block>,
}

#[derive(Deserialize)]
struct Owner {
    address: Address,
    #[serde(default)]
    key: Option<String>,
}

#[derive(Deserialize)]
struct TagText {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Block {
    height: u64,
}

const FIELDS: &str = "pageInfo { hasNextPage } edges { cursor node { id anchor signature recipient \
                      owner { address key } tags { name value } block { height } } }";

/// Requests of one call under way at once.
const PARALLEL: usize = 8;

/// A gateway as the weave.
#[derive(Clone)]
pub struct Client {
    http: Http,
}

impl Client {
    /// A gateway at the client's base URL.
    pub fn new(http: Http) -> Client {
        Client { http }
    }

    async fn ask(&self, query: &Query) -> Answer<Connection> {
        let body = serde_json::to_vec(&request(query)).expect("texts and numbers only");
        let reply = self
            .http
            .post("/graphql", "application/json", body.into())
            .await?;
        let answer: GraphAnswer = reply.json()?;
        let data = answer.data.ok_or_else(|| {
            let texts: Vec<_> = answer.errors.into_iter().map(|error| error.message).collect();
            Refusal::upstream(
                "query-refused",
                format!("the gateway refused the query: {}", texts.join("; ")),
            )
        })?;
        Ok(data.transactions)
    }

    /// What a node of an answer describes, with its data.
    async fn complete(&self, node: Node) -> Answer<Stored> {
        let data = self.http.get(&format!("/raw/{}", node.id)).await?.success()?;
        Ok(stored(&node, data))
    }

    async fn upload(&self, item: DataItem, class: Class) -> Answer<()> {
        let path = match class {
            Class::Permanent => "/tx/arweave",
            // Only our own gateways have this route: what is local is never given to others.
            Class::Local => "/tx/local",
        };
        let bytes = item.bytes().clone();
        let reply = self.http.post(path, "application/octet-stream", bytes).await?;
        check_receipt(reply, item.id())
    }
}

fn check_receipt(reply: Reply, id: ItemId) -> Answer<()> {
    #[derive(Deserialize)]
    struct Receipt {
        id: ItemId,
    }
    let receipt: Receipt = reply.json()?;
    match receipt.id == id {
        true => Ok(()),
        false => {
            let text = format!("the gateway's receipt is for {} instead of {id}", receipt.id);
            Err(Refusal::upstream("wrong-receipt", text))
        }
    }
}

/// A query as a GraphQL request: only the conditions that are there, as variables.
fn request(query: &Query) -> serde_json::Value {
    let texts = |values: Vec<String>| (!values.is_empty()).then_some(values);
    let tags: Vec<_> = query
        .tags
        .iter()
        .map(|tag| serde_json::json!({ "name": tag.name, "values": tag.values }))
        .collect();
    let block = (query.height_min.is_some() || query.height_max.is_some())
        .then(|| serde_json::json!({ "min": query.height_min, "max": query.height_max }));
    let variables = serde_json::json!({
        "ids": texts(query.ids.iter().map(ToString::to_string).collect()),
        "owners": texts(query.owners.iter().map(ToString::to_string).collect()),
        "recipients": texts(query.recipients.iter().map(|target| base64url(target)).collect()),
        "tags": (!tags.is_empty()).then_some(tags),
        "bundledIn": texts(query.bundled_in.iter().map(ToString::to_string).collect()),
        "block": block,
        "first": query.first,
        "after": query.after,
        "sort": if query.ascending { "HEIGHT_ASC" } else { "HEIGHT_DESC" },
    });
    let text = format!(
        "query Find($ids: [ID!], $owners: [String!], $recipients: [String!], $tags: [TagFilter!], \
         $bundledIn: [ID!], $block: BlockFilter, $first: Int, $after: String, $sort: SortOrder) {{ \
         transactions(ids: $ids, owners: $owners, recipients: $recipients, tags: $tags, bundledIn: $bundledIn, block: $block, \
         first: $first, after: $after, sort: $sort) {{ {FIELDS} }} }}"
    );
    serde_json::json!({ "query": text, "variables": variables })
}

/// The signed item that the fields and the data are of, or else bytes on the gateway's word.
fn stored(node: &Node, data: Bytes) -> Stored {
    let tag = |tag: &TagText| Tag::new(tag.name.clone(), tag.value.clone());
    let tags: Tags = node.tags.iter().map(tag).collect();
    match signed(node, &tags, &data) {
        Some(item) => Stored::Item(item),
        None => Stored::Registered(Arc::new(Registered {
            id: node.id,
            by: node.owner.address,
            tags,
            data,
        })),
    }
}

/// The item whose fields these are, verified under its id.
fn signed(node: &Node, tags: &Tags, data: &Bytes) -> Option<DataItem> {
    let bytes = |text: &Option<String>| from_base64url(text.as_deref().unwrap_or(""));
    let (signature, owner) = (bytes(&node.signature)?, bytes(&node.owner.key)?);
    let (target, anchor) = (bytes(&node.recipient)?, bytes(&node.anchor)?);
    let raw_tags = tags::encode_unchecked(tags);
    // Gateways do not all tell the type; several types share their lengths.
    let kinds = SignatureType::ALL.into_iter();
    let mut kinds =
        kinds.filter(|kind| kind.signature_len() == signature.len() && kind.owner_len() == owner.len());
    kinds.find_map(|kind| {
        let mut out = kind.number().to_le_bytes().to_vec();
        out.extend_from_slice(&signature);
        out.extend_from_slice(&owner);
        for field in [&target, &anchor] {
            out.push(u8::from(!field.is_empty()));
            out.extend_from_slice(field);
        }
        out.extend_from_slice(&(tags.len() as u64).to_le_bytes());
        out.extend_from_slice(&(raw_tags.len() as u64).to_le_bytes());
        out.extend_from_slice(&raw_tags);
        out.extend_from_slice(data);
        let item = DataItem::parse_verified(out.into()).ok()?;
        (item.id() == node.id).then_some(item)
    })
}

#[async_trait]
impl Permanent for Client {
    async fn append(&self, items: Vec<DataItem>, class: Class) -> Answer<()> {
        let uploads = items.into_iter().map(|item| self.upload(item, class));
        futures_util::stream::iter(uploads)
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    async fn fetch(&self, id: ItemId) -> Answer<Stored> {
        let query = Query {
            ids: vec![id],
            first: 1,
            ..Query::default()
        };
        let found = self.ask(&query).await?.edges.into_iter().next();
        let found = found.filter(|edge| edge.node.id == id);
        let missing = || Refusal::not_found("unknown-id", format!("the gateway holds nothing under {id}"));
        self.complete(found.ok_or_else(missing)?.node).await
    }

    async fn find(&self, query: Query) -> Answer<Hits> {
        let page = self.ask(&query).await?;
        let hits = page.edges.into_iter().map(async |edge| {
            let (cursor, block_height) = (
                edge.cursor,
                edge.node.block.as_ref().map_or(0, |block| block.height),
            );
            let stored = match self.complete(edge.node).await {
                Ok(stored) => stored,
                // Listed, but its data is gone: nothing to hand over, and no reason to lose the rest.
                Err(refusal) if refusal.kind == Kind::NotFound => return Ok(None),
                Err(refusal) => return Err(refusal),
            };
            Ok::<_, Refusal>(Some(Hit {
                cursor,
                block_height,
                stored,
            }))
        });
        let hits = futures_util::stream::iter(hits).buffered(PARALLEL);
        Ok(Hits {
            hits: hits.try_filter_map(|hit| ready(Ok(hit))).try_collect().await?,
            has_next_page: page.page_info.has_next_page,
        })
    }
}
