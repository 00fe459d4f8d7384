//! Attention of one head by AVX-512. Not here: who may call. Invariant: that of `x86.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::x86_64::*;

use crate::backend::Heads;
use crate::backend::cpu::{self, Cache, EXACT};
use crate::math::pow2;

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
fn weigh<const PARTS: usize>(sums: &mut [[__m512i; 2]; PARTS], weights: i32, values: [&[i8]; 2]) {
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
    for part in 0..PARTS {
        let mut codes = [0_i16; 32];
        for (code, v) in codes.iter_mut().zip(&q[32 * part..]) {
            *code = cpu::code(*v, pow2(-unit));
        }
        // SAFETY: 64 readable bytes.
        out[part] = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
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

/// [`cpu::attend`] of a head of 32 `PARTS` numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
fn parts<const PARTS: usize>(q: &[f32], cache: &Cache, seen: &[usize], heads: &Heads, out: &mut [f32]) {
    let q_unit = cpu::unit(cpu::most(q), heads.profile);
    let q = query::<PARTS>(q, q_unit);
    let last = seen.len() - 1;
    // In whole fours; what is past the last position repeats it and is cut off.
    let mut scores = vec![0_i32; seen.len().next_multiple_of(4)];
    for (four, scores) in scores.chunks_exact_mut(4).enumerate() {
        let keys = [0, 1, 2, 3].map(|at| cache.key(seen[(4 * four + at).min(last)]));
        // SAFETY: four numbers are sixteen writable bytes.
        unsafe { _mm_storeu_si128(scores.as_mut_ptr().cast(), dots(&q, keys)) };
    }
    scores.truncate(seen.len());
    let mut units: Vec<i32> = seen
        .iter()
        .map(|at| q_unit + i32::from(cache.key_units[*at]))
        .collect();
    let mut values = vec![0.0_f32; seen.len()];
    for at in 0..=last {
        values[at] = cpu::score(scores[at], units[at], heads);
    }
    let top = values.iter().fold(f32::MIN, |top, s| top.max(*s));
    seen.iter()
        .zip(&mut units)
        .for_each(|(at, unit)| *unit = i32::from(cache.value_units[*at]));
    let unit = units.iter().fold(i32::MIN, |most, unit| most.max(*unit));
    let mut total = 0_i64;
    for (run, values) in values.chunks(EXACT).enumerate() {
        let mut sum = 0;
        for (at, value) in values.iter().enumerate() {
            let [p, w] = cpu::weigh(*value, top, unit - units[run * EXACT + at]);
            sum += p;
            scores[run * EXACT + at] = w;
        }
        total += i64::from(sum);
    }
    let mut sums = [0_i64; 512];
    for (weights, seen) in scores.chunks(EXACT).zip(seen.chunks(EXACT)) {
        let mut part = [[_mm512_setzero_si512(); 2]; PARTS];
        for (weights, seen) in weights.chunks(2).zip(seen.chunks(2)) {
            let both = weights[0] | weights.get(1).map_or(0, |w| w << 16);
            weigh(
                &mut part,
                both,
                [seen[0], seen[seen.len() - 1]].map(|at| cache.value(at)),
            );
        }
        flush(&part, &mut sums);
    }
    cpu::finish(&sums[..32 * PARTS], total, unit, out);
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
