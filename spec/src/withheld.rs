//! An item whose data was withheld: header, signature, data length and inner hash.
//!
//! The signature covers the data only through its SHA-384, so what is left still verifies and
//! keeps its id. Not here: who may withhold, and when.

use bytes::{BufMut, Bytes, BytesMut};

use crate::address::SignerText;
use crate::deep_hash::{DEEP_HASH_LEN, DeepHash, blob_of};
use crate::ids::ItemId;
use crate::item::{Header, ItemError};
use crate::signature::SignatureType;
use crate::tags::Tags;

/// The proof that an item existed, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    head: Bytes,
    data_len: u64,
    inner: DeepHash,
    header: Header,
}

impl Withheld {
    /// From an item's bytes before its data, and the data's length and SHA-384.
    ///
    /// # Errors
    /// If `head` is not exactly the part before the data, or its tags cannot be read.
    pub fn new(head: Bytes, data_len: u64, inner: DeepHash) -> Result<Withheld, ItemError> {
        let header = Header::parse(&head)?;
        if header.data != head.len() {
            return Err(ItemError::CutOff("header"));
        }
        header.decode_tags(&head)?;
        Ok(Withheld {
            head,
            data_len,
            inner,
            header,
        })
    }

    /// The form on disk: data length (u64 LE), inner hash (48), head.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + DEEP_HASH_LEN + self.head.len());
        out.put_u64_le(self.data_len);
        out.put_slice(&self.inner);
        out.put_slice(&self.head);
        out.freeze()
    }

    /// Reads the form on disk.
    pub fn decode(bytes: &Bytes) -> Result<Withheld, ItemError> {
        let data_len = bytes.first_chunk().ok_or(ItemError::CutOff("data length"))?;
        let inner = bytes[8..].first_chunk().ok_or(ItemError::CutOff("inner hash"))?;
        Withheld::new(
            bytes.slice(8 + DEEP_HASH_LEN..),
            u64::from_le_bytes(*data_len),
            *inner,
        )
    }

    /// The item's id.
    pub fn id(&self) -> ItemId {
        self.header.id(&self.head)
    }

    /// How long the data was, in bytes.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    /// SHA-384 of the data.
    pub fn inner_hash(&self) -> &DeepHash {
        &self.inner
    }

    /// Everything before the data, as signed.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The tags, in order.
    pub fn tags(&self) -> Result<Tags, ItemError> {
        self.header.decode_tags(&self.head)
    }

    /// How it is signed.
    pub fn signature_type(&self) -> SignatureType {
        self.header.kind
    }

    /// The signature's bytes.
    pub fn signature(&self) -> &[u8] {
        self.header.signature(&self.head)
    }

    /// The signer's public key.
    pub fn owner(&self) -> &[u8] {
        self.header.owner(&self.head)
    }

    /// Whom it is for.
    pub fn target(&self) -> Option<&[u8; 32]> {
        self.head[self.header.target?..].first_chunk()
    }

    /// What makes it differ from otherwise equal items.
    pub fn anchor(&self) -> Option<&[u8; 32]> {
        self.head[self.header.anchor?..].first_chunk()
    }

    /// The account as a process sees it.
    pub fn owner_text(&self) -> String {
        SignerText::of(self.header.owner(&self.head)).into()
    }

    /// Checks the signature over header and inner hash.
    pub fn verify(&self) -> Result<(), ItemError> {
        let kind = self.header.kind;
        let hash = self
            .header
            .deep_hash(&self.head, blob_of(self.data_len, &self.inner));
        let (owner, signature) = (self.header.owner(&self.head), self.header.signature(&self.head));
        match kind.verify(owner, signature, &hash) {
            true => Ok(()),
            false => Err(ItemError::Signature(kind.number())),
        }
    }
}
