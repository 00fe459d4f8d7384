//! Where the node's models come from: files by their names, permanent storage by content id.
//!
//! Not here: what a model is. Invariant: a name of this node never stands for a content id, so no process can ask for a
//! file that another node has otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use inference::encoder::Pooling;
use inference::package::{LENGTH_DEFAULT, pack};
use inference::service::{Blob, Code, Models, Refusal};
use serde_json::Value;

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
    unheeded(folder, &serde_json::from_slice(&tokenizer).unwrap_or_default())?;
    Ok(pack(
        &weights,
        &config,
        &tokenizer,
        pooling(folder)?,
        length(folder, &config),
    )?)
}

fn said(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Refuses what a folder says to be done to texts or vectors and is not done here: its vectors would be others.
fn unheeded(folder: &Path, tokenizer: &Value) -> Result<()> {
    let modules = said(&folder.join("modules.json"));
    for module in modules.as_array().into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        let known = ["Transformer", "Pooling", "Normalize"]
            .iter()
            .any(|known| kind.ends_with(known));
        ensure!(
            known,
            "modules.json names {kind}: Transformer, Pooling and Normalize are supported"
        );
    }
    let lower = said(&folder.join("sentence_bert_config.json"))["do_lower_case"] == true;
    ensure!(
        !lower || tokenizer["normalizer"]["lowercase"] == true,
        "sentence_bert_config.json asks for lower case, tokenizer.json keeps it: let the normalizer say `lowercase`"
    );
    let prompt = &said(&folder.join("config_sentence_transformers.json"))["default_prompt_name"];
    ensure!(
        prompt.is_null(),
        "config_sentence_transformers.json puts the prompt {prompt} before every text: remove `default_prompt_name` and \
         write it before the texts"
    );
    Ok(())
}

/// How the folder says tokens' vectors become one; the mean where it does not say.
fn pooling(folder: &Path) -> Result<Pooling> {
    let modules = said(&folder.join("modules.json"));
    let pools = |module: &&Value| {
        module["type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("Pooling"))
    };
    let module = modules.as_array().and_then(|modules| modules.iter().find(pools));
    let place = module
        .and_then(|module| module["path"].as_str())
        .unwrap_or("1_Pooling");
    let said = said(&folder.join(place).join("config.json"));
    // One name in younger files, a flag for each way in older ones.
    let flags = said
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| **value == true);
    let flags = flags.filter_map(|(key, _)| key.strip_prefix("pooling_mode_"));
    let ways: Vec<&str> = match said["pooling_mode"].as_str() {
        Some(way) => vec![way],
        None => flags.collect(),
    };
    match ways[..] {
        [] | ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
        ["cls" | "cls_token"] => Ok(Pooling::First),
        ["lasttoken"] => Ok(Pooling::Last),
        _ => bail!(
            "{place}/config.json pools by {}: mean, cls or lasttoken, one of them",
            ways.join(" and ")
        ),
    }
}

/// Tokens of a text at most, as the folder says; the model's positions where it does not.
fn length(folder: &Path, config: &[u8]) -> usize {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let says = [
        &said(&folder.join("sentence_bert_config.json"))["max_seq_length"],
        &said(&folder.join("tokenizer_config.json"))["model_max_length"],
        &config["max_position_embeddings"],
    ];
    let length = says.into_iter().find_map(Value::as_u64);
    length.map_or(LENGTH_DEFAULT, |length| length as usize)
}
