//! How Arweave cuts a transaction's data into chunks, the tree over them, and proofs of a chunk's place.
//!
//! Pure. Not here: transactions, posting. The invariant: a proof that verifies names a chunk whose hash
//! and bounds are those the root was made of. Source: spec/transaction.md, "Chunks".

use aws_lc_rs::digest::{Context, SHA256, digest};

/// Longest chunk, in bytes.
pub const CHUNK_LEN_MAX: u64 = 256 * 1024;
/// A last chunk shorter than this is evened out with the one before.
pub const CHUNK_LEN_MIN: u64 = 32 * 1024;
/// Longest proof that is read: 64 branches and a leaf.
pub const PROOF_LEN_MAX: usize = 64 * BRANCH_LEN + LEAF_LEN;

/// Left id, right id, note.
const BRANCH_LEN: usize = 96;
/// Hash of the chunk, note.
const LEAF_LEN: usize = 64;

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// One chunk of some data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins, in bytes from the start of the data.
    pub start: u64,
    /// Where it ends, exclusive.
    pub end: u64,
    /// SHA-256 of its bytes.
    pub hash: Hash,
}

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The data has no such place.
    #[error("the data has no byte at this offset")]
    Offset,
    /// Not a number of branches and a leaf, or longer than any tree.
    #[error("the proof is cut off, or longer than any tree")]
    Length,
    /// A hash on the way differs: something was altered, or it proves another place or root.
    #[error("the proof does not lead from the data root to this place")]
    Hash,
    /// The tree has pieces whose places are counted from their own start, which nothing of ours makes.
    #[error("the proof goes through a rebased subtree, which this verifier does not take")]
    Rebased,
    /// The bounds on the way are no chunk's.
    #[error("the proof's bounds are not those of a chunk")]
    Bounds,
}

/// Where the chunks of `len` bytes of data begin and end. The last one is empty if `len` is a multiple of the
/// longest chunk: it counts in the tree and is never uploaded.
pub fn spans(len: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next?;
        let rest = len - start;
        next = (rest >= CHUNK_LEN_MAX).then(|| start + cut(rest));
        Some((start, next.unwrap_or(len)))
    })
}

/// Length of the first chunk of a rest that does not fit one.
fn cut(rest: u64) -> u64 {
    let after = rest - CHUNK_LEN_MAX;
    match after > 0 && after < CHUNK_LEN_MIN {
        true => rest.div_ceil(2),
        false => CHUNK_LEN_MAX,
    }
}

/// A node of the tree.
#[derive(Debug, Clone)]
struct Node {
    id: Hash,
    /// End of the last byte below it.
    end: u64,
    below: Below,
}

#[derive(Debug, Clone, Copy)]
enum Below {
    Chunk(Chunk),
    /// Places of its children.
    Pair(usize, usize),
}

/// The tree over some data's chunks.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Children stand before their parents; the root is the last.
    nodes: Vec<Node>,
    leaves: usize,
}

impl Tree {
    /// The tree over these bytes.
    pub fn of(data: &[u8]) -> Tree {
        Tree::from_hashes(data.len() as u64, |start, end| {
            sha256(&[&data[start as usize..end as usize]])
        })
    }

    /// The tree over `len` bytes, of which `hash` gives the SHA-256 of a span. It is asked in order, once for each.
    pub fn from_hashes(len: u64, mut hash: impl FnMut(u64, u64) -> Hash) -> Tree {
        let chunk = |(start, end)| Chunk {
            start,
            end,
            hash: hash(start, end),
        };
        let mut nodes: Vec<Node> = spans(len).map(chunk).map(leaf).collect();
        let leaves = nodes.len();
        assert!(
            nodes.last().is_some_and(|last| last.end == len),
            "chunks cover the data"
        );
        let mut layer: Vec<usize> = (0..leaves).collect();
        while layer.len() > 1 {
            layer = raise(&mut nodes, &layer);
        }
        Tree { nodes, leaves }
    }

    /// The data root.
    pub fn root(&self) -> Hash {
        self.nodes.last().expect("a tree has a leaf").id
    }

