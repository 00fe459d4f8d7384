//! What can go wrong inside the messenger itself; callers across the contract get a `Refusal`.

use spec::Refusal;

/// The messenger's own failures: all concern the file of its queue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("the messenger's queue failed: {0}")]
    Queue(#[from] Box<redb::Error>),
    /// The file is of another program or a newer version.
    #[error("{0}; delete it, it is rebuilt from the log")]
    Format(String),
    /// The folder cannot be made.
    #[error("the messenger's folder cannot be made: {0}")]
    Folder(#[from] std::io::Error),
    /// A row that we wrote ourselves cannot be read back.
    #[error("the messenger's queue holds a damaged row ({0}); delete the file, it is rebuilt from the log")]
    Damaged(&'static str),
}

/// The storage engine has an error type per call; all become one.
macro_rules! from_redb {
    ($($kind:ident),*) => {$(
        impl From<redb::$kind> for Error {
            fn from(error: redb::$kind) -> Self {
                Error::Queue(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    CommitError
);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::internal(error.to_string())
    }
}
