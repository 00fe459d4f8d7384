//! Carriers: the bundle that takes one sealed segment to the weave, and the two items of the node that close it.
//!
//! Pure. Not here: files, compression (what is compressed comes in and goes out as bytes), who carries the bundle to
//! the weave, and the tree's own rules (`digest`). The invariant: a `Carrier` was read whole; its last item states the
//! place of every other one, and the node signed that.
//! Source: spec/carrier.md.

use bytes::{BufMut, Bytes, BytesMut};

use crate::bundle::{Bundle, BundleError};
use crate::chunks::Hash;
use crate::digest::{Leaf, Tree};
use crate::ids::{ItemId, ProcessId, base64url};
use crate::item::{DataItem, ItemError, ItemParts};
use crate::keys::Signer;
use crate::tags::{self, Tag, Tags};
use crate::withheld::Withheld;

/// Most earlier carriers that one names. A transaction's tags have 2,048 bytes; one name takes 54.
pub const PREVIOUS_MAX: usize = 24;
/// Most segment items that one stands for, beside itself: the tags of an item have 4 KiB.
pub const REPLACES_MAX: usize = 48;
/// Longest uncompressed [`SegmentData`] that is read; a segment of 8 MiB has a few hundred KiB of it.
pub const SEGMENT_DATA_LEN_MAX: usize = 64 << 20;
/// First bytes of a [`SegmentData`].
const MAGIC: &[u8; 8] = b"WEFTSKEL";
/// The version written, and the newest read.
const VERSION: u32 = 1;
/// Magic, version, count of ranges, length of the file, length of the skeleton.
const HEAD_LEN: usize = 32;
/// Bytes of one range.
const RANGE_LEN: usize = 32 + 3 * 8 + 32;
/// Bytes of a digest item's data: root, count.
pub const DIGEST_LEN: usize = 40;

/// Value of the tag `Data-Protocol` on every item of a carrier that the node adds.
pub const PROTOCOL: &str = "Weft";
/// Value of the tag `Variant` beside it.
pub const VARIANT: &str = "weft.1";

/// Why a carrier, or a part of one, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// The bundle's own form.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// An item could not be read, verified or signed.
    #[error("the carrier's {what}: {error}")]
    Item {
        /// Which one.
        what: &'static str,
        /// Why.
        error: ItemError,
    },
    /// Fewer items than a carrier has.
    #[error("a carrier ends in a segment item and a digest item; this bundle has {0} items")]
    Short(usize),
    /// A tag is missing or its value has not the one form it may have.
    #[error("the carrier's {what}: tag `{tag}` is missing or malformed")]
    Tag {
        /// Which item.
        what: &'static str,
        /// Which tag.
        tag: &'static str,
    },
    /// The closing items do not belong together.
    #[error("the carrier's segment item and digest item differ in their {0}")]
    Differ(&'static str),
    /// The digest is not over these items.
    #[error("the digest item states another {0} than the bundle's items have")]
    Digest(&'static str),
    /// A segment item's uncompressed data.
    #[error("the segment item's data: {0}")]
    Data(&'static str),
    /// Too many earlier carriers.
    #[error("a carrier names at most {PREVIOUS_MAX} earlier ones, not {0}")]
    Previous(usize),
}

type Result<T> = std::result::Result<T, CarrierError>;

fn tag_error(what: &'static str, tag: &'static str) -> CarrierError {
    CarrierError::Tag { what, tag }
}

/// The stretch of one process's log whose assignments lie in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Whose log.
    pub process: ProcessId,
    /// Lowest slot.
    pub first: u64,
    /// Highest slot.
    pub last: u64,
    /// How many assignments; less than `last - first + 1` if some lie elsewhere.
    pub count: u64,
    /// Id of the assignment last in the segment.
    pub last_assignment: ItemId,
}

impl Range {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(self.process.bytes());
        [self.first, self.last, self.count]
            .into_iter()
            .for_each(|n| out.put_u64_le(n));
        out.put_slice(self.last_assignment.bytes());
    }

    fn read(row: &[u8]) -> Range {
        Range {
            process: ProcessId(array(&row[..32])),
            first: u64_at(row, 32),
            last: u64_at(row, 40),
            count: u64_at(row, 48),
            last_assignment: ItemId(array(&row[56..88])),
        }
    }

    fn is_possible(&self) -> bool {
        let span = self.last.checked_sub(self.first);
        span.is_some_and(|span| self.count > 0 && self.count - 1 <= span)
    }
}

