//! The commands that talk to processes: arguments in, calls into `aos-shell`, one way out for errors.
//!
//! Standard output holds values only. Not here: what is said to a node, which `aos-shell` knows.

pub mod args;
mod ask;
mod dev;
mod eval;
mod input;
mod local;
mod outlet;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use aos_shell::error::{EXIT_USAGE, Problem};

use crate::upload::command as upload;

pub use self::outlet::Outlet;
pub use self::target::default_node;

/// What a command gives back: its exit status, or why there is none of its own.
pub type Done = Result<u8, Problem>;

/// How long a thread that still evaluates may hold the program back, in ms.
const LEAVE_MS: u64 = 50;
/// What a command that was interrupted exits with.
const EXIT_INTERRUPTED: u8 = 130;

/// A command of this folder.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// A node, a process and a prompt in this program; temporary unless kept.
    #[command(after_help = "\
Examples:
  weft dev bank --load bank.lua    a process named bank, with a file loaded
  weft dev bank --keep ./data       the same process again tomorrow")]
    Dev(args::DevArgs),
    /// The prompt of a process on a running node.
    #[command(after_help = "\
Examples:
  echo 'return Name' | weft shell default    one evaluation from a pipe
  weft shell fresh --spawn < bank.lua        spawns the process if it is not there")]
    Shell(args::ShellArgs),
    /// Evaluate Lua and print the value: 0 done, 1 Lua error, 2 usage or transport, 124 no answer in time.
    #[command(after_help = "\
Examples:
  weft eval -e '1 + 1'                    in a process of its own, offline
  weft eval bank.lua --json               a file and the modules it requires
  echo 'return #\"abc\"' | weft eval -     standard input
  weft eval --process default -e 'Name'   in a process of a running node")]
    Eval(args::EvalArgs),
    /// Make a process and print its id.
    #[command(after_help = "\
Examples:
  weft spawn counter                       prints its id
  weft spawn vault --load bank.lua --tag Kind=Bank")]
    Spawn(args::SpawnArgs),
    /// Send a message to a process and print what it answers.
    #[command(after_help = "\
Examples:
  weft send default --action Ping --data hello
  weft send default --action Ping --no-wait    prints the message id")]
    Send(args::SendArgs),
    /// Evaluate without sending: nothing changes.
    #[command(after_help = "\
Examples:
  weft dry default -e 'Owner'")]
    Dry(args::DryArgs),
    /// Print the outcome of a message.
    #[command(after_help = "\
Examples:
  weft result \"$(weft send default --action Ping --no-wait)\"")]
    Result(args::ResultArgs),
    /// Print what a message caused, as a tree.
    #[command(after_help = "\
Examples:
  weft trace \"$(weft send default --action Ping --no-wait)\"")]
    Trace(args::TraceArgs),
    /// List processes: id, slot, name.
    #[command(after_help = "\
Examples:
  weft ps
  weft ps --all --json")]
    Ps(args::PsArgs),
    /// Print how far the permanent log got: items and bytes by state, age, cost, what is wrong.
    #[command(after_help = "\
Examples:
  weft status                     the whole node
  weft status --json
  weft status --process default   one process
With a node that has an upload route:
  weft status --wait              until everything is permanent")]
    Status(upload::StatusArgs),
    /// Seal the open part of the permanent log, so that it is uploaded now.
    #[command(after_help = "\
With a node that has an upload route:
  weft seal    its messages go up without waiting for more")]
    Seal(upload::AskArgs),
    /// Uploading: what it would cost.
    #[command(subcommand)]
    Upload(upload::UploadCommand),
    /// Make a data folder from what a node published: its log byte for byte, and every state in it.
    Rebuild(crate::rebuild::RebuildArgs),
    /// Write a file that shows an item's place in its log and on the weave, to be checked without any network.
    #[command(after_help = "\
Where something went up:
  weft prove ID                               from what the running node uploads to
  weft prove ID --from GATEWAY -o my.proof    from any gateway that has it")]
    Prove(crate::proof::args::ProveArgs),
    /// Check a proof file or a fraud file, offline; or replay the whole log of a process.
    #[command(after_help = "\
Examples:
  weft verify my.proof                    what it shows, and what it only claims
  weft verify my.proof --json
With a gateway, or a stopped node's folder:
  weft verify my.proof --from GATEWAY     the claims held against the chain
  weft verify --process ID --full --data DIR       a stopped node's whole log, replayed
  weft verify --process ID --full --from GATEWAY   anybody's")]
    Verify(crate::proof::args::VerifyArgs),
    /// Follow another scheduler's log from gateways alone: verified, evaluated, as it grows.
    #[command(after_help = "\
