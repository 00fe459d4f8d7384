//! Sums of points of Curve25519's Edwards form, eight at once.
//!
//! Not here: the field (`field`), which points are added (`table`). The invariant: the sum is right for every pair of
//! points of the curve, equal, opposite and neutral ones too: the formulas are complete, since the curve's `d` is no
//! square and -1 is one. Source: Hisil, Wong, Carter, Dawson, "Twisted Edwards curves revisited", section 3.1.

use std::arch::x86_64::*;

use super::field::{self, Element};

/// Half of the curve's constant `d` = -121665 / 121666.
const HALF_OF_D: [u64; field::LIMBS] = [
    0x5_a6e5_09ac_bc48,
    0x4_d414_1d8a_b75e,
    0x6_f3d1_3000_e014,
    0x7_9ce3_31d0_1e5d,
    0x6_901b_6771_5b7f,
];

/// Eight points `(x, y)` with `z` and `t` such that `x y = t / z`; all tight.
#[derive(Clone, Copy)]
pub struct Points {
    /// `z (y + x)`.
    sum: Element,
    /// `z (y - x)`.
    difference: Element,
    z: Element,
    t: Element,
}

/// Eight points to be added.
#[derive(Clone, Copy)]
pub struct Addends {
    /// `y + x`, below 2^52.
    pub sum: Element,
    /// `y - x`, below 2^52.
    pub difference: Element,
    /// `2 d x y`, tight.
    pub product: Element,
}

/// The neutral point in each lane.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn neutral() -> Points {
    let (zero, one) = (field::constant([0; 5]), field::constant([1, 0, 0, 0, 0]));
    Points {
        sum: one,
        difference: one,
        z: one,
        t: zero,
    }
}

/// Adds in each lane; subtracts in those of the mask.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn add(a: &Points, b: &Addends, negative: __mmask8) -> Points {
    // -(x, y) is (-x, y).
    let sum = field::choose(negative, &b.sum, &b.difference);
    let difference = field::choose(negative, &b.difference, &b.sum);
    let product = field::negate_where(negative, &b.product);

    let plus = field::product(&a.sum, &sum);
    let minus = field::product(&a.difference, &difference);
    let cross = field::product(&a.t, &product);
    let twice_z = field::twice(&a.z);
    let e = field::carry(&field::sub(&plus, &minus));
    let h = field::carry(&field::add(&plus, &minus));
    let f = field::carry(&field::sub(&twice_z, &cross));
    let g = field::carry(&field::add(&twice_z, &cross));
    // z x is e f, z y is g h: their sum and difference are carried, they themselves need not be.
    let (x, y) = (field::product(&e, &f), field::product(&g, &h));
    Points {
        sum: field::carry(&field::add(&y, &x)),
        difference: field::carry(&field::sub(&y, &x)),
        z: field::mul(&f, &g),
        t: field::mul(&e, &h),
    }
}

/// As addends, from `x` and `y`.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn addends(x: &Element, y: &Element) -> Addends {
    let (x, y) = (field::widen(x), field::widen(y));
    let sum = field::carry(&field::add(&y, &x));
    let difference = field::carry(&field::sub(&y, &x));
    with_product(sum, difference)
}

/// All of them as addends, by one inversion.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn all_addends(points: &[Points]) -> Vec<Addends> {
    let zs: Vec<Element> = points.iter().map(|point| point.z).collect();
    let mut out = Vec::with_capacity(points.len());
    for (point, over_z) in points.iter().zip(field::invert_all(&zs)) {
        let sum = field::mul(&point.sum, &over_z);
        let difference = field::mul(&point.difference, &over_z);
        out.push(with_product(sum, difference));
    }
    out
}

/// `(y + x)^2 - (y - x)^2` is `4 x y`.
#[target_feature(enable = "avx512f,avx512ifma")]
fn with_product(sum: Element, difference: Element) -> Addends {
    let squares = (
        field::product(&sum, &sum),
        field::product(&difference, &difference),
    );
    let four_xy = field::carry(&field::sub(&squares.0, &squares.1));
    Addends {
        sum,
        difference,
        product: field::mul(&four_xy, &field::constant(HALF_OF_D)),
    }
}

/// All of them in the 32 bytes that stand for a point: `y`, and above it whether `x` is odd.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn compress(points: &[Points]) -> Vec<[[u8; 32]; 8]> {
    let mut twice_zs = Vec::with_capacity(points.len());
    for point in points {
        twice_zs.push(field::carry(&field::twice(&point.z)));
    }
    let mut out = Vec::with_capacity(points.len());
    for (point, over) in points.iter().zip(field::invert_all(&twice_zs)) {
        let (sum, difference) = (field::widen(&point.sum), field::widen(&point.difference));
        let twice_y = field::carry(&field::add(&sum, &difference));
        let twice_x = field::carry(&field::sub(&sum, &difference));
        let mut bytes = field::to_bytes(&field::mul(&twice_y, &over));
        let xs = field::to_bytes(&field::mul(&twice_x, &over));
        for (bytes, x) in bytes.iter_mut().zip(xs) {
            bytes[31] |= (x[0] & 1) << 7;
        }
        out.push(bytes);
    }
    out
}
