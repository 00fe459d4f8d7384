//! A decoder's tokens as its GGUF file lists them: texts to tokens and back.
//!
//! Two kinds: pieces with scores (`llama`) and byte pairs (`gpt2`, `pairs.rs`). Not here: chat templates, what merging is
//! (`merge.rs`). Invariant: as `tokenizer.rs`; a text never yields a control token.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::chat::MARKS;
use crate::error::Error;
use crate::gguf::{Gguf, Value};
use crate::math::key;
use crate::merge::merge;
use crate::pairs::{self, Pairs};
use crate::tokenizer::TEXT_BYTES_MAX;

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
    after: Option<u32>,
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
    Pairs(Box<Pairs>),
}

/// Pieces that a maker defined.
struct Defined {
    /// Finds them, by their places in `numbers`.
    finder: AhoCorasick,
    numbers: Vec<u32>,
}

impl Defined {
    /// Those of a vocabulary; in the text of scored ones a sign stands for each space.
    fn new(pieces: &[Piece], kind: &Kind) -> Result<Defined, Error> {
        let defined = (0..).zip(pieces);
        let defined = defined.filter(|(_, piece)| piece.kind == DEFINED && !piece.text.is_empty());
        let (numbers, texts): (Vec<u32>, Vec<String>) = defined
            .map(|(number, piece)| match kind {
                Kind::Scored { .. } => (number, piece.text.replace(' ', SPACE)),
                Kind::Pairs(_) => (number, piece.text.to_string()),
            })
            .unzip();
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts);
        let finder = finder.map_err(|_| broken("too many pieces that its maker defined"))?;
        Ok(Defined { finder, numbers })
    }

    /// The first of them in a text, the longest where several begin there: where it begins, its length, its number. Of equal
    /// ones the first counts.
    fn find(&self, text: &str) -> Option<(usize, usize, u32)> {
        let found = self.finder.find(text)?;
        Some((found.start(), found.len(), self.numbers[found.pattern()]))
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
        let mut pieces: Vec<Piece> = tokens.texts().enumerate().map(piece).collect();
        let count = pieces.len() as u64;
        let number = |key: &str| match file.whole(&format!("tokenizer.ggml.{key}")).transpose() {
            Ok(Some(n)) if n < count => Ok(Some(n as u32)),
            Ok(None) => Ok(None),
            _ => Err(broken(format!("{key} is no token"))),
        };
        let [begins, ends, turns] = ["bos_token_id", "eos_token_id", "eot_token_id"].map(number);
        let (begins, ends) = (begins?, ends?);
        let stops: Vec<u32> = [ends, turns?].into_iter().flatten().collect();
        control(&mut pieces, begins.iter().chain(&stops));
        if let Ok(rows) = file.tensor("token_embd.weight").map(|table| table.rows as u64)
            && rows > count
        {
            return Err(broken(format!(
                "{count} tokens, token_embd.weight has {rows} rows"
            )));
        }
        let kind = match file.text("tokenizer.ggml.model") {
            Some("llama") => scored(file, &pieces)?,
            Some("gpt2") => Kind::Pairs(Box::new(byte_pairs(file, &pieces)?)),
            other => return Err(Error::Unsupported(format!("a vocabulary of kind {other:?}"))),
        };
        let llama = file
            .text("tokenizer.ggml.pre")
            .is_some_and(|pre| pre.starts_with("llama"));
        let default = llama || matches!(kind, Kind::Scored { .. });
        let adds = flag(file, "tokenizer.ggml.add_bos_token", default);
        let ended = flag(file, "tokenizer.ggml.add_eos_token", false);
        Ok(Vocabulary {
            defined: Defined::new(&pieces, &kind)?,
            before: begins.filter(|_| adds),
            after: stops.first().copied().filter(|_| ended && ends.is_some()),
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

    /// The control token of that name, which no text yields.
    pub fn special(&self, name: &str) -> Option<u32> {
        let is = |piece: &Piece| piece.kind == CONTROL && *piece.text == *name;
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

    /// As [`Vocabulary::encode`], before the token that ends texts where the file adds one: for a text that is whole.
    ///
    /// # Errors
    /// As [`Vocabulary::encode`].
    pub fn encode_whole(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = self.encode(text)?;
        tokens.extend(self.after);
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
                self.defined
                    .cut(&text, |text| scored_tokens(text, numbers, scores))
            }
            Kind::Pairs(pairs) => self.defined.cut(text, |text| pairs.encode(text)),
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
            (Some(piece), Kind::Pairs(_)) => Ok(pairs::bytes(&piece.text)),
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

/// What begins or ends texts and what templates write is control, even where a file calls it its maker's: else what somebody
/// says in a conversation could end their turn and begin another's.
fn control<'a>(pieces: &mut [Piece], borders: impl Iterator<Item = &'a u32>) {
    let borders: Vec<usize> = borders.map(|number| *number as usize).collect();
    for (number, piece) in pieces.iter_mut().enumerate() {
        if piece.kind == DEFINED && (borders.contains(&number) || MARKS.contains(&&*piece.text)) {
            piece.kind = CONTROL;
        }
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

/// A text's tokens by scores; what is no piece in the end becomes bytes.
fn scored_tokens(text: &str, numbers: &HashMap<Box<str>, u32>, scores: &[f32]) -> Result<Vec<u32>, Error> {
    let pieces = merge(text, |both, _| Some(key(scores[*numbers.get(both)? as usize])));
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

/// Byte pairs. What a maker defined is found before, and what controls is found by no text.
fn byte_pairs(file: &Gguf<'_>, pieces: &[Piece]) -> Result<Pairs, Error> {
    let merges = file
        .list("tokenizer.ggml.merges")
        .ok_or_else(|| broken("no merges"))?;
    let merges: Vec<&str> = merges.texts().collect();
    let reached = (0..).zip(pieces).collect::<Vec<_>>().into_iter();
    let reached = reached.filter(|(_, piece)| !matches!(piece.kind, CONTROL | DEFINED));
    let cut = file.text("tokenizer.ggml.pre").unwrap_or("default");
    Pairs::new(
        reached.map(|(number, piece)| (number, &*piece.text)),
        &merges,
        cut,
    )
}

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
                .unwrap()
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
        let tokens = |text: &str| scored_tokens(text, &numbers, &scores).unwrap();
        assert_eq!(tokens("abc"), [5]);
        assert_eq!(tokens("abcab"), [5, 3]);
        assert_eq!(tokens("bcé"), [4, 6, 7]);
        assert!(tokens("").is_empty());
        assert!(scored_tokens("x", &numbers, &scores).is_err());
    }

    #[test]
    fn what_borders_texts_and_turns_is_control() {
        let texts = ["a", "<s>", "<|im_end|>", "<think>", "<end>"];
        let mut pieces = texts.map(|text| Piece {
            text: text.into(),
            kind: if text == "a" { 1 } else { DEFINED },
        });
        control(&mut pieces, [1, 4].iter());
        assert_eq!(
            pieces.map(|piece| piece.kind),
            [1, CONTROL, CONTROL, DEFINED, CONTROL]
        );
    }
}
