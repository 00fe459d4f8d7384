//! The logits after prompts: JSON lists of tokens in, a line each; JSON lists of logits out. `bench/error.py` reads them.
//! `logits FILE [profile=a16|a8]`
use std::io::{BufRead, Write};

use inference::Profile;
use inference::backend::{Host, Level};
use inference::decoder::Decoder;
use inference::engine::{Engine, Sequence, Wanted};
use inference::gguf::Gguf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let bytes = std::fs::read(args.get(1).ok_or("logits FILE [profile=a16|a8]")?)?;
    let profile = match args.get(2).map(String::as_str) {
        Some("profile=a8") => Profile::A8,
        _ => Profile::A16,
    };
    let decoder = Decoder::load(Host::new(Level::best(), 2), &Gguf::parse(&bytes)?, profile, 2048)?;
    let mut engine = Engine::new(decoder, 2048)?;
    for line in std::io::stdin().lock().lines() {
        let prompt: Vec<u32> = serde_json::from_str(&line?)?;
        let mut sequence = Sequence::default();
        let logits = engine.extend(&mut [(&mut sequence, &prompt)], Wanted::Last)?;
        engine.end(sequence);
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&*logits[0][0])?)?;
    }
    Ok(())
}
