//! Texts to tokens and back, by a library pinned to one version: which token a text becomes is part of consensus.
//!
//! Not here: what tokens mean to a model. Invariant: the same file and text give the same tokens on every machine, and
//! a text never yields a special token, whatever it spells.

use kitoken::{Kitoken, SpecialTokenKind};
use serde_json::Value;

use crate::error::Error;

/// Bytes of a text that is tokenized at once.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a tokenizer file.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// A tokenizer of a `tokenizer.json` file.
pub struct Tokenizer {
    library: Kitoken,
    before: Vec<u32>,
    after: Vec<u32>,
}

fn broken(why: impl Into<String>) -> Error {
    Error::format("tokenizer.json", why)
}

impl Tokenizer {
    /// Reads a `tokenizer.json` file. Padding and truncation that it asks for are left out: texts are neither padded nor
    /// cut unless the caller does.
    ///
    /// # Errors
    /// It is too large, or the library does not read it.
    pub fn read(json: &[u8]) -> Result<Tokenizer, Error> {
        limited("a tokenizer file, in bytes", json.len(), FILE_BYTES_MAX)?;
        let mut file: Value = serde_json::from_slice(json).map_err(|error| broken(error.to_string()))?;
        let [before, after] = around(&file["post_processor"])?;
        let fields = file.as_object_mut().ok_or_else(|| broken("no object"))?;
        for part in ["padding", "truncation", "post_processor"] {
            fields.insert(part.to_owned(), Value::Null);
        }
        let library = Kitoken::from_tokenizers_slice(file.to_string().as_bytes());
        let library = library.map_err(|error| broken(format!("{error:?}")))?;
        Ok(Tokenizer {
            library,
            before,
            after,
        })
    }

    /// The tokens of a text alone.
    ///
    /// # Errors
    /// A text that is too long, or has a part that no token stands for.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        limited("a text, in bytes", text.len(), TEXT_BYTES_MAX)?;
        let specials: &[SpecialTokenKind] = &[];
        self.library
            .encode(text, specials)
            .map_err(|error| Error::Invalid(format!("a text: {error}")))
    }

    /// The tokens of a text between those that the file puts around one, at most `most` in all: what is too much is cut
    /// off the text's end.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_whole(&self, text: &str, most: usize) -> Result<Vec<u32>, Error> {
        let mut tokens = self.encode(text)?;
        tokens.truncate(most.saturating_sub(self.before.len() + self.after.len()));
        Ok([&self.before[..], &tokens, &self.after].concat())
    }

    /// The bytes of tokens, special ones left out.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        let specials: &[SpecialTokenKind] = &[];
        self.library
            .decode(tokens, specials)
            .map_err(|error| Error::Invalid(format!("tokens: {error}")))
    }
}

/// The tokens before and after a text, from either form in which files write them.
fn around(processor: &Value) -> Result<[Vec<u32>; 2], Error> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let mut sides = [vec![], vec![]];
    match processor["type"].as_str() {
        Some("BertProcessing" | "RobertaProcessing") => {
            for (side, key) in sides.iter_mut().zip(["cls", "sep"]) {
                side.push(id(&processor[key][1]).ok_or_else(|| broken("a special token without a number"))?);
            }
        }
        Some("TemplateProcessing") => {
            let mut side = 0;
            for part in processor["single"].as_array().into_iter().flatten() {
                match part["SpecialToken"]["id"].as_str() {
                    None => side = 1,
                    Some(name) => {
                        let ids = processor["special_tokens"][name]["ids"]
                            .as_array()
                            .into_iter()
                            .flatten();
                        sides[side].extend(ids.filter_map(id));
                    }
                }
            }
        }
        _ => {}
    }
    Ok(sides)
}

fn limited(what: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    match actual <= limit {
        true => Ok(()),
        false => Err(Error::Limit {
            what,
            actual: actual as u64,
            limit: limit as u64,
        }),
    }
}
