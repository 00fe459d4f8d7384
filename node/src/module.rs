//! `weft module add`: describes a module, signs it or has the node sign it, and uploads it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cu::runtime::ModuleFormat;
use spec::contract::Answer;
use spec::{DataItem, ItemId, ItemParts, Refusal, Signer, Tag, Tags};
use wire::client::{Http, Limits};
use wire::server::{Params, encode};

use crate::admin::ADMIN_HEADER;
use crate::cli::ModuleAddArgs;
use crate::wallet;

/// What a module's tags say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    format: ModuleFormat,
    memory_limit: String,
    compute_limit: u64,
}

impl Description {
    /// Reads the query of an upload.
    pub fn from_params(params: &Params) -> Answer<Description> {
        let missing = |name: &str| Refusal::invalid("missing-parameter", format!("`{name}` is required"));
        let format = params.get("format").ok_or_else(|| missing("format"))?;
        Ok(Description {
            format: ModuleFormat::from_name(format).ok_or_else(|| unknown_format(format))?,
            memory_limit: params
                .get("memory-limit")
                .ok_or_else(|| missing("memory-limit"))?
                .to_string(),
            compute_limit: params
                .number("compute-limit")?
                .ok_or_else(|| missing("compute-limit"))?,
        })
    }

    fn query(&self) -> String {
        let (format, memory) = (encode(self.format.name()), encode(&self.memory_limit));
        format!(
            "format={format}&memory-limit={memory}&compute-limit={}",
            self.compute_limit
        )
    }

    /// The tags of the module item.
    pub fn tags(&self) -> Tags {
        let content_type = match self.format {
            ModuleFormat::Lua => "text/x-lua",
            _ => "application/wasm",
        };
        vec![
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Variant", "ao.TN.1"),
            Tag::new("Type", "Module"),
            Tag::new("Module-Format", self.format.name()),
            Tag::new("Input-Encoding", "JSON-1"),
            Tag::new("Output-Encoding", "JSON-1"),
            Tag::new("Memory-Limit", self.memory_limit.clone()),
            Tag::new("Compute-Limit", self.compute_limit.to_string()),
            Tag::new("Content-Type", content_type),
        ]
    }
}

/// A module item of a binary whose format shows, with the limits that `weft module add` sets.
pub fn item(wasm: Bytes, signer: &Signer) -> Result<DataItem> {
    let format = ModuleFormat::detect(&wasm).context("the binary shows no format that processes run on")?;
    let description = Description {
        format,
        memory_limit: "1-gb".into(),
        compute_limit: 9_000_000_000_000,
    };
    let parts = ItemParts {
        tags: description.tags(),
        data: wasm,
        ..ItemParts::default()
    };
    Ok(DataItem::sign(&parts, signer)?)
}

/// The format of a file: Lua by its name, binaries by their shape.
fn recognise(file: &Path, bytes: &[u8]) -> Option<ModuleFormat> {
    match file.extension() {
        Some(extension) if extension == "lua" => Some(ModuleFormat::Lua),
        _ => ModuleFormat::detect(bytes),
    }
}

fn unknown_format(name: &str) -> Refusal {
    let known = ModuleFormat::ALL.map(ModuleFormat::name).join(", ");
    Refusal::invalid(
        "module-format",
        format!("module format `{name}` is unknown; known are: {known}"),
    )
}

/// Runs the command: prints the module's id, and nothing else, on standard output.
pub fn add(args: &ModuleAddArgs) -> Result<()> {
    let wasm = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let format = match &args.format {
        Some(name) => ModuleFormat::from_name(name).ok_or_else(|| unknown_format(name))?,
        None => recognise(&args.file, &wasm).with_context(|| {
            format!(
                "{} shows no format that processes run on; say it with --format",
                args.file.display()
            )
        })?,
    };
    let (memory_limit, compute_limit) = (args.memory_limit.clone(), args.compute_limit);
    let description = Description {
        format,
        memory_limit,
        compute_limit,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let id = runtime.block_on(upload(args, &description, wasm.into()))?;
    println!("{id}");
    if args.id.is_some() {
        eprintln!(
            "the node serves these bytes as {id}; an id alone cannot prove bytes, \
             so only this node's word says that they are that module"
        );
    }
    Ok(())
}

async fn upload(args: &ModuleAddArgs, description: &Description, wasm: Bytes) -> Result<ItemId> {
    #[derive(serde::Deserialize)]
    struct Added {
        id: ItemId,
    }
    let node = {
        let url = args.node.clone().or_else(crate::client::default_node);
        Http::new(
            url.as_deref().unwrap_or(aos_shell::node::NODE_URL_DEFAULT),
            &Limits::default(),
        )?
    };
    let added: Added = match (&args.wallet, &args.id) {
        (Some(_), Some(_)) => {
            bail!("--wallet makes a new item with an id of its own; --id registers bytes: take one")
        }
        (Some(wallet), None) => {
            let parts = ItemParts {
                tags: description.tags(),
                data: wasm,
                ..ItemParts::default()
            };
            let item = DataItem::sign(&parts, &wallet::read(wallet)?)?;
            node.post("/tx/arweave", "application/octet-stream", item.bytes().clone())
                .await?
                .json()?
        }
        (None, id) => {
            let id = id
                .as_ref()
                .map(|id| format!("&id={}", encode(id)))
                .unwrap_or_default();
            let path = format!("/weft/modules?{}{id}", description.query());
            let node = node.with_header(ADMIN_HEADER, "1");
            node.post(&path, "application/wasm", wasm).await?.json()?
        }
    };
    Ok(added.id)
}
