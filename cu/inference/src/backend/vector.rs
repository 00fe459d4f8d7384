//! The definition's operators compiled for the vector units that a processor turns out to have.
//!
//! Not here: what the operators mean (`cpu.rs`), dot products by hand (`x86.rs`). Invariant: a level is used only where
//! the processor has its instructions, and no level differs from the definition in a bit.
#![allow(
    unsafe_code,
    reason = "vector instructions are called after the processor was asked whether it has them"
)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::Profile;
use crate::backend::cpu;
#[cfg(target_arch = "x86_64")]
use crate::backend::pack::TILE;
use crate::backend::pack::{Filling, Packed};
use crate::backend::pack::{Lanes, few_tokens};
use crate::backend::rows::{Acts, Rows};
#[cfg(target_arch = "x86_64")]
use crate::backend::x86;
use crate::backend::{Activation, Heads};
use crate::math::canon;
use crate::rope::Pairs;

/// Instructions that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor has: the definition as it stands.
    Scalar,
    /// AVX2.
    Avx2,
    /// AVX-512 with VNNI.
    Vnni,
    /// The same with AMX for many tokens at once.
    Amx,
}

impl Level {
    /// All levels, plainest first.
    pub const ALL: [Level; 4] = [Level::Scalar, Level::Avx2, Level::Vnni, Level::Amx];

    /// The best this processor has.
    #[cfg(target_arch = "x86_64")]
    pub fn best() -> Level {
        let vnni = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2");
        match (vnni, is_x86_feature_detected!("avx2")) {
            (true, _) if x86::amx::lent() => Level::Amx,
            (true, _) => Level::Vnni,
            (false, true) => Level::Avx2,
            _ => Level::Scalar,
        }
    }

    /// The best this processor has.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn best() -> Level {
        Level::Scalar
    }

    /// Whether activations are laid out in lanes.
    fn has_lanes(self) -> bool {
        self >= Level::Vnni
    }
}

/// Compiles a function of the definition once per level. The level was checked when it was made: `Host` takes none
/// above [`Level::best`].
macro_rules! levels {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? { $body:expr }) => {
        $(#[$doc])*
        pub fn $name(level: Level, $($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) $(-> $out)? { $body }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512($($arg: $type),*) $(-> $out)? { $body }
            debug_assert!(level <= Level::best());
            match level {
                // SAFETY: a level above Scalar exists only where the processor has these instructions.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Vnni | Level::Amx => unsafe { avx512($($arg),*) },
                _ => $body,
            }
        }
    };
}

levels! {
    /// [`cpu::quantise`].
    quantise_plain(x: &[f32], cols: usize, profile: Profile) -> cpu::Acts { cpu::quantise(x, cols, profile) }
}
levels! {
    /// [`cpu::rms_norm`] of each run.
    rms_norm(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
        x.chunks_exact(gain.len()).zip(out.chunks_exact_mut(gain.len())).for_each(|(x, y)| cpu::rms_norm(x, gain, eps, y))
    }
}
levels! {
    /// [`cpu::layer_norm`] of each row.
    layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        x.chunks_exact(gain.len())
            .zip(out.chunks_exact_mut(gain.len()))
            .for_each(|(x, y)| cpu::layer_norm(x, gain, bias, eps, y))
    }
}
levels! {
    /// [`cpu::activate`] of any function.
    activate_any(f: Activation, x: &mut [f32]) { cpu::activate(f, x) }
}
levels! {
    /// [`cpu::gate`] of any function.
    gate_any(f: Activation, x: &mut [f32], up: &[f32]) { cpu::gate(f, x, up) }
}
levels! {
    /// [`cpu::attend`] of any head.
    attend_any(q: &[f32], cache: &cpu::Cache, seen: &[usize], heads: &Heads, out: &mut [f32]) {
        cpu::attend(q, cache, seen, heads, out)
    }
}
levels! {
    /// [`cpu::put`].
    put(codes: &mut [i8], x: &[f32]) -> f32 { cpu::put(codes, x) }
}
levels! {
    /// x += y.
    add(x: &mut [f32], y: &[f32]) { x.iter_mut().zip(y).for_each(|(x, y)| *x = canon(*x + y)) }
}
levels! {
    /// [`cpu::rotate`] of each head.
    rotate(row: &mut [f32], dim: usize, angles: &[f32], pairs: Pairs) {
        row.chunks_exact_mut(dim).for_each(|head| cpu::rotate(head, angles, pairs))
    }
}

