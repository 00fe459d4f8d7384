//! What a module imports: the host's side of the field's loaders.
//!
//! `Call` names every import that we answer; `link` binds a module's imports to them. An import that we do not know
//! is bound to a trap that says so, and only when it is called.
//! Not here: driving the module. Invariant: an answer is a function of the arguments, the memory and `HostState`.

mod calls;
pub mod disk;
mod heap;
mod jump;
mod nn;
pub mod oracle;
mod text;
pub mod time;

use super::format::ModuleFormat;
use super::watch::Guarded;
use disk::Disk;
use oracle::{Asking, Asks};
use std::sync::Arc;
use wasmtime::{
    AsContextMut, Caller, ExternType, Func, FuncType, Global, Linker, Memory, Table, TypedFunc, Val, ValType,
};

/// State of a process that is not in its linear memory or globals. Part of every image and of the state root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// What the next reading of any clock gives, in ms; each reading adds one. The field starts it at 10,000.
    pub clock: u64,
    /// Files.
    pub disk: Disk,
}

impl Default for HostState {
    fn default() -> Self {
        HostState {
            clock: 10_000,
            disk: Disk::default(),
        }
    }
}

/// Gas of the metering formats, for one message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gas {
    pub used: u64,
    pub limit: u64,
}

/// What the host needs of the instance that calls it.
#[derive(Clone)]
pub struct Handles {
    pub memory: Memory,
    pub table: Option<Table>,
    pub stack: Option<Stack>,
    pub set_threw: Option<Func>,
    pub set_high_word: Option<Func>,
    pub malloc: Option<Func>,
    pub free: Option<Func>,
    /// The call-depth counter, where the module has one.
    pub depth: Option<Global>,
    /// What a protected call of the Lua engine needs.
    pub protected: Option<Arc<Protected>>,
}

/// A protected call of the Lua engine: whom to call, and the stack pointer to put back.
pub struct Protected {
    pub call: TypedFunc<(i32, i32, i32), ()>,
    pub stack_pointer: Global,
}

/// The module's own stack, on which strings are passed.
#[derive(Clone)]
pub enum Stack {
    Narrow {
        save: TypedFunc<(), i32>,
        restore: TypedFunc<i32, ()>,
        alloc: TypedFunc<i32, i32>,
    },
    Wide {
        save: TypedFunc<(), i64>,
        restore: TypedFunc<i64, ()>,
        alloc: TypedFunc<i64, i64>,
    },
}

impl Stack {
    pub fn save(&self, store: impl AsContextMut) -> wasmtime::Result<u64> {
        match self {
            Stack::Narrow { save, .. } => save.call(store, ()).map(|p| p as u32 as u64),
            Stack::Wide { save, .. } => save.call(store, ()).map(|p| p as u64),
        }
    }

    pub fn restore(&self, store: impl AsContextMut, to: u64) -> wasmtime::Result<()> {
        match self {
            Stack::Narrow { restore, .. } => restore.call(store, to as i32),
            Stack::Wide { restore, .. } => restore.call(store, to as i64),
        }
    }

    pub fn alloc(&self, store: impl AsContextMut, bytes: u64) -> wasmtime::Result<u64> {
        match self {
            Stack::Narrow { alloc, .. } => alloc.call(store, bytes as i32).map(|p| p as u32 as u64),
            Stack::Wide { alloc, .. } => alloc.call(store, bytes as i64).map(|p| p as u64),
        }
    }
}

/// A store's data.
pub struct Host {
    pub format: ModuleFormat,
    pub state: HostState,
    pub gas: Gas,
    /// Bytes that the memory may grow to: the lesser of the process's limit and the module's own.
    pub memory_bytes_max: u64,
    /// This instance counts gas.
    pub counts_gas: bool,
    /// The machine under us could not give memory that the module was entitled to.
    pub starved: bool,
    pub handles: Option<Handles>,
    /// The clock's watch over this machine.
    pub watched: Option<Arc<Guarded>>,
    /// What the message at hand asks of the unit, where its process may.
    pub asking: Option<Asking>,
}

impl Host {
    pub fn new(format: ModuleFormat, memory_bytes_max: u64, counts_gas: bool) -> Host {
        Host {
            format,
            state: HostState::default(),
            gas: Gas::default(),
            memory_bytes_max,
            counts_gas,
            starved: false,
            handles: None,
            watched: None,
            asking: None,
        }
    }

    /// Gas of what the message has asked.
    pub fn asked_gas(&self) -> u64 {
        self.asking.as_ref().map_or(0, Asking::gas_used)
    }

