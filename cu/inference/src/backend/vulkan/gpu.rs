//! The small seam over vulkano: devices, memory, kernels, and lists of steps that run in order.
//!
//! Not here: what a kernel computes, when steps are gathered (`stream.rs`). libvulkan is opened at run time; where it
//! is missing, [`devices`] says so. Invariant: steps of one list see each other's writes in order (vulkano tracks the
//! ranges and sets the barriers), and [`Gpu::submit`] returns only when the device has finished or failed.
#![allow(unsafe_code)] // SPIR-V modules, dispatches and timestamps: vulkano cannot check what a shader does

use std::sync::Arc;

use vulkano::buffer::{Buffer, BufferCreateInfo, BufferUsage, Subbuffer};
use vulkano::command_buffer::allocator::StandardCommandBufferAllocator;
use vulkano::command_buffer::{
    AutoCommandBufferBuilder, CommandBufferUsage, CopyBufferInfo, PrimaryAutoCommandBuffer,
};
use vulkano::descriptor_set::allocator::StandardDescriptorSetAllocator;
use vulkano::descriptor_set::{DescriptorSet, WriteDescriptorSet};
use vulkano::device::physical::{PhysicalDevice, PhysicalDeviceType, SubgroupFeatures};
use vulkano::device::{
    Device, DeviceCreateInfo, DeviceExtensions, DeviceFeatures, Queue, QueueCreateInfo, QueueFlags,
};
use vulkano::instance::{Instance, InstanceCreateFlags, InstanceCreateInfo};
use vulkano::memory::allocator::{AllocationCreateInfo, MemoryTypeFilter, StandardMemoryAllocator};
use vulkano::pipeline::compute::ComputePipelineCreateInfo;
use vulkano::pipeline::layout::PipelineDescriptorSetLayoutCreateInfo;
use vulkano::pipeline::{
    ComputePipeline, Pipeline, PipelineBindPoint, PipelineLayout, PipelineShaderStageCreateInfo,
};
use vulkano::query::{QueryPool, QueryPoolCreateInfo, QueryResultFlags, QueryType};
use vulkano::shader::{ShaderModule, ShaderModuleCreateInfo, ShaderStages};
use vulkano::sync::{self, GpuFuture, PipelineStage};
use vulkano::{Version, VulkanLibrary};

use crate::backend::vulkan::cooperative::{self, Tile};
use crate::error::Error;

/// A range of device memory in 32-bit words.
pub type Words = Subbuffer<[u32]>;
type Builder = AutoCommandBufferBuilder<PrimaryAutoCommandBuffer>;

/// What a device is and can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// Whether it is the processor in disguise (lavapipe): right for conformance, slower than the CPU backend.
    pub processor: bool,
    /// Whether it rounds to nearest even and keeps signed zeros when told to.
    pub pinned: bool,
    /// Invocations of a subgroup; 0 without subgroup arithmetic in compute shaders.
    pub subgroup: u32,
    /// Whether it takes packed integer dot products.
    pub dot: bool,
    /// The sizes by which its subgroups multiply matrices of bytes, where they do.
    pub tile: Option<Tile>,
    /// Bytes that one binding may span.
    pub binding_bytes: u64,
    /// Invocations that a workgroup may have.
    pub workgroup: u32,
    /// Whether its queue has timestamps.
    pub timestamps: bool,
}

/// Where memory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Near the device; the host reaches it by copies only.
    Device,
    /// Written by the host.
    Upload,
    /// Read by the host.
    Download,
}

/// A compiled kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kernel(Arc<ComputePipeline>);

/// One dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    /// What runs.
    pub kernel: Kernel,
    /// Its bindings, from 0.
    pub bound: Vec<Words>,
    /// Its arguments.
    pub args: Vec<u32>,
    /// Workgroups.
    pub groups: [u32; 3],
}

/// One thing a device does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// A dispatch.
    Run(Run),
    /// A copy between ranges of one length.
    Copy(Words, Words),
    /// Zeros.
    Zero(Words),
}

/// Recorded steps, ready to run any number of times.
#[derive(Debug, Clone)]
pub struct Recording(Arc<PrimaryAutoCommandBuffer>);

