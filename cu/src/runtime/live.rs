//! One instance of a module and the C calling convention of the field's loaders.
//! Not here: going back (`anchor`, `machine`). Invariant: between calls the module's stack pointer is at rest.

use super::host::{Handles, Host, HostState, Stack, Stop};
use super::module::Build;
use super::pages::{PAGE, Region, Run};
use super::watch::Guarded;
use super::{Answer, Error, Fault, Limits, Verdict};
use crate::rewrite::guard::{DEPTH_MAX, PREFIX};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use wasmtime::{Func, Global, Instance, Store, Trap, Val};

/// The cookies that the loaders write at the end of the C stack and at address 0.
const STACK_COOKIES: [u32; 2] = [34_821_223, 2_310_721_022];
const ZERO_COOKIE: u32 = 1_668_509_029;
/// Longest response that is read, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// No address of a 32-bit memory.
const UNKNOWN: u64 = u64::MAX;

pub struct Live {
    pub store: Store<Host>,
    instance: Instance,
    handles: Handles,
    handle: Func,
    /// End of the module's own stack; `UNKNOWN` before the first message.
    lowest_stack: u64,
    globals: Vec<Global>,
    pub region: Arc<Region>,
    pub watched: Arc<Guarded>,
    /// Runs under gas: only where the watch had to stop a message.
    pub fueled: bool,
}

/// How a run ended: with a verdict, or told to stop by the watch.
pub enum Ended {
    Verdict(Verdict),
    Stopped,
}

fn host(e: impl std::fmt::Display) -> Error {
    Error::Host(e.to_string())
}

impl Live {
    /// A new instance; no code of the module has run.
    pub fn new(build: &Build, limits: &Limits) -> Result<Live, Error> {
        let shape = &build.shape;
        let memory_max = limits.memory_bytes_max.min(shape.memory_bytes_max);
        let mut store = Store::new(
            build.module.engine(),
            Host::new(build.format, memory_max, build.fueled),
        );
        store.limiter(|host| host);
        if build.fueled {
            store.set_fuel(u64::MAX).map_err(host)?;
        }
        let instance = build.linked.instantiate(&mut store).map_err(host)?;
        let handles = find_handles(&mut store, &instance, build)?;
        let base = handles.memory.data_ptr(&store);
        let region = build
            .regions
            .of(base)
            .ok_or_else(|| host("the memory's region is unknown"))?;
        let handle = build.export(&instance, &mut store, "handle");
        let handle = handle.ok_or_else(|| Error::Refused("it does not export handle".into()))?;
        let globals = exported_globals(&mut store, &instance);
        store.data_mut().handles = Some(handles.clone());
        let watched = build.watch.guard(region.clone());
        Ok(Live {
            store,
            instance,
            handles,
            handle,
            lowest_stack: UNKNOWN,
            globals,
            region,
            watched,
            fueled: build.fueled,
        })
    }

    // ---- state ----

    /// Bytes of linear memory.
    pub fn memory_bytes(&self) -> u64 {
        self.handles.memory.data_size(&self.store) as u64
    }

    pub fn memory(&self) -> &[u8] {
        self.handles.memory.data(&self.store)
    }

    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Error> {
        let more = bytes
            .checked_sub(self.memory_bytes())
            .ok_or_else(|| host("a memory cannot shrink"))?;
        let grown = self.handles.memory.grow(&mut self.store, more / 65536);
        grown.map(|_| ()).map_err(host)
    }

    pub fn globals(&mut self) -> Vec<u128> {
        self.globals
            .iter()
            .map(|g| bits(&g.get(&mut self.store)))
            .collect()
    }

    pub fn set_globals(&mut self, values: &[u128]) -> Result<(), Error> {
        if values.len() != self.globals.len() {
            return Err(Error::Image("it has another number of globals".into()));
        }
        for (global, value) in self.globals.iter().zip(values) {
            let value = with_bits(&global.get(&mut self.store), *value);
            global.set(&mut self.store, value).map_err(host)?;
        }
        Ok(())
    }

    pub fn host_state(&self) -> &HostState {
        &self.store.data().state
    }

    pub fn set_host_state(&mut self, state: HostState) {
        self.store.data_mut().state = state;
    }

    /// Calls `f` with each page of a run that is not all zero.
    pub fn for_nonzero_pages(&self, runs: &[Run], mut f: impl FnMut(usize, &[u8])) {
        let memory = self.memory();
        for run in runs {
            for page in run.start..run.end() {
                let bytes = &memory[page * PAGE..(page + 1) * PAGE];
                if !is_zero(bytes) {
                    f(page, bytes);
                }
            }
        }
    }

