//! Rotary position tables, made by integer arithmetic only: cosines and sines that every machine agrees on.
//! Not here: the rotation itself (an operator). Invariant: no float operation before the last rounding to f32.

use crate::error::Error;

/// Positions a model may have; sums over a context rely on it.
pub const POSITIONS_MAX: usize = 65536;
/// 2^64 / 2 pi: a frequency of one radian a step, in turns of 2^64.
const RADIAN: u64 = 2_935_890_503_282_001_226;
/// 2 pi in units of 2^-60.
const TURN: i128 = 7_244_019_458_077_122_842;
/// 1 in units of 2^-62.
const ONE: u128 = 1 << 62;

/// How a head's numbers are paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Neighbours: 2i with 2i + 1 (Llama, Mistral).
    Adjacent,
    /// Halves: i with i + dim / 2 (Qwen, Gemma).
    Halves,
}

/// What a table is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Angles {
    /// Numbers of a head that are rotated; even.
    pub dim: usize,
    /// The base of the frequencies, 1 to 2^40.
    pub base: f32,
    /// Divides every frequency (linear scaling); 1 for none.
    pub factor: f32,
    /// Divides each pair's frequency as well; empty for none, else dim / 2 of them.
    pub factors: Vec<f32>,
}

/// The turn each pair makes per position, in units of 2^-64 turns.
///
/// # Errors
/// A base or factor out of range.
pub fn turns(angles: &Angles) -> Result<Vec<u64>, Error> {
    let pairs = angles.dim / 2;
    let sane = |v: f32, most: f32| (1.0..=most).contains(&v);
    let ok = angles.dim.is_multiple_of(2)
        && (2..=512).contains(&angles.dim)
        && sane(angles.base, 2f32.powi(40))
        && sane(angles.factor, 65536.0)
        && (angles.factors.is_empty() || angles.factors.len() == pairs)
        && angles.factors.iter().all(|f| sane(*f, 65536.0));
    if !ok {
        let why = format!(
            "rotary positions of {} numbers, base {}, factor {}: an even count, a base of 1 to 10^12, factors (rope_freqs.weight, \
             one a pair) of 1 to 65536",
            angles.dim, angles.base, angles.factor
        );
        return Err(Error::Unsupported(why));
    }
    let log = log2(angles.base);
    let turn = |i: usize| {
        let frequency = exp2_negative(log * i as u128 / pairs as u128);
        let turn = divide(((frequency * u128::from(RADIAN)) >> 62) as u64, angles.factor);
        divide(turn, angles.factors.get(i).copied().unwrap_or(1.0))
    };
    Ok((0..pairs).map(turn).collect())
}

/// Cosine and sine of every pair at one position: cos, sin, cos, sin ...
pub fn row(turns: &[u64], position: usize) -> Vec<f32> {
    assert!(position < POSITIONS_MAX);
    let each = |turn: &u64| cos_sin(turn.wrapping_mul(position as u64));
    turns.iter().flat_map(each).collect()
}

/// log2(v) for 1 <= v < 2^41, in units of 2^-58: its bits one by one, by squaring.
fn log2(v: f32) -> u128 {
    let bits = v.to_bits();
    let mut log = u128::from((bits >> 23) - 127);
    let mut y = u128::from(bits & 0x7f_ffff | 0x80_0000) << 39;
    for _ in 0..58 {
        y = (y * y) >> 62;
        log <<= 1;
        if y >= 2 * ONE {
            y >>= 1;
            log += 1;
        }
    }
    log
}

/// 2^-x for x in units of 2^-58, in units of 2^-62: a product of square roots of one half.
fn exp2_negative(x: u128) -> u128 {
    let mut result = ONE;
    let mut root = ONE / 2;
    for bit in (0..58).rev() {
        root = (root << 62).isqrt();
        if x >> bit & 1 == 1 {
            result = (result * root) >> 62;
        }
    }
    result >> (x >> 58)
}

/// n / v for 1 <= v <= 65536, downwards.
fn divide(n: u64, v: f32) -> u64 {
    let bits = v.to_bits();
    let significand = u128::from(bits & 0x7f_ffff | 0x80_0000);
    (((u128::from(n) << 23) / significand) >> ((bits >> 23) - 127)) as u64
}

/// Cosine and sine of an angle in units of 2^-64 turns, by their series, each rounded once to f32.
fn cos_sin(angle: u64) -> [f32; 2] {
    let (mut sums, mut term) = ([0_i128; 2], 1_i128 << 60);
    let x = (i128::from(angle << 2 >> 2) * TURN) >> 64;
    let mut n = 0;
    while term != 0 {
        let sign = if n & 2 == 0 { 1 } else { -1 };
        sums[n as usize & 1] += sign * term;
        n += 1;
        term = ((term * x) >> 60) / n;
    }
    let [cos, sin] = sums;
    let (cos, sin) = match angle >> 62 {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    };
    [cos, sin].map(|v| v as i64 as f32 * f32::from_bits((127 - 60) << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_near_the_truth() {
        for (dim, base, factor) in [(64, 10000.0, 1.0), (128, 1e6, 4.0), (80, 500_000.0, 1.5)] {
            let angles = Angles {
                dim,
                base,
                factor,
                factors: vec![],
            };
            let turns = turns(&angles).unwrap();
            for position in [0, 1, 17, 4095, 65535] {
                for (i, pair) in row(&turns, position).chunks(2).enumerate() {
                    let frequency = (f64::from(base)).powf(-2.0 * i as f64 / dim as f64) / f64::from(factor);
                    let angle = position as f64 * frequency;
                    assert!(
                        (f64::from(pair[0]) - angle.cos()).abs() < 1e-7,
                        "cos {i} at {position}"
                    );
                    assert!(
                        (f64::from(pair[1]) - angle.sin()).abs() < 1e-7,
                        "sin {i} at {position}"
                    );
                }
            }
        }
    }

    #[test]
    fn quarter_turns_are_exact() {
        assert_eq!(cos_sin(0), [1.0, 0.0]);
        assert_eq!(cos_sin(1 << 62), [0.0, 1.0]);
        assert_eq!(cos_sin(2 << 62), [-1.0, 0.0]);
        assert_eq!(cos_sin(3 << 62), [0.0, -1.0]);
    }

    #[test]
    fn hostile_angles_are_refused() {
        for (dim, base, factor) in [
            (63, 1e4, 1.0),
            (64, f32::NAN, 1.0),
            (64, 0.5, 1.0),
            (64, 1e4, 0.0),
            (0, 1e4, 1.0),
        ] {
            assert!(
                turns(&Angles {
                    dim,
                    base,
                    factor,
                    factors: vec![]
                })
                .is_err()
            );
        }
    }
}
