//! Encoders that come as GGUF files: brought into the one form that encoders are loaded from.
//!
//! Not here: evaluation. Invariant: the package is a function of the file; numbers that the file stores as floats stay
//! those numbers, quantised ones become the floats they stand for.

use serde_json::{Map, Value as Json, json};

use crate::encoder::Pooling;
use crate::error::Error;
use crate::gguf::{Gguf, Value};
use crate::package::{LENGTH_DEFAULT, pack};

/// The family's name in files.
pub const FAMILY: &str = "bert";
/// What stands before a piece that begins a word.
const BEGINS: char = '\u{2581}';

fn broken(why: impl Into<String>) -> Error {
    Error::format("GGUF file, encoder", why)
}

/// Names of tensors outside layers, and inside each, here and in safetensors files.
const OUTSIDE: [(&str, &str); 4] = [
    ("token_embd", "embeddings.word_embeddings"),
    ("position_embd", "embeddings.position_embeddings"),
    ("token_types", "embeddings.token_type_embeddings"),
    ("token_embd_norm", "embeddings.LayerNorm"),
];
const INSIDE: [(&str, &str); 8] = [
    ("attn_q", "attention.self.query"),
    ("attn_k", "attention.self.key"),
    ("attn_v", "attention.self.value"),
    ("attn_output", "attention.output.dense"),
    ("attn_output_norm", "attention.output.LayerNorm"),
    ("ffn_up", "intermediate.dense"),
    ("ffn_down", "output.dense"),
    ("layer_output_norm", "output.LayerNorm"),
];

/// Entries that are read, and some that change nothing here.
const KNOWN: [&str; 9] = [
    "attention.head_count",
    "attention.layer_norm_epsilon",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "pooling_type",
    "tensor_data_layout",
    "vocab_size",
];

/// Whether a file holds an encoder.
pub fn is_encoder(file: &Gguf<'_>) -> bool {
    file.text("general.architecture") == Some(FAMILY)
}

/// The file as a packed encoder.
///
/// # Errors
/// It lacks something, or what it holds is not supported.
pub fn package(file: &Gguf<'_>) -> Result<Vec<u8>, Error> {
    let size = |key: &str| -> Result<u64, Error> {
        let key = format!("{FAMILY}.{key}");
        file.whole(&key)
            .transpose()?
            .ok_or_else(|| broken(format!("no entry {key}")))
    };
    file.only(FAMILY, |name, value| match name {
        "attention.causal" => matches!(value, Value::Bool(false)),
        _ => KNOWN.contains(&name),
    })?;
    let layers = size("block_count")?;
    let eps = file.float("bert.attention.layer_norm_epsilon").transpose()?;
    let config = json!({
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": size("embedding_length")?,
        "intermediate_size": size("feed_forward_length")?, "num_hidden_layers": layers,
        "num_attention_heads": size("attention.head_count")?,
        "max_position_embeddings": file.tensor("position_embd.weight")?.rows,
        "vocab_size": file.tensor("token_embd.weight")?.rows, "layer_norm_eps": eps.unwrap_or(1e-12),
    });
    let pooling = match file.whole("bert.pooling_type").transpose()? {
        Some(2) => Pooling::First,
        Some(3) => Pooling::Last,
        None | Some(1) => Pooling::Mean,
        Some(other) => {
            return Err(Error::Unsupported(format!(
                "pooling of kind {other}: 1 (mean), 2 (first), 3 (last)"
            )));
        }
    };
    let length = size("context_length").map_or(LENGTH_DEFAULT, |length| length as usize);
    let (weights, tokenizer) = (tensors(file, layers)?, tokenizer(file)?);
    pack(
        &weights,
        config.to_string().as_bytes(),
        tokenizer.as_bytes(),
        pooling,
        length,
    )
}

