//! The deep hash: what a signature signs.
//!
//! A blob hashes to `H(H("blob" + length) + H(bytes))`; a list folds its elements into
//! `H("list" + count)`. `H` is SHA-384 and lengths are decimal text (ANS-104, section 2).

use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA384, digest};

/// Length of a deep hash, in bytes.
pub const DEEP_HASH_LEN: usize = 48;

/// A SHA-384 value over some structure.
pub type DeepHash = [u8; DEEP_HASH_LEN];

/// SHA-384 of some bytes.
pub fn sha384(bytes: &[u8]) -> DeepHash {
    to_array(digest(&SHA384, bytes))
}

/// The deep hash of one blob.
pub fn blob(bytes: &[u8]) -> DeepHash {
    match bytes {
        [] => *EMPTY,
        bytes => blob_of(bytes.len() as u64, &sha384(bytes)),
    }
}

/// The deep hash of the empty blob: most items lack a field or two.
static EMPTY: LazyLock<DeepHash> = LazyLock::new(|| pair(&length_tag(0), &sha384(b"")));

/// Lengths whose tags are kept: all fields but the data are short.
const KEPT_TAGS: u64 = 1024;
/// The tags of short blobs, each hashed once instead of once per field of every item.
static TAGS: LazyLock<Vec<DeepHash>> = LazyLock::new(|| (0..KEPT_TAGS).map(length_tag).collect());

/// The deep hash of a blob known only by its length and its SHA-384: how an item whose data was
/// withheld still verifies.
pub fn blob_of(len: u64, inner: &DeepHash) -> DeepHash {
    pair(&tag(len), inner)
}

/// The hash of a blob's length with its word.
pub(crate) fn tag(len: u64) -> DeepHash {
    match len {
        0..KEPT_TAGS => TAGS[len as usize],
        _ => length_tag(len),
    }
}

fn length_tag(len: u64) -> DeepHash {
    let mut text = *b"blob\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    sha384(decimal(&mut text, len))
}

/// The deep hash of a flat list of blobs.
pub fn list(blobs: &[&[u8]]) -> DeepHash {
    fold(blobs.len(), blobs.iter().map(|bytes| blob(bytes)))
}

/// Folds the deep hashes of a list's elements.
pub fn fold(count: usize, elements: impl IntoIterator<Item = DeepHash>) -> DeepHash {
    let mut text = *b"list\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let head = sha384(decimal(&mut text, count as u64));
    go_on(head, elements)
}

/// Folds further elements onto what a list's first ones came to.
pub fn go_on(start: DeepHash, elements: impl IntoIterator<Item = DeepHash>) -> DeepHash {
    let elements = elements.into_iter();
    elements.fold(start, |acc, element| pair(&acc, &element))
}

/// Writes a number behind a four-letter word, without an allocation.
fn decimal(text: &mut [u8; 24], mut number: u64) -> &[u8] {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let len = digits.len() - at;
    text[4..4 + len].copy_from_slice(&digits[at..]);
    &text[..4 + len]
}

fn pair(a: &DeepHash, b: &DeepHash) -> DeepHash {
    let mut context = Context::new(&SHA384);
    context.update(a);
    context.update(b);
    to_array(context.finish())
}

fn to_array(digest: aws_lc_rs::digest::Digest) -> DeepHash {
    let mut hash = [0; DEEP_HASH_LEN];
    hash.copy_from_slice(digest.as_ref());
    hash
}
