//! Attention of one head by AVX-512. Not here: who may call. Invariant: that of `x86.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::x86_64::*;

use super::element::{code, load};
use super::math::{canon, exp};
use crate::backend::Heads;
use crate::backend::cpu::{self, Cache, EXACT};
use crate::math::{pow2, rcp};

/// Thirty-two codes as 16-bit lanes.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
#[inline]
fn codes(codes: &[i8]) -> __m512i {
    assert!(codes.len() >= 32);
    // SAFETY: 32 readable bytes.
    _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) })
}

/// Dot products of a query with the keys of four positions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
#[inline]
fn dots<const PARTS: usize>(q: &[__m512i; PARTS], keys: [&[i8]; 4]) -> __m128i {
    let mut sums = [_mm512_setzero_si512(); 4];
    for at in 0..4 {
        for part in 0..PARTS {
            let k = codes(&keys[at][32 * part..]);
            sums[at] = _mm512_add_epi32(sums[at], _mm512_madd_epi16(q[part], k));
        }
    }
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let [low, high] = [pair(sums[0], sums[1]), pair(sums[2], sums[3])];
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

/// Adds the weighted values of two positions to the sums of numbers 8 j to 8 j + 3, and 8 j + 4 to 8 j + 7.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
#[inline]
fn add<const PARTS: usize>(sums: &mut [[__m512i; 2]; PARTS], weights: i32, values: [&[i8]; 2]) {
    let weights = _mm512_set1_epi32(weights);
    for part in 0..PARTS {
        let [a, b] = [codes(&values[0][32 * part..]), codes(&values[1][32 * part..])];
        let low = _mm512_madd_epi16(_mm512_unpacklo_epi16(a, b), weights);
        let high = _mm512_madd_epi16(_mm512_unpackhi_epi16(a, b), weights);
        sums[part] = [
            _mm512_add_epi32(sums[part][0], low),
            _mm512_add_epi32(sums[part][1], high),
        ];
    }
}

/// The query's codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
#[inline]
fn query<const PARTS: usize>(q: &[f32], unit: i32) -> [__m512i; PARTS] {
    let mut out = [_mm512_setzero_si512(); PARTS];
    let scale = _mm512_set1_ps(pow2(-unit));
    for part in 0..PARTS {
        let half = |at: usize| _mm512_cvtepi32_epi16(code(load(&q[32 * part + at..]), scale));
        out[part] = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(0)), half(16));
    }
    out
}

/// Sums of weighted values to numbers in order, added to what is there.
#[target_feature(enable = "avx512f")]
#[inline]
fn flush<const PARTS: usize>(sums: &[[__m512i; 2]; PARTS], out: &mut [i64]) {
    for part in 0..PARTS {
        let mut lanes = [[0_i32; 16]; 2];
        for (lanes, sum) in lanes.iter_mut().zip(sums[part]) {
            // SAFETY: 64 writable bytes.
            unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), sum) };
        }
        for (at, out) in out[32 * part..32 * part + 32].iter_mut().enumerate() {
            *out += i64::from(lanes[at % 8 / 4][at / 8 * 4 + at % 4]);
        }
    }
}

/// Sixteen positions: dot products and then weights, scores, scales of values.
#[derive(Debug, Clone, Copy, Default)]
struct Sixteen {
    weights: [i32; 16],
    scores: [f32; 16],
    scales: [f32; 16],
}

impl Sixteen {
    /// [`cpu::weigh`] of the positions of the mask, the others' weights being 0; gives what they add to the total.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn weigh(&mut self, top: __m512, inverse: __m512, mask: u16) -> i32 {
        const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
        let half = _mm512_set1_ps(0.5);
        let e = _mm512_mul_ps(
            exp(canon(_mm512_sub_ps(load(&self.scores), top))),
            _mm512_set1_ps(cpu::WEIGHT_ONE),
        );
        let share = canon(_mm512_mul_ps(load(&self.scales), inverse));
        let w = canon(_mm512_mul_ps(e, share));
        let p = _mm512_cvt_roundps_epi32::<DOWN>(_mm512_add_ps(e, half));
        let w = _mm512_maskz_cvt_roundps_epi32::<DOWN>(mask, _mm512_add_ps(w, half));
        // SAFETY: sixteen numbers are 64 writable bytes.
        unsafe { _mm512_storeu_si512(self.weights.as_mut_ptr().cast(), w) };
        _mm512_mask_reduce_add_epi32(mask, p)
    }
}

