//! `.load FILE`: a Lua file and the local modules that it requires, as one evaluation.
//!
//! Modules go depth first, each once, as `package.loaded` entries, and only those that changed since the
//! process last took them. The invariant: every line of the bundle maps back to the line it came from.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spec::ProcessId;

use crate::lua::{Chunk, LuaError, Read, read};
use crate::token::{Kind, tokens};

/// Most modules of one bundle.
pub const MODULES_MAX: usize = 1_000;

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no Lua.
    #[error("{}:{error}", path.display())]
    Lua {
        /// Which.
        path: PathBuf,
        /// Where and why.
        error: LuaError,
    },
    /// Modules require each other in a circle.
    #[error("modules require each other in a circle: {}", chain.join(" -> "))]
    Cycle {
        /// The names, the first again at the end.
        chain: Vec<String>,
    },
    /// More modules than one message may carry.
    #[error("more than {MODULES_MAX} modules are required")]
    TooMany,
    /// All together it is more than a message may carry.
    #[error("the bundle is too large: {0}")]
    TooLarge(LuaError),
}

/// A part of a file's text in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    /// Line of the bundle that is the file's first.
    first: usize,
    lines: usize,
    path: PathBuf,
    source: Arc<str>,
}

/// Where the lines of a bundle come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceMap {
    segments: Vec<Segment>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

impl SourceMap {
    /// The map of a text that stands for itself.
    pub fn of(path: &Path, source: &str) -> SourceMap {
        let segment = Segment {
            first: 1,
            lines: source.lines().count(),
            path: path.to_path_buf(),
            source: source.into(),
        };
        SourceMap {
            segments: vec![segment],
        }
    }

    /// Where a line of the bundle comes from.
    pub fn place(&self, line: usize) -> Option<Place> {
        let segment = self
            .segments
            .iter()
            .find(|segment| (segment.first..segment.first + segment.lines).contains(&line))?;
        let own = line - segment.first;
        Some(Place {
            path: segment.path.clone(),
            line: own + 1,
            text: segment.source.lines().nth(own)?.to_owned(),
        })
    }

    /// A process's error text with its places given as `file:line`.
    pub fn translate(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, end, line)) = crate::error::chunk_place(rest) {
            out.push_str(&rest[..at]);
            match self.place(line) {
                Some(place) => out.push_str(&format!("{}:{}", place.path.display(), place.line)),
                None => out.push_str(&rest[at..end]),
            }
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }
}

/// A file and what it needs, ready to be evaluated.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The evaluation.
    pub chunk: Chunk,
    /// Where its lines come from.
    pub map: SourceMap,
    /// Names of the modules that it carries, in the order in which they run.
    pub modules: Vec<String>,
    /// Names of the modules that the process has already.
    pub unchanged: Vec<String>,
    /// Every file read, the main file last: what a watcher watches.
    pub files: Vec<PathBuf>,
    sources: Vec<(String, Arc<str>)>,
}

/// Bundles files, and remembers what each process has taken.
#[derive(Debug, Default)]
pub struct Loader {
    taken: HashMap<ProcessId, HashMap<String, Arc<str>>>,
}

/// One module on its way into a bundle.
struct Module {
    name: String,
    path: PathBuf,
    source: Arc<str>,
    requires: Vec<String>,
}

impl Loader {
    /// The bundle of a file for a process.
    ///
    /// # Errors
    /// Names the file, and the line where it is no Lua.
    pub fn bundle(&self, process: ProcessId, main: &Path) -> Result<Bundle, LoadError> {
        let mut walk = Walk::new(main);
        let source = source_of(main)?;
        for name in walk.local_requires(&source) {
            walk.visit(&name)?;
        }
        let none = HashMap::new();
        let taken = self.taken.get(&process).unwrap_or(&none);
        let mut stale: BTreeSet<&str> = BTreeSet::new();
        for module in &walk.done {
            let is_same = taken.get(&module.name).is_some_and(|old| *old == module.source);
            // Who holds on to an old version of a changed module must run again too.
            let holds_old = module.requires.iter().any(|name| stale.contains(name.as_str()));
            if !is_same || holds_old {
                stale.insert(&module.name);
            }
        }
        let is_stale = |module: &&Module| stale.contains(module.name.as_str());
        let carried: Vec<&Module> = walk.done.iter().filter(is_stale).collect();
        let (text, map) = write(&carried, main, &source);
        let names = |modules: Vec<&Module>| modules.iter().map(|module| module.name.clone()).collect();
        Ok(Bundle {
            chunk: compiled(text)?,
            map,
            modules: names(carried),
            unchanged: names(walk.done.iter().filter(|module| !is_stale(module)).collect()),
            files: walk
                .done
                .iter()
                .map(|module| module.path.clone())
                .chain([main.to_path_buf()])
                .collect(),
            sources: walk
                .done
                .iter()
                .map(|module| (module.name.clone(), module.source.clone()))
                .collect(),
        })
    }

