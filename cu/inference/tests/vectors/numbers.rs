//! The deterministic inputs, and what is a function of numbers alone: no backend.

use inference::backend::cpu;
use inference::math::{
    HUGE, TINY, canon, exp, gelu_erf, gelu_tanh, pow2, rcp, rsqrt, sigmoid, silu, soft_cap, wide, wider,
};
use inference::rope::{self, Angles};
use inference::sample::{Settings, choose, draw, logprobs};
use inference::{Profile, rope::Pairs};
use serde_json::{Map, Value, json};

use super::{hash, hex};

/// 32 mixed bits of a number.
pub fn mixed(k: u32) -> u32 {
    let h = k.wrapping_mul(2_654_435_761);
    let h = (h ^ h >> 15).wrapping_mul(2_246_822_519);
    h ^ h >> 13
}

/// The numbers of the rule from the `from`th on.
pub fn numbers(from: u32, n: usize) -> Vec<f32> {
    let one =
        |k: u32| ((mixed(k) >> 8) as i32 - (1 << 23)) as f32 * pow2(-23) * pow2((k / 32 % 9) as i32 - 4);
    (from..from + n as u32).map(one).collect()
}

/// Numbers of every size, then a fine ladder from -16 to 16.
pub fn sweep() -> Vec<f32> {
    let sizes = (0..1 << 20).map(|k: u32| canon(f32::from_bits(4095 * k)));
    let ladder = (0..1 << 20).map(|k: i32| (k - (1 << 19)) as f32 * pow2(-15));
    sizes.chain(ladder).collect()
}

/// Numbers at and about the edges.
fn edges() -> Vec<f32> {
    let positive = [
        0.0,
        f32::from_bits(TINY),
        f32::from_bits(TINY + 1),
        1e-9,
        0.001,
        0.3,
        0.5,
        1.0,
        1.5,
        std::f32::consts::PI,
        8.0,
        15.99,
        63.999,
        64.0,
        64.001,
        1e9,
        f32::from_bits(HUGE),
    ];
    positive.iter().flat_map(|v| [*v, canon(-v)]).collect()
}

