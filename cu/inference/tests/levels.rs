//! Every vector level and thread count against the definition, operator by operator, on ordinary and extreme inputs.
//! `WEFT_COMPARISONS` sets how many values are compared at least (default 4 million).
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::Profile;
use inference::backend::{Activation, Backend, Batch, CacheShape, Heads, Host, Level, Place};
use inference::weight::{Matrix, Width};
use support::Random;

const WIDTHS: [Width; 4] = [Width::Eight, Width::Six, Width::Five, Width::Four];

/// The levels this processor has, beyond the definition, with one thread and with three.
fn hosts() -> Vec<Host> {
    let levels = Level::ALL
        .iter()
        .filter(|level| **level > Level::Scalar && **level <= Level::best());
    levels
        .flat_map(|level| [Host::new(*level, 1), Host::new(*level, 3)])
        .chain([Host::new(Level::Scalar, 2)])
        .collect()
}

fn comparisons() -> usize {
    std::env::var("WEFT_COMPARISONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(4_000_000)
}

/// A matrix whose codes and scales may stand at their limits.
fn matrix(random: &mut Random, rows: usize, cols: usize, width: Width) -> Matrix {
    let mut w = Matrix::new(rows, cols, width).unwrap();
    let blocks = rows * cols / 32;
    let range = match width {
        Width::Eight => 127,
        Width::Six => 31,
        Width::Five => 15,
        Width::Four => 0,
    };
    let extreme = random.below(3) == 0;
    for _ in 0..blocks * width.bytes() {
        let any = random.below(2 * range + 1) as i64 - range as i64;
        let code = if extreme { any.signum() * range as i64 } else { any };
        w.codes.push(if range == 0 {
            random.draw() as u8
        } else {
            code as u8
        });
    }
    let number = |random: &mut Random, most: usize| match extreme {
        true => [most as i16, -(most as i16)][random.below(2)],
        false => random.below(2 * most + 1) as i16 - most as i16,
    };
    w.multipliers = (0..blocks * width.multipliers())
        .map(|_| number(random, 4095))
        .collect();
    if matches!(width, Width::Five | Width::Four) && random.below(2) == 0 {
        w.offsets = (0..blocks)
            .map(|_| [32767, -32767, 77, 0][random.below(4)])
            .collect();
    }
    w.exponents = (0..rows).map(|_| random.below(40) as i16 - 30).collect();
    w.check().unwrap();
    w
}

/// Numbers of many sizes: ordinary, tiny, huge, all equal, mostly zero.
fn numbers(random: &mut Random, n: usize) -> Vec<f32> {
    let kind = random.below(6);
    let one = |random: &mut Random| match kind {
        0 => random.normal() * 2f32.powi(random.below(60) as i32 - 30),
        1 => [1.0, -1.0][random.below(2)],
        2 if random.below(10) > 0 => 0.0,
        3 => random.normal() * 1e17,
        4 => [1.9999, -127.4, 1e-29, 0.0][random.below(4)],
        _ => random.normal(),
    };
    (0..n).map(|_| inference::math::canon(one(random))).collect()
}

fn same(ours: &[f32], truth: &[f32], what: &str) -> usize {
    assert_eq!(ours.len(), truth.len());
    for (at, (ours, truth)) in ours.iter().zip(truth).enumerate() {
        assert!(
            ours.to_bits() == truth.to_bits(),
            "{what}: value {at} is {ours:e}, the definition has {truth:e}"
        );
    }
    ours.len()
}

#[test]
fn dot_products_equal_the_definition() {
    let (random, scalar, hosts) = (&mut Random(11), Host::scalar(), hosts());
    let mut compared = 0;
    while compared < comparisons() {
        for width in WIDTHS {
            let (rows, cols) = (1 + random.below(200), 32 * (1 + random.below(70)));
            let tokens = 1 + random.below(40);
            let w = matrix(random, rows, cols, width);
            let x = scalar.rows(cols, numbers(random, tokens * cols));
            let bias = numbers(random, rows);
            let bias = (random.below(2) == 0).then_some(&bias);
            for profile in [Profile::A16, Profile::A8] {
                let truth = scalar.linear(&scalar.matrix(&w).unwrap(), &scalar.quantise(&x, profile), bias);
                for host in &hosts {
                    let y = host.linear(&host.matrix(&w).unwrap(), &host.quantise(&x, profile), bias);
                    let what = format!("{} {width:?} {profile:?} {rows} x {cols} x {tokens}", host.name());
                    compared += same(&y.values, &truth.values, &what);
                }
            }
        }
    }
    println!("{compared} outputs compared");
}

/// A matrix of one code, multiplier and offset: dot products as large as they can be.
fn uniform(
    rows: usize,
    cols: usize,
    width: Width,
    (code, multiplier, offset): (i8, i16, Option<i16>),
) -> Matrix {
    let mut w = Matrix::new(rows, cols, width).unwrap();
    let blocks = rows * cols / 32;
    let byte = match width {
        Width::Four => (code + 8) as u8 * 17,
        _ => code as u8,
    };
    w.codes = vec![byte; blocks * width.bytes()];
    w.multipliers = vec![multiplier; blocks * width.multipliers()];
    w.offsets = offset.map_or(vec![], |offset| vec![offset; blocks]);
    w.exponents = vec![-30; rows];
    w.check().unwrap();
    w
}

/// Codes, multipliers and offsets at which weights of a width are largest, and those of 16 bits.
fn extremes(width: Width) -> Vec<(i8, i16, Option<i16>)> {
    match width {
        Width::Eight => vec![
            (-127, 4095, None),
            (127, 4095, None),
            (-127, -258, None),
            (127, -259, None),
        ],
        Width::Six => vec![
            (-32, 4095, None),
            (31, -4095, None),
            (-32, -1023, None),
            (-32, -1024, None),
        ],
        Width::Five => vec![
            (-16, 4095, Some(32767)),
            (15, 4095, Some(-32767)),
            (-16, -2047, None),
        ],
        Width::Four => vec![
            (-8, 4095, Some(32767)),
            (7, 4095, Some(-32767)),
            (-8, -4095, None),
        ],
    }
}

#[test]
fn long_rows_of_extremes_equal_the_definition() {
    let (scalar, hosts) = (Host::scalar(), hosts());
    // Past 32768 columns a matrix unit's sums would not have room.
    for (cols, width) in [64, 32736, 32768, 32800, 65536]
        .into_iter()
        .flat_map(|cols| WIDTHS.map(|width| (cols, width)))
    {
        for extreme in extremes(width) {
            let w = uniform(2, cols, width, extreme);
            // Codes of 32639 and its negative, and 32512 - 128, whose lower byte is the least.
            for (v, profile) in [1.992_126_5, -1.992_126_5, 1.976_562_5]
                .into_iter()
                .flat_map(|v| [Profile::A16, Profile::A8].map(|profile| (v, profile)))
            {
                let x = scalar.rows(cols, vec![v; 9 * cols]);
                let truth = scalar.linear(&scalar.matrix(&w).unwrap(), &scalar.quantise(&x, profile), None);
                for host in hosts.iter().step_by(2) {
                    let y = host.linear(&host.matrix(&w).unwrap(), &host.quantise(&x, profile), None);
                    let what = format!("{} {width:?} {extreme:?} {cols} {v}", host.name());
                    same(&y.values, &truth.values, &what);
                }
            }
        }
    }
}

#[test]
fn element_wise_operators_equal_the_definition() {
    let (random, scalar) = (&mut Random(12), Host::scalar());
    for _ in 0..60 {
        let cols = 32 * (1 + random.below(40));
        let rows = 1 + random.below(5);
        let [gain, bias] = [0, 1].map(|_| numbers(random, cols));
        let [x, up] = [0, 1].map(|_| scalar.rows(cols, numbers(random, rows * cols)));
        for host in hosts() {
            for eps in [1e-5, 1e-12] {
                let [ours, truth] = [&host, &scalar].map(|host| host.rms_norm(&x, &gain, eps));
                same(&ours.values, &truth.values, "rms norm");
                let [ours, truth] = [&host, &scalar].map(|host| host.layer_norm(&x, &gain, &bias, eps));
                same(&ours.values, &truth.values, "layer norm");
            }
            for f in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf] {
                let [ours, truth] = [&host, &scalar].map(|host| {
                    let (mut a, mut b) = (x.clone(), x.clone());
                    host.activate(f, &mut a);
                    host.gate(f, &mut b, &up);
                    [a.values, b.values].concat()
                });
                same(&ours, &truth, &format!("{f:?}"));
            }
        }
    }
}

