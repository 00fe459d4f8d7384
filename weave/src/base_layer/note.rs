//! What is posted of the base layer, as notes of the log: transactions, chunks, and which items a bundle holds.
//!
//! Not here: checking. The invariant: what is written was checked, and reads back as it was. Source:
//! spec/storage.md, "Notes".

use bytes::{Buf, BufMut, Bytes, BytesMut};
use spec::contract::Posted;
use spec::{Address, ItemId, Transaction};

use super::chunk::Root;
use crate::record::{Note, NoteKind};

/// A transaction, with its data if that came along.
pub const TRANSACTION: NoteKind = NoteKind(0x0102);
/// A chunk of a transaction's data.
pub const CHUNK: NoteKind = NoteKind(0x0103);
/// Which items lie directly in a bundle.
pub const UNFOLDED: NoteKind = NoteKind(0x0104);
/// Version of all three.
const VERSION: u8 = 1;

/// A transaction's place among all that were posted here, and what it is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its id.
    pub id: ItemId,
    /// Whose it is.
    pub owner: Address,
    /// Where its data ends, counted from 1 over everything posted here.
    pub end: u64,
    /// What its chunks are of; `None` without data.
    pub root: Option<Root>,
}

/// A chunk that was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it is of.
    pub root: Root,
    /// Where it begins in the data.
    pub start: u64,
    /// The proof.
    pub data_path: Bytes,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A bundle and what lies directly in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfolded {
    /// The transaction or item whose data the bundle is.
    pub bundle: ItemId,
    /// Its items, or a part of them.
    pub items: Vec<ItemId>,
}

/// The note of a transaction: version (1), id, owner, end, data's size, data root (zeroes without data), length of the
/// JSON (u32), the JSON without data, the data if it came along.
pub fn transaction(head: &Head, transaction: &Transaction, data: &[u8]) -> Note {
    let json = transaction.to_json(None);
    let mut body = BytesMut::with_capacity(HEAD_LEN + json.len() + data.len());
    let (root, size) = head.root.unwrap_or_default();
    body.put_u8(VERSION);
    body.put_slice(head.id.bytes());
    body.put_slice(head.owner.bytes());
    body.put_u64_le(head.end);
    body.put_u64_le(size);
    body.put_slice(&root);
    body.put_u32_le(u32::try_from(json.len()).expect("tags are bounded"));
    assert_eq!(body.len(), HEAD_LEN, "every field has its fixed length");
    body.put_slice(json.as_bytes());
    body.put_slice(data);
    Note {
        kind: TRANSACTION,
        body: body.freeze(),
    }
}

/// Version, id, owner, end, size, root, length of the JSON.
const HEAD_LEN: usize = 1 + 32 + 32 + 8 + 8 + 32 + 4;

/// The head of a transaction's note; `None` for other notes.
pub fn head(note: &Note) -> Option<Head> {
    let mut body = of(note, TRANSACTION, HEAD_LEN)?;
    let (id, owner) = (ItemId(array(&mut body)), Address(array(&mut body)));
    let (end, size, root) = (body.get_u64_le(), body.get_u64_le(), array(&mut body));
    let root = (size > 0).then_some((root, size));
    Some(Head { id, owner, end, root })
}

/// The transaction of a note, with the data that came along; `None` for other notes.
pub fn posted(note: &Note) -> Option<Posted> {
    let head = head(note)?;
    let rest = note.body.slice(HEAD_LEN..);
    let len = u32::from_le_bytes(note.body[HEAD_LEN - 4..HEAD_LEN].try_into().expect("4 bytes")) as usize;
    let json = rest.get(..len)?;
    let (transaction, _) = Transaction::from_json(json).ok()?;
    let data = rest.slice(len..);
    // Without chunks there is nothing to wait for.
    let is_here = !data.is_empty() || head.root.is_none();
    Some(Posted {
        transaction,
        data: is_here.then_some(data),
    })
}

