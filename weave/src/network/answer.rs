//! What peers answer, read from their JSON: numbers as texts or as numbers, bytes as base64url, everything bounded.
//!
//! Not here: whether it is true. The invariant: what does not fit its type is refused with the field's name.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use spec::ItemId;
use spec::chunks::{CHUNK_LEN_MAX, Hash};
use spec::ids::from_base64url;
use spec::placement::BlockPlace;

/// Most transactions of a block; the network's own limit is 1,000.
const BLOCK_TXS_MAX: usize = 10_000;
/// Longest anchor or block hash, in bytes.
const HASH_LEN_MAX: usize = 48;

/// A number as nodes and gateways write it: decimal text or a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub(super) u128);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form<'a> {
            Number(u64),
            Text(#[serde(borrow)] std::borrow::Cow<'a, str>),
        }
        match Form::deserialize(from)? {
            Form::Number(number) => Ok(Number(number.into())),
            Form::Text(text) => {
                let number = decimal(&text).map(Number);
                number.ok_or_else(|| D::Error::custom("not a decimal number"))
            }
        }
    }
}

impl Number {
    fn small<E: serde::de::Error>(self) -> Result<u64, E> {
        self.0
            .try_into()
            .map_err(|_| E::custom("a number beyond any use"))
    }
}

/// A decimal number of at most 39 digits.
pub(super) fn decimal(text: &str) -> Option<u128> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| text.parse().ok())?
}

/// A `u64` in either form.
pub(super) fn small<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Number::deserialize(from)?.small()
}

fn maybe_small<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<Number>::deserialize(from)?;
    number.map(Number::small).transpose()
}

/// Bytes as base64url; `null` is none.
fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    let bytes = from_base64url(text.trim_end_matches('='));
    bytes
        .map(Bytes::from)
        .ok_or_else(|| D::Error::custom("not base64url"))
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// The network's name, e.g. `arweave.N.1`.
    #[serde(default)]
    pub network: String,
    /// The newest block's height.
    #[serde(deserialize_with = "small")]
    pub height: u64,
}

/// Where a transaction's data ends on the weave, and how long it is.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Offset {
    #[serde(deserialize_with = "small")]
    pub(super) offset: u64,
    #[serde(deserialize_with = "small")]
    pub(super) size: u64,
}

/// A transaction's place in the chain, as a node tells it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Confirmed {
    #[serde(deserialize_with = "small")]
    pub(super) block_height: u64,
    #[serde(deserialize_with = "bytes")]
    pub(super) block_indep_hash: Bytes,
    #[serde(deserialize_with = "small")]
    pub(super) number_of_confirmations: u64,
}

/// A chunk and its proofs, unchecked: see [`BlockPlace::verify_chunk`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChunkGot {
    /// Its bytes, not packed.
    #[serde(deserialize_with = "bytes")]
    pub chunk: Bytes,
    /// From the data root to it.
    #[serde(deserialize_with = "bytes")]
    pub data_path: Bytes,
    /// From the block's root to the data root; some gateways leave it out.
    #[serde(default, deserialize_with = "bytes")]
    pub tx_path: Bytes,
    #[serde(default)]
    packing: Option<String>,
}

impl ChunkGot {
    pub(super) fn check(&self) -> Result<(), String> {
        let most = CHUNK_LEN_MAX as usize;
        if let Some(packing) = self.packing.as_deref().filter(|packing| *packing != "unpacked") {
            return Err(format!(
                "the chunk came packed: `{}`",
                crate::network::peer::plain(packing)
            ));
        }
        match self.chunk.len().max(self.data_path.len()).max(self.tx_path.len()) > most {
            true => Err("a chunk or proof of more than 256 KiB".into()),
            false => Ok(()),
        }
    }
}

/// A block's header as far as proofs need it, unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BlockGot {
    /// Its own hash (`indep_hash`), 48 bytes on the network.
    #[serde(rename = "indep_hash", deserialize_with = "bytes")]
    pub hash: Bytes,
    /// Of the block before it.
    #[serde(default, rename = "previous_block", deserialize_with = "bytes")]
    pub previous: Bytes,
    /// Its height.
    #[serde(deserialize_with = "small")]
    pub height: u64,
    /// When it was made, seconds since 1970.
    #[serde(deserialize_with = "small")]
    pub timestamp: u64,
    /// Its transactions in order.
    pub txs: Vec<ItemId>,
    /// Root of the tree over its transactions' data; empty without any.
    #[serde(default, deserialize_with = "bytes")]
    pub tx_root: Bytes,
    /// Bytes of the weave with it.
    #[serde(default, deserialize_with = "maybe_small")]
    pub weave_size: Option<u64>,
    /// Bytes of the weave that it adds.
    #[serde(default, deserialize_with = "maybe_small")]
    pub block_size: Option<u64>,
}

impl BlockGot {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.hash.is_empty() || self.hash.len().max(self.previous.len()) > HASH_LEN_MAX {
            return Err("a block's hash has up to 48 bytes".into());
        }
        match self.txs.len() > BLOCK_TXS_MAX {
            true => Err(format!("a block of more than {BLOCK_TXS_MAX} transactions")),
            false => Ok(()),
        }
    }

    /// Where it says it lies on the weave; `None` without data or where it does not say.
    pub fn place(&self) -> Option<BlockPlace> {
        let (end, size) = (self.weave_size?, self.block_size?);
        let tx_root: Hash = self.tx_root.as_ref().try_into().ok()?;
        let start = end.checked_sub(size).filter(|_| size > 0)?;
        Some(BlockPlace { tx_root, start, end })
    }
}
