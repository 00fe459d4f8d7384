//! Reading and writing guest memory: numbers, strings, vectors of buffers.
//! Invariant: nothing outside the memory is touched; an address that does not fit is the module's fault, a trap.

use super::{BYTES_PER_GAS, Host, Stop, charge};
use wasmtime::{AsContext, AsContextMut, Caller};

/// Longest path or format that is read.
const STRING_MAX: usize = 64 << 10;
/// Most bytes that one read or write moves.
pub const TRANSFER_MAX: usize = 64 << 20;

fn out_of_bounds() -> wasmtime::Error {
    wasmtime::Error::new(Stop::Abort("memory access out of bounds".into()))
}

/// The guest's memory, seen through one call.
pub struct Guest<'a, 'b>(pub &'a mut Caller<'b, Host>);

impl Guest<'_, '_> {
    fn data(&self) -> &[u8] {
        self.0.data().handles().memory.data(self.0.as_context())
    }

    /// `bytes` bytes at an address.
    pub fn read(&self, at: u64, bytes: usize) -> wasmtime::Result<&[u8]> {
        let start = usize::try_from(at).ok();
        let end = start.and_then(|s| s.checked_add(bytes));
        start
            .zip(end)
            .and_then(|(s, e)| self.data().get(s..e))
            .ok_or_else(out_of_bounds)
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) -> wasmtime::Result<()> {
        let memory = self.0.data().handles().memory;
        let at = usize::try_from(at).map_err(|_| out_of_bounds())?;
        memory
            .write(self.0.as_context_mut(), at, bytes)
            .map_err(|_| out_of_bounds())
    }

    pub fn u32(&self, at: u64) -> wasmtime::Result<u32> {
        let bytes = self.read(at, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub fn put_u32(&mut self, at: u64, value: u32) -> wasmtime::Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    pub fn put_u64(&mut self, at: u64, value: u64) -> wasmtime::Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    pub fn pointer_bytes(&self) -> u64 {
        self.0.data().format.pointer_bytes() as u64
    }

    pub fn pointer(&self, at: u64) -> wasmtime::Result<u64> {
        let low = self.u32(at)? as u64;
        Ok(if self.pointer_bytes() == 8 {
            low | (self.u32(at.wrapping_add(4))? as u64) << 32
        } else {
            low
        })
    }

    pub fn put_pointer(&mut self, at: u64, value: u64) -> wasmtime::Result<()> {
        let width = self.pointer_bytes() as usize;
        self.write(at, &value.to_le_bytes()[..width])
    }

    /// The text up to the NUL; rubbish is replaced, as the field's decoder does.
    pub fn string(&self, at: u64) -> wasmtime::Result<String> {
        let start = usize::try_from(at).map_err(|_| out_of_bounds())?;
        let rest = self.data().get(start..).ok_or_else(out_of_bounds)?;
        let bytes = &rest[..rest.len().min(STRING_MAX)];
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// The buffers of a vector: address and length of each.
    pub fn buffers(&mut self, at: u64, count: u64) -> wasmtime::Result<Vec<(u64, usize)>> {
        let width = self.pointer_bytes();
        let (mut buffers, mut total) = (Vec::new(), 0usize);
        for i in 0..count.min(1024) {
            let entry = at.wrapping_add(i * 2 * width);
            let (pointer, length) = (self.pointer(entry)?, self.pointer(entry.wrapping_add(width))?);
            let length = usize::try_from(length).map_err(|_| out_of_bounds())?;
            total = total.saturating_add(length);
            if total > TRANSFER_MAX {
                return Err(out_of_bounds());
            }
            buffers.push((pointer, length));
        }
        charge(self.0, total as u64 / BYTES_PER_GAS)?;
        Ok(buffers)
    }
}
