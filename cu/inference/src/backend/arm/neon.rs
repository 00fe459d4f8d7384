//! Products by NEON alone: eight matrix rows at a time, a column of them times a code of 16 bits. For processors
//! without dot products of bytes. Not here: who may call. Invariant: that of `arm.rs`.
#![allow(unsafe_code, reason = "loads of vector registers")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::aarch64::*;
use std::ops::Range;

use super::element::{Ending, FOUR, add, widen};
use crate::backend::cpu::Acts;
use crate::backend::pack::{Byte, Codes, Four, Line, Packed, Six, TILE, few_tokens};
use crate::backend::vector::Grid;
use crate::weight::{BLOCK, Width};

/// Groups of four columns in a block.
const GROUPS: usize = BLOCK / 4;

/// Matrix rows that are multiplied at a time, half of a tile: their sums and a few tokens' have registers.
const ROWS: usize = TILE / 2;

/// The sums of such rows with some tokens.
type Sums<const N: usize> = [[[int64x2_t; 2]; ROWS / FOUR]; N];

/// The four columns of a group, one code of every row in each, of the half of a tile whose first row that is.
#[target_feature(enable = "neon")]
#[inline]
fn columns<C: Codes>(codes: &[Line], group: usize, row: usize) -> [int16x8_t; 4] {
    let line: &[u8] = &codes[group % C::LINES].0[4 * row..][..4 * ROWS];
    // SAFETY: 32 readable bytes.
    let int8x8x4_t(a, b, c, d) = unsafe { vld4_s8(line.as_ptr().cast()) };
    let mut out = [vdupq_n_s16(0); 4];
    for (out, codes) in out.iter_mut().zip([a, b, c, d]) {
        *out = vmovl_s8(match group / C::LINES {
            _ if C::LINES == GROUPS => codes,
            0 => vand_s8(codes, vdup_n_s8(15)),
            _ => vreinterpret_s8_u8(vshr_n_u8::<4>(vreinterpret_u8_s8(codes))),
        });
    }
    out
}

/// Adds a column times a code of a token: number `AT` of four.
#[target_feature(enable = "neon")]
#[inline]
fn column<const AT: i32>(sums: &mut [int32x4_t; ROWS / FOUR], column: int16x8_t, x: int16x4_t) {
    sums[0] = vmlal_lane_s16::<AT>(sums[0], vget_low_s16(column), x);
    sums[1] = vmlal_high_lane_s16::<AT>(sums[1], column, x);
}

/// Dot products of half a tile, which begins with `row`, with `N` tokens.
#[target_feature(enable = "neon")]
#[inline]
fn dots<const N: usize, C: Codes>(
    w: &Packed,
    (tile, row): (usize, usize),
    x: &Acts,
    first: usize,
) -> Sums<N> {
    let blocks = w.blocks();
    let mut sums = [[[vdupq_n_s64(0); 2]; ROWS / FOUR]; N];
    for b in 0..blocks {
        let block = tile * blocks + b;
        let codes = &w.codes[block * C::LINES..][..C::LINES];
        let (mut own, mut total): ([&[i16]; N], [i32; N]) = ([&[]; N], [0; N]);
        for t in 0..N {
            let at = (first + t) * blocks + b;
            (own[t], total[t]) = (&x.codes[at * BLOCK..][..BLOCK], x.sums[at]);
        }
        for run in 0..C::RUNS {
            let mut dots = [[vdupq_n_s32(0); ROWS / FOUR]; N];
            for t in 0..N {
                // Stored codes are too large by the bias. Those of width 6, with two runs, have none.
                dots[t] = [vdupq_n_s32(-w.bias() * total[t]); ROWS / FOUR];
            }
            for group in run * GROUPS / C::RUNS..(run + 1) * GROUPS / C::RUNS {
                let columns = columns::<C>(codes, group, row);
                for t in 0..N {
                    let four: &[i16] = &own[t][4 * group..][..4];
                    // SAFETY: four readable numbers.
                    let four = unsafe { vld1_s16(four.as_ptr()) };
                    column::<0>(&mut dots[t], columns[0], four);
                    column::<1>(&mut dots[t], columns[1], four);
                    column::<2>(&mut dots[t], columns[2], four);
                    column::<3>(&mut dots[t], columns[3], four);
                }
            }
            let multipliers = &w.multipliers[block * C::RUNS + run];
            for four in 0..ROWS / FOUR {
                let by = widen(&multipliers[row + FOUR * four..]);
                for t in 0..N {
                    sums[t][four] = add(sums[t][four], dots[t][four], by);
                }
            }
        }
        if let Some(offsets) = w.offsets.get(block) {
            for four in 0..ROWS / FOUR {
                let by = widen(&offsets[row + FOUR * four..]);
                for t in 0..N {
                    sums[t][four] = add(sums[t][four], vdupq_n_s32(-total[t]), by);
                }
            }
        }
    }
    sums
}

/// The outputs of a tile's rows for `N` tokens.
#[target_feature(enable = "neon")]
#[inline]
fn outputs<const N: usize, C: Codes>(
    w: &Packed,
    (x, first): (&Acts, usize),
    bias: Option<&[f32]>,
    tile: usize,
    y: &Grid<'_>,
) {
    for half in (0..TILE).step_by(ROWS) {
        let sums = dots::<N, C>(w, (tile, half), x, first);
        for four in 0..ROWS / FOUR {
            let row = tile * TILE + half + FOUR * four;
            if row >= w.rows {
                return;
            }
            let ending = Ending::new(&w.exponents[row..], bias.map(|bias| &bias[row..]));
            for t in 0..N {
                let values = ending.outputs(sums[t][four], x.exponents[first + t]);
                y.put(first + t, row, FOUR.min(w.rows - row), values);
            }
        }
    }
}

/// The outputs of a tile's rows for all tokens.
#[target_feature(enable = "neon")]
#[inline]
fn all<C: Codes>(w: &Packed, x: &Acts, bias: Option<&[f32]>, tile: usize, y: &Grid<'_>) {
    let mut first = 0;
    while first < x.rows {
        let tokens = few_tokens(x.rows - first).min(4);
        match tokens {
            4 => outputs::<4, C>(w, (x, first), bias, tile, y),
            2 => outputs::<2, C>(w, (x, first), bias, tile, y),
            _ => outputs::<1, C>(w, (x, first), bias, tile, y),
        }
        first += tokens;
    }
}

/// The outputs of some tiles of matrix rows for all tokens.
#[target_feature(enable = "neon")]
pub fn product(w: &Packed, x: &Acts, bias: Option<&[f32]>, tiles: Range<usize>, y: &Grid<'_>) {
    for tile in tiles {
        match w.width {
            Width::Eight | Width::Five => all::<Byte>(w, x, bias, tile, y),
            Width::Six => all::<Six>(w, x, bias, tile, y),
            Width::Four => all::<Four>(w, x, bias, tile, y),
        }
    }
}
