//! `weft infer embed`: a vector per line of standard input. Not here: decoders.

use std::io::{BufRead, Write};

use anyhow::{Result, bail};
use inference::device::Embed;
use inference::encoder::{Config, Pooling};
use inference::safetensors::Safetensors;
use inference::tokenizer::Tokenizer;
use serde_json::json;

use super::args::EmbedArgs;
use super::{device, profile, read, threads};

/// Lines evaluated together.
const LINES: usize = 32;

/// `weft infer embed`
pub fn run(args: &EmbedArgs) -> Result<()> {
    if !args.model.is_dir() {
        bail!(
            "{} is no folder; only encoders give vectors",
            args.model.display()
        );
    }
    let weights = read(&args.model.join("model.safetensors"))?;
    let config = Config::read(&read(&args.model.join("config.json"))?)?;
    let tokenizer = Tokenizer::read(&read(&args.model.join("tokenizer.json"))?)?;
    let (file, pooling) = (Safetensors::parse(&weights)?, pooling(args));
    let threads = threads(args.threads);
    let encoder = device(&args.device)?.encoder(threads, config, &file, profile(&args.profile)?, pooling)?;
    let lines: Vec<String> = std::io::stdin().lock().lines().collect::<std::io::Result<_>>()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for lines in lines.chunks(LINES) {
        for vector in vectors(encoder.as_ref(), &tokenizer, lines)? {
            match args.json {
                true => writeln!(
                    out,
                    "{}",
                    json!({"embedding": vector, "device": encoder.device()})
                )?,
                false => writeln!(out, "{}", json!(vector))?,
            }
        }
    }
    Ok(out.flush()?)
}

fn vectors(encoder: &dyn Embed, tokenizer: &Tokenizer, lines: &[String]) -> Result<Vec<Vec<f32>>> {
    let tokens = lines
        .iter()
        .map(|line| tokenizer.encode_whole(line, encoder.tokens_max().min(256)));
    let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    Ok(encoder.embed(&texts)?)
}

/// How the folder says tokens' vectors become one; the mean where it does not say.
fn pooling(args: &EmbedArgs) -> Pooling {
    let said = std::fs::read(args.model.join("1_Pooling/config.json")).unwrap_or_default();
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
    match said["pooling_mode_cls_token"].as_bool() {
        Some(true) => Pooling::First,
        _ => Pooling::Mean,
    }
}
