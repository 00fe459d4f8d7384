//! Data items: the signed unit everything here is made of (ANS-104).
//!
//! An item is one refcounted buffer plus offsets: parsed once, never re-encoded. Reading accepts
//! what the network carries; `DataItem::sign` writes only what the standard allows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{BufMut, Bytes, BytesMut};

use crate::address::SignerText;
use crate::deep_hash::{self, DeepHash};
use crate::ids::{Address, ItemId};
use crate::keys::Signer;
use crate::signature::{self, SignatureType};
use crate::tags::{self, Tag, Tags, TagsError};
use crate::withheld::Withheld;

/// Why bytes are no data item, or not one that may be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The bytes end inside a field.
    #[error("the data item is cut off: its {0} is incomplete")]
    CutOff(&'static str),
    /// Not one of types 1-7 and 101.
    #[error("signature type {0} is unknown; types 1-7 and 101 are")]
    UnknownType(u16),
    /// A presence byte other than 0 or 1.
    #[error("the presence byte of the {field} is {byte}, it must be 0 or 1")]
    PresenceByte {
        /// Which field: target or anchor.
        field: &'static str,
        /// What stands there.
        byte: u8,
    },
    /// The tag bytes.
    #[error("the data item's tags cannot be read: {0}")]
    Tags(#[from] TagsError),
    /// The signature does not belong to this content and owner.
    #[error("the data item's signature (type {0}) does not verify")]
    Signature(u16),
    /// A key could not sign.
    #[error("the key could not sign: {0}")]
    Key(String),
}

/// What is signed, before it is signed.
#[derive(Debug, Clone, Default)]
pub struct ItemParts {
    /// 32 bytes, if the item is for somebody.
    pub target: Option<[u8; 32]>,
    /// 32 bytes, if the sender wants otherwise equal items to differ.
    pub anchor: Option<[u8; 32]>,
    /// Tags in order.
    pub tags: Tags,
    /// The data.
    pub data: Bytes,
}

/// A parsed data item. Cloning is cheap: it counts references.
#[derive(Clone)]
pub struct DataItem(Arc<Inner>);

struct Inner {
    bytes: Bytes,
    id: ItemId,
    header: Header,
    tags: Tags,
    verified: AtomicBool,
}

/// Elements of the list that is signed.
const ELEMENTS: usize = 8;

/// Where the fields of an item lie; shared with items whose data was withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: SignatureType,
    pub(crate) owner: usize,
    pub(crate) target: Option<usize>,
    pub(crate) anchor: Option<usize>,
    pub(crate) tag_count: u64,
    pub(crate) tags: usize,
    pub(crate) data: usize,
}

impl Header {
    /// Reads all fields before the data.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, ItemError> {
        let number = bytes
            .first_chunk::<2>()
            .ok_or(ItemError::CutOff("signature type"))?;
        let number = u16::from_le_bytes(*number);
        let kind = SignatureType::from_number(number).ok_or(ItemError::UnknownType(number))?;
        let owner = 2 + kind.signature_len();
        let after_owner = owner + kind.owner_len();
        if bytes.len() < after_owner {
            return Err(ItemError::CutOff("signature or owner"));
        }
        let (target, at) = optional(bytes, after_owner, "target")?;
        let (anchor, at) = optional(bytes, at, "anchor")?;
        let (tag_count, at) = number64(bytes, at, "tag count")?;
        let (tags_len, tags) = number64(bytes, at, "tag length")?;
        let tags_len = usize::try_from(tags_len).map_err(|_| ItemError::CutOff("tags"))?;
        if tags_len > tags::RAW_TAGS_LEN_MAX {
            return Err(TagsError::TooLong(tags_len).into());
        }
        let data = tags + tags_len;
        if bytes.len() < data {
            return Err(ItemError::CutOff("tags"));
        }
        Ok(Header {
            kind,
            owner,
            target,
            anchor,
            tag_count,
            tags,
            data,
        })
    }

    /// Decodes the tags and checks their number.
    pub(crate) fn decode_tags(&self, bytes: &Bytes) -> Result<Tags, ItemError> {
        let tags = tags::decode(&bytes.slice(self.tags..self.data))?;
        if tags.len() as u64 != self.tag_count {
            return Err(TagsError::Count {
                header: self.tag_count,
                decoded: tags.len(),
            }
            .into());
        }
        Ok(tags)
    }

    pub(crate) fn signature<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[2..self.owner]
    }

    pub(crate) fn owner<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.owner..][..self.kind.owner_len()]
    }

    /// The deep hash with the data given by its own deep hash.
    pub(crate) fn deep_hash(&self, bytes: &[u8], data: DeepHash) -> DeepHash {
        let elements = self.fields(bytes).into_iter().map(deep_hash::blob).chain([data]);
        deep_hash::go_on(Header::opening_of(self.kind, self.owner(bytes)), elements)
    }

    /// What is signed between the owner and the data: target, anchor and tags.
    fn fields<'a>(&self, bytes: &'a [u8]) -> [&'a [u8]; 3] {
        let field = |at: Option<usize>| at.map_or(&[][..], |at| &bytes[at..at + 32]);
        [
            field(self.target),
            field(self.anchor),
            &bytes[self.tags..self.data],
        ]
    }

    /// What the elements that are alike in all items of an owner come to.
    pub(crate) fn opening_of(kind: SignatureType, owner: &[u8]) -> DeepHash {
        deep_hash::go_on(Header::opening(kind), [deep_hash::blob(owner)])
    }

    /// What the first elements, which only the signature type decides, come to; hashed once.
    fn opening(kind: SignatureType) -> DeepHash {
        static OPENINGS: LazyLock<[DeepHash; SignatureType::ALL.len()]> = LazyLock::new(|| {
            SignatureType::ALL.map(|kind| {
                let blobs: [&[u8]; 3] = [b"dataitem", b"1", kind.text().as_bytes()];
                deep_hash::fold(ELEMENTS, blobs.map(deep_hash::blob))
            })
        });
        let at = SignatureType::ALL.iter().position(|one| *one == kind);
        OPENINGS[at.expect("ALL holds every type")]
    }

    pub(crate) fn id(&self, bytes: &[u8]) -> ItemId {
        item_id(self.signature(bytes))
    }
}

