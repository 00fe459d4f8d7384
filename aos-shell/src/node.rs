//! A node as a client sees it: the four contracts, and what one must know to use them.
//!
//! The carriers may be units in this program, a Weft node behind one URL, or units of any legacynet.
//! Not here: any unit. The invariant: what cannot be reached is refused by name, never guessed.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use spec::contract::{Answer, Compute, Field, LogEntry, LogPage, Messenger, Permanent, Scheduled, Scheduler};
use spec::contract::{Span, Tick};
use spec::{Address, DataItem, ItemId, ModuleId, ProcessId, Refusal};
use wire::client::{Http, Limits};

use crate::legacy::LegacyCompute;

/// Where `weft` listens if nobody says otherwise.
pub const NODE_URL_DEFAULT: &str = "http://127.0.0.1:8734";
/// The public legacynet's scheduler, for processes spawned there.
const LEGACYNET_SCHEDULER: &str = "_GQ33BkPtZrqxA84vM8Zk-N2aO0toNNu_C-l-rawrBA";
/// The public legacynet's messenger, which processes spawned there must trust.
const LEGACYNET_AUTHORITY: &str = "fcoN_xJeisVsPXA-trzVAuIiqO3ydLQxM-L4XbrQKzY";

/// A node.
#[derive(Clone)]
pub struct Node {
    /// Its weave.
    pub permanent: Arc<dyn Permanent>,
    /// Its scheduler unit.
    pub scheduler: Arc<dyn Scheduler>,
    /// Its compute unit.
    pub compute: Arc<dyn Compute>,
    /// Its messenger unit.
    pub messenger: Arc<dyn Messenger>,
    /// What else a client must know.
    pub facts: Facts,
    /// How its outcomes are followed.
    pub feed: Feed,
}

/// What a client must know of a node.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where it is; `None` in this program.
    pub url: Option<String>,
    /// Account of its scheduler: the tag `Scheduler` of processes.
    pub scheduler: Address,
    /// Account of its messenger: the tag `Authority` of processes.
    pub authority: Address,
    /// The module that its processes run if nobody says otherwise.
    pub kernel: Option<ModuleId>,
}

/// How outcomes are followed.
#[derive(Clone)]
pub enum Feed {
    /// Through the contract: the compute unit is in this program.
    Contract,
    /// As events of a Weft node.
    Events(Http),
    /// By asking again and again: any other node.
    Polling,
}

/// Where the units of a node are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Urls {
    /// A Weft node: all units behind one URL.
    pub node: Option<String>,
    /// Messenger unit of another node.
    pub mu: Option<String>,
    /// Compute unit of another node.
    pub cu: Option<String>,
    /// Scheduler unit of another node, for logs and traces; not needed to talk to processes.
    pub su: Option<String>,
    /// Gateway of another node.
    pub gateway: Option<String>,
    /// Scheduler of new processes, where the node does not say.
    pub scheduler: Option<Address>,
    /// Authority of new processes, where the node does not say.
    pub authority: Option<Address>,
}

/// What `GET /` of a Weft node says.
#[derive(Deserialize)]
struct Ready {
    ready: bool,
    mu: Option<String>,
    su: Option<String>,
    cu: Option<String>,
    gateway: Option<String>,
    mu_address: Option<Address>,
    su_address: Option<Address>,
    #[serde(default)]
    kernel: Option<ModuleId>,
}

impl Node {
    /// A node whose units are in this program.
    pub fn in_process(
        permanent: Arc<dyn Permanent>,
        scheduler: Arc<dyn Scheduler>,
        compute: Arc<dyn Compute>,
        messenger: Arc<dyn Messenger>,
        facts: Facts,
    ) -> Node {
        Node {
            permanent,
            scheduler,
            compute,
            messenger,
            facts,
            feed: Feed::Contract,
        }
    }

