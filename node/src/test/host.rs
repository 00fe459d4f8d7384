//! What the runner's Lua can ask of Rust: the world, places in code, results.
//! Not here: what the words of a spec mean (`lua/*.lua`). A refusal goes back as nil and its text, never as an error
//! of the host's own, so that it is raised where the spec asked.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};

use super::birth::Birth;
use super::bundle::{self, Source};
use super::delivery::{Draft, Pumped};
use super::message::TagText;
use super::report::{Place, Status, TestReport};
use super::value;
use super::world::{World, wallet};

/// What one spec file holds while it runs.
pub struct Suite {
    /// Its processes.
    pub world: World,
    /// Its folder.
    pub folder: PathBuf,
    /// Tests that ended.
    pub tests: Vec<TestReport>,
    /// When the test under way began.
    pub started: Instant,
    /// What it printed.
    pub printed: String,
}

/// A suite as Lua's functions share it. Borrowed only while no Lua runs.
pub type Shared = Rc<RefCell<Suite>>;

/// Longest text kept of what a test prints.
const PRINTED_BYTES_MAX: usize = 1 << 20;

fn answer(lua: &Lua, result: Result<impl IntoLuaMulti, String>) -> mlua::Result<MultiValue> {
    match result {
        Ok(value) => value.into_lua_multi(lua),
        Err(text) => (Value::Nil, text).into_lua_multi(lua),
    }
}

/// The table of functions.
pub fn table(lua: &Lua, suite: &Shared) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    marks(lua, &host, suite)?;
    processes(lua, &host, suite)?;
    time(lua, &host, suite)?;
    results(lua, &host, suite)?;
    host.set(
        "where",
        lua.create_function(|lua, ()| Ok(where_now(lua).unzip()))?,
    )?;
    host.set("traceback", lua.create_function(|lua, ()| traceback(lua))?)?;
    host.set(
        "wallet",
        lua.create_function(|_, name: String| Ok(wallet(&name)))?,
    )?;
    host.set("compile", lua.create_function(compile)?)?;
    Ok(host)
}

fn marks(lua: &Lua, host: &Table, suite: &Shared) -> mlua::Result<()> {
    let it = suite.clone();
    host.set(
        "mark",
        lua.create_function(move |_, ()| Ok(it.borrow_mut().world.mark()))?,
    )?;
    let it = suite.clone();
    let restore = move |lua: &Lua, mark: usize| {
        let done = it.borrow_mut().world.restore(mark);
        // Without this the run would go on in a world that is not what it was.
        done.map_err(mlua::Error::runtime)
            .and_then(|()| ().into_lua_multi(lua))
    };
    host.set("restore", lua.create_function(restore)?)
}

fn processes(lua: &Lua, host: &Table, suite: &Shared) -> mlua::Result<()> {
    let it = suite.clone();
    let spawn = move |lua: &Lua, order: Table| answer(lua, spawn(lua, &it, &order));
    host.set("spawn", lua.create_function(spawn)?)?;
    let it = suite.clone();
    let send = move |lua: &Lua, (serial, message): (u64, Table)| {
        let draft = draft(&message)?;
        let outcome = it.borrow_mut().world.send(serial, draft);
        answer(lua, outcome.and_then(|outcome| lua_of(lua, &outcome)))
    };
    host.set("send", lua.create_function(send)?)?;
    let it = suite.clone();
    let eval = move |lua: &Lua, (serial, code): (u64, LuaString)| {
        let outcome = it.borrow_mut().world.eval(serial, &code.to_string_lossy());
        answer(lua, outcome.and_then(|outcome| lua_of(lua, &outcome)))
    };
    host.set("eval", lua.create_function(eval)?)?;
    let it = suite.clone();
    let read = move |lua: &Lua, (serial, code): (u64, LuaString)| {
        let text = it.borrow_mut().world.read(serial, &code.to_string_lossy());
        answer(lua, text.and_then(|text| value::from_json(lua, &text)))
    };
    host.set("read", lua.create_function(read)?)?;
    let it = suite.clone();
    let pump = move |lua: &Lua, bound: usize| {
        let pumped = it.borrow_mut().world.pump(bound);
        answer(lua, pumped.and_then(|pumped| pumped_table(lua, &it, &pumped)))
    };
    host.set("pump", lua.create_function(pump)?)
}

