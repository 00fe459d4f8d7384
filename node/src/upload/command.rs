//! `weft status`, `weft seal`, `weft upload preview`: what an operator asks a running node about its upload.
//!
//! Not here: what is told. Standard output holds the answer only; with `--json` it is the node's own.

use std::fmt::Write;
use std::time::Duration;

use aos_shell::Session;
use aos_shell::error::Problem;
use bytes::Bytes;
use clap::{Args, Subcommand, ValueHint};
use serde_json::Value;
use spec::ProcessId;
use spec::contract::Answer;
use wire::client::{Http, Limits, Reply};

use crate::admin::ADMIN_HEADER;
use crate::client::args::{NodeArgs, WalletArg};
use crate::client::{Done, Outlet, default_node};
use crate::upload::run::now_ms;

/// Winston in an AR.
const WINSTON_PER_AR: f64 = 1e12;
/// Between two looks of somebody who waits.
const WAIT_STEP: Duration = Duration::from_millis(500);
/// The states in the order that an item goes through.
const STATES: [&str; 5] = ["appended", "sealed", "posted", "mined", "permanent"];

/// Which node, and in which form.
#[derive(Args, Debug)]
pub struct AskArgs {
    /// Print the node's answer as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// The node's URL. Default: $WEFT_NODE, else http://127.0.0.1:8734.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    node: Option<String>,
}

/// `weft status`
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Of one process: its id, or the name of one of yours.
    #[arg(long, value_name = "NAME|ID")]
    process: Option<String>,
    /// The newest carriers instead, and the transactions that carry them.
    #[arg(long, value_name = "COUNT", num_args = 0..=1, default_missing_value = "20", conflicts_with_all = ["process", "wait"])]
    carriers: Option<u64>,
    /// Wait until everything that may be uploaded is permanent, then print.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `weft upload`
#[derive(Subcommand, Debug)]
pub enum UploadCommand {
    /// Ask what everything that waits would cost, and pay nothing.
    #[command(after_help = "\
With a node that has an upload route:
  weft upload preview            prices as the upstreams name them now
  weft upload preview --json     in winston")]
    Preview(AskArgs),
}

/// `weft status`: how far the permanent log got.
pub async fn status(args: &StatusArgs, outlet: &Outlet) -> Done {
    if let Some(most) = args.carriers {
        let answer = args
            .ask
            .run(&format!("/status?carriers={most}"), false, outlet)
            .await?;
        return args.ask.print(&answer, show_carriers, outlet);
    }
    let path = match &args.process {
        Some(process) => format!("/status?process-id={}", args.ask.process(process, outlet).await?),
        None => "/status".into(),
    };
    let mut answer = args.ask.run(&path, false, outlet).await?;
    while args.wait && is_waiting(&args.ask.read(&answer)?)? {
        tokio::time::sleep(WAIT_STEP).await;
        answer = args.ask.run(&path, false, outlet).await?;
    }
    args.ask.print(&answer, show_status, outlet)
}

/// Whether something is on its way. Where nothing can be, waiting would have no end.
fn is_waiting(status: &Value) -> Result<bool, Problem> {
    let is_left = |state: &&str| *state != "permanent" && number(&status["states"][*state]["items"]) > 0.0;
    match STATES.into_iter().any(|state| is_left(&state)) {
        false => Ok(false),
        true if status["uploads"] == true && status["dry_run"] != true => Ok(true),
        true => {
            let text = "something waits to be uploaded, and the node uploads nothing";
            Err(Problem::new("no-upload-route", text))
        }
    }
}

/// `weft seal`: what is open goes up at once.
pub async fn seal(args: &AskArgs, outlet: &Outlet) -> Done {
    let answer = args.run("/weft/seal", true, outlet).await?;
    args.print(
        &answer,
        |_| "sealed; `weft status` tells how far it gets\n".into(),
        outlet,
    )
}

/// `weft upload preview`
pub async fn preview(args: &AskArgs, outlet: &Outlet) -> Done {
    let answer = args.run("/weft/upload/preview", true, outlet).await?;
    args.print(&answer, show_preview, outlet)
}

impl AskArgs {
    fn url(&self) -> String {
        let node = self.node.clone().or_else(default_node);
        node.unwrap_or_else(|| format!("http://{}", crate::config::default_listen()))
    }

