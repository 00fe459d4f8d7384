//! A sealed segment taken apart into its records and the rest of the file, and put together again byte for byte.
//!
//! Not here: the bundle that carries both, compression. The invariant: `put` of what `take` gave is the file.
//! Source: spec/carrier.md, "Segment item".

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf, Bytes};
use spec::chunks::Hash;

use crate::error::{Error, Result};
use crate::frame::{self, FRAME_LEN, FrameHead, FrameKind, HEAD_LEN, SegmentHead};
use crate::record::Record;
use crate::scan::Window;
use crate::segment::Segment;

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

/// Why a skeleton and records make no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its first bytes are no segment's head.
    #[error("the skeleton does not begin with a segment's head")]
    Head,
    /// It ends inside a frame, or has no footer.
    #[error("the skeleton is cut off at byte {0}")]
    CutOff(usize),
    /// There are fewer or more records than it has places for, or one has another length.
    #[error("record {0} does not fit the skeleton")]
    Record(usize),
    /// Together they are longer or shorter than the file was.
    #[error("skeleton and records do not have the file's length")]
    Length,
}

/// Puts a segment's file together. `payloads` are its records' payloads in order: an item's bytes, or what a wrapper
/// of a withheld item carries.
///
/// # Errors
/// If they do not fit. Whether the file is the one it was, its SHA-256 tells.
pub fn put(
    skeleton: &[u8],
    file_len: u64,
    payloads: impl IntoIterator<Item = Bytes>,
) -> std::result::Result<Vec<u8>, Unfit> {
    let salt = SegmentHead::read(skeleton).map_err(|_| Unfit::Head)?.salt;
    let most = usize::try_from(file_len).map_err(|_| Unfit::Length)?;
    let mut out = skeleton[..HEAD_LEN].to_vec();
    let (mut rest, mut payloads) = (&skeleton[HEAD_LEN..], payloads.into_iter().enumerate());
    // A frame begins with its zeroed checksum, a footer does not.
    while rest.starts_with(&[0; 4]) {
        let cut_off = Unfit::CutOff(skeleton.len() - rest.len());
        let head = FrameHead::read(rest).ok_or(cut_off)?;
        let start = out.len();
        if is_record(head.kind) {
            let (index, payload) = payloads.next().ok_or(cut_off)?;
            if payload.len() as u64 != u64::from(head.len) {
                return Err(Unfit::Record(index));
            }
            out.extend_from_slice(&rest[..FRAME_LEN]);
            out.extend_from_slice(&payload);
            rest.advance(FRAME_LEN);
        } else {
            let span = usize::try_from(head.span()).map_err(|_| cut_off)?;
            out.extend_from_slice(rest.get(..span).ok_or(cut_off)?);
            rest.advance(span);
        }
        if out.len() > most {
            return Err(Unfit::Length);
        }
        frame::close(&mut out[start..], salt);
    }
    if let Some((index, _)) = payloads.next() {
        return Err(Unfit::Record(index));
    }
    out.extend_from_slice(rest);
    match out.len() == most {
        true => Ok(out),
        false => Err(Unfit::Length),
    }
}