/// What a segment item tells, uncompressed: what of the sealed file is in no item of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentData {
    /// Bytes of the sealed file.
    pub file_len: u64,
    /// Ascending by process, each once.
    pub ranges: Vec<Range>,
    /// The file without its records' items, frames' checksums zeroed.
    pub skeleton: Bytes,
}

impl SegmentData {
    /// The bytes.
    ///
    /// # Errors
    /// Ranges out of order or impossible, or more than [`SEGMENT_DATA_LEN_MAX`].
    pub fn encode(&self) -> Result<Bytes> {
        self.check()?;
        let len = HEAD_LEN + RANGE_LEN * self.ranges.len() + self.skeleton.len();
        if len > SEGMENT_DATA_LEN_MAX {
            return Err(CarrierError::Data("longer than 64 MiB"));
        }
        let mut out = BytesMut::with_capacity(len);
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(u32::try_from(self.ranges.len()).expect("below SEGMENT_DATA_LEN_MAX / RANGE_LEN"));
        out.put_u64_le(self.file_len);
        out.put_u64_le(self.skeleton.len() as u64);
        self.ranges.iter().for_each(|range| range.put(&mut out));
        out.put_slice(&self.skeleton);
        assert_eq!(out.len(), len, "every field has its fixed length");
        Ok(out.freeze())
    }

    /// Reads the bytes; the skeleton shares them.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn decode(bytes: &Bytes) -> Result<SegmentData> {
        let wrong = |why| Err(CarrierError::Data(why));
        if bytes.len() > SEGMENT_DATA_LEN_MAX {
            return wrong("longer than 64 MiB");
        }
        if bytes.len() < HEAD_LEN || bytes[..8] != *MAGIC {
            return wrong("it does not begin as it must");
        }
        if u32_at(bytes, 8) != VERSION {
            return wrong("of a version this program does not know");
        }
        let ranges_len = u32_at(bytes, 12) as usize * RANGE_LEN;
        let len = u64_at(bytes, 24).checked_add((HEAD_LEN + ranges_len) as u64);
        if len != Some(bytes.len() as u64) {
            return wrong("its lengths do not add up");
        }
        let ranges = bytes[HEAD_LEN..][..ranges_len].chunks_exact(RANGE_LEN);
        let data = SegmentData {
            file_len: u64_at(bytes, 16),
            ranges: ranges.map(Range::read).collect(),
            skeleton: bytes.slice(HEAD_LEN + ranges_len..),
        };
        data.check()?;
        Ok(data)
    }

    fn check(&self) -> Result<()> {
        if !self.ranges.is_sorted_by(|a, b| a.process < b.process) {
            return Err(CarrierError::Data("its ranges are not in order"));
        }
        if !self.ranges.iter().all(Range::is_possible) {
            return Err(CarrierError::Data("a range is none"));
        }
        match (self.skeleton.len() as u64) <= self.file_len {
            true => Ok(()),
            false => Err(CarrierError::Data("its skeleton is longer than the file")),
        }
    }
}

/// What a segment item says, before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The scheduler's epoch as it was bundled: after a loss, what an earlier epoch carried on with does not count.
    pub epoch: u64,
    /// Counts the node's permanent carriers, from 0.
    pub sequence: u64,
    /// Number of the segment file.
    pub segment: u64,
    /// The segment item of the carrier before; `None` in the first.
    pub prev_segment: Option<ItemId>,
    /// Segment items of this place that later carriers may name as the one before them: the carrier was made again
    /// since, for data in it was withheld. At most [`REPLACES_MAX`].
    pub replaces: Vec<ItemId>,
    /// SHA-256 of the sealed file.
    pub segment_sha256: Hash,
    /// Compressed [`SegmentData`].
    pub data: Bytes,
}

const SEGMENT: &str = "segment item";
const DIGEST: &str = "digest item";

impl Draft {
    fn sign(&self, signer: &Signer) -> Result<DataItem> {
        let mut tags = own_tags("Segment");
        tags.push(Tag::new("Segment", self.segment.to_string()));
        tags.push(Tag::new("Sequence", self.sequence.to_string()));
        tags.extend(epoch_tag(self.epoch));
        let previous = self
            .prev_segment
            .map(|id| Tag::new("Prev-Segment", id.to_string()));
        tags.extend(previous);
        if self.replaces.len() > REPLACES_MAX {
            return Err(tag_error(SEGMENT, "Replaces"));
        }
        let replaces = self.replaces.iter();
        tags.extend(replaces.map(|id| Tag::new("Replaces", id.to_string())));
        tags.push(Tag::new("Segment-SHA256", base64url(&self.segment_sha256)));
        sign(SEGMENT, tags, self.data.clone(), signer)
    }

