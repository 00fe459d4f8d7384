//! A sealed segment taken apart into its records and the rest of the file, and put together again byte for byte.
//!
//! Not here: the bundle that carries both (`spec::carrier`), compression. The invariant: `put` of what `take` gave is
//! the file. Source: spec/carrier.md, "Segment item".

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use spec::chunks::Hash;
use spec::{DataItem, carrier};

use crate::error::{Error, Result};
use crate::frame::{self, FRAME_LEN, FrameHead, FrameKind, HEAD_LEN, SegmentHead};
use crate::record::Record;
use crate::scan::Window;
use crate::segment::{FOOTER_MAGIC, Segment};

/// Bytes read at once of what follows the groups.
const STEP_LEN: u64 = 1 << 20;

/// A sealed segment, taken apart.
#[derive(Debug)]
pub struct Parts {
    /// The file without its records' payloads, frames' checksums zeroed.
    pub skeleton: Vec<u8>,
    /// The items and withheld items, in order.
    pub records: Vec<Record>,
    /// Bytes of the file.
    pub file_len: u64,
    /// SHA-256 of the file.
    pub sha256: Hash,
}

/// Takes a sealed segment apart.
///
/// # Errors
/// Damage; a segment that is not sealed.
pub fn take(segment: &Segment) -> Result<Parts> {
    let broken = |at, why: &str| Error::corrupt(segment.path(), at, why);
    let content = segment.footer()?;
    let content = content.ok_or_else(|| broken(0, "only a sealed segment is taken apart"))?;
    let file_len = segment.file_len()?;
    let (mut skeleton, mut records) = (Vec::new(), Vec::new());
    let mut hash = Context::new(&SHA256);
    let mut at = HEAD_LEN as u64;
    copy(segment, 0, at, &mut hash, &mut skeleton)?;
    let mut window = Window::new(content.end);
    while at < content.end {
        let frame = window.frame(segment, at)?;
        let (head, frame) = frame.ok_or_else(|| broken(at, "the record's checksum is wrong"))?;
        hash.update(frame);
        let is_record = is_record(head.kind);
        let kept = if is_record { FRAME_LEN } else { frame.len() };
        skeleton.extend_from_slice(&[0; 4]);
        skeleton.extend_from_slice(&frame[4..kept]);
        if is_record {
            let payload = Bytes::copy_from_slice(&frame[FRAME_LEN..]);
            let record = frame::record(head.kind, payload);
            records.push(record.map_err(|why| broken(at, &why))?);
        }
        at += head.span();
    }
    assert_eq!(at, content.end, "frames end where the segment's groups end");
    copy(segment, at, file_len, &mut hash, &mut skeleton)?;
    let sha256 = hash.finish().as_ref().try_into().expect("a digest has 32 bytes");
    Ok(Parts {
        skeleton,
        records,
        file_len,
        sha256,
    })
}

fn is_record(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Item | FrameKind::Withheld | FrameKind::Emptied)
}

/// Takes bytes over as they stand.
fn copy(segment: &Segment, from: u64, to: u64, hash: &mut Context, out: &mut Vec<u8>) -> Result<()> {
    let mut at = from;
    while at < to {
        let mut bytes = vec![0; (to - at).min(STEP_LEN) as usize];
        let have = segment.read_some(&mut bytes, at)?;
        if have < bytes.len() {
            return Err(Error::corrupt(segment.path(), at, "the file is cut off"));
        }
        hash.update(&bytes);
        out.extend_from_slice(&bytes);
        at += bytes.len() as u64;
    }
    Ok(())
}

/// SHA-256 of a segment's file as it is now.
///
/// # Errors
/// The operating system's refusal.
pub fn sha256(segment: &Segment) -> Result<Hash> {
    let mut hash = Context::new(&SHA256);
    let (len, mut at) = (segment.file_len()?, 0);
    let mut bytes = vec![0; STEP_LEN as usize];
    while at < len {
        let want = (len - at).min(STEP_LEN) as usize;
        let have = segment.read_some(&mut bytes[..want], at)?;
        if have == 0 {
            return Err(Error::corrupt(segment.path(), at, "the file is cut off"));
        }
        hash.update(&bytes[..have]);
        at += have as u64;
    }
    Ok(hash.finish().as_ref().try_into().expect("a digest has 32 bytes"))
}

/// Why a skeleton and records make no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the skeleton: {why}")]
pub struct Unfit {
    /// Where in it.
    pub at: usize,
    /// What is wrong.
    pub why: String,
}

type Fit<T> = std::result::Result<T, Unfit>;

