//! What the CPU's operators take and give. Not here: arithmetic.
//! Invariant: a matrix and activations are laid out for one level, that of the host they were made by.

use crate::backend::cpu;
use crate::backend::pack::{Lanes, Packed};
use crate::weight::Matrix;

/// A matrix as a level wants it.
#[derive(Debug, Clone)]
pub enum Weights {
    /// As the definition has it.
    Plain(Matrix),
    /// In tiles.
    Packed(Packed),
}

/// Rows of a batch in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Numbers in a row.
    pub cols: usize,
    /// All rows.
    pub values: Vec<f32>,
}

/// Quantised rows as a level wants them.
#[derive(Debug, Clone)]
pub enum Acts {
    /// As the definition has them.
    Plain(cpu::Acts),
    /// In tiles.
    Lanes(Lanes),
}

impl Acts {
    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Acts::Plain(acts) => (acts.rows, acts.cols),
            Acts::Lanes(lanes) => (lanes.rows, lanes.cols),
        }
    }
}
