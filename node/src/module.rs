//! `weft module add`: describes a module, signs it or has the node sign it, and uploads it.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use cu::runtime::ModuleFormat;
use spec::contract::Answer;
use spec::{DataItem, ItemId, ItemParts, Refusal, Signer, Tag, Tags};
use wire::client::{Http, Limits};
use wire::server::{Params, encode};
use zeroize::Zeroizing;

use crate::admin::ADMIN_HEADER;
use crate::cli::ModuleAddArgs;
use crate::wallet;

/// Files of neural networks, by the names of their formats.
const MODELS: [&str; 2] = ["gguf", "safetensors"];

/// What an item's tags say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Description {
    /// A module.
    Module {
        /// What processes of it run on.
        format: ModuleFormat,
        /// Most memory of a process.
        memory_limit: String,
        /// Most gas of a message.
        compute_limit: u64,
        /// Whether it asks models.
        asks: bool,
    },
    /// A model that processes ask, by its format.
    Model(&'static str),
}

fn model(name: &str) -> Option<Description> {
    MODELS
        .into_iter()
        .find(|known| *known == name)
        .map(Description::Model)
}

impl Description {
    /// Reads the query of an upload.
    pub fn from_params(params: &Params) -> Answer<Description> {
        let missing = |name: &str| Refusal::invalid("missing-parameter", format!("`{name}` is required"));
        let format = params.get("format").ok_or_else(|| missing("format"))?;
        if let Some(model) = model(format) {
            return Ok(model);
        }
        Ok(Description::Module {
            format: ModuleFormat::from_name(format).ok_or_else(|| unknown_format(format))?,
            memory_limit: params
                .get("memory-limit")
                .ok_or_else(|| missing("memory-limit"))?
                .to_string(),
            compute_limit: params
                .number("compute-limit")?
                .ok_or_else(|| missing("compute-limit"))?,
            asks: params
                .get("extension")
                .is_some_and(|name| name == cu::ai::EXTENSION),
        })
    }

    fn query(&self) -> String {
        match self {
            Description::Model(format) => format!("format={format}"),
            Description::Module {
                format,
                memory_limit,
                compute_limit,
                asks,
            } => {
                let (format, memory) = (encode(format.name()), encode(memory_limit));
                let extension = if *asks {
                    format!("&extension={}", cu::ai::EXTENSION)
                } else {
                    String::new()
                };
                format!("format={format}&memory-limit={memory}&compute-limit={compute_limit}{extension}")
            }
        }
    }

    /// The tags of the item.
    pub fn tags(&self) -> Tags {
        let (format, memory_limit, compute_limit, asks) = match self {
            Description::Module {
                format,
                memory_limit,
                compute_limit,
                asks,
            } => (format, memory_limit, compute_limit, *asks),
            Description::Model(format) => {
                return vec![
                    Tag::new("Type", "Model"),
                    Tag::new("Model-Format", *format),
                    Tag::new("Content-Type", "application/octet-stream"),
                ];
            }
        };
        let content_type = match format {
            ModuleFormat::Lua => "text/x-lua",
            _ => "application/wasm",
        };
        let mut tags = vec![
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Variant", "ao.TN.1"),
            Tag::new("Type", "Module"),
            Tag::new("Module-Format", format.name()),
            Tag::new("Input-Encoding", "JSON-1"),
            Tag::new("Output-Encoding", "JSON-1"),
            Tag::new("Memory-Limit", memory_limit.clone()),
            Tag::new("Compute-Limit", compute_limit.to_string()),
            Tag::new("Content-Type", content_type),
        ];
        tags.extend(asks.then(|| Tag::new("Extension", cu::ai::EXTENSION)));
        tags
    }
}

/// A module item of a binary whose format shows, with the limits that `weft module add` sets.
pub fn item(wasm: Bytes, signer: &Signer) -> Result<DataItem> {
    let format = ModuleFormat::detect(&wasm).context("the binary shows no format that processes run on")?;
    let description = Description::Module {
        format,
        memory_limit: "1-gb".into(),
        compute_limit: 9_000_000_000_000,
        asks: false,
    };
    let parts = ItemParts {
        tags: description.tags(),
        data: wasm,
        ..ItemParts::default()
    };
    Ok(DataItem::sign(&parts, signer)?)
}

/// The format of a file: Lua by its name, others by their shape.
fn recognise(file: &Path, bytes: &[u8], args: &ModuleAddArgs) -> Option<Description> {
    let format = match file.extension().and_then(|extension| extension.to_str()) {
        Some("lua") => ModuleFormat::Lua,
        _ if bytes.starts_with(b"GGUF") => return model("gguf"),
        Some("safetensors") => return model("safetensors"),
        _ if packed(bytes) => return model("safetensors"),
        _ => ModuleFormat::detect(bytes)?,
    };
    Some(module(format, args))
}

/// Whether the bytes begin as a safetensors file does: the length of a JSON object, and the object.
fn packed(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    header.is_some_and(|length| length < bytes.len() as u64) && bytes.get(8) == Some(&b'{')
}

fn module(format: ModuleFormat, args: &ModuleAddArgs) -> Description {
    Description::Module {
        format,
        memory_limit: args.memory_limit.clone(),
        compute_limit: args.compute_limit,
        asks: args.inference,
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
    let by_name = |name: &String| {
        let format = ModuleFormat::from_name(name).map(|format| module(format, args));
        format.or_else(|| model(name)).ok_or_else(|| unknown_format(name))
    };
    let description = match &args.format {
        Some(name) => by_name(name)?,
        None => recognise(&args.file, &wasm, args).with_context(|| {
            format!(
                "{} shows no format that processes run on, nor a model's; say it with --format",
                args.file.display()
            )
        })?,
    };
    if let Some(folder) = &args.models {
        println!("{}", place(args, &description, wasm.into(), folder)?);
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (bytes, taken) = (wasm.len(), wire::server::Limits::default().body_bytes_max);
    let id = runtime.block_on(upload(args, &description, wasm.into()));
    let id = match bytes > taken {
        true => id.with_context(|| {
            format!(
                "{bytes} bytes did not go up; a node takes {taken} unless its `http.body_bytes_max` is raised, and models of \
                 any size from its folder: `weft module add FILE --models DATA/models`"
            )
        })?,
        false => id?,
    };
    println!("{id}");
    if args.id.is_some() {
        eprintln!(
            "the node serves these bytes as {id}; an id alone cannot prove bytes, \
             so only this node's word says that they are that module"
        );
    }
    Ok(())
}

/// Puts a model into a node's folder as a signed item, whole or not at all.
fn place(args: &ModuleAddArgs, description: &Description, data: Bytes, folder: &Path) -> Result<ItemId> {
    let Description::Model(_) = description else {
        bail!("--models is for models; a module goes up to a node");
    };
    let signer = match &args.wallet {
        Some(wallet) => wallet::read(wallet)?,
        None => {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *seed).map_err(|error| anyhow!("no randomness: {error}"))?;
            Signer::ed25519(&seed)
        }
    };
    let parts = ItemParts {
        tags: description.tags(),
        data,
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, &signer)?;
    let failed = || format!("cannot write into {}", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    // A draft's name has another stem, so a node never reads half of an item.
    let draft = folder.join(format!("draft-{}", item.id()));
    let mut file = std::fs::File::create(&draft).with_context(failed)?;
    file.write_all(item.bytes()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    let path = folder.join(format!("{}.{}", item.id(), cu::ai::ITEM));
    std::fs::rename(&draft, path).with_context(failed)?;
    Ok(item.id())
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
