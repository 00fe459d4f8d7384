//! Verifies many items of few signers: tables for the keys that come again make an Ed25519 check three times as fast.
//!
//! Not a batch equation: each signature is decided by itself, by the same equation on the same bytes as
//! [`DataItem::verify`], and what this path does not accept that one decides. Only the last step, from points to bytes,
//! is shared by many signatures. The invariant: it accepts nothing that `DataItem::verify` refuses, and refuses nothing
//! that it accepts.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{Context, SHA512};
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;

use crate::item::{DataItem, ItemError};
use crate::signature::{SignatureType, is_small_order};

/// Signatures whose points become bytes together.
const SHARED: usize = 64;
/// Bits of a scalar that a table of a frequent key takes in one step; such a table has 0.6 MiB.
const WIDE_BITS: usize = 8;
/// The same for other keys; such a table has 80 KiB and pays off at the fourth signature.
const NARROW_BITS: usize = 4;
/// Signatures of one key in one call from which a narrow table is made, and a wide one.
const NARROW_FROM: usize = 4;
const WIDE_FROM: usize = 256;
/// Most tables that are kept; at the limit all but the base point's are dropped.
const TABLES_MAX: usize = 64;

/// An owner's key as it stands in an item.
type Key = [u8; 32];

/// Multiples of a point, so that its product with a scalar is additions only.
struct Table {
    bits: usize,
    /// For each step `2^(bits * step)` times the point, times 1 to `2^(bits - 1)`.
    multiples: Vec<EdwardsPoint>,
}

impl Table {
    fn of(point: EdwardsPoint, bits: usize) -> Table {
        let steps = 256usize.div_ceil(bits);
        let mut multiples = Vec::with_capacity(steps << (bits - 1));
        let mut base = point;
        for _ in 0..steps {
            let mut multiple = base;
            for _ in 0..1 << (bits - 1) {
                multiples.push(multiple);
                multiple += base;
            }
            // The last one kept is half of the next step's base.
            base = multiples[multiples.len() - 1];
            base += base;
        }
        Table { bits, multiples }
    }

    /// Adds the scalar's multiple of the point to `sum`. In variable time: nothing here is secret.
    fn add_to(&self, mut sum: EdwardsPoint, scalar: &Scalar) -> EdwardsPoint {
        let half = 1i32 << (self.bits - 1);
        let bytes = scalar.as_bytes();
        let mut carry = 0;
        for (step, multiples) in self.multiples.chunks_exact(half as usize).enumerate() {
            let digit = carry + digit(bytes, step * self.bits, self.bits);
            carry = i32::from(digit > half);
            match digit - carry * 2 * half {
                0 => {}
                digit @ 1.. => sum += multiples[digit as usize - 1],
                digit => sum -= multiples[digit.unsigned_abs() as usize - 1],
            }
        }
        assert_eq!(carry, 0, "a scalar is below 2^253");
        sum
    }
}

/// `bits` bits of a number; `bits` divides 8.
fn digit(bytes: &[u8; 32], at: usize, bits: usize) -> i32 {
    i32::from(bytes[at / 8] >> (at % 8)) & ((1 << bits) - 1)
}

/// Verifies items and remembers the tables of keys it has met. Share it by `Arc`.
pub struct Verifier {
    base: Table,
    /// Of `-A` for each key `A`; `None`: no key that the fast path takes.
    tables: RwLock<HashMap<Key, Option<Arc<Table>>>>,
}

