//! `weft dev` and `weft shell`: a process and a prompt; `dev` brings the node along.
//!
//! Without a terminal, Lua is read from standard input, evaluated, and that is all.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use aos_shell::error::Problem;
use aos_shell::repl;
use aos_shell::{Node, Session};
use bytes::Bytes;
use spec::{ModuleId, Signer};
use tokio::signal::unix::{SignalKind, signal};

use super::args::{DevArgs, NodeArgs, ShellArgs};
use super::input::Program;
use super::local::Local;
use super::target::module;
use super::{Done, Outlet, eval, input};
use crate::serve::Listening;

/// Whether somebody sits there.
fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Everything that is evaluated where nobody sits there, read before anything is started.
fn script(load: &[PathBuf]) -> Result<Vec<Program>, Problem> {
    let mut programs: Vec<Program> = load
        .iter()
        .map(|path| input::file(path))
        .collect::<Result<_, _>>()?;
    let last = input::text(&input::stdin()?, "stdin")?;
    if !last.chunk.is_empty() || programs.is_empty() {
        programs.push(last);
    }
    Ok(programs)
}

/// `weft dev`
pub async fn dev(args: &DevArgs, outlet: &Outlet) -> Done {
    let options = &args.options;
    let script = match is_interactive() {
        true => None,
        false => Some(script(&options.load)?),
    };
    let local = match &options.keep {
        Some(folder) => {
            outlet
                .wait("opening the node", Local::kept(folder, options.listen))
                .await?
        }
        None if script.is_some() => Local::brief(options.listen).await?,
        None => Local::sitting(options.listen).await?,
    };
    let listening = match script.is_none() || options.listen.is_some() {
        true => Some(
            Listening::start(&local.node, &local.config)
                .await
                .map_err(cannot_listen)?,
        ),
        false => None,
    };
    let signer = options.wallet.signer_or(&local.node.data);
    let done = match signer {
        Ok(signer) => {
            let is_script = script.is_some();
            let work = sit(args, &local, listening.as_ref(), signer, script, outlet);
            until_told(work, is_script).await
        }
        Err(problem) => Err(problem),
    };
    if let Some(listening) = listening {
        listening.stop().await;
    }
    local.close().await;
    done
}

fn cannot_listen(error: anyhow::Error) -> Problem {
    Problem::new("listen", format!("{error:#}"))
}

async fn sit(
    args: &DevArgs,
    local: &Local,
    listening: Option<&Listening>,
    signer: Arc<Signer>,
    script: Option<Vec<Program>>,
    outlet: &Outlet,
) -> Done {
    let options = &args.options;
    let node = local.client();
    let session = outlet
        .wait(
            "booting the process",
            open_or_spawn(node, signer, args.name(), options.module, true),
        )
        .await?;
    if let Some(script) = script {
        return evaluate(&session, &script, outlet).await;
    }
    if let Some(listening) = listening {
        let kept = local.kept_at().map_or_else(
            || "data goes with this program; --keep DIR keeps it".to_owned(),
            |folder| format!("data in {}", folder.display()),
        );
        outlet.note(&format!(
            "weft {}  {}  {kept}",
            env!("CARGO_PKG_VERSION"),
            listening.url
        ));
        outlet.note(&format!("process {} {}", args.name(), session.process));
    }
    // The process of a temporary node is another every time: its history goes by the name.
    let history = local.kept_at().is_none().then(|| format!("dev-{}", args.name()));
    tell_decisions(&session, outlet).await;
    prompt(session, options.load.clone(), history, outlet).await
}

/// What the node decided at spawn otherwise than the process asked: whoever works with it must know.
async fn tell_decisions(session: &Session, outlet: &Outlet) {
    let Ok(entry) = session.node.scheduler.process(session.process).await else {
        return;
    };
    let plain = |text: &str| aos_shell::render::safe(text, aos_shell::render::Style::default());
    if let Some(named) = entry.assignment.adopted_from() {
        let named = plain(named);
        outlet.note(&format!(
            "adopted: it names the scheduler {named}; it never leaves this machine"
        ));
    }
    if let Ok(Some(module)) = entry.assignment.module_used() {
        outlet.note(&format!(
            "it runs {module} in place of the published module it names"
        ));
    }
}

