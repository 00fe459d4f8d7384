//! Imports that move or grow linear memory.
//! Invariant: they leave memory, and its size, as the field's loaders do; addresses show in what Lua prints.

use super::{BYTES_PER_GAS, Host, PAGE_GAS, Reply, Stop, charge};
use wasmtime::{AsContextMut, Caller, Func, Val};

/// The heap that the loaders' growth rule never goes beyond.
pub fn limit(host: &Host) -> u64 {
    match host.format.pointer_bytes() {
        8 => 16 << 30,
        _ if host.format.runs_main() => 2 << 30,
        _ => 4 << 30,
    }
}

/// What the Asyncify glue takes to save a stack.
const ASYNCIFY_STACK_BYTES: u64 = 41_943_040;

/// A move that is cut where the memory ends and never traps, as the loaders' is: an allocation that failed ends up
/// here with the address 0.
pub fn copy(caller: &mut Caller<'_, Host>, to: u64, from: u64, bytes: u64) -> wasmtime::Result<Reply> {
    charge(caller, bytes / BYTES_PER_GAS)?;
    let memory = caller.data().handles().memory;
    let data = memory.data_mut(caller);
    let end = data.len() as u64;
    let (start, stop) = (from.min(end), from.saturating_add(bytes).min(end));
    let count = (stop - start).min(end - to.min(end));
    data.copy_within(start as usize..(start + count) as usize, to.min(end) as usize);
    Ok(Reply::Int(to))
}

/// Grows to what was asked and something more: a fifth of the old size, at most 96 MiB, then a tenth, then a
/// twentieth, until it fits.
pub fn resize(caller: &mut Caller<'_, Host>, wanted: u64) -> wasmtime::Result<Reply> {
    let memory = caller.data().handles().memory;
    let old = memory.data_size(&*caller) as u64;
    let limit = limit(caller.data());
    if wanted > limit || wanted <= old {
        return Ok(Reply::Int(0));
    }
    for cut in [1.0, 2.0, 4.0] {
        // In floating point, as the rule is written: the bits of the result are part of it.
        let over = (old as f64 * (1.0 + 0.2 / cut)).min((wanted + 100_663_296) as f64);
        let target = (wanted as f64).max(over);
        let aligned = ((target / 65536.0).ceil() * 65536.0).min(limit as f64) as u64;
        let pages = (aligned - old).div_ceil(65536);
        charge(caller, pages * PAGE_GAS)?;
        if memory.grow(caller.as_context_mut(), pages).is_ok() {
            return Ok(Reply::Int(1));
        }
        if caller.data().starved {
            return Err(wasmtime::Error::new(Stop::Abort(
                "the host is out of memory".into(),
            )));
        }
    }
    Ok(Reply::Int(0))
}

/// No drive is attached: the answer is 0, but the glue has taken and freed a stack buffer on the way.
pub fn weavedrive_open(caller: &mut Caller<'_, Host>) -> wasmtime::Result<Reply> {
    let (malloc, free) = (caller.data().handles().malloc, caller.data().handles().free);
    if let (Some(malloc), Some(free)) = (malloc, free) {
        let wide = caller.data().wide();
        let bytes = ASYNCIFY_STACK_BYTES + if wide { 24 } else { 12 };
        let argument = if wide {
            Val::I64(bytes as i64)
        } else {
            Val::I32(bytes as i32)
        };
        let pointer = call(caller, malloc, argument)?;
        call(caller, free, pointer)?;
    }
    Ok(Reply::Int(0))
}

fn call(caller: &mut Caller<'_, Host>, function: Func, argument: Val) -> wasmtime::Result<Val> {
    let results = function.ty(&*caller).results().len();
    let mut out = [Val::I32(0)];
    function.call(caller.as_context_mut(), &[argument], &mut out[..results.min(1)])?;
    let [out] = out;
    Ok(out)
}
