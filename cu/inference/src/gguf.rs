//! GGUF files: metadata and tensors of decoder models, read from bytes that anybody may have written.
//!
//! Layout after GGML's `docs/gguf.md`, versions 2 and 3, little-endian. Not here: what the metadata means.
//! Invariant: reading takes time and memory in proportion to the file, never to a number written in it, and every
//! range handed out lies inside the file.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::blocks::{self, Format};
use crate::error::Error;
use crate::weight::Matrix;

/// Metadata entries a file may have.
pub const ENTRIES_MAX: u64 = 4096;
/// Tensors a file may have.
pub const TENSORS_MAX: u64 = 16384;
/// Bytes a key or tensor name may have.
pub const NAME_BYTES_MAX: u64 = 256;
/// Bytes of a text value.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Numbers a tensor may have.
const NUMBERS_MAX: u64 = 1 << 36;

/// A file, parsed.
#[derive(Debug)]
pub struct Gguf<'a> {
    bytes: &'a [u8],
    entries: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, Tensor>,
}

/// One metadata value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Any whole number.
    Whole(i128),
    /// A float of either size.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// A list of one kind; its items are read as they are walked.
    List(List<'a>),
}

/// A list whose items have been walked once, so that they read without error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct List<'a> {
    kind: u32,
    count: u64,
    bytes: &'a [u8],
}

/// Where a tensor is and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Numbers in a row.
    pub cols: usize,
    /// Rows of all further dimensions.
    pub rows: usize,
    /// How it is stored.
    pub format: Format,
    range: Range<usize>,
}

/// A place in the bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let left = &self.bytes[self.at..];
        match usize::try_from(length).ok().and_then(|length| left.get(..length)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(broken(format!(
                "byte {}: {length} more expected, {} left",
                self.at,
                left.len()
            ))),
        }
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(self.whole(4, false)? as u32)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(self.whole(8, false)? as u64)
    }

    /// A little-endian number of up to eight bytes.
    fn whole(&mut self, size: u64, signed: bool) -> Result<i128, Error> {
        let bytes = self.take(size)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0_i128, |value, byte| value << 8 | i128::from(*byte));
        let negative = signed && value >> (8 * size - 1) == 1;
        Ok(if negative {
            value - (1 << (8 * size))
        } else {
            value
        })
    }

    fn text(&mut self, bytes_max: u64) -> Result<&'a str, Error> {
        let at = self.at;
        let length = self.u64()?;
        if length > bytes_max {
            return Err(broken(format!(
                "byte {at}: a text of {length} bytes, the limit is {bytes_max}"
            )));
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| broken(format!("byte {at}: a text that is not UTF-8")))
    }

    fn value(&mut self, kind: u32) -> Result<Value<'a>, Error> {
        let at = self.at;
        Ok(match kind {
            0 | 2 | 4 => Value::Whole(self.whole(1 << (kind / 2), false)?),
            1 | 3 | 5 => Value::Whole(self.whole(1 << (kind / 2), true)?),
            10 | 11 => Value::Whole(self.whole(8, kind == 11)?),
            6 => Value::Float(f64::from(f32::from_bits(self.u32()?))),
            12 => Value::Float(f64::from_bits(self.u64()?)),
            7 => match self.take(1)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(broken(format!("byte {at}: {other} is no truth value"))),
            },
            8 => Value::Text(self.text(TEXT_BYTES_MAX)?),
            9 => Value::List(self.list()?),
            _ => return Err(broken(format!("byte {at}: {kind} is no kind of value"))),
        })
    }

    fn list(&mut self) -> Result<List<'a>, Error> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if kind == 9 {
            return Err(broken(format!("byte {}: a list of lists", self.at)));
        }
        let start = self.at;
        for _ in 0..count {
            self.value(kind)?;
        }
        Ok(List {
            kind,
            count,
            bytes: &self.bytes[start..self.at],
        })
    }

    fn tensor(&mut self) -> Result<(&'a str, Stored), Error> {
        let name = self.text(NAME_BYTES_MAX)?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(broken(format!("tensor {name}: {dimensions} dimensions")));
        }
        let sizes = (0..dimensions)
            .map(|_| self.u64())
            .collect::<Result<Vec<u64>, Error>>()?;
        let numbers = sizes
            .iter()
            .try_fold(1_u64, |product, size| product.checked_mul(*size));
        let numbers = numbers.filter(|n| (1..=NUMBERS_MAX).contains(n));
        let Some(numbers) = numbers else {
            return Err(broken(format!("tensor {name}: its size is {sizes:?}")));
        };
        let (number, offset) = (self.u32()?, self.u64()?);
        let format = Format::numbered(number)
            .ok_or_else(|| Error::Unsupported(format!("tensor {name}: {}", Format::unread(number))))?;
        Ok((
            name,
            Stored {
                cols: sizes[0],
                numbers,
                format,
                offset,
            },
        ))
    }
}

