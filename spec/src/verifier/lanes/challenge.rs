//! What eight signatures' scalars are hashed from: the deep hash, and SHA-512 of nonce, key and deep hash.
//!
//! Not here: the hash functions (`sha`), the deep hash's meaning (`crate::deep_hash`). The invariant: each lane's hash
//! is what the item alone would give.

use super::sha::{sha384, sha512};
use super::table::LANES;
use crate::deep_hash::{self, DEEP_HASH_LEN, DeepHash};
use crate::verifier::{SIGNED_LEN, Signed};

/// Fields up to this many bytes are hashed beside each other; for a longer one the other lanes would wait.
const SHORT: usize = 1024;

/// The hash of each.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn hashes(items: &[&Signed<'_>; LANES]) -> [[u8; 64]; LANES] {
    let mut sums = items.map(|signed| *signed.opening);
    let fields = items.map(|signed| signed.item.fields());
    for field in 0..fields[0].len() {
        let blobs = blobs(fields.map(|fields| fields[field]));
        let pairs = joined(&sums, &blobs);
        sums = sha384(pairs.each_ref().map(|pair| &pair[..]));
    }
    let mut messages = [[0; SIGNED_LEN]; LANES];
    for (message, (signed, sum)) in messages.iter_mut().zip(items.iter().zip(&sums)) {
        *message = signed.message(sum);
    }
    sha512(messages.each_ref().map(|message| &message[..]))
}

/// The deep hash of each blob.
#[target_feature(enable = "avx512f,avx512ifma")]
fn blobs(blobs: [&[u8]; LANES]) -> [DeepHash; LANES] {
    // The empty blob's is known, and long ones go alone.
    if blobs.iter().all(|blob| blob.is_empty() || blob.len() > SHORT) {
        return blobs.map(deep_hash::blob);
    }
    let short = blobs.map(|blob| if blob.len() > SHORT { &[] } else { blob });
    let tags = short.map(|blob| deep_hash::tag(blob.len() as u64));
    let pairs = joined(&tags, &sha384(short));
    let mut out = sha384(pairs.each_ref().map(|pair| &pair[..]));
    for (out, blob) in out.iter_mut().zip(blobs).filter(|(_, blob)| blob.len() > SHORT) {
        *out = deep_hash::blob(blob);
    }
    out
}

/// Each of the first beside its one of the second.
fn joined(first: &[DeepHash; LANES], second: &[DeepHash; LANES]) -> [[u8; 2 * DEEP_HASH_LEN]; LANES] {
    let mut out = [[0; 2 * DEEP_HASH_LEN]; LANES];
    for (out, (first, second)) in out.iter_mut().zip(first.iter().zip(second)) {
        out[..DEEP_HASH_LEN].copy_from_slice(first);
        out[DEEP_HASH_LEN..].copy_from_slice(second);
    }
    out
}
