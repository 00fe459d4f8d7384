//! Decoder models with random weights, written as GGUF: the same bytes from the same shape, no network needed.

use super::Random;

/// The size of a forged model.
#[derive(Debug, Clone)]
pub struct Shape {
    /// `llama`, `qwen2`, `qwen3`, `gemma2` or `gemma3`.
    pub family: &'static str,
    /// Layers.
    pub layers: usize,
    /// Numbers in the residual stream.
    pub width: usize,
    /// Numbers inside a feed-forward block.
    pub inner: usize,
    /// Query heads, key heads, numbers in a head.
    pub heads: [usize; 3],
    /// Tokens.
    pub vocabulary: usize,
    /// Whether there is an output matrix of its own.
    pub untied: bool,
}

impl Shape {
    /// Small enough for scalar code in a test.
    pub fn tiny() -> Shape {
        Shape {
            family: "llama",
            layers: 2,
            width: 64,
            inner: 96,
            heads: [4, 2, 16],
            vocabulary: 300,
            untied: true,
        }
    }

    /// The smallest of a family, with whole K-quant blocks.
    pub fn small(family: &'static str) -> Shape {
        Shape {
            family,
            layers: 3,
            width: 256,
            inner: 512,
            heads: [4, 2, 64],
            vocabulary: 320,
            untied: family == "llama",
        }
    }

    /// About 100 million parameters, for measurements.
    pub fn hundred() -> Shape {
        Shape {
            family: "llama",
            layers: 12,
            width: 768,
            inner: 2048,
            heads: [12, 4, 64],
            vocabulary: 16384,
            untied: true,
        }
    }
}

