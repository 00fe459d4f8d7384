//! The seam between a model's graph and what computes it: the operators of DIN-1, row by row.
//!
//! The graph hands whole batches of rows; a backend may compute them in any order, tiling or place. Not here: what
//! the operators mean (`cpu.rs`, `spec/inference.md`). Invariant: for equal inputs every backend gives equal bits, so
//! nothing on this side can tell which one is behind the seam.

#[cfg(target_arch = "aarch64")]
mod arm;
pub mod conformance;
pub mod cpu;
mod crew;
mod host;
mod pack;
mod room;
mod rows;
mod vector;
#[cfg(feature = "vulkan")]
pub mod vulkan;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use host::Host;
pub use vector::Level;

use crate::Profile;
use crate::error::Error;
use crate::rope::Pairs;
use crate::weight::Matrix;

/// Positions that one page of the cache holds.
pub const PAGE: usize = 32;

/// An element-wise function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// [`crate::math::silu`].
    Silu,
    /// [`crate::math::gelu_tanh`].
    GeluTanh,
    /// [`crate::math::gelu_erf`].
    GeluErf,
}

/// Where one row of a batch stands: in which sequence, at which position, and which positions it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index into the batch's page tables.
    pub sequence: u32,
    /// The row's own position.
    pub position: u32,
    /// The first position it sees.
    pub from: u32,
    /// One past the last position it sees.
    pub to: u32,
}

/// A batch: a place per row, and per sequence the pages that hold its positions, [`PAGE`] each, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// One per row.
    pub places: Vec<Place>,
    /// One per sequence.
    pub tables: Vec<Vec<u32>>,
}

/// The heads of one attention operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads; a multiple of `kv`.
    pub query: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Numbers in a head, to 512.
    pub dim: usize,
    /// What a score is multiplied by.
    pub scale: f32,
    /// Soft cap of scores, 0 for none.
    pub cap: f32,
    /// How queries are quantised.
    pub profile: Profile,
}

/// The size of a key and value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// Layers.
    pub layers: usize,
    /// Key and value heads of a layer.
    pub heads: usize,
    /// Numbers in a head.
    pub dim: usize,
    /// Pages of [`PAGE`] positions.
    pub pages: usize,
}

impl CacheShape {
    /// Bytes a cache of this shape takes on the CPU.
    pub fn bytes(&self) -> usize {
        self.layers * self.pages * self.heads * PAGE * 2 * (self.dim + size_of::<f32>())
    }
}

