//! Products by AVX-512 with VNNI, and by AMX where there are many tokens: sixteen matrix rows at a time.
//! Not here: who may call. Invariant: that of `x86.rs`.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::amx;
use super::element::finish;
use crate::Profile;
use crate::backend::cpu;
use crate::backend::pack::{Lanes, Line, Mark, Packed, TILE};
use crate::backend::vector::Grid;
use crate::weight::headroom;

/// How far ahead lines are asked for: 8 KiB.
const AHEAD: usize = 128;

/// The stored codes of a matrix, as constants of a kernel.
pub trait Codes {
    /// Lines of a block.
    const LINES: usize;
    /// Runs of a block that have a multiplier of their own.
    const RUNS: usize;
    /// Which start of a mark is that of the first run.
    const START: usize;
    /// Bits dropped from a dot product with 16-bit codes.
    const DROP: u32;
}

/// Width 8: a byte each, plus 128.
pub enum Eight {}
/// Width 6: a byte each, plus 128, two multipliers a block.
pub enum Six {}
/// Width 5: a byte each, plus 128.
pub enum Five {}
/// Width 4: a nibble each, plus 8.
pub enum Four {}

impl Codes for Eight {
    const LINES: usize = 8;
    const RUNS: usize = 1;
    const START: usize = 0;
    const DROP: u32 = 8;
}

impl Codes for Six {
    const LINES: usize = 8;
    const RUNS: usize = 2;
    const START: usize = 3;
    const DROP: u32 = 7;
}

impl Codes for Five {
    const LINES: usize = 8;
    const RUNS: usize = 1;
    const START: usize = 1;
    const DROP: u32 = 6;
}

impl Codes for Four {
    const LINES: usize = 4;
    const RUNS: usize = 1;
    const START: usize = 2;
    const DROP: u32 = 5;
}

/// The sums of a tile: a vector of sixteen matrix rows per token.
pub type Sums<const N: usize> = [__m512i; N];

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

/// The part of a block's term that comes from its offset.
#[target_feature(enable = "avx512f,avx2")]
#[inline]
pub fn offset<const WIDE: bool, C: Codes>(offsets: &[i16; TILE], mark: &Mark) -> __m512i {
    let sum = cpu::round(mark.sum, if WIDE { C::DROP } else { 0 });
    _mm512_mullo_epi32(_mm512_set1_epi32(sum), widen(offsets))
}

/// Lanes shifted right by a number in memory: one instruction, of which the compiler would make five.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn shifted(v: __m512i, by: &i32) -> __m512i {
    let out;
    // SAFETY: reads one number.
    unsafe {
        asm!("vpsravd {out}, {v}, dword ptr [{by}]{{1to16}}", out = lateout(zmm_reg) out, v = in(zmm_reg) v,
            by = in(reg) by, options(pure, readonly, nostack, preserves_flags));
    }
    out
}

/// Dot products from those of the high and of the low bytes: joined, and the dropped bits gone.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn join<C: Codes>(high: __m512i, low: __m512i) -> __m512i {
    match C::DROP {
        // The high part has no bits below the eighth.
        8 => _mm512_add_epi32(high, _mm512_srai_epi32::<8>(low)),
        7 => _mm512_srai_epi32::<7>(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)),
        6 => _mm512_srai_epi32::<6>(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)),
        _ => _mm512_srai_epi32::<5>(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)),
    }
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
    let marks = &x.marks[first * blocks..][..N * blocks];
    let mut lanes = x
        .words(first * blocks * 8 * per_group, N * blocks * 8 * per_group)
        .as_ptr();
    let mut sums = [_mm512_set1_epi32((blocks / 2) as i32); N];
    for b in 0..blocks {
        if N < 4 {
            ahead::<C>(&codes[b * C::LINES]);
        }
        let marks = &marks[b * N..][..N];
        let groups = groups::<C>(&codes[b * C::LINES..][..C::LINES]);
        let mut terms = [_mm512_setzero_si512(); N];
        for run in 0..C::RUNS {
            let (mut high, mut low) = ([_mm512_setzero_si512(); N], [_mm512_setzero_si512(); N]);
            for t in 0..N {
                low[t] = _mm512_set1_epi32(marks[t].starts[C::START + run]);
            }
            for g in run * (8 / C::RUNS)..(run + 1) * (8 / C::RUNS) {
                for t in 0..N {
                    // SAFETY: per block there are 8 groups of N tokens of `per_group` lanes, as `words` has checked.
                    let lane = |at| _mm512_set1_epi32(unsafe { *lanes.add((g * N + t) * per_group + at) });
                    if WIDE {
                        high[t] = _mm512_dpbusd_epi32(high[t], groups[g], lane(0));
                    }
                    low[t] = _mm512_dpbusd_epi32(low[t], groups[g], lane(per_group - 1));
                }
            }
            let multipliers = widen(&multipliers[b * C::RUNS + run]);
            for t in 0..N {
                let dot = if WIDE { join::<C>(high[t], low[t]) } else { low[t] };
                let term = _mm512_mullo_epi32(dot, multipliers);
                terms[t] = if run == 0 {
                    term
                } else {
                    _mm512_add_epi32(terms[t], term)
                };
            }
        }
        if let Some(offsets) = w.offsets.get(tile * blocks + b) {
            for t in 0..N {
                terms[t] = _mm512_sub_epi32(terms[t], offset::<WIDE, C>(offsets, &marks[t]));
            }
        }
        for t in 0..N {
            sums[t] = _mm512_add_epi32(sums[t], shifted(terms[t], &marks[t].shift));
        }
        // SAFETY: at most one past the last block.
        lanes = unsafe { lanes.add(8 * N * per_group) };
    }
    sums
}

