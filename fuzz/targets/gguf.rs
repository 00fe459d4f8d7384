//! Any bytes as a GGUF file: no panic, nothing larger than the file says, and a model that loads answers on the grid.
#![no_main]

mod quiet;

use inference::Profile;
use inference::backend::Host;
use inference::decoder::Decoder;
use inference::engine::{Engine, Sequence, Wanted};
use inference::gguf::Gguf;
use inference::math::canon;
use inference::vocabulary::Vocabulary;
use libfuzzer_sys::fuzz_target;

/// Positions of a model that loads.
const POSITIONS: usize = 32;

fn cut(vocabulary: &Vocabulary) {
    for text in ["", " a 1!\u{e9}\n", "<s>"] {
        let Ok(tokens) = vocabulary.encode(text) else {
            continue;
        };
        assert!(tokens.iter().all(|token| (*token as usize) < vocabulary.len()));
        vocabulary.decode(&tokens).expect("tokens of its own have a text");
    }
}

fn answer(file: &Gguf<'_>) -> Option<()> {
    let decoder = Decoder::load(Host::scalar(), file, Profile::A16, POSITIONS).ok()?;
    let mut engine = Engine::new(decoder, POSITIONS).ok()?;
    let logits = engine
        .extend(&mut [(&mut Sequence::default(), &[0])], Wanted::Last)
        .ok()?;
    assert!(logits[0][0].iter().all(|v| v.to_bits() == canon(*v).to_bits()));
    Some(())
}

fuzz_target!(|input: &[u8]| {
    quiet::quiet();
    let Ok(file) = Gguf::parse(input) else { return };
    for (name, _) in file.tensors() {
        assert!(file.range(name).is_some_and(|range| range.end <= input.len()));
    }
    if let Ok(vocabulary) = Vocabulary::read(&file) {
        assert!(vocabulary.len() <= input.len());
        cut(&vocabulary);
    }
    let _ = inference::bert::package(&file);
    let _ = answer(&file);
});