    /// The chunks to upload, in order: an empty last one is not among them.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let chunks = self.nodes[..self.leaves]
            .iter()
            .filter_map(|node| match node.below {
                Below::Chunk(chunk) => Some(chunk),
                Below::Pair(..) => None,
            });
        chunks.filter(|chunk| chunk.end > chunk.start)
    }

    /// The proof (`data_path`) of the chunk that holds the byte at `offset`.
    ///
    /// # Errors
    /// If the data has no such byte.
    pub fn proof(&self, offset: u64) -> Result<Vec<u8>, ProofError> {
        let mut node = self.nodes.last().expect("a tree has a leaf");
        if offset >= node.end {
            return Err(ProofError::Offset);
        }
        let mut proof = Vec::new();
        loop {
            match node.below {
                Below::Chunk(chunk) => {
                    proof.extend_from_slice(&chunk.hash);
                    proof.extend_from_slice(&note(chunk.end));
                    return Ok(proof);
                }
                Below::Pair(left, right) => {
                    let (left, right) = (&self.nodes[left], &self.nodes[right]);
                    proof.extend_from_slice(&left.id);
                    proof.extend_from_slice(&right.id);
                    proof.extend_from_slice(&note(left.end));
                    node = if offset < left.end { left } else { right };
                }
            }
        }
    }
}

fn leaf(chunk: Chunk) -> Node {
    Node {
        id: leaf_id(&chunk.hash, chunk.end),
        end: chunk.end,
        below: Below::Chunk(chunk),
    }
}

/// The layer above; an odd last node goes up as it is.
fn raise(nodes: &mut Vec<Node>, layer: &[usize]) -> Vec<usize> {
    let mut above = Vec::with_capacity(layer.len().div_ceil(2));
    for pair in layer.chunks(2) {
        let [left, right] = *pair else {
            above.push(pair[0]);
            continue;
        };
        let (l, r) = (&nodes[left], &nodes[right]);
        let (id, end) = (branch_id(&l.id, &r.id, l.end), r.end);
        above.push(nodes.len());
        nodes.push(Node {
            id,
            end,
            below: Below::Pair(left, right),
        });
    }
    above
}

/// Whether `proof` leads from `root`, over `len` bytes of data, to the chunk that holds the byte at `offset`;
/// answers with that chunk. The chunk's own bytes must still be compared with its hash.
///
/// # Errors
/// Says what is wrong with it.
pub fn verify(root: &Hash, len: u64, offset: u64, proof: &[u8]) -> Result<Chunk, ProofError> {
    let chunk = walk(root, len, offset, proof)?;
    match chunk.end - chunk.start <= CHUNK_LEN_MAX {
        true => Ok(chunk),
        false => Err(ProofError::Bounds),
    }
}

/// As [`verify`], for leaves of any length: a block's tree has the same form.
pub(crate) fn walk(root: &Hash, len: u64, offset: u64, proof: &[u8]) -> Result<Chunk, ProofError> {
    if offset >= len {
        return Err(ProofError::Offset);
    }
    if proof.len() > PROOF_LEN_MAX {
        return Err(ProofError::Length);
    }
    let (mut id, mut start, mut end, mut rest) = (*root, 0, len, proof);
    while rest.len() > LEAF_LEN {
        let (branch, after) = rest.split_at_checked(BRANCH_LEN).ok_or(ProofError::Length)?;
        let (left, right, middle) = (hash_at(branch, 0), hash_at(branch, 32), offset_at(branch, 64));
        if left == [0; 32] {
            return Err(ProofError::Rebased);
        }
        let middle = middle.ok_or(ProofError::Bounds)?;
        if branch_id(&left, &right, middle) != id {
            return Err(ProofError::Hash);
        }
        if middle <= start || middle > end {
            return Err(ProofError::Bounds);
        }
        (id, start, end) = match offset < middle {
            true => (left, start, middle),
            false => (right, middle, end),
        };
        rest = after;
    }
    verify_leaf(&id, start, end, rest)
}

fn verify_leaf(id: &Hash, start: u64, end: u64, leaf: &[u8]) -> Result<Chunk, ProofError> {
    if leaf.len() != LEAF_LEN {
        return Err(ProofError::Length);
    }
    let hash = hash_at(leaf, 0);
    let noted = offset_at(leaf, 32).ok_or(ProofError::Bounds)?;
    if leaf_id(&hash, noted) != *id {
        return Err(ProofError::Hash);
    }
    // A leaf that ends elsewhere than its branch says would let one chunk stand in two places.
    if noted != end || end <= start {
        return Err(ProofError::Bounds);
    }
    Ok(Chunk { start, end, hash })
}

