//! The double's answers to requests without side effects: what a node, a gateway and a bundler say.
//!
//! Not here: sockets, GraphQL, what is posted. The invariant: an answer tells the chain and the peer asked, but for
//! the faults that the dice order.

use bytes::Bytes;
use serde_json::{Value, json};
use spec::ids::{base64url, from_base64url};
use spec::{Address, ItemId, Tag, Transaction};

use super::PEERS;
use super::chain::{Block, root_of};
use super::double::{Double, Served, Status};
use super::faults::Fault;
use crate::manifest::{self, Manifest};

/// Longest data that a node answers as text, in bytes; more is read chunk by chunk.
const DATA_TEXT_MAX: u64 = 12 << 20;

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Of the body.
    pub content_type: String,
    /// As its tag says.
    pub content_encoding: Option<String>,
    /// The body.
    pub body: Bytes,
    /// The id whose data it is, for entity tags; its parts may be asked for.
    pub data_of: Option<ItemId>,
    /// How late it is, ms.
    pub delay_ms: u64,
}

impl Answer {
    /// A text.
    pub fn text(status: u16, text: impl Into<String>) -> Answer {
        Answer::of(status, "text/plain; charset=utf-8", text.into().into())
    }

    /// A JSON value.
    pub fn json(status: u16, value: &Value) -> Answer {
        Answer::of(status, "application/json", value.to_string().into())
    }

    fn of(status: u16, content_type: &str, body: Bytes) -> Answer {
        Answer {
            status,
            content_type: content_type.into(),
            content_encoding: None,
            body,
            data_of: None,
            delay_ms: 0,
        }
    }

    fn missing() -> Answer {
        Answer::text(404, "Not Found.")
    }
}

/// A value or the answer that there is none.
type Got = Option<Answer>;

impl Double {
    /// What becomes of a request before it is looked at: an answer that refuses it, or how late the answer will be.
    ///
    /// # Errors
    /// The refusal.
    pub fn receive(&mut self, peer: usize) -> Result<u64, Box<Answer>> {
        let height = self.height();
        if self.is_away(peer) {
            return Err(Box::new(Answer::text(503, "this peer is away")));
        }
        if self.dice.roll(Fault::TooMany, height) {
            return Err(Box::new(Answer::text(429, "Too Many Requests")));
        }
        if self.dice.roll(Fault::Unavailable, height) {
            return Err(Box::new(Answer::text(503, "Service Unavailable")));
        }
        let is_late = self.dice.roll(Fault::Delay, height);
        let most = self.dice.faults.delay_ms_max;
        Ok(if is_late {
            self.dice.pick(Fault::Delay, most)
        } else {
            0
        })
    }

    /// Answers a GET of a path, its segments as they stand in the URL.
    pub fn get(&mut self, peer: usize, path: &str) -> Answer {
        let path = path.trim_start_matches('/').split('?').next().unwrap_or("");
        let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        self.get_node(peer, &segments)
            .or_else(|| self.get_transaction(peer, &segments))
            .or_else(|| self.get_bundler(&segments))
            .or_else(|| self.get_data(&segments))
            .unwrap_or_else(Answer::missing)
    }

    fn get_node(&mut self, peer: usize, segments: &[&str]) -> Got {
        let text = |text: String| Some(Answer::text(200, text));
        match *segments {
            ["info"] => Some(Answer::json(200, &self.info())),
            ["peers"] => Some(Answer::json(200, &json!(self.addresses))),
            ["height"] => text(self.height().to_string()),
            ["time"] => text((self.now_ms() / 1000).to_string()),
            ["tx_anchor"] => text(base64url(&self.anchor())),
            ["price", len] => text(self.price(len.parse().ok()?, None).to_string()),
            ["price", len, target] if len.parse::<u64>().is_ok() => {
                let target: Address = target.parse().ok()?;
                text(self.price(len.parse().ok()?, Some(&target)).to_string())
            }
            ["wallet", address, "balance"] => text(self.account(&address.parse().ok()?).balance.to_string()),
            ["wallet", address, "last_tx"] => {
                let last = self.account(&address.parse().ok()?).last_tx;
                text(last.map(|id| id.to_string()).unwrap_or_default())
            }
            ["block", "current"] => Some(Answer::json(200, &block_json(self.chain.tip()))),
            ["block", "height", height] => self.block_answer(self.chain.block(height.parse().ok()?)),
            ["block", "hash", hash] => self.block_answer(self.chain.block_of(&from_base64url(hash)?)),
            ["chunk", offset] => Some(
                self.chunk(peer, offset.parse().ok()?)
                    .unwrap_or_else(Answer::missing),
            ),
            _ => None,
        }
    }