    // ---- running ----

    /// What the loaders do once before the first message.
    pub fn boot(&mut self, build: &Build, limits: &Limits) -> Result<(), Error> {
        self.refill(limits);
        let done = self.boot_steps(build);
        done.map_err(|e| Error::Refused(format!("its constructors failed: {}", self.fault_of(e))))
    }

    fn boot_steps(&mut self, build: &Build) -> wasmtime::Result<()> {
        self.run_if_there(build, "emscripten_stack_init")?;
        self.write_cookies(build)?;
        self.run_if_there(build, "__wasm_call_ctors")?;
        if build.format.runs_main() {
            self.run_main(build)?;
        }
        Ok(())
    }

    fn run_if_there(&mut self, build: &Build, name: &str) -> wasmtime::Result<()> {
        match build.export(&self.instance, &mut self.store, name) {
            Some(f) => f.call(&mut self.store, &[], &mut []),
            None => Ok(()),
        }
    }

    fn write_cookies(&mut self, build: &Build) -> wasmtime::Result<()> {
        let Some(end) = build.export(&self.instance, &mut self.store, "emscripten_stack_get_end") else {
            return Ok(());
        };
        let mut at = [Val::I32(0)];
        end.call(&mut self.store, &[], &mut at)?;
        let at = match pointer(&at[0]) {
            0 => 4,
            at => at as usize,
        };
        let memory = self.handles.memory;
        for (i, cookie) in STACK_COOKIES.iter().enumerate() {
            memory.write(&mut self.store, at + 4 * i, &cookie.to_le_bytes())?;
        }
        Ok(memory.write(&mut self.store, 0, &ZERO_COOKIE.to_le_bytes())?)
    }

    /// `main`, whose exit is expected and changes nothing.
    fn run_main(&mut self, build: &Build) -> wasmtime::Result<()> {
        let Some(main) = build.export(&self.instance, &mut self.store, "main") else {
            return Ok(());
        };
        let arguments = if build.format.main_has_arguments() {
            self.program_arguments()?
        } else {
            [Val::I32(0), Val::I32(0)]
        };
        let ty = main.ty(&self.store);
        let mut results = vec![Val::I32(0); ty.results().len()];
        match main.call(
            &mut self.store,
            &arguments[..ty.params().len().min(2)],
            &mut results,
        ) {
            Err(e) if matches!(e.downcast_ref(), Some(Stop::Abort(text)) if text.starts_with("Program terminated")) => {
                Ok(())
            }
            other => other,
        }
    }

    /// One argument, the program's name, on the C stack.
    fn program_arguments(&mut self) -> wasmtime::Result<[Val; 2]> {
        let Some(stack) = self.handles.stack.clone() else {
            return Ok([Val::I32(0), Val::I32(0)]);
        };
        let memory = self.handles.memory;
        let list = stack.alloc(&mut self.store, 8)?;
        let name = b"thisProgram\0";
        let text = stack.alloc(&mut self.store, name.len() as u64)?;
        memory.write(&mut self.store, text as usize, name)?;
        memory.write(&mut self.store, list as usize, &(text as u32).to_le_bytes())?;
        memory.write(&mut self.store, list as usize + 4, &[0; 4])?;
        Ok([Val::I32(1), Val::I32(list as i32)])
    }

    fn refill(&mut self, limits: &Limits) {
        self.store.data_mut().gas = super::host::Gas {
            used: 0,
            limit: limits.metered_gas_max,
        };
    }

    /// Runs one message. `gas` bounds it where this instance counts gas.
    pub fn run(&mut self, message: &[u8], env: &[u8], limits: &Limits, gas: u64) -> Result<Ended, Error> {
        self.prepare().map_err(host)?;
        self.refill(limits);
        if self.fueled {
            self.store.set_fuel(gas).map_err(host)?;
        }
        let outcome = self.exchange(message, env);
        let stopped = self.watched.end().map_err(host)?;
        if self.store.data().starved {
            return Err(host("no memory for a process within its limit"));
        }
        if let Err(e) = &outcome
            && e.downcast_ref::<Trap>() == Some(&Trap::StackOverflow)
        {
            // Its depth differs between machines, so no result may come of it.
            return Err(host("the native stack ended before the module's own limit"));
        }
        match outcome {
            Ok(verdict) => Ok(Ended::Verdict(verdict)),
            Err(e) if stopped && e.downcast_ref::<Trap>() == Some(&Trap::MemoryOutOfBounds) => {
                Ok(Ended::Stopped)
            }
            Err(e) => Ok(Ended::Verdict(Err(self.fault_of(e)))),
        }
    }

