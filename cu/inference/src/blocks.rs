//! How files store weights: GGML's block formats and plain floats, read into [`Matrix`] by integer arithmetic.
//! Not here: files. Invariant: reading a row is exact up to the rounding of scales that DIN-1 defines.

use crate::error::Error;
use crate::math::canon;
use crate::weight::{BLOCK, Matrix, Width};

/// A storage format of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// 32 codes of 8 bits, one scale.
    Q8_0,
    /// 32 codes of 4 bits, one scale.
    Q4_0,
    /// 32 codes of 4 bits, scale and minimum.
    Q4_1,
    /// 32 codes of 5 bits, one scale.
    Q5_0,
    /// 32 codes of 5 bits, scale and minimum.
    Q5_1,
    /// 256 codes of 4 bits, 6-bit scales and minima of 32 each.
    Q4K,
    /// 256 codes of 5 bits, 6-bit scales and minima of 32 each.
    Q5K,
    /// 256 codes of 6 bits, 8-bit scales of 16 each.
    Q6K,
}

impl Format {
    /// The format with that number in a GGUF file.
    pub fn numbered(number: u32) -> Option<Format> {
        Some(match number {
            0 => Format::F32,
            1 => Format::F16,
            2 => Format::Q4_0,
            3 => Format::Q4_1,
            6 => Format::Q5_0,
            7 => Format::Q5_1,
            8 => Format::Q8_0,
            12 => Format::Q4K,
            13 => Format::Q5K,
            14 => Format::Q6K,
            30 => Format::Bf16,
            _ => return None,
        })
    }

    /// Whether its codes are computed with at 4 bits.
    pub fn is_narrow(self) -> bool {
        matches!(self, Format::Q4_0 | Format::Q4_1 | Format::Q4K)
    }

    /// Numbers in a stored block, and the bytes it takes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Format::F32 => (1, 4),
            Format::F16 | Format::Bf16 => (1, 2),
            Format::Q8_0 => (32, 34),
            Format::Q4_0 => (32, 18),
            Format::Q4_1 => (32, 20),
            Format::Q5_0 => (32, 22),
            Format::Q5_1 => (32, 24),
            Format::Q4K => (256, 144),
            Format::Q5K => (256, 176),
            Format::Q6K => (256, 210),
        }
    }

    /// The width of the codes it is read into.
    pub fn width(self) -> Width {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 | Format::Q8_0 => Width::Eight,
            Format::Q4_0 | Format::Q4_1 | Format::Q4K => Width::Four,
            Format::Q5_0 | Format::Q5_1 | Format::Q5K => Width::Five,
            Format::Q6K => Width::Six,
        }
    }

    /// What is said of a format that is not read.
    pub fn unread(number: u32) -> String {
        let known = [
            (10, "Q2_K"),
            (11, "Q3_K"),
            (20, "IQ4_NL"),
            (23, "IQ4_XS"),
            (28, "F64"),
            (39, "MXFP4"),
        ];
        let name = known
            .iter()
            .find(|(known, _)| *known == number)
            .map_or("", |(_, name)| name);
        let read = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K";
        format!("storage format {number} {name}; {read} are read, convert it to one of them")
    }

    /// Whether it is plain floats.
    pub fn is_float(self) -> bool {
        self.block().0 == 1
    }
}

/// Reads a tensor of `rows` x `cols`; `bytes` is exactly as long as that takes.
///
/// # Errors
/// A scale or number that is not finite, or sizes that DIN-1 does not define.
pub fn matrix(format: Format, rows: usize, cols: usize, bytes: &[u8]) -> Result<Matrix, Error> {
    let mut matrix = Matrix::new(rows, cols, format.width())?;
    let (numbers, size) = format.block();
    if !cols.is_multiple_of(numbers) {
        return Err(Error::Unsupported(format!(
            "{cols} columns in blocks of {numbers}"
        )));
    }
    let stride = cols / numbers * size;
    assert_eq!(bytes.len(), rows * stride);
    for row in bytes.chunks_exact(stride) {
        match format.is_float() {
            true => matrix.push_floats(&floats(format, row)?),
            false => blocks(format, row, &mut matrix)?,
        }
    }
    debug_assert!(matrix.check().is_ok());
    Ok(matrix)
}

