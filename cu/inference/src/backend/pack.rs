//! Weights and activations laid out for vector units: sixteen matrix rows side by side, four columns of each in one
//! 32-bit lane. Not here: arithmetic. Invariant: packing loses nothing, so kernels compute what the definition does.

use crate::Profile;
use crate::backend::room::{Held, Room};
use crate::weight::{BLOCK, Matrix, Width};

/// Matrix rows in a tile: one lane each.
pub const TILE: usize = 16;

/// Lanes of 32 bits in a line.
const LINE_LANES: usize = 16;

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
    /// Tile by tile, block by block: 8 lines of bytes, or 4 of nibbles (the first four groups of four columns low, the
    /// others high), both above the codes by [`bias`]. Byte 4 r + i of a line is column i of its group in row r.
    pub codes: Held<Line>,
    /// Tile by tile, block by block: a multiplier per row; for width 6 those of all first halves, then of the second.
    pub multipliers: Held<[i16; TILE]>,
    /// Offsets in the same order, or none.
    pub offsets: Held<[i16; TILE]>,
    /// Exponents of rows, in whole tiles.
    pub exponents: Vec<i16>,
    /// Whether every weight has 16 bits.
    pub is_short: bool,
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
            is_short: matrix.is_short(),
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

/// What a stored code is above the code: x86-64 multiplies bytes without a sign by signed ones, others signed ones alone.
const fn bias(width: Width) -> i32 {
    match width {
        Width::Four => 8,
        _ if cfg!(target_arch = "x86_64") => 128,
        _ => 0,
    }
}

/// The stored codes of a matrix, as constants of a kernel.
pub trait Codes {
    /// Lines of a block.
    const LINES: usize;
    /// Runs of a block that have a multiplier of their own.
    const RUNS: usize;
    /// Which start of a mark is that of the first run.
    const START: usize;
}

/// Widths 8 and 5: a byte each.
pub enum Byte {}
/// Width 6: a byte each, two multipliers a block.
pub enum Six {}
/// Width 4: a nibble each.
pub enum Four {}

impl Codes for Byte {
    const LINES: usize = 8;
    const RUNS: usize = 1;
    const START: usize = 0;
}

impl Codes for Six {
    const LINES: usize = 8;
    const RUNS: usize = 2;
    const START: usize = 2;
}

impl Codes for Four {
    const LINES: usize = 4;
    const RUNS: usize = 1;
    const START: usize = 1;
}

/// Lines that a block of a tile takes.
pub fn lines(width: Width) -> usize {
    if width == Width::Four { 4 } else { 8 }
}

/// Tokens in the largest tile that is multiplied in vector registers.
pub const TOKENS: usize = 8;
/// Columns that a matrix unit multiplies at a time: two blocks.
pub const STEP: usize = 64;
/// Columns of activations that a matrix unit takes; the sums of products of bytes over them have 32 bits.
const UNIT_COLUMNS_MAX: usize = 32768;

/// Activations in tiles of tokens: alike many, up to sixteen, where a matrix unit multiplies them, else 8, 4, 2 and 1.
///
/// A code is 256 high + low, both signed bytes. A matrix unit's tiles hold them [`STEP`] columns at a time, the high
/// bytes of each token, then the low ones. In the others a block holds, group of four columns by group, token by token,
/// a lane of four high bytes and one of four low ones; under [`Profile::A8`] one of four bytes, the code before its
/// block's shift.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// How many bits of a code count.
    pub profile: Profile,
    /// The unit of each row, a power of two.
    pub exponents: Vec<i32>,
    /// Tokens in a matrix unit's tile; none where tiles are of few tokens.
    unit: Option<usize>,
    /// Codes of a matrix unit's tiles; what a last step or tile lacks is zero.
    steps: Vec<Line>,
    /// Codes of tiles of few tokens.
    codes: Vec<Line>,
    /// Of those tile by tile, block by block, token by token.
    marks: Vec<Mark>,
    /// Of steps, codes and marks when they are filled: until then nobody has touched them, since zeros would be
    /// written by one thread and overwritten by another.
    lengths: [usize; 3],
}

