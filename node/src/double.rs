//! `weft double`: a strict double of Arweave on loopback, for trying uploads without a network or money.
//!
//! Not here: the double itself (`weave::testing`).

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use weave::testing::serve::{self, Setting};

/// `weft double`
#[derive(Args, Debug)]
pub struct DoubleArgs {
    /// Address of the first of three peers on loopback; the others take the two ports after it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1984")]
    listen: SocketAddr,
    /// Folder that remembers what was posted; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Milliseconds between blocks.
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..))]
    block_ms: u64,
    /// Let things go wrong, as this seed says.
    #[arg(long, value_name = "SEED")]
    faults: Option<u64>,
}

/// Runs a double until a signal stops it.
pub fn run(args: &DoubleArgs) -> Result<()> {
    let genesis_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let setting = Setting::new(genesis_ms, args.block_ms, args.faults);
    let handle = serve::open(&args.data, &setting)
        .with_context(|| format!("cannot open the double in {}", args.data.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listeners = serve::listen(args.listen).await;
        let listeners = listeners.with_context(|| {
            format!(
                "cannot listen on {} and the two ports after it (--listen names another)",
                args.listen
            )
        })?;
        let addresses: std::io::Result<Vec<String>> = listeners
            .iter()
            .map(|one| Ok(format!("http://{}", one.local_addr()?)))
            .collect();
        say(&addresses?, args);
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        Ok(serve::run(handle, listeners, Some(args.block_ms), stop).await?)
    })
}

/// Says what it is. A reader that went away is no reason to stop.
fn say(addresses: &[String], args: &DoubleArgs) {
    let faults = args.faults.map_or("none".into(), |seed| format!("seed {seed}"));
    eprintln!(
        "*** THIS IS NO NETWORK. The double runs on this machine only: nothing posted to it is permanent, its money"
    );
    eprintln!("*** is worth nothing, and its keys are public. It is for tests and for trying things out.");
    let line = format!(
        "weft double is ready: {} (data {}, a block each {} ms, faults: {faults})",
        addresses.join(", "),
        args.data.display(),
        args.block_ms,
    );
    let _ = writeln!(std::io::stdout(), "{line}");
    let _ = std::io::stdout().flush();
}
