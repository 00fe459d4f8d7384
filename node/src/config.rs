//! The node's configuration: one TOML file, one table per unit, flags on top.
//!
//! An unknown key is an error with a suggestion: a limit that is misspelt is a limit that is not set.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cli::{NodeArgs, Role};
use crate::infer;
use crate::upload::Settings;

/// Where a node listens if nobody says otherwise: this machine only.
pub fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8734))
}

/// Everything a node can be told.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Data folder.
    pub data: Option<PathBuf>,
    /// Address to listen on.
    pub listen: Option<SocketAddr>,
    /// Roles to run.
    pub roles: Vec<Role>,
    /// Log filter in the `RUST_LOG` language.
    pub log: Option<String>,
    /// End a suspension of scheduling at this start. A flag only: the next start must not do it unasked.
    #[serde(skip)]
    pub resume_scheduling: bool,
    /// Files of the units' keys.
    pub keys: Keys,
    /// Where units are that are not among the roles.
    pub peers: Peers,
    /// Bounds of the listener.
    pub http: wire::server::Limits,
    /// Bounds of the client to other units.
    pub client: wire::client::Limits,
    /// The weave.
    pub weave: weave::Config,
    /// Where the permanent log is uploaded to.
    pub upload: Settings,
    /// Bounds of `weft rebuild`.
    pub rebuild: weave::retrieve::Limits,
    /// The scheduler unit.
    pub su: su::Config,
    /// The compute unit.
    pub cu: cu::Config,
    /// The messenger unit.
    pub mu: mu::Config,
    /// Models.
    pub infer: infer::Settings,
}

/// Key files.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// Of the scheduler unit.
    pub su: Option<PathBuf>,
    /// Of the messenger unit.
    pub mu: Option<PathBuf>,
    /// Of the compute unit.
    pub cu: Option<PathBuf>,
}

/// URLs of units elsewhere.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peers {
    /// Scheduler unit.
    pub su: Option<String>,
    /// Compute unit.
    pub cu: Option<String>,
    /// Gateway.
    pub gateway: Option<String>,
}

impl Config {
    /// The file's settings, if there is one, with the flags on top.
    pub fn load(args: &NodeArgs) -> Result<Config> {
        let mut config = match &args.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        config.resume_scheduling = args.resume_scheduling;
        replace(&mut config.data, &args.data);
        replace(&mut config.listen, &args.listen);
        replace(&mut config.keys.su, &args.su_key);
        replace(&mut config.keys.mu, &args.mu_key);
        replace(&mut config.keys.cu, &args.cu_key);
        replace(&mut config.peers.su, &args.su_url);
        replace(&mut config.peers.cu, &args.cu_url);
        replace(&mut config.peers.gateway, &args.gateway_url);
        config.upload.apply(args);
        config.upload.check()?;
        config.infer.apply(args)?;
        config.infer.check()?;
        if !args.roles.is_empty() {
            config.roles.clone_from(&args.roles);
        }
        if config.roles.is_empty() {
            config.roles = vec![Role::Mu, Role::Su, Role::Cu, Role::Gateway];
        }
        if config.data.is_none() {
            bail!("a node needs a data folder: `--data DIR`, or `data = \"DIR\"` in the configuration file");
        }
        Ok(config)
    }

    fn read(path: &Path) -> Result<Config> {
        let place = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", place()))?;
        match toml::from_str(&text) {
            Ok(config) => Ok(config),
            Err(error) => bail!("{}: {error}{}", place(), suggestion(error.message())),
        }
    }

    /// Where the node listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(default_listen)
    }

    /// Whether a role runs here.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

fn replace<T: Clone>(field: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        field.clone_from(flag);
    }
}

/// The known key nearest to an unknown one, from the parser's "unknown field `x`, expected one of `a`, `b`".
fn suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next().filter(|_| message.starts_with("unknown field")) else {
        return String::new();
    };
    let near = quoted.map(|known| (strsim::jaro_winkler(unknown, known), known));
    match near
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
    {
        Some((_, known)) => format!("\ndid you mean `{known}`?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_a_suggestion() {
        let error = toml::from_str::<Config>("[http]\nbody_byte_max = 1").unwrap_err();
        assert!(
            suggestion(error.message()).contains("`body_bytes_max`"),
            "{error}"
        );
        assert!(toml::from_str::<Config>("[http]\nbody_bytes_max = 1").is_ok());
    }
}
