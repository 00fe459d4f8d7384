//! Whole models: tiny files of every family and format, an encoder's package, and what they answer.

use inference::Profile;
use inference::backend::{Backend, Host, Level};
use inference::decoder::Decoder;
use inference::encoder::{Encoder, Pooling};
use inference::engine::{Engine, Sequence, Wanted};
use inference::generate::{Decode, Receipt, Request, generate, verify};
use inference::gguf::Gguf;
use inference::package::{Package, pack};
use inference::safetensors::Safetensors;
use inference::sample::Settings;
use inference::service::Facts;
use serde_json::{Map, Value, json};

use super::numbers::{mixed, numbers};
use super::pinned::folder;
use super::support::forge::{self, Plan, Shape};
use super::{hash, hex};

const PROFILES: [Profile; 2] = [Profile::A16, Profile::A8];
/// The decoders' files.
const DECODERS: [&str; 6] = [
    "llama_q8_0",
    "llama_k",
    "qwen2_q4_0",
    "qwen3_q5_1",
    "gemma2_q5_0",
    "gemma3_q4_1",
];
/// The encoder's file.
const ENCODER: &str = "bert.safetensors";
/// Tokens of a prompt: more than a window and a page.
const PROMPT: usize = 40;

fn shape(family: &'static str, layers: usize, width: usize, inner: usize, heads: [usize; 3]) -> Shape {
    Shape {
        family,
        layers,
        width,
        inner,
        heads,
        vocabulary: if width > 64 { 40 } else { 72 },
        untied: family == "llama",
    }
}

fn plan<'a>(shape: Shape, format: &'a dyn Fn(&str) -> &'a str, seed: u64) -> Plan<'a> {
    Plan {
        shape,
        format,
        floats: &[],
        texts: &[],
        factors: &[],
        seed,
    }
}

/// The file of that name, as it was first made.
fn made(name: &str) -> Vec<u8> {
    let part = |name: &str| name.rsplit('.').nth(1).unwrap_or_default().to_owned();
    match name {
        "llama_q8_0" => forge::planned(&plan(shape("llama", 2, 64, 64, [4, 2, 16]), &|_| "Q8_0", 1)),
        // As files are that mix them: blocks of 256 where columns allow, others where not.
        "llama_k" => forge::planned(&Plan {
            floats: &[("rope.freq_base", 500_000.0)],
            factors: &[1.0, 1.0, 1.5, 2.75, 6.0, 8.0, 8.0, 8.0],
            ..plan(
                shape("llama", 2, 256, 32, [2, 1, 16]),
                &|name| match part(name).as_str() {
                    "attn_v" | "output" => "Q6_K",
                    "ffn_gate" => "Q5_K",
                    "attn_output" | "ffn_down" => "Q5_0",
                    _ => "Q4_K",
                },
                2,
            )
        }),
        "qwen2_q4_0" => forge::planned(&plan(
            shape("qwen2", 2, 64, 64, [4, 2, 16]),
            &|name| match part(name).as_str() {
                "attn_k" => "F16",
                "attn_v" => "BF16",
                _ => "Q4_0",
            },
            3,
        )),
        "qwen3_q5_1" => forge::planned(&Plan {
            floats: &[("rope.freq_base", 1e6)],
            ..plan(shape("qwen3", 2, 64, 64, [3, 1, 32]), &|_| "Q5_1", 4)
        }),
        "gemma2_q5_0" => forge::planned(&plan(shape("gemma2", 2, 64, 96, [4, 2, 16]), &|_| "Q5_0", 5)),
        // Six layers: the last alone sees everything.
        "gemma3_q4_1" => forge::planned(&Plan {
            floats: &[("rope.freq_base", 1e6), ("rope.scaling.factor", 8.0)],
            texts: &[("rope.scaling.type", "linear")],
            ..plan(shape("gemma3", 6, 32, 64, [2, 1, 16]), &|_| "Q4_1", 6)
        }),
        _ => {
            let (config, weights) = forge::bert(32, 64, 64, 7);
            pack(&weights, &config, &forge::wordpiece(64), Pooling::Mean, 64).unwrap()
        }
    }
}

fn path(name: &str) -> std::path::PathBuf {
    let file = if name == ENCODER {
        ENCODER.to_owned()
    } else {
        format!("{name}.gguf")
    };
    folder().join("inference").join(file)
}

/// Writes the files that are not there; those that are stay as they are, whatever has become of their maker.
pub fn forge_missing() {
    std::fs::create_dir_all(folder().join("inference")).unwrap();
    for name in DECODERS.iter().chain([&ENCODER]) {
        if !path(name).exists() {
            std::fs::write(path(name), made(name)).unwrap();
        }
    }
}

fn engine<B: Backend>(backend: B, file: &Gguf<'_>, profile: Profile) -> Engine<B> {
    Engine::new(Decoder::load(backend, file, profile, 64).unwrap(), 256).unwrap()
}

