//! Activations to codes and sums to outputs, by AVX-512. Not here: who may call. Invariant: that of `x86.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]

use std::arch::x86_64::*;
use std::ops::{Range, RangeInclusive};

use super::math::{canon, powers};
use super::vnni::widen;
use crate::Profile;
use crate::backend::cpu::{block_shift, row_unit};
use crate::backend::pack::{Filling, Mark, STEP, TILE};
use crate::math::pow2;
use crate::weight::BLOCK;

/// Sixteen numbers of a row.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn load(x: &[f32]) -> __m512 {
    assert!(x.len() >= 16);
    // SAFETY: sixteen readable numbers.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

/// What the outputs of a tile of rows share: [`crate::backend::cpu::finish_dot`] of sixteen sums.
pub struct Ending {
    exponents: __m512i,
    /// Bits of the powers of two of the exponents.
    powers: __m512i,
    /// Units under which no power of two needs a bound.
    units: RangeInclusive<i32>,
    bias: Option<__m512>,
}

impl Ending {
    /// Of rows with those exponents; the bias may be shorter.
    #[target_feature(enable = "avx512f,avx2")]
    pub fn new(exponents: &[i16; TILE], bias: Option<&[f32]>) -> Ending {
        let lowest = exponents.iter().fold(i16::MAX, |a, b| a.min(*b));
        let highest = exponents.iter().fold(i16::MIN, |a, b| a.max(*b));
        let exponents = widen(exponents);
        let bits = _mm512_slli_epi32::<23>(_mm512_add_epi32(exponents, _mm512_set1_epi32(127)));
        let padded = |bias: &[f32]| {
            let mut all = [0.0; TILE];
            all[..bias.len()].copy_from_slice(bias);
            all
        };
        let bias = bias.map(padded);
        Ending {
            exponents,
            powers: bits,
            units: -126 - i32::from(lowest)..=61 - i32::from(highest),
            bias: bias.map(|bias| load(&bias)),
        }
    }

    /// The outputs of a token with that unit; a sum is 2^24 times a signed upper part plus 24 lower bits.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn outputs(&self, [upper, lower]: [__m512i; 2], unit: i32) -> __m512 {
        let power = if self.units.contains(&unit) {
            _mm512_castsi512_ps(_mm512_add_epi32(self.powers, _mm512_set1_epi32(unit << 23)))
        } else {
            powers(_mm512_add_epi32(self.exponents, _mm512_set1_epi32(unit)))
        };
        let upper = _mm512_mul_ps(_mm512_cvtepi32_ps(upper), _mm512_set1_ps(16_777_216.0));
        let sum = _mm512_add_ps(upper, _mm512_cvtepi32_ps(lower));
        let value = canon(_mm512_mul_ps(sum, power));
        match self.bias {
            Some(bias) => canon(_mm512_add_ps(value, bias)),
            None => value,
        }
    }
}

/// The larger of magnitudes so far and of two vectors', as bits, lane by lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn larger(most: [__m512i; 2], v: [__m512; 2]) -> [__m512i; 2] {
    let size = _mm512_set1_epi32(0x7fff_ffff);
    let (a, b) = (_mm512_castps_si512(v[0]), _mm512_castps_si512(v[1]));
    [
        _mm512_max_epi32(most[0], _mm512_and_si512(a, size)),
        _mm512_max_epi32(most[1], _mm512_and_si512(b, size)),
    ]
}

/// [`crate::backend::cpu::most`] of all lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn most([a, b]: [__m512i; 2]) -> u32 {
    _mm512_reduce_max_epi32(_mm512_max_epi32(a, b)) as u32
}

/// [`crate::backend::cpu::code`] of sixteen numbers.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn code(v: __m512, scale: __m512) -> __m512i {
    let v = _mm512_add_ps(_mm512_mul_ps(v, scale), _mm512_set1_ps(0.5));
    _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(v)
}

