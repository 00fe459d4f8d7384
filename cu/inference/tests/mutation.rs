//! Files that somebody broke on purpose: whatever is done to a model file, loading it ends in a model or a refusal.
//! Memory stays within a bound however large the sizes are that a file claims. `WEFT_MUTATIONS` sets how many files of
//! each kind are tried (default 20,000); the long run has 10 million.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(unsafe_code, reason = "an allocator that counts")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use inference::Profile;
use inference::backend::Host;
use inference::decoder::Decoder;
use inference::encoder::{Config, Encoder, Pooling};
use inference::gguf::Gguf;
use inference::safetensors::Safetensors;
use inference::tokenizer::Tokenizer;
use inference::vocabulary::Vocabulary;
use serde_json::{Map, Value};
use support::Random;
use support::forge::{self, Shape};

/// Bytes held at most, by all tests of this file together: far from what files may claim. A text of a mebibyte that is
/// cut into words takes most of it.
const BYTES_MAX: usize = 160 << 20;

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

/// The library's panics are refusals, so nobody needs to read of them.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic
                .location()
                .is_some_and(|place| place.file().contains("kitoken"))
            {
                told(panic);
            }
        }));
    });
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
            cuts(&tokenizer);
        }
    }
    println!("{loaded} loaded");
    assert!(loaded > 0);
    bounded();
}

/// What a tokenizer does with a text is its own business, as long as it ends in tokens or a refusal.
fn cuts(tokenizer: &Tokenizer) {
    for text in TEXTS {
        if let Ok(tokens) = tokenizer.encode_whole(text, 16) {
            let _ = tokenizer.decode(&tokens);
        }
    }
}

const TEXTS: [&str; 3] = [
    "Ab [CLS] b\u{e9}",
    "",
    " aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa! \u{30c6}1  \n",
];

/// Something odd that is JSON: of another type, too large, empty, or a part of another tokenizer.
fn odd(random: &mut Random) -> Value {
    const ODD: [&str; 25] = [
        r#"{"type":"NFD"}"#,
        "null",
        "true",
        "0",
        "-1",
        "18446744073709551615",
        "4294967295",
        "1e308",
        "0.5",
        r#""""#,
        r#""a""#,
        r#""[UNK]""#,
        r#""\u0000""#,
        r#""(((""#,
        r#""(a|aa)+$""#,
        "[]",
        "{}",
        "[[[]]]",
        r#"["a",0]"#,
        r#"{"String":""}"#,
        r#"{"Regex":"(?=a)(a|aa)+$"}"#,
        r#"{"type":"Split","pattern":{"String":""},"behavior":"Isolated","invert":false}"#,
        r#"{"type":"Replace","pattern":{"Regex":""},"content":"a"}"#,
        r#"{"type":"Strip","content":"a","start":99999999999,"stop":9}"#,
        r#"{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#,
    ];
    serde_json::from_str(ODD[random.below(ODD.len())]).unwrap()
}

/// Changes one place of a JSON value, whatever lies there.
fn disturb(value: &mut Value, random: &mut Random) {
    let (here, what) = (random.below(5) == 0, random.below(3));
    match value {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(random.below(map.len())).unwrap().clone();
            match (here, what) {
                (true, 0) => drop(map.remove(&key)),
                (true, 1) => map[&key] = Value::Object(Map::new()),
                (true, _) => map[&key] = odd(random),
                _ => disturb(&mut map[&key], random),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = random.below(list.len());
            match (here, what) {
                (true, 0) => drop(list.remove(at)),
                (true, 1) => list.clear(),
                (true, _) => list[at] = odd(random),
                _ => disturb(&mut list[at], random),
            }
        }
        other => *other = odd(random),
    }
}

/// Tokenizers of kinds that files have.
fn kinds() -> [Value; 3] {
    let texts = [
        r####"{"version":"1.0","added_tokens":[{"id":0,"content":"[UNK]","special":true,"single_word":false,
        "lstrip":false,"rstrip":false,"normalized":false}],"normalizer":{"type":"BertNormalizer","clean_text":true,
        "handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},
        "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},
        {"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[1],"tokens":["[CLS]"]}}},
        "decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]",
        "continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,
        "##b":4,"b":5,"##a":6}}}"####,
        r####"{"version":"1.0","added_tokens":[{"id":4,"content":"<s>","special":true,"single_word":false,
        "lstrip":false,"rstrip":false,"normalized":false}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence",
        "pretokenizers":[{"type":"Split","pattern":{"Regex":"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},
        {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}]},"post_processor":null,
        "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE",
        "dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,
        "byte_fallback":false,"vocab":{"a":0,"b":1,"ab":2,"aa":3,"<s>":4,"A":5},"merges":["a b","a a"]}}"####,
        r####"{"version":"1.0","added_tokens":[{"id":0,"content":"<unk>","special":true,"single_word":false,
        "lstrip":false,"rstrip":false,"normalized":false}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Nmt"},
        {"type":"NFKC"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]},"pre_tokenizer":{"type":"Metaspace",
        "replacement":"\u2581","add_prefix_space":true,"prepend_scheme":"always"},"post_processor":null,
        "decoder":{"type":"Metaspace","replacement":"\u2581","add_prefix_space":true,"prepend_scheme":"always"},
        "model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["\u2581",-2.0],["a",-1.5],["b",-3.0],["ab",-2.5]]}}"####,
    ];
    texts.map(|text| serde_json::from_str(text).unwrap())
}

