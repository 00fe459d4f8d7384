//! A loaded module: its code, its boot anchor, and the dictionary that its images are stored against.
//! Not here: how it was compiled (`engine`). Invariant: everything in here is a function of the binary and the epoch.

use super::anchor::Anchor;
use super::dictionary::Dictionary;
use super::engine::Engine;
use super::format::ModuleFormat;
use super::host::{self, Host};
use super::live::Live;
use super::lua;
use super::packed::{self, State};
use super::pages::{RESERVATION, Regions};
use super::watch::Watch;
use super::{Error, Limits};
use bytes::Bytes;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use wasmtime::{Func, Instance, InstancePre, Linker, Store};

/// Most memory that loading a Lua module may take.
const LUA_BOOT_BYTES_MAX: u64 = 256 << 20;

/// How long constructors may take.
const BOOT_MAX: Duration = Duration::from_secs(10);

/// Names of the minified exports of `wasm32-unknown-emscripten`.
const MINIFIED: [(&str, &str); 8] = [
    ("__wasm_call_ctors", "F"),
    ("handle", "G"),
    ("main", "H"),
    ("malloc", "J"),
    ("setThrew", "L"),
    ("stackSave", "M"),
    ("stackRestore", "N"),
    ("stackAlloc", "O"),
];

/// What of a binary's shape matters after it is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes that its memory starts with.
    pub memory_bytes_min: u64,
    /// Bytes that its memory may grow to by its own declaration.
    pub memory_bytes_max: u64,
}

impl Shape {
    pub fn read(wasm: &[u8]) -> Result<Shape, Error> {
        let refused = |e: wasmparser::Error| Error::Refused(format!("invalid: {e}"));
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            let wasmparser::Payload::MemorySection(section) = payload.map_err(refused)? else {
                continue;
            };
            // One at most: the bounds have been checked.
            if let Some(memory) = section.into_iter().next() {
                return Ok(Shape::of(&memory.map_err(refused)?));
            }
        }
        Err(Error::Refused("it has no memory".into()))
    }

    fn of(memory: &wasmparser::MemoryType) -> Shape {
        let most = if memory.memory64 { (1 << 16) - 1 } else { 1 << 16 };
        let maximum = memory.maximum.unwrap_or(most).min(most);
        Shape {
            memory_bytes_min: memory.initial.saturating_mul(65536),
            memory_bytes_max: (maximum * 65536).min(RESERVATION as u64),
        }
    }
}

/// Code that can be instantiated.
pub struct Build {
    pub module: wasmtime::Module,
    pub linked: InstancePre<Host>,
    pub format: ModuleFormat,
    pub fueled: bool,
    pub shape: Shape,
    pub regions: Arc<Regions>,
    pub watch: Arc<Watch>,
}

impl Build {
    pub fn new(
        module: wasmtime::Module,
        format: ModuleFormat,
        fueled: bool,
        shape: Shape,
        regions: Arc<Regions>,
        watch: Arc<Watch>,
    ) -> Result<Build, Error> {
        let mut linker = Linker::new(module.engine());
        let refused = |e: wasmtime::Error| Error::Refused(format!("its imports do not fit: {e:#}"));
        host::link(&mut linker, &module, format).map_err(refused)?;
        let linked = linker.instantiate_pre(&module).map_err(refused)?;
        Ok(Build {
            module,
            linked,
            format,
            fueled,
            shape,
            regions,
            watch,
        })
    }

    /// An exported function, under its own name or its minified one.
    pub fn export(&self, instance: &Instance, store: &mut Store<Host>, name: &str) -> Option<Func> {
        let short = MINIFIED
            .iter()
            .find(|(long, _)| *long == name && self.format == ModuleFormat::Emscripten1);
        instance.get_func(&mut *store, short.map_or(name, |(_, short)| short))
    }

    pub fn memory_export(&self) -> &'static str {
        if self.format == ModuleFormat::Emscripten1 {
            "E"
        } else {
            "memory"
        }
    }

    pub fn table_export(&self) -> &'static str {
        if self.format == ModuleFormat::Emscripten1 {
            "I"
        } else {
            "__indirect_function_table"
        }
    }
}

