//! Resume items: a scheduler that lost slots says where each of its logs stood when it went on.
//!
//! Pure. Not here: who may ask for one, and where it is kept. The invariant: rows are sorted by
//! process, so that one is found without reading the others. Source: spec/assignment.md.

use bytes::{BufMut, Bytes, BytesMut};

use crate::carrier::{own, own_tags};
use crate::ids::{ItemId, ProcessId};
use crate::item::{DataItem, ItemError, ItemParts};
use crate::keys::Signer;
use crate::tags::Tag;

/// Value of the tag `Type`.
pub const TYPE: &str = "Resume";
/// Name of an assignment's tag that names the resume item of its epoch.
pub const TAG: &str = "Resume";
/// Rows of one item at most: whoever reads one process's log fetches one item.
pub const ROWS_MAX: usize = 1024;
/// Process, slot, id of the assignment.
const ROW_LEN: usize = 32 + 8 + 32;

/// Where one log stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// Whose log.
    pub process: ProcessId,
    /// The last slot that the scheduler knew of.
    pub slot: u64,
    /// The assignment that has it.
    pub assignment: ItemId,
}

/// A resume item, read.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The signed item.
    pub item: DataItem,
    /// The epoch of the assignments after it.
    pub epoch: u64,
    rows: Bytes,
}

/// Why an item is no resume item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// A tag is missing or has not the one form it may have.
    #[error("the resume item's tag `{0}` is missing or malformed")]
    Tag(&'static str),
    /// The rows.
    #[error("the resume item's data is not rows of {ROW_LEN} bytes sorted by process")]
    Rows,
    /// It could not be signed or does not verify.
    #[error(transparent)]
    Item(#[from] ItemError),
}

impl Resume {
    /// Signs one. The stands are of different processes, at most [`ROWS_MAX`].
    ///
    /// # Errors
    /// Only the key's.
    pub fn sign(epoch: u64, stands: &[Stand], signer: &Signer) -> Result<Resume, ResumeError> {
        assert!(stands.len() <= ROWS_MAX, "an item has at most {ROWS_MAX} rows");
        assert!(
            stands.is_sorted_by(|a, b| a.process < b.process),
            "rows are sorted and of different processes"
        );
        assert!(epoch > 0, "the first epoch needs no resume item");
        let mut rows = BytesMut::with_capacity(stands.len() * ROW_LEN);
        for stand in stands {
            rows.put_slice(stand.process.bytes());
            rows.put_u64_le(stand.slot);
            rows.put_slice(stand.assignment.bytes());
        }
        let mut tags = own_tags(TYPE);
        tags.push(Tag::new("Epoch", epoch.to_string()));
        let parts = ItemParts {
            tags,
            data: rows.freeze(),
            ..ItemParts::default()
        };
        Resume::read(DataItem::sign(&parts, signer)?)
    }

    /// Reads one. The signature is the caller's to check.
    ///
    /// # Errors
    /// Names what is malformed.
    pub fn read(item: DataItem) -> Result<Resume, ResumeError> {
        for (name, value) in own(TYPE) {
            if item.tag(name) != Some(value) {
                return Err(ResumeError::Tag(name));
            }
        }
        let epoch = item.tag("Epoch").and_then(|text| text.parse().ok());
        let epoch = epoch
            .filter(|epoch| *epoch > 0)
            .ok_or(ResumeError::Tag("Epoch"))?;
        let rows = item.data();
        let resume = Resume { item, epoch, rows };
        let processes = || resume.rows.chunks(ROW_LEN).map(|row| row.get(..32));
        let is_whole = resume.rows.len().is_multiple_of(ROW_LEN) && resume.rows.len() / ROW_LEN <= ROWS_MAX;
        match is_whole && processes().is_sorted_by(|a, b| a < b) {
            true => Ok(resume),
            false => Err(ResumeError::Rows),
        }
    }

    /// Where each log stood, sorted by process.
    pub fn stands(&self) -> impl Iterator<Item = Stand> + '_ {
        self.rows.chunks_exact(ROW_LEN).map(stand)
    }

    /// Where a process's log stood; `None` if the scheduler knew nothing of it.
    pub fn stand(&self, process: ProcessId) -> Option<Stand> {
        let (rows, _) = self.rows.as_chunks::<ROW_LEN>();
        let found = rows.binary_search_by(|row| row[..32].cmp(process.bytes()));
        found.ok().map(|index| stand(&rows[index]))
    }
}

fn stand(row: &[u8]) -> Stand {
    let array = |at: usize| row[at..at + 32].try_into().expect("a row is that long");
    Stand {
        process: ProcessId(array(0)),
        slot: u64::from_le_bytes(row[32..40].try_into().expect("8 bytes")),
        assignment: ItemId(array(40)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_and_what_is_malformed_is_refused() {
        let signer = Signer::ed25519(&[1; 32]);
        let stands = [1u8, 3, 9].map(|n| Stand {
            process: ProcessId([n; 32]),
            slot: u64::from(n) * 7,
            assignment: ItemId([n + 100; 32]),
        });
        let made = Resume::sign(2, &stands, &signer).unwrap();
        let read = Resume::read(DataItem::parse_verified(made.item.bytes().clone()).unwrap()).unwrap();
        assert_eq!(read.stands().collect::<Vec<_>>(), stands);
        assert_eq!(read.stand(ProcessId([3; 32])), Some(stands[1]));
        assert_eq!(read.stand(ProcessId([2; 32])), None);
        assert_eq!(read.epoch, 2);
        let signed = |data: Vec<u8>, epoch: &str| {
            let mut tags = own_tags(TYPE);
            tags.push(Tag::new("Epoch", epoch.to_owned()));
            let parts = ItemParts {
                tags,
                data: data.into(),
                ..ItemParts::default()
            };
            Resume::read(DataItem::sign(&parts, &signer).unwrap()).unwrap_err()
        };
        let rows = read.rows.to_vec();
        let mut swapped = rows.clone();
        swapped.rotate_left(ROW_LEN);
        assert_eq!(signed(swapped, "1"), ResumeError::Rows);
        assert_eq!(signed(rows[1..].to_vec(), "1"), ResumeError::Rows);
        assert_eq!(signed(rows, "0"), ResumeError::Tag("Epoch"));
    }
}
