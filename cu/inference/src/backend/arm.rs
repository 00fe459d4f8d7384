//! Operators written for the vector units of 64-bit ARM. Not here: what an operator is (`cpu.rs`), layout (`pack.rs`),
//! who may call (`vector.rs`), what the compiler makes of the definition by itself: NEON is always there, so loops over
//! single numbers (norms, functions, rotations) are the definition's. Invariant: equal to the definition on every
//! input: the same integer products, the same bounds, another order.

pub mod attend;
pub mod dot;
pub mod element;
pub mod neon;
