//! The graph of a BERT encoder: tokens of several texts in, one vector per text out.
//!
//! Not here: tokenizing. Invariant: a text's vector depends on its own tokens alone; texts are evaluated together
//! without padding, each seeing its own positions.

use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Profile;
use crate::backend::{Activation, Backend, Batch, CacheShape, Heads, PAGE, Place};
use crate::error::Error;
use crate::math::{canon, rsqrt, wide};
use crate::safetensors::Safetensors;

/// Rows that one pass evaluates at most: texts beyond it wait for the next.
pub const ROWS_MAX: usize = 1024;
/// Rows for which it pays to go through all weights: passes are not cut smaller than this.
const ROWS_MIN: usize = 64;

/// What `config.json` says of an encoder.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// `bert`.
    pub model_type: String,
    /// Numbers of a token.
    pub hidden_size: usize,
    /// Numbers inside a feed-forward block.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Positions.
    pub max_position_embeddings: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Added to variances.
    pub layer_norm_eps: f32,
    /// `gelu`.
    pub hidden_act: String,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// It is no configuration of an encoder, or a size is not supported.
    pub fn read(json: &[u8]) -> Result<Config, Error> {
        let broken = |error: serde_json::Error| Error::format("config.json", error.to_string());
        let mut config: Config = serde_json::from_slice(json).map_err(broken)?;
        config.layer_norm_eps = canon(config.layer_norm_eps);
        let all: Value = serde_json::from_slice(json).map_err(broken)?;
        for (key, plain) in [
            ("position_embedding_type", json!("absolute")),
            ("is_decoder", json!(false)),
        ] {
            if !all[key].is_null() && all[key] != plain {
                return Err(Error::Unsupported(format!(
                    "config.json, {key} is {}: {plain}",
                    all[key]
                )));
            }
        }
        let within = |n: usize, most: usize| (1..=most).contains(&n);
        let sizes = within(config.hidden_size, 8192)
            && within(config.intermediate_size, 32768)
            && config.hidden_size.is_multiple_of(32)
            && config.intermediate_size.is_multiple_of(32)
            && within(config.num_hidden_layers, 64)
            && within(config.num_attention_heads, 128)
            && config.hidden_size.is_multiple_of(config.num_attention_heads)
            && within(config.hidden_size / config.num_attention_heads, 512)
            && within(config.max_position_embeddings, 8192)
            && within(config.vocab_size, crate::model::VOCABULARY_MAX)
            && (0.0..=0.1).contains(&config.layer_norm_eps);
        match sizes && config.model_type == "bert" && config.hidden_act == "gelu" {
            true => Ok(config),
            false => Err(Error::Unsupported(format!("an encoder of {config:?}"))),
        }
    }
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean (MiniLM).
    Mean,
    /// The first one (bge).
    First,
    /// The last one: decoders that were taught so.
    Last,
}

/// A model with its weights where a backend computes.
pub struct Encoder<B: Backend> {
    backend: B,
    config: Config,
    profile: Profile,
    pooling: Pooling,
    words: Vec<f32>,
    positions: Vec<f32>,
    norm: Norm<B>,
    layers: Vec<Layer<B>>,
}

struct Norm<B: Backend>(B::Vector, B::Vector);

struct Linear<B: Backend>(B::Matrix, B::Vector);

struct Layer<B: Backend> {
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    attention_output: Linear<B>,
    attention_norm: Norm<B>,
    inner: Linear<B>,
    output: Linear<B>,
    output_norm: Norm<B>,
}

struct Loader<'a, B> {
    file: &'a Safetensors<'a>,
    prefix: &'static str,
    backend: &'a B,
}