/// Whether a text is a Lua expression; if not, why not.
fn compile(lua: &Lua, code: LuaString) -> mlua::Result<MultiValue> {
    let text = format!("return {}", code.to_string_lossy());
    let chunk = lua.load(text).set_name("=expression").into_function();
    answer(lua, chunk.map(|_| true).map_err(|error| bundle::plain(&error)))
}

fn lua_of(lua: &Lua, what: &impl serde::Serialize) -> Result<Value, String> {
    let json = serde_json::to_string(what).map_err(|error| error.to_string())?;
    value::from_json(lua, &json)
}

/// Serial, id, owner and name of a process: what specs know of it.
fn known(suite: &Shared, serial: u64) -> Result<(u64, String, String, String), String> {
    let suite = suite.borrow();
    let process = &suite.world.processes[suite.world.at(serial)?];
    Ok((
        serial,
        process.id.clone(),
        process.owner.clone(),
        process.name.clone(),
    ))
}

fn spawn(lua: &Lua, suite: &Shared, order: &Table) -> Result<(u64, String, String, String), String> {
    let wrong = |error: mlua::Error| format!("spawn: {error}");
    let text = |key: &str| {
        order
            .get::<Option<LuaString>>(key)
            .map(|text| text.map(|text| text.to_string_lossy()))
    };
    let birth = Birth {
        name: text("name").map_err(wrong)?,
        owner: text("owner").map_err(wrong)?,
        data: text("data").map_err(wrong)?,
        tags: tags(&order.get("tags").map_err(wrong)?).map_err(wrong)?,
        parent: None,
    };
    let folder = suite.borrow().folder.clone();
    let files: Vec<String> = order.get("load").map_err(wrong)?;
    let mut sources = bundle::read(lua, &folder, &files)?;
    if let Some(text) = text("source").map_err(wrong)? {
        bundle::check(lua, None, &text)?;
        sources.push(Source {
            name: None,
            path: None,
            text,
        });
    }
    let module = text("module").map_err(wrong)?;
    let module = module
        .map(|file| bundle::place(&folder, Path::new(&file)))
        .transpose()?;
    let serial = suite
        .borrow_mut()
        .world
        .spawn(&birth, module.as_deref(), &sources)?;
    known(suite, serial)
}

fn tags(list: &Table) -> mlua::Result<Vec<TagText>> {
    let tag = |tag: mlua::Result<Table>| {
        let tag = tag?;
        let text = |key| tag.get::<LuaString>(key).map(|text| text.to_string_lossy());
        Ok(TagText::new(text("name")?, text("value")?))
    };
    list.sequence_values::<Table>().map(tag).collect()
}

fn draft(message: &Table) -> mlua::Result<Draft> {
    let text = |key: &str| {
        let text = message.get::<Option<LuaString>>(key)?;
        Ok::<_, mlua::Error>(text.map(|text| text.to_string_lossy()))
    };
    Ok(Draft {
        from: text("From")?,
        owner: text("Owner")?,
        target: text("Target")?,
        data: text("Data")?,
        id: text("Id")?,
        anchor: text("Anchor")?,
        timestamp_ms: message.get("Timestamp")?,
        height: message.get("Height")?,
        is_cron: message.get::<Option<bool>>("Cron")?.unwrap_or(false),
        is_dry: message.get::<Option<bool>>("is_dry")?.unwrap_or(false),
        tags: tags(&message.get("Tags")?)?,
    })
}

fn pumped_table(lua: &Lua, suite: &Shared, pumped: &Pumped) -> Result<Table, String> {
    let build = || -> mlua::Result<Table> {
        let (messages, outcomes) = (lua.create_table()?, lua.create_table()?);
        let wrong = mlua::Error::runtime;
        for (message, outcome) in &pumped.delivered {
            messages.push(lua_of(lua, message).map_err(wrong)?)?;
            outcomes.push(lua_of(lua, outcome).map_err(wrong)?)?;
        }
        let unknown = lua.create_table()?;
        for message in &pumped.unknown {
            unknown.push(lua_of(lua, message).map_err(wrong)?)?;
        }
        let spawned = lua.create_table()?;
        for serial in &pumped.spawned {
            let (serial, id, owner, name) = known(suite, *serial).map_err(wrong)?;
            let entry = lua.create_table_from([("id", id), ("owner", owner), ("name", name)])?;
            entry.set("serial", serial)?;
            spawned.push(entry)?;
        }
        let table = lua.create_table()?;
        table.set("delivered", messages)?;
        table.set("outcomes", outcomes)?;
        table.set("unknown", unknown)?;
        table.set("spawned", spawned)?;
        table.set("dropped", pumped.dropped.clone())?;
        Ok(table)
    };
    build().map_err(|error| bundle::plain(&error))
}

