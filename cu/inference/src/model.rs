//! What a decoder model is, read from a file's metadata: sizes, family, and what the family does differently.
//! Not here: weights, evaluation. Invariant: every size in a [`Model`] is within the limits that DIN-1's bounds need.

use crate::backend::Activation;
use crate::error::Error;
use crate::gguf::Gguf;
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

    fn angles(&self, dim: usize) -> Result<Angles, Error> {
        let scaling = self.file.text(&format!("{}.rope.scaling.type", self.family));
        let factor = match scaling {
            None | Some("none") => 1.0,
            Some("linear") => self.float_or("rope.scaling.factor", 1.0..=65536.0, 1.0)?,
            Some(other) => return Err(Error::Unsupported(format!("rotary scaling of type {other}"))),
        };
        let factors = match self.file.has("rope_freqs.weight") {
            true => self.file.vector("rope_freqs.weight", dim / 2)?,
            false => vec![],
        };
        let base = self.float_or("rope.freq_base", 1.0..=1e12, 10000.0)?;
        Ok(Angles {
            dim,
            base,
            factor,
            factors,
        })
    }
}

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
        let window_angles = match family {
            Family::Gemma3 => Angles {
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
            context: entries.size("context_length", usize::MAX)?.min(POSITIONS_MAX),
            eps: entries.float_or("attention.layer_norm_rms_epsilon", 0.0..=0.1, 1e-6)?,
            scale: 1.0 / (attended(&entries, family, width / heads, dim)? as f32).sqrt(),
            caps: [
                entries.float_or("attn_logit_softcapping", 0.0..=1e6, caps[0])?,
                entries.float_or("final_logit_softcapping", 0.0..=1e6, caps[1])?,
            ],
            window: match family.is_gemma() {
                true => entries.size_or("attention.sliding_window", POSITIONS_MAX, 4096)?,
                false => 0,
            },
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
        match self.family {
            Family::Gemma2 => layer.is_multiple_of(2),
            Family::Gemma3 => layer % 6 < 5,
            _ => false,
        }
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
