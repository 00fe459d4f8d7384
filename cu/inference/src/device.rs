//! Which device computes: chosen by name when a model is loaded. Not here: devices.
//! Invariant: a device asked for by name computes or is refused; only `auto` chooses, and says what it chose.

use std::fmt;
use std::str::FromStr;

use crate::Profile;
#[cfg(feature = "vulkan")]
use crate::backend::vulkan::{Vulkan, gpu};
use crate::backend::{Backend, CacheShape, Host, Level, PAGE};
use crate::decoder::Decoder;
use crate::encoder::{Config, Encoder, Pooling};
use crate::engine::Engine;
use crate::error::Error;
use crate::generate::Decode;
use crate::gguf::Gguf;
use crate::model::Model;
use crate::safetensors::Safetensors;
use crate::trace::{Trace, trace};

/// A device, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum Device {
    /// The fastest that proves itself.
    Auto,
    /// The processor with its vector units.
    Cpu,
    /// The definition.
    Scalar,
    /// A Vulkan device by its number.
    Vulkan(usize),
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Device, Error> {
        Ok(match name {
            "auto" => Device::Auto,
            "cpu" => Device::Cpu,
            "scalar" => Device::Scalar,
            "vulkan" => Device::Vulkan(0),
            other => match other
                .strip_prefix("vulkan:")
                .and_then(|number| number.parse().ok())
            {
                Some(number) => Device::Vulkan(number),
                None => {
                    return Err(Error::Invalid(format!(
                        "no device {other}: auto, cpu, scalar, vulkan[:N]"
                    )));
                }
            },
        })
    }
}

impl TryFrom<String> for Device {
    type Error = Error;

    fn try_from(name: String) -> Result<Device, Error> {
        name.parse()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Scalar => f.write_str("scalar"),
            Device::Vulkan(number) => write!(f, "vulkan:{number}"),
        }
    }
}

/// An encoder, whatever computes it.
pub trait Embed: Send {
    /// One vector of length one per text.
    ///
    /// # Errors
    /// As [`Encoder::embed`].
    fn embed(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error>;

    /// Tokens a text may have.
    fn tokens_max(&self) -> usize;

    /// The device and driver.
    fn device(&self) -> String;
}

impl<B: Backend> Embed for Encoder<B> {
    fn embed(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        Encoder::embed(self, texts)
    }

    fn tokens_max(&self) -> usize {
        self.config().max_position_embeddings
    }

    fn device(&self) -> String {
        self.backend().name()
    }
}

/// Room for sequences.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Positions of one; a model may have fewer.
    pub positions: usize,
    /// Bytes of all keys and values.
    pub cache_bytes: u64,
    /// Sequences at once: the cache is never larger than that many whole ones.
    pub sequences: usize,
}

impl Room {
    /// Room for one sequence.
    pub fn one(positions: usize) -> Room {
        Room {
            positions,
            cache_bytes: u64::MAX,
            sequences: 1,
        }
    }

    /// Bytes of one page of a model's keys and values.
    pub fn page_bytes(model: &Model) -> u64 {
        let shape = CacheShape {
            layers: model.layers,
            heads: model.kv_heads,
            dim: model.dim,
            pages: 1,
        };
        shape.bytes() as u64
    }

    /// Pages of a cache for sequences of that many positions.
    pub fn pages(&self, positions: usize, model: &Model) -> usize {
        let most = positions.div_ceil(PAGE).saturating_mul(self.sequences);
        let fit = usize::try_from(self.cache_bytes / Room::page_bytes(model)).unwrap_or(usize::MAX);
        fit.clamp(1, most.max(1))
    }
}

/// The Vulkan devices that are not the processor, by their numbers.
#[cfg(feature = "vulkan")]
fn real() -> impl Iterator<Item = usize> {
    let all = gpu::devices().unwrap_or_default().into_iter().enumerate();
    all.filter(|(_, facts)| !facts.processor)
        .map(|(number, _)| number)
}

/// A decoder with its cache on a backend.
fn engine<B: Backend>(
    backend: B,
    file: &Gguf<'_>,
    profile: Profile,
    room: Room,
) -> Result<Box<dyn Decode>, Error> {
    let decoder = Decoder::load(backend, file, profile, room.positions)?;
    let pages = room.pages(decoder.positions(), decoder.model());
    Ok(Box::new(Engine::new(decoder, pages * PAGE)?))
}

