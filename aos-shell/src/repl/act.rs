//! What the dot-commands do.
//!
//! Not here: their names and words (`commands`), the editors (`write`), reloading (`watch`). The
//! invariant: a command that cannot be understood changes nothing and says what it takes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use spec::ItemId;
use spec::contract::Answer;

use super::commands::{self, Command, TABLE};
use super::feed::Filter;
use super::literal;
use super::shell::{Next, Shell};
use super::show;
use super::watch::Watch;
use super::write;
use crate::error::Problem;
use crate::load::Bundle;
use crate::lua::{self, Chunk, Read};
use crate::render;

/// Runs one command.
///
/// # Errors
/// If the terminal fails.
pub(crate) async fn command(shell: &mut Shell, name: &str, rest: &str) -> io::Result<Next> {
    match name {
        ".exit" => return Ok(Next::Leave),
        ".help" => help(shell, rest),
        ".load" => load(shell, rest).await?,
        ".load-blueprint" => blueprint(shell, rest).await?,
        ".watch" => watch(shell, rest).await,
        ".dry" => dry(shell, rest).await,
        ".json" | ".table" => view(shell, name, rest).await,
        ".last" => last(shell, rest),
        ".trace" => trace(shell, rest).await,
        ".ps" => processes(shell).await,
        ".live" => live(shell, rest),
        ".pause" => pause(shell),
        ".monitor" => monitor(shell, true).await,
        ".unmonitor" => monitor(shell, false).await,
        ".editor" => write::editor(shell).await?,
        ".pad" => write::pad(shell).await?,
        ".done" | ".print" | ".delete" | ".cancel" => shell.say(&format!("{name} works inside .editor")),
        ".dryrun" | ".confirm" | ".time" => switch(shell, name, rest),
        ".new" => shell.say(NEW),
        ".update" => shell.say(UPDATE),
        ".id" => about(shell),
        _ => unknown(shell, name),
    }
    Ok(Next::Line)
}

const NEW: &str = "weft new NAME --template token|chat|blank   makes a folder with source, tests and editor help\n\
                   weft test                                   runs its *_spec.lua files";

const UPDATE: &str = "a process runs the kernel of its module for ever; nothing is sent over it.\n\
                      A new process takes the newest kernel: .exit, then `weft shell NEWNAME`";

fn unknown(shell: &Shell, name: &str) {
    let near = match commands::nearest(name) {
        Some(near) => format!("; did you mean {near}?"),
        None => "; .help lists all".to_owned(),
    };
    shell.say(&shell.red(&format!("there is no command {}{near}", show::one_line(name, 40))));
}

/// What a command takes, for somebody who gave it something else.
fn usage(shell: &Shell, name: &str) {
    if let Some(command) = commands::find(name) {
        shell.say(&shell.red(&format!("usage: {} {}", command.name, command.usage)));
        shell.say(&shell.dim(command.about));
    }
}

fn help(shell: &Shell, rest: &str) {
    let wanted = rest.trim_start_matches('.');
    if !wanted.is_empty() {
        match commands::find(&format!(".{wanted}")) {
            Some(command) => shell.say(&format!("{} {}\n{}", command.name, command.usage, command.about)),
            None => unknown(shell, &format!(".{wanted}")),
        }
        return;
    }
    let head = |command: &Command| format!("{} {}", command.name, command.usage);
    let width = TABLE.iter().map(|command| head(command).len()).max().unwrap_or(0);
    for command in &TABLE {
        let head = head(command);
        let blank = " ".repeat(width - head.len() + 2);
        shell.say(&format!(
            "{}{blank}{}",
            shell.style.paint("36", &head),
            command.about
        ));
    }
    shell.say(&shell.dim("Tab completes · Ctrl-R searches · Alt-Enter: a new line · anything else is Lua"));
}

// ---- Files ----

async fn load(shell: &mut Shell, rest: &str) -> io::Result<()> {
    if rest.is_empty() {
        usage(shell, ".load");
        return Ok(());
    }
    let path = home(rest.trim_matches('"'));
    let bundle = shell
        .loader
        .lock()
        .await
        .bundle(shell.link.process(), Path::new(&path));
    match bundle {
        Ok(bundle) => send_bundle(shell, &bundle).await?,
        Err(error) => {
            shell.fail(&Problem::from(error));
        }
    }
    Ok(())
}

