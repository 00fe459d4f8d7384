//! The hash by which a pushed message is known again when its sender signs it a second time.
//!
//! It leaves out the signer and the tag `Pushed-For` and sorts the tags, so that the same outbox
//! entry gives the same hash however often it is signed. Source: the legacy scheduler's
//! duplicate check; `spec/vectors/push_hash.json` pins it.

use crate::deep_hash::{DeepHash, list};
use crate::item::DataItem;
use crate::tags::{Tag, Tags, encode_unchecked};

/// The hash of an item's target, anchor, sorted tags and data.
pub fn push_hash(item: &DataItem) -> DeepHash {
    let target = item.target().map_or(&[][..], |t| t);
    let anchor = item.anchor().map_or(&[][..], |a| a);
    of_parts(target, anchor, item.tags(), &item.data())
}

/// The same, of parts not yet signed.
pub fn of_parts(target: &[u8], anchor: &[u8], tags: &[Tag], data: &[u8]) -> DeepHash {
    let mut kept: Tags = tags
        .iter()
        .filter(|tag| tag.name != b"Pushed-For"[..])
        .cloned()
        .collect();
    kept.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    list(&[
        b"dataitem",
        b"1",
        b"1",
        b"",
        target,
        anchor,
        &encode_unchecked(&kept),
        data,
    ])
}
