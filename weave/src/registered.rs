//! Bytes held under a published id on an operator's word, as a note of the log.
//!
//! Not here: who may register. The invariant: a true item of the id always wins over such bytes.

use bytes::{BufMut, Bytes, BytesMut};
use spec::contract::Registered;
use spec::{Address, ItemId, tags};

use crate::record::{Note, NoteKind};

/// Version of the note's body.
const VERSION: u8 = 1;
/// Version, id, account, length of the tags.
const HEAD_LEN: usize = 1 + 32 + 32 + 4;

/// The note: version (1), id (32), account (32), tag bytes' length (u32 LE), tags, data.
pub fn note(registered: &Registered) -> Note {
    let raw_tags = tags::encode_unchecked(&registered.tags);
    let mut body = BytesMut::with_capacity(HEAD_LEN + raw_tags.len() + registered.data.len());
    body.put_u8(VERSION);
    body.put_slice(registered.id.bytes());
    body.put_slice(registered.by.bytes());
    body.put_u32_le(raw_tags.len() as u32);
    body.put_slice(&raw_tags);
    body.put_slice(&registered.data);
    Note {
        kind: NoteKind::REGISTERED,
        body: body.freeze(),
    }
}

/// Reads a note; `None` if it records something else.
pub fn read(note: &Note) -> Option<Registered> {
    let body = &note.body;
    if note.kind != NoteKind::REGISTERED || body.len() < HEAD_LEN || body[0] != VERSION {
        return None;
    }
    let len = u32::from_le_bytes(body[65..HEAD_LEN].try_into().ok()?) as usize;
    let raw_tags = (body.len() - HEAD_LEN >= len).then(|| body.slice(HEAD_LEN..HEAD_LEN + len))?;
    Some(Registered {
        id: ItemId::try_from(&body[1..33]).ok()?,
        by: Address::try_from(&body[33..65]).ok()?,
        tags: tags::decode(&raw_tags).ok()?,
        data: Bytes::slice(body, HEAD_LEN + len..),
    })
}

#[cfg(test)]
mod tests {
    use spec::Tag;

    use super::*;

    #[test]
    fn a_note_reads_back_and_no_cut_passes() {
        let registered = Registered {
            id: ItemId([1; 32]),
            by: Address([2; 32]),
            tags: vec![Tag::new("Type", "Module")],
            data: Bytes::new(),
        };
        let written = note(&registered);
        assert_eq!(read(&written), Some(registered));
        for end in 0..written.body.len() {
            let body = written.body.slice(..end);
            assert_eq!(
                read(&Note {
                    body,
                    ..written.clone()
                }),
                None,
                "cut at {end}"
            );
        }
        let kind = NoteKind::GENESIS;
        assert_eq!(read(&Note { kind, ..written }), None);
    }
}