    /// The Weft node behind a URL.
    ///
    /// # Errors
    /// If nothing answers there, or what answers is no Weft node with all its units.
    pub async fn connect(url: &str) -> Answer<Node> {
        let http = Http::new(url, &Limits::default())?;
        let base = http.base().to_string();
        let ready: Ready = http.get("/").await?.json().map_err(|_| not_weft(&base))?;
        if !ready.ready {
            return Err(not_weft(&base));
        }
        let unit = |there: &Option<String>, path: &str, role: &str| match there {
            Some(_) => Http::new(&format!("{base}{path}"), &Limits::default()),
            None => Err(lacks(&base, role)),
        };
        let facts = Facts {
            scheduler: ready.su_address.ok_or_else(|| lacks(&base, "su"))?,
            authority: ready.mu_address.ok_or_else(|| lacks(&base, "mu"))?,
            kernel: ready.kernel,
            url: Some(base.clone()),
        };
        Ok(Node {
            permanent: Arc::new(wire::permanent::Client::new(unit(&ready.gateway, "", "gateway")?)),
            scheduler: Arc::new(wire::scheduler::Client::new(unit(&ready.su, "/su", "su")?)),
            compute: Arc::new(wire::compute::ComputeClient::new(unit(&ready.cu, "/cu", "cu")?)),
            messenger: Arc::new(wire::messenger::Client::new(unit(&ready.mu, "/mu", "mu")?)),
            feed: Feed::Events(unit(&ready.cu, "/cu", "cu")?),
            facts,
        })
    }

    /// The node that the URLs describe: a Weft node, or units of a legacynet.
    ///
    /// # Errors
    /// If a unit that is needed is not named, or a Weft node cannot be reached.
    pub async fn at(urls: &Urls) -> Answer<Node> {
        match (&urls.mu, &urls.cu, &urls.gateway) {
            (None, None, None) => Node::connect(urls.node.as_deref().unwrap_or(NODE_URL_DEFAULT)).await,
            (Some(mu), Some(cu), Some(gateway)) => legacynet(urls, mu, cu, gateway),
            _ => {
                let text = "a legacynet needs --mu-url, --cu-url and --gateway-url together; \
                            a Weft node needs --node alone";
                Err(Refusal::invalid("units-missing", text))
            }
        }
    }
}

fn legacynet(urls: &Urls, mu: &str, cu: &str, gateway: &str) -> Answer<Node> {
    let http = |url: &str| Http::new(url, &Limits::default());
    let account = |given: Option<Address>, public: &str| match given {
        Some(address) => Ok(address),
        None => public.parse().map_err(Refusal::from),
    };
    let scheduler: Arc<dyn Scheduler> = match &urls.su {
        Some(su) => Arc::new(wire::scheduler::Client::new(http(su)?)),
        None => Arc::new(NoScheduler),
    };
    Ok(Node {
        permanent: Arc::new(wire::permanent::Client::new(http(gateway)?)),
        scheduler,
        compute: Arc::new(LegacyCompute::new(http(cu)?)),
        messenger: Arc::new(wire::messenger::Client::new(http(mu)?)),
        facts: Facts {
            url: Some(mu.to_string()),
            scheduler: account(urls.scheduler, LEGACYNET_SCHEDULER)?,
            authority: account(urls.authority, LEGACYNET_AUTHORITY)?,
            kernel: None,
        },
        feed: Feed::Polling,
    })
}

fn not_weft(url: &str) -> Refusal {
    let text = format!("{url} answers, but not as a Weft node");
    Refusal::invalid("not-weft", text)
}

fn lacks(url: &str, role: &str) -> Refusal {
    let text = format!("the node at {url} does not run the role `{role}`");
    Refusal::invalid("role-missing", text)
}

/// Where no scheduler was named.
struct NoScheduler;

impl NoScheduler {
    fn refusal<T>() -> Answer<T> {
        let text = "this needs the scheduler's log, and no --su-url was given";
        Err(Refusal::invalid("units-missing", text))
    }
}

#[async_trait]
impl Scheduler for NoScheduler {
    async fn schedule(&self, _: DataItem) -> Answer<Scheduled> {
        NoScheduler::refusal()
    }
    async fn assign(&self, _: ProcessId, _: ItemId, _: bool, _: Vec<Field>) -> Answer<Scheduled> {
        NoScheduler::refusal()
    }
    async fn log(&self, _: ProcessId, _: Span, _: usize) -> Answer<LogPage> {
        NoScheduler::refusal()
    }
    async fn message(&self, _: ProcessId, _: ItemId) -> Answer<LogEntry> {
        NoScheduler::refusal()
    }
    async fn latest(&self, _: ProcessId) -> Answer<LogEntry> {
        NoScheduler::refusal()
    }
    async fn process(&self, _: ProcessId) -> Answer<LogEntry> {
        NoScheduler::refusal()
    }
    async fn tick(&self) -> Answer<Tick> {
        NoScheduler::refusal()
    }
}
