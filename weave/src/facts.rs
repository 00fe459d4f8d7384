//! What can be asked about a record: id, owner, target, tags; and the terms they are found by.
//!
//! Not here: where terms are kept. The invariant: a query's terms are among those of every record
//! it matches. Terms are hashes, so the reverse is checked on the record itself.

use std::borrow::Cow;
use std::sync::Arc;

use spec::contract::{Query, Stored};
use spec::{Address, ItemId, Tag, signature};

use crate::base_layer::chunk::Root;
use crate::base_layer::note;
use crate::record::{Note, Record};
use crate::registered;

/// A hash of one thing that can be asked for.
pub type Term = u64;

/// The term of everything that can be listed at all.
pub const ANY: Term = 0;
/// The term of every transaction of the base layer.
pub const POSTED: Term = 1;

/// What can be asked about a record.
pub struct Facts<'a> {
    /// The id.
    pub id: ItemId,
    /// The account that signed or registered it.
    pub owner: Address,
    /// Whom it is for.
    pub target: Option<[u8; 32]>,
    /// Its tags.
    pub tags: Cow<'a, [Tag]>,
    /// Whether it was signed under this id; bytes may only be registered under it.
    pub is_signed: bool,
}

impl Facts<'_> {
    /// The facts of a record; `None` for notes that hold nothing to be found.
    pub fn of(record: &Record) -> Option<Facts<'_>> {
        match record {
            Record::Item(item) => Some(Facts {
                id: item.id(),
                owner: item.owner_address(),
                target: item.target().copied(),
                tags: Cow::Borrowed(item.tags()),
                is_signed: true,
            }),
            Record::Withheld(withheld) => Some(Facts {
                id: withheld.id(),
                owner: signature::address(withheld.owner()),
                target: withheld.target().copied(),
                tags: Cow::Owned(withheld.tags().unwrap_or_default()),
                is_signed: true,
            }),
            Record::Note(note) => Facts::of_note(note),
        }
    }

    fn of_note(note: &Note) -> Option<Facts<'static>> {
        if let Some(posted) = note::posted(note) {
            let transaction = posted.transaction;
            return Some(Facts {
                id: transaction.id,
                owner: transaction.owner.address(),
                target: transaction.content.target.map(|target| target.0),
                tags: Cow::Owned(transaction.content.tags),
                is_signed: true,
            });
        }
        registered::read(note).map(|registered| Facts {
            id: registered.id,
            owner: registered.by,
            target: None,
            tags: Cow::Owned(registered.tags),
            is_signed: false,
        })
    }

    /// Hands every term to `each`; the same one may come twice.
    pub fn terms(&self, mut each: impl FnMut(Term)) {
        each(ANY);
        each(id_term(&self.id));
        each(owner_term(&self.owner));
        self.target.iter().for_each(|target| each(recipient_term(target)));
        self.tags
            .iter()
            .for_each(|tag| each(tag_term(&tag.name, &tag.value)));
    }

    /// Whether all conditions but those on time and paging hold.
    pub fn match_query(&self, query: &Query) -> bool {
        let among = |list: &[ItemId]| list.is_empty() || list.contains(&self.id);
        let owned = query.owners.is_empty() || query.owners.contains(&self.owner);
        let target = |list: &[[u8; 32]]| self.target.is_some_and(|target| list.contains(&target));
        let sent = query.recipients.is_empty() || target(&query.recipients);
        among(&query.ids) && owned && sent && query.tags.iter().all(|filter| self.has_tag(filter))
    }

    fn has_tag(&self, filter: &spec::contract::TagFilter) -> bool {
        let named = self.tags.iter().filter(|tag| tag.name == filter.name.as_bytes());
        let mut values = named.map(|tag| &tag.value);
        values.any(|value| {
            filter.values.is_empty() || filter.values.iter().any(|wanted| *value == *wanted.as_bytes())
        })
    }
}

