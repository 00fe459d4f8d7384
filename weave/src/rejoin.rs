//! A segment's file made of a skeleton and the items of a bundle, wrappers of withheld items among them; and a file's
//! bytes taken apart.
//!
//! Pure. Not here: files, compression, the bundle (`spec::carrier`). The invariant: what `take_apart` took apart,
//! `put_together` makes again byte for byte. Source: spec/carrier.md, "Segment item".

use bytes::{BufMut, Bytes, BytesMut};
use spec::{DataItem, Withheld, carrier};

use crate::frame::{self, FRAME_LEN, FrameHead, FrameKind, HEAD_LEN, SegmentHead};
use crate::segment::FOOTER_MAGIC;

/// Why a file or a skeleton is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the {of}: {why}")]
pub struct SkeletonError {
    /// Which bytes: a segment, or a skeleton.
    pub of: &'static str,
    /// Where in them.
    pub at: usize,
    /// What is wrong.
    pub why: String,
}

/// A record of a segment that has an item in its bundle.
#[derive(Debug, Clone)]
pub enum Piece {
    /// An item, verbatim.
    Item(DataItem),
    /// An item without its data; it travels in a wrapper.
    Withheld(Withheld),
}

/// A sealed segment in its two parts.
#[derive(Debug, Clone)]
pub struct Apart {
    /// The file without its records' items, frames' checksums zeroed.
    pub skeleton: Bytes,
    /// The records in order. They share the file's bytes.
    pub records: Vec<Piece>,
}

/// Walks the frames of a segment or a skeleton.
struct Walk<'a> {
    of: &'static str,
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Walk<'a> {
    /// After the head; with the salt of the file's checksums.
    fn begin(of: &'static str, bytes: &'a Bytes) -> Result<(Walk<'a>, u32), SkeletonError> {
        let walk = Walk { of, bytes, at: 0 };
        let head = SegmentHead::read(bytes).map_err(|_| walk.error("it does not begin as a segment does"))?;
        Ok((Walk { at: HEAD_LEN, ..walk }, head.salt))
    }

    fn error(&self, why: impl Into<String>) -> SkeletonError {
        SkeletonError {
            of: self.of,
            at: self.at,
            why: why.into(),
        }
    }

    /// Whether the footer begins here.
    fn is_footer(&self) -> bool {
        // No frame begins so: its length would be 1.4 GB, or in a skeleton its checksum not zero.
        self.bytes[self.at..].starts_with(FOOTER_MAGIC)
    }

    fn head(&self) -> Result<FrameHead, SkeletonError> {
        let head = FrameHead::read(&self.bytes[self.at..]);
        head.ok_or_else(|| self.error("neither a frame nor the footer begins here"))
    }

    /// Goes on by so many bytes, and answers with them.
    fn take(&mut self, len: usize) -> Result<Bytes, SkeletonError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("cut off"))?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..)
    }
}

/// Whether a frame's payload travels as an item of the bundle.
fn travels(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Item | FrameKind::Withheld | FrameKind::Emptied)
}

/// Takes a sealed segment's bytes apart.
///
/// # Errors
/// Damage, by its place; or that it is not sealed.
pub fn take_apart(file: &Bytes) -> Result<Apart, SkeletonError> {
    let (mut walk, salt) = Walk::begin("segment", file)?;
    let mut skeleton = BytesMut::from(&file[..HEAD_LEN]);
    let mut records = Vec::new();
    while !walk.is_footer() {
        let head = walk.head()?;
        let begun = Walk { ..walk };
        let bytes = walk.take(head.span() as usize)?;
        if !frame::checks(&bytes, salt) {
            return Err(
                begun.error("a frame's checksum is wrong; remedy: a backup, or the bundle if it went up")
            );
        }
        skeleton.put_bytes(0, 4);
        skeleton.put_slice(&bytes[4..FRAME_LEN]);
        let payload = bytes.slice(FRAME_LEN..);
        match travels(head.kind) {
            true => records.push(piece(head.kind, payload).map_err(|why| begun.error(why))?),
            false => skeleton.put_slice(&payload),
        }
    }
    skeleton.put_slice(&walk.rest());
    Ok(Apart {
        skeleton: skeleton.freeze(),
        records,
    })
}

fn piece(kind: FrameKind, payload: Bytes) -> Result<Piece, String> {
    match kind {
        FrameKind::Item => {
            let item = DataItem::parse(payload).map_err(|e| e.to_string())?;
            // Verified before it was written; the checksum says that the bytes are still the same.
            item.trust_own_log();
            Ok(Piece::Item(item))
        }
        _ => Withheld::decode(&payload)
            .map(Piece::Withheld)
            .map_err(|e| e.to_string()),
    }
}

