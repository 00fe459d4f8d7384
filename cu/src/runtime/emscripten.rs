//! The calling convention of the field's C modules: strings on the module's own stack, text with a NUL back.
//!
//! Not here: state, gas, the watch (`live`). Invariant: between calls the module's stack pointer is at rest.

use super::host::{Handles, Host, Stack, Stop};
use super::module::Build;
use super::reply::{self, RESPONSE_BYTES_MAX};
use super::{Error, Fault, Verdict};
use wasmtime::{Func, Instance, Store, Val};

/// The cookies that the loaders write at the end of the C stack and at address 0.
const STACK_COOKIES: [u32; 2] = [34_821_223, 2_310_721_022];
const ZERO_COOKIE: u32 = 1_668_509_029;

/// What of an instance this convention uses.
pub struct Emscripten {
    instance: Instance,
    handles: Handles,
    handle: Func,
    /// End of the module's own stack; 0 before the first message.
    lowest_stack: u64,
}

impl Emscripten {
    pub fn find(
        store: &mut Store<Host>,
        instance: Instance,
        build: &Build,
        handles: &Handles,
    ) -> Result<Emscripten, Error> {
        let handle = build.export(&instance, store, "handle");
        let handle = handle.ok_or_else(|| Error::Refused("it does not export handle".into()))?;
        Ok(Emscripten {
            instance,
            handles: handles.clone(),
            handle,
            lowest_stack: 0,
        })
    }

    /// What the loaders do once before the first message.
    pub fn boot(&self, store: &mut Store<Host>, build: &Build) -> wasmtime::Result<()> {
        self.run_if_there(store, build, "emscripten_stack_init")?;
        self.write_cookies(store, build)?;
        self.run_if_there(store, build, "__wasm_call_ctors")?;
        if build.format.runs_main() {
            self.run_main(store, build)?;
        }
        Ok(())
    }

    fn run_if_there(&self, store: &mut Store<Host>, build: &Build, name: &str) -> wasmtime::Result<()> {
        match build.export(&self.instance, &mut *store, name) {
            Some(f) => f.call(&mut *store, &[], &mut []),
            None => Ok(()),
        }
    }

    fn write_cookies(&self, store: &mut Store<Host>, build: &Build) -> wasmtime::Result<()> {
        let Some(end) = build.export(&self.instance, &mut *store, "emscripten_stack_get_end") else {
            return Ok(());
        };
        let mut at = [Val::I32(0)];
        end.call(&mut *store, &[], &mut at)?;
        let at = match pointer(&at[0]) {
            0 => 4,
            at => at as usize,
        };
        let memory = self.handles.memory;
        for (i, cookie) in STACK_COOKIES.iter().enumerate() {
            memory.write(&mut *store, at + 4 * i, &cookie.to_le_bytes())?;
        }
        Ok(memory.write(&mut *store, 0, &ZERO_COOKIE.to_le_bytes())?)
    }

    /// `main`, whose exit is expected and changes nothing.
    fn run_main(&self, store: &mut Store<Host>, build: &Build) -> wasmtime::Result<()> {
        let Some(main) = build.export(&self.instance, &mut *store, "main") else {
            return Ok(());
        };
        let arguments = if build.format.main_has_arguments() {
            self.program_arguments(store)?
        } else {
            [Val::I32(0), Val::I32(0)]
        };
        let ty = main.ty(&*store);
        let mut results = vec![Val::I32(0); ty.results().len()];
        match main.call(&mut *store, &arguments[..ty.params().len().min(2)], &mut results) {
            Err(e) if matches!(e.downcast_ref(), Some(Stop::Abort(text)) if text.starts_with("Program terminated")) => {
                Ok(())
            }
            other => other,
        }
    }

