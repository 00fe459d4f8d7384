//! The definition of DIN-1's operators: one vector, one matrix row, one head at a time, in plain scalar code.
//!
//! `spec/inference.md` says the same in prose. Not here: speed, threads, batches. Invariant: every sum is of integers
//! whose bounds (`weight.rs`, the limits below) exclude overflow; every float operation is element-wise and its
//! result is put on the grid before it is kept.

use crate::Profile;
use crate::backend::{Activation, CacheShape, Heads, PAGE};
use crate::math::{TINY, canon, exp, gelu_erf, gelu_tanh, pow2, rcp, rsqrt, silu, soft_cap, wide, wider};
use crate::rope::Pairs;
use crate::weight::{BLOCK, Matrix};

/// The most by which a block's unit is above its row's.
pub const A8_SHIFT_MAX: i32 = 8;
/// The largest vector that a norm takes; with it its sums stay inside 46 bits.
pub const NORM_MAX: usize = 32768;
/// The scale of attention weights: the largest weight is this.
pub const WEIGHT_ONE: f32 = 32767.0;
/// Positions whose weighted values add up inside i32: 512 * 32767 * 127 < 2^31.
pub const EXACT: usize = 512;

/// Quantised rows: value = code * 2^exponent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acts {
    /// Rows.
    pub rows: usize,
    /// Columns, a multiple of [`BLOCK`].
    pub cols: usize,
    /// How many bits of a code count.
    pub profile: Profile,
    /// Codes, to 32639; with [`Profile::A8`] those of a block are numbers to 127 times a power of two.
    pub codes: Vec<i16>,
    /// The sum of each block's codes.
    pub sums: Vec<i32>,
    /// The unit of each row, a power of two.
    pub exponents: Vec<i32>,
}

/// The largest magnitude as bits; on the grid their order is the order of magnitudes.
#[inline(always)]
pub fn most(x: &[f32]) -> u32 {
    x.iter().fold(0, |most, v| most.max(v.to_bits() & 0x7fff_ffff))
}

/// The power of two that a vector with that largest magnitude counts in: codes stay within 32639, or 127.
#[inline(always)]
pub fn unit(most: u32, profile: Profile) -> i32 {
    match profile {
        Profile::A16 => ((most + 0x1_01ff) >> 23) as i32 - 141,
        Profile::A8 => ((most + 0x1_ffff) >> 23) as i32 - 133,
    }
}

/// v / 2^unit, rounded half up; `scale` is 2^-unit.
#[inline(always)]
pub fn code(v: f32, scale: f32) -> i16 {
    (v * scale + 0.5).floor() as i16
}

/// The power of two that a whole row counts in: under [`Profile::A8`] its largest block has codes of 15 bits, of which 8
/// count.
#[inline(always)]
pub fn row_unit(most: u32, profile: Profile) -> i32 {
    unit(most, profile) - if profile == Profile::A8 { A8_SHIFT_MAX } else { 0 }
}

/// The power of two by which a block's unit is above its row's.
#[inline(always)]
pub fn block_shift(most: u32, row: i32, profile: Profile) -> i32 {
    match profile {
        Profile::A16 => 0,
        Profile::A8 => (unit(most, profile) - row).max(0),
    }
}

/// Quantises rows of `cols` numbers.
#[inline(always)]
pub fn quantise(x: &[f32], cols: usize, profile: Profile) -> Acts {
    assert!(cols.is_multiple_of(BLOCK) && x.len().is_multiple_of(cols));
    let (mut codes, mut sums, mut exponents) = (vec![], vec![], vec![]);
    for row in x.chunks_exact(cols) {
        let unit = row_unit(most(row), profile);
        for block in row.chunks_exact(BLOCK) {
            let (start, shift) = (codes.len(), block_shift(most(block), unit, profile));
            codes.extend(block.iter().map(|v| code(*v, pow2(-unit - shift)) << shift));
            sums.push(codes[start..].iter().map(|c| i32::from(*c)).sum());
        }
        exponents.push(unit);
    }
    let rows = x.len() / cols;
    Acts {
        rows,
        cols,
        profile,
        codes,
        sums,
        exponents,
    }
}

/// The dot product of a matrix row with a quantised row, exact.
pub fn dot(w: &Matrix, row: usize, x: &Acts, at: usize) -> i64 {
    let runs = w.width.multipliers();
    let mut sum = 0;
    for b in 0..w.blocks() {
        let block = row * w.blocks() + b;
        let codes = &x.codes[at * x.cols + b * BLOCK..][..BLOCK];
        for run in 0..runs {
            let columns = run * BLOCK / runs..(run + 1) * BLOCK / runs;
            let products = columns.map(|k| w.code(row, b * BLOCK + k) * i32::from(codes[k]));
            sum += i64::from(products.sum::<i32>()) * i64::from(w.multipliers[block * runs + run]);
        }
        if let Some(offset) = w.offsets.get(block) {
            sum -= i64::from(x.sums[at * w.blocks() + b]) * i64::from(*offset);
        }
    }
    sum
}