/// The eight groups of four low bytes, and of four high bytes, of a block's codes.
#[target_feature(enable = "avx512f")]
#[inline]
fn bytes(codes: [__m512i; 2]) -> [[i32; 8]; 2] {
    let mut out = [[0; 8]; 2];
    let half = _mm512_set1_epi32(128);
    for (at, codes) in codes.into_iter().enumerate() {
        let high = _mm512_srai_epi32::<8>(_mm512_add_epi32(codes, half));
        // SAFETY: four numbers from `4 * at` on are sixteen writable bytes.
        unsafe {
            _mm_storeu_si128(out[0][4 * at..].as_mut_ptr().cast(), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128(out[1][4 * at..].as_mut_ptr().cast(), _mm512_cvtepi32_epi8(codes));
        }
    }
    out
}

/// Quantises some tokens, as [`crate::backend::cpu::quantise`] does.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
pub fn quantise(x: &[f32], which: Range<usize>, out: &Filling<'_>) {
    if let Some(tokens) = out.unit {
        return which.for_each(|token| unit_token(x, token, tokens, out));
    }
    for (first, tokens) in out.tiles() {
        for token in which.start.max(first)..which.end.min(first + tokens) {
            few_token(x, token, (first, tokens), out);
        }
    }
}

/// A token's row being quantised.
struct Quantising<'a> {
    row: &'a [f32],
    profile: Profile,
    /// The row's unit.
    unit: i32,
}

impl Quantising<'_> {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new(row: &[f32], profile: Profile) -> Quantising<'_> {
        let mut top = [_mm512_setzero_si512(); 2];
        for block in row.chunks_exact(BLOCK) {
            top = larger(top, [load(block), load(&block[16..])]);
        }
        Quantising {
            row,
            profile,
            unit: row_unit(most(top), profile),
        }
    }

    /// The codes of a block, before its shift, and that.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn block(&self, b: usize) -> ([__m512i; 2], i32) {
        let block = &self.row[b * BLOCK..][..BLOCK];
        let values = [load(block), load(&block[16..])];
        let shift = match self.profile {
            Profile::A16 => 0,
            Profile::A8 => {
                let top = most(larger([_mm512_setzero_si512(); 2], values));
                block_shift(top, self.unit, self.profile)
            }
        };
        let scale = _mm512_set1_ps(pow2(-self.unit - shift));
        ([code(values[0], scale), code(values[1], scale)], shift)
    }
}

/// Quantises a token for a matrix unit; one that the last tile lacks is zero, as is what the last step lacks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
#[inline]
fn unit_token(x: &[f32], token: usize, tokens: usize, out: &Filling<'_>) {
    let (tile, at, blocks) = ((token / tokens, tokens), token % tokens, out.cols / BLOCK);
    let row = x.chunks_exact(out.cols).nth(token);
    if let Some(row) = row {
        let row = Quantising::new(row, out.profile);
        out.exponent(token, row.unit);
        for b in 0..blocks {
            let (codes, shift) = row.block(b);
            let by = _mm_cvtsi32_si128(shift);
            let codes = [_mm512_sll_epi32(codes[0], by), _mm512_sll_epi32(codes[1], by)];
            out.step(tile, at, b, bytes(codes));
        }
    }
    let from = if row.is_some() { blocks } else { 0 };
    for b in from..blocks.next_multiple_of(STEP / BLOCK) {
        out.step(tile, at, b, [[0; 8]; 2]);
    }
}

/// Quantises a token of a tile of few.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
#[inline]
fn few_token(x: &[f32], token: usize, tile: (usize, usize), out: &Filling<'_>) {
    let row = Quantising::new(&x[token * out.cols..][..out.cols], out.profile);
    out.exponent(token, row.unit);
    for b in 0..out.cols / BLOCK {
        let (codes, shift) = row.block(b);
        let halves = [
            _mm512_reduce_add_epi32(codes[0]),
            _mm512_reduce_add_epi32(codes[1]),
        ];
        out.mark(tile, token - tile.0, b, Mark::new(halves, shift));
        out.block(tile, token - tile.0, b, bytes(codes));
    }
}