/// Reads plain floats onto the grid.
///
/// # Errors
/// A number that is not finite, or a format that is not plain.
pub fn floats(format: Format, bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let half = |bytes: &[u8; 2]| u16::from_le_bytes(*bytes);
    let values: Vec<f32> = match format {
        Format::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        Format::F16 => bytes.as_chunks().0.iter().map(|b| f16(half(b))).collect(),
        Format::Bf16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_bits(u32::from(half(b)) << 16))
            .collect(),
        _ => {
            return Err(Error::Unsupported(format!(
                "{format:?} where plain floats are expected"
            )));
        }
    };
    match values.iter().all(|v| v.is_finite()) {
        true => Ok(values.into_iter().map(canon).collect()),
        false => Err(Error::format("a tensor of floats", "a number is not finite")),
    }
}

/// The f32 of an f16, exact; infinity and NaN stay so.
fn f16(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let value = match (bits >> 10 & 31, u32::from(bits & 1023)) {
        (0, fraction) => fraction as f32 / 16_777_216.0,
        (31, fraction) => f32::from_bits(0x7f80_0000 | fraction << 13),
        (exponent, fraction) => f32::from_bits((u32::from(exponent) + 112) << 23 | fraction << 13),
    };
    f32::from_bits(value.to_bits() | sign)
}

/// The integer of an f16 in units of 2^-24.
fn scale(bytes: &[u8]) -> Result<i64, Error> {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let fraction = i64::from(bits & 1023);
    let size = match bits >> 10 & 31 {
        0 => fraction,
        31 => return Err(Error::format("a block's scale", "not finite")),
        exponent => (fraction | 1024) << (exponent - 1),
    };
    Ok(if bits >> 15 == 1 { -size } else { size })
}

/// One row being read.
struct Row<'a> {
    matrix: &'a mut Matrix,
    scales: Vec<i64>,
    offsets: Vec<i64>,
}

impl Row<'_> {
    /// Appends 32 codes, given unsigned as stored.
    fn codes(&mut self, code: impl Fn(usize) -> u8) {
        match self.matrix.width {
            Width::Four => self
                .matrix
                .codes
                .extend((0..16).map(|j| code(j) | code(j + 16) << 4)),
            width => {
                let middle = if width == Width::Six { 32 } else { 16 };
                self.matrix
                    .codes
                    .extend((0..BLOCK).map(|j| code(j).wrapping_sub(middle)));
            }
        }
    }

    /// Appends a block's scale and the minimum below which its codes do not go.
    fn scale(&mut self, scale: i64, minimum: i64) {
        let middle = if self.matrix.width == Width::Four { 8 } else { 16 };
        self.scales.push(scale);
        self.offsets.push(-minimum - middle * scale);
    }
}

fn blocks(format: Format, bytes: &[u8], matrix: &mut Matrix) -> Result<(), Error> {
    let mut row = Row {
        matrix,
        scales: vec![],
        offsets: vec![],
    };
    for b in bytes.chunks_exact(format.block().1) {
        match format {
            Format::Q8_0 => {
                row.matrix
                    .codes
                    .extend(b[2..].iter().map(|c| (*c as i8).max(-127) as u8));
                row.scales.push(scale(b)?);
            }
            Format::Q4_0 => {
                row.codes(nibbles(&b[2..]));
                row.scales.push(scale(b)?);
            }
            Format::Q4_1 => {
                row.codes(nibbles(&b[4..]));
                row.scale(scale(b)?, scale(&b[2..])?);
            }
            Format::Q5_0 => {
                row.codes(fifth(nibbles(&b[6..]), &b[2..6]));
                row.scales.push(scale(b)?);
            }
            Format::Q5_1 => {
                row.codes(fifth(nibbles(&b[8..]), &b[4..8]));
                row.scale(scale(b)?, scale(&b[2..])?);
            }
            Format::Q4K => k_block(&mut row, b, None, &b[16..])?,
            Format::Q5K => k_block(&mut row, b, Some(&b[16..48]), &b[48..])?,
            Format::Q6K => six(&mut row, b)?,
            Format::F32 | Format::F16 | Format::Bf16 => unreachable!("floats have no blocks"),
        }
    }
    let Row {
        matrix,
        scales,
        offsets,
    } = row;
    matrix.push_scales(&scales, &offsets);
    Ok(())
}

