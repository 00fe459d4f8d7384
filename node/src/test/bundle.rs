//! Lua files of a process as one Eval: the file named, and before it the local modules it requires.
//!
//! Each file keeps its own chunk name, so that errors and coverage name file and line. Not here: sending it.
//! The invariant: what does not compile is refused before a process sees it.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use mlua::Lua;

/// Most files of one bundle.
const FILES_MAX: usize = 256;

/// A Lua file of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What `require` calls it; `None` for the file that was asked for.
    pub name: Option<String>,
    /// Where it is, as a person would name it; `None` for text that a spec holds.
    pub path: Option<PathBuf>,
    /// Its text.
    pub text: String,
}

/// Where a file named by a spec is: beside the spec, or in the current folder.
///
/// # Errors
/// If it is in neither.
pub fn place(folder: &Path, file: &Path) -> Result<PathBuf, String> {
    let beside = folder.join(file);
    let found = [&beside, file].into_iter().find(|path| path.is_file());
    let missing = || format!("{} is not there, nor {}", beside.display(), file.display());
    found.map(Path::to_path_buf).ok_or_else(missing)
}

/// Reads files and everything local that they require, what is required first.
///
/// # Errors
/// If a file cannot be read, does not compile, or there are too many.
pub fn read(lua: &Lua, folder: &Path, files: &[String]) -> Result<Vec<Source>, String> {
    let mut reader = Reader {
        lua,
        roots: Vec::new(),
        seen: HashSet::new(),
        sources: Vec::new(),
    };
    for file in files {
        let path = place(folder, Path::new(file))?;
        let own = path.parent().unwrap_or(folder).to_path_buf();
        reader.roots = vec![own, folder.to_path_buf(), PathBuf::new()];
        reader.take(path, None)?;
    }
    Ok(reader.sources)
}

struct Reader<'a> {
    lua: &'a Lua,
    /// Folders where required files are looked for, in order.
    roots: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
    sources: Vec<Source>,
}

impl Reader<'_> {
    fn take(&mut self, path: PathBuf, name: Option<String>) -> Result<(), String> {
        // A module is loaded once; a file that is asked for twice is loaded twice.
        if !self.seen.insert(path.clone()) && name.is_some() {
            return Ok(());
        }
        if self.seen.len() > FILES_MAX {
            return Err(format!("{} needs more than {FILES_MAX} files", path.display()));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        check(self.lua, Some(&path), &text)?;
        for required in required(&text) {
            if let Some(file) = self.roots.iter().find_map(|root| local(root, &required)) {
                self.take(file, Some(required))?;
            }
        }
        let path = Some(path);
        self.sources.push(Source { name, path, text });
        Ok(())
    }
}

/// Compiles a file, natively.
///
/// # Errors
/// Where it breaks, and why.
pub fn check(lua: &Lua, path: Option<&Path>, text: &str) -> Result<(), String> {
    let chunk = lua
        .load(text)
        .set_name(chunk_name(path))
        .set_mode(mlua::chunk::ChunkMode::Text);
    chunk.into_function().map(drop).map_err(|error| plain(&error))
}

/// An error of Lua without the words its carrier puts around it.
pub fn plain(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => message.clone(),
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => plain(cause),
        other => other.to_string(),
    }
}

/// What a chunk is called so that messages begin with `FILE:LINE:`, or with `source:LINE:` where there is no file.
pub fn chunk_name(path: Option<&Path>) -> String {
    path.map_or_else(|| "=source".to_owned(), |path| format!("@{}", path.display()))
}

/// Names in `require "…"` and `require("…")`, in order.
fn required(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("require") {
        let line = text[..at].rsplit('\n').next().unwrap_or("");
        let rest = text[at + "require".len()..].trim_start();
        let rest = rest.strip_prefix('(').unwrap_or(rest).trim_start();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            continue;
        };
        let name = rest[1..].split(quote).next().unwrap_or("");
        if !line.contains("--") && !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The file of a local module. Names that begin with a point are the kernel's own.
fn local(root: &Path, name: &str) -> Option<PathBuf> {
    let is_plain = |part: &str| !part.is_empty() && !part.contains(['/', '\\']);
    if !name.split('.').all(is_plain) {
        return None;
    }
    let stem: PathBuf = name.split('.').collect();
    let candidates = [stem.with_extension("lua"), stem.join("init.lua")];
    candidates
        .into_iter()
        .map(|file| root.join(file))
        .find(|file| file.is_file())
}

/// One Eval for a list of files.
pub fn code(sources: &[Source]) -> String {
    let mut code = String::new();
    for source in sources {
        let name = chunk_name(source.path.as_deref());
        let text = long_text(&source.text);
        let _ = match &source.name {
            Some(module) => writeln!(
                code,
                "do local m = assert(load({text}, {name:?}, \"t\"))({module:?})\npackage.loaded[{module:?}] = m == nil or m end"
            ),
            None => writeln!(code, "assert(load({text}, {name:?}, \"t\"))()"),
        };
    }
    code
}

/// A text as a Lua literal of any length; line ends become `\n`, as Lua reads files.
fn long_text(text: &str) -> String {
    let mut level = 0;
    while text.contains(&format!("]{}]", "=".repeat(level)))
        || text.ends_with(&format!("]{}", "=".repeat(level)))
    {
        level += 1;
    }
    let bar = "=".repeat(level);
    format!("[{bar}[\n{text}]{bar}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn what_is_required_comes_first_and_once() {
        let folder = folder(&[
            (
                "main.lua",
                "local a = require('lib.a')\nlocal b = require \"b\"\n-- require('no')\nreturn a + b + require('json')",
            ),
            ("lib/a.lua", "return require('b') + 1"),
            ("b/init.lua", "count = (count or 0) + 1\nreturn count"),
        ]);
        let lua = Lua::new();
        let sources = read(&lua, folder.path(), &["main.lua".into()]).unwrap();
        let names: Vec<_> = sources.iter().map(|source| source.name.as_deref()).collect();
        assert_eq!(names, [Some("b"), Some("lib.a"), None]);
        lua.load("package.loaded.json = 40").exec().unwrap();
        lua.load(code(&sources)).exec().unwrap();
        assert_eq!(lua.globals().get::<i64>("count").unwrap(), 1);
    }

    #[test]
    fn what_does_not_compile_is_named_by_file_and_line() {
        let folder = folder(&[("bad.lua", "local x = 1\nlocal y = = 2\n")]);
        let error = read(&Lua::new(), folder.path(), &["bad.lua".into()]).unwrap_err();
        assert!(error.contains("bad.lua:2:"), "{error}");
        let error = read(&Lua::new(), folder.path(), &["gone.lua".into()]).unwrap_err();
        assert!(error.contains("gone.lua is not there"), "{error}");
    }

    #[test]
    fn any_text_is_a_literal() {
        let lua = Lua::new();
        for text in ["", "]]", "]=]", "a]", "\n\nx", "]==", "[[a]]"] {
            let back: String = lua.load(format!("return {}", long_text(text))).eval().unwrap();
            assert_eq!(back, text);
        }
    }
}
