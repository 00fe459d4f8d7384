//! A question: what is asked of which model. Read from JSON, put to the service.
//! Not here: gas, seeds, refusals of this node. Invariant: a question is read the same everywhere, limits of a process
//! included; what is wrong with it is said in words that do not change.

use inference::sample::Settings;
use inference::service::{
    Answer as Scored, Code, Embed, Generate, ModelRef, Prompt, Refusal as No, STOP_BYTES_MAX, STOP_TEXTS_MAX,
    Score, Service, Turn,
};
use serde_json::Value;
use spec::ItemId;

use super::Limits;
use super::fields::Fields;
use super::reply;

/// Texts that one question may have.
const TEXTS_MAX: usize = 2048;
/// Turns of a conversation.
const TURNS_MAX: usize = inference::chat::TURNS_MAX;
/// Who may speak; templates write them each in its way.
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// Why a question has no answer anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

impl Wrong {
    /// With a code.
    pub fn new(code: &'static str, text: impl Into<String>) -> Wrong {
        let text = text.into();
        Wrong { code, text }
    }

    fn invalid(text: impl Into<String>) -> Wrong {
        Wrong::new(Code::Invalid.name(), text)
    }

    /// As the asker gets it.
    pub fn reply(&self) -> Vec<u8> {
        reply::wrong(self)
    }
}

/// What is wanted.
pub enum Wants {
    Generate(Box<Generate>, bool),
    Embed(Embed, bool),
    Score(Score),
    Tokenize(Cut),
    Detokenize(Vec<u32>),
    Facts,
}

/// What is cut into tokens.
pub enum Cut {
    /// A text that begins.
    Text(String),
    /// A text that goes on from another.
    More(String),
    /// What a conversation's answer follows.
    Turns(Prompt),
}

/// A question that was read.
pub struct Question {
    model: ModelRef,
    seed: Vec<u8>,
    pub(super) wants: Wants,
}

impl Question {
    /// Reads a question within the limits of its process.
    pub fn read(question: &[u8], limits: &Limits, bytes_max: usize) -> Result<Question, Wrong> {
        if question.len() > bytes_max {
            let text = format!("a question has at most {bytes_max} bytes");
            return Err(Wrong::new(Code::TooLong.name(), text));
        }
        let mut fields = Fields::read(question)?;
        let does = fields.text("do")?;
        let model = model(&mut fields, limits)?;
        let seed = seed(&mut fields)?;
        let wants = match does.as_str() {
            "generate" => generate(&mut fields, &model, limits)?,
            "embed" => embed(&mut fields, &model)?,
            "score" => score(&mut fields, &model)?,
            "tokenize" => Wants::Tokenize(cut(&mut fields)?),
            "detokenize" => Wants::Detokenize(fields.tokens("tokens")?),
            "facts" => Wants::Facts,
            _ => {
                let all = "generate, embed, score, tokenize, detokenize, facts";
                return Err(Wrong::invalid(format!("`do` must be one of {all}")));
            }
        };
        fields.end()?;
        Ok(Question { model, seed, wants })
    }

    /// The model's name as it was asked for.
    pub fn model(&self) -> &str {
        &self.model.id
    }

    /// The model.
    pub fn model_ref(&self) -> ModelRef {
        self.model.clone()
    }

    /// What the asker adds to the seed.
    pub fn seed(&self) -> &[u8] {
        &self.seed
    }

