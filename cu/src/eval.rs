//! One evaluation: (state, message, environment) to (state', outcome).
//!
//! Pure but for the machine handed in. Every call ends with the machine committed or rolled back,
//! so an error of any kind keeps the state before it (invariant 15). Nothing here reads a setting.

use serde::Deserialize;
use serde_json::value::RawValue;
use spec::Outcome;

use crate::runtime::{self, Answer, Fault, Machine};

/// Longest response of a module that becomes an outcome, in bytes; part of the protocol, not a setting.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// How the field's libraries report that a message did not fit into memory, in `Output`.
const OUT_OF_MEMORY_END: &str = "not enough memory for buffer allocation";

/// What an outcome says whose response is not of the shape every module of the field answers in.
const BAD_RESPONSE: &str = "the module's response is not JSON of the expected shape";

/// A module's response, unread.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response<'a> {
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    assignments: Option<&'a RawValue>,
    #[serde(borrow)]
    spawns: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Evaluates one message, known by an id, and keeps its effect, unless it failed.
///
/// # Errors
/// [`runtime::Error::Unavailable`]: the state is as before, the message can be evaluated again. Any other says that
/// the host is in trouble; then the machine must be given up. Nothing may be recorded.
pub fn evaluate_known(
    machine: &mut Machine,
    id: [u8; 32],
    message: &[u8],
    env: &[u8],
) -> Result<Outcome, runtime::Error> {
    let (outcome, keeps) = judge(machine.call_known(id, message, env)?);
    if keeps {
        machine.commit()?
    } else {
        machine.roll_back()?
    }
    Ok(outcome)
}

/// The same for a message that is known by the hash of its bytes.
///
/// # Errors
/// As [`evaluate_known`].
pub fn evaluate(machine: &mut Machine, message: &[u8], env: &[u8]) -> Result<Outcome, runtime::Error> {
    evaluate_known(machine, runtime::sha256(&[message]), message, env)
}

/// The outcome of a verdict, and whether the state moves on.
pub fn judge(verdict: runtime::Verdict) -> (Outcome, bool) {
    let outcome = match verdict {
        Ok(answer) => outcome_of(&answer).unwrap_or_else(Outcome::failed),
        Err(Fault::Thrown(raw)) => thrown(raw),
        // The decoder's own words must not reach a result: they change with its version.
        Err(Fault::BadResponse(_)) => Outcome::failed(BAD_RESPONSE),
        Err(fault) => Outcome::failed(&fault.to_string()),
    };
    let keeps = !outcome.is_error() && !ran_out_of_memory(&outcome.output);
    (outcome, keeps)
}

fn thrown(raw: String) -> Outcome {
    match RawValue::from_string(raw) {
        Ok(error) => Outcome {
            error: truthy(error),
            ..Outcome::default()
        }
        .or_failed(),
        Err(_) => Outcome::failed("the module failed without saying why"),
    }
}

/// What was thrown is an error even if it is falsy.
trait OrFailed {
    fn or_failed(self) -> Self;
}

impl OrFailed for Outcome {
    fn or_failed(self) -> Outcome {
        if self.is_error() {
            self
        } else {
            Outcome::failed("the module failed without saying why")
        }
    }
}

fn outcome_of(answer: &Answer) -> Result<Outcome, &'static str> {
    if answer.response.len() > RESPONSE_BYTES_MAX {
        return Err("the module's response is too long");
    }
    let response: Response<'_> = serde_json::from_slice(&answer.response).map_err(|_| BAD_RESPONSE)?;
    let mut outcome = Outcome {
        gas_used: answer.gas_used,
        ..Outcome::default()
    };
    let parts = [
        (response.messages, &mut outcome.messages),
        (response.assignments, &mut outcome.assignments),
        (response.spawns, &mut outcome.spawns),
        (response.output, &mut outcome.output),
    ];
    for (part, place) in parts {
        if let Some(part) = part {
            *place = part.to_owned();
        }
    }
    outcome.error = response.error.map(ToOwned::to_owned).and_then(truthy);
    Ok(outcome)
}

/// An `Error` counts if the field's units, written in JavaScript, hold it for true.
fn truthy(value: Box<RawValue>) -> Option<Box<RawValue>> {
    let is_zero = || value.get().parse::<f64>().is_ok_and(|number| number == 0.0);
    let is_falsy = matches!(value.get(), "null" | "false" | "\"\"") || is_zero();
    (!is_falsy).then_some(value)
}

fn ran_out_of_memory(output: &RawValue) -> bool {
    let text = output.get().strip_suffix('"');
    output.get().starts_with('"') && text.is_some_and(|text| text.ends_with(OUT_OF_MEMORY_END))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(response: &str) -> (String, bool) {
        let response = bytes::Bytes::from(response.to_owned());
        let (outcome, keeps) = judge(Ok(Answer {
            response,
            gas_used: 3,
        }));
        (serde_json::to_string(&outcome).unwrap(), keeps)
    }

    #[test]
    fn parts_stay_as_written_and_absent_ones_get_their_empty_form() {
        let (json, keeps) = judged(r#"{"Output":{"b":1,"a":1.50},"Messages":[{"x":[]}],"Patches":[1]}"#);
        let expected =
            r#"{"Messages":[{"x":[]}],"Assignments":[],"Spawns":[],"Output":{"b":1,"a":1.50},"GasUsed":3}"#;
        assert_eq!((json.as_str(), keeps), (expected, true));
    }

    #[test]
    fn any_true_error_keeps_the_state_before() {
        for error in ["\"boom\"", "2", "true", "{}", "[]"] {
            let (json, keeps) = judged(&format!(r#"{{"Error":{error}}}"#));
            assert!(!keeps && json.contains(&format!("\"Error\":{error}")), "{json}");
        }
        for nothing in ["null", "false", "0", "-0.0", "\"\""] {
            let (json, keeps) = judged(&format!(r#"{{"Error":{nothing}}}"#));
            assert!(keeps && !json.contains("Error"), "{json}");
        }
    }

    #[test]
    fn faults_and_rubbish_become_error_outcomes() {
        for verdict in [
            Err(Fault::OutOfGas),
            Err(Fault::Thrown("\"lua\"".into())),
            Err(Fault::Thrown("null".into())),
            Err(Fault::Thrown("no json".into())),
            Ok(Answer {
                response: "[1]".into(),
                gas_used: 0,
            }),
        ] {
            let (outcome, keeps) = judge(verdict);
            assert!(outcome.is_error() && !keeps);
        }
    }

    #[test]
    fn an_output_that_says_out_of_memory_keeps_the_state_before() {
        let (json, keeps) = judged(r#"{"Output":"x: not enough memory for buffer allocation"}"#);
        assert!(!keeps && !json.contains("Error"));
        assert!(judged(r#"{"Output":"not enough memory"}"#).1);
    }
}
