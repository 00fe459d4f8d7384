//! What changes a double from outside: the bodies that are posted to it, and money and time from nowhere.
//!
//! The invariant: applying the same inputs at the same times to a new double makes it the same again. That is how a
//! double started by hand outlives its program.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use spec::ids::{base64url, from_base64url};
use spec::{Address, DataItem, Kind, Transaction};

use super::answer::Answer;
use super::chain::TransactionRefused;
use super::double::Double;
use super::peer::{ChunkPost, Kept};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The body of a transaction, to a peer.
    Transaction(usize, #[serde(with = "text")] Bytes),
    /// The body of a chunk, to a peer.
    Chunk(usize, #[serde(with = "text")] Bytes),
    /// A data item, to the bundler.
    Item(#[serde(with = "text")] Bytes),
    /// Winston for an account, as text.
    Mint(Address, String),
    /// Blocks at once.
    Mine(u64),
}

/// Most blocks mined by one request.
const MINE_MAX: u64 = 1_000;

/// Bytes as base64url.
mod text {
    use super::{Bytes, base64url, from_base64url};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&base64url(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = from_base64url(&text).ok_or_else(|| D::Error::custom("not base64url"))?;
        Ok(bytes.into())
    }
}

impl Double {
    /// Applies a change and answers as the network does.
    pub fn apply(&mut self, input: &Input) -> Answer {
        match input {
            Input::Transaction(peer, body) => self.take_transaction(*peer, body),
            Input::Chunk(peer, body) => self.take_chunk(*peer, body),
            Input::Item(body) => self.take_item(body),
            Input::Mint(address, winston) => match winston.parse() {
                Ok(winston) => {
                    self.mint(*address, winston);
                    Answer::text(200, self.account(address).balance.to_string())
                }
                Err(_) => Answer::text(400, "an amount is a number of winston"),
            },
            Input::Mine(blocks) => {
                (0..(*blocks).min(MINE_MAX)).for_each(|_| self.mine_block());
                Answer::text(200, self.height().to_string())
            }
        }
    }

    fn take_transaction(&mut self, peer: usize, body: &[u8]) -> Answer {
        let posted = Transaction::from_json(body).map_err(TransactionRefused::Verification);
        let posted = posted.and_then(|(transaction, data)| self.post_transaction(peer, transaction, data));
        match posted {
            Ok(()) => Answer::text(200, "OK"),
            Err(refused) => {
                let status = match refused {
                    TransactionRefused::Known => 208,
                    TransactionRefused::TooLarge => 413,
                    TransactionRefused::Busy => 503,
                    _ => 400,
                };
                Answer::text(status, refused.to_string())
            }
        }
    }

    fn take_chunk(&mut self, peer: usize, body: &[u8]) -> Answer {
        let kept = ChunkPost::from_json(body).and_then(|post| self.post_chunk(peer, post));
        match kept {
            Ok(Kept::Stored) => Answer::text(200, "OK"),
            Ok(Kept::Temporary) => Answer::json(303, &json!({ "error": "temporary" })),
            Err(refused) => Answer::json(400, &json!({ "error": refused.to_string() })),
        }
    }

    fn take_item(&mut self, body: &Bytes) -> Answer {
        let receipt = DataItem::parse(body.clone()).map_err(Into::into);
        match receipt.and_then(|item| self.post_item(&item)) {
            Ok(receipt) => Answer::json(200, &serde_json::to_value(receipt).expect("texts and numbers")),
            Err(refusal) => {
                let status = if refusal.kind == Kind::Busy { 503 } else { 400 };
                Answer::text(status, refusal.text)
            }
        }
    }
}
