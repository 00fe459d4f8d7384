//! Operators written for the vector units of x86-64. Not here: what an operator is (`cpu.rs`), layout (`pack.rs`), who
//! may call (`vector.rs`). Invariant: equal to the definition on every input: the same integer products, the same
//! bounds, another order.

pub mod amx;
pub mod attend;
pub mod avx2;
pub mod element;
pub mod math;
pub mod norm;
pub mod rotate;
pub mod vnni;
