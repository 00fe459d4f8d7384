//! What a decoder model is, read from a file's metadata: sizes, family, and what the family does differently.
//! Not here: weights, evaluation. Invariant: every size in a [`Model`] is within the limits that DIN-1's bounds need.

use crate::backend::Activation;
use crate::encoder::Pooling;
use crate::error::Error;
use crate::gguf::{Gguf, Value};
use crate::math::canon;
use crate::rope::{Angles, POSITIONS_MAX, Pairs};

/// Layers a model may have.
pub const LAYERS_MAX: usize = 256;
/// Numbers a head may have.
pub const HEAD_MAX: usize = 512;
/// Heads a layer may have.
pub const HEADS_MAX: usize = 256;
/// Tokens a vocabulary may have.
pub const VOCABULARY_MAX: usize = 1 << 20;

/// A family of decoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama and Mistral.
    Llama,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: queries and keys are normed.
    Qwen3,
    /// Gemma 2: soft caps, norms after blocks, every other layer sees a window.
    Gemma2,
    /// Gemma 3: normed queries and keys, norms after blocks, five of six layers see a window.
    Gemma3,
}

/// Sizes and constants of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its family.
    pub family: Family,
    /// Layers.
    pub layers: usize,
    /// Numbers in the residual stream.
    pub width: usize,
    /// Numbers inside a feed-forward block.
    pub inner: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub dim: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Positions it was trained for.
    pub context: usize,
    /// Added to the mean square in norms.
    pub eps: f32,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// Soft cap of scores and of logits, 0 for none.
    pub caps: [f32; 2],
    /// Positions that windowed layers see, 0 where none is windowed.
    pub window: usize,
    /// Of so many layers all but the last are windowed.
    pub pattern: usize,
    /// How vectors of tokens become a text's.
    pub pooling: Pooling,
    /// Positions of the layers that see everything.
    pub angles: Angles,
    /// Positions of windowed layers.
    pub window_angles: Angles,
}

impl Family {
    fn named(name: &str) -> Result<Family, Error> {
        Ok(match name {
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "gemma2" => Family::Gemma2,
            "gemma3" => Family::Gemma3,
            other => {
                let known = "llama, qwen2, qwen3, gemma2, gemma3";
                return Err(Error::Unsupported(format!(
                    "a model of family {other}; known are {known}"
                )));
            }
        })
    }

    /// Whether it is one of the Gemmas: scaled embeddings, norms after blocks, GELU.
    pub fn is_gemma(self) -> bool {
        matches!(self, Family::Gemma2 | Family::Gemma3)
    }

    /// Whether a norm scales each head of queries and keys.
    pub fn norms_heads(self) -> bool {
        matches!(self, Family::Qwen3 | Family::Gemma3)
    }

    /// Whether queries, keys and values have biases.
    pub fn has_biases(self) -> bool {
        self == Family::Qwen2
    }

    /// How a head's numbers are paired.
    pub fn pairs(self) -> Pairs {
        if self == Family::Llama {
            Pairs::Adjacent
        } else {
            Pairs::Halves
        }
    }

    /// What gates a feed-forward block.
    pub fn activation(self) -> Activation {
        if self.is_gemma() {
            Activation::GeluTanh
        } else {
            Activation::Silu
        }
    }
}

/// Entries of one family.
struct Entries<'a> {
    file: &'a Gguf<'a>,
    family: &'a str,
}

