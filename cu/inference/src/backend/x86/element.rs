//! Activations to codes and sums to outputs, by AVX-512. Not here: who may call. Invariant: that of `x86.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]

use std::arch::x86_64::*;

use super::math::{canon, powers};
use crate::Profile;
use crate::backend::cpu::unit;
use crate::backend::pack::{Filling, Lanes, Mark, TILE};
use crate::math::pow2;
use crate::weight::{BLOCK, headroom};

/// Sixteen numbers of a row.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn load(x: &[f32]) -> __m512 {
    assert!(x.len() >= 16);
    // SAFETY: sixteen readable numbers.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

/// [`crate::backend::cpu::finish_dot`] of sixteen sums.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn finish(sums: __m512i, exponents: __m512i, bias: Option<&[f32]>) -> __m512 {
    let value = canon(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), powers(exponents)));
    match bias {
        Some(bias) => {
            let mask = ((1_u32 << bias.len()) - 1) as __mmask16;
            // SAFETY: the mask names numbers of the slice only.
            let bias = unsafe { _mm512_maskz_loadu_ps(mask, bias.as_ptr()) };
            canon(_mm512_add_ps(value, bias))
        }
        None => value,
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
            _mm_storeu_si128(out[0][4 * at..].as_mut_ptr().cast(), _mm512_cvtepi32_epi8(codes));
            _mm_storeu_si128(out[1][4 * at..].as_mut_ptr().cast(), _mm512_cvtepi32_epi8(high));
        }
    }
    out
}

/// Quantises the tokens of one tile, as [`crate::backend::cpu::quantise`] does.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
pub fn quantise(x: &[f32], first: usize, tokens: usize, units: &mut [i32], out: &Filling<'_>) {
    let (cols, profile) = (out.cols, out.profile);
    let (blocks, headroom) = (cols / BLOCK, headroom(cols) as i32);
    for t in 0..tokens.min(x.len() / cols - first) {
        let row = &x[(first + t) * cols..][..cols];
        let mut top = i32::MIN;
        for (block, at) in row.chunks_exact(BLOCK).zip(units.iter_mut()) {
            *at = unit(most([load(block), load(&block[16..])]), profile);
            top = top.max(*at);
        }
        out.exponent(first + t, top);
        for (b, block) in row.chunks_exact(BLOCK).enumerate() {
            let scale = _mm512_set1_ps(pow2(-units[b]));
            let codes = [code(load(block), scale), code(load(&block[16..]), scale)];
            let halves = [
                _mm512_reduce_add_epi32(codes[0]),
                _mm512_reduce_add_epi32(codes[1]),
            ];
            let shift = (headroom + top - units[b]).min(31);
            out.mark(first * blocks + b * tokens + t, Mark::new(halves, shift, profile));
            put(bytes(codes), first, tokens, t, b, out);
        }
    }
}

/// Puts a block's codes where its tile has them.
#[inline(always)]
fn put(bytes: [[i32; 8]; 2], first: usize, tokens: usize, t: usize, b: usize, out: &Filling<'_>) {
    let [low, high] = bytes;
    let wide = out.profile == Profile::A16;
    let block = Lanes::block_bytes(out.profile) / 4;
    let start = (first * (out.cols / BLOCK) + b * tokens) * block;
    match (tokens == TILE, wide) {
        (true, true) => {
            out.words(start + 8 * t, high);
            out.words(start + 8 * (TILE + t), low);
        }
        (true, false) => out.words(start + 8 * t, low),
        (false, true) => (0..8).for_each(|g| out.words(start + 2 * (g * tokens + t), [high[g], low[g]])),
        (false, false) => (0..8).for_each(|g| out.words(start + g * tokens + t, [low[g]])),
    }
}
