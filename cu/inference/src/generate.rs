//! An answer from a prompt, and the receipt by which anybody can check it with one pass instead of many.
//!
//! Not here: texts, devices, who asked. Invariant: a receipt is a function of (model, profile, prompt, settings, limit);
//! each link of its chain covers everything before it, the token chosen and the bits of the logits it was chosen from.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::Profile;
use crate::backend::Backend;
use crate::encoder::pool;
use crate::engine::{Engine, Logits, Part, ROWS_MAX, Sequence, Wanted};
use crate::error::Error;
use crate::sample::{Settings, choose};

/// Tokens that one answer has at most.
pub const TOKENS_MAX: usize = 65536;
/// Logits that a check holds at once: 64 MiB.
const CHECK_LOGITS: usize = 1 << 24;

/// A model that answers, whatever computes it.
pub trait Decode: Send {
    /// Evaluates new tokens of one sequence; gives the logits wanted.
    ///
    /// # Errors
    /// As [`Engine::extend`].
    fn extend(&mut self, sequence: &mut Sequence, new: &[u32], wanted: Wanted) -> Result<Vec<Logits>, Error>;

    /// Evaluates new tokens of several sequences together.
    ///
    /// # Errors
    /// As [`Engine::step`].
    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<Logits>>, Error>;

    /// Runs jobs 0 to `jobs` - 1, which do not wait for each other, on whatever threads there are.
    fn apart(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..jobs).for_each(job);
    }

    /// The vector of a text that stands alone: the mean of its tokens' last layer, of length one.
    ///
    /// # Errors
    /// As [`Engine::extend`]. Nothing is held afterwards.
    fn vector(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error>;

    /// A sequence that begins as another did, to at most that many tokens.
    fn fork(&mut self, sequence: &Sequence, length: usize) -> Sequence;

    /// Gives a sequence's room back.
    fn end(&mut self, sequence: Sequence);

    /// Positions that no sequence holds.
    fn free(&self) -> usize;

    /// The device and driver.
    fn device(&self) -> String;

    /// The profile it computes in.
    fn profile(&self) -> Profile;

    /// Tokens there are.
    fn vocabulary(&self) -> usize;

    /// What an answer costs: multiplications of weights, and of keys and values, by count alone.
    fn gas(&self, prompt: usize, tokens: usize) -> u64;
}

impl<B: Backend> Decode for Engine<B> {
    fn extend(&mut self, sequence: &mut Sequence, new: &[u32], wanted: Wanted) -> Result<Vec<Logits>, Error> {
        let mut logits = Engine::extend(self, &mut [(sequence, new)], wanted)?;
        Ok(logits.pop().unwrap_or_default())
    }

    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<Logits>>, Error> {
        Engine::step(self, parts)
    }

    fn apart(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        self.decoder().backend().apart(jobs, &|_, at| job(at));
    }

    fn vector(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let states = self.states(tokens)?;
        Ok(pool(
            self.decoder().model().pooling,
            self.decoder().model().width,
            &states,
        ))
    }

    fn fork(&mut self, sequence: &Sequence, length: usize) -> Sequence {
        Engine::fork(self, sequence, length)
    }

    fn end(&mut self, sequence: Sequence) {
        Engine::end(self, sequence);
    }

    fn free(&self) -> usize {
        Engine::free(self)
    }

    fn device(&self) -> String {
        self.decoder().backend().name()
    }

    fn profile(&self) -> Profile {
        self.decoder().profile()
    }

    fn vocabulary(&self) -> usize {
        self.decoder().model().vocabulary
    }

    fn gas(&self, prompt: usize, tokens: usize) -> u64 {
        self.decoder().model().gas(prompt, tokens)
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model chose a token that ends.
    Stop,
    /// It reached the number of tokens asked for.
    Length,
}

/// What was asked of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The prompt; at least one token.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub settings: Settings,
    /// Tokens wanted at most.
    pub tokens_max: usize,
    /// Tokens that end the answer.
    pub stops: Vec<u32>,
}

