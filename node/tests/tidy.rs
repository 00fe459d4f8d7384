//! House rules that a test can check: crate edges, file openings, function and file length, banned
//! calls, where `unsafe` may stand, and what lies at the top of the tree.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a function may have, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines a source file may have.
const FILE_LINES_MAX: usize = 1200;

/// Crate, folder, and which of ours it may import. A new edge needs a reason in its commit.
const EDGES: [(&str, &str, &[&str]); 9] = [
    ("spec", "spec", &[]),
    ("wire", "spec/wire", &["spec"]),
    ("weave", "weave", &["spec", "wire"]),
    ("su", "su", &["spec", "wire", "weave"]),
    ("cu", "cu", &["spec", "wire", "weave", "inference"]),
    ("inference", "cu/inference", &[]),
    ("mu", "mu", &["spec", "wire"]),
    ("aos-shell", "aos-shell", &["spec", "wire"]),
    (
        "weft",
        "node",
        &[
            "spec",
            "wire",
            "weave",
            "su",
            "cu",
            "inference",
            "mu",
            "aos-shell",
        ],
    ),
];

/// Files that may use `unsafe`, each with its reason.
const UNSAFE: [(&str, &str); 21] = [
    (
        "spec/src/pss.rs",
        "AWS-LC's PSS check with any salt length has no safe form",
    ),
    (
        "spec/src/verifier/lanes/mod.rs",
        "vector instructions are called where the processor has them",
    ),
    (
        "cu/src/runtime/pages.rs",
        "mapping memory images and loading compiled modules",
    ),
    (
        "cu/inference/src/backend/vector.rs",
        "vector instructions are called where the processor has them",
    ),
    (
        "cu/inference/src/backend/x86/vnni.rs",
        "loads and stores of vector registers",
    ),
    (
        "cu/inference/src/backend/x86/avx2.rs",
        "loads and stores of vector registers",
    ),
    (
        "cu/inference/src/backend/x86/attend.rs",
        "loads and stores of vector registers",
    ),
    (
        "cu/inference/src/backend/x86/element.rs",
        "loads and stores of vector registers",
    ),
    (
        "cu/inference/src/backend/x86/math.rs",
        "loads and stores of vector registers",
    ),
    (
        "cu/inference/src/backend/x86/amx.rs",
        "instructions of the matrix unit, which have no safe form",
    ),
    (
        "cu/inference/src/backend/arm/element.rs",
        "loads and stores of vector registers",
    ),
    (
        "cu/inference/src/backend/arm/attend.rs",
        "loads and stores of vector registers",
    ),
    (
        "cu/inference/src/backend/arm/dot.rs",
        "loads of vector registers, and an instruction that has no stable name yet",
    ),
    (
        "cu/inference/src/backend/arm/neon.rs",
        "loads of vector registers",
    ),
    (
        "cu/inference/src/backend/pack.rs",
        "lines seen as their bytes, and threads that write disjoint places of them",
    ),
    (
        "cu/inference/src/backend/room.rs",
        "memory aligned to large pages, which no safe container gives",
    ),
    ("cu/inference/tests/mutation.rs", "an allocator that counts"),
    ("node/src/infer/map.rs", "a model's file is mapped, not copied"),
    (
        "cu/inference/src/backend/crew.rs",
        "a job borrows from its caller's stack while helpers run it",
    ),
    (
        "cu/inference/src/backend/vulkan/gpu.rs",
        "SPIR-V modules, dispatches and timestamps: vulkano cannot check what a shader does",
    ),
    (
        "cu/inference/src/backend/vulkan/cooperative.rs",
        "the sizes of cooperative matrices, which vulkano does not ask for",
    ),
];

/// What stands at the top of the tree.
const TOP: [&str; 23] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".config",
    ".git",
    ".gitignore",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "aos-shell",
    "cu",
    "deny.toml",
    "docs",
    "fuzz",
    "mu",
    "node",
    "processes",
    "rustfmt.toml",
    "spec",
    "su",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Every Rust file of the house, relative to the root.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    // `spec/wire` lies inside `spec`.
    let top = ["spec", "weave", "su", "cu", "mu", "aos-shell", "node", "fuzz"];
    let mut folders: Vec<PathBuf> = top.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.map(|e| e.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            match entry.is_dir() {
                true if !["target", "node_modules"].contains(&name.as_str()) => folders.push(entry),
                true => {}
                false if name.ends_with(".rs") => {
                    let text = fs::read_to_string(&entry).unwrap();
                    found.push((entry.strip_prefix(root()).unwrap().to_path_buf(), text));
                }
                false => {}
            }
        }
    }
    found.sort();
    assert!(found.len() > 20, "the sources were not found");
    found
}

#[test]
fn crates_import_only_what_the_house_allows() {
    let ours: BTreeSet<&str> = EDGES.iter().map(|(name, _, _)| *name).collect();
    for (name, folder, allowed) in EDGES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
            }
            // Tests may reach further down, never across to a sibling unit.
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or("");
            if section.ends_with("dependencies") && ours.contains(dependency) {
                assert!(
                    allowed.contains(&dependency),
                    "{name} must not import {dependency}"
                );
            }
        }
    }
}

