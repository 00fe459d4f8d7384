//! Lua modules on the machine: what they see, how they fail, and that their state is kept like any other.
//! Not here: hostile scripts (`hostile`), whole processes (`aos`, `checklist`).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use bytes::Bytes;
use cu::runtime::{Error, Fault, Limits, Machine, Module, ModuleFormat, frame};
use serde_json::{Value, json};
use support::engine;

/// Counts, answers what `Data` evaluates to, fails where that fails.
const KERNEL: &str = r#"
local json = require("json")
local kept = {}
Count = 0
function handle(msg, env)
  Count = Count + 1
  kept[#kept + 1] = msg.Id
  local run, complaint = load(msg.Data, "=eval")
  if not run then error(complaint, 0) end
  local ok, value = pcall(run, msg, env)
  if not ok then return { Error = tostring(value) } end
  return { Output = { data = tostring(value) }, Messages = {}, Spawns = {}, Assignments = {} }
end
"#;

fn load(source: &str) -> Result<Module, Error> {
    engine().load(&Bytes::copy_from_slice(source.as_bytes()), ModuleFormat::Lua)
}

struct Process {
    machine: Machine,
    env: Vec<u8>,
    slot: u64,
}

impl Process {
    fn start(module: &Module, limits: Limits) -> Process {
        let env = frame::of_json(support::env("test").as_bytes()).unwrap();
        let machine = Machine::start(module, limits).unwrap();
        Process {
            machine,
            env,
            slot: 0,
        }
    }

    fn send(&mut self, message: &Value) -> Result<Value, Value> {
        let message = frame::of_json(message.to_string().as_bytes()).unwrap();
        let verdict = self.machine.call(&message, &self.env).unwrap();
        support::settle(&mut self.machine, verdict)
    }

    fn eval(&mut self, code: &str) -> Result<Value, Value> {
        self.slot += 1;
        self.send(&support::eval(self.slot, code))
    }

    fn says(&mut self, code: &str) -> String {
        let answer = self.eval(code).unwrap_or_else(|e| panic!("{code}: {e}"));
        answer["Output"]["data"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_message_is_a_table_and_the_environment_too() {
    let module = load(KERNEL).unwrap();
    let mut process = Process::start(&module, Limits::default());
    assert_eq!(process.says("return 1 + 1"), "2");
    let code = "local m, env = ...; return table.concat({m.Owner, m.From, #m.Tags, m.Tags[1].name, tostring(m.Anchor),
        math.type(m.Timestamp), m['Block-Height'], tostring(m.Cron), env.Process.Id, env.Module.Id}, ' ')";
    let expected = format!(
        "{0} {0} 5 Data-Protocol nil integer 1500000 false {1} {2}",
        support::OWNER,
        support::PROCESS,
        support::MODULE
    );
    assert_eq!(process.says(code), expected);
    assert_eq!(process.says("return Count"), "3");
}
