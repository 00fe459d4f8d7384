//! Verifies many items of few signers: tables for the keys that come again make an Ed25519 check twice as fast, and
//! where the processor has the instructions, eight at once with all their hashes make it ten times as fast.
//!
//! Not a batch equation: each signature is decided by itself, by the same equation on the same bytes as
//! [`DataItem::verify`], and what this path does not accept that one decides. Only inversions on the way from points to
//! bytes are shared by many signatures. The invariant: it accepts nothing that `DataItem::verify` refuses, and refuses
//! nothing that it accepts.

#[cfg(target_arch = "x86_64")]
mod lanes;
mod single;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;

use crate::deep_hash::{DEEP_HASH_LEN, DeepHash};
use crate::item::{DataItem, Header, ItemError};
use crate::signature::{SignatureType, is_small_order};

/// Signatures whose points become bytes together.
const SHARED: usize = 128;
/// Bits of a scalar that a table of a frequent key takes in one step; such a table has some 0.6 MiB.
const WIDE_BITS: usize = 8;
/// The same for other keys; such a table has some 80 KiB and pays off at the seventh signature:
/// a key that comes a few times in one call will come again.
const NARROW_BITS: usize = 4;
/// Signatures of one key in one call from which a narrow table is made, and a wide one.
const NARROW_FROM: usize = 4;
const WIDE_FROM: usize = 256;
/// Most tables that are kept; at the limit all but the base point's are dropped.
const TABLES_MAX: usize = 64;

/// What a signature's hash is over: nonce, key and deep hash.
const SIGNED_LEN: usize = 32 + 32 + DEEP_HASH_LEN;

/// An owner's key as it stands in an item.
type Key = [u8; 32];

/// A table of multiples of a point, so that its product with a scalar is additions only; and how hashes and sums are
/// had beside it.
trait Multiples: Sized {
    /// Of this point, for steps of `bits` bits of a scalar: [`NARROW_BITS`] or [`WIDE_BITS`].
    fn of(point: EdwardsPoint, bits: usize) -> Self;

    /// Bits of a step.
    fn bits(&self) -> usize;

    /// For each item SHA-512 of its nonce, its key and its deep hash.
    fn hashes(items: &[Signed<'_>]) -> Vec<[u8; 64]>;

    /// For each term its sum in the 32 bytes that stand for a point; `base` is the base point's table, a wide one.
    fn sums(base: &Self, terms: &[Term<'_, Self>]) -> Vec<[u8; 32]>;
}

/// What is hashed for a signature.
struct Signed<'a> {
    item: &'a DataItem,
    /// The signature's `R`.
    nonce: &'a [u8; 32],
    /// What the deep hash comes to up to the item's owner.
    opening: &'a DeepHash,
}

impl Signed<'_> {
    /// What is hashed, given the item's deep hash.
    fn message(&self, hash: &DeepHash) -> [u8; SIGNED_LEN] {
        let mut message = [0; SIGNED_LEN];
        message[..32].copy_from_slice(self.nonce);
        message[32..64].copy_from_slice(self.item.owner());
        message[64..].copy_from_slice(hash);
        message
    }
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
    /// `None`: no key that the fast path takes.
    keys: RwLock<HashMap<Key, Option<Arc<Owner<T>>>>>,
}

/// What is known of a key.
struct Owner<T> {
    /// Of `-A` for the key `A`.
    table: T,
    /// What the deep hash of each of its items begins with.
    opening: DeepHash,
}

/// One signature on its way through the fast path.
struct Claim<'a, T> {
    signed: Signed<'a>,
    /// The signature's `s`.
    scalar: Scalar,
    table: &'a T,
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
        let owners = self.owners_of(items);
        let mut claims = Vec::with_capacity(SHARED);
        for item in items.iter().filter(|item| is_for_us(item)) {
            let owner = item.owner().first_chunk::<32>().and_then(|key| owners.get(key));
            claims.extend(owner.and_then(|owner| claim(item, owner)));
            if claims.len() == SHARED {
                self.settle(&mut claims);
            }
        }
        self.settle(&mut claims);
    }