/// The note of a chunk: version (1), data root, data's size, start, length of the proof (u32), proof, bytes.
pub fn chunk(piece: &Piece) -> Note {
    let mut body = BytesMut::with_capacity(CHUNK_HEAD_LEN + piece.data_path.len() + piece.bytes.len());
    body.put_u8(VERSION);
    body.put_slice(&piece.root.0);
    body.put_u64_le(piece.root.1);
    body.put_u64_le(piece.start);
    body.put_u32_le(u32::try_from(piece.data_path.len()).expect("a proof is bounded"));
    body.put_slice(&piece.data_path);
    body.put_slice(&piece.bytes);
    Note {
        kind: CHUNK,
        body: body.freeze(),
    }
}

/// Version, data root, size, start, length of the proof.
const CHUNK_HEAD_LEN: usize = 1 + 32 + 8 + 8 + 4;

/// The chunk of a note; `None` for other notes.
pub fn piece(note: &Note) -> Option<Piece> {
    let mut body = of(note, CHUNK, CHUNK_HEAD_LEN)?;
    let root = (array(&mut body), body.get_u64_le());
    let (start, len) = (body.get_u64_le(), body.get_u32_le() as usize);
    let data_path = (body.len() >= len).then(|| body.split_to(len))?;
    Some(Piece {
        root,
        start,
        data_path,
        bytes: body,
    })
}

/// The note of a bundle: version (1), the bundle's id, its items' ids.
pub fn unfolded(unfolded: &Unfolded) -> Note {
    let mut body = BytesMut::with_capacity(33 + 32 * unfolded.items.len());
    body.put_u8(VERSION);
    body.put_slice(unfolded.bundle.bytes());
    unfolded.items.iter().for_each(|id| body.put_slice(id.bytes()));
    Note {
        kind: UNFOLDED,
        body: body.freeze(),
    }
}

/// The bundle of a note; `None` for other notes.
pub fn bundle(note: &Note) -> Option<Unfolded> {
    let mut body = of(note, UNFOLDED, 33)?;
    let bundle = ItemId(array(&mut body));
    let rows = body.chunks_exact(32);
    let items = rows.map(|row| ItemId(row.try_into().expect("rows of 32 bytes")));
    Some(Unfolded {
        bundle,
        items: items.collect(),
    })
}

/// What follows the version of a note of this kind.
fn of(note: &Note, kind: NoteKind, least: usize) -> Option<Bytes> {
    let is_one = note.kind == kind && note.body.len() >= least && note.body[0] == VERSION;
    is_one.then(|| note.body.slice(1..))
}

fn array(body: &mut Bytes) -> [u8; 32] {
    let mut array = [0; 32];
    body.copy_to_slice(&mut array);
    array
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]
    use spec::Signer;
    use spec::transaction::Content;

    use super::*;

    #[test]
    fn notes_read_back_and_no_cut_passes_for_another() {
        let signed = Content::carrying(b"data")
            .sign(&Signer::ethereum(&[3; 32]).unwrap())
            .unwrap();
        let root = Some((signed.content.data_root.unwrap(), 4));
        let written = Head {
            id: signed.id,
            owner: signed.owner.address(),
            end: 4,
            root,
        };
        let note = transaction(&written, &signed, b"data");
        assert_eq!(head(&note), Some(written));
        let read = posted(&note).unwrap();
        assert_eq!(
            (read.transaction, read.data.as_deref()),
            (signed.clone(), Some(&b"data"[..]))
        );
        assert_eq!(
            posted(&transaction(&written, &signed, b"")).unwrap().data,
            None,
            "it comes by chunks"
        );
        assert!((0..HEAD_LEN).all(|end| {
            head(&Note {
                body: note.body.slice(..end),
                ..note.clone()
            })
            .is_none()
        }));

        let held = Piece {
            root: ([7; 32], 9),
            start: 4,
            data_path: "path".into(),
            bytes: "chunk".into(),
        };
        assert_eq!(piece(&chunk(&held)), Some(held));
        let held = Unfolded {
            bundle: ItemId([1; 32]),
            items: vec![ItemId([2; 32]), ItemId([3; 32])],
        };
        assert_eq!(bundle(&unfolded(&held)), Some(held.clone()));
        assert_eq!(
            (head(&unfolded(&held)), piece(&note), bundle(&note)),
            (None, None, None)
        );
        let newer = Note {
            kind: UNFOLDED,
            body: Bytes::from(vec![2; 40]),
        };
        assert_eq!(bundle(&newer), None);
    }
}
