//! What the commands that talk to processes take. Not here: what they do.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use spec::{Address, ItemId, ModuleId, ProcessId};

/// Which node, and under which key.
#[derive(Args, Debug, Clone, Default)]
pub struct NodeArgs {
    /// The node's URL. Default: $WEFT_NODE, else http://127.0.0.1:8734.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub node: Option<String>,
    /// Messenger unit of a legacynet, in place of --node.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = "Legacynet")]
    pub mu_url: Option<String>,
    /// Compute unit of a legacynet.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = "Legacynet")]
    pub cu_url: Option<String>,
    /// Scheduler unit of a legacynet; only traces need it.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = "Legacynet")]
    pub su_url: Option<String>,
    /// Gateway of a legacynet.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = "Legacynet")]
    pub gateway_url: Option<String>,
    /// Scheduler of new processes, where the node does not say.
    #[arg(long, value_name = "ADDRESS", help_heading = "Legacynet")]
    pub scheduler: Option<Address>,
    /// Authority of new processes, where the node does not say.
    #[arg(long, value_name = "ADDRESS", help_heading = "Legacynet")]
    pub authority: Option<Address>,
    #[command(flatten)]
    pub wallet: WalletArg,
    /// Seconds to wait for an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

/// Under which key.
#[derive(Args, Debug, Clone, Default)]
pub struct WalletArg {
    /// Key that signs (JWK). Default: one in your configuration folder, made at first use.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub wallet: Option<PathBuf>,
}

/// `weft dev`, and `weft` alone
#[derive(Args, Debug, Clone, Default)]
pub struct DevOptions {
    /// Keep the data in this folder; without it all is gone at the end.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub keep: Option<PathBuf>,
    /// Address to listen on. Default: 127.0.0.1:8734, or a free port if that one is taken.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Load this Lua file, and the modules it requires, before the prompt; may be given again.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub load: Vec<PathBuf>,
    /// The module of the process. Default: the aos kernel that comes along.
    #[arg(long, value_name = "ID")]
    pub module: Option<ModuleId>,
    #[command(flatten)]
    pub wallet: WalletArg,
}

/// `weft dev`
#[derive(Args, Debug, Clone, Default)]
pub struct DevArgs {
    /// Name of the process: found, or else spawned. Default: `default`.
    pub name: Option<String>,
    #[command(flatten)]
    pub options: DevOptions,
}

impl DevArgs {
    /// Name of the process.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("default")
    }
}

/// `weft shell`
#[derive(Args, Debug)]
pub struct ShellArgs {
    /// Name or id of the process.
    #[arg(value_name = "NAME|ID", default_value = "default")]
    pub process: String,
    /// Spawn the process if there is none of that name.
    #[arg(long)]
    pub spawn: bool,
    /// The module to spawn with. Default: the node's kernel.
    #[arg(long, value_name = "ID")]
    pub module: Option<ModuleId>,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `weft eval`
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// A Lua file, with the local modules it requires; `-` is standard input.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Lua to evaluate; may be given again for further lines.
    #[arg(short, long = "execute", value_name = "CODE", conflicts_with = "file")]
    pub execute: Vec<String>,
    /// Evaluate in this process (name or id). Default: a process of its own, made and gone with the command.
    #[arg(long, value_name = "NAME|ID")]
    pub process: Option<String>,
    /// The module of a process of its own. Default: the aos kernel.
    #[arg(long, value_name = "ID", conflicts_with = "process")]
    pub module: Option<ModuleId>,
    /// Print one JSON object: the value, or the error.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `weft spawn`
#[derive(Args, Debug)]
pub struct SpawnArgs {
    /// Name of the process.
    pub name: String,
    /// The module. Default: the node's kernel.
    #[arg(long, value_name = "ID")]
    pub module: Option<ModuleId>,
    /// A tag of the process; may be given again.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    pub tags: Vec<String>,
    /// Evaluate this Lua file in it afterwards.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub load: Vec<PathBuf>,
    /// Spawn even if you have a process of that name.
    #[arg(long)]
    pub again: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `weft send`
#[derive(Args, Debug)]
pub struct SendArgs {
    /// Name or id of the process.
    #[arg(value_name = "NAME|ID")]
    pub process: String,
    /// The tag Action.
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Another tag; may be given again.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    pub tags: Vec<String>,
    /// The data; `-` is standard input.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub data: String,
    /// Do not wait for the outcome; print the message's id alone.
    #[arg(long)]
    pub no_wait: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `weft dry`
#[derive(Args, Debug)]
pub struct DryArgs {
    /// Name or id of the process.
    #[arg(value_name = "NAME|ID")]
    pub process: String,
    /// Lua to evaluate without sending it.
    #[arg(short, long = "execute", value_name = "CODE", conflicts_with_all = ["action", "tags", "data"])]
    pub execute: Vec<String>,
    /// The tag Action of a message instead.
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Another tag; may be given again.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    pub tags: Vec<String>,
    /// The data.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub data: String,
    /// Print the whole outcome as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `weft result`
#[derive(Args, Debug)]
pub struct ResultArgs {
    /// The message.
    #[arg(value_name = "MESSAGE")]
    pub message: ItemId,
    /// The process. Default: the one that the message is for.
    #[arg(long, value_name = "ID")]
    pub process: Option<ProcessId>,
    /// Print the whole outcome as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `weft trace`
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// The message.
    #[arg(value_name = "MESSAGE")]
    pub message: ItemId,
    /// The process. Default: the one that the message is for.
    #[arg(long, value_name = "ID")]
    pub process: Option<ProcessId>,
    /// Print the tree as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `weft ps`
#[derive(Args, Debug)]
pub struct PsArgs {
    /// The processes of every account, not only of yours.
    #[arg(long, short)]
    pub all: bool,
    /// Print them as a JSON list.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `weft explain`
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The code in brackets after `error`.
    pub code: String,
}
