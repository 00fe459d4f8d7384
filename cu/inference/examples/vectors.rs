//! Vectors of sentences, and how many a second: a sentence a line in; `{"tokens","vector"}` a line out, then the rate.
//! `vectors FOLDER [profile=a16|a8] [threads=1] [batch=32]`; `bench/minilm.py` runs it beside ONNX Runtime.
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use inference::backend::{Host, Level};
use inference::encoder::{Config, Encoder, Pooling};
use inference::safetensors::Safetensors;
use inference::tokenizer::Tokenizer;
use inference::{Backend, Profile};

/// Tokens of a sentence at most.
const TOKENS_MAX: usize = 256;

/// Time of this thread on the processor.
fn on_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let folder = Path::new(args.get(1).ok_or("vectors FOLDER [name=value ...]")?);
    let given = |name: &str| {
        args.iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name: &str, usual: usize| given(name).and_then(|n| n.parse().ok()).unwrap_or(usual);
    let (threads, batch) = (number("threads", 1), number("batch", 32));
    let profile = if given("profile") == Some("a8") {
        Profile::A8
    } else {
        Profile::A16
    };
    let tokenizer = Tokenizer::read(&std::fs::read(folder.join("tokenizer.json"))?)?;
    let config = Config::read(&std::fs::read(folder.join("config.json"))?)?;
    let weights = std::fs::read(folder.join("model.safetensors"))?;
    let host = Host::new(Level::best(), threads);
    let device = host.name();
    let file = Safetensors::parse(&weights)?;
    let encoder = Encoder::load(host, config, &file, profile, Pooling::Mean)?;
    let lines: Vec<String> = std::io::stdin().lock().lines().collect::<Result<_, _>>()?;
    let tokens: Vec<Vec<u32>> = lines
        .iter()
        .map(|line| tokenizer.encode_whole(line, TOKENS_MAX))
        .collect::<Result<_, _>>()?;
    let texts: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    encoder.embed(&texts[..texts.len().min(batch)])?;
    let (cpu, wall) = (on_cpu(), Instant::now());
    let mut vectors = vec![];
    for texts in texts.chunks(batch) {
        vectors.extend(encoder.embed(texts)?);
    }
    let spent = match (threads, cpu, on_cpu()) {
        (1, Some(start), Some(end)) => end - start,
        _ => wall.elapsed(),
    };
    let mut out = std::io::stdout().lock();
    for (tokens, vector) in tokens.iter().zip(&vectors) {
        writeln!(out, "{}", serde_json::json!({"tokens": tokens, "vector": vector}))?;
    }
    let rate = vectors.len() as f64 / spent.as_secs_f64();
    writeln!(
        out,
        "{}",
        serde_json::json!({"vectors_per_s": rate, "device": device})
    )?;
    Ok(())
}