    /// Remembers that a process has evaluated a bundle without error.
    pub fn taken(&mut self, process: ProcessId, bundle: &Bundle) {
        let modules = self.taken.entry(process).or_default();
        modules.extend(bundle.sources.iter().cloned());
    }
}

fn compiled(text: String) -> Result<Chunk, LoadError> {
    match read(&text) {
        Read::Complete(chunk) => Ok(chunk),
        Read::Broken(error) => Err(LoadError::TooLarge(error)),
        Read::Incomplete => unreachable!("the parts of a bundle compile, and are closed by us"),
    }
}

/// The way through what a file requires.
struct Walk {
    root: PathBuf,
    /// Names being visited, outermost first.
    path: Vec<String>,
    done: Vec<Module>,
}

impl Walk {
    fn new(main: &Path) -> Walk {
        Walk {
            root: main.parent().unwrap_or(Path::new("")).to_path_buf(),
            path: Vec::new(),
            done: Vec::new(),
        }
    }

    fn visit(&mut self, name: &str) -> Result<(), LoadError> {
        if let Some(at) = self.path.iter().position(|visited| visited == name) {
            let mut chain = self.path[at..].to_vec();
            chain.push(name.to_owned());
            return Err(LoadError::Cycle { chain });
        }
        if self.done.iter().any(|module| module.name == name) {
            return Ok(());
        }
        if self.done.len() + self.path.len() >= MODULES_MAX {
            return Err(LoadError::TooMany);
        }
        let Some(path) = self.find(name) else {
            return Ok(());
        };
        let source = source_of(&path)?;
        let requires = self.local_requires(&source);
        self.path.push(name.to_owned());
        for required in &requires {
            self.visit(required)?;
        }
        self.path.pop();
        self.done.push(Module {
            name: name.to_owned(),
            path,
            source,
            requires,
        });
        Ok(())
    }