/// What a block of a token's activations adds to its dot products outside a matrix unit.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Mark {
    /// What sums begin with: by how much stored codes are too large, for widths of a byte, of a nibble, and the halves
    /// of a block of width 6; before the block's shift.
    pub starts: [i32; 4],
    /// The sum of the codes, after the shift.
    pub sum: i32,
    /// The block's shift to the left.
    pub shift: i32,
}

impl Mark {
    /// A mark from the sums of the codes of both halves of a block, before its shift.
    #[inline(always)]
    pub fn new(halves: [i32; 2], shift: i32) -> Mark {
        let sum = halves[0] + halves[1];
        let start = |width: Width, sum: i32| -bias(width) * sum;
        let six = halves.map(|sum| start(Width::Six, sum));
        Mark {
            starts: [start(Width::Eight, sum), start(Width::Four, sum), six[0], six[1]],
            sum: sum << shift,
            shift,
        }
    }
}

/// Tokens of the tile that begins with the first of so many.
#[inline(always)]
pub fn few_tokens(left: usize) -> usize {
    match left {
        TOKENS.. => TOKENS,
        left => 1 << left.ilog2(),
    }
}

/// First token and tokens of each tile of few of so many rows.
fn tiles(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let tokens = few_tokens((first < rows).then(|| rows - first)?);
        first += tokens;
        Some((first - tokens, tokens))
    })
}

impl Lanes {
    /// Activations to be filled; for a matrix unit, where there is one and they are enough to pay.
    pub fn new(rows: usize, cols: usize, profile: Profile, unit: bool) -> Lanes {
        assert!(cols.is_multiple_of(BLOCK));
        let unit =
            (unit && cols <= UNIT_COLUMNS_MAX && rows > TOKENS).then(|| rows.div_ceil(rows.div_ceil(TILE)));
        let few = if unit.is_some() { 0 } else { rows * (cols / BLOCK) };
        let lines = (few * Lanes::block_bytes(profile)).div_ceil(size_of::<Line>());
        let places = unit.map_or(0, |tokens| rows.next_multiple_of(tokens));
        let steps = cols.div_ceil(STEP) * 2 * places;
        Lanes {
            rows,
            cols,
            profile,
            exponents: vec![0; rows],
            unit,
            steps: Vec::with_capacity(steps),
            codes: Vec::with_capacity(lines),
            marks: Vec::with_capacity(few),
            lengths: [steps, lines, few],
        }
    }

    /// First token and tokens of each tile of few.
    pub fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        tiles(self.rows)
    }

    /// Tokens in each of a matrix unit's tiles, of which the last may have fewer; none where tiles are of few.
    #[inline(always)]
    pub fn unit(&self) -> Option<usize> {
        self.unit
    }

    /// The steps of each of a matrix unit's tiles.
    #[inline(always)]
    pub fn steps(&self) -> std::slice::ChunksExact<'_, Line> {
        let tokens = self.unit.expect("tiles of a matrix unit");
        self.steps.chunks_exact(self.cols.div_ceil(STEP) * 2 * tokens)
    }

    /// The marks of the tile of `tokens` that begins with token `first`.
    #[inline(always)]
    pub fn marks(&self, first: usize, tokens: usize) -> &[Mark] {
        let blocks = self.cols / BLOCK;
        &self.marks[first * blocks..][..tokens * blocks]
    }

    /// Bytes of a block of one token in a tile of few.
    #[inline(always)]
    fn block_bytes(profile: Profile) -> usize {
        if profile == Profile::A16 { 2 * BLOCK } else { BLOCK }
    }
}

#[allow(unsafe_code, reason = "lines seen as lanes")]
impl Lanes {
    /// The lanes of the tile of `tokens` that begins with token `first`.
    #[inline(always)]
    pub fn few(&self, first: usize, tokens: usize) -> &[i32] {
        let per_token = self.cols / BLOCK * Lanes::block_bytes(self.profile) / 4;
        let lanes = self.codes.len() * LINE_LANES;
        // SAFETY: a line is sixteen initialised lanes, any bytes are a number, and lines are side by side.
        let lanes = unsafe { std::slice::from_raw_parts(self.codes.as_ptr().cast::<i32>(), lanes) };
        &lanes[first * per_token..][..tokens * per_token]
    }
}

