//! Dot products written for the vector units of x86-64: sixteen matrix rows at a time.
//!
//! Not here: what a dot product is (`cpu.rs`), layout (`pack.rs`), who may call (`vector.rs`). Invariant: equal to the
//! definition on every input: the same integer products, the same bounds, another order.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]

use std::arch::x86_64::*;

use crate::backend::cpu;
use crate::backend::pack::{Halves, Line, Packed, TILE, lines};
use crate::weight::{BLOCK, Width};

/// What a block's sums begin with: the rounding of the dropped bits less what the stored codes are too large.
#[inline(always)]
fn start(w: &Packed, drop: u32, sum: i32) -> i32 {
    (1_i32 << drop >> 1) - w.bias() * sum
}

/// Four codes of a block as one lane.
#[inline(always)]
fn lane(codes: &[i8], group: usize) -> i32 {
    let four: [i8; 4] = codes[4 * group..4 * group + 4].try_into().expect("four codes");
    i32::from_le_bytes(four.map(|c| c as u8))
}

#[inline(always)]
fn half_sums(codes: &[i16]) -> [i32; 2] {
    [0, 16].map(|from| codes[from..from + 16].iter().map(|c| i32::from(*c)).sum())
}

#[target_feature(enable = "avx512f")]
fn line(line: &Line) -> __m512i {
    // SAFETY: a line is 64 readable bytes, aligned to 64.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

#[target_feature(enable = "avx512f,avx2")]
fn widen(lanes: &[i16; TILE]) -> __m512i {
    // SAFETY: sixteen i16 are 32 readable bytes.
    _mm512_cvtepi16_epi32(unsafe { _mm256_loadu_si256(std::ptr::from_ref(lanes).cast()) })
}

/// The bytes of a group of four columns.
#[target_feature(enable = "avx512f,avx512bw")]
fn group(codes: &[Line], group: usize, width: Width) -> __m512i {
    match width {
        Width::Four => {
            let both = line(&codes[group % 4]);
            let half = if group < 4 {
                both
            } else {
                _mm512_srli_epi16::<4>(both)
            };
            _mm512_and_si512(half, _mm512_set1_epi8(15))
        }
        _ => line(&codes[group]),
    }
}

/// Adds the products of some groups: `high` and `low` are per token.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn groups<const N: usize, const WIDE: bool>(
    codes: &[Line],
    width: Width,
    range: std::ops::Range<usize>,
    x: &[[&[i8]; 2]; N],
    sums: &mut [[__m512i; 2]; N],
) {
    for g in range {
        let w = group(codes, g, width);
        for (sums, [high, low]) in sums.iter_mut().zip(x) {
            if WIDE {
                sums[0] = _mm512_dpbusd_epi32(sums[0], w, _mm512_set1_epi32(lane(high, g)));
            }
            sums[1] = _mm512_dpbusd_epi32(sums[1], w, _mm512_set1_epi32(lane(low, g)));
        }
    }
}

/// A block's dot product from its halves, its dropped bits gone.
#[target_feature(enable = "avx512f")]
#[inline]
fn join<const WIDE: bool>(sums: [__m512i; 2], drop: __m128i) -> __m512i {
    match WIDE {
        true => _mm512_sra_epi32(_mm512_add_epi32(_mm512_slli_epi32::<8>(sums[0]), sums[1]), drop),
        false => sums[1],
    }
}

