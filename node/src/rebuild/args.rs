//! What `weft rebuild` takes.

use std::path::{Path, PathBuf};

use clap::Args;
use spec::{Address, ItemId, ProcessId};

/// `weft rebuild`
#[derive(Args, Debug, Clone)]
#[command(
    group = clap::ArgGroup::new("whose").required(true).multiple(true).args(["wallet", "process"]),
    after_help = "\
With a gateway:
  weft rebuild --from GATEWAY --wallet ADDRESS --data ./again      all that the wallet carried
  weft rebuild --from GATEWAY OTHER --process ID --data ./again    the wallet is looked up

What is killed goes on when the same command is given again. The rebuilt node serves reads at once; it schedules \
                  again only after --resume-scheduling."
)]
pub struct RebuildArgs {
    /// A gateway or Arweave node to read from; name several, and none of them need be trusted.
    #[arg(long, value_name = "URL", required = true, num_args = 1..)]
    pub from: Vec<String>,
    /// The wallet that posted the log, by its address or its key file (JWK); each of them, where the node posted by one
    /// and later by another.
    #[arg(long, value_name = "ADDRESS|FILE", value_parser = wallet)]
    pub wallet: Vec<Address>,
    /// A process in the log; its wallet is looked up. With --wallet: it must be there.
    #[arg(long, value_name = "ID", num_args = 1.., value_parser = process)]
    pub process: Vec<ProcessId>,
    /// The account that signed the newest of the log's segments (`keys/su.json`), where several nodes posted by one wallet.
    #[arg(long, value_name = "ADDRESS")]
    pub scheduler: Option<Address>,
    /// A newest carrier that is not to be had any more, or does not count: the log is taken back without it.
    #[arg(long, value_name = "ID")]
    pub leave_out: Vec<ItemId>,
    /// Data folder to make. It may hold `keys` already, and nothing else.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Configuration file (TOML): its limits count.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the result as JSON; progress goes to standard error as JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// An address, or the one under which a key file's transactions are posted.
fn wallet(text: &str) -> Result<Address, String> {
    let parsed: Result<Address, _> = text.parse();
    match (parsed, Path::new(text).is_file()) {
        (Ok(address), _) => Ok(address),
        (Err(_), true) => crate::wallet::payer(Path::new(text)).map_err(|error| format!("{error:#}")),
        (Err(error), false) => Err(format!("{error}, and no file has that name")),
    }
}

fn process(text: &str) -> Result<ProcessId, String> {
    let id: Result<ItemId, _> = text.parse();
    id.map(ProcessId::from).map_err(|error| error.to_string())
}
