//! Products by dot products of four bytes (SDOT): up to sixteen matrix rows at a time. Not here: who may call.
//!
//! A register holds four columns of four rows, or of four lanes of activations; what rows and tokens are multiplied
//! together is as many as have their sums in registers. Invariant: that of `arm.rs`.
#![allow(
    unsafe_code,
    reason = "loads of vector registers, and an instruction that has no stable name yet"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::element::{Ending, FOUR, add, widen};
use crate::Profile;
use crate::backend::pack::{Byte, Codes, Four, Lanes, Line, Packed, Six, TILE};
use crate::backend::vector::Grid;
use crate::weight::Width;

/// Groups of four columns in a block.
const GROUPS: usize = 8;

/// The sums of `R` times four matrix rows with `N` tokens.
type Sums<const R: usize, const N: usize> = [[[int64x2_t; 2]; R]; N];

/// Adds to each lane the dot product of its four bytes with those of lane `LANE` of `x`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn lane<const LANE: i32>(mut sums: int32x4_t, codes: int8x16_t, x: int32x4_t) -> int32x4_t {
    // SAFETY: it touches these registers alone, and the processor has it: this is compiled for those that do.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            codes = in(vreg) codes,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Adds to each lane the dot product of its four bytes with those of the same lane of `x`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub fn sdot(mut sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: as above.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            codes = in(vreg) codes,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// The stored codes of `count` groups: from `four` on, `R` times those of four rows.
#[target_feature(enable = "neon")]
#[inline]
fn rows<const R: usize, C: Codes>(
    codes: &[Line],
    (group, count): (usize, usize),
    four: usize,
) -> [[int8x16_t; R]; 4] {
    let mut out = [[vdupq_n_s8(0); R]; 4];
    for g in 0..count {
        let line = &codes[(group + g) % C::LINES];
        for r in 0..R {
            let codes: &[u8] = &line.0[16 * (four + r)..][..16];
            // SAFETY: sixteen readable bytes.
            let codes = unsafe { vld1q_u8(codes.as_ptr()) };
            out[g][r] = vreinterpretq_s8_u8(match (group + g) / C::LINES {
                _ if C::LINES == GROUPS => codes,
                0 => vandq_u8(codes, vdupq_n_u8(15)),
                _ => vshrq_n_u8::<4>(codes),
            });
        }
    }
    out
}

/// What is multiplied: rows of a tile from the `four`-th four on, tokens from the `at`-th on of a tile of `tokens`.
struct Piece<'a> {
    w: &'a Packed,
    tile: usize,
    four: usize,
    x: &'a Lanes,
    first: usize,
    tokens: usize,
    at: usize,
}

impl Piece<'_> {
    /// Adds dot products of bytes of a run of a block to the sums: those of the high bytes to the first ones, those of
    /// the low bytes to the last ones.
    ///
    /// # Safety
    /// From `lanes` on are those of the first token of every group of a block.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn run<const R: usize, const N: usize, const PER: usize, C: Codes>(
        &self,
        codes: &[Line],
        lanes: *const i32,
        groups: Range<usize>,
        sums: &mut [[[int32x4_t; R]; N]; PER],
    ) {
        // Four lanes are loaded at a time: of several groups where a group has fewer.
        let (step, loads) = ((4 / (PER * N)).max(1), (PER * N).div_ceil(4));
        for group in groups.step_by(step) {
            let codes = rows::<R, C>(codes, (group, step), self.four);
            for load in 0..loads {
                // SAFETY: four lanes of these tokens, of this group or whole ones from it on.
                let x = unsafe { vld1q_s32(lanes.add(PER * group * self.tokens + 4 * load)) };
                let place = |at: usize| {
                    let at = 4 * load + at;
                    (at / (PER * N), at % PER, at / PER % N)
                };
                let [a, b, c, d] = [place(0), place(1), place(2), place(3)];
                for r in 0..R {
                    sums[a.1][a.2][r] = lane::<0>(sums[a.1][a.2][r], codes[a.0][r], x);
                    sums[b.1][b.2][r] = lane::<1>(sums[b.1][b.2][r], codes[b.0][r], x);
                    sums[c.1][c.2][r] = lane::<2>(sums[c.1][c.2][r], codes[c.0][r], x);
                    sums[d.1][d.2][r] = lane::<3>(sums[d.1][d.2][r], codes[d.0][r], x);
                }
            }
        }
    }

    /// The dot products: `PER` bytes of every code, two or one.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    fn dots<const R: usize, const N: usize, const PER: usize, C: Codes>(&self) -> Sums<R, N> {
        let (w, x, blocks) = (self.w, self.x, self.w.blocks());
        let (marks, lanes) = (x.marks(self.first, self.tokens), x.few(self.first, self.tokens));
        let lanes = &lanes[PER * self.at..];
        let mut sums = [[[vdupq_n_s64(0); 2]; R]; N];
        for b in 0..blocks {
            let block = self.tile * blocks + b;
            let codes = &w.codes[block * C::LINES..][..C::LINES];
            let marks = &marks[b * self.tokens + self.at..][..N];
            for run in 0..C::RUNS {
                let groups = run * (GROUPS / C::RUNS)..(run + 1) * (GROUPS / C::RUNS);
                let mut dots = [[[vdupq_n_s32(0); R]; N]; PER];
                for t in 0..N {
                    dots[PER - 1][t] = [vdupq_n_s32(marks[t].starts[C::START + run]); R];
                }
                // SAFETY: per block there are 8 groups of `tokens` tokens of `PER` lanes, as `few` has checked; those
                // before the first token are left out.
                unsafe {
                    let lanes = lanes.as_ptr().add(b * GROUPS * self.tokens * PER);
                    self.run::<R, N, PER, C>(codes, lanes, groups, &mut dots);
                }
                let multipliers = &w.multipliers[block * C::RUNS + run];
                for r in 0..R {
                    let by = widen(&multipliers[FOUR * (self.four + r)..]);
                    for t in 0..N {
                        let dot = if PER == 2 {
                            vaddq_s32(vshlq_n_s32::<8>(dots[0][t][r]), dots[1][t][r])
                        } else {
                            vshlq_s32(dots[0][t][r], vdupq_n_s32(marks[t].shift))
                        };
                        sums[t][r] = add(sums[t][r], dot, by);
                    }
                }
            }
            if let Some(offsets) = w.offsets.get(block) {
                for r in 0..R {
                    let by = widen(&offsets[FOUR * (self.four + r)..]);
                    for t in 0..N {
                        sums[t][r] = add(sums[t][r], vdupq_n_s32(-marks[t].sum), by);
                    }
                }
            }
        }
        sums
    }

    /// The outputs.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    fn outputs<const R: usize, const N: usize, const PER: usize, C: Codes>(
        &self,
        bias: Option<&[f32]>,
        y: &Grid<'_>,
    ) {
        let sums = self.dots::<R, N, PER, C>();
        for r in 0..R {
            let row = self.tile * TILE + FOUR * (self.four + r);
            if row >= self.w.rows {
                return;
            }
            let ending = Ending::new(&self.w.exponents[row..], bias.map(|bias| &bias[row..]));
            for t in 0..N {
                let token = self.first + self.at + t;
                let values = ending.outputs(sums[t][r], self.x.exponents[token]);
                y.put(token, row, FOUR.min(self.w.rows - row), values);
            }
        }
    }
}

