//! What can go wrong at opening and in our own files; and the refusal each becomes.
//!
//! Not here: a process's own errors, which are outcomes.

use spec::Refusal;

/// Why the compute unit cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The index of outcomes.
    #[error("the index of outcomes (cache/cu/results.redb): {0}; deleting cache/ rebuilds it")]
    Index(String),
    /// A file or folder of ours.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The evaluator could not be set up, or failed under us.
    #[error("evaluator: {0}")]
    Runtime(#[from] crate::runtime::Error),
    /// A thread could not be started.
    #[error("cannot start an evaluation thread: {0}")]
    Thread(std::io::Error),
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        Error::Index(error.to_string())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Runtime(error) => from_runtime(error),
            error => Refusal::internal(error.to_string()),
        }
    }
}

/// A module beyond a bound stays so; everything else is trouble of ours.
pub fn from_runtime(error: crate::runtime::Error) -> Refusal {
    match error {
        crate::runtime::Error::Refused(why) => {
            Refusal::invalid("module-refused", format!("the module is refused: {why}"))
        }
        crate::runtime::Error::Unavailable(refusal) => refusal,
        error => Refusal::internal(error.to_string()),
    }
}
