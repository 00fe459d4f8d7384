//! Whole decoders on two backends: batches of 1 to 64, prompts in chunks of any size, prefixes shared or not.
//! Not here: operators. Invariant: the second backend evaluates every sequence alone and whole; it decides.

use inference::backend::Backend;
use inference::backend::conformance::Tally;
use inference::decoder::Decoder;
use inference::engine::{Engine, Logits, Sequence, Wanted};
use inference::gguf::Gguf;
use inference::{Error, Profile};

use crate::support::{Random, forge};

/// Sequences that are evaluated together at most.
const BATCH: usize = 64;
/// Tokens of a sequence at most.
const TOKENS_MAX: usize = 90;
const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma2", "gemma3"];
const FORMATS: [&str; 4] = ["Q8_0", "Q4_0", "Q5_1", "F16"];

/// One model on both backends.
struct Pair<A: Backend, B: Backend> {
    ours: Engine<A>,
    truth: Engine<B>,
    random: Random,
}

fn engine<B: Backend>(backend: B, file: &[u8], profile: Profile) -> Result<Engine<B>, Error> {
    let decoder = Decoder::load(backend, &Gguf::parse(file)?, profile, 128)?;
    Engine::new(decoder, 128 * (BATCH + 2))
}

/// Compares all families, profiles and formats once; the seed decides tokens and weights.
pub fn compare<A: Backend, B: Backend>(
    ours: impl Fn() -> Result<A, Error>,
    truth: impl Fn() -> B,
    seed: u64,
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    for (at, family) in FAMILIES.into_iter().enumerate() {
        let layers = if family == "gemma3" { 7 } else { 2 };
        let untied = family == "llama";
        let shape = forge::Shape {
            family,
            layers,
            untied,
            heads: [4, 2, 32],
            ..forge::Shape::tiny()
        };
        for profile in [Profile::A16, Profile::A8] {
            let format = FORMATS[(at + seed as usize) % FORMATS.len()];
            let file = forge::model(&shape, format, seed);
            let mut pair = Pair {
                ours: engine(ours()?, &file, profile)?,
                truth: engine(truth(), &file, profile)?,
                random: Random(seed | 1),
            };
            pair.batches(&mut tally)?;
            pair.chunks(&mut tally)?;
            pair.prefixes(&mut tally)?;
        }
    }
    Ok(tally)
}

impl<A: Backend, B: Backend> Pair<A, B> {
    fn tokens(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| self.random.below(300) as u32).collect()
    }

    /// The logits after every token, evaluated alone and in one piece.
    fn alone(&mut self, tokens: &[u32]) -> Result<Vec<Logits>, Error> {
        let mut sequence = Sequence::default();
        let logits = self
            .truth
            .extend(&mut [(&mut sequence, tokens)], Wanted::All)?
            .remove(0);
        self.truth.end(sequence);
        Ok(logits)
    }

    /// Sequences of different lengths that begin together, then grow by a token each.
    fn batches(&mut self, tally: &mut Tally) -> Result<(), Error> {
        for batch in [1, 2, 3, 8, 17, BATCH] {
            let all: Vec<Vec<u32>> = (0..batch).map(|i| self.tokens(2 + i % 7)).collect();
            let mut sequences: Vec<Sequence> = all.iter().map(|_| Sequence::default()).collect();
            let first = all.iter().map(|tokens| &tokens[..tokens.len() - 1]);
            let mut asked: Vec<_> = sequences.iter_mut().zip(first).collect();
            let mut logits = self.ours.extend(&mut asked, Wanted::All)?;
            let last = all.iter().map(|tokens| &tokens[tokens.len() - 1..]);
            let mut asked: Vec<_> = sequences.iter_mut().zip(last).collect();
            for (logits, last) in logits.iter_mut().zip(self.ours.extend(&mut asked, Wanted::All)?) {
                logits.extend(last);
            }
            sequences.into_iter().for_each(|sequence| self.ours.end(sequence));
            for (tokens, logits) in all.iter().zip(&logits) {
                let truth = self.alone(tokens)?;
                tally.add(
                    &format!("logits, batch of {batch}"),
                    &logits.concat(),
                    &truth.concat(),
                );
            }
        }
        Ok(())
    }

    /// A prompt in chunks of several sizes.
    fn chunks(&mut self, tally: &mut Tally) -> Result<(), Error> {
        let tokens = self.tokens(TOKENS_MAX);
        let truth = self.alone(&tokens)?.concat();
        for sizes in [&[TOKENS_MAX][..], &[1], &[7], &[16], &[33, 1, 2], &[64, 5]] {
            let (mut sequence, mut logits, mut rest) = (Sequence::default(), vec![], &tokens[..]);
            for size in sizes.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*size));
                logits.extend(
                    self.ours
                        .extend(&mut [(&mut sequence, now)], Wanted::All)?
                        .remove(0),
                );
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            self.ours.end(sequence);
            tally.add("logits, prompt in chunks", &logits.concat(), &truth);
        }
        Ok(())
    }

    /// Sequences that go on from the pages of another.
    fn prefixes(&mut self, tally: &mut Tally) -> Result<(), Error> {
        let first = self.tokens(70);
        let mut old = Sequence::default();
        self.ours.extend(&mut [(&mut old, &first)], Wanted::Last)?;
        for shared in [32, 50, 64] {
            let mut fork = self.ours.fork(&old, shared);
            let kept = fork.tokens().len();
            let tokens = [&first[..kept], &self.tokens(20)].concat();
            let logits = self
                .ours
                .extend(&mut [(&mut fork, &tokens[kept..])], Wanted::All)?;
            self.ours.end(fork);
            let truth = self.alone(&tokens)?;
            tally.add(
                "logits after a shared prefix",
                &logits[0].concat(),
                &truth[kept..].concat(),
            );
        }
        self.ours.end(old);
        Ok(())
    }
}
