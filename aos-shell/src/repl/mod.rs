//! The prompt that people live in: one process, Lua and dot-commands, what the process prints above.
//!
//! Not here: finding or spawning the process (`session`), one-shot commands. The invariant: a text is
//! signed only after Lua itself has compiled it.

mod act;
mod atlas;
mod commands;
mod complete;
mod desk;
mod dry;
#[cfg(test)]
mod fake;
mod feed;
mod history;
mod line;
mod link;
mod literal;
mod shape;
mod shell;
mod show;
mod tab;
mod wait;
mod watch;
mod write;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use spec::Refusal;
use spec::contract::Answer;
use tokio::runtime::Handle;

use crate::lua::{self, Read};
use crate::render::Style;
use crate::session::Session;
use atlas::Atlas;
use complete::Known;
use desk::Desk;
use feed::Watcher;
use line::Line;
use link::Link;
use shell::{Parts, Shell};
use tab::Library;

/// What a sitting can be told before it begins.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where histories and pads are kept; `None`: nothing is kept.
    pub folder: Option<PathBuf>,
    /// The name of the history; `None`: the process's id.
    pub history: Option<String>,
    /// How text is shown.
    pub style: Style,
    /// Programs that can be loaded by name, with their Lua.
    pub blueprints: Vec<(String, String)>,
    /// Lua files that are loaded before the first line.
    pub load: Vec<PathBuf>,
}

impl Options {
    /// The folder for histories that the system provides: `$XDG_STATE_HOME/weft`.
    pub fn state_folder() -> Option<PathBuf> {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
        Some(state?.join("weft"))
    }
}

/// What Tab offers in a process as it is now.
pub struct Names(Atlas);

impl Names {
    /// Asks a process for all that can be reached in it, by one dry run.
    ///
    /// # Errors
    /// What the node refuses; that the process does not answer as one that evaluates Lua.
    pub async fn of(session: &Session) -> Answer<Names> {
        let outcome = session.dry(&tab::listing()).await?;
        let none = || Refusal::invalid("no-names", "the process does not list its globals");
        Atlas::parse(&show::text(&outcome)).map(Names).ok_or_else(none)
    }

    /// What a line becomes by each offer at its end.
    pub fn lines(&self, line: &str) -> Vec<String> {
        let offers = complete::offers(line, line.len(), &self.0, &Known::default());
        let put = |offer: complete::Offer| format!("{}{}", &line[..offer.start], offer.text);
        offers.into_iter().map(put).collect()
    }
}

/// Reads lines from the terminal until the person leaves.
///
/// # Errors
/// If the terminal fails or the history cannot be opened.
pub async fn run(session: Session, options: Options) -> io::Result<()> {
    sit(Arc::new(session), options).await
}

async fn sit(link: Arc<dyn Link>, options: Options) -> io::Result<()> {
    let desk = Arc::new(Desk::default());
    let known = Known {
        ids: vec![(link.process().to_string(), "this process".to_owned())],
        blueprints: options.blueprints.iter().map(|(name, _)| name.clone()).collect(),
    };
    let library = Library::new(Arc::clone(&link), Handle::current(), known);
    let named = options.history.unwrap_or_else(|| link.process().to_string());
    let history = options
        .folder
        .as_ref()
        .map(|folder| folder.join("history").join(named));
    let line = Line::open(
        Arc::clone(&desk),
        Arc::clone(&library),
        history.as_deref(),
        options.style.colors,
    )?;
    let watcher = Watcher::new(
        Arc::clone(&desk),
        Arc::clone(&library),
        Arc::clone(&link),
        options.style,
    );
    desk.set_prompt(&first_prompt(link.as_ref(), options.style).await);
    library.refresh();
    let feed = tokio::spawn(Arc::clone(&watcher).run());
    let mut shell = Shell::new(Parts {
        link,
        desk,
        library,
        watcher,
        line,
        style: options.style,
        folder: options.folder,
        blueprints: options.blueprints,
    });
    for file in &options.load {
        act::command(&mut shell, ".load", &file.to_string_lossy()).await?;
    }
    let ended = shell.sit().await;
    feed.abort();
    shell.leave();
    ended
}

/// The process's own prompt, by a dry run of nothing; its name where it has none.
async fn first_prompt(link: &dyn Link, style: Style) -> String {
    let asked = match lua::read("nil") {
        Read::Complete(chunk) => link.dry(&chunk).await.ok(),
        _ => None,
    };
    let prompt = asked.and_then(|outcome| show::prompt(&outcome, style));
    prompt.unwrap_or_else(|| format!("{}> ", show::one_line(&link.name(), 20)))
}
