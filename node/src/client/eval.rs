//! `weft eval`: one evaluation, in a process that is there or in one of its own.

use std::sync::Arc;

use aos_shell::error::Problem;
use aos_shell::load::SourceMap;
use aos_shell::render::shown;
use aos_shell::{Node, Session};
use bytes::Bytes;
use serde_json::json;
use spec::contract::Evaluated;
use spec::{ModuleId, Outcome, Signer};

use super::args::{EvalArgs, NodeArgs};
use super::local::Local;
use super::target::module;
use super::{Done, Outlet, input};

/// Name of the process that lives as long as one command.
const OWN_NAME: &str = "eval";

/// Runs the command.
pub async fn eval(args: &EvalArgs, outlet: &Outlet) -> Done {
    let program = input::read(&args.execute, args.file.as_deref())?;
    if args.process.is_none() && !args.node.is_named() {
        let local = Local::brief(None).await?;
        let signer = match &args.node.wallet.wallet {
            Some(_) => args.node.wallet.signer()?,
            // Nobody else will ever talk to this process.
            None => local.signer(),
        };
        let session = own(&args.node, local.client(), signer, args.module).await;
        let done = match session {
            Ok(session) => run(args, &session, &program, outlet).await,
            Err(problem) => Err(problem),
        };
        local.close().await;
        return done;
    }
    let session = match &args.process {
        Some(name) => args.node.open(name, outlet).await?,
        None => {
            let (node, signer) = args.node.reach(outlet).await?;
            own(&args.node, node, signer, args.module).await?
        }
    };
    run(args, &session, &program, outlet).await
}

async fn own(
    within: &NodeArgs,
    node: Arc<Node>,
    signer: Arc<Signer>,
    named: Option<ModuleId>,
) -> Result<Session, Problem> {
    let module = module(&node, named)?;
    let spawned = Session::spawn(
        node,
        signer,
        OWN_NAME,
        module,
        Vec::new(),
        Bytes::from_static(b" "),
    );
    within.within(spawned).await
}

async fn run(args: &EvalArgs, session: &Session, program: &input::Program, outlet: &Outlet) -> Done {
    let evaluated = args.node.within(session.eval(&program.chunk));
    let at = outlet.wait("evaluating", evaluated).await?;
    check(&at.outcome, Some(&program.map))?;
    match args.json {
        true => outlet.json(&as_json(&at, session)),
        false => outlet.outcome(&at.outcome),
    }
    Ok(0)
}

/// The error of an outcome, if it is one.
pub fn check(outcome: &Outcome, map: Option<&SourceMap>) -> Result<(), Problem> {
    match Problem::of_outcome(outcome, map) {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

fn as_json(at: &Evaluated, session: &Session) -> serde_json::Value {
    json!({
        "ok": true, "value": shown(&at.outcome).text, "process": session.process, "message": at.message,
        "slot": at.slot, "gas": at.outcome.gas_used, "output": at.outcome.output,
        "messages": at.outcome.messages, "spawns": at.outcome.spawns, "assignments": at.outcome.assignments,
    })
}
