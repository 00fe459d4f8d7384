//! Receipts: an honest one passes, every changed bit of one is caught and its place named.
//! `WEFT_FORGERIES` sets how many forgeries are tried (default 300).
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::Profile;
use inference::backend::{Host, Level};
use inference::decoder::Decoder;
use inference::engine::{Engine, Sequence, Wanted};
use inference::generate::{Decode, Finish, Receipt, Request, generate, verify};
use inference::gguf::Gguf;
use inference::sample::Settings;
use support::Random;
use support::forge::{self, Shape};

fn engine(host: Host, file: &[u8]) -> Engine<Host> {
    let file = Gguf::parse(file).unwrap();
    Engine::new(Decoder::load(host, &file, Profile::A16, 256).unwrap(), 256).unwrap()
}

fn request(temperature: f32, stops: Vec<u32>) -> Request {
    let settings = Settings {
        temperature,
        top_k: 40,
        top_p: 0.95,
        seed: [0xa9; 32],
    };
    Request {
        prompt: vec![1, 70, 80, 90],
        settings,
        tokens_max: 24,
        stops,
    }
}

fn ask(engine: &mut Engine<Host>, request: &Request) -> Receipt {
    generate(engine, &blake3::hash(b"model"), request, &mut |_| ()).unwrap()
}

#[test]
fn an_honest_receipt_passes_on_another_level() {
    let file = forge::llama(&Shape::tiny(), "Q8_0");
    let mut best = engine(Host::new(Level::best(), 2), &file);
    let mut scalar = engine(Host::scalar(), &file);
    for temperature in [0.0, 0.9] {
        let receipt = ask(&mut best, &request(temperature, vec![]));
        assert_eq!(receipt.tokens.len(), 24);
        verify(&mut scalar, &blake3::hash(b"model"), &receipt).unwrap();
        assert_eq!(receipt, ask(&mut scalar, &request(temperature, vec![])));
    }
    assert_eq!(best.free(), 256);
}

#[test]
fn a_stop_ends_an_answer() {
    let mut engine = engine(Host::new(Level::best(), 1), &forge::llama(&Shape::tiny(), "Q8_0"));
    let whole = ask(&mut engine, &request(0.9, vec![]));
    let first = whole
        .tokens
        .iter()
        .position(|token| *token == whole.tokens[7])
        .unwrap();
    let receipt = ask(&mut engine, &request(0.9, vec![whole.tokens[7]]));
    assert_eq!(
        (receipt.finish, &receipt.tokens[..]),
        (Finish::Stop, &whole.tokens[..=first])
    );
    verify(&mut engine, &blake3::hash(b"model"), &receipt).unwrap();
}

/// Writes head and links anew for what a receipt says now, as a forger would who has the model.
fn relink(engine: &mut Engine<Host>, receipt: &mut Receipt) {
    let hash = |parts: &[&[u8]]| {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    };
    let mut asked = vec![];
    for text in [&receipt.format, &receipt.profile, &receipt.model, &receipt.seed] {
        asked.extend((text.len() as u64).to_le_bytes());
        asked.extend(text.bytes());
    }
    for list in [&receipt.prompt, &receipt.stops] {
        asked.extend((list.len() as u64).to_le_bytes());
        asked.extend(list.iter().flat_map(|token| token.to_le_bytes()));
    }
    let bits = [receipt.temperature_bits, receipt.top_k, receipt.top_p_bits];
    asked.extend(bits.iter().flat_map(|bits| bits.to_le_bytes()));
    asked.extend((receipt.tokens_max as u64).to_le_bytes());
    let mut before = hash(&[&asked]);
    receipt.head = before.to_string();
    let (mut sequence, fed) = (
        Sequence::default(),
        [&receipt.prompt[..], &receipt.tokens].concat(),
    );
    let logits = Decode::extend(engine, &mut sequence, &fed, Wanted::All).unwrap();
    engine.end(sequence);
    let logits = &logits[receipt.prompt.len() - 1..];
    receipt.chain = receipt
        .tokens
        .iter()
        .zip(logits)
        .map(|(token, logits)| {
            let bits: Vec<u8> = logits.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect();
            before = hash(&[before.as_bytes(), &token.to_le_bytes(), hash(&[&bits]).as_bytes()]);
            before.to_string()
        })
        .collect();
}

