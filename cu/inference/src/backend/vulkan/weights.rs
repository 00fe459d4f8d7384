//! Weight matrices on a device, in slabs that a binding can span, and the products with them.
//!
//! Not here: the arithmetic (`linear.wgsl`), products by tiles (`tiles.rs`). Invariant: a slab's codes, multipliers, offsets and exponents are those of
//! the same rows, in the order that the definition stores them.

use std::sync::Arc;

use crate::backend::vulkan::Vulkan;
use crate::backend::vulkan::gpu::Words;
use crate::backend::vulkan::operators::{Acts, Rows, Vector, wide};
use crate::backend::vulkan::shader::{KIND, TOKENS};
use crate::backend::vulkan::stream::{Kept, Stream, part};
use crate::backend::vulkan::tiles::{TOKENS_MAX, Tiled};
use crate::error::Error;
use crate::weight::{self, BLOCK, Width};

/// Bytes of codes in one slab: half of the smallest binding that Vulkan allows a device to stop at.
const SLAB_BYTES: usize = 64 << 20;
/// Rows of one slab: as many workgroups as the smallest axis allows.
const SLAB_ROWS: usize = 32768;

/// A resident matrix.
#[derive(Debug)]
pub struct Matrix {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) width: Width,
    /// That a weight has, multiplier times code less offset.
    pub(super) bytes: usize,
    pub(super) offsets: bool,
    pub(super) slabs: Vec<Slab>,
}

#[derive(Debug)]
pub(super) struct Slab {
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) codes: Kept,
    /// Multipliers, then offsets, two to a word; then exponents, one to a word.
    pub(super) scales: Kept,
    pub(super) offsets_at: usize,
    pub(super) exponents_at: usize,
}

/// 16-bit numbers, two to a word.
fn pairs(numbers: &[i16]) -> impl Iterator<Item = u32> {
    let low = |n: Option<&i16>| u32::from(n.copied().unwrap_or(0) as u16);
    numbers
        .chunks(2)
        .map(move |two| low(two.first()) | low(two.get(1)) << 16)
}

impl Matrix {
    /// Uploads a matrix.
    ///
    /// # Errors
    /// The device has no room, or failed.
    pub fn new(stream: &Arc<Stream>, w: &weight::Matrix) -> Result<Matrix, Error> {
        let most = (SLAB_BYTES / (w.blocks() * w.width.bytes())).clamp(1, SLAB_ROWS);
        let slabs = (0..w.rows)
            .step_by(most)
            .map(|first| Slab::new(stream, w, first, most.min(w.rows - first)));
        Ok(Matrix {
            rows: w.rows,
            cols: w.cols,
            width: w.width,
            bytes: if w.is_short() { 2 } else { 3 },
            offsets: !w.offsets.is_empty(),
            slabs: slabs.collect::<Result<_, _>>()?,
        })
    }
}

impl Slab {
    fn new(stream: &Arc<Stream>, w: &weight::Matrix, first: usize, rows: usize) -> Result<Slab, Error> {
        let per_row = |all: usize| all / w.rows;
        let of = |per_row: usize| first * per_row..(first + rows) * per_row;
        let codes = &w.codes[of(per_row(w.codes.len()))];
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let codes: Vec<u32> = codes.chunks_exact(4).map(word).collect();
        let mut scales: Vec<u32> = pairs(&w.multipliers[of(per_row(w.multipliers.len()))]).collect();
        let offsets_at = scales.len();
        scales.extend(pairs(&w.offsets[of(per_row(w.offsets.len()))]));
        let exponents_at = scales.len();
        scales.extend(w.exponents[of(1)].iter().map(|e| i32::from(*e) as u32));
        Ok(Slab {
            first,
            rows,
            codes: stream.resident(&codes)?,
            scales: stream.resident(&scales)?,
            offsets_at,
            exponents_at,
        })
    }
}

impl Vulkan {
    /// x times the matrix, plus the bias where there is one.
    pub(super) fn product(&self, w: &Matrix, x: &Acts, bias: Option<&Vector>) -> Rows {
        assert_eq!(w.cols, x.cols);
        let y = self.new_rows(x.rows, w.rows);
        let tile = self.tile(x.rows);
        let fit = self.rows_per_binding(w.rows.max(x.cols));
        let most = if tile.is_some() { fit.min(TOKENS_MAX) } else { fit };
        for at in (0..x.rows).step_by(most) {
            let tokens = [at, most.min(x.rows - at)];
            match tile {
                Some(tile) => self.tiled(&Tiled {
                    w,
                    x,
                    bias,
                    y: &y,
                    tokens,
                    tile,
                }),
                None => w
                    .slabs
                    .iter()
                    .for_each(|slab| self.slab_product(w, slab, x, bias, &y, tokens)),
            }
        }
        y
    }

    /// One slab of a matrix times `tokens` rows from `at`.
    fn slab_product(
        &self,
        w: &Matrix,
        slab: &Slab,
        x: &Acts,
        bias: Option<&Vector>,
        y: &Rows,
        [at, tokens]: [usize; 2],
    ) {
        let blocks = w.cols / BLOCK;
        let tile = if tokens == 1 { 1 } else { self.shaders.shape.tokens };
        let codes = |words: &Words| part(words, at * w.cols / 4, tokens * w.cols / 4);
        let low = codes(&x.low.words);
        let high = x.high.as_ref().map_or(low.clone(), |slot| codes(&slot.words));
        let facts = 1 + 2 * blocks;
        let facts = part(&x.facts.words, at * facts, tokens * facts);
        let out = part(&y.slot.words, at * w.rows, tokens * w.rows);
        let bias_words = bias.map_or(&self.nothing, |bias| &bias.kept.words);
        let offsets_at = if w.offsets { slab.offsets_at } else { 0 };
        let numbers = [
            blocks,
            slab.rows,
            tokens,
            w.rows,
            slab.first,
            offsets_at,
            slab.exponents_at,
        ];
        let values = [(TOKENS, tile), (KIND, w.width.bits()), wide(x.profile)];
        let bound = [
            &slab.codes.words,
            &slab.scales.words,
            &high,
            &low,
            &facts,
            bias_words,
            &out,
        ];
        let args = [&numbers.map(|n| n as u32)[..], &[u32::from(bias.is_some())]].concat();
        let groups = [
            (slab.rows as u32).div_ceil(self.shaders.teams()),
            (tokens as u32).div_ceil(tile),
            1,
        ];
        self.run("linear", &values, &bound, &args, groups);
    }
}

impl Width {
    /// Bits of a code, as `linear.wgsl` names the width.
    pub(super) fn bits(self) -> u32 {
        match self {
            Width::Eight => 8,
            Width::Six => 6,
            Width::Five => 5,
            Width::Four => 4,
        }
    }
}
