//! A decoder's tokens as its GGUF file lists them: texts to tokens and back.
//!
//! Two kinds: pieces with scores (`llama`), merged here; byte pairs (`gpt2`), merged by the pinned library. Not here:
//! chat templates. Invariant: as `tokenizer.rs`; a text never yields a control token.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use serde_json::{Value as Json, json};

use crate::error::Error;
use crate::gguf::{Gguf, Value};
use crate::tokenizer::{TEXT_BYTES_MAX, Tokenizer};

/// What stands for a space inside pieces.
const SPACE: &str = "\u{2581}";
/// The kind of pieces that no text yields.
const CONTROL: i128 = 3;
/// The kind of pieces that a model's maker added: they are found in a text before anything is merged.
const DEFINED: i128 = 4;

/// A vocabulary.
pub struct Vocabulary {
    pieces: Vec<Piece>,
    kind: Kind,
    defined: Defined,
    before: Option<u32>,
    stops: Vec<u32>,
}

struct Piece {
    text: Box<str>,
    /// Normal 1, unknown 2, [`CONTROL`], [`DEFINED`], unused 5, byte 6.
    kind: i128,
}

enum Kind {
    Scored {
        numbers: HashMap<Box<str>, u32>,
        scores: Vec<f32>,
        prefix: bool,
    },
    Pairs(Box<Tokenizer>),
}

/// Pieces that a maker defined, by their first byte, longest first.
struct Defined(HashMap<u8, Vec<(Box<str>, u32)>>);

impl Defined {
    /// Those of a vocabulary; in the text of scored ones a sign stands for each space.
    fn new(pieces: &[Piece], kind: &Kind) -> Defined {
        let mut all: HashMap<u8, Vec<(Box<str>, u32)>> = HashMap::new();
        for (number, piece) in pieces.iter().enumerate() {
            let text = match kind {
                Kind::Scored { .. } => piece.text.replace(' ', SPACE),
                Kind::Pairs(_) => piece.text.to_string(),
            };
            if let (DEFINED, Some(first)) = (piece.kind, text.bytes().next()) {
                all.entry(first).or_default().push((text.into(), number as u32));
            }
        }
        // Stable: of equal pieces the first counts.
        all.values_mut()
            .for_each(|list| list.sort_by_key(|(text, _)| Reverse(text.len())));
        Defined(all)
    }

    /// The first of them in a text, the longest where several begin there: where it begins, its length, its number.
    fn find(&self, text: &str) -> Option<(usize, usize, u32)> {
        let longest = |(at, first): (usize, u8)| {
            let list = self.0.get(&first)?;
            let (piece, number) = list
                .iter()
                .find(|(piece, _)| text.as_bytes()[at..].starts_with(piece.as_bytes()))?;
            Some((at, piece.len(), *number))
        };
        text.bytes().enumerate().find_map(longest)
    }

    /// A text's tokens, `rest` giving those between the pieces that are here.
    fn cut(
        &self,
        mut text: &str,
        mut rest: impl FnMut(&str) -> Result<Vec<u32>, Error>,
    ) -> Result<Vec<u32>, Error> {
        let mut tokens = vec![];
        while let Some((at, length, number)) = self.find(text) {
            if at > 0 {
                tokens.extend(rest(&text[..at])?);
            }
            tokens.push(number);
            text = &text[at + length..];
        }
        if !text.is_empty() {
            tokens.extend(rest(text)?);
        }
        Ok(tokens)
    }
}

fn broken(why: impl Into<String>) -> Error {
    Error::format("GGUF file, vocabulary", why)
}

