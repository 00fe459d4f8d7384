//! Checks a carrier's bundle down to every signature, and makes its segment file.
//!
//! Pure. Not here: who may sign what in which process; the caller looks at the records. The invariant: what is handed
//! out is the node's own file, byte for byte, and each item in it verifies.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use spec::carrier::{SEGMENT_DATA_LEN_MAX, SegmentData};
use spec::contract::Class;
use spec::ids::base64url;
use spec::verifier::Verifier;
use spec::{Carrier, DataItem, Withheld};

use super::Claim;
use crate::frame::{self, FRAME_LEN, FrameHead, FrameKind, HEAD_LEN, SegmentHead};
use crate::record::Record;
use crate::segment::FOOTER_MAGIC;
use crate::skeleton;

/// A carrier whose every byte is accounted for.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What its segment item says.
    pub segment: spec::carrier::Draft,
    /// The segment item.
    pub segment_item: DataItem,
    /// The item that closes the bundle.
    pub digest_item: DataItem,
    /// What the segment item says of processes' logs.
    pub ranges: Vec<spec::carrier::Range>,
    /// The sealed segment file.
    pub file: Bytes,
    /// Its records in order, notes included.
    pub records: Vec<Record>,
    /// The items of the bundle that the node signed: wrappers, then the closing ones.
    pub own: Vec<DataItem>,
}

/// Checks the bundle of a claim.
///
/// # Errors
/// What is wrong, with the item and where it is.
pub fn check(claim: &Claim, bundle: &Bytes, verifier: &Verifier) -> Result<Checked, String> {
    let carrier = Carrier::parse(bundle).map_err(|error| error.to_string())?;
    let segment = carrier.segment().clone();
    if segment.sequence != claim.tags.sequence {
        return Err(format!(
            "its tags say sequence {}, its segment item says {}",
            claim.tags.sequence, segment.sequence
        ));
    }
    if segment.epoch != claim.tags.epoch {
        return Err(format!(
            "its tags say epoch {}, its segment item says {}",
            claim.tags.epoch, segment.epoch
        ));
    }
    if carrier.segment_item().id() != claim.tags.segment_item {
        return Err("its tags name another segment item than the one in it".into());
    }
    verifier.verify(carrier.records()).map_err(|(index, error)| {
        let leaf = &carrier.leaves()[index];
        format!(
            "item {index} ({}, at byte {} of the bundle): {error}",
            leaf.id, leaf.offset
        )
    })?;
    let data = unpack(&segment.data)?;
    let file = file(&carrier, &data)?;
    let records = records(&file, Some(carrier.records()))?;
    let of_bundle = records.iter().filter(|record| record.id().is_some());
    let wrappers = of_bundle
        .zip(carrier.records())
        .filter(|(record, _)| record.item().is_none());
    let mut own: Vec<DataItem> = wrappers.map(|(_, wrapper)| wrapper.clone()).collect();
    own.extend([carrier.segment_item().clone(), carrier.digest_item().clone()]);
    Ok(Checked {
        own,
        segment_item: carrier.segment_item().clone(),
        digest_item: carrier.digest_item().clone(),
        ranges: data.ranges,
        file,
        records,
        segment,
    })
}

/// What a segment item's compressed data holds.
pub(super) fn unpack(data: &Bytes) -> Result<SegmentData, String> {
    let most = SEGMENT_DATA_LEN_MAX as u64;
    let len = match zstd_safe::get_frame_content_size(data) {
        Ok(Some(len)) if len <= most => len,
        Ok(None) => most,
        _ => return Err("the segment item's data is no zstd frame of at most 64 MiB".into()),
    };
    let mut out = Vec::with_capacity(len as usize);
    zstd_safe::decompress(&mut out, data)
        .map_err(|code| format!("the segment item's data: {}", zstd_safe::get_error_name(code)))?;
    SegmentData::decode(&out.into()).map_err(|error| error.to_string())
}

fn file(carrier: &Carrier, data: &SegmentData) -> Result<Bytes, String> {
    // The bundle holds every byte of the file but the skeleton's: no length from outside is believed.
    let room = carrier.bundle_len() + data.skeleton.len() as u64;
    if data.file_len > room {
        return Err("its segment item says a longer file than skeleton and records make".into());
    }
    let mut file = Vec::with_capacity(data.file_len as usize);
    let node = carrier.segment_item().owner();
    skeleton::put(&data.skeleton, carrier.records(), node, |bytes| {
        file.extend_from_slice(bytes);
    })
    .map_err(|error| error.to_string())?;
    check_file(&file, carrier.segment())?;
    Ok(file.into())
}

/// Whether a file is the one that a segment item speaks of.
pub(super) fn check_file(file: &[u8], segment: &spec::carrier::Draft) -> Result<(), String> {
    let hash = digest(&SHA256, file);
    if hash.as_ref() != segment.segment_sha256 {
        return Err(format!(
            "segment {:08} comes out with SHA-256 {}, its segment item says {}",
            segment.segment,
            base64url(hash.as_ref()),
            base64url(&segment.segment_sha256)
        ));
    }
    let head = SegmentHead::read(file).map_err(|_| "its segment file has no head that can be read")?;
    if head.number != segment.segment || head.class != Class::Permanent {
        return Err(format!(
            "its segment item says permanent segment {:08}, the file's head says {:08}",
            segment.segment, head.number
        ));
    }
    Ok(())
}

/// The records of a sealed segment file, in order. `items` are its items where they were parsed already.
pub(super) fn records(file: &Bytes, items: Option<&[DataItem]>) -> Result<Vec<Record>, String> {
    let mut items = items.map(|items| items.iter());
    let (mut at, mut records) = (HEAD_LEN, Vec::new());
    while !file[at.min(file.len())..].starts_with(FOOTER_MAGIC) {
        let head = FrameHead::read(&file[at.min(file.len())..]);
        let head = head.ok_or_else(|| format!("no frame begins at byte {at} of its segment file"))?;
        let end = at + head.span() as usize;
        let payload = (end <= file.len()).then(|| file.slice(at + FRAME_LEN..end));
        let payload =
            payload.ok_or_else(|| format!("the frame at byte {at} of its segment file is cut off"))?;
        let known = match head.kind {
            FrameKind::Item | FrameKind::Withheld | FrameKind::Emptied => {
                items.as_mut().and_then(Iterator::next)
            }
            FrameKind::Note | FrameKind::Group => None,
        };
        match (head.kind, known) {
            (FrameKind::Group, _) => {}
            (FrameKind::Item, Some(item)) => records.push(Record::Item(item.clone())),
            (FrameKind::Withheld | FrameKind::Emptied, _) => {
                records.push(Record::Withheld(withheld(&payload, at)?));
            }
            (kind, _) => {
                records.push(frame::record(kind, payload).map_err(|why| format!("byte {at}: {why}"))?)
            }
        }
        at = end;
    }
    Ok(records)
}

fn withheld(payload: &Bytes, at: usize) -> Result<Withheld, String> {
    Withheld::decode(payload).map_err(|error| format!("byte {at}: {error}"))
}
