//! Why a question that was read has no answer from its model: one fixed sentence per cause.
//!
//! Not here: what is wrong with a question whatever the model (`question`). Invariant: a sentence is found from the
//! question, the model's counts and its vocabulary, never from the evaluation's own words: those may change, and these
//! become state.

use inference::service::{
    Answer as Scored, Certain, Code, Prompt, Refusal as No, Service, Turn, Unavailable,
};

use super::question::{Cut, Question, Wants};

type Found = Result<Option<String>, Unavailable>;

/// The sentence.
pub fn of(
    asked: &Question,
    service: &Service,
    certain: &Certain,
    gas_max: u64,
) -> Result<String, Unavailable> {
    let model = asked.model();
    let text = match certain.code {
        Code::Invalid => token(asked, service)?
            .or(text(asked, service)?)
            .or_else(|| turns(asked))
            .unwrap_or_else(|| "the model has no answer to this question".into()),
        Code::TooLong => match known(service.facts(&asked.model_ref()))? {
            Some(facts) => format!(
                "prompt and answer do not fit: the model has room for {} tokens",
                facts.positions
            ),
            None => "the texts are too long".into(),
        },
        Code::OutOfGas => format!(
            "it costs more than the {gas_max} gas that are left to this message: ask for less, or spawn with a \
             larger Inference-Limit"
        ),
        Code::Broken => format!("what {model} holds is no model"),
        Code::Unsupported => unsupported(asked, service)?
            .unwrap_or_else(|| format!("{model} does not do that, or is of a kind that is not defined")),
    };
    Ok(text)
}

/// What a question about the question answers: nothing where that has no answer either.
fn known<T>(answer: Result<T, No>) -> Result<Option<T>, Unavailable> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(No::Certain(_)) => Ok(None),
        Err(No::Unavailable(why)) => Err(why),
    }
}

impl Question {
    fn prompt(&self) -> Option<&Prompt> {
        match &self.wants {
            Wants::Generate(ask, _) => Some(&ask.prompt),
            Wants::Score(ask) => Some(&ask.prompt),
            Wants::Tokenize(Cut::Turns(prompt)) => Some(prompt),
            _ => None,
        }
    }

    fn turns(&self) -> Option<&[Turn]> {
        match self.prompt() {
            Some(Prompt::Chat(turns)) => Some(turns),
            _ => None,
        }
    }

    /// The tokens that stand in it.
    fn tokens(&self) -> Vec<u32> {
        let mut all = match (self.prompt(), &self.wants) {
            (Some(Prompt::Tokens(tokens)), _) | (_, Wants::Detokenize(tokens)) => tokens.clone(),
            _ => vec![],
        };
        if let Wants::Score(ask) = &self.wants
            && let Scored::Tokens(tokens) = &ask.answer
        {
            all.extend(tokens);
        }
        all
    }

    /// The texts that stand in it, those of turns apart, and whether each begins one.
    fn texts(&self) -> Vec<(&str, bool)> {
        let mut all = match &self.wants {
            Wants::Embed(ask, _) => ask.texts.iter().map(|text| (&**text, true)).collect(),
            Wants::Tokenize(Cut::Text(text)) => vec![(&**text, true)],
            Wants::Tokenize(Cut::More(text)) => vec![(&**text, false)],
            _ => vec![],
        };
        match self.prompt() {
            Some(Prompt::Text(text)) => all.push((text, true)),
            Some(Prompt::Chat(turns)) => all.extend(turns.iter().map(|turn| (&*turn.content, false))),
            _ => {}
        }
        if let Wants::Score(ask) = &self.wants
            && let Scored::Text(text) = &ask.answer
        {
            all.push((text, false));
        }
        all
    }
}

/// A token that is none of the model's.
fn token(asked: &Question, service: &Service) -> Found {
    let tokens = asked.tokens();
    let Some(facts) = known(service.facts(&asked.model_ref()))? else {
        return Ok(None);
    };
    let strange = tokens.iter().find(|token| u64::from(**token) >= facts.vocabulary);
    Ok(strange.map(|token| {
        format!(
            "token {token} is none of the model's: it has {}, from 0",
            facts.vocabulary
        )
    }))
}

/// A text that no tokens stand for.
fn text(asked: &Question, service: &Service) -> Found {
    let model = asked.model_ref();
    let Some(facts) = known(service.facts(&model))? else {
        return Ok(None);
    };
    for (text, begins) in asked.texts() {
        let tokens = match begins {
            true => service.tokenize(&model, text),
            false => service.tokenize_within(&model, text),
        };
        let Some(tokens) = known(tokens)? else {
            return Ok(Some("no tokens of the model stand for a part of a text".into()));
        };
        if tokens.is_empty() && begins {
            return Ok(Some(
                "a text is empty, and the model has no token that begins one".into(),
            ));
        }
        if tokens.iter().any(|token| u64::from(*token) >= facts.vocabulary) {
            return Ok(Some(
                "a text has a token that the model holds no weights for".into(),
            ));
        }
    }
    Ok(None)
}

/// Turns in an order that the model's template has no place for. Asked last: which template it is, is not known here.
fn turns(asked: &Question) -> Option<String> {
    asked.turns().map(|_| {
        "the model's template writes a system turn or none, then user and assistant in turns, the user last".into()
    })
}

/// What the model lacks.
fn unsupported(asked: &Question, service: &Service) -> Found {
    let (model, name) = (asked.model_ref(), asked.model());
    let Some(facts) = known(service.facts(&model))? else {
        return Ok(Some(format!("{name} is of a kind that is not defined")));
    };
    if facts.encoder && asked.prompt().is_some() {
        return Ok(Some(format!("{name} gives vectors of texts, no answers")));
    }
    if known(service.tokenize(&model, ""))?.is_none() {
        return Ok(Some(format!(
            "{name} has no vocabulary that is defined: it takes `tokens` and no texts"
        )));
    }
    Ok(asked.turns().map(|_| {
        format!("{name} has no chat template that is defined, or not its tokens: ask with `prompt`, not `messages`")
    }))
}
