//! Models shared by everybody who asks on a machine: loaded once, evaluated together, answered each as if alone.
//!
//! Not here: sockets, processes, who pays. Invariant: what a [`Service`] answers is a function of the model, the profile
//! and the ask; load, order, batch, device and prefix reuse never show. What depends on them is [`Unavailable`].

mod ask;
mod model;
mod text;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use ask::*;
use model::Model;

use crate::device::Device;

/// What the service may use. No value of it can change an answer.
#[derive(Debug, Clone)]
pub struct Config {
    /// What computes.
    pub device: Device,
    /// Threads of the CPU; 0 for one per processor.
    pub threads: usize,
    /// Bytes that models and their caches take together.
    pub memory_bytes_max: u64,
    /// Bytes of one model's cache of keys and values.
    pub cache_bytes_max: u64,
    /// Positions of one sequence; a model may have fewer.
    pub positions_max: usize,
    /// Asks of one model that are evaluated together.
    pub batch_max: usize,
    /// Asks of one model that wait.
    pub queue_max: usize,
    /// Asks of one asker that wait for one model.
    pub asker_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            device: Device::Auto,
            threads: 0,
            memory_bytes_max: 8 << 30,
            cache_bytes_max: 1 << 30,
            positions_max: 8192,
            batch_max: 64,
            queue_max: 1024,
            asker_max: 256,
        }
    }
}

/// One token of an answer on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// The token.
    pub token: u32,
    /// Its probability, where it was asked for.
    pub logprob: Option<Logprob>,
    /// The text that is certain to stand in the answer now: whole characters, none of a text that may end it.
    pub text: String,
}

/// By which an asker takes an ask back.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Takes it back: the answer is [`Unavailable::Cancelled`], soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A handle on the service; threads are inside, and end with the last handle.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

type Entry = Arc<OnceLock<Result<Arc<Model>, Refusal>>>;

struct Inner {
    config: Config,
    models: Arc<dyn Models>,
    loaded: Mutex<HashMap<ModelRef, Entry>>,
}

impl Service {
    /// A service that has loaded nothing yet.
    pub fn open(config: Config, models: Arc<dyn Models>) -> Service {
        Service(Arc::new(Inner {
            config,
            models,
            loaded: Mutex::default(),
        }))
    }

    /// The answer to an ask. Blocks the calling thread until it is there.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn generate(&self, ask: &Generate) -> Result<Generated, Refusal> {
        self.generate_with(ask, &Cancel::default(), &mut |_| ())
    }

    /// As [`Service::generate`], handing each token on as it comes. What was handed on is worth nothing if the ask is
    /// refused in the end.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn generate_with(
        &self,
        ask: &Generate,
        cancel: &Cancel,
        seen: &mut dyn FnMut(&Token),
    ) -> Result<Generated, Refusal> {
        self.model(&ask.model)?.generate(ask, cancel, seen)
    }

    /// Vectors of texts.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn embed(&self, ask: &Embed) -> Result<Embedded, Refusal> {
        self.model(&ask.model)?.embed(ask)
    }

    /// How likely given tokens are.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn score(&self, ask: &Score) -> Result<Scored, Refusal> {
        self.model(&ask.model)?.score(ask)
    }

    /// The tokens of a text, behind the one that begins texts where the model has one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn tokenize(&self, model: &ModelRef, text: &str) -> Result<Vec<u32>, Refusal> {
        self.model(model)?.tokenize(text)
    }

    /// The text of tokens, control tokens left out.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn detokenize(&self, model: &ModelRef, tokens: &[u32]) -> Result<String, Refusal> {
        self.model(model)?.detokenize(tokens)
    }

    /// What gas is computed from.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn facts(&self, model: &ModelRef) -> Result<Facts, Refusal> {
        Ok(self.model(model)?.facts)
    }

    fn model(&self, model: &ModelRef) -> Result<Arc<Model>, Refusal> {
        let entry = {
            let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.entry(model.clone()).or_default().clone()
        };
        let load = || {
            let blob = self.0.models.bytes(&model.id)?;
            Ok(Arc::new(Model::load(
                (*blob).as_ref(),
                model.profile,
                &self.0.config,
            )?))
        };
        let model_loaded = entry.get_or_init(load).clone();
        if let Err(Refusal::Unavailable(_)) = model_loaded {
            let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.remove(model);
        }
        model_loaded
    }
}
