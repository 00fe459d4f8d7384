//! Every refusal that the sources can make has words for why and what to do in the catalogue.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What makes a refusal whose first argument is its code.
const MAKERS: [&str; 6] = [
    "Refusal::invalid(",
    "Refusal::not_found(",
    "Refusal::busy(",
    "Refusal::limit(",
    "Refusal::upstream(",
    "Problem::new(",
];

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crates = [
        "spec/src",
        "spec/wire/src",
        "weave/src",
        "su/src",
        "cu/src",
        "mu/src",
        "aos-shell/src",
        "node/src",
    ];
    let mut folders: Vec<PathBuf> = crates.iter().map(|name| root.join(name)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            match entry.is_dir() {
                // What tests refuse is nobody's error.
                true if entry.ends_with("tests") => {}
                true => folders.push(entry),
                false if entry.extension().is_some_and(|kind| kind == "rs") => found.push(entry),
                false => {}
            }
        }
    }
    found
}

/// The codes in a source, its tests left out.
fn codes(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap();
    let mut codes = Vec::new();
    for maker in MAKERS {
        for (at, _) in text.match_indices(maker) {
            let rest = text[at + maker.len()..].trim_start();
            if let Some(code) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                codes.push(code.to_owned());
            }
        }
    }
    codes
}

#[test]
fn every_code_of_the_sources_is_in_the_catalogue() {
    let mut missing = BTreeSet::new();
    let mut seen = 0;
    for path in sources() {
        for code in codes(&std::fs::read_to_string(&path).unwrap()) {
            seen += 1;
            if aos_shell::catalogue::find(&code).is_none() {
                missing.insert(format!("{code} ({})", path.display()));
            }
        }
    }
    assert!(seen > 100, "the codes were not found");
    assert!(
        missing.is_empty(),
        "add to aos-shell/src/catalogue.rs: {missing:#?}"
    );
}
