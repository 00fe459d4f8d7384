//! What every operator gave on the way to one token: two evaluations that differ are told apart at the first operator.
//!
//! Not here: who is right; the definition is. Invariant: a trace is a function of the model, the profile and the tokens,
//! as every result is, so two honest ones are equal wherever they were made.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::Profile;
use crate::backend::{Activation, Backend, Batch, CacheShape, Heads, PAGE, Table};
use crate::decoder::Decoder;
use crate::engine::{Engine, Sequence, Wanted};
use crate::error::Error;
use crate::generate::logits_hash;
use crate::gguf::Gguf;
use crate::weight::Matrix;

/// The name of the format of traces.
pub const FORMAT: &str = "weft-trace-1";

/// What one operator gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The layer it stands in, from 0; one past the last for what follows them.
    pub layer: usize,
    /// Its place among the layer's operators, from 0.
    pub place: usize,
    /// Its name, as `spec/inference.md` has it.
    pub operator: String,
    /// BLAKE3 of the bits of its numbers, little-endian, hexadecimal.
    pub hash: String,
}

/// The operators on the way to the logits after some tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// [`FORMAT`].
    pub format: String,
    /// The numerics and profile.
    pub profile: String,
    /// BLAKE3 of the tokens evaluated, 32 bits little-endian each: the logits are those after the last.
    pub tokens: String,
    /// In the order of evaluation.
    pub steps: Vec<Step>,
}

impl Trace {
    /// The first operator that another trace has otherwise.
    ///
    /// # Errors
    /// The two are not of the same question, or not of the same graph.
    pub fn first_difference<'a>(&'a self, other: &Trace) -> Result<Option<&'a Step>, Error> {
        let of = |trace: &Trace| (trace.format.clone(), trace.profile.clone(), trace.tokens.clone());
        if of(self) != of(other) || self.steps.len() != other.steps.len() {
            let why = "is not of the same tokens, profile and graph";
            return Err(Error::format("trace", why));
        }
        let pairs = self.steps.iter().zip(&other.steps);
        Ok(pairs
            .filter(|(own, other)| own != other)
            .map(|(own, _)| own)
            .next())
    }
}

/// The trace of the last of some tokens on a backend.
///
/// # Errors
/// The file, the device, or tokens that the model does not take.
pub fn trace<B: Backend>(
    backend: B,
    file: &Gguf<'_>,
    profile: Profile,
    tokens: &[u32],
) -> Result<Trace, Error> {
    let Some((last, before)) = tokens.split_last() else {
        return Err(Error::Invalid("a trace needs a token".to_owned()));
    };
    let decoder = Decoder::load(Traced::new(backend), file, profile, tokens.len())?;
    let layers = decoder.model().layers;
    let mut engine = Engine::new(decoder, tokens.len().next_multiple_of(PAGE))?;
    let mut sequence = Sequence::default();
    if !before.is_empty() {
        engine.extend(&mut [(&mut sequence, before)], Wanted::None)?;
    }
    engine.decoder().backend().notes().wanted = true;
    engine.extend(&mut [(&mut sequence, &[*last])], Wanted::Last)?;
    let mut notes = engine.decoder().backend().notes();
    match notes.failed.take() {
        Some(error) => Err(error),
        None => Ok(Trace {
            format: FORMAT.to_owned(),
            profile: profile.name().to_owned(),
            tokens: tokens_hash(tokens),
            steps: placed(std::mem::take(&mut notes.given), layers),
        }),
    }
}

fn tokens_hash(tokens: &[u32]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    blake3::hash(&bytes).to_string()
}