/// All tensors as floats in a safetensors file.
fn tensors(file: &Gguf<'_>, layers: u64) -> Result<Vec<u8>, Error> {
    let (mut header, mut data) = (Map::new(), vec![]);
    let mut names: Vec<(String, String)> = OUTSIDE
        .map(|(own, name)| (own.to_owned(), name.to_owned()))
        .into();
    // A file that names more layers than it has fails at the first that is not there.
    for layer in 0..layers {
        let inside = INSIDE.map(|(own, name)| {
            (
                format!("blk.{layer}.{own}"),
                format!("encoder.layer.{layer}.{name}"),
            )
        });
        for pair in inside {
            file.tensor(&format!("{}.weight", pair.0))?;
            names.push(pair);
        }
    }
    for (own, name) in names {
        for part in ["weight", "bias"] {
            let own = format!("{own}.{part}");
            if part == "weight" || file.has(&own) {
                let (shape, numbers) = floats(file, &own)?;
                let from = data.len();
                data.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
                let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [from, data.len()]});
                header.insert(format!("{name}.{part}"), entry);
            }
        }
    }
    let header = Json::Object(header).to_string();
    Ok([&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat())
}

/// A tensor's shape and numbers.
fn floats(file: &Gguf<'_>, name: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
    let (rows, cols) = {
        let tensor = file.tensor(name)?;
        (tensor.rows, tensor.cols)
    };
    let shape = if rows == 1 { vec![cols] } else { vec![rows, cols] };
    let plain = file.vector(name, rows * cols);
    let numbers = match plain {
        Ok(numbers) => numbers,
        Err(_) => {
            let matrix = file.matrix(name, rows, cols)?;
            (0..rows).flat_map(|row| matrix.row(row)).collect()
        }
    };
    Ok((shape, numbers))
}

/// The vocabulary as a `tokenizer.json` of WordPiece, lower-case unless the file says otherwise.
fn tokenizer(file: &Gguf<'_>) -> Result<String, Error> {
    if file.text("tokenizer.ggml.model") != Some(FAMILY) {
        return Err(Error::Unsupported(
            "an encoder's vocabulary that is no WordPiece".to_owned(),
        ));
    }
    let tokens = file
        .list("tokenizer.ggml.tokens")
        .ok_or_else(|| broken("no list of tokens"))?;
    let kinds: Vec<i128> = file.list("tokenizer.ggml.token_type").map_or(vec![], |list| {
        let kind = |value| if let Value::Whole(kind) = value { kind } else { 1 };
        list.items().map(kind).collect()
    });
    // 1 is a piece that text yields; the others stand for themselves, as do those that look it where kinds are not told.
    let is_text = |at: usize, token: &str| match kinds.get(at) {
        Some(kind) => *kind == 1,
        None => !(token.len() > 2 && token.starts_with('[') && token.ends_with(']')),
    };
    let spelled = |(at, token): (usize, &str)| match token.strip_prefix(BEGINS) {
        Some(begins) => begins.to_owned(),
        None if is_text(at, token) => format!("##{token}"),
        None => token.to_owned(),
    };
    let pieces: Vec<String> = tokens.texts().enumerate().map(spelled).collect();
    let special = |keys: [&str; 2], name: &str| -> Result<(String, usize), Error> {
        let said = keys
            .iter()
            .find_map(|key| file.whole(&format!("tokenizer.ggml.{key}")));
        let at = match said.transpose()? {
            Some(id) => id as usize,
            None => pieces
                .iter()
                .position(|piece| piece == name)
                .unwrap_or(usize::MAX),
        };
        let piece = pieces.get(at).ok_or_else(|| broken(format!("no token {name}")))?;
        Ok((piece.clone(), at))
    };
    let cls = special(["cls_token_id", "bos_token_id"], "[CLS]")?;
    let sep = special(["seperator_token_id", "separator_token_id"], "[SEP]")?;
    let unknown = special(["unknown_token_id", "unk_token_id"], "[UNK]")?;
    let added: Vec<Json> = [&unknown, &cls, &sep]
        .map(|(text, id)| {
            json!({"id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false})
        })
        .into();
    let vocabulary: Map<String, Json> = pieces
        .into_iter()
        .enumerate()
        .map(|(id, text)| (text, json!(id)))
        .collect();
    let flag = |name: &str| match file.value(&format!("tokenizer.ggml.normalizer.{name}")) {
        Some(Value::Bool(flag)) => Json::Bool(flag),
        _ => Json::Null,
    };
    let lower = flag("lowercase") != Json::Bool(false);
    let whole = json!({
        "version": "1.0", "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": flag("strip_accents"), "lowercase": lower},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": [sep.0, sep.1], "cls": [cls.0, cls.1]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": unknown.0, "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    Ok(whole.to_string())
}
