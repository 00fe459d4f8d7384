//! What `weft prove` and `weft verify` take. Not here: what they do.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use spec::{Address, ItemId, ProcessId};

/// `weft prove`
#[derive(Args, Debug)]
pub struct ProveArgs {
    /// The item: a message, a process, an assignment, anything in a bundle.
    pub id: ItemId,
    /// Gateway that holds the bundle and its block; may be given again. Default: those that the node uploads to.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub from: Vec<String>,
    /// The transaction or bundler's item that carries the bundle, where the gateway cannot say.
    #[arg(long, value_name = "ID")]
    pub carrier: Option<ItemId>,
    /// Put whole chunks in, so that the item's own bytes are shown and not only the node's digest.
    #[arg(long)]
    pub full: bool,
    /// Where to write it. Default: ID.proof
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// The node's URL. Default: $WEFT_NODE, else http://127.0.0.1:8734.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub node: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `weft verify`
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// A proof file, or a fraud file.
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "process")]
    pub file: Option<PathBuf>,
    /// Also ask this gateway whether the chain has the block; with --process, read the log from it. May be given again.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub from: Vec<String>,
    /// In place of a file: replay the log of this process from its first message.
    #[arg(long, value_name = "ID", conflicts_with = "file", requires = "full")]
    pub process: Option<ProcessId>,
    /// The whole log, compared with every checkpoint and state root that is known.
    #[arg(long, requires = "process")]
    pub full: bool,
    /// Data folder of the node whose log is replayed; the node must not run.
    #[arg(
        long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "process", conflicts_with = "from"
    )]
    pub data: Option<PathBuf>,
    /// Account that signs the process's log. Default: the data folder's scheduler, else the one that the process names.
    #[arg(long, value_name = "ADDRESS", requires = "process")]
    pub scheduler: Option<Address>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
