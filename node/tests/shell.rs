//! The prompt in a real terminal: what is sent, what is shown, what is kept. `weft dev` is the program.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/pty.rs"]
mod pty;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use aos_shell::lua::{self, Chunk, Read};
use aos_shell::repl::Names;
use aos_shell::{Node, Session, render};
use pty::{CTRL_C, CTRL_D, ENTER, NEW_LINE, Terminal};
use spec::Signer;
use support::weft;

/// A prompt of a temporary node, with its files in a folder.
fn dev(folder: &Path) -> Terminal {
    let mut command = weft();
    command.args(["dev", "fresh", "--listen", "127.0.0.1:0"]);
    command
        .env("XDG_STATE_HOME", folder)
        .env("TMPDIR", folder)
        .env("HOME", folder);
    let mut terminal = Terminal::start(command);
    terminal.shows("fresh@");
    terminal
}

/// How many messages the process has taken, its own item not counted: an error names its slot.
fn messages(terminal: &mut Terminal, mark: &str) -> u64 {
    terminal.line(&format!("error('{mark}')"));
    terminal.until("the slot of an error", |terminal| {
        slot_after(&terminal.text(), mark).is_some()
    });
    slot_after(&terminal.text(), mark).unwrap() - 1
}

fn slot_after(screen: &str, mark: &str) -> Option<u64> {
    let after = &screen[screen.rfind(&format!("error('{mark}')"))?..];
    let slot = after.split("slot ").nth(1)?;
    slot.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Programs whose beginnings are typed.
const CORPUS: [&str; 12] = [
    "Handlers.add('ping', { Action = 'Ping' }, function(msg) msg.reply({ Data = 'pong' }) end)",
    "for name, balance in pairs(Balances or {}) do print(name .. ': ' .. tostring(balance)) end",
    "local function fact(n) if n <= 1 then return 1 else return n * fact(n - 1) end end return fact(5)",
    "Send({ Target = ao.id, Action = 'Transfer', Recipient = [[somebody]], Quantity = '100' })",
    "t = { 1, 2, 3, [\"a b\"] = { nested = { deep = true } }, f = function(...) return select('#', ...) end }",
    "while i < 10 do i = i + 1 if i % 2 == 0 then goto continue end print(i) ::continue:: end",
    "repeat local line = queue[1] table.remove(queue, 1) until line == nil or #queue == 0",
    "x = (1 + 2) * (3 - 4) / 5 // 6 % 7 ^ 8 .. \"text\" --[[ a long comment ]] == 'other'",
    "return string.format('%s %d', 'text', 0x1F) .. [==[ long ]] text ]==]",
    "if type(v) == 'table' and not (v.a or v.b) then v = setmetatable({}, { __index = _G }) elseif v then v = nil end",
    "Members = {}\nfor i = 1, 3 do\n  Members[i] = { id = i, name = 'm' .. i }\nend\nreturn #Members",
    "local ok, err = pcall(function()\n  error({ code = 1 })\nend)\nprint(ok, type(err) == 'table' and err.code)",
];

/// Whether Lua takes a text as a program; asked of Lua directly.
fn is_program(lua: &mlua::Lua, text: &str) -> bool {
    let compiles = |source: &str| lua.load(source).into_function().is_ok();
    compiles(text) || compiles(&format!("return {text}"))
}

/// A small generator with a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn prefixes(count: usize) -> Vec<String> {
    let lua = mlua::Lua::new();
    let mut dice = Dice(7);
    let mut found = Vec::new();
    while found.len() < count {
        let program = CORPUS[dice.below(CORPUS.len())];
        let prefix = &program[..1 + dice.below(program.len() - 1)];
        if !is_program(&lua, prefix) {
            found.push(prefix.to_owned());
        }
    }
    found
}