impl Entries<'_> {
    fn size(&self, key: &str, most: usize) -> Result<usize, Error> {
        let key = format!("{}.{key}", self.family);
        match self.file.whole(&key).transpose()? {
            Some(n) if (1..=most as u64).contains(&n) => Ok(n as usize),
            Some(n) => Err(Error::Unsupported(format!(
                "{key} is {n}; 1 to {most} is supported"
            ))),
            None => Err(Error::format("GGUF file", format!("no entry {key}"))),
        }
    }

    fn size_or(&self, key: &str, most: usize, default: usize) -> Result<usize, Error> {
        match self.file.value(&format!("{}.{key}", self.family)) {
            Some(_) => self.size(key, most),
            None => Ok(default),
        }
    }

    fn float_or(&self, key: &str, range: std::ops::RangeInclusive<f32>, default: f32) -> Result<f32, Error> {
        let key = format!("{}.{key}", self.family);
        match self.file.float(&key).transpose()? {
            Some(v) if range.contains(&v) => Ok(v),
            Some(v) => Err(Error::Unsupported(format!(
                "{key} is {v}; {range:?} is supported"
            ))),
            None => Ok(default),
        }
    }

    /// What positions are divided by. A factor without a type is meant to be linear, as is that of files of before 2024.
    fn factor(&self) -> Result<f32, Error> {
        let key = format!("{}.rope.scaling.type", self.family);
        let older = self.float_or("rope.scale_linear", 1.0..=65536.0, 1.0)?;
        match self.file.value(&key) {
            Some(Value::Text("none")) => Ok(1.0),
            None | Some(Value::Text("linear")) => self.float_or("rope.scaling.factor", 1.0..=65536.0, older),
            Some(Value::Text(other)) => Err(Error::Unsupported(format!("{key} is {other}: none, linear"))),
            Some(_) => Err(Error::format("GGUF file", format!("{key} is no text"))),
        }
    }

    fn angles(&self, dim: usize) -> Result<Angles, Error> {
        let factors = match self.file.has("rope_freqs.weight") {
            true => self.file.vector("rope_freqs.weight", dim / 2)?,
            false => vec![],
        };
        let base = self.float_or("rope.freq_base", 1.0..=1e12, 10000.0)?;
        Ok(Angles {
            dim,
            base,
            factor: self.factor()?,
            factors,
        })
    }

    /// The window, and of how many layers all but the last have it; zeros where none has.
    fn window(&self, family: Family) -> Result<(usize, usize), Error> {
        let (default, pattern) = match family {
            Family::Gemma2 => (4096, 2),
            Family::Gemma3 => (0, 6),
            _ => return Ok((0, 0)),
        };
        let key = "attention.sliding_window";
        match self.file.whole(&format!("{}.{key}", self.family)).transpose()? {
            None if default > 0 => Ok((default, self.size_or(PATTERN, LAYERS_MAX, pattern)?)),
            None | Some(0) => Ok((0, 0)),
            Some(_) => Ok((
                self.size(key, POSITIONS_MAX)?,
                self.size_or(PATTERN, LAYERS_MAX, pattern)?,
            )),
        }
    }

    fn pooling(&self) -> Result<Pooling, Error> {
        let key = format!("{}.pooling_type", self.family);
        match self.file.whole(&key).transpose()? {
            None | Some(0 | 1) => Ok(Pooling::Mean),
            Some(2) => Ok(Pooling::First),
            Some(3) => Ok(Pooling::Last),
            Some(other) => Err(Error::Unsupported(format!(
                "{key} is {other}: 1 (mean), 2 (first), 3 (last)"
            ))),
        }
    }

    /// Refuses what says that something else is computed than is here.
    fn only_known(&self, family: Family, context: usize) -> Result<(), Error> {
        let windowless = !family.is_gemma();
        self.file.only(self.family, |name, value| match (name, value) {
            ("attention.sliding_window", Value::Whole(window)) => {
                !windowless || window == 0 || window >= context as i128
            }
            (PATTERN, _) => !windowless,
            ("rope.freq_base_swa", _) => family == Family::Gemma3,
            ("attention.causal", value) => matches!(value, Value::Bool(true)),
            ("expert_count" | "expert_used_count", value) => matches!(value, Value::Whole(0)),
            ("rope.scaling.attn_factor", value) => matches!(value, Value::Float(1.0)),
            // Nothing says that something is not done.
            (_, Value::Bool(false) | Value::Whole(0) | Value::Float(0.0)) => true,
            _ => KNOWN.contains(&name),
        })
    }
}

/// Of how many layers all but the last are windowed.
const PATTERN: &str = "attention.sliding_window_pattern";
/// Entries that are read, and some that change nothing here.
const KNOWN: [&str; 23] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "final_logit_softcapping",
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "tensor_data_layout",
    "vocab_size",
    "mm.tokens_per_image",
];

