//! The committed tokens of `spec/vectors/tokens.json`: of texts by a vocabulary of each kind, and of every character there
//! is, so that a younger table of Unicode anywhere below cannot pass unseen.
//!
//! `WEFT_BLESS=1` writes the tokens anew: only together with a new version of the numerics.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/pinned.rs"]
mod pinned;
mod support;

use std::collections::BTreeSet;
use std::fmt::Write;

use inference::gguf::Gguf;
use inference::tokenizer::Tokenizer;
use inference::vocabulary::Vocabulary;
use pinned::{blessing, same};
use serde_json::{Map, Value, json};
use support::forge::{self, Words};

const FILE: &str = "tokens.json";
/// How words are cut, as files name it.
const PATTERNS: [&str; 3] = ["gpt-2", "llama-bpe", "qwen2"];
/// Characters whose texts are cut into tokens together.
const TOGETHER: usize = 64;

fn strings(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap()
}

fn words(entry: &Value, model: &'static str, pre: &'static str) -> Words {
    let or_none = |key: &str| entry.get(key).cloned().unwrap_or(json!([]));
    Words {
        model,
        pre,
        pieces: strings(&entry["pieces"]),
        kinds: serde_json::from_value(entry["kinds"].clone()).unwrap(),
        scores: serde_json::from_value(or_none("scores")).unwrap(),
        merges: strings(&or_none("merges")),
    }
}

fn vocabulary(words: &Words) -> Vocabulary {
    Vocabulary::read(&Gguf::parse(&forge::words(words)).unwrap()).unwrap()
}

/// The tokens of every text of the file, by each of its vocabularies.
fn tokens(file: &Value) -> Value {
    let texts = strings(&file["texts"]);
    let by = |encode: &dyn Fn(&str) -> Vec<u32>| -> Value {
        texts.iter().map(|text| json!(encode(text))).collect()
    };
    let mut all = Map::new();
    for pattern in PATTERNS {
        let pairs = vocabulary(&words(&file["pairs"], "gpt2", pattern));
        all.insert(pattern.to_owned(), by(&|text| pairs.encode(text).unwrap()));
    }
    let scored = vocabulary(&words(&file["scored"], "llama", ""));
    all.insert("scored".to_owned(), by(&|text| scored.encode(text).unwrap()));
    let json = file["wordpiece"]["tokenizer.json"].to_string();
    let wordpiece = Tokenizer::read(json.as_bytes()).unwrap();
    let whole = |text: &str| wordpiece.encode_whole(text, 512).unwrap();
    all.insert("wordpiece".to_owned(), by(&whole));
    Value::Object(all)
}

#[test]
fn texts_become_the_tokens_of_the_vectors() {
    let mut file = pinned::read(FILE);
    let ours = tokens(&file);
    if blessing() {
        file["tokens"] = ours.clone();
        let swept = SWEEPS.iter().map(|(name, sweep)| ((*name).to_owned(), sweep()));
        file["sweeps"] = Value::Object(swept.collect());
        pinned::write(FILE, &file);
    }
    same("tokens", &ours, &file["tokens"]);
}

/// Two ways to merge byte pairs are about: by the listed pairs alone, or by any two pieces that together are one. They agree
/// where every piece is made by one pair, which these tests' vocabularies hold to.
/// Long texts are cut part by part: where a part ends decides nothing.
#[test]
fn a_long_text_has_the_tokens_of_its_words() {
    let file = pinned::read(FILE);
    let json = file["wordpiece"]["tokenizer.json"].to_string();
    let wordpiece = Tokenizer::read(json.as_bytes()).unwrap();
    let encode = |text: &str| wordpiece.encode(text).unwrap();
    let texts = strings(&file["texts"]);
    let mut random = support::Random(3);
    let (mut long, mut tokens) = (String::new(), vec![]);
    while long.len() < 100_000 {
        let text = &texts[random.below(texts.len())];
        let between = [" ", "\n", " \u{6771} ", "\u{6771}\u{4eac} ", "\u{1d400} "][random.below(5)];
        for part in [text.as_str(), between] {
            tokens.extend(encode(part));
            long.push_str(part);
            long.push(' ');
        }
    }
    assert_eq!(encode(&long), tokens);
    let most = wordpiece.encode_whole(&long, 4000).unwrap();
    let around = wordpiece.encode_whole("", 4000).unwrap().len() / 2;
    assert_eq!(most[around..4000 - around], tokens[..4000 - 2 * around]);
    let ideographs = "\u{6771}\u{4eac}".repeat(3000);
    assert_eq!(encode(&ideographs), encode("\u{6771}\u{4eac}").repeat(3000));
}

#[test]
fn every_piece_is_the_product_of_one_merge() {
    for words in [
        words(&pinned::read(FILE)["pairs"], "gpt2", "gpt-2"),
        swept("gpt-2"),
    ] {
        let pieces: BTreeSet<&str> = words.pieces.iter().map(String::as_str).collect();
        let mut made = BTreeSet::new();
        for merge in &words.merges {
            let (left, right) = merge.split_once(' ').unwrap();
            assert!(pieces.contains(left) && pieces.contains(right), "{merge}");
            let both = format!("{left}{right}");
            assert!(pieces.contains(both.as_str()) && made.insert(both), "{merge}");
        }
    }
}

/// The sign that stands for a byte in byte pairs.
fn sign(byte: u8) -> char {
    let plain = |b: &u8| matches!(b, 33..=126 | 161..=172 | 174..);
    match plain(&byte) {
        true => char::from(byte),
        false => char::from_u32(256 + (0..byte).filter(|b| !plain(b)).count() as u32).unwrap(),
    }
}