/// The id of an item: SHA-256 of its signature.
pub fn item_id(signature: &[u8]) -> ItemId {
    let mut id = [0; 32];
    id.copy_from_slice(digest(&SHA256, signature).as_ref());
    ItemId(id)
}

fn optional(bytes: &[u8], at: usize, field: &'static str) -> Result<(Option<usize>, usize), ItemError> {
    match *bytes.get(at).ok_or(ItemError::CutOff(field))? {
        0 => Ok((None, at + 1)),
        1 if bytes.len() >= at + 33 => Ok((Some(at + 1), at + 33)),
        1 => Err(ItemError::CutOff(field)),
        byte => Err(ItemError::PresenceByte { field, byte }),
    }
}

fn number64(bytes: &[u8], at: usize, field: &'static str) -> Result<(u64, usize), ItemError> {
    let number = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    let number = number.ok_or(ItemError::CutOff(field))?;
    Ok((u64::from_le_bytes(*number), at + 8))
}

impl DataItem {
    /// Reads an item's structure. The signature is checked by [`DataItem::verify`].
    ///
    /// # Errors
    /// Names the field that is cut off or malformed.
    pub fn parse(bytes: Bytes) -> Result<DataItem, ItemError> {
        let header = Header::parse(&bytes)?;
        let tags = header.decode_tags(&bytes)?;
        let id = header.id(&bytes);
        Ok(DataItem(Arc::new(Inner {
            bytes,
            id,
            header,
            tags,
            verified: AtomicBool::new(false),
        })))
    }

    /// Parses and verifies.
    pub fn parse_verified(bytes: Bytes) -> Result<DataItem, ItemError> {
        let item = DataItem::parse(bytes)?;
        item.verify()?;
        Ok(item)
    }