/// [`cpu::dot`] of a tile of rows with `N` tokens, by VNNI; `WIDE` for 16-bit activations.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
pub fn vnni<const N: usize, const WIDE: bool>(
    w: &Packed,
    tile: usize,
    x: &Halves,
    first: usize,
) -> [[i32; TILE]; N] {
    let (blocks, per_block, halves) = (w.blocks(), lines(w.width), w.width.multipliers());
    let drop = w.drop_bits(x.acts.profile);
    let shift = _mm_cvtsi32_si128(drop as i32);
    let zero = _mm512_setzero_si512();
    let mut sums = [_mm512_set1_epi32((blocks / 2) as i32); N];
    for b in 0..blocks {
        let block = tile * blocks + b;
        let codes = &w.codes[block * per_block..][..per_block];
        let at: [usize; N] = std::array::from_fn(|t| (first + t) * blocks + b);
        let bytes: [[&[i8]; 2]; N] = at.map(|at| {
            let high: &[i8] = if WIDE { &x.high[at * BLOCK..][..BLOCK] } else { &[] };
            [high, &x.low[at * BLOCK..][..BLOCK]]
        });
        let mut terms = [zero; N];
        for half in 0..halves {
            let mut parts = [[zero; 2]; N];
            for (part, at) in parts.iter_mut().zip(at) {
                let sum = if halves == 1 {
                    x.acts.sums[at]
                } else {
                    half_sums(&x.acts.codes[at * BLOCK..][..BLOCK])[half]
                };
                part[1] = _mm512_set1_epi32(start(w, drop, sum));
            }
            groups::<N, WIDE>(
                codes,
                w.width,
                half * 4..8 / halves * (half + 1),
                &bytes,
                &mut parts,
            );
            let multipliers = widen(&w.multipliers[block * halves + half]);
            for (term, part) in terms.iter_mut().zip(parts) {
                *term = _mm512_add_epi32(*term, _mm512_mullo_epi32(join::<WIDE>(part, shift), multipliers));
            }
        }
        let offsets = w.offsets.get(block).map(|offsets| widen(offsets));
        for t in 0..N {
            if let Some(offsets) = offsets {
                let sum = _mm512_set1_epi32(cpu::round(x.acts.sums[at[t]], drop));
                terms[t] = _mm512_sub_epi32(terms[t], _mm512_mullo_epi32(sum, offsets));
            }
            let shift = _mm_cvtsi32_si128(i32::from(x.acts.shifts[at[t]]));
            sums[t] = _mm512_add_epi32(sums[t], _mm512_sra_epi32(terms[t], shift));
        }
    }
    sums.map(|sums| {
        let mut out = [0; TILE];
        // SAFETY: sixteen i32 are 64 writable bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) };
        out
    })
}

/// Eight i32 from memory.
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

/// [`cpu::dot`] of a tile of rows with `N` tokens, by AVX2.
#[target_feature(enable = "avx2")]
pub fn avx2<const N: usize>(w: &Packed, tile: usize, x: &Halves, first: usize) -> [[i32; TILE]; N] {
    let (blocks, per_block, halves) = (w.blocks(), lines(w.width), w.width.multipliers());
    let drop = w.drop_bits(x.acts.profile);
    let mut sums = [[(blocks / 2) as i32; TILE]; N];
    for b in 0..blocks {
        let block = tile * blocks + b;
        let codes = &w.codes[block * per_block..][..per_block];
        for (t, sums) in sums.iter_mut().enumerate() {
            let at = (first + t) * blocks + b;
            let acts = &x.acts.codes[at * BLOCK..][..BLOCK];
            let mut terms = [0; TILE];
            for half in 0..halves {
                let sum = if halves == 1 {
                    x.acts.sums[at]
                } else {
                    half_sums(acts)[half]
                };
                let start = start(w, drop, sum);
                let parts = pairs(codes, w.width, half * 4..8 / halves * (half + 1), acts);
                let multipliers = &w.multipliers[block * halves + half];
                for row in 0..TILE {
                    terms[row] += ((parts[row] + start) >> drop) * i32::from(multipliers[row]);
                }
            }
            if let Some(offsets) = w.offsets.get(block) {
                let sum = cpu::round(x.acts.sums[at], drop);
                (0..TILE).for_each(|row| terms[row] -= sum * i32::from(offsets[row]));
            }
            let shift = x.acts.shifts[at];
            (0..TILE).for_each(|row| sums[row] += terms[row] >> shift);
        }
    }
    sums
}
