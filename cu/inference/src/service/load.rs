//! Bytes to a loaded model with its worker, and what that takes of memory.
//!
//! Not here: which models are loaded. Invariant: what a file is refused for is in the file; what a device is refused
//! for is [`Refusal::Unavailable`].

use std::borrow::Cow;
use std::sync::Arc;

use super::answer::Job;
use super::decoding::{Decoding, Prefixes, Reload};
use super::encoding::Encoding;
use super::model::{Card, Kind, Model, Status};
use super::worker::{Limits, Worker};
use super::{Config, Facts, ModelRef, Models, Refusal};
use crate::bert;
use crate::chat::Template;
use crate::device::{Device, Embed as Encode, Room};
use crate::generate::Decode;
use crate::gguf::Gguf;
use crate::package::Package;
use crate::safetensors::Safetensors;
use crate::vocabulary::Vocabulary;
use crate::weight::BLOCK;

/// What loads models where they are computed.
pub trait Devices: Send + Sync {
    /// A decoder; `fallback` where the device it was on is lost.
    ///
    /// # Errors
    /// The file, or the device.
    fn decoder(
        &self,
        config: &Config,
        bytes: &[u8],
        model: &ModelRef,
        fallback: bool,
    ) -> Result<Box<dyn Decode>, Refusal>;

    /// An encoder.
    ///
    /// # Errors
    /// As [`Devices::decoder`].
    fn encoder(
        &self,
        config: &Config,
        bytes: &[u8],
        model: &ModelRef,
        fallback: bool,
    ) -> Result<Box<dyn Encode>, Refusal>;
}

/// The devices of this machine.
pub struct Machine;

/// What computes: the CPU after a loss.
fn device(config: &Config, fallback: bool) -> Device {
    if fallback { Device::Cpu } else { config.device }
}

impl Config {
    /// Threads of the CPU.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            asked => asked,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            queue_max: self.queue_max,
            asker_max: self.asker_max,
        }
    }

    fn room(&self) -> Room {
        Room {
            positions: self.positions_max,
            cache_bytes: self.cache_bytes_max,
            sequences: self.batch_max,
        }
    }
}

impl Devices for Machine {
    fn decoder(
        &self,
        config: &Config,
        bytes: &[u8],
        model: &ModelRef,
        fallback: bool,
    ) -> Result<Box<dyn Decode>, Refusal> {
        let (file, device) = (Gguf::parse(bytes)?, device(config, fallback));
        Ok(device.decoder(config.threads(), &file, model.profile, config.room())?)
    }

    fn encoder(
        &self,
        config: &Config,
        bytes: &[u8],
        model: &ModelRef,
        fallback: bool,
    ) -> Result<Box<dyn Encode>, Refusal> {
        let (file, device) = (Safetensors::parse(bytes)?, device(config, fallback));
        let package = Package::unpack(&file)?;
        let (sizes, pooling) = (package.config, package.pooling);
        Ok(device.encoder(config.threads(), sizes, &file, model.profile, pooling)?)
    }
}