    /// One argument, the program's name, on the C stack.
    fn program_arguments(&self, store: &mut Store<Host>) -> wasmtime::Result<[Val; 2]> {
        let Some(stack) = self.handles.stack.clone() else {
            return Ok([Val::I32(0), Val::I32(0)]);
        };
        let memory = self.handles.memory;
        let list = stack.alloc(&mut *store, 8)?;
        let name = b"thisProgram\0";
        let text = stack.alloc(&mut *store, name.len() as u64)?;
        memory.write(&mut *store, text as usize, name)?;
        memory.write(&mut *store, list as usize, &(text as u32).to_le_bytes())?;
        memory.write(&mut *store, list as usize + 4, &[0; 4])?;
        Ok([Val::I32(1), Val::I32(list as i32)])
    }

    /// Strings on the module's own stack, one call, text back.
    pub fn exchange(
        &mut self,
        store: &mut Store<Host>,
        message: &[u8],
        env: &[u8],
    ) -> wasmtime::Result<Verdict> {
        let stack = self.handles.stack.clone();
        let stack = stack.ok_or_else(|| wasmtime::Error::new(Stop::Missing("export stackSave".into())))?;
        let rest = stack.save(&mut *store)?;
        let (mut top, mut arguments) = (rest, Vec::with_capacity(2));
        for text in [message, env] {
            match self.place(store, &stack, top, text)? {
                Some(at) => top = at,
                None => return Ok(Err(Fault::MessageTooBig(text.len() as u64))),
            }
            arguments.push(match stack {
                Stack::Narrow { .. } => Val::I32(top as i32),
                Stack::Wide { .. } => Val::I64(top as i64),
            });
        }
        let mut result = [Val::I32(0)];
        self.handle.call(&mut *store, &arguments, &mut result)?;
        // In the loaders' order, so that the gas of putting the stack back is counted.
        stack.restore(&mut *store, rest)?;
        Ok(self.response(store, pointer(&result[0])))
    }

    /// Copies a text with its NUL to the module's stack, whose pointer is at `top`; `None` where it does not fit.
    fn place(
        &self,
        store: &mut Store<Host>,
        stack: &Stack,
        top: u64,
        text: &[u8],
    ) -> wasmtime::Result<Option<u64>> {
        let bytes = text.len() as u64 + 1;
        let memory_bytes = self.handles.memory.data_size(&*store) as u64;
        if bytes >= memory_bytes {
            return Ok(None);
        }
        let at = stack.alloc(&mut *store, bytes)?;
        // A stack that grew past its start wraps around or ends up above where it was.
        if at >= top || at < self.lowest_stack || at + bytes > memory_bytes {
            return Ok(None);
        }
        self.handles.memory.write(&mut *store, at as usize, text)?;
        self.handles
            .memory
            .write(&mut *store, at as usize + text.len(), &[0])?;
        Ok(Some(at))
    }

    /// Asks once where the module's own stack ends, where it says so.
    pub fn prepare(&mut self, store: &mut Store<Host>) -> wasmtime::Result<()> {
        if let Some(end) = self.instance.get_func(&mut *store, "emscripten_stack_get_end") {
            let mut at = [Val::I32(0)];
            end.call(&mut *store, &[], &mut at)?;
            self.lowest_stack = pointer(&at[0]);
        }
        Ok(())
    }

    fn response(&self, store: &Store<Host>, at: u64) -> Verdict {
        let memory = self.handles.memory.data(store);
        let rest = usize::try_from(at).ok().and_then(|at| memory.get(at..));
        let rest = rest.ok_or_else(|| Fault::BadResponse("its address is outside the memory".into()))?;
        let window = &rest[..rest.len().min(RESPONSE_BYTES_MAX)];
        let end = window.iter().position(|b| *b == 0);
        let end = end.ok_or_else(|| Fault::BadResponse("it has no end".into()))?;
        let gas_used = store.data().gas.used.saturating_add(store.data().asked_gas());
        reply::parse(&window[..end], gas_used)
    }
}

/// An address, whichever width the module gives it.
fn pointer(v: &Val) -> u64 {
    match v {
        Val::I32(x) => *x as u32 as u64,
        Val::I64(x) => *x as u64,
        _ => 0,
    }
}

/// The functions over the module's own stack.
pub fn stack(store: &Store<Host>, save: Func, restore: Func, alloc: Func) -> Option<Stack> {
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