    /// Reads a segment item. The signature is the caller's to check.
    ///
    /// # Errors
    /// Names the tag.
    pub fn read(item: &DataItem) -> Result<Draft> {
        check_own(SEGMENT, item, "Segment")?;
        let hash = item
            .tag("Segment-SHA256")
            .and_then(|text| text.parse::<ItemId>().ok());
        let replaces = tags::all(item.tags(), "Replaces").map(str::parse);
        let replaces: Vec<ItemId> = replaces
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| tag_error(SEGMENT, "Replaces"))?;
        if replaces.len() > REPLACES_MAX {
            return Err(tag_error(SEGMENT, "Replaces"));
        }
        let draft = Draft {
            epoch: epoch(SEGMENT, item.tag("Epoch"))?,
            replaces,
            sequence: number(SEGMENT, item, "Sequence")?,
            segment: number(SEGMENT, item, "Segment")?,
            prev_segment: optional_id(SEGMENT, item, "Prev-Segment")?,
            segment_sha256: hash.ok_or(tag_error(SEGMENT, "Segment-SHA256"))?.0,
            data: item.data(),
        };
        // The first carrier has none before it, every other one has.
        match draft.prev_segment.is_none() == (draft.sequence == 0) {
            true => Ok(draft),
            false => Err(tag_error(SEGMENT, "Prev-Segment")),
        }
    }
}

/// What a digest item states: the tree over all items before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Which carrier of the node it closes.
    pub sequence: u64,
    /// Root of the tree.
    pub root: Hash,
    /// How many items the tree is over.
    pub count: u64,
}

impl Digest {
    fn sign(&self, signer: &Signer) -> Result<DataItem> {
        let mut tags = own_tags("Digest");
        tags.push(Tag::new("Sequence", self.sequence.to_string()));
        let mut data = BytesMut::with_capacity(DIGEST_LEN);
        data.put_slice(&self.root);
        data.put_u64_le(self.count);
        sign(DIGEST, tags, data.freeze(), signer)
    }

    /// Reads a digest item. The signature is the caller's to check.
    ///
    /// # Errors
    /// Names the tag, or says that its data is no digest.
    pub fn read(item: &DataItem) -> Result<Digest> {
        check_own(DIGEST, item, "Digest")?;
        let data = item.data();
        if data.len() != DIGEST_LEN {
            return Err(CarrierError::Digest("length of data"));
        }
        Ok(Digest {
            sequence: number(DIGEST, item, "Sequence")?,
            root: array(&data[..32]),
            count: u64_at(&data, 32),
        })
    }
}

/// One carrier's items, whole and in order. Cloning an item counts references.
#[derive(Debug, Clone)]
pub struct Carrier {
    items: Vec<DataItem>,
    segment: Draft,
    tree: Tree,
    leaves: Vec<Leaf>,
    table: Bytes,
}

impl Carrier {
    /// Closes a segment's records with a segment item and a digest item.
    ///
    /// # Errors
    /// A key that cannot sign, or a draft whose `prev_segment` does not fit its `sequence`.
    pub fn build(records: Vec<DataItem>, draft: &Draft, signer: &Signer) -> Result<Carrier> {
        let mut items = records;
        items.push(draft.sign(signer)?);
        // The digest item's own length is not in the tree, its row in the table is.
        let tree = Tree::of(&leaves(&items, items.len() + 1));
        let digest = Digest {
            sequence: draft.sequence,
            root: tree.root(),
            count: tree.count(),
        };
        items.push(digest.sign(signer)?);
        Carrier::of(items)
    }

