//! Conformance of the first Vulkan device here, lavapipe in CI: equal to the definition in every shape.
//!
//! Without a device the tests say so and pass; with `WEFT_NEED_VULKAN=1` (CI) that is a failure.
#![cfg(feature = "vulkan")]

use inference::Error;
use inference::backend::vulkan::gpu::{self, Gpu};
use inference::backend::vulkan::shader::Shape;
use inference::backend::vulkan::{Vulkan, conformance, usual};
use inference::backend::{Backend, Host};

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
        conforms(&Vulkan::open(0).unwrap(), 2, 300_000);
    }
}

#[test]
fn every_shape_gives_the_same_bits() {
    if !present() {
        return;
    }
    for (workgroup, lanes, tokens, spans) in [(8, 1, 1, 1), (32, 32, 4, 2), (64, 8, 8, 64), (256, 128, 3, 8)] {
        for dot in [true, false] {
            let device = shaped(|shape| {
                (shape.workgroup, shape.lanes, shape.tokens, shape.spans) = (workgroup, lanes, tokens, spans);
                shape.dot &= dot;
            });
            conforms(&device, u64::from(workgroup), 100_000);
        }
    }
}

#[test]
fn subgroup_sums_give_the_same_bits() {
    if !present() || gpu::devices().unwrap()[0].subgroup == 0 {
        return;
    }
    for workgroup in [32, 64, 256] {
        let device = shaped(|shape| (shape.workgroup, shape.subgroup) = (workgroup, true));
        conforms(&device, u64::from(workgroup) + 1, 100_000);
    }
}

#[test]
fn floats_in_integers_give_the_same_bits() {
    if present() {
        conforms(&shaped(|shape| shape.soft = true), 3, 300_000);
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
