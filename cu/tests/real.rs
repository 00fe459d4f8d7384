//! Published modules, where this machine has them: they boot, answer, go back, and are saved small.
//! Not here: equality with the reference evaluator (`oracle`).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/stream.rs"]
mod stream;
mod support;
use cu::runtime::{Limits, Machine};
use support::*;

/// The modules that a test runs on; a missing one is a loud skip.
const AOS: [&str; 3] = ["aos2_0_1", "aos2_0_4_32", "aos2_0_6"];

#[test]
fn golden_rows() {
    let Some(module) = load("aos2_0_1") else { return };
    let machine = Machine::start(&module, Limits::default()).unwrap();
    let mut p = Process {
        machine,
        env: env("x"),
        slot: 0,
    };
    let boot = p.send(&boot_message("x")).unwrap();
    assert_eq!(boot["Output"]["data"], "");
    let prompt = boot["Output"]["prompt"].as_str().unwrap();
    assert!(
        prompt.starts_with("\u{1b}[32mx\u{1b}[90m@\u{1b}[34maos-2.0.1\u{1b}[90m[Inbox:"),
        "{prompt}"
    );
    assert_eq!(p.says("require('.process')._version"), "2.0.1");
    assert_eq!(p.says("1+1"), "2");
    let table = p.says("print(\"hi\") return {a=1}");
    assert_eq!(table, "hi\n{\n   \u{1b}[31ma\u{1b}[0m = \u{1b}[34m1\u{1b}[0m\n}");
    let error = p.eval("error(\"boom\")").unwrap_err();
    assert!(
        error.as_str().unwrap().contains("[string \"aos\"]:1: boom"),
        "{error}"
    );
    assert_eq!(
        p.eval("x = = 1").unwrap_err(),
        "[string \"aos\"]:1: unexpected symbol near '='"
    );
    let assign = p.eval("Assign{Processes={'A'},Message='M'}").unwrap();
    assert_eq!(
        assign["Assignments"],
        serde_json::json!([{"Message": "M", "Processes": ["A"]}])
    );
    assert_eq!(p.says("return _VERSION"), "Lua 5.3");
    assert_eq!(p.says("return os.date()"), "Thu Jan 01 00:00:10 1970");
}

#[test]
fn item_82_other_published_modules_boot_and_answer() {
    for name in ["aos2_0_3", "aos", "process", "llama"] {
        let Some(module) = load(name) else { return };
        let limits = Limits {
            memory_bytes_max: 2 << 30,
            ..Limits::default()
        };
        let machine = Machine::start(&module, limits).unwrap();
        let mut p = Process {
            machine,
            env: env("x"),
            slot: 0,
        };
        p.send(&boot_message("x")).unwrap();
        let answer = p.eval("return 40 + 2");
        if name != "process" {
            assert!(
                answer.as_ref().unwrap()["Output"].to_string().contains("42"),
                "{name}: {answer:?}"
            );
        }
    }
}

/// A database in memory survives messages, going back, and a checkpoint.
#[test]
fn sqlite_in_memory() {
    let Some(module) = load("sqlite") else { return };
    let mut p = Process::boot(&module, "db");
    let open = "Db = require('lsqlite3').open_memory(); return tostring(Db ~= nil)";
    assert!(p.says(open).contains("true"));
    p.eval("Db:exec[[create table t (id integer primary key, name text, x real)]]")
        .unwrap();
    let fill = "for i = 1, 300 do Db:exec('insert into t (name, x) values (\"n' .. i .. '\", ' .. i * 1.5 .. ')') end";
    p.eval(fill).unwrap();
    p.eval("Db:exec('delete from t'); error('back')").unwrap_err();
    let image = p.machine.encode().unwrap();
    let ask = "local r = {}; for row in Db:nrows('select count(*) as n, sum(x) as s from t') do \
        r[1] = row.n; r[2] = row.s end; return r[1] .. ' ' .. r[2]";
    assert!(p.says(ask).contains("300 67725.0"));
    let sorted = "local r; for row in Db:nrows('select name from t order by name desc limit 1') do r = row.name end; return r";
    assert!(p.says(sorted).contains("n99"));
    let machine = Machine::restore(&module, Limits::default(), &image).unwrap();
    let mut restored = Process {
        machine,
        env: p.env.clone(),
        slot: p.slot,
    };
    assert!(restored.says(ask).contains("300 67725.0"));
}

/// Lua's own limits come before the native stack's: deep recursion of every kind is an ordinary Lua error.
#[test]
fn deep_recursion_is_a_lua_error() {
    let kinds = [
        "local function f() return 1 + f() end return f()",
        "local function f(x) return (x:gsub('.', f)) end return f('a')",
        "local function f() return select(2, pcall(f)) end return tostring(f())",
        "local function f() return coroutine.wrap(f)() end return f()",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) return t[1]",
        "return load('return ' .. string.rep('(', 5000) .. '1' .. string.rep(')', 5000))()",
        "return load('return ' .. string.rep('{', 5000) .. string.rep('}', 5000))()",
        "return load(string.rep('do ', 5000) .. string.rep('end ', 5000))()",
        "return (string.rep('a', 5000)):find(string.rep('(a', 31) .. string.rep(')', 31) .. string.rep('.-', 5000) .. 'b')",
        "local t = {1, 2, 3} table.sort(t, function(a, b) table.sort({3, 2, 1}, f) return f() end)",
        "local s = string.rep('[', 5000) return require('json').decode(s)",
        "local t = {} local u = t for i = 1, 5000 do u[1] = {} u = u[1] end return require('json').encode(t)",
        "local mt = {} mt.__tostring = function(t) return tostring(setmetatable({}, mt)) end return tostring(setmetatable({}, mt))",
        "local mt = {} mt.__concat = function(a, b) return setmetatable({}, mt) .. 'x' end return setmetatable({}, mt) .. 'y'",
        "local function f(e) error(e) end return xpcall(f, function(e) return f(e) end)",
        "return require('.bint')(1024)(3) ^ 2",
    ];
    for name in AOS {
        let Some(module) = load(name) else { return };
        let mut p = Process::boot(&module, "deep");
        for code in kinds {
            // A host error, were the native stack to end first, would be a panic in here.
            let answer = p.eval(code);
            assert!(answer.is_ok() || answer.is_err(), "{name}: {code}");
            assert!(p.says("return 'alive'").ends_with("alive"), "{name}: {code}");
        }
    }
}

