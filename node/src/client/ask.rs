//! `weft spawn`, `send`, `dry`, `result`, `trace`, `ps`: one question to a node each.

use aos_shell::error::{EXIT_LUA, Problem};
use aos_shell::{Session, trace as way};
use bytes::Bytes;
use serde_json::json;
use spec::contract::Evaluated;
use spec::{ItemId, Outcome, ProcessId, Tag, Tags};

use super::args::{DryArgs, PsArgs, ResultArgs, SendArgs, SpawnArgs, TraceArgs};
use super::target::{module, tags};
use super::{Done, Outlet, eval, input};

/// Processes whose slots are asked for at once.
const PARALLEL: usize = 16;

/// `weft spawn`: prints the process's id.
pub async fn spawn(args: &SpawnArgs, outlet: &Outlet) -> Done {
    let extra = tags(&args.tags)?;
    let programs: Vec<_> = args
        .load
        .iter()
        .map(|path| input::file(path))
        .collect::<Result<_, _>>()?;
    let (node, signer) = args.node.reach(outlet).await?;
    let module = module(&node, args.module)?;
    let found = args
        .node
        .within(Session::find(&node, signer.address(), &args.name))
        .await?;
    if let Some(id) = found.filter(|_| !args.again) {
        return Err(Problem::new(
            "name-taken",
            format!("{id} is named `{}`", args.name),
        ));
    }
    let spawned = Session::spawn(node, signer, &args.name, module, extra, Bytes::from_static(b" "));
    let session = outlet.wait("spawning", args.node.within(spawned)).await?;
    for program in &programs {
        let at = outlet
            .wait("loading", args.node.within(session.eval(&program.chunk)))
            .await?;
        eval::check(&at.outcome, Some(&program.map))?;
    }
    match args.json {
        true => outlet
            .json(&json!({ "ok": true, "process": session.process, "name": args.name, "module": module })),
        false => outlet.value(&session.process.to_string()),
    }
    Ok(0)
}

fn message_tags(action: Option<&String>, texts: &[String]) -> Result<Tags, Problem> {
    let action = action.map(|action| Tag::new("Action", action.clone()));
    Ok(action.into_iter().chain(tags(texts)?).collect())
}

/// `weft send`: prints what the process answers; with `--no-wait` the message's id.
pub async fn send(args: &SendArgs, outlet: &Outlet) -> Done {
    let tags = message_tags(args.action.as_ref(), &args.tags)?;
    let data = match args.data.as_str() {
        "-" => input::stdin()?,
        data => data.to_owned(),
    };
    let session = args.node.open(&args.process, outlet).await?;
    let id = args
        .node
        .within(session.send(session.process, tags, Bytes::from(data)))
        .await?;
    if args.no_wait {
        match args.json {
            true => outlet.json(&json!({ "ok": true, "message": id, "process": session.process })),
            false => outlet.value(&id.to_string()),
        }
        return Ok(0);
    }
    if !args.json {
        outlet.note(&format!("message {id}"));
    }
    let at = outlet
        .wait("waiting for the outcome", args.node.within(session.result(id)))
        .await?;
    show(&at, session.process, args.json, outlet)
}

/// `weft dry`: the outcome of a message that is not sent.
pub async fn dry(args: &DryArgs, outlet: &Outlet) -> Done {
    let program = match args.action.is_some() || !args.tags.is_empty() || !args.data.is_empty() {
        true => None,
        false => Some(input::read(&args.execute, None)?),
    };
    let tags = message_tags(args.action.as_ref(), &args.tags)?;
    let session = args.node.open(&args.process, outlet).await?;
    let outcome = match &program {
        Some(program) => args.node.within(session.dry(&program.chunk)).await?,
        None => {
            let asked = session.dry_message(session.process, &tags, &args.data);
            args.node.within(asked).await?
        }
    };
    if args.json {
        outlet.json(&*outcome);
        return Ok(if outcome.is_error() { EXIT_LUA } else { 0 });
    }
    eval::check(&outcome, program.as_ref().map(|program| &program.map))?;
    outlet.outcome(&outcome);
    note_outbox(&outcome, outlet);
    Ok(0)
}