#[test]
fn third_party_versions_stand_in_the_root_only() {
    for (name, folder, _) in EDGES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
            }
            if !section.ends_with("dependencies") || !line.contains('=') {
                continue;
            }
            assert!(
                line.contains("workspace = true"),
                "{name}: `{line}` must take its version from the root"
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} must open with `//!`", path.display());
        assert!(!text.starts_with("//! Stub"), "{} is a stub", path.display());
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn functions_fit_a_screen() {
    let mut lengths = Vec::new();
    for (path, text) in sources() {
        for (line, length) in functions(&text) {
            assert!(
                length <= FUNCTION_LINES_MAX,
                "{}:{line}: {length} lines",
                path.display()
            );
            lengths.push(length);
        }
    }
    lengths.sort_unstable();
    let (median, p90) = (lengths[lengths.len() / 2], lengths[lengths.len() * 9 / 10]);
    println!("{} functions, median {median} lines, p90 {p90}", lengths.len());
    assert!(
        median <= 9 && p90 <= 31,
        "functions grow: median {median}, p90 {p90}"
    );
}

/// Start line and length of each function, by the indentation rustfmt guarantees.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if !is_function(code) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let rest = lines[at..].iter();
        let end = rest
            .clone()
            .position(|l| *l == closing || (l.trim_end().ends_with('}') && *l == lines[at]));
        // A declaration without a body ends in a semicolon before any closing brace.
        let declared = rest.clone().position(|l| l.trim_end().ends_with(';'));
        let opened = rest
            .clone()
            .position(|l| l.trim_end().ends_with('{') || l.contains("{ ") || l.ends_with("{}"));
        match (opened, declared) {
            (Some(open), Some(semicolon)) if semicolon < open => continue,
            (None, _) => continue,
            _ => {}
        }
        if let Some(end) = end {
            found.push((at + 1, end + 1));
        }
    }
    found
}

fn is_function(code: &str) -> bool {
    let mut words = code.split_whitespace().skip_while(|word| {
        ["pub", "async", "const", "unsafe", "extern", "\"C\""].contains(word) || word.starts_with("pub(")
    });
    words.next() == Some("fn")
}

#[test]
fn nothing_banned_is_called() {
    let banned = [
        ("todo!(", "finish it"),
        ("unimplemented!(", "finish it"),
        ("dbg!(", "use tracing"),
        ("std::thread::sleep_ms", "use a Duration"),
        ("#[ignore]", "say why: #[ignore = \"…\"]"),
        ("allow(dead_code)", "delete it"),
    ];
    for (path, text) in sources() {
        if path.ends_with("tidy.rs") {
            continue;
        }
        for (word, remedy) in banned {
            assert!(!text.contains(word), "{}: `{word}`: {remedy}", path.display());
        }
    }
}

#[test]
fn the_protocol_crate_is_pure() {
    for (path, text) in sources() {
        if !path.starts_with("spec/src") {
            continue;
        }
        for word in [
            "SystemTime",
            "Instant::",
            "std::fs",
            "std::net",
            "tokio::",
            "tracing::",
            "std::env",
        ] {
            assert!(
                !text.contains(word),
                "{}: spec must not use {word}",
                path.display()
            );
        }
    }
}

#[test]
fn evaluation_reads_no_clock() {
    let pure = [
        "su/src/assign.rs",
        "cu/src/eval.rs",
        "cu/src/message.rs",
        "cu/src/cron.rs",
        "mu/src/outbox.rs",
    ];
    for (path, text) in sources() {
        if pure.iter().any(|pure| path.ends_with(pure)) {
            for word in ["SystemTime", "Instant", "getrandom", "std::fs", "tokio::"] {
                assert!(
                    !text.contains(word),
                    "{}: a pure file must not use {word}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    for (path, text) in sources() {
        let listed = UNSAFE.iter().any(|(file, _)| path.ends_with(file));
        let lifts = text.contains("allow(unsafe_code");
        assert!(
            !lifts || listed || path.ends_with("tidy.rs"),
            "{} must not lift the ban on unsafe",
            path.display()
        );
        if listed {
            let blocks = text.matches("unsafe {").count();
            let comments = text.matches("SAFETY").count();
            assert!(
                comments >= blocks,
                "{}: a block without a SAFETY comment",
                path.display()
            );
        }
    }
}

#[test]
fn ground_crates_assert_what_must_hold() {
    for folder in ["spec/src", "weave/src", "su/src"] {
        let (mut asserts, mut lines) = (0, 0);
        for (path, text) in sources() {
            if path.starts_with(folder) {
                asserts += text.matches("assert").count();
                lines += text.lines().count();
            }
        }
        assert!(
            asserts * 1000 >= lines * 10,
            "{folder}: {asserts} asserts in {lines} lines"
        );
    }
}

#[test]
fn the_top_of_the_tree_is_as_drawn() {
    let extra = ["target", "weave", "xtask", "deploy"];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            TOP.contains(&name.as_str()) || extra.contains(&name.as_str()),
            "`{name}` has no place at the top"
        );
    }
}