    fn block_answer(&self, block: Option<&Block>) -> Got {
        Some(block.map_or(Answer::text(404, "Block not found."), |block| {
            Answer::json(200, &block_json(block))
        }))
    }

    fn info(&self) -> Value {
        let tip = self.chain.tip();
        json!({
            "network": "weft.double",
            "version": 5,
            "release": 80,
            "height": tip.height,
            "current": base64url(&tip.hash),
            "blocks": tip.height + 1,
            "peers": PEERS,
            "queue_length": 0,
            "node_state_latency": 0,
            "is_network": false,
        })
    }

    fn get_transaction(&mut self, peer: usize, segments: &[&str]) -> Got {
        let (id, rest) = match *segments {
            ["tx", "pending"] => {
                let ids: Vec<&ItemId> = self.peers[peer].mempool.keys().collect();
                return Some(Answer::json(200, &json!(ids)));
            }
            ["tx", id] => (id, None),
            ["tx", id, field] => (id, Some(field)),
            _ => return None,
        };
        let id: ItemId = id.parse().ok()?;
        let transaction = match self.status(peer, &id) {
            Status::Unknown => return None,
            Status::Pending => return Some(Answer::text(202, "Pending")),
            Status::Mined { .. } => self.chain.find(&id)?.1.transaction.clone(),
        };
        match rest {
            None => Some(Answer::of(
                200,
                "application/json",
                transaction.to_json(None).into(),
            )),
            Some("status") => self.mined_status(&id),
            Some("offset") => {
                let size = transaction.content.data_size;
                let offset = self.chain.find(&id)?.1.end;
                let known = json!({ "offset": offset.to_string(), "size": size.to_string() });
                (size > 0).then(|| Answer::json(200, &known))
            }
            Some("data") => Some(self.data_text(&transaction).unwrap_or_else(Answer::missing)),
            Some(field) => field_of(&transaction, field),
        }
    }

    fn mined_status(&self, id: &ItemId) -> Got {
        let (block, _) = self.chain.find(id)?;
        Some(Answer::json(
            200,
            &json!({
                "block_height": block.height,
                "block_indep_hash": base64url(&block.hash),
                "number_of_confirmations": self.height() - block.height + 1,
            }),
        ))
    }

    fn data_text(&mut self, transaction: &Transaction) -> Got {
        if transaction.content.data_size > DATA_TEXT_MAX {
            return Some(Answer::json(400, &json!({ "error": "tx_data_too_big" })));
        }
        let data = self.data(transaction)?;
        let data = self.lie(data);
        Some(Answer::text(200, base64url(&data)))
    }

    /// The chunk at an offset of the weave, with both proofs, if this peer holds it.
    fn chunk(&mut self, peer: usize, offset: u64) -> Got {
        let (block, mined) = self.chain.at(offset)?;
        let size = mined.transaction.content.data_size;
        let start = mined.end - size;
        let tx_path = block
            .tree
            .proof(mined.end - 1 - block.start)
            .expect("mined there");
        let root = root_of(&mined.transaction)?;
        let (end, held) = self.peers[peer].chunk(&root, offset - start - 1)?;
        let (bytes, data_path, len) = (held.bytes.clone(), held.data_path.clone(), held.bytes.len());
        let bytes = self.lie(bytes);
        Some(Answer::json(
            200,
            &json!({
                "chunk": base64url(&bytes),
                "data_path": base64url(&data_path),
                "tx_path": base64url(&tx_path),
                "packing": "unpacked",
                "absolute_end_offset": (start + end).to_string(),
                "chunk_size": len.to_string(),
            }),
        ))
    }

    /// Bytes as a liar answers them, when the dice say so.
    fn lie(&mut self, bytes: Bytes) -> Bytes {
        let height = self.height();
        if bytes.is_empty() {
            return bytes;
        }
        if self.dice.roll(Fault::Lie, height) {
            let at = self.dice.pick(Fault::Lie, bytes.len() as u64) as usize;
            let mut wrong = bytes.to_vec();
            wrong[at] ^= 1;
            return wrong.into();
        }
        match self.dice.roll(Fault::Truncate, height) {
            true => bytes.slice(..bytes.len() / 2),
            false => bytes,
        }
    }

