//! One Arweave node or gateway, asked over a transport.
//!
//! Not here: choosing among peers, retries, checking what they say. The invariant: 200, 202, 208, 303, 404, 410, 429
//! and 503 are told apart as the network means them, and every refusal names the peer and what was asked.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use spec::chunks::{CHUNK_LEN_MAX, Hash};
use spec::contract::Answer;
use spec::ids::{base64url, from_base64url};
use spec::transaction::{ANCHOR_LEN_MAX, BODY_DATA_LEN_MAX};
use spec::{Address, ItemId, Kind, Refusal, Transaction};

use super::Transport;
use super::answer::{BlockGot, ChunkGot, Confirmed, Info, Offset, decimal};

/// Longest answer of a few words or a small object, in bytes.
const WORDS_BYTES_MAX: usize = 64 << 10;
/// Longest list of a block or of peers.
const LIST_BYTES_MAX: usize = 4 << 20;
/// Longest JSON of a transaction: with its data, if it went up in one body.
const TX_BYTES_MAX: usize = 64 * 1024 + BODY_DATA_LEN_MAX / 3 * 4 + 8;
/// Longest JSON of a chunk: three base64url parts of 256 KiB each.
const CHUNK_BYTES_MAX: usize = 4096 + CHUNK_LEN_MAX as usize * 4;
/// Longest answer of a search.
const GRAPHQL_BYTES_MAX: usize = 16 << 20;
/// Longest data read at once, in bytes, unless [`Peer::with_data_bytes_max`] says otherwise.
const DATA_BYTES_MAX: usize = 256 << 20;
/// Most peers believed in one list.
const PEERS_MAX: usize = 1_000;
/// Bytes of a transaction's id.
const ID_LEN: usize = 32;
/// Most of a peer's own words in a refusal.
const TEXT_MAX: usize = 300;

/// What a peer does with a transaction's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It had not seen it (200).
    New,
    /// It had: 208, or 400 with the words that it is in its mempool or in a block. No proof of either.
    Known,
}

/// What a peer does with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkAccepted {
    /// It keeps it (200).
    Stored,
    /// It keeps it for a while, which is no promise (303).
    Temporary,
}

/// Where a transaction stands by one peer's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxStatus {
    /// The peer does not know it (404, 410).
    Missing,
    /// It waits (202).
    Pending,
    /// It is in a block.
    Mined {
        /// The block's height.
        height: u64,
        /// The block's hash.
        block: Bytes,
        /// Blocks from its own to the newest; the first counts 1 on the network.
        confirmations: u64,
    },
}

/// A chunk as it is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkPost {
    /// Root of the data's tree.
    pub data_root: Hash,
    /// Bytes of the data.
    pub data_size: u64,
    /// The proof.
    pub data_path: Bytes,
    /// A byte of the data that the chunk holds, from 0; clients of the network send its last.
    pub offset: u64,
    /// Its bytes.
    pub chunk: Bytes,
}

impl ChunkPost {
    /// The JSON of the network: numbers are texts, or nodes refuse it.
    fn to_json(&self) -> Bytes {
        let json = serde_json::json!({
            "data_root": base64url(&self.data_root),
            "data_size": self.data_size.to_string(),
            "data_path": base64url(&self.data_path),
            "offset": self.offset.to_string(),
            "chunk": base64url(&self.chunk),
        });
        json.to_string().into()
    }
}

/// One peer. Cloning shares its connections.
#[derive(Clone)]
pub struct Peer {
    name: Arc<str>,
    transport: Arc<dyn Transport>,
    data_bytes_max: usize,
}

impl Peer {
    /// A peer; its name stands in refusals and reports.
    pub fn new(name: &str, transport: Arc<dyn Transport>) -> Peer {
        Peer {
            name: name.into(),
            transport,
            data_bytes_max: DATA_BYTES_MAX,
        }
    }

    /// The same peer, of which [`Peer::data`] reads so many bytes at once and no more.
    pub fn with_data_bytes_max(mut self, data_bytes_max: usize) -> Peer {
        self.data_bytes_max = data_bytes_max;
        self
    }

    /// Its name: the URL, where it has one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network's name and the newest height it knows.
    ///
    /// # Errors
    /// As all requests here: the peer cannot be reached, refuses, or answers what cannot be read.
    pub async fn info(&self) -> Answer<Info> {
        self.json("/info", WORDS_BYTES_MAX).await
    }

