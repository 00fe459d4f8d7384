//! A carrier's bundle: made once from a sealed segment, and put together again whenever its bytes are needed.
//!
//! Not here: signing and posting what carries it. The invariant: the same note and the same file give the same
//! bytes; if the file was written anew since, that is noticed. One copy is held, in pieces.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use spec::carrier::{self, Draft, Range, SegmentData};
use spec::chunks::{CHUNK_LEN_MAX, Chunk, Hash, Tree};
use spec::{DataItem, ItemId, ItemParts, ProcessId, Refusal, Signer, Tags};

use super::note::Bundled;
use crate::network::ChunkPost;
use crate::record::Record;
use crate::segment::Segment;
use crate::skeleton::{self, Parts};

/// How hard skeletons are compressed: they are frames' heads, which any level halves and more.
const ZSTD_LEVEL: i32 = 3;

/// A carrier's bytes, and the tree over their chunks.
#[derive(Debug)]
pub struct Bundle {
    /// Where each piece begins.
    starts: Vec<u64>,
    pieces: Vec<Bytes>,
    len: u64,
    tree: Tree,
}

impl Bundle {
    fn of(carrier: &carrier::Carrier) -> Bundle {
        let (mut starts, mut pieces, mut len) = (Vec::new(), Vec::new(), 0);
        for piece in carrier.pieces() {
            starts.push(len);
            len += piece.len() as u64;
            pieces.push(piece);
        }
        assert_eq!(len, carrier.bundle_len(), "the pieces are the bundle");
        let tree = Tree::from_hashes(len, |start, end| hash(&starts, &pieces, start, end));
        Bundle {
            starts,
            pieces,
            len,
            tree,
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a bundle has a table.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Root over its chunks.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The chunks to post, in order.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.tree.chunks()
    }

    /// A stretch of its bytes.
    pub fn read(&self, start: u64, end: u64) -> Bytes {
        assert!(start <= end && end <= self.len, "a stretch of the bundle");
        let mut out = BytesMut::with_capacity((end - start) as usize);
        parts(&self.starts, &self.pieces, start, end).for_each(|part| out.extend_from_slice(&part));
        out.freeze()
    }

    /// A chunk with its proof, as peers take it.
    pub fn post_of(&self, chunk: &Chunk) -> ChunkPost {
        assert!(chunk.end - chunk.start <= CHUNK_LEN_MAX, "a chunk of the tree");
        let data_path = self.tree.proof(chunk.start).expect("a chunk of the tree");
        ChunkPost {
            data_root: self.root(),
            data_size: self.len,
            data_path: data_path.into(),
            offset: chunk.end - 1,
            chunk: self.read(chunk.start, chunk.end),
        }
    }

    /// As the data of an item of these tags, signed. Holds the bytes once more.
    ///
    /// # Errors
    /// A key that cannot sign.
    pub fn sign_as_item(&self, tags: Tags, wallet: &Signer) -> Result<DataItem, Refusal> {
        let parts = ItemParts {
            tags,
            data: self.read(0, self.len),
            ..ItemParts::default()
        };
        Ok(DataItem::sign(&parts, wallet)?)
    }

    /// As the data of an item signed before, of which this is the head.
    ///
    /// # Errors
    /// If head and data are no item.
    pub fn behind(&self, head: &[u8]) -> Result<DataItem, Refusal> {
        let mut out = BytesMut::with_capacity(head.len() + self.len as usize);
        out.extend_from_slice(head);
        self.pieces.iter().for_each(|piece| out.extend_from_slice(piece));
        Ok(DataItem::parse(out.freeze())?)
    }
}

/// The pieces' parts that make up a stretch.
fn parts<'a>(
    starts: &'a [u64],
    pieces: &'a [Bytes],
    start: u64,
    end: u64,
) -> impl Iterator<Item = Bytes> + 'a {
    let first = starts.partition_point(|at| *at <= start).saturating_sub(1);
    let here = starts[first..].iter().zip(&pieces[first..]);
    let cut = move |(at, piece): (&u64, &Bytes)| {
        let from = start.saturating_sub(*at).min(piece.len() as u64);
        let to = (end - at).min(piece.len() as u64);
        piece.slice(from as usize..to as usize)
    };
    here.take_while(move |(at, _)| **at < end).map(cut)
}

fn hash(starts: &[u64], pieces: &[Bytes], start: u64, end: u64) -> Hash {
    let mut hash = Context::new(&SHA256);
    parts(starts, pieces, start, end).for_each(|part| hash.update(&part));
    hash.finish().as_ref().try_into().expect("a digest has 32 bytes")
}

