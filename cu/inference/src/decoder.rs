//! The graph of a decoder: tokens in, logits out, layer by layer over the operators of a backend.
//!
//! Not here: who keeps pages, who chooses tokens. Invariant: a row's result depends on its own token and the positions
//! it sees, never on which other rows share the batch, so batching and chunking cannot change a bit.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::Profile;
use crate::backend::{Backend, Batch, CacheShape, Heads, Table};
use crate::balance::{Turning, magnitude, scaled};
use crate::error::Error;
use crate::gguf::Gguf;
use crate::math::canon;
use crate::model::Model;
use crate::rope;
use crate::weight::Matrix;

/// A model with its weights where a backend computes.
pub struct Decoder<B: Backend> {
    backend: B,
    model: Model,
    profile: Profile,
    positions: usize,
    embedding: Matrix,
    output: B::Matrix,
    output_norm: B::Vector,
    tables: [B::Vector; 2],
    layers: Vec<Layer<B>>,
}

struct Layer<B: Backend> {
    windowed: bool,
    attention_norm: B::Vector,
    query: Projection<B>,
    key: Projection<B>,
    value: Projection<B>,
    attention_output: B::Matrix,
    attention_post_norm: Option<B::Vector>,
    inner_norm: B::Vector,
    gate: B::Matrix,
    up: B::Matrix,
    down: B::Matrix,
    inner_post_norm: Option<B::Vector>,
}

/// A linear map to heads, with what some families add.
struct Projection<B: Backend> {
    matrix: B::Matrix,
    bias: Option<B::Vector>,
    norm: Option<B::Vector>,
}

/// Reads tensors and makes them resident.
struct Loader<'a, B> {
    file: &'a Gguf<'a>,
    backend: &'a B,
    model: &'a Model,
    profile: Profile,
    /// Tensors that were asked for.
    used: RefCell<HashSet<String>>,
}

/// Tensors that say nothing which the metadata does not say: factors that were read with it, a table of older files.
const ASIDE: [&str; 3] = [
    "rope_freqs.weight",
    "attn_rot_embd.weight",
    "attn.rot_embd.weight",
];