/// [`cpu::activate`].
pub fn activate(level: Level, f: Activation, x: &mut [f32]) {
    if !by_hand(level, f, x, None) {
        activate_any(level, f, x);
    }
}

/// [`cpu::gate`].
pub fn gate(level: Level, f: Activation, x: &mut [f32], up: &[f32]) {
    if !by_hand(level, f, x, Some(up)) {
        gate_any(level, f, x, up);
    }
}

/// Functions of AVX-512 written by hand; false where there is none.
fn by_hand(level: Level, f: Activation, x: &mut [f32], up: Option<&[f32]>) -> bool {
    match (level, f) {
        // SAFETY: the level was checked when it was made.
        #[cfg(target_arch = "x86_64")]
        (Level::Vnni | Level::Amx, Activation::Silu) => unsafe { x86::math::silu_all(x, up) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Level::Vnni | Level::Amx, Activation::GeluErf) => unsafe { x86::math::gelu_erf_all(x, up) },
        _ => return false,
    }
    #[allow(unreachable_code, reason = "other processors have no arm above")]
    true
}

/// [`cpu::attend`].
pub fn attend(level: Level, q: &[f32], cache: &cpu::Cache, seen: &[usize], heads: &Heads, out: &mut [f32]) {
    match level {
        // SAFETY: the level was checked when it was made.
        #[cfg(target_arch = "x86_64")]
        Level::Vnni | Level::Amx => unsafe { x86::attend::attend(q, cache, seen, heads, out) },
        _ => attend_any(level, q, cache, seen, heads, out),
    }
}

/// What shares the parts of a job.
pub trait Share {
    /// How many threads do.
    fn threads(&self) -> usize;

    /// Runs parts 0 to `parts` - 1, each once.
    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync));
}

/// [`cpu::quantise`], laid out as the level wants it.
pub fn quantise(level: Level, x: &Rows, profile: Profile, share: &impl Share) -> Acts {
    if !level.has_lanes() {
        return Acts::Plain(quantise_plain(level, &x.values, x.cols, profile));
    }
    let mut lanes = Lanes::new(x.values.len() / x.cols, x.cols, profile, level == Level::Amx);
    let tiles: Vec<(usize, usize)> = lanes.tiles().collect();
    let filling = lanes.filling();
    share.run(tiles.len(), &|at| fill(level, &x.values, tiles[at], &filling));
    Acts::Lanes(lanes)
}

/// Quantises the tokens of one tile.
fn fill(level: Level, x: &[f32], tile: (usize, usize), filling: &Filling<'_>) {
    assert!(level <= Level::best());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the level, which was checked above, is at least VNNI.
    unsafe {
        x86::element::quantise(x, tile, filling)
    };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("no level with lanes: {tile:?} {} {}", x.len(), filling.cols);
}

/// Outputs of a product, of which threads write disjoint places.
pub struct Grid<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    values: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: a place is written by the one thread that computes its tile.
unsafe impl Sync for Grid<'_> {}

impl Grid<'_> {
    fn new(values: &mut [MaybeUninit<f32>], cols: usize) -> Grid<'_> {
        Grid {
            start: values.as_mut_ptr().cast(),
            rows: values.len() / cols,
            cols,
            values: PhantomData,
        }
    }

    /// Sets `count` outputs of a row from `from` on.
    #[inline(always)]
    fn place(&self, row: usize, from: usize, count: usize) -> *mut f32 {
        assert!(row < self.rows && from + count <= self.cols);
        // SAFETY: inside the values.
        unsafe { self.start.add(row * self.cols + from) }
    }

    /// Sets up to sixteen outputs of a row.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn put(&self, row: usize, from: usize, count: usize, values: std::arch::x86_64::__m512) {
        let mask = ((1_u32 << count) - 1) as u16;
        // SAFETY: `place` has checked the range; the mask keeps inside it.
        unsafe { std::arch::x86_64::_mm512_mask_storeu_ps(self.place(row, from, count), mask, values) };
    }

    /// Sets some outputs of a row.
    #[cfg(target_arch = "x86_64")]
    fn set(&self, row: usize, from: usize, values: &[f32]) {
        let place = self.place(row, from, values.len());
        // SAFETY: `place` has checked the range.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), place, values.len()) };
    }
}

