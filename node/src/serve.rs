//! `weft node`: opens the units, listens, says so, and stops in order on a signal.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::assemble::Node;
use crate::cli::{NodeArgs, Role};
use crate::config::Config;
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
        value["kernel"] = self.cu.as_ref().map(|_| cu::kernel_id().to_string()).into();
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
    let address = config.listen();
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| {
        format!(
            "cannot listen on {address}; another node may run there, `--listen 127.0.0.1:0` takes a free port"
        )
    })?;
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
    let listening = Listening::with(&node, &config, listener, metrics)?;
    listening.ready.print(json);
    stop.wait().await;
    tracing::info!("stopping");
    listening.stop().await;
    if tokio::time::timeout(Duration::from_millis(CLOSE_TIME_MS), node.close())
        .await
        .is_err()
    {
        tracing::warn!("some units did not stop in time; the log is whole, caches are rebuilt from it");
    }
    Ok(())
}

/// A node that answers at an address.
pub struct Listening {
    /// Where.
    pub url: String,
    ready: Ready,
    node: Arc<Node>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Listening {
    /// Listens where it was told; else at the usual address, or at a free port if that one is taken.
    pub async fn start(node: &Arc<Node>, config: &Config) -> Result<Listening> {
        let address = config.listen();
        let listener = match TcpListener::bind(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && config.listen.is_none() => {
                TcpListener::bind((address.ip(), 0)).await
            }
            bound => bound,
        };
        let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
        Listening::with(node, config, listener, None)
    }

    fn with(
        node: &Arc<Node>,
        config: &Config,
        listener: TcpListener,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Listening> {
        let url = format!("http://{}", listener.local_addr()?);
        let ready = Ready::of(config, node, &url);
        let own = health::router(metrics, ready.public());
        let open = wire::server::harden(node.router(config).merge(own), &config.http);
        let open = match node.weave.clone().filter(|_| config.has(Role::Gateway)) {
            Some(weave) => weave::http::with_manifests(open, weave),
            None => open,
        };
        // Outside the hardened routes: administration must not answer to any web page's request.
        let router = open.merge(admin::router(node.clone(), &config.http));
        let (stop, told) = oneshot::channel();
        let told = async {
            // A sender that is gone stops it too.
            let _ = told.await;
        };
        let served = tokio::spawn(wire::server::serve(listener, router, config.http.clone(), told));
        Ok(Listening {
            url,
            ready,
            node: node.clone(),
            stop,
            served,
        })
    }

    /// Stops to accept, and lets open requests finish for a while.
    pub async fn stop(self) {
        self.node.stop_feeds();
        let _ = self.stop.send(());
        let _ = self.served.await;
    }
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