    /// The process that a text stands for. Only a name needs a key: it is the account's.
    async fn process(&self, text: &str, outlet: &Outlet) -> Result<ProcessId, Problem> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let args = NodeArgs {
            node: Some(self.url()),
            timeout: Limits::default().timeout_ms / 1000,
            wallet: WalletArg::default(),
            ..NodeArgs::default()
        };
        let (node, signer) = args.reach(outlet).await?;
        let found = args.within(Session::find(&node, signer.address(), text)).await?;
        let text = || format!("{} has no process named `{text}`", signer.address());
        found.ok_or_else(|| Problem::new("unknown-name", text()))
    }

    /// The node's JSON, as it came: its amounts can be larger than this program's JSON numbers.
    async fn run(&self, path: &str, is_post: bool, outlet: &Outlet) -> Result<Bytes, Problem> {
        let url = self.url();
        let http = Http::new(&url, &Limits::default())?.with_header(ADMIN_HEADER, "1");
        let asked = async {
            match is_post {
                true => http.post(path, "", Bytes::new()).await,
                false => http.get(path).await,
            }
        };
        let reply: Answer<Reply> = outlet.wait("asking the node", asked).await;
        let reply = reply?;
        let is_ours = reply.code.is_some() || (200..=299).contains(&reply.status);
        if reply.code.as_deref() == Some("no-route") {
            let text =
                format!("{url} has no weave and uploads nothing: ask the scheduler's or the gateway's node");
            return Err(Problem::new("role-missing", text));
        }
        if !is_ours {
            let text = format!(
                "{url}{path} answered with status {}: no node of ours",
                reply.status
            );
            return Err(Problem::new("not-weft", text));
        }
        Ok(reply.success()?)
    }

    fn read(&self, answer: &Bytes) -> Result<Value, Problem> {
        let no_json = |_| Problem::new("not-weft", format!("{} answered no JSON", self.url()));
        serde_json::from_slice(answer).map_err(no_json)
    }

    fn print(&self, answer: &Bytes, show: impl Fn(&Value) -> String, outlet: &Outlet) -> Done {
        let value = self.read(answer)?;
        match self.json {
            true => outlet.value(&String::from_utf8_lossy(answer)),
            false => outlet.value(show(&value).trim_end()),
        }
        Ok(0)
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn list(value: &Value) -> String {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn ar(winston: &Value) -> String {
    format!("{:.12} AR", number(winston) / WINSTON_PER_AR)
}

fn size(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (0..4).take_while(|step| bytes >= 1024f64.powi(step + 1)).count();
    let digits = usize::from(step > 0);
    format!("{:.digits$} {}", bytes / 1024f64.powi(step as i32), units[step])
}

fn age(ms: f64) -> String {
    let seconds = ms / 1000.0;
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

fn show_status(status: &Value) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let done = writeln!(out, "{text}");
        done.expect("text takes text");
    };
    match (status["uploads"].as_bool(), &status["process"]) {
        (Some(true), Value::String(process)) => line(format!("{process} is {}", text(&status["class"]))),
        (Some(true), _) => {
            line(format!("uploads to {}", list(&status["upstreams"])));
            line(format!(
                "by {}, paid by {}",
                routes(&status["routes"]),
                text(&status["wallet"])
            ));
        }
        _ => line(
            "nothing is uploaded: no upload route is configured (--upstream URL --upload-wallet FILE)".into(),
        ),
    }
    if status["dry_run"] == true {
        line("dry run: nothing is sealed, signed or paid".into());
    }
    let row = |name: &str, count: &Value| {
        format!(
            "{name:<10} {:>9} items {:>12}",
            count["items"],
            size(number(&count["bytes"]))
        )
    };
    STATES
        .iter()
        .for_each(|state| line(row(state, &status["states"][state])));
    if number(&status["local"]["items"]) > 0.0 {
        line(row("local", &status["local"]));
    }
    if let Some(ms) = status["oldest_unsettled_ms"].as_f64() {
        line(format!("oldest not permanent: {}", age(ms)));
    }
    let cost = &status["cost"];
    if number(&cost["spent"]) + number(&cost["committed"]) > 0.0 {
        line(format!(
            "cost {}, committed {}",
            ar(&cost["spent"]),
            ar(&cost["committed"])
        ));
    }
    if let Some(budget) = status.get("budget_per_day").filter(|budget| !budget.is_null()) {
        line(format!("today {} of {}", ar(&status["cost_today"]), ar(budget)));
    }
    if let Some(preview) = status.get("preview").filter(|preview| !preview.is_null()) {
        line(show_preview(preview).trim_end().into());
    }
    for alarm in status["alarms"].as_array().into_iter().flatten() {
        line(format!("ALARM {}: {}", text(alarm), remedy(text(alarm))));
    }
    if let Some(error) = status["last_error"]["text"].as_str() {
        let since_ms = now_ms() as f64 - number(&status["last_error"]["at_ms"]);
        line(format!("last error, {} ago: {error}", age(since_ms.max(0.0))));
    }
    out
}

/// What an alarm means, and what ends it.
fn remedy(alarm: &str) -> &'static str {
    match alarm {
        "silent" => "something waits and no upstream answers; are they up? `--upstream URL` names others",
        "late" => "something waits longer than `alarm_age_ms`; the last error says why, if there was one",
        "spool" => {
            "the spool is nearly full, and the scheduler refuses messages once it is; see the other alarms, or raise `spool_bytes_max`"
        }
        "deadline" => "a bundler's deadline is near, and there is no other route to fall back to",
        "budget" => {
            "today's budget does not cover the next carrier; it waits for the next day (UTC), or for more `budget_winston_per_day`"
        }
        "balance" => {
            "the wallet does not cover the next carrier: send it some AR; `weft upload preview` says how much is needed"
        }
        "failed" => "the uploader itself failed; see the last error, and the node's log",
        _ => "unknown to this program: it is older than the node",
    }
}