/// A record's id and whether it was signed under it: what the log's writer can afford to ask.
pub fn identity(record: &Record) -> Option<(ItemId, bool)> {
    match record {
        Record::Item(item) => Some((item.id(), true)),
        Record::Withheld(withheld) => Some((withheld.id(), true)),
        Record::Note(note) => match note::head(note) {
            Some(head) => Some((head.id, true)),
            None => registered::read(note).map(|registered| (registered.id, false)),
        },
    }
}

/// The record as the contract shows it; `None` for notes that hold nothing to be found.
pub fn stored(record: Record) -> Option<Stored> {
    match record {
        Record::Item(item) => Some(Stored::Item(item)),
        Record::Withheld(withheld) => Some(Stored::Withheld(withheld)),
        Record::Note(note) => match note::posted(&note) {
            Some(posted) => Some(Stored::Posted(Arc::new(posted))),
            None => registered::read(&note).map(|registered| Stored::Registered(Arc::new(registered))),
        },
    }
}

/// Hands every term by which a record is found to `each`: those of its facts, and those of a note about the base layer.
pub fn terms(record: &Record, mut each: impl FnMut(Term)) {
    if let Some(facts) = Facts::of(record) {
        facts.terms(&mut each);
    }
    let Some(note) = record.note() else { return };
    if let Some(head) = note::head(note) {
        each(POSTED);
        each(posted_by_term(&head.owner));
        head.root.iter().for_each(|root| each(root_term(root)));
    } else if let Some(piece) = note::piece(note) {
        each(chunk_term(&piece.root, piece.start));
    } else if let Some(unfolded) = note::bundle(note) {
        each(bundle_term(&unfolded.bundle));
        unfolded.items.iter().for_each(|item| each(member_term(item)));
    }
}

/// The term of a transaction by its data's root.
pub fn root_term((root, size): &Root) -> Term {
    hashed(&[b"root", root, &size.to_le_bytes()])
}

/// The term of an account's transactions.
pub fn posted_by_term(owner: &Address) -> Term {
    folded(owner.bytes(), 3)
}

/// The term of a chunk.
pub fn chunk_term((root, size): &Root, start: u64) -> Term {
    hashed(&[b"chunk", root, &size.to_le_bytes(), &start.to_le_bytes()])
}

/// The term of what lies in a bundle.
pub fn bundle_term(bundle: &ItemId) -> Term {
    folded(bundle.bytes(), 4)
}

/// The term of the bundle that an item lies in.
pub fn member_term(item: &ItemId) -> Term {
    folded(item.bytes(), 5)
}

/// The term of an id. Ids and accounts are hashes already.
pub fn id_term(id: &ItemId) -> Term {
    folded(id.bytes(), 1)
}

/// The term of an account.
pub fn owner_term(owner: &Address) -> Term {
    folded(owner.bytes(), 2)
}

/// The term of a target. Anybody chooses these bytes, so they are hashed.
pub fn recipient_term(target: &[u8; 32]) -> Term {
    hashed(&[b"recipient", target])
}

/// The term of a tag.
pub fn tag_term(name: &[u8], value: &[u8]) -> Term {
    hashed(&[b"tag", &(name.len() as u32).to_le_bytes(), name, value])
}

fn folded(bytes: &[u8; 32], kind: u64) -> Term {
    let first = u64::from_le_bytes(bytes[..8].try_into().expect("8 of 32 bytes"));
    not_any(first ^ kind.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn hashed(parts: &[&[u8]]) -> Term {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let hash = hasher.finalize();
    not_any(u64::from_le_bytes(
        hash.as_bytes()[..8].try_into().expect("8 of 32 bytes"),
    ))
}

fn not_any(term: Term) -> Term {
    term.max(POSTED + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_things_have_different_terms() {
        let bytes = [7; 32];
        let terms = [
            ANY,
            id_term(&ItemId(bytes)),
            owner_term(&Address(bytes)),
            recipient_term(&bytes),
            tag_term(b"ab", b"c"),
            tag_term(b"a", b"bc"),
        ];
        for (i, term) in terms.iter().enumerate() {
            assert!(!terms[..i].contains(term), "term {i}");
        }
    }
}
