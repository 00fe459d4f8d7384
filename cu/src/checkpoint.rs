//! Checkpoints on this machine: one file per process, its newest, in `cache/cu/checkpoints/`.
//!
//! A cache: what is damaged, foreign or of another module or engine epoch is left out with a warning
//! and the log is replayed. File: magic (8), version (u16 LE), length of the head (u32 LE), head (JSON),
//! image (as the runtime encodes it), BLAKE3 of all before it (32).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use spec::assignment::Chain;
use spec::contract::Tick;
use spec::{ItemId, ModuleId, ProcessId};

use crate::cron::Order;
use crate::error::Error;
use crate::permanent::publish::Since;

const MAGIC: &[u8; 8] = b"WEFTCKPT";
const VERSION: u16 = 1;
const HASH_BYTES: usize = 32;
const LEAD_BYTES: usize = 8 + 2 + 4;

/// How far a process has been evaluated: the last message, and the last evaluation if a cron came after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// The last message's slot.
    pub slot: u64,
    /// That message's assignment.
    pub assignment: ItemId,
    /// That assignment's chain value.
    #[serde(with = "chain_text")]
    pub chain: Chain,
    /// The last evaluation's moment.
    #[serde(with = "tick_pair")]
    pub tick: Tick,
    /// The cron it was, if it was one.
    pub cron: Option<String>,
}

impl Stand {
    /// The last evaluation's place within its moment.
    pub fn order(&self) -> Order {
        let name = self.cron.as_deref();
        name.map_or(Order::MESSAGE, |name| {
            Order::of_name(name).expect("only readable crons are evaluated")
        })
    }
}

mod chain_text {
    use super::{Chain, Deserialize};
    pub fn serialize<S: serde::Serializer>(chain: &Chain, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(chain)
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Chain, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = spec::ids::from_base64url(&text).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Chain)
            .ok_or_else(|| serde::de::Error::custom("no chain value"))
    }
}

mod tick_pair {
    use super::{Deserialize, Tick};
    pub fn serialize<S: serde::Serializer>(tick: &Tick, s: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&(tick.timestamp_ms, tick.block_height), s)
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Tick, D::Error> {
        let (timestamp_ms, block_height) = Deserialize::deserialize(d)?;
        Ok(Tick {
            timestamp_ms,
            block_height,
        })
    }
}

/// Everything that made a checkpoint (invariant 12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Whose.
    pub process: ProcessId,
    /// SHA-256 of its module, in hex.
    pub module: String,
    /// The engine epoch.
    pub epoch: String,
    /// The module that runs it in place of the one it names, as its log's first entry says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_used: Option<ModuleId>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(flatten)]
    key: Key,
    stand: Stand,
    /// Files from before there were permanent checkpoints do not say.
    #[serde(default, skip_serializing_if = "is_default")]
    since: Since,
}

fn is_default(since: &Since) -> bool {
    *since == Since::default()
}

/// What a checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How far the process was.
    pub stand: Stand,
    /// What happened since its newest permanent checkpoint.
    pub since: Since,
    /// Its state, as the runtime encodes it.
    pub image: Bytes,
}

/// The folder of checkpoints.
#[derive(Clone)]
pub struct Checkpoints {
    folder: Arc<Path>,
}

impl Checkpoints {
    /// Opens or makes the folder.
    pub fn open(folder: &Path) -> Result<Checkpoints, Error> {
        std::fs::create_dir_all(folder).map_err(|source| Error::File {
            path: folder.into(),
            source,
        })?;
        Ok(Checkpoints {
            folder: folder.into(),
        })
    }

    fn path(&self, process: ProcessId) -> PathBuf {
        self.folder.join(format!("{process}.checkpoint"))
    }

    /// Writes a process's checkpoint over its older one. Blocks.
    pub fn save(&self, key: &Key, stand: &Stand, since: &Since, image: &[u8]) -> Result<(), Error> {
        let path = self.path(key.process);
        let part = path.with_extension("part");
        let head = Head {
            key: key.clone(),
            stand: stand.clone(),
            since: since.clone(),
        };
        let write = || {
            std::fs::write(&part, encode(&head, image))?;
            std::fs::rename(&part, &path)
        };
        write().map_err(|source| Error::File {
            path: path.clone(),
            source,
        })
    }

