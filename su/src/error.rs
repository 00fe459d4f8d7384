//! What can go wrong in the scheduler, and how it reads across a contract.

use std::sync::Arc;

use spec::assignment::AssignmentError;
use spec::{Address, Refusal};

/// Why the scheduler could not start or do something. Cheap to clone: one failure refuses many.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The log underneath.
    #[error(transparent)]
    Log(#[from] weave::Error),
    /// The derived index failed.
    #[error(
        "the scheduler's index failed: {0}; stop the node and delete the folder `cache` to have it rebuilt"
    )]
    Index(Arc<str>),
    /// The log holds something the scheduler never writes.
    #[error("the log contradicts itself at {place}: {why}; restore the log from a backup")]
    Corrupt {
        /// Where.
        place: String,
        /// What is wrong there.
        why: String,
    },
    /// The scheduler's key cannot sign.
    #[error("the scheduler's key cannot sign an assignment: {0}")]
    Sign(#[from] AssignmentError),
    /// The log names another key than the one given.
    #[error(
        "this log's scheduler is {named}, the key given is {given}'s; put the key of the first into keys/su.json of the data folder, or name it with --su-key FILE"
    )]
    Key {
        /// Who may go on.
        named: Address,
        /// Whose key was given.
        given: Address,
    },
    /// Scheduling cannot go on, or be handed on.
    #[error("{0}")]
    Turn(Arc<str>),
    /// The writer has stopped.
    #[error("the scheduler is shutting down")]
    Closed,
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(Arc<str>),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn index(error: impl std::fmt::Display) -> Error {
        Error::Index(error.to_string().into())
    }

    pub(crate) fn corrupt(place: impl Into<String>, why: impl Into<String>) -> Error {
        let (place, why) = (place.into(), why.into());
        Error::Corrupt { place, why }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::Log(error) => error.into(),
            Error::Closed => Refusal::busy("shutting-down", error.to_string()),
            _ => Refusal::internal(error.to_string()),
        }
    }
}
