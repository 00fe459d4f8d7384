//! The one error that crosses a contract between units.
//!
//! Not here: which HTTP status a kind becomes; `wire` holds that map.

use std::borrow::Cow;
use std::fmt;

/// What sort of refusal it is; decides the HTTP status and whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request is wrong and stays wrong. The client must change it.
    Invalid,
    /// What it names is not here.
    NotFound,
    /// A bound of configuration is reached just now; the same request may pass later.
    Busy,
    /// The request exceeds a limit and always will (size, memory, gas).
    Limit,
    /// Another unit or a gateway failed; trying again may help.
    Upstream,
    /// Our fault.
    Internal,
}

/// Why a unit would not do what it was asked: kind, stable code, text for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// What sort of refusal it is.
    pub kind: Kind,
    /// Stable, lower case with dashes, for programs: `message-exists`.
    pub code: Cow<'static, str>,
    /// For people: names the place and, where there is one, the remedy.
    pub text: String,
}

impl Refusal {
    /// A refusal of any kind.
    pub fn new(kind: Kind, code: &'static str, text: impl Into<String>) -> Self {
        debug_assert!(!code.is_empty() && !code.contains(' '), "codes are stable words");
        Self {
            kind,
            code: Cow::Borrowed(code),
            text: text.into(),
        }
    }

    /// The request is wrong.
    pub fn invalid(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, text)
    }

    /// What the request names is not here.
    pub fn not_found(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, code, text)
    }

    /// Too much just now.
    pub fn busy(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Kind::Busy, code, text)
    }

    /// Too much ever.
    pub fn limit(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Kind::Limit, code, text)
    }

    /// Another unit or a gateway failed.
    pub fn upstream(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Kind::Upstream, code, text)
    }

    /// Our fault.
    pub fn internal(text: impl Into<String>) -> Self {
        Self::new(Kind::Internal, "internal", text)
    }

    /// Whether the same request may pass later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Busy | Kind::Upstream | Kind::Internal)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl From<crate::item::ItemError> for Refusal {
    fn from(error: crate::item::ItemError) -> Self {
        Refusal::invalid("invalid-item", error.to_string())
    }
}

impl From<crate::ids::IdError> for Refusal {
    fn from(error: crate::ids::IdError) -> Self {
        Refusal::invalid("invalid-id", error.to_string())
    }
}