    /// Checks the signature, once: later calls on any clone answer from memory.
    pub fn verify(&self) -> Result<(), ItemError> {
        if self.is_verified() {
            return Ok(());
        }
        let kind = self.signature_type();
        if !kind.verify(self.owner(), self.signature(), &self.deep_hash()) {
            return Err(ItemError::Signature(kind.number()));
        }
        self.0.verified.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether [`DataItem::verify`] has succeeded, or the item comes from our own log.
    pub fn is_verified(&self) -> bool {
        self.0.verified.load(Ordering::Acquire)
    }

    /// Its signature was found to be what [`DataItem::verify`] accepts.
    pub(crate) fn set_verified(&self) {
        self.0.verified.store(true, Ordering::Release);
    }

    /// Declares an item verified that was verified before it was written to our own log.
    pub fn trust_own_log(&self) {
        self.0.verified.store(true, Ordering::Release);
    }

    /// Signs `parts`.
    ///
    /// # Errors
    /// Tags beyond the standard's limits, or a key that cannot sign.
    pub fn sign(parts: &ItemParts, signer: &Signer) -> Result<DataItem, ItemError> {
        let raw_tags = tags::encode(&parts.tags)?;
        let kind = signer.signature_type();
        let mut out = BytesMut::with_capacity(1200 + raw_tags.len() + parts.data.len());
        out.put_u16_le(kind.number());
        out.put_bytes(0, kind.signature_len());
        out.put_slice(signer.owner());
        for field in [&parts.target, &parts.anchor] {
            out.put_u8(u8::from(field.is_some()));
            out.put_slice(field.as_ref().map_or(&[][..], |bytes| bytes));
        }
        out.put_u64_le(parts.tags.len() as u64);
        out.put_u64_le(raw_tags.len() as u64);
        out.put_slice(&raw_tags);
        out.put_slice(&parts.data);

        let header = Header::parse(&out)?;
        let hash = header.deep_hash(&out, deep_hash::blob(&parts.data));
        let signature = signer.sign(&hash).map_err(ItemError::Key)?;
        assert_eq!(
            signature.len(),
            kind.signature_len(),
            "a signer keeps to its type's length"
        );
        out[2..2 + signature.len()].copy_from_slice(&signature);
        let item = DataItem::parse(out.freeze())?;
        item.trust_own_log();
        Ok(item)
    }

    /// The whole item, as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// SHA-256 of the signature.
    pub fn id(&self) -> ItemId {
        self.0.id
    }

    /// How it is signed.
    pub fn signature_type(&self) -> SignatureType {
        self.0.header.kind
    }

    /// The signature's bytes.
    pub fn signature(&self) -> &[u8] {
        self.0.header.signature(&self.0.bytes)
    }

    /// The signer's public key.
    pub fn owner(&self) -> &[u8] {
        self.0.header.owner(&self.0.bytes)
    }

    /// The account that signed: SHA-256 of the owner.
    pub fn owner_address(&self) -> Address {
        signature::address(self.owner())
    }

    /// The account as a process sees it: `0x…` with checksum for Ethereum keys, else the address.
    pub fn signer_text(&self) -> SignerText {
        SignerText::of(self.owner())
    }

    /// Whom it is for.
    pub fn target(&self) -> Option<&[u8; 32]> {
        let at = self.0.header.target?;
        self.0.bytes[at..].first_chunk()
    }

    /// What makes it differ from otherwise equal items.
    pub fn anchor(&self) -> Option<&[u8; 32]> {
        let at = self.0.header.anchor?;
        self.0.bytes[at..].first_chunk()
    }

    /// The tags, in order.
    pub fn tags(&self) -> &[Tag] {
        &self.0.tags
    }

    /// The first value of a tag name, matched exactly.
    pub fn tag(&self, name: &str) -> Option<&str> {
        tags::first(self.tags(), name)
    }

    /// The tags' bytes as signed.
    pub fn raw_tags(&self) -> Bytes {
        self.0.bytes.slice(self.0.header.tags..self.0.header.data)
    }

    /// The data; shares the item's buffer.
    pub fn data(&self) -> Bytes {
        self.0.bytes.slice(self.0.header.data..)
    }

    /// Length of the data in bytes.
    pub fn data_len(&self) -> u64 {
        (self.0.bytes.len() - self.0.header.data) as u64
    }

    /// What was signed.
    pub fn deep_hash(&self) -> DeepHash {
        let data = deep_hash::blob(&self.0.bytes[self.0.header.data..]);
        self.0.header.deep_hash(&self.0.bytes, data)
    }

    /// What is signed behind the owner: target, anchor, tags and data.
    pub(crate) fn fields(&self) -> [&[u8]; 4] {
        let bytes = &self.0.bytes[..];
        let [target, anchor, tags] = self.0.header.fields(bytes);
        [target, anchor, tags, &bytes[self.0.header.data..]]
    }

    /// The item without its data, which still verifies.
    pub fn withhold(&self) -> Withheld {
        let (head, data) = (self.0.bytes.slice(..self.0.header.data), self.data());
        Withheld::new(head, data.len() as u64, deep_hash::sha384(&data)).expect("a parsed item's head parses")
    }
}

impl std::fmt::Debug for DataItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataItem({}, {} bytes)", self.id(), self.bytes().len())
    }
}

impl PartialEq for DataItem {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for DataItem {}