    /// Puts it; answers the reply and what the model cost.
    pub fn put(
        &self,
        service: &Service,
        seed: [u8; 32],
        gas_max: u64,
        asker: String,
    ) -> Result<(Vec<u8>, u64), No> {
        let gas_max = Some(gas_max);
        match &self.wants {
            Wants::Generate(ask, whole) => {
                let mut ask = Generate {
                    gas_max,
                    asker,
                    ..(**ask).clone()
                };
                ask.settings.seed = seed;
                let done = service.generate(&ask)?;
                Ok((reply::generated(&done, *whole), done.gas))
            }
            Wants::Embed(ask, int8) => {
                let ask = Embed {
                    gas_max,
                    asker,
                    ..ask.clone()
                };
                let done = service.embed(&ask)?;
                Ok((reply::embedded(&done, self.model.profile, *int8), done.gas))
            }
            Wants::Score(ask) => {
                let ask = Score {
                    gas_max,
                    asker,
                    ..ask.clone()
                };
                let done = service.score(&ask)?;
                let file = service.hash(&self.model)?;
                let (prompt, _) = service.tokenize_prompt(&self.model, &ask.prompt)?;
                Ok((reply::scored(&done, self.model.profile, &file, &prompt), done.gas))
            }
            Wants::Tokenize(cut) => {
                let tokens = match cut {
                    Cut::Text(text) => reply::tokens(&service.tokenize(&self.model, text)?),
                    Cut::More(text) => reply::tokens(&service.tokenize_within(&self.model, text)?),
                    Cut::Turns(prompt) => {
                        let (tokens, stops) = service.tokenize_prompt(&self.model, prompt)?;
                        reply::turns(&tokens, &stops)
                    }
                };
                Ok((tokens, 0))
            }
            Wants::Detokenize(tokens) => Ok((reply::text(&service.detokenize(&self.model, tokens)?), 0)),
            Wants::Facts => Ok((reply::facts(&service.facts(&self.model)?), 0)),
        }
    }
}

/// Whether that is a model's name: `ID`, `ID:a16` or `ID:a8`, where `ID` is an item's; nothing else can be one anywhere.
pub fn is_model(name: &str) -> bool {
    ModelRef::named(name).id.parse::<ItemId>().is_ok()
}

fn model(fields: &mut Fields, limits: &Limits) -> Result<ModelRef, Wrong> {
    let name = fields.text("model")?;
    if !is_model(&name) {
        return Err(Wrong::invalid(
            "`model` must be the id of an item, alone or followed by :a16 or :a8",
        ));
    }
    let model = ModelRef::named(&name);
    let is_it = |named: &String| *named == model.id || named.contains(':') && ModelRef::named(named) == model;
    match limits.models.is_empty() || limits.models.iter().any(is_it) {
        true => Ok(model),
        false => Err(Wrong::invalid(format!(
            "{name} is not among the models that the process was spawned with (Inference-Model)"
        ))),
    }
}

/// Any text, or a whole number as its decimal digits.
fn seed(fields: &mut Fields) -> Result<Vec<u8>, Wrong> {
    match fields.any("seed") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text.into_bytes()),
        Some(Value::Number(number)) if number.is_i64() => Ok(number.to_string().into_bytes()),
        Some(_) => Err(Wrong::invalid(
            "`seed` must be a text or a whole number of at most 14 digits",
        )),
    }
}

/// Exactly one of `prompt`, `messages` and `tokens`.
fn prompt(fields: &mut Fields) -> Result<Prompt, Wrong> {
    let given = ["prompt", "messages", "tokens"].map(|name| fields.has(name));
    match given {
        [true, false, false] => Ok(Prompt::Text(fields.text("prompt")?)),
        [false, true, false] => turns(fields.any("messages")).map(Prompt::Chat),
        [false, false, true] => match fields.tokens("tokens")? {
            tokens if tokens.is_empty() => Err(Wrong::invalid("`tokens` must have at least one token")),
            tokens => Ok(Prompt::Tokens(tokens)),
        },
        _ => Err(Wrong::invalid(
            "one of `prompt`, `messages` and `tokens` must be there, and only one",
        )),
    }
}

/// Either `text` or `messages`; `continues` is of texts.
fn cut(fields: &mut Fields) -> Result<Cut, Wrong> {
    let continues = fields.flag("continues")?;
    match (fields.has("messages"), fields.has("text")) {
        (true, true) => Err(Wrong::invalid("`text` or `messages` must be there, not both")),
        (true, false) if continues => Err(Wrong::invalid("`continues` is of a text, not of `messages`")),
        (true, false) => Ok(Cut::Turns(Prompt::Chat(turns(fields.any("messages"))?))),
        (false, _) if continues => fields.text("text").map(Cut::More),
        (false, _) => fields.text("text").map(Cut::Text),
    }
}