/// Puts operators into their layers: each layer adds to the residual stream twice, and its second sum ends it.
fn placed(given: Vec<(&'static str, blake3::Hash)>, layers: usize) -> Vec<Step> {
    let (mut layer, mut place, mut sums) = (0, 0, 0);
    let mut steps = vec![];
    for (operator, hash) in given {
        steps.push(Step {
            layer,
            place,
            operator: operator.to_owned(),
            hash: hash.to_string(),
        });
        place += 1;
        sums += usize::from(operator == "residual");
        if sums == 2 && layer < layers {
            (layer, place, sums) = (layer + 1, 0, 0);
        }
    }
    steps
}

/// A backend that notes what its operators gave.
struct Traced<B> {
    inner: B,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    wanted: bool,
    given: Vec<(&'static str, blake3::Hash)>,
    failed: Option<Error>,
}

impl<B: Backend> Traced<B> {
    fn new(inner: B) -> Traced<B> {
        Traced {
            inner,
            notes: Mutex::default(),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, operator: &'static str, rows: &B::Rows) {
        if !self.notes().wanted {
            return;
        }
        match self.inner.read(rows) {
            Ok(values) => self.notes().given.push((operator, logits_hash(&values))),
            Err(error) => self.notes().failed = Some(error),
        }
    }

    fn noted(&self, operator: &'static str, rows: B::Rows) -> B::Rows {
        self.note(operator, &rows);
        rows
    }
}

impl<B: Backend> Backend for Traced<B> {
    type Matrix = B::Matrix;
    type Vector = B::Vector;
    type Rows = B::Rows;
    type Acts = B::Acts;
    type Cache = B::Cache;

    fn name(&self) -> String {
        self.inner.name()
    }

    fn matrix(&self, matrix: &Matrix) -> Result<B::Matrix, Error> {
        self.inner.matrix(matrix)
    }

    fn vector(&self, values: &[f32]) -> Result<B::Vector, Error> {
        self.inner.vector(values)
    }

    fn cache(&self, shape: CacheShape) -> Result<B::Cache, Error> {
        self.inner.cache(shape)
    }

    fn rows(&self, cols: usize, values: Vec<f32>) -> B::Rows {
        self.noted("embedding", self.inner.rows(cols, values))
    }

    fn read(&self, rows: &B::Rows) -> Result<Vec<f32>, Error> {
        self.inner.read(rows)
    }

    fn take(&self, rows: B::Rows) -> Result<Vec<f32>, Error> {
        self.inner.take(rows)
    }

    fn select(&self, x: &B::Rows, which: &[usize]) -> B::Rows {
        self.inner.select(x, which)
    }

    fn quantise(&self, x: &B::Rows, profile: Profile) -> B::Acts {
        self.inner.quantise(x, profile)
    }

    fn linear(&self, w: &B::Matrix, x: &B::Acts, bias: Option<&B::Vector>) -> B::Rows {
        self.noted("product", self.inner.linear(w, x, bias))
    }

    fn rms_norm(&self, x: &B::Rows, gain: &B::Vector, eps: f32) -> B::Rows {
        self.noted("rms norm", self.inner.rms_norm(x, gain, eps))
    }

    fn layer_norm(&self, x: &B::Rows, gain: &B::Vector, bias: &B::Vector, eps: f32) -> B::Rows {
        self.noted("layer norm", self.inner.layer_norm(x, gain, bias, eps))
    }

    fn add(&self, x: &mut B::Rows, y: &B::Rows) {
        self.inner.add(x, y);
        self.note("residual", x);
    }

    fn activate(&self, f: Activation, x: &mut B::Rows) {
        self.inner.activate(f, x);
        self.note("activation", x);
    }

    fn gate(&self, f: Activation, x: &mut B::Rows, up: &B::Rows) {
        self.inner.gate(f, x, up);
        self.note("gate", x);
    }

    fn soft_cap(&self, x: &mut B::Rows, cap: f32) {
        self.inner.soft_cap(x, cap);
        self.note("soft cap", x);
    }

    fn rotate(&self, x: &mut B::Rows, dim: usize, table: &Table<'_, B::Vector>, batch: &Batch) {
        self.inner.rotate(x, dim, table, batch);
        self.note("rotary positions", x);
    }

    fn store(&self, cache: &mut B::Cache, layer: usize, keys: &B::Rows, values: &B::Rows, batch: &Batch) {
        self.inner.store(cache, layer, keys, values, batch);
    }

    fn attend(&self, q: &B::Rows, cache: &B::Cache, layer: usize, heads: &Heads, batch: &Batch) -> B::Rows {
        self.noted("attention", self.inner.attend(q, cache, layer, heads, batch))
    }
}
