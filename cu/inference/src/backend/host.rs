//! The CPU behind the seam: the definition of `cpu.rs`, row after row.
//! Not here: what an operator means. Invariant: equal to the definition on every input.

use crate::Profile;
use crate::backend::cpu::{self, Acts, Cache};
use crate::backend::{Activation, Backend, Batch, CacheShape, Heads, Table};
use crate::error::Error;
use crate::math::{canon, gelu_erf, gelu_tanh, silu, soft_cap};
use crate::weight::Matrix;

/// The CPU as a backend.
#[derive(Debug, Clone, Default)]
pub struct Host {}

impl Host {
    /// The definition itself: no vector instructions, one thread.
    pub fn scalar() -> Host {
        Host {}
    }
}

/// Rows of a batch in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Numbers in a row.
    pub cols: usize,
    /// All rows.
    pub values: Vec<f32>,
}

impl Activation {
    /// The function.
    pub fn of(self) -> fn(f32) -> f32 {
        match self {
            Activation::Silu => silu,
            Activation::GeluTanh => gelu_tanh,
            Activation::GeluErf => gelu_erf,
        }
    }
}

impl Backend for Host {
    type Matrix = Matrix;
    type Vector = Vec<f32>;
    type Rows = Rows;
    type Acts = Acts;
    type Cache = Cache;

    fn name(&self) -> String {
        "cpu scalar".to_owned()
    }

    fn matrix(&self, matrix: &Matrix) -> Result<Matrix, Error> {
        Ok(matrix.clone())
    }

    fn vector(&self, values: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(values.to_vec())
    }

    fn cache(&self, shape: CacheShape) -> Result<Cache, Error> {
        Ok(Cache::new(shape))
    }

    fn rows(&self, cols: usize, values: Vec<f32>) -> Rows {
        assert!(cols > 0 && values.len().is_multiple_of(cols));
        Rows { cols, values }
    }

    fn read(&self, rows: &Rows) -> Result<Vec<f32>, Error> {
        Ok(rows.values.clone())
    }

    fn select(&self, x: &Rows, which: &[usize]) -> Rows {
        let values = which
            .iter()
            .flat_map(|row| &x.values[row * x.cols..][..x.cols])
            .copied()
            .collect();
        Rows { cols: x.cols, values }
    }

    fn quantise(&self, x: &Rows, profile: Profile) -> Acts {
        cpu::quantise(&x.values, x.cols, profile)
    }

    fn linear(&self, w: &Matrix, x: &Acts, bias: Option<&Vec<f32>>) -> Rows {
        assert_eq!(w.cols, x.cols);
        let mut values = vec![0.0; x.rows * w.rows];
        for (at, y) in values.chunks_exact_mut(w.rows).enumerate() {
            cpu::linear(w, x, at, bias.map(Vec::as_slice), y);
        }
        Rows { cols: w.rows, values }
    }

    fn rms_norm(&self, x: &Rows, gain: &Vec<f32>, eps: f32) -> Rows {
        assert!(x.cols.is_multiple_of(gain.len()));
        let mut values = vec![0.0; x.values.len()];
        for (x, y) in x
            .values
            .chunks_exact(gain.len())
            .zip(values.chunks_exact_mut(gain.len()))
        {
            cpu::rms_norm(x, gain, eps, y);
        }
        Rows { cols: x.cols, values }
    }

    fn layer_norm(&self, x: &Rows, gain: &Vec<f32>, bias: &Vec<f32>, eps: f32) -> Rows {
        assert!(x.cols == gain.len() && x.cols == bias.len());
        let mut values = vec![0.0; x.values.len()];
        for (x, y) in x.values.chunks_exact(x.cols).zip(values.chunks_exact_mut(x.cols)) {
            cpu::layer_norm(x, gain, bias, eps, y);
        }
        Rows { cols: x.cols, values }
    }

    fn add(&self, x: &mut Rows, y: &Rows) {
        assert_eq!(x.values.len(), y.values.len());
        for (x, y) in x.values.iter_mut().zip(&y.values) {
            *x = canon(*x + y);
        }
    }

    fn activate(&self, f: Activation, x: &mut Rows) {
        let f = f.of();
        x.values.iter_mut().for_each(|x| *x = f(*x));
    }

    fn gate(&self, f: Activation, x: &mut Rows, up: &Rows) {
        assert_eq!(x.values.len(), up.values.len());
        let f = f.of();
        for (x, up) in x.values.iter_mut().zip(&up.values) {
            *x = canon(f(*x) * up);
        }
    }

    fn soft_cap(&self, x: &mut Rows, cap: f32) {
        x.values
            .iter_mut()
            .for_each(|x| *x = soft_cap(*x, cap, 2.0 / cap));
    }

    fn rotate(&self, x: &mut Rows, dim: usize, table: &Table<'_, Vec<f32>>, batch: &Batch) {
        assert_eq!(x.values.len(), batch.places.len() * x.cols);
        for (row, place) in x.values.chunks_exact_mut(x.cols).zip(&batch.places) {
            let angles = &table.values[place.position as usize * table.dim..][..table.dim];
            for head in row.chunks_exact_mut(dim) {
                cpu::rotate(head, angles, table.pairs);
            }
        }
    }

    fn store(&self, cache: &mut Cache, layer: usize, keys: &Rows, values: &Rows, batch: &Batch) {
        let CacheShape { heads, dim, .. } = cache.shape;
        for (row, place) in batch.places.iter().enumerate() {
            let table = &batch.tables[place.sequence as usize];
            for head in 0..heads {
                let from = row * keys.cols + head * dim;
                let at = cache.at(layer, head, table, place.position as usize);
                cache.put(at, &keys.values[from..][..dim], &values.values[from..][..dim]);
            }
        }
    }

    fn attend(&self, q: &Rows, cache: &Cache, layer: usize, heads: &Heads, batch: &Batch) -> Rows {
        let mut out = vec![0.0; q.values.len()];
        let each = out
            .chunks_exact_mut(heads.dim)
            .zip(q.values.chunks_exact(heads.dim));
        for (index, (out, q)) in each.enumerate() {
            let place = &batch.places[index / heads.query];
            let table = &batch.tables[place.sequence as usize];
            let head = index % heads.query / (heads.query / heads.kv);
            let seen: Vec<usize> = (place.from..place.to)
                .map(|p| cache.at(layer, head, table, p as usize))
                .collect();
            cpu::attend(q, cache, &seen, heads, out);
        }
        Rows {
            cols: q.cols,
            values: out,
        }
    }
}