/// A file being written: entries, tensor entries, data.
struct Writer {
    random: Random,
    entries: (u64, Vec<u8>),
    tensors: (u64, Vec<u8>),
    data: Vec<u8>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Writer {
    fn entry(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.entries.0 += 1;
        text(&mut self.entries.1, key);
        self.entries.1.extend(kind.to_le_bytes());
        self.entries.1.extend(value);
    }

    fn whole(&mut self, key: &str, value: usize) {
        self.entry(key, 4, &(value as u32).to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.entry(key, 6, &value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        let mut bytes = vec![];
        text(&mut bytes, value);
        self.entry(key, 8, &bytes);
    }

    fn tensor(&mut self, name: &str, rows: usize, cols: usize, format: &str) {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let (number, block, _, _, _) = layout(format);
        self.tensors.0 += 1;
        text(&mut self.tensors.1, name);
        let sizes: &[usize] = if rows == 1 { &[cols] } else { &[cols, rows] };
        self.tensors.1.extend((sizes.len() as u32).to_le_bytes());
        sizes
            .iter()
            .for_each(|size| self.tensors.1.extend((*size as u64).to_le_bytes()));
        self.tensors.1.extend(number.to_le_bytes());
        self.tensors.1.extend((self.data.len() as u64).to_le_bytes());
        assert!(cols.is_multiple_of(block));
        let size = 0.7 / (cols as f32).sqrt();
        for _ in 0..rows * cols / block {
            self.block(format, size);
        }
    }

    /// A tensor of given floats.
    fn floats(&mut self, name: &str, sizes: &[u64], bytes: &[u8]) {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensors.0 += 1;
        text(&mut self.tensors.1, name);
        self.tensors.1.extend((sizes.len() as u32).to_le_bytes());
        sizes
            .iter()
            .for_each(|size| self.tensors.1.extend(size.to_le_bytes()));
        self.tensors.1.extend(0_u32.to_le_bytes());
        self.tensors.1.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
    }

    /// A vector near one: gains.
    fn gain(&mut self, name: &str, length: usize) {
        let start = self.data.len().next_multiple_of(32);
        self.tensor(name, 1, length, "F32");
        for bytes in self.data[start..].as_chunks_mut::<4>().0 {
            *bytes = (1.0 + f32::from_le_bytes(*bytes) * 0.2).to_le_bytes();
        }
    }

    fn block(&mut self, format: &str, size: f32) {
        let (_, _, bytes, scales, deviation) = layout(format);
        match format {
            "F32" => self.data.extend((self.random.normal() * size).to_le_bytes()),
            "F16" => self.data.extend(half(self.random.normal() * size).to_le_bytes()),
            "BF16" => self
                .data
                .extend(((self.random.normal() * size).to_bits() >> 16).to_le_bytes()[..2].iter()),
            _ => {
                let start = self.data.len();
                self.data.extend((0..bytes).map(|_| self.random.draw() as u8));
                let scale = size / deviation * (0.5 + (self.random.draw() % 1024) as f32 / 1024.0);
                for (i, at) in scales.iter().enumerate() {
                    let middle = if format.ends_with("_1") {
                        -(deviation * 1.7)
                    } else {
                        1.0
                    };
                    let scale = if i == 0 { scale } else { scale * middle };
                    self.data[start + at..start + at + 2].copy_from_slice(&half(scale).to_le_bytes());
                }
            }
        }
    }
}

/// Number in the file, numbers and bytes of a block, where its f16 scales are, deviation of codes under scale 1.
fn layout(format: &str) -> (u32, usize, usize, &'static [usize], f32) {
    match format {
        "F32" => (0, 1, 4, &[], 1.0),
        "F16" => (1, 1, 2, &[], 1.0),
        "BF16" => (30, 1, 2, &[], 1.0),
        "Q8_0" => (8, 32, 34, &[0], 73.0),
        "Q4_0" => (2, 32, 18, &[0], 4.6),
        "Q4_1" => (3, 32, 20, &[0, 2], 4.6),
        "Q5_0" => (6, 32, 22, &[0], 9.2),
        "Q5_1" => (7, 32, 24, &[0, 2], 9.2),
        "Q4_K" => (12, 256, 144, &[0, 2], 300.0),
        "Q5_K" => (13, 256, 176, &[0, 2], 600.0),
        "Q6_K" => (14, 256, 210, &[208], 1350.0),
        other => panic!("no format {other}"),
    }
}

/// The f16 nearest below in magnitude; small numbers become denormal.
fn half(v: f32) -> u16 {
    let (bits, sign) = (v.to_bits() & 0x7fff_ffff, (v.to_bits() >> 16 & 0x8000) as u16);
    let exponent = (bits >> 23) as i32 - 112;
    sign | match exponent {
        1.. => ((exponent as u32) << 10 | (bits >> 13 & 1023)) as u16,
        _ => ((bits & 0x7f_ffff | 0x80_0000) >> (14 - exponent).min(31)) as u16,
    }
}

/// A model of the `llama` family.
pub fn llama(shape: &Shape, format: &str) -> Vec<u8> {
    model(shape, format, 1)
}

/// A model with all matrices in one format.
pub fn model(shape: &Shape, format: &str, seed: u64) -> Vec<u8> {
    planned(&Plan {
        shape: shape.clone(),
        format: &|_| format,
        floats: &[],
        texts: &[],
        factors: &[],
        seed,
    })
}

/// A model in all its particulars.
pub struct Plan<'a> {
    /// Its size.
    pub shape: Shape,
    /// The format of a matrix by its name.
    pub format: &'a dyn Fn(&str) -> &'a str,
    /// More entries under the family's name.
    pub floats: &'a [(&'a str, f32)],
    /// The same of texts.
    pub texts: &'a [(&'a str, &'a str)],
    /// What divides the frequencies of pairs; empty for none.
    pub factors: &'a [f32],
    /// What the numbers are drawn from.
    pub seed: u64,
}

/// A model by its plan.
pub fn planned(plan: &Plan<'_>) -> Vec<u8> {
    let shape = &plan.shape;
    let w = &mut Writer {
        random: Random(plan.seed),
        entries: (0, vec![]),
        tensors: (0, vec![]),
        data: vec![],
    };
    entries(w, shape);
    for (key, value) in plan.floats {
        w.float(&format!("{}.{key}", shape.family), *value);
    }
    for (key, value) in plan.texts {
        w.text(&format!("{}.{key}", shape.family), value);
    }
    let matrix = |w: &mut Writer, name: &str, rows, cols| {
        w.tensor(name, rows, cols, (plan.format)(name));
    };
    matrix(w, "token_embd.weight", shape.vocabulary, shape.width);
    w.gain("output_norm.weight", shape.width);
    if shape.untied {
        matrix(w, "output.weight", shape.vocabulary, shape.width);
    }
    if !plan.factors.is_empty() {
        let bytes: Vec<u8> = plan.factors.iter().flat_map(|f| f.to_le_bytes()).collect();
        w.floats("rope_freqs.weight", &[plan.factors.len() as u64], &bytes);
    }
    for index in 0..shape.layers {
        layer(w, shape, index, &matrix);
    }
    finish(w)
}

