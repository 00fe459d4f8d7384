//! For tests of this crate and of those above it: seeded numbers, and model files made from them.
//! Not here: anything that a node runs. Invariant: the same seed gives the same bytes.

#![allow(
    clippy::unwrap_used,
    reason = "what tests are made of stops at its first surprise"
)]

pub mod forge;

/// A seeded stream of numbers.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.draw()) * n as u128) >> 64) as usize
    }

    /// About normal, mean 0, deviation 1.
    pub fn normal(&mut self) -> f32 {
        (0..12)
            .map(|_| (self.draw() >> 40) as f32 / 16_777_216.0)
            .sum::<f32>()
            - 6.0
    }

    /// Many of them.
    pub fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
}
