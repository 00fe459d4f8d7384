//! The arithmetic of `math.rs` on sixteen numbers at once, by AVX-512. Not here: vectors. Invariant: the same operations
//! in the same order, none fused, so the same bits; a number is put on the grid only where it may be off it, or where
//! that could show.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]

use std::arch::x86_64::*;

use crate::math::{HUGE, TINY};

/// Puts sixteen numbers at the beginning of a slice.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn store(out: &mut [f32], v: __m512) {
    assert!(out.len() >= 16);
    // SAFETY: sixteen writable numbers.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), v) };
}

/// [`crate::math::canon`] of sixteen numbers.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn canon(v: __m512) -> __m512 {
    let bits = _mm512_castps_si512(v);
    let size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fff_ffff));
    let sign = _mm512_and_si512(bits, _mm512_set1_epi32(i32::MIN));
    let kept = _mm512_cmpge_epi32_mask(size, _mm512_set1_epi32(TINY as i32));
    let size = _mm512_min_epi32(size, _mm512_set1_epi32(HUGE as i32));
    _mm512_castsi512_ps(_mm512_maskz_or_epi32(kept, size, sign))
}

/// [`crate::math::pow2`] of sixteen exponents.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn powers(exponents: __m512i) -> __m512 {
    let kept = _mm512_cmpge_epi32_mask(exponents, _mm512_set1_epi32(-126));
    let low = _mm512_min_epi32(exponents, _mm512_set1_epi32(61));
    let biased = _mm512_maskz_add_epi32(kept, low, _mm512_set1_epi32(127));
    _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
}

/// A constant in all lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn all(v: f32) -> __m512 {
    _mm512_set1_ps(v)
}

/// a b + c, rounded twice.
#[target_feature(enable = "avx512f")]
#[inline]
fn step(a: __m512, b: __m512, c: f32) -> __m512 {
    _mm512_add_ps(_mm512_mul_ps(a, b), all(c))
}

/// [`crate::math::exp`].
#[target_feature(enable = "avx512f")]
#[inline]
pub fn exp(v: __m512) -> __m512 {
    let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(v, all(-64.0));
    let k = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(step(
        v,
        all(std::f32::consts::LOG2_E),
        0.5,
    ));
    let r = _mm512_sub_ps(v, _mm512_mul_ps(k, all(0.693_359_4)));
    let r = _mm512_sub_ps(r, _mm512_mul_ps(k, all(-2.121_944_4e-4)));
    let mut p = all(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = step(p, r, c);
    }
    let z = _mm512_add_ps(_mm512_mul_ps(p, _mm512_mul_ps(r, r)), r);
    let z = _mm512_add_ps(z, all(1.0));
    let up = _mm512_slli_epi32::<23>(_mm512_cvttps_epi32(k));
    _mm512_maskz_mov_ps(
        kept,
        _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(z), up)),
    )
}

/// [`crate::math::rcp`].
#[target_feature(enable = "avx512f")]
#[inline]
fn rcp(v: __m512) -> __m512 {
    let magic = _mm512_set1_epi32(0x7ef3_11c3);
    let mut y = _mm512_castsi512_ps(_mm512_sub_epi32(magic, _mm512_castps_si512(v)));
    for _ in 0..4 {
        y = _mm512_mul_ps(y, _mm512_sub_ps(all(2.0), _mm512_mul_ps(v, y)));
    }
    y
}

/// [`crate::math::sigmoid`] of a number on the grid; it is on the grid itself: 0, or at least e^-64 / 2.
#[target_feature(enable = "avx512f")]
#[inline]
fn sigmoid(x: __m512) -> __m512 {
    let below = _mm512_castsi512_ps(_mm512_or_si512(
        _mm512_castps_si512(x),
        _mm512_set1_epi32(i32::MIN),
    ));
    let e = exp(below);
    let r = rcp(_mm512_add_ps(all(1.0), e));
    let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps());
    _mm512_mask_mul_ps(r, negative, e, r)
}

/// [`crate::math::silu`].
#[target_feature(enable = "avx512f")]
#[inline]
pub fn silu(x: __m512) -> __m512 {
    canon(_mm512_mul_ps(x, sigmoid(x)))
}

