//! Why a model, a file or a request was refused. Not a result: a result is always an answer in full.

/// What the crate refuses, each with its place and, where there is one, its remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that breaks its format.
    #[error("{what}: {why}")]
    Format {
        /// The part of the file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A well-formed file that asks for something DIN-1 does not define.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// Something beyond a limit.
    #[error("{what} is {actual}, the limit is {limit}")]
    Limit {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        actual: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A request that cannot be served as asked.
    #[error("{0}")]
    Invalid(String),
    /// The device failed or was lost; nothing was answered. The CPU gives the same answer.
    #[error("device {device}: {why}")]
    Device {
        /// Its name.
        device: String,
        /// What it said.
        why: String,
    },
}

impl Error {
    /// The same of a tensor of that name.
    pub(crate) fn of(self, name: &str) -> Error {
        match self {
            Error::Format { what, why } => Error::Format {
                what: format!("tensor {name}, {what}"),
                why,
            },
            other => other,
        }
    }

    pub(crate) fn format(what: impl Into<String>, why: impl Into<String>) -> Error {
        Error::Format {
            what: what.into(),
            why: why.into(),
        }
    }
}
