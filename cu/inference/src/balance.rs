//! Powers of two that bring the numbers of a head's keys nearer to each other.
//!
//! Keys are stored in eight bits with one scale for a head. Where some numbers are far larger than the others at every token
//! (biases of Qwen 2, gains of Qwen 3), the others would get no bits: so the large ones are divided by a power of two and the
//! same numbers of the queries, which have more bits, are multiplied by it. Not here: what is scaled (`decoder.rs`).
//! Invariant: a score's exact value stays; both numbers of a pair that rotates share one power.

use crate::Profile;
use crate::rope::Pairs;

/// How many deviations of a number count as its magnitude, besides its bias.
pub const DEVIATIONS: f64 = 4.0;
/// The largest power: a query keeps the bits above it.
const POWER_MAX: i32 = 6;

/// How numbers of a head rotate together.
#[derive(Debug, Clone, Copy)]
pub struct Turning {
    /// Which two are a pair.
    pub pairs: Pairs,
    /// How many numbers rotate, the first ones.
    pub rotated: usize,
    /// How finely queries are quantised.
    pub profile: Profile,
}

impl Turning {
    /// The powers of one head's numbers, from their magnitudes.
    pub fn powers(&self, magnitudes: &[f64]) -> Vec<i32> {
        let mate = |i: usize| match self.pairs {
            _ if i >= self.rotated => i,
            Pairs::Adjacent => i ^ 1,
            Pairs::Halves if i < self.rotated / 2 => i + self.rotated / 2,
            Pairs::Halves => i - self.rotated / 2,
        };
        let larger = |i: usize| magnitudes[i].max(magnitudes[mate(i)]);
        let mut sorted: Vec<f64> = (0..magnitudes.len()).map(larger).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted[(sorted.len() - 1) / 2];
        let power = |i: usize| match middle > 0.0 {
            true => self.power(larger(i) / middle),
            false => 0,
        };
        (0..magnitudes.len()).map(power).collect()
    }

    /// None below four times the usual magnitude, then one less than its logarithm; half of that where queries have 8 bits.
    fn power(&self, ratio: f64) -> i32 {
        let logarithm = (ratio.to_bits() >> 52) as i32 - 1023;
        let power = (logarithm - 1).clamp(0, POWER_MAX);
        match self.profile {
            Profile::A16 => power,
            Profile::A8 => power / 2,
        }
    }
}

/// How large a row's product is on inputs whose numbers are as large as these gains.
pub fn magnitude(row: &[f32], gains: &[f32], bias: f32) -> f64 {
    let mut sum = 0.0;
    for (weight, gain) in row.iter().zip(gains) {
        let by = f64::from(*weight) * f64::from(*gain);
        sum += by * by;
    }
    f64::from(bias.abs()) + DEVIATIONS * sum.sqrt()
}

/// A number times a power of two, which is exact.
pub fn scaled(v: f32, power: i32) -> f32 {
    crate::math::canon(v * f32::from_bits(((127 + power) as u32) << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_far_larger_is_scaled_and_pairs_together() {
        let turning = |pairs, rotated, profile| Turning {
            pairs,
            rotated,
            profile,
        };
        let powers = |pairs, magnitudes: [f64; 8]| turning(pairs, 8, Profile::A16).powers(&magnitudes);
        let even = [1.0, 1.5, 2.0, 1.0, 1.0, 3.9, 1.0, 1.0];
        assert_eq!(powers(Pairs::Halves, even), [0; 8]);
        let odd = [1.0, 100.0, 1.0, 1.0, 1.0, 1.0, 8.0, 1.0];
        assert_eq!(powers(Pairs::Halves, odd), [0, 5, 2, 0, 0, 5, 2, 0]);
        assert_eq!(powers(Pairs::Adjacent, odd), [5, 5, 0, 0, 0, 0, 2, 2]);
        let part = turning(Pairs::Halves, 4, Profile::A8).powers(&odd);
        assert_eq!(part, [0, 2, 0, 2, 0, 0, 1, 0], "the last four do not rotate");
        assert_eq!(powers(Pairs::Halves, [0.0; 8]), [0; 8]);
        assert_eq!(
            powers(Pairs::Halves, [1.0, 1e30, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])[1],
            POWER_MAX
        );
    }
}
