//! Base-layer transactions of format 2: what carries a bundle into a block.
//!
//! Pure. Not here: prices, anchors, posting, the chunks themselves. The invariant: what `verify` accepts has the
//! id its signature makes and the signature its owner made. Source: spec/transaction.md.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chunks::{self, Hash, Tree};
use crate::deep_hash::{self, DeepHash};
use crate::ids::{Address, ItemId, base64url, from_base64url};
use crate::keys::Signer;
use crate::signature::{self, SignatureType};
use crate::tags::{Tag, Tags};

/// Most bytes of all names and values of a transaction's tags together.
pub const TAGS_LEN_MAX: usize = 2048;
/// Most tags.
pub const TAGS_MAX: usize = 2048;
/// Longest anchor, in bytes.
pub const ANCHOR_LEN_MAX: usize = 48;
/// Longest data sent along in one body; longer data goes up chunk by chunk.
pub const BODY_DATA_LEN_MAX: usize = 10 << 20;
/// Shortest RSA modulus of an owner.
const MODULUS_LEN_MIN: usize = 256;

/// Why a transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Not the JSON of a transaction.
    #[error("not the JSON of a transaction: {0}")]
    NotJson(String),
    /// A field is malformed or beyond its limit.
    #[error("the transaction's `{field}` {wrong}")]
    Field {
        /// Its name on the wire.
        field: &'static str,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// The id is not the hash of the signature.
    #[error("the transaction's id is not the hash of its signature")]
    Id,
    /// The signature does not fit.
    #[error("the transaction's signature does not verify")]
    Signature,
    /// The data sent along is not what was signed.
    #[error("the transaction's data is not what its data_root and data_size say")]
    Data,
    /// The key cannot sign transactions.
    #[error("cannot sign the transaction: {0}")]
    Key(String),
}

fn field(field: &'static str, wrong: &'static str) -> TransactionError {
    TransactionError::Field { field, wrong }
}

/// Whose transaction it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The modulus of an RSA key; the exponent is 65537.
    Rsa(Bytes),
    /// A compressed secp256k1 key. It does not travel: the signature tells it.
    Secp256k1([u8; 33]),
}

impl Owner {
    /// The account.
    pub fn address(&self) -> Address {
        match self {
            Owner::Rsa(modulus) => signature::address(modulus),
            Owner::Secp256k1(key) => signature::address(key),
        }
    }

    /// The key's accounts: as the owner of transactions, and as the owner of items. They are one for RSA; items take a
    /// secp256k1 key uncompressed.
    pub fn accounts(&self) -> Vec<Address> {
        let mut accounts = vec![self.address()];
        if let Owner::Secp256k1(key) = self
            && let Ok(key) = secp256k1::PublicKey::from_slice(key)
        {
            accounts.push(signature::address(&key.serialize_uncompressed()));
        }
        accounts
    }

    /// As it travels, and as it is hashed.
    fn bytes(&self) -> &[u8] {
        match self {
            Owner::Rsa(modulus) => modulus,
            Owner::Secp256k1(_) => &[],
        }
    }
}

/// What a transaction says, before it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// The anchor: a recent block's hash, or the account's last transaction.
    pub last_tx: Vec<u8>,
    /// Tags.
    pub tags: Tags,
    /// Who gets the quantity.
    pub target: Option<Address>,
    /// What the target gets, in winston (10^-12 AR).
    pub quantity: u128,
    /// What the miner and the endowment get, in winston.
    pub reward: u128,
    /// Bytes of data.
    pub data_size: u64,
    /// Root of the tree over the data's chunks; `None` without data.
    pub data_root: Option<Hash>,
    /// Of the currency; 0 says the first.
    pub denomination: u64,
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// SHA-256 of the signature.
    pub id: ItemId,
    /// Whose it is.
    pub owner: Owner,
    /// What it says.
    pub content: Content,
    /// The signature.
    pub signature: Bytes,
}

impl Content {
    /// The content of a transaction that carries these bytes.
    pub fn carrying(data: &[u8]) -> Content {
        Content {
            data_size: data.len() as u64,
            data_root: (!data.is_empty()).then(|| Tree::of(data).root()),
            ..Content::default()
        }
    }

    /// Signs it.
    ///
    /// # Errors
    /// A field beyond its limit, or a key that signs no transactions.
    pub fn sign(self, signer: &Signer) -> Result<Transaction, TransactionError> {
        let owner = signer.transaction_owner().ok_or_else(|| {
            TransactionError::Key("the base layer takes RSA and secp256k1 keys only".into())
        })?;
        self.check(&owner)?;
        let hash = self.signed_hash(&owner);
        let signature = signer.sign_transaction(&hash).map_err(TransactionError::Key)?;
        Ok(Transaction {
            id: ItemId(chunks::sha256(&[&signature])),
            owner,
            content: self,
            signature: signature.into(),
        })
    }

