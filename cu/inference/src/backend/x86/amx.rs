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

/// A block's dot products: per tile of rows, per run those of the high bytes, then of the low ones, a line per token.
#[repr(C, align(64))]
struct Products([[[[Line; TILE]; 2]; 2]; 2]);

/// Bytes from the products of one tile of rows to those of the next.
const NEXT: usize = size_of::<Products>() / 2;

/// The unit, set up for a matrix, or nothing.
pub struct Unit(Option<Tiles>);

struct Tiles {
    /// The codes of two tiles of rows as bytes, where they are stored as nibbles.
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
        // 0 to 3 products, 4 and 5 activations, 6 and 7 weights.
        for at in 0..4 {
            (shapes.rows[at], shapes.bytes[at]) = (16, 64);
        }
        for at in 4..6 {
            (shapes.rows[at], shapes.bytes[at]) = (16, (32 / C::RUNS) as u16);
        }
        for at in 6..8 {
            (shapes.rows[at], shapes.bytes[at]) = ((8 / C::RUNS) as u8, 64);
        }
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
        for (codes, bytes) in codes.chunks_exact(4).zip(unit.bytes.chunks_exact_mut(8)) {
            let groups = groups::<C>(codes);
            for g in 0..8 {
                // SAFETY: a line is 64 writable bytes, aligned to 64.
                unsafe { _mm512_store_si512(std::ptr::from_mut(&mut bytes[g]).cast(), groups[g]) };
            }
        }
    }

    /// Dot products of the one or two tiles of rows that were made ready with sixteen tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
    #[inline]
    pub fn dots<const WIDE: bool, C: Codes>(
        &mut self,
        w: &Packed,
        tile: usize,
        tiles: usize,
        x: &Lanes,
        first: usize,
    ) -> [Sums<TILE>; 2] {
        let unit = self.0.as_mut().expect("set up where there are tiles of sixteen");
        let blocks = w.blocks();
        let codes = match C::LINES {
            4 => &unit.bytes[..],
            _ => &w.codes[tile * blocks * 8..][..tiles * blocks * 8],
        };
        let block_bytes = TILE * Lanes::block_bytes(x.profile);
        let acts = x.bytes(first * blocks * block_bytes / TILE, blocks * block_bytes);
        let mut sums = [[_mm512_set1_epi32((blocks / 2) as i32); TILE]; 2];
        for b in 0..blocks {
            let rows = [b, (tiles - 1) * blocks + b].map(|block| &codes[block * 8..][..8]);
            let acts = &acts[b * block_bytes..][..block_bytes];
            for run in 0..C::RUNS {
                // SAFETY: a run has 8 / RUNS lines of codes per tile of rows, sixteen tokens of 32 / RUNS bytes that
                // begin 32 bytes apart (the low ones 512 after the high ones), and two results of sixteen lines per
                // tile of rows.
                unsafe {
                    let [w0, w1] = rows.map(|codes| codes.as_ptr().add(run * 8 / C::RUNS));
                    let x = acts.as_ptr().add(run * 32 / C::RUNS);
                    let y = unit.products.0[0][run].as_mut_ptr();
                    if WIDE {
                        wide(w0, w1, x, y)
                    } else {
                        narrow(w0, w1, x, y)
                    }
                }
            }
            for at in 0..tiles {
                let marks = &x.marks[first * blocks + b * TILE..][..TILE];
                let block = (tile + at) * blocks + b;
                add::<WIDE, C>(&mut sums[at], w, block, marks, &unit.products.0[at]);
            }
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

/// Products of both bytes of sixteen-bit codes with two tiles of rows.
///
/// # Safety
/// The unit is set up; the pointers reach as its shapes say, `y` also [`NEXT`] bytes later.
#[inline(always)]
unsafe fn wide(w0: *const Line, w1: *const Line, x: *const u8, y: *mut [Line; TILE]) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm6, [{w0} + {line}*1]",
            "tileloadd tmm4, [{x} + {token}*1]",
            "tileloadd tmm5, [{x} + {token}*1 + 512]",
            "tileloadd tmm7, [{w1} + {line}*1]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tdpbsud tmm1, tmm5, tmm6",
            "tdpbsud tmm2, tmm4, tmm7",
            "tdpbsud tmm3, tmm5, tmm7",
            "tilestored [{y} + {line}*1], tmm0",
            "tilestored [{y} + {line}*1 + 1024], tmm1",
            "tilestored [{y} + {line}*1 + {next}], tmm2",
            "tilestored [{y} + {line}*1 + {next} + 1024], tmm3",
            w0 = in(reg) w0, w1 = in(reg) w1, x = in(reg) x, y = in(reg) y,
            line = in(reg) 64_usize, token = in(reg) 32_usize, next = const NEXT,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _, options(nostack)
        );
    }
}

/// Products of eight-bit codes with two tiles of rows.
///
/// # Safety
/// As [`wide`].
#[inline(always)]
unsafe fn narrow(w0: *const Line, w1: *const Line, x: *const u8, y: *mut [Line; TILE]) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "tilezero tmm1",
            "tilezero tmm3",
            "tileloadd tmm6, [{w0} + {line}*1]",
            "tileloadd tmm5, [{x} + {token}*1]",
            "tileloadd tmm7, [{w1} + {line}*1]",
            "tdpbsud tmm1, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "tilestored [{y} + {line}*1 + 1024], tmm1",
            "tilestored [{y} + {line}*1 + {next} + 1024], tmm3",
            w0 = in(reg) w0, w1 = in(reg) w1, x = in(reg) x, y = in(reg) y,
            line = in(reg) 64_usize, token = in(reg) 32_usize, next = const NEXT,
            out("tmm1") _, out("tmm3") _, out("tmm5") _, out("tmm6") _, out("tmm7") _, options(nostack)
        );
    }
}

/// Adds a block's terms to the sums of a tile of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
#[inline]
fn add<const WIDE: bool, C: Codes>(
    sums: &mut Sums<TILE>,
    w: &Packed,
    block: usize,
    marks: &[Mark],
    products: &[[[Line; TILE]; 2]; 2],
) {
    let marks: &[Mark; TILE] = marks.try_into().expect("a mark per token");
    let first = widen(&w.multipliers[block * C::RUNS]);
    let last = widen(&w.multipliers[block * C::RUNS + C::RUNS - 1]);
    let offsets = w.offsets.get(block);
    for t in 0..TILE {
        let dot = |run: usize| {
            let start = _mm512_set1_epi32(marks[t].starts[C::START + run]);
            let low = _mm512_add_epi32(line(&products[run][1][t]), start);
            if WIDE {
                join::<C>(line(&products[run][0][t]), low)
            } else {
                low
            }
        };
        let mut term = _mm512_mullo_epi32(dot(0), first);
        if C::RUNS == 2 {
            term = _mm512_add_epi32(term, _mm512_mullo_epi32(dot(1), last));
        }
        if let Some(offsets) = offsets {
            term = _mm512_sub_epi32(term, offset::<WIDE, C>(offsets, &marks[t]));
        }
        sums[t] = _mm512_add_epi32(sums[t], shifted(term, &marks[t].shift));
    }
}
