//! What `weft follow` takes. Not here: what it does.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use spec::{Address, ProcessId};

/// `weft follow`
#[derive(Args, Debug)]
pub struct FollowArgs {
    /// The process.
    pub process: ProcessId,
    /// Gateway to read from; may be given again: what one hides, another may show.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, required = true)]
    pub from: Vec<String>,
    /// Account that signs the log. Default: the one that the process names.
    #[arg(long, value_name = "ADDRESS")]
    pub scheduler: Option<Address>,
    /// Keep what was read here; a later start goes on from it. Default: a temporary folder.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data: Option<PathBuf>,
    /// Where a fraud file is written.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = ".")]
    pub fraud: PathBuf,
    /// Stop at the end of what is there now.
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub poll: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
