//! Hostile scripts: each ends within its limit, at the same point on every replay, and leaves nothing behind.
//!
//! The scripts are `processes/lua/hostile`, run by the module `runner.lua` there. The first line of each says what must
//! happen: `-- must: gas`, `memory`, `error TEXT` (some of it) or `answer TEXT`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use cu::runtime::{Fault, Limits, Machine, Module, ModuleFormat, STACK_BYTES, Verdict, frame};
use std::path::{Path, PathBuf};
use support::engine;

/// Memory and gas of a script that ends by itself: gas for about a third of a second.
const LIMITS: Limits = Limits {
    memory_bytes_max: 64 << 20,
    gas_max: 4_900_000_000,
    metered_gas_max: 1 << 40,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../processes/lua/hostile")
}

/// Runs what it is sent and says what came of it.
fn runner() -> Module {
    let source = std::fs::read(folder().join("runner.lua")).unwrap();
    engine().load(&source.into(), ModuleFormat::Lua).unwrap()
}

fn scripts() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.retain(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(|c: char| c.is_ascii_digit()))
    });
    paths.sort();
    let text = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    paths.into_iter().map(text).collect()
}

fn message(slot: u64, code: &str) -> Vec<u8> {
    frame::of_json(support::eval(slot, code).to_string().as_bytes()).unwrap()
}

fn booted(module: &Module, limits: Limits) -> (Machine, Vec<u8>) {
    let env = frame::of_json(support::env("hostile").as_bytes()).unwrap();
    let mut machine = Machine::start(module, limits).unwrap();
    assert_eq!(
        said(&machine.call(&message(1, "Kept = 7 return Kept"), &env).unwrap()),
        "7"
    );
    machine.commit().unwrap();
    (machine, env)
}

/// What an outcome is made of.
fn said(verdict: &Verdict) -> String {
    match verdict {
        Ok(answer) => {
            let value: serde_json::Value = serde_json::from_slice(&answer.response).unwrap();
            let data = &value["Output"]["data"];
            data.as_str().map_or_else(|| data.to_string(), str::to_owned)
        }
        Err(fault) => fault.error_json(),
    }
}

fn check(name: &str, script: &str, module: &Module) {
    let must = script.lines().next().unwrap().trim_start_matches("-- must: ");
    let gas_max = if must == "gas" {
        LIMITS.gas_max / 5
    } else {
        LIMITS.gas_max
    };
    let limits = Limits { gas_max, ..LIMITS };
    let (mut machine, env) = booted(module, limits);
    let root = machine.state_root().unwrap();
    let verdict = machine.call(&message(2, script), &env).unwrap();
    let text = said(&verdict);
    let is_gas = matches!(verdict, Err(Fault::OutOfGas));
    let holds = match must.split_once(' ').unwrap_or((must, "")) {
        ("gas", _) => is_gas,
        ("memory", _) => verdict.is_err() && text.contains("not enough memory"),
        ("error", part) => verdict.is_err() && !is_gas && text.contains(part),
        ("answer", whole) => verdict.is_ok() && text == whole,
        other => panic!("{name}: the first line says {other:?}"),
    };
    assert!(holds, "{name} must {must}: {text}");
    machine.roll_back().unwrap();
    assert_eq!(
        machine.state_root().unwrap(),
        root,
        "{name} left something behind"
    );
    let next = machine.call(&message(3, "return Kept + 1"), &env).unwrap();
    assert_eq!(said(&next), "8", "{name}: the next message works");
    machine.roll_back().unwrap();
    // Two replays: the same bytes, and the same state right after it where it has one.
    let after = |machine: &mut Machine| {
        let again = machine.call(&message(2, script), &env).unwrap();
        assert_eq!(said(&again), text, "{name} ended otherwise on a replay");
        match again {
            Ok(_) => machine.commit().unwrap(),
            Err(_) => machine.roll_back().unwrap(),
        }
        machine.state_root().unwrap()
    };
    let replayed = after(&mut booted(module, limits).0);
    assert_eq!(after(&mut machine), replayed, "{name}");
    assert!(machine.memory_bytes() <= LIMITS.memory_bytes_max, "{name}");
}

/// Bytes of this thread's stack that were ever touched.
fn stack_touched() -> usize {
    let here = 0u8;
    let here = (&raw const here) as usize;
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines();
    let contains = |line: &str| {
        let range = line.split(' ').next().unwrap().split_once('-');
        let bounds = range.and_then(|(a, b)| {
            Some((
                usize::from_str_radix(a, 16).ok()?,
                usize::from_str_radix(b, 16).ok()?,
            ))
        });
        bounds.is_some_and(|(a, b)| (a..b).contains(&here))
    };
    lines.find(|line| contains(line)).unwrap();
    let resident = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
    let kib: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// Lua's own limits must come long before the native stack ends, as nothing else counts the depth of Lua modules.
const STACK_TOUCHED_MAX: usize = cu::runtime::STACK_BYTES / 8;

#[test]
fn each_script_ends_alike_and_leaves_nothing() {
    let module = runner();
    let scripts = scripts();
    assert!(scripts.len() >= 40, "{} scripts", scripts.len());
    std::thread::scope(|scope| {
        for share in scripts.chunks(scripts.len().div_ceil(2)) {
            let module = &module;
            let work = move || {
                for (name, script) in share {
                    check(name, script, module);
                    let touched = stack_touched();
                    assert!(
                        touched <= STACK_TOUCHED_MAX,
                        "{name} took {touched} bytes of stack"
                    );
                }
            };
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, work).unwrap();
        }
    });
}

/// Gas ends a message at one instruction: one unit less, and the last step of a counting loop is missing.
#[test]
fn gas_ends_a_message_at_the_same_point() {
    let module = runner();
    let env = frame::of_json(support::env("hostile").as_bytes()).unwrap();
    let code = "local n = 0 for i = 1, 1000 do n = n + #tostring({}) end return n";
    let ends = |gas_max: u64| {
        let mut machine = Machine::start(&module, Limits { gas_max, ..LIMITS }).unwrap();
        machine.call(&message(1, code), &env).unwrap().is_ok()
    };
    let (mut low, mut high) = (1, 100_000_000);
    assert!(ends(high) && !ends(low));
    while high - low > 1 {
        let middle = low.midpoint(high);
        if ends(middle) { high = middle } else { low = middle }
    }
    for _ in 0..2 {
        assert!(ends(high) && !ends(low));
    }
}
