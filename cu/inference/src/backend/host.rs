//! The CPU behind the seam: the definition of `cpu.rs` on the threads and vector units there are.
//! Not here: what an operator means. Invariant: equal to the definition on every input, at every level and thread count.

use std::sync::Arc;

use crate::Profile;
use crate::backend::cpu::{self, Cache};
use crate::backend::crew::Crew;
use crate::backend::pack::Packed;
use crate::backend::room::Room;
use crate::backend::rows::{Acts, Rows, Weights};
use crate::backend::vector::{self, Level, Share};
use crate::backend::{Activation, Backend, Batch, CacheShape, Heads, Table};
use crate::error::Error;
use crate::weight::Matrix;

/// Half of a core's second cache, as processors with vector units of 512 bits have it.
const NEAR: usize = 1 << 20;

/// The CPU as a backend.
#[derive(Clone)]
pub struct Host {
    level: Level,
    crew: Arc<Crew>,
    room: Arc<Room>,
}

impl Host {
    /// The definition itself: no vector instructions, one thread.
    pub fn scalar() -> Host {
        Host::new(Level::Scalar, 1)
    }

    /// Instructions up to a level, as far as the processor has them, on that many threads.
    pub fn new(level: Level, threads: usize) -> Host {
        Host {
            level: level.min(Level::best()),
            crew: Arc::new(Crew::new(threads)),
            room: Arc::new(Room::default()),
        }
    }

    /// The instructions it uses.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Runs `job` on every row of `cols` numbers, with its index, on all threads: some rows at a time on each.
    fn share(&self, out: &mut [f32], cols: usize, job: impl Fn(usize, &mut [f32]) + Sync) {
        let rows = |first: usize, out: &mut [f32]| {
            for (at, out) in out.chunks_mut(cols).enumerate() {
                job(first + at, out);
            }
        };
        if self.crew.threads() == 1 || out.len() <= cols {
            return rows(0, out);
        }
        vector::split_rows(out, cols, &*self.crew, rows);
    }
}

impl Share for Crew {
    fn threads(&self) -> usize {
        Crew::threads(self)
    }

    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        Crew::run(self, parts, job);
    }
}

impl Backend for Host {
    type Matrix = Weights;
    type Vector = Vec<f32>;
    type Rows = Rows;
    type Acts = Acts;
    type Cache = Cache;

    fn name(&self) -> String {
        format!("cpu {:?}, {} threads", self.level, self.crew.threads()).to_lowercase()
    }

    fn near(&self) -> usize {
        NEAR * self.crew.threads()
    }

    fn shares(&self) -> usize {
        self.crew.threads()
    }

    fn apart(&self, jobs: usize, job: &(dyn Fn(&Host, usize) + Sync)) {
        // Of the crew's threads each is now busy with a job of its own, so a job has but the one it runs on.
        let alone = Host {
            level: self.level,
            crew: Arc::new(Crew::new(1)),
            room: Arc::clone(&self.room),
        };
        self.crew.run(jobs, |at| job(&alone, at));
    }