    /// What the signature signs. A key that the signature tells is left out of the list; a denomination stands
    /// before it.
    fn signed_hash(&self, owner: &Owner) -> DeepHash {
        let text = |number: u128| deep_hash::blob(number.to_string().as_bytes());
        let tags = self
            .tags
            .iter()
            .map(|tag| deep_hash::list(&[&tag.name, &tag.value]));
        let mut list = Vec::with_capacity(10);
        if self.denomination > 0 {
            list.push(text(self.denomination.into()));
        }
        list.push(text(2));
        if let Owner::Rsa(modulus) = owner {
            list.push(deep_hash::blob(modulus));
        }
        list.push(deep_hash::blob(
            self.target.as_ref().map_or(&[], |target| &target.0),
        ));
        list.push(text(self.quantity));
        list.push(text(self.reward));
        list.push(deep_hash::blob(&self.last_tx));
        list.push(deep_hash::fold(self.tags.len(), tags));
        list.push(text(self.data_size.into()));
        list.push(deep_hash::blob(
            self.data_root.as_ref().map_or(&[], |root| &root[..]),
        ));
        deep_hash::fold(list.len(), list)
    }

    /// The limits every node of the network enforces.
    fn check(&self, owner: &Owner) -> Result<(), TransactionError> {
        let tags_len = |tags: &[Tag]| {
            tags.iter()
                .map(|tag| tag.name.len() + tag.value.len())
                .sum::<usize>()
        };
        if self.tags.len() > TAGS_MAX || tags_len(&self.tags) > TAGS_LEN_MAX {
            return Err(field("tags", "have more than 2048 bytes"));
        }
        if self.last_tx.len() > ANCHOR_LEN_MAX {
            return Err(field("last_tx", "is longer than 48 bytes"));
        }
        if self.quantity > 0 && self.target.is_none() {
            return Err(field("target", "is missing though a quantity is sent"));
        }
        if self.target == Some(owner.address()) {
            return Err(field("target", "is the owner"));
        }
        if (self.data_size > 0) != self.data_root.is_some() {
            return Err(field("data_root", "must be there exactly if there is data"));
        }
        Ok(())
    }
}

impl Transaction {
    /// Whether the id is its signature's and the signature its owner's, within the network's limits.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(&self) -> Result<(), TransactionError> {
        self.content.check(&self.owner)?;
        if self.id.0 != chunks::sha256(&[&self.signature]) {
            return Err(TransactionError::Id);
        }
        let hash = self.content.signed_hash(&self.owner);
        let valid = match &self.owner {
            Owner::Rsa(modulus) => crate::pss::verify(modulus, &self.signature, &hash),
            Owner::Secp256k1(key) => recovered(&self.signature, &hash).as_ref() == Some(key),
        };
        valid.then_some(()).ok_or(TransactionError::Signature)
    }

    /// Whether these bytes are the data that was signed.
    ///
    /// # Errors
    /// If they are not.
    pub fn verify_data(&self, data: &[u8]) -> Result<(), TransactionError> {
        let made = Content::carrying(data);
        let same = (made.data_size, made.data_root) == (self.content.data_size, self.content.data_root);
        same.then_some(()).ok_or(TransactionError::Data)
    }

    /// Reads the JSON of the network, with the data if it was sent along. Shapes and limits only: see
    /// [`Transaction::verify`].
    ///
    /// # Errors
    /// Names the field.
    pub fn from_json(json: &[u8]) -> Result<(Transaction, Option<Bytes>), TransactionError> {
        let wire: Wire =
            serde_json::from_slice(json).map_err(|e| TransactionError::NotJson(e.to_string()))?;
        wire.read()
    }

    /// The JSON of the network; with `data` where it travels along.
    pub fn to_json(&self, data: Option<&[u8]>) -> String {
        let content = &self.content;
        let wire = Wire {
            format: 2,
            id: self.id.to_string(),
            last_tx: base64url(&content.last_tx),
            owner: base64url(self.owner.bytes()),
            tags: content.tags.iter().map(WireTag::of).collect(),
            target: content
                .target
                .map(|target| target.to_string())
                .unwrap_or_default(),
            quantity: content.quantity.to_string(),
            data: data.map(base64url).unwrap_or_default(),
            data_size: content.data_size.to_string(),
            data_root: content
                .data_root
                .as_ref()
                .map(|root| base64url(root))
                .unwrap_or_default(),
            reward: content.reward.to_string(),
            signature: base64url(&self.signature),
            data_tree: Vec::new(),
            denomination: (content.denomination > 0).then(|| content.denomination.to_string()),
        };
        serde_json::to_string(&wire).expect("texts only")
    }
}

