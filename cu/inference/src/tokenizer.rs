//! Texts to tokens and back, by a library pinned to one version: which token a text becomes is part of consensus.
//!
//! Not here: what tokens mean to a model. Invariant: the same file and text give the same tokens on every machine, and
//! a text never yields a special token, whatever it spells.

use std::collections::HashSet;
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
    parts: Parts,
    before: Vec<u32>,
    after: Vec<u32>,
}

/// Where a text can be parted without a change of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// Nowhere.
    None,
    /// Before blanks and ends of lines.
    Blanks,
    /// There and before ideographs, which are words of their own.
    Ideographs,
}

/// Bytes that a part has before it may end.
const PART_BYTES: usize = 2048;

impl Parts {
    /// By what the file does to texts: BERT's ways look at one word at a time.
    fn of_file(file: &Value) -> Parts {
        let normalizer = &file["normalizer"];
        let bert =
            normalizer["type"] == "BertNormalizer" && file["pre_tokenizer"]["type"] == "BertPreTokenizer";
        // A special token is found where a text spells it, across blanks too.
        let added = file["added_tokens"].as_array().into_iter().flatten();
        let bert = bert
            && !added
                .filter_map(|token| token["content"].as_str())
                .any(|text| text.contains(|c| is_blank(c) || is_ideograph(c)));
        match (bert, normalizer["handle_chinese_chars"] == true) {
            (false, _) => Parts::None,
            (true, false) => Parts::Blanks,
            (true, true) => Parts::Ideographs,
        }
    }

    /// The parts of a text, in order.
    fn of(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        let ends = move |c: char| match self {
            Parts::None => false,
            Parts::Blanks => is_blank(c),
            Parts::Ideographs => is_blank(c) || is_ideograph(c),
        };
        std::iter::from_fn(move || {
            let end = rest.char_indices().find(|(at, c)| *at >= PART_BYTES && ends(*c));
            let (part, later) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
            rest = later;
            (!part.is_empty()).then_some(part)
        })
    }
}

/// Not all white space: some of it is removed as a control character.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Whether the library's normalizer sets a character between blanks.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
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
            parts: Parts::of_file(&file),
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
        self.first(text, usize::MAX)
    }

    /// The tokens of a text between those that the file puts around one, at most `most` in all: what is too much is cut
    /// off the text's end.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_whole(&self, text: &str, most: usize) -> Result<Vec<u32>, Error> {
        let room = most.saturating_sub(self.before.len() + self.after.len());
        Ok([&self.before[..], &self.first(text, room)?, &self.after].concat())
    }

    /// A text's tokens, at most so many. Where parts do not see each other they are cut one after the other: the library's
    /// costs grow with the square of a part, and what is too much is not cut at all.
    fn first(&self, text: &str, most: usize) -> Result<Vec<u32>, Error> {
        limited("a text, in bytes", text.len(), TEXT_BYTES_MAX)?;
        let mut tokens = vec![];
        for part in self.parts.of(text) {
            if tokens.len() >= most {
                break;
            }
            tokens.extend(self.part(part)?);
        }
        tokens.truncate(most);
        Ok(tokens)
    }

    fn part(&self, text: &str) -> Result<Vec<u32>, Error> {
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
    let Some(vocabulary) = model["vocab"].as_object().filter(|pieces| !pieces.is_empty()) else {
        return Err(broken("its vocabulary has no token"));
    };
    // The library takes them in whatever order its tables have.
    let numbers: HashSet<_> = vocabulary.values().map(Value::as_u64).collect();
    if numbers.len() < vocabulary.len() {
        return Err(broken("two pieces of its vocabulary have one number"));
    }
    let added = file["added_tokens"].as_array().into_iter().flatten();
    if let Some(own) = added.clone().find(|token| token["special"] != true) {
        let why = format!("an added token that is not special, {}", own["content"]);
        return Err(Error::Unsupported(why));
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