impl Vocabulary {
    /// Reads a file's vocabulary.
    ///
    /// # Errors
    /// It is absent, inconsistent, or of a kind that is not supported.
    pub fn read(file: &Gguf<'_>) -> Result<Vocabulary, Error> {
        let tokens = file
            .list("tokenizer.ggml.tokens")
            .ok_or_else(|| broken("no list of tokens"))?;
        let whole = |value| if let Value::Whole(n) = value { n } else { 1 };
        let kinds: Vec<i128> = file
            .list("tokenizer.ggml.token_type")
            .map_or(vec![], |l| l.items().map(whole).collect());
        let piece = |(i, text): (usize, &str)| Piece {
            text: text.into(),
            kind: kinds.get(i).copied().unwrap_or(1),
        };
        let pieces: Vec<Piece> = tokens.texts().enumerate().map(piece).collect();
        let kind = match file.text("tokenizer.ggml.model") {
            Some("llama") => scored(file, &pieces)?,
            Some("gpt2") => Kind::Pairs(Box::new(Tokenizer::read(&pairs(file, &pieces)?)?)),
            other => return Err(Error::Unsupported(format!("a vocabulary of kind {other:?}"))),
        };
        let number = |key: &str| match file.whole(&format!("tokenizer.ggml.{key}")).transpose() {
            Ok(Some(n)) if n < pieces.len() as u64 => Ok(Some(n as u32)),
            Ok(None) => Ok(None),
            _ => Err(broken(format!("{key} is no token"))),
        };
        let llama = file
            .text("tokenizer.ggml.pre")
            .is_some_and(|pre| pre.starts_with("llama"));
        let default = llama || matches!(kind, Kind::Scored { .. });
        let adds = flag(file, "tokenizer.ggml.add_bos_token", default);
        let before = number("bos_token_id")?.filter(|_| adds);
        let stops = [number("eos_token_id")?, number("eot_token_id")?]
            .into_iter()
            .flatten()
            .collect();
        Ok(Vocabulary {
            defined: Defined::new(&pieces, &kind),
            before,
            stops,
            pieces,
            kind,
        })
    }

    /// Tokens that end an answer.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The token that begins every text, where there is one.
    pub fn before(&self) -> Option<u32> {
        self.before
    }

    /// The token of that name that templates use: a control token, which no text yields, or one its maker defined.
    pub fn special(&self, name: &str) -> Option<u32> {
        let is = |piece: &Piece| matches!(piece.kind, CONTROL | DEFINED) && *piece.text == *name;
        self.pieces.iter().position(is).map(|i| i as u32)
    }

    /// The tokens of a text, after the one that begins every text where there is one.
    ///
    /// # Errors
    /// A text that is too long, or has a part that no token stands for.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut tokens: Vec<u32> = self.before.into_iter().collect();
        tokens.extend(self.encode_within(text, true)?);
        Ok(tokens)
    }

    /// The tokens of a text alone; `begins` where it begins a text, which some vocabularies write differently.
    ///
    /// # Errors
    /// As [`Vocabulary::encode`].
    pub fn encode_within(&self, text: &str, begins: bool) -> Result<Vec<u32>, Error> {
        if text.len() > TEXT_BYTES_MAX {
            let (actual, limit) = (text.len() as u64, TEXT_BYTES_MAX as u64);
            return Err(Error::Limit {
                what: "a text, in bytes",
                actual,
                limit,
            });
        }
        match &self.kind {
            Kind::Scored {
                numbers,
                scores,
                prefix,
            } => {
                let start = if *prefix && begins && !text.is_empty() {
                    SPACE
                } else {
                    ""
                };
                let text = format!("{start}{}", text.replace(' ', SPACE));
                self.defined.cut(&text, |text| merge(text, numbers, scores))
            }
            Kind::Pairs(tokenizer) => self.defined.cut(text, |text| tokenizer.encode(text)),
        }
    }

    /// The bytes that a token stands for: none for a control token.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn bytes(&self, token: u32) -> Result<Vec<u8>, Error> {
        match (self.pieces.get(token as usize), &self.kind) {
            (None, _) => Err(Error::Invalid(format!(
                "token {token} of a vocabulary of {}",
                self.pieces.len()
            ))),
            (Some(piece), _) if piece.kind == CONTROL => Ok(vec![]),
            (Some(piece), Kind::Pairs(_)) if piece.kind == DEFINED => Ok(piece.text.as_bytes().to_vec()),
            (Some(_), Kind::Pairs(tokenizer)) => tokenizer.decode(&[token]),
            (Some(piece), Kind::Scored { .. }) => Ok(piece.bytes()),
        }
    }

    /// The text of tokens, control tokens left out; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        let mut bytes = vec![];
        for token in tokens {
            bytes.extend(self.bytes(*token)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        let byte = self
            .text
            .strip_prefix("<0x")
            .and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        match byte {
            Some(byte) if self.kind == 6 => vec![byte],
            _ => self.text.replace(SPACE, " ").into_bytes(),
        }
    }
}