fn turns(list: Option<Value>) -> Result<Vec<Turn>, Wrong> {
    let bad = || Wrong::invalid("`messages` must be a list of {role = text, content = text}");
    let text = |turn: &Value, name: &str| turn.get(name).and_then(Value::as_str).map(str::to_owned);
    let turn = |turn: &Value| {
        let (role, content) = text(turn, "role").zip(text(turn, "content")).ok_or_else(bad)?;
        // The newer name of the same role.
        let role = if role == "developer" {
            "system".into()
        } else {
            role
        };
        match ROLES.contains(&&*role) {
            true => Ok(Turn { role, content }),
            false => Err(Wrong::invalid(format!(
                "there is no role `{role}`: system, developer, user, assistant, tool"
            ))),
        }
    };
    let list = list.unwrap_or_default();
    let list = list.as_array().filter(|list| !list.is_empty()).ok_or_else(bad)?;
    if list.len() > TURNS_MAX {
        return Err(Wrong::invalid(format!(
            "`messages` has at most {TURNS_MAX} turns"
        )));
    }
    list.iter().map(turn).collect()
}

/// 0, or what a division by it still tells apart.
fn temperature(fields: &mut Fields) -> Result<f32, Wrong> {
    let bad = || Wrong::invalid("`temperature` must be 0 or a number from 0.001 to 100");
    let number = fields.number("temperature", 0.0, 100.0).map_err(|_| bad())?;
    match number.unwrap_or(0.0) {
        number if number == 0.0 || number >= 0.001 => Ok(number),
        _ => Err(bad()),
    }
}

/// Texts that end an answer.
fn stops(fields: &mut Fields) -> Result<Vec<String>, Wrong> {
    let stops = fields.texts("stop")?;
    let fits = |text: &String| (1..=STOP_BYTES_MAX).contains(&text.len());
    match stops.len() <= STOP_TEXTS_MAX && stops.iter().all(fits) {
        true => Ok(stops),
        false => Err(Wrong::invalid(format!(
            "`stop` must be at most {STOP_TEXTS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes"
        ))),
    }
}

fn generate(fields: &mut Fields, model: &ModelRef, limits: &Limits) -> Result<Wants, Wrong> {
    let mut ask = Generate::new(model.clone(), prompt(fields)?);
    let tokens = fields.whole("max_tokens", 1, limits.tokens_max)?;
    // Else as many as there is room for, to the service's default.
    ask.tokens_max = tokens.map(|tokens| tokens as usize);
    if tokens.is_none() && limits.tokens_max < inference::service::TOKENS_DEFAULT as u64 {
        ask.tokens_max = Some(limits.tokens_max as usize);
    }
    ask.settings = Settings {
        temperature: temperature(fields)?,
        top_k: fields.whole("top_k", 0, u64::from(u32::MAX))?.unwrap_or(0) as u32,
        top_p: fields.number("top_p", 0.0, 1.0)?.unwrap_or(1.0),
        seed: [0; 32],
    };
    ask.stop_texts = stops(fields)?;
    ask.stops = fields.tokens("stop_tokens")?;
    ask.logprobs = fields
        .whole("logprobs", 0, inference::service::LIKELIEST_MAX as u64)?
        .map(|count| count as usize);
    Ok(Wants::Generate(Box::new(ask), fields.flag("receipt")?))
}

fn embed(fields: &mut Fields, model: &ModelRef) -> Result<Wants, Wrong> {
    let texts = fields.texts("input")?;
    if !(1..=TEXTS_MAX).contains(&texts.len()) {
        return Err(Wrong::invalid(format!(
            "`input` must be a text, or a list of 1 to {TEXTS_MAX}"
        )));
    }
    let ask = Embed {
        model: model.clone(),
        texts,
        gas_max: None,
        asker: String::new(),
    };
    Ok(Wants::Embed(ask, fields.flag("int8")?))
}