/// A compiled module with its boot image. Cheap to clone.
#[derive(Clone)]
pub struct Module(pub(super) Arc<Inner>);

pub(super) struct Inner {
    engine: Engine,
    /// The binary, or the Lua source.
    source: Bytes,
    sha256: [u8; 32],
    format: ModuleFormat,
    pub plain: Arc<Build>,
    fueled: Mutex<Option<Arc<Build>>>,
    pub boot: Anchor,
    dictionary: OnceLock<Arc<Dictionary>>,
}

impl Module {
    pub(super) fn load(engine: &Engine, source: &Bytes, format: ModuleFormat) -> Result<Module, Error> {
        let sha256 = match format {
            format if format.is_lua() => lua::identity(format, source),
            _ => lua::sha256(&[source]),
        };
        let plain = engine.build(source, &sha256, format, false)?;
        let boot = super::machine::on_big_stack(|| boot(&plain, source))?;
        let (engine, source) = (engine.clone(), source.clone());
        let (fueled, dictionary) = (Mutex::new(None), OnceLock::new());
        Ok(Module(Arc::new(Inner {
            engine,
            source,
            sha256,
            format,
            plain,
            fueled,
            boot,
            dictionary,
        })))
    }

    /// SHA-256 of the binary as published; of a Lua module, what [`lua::identity`] says.
    pub fn sha256(&self) -> [u8; 32] {
        self.0.sha256
    }

    /// Its format.
    pub fn format(&self) -> ModuleFormat {
        self.0.format
    }

    /// Bytes of linear memory that a process starts with; a smaller limit refuses it.
    pub fn memory_bytes_min(&self) -> u64 {
        self.0.plain.shape.memory_bytes_min
    }

    /// The code that counts gas, compiled when it is first needed.
    pub(super) fn fueled(&self) -> Result<Arc<Build>, Error> {
        let mut slot = self.0.fueled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(build) = &*slot {
            return Ok(build.clone());
        }
        let inner = &self.0;
        let build = inner
            .engine
            .build(&inner.source, &inner.sha256, inner.format, true)?;
        *slot = Some(build.clone());
        Ok(build)
    }

    /// The state of a process of this module from its packed form. `base` must be the state it was packed against.
    ///
    /// # Errors
    /// If the bytes are damaged, of another module, engine epoch or base, or need more than `memory_bytes_max`.
    pub fn unpack(&self, memory_bytes_max: u64, base: Option<&State>, bytes: &[u8]) -> Result<State, Error> {
        packed::unpack(self, memory_bytes_max, base, bytes)
    }

    /// The pages that images of this module are stored against.
    pub(super) fn dictionary(&self) -> Result<Arc<Dictionary>, Error> {
        if let Some(d) = self.0.dictionary.get() {
            return Ok(d.clone());
        }
        let made = Arc::new(Dictionary::of(self)?);
        Ok(self.0.dictionary.get_or_init(|| made).clone())
    }
}

/// What the boot of a module may use, whatever its processes may.
pub fn boot_limits(format: ModuleFormat) -> Limits {
    Limits {
        memory_bytes_max: match format {
            format if format.is_lua() => LUA_BOOT_BYTES_MAX,
            _ => super::MEMORY_BYTES_MAX,
        },
        ..Limits::default()
    }
}

/// Runs the constructors once, for all processes of the module.
fn boot(build: &Build, source: &[u8]) -> Result<Anchor, Error> {
    let limits = boot_limits(build.format);
    let mut live = Live::new(build, &limits)?;
    live.watched.begin(BOOT_MAX);
    let booted = live.boot(build, &limits, source);
    let stopped = live.watched.end().map_err(|e| Error::Host(e.to_string()))?;
    if stopped {
        return Err(Error::Refused("its constructors take too long".into()));
    }
    booted?;
    Anchor::take(&mut live)
}