#[test]
fn attention_equals_the_definition() {
    let (random, scalar) = (&mut Random(13), Host::scalar());
    for round in 0..14 {
        let dim = [16, 32, 64, 80, 96, 128, 256][round % 7];
        let n = [40, 700][usize::from(round == 0)];
        let pages = (n as u32).div_ceil(32);
        // What a decoder's rows see, what those of its windowed layers see, what an encoder's see.
        let kinds = [(u32::MAX, false), (9, false), (600, false), (u32::MAX, true)];
        let (window, whole) = kinds[(round + 2) % 4];
        let batch = Batch {
            places: (0..n as u32)
                .map(|position| Place {
                    sequence: 0,
                    position,
                    from: position.saturating_sub(window),
                    to: if whole { n as u32 } else { position + 1 },
                })
                .collect(),
            tables: vec![(0..pages).rev().collect()],
        };
        let heads = |profile| Heads {
            query: 4,
            kv: 2,
            dim,
            scale: 0.125,
            cap: [0.0, 50.0][round % 2],
            profile,
        };
        let [q, k, v] = [4, 2, 2].map(|heads| scalar.rows(heads * dim, numbers(random, heads * dim * n)));
        let run = |host: &Host, profile| {
            let shape = CacheShape {
                layers: 2,
                heads: 2,
                dim,
                pages: pages as usize,
            };
            let mut cache = host.cache(shape).unwrap();
            host.store(&mut cache, 1, &k, &v, &batch);
            host.attend(&q, &cache, 1, &heads(profile), &batch).values
        };
        for profile in [Profile::A16, Profile::A8] {
            let truth = run(&scalar, profile);
            for host in hosts() {
                same(
                    &run(&host, profile),
                    &truth,
                    &format!("attention {} {profile:?}", host.name()),
                );
            }
        }
    }
}
