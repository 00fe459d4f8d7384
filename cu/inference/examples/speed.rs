//! Tokens per second of a decoder on the processor: prefill of 128, decode of 64, verification of 256.
//!
//! `speed FILE [threads=1] [profile=a16|a8] [level=scalar|avx2|vnni|amx|neon|dotprod] [rounds=5] [what=prefill,decode,verify]` prints
//! one JSON line. With one thread the time is the thread's own, which a busy machine does not stretch; else the
//! clock's. `bench/llama.py` runs it beside llama.cpp.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use inference::backend::{Host, Level};
use inference::decoder::Decoder;
use inference::engine::{Engine, Sequence, Wanted};
use inference::generate::{Request, generate, verify};
use inference::gguf::Gguf;
use inference::sample::Settings;
use inference::{Backend, Error, Profile};

/// Tokens of a prompt.
const PROMPT: usize = 128;
/// Tokens decoded after it.
const ANSWER: usize = 64;
/// Tokens of a receipt.
const RECEIPT: usize = 256;

/// When something began, by this thread's time on the processor where that is told and wanted.
struct Spent(Instant, Option<u64>);

fn on_cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

impl Spent {
    fn start(threads: usize) -> Spent {
        Spent(Instant::now(), (threads == 1).then(on_cpu_ns).flatten())
    }

    fn seconds(&self) -> f64 {
        let cpu = self
            .1
            .and_then(|start| Some(Duration::from_nanos(on_cpu_ns()? - start)));
        cpu.unwrap_or_else(|| self.0.elapsed()).as_secs_f64()
    }
}

/// What was asked, by name.
struct Wish(BTreeMap<String, String>);

impl Wish {
    fn number(&self, name: &str, usual: usize) -> usize {
        self.0
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(usual)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_some_and(|given| given == value)
    }

    fn has(&self, part: &str) -> bool {
        self.0
            .get("what")
            .is_none_or(|what| what.split(',').any(|one| one == part))
    }
}

/// Best tokens per second of each part.
type Rates = BTreeMap<&'static str, f64>;

fn keep(rates: &mut Rates, part: &'static str, tokens: usize, seconds: f64) {
    let best = rates.entry(part).or_default();
    *best = best.max(tokens as f64 / seconds);
}

fn round(engine: &mut Engine<Host>, wish: &Wish, threads: usize, rates: &mut Rates) -> Result<(), Error> {
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| 3 + (i * 37) % 250).collect();
    let mut sequence = Sequence::default();
    let start = Spent::start(threads);
    engine.extend(&mut [(&mut sequence, &prompt)], Wanted::Last)?;
    keep(rates, "prefill", PROMPT, start.seconds());
    if wish.has("decode") {
        let start = Spent::start(threads);
        for i in 0..ANSWER as u32 {
            engine.extend(&mut [(&mut sequence, &[3 + i])], Wanted::Last)?;
        }
        keep(rates, "decode", ANSWER, start.seconds());
    }
    engine.end(sequence);
    if wish.has("verify") {
        receipt(engine, threads, rates)?;
    }
    Ok(())
}

/// An answer and the check of its receipt.
fn receipt(engine: &mut Engine<Host>, threads: usize, rates: &mut Rates) -> Result<(), Error> {
    let model = blake3::hash(b"model");
    let request = Request {
        prompt: (3..19).collect(),
        settings: Settings {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            seed: [7; 32],
        },
        tokens_max: RECEIPT,
        stops: vec![],
    };
    let start = Spent::start(threads);
    let receipt = generate(engine, &model, &request, &mut |_| ())?;
    keep(rates, "generate", RECEIPT, start.seconds());
    let start = Spent::start(threads);
    verify(engine, &model, &receipt)?;
    keep(rates, "verify", RECEIPT, start.seconds());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let file = words.next().ok_or("speed FILE [name=value ...]")?;
    let pairs = words.filter_map(|word| {
        word.split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    let wish = Wish(pairs.collect());
    let (threads, rounds) = (wish.number("threads", 1), wish.number("rounds", 5));
    let profile = if wish.is("profile", "a8") {
        Profile::A8
    } else {
        Profile::A16
    };
    let named = |level: &&Level| wish.is("level", &format!("{level:?}").to_lowercase());
    let level = Level::ALL.iter().find(named).copied().unwrap_or(Level::best());
    let bytes = std::fs::read(&file)?;
    let start = Spent::start(threads);
    let decoder = Decoder::load(Host::new(level, threads), &Gguf::parse(&bytes)?, profile, 2048)?;
    let load_s = start.seconds();
    let mut engine = Engine::new(decoder, 2048)?;
    let mut rates = Rates::new();
    for _ in 0..rounds {
        round(&mut engine, &wish, threads, &mut rates)?;
    }
    let device = engine.decoder().backend().name();
    println!(
        "{}",
        serde_json::json!({"tokens_per_s": rates, "load_s": load_s, "device": device, "profile": profile.name()})
    );
    Ok(())
}
