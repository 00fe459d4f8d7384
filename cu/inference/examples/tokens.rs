//! The tokens of texts: JSON strings in, a line each; JSON lists of tokens out. `bench/tokens.py` reads them.
//! `tokens FILE`
use std::io::{BufRead, Write};

use inference::gguf::Gguf;
use inference::vocabulary::Vocabulary;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(std::env::args().nth(1).ok_or("tokens FILE")?)?;
    let vocabulary = Vocabulary::read(&Gguf::parse(&bytes)?)?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        writeln!(
            out,
            "{}",
            serde_json::to_string(&vocabulary.encode_within(&text, true)?)?
        )?;
    }
    Ok(())
}