impl<B: Backend> Loader<'_, B> {
    fn norm(&self, name: &str, size: usize) -> Result<Norm<B>, Error> {
        let vector = |part| {
            self.backend
                .vector(&self.file.vector(&format!("{}{name}.{part}", self.prefix), size)?)
        };
        Ok(Norm(vector("weight")?, vector("bias")?))
    }

    fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear<B>, Error> {
        let name = format!("{}{name}", self.prefix);
        let matrix = self.file.matrix(&format!("{name}.weight"), rows, cols)?;
        let bias = self.file.vector(&format!("{name}.bias"), rows)?;
        Ok(Linear(self.backend.matrix(&matrix)?, self.backend.vector(&bias)?))
    }

    fn layer(&self, index: usize, width: usize, inner: usize) -> Result<Layer<B>, Error> {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(Layer {
            query: self.linear(&name("attention.self.query"), width, width)?,
            key: self.linear(&name("attention.self.key"), width, width)?,
            value: self.linear(&name("attention.self.value"), width, width)?,
            attention_output: self.linear(&name("attention.output.dense"), width, width)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), width)?,
            inner: self.linear(&name("intermediate.dense"), inner, width)?,
            output: self.linear(&name("output.dense"), width, inner)?,
            output_norm: self.norm(&name("output.LayerNorm"), width)?,
        })
    }
}

