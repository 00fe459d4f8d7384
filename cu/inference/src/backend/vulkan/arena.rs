//! Short-lived device memory: ranges of a few large chunks, given out first fit and taken back when dropped.
//!
//! Not here: when the device uses a range (steps run in order, so a range may be given out again at once).
//! Invariant: ranges in use never overlap; from the same state the same requests get the same ranges, so a step list
//! that comes again is equal to the one recorded before.

use std::collections::BTreeMap;

/// Ranges start at multiples of this many words: the largest alignment that Vulkan lets a device ask of a binding.
pub const ALIGN: usize = 64;

/// A range: its chunk, first word and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Index of the chunk.
    pub chunk: usize,
    /// First word.
    pub at: usize,
    /// Words, a multiple of [`ALIGN`].
    pub len: usize,
}

/// What is free in each chunk.
#[derive(Debug, Default)]
pub struct Arena {
    free: Vec<BTreeMap<usize, usize>>,
}

impl Arena {
    /// Adds a chunk of that many words.
    pub fn grow(&mut self, words: usize) {
        self.free.push(BTreeMap::from([(0, words)]));
    }

    /// Takes the first range that holds so many words.
    pub fn take(&mut self, words: usize) -> Option<Range> {
        let len = words.max(1).next_multiple_of(ALIGN);
        for (chunk, free) in self.free.iter_mut().enumerate() {
            let Some((&at, &has)) = free.iter().find(|(_, has)| **has >= len) else {
                continue;
            };
            free.remove(&at);
            if has > len {
                free.insert(at + len, has - len);
            }
            return Some(Range { chunk, at, len });
        }
        None
    }

    /// Gives a range back, joined to its free neighbours.
    pub fn give(&mut self, range: Range) {
        let free = &mut self.free[range.chunk];
        let (mut at, mut len) = (range.at, range.len);
        if let Some(after) = free.remove(&(at + len)) {
            len += after;
        }
        if let Some((&before, &has)) = free.range(..at).next_back() {
            assert!(before + has <= at, "a range given back twice");
            if before + has == at {
                free.remove(&before);
                (at, len) = (before, len + has);
            }
        }
        assert!(free.insert(at, len).is_none(), "a range given back twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_and_come_back_whole() {
        let mut arena = Arena::default();
        assert_eq!(arena.take(1), None);
        arena.grow(64 * ALIGN);
        let (mut held, mut random) = (Vec::<Range>::new(), 7_u64);
        for _ in 0..2000 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let size = 1 + (random >> 33) as usize % (9 * ALIGN);
            match arena.take(size) {
                Some(range) if random >> 63 == 0 || held.is_empty() => held.push(range),
                Some(range) => {
                    arena.give(range);
                    arena.give(held.swap_remove(size % held.len()));
                }
                None => arena.give(held.swap_remove(size % held.len())),
            }
            held.sort_by_key(|range| range.at);
            assert!(held.windows(2).all(|two| two[0].at + two[0].len <= two[1].at));
        }
        held.into_iter().for_each(|range| arena.give(range));
        assert_eq!(arena.take(64 * ALIGN).map(|range| range.at), Some(0));
    }

    #[test]
    fn the_same_requests_get_the_same_ranges() {
        let mut arena = Arena::default();
        arena.grow(4096);
        let mut step = || {
            let (a, b) = (arena.take(100).unwrap(), arena.take(300).unwrap());
            arena.give(a);
            let c = arena.take(50).unwrap();
            arena.give(b);
            arena.give(c);
            (a, b, c)
        };
        assert_eq!(step(), step());
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn a_range_given_back_twice_stops() {
        let mut arena = Arena::default();
        arena.grow(4096);
        let range = arena.take(100).unwrap();
        arena.give(range);
        arena.give(range);
    }
}
