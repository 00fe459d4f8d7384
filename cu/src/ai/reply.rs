//! Answers as JSON text: what a process sees, byte for byte.
//! Not here: what is true. Invariant: keys and their order are fixed; a number is written so that reading it gives the
//! very same number.

use inference::Profile;
use inference::generate::{Finish, Receipt};
use inference::service::{Embedded, Facts, Generated, Logprob, Scored};
use serde::Serialize;

use super::question::Wrong;

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers, lists and structs are JSON")
}

/// What is wrong with a question.
pub fn wrong(wrong: &Wrong) -> Vec<u8> {
    #[derive(Serialize)]
    struct Reply<'a> {
        ok: bool,
        code: &'a str,
        error: &'a str,
    }
    json(&Reply {
        ok: false,
        code: wrong.code,
        error: &wrong.text,
    })
}

/// By which anybody checks an answer.
#[derive(Serialize)]
struct Attest<'a> {
    profile: &'a str,
    /// BLAKE3 of the model's file.
    model: &'a str,
    /// What was asked.
    head: &'a str,
    /// The chain's last link: all tokens and the logits they were chosen from.
    link: &'a str,
    seed: &'a str,
}

impl<'a> Attest<'a> {
    fn of(receipt: &'a Receipt) -> Attest<'a> {
        Attest {
            profile: &receipt.profile,
            model: &receipt.model,
            head: &receipt.head,
            link: receipt.chain.last().unwrap_or(&receipt.head),
            seed: &receipt.seed,
        }
    }
}

#[derive(Serialize)]
struct Chance {
    chosen: f64,
    likeliest: Vec<(u32, f64)>,
}

impl Chance {
    fn of(logprob: &Logprob) -> Chance {
        Chance {
            chosen: logprob.chosen.into(),
            likeliest: logprob
                .likeliest
                .iter()
                .map(|(token, p)| (*token, (*p).into()))
                .collect(),
        }
    }
}

/// An answer of a decoder; its whole receipt where it was asked for.
pub fn generated(done: &Generated, whole: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Reply<'a> {
        ok: bool,
        text: &'a str,
        tokens: &'a [u32],
        finish: &'a str,
        prompt_tokens: usize,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<Chance>,
        gas: u64,
        attest: Attest<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        receipt: Option<&'a Receipt>,
    }
    json(&Reply {
        ok: true,
        text: &done.text,
        tokens: &done.tokens,
        finish: match done.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        },
        prompt_tokens: done.prompt_tokens,
        logprobs: done.logprobs.iter().map(Chance::of).collect(),
        gas: done.gas,
        attest: Attest::of(&done.receipt),
        receipt: whole.then_some(&done.receipt),
    })
}

/// Vectors, or their components times 127 as whole numbers.
pub fn embedded(done: &Embedded, profile: Profile, int8: bool) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Vectors {
        Floats(Vec<Vec<f64>>),
        Whole(Vec<Vec<i8>>),
    }
    #[derive(Serialize)]
    struct Attest<'a> {
        profile: &'a str,
        model: &'a str,
        prompt: &'a str,
        vectors: &'a str,
    }
    #[derive(Serialize)]
    struct Reply<'a> {
        ok: bool,
        vectors: Vectors,
        tokens: usize,
        gas: u64,
        attest: Attest<'a>,
    }
    let whole = |vector: &Vec<f32>| vector.iter().map(|x| whole_of(*x)).collect();
    let floats = |vector: &Vec<f32>| vector.iter().map(|x| f64::from(*x)).collect();
    json(&Reply {
        ok: true,
        vectors: match int8 {
            true => Vectors::Whole(done.vectors.iter().map(whole).collect()),
            false => Vectors::Floats(done.vectors.iter().map(floats).collect()),
        },
        tokens: done.tokens,
        gas: done.gas,
        attest: Attest {
            profile: profile.name(),
            model: &done.model,
            prompt: &done.prompt_hash,
            vectors: &done.vectors_hash,
        },
    })
}

/// Rounded half away from zero, cut to -127..=127.
fn whole_of(component: f32) -> i8 {
    (component * 127.0).round().clamp(-127.0, 127.0) as i8
}

/// How likely tokens are after a prompt, by the model of a file.
pub fn scored(done: &Scored, profile: Profile, file: &str, prompt: &[u32]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Attest<'a> {
        profile: &'a str,
        model: &'a str,
        prompt: String,
    }
    #[derive(Serialize)]
    struct Reply<'a> {
        ok: bool,
        tokens: &'a [u32],
        logprobs: Vec<f64>,
        next: u32,
        logits: &'a str,
        gas: u64,
        attest: Attest<'a>,
    }
    json(&Reply {
        ok: true,
        tokens: &done.tokens,
        logprobs: done.logprobs.iter().map(|p| f64::from(*p)).collect(),
        next: done.next,
        logits: &done.logits_hash,
        gas: done.gas,
        attest: Attest {
            profile: profile.name(),
            model: file,
            prompt: tokens_hash(prompt),
        },
    })
}

/// BLAKE3 of a prompt's tokens, as of a text that a vector is made of.
fn tokens_hash(tokens: &[u32]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(tokens.len() as u32).to_le_bytes());
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    hasher.finalize().to_string()
}

/// Tokens of a text.
pub fn tokens(tokens: &[u32]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Reply<'a> {
        ok: bool,
        tokens: &'a [u32],
    }
    json(&Reply { ok: true, tokens })
}

/// Tokens of a conversation, and those that end its answer.
pub fn turns(tokens: &[u32], stop_tokens: &[u32]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Reply<'a> {
        ok: bool,
        tokens: &'a [u32],
        stop_tokens: &'a [u32],
    }
    json(&Reply {
        ok: true,
        tokens,
        stop_tokens,
    })
}

/// A text of tokens.
pub fn text(text: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Reply<'a> {
        ok: bool,
        text: &'a str,
    }
    json(&Reply { ok: true, text })
}

/// A model's counts.
pub fn facts(facts: &Facts) -> Vec<u8> {
    #[derive(Serialize)]
    struct Reply {
        ok: bool,
        encoder: bool,
        weights: u64,
        layers: u64,
        heads: u64,
        dim: u64,
        vocabulary: u64,
        positions: u64,
    }
    json(&Reply {
        ok: true,
        encoder: facts.encoder,
        weights: facts.weights,
        layers: facts.layers,
        heads: facts.heads,
        dim: facts.dim,
        vocabulary: facts.vocabulary,
        positions: facts.positions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_as_it_was() {
        for x in [0.1_f32, -3.4e-30, 1.0, f32::MIN_POSITIVE, 0.333_333_34] {
            let text = String::from_utf8(json(&f64::from(x))).unwrap();
            let back: f64 = text.parse().unwrap();
            assert_eq!((back as f32).to_bits(), x.to_bits(), "{text}");
            assert_eq!(back, f64::from(x));
        }
        assert_eq!([0.5 / 127.0, -1.0, 2.0, 0.0].map(whole_of), [1, -127, 127, 0]);
    }
}
