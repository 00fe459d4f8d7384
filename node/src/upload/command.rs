//! `weft status`, `weft seal`, `weft upload preview`: what an operator asks a running node about its upload.
//!
//! Not here: what is told. Standard output holds the answer only; with `--json` it is the node's own.

use std::fmt::Write;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::Value;
use spec::ProcessId;
use wire::client::{Http, Limits, Reply};

use crate::admin::ADMIN_HEADER;
use crate::client::default_node;

/// Winston in an AR.
const WINSTON_PER_AR: f64 = 1e12;
/// The states in the order that an item goes through.
const STATES: [&str; 5] = ["appended", "sealed", "posted", "mined", "permanent"];

/// Which node, and in which form.
#[derive(Args, Debug)]
pub struct AskArgs {
    /// Print the node's answer as one JSON object.
    #[arg(long)]
    json: bool,
    /// The node's URL. Default: $WEFT_NODE, else http://127.0.0.1:8734.
    #[arg(long, value_name = "URL")]
    node: Option<String>,
}

/// `weft status`
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Of one process.
    #[arg(long, value_name = "ID")]
    process: Option<ProcessId>,
    #[command(flatten)]
    ask: AskArgs,
}

/// `weft upload`
#[derive(Subcommand, Debug)]
pub enum UploadCommand {
    /// Ask what everything that waits would cost, and pay nothing.
    #[command(after_help = "\
Examples:
  weft upload preview            prices as the upstreams name them now")]
    Preview(AskArgs),
}

/// `weft status`: how far the permanent log got.
pub fn status(args: &StatusArgs) -> Result<()> {
    let path = match args.process {
        Some(process) => format!("/status?process-id={process}"),
        None => "/status".into(),
    };
    let answer = args.ask.run(&path, false)?;
    args.ask.print(&answer, show_status)
}

/// `weft seal`: what is open goes up at once.
pub fn seal(args: &AskArgs) -> Result<()> {
    let answer = args.run("/weft/seal", true)?;
    args.print(&answer, |_| {
        "sealed; `weft status` tells how far it gets\n".into()
    })
}

/// `weft upload preview`
pub fn preview(args: &AskArgs) -> Result<()> {
    let answer = args.run("/weft/upload/preview", true)?;
    args.print(&answer, show_preview)
}

impl AskArgs {
    /// The node's JSON, as it came: its amounts can be larger than this program's JSON numbers.
    fn run(&self, path: &str, is_post: bool) -> Result<Bytes> {
        let node = self.node.clone().or_else(default_node);
        let url = node.unwrap_or_else(|| format!("http://{}", crate::config::default_listen()));
        let http = Http::new(&url, &Limits::default())?.with_header(ADMIN_HEADER, "1");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let reply: Reply = runtime.block_on(async {
            match is_post {
                true => http.post(path, "", Bytes::new()).await,
                false => http.get(path).await,
            }
        })?;
        Ok(reply.success()?)
    }

    fn print(&self, answer: &Bytes, show: impl Fn(&Value) -> String) -> Result<()> {
        let text = match self.json {
            true => format!("{}\n", String::from_utf8_lossy(answer)),
            false => show(&serde_json::from_slice(answer).context("the node's answer is no JSON")?),
        };
        std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).context("cannot print")
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
                "first by {}, paid by {}",
                list(&status["routes"]),
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
    let alarms = list(&status["alarms"]);
    if !alarms.is_empty() {
        line(format!("ALARM: {alarms}"));
    }
    if let Some(error) = status["last_error"]["text"].as_str() {
        line(format!("last error: {error}"));
    }
    out
}

fn show_preview(preview: &Value) -> String {
    let mut out = format!(
        "{} carriers of {} by {} would cost {}; the wallet has {}\n",
        preview["carriers"],
        size(number(&preview["bytes"])),
        text(&preview["route"]),
        ar(&preview["winston"]),
        ar(&preview["balance"]),
    );
    if !preview["budget_left"].is_null() {
        writeln!(out, "of today's budget {} is left", ar(&preview["budget_left"])).expect("text takes text");
    }
    out
}