/// An answer that can be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// `weft-receipt-1`.
    pub format: String,
    /// The numerics and profile.
    pub profile: String,
    /// BLAKE3 of the model file, hexadecimal.
    pub model: String,
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Bits of the temperature as f32.
    pub temperature_bits: u32,
    /// `top_k`.
    pub top_k: u32,
    /// Bits of `top_p` as f32.
    pub top_p_bits: u32,
    /// The seed, hexadecimal.
    pub seed: String,
    /// Tokens wanted at most.
    pub tokens_max: usize,
    /// Tokens that end the answer.
    pub stops: Vec<u32>,
    /// BLAKE3 of all of the above: the chain's beginning.
    pub head: String,
    /// The answer.
    pub tokens: Vec<u32>,
    /// Per token BLAKE3 of (link before, token, BLAKE3 of the logits' bits), hexadecimal.
    pub chain: Vec<String>,
    /// Why it ended.
    pub finish: Finish,
    /// What it cost.
    pub gas: u64,
}

/// The name of the receipts' format.
pub const FORMAT: &str = "weft-receipt-1";

/// Logits hashed at a time: as many of BLAKE3's chunks as vector units take together.
const HASHED: usize = 4096;

/// BLAKE3 of logits: their bits, little-endian.
pub fn logits_hash(logits: &[f32]) -> blake3::Hash {
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), [0; 4 * HASHED]);
    for logits in logits.chunks(HASHED) {
        for (bytes, v) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(logits) {
            *bytes = v.to_bits().to_le_bytes();
        }
        hasher.update(&bytes[..4 * logits.len()]);
    }
    hasher.finalize()
}

/// The next link of a chain.
fn link(before: &blake3::Hash, token: u32, logits: &blake3::Hash) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes());
    hasher.update(&token.to_le_bytes());
    hasher.update(logits.as_bytes());
    hasher.finalize()
}

impl Receipt {
    fn new(model: &blake3::Hash, profile: Profile, request: &Request) -> Receipt {
        let mut receipt = Receipt {
            format: FORMAT.to_owned(),
            profile: profile.name().to_owned(),
            model: model.to_string(),
            prompt: request.prompt.clone(),
            temperature_bits: request.settings.temperature.to_bits(),
            top_k: request.settings.top_k,
            top_p_bits: request.settings.top_p.to_bits(),
            seed: blake3::Hash::from_bytes(request.settings.seed).to_string(),
            tokens_max: request.tokens_max,
            stops: request.stops.clone(),
            head: String::new(),
            tokens: vec![],
            chain: vec![],
            finish: Finish::Length,
            gas: 0,
        };
        receipt.head = receipt.head_hash().to_string();
        receipt
    }

    /// The hash of everything that was asked: numbers little-endian, lists and texts after their 64-bit lengths.
    fn head_hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for text in [&self.format, &self.profile, &self.model, &self.seed] {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        for list in [&self.prompt, &self.stops] {
            hasher.update(&(list.len() as u64).to_le_bytes());
            for token in list {
                hasher.update(&token.to_le_bytes());
            }
        }
        for number in [self.temperature_bits, self.top_k, self.top_p_bits] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&(self.tokens_max as u64).to_le_bytes());
        hasher.finalize()
    }

    fn settings(&self) -> Result<Settings, Error> {
        // One spelling only: the head is of the text.
        let seed = blake3::Hash::from_hex(&self.seed).ok();
        let seed = seed.filter(|seed| seed.to_hex().as_str() == self.seed);
        let seed = seed.ok_or_else(|| wrong("seed", "is no hash in lower-case hexadecimal"))?;
        let settings = Settings {
            temperature: f32::from_bits(self.temperature_bits),
            top_k: self.top_k,
            top_p: f32::from_bits(self.top_p_bits),
            seed: *seed.as_bytes(),
        };
        settings.check()?;
        Ok(settings)
    }
}

/// A forged or broken receipt: where, and what is wrong there.
fn wrong(place: &str, why: &str) -> Error {
    Error::format(format!("receipt, {place}"), why)
}

/// An answer being made, token by token.
#[derive(Debug, Clone)]
pub struct Draft {
    receipt: Receipt,
    settings: Settings,
    logits: Vec<blake3::Hash>,
}