/// An encoder as a packed file, whichever way it came; `None` for a decoder.
fn encoder_file(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Refusal> {
    if !bytes.starts_with(b"GGUF") {
        return Ok(Some(Cow::Borrowed(bytes)));
    }
    let file = Gguf::parse(bytes)?;
    match bert::is_encoder(&file) {
        true => Ok(Some(Cow::Owned(bert::package(&file)?))),
        false => Ok(None),
    }
}

/// What loading needs.
#[derive(Clone)]
pub struct Loader {
    pub config: Config,
    pub models: Arc<dyn Models>,
    pub devices: Arc<dyn Devices>,
}

impl Loader {
    /// Bytes that a model will take, about: weights as they are computed with, and its cache.
    pub fn footprint(&self, bytes: &[u8]) -> Result<u64, Refusal> {
        if !bytes.starts_with(b"GGUF") {
            let file = Safetensors::parse(bytes)?;
            let sizes = file
                .sizes()
                .map(|(name, numbers)| match name.contains("embeddings") {
                    true => numbers.saturating_mul(4),
                    false => numbers.saturating_add(numbers / 16),
                });
            return Ok(sizes.fold(0, u64::saturating_add));
        }
        let file = Gguf::parse(bytes)?;
        if bert::is_encoder(&file) {
            let sizes = file.tensors().map(|(name, tensor)| {
                let numbers = tensor.rows as u64 * tensor.cols as u64;
                let table = name.contains("embd") || name.contains("token_types");
                if table {
                    4 * numbers
                } else {
                    numbers + numbers / 16
                }
            });
            return Ok(sizes.fold(0, u64::saturating_add));
        }
        let model = crate::model::Model::read(&file)?;
        let blocks = |name: &str, rows: usize, cols: usize| {
            let codes = if file.tensor(name).is_ok_and(|t| t.format.is_narrow()) {
                20
            } else {
                36
            };
            let twice = name == "token_embd.weight" && !file.has("output.weight");
            (rows as u64 * cols.div_ceil(BLOCK) as u64).saturating_mul(codes * if twice { 2 } else { 1 })
        };
        let weights = file
            .tensors()
            .map(|(name, tensor)| blocks(name, tensor.rows, tensor.cols));
        let weights = weights.fold(0, u64::saturating_add);
        let room = self.config.room();
        let cache = room.pages(room.positions.min(model.context), &model) as u64 * Room::page_bytes(&model);
        Ok(weights.saturating_add(cache))
    }

    /// Loads a model, whose bytes have that BLAKE3, and starts its worker.
    pub fn load(
        &self,
        model: &ModelRef,
        bytes: &[u8],
        hash: blake3::Hash,
        footprint: u64,
    ) -> Result<Model, Refusal> {
        match encoder_file(bytes)? {
            None => self.decoder(model, bytes, hash, footprint),
            Some(file) => self.encoder(model, &file, hash, footprint),
        }
    }

    /// Loads it again on the CPU, unless the device was asked for by name.
    fn reload<T: ?Sized + 'static>(
        &self,
        model: &ModelRef,
        load: impl Fn(&Loader, &[u8], &ModelRef) -> Result<Box<T>, Refusal> + Send + 'static,
    ) -> Reload<Box<T>> {
        let (loader, model) = (self.clone(), model.clone());
        let again = move || {
            let blob = loader.models.bytes(&model.id)?;
            load(&loader, (*blob).as_ref(), &model)
        };
        (self.config.device == Device::Auto).then(|| Box::new(again) as _)
    }

    fn decoder(
        &self,
        model: &ModelRef,
        bytes: &[u8],
        hash: blake3::Hash,
        footprint: u64,
    ) -> Result<Model, Refusal> {
        let file = Gguf::parse(bytes)?;
        let sizes = crate::model::Model::read(&file)?;
        let engine = self.devices.decoder(&self.config, bytes, model, false)?;
        let status = Arc::new(Status::new(engine.device(), engine.free()));
        let decoding = Decoding {
            engine,
            reload: self.reload(model, |loader, bytes, model| {
                loader.devices.decoder(&loader.config, bytes, model, true)
            }),
            batch: vec![],
            batch_max: self.config.batch_max.max(1),
            threads: self.config.threads(),
            prefixes: Prefixes {
                kept: Default::default(),
                most: self.config.prefixes_max,
            },
            status: Arc::clone(&status),
        };
        // A model without a vocabulary can still be asked by tokens.
        let vocabulary = Vocabulary::read(&file).map_err(|error| error.to_string());
        let worker: Worker<Job> = Worker::start(self.config.limits(), |inbox| decoding.run(inbox))?;
        Ok(Model {
            card: Arc::new(Card {
                facts: Facts::decoder(&sizes),
                profile: model.profile,
                hash,
                template: vocabulary.as_ref().ok().and_then(|v| Template::read(&file, v)),
                vocabulary,
            }),
            status,
            bytes: footprint,
            positions: self.config.positions_max,
            kind: Kind::Decoder(worker),
        })
    }

    fn encoder(
        &self,
        model: &ModelRef,
        bytes: &[u8],
        hash: blake3::Hash,
        footprint: u64,
    ) -> Result<Model, Refusal> {
        let package = Package::unpack(&Safetensors::parse(bytes)?)?;
        let encoder = self.devices.encoder(&self.config, bytes, model, false)?;
        let status = Arc::new(Status::new(encoder.device(), 0));
        let encoding = Encoding {
            encoder,
            reload: self.reload(model, |loader, bytes, model| {
                let file = encoder_file(bytes)?.unwrap_or_default();
                loader.devices.encoder(&loader.config, &file, model, true)
            }),
            status: Arc::clone(&status),
        };
        let worker = Worker::start(self.config.limits(), |inbox| encoding.run(inbox))?;
        Ok(Model {
            card: Arc::new(Card {
                facts: Facts::encoder(&package.config),
                profile: model.profile,
                hash,
                vocabulary: Err("the model is an encoder".to_owned()),
                template: None,
            }),
            status,
            bytes: footprint,
            positions: package.length,
            kind: Kind::Encoder {
                worker,
                tokenizer: Box::new(package.tokenizer),
                length: package.length,
            },
        })
    }
}
