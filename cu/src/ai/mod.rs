//! What processes ask of neural networks: questions in, answers out, both JSON text. The page is `spec/ai.md`.
//!
//! Not here: models' arithmetic (`inference`), how a module asks (`runtime::host::oracle`). Invariant: what enters a
//! state is a function of process, message, number of the call, question and model; whatever else may happen on this
//! node is a refusal, and nothing comes of the message then.

mod cause;
mod fields;
mod memo;
mod models;
mod question;
mod reply;

use std::sync::{Arc, OnceLock};

use inference::service::{Code, Config as ServiceConfig, Refusal as No, Service, Unavailable};
use spec::contract::{Answer, Permanent};
use spec::{ProcessId, Refusal};

use crate::pool;
use crate::runtime::{Answered, Oracle, Place, sha256};
use memo::Memo;
pub use models::{ITEM, Open, WeaveModels};
pub use question::is_model;
use question::{Question, Wrong};

/// Name of the extension, as the tag `Extension` of a module or process asks for it.
pub const EXTENSION: &str = "Inference";
/// Gas that the questions of one message may cost where no tag says otherwise. Part of the protocol.
pub const GAS_DEFAULT: u64 = 2_000_000_000_000;
/// Tokens that one answer may have where no tag says otherwise. Part of the protocol.
pub const TOKENS_DEFAULT: u64 = 4096;
/// Gas of a question, whatever it is, and of each of its bytes. Part of the protocol.
const QUESTION_GAS: u64 = 10_000_000;
const BYTE_GAS: u64 = 100;
/// Longest question, in bytes. Part of the protocol.
const QUESTION_BYTES_MAX: usize = 4 << 20;

/// What an operator sets: bounds, and what computes. None of it can change an answer.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether this node answers at all. Where it does not, a message that asks waits.
    pub on: bool,
    /// What computes, where nobody hands in a service. A node does, by its table `[infer]`.
    #[serde(skip)]
    pub service: ServiceConfig,
    /// Folder of model files named by their ids, looked into before the weave.
    pub models: Option<std::path::PathBuf>,
    /// Largest model, in bytes.
    pub model_bytes_max: u64,
    /// Largest gas of one message's questions that a process may ask for by `Inference-Limit`.
    pub gas_max: u64,
    /// Evaluations that wait for an answer while others take their threads; more are refused as busy and evaluated when
    /// asked for again.
    pub waiting_max: usize,
    /// Bytes of answers kept, for messages that are run again.
    pub answers_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            on: true,
            service: ServiceConfig::default(),
            models: None,
            model_bytes_max: 16 << 30,
            gas_max: 100_000_000_000_000,
            waiting_max: 256,
            answers_bytes_max: 16 << 20,
        }
    }
}

/// What one process may ask: part of it and its module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Gas of the questions of one message.
    pub gas_max: u64,
    /// Tokens of one answer.
    pub tokens_max: u64,
    /// The only models it may ask, if any are named: in any profile where the name tells none.
    pub models: Vec<String>,
}

/// The unit's way to models.
pub struct Ai {
    settings: Settings,
    permanent: Arc<dyn Permanent>,
    runtime: tokio::runtime::Handle,
    service: OnceLock<Service>,
    memo: Memo,
}

impl Ai {
    /// Nothing is loaded before the first question. Must be called within a tokio runtime.
    pub fn new(settings: &Settings, permanent: Arc<dyn Permanent>) -> Arc<Ai> {
        Arc::new(Ai {
            settings: settings.clone(),
            permanent,
            runtime: tokio::runtime::Handle::current(),
            service: OnceLock::new(),
            memo: Memo::new(settings.answers_bytes_max),
        })
    }

    /// Takes a service that others use too; whether it came before the first question.
    pub fn share(&self, service: Service) -> bool {
        self.service.set(service).is_ok()
    }

    /// What a process asks by.
    pub fn oracle(self: &Arc<Ai>, process: ProcessId, limits: Limits) -> Arc<dyn Oracle> {
        Arc::new(Asker {
            ai: self.clone(),
            process,
            limits,
        })
    }

    fn service(&self) -> Answer<&Service> {
        if !self.settings.on {
            let text = "the message asks a model and this node answers none: set `cu.inference.on = true`, or \
                have a node evaluate it that does";
            return Err(Refusal::limit("inference-off", text));
        }
        if let Some(service) = self.service.get() {
            return Ok(service);
        }
        let models = WeaveModels::new(
            self.permanent.clone(),
            self.runtime.clone(),
            self.settings.model_bytes_max,
            self.settings.models.clone(),
        );
        Ok(self
            .service
            .get_or_init(|| Service::open(self.settings.service.clone(), Arc::new(models))))
    }
}

/// One process's way to models.
struct Asker {
    ai: Arc<Ai>,
    process: ProcessId,
    limits: Limits,
}

impl Oracle for Asker {
    fn gas_max(&self) -> u64 {
        self.limits.gas_max
    }

