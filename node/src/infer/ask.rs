//! `weft infer generate` and `logits`: a decoder asked once. Not here: many askers at a time, checks.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use inference::Profile;
use inference::engine::{Sequence, Wanted};
use inference::generate::{self, Receipt, Request, TOKENS_MAX, logits_hash};
use inference::rope::POSITIONS_MAX;
use inference::sample::Settings;
use serde_json::json;

use super::args::{GenerateArgs, LogitsArgs};
use super::{Loaded, computed, load, write};

/// `weft infer generate`
pub fn generate(args: &GenerateArgs) -> Result<()> {
    // No text has more tokens than bytes, but for what stands before it.
    let prompt = args
        .prompt
        .as_ref()
        .map_or(args.tokens.len(), |text| text.len() + 8);
    let positions = prompt.saturating_add(args.max_tokens).min(POSITIONS_MAX);
    let mut loaded = load(&args.model, Profile::A16, positions)?;
    let request = request(args, &loaded)?;
    request.settings.check()?;
    fits(&request, loaded.engine.free().min(loaded.context))?;
    if let Some(path) = &args.receipt {
        writable(path)?;
    }
    let receipt = generate::generate(loaded.engine.as_mut(), &loaded.id, &request, &mut |_| ())?;
    told(args, &loaded, &receipt)?;
    match &args.receipt {
        Some(path) => write(path, &serde_json::to_vec_pretty(&receipt)?),
        None => Ok(()),
    }
}

/// Refuses a place for the receipt that has none, before the answer is computed.
fn writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let exists = folder.is_none_or(Path::is_dir);
    ensure!(
        exists && !path.is_dir(),
        "cannot write {}: it is a folder, or in none",
        path.display()
    );
    Ok(())
}

/// Refuses at once what would be refused in the middle of the answer.
fn fits(request: &Request, positions: usize) -> Result<()> {
    let wanted = request.prompt.len().saturating_add(request.tokens_max);
    ensure!(
        wanted <= positions || !(1..=TOKENS_MAX).contains(&request.tokens_max),
        "a prompt of {} tokens and an answer of {} do not fit: the model has {positions} positions; lower --max-tokens",
        request.prompt.len(),
        request.tokens_max
    );
    Ok(())
}

/// Prints an answer.
fn told(args: &GenerateArgs, loaded: &Loaded, receipt: &Receipt) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = loaded
        .vocabulary
        .as_ref()
        .ok()
        .map(|v| v.decode(&receipt.tokens))
        .transpose()?;
    let device = loaded.engine.device();
    match args.model.json {
        true => {
            let answer = json!({"text": text, "tokens": receipt.tokens, "finish": receipt.finish, "gas": receipt.gas,
                                "receipt": receipt});
            writeln!(out, "{}", computed(answer, &device))?;
        }
        false => match text {
            Some(text) => writeln!(out, "{text}")?,
            None => writeln!(out, "{:?}", receipt.tokens)?,
        },
    }
    Ok(())
}

fn request(args: &GenerateArgs, loaded: &Loaded) -> Result<Request> {
    let prompt = match (&args.prompt, &loaded.vocabulary) {
        (None, _) => args.tokens.clone(),
        (Some(text), Ok(vocabulary)) => vocabulary
            .encode(text)
            .context("the prompt has no tokens; give it by --tokens")?,
        (Some(_), Err(why)) => bail!("the model takes no texts, give the prompt by --tokens: {why}"),
    };
    // The draws' key: a hash, so that near seeds give draws that have nothing in common.
    let seed = *blake3::hash(&args.seed.to_le_bytes()).as_bytes();
    Ok(Request {
        prompt,
        settings: Settings {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            seed,
        },
        tokens_max: args.max_tokens,
        stops: loaded.vocabulary.as_ref().map_or(vec![], |v| v.stops().to_vec()),
    })
}

/// `weft infer logits`
pub fn logits(args: &LogitsArgs) -> Result<()> {
    let mut loaded = load(&args.model, Profile::A16, args.tokens.len())?;
    let logits = loaded
        .engine
        .extend(&mut Sequence::default(), &args.tokens, Wanted::Last)?;
    let logits: &[f32] = logits.last().context("no tokens")?;
    let (hash, device) = (logits_hash(logits).to_string(), loaded.engine.device());
    let mut out = std::io::stdout().lock();
    match args.model.json {
        true => {
            let answer = json!({"hash": hash, "logits": logits});
            writeln!(out, "{}", computed(answer, &device))?;
        }
        false => writeln!(out, "{hash}\n{logits:?}")?,
    }
    Ok(())
}
