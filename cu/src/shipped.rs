//! Items that come with the program: the Lua engine, the aos kernel and its blueprints, signed once with a published key.
//!
//! They are files of `processes/items`, made from sources beside them; a test makes them again and compares.
//! Not here: how a node serves them. Invariant: an id stands for these bytes on every node of this build.

use std::sync::LazyLock;

use bytes::Bytes;
use spec::{DataItem, ModuleId};

/// The seed of the key that signs them. Published: the signature proves that nothing changed, not who made it.
pub const SEED: [u8; 32] = *b"weft: items that come along, 001";

/// An item that comes with the program.
#[derive(Debug)]
pub struct Shipped {
    /// Its file's name in `processes/items`, without `.item`.
    pub name: &'static str,
    /// The signed item.
    pub bytes: &'static [u8],
}

macro_rules! shipped {
    ($($name:literal)*) => {
        [$(Shipped {
            name: $name,
            bytes: include_bytes!(concat!("../../processes/items/", $name, ".item")),
        }),*]
    };
}

/// All of them: the engine, the kernel, and the blueprints by their names.
pub const ALL: [Shipped; 10] =
    shipped!("engine" "kernel" "token" "chatroom" "chat" "voting" "staking" "arena" "names" "infer");

impl Shipped {
    /// The item, parsed.
    pub fn item(&self) -> DataItem {
        DataItem::parse(Bytes::from_static(self.bytes)).expect("a test parses each of them")
    }
}

/// Kernels of before: processes that were spawned with one run on as they did.
pub const KEPT: [Shipped; 1] = shipped!("kept/kernel-1");

/// All of them, parsed, to be answered by a weave.
pub fn items() -> Vec<DataItem> {
    ALL.iter().chain(&KEPT).map(Shipped::item).collect()
}

/// The aos kernel: the module that the shell spawns with.
pub fn kernel_id() -> ModuleId {
    static ID: LazyLock<ModuleId> = LazyLock::new(|| {
        let kernel = ALL.iter().find(|shipped| shipped.name == "kernel");
        kernel.expect("the kernel is one of them").item().id().into()
    });
    *ID
}
