//! The element-wise arithmetic of DIN-1: one value in, one value out, f32 add, subtract, multiply, floor and convert
//! only, each rounded to nearest even and never fused. Not here: anything that adds up a vector.
//! Invariant: a value between operators is on the grid ([`canon`]): zero or 2^-100 to 2^60 in magnitude, so no
//! denormal, infinity, NaN or minus zero ever enters an operation.

/// Bits of 2^-100, the smallest magnitude on the grid.
pub const TINY: u32 = 0x0d80_0000;
/// Bits of 2^60, the largest magnitude on the grid.
pub const HUGE: u32 = 0x5d80_0000;

/// Puts a value on the grid: too small becomes +0, too large becomes 2^60 with its sign.
#[inline(always)]
pub fn canon(v: f32) -> f32 {
    let bits = v.to_bits();
    let size = bits & 0x7fff_ffff;
    if size < TINY {
        return 0.0;
    }
    f32::from_bits(size.min(HUGE) | bits & 0x8000_0000)
}

/// 2^x: 0 below the normal range, 2^61 above it.
#[inline(always)]
pub fn pow2(x: i32) -> f32 {
    if x < -126 {
        return 0.0;
    }
    f32::from_bits(((x.min(61) + 127) as u32) << 23)
}

/// 1/v for 0 < v <= 2^100: a bit trick and four Newton steps, relative error below 1.2e-7.
#[inline(always)]
pub fn rcp(v: f32) -> f32 {
    let mut y = f32::from_bits(0x7ef3_11c3_u32.wrapping_sub(v.to_bits()));
    for _ in 0..4 {
        y *= 2.0 - v * y;
    }
    y
}

/// v^-1/2 for 0 <= v <= 2^120: a bit trick and four Newton steps, relative error below 1.2e-7; finite at 0.
#[inline(always)]
pub fn rsqrt(v: f32) -> f32 {
    let mut y = f32::from_bits(0x5f37_5a86 - (v.to_bits() >> 1));
    let half = 0.5 * v;
    for _ in 0..4 {
        y *= 1.5 - half * y * y;
    }
    y
}

/// e^v for v <= 0: range reduction by a split ln 2, a polynomial of degree 5, an addition to the exponent.
/// Relative error below 1e-7; 0 below -64.
#[inline(always)]
pub fn exp(v: f32) -> f32 {
    if v < -64.0 {
        return 0.0;
    }
    let k = (v * std::f32::consts::LOG2_E + 0.5).floor();
    let r = v - k * 0.693_359_4 - k * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let z = p * (r * r) + r + 1.0;
    f32::from_bits(z.to_bits().wrapping_add((k as i32 as u32) << 23))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let r = rcp(1.0 + e);
    if x < 0.0 { e * r } else { r }
}

/// x * sigmoid(x), on the grid.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    canon(x * canon(sigmoid(x)))
}

/// The GELU of Gemma: x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3), with x clamped to 16 inside u.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    let c = x.clamp(-16.0, 16.0);
    let u = 1.595_769 * (c * (1.0 + 0.044_715 * canon(c * c)));
    canon(x * canon(sigmoid(canon(u))))
}

/// The GELU of BERT: x * Phi(x), Phi by the rational approximation 7.1.26 of Abramowitz and Stegun.
#[inline(always)]
pub fn gelu_erf(x: f32) -> f32 {
    let a = x.abs();
    let t = rcp(1.0 + 0.231_641_9 * a);
    let mut p = 0.530_702_7_f32;
    p = p * t + -0.726_576;
    p = p * t + 0.710_706_9;
    p = p * t + -0.142_248_37;
    p = p * t + 0.127_414_8;
    let tail = p * t * exp(canon(a * a) * -0.5);
    let phi = if x < 0.0 { tail } else { 1.0 - tail };
    canon(x * canon(phi))
}

/// cap * tanh(x / cap) as cap * (2 sigmoid(2x / cap) - 1); `inverse` is the f32 nearest 2 / cap.
#[inline(always)]
pub fn soft_cap(x: f32, cap: f32, inverse: f32) -> f32 {
    canon(cap * canon(2.0 * canon(sigmoid(canon(x * inverse))) - 1.0))
}

/// The f32 of an integer below 2^46 in magnitude, by two exact halves and one rounding each.
#[inline(always)]
pub fn wide(s: i64) -> f32 {
    (s >> 15) as i32 as f32 * 32768.0 + (s & 0x7fff) as f32
}

/// The f32 of an integer below 2^55 in magnitude: its upper part rounded, plus its lower 24 bits, which are exact.
#[inline(always)]
pub fn wider(s: i64) -> f32 {
    (s >> 24) as i32 as f32 * 16_777_216.0 + (s & 0xff_ffff) as f32
}

/// A number whose order as an integer is the order of the value: the largest is the maximum on the grid.
#[inline(always)]
pub fn key(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 0x8000_0000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..200_000).map(move |i| from + (to - from) * (i as f32 / 200_000.0))
    }

    fn worst(values: impl Iterator<Item = f32>, ours: fn(f32) -> f32, truth: fn(f64) -> f64) -> f64 {
        let error = |v: f32| ((ours(v) as f64 - truth(v as f64)) / truth(v as f64)).abs();
        values.map(error).fold(0.0, f64::max)
    }

    #[test]
    fn the_grid_has_no_odd_values() {
        for v in [0.0, -0.0, 1e-40, -1e-31, f32::MIN_POSITIVE] {
            assert_eq!(canon(v).to_bits(), 0);
        }
        for v in [f32::INFINITY, f32::MAX, f32::NAN.abs(), 1.3e18] {
            assert_eq!(canon(v).to_bits(), HUGE);
        }
        assert_eq!(canon(-1.5), -1.5);
        assert_eq!(pow2(-127), 0.0);
        assert_eq!(pow2(3), 8.0);
    }

    #[test]
    fn elementary_functions_are_near_the_truth() {
        assert!(worst(steps(-60.0, 0.0), exp, f64::exp) < 1.2e-7);
        assert!(worst(steps(1e-3, 1e3), rcp, |v| 1.0 / v) < 1.3e-7);
        assert!(worst(steps(1e-3, 1e3), rsqrt, |v| 1.0 / v.sqrt()) < 1.3e-7);
        assert!(worst(steps(-8.0, 8.0), sigmoid, |v| 1.0 / (1.0 + (-v).exp())) < 4e-7);
    }

    #[test]
    fn activations_are_near_the_truth() {
        let tanh = |x: f64| 0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044715 * x * x * x)).tanh());
        for x in steps(-12.0, 12.0) {
            assert!((gelu_tanh(x) as f64 - tanh(x as f64)).abs() < 2e-6 * (1.0 + x.abs() as f64));
            assert!((soft_cap(x, 5.0, 0.4) as f64 - 5.0 * (x as f64 / 5.0).tanh()).abs() < 2e-6);
        }
        // Phi at 0, 1 and -1, from tables of the normal distribution.
        assert!(gelu_erf(0.0) == 0.0 && (gelu_erf(1.0) - 0.841_344_7).abs() < 1e-6);
        assert!((gelu_erf(-1.0) + 0.158_655_3).abs() < 1e-6 && gelu_erf(1e9) == 1e9);
        assert_eq!(silu(-1e9), 0.0);
    }
}
