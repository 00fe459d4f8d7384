//! Which shape a device's kernels get: from its facts, then by a short timing on the device itself.
//!
//! Not here: any result; shapes change time only. The time is the device's own, by timestamps: no host clock is read.

use crate::Profile;
use crate::backend::Backend;
use crate::backend::vulkan::Vulkan;
use crate::backend::vulkan::gpu::Facts;
use crate::backend::vulkan::shader::Shape;
use crate::error::Error;
use crate::weight::{self, Width};

/// Rows and columns of the matrix that is timed.
const SIDE: usize = 1024;
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
        soft: !facts.pinned,
        spans: 64,
    }
}

/// The device with the faster form of sums: through shared memory or by subgroups.
pub fn fastest(device: Vulkan) -> Result<Vulkan, Error> {
    let tree = device.shape();
    let workgroup = tree.workgroup;
    let fits = (4..=workgroup).contains(&device.facts().subgroup);
    if tree.soft || !fits || !device.facts().timestamps {
        return Ok(device);
    }
    let first = time(&device)?;
    let device = device.reshaped(Shape {
        subgroup: true,
        ..tree
    });
    let second = time(&device)?;
    match second <= first {
        true => Ok(device),
        false => Ok(device.reshaped(tree)),
    }
}

/// Ticks of one product of a vector.
fn time(device: &Vulkan) -> Result<u64, Error> {
    let mut w = weight::Matrix::new(SIDE, SIDE, Width::Eight)?;
    (0..SIDE).for_each(|_| w.push_floats(&[1.0; SIDE]));
    let w = device.matrix(&w)?;
    let x = device.quantise(&device.rows(SIDE, vec![1.0; SIDE]), Profile::A16);
    device.stream.ticks()?;
    let mut best = u64::MAX;
    for _ in 0..RUNS {
        let y = device.linear(&w, &x, None);
        best = best.min(device.stream.ticks()?.unwrap_or(0));
        drop(y);
    }
    Ok(best)
}