fn score(fields: &mut Fields, model: &ModelRef) -> Result<Wants, Wrong> {
    let prompt = prompt(fields)?;
    let answer = match fields.any("answer") {
        Some(Value::String(text)) => Scored::Text(text),
        _ if fields.has("answer_tokens") => Scored::Tokens(fields.tokens("answer_tokens")?),
        _ => {
            return Err(Wrong::invalid(
                "`answer` must be a text, or `answer_tokens` a list of tokens",
            ));
        }
    };
    Ok(Wants::Score(Score {
        model: model.clone(),
        prompt,
        answer,
        gas_max: None,
        asker: String::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use inference::Profile;

    const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn limits() -> Limits {
        Limits {
            gas_max: 1,
            tokens_max: 100,
            models: vec![],
        }
    }

    fn read(question: &str) -> Result<Question, Wrong> {
        Question::read(question.replace("ID", ID).as_bytes(), &limits(), 4096)
    }

    #[test]
    fn a_question_is_read_whole_or_not_at_all() {
        let good = r#"{"do":"generate","model":"ID:a8","prompt":"p","max_tokens":3.0,"temperature":0.7,"seed":12,
            "stop":"x","logprobs":null}"#;
        let read_well = read(good).unwrap();
        let Wants::Generate(ask, false) = &read_well.wants else {
            panic!()
        };
        assert_eq!((ask.tokens_max, ask.settings.temperature), (Some(3), 0.7));
        assert_eq!((&ask.stop_texts[..], ask.logprobs), (&["x".to_owned()][..], None));
        assert_eq!(
            (read_well.model.profile, read_well.seed()),
            (Profile::A8, &b"12"[..])
        );
        let cases = [
            ("[1]", "JSON object"),
            (
                r#"{"do":"generate","model":"ID","prompt":"p","max_token":3}"#,
                "`max_token`",
            ),
            (
                r#"{"do":"generate","model":"ID","prompt":"p","max_tokens":101}"#,
                "1 to 100",
            ),
            (
                r#"{"do":"generate","model":"ID","prompt":"p","tokens":[1]}"#,
                "only one",
            ),
            (r#"{"do":"generate","model":"ID","messages":[]}"#, "`messages`"),
            (
                r#"{"do":"generate","model":"ID","prompt":"p","temperature":-1}"#,
                "`temperature`",
            ),
            (
                r#"{"do":"generate","model":"ID","prompt":"p","temperature":0.0001}"#,
                "0 or a number from 0.001 to 100",
            ),
            (
                r#"{"do":"generate","model":"ID","prompt":"p","stop":["a",""]}"#,
                "texts of 1 to 256 bytes",
            ),
            (
                r#"{"do":"generate","model":"ID","messages":[{"role":"root","content":"p"}]}"#,
                "no role `root`",
            ),
            (r#"{"do":"generate","model":"ID","tokens":[]}"#, "at least one"),
            (r#"{"do":"generate","model":"tiny","prompt":"p"}"#, "`model`"),
            (
                r#"{"do":"generate","model":"ID","prompt":"p","seed":0.5}"#,
                "`seed`",
            ),
            (r#"{"do":"detokenize","model":"ID","tokens":[-1]}"#, "`tokens`"),
            (r#"{"do":"embed","model":"ID","input":[]}"#, "`input`"),
            (r#"{"do":"score","model":"ID","prompt":"p"}"#, "`answer`"),
            (r#"{"do":"tokenize","model":"ID"}"#, "`text` is missing"),
            (
                r#"{"do":"tokenize","model":"ID","continues":true,"messages":[{"role":"user","content":"a"}]}"#,
                "`continues`",
            ),
            (r#"{"do":"think","model":"ID"}"#, "`do`"),
        ];
        for (question, says) in cases {
            let wrong = read(question).map(|_| ()).unwrap_err();
            assert!(wrong.text.contains(says), "{question}: {}", wrong.text);
        }
        assert_eq!(read(&" ".repeat(5000)).map(|_| ()).unwrap_err().code, "too-long");
    }

    #[test]
    fn a_process_with_models_of_its_own_asks_no_other() {
        let question = format!(r#"{{"do":"facts","model":"{ID}"}}"#);
        let allowed = |models: &[&str]| {
            let limits = Limits {
                models: models.iter().map(ToString::to_string).collect(),
                ..limits()
            };
            Question::read(question.as_bytes(), &limits, 4096).is_ok()
        };
        assert!(allowed(&[]) && allowed(&["B", ID]) && !allowed(&["B"]));
        assert!(allowed(&[&format!("{ID}:a16")]) && !allowed(&[&format!("{ID}:a8")]));
    }
}