fn time(lua: &Lua, host: &Table, suite: &Shared) -> mlua::Result<()> {
    let it = suite.clone();
    let clock = move |lua: &Lua, ms: Option<u64>| {
        let world = &mut it.borrow_mut().world;
        let set = ms.map_or(Ok(()), |ms| world.set_clock(ms));
        answer(lua, set.map(|()| world.clock_ms()))
    };
    host.set("clock", lua.create_function(clock)?)?;
    let it = suite.clone();
    let height = move |lua: &Lua, height: Option<u64>| {
        let world = &mut it.borrow_mut().world;
        let set = height.map_or(Ok(()), |height| world.set_height(height));
        answer(lua, set.map(|()| world.height()))
    };
    host.set("height", lua.create_function(height)?)
}

fn results(lua: &Lua, host: &Table, suite: &Shared) -> mlua::Result<()> {
    let it = suite.clone();
    let begin = move |_: &Lua, ()| {
        let mut suite = it.borrow_mut();
        suite.started = Instant::now();
        Ok(())
    };
    host.set("begin", lua.create_function(begin)?)?;
    let it = suite.clone();
    let record = move |_: &Lua, result: Table| {
        let mut suite = it.borrow_mut();
        let printed = std::mem::take(&mut suite.printed);
        let elapsed_us = suite.started.elapsed().as_micros() as u64;
        suite.tests.push(test_report(&result, printed, elapsed_us)?);
        Ok(())
    };
    host.set("record", lua.create_function(record)?)?;
    let it = suite.clone();
    let print = move |_: &Lua, text: LuaString| {
        let mut suite = it.borrow_mut();
        if suite.printed.len() < PRINTED_BYTES_MAX {
            suite.printed.push_str(&text.to_string_lossy());
            suite.printed.push('\n');
        }
        Ok(())
    };
    host.set("print", lua.create_function(print)?)
}

fn test_report(result: &Table, printed: String, elapsed_us: u64) -> mlua::Result<TestReport> {
    let text = |key: &str| {
        let text = result.get::<Option<LuaString>>(key)?;
        Ok::<_, mlua::Error>(text.map(|text| text.to_string_lossy()))
    };
    let place = |file: &str, line: &str| {
        let line = result.get::<Option<usize>>(line)?;
        let file = text(file)?;
        Ok::<_, mlua::Error>(file.zip(line).map(|(file, line)| Place { file, line }))
    };
    Ok(TestReport {
        names: result.get("names")?,
        status: Status::from_word(&text("status")?.unwrap_or_default()),
        place: place("file", "line")?,
        message: text("message")?.filter(|message| !message.is_empty()),
        at: place("at_file", "at_line")?,
        trace: text("trace")?.filter(|trace| !trace.is_empty()),
        printed,
        elapsed_us,
    })
}

/// The innermost place in a file of the user's.
fn where_now(lua: &Lua) -> Option<(String, usize)> {
    (0..200).find_map(|level| {
        let place = lua.inspect_stack(level, |debug| {
            let source = debug.source().source.map(|source| source.into_owned());
            source.zip(debug.current_line())
        });
        // Past the end of the stack nothing more can be found.
        let (source, line) = place.flatten()?;
        source.strip_prefix('@').map(|file| (file.to_owned(), line))
    })
}

/// The stack without the runner's own frames.
fn traceback(lua: &Lua) -> mlua::Result<String> {
    let trace = lua.traceback(None, 1)?.to_string_lossy();
    let skipped = ["\tweft:", "\t[C]", "\t(...", "\t...", "\tmlua", "stack"];
    let is_users =
        |line: &&str| line.starts_with('\t') && !skipped.iter().any(|start| line.starts_with(start));
    // The runner calls a test's function `body`.
    let shown = |line: &str| line.trim_start().replace("in field 'body'", "in the test");
    let lines: Vec<_> = trace.lines().filter(is_users).map(shown).collect();
    // One frame says no more than the place that is shown anyway.
    Ok(if lines.len() > 1 {
        lines.join("\n")
    } else {
        String::new()
    })
}