/// A function of one number: its name, what takes numbers into its domain, itself.
type Function = (&'static str, fn(f32) -> f32, fn(f32) -> f32);

const FUNCTIONS: [Function; 10] = [
    ("exp", |v| canon(-v.abs()), exp),
    ("rcp", |v| v.abs().max(f32::from_bits(TINY)), rcp),
    ("rsqrt", f32::abs, rsqrt),
    ("sigmoid", |v| v, sigmoid),
    ("silu", |v| v, silu),
    ("gelu_tanh", |v| v, gelu_tanh),
    ("gelu_erf", |v| v, gelu_erf),
    ("soft_cap 5", |v| v, |v| soft_cap(v, 5.0, 2.0 / 5.0)),
    ("soft_cap 30", |v| v, |v| soft_cap(v, 30.0, 2.0 / 30.0)),
    ("soft_cap 50", |v| v, |v| soft_cap(v, 50.0, 2.0 / 50.0)),
];

pub fn functions() -> Value {
    let (edges, sweep) = (edges(), sweep());
    let mut all = Map::new();
    for (name, domain, function) in FUNCTIONS {
        let of: Vec<f32> = edges.iter().copied().map(domain).collect();
        let is: Vec<f32> = of.iter().copied().map(function).collect();
        let swept: Vec<f32> = sweep.iter().map(|v| function(domain(*v))).collect();
        all.insert(
            name.to_owned(),
            json!({"of": hex(&of), "is": hex(&is), "sweep": hash(&swept)}),
        );
    }
    let odd = [
        0,
        0x8000_0000,
        1,
        0x0d7f_ffff,
        TINY,
        0x8d7f_ffff,
        0x3f80_0000,
        HUGE,
        HUGE + 1,
        0x7f7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
    ];
    let of: Vec<f32> = odd.iter().map(|bits| f32::from_bits(*bits)).collect();
    let swept: Vec<f32> = (0..1 << 20)
        .map(|k: u32| canon(f32::from_bits(4095 * k)))
        .collect();
    let is: Vec<f32> = of.iter().map(|v| canon(*v)).collect();
    all.insert(
        "canon".to_owned(),
        json!({"of": hex(&of), "is": hex(&is), "sweep": hash(&swept)}),
    );
    all.insert("integers".to_owned(), integers());
    Value::Object(all)
}

/// Functions of integers.
fn integers() -> Value {
    let powers = [-200, -127, -126, -100, -1, 0, 1, 60, 61, 62, 300];
    let sums: Vec<i64> = [
        0,
        1,
        -1,
        32767,
        -32768,
        (1 << 24) + 1,
        -(1 << 25) - 1,
        (1 << 40) + 12345,
        -(1 << 45) + 1,
    ]
    .into();
    let row = |f: fn(i64) -> f32| -> Vec<f32> { sums.iter().map(|s| f(*s)).collect() };
    let swept = |f: fn(i64) -> f32, shift: u32| -> Value {
        let one = |k: u64| f(k.wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64 >> shift);
        hash(&(0..1 << 20).map(one).collect::<Vec<f32>>())
    };
    json!({
        "pow2": {"of": powers, "is": hex(&powers.map(pow2))},
        "wide": {"of": sums, "is": hex(&row(wide)), "sweep": swept(wide, 18)},
        "wider": {"of": sums, "is": hex(&row(wider)), "sweep": swept(wider, 9)},
    })
}

const PROFILES: [Profile; 2] = [Profile::A16, Profile::A8];

/// Rows of 64 numbers as codes, and a long one.
pub fn quantised() -> Value {
    let ordinary = numbers(0, 64);
    let [huge, tiny] = [HUGE, TINY].map(f32::from_bits);
    // The second block so much smaller that its own unit would be below the row's by more than it may.
    let unlike: Vec<f32> = (0..64)
        .map(|i| if i < 32 { 1.0 } else { ordinary[i] * pow2(-14) })
        .collect();
    // Under unit 0: codes that lie half way.
    let halves: Vec<f32> = (0..64)
        .map(|i| if i == 0 { 32000.0 } else { i as f32 - 31.5 })
        .collect();
    let sizes: Vec<f32> = (0..64).map(|i| [huge, -huge, tiny, 0.0, 1.0][i % 5]).collect();
    let mut rows = vec![vec![0.0; 64], ordinary, unlike, halves, sizes];
    // The last magnitude before a unit grows, and the next, by A16 and by A8.
    for most in [0x3f7e_fe00, 0x3f7e_fe01, 0x3f7e_0000, 0x3f7e_0001] {
        rows.push((0..64).map(|i| f32::from_bits(most - (i << 17))).collect());
    }
    let each = |row: &Vec<f32>| {
        let mut case = Map::from_iter([("of".to_owned(), hex(row))]);
        for profile in PROFILES {
            let acts = cpu::quantise(row, 64, profile);
            case.insert(
                profile.name().to_owned(),
                json!({"unit": acts.exponents[0], "codes": acts.codes}),
            );
        }
        Value::Object(case)
    };
    let swept = PROFILES.map(|profile| {
        let acts = cpu::quantise(&numbers(0, 1 << 20), 4096, profile);
        let mut bytes: Vec<u8> = acts.exponents.iter().flat_map(|e| e.to_le_bytes()).collect();
        bytes.extend(acts.codes.iter().flat_map(|code| code.to_le_bytes()));
        blake3::hash(&bytes).to_string()
    });
    json!({"rows": rows.iter().map(each).collect::<Vec<_>>(), "sweep": swept})
}

/// The angles that tables are made for.
fn angles() -> Vec<Angles> {
    let plain = |dim, base| Angles {
        dim,
        base,
        factor: 1.0,
        factors: vec![],
    };
    vec![
        plain(8, 10000.0),
        plain(16, 500_000.0),
        Angles {
            factor: 8.0,
            ..plain(8, 1e6)
        },
        Angles {
            factors: vec![1.0, 1.5, 8.0, 32.0],
            ..plain(8, 500_000.0)
        },
        plain(2, 1.0),
        plain(6, 1e12),
    ]
}

pub fn rotary() -> Value {
    let positions = [0, 1, 17, 4095, 65535];
    let each = |angles: Angles| {
        let turns = rope::turns(&angles).unwrap();
        let rows = positions.map(|position| hex(&rope::row(&turns, position)));
        let turns: Vec<String> = turns.iter().map(|t| format!("{t:016x}")).collect();
        json!({"dim": angles.dim, "base": hex(&[angles.base]), "factor": hex(&[angles.factor]),
            "factors": hex(&angles.factors), "turns": turns.join(" "), "rows": rows})
    };
    let long = rope::turns(&Angles {
        dim: 128,
        ..angles().swap_remove(0)
    });
    let long = long.unwrap();
    let swept: Vec<f32> = (0..1024)
        .flat_map(|n| rope::row(&long, 64 * n + n % 64))
        .collect();
    let mut rotated = vec![];
    for pairs in [Pairs::Adjacent, Pairs::Halves] {
        let turns = rope::turns(&angles()[0]).unwrap();
        let (mut head, of) = (numbers(0, 12), numbers(0, 12));
        cpu::rotate(&mut head, &rope::row(&turns, 3), pairs);
        rotated.push(json!({"pairs": format!("{pairs:?}").to_lowercase(), "of": hex(&of), "is": hex(&head)}));
    }
    json!({"positions": positions, "tables": angles().into_iter().map(each).collect::<Vec<_>>(),
        "rotated": rotated, "sweep": hash(&swept)})
}

/// Draws, tokens chosen from logits, and their probabilities.
pub fn choices() -> Value {
    let seed: [u8; 32] = std::array::from_fn(|i| i as u8);
    let draws = [0, 1, 2, 1 << 40].map(|at| format!("{:016x}", draw(&seed, at)));
    // Three blocks of the rule: magnitudes to 0.5, 1 and 2.
    let logits = numbers(96, 96);
    let mut cases = vec![];
    for (temperature, top_k, top_p) in [
        (0.0, 0, 1.0),
        (1.0, 0, 1.0),
        (0.7, 40, 1.0),
        (1.3, 0, 0.9),
        (2.5, 7, 0.5),
        (100.0, 0, 1.0),
        (1.0, 0, 0.0),
    ] {
        let settings = Settings {
            temperature,
            top_k,
            top_p,
            seed,
        };
        let tokens: Vec<u32> = (0..16).map(|at| choose(&logits, &settings, at)).collect();
        cases.push(json!({"temperature": hex(&[temperature]), "top_k": top_k, "top_p": hex(&[top_p]), "tokens": tokens}));
    }
    let told = logprobs(&logits, 0..8);
    json!({"seed": blake3::Hash::from_bytes(seed).to_string(), "draws": draws, "chosen": cases, "logprobs": hex(&told)})
}
