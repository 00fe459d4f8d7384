//! The definition against plain f64 arithmetic: integers must not cost accuracy. Bits are other tests' business.
#![allow(missing_docs, clippy::unwrap_used)]

use inference::backend::cpu::{self, Cache};
use inference::backend::{Backend, Batch, CacheShape, Heads, Host, Place};
use inference::weight::{Matrix, Width};
use inference::{Profile, rope};

/// A seeded stream of numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// About normal, mean 0, deviation 1.
    fn normal(&mut self) -> f32 {
        (0..12)
            .map(|_| (self.next() >> 40) as f32 / 16_777_216.0)
            .sum::<f32>()
            - 6.0
    }

    fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
}

fn floats(random: &mut Random, rows: usize, cols: usize) -> Matrix {
    let mut matrix = Matrix::new(rows, cols, Width::Eight).unwrap();
    for _ in 0..rows {
        matrix.push_floats(&random.vector(cols));
    }
    matrix
}

/// Root mean square of the difference over that of the truth.
fn error(ours: &[f32], truth: &[f64]) -> f64 {
    let difference: f64 = ours
        .iter()
        .zip(truth)
        .map(|(o, t)| (f64::from(*o) - t).powi(2))
        .sum();
    (difference / truth.iter().map(|t| t * t).sum::<f64>()).sqrt()
}

fn dots(w: &Matrix, x: &[f32]) -> Vec<f64> {
    let dot = |row| {
        w.row(row)
            .iter()
            .zip(x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x))
            .sum()
    };
    (0..w.rows).map(dot).collect()
}

#[test]
fn dots_are_as_fine_as_their_profile() {
    let random = &mut Random(1);
    for cols in [32, 384, 2048, 11008] {
        let w = floats(random, 64, cols);
        let x = random.vector(cols);
        for (profile, most) in [(Profile::A16, 1e-4), (Profile::A8, 1e-2)] {
            let mut y = vec![0.0; w.rows];
            cpu::linear(&w, &cpu::quantise(&x, cols, profile), 0, None, &mut y);
            let e = error(&y, &dots(&w, &x));
            assert!(e < most, "{profile:?} of {cols} columns: {e}");
        }
    }
}

#[test]
fn every_width_multiplies_alike() {
    let random = &mut Random(2);
    for (width, range) in [
        (Width::Eight, 127),
        (Width::Six, 31),
        (Width::Five, 15),
        (Width::Four, 7),
    ] {
        let mut w = Matrix::new(32, 512, width).unwrap();
        for _ in 0..32 * 16 * width.bytes() {
            let code = ((random.next() % (2 * range + 1)) as i64 - range as i64) as i8;
            w.codes.push(if width == Width::Four {
                (random.next() % 256) as u8
            } else {
                code as u8
            });
        }
        for _ in 0..32 {
            let scales: Vec<i64> = (0..16 * width.multipliers())
                .map(|_| 2000 + (random.next() % 4000) as i64)
                .collect();
            let offsets: Vec<i64> = (0..16).map(|_| (random.next() % 20000) as i64 - 10000).collect();
            w.push_scales(&scales, if range < 31 { &offsets } else { &[] });
        }
        w.check().unwrap();
        let x = random.vector(512);
        let mut y = vec![0.0; 32];
        cpu::linear(&w, &cpu::quantise(&x, 512, Profile::A16), 0, None, &mut y);
        let e = error(&y, &dots(&w, &x));
        assert!(e < 5e-4, "{width:?}: {e}");
    }
}

#[test]
fn norms_are_near_the_truth() {
    let random = &mut Random(3);
    let (gain, bias) = (random.vector(384), random.vector(384));
    for size in [1e-3, 1.0, 1e4] {
        let x: Vec<f32> = random.vector(384).iter().map(|v| v * size + 0.3 * size).collect();
        let wide: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        let mean = wide.iter().sum::<f64>() / 384.0;
        let square = |about: f64| wide.iter().map(|v| (v - about).powi(2)).sum::<f64>() / 384.0 + 1e-6;
        let mut out = vec![0.0; 384];
        cpu::rms_norm(&x, &gain, 1e-6, &mut out);
        let truth: Vec<f64> = wide
            .iter()
            .zip(&gain)
            .map(|(v, g)| v / square(0.0).sqrt() * f64::from(*g))
            .collect();
        assert!(error(&out, &truth) < 1e-5);
        cpu::layer_norm(&x, &gain, &bias, 1e-6, &mut out);
        let normed = wide
            .iter()
            .zip(&gain)
            .map(|(v, g)| (v - mean) / square(mean).sqrt() * f64::from(*g));
        let truth: Vec<f64> = normed.zip(&bias).map(|(v, b)| v + f64::from(*b)).collect();
        assert!(error(&out, &truth) < 1e-5);
    }
}

#[test]
fn attention_is_near_the_truth() {
    let random = &mut Random(4);
    let heads = Heads {
        query: 4,
        kv: 2,
        dim: 64,
        scale: 0.125,
        cap: 0.0,
        profile: Profile::A16,
    };
    let host = Host::scalar();
    let n = 100;
    let batch = Batch {
        places: (0..n)
            .map(|p| Place {
                sequence: 0,
                position: p,
                from: 0,
                to: p + 1,
            })
            .collect(),
        tables: vec![vec![3, 0, 1, 2]],
    };
    let [q, k, v] = [256, 128, 128].map(|cols| host.rows(cols, random.vector(cols * n as usize)));
    let mut cache: Cache = host
        .cache(CacheShape {
            layers: 1,
            heads: 2,
            dim: 64,
            pages: 4,
        })
        .unwrap();
    host.store(&mut cache, 0, &k, &v, &batch);
    let out = host.attend(&q, &cache, 0, &heads, &batch);
    let mut truth = Vec::new();
    for row in 0..n as usize {
        for head in 0..4 {
            let at =
                |x: &[f32], cols: usize, row: usize, head: usize| x[row * cols + head * 64..][..64].to_vec();
            let own = at(&q.values, 256, row, head);
            let weight = |p: usize| {
                let key = at(&k.values, 128, p, head / 2);
                (own.iter()
                    .zip(key)
                    .map(|(q, k)| f64::from(*q) * f64::from(k))
                    .sum::<f64>()
                    * 0.125)
                    .exp()
            };
            let weights: Vec<f64> = (0..=row).map(weight).collect();
            let total: f64 = weights.iter().sum();
            truth.extend((0..64).map(|d| {
                let part = |(p, w): (usize, &f64)| w * f64::from(at(&v.values, 128, p, head / 2)[d]);
                weights.iter().enumerate().map(part).sum::<f64>() / total
            }));
        }
    }
    let e = error(&out.values, &truth);
    assert!(e < 0.015, "{e}");
}

#[test]
fn a_rotation_keeps_lengths() {
    let random = &mut Random(5);
    let turns = rope::turns(&rope::Angles {
        dim: 64,
        base: 1e4,
        factor: 1.0,
        factors: vec![],
    })
    .unwrap();
    for pairs in [rope::Pairs::Adjacent, rope::Pairs::Halves] {
        let mut head = random.vector(64);
        let length = |head: &[f32]| head.iter().map(|v| f64::from(v * v)).sum::<f64>();
        let before = length(&head);
        cpu::rotate(&mut head, &rope::row(&turns, 1234), pairs);
        assert!((length(&head) / before - 1.0).abs() < 1e-6);
    }
}
