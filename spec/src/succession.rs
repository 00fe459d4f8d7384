//! Successor items: a scheduler's key names the key that signs its assignments from then on.
//!
//! Pure. Not here: where it is kept, and whether the old key was stolen; whoever holds a key may
//! name its successor. The invariant: only the old key can, and one item leads from one key to one.
//! Source: spec/assignment.md.

use crate::carrier::{own, own_tags};
use crate::ids::Address;
use crate::item::{DataItem, ItemError, ItemParts};
use crate::keys::Signer;
use crate::tags::Tag;

/// Value of the tag `Type`.
pub const TYPE: &str = "Successor";
/// Name of the item's tag with the new address.
const SUCCESSOR: &str = "Successor";
/// Name of an assignment's tags that lead from the signer before to its own, oldest first.
pub const TAG: &str = "Succession";
/// Most successions between two assignments of one log, and of one scheduler: an assignment names all that its process has
/// not seen, and has no room for more.
pub const STEPS_MAX: usize = 32;

/// A successor item, read.
#[derive(Debug, Clone)]
pub struct Succession {
    /// The signed item.
    pub item: DataItem,
    /// Who signed it, and assignments before.
    pub from: Address,
    /// Who signs assignments after it.
    pub to: Address,
}

/// Why an item is no successor item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// A tag is missing or has not the one form it may have.
    #[error("the successor item's tag `{0}` is missing or malformed")]
    Tag(&'static str),
    /// A key succeeds to itself.
    #[error("the successor item names its own signer")]
    Same,
    /// It could not be signed.
    #[error(transparent)]
    Item(#[from] ItemError),
}

impl Succession {
    /// Signs one by the old key.
    ///
    /// # Errors
    /// The new address is the old one; the key cannot sign.
    pub fn sign(to: Address, old: &Signer) -> Result<Succession, SuccessionError> {
        let mut tags = own_tags(TYPE);
        tags.push(Tag::new(SUCCESSOR, to.to_string()));
        let parts = ItemParts {
            tags,
            ..ItemParts::default()
        };
        Succession::read(DataItem::sign(&parts, old)?)
    }

    /// Reads one. The signature is the caller's to check.
    ///
    /// # Errors
    /// Names what is malformed.
    pub fn read(item: DataItem) -> Result<Succession, SuccessionError> {
        for (name, value) in own(TYPE) {
            if item.tag(name) != Some(value) {
                return Err(SuccessionError::Tag(name));
            }
        }
        let to = item.tag(SUCCESSOR).and_then(|text| text.parse().ok());
        let to: Address = to.ok_or(SuccessionError::Tag(SUCCESSOR))?;
        let from = item.owner_address();
        match from == to {
            true => Err(SuccessionError::Same),
            false => Ok(Succession { item, from, to }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_succession_reads_back_and_leads_elsewhere() {
        let (old, new) = (Signer::ed25519(&[1; 32]), Signer::ed25519(&[2; 32]));
        let made = Succession::sign(new.address(), &old).unwrap();
        let read = Succession::read(DataItem::parse_verified(made.item.bytes().clone()).unwrap()).unwrap();
        assert_eq!((read.from, read.to), (old.address(), new.address()));
        let same = Succession::sign(old.address(), &old).unwrap_err();
        assert_eq!(same, SuccessionError::Same);
    }
}
