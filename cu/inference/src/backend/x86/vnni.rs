//! Products by AVX-512 with VNNI, and by AMX where there are many tokens: sixteen matrix rows at a time.
//! Not here: who may call. Invariant: that of `x86.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::amx;
use super::element::Ending;
use crate::Profile;
use crate::backend::pack::{Byte, Codes, Four, Lanes, Line, Packed, Six, TILE};
use crate::backend::vector::Grid;

/// How far ahead lines are asked for: 8 KiB.
const AHEAD: usize = 128;

/// The sums of a tile of sixteen matrix rows: per token those of the even rows, and of the odd ones, 64 bits each.
type Sums<const N: usize> = [[__m512i; 2]; N];

/// A line of codes.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn line(line: &Line) -> __m512i {
    // SAFETY: a line is 64 readable bytes, aligned to 64.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

/// Sixteen 16-bit numbers as 32-bit lanes.
#[target_feature(enable = "avx512f,avx2")]
#[inline]
pub fn widen(lanes: &[i16; TILE]) -> __m512i {
    // SAFETY: sixteen i16 are 32 readable bytes.
    _mm512_cvtepi16_epi32(unsafe { _mm256_loadu_si256(std::ptr::from_ref(lanes).cast()) })
}

/// The eight groups of four columns of a block of a tile, a byte each.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub fn groups<C: Codes>(codes: &[Line]) -> [__m512i; 8] {
    let low = _mm512_set1_epi8(15);
    let mut out = [_mm512_setzero_si512(); 8];
    for at in 0..C::LINES {
        let whole = line(&codes[at]);
        if C::LINES == 8 {
            out[at] = whole;
        } else {
            out[at] = _mm512_and_si512(whole, low);
            out[at + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(whole), low);
        }
    }
    out
}

/// Adds the products of lanes, the even ones and the odd ones; `by` holds those of `b` in the even places of both.
#[target_feature(enable = "avx512f")]
#[inline]
fn add(sums: &mut [__m512i; 2], a: __m512i, by: [__m512i; 2]) {
    let odd = _mm512_srli_epi64::<32>(a);
    sums[0] = _mm512_add_epi64(sums[0], _mm512_mul_epi32(a, by[0]));
    sums[1] = _mm512_add_epi64(sums[1], _mm512_mul_epi32(odd, by[1]));
}

/// Sixteen 16-bit numbers in the even lanes of two vectors.
#[target_feature(enable = "avx512f,avx2")]
#[inline]
fn spread(lanes: &[i16; TILE]) -> [__m512i; 2] {
    let all = widen(lanes);
    [all, _mm512_srli_epi64::<32>(all)]
}

/// Asks for a block's lines some blocks ahead: a single token's product waits for memory alone.
#[target_feature(enable = "avx512f")]
#[inline]
fn ahead<C: Codes>(codes: &Line) {
    for at in 0..C::LINES {
        let place = std::ptr::from_ref(codes).wrapping_add(AHEAD + at);
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
}

/// Dot products of a tile of rows with `N` tokens, by VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
#[inline]
fn dots<const N: usize, const WIDE: bool, C: Codes>(
    w: &Packed,
    tile: usize,
    x: &Lanes,
    first: usize,
) -> Sums<N> {
    let (blocks, per_group) = (w.blocks(), if WIDE { 2 } else { 1 });
    let codes = &w.codes[tile * blocks * C::LINES..][..blocks * C::LINES];
    let multipliers = &w.multipliers[tile * blocks * C::RUNS..][..blocks * C::RUNS];
    let (marks, mut lanes) = (x.marks(first, N), x.few(first, N).as_ptr());
    let mut sums = [[_mm512_setzero_si512(); 2]; N];
    for b in 0..blocks {
        if N < 4 {
            ahead::<C>(&codes[b * C::LINES]);
        }
        let marks = &marks[b * N..][..N];
        let groups = groups::<C>(&codes[b * C::LINES..][..C::LINES]);
        for run in 0..C::RUNS {
            let (mut high, mut low) = ([_mm512_setzero_si512(); N], [_mm512_setzero_si512(); N]);
            for t in 0..N {
                low[t] = _mm512_set1_epi32(marks[t].starts[C::START + run]);
            }
            for g in run * (8 / C::RUNS)..(run + 1) * (8 / C::RUNS) {
                for t in 0..N {
                    // SAFETY: per block there are 8 groups of N tokens of `per_group` lanes, as `few` has checked.
                    let lane = |at| _mm512_set1_epi32(unsafe { *lanes.add((g * N + t) * per_group + at) });
                    if WIDE {
                        high[t] = _mm512_dpbusd_epi32(high[t], groups[g], lane(0));
                    }
                    low[t] = _mm512_dpbusd_epi32(low[t], groups[g], lane(per_group - 1));
                }
            }
            let by = spread(&multipliers[b * C::RUNS + run]);
            for t in 0..N {
                let dot = if WIDE {
                    _mm512_add_epi32(_mm512_slli_epi32::<8>(high[t]), low[t])
                } else {
                    _mm512_sll_epi32(low[t], _mm_cvtsi32_si128(marks[t].shift))
                };
                add(&mut sums[t], dot, by);
            }
        }
        if let Some(offsets) = w.offsets.get(tile * blocks + b) {
            let by = spread(offsets);
            for t in 0..N {
                add(&mut sums[t], _mm512_set1_epi32(-marks[t].sum), by);
            }
        }
        // SAFETY: at most one past the last block.
        lanes = unsafe { lanes.add(8 * N * per_group) };
    }
    sums
}

/// Upper parts and lower 24 bits of sums, in row order.
#[target_feature(enable = "avx512f")]
#[inline]
fn parts([even, odd]: [__m512i; 2]) -> [__m512i; 2] {
    let bits = _mm512_set1_epi64(0xff_ffff);
    let upper = _mm512_slli_epi64::<32>(_mm512_srai_epi64::<24>(odd));
    let lower = _mm512_slli_epi64::<32>(_mm512_and_si512(odd, bits));
    [
        _mm512_mask_mov_epi32(_mm512_srai_epi64::<24>(even), 0xaaaa, upper),
        _mm512_or_si512(_mm512_and_si512(even, bits), lower),
    ]
}

/// What all tiles of a product share.
struct Product<'a> {
    w: &'a Packed,
    x: &'a Lanes,
    bias: Option<&'a [f32]>,
    y: &'a Grid<'a>,
}