/// [`crate::math::soft_cap`]; `inverse` is the f32 nearest 2 / cap.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn soft_cap(x: __m512, cap: f32, inverse: f32) -> __m512 {
    let share = sigmoid(canon(_mm512_mul_ps(x, all(inverse))));
    let both = canon(_mm512_sub_ps(_mm512_mul_ps(all(2.0), share), all(1.0)));
    canon(_mm512_mul_ps(all(cap), both))
}

/// [`crate::math::gelu_erf`].
#[target_feature(enable = "avx512f")]
#[inline]
pub fn gelu_erf(x: __m512) -> __m512 {
    let a = _mm512_castsi512_ps(_mm512_and_si512(
        _mm512_castps_si512(x),
        _mm512_set1_epi32(i32::MAX),
    ));
    let t = rcp(_mm512_add_ps(all(1.0), _mm512_mul_ps(all(0.231_641_9), a)));
    let mut p = all(0.530_702_7);
    for c in [-0.726_576, 0.710_706_9, -0.142_248_37, 0.127_414_8] {
        p = step(p, t, c);
    }
    // A square beyond the grid has e^ 0, and one too small for it 1, on the grid or not.
    let fall = exp(_mm512_mul_ps(_mm512_mul_ps(a, a), all(-0.5)));
    let tail = _mm512_mul_ps(_mm512_mul_ps(p, t), fall);
    let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps());
    let phi = _mm512_mask_mov_ps(_mm512_sub_ps(all(1.0), tail), negative, tail);
    // On the grid: the polynomial is above 0.11, and times t above 0.03 as far as `fall` is not 0 but at least e^-64.
    canon(_mm512_mul_ps(x, phi))
}

/// [`crate::math::gelu_tanh`].
#[target_feature(enable = "avx512f")]
#[inline]
pub fn gelu_tanh(x: __m512) -> __m512 {
    let c = _mm512_max_ps(_mm512_min_ps(x, all(16.0)), all(-16.0));
    // A square or u too small for the grid leaves 1 and a sigmoid of 1/2 as 0 does.
    let u = _mm512_add_ps(all(1.0), _mm512_mul_ps(all(0.044_715), _mm512_mul_ps(c, c)));
    let u = _mm512_mul_ps(all(1.595_769), _mm512_mul_ps(c, u));
    canon(_mm512_mul_ps(x, sigmoid(u)))
}

/// x = f(x), and then times `up` where there is one. Numbers past the last whole sixteen go through a buffer.
macro_rules! apply {
    ($name:ident, $f:ident) => {
        /// The function of each number, times the other where there is one.
        #[target_feature(enable = "avx512f")]
        pub fn $name(x: &mut [f32], up: Option<&[f32]>) {
            let many = x.len();
            assert!(up.is_none_or(|up| up.len() == many));
            for at in (0..many).step_by(16) {
                let mask = if many - at < 16 {
                    (1 << (many - at)) - 1
                } else {
                    u16::MAX
                };
                // SAFETY: the mask names numbers inside the slices only.
                unsafe {
                    let place = x.as_mut_ptr().add(at);
                    let mut y = $f(_mm512_maskz_loadu_ps(mask, place));
                    if let Some(up) = up {
                        y = canon(_mm512_mul_ps(
                            y,
                            _mm512_maskz_loadu_ps(mask, up.as_ptr().add(at)),
                        ));
                    }
                    _mm512_mask_storeu_ps(place, mask, y);
                }
            }
        }
    };
}

apply!(silu_all, silu);
apply!(gelu_erf_all, gelu_erf);
apply!(gelu_tanh_all, gelu_tanh);

/// [`crate::math::soft_cap`] of each number; those past the last whole sixteen stay as they are, and are given.
#[target_feature(enable = "avx512f")]
pub fn soft_cap_all(x: &mut [f32], cap: f32) -> &mut [f32] {
    let (whole, rest) = x.as_chunks_mut::<16>();
    for x in whole {
        // SAFETY: sixteen numbers.
        let v = unsafe { _mm512_loadu_ps(x.as_ptr()) };
        store(x, soft_cap(v, cap, 2.0 / cap));
    }
    rest
}
