//! One pass over a function body: constant folding, dead-branch removal and (in `lower`) address narrowing.
//!
//! The pass follows the operand stack and the locals with a small fact about each value and writes the new body as
//! it goes. Code known to be dead is skipped. Where a value turns out to be constant after its code was written, and
//! that code had no side effect, the output is cut back and the constant written instead.
//! Invariant: output before `pinned` is never cut.

use super::facts::{Fact, is_pure, result_fact};
use super::plan::Plan;
use super::{Error, Result, Stats, require};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType as EncBlock, Encode, Function, Instruction as I, ValType};
use wasmparser::{BlockType, FrameKind, FuncType, ModuleArity, Operator as Op, SubType};

/// An entry of the operand stack.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub fact: Fact,
    /// The local it was read from or written to, and that local's version then.
    pub local: Option<(u32, u32)>,
    /// Where its code starts in the output, if that code has no side effect.
    start: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Loop,
    If,
    /// An `if` whose condition is known, written as a plain block.
    Taken,
    NotTaken,
}

struct Frame {
    kind: Kind,
    results: usize,
    height: usize,
    start: usize,
    /// Facts about the locals on entry.
    entry: Vec<Fact>,
    /// Facts about locals and results where control reaches the end; `None` while nothing does.
    end: Option<(Vec<Fact>, Vec<Fact>)>,
}

pub(super) struct Body<'a> {
    pub plan: &'a Plan,
    pub stats: &'a mut Stats,
    index: u32,
    out: Vec<u8>,
    /// Output before this point must stay.
    pinned: usize,
    stack: Vec<Value>,
    frames: Vec<Frame>,
    types: Vec<ValType>,
    pub facts: Vec<Fact>,
    versions: Vec<u32>,
    scratch: Vec<(u8, ValType, u32)>,
    /// Dead code is skipped up to the matching `else` or `end`; `nested` counts the blocks inside it.
    dead: bool,
    nested: usize,
}

pub(super) fn translate(
    plan: &Plan,
    stats: &mut Stats,
    index: u32,
    source: &wasmparser::FunctionBody<'_>,
) -> Result<Function> {
    let ty = plan.types[plan.functions[index as usize] as usize].unwrap_func();
    let types = local_types(ty, source)?;
    let params = ty.params().len();
    let mut body = Body::new(plan, stats, index, types, params);
    body.enter(Kind::Block, ty.results().len());
    let loops = locals_set_in_loops(source)?;
    let mut next_loop = loops.iter();
    let mut reader = source.get_operators_reader()?;
    while !reader.eof() {
        let op = reader.read()?;
        let set = match op {
            Op::Loop { .. } => next_loop.next().ok_or_else(|| Error::shape("loop count"))?,
            _ => &Vec::new(),
        };
        body.operator(&op, set)?;
    }
    let mut function = Function::new_with_locals_types(body.types[params..].iter().copied());
    function.raw(body.out.iter().copied());
    Ok(function)
}

/// Types of parameters and locals, in index order.
fn local_types(ty: &FuncType, source: &wasmparser::FunctionBody<'_>) -> Result<Vec<ValType>> {
    let mut types = Vec::new();
    for ty in ty.params() {
        types.push(RoundtripReencoder.val_type(*ty)?);
    }
    for group in source.get_locals_reader()? {
        let (count, ty) = group?;
        let ty = RoundtripReencoder.val_type(ty)?;
        types.extend(std::iter::repeat_n(ty, count as usize));
    }
    Ok(types)
}

/// For each loop, in order of appearance, the locals its body may set.
fn locals_set_in_loops(source: &wasmparser::FunctionBody<'_>) -> Result<Vec<Vec<u32>>> {
    let mut sets: Vec<Vec<u32>> = Vec::new();
    let mut blocks: Vec<Option<usize>> = vec![None];
    let mut reader = source.get_operators_reader()?;
    while !reader.eof() {
        match reader.read()? {
            Op::Loop { .. } => {
                blocks.push(Some(sets.len()));
                sets.push(Vec::new());
            }
            Op::Block { .. } | Op::If { .. } => blocks.push(None),
            Op::End => {
                if let Some(inner) = blocks.pop().flatten() {
                    close_loop(&mut sets, inner, blocks.iter().rev().find_map(|b| *b));
                }
            }
            Op::LocalSet { local_index } | Op::LocalTee { local_index } => {
                if let Some(inner) = blocks.iter().rev().find_map(|b| *b) {
                    sets[inner].push(local_index);
                }
            }
            _ => {}
        }
    }
    Ok(sets)
}