#[test]
fn no_beginning_of_a_program_is_ever_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    let all = prefixes(1_000);
    assert!(
        all.iter().collect::<BTreeSet<_>>().len() > 300,
        "different beginnings"
    );
    for prefix in &all {
        if terminal.continues(&prefix.replace('\n', NEW_LINE), "...") {
            terminal.keys(CTRL_C);
        }
    }
    terminal.ready();
    assert_eq!(messages(&mut terminal, "count"), 0);
}

#[test]
fn a_paste_of_fifty_lines_is_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    let lines: Vec<String> = (0..50).map(|i| format!("Pasted = (Pasted or 0) + {i}")).collect();
    terminal.paste(&format!("{}\n", lines.join("\n")));
    terminal.keys(ENTER);
    terminal.line("'sum ' .. Pasted");
    terminal.shows("sum 1225");
    assert_eq!(messages(&mut terminal, "count"), 2);
}

#[test]
fn syntax_errors_show_a_caret_and_are_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    terminal.line("local x = = 1");
    terminal.shows("1 | local x = = 1");
    terminal.shows("  |           ^ unexpected symbol near '='");
    terminal.shows("not sent");
    terminal.keys("\x1b[A");
    terminal.until("the line again", |terminal| {
        terminal.text().matches("local x = = 1").count() == 3
    });
    terminal.keys(CTRL_C);
    terminal.ready();
    assert_eq!(messages(&mut terminal, "count"), 0);
}

#[test]
fn blocks_continue_with_indentation() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    terminal.line("function add(a, b)");
    terminal.shows("...   ");
    terminal.type_line("return a + b");
    terminal.type_line("end");
    terminal.line("add(20, 22)");
    terminal.shows("42");
    terminal.shows("...   return a + b");
    terminal.shows("\n... end");
}

#[test]
fn history_is_kept_when_the_shell_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    terminal.line("Kept = 'by the file'");
    terminal.line("Many = {");
    terminal.shows("...   ");
    terminal.type_line("1 }");
    terminal.line("'told ' .. #Many");
    terminal.shows("told 1");
    terminal.kill();
    let history = std::fs::read_to_string(folder.path().join("weft/history/dev-fresh")).unwrap();
    let entries: Vec<String> = history
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        entries,
        ["Kept = 'by the file'", "Many = {\n  1 }", "'told ' .. #Many"]
    );
    let mut terminal = dev(folder.path());
    terminal.keys("\x12");
    terminal.keys("by the");
    terminal.shows("Kept = 'by the file'");
}

#[test]
fn what_a_process_prints_is_shown_once_while_somebody_types() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    terminal.line("Handlers.add('tick', 'Tick', function(m) print('tick ' .. m.Data) end)");
    terminal.line(".id");
    terminal.shows("process  ");
    let (url, process) = (
        word(&terminal.text(), "http://"),
        word_after(&terminal.text(), "process  "),
    );
    let sender = std::thread::spawn(move || send_ticks(&url, &process, 1_000, 200));
    let mut typed = 0_usize;
    while !sender.is_finished() {
        terminal.keys(["x = {", "\t", "'a long text' .. ", ENTER, CTRL_C][typed % 5]);
        typed += 1;
        for _ in 0..20 {
            terminal.read();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    let sent = sender.join();
    assert!(sent.is_ok(), "the node is gone; the screen:\n{}", terminal.text());
    terminal.keys(CTRL_C);
    terminal.shows("tick 1000");
    terminal.ready();
    let ticks: Vec<String> = terminal
        .rows()
        .iter()
        .filter(|row| row.starts_with("tick "))
        .map(|row| row.trim_end().to_owned())
        .collect();
    let expected: Vec<String> = (1..=1_000).map(|tick| format!("tick {tick}")).collect();
    let odd = ticks.iter().zip(&expected).find(|(shown, sent)| shown != sent);
    assert_eq!((ticks.len(), odd), (1_000, None));
}

/// Sends messages to a process at a rate, from another program's point of view.
fn send_ticks(url: &str, process: &str, count: usize, per_second: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let node = Arc::new(Node::connect(url).await.unwrap());
        let session = Session::of(node, Arc::new(signer(9)), process.parse().unwrap(), "");
        let mut clock = tokio::time::interval(std::time::Duration::from_secs(1) / per_second);
        for tick in 1..=count {
            clock.tick().await;
            let tags = vec![spec::Tag::new("Action", "Tick")];
            session
                .send(session.process, tags, tick.to_string().into())
                .await
                .unwrap();
        }
    });
}