    /// A process's checkpoint, if there is one that fits. Blocks.
    pub fn load(&self, key: &Key) -> Option<Kept> {
        let path = self.path(key.process);
        let bytes = Bytes::from(std::fs::read(&path).ok()?);
        match decode(&bytes, key) {
            Ok(found) => Some(found),
            Err(why) => {
                tracing::warn!(path = %path.display(), "checkpoint left out, the log is replayed: {why}");
                None
            }
        }
    }
}

fn encode(head: &Head, image: &[u8]) -> Bytes {
    let head = serde_json::to_vec(head).expect("texts and numbers are JSON");
    let mut out = BytesMut::with_capacity(LEAD_BYTES + head.len() + image.len() + HASH_BYTES);
    out.put_slice(MAGIC);
    out.put_u16_le(VERSION);
    out.put_u32_le(head.len().try_into().expect("a head is a few hundred bytes"));
    out.put_slice(&head);
    out.put_slice(image);
    let hash = blake3::hash(&out);
    out.put_slice(hash.as_bytes());
    out.freeze()
}

fn decode(bytes: &Bytes, key: &Key) -> Result<Kept, &'static str> {
    let lead: &[u8; LEAD_BYTES] = bytes.first_chunk().ok_or("it is cut off")?;
    let (magic, rest) = lead.split_at(8);
    if magic != MAGIC {
        return Err("it is no checkpoint");
    }
    if rest[..2] != VERSION.to_le_bytes() {
        return Err("it has another version");
    }
    let head_len = u32::from_le_bytes([rest[2], rest[3], rest[4], rest[5]]) as usize;
    let end = bytes
        .len()
        .checked_sub(HASH_BYTES)
        .filter(|end| *end >= LEAD_BYTES + head_len);
    let end = end.ok_or("it is cut off")?;
    if blake3::hash(&bytes[..end]).as_bytes()[..] != bytes[end..] {
        return Err("it is damaged");
    }
    let image = LEAD_BYTES + head_len;
    let head: Head =
        serde_json::from_slice(&bytes[LEAD_BYTES..image]).map_err(|_| "its head is unreadable")?;
    if head.key != *key {
        return Err("it is of another process, module or engine epoch");
    }
    Ok(Kept {
        stand: head.stand,
        since: head.since,
        image: bytes.slice(image..end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Head {
        let process = ProcessId([1; 32]);
        let key = Key {
            process,
            module: "aa".into(),
            epoch: "e1".into(),
            module_used: None,
        };
        let tick = Tick {
            timestamp_ms: 5,
            block_height: 6,
        };
        let (assignment, chain, cron) = (ItemId([2; 32]), Chain([3; 32]), Some("0-10-seconds".into()));
        Head {
            key,
            stand: Stand {
                slot: 3,
                assignment,
                chain,
                tick,
                cron,
            },
            since: Since::default(),
        }
    }

    fn kept(stand: Stand, since: Since) -> Kept {
        Kept {
            stand,
            since,
            image: Bytes::from_static(b"image"),
        }
    }

    /// A file of each version ever written opens, or is left out by intent.
    #[test]
    fn version_1_opens() {
        let vector = include_bytes!("../../spec/vectors/checkpoint_v1.bin");
        let Head { key, stand, since } = sample();
        assert_eq!(decode(&Bytes::from_static(vector), &key), Ok(kept(stand, since)));
    }

    #[test]
    fn reads_back_and_leaves_out_what_does_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let Head { key, stand, .. } = sample();
        let since = Since {
            evaluations: 3,
            ms: 4,
            last: Some(ItemId([7; 32])),
            bytes: 5,
        };
        assert_eq!(checkpoints.load(&key), None);
        checkpoints.save(&key, &stand, &since, b"image").unwrap();
        assert_eq!(checkpoints.load(&key), Some(kept(stand, since)));
        assert_eq!(
            checkpoints.load(&Key {
                epoch: "e2".into(),
                ..key.clone()
            }),
            None
        );
        let answered = Key {
            module_used: Some(ModuleId([4; 32])),
            ..key.clone()
        };
        assert_eq!(checkpoints.load(&answered), None);

        let path = checkpoints.path(key.process);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(checkpoints.load(&key), None, "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(checkpoints.load(&key), None, "cut at {at}");
        }
    }
}
