//! The first Vulkan device here, for tests.
#![allow(missing_docs, clippy::unwrap_used)]

use inference::backend::vulkan::gpu::{self, Gpu};
use inference::backend::vulkan::shader::Shape;
use inference::backend::vulkan::{Vulkan, usual};

/// Whether there is a device; says loudly where not.
pub fn present() -> bool {
    match gpu::devices() {
        Ok(all) if !all.is_empty() => true,
        other => {
            assert!(
                std::env::var_os("WEFT_NEED_VULKAN").is_none(),
                "no Vulkan device: {other:?}"
            );
            eprintln!("SKIPPED: no Vulkan device here ({other:?})");
            false
        }
    }
}

/// That device with kernels of the usual shape, changed.
pub fn shaped(change: impl Fn(&mut Shape)) -> Vulkan {
    let gpu = Gpu::open(0).unwrap();
    let mut shape = usual(&gpu.facts);
    change(&mut shape);
    Vulkan::shaped(gpu, shape).unwrap()
}
