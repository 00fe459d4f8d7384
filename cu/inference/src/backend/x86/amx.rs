//! Dot products by AMX: sixteen matrix rows with sixteen tokens at a time.
//!
//! Not here: who may call, what becomes of the sums. Invariant: that of `x86.rs`; a thread's tiles are set up and given
//! back within one product.
#![allow(unsafe_code, reason = "instructions that have no safe form")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::vnni::{Codes, Sums, groups, join, line, offset, shifted, widen};
use crate::backend::pack::{Lanes, Line, Mark, Packed, TILE};

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

/// Dot products of two blocks: per run, per block those of the high bytes, then of the low ones, a line per token. Within
/// a run the two blocks are less than 4 KiB apart: a load waits for a store before it whose place differs by just that.
#[repr(C, align(64))]
struct Products([[[[Line; TILE]; 2]; 2]; 2]);

/// The unit, set up for a matrix, or nothing.
pub struct Unit(Option<Tiles>);

struct Tiles {
    /// The codes of two tiles of rows as signed bytes, where they are stored as nibbles.
    bytes: Vec<Line>,
    products: Box<Products>,
}

impl Unit {
    /// Sets the unit up where it is wanted.
    pub fn new<C: Codes>(wanted: bool, blocks: usize) -> Unit {
        if !wanted {
            return Unit(None);
        }
        assert!(lent());
        let mut shapes = Shapes {
            palette: 1,
            start: 0,
            reserved: [0; 14],
            bytes: [0; 16],
            rows: [0; 16],
        };
        // 0 to 3 products, 4 and 5 activations, 6 weights.
        for at in 0..4 {
            (shapes.rows[at], shapes.bytes[at]) = (16, 64);
        }
        for at in 4..6 {
            (shapes.rows[at], shapes.bytes[at]) = (16, (32 / C::RUNS) as u16);
        }
        (shapes.rows[6], shapes.bytes[6]) = ((8 / C::RUNS) as u8, 64);
        // SAFETY: the unit is there; the shapes are valid for its palette and stand in memory.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        let bytes = if C::LINES == 4 { 2 * blocks * 8 } else { 0 };
        Unit(Some(Tiles {
            bytes: vec![Line([0; 64]); bytes],
            products: Box::new(Products([[[[Line([0; 64]); TILE]; 2]; 2]; 2])),
        }))
    }

