//! `weft bench upload`: what uploading beside it costs the scheduler.
//!
//! Two nodes take turns: one keeps its log to itself, the other seals, bundles, signs and hands its segments to an
//! upstream in this program that takes everything at once. That upstream answers nothing else, so what it would do
//! with the bytes is not in the figures; what the node does for them is. Not here: the network.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use spec::Signer;
use spec::contract::{Answer, Class};
use weave::network::{BundlerService, Peer, Transport};
use weave::upload::{Config, Parts, Uploader};

use crate::bench::{self, CALLERS, ED25519_MESSAGES, Rate, Stage, THREADS};

/// What scheduling may lose: at least this share of the rate without an upload must be left.
const SHARE_MIN: f64 = 0.95;
/// Longest pause between the uploader's turns, ms.
const PAUSE_MS: u64 = 50;

/// Takes whatever is posted and forgets it.
#[derive(Default)]
struct Sink {
    taken: AtomicU64,
}

#[async_trait]
impl Transport for Sink {
    async fn send(&self, request: Request<Bytes>, _: usize) -> Answer<Response<Bytes>> {
        let path = request.uri().path();
        let (status, body) = match *request.method() {
            // In flight: a receipt's signature would be the bundler's work, not the node's.
            Method::POST => {
                self.taken
                    .fetch_add(request.body().len() as u64, Ordering::Relaxed);
                (StatusCode::ACCEPTED, "")
            }
            _ if path == "/info" => (StatusCode::OK, r#"{"network":"none","height":1}"#),
            _ if path.ends_with("/status") => (StatusCode::OK, r#"{"status":"CONFIRMED"}"#),
            _ if path.starts_with("/price/") => (StatusCode::OK, "0"),
            _ => (StatusCode::NOT_FOUND, ""),
        };
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = status;
        Ok(response)
    }
}

fn uploader(stage: &Stage, sink: &Arc<Sink>) -> io::Result<Uploader> {
    let wallet = Signer::ethereum(&[4; 32]).map_err(io::Error::other)?;
    let parts = Parts {
        log: stage.weave.log().clone(),
        cache: None,
        node: Arc::new(Signer::ed25519(&[2; 32])),
        epoch: 0,
        wallet: Arc::new(wallet),
        peers: vec![Peer::new("none", sink.clone())],
        find: None,
        bundlers: vec![BundlerService::new("sink", sink.clone(), "arweave")],
    };
    Uploader::open(parts, Config::default()).map_err(io::Error::other)
}

/// Takes turns until it is stopped.
async fn upload(mut uploader: Uploader) {
    let now = crate::clock::wall_clock();
    loop {
        let next_ms = match uploader.turn(now()).await {
            Ok(next) => next.at_ms,
            Err(refusal) => {
                tracing::error!("the upload failed: {refusal}");
                return;
            }
        };
        let pause_ms = next_ms.saturating_sub(now()).clamp(1, PAUSE_MS);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

/// Measures in a folder on a real disk, in turns, `runs` times each, and prints medians and their ratio.
///
/// # Errors
/// The disk's, or a refusal that should not be.
pub fn run(folder: &Path, runs: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    let processes = bench::process_items()?;
    let ids: Vec<_> = processes.iter().map(|item| item.id().into()).collect();
    let items = Arc::new(bench::sign(&Signer::ed25519(&[3; 32]), &ids, ED25519_MESSAGES)?);
    println!(
        "{ED25519_MESSAGES} messages signed with Ed25519, {CALLERS} callers, {THREADS} threads, durable in {}",
        folder.display()
    );
    runtime.block_on(async {
        let (mut without, mut with, mut taken) = (Vec::new(), Vec::new(), 0);
        for _ in 0..runs.max(1) {
            let stage = Stage::open(folder, &processes, Class::Local).await?;
            without.push(bench::contract(&stage, &items).await?);
            stage.close().await?;
            let stage = Stage::open(folder, &processes, Class::Permanent).await?;
            let sink = Arc::new(Sink::default());
            let task = tokio::spawn(upload(uploader(&stage, &sink)?));
            with.push(bench::contract(&stage, &items).await?);
            task.abort();
            // Aborted or ended: either way it holds the log no more.
            let _ = task.await;
            taken += sink.taken.load(Ordering::Relaxed);
            stage.close().await?;
        }
        report(&without, &with, taken / runs.max(1) as u64);
        Ok(())
    })
}

fn report(without: &[Rate], with: &[Rate], taken: u64) {
    let per_s = |rates: &[Rate]| bench::median(rates.iter().map(|rate| rate.per_s).collect());
    let cpu_us = |rates: &[Rate]| bench::median(rates.iter().map(|rate| rate.cpu_us).collect());
    for (name, rates) in [("kept to itself", without), ("uploaded meanwhile", with)] {
        let (per_s, cpu_us) = (per_s(rates), cpu_us(rates));
        println!("{name:<24}{per_s:>9.0}/s {cpu_us:>7.1} us of processor each");
    }
    let ratio = per_s(with) / per_s(without);
    let held = if ratio >= SHARE_MIN { "held" } else { "missed" };
    println!(
        "ratio {ratio:.3}, of processor time {:.3}; bar {SHARE_MIN} {held}; {:.1} MiB were handed over in each run",
        cpu_us(without) / cpu_us(with),
        taken as f64 / f64::from(1 << 20)
    );
}
