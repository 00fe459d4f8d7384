//! Eight signatures at once, on processors with AVX-512 IFMA.
//!
//! Not here: what is accepted (`verifier`). The invariant: nothing runs here on another processor: tables and hashes ask
//! for the instructions, and sums need a table.

mod challenge;
mod field;
mod point;
mod sha;
mod table;

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;

use self::table::{Entry, LANES};
use super::{Multiples, Signed, Term, WIDE_BITS};

/// Multiples of a point: 72 KiB in steps of 4 bits, 516 KiB in steps of 8.
pub(super) struct Table {
    bits: usize,
    entries: Vec<Entry>,
}

/// Whether this processor has the instructions.
pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
}

#[allow(
    unsafe_code,
    reason = "vector instructions are called after the processor was asked whether it has them"
)]
impl Multiples for Table {
    fn of(point: EdwardsPoint, bits: usize) -> Table {
        assert!(is_supported(), "the caller has asked for the instructions");
        // SAFETY: the processor has the instructions.
        let entries = unsafe { table::entries(point, bits) };
        Table { bits, entries }
    }

    fn bits(&self) -> usize {
        self.bits
    }

    fn hashes(items: &[Signed<'_>]) -> Vec<[u8; 64]> {
        assert!(is_supported(), "the caller has asked for the instructions");
        // SAFETY: the processor has the instructions.
        unsafe { hashes(items) }
    }

    fn sums(base: &Table, terms: &[Term<'_, Table>]) -> Vec<[u8; 32]> {
        // SAFETY: there is a table, and `of` makes none where the processor has not the instructions.
        unsafe { sums(base, terms) }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn hashes(items: &[Signed<'_>]) -> Vec<[u8; 64]> {
    let mut out = Vec::with_capacity(items.len());
    for eight in items.chunks(LANES) {
        // Lanes that are left over repeat the first.
        let lanes = std::array::from_fn(|lane| eight.get(lane).unwrap_or(&eight[0]));
        out.extend_from_slice(&challenge::hashes(&lanes)[..eight.len()]);
    }
    out
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn sums(base: &Table, terms: &[Term<'_, Table>]) -> Vec<[u8; 32]> {
    assert_eq!(base.bits, WIDE_BITS, "the base point's steps are wide");
    // Lanes go in step, so those of an eight have tables of the same kind.
    let mut order: Vec<usize> = (0..terms.len()).collect();
    order.sort_by_key(|at| terms[*at].table.bits);
    let alike = order.chunk_by(|a, b| terms[*a].table.bits == terms[*b].table.bits);
    let eights: Vec<&[usize]> = alike.flat_map(|alike| alike.chunks(LANES)).collect();
    let mut points = Vec::with_capacity(eights.len());
    for eight in &eights {
        // Lanes that are left over repeat the first.
        let lane = |lane: usize| &terms[*eight.get(lane).unwrap_or(&eight[0])];
        let scalars: [Scalar; LANES] = std::array::from_fn(|at| lane(at).scalar);
        let hashes: [Scalar; LANES] = std::array::from_fn(|at| lane(at).hash);
        let tables: [&[Entry]; LANES] = std::array::from_fn(|at| &lane(at).table.entries[..]);
        let bases = [&base.entries[..]; LANES];
        let sum = table::add_multiples(point::neutral(), &bases, &scalars, base.bits);
        points.push(table::add_multiples(sum, &tables, &hashes, lane(0).table.bits));
    }
    let mut out = vec![[0; 32]; terms.len()];
    for (eight, bytes) in eights.iter().zip(point::compress(&points)) {
        for (at, bytes) in eight.iter().zip(bytes) {
            out[*at] = bytes;
        }
    }
    out
}

/// Runs a check of the files below, if this processor can.
#[cfg(test)]
#[allow(unsafe_code, reason = "the processor was asked before")]
fn where_supported(check: unsafe fn()) {
    if is_supported() {
        // SAFETY: the processor has the instructions.
        unsafe { check() }
    }
}
