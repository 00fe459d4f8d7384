//! Weights and activations laid out for vector units: sixteen matrix rows side by side, four columns of each in one
//! 32-bit lane. Not here: arithmetic. Invariant: packing loses nothing, so kernels compute what the definition does.

use crate::Profile;
use crate::backend::cpu::Acts;
use crate::weight::{BLOCK, Matrix, Width};

/// Matrix rows in a tile: one lane each.
pub const TILE: usize = 16;

/// A cache line of codes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

/// A matrix in tiles; rows beyond the last are zero.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Width of the codes.
    pub width: Width,
    /// Tile by tile, block by block: 8 lines of bytes (code + 128), or 4 of nibbles (code + 8; the first four groups
    /// of four columns low, the others high). Byte 4 r + i of a line is column i of its group in row r.
    pub codes: Vec<Line>,
    /// Tile by tile, block by block: a multiplier per row; for width 6 those of all first halves, then of the second.
    pub multipliers: Vec<[i16; TILE]>,
    /// Offsets in the same order, or none.
    pub offsets: Vec<[i16; TILE]>,
    /// Exponents of rows, in whole tiles.
    pub exponents: Vec<i16>,
}

impl Packed {
    /// Packs a matrix.
    pub fn new(matrix: &Matrix) -> Packed {
        let (tiles, blocks) = (matrix.rows.div_ceil(TILE), matrix.blocks());
        let mut packed = Packed {
            rows: matrix.rows,
            cols: matrix.cols,
            width: matrix.width,
            codes: Vec::with_capacity(tiles * blocks * lines(matrix.width)),
            multipliers: Vec::with_capacity(tiles * blocks * matrix.width.multipliers()),
            offsets: Vec::new(),
            exponents: matrix.exponents.clone(),
        };
        packed.exponents.resize(tiles * TILE, 0);
        for (tile, block) in (0..tiles).flat_map(|tile| (0..blocks).map(move |block| (tile, block))) {
            packed.push(matrix, tile * TILE, block);
        }
        packed
    }

    fn push(&mut self, matrix: &Matrix, first: usize, block: usize) {
        let code = |row: usize, k: usize, bias: i32| match first + row < matrix.rows {
            true => (matrix.code(first + row, block * BLOCK + k) + bias) as u8,
            false => bias as u8,
        };
        let line = |byte: &dyn Fn(usize, usize) -> u8| Line(std::array::from_fn(|at| byte(at / 4, at % 4)));
        match matrix.width {
            Width::Four => self.codes.extend((0..4).map(|group| {
                line(&|row, i| code(row, 4 * group + i, 8) | code(row, 16 + 4 * group + i, 8) << 4)
            })),
            _ => self
                .codes
                .extend((0..8).map(|group| line(&|row, i| code(row, 4 * group + i, 128)))),
        }
        let lanes = |values: &[i16], per_block: usize, half: usize| {
            std::array::from_fn(|row| match first + row < matrix.rows {
                true => values[((first + row) * matrix.blocks() + block) * per_block + half],
                false => 0,
            })
        };
        let halves = matrix.width.multipliers();
        self.multipliers
            .extend((0..halves).map(|half| lanes(&matrix.multipliers, halves, half)));
        if !matrix.offsets.is_empty() {
            self.offsets.push(lanes(&matrix.offsets, 1, 0));
        }
    }

    /// Blocks in a row.
    pub fn blocks(&self) -> usize {
        self.cols / BLOCK
    }

    /// Tiles of rows.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// What a stored code is above the code.
    pub fn bias(&self) -> i32 {
        if self.width == Width::Four { 8 } else { 128 }
    }

    /// Bits dropped from a block's dot product.
    pub fn drop_bits(&self, profile: Profile) -> u32 {
        if profile == Profile::A16 {
            self.width.drop_bits()
        } else {
            0
        }
    }
}

/// Lines that a block of a tile takes.
pub fn lines(width: Width) -> usize {
    if width == Width::Four { 4 } else { 8 }
}

/// Tokens in a full tile of activations.
pub const TOKENS: usize = 8;

/// Activations in tiles of 8, 4, 2 and 1 tokens: four codes of each token of a tile side by side.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// The activations as the definition has them.
    pub acts: Acts,
    /// Tile by tile, block by block, group of four columns by group, token by token: a lane of four high bytes (only
    /// where codes have 16 bits) and a lane of four low bytes; code = 256 high + low.
    pub lanes: Vec<i32>,
    /// Tile by tile, block by block, token by token.
    pub marks: Vec<Mark>,
}

/// What a block of a token's activations adds to its dot products.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Mark {
    /// -128 times the sum of the codes, of the whole block and of its halves.
    pub starts: [i32; 3],
    /// The right shift of the block's term.
    pub shift: i32,
}

/// Tokens of the tile that begins at `first`.
#[inline(always)]
pub fn tile_tokens(first: usize, tokens: usize) -> usize {
    match tokens - first {
        TOKENS.. => TOKENS,
        left => 1 << left.ilog2(),
    }
}

/// Lanes that a group of four columns of one token takes.
#[inline(always)]
pub fn lanes_per_group(profile: Profile) -> usize {
    if profile == Profile::A16 { 2 } else { 1 }
}

impl Lanes {
    /// Lays activations out.
    #[inline(always)]
    pub fn new(acts: Acts) -> Lanes {
        let (blocks, per_group) = (acts.cols / BLOCK, lanes_per_group(acts.profile));
        let mut lanes = Vec::with_capacity(acts.codes.len() / 4 * per_group);
        let mut marks = Vec::with_capacity(acts.sums.len());
        let mut first = 0;
        while first < acts.rows {
            let tokens = tile_tokens(first, acts.rows);
            for b in 0..blocks {
                for (group, token) in
                    (0..8).flat_map(|group| (first..first + tokens).map(move |token| (group, token)))
                {
                    let codes = &acts.codes[token * acts.cols + b * BLOCK + 4 * group..][..4];
                    if per_group == 2 {
                        lanes.push(lane(codes, |code| ((i32::from(code) + 128) >> 8) as u8));
                    }
                    lanes.push(lane(codes, |code| code as u8));
                }
                marks.extend((first..first + tokens).map(|token| mark(&acts, token, b)));
            }
            first += tokens;
        }
        Lanes { acts, lanes, marks }
    }
}

#[inline(always)]
fn lane(codes: &[i16], byte: impl Fn(i16) -> u8) -> i32 {
    i32::from_le_bytes([byte(codes[0]), byte(codes[1]), byte(codes[2]), byte(codes[3])])
}

#[inline(always)]
fn mark(acts: &Acts, token: usize, block: usize) -> Mark {
    let at = token * (acts.cols / BLOCK) + block;
    let first: i32 = acts.codes[at * BLOCK..][..BLOCK / 2]
        .iter()
        .map(|c| i32::from(*c))
        .sum();
    let starts = [acts.sums[at], first, acts.sums[at] - first].map(|sum| -128 * sum);
    Mark {
        starts,
        shift: i32::from(acts.shifts[at]),
    }
}
