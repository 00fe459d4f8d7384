//! A process that computes on the processor loads no graphics driver: what a driver does to a process is no part of an
//! answer, and it may be broken. A test binary of its own, as one that opened a device would show it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::Profile;
use inference::device::{Device, Room};
use inference::encoder::{Config, Pooling};
use inference::engine::{Sequence, Wanted};
use inference::gguf::Gguf;
use inference::safetensors::Safetensors;
use support::forge::{self, Shape};

/// Files mapped into this process whose names speak of Vulkan.
fn drivers() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let named = |file: &&str| {
        let name = file.rsplit('/').next().unwrap_or_default();
        name.contains("vulkan") && name.contains(".so")
    };
    files.filter(named).map(str::to_owned).collect()
}

#[test]
fn computing_on_the_processor_loads_no_driver() {
    let bytes = forge::llama(&Shape::tiny(), "Q8_0");
    let file = Gguf::parse(&bytes).unwrap();
    let (config, weights) = forge::bert(64, 96, 64, 3);
    for device in [Device::Cpu, Device::Scalar] {
        let mut decoder = device.decoder(2, &file, Profile::A16, Room::one(64)).unwrap();
        let mut sequence = Sequence::default();
        let logits = decoder.extend(&mut sequence, &[1, 2, 3], Wanted::Last).unwrap();
        assert_eq!(logits.len(), 1);
        let (config, weights) = (
            Config::read(&config).unwrap(),
            Safetensors::parse(&weights).unwrap(),
        );
        let encoder = device.encoder(2, config, &weights, Profile::A16, Pooling::Mean);
        assert_eq!(encoder.unwrap().embed(&[&[1, 2, 3]]).unwrap().len(), 1);
        assert!(device.prove(1).is_ok());
        // With the decoder still there: what it needs is loaded now.
        assert_eq!(
            drivers(),
            Vec::<String>::new(),
            "{device} with {}",
            decoder.device()
        );
    }
    // Where there is a device, one that is open shows: so a driver above would have been seen.
    #[cfg(feature = "vulkan")]
    if let Ok(gpu) = inference::backend::vulkan::gpu::Gpu::open(0) {
        assert!(!drivers().is_empty(), "{} is open and not found", gpu.facts.name);
    }
}