impl<B: Backend> Loader<'_, B> {
    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<B::Matrix, Error> {
        self.backend.matrix(&self.weights(name, rows, cols)?)
    }

    fn weights(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        self.used.borrow_mut().insert(name.to_owned());
        self.file.matrix(name, rows, cols)
    }

    /// Refuses a file with weights that this graph has no place for: its maker's has, and gives other answers.
    fn all_used(&self) -> Result<(), Error> {
        let used = self.used.borrow();
        let aside = |name: &str| ASIDE.iter().any(|aside| name.ends_with(aside));
        let names = self.file.tensors().map(|(name, _)| name);
        match names.filter(|name| !used.contains(*name) && !aside(name)).min() {
            None => Ok(()),
            Some(name) => Err(Error::Unsupported(format!(
                "tensor {name}: models of this family have none, and without it the answers would be others"
            ))),
        }
    }

    fn vector(&self, name: &str, length: usize) -> Result<B::Vector, Error> {
        self.used.borrow_mut().insert(name.to_owned());
        self.backend.vector(&self.file.vector(name, length)?)
    }

    fn optional(&self, wanted: bool, name: &str, length: usize) -> Result<Option<B::Vector>, Error> {
        wanted.then(|| self.vector(name, length)).transpose()
    }

    fn floats(&self, wanted: bool, name: &str, length: usize) -> Result<Option<Vec<f32>>, Error> {
        if !wanted {
            return Ok(None);
        }
        self.used.borrow_mut().insert(name.to_owned());
        self.file.vector(name, length).map(Some)
    }

    /// A linear map to heads, its numbers times two to the power of `powers`, over and over: in what norms them where there
    /// is such a norm, else in rows and biases.
    fn projection(
        &self,
        prefix: &str,
        part: &str,
        heads: usize,
        powers: &[i32],
    ) -> Result<Projection<B>, Error> {
        let Model { width, dim, .. } = *self.model;
        let (normed, name) = (
            self.model.family.norms_heads() && part != "attn_v",
            format!("{prefix}.{part}"),
        );
        let mut matrix = self.weights(&format!("{name}.weight"), heads * dim, width)?;
        let mut bias = self.floats(
            self.model.family.has_biases(),
            &format!("{name}.bias"),
            heads * dim,
        )?;
        let mut norm = self.floats(normed, &format!("{name}_norm.weight"), dim)?;
        let scale = |values: &mut Vec<f32>| {
            let powers = powers.iter().cycle();
            values
                .iter_mut()
                .zip(powers)
                .for_each(|(v, power)| *v = scaled(*v, *power));
        };
        match &mut norm {
            Some(norm) => scale(norm),
            None => {
                bias.iter_mut().for_each(scale);
                let rows = matrix.exponents.iter_mut().zip(powers.iter().cycle());
                rows.for_each(|(exponent, power)| *exponent += *power as i16);
            }
        }
        Ok(Projection {
            matrix: self.backend.matrix(&matrix)?,
            bias: bias.map(|bias| self.backend.vector(&bias)).transpose()?,
            norm: norm.map(|norm| self.backend.vector(&norm)).transpose()?,
        })
    }

    /// The powers of two that a layer's keys are divided by, per number of each head, or of all heads where a norm has them.
    fn powers(&self, prefix: &str, gains: &[f32]) -> Result<Vec<i32>, Error> {
        let Model {
            family,
            kv_heads,
            dim,
            width,
            ..
        } = *self.model;
        let turning = Turning {
            pairs: family.pairs(),
            rotated: self.model.angles.dim,
            profile: self.profile,
        };
        let name = format!("{prefix}.attn_k");
        let magnitudes: Vec<f64> =
            match self.floats(family.norms_heads(), &format!("{name}_norm.weight"), dim)? {
                Some(norm) => norm.iter().map(|gain| f64::from(gain.abs())).collect(),
                None => {
                    let rows = self.weights(&format!("{name}.weight"), kv_heads * dim, width)?;
                    let bias = self.floats(family.has_biases(), &format!("{name}.bias"), kv_heads * dim)?;
                    let bias = |row: usize| bias.as_ref().map_or(0.0, |bias| bias[row]);
                    (0..rows.rows)
                        .map(|row| magnitude(&rows.row(row), gains, bias(row)))
                        .collect()
                }
            };
        Ok(magnitudes
            .chunks(dim)
            .flat_map(|head| turning.powers(head))
            .collect())
    }

    fn layer(&self, index: usize) -> Result<Layer<B>, Error> {
        let model = self.model;
        let prefix = format!("blk.{index}");
        let name = |part: &str| format!("{prefix}.{part}.weight");
        let post = model.family.is_gemma();
        let gains = self.file.vector(&name("attn_norm"), model.width)?;
        let powers = self.powers(&prefix, &gains)?;
        let divided: Vec<i32> = powers.iter().map(|power| -power).collect();
        // Several query heads read one head of keys.
        let times = if powers.len() == model.dim {
            1
        } else {
            model.heads / model.kv_heads
        };
        let multiplied = powers.chunks(model.dim).flat_map(|head| head.repeat(times));
        let multiplied: Vec<i32> = multiplied.collect();
        Ok(Layer {
            windowed: model.is_windowed(index),
            attention_norm: self.vector(&name("attn_norm"), model.width)?,
            query: self.projection(&prefix, "attn_q", model.heads, &multiplied)?,
            key: self.projection(&prefix, "attn_k", model.kv_heads, &divided)?,
            value: self.projection(&prefix, "attn_v", model.kv_heads, &[0])?,
            attention_output: self.matrix(&name("attn_output"), model.width, model.heads * model.dim)?,
            attention_post_norm: self.optional(post, &name("post_attention_norm"), model.width)?,
            inner_norm: self.vector(&name("ffn_norm"), model.width)?,
            gate: self.matrix(&name("ffn_gate"), model.inner, model.width)?,
            up: self.matrix(&name("ffn_up"), model.inner, model.width)?,
            down: self.matrix(&name("ffn_down"), model.width, model.inner)?,
            inner_post_norm: self.optional(post, &name("post_ffw_norm"), model.width)?,
        })
    }

    fn table(&self, angles: &rope::Angles, positions: usize) -> Result<B::Vector, Error> {
        let turns = rope::turns(angles)?;
        let values: Vec<f32> = (0..positions).flat_map(|n| rope::row(&turns, n)).collect();
        self.backend.vector(&values)
    }
}

impl<B: Backend> Decoder<B> {
    /// Loads a model; sequences may have up to `positions` positions (at most the model's context).
    ///
    /// # Errors
    /// The file or the device refuses.
    pub fn load(
        backend: B,
        file: &Gguf<'_>,
        profile: Profile,
        positions: usize,
    ) -> Result<Decoder<B>, Error> {
        let model = Model::read(file)?;
        let positions = positions.min(model.context);
        let loader = Loader {
            file,
            backend: &backend,
            model: &model,
            profile,
            used: RefCell::default(),
        };
        let embedding = loader.weights("token_embd.weight", model.vocabulary, model.width)?;
        let output = match file.has("output.weight") {
            true => loader.matrix("output.weight", model.vocabulary, model.width)?,
            false => backend.matrix(&embedding)?,
        };
        let (output_norm, layers) = (
            loader.vector("output_norm.weight", model.width)?,
            (0..model.layers)
                .map(|i| loader.layer(i))
                .collect::<Result<_, Error>>()?,
        );
        loader.all_used()?;
        Ok(Decoder {
            output,
            output_norm,
            tables: [
                loader.table(&model.angles, positions)?,
                loader.table(&model.window_angles, if model.window > 0 { positions } else { 1 })?,
            ],
            layers,
            embedding,
            profile,
            positions,
            model,
            backend,
        })
    }

    /// What the model is.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What computes it.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The profile it is computed in.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Positions a sequence may have.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The shape of a cache with that many pages.
    pub fn cache_shape(&self, pages: usize) -> CacheShape {
        CacheShape {
            layers: self.model.layers,
            heads: self.model.kv_heads,
            dim: self.model.dim,
            pages,
        }
    }