/// What all tiles of a product share.
struct Product<'a> {
    w: &'a Packed,
    x: &'a Lanes,
    bias: Option<&'a [f32]>,
    y: &'a Grid<'a>,
}

impl Product<'_> {
    /// All tokens of some tiles of rows.
    #[target_feature(enable = "neon,dotprod")]
    fn tiles<const PER: usize, C: Codes>(&self, tiles: Range<usize>) {
        for tile in tiles {
            for (first, tokens) in self.x.tiles() {
                // Sums of sixteen outputs have registers, or of 32 if each has one only.
                match (tokens, PER) {
                    (1, _) => self.some::<4, 1, PER, C>(tile, first, tokens),
                    (2, 2) => self.some::<2, 2, PER, C>(tile, first, tokens),
                    (2, _) => self.some::<4, 2, PER, C>(tile, first, tokens),
                    (_, 2) => self.some::<1, 4, PER, C>(tile, first, tokens),
                    (_, _) => self.some::<2, 4, PER, C>(tile, first, tokens),
                }
            }
        }
    }

    /// A tile of rows for a tile of tokens, `R` times four rows and `N` tokens at a time.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    fn some<const R: usize, const N: usize, const PER: usize, C: Codes>(
        &self,
        tile: usize,
        first: usize,
        tokens: usize,
    ) {
        let left = self.w.rows - tile * TILE;
        for four in (0..left.min(TILE).div_ceil(FOUR)).step_by(R) {
            for at in (0..tokens).step_by(N) {
                let piece = Piece {
                    w: self.w,
                    tile,
                    four,
                    x: self.x,
                    first,
                    tokens,
                    at,
                };
                piece.outputs::<R, N, PER, C>(self.bias, self.y);
            }
        }
    }
}

/// The outputs of some tiles of matrix rows for all tokens.
#[target_feature(enable = "neon,dotprod")]
pub fn product(w: &Packed, x: &Lanes, bias: Option<&[f32]>, tiles: Range<usize>, y: &Grid<'_>) {
    let product = Product { w, x, bias, y };
    match (x.profile, w.width) {
        (Profile::A16, Width::Eight | Width::Five) => product.tiles::<2, Byte>(tiles),
        (Profile::A16, Width::Six) => product.tiles::<2, Six>(tiles),
        (Profile::A16, Width::Four) => product.tiles::<2, Four>(tiles),
        (Profile::A8, Width::Eight | Width::Five) => product.tiles::<1, Byte>(tiles),
        (Profile::A8, Width::Six) => product.tiles::<1, Six>(tiles),
        (Profile::A8, Width::Four) => product.tiles::<1, Four>(tiles),
    }
}
