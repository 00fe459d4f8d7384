//! Asks of a decoder on their way: what has been evaluated, what comes next, what is told to the asker.
//!
//! Not here: which asks are evaluated together. Invariant: an ask can be started over at any time and goes on as if
//! nothing had happened; its tokens and what was told of them stay.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::model::{Card, afford};
use super::queue::Waits;
use super::text::Text;
use super::{Cancel, Generate, Generated, Logprob, Refusal, Scored, Token};
use crate::engine::{Logits, Sequence, Wanted};
use crate::generate::{Draft, Finish, Request, logits_hash};
use crate::math::key;
use crate::sample::{likeliest, logprobs};

/// Tokens of a score evaluated at a time: it bounds the logits held.
const SCORE_TOKENS: usize = 64;

/// Tokens an answer is written on before it may have to make room, and of how many it has another is added to them.
const TURN_TOKENS: usize = 32;
const TURN_SHARE: usize = 16;

/// What an asker hears.
pub enum Event {
    /// A token of an answer.
    Token(Token),
    /// An answer, whole.
    Answer(Box<Generated>),
    /// A score.
    Score(Box<Scored>),
    /// A text's vector.
    Vector(Vec<f32>),
    /// No answer.
    Refused(Refusal),
}

/// An ask being worked on.
pub struct Job {
    pub asker: String,
    pub cancel: Cancel,
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    /// What has been evaluated of them.
    pub sequence: Sequence,
    /// How many tokens there were when it was let in.
    pub let_in: usize,
    pub work: Work,
    pub reply: Sender<Event>,
}

/// What is wanted of the logits.
pub enum Work {
    /// An answer.
    Answer(Box<Answering>),
    /// A score.
    Score(Scoring),
    /// The text's vector, evaluated alone.
    Vector,
}

impl Waits for Job {
    fn asker(&self) -> &str {
        &self.asker
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

impl Job {
    /// The first token whose logits are wanted.
    pub fn from(&self) -> usize {
        match &self.work {
            Work::Answer(_) => self.tokens.len() - 1,
            Work::Score(scoring) => scoring.from,
            Work::Vector => 0,
        }
    }

    /// Tokens that wait for evaluation.
    pub fn left(&self) -> usize {
        self.tokens.len() - self.sequence.tokens().len()
    }

    /// Whether it was let in for long enough to make room for who had less: coming back may cost the evaluation of all
    /// of it, so what is long stays longer.
    pub fn had_turn(&self) -> bool {
        let written = self.tokens.len() - self.let_in;
        matches!(self.work, Work::Answer(_)) && written >= TURN_TOKENS + self.tokens.len() / TURN_SHARE
    }

    /// How many tokens come next if that many rows are free, and the logits wanted of them.
    pub fn plan(&self, rows: usize) -> (usize, Wanted) {
        let (start, from, left) = (self.sequence.tokens().len(), self.from(), self.left());
        match &self.work {
            Work::Vector => (0, Wanted::None),
            Work::Answer(_) if left <= rows => (left, Wanted::Last),
            Work::Answer(_) => (rows, Wanted::None),
            Work::Score(_) if start < from => (rows.min(from - start), Wanted::None),
            Work::Score(_) => (rows.min(left).min(SCORE_TOKENS), Wanted::All),
        }
    }

    /// Takes the logits of what was just evaluated; tells whether the ask is done.
    pub fn take(&mut self, logits: &[Logits]) -> bool {
        let end = self.sequence.tokens().len();
        let event = match &mut self.work {
            Work::Answer(answering) => match logits.last().map(|logits| answering.choose(logits)) {
                None => None,
                Some(Err(refusal)) => Some(Event::Refused(refusal)),
                Some(Ok((token, finish))) => {
                    self.tokens.push(token.token);
                    let heard = self.reply.send(Event::Token(token));
                    if heard.is_err() {
                        self.cancel.cancel();
                    }
                    finish.map(|finish| Event::Answer(Box::new(answering.done(finish))))
                }
            },
            Work::Score(scoring) => scoring.take(&self.tokens, end, logits).map(Event::Score),
            Work::Vector => None,
        };
        let done = event.is_some();
        if let Some(event) = event {
            self.tell(event);
        }
        done
    }

    /// Tells the asker; one that is gone does not care.
    pub fn tell(&self, event: Event) {
        let _heard = self.reply.send(event);
    }
}

/// An answer on its way.
pub struct Answering {
    card: Arc<Card>,
    draft: Draft,
    text: Text,
    likeliest: Option<usize>,
    logprobs: Vec<Logprob>,
    gas_max: Option<u64>,
}

impl Answering {
    /// An answer without a token yet, if its first one may be paid.
    pub fn new(card: &Arc<Card>, ask: &Generate, request: &Request) -> Result<Answering, Refusal> {
        let answering = Answering {
            card: Arc::clone(card),
            draft: Draft::new(&card.hash, card.profile, request)?,
            text: Text::new(ask.stop_texts.clone()),
            likeliest: ask.logprobs,
            logprobs: vec![],
            gas_max: ask.gas_max,
        };
        answering.affordable()?;
        Ok(answering)
    }

    /// Whether one more token may be paid.
    fn affordable(&self) -> Result<(), Refusal> {
        let (prompt, tokens) = (self.draft.prompt().len(), self.draft.tokens().len());
        afford(self.card.facts.gas(prompt, tokens + 1), self.gas_max)
    }

    /// The next token, and why the answer ends with it, if it does.
    fn choose(&mut self, logits: &[f32]) -> Result<(Token, Option<Finish>), Refusal> {
        let (token, ended) = self.draft.choose(logits);
        let logprob = self.likeliest.map(|count| logprob(logits, token, count));
        self.logprobs.extend(logprob.clone());
        let stopped = match &self.card.vocabulary {
            Ok(vocabulary) => self.text.push(&vocabulary.bytes(token)?),
            Err(_) => false,
        };
        let finish = match (stopped, ended) {
            (true, _) => Some(Finish::Stop),
            (false, true) => Some(self.draft.finish()),
            (false, false) => None,
        };
        if finish.is_none() {
            self.affordable()?;
        }
        let text = match finish {
            Some(_) => self.text.rest(),
            None => self.text.take(),
        };
        Ok((Token { token, logprob, text }, finish))
    }

    fn done(&mut self, finish: Finish) -> Generated {
        let facts = self.card.facts;
        let receipt = self.draft.receipt(|prompt, tokens| facts.gas(prompt, tokens));
        Generated {
            text: self.text.whole(),
            tokens: receipt.tokens.clone(),
            logprobs: std::mem::take(&mut self.logprobs),
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

/// A score on its way.
pub struct Scoring {
    /// The prompt's last token: its logits are the first that matter.
    pub from: usize,
    pub logprobs: Vec<f32>,
    pub gas: u64,
}

impl Scoring {
    /// Takes the logits of the tokens up to `end`; gives the score once they were the last.
    fn take(&mut self, tokens: &[u32], end: usize, logits: &[Logits]) -> Option<Box<Scored>> {
        let first = end - logits.len();
        for (at, logits) in logits.iter().enumerate() {
            if let Some(next) = tokens.get(first + at + 1) {
                self.logprobs.extend(logprobs(logits, [*next]));
            }
        }
        let last = logits.last().filter(|_| end == tokens.len())?;
        Some(Box::new(Scored {
            tokens: tokens[self.from + 1..].to_vec(),
            logprobs: std::mem::take(&mut self.logprobs),
            logits_hash: logits_hash(last).to_string(),
            next: likeliest(last),
            gas: self.gas,
        }))
    }
}