    /// From all its items. RSA signatures cannot be made again: whoever posts a carrier twice keeps the signed items.
    ///
    /// # Errors
    /// Says what does not fit. The records' own signatures are the caller's to check.
    pub fn of(items: Vec<DataItem>) -> Result<Carrier> {
        let [.., segment_item, digest_item] = &items[..] else {
            return Err(CarrierError::Short(items.len()));
        };
        let (segment, digest) = (Draft::read(segment_item)?, Digest::read(digest_item)?);
        if segment_item.owner() != digest_item.owner() {
            return Err(CarrierError::Differ("signer"));
        }
        if segment.sequence != digest.sequence {
            return Err(CarrierError::Differ("sequence"));
        }
        for (what, item) in [(SEGMENT, segment_item), (DIGEST, digest_item)] {
            item.verify()
                .map_err(|error| CarrierError::Item { what, error })?;
        }
        let leaves = leaves(&items[..items.len() - 1], items.len());
        let tree = Tree::of(&leaves);
        if digest.count != tree.count() {
            return Err(CarrierError::Digest("count"));
        }
        if digest.root != tree.root() {
            return Err(CarrierError::Digest("root"));
        }
        let rows = items.iter().map(|item| (item.bytes().len() as u64, item.id()));
        let table = Bundle::table(rows);
        Ok(Carrier {
            items,
            segment,
            tree,
            leaves,
            table,
        })
    }

    /// Reads a carrier's bundle; the items share its bytes.
    ///
    /// # Errors
    /// Says what is wrong, and with which item.
    pub fn parse(bundle: &Bytes) -> Result<Carrier> {
        Carrier::of(Bundle::parse(bundle)?.items)
    }

    /// All items, closing ones included.
    pub fn items(&self) -> &[DataItem] {
        &self.items
    }

    /// The segment's records in order: items, and wrappers of withheld ones.
    pub fn records(&self) -> &[DataItem] {
        &self.items[..self.items.len() - 2]
    }

    /// The item before the last.
    pub fn segment_item(&self) -> &DataItem {
        &self.items[self.items.len() - 2]
    }

    /// The last item.
    pub fn digest_item(&self) -> &DataItem {
        &self.items[self.items.len() - 1]
    }

    /// What the segment item says.
    pub fn segment(&self) -> &Draft {
        &self.segment
    }

    /// The tree that the digest states.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Places of all items but the digest item.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Bytes of the bundle. It ends in the digest item.
    pub fn bundle_len(&self) -> u64 {
        let items = self.items.iter().map(|item| item.bytes().len() as u64);
        self.table.len() as u64 + items.sum::<u64>()
    }

    /// The bundle in pieces, without copying the items: its table, then each item.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> + '_ {
        let items = self.items.iter().map(|item| item.bytes().clone());
        std::iter::once(self.table.clone()).chain(items)
    }
}

/// Where items lie in a bundle of `count` items that begins with them.
fn leaves(items: &[DataItem], count: usize) -> Vec<Leaf> {
    let mut offset = Bundle::table_len(count);
    let leaf = |(index, item): (usize, &DataItem)| {
        let size = item.bytes().len() as u64;
        offset += size;
        Leaf {
            index: index as u64,
            id: item.id(),
            offset: offset - size,
            size,
        }
    };
    items.iter().enumerate().map(leaf).collect()
}

/// Stands in the bundle for an item whose data was withheld.
///
/// # Errors
/// A key that cannot sign.
pub fn wrap(withheld: &Withheld, signer: &Signer) -> Result<DataItem> {
    let mut tags = own_tags("Withheld");
    tags.push(Tag::new("Item", withheld.id().to_string()));
    sign(WRAPPER, tags, withheld.encode(), signer)
}

const WRAPPER: &str = "wrapper of a withheld item";

/// What a wrapper stands for: it verifies, and so does what is left of the item in it.
///
/// # Errors
/// Says what is wrong with it.
pub fn unwrap(wrapper: &DataItem) -> Result<Withheld> {
    let wrong = |error| CarrierError::Item { what: WRAPPER, error };
    check_own(WRAPPER, wrapper, "Withheld")?;
    wrapper.verify().map_err(wrong)?;
    let withheld = Withheld::decode(&wrapper.data()).map_err(wrong)?;
    withheld.verify().map_err(wrong)?;
    match optional_id(WRAPPER, wrapper, "Item")? == Some(withheld.id()) {
        true => Ok(withheld),
        false => Err(tag_error(WRAPPER, "Item")),
    }
}

/// The tags of whatever brings a carrier's bundle to the weave: a transaction, or a bundler's data item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarrierTags {
    /// As in the segment item.
    pub epoch: u64,
    /// Counts the node's carriers, from 0.
    pub sequence: u64,
    /// Id of the segment item inside.
    pub segment_item: ItemId,
    /// Earlier carriers' transactions or items, the newest permanent one first.
    pub previous: Vec<ItemId>,
}

