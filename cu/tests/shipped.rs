//! The items that come with the program are what their sources make: run with `WEFT_BLESS=1` to write them anew.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use bytes::Bytes;
use cu::runtime::ModuleFormat;
use cu::shipped;
use spec::{DataItem, ItemParts, Signer, Tag};
use std::path::{Path, PathBuf};

fn processes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../processes")
}

fn sign(tags: &[(&'static str, String)], data: Vec<u8>) -> DataItem {
    let parts = ItemParts {
        tags: tags
            .iter()
            .map(|(name, value)| Tag::new(*name, value.clone()))
            .collect(),
        data: Bytes::from(data),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &Signer::ed25519(&shipped::SEED)).unwrap()
}

fn engine() -> DataItem {
    let data = std::fs::read(processes().join("lua/engine.wasm")).unwrap();
    let tags = [
        ("Name", "weft-lua-engine".to_owned()),
        ("Lua", "5.3.6".to_owned()),
        ("Content-Type", "application/wasm".to_owned()),
    ];
    sign(&tags, data)
}

/// The files that the manifest names, each loaded under its own name; `main` runs, the others are there to require.
fn bundle(folder: &Path) -> String {
    let manifest = std::fs::read_to_string(folder.join("aos.manifest")).unwrap();
    let line = |line: &str| {
        let (name, file) = line.split_once(' ').unwrap();
        let source = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(!source.contains("]=====]"), "{file} ends the quotation");
        let chunk = format!("assert(load([=====[\n{source}]=====], \"{name}\"))");
        match name {
            "main" => format!("{chunk}()\n"),
            name => format!("package.preload[\"{name}\"] = {chunk}\n"),
        }
    };
    manifest
        .lines()
        .filter(|text| !text.is_empty())
        .map(line)
        .collect()
}

fn kernel() -> DataItem {
    let data = bundle(&processes().join("aos")).into_bytes();
    let tags = [
        ("Data-Protocol", "ao".to_owned()),
        ("Variant", "ao.TN.1".to_owned()),
        ("Type", "Module".to_owned()),
        ("Module-Format", ModuleFormat::Lua.name().to_owned()),
        ("Input-Encoding", "JSON-1".to_owned()),
        ("Output-Encoding", "JSON-1".to_owned()),
        ("Memory-Limit", "1-gb".to_owned()),
        ("Compute-Limit", "9000000000000".to_owned()),
        ("Extension", cu::ai::EXTENSION.to_owned()),
        ("Name", "weft-aos".to_owned()),
        ("Content-Type", "text/x-lua".to_owned()),
    ];
    sign(&tags, data)
}

fn blueprint(name: &str) -> DataItem {
    let data = std::fs::read(processes().join(format!("{name}/{name}.lua"))).unwrap();
    let tags = [
        ("Name", format!("weft-blueprint-{name}")),
        ("Content-Type", "text/x-lua".to_owned()),
    ];
    sign(&tags, data)
}

fn made(name: &str) -> DataItem {
    match name {
        "engine" => engine(),
        "kernel" => kernel(),
        name => blueprint(name),
    }
}

#[test]
fn items_are_what_their_sources_make() {
    for name in shipped::ALL.iter().map(|shipped| shipped.name) {
        let item = made(name);
        let path = processes().join(format!("items/{name}.item"));
        if std::env::var_os("WEFT_BLESS").is_some() {
            std::fs::write(&path, item.bytes()).unwrap();
            continue;
        }
        let committed = std::fs::read(&path).unwrap();
        let says = "differs from its sources: run this test with WEFT_BLESS=1 and commit the file";
        assert!(
            committed == item.bytes()[..],
            "processes/items/{name}.item {says}"
        );
        let shipped = shipped::ALL.iter().find(|shipped| shipped.name == name).unwrap();
        assert_eq!(shipped.item().id(), item.id());
        shipped.item().verify().unwrap();
    }
}

#[test]
fn ids_are_distinct_and_the_kernel_is_a_module() {
    let items = shipped::items();
    let kernel = items
        .iter()
        .find(|item| item.id() == shipped::kernel_id().into())
        .unwrap();
    assert_eq!(kernel.tag("Module-Format"), Some(ModuleFormat::Lua.name()));
    assert_eq!(items.iter().filter(|item| item.id() == kernel.id()).count(), 1);
}
