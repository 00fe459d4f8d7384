//! `weft infer bench`: how fast a decoder reads and writes. Not here: comparisons.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, ensure};
use inference::Profile;
use inference::engine::{Sequence, Wanted};
use inference::rope::POSITIONS_MAX;
use serde_json::json;

use super::args::BenchInferArgs;
use super::{Loaded, computed, load, threads};

/// `weft infer bench`
pub fn run(args: &BenchInferArgs) -> Result<()> {
    ensure!(
        args.prompt_tokens > 0 && args.answer_tokens > 0 && args.rounds > 0,
        "--prompt-tokens, --answer-tokens and --rounds are at least 1"
    );
    let positions = args.prompt_tokens.saturating_add(args.answer_tokens);
    ensure!(
        positions <= POSITIONS_MAX,
        "prompt and answer of {positions} tokens: to {POSITIONS_MAX} together"
    );
    let start = Instant::now();
    let mut loaded = load(&args.model, Profile::A16, positions)?;
    let load_ms = start.elapsed().as_millis() as u64;
    let (mut prefill, mut decode) = (0.0_f64, 0.0_f64);
    for _ in 0..args.rounds {
        let [read, write] = round(args, &mut loaded)?;
        (prefill, decode) = (prefill.max(read), decode.max(write));
    }
    let device = loaded.engine.device();
    let mut out = std::io::stdout().lock();
    match args.model.json {
        true => {
            let answer = json!({"prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode, "load_ms": load_ms,
                                "prompt_tokens": args.prompt_tokens, "answer_tokens": args.answer_tokens,
                                "threads": threads(args.model.threads)?, "profile": loaded.engine.profile().name()});
            writeln!(out, "{}", computed(answer, &device))?;
        }
        false => writeln!(
            out,
            "{device}: reads {prefill:.1} tokens/s, writes {decode:.1} tokens/s, loads in {load_ms} ms"
        )?,
    }
    Ok(())
}

/// Tokens per second of one prompt and one answer.
fn round(args: &BenchInferArgs, loaded: &mut Loaded) -> Result<[f64; 2]> {
    let vocabulary = loaded.engine.vocabulary() as u32;
    let token = |i: usize| (3 + 37 * i as u32) % vocabulary;
    let prompt: Vec<u32> = (0..args.prompt_tokens).map(token).collect();
    let mut sequence = Sequence::default();
    let start = Instant::now();
    loaded.engine.extend(&mut sequence, &prompt, Wanted::Last)?;
    let read = prompt.len() as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    for i in 0..args.answer_tokens {
        loaded.engine.extend(&mut sequence, &[token(i)], Wanted::Last)?;
    }
    let write = args.answer_tokens as f64 / start.elapsed().as_secs_f64();
    loaded.engine.end(sequence);
    Ok([read, write])
}