/// A path that begins in the home folder, as shells write it.
pub(crate) fn home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path.to_owned(),
    }
}

async fn send_bundle(shell: &mut Shell, bundle: &Bundle) -> io::Result<()> {
    if !bundle.modules.is_empty() {
        shell.say(&shell.dim(&format!("with {}", bundle.modules.join(", "))));
    }
    if !bundle.unchanged.is_empty() {
        shell.say(&shell.dim(&format!("unchanged, not sent: {}", bundle.unchanged.join(", "))));
    }
    let ending = shell.submit(&bundle.chunk, Some(&bundle.map)).await?;
    if ending == super::shell::Ending::Done && !shell.switches.is_dry {
        shell.loader.lock().await.taken(shell.link.process(), bundle);
    }
    Ok(())
}

async fn blueprint(shell: &mut Shell, name: &str) -> io::Result<()> {
    let found = shell.blueprints.iter().find(|(known, _)| known == name).cloned();
    let Some((name, source)) = found else {
        let names: Vec<&str> = shell.blueprints.iter().map(|(name, _)| name.as_str()).collect();
        usage(shell, ".load-blueprint");
        shell.say(&format!("there are: {}", names.join(", ")));
        return Ok(());
    };
    if let Some(chunk) = shell.checked(&source) {
        shell.say(&shell.dim(&format!("loading {name}")));
        shell.submit(&chunk, None).await?;
    }
    Ok(())
}

async fn watch(shell: &mut Shell, rest: &str) {
    if rest.is_empty() {
        let state = shell.watch.as_ref().map(Watch::about);
        shell.say(&state.unwrap_or_else(|| "nothing is watched; .watch DIR begins".to_owned()));
        return;
    }
    if rest == "off" {
        let was = shell.watch.take();
        shell.say(if was.is_some() {
            "stopped watching"
        } else {
            "nothing was watched"
        });
        return;
    }
    match Watch::start(shell, Path::new(&home(rest))) {
        Ok(watch) => {
            shell.say(&watch.about());
            shell.watch = Some(watch);
        }
        Err(text) => shell.say(&shell.red(&text)),
    }
}

// ---- Dry runs and values ----

async fn dry(shell: &mut Shell, rest: &str) {
    if rest.is_empty() {
        usage(shell, ".dry");
    } else if let Some(chunk) = shell.checked(rest) {
        shell.show_preview(&chunk).await;
    }
}

/// `_`, `_3`, or nothing: which result is meant.
fn result_index(rest: &str) -> Option<usize> {
    match rest.strip_prefix('_')? {
        "" => Some(0),
        number => number.parse::<usize>().ok()?.checked_sub(1),
    }
}

async fn view(shell: &Shell, name: &str, rest: &str) {
    let value = match (rest, result_index(rest)) {
        ("", _) => shell.result(0).map(literal::read),
        (_, Some(index)) => shell.result(index).map(literal::read),
        (code, None) => match value_of(shell, code).await {
            Some(value) => Some(value),
            None => return,
        },
    };
    let Some(value) = value else {
        shell.say(&shell.dim("there is no such result yet"));
        return;
    };
    let text = match name {
        ".table" => {
            show::table(&value).unwrap_or_else(|| "this is no list of records; .json shows it".into())
        }
        _ => serde_json::to_string_pretty(&value).unwrap_or_default(),
    };
    shell.say(&render::safe(&text, shell.style));
}

/// The value of an expression by a dry run: exact by the process's own JSON, else as it is printed.
async fn value_of(shell: &Shell, code: &str) -> Option<Value> {
    let chunk = shell.checked(code)?;
    if chunk.is_expression() {
        let encode = format!("require('json').encode(({code}\n))");
        let exact = dry_text(shell, &encode).await;
        if let Some(Ok(value)) = exact.map(|text| serde_json::from_str(&text)) {
            return Some(value);
        }
    }
    let link = Arc::clone(&shell.link);
    let outcome = shell.ask("running dry", link.dry(&chunk)).await?;
    if let Some(problem) = Problem::of_outcome(&outcome, None) {
        shell.fail(&problem);
        return None;
    }
    Some(literal::read(&show::text(&outcome)))
}

