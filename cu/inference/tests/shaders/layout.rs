//! A pass over SPIR-V that takes layouts from what has none: arrays and structures in shared memory and in variables.
//!
//! naga writes strides and offsets for every type; Vulkan allows them only where memory is shared with others
//! (VUID-StandaloneSpirv-None-10684), and newer validators refuse the rest. Not here: layouts of buffers and arguments.
//! Invariant: nothing but decorations is removed.

use std::collections::BTreeSet;

use crate::pin::instructions;

/// Array, array of any length, structure, pointer.
const ARRAY: u32 = 28;
const RUNTIME_ARRAY: u32 = 29;
const STRUCT: u32 = 30;
const POINTER: u32 = 32;
const DECORATE: u32 = 71;
const MEMBER_DECORATE: u32 = 72;
const ARRAY_STRIDE: u32 = 6;
const OFFSET: u32 = 35;
/// Storage classes with a layout: uniforms, arguments, buffers.
const SHARED: [u32; 3] = [2, 9, 12];

/// The module without layouts where none belong.
pub fn bare(words: &[u32]) -> Vec<u32> {
    let mut out = words[..5].to_vec();
    let shared = shared(words);
    for (op, this) in instructions(words) {
        if !is_layout(op, this) || shared.contains(&this[1]) {
            out.extend(this);
        }
    }
    out
}

/// How many types have a layout that should have none.
pub fn misplaced(words: &[u32]) -> usize {
    let shared = shared(words);
    instructions(words)
        .filter(|(op, this)| is_layout(*op, this) && !shared.contains(&this[1]))
        .count()
}

fn is_layout(op: u32, this: &[u32]) -> bool {
    op == DECORATE && this[2] == ARRAY_STRIDE || op == MEMBER_DECORATE && this[3] == OFFSET
}

/// The types that lie in memory shared with others. Parts are declared before the whole, so one look from the end finds all.
fn shared(words: &[u32]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for (op, this) in instructions(words).collect::<Vec<_>>().into_iter().rev() {
        let parts = match op {
            POINTER if SHARED.contains(&this[2]) => &this[3..4],
            ARRAY | RUNTIME_ARRAY if found.contains(&this[1]) => &this[2..3],
            STRUCT if found.contains(&this[1]) => &this[2..],
            _ => &[],
        };
        found.extend(parts);
    }
    found
}