impl<B: Backend> Encoder<B> {
    /// Loads a model.
    ///
    /// # Errors
    /// The file or the device refuses.
    pub fn load(
        backend: B,
        config: Config,
        file: &Safetensors<'_>,
        profile: Profile,
        pooling: Pooling,
    ) -> Result<Encoder<B>, Error> {
        let prefix = if file.has("bert.embeddings.LayerNorm.weight") {
            "bert."
        } else {
            ""
        };
        let loader = Loader {
            file,
            prefix,
            backend: &backend,
        };
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let table = |name: &str, rows| file.table(&format!("{prefix}embeddings.{name}.weight"), rows, width);
        let kinds = table("token_type_embeddings", 2)?;
        let mut positions = table("position_embeddings", config.max_position_embeddings)?;
        // Every text is of the first kind.
        for row in positions.chunks_exact_mut(width) {
            row.iter_mut()
                .zip(&kinds)
                .for_each(|(v, kind)| *v = canon(*v + kind));
        }
        Ok(Encoder {
            words: table("word_embeddings", config.vocab_size)?,
            positions,
            norm: loader.norm("embeddings.LayerNorm", width)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| loader.layer(i, width, inner))
                .collect::<Result<_, _>>()?,
            backend,
            config,
            profile,
            pooling,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What computes it.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// One vector of length one per text.
    ///
    /// # Errors
    /// A text without tokens, with too many or with one outside the vocabulary; or the device failed.
    pub fn embed(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        for text in texts {
            self.admit(text)?;
        }
        let groups = groups(texts, self.backend.shares());
        if groups.len() < 2 {
            return self.passes(&self.backend, texts);
        }
        let results: Vec<_> = groups.iter().map(|_| Mutex::new(Ok(vec![]))).collect();
        self.backend.apart(groups.len(), &|share, at| {
            let texts: Vec<&[u32]> = groups[at].iter().map(|text| texts[*text]).collect();
            let vectors = self.passes(share, &texts);
            *results[at].lock().unwrap_or_else(PoisonError::into_inner) = vectors;
        });
        let mut vectors = vec![vec![]; texts.len()];
        for (group, result) in groups.iter().zip(results) {
            let result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (text, vector) in group.iter().zip(result?) {
                vectors[*text] = vector;
            }
        }
        Ok(vectors)
    }

    /// The vectors of texts, as many at a time as a pass takes.
    fn passes(&self, backend: &B, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        let widest = self.config.intermediate_size.max(self.config.hidden_size);
        let most = (backend.near() / (4 * widest)).clamp(ROWS_MIN, ROWS_MAX);
        let (mut vectors, mut rest) = (vec![], texts);
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |text: &&&[u32]| {
                rows += text.len();
                rows <= most
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            vectors.extend(self.pass(backend, now)?);
            rest = later;
        }
        Ok(vectors)
    }

    fn admit(&self, text: &[u32]) -> Result<(), Error> {
        let (actual, limit) = (text.len() as u64, self.config.max_position_embeddings as u64);
        if actual > limit {
            return Err(Error::Limit {
                what: "a text's length in tokens",
                actual,
                limit,
            });
        }
        match !text.is_empty()
            && text
                .iter()
                .all(|token| (*token as usize) < self.config.vocab_size)
        {
            true => Ok(()),
            false => Err(Error::Invalid(
                "a text needs tokens, all of the vocabulary".to_owned(),
            )),
        }
    }

    fn pass(&self, backend: &B, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        let width = self.config.hidden_size;
        let batch = batch(texts);
        let pages = batch.tables.iter().map(Vec::len).sum();
        let heads = self.config.num_attention_heads;
        let mut cache = backend.cache(CacheShape {
            layers: 1,
            heads,
            dim: width / heads,
            pages,
        })?;
        let mut words = Vec::with_capacity(batch.places.len() * width);
        texts.iter().for_each(|text| self.words(text, &mut words));
        let rows = backend.rows(width, words);
        let mut x = backend.layer_norm(&rows, &self.norm.0, &self.norm.1, self.config.layer_norm_eps);
        for layer in &self.layers {
            x = self.layer(backend, layer, x, &mut cache, &batch);
        }
        let values = backend.take(x)?;
        let mut at = 0;
        let pool = |text: &&[u32]| {
            let rows = &values[at * width..][..text.len() * width];
            at += text.len();
            self.pool(rows)
        };
        Ok(texts.iter().map(pool).collect())
    }

    /// The sums of a text's words and positions.
    fn words(&self, text: &[u32], out: &mut Vec<f32>) {
        let width = self.config.hidden_size;
        for (position, token) in text.iter().enumerate() {
            let word = &self.words[*token as usize * width..][..width];
            let place = &self.positions[position * width..][..width];
            out.extend(word.iter().zip(place).map(|(w, p)| canon(w + p)));
        }
    }

    fn layer(
        &self,
        backend: &B,
        layer: &Layer<B>,
        x: B::Rows,
        cache: &mut B::Cache,
        batch: &Batch,
    ) -> B::Rows {
        let config = &self.config;
        let linear = |linear: &Linear<B>, acts: &B::Acts| backend.linear(&linear.0, acts, Some(&linear.1));
        let add_norm = |norm: &Norm<B>, x: B::Rows, y: &B::Rows| {
            backend.add_layer_norm(x, y, &norm.0, &norm.1, config.layer_norm_eps)
        };
        let acts = backend.quantise(&x, self.profile);
        let [q, k, v] = [&layer.query, &layer.key, &layer.value].map(|part| linear(part, &acts));
        backend.store(cache, 0, &k, &v, batch);
        let dim = config.hidden_size / config.num_attention_heads;
        let heads = Heads {
            query: config.num_attention_heads,
            kv: config.num_attention_heads,
            dim,
            scale: 1.0 / (dim as f32).sqrt(),
            cap: 0.0,
            profile: self.profile,
        };
        let seen = backend.attend(&q, cache, 0, &heads, batch);
        let y = linear(&layer.attention_output, &backend.quantise(&seen, self.profile));
        let x = add_norm(&layer.attention_norm, x, &y);
        let (inner, acts) = (&layer.inner, backend.quantise(&x, self.profile));
        let inner = backend.linear_activated(&inner.0, &acts, Some(&inner.1), Activation::GeluErf);
        let y = linear(&layer.output, &backend.quantise(&inner, self.profile));
        add_norm(&layer.output_norm, x, &y)
    }

    /// A text's vector from its tokens'.
    fn pool(&self, rows: &[f32]) -> Vec<f32> {
        pool(self.pooling, self.config.hidden_size, rows)
    }
}

/// A text's vector from its tokens', scaled to length one.
pub(crate) fn pool(pooling: Pooling, width: usize, rows: &[f32]) -> Vec<f32> {
    let rows = match pooling {
        Pooling::First => &rows[..width],
        Pooling::Last => &rows[rows.len() - width..],
        Pooling::Mean => rows,
    };
    let mut sums = vec![0; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += fixed(*v));
    }
    unit(&sums)
}

/// A number of a token's vector in a sum: units of 2^-18, to 2^12 in magnitude.
fn fixed(v: f32) -> i64 {
    i64::from((v.clamp(-4096.0, 4096.0) * 262_144.0 + 0.5).floor() as i32)
}

/// A vector of length one in the direction of integers, which are brought to 22 bits first; to 21 where they are so many
/// that the sum of their squares would not fit.
fn unit(sums: &[i64]) -> Vec<f32> {
    let most = sums.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0);
    let bits = if sums.len() >= 1 << 14 { 21 } else { 22 };
    let up = bits - (64 - most.leading_zeros() as i32);
    let numbers: Vec<i64> = sums
        .iter()
        .map(|s| if up < 0 { s >> -up } else { s << up })
        .collect();
    let squares: i64 = numbers.iter().map(|n| n * n).sum();
    let inverse = rsqrt(wide(squares >> 12)) * f32::from_bits((127 - 6) << 23);
    numbers.iter().map(|n| canon(*n as f32 * inverse)).collect()
}

