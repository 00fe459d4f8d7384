//! One model, loaded: what turns texts to tokens and asks to answers. Not here: which models are loaded.
//! Invariant: everything a refusal of kind [`Refusal::Certain`] depends on is in the file or in the ask.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::text::Text;
use super::{
    Answer, Cancel, Code, Config, Embed, Embedded, Facts, Generate, Generated, LIKELIEST_MAX, Logprob,
    Prompt, Refusal, STOP_BYTES_MAX, STOP_TEXTS_MAX, Score, Scored, TEXTS_MAX, TOKENS_DEFAULT, Token,
    Unavailable,
};
use crate::Profile;
use crate::device::Embed as Encode;
use crate::engine::{Sequence, Wanted};
use crate::generate::{Decode, Draft, Finish, Request, logits_hash};
use crate::gguf::Gguf;
use crate::math::key;
use crate::package::Package;
use crate::safetensors::Safetensors;
use crate::sample::{likeliest, logprobs};
use crate::tokenizer::Tokenizer;
use crate::vocabulary::Vocabulary;

/// Tokens of a score evaluated at a time: it bounds the logits held.
const SCORE_TOKENS: usize = 64;

/// A loaded model.
pub struct Model {
    pub facts: Facts,
    profile: Profile,
    hash: blake3::Hash,
    kind: Kind,
}

enum Kind {
    Decoder {
        engine: Mutex<Box<dyn Decode>>,
        vocabulary: Option<Vocabulary>,
    },
    Encoder {
        encoder: Mutex<Box<dyn Encode>>,
        tokenizer: Box<Tokenizer>,
        length: usize,
    },
}

