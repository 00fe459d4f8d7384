//! Operators by a backend: small inputs written out, large ones by rule.

use inference::Profile;
use inference::backend::{Activation, Backend, Batch, CacheShape, Heads, PAGE, Place, Table};
use inference::math::{HUGE, TINY, canon, pow2};
use inference::rope::{self, Angles, Pairs};
use serde_json::{Value, json};

use super::numbers::{numbers, sweep};
use super::{hash, hex};

/// Columns of large inputs.
const COLS: usize = 1024;

pub fn all<B: Backend>(b: &B) -> Value {
    json!({"elements": elements(b), "rms_norm": rms_norm(b), "layer_norm": layer_norm(b), "rotated": rotated(b),
        "attention": attention(b), "attention_swept": attention_swept(b)})
}

fn read<B: Backend>(b: &B, rows: B::Rows) -> Vec<f32> {
    b.take(rows).unwrap()
}

/// Element-wise operators on the sweep; the other operand is the sweep backwards.
fn elements<B: Backend>(b: &B) -> Value {
    let values = sweep();
    let back: Vec<f32> = values.iter().rev().copied().collect();
    let other = b.rows(COLS, back);
    let changed = |change: &dyn Fn(&mut B::Rows)| {
        let mut x = b.rows(COLS, values.clone());
        change(&mut x);
        hash(&read(b, x))
    };
    json!({
        "silu": changed(&|x| b.activate(Activation::Silu, x)),
        "gelu_tanh": changed(&|x| b.activate(Activation::GeluTanh, x)),
        "gelu_erf": changed(&|x| b.activate(Activation::GeluErf, x)),
        "soft_cap 50": changed(&|x| b.soft_cap(x, 50.0)),
        "silu gate": changed(&|x| b.gate(Activation::Silu, x, &other)),
        "gelu_tanh gate": changed(&|x| b.gate(Activation::GeluTanh, x, &other)),
        "residual": changed(&|x| b.add(x, &other)),
    })
}

/// Rows that norms are told of: ordinary, none, the smallest there are, one far above the others, and ordinary ones beyond the
/// exponents that norms follow.
fn normed() -> [Vec<f32>; 6] {
    let one = |at: usize| if at == 5 { 3e4 } else { -1e-3 };
    let scaled = |by: i32| numbers(0, 32).iter().map(|v| v * pow2(by)).collect::<Vec<f32>>();
    let mut large: Vec<f32> = scaled(60).iter().map(|v| v * 16.0).collect();
    large[7] = f32::from_bits(HUGE);
    [
        numbers(0, 32),
        vec![0.0; 32],
        vec![f32::from_bits(TINY); 32],
        (0..32).map(one).collect(),
        scaled(-42),
        large,
    ]
}

/// Lengths of large norms.
const LENGTHS: [usize; 4] = [64, 96, 384, 4096];

fn rms_norm<B: Backend>(b: &B) -> Value {
    let (gain, eps) = (numbers(1000, 4096), 1e-5);
    let run = |x: Vec<f32>, n: usize| {
        let y = b.rms_norm(&b.rows(n, x), &b.vector(&gain[..n]).unwrap(), eps);
        read(b, y)
    };
    let rows = normed().map(|x| json!({"of": hex(&x), "is": hex(&run(x, 32))}));
    let swept = LENGTHS.map(|n| hash(&run(numbers(0, 5 * n), n)));
    json!({"eps": hex(&[eps]), "gain": hex(&gain[..32]), "rows": rows, "sweep": swept})
}

fn layer_norm<B: Backend>(b: &B) -> Value {
    let (gain, bias, eps) = (numbers(1000, 4096), numbers(7000, 4096), 1e-12);
    let run = |x: Vec<f32>, n: usize| {
        let [gain, bias] = [&gain[..n], &bias[..n]].map(|part| b.vector(part).unwrap());
        let y = b.layer_norm(&b.rows(n, x), &gain, &bias, eps);
        read(b, y)
    };
    let rows = normed().map(|x| json!({"of": hex(&x), "is": hex(&run(x, 32))}));
    let swept = LENGTHS.map(|n| hash(&run(numbers(0, 5 * n), n)));
    json!({"eps": hex(&[eps]), "gain": hex(&gain[..32]), "bias": hex(&bias[..32]), "rows": rows, "sweep": swept})
}