fn hash_at(bytes: &[u8], at: usize) -> Hash {
    bytes[at..at + 32].try_into().expect("32 bytes")
}

/// The number in a note; `None` if it is beyond any data.
fn offset_at(bytes: &[u8], at: usize) -> Option<u64> {
    let (high, low) = bytes[at..at + 32].split_at(24);
    high.iter()
        .all(|byte| *byte == 0)
        .then(|| u64::from_be_bytes(low.try_into().expect("8 bytes")))
}

/// A number as trees hash it: 32 bytes, the highest first.
pub(crate) fn note(number: u64) -> Hash {
    let mut note = [0; 32];
    note[24..].copy_from_slice(&number.to_be_bytes());
    note
}

pub(crate) fn leaf_id(hash: &[u8], end: u64) -> Hash {
    sha256(&[&sha256(&[hash]), &sha256(&[&note(end)])])
}

pub(crate) fn branch_id(left: &Hash, right: &Hash, middle: u64) -> Hash {
    sha256(&[&sha256(&[left]), &sha256(&[right]), &sha256(&[&note(middle)])])
}

/// SHA-256 of the parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let hashed = match parts {
        [one] => digest(&SHA256, one),
        parts => {
            let mut context = Context::new(&SHA256);
            parts.iter().for_each(|part| context.update(part));
            context.finish()
        }
    };
    hashed.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: u64 = 1024;

    fn data(len: u64) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + (i >> 9)) as u8).collect()
    }

    #[test]
    fn spans_follow_the_rule_of_the_short_rest() {
        let of = |len| spans(len).collect::<Vec<_>>();
        assert_eq!(of(0), [(0, 0)]);
        assert_eq!(of(256 * K), [(0, 256 * K), (256 * K, 256 * K)]);
        let half = (256 * K + 1).div_ceil(2);
        assert_eq!(of(256 * K + 1), [(0, half), (half, 256 * K + 1)]);
        assert_eq!(of(288 * K), [(0, 256 * K), (256 * K, 288 * K)]);
        for len in (0..3_000 * K).step_by(7_777) {
            let spans = of(len);
            assert!(spans.windows(2).all(|two| two[0].1 == two[1].0));
            assert!(spans.iter().all(|(start, end)| end - start <= CHUNK_LEN_MAX));
            assert_eq!(spans.last().unwrap().1, len);
        }
    }

    #[test]
    fn every_chunk_is_proved_and_no_flipped_bit_passes() {
        for len in [1, 256 * K, 256 * K + 1, 700 * K, 1025 * K] {
            let tree = Tree::of(&data(len));
            let chunks: Vec<Chunk> = tree.chunks().collect();
            for chunk in chunks {
                let proof = tree.proof(chunk.start).unwrap();
                assert_eq!(proof, tree.proof(chunk.end - 1).unwrap());
                assert_eq!(verify(&tree.root(), len, chunk.end - 1, &proof), Ok(chunk));
                for bit in 0..proof.len() * 8 {
                    let mut bad = proof.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    assert!(verify(&tree.root(), len, chunk.start, &bad).is_err(), "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_proof_of_another_place_or_size_is_refused() {
        let len = 700 * K;
        let tree = Tree::of(&data(len));
        let proof = tree.proof(0).unwrap();
        assert_eq!(verify(&tree.root(), len, 256 * K, &proof), Err(ProofError::Hash));
        assert_eq!(verify(&tree.root(), len, len, &proof), Err(ProofError::Offset));
        let last = tree.proof(len - 1).unwrap();
        assert_eq!(
            verify(&tree.root(), len + 1, len - 1, &last),
            Err(ProofError::Bounds)
        );
        assert_eq!(
            verify(&tree.root(), len, 0, &proof[..proof.len() - 1]),
            Err(ProofError::Length)
        );
        assert_eq!(verify(&tree.root(), len, 0, &[]), Err(ProofError::Length));
        let mut rebased = vec![0; 32];
        rebased.extend_from_slice(&proof);
        assert_eq!(
            verify(&tree.root(), len, 0, &rebased[..160]),
            Err(ProofError::Rebased)
        );
    }
}
