//! `.watch DIR`: a file that is saved is sent again, with the modules that changed, and no others.
//!
//! What stands in the folder when the watching begins counts as sent. The invariant: a save that is no
//! Lua is told and not sent; two saves of the same text send nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use spec::Outcome;
use tokio::sync::{Mutex, mpsc};

use super::atlas::{Atlas, Handler};
use super::feed::Watcher;
use super::link::Link;
use super::shell::Shell;
use super::show;
use super::tab::listing;
use crate::error::Problem;
use crate::load::{Bundle, Loader};
use crate::render::{self, Style};

/// How long saves are gathered: editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(60);
/// Files of a folder that are looked at.
const FILES_MAX: usize = 2_000;
/// Folders in folders that are looked at.
const DEPTH_MAX: usize = 8;

/// A folder being watched; dropping it stops.
pub(crate) struct Watch {
    folder: PathBuf,
    task: tokio::task::JoinHandle<()>,
    _watcher: RecommendedWatcher,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Begins to watch a folder.
    ///
    /// # Errors
    /// If there is no such folder, or the system does not watch it.
    pub(crate) fn start(shell: &Shell, folder: &Path) -> Result<Watch, String> {
        if !folder.is_dir() {
            return Err(format!("{} is no folder", folder.display()));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let tell = move |event: notify::Result<notify::Event>| {
            let is_change = event.is_ok_and(|event| !event.kind.is_access());
            if is_change {
                // The receiver is gone only when the watching is.
                let _ = sender.send(());
            }
        };
        let mut watcher = notify::recommended_watcher(tell).map_err(|error| error.to_string())?;
        let watched = watcher.watch(folder, RecursiveMode::Recursive);
        watched.map_err(|error| format!("{} cannot be watched: {error}", folder.display()))?;
        let reloader = Reloader {
            folder: folder.to_path_buf(),
            link: Arc::clone(&shell.link),
            feed: Arc::clone(&shell.watcher),
            loader: Arc::clone(&shell.loader),
            style: shell.style,
            seen: contents(folder),
        };
        Ok(Watch {
            folder: folder.to_path_buf(),
            task: tokio::spawn(reloader.run(receiver)),
            _watcher: watcher,
        })
    }

    /// What is watched, in a line.
    pub(crate) fn about(&self) -> String {
        format!(
            "watching {}: a Lua file is sent when it is saved; .watch off stops",
            self.folder.display()
        )
    }
}

struct Reloader {
    folder: PathBuf,
    link: Arc<dyn Link>,
    feed: Arc<Watcher>,
    loader: Arc<Mutex<Loader>>,
    style: Style,
    seen: HashMap<PathBuf, String>,
}

impl Reloader {
    async fn run(mut self, mut changes: mpsc::UnboundedReceiver<()>) {
        while changes.recv().await.is_some() {
            tokio::time::sleep(SETTLE).await;
            while changes.try_recv().is_ok() {}
            let now = contents(&self.folder);
            let changed = changed(&self.seen, &now);
            self.seen = now;
            for main in self.mains(&changed).await {
                self.reload(&main).await;
            }
        }
    }

    /// The files to load for these changes: those that require them, and themselves if nobody does.
    async fn mains(&self, changed: &[PathBuf]) -> Vec<PathBuf> {
        let loader = self.loader.lock().await;
        let process = self.link.process();
        let bundles = self
            .seen
            .keys()
            .filter_map(|file| Some((file, loader.bundle(process, file).ok()?)));
        let files: Vec<(&PathBuf, Vec<PathBuf>)> =
            bundles.map(|(file, bundle)| (file, bundle.files)).collect();
        let holders = |file: &PathBuf| {
            let others = files
                .iter()
                .filter(move |(main, held)| *main != file && held.contains(file));
            others.map(|(main, _)| (*main).clone()).collect::<Vec<_>>()
        };
        let mut mains: Vec<PathBuf> = Vec::new();
        for file in changed {
            let above = holders(file);
            let top = above.iter().filter(|main| holders(main).is_empty()).cloned();
            let top: Vec<PathBuf> = if above.is_empty() {
                vec![file.clone()]
            } else {
                top.collect()
            };
            mains.extend(top);
        }
        mains.sort();
        mains.dedup();
        mains
    }