fn signer(seed: u8) -> Signer {
    Signer::ed25519(&[seed; 32])
}

fn word(text: &str, start: &str) -> String {
    let at = text.find(start).unwrap();
    text[at..].split_whitespace().next().unwrap().to_owned()
}

fn word_after(text: &str, start: &str) -> String {
    let at = text.rfind(start).unwrap() + start.len();
    text[at..].split_whitespace().next().unwrap().to_owned()
}

#[test]
fn escape_sequences_of_a_process_do_not_reach_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    terminal.line("print('a\\27[2Jb\\27]0;title\\7c') Prompt = function() return '\\27[2Jowned> ' end");
    terminal.shows("a␛[2Jb␛]0;title␇c");
    terminal.line("1 + 1");
    terminal.shows("␛[2Jowned> ");
}

#[test]
fn a_preview_shows_what_would_change_and_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    terminal.line("Count = 1; Old = 'x'");
    terminal.line(".dry Count = Count + 1; Old = nil; Send({ Target = 'T', Action = 'Hi' })");
    terminal.shows("~ Count: 1 -> 2");
    terminal.shows("- Old (was \"x\")");
    terminal.shows("message to T  Action=Hi");
    terminal.line("'count is ' .. Count");
    terminal.shows("count is 1");
    terminal.line(".confirm on");
    terminal.line("Count = 7");
    terminal.shows("~ Count: 1 -> 7");
    terminal.shows("send? y/N");
    terminal.type_line("n");
    terminal.line("Count = 8");
    terminal.until("the second question", |t| {
        t.text().matches("send? y/N").count() == 2
    });
    terminal.type_line("y");
    terminal.line(".confirm off");
    terminal.line("'now ' .. Count");
    terminal.shows("now 8");
}

#[test]
fn a_saved_file_is_sent_again_with_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("src");
    std::fs::create_dir(&source).unwrap();
    let write = |name: &str, text: &str| std::fs::write(source.join(name), text).unwrap();
    write("rate.lua", "return { value = 1 }");
    write(
        "main.lua",
        "local rate = require('rate')\nRate = rate.value\nHandlers.add('rate', 'Rate', function(m) m.reply({ Data = Rate }) end)",
    );
    let mut terminal = dev(folder.path());
    terminal.line(&format!(".load {}", source.join("main.lua").display()));
    terminal.line("'rate ' .. Rate");
    terminal.shows("rate 1");
    terminal.line(&format!(".watch {}", source.display()));
    terminal.shows("watching ");
    write("rate.lua", "return { value = 2 }");
    terminal.shows("reloaded main.lua with rate");
    terminal.line("'rate ' .. Rate");
    terminal.shows("rate 2");
    write("rate.lua", "return { value = = 2 }");
    terminal.shows("unexpected symbol near '='");
    terminal.line(".watch off");
    terminal.shows("stopped watching");
}

#[test]
fn commands_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    for (line, answer) in [
        (".help load", "send a Lua file"),
        (".laod x", "did you mean .load?"),
        ("{ { name = 'a', n = 1 }, { name = 'b', n = 22 } }", "name"),
        (".table", "2  22  b"),
    ] {
        terminal.line(line);
        terminal.shows(answer);
    }
    terminal.line(".json { a = { 1, 2 } }");
    terminal.shows("\"a\": [");
    terminal.line(".load-blueprint nope");
    terminal.shows("there are: arena, chat, chatroom, infer, names, staking, token, voting");
    terminal.line(".ps");
    terminal.shows("fresh");
    terminal.line(".time on");
    terminal.line("'timed'");
    terminal.until("a time", |t| t.text().contains(" ms\n"));
    terminal.line(".editor");
    for (number, line) in ["Edited = 'in lines'", "return Edited", ".done"]
        .iter()
        .enumerate()
    {
        terminal.shows(&format!("\n  {} |", number + 1));
        terminal.type_line(line);
    }
    terminal.shows("\nin lines");
    terminal.keys(CTRL_D);
    terminal.ends();
}

