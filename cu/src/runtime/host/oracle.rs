//! What a module asks of the compute unit itself: the imports of the extension `Inference`.
//!
//! `weft.ask(address, bytes) -> bytes` puts a question and answers how long the answer is, `weft.take(address)` copies
//! it; both are JSON (spec/ai.md). `wasi_ephemeral_nn` is another face of the same questions (`nn`).
//! Not here: what can be asked. Invariant: an answer is a function of the place, the gas left and the question, or
//! nothing comes of the message at all.

use super::nn::{self, Nn};
use super::text::{Guest, TRANSFER_MAX};
use super::{BYTES_PER_GAS, Host, Reply, Stop, charge};
use std::sync::Arc;
use wasmtime::Caller;

/// Not the text of code that ran out of gas: another limit of the process is to be raised.
const OUT_OF_GAS: &str =
    "out of gas for questions! Inference-Limit is the most that those of one message may cost";

/// Where a question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The message: its id, or the hash of its bytes where it has none.
    pub message: [u8; 32],
    /// How many questions of the message came before.
    pub call: u32,
    /// Gas that the message may still spend on questions.
    pub gas_left: u64,
}

/// An answer and its price.
#[derive(Clone, Debug)]
pub struct Answered {
    /// JSON text.
    pub reply: Vec<u8>,
    /// At most what was left.
    pub gas: u64,
}

/// Answers the questions of one process.
pub trait Oracle: Send + Sync {
    /// Gas that the questions of one message may cost; part of the process.
    fn gas_max(&self) -> u64;

    /// The answer, a function of the arguments; `None` where not even the question can be paid.
    ///
    /// # Errors
    /// This node does not answer now: the evaluation is given up, its state before stays.
    fn answer(&self, place: &Place, question: &[u8]) -> Result<Option<Answered>, spec::Refusal>;
}

/// The questions of one message.
pub struct Asking {
    oracle: Arc<dyn Oracle>,
    place: Place,
    /// The answer that waits to be taken.
    reply: Vec<u8>,
    pub nn: Nn,
}

impl Asking {
    /// Nothing asked yet.
    pub fn of(oracle: &Option<Arc<dyn Oracle>>, message: [u8; 32]) -> Option<Asking> {
        let oracle = oracle.clone()?;
        Some(Asking {
            place: Place {
                message,
                call: 0,
                gas_left: oracle.gas_max(),
            },
            oracle,
            reply: Vec::new(),
            nn: Nn::default(),
        })
    }

    /// What the message has spent.
    pub fn gas_used(&self) -> u64 {
        self.oracle.gas_max() - self.place.gas_left
    }
}

/// The imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    Ask,
    Take,
    Nn(nn::Call),
}

impl Asks {
    pub fn find(module: &str, name: &str) -> Option<Asks> {
        match (module, name) {
            ("weft", "ask") => Some(Asks::Ask),
            ("weft", "take") => Some(Asks::Take),
            ("wasi_ephemeral_nn", name) => nn::Call::find(name).map(Asks::Nn),
            _ => None,
        }
    }
}

/// Answers one call.
pub fn answer(asks: Asks, caller: &mut Caller<'_, Host>, words: &[u64]) -> wasmtime::Result<Reply> {
    let w = |i: usize| words.get(i).copied().unwrap_or(0);
    match asks {
        Asks::Ask => {
            let question = read(caller, w(0), w(1))?;
            let reply = ask(caller, &question)?;
            let bytes = reply.len() as u64;
            asking(caller).reply = reply;
            Ok(Reply::Int(bytes))
        }
        Asks::Take => {
            let reply = std::mem::take(&mut asking(caller).reply);
            Guest(caller).write(w(0), &reply)?;
            Ok(Reply::Int(0))
        }
        Asks::Nn(call) => nn::answer(call, caller, words),
    }
}

/// The message's questions; who comes here has seen that there are some.
pub fn asking<'a>(caller: &'a mut Caller<'_, Host>) -> &'a mut Asking {
    let asking = caller.data_mut().asking.as_mut();
    asking.expect("a call of the extension is answered only where it is granted")
}

/// Bytes of the guest, paid for.
pub fn read(caller: &mut Caller<'_, Host>, at: u64, bytes: u64) -> wasmtime::Result<Vec<u8>> {
    let length = usize::try_from(bytes)
        .ok()
        .filter(|length| *length <= TRANSFER_MAX);
    let length =
        length.ok_or_else(|| wasmtime::Error::new(Stop::Abort("memory access out of bounds".into())))?;
    charge(caller, bytes / BYTES_PER_GAS)?;
    Ok(Guest(caller).read(at, length)?.to_vec())
}

/// Puts a question. The message's time stands still meanwhile: how long an answer takes must decide nothing.
pub fn ask(caller: &mut Caller<'_, Host>, question: &[u8]) -> wasmtime::Result<Vec<u8>> {
    let watched = caller.data().watched.clone();
    let left = watched.as_ref().and_then(|watched| watched.stand_still());
    let asking = asking(caller);
    let answered = asking.oracle.answer(&asking.place, question);
    if let Some(watched) = watched {
        watched.go_on(left);
    }
    let stop = |stop| Err(wasmtime::Error::new(stop));
    let answered = match answered {
        Ok(Some(answered)) => answered,
        Ok(None) => return stop(Stop::Abort(OUT_OF_GAS.into())),
        Err(refusal) => return stop(Stop::Unavailable(refusal)),
    };
    asking.place.call += 1;
    let left = asking.place.gas_left.checked_sub(answered.gas);
    asking.place.gas_left = left.expect("an answer costs at most what was left");
    charge(caller, answered.reply.len() as u64 / BYTES_PER_GAS)?;
    Ok(answered.reply)
}
