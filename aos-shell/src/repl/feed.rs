//! The live feed: what the process prints for whoever watches, handed to the desk as it happens.
//!
//! The invariants: an outcome is shown once; while the desk is full the feed waits instead of dropping;
//! a feed that breaks goes on by itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use spec::ItemId;
use spec::contract::{Answer, Evaluated};

use super::desk::{Desk, WAITING_MAX};
use super::link::Link;
use super::show;
use super::tab::Library;
use crate::render::{self, Shown, Style};

/// How often a full desk is looked at.
const BREATH: Duration = Duration::from_millis(20);
/// Ids of evaluations of this sitting that are kept, to leave them out of the feed.
const OWN_MAX: usize = 64;

/// One condition of `.live -f NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    name: String,
    value: String,
}

impl Filter {
    /// Reads `NAME=VALUE`.
    pub(crate) fn parse(text: &str) -> Option<Filter> {
        let (name, value) = text.split_once('=')?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        (!name.is_empty() && !value.is_empty()).then_some(Filter { name, value })
    }
}

/// Shared with the task that reads the feed.
pub(crate) struct Watcher {
    desk: Arc<Desk>,
    library: Arc<Library>,
    link: Arc<dyn Link>,
    style: Style,
    is_shown: AtomicBool,
    /// Held while a message of this sitting is sent, until its id is known.
    sending: tokio::sync::Mutex<()>,
    filters: Mutex<Vec<Filter>>,
    own: Mutex<VecDeque<ItemId>>,
}

impl Watcher {
    /// A feed that is shown from the start.
    pub(crate) fn new(
        desk: Arc<Desk>,
        library: Arc<Library>,
        link: Arc<dyn Link>,
        style: Style,
    ) -> Arc<Watcher> {
        Arc::new(Watcher {
            desk,
            library,
            link,
            style,
            is_shown: AtomicBool::new(true),
            sending: tokio::sync::Mutex::new(()),
            filters: Mutex::default(),
            own: Mutex::default(),
        })
    }

    /// Shows what is printed from now on, or stops.
    pub(crate) fn show(&self, is_shown: bool) {
        self.is_shown.store(is_shown, Ordering::Relaxed);
    }

    /// Shows only what came of messages with these tags.
    pub(crate) fn filter(&self, filters: Vec<Filter>) {
        *self.filters.lock().unwrap_or_else(PoisonError::into_inner) = filters;
    }

    /// Sends a message whose outcome is shown by whoever sent it, and left out here.
    pub(crate) async fn sending(&self, send: impl Future<Output = Answer<ItemId>>) -> Answer<ItemId> {
        let _held = self.sending.lock().await;
        let id = send.await?;
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.push_back(id);
        if own.len() > OWN_MAX {
            own.pop_front();
        }
        Ok(id)
    }

    /// Reads the feed until it ends.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut feed = self.link.live();
        while let Some(next) = feed.next().await {
            match next {
                Ok(evaluated) => self.take(&evaluated).await,
                Err(refusal) => self.say(&format!("live feed: {}; it goes on by itself", refusal.text)),
            }
            while self.desk.waiting() >= WAITING_MAX {
                self.desk.repaint();
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    async fn take(&self, evaluated: &Evaluated) {
        self.library.mark_stale();
        let outcome = &evaluated.outcome;
        let shown = render::shown(outcome);
        if self.is_own(evaluated.message).await || !(shown.is_print || shown.error.is_some()) {
            return;
        }
        if let Some(prompt) = show::prompt(outcome, self.style)
            && self.desk.set_prompt(&prompt)
        {
            self.desk.repaint();
        }
        let text = self.text(shown, evaluated.message);
        let is_shown = self.is_shown.load(Ordering::Relaxed) && !text.is_empty();
        if is_shown && self.is_wanted(evaluated.message).await {
            self.say(&text);
        }
    }

    /// What is printed; an error of a message that nobody waits for names the message.
    fn text(&self, shown: Shown, message: Option<ItemId>) -> String {
        let text = render::safe(&shown.text.unwrap_or_default(), self.style);
        let Some(error) = shown.error else {
            return text;
        };
        let id = message.map_or_else(|| "a cron".to_owned(), |id| format!("message {id}"));
        let error = render::safe(error.trim(), Style { colors: false });
        self.style.paint("31", &format!("{id} failed: {error}"))
    }

    async fn is_own(&self, message: Option<ItemId>) -> bool {
        let _settled = self.sending.lock().await;
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        message.is_some_and(|id| own.contains(&id))
    }

    async fn is_wanted(&self, message: Option<ItemId>) -> bool {
        let filters = self
            .filters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if filters.is_empty() {
            return true;
        }
        let Some(message) = message else {
            return false;
        };
        let tags = self.link.tags(message).await.unwrap_or_default();
        let has = |filter: &Filter| {
            tags.iter().any(|tag| {
                tag.name_text().eq_ignore_ascii_case(&filter.name) && tag.value_text() == filter.value
            })
        };
        filters.iter().all(has)
    }

    /// Prints a text above the edit line.
    pub(crate) fn say(&self, text: &str) {
        self.desk.print(text);
        self.desk.repaint();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let filter = Filter::parse("action = Transfer").expect("a filter");
        assert_eq!(
            (filter.name.as_str(), filter.value.as_str()),
            ("action", "Transfer")
        );
        assert_eq!(Filter::parse("action"), None);
        assert_eq!(Filter::parse("=x"), None);
    }
}