impl Default for Verifier {
    fn default() -> Verifier {
        Verifier::new()
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

/// One signature on its way through the fast path.
struct Claim {
    index: usize,
    /// What the signature says that comes out.
    nonce: [u8; 32],
    /// What comes out.
    point: EdwardsPoint,
}

impl Verifier {
    /// One that has met no key yet.
    pub fn new() -> Verifier {
        Verifier {
            base: Table::of(ED25519_BASEPOINT_POINT, WIDE_BITS),
            tables: RwLock::default(),
        }
    }

    /// Verifies all of them, as [`DataItem::verify`] would one by one.
    ///
    /// # Errors
    /// The place and fault of the first that does not verify; those before it do.
    pub fn verify(&self, items: &[DataItem]) -> Result<(), (usize, ItemError)> {
        let tables = self.tables_for(items);
        let mut claims = Vec::with_capacity(SHARED);
        for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_verified()) {
            let key = item.owner().first_chunk::<32>();
            let table = key
                .filter(|_| item.signature_type() == SignatureType::Ed25519)
                .and_then(|key| tables.get(key));
            claims.extend(table.and_then(|table| self.claim(index, item, table)));
            if claims.len() == SHARED {
                settle(items, &mut claims);
            }
        }
        settle(items, &mut claims);
        // Whatever did not take the fast path, or failed on it, is decided here.
        let mut all = items.iter().enumerate();
        all.try_for_each(|(index, item)| item.verify().map_err(|error| (index, error)))
    }

    /// Tables of the keys that come often enough in these items.
    fn tables_for(&self, items: &[DataItem]) -> HashMap<Key, Arc<Table>> {
        let mut counts: HashMap<&Key, usize> = HashMap::new();
        for item in items {
            if item.signature_type() == SignatureType::Ed25519
                && !item.is_verified()
                && let Some(key) = item.owner().first_chunk()
            {
                *counts.entry(key).or_default() += 1;
            }
        }
        // A table is some 80 KiB: a bundle of many keys gets them for those that come most often.
        let mut counts: Vec<(&Key, usize)> = counts.into_iter().collect();
        counts.sort_unstable_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
        let tables = counts.into_iter().take(TABLES_MAX).filter_map(|(key, count)| {
            let bits = if count >= WIDE_FROM {
                WIDE_BITS
            } else {
                NARROW_BITS
            };
            let table = self.known(key, bits, count >= NARROW_FROM)?;
            Some((*key, table))
        });
        tables.collect()
    }

    fn known(&self, key: &Key, bits: usize, is_worth_it: bool) -> Option<Arc<Table>> {
        let known = {
            let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
            tables.get(key).cloned()
        };
        let is_enough = |table: &Option<Arc<Table>>| table.as_ref().is_none_or(|table| table.bits >= bits);
        if let Some(table) = known.filter(|table| is_enough(table) || !is_worth_it) {
            return table;
        }
        is_worth_it.then_some(())?;
        let table = negated(key).map(|point| Arc::new(Table::of(point, bits)));
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.len() >= TABLES_MAX {
            tables.clear();
        }
        tables.insert(*key, table.clone());
        table
    }

    /// `sB - hA` for a signature `(R, s)` of `A`; `None` if the signature is not one of the usual form.
    fn claim(&self, index: usize, item: &DataItem, table: &Table) -> Option<Claim> {
        let (nonce, scalar) = item.signature().split_first_chunk::<32>()?;
        let scalar = Scalar::from_canonical_bytes(*scalar.first_chunk()?).into_option()?;
        if is_small_order(nonce) {
            return None;
        }
        let mut context = Context::new(&SHA512);
        context.update(nonce);
        context.update(item.owner());
        context.update(&item.deep_hash());
        let hash = context.finish();
        let hash = Scalar::from_bytes_mod_order_wide(hash.as_ref().first_chunk::<64>()?);
        let point = self.base.add_to(EdwardsPoint::identity(), &scalar);
        Some(Claim {
            index,
            nonce: *nonce,
            point: table.add_to(point, &hash),
        })
    }
}

/// `-A`, if `A` is a key in its one canonical form and not of small order.
fn negated(key: &Key) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY(*key).decompress()?;
    (point.compress().0 == *key && !is_small_order(key)).then(|| -point)
}

