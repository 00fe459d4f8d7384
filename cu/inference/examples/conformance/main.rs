//! The long conformance run: every operator in many shapes and whole models in many batches against the definition,
//! on the processor's vector units and on a Vulkan device, with the free-order control; then how fast both are.
//!
//! `cargo run --release -p inference --example conformance -- [--values N] [--rounds N] [--device N|none]
//! [--processor yes|no] [--results FILE]` prints what it found and appends it to the file, which is
//! `cu/inference/RESULTS.md` for runs that count. Values are compared per processor level and per device; a round is
//! all model families once. On lavapipe, `LP_NATIVE_VECTOR_WIDTH=128`, `256` and `512` give subgroups of 4, 8 and 16.
//! It fails if one bit differs.

mod models;
#[path = "../../tests/support/mod.rs"]
mod support;
#[cfg(feature = "vulkan")]
mod vulkan;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use inference::backend::conformance::{self, Tally};
use inference::backend::{Backend, Host, Level};
use inference::decoder::Decoder;
use inference::engine::{Engine, Sequence, Wanted};
use inference::gguf::Gguf;
use inference::{Error, NUMERICS, Profile};

/// What was asked.
pub struct Asked {
    values: u64,
    rounds: u64,
    device: Option<usize>,
    processor: bool,
    results: Option<String>,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        values: 20_000_000,
        rounds: 1,
        device: Some(0),
        processor: true,
        results: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{word} {value}: {e}"));
        match word.as_str() {
            "--values" => asked.values = number()?,
            "--rounds" => asked.rounds = number()?,
            "--device" if value == "none" => asked.device = None,
            "--device" => asked.device = Some(number()? as usize),
            "--processor" => asked.processor = value == "yes",
            "--results" => asked.results = Some(value),
            _ => {
                return Err(format!(
                    "{word}: --values, --rounds, --device, --processor or --results"
                ));
            }
        }
    }
    Ok(asked)
}

/// The result of a run as text.
fn report(text: &mut String, name: &str, tally: &Tally, facts: &[String]) {
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all");
    let differ: u64 = tally.wrong().iter().map(|(_, n)| n).sum();
    line(format!("\n## {name}\n"));
    line(format!(
        "**{} values compared, {differ} differ** (numerics `{NUMERICS}`).",
        tally.compared()
    ));
    facts.iter().for_each(|fact| line(fact.clone()));
    line("\n| compared | values | differ |\n|---|---|---|".to_owned());
    for (name, [compared, differing]) in &tally.operators {
        line(format!("| {name} | {compared} | {differing} |"));
    }
}

/// Tokens per second of a random Llama of 100 million weights: a prompt of 128, then 32 tokens alone, then 8 by 64.
fn speed<B: Backend>(backend: B) -> Result<String, Error> {
    let file = support::forge::model(&support::forge::Shape::hundred(), "Q8_0", 1);
    let decoder = Decoder::load(backend, &Gguf::parse(&file)?, Profile::A16, 512)?;
    let mut engine = Engine::new(decoder, 64 * 64)?;
    let prompt: Vec<u32> = (0..128).map(|i| 3 + i * 37 % 250).collect();
    let mut best = [0.0_f64; 3];
    for _ in 0..3 {
        let mut one = Sequence::default();
        let start = Instant::now();
        engine.extend(&mut [(&mut one, &prompt)], Wanted::Last)?;
        best[0] = best[0].max(128.0 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        for token in 3..35 {
            engine.extend(&mut [(&mut one, &[token])], Wanted::Last)?;
        }
        best[1] = best[1].max(32.0 / start.elapsed().as_secs_f64());
        engine.end(one);
        let mut many: Vec<Sequence> = (0..64).map(|_| Sequence::default()).collect();
        let start = Instant::now();
        for token in 3..11 {
            let new = [token];
            let mut all: Vec<_> = many.iter_mut().map(|s| (s, &new[..])).collect();
            engine.extend(&mut all, Wanted::Last)?;
        }
        best[2] = best[2].max(512.0 / start.elapsed().as_secs_f64());
        many.into_iter().for_each(|sequence| engine.end(sequence));
    }
    let [prefill, decode, batch] = best;
    Ok(format!(
        "Random Llama of 100 M weights, Q8_0, A16: prefill {prefill:.0} tokens/s, decode {decode:.1}, decode in a batch of 64 \
         {batch:.0}."
    ))
}

/// Every level of vector units, with one thread and with three, and the definition on two threads.
fn processor(asked: &Asked, text: &mut String) -> Result<Tally, Error> {
    let mut all = Tally::default();
    let levels = Level::ALL.iter().copied().filter(|level| *level <= Level::best());
    for level in levels {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let threads: &[usize] = if level == Level::Scalar { &[2] } else { &[1, 3] };
        for (at, threads) in threads.iter().enumerate() {
            let host = Host::new(level, *threads);
            let seed = 7000 + 10 * level as u64 + at as u64;
            let values = if level == Level::Scalar {
                asked.values / 16
            } else {
                asked.values
            };
            tally.join(conformance::compare(
                &host,
                &Host::scalar(),
                seed,
                values / threads_of(level),
            )?);
            for round in 0..asked.rounds {
                tally.join(models::compare(
                    || Ok(host.clone()),
                    Host::scalar,
                    seed + 100 * round,
                )?);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let mut facts = vec![format!("With {threads:?} threads, in {seconds:.0} s.")];
        if level == Level::best() {
            facts.push(speed(Host::new(level, 1))? + " One thread.");
        }
        report(text, &format!("Processor, {level:?}"), &tally, &facts);
        eprintln!(
            "{level:?}: {} values, wrong: {:?}",
            tally.compared(),
            tally.wrong()
        );
        all.join(tally);
    }
    Ok(all)
}

/// Hosts that share a level's values.
fn threads_of(level: Level) -> u64 {
    if level == Level::Scalar { 1 } else { 2 }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asked = asked()?;
    let (mut text, mut all) = (String::new(), Tally::default());
    if asked.processor {
        all.join(processor(&asked, &mut text)?);
    }
    #[cfg(feature = "vulkan")]
    if let Some(device) = asked.device {
        all.join(vulkan::run(&asked, device, &mut text)?);
    }
    print!("{text}");
    if let Some(path) = asked.results {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(text.as_bytes())?;
    }
    match all.wrong().is_empty() {
        true => Ok(()),
        false => Err(format!("not DIN-1: {:?}", all.wrong()).into()),
    }
}