/// The key that made a signature over a transaction's hash.
fn recovered(signature: &[u8], hash: &DeepHash) -> Option<[u8; 33]> {
    let (candidate, compact) = signature.split_last().filter(|(_, rest)| rest.len() == 64)?;
    let key = signature::recover_key(&chunks::sha256(&[hash]), compact, *candidate)?;
    Some(key.serialize())
}

/// A tag on the wire: both halves in base64url.
#[derive(Serialize, Deserialize)]
struct WireTag {
    name: String,
    value: String,
}

impl WireTag {
    fn of(tag: &Tag) -> WireTag {
        WireTag {
            name: base64url(&tag.name),
            value: base64url(&tag.value),
        }
    }

    fn read(&self) -> Option<Tag> {
        Some(Tag {
            name: from_base64url(&self.name)?.into(),
            value: from_base64url(&self.value)?.into(),
        })
    }
}

/// The JSON of a transaction: all numbers but the format are decimal texts, all bytes base64url.
#[derive(Serialize, Deserialize)]
struct Wire {
    format: u8,
    id: String,
    last_tx: String,
    owner: String,
    #[serde(default)]
    tags: Vec<WireTag>,
    #[serde(default)]
    target: String,
    #[serde(default = "zero")]
    quantity: String,
    #[serde(default)]
    data: String,
    data_size: String,
    #[serde(default)]
    data_root: String,
    reward: String,
    signature: String,
    /// Always empty; written because old readers expect it.
    #[serde(default, skip_deserializing)]
    data_tree: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    denomination: Option<String>,
}

fn zero() -> String {
    "0".into()
}

impl Wire {
    fn read(self) -> Result<(Transaction, Option<Bytes>), TransactionError> {
        if self.format != 2 {
            return Err(field("format", "is not 2"));
        }
        let content = self.content()?;
        let signature = bytes("signature", &self.signature)?;
        let owner = self.read_owner(&content, &signature)?;
        content.check(&owner)?;
        let data = match &*self.data {
            "" => None,
            text => Some(bytes("data", text)?.into()),
        };
        let id = self.id.parse().map_err(|_| field("id", "is not an id"))?;
        let transaction = Transaction {
            id,
            owner,
            content,
            signature: signature.into(),
        };
        Ok((transaction, data))
    }

    fn content(&self) -> Result<Content, TransactionError> {
        let tags: Option<Tags> = self.tags.iter().map(WireTag::read).collect();
        let target = (!self.target.is_empty()).then(|| self.target.parse());
        let root = bytes("data_root", &self.data_root)?;
        Ok(Content {
            last_tx: bytes("last_tx", &self.last_tx)?,
            tags: tags.ok_or(field("tags", "are not base64url"))?,
            target: target
                .transpose()
                .map_err(|_| field("target", "is not an address"))?,
            quantity: number("quantity", &self.quantity)?,
            reward: number("reward", &self.reward)?,
            data_size: small("data_size", &self.data_size)?,
            data_root: match root.len() {
                0 => None,
                _ => Some(
                    root.try_into()
                        .map_err(|_| field("data_root", "has not 32 bytes"))?,
                ),
            },
            denomination: self
                .denomination
                .as_deref()
                .map_or(Ok(0), |text| small("denomination", text))?,
        })
    }

    /// The owner as written, or else the one whose signature this is.
    fn read_owner(&self, content: &Content, signature: &[u8]) -> Result<Owner, TransactionError> {
        let owner = bytes("owner", &self.owner)?;
        let lengths = MODULUS_LEN_MIN..=SignatureType::Arweave.owner_len();
        match owner.len() {
            0 => {
                // Any key will do: it is not hashed.
                let hash = content.signed_hash(&Owner::Secp256k1([0; 33]));
                recovered(signature, &hash)
                    .map(Owner::Secp256k1)
                    .ok_or(TransactionError::Signature)
            }
            len if lengths.contains(&len) => Ok(Owner::Rsa(owner.into())),
            _ => Err(field("owner", "is no RSA modulus of 2048 to 4096 bits")),
        }
    }
}

