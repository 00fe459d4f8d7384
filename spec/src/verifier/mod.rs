//! Verifies many items of few signers: tables for the keys that come again make an Ed25519 check three times as fast,
//! and where the processor has the instructions, eight checks are done at once.
//!
//! Not a batch equation: each signature is decided by itself, by the same equation on the same bytes as
//! [`DataItem::verify`], and what this path does not accept that one decides. Only the last step, from points to bytes,
//! is shared by many signatures. The invariant: it accepts nothing that `DataItem::verify` refuses, and refuses nothing
//! that it accepts.

#[cfg(target_arch = "x86_64")]
mod lanes;
mod single;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{Context, SHA512};
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;

use crate::item::{DataItem, ItemError};
use crate::signature::{SignatureType, is_small_order};

/// Signatures whose points become bytes together.
const SHARED: usize = 128;
/// Bits of a scalar that a table of a frequent key takes in one step; such a table has some 0.6 MiB.
const WIDE_BITS: usize = 8;
/// The same for other keys; such a table has some 80 KiB and pays off at the fourth signature.
const NARROW_BITS: usize = 4;
/// Signatures of one key in one call from which a narrow table is made, and a wide one.
const NARROW_FROM: usize = 4;
const WIDE_FROM: usize = 256;
/// Most tables that are kept; at the limit all but the base point's are dropped.
const TABLES_MAX: usize = 64;

/// An owner's key as it stands in an item.
type Key = [u8; 32];

/// A table of multiples of a point, so that its product with a scalar is additions only.
trait Multiples: Sized {
    /// Of this point, for steps of `bits` bits of a scalar: [`NARROW_BITS`] or [`WIDE_BITS`].
    fn of(point: EdwardsPoint, bits: usize) -> Self;

    /// Bits of a step.
    fn bits(&self) -> usize;

    /// For each term its sum in the 32 bytes that stand for a point; `base` is the base point's table, a wide one.
    fn sums(base: &Self, terms: &[Term<'_, Self>]) -> Vec<[u8; 32]>;
}

/// `scalar` times the base point and `hash` times the table's.
struct Term<'a, T> {
    scalar: Scalar,
    hash: Scalar,
    table: &'a T,
}

/// Verifies items and remembers the tables of keys it has met. Share it by `Arc`.
pub struct Verifier(Engine);

enum Engine {
    Single(Tables<single::Table>),
    #[cfg(target_arch = "x86_64")]
    Lanes(Tables<lanes::Table>),
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

impl Verifier {
    /// One that has met no key yet.
    pub fn new() -> Verifier {
        #[cfg(target_arch = "x86_64")]
        if lanes::is_supported() {
            return Verifier(Engine::Lanes(Tables::new()));
        }
        Verifier(Engine::Single(Tables::new()))
    }

    /// Verifies all of them, as [`DataItem::verify`] would one by one.
    ///
    /// # Errors
    /// The place and fault of the first that does not verify; those before it do.
    pub fn verify(&self, items: &[DataItem]) -> Result<(), (usize, ItemError)> {
        match &self.0 {
            Engine::Single(tables) => tables.verify(items),
            #[cfg(target_arch = "x86_64")]
            Engine::Lanes(tables) => tables.verify(items),
        }
    }
}

/// The tables that are kept.
struct Tables<T> {
    base: T,
    /// Of `-A` for each key `A`; `None`: no key that the fast path takes.
    keys: RwLock<HashMap<Key, Option<Arc<T>>>>,
}

/// One signature on its way through the fast path.
struct Claim {
    index: usize,
    /// What the signature says that comes out.
    nonce: [u8; 32],
}

impl<T: Multiples> Tables<T> {
    fn new() -> Tables<T> {
        Tables {
            base: T::of(ED25519_BASEPOINT_POINT, WIDE_BITS),
            keys: RwLock::default(),
        }
    }

    fn verify(&self, items: &[DataItem]) -> Result<(), (usize, ItemError)> {
        self.accept(items);
        // Whatever did not take the fast path, or failed on it, is decided here.
        let mut all = items.iter().enumerate();
        all.try_for_each(|(index, item)| item.verify().map_err(|error| (index, error)))
    }

    /// The fast path: marks items as verified that are.
    fn accept(&self, items: &[DataItem]) {
        let tables = self.tables_for(items);
        let (mut claims, mut terms) = (Vec::with_capacity(SHARED), Vec::with_capacity(SHARED));
        for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_verified()) {
            let key = item.owner().first_chunk::<32>();
            let table = key
                .filter(|_| item.signature_type() == SignatureType::Ed25519)
                .and_then(|key| tables.get(key));
            if let Some((nonce, term)) = table.and_then(|table| term(item, &**table)) {
                claims.push(Claim { index, nonce });
                terms.push(term);
            }
            if claims.len() == SHARED {
                self.settle(items, &mut claims, &mut terms);
            }
        }
        self.settle(items, &mut claims, &mut terms);
    }

    /// Marks the items as verified whose signatures say what comes out.
    fn settle(&self, items: &[DataItem], claims: &mut Vec<Claim>, terms: &mut Vec<Term<'_, T>>) {
        let sums = T::sums(&self.base, terms);
        assert_eq!(sums.len(), claims.len(), "each point has its bytes");
        terms.clear();
        for (claim, sum) in claims.drain(..).zip(sums) {
            if sum == claim.nonce {
                items[claim.index].set_verified();
            }
        }
    }

    /// Tables of the keys that come often enough in these items.
    fn tables_for(&self, items: &[DataItem]) -> HashMap<Key, Arc<T>> {
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

    fn known(&self, key: &Key, bits: usize, is_worth_it: bool) -> Option<Arc<T>> {
        let known = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.get(key).cloned()
        };
        let is_enough = |table: &Option<Arc<T>>| table.as_ref().is_none_or(|table| table.bits() >= bits);
        if let Some(table) = known.filter(|table| is_enough(table) || !is_worth_it) {
            return table;
        }
        is_worth_it.then_some(())?;
        let table = negated(key).map(|point| Arc::new(T::of(point, bits)));
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= TABLES_MAX {
            keys.clear();
        }
        keys.insert(*key, table.clone());
        table
    }
}

/// The nonce `R` of a signature `(R, s)` of `A`, and `sB - hA`; `None` if the signature is not one of the usual form.
fn term<'a, T>(item: &DataItem, table: &'a T) -> Option<([u8; 32], Term<'a, T>)> {
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
    Some((*nonce, Term { scalar, hash, table }))
}

/// `-A`, if `A` is a key in its one canonical form and not of small order.
fn negated(key: &Key) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY(*key).decompress()?;
    (point.compress().0 == *key && !is_small_order(key)).then(|| -point)
}

#[cfg(test)]
mod tests;
