//! A pass over SPIR-V that makes cooperative matrices of floats, all that WGSL has, into those of integers.
//!
//! A and B become signed bytes, C signed words, and so does every other float of the module; their sizes become the marks
//! that the loader replaces by a device's. Not here: where the matrices lie, which the shader says. Invariant: a module
//! without cooperative matrices is left as it is.

use crate::pin::instructions;

const CAPABILITY: u32 = 17;
const TYPE_INT: u32 = 21;
const TYPE_FLOAT: u32 = 22;
const CONSTANT: u32 = 43;
const TYPE_MATRIX: u32 = 4456;
const MULTIPLY_ADD: u32 = 4459;
/// The capability of integers of 8 bits.
const INT8: u32 = 39;
/// Of a multiplication: A, B, C and the result are signed.
const SIGNED: u32 = 15;
/// Rows, tokens and columns of a tile, as `src/backend/vulkan/shader.rs` names them.
const MARKS: [u32; 3] = [0x5747_0007, 0x5747_0008, 0x5747_0009];

/// The module with integers for floats.
pub fn integers(words: &[u32]) -> Vec<u32> {
    if !instructions(words).any(|(op, _)| op == TYPE_MATRIX) {
        return words.to_vec();
    }
    let [byte, rows, tokens, step] = [0, 1, 2, 3].map(|n| words[3] + n);
    let mut out = words[..5].to_vec();
    out[3] += 4;
    out.extend([2 << 16 | CAPABILITY, INT8]);
    let mut defined = false;
    for (op, this) in instructions(words) {
        if op == TYPE_MATRIX && !defined {
            defined = true;
            let word = unsigned(words);
            out.extend([4 << 16 | TYPE_INT, byte, 8, 1]);
            for (id, mark) in [rows, tokens, step].into_iter().zip(MARKS) {
                out.extend([4 << 16 | CONSTANT, word, id, mark]);
            }
        }
        match op {
            TYPE_FLOAT => out.extend([4 << 16 | TYPE_INT, this[1], 32, 1]),
            TYPE_MATRIX => {
                let [number, down, across] = match constant(words, this[6]) {
                    0 => [byte, rows, step],
                    1 => [byte, step, tokens],
                    _ => [this[2], rows, tokens],
                };
                out.extend([this[0], this[1], number, this[3], down, across, this[6]]);
            }
            MULTIPLY_ADD => {
                out.push(7 << 16 | MULTIPLY_ADD);
                out.extend(&this[1..6]);
                out.push(SIGNED);
            }
            _ => out.extend(this),
        }
    }
    out
}

/// The id of the type of unsigned words.
fn unsigned(words: &[u32]) -> u32 {
    let is = |(op, this): &(u32, &[u32])| *op == TYPE_INT && this[2..] == [32, 0];
    instructions(words).find(is).expect("words are used").1[1]
}

/// The value of a constant.
fn constant(words: &[u32], id: u32) -> u32 {
    let is = |(op, this): &(u32, &[u32])| *op == CONSTANT && this[2] == id;
    instructions(words).find(is).expect("a constant").1[3]
}