    fn handles(&self) -> &Handles {
        self.handles
            .as_ref()
            .expect("set after instantiation, before any call; modules have no start function")
    }

    /// Bytes of a pointer.
    fn wide(&self) -> bool {
        self.format.pointer_bytes() == 8
    }

    fn tick(&mut self) -> f64 {
        let now = self.state.clock;
        self.state.clock += 1;
        now as f64
    }
}

impl wasmtime::ResourceLimiter for Host {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired as u64 <= self.memory_bytes_max)
    }

    /// Growth within the limit must not fail: a failure here is the machine's, and no result may come of it.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.starved |= error.downcast_ref::<std::io::Error>().is_some();
        Ok(())
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

/// Why the host ends a call: travels as an engine error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The module's own non-local jump; ends at the next `invoke_*`.
    #[error("a jump that nothing catches")]
    LongJump,
    #[error("out of gas!")]
    OutOfGas,
    #[error("{0}")]
    Abort(String),
    #[error("import {0} is not provided")]
    Missing(String),
    /// The unit does not answer now: nothing may come of the message.
    #[error("{0}")]
    Unavailable(spec::Refusal),
}

/// Every import that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Invoke,
    LongJump,
    Try,
    UseGas,
    GasUsed,
    Clock,
    ClockIsMonotonic,
    Abort,
    AssertFail,
    Throw,
    Exit,
    CopyMemory,
    ResizeHeap,
    HeapMax,
    System,
    SystemOld,
    PrintError,
    TempRet(bool),
    WeaveDriveOpen,
    WeaveDriveOther,
    EnvironSizes,
    Environ,
    TimeZone,
    Utc,
    MakeTime,
    FormatTime,
    Chmod,
    Fchmod,
    Fchown,
    Dup3,
    Access,
    Fcntl,
    Ioctl,
    StatPath,
    StatAt,
    StatStream,
    Truncate,
    Cwd,
    MakeFolder,
    OpenAt,
    ReadLink,
    Rename,
    RemoveFolder,
    Unlink,
    SetTimes,
    Unmap,
    Close,
    Read,
    Write,
    Seek,
    Sync,
    StreamStatus,
    /// The extension `Inference`.
    Asks(Asks),
}

/// The names of the minified imports of `wasm32-unknown-emscripten`, module `a`.
const MINIFIED: [(&str, &str); 30] = [
    ("a", "_emscripten_date_now"),
    ("b", "setTempRet0"),
    ("c", "fd_close"),
    ("d", "__syscall_fcntl64"),
    ("e", "__syscall_unlinkat"),
    ("f", "fd_write"),
    ("g", "__syscall_openat"),
    ("h", "getTempRet0"),
    ("i", "_mktime_js"),
    ("j", "_tzset_js"),
    ("k", "emscripten_memcpy_big"),
    ("l", "exit"),
    ("m", "system"),
    ("n", "strftime"),
    ("o", "fd_seek"),
    ("p", "_emscripten_throw_longjmp"),
    ("q", "emscripten_resize_heap"),
    ("r", "__syscall_lstat64"),
    ("s", "__syscall_renameat"),
    ("t", "__syscall_rmdir"),
    ("u", "environ_get"),
    ("v", "environ_sizes_get"),
    ("w", "__syscall_dup3"),
    ("x", "invoke_vii"),
    ("y", "fd_read"),
    ("z", "__syscall_ioctl"),
    ("A", "_emscripten_get_now_is_monotonic"),
    ("B", "_gmtime_js"),
    ("C", "_localtime_js"),
    ("D", "abort"),
];

impl Call {
    /// The call behind an import's name.
    pub fn find(module: &str, name: &str) -> Option<Call> {
        let name = match module {
            "metering" if name == "usegas" => return Some(Call::UseGas),
            "weft" if name == "try" => return Some(Call::Try),
            "weft" if name == "throw" => return Some(Call::LongJump),
            "weft" | "wasi_ephemeral_nn" => return Asks::find(module, name).map(Call::Asks),
            "a" => MINIFIED.iter().find(|(short, _)| *short == name)?.1,
            "env" | "wasi_snapshot_preview1" => name,
            _ => return None,
        };
        Call::named(name).or_else(|| Call::system(name))
    }

