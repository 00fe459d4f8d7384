//! Models shared by everybody who asks on a machine: loaded once, evaluated together, answered each as if alone.
//!
//! Not here: sockets, processes, who pays. Invariant: what a [`Service`] answers is a function of the model, the profile
//! and the ask; load, order, batch, device and prefix reuse never show. What depends on them is [`Unavailable`].

mod answer;
mod ask;
mod decoding;
mod encoding;
mod load;
mod model;
mod queue;
mod registry;
mod text;
mod watch;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use ask::*;
use load::Loader;
pub use load::{Devices, Machine};
use registry::Registry;
use watch::Watchers;
pub use watch::{News, WATCHERS_MAX, Watch, Watched};

use crate::device::Device;

/// What the service may use. No value of it can change an answer.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
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
    /// Sequences of answered asks whose keys and values are kept for asks that begin like them; 0 keeps none.
    pub prefixes_max: usize,
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
            prefixes_max: 64,
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

/// How a loaded model stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which, by the id it was first asked by.
    pub model: ModelRef,
    /// The ids that lead to it, as far as they were asked for: files that are equal are one model.
    pub ids: Vec<String>,
    /// What computes it, with its driver.
    pub device: String,
    /// Bytes it takes, about.
    pub bytes: u64,
    /// Asks that wait.
    pub waiting: usize,
    /// Asks being evaluated.
    pub running: usize,
    /// Positions of its cache; 0 for an encoder.
    pub positions: usize,
    /// Of them, those that no ask needs now.
    pub positions_free: usize,
}

impl Standing {
    /// Whether it is what that id leads to, in that profile.
    pub fn is(&self, model: &ModelRef) -> bool {
        self.model.profile == model.profile && self.ids.contains(&model.id)
    }
}

/// A handle on the service; threads are inside, and end with the last handle.
#[derive(Clone)]
pub struct Service(Arc<Registry>, Arc<Watchers>);

impl Service {
    /// A service that has loaded nothing yet.
    pub fn open(config: Config, models: Arc<dyn Models>) -> Service {
        Service::open_on(config, models, Arc::new(Machine))
    }

    /// As [`Service::open`], on devices of the caller's.
    pub fn open_on(config: Config, models: Arc<dyn Models>, devices: Arc<dyn Devices>) -> Service {
        let loader = Loader {
            config,
            models,
            devices,
        };
        Service(Arc::new(Registry::new(loader)), Arc::default())
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
        let answer = self.1.number();
        let tell = |news| {
            let model = ask.model.clone();
            self.1.tell(&ask.asker, || Watched { answer, model, news });
        };
        let mut both = |token: &Token| {
            seen(token);
            if !token.text.is_empty() {
                tell(News::Text(token.text.clone()));
            }
        };
        let generated = self
            .0
            .get(&ask.model)
            .and_then(|model| model.generate(ask, cancel, &mut both));
        tell(match &generated {
            Ok(generated) => News::Ended(generated.finish),
            Err(refusal) => News::Refused(refusal.to_string()),
        });
        generated
    }

    /// What an asker's answers are, as they are written: those that begin from now on, on this node.
    ///
    /// # Errors
    /// Too many watch already.
    pub fn watch(&self, asker: &str) -> Result<Watch, Refusal> {
        self.1.watch(asker)
    }

    /// Vectors of texts.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn embed(&self, ask: &Embed) -> Result<Embedded, Refusal> {
        self.0.get(&ask.model)?.embed(ask)
    }

    /// How likely given tokens are.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn score(&self, ask: &Score) -> Result<Scored, Refusal> {
        self.0.get(&ask.model)?.score(ask)
    }

    /// The tokens of a text, behind the one that begins texts where the model has one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn tokenize(&self, model: &ModelRef, text: &str) -> Result<Vec<u32>, Refusal> {
        self.0.get(model)?.tokenize(text)
    }

    /// The tokens of a text that goes on from another: none that begins texts, no blank that only a beginning has.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn tokenize_within(&self, model: &ModelRef, text: &str) -> Result<Vec<u32>, Refusal> {
        self.0.get(model)?.tokenize_within(text)
    }

    /// The tokens of a prompt, and those that end an answer to it besides the model's own.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn tokenize_prompt(
        &self,
        model: &ModelRef,
        prompt: &Prompt,
    ) -> Result<(Vec<u32>, Vec<u32>), Refusal> {
        self.0.get(model)?.tokenize_prompt(prompt)
    }

    /// The text of tokens, control tokens left out.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn detokenize(&self, model: &ModelRef, tokens: &[u32]) -> Result<String, Refusal> {
        self.0.get(model)?.detokenize(tokens)
    }

    /// What gas is computed from.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn facts(&self, model: &ModelRef) -> Result<Facts, Refusal> {
        Ok(self.0.get(model)?.card.facts)
    }

    /// BLAKE3 of the model's file, hexadecimal.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn hash(&self, model: &ModelRef) -> Result<String, Refusal> {
        Ok(self.0.get(model)?.card.hash.to_string())
    }

    /// The models that are loaded now.
    pub fn loaded(&self) -> Vec<Standing> {
        self.0.standing()
    }
}
