//! Files that somebody broke on purpose: whatever is done to a model file, loading it ends in a model or a refusal.
//! `WEFT_MUTATIONS` sets how many files are tried (default 20,000).
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::Profile;
use inference::backend::Host;
use inference::decoder::Decoder;
use inference::gguf::Gguf;
use support::Random;
use support::forge::{self, Shape};

fn tries() -> usize {
    std::env::var("WEFT_MUTATIONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(20_000)
}

/// Changes a few places: flipped bits, odd numbers, cuts, copies of another place.
fn mutate(bytes: &mut Vec<u8>, head: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        // The head is where the structure is; most changes belong there.
        let reach = if random.below(8) > 0 {
            head.min(bytes.len())
        } else {
            bytes.len()
        };
        let at = random.below(reach.max(1)).min(bytes.len().saturating_sub(9));
        let odd = [
            0,
            1,
            31,
            255,
            1 << 16,
            u64::from(u32::MAX),
            1 << 40,
            u64::MAX,
            i64::MAX as u64,
        ];
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes[at..at + 8].copy_from_slice(&odd[random.below(odd.len())].to_le_bytes()),
            3 => {
                let from = random.below(bytes.len() - 8);
                bytes.copy_within(from..from + 8, at);
            }
            _ if random.below(4) == 0 => bytes.truncate(random.below(bytes.len()).max(16)),
            _ => bytes[at..at + 4].copy_from_slice(&(random.below(40) as u32).to_le_bytes()),
        }
    }
}

#[test]
fn broken_models_load_or_are_refused() {
    let random = &mut Random(99);
    let shape = |family| Shape {
        family,
        layers: 1,
        width: 32,
        inner: 32,
        heads: [2, 1, 16],
        vocabulary: 260,
        untied: false,
    };
    let whole: Vec<Vec<u8>> = ["llama", "qwen2", "qwen3", "gemma2", "gemma3"]
        .map(|family| forge::model(&shape(family), if family == "llama" { "Q8_0" } else { "Q4_1" }, 8))
        .to_vec();
    let (mut refused, mut loaded) = (0, 0);
    for n in 0..tries() {
        let mut bytes = whole[n % whole.len()].clone();
        mutate(&mut bytes, 7500, random);
        let decoder =
            Gguf::parse(&bytes).and_then(|file| Decoder::load(Host::scalar(), &file, Profile::A16, 8));
        match decoder {
            Ok(_) => loaded += 1,
            Err(error) => {
                refused += 1;
                assert!(error.to_string().len() < 4096, "a refusal that does not end");
            }
        }
    }
    println!("{refused} refused, {loaded} loaded");
    assert!(refused > 0 && loaded > 0);
}