fn flag(file: &Gguf<'_>, key: &str, default: bool) -> bool {
    match file.value(key) {
        Some(Value::Bool(flag)) => flag,
        _ => default,
    }
}

fn scored(file: &Gguf<'_>, pieces: &[Piece]) -> Result<Kind, Error> {
    let scores = file
        .list("tokenizer.ggml.scores")
        .ok_or_else(|| broken("no scores"))?;
    let number = |value| {
        if let Value::Float(v) = value {
            Some(v as f32).filter(|v| v.is_finite())
        } else {
            None
        }
    };
    let scores: Vec<f32> = scores.items().filter_map(number).collect();
    if scores.len() != pieces.len() {
        return Err(broken("not a finite score per token"));
    }
    // Of equal pieces the first counts; control tokens are not reached by text.
    let reached = pieces
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, piece)| piece.kind != CONTROL);
    let numbers = reached.map(|(i, piece)| (piece.text.clone(), i as u32)).collect();
    Ok(Kind::Scored {
        numbers,
        scores,
        prefix: flag(file, "tokenizer.ggml.add_space_prefix", true),
    })
}

/// A pair of neighbours that could become one piece: the best score first, then the leftmost.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    score: u32,
    left: Reverse<usize>,
    length: usize,
}

/// Merges characters to pieces, the pair with the best score first; what is no piece in the end becomes bytes.
fn merge(text: &str, numbers: &HashMap<Box<str>, u32>, scores: &[f32]) -> Result<Vec<u32>, Error> {
    // Lengths of the pieces by where they begin, 0 inside of one; `before` is where the piece on the left begins.
    let (mut length, mut before) = (vec![0; text.len() + 1], vec![usize::MAX; text.len() + 1]);
    let mut last = usize::MAX;
    for (at, c) in text.char_indices() {
        (length[at], before[at]) = (c.len_utf8(), last);
        last = at;
    }
    let pair = |left: usize, length: &[usize]| {
        let right = left + length[left];
        let both = length[left] + *length.get(right).filter(|length| **length > 0)?;
        let number = *numbers.get(text.get(left..left + both)?)?;
        Some(Pair {
            score: crate::math::key(scores[number as usize]),
            left: Reverse(left),
            length: both,
        })
    };
    let mut heap: BinaryHeap<Pair> = text
        .char_indices()
        .filter_map(|(at, _)| pair(at, &length))
        .collect();
    while let Some(Pair {
        left: Reverse(left),
        length: both,
        ..
    }) = heap.pop()
    {
        let right = left + length[left];
        // A pair whose halves have grown or gone since is no pair any more.
        if length[left] == 0 || right >= text.len() || length[left] + length[right] != both {
            continue;
        }
        (length[left], length[right]) = (both, 0);
        before[left + both] = left;
        heap.extend(pair(left, &length));
        if before[left] != usize::MAX {
            heap.extend(pair(before[left], &length));
        }
    }
    let pieces = (0..text.len())
        .filter(|at| length[*at] > 0)
        .map(|at| &text[at..at + length[at]]);
    let mut tokens = vec![];
    for piece in pieces {
        match numbers.get(piece) {
            Some(number) => tokens.push(*number),
            None => tokens.extend(bytes(piece, numbers)?),
        }
    }
    Ok(tokens)
}

