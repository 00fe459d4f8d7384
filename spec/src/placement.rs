//! Where data lies in a block and on the whole weave: the tree over a block's transactions, and proofs of it.
//!
//! Pure. Not here: blocks themselves, the tree inside a transaction's data (`chunks`). The invariant: a chunk that
//! verifies stands at that offset of the weave by the block's own root. Source: spec/transaction.md, "Placement".

use crate::chunks::{self, CHUNK_LEN_MAX, Chunk, Hash, ProofError, branch_id, leaf_id, note};

/// Bytes of the weave that some data takes: whole chunks, the last one padded.
pub fn padded(len: u64) -> u64 {
    len.next_multiple_of(CHUNK_LEN_MAX)
}

/// The tree over the data of a block's transactions, in their order.
#[derive(Debug, Clone, Default)]
pub struct BlockTree {
    /// What each leaf is of: a data root, or padding.
    leaves: Vec<Option<Hash>>,
    /// Ids and ends; the leaves first, the root alone last.
    layers: Vec<Vec<(Hash, u64)>>,
}

impl BlockTree {
    /// Over the data roots and lengths of the transactions that have data.
    pub fn of(data: impl IntoIterator<Item = (Hash, u64)>) -> BlockTree {
        let (mut leaves, mut layer, mut at) = (Vec::new(), Vec::new(), 0u64);
        for (root, len) in data {
            assert!(len > 0, "a transaction without data takes no place");
            leaves.push(Some(root));
            layer.push((leaf_id(&root, at + len), at + len));
            let end = at + padded(len);
            if end > at + len {
                leaves.push(None);
                layer.push((leaf_id(&[], end), end));
            }
            at = end;
        }
        let mut layers = vec![layer];
        while layers.last().is_some_and(|layer| layer.len() > 1) {
            let above = layers.last().map(|layer| raise(layer));
            layers.extend(above);
        }
        BlockTree { leaves, layers }
    }

    /// The block's `tx_root`; `None` if no transaction has data.
    pub fn root(&self) -> Option<Hash> {
        Some(self.layers.last()?.first()?.0)
    }

    /// Bytes of the weave that the block takes.
    pub fn len(&self) -> u64 {
        self.layers[0].last().map_or(0, |(_, end)| *end)
    }

    /// Whether no transaction of the block has data.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The proof (`tx_path`) of the transaction that holds the byte at `offset` of the block.
    ///
    /// # Errors
    /// If no transaction's data has that byte.
    pub fn proof(&self, offset: u64) -> Result<Vec<u8>, ProofError> {
        let leaves = self.layers.first().ok_or(ProofError::Offset)?;
        let index = leaves.partition_point(|(_, end)| *end <= offset);
        let root = self.leaves.get(index).copied().flatten();
        let root = root.ok_or(ProofError::Offset)?;
        let mut proof = Vec::new();
        for (height, layer) in self.layers.iter().enumerate().rev() {
            let left = (index >> height) & !1;
            if let Some([(left, middle), (right, _)]) = layer.get(left..left + 2) {
                proof.extend_from_slice(left);
                proof.extend_from_slice(right);
                proof.extend_from_slice(&note(*middle));
            }
        }
        proof.extend_from_slice(&root);
        proof.extend_from_slice(&note(leaves[index].1));
        Ok(proof)
    }
}

/// The layer above; an odd last node goes up as it is.
fn raise(layer: &[(Hash, u64)]) -> Vec<(Hash, u64)> {
    let pair = |pair: &[(Hash, u64)]| match pair {
        [left, right] => (branch_id(&left.0, &right.0, left.1), right.1),
        odd => odd[0],
    };
    layer.chunks(2).map(pair).collect()
}

/// A block's place on the weave, as its header tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    /// Root over its transactions.
    pub tx_root: Hash,
    /// Bytes of the weave before it.
    pub start: u64,
    /// Bytes of the weave with it (`weave_size`).
    pub end: u64,
}

/// A transaction's data within the weave, proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Root of its chunks.
    pub data_root: Hash,
    /// Bytes of the weave before it.
    pub start: u64,
    /// Bytes of the weave with it: the offset that nodes tell of the transaction.
    pub end: u64,
}

