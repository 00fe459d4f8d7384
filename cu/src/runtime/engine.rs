//! The compiler and its settings, and the way from a published module to code that runs.
//! Invariant: everything that can change a result is in the engine epoch.

use super::format::ModuleFormat;
use super::lua;
use super::module::{Build, Module, Shape};
use super::pages::{Creator, GUARD, RESERVATION, Regions, deserialize};
use super::watch::Watch;
use super::{Config, Error, artefact};
use crate::rewrite::{self, bounds, gas, guard};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;
use wasmtime::OptLevel;

/// Compiler, rewriter, and every setting that a result depends on; with the Lua engine's hash it is the engine epoch.
const SETTINGS: &str = "weft-1;wasmtime-48.0.8;rewrite-1;nan-canonical;simd;host-gas-1;wasm-stack-16MiB";

/// Native stack for compiled code, bytes. A backstop only: the modules' own limits, or the call-depth counter, come first.
pub const WASM_STACK_BYTES: usize = 16 << 20;

/// SHA-256 of published Lua modules whose own limits are known to come before the native stack's (tested).
const OWN_DEPTH_LIMIT: [&str; 6] = [
    "c7f07e3dddfb49d7a0093eaf910ba5f7634ddb899999415594b95f3aea6b7bdb",
    "43d053f3c7c4fb21534a6bd73a8e5d40de5f5019a160fc7ca67b4925e55e112c",
    "fb5524345b8057598416c5e1eb3c71ec96fa87e1b45bcc07fe7c151a32dbd712",
    "3acf0325d20fa04aacb6684d0906fa25e4c46f26be391781536a82c40b8545e3",
    "0fbcfb85f6354a067ec909102430bd8a7ce0301c9686595f474eabffff7ba58e",
    "e0afa3a6e1675956f86563de7764ff6f68f8745d140de02902086d59cbed83c6",
];

/// The compiler and its settings; one per node. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    config: Config,
    /// Runs at full speed, stopped by the watch.
    plain: wasmtime::Engine,
    /// Counts gas.
    fueled: wasmtime::Engine,
    regions: Arc<Regions>,
    watch: Arc<Watch>,
    /// The Lua engines, each plain and counting gas: one for all Lua modules of a format.
    lua: Mutex<HashMap<(ModuleFormat, bool), Arc<Build>>>,
}

fn settings(regions: &Arc<Regions>, fueled: bool, interprets: bool) -> Result<wasmtime::Config, Error> {
    let mut c = wasmtime::Config::new();
    c.wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_bulk_memory(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false);
    c.cranelift_nan_canonicalization(true);
    c.cranelift_opt_level(OptLevel::Speed);
    c.wasm_backtrace_max_frames(None);
    c.async_stack_size(WASM_STACK_BYTES + (1 << 20))
        .max_wasm_stack(WASM_STACK_BYTES);
    c.memory_reservation(RESERVATION as u64)
        .memory_guard_size(GUARD as u64)
        .memory_may_move(false);
    // State files take this role, with more than one image per module.
    c.memory_init_cow(false);
    c.with_host_memory(Arc::new(Creator(regions.clone())));
    c.consume_fuel(fueled);
    if interprets {
        // Bounds are checked explicitly then, so nothing may rest on the guard: safepoints are left out too.
        c.target("pulley64").map_err(host)?;
        c.signals_based_traps(false);
    }
    Ok(c)
}

/// A Lua engine as epochs name it.
fn lua_part(format: ModuleFormat) -> String {
    let hash = blake3::Hash::from_bytes(*lua::engine_sha256(format)).to_hex();
    format!("lua-{}", &hash[..16])
}

fn host(e: impl std::fmt::Display) -> Error {
    Error::Host(e.to_string())
}

impl Engine {
    /// Sets up the compiler and the watch over running messages.
    pub fn new(config: Config) -> Result<Engine, Error> {
        let regions = Arc::new(Regions::default());
        let engine =
            |fueled| wasmtime::Engine::new(&settings(&regions, fueled, config.interprets())?).map_err(host);
        let (plain, fueled) = (engine(false)?, engine(true)?);
        let watch = Arc::new(Watch::start().map_err(host)?);
        Ok(Engine(Arc::new(Inner {
            config,
            plain,
            fueled,
            regions,
            watch,
            lua: Mutex::default(),
        })))
    }

