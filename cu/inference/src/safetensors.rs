//! safetensors files: named tensors of plain floats, read from bytes that anybody may have written.
//!
//! A header of JSON, its length before it, then the data. Not here: what the tensors mean. Invariant: memory in
//! proportion to the file, and every range handed out lies inside it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::blocks::{self, Format};
use crate::error::Error;
use crate::weight::Matrix;

/// Bytes a header may have.
pub const HEADER_BYTES_MAX: u64 = 16 << 20;

/// A file, parsed.
#[derive(Debug)]
pub struct Safetensors<'a> {
    data: &'a [u8],
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

fn broken(why: impl Into<String>) -> Error {
    Error::format("safetensors file", why)
}

impl Tensor {
    /// Rows, columns, format and bytes of a tensor of one or two dimensions.
    fn read<'a>(&self, name: &str, data: &'a [u8]) -> Result<(usize, usize, Format, &'a [u8]), Error> {
        let format = match self.dtype.as_str() {
            "F32" => Format::F32,
            "F16" => Format::F16,
            "BF16" => Format::Bf16,
            other => {
                return Err(Error::Unsupported(format!(
                    "tensor {name}: numbers of type {other}"
                )));
            }
        };
        let (rows, cols) = match self.shape[..] {
            [cols] => (1, cols),
            [rows, cols] => (rows, cols),
            _ => return Err(broken(format!("tensor {name}: {} dimensions", self.shape.len()))),
        };
        let bytes = rows
            .checked_mul(cols)
            .and_then(|n| n.checked_mul(format.block().1 as u64));
        let [from, to] = self.data_offsets;
        let range = (to <= data.len() as u64)
            .then(|| data.get(from as usize..to as usize))
            .flatten();
        match range {
            Some(range) if Some(range.len() as u64) == bytes => {
                Ok((rows as usize, cols as usize, format, range))
            }
            _ => Err(broken(format!(
                "tensor {name}: {:?} at {from} to {to} of {}",
                self.shape,
                data.len()
            ))),
        }
    }
}

impl<'a> Safetensors<'a> {
    /// Parses a file.
    ///
    /// # Errors
    /// A header that is too long or is not of the format.
    pub fn parse(bytes: &'a [u8]) -> Result<Safetensors<'a>, Error> {
        let (length, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| broken("shorter than its length field"))?;
        let length = u64::from_le_bytes(*length);
        if length > HEADER_BYTES_MAX {
            let what = "the header of a safetensors file, in bytes";
            return Err(Error::Limit {
                what,
                actual: length,
                limit: HEADER_BYTES_MAX,
            });
        }
        let (header, data) = rest
            .split_at_checked(length as usize)
            .ok_or_else(|| broken("shorter than its header"))?;
        let entries: BTreeMap<String, &RawValue> =
            serde_json::from_slice(header).map_err(|error| broken(format!("header: {error}")))?;
        let (mut tensors, mut metadata) = (BTreeMap::new(), BTreeMap::new());
        for (name, entry) in entries {
            if name == "__metadata__" {
                metadata = serde_json::from_str(entry.get())
                    .map_err(|error| broken(format!("metadata: {error}")))?;
                continue;
            }
            let tensor =
                serde_json::from_str(entry.get()).map_err(|error| broken(format!("tensor: {error}")))?;
            tensors.insert(name, tensor);
        }
        Ok(Safetensors {
            data,
            tensors,
            metadata,
        })
    }

    /// A text of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// All tensors by name, with how many numbers each has.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        let numbers = |tensor: &Tensor| tensor.shape.iter().copied().fold(1, u64::saturating_mul);
        self.tensors
            .iter()
            .map(move |(name, tensor)| (name.as_str(), numbers(tensor)))
    }

    /// Everything after the header.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn read(&self, name: &str, rows: usize, cols: usize) -> Result<(Format, &'a [u8]), Error> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| broken(format!("no tensor {name}")))?;
        let (has_rows, has_cols, format, bytes) = tensor.read(name, self.data)?;
        match (has_rows, has_cols) == (rows, cols) {
            true => Ok((format, bytes)),
            false => {
                let why =
                    format!("tensor {name} is {has_rows} x {has_cols}, the model needs {rows} x {cols}");
                Err(broken(why))
            }
        }
    }

    /// A weight matrix of exactly this size.
    ///
    /// # Errors
    /// It is absent, of another size or type, or holds what is no number.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        let (format, bytes) = self.read(name, rows, cols)?;
        blocks::matrix(format, rows, cols, bytes)
    }

    /// A vector of exactly this length, on the grid.
    ///
    /// # Errors
    /// As [`Safetensors::matrix`].
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        self.table(name, 1, length)
    }

    /// Rows of plain numbers, one after the other, on the grid.
    ///
    /// # Errors
    /// As [`Safetensors::matrix`].
    pub fn table(&self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>, Error> {
        let (format, bytes) = self.read(name, rows, cols)?;
        blocks::floats(format, bytes)
    }
}