/// Files that are JSON of a tokenizer's form, with parts that do not belong there.
#[test]
fn odd_tokenizers_load_or_are_refused() {
    quiet();
    let (random, kinds) = (&mut Random(95), kinds());
    let read = |kind: &Value| Tokenizer::read(kind.to_string().as_bytes()).is_ok();
    assert_eq!(kinds.each_ref().map(read), [true, true, false]);
    let (mut refused, mut loaded) = (0, 0);
    for n in 0..tries() {
        let mut value = kinds[n % kinds.len()].clone();
        for _ in 0..=random.below(3) {
            disturb(&mut value, random);
        }
        match Tokenizer::read(value.to_string().as_bytes()) {
            Ok(tokenizer) => {
                loaded += 1;
                cuts(&tokenizer);
            }
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

/// A file of entries alone: a vocabulary of byte pairs.
fn pairs() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let entry =
        |key: &str, kind: u32, value: Vec<u8>| [text(key), kind.to_le_bytes().to_vec(), value].concat();
    let list = |items: &[&str]| {
        let head = [&8_u32.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
        [head, items.iter().flat_map(|item| text(item)).collect()].concat()
    };
    let types: Vec<u8> = [3_i32, 1, 1, 1, 1, 1]
        .iter()
        .flat_map(|kind| kind.to_le_bytes())
        .collect();
    let entries = [
        entry("tokenizer.ggml.model", 8, text("gpt2")),
        entry("tokenizer.ggml.pre", 8, text("qwen2")),
        entry(
            "tokenizer.ggml.tokens",
            9,
            list(&["<s>", "a", "b", "ab", "aa", "A"]),
        ),
        entry(
            "tokenizer.ggml.token_type",
            9,
            [&5_u32.to_le_bytes()[..], &6_u64.to_le_bytes(), &types].concat(),
        ),
        entry("tokenizer.ggml.merges", 9, list(&["a b", "a a"])),
        entry("tokenizer.ggml.bos_token_id", 4, vec![0; 4]),
    ];
    let count = (entries.len() as u64).to_le_bytes();
    [
        &b"GGUF"[..],
        &3_u32.to_le_bytes(),
        &[0; 8],
        &count,
        &entries.concat(),
    ]
    .concat()
}

/// Texts that patterns go back and forth over.
#[test]
fn long_texts_end_in_tokens_or_a_refusal() {
    quiet();
    let file = pairs();
    let mut whole = file.clone();
    for pre in ["qwen2", "gpt-2"] {
        let at = file.windows(5).position(|five| five == b"qwen2").unwrap();
        whole[at..at + 5].copy_from_slice(pre.as_bytes());
        let vocabulary = Vocabulary::read(&Gguf::parse(&whole).unwrap()).unwrap();
        for (part, times) in [
            (" ", 1 << 20),
            ("\n", 1 << 20),
            ("a ", 1 << 19),
            (" \t", 1 << 19),
            ("a", 1 << 20),
        ] {
            for end in ["", "a"] {
                let mut text = part.repeat(times);
                text.truncate((1 << 20) - end.len());
                text.push_str(end);
                let refused = vocabulary.encode(&text).err();
                assert!(
                    refused.is_none_or(|error| error.to_string().contains("no token stands for")),
                    "{pre} {part:?}"
                );
            }
        }
    }
    bounded();
}

#[test]
fn broken_vocabularies_load_or_are_refused() {
    let random = &mut Random(94);
    let scored = Shape {
        layers: 1,
        width: 32,
        inner: 32,
        heads: [2, 1, 16],
        vocabulary: 260,
        ..Shape::tiny()
    };
    let whole = [forge::model(&scored, "Q8_0", 8), pairs()];
    let (mut refused, mut loaded) = ([0; 2], [0; 2]);
    for n in 0..tries() {
        let mut bytes = whole[n % 2].clone();
        mutate(&mut bytes, 7000, random);
        match Gguf::parse(&bytes).and_then(|file| Vocabulary::read(&file)) {
            Ok(vocabulary) => {
                loaded[n % 2] += 1;
                for text in TEXTS {
                    let _ = vocabulary
                        .encode(text)
                        .and_then(|tokens| vocabulary.decode(&tokens));
                }
                let _ = vocabulary.special("<s>");
            }
            Err(error) => {
                refused[n % 2] += 1;
                assert!(error.to_string().len() < 4096, "a refusal that does not end");
            }
        }
    }
    println!("{refused:?} refused, {loaded:?} loaded");
    assert!(refused.iter().chain(&loaded).all(|count| *count > 0));
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
