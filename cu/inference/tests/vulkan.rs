//! Conformance of the first Vulkan device here, lavapipe in CI: equal to the definition in every shape.
//!
//! Without a device the tests say so and pass; with `WEFT_NEED_VULKAN=1` (CI) that is a failure.
#![cfg(feature = "vulkan")]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::decoder::Decoder;
use inference::engine::{Engine, Sequence, Wanted};
use inference::gguf::Gguf;
use inference::{Error, Profile};
use inference::backend::vulkan::gpu::{self, Gpu};
use inference::backend::vulkan::shader::Shape;
use inference::backend::vulkan::{Vulkan, conformance, usual};
use inference::backend::{Backend, Host};
use support::forge;

/// Whether there is a device; says loudly where not.
fn present() -> bool {
    match gpu::devices() {
        Ok(all) if !all.is_empty() => true,
        other => {
            assert!(std::env::var_os("WEFT_NEED_VULKAN").is_none(), "no Vulkan device: {other:?}");
            eprintln!("SKIPPED: no Vulkan device here ({other:?})");
            false
        }
    }
}

fn shaped(change: impl Fn(&mut Shape)) -> Vulkan {
    let gpu = Gpu::open(0).unwrap();
    let mut shape = usual(&gpu.facts);
    change(&mut shape);
    Vulkan::shaped(gpu, shape).unwrap()
}

fn conforms(device: &Vulkan, seed: u64, values: u64) {
    let tally = conformance::compare(device, &Host::scalar(), seed, values).unwrap();
    println!("{} in shape {:?}: {} values", device.name(), device.shape(), tally.compared());
    assert_eq!(tally.wrong(), [], "{:?}", device.shape());
    assert!(tally.compared() >= values);
}

#[test]
fn an_opened_device_has_proved_itself() {
    if present() {
        let device = Vulkan::open(0).unwrap();
        println!("{} with subgroups of {}", device.name(), device.facts().subgroup);
        conforms(&device, 2, 200_000);
    }
}

#[test]
fn every_shape_gives_the_same_bits() {
    if !present() {
        return;
    }
    // Workgroup, lanes, tokens, spans; sums by subgroups or not; packed dot products or not.
    let shapes = [(8, 1, 1, 1, false, false), (256, 128, 3, 8, false, true), (64, 8, 4, 64, true, false)];
    for (workgroup, lanes, tokens, spans, subgroup, dot) in shapes {
        let device = shaped(|shape| {
            (shape.workgroup, shape.lanes, shape.tokens, shape.spans) = (workgroup, lanes, tokens, spans);
            shape.subgroup = subgroup && gpu::devices().unwrap()[0].subgroup > 0;
            shape.dot &= dot;
        });
        conforms(&device, u64::from(workgroup), 50_000);
    }
}

/// Lavapipe's vectors are its subgroups: 4, 8 and 16 lanes. The driver reads the width once, so each has its process.
#[test]
fn every_width_of_lavapipe_gives_the_same_bits() {
    if !present() || std::env::var_os("LP_NATIVE_VECTOR_WIDTH").is_some() {
        return;
    }
    for (width, lanes) in [("128", 4), ("256", 8), ("512", 16)] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_opened_device_has_proved_itself", "--nocapture"])
            .env("LP_NATIVE_VECTOR_WIDTH", width)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{width} bits: {text}{}", String::from_utf8_lossy(&output.stderr));
        if text.contains("llvmpipe") {
            assert!(text.contains(&format!("subgroups of {lanes}")), "{text}");
        }
    }
}

#[test]
fn floats_in_integers_give_the_same_bits() {
    if present() {
        conforms(&shaped(|shape| shape.soft = true), 3, 200_000);
    }
}

#[test]
fn floats_in_free_order_give_other_bits() {
    if present() {
        let [differing, compared] = shaped(|_| {}).control().unwrap();
        assert!(differing > compared / 4, "{differing} of {compared}");
    }
}

/// All logits of some steps over two sequences: a prompt in two chunks, then one token at a time for both.
fn steps<B: Backend>(engine: &mut Engine<B>) -> Result<Vec<u32>, Error> {
    let tokens: Vec<u32> = (0..90).map(|i| i * 37 % 300).collect();
    let (mut one, mut two) = (Sequence::default(), Sequence::default());
    let mut logits = engine.extend(&mut [(&mut one, &tokens[..50])], Wanted::All)?;
    logits.extend(engine.extend(&mut [(&mut one, &tokens[50..57]), (&mut two, &tokens[..3])], Wanted::All)?);
    for i in 0..6 {
        logits.extend(engine.extend(&mut [(&mut one, &tokens[i..=i]), (&mut two, &tokens[60 + i..=60 + i])], Wanted::Last)?);
    }
    let mut fork = engine.fork(&one, 40);
    logits.extend(engine.extend(&mut [(&mut fork, &tokens[32..70])], Wanted::Last)?);
    Ok(logits.iter().flatten().flatten().map(|v| v.to_bits()).collect())
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
            let mut device = engine(shaped(|_| {}), family, profile);
            assert!(steps(&mut device).unwrap() == truth, "{family} {profile:?}");
            assert!(device.decoder().backend().replays() >= 4, "decode steps are recorded once");
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
    device.extend(&mut [(&mut sequence, &[1, 2, 3])], Wanted::Last).unwrap();
    device.decoder().backend().lose("pulled out");
    for _ in 0..2 {
        let error = device.extend(&mut [(&mut sequence, &[4])], Wanted::Last).unwrap_err();
        assert!(matches!(error, Error::Device { .. }));
    }
}

#[test]
fn a_lost_device_answers_nothing() {
    if !present() {
        return;
    }
    let device = shaped(|_| {});
    let mut x = device.rows(4, vec![1.0; 8]);
    assert_eq!(device.read(&x).unwrap(), [1.0; 8]);
    device.lose("pulled out");
    let y = device.rows(4, vec![1.0; 8]);
    device.add(&mut x, &y);
    for rows in [&x, &y] {
        let error = device.read(rows).unwrap_err();
        assert!(matches!(&error, Error::Device { .. }) && error.to_string().contains("pulled out"));
    }
    assert!(device.vector(&[1.0]).is_err());
}
