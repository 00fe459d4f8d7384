//! The committed SPIR-V modules: finding one, setting its constants, compiling it once per shape.
//!
//! A constant that a shader leaves open stands in the module as one of the marks below; the words are patched before
//! the driver sees them. Not here: how modules are made (`tests/shaders.rs`). Invariant: nothing but marks and the
//! size of the workgroup is changed, so every kernel is one of the committed modules.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::vulkan::gpu::Kernel;
use crate::backend::vulkan::stream::Stream;
use crate::error::Error;

static MODULES: &[u8] = include_bytes!("../../../shaders/modules.spv");
static LIST: &str = include_str!("../../../shaders/modules.txt");

/// Invocations of a workgroup.
const WORKGROUP: u32 = 0x5747_0001;
/// Invocations of a team, in modules that reduce in shared memory.
const LANES: u32 = 0x5747_0002;
/// Rows of activations that one team takes.
pub const TOKENS: u32 = 0x5747_0003;
/// The width of weight codes, or which element-wise function.
pub const KIND: u32 = 0x5747_0004;
/// 1 for 16-bit activations.
pub const WIDE: u32 = 0x5747_0005;
/// 1 for layer norm.
pub const LAYER: u32 = 0x5747_0006;
/// Rows of a matrix in a tile of cooperative matrices.
pub const TILE_ROWS: u32 = 0x5747_0007;
/// Rows of activations in a tile.
pub const TILE_TOKENS: u32 = 0x5747_0008;
/// Columns of a tile.
pub const STEP: u32 = 0x5747_0009;
/// Bytes of a weight.
pub const BYTES: u32 = 0x5747_000a;

/// How a device's kernels are shaped. No choice changes a bit of any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Invocations of a workgroup; a power of two to 256.
    pub workgroup: u32,
    /// Invocations that share an output when sums go through shared memory; a power of two to `workgroup`.
    pub lanes: u32,
    /// Rows of activations that share a load of weights; 1 to 8.
    pub tokens: u32,
    /// Sums by subgroup operations; else by halving in shared memory.
    pub subgroup: bool,
    /// Packed integer dot products; else multiplications of bytes.
    pub dot: bool,
    /// Products of many rows by cooperative matrices, on devices that have them.
    pub tiles: bool,
    /// Float arithmetic in integers.
    pub soft: bool,
    /// Workgroups that share a head's context, at most.
    pub spans: u32,
}

/// A kernel's name and the constants it was given.
type Key = (String, Vec<(u32, u32)>);

/// The kernels of one device.
#[derive(Debug)]
pub struct Shaders {
    /// Their shape.
    pub shape: Shape,
    stream: Arc<Stream>,
    made: Mutex<HashMap<Key, Kernel>>,
}

/// The hash of all modules, for receipts and results.
pub fn hash() -> blake3::Hash {
    blake3::hash(MODULES)
}

/// The words of a module.
fn module(name: &str) -> Option<Vec<u32>> {
    let mut at = 0;
    for line in LIST.lines() {
        let mut parts = line.split(' ');
        let (found, count) = (parts.next()?, parts.next()?.parse::<usize>().ok()?);
        if found == name {
            let bytes = MODULES.get(4 * at..4 * (at + count))?;
            let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            return Some(bytes.chunks_exact(4).map(word).collect());
        }
        at += count;
    }
    None
}

/// Replaces marks among the 32-bit constants, and the workgroup's size.
fn patch(words: &mut [u32], values: &[(u32, u32)], workgroup: u32) {
    let mut at = 5;
    while at < words.len() {
        let (length, opcode) = ((words[at] >> 16) as usize, words[at] & 0xffff);
        match (opcode, length) {
            (43, 4) => {
                let mark = words[at + 3];
                if let Some((_, value)) = values.iter().find(|(open, _)| *open == mark) {
                    words[at + 3] = *value;
                }
            }
            (16, 6) if words[at + 2] == 17 => words[at + 3] = workgroup,
            _ => {}
        }
        at += length;
    }
}

impl Shaders {
    /// No kernels yet.
    pub fn new(stream: Arc<Stream>, shape: Shape) -> Shaders {
        let powers = [shape.workgroup, shape.lanes, shape.spans]
            .iter()
            .all(|n| n.is_power_of_two());
        assert!(powers && shape.workgroup <= 256 && shape.lanes <= shape.workgroup);
        assert!((1..=8).contains(&shape.tokens));
        Shaders {
            shape,
            stream,
            made: Mutex::default(),
        }
    }

