//! Dot products by AMX: sixteen matrix rows with up to sixteen tokens at a time.
//!
//! A weight, multiplier times code less offset, has up to 20 bits: three bytes, the upper one signed. A code has two. So
//! a dot product is four sums of products of bytes, in units of 2^24, 2^16, 2^8 and 1, which the unit adds up over all
//! columns. Not here: who may call, what becomes of the sums. Invariant: that of `x86.rs`; a thread's tiles are set up
//! and given back within one product.
#![allow(unsafe_code, reason = "instructions that have no safe form")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;
use std::ops::Range;

use super::vnni::{groups, line, widen};
use crate::backend::pack::{Codes, Line, Packed, STEP, TILE};

/// Whether the processor has the unit and the system lends it to this process, which it is asked for once.
pub fn lent() -> bool {
    #[cfg(target_os = "linux")]
    {
        static LENT: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *LENT.get_or_init(|| has() && ask())
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// AMX with 8-bit integers, and a system that keeps its registers.
#[cfg(target_os = "linux")]
fn has() -> bool {
    const TILES: u32 = 1 << 24;
    const INTEGERS: u32 = 1 << 25;
    /// The tiles' configuration and data in XCR0.
    const KEPT: u64 = 3 << 17;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & 1 << 27 == 0 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: the system has enabled XGETBV, as asked above.
    features & TILES != 0 && features & INTEGERS != 0 && unsafe { kept() } & KEPT == KEPT
}

#[cfg(target_os = "linux")]
#[target_feature(enable = "xsave")]
fn kept() -> u64 {
    // SAFETY: register 0 exists wherever the instruction does.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the right to use tiles (arch/x86/include/uapi/asm/prctl.h).
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call that takes two numbers and touches no memory of ours.
    unsafe {
        asm!("syscall", inout("rax") result, in("rdi") REQUEST, in("rsi") TILE_DATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// The shapes of the eight tile registers.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Lines of one byte of the weights of a tile of rows in a step: sixteen groups of four columns.
const BYTE_LINES: usize = STEP / 4;

thread_local! {
    /// What the thread's last product used.
    static SPARE: Cell<Option<Tiles>> = const { Cell::new(None) };
}

/// The unit, set up for a matrix.
pub struct Unit(Tiles);

#[derive(Default)]
struct Tiles {
    /// Tokens multiplied at a time, to sixteen.
    tokens: usize,
    /// Bytes of a weight: those of short ones leave out the first of three.
    bytes: usize,
    /// The tile of rows that is multiplied, step by step, the upper bytes first.
    weights: Vec<Line>,
    /// The next one, being made ready.
    next: Vec<Line>,
    /// Which that is, its blocks still to do, and how many of them with each tile of tokens.
    chore: Option<(usize, Range<usize>, usize)>,
    /// Sums of products in units of 2^24, 2^16, 2^8 and 1: sixteen lines each, one per token.
    products: Vec<Line>,
}

impl Unit {
    /// Sets the unit up for products with a matrix, of so many tokens at a time.
    pub fn new(w: &Packed, tokens: usize) -> Unit {
        assert!(lent() && (1..=TILE).contains(&tokens));
        let mut shapes = Shapes {
            palette: 1,
            start: 0,
            reserved: [0; 14],
            bytes: [0; 16],
            rows: [0; 16],
        };
        // 0 to 3 products, 4 and 7 weights, 5 and 6 activations.
        for at in 0..8 {
            let rows = if matches!(at, 4 | 7) { TILE } else { tokens };
            (shapes.rows[at], shapes.bytes[at]) = (rows as u8, 64);
        }
        // SAFETY: the unit is there; the shapes are valid for its palette and stand in memory.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        let mut tiles = SPARE.take().unwrap_or_default();
        tiles.tokens = tokens;
        tiles.products.resize(4 * TILE, Line([0; 64]));
        tiles.bytes = if w.is_short { 2 } else { 3 };
        let lines = w.cols.div_ceil(STEP) * tiles.bytes * BYTE_LINES;
        for weights in [&mut tiles.weights, &mut tiles.next] {
            // Those of a longer product stay, rather than that its lines are made zero again and again.
            weights.resize(weights.len().max(lines), Line([0; 64]));
            if !w.cols.is_multiple_of(STEP) {
                // The half step that no block fills.
                weights[lines - tiles.bytes * BYTE_LINES..lines].fill(Line([0; 64]));
            }
        }
        Unit(tiles)
    }

    /// Makes the first tile of rows ready.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
    pub fn begin<C: Codes>(&mut self, w: &Packed, tile: usize) {
        let unit = &mut self.0;
        for block in 0..w.blocks() {
            ready::<C>(w, tile, block, unit.bytes, &mut unit.next);
        }
    }

    /// Takes the tile of rows that was made ready; the next one will be, a share with each of so many products.
    pub fn turn(&mut self, w: &Packed, next: Option<usize>, products: usize) {
        let unit = &mut self.0;
        std::mem::swap(&mut unit.weights, &mut unit.next);
        unit.chore = next.map(|tile| (tile, 0..w.blocks(), w.blocks().div_ceil(products)));
    }

    /// Multiplies the tile of rows with the steps of a tile of tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
    pub fn multiply<C: Codes>(&mut self, w: &Packed, x: &[Line]) {
        match self.0.bytes {
            2 => self.steps::<2, C>(w, x),
            _ => self.steps::<3, C>(w, x),
        }
    }

    /// As [`Unit::multiply`] with weights of so many bytes.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
    fn steps<const BYTES: usize, C: Codes>(&mut self, w: &Packed, x: &[Line]) {
        let unit = &mut self.0;
        let steps = w.cols.div_ceil(STEP);
        assert!(x.len() == steps * 2 * unit.tokens);
        assert!(BYTES == unit.bytes && steps * BYTES * BYTE_LINES <= unit.weights.len());
        let (mut weights, mut high) = (unit.weights.as_ptr(), x.as_ptr());
        let (tile, mut blocks, share) = unit.chore.take().unwrap_or_default();
        let share = share.div_ceil(steps);
        // SAFETY: the unit is set up.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem)
            );
        }
        for _ in 0..steps {
            // SAFETY: half a step of activations is a register of the unit, a step of weights two or three, and there
            // are so many of both.
            unsafe {
                let low = high.add(unit.tokens);
                match BYTES {
                    2 => step_short(weights.cast(), high.cast(), low.cast()),
                    _ => step_long(weights.cast(), high.cast(), low.cast()),
                }
                (weights, high) = (weights.add(BYTES * BYTE_LINES), low.add(unit.tokens));
            }
            for block in blocks.start..blocks.end.min(blocks.start + share) {
                ready::<C>(w, tile, block, BYTES, &mut unit.next);
            }
            blocks.start = blocks.end.min(blocks.start + share);
        }
        unit.chore = Some((tile, blocks, share * steps));
        // SAFETY: the unit is set up; four registers are four times sixteen lines at most.
        unsafe {
            asm!(
                "tilestored [{y} + {line}*1], tmm0",
                "tilestored [{y} + {line}*1 + 1024], tmm1",
                "tilestored [{y} + {line}*1 + 2048], tmm2",
                "tilestored [{y} + {line}*1 + 3072], tmm3",
                y = in(reg) unit.products.as_mut_ptr(), line = in(reg) 64_usize, options(nostack)
            );
        }
    }

    /// Upper parts and lower 24 bits of the last products with the `at`-th of the tokens.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn sums(&self, at: usize) -> [__m512i; 2] {
        let unit = &self.0;
        let parts: &[Line; 4 * TILE] = unit.products.as_slice().try_into().expect("four times sixteen");
        let (mut top, high) = (line(&parts[at]), line(&parts[TILE + at]));
        let (mut middle, low) = (line(&parts[2 * TILE + at]), line(&parts[3 * TILE + at]));
        if unit.bytes == 2 {
            middle = _mm512_add_epi32(middle, top);
            top = _mm512_setzero_si512();
        }
        let middle = _mm512_add_epi32(middle, _mm512_srai_epi32::<8>(low));
        let high = _mm512_add_epi32(high, _mm512_srai_epi32::<8>(middle));
        let upper = _mm512_add_epi32(top, _mm512_srai_epi32::<8>(high));
        let lower = select(_mm512_set1_epi32(0xff), low, _mm512_slli_epi32::<8>(middle));
        let lower = select(_mm512_set1_epi32(0xffff), lower, _mm512_slli_epi32::<16>(high));
        [upper, _mm512_and_si512(lower, _mm512_set1_epi32(0xff_ffff))]
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: the unit is there; nothing of its contents is used any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
        SPARE.set(Some(std::mem::take(&mut self.0)));
    }
}

/// Makes a block of a tile of rows ready.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
#[inline]
fn ready<C: Codes>(w: &Packed, tile: usize, block: usize, bytes: usize, out: &mut [Line]) {
    let at = block / 2 * bytes * BYTE_LINES + block % 2 * (BYTE_LINES / 2);
    let out = &mut out[at..][..(bytes - 1) * BYTE_LINES + BYTE_LINES / 2];
    let block = tile * w.blocks() + block;
    let codes = groups::<C>(&w.codes[block * C::LINES..][..C::LINES]);
    let bias = _mm512_set1_epi16(w.bias() as i16);
    let first = twice(&w.multipliers[block * C::RUNS]);
    let last = twice(&w.multipliers[block * C::RUNS + C::RUNS - 1]);
    for g in 0..8 {
        let by = if g < 4 { first } else { last };
        if bytes == 2 {
            short(codes[g], bias, by, &mut out[g..]);
        } else {
            long(codes[g], bias, by, w.offsets.get(block), &mut out[g..]);
        }
    }
}

/// Multiplies a step of weights of two bytes.
///
/// # Safety
/// The unit is set up; `w` reaches two registers far, `high` and `low` one each.
#[inline(always)]
unsafe fn step_short(w: *const u8, high: *const u8, low: *const u8) {
    // SAFETY: the caller's. The upper bytes of weights are signed, as are both of activations.
    unsafe {
        asm!(
            "tileloadd tmm5, [{high} + {line}*1]",
            "tileloadd tmm4, [{w} + {line}*1]",
            "tdpbssd tmm1, tmm5, tmm4",
            "tileloadd tmm6, [{low} + {line}*1]",
            "tdpbssd tmm2, tmm6, tmm4",
            "tileloadd tmm7, [{w} + {line}*1 + 1024]",
            "tdpbsud tmm3, tmm6, tmm7",
            "tdpbsud tmm0, tmm5, tmm7",
            w = in(reg) w, high = in(reg) high, low = in(reg) low, line = in(reg) 64_usize,
            options(nostack, readonly)
        );
    }
}

/// Multiplies a step of weights of three bytes.
///
/// # Safety
/// The unit is set up; `w` reaches three registers far, `high` and `low` one each.
#[inline(always)]
unsafe fn step_long(w: *const u8, high: *const u8, low: *const u8) {
    // SAFETY: the caller's. The upper bytes of weights are signed, as are both of activations.
    unsafe {
        asm!(
            "tileloadd tmm5, [{high} + {line}*1]",
            "tileloadd tmm4, [{w} + {line}*1]",
            "tdpbssd tmm0, tmm5, tmm4",
            "tileloadd tmm6, [{low} + {line}*1]",
            "tdpbssd tmm1, tmm6, tmm4",
            "tileloadd tmm7, [{w} + {line}*1 + 1024]",
            "tdpbsud tmm2, tmm6, tmm7",
            "tdpbsud tmm1, tmm5, tmm7",
            "tileloadd tmm4, [{w} + {line}*1 + 2048]",
            "tdpbsud tmm3, tmm6, tmm4",
            "tdpbsud tmm2, tmm5, tmm4",
            w = in(reg) w, high = in(reg) high, low = in(reg) low, line = in(reg) 64_usize,
            options(nostack, readonly)
        );
    }
}

/// Bits of `a` where the mask has ones, else of `b`.
#[target_feature(enable = "avx512f")]
#[inline]
fn select(mask: __m512i, a: __m512i, b: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xca>(mask, a, b)
}

/// Sixteen 16-bit numbers, each twice.
#[target_feature(enable = "avx512f,avx2")]
#[inline]
fn twice(lanes: &[i16; TILE]) -> __m512i {
    let wide = widen(lanes);
    select(_mm512_set1_epi32(0xffff), wide, _mm512_slli_epi32::<16>(wide))
}

/// The even and the odd codes of four columns of a tile of rows, as 16-bit numbers.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn signed(codes: __m512i, bias: __m512i) -> [__m512i; 2] {
    let even = _mm512_and_si512(codes, _mm512_set1_epi16(0xff));
    let odd = _mm512_srli_epi16::<8>(codes);
    [_mm512_sub_epi16(even, bias), _mm512_sub_epi16(odd, bias)]
}

/// Sets a line of weights' bytes from those in the lower halves of even and of odd ones.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn lower([even, odd]: [__m512i; 2], out: &mut Line) {
    set(
        select(_mm512_set1_epi16(0xff), even, _mm512_slli_epi16::<8>(odd)),
        out,
    );
}

