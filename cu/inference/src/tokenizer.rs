//! Texts to tokens and back, by a library pinned to one version: which token a text becomes is part of consensus.
//!
//! Not here: what tokens mean to a model. Invariant: the same file and text give the same tokens on every machine, and
//! a text never yields a special token, whatever it spells.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kitoken::{Kitoken, SpecialTokenKind};
use serde_json::Value;

use crate::error::Error;
use crate::pairs::PATTERNS;

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
        known(&file)?;
        let text = file.to_string();
        let library = guarded(
            || Kitoken::from_tokenizers_slice(text.as_bytes()).map_err(|error| broken(format!("{error:?}"))),
            || broken("its parts do not fit together"),
        )?;
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
        let encode = || self.library.encode(text, specials);
        guarded(
            || encode().map_err(|error| Error::Invalid(format!("a text: {error}"))),
            || {
                Error::Invalid(
                    "a text that cannot be cut into words, as very many blanks in a row".to_owned(),
                )
            },
        )
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
        let decode = || self.library.decode(tokens, specials);
        guarded(
            || decode().map_err(|error| Error::Invalid(format!("tokens: {error}"))),
            || Error::Invalid("tokens that have no text".to_owned()),
        )
    }
}

/// The library panics where its own bounds are passed, which are counts and so the same everywhere: that is a refusal. It has
/// no state that could stay half changed.
fn guarded<T>(work: impl FnOnce() -> Result<T, Error>, refusal: impl FnOnce() -> Error) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(refusal()))
}

/// Lets through what encoders and vocabularies here have. The library takes more, and trusts it: a pattern of a file's own can
/// cost more than there is, a list without a word ends the program.
fn known(file: &Value) -> Result<(), Error> {
    let model = &file["model"];
    if !matches!(model["type"].as_str(), None | Some("WordPiece" | "BPE")) || model["vocab"].is_array() {
        let kind = &model["type"];
        return Err(Error::Unsupported(format!(
            "a tokenizer of kind {kind}: WordPiece and BPE are read"
        )));
    }
    if model["vocab"].as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(broken("its vocabulary has no token"));
    }
    let forms = [
        "BertNormalizer",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Lowercase",
        "StripAccents",
    ];
    steps(&file["normalizer"], "normalizers", &forms)?;
    steps(
        &file["pre_tokenizer"],
        "pretokenizers",
        &["BertPreTokenizer", "ByteLevel", "Split"],
    )?;
    steps(&file["decoder"], "decoders", &["WordPiece", "ByteLevel"])
}

/// Refuses a step that is none of the known ones, nor a sequence of those.
fn steps(step: &Value, list: &str, known: &[&str]) -> Result<(), Error> {
    let one = |step: &Value| {
        let pattern = step["pattern"]["Regex"].as_str();
        let fits = step["type"] != "Split" || pattern.is_some_and(|own| PATTERNS.contains(&own));
        match step["type"].as_str().is_some_and(|kind| known.contains(&kind)) && fits {
            true => Ok(()),
            false => {
                let why = format!(
                    "a tokenizer's step {}; known are {}",
                    step["type"],
                    known.join(", ")
                );
                Err(Error::Unsupported(why))
            }
        }
    };
    match &step[list] {
        _ if step.is_null() => Ok(()),
        Value::Array(inner) if step["type"] == "Sequence" => inner.iter().try_for_each(one),
        _ => one(step),
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
