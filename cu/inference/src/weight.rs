//! Weight matrices in the form DIN-1 computes with: integer codes under 12-bit integer multipliers.
//!
//! value(row, k) = 2^exponent[row] * (multiplier * code - offset). Not here: how a file stores weights
//! (`blocks.rs`), how a device lays them out. Invariant: the bounds that keep a block's dot product inside i32 and a
//! row's below 2^50 hold for every matrix that exists (|multiplier| <= 4095, |offset| <= 32767, codes within their width).

use std::ops::RangeInclusive;

use crate::error::Error;
use crate::math::canon;

/// Weights, and activations, that share a scale.
pub const BLOCK: usize = 32;
/// The largest multiplier.
pub const MULTIPLIER_MAX: i64 = 4095;
/// The largest multiplier of plain numbers, whose codes are chosen under it: with it a weight has 16 bits.
const FLOAT_MULTIPLIER_MAX: i64 = 257;
/// The largest offset.
pub const OFFSET_MAX: i64 = 32767;
/// Columns a matrix may have; with them a dot product stays below 2^50: weights have 19 bits, activations 15.
pub const COLUMNS_MAX: usize = 65536;
/// Rows a matrix may have.
pub const ROWS_MAX: usize = 1 << 20;

/// The width of a code, which fixes its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// -127 to 127, a byte each.
    Eight,
    /// -32 to 31, a byte each, two multipliers a block (16 codes each).
    Six,
    /// -16 to 15, a byte each.
    Five,
    /// -8 to 7, stored plus 8 as a nibble: byte j of a block holds code j low and code j + 16 high.
    Four,
}

impl Width {
    /// Bytes that a block's codes take.
    pub fn bytes(self) -> usize {
        if self == Width::Four { BLOCK / 2 } else { BLOCK }
    }

    /// Its codes as they are stored: of width 4 two to a byte.
    fn codes(self) -> RangeInclusive<i8> {
        match self {
            Width::Eight => -127..=127,
            Width::Six => -32..=31,
            Width::Five => -16..=15,
            Width::Four => i8::MIN..=i8::MAX,
        }
    }

    /// Multipliers a block has.
    pub fn multipliers(self) -> usize {
        if self == Width::Six { 2 } else { 1 }
    }
}

/// A matrix of weights, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs; a multiple of [`BLOCK`].
    pub cols: usize,
    /// What the codes are.
    pub width: Width,
    /// Codes of all blocks.
    pub codes: Vec<u8>,
    /// Multipliers of all blocks, one or two each.
    pub multipliers: Vec<i16>,
    /// Offsets of all blocks, or nothing where the format has none.
    pub offsets: Vec<i16>,
    /// The power of two that a row's multipliers and offsets count in.
    pub exponents: Vec<i16>,
}

impl Matrix {
    /// An empty matrix to push rows into.
    ///
    /// # Errors
    /// Sizes outside the limits, or columns that are no whole blocks.
    pub fn new(rows: usize, cols: usize, width: Width) -> Result<Matrix, Error> {
        if rows == 0 || rows > ROWS_MAX || cols == 0 || cols > COLUMNS_MAX || !cols.is_multiple_of(BLOCK) {
            let why = format!(
                "{rows} x {cols}; rows to {ROWS_MAX}, columns to {COLUMNS_MAX} in whole blocks of {BLOCK}"
            );
            return Err(Error::Unsupported(format!("a matrix of {why}")));
        }
        let blocks = rows * cols / BLOCK;
        Ok(Matrix {
            rows,
            cols,
            width,
            codes: Vec::with_capacity(blocks * width.bytes()),
            multipliers: Vec::with_capacity(blocks * width.multipliers()),
            offsets: Vec::new(),
            exponents: Vec::with_capacity(rows),
        })
    }

    /// Blocks in a row.
    pub fn blocks(&self) -> usize {
        self.cols / BLOCK
    }

