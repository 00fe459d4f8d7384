//! Longer texts: `.editor` line by line, `.pad` in an editor, the pager for long results.
//!
//! The invariant: a text that is no Lua is not lost; it can be mended.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::desk::Mode;
use super::line::Typed;
use super::shell::Shell;
use crate::lua::Chunk;

/// Reads lines until `.done` or `.cancel`.
///
/// # Errors
/// If the terminal fails.
pub(crate) async fn editor(shell: &mut Shell) -> io::Result<()> {
    shell.say(&shell.dim(".done sends · .cancel drops · .print shows · .delete drops the last line"));
    let mut lines: Vec<String> = Vec::new();
    loop {
        let prompt = format!("{:>3} | ", lines.len() + 1);
        let Typed::Line(line) = shell.line.read(Mode::Text, Some(&prompt)).await? else {
            shell.say(&shell.dim("dropped"));
            return Ok(());
        };
        match line.trim() {
            ".cancel" => {
                shell.say(&shell.dim("dropped"));
                return Ok(());
            }
            ".done" => match shell.checked(&lines.join("\n")) {
                Some(chunk) => return send(shell, &chunk).await,
                None => shell.say(&shell.dim("still in the editor; .delete drops the last line")),
            },
            ".print" => print(shell, &lines),
            ".delete" => drop(lines.pop()),
            _ => lines.extend(line.lines().map(str::to_owned)),
        }
    }
}

fn print(shell: &Shell, lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        shell.say(&format!("{:>3} | {line}", at + 1));
    }
}

async fn send(shell: &mut Shell, chunk: &Chunk) -> io::Result<()> {
    shell.line.remember(chunk.source());
    shell.submit(chunk, None).await?;
    Ok(())
}

/// Opens an editor on a file of this process and sends what was saved.
///
/// # Errors
/// If the terminal fails.
pub(crate) async fn pad(shell: &mut Shell) -> io::Result<()> {
    let path = pad_path(shell);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    loop {
        let opened = path.clone();
        let edited = tokio::task::spawn_blocking(move || edit(&opened)).await;
        if let Err(text) = edited.map_err(io::Error::other)? {
            shell.say(&shell.red(&text));
            return Ok(());
        }
        let source = std::fs::read_to_string(&path).unwrap_or_default();
        if source == before || source.trim().is_empty() {
            shell.say(&shell.dim("nothing was changed, nothing is sent"));
            return Ok(());
        }
        if let Some(chunk) = shell.checked(&source) {
            return send(shell, &chunk).await;
        }
        if !shell.asks("open it again? y/N ").await? {
            return Ok(());
        }
    }
}

fn pad_path(shell: &Shell) -> PathBuf {
    let folder = shell.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = folder.join("pad");
    // A folder that cannot be made is met when the editor cannot save.
    let _ = std::fs::create_dir_all(&folder);
    folder.join(format!("{}.lua", shell.link.process()))
}

/// Runs the person's editor on a file, with its own arguments if it has any.
fn edit(path: &std::path::Path) -> Result<(), String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL")
        .or_else(|| set("EDITOR"))
        .unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "the editor `{editor}` ended with {status}; nothing is sent"
        )),
        Err(error) => Err(format!(
            "the editor `{editor}` cannot be started: {error}; set EDITOR"
        )),
    }
}

/// Shows a text whole: by the pager if it is longer than the screen.
pub(crate) fn page(shell: &Shell, text: &str) {
    let rows = crossterm::terminal::size().map_or(24, |(_, rows)| usize::from(rows));
    let fits = text.lines().count() < rows;
    if fits || !io::stdout().is_terminal() || !through_pager(text) {
        shell.say(text);
    }
}

/// Whether a pager took the text.
fn through_pager(text: &str) -> bool {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| "less -R".to_owned());
    let mut words = pager.split_whitespace();
    let Some(program) = words.next() else {
        return false;
    };
    let started = Command::new(program).args(words).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        return false;
    };
    if let Some(mut input) = child.stdin.take() {
        // A pager that is left early closes its end.
        let _ = input.write_all(text.as_bytes());
    }
    child.wait().is_ok()
}
