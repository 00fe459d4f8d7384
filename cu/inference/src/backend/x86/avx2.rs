//! Dot products by AVX2: sixteen matrix rows at a time. Not here: who may call. Invariant: that of `x86.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]

use std::arch::x86_64::*;

use crate::backend::cpu::Acts;
use crate::backend::pack::{Line, Packed, TILE, lines};
use crate::weight::{BLOCK, Width};

#[inline(always)]
fn half_sums(codes: &[i16]) -> [i32; 2] {
    [0, 16].map(|from| codes[from..from + 16].iter().map(|c| i32::from(*c)).sum())
}

/// Sixteen bytes from memory.
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8]) -> __m128i {
    let bytes: &[u8; 16] = bytes.try_into().expect("sixteen bytes");
    // SAFETY: sixteen readable bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// A group's codes of rows 4 i to 4 i + 3 as 16-bit numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn four_rows(codes: &[Line], group: usize, i: usize, width: Width) -> __m256i {
    let bytes = |line: &Line| load(&line.0[16 * i..16 * i + 16]);
    let bytes = match width {
        Width::Four => {
            let both = bytes(&codes[group % 4]);
            let half = if group < 4 {
                both
            } else {
                _mm_srli_epi16::<4>(both)
            };
            _mm_and_si128(half, _mm_set1_epi8(15))
        }
        _ => bytes(&codes[group]),
    };
    _mm256_cvtepu8_epi16(bytes)
}

/// Four 16-bit activations, four times.
#[target_feature(enable = "avx2")]
#[inline]
fn four_codes(codes: &[i16], group: usize) -> __m256i {
    let four: [i16; 4] = codes[4 * group..4 * group + 4].try_into().expect("four codes");
    let lanes = four
        .iter()
        .rev()
        .fold(0_u64, |lanes, c| lanes << 16 | u64::from(*c as u16));
    _mm256_set1_epi64x(lanes as i64)
}

/// Sums of some groups for all rows of a tile, in row order.
#[target_feature(enable = "avx2")]
#[inline]
fn pairs(codes: &[Line], width: Width, range: std::ops::Range<usize>, x: &[i16]) -> [i32; TILE] {
    let mut sums = [_mm256_setzero_si256(); 4];
    for g in range {
        let x = four_codes(x, g);
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(four_rows(codes, g, i, width), x));
        }
    }
    let mut lanes = [0; 2 * TILE];
    for (lanes, sum) in lanes.chunks_exact_mut(8).zip(sums) {
        // SAFETY: eight i32 are 32 writable bytes.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
    }
    std::array::from_fn(|row| lanes[2 * row] + lanes[2 * row + 1])
}

/// [`crate::backend::cpu::dot`] of a tile of rows with `N` tokens, by AVX2.
#[target_feature(enable = "avx2")]
pub fn avx2<const N: usize>(w: &Packed, tile: usize, x: &Acts, first: usize) -> [[i64; TILE]; N] {
    let (blocks, per_block, halves) = (w.blocks(), lines(w.width), w.width.multipliers());
    let mut sums = [[0; TILE]; N];
    for b in 0..blocks {
        let block = tile * blocks + b;
        let codes = &w.codes[block * per_block..][..per_block];
        for (t, sums) in sums.iter_mut().enumerate() {
            let at = (first + t) * blocks + b;
            let acts = &x.codes[at * BLOCK..][..BLOCK];
            for half in 0..halves {
                let sum = if halves == 1 {
                    x.sums[at]
                } else {
                    half_sums(acts)[half]
                };
                let parts = pairs(codes, w.width, half * 4..8 / halves * (half + 1), acts);
                let multipliers = &w.multipliers[block * halves + half];
                for row in 0..TILE {
                    // Stored codes are too large by the bias.
                    let dot = parts[row] - w.bias() * sum;
                    sums[row] += i64::from(dot) * i64::from(multipliers[row]);
                }
            }
            if let Some(offsets) = w.offsets.get(block) {
                let sum = i64::from(x.sums[at]);
                (0..TILE).for_each(|row| sums[row] -= sum * i64::from(offsets[row]));
            }
        }
    }
    sums
}
