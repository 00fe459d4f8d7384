//! The upstreams as peers, and which of the peers that they name are asked, too.
//!
//! Not here: what the peers are asked. The invariant: no node is counted twice because it is spelled in two ways, and
//! no upstream on the network makes this one talk to addresses that only this machine or its neighbours can reach.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use weave::network::{HttpTransport, Peer};
use weave::upload::Find;

use super::Settings;

/// How long a peer that nobody configured may take to answer, ms: many are not there.
const GUEST_TIME_MS: u64 = 5_000;
const HTTP_PORT: u16 = 80;

/// An upstream and where it is, as far as that is known.
struct Upstream {
    name: String,
    path: String,
    addresses: Vec<SocketAddr>,
}

impl Upstream {
    /// A URL that the settings checked. Names that resolve to nothing now may do so later.
    async fn of(url: &str) -> Upstream {
        let name = url.trim_end_matches('/');
        let rest = name.trim_start_matches("http://");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let uri = authority.parse::<axum::http::uri::Authority>().ok();
        let addresses = match uri {
            Some(uri) => {
                let host = uri.host().trim_matches(['[', ']']).to_owned();
                let found = tokio::net::lookup_host((host, uri.port_u16().unwrap_or(HTTP_PORT))).await;
                found.map(Iterator::collect).unwrap_or_default()
            }
            None => Vec::new(),
        };
        Upstream {
            name: name.into(),
            path: path.into(),
            addresses,
        }
    }

    fn is_same(&self, other: &Upstream) -> bool {
        let shares = |address| other.addresses.contains(address);
        self.path == other.path && self.addresses.iter().any(shares)
    }

    /// Whether everybody can reach it.
    fn is_public(&self) -> bool {
        self.addresses.iter().any(|address| is_public(address.ip()))
    }
}

impl Settings {
    /// Clients of the upstreams, each node once, and what makes clients of the peers that they name.
    ///
    /// # Errors
    /// A URL that is none.
    pub async fn peers(&self) -> Result<(Vec<Peer>, Find)> {
        let mut upstreams: Vec<Upstream> = Vec::new();
        for url in &self.upstream {
            let one = Upstream::of(url).await;
            match upstreams.iter().find(|before| before.is_same(&one)) {
                Some(before) => {
                    tracing::warn!(
                        url = one.name,
                        same = before.name,
                        "two upstreams are one node: it counts once"
                    );
                }
                None => upstreams.push(one),
            }
        }
        let peer = |one: &Upstream| Ok(Peer::new(&one.name, self.transport(&one.name)?));
        let peers = upstreams.iter().map(peer).collect::<Result<Vec<Peer>>>()?;
        let limits = wire::client::Limits {
            timeout_ms: self.timeout_ms.min(GUEST_TIME_MS),
            ..wire::client::Limits::default()
        };
        let find: Find = Arc::new(move |named: &str, namer: &str| {
            let address = allowed(&upstreams, named, namer)?;
            let url = format!("http://{address}");
            let transport = HttpTransport::new(&url, &limits).ok()?;
            Some(Peer::new(&url, Arc::new(transport)))
        });
        Ok((peers, find))
    }
}

/// The address that an upstream named, if it is to be asked: another node's, and none in here unless the upstream is.
/// Names are not: what they stand for can change after it was looked at.
fn allowed(upstreams: &[Upstream], named: &str, namer: &str) -> Option<SocketAddr> {
    let address: SocketAddr = named.parse().ok()?;
    let namer = upstreams.iter().find(|one| one.name == namer)?;
    let is_known = upstreams.iter().any(|one| one.addresses.contains(&address));
    let is_reachable = is_public(address.ip()) || !namer.is_public();
    (!is_known && is_reachable).then_some(address)
}

/// Whether an address is one of the open network.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let is_shared = first == 100 && second & 0xC0 == 64;
            let is_inner = ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared;
            let is_none =
                first == 0 || ip.is_multicast() || ip.is_documentation() || ip == Ipv4Addr::BROADCAST;
            !is_inner && !is_none
        }
        IpAddr::V6(ip) => {
            let is_inner = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local();
            !is_inner && !ip.is_unspecified() && !ip.is_multicast()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]
    use super::*;

    fn settings(upstreams: &[&str]) -> Settings {
        Settings {
            upstream: upstreams.iter().map(|url| (*url).into()).collect(),
            ..Settings::default()
        }
    }

    #[tokio::test]
    async fn one_node_in_two_spellings_counts_once() {
        let urls = [
            "http://127.0.0.1:1984/",
            "http://localhost:1984",
            "http://127.0.0.1:1985",
        ];
        let (peers, _) = settings(&urls).peers().await.unwrap();
        let names: Vec<&str> = peers.iter().map(Peer::name).collect();
        assert_eq!(names, ["http://127.0.0.1:1984", "http://127.0.0.1:1985"]);
        let (peers, _) = settings(&["http://127.0.0.1:1984/a", "http://127.0.0.1:1984/b"])
            .peers()
            .await
            .unwrap();
        assert_eq!(peers.len(), 2, "one server may stand before several nodes");
    }

    #[tokio::test]
    async fn an_upstream_on_the_network_names_nothing_in_here() {
        let (_, find) = settings(&["http://8.8.8.8:1984", "http://127.0.0.1:1984"])
            .peers()
            .await
            .unwrap();
        let found = |named: &str, namer| find(named, namer).map(|peer| peer.name().to_owned());
        let (outer, inner) = ("http://8.8.8.8:1984", "http://127.0.0.1:1984");
        assert_eq!(
            found("9.9.9.9:1984", outer).as_deref(),
            Some("http://9.9.9.9:1984")
        );
        assert_eq!(
            found("127.0.0.1:1985", inner).as_deref(),
            Some("http://127.0.0.1:1985")
        );
        let not = [
            "127.0.0.1:22",
            "10.0.0.1:80",
            "169.254.169.254:80",
            "192.168.1.1:80",
            "100.64.0.1:1",
            "0.0.0.0:1",
        ];
        for named in not
            .into_iter()
            .chain(["[::1]:1", "[fd00::1]:1", "[::ffff:127.0.0.1]:1", "h.test:1984"])
        {
            assert_eq!(found(named, outer), None, "{named}");
        }
        assert_eq!(found("127.0.0.1:1984", inner), None, "it is an upstream already");
    }
}
