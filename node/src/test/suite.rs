//! Runs one spec file in a Lua state of its own. Not here: what its words mean, and other files.
//! The invariant: a file always gives a report; whatever goes wrong is one of its tests.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, HookTriggers, Lua, Table, Value, VmState};

use super::bundle;
use super::coverage::Coverage;
use super::host::{self, Shared, Suite};
use super::modules::Modules;
use super::report::{FileReport, Place, Status, TestReport};
use super::world::World;

/// Lua instructions between two looks at the time.
const LOOK_EVERY: u32 = 1_000_000;

const INSPECT: &str = include_str!("lua/inspect.lua");
const SPY: &str = include_str!("lua/spy.lua");
const ASSERT: &str = include_str!("lua/assert.lua");
const BUSTED: &str = include_str!("lua/busted.lua");
const PROCESS: &str = include_str!("lua/process.lua");

/// What decides a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Part of the names of the tests to run.
    pub filter: Option<String>,
    /// Seed of everything made up.
    pub seed: u64,
    /// Most time of one test.
    pub test_time_max: Duration,
    /// Whether lines are counted.
    pub counts_lines: bool,
}

/// Runs a file.
pub fn run(path: &Path, modules: &Arc<Modules>, options: &Options) -> (FileReport, Option<Coverage>) {
    let started = Instant::now();
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let suite = Rc::new(RefCell::new(Suite {
        world: World::new(modules.clone(), options.seed, options.counts_lines),
        folder,
        tests: Vec::new(),
        started,
        printed: String::new(),
    }));
    let outcome = run_in(path, &suite, options);
    let mut suite = suite.borrow_mut();
    if let Err(problem) = outcome {
        suite.tests.push(broken(path, problem));
    }
    let report = FileReport {
        file: path.to_path_buf(),
        tests: std::mem::take(&mut suite.tests),
        elapsed_us: started.elapsed().as_micros() as u64,
    };
    (report, suite.world.coverage.take())
}

/// The report of a file that could not be run.
fn broken(path: &Path, message: String) -> TestReport {
    let file = path.display().to_string();
    let rest = message
        .strip_prefix(&file)
        .and_then(|rest| rest.strip_prefix(':'));
    let line = rest.and_then(|rest| rest.split(':').next()?.parse().ok());
    TestReport {
        names: vec!["the file itself".into()],
        status: Status::Error,
        at: line.map(|line| Place { file, line }),
        place: None,
        message: Some(message),
        trace: None,
        printed: String::new(),
        elapsed_us: 0,
    }
}

fn run_in(path: &Path, suite: &Shared, options: &Options) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // `#!` at the top is for shells; the line stays, so that the others keep their numbers.
    let text = if text.starts_with('#') {
        format!("--{text}")
    } else {
        text
    };
    let lua = Lua::new();
    let ran = prepare(&lua, path, suite, options).and_then(|run| {
        let chunk = lua.load(text).set_name(bundle::chunk_name(Some(path)));
        run.call::<()>(chunk.set_mode(mlua::chunk::ChunkMode::Text).into_function()?)
    });
    ran.map_err(|error| bundle::plain(&error))
}

/// Loads the runner's own Lua; answers the function that runs a chunk.
fn prepare(lua: &Lua, path: &Path, suite: &Shared, options: &Options) -> mlua::Result<Function> {
    let globals = lua.globals();
    let host = host::table(lua, suite)?;
    let part = |text: &'static str| lua.load(text).set_name("=weft");
    let inspect: Table = part(INSPECT).call(())?;
    let settings = lua.create_table()?;
    settings.set("filter", options.filter.clone())?;
    let busted: Table = part(BUSTED).call((&host, &inspect, settings))?;
    busted.get::<Function>("install")?.call::<()>(&globals)?;
    let spies: Table = part(SPY).call((&inspect, busted.get::<Value>("undo")?))?;
    let (assert, matches): (Table, Table) = part(ASSERT).call((&inspect, &spies, &host))?;
    globals.set("assert", assert)?;
    globals.set("match", matches)?;
    for name in ["spy", "stub", "mock"] {
        globals.set(name, spies.get::<Value>(name)?)?;
    }
    let json = json_table(lua)?;
    part(PROCESS)
        .call::<Function>((&host, &inspect, json))?
        .call::<()>(&globals)?;
    settle(lua, path, &host, options)?;
    watch(lua, suite, options.test_time_max)?;
    busted.get("run")
}

fn json_table(lua: &Lua) -> mlua::Result<Table> {
    let json = lua.create_table()?;
    let encode = |_: &Lua, value: Value| super::value::to_json(&value).map_err(mlua::Error::runtime);
    let decode = |lua: &Lua, text: String| super::value::from_json(lua, &text).map_err(mlua::Error::runtime);
    json.set("encode", lua.create_function(encode)?)?;
    json.set("decode", lua.create_function(decode)?)?;
    Ok(json)
}

/// Printing, randomness and where `require` looks.
fn settle(lua: &Lua, path: &Path, host: &Table, options: &Options) -> mlua::Result<()> {
    let globals = lua.globals();
    let print = "local host = ... return function(...) local t = table.pack(...) for i = 1, t.n do t[i] = tostring(t[i]) end host.print(table.concat(t, '\\t')) end";
    let print: Function = lua.load(print).set_name("=weft").call(host)?;
    globals.set("print", print)?;
    let math: Table = globals.get("math")?;
    math.get::<Function>("randomseed")?
        .call::<()>(options.seed as i64)?;
    let package: Table = globals.get("package")?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| ".".to_owned(), |folder| folder.display().to_string());
    package.set(
        "path",
        format!("{folder}/?.lua;{folder}/?/init.lua;./?.lua;./?/init.lua"),
    )?;
    package.set("cpath", "")
}

/// Ends a test that takes too long, however it catches errors.
fn watch(lua: &Lua, suite: &Shared, most: Duration) -> mlua::Result<()> {
    let suite = suite.clone();
    let triggers = HookTriggers::new().every_nth_instruction(LOOK_EVERY);
    lua.set_global_hook(triggers, move |_, _| {
        // Borrowed: Rust is at work, not Lua.
        let Ok(suite) = suite.try_borrow() else {
            return Ok(VmState::Continue);
        };
        match suite.started.elapsed() > most {
            true => Err(mlua::Error::runtime(format!(
                "the test runs for more than {} s (--timeout)",
                most.as_secs()
            ))),
            false => Ok(VmState::Continue),
        }
    })
}