/// Parts that each thread gets of a product with many tokens, where setting a part up costs more.
const PARTS: usize = 4;
/// Tiles of matrix rows that one thread takes at a time of a product with few tokens.
const TILES: usize = 4;

/// Each row times the matrix, plus the bias.
///
/// # Panics
/// At [`Level::Scalar`], which has no packed form; if sizes do not fit.
pub fn linear(level: Level, w: &Packed, x: &Acts, bias: Option<&[f32]>, share: &impl Share) -> Vec<f32> {
    let (tokens, cols) = x.size();
    assert!(cols == w.cols && level <= Level::best() && bias.is_none_or(|bias| bias.len() == w.rows));
    let mut values = Vec::with_capacity(tokens * w.rows);
    let grid = Grid::new(&mut values.spare_capacity_mut()[..tokens * w.rows], w.rows);
    let size = match share.threads() {
        1 => w.tiles(),
        threads if tokens > crate::backend::pack::TOKENS => w.tiles().div_ceil(threads * PARTS),
        _ => TILES,
    };
    share.run(w.tiles().div_ceil(size), &|part| {
        part_of(
            level,
            w,
            x,
            bias,
            part * size..((part + 1) * size).min(w.tiles()),
            &grid,
        );
    });
    // SAFETY: every tile of every token was computed, and all were written.
    unsafe { values.set_len(tokens * w.rows) };
    values
}

/// The outputs of some tiles of rows.
fn part_of(level: Level, w: &Packed, x: &Acts, bias: Option<&[f32]>, tiles: Range<usize>, y: &Grid<'_>) {
    match (level, x) {
        // SAFETY: the level was checked above.
        #[cfg(target_arch = "x86_64")]
        (Level::Vnni | Level::Amx, Acts::Lanes(x)) => unsafe { x86::vnni::product(w, x, bias, tiles, y) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, Acts::Plain(x)) => tiles.for_each(|tile| unsafe { avx2(w, x, bias, tile, y) }),
        _ => unreachable!(
            "no tiles: {level:?}, {} rows from {tiles:?} of {bias:?}, {}",
            w.rows, y.rows
        ),
    }
}

/// A tile of rows for all tokens by AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(w: &Packed, x: &cpu::Acts, bias: Option<&[f32]>, tile: usize, y: &Grid<'_>) {
    let rows = tile * TILE..((tile + 1) * TILE).min(w.rows);
    let mut first = 0;
    while first < x.rows {
        let put = |sums: &[[i64; TILE]]| {
            for (t, sums) in sums.iter().enumerate() {
                let bias = bias.map(|bias| &bias[rows.clone()]);
                let mut out = [0.0; TILE];
                let out = &mut out[..rows.len()];
                let exponents = &w.exponents[tile * TILE..];
                finish(Level::Avx2, sums, x.exponents[first + t], exponents, bias, out);
                y.set(first + t, rows.start, out);
            }
        };
        let tokens = few_tokens(x.rows - first);
        match tokens {
            8 => put(&x86::avx2::avx2::<8>(w, tile, x, first)),
            4 => put(&x86::avx2::avx2::<4>(w, tile, x, first)),
            2 => put(&x86::avx2::avx2::<2>(w, tile, x, first)),
            _ => put(&x86::avx2::avx2::<1>(w, tile, x, first)),
        }
        first += tokens;
    }
}

#[cfg(target_arch = "x86_64")]
levels! {
    /// One tile's outputs of a token: [`cpu::finish_dot`] of each sum.
    finish(sums: &[i64; TILE], unit: i32, exponents: &[i16], bias: Option<&[f32]>, y: &mut [f32]) {
        for (row, y) in y.iter_mut().enumerate() {
            *y = cpu::finish_dot(sums[row], unit + i32::from(exponents[row]), bias.map(|bias| bias[row]));
        }
    }
}
