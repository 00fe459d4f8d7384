//! The Asyncify strip and the lowering of a 64-bit memory, over a whole module.
//! Not here: what happens inside a function (`body`, `lower`).

use super::plan::Plan;
use super::{Error, Options, Result, Stats, accepted_features, body};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, ConstExpr, DataSection, Module};
use wasmparser::{DataKind, FunctionBody, Operator, Parser, Validator};

pub(super) fn simplify(wasm: &[u8], options: &Options) -> Result<(Vec<u8>, Stats)> {
    Validator::new_with_features(accepted_features()).validate_all(wasm)?;
    let plan = Plan::scan(wasm, options)?;
    let stats = Stats {
        stripped: plan.state.is_some(),
        lowered: plan.lower,
        ..Stats::default()
    };
    let mut rewriter = Rewriter {
        next_function: plan.imported_functions,
        plan,
        stats,
    };
    let mut module = Module::new();
    rewriter.parse_core_module(&mut module, Parser::new(0), wasm)?;
    Ok((module.finish(), rewriter.stats))
}

struct Rewriter {
    plan: Plan,
    next_function: u32,
    stats: Stats,
}

type Reencoded<T> = std::result::Result<T, reencode::Error<Error>>;

impl Reencode for Rewriter {
    type Error = Error;

    fn memory_type(&mut self, ty: wasmparser::MemoryType) -> Reencoded<wasm_encoder::MemoryType> {
        let mut ty = reencode::utils::memory_type(self, ty);
        if self.plan.lower {
            ty.memory64 = false;
            ty.maximum = Some(self.plan.max_memory >> 16);
        }
        Ok(ty)
    }

    fn parse_data(&mut self, data: &mut DataSection, datum: wasmparser::Data<'_>) -> Reencoded<()> {
        match datum.kind {
            DataKind::Active {
                memory_index,
                ref offset_expr,
            } if self.plan.lower => {
                let offset = constant_offset(offset_expr).map_err(reencode::Error::UserError)?;
                data.active(
                    memory_index,
                    &ConstExpr::i32_const(offset as i32),
                    datum.data.iter().copied(),
                );
                Ok(())
            }
            _ => reencode::utils::parse_data(self, data, datum),
        }
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Reencoded<()> {
        let index = self.next_function;
        self.next_function += 1;
        let function = body::translate(&self.plan, &mut self.stats, index, &body)
            .map_err(|e| reencode::Error::UserError(e.in_function(index)))?;
        code.function(&function);
        Ok(())
    }

    /// Keeps function names; debug information and source maps would describe other code.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Reencoded<()> {
        match section.name() {
            "name" => reencode::utils::parse_custom_section(self, module, section),
            _ => Ok(()),
        }
    }
}

fn constant_offset(expr: &wasmparser::ConstExpr<'_>) -> Result<u32> {
    let mut ops = expr.get_operators_reader();
    let offset = match (ops.read()?, ops.read()?) {
        (Operator::I64Const { value }, Operator::End) => u32::try_from(value).ok(),
        _ => None,
    };
    offset.ok_or_else(|| Error::shape("a data segment's offset is not a constant below 4 GiB"))
}
