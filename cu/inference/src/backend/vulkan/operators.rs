//! The operators on rows: the seam's calls turned into kernels, bindings and arguments.
//!
//! Not here: products (`weights.rs`), the cache (`attention.rs`). Invariant: every range bound is exactly as long as
//! the rows it stands for, which the assertions hold against the counts that the kernel is told.

use crate::Profile;
use crate::backend::vulkan::gpu::{Step, Words};
use crate::backend::vulkan::shader::{KIND, LAYER, WIDE};
use crate::backend::vulkan::stream::{Kept, Slot, part};
use crate::backend::vulkan::{Cache, Matrix, Vulkan};
use crate::backend::{Activation, Backend, Batch, CacheShape, Heads, Table};
use crate::error::Error;
use crate::rope::Pairs;
use crate::weight::{self, BLOCK};

/// Workgroups along the first axis where vectors are more than one axis may count.
const AXIS: usize = 32768;

/// f32 rows on the device.
#[derive(Debug)]
pub struct Rows {
    pub(super) slot: Slot,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

/// A resident vector.
#[derive(Debug)]
pub struct Vector {
    pub(super) kept: Kept,
    length: usize,
}

/// Quantised rows: bytes of codes, and per row its unit and each block's sum and shift.
#[derive(Debug)]
pub struct Acts {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) profile: Profile,
    pub(super) high: Option<Slot>,
    pub(super) low: Slot,
    pub(super) facts: Slot,
}

/// 1 for 16-bit activations.
pub fn wide(profile: Profile) -> (u32, u32) {
    (WIDE, u32::from(profile == Profile::A16))
}

impl Rows {
    pub(super) fn count(&self) -> usize {
        self.rows * self.cols
    }
}

impl Activation {
    /// Its number in `element.wgsl`.
    fn kind(self) -> u32 {
        match self {
            Activation::Silu => 1,
            Activation::GeluTanh => 2,
            Activation::GeluErf => 3,
        }
    }
}

impl Vulkan {
    pub(super) fn new_rows(&self, rows: usize, cols: usize) -> Rows {
        let slot = self.slot(rows * cols);
        Rows { slot, rows, cols }
    }

    /// One element-wise function over all of x, in as many bindings as it takes.
    fn element(&self, kind: u32, x: &Rows, y: Option<&Rows>, floats: [f32; 2]) {
        assert!(y.is_none_or(|y| y.count() == x.count()));
        let most = self.rows_per_binding(1);
        for at in (0..x.count()).step_by(most) {
            let len = most.min(x.count() - at);
            let y = y.map_or(self.nothing.clone(), |y| part(&y.slot.words, at, len));
            let args = [len as u32, floats[0].to_bits(), floats[1].to_bits()];
            let x = part(&x.slot.words, at, len);
            self.run("element", &[(KIND, kind)], &[&x, &y], &args, self.groups(len));
        }
    }

    /// A norm of each run of the gain's length.
    fn norm(&self, layer: u32, x: &Rows, gain: &Vector, bias: &Words, eps: f32) -> Rows {
        let n = gain.length;
        assert!(n <= crate::backend::cpu::NORM_MAX && x.cols.is_multiple_of(n));
        let y = self.new_rows(x.rows, x.cols);
        let most = self.rows_per_binding(n);
        let vectors = x.count() / n;
        for at in (0..vectors).step_by(most) {
            let count = most.min(vectors - at);
            let [from, to] = [x, &y].map(|rows| part(&rows.slot.words, at * n, count * n));
            let args = [n as u32, eps.to_bits(), (1.0 / n as f32).to_bits(), count as u32];
            let groups = [count.min(AXIS) as u32, count.div_ceil(AXIS) as u32, 1];
            self.run(
                "norm",
                &[(LAYER, layer)],
                &[&from, &gain.kept.words, bias, &to],
                &args,
                groups,
            );
        }
        y
    }
}

impl Backend for Vulkan {
    type Matrix = Matrix;
    type Vector = Vector;
    type Rows = Rows;
    type Acts = Acts;
    type Cache = Cache;

    fn name(&self) -> String {
        let facts = self.facts();
        format!("vulkan {} / {}", facts.name, facts.driver)
    }

    fn matrix(&self, matrix: &weight::Matrix) -> Result<Matrix, Error> {
        let widest = matrix.rows.max(matrix.cols);
        if self.rows_bound(widest) == 0 {
            let why = format!("rows of {widest} numbers are beyond its bindings; ask the CPU");
            return Err(self.stream.gpu.error(why));
        }
        Matrix::new(&self.stream, matrix)
    }

    fn vector(&self, values: &[f32]) -> Result<Vector, Error> {
        let words: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
        Ok(Vector {
            kept: self.stream.resident(&words)?,
            length: values.len(),
        })
    }