impl Device {
    /// The processor, where it is what was asked for.
    fn host(self, threads: usize) -> Result<Host, Error> {
        match self {
            Device::Auto | Device::Cpu => Ok(Host::new(Level::best(), threads)),
            Device::Scalar => Ok(Host::scalar()),
            Device::Vulkan(_) => Err(Error::Device {
                device: self.to_string(),
                why: "this program was built without Vulkan; use --device cpu".to_owned(),
            }),
        }
    }

    /// Loads a decoder.
    ///
    /// # Errors
    /// The file or the device refuses.
    pub fn decoder(
        self,
        threads: usize,
        file: &Gguf<'_>,
        profile: Profile,
        room: Room,
    ) -> Result<Box<dyn Decode>, Error> {
        #[cfg(feature = "vulkan")]
        match self {
            Device::Vulkan(number) => return engine(Vulkan::open(number)?, file, profile, room),
            Device::Auto => {
                // The first that proves itself and has the room; a broken file is refused below in any case.
                let load = |number| engine(Vulkan::open(number).ok()?, file, profile, room).ok();
                if let Some(loaded) = real().find_map(load) {
                    return Ok(loaded);
                }
            }
            _ => {}
        }
        engine(self.host(threads)?, file, profile, room)
    }

    /// Loads an encoder.
    ///
    /// # Errors
    /// The files or the device refuse.
    pub fn encoder(
        self,
        threads: usize,
        config: Config,
        file: &Safetensors<'_>,
        profile: Profile,
        pooling: Pooling,
    ) -> Result<Box<dyn Embed>, Error> {
        #[cfg(feature = "vulkan")]
        {
            let on = |number| -> Result<Box<dyn Embed>, Error> {
                let device = Vulkan::open(number)?;
                Ok(Box::new(Encoder::load(
                    device,
                    config.clone(),
                    file,
                    profile,
                    pooling,
                )?))
            };
            match self {
                Device::Vulkan(number) => return on(number),
                Device::Auto => {
                    if let Some(loaded) = real().find_map(|number| on(number).ok()) {
                        return Ok(loaded);
                    }
                }
                _ => {}
            }
        }
        let host = self.host(threads)?;
        Ok(Box::new(Encoder::load(host, config, file, profile, pooling)?))
    }

    /// What every operator gives on the way to the logits after some tokens.
    ///
    /// # Errors
    /// The file or the device refuses, or the tokens are not the model's.
    pub fn trace(
        self,
        threads: usize,
        file: &Gguf<'_>,
        profile: Profile,
        tokens: &[u32],
    ) -> Result<Trace, Error> {
        #[cfg(feature = "vulkan")]
        if let Device::Vulkan(number) = self {
            return trace(Vulkan::open(number)?, file, profile, tokens);
        }
        trace(self.host(threads)?, file, profile, tokens)
    }

    /// The devices of this machine, with what each is; whether they prove themselves shows when one is opened.
    pub fn all(threads: usize) -> Vec<Found> {
        let host = |device: Device| Found {
            device,
            name: device.host(threads).map_or(String::new(), |host| host.name()),
            driver: String::new(),
            processor: true,
        };
        #[allow(unused_mut, reason = "without Vulkan there is nothing to add")]
        let mut all = vec![host(Device::Cpu), host(Device::Scalar)];
        #[cfg(feature = "vulkan")]
        for (number, facts) in gpu::devices().unwrap_or_default().into_iter().enumerate() {
            all.push(Found {
                device: Device::Vulkan(number),
                name: facts.name,
                driver: facts.driver,
                processor: facts.processor,
            });
        }
        all
    }

    /// Opens the device and has it prove itself; gives the name that answers carry.
    ///
    /// # Errors
    /// It is not there, or differs from the definition.
    pub fn prove(self, threads: usize) -> Result<String, Error> {
        #[cfg(feature = "vulkan")]
        if let Device::Vulkan(number) = self {
            return Ok(Vulkan::open(number)?.name());
        }
        Ok(self.host(threads)?.name())
    }
}

/// A device of this machine.
#[derive(Debug, Clone)]
pub struct Found {
    /// By which it is asked for.
    pub device: Device,
    /// What it calls itself.
    pub name: String,
    /// Its driver, where it has one.
    pub driver: String,
    /// Whether it is the processor: `auto` takes the native code instead.
    pub processor: bool,
}