/// The process of a name; spawned if it may be and there is none.
async fn open_or_spawn(
    node: Arc<Node>,
    signer: Arc<Signer>,
    name: &str,
    named: Option<ModuleId>,
    may_spawn: bool,
) -> Result<Session, Problem> {
    if !may_spawn || name.parse::<spec::ProcessId>().is_ok() {
        return Ok(Session::open(node, signer, name).await?);
    }
    // A lookup that fails ends here: only a lookup that found nothing spawns.
    match Session::find(&node, signer.address(), name).await? {
        Some(process) => Ok(Session::of(node, signer, process, name)),
        None => {
            let module = module(&node, named)?;
            let data = Bytes::from_static(b" ");
            Ok(Session::spawn(node, signer, name, module, Vec::new(), data).await?)
        }
    }
}

/// `weft shell`
pub async fn shell(args: &ShellArgs, outlet: &Outlet) -> Done {
    let script = match is_interactive() {
        true => None,
        false => Some(script(&[])?),
    };
    let (node, signer) = args.node.reach(outlet).await?;
    let opened = open_or_spawn(node, signer, &args.process, args.module, args.spawn);
    let session = outlet
        .wait("opening the process", in_time(&args.node, opened))
        .await?;
    let work = async {
        match &script {
            Some(script) => in_time(&args.node, evaluate(&session, script, outlet)).await,
            None => {
                tell_decisions(&session, outlet).await;
                prompt(session.clone(), Vec::new(), None, outlet).await
            }
        }
    };
    until_told(work, script.is_some()).await
}

async fn in_time<T>(node: &NodeArgs, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let limit = std::time::Duration::from_secs(node.timeout);
    let late = |_| Problem::new("timeout", format!("no answer within {} s", node.timeout));
    tokio::time::timeout(limit, work).await.map_err(late)?
}

async fn evaluate(session: &Session, script: &[Program], outlet: &Outlet) -> Done {
    for program in script {
        let at = outlet.wait("evaluating", session.eval(&program.chunk)).await?;
        eval::check(&at.outcome, Some(&program.map))?;
        outlet.outcome(&at.outcome);
    }
    Ok(0)
}

/// Programs that `.load-blueprint` knows.
const BLUEPRINTS: [(&str, &str); 8] = [
    ("arena", include_str!("../../../processes/arena/arena.lua")),
    ("chat", include_str!("../../../processes/chat/chat.lua")),
    (
        "chatroom",
        include_str!("../../../processes/chatroom/chatroom.lua"),
    ),
    ("infer", include_str!("../../../processes/infer/infer.lua")),
    ("names", include_str!("../../../processes/names/names.lua")),
    ("staking", include_str!("../../../processes/staking/staking.lua")),
    ("token", include_str!("../../../processes/token/token.lua")),
    ("voting", include_str!("../../../processes/voting/voting.lua")),
];

async fn prompt(session: Session, load: Vec<PathBuf>, history: Option<String>, outlet: &Outlet) -> Done {
    let owned = |(name, source): (&str, &str)| (name.to_owned(), source.to_owned());
    let options = repl::Options {
        folder: repl::Options::state_folder(),
        history,
        style: outlet.style(),
        blueprints: BLUEPRINTS.map(owned).to_vec(),
        load,
    };
    let ended = repl::run(session, options).await;
    let failed = |error: std::io::Error| Problem::new("no-terminal", error.to_string());
    ended.map(|()| 0).map_err(failed)
}

/// A signal ends the work in order, so that temporary data goes. At the prompt Ctrl-C is a key.
async fn until_told(work: impl Future<Output = Done>, is_script: bool) -> Done {
    let listen = |kind| signal(kind).map_err(|error| Problem::new("internal", error.to_string()));
    let (mut terminate, mut hang_up) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        done = work => done,
        _ = terminate.recv() => Ok(0),
        _ = hang_up.recv() => Ok(0),
        _ = interrupt.recv(), if is_script => Ok(super::EXIT_INTERRUPTED),
    }
}
