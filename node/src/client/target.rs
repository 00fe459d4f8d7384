//! Which node, which key, which process: what a command's arguments point at.
//!
//! The invariant: a key file is made once, for its owner only, and never overwritten.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aos_shell::error::Problem;
use aos_shell::{Node, Session, Urls};
use spec::{ModuleId, Signer, Tag, Tags};

use super::Outlet;
use super::args::{NodeArgs, WalletArg};
use crate::wallet;

impl NodeArgs {
    /// Whether a node was named at all.
    pub fn is_named(&self) -> bool {
        [&self.node, &self.mu_url, &self.cu_url, &self.gateway_url]
            .into_iter()
            .any(Option::is_some)
    }

    fn urls(&self) -> Urls {
        Urls {
            node: self.node.clone().or_else(default_node),
            mu: self.mu_url.clone(),
            cu: self.cu_url.clone(),
            su: self.su_url.clone(),
            gateway: self.gateway_url.clone(),
            scheduler: self.scheduler,
            authority: self.authority,
        }
    }

    /// The node and the key.
    pub async fn reach(&self, outlet: &Outlet) -> Result<(Arc<Node>, Arc<Signer>), Problem> {
        let signer = self.wallet.signer()?;
        let node = outlet
            .wait("connecting", self.within(Node::at(&self.urls())))
            .await?;
        Ok((Arc::new(node), signer))
    }

    /// The process that a name or an id stands for.
    pub async fn open(&self, name: &str, outlet: &Outlet) -> Result<Session, Problem> {
        let (node, signer) = self.reach(outlet).await?;
        self.within(Session::open(node, signer, name)).await
    }

    /// An answer, unless it takes longer than was asked for.
    pub async fn within<T>(
        &self,
        answer: impl Future<Output = spec::contract::Answer<T>>,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(Duration::from_secs(self.timeout), answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Problem::new(
                "timeout",
                format!("no answer within {} s", self.timeout),
            )),
        }
    }
}

/// The node that the environment names for every command.
pub fn default_node() -> Option<String> {
    std::env::var("WEFT_NODE").ok().filter(|url| !url.is_empty())
}

impl WalletArg {
    /// The key that was named, or else the person's own, made at first use.
    pub fn signer(&self) -> Result<Arc<Signer>, Problem> {
        let signer = match &self.wallet {
            Some(path) => wallet::read(path),
            None => own_wallet().and_then(|path| wallet::read_or_create(&path)),
        };
        signer.map(Arc::new).map_err(unusable)
    }

    /// The same; where a person has no place for a key, one in a node's data folder.
    pub fn signer_or(&self, data: &Path) -> Result<Arc<Signer>, Problem> {
        match self.signer() {
            Err(_) if self.wallet.is_none() => {
                let path = data.join("keys").join("wallet.json");
                wallet::read_or_create(&path).map(Arc::new).map_err(unusable)
            }
            signer => signer,
        }
    }
}

fn unusable(error: anyhow::Error) -> Problem {
    Problem::new("wallet", format!("{error:#}"))
}

/// Where a person's key lies: `wallet.json` in the folder that configurations of programs lie in.
fn own_wallet() -> anyhow::Result<PathBuf> {
    let folder = match (std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME")) {
        (Some(folder), _) if !folder.is_empty() => PathBuf::from(folder),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".config"),
        _ => anyhow::bail!(
            "neither HOME nor XDG_CONFIG_HOME is set, so there is no place for a key; use --wallet FILE"
        ),
    };
    let folder = folder.join("weft");
    crate::assemble::make_private(&folder)?;
    Ok(folder.join("wallet.json"))
}

/// The module of a new process: the one that was named, or the node's kernel.
pub fn module(node: &Node, named: Option<ModuleId>) -> Result<ModuleId, Problem> {
    named
        .or(node.facts.kernel)
        .ok_or_else(|| Problem::new("no-kernel", "no module was named, and the node names none"))
}

/// Tags written as `NAME=VALUE`.
pub fn tags(texts: &[String]) -> Result<Tags, Problem> {
    let tag = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Tag::new(name, value)),
        _ => Err(Problem::new("no-tags-text", format!("`{text}` is no NAME=VALUE"))),
    };
    texts.iter().map(tag).collect()
}