/// The tensors of one layer.
fn layer(w: &mut Writer, shape: &Shape, index: usize, matrix: &dyn Fn(&mut Writer, &str, usize, usize)) {
    let [heads, kv, dim] = shape.heads;
    let name = |part: &str| format!("blk.{index}.{part}");
    w.gain(&name("attn_norm.weight"), shape.width);
    w.gain(&name("ffn_norm.weight"), shape.width);
    for (part, rows) in [
        ("attn_q", heads * dim),
        ("attn_k", kv * dim),
        ("attn_v", kv * dim),
    ] {
        matrix(w, &name(&format!("{part}.weight")), rows, shape.width);
        if shape.family == "qwen2" {
            w.tensor(&name(&format!("{part}.bias")), 1, rows, "F32");
        }
    }
    matrix(w, &name("attn_output.weight"), shape.width, heads * dim);
    matrix(w, &name("ffn_gate.weight"), shape.inner, shape.width);
    matrix(w, &name("ffn_up.weight"), shape.inner, shape.width);
    matrix(w, &name("ffn_down.weight"), shape.width, shape.inner);
    if ["qwen3", "gemma3"].contains(&shape.family) {
        w.gain(&name("attn_q_norm.weight"), dim);
        w.gain(&name("attn_k_norm.weight"), dim);
    }
    if ["gemma2", "gemma3"].contains(&shape.family) {
        w.gain(&name("post_attention_norm.weight"), shape.width);
        w.gain(&name("post_ffw_norm.weight"), shape.width);
    }
}

fn entries(w: &mut Writer, shape: &Shape) {
    let family = shape.family;
    let [heads, kv, dim] = shape.heads;
    w.text("general.architecture", family);
    w.text("general.name", "forged");
    let wholes = [
        ("context_length", 2048),
        ("embedding_length", shape.width),
        ("block_count", shape.layers),
        ("feed_forward_length", shape.inner),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv),
        ("attention.key_length", dim),
        ("attention.value_length", dim),
        ("rope.dimension_count", dim),
        ("vocab_size", shape.vocabulary),
    ];
    for (key, value) in wholes {
        w.whole(&format!("{family}.{key}"), value);
    }
    w.float(&format!("{family}.attention.layer_norm_rms_epsilon"), 1e-5);
    if family.starts_with("gemma") {
        w.whole(&format!("{family}.attention.sliding_window"), 24);
    }
    if family == "gemma2" {
        w.float("gemma2.attn_logit_softcapping", 50.0);
        w.float("gemma2.final_logit_softcapping", 30.0);
    }
    vocabulary(w, shape.vocabulary);
}

/// A byte-level vocabulary without merges: control tokens, the 256 bytes, fillers, and the two tokens of ChatML.
fn vocabulary(w: &mut Writer, size: usize) {
    w.text("tokenizer.ggml.model", "llama");
    let token = |i: usize| match i {
        0 => "<unk>".to_owned(),
        1 => "<s>".to_owned(),
        2 => "</s>".to_owned(),
        3..259 => format!("<0x{:02X}>", i - 3),
        _ if i + 2 == size => "<|im_start|>".to_owned(),
        _ if i + 1 == size => "<|im_end|>".to_owned(),
        _ => format!("t{i}"),
    };
    let kind = |i: usize| match i {
        0 => 2_i32,
        1 | 2 => 3,
        3..259 => 6,
        _ if i + 2 >= size => 3,
        _ => 1,
    };
    let list = |kind: u32, items: Vec<u8>| {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((size as u64).to_le_bytes());
        bytes.extend(items);
        bytes
    };
    let mut tokens = vec![];
    (0..size).for_each(|i| text(&mut tokens, &token(i)));
    w.entry("tokenizer.ggml.tokens", 9, &list(8, tokens));
    w.entry("tokenizer.ggml.scores", 9, &list(6, vec![0; 4 * size]));
    w.entry(
        "tokenizer.ggml.token_type",
        9,
        &list(5, (0..size).flat_map(|i| kind(i).to_le_bytes()).collect()),
    );
    w.whole("tokenizer.ggml.bos_token_id", 1);
    w.whole("tokenizer.ggml.eos_token_id", 2);
}