fn locked<T: ?Sized>(mutex: &Mutex<Box<T>>) -> MutexGuard<'_, Box<T>> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Model {
    /// Loads a decoder (GGUF) or a packed encoder (safetensors).
    pub fn load(bytes: &[u8], profile: Profile, config: &Config) -> Result<Model, Refusal> {
        let hash = blake3::hash(bytes);
        let (kind, facts) = match bytes.starts_with(b"GGUF") {
            true => decoder(bytes, profile, config)?,
            false => encoder(bytes, profile, config)?,
        };
        Ok(Model {
            facts,
            profile,
            hash,
            kind,
        })
    }

    fn vocabulary(&self) -> Result<&Vocabulary, Refusal> {
        match &self.kind {
            Kind::Decoder { vocabulary, .. } => vocabulary.as_ref().ok_or_else(|| {
                let why = "the model has no vocabulary that is supported; give the prompt as tokens";
                Refusal::certain(Code::Unsupported, why)
            }),
            Kind::Encoder { .. } => Err(not("answers")),
        }
    }

    fn engine(&self) -> Result<&Mutex<Box<dyn Decode>>, Refusal> {
        match &self.kind {
            Kind::Decoder { engine, .. } => Ok(engine),
            Kind::Encoder { .. } => Err(not("answers")),
        }
    }

    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, Refusal> {
        match &self.kind {
            Kind::Encoder { tokenizer, .. } => Ok(tokenizer.encode_whole(text, usize::MAX)?),
            Kind::Decoder { .. } => Ok(self.vocabulary()?.encode(text)?),
        }
    }

    pub fn detokenize(&self, tokens: &[u32]) -> Result<String, Refusal> {
        match &self.kind {
            Kind::Encoder { tokenizer, .. } => {
                Ok(String::from_utf8_lossy(&tokenizer.decode(tokens)?).into_owned())
            }
            Kind::Decoder { .. } => Ok(self.vocabulary()?.decode(tokens)?),
        }
    }

    fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Refusal> {
        let tokens = match prompt {
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Text(text) => self.vocabulary()?.encode(text)?,
            Prompt::Chat(_) => return Err(Refusal::certain(Code::Unsupported, "no template")),
        };
        let bad = tokens
            .iter()
            .find(|token| u64::from(**token) >= self.facts.vocabulary);
        match (tokens.is_empty(), bad) {
            (true, _) => Err(Refusal::certain(Code::Invalid, "the prompt has no token")),
            (_, Some(token)) => {
                let why = format!("token {token} of a vocabulary of {}", self.facts.vocabulary);
                Err(Refusal::certain(Code::Invalid, why))
            }
            _ => Ok(tokens),
        }
    }

    fn within(&self, length: usize) -> Result<(), Refusal> {
        if length as u64 > self.facts.positions {
            let why = format!(
                "{length} tokens, the model has {} positions",
                self.facts.positions
            );
            return Err(Refusal::certain(Code::TooLong, why));
        }
        Ok(())
    }

    fn request(&self, ask: &Generate) -> Result<Request, Refusal> {
        let prompt = self.prompt(&ask.prompt)?;
        let room = (self.facts.positions as usize).saturating_sub(prompt.len());
        let tokens_max = ask.tokens_max.unwrap_or(room.clamp(1, TOKENS_DEFAULT));
        self.within(prompt.len().saturating_add(tokens_max))?;
        let texts = &ask.stop_texts;
        if texts.len() > STOP_TEXTS_MAX || texts.iter().any(|t| t.is_empty() || t.len() > STOP_BYTES_MAX) {
            let why = format!("to {STOP_TEXTS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes may end an answer");
            return Err(Refusal::certain(Code::Invalid, why));
        }
        if ask.logprobs.is_some_and(|n| n > LIKELIEST_MAX) {
            let why = format!("to {LIKELIEST_MAX} likeliest tokens are told");
            return Err(Refusal::certain(Code::Invalid, why));
        }
        let mut stops = match &self.kind {
            Kind::Decoder {
                vocabulary: Some(vocabulary),
                ..
            } => vocabulary.stops().to_vec(),
            _ => vec![],
        };
        stops.extend(&ask.stops);
        Ok(Request {
            prompt,
            settings: ask.settings,
            tokens_max,
            stops,
        })
    }

    pub fn generate(
        &self,
        ask: &Generate,
        cancel: &Cancel,
        seen: &mut dyn FnMut(&Token),
    ) -> Result<Generated, Refusal> {
        let request = self.request(ask)?;
        let draft = Draft::new(&self.hash, self.profile, &request)?;
        let mut answering = Answering {
            model: self,
            ask,
            draft,
            text: Text::new(ask.stop_texts.clone()),
            logprobs: vec![],
        };
        answering.affordable()?;
        let mut engine = locked(self.engine()?);
        let mut sequence = Sequence::default();
        let mut new = request.prompt;
        let finish = loop {
            let logits = engine.extend(&mut sequence, &new, Wanted::Last);
            let step = logits.map_err(Refusal::from).and_then(|logits| {
                let logits = logits.last().expect("the last token's logits were wanted");
                answering.choose(logits)
            });
            if cancel.is_cancelled() {
                break Err(Refusal::Unavailable(Unavailable::Cancelled));
            }
            match step {
                Err(refusal) => break Err(refusal),
                Ok((token, finish)) => {
                    new = vec![token.token];
                    seen(&token);
                    if let Some(finish) = finish {
                        break Ok(finish);
                    }
                }
            }
        };
        engine.end(sequence);
        Ok(answering.done(finish?))
    }

    pub fn score(&self, ask: &Score) -> Result<Scored, Refusal> {
        let prompt = self.prompt(&ask.prompt)?;
        let tokens = match &ask.answer {
            Answer::Tokens(tokens) => tokens.clone(),
            Answer::Text(text) => self.vocabulary()?.encode_within(text, false)?,
        };
        let fed = self.prompt(&Prompt::Tokens([&prompt[..], &tokens].concat()))?;
        self.within(fed.len())?;
        let gas = self.facts.gas(fed.len(), 0);
        afford(gas, ask.gas_max)?;
        let mut engine = locked(self.engine()?);
        let mut sequence = Sequence::default();
        let (mut logprobs_of, mut last) = (vec![], vec![]);
        let mut at = 0;
        for chunk in fed.chunks(SCORE_TOKENS) {
            let logits = engine.extend(&mut sequence, chunk, Wanted::All)?;
            for logits in logits {
                at += 1;
                if at >= prompt.len() && at < fed.len() {
                    logprobs_of.extend(logprobs(&logits, [fed[at]]));
                }
                last = logits;
            }
        }
        engine.end(sequence);
        Ok(Scored {
            tokens,
            logprobs: logprobs_of,
            logits_hash: logits_hash(&last).to_string(),
            next: likeliest(&last),
            gas,
        })
    }

    pub fn embed(&self, ask: &Embed) -> Result<Embedded, Refusal> {
        let Kind::Encoder {
            encoder,
            tokenizer,
            length,
        } = &self.kind
        else {
            return Err(not("gives vectors"));
        };
        if !(1..=TEXTS_MAX).contains(&ask.texts.len()) {
            let why = format!("1 to {TEXTS_MAX} texts at once");
            return Err(Refusal::certain(Code::Invalid, why));
        }
        let tokens = ask.texts.iter().map(|text| tokenizer.encode_whole(text, *length));
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        let gas = self.facts.gas_embed(tokens.iter().map(Vec::len));
        afford(gas, ask.gas_max)?;
        let texts: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let vectors = locked(encoder).embed(&texts)?;
        let mut asked = blake3::Hasher::new();
        for text in &texts {
            asked.update(&(text.len() as u32).to_le_bytes());
            text.iter().for_each(|token| {
                asked.update(&token.to_le_bytes());
            });
        }
        let mut given = blake3::Hasher::new();
        for number in vectors.iter().flatten() {
            given.update(&number.to_bits().to_le_bytes());
        }
        Ok(Embedded {
            vectors,
            tokens: texts.iter().map(|text| text.len()).sum(),
            gas,
            model: self.hash.to_string(),
            prompt_hash: asked.finalize().to_string(),
            vectors_hash: given.finalize().to_string(),
        })
    }
}