    /// Marks the items as verified whose signatures say what comes out.
    fn settle(&self, claims: &mut Vec<Claim<'_, T>>) {
        let (mut signed, mut terms) = (Vec::with_capacity(claims.len()), Vec::with_capacity(claims.len()));
        for claim in claims.drain(..) {
            signed.push(claim.signed);
            terms.push((claim.scalar, claim.table));
        }
        let hashes = T::hashes(&signed);
        assert_eq!(hashes.len(), signed.len(), "each item has its hash");
        let terms: Vec<Term<'_, T>> = terms
            .into_iter()
            .zip(hashes)
            .map(|((scalar, table), hash)| Term {
                scalar,
                hash: Scalar::from_bytes_mod_order_wide(&hash),
                table,
            })
            .collect();
        let sums = T::sums(&self.base, &terms);
        assert_eq!(sums.len(), signed.len(), "each point has its bytes");
        for (signed, sum) in signed.iter().zip(sums) {
            // `R` is `sB - hA`.
            if sum == *signed.nonce {
                signed.item.set_verified();
            }
        }
    }

    /// The keys that come often enough in these items.
    fn owners_of(&self, items: &[DataItem]) -> HashMap<Key, Arc<Owner<T>>> {
        let mut counts: HashMap<&Key, usize> = HashMap::new();
        for item in items.iter().filter(|item| is_for_us(item)) {
            if let Some(key) = item.owner().first_chunk() {
                *counts.entry(key).or_default() += 1;
            }
        }
        // A table is some 80 KiB: a bundle of many keys gets them for those that come most often.
        let mut counts: Vec<(&Key, usize)> = counts.into_iter().collect();
        counts.sort_unstable_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
        let owners = counts.into_iter().take(TABLES_MAX).filter_map(|(key, count)| {
            let bits = if count >= WIDE_FROM {
                WIDE_BITS
            } else {
                NARROW_BITS
            };
            let owner = self.known(key, bits, count >= NARROW_FROM)?;
            Some((*key, owner))
        });
        owners.collect()
    }

    fn known(&self, key: &Key, bits: usize, is_worth_it: bool) -> Option<Arc<Owner<T>>> {
        let known = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.get(key).cloned()
        };
        let is_enough =
            |owner: &Option<Arc<Owner<T>>>| owner.as_ref().is_none_or(|owner| owner.table.bits() >= bits);
        if let Some(owner) = known.filter(|owner| is_enough(owner) || !is_worth_it) {
            return owner;
        }
        is_worth_it.then_some(())?;
        let owner = negated(key).map(|point| {
            let opening = Header::opening_of(SignatureType::Ed25519, key);
            let table = T::of(point, bits);
            Arc::new(Owner { table, opening })
        });
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= TABLES_MAX {
            keys.clear();
        }
        keys.insert(*key, owner.clone());
        owner
    }
}

/// Whether the fast path may take the item.
fn is_for_us(item: &DataItem) -> bool {
    item.signature_type() == SignatureType::Ed25519 && !item.is_verified()
}

/// A signature `(R, s)`; `None` if it is not of the usual form.
fn claim<'a, T>(item: &'a DataItem, owner: &'a Owner<T>) -> Option<Claim<'a, T>> {
    let (nonce, scalar) = item.signature().split_first_chunk::<32>()?;
    let scalar = Scalar::from_canonical_bytes(*scalar.first_chunk()?).into_option()?;
    let signed = Signed {
        item,
        nonce,
        opening: &owner.opening,
    };
    (!is_small_order(nonce)).then_some(Claim {
        signed,
        scalar,
        table: &owner.table,
    })
}

/// `-A`, if `A` is a key in its one canonical form and not of small order.
fn negated(key: &Key) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY(*key).decompress()?;
    (point.compress().0 == *key && !is_small_order(key)).then(|| -point)
}

#[cfg(test)]
mod tests;