impl Model {
    /// Reads a file's metadata.
    ///
    /// # Errors
    /// An entry that is missing, or a size that is not supported.
    pub fn read(file: &Gguf<'_>) -> Result<Model, Error> {
        let name = file.text("general.architecture").unwrap_or("(none)");
        let family = Family::named(name)?;
        let entries = Entries { file, family: name };
        let width = entries.size("embedding_length", crate::backend::cpu::NORM_MAX)?;
        let heads = entries.size("attention.head_count", HEADS_MAX)?;
        let dim = entries.size_or(
            "attention.key_length",
            HEAD_MAX,
            (width / heads).clamp(1, HEAD_MAX),
        )?;
        let angles = entries.angles(entries.size_or("rope.dimension_count", dim, dim)?)?;
        let (window, pattern) = entries.window(family)?;
        let context = entries.size("context_length", usize::MAX)?;
        entries.only_known(family, context)?;
        let window_angles = match family {
            Family::Gemma3 if window > 0 => Angles {
                base: entries.float_or("rope.freq_base_swa", 1.0..=1e12, 10000.0)?,
                factor: 1.0,
                ..angles.clone()
            },
            _ => angles.clone(),
        };
        let caps = match family {
            Family::Gemma2 => [50.0, 30.0],
            _ => [0.0, 0.0],
        };
        let model = Model {
            family,
            layers: entries.size("block_count", LAYERS_MAX)?,
            width,
            inner: entries.size("feed_forward_length", crate::weight::COLUMNS_MAX)?,
            heads,
            kv_heads: entries.size_or("attention.head_count_kv", heads, heads)?,
            dim,
            vocabulary: vocabulary(file)?,
            context: context.min(POSITIONS_MAX),
            eps: canon(entries.float_or("attention.layer_norm_rms_epsilon", 0.0..=0.1, 1e-6)?),
            scale: 1.0 / (attended(&entries, family, width / heads, dim)? as f32).sqrt(),
            caps: [
                entries.float_or("attn_logit_softcapping", 0.0..=1e6, caps[0])?,
                entries.float_or("final_logit_softcapping", 0.0..=1e6, caps[1])?,
            ],
            window,
            pattern,
            pooling: entries.pooling()?,
            window_angles,
            angles,
        };
        model.check(entries.size_or("attention.value_length", HEAD_MAX, dim)?)
    }

    fn check(self, value_dim: usize) -> Result<Model, Error> {
        let whole = |n: usize| n.is_multiple_of(crate::weight::BLOCK);
        let blocks = whole(self.width) && whole(self.inner) && whole(self.heads * self.dim);
        let caps = self.caps.iter().all(|cap| *cap == 0.0 || *cap >= 1e-3);
        let heads = self.heads.is_multiple_of(self.kv_heads) && value_dim == self.dim;
        match blocks && caps && heads {
            true => Ok(self),
            false => Err(Error::Unsupported(format!("a model of these sizes: {self:?}"))),
        }
    }

    /// What evaluating a prompt and an answer costs, by count alone: two for each weight used, four for each number of
    /// each position that could be seen.
    pub fn gas(&self, prompt: usize, tokens: usize) -> u64 {
        let heads = (2 * self.heads + 2 * self.kv_heads) * self.dim * self.width;
        let layer = (heads + 3 * self.width * self.inner) as u128;
        let weights = layer * self.layers as u128 + (self.vocabulary * self.width) as u128;
        let positions = (prompt + tokens) as u128;
        let seen = positions * (positions + 1) / 2 * (self.layers * self.heads * self.dim) as u128;
        u64::try_from(2 * weights * positions + 4 * seen).unwrap_or(u64::MAX)
    }

    /// Whether a layer sees a window only.
    pub fn is_windowed(&self, layer: usize) -> bool {
        self.pattern > 0 && layer % self.pattern < self.pattern - 1
    }
}

/// The size whose root divides scores: a head's, but for the largest Gemmas the width per head.
fn attended(entries: &Entries<'_>, family: Family, per_head: usize, dim: usize) -> Result<usize, Error> {
    let layers = entries.size("block_count", LAYERS_MAX)?;
    let largest = matches!((family, layers), (Family::Gemma2, 46) | (Family::Gemma3, 62));
    Ok(if largest { per_head.max(1) } else { dim })
}

/// Tokens, by the embedding's rows: every model has one.
fn vocabulary(file: &Gguf<'_>) -> Result<usize, Error> {
    let rows = file.tensor("token_embd.weight")?.rows;
    match (1..=VOCABULARY_MAX).contains(&rows) {
        true => Ok(rows),
        false => Err(Error::Unsupported(format!("a vocabulary of {rows} tokens"))),
    }
}