/// Matrix times row `at`, plus the bias.
pub fn linear(w: &Matrix, x: &Acts, at: usize, bias: Option<&[f32]>, y: &mut [f32]) {
    for (row, y) in y.iter_mut().enumerate() {
        let exponent = x.exponents[at] + i32::from(w.exponents[row]);
        *y = finish_dot(dot(w, row, x, at), exponent, bias.map(|bias| bias[row]));
    }
}

/// The output of a dot product: its one rounding.
#[inline(always)]
pub fn finish_dot(sum: i64, exponent: i32, bias: Option<f32>) -> f32 {
    let value = canon(wider(sum) * pow2(exponent));
    bias.map_or(value, |bias| canon(value + bias))
}

/// x = f(x).
#[inline(always)]
pub fn activate(f: Activation, x: &mut [f32]) {
    match f {
        Activation::Silu => x.iter_mut().for_each(|x| *x = silu(*x)),
        Activation::GeluTanh => x.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        Activation::GeluErf => x.iter_mut().for_each(|x| *x = gelu_erf(*x)),
    }
}

/// x = f(x) * up.
#[inline(always)]
pub fn gate(f: Activation, x: &mut [f32], up: &[f32]) {
    activate(f, x);
    x.iter_mut().zip(up).for_each(|(x, up)| *x = canon(*x * up));
}

/// The scale that brings a vector's largest magnitude to 2^14 .. 2^15; bounded, so that its square is finite.
#[inline(always)]
pub fn norm_scale(most: u32) -> f32 {
    let exponent = ((most >> 23) as i32 - 127).clamp(-40, 60);
    pow2(14 - exponent)
}

/// The mean of `n` numbers from the sum of their codes.
#[inline(always)]
pub fn norm_mean(sum: i32, n: usize, scale: f32) -> f32 {
    let back = pow2(-(scale.to_bits() as i32 >> 23) + 127);
    canon(canon(sum as f32 * (1.0 / n as f32)) * back)
}

/// One over the root of the mean square of `n` numbers, from the sum of their codes' squares.
#[inline(always)]
pub fn norm_inverse(squares: i64, n: usize, scale: f32, eps: f32) -> f32 {
    let mean = wide(squares) * (1.0 / n as f32);
    rsqrt(mean + canon(canon(eps * scale) * scale))
}

/// RMS norm of one vector.
#[inline(always)]
pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() <= NORM_MAX && x.len() == gain.len());
    let scale = norm_scale(most(x));
    let squares = x
        .iter()
        .map(|v| i64::from((v * scale + 0.5).floor() as i32).pow(2));
    let inverse = norm_inverse(squares.sum(), x.len(), scale, eps);
    for ((out, v), gain) in out.iter_mut().zip(x).zip(gain) {
        *out = canon(canon(canon(v * scale) * inverse) * gain);
    }
}

/// Layer norm of one vector: what is left of its mean, RMS normed, plus the bias.
#[inline(always)]
pub fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() <= NORM_MAX);
    let scale = norm_scale(most(x));
    let sum: i32 = x.iter().map(|v| (v * scale + 0.5).floor() as i32).sum();
    let mean = norm_mean(sum, x.len(), scale);
    let centred: Vec<f32> = x.iter().map(|v| canon(v - mean)).collect();
    rms_norm(&centred, gain, eps, out);
    for (out, bias) in out.iter_mut().zip(bias) {
        *out = canon(*out + bias);
    }
}

/// Rotates the first numbers of one head by a position's cosines and sines.
#[inline(always)]
pub fn rotate(head: &mut [f32], table: &[f32], pairs: Pairs) {
    let half = table.len() / 2;
    for (i, angle) in table.chunks_exact(2).enumerate() {
        let (a, b) = match pairs {
            Pairs::Adjacent => (2 * i, 2 * i + 1),
            Pairs::Halves => (i, i + half),
        };
        let ([x, y], [cos, sin]) = ([head[a], head[b]], [angle[0], angle[1]]);
        head[a] = canon(canon(x * cos) - canon(y * sin));
        head[b] = canon(canon(x * sin) + canon(y * cos));
    }
}

/// Keys and values as 8-bit codes under a scale per position and head.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Its size.
    pub shape: CacheShape,
    /// Codes of keys: layer, page, head, position in the page, number.
    pub keys: Vec<i8>,
    /// Codes of values, in the same order.
    pub values: Vec<i8>,
    /// Scales of keys: layer, page, head, position in the page.
    pub key_scales: Vec<f32>,
    /// Scales of values.
    pub value_scales: Vec<f32>,
}