fn bytes(name: &'static str, text: &str) -> Result<Vec<u8>, TransactionError> {
    from_base64url(text).ok_or(field(name, "is not base64url"))
}

/// A decimal number in its one spelling: another one would be another transaction with the same signature.
fn number(name: &'static str, text: &str) -> Result<u128, TransactionError> {
    let number: Option<u128> = text.parse().ok();
    number
        .filter(|number| number.to_string() == text)
        .ok_or(field(name, "is not a decimal number"))
}

fn small(name: &'static str, text: &str) -> Result<u64, TransactionError> {
    number(name, text)?
        .try_into()
        .map_err(|_| field(name, "is beyond any use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content {
            last_tx: vec![7; 48],
            tags: vec![Tag::new("App", "x"), Tag::new("Empty", "")],
            reward: 123_456_789_012_345_678_901,
            ..Content::carrying(&[1; 300_000])
        }
    }

    #[test]
    fn a_recovered_owner_round_trips_and_every_change_is_refused() {
        let signer = Signer::ethereum(&[3; 32]).unwrap();
        let signed = content().sign(&signer).unwrap();
        signed.verify().unwrap();
        let json = signed.to_json(None);
        let (read, data) = Transaction::from_json(json.as_bytes()).unwrap();
        assert_eq!((read, data), (signed.clone(), None));
        let changes: [fn(&mut Transaction); 6] = [
            |t| t.content.reward += 1,
            |t| t.content.tags[0].value = "y".into(),
            |t| t.content.data_size += 1,
            |t| t.content.denomination = 1,
            |t| t.content.last_tx[0] ^= 1,
            |t| t.content.data_root = Some([9; 32]),
        ];
        for change in changes {
            let mut changed = signed.clone();
            change(&mut changed);
            assert_eq!(changed.verify(), Err(TransactionError::Signature));
        }
        let mut other = signed.clone();
        other.id.0[0] ^= 1;
        assert_eq!(other.verify(), Err(TransactionError::Id));
    }

    #[test]
    fn the_high_half_of_a_signature_is_no_second_transaction() {
        let signed = content().sign(&Signer::ethereum(&[3; 32]).unwrap()).unwrap();
        // n - s, and the other candidate.
        let order = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
            0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41u8,
        ];
        let mut twin = signed.signature.to_vec();
        let mut borrow = 0i16;
        for i in (0..32).rev() {
            let digit = i16::from(order[i]) - i16::from(twin[32 + i]) - borrow;
            borrow = i16::from(digit < 0);
            twin[32 + i] = digit.rem_euclid(256) as u8;
        }
        twin[64] ^= 1;
        let mut high = signed.clone();
        high.id = ItemId(chunks::sha256(&[&twin]));
        high.signature = twin.into();
        assert_eq!(high.verify(), Err(TransactionError::Signature));
    }

    #[test]
    fn limits_and_shapes_are_named() {
        let signer = Signer::ethereum(&[3; 32]).unwrap();
        let refused = |content: Content| content.sign(&signer).unwrap_err().to_string();
        let tags = vec![Tag::new("n", "v".repeat(TAGS_LEN_MAX))];
        assert!(refused(Content { tags, ..content() }).contains("`tags`"));
        let own = signer.transaction_owner().unwrap().address();
        assert!(
            refused(Content {
                target: Some(own),
                ..content()
            })
            .contains("is the owner")
        );
        assert!(
            refused(Content {
                quantity: 1,
                ..content()
            })
            .contains("`target`")
        );
        let json = content().sign(&signer).unwrap().to_json(None);
        for (from, to) in [
            ("\"reward\":\"1", "\"reward\":\"01"),
            ("\"format\":2", "\"format\":1"),
            ("\"data_size\":\"", "\"data_size\":\"-"),
        ] {
            let bad = json.replace(from, to);
            assert_ne!(bad, json);
            assert!(Transaction::from_json(bad.as_bytes()).is_err(), "{to}");
        }
        assert!(Signer::ed25519(&[1; 32]).transaction_owner().is_none());
    }

    #[test]
    fn data_that_came_along_is_compared_with_what_was_signed() {
        let signed = content().sign(&Signer::ethereum(&[3; 32]).unwrap()).unwrap();
        signed.verify_data(&[1; 300_000]).unwrap();
        assert_eq!(signed.verify_data(&[1; 299_999]), Err(TransactionError::Data));
        let json = signed.to_json(Some(&[1; 300_000]));
        let (_, data) = Transaction::from_json(json.as_bytes()).unwrap();
        assert_eq!(data.unwrap().len(), 300_000);
    }
}