/// An open device.
#[derive(Debug)]
pub struct Gpu {
    /// What it is.
    pub facts: Facts,
    device: Arc<Device>,
    queue: Arc<Queue>,
    memory: Arc<StandardMemoryAllocator>,
    sets: Arc<StandardDescriptorSetAllocator>,
    commands: Arc<StandardCommandBufferAllocator>,
}

fn failed(device: &str, why: impl ToString) -> Error {
    Error::Device {
        device: device.to_owned(),
        why: why.to_string(),
    }
}

/// An error of vulkano with what lies behind it: by itself it says only that there was one.
fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn physical() -> Result<Vec<Arc<PhysicalDevice>>, Error> {
    let failed = |why: String| failed("vulkan", why);
    let library = VulkanLibrary::new().map_err(|e| failed(format!("no Vulkan loader here: {e}")))?;
    let info = InstanceCreateInfo {
        flags: InstanceCreateFlags::ENUMERATE_PORTABILITY,
        ..Default::default()
    };
    let instance = Instance::new(library, info).map_err(|e| failed(causes(&e)))?;
    let mut all: Vec<_> = instance
        .enumerate_physical_devices()
        .map_err(|e| failed(causes(&e)))?
        .collect();
    all.sort_by_key(|device| match device.properties().device_type {
        PhysicalDeviceType::DiscreteGpu => 0,
        PhysicalDeviceType::IntegratedGpu => 1,
        PhysicalDeviceType::VirtualGpu => 2,
        _ => 3,
    });
    Ok(all)
}

fn facts(device: &PhysicalDevice) -> Facts {
    let (p, has) = (device.properties(), device.supported_features());
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let compute = p
        .subgroup_supported_stages
        .is_some_and(|s| s.intersects(ShaderStages::COMPUTE));
    let sums = p
        .subgroup_supported_operations
        .is_some_and(|o| o.contains(SubgroupFeatures::ARITHMETIC));
    let driver = format!(
        "{} {} ({:#x})",
        text(&p.driver_name),
        text(&p.driver_info),
        p.driver_version
    );
    let subgroup = p.subgroup_size.filter(|_| compute && sums).unwrap_or(0);
    let processor = p.device_type == PhysicalDeviceType::Cpu;
    // Lavapipe (Mesa 26.2) lists 8 rows whatever its width, and crashes where its subgroups are not as wide as they are.
    let sound = |tile: &Tile| subgroup > 0 && (!processor || tile.rows == subgroup as usize);
    Facts {
        name: p.device_name.clone(),
        driver,
        processor,
        pinned: p.shader_rounding_mode_rte_float32 == Some(true)
            && p.shader_signed_zero_inf_nan_preserve_float32 == Some(true),
        subgroup,
        dot: device.api_version() >= Version::V1_3 && has.shader_integer_dot_product,
        tile: cooperative::tile(device).filter(sound),
        binding_bytes: u64::from(p.max_storage_buffer_range),
        workgroup: p
            .max_compute_work_group_invocations
            .min(p.max_compute_work_group_size[0]),
        timestamps: family(device).is_some_and(|at| {
            device.queue_family_properties()[at as usize]
                .timestamp_valid_bits
                .is_some()
        }),
    }
}

fn family(device: &PhysicalDevice) -> Option<u32> {
    let families = device.queue_family_properties();
    let at = families
        .iter()
        .position(|f| f.queue_flags.contains(QueueFlags::COMPUTE))?;
    Some(at as u32)
}

/// The devices of this machine, real ones first; the place in the list is a device's number.
///
/// # Errors
/// No Vulkan loader, or it failed.
pub fn devices() -> Result<Vec<Facts>, Error> {
    Ok(physical()?.iter().map(|device| facts(device)).collect())
}

