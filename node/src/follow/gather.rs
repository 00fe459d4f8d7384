//! What gateways hold of a log: assignments found by their tags, items out of bundles or put together again.
//!
//! Not here: the order of slots. The invariant: an item that is handed out has its id and its owner's signature,
//! whatever the gateway said.

use std::collections::{BTreeSet, HashSet};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use spec::contract::Answer;
use spec::ids::from_base64url;
use spec::{Address, Bundle, DataItem, ItemId, ProcessId, Refusal, SignatureType, Tag, tags};
use weave::network::Peer;

/// Edges of a page; what a gateway gives beyond is not looked at.
const PAGE: usize = 100;
/// Most pages of one look at a log; the next look goes on where it ended.
const PAGES_MAX: usize = 10_000;
/// Longest cursor; they are all kept for as long as a look lasts.
const CURSOR_LEN_MAX: usize = 1024;
/// Most checkpoints of one process that are asked for.
const CHECKPOINTS_MAX: usize = 10_000;
/// How many blocks are looked at again each time: forks may have moved what was there.
const OVERLAP_BLOCKS: u64 = 60;

const ASSIGNMENTS: &str = "query($process: String!, $owners: [String!], $after: String, $min: Int) {
  transactions(
    tags: [{ name: \"Process\", values: [$process] }, { name: \"Type\", values: [\"Assignment\"] }]
    owners: $owners, sort: HEIGHT_ASC, first: 100, after: $after, block: { min: $min }
  ) {
    pageInfo { hasNextPage }
    edges { cursor node { id bundledIn { id } block { height } tags { name value } } }
  }
}";

const WORDS: &str = "query($owners: [String!]) {
  transactions(
    tags: [
      { name: \"Data-Protocol\", values: [\"Weft\"] }
      { name: \"Type\", values: [\"Successor\", \"Resume\", \"Compute-Unit\"] }
    ]
    owners: $owners, sort: HEIGHT_ASC, first: 100
  ) { pageInfo { hasNextPage } edges { cursor node { id } } }
}";

const CHECKPOINTS: &str = "query($process: String!, $after: String) {
  transactions(
    tags: [
      { name: \"Process\", values: [$process] }, { name: \"Type\", values: [\"Checkpoint\"] }
      { name: \"Data-Protocol\", values: [\"Weft\"] }
    ]
    sort: HEIGHT_ASC, first: 100, after: $after
  ) { pageInfo { hasNextPage } edges { cursor node { id } } }
}";

const ITEM: &str = "query($id: ID!) { transaction(id: $id) {
  id anchor signature recipient owner { key } tags { name value } bundledIn { id }
} }";

#[derive(Deserialize)]
struct Listed {
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: ItemId,
    bundled_in: Option<Parent>,
    block: Option<Block>,
    #[serde(default)]
    tags: Vec<TagText>,
}

#[derive(Deserialize)]
struct Parent {
    id: ItemId,
}

#[derive(Deserialize)]
struct Block {
    height: u64,
}

#[derive(Deserialize)]
struct TagText {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct One {
    transaction: Option<Header>,
}

/// An item's fields as a gateway tells them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(default)]
    anchor: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    recipient: Option<String>,
    owner: Owner,
    #[serde(default)]
    tags: Vec<TagText>,
    bundled_in: Option<Parent>,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    key: Option<String>,
}

/// An assignment that a gateway lists.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its id.
    pub id: ItemId,
    /// Its slot, by the gateway's word.
    pub slot: Option<u64>,
    /// The bundle it is in, by the gateway's word.
    pub bundle: Option<ItemId>,
    /// The height of its block, by the gateway's word.
    pub height: Option<u64>,
}

/// One gateway, and how far it was looked at.
pub struct Gateway {
    /// The client.
    pub peer: Peer,
    height_min: u64,
    /// The newest height listed at the last look.
    height_seen: u64,
    refused: BTreeSet<ItemId>,
    heard: BTreeSet<ItemId>,
}

