//! A differential oracle: the same plain Lua programs print the same in the engine and in native Lua 5.3.
//!
//! Left out on purpose: what the engine fixes and native Lua leaves open (order of string keys, addresses, the sign
//! of a NaN, random numbers, collection counts) and what it does not have (io, most of os and debug).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/programs.rs"]
mod programs;
mod support;

use cu::runtime::{Limits, Machine, Module, ModuleFormat, frame};
use support::engine;

/// Runs a program, in both: what it prints, what it fails with. Of what has an address only the kind is shown, and
/// bytes outside ASCII as numbers.
const RUN: &str = r#"
local function run(source)
  local out = {}
  local function emit(...)
    for i = 1, select('#', ...) do
      local value = (select(i, ...))
      local plain = type(value) ~= "function" and type(value) ~= "thread"
      out[#out + 1] = plain and tostring(value) or type(value)
    end
    out[#out + 1] = "\n"
  end
  local env = setmetatable({ emit = emit, print = emit }, { __index = _G })
  local program, complaint = load(source, "=program", "t", env)
  if not program then return "does not compile: " .. complaint end
  local ok, complaint = pcall(program)
  if not ok then emit("failed", complaint) end
  return (table.concat(out, " "):gsub("[\128-\255]", function(byte) return "\\" .. byte:byte() end))
end
"#;

fn module() -> Module {
    let source = format!("{RUN}\nfunction handle(msg) return {{ Output = run(msg.Data) }} end");
    engine().load(&source.into(), ModuleFormat::Lua).unwrap()
}

fn in_engine(machine: &mut Machine, env: &[u8], program: &str) -> String {
    let message = support::eval(1, program).to_string();
    let message = frame::of_json(message.as_bytes()).unwrap();
    let verdict = machine.call(&message, env).unwrap();
    let value = support::settle(machine, verdict).unwrap_or_else(|e| panic!("{e}\n{program}"));
    value["Output"].as_str().unwrap().to_owned()
}

fn natively(lua: &mlua::Lua, program: &str) -> String {
    let run: mlua::Function = lua.load(format!("{RUN}\nreturn run")).eval().unwrap();
    let text: mlua::LuaString = run.call(program).unwrap();
    text.to_str().unwrap().to_owned()
}

/// Native Lua prints the sign that its processor gives a NaN.
fn without_signs_of_nan(text: &str) -> String {
    text.replace("-nan", "nan")
}

fn compare(programs: impl Iterator<Item = String>) {
    let module = module();
    let env = frame::of_json(support::env("oracle").as_bytes()).unwrap();
    let mut machine = Machine::start(&module, Limits::default()).unwrap();
    let lua = mlua::Lua::new();
    for program in programs {
        let ours = without_signs_of_nan(&in_engine(&mut machine, &env, &program));
        let theirs = without_signs_of_nan(&natively(&lua, &program));
        assert_eq!(ours, theirs, "\n{program}");
    }
}

#[test]
fn the_corpus_prints_as_in_native_lua() {
    compare(programs::CORPUS.iter().map(|text| text.to_string()));
}

#[test]
fn random_programs_print_as_in_native_lua() {
    compare((0..400).map(programs::random));
}

#[test]
#[ignore = "minutes; run with --run-ignored only"]
fn many_random_programs_print_as_in_native_lua() {
    compare((1_000..30_000).map(programs::random));
}
