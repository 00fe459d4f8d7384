//! `weft infer`: models asked from the command line, offline, and receipts checked.
//!
//! Not here: arithmetic, formats (`inference`). Invariant: what is printed as JSON names the device that computed it.

mod args;
mod ask;
mod encode;
mod measure;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use inference::Profile;
use inference::device::Device;
use inference::generate::Decode;
use inference::gguf::Gguf;
use inference::vocabulary::Vocabulary;

pub use args::InferCommand;
use args::{DevicesArgs, ModelArgs};

/// Runs one of the commands.
pub fn run(command: &InferCommand) -> Result<()> {
    match command {
        InferCommand::Generate(args) => ask::generate(args),
        InferCommand::Logits(args) => ask::logits(args),
        InferCommand::Verify(args) => ask::verify(args),
        InferCommand::Embed(args) => encode::run(args),
        InferCommand::Bench(args) => measure::run(args),
        InferCommand::Devices(args) => devices(args),
    }
}

/// A decoder that was asked for, ready.
struct Loaded {
    engine: Box<dyn Decode>,
    vocabulary: Option<Vocabulary>,
    id: blake3::Hash,
}

fn load(args: &ModelArgs, positions: usize) -> Result<Loaded> {
    let bytes = read(&args.model)?;
    let file = Gguf::parse(&bytes)?;
    let threads = threads(args.threads);
    let engine = device(&args.device)?.decoder(threads, &file, profile(&args.profile)?, positions)?;
    // A model without a vocabulary can still be asked by tokens.
    Ok(Loaded {
        engine,
        vocabulary: Vocabulary::read(&file).ok(),
        id: blake3::hash(&bytes),
    })
}

fn device(name: &str) -> Result<Device> {
    Ok(name.parse()?)
}

fn profile(name: &str) -> Result<Profile> {
    match name {
        "a16" => Ok(Profile::A16),
        "a8" => Ok(Profile::A8),
        other => bail!("no profile {other}: a16 or a8"),
    }
}

/// Threads asked for, or one per processor.
fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        asked => asked,
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn devices(args: &DevicesArgs) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for (device, name) in Device::all(threads(0)) {
        match args.json {
            true => writeln!(
                out,
                "{}",
                serde_json::json!({"device": device.to_string(), "name": name})
            )?,
            false => writeln!(out, "{:<10} {name}", device.to_string())?,
        }
    }
    Ok(())
}