    fn named(name: &str) -> Option<Call> {
        Some(match name {
            "_emscripten_throw_longjmp" => Call::LongJump,
            "metering_gasUsed" => Call::GasUsed,
            "emscripten_date_now" | "_emscripten_date_now" | "emscripten_get_now" => Call::Clock,
            "_emscripten_get_now_is_monotonic" => Call::ClockIsMonotonic,
            "_abort_js" | "abort" => Call::Abort,
            "__assert_fail" => Call::AssertFail,
            "__cxa_throw" => Call::Throw,
            "exit" | "proc_exit" => Call::Exit,
            "_emscripten_memcpy_js" | "emscripten_memcpy_big" | "emscripten_memcpy_js" => Call::CopyMemory,
            "emscripten_resize_heap" => Call::ResizeHeap,
            "emscripten_get_heap_max" => Call::HeapMax,
            "_emscripten_system" => Call::System,
            "system" => Call::SystemOld,
            "emscripten_err" => Call::PrintError,
            "getTempRet0" => Call::TempRet(false),
            "setTempRet0" => Call::TempRet(true),
            "__asyncjs__weavedrive_open" => Call::WeaveDriveOpen,
            "__asyncjs__weavedrive_read" | "__asyncjs__weavedrive_close" => Call::WeaveDriveOther,
            "_tzset_js" => Call::TimeZone,
            "_gmtime_js" | "_localtime_js" => Call::Utc,
            "_mktime_js" => Call::MakeTime,
            "strftime" | "strftime_l" => Call::FormatTime,
            "_munmap_js" => Call::Unmap,
            name if name.starts_with("invoke_") => Call::Invoke,
            _ => return None,
        })
    }

    fn system(name: &str) -> Option<Call> {
        Some(match name {
            "environ_sizes_get" => Call::EnvironSizes,
            "environ_get" => Call::Environ,
            "__syscall_chmod" => Call::Chmod,
            "__syscall_fchmod" => Call::Fchmod,
            "__syscall_fchown32" => Call::Fchown,
            "__syscall_dup3" => Call::Dup3,
            "__syscall_faccessat" => Call::Access,
            "__syscall_fcntl64" => Call::Fcntl,
            "__syscall_ioctl" => Call::Ioctl,
            "__syscall_stat64" | "__syscall_lstat64" => Call::StatPath,
            "__syscall_newfstatat" => Call::StatAt,
            "__syscall_fstat64" => Call::StatStream,
            "__syscall_ftruncate64" => Call::Truncate,
            "__syscall_getcwd" => Call::Cwd,
            "__syscall_mkdirat" => Call::MakeFolder,
            "__syscall_openat" => Call::OpenAt,
            "__syscall_readlinkat" => Call::ReadLink,
            "__syscall_renameat" => Call::Rename,
            "__syscall_rmdir" => Call::RemoveFolder,
            "__syscall_unlinkat" => Call::Unlink,
            "__syscall_utimensat" => Call::SetTimes,
            "fd_close" => Call::Close,
            "fd_read" => Call::Read,
            "fd_write" => Call::Write,
            "fd_seek" => Call::Seek,
            "fd_sync" => Call::Sync,
            "fd_fdstat_get" => Call::StreamStatus,
            _ => return None,
        })
    }
}

/// What an import gives back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reply {
    Int(u64),
    Float(f64),
}

/// Gas of a call into the host, of a caught jump, and of each byte or page that the host moves or grows: about what
/// the same time buys in compiled code. Part of the engine epoch.
const CALL_GAS: u64 = 2_000;
const USE_GAS_GAS: u64 = 600;
const JUMP_GAS: u64 = 15_000;
const BYTES_PER_GAS: u64 = 2;
const PAGE_GAS: u64 = 60_000;

/// Charges for the host's work before it is done, where gas is counted.
fn charge(caller: &mut Caller<'_, Host>, gas: u64) -> wasmtime::Result<()> {
    if !caller.data().counts_gas {
        return Ok(());
    }
    let left = caller.get_fuel()?;
    caller.set_fuel(left.saturating_sub(gas))?;
    if left < gas {
        Err(wasmtime::Error::new(wasmtime::Trap::OutOfFuel))
    } else {
        Ok(())
    }
}

