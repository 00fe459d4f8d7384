//! A bundling service, Turbo- or Irys-shaped: it takes signed items, promises by a receipt, and posts them itself.
//!
//! Not here: believing it. A receipt is a promise and `FINALIZED` the service's own word; what is permanent is read
//! from the chain. The invariant: a receipt that is handed out is for the item posted, signed by the key it names.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use spec::contract::Answer;
use spec::ids::from_base64url;
use spec::signature::SignatureType;
use spec::{Address, DataItem, ItemId, Kind, deep_hash, signature};

use super::answer::{Number, small};
use super::{Peer, Transport};

/// Longest answer to anything a service is asked.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A service's signed promise.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The item.
    pub id: ItemId,
    /// When it was taken by the service's clock, ms since 1970.
    pub timestamp_ms: u64,
    /// Height by which it promises the item to be in a block.
    pub deadline_height: u64,
    /// Of the receipt's form; it is signed.
    pub version: String,
    /// Whose promise it is: the address of the key that signed.
    pub signer: Address,
    /// The receipt as it came.
    pub json: Box<RawValue>,
}

/// A receipt as it travels. Times and heights come as texts or numbers; both are signed as texts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: ItemId,
    #[serde(deserialize_with = "small")]
    timestamp: u64,
    version: String,
    #[serde(deserialize_with = "small")]
    deadline_height: u64,
    public: String,
    signature: String,
}

impl Receipt {
    /// Reads a receipt and checks its signature: RSA-PSS with any salt over the deep hash of `["Bundlr", version, id,
    /// deadlineHeight, timestamp]` (a Turbo or Irys service's `signReceipt`).
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Receipt, String> {
        let raw: Box<RawValue> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let wire: Wire = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let bytes = |text: &str| from_base64url(text.trim_end_matches('=')).ok_or("not base64url");
        let (public, signed) = (bytes(&wire.public)?, bytes(&wire.signature)?);
        let texts = [
            wire.id.to_string(),
            wire.deadline_height.to_string(),
            wire.timestamp.to_string(),
        ];
        let [id, deadline, time] = texts.each_ref().map(String::as_bytes);
        let hash = deep_hash::list(&[b"Bundlr", wire.version.as_bytes(), id, deadline, time]);
        if !SignatureType::Arweave.verify(&public, &signed, &hash) {
            return Err("the receipt's signature does not verify".into());
        }
        Ok(Receipt {
            id: wire.id,
            timestamp_ms: wire.timestamp,
            deadline_height: wire.deadline_height,
            version: wire.version,
            signer: signature::address(&public),
            json: raw,
        })
    }
}

/// How far a service says an item has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemState {
    /// It has it.
    Taken,
    /// It calls it permanent.
    Permanent,
    /// It gave up on it.
    Failed,
}

/// A service's word on an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemStatus {
    /// How far.
    pub state: ItemState,
    /// The transaction that carries it, once there is one.
    pub bundle_id: Option<ItemId>,
}

/// One bundling service.
#[derive(Clone, Debug)]
pub struct BundlerService {
    peer: Peer,
    token: String,
}

impl BundlerService {
    /// A service that is paid in a token (`arweave` for most); its name stands in refusals and reports.
    pub fn new(name: &str, transport: Arc<dyn Transport>, token: &str) -> BundlerService {
        assert!(
            token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "a token is a word"
        );
        BundlerService {
            peer: Peer::new(name, transport),
            token: token.into(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.peer.name()
    }

    /// Posts a signed item. `None`: it is in flight already (202) and there is no receipt yet; ask again.
    ///
    /// # Errors
    /// `payment-required`, of kind `Upstream`; `bad-receipt`, of kind `Upstream`; refusals as of [`Peer::info`].
    pub async fn post(&self, item: &DataItem) -> Answer<Option<Receipt>> {
        let path = format!("/tx/{}", self.token);
        let response = self
            .peer
            .post(&path, "application/octet-stream", item.bytes().clone())
            .await?;
        match response.status().as_u16() {
            200 | 201 => {}
            202 => return Ok(None),
            400 => return Err(self.peer.refused(&path, &response, Kind::Invalid, "item-refused")),
            _ => return Err(self.peer.refusal(&path, &response)),
        }
        let receipt = Receipt::parse(response.body()).map_err(|wrong| self.bad_receipt(&path, &wrong))?;
        match receipt.id == item.id() {
            true => Ok(Some(receipt)),
            false => Err(self.bad_receipt(&path, "the receipt is for another item")),
        }
    }

    fn bad_receipt(&self, path: &str, wrong: &str) -> spec::Refusal {
        spec::Refusal {
            code: "bad-receipt".into(),
            ..self.peer.bad(path, wrong)
        }
    }

    /// What it says of an item; `None` if it does not know it.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn status(&self, id: ItemId) -> Answer<Option<ItemStatus>> {
        #[derive(Deserialize)]
        struct Said {
            #[serde(default)]
            status: String,
            #[serde(default, rename = "bundleId", alias = "bundleTxId")]
            bundle_id: Option<ItemId>,
        }
        let path = format!("/tx/{id}/status");
        let response = self.peer.get(&path, ANSWER_BYTES_MAX).await?;
        if response.status().as_u16() == 404 {
            return Ok(None);
        }
        self.peer.succeeded(&path, &response)?;
        let said: Said = self.peer.read(&path, &response)?;
        let state = match &*said.status.to_ascii_uppercase() {
            "FINALIZED" => ItemState::Permanent,
            "FAILED" => ItemState::Failed,
            _ => ItemState::Taken,
        };
        Ok(Some(ItemStatus {
            state,
            bundle_id: said.bundle_id,
        }))
    }

    /// What it asks for so many bytes, in the token's smallest unit (winston credits).
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn price(&self, bytes: u64) -> Answer<u128> {
        self.amount(&format!("/price/{}/{bytes}", self.token)).await
    }

    /// What an account has there; 0 for one it does not know.
    ///
    /// # Errors
    /// See [`Peer::info`].
    pub async fn balance(&self, address: Address) -> Answer<u128> {
        let path = format!("/account/balance/{}?address={address}", self.token);
        match self.amount(&path).await {
            Err(refusal) if refusal.kind == Kind::NotFound => Ok(0),
            answered => answered,
        }
    }

    /// An amount: a number alone, or `{"winc": …}`, or `{"balance": …}`.
    async fn amount(&self, path: &str) -> Answer<u128> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Alone(Number),
            Winc { winc: Number },
            Balance { balance: Number },
        }
        let response = self.peer.get(path, ANSWER_BYTES_MAX).await?;
        self.peer.succeeded(path, &response)?;
        let said: Said = self.peer.read(path, &response)?;
        let (Said::Alone(Number(amount))
        | Said::Winc { winc: Number(amount) }
        | Said::Balance {
            balance: Number(amount),
        }) = said;
        Ok(amount)
    }
}
