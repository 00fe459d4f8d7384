//! The service on the first Vulkan device here: the answers of the CPU, also when the device is lost midway; and a device
//! asked for by name never falls back. Without a device the tests say so and pass.
#![cfg(feature = "vulkan")]
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/device.rs"]
mod device;
mod support;

use std::sync::Arc;

use device::{present, shaped};
use inference::backend::vulkan::Vulkan;
use inference::decoder::Decoder;
use inference::device::{Device, Embed as Encode};
use inference::engine::{Engine, Logits, Part, Sequence, Wanted};
use inference::generate::Decode;
use inference::gguf::Gguf;
use inference::service::*;
use inference::{Error, Profile};
use support::forge::{self, Shape};

struct One(Vec<u8>);

impl Models for One {
    fn bytes(&self, _: &str) -> Result<Blob, Refusal> {
        Ok(Arc::new(self.0.clone()))
    }
}

fn one() -> Arc<One> {
    Arc::new(One(forge::model(&Shape::tiny(), "Q8_0", 11)))
}

fn config(device: Device) -> Config {
    Config {
        device,
        threads: 1,
        positions_max: 128,
        batch_max: 8,
        ..Config::default()
    }
}

fn ask(n: u8) -> Generate {
    let prompt = (0..20 + u32::from(n)).map(|i| i * 7 % 300).collect();
    let mut ask = Generate::new(ModelRef::named("one"), Prompt::Tokens(prompt));
    (ask.settings.temperature, ask.settings.seed, ask.tokens_max) = (0.8, [n; 32], Some(12));
    ask
}

fn answers(service: &Service) -> Vec<Result<Generated, Refusal>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| scope.spawn(move || service.generate(&ask(n))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A real device that is lost after some steps.
struct Losing {
    engine: Engine<Vulkan>,
    steps_left: usize,
}

impl Decode for Losing {
    fn extend(&mut self, sequence: &mut Sequence, new: &[u32], wanted: Wanted) -> Result<Vec<Logits>, Error> {
        Decode::extend(&mut self.engine, sequence, new, wanted)
    }

    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<Logits>>, Error> {
        match self.steps_left.checked_sub(1) {
            Some(left) => self.steps_left = left,
            None => self.engine.decoder().backend().lose("pulled out"),
        }
        self.engine.step(parts)
    }

    fn vector(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        self.engine.vector(tokens)
    }

    fn fork(&mut self, sequence: &Sequence, length: usize) -> Sequence {
        self.engine.fork(sequence, length)
    }

    fn end(&mut self, sequence: Sequence) {
        self.engine.end(sequence);
    }

    fn free(&self) -> usize {
        self.engine.free()
    }

    fn device(&self) -> String {
        self.engine.device()
    }

    fn profile(&self) -> Profile {
        self.engine.profile()
    }

    fn vocabulary(&self) -> usize {
        self.engine.vocabulary()
    }

    fn gas(&self, prompt: usize, tokens: usize) -> u64 {
        self.engine.gas(prompt, tokens)
    }
}

struct LosingDevices(usize);

impl Devices for LosingDevices {
    fn decoder(
        &self,
        config: &Config,
        bytes: &[u8],
        model: &ModelRef,
        fallback: bool,
    ) -> Result<Box<dyn Decode>, Refusal> {
        if fallback {
            return Machine.decoder(config, bytes, model, true);
        }
        let file = Gguf::parse(bytes)?;
        let decoder = Decoder::load(shaped(|_| {}), &file, model.profile, config.positions_max)?;
        Ok(Box::new(Losing {
            engine: Engine::new(decoder, 1024)?,
            steps_left: self.0,
        }))
    }

    fn encoder(
        &self,
        config: &Config,
        bytes: &[u8],
        model: &ModelRef,
        fallback: bool,
    ) -> Result<Box<dyn Encode>, Refusal> {
        Machine.encoder(config, bytes, model, fallback)
    }
}

#[test]
fn a_real_device_answers_as_the_cpu_and_may_be_lost() {
    if !present() {
        return;
    }
    let truth = answers(&Service::open(config(Device::Cpu), one()));
    assert!(truth.iter().all(Result::is_ok));
    let named = Service::open(config(Device::Vulkan(0)), one());
    assert!(answers(&named) == truth);
    assert!(
        !named.loaded()[0].device.starts_with("cpu"),
        "{:?}",
        named.loaded()
    );
    for steps in [1, 6] {
        let service = Service::open_on(config(Device::Auto), one(), Arc::new(LosingDevices(steps)));
        assert!(answers(&service) == truth, "lost after {steps} steps");
        assert!(service.loaded()[0].device.starts_with("cpu"));
        let service = Service::open_on(config(Device::Vulkan(0)), one(), Arc::new(LosingDevices(steps)));
        for (answer, truth) in answers(&service).iter().zip(&truth) {
            // Whoever was not answered before the loss is told that there is no answer.
            assert!(
                answer == truth || matches!(answer, Err(Refusal::Unavailable(_))),
                "{answer:?}"
            );
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_refused_and_auto_skips_the_processor() {
    let service = Service::open(config(Device::Vulkan(97)), one());
    let refusal = service.generate(&ask(0)).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unavailable(Unavailable::Device(_))),
        "{refusal}"
    );
    let auto = Service::open(config(Device::Auto), one());
    assert_eq!(
        auto.generate(&ask(0)),
        Service::open(config(Device::Scalar), one()).generate(&ask(0))
    );
    for found in Device::all(1) {
        assert!(!found.name.is_empty());
    }
}
