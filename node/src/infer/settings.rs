//! `[infer]` of the node's configuration: which models it answers with, and what they may take.
//! Not here: loading. Invariant: a name leads to one path.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::cli::NodeArgs;

/// What a node is told about models.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Files of models by the names that clients use: a GGUF file, a packed encoder, or an encoder's folder.
    pub models: BTreeMap<String, PathBuf>,
    /// What computes, and what it may take.
    pub service: inference::service::Config,
    /// The routes of the front.
    pub front: Limits,
}

/// Bounds of the front's routes.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Prompts answered at once; more are refused as busy.
    pub requests_max: usize,
    /// Processes watched at once.
    pub watches_max: usize,
    /// Of either, what one address may have; 0 for a quarter, and 8 at least.
    pub address_max: usize,
    /// Prompts of one request.
    pub prompts_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            requests_max: 256,
            watches_max: 128,
            address_max: 0,
            prompts_max: 64,
        }
    }
}

impl Settings {
    /// Puts the flags on top.
    pub fn apply(&mut self, args: &NodeArgs) -> Result<()> {
        for model in &args.model {
            let (name, path) = model
                .split_once('=')
                .with_context(|| format!("--model {model}: give it as NAME=PATH"))?;
            ensure!(
                !name.is_empty() && !path.is_empty(),
                "--model {model}: give it as NAME=PATH"
            );
            self.models.insert(name.to_owned(), path.into());
        }
        if let Some(device) = &args.infer_device {
            self.service.device = device.parse()?;
        }
        if let Some(bytes) = args.infer_memory {
            self.service.memory_bytes_max = bytes;
        }
        Ok(())
    }

    /// Refuses what cannot work before the node starts.
    pub fn check(&self) -> Result<()> {
        for (name, path) in &self.models {
            if name.ends_with(":a8") || name.ends_with(":a16") {
                bail!("model {name}: a name must not end like a profile");
            }
            ensure!(path.exists(), "model {name}: there is no {}", path.display());
        }
        Ok(())
    }
}