impl Product<'_> {
    /// What the outputs of a tile of rows share, and how many there are of a token.
    #[target_feature(enable = "avx512f,avx2")]
    fn ending(&self, tile: usize) -> (Ending, usize) {
        let rows = TILE.min(self.w.rows - tile * TILE);
        let exponents = self.w.exponents[tile * TILE..][..TILE]
            .try_into()
            .expect("a whole tile");
        let bias = self.bias.map(|bias| &bias[tile * TILE..][..rows]);
        (Ending::new(exponents, bias), rows)
    }

    /// All tokens of some tiles of rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    fn tiles<const WIDE: bool, C: Codes>(&self, tiles: Range<usize>) {
        let (w, x) = (self.w, self.x);
        if let Some(tokens) = x.unit() {
            return self.unit::<C>(amx::Unit::new(w, tokens), tiles, tokens);
        }
        for tile in tiles {
            let (ending, _) = self.ending(tile);
            for (first, tokens) in x.tiles() {
                self.few::<WIDE, C>(tile, first, tokens, &ending);
            }
        }
    }

    /// All tokens of some tiles of rows by a matrix unit, so many at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    fn unit<C: Codes>(&self, mut unit: amx::Unit, tiles: Range<usize>, tokens: usize) {
        let (w, x) = (self.w, self.x);
        unit.begin::<C>(w, tiles.start);
        for tile in tiles.clone() {
            let (ending, rows) = self.ending(tile);
            // While the unit multiplies, the vector registers make the next tile ready.
            unit.turn(w, (tile + 1 < tiles.end).then_some(tile + 1), x.steps().len());
            for (at, steps) in x.steps().enumerate() {
                unit.multiply::<C>(w, steps);
                for token in at * tokens..std::cmp::min(x.rows, (at + 1) * tokens) {
                    let outputs = ending.outputs(unit.sums(token - at * tokens), x.exponents[token]);
                    self.y.put(token, tile * TILE, rows, outputs);
                }
            }
        }
    }

    /// A tile of rows for up to eight tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    #[inline]
    fn few<const WIDE: bool, C: Codes>(&self, tile: usize, first: usize, tokens: usize, ending: &Ending) {
        match tokens {
            8 => self.some::<8, WIDE, C>(tile, first, ending),
            4 => self.some::<4, WIDE, C>(tile, first, ending),
            2 => self.some::<2, WIDE, C>(tile, first, ending),
            _ => self.some::<1, WIDE, C>(tile, first, ending),
        }
    }

    /// A tile of rows for `N` tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    #[inline]
    fn some<const N: usize, const WIDE: bool, C: Codes>(&self, tile: usize, first: usize, ending: &Ending) {
        let rows = TILE.min(self.w.rows - tile * TILE);
        let sums = dots::<N, WIDE, C>(self.w, tile, self.x, first);
        for t in 0..N {
            let outputs = ending.outputs(parts(sums[t]), self.x.exponents[first + t]);
            self.y.put(first + t, tile * TILE, rows, outputs);
        }
    }
}

/// The outputs of some tiles of matrix rows for all tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
pub fn product(w: &Packed, x: &Lanes, bias: Option<&[f32]>, tiles: Range<usize>, y: &Grid<'_>) {
    use crate::weight::Width;
    let product = Product { w, x, bias, y };
    match (x.profile, w.width) {
        (Profile::A16, Width::Eight | Width::Five) => product.tiles::<true, Byte>(tiles),
        (Profile::A16, Width::Six) => product.tiles::<true, Six>(tiles),
        (Profile::A16, Width::Four) => product.tiles::<true, Four>(tiles),
        (Profile::A8, Width::Eight | Width::Five) => product.tiles::<false, Byte>(tiles),
        (Profile::A8, Width::Six) => product.tiles::<false, Six>(tiles),
        (Profile::A8, Width::Four) => product.tiles::<false, Four>(tiles),
    }
}