/// Texts, by their places, in as many groups as there are shares, each with about as many tokens: the longest first,
/// each to the group that has least. One group where the texts are too few or too unlike for that: then the shares do
/// better together on one operator after the other.
fn groups(texts: &[&[u32]], shares: usize) -> Vec<Vec<usize>> {
    let all: usize = texts.iter().map(|text| text.len()).sum();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|text| std::cmp::Reverse(texts[*text].len()));
    let mut groups = vec![(0, vec![]); shares.min(texts.len()).max(1)];
    for text in order {
        let least = groups.iter_mut().min_by_key(|(tokens, _)| *tokens);
        let (tokens, group) = least.expect("there is a group");
        *tokens += texts[text].len();
        group.push(text);
    }
    let most = groups.iter().map(|(tokens, _)| *tokens).max().unwrap_or(0);
    match 3 * most * shares <= 4 * all {
        true => groups.into_iter().map(|(_, group)| group).collect(),
        false => vec![(0..texts.len()).collect()],
    }
}

/// Every text a sequence of its own, its tokens seeing each other in both directions.
fn batch(texts: &[&[u32]]) -> Batch {
    let (mut batch, mut page) = (Batch::default(), 0);
    for (sequence, text) in texts.iter().enumerate() {
        let (length, pages) = (text.len() as u32, text.len().div_ceil(PAGE) as u32);
        let place = |position| Place {
            sequence: sequence as u32,
            position,
            from: 0,
            to: length,
        };
        batch.places.extend((0..length).map(place));
        batch.tables.push((page..page + pages).collect());
        page += pages;
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_every_text_once_and_alike_many_tokens() {
        let texts: Vec<Vec<u32>> = (1..=40).map(|length| vec![7; length]).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        for shares in [1, 2, 3, 8] {
            let groups = groups(&texts, shares);
            assert_eq!(groups.len(), shares);
            let mut all = groups.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..40));
            let tokens = groups
                .iter()
                .map(|group| group.iter().map(|text| texts[*text].len()).sum::<usize>());
            assert!(tokens.clone().max().unwrap() - tokens.min().unwrap() <= 40);
        }
    }

    #[test]
    fn few_or_unlike_texts_stay_together() {
        let (long, short) = (vec![7; 500], vec![7; 5]);
        assert_eq!(groups(&[&long], 4), [[0]]);
        assert_eq!(groups(&[&short, &long, &short], 2), [[0, 1, 2]]);
        assert_eq!(groups(&[], 2), [[0; 0]]);
    }
}