    /// The name of a kernel's module in this shape.
    fn name(&self, kernel: &str) -> String {
        let float = if self.shape.soft { "soft" } else { "hard" };
        let sums = if self.shape.subgroup && !self.shape.soft {
            "subgroup"
        } else {
            "tree"
        };
        let dot = if self.shape.dot && !self.shape.soft {
            "dot"
        } else {
            "plain"
        };
        match kernel {
            "select" | "control" | "spread_weights" | "spread_tokens" | "multiply" => kernel.to_owned(),
            "element" | "rotate" | "attend_end" | "finish" => format!("{kernel}-{float}"),
            "quantise" | "norm" | "store" => format!("{kernel}-{float}-{sums}"),
            _ => format!("{kernel}-{float}-{sums}-{dot}"),
        }
    }

    /// A kernel with its open constants set, compiled the first time.
    ///
    /// # Errors
    /// The driver refuses it.
    pub fn kernel(&self, kernel: &str, values: &[(u32, u32)]) -> Result<Kernel, Error> {
        let key = (kernel.to_owned(), values.to_vec());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = made.get(&key) {
            return Ok(kernel.clone());
        }
        let Shape { lanes, .. } = self.shape;
        let workgroup = match kernel {
            // Cooperative matrices belong to a whole subgroup.
            "multiply" => self.stream.gpu.facts.subgroup,
            _ => self.shape.workgroup,
        };
        let name = self.name(kernel);
        let mut words = module(&name).ok_or_else(|| self.stream.gpu.error(format!("no module {name}")))?;
        let values = [values, &[(WORKGROUP, workgroup), (LANES, lanes)]].concat();
        patch(&mut words, &values, workgroup);
        let kernel = self.stream.gpu.kernel(&words)?;
        made.insert(key, kernel.clone());
        Ok(kernel)
    }

    /// Matrix rows that one workgroup of `linear` takes.
    pub fn teams(&self) -> u32 {
        let lanes = if self.shape.subgroup && !self.shape.soft {
            self.stream.gpu.facts.subgroup
        } else {
            self.shape.lanes
        };
        (self.shape.workgroup / lanes).max(1)
    }
}

#[cfg(test)]
mod tests {
    use vulkano::shader::reflect::entry_points;
    use vulkano::shader::spirv::Spirv;

    use super::*;

    #[test]
    fn the_list_covers_the_modules() {
        let words: usize = LIST
            .lines()
            .map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(words * 4, MODULES.len());
        assert!(module("linear-hard-tree-dot").unwrap()[0] == 0x0723_0203 && module("nothing").is_none());
    }

    /// It sets barriers by what it sees, and does not know what cooperative matrices load and store.
    #[test]
    fn vulkano_sees_which_buffers_a_kernel_reads_and_writes() {
        for name in LIST.lines().map(|line| line.split(' ').next().unwrap()) {
            let words = module(name).unwrap();
            let (_, entry) = entry_points(&Spirv::new(&words).unwrap()).next().unwrap();
            let mut written = 0;
            for ((_, binding), found) in &entry.descriptor_binding_requirements {
                let used = &found.descriptors[&Some(0)];
                assert!(
                    !used.memory_read.is_empty() || !used.memory_write.is_empty(),
                    "{name}: {binding}"
                );
                written += usize::from(!used.memory_write.is_empty());
            }
            assert!(written > 0, "{name} writes nothing");
        }
    }

    #[test]
    fn every_mark_is_replaced() {
        for (name, marks) in [
            (
                "linear-hard-tree-dot",
                &[WORKGROUP, LANES, TOKENS, KIND, WIDE][..],
            ),
            ("multiply", &[TILE_ROWS, TILE_TOKENS, STEP]),
            ("finish-hard", &[WORKGROUP, TILE_ROWS, TILE_TOKENS, BYTES]),
        ] {
            let mut words = module(name).unwrap();
            let open = |words: &[u32]| marks.iter().filter(|mark| words.contains(mark)).count();
            assert_eq!(open(&words), marks.len(), "{name}");
            let values: Vec<_> = marks.iter().map(|mark| (*mark, 4)).collect();
            patch(&mut words, &values, 64);
            assert_eq!(open(&words), 0, "{name}");
        }
    }
}
