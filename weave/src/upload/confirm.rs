//! Whether data is really there: chunks read back from peers and proved against a block that enough peers agree on.
//!
//! Not here: what follows from it. The invariant: `Round::is_whole` means that every chunk asked for was proved by
//! somebody, byte for byte; no peer's word goes into that but the block's header, which a quorum gave.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Bytes, BytesMut};
use spec::chunks::{Hash, spans};
use spec::contract::Answer;
use spec::placement::BlockPlace;
use spec::{ItemId, Kind};

use super::crowd::Crowd;

/// A transaction's data on the weave.
#[derive(Debug, Clone)]
pub struct Spot {
    /// Root over its chunks, as signed.
    pub root: Hash,
    /// Bytes.
    pub len: u64,
    /// Its block.
    pub place: BlockPlace,
    /// Where it may end on the weave, the likeliest first.
    ends: Vec<u64>,
}

/// A chunk that was proved.
#[derive(Debug, Clone)]
pub struct Proved {
    /// Where it begins in the data.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What one look at a carrier's chunks found.
#[derive(Debug, Default)]
pub struct Round {
    /// Places in the chunks that somebody proved.
    pub proved: BTreeSet<u64>,
    /// Places in the chunks that everybody was asked for, and nobody has.
    pub gone: BTreeSet<u64>,
    /// Peers that lack a chunk, or gave a wrong one: peer, chunk's place.
    pub missing: Vec<(usize, u64)>,
    /// Peers that proved some.
    pub provers: BTreeSet<usize>,
}

impl Spot {
    /// Finds where a transaction mined at a height lies. `None` if too few peers agree on its block.
    pub async fn find(crowd: &mut Crowd, id: ItemId, height: u64, root: Hash, len: u64) -> Option<Spot> {
        let block = crowd.block(height).await?;
        let place = block.place().filter(|_| block.txs.contains(&id))?;
        let first = place.start.checked_add(len)?;
        let ends = crowd.ends(id, len).await.into_iter();
        let ends: Vec<u64> = ends.filter(|end| (first..=place.end).contains(end)).collect();
        (!ends.is_empty()).then_some(Spot {
            root,
            len,
            place,
            ends,
        })
    }

    /// The chunk that holds a byte of the data, from one peer, proved. `None` if what it gave is not it.
    ///
    /// # Errors
    /// If the peer has none, or cannot be asked.
    pub async fn chunk(&self, crowd: &mut Crowd, peer: usize, at: u64) -> Answer<Option<Proved>> {
        assert!(at < self.len, "a byte of the data");
        let mut refused = None;
        for end in &self.ends {
            let start = end - self.len;
            let offset = start + at + 1;
            let got = match crowd.peer(peer).chunk(offset).await {
                Ok(got) => got,
                Err(refusal) => {
                    refused = Some(refusal);
                    continue;
                }
            };
            let proved = self
                .place
                .verify_chunk(offset, &got.tx_path, &got.data_path, &got.chunk);
            let Ok((placed, chunk)) = proved else { continue };
            let is_ours = (placed.data_root, placed.start, placed.end) == (self.root, start, *end);
            if is_ours && (chunk.start..chunk.end).contains(&at) {
                return Ok(Some(Proved {
                    start: chunk.start,
                    end: chunk.end,
                    bytes: got.chunk,
                }));
            }
        }
        match refused {
            Some(refusal) => crowd.heard(Err(refusal)),
            None => Ok(None),
        }
    }

    /// A stretch of the data, every chunk of it proved by one of these peers, and who proved. `None` if all were asked
    /// and none has one of them.
    ///
    /// # Errors
    /// If nobody gave one of them, and somebody could not be asked.
    pub async fn read(
        &self,
        crowd: &mut Crowd,
        peers: &[usize],
        from: u64,
        to: u64,
    ) -> Answer<Option<(Bytes, BTreeSet<usize>)>> {
        let (mut out, mut provers) = (BytesMut::new(), BTreeSet::new());
        let mut at = from;
        while at < to {
            let Some((prover, chunk)) = self.any(crowd, peers, at).await? else {
                return Ok(None);
            };
            provers.insert(prover);
            let end = chunk.end.min(to);
            out.extend_from_slice(&chunk.bytes[(at - chunk.start) as usize..(end - chunk.start) as usize]);
            at = end;
        }
        Ok(Some((out.freeze(), provers)))
    }

    async fn any(&self, crowd: &mut Crowd, peers: &[usize], at: u64) -> Answer<Option<(usize, Proved)>> {
        let mut absent = None;
        for peer in peers {
            match self.chunk(crowd, *peer, at).await {
                Ok(Some(chunk)) => return Ok(Some((*peer, chunk))),
                Err(refusal) if refusal.kind != Kind::NotFound => absent = Some(refusal),
                Ok(None) | Err(_) => {}
            }
        }
        absent.map_or(Ok(None), Err)
    }

    /// Asks each of these peers for each chunk in which one of `places` is.
    pub async fn round(&self, crowd: &mut Crowd, peers: &[usize], places: &[u64]) -> Round {
        let mut round = Round::default();
        for at in places {
            let mut lacking = 0;
            for peer in peers {
                match self.chunk(crowd, *peer, *at).await {
                    Ok(Some(_)) => {
                        round.proved.insert(*at);
                        round.provers.insert(*peer);
                    }
                    Err(refusal) if refusal.kind != Kind::NotFound => {}
                    Ok(None) | Err(_) => {
                        lacking += 1;
                        round.missing.push((*peer, *at));
                    }
                }
            }
            if lacking == peers.len() {
                round.gone.insert(*at);
            }
        }
        round
    }
}

/// Places in data of `len` bytes, one in each of the chunks to prove: all of them, or `most` chosen by the id, the
/// first and the last among them.
pub fn sample(id: ItemId, len: u64, most: usize) -> Vec<u64> {
    let all: Vec<u64> = spans(len)
        .filter(|(start, end)| end > start)
        .map(|(start, _)| start)
        .collect();
    if all.len() <= most {
        return all;
    }
    let mut chosen = BTreeSet::from([all[0], all[all.len() - 1]]);
    let mut count = 0u64;
    while chosen.len() < most {
        let bytes = [&id.0[..], &count.to_le_bytes()].concat();
        let hash = digest(&SHA256, &bytes);
        let number = u64::from_le_bytes(*hash.as_ref().first_chunk().expect("a digest has 32 bytes"));
        chosen.insert(all[(number % all.len() as u64) as usize]);
        count += 1;
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use spec::chunks::CHUNK_LEN_MAX;

    use super::*;

    #[test]
    fn few_chunks_are_all_proved_and_of_many_the_ends_and_others() {
        let id = ItemId([3; 32]);
        assert_eq!(sample(id, 5, 4), vec![0]);
        assert_eq!(
            sample(id, 2 * CHUNK_LEN_MAX, 4),
            vec![0, CHUNK_LEN_MAX],
            "an empty last chunk is not proved"
        );
        let len = 40 * CHUNK_LEN_MAX;
        let chosen = sample(id, len, 8);
        assert_eq!(chosen.len(), 8);
        assert_eq!((chosen[0], chosen[7]), (0, 39 * CHUNK_LEN_MAX));
        assert_eq!(chosen, sample(id, len, 8));
        assert_ne!(chosen, sample(ItemId([4; 32]), len, 8));
    }
}
