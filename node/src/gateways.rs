//! Gateways that a command asks: by their URLs, or those that a node uploads to.
//!
//! Not here: what is asked. The invariant: a command that needs one has at least one, or says what to name.

use std::sync::Arc;

use aos_shell::error::Problem;
use serde::Deserialize;
use weave::network::{HttpTransport, Peer};
use wire::client::{Http, Limits};

use crate::client::default_node;

/// How long a gateway may take for one answer, in ms.
const TIMEOUT_MS: u64 = 60_000;

/// The gateways of these URLs.
pub fn named(urls: &[String]) -> Result<Vec<Peer>, Problem> {
    let limits = Limits {
        timeout_ms: TIMEOUT_MS,
        ..Limits::default()
    };
    let peer = |url: &String| {
        let transport = HttpTransport::new(url, &limits)?;
        Ok(Peer::new(url.trim_end_matches('/'), Arc::new(transport)))
    };
    urls.iter().map(peer).collect()
}

/// The gateways of these URLs, or of the routes of the node that runs.
pub async fn named_or_the_nodes(urls: &[String], node: &Option<String>) -> Result<Vec<Peer>, Problem> {
    let upstreams = match urls {
        [] => upstreams(node).await?,
        urls => urls.to_vec(),
    };
    match upstreams.is_empty() {
        true => Err(Problem::new(
            "no-gateway",
            "no gateway was named, and the node uploads to none",
        )),
        false => named(&upstreams),
    }
}

/// What a node's status says of its upload routes.
#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    upstreams: Vec<String>,
}

async fn upstreams(node: &Option<String>) -> Result<Vec<String>, Problem> {
    let url = node.clone().or_else(default_node);
    let url = url.as_deref().unwrap_or("http://127.0.0.1:8734");
    let http = Http::new(url, &Limits::default())?;
    let status: Status = http.get("/status").await?.json()?;
    Ok(status.upstreams)
}
