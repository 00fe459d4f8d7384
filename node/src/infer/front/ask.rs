//! Requests as clients of OpenAI's API write them, read into asks of the service.
//!
//! Not here: answers. Invariant: what a client asks for and this node does not do is refused by name, never left out
//! silently.

use inference::generate::TOKENS_MAX;
use inference::sample::Settings;
use inference::service::{Generate, LIKELIEST_MAX, ModelRef, Prompt, STOP_BYTES_MAX, STOP_TEXTS_MAX, Turn};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

use super::error::Error;

/// `POST /v1/chat/completions` and `POST /v1/completions`: the fields of both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Body {
    pub model: String,
    messages: Vec<Message>,
    prompt: Option<Input>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    /// Ours: only this many of the likeliest tokens.
    top_k: Option<u32>,
    seed: Option<i64>,
    stop: Option<Texts>,
    pub stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<Logprobs>,
    top_logprobs: Option<usize>,
    n: Option<u32>,
    best_of: Option<u32>,
    echo: Option<bool>,
    suffix: Option<String>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<Value>,
    response_format: Option<Value>,
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    function_call: Option<Value>,
    modalities: Option<Vec<String>>,
    audio: Option<Value>,
    web_search_options: Option<Value>,
    /// Of other servers, as the two that follow.
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    repeat_penalty: Option<f32>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

/// What was said: a text, or parts.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`content` is a text or a list of parts")]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

/// One text or token list, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "it is a text, tokens, or a list of either")]
pub enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "it is a text or a list of texts")]
enum Texts {
    One(String),
    Several(Vec<String>),
}

/// A flag in one route, a number in the other.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "it is true or false for a conversation, a number for a completion"
)]
enum Logprobs {
    Flag(bool),
    Count(usize),
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Which route was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Chat,
    Completions,
}

impl Route {
    /// The field that holds what an answer follows.
    pub fn input(self) -> &'static str {
        match self {
            Route::Chat => "messages",
            Route::Completions => "prompt",
        }
    }
}

/// The fields that [`Body`] reads.
const FIELDS: [&str; 32] = [
    "model",
    "messages",
    "prompt",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
    "n",
    "best_of",
    "echo",
    "suffix",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "response_format",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "modalities",
    "audio",
    "web_search_options",
    "min_p",
    "repetition_penalty",
    "repeat_penalty",
];

/// Fields of OpenAI's API that no answer depends on: who asks, what is kept of it, how soon it comes.
const IDLE: [&str; 8] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Tokens of a completion that names no limit, as clients expect it.
const COMPLETION_TOKENS: usize = 16;

impl Body {
    /// Reads a request.
    pub fn read(bytes: &[u8]) -> Result<Body, Error> {
        let body: Body = read(bytes)?;
        known(bytes, &[&FIELDS, &IDLE])?;
        body.supported()?;
        body.plain()?;
        Ok(body)
    }

    /// Refuses what is known and not done here.
    fn supported(&self) -> Result<(), Error> {
        let one = |n: Option<u32>| n.is_none_or(|n| n == 1);
        let none = |v: Option<f32>| v.is_none_or(|v| v == 0.0);
        let empty = |v: &Option<Vec<Value>>| v.as_ref().is_none_or(Vec::is_empty);
        let checks = [
            (one(self.n), "n", "one answer per request: send it again for more"),
            (one(self.best_of), "best_of", "one answer per request"),
            (self.echo != Some(true), "echo", "the prompt is not repeated"),
            (self.suffix.is_none(), "suffix", "answers have no suffix"),
            (
                none(self.presence_penalty),
                "presence_penalty",
                "no penalties: leave it out or 0",
            ),
            (
                none(self.frequency_penalty),
                "frequency_penalty",
                "no penalties: leave it out or 0",
            ),
            (empty(&self.tools), "tools", "no tools"),
            (empty(&self.functions), "functions", "no functions"),
            (
                self.logit_bias
                    .as_ref()
                    .is_none_or(|v| v.as_object().is_none_or(serde_json::Map::is_empty)),
                "logit_bias",
                "no biases",
            ),
            (
                self.response_format.as_ref().is_none_or(|v| v["type"] == "text"),
                "response_format",
                "only text",
            ),
        ];
        refused(&checks)
    }

