//! The committed vectors of DIN-1, `spec/vectors/inference.json` and the model files beside it: the definition gives them,
//! and so does every level and device here. `spec/inference.md` says by which rules inputs are made.
//!
//! `WEFT_BLESS=1` writes the answers anew, and model files that are not there: only together with a new version of the
//! numerics.
#![allow(missing_docs, clippy::unwrap_used)]

#[cfg(feature = "vulkan")]
#[path = "../support/device.rs"]
mod device;
mod models;
mod numbers;
mod operators;
#[path = "../support/pinned.rs"]
mod pinned;
#[path = "../support/mod.rs"]
mod support;

use inference::backend::{Backend, Host, Level};
use pinned::{blessing, same};
use serde_json::{Value, json};

fn committed() -> Value {
    pinned::read("inference.json")
}

/// f32 bits in hexadecimal.
fn hex(values: &[f32]) -> Value {
    let each: Vec<String> = values.iter().map(|v| format!("{:08x}", v.to_bits())).collect();
    json!(each.join(" "))
}

/// BLAKE3 of f32 bits, little-endian.
fn hash(values: &[f32]) -> Value {
    json!(inference::generate::logits_hash(values).to_string())
}

/// What depends on a backend.
fn computed<B: Backend>(open: &dyn Fn() -> B) -> Value {
    json!({"operators": operators::all(&open()), "models": models::decoders(open), "encoders": models::encoders(open)})
}

#[test]
fn the_definition_gives_the_vectors() {
    if blessing() {
        models::forge_missing();
    }
    let mut made = computed(&Host::scalar);
    let more = json!({"about": "DIN-1, spec/inference.md, Vectors. Made by the definition itself, cu/inference/src/backend/cpu.rs",
        "numerics": inference::NUMERICS, "functions": numbers::functions(), "quantised": numbers::quantised(),
        "rotary": numbers::rotary(), "choices": numbers::choices()});
    made.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    if blessing() {
        pinned::write("inference.json", &made);
    }
    same("the definition", &made, &committed());
}

#[test]
fn every_level_gives_the_vectors() {
    if blessing() {
        return;
    }
    let levels = Level::ALL.iter().filter(|level| **level <= Level::best());
    for (level, threads) in levels.flat_map(|level| [(*level, 1), (*level, 3)]) {
        let committed = committed();
        for (part, ours) in computed(&|| Host::new(level, threads)).as_object().unwrap() {
            same(
                &format!("{level:?} with {threads} threads, {part}"),
                ours,
                &committed[part],
            );
        }
    }
}

#[cfg(feature = "vulkan")]
#[test]
fn a_vulkan_device_gives_the_vectors() {
    if blessing() || !device::present() {
        return;
    }
    let committed = committed();
    for (part, ours) in computed(&|| device::shaped(|_| ())).as_object().unwrap() {
        same(&format!("Vulkan, {part}"), ours, &committed[part]);
    }
}

#[test]
fn committed_receipts_pass_a_check() {
    if blessing() {
        return;
    }
    models::check_receipts(&committed()["models"]);
}
