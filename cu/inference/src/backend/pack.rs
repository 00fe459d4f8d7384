//! Weights and activations laid out for vector units: sixteen matrix rows side by side, four columns of each in one
//! 32-bit lane. Not here: arithmetic. Invariant: packing loses nothing, so kernels compute what the definition does.

use crate::Profile;
use crate::backend::room::{Held, Room};
use crate::weight::{BLOCK, Matrix, Width};

/// Matrix rows in a tile: one lane each.
pub const TILE: usize = 16;

/// A cache line.
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
    pub codes: Held<Line>,
    /// Tile by tile, block by block: a multiplier per row; for width 6 those of all first halves, then of the second.
    pub multipliers: Held<[i16; TILE]>,
    /// Offsets in the same order, or none.
    pub offsets: Held<[i16; TILE]>,
    /// Exponents of rows, in whole tiles.
    pub exponents: Vec<i16>,
}

/// A matrix on its way into tiles.
struct Packing<'a> {
    matrix: &'a Matrix,
    codes: Vec<Line>,
    multipliers: Vec<[i16; TILE]>,
    offsets: Vec<[i16; TILE]>,
}

impl Packed {
    /// Packs a matrix.
    pub fn new(matrix: &Matrix, room: &Room) -> Packed {
        let (tiles, blocks) = (matrix.rows.div_ceil(TILE), matrix.blocks());
        let mut packing = Packing {
            matrix,
            codes: Vec::with_capacity(tiles * blocks * lines(matrix.width)),
            multipliers: Vec::with_capacity(tiles * blocks * matrix.width.multipliers()),
            offsets: Vec::new(),
        };
        for (tile, block) in (0..tiles).flat_map(|tile| (0..blocks).map(move |block| (tile, block))) {
            packing.push(tile * TILE, block);
        }
        let mut exponents = matrix.exponents.clone();
        exponents.resize(tiles * TILE, 0);
        Packed {
            rows: matrix.rows,
            cols: matrix.cols,
            width: matrix.width,
            codes: room.put(&packing.codes),
            multipliers: room.put(&packing.multipliers),
            offsets: room.put(&packing.offsets),
            exponents,
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
        bias(self.width)
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

impl Packing<'_> {
    fn push(&mut self, first: usize, block: usize) {
        let (matrix, bias) = (self.matrix, bias(self.matrix.width));
        let code = |row: usize, k: usize| match first + row < matrix.rows {
            true => (matrix.code(first + row, block * BLOCK + k) + bias) as u8,
            false => bias as u8,
        };
        let line = |byte: &dyn Fn(usize, usize) -> u8| Line(std::array::from_fn(|at| byte(at / 4, at % 4)));
        match matrix.width {
            Width::Four => {
                self.codes.extend((0..4).map(|group| {
                    line(&|row, i| code(row, 4 * group + i) | code(row, 16 + 4 * group + i) << 4)
                }))
            }
            _ => self
                .codes
                .extend((0..8).map(|group| line(&|row, i| code(row, 4 * group + i)))),
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
}

/// What a stored code is above the code.
const fn bias(width: Width) -> i32 {
    if matches!(width, Width::Four) { 8 } else { 128 }
}

/// Lines that a block of a tile takes.
pub fn lines(width: Width) -> usize {
    if width == Width::Four { 4 } else { 8 }
}

/// Tokens in the largest tile that is multiplied in vector registers.
pub const TOKENS: usize = 8;

/// Activations in tiles of tokens: sixteen where a matrix unit multiplies them, else 8, 4, 2 and 1.
///
/// A tile begins where its first token's share would, and every token of it takes as much: per block 64 bytes, or 32
/// where codes have 8 bits. In a tile of sixteen a block holds the high bytes of the codes of each token, then the low
/// ones (code = 256 high + low), or the codes. In others it holds, group of four columns by group, token by token, a
/// lane of four high bytes, where there are any, and a lane of four low ones.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Whether codes have 16 bits or 8.
    pub profile: Profile,
    /// Whether there are tiles of sixteen.
    pub sixteens: bool,
    /// The unit of each row, a power of two.
    pub exponents: Vec<i32>,
    /// The codes of all tiles; those of tokens that a last tile of sixteen lacks are zero.
    pub codes: Vec<Line>,
    /// Tile by tile, block by block, token by token.
    pub marks: Vec<Mark>,
}

/// What a block of a token's activations adds to its dot products.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Mark {
    /// What sums begin with: the rounding of the dropped bits less what stored codes are too large, for widths 8, 5, 4
    /// and the halves of a block of width 6.
    pub starts: [i32; 5],
    /// The sum of the codes.
    pub sum: i32,
    /// The right shift of the block's term.
    pub shift: i32,
}

impl Mark {
    /// A mark from the sums of the codes of both halves of a block.
    #[inline(always)]
    pub fn new(halves: [i32; 2], shift: i32, profile: Profile) -> Mark {
        let sum = halves[0] + halves[1];
        let start = |width: Width, sum: i32| {
            let round = if profile == Profile::A16 {
                1 << width.drop_bits() >> 1
            } else {
                0
            };
            round - bias(width) * sum
        };
        let six = halves.map(|sum| start(Width::Six, sum));
        let [eight, five, four] = [Width::Eight, Width::Five, Width::Four].map(|width| start(width, sum));
        Mark {
            starts: [eight, five, four, six[0], six[1]],
            sum,
            shift,
        }
    }
}

/// Tokens of the tile that begins at `first`; a tile of sixteen may have fewer.
#[inline(always)]
pub fn tile_tokens(first: usize, tokens: usize, sixteens: bool) -> usize {
    match tokens - first {
        TILE.. if sixteens => TILE,
        // A tile of sixteen takes as long as two or three of a few tokens.
        left if sixteens && (left > TOKENS || first > 0 && left > TOKENS / 2) => TILE,
        TOKENS.. => TOKENS,
        left => 1 << left.ilog2(),
    }
}

impl Lanes {
    /// First token and tokens of each tile.
    pub fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut first = 0;
        std::iter::from_fn(move || {
            let tokens = (first < self.rows).then(|| tile_tokens(first, self.rows, self.sixteens))?;
            first += tokens;
            Some((first - tokens, tokens))
        })
    }

    /// Bytes of a block of one token.
    #[inline(always)]
    pub fn block_bytes(profile: Profile) -> usize {
        if profile == Profile::A16 { 2 * BLOCK } else { BLOCK }
    }
}

#[allow(unsafe_code, reason = "lines seen as their bytes and lanes")]
impl Lanes {
    /// Some bytes of the codes.
    #[inline(always)]
    pub fn bytes(&self, from: usize, count: usize) -> &[u8] {
        let all = self.codes.len() * size_of::<Line>();
        // SAFETY: a line is 64 initialised bytes and lines are side by side.
        let bytes = unsafe { std::slice::from_raw_parts(self.codes.as_ptr().cast::<u8>(), all) };
        &bytes[from..from + count]
    }