/// Marks the items as verified whose signatures say what came out.
fn settle(items: &[DataItem], claims: &mut Vec<Claim>) {
    let points: Vec<EdwardsPoint> = claims.iter().map(|claim| claim.point).collect();
    let bytes = EdwardsPoint::compress_batch_alloc(&points);
    assert_eq!(bytes.len(), claims.len(), "each point has its bytes");
    for (claim, bytes) in claims.drain(..).zip(bytes) {
        if bytes.0 == claim.nonce {
            items[claim.index].set_verified();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::item::ItemParts;
    use crate::keys::Signer;

    fn item(key: u8, number: u64) -> DataItem {
        let parts = ItemParts {
            data: Bytes::from(format!("message {number} of {key}")),
            ..ItemParts::default()
        };
        let signed = DataItem::sign(&parts, &Signer::ed25519(&[key; 32])).expect("a signed item");
        DataItem::parse(signed.bytes().clone()).expect("it reads back")
    }

    fn changed(item: &DataItem, at: usize, flip: u8) -> DataItem {
        let mut bytes = item.bytes().to_vec();
        bytes[at] ^= flip;
        DataItem::parse(bytes.into()).expect("only signature, key or data are changed")
    }

    #[test]
    fn it_accepts_what_single_checks_accept_for_frequent_and_rare_keys() {
        let verifier = Verifier::new();
        let frequent = (0..WIDE_FROM as u64 + 3).map(|number| item(1, number));
        let some = (0..NARROW_FROM as u64).map(|number| item(2, number));
        let items: Vec<DataItem> = frequent.chain(some).chain([item(3, 0)]).collect();
        assert_eq!(verifier.verify(&items), Ok(()));
        assert!(items.iter().all(DataItem::is_verified));
        let tables = verifier.tables.read().expect("no panic before");
        let bits: Vec<_> = [1, 2, 3]
            .map(|n| {
                tables
                    .get(Signer::ed25519(&[n; 32]).owner())
                    .map(|t| t.as_ref().map(|t| t.bits))
            })
            .into();
        assert_eq!(bits, [Some(Some(WIDE_BITS)), Some(Some(NARROW_BITS)), None]);
    }

    #[test]
    fn every_changed_bit_of_a_signature_is_refused_by_its_place() {
        let verifier = Verifier::new();
        let good: Vec<DataItem> = (0..NARROW_FROM as u64 * 2)
            .map(|number| item(1, number))
            .collect();
        for bit in 0..64 * 8 {
            let mut items: Vec<DataItem> = good
                .iter()
                .map(|item| DataItem::parse(item.bytes().clone()).expect("as before"))
                .collect();
            items[5] = changed(&items[5], 2 + bit / 8, 1 << (bit % 8));
            assert_eq!(
                verifier.verify(&items),
                Err((5, ItemError::Signature(2))),
                "bit {bit}"
            );
            assert!(!items[5].is_verified());
        }
    }

    #[test]
    fn many_keys_share_a_bounded_number_of_tables() {
        let verifier = Verifier::new();
        let keys = 0..TABLES_MAX as u8 + 20;
        let items: Vec<DataItem> = keys
            .flat_map(|key| (0..NARROW_FROM as u64 + u64::from(key == 83)).map(move |n| item(key, n)))
            .collect();
        let tables = verifier.tables_for(&items);
        assert_eq!(tables.len(), TABLES_MAX);
        let most = Signer::ed25519(&[83; 32]);
        assert!(tables.contains_key(most.owner().first_chunk().expect("32 bytes")));
        assert_eq!(verifier.verify(&items), Ok(()));
    }

    /// Points of small order and other odd forms must end as the single check ends them.
    #[test]
    fn odd_points_end_as_in_the_single_check() {
        let verifier = Verifier::new();
        let template = item(1, 7);
        let p_plus_one = {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (0xee, 0x7f);
            bytes
        };
        let torsion = curve25519_dalek::constants::EIGHT_TORSION.map(|point| point.compress().0);
        let odd: Vec<[u8; 32]> = torsion.into_iter().chain([p_plus_one, [0xff; 32]]).collect();
        for (at, bytes) in odd.iter().enumerate() {
            for field in [2, 2 + 64] {
                let mut raw = template.bytes().to_vec();
                raw[field..field + 32].copy_from_slice(bytes);
                let raw = Bytes::from(raw);
                let items: Vec<DataItem> = (0..8)
                    .map(|_| DataItem::parse(raw.clone()).expect("it has the form"))
                    .collect();
                let single = DataItem::parse(raw.clone()).expect("it has the form").verify();
                assert_eq!(
                    verifier.verify(&items).is_ok(),
                    single.is_ok(),
                    "point {at} in field {field}"
                );
            }
        }
        // A scalar that is not reduced: s + l signs the same, and must be refused.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut raw = template.bytes().to_vec();
        let mut carry = 0u16;
        for (byte, add) in raw[34..66].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = carry as u8;
            carry >>= 8;
        }
        let items: Vec<DataItem> = (0..8)
            .map(|_| DataItem::parse(raw.clone().into()).expect("it has the form"))
            .collect();
        assert_eq!(verifier.verify(&items), Err((0, ItemError::Signature(2))));
    }

    #[test]
    fn a_signer_with_a_key_of_mixed_order_is_judged_alike() {
        // A = aB + T with T of order 8: whether (R, s) verifies depends on h, and both paths must agree on each.
        use curve25519_dalek::constants::EIGHT_TORSION;
        let verifier = Verifier::new();
        let (secret, nonce) = (Scalar::from(0x1234_5678_9abc_u64), Scalar::from(0xfeed_beef_u64));
        let key = (EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[1]).compress().0;
        let point = EdwardsPoint::mul_base(&nonce).compress().0;
        let mut outcomes = [0, 0];
        let items: Vec<DataItem> = (0..64u64)
            .map(|number| {
                let mut raw = item(1, number).bytes().to_vec();
                raw[66..98].copy_from_slice(&key);
                raw[2..34].copy_from_slice(&point);
                let unsigned = DataItem::parse(raw.clone().into()).expect("it has the form");
                let mut context = Context::new(&SHA512);
                [&point[..], &key, &unsigned.deep_hash()]
                    .iter()
                    .for_each(|part| context.update(part));
                let hash = context.finish();
                let hash = Scalar::from_bytes_mod_order_wide(hash.as_ref().first_chunk().expect("64 bytes"));
                raw[34..66].copy_from_slice((nonce + hash * secret).as_bytes());
                DataItem::parse(raw.into()).expect("it has the form")
            })
            .collect();
        // Half of a call's keys must be alike for the fast path; ask for each beside seven copies of itself.
        for item in &items {
            let copies: Vec<DataItem> = (0..8)
                .map(|_| DataItem::parse(item.bytes().clone()).expect("it has the form"))
                .collect();
            let single = DataItem::parse(item.bytes().clone())
                .expect("it has the form")
                .verify()
                .is_ok();
            assert_eq!(verifier.verify(&copies).is_ok(), single);
            outcomes[usize::from(single)] += 1;
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "both happen: {outcomes:?}");
    }
}
