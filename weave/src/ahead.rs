//! A walk through the log that reads and parses on a thread of its own, some batches ahead of who takes the records.
//!
//! Not here: what a walk is (`log`). The invariant: it gives what the walk gives, in order; a walk that was cut short by
//! a fault never looks like one that came to its end.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::error::{At, Result};

/// The walk as its taker sees it.
pub(crate) struct Ahead<T> {
    batches: Receiver<Vec<T>>,
    current: std::vec::IntoIter<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Begins the walk: `batch` steps are handed over at once, and so many batches may wait.
    ///
    /// # Errors
    /// The operating system has no thread for it.
    pub(crate) fn of(
        walk: impl Iterator<Item = T> + Send + 'static,
        batch: usize,
        waiting_max: usize,
    ) -> Result<Ahead<T>> {
        let (taken, batches) = sync_channel(waiting_max);
        let thread = std::thread::Builder::new().name("weave-ahead".into());
        let thread = thread.spawn(move || read(walk, batch, &taken)).at(
            std::path::Path::new("the log"),
            "start the thread that reads ahead",
        )?;
        Ok(Ahead {
            batches,
            current: Vec::new().into_iter(),
            thread: Some(thread),
        })
    }
}

/// Reads until the end, or until nobody takes any more.
fn read<T>(mut walk: impl Iterator<Item = T>, batch: usize, taken: &SyncSender<Vec<T>>) {
    loop {
        let batch: Vec<T> = walk.by_ref().take(batch).collect();
        if batch.is_empty() || taken.send(batch).is_err() {
            return;
        }
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(step) = self.current.next() {
                return Some(step);
            }
            match self.batches.recv() {
                Ok(batch) => self.current = batch.into_iter(),
                Err(_) => {
                    if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                        std::panic::resume_unwind(panic);
                    }
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

    use super::*;

    #[test]
    fn all_come_in_order_and_who_stops_early_holds_nothing_up() {
        let all: Vec<u64> = Ahead::of(0..1000, 64, 2).unwrap().collect();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        let mut endless = Ahead::of(0.., 64, 2).unwrap();
        assert_eq!(endless.next(), Some(0));
    }

    #[test]
    fn a_fault_in_the_reading_is_no_end() {
        let walk = (0..2000).inspect(|number| assert!(*number < 1000, "the disk is gone"));
        let ahead = Ahead::of(walk, 64, 2).unwrap();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ahead.count()));
        assert!(seen.is_err());
    }
}