/// A finished loop's set also belongs to the loop around it.
fn close_loop(sets: &mut [Vec<u32>], inner: usize, outer: Option<usize>) {
    sets[inner].sort_unstable();
    sets[inner].dedup();
    if let Some(outer) = outer {
        let inner = sets[inner].clone();
        sets[outer].extend(inner);
    }
}

impl<'a> Body<'a> {
    fn new(plan: &'a Plan, stats: &'a mut Stats, index: u32, types: Vec<ValType>, params: usize) -> Body<'a> {
        let mut facts = vec![Fact::Unknown; params];
        facts.extend(types[params..].iter().map(zero_fact));
        Body {
            plan,
            stats,
            index,
            out: Vec::new(),
            pinned: 0,
            stack: Vec::new(),
            frames: Vec::new(),
            versions: vec![0; types.len()],
            facts,
            types,
            scratch: Vec::new(),
            dead: false,
            nested: 0,
        }
    }

    fn operator(&mut self, op: &Op<'_>, set_in_loop: &[u32]) -> Result<()> {
        if self.dead {
            self.skip(op);
            return Ok(());
        }
        if self.structure(op, set_in_loop)? || self.branching(op)? || self.variable(op)? {
            return Ok(());
        }
        match op {
            Op::Select => self.select(),
            Op::Drop => {
                let value = self.pop();
                self.discard(value);
            }
            _ if self.plan.lower && self.lowered(op)? => {}
            _ => self.plain(op)?,
        }
        Ok(())
    }

    /// Passes over dead code, up to where control may come in again.
    fn skip(&mut self, op: &Op<'_>) {
        match op {
            Op::Block { .. } | Op::Loop { .. } | Op::If { .. } => self.nested += 1,
            Op::End if self.nested > 0 => self.nested -= 1,
            Op::End => self.end(),
            Op::Else if self.nested == 0 => self.else_(),
            _ => {}
        }
    }

    /// Blocks; false if the operator is none of them.
    fn structure(&mut self, op: &Op<'_>, set_in_loop: &[u32]) -> Result<bool> {
        match op {
            Op::Block { blockty } => {
                let (block, results) = self.block_type(*blockty)?;
                self.emit_pinned(&I::Block(block));
                self.enter(Kind::Block, results);
            }
            Op::Loop { blockty } => {
                let (block, results) = self.block_type(*blockty)?;
                self.emit_pinned(&I::Loop(block));
                for &local in set_in_loop {
                    self.set_local(local, Fact::Unknown);
                }
                self.enter(Kind::Loop, results);
            }
            Op::If { blockty } => self.if_(*blockty)?,
            Op::Else => self.else_(),
            Op::End => self.end(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn if_(&mut self, ty: BlockType) -> Result<()> {
        let (block, results) = self.block_type(ty)?;
        let (kind, opening) = match self.known_condition() {
            None => (Kind::If, I::If(block)),
            Some(true) => (Kind::Taken, I::Block(block)),
            Some(false) => (Kind::NotTaken, I::Block(block)),
        };
        let start = self.out.len();
        self.emit_pinned(&opening);
        self.enter(kind, results);
        self.frame().start = start;
        self.dead = kind == Kind::NotTaken;
        Ok(())
    }

    /// Branches and what else ends a block; false if the operator is none of them.
    fn branching(&mut self, op: &Op<'_>) -> Result<bool> {
        match op {
            Op::Br { relative_depth } => self.jump(*relative_depth),
            Op::BrIf { relative_depth } => match self.known_condition() {
                Some(false) => {}
                Some(true) => self.jump(*relative_depth),
                None => {
                    self.branch(*relative_depth);
                    self.emit_pinned(&I::BrIf(*relative_depth));
                }
            },
            Op::BrTable { targets } => {
                self.pop();
                for target in targets.targets() {
                    self.branch(target?);
                }
                self.branch(targets.default());
                self.copy(op)?;
                self.dead = true;
            }
            Op::Return | Op::Unreachable => {
                self.copy(op)?;
                self.dead = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn jump(&mut self, depth: u32) {
        self.branch(depth);
        self.emit_pinned(&I::Br(depth));
        self.dead = true;
    }

    /// Locals and the Asyncify state; false if the operator is none of them.
    fn variable(&mut self, op: &Op<'_>) -> Result<bool> {
        match op {
            Op::LocalGet { local_index } => self.local_get(*local_index),
            Op::LocalSet { local_index } => {
                let value = self.pop();
                self.emit_pinned(&I::LocalSet(*local_index));
                self.set_local(*local_index, value.fact);
            }
            Op::LocalTee { local_index } => {
                let value = self.pop();
                self.emit_pinned(&I::LocalTee(*local_index));
                self.set_local(*local_index, value.fact);
                let local = Some((*local_index, self.versions[*local_index as usize]));
                self.stack.push(Value {
                    fact: value.fact,
                    local,
                    start: None,
                });
            }
            Op::GlobalGet { global_index } if Some(*global_index) == self.plan.state => {
                self.stats.state_reads += 1;
                let start = self.out.len();
                self.emit(&I::I32Const(0));
                self.stack.push(Value {
                    fact: Fact::I32(0),
                    local: None,
                    start: Some(start),
                });
            }
            Op::GlobalSet { global_index } if Some(*global_index) == self.plan.state => self.set_state()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn local_get(&mut self, local: u32) {
        let start = self.out.len();
        let fact = self.facts[local as usize];
        match self.constant(fact) {
            Some(constant) => self.emit(&constant),
            None => self.emit(&I::LocalGet(local)),
        }
        let local = Some((local, self.versions[local as usize]));
        self.stack.push(Value {
            fact,
            local,
            start: Some(start),
        });
    }

    fn set_state(&mut self) -> Result<()> {
        require(
            self.plan.runtime.contains(&self.index),
            "sets the Asyncify state outside its runtime",
        )?;
        let value = self.pop();
        self.discard(value);
        if value.fact != Fact::I32(0) {
            // Somebody wants to unwind or rewind, which the stripped code cannot do.
            self.emit_pinned(&I::Unreachable);
            self.dead = true;
        }
        Ok(())
    }

    /// An operator without control flow, copied as it is.
    fn plain(&mut self, op: &Op<'_>) -> Result<()> {
        let Some((pops, pushes)) = op.operator_arity(self) else {
            return Err(Error::shape(format!("cannot model {op:?}")));
        };
        let operands = self.stack.split_off(self.stack.len() - pops as usize);
        let facts: Vec<Fact> = operands.iter().map(|v| v.fact).collect();
        let fact = result_fact(op, &facts);
        // An operand with a side effect has pinned the output past the first one's start.
        let start = operands.first().map_or(Some(self.out.len()), |v| v.start);
        RoundtripReencoder.instruction(op.clone())?.encode(&mut self.out);
        if !is_pure(op) {
            self.pinned = self.out.len();
            for _ in 0..pushes {
                self.push(fact);
            }
            return Ok(());
        }
        let value = Value {
            fact,
            local: None,
            start,
        };
        if let (Some(constant), Some(start)) = (self.constant(fact), self.removable(&value)) {
            self.out.truncate(start);
            self.emit(&constant);
        }
        self.stack.push(value);
        Ok(())
    }

    fn select(&mut self) {
        let condition = self.pop();
        let (b, a) = (self.pop(), self.pop());
        let fact = match condition.fact.truth() {
            Some(true) => a.fact,
            Some(false) => b.fact,
            None => a.fact.meet(b.fact),
        };
        if self.plan.options.fold && condition.fact.truth() == Some(true) {
            self.discard(condition);
            self.discard(b);
            self.stack.push(Value { fact, ..a });
        } else {
            self.emit(&I::Select);
            self.stack.push(Value {
                fact,
                local: None,
                start: a.start,
            });
        }
    }

    // ---- control flow ----

    fn enter(&mut self, kind: Kind, results: usize) {
        let (height, start, entry) = (self.stack.len(), self.out.len(), self.facts.clone());
        self.frames.push(Frame {
            kind,
            results,
            height,
            start,
            entry,
            end: None,
        });
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("validated code is inside a frame")
    }

    /// Records that control may leave for the end of the frame at `depth`, or for a loop's head.
    fn branch(&mut self, depth: u32) {
        let index = self.frames.len() - 1 - depth as usize;
        if self.frames[index].kind != Kind::Loop {
            let results = self.stack[self.stack.len() - self.frames[index].results..]
                .iter()
                .map(|v| v.fact);
            let results = results.collect();
            self.frames[index].reach(&self.facts, results);
        }
    }

    fn fall_through(&mut self) {
        if !self.dead {
            self.branch_to_end();
        }
    }

    fn branch_to_end(&mut self) {
        let frame = self.frames.last_mut().expect("validated code is inside a frame");
        let results = self.stack[self.stack.len() - frame.results..]
            .iter()
            .map(|v| v.fact)
            .collect();
        frame.reach(&self.facts, results);
    }

    fn else_(&mut self) {
        self.fall_through();
        let height = self.frame().height;
        self.stack.truncate(height);
        match self.frame().kind {
            Kind::Taken => self.dead = true,
            Kind::NotTaken => {
                self.frame().kind = Kind::Block;
                self.dead = false;
            }
            _ => {
                self.frame().kind = Kind::Block;
                self.facts = self.frame().entry.clone();
                self.dead = false;
                self.emit_pinned(&I::Else);
            }
        }
    }

    fn end(&mut self) {
        self.fall_through();
        let mut frame = self.frames.pop().expect("validated code is inside a frame");
        self.stack.truncate(frame.height);
        if frame.kind == Kind::NotTaken {
            // No `else` came, so nothing of it remains.
            self.out.truncate(frame.start);
            self.pinned = self.out.len();
            self.dead = false;
            return;
        }
        if frame.kind == Kind::If {
            let entry = std::mem::take(&mut frame.entry);
            frame.reach(&entry, Vec::new());
        }
        self.emit_pinned(&I::End);
        self.dead = frame.end.is_none();
        self.leave(frame.end);
    }

    /// Goes on after a block with what is known at its end.
    fn leave(&mut self, end: Option<(Vec<Fact>, Vec<Fact>)>) {
        match end {
            Some((locals, results)) => {
                self.facts = locals;
                for fact in results {
                    self.push(fact);
                }
            }
            // The validator must learn that nothing gets here.
            None if !self.frames.is_empty() => self.emit_pinned(&I::Unreachable),
            None => {}
        }
    }

    /// Drops the condition on top of the stack if its truth is known, else leaves it in the code.
    fn known_condition(&mut self) -> Option<bool> {
        let condition = self.pop();
        let truth = condition.fact.truth().filter(|_| self.plan.options.fold);
        if truth.is_some() {
            self.stats.branches_folded += 1;
            self.discard(condition);
        }
        truth
    }

    // ---- values ----

    /// Pushes the result of code that must stay.
    pub fn push(&mut self, fact: Fact) {
        self.stack.push(Value {
            fact,
            local: None,
            start: None,
        });
    }

    pub fn pop(&mut self) -> Value {
        self.stack.pop().expect("validated code has its operands")
    }

    /// Removes the value on top of the stack (already popped here) from the code.
    fn discard(&mut self, value: Value) {
        match self.removable(&value) {
            Some(start) => self.out.truncate(start),
            None => self.emit_pinned(&I::Drop),
        }
    }

    /// Where the output can be cut to take back the value on top of the stack.
    pub fn removable(&self, value: &Value) -> Option<usize> {
        value.start.filter(|&start| start >= self.pinned)
    }

    /// The local that still holds a value, if one does.
    pub fn current_local(&self, value: &Value) -> Option<u32> {
        value
            .local
            .filter(|&(local, version)| self.versions[local as usize] == version)
            .map(|(local, _)| local)
    }

    fn set_local(&mut self, local: u32, fact: Fact) {
        self.facts[local as usize] = fact;
        self.versions[local as usize] += 1;
    }

    fn constant(&self, fact: Fact) -> Option<I<'static>> {
        match fact {
            Fact::I32(c) if self.plan.options.fold => Some(I::I32Const(c)),
            Fact::I64(c) if self.plan.options.fold => Some(I::I64Const(c)),
            _ => None,
        }
    }

    // ---- output ----

    pub fn emit(&mut self, instruction: &I<'_>) {
        instruction.encode(&mut self.out);
    }

    /// Writes an instruction that must stay, and with it all before it.
    pub fn emit_pinned(&mut self, instruction: &I<'_>) {
        self.emit(instruction);
        self.pinned = self.out.len();
    }

    pub fn copy(&mut self, op: &Op<'_>) -> Result<()> {
        let instruction = RoundtripReencoder.instruction(op.clone())?;
        self.emit_pinned(&instruction);
        Ok(())
    }

    pub fn cut(&mut self, start: usize) -> Vec<u8> {
        self.out.split_off(start)
    }

    pub fn append(&mut self, code: Vec<u8>) {
        self.out.extend(code);
    }

    /// A local holding the `i64` on top of the stack: the given one, or else a scratch local.
    pub fn readable(&mut self, local: Option<u32>) -> u32 {
        local.unwrap_or_else(|| {
            let local = self.scratch_local(0, ValType::I64);
            self.emit_pinned(&I::LocalTee(local));
            local
        })
    }

    pub fn set_aside(&mut self, slot: u8, ty: ValType) -> u32 {
        let local = self.scratch_local(slot, ty);
        self.emit_pinned(&I::LocalSet(local));
        local
    }

    fn scratch_local(&mut self, slot: u8, ty: ValType) -> u32 {
        if let Some(&(.., local)) = self.scratch.iter().find(|s| (s.0, s.1) == (slot, ty)) {
            return local;
        }
        let local = self.types.len() as u32;
        self.types.push(ty);
        self.scratch.push((slot, ty, local));
        local
    }

    fn block_type(&self, ty: BlockType) -> Result<(EncBlock, usize)> {
        let arity = self.block_type_arity(ty);
        let (params, results) = arity.ok_or_else(|| Error::shape("a block of unknown type"))?;
        require(params == 0, "a block with parameters")?;
        Ok((RoundtripReencoder.block_type(ty)?, results as usize))
    }
}

fn zero_fact(ty: &ValType) -> Fact {
    match ty {
        ValType::I32 => Fact::I32(0),
        ValType::I64 => Fact::I64(0),
        _ => Fact::Unknown,
    }
}

impl Frame {
    fn reach(&mut self, locals: &[Fact], results: Vec<Fact>) {
        match &mut self.end {
            None => self.end = Some((locals.to_vec(), results)),
            Some(end) => {
                let old = end.0.iter_mut().chain(&mut end.1);
                for (old, new) in old.zip(locals.iter().chain(&results)) {
                    *old = old.meet(*new);
                }
            }
        }
    }
}

impl ModuleArity for Body<'_> {
    fn sub_type_at(&self, index: u32) -> Option<&SubType> {
        self.plan.types.get(index as usize)
    }
    fn type_index_of_function(&self, index: u32) -> Option<u32> {
        self.plan.functions.get(index as usize).copied()
    }
    fn tag_type_arity(&self, _: u32) -> Option<(u32, u32)> {
        None
    }
    fn func_type_of_cont_type(&self, _: &wasmparser::ContType) -> Option<&FuncType> {
        None
    }
    fn sub_type_of_ref_type(&self, _: &wasmparser::RefType) -> Option<&SubType> {
        None
    }
    fn control_stack_height(&self) -> u32 {
        self.frames.len() as u32
    }
    fn label_block(&self, _: u32) -> Option<(BlockType, FrameKind)> {
        None
    }
}