/// What would be sent, or was: one line, if there is anything.
fn note_outbox(outcome: &Outcome, outlet: &Outlet) {
    let count =
        |json: &str| serde_json::from_str::<Vec<serde::de::IgnoredAny>>(json).map_or(0, |all| all.len());
    let parts = [
        (count(outcome.messages.get()), "messages"),
        (count(outcome.spawns.get()), "spawns"),
        (count(outcome.assignments.get()), "assignments"),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    if !parts.is_empty() {
        outlet.note(&format!("outbox: {}", parts.join(", ")));
    }
}

/// `weft result`: the outcome of a message that was sent before.
pub async fn result(args: &ResultArgs, outlet: &Outlet) -> Done {
    let (node, _) = args.node.reach(outlet).await?;
    let process = match args.process {
        Some(process) => process,
        None => args.node.within(way::process_of(&node, args.message)).await?,
    };
    let asked = node.compute.result(process, args.message);
    let at = outlet
        .wait("waiting for the outcome", args.node.within(asked))
        .await?;
    show(&at, process, args.json, outlet)
}

fn show(at: &Evaluated, process: ProcessId, is_json: bool, outlet: &Outlet) -> Done {
    if is_json {
        let is_error = at.outcome.is_error();
        outlet.json(&json!({
            "ok": !is_error, "process": process, "message": at.message, "slot": at.slot,
            "timestamp": at.tick.timestamp_ms, "outcome": &*at.outcome,
        }));
        return Ok(if is_error { EXIT_LUA } else { 0 });
    }
    eval::check(&at.outcome, None)?;
    outlet.outcome(&at.outcome);
    note_outbox(&at.outcome, outlet);
    Ok(0)
}

/// `weft trace`: what a message caused.
pub async fn trace(args: &TraceArgs, outlet: &Outlet) -> Done {
    let (node, _) = args.node.reach(outlet).await?;
    let found = async {
        let process = match args.process {
            Some(process) => process,
            None => way::process_of(&node, args.message).await?,
        };
        way::trace(&node, process, args.message).await
    };
    let tree = outlet
        .wait("following the message", args.node.within(found))
        .await?;
    match args.json {
        true => outlet.json(&tree),
        false => outlet.value(tree.render(outlet.style()).trim_end()),
    }
    Ok(0)
}

/// One line of `weft ps`.
#[derive(serde::Serialize)]
struct Row {
    id: ItemId,
    name: String,
    module: Option<spec::ModuleId>,
    slot: Option<u64>,
}

/// `weft ps`: the processes of an account, newest first.
pub async fn ps(args: &PsArgs, outlet: &Outlet) -> Done {
    use futures_util::StreamExt;
    let (node, signer) = args.node.reach(outlet).await?;
    let owner = (!args.all).then(|| signer.address());
    let listed = outlet
        .wait(
            "asking the gateway",
            args.node.within(Session::list(&node, owner)),
        )
        .await?;
    let rows = futures_util::stream::iter(listed).map(|listed| {
        let scheduler = node.scheduler.clone();
        async move {
            // The gateway may know processes of other schedulers: those have no slot here.
            let latest = scheduler.latest(listed.id).await.ok();
            Row {
                id: listed.id.into(),
                name: listed.name,
                module: listed.module,
                slot: latest.map(|entry| entry.assignment.slot),
            }
        }
    });
    let rows: Vec<Row> = rows.buffered(PARALLEL).collect().await;
    if args.json {
        outlet.json(&rows);
        return Ok(0);
    }
    let plain = |text: &str| aos_shell::render::safe(text, aos_shell::render::Style::default());
    for row in &rows {
        let slot = row.slot.map_or_else(|| "-".into(), |slot| slot.to_string());
        outlet.value(&format!("{}  {slot:>8}  {}", row.id, plain(&row.name)));
    }
    if rows.is_empty() {
        outlet.note("no processes; `weft spawn NAME` makes one");
    }
    Ok(0)
}