/// All bytes; and pairs of a letter, a digit, a mark, a space or an apostrophe with the first byte of any other character, and of
/// the last byte of one with the first three: where words are cut shows in which of these pairs are merged.
fn swept(pre: &'static str) -> Words {
    let mut pieces: Vec<String> = (0..=255).map(|byte| sign(byte).to_string()).collect();
    let mut merges = vec![];
    let before = b"a1! '"
        .iter()
        .flat_map(|c| (0xc2..=0xf4).map(move |byte| [*c, byte]));
    let after = b"a1!"
        .iter()
        .flat_map(|c| (0x80..=0xbf).map(move |byte| [byte, *c]));
    for pair in before.chain(after) {
        let [left, right] = pair.map(sign);
        merges.push(format!("{left} {right}"));
        pieces.push(format!("{left}{right}"));
    }
    let kinds = vec![1; pieces.len()];
    Words {
        model: "gpt2",
        pre,
        pieces,
        kinds,
        merges,
        scores: vec![],
    }
}

/// BLAKE3 of the tokens of every character's text (32 bits each, little-endian), some texts at a time; a refusal counts as one
/// token that there is not.
fn sweep(context: fn(&mut String, char), encode: &dyn Fn(&str) -> Option<Vec<u32>>) -> Value {
    let (mut hasher, mut text) = (blake3::Hasher::new(), String::new());
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    for characters in all.chunks(TOGETHER) {
        text.clear();
        characters.iter().for_each(|c| context(&mut text, *c));
        for token in encode(&text).unwrap_or(vec![u32::MAX]) {
            hasher.update(&token.to_le_bytes());
        }
    }
    json!(hasher.finalize().to_string())
}

/// A character among letters, digits, marks and blanks, and after an apostrophe.
fn among(text: &mut String, c: char) {
    writeln!(text, "a{c}a 1{c}1 !{c}! {c} '{c}a").unwrap();
}

/// A character by itself and inside a word.
fn inside(text: &mut String, c: char) {
    write!(text, "{c} a{c}b ").unwrap();
}

/// Every sweep by its name. Each is a test of its own, as they take seconds.
type Sweep = (&'static str, fn() -> Value);

const SWEEPS: [Sweep; 11] = [
    ("gpt-2", || pairs("gpt-2")),
    ("llama-bpe", || pairs("llama-bpe")),
    ("qwen2", || pairs("qwen2")),
    ("scored", scored),
    ("wordpiece", wordpiece),
    ("NFC", || normalised("NFC")),
    ("NFD", || normalised("NFD")),
    ("NFKC", || normalised("NFKC")),
    ("NFKD", || normalised("NFKD")),
    ("Lowercase", || normalised("Lowercase")),
    ("StripAccents", || normalised("StripAccents")),
];

fn check(names: &[&str]) {
    if blessing() {
        return;
    }
    for (name, sweep) in SWEEPS.iter().filter(|(name, _)| names.contains(name)) {
        same(name, &sweep(), &pinned::read(FILE)["sweeps"][name]);
    }
}

#[test]
fn every_character_is_cut_as_gpt_2_does() {
    check(&["gpt-2"]);
}

#[test]
fn every_character_is_cut_as_llama_does() {
    check(&["llama-bpe"]);
}

#[test]
fn every_character_is_cut_as_qwen_does() {
    check(&["qwen2"]);
}

#[test]
fn every_character_is_cut_as_bert_does() {
    check(&["wordpiece", "scored"]);
}

#[test]
fn every_character_is_normalised_alike() {
    check(&["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"]);
}

fn pairs(pattern: &'static str) -> Value {
    let pairs = vocabulary(&swept(pattern));
    sweep(among, &|text| pairs.encode(text).ok())
}

fn scored() -> Value {
    let scored = vocabulary(&words(&pinned::read(FILE)["scored"], "llama", ""));
    sweep(inside, &|text| scored.encode(text).ok())
}

/// A tokenizer of bytes behind one normaliser.
fn normalizing(kind: &str) -> Tokenizer {
    let vocab: Map<String, Value> = (0..=255)
        .map(|byte| (sign(byte).to_string(), json!(byte)))
        .collect();
    let file = json!({"version": "1.0", "added_tokens": [], "normalizer": {"type": kind},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}});
    Tokenizer::read(file.to_string().as_bytes()).unwrap()
}

fn normalised(kind: &str) -> Value {
    let tokenizer = normalizing(kind);
    sweep(inside, &|text| tokenizer.encode(text).ok())
}

/// A lower-case WordPiece of all characters of the first three planes, alone and inside of words.
fn every_character() -> Tokenizer {
    let mut file = pinned::read(FILE)["wordpiece"]["tokenizer.json"].clone();
    let mut vocab = Map::new();
    for token in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] {
        vocab.insert(token.to_owned(), json!(vocab.len()));
    }
    for c in '\0'..'\u{30000}' {
        vocab.insert(c.to_string(), json!(vocab.len()));
        vocab.insert(format!("##{c}"), json!(vocab.len()));
    }
    file["model"]["vocab"] = Value::Object(vocab);
    Tokenizer::read(file.to_string().as_bytes()).unwrap()
}

fn wordpiece() -> Value {
    let wordpiece = every_character();
    sweep(inside, &|text| wordpiece.encode(text).ok())
}