/// What computes. Operators take rows and give rows; a device may only record them until [`Backend::read`].
/// Shapes that do not fit are errors of the caller and panic.
pub trait Backend: Send + Sync + 'static {
    /// A weight matrix, resident.
    type Matrix: Send + Sync;
    /// A vector of f32 on the grid, resident: gains, biases, position tables.
    type Vector: Send + Sync;
    /// f32 rows of a batch.
    type Rows: Send;
    /// Quantised rows.
    type Acts: Send;
    /// Keys and values of all layers.
    type Cache: Send;

    /// The device and driver, for people and receipts.
    fn name(&self) -> String;

    /// Bytes that rows had better stay within, so that an operator finds near by what the one before it left.
    fn near(&self) -> usize {
        usize::MAX
    }

    /// How many jobs it computes side by side when each has a share of it to itself; 1 where there are no shares.
    fn shares(&self) -> usize {
        1
    }

    /// Runs jobs 0 to `jobs` - 1, which do not wait for each other, each on a share of the backend.
    ///
    /// # Panics
    /// If a job did.
    fn apart(&self, jobs: usize, job: &(dyn Fn(&Self, usize) + Sync)) {
        (0..jobs).for_each(|at| job(self, at));
    }

    /// Makes a matrix resident.
    ///
    /// # Errors
    /// The device has no room, or failed.
    fn matrix(&self, matrix: &Matrix) -> Result<Self::Matrix, Error>;

    /// Makes a vector resident.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn vector(&self, values: &[f32]) -> Result<Self::Vector, Error>;

    /// Makes an empty cache.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn cache(&self, shape: CacheShape) -> Result<Self::Cache, Error>;

    /// Rows from numbers on the grid.
    fn rows(&self, cols: usize, values: Vec<f32>) -> Self::Rows;

    /// The numbers of rows, after everything before has been computed.
    ///
    /// # Errors
    /// The device failed or was lost; the rows are gone.
    fn read(&self, rows: &Self::Rows) -> Result<Vec<f32>, Error>;

    /// As [`Backend::read`], of rows that nobody needs any more: where they are in memory already, nothing is copied.
    ///
    /// # Errors
    /// As [`Backend::read`].
    fn take(&self, rows: Self::Rows) -> Result<Vec<f32>, Error> {
        self.read(&rows)
    }

    /// A copy of some rows, in the order given.
    fn select(&self, x: &Self::Rows, which: &[usize]) -> Self::Rows;

    /// Quantises each row.
    fn quantise(&self, x: &Self::Rows, profile: Profile) -> Self::Acts;

    /// x times the matrix, plus the bias where there is one: one output per matrix row.
    fn linear(&self, w: &Self::Matrix, x: &Self::Acts, bias: Option<&Self::Vector>) -> Self::Rows;

    /// [`Backend::linear`], then [`Backend::activate`].
    fn linear_activated(
        &self,
        w: &Self::Matrix,
        x: &Self::Acts,
        bias: Option<&Self::Vector>,
        f: Activation,
    ) -> Self::Rows {
        let mut y = self.linear(w, x, bias);
        self.activate(f, &mut y);
        y
    }

    /// RMS norm of each run of `gain`'s length in each row.
    fn rms_norm(&self, x: &Self::Rows, gain: &Self::Vector, eps: f32) -> Self::Rows;

    /// Layer norm of each row.
    fn layer_norm(&self, x: &Self::Rows, gain: &Self::Vector, bias: &Self::Vector, eps: f32) -> Self::Rows;

    /// [`Backend::layer_norm`] of x + y.
    fn add_layer_norm(
        &self,
        mut x: Self::Rows,
        y: &Self::Rows,
        gain: &Self::Vector,
        bias: &Self::Vector,
        eps: f32,
    ) -> Self::Rows {
        self.add(&mut x, y);
        self.layer_norm(&x, gain, bias, eps)
    }

    /// x += y.
    fn add(&self, x: &mut Self::Rows, y: &Self::Rows);

    /// x = f(x).
    fn activate(&self, f: Activation, x: &mut Self::Rows);

    /// x = f(x) * up.
    fn gate(&self, f: Activation, x: &mut Self::Rows, up: &Self::Rows);

    /// x = cap tanh(x / cap).
    fn soft_cap(&self, x: &mut Self::Rows, cap: f32);

    /// Rotates each head of `dim` numbers by the row's position; `table` holds [`crate::rope::row`] of every position.
    /// Numbers of a head beyond the table's are left as they are.
    fn rotate(&self, x: &mut Self::Rows, dim: usize, table: &Table<'_, Self::Vector>, batch: &Batch);

    /// Quantises keys and values and puts them at the rows' positions.
    fn store(
        &self,
        cache: &mut Self::Cache,
        layer: usize,
        keys: &Self::Rows,
        values: &Self::Rows,
        batch: &Batch,
    );

    /// Attention of each row over the positions it sees.
    fn attend(
        &self,
        q: &Self::Rows,
        cache: &Self::Cache,
        layer: usize,
        heads: &Heads,
        batch: &Batch,
    ) -> Self::Rows;
}

/// A resident position table.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a, V> {
    /// cos, sin of every pair of every position.
    pub values: &'a V,
    /// Numbers of a head that are rotated.
    pub dim: usize,
    /// How they are paired.
    pub pairs: Pairs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_takes_as_much_as_its_shape_says() {
        let shape = CacheShape {
            layers: 3,
            heads: 2,
            dim: 64,
            pages: 5,
        };
        let cache = cpu::Cache::new(shape);
        let scales = size_of_val(&cache.key_scales[..]) + size_of_val(&cache.value_scales[..]);
        assert_eq!(shape.bytes(), cache.keys.len() + cache.values.len() + scales);
    }
}
