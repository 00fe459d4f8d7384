//! Which shape a device's kernels get: from its facts, then by a short timing on the device itself.
//!
//! Not here: any result; shapes change time only. The time is the device's own, by timestamps: no host clock is read.

use crate::Profile;
use crate::backend::Backend;
use crate::backend::vulkan::Vulkan;
use crate::backend::vulkan::gpu::{Facts, Gpu};
use crate::backend::vulkan::shader::Shape;
use crate::error::Error;
use crate::weight::{self, MULTIPLIER_MAX, Width};

/// Rows and columns of the matrix that is timed.
const SIDE: usize = 1024;
/// Rows of activations where products of many are timed.
const MANY: usize = 64;
/// Timed runs of each shape; the shortest counts.
const RUNS: usize = 4;

/// The shape that a device of this kind usually likes.
pub fn usual(facts: &Facts) -> Shape {
    let floor = |n: u32| 1 << n.max(1).ilog2();
    let workgroup = floor(facts.workgroup.min(128));
    Shape {
        workgroup,
        lanes: facts.subgroup.clamp(8, 32).min(workgroup),
        tokens: 8,
        subgroup: false,
        dot: facts.dot,
        tiles: false,
        soft: !facts.pinned,
        spans: 64,
    }
}

/// The device of that number in its fastest shape.
pub fn fastest(number: usize) -> Result<Vulkan, Error> {
    let gpu = Gpu::open(number)?;
    let usual = usual(&gpu.facts);
    let device = sums(Vulkan::shaped(gpu, usual)?)?;
    let facts = device.facts();
    if device.shape().soft || facts.tile.is_none() || !facts.timestamps {
        return Ok(device);
    }
    let without = time(&device, MANY)?;
    let tiles = Shape {
        tiles: true,
        ..device.shape()
    };
    // Opened again: if its driver fails at cooperative matrices, the first is as it was.
    let other = Vulkan::shaped(Gpu::open(number)?, tiles)?;
    match time(&other, MANY) {
        Ok(with) if with < without => Ok(other),
        _ => Ok(device),
    }
}

/// The device with the faster form of sums: through shared memory or by subgroups.
fn sums(device: Vulkan) -> Result<Vulkan, Error> {
    let tree = device.shape();
    let workgroup = tree.workgroup;
    let fits = (4..=workgroup).contains(&device.facts().subgroup);
    if tree.soft || !fits || !device.facts().timestamps {
        return Ok(device);
    }
    let first = time(&device, 1)?;
    let device = device.reshaped(Shape {
        subgroup: true,
        ..tree
    });
    let second = time(&device, 1)?;
    match second <= first {
        true => Ok(device),
        false => Ok(device.reshaped(tree)),
    }
}

/// Ticks of one product of so many rows, with weights of three bytes.
fn time(device: &Vulkan, rows: usize) -> Result<u64, Error> {
    let mut w = weight::Matrix::new(SIDE, SIDE, Width::Eight)?;
    (0..SIDE).for_each(|_| w.push_floats(&[1.0; SIDE]));
    w.multipliers.fill(MULTIPLIER_MAX as i16);
    let w = device.matrix(&w)?;
    let x = device.quantise(&device.rows(SIDE, vec![1.0; SIDE * rows]), Profile::A16);
    device.stream.ticks()?;
    let mut best = u64::MAX;
    for _ in 0..RUNS {
        let y = device.linear(&w, &x, None);
        best = best.min(device.stream.ticks()?.unwrap_or(0));
        drop(y);
    }
    Ok(best)
}