    fn cache(&self, shape: CacheShape) -> Result<Cache, Error> {
        Cache::new(&self.stream, shape)
    }

    fn rows(&self, cols: usize, values: Vec<f32>) -> Rows {
        assert!(cols > 0 && values.len().is_multiple_of(cols));
        let rows = self.new_rows(values.len() / cols, cols);
        if !values.is_empty() {
            let from = self.stream.upload(&mut values.iter().map(|v| v.to_bits()));
            let to = part(&rows.slot.words, 0, values.len());
            self.stream.push(Step::Copy(from, to));
        }
        rows
    }

    fn read(&self, rows: &Rows) -> Result<Vec<f32>, Error> {
        let words = self.stream.read(&rows.slot.words)?;
        let values = words.into_iter().take(rows.count());
        Ok(values.map(f32::from_bits).collect())
    }

    fn select(&self, x: &Rows, which: &[usize]) -> Rows {
        assert!(which.iter().all(|row| *row < x.rows));
        let y = self.new_rows(which.len(), x.cols);
        if y.count() > 0 {
            let which = self.stream.upload(&mut which.iter().map(|row| *row as u32));
            let args = [y.count() as u32, x.cols as u32];
            let bound = [&x.slot.words, &which, &y.slot.words];
            self.run("select", &[], &bound, &args, self.groups(y.count()));
        }
        y
    }

    fn quantise(&self, x: &Rows, profile: Profile) -> Acts {
        assert!(x.cols.is_multiple_of(BLOCK));
        let blocks = x.cols / BLOCK;
        let wide = wide(profile);
        let acts = Acts {
            rows: x.rows,
            cols: x.cols,
            profile,
            high: (wide.1 == 1).then(|| self.slot(x.count() / 4)),
            low: self.slot(x.count() / 4),
            facts: self.slot(x.rows * (1 + 2 * blocks)),
        };
        let high = acts.high.as_ref().map_or(&self.nothing, |slot| &slot.words);
        let bound = [&x.slot.words, high, &acts.low.words, &acts.facts.words];
        let args = [blocks as u32];
        if x.rows > 0 {
            self.run("quantise", &[wide], &bound, &args, [x.rows as u32, 1, 1]);
        }
        acts
    }

    fn linear(&self, w: &Matrix, x: &Acts, bias: Option<&Vector>) -> Rows {
        assert!(bias.is_none_or(|bias| bias.length == w.rows));
        self.product(w, x, bias)
    }

    fn rms_norm(&self, x: &Rows, gain: &Vector, eps: f32) -> Rows {
        self.norm(0, x, gain, &self.nothing, eps)
    }

    fn layer_norm(&self, x: &Rows, gain: &Vector, bias: &Vector, eps: f32) -> Rows {
        assert!(x.cols == gain.length && x.cols == bias.length);
        self.norm(1, x, gain, &bias.kept.words, eps)
    }

    fn add(&self, x: &mut Rows, y: &Rows) {
        self.element(0, x, Some(y), [0.0; 2]);
    }

    fn activate(&self, f: Activation, x: &mut Rows) {
        self.element(f.kind(), x, None, [0.0; 2]);
    }

    fn gate(&self, f: Activation, x: &mut Rows, up: &Rows) {
        self.element(8 + f.kind(), x, Some(up), [0.0; 2]);
    }

    fn soft_cap(&self, x: &mut Rows, cap: f32) {
        self.element(4, x, None, [cap, 2.0 / cap]);
    }

    fn rotate(&self, x: &mut Rows, dim: usize, table: &Table<'_, Vector>, batch: &Batch) {
        assert!(x.rows == batch.places.len() && x.cols.is_multiple_of(dim) && table.dim <= dim);
        let positions = table.values.length / table.dim;
        assert!(
            batch
                .places
                .iter()
                .all(|place| (place.position as usize) < positions)
        );
        let count = x.rows * (x.cols / dim) * (table.dim / 2);
        let adjacent = u32::from(table.pairs == Pairs::Adjacent);
        let args = [count, x.cols, dim, table.dim].map(|n| n as u32);
        let laid = self.lay(batch);
        let bound = [&x.slot.words, &table.values.kept.words, &laid.words];
        if count > 0 {
            self.run(
                "rotate",
                &[],
                &bound,
                &[&args[..], &[adjacent]].concat(),
                self.groups(count),
            );
        }
    }

    fn store(&self, cache: &mut Cache, layer: usize, keys: &Rows, values: &Rows, batch: &Batch) {
        self.put(cache, layer, [keys, values], batch);
    }

    fn attend(&self, q: &Rows, cache: &Cache, layer: usize, heads: &Heads, batch: &Batch) -> Rows {
        self.look(q, cache, layer, heads, batch)
    }
}