/// As [`lower`] from the upper halves.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn upper([even, odd]: [__m512i; 2], out: &mut Line) {
    set(
        select(_mm512_set1_epi16(0xff), _mm512_srli_epi16::<8>(even), odd),
        out,
    );
}

#[target_feature(enable = "avx512f")]
#[inline]
fn set(bytes: __m512i, out: &mut Line) {
    // SAFETY: a line is 64 writable bytes, aligned to 64.
    unsafe { _mm512_store_si512(std::ptr::from_mut(out).cast(), bytes) };
}

/// Two bytes of the weights of four columns.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn short(codes: __m512i, bias: __m512i, by: __m512i, out: &mut [Line]) {
    let [even, odd] = signed(codes, bias);
    let low = [_mm512_mullo_epi16(even, by), _mm512_mullo_epi16(odd, by)];
    upper(low, &mut out[0]);
    lower(low, &mut out[BYTE_LINES]);
}

/// Three bytes of the weights of four columns.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn long(codes: __m512i, bias: __m512i, by: __m512i, offsets: Option<&[i16; TILE]>, out: &mut [Line]) {
    let [even, odd] = signed(codes, bias);
    let mut low = [_mm512_mullo_epi16(even, by), _mm512_mullo_epi16(odd, by)];
    let mut high = [_mm512_mulhi_epi16(even, by), _mm512_mulhi_epi16(odd, by)];
    if let Some(offsets) = offsets {
        let offsets = twice(offsets);
        for at in 0..2 {
            let borrows = _mm512_cmplt_epu16_mask(low[at], offsets);
            let signs = _mm512_srai_epi16::<15>(offsets);
            let one = _mm512_maskz_set1_epi16(borrows, 1);
            high[at] = _mm512_sub_epi16(_mm512_sub_epi16(high[at], signs), one);
            low[at] = _mm512_sub_epi16(low[at], offsets);
        }
    }
    lower(high, &mut out[0]);
    upper(low, &mut out[BYTE_LINES]);
    lower(low, &mut out[2 * BYTE_LINES]);
}