async fn dry_text(shell: &Shell, code: &str) -> Option<String> {
    let Read::Complete(chunk) = lua::read(code) else {
        return None;
    };
    let outcome = dry_quietly(shell, &chunk).await.ok()?;
    (!outcome.is_error()).then(|| show::text(&outcome))
}

async fn dry_quietly(shell: &Shell, chunk: &Chunk) -> Answer<Arc<spec::Outcome>> {
    shell.link.dry(chunk).await
}

fn last(shell: &Shell, rest: &str) {
    let index = if rest.is_empty() {
        Some(0)
    } else {
        result_index(rest)
    };
    let Some(text) = index.and_then(|index| shell.result(index)) else {
        shell.say(&shell.dim("there is no such result; .last, or .last _2 for the one before"));
        return;
    };
    write::page(shell, &render::safe(text, shell.style));
}

// ---- The process and its messages ----

async fn trace(shell: &Shell, rest: &str) {
    let Ok(id) = rest.parse::<ItemId>() else {
        usage(shell, ".trace");
        return;
    };
    let tree = shell.link.trace(id, shell.style);
    if let Some(tree) = shell.ask("following", tree).await {
        shell.say(tree.trim_end());
    }
}

async fn processes(shell: &Shell) {
    let Some(listed) = shell.ask("looking", shell.link.processes()).await else {
        return;
    };
    let head = ["", "name", "id", "module"].map(str::to_owned).to_vec();
    let row = |process: &crate::session::Listed| {
        let here = if process.id == shell.link.process() {
            "*"
        } else {
            ""
        };
        let module = process.module.map(|id| id.to_string()).unwrap_or_default();
        vec![
            here.to_owned(),
            show::one_line(&process.name, 30),
            process.id.to_string(),
            module,
        ]
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(listed.iter().map(row)).collect();
    shell.say(&show::aligned(&rows));
}

fn live(shell: &Shell, rest: &str) {
    let mut words = rest.split_whitespace();
    let mut filters = Vec::new();
    while let Some(word) = words.next() {
        let filter = match word {
            "-f" => words.next().and_then(Filter::parse),
            word => Filter::parse(word),
        };
        match filter {
            Some(filter) => filters.push(filter),
            None => return usage(shell, ".live"),
        }
    }
    let what = if filters.is_empty() {
        "everything"
    } else {
        "what passes the filter"
    };
    shell.watcher.filter(filters);
    shell.watcher.show(true);
    shell.say(&shell.dim(&format!("live: {what} is shown as it happens; .pause stops")));
}

fn pause(shell: &Shell) {
    shell.watcher.show(false);
    shell.say(&shell.dim("paused; .live goes on with what comes then"));
}

async fn monitor(shell: &Shell, is_on: bool) {
    let done = shell.ask("asking", shell.link.monitor(is_on)).await;
    let text = match is_on {
        true => "the node runs the crons of this process from now on",
        false => "the node no longer runs the crons of this process",
    };
    if done.is_some() {
        shell.say(text);
    }
}

fn switch(shell: &mut Shell, name: &str, rest: &str) {
    let switches = &mut shell.switches;
    let (switch, on, off) = match name {
        ".dryrun" => (
            &mut switches.is_dry,
            "dry: nothing is sent; .dryrun ends it",
            "lines are sent again",
        ),
        ".confirm" => (
            &mut switches.confirms,
            "each line is previewed and asked about",
            "lines are sent at once",
        ),
        _ => (
            &mut switches.is_timed,
            "each line is timed",
            "lines are not timed",
        ),
    };
    *switch = match rest {
        "on" => true,
        "off" => false,
        "" => !*switch,
        _ => return usage(shell, name),
    };
    let text = if *switch { on } else { off };
    shell.say(&shell.dim(text));
}

fn about(shell: &Shell) {
    let rows = shell.link.about().into_iter();
    let rows: Vec<Vec<String>> = rows
        .map(|(name, value)| vec![name.to_owned(), show::one_line(&value, 80)])
        .collect();
    shell.say(&show::aligned(&rows));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_from_the_last() {
        assert_eq!(result_index("_"), Some(0));
        assert_eq!(result_index("_3"), Some(2));
        assert_eq!(result_index("_0"), None);
        assert_eq!(result_index("x"), None);
    }
}
