//! Decoders of every family: an answer does not depend on batch, chunks, pages or shared prefixes.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::Profile;
use inference::backend::Host;
use inference::decoder::Decoder;
use inference::engine::{Engine, Logits, Sequence, Wanted};
use inference::generate::Decode;
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
        // Of another family, where nobody reads it.
        file[at.unwrap() - 2] = b'_';
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

/// A file with one more entry of metadata.
fn with(file: &[u8], key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let entry = |key: &str, kind: u32, value: &[u8]| {
        let length = (key.len() as u64).to_le_bytes();
        [&length, key.as_bytes(), &kind.to_le_bytes(), value].concat()
    };
    let added = entry(key, kind, value);
    // Data keeps its place in lines of 32 bytes.
    let filler = entry("filler", 8, &0_u64.to_le_bytes()).len();
    let rest = (added.len() + filler).next_multiple_of(32) - added.len() - filler;
    let text = [&(rest as u64).to_le_bytes()[..], &vec![b' '; rest]].concat();
    let count = u64::from_le_bytes(file[16..24].try_into().unwrap()) + 2;
    let parts = [
        &file[..16],
        &count.to_le_bytes(),
        &added,
        &entry("filler", 8, &text),
        &file[24..],
    ];
    parts.concat()
}

fn refusal(file: &[u8]) -> String {
    let file = Gguf::parse(file).unwrap();
    let loaded = Decoder::load(Host::scalar(), &file, Profile::A16, 256);
    loaded.err().unwrap().to_string()
}

/// What changes a model's answers is heeded or refused by name, never left out.
#[test]
fn entries_that_change_answers_are_heeded_or_refused() {
    let plain = forge::model(&tiny("llama"), "Q8_0", 6);
    let whole = |key: &str, value: u32| with(&plain, key, 4, &value.to_le_bytes());
    let float = |key: &str, value: f32| with(&plain, key, 6, &value.to_le_bytes());
    let expected = bits_of(&plain);
    for same in [
        whole("general.whatever", 7),
        whole("llama.expert_count", 0),
        with(&plain, "llama.use_parallel_residual", 7, &[0]),
        float("llama.logit_scale", 0.0),
        whole("llama.attention.sliding_window", 4096),
        with(&plain, "llama.attention.causal", 7, &[1]),
        float("llama.rope.scaling.factor", 1.0),
        float("llama.rope.scaling.attn_factor", 1.0),
    ] {
        assert_eq!(bits_of(&same), expected);
    }
    let stretched = bits_of(&float("llama.rope.scaling.factor", 4.0));
    assert_ne!(stretched, expected);
    assert_eq!(bits_of(&float("llama.rope.scale_linear", 4.0)), stretched);
    for (file, named) in [
        (whole("llama.expert_count", 8), "llama.expert_count"),
        (
            whole("llama.attention.sliding_window", 32),
            "llama.attention.sliding_window",
        ),
        (
            with(&plain, "llama.attention.causal", 7, &[0]),
            "llama.attention.causal",
        ),
        (
            float("llama.rope.scaling.attn_factor", 0.5),
            "llama.rope.scaling.attn_factor",
        ),
        (float("llama.logit_scale", 0.5), "llama.logit_scale"),
        (whole("llama.rope.scaling.type", 2), "llama.rope.scaling.type"),
        (whole("llama.pooling_type", 4), "llama.pooling_type"),
    ] {
        assert!(refusal(&file).contains(named), "{named}: {}", refusal(&file));
    }
}

