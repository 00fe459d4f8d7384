//! The state root: one hash over everything a process's future depends on.
//!
//! `root = B("state", memory bytes ‖ count of globals ‖ each global as 16 bytes ‖ clock ‖ hash of the disk ‖ tree)`.
//! The tree's leaves are `B("page", page)` for each 4 KiB page, a constant for the zero page; a node is
//! `B("node", left ‖ right)`; the tree is filled up with zero pages to a power of two. Numbers are little-endian
//! 64-bit. `B(name, …)` is BLAKE3 in key-derivation mode with the context `weft state root v1 NAME`.
//!
//! Invariant: untouched memory costs nothing, as whole zero subtrees are constants.

use super::host::HostState;
use super::live::Live;
use super::pages::{PAGE, Run};

type Hash = [u8; 32];

const PAGE_CONTEXT: &str = "weft state root v1 page";
const NODE_CONTEXT: &str = "weft state root v1 node";
const STATE_CONTEXT: &str = "weft state root v1 state";

/// Levels of a tree over 4 GiB of pages.
const LEVELS: usize = 20;

fn hash(context: &str, parts: &[&[u8]]) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    parts.iter().for_each(|p| {
        hasher.update(p);
    });
    *hasher.finalize().as_bytes()
}

/// Reusable hashers: deriving the context key costs as much as a node.
struct Hashers {
    page: blake3::Hasher,
    node: blake3::Hasher,
    zero: Vec<Hash>,
}

impl Hashers {
    fn new() -> Hashers {
        let (page, node) = (
            blake3::Hasher::new_derive_key(PAGE_CONTEXT),
            blake3::Hasher::new_derive_key(NODE_CONTEXT),
        );
        let mut hashers = Hashers {
            page,
            node,
            zero: Vec::new(),
        };
        let mut zero = hashers.page(&[0; PAGE]);
        for _ in 0..=LEVELS {
            hashers.zero.push(zero);
            zero = hashers.node(&zero, &zero);
        }
        hashers
    }

    fn page(&self, page: &[u8]) -> Hash {
        *self.page.clone().update(page).finalize().as_bytes()
    }

    fn node(&self, left: &Hash, right: &Hash) -> Hash {
        *self.node.clone().update(left).update(right).finalize().as_bytes()
    }

    /// The tree over non-zero leaves in ascending order; `pages` is how many there are with the zero ones.
    fn tree(&self, mut level: Vec<(usize, Hash)>, pages: usize) -> Hash {
        let height = pages.next_power_of_two().trailing_zeros() as usize;
        for depth in 0..height {
            let zero = &self.zero[depth];
            let mut next: Vec<(usize, Hash)> = Vec::with_capacity(level.len());
            let mut leaves = level.into_iter().peekable();
            while let Some((index, hash)) = leaves.next() {
                let node = if index % 2 == 1 {
                    self.node(zero, &hash)
                } else {
                    let right = leaves.next_if(|(i, _)| *i == index + 1).map_or(*zero, |(_, h)| h);
                    self.node(&hash, &right)
                };
                next.push((index / 2, node));
            }
            level = next;
        }
        level.first().map_or(self.zero[height], |(_, h)| *h)
    }
}

/// The root of a live instance whose non-zero pages all lie in `runs`.
pub fn of(live: &mut Live, runs: &[Run]) -> Hash {
    let hashers = Hashers::new();
    let mut leaves = Vec::new();
    live.for_nonzero_pages(runs, |page, bytes| leaves.push((page, hashers.page(bytes))));
    let memory_bytes = live.memory_bytes();
    let tree = hashers.tree(leaves, memory_bytes as usize / PAGE);
    combine(memory_bytes, &live.globals(), live.host_state(), &tree)
}

/// The root of a state from its non-zero pages, ascending.
pub fn of_pages<'a>(
    memory_bytes: u64,
    globals: &[u128],
    host: &HostState,
    pages: impl Iterator<Item = (usize, &'a [u8])>,
) -> Hash {
    let hashers = Hashers::new();
    let leaves = pages.map(|(page, bytes)| (page, hashers.page(bytes))).collect();
    let tree = hashers.tree(leaves, memory_bytes as usize / PAGE);
    combine(memory_bytes, globals, host, &tree)
}

fn combine(memory_bytes: u64, globals: &[u128], host: &HostState, tree: &Hash) -> Hash {
    let globals_bytes: Vec<u8> = globals.iter().flat_map(|g| g.to_le_bytes()).collect();
    let disk = hash(STATE_CONTEXT, &[&host.disk.to_bytes()]);
    hash(
        STATE_CONTEXT,
        &[
            &memory_bytes.to_le_bytes(),
            &(globals.len() as u64).to_le_bytes(),
            &globals_bytes,
            &host.clock.to_le_bytes(),
            &disk,
            tree,
        ],
    )
}

/// The tree over a whole memory, page by page: what `of` must agree with.
#[cfg(test)]
pub fn slow_tree(memory: &[u8]) -> Hash {
    let hashers = Hashers::new();
    let mut level: Vec<Hash> = memory.chunks(PAGE).map(|p| hashers.page(p)).collect();
    level.resize(level.len().next_power_of_two(), hashers.zero[0]);
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| hashers.node(&pair[0], &pair[1]))
            .collect();
    }
    level[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sparse_tree_is_the_full_tree() {
        for (pages, touched) in [
            (1, vec![]),
            (1, vec![0]),
            (5, vec![4]),
            (16, vec![0, 1, 7, 8, 15]),
            (23, vec![3, 22]),
        ] {
            let mut memory = vec![0u8; pages * PAGE];
            touched.iter().for_each(|p| memory[p * PAGE + p] = 1 + *p as u8);
            let hashers = Hashers::new();
            let leaves = touched
                .iter()
                .map(|&p| (p, hashers.page(&memory[p * PAGE..][..PAGE])))
                .collect();
            assert_eq!(
                hashers.tree(leaves, pages),
                slow_tree(&memory),
                "{pages} {touched:?}"
            );
        }
    }

    #[test]
    fn each_part_counts() {
        let host = HostState::default();
        let base = combine(1, &[2], &host, &[3; 32]);
        assert_ne!(base, combine(2, &[2], &host, &[3; 32]));
        assert_ne!(base, combine(1, &[3], &host, &[3; 32]));
        assert_ne!(
            base,
            combine(
                1,
                &[2],
                &HostState {
                    clock: 1,
                    ..host.clone()
                },
                &[3; 32]
            )
        );
        assert_ne!(base, combine(1, &[2], &host, &[4; 32]));
    }
}
