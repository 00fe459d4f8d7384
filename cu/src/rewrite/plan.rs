//! A module's shape, read once, and what is going to be done to it.
//! Not here: the doing. Invariant: a plan exists only for a module whose shape allows it.

use super::{Error, Options, Result, require};
use wasmparser::{
    ExternalKind, FunctionBody, Global, MemoryType, Operator, Parser, Payload, SubType, TypeRef,
};

/// Pages that a lowered memory may have.
const PAGES_MAX: u64 = (1 << 16) - 1;

/// What the translation of each function needs to know.
pub(super) struct Plan {
    pub options: Options,
    pub types: Vec<SubType>,
    /// Type index of each function, imports first.
    pub functions: Vec<u32>,
    pub imported_functions: u32,
    /// The Asyncify state global, when it is to be folded to 0.
    pub state: Option<u32>,
    /// Functions that may write the state global: the exported `asyncify_*`.
    pub runtime: Vec<u32>,
    pub lower: bool,
    /// Bytes the lowered memory may grow to; less than 4 GiB.
    pub max_memory: u64,
}

/// What is read besides, needed only while planning.
#[derive(Default)]
struct Shape<'a> {
    memories: Vec<MemoryType>,
    globals: Vec<Global<'a>>,
    imported_globals: u32,
    exported_globals: Vec<u32>,
    get_state: Option<u32>,
    bodies: Vec<FunctionBody<'a>>,
}

impl Plan {
    pub fn scan(wasm: &[u8], options: &Options) -> Result<Plan> {
        let mut plan = Plan {
            options: options.clone(),
            types: Vec::new(),
            functions: Vec::new(),
            imported_functions: 0,
            state: None,
            runtime: Vec::new(),
            lower: false,
            max_memory: 0,
        };
        let mut shape = Shape::default();
        for payload in Parser::new(0).parse_all(wasm) {
            plan.read(payload?, &mut shape)?;
        }
        plan.plan_strip(&shape)?;
        plan.plan_lowering(&shape)?;
        Ok(plan)
    }

    fn read<'a>(&mut self, payload: Payload<'a>, shape: &mut Shape<'a>) -> Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    self.types.extend(group?.into_types());
                }
            }
            Payload::ImportSection(section) => self.read_imports(section, shape)?,
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    shape.memories.push(memory?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    shape.globals.push(global?);
                }
            }
            Payload::ExportSection(section) => self.read_exports(section, shape)?,
            Payload::CodeSectionEntry(body) => shape.bodies.push(body),
            _ => {}
        }
        Ok(())
    }

    fn read_imports(
        &mut self,
        section: wasmparser::ImportSectionReader<'_>,
        shape: &mut Shape<'_>,
    ) -> Result<()> {
        for import in section.into_imports() {
            match import?.ty {
                TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.functions.push(ty),
                TypeRef::Global(_) => shape.imported_globals += 1,
                TypeRef::Memory(m) => require(!m.memory64, "it imports a 64-bit memory")?,
                _ => {}
            }
        }
        self.imported_functions = self.functions.len() as u32;
        Ok(())
    }

    fn read_exports(
        &mut self,
        section: wasmparser::ExportSectionReader<'_>,
        shape: &mut Shape<'_>,
    ) -> Result<()> {
        for export in section {
            let export = export?;
            match export.kind {
                ExternalKind::Func if export.name.starts_with("asyncify_") => {
                    self.runtime.push(export.index);
                    if export.name == "asyncify_get_state" {
                        shape.get_state = Some(export.index);
                    }
                }
                ExternalKind::Global => shape.exported_globals.push(export.index),
                _ => {}
            }
        }
        Ok(())
    }

    fn plan_strip(&mut self, shape: &Shape<'_>) -> Result<()> {
        let (true, Some(function)) = (self.options.strip_asyncify, shape.get_state) else {
            return Ok(());
        };
        let body = function
            .checked_sub(self.imported_functions)
            .and_then(|i| shape.bodies.get(i as usize));
        let body = body.ok_or_else(|| Error::shape("asyncify_get_state is an import"))?;
        let global_index = self.state_global(body)?;
        require(
            !shape.exported_globals.contains(&global_index),
            "the Asyncify state global is exported",
        )?;
        let global = global_index
            .checked_sub(shape.imported_globals)
            .and_then(|i| shape.globals.get(i as usize));
        let global = global.ok_or_else(|| Error::shape("the Asyncify state global is imported"))?;
        let starts_at_0 = matches!(
            global.init_expr.get_operators_reader().read()?,
            Operator::I32Const { value: 0 }
        );
        require(starts_at_0, "the Asyncify state does not start at 0")?;
        self.state = Some(global_index);
        Ok(())
    }

    /// The global that a function does nothing but read, after a gas statement if there is one.
    fn state_global(&self, body: &FunctionBody<'_>) -> Result<u32> {
        let mut ops = body.get_operators_reader()?;
        let mut first = ops.read()?;
        if matches!(first, Operator::I32Const { .. } | Operator::I64Const { .. }) {
            let is_gas = matches!(ops.read()?, Operator::Call { function_index } if function_index < self.imported_functions);
            require(is_gas, "asyncify_get_state is not a plain read of a global")?;
            first = ops.read()?;
        }
        match (first, ops.read()?) {
            (Operator::GlobalGet { global_index }, Operator::End) => Ok(global_index),
            _ => Err(Error::shape("asyncify_get_state is not a plain read of a global")),
        }
    }

    fn plan_lowering(&mut self, shape: &Shape<'_>) -> Result<()> {
        if !self.options.lower_memory64 || !shape.memories.iter().any(|m| m.memory64) {
            return Ok(());
        }
        let [memory] = shape.memories[..] else {
            return Err(Error::shape(format!("it has {} memories", shape.memories.len())));
        };
        // One page short of 4 GiB, so that no access can reach the last byte of the space. A module that declares more
        // finds that it cannot grow so far.
        let maximum = memory.maximum.unwrap_or(PAGES_MAX).min(PAGES_MAX);
        require(
            memory.initial <= maximum,
            format!(
                "its memory starts with {} pages, too many for 32 bits",
                memory.initial
            ),
        )?;
        require(memory.page_size_log2.is_none(), "its memory has custom pages")?;
        self.lower = true;
        self.max_memory = maximum << 16;
        Ok(())
    }
}
