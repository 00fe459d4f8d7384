//! What gateways' GraphQL says of carriers: the fast way to them, and the only one to those that a bundler carries.
//!
//! Not here: believing it. The invariant: what is read here is a hint until bytes and signatures confirm it.

use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::json;
use spec::contract::Answer;
use spec::ids::from_base64url;
use spec::signature::{self, SignatureType};
use spec::{Address, DataItem, ItemId, ProcessId, Tag, tags};

use super::source::lie;
use crate::network::Peer;

/// Edges of a page; what a gateway gives beyond is not looked at.
const PAGE: usize = 100;
/// A carrier's header is far below; what has more is none.
const NODE_TAGS_MAX: usize = 64;
const NODE_BYTES_MAX: usize = 8 << 10;
/// What is kept of one gateway's list, in bytes.
const LIST_BYTES_MAX: usize = 512 << 20;
/// What is asked of each transaction or item.
const NODE: &str = "id signature anchor recipient owner{key} tags{name value} data{size} bundledIn{id}";

/// A transaction or item as a gateway describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) id: ItemId,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    anchor: Option<String>,
    #[serde(default)]
    recipient: Option<String>,
    pub(super) owner: Owner,
    #[serde(default)]
    tags: Vec<Pair>,
    #[serde(default)]
    pub(super) data: Option<Size>,
    #[serde(default)]
    pub(super) bundled_in: Option<Bundle>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Owner {
    #[serde(default)]
    key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Size {
    size: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Bundle {
    pub(super) id: ItemId,
}

#[derive(Deserialize)]
struct Searched {
    transactions: Connection,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    #[serde(default)]
    page_info: Option<PageInfo>,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
}

#[derive(Deserialize)]
struct Edge {
    #[serde(default)]
    cursor: Option<String>,
    node: Node,
}

impl Node {
    pub(super) fn tags(&self) -> Vec<Tag> {
        let tag = |pair: &Pair| Tag::new(pair.name.clone(), pair.value.clone());
        self.tags.iter().map(tag).collect()
    }

    /// The accounts of a secp256k1 key: as the owner of items, and of transactions, which take it compressed.
    pub(super) fn accounts(&self) -> Vec<Address> {
        let key = from_base64url(self.owner.key.as_deref().unwrap_or(""));
        // A point that is not on the curve has the account of the one that is.
        let accounts = |key: Vec<u8>| {
            let compressed = spec::keys::compressed(&key)?;
            Some(vec![signature::address(&key), signature::address(&compressed)])
        };
        key.and_then(accounts).unwrap_or_default()
    }

    /// The account of the key that it says signed it, if its id is of the signature that it says.
    pub(super) fn signer(&self) -> Option<Address> {
        let text = |field: &Option<String>| from_base64url(field.as_deref().unwrap_or(""));
        let (signed, key) = (text(&self.signature)?, text(&self.owner.key)?);
        let is_of_it = ItemId(spec::chunks::sha256(&[&signed])) == self.id;
        is_of_it.then(|| signature::address(&key))
    }

    /// Whether another gateway describes an item alike: one of two that differ does not verify.
    pub(super) fn is_same_header(&self, other: &Node) -> bool {
        let fields = |node: &Node| {
            let texts = [&node.signature, &node.anchor, &node.recipient, &node.owner.key];
            texts.map(|text| text.clone().unwrap_or_default())
        };
        self.id == other.id && fields(self) == fields(other) && self.tags == other.tags
    }

    /// Bytes of all that a gateway chose.
    fn len(&self) -> usize {
        let texts = [
            &self.signature,
            &self.anchor,
            &self.recipient,
            &self.owner.key,
            &self.data.as_ref().and_then(|data| data.size.clone()),
        ];
        let texts = texts.into_iter().flatten().map(String::len);
        let tags = self.tags.iter().map(|pair| pair.name.len() + pair.value.len());
        texts.chain(tags).sum()
    }

    fn is_small(&self) -> bool {
        self.tags.len() <= NODE_TAGS_MAX && self.len() <= NODE_BYTES_MAX
    }

    pub(super) fn size(&self) -> u64 {
        let size = self.data.as_ref().and_then(|data| data.size.as_ref());
        size.and_then(|size| size.parse().ok()).unwrap_or(0)
    }

    /// The item whose header this is, if `data` is its data: it then verifies under the id asked for.
    pub(super) fn item(&self, data: &Bytes) -> Option<DataItem> {
        let text = |field: &Option<String>| from_base64url(field.as_deref().unwrap_or(""));
        let (signed, owner) = (text(&self.signature)?, text(&self.owner.key)?);
        let fits =
            |kind: &SignatureType| kind.signature_len() == signed.len() && kind.owner_len() == owner.len();
        // Types of equal lengths sign different bytes, so at most one verifies.
        let kinds = SignatureType::ALL.into_iter().filter(fits);
        let made = kinds.filter_map(|kind| self.of_kind(kind, &signed, &owner, data));
        made.filter(|item| item.id() == self.id)
            .find(|item| item.verify().is_ok())
    }

    fn of_kind(&self, kind: SignatureType, signature: &[u8], owner: &[u8], data: &Bytes) -> Option<DataItem> {
        let list = self.tags();
        let raw_tags = tags::encode(&list).ok()?;
        let mut out = BytesMut::with_capacity(2048 + raw_tags.len() + data.len());
        out.put_u16_le(kind.number());
        out.put_slice(signature);
        out.put_slice(owner);
        for field in [&self.recipient, &self.anchor] {
            let bytes = from_base64url(field.as_deref().unwrap_or(""))?;
            let is_there = match bytes.len() {
                0 => 0,
                32 => 1,
                _ => return None,
            };
            out.put_u8(is_there);
            out.put_slice(&bytes);
        }
        out.put_u64_le(list.len() as u64);
        out.put_u64_le(raw_tags.len() as u64);
        out.put_slice(&raw_tags);
        out.put_slice(data);
        DataItem::parse(out.freeze()).ok()
    }
}

/// All that a wallet signed as a carrier, by one gateway's word; at most `most`.
pub(super) async fn carriers(peer: &Peer, wallet: Address, most: usize) -> Answer<Vec<Node>> {
    let filter = json!({ "owners": [wallet.to_string()] });
    let tags = r#"[{name:"Data-Protocol",values:["Weft"]},{name:"Type",values:["Carrier"]}]"#;
    let query = format!(
        "query($owners:[String!],$after:String){{transactions(owners:$owners,tags:{tags},first:{PAGE},after:$after)\
         {{pageInfo{{hasNextPage}} edges{{cursor node{{{NODE}}}}}}}}}"
    );
    pages(peer, &query, filter, most).await
}

/// One item or transaction by its id.
pub(super) async fn by_id(peer: &Peer, id: ItemId) -> Answer<Option<Node>> {
    let query = format!("query($ids:[ID!]){{transactions(ids:$ids,first:1){{edges{{node{{{NODE}}}}}}}}}");
    let found = pages(peer, &query, json!({ "ids": [id.to_string()] }), 1).await?;
    Ok(found.into_iter().find(|node| node.id == id))
}

/// Assignments that name a process, by one gateway's word: where its log may lie.
pub(super) async fn assignments(peer: &Peer, process: ProcessId, most: usize) -> Answer<Vec<Node>> {
    let tags = r#"[{name:"Type",values:["Assignment"]},{name:"Process",values:$process}]"#;
    let query = format!(
        "query($process:[String!]!,$after:String){{transactions(tags:{tags},sort:HEIGHT_DESC,first:{PAGE},after:$after)\
         {{pageInfo{{hasNextPage}} edges{{cursor node{{{NODE}}}}}}}}}"
    );
    pages(peer, &query, json!({ "process": [process.to_string()] }), most).await
}

/// The newest segment items of a node, by one gateway's word: where its log lies.
pub(super) async fn segments(peer: &Peer, node: Address, most: usize) -> Answer<Vec<Node>> {
    let filter = json!({ "owners": [node.to_string()] });
    let tags = r#"[{name:"Data-Protocol",values:["Weft"]},{name:"Type",values:["Segment"]}]"#;
    let query = format!(
        "query($owners:[String!],$after:String){{transactions(owners:$owners,tags:{tags},sort:HEIGHT_DESC,first:{PAGE},after:$after)\
         {{pageInfo{{hasNextPage}} edges{{cursor node{{{NODE}}}}}}}}}"
    );
    pages(peer, &query, filter, most).await
}

async fn pages(peer: &Peer, query: &str, mut variables: serde_json::Value, most: usize) -> Answer<Vec<Node>> {
    let mut found: Vec<Node> = Vec::new();
    let (mut asked, mut bytes) = (0, 0);
    let mut cursors = HashSet::new();
    loop {
        let data = peer.graphql(query, &variables).await?;
        let page: Searched = serde_json::from_str(data.get()).map_err(|error| {
            lie(format!(
                "{}/graphql answered what was not asked: {error}",
                peer.name()
            ))
        })?;
        let Connection { page_info, edges } = page.transactions;
        let last = edges.last().and_then(|edge| edge.cursor.clone());
        let count = edges.len().min(PAGE);
        asked += count;
        let nodes = edges.into_iter().take(PAGE).map(|edge| edge.node);
        found.extend(nodes.filter(Node::is_small).inspect(|node| bytes += node.len()));
        let goes_on = page_info.is_some_and(|info| info.has_next_page) && count > 0;
        bytes += last.as_ref().map_or(0, String::len);
        let is_within = asked < most && bytes < LIST_BYTES_MAX;
        // A cursor that comes again leads to pages that were seen.
        let next = last.filter(|last| goes_on && is_within && cursors.insert(last.clone()));
        let Some(next) = next else {
            found.truncate(most);
            return Ok(found);
        };
        variables["after"] = next.into();
    }
}
