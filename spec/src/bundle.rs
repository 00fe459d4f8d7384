//! Bundles: many data items in one buffer, and bundles inside items (ANS-104, section 1.1).
//!
//! Reading checks that sizes add up and that each listed id is the hash of its item's signature
//! before anything is allocated by a count from outside.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::ItemId;
use crate::item::{DataItem, ItemError};

/// Deepest nesting that is unfolded; what lies deeper stays inside its item.
pub const DEPTH_MAX: usize = 8;
/// Bytes of one row of the id table: size (32, little-endian), id (32).
const ROW_LEN: usize = 64;
/// Bytes of the item count.
const COUNT_LEN: usize = 32;

/// Why bytes are no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The table or an item is incomplete.
    #[error("the bundle is cut off in {0}")]
    CutOff(&'static str),
    /// Bytes follow the last item.
    #[error("{0} bytes follow the bundle's last item")]
    Trailing(usize),
    /// A number too large for any bundle.
    #[error("the bundle's {0} is absurdly large")]
    Absurd(&'static str),
    /// A listed id is not the item's.
    #[error("item {index} of the bundle has id {actual}, the table says {listed}")]
    Id {
        /// Which item, from 0.
        index: usize,
        /// What the table says.
        listed: ItemId,
        /// What its signature says.
        actual: ItemId,
    },
    /// An item cannot be read.
    #[error("item {index} of the bundle: {error}")]
    Item {
        /// Which item, from 0.
        index: usize,
        /// Why not.
        error: ItemError,
    },
}

/// The items of one bundle, in order. They share the bundle's buffer.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The items; signatures unchecked.
    pub items: Vec<DataItem>,
}

impl Bundle {
    /// Reads one level.
    pub fn parse(bytes: &Bytes) -> Result<Bundle, BundleError> {
        let count = small_number(bytes.get(..COUNT_LEN).ok_or(BundleError::CutOff("its count"))?);
        let count = count.ok_or(BundleError::Absurd("count"))?;
        let table_len = count.checked_mul(ROW_LEN).ok_or(BundleError::Absurd("count"))?;
        let table = bytes.get(COUNT_LEN..).and_then(|rest| rest.get(..table_len));
        let table = table.ok_or(BundleError::CutOff("its table"))?;
        let mut at = COUNT_LEN + table_len;
        let mut items = Vec::with_capacity(count);
        for (index, row) in table.chunks_exact(ROW_LEN).enumerate() {
            let size = small_number(&row[..32]).ok_or(BundleError::Absurd("item size"))?;
            let end = at.checked_add(size).filter(|end| *end <= bytes.len());
            let end = end.ok_or(BundleError::CutOff("an item"))?;
            let listed = ItemId::try_from(&row[32..]).expect("rows are 64 bytes");
            items.push(read_item(bytes.slice(at..end), index, listed)?);
            at = end;
        }
        match bytes.len() - at {
            0 => Ok(Bundle { items }),
            trailing => Err(BundleError::Trailing(trailing)),
        }
    }

    /// All items of a bundle and of the bundles inside it, outer before inner.
    ///
    /// Anybody can sign an item that claims to be a bundle and is none, or one nested without end.
    /// Such an item is an item like any other: it is listed, not unfolded, and hides no neighbour.
    ///
    /// # Errors
    /// Only if the outermost level is no bundle.
    pub fn parse_nested(bytes: &Bytes) -> Result<Vec<DataItem>, BundleError> {
        let mut all = Bundle::parse(bytes)?.items;
        let mut level = 0..all.len();
        for _ in 1..DEPTH_MAX {
            let carriers = all[level.clone()].iter().filter(|item| is_carrier(item));
            let inner: Vec<Bundle> = carriers
                .filter_map(|item| Bundle::parse(&item.data()).ok())
                .collect();
            level = all.len()..all.len() + inner.iter().map(|bundle| bundle.items.len()).sum::<usize>();
            all.extend(inner.into_iter().flat_map(|bundle| bundle.items));
            assert_eq!(level.end, all.len(), "each level follows the one it lies in");
        }
        Ok(all)
    }

