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

#[test]
fn a_bad_source_is_refused_with_its_line() {
    let no_syntax = load("x = 1\nfunction handle(m)\n  return = 2\nend")
        .err()
        .unwrap();
    assert!(
        matches!(&no_syntax, Error::Refused(text) if text.contains("module:3:") && text.contains("does not load")),
        "{no_syntax}"
    );
    let fails = load("local function f() error('at load') end\nf()")
        .err()
        .unwrap();
    assert!(
        matches!(&fails, Error::Refused(text) if text.contains("module:1: at load")),
        "{fails}"
    );
    let large = Bytes::from(vec![b' '; 17 << 20]);
    assert!(matches!(
        engine().load(&large, ModuleFormat::Lua),
        Err(Error::Refused(_))
    ));
}

#[test]
fn a_module_with_compute_answers_too() {
    let source = "function compute(state, assignment, opts)
        state.count = (state.count or 0) + 1
        state.results = { Output = { data = tostring(state.count) } }
        return state
    end";
    let module = load(source).unwrap();
    let mut process = Process::start(&module, Limits::default());
    assert_eq!(process.says("x"), "1");
    assert_eq!(process.says("x"), "2");
}

#[test]
fn errors_take_their_effect_back() {
    let module = load(KERNEL).unwrap();
    let mut process = Process::start(&module, Limits::default());
    assert!(
        process.eval("error('first')").is_err(),
        "also before anything was kept"
    );
    assert_eq!(process.says("return Count"), "1");
    let root = process.machine.state_root().unwrap();
    let bad = [
        ("Count = 100; error('boom', 0)", "boom"),
        ("return syntax error", "eval:1:"),
        ("return nil + 1", "arithmetic"),
        ("error({})", "table: 0x"),
        (
            "local function f() return f() + 1 end return f()",
            "stack overflow",
        ),
        ("return string.rep('x', 1 << 40)", "too large"),
    ];
    for (code, expected) in bad {
        let error = process.eval(code).unwrap_err();
        assert!(error.as_str().unwrap().contains(expected), "{code}: {error}");
        assert_eq!(process.machine.state_root().unwrap(), root, "{code}");
    }
    assert_eq!(process.says("return Count"), "2");
}

#[test]
fn protected_calls_and_coroutines_nest() {
    let module = load(KERNEL).unwrap();
    let mut process = Process::start(&module, Limits::default());
    let code = "local function deep(n) if n == 0 then error({code = 7}) end
        local ok, e = pcall(deep, n - 1); error(e) end
        local ok, e = pcall(deep, 60)
        local co = coroutine.wrap(function() local ok, e = pcall(function() coroutine.yield(1); error('in') end)
            coroutine.yield(e) end)
        return e.code .. ' ' .. co() .. ' ' .. co()";
    assert_eq!(process.says(code), "7 1 eval:4: in");
    let forever = "local function f() return select('#', pcall(f)) end return f()";
    assert_eq!(
        process.says(forever),
        "2",
        "Lua's own limit of nested calls comes first"
    );
}

#[test]
fn states_are_kept_like_any_others() {
    let module = load(KERNEL).unwrap();
    let mut process = Process::start(&module, Limits::default());
    process.says("Big = {} for i = 1, 20000 do Big[i] = {i} end return #Big");
    let image = process.machine.encode().unwrap();
    let root = process.machine.state_root().unwrap();
    let mut restored = Process {
        machine: Machine::restore(&module, Limits::default(), &image).unwrap(),
        env: process.env.clone(),
        slot: process.slot,
    };
    assert_eq!(restored.machine.state_root().unwrap(), root);
    let mut fork = Process {
        machine: process.machine.fork().unwrap(),
        env: process.env.clone(),
        slot: process.slot,
    };
    for n in 0..300 {
        let code = format!(
            "Big[{n}] = tostring({{}}) .. Count; if {n} % 7 == 3 then error('no') end return Big[{n}]"
        );
        assert_eq!(process.eval(&code), restored.eval(&code));
    }
    assert_eq!(
        process.machine.state_root().unwrap(),
        restored.machine.state_root().unwrap()
    );
    assert_eq!(
        fork.machine.state_root().unwrap(),
        root,
        "a fork goes its own way"
    );
    assert_eq!(fork.says("return #Big"), "20000");
    let other = load(&format!("{KERNEL}--")).unwrap();
    assert!(matches!(
        Machine::restore(&other, Limits::default(), &image),
        Err(Error::Image(_))
    ));
}

#[test]
fn limits_end_a_message_and_nothing_else() {
    let module = load(KERNEL).unwrap();
    let limits = Limits {
        memory_bytes_max: 16 << 20,
        gas_max: 500_000_000,
        ..Limits::default()
    };
    let mut process = Process::start(&module, limits);
    process.says("return 1");
    let root = process.machine.state_root().unwrap();
    let message = |code: &str| {
        let text = support::eval(9, code).to_string();
        frame::of_json(text.as_bytes()).unwrap()
    };
    for code in [
        "while true do end",
        "while true do pcall(error) end",
        "local function f() return pcall(f) end while true do f() end",
        "return ('a'):rep(50):find(('a-'):rep(9) .. 'b')",
    ] {
        let verdict = process.machine.call(&message(code), &process.env).unwrap();
        assert_eq!(verdict.unwrap_err(), Fault::OutOfGas, "{code}");
        process.machine.roll_back().unwrap();
        assert_eq!(process.machine.state_root().unwrap(), root);
    }
    let error = process
        .eval("local t = {} while true do t[#t + 1] = ('x'):rep(1 << 20) end")
        .unwrap_err();
    assert_eq!(error, json!("not enough memory"));
    assert!(process.machine.memory_bytes() <= 16 << 20);
    assert_eq!(process.says("return Count"), "2");
}

#[test]
fn counting_gas_changes_nothing_else() {
    let module = load(KERNEL).unwrap();
    let mut plain = Process::start(&module, Limits::default());
    // So little gas that no message runs without counting it.
    let counted = Limits {
        gas_max: 4_000_000_000,
        ..Limits::default()
    };
    let mut counted = Process::start(&module, counted);
    for n in 0..60 {
        let code = format!(
            "local t = {{}} for i = 1, 200 do t[i] = pcall(error, i) end return {n} .. tostring(t) .. Count"
        );
        assert_eq!(plain.eval(&code), counted.eval(&code));
    }
    assert_eq!(
        plain.machine.state_root().unwrap(),
        counted.machine.state_root().unwrap()
    );
}