impl Gpu {
    /// Opens the device of that number.
    ///
    /// # Errors
    /// No such device, one older than Vulkan 1.1, or it refuses.
    pub fn open(number: usize) -> Result<Gpu, Error> {
        let all = physical()?;
        let none = || failed("vulkan", format!("no device {number}: there are {}", all.len()));
        let physical = all.get(number).ok_or_else(none)?;
        let facts = facts(physical);
        let failed = |why: String| failed(&facts.name, why);
        let family = family(physical).ok_or_else(|| failed("has no compute queue".to_owned()))?;
        if physical.api_version() < Version::V1_1 {
            return Err(failed("is older than Vulkan 1.1".to_owned()));
        }
        let queue = QueueCreateInfo {
            queue_family_index: family,
            ..Default::default()
        };
        let info = DeviceCreateInfo {
            queue_create_infos: vec![queue],
            enabled_extensions: DeviceExtensions {
                khr_cooperative_matrix: facts.tile.is_some(),
                ..Default::default()
            },
            enabled_features: DeviceFeatures {
                shader_integer_dot_product: facts.dot,
                cooperative_matrix: facts.tile.is_some(),
                shader_int8: facts.tile.is_some(),
                vulkan_memory_model: facts.tile.is_some(),
                // With the memory model on, the atomics of attention need it.
                vulkan_memory_model_device_scope: facts.tile.is_some(),
                ..Default::default()
            },
            ..Default::default()
        };
        let (device, mut queues) = Device::new(physical.clone(), info).map_err(|e| failed(causes(&e)))?;
        let queue = queues.next().ok_or_else(|| failed("gave no queue".to_owned()))?;
        Ok(Gpu {
            memory: Arc::new(StandardMemoryAllocator::new_default(device.clone())),
            sets: Arc::new(StandardDescriptorSetAllocator::new(
                device.clone(),
                Default::default(),
            )),
            commands: Arc::new(StandardCommandBufferAllocator::new(
                device.clone(),
                Default::default(),
            )),
            facts,
            device,
            queue,
        })
    }

    /// This device's own error.
    pub fn error(&self, why: impl ToString) -> Error {
        failed(&self.facts.name, why)
    }

    /// An error of vulkano as this device's own.
    fn refused(&self, error: &dyn std::error::Error) -> Error {
        self.error(causes(error))
    }

    /// Memory for that many words, at least one.
    ///
    /// # Errors
    /// No room.
    pub fn words(&self, place: Place, count: usize) -> Result<Words, Error> {
        let near = MemoryTypeFilter::PREFER_DEVICE;
        let memory_type_filter = match place {
            Place::Device => near,
            Place::Upload => MemoryTypeFilter::PREFER_HOST | MemoryTypeFilter::HOST_SEQUENTIAL_WRITE,
            Place::Download => MemoryTypeFilter::PREFER_HOST | MemoryTypeFilter::HOST_RANDOM_ACCESS,
        };
        let usage = BufferUsage::STORAGE_BUFFER | BufferUsage::TRANSFER_SRC | BufferUsage::TRANSFER_DST;
        Buffer::new_slice::<u32>(
            self.memory.clone(),
            BufferCreateInfo {
                usage,
                ..Default::default()
            },
            AllocationCreateInfo {
                memory_type_filter,
                ..Default::default()
            },
            count.max(1) as u64,
        )
        .map_err(|e| self.refused(&e))
    }

    /// Compiles a module's entry point `main`.
    ///
    /// # Errors
    /// The driver refuses it.
    pub fn kernel(&self, words: &[u32]) -> Result<Kernel, Error> {
        // SAFETY: the words are one of the committed modules, which were validated when they were made; only
        // constants and the size of the workgroup are replaced, by values that the callers keep within limits.
        let module = unsafe { ShaderModule::new(self.device.clone(), ShaderModuleCreateInfo::new(words)) }
            .map_err(|e| self.refused(&e))?;
        let entry = module
            .entry_point("main")
            .ok_or_else(|| self.error("a module without main"))?;
        let stage = PipelineShaderStageCreateInfo::new(entry);
        let layout = PipelineDescriptorSetLayoutCreateInfo::from_stages([&stage])
            .into_pipeline_layout_create_info(self.device.clone())
            .map_err(|e| self.refused(&e.error))?;
        let layout = PipelineLayout::new(self.device.clone(), layout).map_err(|e| self.refused(&e))?;
        let info = ComputePipelineCreateInfo::stage_layout(stage, layout);
        let pipeline = ComputePipeline::new(self.device.clone(), None, info).map_err(|e| self.refused(&e))?;
        Ok(Kernel(pipeline))
    }

    fn builder(&self, usage: CommandBufferUsage) -> Result<Builder, Error> {
        AutoCommandBufferBuilder::primary(self.commands.clone(), self.queue.queue_family_index(), usage)
            .map_err(|e| self.refused(&e))
    }