/// The segment items that a new one names.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// Of the carrier before.
    pub prev_segment: Option<ItemId>,
    /// Of this carrier, that later ones name.
    pub replaces: Vec<ItemId>,
}

/// Makes the bundle of a sealed segment, and the note of it.
///
/// # Errors
/// Damage to the segment, or a key that cannot sign.
pub fn make(
    segment: &Segment,
    (epoch, sequence): (u64, u64),
    chain: Chain,
    node: &Signer,
) -> Result<(Bundled, Bundle), Refusal> {
    let parts = skeleton::take(segment)?;
    let (records, mut own) = items(&parts, |withheld| carrier::wrap(withheld, node).map_err(internal))?;
    let data = SegmentData {
        file_len: parts.file_len,
        ranges: ranges(&records, node.owner()),
        skeleton: parts.skeleton.into(),
    };
    let data = data.encode().map_err(internal)?;
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
    zstd_safe::compress(&mut packed, &data, ZSTD_LEVEL).expect("the bound is enough");
    let draft = Draft {
        epoch,
        sequence,
        segment: segment.head().number,
        prev_segment: chain.prev_segment,
        replaces: chain.replaces,
        segment_sha256: parts.sha256,
        data: packed.into(),
    };
    let items = records.len() as u64;
    let carrier = carrier::Carrier::build(records, &draft, node).map_err(internal)?;
    own.extend([carrier.segment_item().clone(), carrier.digest_item().clone()]);
    let bundle = Bundle::of(&carrier);
    let bundled = Bundled {
        sequence,
        segment: segment.head().number,
        segment_sha256: parts.sha256,
        data_root: bundle.root(),
        bundle_len: bundle.len(),
        items,
        own,
    };
    Ok((bundled, bundle))
}

/// Puts a bundle together again. `None` if the segment was written anew since.
///
/// # Errors
/// Damage to the segment.
pub fn load(segment: &Segment, bundled: &Bundled) -> Result<Option<Bundle>, Refusal> {
    let parts = skeleton::take(segment)?;
    if parts.sha256 != bundled.segment_sha256 {
        return Ok(None);
    }
    let mut own = bundled.own.iter().cloned();
    let missing = || Refusal::internal("a note of the uploader has too few wrappers");
    let (mut all, _) = items(&parts, |_| own.next().ok_or_else(missing))?;
    all.extend(own);
    let bundle = Bundle::of(&carrier::Carrier::of(all).map_err(internal)?);
    assert_eq!(
        (bundle.root(), bundle.len()),
        (bundled.data_root, bundled.bundle_len),
        "the same file and note make the same bundle"
    );
    Ok(Some(bundle))
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::internal(format!("a carrier cannot be made: {error}"))
}

/// A segment's records as items, and those of them that stand for withheld ones.
fn items(
    parts: &Parts,
    mut wrapper: impl FnMut(&spec::Withheld) -> Result<DataItem, Refusal>,
) -> Result<(Vec<DataItem>, Vec<DataItem>), Refusal> {
    let (mut all, mut wrappers) = (Vec::with_capacity(parts.records.len() + 2), Vec::new());
    for record in &parts.records {
        match record {
            Record::Item(item) => all.push(item.clone()),
            Record::Withheld(withheld) => {
                let item = wrapper(withheld)?;
                wrappers.push(item.clone());
                all.push(item);
            }
            Record::Note(_) => unreachable!("a segment's notes are in its skeleton"),
        }
    }
    Ok((all, wrappers))
}

/// What assignments of the node's own key lie in a segment. Texts of strangers prove nothing and are left out.
fn ranges(records: &[DataItem], owner: &[u8]) -> Vec<Range> {
    let mut ranges: BTreeMap<ProcessId, Range> = BTreeMap::new();
    let own = records.iter().filter(|item| item.owner() == owner);
    for item in own.filter(|item| item.tag("Type") == Some("Assignment")) {
        let process = item.tag("Process").and_then(|text| text.parse().ok());
        let slot = item.tag("Nonce").and_then(|text| text.parse().ok());
        let (Some(process), Some(slot)) = (process, slot) else {
            continue;
        };
        let new = || Range {
            process,
            first: slot,
            last: slot,
            count: 0,
            last_assignment: item.id(),
        };
        let range = ranges.entry(process).or_insert_with(new);
        (range.first, range.last) = (range.first.min(slot), range.last.max(slot));
        range.count = (range.count + 1).min(range.last - range.first + 1);
        range.last_assignment = item.id();
    }
    ranges.into_values().collect()
}