    /// The engine epoch of this build: all its Lua engines. Part of slot 0's assignment.
    pub fn epoch() -> &'static str {
        static EPOCH: LazyLock<String> = LazyLock::new(|| {
            let engines = [ModuleFormat::LuaFirst, ModuleFormat::Lua].map(lua_part);
            format!("{SETTINGS};{}", engines.join(";"))
        });
        &EPOCH
    }

    /// The epoch that states of a module's format are of: its own engine alone, so that an engine more changes none.
    pub fn epoch_of(format: ModuleFormat) -> &'static str {
        static EPOCHS: LazyLock<[String; 2]> = LazyLock::new(|| {
            [ModuleFormat::LuaFirst, ModuleFormat::Lua]
                .map(|format| format!("{SETTINGS};{}", lua_part(format)))
        });
        &EPOCHS[usize::from(format == ModuleFormat::Lua)]
    }

    /// Whether a process spawned under that epoch runs here as it ran there.
    pub fn reproduces(epoch: &str, format: ModuleFormat) -> bool {
        let engines = epoch
            .strip_prefix(SETTINGS)
            .and_then(|rest| rest.strip_prefix(';'));
        let needed = lua_part(format);
        engines.is_some_and(|engines| !format.is_lua() || engines.split(';').any(|part| part == needed))
    }

    /// Loads a module, `source` being a binary or Lua text: from the cache of compiled ones, or else checked against the
    /// bounds, rewritten and compiled. Slow on a miss (100 to 400 ms for aos): call it where blocking is allowed, and
    /// keep the result.
    pub fn load(&self, source: &Bytes, format: ModuleFormat) -> Result<Module, Error> {
        Module::load(self, source, format)
    }

    /// The code that a module runs on, plain or counting gas.
    pub(super) fn build(
        &self,
        source: &Bytes,
        sha256: &[u8; 32],
        format: ModuleFormat,
        fueled: bool,
    ) -> Result<Arc<Build>, Error> {
        if !format.is_lua() {
            return self.build_wasm(source, sha256, format, fueled).map(Arc::new);
        }
        let most = self.0.config.bounds.module_bytes_max;
        if source.len() > most {
            let text = format!("its {} bytes exceed {most}", source.len());
            return Err(Error::Refused(text));
        }
        // Held while it compiles: whoever else needs it would compile it too.
        let mut builds = self.0.lua.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(build) = builds.get(&(format, fueled)) {
            return Ok(build.clone());
        }
        let wasm = Bytes::from_static(lua::engine(format));
        let build = Arc::new(self.build_wasm(&wasm, lua::engine_sha256(format), format, fueled)?);
        builds.insert((format, fueled), build.clone());
        Ok(build)
    }

    fn build_wasm(
        &self,
        wasm: &Bytes,
        sha256: &[u8; 32],
        format: ModuleFormat,
        fueled: bool,
    ) -> Result<Build, Error> {
        let inner = &self.0;
        let engine = if fueled { &inner.fueled } else { &inner.plain };
        let module = self.code(engine, wasm, sha256, format, fueled)?;
        let shape = Shape::read(wasm)?;
        Build::new(
            module,
            format,
            fueled,
            shape,
            inner.regions.clone(),
            inner.watch.clone(),
        )
    }

    fn code(
        &self,
        engine: &wasmtime::Engine,
        wasm: &Bytes,
        sha256: &[u8; 32],
        format: ModuleFormat,
        fueled: bool,
    ) -> Result<wasmtime::Module, Error> {
        let key = artefact::key(sha256, SETTINGS, format.name(), fueled);
        // Bytecode of the interpreter is not kept: its key would be native code's.
        let folder = self
            .0
            .config
            .cache
            .as_deref()
            .filter(|_| !self.0.config.interprets());
        if let Some(code) = folder.and_then(|f| artefact::read(f, &key)) {
            // Code of another processor or engine build is refused by the engine: compile it anew.
            if let Ok(module) = deserialize(engine, &code) {
                return Ok(module);
            }
        }
        let module = self.compile(engine, wasm, sha256, format)?;
        if let Some(folder) = folder {
            let kept = module
                .serialize()
                .map_err(host)
                .and_then(|c| artefact::write(folder, &key, &c).map_err(host));
            if let Err(e) = kept {
                tracing::warn!("compiled module not cached: {e}");
            }
        }
        Ok(module)
    }

    /// Rewrites and compiles on a thread of its own. Past the bound the module is refused; the thread ends by itself.
    fn compile(
        &self,
        engine: &wasmtime::Engine,
        wasm: &Bytes,
        sha256: &[u8; 32],
        format: ModuleFormat,
    ) -> Result<wasmtime::Module, Error> {
        let (bounds, safepoints) = (self.0.config.bounds.clone(), !self.0.config.interprets());
        let limit = Duration::from_millis(bounds.compile_ms_max);
        let (send, receive) = mpsc::channel();
        let (engine, wasm, sha256) = (engine.clone(), wasm.clone(), *sha256);
        let work = move || {
            let prepared = rewritten(&wasm, &sha256, format, &bounds, safepoints)
                .map_err(|e| Error::Refused(e.to_string()));
            let module = prepared.and_then(|w| {
                wasmtime::Module::new(&engine, w)
                    .map_err(|e| Error::Refused(format!("it does not compile: {e:#}")))
            });
            // Nobody listens any more once the bound has passed.
            send.send(module).ok();
        };
        std::thread::Builder::new()
            .name("cu-compile".into())
            .stack_size(64 << 20)
            .spawn(work)
            .map_err(host)?;
        receive.recv_timeout(limit).unwrap_or_else(|e| match e {
            mpsc::RecvTimeoutError::Timeout => Err(Error::Refused(format!(
                "its compilation takes longer than {} ms",
                limit.as_millis()
            ))),
            mpsc::RecvTimeoutError::Disconnected => Err(Error::Refused("its compilation failed".into())),
        })
    }
}

