//! Whole models on the first Vulkan device here, equal to the definition: decoders of every family, an encoder, and checks
//! of another's receipt and trace.
//! Without a device the tests say so and pass.
#![cfg(feature = "vulkan")]
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/device.rs"]
mod device;
mod support;

use device::{present, shaped};
use inference::backend::{Backend, Host};
use inference::decoder::Decoder;
use inference::encoder::{Config, Encoder, Pooling};
use inference::engine::{Engine, Sequence, Wanted};
use inference::generate::{Request, generate, verify};
use inference::gguf::Gguf;
use inference::safetensors::Safetensors;
use inference::sample::Settings;
use inference::trace::trace;
use inference::{Error, Profile};
use support::{Random, forge};

/// All logits of some steps over two sequences: a prompt in two chunks, then one token at a time for both.
fn steps<B: Backend>(engine: &mut Engine<B>) -> Result<Vec<u32>, Error> {
    let tokens: Vec<u32> = (0..90).map(|i| i * 37 % 300).collect();
    let (mut one, mut two) = (Sequence::default(), Sequence::default());
    let mut logits = engine.extend(&mut [(&mut one, &tokens[..50])], Wanted::All)?;
    logits.extend(engine.extend(
        &mut [(&mut one, &tokens[50..57]), (&mut two, &tokens[..3])],
        Wanted::All,
    )?);
    for i in 0..6 {
        logits.extend(engine.extend(
            &mut [(&mut one, &tokens[i..=i]), (&mut two, &tokens[60 + i..=60 + i])],
            Wanted::Last,
        )?);
    }
    let mut fork = engine.fork(&one, 40);
    logits.extend(engine.extend(&mut [(&mut fork, &tokens[32..70])], Wanted::Last)?);
    Ok(logits.concat().concat().iter().map(|v| v.to_bits()).collect())
}

fn engine<B: Backend>(backend: B, family: &'static str, profile: Profile) -> Engine<B> {
    let shape = forge::Shape {
        family,
        untied: family == "llama",
        layers: if family == "gemma3" { 7 } else { 2 },
        ..forge::Shape::tiny()
    };
    let file = forge::model(&shape, if profile == Profile::A16 { "Q8_0" } else { "Q4_0" }, 3);
    let file = Gguf::parse(&file).unwrap();
    Engine::new(Decoder::load(backend, &file, profile, 256).unwrap(), 1024).unwrap()
}

#[test]
fn whole_decoders_give_the_same_logits() {
    if !present() {
        return;
    }
    for family in ["llama", "qwen2", "qwen3", "gemma2", "gemma3"] {
        for profile in [Profile::A16, Profile::A8] {
            let truth = steps(&mut engine(Host::scalar(), family, profile)).unwrap();
            // By cooperative matrices too, where the device has them: prompts are long enough.
            for tiles in [false, true] {
                let mut device = engine(shaped(|shape| shape.tiles = tiles), family, profile);
                assert!(
                    steps(&mut device).unwrap() == truth,
                    "{family} {profile:?} {tiles}"
                );
                assert!(
                    device.decoder().backend().replays() >= 4,
                    "decode steps are recorded once"
                );
            }
        }
    }
}

#[test]
fn a_device_lost_between_steps_is_an_error_and_the_cpu_repeats() {
    if !present() {
        return;
    }
    let mut device = engine(shaped(|_| {}), "llama", Profile::A16);
    let mut sequence = Sequence::default();
    device
        .extend(&mut [(&mut sequence, &[1, 2, 3])], Wanted::Last)
        .unwrap();
    device.decoder().backend().lose("pulled out");
    for _ in 0..2 {
        let error = device
            .extend(&mut [(&mut sequence, &[4])], Wanted::Last)
            .unwrap_err();
        assert!(matches!(error, Error::Device { .. }));
    }
}

