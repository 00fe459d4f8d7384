//! `weft node`: opens the units, listens, says so, and stops in order on a signal.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::assemble::Node;
use crate::cli::{NodeArgs, Role};
use crate::config::{Config, LISTEN_DEFAULT};
use crate::{admin, health};

/// How long the units may take to stop, beyond the listener's drain.
const CLOSE_TIME_MS: u64 = 1_500;
/// How often histograms are folded, so that they do not grow.
const METRICS_UPKEEP_MS: u64 = 5_000;

/// The line printed when the node is ready; its JSON form has exactly these keys.
#[derive(serde::Serialize)]
struct Ready {
    ready: bool,
    url: String,
    mu: Option<String>,
    su: Option<String>,
    cu: Option<String>,
    gateway: Option<String>,
    mu_address: Option<String>,
    su_address: Option<String>,
    cu_address: Option<String>,
    data: String,
}

impl Ready {
    fn of(config: &Config, node: &Node, url: &str) -> Ready {
        let unit = |role: Role, path: &str| config.has(role).then(|| format!("{url}{path}"));
        let text = |address: Option<spec::Address>| address.map(|address| address.to_string());
        let data = std::fs::canonicalize(&node.data).unwrap_or_else(|_| node.data.clone());
        Ready {
            ready: true,
            url: url.to_string(),
            mu: unit(Role::Mu, "/mu"),
            su: unit(Role::Su, "/su"),
            cu: unit(Role::Cu, "/cu"),
            gateway: unit(Role::Gateway, ""),
            mu_address: text(node.addresses.mu),
            su_address: text(node.addresses.su),
            cu_address: text(node.addresses.cu),
            data: data.display().to_string(),
        }
    }

    /// What anybody may know.
    fn public(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).expect("texts only");
        value["data"].take();
        value["version"] = env!("CARGO_PKG_VERSION").into();
        value
    }

    /// One line on standard output. A reader that went away is no reason to stop.
    fn print(&self, json: bool) {
        let line = match json {
            true => serde_json::to_string(self).expect("texts only"),
            false => self.text(),
        };
        let _ = writeln!(std::io::stdout(), "{line}");
        let _ = std::io::stdout().flush();
    }

    fn text(&self) -> String {
        let units = [
            ("mu", &self.mu),
            ("su", &self.su),
            ("cu", &self.cu),
            ("gateway", &self.gateway),
        ];
        let units = units
            .iter()
            .filter_map(|(name, url)| url.as_ref().map(|url| format!("{name} {url}")));
        format!(
            "weft is ready: {} (data {})",
            units.collect::<Vec<_>>().join(", "),
            self.data
        )
    }
}

/// Runs a node until a signal stops it.
pub fn run(args: &NodeArgs) -> Result<()> {
    let config = Config::load(args)?;
    let form = if args.json {
        wire::telemetry::LogForm::Json
    } else {
        wire::telemetry::LogForm::Text
    };
    let filter = std::env::var("RUST_LOG").ok().or_else(|| config.log.clone());
    wire::telemetry::start_logs(filter.as_deref().unwrap_or("warn,weft=info"), form);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(serve(config, args.json));
    // A blocking task that is still evaluating must not hold the process back.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

async fn serve(config: Config, json: bool) -> Result<()> {
    let mut stop = Stop::listen()?;
    let address = config
        .listen
        .unwrap_or_else(|| LISTEN_DEFAULT.parse().expect("a constant address"));
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| {
        format!(
            "cannot listen on {address}; another node may run there, `--listen 127.0.0.1:0` takes a free port"
        )
    })?;
    let url = format!("http://{}", listener.local_addr()?);
    let metrics = wire::telemetry::start_metrics().ok();
    if let Some(handle) = metrics.clone() {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(METRICS_UPKEEP_MS)).await;
                handle.run_upkeep();
            }
        });
    }
    let node = Arc::new(Node::open(&config).await?);
    let ready = Ready::of(&config, &node, &url);
    let own = health::router(metrics, ready.public());
    let open = wire::server::harden(node.router(&config).merge(own), &config.http);
    let open = match node.weave.clone().filter(|_| config.has(Role::Gateway)) {
        Some(weave) => weave::http::with_manifests(open, weave),
        None => open,
    };
    // Outside the hardened routes: administration must not answer to any web page's request.
    let router = open.merge(admin::router(node.clone(), &config.http));
    ready.print(json);
    wire::server::serve(listener, router, config.http.clone(), stop.wait()).await;
    tracing::info!("stopping");
    if tokio::time::timeout(Duration::from_millis(CLOSE_TIME_MS), node.close())
        .await
        .is_err()
    {
        tracing::warn!("some units did not stop in time; the log is whole, caches are rebuilt from it");
    }
    Ok(())
}

/// The signals that stop a node.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Stop> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Stop { terminate, interrupt })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
