//! Activations to codes and sums to outputs, by NEON. Not here: who may call. Invariant: that of `arm.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]

use std::arch::aarch64::*;
use std::ops::Range;

use crate::Profile;
use crate::backend::cpu::{block_shift, most, row_unit};
use crate::backend::pack::{Filling, Mark};
use crate::math::{HUGE, TINY, pow2};
use crate::weight::BLOCK;

/// Matrix rows whose sums share a register.
pub const FOUR: usize = 4;

/// [`crate::math::canon`] of four numbers.
#[target_feature(enable = "neon")]
#[inline]
fn canon(v: float32x4_t) -> float32x4_t {
    let bits = vreinterpretq_u32_f32(v);
    let size = vandq_u32(bits, vdupq_n_u32(0x7fff_ffff));
    let bounded = vminq_u32(size, vdupq_n_u32(HUGE));
    let value = vbslq_u32(vdupq_n_u32(0x8000_0000), bits, bounded);
    vreinterpretq_f32_u32(vandq_u32(value, vcgeq_u32(size, vdupq_n_u32(TINY))))
}

/// [`pow2`] of four exponents.
#[target_feature(enable = "neon")]
#[inline]
fn powers(exponents: int32x4_t) -> float32x4_t {
    let biased = vaddq_s32(vminq_s32(exponents, vdupq_n_s32(61)), vdupq_n_s32(127));
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(vmaxq_s32(biased, vdupq_n_s32(0))))
}

/// Four 16-bit numbers as 32-bit lanes.
#[target_feature(enable = "neon")]
#[inline]
pub fn widen(numbers: &[i16]) -> int32x4_t {
    let numbers: &[i16; FOUR] = numbers[..FOUR].try_into().expect("four");
    // SAFETY: four readable numbers.
    vmovl_s16(unsafe { vld1_s16(numbers.as_ptr()) })
}

/// Adds the products of lanes to the sums of four rows.
#[target_feature(enable = "neon")]
#[inline]
pub fn add(sums: [int64x2_t; 2], a: int32x4_t, by: int32x4_t) -> [int64x2_t; 2] {
    [
        vmlal_s32(sums[0], vget_low_s32(a), vget_low_s32(by)),
        vmlal_high_s32(sums[1], a, by),
    ]
}

/// What the outputs of four matrix rows share: [`crate::backend::cpu::finish_dot`] of their sums.
#[derive(Clone, Copy)]
pub struct Ending {
    exponents: int32x4_t,
    bias: Option<float32x4_t>,
}

impl Ending {
    /// Of rows with those exponents; the bias may be shorter.
    #[target_feature(enable = "neon")]
    #[inline]
    pub fn new(exponents: &[i16], bias: Option<&[f32]>) -> Ending {
        let padded = |bias: &[f32]| {
            let mut all = [0.0; FOUR];
            let count = bias.len().min(FOUR);
            all[..count].copy_from_slice(&bias[..count]);
            all
        };
        let bias = bias.map(padded);
        Ending {
            exponents: widen(exponents),
            // SAFETY: four readable numbers.
            bias: bias.map(|bias| unsafe { vld1q_f32(bias.as_ptr()) }),
        }
    }

    /// The outputs of a token with that unit.
    #[target_feature(enable = "neon")]
    #[inline]
    pub fn outputs(&self, sums: [int64x2_t; 2], unit: i32) -> float32x4_t {
        let upper = vshrn_high_n_s64::<24>(vshrn_n_s64::<24>(sums[0]), sums[1]);
        let lower = vmovn_high_s64(vmovn_s64(sums[0]), sums[1]);
        let lower = vandq_s32(lower, vdupq_n_s32(0xff_ffff));
        let upper = vmulq_f32(vcvtq_f32_s32(upper), vdupq_n_f32(16_777_216.0));
        let sum = vaddq_f32(upper, vcvtq_f32_s32(lower));
        let power = powers(vaddq_s32(self.exponents, vdupq_n_s32(unit)));
        let value = canon(vmulq_f32(sum, power));
        match self.bias {
            Some(bias) => canon(vaddq_f32(value, bias)),
            None => value,
        }
    }
}

/// [`crate::backend::cpu::code`] of eight numbers.
#[target_feature(enable = "neon")]
#[inline]
pub fn codes(values: &[f32], scale: f32) -> int16x8_t {
    let values: &[f32; 8] = values[..8].try_into().expect("eight");
    let half = |at: usize| {
        // SAFETY: four readable numbers from there on.
        let v = unsafe { vld1q_f32(values[at..].as_ptr()) };
        vcvtmq_s32_f32(vaddq_f32(vmulq_n_f32(v, scale), vdupq_n_f32(0.5)))
    };
    vmovn_high_s32(vmovn_s32(half(0)), half(4))
}

/// The high and the low bytes of codes.
#[target_feature(enable = "neon")]
#[inline]
pub fn bytes(codes: [int16x8_t; 2]) -> [int8x16_t; 2] {
    [
        vrshrn_high_n_s16::<8>(vrshrn_n_s16::<8>(codes[0]), codes[1]),
        vmovn_high_s16(vmovn_s16(codes[0]), codes[1]),
    ]
}

/// The sums of both halves of a block's codes, and the eight groups of four high bytes, and of four low ones.
#[target_feature(enable = "neon")]
#[inline]
fn block(values: &[f32], scale: f32) -> ([i32; 2], [[i32; 8]; 2]) {
    let (mut sums, mut out) = ([0; 2], [[0; 8]; 2]);
    for half in 0..2 {
        let values = &values[16 * half..];
        let both = [codes(values, scale), codes(&values[8..], scale)];
        sums[half] = vaddlvq_s16(both[0]) + vaddlvq_s16(both[1]);
        for (out, bytes) in out.iter_mut().zip(bytes(both)) {
            let out: &mut [i32] = &mut out[4 * half..][..4];
            // SAFETY: four numbers are sixteen writable bytes.
            unsafe { vst1q_s8(out.as_mut_ptr().cast(), bytes) };
        }
    }
    (sums, out)
}

/// Quantises some tokens, as [`crate::backend::cpu::quantise`] does.
#[target_feature(enable = "neon")]
pub fn quantise(x: &[f32], which: Range<usize>, out: &Filling<'_>) {
    for (first, tokens) in out.tiles() {
        for token in which.start.max(first)..which.end.min(first + tokens) {
            quantise_row(&x[token * out.cols..][..out.cols], token, (first, tokens), out);
        }
    }
}

/// Quantises a token of a tile.
#[target_feature(enable = "neon")]
#[inline]
fn quantise_row(row: &[f32], token: usize, tile: (usize, usize), out: &Filling<'_>) {
    let unit = row_unit(most(row), out.profile);
    out.exponent(token, unit);
    for (b, values) in row.chunks_exact(BLOCK).enumerate() {
        let shift = match out.profile {
            Profile::A16 => 0,
            Profile::A8 => block_shift(most(values), unit, out.profile),
        };
        let (halves, bytes) = block(values, pow2(-unit - shift));
        out.mark(tile, token - tile.0, b, Mark::new(halves, shift));
        out.block(tile, token - tile.0, b, bytes);
    }
}