With a gateway:
  weft follow PROCESS --from GATEWAY           prints slot and state root whenever the log has grown
  weft follow PROCESS --from GATEWAY --once    up to what is there now")]
    Follow(crate::follow::args::FollowArgs),
    /// Say why an error comes about and what to do.
    #[command(after_help = "\
Examples:
  weft explain unreachable")]
    Explain(args::ExplainArgs),
}

/// Runs a command to its end.
pub fn run(command: Command) -> ExitCode {
    let outlet = Outlet::new(command.is_json());
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "error".into());
    wire::telemetry::start_logs(&filter, wire::telemetry::LogForm::Text);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return outlet.fail(&Problem::new("internal", format!("no threads: {error}"))),
    };
    let done = runtime.block_on(command.run(&outlet));
    runtime.shutdown_timeout(Duration::from_millis(LEAVE_MS));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(problem) => outlet.fail(&problem),
    }
}

impl Command {
    fn is_json(&self) -> bool {
        match self {
            Command::Eval(args) => args.json,
            Command::Spawn(args) => args.json,
            Command::Send(args) => args.json,
            Command::Dry(args) => args.json,
            Command::Result(args) => args.json,
            Command::Trace(args) => args.json,
            Command::Ps(args) => args.json,
            Command::Status(args) => args.ask.json,
            Command::Seal(args) | Command::Upload(upload::UploadCommand::Preview(args)) => args.json,
            Command::Rebuild(args) => args.json,
            Command::Prove(args) => args.json,
            Command::Verify(args) => args.json,
            Command::Follow(args) => args.json,
            Command::Dev(_) | Command::Shell(_) | Command::Explain(_) => false,
        }
    }

    async fn run(self, outlet: &Outlet) -> Done {
        match self {
            Command::Dev(args) => dev::dev(&args, outlet).await,
            Command::Shell(args) => dev::shell(&args, outlet).await,
            Command::Eval(args) => interruptible(eval::eval(&args, outlet)).await,
            Command::Spawn(args) => interruptible(ask::spawn(&args, outlet)).await,
            Command::Send(args) => interruptible(ask::send(&args, outlet)).await,
            Command::Dry(args) => interruptible(ask::dry(&args, outlet)).await,
            Command::Result(args) => interruptible(ask::result(&args, outlet)).await,
            Command::Trace(args) => interruptible(ask::trace(&args, outlet)).await,
            Command::Ps(args) => interruptible(ask::ps(&args, outlet)).await,
            Command::Status(args) => interruptible(upload::status(&args, outlet)).await,
            Command::Seal(args) => interruptible(upload::seal(&args, outlet)).await,
            Command::Upload(upload::UploadCommand::Preview(args)) => {
                interruptible(upload::preview(&args, outlet)).await
            }
            Command::Rebuild(args) => interruptible(crate::rebuild::run(&args, outlet)).await,
            Command::Prove(args) => interruptible(crate::proof::prove(&args, outlet)).await,
            Command::Verify(args) => interruptible(crate::proof::verify(&args, outlet)).await,
            Command::Follow(args) => interruptible(crate::follow::follow(&args, outlet)).await,
            Command::Explain(args) => explain(&args, outlet),
        }
    }
}

/// Ctrl-C and SIGTERM end a command the same way as its end does: what it made for itself is removed.
async fn interruptible(command: impl Future<Output = Done>) -> Done {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let mut terminate = terminate.map_err(|error| Problem::new("internal", error.to_string()))?;
    tokio::select! {
        done = command => done,
        _ = tokio::signal::ctrl_c() => Ok(EXIT_INTERRUPTED),
        _ = terminate.recv() => Ok(EXIT_INTERRUPTED),
    }
}

fn explain(args: &args::ExplainArgs, outlet: &Outlet) -> Done {
    let Some(entry) = aos_shell::catalogue::find(&args.code) else {
        let known = aos_shell::catalogue::SECTIONS
            .iter()
            .flat_map(|(_, entries)| *entries);
        let near = known
            .map(|entry| (strsim::jaro_winkler(entry.code, &args.code), entry.code))
            .filter(|(score, _)| *score > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let near = near
            .map(|(_, code)| format!("; did you mean `{code}`?"))
            .unwrap_or_default();
        outlet.note(&format!("no error has the code `{}`{near}", args.code));
        return Ok(EXIT_USAGE);
    };
    outlet.value(&format!(
        "{}\n  why: {}\n  try: {}",
        entry.code, entry.why, entry.remedy
    ));
    Ok(0)
}