/// A forger has one other weight, and answers honestly at first.
#[test]
fn the_device_names_the_first_wrong_token_and_its_operator() {
    if !present() {
        return;
    }
    const HONEST: usize = 5;
    let (file, random) = (forge::llama(&forge::Shape::tiny(), "Q8_0"), &mut Random(4));
    let mut other = file.clone();
    let gate = Gguf::parse(&file)
        .unwrap()
        .range("blk.1.ffn_gate.weight")
        .unwrap();
    other[gate.start + 2] ^= 0x40;
    let model = blake3::hash(&file);
    let request = Request {
        prompt: (0..40).map(|_| random.below(300) as u32).collect(),
        settings: Settings {
            temperature: 0.9,
            top_k: 40,
            top_p: 0.95,
            seed: [9; 32],
        },
        tokens_max: 24,
        stops: vec![],
    };
    let open = |file: &Gguf<'_>| Decoder::load(Host::scalar(), file, Profile::A16, 256).unwrap();
    let answer = |file: &[u8]| {
        let mut engine = Engine::new(open(&Gguf::parse(file).unwrap()), 256).unwrap();
        generate(&mut engine, &model, &request, &mut |_| ()).unwrap()
    };
    let (honest, mut forged) = (answer(&file), answer(&other));
    forged.tokens[..HONEST].copy_from_slice(&honest.tokens[..HONEST]);
    forged.chain[..HONEST].clone_from_slice(&honest.chain[..HONEST]);
    let file = Gguf::parse(&file).unwrap();
    let before = [&request.prompt[..], &honest.tokens[..HONEST]].concat();
    let theirs = trace(
        Host::scalar(),
        &Gguf::parse(&other).unwrap(),
        Profile::A16,
        &before,
    )
    .unwrap();
    for tiles in [false, true] {
        let device = || shaped(|shape| shape.tiles = tiles);
        let decoder = Decoder::load(device(), &file, Profile::A16, 256).unwrap();
        let mut engine = Engine::new(decoder, 256).unwrap();
        verify(&mut engine, &model, &honest).unwrap();
        let error = verify(&mut engine, &model, &forged).unwrap_err().to_string();
        assert!(error.starts_with(&format!("receipt, token {HONEST}:")), "{error}");
        let ours = trace(device(), &file, Profile::A16, &before).unwrap();
        let first = ours.first_difference(&theirs).unwrap().unwrap();
        assert_eq!((first.layer, first.operator.as_str()), (1, "product"));
        assert_eq!(ours, trace(Host::scalar(), &file, Profile::A16, &before).unwrap());
    }
}

/// The sizes of a small BERT: tokens, positions, width, inner width, heads, layers.
const BERT: [usize; 6] = [50, 64, 96, 160, 3, 2];

/// Names and shapes of a BERT's tensors.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let [tokens, positions, width, inner, _, layers] = BERT;
    let table = |name: &str, rows| (format!("embeddings.{name}_embeddings.weight"), vec![rows, width]);
    let mut all = vec![
        table("word", tokens),
        table("position", positions),
        table("token_type", 2),
    ];
    let mut pair = |name: String, weight: Vec<usize>| {
        all.push((format!("{name}.bias"), vec![weight[0]]));
        all.push((format!("{name}.weight"), weight));
    };
    pair("embeddings.LayerNorm".to_owned(), vec![width]);
    for layer in 0..layers {
        let mut part = |name: &str, weight| pair(format!("encoder.layer.{layer}.{name}"), weight);
        for name in [
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ] {
            part(name, vec![width, width]);
        }
        part("attention.output.LayerNorm", vec![width]);
        part("intermediate.dense", vec![inner, width]);
        part("output.dense", vec![width, inner]);
        part("output.LayerNorm", vec![width]);
    }
    all
}

/// A file of random weights for them.
fn bert() -> Vec<u8> {
    let (mut header, mut data, random) = (vec![], Vec::<u8>::new(), &mut Random(5));
    for (name, shape) in tensors() {
        let from = data.len();
        for _ in 0..shape.iter().product() {
            let centre = if name.contains("LayerNorm.weight") {
                1.0
            } else {
                0.0
            };
            data.extend((centre + 0.1 * random.normal()).to_le_bytes());
        }
        let to = data.len();
        header.push(format!(
            r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

fn encoder<B: Backend>(backend: B, profile: Profile) -> Encoder<B> {
    let [tokens, positions, width, inner, heads, layers] = BERT;
    let config = format!(
        r#"{{"model_type":"bert","hidden_act":"gelu","layer_norm_eps":1e-12,"vocab_size":{tokens},
        "max_position_embeddings":{positions},"hidden_size":{width},"intermediate_size":{inner},
        "num_attention_heads":{heads},"num_hidden_layers":{layers}}}"#
    );
    let (config, file) = (Config::read(config.as_bytes()).unwrap(), bert());
    let file = Safetensors::parse(&file).unwrap();
    Encoder::load(backend, config, &file, profile, Pooling::Mean).unwrap()
}

#[test]
fn a_whole_encoder_gives_the_same_vectors() {
    if !present() {
        return;
    }
    let texts: [&[u32]; 3] = [&[1, 2, 3, 4, 5, 6, 7], &[9], &[40; 50]];
    for profile in [Profile::A16, Profile::A8] {
        let device = encoder(shaped(|_| {}), profile);
        let bits =
            |vectors: Vec<Vec<f32>>| -> Vec<u32> { vectors.iter().flatten().map(|v| v.to_bits()).collect() };
        let truth = bits(encoder(Host::scalar(), profile).embed(&texts).unwrap());
        for _ in 0..3 {
            assert!(bits(device.embed(&texts).unwrap()) == truth, "{profile:?}");
        }
        assert!(
            device.backend().replays() >= 1,
            "the same shapes are recorded once"
        );
    }
}
