//! One instance of a module: its state, and a run of one message.
//! Not here: how a module is spoken to (`emscripten`), going back (`anchor`, `machine`).

use super::emscripten::{self, Emscripten};
use super::host::oracle::Asking;
use super::host::{Handles, Host, HostState, Protected, Stop};
use super::lua::Lua;
use super::module::Build;
use super::pages::{PAGE, Region, Run};
use super::watch::Guarded;
use super::{Error, Fault, Limits, Verdict};
use crate::rewrite::guard::{DEPTH_MAX, PREFIX};
use std::sync::Arc;
use wasmtime::{Global, Instance, Store, Trap, Val};

pub struct Live {
    pub store: Store<Host>,
    handles: Handles,
    convention: Convention,
    /// The convention has been made ready for messages.
    is_prepared: bool,
    globals: Vec<Global>,
    pub region: Arc<Region>,
    pub watched: Arc<Guarded>,
    /// Runs under gas: only where the watch had to stop a message.
    pub fueled: bool,
}

/// How a module is spoken to. Each convention knows its exports, its boot, and one exchange of a message and a reply.
enum Convention {
    Emscripten(Emscripten),
    Lua(Lua),
}

impl Convention {
    fn find(
        store: &mut Store<Host>,
        instance: Instance,
        build: &Build,
        handles: &Handles,
    ) -> Result<Convention, Error> {
        match build.format {
            format if format.is_lua() => Lua::find(store, &instance, handles).map(Convention::Lua),
            _ => Emscripten::find(store, instance, build, handles).map(Convention::Emscripten),
        }
    }

    /// Once per module, before any message. `source` is what the module's item holds.
    fn boot(&self, store: &mut Store<Host>, build: &Build, source: &[u8]) -> Ready {
        match self {
            Convention::Emscripten(c) => c.boot(store, build).map(Ok),
            Convention::Lua(c) => c.boot(store, source),
        }
    }

    /// Once per instance, before its first message. Costs a message no gas.
    fn prepare(&mut self, store: &mut Store<Host>, env: &[u8]) -> Ready {
        match self {
            Convention::Emscripten(c) => c.prepare(store).map(Ok),
            Convention::Lua(c) => c.prepare(store, env),
        }
    }

    fn exchange(&mut self, store: &mut Store<Host>, message: &[u8], env: &[u8]) -> wasmtime::Result<Verdict> {
        match self {
            Convention::Emscripten(c) => c.exchange(store, message, env),
            Convention::Lua(c) => c.exchange(store, message),
        }
    }
}

/// Whether a step went well; if not, what the module said.
type Ready = wasmtime::Result<Result<(), Fault>>;

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
        let convention = Convention::find(&mut store, instance, build, &handles)?;
        let globals = exported_globals(&mut store, &instance);
        store.data_mut().handles = Some(handles.clone());
        let watched = build.watch.guard(region.clone());
        store.data_mut().watched = Some(watched.clone());
        Ok(Live {
            store,
            handles,
            convention,
            is_prepared: false,
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

    /// Writes a page as the module would.
    pub fn put_page(&mut self, page: usize, bytes: &[u8; PAGE]) {
        let memory = self.handles.memory.data_mut(&mut self.store);
        memory[page * PAGE..(page + 1) * PAGE].copy_from_slice(bytes);
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

    /// What is done once before the first message of any process.
    pub fn boot(&mut self, build: &Build, limits: &Limits, source: &[u8]) -> Result<(), Error> {
        self.refill(limits);
        let done = self.convention.boot(&mut self.store, build, source);
        let fault = match done {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(fault)) => fault,
            Err(e) => self.fault_of(e),
        };
        let what = match build.format {
            format if format.is_lua() => "its Lua source does not load",
            _ => "its constructors failed",
        };
        let text = serde_json::from_str(&fault.error_json()).unwrap_or(fault.to_string());
        Err(Error::Refused(format!("{what}: {text}")))
    }

    fn refill(&mut self, limits: &Limits) {
        self.store.data_mut().gas = super::host::Gas {
            used: 0,
            limit: limits.metered_gas_max,
        };
    }

    /// Runs one message. `gas` bounds it where this instance counts gas.
    pub fn run(
        &mut self,
        message: &[u8],
        env: &[u8],
        asking: Option<Asking>,
        limits: &Limits,
        gas: u64,
    ) -> Result<Ended, Error> {
        self.store.data_mut().asking = asking;
        let outcome = self.exchange(message, env, limits, gas);
        self.store.data_mut().asking = None;
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
        if let Err(e) = &outcome
            && let Some(Stop::Unavailable(refusal)) = e.downcast_ref::<Stop>()
        {
            return Err(Error::Unavailable(refusal.clone()));
        }
        match outcome {
            Ok(verdict) => Ok(Ended::Verdict(verdict)),
            Err(e) if stopped && e.downcast_ref::<Trap>() == Some(&Trap::MemoryOutOfBounds) => {
                Ok(Ended::Stopped)
            }
            Err(e) => Ok(Ended::Verdict(Err(self.fault_of(e)))),
        }
    }

    fn exchange(
        &mut self,
        message: &[u8],
        env: &[u8],
        limits: &Limits,
        gas: u64,
    ) -> wasmtime::Result<Verdict> {
        if let Err(fault) = self.prepare(env)? {
            return Ok(Err(fault));
        }
        self.refill(limits);
        if self.fueled {
            self.store.set_fuel(gas)?;
        }
        self.convention.exchange(&mut self.store, message, env)
    }

    /// What must not count as gas of the message: it is done once per instance.
    fn prepare(&mut self, env: &[u8]) -> Ready {
        if let Some(depth) = self.handles.depth {
            depth.set(&mut self.store, Val::I32(0))?;
        }
        if !self.is_prepared {
            self.store.data_mut().gas = super::host::Gas {
                used: 0,
                limit: u64::MAX,
            };
            if self.fueled {
                self.store.set_fuel(u64::MAX)?;
            }
            if let Err(fault) = self.convention.prepare(&mut self.store, env)? {
                return Ok(Err(fault));
            }
            self.is_prepared = true;
        }
        Ok(Ok(()))
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
        (Some(save), Some(restore), Some(alloc)) => emscripten::stack(store, save, restore, alloc),
        _ => None,
    };
    let table = instance.get_table(&mut *store, build.table_export());
    let depth = instance.get_global(&mut *store, &format!("{PREFIX}depth"));
    let protected = protected(store, instance).map(Arc::new);
    Ok(Handles {
        memory,
        table,
        stack,
        set_threw,
        set_high_word,
        malloc,
        free,
        depth,
        protected,
    })
}

/// Only the Lua engine has these.
fn protected(store: &mut Store<Host>, instance: &Instance) -> Option<Protected> {
    Some(Protected {
        call: instance.get_typed_func(&mut *store, "weft_call").ok()?,
        stack_pointer: instance.get_global(&mut *store, "__stack_pointer")?,
    })
}
