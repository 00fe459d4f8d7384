//! Every operator on two backends with the same inputs, bit by bit: edge values and random ones from a seed.
//!
//! Used by a graphics device's proof at start, by tests, and by the long run that fills `RESULTS.md`. Not here: what is right
//! (the second backend decides). Invariant: the inputs are a function of the seed alone.

use std::collections::BTreeMap;

use crate::Profile;
use crate::backend::{Activation, Backend, Batch, CacheShape, Heads, PAGE, Place, Table};
use crate::error::Error;
use crate::math::canon;
use crate::rope::{self, Angles, Pairs};
use crate::weight::{BLOCK, Matrix, Width};

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By operator: values compared, and how many of them differ.
    pub operators: BTreeMap<String, [u64; 2]>,
}

impl Tally {
    /// Values compared.
    pub fn compared(&self) -> u64 {
        self.operators.values().map(|[compared, _]| compared).sum()
    }

    /// Operators with values that differ, and how many.
    pub fn wrong(&self) -> Vec<(&str, u64)> {
        let wrong = self.operators.iter().filter(|(_, [_, differing])| *differing > 0);
        wrong
            .map(|(name, [_, differing])| (name.as_str(), *differing))
            .collect()
    }

    /// Adds what another run found.
    pub fn join(&mut self, other: Tally) {
        for (name, [compared, differing]) in other.operators {
            let here = self.operators.entry(name).or_default();
            *here = [here[0] + compared, here[1] + differing];
        }
    }

    /// Compares values of an operator.
    pub fn add(&mut self, operator: &str, a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len(), "{operator}: sizes");
        let differing = a
            .iter()
            .zip(b)
            .filter(|(a, b)| a.to_bits() != b.to_bits())
            .count();
        let here = self.operators.entry(operator.to_owned()).or_default();
        *here = [here[0] + a.len() as u64, here[1] + differing as u64];
    }
}

/// Numbers from a seed (xorshift64*).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn range(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A number of the grid with a binary exponent in that range.
    fn number(&mut self, low: i64, high: i64) -> f32 {
        let exponent = (self.range(low, high) + 127) as u32;
        let bits = self.next() as u32;
        canon(f32::from_bits(bits & 0x807f_ffff | exponent << 23))
    }

    /// Numbers as activations are: mostly near one, some far off, some on the edges of the grid.
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        // The ends of the grid and their neighbours, ties of rounding, the limits of codes and functions.
        const EDGES: [u32; 20] = [
            0,
            0x0d80_0000,
            0x8d80_0000,
            0x0d80_0001,
            0x5d80_0000,
            0xdd80_0000,
            0x5d7f_ffff,
            0x3f80_0000,
            0xbf80_0000,
            0x3f7f_ffff,
            0x3eff_ffff,
            0x3f00_0000,
            0x42ff_0000,
            0x46fe_fe00,
            0x46ff_ff00,
            0xc280_0000,
            0xc280_0001,
            0x4180_0000,
            0xc180_0001,
            0x4b7f_ffff,
        ];
        let most = self.pick(&[2, 4, 12, 60]);
        let mut one = || match self.below(64) {
            0 => f32::from_bits(self.pick(&EDGES)),
            1 => self.number(-100, 60),
            2 => canon(f32::from_bits(self.next() as u32)),
            3..8 => self.number(-12, most),
            _ => self.number(-8, 1),
        };
        (0..count).map(|_| one()).collect()
    }
}

/// Every element-wise function.
const ACTIVATIONS: [Activation; 3] = [Activation::Silu, Activation::GeluTanh, Activation::GeluErf];

/// Two backends and what was found.
struct Trial<'a, A: Backend, B: Backend> {
    a: &'a A,
    b: &'a B,
    random: Random,
    tally: Tally,
    /// Numbers in a long row.
    length: usize,
}