    fn matrix(&self, matrix: &Matrix) -> Result<Weights, Error> {
        matrix.check()?;
        Ok(match self.level {
            Level::Scalar => Weights::Plain(matrix.clone()),
            _ => Weights::Packed(Packed::new(matrix, &self.room)),
        })
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

    fn take(&self, rows: Rows) -> Result<Vec<f32>, Error> {
        Ok(rows.values)
    }

    fn select(&self, x: &Rows, which: &[usize]) -> Rows {
        let mut values = Vec::with_capacity(which.len() * x.cols);
        for row in which {
            values.extend_from_slice(&x.values[row * x.cols..][..x.cols]);
        }
        Rows { cols: x.cols, values }
    }

    fn quantise(&self, x: &Rows, profile: Profile) -> Acts {
        vector::quantise(self.level, x, profile, &*self.crew)
    }

    fn linear(&self, w: &Weights, x: &Acts, bias: Option<&Vec<f32>>) -> Rows {
        let bias = bias.map(Vec::as_slice);
        match (w, x) {
            (Weights::Packed(w), x) => Rows {
                cols: w.rows,
                values: vector::linear(self.level, w, x, (bias, None), &*self.crew),
            },
            (Weights::Plain(w), Acts::Plain(x)) => {
                assert_eq!(w.cols, x.cols);
                let mut values = vec![0.0; x.rows * w.rows];
                self.share(&mut values, w.rows, |at, y| cpu::linear(w, x, at, bias, y));
                Rows { cols: w.rows, values }
            }
            _ => unreachable!("matrix and activations are of one host"),
        }
    }

    fn linear_activated(&self, w: &Weights, x: &Acts, bias: Option<&Vec<f32>>, f: Activation) -> Rows {
        let Weights::Packed(w) = w else {
            let mut y = self.linear(w, x, bias);
            self.activate(f, &mut y);
            return y;
        };
        let then = (bias.map(Vec::as_slice), Some(f));
        Rows {
            cols: w.rows,
            values: vector::linear(self.level, w, x, then, &*self.crew),
        }
    }

    fn rms_norm(&self, x: &Rows, gain: &Vec<f32>, eps: f32) -> Rows {
        assert!(x.cols.is_multiple_of(gain.len()));
        let mut values = vec![0.0; x.values.len()];
        self.share(&mut values, x.cols, |row, y| {
            vector::rms_norm(self.level, &x.values[row * x.cols..][..x.cols], gain, eps, y);
        });
        Rows { cols: x.cols, values }
    }

    fn layer_norm(&self, x: &Rows, gain: &Vec<f32>, bias: &Vec<f32>, eps: f32) -> Rows {
        assert!(x.cols == gain.len() && x.cols == bias.len());
        let mut values = vec![0.0; x.values.len()];
        self.share(&mut values, x.cols, |row, y| {
            vector::layer_norm(
                self.level,
                &x.values[row * x.cols..][..x.cols],
                gain,
                bias,
                eps,
                y,
            );
        });
        Rows { cols: x.cols, values }
    }

    fn add_layer_norm(&self, mut x: Rows, y: &Rows, gain: &Vec<f32>, bias: &Vec<f32>, eps: f32) -> Rows {
        assert!(x.values.len() == y.values.len() && x.cols == gain.len() && x.cols == bias.len());
        let cols = x.cols;
        self.share(&mut x.values, cols, |row, x| {
            vector::add(self.level, x, &y.values[row * cols..][..cols]);
            vector::layer_norm_in_place(self.level, x, gain, bias, eps);
        });
        x
    }

    fn add(&self, x: &mut Rows, y: &Rows) {
        assert_eq!(x.values.len(), y.values.len());
        let cols = x.cols;
        self.share(&mut x.values, cols, |row, x| {
            vector::add(self.level, x, &y.values[row * cols..][..cols])
        });
    }

    fn activate(&self, f: Activation, x: &mut Rows) {
        let cols = x.cols;
        self.share(&mut x.values, cols, |_, x| vector::activate(self.level, f, x));
    }

    fn gate(&self, f: Activation, x: &mut Rows, up: &Rows) {
        assert_eq!(x.values.len(), up.values.len());
        let cols = x.cols;
        self.share(&mut x.values, cols, |row, x| {
            vector::gate(self.level, f, x, &up.values[row * cols..][..cols])
        });
    }

    fn soft_cap(&self, x: &mut Rows, cap: f32) {
        let cols = x.cols;
        self.share(&mut x.values, cols, |_, x| vector::soft_cap(self.level, x, cap));
    }

    fn rotate(&self, x: &mut Rows, dim: usize, table: &Table<'_, Vec<f32>>, batch: &Batch) {
        assert_eq!(x.values.len(), batch.places.len() * x.cols);
        let cols = x.cols;
        self.share(&mut x.values, cols, |row, x| {
            let angles = &table.values[batch.places[row].position as usize * table.dim..][..table.dim];
            vector::rotate(self.level, x, dim, angles, table.pairs);
        });
    }

    fn store(&self, cache: &mut Cache, layer: usize, keys: &Rows, values: &Rows, batch: &Batch) {
        vector::store(self.level, (cache, layer), keys, values, batch, &*self.crew);
    }

    fn attend(&self, q: &Rows, cache: &Cache, layer: usize, heads: &Heads, batch: &Batch) -> Rows {
        Rows {
            cols: q.cols,
            values: vector::attend(self.level, q, (cache, layer), heads, batch, &*self.crew),
        }
    }
}
