//! `weft infer`: models asked from the command line, offline, and receipts checked; and the node's own models.
//!
//! Not here: arithmetic, formats, who shares a model (`inference`). Invariant: what is printed as JSON names the device
//! that computed it, and a device asked for by name never falls back to another.

mod args;
mod ask;
mod check;
mod encode;
pub mod front;
mod map;
mod measure;
mod settings;
mod shelf;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use inference::device::{Device, Room};
use inference::generate::Decode;
use inference::gguf::Gguf;
use inference::model::Model;
use inference::service::{Blob, Models, Service};
use inference::vocabulary::Vocabulary;
use inference::{Error, Profile};
use serde_json::{Value, json};

pub use args::InferCommand;
use args::{DevicesArgs, ModelArgs, PackArgs};
use front::Front;
pub use settings::Settings;
use shelf::Shelf;

/// Threads that one model is computed on at most.
const THREADS_MAX: usize = 1024;
/// The driver of what needs none.
const NATIVE: &str = "native";

/// Runs one of the commands.
pub fn run(command: &InferCommand) -> Result<()> {
    match command {
        InferCommand::Generate(args) => ask::generate(args),
        InferCommand::Logits(args) => ask::logits(args),
        InferCommand::Verify(args) => check::verify(args),
        InferCommand::Trace(args) => check::trace(args),
        InferCommand::Embed(args) => encode::run(args),
        InferCommand::Pack(args) => pack(args),
        InferCommand::Bench(args) => measure::run(args),
        InferCommand::Devices(args) => devices(args),
    }
}

/// The node's models behind their routes, and the service that processes ask too. Nothing is loaded before it is asked
/// for.
pub fn open(settings: &Settings, weave: Option<Arc<dyn Models>>) -> (Front, Service) {
    let by_id = weave.is_some();
    let shelf = Shelf {
        files: settings.models.clone(),
        weave,
    };
    let service = Service::open(settings.service.clone(), Arc::new(shelf));
    let names = settings.models.keys();
    let front = Front::new(service.clone(), names, by_id, settings.front.clone());
    (front, service)
}

/// A model's file, mapped.
pub fn map_file(path: &Path) -> std::io::Result<Blob> {
    Ok(Arc::new(map::Map::open(path)?))
}

/// A decoder that was asked for, ready.
struct Loaded {
    engine: Box<dyn Decode>,
    /// Its vocabulary, or why there is none: it can still be asked by tokens.
    vocabulary: Result<Vocabulary, Error>,
    /// Positions it was made for.
    context: usize,
    id: blake3::Hash,
}

/// Loads a decoder in the profile asked for, else in the other one given.
fn load(args: &ModelArgs, otherwise: Profile, positions: usize) -> Result<Loaded> {
    let (device, threads) = (device(&args.device)?, threads(args.threads)?);
    let profile = asked_profile(args, otherwise)?;
    let blob = decoder_bytes(&args.model)?;
    let bytes = (*blob).as_ref();
    let file = Gguf::parse(bytes).map_err(|error| of_file(&args.model, error))?;
    let engine = device
        .decoder(threads, &file, profile, Room::one(positions))
        .map_err(|error| of_file(&args.model, error))?;
    Ok(Loaded {
        engine,
        vocabulary: Vocabulary::read(&file),
        context: Model::read(&file)
            .map_err(|error| of_file(&args.model, error))?
            .context,
        id: blake3::hash(bytes),
    })
}

/// A decoder's file; what it is called is said where it cannot be read.
fn decoder_bytes(path: &Path) -> Result<Blob> {
    ensure!(
        !path.is_dir(),
        "{} is a folder, as encoders have it: they give vectors (`weft infer embed`), no answers; give a GGUF file",
        path.display()
    );
    shelf::open(path)
}

/// A refusal of a model's file names the file; one of the device or the request has nothing to do with it.
fn of_file(path: &Path, error: Error) -> anyhow::Error {
    let remedy = match &error {
        Error::Device { .. } | Error::Invalid(_) => return error.into(),
        Error::Format { .. } => ": is it whole, and a model?",
        _ => "",
    };
    anyhow::Error::new(error).context(format!("{} cannot be used{remedy}", path.display()))
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

/// The profile asked for by name, else the other one given.
fn asked_profile(args: &ModelArgs, otherwise: Profile) -> Result<Profile> {
    args.profile.as_deref().map_or(Ok(otherwise), profile)
}

/// Threads asked for, or one per processor.
fn threads(asked: usize) -> Result<usize> {
    ensure!(
        asked <= THREADS_MAX,
        "{asked} threads: to {THREADS_MAX}, or 0 for one per processor"
    );
    Ok(match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        asked => asked,
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// An answer with what computed it.
fn computed(mut answer: Value, device: &str) -> Value {
    answer["device"] = json!(device);
    answer["driver"] = json!(device.split_once(" / ").map_or(NATIVE, |(_, driver)| driver));
    answer
}

fn devices(args: &DevicesArgs) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let threads = threads(0)?;
    for found in Device::all(threads) {
        let device = found.device.to_string();
        let proved = args
            .prove
            .then(|| found.device.prove(threads).map_err(|error| error.to_string()));
        if args.json {
            let driver = if found.driver.is_empty() {
                NATIVE
            } else {
                &*found.driver
            };
            let mut line = json!({"device": device, "name": found.name, "driver": driver,
                                  "processor": found.processor});
            if let Some(proved) = proved {
                line["proved"] = json!(proved.is_ok());
                line["error"] = json!(proved.err());
            }
            writeln!(out, "{line}")?;
            continue;
        }
        let proved = match proved {
            None => String::new(),
            Some(Ok(_)) => "  equal to the definition".to_owned(),
            Some(Err(error)) => format!("  REFUSED: {error}"),
        };
        writeln!(out, "{device:<10} {} {}{proved}", found.name, found.driver)?;
    }
    Ok(())
}

fn pack(args: &PackArgs) -> Result<()> {
    let packed = shelf::pack_folder(&args.folder)?;
    write(&args.out, &packed)?;
    let id = blake3::hash(&packed).to_string();
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(
            out,
            "{}",
            json!({"file": args.out, "bytes": packed.len(), "model": id})
        )?,
        false => writeln!(out, "{}: {} bytes, model {id}", args.out.display(), packed.len())?,
    }
    Ok(())
}