    /// The file of a module, if it is a local one; others are the process's own.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let is_plain = |part: &str| {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            !part.is_empty() && part.chars().all(is_word)
        };
        if !name.split('.').all(is_plain) {
            return None;
        }
        let base: PathBuf = self.root.join(name.split('.').collect::<PathBuf>());
        let candidates = [base.with_extension("lua"), base.join("init.lua")];
        candidates.into_iter().find(|path| path.is_file())
    }

    /// The names in `require "name"` and `require("name")` that stand for files here.
    fn local_requires(&self, source: &str) -> Vec<String> {
        let words: Vec<_> = tokens(source)
            .into_iter()
            .filter(|token| token.kind != Kind::Comment)
            .map(|token| (token.kind, &source[token.start..token.end]))
            .collect();
        let mut names: Vec<String> = Vec::new();
        for (at, (_, word)) in words.iter().enumerate() {
            let is_field = at > 0 && matches!(words[at - 1].1, "." | ":");
            if *word != "require" || is_field {
                continue;
            }
            let skip = usize::from(words.get(at + 1).is_some_and(|(_, word)| *word == "("));
            let Some((Kind::Text, text)) = words.get(at + 1 + skip) else {
                continue;
            };
            let name = text.trim_matches(['"', '\'', '[', ']']);
            if !names.iter().any(|known| known == name) && self.find(name).is_some() {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// A file's text, once it compiles. A first line for the system's loader becomes a comment.
fn source_of(path: &Path) -> Result<Arc<str>, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::File {
        path: path.to_path_buf(),
        source,
    })?;
    let text = match text.strip_prefix('#') {
        Some(rest) => format!("--{rest}"),
        None => text,
    };
    let error = match read(&text) {
        Read::Complete(_) => return Ok(text.into()),
        Read::Broken(error) => error,
        Read::Incomplete => crate::lua::at_end(&text),
    };
    Err(LoadError::Lua {
        path: path.to_path_buf(),
        error,
    })
}

/// Modules first, each a function that is called once; then the main file as it is.
fn write(modules: &[&Module], main: &Path, source: &Arc<str>) -> (String, SourceMap) {
    let mut text = String::new();
    let mut map = SourceMap::default();
    let mut append = |text: &mut String, path: &Path, source: &Arc<str>| {
        map.segments.push(Segment {
            first: text.matches('\n').count() + 1,
            lines: source.lines().count(),
            path: path.to_path_buf(),
            source: source.clone(),
        });
        text.push_str(source);
    };
    for module in modules {
        text.push_str(
            ";(function(name, load) local value = load(name) if value == nil then value = true end ",
        );
        text.push_str(&format!(
            "package.loaded[name] = value end)({:?}, function(...)\n",
            module.name
        ));
        append(&mut text, &module.path, &module.source);
        text.push_str("\nend);\n");
    }
    append(&mut text, main, source);
    (text, map)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProcessId = ProcessId([1; 32]);

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn run(bundle: &Bundle) -> mlua::Result<String> {
        let lua = mlua::Lua::new();
        lua.load(bundle.chunk.source()).set_name("aos").eval()
    }

    #[test]
    fn modules_run_once_depth_first_and_the_main_file_last() {
        let folder = folder(&[
            (
                "main.lua",
                "#!/usr/bin/env lua\nlocal a, b = require('lib.a'), require \"b\"\nreturn order .. a .. b -- end",
            ),
            (
                "lib/a.lua",
                "order = (order or '') .. 'a'\nreturn require [[b]] .. 'A' -- x",
            ),
            (
                "b/init.lua",
                "order = (order or '') .. 'b'\nlocal json = require('json_of_the_process')\nreturn 'B'",
            ),
        ]);
        let bundle = Loader::default()
            .bundle(P, &folder.path().join("main.lua"))
            .unwrap();
        assert_eq!(bundle.modules, ["b", "lib.a"]);
        let text = bundle
            .chunk
            .source()
            .replace("require('json_of_the_process')", "1");
        let lua = mlua::Lua::new();
        assert_eq!(lua.load(text).eval::<String>().unwrap(), "baBAB");
    }

    #[test]
    fn errors_point_into_the_files() {
        let folder = folder(&[
            ("main.lua", "local a = require('a')\n\nlocal x = a.go()\nreturn x"),
            (
                "a.lua",
                "return { go = function()\n  return nothing.at.all\nend }",
            ),
        ]);
        let main = folder.path().join("main.lua");
        let bundle = Loader::default().bundle(P, &main).unwrap();
        let text = run(&bundle).unwrap_err().to_string();
        let translated = bundle.map.translate(&text);
        assert!(
            translated.contains("a.lua:2: attempt to index a nil value"),
            "{translated}"
        );
        assert!(translated.contains("main.lua:3: in main chunk"), "{translated}");
        std::fs::write(folder.path().join("a.lua"), "return {\n  b = = 1 }").unwrap();
        let error = Loader::default().bundle(P, &main).unwrap_err().to_string();
        assert!(error.contains("a.lua:line 2, column 7"), "{error}");
    }

    #[test]
    fn only_what_changed_is_sent_again_with_what_holds_it() {
        let folder = folder(&[
            ("main.lua", "require('a') require('c')"),
            ("a.lua", "return require('b')"),
            ("b.lua", "return 1"),
            ("c.lua", "return 2"),
        ]);
        let main = folder.path().join("main.lua");
        let mut loader = Loader::default();
        let first = loader.bundle(P, &main).unwrap();
        assert_eq!(first.modules, ["b", "a", "c"]);
        loader.taken(P, &first);
        let again = loader.bundle(P, &main).unwrap();
        assert!(again.modules.is_empty() && again.unchanged.len() == 3);
        std::fs::write(folder.path().join("b.lua"), "return 3").unwrap();
        let changed = loader.bundle(P, &main).unwrap();
        assert_eq!(
            (changed.modules.join(","), changed.unchanged.join(",")),
            ("b,a".into(), "c".into())
        );
        assert_eq!(loader.bundle(ProcessId([2; 32]), &main).unwrap().modules.len(), 3);
    }

    #[test]
    fn circles_and_missing_files_are_refused() {
        let folder = folder(&[
            ("main.lua", "require('a')"),
            ("a.lua", "require('b')"),
            ("b.lua", "require('a')"),
        ]);
        let error = Loader::default()
            .bundle(P, &folder.path().join("main.lua"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "modules require each other in a circle: a -> b -> a"
        );
        assert!(Loader::default().bundle(P, Path::new("/nowhere/x.lua")).is_err());
    }
}