fn bad(peer: &Peer, why: impl ToString) -> Refusal {
    Refusal::upstream("bad-answer", format!("{}: {}", peer.name(), why.to_string()))
}

impl Gateway {
    /// Nothing is known of it yet.
    pub fn new(peer: Peer) -> Gateway {
        Gateway {
            peer,
            height_min: 0,
            height_seen: 0,
            refused: BTreeSet::new(),
            heard: BTreeSet::new(),
        }
    }

    /// The assignments that it lists, oldest first, from where the last look may have missed some.
    pub async fn assignments(&mut self, process: ProcessId, signers: &[Address]) -> Answer<Vec<Entry>> {
        let (mut after, mut entries, mut height) = (None::<String>, Vec::new(), self.height_min);
        let mut cursors = HashSet::new();
        for _ in 0..PAGES_MAX {
            let variables = serde_json::json!({
                "process": process.to_string(),
                "owners": signers.iter().map(Address::to_string).collect::<Vec<_>>(),
                "after": after,
                "min": self.height_min,
            });
            let data = self.peer.graphql(ASSIGNMENTS, &variables).await?;
            let listed: Listed = serde_json::from_str(data.get()).map_err(|error| bad(&self.peer, error))?;
            let page = listed.transactions;
            for edge in page.edges.iter().take(PAGE) {
                height = height.max(edge.node.block.as_ref().map_or(0, |block| block.height));
                entries.push(edge.node.entry());
            }
            after = page.next(&mut cursors);
            if after.is_none() {
                break;
            }
        }
        self.height_seen = height;
        Ok(entries)
    }

    /// What was listed was looked at; the lowest height at which something was missed is listed again.
    pub fn looked(&mut self, missed: Option<u64>) {
        let height = missed.map_or(self.height_seen, |missed| missed.min(self.height_seen));
        self.height_min = height.saturating_sub(OVERLAP_BLOCKS);
    }

    /// What a scheduler's key says of itself: items that name its successor, or where its logs stood when it went on. Each
    /// is answered once.
    pub async fn words(&mut self, signer: Address) -> Answer<Vec<DataItem>> {
        let variables = serde_json::json!({ "owners": [signer.to_string()] });
        let data = self.peer.graphql(WORDS, &variables).await?;
        let listed: Listed = serde_json::from_str(data.get()).map_err(|error| bad(&self.peer, error))?;
        let mut words = Vec::new();
        for edge in listed.transactions.edges.into_iter().take(PAGE) {
            if !self.heard.contains(&edge.node.id) {
                let item = item(&self.peer, edge.node.id).await?;
                self.heard.insert(edge.node.id);
                words.extend(Some(item).filter(|item| item.owner_address() == signer));
            }
        }
        Ok(words)
    }

    /// The items of a bundle. A bundle that was none is not asked for again.
    pub async fn bundle(&mut self, id: ItemId) -> Answer<Vec<DataItem>> {
        if self.refused.contains(&id) {
            return Err(bad(&self.peer, format!("{id} was no bundle when it was read")));
        }
        let data = self.peer.data(id).await?;
        Bundle::parse(&data).map(|bundle| bundle.items).map_err(|error| {
            self.refused.insert(id);
            bad(&self.peer, format!("{id}: {error}"))
        })
    }
}

impl Node {
    fn entry(&self) -> Entry {
        let slot = self.tags.iter().find(|tag| tag.name == "Nonce");
        Entry {
            id: self.id,
            slot: slot.and_then(|tag| tag.value.parse().ok()),
            bundle: self.bundled_in.as_ref().map(|parent| parent.id),
            height: self.block.as_ref().map(|block| block.height),
        }
    }
}

