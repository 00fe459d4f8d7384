//! WGSL to SPIR-V by naga, then the passes. Not here: which files make a module.

use crate::{cooperative, layout, pin};
use naga::back::spv::{self, Capability, WriterFlags, ZeroInitializeWorkgroupMemoryMode};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// The words of one module, pinned unless it is the control.
pub fn words(source: &str, pinned: bool) -> Vec<u32> {
    let mut module =
        naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    naga::compact::compact(&mut module, naga::compact::KeepUnused::No);
    let info = Validator::new(
        ValidationFlags::all(),
        Capabilities::SUBGROUP | Capabilities::IMMEDIATES | Capabilities::COOPERATIVE_MATRIX,
    )
    .validate(&module)
    .unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    let entry = spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
    };
    let words = spv::write_vec(&module, &info, &options(source), Some(&entry)).expect("validated");
    let words = layout::bare(&cooperative::integers(&words));
    if pinned { pin::pin(&words) } else { words }
}

/// What a module may ask of a device: packed dot products and cooperative matrices only where its source says so.
fn options(source: &str) -> spv::Options<'static> {
    let mut allowed = vec![
        Capability::Shader,
        Capability::GroupNonUniform,
        Capability::GroupNonUniformArithmetic,
    ];
    if source.contains("// native dot") {
        allowed.extend([Capability::DotProduct, Capability::DotProductInput4x8BitPacked]);
    }
    if source.contains("enable wgpu_cooperative_matrix;") {
        allowed.extend([Capability::CooperativeMatrixKHR, Capability::VulkanMemoryModel]);
    }
    spv::Options {
        lang_version: (1, 3),
        flags: WriterFlags::empty(),
        capabilities: Some(allowed.into_iter().collect()),
        zero_initialize_workgroup_memory: ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    }
}