/// Walks the frames of a skeleton.
struct Walk<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Walk<'a> {
    /// After the head; with the salt of the file's checksums.
    fn begin(bytes: &'a Bytes) -> Fit<(Walk<'a>, u32)> {
        let walk = Walk { bytes, at: 0 };
        let head = SegmentHead::read(bytes).map_err(|_| walk.error("it does not begin as a segment does"))?;
        Ok((Walk { at: HEAD_LEN, ..walk }, head.salt))
    }

    fn error(&self, why: impl Into<String>) -> Unfit {
        Unfit {
            at: self.at,
            why: why.into(),
        }
    }

    /// Whether the footer begins here.
    fn is_footer(&self) -> bool {
        // No frame begins so: its checksum would not be zero.
        self.bytes[self.at..].starts_with(FOOTER_MAGIC)
    }

    fn head(&self) -> Fit<FrameHead> {
        let head = FrameHead::read(&self.bytes[self.at..]);
        head.ok_or_else(|| self.error("neither a frame nor the footer begins here"))
    }

    /// Goes on by so many bytes, and answers with them.
    fn take(&mut self, len: usize) -> Fit<Bytes> {
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

/// Makes the file of a skeleton and the records of its bundle, and hands it out in pieces. Wrappers must be signed by
/// `node`, the key that signed the bundle's closing items; the items' own signatures are the caller's to check.
/// Whether it is the file that was meant, its SHA-256 tells.
///
/// # Errors
/// Says what does not fit. What was handed out until then is of no use.
pub fn put<'r>(
    skeleton: &Bytes,
    records: impl IntoIterator<Item = &'r DataItem>,
    node: &[u8],
    mut out: impl FnMut(&[u8]),
) -> Fit<()> {
    let (mut walk, salt) = Walk::begin(skeleton)?;
    let mut records = records.into_iter();
    out(&skeleton[..HEAD_LEN]);
    while !walk.is_footer() {
        let head = walk.head()?;
        let bytes = walk.take(FRAME_LEN)?;
        let payload = match is_record(head.kind) {
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

fn payload(kind: FrameKind, item: &DataItem, node: &[u8]) -> std::result::Result<Bytes, String> {
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
    use crate::testing::publisher::{apart, bundled};

    fn vector() -> Bytes {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors/segment_v1.seg");
        std::fs::read(path).expect("the vector of storage.md").into()
    }

    fn node() -> Signer {
        Signer::ed25519(&[2; 32])
    }

    fn file_of(skeleton: &[u8], records: &[DataItem]) -> Fit<Vec<u8>> {
        let mut file = Vec::new();
        put(&skeleton.to_vec().into(), records, node().owner(), |bytes| {
            file.extend_from_slice(bytes);
        })?;
        Ok(file)
    }

    #[test]
    fn a_file_with_every_kind_of_record_is_made_again_byte_for_byte() {
        let file = vector();
        let parts = apart(&file).expect("a sealed segment");
        assert!(parts.records.iter().any(|one| matches!(one, Record::Withheld(_))));
        assert!(parts.records.iter().any(|one| matches!(one, Record::Item(_))));
        let records = bundled(&parts.records, &node());
        assert_eq!(file_of(&parts.skeleton, &records), Ok(file.to_vec()));
        assert!(parts.skeleton.len() < file.len());
    }

    #[test]
    fn records_missing_left_over_swapped_or_signed_by_another_are_refused() {
        let parts = apart(&vector()).expect("a sealed segment");
        let records = bundled(&parts.records, &node());
        let refused = |records: &[DataItem]| file_of(&parts.skeleton, records).is_err();
        assert!(refused(&records[1..]) && refused(&records[..records.len() - 1]));
        let mut more = records.clone();
        more.push(records[0].clone());
        assert!(refused(&more));
        let strangers = bundled(&parts.records, &Signer::ed25519(&[3; 32]));
        for (at, record) in parts.records.iter().enumerate() {
            if matches!(record, Record::Withheld(_)) {
                let mut bad = records.clone();
                bad[at] = strangers[at].clone();
                assert!(refused(&bad), "a stranger's wrapper at {at}");
            }
        }
    }

    #[test]
    fn a_cut_or_changed_skeleton_never_panics_and_makes_another_file_or_none() {
        let file = vector();
        let parts = apart(&file).expect("a sealed segment");
        let records = bundled(&parts.records, &node());
        for at in 0..parts.skeleton.len() {
            let mut bad = parts.skeleton.clone();
            bad[at] ^= 1;
            let made = file_of(&bad, &records);
            assert!(
                made != Ok(file.to_vec()) || is_checksum(&parts.skeleton, at),
                "byte {at}"
            );
            assert_ne!(
                file_of(&parts.skeleton[..at], &records),
                Ok(file.to_vec()),
                "cut at {at}"
            );
        }
    }

    fn is_checksum(skeleton: &[u8], at: usize) -> bool {
        let skeleton = skeleton.to_vec().into();
        let (mut walk, _) = Walk::begin(&skeleton).expect("a skeleton");
        while !walk.is_footer() {
            if (walk.at..walk.at + 4).contains(&at) {
                return true;
            }
            let head = walk.head().expect("a frame");
            let len = if is_record(head.kind) {
                0
            } else {
                head.len as usize
            };
            walk.take(FRAME_LEN + len).expect("a whole frame");
        }
        false
    }
}
