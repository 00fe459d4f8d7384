//! Narrowing of 64-bit addresses to a 32-bit memory, inside a function body.
//! Invariant: an access that would trap still traps, with the same kind of trap; no address wraps.

use super::body::Body;
use super::facts::{Fact, MAX_U32, result_fact};
use super::{Error, Result, require};
use wasm_encoder::{BlockType as EncBlock, Instruction as I, ValType};
use wasmparser::{MemArg, Operator as Op};

impl Body<'_> {
    /// Writes the 32-bit form of a memory operator; false if it is none.
    pub(super) fn lowered(&mut self, op: &Op<'_>) -> Result<bool> {
        match op {
            Op::MemorySize { .. } => {
                self.emit_pinned(&I::MemorySize(0));
                self.emit_pinned(&I::I64ExtendI32U);
                self.push(Fact::AtMost(1 << 16));
            }
            Op::MemoryGrow { .. } => self.grow(),
            Op::MemoryCopy { .. } => self.bulk_copy(),
            Op::MemoryFill { .. } => self.bulk_fill(),
            Op::MemoryInit { data_index, .. } => self.bulk_init(*data_index),
            _ => match memory_access(op) {
                Some((memarg, stored)) => self.access(op, memarg, stored)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// A delta that does not fit must fail, not wrap; -1 pages always fails.
    fn grow(&mut self) {
        let delta = self.pop();
        let local = self.current_local(&delta);
        let operand = self.readable(local);
        for i in [
            I::I32WrapI64,
            I::I32Const(-1),
            I::LocalGet(operand),
            I::I64Const(MAX_U32 as i64),
            I::I64LeU,
            I::Select,
            I::MemoryGrow(0),
            I::I64ExtendI32S,
        ] {
            self.emit_pinned(&i);
        }
        self.push(Fact::Unknown);
    }

    fn bulk_copy(&mut self) {
        let past_end = self.plan.max_memory;
        self.narrow(past_end);
        let length = self.set_aside(1, ValType::I32);
        self.narrow(past_end);
        let from = self.set_aside(2, ValType::I32);
        self.narrow(past_end);
        self.emit(&I::LocalGet(from));
        self.emit(&I::LocalGet(length));
        self.emit_pinned(&I::MemoryCopy {
            src_mem: 0,
            dst_mem: 0,
        });
    }

    fn bulk_fill(&mut self) {
        let past_end = self.plan.max_memory;
        self.narrow(past_end);
        let length = self.set_aside(1, ValType::I32);
        self.pop();
        let byte = self.set_aside(2, ValType::I32);
        self.narrow(past_end);
        self.emit(&I::LocalGet(byte));
        self.emit(&I::LocalGet(length));
        self.emit_pinned(&I::MemoryFill(0));
    }

    fn bulk_init(&mut self, data_index: u32) {
        self.pop();
        let length = self.set_aside(1, ValType::I32);
        self.pop();
        let from = self.set_aside(2, ValType::I32);
        self.narrow(self.plan.max_memory);
        self.emit(&I::LocalGet(from));
        self.emit(&I::LocalGet(length));
        self.emit_pinned(&I::MemoryInit { mem: 0, data_index });
    }

    /// A load or a store.
    fn access(&mut self, op: &Op<'_>, memarg: MemArg, stored: Option<ValType>) -> Result<()> {
        require(
            u32::try_from(memarg.offset).is_ok(),
            "an access offset of 4 GiB or more",
        )?;
        self.stats.accesses += 1;
        let last = self.plan.max_memory.saturating_sub(1);
        match stored {
            None => self.narrow(last),
            // The address lies under the value.
            Some(ty) => {
                let value = self.pop();
                match self.removable(&value) {
                    Some(start) => {
                        let code = self.cut(start);
                        self.narrow(last);
                        self.append(code);
                    }
                    None => {
                        let aside = self.set_aside(1, ty);
                        self.narrow(last);
                        self.emit(&I::LocalGet(aside));
                    }
                }
            }
        }
        self.copy(op)?;
        match op.operator_arity(self) {
            Some((_, 0)) => Ok(()),
            Some((_, 1)) => {
                self.push(result_fact(op, &[]));
                Ok(())
            }
            _ => Err(Error::shape(format!("cannot model {op:?}"))),
        }
    }

    /// Turns the 64-bit address on top of the stack into the 32-bit one, with a guard that traps if it is above
    /// `limit` (from where on the original always traps).
    fn narrow(&mut self, limit: u64) {
        let address = self.pop();
        let local = self.current_local(&address);
        let max = address
            .fact
            .max()
            .min(local.map_or(u64::MAX, |x| self.facts[x as usize].max()));
        if let (Fact::I64(c), true, Some(start)) = (address.fact, max <= limit, self.removable(&address)) {
            self.cut(start);
            self.emit(&I::I32Const(c as i32));
            return;
        }
        if max > MAX_U32 || !self.plan.options.elide_guards {
            self.guard(local, limit);
        }
        self.emit_pinned(&I::I32WrapI64);
    }

    fn guard(&mut self, local: Option<u32>, limit: u64) {
        self.stats.guards += 1;
        let operand = self.readable(local);
        for i in [
            I::LocalGet(operand),
            I::I64Const(limit as i64),
            I::I64GtU,
            I::If(EncBlock::Empty),
        ] {
            self.emit_pinned(&i);
        }
        for i in trap() {
            self.emit_pinned(&i);
        }
        self.emit_pinned(&I::End);
        if let Some(local) = local {
            self.facts[local as usize] = Fact::AtMost(limit);
        }
    }
}

/// What runs where an address is out of bounds: an access that gives the original's trap.
fn trap() -> [I<'static>; 4] {
    let memarg = wasm_encoder::MemArg {
        offset: 0,
        align: 0,
        memory_index: 0,
    };
    [I::I32Const(-1), I::I32Load8U(memarg), I::Drop, I::Unreachable]
}

/// A load's or store's immediate, and the type of the operand above the address if there is one.
#[rustfmt::skip]
pub(super) fn memory_access(op: &Op<'_>) -> Option<(MemArg, Option<ValType>)> {
    use Op::*;
    Some(match op {
        I32Load { memarg } | I32Load8S { memarg } | I32Load8U { memarg } | I32Load16S { memarg }
        | I32Load16U { memarg } | I64Load { memarg } | I64Load8S { memarg } | I64Load8U { memarg }
        | I64Load16S { memarg } | I64Load16U { memarg } | I64Load32S { memarg } | I64Load32U { memarg }
        | F32Load { memarg } | F64Load { memarg } | V128Load { memarg } | V128Load8x8S { memarg }
        | V128Load8x8U { memarg } | V128Load16x4S { memarg } | V128Load16x4U { memarg }
        | V128Load32x2S { memarg } | V128Load32x2U { memarg } | V128Load8Splat { memarg }
        | V128Load16Splat { memarg } | V128Load32Splat { memarg } | V128Load64Splat { memarg }
        | V128Load32Zero { memarg } | V128Load64Zero { memarg } => (*memarg, None),
        I32Store { memarg } | I32Store8 { memarg } | I32Store16 { memarg } => (*memarg, Some(ValType::I32)),
        I64Store { memarg } | I64Store8 { memarg } | I64Store16 { memarg } | I64Store32 { memarg } => {
            (*memarg, Some(ValType::I64))
        }
        F32Store { memarg } => (*memarg, Some(ValType::F32)),
        F64Store { memarg } => (*memarg, Some(ValType::F64)),
        V128Store { memarg } | V128Load8Lane { memarg, .. } | V128Load16Lane { memarg, .. }
        | V128Load32Lane { memarg, .. } | V128Load64Lane { memarg, .. } | V128Store8Lane { memarg, .. }
        | V128Store16Lane { memarg, .. } | V128Store32Lane { memarg, .. } | V128Store64Lane { memarg, .. } => {
            (*memarg, Some(ValType::V128))
        }
        _ => return None,
    })
}