    /// Appends one row's scales: integers in units of 2^-24, one per multiplier, and offsets, one per block or none.
    pub fn push_scales(&mut self, scales: &[i64], offsets: &[i64]) {
        assert_eq!(scales.len(), self.blocks() * self.width.multipliers());
        assert!(offsets.is_empty() || offsets.len() == self.blocks());
        let shift = scale_shift(scales, MULTIPLIER_MAX).max(scale_shift(offsets, OFFSET_MAX));
        let small = |v: &i64| shift_round(*v, shift) as i16;
        self.multipliers.extend(scales.iter().map(small));
        self.offsets.extend(offsets.iter().map(small));
        self.exponents.push((shift - 24) as i16);
    }

    /// Appends a row of plain numbers, quantised to 8-bit codes.
    pub fn push_floats(&mut self, row: &[f32]) {
        assert!(self.width == Width::Eight && row.len() == self.cols);
        let row: Vec<f32> = row.iter().map(|v| canon(*v)).collect();
        let exponent = float_exponent(row.iter().fold(0.0, |most, v| v.abs().max(most)));
        for block in row.chunks_exact(BLOCK) {
            let most = block.iter().fold(0.0_f32, |most, v| v.abs().max(most));
            let multiplier = (fixed(most, exponent - 8) as u64).div_ceil(127 << 8).max(1);
            let code =
                |v: &f32| (divide_round(fixed(*v, exponent - 8), (multiplier << 8) as i64) as i8) as u8;
            self.codes.extend(block.iter().map(code));
            self.multipliers.push(multiplier as i16);
        }
        self.exponents.push(exponent as i16);
    }

    /// Code `k` of a row.
    #[inline(always)]
    pub fn code(&self, row: usize, k: usize) -> i32 {
        let block = row * self.blocks() + k / BLOCK;
        let at = k % BLOCK;
        match self.width {
            Width::Four => {
                let byte = self.codes[block * (BLOCK / 2) + at % 16];
                i32::from(if at < 16 { byte & 15 } else { byte >> 4 }) - 8
            }
            _ => i32::from(self.codes[block * BLOCK + at] as i8),
        }
    }

    /// Whether every weight has 16 bits.
    pub fn is_short(&self) -> bool {
        let code = match self.width {
            Width::Four => 8,
            width => -i32::from(*width.codes().start()),
        };
        let most = self
            .multipliers
            .iter()
            .fold(0, |most, m| m.unsigned_abs().max(most));
        self.offsets.is_empty() && i32::from(most) * code < 1 << 15
    }

    /// A row as plain numbers on the grid: the integers are exact in f32, so only the grid can round.
    pub fn row(&self, row: usize) -> Vec<f32> {
        assert!(row < self.rows);
        let unit = crate::math::pow2(i32::from(self.exponents[row]));
        let per_block = self.width.multipliers();
        let value = |k: usize| {
            let block = row * self.blocks() + k / BLOCK;
            let half = if per_block == 2 { k % BLOCK / 16 } else { 0 };
            let offset = self.offsets.get(block).map_or(0, |o| i32::from(*o));
            let whole = i32::from(self.multipliers[block * per_block + half]) * self.code(row, k) - offset;
            canon(whole as f32 * unit)
        };
        (0..self.cols).map(value).collect()
    }

    /// Checks what the arithmetic relies on; for matrices whose fields were filled by hand.
    ///
    /// # Errors
    /// Names the first field out of its bounds.
    pub fn check(&self) -> Result<(), Error> {
        let blocks = self.rows * self.blocks();
        let sizes = self.codes.len() == blocks * self.width.bytes()
            && self.multipliers.len() == blocks * self.width.multipliers()
            && (self.offsets.is_empty() || self.offsets.len() == blocks)
            && self.exponents.len() == self.rows;
        let (low, high) = self.width.codes().into_inner();
        let ranges = self
            .multipliers
            .iter()
            .all(|m| m.unsigned_abs() <= MULTIPLIER_MAX as u16)
            && self.offsets.iter().all(|o| *o != i16::MIN)
            && self.codes.iter().all(|c| (low..=high).contains(&(*c as i8)));
        let offsets = self.offsets.is_empty() || matches!(self.width, Width::Five | Width::Four);
        match sizes && ranges && offsets {
            true => Ok(()),
            false => Err(Error::format("a weight matrix", "sizes or codes out of bounds")),
        }
    }
}

