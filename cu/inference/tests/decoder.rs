//! Decoders of every family: an answer does not depend on batch, chunks, pages or shared prefixes.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::Profile;
use inference::backend::Host;
use inference::decoder::Decoder;
use inference::engine::{Engine, Logits, Sequence, Wanted};
use inference::gguf::Gguf;
use support::Random;
use support::forge::{self, Shape};

const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma2", "gemma3"];

fn tiny(family: &'static str) -> Shape {
    Shape {
        family,
        untied: family == "llama",
        layers: if family == "gemma3" { 7 } else { 2 },
        ..Shape::tiny()
    }
}

fn engine(file: &[u8], profile: Profile) -> Engine<Host> {
    let file = Gguf::parse(file).unwrap();
    Engine::new(Decoder::load(Host::scalar(), &file, profile, 256).unwrap(), 1024).unwrap()
}

fn tokens(seed: u64, n: usize) -> Vec<u32> {
    let mut random = Random(seed);
    (0..n).map(|_| random.below(300) as u32).collect()
}

fn bits(logits: &[Logits]) -> Vec<u32> {
    logits.concat().iter().map(|v| v.to_bits()).collect()
}

/// All logits of a sequence evaluated in chunks of the given sizes, over and over.
fn chunked(engine: &mut Engine<Host>, tokens: &[u32], sizes: &[usize]) -> Vec<u32> {
    let (mut sequence, mut out, mut at) = (Sequence::default(), vec![], 0);
    for size in sizes.iter().cycle() {
        let chunk = &tokens[at..(at + size).min(tokens.len())];
        out.extend(bits(
            &engine.extend(&mut [(&mut sequence, chunk)], Wanted::All).unwrap()[0],
        ));
        at += chunk.len();
        if at == tokens.len() {
            break;
        }
    }
    engine.end(sequence);
    out
}

#[test]
fn chunks_do_not_change_a_bit() {
    for family in FAMILIES {
        for profile in [Profile::A16, Profile::A8] {
            let mut engine = engine(&forge::model(&tiny(family), "Q8_0", 3), profile);
            let tokens = tokens(1, 70);
            let whole = chunked(&mut engine, &tokens, &[70]);
            assert_eq!(whole.len(), 70 * 300);
            for sizes in [&[1][..], &[7], &[33, 1, 2]] {
                assert!(
                    chunked(&mut engine, &tokens, sizes) == whole,
                    "{family} {profile:?} in chunks of {sizes:?}"
                );
            }
            assert_eq!(engine.free(), 1024);
        }
    }
}

#[test]
fn a_batch_is_its_sequences_one_at_a_time() {
    let mut engine = engine(&forge::model(&tiny("gemma2"), "Q4_0", 4), Profile::A16);
    let prompts: Vec<Vec<u32>> = (0..6).map(|i| tokens(i + 10, 5 + 9 * i as usize)).collect();
    let alone: Vec<Vec<u32>> = prompts
        .iter()
        .map(|p| chunked(&mut engine, p, &[p.len()]))
        .collect();
    let mut sequences: Vec<Sequence> = prompts.iter().map(|_| Sequence::default()).collect();
    let mut asked: Vec<_> = sequences
        .iter_mut()
        .zip(&prompts)
        .map(|(s, p)| (s, p.as_slice()))
        .collect();
    let together = engine.extend(&mut asked, Wanted::All).unwrap();
    for (together, alone) in together.iter().zip(alone) {
        assert!(bits(together) == alone);
    }
}

#[test]
fn a_shared_prefix_does_not_change_a_bit() {
    let mut engine = engine(&forge::model(&tiny("qwen3"), "Q5_1", 5), Profile::A16);
    let (first, other) = (tokens(20, 100), tokens(21, 30));
    let mut fresh = first[..80].to_vec();
    fresh.extend(&other);
    let truth = chunked(&mut engine, &fresh, &[fresh.len()]);
    let mut old = Sequence::default();
    engine.extend(&mut [(&mut old, &first)], Wanted::Last).unwrap();
    let mut forked = engine.fork(&old, 80);
    assert_eq!(forked.tokens(), &first[..64]);
    let rest = &fresh[64..];
    let logits = engine.extend(&mut [(&mut forked, rest)], Wanted::All).unwrap();
    assert!(bits(&logits[0]) == truth[64 * 300..]);
    engine.end(old);
    engine.end(forked);
    assert_eq!(engine.free(), 1024);
}

#[test]
fn caps_that_a_file_of_gemma_2_leaves_out_are_as_if_named() {
    let file = forge::model(&tiny("gemma2"), "Q8_0", 6);
    let other = |key: &str| {
        let mut file = file.clone();
        let at = file.windows(key.len()).position(|bytes| bytes == key.as_bytes());
        file[at.unwrap() + key.len() - 1] = b'_';
        file
    };
    let mut answers = vec![bits_of(&file)];
    answers.extend(["attn_logit_softcapping", "final_logit_softcapping"].map(|key| bits_of(&other(key))));
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let zero = |key: &str| {
        let mut file = file.clone();
        let at = file.windows(key.len()).position(|bytes| bytes == key.as_bytes());
        file[at.unwrap() + key.len() + 4..][..4].fill(0);
        file
    };
    assert!(bits_of(&zero("final_logit_softcapping")) != answers[0]);
}

fn bits_of(file: &[u8]) -> Vec<u32> {
    chunked(&mut engine(file, Profile::A16), &tokens(3, 40), &[40])
}

#[test]
fn every_format_and_family_answers() {
    let mut seen = std::collections::BTreeSet::new();
    for format in [
        "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K",
    ] {
        let shape = Shape {
            layers: 1,
            ..Shape::small("llama")
        };
        let mut engine = engine(&forge::model(&shape, format, 6), Profile::A16);
        let logits = engine
            .extend(&mut [(&mut Sequence::default(), &[1, 5, 9])], Wanted::Last)
            .unwrap();
        let spread = logits[0][0].iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        assert!((0.1..100.0).contains(&spread), "{format}: logits to {spread}");
        assert!(seen.insert(bits(&logits[0])));
    }
}

#[test]
fn what_cannot_be_served_changes_nothing() {
    let mut engine = engine(&forge::model(&tiny("llama"), "Q8_0", 7), Profile::A16);
    let mut sequence = Sequence::default();
    for bad in [vec![300], vec![1; 257]] {
        assert!(engine.extend(&mut [(&mut sequence, &bad)], Wanted::Last).is_err());
        assert_eq!((sequence.tokens().len(), engine.free()), (0, 1024));
    }
    let mut many: Vec<Sequence> = (0..5).map(|_| Sequence::default()).collect();
    let full = vec![1; 250];
    let mut asked: Vec<_> = many.iter_mut().map(|s| (s, full.as_slice())).collect();
    assert!(
        engine
            .extend(&mut asked, Wanted::Last)
            .unwrap_err()
            .to_string()
            .contains("cache")
    );
    assert_eq!(engine.free(), 1024);
}