#[test]
fn weights_without_a_place_are_refused() {
    for (family, from, to) in [
        ("llama", "output.weight", "output.weighs"),
        ("qwen2", "blk.1.attn_q.bias", "blk.1.attn_o.bias"),
    ] {
        let mut file = forge::model(&tiny(family), "Q8_0", 6);
        let at = file
            .windows(from.len())
            .position(|bytes| bytes == from.as_bytes());
        file[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
        let why = refusal(&file);
        assert!(why.contains(to) || why.contains(from), "{why}");
    }
    // A family without biases has no place for any.
    let file = forge::model(&tiny("qwen2"), "Q8_0", 6);
    let text: Vec<u8> = file
        .windows(5)
        .position(|five| five == b"qwen2")
        .map_or(vec![], |_| {
            let mut file = file.clone();
            while let Some(at) = file.windows(5).position(|five| five == b"qwen2") {
                file[at..at + 5].copy_from_slice(b"llama");
            }
            file
        });
    assert!(refusal(&text).contains("bias"), "{}", refusal(&text));
}

/// Windows of the Gemmas by what the file says: of how many layers all but one are windowed, or that none is.
#[test]
fn windows_are_those_of_the_file() {
    let file = forge::model(&tiny("gemma3"), "Q8_0", 6);
    let pattern = |n: u32| {
        bits_of(&with(
            &file,
            "gemma3.attention.sliding_window_pattern",
            4,
            &n.to_le_bytes(),
        ))
    };
    let six = bits_of(&file);
    assert_eq!(pattern(6), six);
    assert_ne!(pattern(4), six);
    let key = "gemma3.attention.sliding_window";
    let at = file
        .windows(key.len())
        .position(|bytes| bytes == key.as_bytes())
        .unwrap();
    let [mut zero, mut absent] = [file.clone(), file.clone()];
    zero[at + key.len() + 4..][..4].fill(0);
    absent[at] = b'_';
    assert_eq!(bits_of(&zero), pattern(1), "all layers see everything");
    assert_eq!(bits_of(&absent), bits_of(&zero));
}

/// A bias on numbers of a key that do not rotate moves all scores alike, which weighs nothing, however large it is.
#[test]
fn large_biases_of_keys_leave_the_others_their_bits() {
    let mut file = forge::model(&tiny("qwen2"), "Q8_0", 6);
    let key = "qwen2.rope.dimension_count";
    let at = file
        .windows(key.len())
        .position(|bytes| bytes == key.as_bytes())
        .unwrap();
    file[at + key.len() + 4..][..4].copy_from_slice(&8_u32.to_le_bytes());
    let biased = |bias: f32| {
        let mut biased = file.clone();
        let parsed = Gguf::parse(&file).unwrap();
        for layer in 0..2 {
            let range = parsed.range(&format!("blk.{layer}.attn_k.bias")).unwrap();
            // Numbers 10 and 15 of each head of 16.
            let numbers = biased[range].as_chunks_mut::<4>().0;
            for head in numbers.chunks_mut(16) {
                (head[10], head[15]) = (bias.to_le_bytes(), (-0.7 * bias).to_le_bytes());
            }
        }
        let logits = bits_of(&biased)
            .into_iter()
            .map(|bits| f64::from(f32::from_bits(bits)));
        logits.collect::<Vec<f64>>()
    };
    let plain = biased(0.0);
    let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|v| v * v).sum::<f64>();
    for bias in [20.0, 100.0] {
        let error = square(&mut biased(bias).iter().zip(&plain).map(|(a, b)| a - b));
        let error = (error / square(&mut plain.iter().copied())).sqrt();
        // Without it 0.10 of the larger one.
        assert!(error < 0.04, "bias {bias}: {error}");
    }
}

/// The last token's vector, or the mean of all, as the file says.
#[test]
fn a_text_is_pooled_as_the_file_says() {
    let plain = forge::model(&tiny("qwen3"), "Q8_0", 6);
    let pooled = |kind: u32, tokens: &[u32]| {
        let file = with(&plain, "qwen3.pooling_type", 4, &kind.to_le_bytes());
        Decode::vector(&mut engine(&file, Profile::A16), tokens).unwrap()
    };
    let [mean, first, last] = [1, 2, 3];
    assert_eq!(pooled(last, &[7]), pooled(mean, &[7]));
    assert_eq!(
        pooled(first, &[7, 8, 9]),
        pooled(mean, &[7]),
        "nothing before it is seen"
    );
    assert_ne!(pooled(last, &[7, 8, 9]), pooled(mean, &[7, 8, 9]));
    assert_ne!(
        pooled(last, &[7, 8, 9]),
        pooled(last, &[8, 7, 9]),
        "it has seen the others"
    );
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