#[test]
fn tab_offers_what_the_process_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = dev(folder.path());
    terminal.line("Peculiar = { inside = function() return 'found inside' end }");
    terminal.ready();
    let shows = |terminal: &mut Terminal, text: &str| {
        terminal.until(text, |terminal| terminal.before_cursor().ends_with(text));
    };
    terminal.keys("Pecu\t");
    shows(&mut terminal, "> Peculiar");
    terminal.keys(".in\t");
    shows(&mut terminal, "> Peculiar.inside");
    terminal.keys("()");
    terminal.keys(ENTER);
    terminal.shows("found inside");
}

/// A path list made another way than the shell makes its own: every key of every table, depth first.
const TRAVERSAL: &str = r#"
local paths, seen = {}, {}
local function walk(t, path, depth)
  if seen[t] or depth > 6 then return end
  seen[t] = true
  for key, value in pairs(t) do
    if type(key) == "string" then
      local is_name = key:match("^[%a_][%w_]*$") and not load("local " .. key) == false
      local step = is_name and "." .. key or "[" .. string.format("%q", key) .. "]"
      local full = path .. step
      paths[#paths + 1] = full
      if type(value) == "table" then walk(value, full, depth + 1) end
    end
  end
end
walk(_G, "_G", 0)
local names = {}
for _, handler in ipairs(Handlers.list) do names[#names + 1] = handler.name end
return table.concat(paths, "\n") .. "\n--\n" .. table.concat(names, "\n")
"#;

fn chunk(source: &str) -> Chunk {
    match lua::read(source) {
        Read::Complete(chunk) => chunk,
        other => panic!("{other:?}"),
    }
}

#[test]
fn completion_offers_the_paths_of_a_live_process() {
    let folder = tempfile::tempdir().unwrap();
    let node = support::Node::start(folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Arc::new(Node::connect(node.text("url")).await.unwrap());
        let kernel = client.facts.kernel.unwrap();
        let data = bytes::Bytes::from_static(b" ");
        let spawned = Session::spawn(client, Arc::new(signer(3)), "full", kernel, Vec::new(), data);
        let session = spawned.await.unwrap();
        let token = include_str!("../../processes/token/token.lua");
        session.eval(&chunk(token)).await.unwrap();
        let listed = session.eval(&chunk(TRAVERSAL)).await.unwrap();
        let text = render::shown(&listed.outcome).text.unwrap();
        let (paths, handlers) = text.split_once("\n--\n").unwrap();
        let names = Names::of(&session).await.unwrap();
        let paths: Vec<&str> = paths.lines().collect();
        let missing: Vec<&&str> = paths.iter().filter(|path| !is_offered(&names, path)).collect();
        println!("{} paths, {} missing: {missing:?}", paths.len(), missing.len());
        assert!(paths.len() > 300, "a process holds more");
        assert!(
            missing.len() * 20 <= paths.len(),
            "more than 5 % are missing: {missing:?}"
        );
        let offered = names.lines("Handlers.remove(\"");
        for handler in handlers.lines() {
            let line = format!("Handlers.remove(\"{handler}\"");
            assert!(offered.contains(&line), "{handler} is not offered");
        }
    });
}

/// Whether a path is among the offers after its own beginning: the last step is left out, and offered.
fn is_offered(names: &Names, path: &str) -> bool {
    let line = match path.strip_suffix(']') {
        Some(open) => format!("{}.", &open[..open.rfind('[').unwrap()]),
        None => path[..=path.rfind('.').unwrap()].to_owned(),
    };
    names.lines(&line).iter().any(|offer| offer == path)
}
