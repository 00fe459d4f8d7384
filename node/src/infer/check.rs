//! `weft infer verify` and `trace`: a receipt checked token by token, and where one is wrong, operator by operator.
//!
//! Not here: how an answer is made. Invariant: what is called wrong differs from what this machine computed, and
//! whether this machine is right is asked of the definition.

use std::io::Write;

use anyhow::{Context, Result, bail};
use inference::device::Device;
use inference::generate::{self, Receipt, wrong_token};
use inference::gguf::Gguf;
use inference::trace::{FORMAT, Step, Trace};
use serde_json::{Value, json};

use super::args::{ModelArgs, TraceArgs, VerifyArgs};
use super::{bytes, computed, device, load, profile, read, threads, write};

fn receipt(path: &std::path::Path) -> Result<Receipt> {
    serde_json::from_slice(&read(path)?).with_context(|| format!("{} is no receipt", path.display()))
}

/// The tokens after which a receipt's token was chosen.
fn before(receipt: &Receipt, token: usize) -> Result<Vec<u32>> {
    match receipt.tokens.get(..token) {
        Some(tokens) if !receipt.prompt.is_empty() => Ok([&receipt.prompt[..], tokens].concat()),
        _ => bail!("the receipt has no token {token}"),
    }
}

/// The trace of some tokens on a device.
fn traced(args: &ModelArgs, device: Device, tokens: &[u32]) -> Result<Trace> {
    let blob = bytes(&args.model)?;
    let file = Gguf::parse((*blob).as_ref())?;
    Ok(device.trace(threads(args.threads), &file, profile(&args.profile)?, tokens)?)
}

/// `weft infer trace`
pub fn trace(args: &TraceArgs) -> Result<()> {
    let receipt = receipt(&args.receipt)?;
    let token = args.token.unwrap_or(0);
    let trace = traced(
        &args.model,
        device(&args.model.device)?,
        &before(&receipt, token)?,
    )?;
    let text = serde_json::to_vec_pretty(&trace)?;
    match &args.out {
        Some(path) => write(path, &text),
        None => Ok(std::io::stdout().lock().write_all(&text)?),
    }
}

/// `weft infer verify`
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let receipt = receipt(&args.receipt)?;
    let mut loaded = load(&args.model, receipt.prompt.len() + receipt.tokens.len())?;
    let checked = generate::verify(loaded.engine.as_mut(), &loaded.id, &receipt);
    let (tokens, device) = (receipt.tokens.len(), loaded.engine.device());
    drop(loaded);
    let wrong = checked.as_ref().err().and_then(wrong_token);
    let found = match wrong {
        Some(token) => Some(bisect(args, &receipt, token)?),
        None => None,
    };
    let mut out = std::io::stdout().lock();
    if args.model.json {
        let error = checked.as_ref().err().map(ToString::to_string);
        let line = json!({"ok": checked.is_ok(), "error": error, "tokens": tokens, "token": wrong});
        let mut line = computed(line, &device);
        if let Some(found) = &found {
            line["bisect"] = found.json();
        }
        writeln!(out, "{line}")?;
    } else if let Some(found) = &found {
        writeln!(out, "{}", found.text())?;
    }
    checked?;
    if !args.model.json {
        writeln!(out, "{tokens} tokens are what the model gives")?;
    }
    Ok(())
}

/// What the operators say of a wrong token.
struct Found {
    /// Where this machine's device differs from the definition: then it is this machine that is wrong.
    own: Option<Step>,
    /// Operators compared with the definition.
    compared: usize,
    /// Where the maker's trace differs from the definition, if one was given.
    makers: Option<Option<Step>>,
    /// The maker's trace, if that is of another question.
    unfit: Option<String>,
}

/// Compares, operator by operator, this device with the definition, and the maker's trace where there is one.
fn bisect(args: &VerifyArgs, receipt: &Receipt, token: usize) -> Result<Found> {
    let tokens = before(receipt, token)?;
    let truth = traced(&args.model, Device::Scalar, &tokens)?;
    let own = traced(&args.model, device(&args.model.device)?, &tokens)?;
    let mut found = Found {
        own: truth.first_difference(&own)?.cloned(),
        compared: truth.steps.len(),
        makers: None,
        unfit: None,
    };
    if let Some(path) = &args.trace {
        let makers: Trace = serde_json::from_slice(&read(path)?)
            .with_context(|| format!("{} is no trace ({FORMAT})", path.display()))?;
        match truth.first_difference(&makers) {
            Ok(step) => found.makers = Some(step.cloned()),
            Err(error) => found.unfit = Some(error.to_string()),
        }
    }
    Ok(found)
}

fn named(step: &Step) -> String {
    format!(
        "layer {}, operator {} ({})",
        step.layer, step.place, step.operator
    )
}

impl Found {
    fn json(&self) -> Value {
        json!({"operators": self.compared, "device_wrong_at": self.own, "receipt_wrong_at": self.makers.clone().flatten(),
               "trace_error": self.unfit})
    }

    fn text(&self) -> String {
        let own = match &self.own {
            None => format!(
                "this device equals the definition in all {} operators: the receipt is wrong",
                self.compared
            ),
            Some(step) => format!(
                "this device differs from the definition first in {}: do not use it",
                named(step)
            ),
        };
        let makers = match (&self.makers, &self.unfit) {
            (_, Some(why)) => format!("the maker's trace cannot be compared: {why}"),
            (Some(Some(step)), _) => {
                format!("its maker differs from the definition first in {}", named(step))
            }
            (Some(None), _) => {
                "its maker's trace is right: the token was changed after it was computed".to_owned()
            }
            (None, None) => {
                "with its maker's trace (`weft infer trace`, then `--trace FILE`) the operator is named"
                    .to_owned()
            }
        };
        format!("{own}\n{makers}")
    }
}
