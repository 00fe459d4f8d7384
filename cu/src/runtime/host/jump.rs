//! `setjmp` and `longjmp` as Emscripten does them, `invoke_*` calls a table entry and catches the jump; and as the
//! Lua engine does them, `try` calls the engine's trampoline.
//! Invariant: after a caught jump the module's stack pointer and our depth counter are as before the call.

use super::{CALL_GAS, Host, JUMP_GAS, ModuleFormat, Stop, charge};
use wasmtime::{AsContextMut, Caller, Func, FuncType, Linker, Ref, Val, ValType};

/// Binds `invoke_X`: the first argument is a table index, the others go to the function found there. Where gas is
/// added at load, the call goes through the module's own `dynCall_X`, whose gas the field counts.
pub fn link_invoke(
    linker: &mut Linker<Host>,
    format: ModuleFormat,
    from: &str,
    name: &str,
    ty: FuncType,
) -> wasmtime::Result<()> {
    if format.is_metered_at_load() {
        let export = name.replacen("invoke", "dynCall", 1);
        linker.func_new(from, name, ty, move |caller, args, results| {
            metered(caller, &export, args, results)
        })?;
        return Ok(());
    }
    let params: Vec<ValType> = ty.params().collect();
    let results = ty.results().len();
    match (&params[..], results) {
        ([ValType::I32, ValType::I32, ValType::I32], 0) => {
            linker.func_wrap(from, name, |caller: Caller<'_, Host>, i: i32, a: i32, b: i32| {
                narrow(caller, i, a, b)
            })?;
        }
        ([ValType::I64, ValType::I64, ValType::I64], 0) => {
            linker.func_wrap(from, name, |caller: Caller<'_, Host>, i: i64, a: i64, b: i64| {
                wide(caller, i, a, b)
            })?;
        }
        _ => {
            linker.func_new(from, name, ty, any)?;
        }
    }
    Ok(())
}

/// Binds `try`: answers 0, or 1 where a jump ended the call.
pub fn link_try(linker: &mut Linker<Host>, from: &str, name: &str) -> wasmtime::Result<()> {
    linker.func_wrap(from, name, protected)?;
    Ok(())
}

fn protected(mut caller: Caller<'_, Host>, function: i32, state: i32, data: i32) -> wasmtime::Result<i32> {
    charge(&mut caller, CALL_GAS)?;
    let handles = caller.data().handles();
    let (protected, depth) = (handles.protected.clone(), handles.depth);
    let protected = protected.ok_or_else(|| missing("weft_call"))?;
    let rest = protected.stack_pointer.get(&mut caller);
    let depth = depth.map(|global| (global, global.get(&mut caller)));
    match protected.call.call(&mut caller, (function, state, data)) {
        Ok(()) => Ok(0),
        Err(e) if e.downcast_ref::<Stop>() == Some(&Stop::LongJump) => {
            charge(&mut caller, JUMP_GAS)?;
            protected.stack_pointer.set(&mut caller, rest)?;
            if let Some((global, depth)) = depth {
                global.set(&mut caller, depth)?;
            }
            Ok(1)
        }
        Err(e) => Err(e),
    }
}

/// What must be put back when a jump is caught.
struct Mark {
    stack: u64,
    depth: Option<Val>,
}

impl Mark {
    fn set(caller: &mut Caller<'_, Host>) -> wasmtime::Result<Mark> {
        charge(caller, CALL_GAS)?;
        let stack = caller.data().handles().stack.clone();
        let stack = stack
            .ok_or_else(|| missing("stack functions"))?
            .save(caller.as_context_mut())?;
        let depth = caller.data().handles().depth;
        let depth = depth.map(|d| d.get(caller.as_context_mut()));
        Ok(Mark { stack, depth })
    }

    /// Passes every error on but the jump.
    fn catch(self, caller: &mut Caller<'_, Host>, outcome: wasmtime::Result<()>) -> wasmtime::Result<()> {
        match outcome {
            Err(e) if e.downcast_ref::<Stop>() == Some(&Stop::LongJump) => self.land(caller),
            other => other,
        }
    }

    fn land(self, caller: &mut Caller<'_, Host>) -> wasmtime::Result<()> {
        charge(caller, JUMP_GAS)?;
        let handles = caller.data().handles().clone();
        handles
            .stack
            .ok_or_else(|| missing("stack functions"))?
            .restore(caller.as_context_mut(), self.stack)?;
        if let (Some(global), Some(depth)) = (handles.depth, self.depth) {
            global.set(caller.as_context_mut(), depth)?;
        }
        let set_threw = handles.set_threw.ok_or_else(|| missing("setThrew"))?;
        if caller.data().wide() {
            set_threw
                .typed::<(i64, i32), ()>(&*caller)?
                .call(caller.as_context_mut(), (1, 0))
        } else {
            set_threw
                .typed::<(i32, i32), ()>(&*caller)?
                .call(caller.as_context_mut(), (1, 0))
        }
    }
}

fn missing(what: &str) -> wasmtime::Error {
    wasmtime::Error::new(Stop::Missing(format!("export {what}")))
}

fn table_entry(caller: &mut Caller<'_, Host>, index: u64) -> wasmtime::Result<Func> {
    let table = caller
        .data()
        .handles()
        .table
        .ok_or_else(|| missing("__indirect_function_table"))?;
    match table.get(caller.as_context_mut(), index) {
        Some(Ref::Func(Some(function))) => Ok(function),
        _ => Err(wasmtime::Error::new(Stop::Abort(
            "table index is out of bounds".into(),
        ))),
    }
}

fn narrow(mut caller: Caller<'_, Host>, index: i32, a: i32, b: i32) -> wasmtime::Result<()> {
    let mark = Mark::set(&mut caller)?;
    let function = table_entry(&mut caller, index as u32 as u64)?;
    let outcome = function
        .typed::<(i32, i32), ()>(&caller)
        .and_then(|f| f.call(&mut caller, (a, b)));
    mark.catch(&mut caller, outcome)
}

fn wide(mut caller: Caller<'_, Host>, index: i64, a: i64, b: i64) -> wasmtime::Result<()> {
    let mark = Mark::set(&mut caller)?;
    let function = table_entry(&mut caller, index as u64)?;
    let outcome = function
        .typed::<(i64, i64), ()>(&caller)
        .and_then(|f| f.call(&mut caller, (a, b)));
    mark.catch(&mut caller, outcome)
}

fn any(mut caller: Caller<'_, Host>, args: &[Val], results: &mut [Val]) -> wasmtime::Result<()> {
    let mark = Mark::set(&mut caller)?;
    let [index, args @ ..] = args else {
        return Err(missing("an index for invoke"));
    };
    let function = table_entry(&mut caller, super::word(index))?;
    let outcome = function.call(&mut caller, args, results);
    mark.catch(&mut caller, outcome)
}

fn metered(
    mut caller: Caller<'_, Host>,
    export: &str,
    args: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let Some(function) = caller.get_export(export).and_then(|e| e.into_func()) else {
        return any(caller, args, results);
    };
    let mark = Mark::set(&mut caller)?;
    let mut args = args.to_vec();
    // The table is indexed by 32 bits also where pointers have 64.
    if let (Some(ValType::I32), Some(index)) = (function.ty(&caller).param(0), args.first_mut()) {
        *index = Val::I32(super::word(index) as i32);
    }
    let outcome = function.call(&mut caller, &args, results);
    mark.catch(&mut caller, outcome)
}
