//! Dot products written for the vector units of x86-64: sixteen matrix rows at a time.
//!
//! Not here: what a dot product is (`cpu.rs`), layout (`pack.rs`), who may call (`vector.rs`). Invariant: equal to the
//! definition on every input: the same integer products, the same bounds, another order.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::x86_64::*;

use crate::backend::cpu;
use crate::backend::pack::{Lanes, Line, Mark, Packed, TILE, lines};
use crate::weight::{BLOCK, Width};

/// The stored codes of a matrix, as constants of a kernel.
pub trait Codes {
    /// Lines of a block.
    const LINES: usize;
    /// Runs of a block that have a multiplier of their own.
    const RUNS: usize;
    /// Right shift that turns a mark's start, -128 times a sum, into minus the codes' bias times the sum.
    const START: u32;
}

/// A byte each, plus 128, one multiplier a block.
pub enum Bytes {}
/// A byte each, plus 128, two multipliers a block.
pub enum HalfBytes {}
/// A nibble each, plus 8.
pub enum Nibbles {}

impl Codes for Bytes {
    const LINES: usize = 8;
    const RUNS: usize = 1;
    const START: u32 = 0;
}

impl Codes for HalfBytes {
    const LINES: usize = 8;
    const RUNS: usize = 2;
    const START: u32 = 0;
}

impl Codes for Nibbles {
    const LINES: usize = 4;
    const RUNS: usize = 1;
    const START: u32 = 4;
}

#[target_feature(enable = "avx512f")]
#[inline]
fn line(line: &Line) -> __m512i {
    // SAFETY: a line is 64 readable bytes, aligned to 64.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

#[target_feature(enable = "avx512f,avx2")]
#[inline]
fn widen(lanes: &[i16; TILE]) -> __m512i {
    // SAFETY: sixteen i16 are 32 readable bytes.
    _mm512_cvtepi16_epi32(unsafe { _mm256_loadu_si256(std::ptr::from_ref(lanes).cast()) })
}

/// The bytes of a group of four columns of a tile.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn group<C: Codes>(codes: &[Line], group: usize) -> __m512i {
    if C::LINES == 8 {
        return line(&codes[group]);
    }
    let both = line(&codes[group % 4]);
    let half = if group < 4 {
        both
    } else {
        _mm512_srli_epi16::<4>(both)
    };
    _mm512_and_si512(half, _mm512_set1_epi8(15))
}

/// Dot products of a run of a block: groups from `run` * 8 / RUNS on, for `N` tokens, dropped bits gone.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn run_dots<const N: usize, const WIDE: bool, C: Codes>(
    codes: &[Line],
    lanes: &[i32],
    marks: &[Mark],
    run: usize,
    drop: [__m512i; 2],
) -> [__m512i; N] {
    let (mut high, mut low) = ([_mm512_setzero_si512(); N], [_mm512_setzero_si512(); N]);
    for t in 0..N {
        let start = marks[t].starts[if C::RUNS == 1 { 0 } else { 1 + run }];
        low[t] = _mm512_add_epi32(_mm512_set1_epi32(start >> C::START), drop[0]);
    }
    for g in run * (8 / C::RUNS)..(run + 1) * (8 / C::RUNS) {
        let w = group::<C>(codes, g);
        for t in 0..N {
            if WIDE {
                high[t] = _mm512_dpbusd_epi32(high[t], w, _mm512_set1_epi32(lanes[(g * N + t) * 2]));
                low[t] = _mm512_dpbusd_epi32(low[t], w, _mm512_set1_epi32(lanes[(g * N + t) * 2 + 1]));
            } else {
                low[t] = _mm512_dpbusd_epi32(low[t], w, _mm512_set1_epi32(lanes[g * N + t]));
            }
        }
    }
    if WIDE {
        for t in 0..N {
            low[t] = _mm512_srav_epi32(_mm512_add_epi32(_mm512_slli_epi32::<8>(high[t]), low[t]), drop[1]);
        }
    }
    low
}

/// [`cpu::dot`] of a tile of rows with the `N` tokens of the tile at `first`, by VNNI; `WIDE` for 16-bit activations.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
pub fn vnni<const N: usize, const WIDE: bool, C: Codes>(
    w: &Packed,
    tile: usize,
    x: &Lanes,
    first: usize,
) -> [[i32; TILE]; N] {
    let (blocks, bits) = (w.blocks(), w.drop_bits(x.acts.profile));
    let drop = [_mm512_set1_epi32(1 << bits >> 1), _mm512_set1_epi32(bits as i32)];
    let per_block = 8 * N * if WIDE { 2 } else { 1 };
    let codes = &w.codes[tile * blocks * C::LINES..][..blocks * C::LINES];
    let multipliers = &w.multipliers[tile * blocks * C::RUNS..][..blocks * C::RUNS];
    let lanes = &x.lanes[first * blocks * per_block / N..][..blocks * per_block];
    let marks = &x.marks[first * blocks..][..blocks * N];
    let mut sums = [_mm512_set1_epi32((blocks / 2) as i32); N];
    for b in 0..blocks {
        let (codes, marks) = (&codes[b * C::LINES..][..C::LINES], &marks[b * N..][..N]);
        let lanes = &lanes[b * per_block..][..per_block];
        let mut terms = [_mm512_setzero_si512(); N];
        for run in 0..C::RUNS {
            let multipliers = widen(&multipliers[b * C::RUNS + run]);
            let dots = run_dots::<N, WIDE, C>(codes, lanes, marks, run, drop);
            for t in 0..N {
                terms[t] = _mm512_add_epi32(terms[t], _mm512_mullo_epi32(dots[t], multipliers));
            }
        }
        if let Some(offsets) = w.offsets.get(tile * blocks + b) {
            let offsets = widen(offsets);
            for t in 0..N {
                let sum = _mm512_set1_epi32(cpu::round(-(marks[t].starts[0] >> 7), bits));
                terms[t] = _mm512_sub_epi32(terms[t], _mm512_mullo_epi32(sum, offsets));
            }
        }
        for t in 0..N {
            let shift = _mm512_set1_epi32(marks[t].shift);
            sums[t] = _mm512_add_epi32(sums[t], _mm512_srav_epi32(terms[t], shift));
        }
    }
    let mut out = [[0; TILE]; N];
    for t in 0..N {
        // SAFETY: sixteen i32 are 64 writable bytes.
        unsafe { _mm512_storeu_si512(out[t].as_mut_ptr().cast(), sums[t]) };
    }
    out
}

/// What a block's sums begin with: the rounding of the dropped bits less what the stored codes are too large.
#[inline(always)]
fn start(w: &Packed, drop: u32, sum: i32) -> i32 {
    (1_i32 << drop >> 1) - w.bias() * sum
}

#[inline(always)]
fn half_sums(codes: &[i16]) -> [i32; 2] {
    [0, 16].map(|from| codes[from..from + 16].iter().map(|c| i32::from(*c)).sum())
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
pub fn avx2<const N: usize>(w: &Packed, tile: usize, x: &Lanes, first: usize) -> [[i32; TILE]; N] {
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
