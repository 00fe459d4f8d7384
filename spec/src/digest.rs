//! The digest of a bundle: a Merkle tree over its items, so that one item's place is shown without the others.
//!
//! Pure. Not here: the item that carries the digest (`carrier`). The invariant: a path that verifies leads to exactly
//! one leaf of a tree of exactly this many leaves. Source: spec/carrier.md, "The digest".

use crate::chunks::{Hash, sha256};
use crate::ids::ItemId;

/// Longest path that is read: a tree of 2^40 leaves.
pub const PATH_MAX: usize = 40;
/// Keeps a leaf from passing for a branch, and the other way round.
const LEAF: [u8; 1] = [0];
const BRANCH: [u8; 1] = [1];

/// One item's place in its bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// Which item, from 0.
    pub index: u64,
    /// Its id.
    pub id: ItemId,
    /// Where its bytes begin, counted from the start of the bundle.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

impl Leaf {
    fn hash(&self) -> Hash {
        let numbers = [self.index, self.offset, self.size].map(u64::to_le_bytes);
        sha256(&[&LEAF, &numbers[0], self.id.bytes(), &numbers[1], &numbers[2]])
    }
}

/// The tree over a bundle's items.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Leaves first, the root alone last.
    layers: Vec<Vec<Hash>>,
}

impl Tree {
    /// Over these leaves.
    ///
    /// # Panics
    /// If there is none, or one has not the index of its place: callers number them.
    pub fn of(leaves: &[Leaf]) -> Tree {
        assert!(!leaves.is_empty(), "a digest is over at least one item");
        let numbered = leaves.iter().enumerate().all(|(i, leaf)| leaf.index == i as u64);
        assert!(numbered, "leaves are numbered in their order");
        let mut layers = vec![leaves.iter().map(Leaf::hash).collect::<Vec<_>>()];
        while layers.last().is_some_and(|layer| layer.len() > 1) {
            let above = layers.last().map(|layer| raise(layer));
            layers.extend(above);
        }
        Tree { layers }
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.layers.last().expect("a tree has a layer")[0]
    }

    /// How many leaves it has.
    pub fn count(&self) -> u64 {
        self.layers[0].len() as u64
    }

    /// The neighbours on the way from a leaf to the root; `None` if there is no such leaf.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        let mut at = usize::try_from(index)
            .ok()
            .filter(|at| *at < self.layers[0].len())?;
        let mut path = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            path.extend(layer.get(at ^ 1));
            at /= 2;
        }
        assert!(path.len() <= PATH_MAX, "no bundle has 2^40 items");
        Some(path)
    }
}

/// The layer above; an odd last node goes up as it is.
fn raise(layer: &[Hash]) -> Vec<Hash> {
    let pair = |pair: &[Hash]| match pair {
        [left, right] => branch(left, right),
        odd => odd[0],
    };
    layer.chunks(2).map(pair).collect()
}

fn branch(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&BRANCH, left, right])
}

/// Whether `path` leads from the leaf to the root of a tree of `count` leaves.
pub fn verify(root: &Hash, count: u64, leaf: &Leaf, path: &[Hash]) -> bool {
    let (mut at, mut width) = (leaf.index, count);
    if at >= width || path.len() > PATH_MAX {
        return false;
    }
    let (mut hash, mut rest) = (leaf.hash(), path.iter());
    while width > 1 {
        let alone = at % 2 == 0 && at + 1 == width;
        if !alone {
            let Some(neighbour) = rest.next() else {
                return false;
            };
            hash = match at % 2 {
                0 => branch(&hash, neighbour),
                _ => branch(neighbour, &hash),
            };
        }
        (at, width) = (at / 2, width.div_ceil(2));
    }
    rest.next().is_none() && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Leaf> {
        let leaf = |index| Leaf {
            index,
            id: ItemId([index as u8; 32]),
            offset: 32 + 64 * count + 100 * index,
            size: 100,
        };
        (0..count).map(leaf).collect()
    }

    #[test]
    fn every_leaf_is_shown_and_no_other_place_count_or_id() {
        for count in 1..=33 {
            let leaves = leaves(count);
            let tree = Tree::of(&leaves);
            assert_eq!((tree.count(), tree.path(count)), (count, None));
            for leaf in &leaves {
                let path = tree.path(leaf.index).expect("a leaf");
                assert!(verify(&tree.root(), count, leaf, &path));
                let others = [
                    Leaf {
                        index: leaf.index ^ 1,
                        ..*leaf
                    },
                    Leaf {
                        offset: leaf.offset + 1,
                        ..*leaf
                    },
                    Leaf {
                        size: leaf.size - 1,
                        ..*leaf
                    },
                    Leaf {
                        id: ItemId([99; 32]),
                        ..*leaf
                    },
                ];
                for other in others {
                    assert!(
                        !verify(&tree.root(), count, &other, &path),
                        "{other:?} of {count}"
                    );
                }
                assert!(!verify(&tree.root(), count.next_power_of_two() * 2, leaf, &path));
            }
        }
    }

    #[test]
    fn a_path_that_is_cut_or_longer_or_flipped_is_refused() {
        let leaves = leaves(7);
        let tree = Tree::of(&leaves);
        for leaf in &leaves {
            let path = tree.path(leaf.index).expect("a leaf");
            assert!(!verify(&tree.root(), 7, leaf, &path[1..]));
            assert!(!verify(&tree.root(), 7, leaf, &[&path[..], &path[..1]].concat()));
            for bit in 0..path.len() * 256 {
                let mut bad = path.clone();
                bad[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
                assert!(!verify(&tree.root(), 7, leaf, &bad));
            }
        }
        assert!(!verify(&tree.root(), 7, &leaves[0], &[[0; 32]; PATH_MAX + 1]));
        assert!(!verify(&tree.root(), 0, &leaves[0], &[]));
    }

    #[test]
    fn a_branch_is_no_leaf() {
        let two = Tree::of(&leaves(2));
        let lone = two.layers[0].clone();
        assert_eq!(two.root(), branch(&lone[0], &lone[1]));
        assert_ne!(two.root(), sha256(&[&lone[0], &lone[1]]), "a branch is marked");
    }
}
