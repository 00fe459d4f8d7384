//! An encoder in one file, so that one content id names it whole: a safetensors file whose metadata carries what else
//! belongs to it.
//!
//! The metadata's texts: `config.json`, `tokenizer.json`, `pooling` (`mean` or `first`) and `length` (tokens of a text
//! at most, decimal). Not here: evaluation. Invariant: a package read is the files it was made of.

use serde_json::{Map, Value, json};

use crate::encoder::{Config, Pooling};
use crate::error::Error;
use crate::safetensors::{HEADER_BYTES_MAX, Safetensors};
use crate::tokenizer::Tokenizer;

/// What belongs to an encoder besides its weights.
pub struct Package {
    /// Its sizes.
    pub config: Config,
    /// What cuts texts.
    pub tokenizer: Tokenizer,
    /// How vectors of tokens become one.
    pub pooling: Pooling,
    /// Tokens of a text at most; what is more is cut off.
    pub length: usize,
}

/// Tokens of a text where nothing says otherwise.
pub const LENGTH_DEFAULT: usize = 256;

impl Package {
    /// Reads the parts as they lie in a folder.
    ///
    /// # Errors
    /// A part is broken or not supported.
    pub fn read(config: &[u8], tokenizer: &[u8], pooling: Pooling, length: usize) -> Result<Package, Error> {
        let config = Config::read(config)?;
        Ok(Package {
            length: length.clamp(1, config.max_position_embeddings),
            tokenizer: Tokenizer::read(tokenizer)?,
            pooling,
            config,
        })
    }

    /// Reads what a packed file carries.
    ///
    /// # Errors
    /// It carries nothing, or a part is broken.
    pub fn unpack(file: &Safetensors<'_>) -> Result<Package, Error> {
        let text = |key: &str| {
            file.metadata(key).ok_or_else(|| {
                let why =
                    format!("its metadata has no {key}: pack the encoder's folder first (`weft infer pack`)");
                Error::format("safetensors file", why)
            })
        };
        let pooling = match text("pooling")? {
            "mean" => Pooling::Mean,
            "first" => Pooling::First,
            "last" => Pooling::Last,
            other => return Err(Error::Unsupported(format!("pooling {other}: mean, first, last"))),
        };
        let length = text("length")?
            .parse()
            .map_err(|_| Error::format("safetensors file", "its length is no number"))?;
        let (config, tokenizer) = (text("config.json")?, text("tokenizer.json")?);
        Package::read(config.as_bytes(), tokenizer.as_bytes(), pooling, length)
    }
}

/// Puts an encoder's files into one: the same tensors, the rest as metadata. Equal files give equal bytes.
///
/// # Errors
/// A part is no text, or the file is no safetensors file.
pub fn pack(
    weights: &[u8],
    config: &[u8],
    tokenizer: &[u8],
    pooling: Pooling,
    length: usize,
) -> Result<Vec<u8>, Error> {
    Package::read(config, tokenizer, pooling, length)?;
    let data = Safetensors::parse(weights)?.data();
    let header = &weights[8..weights.len() - data.len()];
    let broken = |why: String| Error::format("safetensors file", why);
    let mut header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|error| broken(error.to_string()))?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| broken(error.to_string()));
    let pooling = match pooling {
        Pooling::Mean => "mean",
        Pooling::First => "first",
        Pooling::Last => "last",
    };
    let metadata = json!({"config.json": text(config)?, "tokenizer.json": text(tokenizer)?,
                          "pooling": pooling, "length": length.to_string()});
    header.insert("__metadata__".to_owned(), metadata);
    let mut header = Value::Object(header).to_string().into_bytes();
    // Data begins at a multiple of 8, as the format's writers have it.
    header.resize(header.len().next_multiple_of(8), b' ');
    let (actual, limit) = (header.len() as u64, HEADER_BYTES_MAX);
    if actual > limit {
        let what = "the header of a packed encoder, in bytes";
        return Err(Error::Limit { what, actual, limit });
    }
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(data);
    Ok(out)
}