/// Places of one sequence's rows, each seeing the positions up to its own.
fn batch(rows: &[u32], pages: usize) -> Batch {
    let place = |position: &u32| Place {
        sequence: 0,
        position: *position,
        from: 0,
        to: position + 1,
    };
    Batch {
        places: rows.iter().map(place).collect(),
        tables: vec![(0..pages as u32).rev().collect()],
    }
}

/// Heads of 64 numbers of which all or half are rotated, at 40 positions.
fn rotated<B: Backend>(b: &B) -> Value {
    let positions: Vec<u32> = (0..40).map(|n| 13 * n).collect();
    let mut given = vec![];
    for (dim, pairs) in [(64, Pairs::Adjacent), (64, Pairs::Halves), (32, Pairs::Halves)] {
        let angles = Angles {
            dim,
            base: 10000.0,
            factor: 1.0,
            factors: vec![],
        };
        let turns = rope::turns(&angles).unwrap();
        let values: Vec<f32> = (0..512).flat_map(|n| rope::row(&turns, n)).collect();
        let values = &b.vector(&values).unwrap();
        let mut x = b.rows(192, numbers(0, 192 * 40));
        b.rotate(&mut x, 64, &Table { values, dim, pairs }, &batch(&positions, 16));
        given.push(hash(&read(b, x)));
    }
    json!(given)
}

fn heads(query: usize, kv: usize, dim: usize, cap: f32, profile: Profile) -> Heads {
    Heads {
        query,
        kv,
        dim,
        scale: 1.0 / (dim as f32).sqrt(),
        cap,
        profile,
    }
}

const KINDS: [(f32, Profile); 4] = [
    (0.0, Profile::A16),
    (50.0, Profile::A16),
    (0.0, Profile::A8),
    (50.0, Profile::A8),
];

/// One head of 16 numbers over five positions, the fourth key all zero: ordinary values, and values so small that their scale
/// is the smallest.
fn attention<B: Backend>(b: &B) -> Value {
    let values = numbers(500, 16 * 5);
    let small: Vec<f32> = values.iter().map(|v| canon(v * pow2(-100))).collect();
    json!([attention_over(b, &values), attention_over(b, &small)])
}

fn attention_over<B: Backend>(b: &B, values: &[f32]) -> Value {
    let (dim, n) = (16, 5);
    let [mut keys, query] = [numbers(0, dim * n), numbers(900, dim)];
    keys[3 * dim..4 * dim].fill(0.0);
    let shape = CacheShape {
        layers: 1,
        heads: 1,
        dim,
        pages: 1,
    };
    let mut cache = b.cache(shape).unwrap();
    let [k, v] = [&keys[..], values].map(|x| b.rows(dim, x.to_vec()));
    b.store(&mut cache, 0, &k, &v, &batch(&[0, 1, 2, 3, 4], 1));
    let is = KINDS.map(|(cap, profile)| {
        let q = b.rows(dim, query.clone());
        let y = b.attend(&q, &cache, 0, &heads(1, 1, dim, cap, profile), &batch(&[4], 1));
        json!({"cap": cap, "profile": profile.name(), "is": hex(&read(b, y))})
    });
    json!({"query": hex(&query), "keys": hex(&keys), "values": hex(values), "of": is})
}

/// Four query heads of 64 numbers over two of 700 positions: all of them, a window, the first.
fn attention_swept<B: Backend>(b: &B) -> Value {
    let (dim, n) = (64, 700_u32);
    let pages = (n as usize).div_ceil(PAGE);
    let shape = CacheShape {
        layers: 1,
        heads: 2,
        dim,
        pages,
    };
    let mut cache = b.cache(shape).unwrap();
    let [k, v] = [0, 1_000_000].map(|from| b.rows(2 * dim, numbers(from, 2 * dim * n as usize)));
    b.store(&mut cache, 0, &k, &v, &batch(&(0..n).collect::<Vec<_>>(), pages));
    let mut asked = batch(&[n - 1, n - 1, 0], pages);
    asked.places[1].from = n - 100;
    let is = KINDS.map(|(cap, profile)| {
        let q = b.rows(4 * dim, numbers(2_000_000, 4 * dim * 3));
        let y = b.attend(&q, &cache, 0, &heads(4, 2, dim, cap, profile), &asked);
        hash(&read(b, y))
    });
    json!(is)
}
