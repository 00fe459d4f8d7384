//! One operator a number of times at a level, for whoever counts instructions or looks at a profile.
//!
//! `operator [what=product|quantise|attend|store|norm|gate|rotate] [level=NAME] [rows=1] [times=1] [profile=a16|a8]
//! [width=8|6|4]`, on one thread: a product with 1536 x 384 weights, attention of 12 heads of 64 over 256 positions,
//! and whatever else takes rows of 384. What it counts up is printed so that nothing is left out.
use std::collections::BTreeMap;

use inference::Profile;
use inference::backend::{Activation, Backend, Batch, CacheShape, Heads, Host, Level, Place, Table};
use inference::rope::Pairs;
use inference::weight::{Matrix, Width};

const COLUMNS: usize = 384;
const OUTPUTS: usize = 1536;
const POSITIONS: u32 = 256;
const HEADS: usize = 12;
const DIM: usize = 64;

/// Numbers near one, the same every time.
fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|at| (at * 7919 % 1021) as f32 / 512.0 - 1.0)
        .collect()
}

fn matrix(width: Width) -> Result<Matrix, inference::Error> {
    let mut w = Matrix::new(OUTPUTS, COLUMNS, width)?;
    let blocks = OUTPUTS * w.blocks();
    w.codes = (0..blocks * width.bytes())
        .map(|at| (at * 31 % 61) as u8 % 31)
        .collect();
    w.multipliers = (0..blocks * width.multipliers())
        .map(|at| (at % 4000) as i16)
        .collect();
    w.exponents = vec![-20; OUTPUTS];
    w.check().map(|()| w)
}

/// Rows at the last positions of one sequence, each of which sees all before it.
fn batch(rows: u32) -> Batch {
    let place = |row| Place {
        sequence: 0,
        position: POSITIONS - rows + row,
        from: 0,
        to: POSITIONS - rows + row + 1,
    };
    Batch {
        places: (0..rows).map(place).collect(),
        tables: vec![(0..POSITIONS / 32).collect()],
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words = std::env::args().skip(1);
    let wish: BTreeMap<String, String> = words
        .filter_map(|word| word.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect();
    let said = |name: &str, usual: &str| wish.get(name).cloned().unwrap_or(usual.to_owned());
    let (rows, times): (u32, u32) = (said("rows", "1").parse()?, said("times", "1").parse()?);
    let named = |level: &&Level| said("level", "") == format!("{level:?}").to_lowercase();
    let host = Host::new(Level::ALL.iter().find(named).copied().unwrap_or(Level::best()), 1);
    let profile = if said("profile", "a16") == "a8" {
        Profile::A8
    } else {
        Profile::A16
    };
    let width = match said("width", "8").as_str() {
        "4" => Width::Four,
        "6" => Width::Six,
        _ => Width::Eight,
    };
    let w = host.matrix(&matrix(width)?)?;
    let x = host.rows(COLUMNS, numbers(rows as usize * COLUMNS));
    let acts = host.quantise(&x, profile);
    let gain = numbers(COLUMNS);
    let (shape, heads) = shapes(profile);
    let mut cache = host.cache(shape)?;
    let wide = |rows: u32| host.rows(HEADS * DIM, numbers(rows as usize * HEADS * DIM));
    host.store(
        &mut cache,
        0,
        &wide(POSITIONS),
        &wide(POSITIONS),
        &batch(POSITIONS),
    );
    let angles = numbers(POSITIONS as usize * DIM);
    let table = Table {
        values: &angles,
        dim: DIM,
        pairs: Pairs::Halves,
    };
    let (q, mut y, batch) = (wide(rows), wide(rows), batch(rows));
    let mut sum = 0.0;
    for _ in 0..times {
        sum += match said("what", "product").as_str() {
            "product" => host.linear(&w, &acts, None).values[0],
            "quantise" => host.quantise(&x, profile).size().0 as f32,
            "attend" => host.attend(&q, &cache, 0, &heads, &batch).values[0],
            "store" => {
                host.store(&mut cache, 0, &q, &q, &batch);
                cache.key_scales[0]
            }
            "norm" => host.rms_norm(&x, &gain, 1e-5).values[0],
            "gate" => {
                host.gate(Activation::Silu, &mut y, &q);
                y.values[0]
            }
            "rotate" => {
                host.rotate(&mut y, DIM, &table, &batch);
                y.values[0]
            }
            what => return Err(format!("{what}: no such operator").into()),
        };
    }
    println!("{} {sum}", host.name());
    Ok(())
}

fn shapes(profile: Profile) -> (CacheShape, Heads) {
    let shape = CacheShape {
        layers: 1,
        heads: HEADS,
        dim: DIM,
        pages: (POSITIONS / 32) as usize,
    };
    let heads = Heads {
        query: HEADS,
        kv: HEADS,
        dim: DIM,
        scale: 0.125,
        cap: 0.0,
        profile,
    };
    (shape, heads)
}