    /// What must not count as gas of the message: it is asked once per instance.
    fn prepare(&mut self) -> wasmtime::Result<()> {
        if self.lowest_stack == UNKNOWN {
            self.store.data_mut().gas = super::host::Gas {
                used: 0,
                limit: u64::MAX,
            };
            if self.fueled {
                self.store.set_fuel(u64::MAX)?;
            }
            self.lowest_stack = self.find_lowest_stack()?;
        }
        Ok(())
    }

    /// Strings on the module's own stack, one call, text back.
    fn exchange(&mut self, message: &[u8], env: &[u8]) -> wasmtime::Result<Verdict> {
        if let Some(depth) = self.handles.depth {
            depth.set(&mut self.store, Val::I32(0))?;
        }
        let stack = self.handles.stack.clone();
        let stack = stack.ok_or_else(|| wasmtime::Error::new(Stop::Missing("export stackSave".into())))?;
        let rest = stack.save(&mut self.store)?;
        let (mut top, mut arguments) = (rest, Vec::with_capacity(2));
        for text in [message, env] {
            match self.place(&stack, top, text)? {
                Some(at) => top = at,
                None => return Ok(Err(Fault::MessageTooBig(text.len() as u64))),
            }
            arguments.push(match stack {
                Stack::Narrow { .. } => Val::I32(top as i32),
                Stack::Wide { .. } => Val::I64(top as i64),
            });
        }
        let mut result = [Val::I32(0)];
        self.handle.call(&mut self.store, &arguments, &mut result)?;
        // In the loaders' order, so that the gas of putting the stack back is counted.
        stack.restore(&mut self.store, rest)?;
        Ok(self.response(pointer(&result[0])))
    }

    /// Copies a text with its NUL to the module's stack, whose pointer is at `top`; `None` where it does not fit.
    fn place(&mut self, stack: &Stack, top: u64, text: &[u8]) -> wasmtime::Result<Option<u64>> {
        let bytes = text.len() as u64 + 1;
        if bytes >= self.memory_bytes() {
            return Ok(None);
        }
        let at = stack.alloc(&mut self.store, bytes)?;
        // A stack that grew past its start wraps around or ends up above where it was.
        if at >= top || at < self.lowest_stack || at + bytes > self.memory_bytes() {
            return Ok(None);
        }
        self.handles.memory.write(&mut self.store, at as usize, text)?;
        self.handles
            .memory
            .write(&mut self.store, at as usize + text.len(), &[0])?;
        Ok(Some(at))
    }

    /// Where the module's own stack ends, where it says so.
    fn find_lowest_stack(&mut self) -> wasmtime::Result<u64> {
        let Some(end) = self
            .instance
            .get_func(&mut self.store, "emscripten_stack_get_end")
        else {
            return Ok(0);
        };
        let mut at = [Val::I32(0)];
        end.call(&mut self.store, &[], &mut at)?;
        Ok(pointer(&at[0]))
    }

    fn response(&self, at: u64) -> Verdict {
        let memory = self.memory();
        let rest = usize::try_from(at).ok().and_then(|at| memory.get(at..));
        let rest = rest.ok_or_else(|| Fault::BadResponse("its address is outside the memory".into()))?;
        let window = &rest[..rest.len().min(RESPONSE_BYTES_MAX)];
        let end = window.iter().position(|b| *b == 0);
        let end = end.ok_or_else(|| Fault::BadResponse("it has no end".into()))?;
        parse(&window[..end], self.store.data().gas.used)
    }

    /// What ended a call, as something that can be recorded.
    fn fault_of(&mut self, e: wasmtime::Error) -> Fault {
        if let Some(stop) = e.downcast_ref::<Stop>() {
            return if *stop == Stop::OutOfGas {
                Fault::OutOfGas
            } else {
                Fault::Trap(stop.to_string())
            };
        }
        let too_deep = self
            .handles
            .depth
            .map(|d| d.get(&mut self.store))
            .is_some_and(|d| d.unwrap_i32() as u32 > DEPTH_MAX as u32);
        match e.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Fault::OutOfGas,
            Some(Trap::UnreachableCodeReached) if too_deep => Fault::StackDepth,
            Some(trap) => Fault::Trap(trap_text(*trap).into()),
            None => Fault::Trap("the call failed".into()),
        }
    }
}

