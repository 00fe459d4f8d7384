//! Multiples of a point as they are added in lanes, and sums of them.
//!
//! Not here: which processor this runs on (`lanes`), when a table is worth it (`verifier`). The invariant: an entry's
//! limbs are tight, and entry `m` of step `k` is `m 2^(bits k)` times the point.

use std::arch::x86_64::*;

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;

use super::field::{self, Element, LIMBS};
use super::point::{self, Addends, Points};

/// Signatures that are worked on together.
pub const LANES: usize = 8;
/// Steps are whole eights, so that tables too are made in lanes.
const SCALAR_BITS: usize = 256;

/// One multiple of a point: `y + x`, `y - x` and `2 d x y` with five limbs each, and a word left over.
#[derive(Clone, Copy)]
pub struct Entry([__m512i; 2]);

/// Entries of a step: the neutral point and the multiples 1 to `2^(bits - 1)`.
const fn entries_per_step(bits: usize) -> usize {
    (1 << (bits - 1)) + 1
}

/// All entries for a point. `bits` is 4 or 8.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn entries(point: EdwardsPoint, bits: usize) -> Vec<Entry> {
    let steps = SCALAR_BITS / bits;
    let per_step = entries_per_step(bits);
    assert_eq!(
        (steps * bits, steps % LANES),
        (SCALAR_BITS, 0),
        "steps are whole eights"
    );
    let mut base = point;
    let mut bases = Vec::with_capacity(steps);
    for _ in 0..steps {
        bases.push(base);
        for _ in 0..bits {
            base += base;
        }
    }
    // All multiples of all eights become addends by one inversion.
    let mut multiples = Vec::with_capacity(steps / LANES * per_step);
    for base in coordinates(&bases) {
        let mut multiple = point::neutral();
        for _ in 0..per_step {
            multiples.push(multiple);
            multiple = point::add(&multiple, &base, 0);
        }
    }
    let mut out = vec![Entry([_mm512_setzero_si512(); 2]); steps * per_step];
    for (at, multiple) in point::all_addends(&multiples).iter().enumerate() {
        let (eight, m) = (at / per_step, at % per_step);
        for (lane, entry) in transposed(multiple).into_iter().enumerate() {
            out[(eight * LANES + lane) * per_step + m] = entry;
        }
    }
    out
}

/// Eights of points as addends.
#[target_feature(enable = "avx512f,avx512ifma")]
fn coordinates(points: &[EdwardsPoint]) -> Vec<Addends> {
    // The library tells `y` and the sign of `x`. With `(-i, 0)` added, a point's `y` is `-i x`: multiplied by `i`, `x`.
    const I: [u64; LIMBS] = [
        0x6_1b27_4a0e_a0b0,
        0x0_d5a5_fc8f_189d,
        0x7_ef5e_9cbd_0c60,
        0x7_8595_a680_4c9e,
        0x2_b832_4804_fc1d,
    ];
    let turned: Vec<EdwardsPoint> = points.iter().map(|point| point + EIGHT_TORSION[2]).collect();
    let [ys, xs] = [points, &turned].map(EdwardsPoint::compress_batch_alloc);
    let mut out = Vec::with_capacity(points.len() / LANES);
    for (ys, xs) in ys.as_chunks::<LANES>().0.iter().zip(xs.as_chunks::<LANES>().0) {
        let [y, turned] = [ys, xs].map(|eight| eight.map(|bytes| bytes.0));
        let x = field::mul(&field::from_bytes(&turned), &field::constant(I));
        out.push(point::addends(&x, &field::from_bytes(&y)));
    }
    out
}

/// Each lane's addend as an entry.
#[target_feature(enable = "avx512f,avx512ifma")]
fn transposed(addends: &Addends) -> [Entry; LANES] {
    let (s, d, p) = (addends.sum.0, addends.difference.0, addends.product.0);
    let first = field::transpose(&[s[0], s[1], s[2], s[3], s[4], p[0], p[1], p[2]]);
    let second = field::transpose(&[d[0], d[1], d[2], d[3], d[4], p[3], p[4], _mm512_setzero_si512()]);
    let mut out = [Entry([first[0]; 2]); LANES];
    for (entry, rows) in out.iter_mut().zip(first.into_iter().zip(second)) {
        *entry = Entry([rows.0, rows.1]);
    }
    out
}

/// What [`transposed`] came from.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn gathered(entries: &[&Entry; LANES]) -> Addends {
    let [mut first, mut second] = [[_mm512_setzero_si512(); LANES]; 2];
    for lane in 0..LANES {
        [first[lane], second[lane]] = entries[lane].0;
    }
    let [s0, s1, s2, s3, s4, p0, p1, p2] = field::transpose(&first);
    let [d0, d1, d2, d3, d4, p3, p4, _] = field::transpose(&second);
    Addends {
        sum: Element([s0, s1, s2, s3, s4]),
        difference: Element([d0, d1, d2, d3, d4]),
        product: Element([p0, p1, p2, p3, p4]),
    }
}

/// A scalar whose digits are one half too large each, so that no carry runs when they are read.
fn raised(scalar: &Scalar, bits: usize) -> [u8; 32] {
    let half_each = if bits == 4 { 0x88 } else { 0x80 };
    let mut carry = 0;
    let raised = scalar.as_bytes().map(|byte| {
        carry += u16::from(byte) + half_each;
        let low = carry as u8;
        carry >>= 8;
        low
    });
    assert_eq!(carry, 0, "a scalar is below 2^253");
    raised
}

/// Adds to each lane its scalar's multiple of its table's point. All tables have steps of `bits`. In variable time:
/// nothing here is secret.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn add_multiples(
    mut sum: Points,
    tables: &[&[Entry]; LANES],
    scalars: &[Scalar; LANES],
    bits: usize,
) -> Points {
    let per_step = entries_per_step(bits);
    let half = 1i32 << (bits - 1);
    let mut raised_scalars = [[0; 32]; LANES];
    for (to, scalar) in raised_scalars.iter_mut().zip(scalars) {
        *to = raised(scalar, bits);
    }
    for step in 0..SCALAR_BITS / bits {
        let mut entries = [&tables[0][0]; LANES];
        let mut negative = 0;
        for lane in 0..LANES {
            let (byte, shift) = (step * bits / 8, step * bits % 8);
            let digit = i32::from(raised_scalars[lane][byte] >> shift) & (2 * half - 1);
            let digit = digit - half;
            negative |= __mmask8::from(digit < 0) << lane;
            entries[lane] = &tables[lane][step * per_step + digit.unsigned_abs() as usize];
        }
        sum = point::add(&sum, &gathered(&entries), negative);
    }
    sum
}