/// Activations being laid out: every place is written at most once, by whichever thread has its token.
pub struct Filling<'a> {
    /// Tokens, those included that a matrix unit's last tile lacks.
    pub tokens: usize,
    /// Tokens in a matrix unit's tile.
    pub unit: Option<usize>,
    /// Columns.
    pub cols: usize,
    /// The profile.
    pub profile: Profile,
    rows: usize,
    exponents: *mut i32,
    steps: *mut Line,
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
    /// First token and tokens of each tile of few.
    pub fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        tiles(self.rows)
    }

    /// Sets a row's unit.
    #[inline(always)]
    pub fn exponent(&self, row: usize, exponent: i32) {
        assert!(row < self.rows);
        // SAFETY: inside the vector, and this row's alone.
        unsafe { self.exponents.add(row).write(exponent) };
    }

    /// Sets the bytes of a block of the `at`-th token of a matrix unit's `tile`-th tile, of `tokens`.
    #[inline(always)]
    pub fn step(&self, (tile, tokens): (usize, usize), at: usize, block: usize, bytes: [[i32; 8]; 2]) {
        let step = tile * self.cols.div_ceil(STEP) + block / 2;
        for (half, bytes) in bytes.into_iter().enumerate() {
            let line = (2 * step + half) * tokens + at;
            assert!(line < self.lengths[0]);
            // SAFETY: inside the vector, half of a line, and this token's alone.
            unsafe {
                self.steps
                    .add(line)
                    .cast::<[i32; 8]>()
                    .add(block % 2)
                    .write(bytes)
            };
        }
    }

    /// Sets the mark of a block of the `at`-th token of a tile of few, which begins with token `first`.
    #[inline(always)]
    pub fn mark(&self, (first, tokens): (usize, usize), at: usize, block: usize, mark: Mark) {
        let place = first * (self.cols / BLOCK) + block * tokens + at;
        assert!(place < self.lengths[2]);
        // SAFETY: inside the vector, and this token's alone.
        unsafe { self.marks.add(place).write(mark) };
    }

    /// Sets a group's lanes of the `at`-th token of such a tile.
    #[inline(always)]
    fn few<const N: usize>(&self, (first, tokens): (usize, usize), at: usize, group: usize, lanes: [i32; N]) {
        let groups = self.cols / 4;
        let place = N * (first * groups + group * tokens + at);
        assert!(place + N <= self.lengths[1] * LINE_LANES);
        // SAFETY: inside the vector, and this token's alone.
        unsafe { self.codes.add(place).cast::<[i32; N]>().write(lanes) };
    }

    /// Sets the lanes of a block of the `at`-th token of such a tile.
    #[inline(always)]
    pub fn block(&self, tile: (usize, usize), at: usize, block: usize, [high, low]: [[i32; 8]; 2]) {
        for g in 0..8 {
            match self.profile {
                Profile::A16 => self.few(tile, at, 8 * block + g, [high[g], low[g]]),
                Profile::A8 => self.few(tile, at, 8 * block + g, [low[g]]),
            }
        }
    }
}

#[allow(unsafe_code, reason = "lengths follow what was written")]
impl Lanes {
    /// Their places, to be written.
    pub fn filling(&mut self) -> Filling<'_> {
        if let Some(last) = self.lengths[1].checked_sub(1) {
            // What the last line has beyond the last block.
            self.codes.spare_capacity_mut()[last].write(Line([0; 64]));
        }
        Filling {
            tokens: self
                .unit
                .map_or(self.rows, |tokens| self.rows.next_multiple_of(tokens)),
            unit: self.unit,
            rows: self.rows,
            cols: self.cols,
            profile: self.profile,
            lengths: self.lengths,
            exponents: self.exponents.as_mut_ptr(),
            steps: self.steps.as_mut_ptr(),
            codes: self.codes.as_mut_ptr().cast(),
            marks: self.marks.as_mut_ptr(),
            lanes: std::marker::PhantomData,
        }
    }

    /// They can be read.
    ///
    /// # Safety
    /// All blocks of all of [`Filling::tokens`] were set, those included that a last step lacks.
    pub unsafe fn filled(&mut self) {
        let [steps, codes, marks] = self.lengths;
        // SAFETY: within the capacities asked for; the caller's for the rest.
        unsafe {
            self.steps.set_len(steps);
            self.codes.set_len(codes);
            self.marks.set_len(marks);
        }
    }
}
