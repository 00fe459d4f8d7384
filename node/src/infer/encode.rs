//! `weft infer embed`: a vector per line of standard input. Not here: answers.

use std::io::{BufRead, Write};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use inference::service::{Blob, Config, Embed, ModelRef, Models, Refusal, Service};
use serde_json::json;

use super::args::EmbedArgs;
use super::{computed, device, profile, shelf, threads};

/// Lines evaluated together.
const LINES: usize = 256;

/// The one model there is.
struct One(Blob);

impl Models for One {
    fn bytes(&self, _: &str) -> Result<Blob, Refusal> {
        Ok(Arc::clone(&self.0))
    }
}

/// `weft infer embed`
pub fn run(args: &EmbedArgs) -> Result<()> {
    let config = Config {
        device: device(&args.device)?,
        threads: threads(args.threads)?,
        memory_bytes_max: u64::MAX,
        ..Config::default()
    };
    let service = Service::open(config, Arc::new(One(shelf::open(&args.model)?)));
    let model = ModelRef {
        id: "model".to_owned(),
        profile: profile(&args.profile)?,
    };
    // A model that cannot be used is told before anything is read.
    service.facts(&model)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut lines, mut input, mut before) = (vec![], std::io::stdin().lock().lines(), 0);
    loop {
        let line = input.next().transpose();
        let line = line.with_context(|| format!("line {} of the input", before + lines.len() + 1))?;
        let over = line.is_none();
        lines.extend(line);
        if lines.len() == LINES || over && !lines.is_empty() {
            let (first, last) = (before + 1, before + lines.len());
            let vectors = vectors(&service, &model, std::mem::take(&mut lines));
            for vector in vectors.with_context(|| format!("in lines {first} to {last} of the input"))? {
                told(args, &service, &vector, &mut out)?;
            }
            before = last;
        }
        if over {
            return Ok(out.flush()?);
        }
    }
}

fn told(args: &EmbedArgs, service: &Service, vector: &[f32], out: &mut impl Write) -> Result<()> {
    let device = service.loaded().into_iter().next();
    let device = device.map_or(String::new(), |standing| standing.device);
    match args.json {
        true => writeln!(out, "{}", computed(json!({"embedding": vector}), &device))?,
        false => writeln!(out, "{}", json!(vector))?,
    }
    Ok(())
}

fn vectors(service: &Service, model: &ModelRef, texts: Vec<String>) -> Result<Vec<Vec<f32>>> {
    let count = texts.len();
    let embedded = service.embed(&Embed {
        model: model.clone(),
        texts,
        gas_max: None,
        asker: String::new(),
    })?;
    ensure!(embedded.vectors.len() == count, "a vector per line");
    Ok(embedded.vectors)
}