#[test]
fn an_answer_longer_than_asked_is_caught_though_its_hashes_are_right() {
    let mut engine = engine(Host::new(Level::best(), 1), &forge::llama(&Shape::tiny(), "Q8_0"));
    let whole = ask(&mut engine, &request(0.9, vec![]));
    let honest = ask(&mut engine, &request(0.9, vec![whole.tokens[7]]));
    let mut same = honest.clone();
    relink(&mut engine, &mut same);
    assert_eq!(same, honest, "the forger's hashes are right");
    let most = honest.tokens.len() - 1;
    for (tokens_max, place) in [(most, "tokens"), (0, "tokens_max"), (65_537, "tokens_max")] {
        let mut forged = honest.clone();
        forged.tokens_max = tokens_max;
        relink(&mut engine, &mut forged);
        let error = verify(&mut engine, &blake3::hash(b"model"), &forged).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("receipt, {place}:")),
            "{error}"
        );
    }
    let mut forged = honest.clone();
    forged.seed = forged.seed.to_uppercase();
    relink(&mut engine, &mut forged);
    let error = verify(&mut engine, &blake3::hash(b"model"), &forged).unwrap_err();
    assert!(error.to_string().starts_with("receipt, seed:"), "{error}");
}

/// Changes one bit of one field; gives the place that a check must name.
fn forge_bit(receipt: &mut Receipt, random: &mut Random) -> String {
    let hex = |text: &mut String, random: &mut Random| {
        let at = random.below(text.len());
        let digit = u32::from_str_radix(&text[at..=at], 16).unwrap() ^ (1 << random.below(4));
        text.replace_range(at..=at, &format!("{digit:x}"));
    };
    let (token, bit) = (random.below(receipt.tokens.len()), random.below(32));
    let ascii = |text: &mut String, random: &mut Random| {
        let mut bytes = std::mem::take(text).into_bytes();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(7);
        *text = String::from_utf8(bytes).unwrap();
    };
    match random.below(15) {
        9 => receipt.top_p_bits ^= 1 << bit,
        10 => receipt.tokens_max ^= 1 << bit,
        11 => receipt.stops[0] ^= 1 << bit,
        12 => {
            receipt.finish = Finish::Stop;
            return "receipt, finish".to_owned();
        }
        13 => {
            ascii(&mut receipt.format, random);
            return "receipt, format".to_owned();
        }
        14 => {
            ascii(&mut receipt.profile, random);
            return "receipt, profile".to_owned();
        }
        0 => receipt.prompt[random.below(4)] ^= 1 << bit,
        1 => receipt.temperature_bits ^= 1 << bit,
        2 => receipt.top_k ^= 1 << bit,
        3 => hex(&mut receipt.seed, random),
        4 => hex(&mut receipt.head, random),
        5 => {
            hex(&mut receipt.model, random);
            return "receipt, model".to_owned();
        }
        6 => {
            receipt.gas ^= 1 << bit;
            return "receipt, gas".to_owned();
        }
        7 => {
            receipt.tokens[token] ^= 1 << bit;
            return format!("receipt, token {token}:");
        }
        _ => {
            hex(&mut receipt.chain[token], random);
            return format!("receipt, token {token}:");
        }
    }
    "receipt, head".to_owned()
}

#[test]
fn every_changed_bit_is_caught_and_located() {
    let tries = std::env::var("WEFT_FORGERIES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(300);
    let mut engine = engine(Host::new(Level::best(), 1), &forge::llama(&Shape::tiny(), "Q8_0"));
    // A token that ends, which this answer does not reach.
    let (honest, random) = (ask(&mut engine, &request(0.9, vec![2])), &mut Random(5));
    assert_eq!(honest.finish, Finish::Length);
    for _ in 0..tries {
        let mut forged = honest.clone();
        let place = forge_bit(&mut forged, random);
        let error = verify(&mut engine, &blake3::hash(b"model"), &forged)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&place), "{place}: {error}");
    }
    // Bits of the file itself: no reader takes it for another receipt that passes, or for this one.
    let file = serde_json::to_vec(&honest).unwrap();
    let mut read = 0;
    for _ in 0..tries {
        let mut forged = file.clone();
        forged[random.below(file.len())] ^= 1 << random.below(8);
        if let Ok(forged) = serde_json::from_slice::<Receipt>(&forged) {
            let error = verify(&mut engine, &blake3::hash(b"model"), &forged).unwrap_err();
            assert!(error.to_string().starts_with("receipt, "), "{error}");
            read += 1;
        }
    }
    assert!(read > 0);
    assert_eq!(engine.free(), 256);
}