fn not(does: &str) -> Refusal {
    Refusal::certain(Code::Unsupported, format!("the model is not one that {does}"))
}

fn afford(gas: u64, gas_max: Option<u64>) -> Result<(), Refusal> {
    match gas_max {
        Some(most) if gas > most => {
            let why = format!("it costs {gas} gas or more, at most {most} may be spent");
            Err(Refusal::certain(Code::OutOfGas, why))
        }
        _ => Ok(()),
    }
}

/// An answer on its way.
struct Answering<'a> {
    model: &'a Model,
    ask: &'a Generate,
    draft: Draft,
    text: Text,
    logprobs: Vec<Logprob>,
}

impl Answering<'_> {
    /// Whether one more token may be paid.
    fn affordable(&self) -> Result<(), Refusal> {
        let (prompt, tokens) = (self.draft.prompt().len(), self.draft.tokens().len());
        afford(self.model.facts.gas(prompt, tokens + 1), self.ask.gas_max)
    }

    /// The next token, and why the answer ends with it, if it does.
    fn choose(&mut self, logits: &[f32]) -> Result<(Token, Option<Finish>), Refusal> {
        let (token, ended) = self.draft.choose(logits);
        let logprob = self.ask.logprobs.map(|count| logprob(logits, token, count));
        self.logprobs.extend(logprob.clone());
        let stopped = match &self.model.kind {
            Kind::Decoder {
                vocabulary: Some(vocabulary),
                ..
            } => self.text.push(&vocabulary.bytes(token)?),
            _ => false,
        };
        let finish = match (stopped, ended, self.draft.finish()) {
            (true, ..) => Some(Finish::Stop),
            (_, true, finish) => Some(finish),
            _ => None,
        };
        if finish.is_none() {
            self.affordable()?;
        }
        let text = if finish.is_some() {
            self.text.rest()
        } else {
            self.text.take()
        };
        Ok((Token { token, logprob, text }, finish))
    }

    fn done(self, finish: Finish) -> Generated {
        let receipt = self
            .draft
            .receipt(|prompt, tokens| self.model.facts.gas(prompt, tokens));
        Generated {
            text: self.text.whole(),
            tokens: receipt.tokens.clone(),
            logprobs: self.logprobs,
            finish,
            prompt_tokens: receipt.prompt.len(),
            gas: receipt.gas,
            receipt,
        }
    }
}

/// How likely a token is, and the likeliest ones.
fn logprob(logits: &[f32], token: u32, count: usize) -> Logprob {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let place = |t: &u32| (!key(logits[*t as usize]), *t);
    if count < order.len() {
        order.select_nth_unstable_by_key(count, place);
        order.truncate(count);
    }
    order.sort_unstable_by_key(place);
    let all = logprobs(logits, std::iter::once(token).chain(order.iter().copied()));
    Logprob {
        chosen: all[0],
        likeliest: order.into_iter().zip(all[1..].iter().copied()).collect(),
    }
}

fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        asked => asked,
    }
}

fn decoder(bytes: &[u8], profile: Profile, config: &Config) -> Result<(Kind, Facts), Refusal> {
    let file = Gguf::parse(bytes)?;
    let model = crate::model::Model::read(&file)?;
    let engine = config
        .device
        .decoder(threads(config.threads), &file, profile, config.positions_max)?;
    let heads = (2 * model.heads + 2 * model.kv_heads) * model.dim * model.width;
    let layer = (heads + 3 * model.width * model.inner) as u64;
    let facts = Facts {
        encoder: false,
        weights: layer * model.layers as u64 + (model.vocabulary * model.width) as u64,
        layers: model.layers as u64,
        heads: model.heads as u64,
        dim: model.dim as u64,
        vocabulary: model.vocabulary as u64,
        positions: model.context as u64,
    };
    let kind = Kind::Decoder {
        engine: Mutex::new(engine),
        // A model without a vocabulary can still be asked by tokens.
        vocabulary: Vocabulary::read(&file).ok(),
    };
    Ok((kind, facts))
}

fn encoder(bytes: &[u8], profile: Profile, config: &Config) -> Result<(Kind, Facts), Refusal> {
    let file = Safetensors::parse(bytes)?;
    let package = Package::unpack(&file)?;
    let sizes = package.config.clone();
    let (width, layers) = (sizes.hidden_size as u64, sizes.num_hidden_layers as u64);
    let facts = Facts {
        encoder: true,
        weights: layers * (4 * width * width + 2 * width * sizes.intermediate_size as u64),
        layers,
        heads: sizes.num_attention_heads as u64,
        dim: width / sizes.num_attention_heads as u64,
        vocabulary: sizes.vocab_size as u64,
        positions: sizes.max_position_embeddings as u64,
    };
    let encoder = config.device.encoder(
        threads(config.threads),
        package.config,
        &file,
        profile,
        package.pooling,
    )?;
    let kind = Kind::Encoder {
        encoder: Mutex::new(encoder),
        tokenizer: Box::new(package.tokenizer),
        length: package.length,
    };
    Ok((kind, facts))
}