    /// The newest block's height.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn height(&self) -> Answer<u64> {
        Ok(self.info().await?.height)
    }

    /// Peers it knows, as `host:port`. They may be anything: the caller decides whom to ask.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn peers(&self) -> Answer<Vec<String>> {
        let listed: Vec<String> = self.json("/peers", LIST_BYTES_MAX).await?;
        let is_authority = |text: &String| {
            let parsed = text.parse::<http::uri::Authority>();
            parsed.is_ok_and(|one| one.port_u16().is_some() && !text.contains('@'))
        };
        Ok(listed.into_iter().filter(is_authority).take(PEERS_MAX).collect())
    }

    /// A block's hash to anchor a transaction to. An account's last transaction (32 bytes), which is one as well, is
    /// refused: what is anchored to it can be mined at any time, not in the next 50 blocks only.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn anchor(&self) -> Answer<Bytes> {
        let text = self.words("/tx_anchor").await?;
        let is_block = |anchor: &Vec<u8>| anchor.len() > ID_LEN && anchor.len() <= ANCHOR_LEN_MAX;
        let anchor = from_base64url(&text).filter(is_block);
        anchor
            .map(Bytes::from)
            .ok_or_else(|| self.bad("/tx_anchor", "no block's hash of 48 bytes"))
    }

    /// Winston for so many bytes of data.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn price(&self, bytes: u64) -> Answer<u128> {
        self.number(&format!("/price/{bytes}")).await
    }

    /// What an account has, in winston.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn balance(&self, address: Address) -> Answer<u128> {
        self.number(&format!("/wallet/{address}/balance")).await
    }

    /// An account's newest transaction in a block.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn last_tx(&self, address: Address) -> Answer<Option<ItemId>> {
        let path = format!("/wallet/{address}/last_tx");
        let text = self.words(&path).await?;
        let id = (!text.is_empty()).then(|| text.parse());
        id.transpose().map_err(|_| self.bad(&path, "no transaction's id"))
    }

    /// Posts a transaction's header; the data goes up by chunks.
    ///
    /// # Errors
    /// `anchor-refused` (sign it again with a new anchor) or `transaction-refused`, both of kind `Invalid`; `Busy`;
    /// `Upstream`.
    pub async fn post_transaction(&self, transaction: &Transaction) -> Answer<Accepted> {
        let path = "/tx";
        let response = self
            .post(path, "application/json", transaction.to_json(None).into())
            .await?;
        let said = text_of(&response).to_ascii_lowercase();
        match response.status().as_u16() {
            200 | 202 => Ok(Accepted::New),
            208 => Ok(Accepted::Known),
            400 if said.contains("already") => Ok(Accepted::Known),
            400 if said.contains("anchor") => {
                Err(self.refused(path, &response, Kind::Invalid, "anchor-refused"))
            }
            400 => Err(self.refused(path, &response, Kind::Invalid, "transaction-refused")),
            _ => Err(self.refusal(path, &response)),
        }
    }

    /// Posts a chunk.
    ///
    /// # Errors
    /// `chunk-refused` of kind `Invalid`: no node will take it. `data-root-not-found` and `no-room`, of kind
    /// `Upstream`: another may, or this one later. `Busy`, `Upstream` as always.
    pub async fn post_chunk(&self, chunk: &ChunkPost) -> Answer<ChunkAccepted> {
        let path = "/chunk";
        let response = self.post(path, "application/json", chunk.to_json()).await?;
        let (kind, code) = match (response.status().as_u16(), &*text_of(&response)) {
            (200, _) => return Ok(ChunkAccepted::Stored),
            (303, _) => return Ok(ChunkAccepted::Temporary),
            (400, said) if said.contains("data_root_not_found") => (Kind::Upstream, "data-root-not-found"),
            (400, said) if said.contains("exceeds_disk_pool_size_limit") || said.contains("disk_full") => {
                (Kind::Upstream, "no-room")
            }
            (400, _) => (Kind::Invalid, "chunk-refused"),
            _ => return Err(self.refusal(path, &response)),
        };
        Err(self.refused(path, &response, kind, code))
    }

    /// Where a transaction stands by this peer's word.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn status(&self, id: ItemId) -> Answer<TxStatus> {
        let path = format!("/tx/{id}/status");
        let response = self.get(&path, WORDS_BYTES_MAX).await?;
        match response.status().as_u16() {
            404 | 410 => return Ok(TxStatus::Missing),
            202 => return Ok(TxStatus::Pending),
            // Some gateways answer the word with 200.
            200 if text_of(&response).eq_ignore_ascii_case("pending") => return Ok(TxStatus::Pending),
            200 => {}
            _ => return Err(self.refusal(&path, &response)),
        }
        let known: Confirmed = self.read(&path, &response)?;
        Ok(TxStatus::Mined {
            height: known.block_height,
            block: known.block_indep_hash,
            confirmations: known.number_of_confirmations,
        })
    }

    /// A transaction in a block; `None` if the peer has none or it waits. Its id and signature are checked. Still a
    /// liar can change what a secp256k1 key signed: the same signature then tells another owner. Who wants a certain
    /// account's transaction must look at its owner.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn transaction(&self, id: ItemId) -> Answer<Option<Transaction>> {
        let path = format!("/tx/{id}");
        let response = self.get(&path, TX_BYTES_MAX).await?;
        if is_absent(&response) {
            return Ok(None);
        }
        self.succeeded(&path, &response)?;
        let read = Transaction::from_json(response.body()).map(|(transaction, _)| transaction);
        let checked = read.and_then(|transaction| transaction.verify().map(|()| transaction));
        let transaction = checked.map_err(|error| self.bad(&path, &error.to_string()))?;
        match transaction.id == id {
            true => Ok(Some(transaction)),
            false => Err(self.bad(&path, "another transaction than the one asked for")),
        }
    }

    /// The last place on the weave of a transaction's data (counted from 1), and the data's bytes.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn offset(&self, id: ItemId) -> Answer<Option<(u64, u64)>> {
        let path = format!("/tx/{id}/offset");
        let response = self.get(&path, WORDS_BYTES_MAX).await?;
        if is_absent(&response) {
            return Ok(None);
        }
        self.succeeded(&path, &response)?;
        let Offset { offset, size } = self.read(&path, &response)?;
        match size <= offset {
            true => Ok(Some((offset, size))),
            false => Err(self.bad(&path, "data that begins before the weave")),
        }
    }

    /// The chunk at a place of the weave, with its proofs. Check them: [`spec::placement::BlockPlace::verify_chunk`].
    ///
    /// # Errors
    /// `NotFound` if the peer does not hold it; else see [`Peer::info`].
    pub async fn chunk(&self, offset: u64) -> Answer<ChunkGot> {
        let path = format!("/chunk/{offset}");
        let request = Request::get(&path).header("x-packing", "unpacked");
        let response = self.send(&path, request, Bytes::new(), CHUNK_BYTES_MAX).await?;
        self.succeeded(&path, &response)?;
        let chunk: ChunkGot = self.read(&path, &response)?;
        chunk.check().map_err(|wrong| self.bad(&path, &wrong))?;
        Ok(chunk)
    }

    /// The block of a height, by this peer's word.
    ///
    /// # Errors
    /// `NotFound`; else see [`Peer::info`].
    pub async fn block_at(&self, height: u64) -> Answer<BlockGot> {
        let path = format!("/block/height/{height}");
        let block: BlockGot = self.json(&path, LIST_BYTES_MAX).await?;
        block.check().map_err(|wrong| self.bad(&path, &wrong))?;
        match block.height == height {
            true => Ok(block),
            false => Err(self.bad(&path, "another block than the one asked for")),
        }
    }

    /// The data behind an id as a gateway or a node hands it out. Nothing says that it is the right one.
    ///
    /// # Errors
    /// `NotFound`, also where it waits to be mined; else see [`Peer::info`].
    pub async fn data(&self, id: ItemId) -> Answer<Bytes> {
        let path = format!("/raw/{id}");
        let response = self.get(&path, self.data_bytes_max).await?;
        if !is_absent(&response) {
            self.succeeded(&path, &response)?;
            return Ok(response.into_body());
        }
        // A plain node has no /raw, but tells the data of a transaction as text.
        let path = format!("/tx/{id}/data");
        let most = self.data_bytes_max.min(TX_BYTES_MAX);
        let response = self.get(&path, most).await?;
        self.succeeded(&path, &response)?;
        let text = std::str::from_utf8(response.body()).unwrap_or("-");
        let data = from_base64url(text.trim_end_matches('='));
        data.map(Bytes::from)
            .ok_or_else(|| self.bad(&path, "no base64url"))
    }

    /// The `data` of a search's answer, as JSON text.
    ///
    /// # Errors
    /// `Upstream` where the gateway reports errors; else see [`Peer::info`].
    pub async fn graphql(&self, query: &str, variables: &serde_json::Value) -> Answer<Box<RawValue>> {
        #[derive(serde::Deserialize)]
        struct Searched {
            data: Option<Box<RawValue>>,
            errors: Option<Box<RawValue>>,
        }
        let path = "/graphql";
        let body = serde_json::json!({ "query": query, "variables": variables }).to_string();
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let response = self.send(path, request, body.into(), GRAPHQL_BYTES_MAX).await?;
        self.succeeded(path, &response)?;
        let searched: Searched = self.read(path, &response)?;
        if let Some(errors) = searched.errors {
            return Err(self.bad(path, &plain(errors.get())));
        }
        let data = searched.data.filter(|data| data.get() != "null");
        data.ok_or_else(|| self.bad(path, "no data"))
    }

    async fn number(&self, path: &str) -> Answer<u128> {
        let text = self.words(path).await?;
        let text = text.trim_matches('"');
        decimal(text).ok_or_else(|| self.bad(path, "no decimal number"))
    }

    async fn words(&self, path: &str) -> Answer<String> {
        let response = self.get(path, WORDS_BYTES_MAX).await?;
        self.succeeded(path, &response)?;
        let text = std::str::from_utf8(response.body()).map_err(|_| self.bad(path, "no text"))?;
        Ok(text.trim().to_owned())
    }

    async fn json<T: DeserializeOwned>(&self, path: &str, bytes_max: usize) -> Answer<T> {
        let response = self.get(path, bytes_max).await?;
        self.succeeded(path, &response)?;
        self.read(path, &response)
    }

    pub(super) fn read<T: DeserializeOwned>(&self, path: &str, response: &Response<Bytes>) -> Answer<T> {
        serde_json::from_slice(response.body()).map_err(|error| self.bad(path, &error.to_string()))
    }

    pub(super) async fn get(&self, path: &str, bytes_max: usize) -> Answer<Response<Bytes>> {
        self.send(path, Request::get(path), Bytes::new(), bytes_max).await
    }

    pub(super) async fn post(&self, path: &str, content_type: &str, body: Bytes) -> Answer<Response<Bytes>> {
        let request = Request::builder().method(Method::POST).uri(path);
        let request = request.header(header::CONTENT_TYPE, content_type);
        self.send(path, request, body, WORDS_BYTES_MAX).await
    }

    async fn send(
        &self,
        path: &str,
        request: http::request::Builder,
        body: Bytes,
        bytes_max: usize,
    ) -> Answer<Response<Bytes>> {
        let request = request.body(body);
        let request = request.map_err(|error| Refusal::internal(format!("{path}: {error}")))?;
        let response = self.transport.send(request, bytes_max).await?;
        match response.body().len() > bytes_max {
            true => Err(self.bad(path, &format!("more than {bytes_max} bytes"))),
            false => Ok(response),
        }
    }

    pub(super) fn succeeded(&self, path: &str, response: &Response<Bytes>) -> Answer<()> {
        match response.status() {
            StatusCode::OK => Ok(()),
            _ => Err(self.refusal(path, response)),
        }
    }

    /// The refusal behind any answer but the ones that a route expects.
    pub(super) fn refusal(&self, path: &str, response: &Response<Bytes>) -> Refusal {
        let (kind, code) = match response.status().as_u16() {
            202 => (Kind::NotFound, "pending"),
            404 | 410 => (Kind::NotFound, "not-found"),
            408 | 425 | 429 | 503 => (Kind::Busy, "peer-busy"),
            402 => (Kind::Upstream, "payment-required"),
            413 => (Kind::Limit, "too-large"),
            300..=399 => (Kind::Upstream, "redirected"),
            400..=499 => (Kind::Invalid, "peer-refused"),
            _ => (Kind::Upstream, "peer-failed"),
        };
        self.refused(path, response, kind, code)
    }

    pub(super) fn refused(
        &self,
        path: &str,
        response: &Response<Bytes>,
        kind: Kind,
        code: &'static str,
    ) -> Refusal {
        let (name, status, said) = (&self.name, response.status().as_u16(), text_of(response));
        Refusal::new(kind, code, format!("{name}{path} answered {status}: {said}"))
    }

    /// An answer that is none.
    pub(super) fn bad(&self, path: &str, wrong: &str) -> Refusal {
        let text = format!(
            "{}{path} answered what cannot be used: {}",
            self.name,
            plain(wrong)
        );
        Refusal::upstream("bad-answer", text)
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Peer").field(&self.name).finish()
    }
}

/// Not here, or not yet, or no more. An empty 204 is one way to say it.
fn is_absent(response: &Response<Bytes>) -> bool {
    matches!(response.status().as_u16(), 202 | 204 | 404 | 410)
}

/// A peer's own words, safe to show.
fn text_of(response: &Response<Bytes>) -> String {
    let body = response.body();
    plain(&String::from_utf8_lossy(&body[..body.len().min(TEXT_MAX)]))
}

/// Text without control characters, of bounded length.
pub(super) fn plain(text: &str) -> String {
    let shown = text.trim().chars().take(TEXT_MAX);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