/// [`cpu::score`] of sixteen dot products.
#[target_feature(enable = "avx512f")]
#[inline]
fn score(dots: &[i32; 16], scales: &[f32; 16], step: f32, heads: &Heads) -> __m512 {
    if heads.cap != 0.0 {
        let mut scores = [0.0; 16];
        for at in 0..16 {
            scores[at] = cpu::score(dots[at], scales[at], step, heads);
        }
        return load(&scores);
    }
    // SAFETY: sixteen numbers are 64 readable bytes.
    let dots = unsafe { _mm512_loadu_si512(dots.as_ptr().cast()) };
    let score = canon(_mm512_mul_ps(_mm512_cvtepi32_ps(dots), load(scales)));
    canon(_mm512_mul_ps(score, _mm512_set1_ps(step)))
}

/// [`cpu::attend`] of a head of 32 `PARTS` numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
fn parts<const PARTS: usize>(q: &[f32], cache: &Cache, seen: &[usize], heads: &Heads, out: &mut [f32]) {
    let unit = cpu::unit(cpu::most(q), heads.profile);
    let (q, step) = (query::<PARTS>(q, unit), cpu::step(unit, heads));
    let count = seen.len();
    // In whole sixteens; what is past the last position repeats it, and does not count.
    let place = |at: usize| seen[at.min(count - 1)];
    let mut lanes = vec![Sixteen::default(); count.div_ceil(16)];
    let (mut top, mut most) = (_mm512_set1_ps(f32::MIN), _mm512_setzero_ps());
    for (block, lane) in lanes.iter_mut().enumerate() {
        let mut scales = [0.0; 16];
        for at in 0..16 {
            let place = place(16 * block + at);
            scales[at] = cache.key_scales[place];
            lane.scales[at] = cache.value_scales[place];
        }
        most = _mm512_max_ps(most, load(&lane.scales));
        for four in 0..4 {
            let keys = [0, 1, 2, 3].map(|at| cache.key(place(16 * block + 4 * four + at)));
            // SAFETY: four of sixteen numbers are sixteen writable bytes.
            unsafe { _mm_storeu_si128(lane.weights[4 * four..].as_mut_ptr().cast(), dots(&q, keys)) };
        }
        let scores = score(&lane.weights, &scales, step, heads);
        top = _mm512_max_ps(top, scores);
        // SAFETY: sixteen numbers are 64 writable bytes.
        unsafe { _mm512_storeu_ps(lane.scores.as_mut_ptr(), scores) };
    }
    let top = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    let most = _mm512_reduce_max_ps(most);
    let inverse = _mm512_set1_ps(rcp(most));
    let mut total = 0_i64;
    for (block, lane) in lanes.iter_mut().enumerate() {
        let mask = if count - 16 * block < 16 {
            (1 << (count - 16 * block)) - 1
        } else {
            u16::MAX
        };
        total += i64::from(lane.weigh(top, inverse, mask));
    }
    let mut sums = [0_i64; 512];
    for (lanes, seen) in lanes.chunks(EXACT / 16).zip(seen.chunks(EXACT)) {
        let mut part = [[_mm512_setzero_si512(); 2]; PARTS];
        for (pair, seen) in seen.chunks(2).enumerate() {
            let weights = &lanes[pair / 8].weights[2 * (pair % 8)..][..2];
            let both = weights[0] | weights[1] << 16;
            add(
                &mut part,
                both,
                [seen[0], seen[seen.len() - 1]].map(|at| cache.value(at)),
            );
        }
        flush(&part, &mut sums);
    }
    cpu::finish(&sums[..32 * PARTS], total, most, out);
}

/// [`cpu::attend`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
pub fn attend(q: &[f32], cache: &Cache, seen: &[usize], heads: &Heads, out: &mut [f32]) {
    match heads.dim {
        32 => parts::<1>(q, cache, seen, heads, out),
        64 => parts::<2>(q, cache, seen, heads, out),
        96 => parts::<3>(q, cache, seen, heads, out),
        128 => parts::<4>(q, cache, seen, heads, out),
        256 => parts::<8>(q, cache, seen, heads, out),
        _ => cpu::attend(q, cache, seen, heads, out),
    }
}