/// The smallest shift that brings every number to at most `most`, rounding included.
fn scale_shift(numbers: &[i64], most: i64) -> i32 {
    let largest = numbers.iter().map(|n| n.abs()).max().unwrap_or(0);
    if largest == 0 {
        return -12;
    }
    let bits = |n: i64| 64 - n.leading_zeros() as i32;
    let shift = (bits(largest) - bits(most)).max(-12);
    shift + i32::from(shift_round(largest, shift) > most)
}

/// n / 2^shift, halves away from zero; a negative shift multiplies.
fn shift_round(n: i64, shift: i32) -> i64 {
    match shift {
        ..=0 => n << -shift,
        _ => n.signum() * ((n.abs() + (1 << (shift - 1))) >> shift),
    }
}

/// The smallest exponent under which `most` needs no multiplier above 257 with codes to 127; -110 for zero.
fn float_exponent(most: f32) -> i32 {
    if most == 0.0 {
        return -110;
    }
    let around = (most.to_bits() >> 23) as i32 - 127 - 15;
    let fits = |e: i32| fixed(most, e - 8) <= (127 * FLOAT_MULTIPLIER_MAX) << 8;
    around + (0..2).take_while(|up| !fits(around + up)).count() as i32
}

/// v / 2^unit as an integer, halves away from zero. The callers' units keep it below 2^60.
fn fixed(v: f32, unit: i32) -> i64 {
    let bits = v.to_bits();
    let exponent = (bits >> 23 & 255) as i32;
    if exponent == 0 {
        return 0;
    }
    let significand = i64::from(bits & 0x7f_ffff | 0x80_0000);
    let shift = unit - (exponent - 150);
    let size = if shift > 40 {
        0
    } else {
        shift_round(significand, shift.max(-35))
    };
    if bits >> 31 == 1 { -size } else { size }
}

/// n / d to the nearest, halves away from zero.
fn divide_round(n: i64, d: i64) -> i64 {
    n.signum() * ((2 * n.abs() + d) / (2 * d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_come_back_within_half_a_step() {
        let row: Vec<f32> = (0..256)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.013 * (1 + i / 32) as f32)
            .collect();
        let mut matrix = Matrix::new(1, 256, Width::Eight).unwrap();
        matrix.push_floats(&row);
        matrix.check().unwrap();
        for (block, back) in row.chunks(32).zip(matrix.row(0).chunks(32)) {
            let most = block.iter().fold(0.0_f32, |m, v| v.abs().max(m));
            for (v, b) in block.iter().zip(back) {
                assert!((v - b).abs() <= most / 127.0 * 0.52, "{v} became {b}");
            }
        }
    }

    #[test]
    fn rows_of_zeros_and_of_extremes_stay_in_bounds() {
        for v in [0.0, 1e-38, 1.0, 127.0, 4095.0 * 127.0, 1e18, f32::MAX] {
            let mut matrix = Matrix::new(1, 64, Width::Eight).unwrap();
            let mut row = vec![v; 64];
            row[3] = -v;
            row[40] = v / 1e6;
            matrix.push_floats(&row);
            matrix.check().unwrap();
            let back = matrix.row(0)[0];
            assert!((back - canon(v)).abs() <= canon(v) / 254.0, "{v} became {back}");
        }
    }

    #[test]
    fn scales_keep_twelve_bits() {
        let mut matrix = Matrix::new(1, 64, Width::Eight).unwrap();
        matrix.codes = vec![1; 64];
        matrix.push_scales(&[0x7ff << 20, -(0x401 << 18)], &[]);
        matrix.check().unwrap();
        assert_eq!(matrix.multipliers, [0x7ff << 1, -0x201]);
        assert_eq!(matrix.row(0)[0], 0x7ff as f32 / 16.0);
    }

    #[test]
    fn a_shift_never_rounds_past_the_limit() {
        for n in [1_i64, 4095, 4096, 8190, 8191, 65535, (1 << 49) - 1, 1 << 49] {
            let shift = scale_shift(&[n], MULTIPLIER_MAX);
            assert!(shift_round(n, shift) <= MULTIPLIER_MAX, "{n}");
        }
    }
}