/// A tensor's entry as written, offset relative to the data.
struct Stored {
    cols: u64,
    numbers: u64,
    format: Format,
    offset: u64,
}

impl Stored {
    /// Checks it against the file.
    fn place(self, name: &str, data: u64, alignment: u64, length: u64) -> Result<Tensor, Error> {
        let (block, size) = self.format.block();
        if !self.cols.is_multiple_of(block as u64) {
            return Err(broken(format!(
                "tensor {name}: {} columns in blocks of {block}",
                self.cols
            )));
        }
        let bytes = self.numbers / block as u64 * size as u64;
        let start = data
            .checked_add(self.offset)
            .filter(|_| self.offset.is_multiple_of(alignment));
        let end = start
            .and_then(|start| start.checked_add(bytes))
            .filter(|end| *end <= length);
        let (Some(start), Some(end)) = (start, end) else {
            return Err(broken(format!(
                "tensor {name}: {bytes} bytes at {} are not in the file",
                self.offset
            )));
        };
        Ok(Tensor {
            cols: self.cols as usize,
            rows: (self.numbers / self.cols) as usize,
            format: self.format,
            range: start as usize..end as usize,
        })
    }
}

fn broken(why: String) -> Error {
    Error::format("GGUF file", why)
}

impl<'a> Gguf<'a> {
    /// Parses a file.
    ///
    /// # Errors
    /// The first thing in it that breaks the format or a limit, with its place.
    pub fn parse(bytes: &'a [u8]) -> Result<Gguf<'a>, Error> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4)? != b"GGUF" {
            return Err(broken("it does not begin with GGUF".to_owned()));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(Error::Unsupported(format!(
                "GGUF version {version}; 2 and 3 are read"
            )));
        }
        let tensors = limited("tensors of a GGUF file", reader.u64()?, TENSORS_MAX)?;
        let entries = limited("metadata entries of a GGUF file", reader.u64()?, ENTRIES_MAX)?;
        let mut file = Gguf {
            bytes,
            entries: BTreeMap::new(),
            tensors: BTreeMap::new(),
        };
        for _ in 0..entries {
            let key = reader.text(NAME_BYTES_MAX)?;
            let kind = reader.u32()?;
            if file.entries.insert(key, reader.value(kind)?).is_some() {
                return Err(broken(format!("two entries {key}")));
            }
        }
        let stored = (0..tensors)
            .map(|_| reader.tensor())
            .collect::<Result<Vec<_>, Error>>()?;
        file.place(stored, reader.at as u64)?;
        Ok(file)
    }

    /// Finds every tensor's bytes; no two may share any.
    fn place(&mut self, stored: Vec<(&'a str, Stored)>, end: u64) -> Result<(), Error> {
        let alignment = self.whole("general.alignment").unwrap_or(Ok(32))?;
        if !alignment.is_power_of_two() || alignment > 65536 {
            return Err(broken(format!("an alignment of {alignment}")));
        }
        let (data, length) = (end.next_multiple_of(alignment), self.bytes.len() as u64);
        for (name, stored) in stored {
            let tensor = stored.place(name, data, alignment, length)?;
            if self.tensors.insert(name, tensor).is_some() {
                return Err(broken(format!("two tensors {name}")));
            }
        }
        let mut ranges: Vec<_> = self
            .tensors
            .values()
            .map(|t| (t.range.start, t.range.end))
            .collect();
        ranges.sort_unstable();
        match ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            true => Err(broken("tensors overlap".to_owned())),
            false => Ok(()),
        }
    }

    /// All entries by name.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.entries.iter().map(|(name, value)| (*name, *value))
    }

    /// Refuses entries under a family's name that `known` does not let through: what they say may change what is computed.
    ///
    /// # Errors
    /// Names the first of them.
    pub fn only(&self, family: &str, known: impl Fn(&str, Value<'a>) -> bool) -> Result<(), Error> {
        let own = |key: &'a str| key.strip_prefix(family)?.strip_prefix('.');
        let strange = self
            .entries()
            .filter(|(key, value)| own(key).is_some_and(|name| !known(name, *value)));
        match strange.map(|(key, _)| key).min() {
            None => Ok(()),
            Some(key) => Err(Error::Unsupported(format!(
                "entry {key}, with this value: it may change what the model computes"
            ))),
        }
    }

    /// The value of an entry.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.entries.get(key).copied()
    }

    /// A whole number that is not negative; nothing where the entry is absent.
    pub fn whole(&self, key: &str) -> Option<Result<u64, Error>> {
        self.value(key).map(|value| match value {
            Value::Whole(n) => u64::try_from(n).map_err(|_| broken(format!("{key} is {n}"))),
            // Some writers say the same number for every layer.
            Value::List(list) => match list.items().next() {
                Some(Value::Whole(n))
                    if n >= 0 && list.items().all(|item| matches!(item, Value::Whole(m) if m == n)) =>
                {
                    u64::try_from(n).map_err(|_| broken(format!("{key} is {n}")))
                }
                _ => Err(Error::Unsupported(format!("{key} differs by layer"))),
            },
            _ => Err(broken(format!("{key} is no whole number"))),
        })
    }

    /// A float as f32; nothing where the entry is absent.
    pub fn float(&self, key: &str) -> Option<Result<f32, Error>> {
        self.value(key).map(|value| match value {
            Value::Float(v) if v.is_finite() => Ok(v as f32),
            _ => Err(broken(format!("{key} is no finite float"))),
        })
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A list.
    pub fn list(&self, key: &str) -> Option<List<'a>> {
        match self.value(key) {
            Some(Value::List(list)) => Some(list),
            _ => None,
        }
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor's entry.
    ///
    /// # Errors
    /// There is none.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        self.tensors
            .get(name)
            .ok_or_else(|| broken(format!("no tensor {name}")))
    }

    /// Where a tensor's bytes are in the file.
    pub fn range(&self, name: &str) -> Option<Range<usize>> {
        self.tensors.get(name).map(|tensor| tensor.range.clone())
    }

    /// All tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&'a str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (*name, tensor))
    }

    /// A weight matrix of exactly this size.
    ///
    /// # Errors
    /// It is absent, of another size, or holds what is no number.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        let tensor = self.tensor(name)?;
        if (tensor.rows, tensor.cols) != (rows, cols) {
            let (has, wants) = ((tensor.rows, tensor.cols), (rows, cols));
            return Err(broken(format!(
                "tensor {name} is {has:?} rows and columns, the model needs {wants:?}"
            )));
        }
        blocks::matrix(tensor.format, rows, cols, &self.bytes[tensor.range.clone()])
            .map_err(|error| error.of(name))
    }

    /// A vector of exactly this length, on the grid.
    ///
    /// # Errors
    /// As [`Gguf::matrix`]; also where it is not stored as plain floats.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name)?;
        if tensor.rows * tensor.cols != length {
            let has = tensor.rows * tensor.cols;
            return Err(broken(format!(
                "tensor {name} has {has} numbers, the model needs {length}"
            )));
        }
        blocks::floats(tensor.format, &self.bytes[tensor.range.clone()]).map_err(|error| error.of(name))
    }
}

fn limited(what: &'static str, actual: u64, limit: u64) -> Result<u64, Error> {
    match actual <= limit {
        true => Ok(actual),
        false => Err(Error::Limit { what, actual, limit }),
    }
}

impl<'a> List<'a> {
    /// How many items it has.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its items in order.
    pub fn items(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (kind, mut reader) = (
            self.kind,
            Reader {
                bytes: self.bytes,
                at: 0,
            },
        );
        (0..self.count).map_while(move |_| reader.value(kind).ok())
    }

    /// Its items as texts; items of another kind are left out.
    pub fn texts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.items().filter_map(|value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    }
}