impl Draft {
    /// An answer without a token yet.
    ///
    /// # Errors
    /// A request out of its limits.
    pub fn new(model: &blake3::Hash, profile: Profile, request: &Request) -> Result<Draft, Error> {
        request.settings.check()?;
        if request.prompt.is_empty() || !(1..=TOKENS_MAX).contains(&request.tokens_max) {
            return Err(Error::Invalid(format!(
                "a prompt needs a token, an answer 1 to {TOKENS_MAX}"
            )));
        }
        Ok(Draft {
            receipt: Receipt::new(model, profile, request),
            settings: request.settings,
            logits: vec![],
        })
    }

    /// The prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.receipt.prompt
    }

    /// The tokens chosen so far.
    pub fn tokens(&self) -> &[u32] {
        &self.receipt.tokens
    }

    /// Why it ended, once it has.
    pub fn finish(&self) -> Finish {
        self.receipt.finish
    }

    /// Chooses the next token from the logits after the one before; tells whether the answer ends with it.
    ///
    /// # Panics
    /// On an answer that has ended.
    pub fn choose(&mut self, logits: &[f32]) -> (u32, bool) {
        let receipt = &mut self.receipt;
        assert!(receipt.tokens.len() < receipt.tokens_max && receipt.finish == Finish::Length);
        let token = choose(logits, &self.settings, receipt.tokens.len() as u64);
        receipt.tokens.push(token);
        self.logits.push(logits_hash(logits));
        if receipt.stops.contains(&token) {
            receipt.finish = Finish::Stop;
        }
        let full = receipt.tokens.len() == receipt.tokens_max;
        (token, full || receipt.finish == Finish::Stop)
    }

    /// The receipt of what was chosen; an answer that was ended early is the whole answer to an ask for that many tokens.
    ///
    /// # Panics
    /// On an answer without a token.
    pub fn receipt(&self, gas: impl FnOnce(usize, usize) -> u64) -> Receipt {
        let mut receipt = self.receipt.clone();
        assert!(!receipt.tokens.is_empty());
        if receipt.finish == Finish::Length && receipt.tokens.len() < receipt.tokens_max {
            receipt.tokens_max = receipt.tokens.len();
            receipt.head = receipt.head_hash().to_string();
        }
        let mut before = receipt.head_hash();
        for (token, logits) in receipt.tokens.iter().zip(&self.logits) {
            before = link(&before, *token, logits);
            receipt.chain.push(before.to_string());
        }
        receipt.gas = gas(receipt.prompt.len(), receipt.tokens.len());
        receipt
    }
}

/// The token that a receipt was found wrong at, where its refusal is of one.
pub fn wrong_token(error: &Error) -> Option<usize> {
    match error {
        Error::Format { what, .. } => what.strip_prefix("receipt, token ")?.parse().ok(),
        _ => None,
    }
}

/// Answers a request, token by token.
///
/// # Errors
/// A request out of its limits, or the engine's refusal. Nothing is held afterwards.
pub fn generate(
    engine: &mut dyn Decode,
    model: &blake3::Hash,
    request: &Request,
    seen: &mut dyn FnMut(u32),
) -> Result<Receipt, Error> {
    let mut draft = Draft::new(model, engine.profile(), request)?;
    let mut sequence = Sequence::default();
    let result = answer(engine, &mut draft, &mut sequence, seen);
    engine.end(sequence);
    result?;
    Ok(draft.receipt(|prompt, tokens| engine.gas(prompt, tokens)))
}

fn answer(
    engine: &mut dyn Decode,
    draft: &mut Draft,
    sequence: &mut Sequence,
    seen: &mut dyn FnMut(u32),
) -> Result<(), Error> {
    let mut new = draft.prompt().to_vec();
    loop {
        let logits = engine.extend(sequence, &new, Wanted::Last)?;
        let logits = logits.last().expect("the last token's logits were wanted");
        let (token, ended) = draft.choose(logits);
        seen(token);
        if ended {
            return Ok(());
        }
        new = vec![token];
    }
}

