//! One model, loaded: texts to tokens, asks to work for its worker. Not here: which models are loaded, evaluation.
//! Invariant: everything a refusal of kind [`Refusal::Certain`] depends on is in the file or in the ask.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::answer::{Answering, Event, Job, Scoring, Work};
use super::encoding::Texts;
use super::worker::Worker;
use super::{
    Answer, Cancel, Code, Embed, Embedded, Facts, Generate, Generated, LIKELIEST_MAX, Prompt, Refusal,
    STOP_BYTES_MAX, STOP_TEXTS_MAX, Score, Scored, TEXTS_MAX, TOKENS_DEFAULT, Token, Unavailable,
};
use crate::Profile;
use crate::chat::Template;
use crate::engine::Sequence;
use crate::generate::Request;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::Vocabulary;

/// What of a decoder does not compute.
pub struct Card {
    pub facts: Facts,
    pub profile: Profile,
    /// BLAKE3 of its file.
    pub hash: blake3::Hash,
    /// Its vocabulary, or why there is none.
    pub vocabulary: Result<Vocabulary, String>,
    /// How conversations are written, where that is known.
    pub template: Option<Template>,
}

/// How a model stands, for people.
pub struct Status {
    device: Mutex<String>,
    /// Asks being evaluated.
    pub running: AtomicUsize,
    /// Positions of the cache that hold nothing needed now.
    pub free: AtomicUsize,
    /// Positions of the cache.
    pub room: AtomicUsize,
}

impl Status {
    pub fn new(device: String, room: usize) -> Status {
        Status {
            device: Mutex::new(device),
            running: AtomicUsize::new(0),
            free: AtomicUsize::new(room),
            room: AtomicUsize::new(room),
        }
    }

    /// Another device computes now.
    pub fn renamed(&self, device: String, room: usize) {
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = device;
        self.room.store(room, Ordering::Relaxed);
    }