/// A vocabulary, for a file that holds nothing else.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// `llama` or `gpt2`.
    pub model: &'static str,
    /// How words are cut, where anything says so.
    pub pre: &'static str,
    /// The pieces.
    pub pieces: Vec<String>,
    /// What each is.
    pub kinds: Vec<i32>,
    /// The score of each, of `llama`.
    pub scores: Vec<f32>,
    /// Pairs in the order of merging, of `gpt2`.
    pub merges: Vec<String>,
}

/// A file of a vocabulary alone.
pub fn words(words: &Words) -> Vec<u8> {
    let mut w = Writer {
        random: Random(1),
        entries: (0, vec![]),
        tensors: (0, vec![]),
        data: vec![],
    };
    let list = |kind: u32, count: usize, items: Vec<u8>| {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((count as u64).to_le_bytes());
        bytes.extend(items);
        bytes
    };
    let texts = |items: &[String]| {
        let mut bytes = vec![];
        items.iter().for_each(|item| text(&mut bytes, item));
        list(8, items.len(), bytes)
    };
    w.text("general.architecture", "llama");
    w.text("tokenizer.ggml.model", words.model);
    if !words.pre.is_empty() {
        w.text("tokenizer.ggml.pre", words.pre);
    }
    w.entry("tokenizer.ggml.tokens", 9, &texts(&words.pieces));
    w.entry("tokenizer.ggml.merges", 9, &texts(&words.merges));
    let kinds = words.kinds.iter().flat_map(|kind| kind.to_le_bytes()).collect();
    w.entry("tokenizer.ggml.token_type", 9, &list(5, words.kinds.len(), kinds));
    let scores = words
        .scores
        .iter()
        .flat_map(|score| score.to_le_bytes())
        .collect();
    w.entry("tokenizer.ggml.scores", 9, &list(6, words.scores.len(), scores));
    finish(&w)
}

fn finish(w: &Writer) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend(w.tensors.0.to_le_bytes());
    out.extend(w.entries.0.to_le_bytes());
    out.extend(&w.entries.1);
    out.extend(&w.tensors.1);
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(&w.data);
    out
}

