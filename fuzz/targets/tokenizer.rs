//! Any text as a `tokenizer.json`, and what follows its first NUL as a text to cut: tokens or a refusal.
#![no_main]

mod quiet;

use inference::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

/// Tokens asked for.
const MOST: usize = 16;

fuzz_target!(|input: &str| {
    quiet::quiet();
    let (file, text) = input.split_once('\0').unwrap_or((input, "Ab [CLS] b\u{e9}"));
    let Ok(tokenizer) = Tokenizer::read(file.as_bytes()) else {
        return;
    };
    let Ok(tokens) = tokenizer.encode(text) else {
        return;
    };
    let _ = tokenizer.decode(&tokens);
    assert_eq!(
        tokenizer.encode(text).as_ref().ok(),
        Some(&tokens),
        "a text has one list of tokens"
    );
    let whole = tokenizer.encode_whole(text, MOST).expect("it was cut before");
    // The tokens around a text are the file's and stay, however many.
    if let Ok(around) = tokenizer.encode_whole("", 0) {
        assert!(whole.len() <= MOST.max(around.len()));
    }
});
