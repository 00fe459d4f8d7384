//! The cache of keys and values on a device, the layout of a batch, and the two phases of attention.
//!
//! Not here: the arithmetic (`attend*.wgsl`, `store.wgsl`). Invariant: what changes from step to step is only in the
//! batch's words; the dispatches depend on its sizes, rounded up to powers of two, so most steps are replays.

use std::sync::Arc;

use crate::backend::vulkan::Vulkan;
use crate::backend::vulkan::gpu::{Step, Words};
use crate::backend::vulkan::operators::{Rows, wide};
use crate::backend::vulkan::stream::{Slot, Stream, part};
use crate::backend::{Batch, CacheShape, Heads, PAGE};
use crate::error::Error;

/// The largest head that the kernels' shared memory holds.
const DIM_MAX: usize = 512;

/// Keys and values of all layers.
#[derive(Debug)]
pub struct Cache {
    shape: CacheShape,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    keys: Slot,
    values: Slot,
    scales: Slot,
}

impl Cache {
    /// An empty cache.
    ///
    /// # Errors
    /// A layer beyond one binding of this device, no room, or the device failed.
    pub fn new(stream: &Arc<Stream>, shape: CacheShape) -> Result<Cache, Error> {
        let vectors = shape.pages * shape.heads * PAGE;
        let words = vectors * shape.dim.div_ceil(4);
        let limit = stream.gpu.facts.binding_bytes;
        if words as u64 * 4 > limit || shape.dim > DIM_MAX {
            // Of the device, not of the model: another answers.
            return Err(stream.gpu.error(format!(
                "a layer's keys are {} bytes in heads of {}, it binds {limit} and heads of {DIM_MAX}; fewer positions, \
                 or the CPU",
                words as u64 * 4,
                shape.dim
            )));
        }
        let layer = |_| {
            Ok(Layer {
                keys: stream.zeros(words)?,
                values: stream.zeros(words)?,
                scales: stream.zeros(2 * vectors)?,
            })
        };
        Ok(Cache {
            shape,
            layers: (0..shape.layers).map(layer).collect::<Result<_, Error>>()?,
        })
    }
}

/// A batch as words: places, four each, then page tables of one length.
pub(super) struct Laid {
    pub(super) words: Words,
    pages_at: u32,
    stride: u32,
}

impl Vulkan {
    pub(super) fn lay(&self, batch: &Batch) -> Laid {
        let longest = batch.tables.iter().map(Vec::len).max().unwrap_or(0);
        let stride = longest.max(1).next_power_of_two();
        let pages_at = batch.places.len() * 4;
        let mut words = Vec::with_capacity(pages_at + stride * batch.tables.len());
        for place in &batch.places {
            words.extend([place.sequence, place.position, place.from, place.to]);
        }
        for table in &batch.tables {
            words.extend(table);
            words.resize(words.len() + stride - table.len(), 0);
        }
        Laid {
            words: self.stream.upload_repeated(words),
            pages_at: pages_at as u32,
            stride: stride as u32,
        }
    }

    pub(super) fn put(&self, cache: &Cache, layer: usize, parts: [&Rows; 2], batch: &Batch) {
        let CacheShape { heads, dim, .. } = cache.shape;
        assert!(
            parts
                .iter()
                .all(|rows| rows.rows == batch.places.len() && rows.cols >= heads * dim)
        );
        check(cache, batch, |place| place.position + 1);
        let laid = self.lay(batch);
        let layer = &cache.layers[layer];
        for (which, (rows, codes)) in parts.into_iter().zip([&layer.keys, &layer.values]).enumerate() {
            let numbers = [heads, dim, rows.cols].map(|n| n as u32);
            let args = [&numbers[..], &[laid.pages_at, laid.stride, which as u32]].concat();
            let bound = [&rows.slot.words, &codes.words, &layer.scales.words, &laid.words];
            if rows.rows > 0 {
                self.run("store", &[], &bound, &args, [heads as u32, rows.rows as u32, 1]);
            }
        }
    }

    pub(super) fn look(&self, q: &Rows, cache: &Cache, layer: usize, heads: &Heads, batch: &Batch) -> Rows {
        assert!(heads.dim == cache.shape.dim && heads.kv == cache.shape.heads);
        assert!(q.cols == heads.query * heads.dim && q.rows == batch.places.len());
        check(cache, batch, |place| place.to);
        let y = self.new_rows(q.rows, q.cols);
        let record = heads.query * (4 + 2 * heads.dim);
        let most = self.rows_per_binding(record);
        for at in (0..q.rows).step_by(most) {
            let count = most.min(q.rows - at);
            let [from, to] = [q, &y].map(|rows| part(&rows.slot.words, at * q.cols, count * q.cols));
            let places = batch.places[at..at + count].to_vec();
            let tables = batch.tables.clone();
            self.phases(&from, &to, &cache.layers[layer], heads, &Batch { places, tables });
        }
        y
    }

    /// Both phases and the end, for rows whose records one binding holds.
    fn phases(&self, q: &Words, y: &Words, layer: &Layer, heads: &Heads, batch: &Batch) {
        let rows = batch.places.len();
        let sums = self.slot(rows * heads.query * (4 + 2 * heads.dim));
        self.stream.push(Step::Zero(sums.words.clone()));
        let laid = self.lay(batch);
        let seen = batch
            .places
            .iter()
            .map(|place| place.to - place.from)
            .max()
            .unwrap_or(1);
        let spans = seen.div_ceil(self.shaders.shape.workgroup).next_power_of_two();
        let spans = spans.min(self.shaders.shape.spans);
        let group = heads.query / heads.kv;
        let numbers = [heads.query, group, heads.dim].map(|n| n as u32);
        let inverse = if heads.cap == 0.0 { 0.0 } else { 2.0 / heads.cap };
        let floats = [heads.scale, heads.cap, inverse].map(f32::to_bits);
        let args = [&numbers[..], &[laid.pages_at, laid.stride, spans], &floats].concat();
        let groups = [spans, heads.query as u32, rows as u32];
        let mut bound = vec![
            q,
            &layer.keys.words,
            &layer.scales.words,
            &laid.words,
            &sums.words,
        ];
        self.run("attend_top", &[wide(heads.profile)], &bound, &args, groups);
        bound.push(&layer.values.words);
        self.run("attend_sum", &[wide(heads.profile)], &bound, &args, groups);
        let count = rows * heads.query * heads.dim;
        let args = [count as u32, heads.dim as u32];
        self.run("attend_end", &[], &[&sums.words, y], &args, self.groups(count));
    }
}

/// Asserts that every page that a row touches is in its table and in the cache.
fn check(cache: &Cache, batch: &Batch, end: impl Fn(&crate::backend::Place) -> u32) {
    for place in &batch.places {
        let table = &batch.tables[place.sequence as usize];
        assert!(
            end(place) as usize <= table.len() * PAGE,
            "a position beyond its pages"
        );
    }
    let pages = batch.tables.iter().flatten();
    assert!(pages.into_iter().all(|page| (*page as usize) < cache.shape.pages));
}
