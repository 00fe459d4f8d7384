//! Tab: the atlas of the process, fetched in the background, and reedline's completer on top of it.
//!
//! The invariant: no key ever waits for the node. While an atlas is being fetched Tab says "pending",
//! and after a while it answers with the atlas before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nu_ansi_term::{Color, Style};
use reedline::{Completer, CompletionResult, CompletionStatus, Span, Suggestion};
use tokio::runtime::Handle;

use super::atlas::{Atlas, LISTING};
use super::complete::{self, Known, Offer};
use super::desk::Desk;
use super::link::Link;
use super::show;
use crate::lua::{self, Chunk, Read};

/// How long Tab waits for a fresh atlas before it takes the old one.
const PATIENCE: Duration = Duration::from_millis(700);
/// How soon an atlas is fetched again while the process changes on its own.
const REST: Duration = Duration::from_secs(1);

/// The atlas and when it was fetched.
pub(crate) struct Library {
    link: Arc<dyn Link>,
    runtime: Handle,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    atlas: Arc<Atlas>,
    known: Known,
    is_stale: bool,
    is_fetching: bool,
    /// Asked for while one was being fetched, which may have begun before the change.
    is_owed: bool,
    fetched: Option<Instant>,
}

impl Library {
    /// A library that has not read anything yet.
    pub(crate) fn new(link: Arc<dyn Link>, runtime: Handle, known: Known) -> Arc<Library> {
        let shelf = Shelf {
            known,
            is_stale: true,
            ..Shelf::default()
        };
        Arc::new(Library {
            link,
            runtime,
            shelf: Mutex::new(shelf),
        })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process may have changed.
    pub(crate) fn mark_stale(&self) {
        self.shelf().is_stale = true;
    }

    /// Remembers an id of this sitting.
    pub(crate) fn learn(&self, id: String, about: String) {
        let ids = &mut self.shelf().known.ids;
        ids.truncate(IDS_MAX - 1);
        ids.insert(0, (id, about));
    }

    /// Fetches the atlas in the background unless that is under way or just done.
    pub(crate) fn refresh(self: &Arc<Library>) {
        let mut shelf = self.shelf();
        let rests = shelf.fetched.is_some_and(|at| at.elapsed() < REST) && !shelf.is_stale;
        if shelf.is_fetching || rests {
            shelf.is_owed |= shelf.is_fetching;
            return;
        }
        shelf.is_fetching = true;
        shelf.is_stale = false;
        let library = Arc::clone(self);
        self.runtime.spawn(async move { library.fetch().await });
    }

    async fn fetch(&self) {
        loop {
            let outcome = self.link.dry(&listing()).await;
            let text = outcome.ok().map(|outcome| show::text(&outcome));
            let atlas = text.and_then(|text| Atlas::parse(&text));
            let mut shelf = self.shelf();
            if let Some(atlas) = atlas {
                shelf.atlas = Arc::new(atlas);
            }
            shelf.fetched = Some(Instant::now());
            shelf.is_fetching = std::mem::take(&mut shelf.is_owed);
            if !shelf.is_fetching {
                return;
            }
            shelf.is_stale = false;
        }
    }

    /// Whether Tab can be answered now; starts a fetch if the atlas is old.
    fn is_ready(self: &Arc<Library>) -> bool {
        let shelf = self.shelf();
        let rested = shelf.fetched.is_none_or(|at| at.elapsed() >= REST);
        let wants = shelf.is_stale && rested && !shelf.is_fetching;
        let is_fetching = shelf.is_fetching;
        drop(shelf);
        if wants {
            self.refresh();
        }
        !wants && !is_fetching
    }

    fn is_fetching(&self) -> bool {
        self.shelf().is_fetching
    }
}

/// Ids remembered.
const IDS_MAX: usize = 50;

/// The listing program, checked like any line.
pub(crate) fn listing() -> Chunk {
    match lua::read(LISTING) {
        Read::Complete(chunk) => chunk,
        other => unreachable!("the listing is part of this program and compiles: {other:?}"),
    }
}

/// reedline's completer.
pub(crate) struct Tab {
    library: Arc<Library>,
    desk: Arc<Desk>,
    asked: Option<Instant>,
}

impl Tab {
    /// A completer on a library.
    pub(crate) fn new(library: Arc<Library>, desk: Arc<Desk>) -> Tab {
        Tab {
            library,
            desk,
            asked: None,
        }
    }

    fn answer(&self, line: &str, position: usize) -> CompletionResult {
        let (atlas, known) = {
            let shelf = self.library.shelf();
            (Arc::clone(&shelf.atlas), shelf.known.clone())
        };
        let offers = complete::offers(line, position, &atlas, &known);
        CompletionResult::fresh(offers.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

fn suggestion(offer: Offer) -> Suggestion {
    Suggestion {
        display_override: Some(show::one_line(&offer.name, ABOUT_CHARS)),
        value: offer.text,
        description: (!offer.about.is_empty()).then(|| show::one_line(&offer.about, ABOUT_CHARS)),
        style: Some(Style::new().fg(Color::Default)),
        span: Span::new(offer.start, offer.end),
        ..Suggestion::default()
    }
}

/// Characters of a description in the menu.
const ABOUT_CHARS: usize = 60;

impl Completer for Tab {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        let is_command = super::commands::split(line).is_some() || line.trim_start() == ".";
        let waited = self.asked.is_some_and(|at| at.elapsed() >= PATIENCE);
        if is_command || waited || self.library.is_ready() {
            self.asked = None;
            return self.answer(line, position);
        }
        self.asked.get_or_insert_with(Instant::now);
        CompletionResult::Pending
    }

    fn poll_completion(&mut self) -> CompletionStatus {
        match self.asked {
            None => CompletionStatus::Idle,
            Some(at) if at.elapsed() >= PATIENCE || !self.library.is_fetching() => {
                self.desk.settle();
                CompletionStatus::Ready
            }
            Some(_) => CompletionStatus::Pending,
        }
    }
}