/// Makes the file of a skeleton and the records of its bundle, and hands it out in pieces. Wrappers must be signed by
/// `node`, the key that signed the bundle's closing items; the items' own signatures are the caller's to check.
/// Whether it is the file that was meant, its SHA-256 tells.
///
/// # Errors
/// Says what does not fit. What was handed out until then is of no use.
pub fn put_together<'r>(
    skeleton: &Bytes,
    records: impl IntoIterator<Item = &'r DataItem>,
    node: &[u8],
    mut out: impl FnMut(&[u8]),
) -> Result<(), SkeletonError> {
    let (mut walk, salt) = Walk::begin("skeleton", skeleton)?;
    let mut records = records.into_iter();
    out(&skeleton[..HEAD_LEN]);
    while !walk.is_footer() {
        let head = walk.head()?;
        let bytes = walk.take(FRAME_LEN)?;
        let payload = match travels(head.kind) {
            true => {
                let item = records.next();
                let item =
                    item.ok_or_else(|| walk.error("the bundle has fewer records than the skeleton"))?;
                payload(head.kind, item, node).map_err(|why| walk.error(why))?
            }
            false => walk.take(head.len as usize)?,
        };
        if payload.len() as u64 != u64::from(head.len) {
            return Err(walk.error(format!(
                "a record has {} bytes, the frame is for {}",
                payload.len(),
                head.len
            )));
        }
        out(&frame::checksum(&[&bytes[4..], &payload], salt).to_le_bytes());
        out(&bytes[4..]);
        out(&payload);
    }
    if records.next().is_some() {
        return Err(walk.error("the bundle has more records than the skeleton"));
    }
    out(&walk.rest());
    Ok(())
}

fn payload(kind: FrameKind, item: &DataItem, node: &[u8]) -> Result<Bytes, String> {
    if kind == FrameKind::Item {
        return Ok(item.bytes().clone());
    }
    if item.owner() != node {
        return Err("an item stands for a withheld one, and the node did not sign it".into());
    }
    carrier::unwrap(item).map_err(|error| error.to_string())?;
    Ok(item.data())
}

#[cfg(test)]
mod tests {
    use spec::Signer;

    use super::*;

    fn vector() -> Bytes {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors/segment_v1.seg");
        std::fs::read(path).expect("the vector of storage.md").into()
    }

    fn node() -> Signer {
        Signer::ed25519(&[2; 32])
    }

    fn bundled(records: &[Piece]) -> Vec<DataItem> {
        let wrap = |piece: &Piece| match piece {
            Piece::Item(item) => item.clone(),
            Piece::Withheld(withheld) => carrier::wrap(withheld, &node()).expect("a key that signs"),
        };
        records.iter().map(wrap).collect()
    }

    fn file_of(skeleton: &Bytes, records: &[DataItem]) -> Result<Vec<u8>, SkeletonError> {
        let mut file = Vec::new();
        put_together(skeleton, records, node().owner(), |bytes| {
            file.extend_from_slice(bytes);
        })?;
        Ok(file)
    }

    #[test]
    fn a_file_with_every_kind_of_record_is_made_again_byte_for_byte() {
        let file = vector();
        let apart = take_apart(&file).expect("a sealed segment");
        assert!(
            apart
                .records
                .iter()
                .any(|piece| matches!(piece, Piece::Withheld(_)))
        );
        assert!(apart.records.iter().any(|piece| matches!(piece, Piece::Item(_))));
        let records = bundled(&apart.records);
        assert_eq!(file_of(&apart.skeleton, &records), Ok(file.to_vec()));
        assert!(apart.skeleton.len() < file.len());
    }

    #[test]
    fn records_missing_left_over_swapped_or_signed_by_another_are_refused() {
        let apart = take_apart(&vector()).expect("a sealed segment");
        let records = bundled(&apart.records);
        let refused = |records: &[DataItem]| file_of(&apart.skeleton, records).is_err();
        assert!(refused(&records[1..]) && refused(&records[..records.len() - 1]));
        let mut more = records.clone();
        more.push(records[0].clone());
        assert!(refused(&more));
        let stranger = Signer::ed25519(&[3; 32]);
        for (at, piece) in apart.records.iter().enumerate() {
            let Piece::Withheld(withheld) = piece else {
                continue;
            };
            let mut bad = records.clone();
            bad[at] = carrier::wrap(withheld, &stranger).expect("a key that signs");
            assert!(refused(&bad), "a stranger's wrapper at {at}");
        }
    }

    #[test]
    fn damage_is_named_by_its_place_and_never_panics() {
        let file = vector();
        let apart = take_apart(&file).expect("a sealed segment");
        let records = bundled(&apart.records);
        for at in 0..file.len() {
            let mut bad = file.to_vec();
            bad[at] ^= 1;
            // The head's creation time and such are in its own checksum; the footer's is left to the reader of files.
            if let Ok(read) = take_apart(&bad.into()) {
                assert!(at >= file.len() - footer_len(&file), "byte {at}");
                assert_eq!(read.records.len(), apart.records.len());
            }
            assert!(take_apart(&file.slice(..at)).is_err() || at > file.len() - footer_len(&file));
        }
        for at in 0..apart.skeleton.len() {
            let mut bad = apart.skeleton.to_vec();
            bad[at] ^= 1;
            let made = file_of(&bad.into(), &records);
            assert!(
                made != Ok(file.to_vec()) || is_checksum(&apart.skeleton, at),
                "byte {at}"
            );
        }
    }

    fn footer_len(file: &[u8]) -> usize {
        let at = file.len() - 12;
        frame::u32_at(file, at) as usize + 12
    }

    /// Frames' checksums are zero in a skeleton and never read.
    fn is_checksum(skeleton: &Bytes, at: usize) -> bool {
        let (mut walk, _) = Walk::begin("skeleton", skeleton).expect("a skeleton");
        while !walk.is_footer() {
            if (walk.at..walk.at + 4).contains(&at) {
                return true;
            }
            let head = walk.head().expect("a frame");
            let len = if travels(head.kind) { 0 } else { head.len as usize };
            walk.take(FRAME_LEN + len).expect("a whole frame");
        }
        false
    }
}