    /// Bytes of the table of so many items: where the first item begins.
    pub fn table_len(count: usize) -> u64 {
        (COUNT_LEN + ROW_LEN * count) as u64
    }

    /// The table that precedes the items' bytes in a bundle.
    pub fn table(items: impl ExactSizeIterator<Item = (u64, ItemId)>) -> Bytes {
        let mut out = BytesMut::with_capacity(COUNT_LEN + ROW_LEN * items.len());
        put_number(&mut out, items.len() as u64);
        for (size, id) in items {
            put_number(&mut out, size);
            out.put_slice(id.bytes());
        }
        out.freeze()
    }

    /// The bundle of some items.
    pub fn encode(items: &[DataItem]) -> Bytes {
        let rows = items.iter().map(|item| (item.bytes().len() as u64, item.id()));
        let mut out = BytesMut::from(Bundle::table(rows));
        for item in items {
            out.put_slice(item.bytes());
        }
        out.freeze()
    }
}

/// Whether an item's data is a bundle: two tags say so.
pub fn is_carrier(item: &DataItem) -> bool {
    item.tag("Bundle-Format") == Some("binary") && item.tag("Bundle-Version") == Some("2.0.0")
}

fn read_item(bytes: Bytes, index: usize, listed: ItemId) -> Result<DataItem, BundleError> {
    let item = DataItem::parse(bytes).map_err(|error| BundleError::Item { index, error })?;
    match item.id() {
        actual if actual == listed => Ok(item),
        actual => Err(BundleError::Id {
            index,
            listed,
            actual,
        }),
    }
}

/// A 256-bit little-endian number, if it fits a `usize`.
fn small_number(bytes: &[u8]) -> Option<usize> {
    let (low, high) = bytes.split_at(8);
    let low = u64::from_le_bytes(low.try_into().expect("8 bytes"));
    let fits = high.iter().all(|b| *b == 0);
    fits.then(|| usize::try_from(low).ok()).flatten()
}

fn put_number(out: &mut BytesMut, number: u64) {
    out.put_u64_le(number);
    out.put_bytes(0, 24);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::ItemParts;
    use crate::keys::Signer;
    use crate::tags::Tag;

    fn item(n: u8) -> DataItem {
        let parts = ItemParts {
            data: vec![n; n.into()].into(),
            ..ItemParts::default()
        };
        DataItem::sign(&parts, &Signer::ed25519(&[9; 32])).unwrap()
    }

    fn carrier(data: Bytes) -> DataItem {
        let tags = vec![
            Tag::new("Bundle-Format", "binary"),
            Tag::new("Bundle-Version", "2.0.0"),
        ];
        let parts = ItemParts {
            tags,
            data,
            ..ItemParts::default()
        };
        DataItem::sign(&parts, &Signer::ed25519(&[9; 32])).unwrap()
    }

    #[test]
    fn a_bundle_reads_back_and_every_cut_is_refused() {
        let items = [item(0), item(3), item(200)];
        let bytes = Bundle::encode(&items);
        assert_eq!(Bundle::parse(&bytes).unwrap().items, items);
        for end in 0..bytes.len() {
            assert!(Bundle::parse(&bytes.slice(..end)).is_err(), "cut at {end}");
        }
        let empty = Bundle::encode(&[]);
        assert!(Bundle::parse(&empty).unwrap().items.is_empty());
    }

    #[test]
    fn a_wrong_id_in_the_table_is_refused() {
        let mut bytes = Bundle::encode(&[item(1)]).to_vec();
        bytes[COUNT_LEN + 40] ^= 1;
        assert!(matches!(
            Bundle::parse(&bytes.into()),
            Err(BundleError::Id { index: 0, .. })
        ));
    }

    #[test]
    fn nesting_is_unfolded_up_to_the_cap() {
        let mut bytes = Bundle::encode(&[item(5)]);
        for _ in 1..DEPTH_MAX {
            bytes = Bundle::encode(&[carrier(bytes)]);
        }
        assert_eq!(Bundle::parse_nested(&bytes).unwrap().len(), DEPTH_MAX);
        let deeper = Bundle::encode(&[carrier(bytes)]);
        assert_eq!(Bundle::parse_nested(&deeper).unwrap().len(), DEPTH_MAX);
    }
}