    /// Refuses what later clients and other servers have.
    fn plain(&self) -> Result<(), Error> {
        let free = |v: &Option<Value>| {
            let word = v.as_ref().map(|v| v.as_str().unwrap_or_default());
            word.is_none_or(|word| matches!(word, "none" | "auto"))
        };
        let text = |v: &Option<Vec<String>>| v.iter().flatten().all(|kind| kind == "text");
        let is = |v: Option<f32>, neutral: f32| v.is_none_or(|v| v == neutral);
        let checks = [
            (free(&self.tool_choice), "tool_choice", "no tools"),
            (free(&self.function_call), "function_call", "no functions"),
            (text(&self.modalities), "modalities", "only text"),
            (self.audio.is_none(), "audio", "only text"),
            (
                self.web_search_options.is_none(),
                "web_search_options",
                "no search",
            ),
            (is(self.min_p, 0.0), "min_p", "top_p and top_k are"),
            (
                is(self.repetition_penalty, 1.0),
                "repetition_penalty",
                "no penalties",
            ),
            (is(self.repeat_penalty, 1.0), "repeat_penalty", "no penalties"),
            (
                self.top_logprobs.is_none_or(|n| n == 0) || self.logprobs.is_some(),
                "top_logprobs",
                "it needs `logprobs`",
            ),
        ];
        refused(&checks)
    }

    /// Whether the stream ends with the counts.
    pub fn counts(&self) -> bool {
        self.stream_options
            .as_ref()
            .is_some_and(|options| options.include_usage)
    }

    /// The asks of a request, one per prompt.
    pub fn asks(self, route: Route, model: &ModelRef, asker: &str) -> Result<Vec<Generate>, Error> {
        let logprobs = self.likeliest(route)?;
        let tokens_max = self.most()?;
        self.of_route(route)?;
        let settings = Settings {
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            seed: seed(self.seed)?,
        };
        settings.check().map_err(|error| {
            let text = error.to_string();
            let param = text.split(' ').next().unwrap_or_default();
            Error::invalid(param, &text)
        })?;
        let stop_texts = stops(self.stop)?;
        let prompts = match route {
            Route::Chat => vec![Prompt::Chat(turns(self.messages)?)],
            Route::Completions => prompts(self.prompt)?,
        };
        let default = (route == Route::Completions).then_some(COMPLETION_TOKENS);
        let ask = |prompt| Generate {
            settings,
            tokens_max: tokens_max.or(default),
            stop_texts: stop_texts.clone(),
            logprobs,
            asker: asker.to_owned(),
            ..Generate::new(model.clone(), prompt)
        };
        Ok(prompts.into_iter().map(ask).collect())
    }

    /// Tokens of an answer at most: a field with two names.
    fn most(&self) -> Result<Option<usize>, Error> {
        let (name, most) = match (self.max_tokens, self.max_completion_tokens) {
            (Some(old), Some(new)) if old != new => {
                let text = "`max_tokens` and `max_completion_tokens` are the same and differ: give one";
                return Err(Error::invalid("max_tokens", text));
            }
            (_, Some(most)) => ("max_completion_tokens", most),
            (Some(most), None) => ("max_tokens", most),
            (None, None) => return Ok(None),
        };
        match (1..=TOKENS_MAX).contains(&most) {
            true => Ok(Some(most)),
            false => Err(Error::invalid(
                name,
                format!("`{name}` is from 1 to {TOKENS_MAX}"),
            )),
        }
    }

