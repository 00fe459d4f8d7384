//! Answers in the form that clients of OpenAI's API read, each with its receipt.
//!
//! Not here: how they came about. Invariant: the pieces of a stream, joined, are the answer that comes in one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use inference::service::{Embedded, Generated, Logprob, News, Service, Token, Watched};
use serde_json::{Value, json};

use super::ask::Route;

/// What stands in every part of one answer.
#[derive(Debug, Clone)]
pub struct Head {
    pub route: Route,
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// As the client named it.
    pub model: String,
}

/// Texts of tokens, for probabilities.
pub type Spell<'a> = &'a dyn Fn(u32) -> String;

impl Head {
    fn object(&self, streamed: bool) -> &'static str {
        match (self.route, streamed) {
            (Route::Chat, false) => "chat.completion",
            (Route::Chat, true) => "chat.completion.chunk",
            (Route::Completions, _) => "text_completion",
        }
    }

    fn with(&self, streamed: bool, choices: Value) -> Value {
        json!({"id": self.id, "object": self.object(streamed), "created": self.created, "model": self.model,
               "choices": choices})
    }

    /// An answer in one.
    pub fn whole(&self, answers: &[Generated], device: &str, spell: Spell<'_>) -> Value {
        let choice = |(index, answer): (usize, &Generated)| {
            let logprobs = self.logprobs(&answer.tokens, &answer.logprobs, spell);
            let mut choice = json!({"index": index, "finish_reason": answer.finish, "logprobs": logprobs,
                                    "receipt": answer.receipt});
            match self.route {
                Route::Chat => {
                    choice["message"] = json!({"role": "assistant", "content": answer.text, "refusal": null});
                }
                Route::Completions => choice["text"] = json!(answer.text),
            }
            choice
        };
        let mut whole = self.with(false, answers.iter().enumerate().map(choice).collect());
        whole["usage"] = usage(answers);
        whole["weft"] = weft(answers, device);
        whole
    }

    /// The first piece of a stream of a conversation, which names who speaks.
    pub fn opening(&self) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": ""});
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        (self.route == Route::Chat).then(|| self.with(true, choices))
    }

    /// The piece of one token.
    pub fn piece(&self, token: &Token, spell: Spell<'_>) -> Value {
        let logprobs = match &token.logprob {
            Some(logprob) => self.logprobs(&[token.token], std::slice::from_ref(logprob), spell),
            None => Value::Null,
        };
        let mut choice = json!({"index": 0, "finish_reason": null, "logprobs": logprobs});
        match self.route {
            Route::Chat => choice["delta"] = json!({"content": token.text}),
            Route::Completions => choice["text"] = json!(token.text),
        }
        self.with(true, json!([choice]))
    }

    /// The last piece: why it ended, and the receipt.
    pub fn closing(&self, answer: &Generated, device: &str) -> Value {
        let mut choice = json!({"index": 0, "finish_reason": answer.finish, "logprobs": null,
                                "receipt": answer.receipt});
        match self.route {
            Route::Chat => choice["delta"] = json!({}),
            Route::Completions => choice["text"] = json!(""),
        }
        let mut last = self.with(true, json!([choice]));
        last["weft"] = weft(std::slice::from_ref(answer), device);
        last
    }

    /// The counts at the end of a stream, where they were asked for.
    pub fn counts(&self, answer: &Generated) -> Value {
        let mut counts = self.with(true, json!([]));
        counts["usage"] = usage(std::slice::from_ref(answer));
        counts
    }

    fn logprobs(&self, tokens: &[u32], logprobs: &[Logprob], spell: Spell<'_>) -> Value {
        if logprobs.is_empty() {
            return Value::Null;
        }
        let pairs = tokens.iter().zip(logprobs);
        match self.route {
            Route::Chat => {
                let content = pairs.map(|(token, logprob)| {
                    let mut told = one(*token, logprob.chosen, spell);
                    let likeliest = logprob.likeliest.iter();
                    told["top_logprobs"] = likeliest
                        .map(|(token, value)| one(*token, *value, spell))
                        .collect();
                    told
                });
                json!({"content": content.collect::<Vec<_>>(), "refusal": null})
            }
            Route::Completions => {
                let top = |logprob: &Logprob| -> Value {
                    // Tokens that are parts of characters are spelled alike: they go by their numbers.
                    let name = |token| Some(spell(token)).filter(|text| !text.contains('\u{fffd}'));
                    let pairs = logprob.likeliest.iter().map(|(token, value)| {
                        let name = name(*token).unwrap_or_else(|| format!("token:{token}"));
                        (name, json!(value))
                    });
                    Value::Object(pairs.collect())
                };
                json!({"tokens": tokens.iter().map(|token| spell(*token)).collect::<Vec<_>>(),
                       "token_logprobs": logprobs.iter().map(|logprob| logprob.chosen).collect::<Vec<_>>(),
                       "top_logprobs": logprobs.iter().map(top).collect::<Vec<_>>()})
            }
        }
    }
}

/// One token with its probability.
fn one(token: u32, logprob: f32, spell: Spell<'_>) -> Value {
    let text = spell(token);
    // Of a part of a character the text does not tell the bytes.
    let bytes = (!text.contains('\u{fffd}')).then(|| text.as_bytes().to_vec());
    json!({"token": text, "logprob": logprob, "bytes": bytes})
}

fn usage(answers: &[Generated]) -> Value {
    let prompt: usize = answers.iter().map(|answer| answer.prompt_tokens).sum();
    let answer: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    json!({"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer})
}

/// What other servers do not say.
fn weft(answers: &[Generated], device: &str) -> Value {
    let gas = answers
        .iter()
        .map(|answer| answer.gas)
        .fold(0, u64::saturating_add);
    json!({"device": device, "gas": gas})
}

/// Vectors.
pub fn embedded(model: &str, answer: &Embedded, base64: bool, device: &str) -> Value {
    let vector = |(index, vector): (usize, &Vec<f32>)| {
        let form = match base64 {
            false => json!(vector),
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
                json!(STANDARD.encode(bytes))
            }
        };
        json!({"object": "embedding", "index": index, "embedding": form})
    };
    json!({
        "object": "list",
        "data": answer.vectors.iter().enumerate().map(vector).collect::<Vec<_>>(),
        "model": model,
        "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
        "weft": {"device": device, "gas": answer.gas, "model": answer.model, "prompt_hash": answer.prompt_hash,
                 "vectors_hash": answer.vectors_hash},
    })
}

/// The models that there are by name, and how those stand that are loaded.
pub fn models(names: &[(String, String)], service: &Service) -> Value {
    let loaded = service.loaded();
    let one = |(name, id): &(String, String)| {
        let standing: Vec<Value> = loaded
            .iter()
            .filter(|standing| standing.ids.contains(id))
            .map(|standing| {
                json!({"profile": standing.model.profile.name(), "device": standing.device, "bytes": standing.bytes,
                       "waiting": standing.waiting, "running": standing.running})
            })
            .collect();
        json!({"id": name, "object": "model", "created": 0, "owned_by": "weft", "weft": {"loaded": standing}})
    };
    json!({"object": "list", "data": names.iter().map(one).collect::<Vec<_>>()})
}

/// What a watcher sees.
pub fn watched(watched: &Watched) -> Value {
    let mut event = json!({"answer": watched.answer, "model": watched.model.id});
    match &watched.news {
        News::Text(text) => event["text"] = json!(text),
        News::Ended(finish) => event["finish_reason"] = json!(finish),
        News::Refused(why) => event["error"] = json!(why),
    }
    event
}
