//! Holds the committed SPIR-V to its WGSL: compiles every shader and compares words and hashes.
//!
//! `BLESS=1 cargo test -p inference --test shaders` writes them anew after a change of a shader or of naga.

#[path = "shaders/compile.rs"]
mod compile;
#[path = "shaders/cooperative.rs"]
mod cooperative;
#[path = "shaders/layout.rs"]
mod layout;
#[path = "shaders/pin.rs"]
mod pin;
#[path = "shaders/recipe.rs"]
mod recipe;

use std::fmt::Write as _;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("shaders")
}

/// The pack and its list: a line per module with its name, length in words and BLAKE3 hash.
fn built() -> (Vec<u8>, String) {
    let (mut pack, mut list) = (Vec::new(), String::new());
    for module in recipe::modules() {
        let bytes: Vec<u8> = compile::words(&module.source(&folder()), module.pinned())
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let hash = blake3::hash(&bytes);
        writeln!(list, "{} {} {hash}", module.name(), bytes.len() / 4).expect("a string takes all");
        pack.extend(bytes);
    }
    (pack, list)
}

#[test]
fn the_committed_modules_are_what_the_shaders_compile_to() {
    let (pack, list) = built();
    let (pack_at, list_at) = (folder().join("modules.spv"), folder().join("modules.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&pack_at, &pack).unwrap();
        std::fs::write(&list_at, &list).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(list_at).unwrap(),
        list,
        "shaders changed: BLESS=1"
    );
    assert!(
        std::fs::read(pack_at).unwrap() == pack,
        "shaders changed: BLESS=1"
    );
}

#[test]
fn every_module_of_din1_is_pinned_or_has_nothing_to_pin() {
    for module in recipe::modules() {
        let words = compile::words(&module.source(&folder()), module.pinned());
        let (found, name) = (pin::inspect(&words), module.name());
        assert_eq!(
            layout::misplaced(&words),
            0,
            "{name}: a layout of memory that nobody shares"
        );
        assert_eq!(found.forbidden, 0, "{name}: an operation of free rounding");
        assert_eq!(found.modes, if module.pinned() { 2 } else { 0 }, "{name}");
        if module.pinned() {
            assert_eq!(found.arithmetic, found.decorated, "{name}: not all decorated");
        }
        if module.soft() {
            assert_eq!(
                found.arithmetic, 0,
                "{name}: float arithmetic on a device that may round as it likes"
            );
        }
    }
}