/// Binds every import of a module.
pub fn link(
    linker: &mut Linker<Host>,
    module: &wasmtime::Module,
    format: ModuleFormat,
) -> wasmtime::Result<()> {
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else {
            continue;
        };
        let (from, name) = (import.module(), import.name());
        match Call::find(from, name) {
            Some(Call::Invoke) => jump::link_invoke(linker, format, from, name, ty)?,
            Some(Call::Try) => jump::link_try(linker, from, name)?,
            Some(Call::LongJump) => {
                linker.func_new(from, name, ty, |_, _, _| {
                    Err(wasmtime::Error::new(Stop::LongJump))
                })?;
            }
            Some(Call::UseGas) => {
                linker.func_new(from, name, ty, |mut caller, args, _| {
                    charge(&mut caller, USE_GAS_GAS)?;
                    use_gas(caller.data_mut(), word(&args[0]))
                })?;
            }
            Some(call) => link_call(linker, from, name, ty, call)?,
            None => {
                let full = format!("{from}.{name}");
                linker.func_new(from, name, ty, move |_, _, _| {
                    Err(wasmtime::Error::new(Stop::Missing(full.clone())))
                })?;
            }
        }
    }
    Ok(())
}

fn use_gas(host: &mut Host, amount: u64) -> wasmtime::Result<()> {
    host.gas.used = host.gas.used.saturating_add(amount);
    if host.gas.used > host.gas.limit {
        Err(wasmtime::Error::new(Stop::OutOfGas))
    } else {
        Ok(())
    }
}

/// An argument as 64 bits; 32-bit integers count from 0.
fn word(v: &Val) -> u64 {
    match v {
        Val::I32(x) => *x as u32 as u64,
        Val::I64(x) => *x as u64,
        Val::F32(x) => *x as u64,
        Val::F64(x) => *x,
        _ => 0,
    }
}

fn to_val(ty: &ValType, reply: Reply) -> Val {
    match (ty, reply) {
        (ValType::I32, Reply::Int(x)) => Val::I32(x as i32),
        (ValType::I64, Reply::Int(x)) => Val::I64(x as i64),
        (ValType::F64, Reply::Float(x)) => Val::F64(x.to_bits()),
        (ValType::F64, Reply::Int(x)) => Val::F64((x as f64).to_bits()),
        (ValType::F32, Reply::Float(x)) => Val::F32((x as f32).to_bits()),
        (ValType::I32, Reply::Float(x)) => Val::I32(x as i32),
        (ValType::I64, Reply::Float(x)) => Val::I64(x as i64),
        _ => Val::I32(0),
    }
}

fn link_call(
    linker: &mut Linker<Host>,
    from: &str,
    name: &str,
    ty: FuncType,
    call: Call,
) -> wasmtime::Result<()> {
    let result = ty.results().next();
    let full = format!("{from}.{name}");
    linker.func_new(from, name, ty, move |caller, args, results| {
        if matches!(call, Call::Asks(_)) && caller.data().asking.is_none() {
            return Err(wasmtime::Error::new(Stop::Missing(full.clone())));
        }
        let words: Vec<u64> = args.iter().map(word).collect();
        let reply = answer(call, caller, &words)?;
        if let (Some(ty), Some(slot)) = (&result, results.first_mut()) {
            *slot = to_val(ty, reply);
        }
        Ok(())
    })?;
    Ok(())
}

/// Answers one call. Too few arguments (a type nobody's compiler gives) read as 0.
fn answer(call: Call, mut caller: Caller<'_, Host>, words: &[u64]) -> wasmtime::Result<Reply> {
    let w = |i: usize| words.get(i).copied().unwrap_or(0);
    charge(&mut caller, CALL_GAS)?;
    let abort = |text: String| Err(wasmtime::Error::new(Stop::Abort(text)));
    match call {
        Call::Clock => Ok(Reply::Float(caller.data_mut().tick())),
        Call::ClockIsMonotonic => Ok(Reply::Int(1)),
        Call::GasUsed => Ok(Reply::Int(caller.data().gas.used)),
        Call::Abort => abort("Aborted(native code called abort())".into()),
        Call::AssertFail => {
            let text = calls::string(&mut caller, w(0)).unwrap_or_default();
            abort(format!("Aborted(Assertion failed: {text})"))
        }
        Call::Throw => abort("Aborted(an exception that nothing catches)".into()),
        Call::Exit => abort(format!("Program terminated with exit({})", w(0) as i32)),
        Call::PrintError | Call::TempRet(_) => Ok(Reply::Int(0)),
        Call::CopyMemory => heap::copy(&mut caller, w(0), w(1), w(2)),
        Call::ResizeHeap => heap::resize(&mut caller, w(0)),
        Call::HeapMax => Ok(Reply::Int(heap::limit(caller.data()))),
        Call::WeaveDriveOpen => heap::weavedrive_open(&mut caller),
        Call::WeaveDriveOther => Ok(Reply::Int(0)),
        Call::Asks(asks) => oracle::answer(asks, &mut caller, words),
        _ => calls::answer(call, &mut caller, words),
    }
}