pub fn decoders<B: Backend>(open: &dyn Fn() -> B) -> Value {
    let each = |name: &str| {
        let bytes = std::fs::read(path(name)).unwrap();
        let (file, model) = (Gguf::parse(&bytes).unwrap(), blake3::hash(&bytes));
        let vocabulary = file.tensor("token_embd.weight").unwrap().rows as u32;
        let tokens: Vec<u32> = (0..PROMPT as u32).map(|k| mixed(k + 100) % vocabulary).collect();
        let mut all = Map::from_iter([
            ("blake3".to_owned(), json!(model.to_string())),
            ("tokens".to_owned(), json!(tokens)),
            ("tensors".to_owned(), tensors(&open(), &file)),
        ]);
        for profile in PROFILES {
            let mut engine = engine(open(), &file, profile);
            all.insert(profile.name().to_owned(), answers(&mut engine, &model, &tokens));
        }
        (format!("{name}.gguf"), Value::Object(all))
    };
    Value::Object(DECODERS.into_iter().map(each).collect())
}

/// Matrices of the first layer and around all: their rows as numbers, and their products with the rule's numbers.
fn tensors<B: Backend>(b: &B, file: &Gguf<'_>) -> Value {
    let mut all = Map::new();
    for (name, tensor) in file.tensors() {
        if tensor.rows == 1 || name.starts_with("blk.") && !name.starts_with("blk.0.") {
            continue;
        }
        let matrix = file.matrix(name, tensor.rows, tensor.cols).unwrap();
        let rows: Vec<f32> = (0..matrix.rows).flat_map(|row| matrix.row(row)).collect();
        let [a16, a8] = PROFILES.map(|profile| {
            let x = b.quantise(&b.rows(matrix.cols, numbers(0, 3 * matrix.cols)), profile);
            let y = b.linear(&b.matrix(&matrix).unwrap(), &x, None);
            hash(&b.take(y).unwrap())
        });
        let product = json!({"rows": hash(&rows), "din1-a16": a16, "din1-a8": a8});
        all.insert(name.to_owned(), product);
    }
    Value::Object(all)
}

/// The settings of the two asks: the likeliest, and drawn.
fn settings() -> [Settings; 2] {
    let drawn = Settings {
        temperature: 0.8,
        top_k: 50,
        top_p: 0.95,
        seed: std::array::from_fn(|i| i as u8),
    };
    [Settings::default(), drawn]
}

fn answers<B: Backend>(engine: &mut Engine<B>, model: &blake3::Hash, tokens: &[u32]) -> Value {
    let mut sequence = Sequence::default();
    let logits = engine
        .extend(&mut [(&mut sequence, tokens)], Wanted::All)
        .unwrap();
    engine.end(sequence);
    let last = &logits[0][PROMPT - 1];
    let receipts = settings().map(|settings| {
        let request = Request {
            prompt: tokens.to_vec(),
            settings,
            tokens_max: 16,
            stops: vec![2],
        };
        serde_json::to_value(generate(engine, model, &request, &mut |_| ()).unwrap()).unwrap()
    });
    let all: Vec<f32> = logits[0].iter().flat_map(|logits| logits.to_vec()).collect();
    json!({"logits": hash(&all), "first logits after the last token": hex(&last[..4]),
        "receipts": receipts, "vector": hex(&Decode::vector(engine, tokens).unwrap())})
}

/// Every committed receipt passes, evaluated in other passes than those it was made in.
pub fn check_receipts(models: &Value) {
    let mut checked = 0;
    for (name, model) in models.as_object().unwrap() {
        let bytes = std::fs::read(folder().join("inference").join(name)).unwrap();
        let (file, hash) = (Gguf::parse(&bytes).unwrap(), blake3::hash(&bytes));
        for profile in PROFILES {
            let mut engine = engine(Host::new(Level::best(), 1), &file, profile);
            for receipt in model[profile.name()]["receipts"].as_array().unwrap() {
                let receipt: Receipt = serde_json::from_value(receipt.clone()).unwrap();
                verify(&mut engine, &hash, &receipt).unwrap();
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 4 * DECODERS.len());
}

/// Texts of several lengths: one token, words, letters that it does not have, more than a page.
const TEXTS: [&str; 4] = [
    "",
    "a warp and a weft",
    "Zürich: naïve 東京 😀",
    "the quick brown fox jumps over the lazy dog",
];

pub fn encoders<B: Backend>(open: &dyn Fn() -> B) -> Value {
    let bytes = std::fs::read(path(ENCODER)).unwrap();
    let file = Safetensors::parse(&bytes).unwrap();
    let package = Package::unpack(&file).unwrap();
    let tokens = TEXTS.map(|text| package.tokenizer.encode_whole(text, package.length).unwrap());
    let gas = Facts::encoder(&package.config).gas_embed(tokens.iter().map(Vec::len));
    let each = |profile: Profile| {
        let config = package.config.clone();
        let encoder = Encoder::load(open(), config, &file, profile, package.pooling).unwrap();
        let texts: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let vectors = encoder.embed(&texts).unwrap();
        vectors.iter().map(|vector| hex(vector)).collect::<Vec<_>>()
    };
    json!({ENCODER: {"blake3": blake3::hash(&bytes).to_string(), "texts": TEXTS, "tokens": tokens, "gas": gas,
        "din1-a16": each(Profile::A16), "din1-a8": each(Profile::A8)}})
}
