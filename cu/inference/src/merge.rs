//! Merging neighbours of a text, the worthiest pair first: how vocabularies of pieces cut a text.
//!
//! Not here: what a pair is worth (`vocabulary.rs`, `pairs.rs`). Invariant: a text's merges cost its length times the
//! logarithm of that, whatever the vocabulary.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Two neighbours that could become one: the worthiest first, then the leftmost.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    worth: u32,
    left: Reverse<usize>,
    length: usize,
}

/// A text's pieces in order. They begin as its characters; of all pairs of neighbours that are worth something the one that
/// is worth most becomes one, the leftmost of equals, until none is left. `worth` sees both as one and where the second begins.
pub fn merge<'a>(text: &'a str, mut worth: impl FnMut(&'a str, usize) -> Option<u32>) -> Vec<&'a str> {
    // Lengths of the pieces by where they begin, 0 inside of one; `before` is where the piece on the left begins.
    let (mut length, mut before) = (vec![0; text.len() + 1], vec![usize::MAX; text.len() + 1]);
    let mut last = usize::MAX;
    for (at, c) in text.char_indices() {
        (length[at], before[at]) = (c.len_utf8(), last);
        last = at;
    }
    let mut pair = |left: usize, length: &[usize]| {
        let right = left + length[left];
        let end = right + *length.get(right).filter(|length| **length > 0)?;
        Some(Pair {
            worth: worth(&text[left..end], right - left)?,
            left: Reverse(left),
            length: end - left,
        })
    };
    let starts = text.char_indices().map(|(at, _)| at);
    let mut heap: BinaryHeap<Pair> = starts.filter_map(|at| pair(at, &length)).collect();
    while let Some(found) = heap.pop() {
        let (Reverse(left), both) = (found.left, found.length);
        let right = left + length[left];
        // A pair whose halves have grown or gone since is no pair any more.
        if length[left] == 0 || right >= text.len() || length[left] + length[right] != both {
            continue;
        }
        (length[left], length[right]) = (both, 0);
        before[left + both] = left;
        heap.extend(pair(left, &length));
        if before[left] != usize::MAX {
            heap.extend(pair(before[left], &length));
        }
    }
    let pieces = (0..text.len()).filter(|at| length[*at] > 0);
    pieces.map(|at| &text[at..at + length[at]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worthiest_pair_is_first_then_the_leftmost() {
        let worth = |both: &str, right: usize| match both.split_at(right) {
            ("a", "b") => Some(2),
            ("b", "c") => Some(3),
            ("a", "bc") | ("é", "é") => Some(1),
            _ => None,
        };
        assert_eq!(merge("abc", worth), ["abc"]);
        assert_eq!(merge("abcab", worth), ["abc", "ab"]);
        assert_eq!(merge("ééé", worth), ["éé", "é"]);
        assert!(merge("", worth).is_empty());
    }
}