    async fn reload(&self, main: &Path) {
        let name = main
            .strip_prefix(&self.folder)
            .unwrap_or(main)
            .display()
            .to_string();
        let bundle = self.loader.lock().await.bundle(self.link.process(), main);
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(error) => return self.fail(&Problem::from(error)),
        };
        let before = self.handlers().await;
        let sent = self.feed.sending(self.link.send(&bundle.chunk)).await;
        let outcome = match sent {
            Ok(id) => self.link.result(id).await.map(|evaluated| evaluated.outcome),
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(outcome) => self.tell(&name, &bundle, &outcome, &before).await,
            Err(refusal) => self.fail(&Problem::from(refusal)),
        }
    }

    async fn tell(&self, name: &str, bundle: &Bundle, outcome: &Outcome, before: &[Handler]) {
        if let Some(problem) = Problem::of_outcome(outcome, Some(&bundle.map)) {
            self.feed
                .say(&self.style.paint("31", &format!("{name} was sent and failed")));
            return self.fail(&problem);
        }
        self.loader.lock().await.taken(self.link.process(), bundle);
        let modules = match bundle.modules.as_slice() {
            [] => String::new(),
            modules => format!(" with {}", modules.join(", ")),
        };
        let handlers = difference(before, &self.handlers().await);
        let head = self.style.paint("32", &format!("reloaded {name}{modules}"));
        self.feed.say(&format!("{head}{handlers}"));
        let text = show::text(outcome);
        if !text.is_empty() {
            self.feed.say(&render::safe(&text, self.style));
        }
    }

    fn fail(&self, problem: &Problem) {
        self.feed.say(problem.render(self.style).trim_end());
    }

    async fn handlers(&self) -> Vec<Handler> {
        let outcome = self.link.dry(&listing()).await;
        let atlas = outcome
            .ok()
            .and_then(|outcome| Atlas::parse(&show::text(&outcome)));
        atlas.map(|atlas| atlas.handlers).unwrap_or_default()
    }
}

/// Which handlers came, went, or were made anew, in a few words.
fn difference(before: &[Handler], after: &[Handler]) -> String {
    let old = |name: &str| before.iter().find(|handler| handler.name == name);
    let gone = before
        .iter()
        .filter(|handler| !after.iter().any(|other| other.name == handler.name));
    let mut words: Vec<String> = gone.map(|handler| format!("-{}", handler.name)).collect();
    for handler in after {
        match old(&handler.name) {
            None => words.push(format!("+{}", handler.name)),
            Some(old) if old != handler => words.push(format!("~{}", handler.name)),
            Some(_) => {}
        }
    }
    match words.is_empty() {
        true => String::new(),
        false => format!(": handlers {}", show::one_line(&words.join(" "), 200)),
    }
}

/// The Lua files below a folder with their text; hidden folders are left out.
fn contents(folder: &Path) -> HashMap<PathBuf, String> {
    let mut found = HashMap::new();
    let mut open = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if is_hidden || found.len() >= FILES_MAX {
                continue;
            }
            if path.is_dir() && depth < DEPTH_MAX {
                open.push((path, depth + 1));
            } else if is_program(&path) {
                found.extend(std::fs::read_to_string(&path).ok().map(|text| (path, text)));
            }
        }
    }
    found
}

/// A Lua file that is no test.
fn is_program(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| name.ends_with(".lua") && !name.ends_with("_spec.lua"))
}

/// The files with another text than before, new ones included.
fn changed(before: &HashMap<PathBuf, String>, now: &HashMap<PathBuf, String>) -> Vec<PathBuf> {
    let is_other = |(path, text): &(&PathBuf, &String)| before.get(*path) != Some(*text);
    let mut files: Vec<PathBuf> = now
        .iter()
        .filter(is_other)
        .map(|(path, _)| path.clone())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(name: &str, mark: &str) -> Handler {
        Handler {
            name: name.to_owned(),
            action: None,
            mark: mark.to_owned(),
        }
    }

    #[test]
    fn handlers_are_compared() {
        let before = [handler("a", "1"), handler("b", "2"), handler("c", "3")];
        let after = [handler("b", "2"), handler("c", "4"), handler("d", "5")];
        assert_eq!(difference(&before, &after), ": handlers -a ~c +d");
        assert_eq!(difference(&after, &after), "");
    }

    #[test]
    fn only_other_texts_count_as_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.lua");
        std::fs::write(&path, "x = 1").expect("written");
        std::fs::write(folder.path().join("a_spec.lua"), "").expect("written");
        let before = contents(folder.path());
        assert_eq!(before.len(), 1);
        std::fs::write(&path, "x = 1").expect("written");
        assert!(changed(&before, &contents(folder.path())).is_empty());
        std::fs::write(&path, "x = 2").expect("written");
        assert_eq!(changed(&before, &contents(folder.path())), [path]);
    }
}
