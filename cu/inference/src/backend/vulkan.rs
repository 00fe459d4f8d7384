//! A Vulkan device behind the seam: every operator of DIN-1 as compute shaders, equal to `cpu.rs` in every bit.
//!
//! Not here: what the operators mean. Operators are only noted; [`Backend::read`] runs them. Invariant: a device
//! that [`Vulkan::open`] gives has proved itself on this machine (`proof.rs`); one that fails later answers nothing.

mod arena;
pub mod conformance;
mod choose;
pub mod gpu;
mod operators;
mod proof;
pub mod shader;
mod stream;

use std::sync::Arc;

use crate::Profile;
use crate::backend::vulkan::gpu::{Gpu, Place, Step, Words};
use crate::backend::vulkan::operators::layout;
use crate::backend::vulkan::shader::{Shaders, Shape};
use crate::backend::vulkan::stream::{Slot, Stream};
use crate::backend::{Activation, Backend, Batch, CacheShape, Heads, Table};
use crate::error::Error;
use crate::weight;