/// Our own words, so that an engine's wording never reaches a result.
fn trap_text(trap: Trap) -> &'static str {
    match trap {
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => "memory access out of bounds",
        Trap::TableOutOfBounds => "table index is out of bounds",
        Trap::IndirectCallToNull => "null function",
        Trap::BadSignature => "function signature mismatch",
        Trap::IntegerOverflow => "float unrepresentable in integer range",
        Trap::IntegerDivisionByZero => "divide by zero",
        Trap::BadConversionToInteger => "float unrepresentable in integer range",
        Trap::UnreachableCodeReached => "unreachable",
        _ => "trap",
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    ok: bool,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

fn parse(text: &[u8], gas_used: u64) -> Verdict {
    // The field's decoder replaces bytes that are not UTF-8.
    let text = String::from_utf8_lossy(text);
    let envelope: Envelope<'_> =
        serde_json::from_str(&text).map_err(|e| Fault::BadResponse(e.to_string()))?;
    let response = envelope.response.map_or("null", RawValue::get);
    if !envelope.ok {
        return Err(Fault::Thrown(response.to_string()));
    }
    if !response.starts_with('{') {
        return Err(Fault::BadResponse("response is not an object".into()));
    }
    Ok(Answer {
        response: Bytes::copy_from_slice(response.as_bytes()),
        gas_used,
    })
}

fn pointer(v: &Val) -> u64 {
    match v {
        Val::I32(x) => *x as u32 as u64,
        Val::I64(x) => *x as u64,
        _ => 0,
    }
}

fn bits(v: &Val) -> u128 {
    match v {
        Val::I32(x) => *x as u32 as u128,
        Val::I64(x) => *x as u64 as u128,
        Val::F32(x) => *x as u128,
        Val::F64(x) => *x as u128,
        Val::V128(x) => x.as_u128(),
        _ => 0,
    }
}

/// A value of the same type as `like`.
fn with_bits(like: &Val, bits: u128) -> Val {
    match like {
        Val::I32(_) => Val::I32(bits as i32),
        Val::I64(_) => Val::I64(bits as i64),
        Val::F32(_) => Val::F32(bits as u32),
        Val::F64(_) => Val::F64(bits as u64),
        Val::V128(_) => Val::V128(bits.into()),
        other => *other,
    }
}

/// Whether a page is all zero.
pub fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<16>();
    rest.iter().all(|b| *b == 0) && words.iter().all(|w| u128::from_ne_bytes(*w) == 0)
}

fn exported_globals(store: &mut Store<Host>, instance: &Instance) -> Vec<Global> {
    (0..)
        .map_while(|n| instance.get_global(&mut *store, &format!("{PREFIX}g{n}")))
        .collect()
}

fn find_handles(store: &mut Store<Host>, instance: &Instance, build: &Build) -> Result<Handles, Error> {
    let memory = build.memory_export();
    let memory = instance.get_memory(&mut *store, memory);
    let memory = memory.ok_or_else(|| Error::Refused("it does not export its memory".into()))?;
    let mut func = |name: &str| build.export(instance, &mut *store, name);
    let set_threw = func("setThrew");
    let (malloc, free, set_high_word) = (
        func("malloc"),
        func("free"),
        func("_emscripten_tempret_set").or(func("setTempRet0")),
    );
    let save = func("emscripten_stack_get_current").or(func("stackSave"));
    let restore = func("_emscripten_stack_restore").or(func("stackRestore"));
    let alloc = func("_emscripten_stack_alloc").or(func("stackAlloc"));
    let stack = match (save, restore, alloc) {
        (Some(save), Some(restore), Some(alloc)) => stack(store, save, restore, alloc),
        _ => None,
    };
    let table = instance.get_table(&mut *store, build.table_export());
    let depth = instance.get_global(&mut *store, &format!("{PREFIX}depth"));
    Ok(Handles {
        memory,
        table,
        stack,
        set_threw,
        set_high_word,
        malloc,
        free,
        depth,
    })
}

fn stack(store: &Store<Host>, save: Func, restore: Func, alloc: Func) -> Option<Stack> {
    if let (Ok(save), Ok(restore), Ok(alloc)) = (save.typed(store), restore.typed(store), alloc.typed(store))
    {
        return Some(Stack::Narrow { save, restore, alloc });
    }
    let (save, restore, alloc) = (
        save.typed(store).ok()?,
        restore.typed(store).ok()?,
        alloc.typed(store).ok()?,
    );
    Some(Stack::Wide { save, restore, alloc })
}
