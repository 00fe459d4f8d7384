//! Ids as distinct types over 32 bytes, written as 43 characters of unpadded base64url.
//!
//! Not here: ids as a process sees them. At the evaluator an id or target is text (invariant 18).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Length of every id, in bytes.
pub const ID_LEN: usize = 32;
/// Length of every id's text form, in characters.
pub const ID_TEXT_LEN: usize = 43;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected 43 characters of base64url")]
pub struct IdError(pub String);

/// Unpadded base64url, the text form of every binary value on the wire.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads unpadded base64url; `None` if the text is none.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn decode_id(text: &str) -> Result<[u8; ID_LEN], IdError> {
    let error = || IdError(text.chars().take(ID_TEXT_LEN + 1).collect());
    if text.len() != ID_TEXT_LEN {
        return Err(error());
    }
    // The engine refuses the texts whose two spare bits are set, so every id has one text.
    let bytes = from_base64url(text).ok_or_else(error)?;
    bytes.try_into().map_err(|_| error())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; ID_LEN]);

        impl $name {
            /// The 32 bytes.
            pub const fn bytes(&self) -> &[u8; ID_LEN] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base64url(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), base64url(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                decode_id(text).map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                let bytes = bytes.try_into().map_err(|_| IdError(base64url(bytes)))?;
                Ok(Self(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// SHA-256 of a data item's signature: the item's id.
    ItemId
);
id!(
    /// The id of the data item that made a process.
    ProcessId
);
id!(
    /// The id of the data item that holds a module.
    ModuleId
);
id!(
    /// SHA-256 of a public key: an account.
    Address
);

impl From<ItemId> for ProcessId {
    fn from(id: ItemId) -> Self {
        ProcessId(id.0)
    }
}

impl From<ProcessId> for ItemId {
    fn from(id: ProcessId) -> Self {
        ItemId(id.0)
    }
}

impl From<ItemId> for ModuleId {
    fn from(id: ItemId) -> Self {
        ModuleId(id.0)
    }
}

impl From<ModuleId> for ItemId {
    fn from(id: ModuleId) -> Self {
        ItemId(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_has_one_form() {
        let id = ItemId([7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), ID_TEXT_LEN);
        // 43 times P sets a spare bit: some decoders take it, but it is not the text of any id.
        assert!("P".repeat(43).parse::<ItemId>().is_err());
        assert!("".parse::<ItemId>().is_err());
        assert!(format!("{id}=").parse::<ItemId>().is_err());
    }
}
