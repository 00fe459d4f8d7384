//! One signature after the other, on any processor.
//!
//! Not here: what is accepted (`verifier`). The invariant: a table's multiples are of the one point it was made of.

use aws_lc_rs::digest::{SHA512, digest};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;

use super::{Multiples, Signed, Term};
use crate::deep_hash;

/// Multiples of a point: 80 KiB in steps of 4 bits, 640 KiB in steps of 8.
pub(super) struct Table {
    bits: usize,
    /// For each step `2^(bits * step)` times the point, times 1 to `2^(bits - 1)`.
    multiples: Vec<EdwardsPoint>,
}

impl Multiples for Table {
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

    fn bits(&self) -> usize {
        self.bits
    }

    fn hashes(items: &[Signed<'_>]) -> Vec<[u8; 64]> {
        let hash = |signed: &Signed<'_>| {
            let fields = signed.item.fields().map(deep_hash::blob);
            let message = signed.message(&deep_hash::go_on(*signed.opening, fields));
            let mut hash = [0; 64];
            hash.copy_from_slice(digest(&SHA512, &message).as_ref());
            hash
        };
        items.iter().map(hash).collect()
    }

    fn sums(base: &Table, terms: &[Term<'_, Table>]) -> Vec<[u8; 32]> {
        let sum = |term: &Term<'_, Table>| {
            let sum = base.add_to(EdwardsPoint::identity(), &term.scalar);
            term.table.add_to(sum, &term.hash)
        };
        let points: Vec<EdwardsPoint> = terms.iter().map(sum).collect();
        let bytes = EdwardsPoint::compress_batch_alloc(&points);
        bytes.into_iter().map(|bytes| bytes.0).collect()
    }
}

impl Table {
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