/// Memory that the process may not have is an ordinary failure, and gone afterwards.
#[test]
fn memory_limits_hold() {
    let Some(module) = load("aos2_0_1") else { return };
    let limits = Limits {
        memory_bytes_max: 200 << 20,
        ..Limits::default()
    };
    let mut p = Process {
        machine: Machine::start(&module, limits).unwrap(),
        env: env("x"),
        slot: 0,
    };
    p.send(&boot_message("x")).unwrap();
    let (bytes, root) = (p.machine.memory_bytes(), p.machine.state_root().unwrap());
    let answer = p.eval("Big = string.rep('x', 150 * 1024 * 1024) error('after all')");
    assert!(
        answer
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("not enough memory"),
        "{answer:?}"
    );
    assert_eq!(
        (p.machine.memory_bytes(), p.machine.state_root().unwrap()),
        (bytes, root)
    );
    assert_eq!(
        p.says("Big = string.rep('x', 20 * 1024 * 1024) return #Big"),
        "20971520"
    );
}

/// A loop without end ends by gas; the process goes on.
#[test]
fn endless_lua_runs_out_of_gas() {
    let Some(module) = load("aos2_0_1") else { return };
    let limits = Limits {
        gas_max: 5_000_000_000,
        ..Limits::default()
    };
    let mut p = Process {
        machine: Machine::start(&module, limits).unwrap(),
        env: env("x"),
        slot: 0,
    };
    p.send(&boot_message("x")).unwrap();
    let root = p.machine.state_root().unwrap();
    for code in [
        "while true do end",
        "while true do pcall(error) end",
        "return string.rep('a', 40):find(string.rep('a?', 40) .. string.rep('a', 40))",
    ] {
        assert_eq!(p.eval(code).unwrap_err(), "out of gas!", "{code}");
        assert_eq!(p.machine.state_root().unwrap(), root, "{code}");
    }
    // Longer than the watch, less than the limit: the gas build's verdict is an answer, and its state is kept.
    assert_eq!(
        p.says("N = 0 for i = 1, 3000000 do N = N + 1 end return N"),
        "3000000"
    );
    assert_eq!(p.says("return N"), "3000000");
}

/// A freshly booted process adds at most half a MiB to its module's boot image, and wakes within 50 ms.
#[test]
fn images_are_small_and_wake_fast() {
    for name in AOS {
        let Some(module) = load(name) else { return };
        let mut largest = 0;
        for length in [3, 9, 17, 32, 33, 47, 60] {
            let process_name = "n".repeat(length);
            let mut p = Process::boot(&module, &process_name);
            let image = p.machine.encode().unwrap();
            largest = largest.max(image.len());
            let started = std::time::Instant::now();
            let mut woken = Machine::restore(&module, Limits::default(), &image).unwrap();
            println!(
                "{name} {length}: {} bytes, woken in {:?}",
                image.len(),
                started.elapsed()
            );
            assert_eq!(woken.state_root().unwrap(), p.machine.state_root().unwrap());
        }
        assert!(largest <= 512 << 10, "{name}: {largest} bytes");
    }
}

/// The state root is the same live, replayed without interruption, and restored from a checkpoint on the way.
#[test]
fn states_are_equal_however_they_are_reached() {
    for (seed, name) in AOS.into_iter().enumerate() {
        let Some(module) = load(name) else { return };
        let items = stream::stream(40 + seed as u64, "equal", 160);
        let fresh = || Process {
            machine: Machine::start(&module, Limits::default()).unwrap(),
            env: env("equal"),
            slot: 0,
        };
        let (mut live, mut images) = (fresh(), Vec::new());
        for (i, item) in items.iter().enumerate() {
            assert_eq!(live.send(&item.message).is_err(), item.fails, "{name} {i}");
            if i % 80 == 7 {
                images.push((
                    i,
                    live.machine.encode().unwrap(),
                    live.machine.state_root().unwrap(),
                ));
            }
        }
        let root = live.machine.state_root().unwrap();
        let mut replayed = fresh();
        // What failed leaves nothing behind, so a log without it gives the same state.
        for item in items.iter().filter(|i| !i.fails) {
            replayed.send(&item.message).unwrap();
        }
        assert_eq!(replayed.machine.state_root().unwrap(), root, "{name}, replayed");
        for (done, image, then) in images {
            let machine = Machine::restore(&module, Limits::default(), &image).unwrap();
            let mut restored = Process {
                machine,
                env: env("equal"),
                slot: 0,
            };
            assert_eq!(
                restored.machine.state_root().unwrap(),
                then,
                "{name}, as saved after {done}"
            );
            for item in &items[done + 1..] {
                assert_eq!(restored.send(&item.message).is_err(), item.fails);
            }
            assert_eq!(
                restored.machine.state_root().unwrap(),
                root,
                "{name}, restored after {done}"
            );
        }
    }
}
