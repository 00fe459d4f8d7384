//! Takes a node's log back from the weave: finds its carriers, downloads them, verifies them, makes its segment files.
//!
//! Not here: slots and chains (the caller inspects each segment's records), indexes, evaluation. The invariant: a
//! segment file gets its name only after every signature and hash in its carrier held, so nothing a gateway says is
//! believed. Source: spec/carrier.md, "Taking a log back".

mod check;
mod collect;
mod fetch;
mod find;
mod search;
mod source;
mod staging;
#[cfg(test)]
mod tests;

use spec::{Address, ItemId};

pub use check::{Checked, check};
pub use collect::{Collector, Inspector, Meter, Segment};
pub use find::{Claim, Found, find, wallets_of, wallets_of_node};
pub use source::{Source, Sources};
pub use staging::{Staged, Staging};

/// Every limit of a rebuild, with its default.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Times that all gateways are asked for one thing before it counts as missing.
    pub rounds_max: usize,
    /// Wait after the first such round, in ms; each later one is twice as long.
    pub round_wait_ms: u64,
    /// Longest wait, whatever a gateway's `Retry-After` says, in ms.
    pub wait_ms_max: u64,
    /// Largest bundle taken, in bytes.
    pub bundle_bytes_max: u64,
    /// Bytes of bundles in memory at once; one that is larger is taken alone.
    pub in_flight_bytes_max: u64,
    /// Carriers looked after at once.
    pub parallel: usize,
    /// Most carriers of one log.
    pub carriers_max: usize,
    /// Most claims to be one carrier that are looked at: a carrier that was signed again has several.
    pub claims_max: usize,
    /// Most transactions of a wallet looked through for its newest carrier.
    pub transactions_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            rounds_max: 6,
            round_wait_ms: 250,
            wait_ms_max: 30_000,
            bundle_bytes_max: 1 << 30,
            in_flight_bytes_max: 128 << 20,
            parallel: 4,
            carriers_max: 1_000_000,
            claims_max: 32,
            transactions_max: 10_000,
        }
    }
}

/// Why a log could not be taken back. Nothing wrong was kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No gateway gave something, or not the right one.
    #[error("{what} could not be had: {}", Tried(.tried))]
    NotHad {
        /// What it is.
        what: String,
        /// Each gateway's last answer, by its name.
        tried: Vec<(String, String)>,
    },
    /// Some carriers are in no gateway's answers.
    #[error(
        "carrier {sequence} is missing: none of the {known} carriers found leads to it. Remedy: name another gateway with \
         --from, or with --wallet each other wallet that the node posted by{}", Notes(.notes)
    )]
    Missing {
        /// The first one's number.
        sequence: u64,
        /// How many are there.
        known: usize,
        /// What gateways said that was not so.
        notes: Vec<String>,
    },
    /// The newest carrier is listed, and not there. What it brought was acknowledged.
    #[error(
        "carrier {sequence} ({id}) is the newest that gateways list, and cannot be had: {why}. What it brought would be missing, \
         so nothing is done without being told to: --leave-out {id} takes the log back without it"
    )]
    Late {
        /// Its number.
        sequence: u64,
        /// Its item.
        id: ItemId,
        /// What was tried.
        why: Box<Error>,
    },
    /// The wallet carries more than one node's log.
    #[error(
        "two nodes posted by this wallet: the newest carrier's log is signed by {ours}, and carrier {sequence} ({id}) is of a log \
         signed by {other}. Remedy: name the one to take back with --scheduler"
    )]
    TwoNodes {
        /// Who signed the newest carrier's segment.
        ours: Address,
        /// Who signed another, and nothing in that log.
        other: Address,
        /// The other's number.
        sequence: u64,
        /// The other.
        id: ItemId,
    },
    /// The wallet or process has no carrier that the gateways know.
    #[error("no carrier of {of} was found. Remedy: check the address, or name another gateway with --from{}", Notes(.notes))]
    Nothing {
        /// Of whom.
        of: String,
        /// What gateways said that was not so.
        notes: Vec<String>,
    },
    /// A carrier that its wallet signed is not what it must be. Gateways cannot make such a one.
    #[error("carrier {sequence} ({id}): {why}")]
    Wrong {
        /// Its number.
        sequence: u64,
        /// Its transaction or item.
        id: ItemId,
        /// What is wrong, with the item and its place in the bundle.
        why: String,
    },
    /// The folder holds what no rebuild made.
    #[error(
        "{folder} holds `{found}` already, and a rebuild begins in an empty folder (keys/ may be there). Remedy: take another --data"
    )]
    NotEmpty {
        /// Which folder.
        folder: String,
        /// What is in it.
        found: String,
    },
    /// The folder holds another rebuild.
    #[error("{folder} holds the rebuild of {found}, not of {wanted}. Remedy: take another --data")]
    Other {
        /// Which folder.
        folder: String,
        /// What it is of.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A limit of the configuration.
    #[error("{what} is {actual}, the limit is {limit}")]
    Limit {
        /// What is too much.
        what: &'static str,
        /// How much it is.
        actual: u64,
        /// How much it may be.
        limit: u64,
    },
    /// The folder cannot be read or written.
    #[error(transparent)]
    Weave(#[from] crate::Error),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// Answers in a row.
struct Tried<'a>(&'a [(String, String)]);

impl std::fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (name, text)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "; " } else { "" };
            write!(f, "{comma}{name}: {text}")?;
        }
        f.write_str(". Remedy: name another gateway with --from, or try again later; what is done is kept")
    }
}

/// Most notes that an error repeats.
const NOTES_MAX: usize = 8;

/// What was noted on the way, behind an error.
struct Notes<'a>(&'a [String]);

impl std::fmt::Display for Notes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .take(NOTES_MAX)
            .try_for_each(|note| write!(f, "\n  {note}"))
    }
}
