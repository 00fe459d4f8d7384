//! What is asked of the service, and what it answers. Not here: how. Invariant: an answer is a function of the model,
//! the profile and the ask alone; what depends on the machine or its load is [`Unavailable`], which is no answer.

use std::fmt;
use std::sync::Arc;

use crate::Profile;
use crate::encoder;
use crate::error::Error;
use crate::generate::{Finish, Receipt};
use crate::model::Model;
use crate::sample::Settings;

/// Bytes of a model, mapped or owned, shared by whoever reads them.
pub type Blob = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Where models come from.
pub trait Models: Send + Sync {
    /// The bytes under an id: always the same for the same id.
    ///
    /// # Errors
    /// [`Refusal::Certain`] where the id can never be one, [`Refusal::Unavailable`] where the bytes are not here (yet).
    fn bytes(&self, id: &str) -> Result<Blob, Refusal>;
}

/// A model: the content id of its file, and the profile it is computed in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// What [`Models`] knows it by.
    pub id: String,
    /// A16 unless said otherwise.
    pub profile: Profile,
}

impl ModelRef {
    /// Reads `ID` or `ID:a8`.
    pub fn named(name: &str) -> ModelRef {
        let (id, profile) = match (name.strip_suffix(":a8"), name.strip_suffix(":a16")) {
            (Some(id), _) => (id, Profile::A8),
            (_, Some(id)) => (id, Profile::A16),
            _ => (name, Profile::A16),
        };
        ModelRef {
            id: id.to_owned(),
            profile,
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user`, `assistant` (or what else the model's template knows).
    pub role: String,
    /// What was said.
    pub content: String,
}

/// What stands before an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A text, behind the token that begins texts where the model has one.
    Text(String),
    /// Exactly these tokens.
    Tokens(Vec<u32>),
    /// Turns, written as the model's template says, up to where the assistant speaks.
    Chat(Vec<Turn>),
}

/// An answer wanted from a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Generate {
    /// Which model.
    pub model: ModelRef,
    /// What it answers to.
    pub prompt: Prompt,
    /// How tokens are chosen, the seed among it.
    pub settings: Settings,
    /// Tokens at most, at least 1; `None` for as many as the context holds, to [`TOKENS_DEFAULT`].
    pub tokens_max: Option<usize>,
    /// Tokens that end the answer, besides the model's own.
    pub stops: Vec<u32>,
    /// Texts that end the answer; it is cut before the first.
    pub stop_texts: Vec<String>,
    /// Whether each token's probability is told, and how many of the likeliest others with it, to [`LIKELIEST_MAX`].
    pub logprobs: Option<usize>,
    /// Gas the answer may cost.
    pub gas_max: Option<u64>,
    /// Who asks: for fair shares of the machine, never for the answer.
    pub asker: String,
}

/// Tokens of an answer whose ask names no limit.
pub const TOKENS_DEFAULT: usize = 1024;
/// Likeliest tokens told beside a chosen one.
pub const LIKELIEST_MAX: usize = 20;
/// Texts that may end an answer.
pub const STOP_TEXTS_MAX: usize = 16;
/// Bytes of a text that may end an answer.
pub const STOP_BYTES_MAX: usize = 256;

impl Generate {
    /// An ask with the likeliest token at each place and no limits of its own.
    pub fn new(model: ModelRef, prompt: Prompt) -> Generate {
        Generate {
            model,
            prompt,
            settings: Settings::default(),
            tokens_max: None,
            stops: vec![],
            stop_texts: vec![],
            logprobs: None,
            gas_max: None,
            asker: String::new(),
        }
    }
}

/// An answer of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its text, cut before the text that ended it; control tokens are left out.
    pub text: String,
    /// All tokens chosen, that which ended it included.
    pub tokens: Vec<u32>,
    /// Each token's probability, where it was asked for.
    pub logprobs: Vec<Logprob>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// What it cost.
    pub gas: u64,
    /// By which anybody checks it. Where a text ended the answer its `finish` is `length`: it covers the tokens.
    pub receipt: Receipt,
}

/// How likely a token was, at temperature 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// Natural logarithm of its probability, by [`crate::sample::logprobs`].
    pub chosen: f32,
    /// The likeliest tokens with theirs, the likeliest first.
    pub likeliest: Vec<(u32, f32)>,
}

/// Vectors wanted of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embed {
    /// Which encoder, or decoder: that gives the mean of its last layer.
    pub model: ModelRef,
    /// The texts; what is beyond an encoder's length is cut off each.
    pub texts: Vec<String>,
    /// Gas they may cost.
    pub gas_max: Option<u64>,
    /// Who asks.
    pub asker: String,
}

/// Texts that one ask may have.
pub const TEXTS_MAX: usize = 2048;

/// Vectors of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One per text, of length one.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub tokens: usize,
    /// What they cost.
    pub gas: u64,
    /// BLAKE3 of the model's file, hexadecimal.
    pub model: String,
    /// BLAKE3 of the texts' tokens: per text their count, then the tokens, 32 bits little-endian each.
    pub prompt_hash: String,
    /// BLAKE3 of the vectors' bits, little-endian, in order.
    pub vectors_hash: String,
}

/// How likely a decoder holds given tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Which decoder.
    pub model: ModelRef,
    /// What stands before, at least one token.
    pub prompt: Prompt,
    /// The text scored, as it follows the prompt.
    pub answer: Answer,
    /// Gas it may cost.
    pub gas_max: Option<u64>,
    /// Who asks.
    pub asker: String,
}

/// What is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// How likely tokens are.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The tokens scored.
    pub tokens: Vec<u32>,
    /// Natural logarithm of each one's probability after those before it.
    pub logprobs: Vec<f32>,
    /// BLAKE3 of the logits after the last token, hexadecimal.
    pub logits_hash: String,
    /// The likeliest token after the last one.
    pub next: u32,
    /// What it cost.
    pub gas: u64,
}

/// Counts of a model, of which gas is a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether it gives vectors of texts; else it answers.
    pub encoder: bool,
    /// Weights that take part in a token.
    pub weights: u64,
    /// Layers.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Numbers of a head.
    pub dim: u64,
    /// Tokens there are.
    pub vocabulary: u64,
    /// Positions a sequence may have.
    pub positions: u64,
}

impl Facts {
    /// Counts of a decoder.
    pub fn decoder(model: &Model) -> Facts {
        let heads = (2 * model.heads + 2 * model.kv_heads) * model.dim * model.width;
        let layer = (heads + 3 * model.width * model.inner) as u64;
        Facts {
            encoder: false,
            weights: layer * model.layers as u64 + (model.vocabulary * model.width) as u64,
            layers: model.layers as u64,
            heads: model.heads as u64,
            dim: model.dim as u64,
            vocabulary: model.vocabulary as u64,
            positions: model.context as u64,
        }
    }

    /// Counts of an encoder.
    pub fn encoder(config: &encoder::Config) -> Facts {
        let (width, layers) = (config.hidden_size as u64, config.num_hidden_layers as u64);
        Facts {
            encoder: true,
            weights: layers * (4 * width * width + 2 * width * config.intermediate_size as u64),
            layers,
            heads: config.num_attention_heads as u64,
            dim: width / config.num_attention_heads as u64,
            vocabulary: config.vocab_size as u64,
            positions: config.max_position_embeddings as u64,
        }
    }

    /// What a decoder's answer of `tokens` to a prompt costs: two for each weight used, four for each number of each
    /// position that could be seen. A score is a prompt without an answer.
    pub fn gas(&self, prompt: usize, tokens: usize) -> u64 {
        let n = (prompt + tokens) as u128;
        self.cost(n, n * (n + 1) / 2)
    }

    /// What vectors of texts of these lengths in tokens cost: an encoder's tokens see all of their text.
    pub fn gas_embed(&self, lengths: impl IntoIterator<Item = usize>) -> u64 {
        let seen_of = |n: u128| if self.encoder { n * n } else { n * (n + 1) / 2 };
        let add = |(n, seen), length| (n + length as u128, seen + seen_of(length as u128));
        let (n, seen) = lengths.into_iter().fold((0, 0), add);
        self.cost(n, seen)
    }

    fn cost(&self, tokens: u128, seen: u128) -> u64 {
        let numbers = u128::from(self.layers) * u128::from(self.heads) * u128::from(self.dim);
        u64::try_from(2 * u128::from(self.weights) * tokens + 4 * seen * numbers).unwrap_or(u64::MAX)
    }
}

/// Why there is no answer: callers keep the two apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The ask has no answer, here or anywhere: a function of the ask, and may enter a process's state.
    #[error("{0}")]
    Certain(Certain),
    /// This machine does not answer now. Not a result; never to be recorded; asked again it may answer.
    #[error("{0}")]
    Unavailable(Unavailable),
}

/// A refusal that every machine gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Certain {
    /// Its kind, as programs see it.
    pub code: Code,
    /// What is wrong, for people.
    pub text: String,
}

/// Kinds of certain refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The ask is malformed: a setting out of range, a token outside the vocabulary, no prompt.
    Invalid,
    /// The prompt or the answer is longer than the model or the service's fixed limits allow.
    TooLong,
    /// It costs more than `gas_max`.
    OutOfGas,
    /// The file is no model.
    Broken,
    /// The model, or what is asked of it, is of a kind that DIN-1 does not define.
    Unsupported,
}

impl Code {
    /// Its name in answers to programs.
    pub fn name(self) -> &'static str {
        match self {
            Code::Invalid => "invalid",
            Code::TooLong => "too-long",
            Code::OutOfGas => "out-of-gas",
            Code::Broken => "broken-model",
            Code::Unsupported => "unsupported",
        }
    }
}

/// Why this machine does not answer now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Too much waits already.
    #[error("busy: {0}; ask again later")]
    Busy(String),
    /// The model's bytes are not here.
    #[error("the model is not here: {0}")]
    Absent(String),
    /// The ask needs more room than this node is set to give.
    #[error("no room: {0}")]
    Room(String),
    /// The device failed, or was asked for by name and is not there.
    #[error("{0}")]
    Device(String),
    /// The asker went away.
    #[error("cancelled")]
    Cancelled,
    /// The service was closed.
    #[error("the service is closed")]
    Closed,
}

impl Refusal {
    /// A certain refusal.
    pub fn certain(code: Code, text: impl fmt::Display) -> Refusal {
        Refusal::Certain(Certain {
            code,
            text: text.to_string(),
        })
    }

    /// A refusal for now, of an absent model.
    pub fn absent(why: impl fmt::Display) -> Refusal {
        Refusal::Unavailable(Unavailable::Absent(why.to_string()))
    }

    /// A refusal for now: too much waits.
    pub fn busy(why: impl fmt::Display) -> Refusal {
        Refusal::Unavailable(Unavailable::Busy(why.to_string()))
    }

    /// What went wrong while asks were evaluated together: never a fact of one of them, those were checked before.
    pub fn evaluation(error: &Error) -> Refusal {
        Refusal::Unavailable(Unavailable::Device(error.to_string()))
    }

    /// A refusal for now: beyond what this node gives.
    pub fn room(why: impl fmt::Display) -> Refusal {
        Refusal::Unavailable(Unavailable::Room(why.to_string()))
    }
}

impl From<Error> for Refusal {
    /// What a file, a text or a device refused. Limits of this node never come this way.
    fn from(error: Error) -> Refusal {
        let code = match &error {
            Error::Device { .. } => {
                return Refusal::Unavailable(Unavailable::Device(error.to_string()));
            }
            Error::Format { .. } => Code::Broken,
            Error::Unsupported(_) => Code::Unsupported,
            Error::Limit { .. } => Code::TooLong,
            Error::Invalid(_) => Code::Invalid,
        };
        Refusal::certain(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_with_its_profile() {
        let named = |name| {
            let model = ModelRef::named(name);
            (model.id, model.profile)
        };
        assert_eq!(named("abc"), ("abc".to_owned(), Profile::A16));
        assert_eq!(named("abc:a8"), ("abc".to_owned(), Profile::A8));
        assert_eq!(named("a:b:a16"), ("a:b".to_owned(), Profile::A16));
    }
}
