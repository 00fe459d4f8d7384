//! Conversations as models were taught to read them: turns to tokens, by a few templates written out here.
//!
//! A file's own template is a program in another language; it is not run, only recognised. Not here: vocabularies.
//! Invariant: what somebody says is text and nothing else: no turn can spell a control token or end itself.

use crate::error::Error;
use crate::gguf::Gguf;
use crate::service::Turn;
use crate::vocabulary::Vocabulary;

/// Turns a conversation has at most.
pub const TURNS_MAX: usize = 4096;

/// All tokens that templates write, by name: none of them is ever found in what somebody says.
pub const MARKS: [&str; 10] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
];

/// How turns are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// `<|im_start|>role`, what was said, `<|im_end|>` (Qwen and many others).
    ChatMl,
    /// `<|start_header_id|>role<|end_header_id|>`, what was said, `<|eot_id|>`.
    Llama3,
    /// `<start_of_turn>role`, what was said, `<end_of_turn>`; the system speaks with the first user.
    Gemma,
    /// `[INST]` user `[/INST]` assistant; the system speaks with the first user.
    Mistral,
    /// As Mistral, the system between `<<SYS>>` marks.
    Llama2,
    /// `<|role|>`, what was said, the token that ends texts.
    Zephyr,
}

/// What a conversation is written with.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// The token of that name; where the vocabulary has none, the second field says whether its text will do.
    Token(&'static str, bool),
    /// The token that begins texts.
    Begin,
    /// The token that ends them.
    End,
    /// Text: neighbours are one text.
    Text(String),
}

use Part::{Begin, End, Token};

fn text(text: impl Into<String>) -> Part {
    Part::Text(text.into())
}

fn bad(why: impl Into<String>) -> Error {
    Error::Invalid(why.into())
}

