//! Our aos kernel on our Lua engine: the golden rows, and a seeded stream beside the real module.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::process::Command;

use support::{compat, installed};

/// Runs a script under node; its last line tells how it went.
fn run(script: &str, arguments: &[&str]) {
    let output = Command::new("node")
        .arg("--experimental-wasm-memory64")
        .arg(script)
        .args(arguments)
        .current_dir(compat())
        .output();
    let Ok(output) = output else {
        assert!(std::env::var_os("CI").is_none(), "node is not here");
        eprintln!("SKIPPED: node is not here; {script} did NOT run");
        return;
    };
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{script}:\n{out}\n{error}");
    assert!(out.contains(" agree"), "{script} checked nothing:\n{out}");
}

/// Rows first observed on real modules (processes/aos/golden.json).
#[test]
fn golden_rows_of_the_kernel() {
    run("kernel-golden.mjs", &[]);
}

/// Outcomes equal those of aos 2.0.6 but for processes/aos/DIFFERENCES.md. `WEFT_KERNEL_SEEDS=1,2,3` runs more of them.
#[test]
fn kernel_answers_as_the_real_module() {
    if !installed() {
        return;
    }
    let seeds = std::env::var("WEFT_KERNEL_SEEDS").unwrap_or_else(|_| "1".to_owned());
    run("kernel.mjs", &["--seeds", &seeds, "--count", "1000"]);
}
