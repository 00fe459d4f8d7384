//! Files that somebody broke on purpose: whatever is done to a model file, loading it ends in a model or a refusal.
//! Memory stays within a bound however large the sizes are that a file claims. `WEFT_MUTATIONS` sets how many files of
//! each kind are tried (default 20,000); the long run has 10 million.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(unsafe_code, reason = "an allocator that counts")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use inference::Profile;
use inference::backend::Host;
use inference::decoder::Decoder;
use inference::encoder::{Config, Encoder, Pooling};
use inference::gguf::Gguf;
use inference::safetensors::Safetensors;
use inference::tokenizer::Tokenizer;
use support::Random;
use support::forge::{self, Shape};

/// Bytes held at most, by all tests of this file together: hundreds of times the files, far from what they may claim.
const BYTES_MAX: usize = 64 << 20;

/// The system's allocator, counting.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bounded() {
    let most = MOST.load(Ordering::Relaxed);
    assert!(most < BYTES_MAX, "{most} bytes held at once");
}

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
            1 => bytes[at] = random.draw() as u8,
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
    bounded();
}

#[test]
fn broken_encoders_load_or_are_refused() {
    let random = &mut Random(98);
    let (config, whole) = forge::bert(32, 64, 50, 9);
    let config = Config::read(&config).unwrap();
    let (mut refused, mut loaded) = (0, 0);
    for _ in 0..tries() {
        let mut bytes = whole.clone();
        mutate(&mut bytes, 1900, random);
        let encoder = Safetensors::parse(&bytes).and_then(|file| {
            Encoder::load(Host::scalar(), config.clone(), &file, Profile::A16, Pooling::Mean)
        });
        match encoder {
            Ok(_) => loaded += 1,
            Err(error) => {
                refused += 1;
                assert!(error.to_string().len() < 4096, "a refusal that does not end");
            }
        }
    }
    println!("{refused} refused, {loaded} loaded");
    assert!(refused > 0 && loaded > 0);
    bounded();
}

#[test]
fn broken_tokenizers_load_or_are_refused() {
    let random = &mut Random(97);
    let whole = br####"{"version":"1.0","added_tokens":[{"id":0,"content":"[UNK]","special":true,"single_word":false,
        "lstrip":false,"rstrip":false,"normalized":false}],"normalizer":{"type":"BertNormalizer","clean_text":true,
        "handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},
        "post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},
        "decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]",
        "continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,
        "##b":4,"b":5}}}"####;
    let tokenizer = Tokenizer::read(whole).unwrap();
    assert_eq!(tokenizer.encode_whole("ab b q", 9).unwrap(), [1, 3, 4, 5, 0, 2]);
    let mut loaded = 0;
    for _ in 0..tries() {
        let mut bytes = whole.to_vec();
        mutate(&mut bytes, whole.len(), random);
        if let Ok(tokenizer) = Tokenizer::read(&bytes) {
            loaded += 1;
            // What it does with a text is its own business, as long as it ends in tokens or a refusal.
            let _ = tokenizer.encode_whole("Ab [CLS] b\u{e9}", 16);
        }
    }
    println!("{loaded} loaded");
    assert!(loaded > 0);
    bounded();
}

#[test]
fn broken_configurations_are_read_or_refused() {
    let random = &mut Random(96);
    let (whole, file) = forge::bert(32, 64, 50, 9);
    let (mut refused, mut read) = (0, 0);
    for _ in 0..tries() {
        let mut bytes = whole.clone();
        mutate(&mut bytes, whole.len(), random);
        let encoder = Config::read(&bytes).and_then(|config| {
            let file = Safetensors::parse(&file)?;
            Encoder::load(Host::scalar(), config, &file, Profile::A16, Pooling::Mean)
        });
        match encoder {
            Ok(_) => read += 1,
            Err(error) => {
                refused += 1;
                assert!(error.to_string().len() < 4096, "a refusal that does not end");
            }
        }
    }
    println!("{refused} refused, {read} loaded");
    assert!(refused > 0 && read > 0);
    bounded();
}