impl Connection {
    /// The next page's cursor; a cursor that comes again leads to pages that were seen.
    fn next(&self, seen: &mut HashSet<String>) -> Option<String> {
        let last = self.edges.last().filter(|_| self.page_info.has_next_page)?;
        let is_new = last.cursor.len() <= CURSOR_LEN_MAX && seen.insert(last.cursor.clone());
        is_new.then(|| last.cursor.clone())
    }
}

/// The permanent checkpoints of a process that a gateway lists, whoever signed them.
pub async fn checkpoints(peer: &Peer, process: ProcessId) -> Answer<Vec<ItemId>> {
    let (mut after, mut found, mut cursors) = (None::<String>, Vec::new(), HashSet::new());
    while found.len() < CHECKPOINTS_MAX {
        let variables = serde_json::json!({ "process": process.to_string(), "after": after });
        let data = peer.graphql(CHECKPOINTS, &variables).await?;
        let listed: Listed = serde_json::from_str(data.get()).map_err(|error| bad(peer, error))?;
        let page = listed.transactions;
        found.extend(page.edges.iter().take(PAGE).map(|edge| edge.node.id));
        after = page.next(&mut cursors);
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}

/// An item by its id: put together from what the gateway tells of it, or out of the bundle that it is in.
///
/// # Errors
/// `NotFound` where the gateway does not know it; `gateway-lied` where what it tells is not the item.
pub async fn item(peer: &Peer, id: ItemId) -> Answer<DataItem> {
    let data = peer
        .graphql(ITEM, &serde_json::json!({ "id": id.to_string() }))
        .await?;
    let one: One = serde_json::from_str(data.get()).map_err(|error| bad(peer, error))?;
    let header = one
        .transaction
        .ok_or_else(|| Refusal::not_found("unknown-id", format!("{} does not know {id}", peer.name())))?;
    if let Ok(data) = peer.data(id).await
        && let Some(item) = header.assemble(id, &data)
    {
        return Ok(item);
    }
    if let Some(parent) = &header.bundled_in
        && let Ok(data) = peer.data(parent.id).await
        && let Ok(bundle) = Bundle::parse(&data)
        && let Some(item) = bundle.items.into_iter().find(|item| item.id() == id)
        && item.verify().is_ok()
    {
        return Ok(item);
    }
    Err(Refusal::upstream(
        "gateway-lied",
        format!("{}: what it tells of {id} is not what was signed", peer.name()),
    ))
}

impl Header {
    /// The item of these fields and this data, if its signature holds: gateways do not tell its type, nor its tags' bytes.
    fn assemble(&self, id: ItemId, data: &Bytes) -> Option<DataItem> {
        let bytes =
            |text: &Option<String>| from_base64url(text.as_deref().unwrap_or("").trim_end_matches('='));
        let (signature, owner) = (bytes(&self.signature)?, bytes(&self.owner.key)?);
        let tags: Vec<Tag> = self
            .tags
            .iter()
            .map(|tag| Tag::new(&*tag.name, &*tag.value))
            .collect();
        let raw_tags = tags::encode_unchecked(&tags);
        let kinds = SignatureType::ALL
            .into_iter()
            .filter(|kind| kind.signature_len() == signature.len() && kind.owner_len() == owner.len());
        let (target, anchor) = (bytes(&self.recipient)?, bytes(&self.anchor)?);
        for kind in kinds {
            let mut out = BytesMut::new();
            out.put_u16_le(kind.number());
            out.put_slice(&signature);
            out.put_slice(&owner);
            for field in [&target, &anchor] {
                out.put_u8(u8::from(!field.is_empty()));
                out.put_slice(field);
            }
            out.put_u64_le(tags.len() as u64);
            out.put_u64_le(raw_tags.len() as u64);
            out.put_slice(&raw_tags);
            out.put_slice(data);
            let item = DataItem::parse(out.freeze());
            if let Ok(item) = item.and_then(|item| item.verify().map(|()| item))
                && item.id() == id
            {
                return Some(item);
            }
        }
        None
    }
}