/// Compares every operator until so many values were compared.
///
/// # Errors
/// A backend failed.
pub fn compare<A: Backend, B: Backend>(a: &A, b: &B, seed: u64, at_least: u64) -> Result<Tally, Error> {
    let mut trial = Trial {
        a,
        b,
        random: Random(seed | 1),
        tally: Tally::default(),
        length: (at_least / 64).clamp(4096, 1 << 19) as usize,
    };
    loop {
        trial.elements()?;
        trial.norms()?;
        trial.products()?;
        trial.rotations()?;
        trial.attention()?;
        if trial.tally.compared() >= at_least {
            return Ok(trial.tally);
        }
    }
}

impl<A: Backend, B: Backend> Trial<'_, A, B> {
    fn check(&mut self, operator: &str, a: &A::Rows, b: &B::Rows) -> Result<(), Error> {
        self.tally.add(operator, &self.a.read(a)?, &self.b.read(b)?);
        Ok(())
    }

    fn rows(&mut self, rows: usize, cols: usize) -> (A::Rows, B::Rows) {
        let values = self.random.numbers(rows * cols);
        (self.a.rows(cols, values.clone()), self.b.rows(cols, values))
    }

    fn vectors(&mut self, values: &[f32]) -> Result<(A::Vector, B::Vector), Error> {
        Ok((self.a.vector(values)?, self.b.vector(values)?))
    }

    fn elements(&mut self) -> Result<(), Error> {
        let length = self.length;
        for f in ACTIVATIONS {
            let (mut x, mut y) = self.rows(1, length);
            self.a.activate(f, &mut x);
            self.b.activate(f, &mut y);
            self.check(&format!("{f:?}"), &x, &y)?;
            let (up, up_b) = self.rows(1, length);
            self.a.gate(f, &mut x, &up);
            self.b.gate(f, &mut y, &up_b);
            self.check(&format!("gate {f:?}"), &x, &y)?;
        }
        let cap = self.random.pick(&[5.0, 30.0, 50.0, 0.1]);
        let (mut x, mut y) = self.rows(7, length / 7 + 1);
        self.a.soft_cap(&mut x, cap);
        self.b.soft_cap(&mut y, cap);
        self.check("soft cap", &x, &y)?;
        let (other, other_b) = self.rows(7, length / 7 + 1);
        self.a.add(&mut x, &other);
        self.b.add(&mut y, &other_b);
        self.check("add", &x, &y)?;
        let which = [0; 4].map(|_| self.random.below(7));
        let (x, y) = (self.a.select(&x, &which), self.b.select(&y, &which));
        self.check("select", &x, &y)
    }

    fn norms(&mut self) -> Result<(), Error> {
        for _ in 0..4 {
            let n = self.random.pick(&[1, 31, 64, 100, 128, 384, 768, 2048, 4099]);
            let [gain, bias] = [0; 2].map(|_| (0..n).map(|_| self.random.number(-6, 3)).collect::<Vec<_>>());
            let ((gain_a, gain_b), (bias_a, bias_b)) = (self.vectors(&gain)?, self.vectors(&bias)?);
            let eps = self.random.pick(&[1e-5, 1e-6, 1e-12, 0.0]);
            let runs = 1 + self.random.below(5);
            let (x, y) = self.rows(self.length / 2 / (n * runs) + 2, n * runs);
            let normed = (
                self.a.rms_norm(&x, &gain_a, eps),
                self.b.rms_norm(&y, &gain_b, eps),
            );
            self.check("rms norm", &normed.0, &normed.1)?;
            let (x, y) = self.rows(self.length / 2 / n + 3, n);
            let normed = (
                self.a.layer_norm(&x, &gain_a, &bias_a, eps),
                self.b.layer_norm(&y, &gain_b, &bias_b, eps),
            );
            self.check("layer norm", &normed.0, &normed.1)?;
            let (other, other_b) = self.rows(self.length / 2 / n + 3, n);
            let x = self.a.add_layer_norm(x, &other, &gain_a, &bias_a, eps);
            let y = self.b.add_layer_norm(y, &other_b, &gain_b, &bias_b, eps);
            self.check("layer norm of a sum", &x, &y)?;
        }
        Ok(())
    }

    fn products(&mut self) -> Result<(), Error> {
        for width in [Width::Eight, Width::Six, Width::Five, Width::Four] {
            for profile in [Profile::A16, Profile::A8] {
                let rows = 1 + self.random.below(90 + self.length / 256);
                let cols = BLOCK * self.random.pick(&[1, 2, 3, 8, 12, 33]);
                let w = matrix(&mut self.random, rows, cols, width);
                let (a, b) = (self.a.matrix(&w)?, self.b.matrix(&w)?);
                let bias: Vec<f32> = (0..rows).map(|_| self.random.number(-20, 20)).collect();
                let (bias_a, bias_b) = self.vectors(&bias)?;
                // Few rows and many: devices have ways of their own for both.
                for tokens in [&[1, 1, 2, 4, 5, 9, 16, 27], &[32, 33, 40, 47, 48, 64, 64, 80]] {
                    let with = self.random.below(2) == 1;
                    let tokens = self.random.pick(tokens);
                    let (x, y) = self.rows(tokens, cols);
                    let (acts, acts_b) = (self.a.quantise(&x, profile), self.b.quantise(&y, profile));
                    let (bias, bias_b) = (with.then_some(&bias_a), with.then_some(&bias_b));
                    let (x, y) = (self.a.linear(&a, &acts, bias), self.b.linear(&b, &acts_b, bias_b));
                    self.check(&format!("product {width:?} {profile:?}"), &x, &y)?;
                    let f = self.random.pick(&ACTIVATIONS);
                    let x = self.a.linear_activated(&a, &acts, bias, f);
                    let y = self.b.linear_activated(&b, &acts_b, bias_b, f);
                    self.check(&format!("{f:?} of a product"), &x, &y)?;
                }
            }
        }
        Ok(())
    }

    fn rotations(&mut self) -> Result<(), Error> {
        for pairs in [Pairs::Adjacent, Pairs::Halves] {
            let dim = self.random.pick(&[32, 64, 96, 128]);
            let turned = self.random.pick(&[dim, dim / 2]);
            let angles = Angles {
                dim: turned,
                base: self.random.pick(&[1e4, 5e5, 1e6]),
                factor: 1.0,
                factors: vec![],
            };
            let turns = rope::turns(&angles)?;
            let table: Vec<f32> = (0..64).flat_map(|position| rope::row(&turns, position)).collect();
            let (values, values_b) = self.vectors(&table)?;
            let count = 9 + self.length / 1024;
            let places: Vec<Place> = (0..count).map(|_| place(&mut self.random, 1, 64)).collect();
            let (mut x, mut y) = self.rows(places.len(), 3 * dim);
            let batch = Batch {
                places,
                tables: vec![vec![0, 1]],
            };
            let table = Table {
                values: &values,
                dim: turned,
                pairs,
            };
            self.a.rotate(&mut x, dim, &table, &batch);
            let table = Table {
                values: &values_b,
                dim: turned,
                pairs,
            };
            self.b.rotate(&mut y, dim, &table, &batch);
            self.check(&format!("rotate {pairs:?}"), &x, &y)?;
        }
        Ok(())
    }

    fn attention(&mut self) -> Result<(), Error> {
        for profile in [Profile::A16, Profile::A8] {
            let kv = 1 + self.random.below(3);
            let heads = Heads {
                query: kv * self.random.pick(&[1, 2, 4]),
                kv,
                dim: self.random.pick(&[6, 32, 64, 96, 128, 256]),
                scale: self.random.pick(&[0.125, 0.088_388_35, 1.0]),
                cap: self.random.pick(&[0.0, 50.0]),
                profile,
            };
            let length = self.random.pick(&[1, 7, 33, 150, 400]);
            let batch = crowd(&mut self.random, length);
            self.attend(&heads, &batch, length)?;
        }
        Ok(())
    }

    /// Fills both caches and attends.
    fn attend(&mut self, heads: &Heads, batch: &Batch, length: usize) -> Result<(), Error> {
        let shape = CacheShape {
            layers: 2,
            heads: heads.kv,
            dim: heads.dim,
            pages: batch.tables.iter().flatten().count(),
        };
        let (mut cache, mut cache_b) = (self.a.cache(shape)?, self.b.cache(shape)?);
        for sequence in 0..batch.tables.len() as u32 {
            let at = |position| Place {
                sequence,
                position,
                from: 0,
                to: position + 1,
            };
            let places = (0..length as u32).map(at).collect();
            let fill = Batch {
                places,
                tables: batch.tables.clone(),
            };
            let (keys, keys_b) = self.rows(length, heads.kv * heads.dim);
            let (values, values_b) = self.rows(length, heads.kv * heads.dim);
            self.a.store(&mut cache, 1, &keys, &values, &fill);
            self.b.store(&mut cache_b, 1, &keys_b, &values_b, &fill);
        }
        let (q, q_b) = self.rows(batch.places.len(), heads.query * heads.dim);
        let x = self.a.attend(&q, &cache, 1, heads, batch);
        let y = self.b.attend(&q_b, &cache_b, 1, heads, batch);
        self.check(&format!("attend {:?}", heads.profile), &x, &y)
    }
}