impl Template {
    /// All of them, by their names.
    pub const ALL: [(&'static str, Template); 6] = [
        ("chatml", Template::ChatMl),
        ("llama-3", Template::Llama3),
        ("gemma", Template::Gemma),
        ("mistral", Template::Mistral),
        ("llama-2", Template::Llama2),
        ("zephyr", Template::Zephyr),
    ];

    /// The template that a file's own is, or where it has none the one whose tokens its vocabulary has.
    pub fn read(file: &Gguf<'_>, vocabulary: &Vocabulary) -> Option<Template> {
        match file.text("tokenizer.chat_template") {
            Some(own) => Template::recognise(own),
            None => {
                let marks = ["<|im_start|>", "<|start_header_id|>", "<start_of_turn>"];
                let has = marks.into_iter().find(|mark| vocabulary.special(mark).is_some());
                has.and_then(Template::recognise)
            }
        }
    }

    /// The template that writes these marks.
    fn recognise(own: &str) -> Option<Template> {
        let marks = [
            ("<|im_start|>", Template::ChatMl),
            ("<|start_header_id|>", Template::Llama3),
            ("<start_of_turn>", Template::Gemma),
            ("<<SYS>>", Template::Llama2),
            ("[INST]", Template::Mistral),
            ("<|user|>", Template::Zephyr),
        ];
        let found = marks.into_iter().find(|(mark, _)| own.contains(mark));
        // `<|user|>` with an end of its own is of yet another family.
        found
            .map(|(_, template)| template)
            .filter(|template| *template != Template::Zephyr || own.contains("eos_token"))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let named = Template::ALL.into_iter().find(|(_, template)| *template == self);
        named.expect("every template is named").0
    }

    /// Tokens that end the assistant's turn, besides those that end any text.
    pub fn stops(self, vocabulary: &Vocabulary) -> Vec<u32> {
        let names: &[&str] = match self {
            Template::ChatMl => &["<|im_end|>"],
            Template::Llama3 => &["<|eot_id|>", "<|eom_id|>"],
            Template::Gemma => &["<end_of_turn>"],
            Template::Mistral | Template::Llama2 | Template::Zephyr => &[],
        };
        names.iter().filter_map(|name| vocabulary.special(name)).collect()
    }

    /// The tokens of a conversation, up to where the assistant speaks.
    ///
    /// # Errors
    /// Turns that the template has no place for, a vocabulary without its tokens, a text that is too long.
    pub fn encode(self, vocabulary: &Vocabulary, turns: &[Turn]) -> Result<Vec<u32>, Error> {
        if !(1..=TURNS_MAX).contains(&turns.len()) {
            return Err(bad(format!("a conversation has 1 to {TURNS_MAX} turns")));
        }
        let parts = match self {
            Template::ChatMl | Template::Llama3 | Template::Zephyr => self.marked(turns)?,
            Template::Gemma => gemma(turns)?,
            Template::Mistral | Template::Llama2 => self.instructed(turns, vocabulary)?,
        };
        tokens(vocabulary, parts)
    }

    /// Every turn between marks that name who speaks.
    fn marked(self, turns: &[Turn]) -> Result<Vec<Part>, Error> {
        let mut parts = vec![Begin];
        for Turn { role, content } in turns {
            if !["system", "user", "assistant", "tool"].contains(&role.as_str()) {
                return Err(bad(format!("no role {role}: system, user, assistant, tool")));
            }
            self.open(role, &mut parts);
            match self {
                Template::ChatMl => parts.extend([text(content), Token("<|im_end|>", false), text("\n")]),
                Template::Llama3 => parts.extend([text(content.trim()), Token("<|eot_id|>", false)]),
                _ => parts.extend([text(content), End, text("\n")]),
            }
        }
        self.open("assistant", &mut parts);
        Ok(parts)
    }

    fn open(self, role: &str, parts: &mut Vec<Part>) {
        match self {
            Template::ChatMl => parts.extend([Token("<|im_start|>", false), text(format!("{role}\n"))]),
            Template::Llama3 => parts.extend([
                Token("<|start_header_id|>", false),
                text(role),
                Token("<|end_header_id|>", false),
                text("\n\n"),
            ]),
            _ => parts.push(text(format!("<|{role}|>\n"))),
        }
    }

    /// Users between `[INST]` marks, which are tokens in newer vocabularies and text in older ones.
    fn instructed(self, turns: &[Turn], vocabulary: &Vocabulary) -> Result<Vec<Part>, Error> {
        let own = vocabulary.special("[INST]").is_some();
        let (system, turns) = alternating(turns)?;
        let mut parts = vec![];
        for (at, turn) in turns.iter().enumerate() {
            let before = match (&system, self) {
                (Some(system), Template::Llama2) if at == 0 => format!("<<SYS>>\n{system}\n<</SYS>>\n\n"),
                (Some(system), _) if at == 0 => format!("{system}\n\n"),
                _ => String::new(),
            };
            match at.is_multiple_of(2) {
                true => {
                    if at == 0 || self == Template::Llama2 {
                        parts.push(Begin);
                    }
                    let end = if own { "" } else { " " };
                    let said = format!(" {before}{}{end}", turn.content.trim());
                    parts.extend([Token("[INST]", true), text(said), Token("[/INST]", true)]);
                }
                false => parts.extend([text(format!(" {}", turn.content.trim())), End]),
            }
        }
        Ok(parts)
    }
}

fn gemma(turns: &[Turn]) -> Result<Vec<Part>, Error> {
    let (system, turns) = alternating(turns)?;
    let mut parts = vec![Begin];
    for (at, turn) in turns.iter().enumerate() {
        let before = match &system {
            Some(system) if at == 0 => format!("{system}\n\n"),
            _ => String::new(),
        };
        let role = if at.is_multiple_of(2) { "user" } else { "model" };
        let said = format!("{role}\n{before}{}", turn.content.trim());
        parts.extend([
            Token("<start_of_turn>", false),
            text(said),
            Token("<end_of_turn>", false),
            text("\n"),
        ]);
    }
    parts.extend([Token("<start_of_turn>", false), text("model\n")]);
    Ok(parts)
}

/// What the system says, and the turns of user and assistant, who alternate; the user is first and last.
fn alternating(turns: &[Turn]) -> Result<(Option<&str>, &[Turn]), Error> {
    let (system, turns) = match turns {
        [first, rest @ ..] if first.role == "system" => (Some(first.content.trim()), rest),
        all => (None, all),
    };
    let alternate = turns.iter().enumerate().all(|(at, turn)| {
        let wanted = if at.is_multiple_of(2) { "user" } else { "assistant" };
        turn.role == wanted
    });
    match alternate && turns.len() % 2 == 1 {
        true => Ok((system, turns)),
        false => {
            let why = "this model's conversations are a system turn or none, then user and assistant in turns, the user last";
            Err(bad(why))
        }
    }
}

/// The tokens of parts; the text between two tokens is cut as one.
fn tokens(vocabulary: &Vocabulary, parts: Vec<Part>) -> Result<Vec<u32>, Error> {
    let (mut out, mut run, mut begins) = (vec![], String::new(), true);
    let mut token = |id: u32, run: &mut String, out: &mut Vec<u32>| -> Result<(), Error> {
        if !run.is_empty() {
            out.extend(vocabulary.encode_within(&std::mem::take(run), std::mem::take(&mut begins))?);
        }
        out.push(id);
        Ok(())
    };
    for part in parts {
        match part {
            Part::Text(text) => run.push_str(&text),
            Begin => {
                if let Some(id) = vocabulary.before() {
                    token(id, &mut run, &mut out)?;
                }
            }
            End => match vocabulary.stops().first() {
                Some(id) => token(*id, &mut run, &mut out)?,
                None => return Err(lacks("that ends texts")),
            },
            Token(name, spelled) => match (vocabulary.special(name), spelled) {
                (Some(id), _) => token(id, &mut run, &mut out)?,
                (None, true) => run.push_str(name),
                (None, false) => return Err(lacks(name)),
            },
        }
    }
    if !run.is_empty() {
        out.extend(vocabulary.encode_within(&run, begins)?);
    }
    Ok(out)
}

fn lacks(name: &str) -> Error {
    Error::Unsupported(format!(
        "the model's vocabulary has no token {name}, which its template needs; ask with a prompt instead of turns"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(turns: &[(&str, &str)]) -> Vec<Turn> {
        let turn = |(role, content): &(&str, &str)| Turn {
            role: (*role).to_owned(),
            content: (*content).to_owned(),
        };
        turns.iter().map(turn).collect()
    }

    /// Parts as they would look as text.
    fn spelled(parts: Vec<Part>) -> String {
        let part = |part| match part {
            Begin => "<s>".to_owned(),
            End => "</s>".to_owned(),
            Token(name, _) => name.to_owned(),
            Part::Text(text) => text,
        };
        parts.into_iter().map(part).collect()
    }

    #[test]
    fn templates_are_as_their_models_were_taught() {
        let said = turns(&[
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Ho"),
            ("user", " Bye "),
        ]);
        assert_eq!(
            spelled(Template::ChatMl.marked(&said).unwrap()),
            "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\
             <|im_end|>\n<|im_start|>user\n Bye <|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            spelled(Template::Llama3.marked(&said[1..2]).unwrap()),
            "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
        assert_eq!(
            spelled(gemma(&said).unwrap()),
            "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n\
             <start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
        );
        assert_eq!(
            spelled(Template::Zephyr.marked(&said[1..2]).unwrap()),
            "<s><|user|>\nHi</s>\n<|assistant|>\n"
        );
        assert!(gemma(&said[..3]).is_err(), "the user is last");
        assert!(Template::ChatMl.marked(&turns(&[("root", "x")])).is_err());
    }

    #[test]
    fn a_files_own_template_is_recognised() {
        let known = [
            ("{{'<|im_start|>' + message['role']}}", Some(Template::ChatMl)),
            ("{{ '[INST] ' + message['content'] }}", Some(Template::Mistral)),
            ("{{ '[INST] <<SYS>>' }}", Some(Template::Llama2)),
            ("<|user|> {{ eos_token }}", Some(Template::Zephyr)),
            ("<|user|> <|end|>", None),
            ("### Instruction:", None),
        ];
        for (own, template) in known {
            assert_eq!(Template::recognise(own), template, "{own}");
        }
        for (name, template) in Template::ALL {
            assert_eq!(template.name(), name);
        }
    }
}
