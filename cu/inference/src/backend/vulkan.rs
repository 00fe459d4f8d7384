//! A Vulkan device behind the seam: every operator of DIN-1 as compute shaders, equal to `cpu.rs` in every bit.
//!
//! Not here: what the operators mean. Operators are only noted; [`crate::Backend::read`] runs them. Invariant: a
//! device that [`Vulkan::open`] gives has proved itself on this machine; one that fails later answers nothing.

mod arena;
mod attention;
mod choose;
mod control;
mod cooperative;
pub mod gpu;
mod operators;
pub mod shader;
mod stream;
mod tiles;
mod weights;

use std::sync::Arc;

pub use attention::Cache;
pub use choose::usual;
pub use cooperative::Tile;
pub use operators::{Acts, Rows, Vector};
pub use weights::Matrix;

use crate::backend::vulkan::gpu::{Facts, Gpu, Place, Words};
use crate::backend::vulkan::shader::{Shaders, Shape};
use crate::backend::vulkan::stream::{Slot, Stream};
use crate::backend::{Host, conformance};
use crate::error::Error;

/// Values that the proof at the start compares.
const PROOF_VALUES: u64 = 100_000;
/// The seed of the proof's inputs.
const PROOF_SEED: u64 = 0x5745_4654;

/// An open device that computes DIN-1.
#[derive(Debug)]
pub struct Vulkan {
    stream: Arc<Stream>,
    shaders: Shaders,
    /// What is bound where a kernel needs nothing.
    nothing: Words,
}

impl Vulkan {
    /// Opens a device and has it prove itself against the CPU: in its fastest shape, else without cooperative matrices,
    /// else in the plainest shape, else with float arithmetic in integers.
    ///
    /// # Errors
    /// No such device, one that cannot run the kernels, or one that differs from the definition in a bit whatever
    /// its shape.
    pub fn open(number: usize) -> Result<Vulkan, Error> {
        choose::fastest(number)?.proved(number)
    }

    /// This device, which has that number, once it has proved itself: in its own shape, else in plainer ones.
    ///
    /// # Errors
    /// As [`Vulkan::open`].
    pub fn proved(self, number: usize) -> Result<Vulkan, Error> {
        let mut device = self;
        let flat = Shape {
            tiles: false,
            ..device.shape()
        };
        let plain = Shape {
            subgroup: false,
            dot: false,
            ..flat
        };
        let mut proof = device.prove();
        for next in [flat, plain, Shape { soft: true, ..plain }] {
            if proof.is_ok() {
                break;
            }
            if next != device.shape() {
                // Opened anew: one that was lost answers nothing any more.
                device = Vulkan::shaped(Gpu::open(number)?, next)?;
                proof = device.prove();
            }
        }
        proof.map(|()| device)
    }

    /// An opened device with kernels of that shape, not proved: for the conformance suite.
    ///
    /// # Errors
    /// No room for a few words.
    pub fn shaped(gpu: Gpu, shape: Shape) -> Result<Vulkan, Error> {
        let nothing = gpu.words(Place::Device, 64)?;
        let stream = Arc::new(Stream::new(gpu));
        Ok(Vulkan {
            shaders: Shaders::new(stream.clone(), shape),
            stream,
            nothing,
        })
    }

    /// The same device with kernels of another shape.
    fn reshaped(self, shape: Shape) -> Vulkan {
        Vulkan {
            shaders: Shaders::new(self.stream.clone(), shape),
            ..self
        }
    }

    /// Compares every operator with the CPU's definition on edge cases and random inputs.
    ///
    /// # Errors
    /// The device failed, or an operator's bits differ: then it must not be used.
    pub fn prove(&self) -> Result<(), Error> {
        let tally = conformance::compare(self, &Host::scalar(), PROOF_SEED, PROOF_VALUES)?;
        match tally.wrong().first() {
            None => Ok(()),
            Some((operator, count)) => {
                let why = format!("refused: {operator} differs from the definition in {count} values");
                Err(self.stream.gpu.error(why))
            }
        }
    }

    /// What the device is.
    pub fn facts(&self) -> &Facts {
        &self.stream.gpu.facts
    }

    /// How its kernels are shaped.
    pub fn shape(&self) -> Shape {
        self.shaders.shape
    }

    /// How many runs re-submitted commands recorded before.
    pub fn replays(&self) -> u64 {
        self.stream.replays()
    }

    /// Gives the device up, as its loss would: every later read is an error, never an answer.
    pub fn lose(&self, why: &str) {
        self.stream.lose(why);
    }

    fn slot(&self, words: usize) -> Slot {
        self.stream.slot(words)
    }

    /// Notes a kernel's run.
    fn run(&self, kernel: &str, values: &[(u32, u32)], bound: &[&Words], args: &[u32], groups: [u32; 3]) {
        let kernel = self.shaders.kernel(kernel, values);
        self.stream.run(kernel, bound, args, groups);
    }

    /// Workgroups for so many independent numbers; the kernels walk on where there are more.
    fn groups(&self, count: usize) -> [u32; 3] {
        let groups = count.div_ceil(self.shaders.shape.workgroup as usize);
        [groups.clamp(1, 16384) as u32, 1, 1]
    }

    /// Rows of so many words that one binding holds, in multiples whose ends are aligned: none where that is too much.
    fn rows_bound(&self, words: usize) -> usize {
        let most = self.facts().binding_bytes.min(1 << 31) as usize / 4;
        most / words / arena::ALIGN * arena::ALIGN
    }

    /// As [`Vulkan::rows_bound`], of rows that were admitted when the model was loaded.
    fn rows_per_binding(&self, words: usize) -> usize {
        let rows = self.rows_bound(words);
        assert!(
            rows > 0,
            "a row of {words} words is beyond this device's bindings"
        );
        rows
    }
}