/// A BERT encoder with random weights: `config.json` and `model.safetensors`.
pub fn bert(width: usize, inner: usize, vocabulary: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let random = &mut Random(seed);
    let config = format!(
        r#"{{"model_type":"bert","hidden_size":{width},"intermediate_size":{inner},"num_hidden_layers":1,
        "num_attention_heads":2,"max_position_embeddings":64,"vocab_size":{vocabulary},"layer_norm_eps":1e-12,
        "hidden_act":"gelu"}}"#
    );
    let (mut header, mut data) = (vec![], vec![]);
    for (name, rows, cols) in bert_tensors(width, inner, vocabulary) {
        let from = data.len();
        let middle = if name.ends_with("LayerNorm.weight") {
            1.0
        } else {
            0.0
        };
        let size = 0.7 / (cols as f32).sqrt();
        data.extend((0..rows * cols).flat_map(|_| (middle + random.normal() * size).to_le_bytes()));
        let shape = if rows == 1 {
            format!("[{cols}]")
        } else {
            format!("[{rows},{cols}]")
        };
        let to = data.len();
        header.push(format!(
            r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file.extend(data);
    (config.into_bytes(), file)
}

/// The encoder of [`bert`] as a GGUF file, with these pieces: its first three are unknown, begin and end.
pub fn bert_gguf(width: usize, inner: usize, pieces: &[&str], seed: u64) -> Vec<u8> {
    let mut w = Writer {
        random: Random(seed),
        entries: (0, vec![]),
        tensors: (0, vec![]),
        data: vec![],
    };
    w.text("general.architecture", "bert");
    for (key, value) in [
        ("block_count", 1),
        ("embedding_length", width),
        ("feed_forward_length", inner),
        ("attention.head_count", 2),
        ("context_length", 64),
        ("pooling_type", 1),
    ] {
        w.whole(&format!("bert.{key}"), value);
    }
    w.text("tokenizer.ggml.model", "bert");
    let (mut tokens, count) = (vec![], pieces.len() as u64);
    pieces.iter().for_each(|piece| text(&mut tokens, piece));
    w.entry(
        "tokenizer.ggml.tokens",
        9,
        &[&8_u32.to_le_bytes()[..], &count.to_le_bytes(), &tokens].concat(),
    );
    for (id, key) in ["unknown", "cls", "seperator"].into_iter().enumerate() {
        w.whole(&format!("tokenizer.ggml.{key}_token_id"), id);
    }
    let (_, file) = bert(width, inner, pieces.len(), seed);
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    for (name, entry) in header.as_object().unwrap() {
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        let sizes: Vec<u64> = entry["shape"]
            .as_array()
            .unwrap()
            .iter()
            .rev()
            .map(number)
            .collect();
        let range = [0, 1].map(|at| 8 + length + number(&entry["data_offsets"][at]) as usize);
        w.floats(&gguf_name(name), &sizes, &file[range[0]..range[1]]);
    }
    finish(&w)
}

/// What GGUF files call a tensor of an encoder.
fn gguf_name(name: &str) -> String {
    let mut name = name.replace("encoder.layer.", "blk.");
    for (from, to) in [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ] {
        name = name.replace(from, to);
    }
    name
}

fn bert_tensors(width: usize, inner: usize, vocabulary: usize) -> Vec<(String, usize, usize)> {
    let mut tensors = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vocabulary, width),
        ("embeddings.position_embeddings.weight".to_owned(), 64, width),
        ("embeddings.token_type_embeddings.weight".to_owned(), 2, width),
    ];
    let layer = "encoder.layer.0.";
    for norm in [
        "embeddings.",
        "encoder.layer.0.attention.output.",
        "encoder.layer.0.output.",
    ] {
        tensors.extend(["weight", "bias"].map(|part| (format!("{norm}LayerNorm.{part}"), 1, width)));
    }
    let linears = [
        ("attention.self.query", width, width),
        ("attention.self.key", width, width),
        ("attention.self.value", width, width),
        ("attention.output.dense", width, width),
        ("intermediate.dense", inner, width),
        ("output.dense", width, inner),
    ];
    for (name, rows, cols) in linears {
        tensors.push((format!("{layer}{name}.weight"), rows, cols));
        tensors.push((format!("{layer}{name}.bias"), 1, rows));
    }
    tensors
}

/// A tokenizer of single letters for a forged encoder: `tokenizer.json` with that many tokens, at least 64.
pub fn wordpiece(vocabulary: usize) -> Vec<u8> {
    assert!(vocabulary >= 64);
    let letters = ('a'..='z').map(|letter| letter.to_string());
    let parts = ('a'..='z').map(|letter| format!("##{letter}"));
    let special = ["[UNK]", "[CLS]", "[SEP]"].map(str::to_owned).into_iter();
    let fill = (0..).map(|n| format!("t{n}"));
    let tokens = special.chain(letters).chain(parts).chain(fill).take(vocabulary);
    let entries: Vec<String> = tokens
        .enumerate()
        .map(|(number, token)| format!(r#""{token}":{number}"#))
        .collect();
    format!(
        r###"{{"version":"1.0","added_tokens":[{{"id":0,"content":"[UNK]","special":true,"single_word":false,
        "lstrip":false,"rstrip":false,"normalized":false}}],"normalizer":{{"type":"BertNormalizer","clean_text":true,
        "handle_chinese_chars":true,"strip_accents":null,"lowercase":true}},
        "pre_tokenizer":{{"type":"BertPreTokenizer"}},
        "post_processor":{{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]}},
        "decoder":{{"type":"WordPiece","prefix":"##","cleanup":true}},"model":{{"type":"WordPiece",
        "unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{{{}}}}}}}"###,
        entries.join(",")
    )
    .into_bytes()
}