/// What all tiles of a product share.
struct Product<'a> {
    w: &'a Packed,
    x: &'a Lanes,
    bias: Option<&'a [f32]>,
    y: &'a Grid<'a>,
}

impl Product<'_> {
    /// The outputs of a tile of rows for some tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    #[inline]
    fn put<const N: usize>(&self, tile: usize, first: usize, sums: &Sums<N>) {
        let (w, x) = (self.w, self.x);
        let base = (headroom(w.cols) + w.drop_bits(x.profile)) as i32;
        let rows = TILE.min(w.rows - tile * TILE);
        let exponents: &[i16; TILE] = w.exponents[tile * TILE..][..TILE]
            .try_into()
            .expect("a whole tile");
        let exponents = widen(exponents);
        for t in 0..N.min(x.rows - first) {
            let common = _mm512_set1_epi32(base + x.exponents[first + t]);
            let bias = self.bias.map(|bias| &bias[tile * TILE..][..rows]);
            let values = finish(sums[t], _mm512_add_epi32(common, exponents), bias);
            self.y.put(first + t, tile * TILE, rows, values);
        }
    }

    /// All tokens of some tiles of rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    fn tiles<const WIDE: bool, C: Codes>(&self, tiles: Range<usize>) {
        let (w, x) = (self.w, self.x);
        let mut unit = amx::Unit::new::<C>(x.rows > 1 && x.sixteens, w.blocks());
        let step = if x.rows > 1 && x.sixteens { 2 } else { 1 };
        for tile in tiles.clone().step_by(step) {
            let pair = step.min(tiles.end - tile);
            unit.load::<C>(w, tile, pair);
            for (first, tokens) in x.tiles() {
                for at in 0..pair {
                    if tokens == TILE {
                        let sums = unit.dots::<WIDE, C>(w, tile + at, at, x, first);
                        self.put(tile + at, first, &sums);
                    } else {
                        self.few::<WIDE, C>(tile + at, first, tokens);
                    }
                }
            }
        }
    }

    /// A tile of rows for up to eight tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    #[inline]
    fn few<const WIDE: bool, C: Codes>(&self, tile: usize, first: usize, tokens: usize) {
        let (w, x) = (self.w, self.x);
        match tokens {
            8 => self.put(tile, first, &dots::<8, WIDE, C>(w, tile, x, first)),
            4 => self.put(tile, first, &dots::<4, WIDE, C>(w, tile, x, first)),
            2 => self.put(tile, first, &dots::<2, WIDE, C>(w, tile, x, first)),
            _ => self.put(tile, first, &dots::<1, WIDE, C>(w, tile, x, first)),
        }
    }
}

/// The outputs of some tiles of matrix rows for all tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
pub fn product(w: &Packed, x: &Lanes, bias: Option<&[f32]>, tiles: Range<usize>, y: &Grid<'_>) {
    use crate::weight::Width;
    let product = Product { w, x, bias, y };
    match (x.profile, w.width) {
        (Profile::A16, Width::Eight) => product.tiles::<true, Eight>(tiles),
        (Profile::A16, Width::Six) => product.tiles::<true, Six>(tiles),
        (Profile::A16, Width::Five) => product.tiles::<true, Five>(tiles),
        (Profile::A16, Width::Four) => product.tiles::<true, Four>(tiles),
        (Profile::A8, Width::Eight) => product.tiles::<false, Eight>(tiles),
        (Profile::A8, Width::Six) => product.tiles::<false, Six>(tiles),
        (Profile::A8, Width::Five) => product.tiles::<false, Five>(tiles),
        (Profile::A8, Width::Four) => product.tiles::<false, Four>(tiles),
    }
}
