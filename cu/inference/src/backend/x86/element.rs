//! Activations to codes and sums to outputs, by AVX-512. Not here: who may call. Invariant: that of `x86.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]

use std::arch::x86_64::*;
use std::ops::RangeInclusive;

use super::math::{canon, powers};
use super::vnni::widen;
use crate::Profile;
use crate::backend::cpu::{block_shift, row_unit};
use crate::backend::pack::{Filling, Mark, TILE};
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

/// [`crate::backend::cpu::most`] of two vectors.
#[target_feature(enable = "avx512f")]
#[inline]
fn most(v: [__m512; 2]) -> u32 {
    let size = _mm512_set1_epi32(0x7fff_ffff);
    let (a, b) = (_mm512_castps_si512(v[0]), _mm512_castps_si512(v[1]));
    _mm512_reduce_max_epi32(_mm512_max_epi32(
        _mm512_and_si512(a, size),
        _mm512_and_si512(b, size),
    )) as u32
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

/// Quantises the tokens of one tile, as [`crate::backend::cpu::quantise`] does.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
pub fn quantise(x: &[f32], (first, tokens): (usize, usize), out: &Filling<'_>) {
    let (cols, profile) = (out.cols, out.profile);
    for at in 0..tokens.min(x.len() / cols - first) {
        let row = &x[(first + at) * cols..][..cols];
        let mut top = 0;
        for block in row.chunks_exact(BLOCK) {
            top = top.max(most([load(block), load(&block[16..])]));
        }
        let unit = row_unit(top, profile);
        out.exponent(first + at, unit);
        for (b, block) in row.chunks_exact(BLOCK).enumerate() {
            let values = [load(block), load(&block[16..])];
            let shift = match profile {
                Profile::A16 => 0,
                Profile::A8 => block_shift(most(values), unit, profile),
            };
            let scale = _mm512_set1_ps(pow2(-unit - shift));
            let codes = [code(values[0], scale), code(values[1], scale)];
            if tokens == TILE {
                let by = _mm_cvtsi32_si128(shift);
                let codes = [_mm512_sll_epi32(codes[0], by), _mm512_sll_epi32(codes[1], by)];
                out.sixteen(first + at, b, bytes(codes));
            } else {
                let halves = [
                    _mm512_reduce_add_epi32(codes[0]),
                    _mm512_reduce_add_epi32(codes[1]),
                ];
                out.mark((first, tokens), at, b, Mark::new(halves, shift));
                out.block((first, tokens), at, b, bytes(codes));
            }
        }
    }
}