fn bytes(piece: &str, numbers: &HashMap<Box<str>, u32>) -> Result<Vec<u32>, Error> {
    let token = |byte: u8| numbers.get(format!("<0x{byte:02X}>").as_str()).copied();
    let tokens: Option<Vec<u32>> = piece.bytes().map(token).collect();
    tokens.ok_or_else(|| Error::Invalid(format!("no token stands for {piece:?}")))
}

/// The vocabulary as the library reads it.
fn pairs(file: &Gguf<'_>, pieces: &[Piece]) -> Result<Vec<u8>, Error> {
    let merges = file
        .list("tokenizer.ggml.merges")
        .ok_or_else(|| broken("no merges"))?;
    let merges: Vec<&str> = merges.texts().collect();
    let pattern = match file.text("tokenizer.ggml.pre").unwrap_or("default") {
        "llama-bpe" | "llama3" | "llama-v3" => LLAMA_3,
        "qwen2" => QWEN_2,
        "gpt-2" | "default" => GPT_2,
        other => return Err(Error::Unsupported(format!("words cut as {other} does"))),
    };
    // What a maker defined is found before, and what controls is found by no text.
    let vocabulary: serde_json::Map<String, Json> = pieces
        .iter()
        .enumerate()
        .filter(|(_, piece)| !matches!(piece.kind, CONTROL | DEFINED))
        .map(|(i, piece)| (piece.text.to_string(), json!(i)))
        .collect();
    let whole = json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": (pattern == QWEN_2).then(|| json!({"type": "NFC"})),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocabulary, "merges": merges},
    });
    Ok(whole.to_string().into_bytes())
}

/// How families cut a text into words before byte pairs are merged; no file's own pattern is run.
pub(crate) const PATTERNS: [&str; 3] = [GPT_2, LLAMA_3, QWEN_2];
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_maker_defined_is_found_first_and_the_longest() {
        let piece = |text: &str, kind| Piece {
            text: text.into(),
            kind,
        };
        let pieces = [
            piece("a", 1),
            piece("  ", DEFINED),
            piece("<t>", DEFINED),
            piece("    ", DEFINED),
            piece("<t>", DEFINED),
            piece("<c>", CONTROL),
            piece("", DEFINED),
        ];
        let scored = Kind::Scored {
            numbers: HashMap::new(),
            scores: vec![],
            prefix: true,
        };
        let cut = |text: &str| {
            let mut between = vec![];
            let tokens = Defined::new(&pieces, &scored)
                .cut(&text.replace(' ', SPACE), |text| {
                    between.push(text.replace(SPACE, " "));
                    Ok(vec![99])
                })
                .unwrap();
            (tokens, between)
        };
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(cut(""), (vec![], vec![]));
        assert_eq!(cut("a <c>"), (vec![99], texts(&["a <c>"])));
        assert_eq!(cut("é<t><t>"), (vec![99, 2, 2], texts(&["é"])));
        assert_eq!(cut("       <t"), (vec![3, 1, 99], texts(&[" <t"])));
    }

    #[test]
    fn the_best_score_merges_first() {
        let pieces = ["a", "b", "c", "ab", "bc", "abc", "<0xC3>", "<0xA9>"];
        let numbers: HashMap<Box<str>, u32> = pieces
            .iter()
            .enumerate()
            .map(|(i, p)| ((*p).into(), i as u32))
            .collect();
        let scores = [0.0, 0.0, 0.0, -2.0, -1.0, -9.0, 0.0, 0.0];
        let merged = |text: &str| merge(text, &numbers, &scores).unwrap();
        assert_eq!(merged("abc"), [5]);
        assert_eq!(merged("abcab"), [5, 3]);
        assert_eq!(merged("bcé"), [4, 6, 7]);
        assert!(merged("").is_empty());
        assert!(merge("x", &numbers, &scores).is_err());
    }
}
