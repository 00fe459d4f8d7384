//! `weft infer verify` and `trace`: a receipt checked token by token, and where one is wrong, operator by operator.
//!
//! Not here: how an answer is made. Invariant: what is called wrong differs from what this machine computed, and
//! whether this machine is right is asked of the definition.

use std::io::Write;

use anyhow::{Context, Result, anyhow, bail, ensure};
use inference::device::Device;
use inference::generate::{self, Receipt, wrong_token};
use inference::gguf::Gguf;
use inference::trace::{FORMAT, Step, Trace};
use inference::{Error, Profile};
use serde_json::{Value, json};

use super::args::{ModelArgs, TraceArgs, VerifyArgs};
use super::{asked_profile, computed, decoder_bytes, device, load, of_file, read, threads, write};

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

/// The profile that a receipt names; one that is not known here is refused when the receipt is checked.
fn own_profile(receipt: &Receipt) -> Profile {
    Profile::named(&receipt.profile).unwrap_or(Profile::A16)
}

/// Tells which of two models was meant.
fn same_model(args: &ModelArgs, receipt: &Receipt, id: &blake3::Hash) -> Result<()> {
    ensure!(
        receipt.model == id.to_string(),
        "receipt, model: is another model: the receipt's is {}, {} is {id}; give that file by --model",
        receipt.model,
        args.model.display()
    );
    Ok(())
}

/// The trace of some tokens of a receipt on a device.
fn traced(args: &ModelArgs, device: Device, receipt: &Receipt, tokens: &[u32]) -> Result<Trace> {
    let blob = decoder_bytes(&args.model)?;
    let file = Gguf::parse((*blob).as_ref()).map_err(|error| of_file(&args.model, error))?;
    let profile = asked_profile(args, own_profile(receipt))?;
    Ok(device.trace(threads(args.threads)?, &file, profile, tokens)?)
}

/// `weft infer trace`
pub fn trace(args: &TraceArgs) -> Result<()> {
    let receipt = receipt(&args.receipt)?;
    let tokens = before(&receipt, args.token.unwrap_or(0))?;
    let blob = decoder_bytes(&args.model.model)?;
    same_model(&args.model, &receipt, &blake3::hash((*blob).as_ref()))?;
    let device = device(&args.model.device)?;
    let trace = traced(&args.model, device, &receipt, &tokens)?;
    let text = match args.model.json {
        true => {
            let name = device.prove(threads(args.model.threads)?)?;
            computed(json!({"trace": trace}), &name).to_string()
        }
        false => serde_json::to_string_pretty(&trace)?,
    };
    match &args.out {
        Some(path) => write(path, text.as_bytes()),
        None => Ok(writeln!(std::io::stdout().lock(), "{text}")?),
    }
}

/// A maker's trace, as `weft infer trace` wrote it.
fn makers(path: &std::path::Path) -> Result<Trace> {
    let mut value: Value = serde_json::from_slice(&read(path)?)
        .with_context(|| format!("{} is no trace ({FORMAT})", path.display()))?;
    if value["trace"].is_object() {
        value = value["trace"].take();
    }
    serde_json::from_value(value).with_context(|| format!("{} is no trace ({FORMAT})", path.display()))
}

/// `weft infer verify`
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let receipt = receipt(&args.receipt)?;
    let makers = args.trace.as_deref().map(makers).transpose()?;
    let positions = receipt.prompt.len() + receipt.tokens.len();
    let mut loaded = load(&args.model, own_profile(&receipt), positions)?;
    let checked = same_model(&args.model, &receipt, &loaded.id)
        .and_then(|()| Ok(generate::verify(loaded.engine.as_mut(), &loaded.id, &receipt)?));
    let (tokens, device) = (receipt.tokens.len(), loaded.engine.device());
    drop(loaded);
    let error = checked
        .as_ref()
        .err()
        .and_then(|error| error.downcast_ref::<Error>());
    let wrong = error.and_then(wrong_token);
    let found = match wrong {
        Some(token) => Some(bisect(args, &receipt, token, &device, makers.as_ref())?),
        None => None,
    };
    let checked = checked.map_err(|error| anyhow!("{error:#}{}", remedy(&error)));
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

/// What to make of a receipt that is refused at that place.
fn remedy(error: &anyhow::Error) -> &'static str {
    let Some(Error::Format { what, .. }) = error.downcast_ref::<Error>() else {
        return "";
    };
    match what.as_str() {
        "receipt, format" => ": this program reads weft-receipt-1",
        "receipt, profile" => ": leave --profile out to check it in its own",
        "receipt, head" => {
            ": the prompt, seed, settings, stops or limit in it are not those it was made with"
        }
        "receipt, finish" | "receipt, gas" | "receipt, chain" | "receipt, tokens" => {
            ": it was changed after it was made"
        }
        _ => "",
    }
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

/// The device that computed, where it was chosen for us.
fn chosen(args: &ModelArgs, name: &str) -> Result<Device> {
    let asked = device(&args.device)?;
    let all = match asked {
        Device::Auto => Device::all(1),
        _ => vec![],
    };
    let mut vulkan = all.into_iter().filter(|found| !found.processor);
    let found = vulkan.find(|found| name.ends_with(&format!("{} / {}", found.name, found.driver)));
    Ok(found.map_or(asked, |found| found.device))
}

/// Compares, operator by operator, this device with the definition, and the maker's trace where there is one.
fn bisect(
    args: &VerifyArgs,
    receipt: &Receipt,
    token: usize,
    name: &str,
    makers: Option<&Trace>,
) -> Result<Found> {
    let tokens = before(receipt, token)?;
    let truth = traced(&args.model, Device::Scalar, receipt, &tokens)?;
    let own = traced(&args.model, chosen(&args.model, name)?, receipt, &tokens)?;
    let mut found = Found {
        own: truth.first_difference(&own)?.cloned(),
        compared: truth.steps.len(),
        makers: None,
        unfit: None,
    };
    if let Some(makers) = makers {
        match truth.first_difference(makers) {
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