    /// Refuses what only the other route has.
    fn of_route(&self, route: Route) -> Result<(), Error> {
        let is_chat = route == Route::Chat;
        let checks = [
            (
                !is_chat || self.prompt.is_none(),
                "prompt",
                "conversations have `messages`",
            ),
            (
                is_chat || self.messages.is_empty(),
                "messages",
                "ask /v1/chat/completions",
            ),
            (
                is_chat || self.top_logprobs.is_none_or(|n| n == 0),
                "top_logprobs",
                "`logprobs` is the number",
            ),
        ];
        refused(&checks)
    }

    /// How many likeliest tokens are told, if any.
    fn likeliest(&self, route: Route) -> Result<Option<usize>, Error> {
        let count = match (&self.logprobs, route) {
            (None | Some(Logprobs::Flag(false)), _) => None,
            (Some(Logprobs::Flag(true)), Route::Chat) => Some(self.top_logprobs.unwrap_or(0)),
            (Some(Logprobs::Count(count)), Route::Completions) => Some(*count),
            (_, Route::Chat) => return Err(Error::invalid("logprobs", "`logprobs` is true or false")),
            (_, Route::Completions) => return Err(Error::invalid("logprobs", "`logprobs` is a number")),
        };
        let name = match route {
            Route::Chat => "top_logprobs",
            Route::Completions => "logprobs",
        };
        match count {
            Some(count) if count > LIKELIEST_MAX => Err(Error::invalid(
                name,
                format!("to {LIKELIEST_MAX} likeliest tokens are told"),
            )),
            count => Ok(count),
        }
    }
}

/// Texts that end an answer.
fn stops(stop: Option<Texts>) -> Result<Vec<String>, Error> {
    let texts = match stop {
        None => vec![],
        Some(Texts::One(text)) => vec![text],
        Some(Texts::Several(texts)) => texts,
    };
    let fits = |text: &String| (1..=STOP_BYTES_MAX).contains(&text.len());
    match texts.len() <= STOP_TEXTS_MAX && texts.iter().all(fits) {
        true => Ok(texts),
        false => {
            let text = format!("`stop` is at most {STOP_TEXTS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes");
            Err(Error::invalid("stop", text))
        }
    }
}

/// Refuses the first field that is none of these: what is misspelt or of another server must not be left out silently.
fn known(bytes: &[u8], lists: &[&[&str]]) -> Result<(), Error> {
    let fields: BTreeMap<String, Option<IgnoredAny>> =
        serde_json::from_slice(bytes).map_err(|error| unread::<Map<String, Value>>(bytes, &error))?;
    let is_known = |name: &str| lists.iter().any(|list| list.contains(&name));
    let stranger = fields
        .iter()
        .find(|(name, value)| value.is_some() && !is_known(name));
    match stranger {
        None => Ok(()),
        Some((name, _)) => {
            let text = format!("`{name}` is not supported here: it is no field that this route knows");
            Err(Error::invalid(name, text))
        }
    }
}

/// Refuses the first thing that is not good, by name.
fn refused(checks: &[(bool, &str, &str)]) -> Result<(), Error> {
    match checks.iter().find(|(good, ..)| !good) {
        Some((_, param, why)) => {
            let text = format!("`{param}` is not supported here: {why}");
            Err(Error::invalid(param, text))
        }
        None => Ok(()),
    }
}

/// Reads a request's body.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::form("the request's body is no JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| unread::<T>(bytes, &error))
}

/// Which field made a body unreadable: the first that cannot be read alone.
fn unread<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Error {
    let fields: Map<String, Value> = serde_json::from_slice(bytes).unwrap_or_default();
    for (name, value) in fields {
        let alone = Value::Object(Map::from_iter([(name.clone(), value)]));
        if let Err(error) = serde_json::from_value::<T>(alone) {
            let why = error
                .to_string()
                .replace("expected usize", "expected a whole number from 0");
            let why = why.replace("expected i64", "expected a whole number of 64 bits");
            return Error::invalid(&name, format!("`{name}` cannot be read: {why}"));
        }
    }
    Error::form(format!("the request's body cannot be read: {error}"))
}