/// Every rewrite, in order.
pub fn prepare(
    wasm: &[u8],
    sha256: &[u8; 32],
    format: ModuleFormat,
    bounds: &bounds::Bounds,
) -> Result<Vec<u8>, rewrite::Error> {
    rewritten(wasm, sha256, format, bounds, true)
}

fn rewritten(
    wasm: &[u8],
    sha256: &[u8; 32],
    format: ModuleFormat,
    bounds: &bounds::Bounds,
    safepoints: bool,
) -> Result<Vec<u8>, rewrite::Error> {
    bounds::check_source(wasm, bounds)?;
    let metered = format
        .is_metered_at_load()
        .then(|| gas::inject(wasm, format.pointer_bytes() == 8))
        .transpose()?;
    let (simple, _) = rewrite::simplify(metered.as_deref().unwrap_or(wasm), &rewrite::Options::default())?;
    let depth = !format.is_lua() && !has_own_depth_limit(sha256);
    let out = guard::instrument(&simple, guard::Options { depth, safepoints })?;
    bounds::check_bodies(&out, bounds)?;
    Ok(out)
}

fn has_own_depth_limit(sha256: &[u8; 32]) -> bool {
    let hex = blake3::Hash::from_bytes(*sha256).to_hex();
    OWN_DEPTH_LIMIT.contains(&hex.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_names_the_versions_in_use() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let at = lock.find("name = \"wasmtime\"\n").unwrap();
        let version = lock[at..]
            .lines()
            .nth(1)
            .unwrap()
            .trim_start_matches("version = ")
            .trim_matches('"');
        assert!(SETTINGS.contains(&format!(";wasmtime-{version};")), "{version}");
        assert!(SETTINGS.contains(&format!(";rewrite-{};", rewrite::VERSION)));
        assert!(SETTINGS.ends_with(&format!("wasm-stack-{}MiB", WASM_STACK_BYTES >> 20)));
        assert!(Engine::epoch().starts_with(SETTINGS));
    }
}
