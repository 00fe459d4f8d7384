//! The calling convention of the Lua engine: frames into a scratch buffer, JSON text with its length back.
//!
//! Every Lua module runs on the one engine; its source is loaded once, at its boot, and the environment becomes state
//! before the first message. Not here: the jumps of Lua's errors (`host::jump`), how a frame is made (`frame`).
//! Invariant: a reply is read before anything else is called.

use super::host::{Handles, Host};
use super::reply::{self, RESPONSE_BYTES_MAX};
use super::{Error, Fault, ModuleFormat, Verdict};
use std::sync::LazyLock;
use wasmtime::{Instance, Memory, Store, TypedFunc, WasmParams, WasmResults};

/// The engine that can ask the compute unit.
const ENGINE: &[u8] = include_bytes!("../../../processes/lua/engine.wasm");
/// The engine of before, for the modules that were published for it.
const FIRST: &[u8] = include_bytes!("../../../processes/lua/kept/1.wasm");

/// The binary of a Lua format's engine.
pub fn engine(format: ModuleFormat) -> &'static [u8] {
    match format {
        ModuleFormat::Lua => ENGINE,
        _ => FIRST,
    }
}

/// SHA-256 of that binary.
pub fn engine_sha256(format: ModuleFormat) -> &'static [u8; 32] {
    static HASHES: LazyLock<[[u8; 32]; 2]> = LazyLock::new(|| [FIRST, ENGINE].map(|wasm| sha256(&[wasm])));
    &HASHES[usize::from(format == ModuleFormat::Lua)]
}

/// What a Lua module is known by: the engine it runs on and its source.
pub fn identity(format: ModuleFormat, source: &[u8]) -> [u8; 32] {
    sha256(&[engine_sha256(format), &sha256(&[source])])
}

/// SHA-256 of parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let digest = context.finish();
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What of an instance this convention uses.
pub struct Lua {
    memory: Memory,
    initialize: TypedFunc<(), ()>,
    alloc: TypedFunc<i32, i32>,
    load: TypedFunc<(i32, i32), i32>,
    has_env: TypedFunc<(), i32>,
    set_env: TypedFunc<(i32, i32), i32>,
    handle: TypedFunc<(i32, i32), i32>,
}

fn export<P: WasmParams, R: WasmResults>(
    store: &mut Store<Host>,
    instance: &Instance,
    name: &str,
) -> Result<TypedFunc<P, R>, Error> {
    let found = instance.get_typed_func(store, name);
    found.map_err(|e| Error::Refused(format!("the engine has no fitting {name}: {e}")))
}

impl Lua {
    pub fn find(store: &mut Store<Host>, instance: &Instance, handles: &Handles) -> Result<Lua, Error> {
        Ok(Lua {
            memory: handles.memory,
            initialize: export(store, instance, "_initialize")?,
            alloc: export(store, instance, "weft_alloc")?,
            load: export(store, instance, "weft_load")?,
            has_env: export(store, instance, "weft_has_env")?,
            set_env: export(store, instance, "weft_set_env")?,
            handle: export(store, instance, "weft_handle")?,
        })
    }

    /// Starts the engine and loads a module's source.
    pub fn boot(&self, store: &mut Store<Host>, source: &[u8]) -> wasmtime::Result<Result<(), Fault>> {
        self.initialize.call(&mut *store, ())?;
        let Some(at) = self.place(store, source)? else {
            return Ok(Err(out_of_memory()));
        };
        let reply = self.load.call(&mut *store, at)?;
        Ok(self.text(store, reply).and_then(reply::is_ok))
    }

    /// Hands over the environment, unless the state has it already.
    pub fn prepare(&self, store: &mut Store<Host>, env: &[u8]) -> wasmtime::Result<Result<(), Fault>> {
        if self.has_env.call(&mut *store, ())? != 0 {
            return Ok(Ok(()));
        }
        let Some(at) = self.place(store, env)? else {
            return Ok(Err(out_of_memory()));
        };
        let reply = self.set_env.call(&mut *store, at)?;
        Ok(self.text(store, reply).and_then(reply::is_ok))
    }

    /// One message.
    pub fn exchange(&self, store: &mut Store<Host>, message: &[u8]) -> wasmtime::Result<Verdict> {
        let Some(at) = self.place(store, message)? else {
            return Ok(Err(out_of_memory()));
        };
        let reply = self.handle.call(&mut *store, at)?;
        let gas_used = store.data().asked_gas();
        Ok(self
            .text(store, reply)
            .and_then(|text| reply::parse(text, gas_used)))
    }

    /// Copies bytes into the engine's scratch buffer; `None` where its memory is full.
    fn place(&self, store: &mut Store<Host>, bytes: &[u8]) -> wasmtime::Result<Option<(i32, i32)>> {
        let Ok(len) = i32::try_from(bytes.len()) else {
            return Ok(None);
        };
        let at = self.alloc.call(&mut *store, len)?;
        if at == 0 {
            return Ok(None);
        }
        self.memory.write(&mut *store, at as u32 as usize, bytes)?;
        Ok(Some((at, len)))
    }

    /// The text that an address stands for.
    fn text<'a>(&self, store: &'a Store<Host>, at: i32) -> Result<&'a [u8], Fault> {
        let memory = self.memory.data(store);
        let outside = || Fault::BadResponse("its address is outside the memory".into());
        let rest = memory.get(at as u32 as usize..).ok_or_else(outside)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(outside)?;
        let len = u32::from_le_bytes(*len) as usize;
        if len > RESPONSE_BYTES_MAX {
            return Err(Fault::BadResponse("it is too long".into()));
        }
        rest.get(..len).ok_or_else(outside)
    }
}

/// In Lua's own words.
fn out_of_memory() -> Fault {
    Fault::Thrown(r#""not enough memory""#.into())
}