    fn answer(&self, place: &Place, question: &[u8]) -> Answer<Option<Answered>> {
        let price = BYTE_GAS
            .saturating_mul(question.len() as u64)
            .saturating_add(QUESTION_GAS);
        let Some(left) = place.gas_left.checked_sub(price) else {
            return Ok(None);
        };
        let key = sha256(&[
            &self.process.0,
            &place.message,
            &place.call.to_le_bytes(),
            &place.gas_left.to_le_bytes(),
            &sha256(&[question]),
        ]);
        if let Some(known) = self.ai.memo.get(&key) {
            return Ok(Some(known));
        }
        let (reply, gas) = match self.judge(place, left, question)? {
            Ok(done) => done,
            Err(wrong) => {
                // Whoever may spend no more has spent it.
                let spent = if wrong.code == Code::OutOfGas.name() {
                    left
                } else {
                    0
                };
                (wrong.reply(), spent)
            }
        };
        assert!(gas <= left, "an answer costs at most what may be spent");
        let answered = Answered {
            reply,
            gas: price + gas,
        };
        self.ai.memo.put(key, answered.clone());
        Ok(Some(answered))
    }
}

impl Asker {
    /// The reply and what the model cost, or what is wrong with the question wherever it is asked.
    fn judge(&self, place: &Place, gas_max: u64, question: &[u8]) -> Answer<Result<(Vec<u8>, u64), Wrong>> {
        let asked = match Question::read(question, &self.limits, QUESTION_BYTES_MAX) {
            Ok(asked) => asked,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let service = self.ai.service()?;
        let seed = seed(self.process, place, asked.seed());
        let process = self.process.to_string();
        let most = self.ai.settings.waiting_max.max(1);
        let put = || match asked.put(service, seed, gas_max, process) {
            Ok(done) => Ok(Ok(done)),
            Err(No::Certain(certain)) => {
                tracing::info!(process = %self.process, "a question has no answer: {certain}");
                let text = cause::of(&asked, service, &certain, gas_max);
                let text = text.map_err(|why| unavailable(asked.model(), &why))?;
                Ok(Err(Wrong::new(certain.code.name(), text)))
            }
            Err(No::Unavailable(why)) => Err(unavailable(asked.model(), &why)),
        };
        // Given up before anything is recorded: whoever asks again has it evaluated, and its threads stay with others.
        pool::aside(most, put).unwrap_or_else(|| {
            let why = Unavailable::Busy(format!("{most} evaluations of this node wait for models"));
            Err(unavailable(asked.model(), &why))
        })
    }
}

/// What the draws of an answer come from.
fn seed(process: ProcessId, place: &Place, own: &[u8]) -> [u8; 32] {
    sha256(&[&process.0, &place.message, &place.call.to_le_bytes(), own])
}

/// A refusal of this node: it tells the remedy, and the message waits.
fn unavailable(model: &str, why: &Unavailable) -> Refusal {
    match why {
        // Retryable: the messenger asks again, so nothing is lost once it is there.
        Unavailable::Absent(why) => Refusal::upstream(
            "model-not-found",
            format!(
                "a message asks the model {model}, which is not here ({why}): add it with `weft module add FILE --id \
                 {model}`, or put the file into the node's folder of models as {model}.gguf"
            ),
        ),
        Unavailable::Room(why) => {
            let text = format!("a message asks the model {model} for more than this node gives: {why}");
            Refusal::limit("inference-room", text)
        }
        why => Refusal::busy(
            "inference-busy",
            format!("the model {model} does not answer now: {why}; ask again"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn vectors() {
        let vectors: Value = serde_json::from_str(include_str!("../../../spec/vectors/ai.json")).unwrap();
        let list = |name: &str| vectors[name].as_array().unwrap().clone();
        let bytes = |value: &Value| blake3::Hash::from_hex(value.as_str().unwrap()).unwrap();
        for row in list("seeds") {
            let place = Place {
                message: *bytes(&row["message"]).as_bytes(),
                call: row["call"].as_u64().unwrap() as u32,
                gas_left: 0,
            };
            let own = row["seed"].as_str().unwrap().as_bytes();
            let made = seed(ProcessId(*bytes(&row["process"]).as_bytes()), &place, own);
            assert_eq!(made, *bytes(&row["sha256"]).as_bytes(), "{row}");
        }
        let limits = Limits {
            gas_max: GAS_DEFAULT,
            tokens_max: TOKENS_DEFAULT,
            models: vec![],
        };
        for row in list("wrong") {
            let question = row["question"].as_str().unwrap().as_bytes();
            let wrong = Question::read(question, &limits, QUESTION_BYTES_MAX)
                .map(|_| ())
                .unwrap_err();
            assert_eq!(
                String::from_utf8(wrong.reply()).unwrap(),
                row["reply"].as_str().unwrap()
            );
        }
    }
}