impl Cache {
    /// An empty cache.
    pub fn new(shape: CacheShape) -> Cache {
        let vectors = shape.layers * shape.pages * shape.heads * PAGE;
        Cache {
            shape,
            keys: vec![0; vectors * shape.dim],
            values: vec![0; vectors * shape.dim],
            key_scales: vec![0.0; vectors],
            value_scales: vec![0.0; vectors],
        }
    }

    /// The index of the vector of a position: `table` is its sequence's pages.
    #[inline(always)]
    pub fn at(&self, layer: usize, head: usize, table: &[u32], position: usize) -> usize {
        let page = layer * self.shape.pages + table[position / PAGE] as usize;
        (page * self.shape.heads + head) * PAGE + position % PAGE
    }

    /// The codes of a key.
    #[inline(always)]
    pub fn key(&self, at: usize) -> &[i8] {
        &self.keys[at * self.shape.dim..][..self.shape.dim]
    }

    /// The codes of a value.
    #[inline(always)]
    pub fn value(&self, at: usize) -> &[i8] {
        &self.values[at * self.shape.dim..][..self.shape.dim]
    }
}

/// What one code of a key or value with that largest magnitude stands for: 1/127 of it, at least 2^-100.
#[inline(always)]
pub fn cache_scale(most: u32) -> f32 {
    let scale = canon(f32::from_bits(most) * (1.0 / 127.0));
    f32::from_bits(scale.to_bits().max(TINY))
}

/// Codes of a vector, and their scale.
#[inline(always)]
pub fn put(codes: &mut [i8], x: &[f32]) -> f32 {
    let scale = cache_scale(most(x));
    let inverse = rcp(scale);
    for (c, v) in codes.iter_mut().zip(x) {
        *c = code(*v, inverse) as i8;
    }
    scale
}

/// Attention of one query head over the vectors `seen` of the cache.
#[inline(always)]
pub fn attend(q: &[f32], cache: &Cache, seen: &[usize], heads: &Heads, out: &mut [f32]) {
    let unit = unit(most(q), heads.profile);
    let q: Vec<i16> = q.iter().map(|v| code(*v, pow2(-unit))).collect();
    let step = step(unit, heads);
    let score = |at: &usize| {
        let products = q
            .iter()
            .zip(cache.key(*at))
            .map(|(q, k)| i32::from(*q) * i32::from(*k));
        score(products.sum(), cache.key_scales[*at], step, heads)
    };
    let scores: Vec<f32> = seen.iter().map(score).collect();
    let top = scores.iter().fold(f32::MIN, |top, s| top.max(*s));
    let most = seen
        .iter()
        .fold(0.0_f32, |most, at| most.max(cache.value_scales[*at]));
    let inverse = rcp(most);
    let (mut total, mut sums) = (0_i64, vec![0_i64; out.len()]);
    for (scores, seen) in scores.chunks(EXACT).zip(seen.chunks(EXACT)) {
        let mut part = vec![0_i32; out.len()];
        for (s, at) in scores.iter().zip(seen) {
            let [p, w] = weigh(*s, top, cache.value_scales[*at], inverse);
            total += i64::from(p);
            part.iter_mut()
                .zip(cache.value(*at))
                .for_each(|(sum, v)| *sum += w * i32::from(*v));
        }
        sums.iter_mut()
            .zip(part)
            .for_each(|(sum, part)| *sum += i64::from(part));
    }
    finish(&sums, total, most, out);
}

/// What one unit of a query counts in scores.
#[inline(always)]
pub fn step(unit: i32, heads: &Heads) -> f32 {
    canon(pow2(unit) * heads.scale)
}

/// A score from its dot product, the key's scale and the query's [`step`].
#[inline(always)]
pub fn score(dot: i32, scale: f32, step: f32, heads: &Heads) -> f32 {
    let score = canon(canon(dot as f32 * scale) * step);
    if heads.cap == 0.0 {
        score
    } else {
        soft_cap(score, heads.cap, 2.0 / heads.cap)
    }
}

/// The weight of a position in the total, and in the sum of values; `inverse` is that of the largest scale of values.
#[inline(always)]
pub fn weigh(score: f32, top: f32, scale: f32, inverse: f32) -> [i32; 2] {
    let e = exp(canon(score - top)) * WEIGHT_ONE;
    [e, canon(e * canon(scale * inverse))].map(|e| (e + 0.5).floor() as i32)
}

/// The weighted mean from its integer sums.
#[inline(always)]
pub fn finish(sums: &[i64], total: i64, scale: f32, out: &mut [f32]) {
    let inverse = rcp(wide(total));
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = canon(canon(wide(*sum) * inverse) * scale);
    }
}