    fn get_bundler(&mut self, segments: &[&str]) -> Got {
        let segments = match segments {
            ["bundler" | "v1", rest @ ..] => rest,
            all => all,
        };
        match *segments {
            ["info"] => Some(Answer::json(
                200,
                &json!({ "version": "0.2.0", "addresses": { "arweave": self.bundler.address() }, "gateway": "" }),
            )),
            ["tx", id, "status"] => {
                let status = self.item_status(&id.parse().ok()?)?;
                let bundle = status.bundle_id.map(|id| id.to_string());
                Some(Answer::json(
                    200,
                    &json!({ "status": status.status, "info": status.info, "bundleId": bundle }),
                ))
            }
            ["price", _, len] => Some(Answer::json(
                200,
                &json!({ "winc": self.price(len.parse().ok()?, None).to_string() }),
            )),
            ["account", "balance", _] => Some(Answer::json(200, &json!({ "winc": "0" }))),
            _ => None,
        }
    }

    fn get_data(&mut self, segments: &[&str]) -> Got {
        match *segments {
            ["raw", id] => {
                let served = self.serve(&id.parse().ok()?)?;
                Some(self.serve_data(&served))
            }
            [id, ref path @ ..] => self.get_resolved(&id.parse().ok()?, &path.join("/")),
            [] => None,
        }
    }

    /// Data, or what a manifest has at a path.
    fn get_resolved(&mut self, id: &ItemId, path: &str) -> Got {
        let served = self.serve(id)?;
        let is_manifest =
            tag(served.tags(), "content-type").is_some_and(|kind| manifest::is_manifest_type(&kind));
        match (is_manifest, path) {
            (false, "") => Some(self.serve_data(&served)),
            (false, _) => None,
            (true, path) => {
                let manifest = Manifest::parse(&served.data()).ok()?;
                let target = self.serve(&manifest.resolve(path)?)?;
                Some(self.serve_data(&target))
            }
        }
    }

    fn serve_data(&mut self, served: &Served) -> Answer {
        let kind = tag(served.tags(), "content-type");
        let data = self.lie(served.data());
        Answer {
            content_encoding: tag(served.tags(), "content-encoding"),
            data_of: Some(served.id()),
            ..Answer::of(200, kind.as_deref().unwrap_or("application/octet-stream"), data)
        }
    }
}

impl Served {
    /// Its id.
    pub fn id(&self) -> ItemId {
        match self {
            Served::Transaction(transaction, _) => transaction.id,
            Served::Item(item) => item.id(),
        }
    }

    /// Its tags.
    pub fn tags(&self) -> &[Tag] {
        match self {
            Served::Transaction(transaction, _) => &transaction.content.tags,
            Served::Item(item) => item.tags(),
        }
    }

    /// Its data.
    pub fn data(&self) -> Bytes {
        match self {
            Served::Transaction(_, data) => data.clone(),
            Served::Item(item) => item.data(),
        }
    }
}

/// The first value of a tag in any case.
pub(super) fn tag(tags: &[Tag], name: &str) -> Option<String> {
    let tag = tags
        .iter()
        .find(|tag| tag.name.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(tag.value_text().into_owned())
}

/// One field of a transaction as text.
fn field_of(transaction: &Transaction, field: &str) -> Got {
    let fields: Value = serde_json::from_str(&transaction.to_json(None)).expect("our own JSON");
    match fields.get(field)? {
        Value::String(text) => Some(Answer::text(200, text.clone())),
        other => Some(Answer::json(200, other)),
    }
}

fn block_json(block: &Block) -> Value {
    let ids: Vec<ItemId> = block
        .transactions
        .iter()
        .map(|mined| mined.transaction.id)
        .collect();
    json!({
        "height": block.height,
        "indep_hash": base64url(&block.hash),
        "hash": base64url(&block.hash),
        "previous_block": base64url(&block.previous),
        "timestamp": block.timestamp_ms / 1000,
        "nonce": "",
        "txs": ids,
        "tags": [],
        "tx_root": block.tree.root().map(|root| base64url(&root)).unwrap_or_default(),
        "weave_size": block.end().to_string(),
        "block_size": block.tree.len().to_string(),
    })
}
