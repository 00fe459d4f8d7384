//! Lua on its way in: from the command line, a file or standard input, read before anything is reached.
//!
//! The invariant: whoever asks for a [`Program`] gets one that compiles, or the place where it does not.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use aos_shell::error::Problem;
use aos_shell::load::{Bundle, Loader, SourceMap};
use aos_shell::lua::{self, Chunk, Read};
use spec::ProcessId;

/// Lua that compiles, and where its lines come from.
pub struct Program {
    /// What is evaluated.
    pub chunk: Chunk,
    /// For errors.
    pub map: SourceMap,
}

/// Lua given as text.
pub fn text(source: &str, name: &str) -> Result<Program, Problem> {
    let path = PathBuf::from(name);
    let chunk = match lua::read(source) {
        Read::Complete(chunk) => chunk,
        Read::Broken(error) => return Err(Problem::syntax(&error, Some(&path))),
        Read::Incomplete => {
            let problem = Problem::syntax(&lua::at_end(source), Some(&path));
            return Err(Problem {
                code: "lua-incomplete",
                ..problem
            });
        }
    };
    Ok(Program {
        chunk,
        map: SourceMap::of(&path, source),
    })
}

/// A file with the local modules that it requires.
pub fn file(path: &Path) -> Result<Program, Problem> {
    let Bundle { chunk, map, .. } = Loader::default().bundle(ProcessId([0; 32]), path)?;
    Ok(Program { chunk, map })
}

/// What a command was given: lines of its command line, a file, or standard input.
pub fn read(execute: &[String], file_name: Option<&Path>) -> Result<Program, Problem> {
    match file_name {
        _ if !execute.is_empty() => text(&execute.join("\n"), "-e"),
        Some(path) if path != Path::new("-") => file(path),
        None if std::io::stdin().is_terminal() => Err(Problem::new("no-code", "no Lua was given")),
        _ => stdin().and_then(|source| text(&source, "stdin")),
    }
}

/// Standard input, whole.
pub fn stdin() -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let most = lua::SOURCE_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().take(most).read_to_end(&mut bytes);
    read.map_err(|error| Problem::new("file", format!("cannot read standard input: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Problem::new("file", "standard input is not UTF-8"))
}