/// Routes in the order in which they are tried.
fn routes(names: &Value) -> String {
    let name = |name: &Value| match text(name) {
        "l1" => "the base layer".to_owned(),
        url => format!("the bundler {url}"),
    };
    let all: Vec<String> = names.as_array().into_iter().flatten().map(name).collect();
    all.join(", else ")
}

/// One line for each carrier, and one for each transaction or item that carries it.
fn show_carriers(answer: &Value) -> String {
    let mut out = String::new();
    let all = answer["carriers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for carrier in all {
        let (items, bytes) = (&carrier["items"], size(number(&carrier["bytes"])));
        let state = text(&carrier["state"]);
        let line = writeln!(
            out,
            "carrier {:<6} {state:<10} {items:>7} items {bytes:>11}",
            carrier["sequence"]
        );
        line.expect("text takes text");
        for vehicle in carrier["vehicles"].as_array().into_iter().flatten() {
            let place = match (vehicle["transaction"].as_str(), text(&vehicle["id"])) {
                (None, _) => "in no block yet".to_owned(),
                (Some(own), id) if own == id => format!("block {}", vehicle["height"]),
                (Some(other), _) => format!("in {other}, block {}", vehicle["height"]),
            };
            let by = routes(&Value::Array(vec![vehicle["route"].clone()]));
            writeln!(out, "  {} by {by}: {place}", text(&vehicle["id"])).expect("text takes text");
        }
    }
    match out.is_empty() {
        true => "nothing was bundled yet".into(),
        false => out,
    }
}

fn show_preview(preview: &Value) -> String {
    let (carriers, by) = (number(&preview["carriers"]) as u64, text(&preview["route"]));
    let place = match by {
        "l1" => "the wallet has",
        _ => "the wallet's account there has",
    };
    let has = format!("{place} {}", ar(&preview["balance"]));
    let mut out = match carriers {
        0 => format!("nothing waits; {has}\n"),
        _ => format!(
            "{carriers} carrier{} of {} by {} would cost {}; {has}\n",
            if carriers == 1 { "" } else { "s" },
            size(number(&preview["bytes"])),
            routes(&Value::Array(vec![by.into()])),
            ar(&preview["winston"]),
        ),
    };
    if !preview["budget_left"].is_null() {
        writeln!(out, "of today's budget {} is left", ar(&preview["budget_left"])).expect("text takes text");
    }
    out
}