/// A place of a sequence that sees some of its first positions.
fn place(random: &mut Random, sequences: usize, length: usize) -> Place {
    let position = random.below(length) as u32;
    let from = random.pick(&[0, 0, position / 2, position]);
    Place {
        sequence: random.below(sequences) as u32,
        position,
        from,
        to: position + 1,
    }
}

/// Rows of three sequences of that length, whose pages lie mixed in the cache.
fn crowd(random: &mut Random, length: usize) -> Batch {
    let pages = length.div_ceil(PAGE) as u32;
    let tables = (0..3)
        .map(|s| (0..pages).map(|page| page * 3 + (s + page) % 3).collect())
        .collect();
    let count = random.pick(&[1, 4, 13, 40]);
    Batch {
        places: (0..count).map(|_| place(random, 3, length)).collect(),
        tables,
    }
}

/// A matrix that uses the whole range of its fields.
fn matrix(random: &mut Random, rows: usize, cols: usize, width: Width) -> Matrix {
    let mut w = Matrix::new(rows, cols, width).expect("sizes within the limits");
    let blocks = rows * cols / BLOCK;
    let (low, high) = match width {
        Width::Eight => (-127, 127),
        Width::Six => (-32, 31),
        Width::Five => (-16, 15),
        Width::Four => (0, 255),
    };
    w.codes = (0..blocks * width.bytes())
        .map(|_| random.range(low, high) as u8)
        .collect();
    // Of plain numbers with a byte a code, which have 16 bits, and of all others.
    let most = random.pick(&[257, 4095]);
    let extreme = random.below(3) == 0;
    let multiplier = |random: &mut Random| if extreme { most } else { random.range(-most, most) };
    w.multipliers = (0..blocks * width.multipliers())
        .map(|_| multiplier(random) as i16)
        .collect();
    if matches!(width, Width::Five | Width::Four) && random.below(2) == 1 {
        w.offsets = (0..blocks).map(|_| random.range(-32767, 32767) as i16).collect();
    }
    w.exponents = (0..rows).map(|_| random.range(-40, 4) as i16).collect();
    w.check().expect("filled within the bounds");
    w
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Host;

    #[test]
    fn the_definition_equals_itself_and_the_count_is_kept() {
        let tally = compare(&Host::scalar(), &Host::scalar(), 1, 50_000).unwrap();
        assert!(tally.compared() >= 50_000 && tally.wrong().is_empty());
    }

    #[test]
    fn a_difference_is_counted_under_its_operator() {
        let mut tally = Tally::default();
        tally.add("add", &[1.0, 0.0, 2.0], &[1.0, -0.0, 3.0]);
        let mut twice = tally.clone();
        twice.join(tally);
        assert_eq!((twice.compared(), twice.wrong()), (6, vec![("add", 4)]));
    }
}
