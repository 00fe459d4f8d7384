//! The definition's operators compiled for the vector units that a processor turns out to have.
//!
//! Not here: what the operators mean (`cpu.rs`), dot products by hand (`x86.rs`). Invariant: a level is used only where
//! the processor has its instructions, and no level differs from the definition in a bit.
#![allow(
    unsafe_code,
    reason = "vector instructions are called after the processor was asked whether it has them"
)]

use crate::Profile;
use crate::backend::cpu;
use crate::backend::pack::{Lanes, Packed, TILE};
#[cfg(target_arch = "x86_64")]
use crate::backend::x86;
use crate::backend::{Activation, Heads};
#[cfg(target_arch = "x86_64")]
use crate::weight::Width;

/// Instructions that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor has: the definition as it stands.
    Scalar,
    /// AVX2.
    Avx2,
    /// AVX-512 with VNNI.
    Vnni,
}

impl Level {
    /// The best this processor has.
    #[cfg(target_arch = "x86_64")]
    pub fn best() -> Level {
        let vnni = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni");
        match (vnni, is_x86_feature_detected!("avx2")) {
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
                Level::Vnni => unsafe { avx512($($arg),*) },
                _ => $body,
            }
        }
    };
}

levels! {
    /// [`cpu::quantise`], laid out.
    quantise(x: &[f32], cols: usize, profile: Profile) -> Lanes { Lanes::new(cpu::quantise(x, cols, profile)) }
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
    /// [`cpu::activate`].
    activate(f: Activation, x: &mut [f32]) { cpu::activate(f, x) }
}
levels! {
    /// [`cpu::gate`].
    gate(f: Activation, x: &mut [f32], up: &[f32]) { cpu::gate(f, x, up) }
}
levels! {
    /// [`cpu::attend`].
    attend(q: &[f32], cache: &cpu::Cache, seen: &[usize], heads: &Heads, out: &mut [f32]) {
        cpu::attend(q, cache, seen, heads, out)
    }
}
levels! {
    /// One tile's outputs of a token: [`cpu::finish_dot`] of each sum.
    finish(sums: &[i32; TILE], common: i32, exponents: &[i16], bias: Option<&[f32]>, y: &mut [f32]) {
        for (row, y) in y.iter_mut().enumerate() {
            *y = cpu::finish_dot(sums[row], common + i32::from(exponents[row]), bias.map(|bias| bias[row]));
        }
    }
}

/// The dot products of a tile of rows with the `N` tokens of the tile at `first`: [`cpu::dot`] of each pair.
///
/// # Panics
/// At [`Level::Scalar`], which has no packed form.
pub fn dots<const N: usize>(
    level: Level,
    w: &Packed,
    tile: usize,
    x: &Lanes,
    first: usize,
) -> [[i32; TILE]; N] {
    assert!(tile < w.tiles() && first + N <= x.acts.rows && w.cols == x.acts.cols && level <= Level::best());
    match (level, x.acts.profile) {
        // SAFETY: the level was checked above.
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, _) => unsafe { x86::avx2::<N>(w, tile, x, first) },
        #[cfg(target_arch = "x86_64")]
        (Level::Vnni, Profile::A16) => vnni::<N, true>(w, tile, x, first),
        #[cfg(target_arch = "x86_64")]
        (Level::Vnni, Profile::A8) => vnni::<N, false>(w, tile, x, first),
        _ => unreachable!("the definition has no tiles"),
    }
}

/// [`dots`] by VNNI, which the caller has checked is there.
#[cfg(target_arch = "x86_64")]
fn vnni<const N: usize, const WIDE: bool>(
    w: &Packed,
    tile: usize,
    x: &Lanes,
    first: usize,
) -> [[i32; TILE]; N] {
    match w.width {
        // SAFETY: the caller has checked the level.
        Width::Four => unsafe { x86::vnni::<N, WIDE, x86::Nibbles>(w, tile, x, first) },
        // SAFETY: as above.
        Width::Six => unsafe { x86::vnni::<N, WIDE, x86::HalfBytes>(w, tile, x, first) },
        // SAFETY: as above.
        _ => unsafe { x86::vnni::<N, WIDE, x86::Bytes>(w, tile, x, first) },
    }
}