impl BlockPlace {
    /// Whether `tx_path` leads from the block to the transaction that holds `offset`, a place counted from 1 over the
    /// whole weave as nodes count.
    ///
    /// # Errors
    /// Says what is wrong with the proof.
    pub fn verify(&self, offset: u64, tx_path: &[u8]) -> Result<Placed, ProofError> {
        if offset <= self.start || offset > self.end {
            return Err(ProofError::Offset);
        }
        let (len, at) = (self.end - self.start, offset - self.start - 1);
        let leaf = chunks::walk(&self.tx_root, len, at, tx_path)?;
        Ok(Placed {
            data_root: leaf.hash,
            start: self.start + leaf.start,
            end: self.start + leaf.end,
        })
    }

    /// Whether these bytes are the chunk at `offset` of the weave: both proofs and the bytes' own hash.
    ///
    /// # Errors
    /// Says what is wrong with a proof, or that the bytes are others.
    pub fn verify_chunk(
        &self,
        offset: u64,
        tx_path: &[u8],
        data_path: &[u8],
        bytes: &[u8],
    ) -> Result<(Placed, Chunk), ProofError> {
        let placed = self.verify(offset, tx_path)?;
        let (len, at) = (placed.end - placed.start, offset - placed.start - 1);
        let chunk = chunks::verify(&placed.data_root, len, at, data_path)?;
        if bytes.len() as u64 != chunk.end - chunk.start {
            return Err(ProofError::Bounds);
        }
        match chunks::sha256(&[bytes]) == chunk.hash {
            true => Ok((placed, chunk)),
            false => Err(ProofError::Hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::Tree;

    fn data(n: u8, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i >> 7) as u8 ^ n).collect()
    }

    #[test]
    fn a_lone_transaction_of_whole_chunks_is_its_own_root() {
        let tree = BlockTree::of([([7; 32], CHUNK_LEN_MAX)]);
        assert_eq!(tree.root(), Some(leaf_id(&[7; 32], CHUNK_LEN_MAX)));
        assert_eq!((tree.len(), tree.is_empty()), (CHUNK_LEN_MAX, false));
        let none = BlockTree::of([]);
        assert_eq!((none.root(), none.len(), none.is_empty()), (None, 0, true));
        assert_eq!(none.proof(0), Err(ProofError::Offset));
    }

    #[test]
    fn every_chunk_of_a_block_is_proved_at_its_offset_and_nowhere_else() {
        for count in 1..6u8 {
            let all: Vec<Vec<u8>> = (0..count)
                .map(|n| data(n, 100_000 + usize::from(n) * 200_000))
                .collect();
            let trees: Vec<Tree> = all.iter().map(|data| Tree::of(data)).collect();
            let roots = trees
                .iter()
                .zip(&all)
                .map(|(tree, data)| (tree.root(), data.len() as u64));
            let block = BlockTree::of(roots);
            let place = BlockPlace {
                tx_root: block.root().unwrap(),
                start: 1_000,
                end: 1_000 + block.len(),
            };
            let mut start = place.start;
            for (tree, data) in trees.iter().zip(&all) {
                for chunk in tree.chunks() {
                    let offset = start + chunk.end;
                    let tx_path = block.proof(offset - place.start - 1).unwrap();
                    let data_path = tree.proof(chunk.start).unwrap();
                    let bytes = &data[chunk.start as usize..chunk.end as usize];
                    let (placed, found) = place.verify_chunk(offset, &tx_path, &data_path, bytes).unwrap();
                    assert_eq!((placed.start, found), (start, chunk));
                    assert!(
                        place
                            .verify(offset + padded(data.len() as u64), &tx_path)
                            .is_err()
                    );
                    assert!(
                        place
                            .verify_chunk(offset, &tx_path, &data_path, &bytes[1..])
                            .is_err()
                    );
                }
                start += padded(data.len() as u64);
            }
        }
    }

    #[test]
    fn no_flipped_bit_passes_and_padding_has_no_proof() {
        let block = BlockTree::of([([1; 32], 300_000), ([2; 32], 5), ([3; 32], 9)]);
        let place = BlockPlace {
            tx_root: block.root().unwrap(),
            start: 0,
            end: block.len(),
        };
        let proof = block.proof(299_999).unwrap();
        assert_eq!(place.verify(300_000, &proof).unwrap().data_root, [1; 32]);
        for bit in 0..proof.len() * 8 {
            let mut bad = proof.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(place.verify(300_000, &bad).is_err(), "bit {bit}");
        }
        assert_eq!(block.proof(300_000), Err(ProofError::Offset));
        assert_eq!(place.verify(0, &proof), Err(ProofError::Offset));
        assert_eq!(place.verify(place.end + 1, &proof), Err(ProofError::Offset));
    }
}
