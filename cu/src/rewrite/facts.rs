//! What is known of a value on the operand stack, and how operators carry that knowledge.
//! Only what Asyncify's conditions and memory addresses need. Invariant: a fact never claims more than holds.

use wasmparser::Operator as Op;

pub(super) const MAX_U32: u64 = 0xffff_ffff;

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Unknown,
    /// An integer that is not 0.
    NonZero,
    /// An unsigned integer of at most this.
    AtMost(u64),
    I32(i32),
    I64(i64),
}

impl Fact {
    /// The greatest unsigned value possible.
    pub fn max(self) -> u64 {
        match self {
            Fact::AtMost(max) => max,
            Fact::I32(c) => c as u32 as u64,
            Fact::I64(c) => c as u64,
            Fact::Unknown | Fact::NonZero => u64::MAX,
        }
    }

    fn at_most(max: Option<u64>) -> Fact {
        max.map_or(Fact::Unknown, Fact::AtMost)
    }

    /// Whether a condition with this value holds, where that is known.
    pub fn truth(self) -> Option<bool> {
        match self {
            Fact::I32(c) => Some(c != 0),
            Fact::NonZero => Some(true),
            _ => None,
        }
    }

    /// What holds of a value that comes from either of two places.
    pub fn meet(self, other: Fact) -> Fact {
        match (self, other) {
            (a, b) if a == b => a,
            (a, b) if a.truth() == Some(true) && b.truth() == Some(true) => Fact::NonZero,
            (a, b) if a.max().max(b.max()) < u64::MAX => Fact::AtMost(a.max().max(b.max())),
            _ => Fact::Unknown,
        }
    }
}

/// What is known of an operator's result, from its operands in order.
pub(super) fn result_fact(op: &Op<'_>, facts: &[Fact]) -> Fact {
    match logic_fact(op, facts) {
        Fact::Unknown => bound_fact(op, facts),
        known => known,
    }
}

/// Constants, and conditions made of them.
fn logic_fact(op: &Op<'_>, facts: &[Fact]) -> Fact {
    use Fact::*;
    let truth = |b: bool| I32(b as i32);
    match (op, facts) {
        (Op::I32Const { value }, _) => I32(*value),
        (Op::I64Const { value }, _) => I64(*value),
        (Op::I32Eqz, [a]) => a.truth().map_or(Unknown, |t| truth(!t)),
        (Op::I32Eq, [I32(a), I32(b)]) => truth(a == b),
        (Op::I32Ne, [I32(a), I32(b)]) => truth(a != b),
        (Op::I32And, [I32(0), _] | [_, I32(0)]) => I32(0),
        (Op::I32And, [I32(a), I32(b)]) => I32(a & b),
        (Op::I32Or, [I32(a), I32(b)]) => I32(a | b),
        (Op::I32Or, [I32(0), a] | [a, I32(0)]) => *a,
        (Op::I32Or, [a, b]) if a.truth().or(b.truth()) == Some(true) => NonZero,
        (Op::I64Add, [I64(a), I64(b)]) => I64(a.wrapping_add(*b)),
        (Op::I64Sub, [I64(a), I64(b)]) => I64(a.wrapping_sub(*b)),
        _ => Unknown,
    }
}

/// Upper bounds.
fn bound_fact(op: &Op<'_>, facts: &[Fact]) -> Fact {
    use Fact::*;
    let fits = |max: u64| (max <= MAX_U32).then_some(max);
    match (op, facts) {
        (Op::I32And | Op::I64And, [a, b]) => AtMost(a.max().min(b.max())),
        (Op::I32ShrU, [a, I32(k)]) => AtMost(a.max().min(MAX_U32) >> (k & 31)),
        (Op::I64ShrU, [a, I64(k)]) => AtMost(a.max() >> (k & 63)),
        (Op::I32Add, [a, b]) => Fact::at_most(a.max().checked_add(b.max()).and_then(fits)),
        (Op::I64Add, [a, b]) => Fact::at_most(a.max().checked_add(b.max())),
        (Op::I32Mul, [a, b]) => Fact::at_most(a.max().checked_mul(b.max()).and_then(fits)),
        (Op::I64Mul, [a, b]) => Fact::at_most(a.max().checked_mul(b.max())),
        (Op::I32Shl, [a, I32(k)]) => Fact::at_most(a.max().checked_mul(1 << (k & 31)).and_then(fits)),
        (Op::I64Shl, [a, I64(k)]) => Fact::at_most(a.max().checked_mul(1 << (k & 63))),
        (Op::I64ExtendI32U, [a]) => AtMost(a.max().min(MAX_U32)),
        (Op::I32Load8U { .. } | Op::I64Load8U { .. }, _) => AtMost(0xff),
        (Op::I32Load16U { .. } | Op::I64Load16U { .. }, _) => AtMost(0xffff),
        (Op::I64Load32U { .. }, _) => AtMost(MAX_U32),
        _ => Unknown,
    }
}

/// Operators whose code may be removed or moved along with their operands'.
#[rustfmt::skip]
pub(super) fn is_pure(op: &Op<'_>) -> bool {
    use Op::*;
    matches!(
        op,
        I32Const { .. } | I64Const { .. } | F32Const { .. } | F64Const { .. }
            | I32Eqz | I32Eq | I32Ne | I32LtS | I32LtU | I32GtS | I32GtU | I32LeS | I32LeU | I32GeS | I32GeU
            | I64Eqz | I64Eq | I64Ne | I64LtS | I64LtU | I64GtS | I64GtU | I64LeS | I64LeU | I64GeS | I64GeU
            | I32Add | I32Sub | I32Mul | I32And | I32Or | I32Xor | I32Shl | I32ShrS | I32ShrU
            | I64Add | I64Sub | I64Mul | I64And | I64Or | I64Xor | I64Shl | I64ShrS | I64ShrU
            | I32WrapI64 | I64ExtendI32S | I64ExtendI32U
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meets_keep_only_what_both_sides_hold() {
        assert_eq!(Fact::I32(3).meet(Fact::I32(3)), Fact::I32(3));
        assert_eq!(Fact::I32(3).meet(Fact::I32(4)), Fact::NonZero);
        assert_eq!(Fact::I32(0).meet(Fact::I32(4)), Fact::AtMost(4));
        assert_eq!(Fact::I32(-1).meet(Fact::AtMost(9)), Fact::AtMost(MAX_U32));
        assert_eq!(Fact::NonZero.meet(Fact::I32(0)), Fact::Unknown);
    }

    #[test]
    fn bounds_never_wrap() {
        assert_eq!(
            result_fact(&Op::I32Add, &[Fact::AtMost(MAX_U32), Fact::I32(1)]),
            Fact::Unknown
        );
        assert_eq!(
            result_fact(&Op::I64Add, &[Fact::AtMost(u64::MAX), Fact::I64(1)]),
            Fact::Unknown
        );
        assert_eq!(
            result_fact(&Op::I32Shl, &[Fact::AtMost(1 << 20), Fact::I32(12)]),
            Fact::Unknown
        );
        assert_eq!(
            result_fact(&Op::I32Add, &[Fact::AtMost(7), Fact::I32(1)]),
            Fact::AtMost(8)
        );
    }
}
