//! Norms of one vector by AVX-512. Not here: who may call. Invariant: that of `x86.rs`: sums are of integers, floats
//! go through the definition's steps one number at a time.

use std::arch::x86_64::*;

use super::element::{code, load};
use super::math::{canon, store};
use crate::backend::cpu::{self, NORM_MAX};

/// The numbers of a vector.
const LANES: usize = 16;

/// [`cpu::norm_scale`] of a vector whose largest magnitude is in some lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn scale(most: __m512i) -> f32 {
    cpu::norm_scale(_mm512_reduce_max_epi32(most) as u32)
}

/// The larger of magnitudes so far and of sixteen numbers, as bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn larger(most: __m512i, v: __m512) -> __m512i {
    let size = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fff_ffff));
    _mm512_max_epi32(most, size)
}

/// [`cpu::norm_scale`] of a vector.
#[target_feature(enable = "avx512f")]
#[inline]
fn scale_of(x: &[f32]) -> f32 {
    let mut most = _mm512_setzero_si512();
    for x in x.chunks_exact(LANES) {
        most = larger(most, load(x));
    }
    scale(most)
}

/// The sum of the squares of a vector's codes.
#[target_feature(enable = "avx512f")]
#[inline]
fn squares(x: &[f32], scale: f32) -> i64 {
    let scale = _mm512_set1_ps(scale);
    let mut sums = [_mm512_setzero_si512(); 2];
    for x in x.chunks_exact(LANES) {
        let codes = code(load(x), scale);
        let odd = _mm512_srli_epi64::<32>(codes);
        sums[0] = _mm512_add_epi64(sums[0], _mm512_mul_epi32(codes, codes));
        sums[1] = _mm512_add_epi64(sums[1], _mm512_mul_epi32(odd, odd));
    }
    _mm512_reduce_add_epi64(_mm512_add_epi64(sums[0], sums[1]))
}

/// A number over the root of the mean square, times its gain.
#[target_feature(enable = "avx512f")]
#[inline]
fn normed(v: __m512, scale: __m512, inverse: __m512, gain: &[f32]) -> __m512 {
    let v = canon(_mm512_mul_ps(canon(_mm512_mul_ps(v, scale)), inverse));
    canon(_mm512_mul_ps(v, load(gain)))
}

/// [`cpu::rms_norm`] of whole sixteens.
#[target_feature(enable = "avx512f")]
pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len();
    assert!(n <= NORM_MAX && n.is_multiple_of(LANES) && gain.len() == n && out.len() == n);
    let scale = scale_of(x);
    let inverse = cpu::norm_inverse(squares(x, scale), n, scale, eps);
    let [scale, inverse] = [scale, inverse].map(|v| _mm512_set1_ps(v));
    for at in (0..n).step_by(LANES) {
        store(
            &mut out[at..],
            normed(load(&x[at..]), scale, inverse, &gain[at..]),
        );
    }
}

/// [`cpu::layer_norm`] of whole sixteens, where they stand.
#[target_feature(enable = "avx512f")]
pub fn layer_norm_in_place(x: &mut [f32], gain: &[f32], bias: &[f32], eps: f32) {
    let n = x.len();
    assert!(n <= NORM_MAX && n.is_multiple_of(LANES));
    assert!(gain.len() == n && bias.len() == n);
    let first = scale_of(x);
    let by = _mm512_set1_ps(first);
    let mut sum = _mm512_setzero_si512();
    for x in x.chunks_exact(LANES) {
        sum = _mm512_add_epi32(sum, code(load(x), by));
    }
    let mean = _mm512_set1_ps(cpu::norm_mean(_mm512_reduce_add_epi32(sum), n, first));
    let mut most = _mm512_setzero_si512();
    for x in x.chunks_exact_mut(LANES) {
        let left = canon(_mm512_sub_ps(load(x), mean));
        most = larger(most, left);
        store(x, left);
    }
    let scale = scale(most);
    let inverse = cpu::norm_inverse(squares(x, scale), n, scale, eps);
    let [scale, inverse] = [scale, inverse].map(|v| _mm512_set1_ps(v));
    for at in (0..n).step_by(LANES) {
        let v = normed(load(&x[at..]), scale, inverse, &gain[at..]);
        store(&mut x[at..], canon(_mm512_add_ps(v, load(&bias[at..]))));
    }
}