/// The key of the draws: of the client's number, or new.
fn seed(asked: Option<i64>) -> Result<[u8; 32], Error> {
    match asked {
        Some(number) => Ok(*blake3::hash(&number.to_le_bytes()).as_bytes()),
        None => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| Error::busy(format!("no randomness: {error}")))?;
            Ok(seed)
        }
    }
}

fn turns(messages: Vec<Message>) -> Result<Vec<Turn>, Error> {
    if messages.is_empty() {
        return Err(Error::invalid("messages", "`messages` needs a message"));
    }
    messages.into_iter().map(turn).collect()
}

fn turn(message: Message) -> Result<Turn, Error> {
    let content = match message.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let text = |part: ContentPart| match (part.kind.as_str(), part.text) {
                ("text", Some(text)) => Ok(text),
                (kind, _) => Err(Error::invalid(
                    "messages",
                    format!("parts of type `{kind}` are not supported: only text"),
                )),
            };
            parts.into_iter().map(text).collect::<Result<String, Error>>()?
        }
    };
    if message.tool_calls.is_some_and(|calls| !calls.is_empty()) {
        return Err(Error::invalid(
            "messages",
            "`tool_calls` is not supported here: no tools",
        ));
    }
    // The newer name of the same role.
    let role = match message.role.as_str() {
        "developer" => "system".to_owned(),
        "system" | "user" | "assistant" | "tool" => message.role,
        other => {
            let text = format!("no role `{other}`: system, developer, user, assistant, tool");
            return Err(Error::invalid("messages", text));
        }
    };
    Ok(Turn { role, content })
}

fn prompts(input: Option<Input>) -> Result<Vec<Prompt>, Error> {
    let prompts: Vec<Prompt> = match input {
        None => vec![],
        Some(Input::Text(text)) => vec![Prompt::Text(text)],
        Some(Input::Texts(texts)) => texts.into_iter().map(Prompt::Text).collect(),
        Some(Input::Tokens(tokens)) => vec![Prompt::Tokens(tokens)],
        Some(Input::Lists(lists)) => lists.into_iter().map(Prompt::Tokens).collect(),
    };
    match prompts.is_empty() {
        true => Err(Error::invalid(
            "prompt",
            "`prompt` is a text, tokens, or a list of either",
        )),
        false => Ok(prompts),
    }
}

/// `POST /v1/embeddings`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EmbedBody {
    pub model: String,
    input: Option<Input>,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

/// What is wanted of texts.
pub struct EmbedAsk {
    pub model: String,
    pub texts: Vec<String>,
    pub base64: bool,
    /// How many numbers the vectors must have: a model's are of one size.
    pub dimensions: Option<usize>,
}

