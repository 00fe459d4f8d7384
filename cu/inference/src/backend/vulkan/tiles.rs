//! Products of many rows by cooperative matrices: both sides as bytes in tiles, multiplied, put together again.
//!
//! Not here: the arithmetic (`spread_*.wgsl`, `multiply.wgsl`, `finish.wgsl`), which devices can (`cooperative.rs`).
//! Invariant: bytes and sums lie in short-lived memory of whole tiles, so no matrix reaches beyond its range.

use crate::backend::vulkan::Vulkan;
use crate::backend::vulkan::cooperative::Tile;
use crate::backend::vulkan::operators::{Acts, Rows, Vector, wide};
use crate::backend::vulkan::shader::{BYTES, KIND, STEP, TILE_ROWS, TILE_TOKENS};
use crate::backend::vulkan::stream::{Slot, part};
use crate::backend::vulkan::weights::{Matrix, Slab};
use crate::weight::BLOCK;

/// Rows of activations from which on making bytes of the weights is worth it.
const MANY: usize = 32;
/// Rows of activations in one go; a multiple of what bindings are aligned to.
pub(super) const TOKENS_MAX: usize = 1024;
/// Bytes of weights that are made at a time, and of sums.
const BYTES_MAX: usize = 32 << 20;
const SUM_BYTES_MAX: usize = 64 << 20;

/// A product that goes by tiles.
pub(super) struct Tiled<'a> {
    pub(super) w: &'a Matrix,
    pub(super) x: &'a Acts,
    pub(super) bias: Option<&'a Vector>,
    pub(super) y: &'a Rows,
    /// The first of the rows of activations and how many.
    pub(super) tokens: [usize; 2],
    pub(super) tile: Tile,
}

/// Rows of activations as bytes.
struct Spread {
    tiles: Slot,
    /// The sum of each row.
    totals: Slot,
    /// Pairs of tiles.
    pairs: usize,
}

impl Tiled<'_> {
    fn blocks(&self) -> usize {
        self.w.cols / BLOCK
    }

    /// Rows of a slab that are done at a time, in whole tiles.
    fn most(&self, pairs: usize) -> usize {
        let by_bytes = BYTES_MAX / (self.w.bytes * self.w.cols);
        let by_sums = SUM_BYTES_MAX / (16 * 2 * pairs * self.tile.tokens);
        (by_bytes.min(by_sums) / self.tile.rows).max(1) * self.tile.rows
    }

    /// The tile's sizes for kernels.
    fn sizes(&self) -> [(u32, u32); 3] {
        let Tile { rows, tokens, step } = self.tile;
        [(TILE_ROWS, rows), (TILE_TOKENS, tokens), (STEP, step)].map(|(mark, size)| (mark, size as u32))
    }

    fn bytes(&self) -> (u32, u32) {
        (BYTES, self.w.bytes as u32)
    }

    /// The range of words of this product's rows in memory with so many words a row.
    fn range(&self, words: usize) -> [usize; 2] {
        self.tokens.map(|n| n * words)
    }
}

impl Vulkan {
    /// The tile by which a product of so many rows goes, if it does.
    pub(super) fn tile(&self, rows: usize) -> Option<Tile> {
        let shape = self.shaders.shape;
        let wanted = shape.tiles && !shape.soft && rows >= MANY;
        self.facts().tile.filter(|_| wanted)
    }

    /// One product by tiles.
    pub(super) fn tiled(&self, p: &Tiled<'_>) {
        assert!(p.tokens[1] <= TOKENS_MAX);
        let spread = self.spread_tokens(p);
        let most = p.most(spread.pairs);
        for slab in &p.w.slabs {
            for first in (0..slab.rows).step_by(most) {
                self.multiply(p, slab, &spread, [first, most.min(slab.rows - first)]);
            }
        }
    }

    fn spread_tokens(&self, p: &Tiled<'_>) -> Spread {
        let pairs = p.tokens[1].div_ceil(2 * p.tile.tokens);
        let rows = pairs * 2 * p.tile.tokens;
        let spread = Spread {
            tiles: self.slot(rows * p.w.cols / 2),
            totals: self.slot(rows),
            pairs,
        };
        let codes = |slot: &Slot| {
            let [at, len] = p.range(p.w.cols / 4);
            part(&slot.words, at, len)
        };
        let low = codes(&p.x.low);
        let high = p.x.high.as_ref().map_or(low.clone(), codes);
        let [at, len] = p.range(1 + 2 * p.blocks());
        let facts = part(&p.x.facts.words, at, len);
        let [_, tokens, step] = p.sizes();
        self.run(
            "spread_tokens",
            &[wide(p.x.profile), tokens, step],
            &[&high, &low, &facts, &spread.tiles.words, &spread.totals.words],
            &[p.blocks(), p.tokens[1]].map(|n| n as u32),
            [rows as u32, 1, 1],
        );
        spread
    }

    /// Some rows of a slab.
    fn multiply(&self, p: &Tiled<'_>, slab: &Slab, spread: &Spread, [first, rows]: [usize; 2]) {
        let row_tiles = rows.div_ceil(p.tile.rows);
        let words = row_tiles * p.tile.rows * p.w.cols / 4;
        let weights = self.slot(words * p.w.bytes);
        let offsets = if p.w.offsets { slab.offsets_at } else { 0 };
        let [tile_rows, _, step] = p.sizes();
        self.run(
            "spread_weights",
            &[(KIND, p.w.width.bits()), tile_rows, step, p.bytes()],
            &[&slab.codes.words, &slab.scales.words, &weights.words],
            &[p.blocks(), rows, first, offsets, words].map(|n| n as u32),
            self.groups(words),
        );
        let tiles = 2 * spread.pairs * row_tiles;
        let sums = self.slot(tiles * 4 * p.tile.rows * p.tile.tokens);
        self.run(
            "multiply",
            &p.sizes(),
            &[&weights.words, &spread.tiles.words, &sums.words],
            &[p.w.cols / p.tile.step, row_tiles, p.w.bytes].map(|n| n as u32),
            [row_tiles as u32, spread.pairs as u32, 1],
        );
        self.finish(p, slab, [first, rows], [&sums, &spread.totals]);
    }

    /// The outputs of some rows of a slab.
    fn finish(&self, p: &Tiled<'_>, slab: &Slab, [first, rows]: [usize; 2], [sums, totals]: [&Slot; 2]) {
        let stride = 1 + 2 * p.blocks();
        let [facts_at, facts_len] = p.range(stride);
        let facts = part(&p.x.facts.words, facts_at, facts_len);
        let [out_at, out_len] = p.range(p.w.rows);
        let out = part(&p.y.slot.words, out_at, out_len);
        let bias = p.bias.map_or(&self.nothing, |bias| &bias.kept.words);
        let [tile_rows, tile_tokens, _] = p.sizes();
        let numbers = [
            rows,
            p.tokens[1],
            p.w.rows,
            slab.first + first,
            slab.exponents_at + first,
            usize::from(p.bias.is_some()),
            stride,
            rows.div_ceil(p.tile.rows),
        ];
        self.run(
            "finish",
            &[tile_rows, tile_tokens, p.bytes()],
            &[&sums.words, &totals.words, &slab.scales.words, &facts, bias, &out],
            &numbers.map(|n| n as u32),
            self.groups(rows * p.tokens[1]),
        );
    }
}
