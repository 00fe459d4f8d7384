//! Which device computes: chosen by name when a model is loaded. Not here: devices.
//! Invariant: a device asked for by name computes or is refused; only `auto` chooses, and says what it chose.

use std::fmt;
use std::str::FromStr;

use crate::Profile;
use crate::backend::{Backend, Host, Level};
use crate::decoder::Decoder;
use crate::encoder::{Config, Encoder, Pooling};
use crate::engine::Engine;
use crate::error::Error;
use crate::generate::Decode;
use crate::gguf::Gguf;
use crate::safetensors::Safetensors;

/// A device, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Device {
    fn host(self, threads: usize) -> Result<Host, Error> {
        match self {
            Device::Auto | Device::Cpu => Ok(Host::new(Level::best(), threads)),
            Device::Scalar => Ok(Host::scalar()),
            Device::Vulkan(_) => Err(Error::Device {
                device: self.to_string(),
                why: "this program was built without Vulkan".to_owned(),
            }),
        }
    }

    /// Loads a decoder with room for that many positions.
    ///
    /// # Errors
    /// The file or the device refuses.
    pub fn decoder(
        self,
        threads: usize,
        file: &Gguf<'_>,
        profile: Profile,
        positions: usize,
    ) -> Result<Box<dyn Decode>, Error> {
        let decoder = Decoder::load(self.host(threads)?, file, profile, positions)?;
        let positions = decoder.positions();
        Ok(Box::new(Engine::new(decoder, positions)?))
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
        Ok(Box::new(Encoder::load(
            self.host(threads)?,
            config,
            file,
            profile,
            pooling,
        )?))
    }

    /// The devices of this machine, with what each is.
    pub fn all(threads: usize) -> Vec<(Device, String)> {
        let host = |device: Device| device.host(threads).ok().map(|host| (device, host.name()));
        [Device::Cpu, Device::Scalar]
            .into_iter()
            .filter_map(host)
            .collect()
    }
}