const CARRIER: &str = "tags";

impl CarrierTags {
    /// The tags, in the wire's order.
    ///
    /// # Errors
    /// More than [`PREVIOUS_MAX`] earlier carriers.
    pub fn encode(&self) -> Result<Tags> {
        if self.previous.len() > PREVIOUS_MAX {
            return Err(CarrierError::Previous(self.previous.len()));
        }
        let mut tags = vec![
            Tag::new("Bundle-Format", "binary"),
            Tag::new("Bundle-Version", "2.0.0"),
        ];
        tags.extend(own_tags("Carrier"));
        tags.push(Tag::new("Sequence", self.sequence.to_string()));
        tags.extend(epoch_tag(self.epoch));
        tags.push(Tag::new("Segment-Item", self.segment_item.to_string()));
        let previous = self.previous.iter();
        tags.extend(previous.map(|id| Tag::new("Prev-Bundle", id.to_string())));
        Ok(tags)
    }

    /// Reads them. That they are there says nothing yet: anybody can write them.
    ///
    /// # Errors
    /// Names the tag.
    pub fn read(tags: &[Tag]) -> Result<CarrierTags> {
        let fixed = [("Bundle-Format", "binary"), ("Bundle-Version", "2.0.0")];
        for (name, value) in fixed.into_iter().chain(own("Carrier")) {
            if tags::first(tags, name) != Some(value) {
                return Err(tag_error(CARRIER, name));
            }
        }
        let previous = tags::all(tags, "Prev-Bundle").map(str::parse);
        let previous: Vec<ItemId> = previous
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| tag_error(CARRIER, "Prev-Bundle"))?;
        if previous.len() > PREVIOUS_MAX {
            return Err(CarrierError::Previous(previous.len()));
        }
        let segment_item = tags::first(tags, "Segment-Item").and_then(|text| text.parse().ok());
        let sequence = tags::first(tags, "Sequence").and_then(one_spelling);
        Ok(CarrierTags {
            epoch: epoch(CARRIER, tags::first(tags, "Epoch"))?,
            sequence: sequence.ok_or(tag_error(CARRIER, "Sequence"))?,
            segment_item: segment_item.ok_or(tag_error(CARRIER, "Segment-Item"))?,
            previous,
        })
    }
}

/// The three tags that say what an item of ours is.
pub(crate) fn own(kind: &'static str) -> [(&'static str, &'static str); 3] {
    [("Data-Protocol", PROTOCOL), ("Variant", VARIANT), ("Type", kind)]
}

pub(crate) fn own_tags(kind: &'static str) -> Tags {
    own(kind).map(|(name, value)| Tag::new(name, value)).into()
}

fn check_own(what: &'static str, item: &DataItem, kind: &'static str) -> Result<()> {
    let other = own(kind)
        .into_iter()
        .find(|(name, value)| item.tag(name) != Some(value));
    other.map_or(Ok(()), |(tag, _)| Err(tag_error(what, tag)))
}

fn sign(what: &'static str, tags: Tags, data: Bytes, signer: &Signer) -> Result<DataItem> {
    let parts = ItemParts {
        tags,
        data,
        ..ItemParts::default()
    };
    DataItem::sign(&parts, signer).map_err(|error| CarrierError::Item { what, error })
}

/// The first epoch is not written.
fn epoch_tag(epoch: u64) -> Option<Tag> {
    (epoch > 0).then(|| Tag::new("Epoch", epoch.to_string()))
}

fn epoch(what: &'static str, text: Option<&str>) -> Result<u64> {
    let Some(text) = text else { return Ok(0) };
    let epoch = one_spelling(text).filter(|epoch| *epoch > 0);
    epoch.ok_or(tag_error(what, "Epoch"))
}

fn number(what: &'static str, item: &DataItem, tag: &'static str) -> Result<u64> {
    let number = item.tag(tag).and_then(one_spelling);
    number.ok_or(tag_error(what, tag))
}

fn optional_id(what: &'static str, item: &DataItem, tag: &'static str) -> Result<Option<ItemId>> {
    let id = item.tag(tag).map(str::parse).transpose();
    id.map_err(|_| tag_error(what, tag))
}

/// A decimal number without a sign or leading zeros.
fn one_spelling(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn array(bytes: &[u8]) -> Hash {
    bytes.try_into().expect("callers cut out 32 bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
