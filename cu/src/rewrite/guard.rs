//! The last rewrite of every module: what the host needs to stop it, bound it and save it.
//!
//! - Each mutable global is exported as `weft:gN`, in order, so that a checkpoint holds all state.
//! - **Safepoints**: at each loop's head and at the entry of each function that calls, one load from a page just past
//!   the 32-bit address space. The host makes that page unreadable to stop the code; otherwise nothing happens.
//! - **Call depth** (modules whose own limits are not known to come first): the global `weft:depth` counts an upper
//!   estimate of native stack in bytes; past [`DEPTH_MAX`] the code traps. So the native stack never decides.
//!
//! Invariant: nothing else about the module changes; the memory image and every result stay.

use super::lower::memory_access;
use super::{Error, Result, accepted_features, require};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, Encode, ExportKind, ExportSection, Function, GlobalSection,
    GlobalType, Instruction as I, MemArg, Module, SectionId, TypeSection, ValType,
};
use wasmparser::{
    FuncValidatorAllocations, FunctionBody, Operator as Op, Parser, Payload, ValidPayload, Validator,
};

/// Prefix of the exports that this pass adds; a module that uses it itself is refused.
pub const PREFIX: &str = "weft:";
/// Estimated bytes of native stack after which a counted module traps. The real limit is far above.
pub const DEPTH_MAX: i32 = 6 << 20;
/// The safepoint's address: index -1 plus this offset, that is 16 MiB past 4 GiB, inside the guard region.
pub const SAFEPOINT_OFFSET: u64 = (16 << 20) + 1;
/// A static offset from here on could reach the safepoint's page; nobody compiles such code.
const OFFSET_MAX: u64 = 15 << 20;
/// What a call into the host may cost on the native stack before it comes back into the module.
const HOST_CALL_BYTES: usize = 8 << 10;

/// Which of the optional parts are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Count call depth.
    pub depth: bool,
    /// Insert safepoints; needs a 32-bit memory.
    pub safepoints: bool,
}

/// Applies the pass.
pub fn instrument(wasm: &[u8], options: Options) -> Result<Vec<u8>> {
    let shape = Shape::scan(wasm)?;
    let mut guard = Guard {
        options,
        next: 0,
        return_types: Vec::new(),
        shape,
    };
    guard.collect_return_types();
    let mut module = Module::new();
    guard.parse_core_module(&mut module, Parser::new(0), wasm)?;
    Ok(module.finish())
}

/// What is read of the module before it is written again.
#[derive(Default)]
struct Shape {
    types: Vec<wasmparser::SubType>,
    /// Type of each defined function.
    functions: Vec<u32>,
    imported_functions: u32,
    mutable_globals: Vec<u32>,
    globals: u32,
    memory32: bool,
    frames: Vec<Frame>,
}

/// What is known of a function's stack use.
#[derive(Clone, Copy, Default)]
struct Frame {
    /// It calls something.
    calls: bool,
    /// Estimated bytes of its native frame, an upper bound.
    bytes: usize,
}

