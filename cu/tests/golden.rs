//! Published aos modules give the outcomes that `spec/vectors/aos_golden.json` knows of them.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "../../spec/tests/golden/mod.rs"]
mod golden;
mod support;

use cu::runtime::{Limits, Machine, Verdict};
use golden::Golden;
use serde_json::Value;

/// The file's name of each build, and the module's.
const BUILDS: [(&str, &str); 3] = [
    ("2.0.1", "aos2_0_1"),
    ("2.0.4-32", "aos2_0_4_32"),
    ("2.0.6", "aos2_0_6"),
];

/// The outcome as the unit hands it on.
fn outcome(verdict: &Verdict) -> Value {
    match verdict {
        Ok(answer) => {
            let mut value: Value = serde_json::from_slice(&answer.response).unwrap();
            value["GasUsed"] = answer.gas_used.into();
            value
        }
        Err(fault) => panic!("no row faults: {fault}"),
    }
}

#[test]
fn item_82_every_golden_row_holds() {
    let golden = Golden::read(include_str!("../../spec/vectors/aos_golden.json"));
    for (build, name) in BUILDS {
        let Some(module) = support::load(name) else { return };
        let mut machine = Machine::start(&module, Limits::default()).unwrap();
        let mut failures = Vec::new();
        for row in &golden.rows {
            let (message, env) = (row.message.get().as_bytes(), golden.env.get().as_bytes());
            let outcome = outcome(&machine.call(message, env).unwrap());
            failures.extend(row.failures(build, &outcome));
            match outcome.get("Error") {
                None | Some(Value::Null) => machine.commit().unwrap(),
                Some(_) => machine.roll_back().unwrap(),
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}
