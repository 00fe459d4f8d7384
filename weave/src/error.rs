//! What can go wrong in the weave, and how it reads across a contract.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use spec::Refusal;

use crate::record::Position;

/// Why the weave would not or could not do something. Cheap to clone: one failed batch refuses many.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A bound of the log is reached (its queue, or the spool of what is not settled upstream); nothing was stored.
    #[error("the log takes nothing more just now ({0} is reached); try again")]
    Busy(&'static str),
    /// A record or group beyond a configured limit; nothing was stored.
    #[error("{what} is {actual}, the limit is {limit}")]
    Limit {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        actual: u64,
        /// How large it may be.
        limit: u64,
    },
    /// The operating system refused; what was asked for did not happen.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Arc<std::io::Error>,
    },
    /// A write could not be made durable; the log accepts nothing more until it is opened again.
    #[error("the log is closed to writing: {0}; check the disk, then restart the node")]
    Poisoned(Arc<str>),
    /// Bytes that were acknowledged once are no longer what was written.
    #[error("{path}: damaged at byte {offset}: {why}. Remedy: {remedy}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        why: String,
        /// What a person can do.
        remedy: &'static str,
    },
    /// A file of a newer version than this program knows.
    #[error("{path}: format version {found}, this program knows up to {known}; use a newer program")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest we know.
        known: u32,
    },
    /// Another node uses the data folder.
    #[error("{0}: another node uses this data folder; stop it, or give this one a folder of its own")]
    Locked(PathBuf),
    /// No record begins at a position.
    #[error("no record at position {0:?}")]
    NoRecord(Position),
    /// A note of ours that cannot be, after those before it.
    #[error("the note at position {at:?}: {why}. Remedy: {RESTORE}")]
    Note {
        /// Where it stands.
        at: Position,
        /// What is wrong with it.
        why: String,
    },
    /// The derived index failed.
    #[error("the index failed: {0}; stop the node and delete the folder `cache` to have it rebuilt")]
    Index(Arc<str>),
    /// The log's writer has stopped.
    #[error("the log is closed")]
    Closed,
    /// Bytes cannot be registered under an id.
    #[error("{0}")]
    Refused(Refusal),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// What restores a damaged log.
pub(crate) const RESTORE: &str = "restore this file from a backup, or from the bundle it was uploaded as";

impl Error {
    pub(crate) fn corrupt(path: &Path, offset: u64, why: impl Into<String>) -> Error {
        Error::Corrupt {
            path: path.into(),
            offset,
            why: why.into(),
            remedy: RESTORE,
        }
    }
}

/// Names the file and the action of an I/O error.
pub(crate) trait At<T> {
    /// Turns the error into one of ours.
    fn at(self, path: &Path, action: &'static str) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: &Path, action: &'static str) -> Result<T> {
        self.map_err(|source| Error::Io {
            path: path.into(),
            action,
            source: Arc::new(source),
        })
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let text = error.to_string();
        match error {
            Error::Busy(_) => Refusal::busy("log-busy", text),
            Error::Limit { .. } => Refusal::limit("too-large", text),
            Error::NoRecord(_) => Refusal::not_found("no-record", text),
            Error::Locked(_) => Refusal::busy("folder-in-use", text),
            Error::Refused(refusal) => refusal,
            _ => Refusal::internal(text),
        }
    }
}