    /// Records steps.
    ///
    /// # Errors
    /// The device has no room, or the steps do not fit the kernels.
    pub fn record(&self, steps: &[Step]) -> Result<Recording, Error> {
        let mut builder = self.builder(CommandBufferUsage::MultipleSubmit)?;
        for step in steps {
            self.add(&mut builder, step)?;
        }
        Ok(Recording(builder.build().map_err(|e| self.refused(&e))?))
    }

    fn add(&self, builder: &mut Builder, step: &Step) -> Result<(), Error> {
        match step {
            Step::Run(run) => self.add_run(builder, run)?,
            Step::Copy(from, to) => {
                let copy = CopyBufferInfo::buffers(from.clone(), to.clone());
                builder.copy_buffer(copy).map_err(|e| self.refused(&e))?;
            }
            Step::Zero(words) => {
                builder
                    .fill_buffer(words.clone(), 0)
                    .map_err(|e| self.refused(&e))?;
            }
        }
        Ok(())
    }

    fn add_run(&self, builder: &mut Builder, run: &Run) -> Result<(), Error> {
        let layout = run.kernel.0.layout().clone();
        let write = |(at, words): (usize, &Words)| WriteDescriptorSet::buffer(at as u32, words.clone());
        let writes = run.bound.iter().enumerate().map(write);
        let set = DescriptorSet::new(self.sets.clone(), layout.set_layouts()[0].clone(), writes, [])
            .map_err(|e| self.refused(&e))?;
        builder
            .bind_pipeline_compute(run.kernel.0.clone())
            .and_then(|b| b.bind_descriptor_sets(PipelineBindPoint::Compute, layout.clone(), 0, set))
            .map_err(|e| self.refused(&e))?;
        for (at, arg) in run.args.iter().enumerate() {
            builder
                .push_constants(layout.clone(), 4 * at as u32, *arg)
                .map_err(|e| self.refused(&e))?;
        }
        // SAFETY: the bound ranges are as long as the shader's indices reach; `operators.rs` asserts it for each kernel.
        unsafe { builder.dispatch(run.groups) }.map_err(|e| self.refused(&e))?;
        Ok(())
    }

    /// Runs what was recorded and waits for its end.
    ///
    /// # Errors
    /// The device failed or was lost.
    pub fn submit(&self, recording: &Recording) -> Result<(), Error> {
        sync::now(self.device.clone())
            .then_execute(self.queue.clone(), recording.0.clone())
            .map_err(|e| self.refused(&e))?
            .then_signal_fence_and_flush()
            .map_err(|e| self.refused(&e))?
            .wait(None)
            .map_err(|e| self.refused(&e))
    }

    /// Device time that steps take, in ticks; nothing where the queue has no timestamps.
    ///
    /// # Errors
    /// As [`Gpu::record`] and [`Gpu::submit`].
    pub fn ticks(&self, steps: &[Step]) -> Result<Option<u64>, Error> {
        if !self.facts.timestamps {
            return Ok(None);
        }
        let mut info = QueryPoolCreateInfo::query_type(QueryType::Timestamp);
        info.query_count = 2;
        let pool = QueryPool::new(self.device.clone(), info).map_err(|e| self.refused(&e))?;
        let mut builder = self.builder(CommandBufferUsage::OneTimeSubmit)?;
        // SAFETY: the pool is new and no other command buffer knows it.
        unsafe { builder.reset_query_pool(pool.clone(), 0..2) }.map_err(|e| self.refused(&e))?;
        // SAFETY: query 0 was reset just above.
        unsafe { builder.write_timestamp(pool.clone(), 0, PipelineStage::TopOfPipe) }
            .map_err(|e| self.refused(&e))?;
        for step in steps {
            self.add(&mut builder, step)?;
        }
        // SAFETY: query 1 was reset with query 0 and has not been written since.
        unsafe { builder.write_timestamp(pool.clone(), 1, PipelineStage::BottomOfPipe) }
            .map_err(|e| self.refused(&e))?;
        self.submit(&Recording(builder.build().map_err(|e| self.refused(&e))?))?;
        let mut ticks = [0_u64; 2];
        pool.get_results(0..2, &mut ticks, QueryResultFlags::WAIT)
            .map_err(|e| self.refused(&e))?;
        Ok(Some(ticks[1].wrapping_sub(ticks[0])))
    }
}