impl EmbedBody {
    /// Reads a request.
    pub fn read(bytes: &[u8]) -> Result<EmbedAsk, Error> {
        let body: EmbedBody = read(bytes)?;
        known(
            bytes,
            &[&["model", "input", "encoding_format", "dimensions"], &IDLE],
        )?;
        let base64 = match body.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                return Err(Error::invalid(
                    "encoding_format",
                    "`encoding_format` is float or base64",
                ));
            }
        };
        let texts = match body.input {
            Some(Input::Text(text)) => vec![text],
            Some(Input::Texts(texts)) => texts,
            _ => {
                return Err(Error::invalid(
                    "input",
                    "`input` is a text or a list of texts, not tokens",
                ));
            }
        };
        Ok(EmbedAsk {
            model: body.model,
            texts,
            base64,
            dimensions: body.dimensions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(route: Route, body: &str) -> Result<Vec<Generate>, Error> {
        Body::read(body.as_bytes())?.asks(route, &ModelRef::named("m"), "me")
    }

    #[test]
    fn requests_become_asks() {
        let body = r#"{"model":"m","messages":[{"role":"developer","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
            "seed":7,"stop":"x","max_completion_tokens":5,"logprobs":true,"top_logprobs":2,"temperature":0,"user":"u","max_tokens":5,
            "metadata":{"a":"b"},"store":true,"service_tier":"auto","parallel_tool_calls":false,"odd":null}"#;
        let ask = asks(Route::Chat, body).unwrap().remove(0);
        let Prompt::Chat(turns) = &ask.prompt else {
            panic!("{ask:?}")
        };
        assert_eq!(
            (turns[0].role.as_str(), turns[1].content.as_str()),
            ("system", "ab")
        );
        assert_eq!(
            (ask.tokens_max, ask.logprobs, ask.stop_texts),
            (Some(5), Some(2), vec!["x".to_owned()])
        );
        assert_eq!(ask.settings.seed, *blake3::hash(&7_i64.to_le_bytes()).as_bytes());
        let several = asks(
            Route::Completions,
            r#"{"model":"m","prompt":["a","b"],"logprobs":3}"#,
        )
        .unwrap();
        assert_eq!(
            (several.len(), several[1].tokens_max, several[1].logprobs),
            (2, Some(16), Some(3))
        );
        let tokens = asks(Route::Completions, r#"{"model":"m","prompt":[1,2,3]}"#).unwrap();
        assert_eq!(tokens[0].prompt, Prompt::Tokens(vec![1, 2, 3]));
        assert_ne!(tokens[0].settings.seed, [0; 32]);
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (field, value) in [
            ("n", "2"),
            ("tools", "[{}]"),
            ("presence_penalty", "0.5"),
            ("logit_bias", r#"{"1":5}"#),
            ("response_format", r#"{"type":"json_object"}"#),
            ("max_tokens", "0"),
            ("max_tokens", "-1"),
            ("temperature", "-1"),
            ("top_p", "1.5"),
            ("seed", r#""x""#),
            ("stop", "[1]"),
            ("stream", r#""yes""#),
            ("top_logprobs", "3"),
            ("tool_choice", r#""required""#),
            ("modalities", r#"["text","audio"]"#),
            ("min_p", "0.1"),
            ("repetition_penalty", "1.2"),
            ("messages", r#"[{"role":"root","content":"a"}]"#),
            ("messages", r#"[{"role":"user","content":7}]"#),
            ("messages", r#"[{"role":"assistant","tool_calls":[{"id":"1"}]}]"#),
            (
                "messages",
                r#"[{"role":"user","content":[{"type":"image_url"}]}]"#,
            ),
            ("messages", "[]"),
            ("stop", r#""""#),
            (
                "stop",
                r#"["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]"#,
            ),
            ("stop_token_ids", "[1]"),
            ("ignore_eos", "true"),
            ("max_token", "3"),
            ("prediction", "{}"),
            ("foo", "0"),
            ("prompt", r#""a""#),
            ("max_tokens", r#"5,"max_completion_tokens":6"#),
            ("max_completion_tokens", "0"),
        ] {
            let rest = if field == "messages" {
                ""
            } else {
                r#","messages":[{"role":"user","content":"a"}]"#
            };
            let error = asks(
                Route::Chat,
                &format!(r#"{{"model":"m","{field}":{value}{rest}}}"#),
            )
            .unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field), "{error:?}");
        }
        for (field, value) in [
            ("logprobs", "21"),
            ("top_logprobs", r#"3,"logprobs":2"#),
            ("messages", r#"[{"role":"user","content":"a"}]"#),
            ("foo", "1"),
        ] {
            let body = format!(r#"{{"model":"m","prompt":"a","{field}":{value}}}"#);
            let error = asks(Route::Completions, &body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field), "{error:?}");
        }
        let strange = EmbedBody::read(br#"{"model":"m","input":"a","foo":1}"#)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(strange.param.as_deref(), Some("foo"));
        let plain = r#"{"model":"m","n":1,"tools":[],"tool_choice":"none","modalities":["text"],"min_p":0,"logprobs":true,"top_logprobs":2,"audio":null,"presence_penalty":0,"response_format":{"type":"text"},"messages":[{"role":"user","content":"a"}]}"#;
        assert!(asks(Route::Chat, plain).is_ok());
    }
}