    /// Makes one or two tiles of rows ready.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub fn load<C: Codes>(&mut self, w: &Packed, tile: usize, tiles: usize) {
        let Some(unit) = &mut self.0 else { return };
        if C::LINES == 8 {
            return;
        }
        let codes = &w.codes[tile * w.blocks() * 4..][..tiles * w.blocks() * 4];
        let bias = _mm512_set1_epi8(w.bias() as i8);
        for (codes, bytes) in codes.chunks_exact(4).zip(unit.bytes.chunks_exact_mut(8)) {
            let groups = groups::<C>(codes);
            for g in 0..8 {
                let signed = _mm512_sub_epi8(groups[g], bias);
                // SAFETY: a line is 64 writable bytes, aligned to 64.
                unsafe { _mm512_store_si512(std::ptr::from_mut(&mut bytes[g]).cast(), signed) };
            }
        }
    }

    /// Dot products of a tile of rows, the `at`-th of those made ready, with sixteen tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    #[inline]
    pub fn dots<const WIDE: bool, C: Codes>(
        &mut self,
        w: &Packed,
        tile: usize,
        at: usize,
        x: &Lanes,
        first: usize,
    ) -> Sums<TILE> {
        let unit = self.0.as_mut().expect("set up where there are tiles of sixteen");
        let blocks = w.blocks();
        let codes = match C::LINES {
            4 => &unit.bytes[at * blocks * 8..][..blocks * 8],
            _ => &w.codes[tile * blocks * 8..][..blocks * 8],
        };
        let block_bytes = TILE * Lanes::block_bytes(x.profile);
        let acts = x.bytes(first * blocks * block_bytes / TILE, blocks * block_bytes);
        let products = &mut *unit.products;
        // SAFETY: a run has 8 / RUNS lines of codes, and sixteen tokens of 32 / RUNS bytes that begin 32 bytes apart
        // (the low ones 512 after the high ones).
        let multiply = |b: usize| unsafe {
            let (codes, acts) = (&codes[b * 8..][..8], &acts[b * block_bytes..][..block_bytes]);
            let [w, x] = [codes.as_ptr().cast(), acts.as_ptr()];
            multiply::<WIDE, C>(w, x);
        };
        let marks = &x.marks[first * blocks..][..TILE * blocks];
        let mut sums = [_mm512_set1_epi32((blocks / 2) as i32); TILE];
        // The unit is two blocks ahead, and its results one, so that nothing waits for it.
        multiply(0);
        keep::<WIDE, C>(products, 0);
        multiply(1.min(blocks - 1));
        for b in 0..blocks {
            keep::<WIDE, C>(products, (b + 1) % 2);
            multiply((b + 2).min(blocks - 1));
            let marks = marks[b * TILE..][..TILE].try_into().expect("a mark per token");
            add::<WIDE, C>(&mut sums, w, tile * blocks + b, marks, products, b % 2);
        }
        sums
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if self.0.is_some() {
            // SAFETY: the unit is there; nothing of its contents is used any more.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}

/// Multiplies sixteen tokens with a tile of rows: the products of high and low bytes stay in two of the unit's registers.
macro_rules! run {
    ($w:ident, $x:ident, $signed:expr, $wide:expr, $high:literal, $low:literal) => {
        match ($signed, $wide) {
            (true, true) => run!(@ $w, $x, "tdpbssd", $high, $low),
            (false, true) => run!(@ $w, $x, "tdpbsud", $high, $low),
            (true, false) => run!(@ $w, $x, "tdpbssd", $low),
            (false, false) => run!(@ $w, $x, "tdpbsud", $low),
        }
    };
    (@ $w:ident, $x:ident, $dot:literal, $high:literal, $low:literal) => {
        asm!(
            concat!("tilezero ", $high),
            concat!("tilezero ", $low),
            "tileloadd tmm6, [{w} + {line}*1]",
            "tileloadd tmm4, [{x} + {token}*1]",
            "tileloadd tmm5, [{x} + {token}*1 + 512]",
            concat!($dot, " ", $high, ", tmm4, tmm6"),
            concat!($dot, " ", $low, ", tmm5, tmm6"),
            w = in(reg) $w, x = in(reg) $x, line = in(reg) 64_usize, token = in(reg) 32_usize,
            options(nostack, readonly)
        )
    };
    (@ $w:ident, $x:ident, $dot:literal, $low:literal) => {
        asm!(
            concat!("tilezero ", $low),
            "tileloadd tmm6, [{w} + {line}*1]",
            "tileloadd tmm5, [{x} + {token}*1]",
            concat!($dot, " ", $low, ", tmm5, tmm6"),
            w = in(reg) $w, x = in(reg) $x, line = in(reg) 64_usize, token = in(reg) 32_usize,
            options(nostack, readonly)
        )
    };
}

/// Products of a block, which stay in the unit: nothing else uses its registers.
///
/// # Safety
/// The unit is set up; the pointers reach as its shapes say.
#[inline(always)]
unsafe fn multiply<const WIDE: bool, C: Codes>(w: *const u8, x: *const u8) {
    // SAFETY: the caller's.
    unsafe {
        run!(w, x, C::LINES == 4, WIDE, "tmm0", "tmm1");
        if C::RUNS == 2 {
            let (w, x) = (w.add(256), x.add(16));
            run!(w, x, C::LINES == 4, WIDE, "tmm2", "tmm3");
        }
    }
}

/// Stores a register of the unit.
macro_rules! store {
    ($y:ident, $register:literal, $after:literal) => {
        asm!(concat!("tilestored [{y} + {line}*1", $after, "], ", $register),
            y = in(reg) $y, line = in(reg) 64_usize, options(nostack))
    };
}

/// Brings the products of a block out of the unit.
#[inline(always)]
fn keep<const WIDE: bool, C: Codes>(products: &mut Products, which: usize) {
    let y = products.0[0][which % 2].as_mut_ptr();
    // SAFETY: a block has two results of sixteen lines, and two of another run 4096 bytes on; the unit is set up.
    unsafe {
        if WIDE {
            store!(y, "tmm0", "");
        }
        store!(y, "tmm1", " + 1024");
        if C::RUNS == 2 {
            if WIDE {
                store!(y, "tmm2", " + 4096");
            }
            store!(y, "tmm3", " + 5120");
        }
    }
}

/// Statements for each of sixteen tokens, written out, so that their sums stay in registers.
macro_rules! each_token {
    ($t:ident, $body:block) => {
        each_token!(@ $t, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $t:ident, $body:block, $($at:literal)*) => {
        $({
            const $t: usize = $at;
            $body
        })*
    };
}

/// Adds a block's terms to the sums of a tile of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
#[inline]
fn add<const WIDE: bool, C: Codes>(
    sums: &mut Sums<TILE>,
    w: &Packed,
    block: usize,
    marks: &[Mark; TILE],
    products: &Products,
    which: usize,
) {
    let first = widen(&w.multipliers[block * C::RUNS]);
    let last = widen(&w.multipliers[block * C::RUNS + C::RUNS - 1]);
    let factors = factors::<WIDE>(first);
    let offsets = w.offsets.get(block);
    each_token!(T, {
        let mut term = if C::LINES == 4 {
            small::<WIDE>(
                line(&products.0[0][which][0][T]),
                line(&products.0[0][which][1][T]),
                factors,
            )
        } else {
            let dot = |run: usize| {
                let start = _mm512_set1_epi32(marks[T].starts[C::START + run]);
                let low = _mm512_add_epi32(line(&products.0[run][which][1][T]), start);
                if WIDE {
                    join::<C>(line(&products.0[run][which][0][T]), low)
                } else {
                    low
                }
            };
            let term = _mm512_mullo_epi32(dot(0), first);
            if C::RUNS == 2 {
                _mm512_add_epi32(term, _mm512_mullo_epi32(dot(1), last))
            } else {
                term
            }
        };
        if let Some(offsets) = offsets {
            term = _mm512_sub_epi32(term, offset::<WIDE, C>(offsets, &marks[T]));
        }
        sums[T] = _mm512_add_epi32(sums[T], shifted(term, &marks[T].shift));
    });
}

/// What [`small`] multiplies by: the multiplier, or 8 times it below and itself above.
#[target_feature(enable = "avx512f")]
#[inline]
fn factors<const WIDE: bool>(multipliers: __m512i) -> __m512i {
    let low = _mm512_set1_epi32(0xffff);
    if !WIDE {
        return _mm512_and_si512(multipliers, low);
    }
    let eightfold = _mm512_and_si512(_mm512_slli_epi32::<3>(multipliers), low);
    _mm512_or_si512(eightfold, _mm512_slli_epi32::<16>(multipliers))
}

/// The term of a block of signed 4-bit codes: its dot product, round(256 high + low, 5), times the multiplier.
///
/// Both halves of 8 high + ((low + 16) >> 5) have 16 bits: high is at most 32 * 8 * 127 in magnitude, the other part
/// 1024; so has 8 times a multiplier. A dot product with 8-bit codes has 16 bits itself.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn small<const WIDE: bool>(high: __m512i, low: __m512i, factors: __m512i) -> __m512i {
    if !WIDE {
        return _mm512_madd_epi16(low, factors);
    }
    let up = _mm512_slli_epi32::<11>(_mm512_add_epi32(low, _mm512_set1_epi32(16)));
    // Bits of `high` where the mask has ones, else of `up`.
    let both = _mm512_ternarylogic_epi32::<0xd8>(up, high, _mm512_set1_epi32(0xffff));
    _mm512_madd_epi16(both, factors)
}