/// Checks a receipt by evaluating prompt and answer in passes of many tokens.
///
/// # Errors
/// Names the first thing in it that is not what the model gives; or the engine's refusal.
pub fn verify(engine: &mut dyn Decode, model: &blake3::Hash, receipt: &Receipt) -> Result<(), Error> {
    head(engine, model, receipt)?;
    let settings = receipt.settings()?;
    let mut sequence = Sequence::default();
    let result = chain(engine, receipt, &settings, &mut sequence);
    engine.end(sequence);
    result?;
    let last = receipt
        .tokens
        .last()
        .is_some_and(|token| receipt.stops.contains(token));
    let early = receipt
        .tokens
        .iter()
        .rev()
        .skip(1)
        .any(|token| receipt.stops.contains(token));
    let finish = if last { Finish::Stop } else { Finish::Length };
    if early
        || receipt.finish != finish
        || (finish == Finish::Length && receipt.tokens.len() != receipt.tokens_max)
    {
        return Err(wrong("finish", "is not how the answer ended"));
    }
    match receipt.gas == engine.gas(receipt.prompt.len(), receipt.tokens.len()) {
        true => Ok(()),
        false => Err(wrong("gas", "is not what the answer cost")),
    }
}

/// Everything that needs no evaluation.
fn head(engine: &dyn Decode, model: &blake3::Hash, receipt: &Receipt) -> Result<(), Error> {
    let checks = [
        (receipt.format == FORMAT, "format", "is not known"),
        (
            receipt.profile == engine.profile().name(),
            "profile",
            "is not the one the model was loaded in",
        ),
        (receipt.model == model.to_string(), "model", "is another model"),
        (
            receipt.head == receipt.head_hash().to_string(),
            "head",
            "is not the hash of what was asked",
        ),
        (!receipt.prompt.is_empty(), "prompt", "is empty"),
        (
            (1..=TOKENS_MAX).contains(&receipt.tokens_max),
            "tokens_max",
            "is none, or too many",
        ),
        (
            (1..=receipt.tokens_max).contains(&receipt.tokens.len()),
            "tokens",
            "are none, or more than were asked for",
        ),
        (
            receipt.chain.len() == receipt.tokens.len(),
            "chain",
            "has not a link per token",
        ),
    ];
    match checks.iter().find(|(good, _, _)| !good) {
        Some((_, place, why)) => Err(wrong(place, why)),
        None => Ok(()),
    }
}

/// Every token and link.
fn chain(
    engine: &mut dyn Decode,
    receipt: &Receipt,
    settings: &Settings,
    sequence: &mut Sequence,
) -> Result<(), Error> {
    let (last, rest) = receipt
        .prompt
        .split_last()
        .expect("checked: the prompt is not empty");
    if !rest.is_empty() {
        engine.extend(sequence, rest, Wanted::None)?;
    }
    let size = (CHECK_LOGITS / engine.vocabulary().max(1)).clamp(16, ROWS_MAX);
    let mut before = receipt.head_hash();
    // A token that is none is not fed: the logits before it already show that the model chose another.
    let known = receipt
        .tokens
        .iter()
        .take_while(|token| (**token as usize) < engine.vocabulary())
        .count();
    let fed = [
        &[*last][..],
        &receipt.tokens[..known.min(receipt.tokens.len() - 1)],
    ]
    .concat();
    for (part, fed) in fed.chunks(size).enumerate() {
        let first = part * size;
        let logits = engine.extend(sequence, fed, Wanted::All)?;
        let found: Vec<OnceLock<_>> = logits.iter().map(|_| OnceLock::new()).collect();
        engine.apart(logits.len(), &|at| {
            let token = choose(&logits[at], settings, (first + at) as u64);
            found[at].get_or_init(|| (token, logits_hash(&logits[at])));
        });
        for (at, found) in found.into_iter().enumerate() {
            let (token, hash) = found.into_inner().expect("every job was run");
            let index = first + at;
            let place = format!("token {index}");
            if receipt.tokens[index] != token {
                return Err(wrong(
                    &place,
                    &format!("is {}, the model chooses {token}", receipt.tokens[index]),
                ));
            }
            before = link(&before, token, &hash);
            if receipt.chain[index] != before.to_string() {
                return Err(wrong(
                    &place,
                    "its link is not the hash of the logits it was chosen from",
                ));
            }
        }
    }
    Ok(())
}