/// Codes of 4 bits: the first 16 low, the others high.
fn nibbles(bytes: &[u8]) -> impl Fn(usize) -> u8 {
    move |j| if j < 16 { bytes[j] & 15 } else { bytes[j - 16] >> 4 }
}

/// The fifth bits, from a word of 32.
fn fifth(low: impl Fn(usize) -> u8, high: &[u8]) -> impl Fn(usize) -> u8 {
    move |j| low(j) | (high[j / 8] >> (j % 8) & 1) << 4
}

/// Eight blocks of 32 with 6-bit scales and minima; blocks 2i and 2i + 1 share 32 bytes of nibbles.
fn k_block(row: &mut Row<'_>, b: &[u8], high: Option<&[u8]>, low: &[u8]) -> Result<(), Error> {
    let (d, least) = (scale(b)?, scale(&b[2..])?);
    let s = &b[4..16];
    for i in 0..8 {
        let (six, minimum) = match i {
            0..4 => (s[i] & 63, s[i + 4] & 63),
            _ => (s[i + 4] & 15 | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4),
        };
        row.codes(|j| {
            let nibble = low[i / 2 * 32 + j] >> (i % 2 * 4) & 15;
            nibble | high.map_or(0, |high| (high[j] >> i & 1) << 4)
        });
        row.scale(d * i64::from(six), -least * i64::from(minimum));
    }
    Ok(())
}

/// Eight blocks of 32 whose halves have 8-bit scales: 4 low bits and 2 high bits of each code apart.
fn six(row: &mut Row<'_>, b: &[u8]) -> Result<(), Error> {
    let d = scale(&b[208..])?;
    for i in 0..8 {
        let (half, quarter) = (i / 4, i % 4);
        let (low, high) = (&b[half * 64 + quarter % 2 * 32..], &b[128 + half * 32..]);
        row.codes(|j| low[j] >> (quarter / 2 * 4) & 15 | (high[j] >> (quarter * 2) & 3) << 4);
        let scales = b[192 + 2 * i..][..2].iter().map(|s| d * i64::from(*s as i8));
        row.scales.extend(scales);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of random bytes with the numbers that an independent reader (PyPI `gguf`) finds in them.
    const GOLDEN: &[u8] = include_bytes!("../tests/data/blocks.bin");

    #[test]
    fn every_format_reads_as_others_read_it() {
        let mut rest = GOLDEN;
        let mut seen = 0;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(8);
            let number = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let (bytes, tail) = tail.split_at(length);
            let (truth, tail) = tail.split_at(512 * 4);
            rest = tail;
            let truth = floats(Format::F32, truth).unwrap();
            let format = Format::numbered(number).unwrap();
            let matrix = matrix(format, 2, 256, bytes).unwrap();
            matrix.check().unwrap();
            let ours: Vec<f32> = (0..2).flat_map(|row| matrix.row(row)).collect();
            let most = truth.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let worst = ours
                .iter()
                .zip(&truth)
                .map(|(o, t)| (o - t).abs())
                .fold(0.0, f32::max);
            let step = if format.is_float() {
                1.0 / 250.0
            } else {
                1.0 / 2000.0
            };
            assert!(worst <= most * step, "{format:?}: off by {worst} of {most}");
            seen += 1;
        }
        assert_eq!(seen, 11);
    }

    #[test]
    fn halves_are_exact() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 2f32.powi(-24)),
            (0x7bff, 65504.0),
        ] {
            assert_eq!(f16(bits), value);
            assert_eq!(
                scale(&bits.to_le_bytes()).unwrap(),
                (f64::from(value) * 16_777_216.0) as i64
            );
        }
        assert!(scale(&0x7c00_u16.to_le_bytes()).is_err() && f16(0x7e00).is_nan());
    }
}