impl Shape {
    fn scan(wasm: &[u8]) -> Result<Shape> {
        let mut shape = Shape::default();
        let mut validator = Validator::new_with_features(accepted_features());
        let mut allocations = FuncValidatorAllocations::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                let mut checker = function.into_validator(std::mem::take(&mut allocations));
                let frame = shape.frame(&mut checker, &body)?;
                shape.frames.push(frame);
                allocations = checker.into_allocations();
            }
            shape.read(payload)?;
        }
        Ok(shape)
    }

    fn read(&mut self, payload: Payload<'_>) -> Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    self.types.extend(group?.into_types());
                }
            }
            Payload::ImportSection(section) => {
                self.imported_functions = section.into_imports().count() as u32
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memory32 = !memory?.memory64;
                }
            }
            Payload::GlobalSection(section) => {
                for (index, global) in section.into_iter().enumerate() {
                    if global?.ty.mutable {
                        self.mutable_globals.push(index as u32);
                    }
                    self.globals += 1;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    require(
                        !export?.name.starts_with(PREFIX),
                        format!("it exports a name that starts with {PREFIX}"),
                    )?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Locals and operands live on the native stack at worst, 16 bytes each; so do the arguments of a call.
    fn frame<T: wasmparser::WasmModuleResources>(
        &self,
        checker: &mut wasmparser::FuncValidator<T>,
        body: &FunctionBody<'_>,
    ) -> Result<Frame> {
        let mut reader = body.get_binary_reader();
        checker.read_locals(&mut reader)?;
        let mut ops = wasmparser::OperatorsReader::new(reader);
        let (mut height, mut frame) = (0, Frame::default());
        while !ops.eof() {
            let (op, offset) = ops.read_with_offset()?;
            let host = matches!(op, Op::Call { function_index } if function_index < self.imported_functions);
            frame.calls |= matches!(op, Op::Call { .. } | Op::CallIndirect { .. });
            frame.bytes = frame.bytes.max(if host { HOST_CALL_BYTES } else { 0 });
            checker.op(offset, &op)?;
            height = height.max(checker.operand_stack_height());
        }
        frame.bytes += 256 + 16 * (checker.len_locals() + 2 * height) as usize;
        Ok(frame)
    }
}

struct Guard {
    options: Options,
    /// Defined functions written so far.
    next: usize,
    /// Result lists, other than none and single ones, that counted functions return; types are added for them.
    return_types: Vec<Vec<wasmparser::ValType>>,
    shape: Shape,
}

type Reencoded<T> = std::result::Result<T, reencode::Error<Error>>;

impl Reencode for Guard {
    type Error = Error;

    /// Drops a declared maximum: an offset past it would be known to trap, and a safepoint's offset is past all of
    /// them. The host holds growth to the maximum.
    fn memory_type(&mut self, ty: wasmparser::MemoryType) -> Reencoded<wasm_encoder::MemoryType> {
        let mut ty = reencode::utils::memory_type(self, ty);
        if self.options.safepoints {
            ty.maximum = None;
        }
        Ok(ty)
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Reencoded<()> {
        reencode::utils::parse_type_section(self, types, section)?;
        for results in self.return_types.clone() {
            let results = self.val_types(results)?;
            types.ty().function([], results);
        }
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Reencoded<()> {
        reencode::utils::parse_global_section(self, globals, section)?;
        self.add_depth(globals);
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Reencoded<()> {
        reencode::utils::parse_export_section(self, exports, section)?;
        for (n, global) in self.shape.mutable_globals.iter().enumerate() {
            exports.export(&format!("{PREFIX}g{n}"), ExportKind::Global, *global);
        }
        if self.options.depth {
            exports.export(&format!("{PREFIX}depth"), ExportKind::Global, self.shape.globals);
        }
        Ok(())
    }

    /// A module without globals gets the section for the depth counter, at its place.
    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Reencoded<()> {
        let order = |s: Option<SectionId>| s.map_or(0, section_order);
        let here = order(after) < section_order(SectionId::Global)
            && before.is_none_or(|b| section_order(b) > section_order(SectionId::Global));
        if here && self.options.depth && self.shape.globals == 0 {
            let mut globals = GlobalSection::new();
            self.add_depth(&mut globals);
            module.section(&globals);
        }
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Reencoded<()> {
        let index = self.next;
        self.next += 1;
        let function = self.function(index, &body);
        let index = index as u32 + self.shape.imported_functions;
        code.function(&function.map_err(|e| reencode::Error::UserError(e.in_function(index)))?);
        Ok(())
    }
}

impl Guard {
    fn collect_return_types(&mut self) {
        if !self.options.depth {
            return;
        }
        for ty in &self.shape.functions {
            let results = self.shape.types[*ty as usize].unwrap_func().results();
            if results.len() > 1 && !self.return_types.iter().any(|r| r == results) {
                self.return_types.push(results.to_vec());
            }
        }
    }

    fn add_depth(&self, globals: &mut GlobalSection) {
        if self.options.depth {
            let ty = GlobalType {
                val_type: ValType::I32,
                mutable: true,
                shared: false,
            };
            globals.global(ty, &ConstExpr::i32_const(0));
        }
    }

    fn function(&mut self, index: usize, body: &FunctionBody<'_>) -> Result<Function> {
        let mut function = self.new_function_with_parsed_locals(body)?;
        let frame = self.shape.frames[index];
        let counted = self.options.depth && frame.calls;
        if frame.calls {
            self.safepoint(&mut function);
        }
        if counted {
            self.enter(&mut function, frame.bytes as i32);
            function.instruction(&I::Block(self.result_type(index)?));
        }
        self.copy_body(&mut function, body, counted)?;
        if counted {
            self.move_depth(&mut function, -(frame.bytes as i32));
            function.instruction(&I::End);
        }
        Ok(function)
    }

    /// The operators as they are, but for a safepoint at each loop's head and, in a counted function, `return`s that
    /// leave through the block around the body.
    fn copy_body(&mut self, function: &mut Function, body: &FunctionBody<'_>, counted: bool) -> Result<()> {
        let mut nesting = 0u32;
        let mut ops = body.get_operators_reader()?;
        let mut code = Vec::new();
        while !ops.eof() {
            let op = ops.read()?;
            match op {
                Op::Block { .. } | Op::Loop { .. } | Op::If { .. } => nesting += 1,
                Op::End => nesting = nesting.saturating_sub(1),
                _ => {}
            }
            let reaches = self.options.safepoints && static_offset(&op) >= OFFSET_MAX;
            require(
                !reaches,
                format!("an access at a static offset of {OFFSET_MAX} or more"),
            )?;
            let is_loop = matches!(op, Op::Loop { .. });
            match op {
                Op::Return if counted => I::Br(nesting).encode(&mut code),
                op => self.instruction(op)?.encode(&mut code),
            }
            function.raw(code.drain(..));
            if is_loop {
                self.safepoint(function);
            }
        }
        Ok(())
    }

    fn safepoint(&self, function: &mut Function) {
        if !self.options.safepoints || !self.shape.memory32 {
            return;
        }
        let at = MemArg {
            offset: SAFEPOINT_OFFSET,
            align: 0,
            memory_index: 0,
        };
        function.instruction(&I::I32Const(-1));
        function.instruction(&I::I32Load8U(at));
        function.instruction(&I::Drop);
    }

    fn enter(&self, function: &mut Function, bytes: i32) {
        self.move_depth(function, bytes);
        function.instruction(&I::GlobalGet(self.shape.globals));
        function.instruction(&I::I32Const(DEPTH_MAX));
        function.instruction(&I::I32GtU);
        function.instruction(&I::If(BlockType::Empty));
        function.instruction(&I::Unreachable);
        function.instruction(&I::End);
    }

    fn move_depth(&self, function: &mut Function, bytes: i32) {
        let depth = self.shape.globals;
        function.instruction(&I::GlobalGet(depth));
        function.instruction(&I::I32Const(bytes));
        function.instruction(&I::I32Add);
        function.instruction(&I::GlobalSet(depth));
    }

    fn result_type(&mut self, index: usize) -> Result<BlockType> {
        let ty = self.shape.functions[index] as usize;
        let results = self.shape.types[ty].unwrap_func().results().to_vec();
        match results[..] {
            [] => Ok(BlockType::Empty),
            [one] => Ok(BlockType::Result(self.val_type(one)?)),
            _ => {
                let n = self
                    .return_types
                    .iter()
                    .position(|r| *r == results)
                    .expect("collected before");
                Ok(BlockType::FunctionType((self.shape.types.len() + n) as u32))
            }
        }
    }
}

/// Sections in the order in which they must come.
fn section_order(section: SectionId) -> u8 {
    use SectionId::*;
    match section {
        Custom => 0,
        Type => 1,
        Import => 2,
        Function => 3,
        Table => 4,
        Memory => 5,
        Tag => 6,
        Global => 7,
        Export => 8,
        Start => 9,
        Element => 10,
        DataCount => 11,
        Code => 12,
        Data => 13,
    }
}

/// A memory access's static offset, 0 for anything else.
fn static_offset(op: &Op<'_>) -> u64 {
    memory_access(op).map_or(0, |(memarg, _)| memarg.offset)
}
