//! What a module must look like before anything expensive is done with it.
//!
//! Two concerns, both refusals: a module too big to compile in bounded time, and a module that keeps state where a
//! checkpoint cannot reach it (tables, segments that can be dropped, imported memories).
//! Invariant: the check reads each byte a constant number of times.

use super::{Error, Result, require};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef};

/// Bounds on a module, checked before it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the module.
    pub module_bytes_max: usize,
    /// Functions it defines.
    pub functions_max: usize,
    /// Bytes of one function's body, after the rewrite. Compile time grows with about its square.
    pub body_bytes_max: usize,
    /// Locals of one function, parameters included.
    pub locals_max: usize,
    /// Per function: locals times (blocks and branch targets). What the rewrite and the compiler do per merge point.
    pub merges_max: usize,
    /// Types, imports, globals, exports: each.
    pub entries_max: usize,
    /// Parameters, and results, of one function.
    pub parameters_max: usize,
    /// Entries of a table when it starts.
    pub table_max: u64,
    /// Wall time of one compilation; past it the module is refused.
    pub compile_ms_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            module_bytes_max: 16 << 20,
            functions_max: 50_000,
            body_bytes_max: 384 << 10,
            locals_max: 10_000,
            merges_max: 64 << 20,
            entries_max: 20_000,
            parameters_max: 64,
            table_max: 1 << 20,
            compile_ms_max: 60_000,
        }
    }
}

/// Refuses a module as published that is beyond a bound or keeps state out of reach.
pub fn check_source(wasm: &[u8], bounds: &Bounds) -> Result<()> {
    require(
        wasm.len() <= bounds.module_bytes_max,
        format!("its {} bytes exceed {}", wasm.len(), bounds.module_bytes_max),
    )?;
    let mut index = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::CodeSectionEntry(body) => {
                check_body(&body, bounds).map_err(|e| e.in_function(index))?;
                index += 1;
            }
            Payload::ImportSection(section) => index += check_imports(section, bounds)?,
            other => check_section(other, bounds)?,
        }
    }
    Ok(())
}

/// Refuses a rewritten module whose functions are too big to compile.
pub fn check_bodies(wasm: &[u8], bounds: &Bounds) -> Result<()> {
    let mut number = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::CodeSectionEntry(body) = payload? else {
            continue;
        };
        let bytes = body.as_bytes().len();
        require(
            bytes <= bounds.body_bytes_max,
            format!(
                "body {number} has {bytes} bytes, more than {}",
                bounds.body_bytes_max
            ),
        )?;
        number += 1;
    }
    Ok(())
}

fn count(what: &str, found: usize, most: usize) -> Result<()> {
    require(found <= most, format!("it has {found} {what}, more than {most}"))
}

fn check_section(payload: Payload<'_>, bounds: &Bounds) -> Result<()> {
    let most = bounds.entries_max;
    match payload {
        Payload::TypeSection(section) => {
            count("types", section.count() as usize, most)?;
            for ty in section.into_iter_err_on_gc_types() {
                let ty = ty?;
                count(
                    "parameters in one function",
                    ty.params().len(),
                    bounds.parameters_max,
                )?;
                count(
                    "results in one function",
                    ty.results().len(),
                    bounds.parameters_max,
                )?;
            }
            Ok(())
        }
        Payload::FunctionSection(section) => {
            count("functions", section.count() as usize, bounds.functions_max)
        }
        Payload::GlobalSection(section) => count("globals", section.count() as usize, most),
        Payload::ExportSection(section) => count("exports", section.count() as usize, most),
        Payload::MemorySection(section) => count("memories", section.count() as usize, 1),
        Payload::StartSection { .. } => Err(Error::shape(
            "it has a start function; export constructors instead",
        )),
        Payload::TableSection(section) => {
            for table in section {
                let initial = table?.ty.initial;
                require(
                    initial <= bounds.table_max,
                    format!("a table starts with {initial} entries"),
                )?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Imports must be functions: whatever else is imported is state of somebody else. Returns their number.
fn check_imports(section: wasmparser::ImportSectionReader<'_>, bounds: &Bounds) -> Result<u32> {
    let mut functions = 0;
    for import in section.into_imports() {
        let import = import?;
        let is_function = matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
        require(
            is_function,
            format!(
                "it imports {}.{}, which is not a function",
                import.module, import.name
            ),
        )?;
        functions += 1;
    }
    count("imports", functions as usize, bounds.entries_max)?;
    Ok(functions)
}

fn check_body(body: &FunctionBody<'_>, bounds: &Bounds) -> Result<()> {
    let mut locals = 1usize;
    for group in body.get_locals_reader()? {
        locals += group?.0 as usize;
        count("locals", locals, bounds.locals_max)?;
    }
    let mut merges = 0usize;
    let mut ops = body.get_operators_reader()?;
    while !ops.eof() {
        merges += merge_points(&ops.read()?)?;
    }
    require(
        merges.saturating_mul(locals) <= bounds.merges_max,
        format!("{locals} locals meet at {merges} places"),
    )
}

/// How many merge points an operator brings; refuses operators that change state out of reach.
fn merge_points(op: &Operator<'_>) -> Result<usize> {
    match op {
        Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::Br { .. } => Ok(1),
        Operator::BrIf { .. } => Ok(1),
        Operator::BrTable { targets } => Ok(1 + targets.len() as usize),
        Operator::TableSet { .. }
        | Operator::TableGrow { .. }
        | Operator::TableFill { .. }
        | Operator::TableCopy { .. }
        | Operator::TableInit { .. }
        | Operator::ElemDrop { .. }
        | Operator::DataDrop { .. } => Err(Error::shape(format!(
            "it uses {op:?}: state that no checkpoint holds"
        ))),
        _ => Ok(0),
    }
}