    /// Evaluates one token per place, each seeing all positions up to its own, and keeps their keys and values;
    /// gives the logits of the rows wanted, one after the other. Nothing is computed past the cache if none are.
    ///
    /// # Errors
    /// The device failed; the cache's new positions are then worth nothing.
    pub fn forward(
        &self,
        cache: &mut B::Cache,
        tokens: &[u32],
        batch: &Batch,
        wanted: &[usize],
    ) -> Result<Vec<f32>, Error> {
        let x = self.trunk(cache, tokens, batch);
        if wanted.is_empty() {
            return Ok(vec![]);
        }
        let x = self.backend.select(&x, wanted);
        let x = self.backend.rms_norm(&x, &self.output_norm, self.model.eps);
        let mut logits = self
            .backend
            .linear(&self.output, &self.backend.quantise(&x, self.profile), None);
        if self.model.caps[1] != 0.0 {
            self.backend.soft_cap(&mut logits, self.model.caps[1]);
        }
        self.backend.take(logits)
    }

    /// As [`Decoder::forward`], but gives the normed last layer of every row instead of logits.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn states(&self, cache: &mut B::Cache, tokens: &[u32], batch: &Batch) -> Result<Vec<f32>, Error> {
        let x = self.trunk(cache, tokens, batch);
        let x = self.backend.rms_norm(&x, &self.output_norm, self.model.eps);
        self.backend.take(x)
    }

    /// All layers.
    fn trunk(&self, cache: &mut B::Cache, tokens: &[u32], batch: &Batch) -> B::Rows {
        assert_eq!(tokens.len(), batch.places.len());
        let windowed = self.windowed(batch);
        let mut x = self.embed(tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let batch = if layer.windowed { &windowed } else { batch };
            self.attention(index, layer, &mut x, cache, batch);
            self.inner(layer, &mut x);
        }
        x
    }

    /// The batch as windowed layers see it.
    fn windowed(&self, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        for place in &mut batch.places {
            place.from = place.from.max(place.to.saturating_sub(self.model.window as u32));
        }
        batch
    }

    fn embed(&self, tokens: &[u32]) -> B::Rows {
        let mut values: Vec<f32> = tokens
            .iter()
            .flat_map(|token| self.embedding.row(*token as usize))
            .collect();
        if self.model.family.is_gemma() {
            let by = (self.model.width as f32).sqrt();
            values.iter_mut().for_each(|v| *v = canon(*v * by));
        }
        self.backend.rows(self.model.width, values)
    }

    fn attention(
        &self,
        index: usize,
        layer: &Layer<B>,
        x: &mut B::Rows,
        cache: &mut B::Cache,
        batch: &Batch,
    ) {
        let (backend, model) = (&self.backend, &self.model);
        let normed = backend.rms_norm(x, &layer.attention_norm, model.eps);
        let acts = backend.quantise(&normed, self.profile);
        let table = Table {
            values: &self.tables[usize::from(layer.windowed)],
            dim: model.angles.dim,
            pairs: model.family.pairs(),
        };
        let mut q = self.project(&layer.query, &acts);
        let mut k = self.project(&layer.key, &acts);
        let v = self.project(&layer.value, &acts);
        backend.rotate(&mut q, model.dim, &table, batch);
        backend.rotate(&mut k, model.dim, &table, batch);
        backend.store(cache, index, &k, &v, batch);
        let heads = Heads {
            query: model.heads,
            kv: model.kv_heads,
            dim: model.dim,
            scale: model.scale,
            cap: model.caps[0],
            profile: self.profile,
        };
        let seen = backend.attend(&q, cache, index, &heads, batch);
        let y = backend.linear(
            &layer.attention_output,
            &backend.quantise(&seen, self.profile),
            None,
        );
        self.residual(x, y, layer.attention_post_norm.as_ref());
    }

    fn project(&self, projection: &Projection<B>, acts: &B::Acts) -> B::Rows {
        let y = self
            .backend
            .linear(&projection.matrix, acts, projection.bias.as_ref());
        match &projection.norm {
            Some(gain) => self.backend.rms_norm(&y, gain, self.model.eps),
            None => y,
        }
    }

    fn inner(&self, layer: &Layer<B>, x: &mut B::Rows) {
        let backend = &self.backend;
        let normed = backend.rms_norm(x, &layer.inner_norm, self.model.eps);
        let acts = backend.quantise(&normed, self.profile);
        let mut gate = backend.linear(&layer.gate, &acts, None);
        let up = backend.linear(&layer.up, &acts, None);
        backend.gate(self.model.family.activation(), &mut gate, &up);
        let y = backend.linear(&layer.down, &backend.quantise(&gate, self.profile), None);
        self.residual(x, y, layer.inner_post_norm.as_ref());
    }

    fn residual(&self, x: &mut B::Rows, y: B::Rows, norm: Option<&B::Vector>) {
        match norm {
            Some(gain) => self
                .backend
                .add(x, &self.backend.rms_norm(&y, gain, self.model.eps)),
            None => self.backend.add(x, &y),
        }
    }
}
