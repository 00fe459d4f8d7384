//! Where the node's models come from: files by their names, permanent storage by content id.
//!
//! Not here: what a model is. Invariant: a name of this node never stands for a content id, so no process can ask for a
//! file that another node has otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use inference::encoder::Pooling;
use inference::package::{LENGTH_DEFAULT, pack};
use inference::service::{Blob, Code, Models, Refusal};

use super::map::Map;

/// What stands before a file's name in a model's id.
const FILE: &str = "file:";

/// The models of a node.
pub struct Shelf {
    /// Files by name.
    pub files: BTreeMap<String, PathBuf>,
    /// Permanent storage, where it is here.
    pub weave: Option<Arc<dyn Models>>,
}

/// The id of the file of that name.
pub fn file_id(name: &str) -> String {
    format!("{FILE}{name}")
}

impl Models for Shelf {
    fn bytes(&self, id: &str) -> Result<Blob, Refusal> {
        match (id.strip_prefix(FILE), &self.weave) {
            (Some(name), _) => match self.files.get(name) {
                Some(path) => open(path).map_err(|error| Refusal::absent(format!("{error:#}"))),
                None => Err(Refusal::absent(format!("no model {name}"))),
            },
            (None, Some(weave)) => weave.bytes(id),
            (None, None) => Err(Refusal::certain(Code::Invalid, format!("{id} is no model's id"))),
        }
    }
}

/// A model's bytes: a file mapped, or an encoder's folder packed.
pub fn open(path: &Path) -> Result<Blob> {
    if path.is_dir() {
        return Ok(Arc::new(pack_folder(path)?));
    }
    let map = Map::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Arc::new(map))
}

/// An encoder's folder as one file.
pub fn pack_folder(folder: &Path) -> Result<Vec<u8>> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (weights, config, tokenizer) = (
        read("model.safetensors")?,
        read("config.json")?,
        read("tokenizer.json")?,
    );
    Ok(pack(
        &weights,
        &config,
        &tokenizer,
        pooling(folder),
        length(folder),
    )?)
}

fn said(path: &Path) -> serde_json::Value {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// How the folder says tokens' vectors become one; the mean where it does not say.
fn pooling(folder: &Path) -> Pooling {
    match said(&folder.join("1_Pooling/config.json"))["pooling_mode_cls_token"].as_bool() {
        Some(true) => Pooling::First,
        _ => Pooling::Mean,
    }
}

/// Tokens of a text at most, as the folder says.
fn length(folder: &Path) -> usize {
    let said = said(&folder.join("sentence_bert_config.json"));
    said["max_seq_length"]
        .as_u64()
        .map_or(LENGTH_DEFAULT, |length| length as usize)
}