    /// Some lanes of four bytes.
    #[inline(always)]
    pub fn words(&self, from: usize, count: usize) -> &[i32] {
        let bytes = self.bytes(4 * from, 4 * count);
        // SAFETY: aligned to 4 as lines are aligned to 64, and any bytes are a number.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) }
    }
}

/// Activations being laid out: every place is written at most once, by whichever thread has its token.
pub struct Filling<'a> {
    /// Columns.
    pub cols: usize,
    /// The profile.
    pub profile: Profile,
    exponents: *mut i32,
    codes: *mut i32,
    marks: *mut Mark,
    lengths: [usize; 3],
    lanes: std::marker::PhantomData<&'a mut Lanes>,
}

#[allow(unsafe_code, reason = "threads write disjoint places")]
// SAFETY: a place belongs to one token and a token to one thread.
unsafe impl Sync for Filling<'_> {}

#[allow(unsafe_code, reason = "threads write disjoint places")]
impl Filling<'_> {
    /// Sets a row's unit.
    #[inline(always)]
    pub fn exponent(&self, row: usize, exponent: i32) {
        assert!(row < self.lengths[0]);
        // SAFETY: inside the vector, and this row's alone.
        unsafe { self.exponents.add(row).write(exponent) };
    }

    /// Sets a mark.
    #[inline(always)]
    pub fn mark(&self, at: usize, mark: Mark) {
        assert!(at < self.lengths[2]);
        // SAFETY: inside the vector, and this token's alone.
        unsafe { self.marks.add(at).write(mark) };
    }

    /// Sets lanes of codes.
    #[inline(always)]
    pub fn words<const N: usize>(&self, at: usize, words: [i32; N]) {
        assert!(at + N <= self.lengths[1]);
        // SAFETY: inside the vector, and this token's alone.
        unsafe { self.codes.add(at).cast::<[i32; N]>().write(words) };
    }
}

impl Lanes {
    /// Activations of zero.
    pub fn new(rows: usize, cols: usize, profile: Profile, sixteens: bool) -> Lanes {
        assert!(cols.is_multiple_of(BLOCK));
        let mut padded = 0;
        while padded < rows {
            padded += tile_tokens(padded, rows, sixteens);
        }
        let places = padded * (cols / BLOCK);
        let lines = (places * Lanes::block_bytes(profile)).div_ceil(size_of::<Line>());
        Lanes {
            rows,
            cols,
            profile,
            sixteens,
            exponents: vec![0; rows],
            codes: vec![Line([0; 64]); lines],
            marks: vec![Mark::default(); places],
        }
    }

    /// Their places, to be written.
    pub fn filling(&mut self) -> Filling<'_> {
        Filling {
            cols: self.cols,
            profile: self.profile,
            lengths: [self.exponents.len(), self.codes.len() * 16, self.marks.len()],
            exponents: self.exponents.as_mut_ptr(),
            codes: self.codes.as_mut_ptr().cast(),
            marks: self.marks.as_mut_ptr(),
            lanes: std::marker::PhantomData,
        }
    }
}
