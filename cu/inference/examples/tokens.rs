//! The tokens of texts: JSON strings in, a line each; JSON lists of tokens out. `bench/tokens.py` reads them.
//! `tokens FILE`, a GGUF file or a `tokenizer.json`.
use std::io::{BufRead, Write};

use inference::Error;
use inference::gguf::Gguf;
use inference::tokenizer::Tokenizer;
use inference::vocabulary::Vocabulary;

type Encode = Box<dyn Fn(&str) -> Result<Vec<u32>, Error>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(std::env::args().nth(1).ok_or("tokens FILE")?)?;
    let encode: Encode = if bytes.starts_with(b"GGUF") {
        let vocabulary = Vocabulary::read(&Gguf::parse(&bytes)?)?;
        Box::new(move |text| vocabulary.encode_within(text, true))
    } else {
        let tokenizer = Tokenizer::read(&bytes)?;
        Box::new(move |text| tokenizer.encode_whole(text, usize::MAX))
    };
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        writeln!(out, "{}", serde_json::to_string(&encode(&text)?)?)?;
    }
    Ok(())
}
