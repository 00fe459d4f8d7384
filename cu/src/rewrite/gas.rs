//! Gas as the metering formats count it.
//!
//! The rule (the field's, so that `GasUsed` agrees): a function body is cut after each operator that can branch
//! (`memory.grow`, `end`, `br`, `br_table`, `br_if`, `if`, `else`, `return`, `loop`). Each piece whose operators cost
//! anything starts with a call of `metering.usegas` with the sum of their costs plus 91 for the statement itself.
//! The statement is counted on the module as published, before any other rewrite, so no rewrite changes `GasUsed`.
//!
//! Not here: the counter and its limit (the host's `usegas`).

use super::{Error, Result, require};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    CodeSection, Encode, EntityType, Function, ImportSection, Instruction as I, Module, TypeSection, ValType,
};
use wasmparser::{FunctionBody, Operator as Op, Parser, Payload, TypeRef};

/// What one gas statement adds to the piece it stands in front of: a constant and a call.
const STATEMENT: u64 = 1 + 90;

/// Adds the gas statements. `pointer64` decides the type of `usegas`'s argument.
pub fn inject(wasm: &[u8], pointer64: bool) -> Result<Vec<u8>> {
    let (types, imported) = shape(wasm)?;
    let ty = if pointer64 { ValType::I64 } else { ValType::I32 };
    let mut meter = Meter { ty, types, imported };
    let mut module = Module::new();
    meter.parse_core_module(&mut module, Parser::new(0), wasm)?;
    Ok(module.finish())
}

/// The number of types and of imported functions; a module metered by its author is refused.
fn shape(wasm: &[u8]) -> Result<(u32, u32)> {
    let (mut types, mut imported, mut has_imports) = (0, 0, false);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    types += group?.into_types().len() as u32;
                }
            }
            Payload::ImportSection(section) => {
                has_imports = true;
                for import in section.into_imports() {
                    let import = import?;
                    require(
                        (import.module, import.name) != ("metering", "usegas"),
                        "it imports metering.usegas itself",
                    )?;
                    imported += matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) as u32;
                }
            }
            _ => {}
        }
    }
    require(
        types > 0 && has_imports,
        "a metered module needs types and imports",
    )?;
    Ok((types, imported))
}

struct Meter {
    ty: ValType,
    types: u32,
    imported: u32,
}

type Reencoded<T> = std::result::Result<T, reencode::Error<Error>>;

impl Reencode for Meter {
    type Error = Error;

    fn function_index(&mut self, index: u32) -> Reencoded<u32> {
        Ok(if index >= self.imported { index + 1 } else { index })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Reencoded<()> {
        reencode::utils::parse_type_section(self, types, section)?;
        types.ty().function([self.ty], []);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Reencoded<()> {
        reencode::utils::parse_import_section(self, imports, section)?;
        imports.import("metering", "usegas", EntityType::Function(self.types));
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Reencoded<()> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let (mut piece, mut cost) = (Vec::new(), 0);
        let mut ops = body.get_operators_reader()?;
        while !ops.eof() {
            let op = ops.read()?;
            cost += cost_of(&op);
            let ends = ends_piece(&op);
            self.instruction(op)?.encode(&mut piece);
            if ends {
                self.statement(&mut function, std::mem::take(&mut cost));
                function.raw(piece.drain(..));
            }
        }
        code.function(&function);
        Ok(())
    }
}

impl Meter {
    fn statement(&self, function: &mut Function, cost: u64) {
        if cost == 0 {
            return;
        }
        let cost = cost + STATEMENT;
        match self.ty {
            ValType::I64 => function.instruction(&I::I64Const(cost as i64)),
            _ => function.instruction(&I::I32Const(i32::try_from(cost).unwrap_or(i32::MAX))),
        };
        function.instruction(&I::Call(self.imported));
    }
}

fn ends_piece(op: &Op<'_>) -> bool {
    matches!(
        op,
        Op::MemoryGrow { .. }
            | Op::End
            | Op::Br { .. }
            | Op::BrTable { .. }
            | Op::BrIf { .. }
            | Op::If { .. }
            | Op::Else
            | Op::Return
            | Op::Loop { .. }
    )
}

/// The field's default cost table; what is not in it (`end`, conversions, float rounding, newer operators) is free.
#[rustfmt::skip]
fn cost_of(op: &Op<'_>) -> u64 {
    use Op::*;
    match op {
        LocalGet { .. } | LocalSet { .. } | LocalTee { .. } | GlobalGet { .. } | GlobalSet { .. } | Drop | Select
        | BrTable { .. }
        | I32Load { .. } | I64Load { .. } | F32Load { .. } | F64Load { .. } | I32Load8S { .. } | I32Load8U { .. }
        | I32Load16S { .. } | I32Load16U { .. } | I64Load8S { .. } | I64Load8U { .. } | I64Load16S { .. }
        | I64Load16U { .. } | I64Load32S { .. } | I64Load32U { .. }
        | I32Store { .. } | I64Store { .. } | F32Store { .. } | F64Store { .. } | I32Store8 { .. }
        | I32Store16 { .. } | I64Store8 { .. } | I64Store16 { .. } | I64Store32 { .. } => 120,
        MemoryGrow { .. } | CallIndirect { .. } => 10_000,
        MemorySize { .. } => 100,
        Nop | Block { .. } | Loop { .. } | If { .. } | Unreachable | I32Const { .. } | I64Const { .. }
        | F32Const { .. } | F64Const { .. } => 1,
        Else | Br { .. } | BrIf { .. } | Return | Call { .. } | I32Rotl | I32Rotr | I64Rotl | I64Rotr => 90,
        I32DivS | I32DivU | I32RemS | I32RemU | I64DivS | I64DivU | I64RemS | I64RemU => 36_000,
        I32Shl | I32ShrS | I32ShrU | I64Shl | I64ShrS | I64ShrU => 67,
        I32Add | I32Sub | I32Mul | I32And | I32Or | I32Xor | I32Eq | I32Eqz | I32Ne | I32LtS | I32LtU | I32LeS
        | I32LeU | I32GtS | I32GtU | I32GeS | I32GeU | I32Clz | I32Ctz | I32Popcnt
        | I64Add | I64Sub | I64Mul | I64And | I64Or | I64Xor | I64Eq | I64Eqz | I64Ne | I64LtS | I64LtU | I64LeS
        | I64LeU | I64GtS | I64GtU | I64GeS | I64GeU | I64Clz | I64Ctz | I64Popcnt
        | F32Add | F32Sub | F32Mul | F32Eq | F32Ne | F64Add | F64Sub | F64Mul | F64Eq | F64Ne => 45,
        _ => 0,
    }
}
