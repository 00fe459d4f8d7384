//! Which cooperative matrices a device multiplies: signed bytes, added up in signed words.
//!
//! Not here: what is multiplied (`tiles.rs`). Invariant: a size is given only if the device lists it with exactly these
//! types, for one subgroup and without saturation, in compute shaders, and takes the modules that use it.
#![allow(unsafe_code)] // vulkano knows the extension but not its list of sizes

use std::mem::transmute;
use std::ptr::null_mut;

use ash::vk::{
    ComponentTypeKHR, CooperativeMatrixPropertiesKHR, PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR,
    ScopeKHR,
};
use vulkano::device::physical::PhysicalDevice;
use vulkano::shader::ShaderStages;
use vulkano::{Version, VulkanObject};

use crate::weight::BLOCK;

/// The sizes of a multiplication by cooperative matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Rows of the matrix.
    pub rows: usize,
    /// Rows of activations.
    pub tokens: usize,
    /// Columns of both; whole words of bytes, and a block is a whole number of them.
    pub step: usize,
}

impl Tile {
    fn of(listed: &CooperativeMatrixPropertiesKHR<'_>) -> Option<Tile> {
        let [rows, tokens, step] = [listed.m_size, listed.n_size, listed.k_size].map(|n| n as usize);
        let bytes = [listed.a_type, listed.b_type] == [ComponentTypeKHR::SINT8; 2];
        let words = [listed.c_type, listed.result_type] == [ComponentTypeKHR::SINT32; 2];
        let exact = listed.saturating_accumulation == 0 && listed.scope == ScopeKHR::SUBGROUP;
        let fits = (1..=64).contains(&rows) && (1..=64).contains(&tokens) && step >= 4;
        let whole = step.is_multiple_of(4) && BLOCK.is_multiple_of(step);
        (bytes && words && exact && fits && whole).then_some(Tile { rows, tokens, step })
    }
}

/// The largest size that the device has, or nothing.
pub fn tile(device: &PhysicalDevice) -> Option<Tile> {
    let has = device.supported_features();
    let compute = device
        .properties()
        .cooperative_matrix_supported_stages
        .is_some_and(|stages| stages.intersects(ShaderStages::COMPUTE));
    let able = device.api_version() >= Version::V1_3
        && device.supported_extensions().khr_cooperative_matrix
        && has.cooperative_matrix
        && has.shader_int8
        && has.vulkan_memory_model
        && has.vulkan_memory_model_device_scope;
    if !able || !compute {
        return None;
    }
    let size = |tile: &Tile| tile.rows * tile.tokens * tile.step;
    listed(device).iter().filter_map(Tile::of).max_by_key(size)
}

/// What the driver lists.
fn listed(device: &PhysicalDevice) -> Vec<CooperativeMatrixPropertiesKHR<'static>> {
    let name = c"vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR";
    let instance = device.instance();
    let library = instance.library();
    // SAFETY: the instance lives as long as its device, and the name ends with a zero.
    let Some(found) = (unsafe { library.get_instance_proc_addr(instance.handle(), name.as_ptr()) }) else {
        return vec![];
    };
    // SAFETY: the loader gives the function of that name, and this is its type.
    let list = unsafe {
        transmute::<unsafe extern "system" fn(), PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR>(found)
    };
    let mut count = 0;
    // SAFETY: the device is alive; without a place to write to, only the count is told.
    let counted = unsafe { list(device.handle(), &mut count, null_mut()) };
    let mut all = vec![CooperativeMatrixPropertiesKHR::default(); count as usize];
    // SAFETY: there is room for as many as are asked for, each with its type set and nothing chained to it.
    let told = unsafe { list(device.handle(), &mut count, all.as_mut_ptr()) };
    all.truncate(count as usize);
    match (counted.result(), told.result()) {
        (Ok(()), Ok(())) => all,
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signed_bytes_into_signed_words_are_taken() {
        let listed = CooperativeMatrixPropertiesKHR::default()
            .m_size(16)
            .n_size(8)
            .k_size(32)
            .a_type(ComponentTypeKHR::SINT8)
            .b_type(ComponentTypeKHR::SINT8)
            .c_type(ComponentTypeKHR::SINT32)
            .result_type(ComponentTypeKHR::SINT32)
            .scope(ScopeKHR::SUBGROUP);
        let tile = Tile {
            rows: 16,
            tokens: 8,
            step: 32,
        };
        assert_eq!(Tile::of(&listed), Some(tile));
        for other in [
            listed.a_type(ComponentTypeKHR::UINT8),
            listed.c_type(ComponentTypeKHR::UINT32),
            listed.result_type(ComponentTypeKHR::FLOAT32),
            listed.saturating_accumulation(true),
            listed.scope(ScopeKHR::WORKGROUP),
            listed.k_size(64),
            listed.m_size(128),
        ] {
            assert_eq!(Tile::of(&other), None);
        }
    }
}