    pub fn device(&self) -> String {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A loaded model.
pub struct Model {
    pub card: Arc<Card>,
    pub status: Arc<Status>,
    /// Bytes it takes, about.
    pub bytes: u64,
    /// Positions of one sequence on this node.
    pub positions: usize,
    pub kind: Kind,
}

/// What a model does.
pub enum Kind {
    /// It answers.
    Decoder(Worker<Job>),
    /// It gives vectors.
    Encoder {
        worker: Worker<Texts>,
        tokenizer: Box<Tokenizer>,
        length: usize,
    },
}

impl Card {
    fn vocabulary(&self) -> Result<&Vocabulary, Refusal> {
        self.vocabulary.as_ref().map_err(|why| {
            let why = format!("no texts, a prompt can be given as tokens: {why}");
            Refusal::certain(Code::Unsupported, why)
        })
    }

    fn template(&self) -> Result<Template, Refusal> {
        self.template.ok_or_else(|| {
            let known = Template::ALL.map(|(name, _)| name).join(", ");
            let why =
                format!("the model's chat template is none of {known}; ask with a prompt instead of turns");
            Refusal::certain(Code::Unsupported, why)
        })
    }

    fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Refusal> {
        let tokens = match prompt {
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Text(text) => self.vocabulary()?.encode(text)?,
            Prompt::Chat(turns) => self.template()?.encode(self.vocabulary()?, turns)?,
        };
        match tokens.is_empty() {
            true => Err(Refusal::certain(Code::Invalid, "the prompt has no token")),
            false => self.known(&tokens).map(|()| tokens),
        }
    }

    /// Refuses tokens that the model has no row for, though its tokenizer may.
    fn known(&self, tokens: &[u32]) -> Result<(), Refusal> {
        let unknown = |token: &&u32| u64::from(**token) >= self.facts.vocabulary;
        match tokens.iter().find(unknown) {
            None => Ok(()),
            Some(token) => {
                let why = format!("token {token} of a vocabulary of {}", self.facts.vocabulary);
                Err(Refusal::certain(Code::Invalid, why))
            }
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

    /// Tokens that end an answer to a prompt, besides those that end any text.
    fn stops(&self, prompt: &Prompt) -> Vec<u32> {
        match (prompt, self.template, &self.vocabulary) {
            (Prompt::Chat(_), Some(template), Ok(vocabulary)) => template.stops(vocabulary),
            _ => vec![],
        }
    }

    /// The ask in tokens.
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
        let mut stops = self.vocabulary.as_ref().map_or(vec![], |v| v.stops().to_vec());
        stops.extend(&ask.stops);
        stops.extend(self.stops(&ask.prompt));
        Ok(Request {
            prompt,
            settings: ask.settings,
            tokens_max,
            stops,
        })
    }
}

impl Model {
    /// Whether its worker ended, so that it must be loaded anew.
    pub fn is_over(&self) -> bool {
        match &self.kind {
            Kind::Decoder(worker) => worker.is_over(),
            Kind::Encoder { worker, .. } => worker.is_over(),
        }
    }

    /// Asks that wait.
    pub fn waiting(&self) -> usize {
        match &self.kind {
            Kind::Decoder(worker) => worker.waiting(),
            Kind::Encoder { worker, .. } => worker.waiting(),
        }
    }

    fn decoder(&self) -> Result<&Worker<Job>, Refusal> {
        match &self.kind {
            Kind::Decoder(worker) => Ok(worker),
            Kind::Encoder { .. } => {
                let why = "the model gives vectors of texts, no answers";
                Err(Refusal::certain(Code::Unsupported, why))
            }
        }
    }

    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, Refusal> {
        match &self.kind {
            Kind::Encoder { tokenizer, .. } => Ok(tokenizer.encode_whole(text, usize::MAX)?),
            Kind::Decoder(_) => Ok(self.card.vocabulary()?.encode(text)?),
        }
    }

    pub fn tokenize_within(&self, text: &str) -> Result<Vec<u32>, Refusal> {
        match &self.kind {
            Kind::Encoder { tokenizer, .. } => Ok(tokenizer.encode(text)?),
            Kind::Decoder(_) => Ok(self.card.vocabulary()?.encode_within(text, false)?),
        }
    }

    pub fn tokenize_prompt(&self, prompt: &Prompt) -> Result<(Vec<u32>, Vec<u32>), Refusal> {
        self.decoder()?;
        Ok((self.card.prompt(prompt)?, self.card.stops(prompt)))
    }

    pub fn detokenize(&self, tokens: &[u32]) -> Result<String, Refusal> {
        match &self.kind {
            Kind::Encoder { tokenizer, .. } => {
                Ok(String::from_utf8_lossy(&tokenizer.decode(tokens)?).into_owned())
            }
            Kind::Decoder(_) => Ok(self.card.vocabulary()?.decode(tokens)?),
        }
    }

    /// Puts work before the worker; what comes of it is heard from the receiver.
    fn submit(
        &self,
        asker: &str,
        cancel: &Cancel,
        tokens: Vec<u32>,
        length: usize,
        work: Work,
    ) -> Result<Receiver<Event>, Refusal> {
        let room = self.positions.min(self.status.room.load(Ordering::Relaxed));
        if length > room {
            let why = format!("{length} tokens, this node gives {room} to one ask");
            return Err(Refusal::room(why));
        }
        let (reply, heard) = channel();
        self.decoder()?.submit(Job {
            asker: asker.to_owned(),
            cancel: cancel.clone(),
            tokens,
            sequence: Sequence::default(),
            let_in: 0,
            work,
            reply,
        })?;
        Ok(heard)
    }

    pub fn generate(
        &self,
        ask: &Generate,
        cancel: &Cancel,
        seen: &mut dyn FnMut(&Token),
    ) -> Result<Generated, Refusal> {
        self.decoder()?;
        let request = self.card.request(ask)?;
        let work = Work::Answer(Box::new(Answering::new(&self.card, ask, &request)?));
        let length = request.prompt.len() + request.tokens_max;
        let heard = self.submit(&ask.asker, cancel, request.prompt, length, work)?;
        for event in heard {
            match event {
                Event::Token(token) => seen(&token),
                Event::Answer(answer) => return Ok(*answer),
                Event::Refused(refusal) => return Err(refusal),
                Event::Score(_) | Event::Vector(_) => unreachable!("an answer was asked for"),
            }
        }
        Err(gone())
    }

    pub fn score(&self, ask: &Score) -> Result<Scored, Refusal> {
        self.decoder()?;
        let mut tokens = self.card.prompt(&ask.prompt)?;
        let from = tokens.len() - 1;
        match &ask.answer {
            Answer::Tokens(answer) => tokens.extend(answer),
            Answer::Text(text) => tokens.extend(self.card.vocabulary()?.encode_within(text, false)?),
        }
        let tokens = self.card.prompt(&Prompt::Tokens(tokens))?;
        self.card.within(tokens.len())?;
        let gas = self.card.facts.gas(tokens.len(), 0);
        afford(gas, ask.gas_max)?;
        let work = Work::Score(Scoring {
            from,
            logprobs: vec![],
            gas,
        });
        let length = tokens.len();
        let heard = self.submit(&ask.asker, &Cancel::default(), tokens, length, work)?;
        match heard.recv() {
            Ok(Event::Score(scored)) => Ok(*scored),
            Ok(Event::Refused(refusal)) => Err(refusal),
            Ok(_) => unreachable!("a score was asked for"),
            Err(_) => Err(gone()),
        }
    }

    pub fn embed(&self, ask: &Embed) -> Result<Embedded, Refusal> {
        if !(1..=TEXTS_MAX).contains(&ask.texts.len()) {
            let why = format!("1 to {TEXTS_MAX} texts at once");
            return Err(Refusal::certain(Code::Invalid, why));
        }
        let texts = ask.texts.iter().map(|text| self.whole_text(text));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        if texts.iter().any(Vec::is_empty) {
            return Err(Refusal::certain(Code::Invalid, "a text has no token"));
        }
        let gas = self.card.facts.gas_embed(texts.iter().map(Vec::len));
        afford(gas, ask.gas_max)?;
        let (tokens, prompt_hash) = (texts.iter().map(Vec::len).sum(), texts_hash(&texts));
        let vectors = self.vectors(texts, &ask.asker)?;
        Ok(Embedded {
            vectors_hash: vectors_hash(&vectors),
            vectors,
            tokens,
            gas,
            model: self.card.hash.to_string(),
            prompt_hash,
        })
    }

    /// The tokens of a text that a vector is wanted of. All that could be wrong with it is found here, before it shares
    /// a pass with texts of others.
    fn whole_text(&self, text: &str) -> Result<Vec<u32>, Refusal> {
        let tokens = match &self.kind {
            Kind::Encoder {
                tokenizer, length, ..
            } => tokenizer.encode_whole(text, *length)?,
            Kind::Decoder(_) => self.card.vocabulary()?.encode_whole(text)?,
        };
        self.card.within(tokens.len())?;
        self.card.known(&tokens).map(|()| tokens)
    }

    fn vectors(&self, texts: Vec<Vec<u32>>, asker: &str) -> Result<Vec<Vec<f32>>, Refusal> {
        let worker = match &self.kind {
            Kind::Encoder { worker, .. } => worker,
            Kind::Decoder(_) => return texts.into_iter().map(|text| self.vector(text, asker)).collect(),
        };
        let (reply, heard) = channel();
        worker.submit(Texts {
            asker: asker.to_owned(),
            cancel: Cancel::default(),
            texts,
            vectors: vec![],
            reply,
        })?;
        heard.recv().map_err(|_| gone())?
    }

    /// A decoder's vector of a text.
    fn vector(&self, text: Vec<u32>, asker: &str) -> Result<Vec<f32>, Refusal> {
        let length = text.len();
        let heard = self.submit(asker, &Cancel::default(), text, length, Work::Vector)?;
        match heard.recv() {
            Ok(Event::Vector(vector)) => Ok(vector),
            Ok(Event::Refused(refusal)) => Err(refusal),
            Ok(_) => unreachable!("a vector was asked for"),
            Err(_) => Err(gone()),
        }
    }
}

/// BLAKE3 of texts' tokens.
fn texts_hash(texts: &[Vec<u32>]) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u32).to_le_bytes());
        for token in text {
            hasher.update(&token.to_le_bytes());
        }
    }
    hasher.finalize().to_string()
}

/// BLAKE3 of vectors' bits.
fn vectors_hash(vectors: &[Vec<f32>]) -> String {
    let mut hasher = blake3::Hasher::new();
    for number in vectors.iter().flatten() {
        hasher.update(&number.to_bits().to_le_bytes());
    }
    hasher.finalize().to_string()
}

fn gone() -> Refusal {
    Refusal::Unavailable(Unavailable::Device("the evaluation stopped".to_owned()))
}

/// Refuses what costs more than may be spent.
pub fn afford(gas: u64, gas_max: Option<u64>) -> Result<(), Refusal> {
    match gas_max {
        Some(most) if gas > most => {
            let why = format!("it costs {gas} gas or more, at most {most} may be spent");
            Err(Refusal::certain(Code::OutOfGas, why))
        }
        _ => Ok(()),
    }
}
