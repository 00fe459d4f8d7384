//! Conformance of the first Vulkan device here, lavapipe in CI: equal to the definition in every shape.
//!
//! Without a device the tests say so and pass; with `WEFT_NEED_VULKAN=1` (CI) that is a failure.
#![cfg(feature = "vulkan")]
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/device.rs"]
mod device;

use device::{present, shaped};
use inference::backend::vulkan::shader::Shape;
use inference::backend::vulkan::{Vulkan, gpu};
use inference::backend::{Backend, Batch, CacheShape, Heads, Host, Place, conformance};
use inference::weight::{Matrix, Width};
use inference::{Error, Profile};

/// Whether the first device's subgroups multiply matrices of bytes; says loudly where not.
fn multiplies() -> bool {
    let tile = present() && gpu::devices().unwrap()[0].tile.is_some();
    assert!(
        tile || std::env::var_os("WEFT_NEED_MATRIX").is_none(),
        "no cooperative matrices of bytes"
    );
    if !tile {
        eprintln!("SKIPPED: no cooperative matrices of bytes here");
    }
    tile
}

fn conforms(device: &Vulkan, seed: u64, values: u64) {
    let tally = conformance::compare(device, &Host::scalar(), seed, values).unwrap();
    println!(
        "{} in shape {:?}: {} values",
        device.name(),
        device.shape(),
        tally.compared()
    );
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
    let shapes = [
        (8, 1, 1, 1, false, false),
        (256, 128, 3, 8, false, true),
        (64, 8, 4, 64, true, false),
    ];
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
        assert!(
            output.status.success(),
            "{width} bits: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        if text.contains("llvmpipe") {
            assert!(text.contains(&format!("subgroups of {lanes}")), "{text}");
        }
    }
}

/// Products of many rows; older lavapipe has no cooperative matrices, and `WEFT_NEED_MATRIX=1` insists on them.
#[test]
fn cooperative_matrices_give_the_same_bits() {
    if multiplies() {
        for workgroup in [8, 128] {
            let device = shaped(|shape| (shape.tiles, shape.workgroup, shape.lanes) = (true, workgroup, 8));
            conforms(&device, u64::from(workgroup), 100_000);
        }
    }
}

/// Weights and activations whose bytes give the largest sums of either sign over the most columns there are.
#[test]
fn cooperative_matrices_hold_the_largest_sums() {
    if !multiplies() {
        return;
    }
    const COLS: usize = 65536;
    let (device, host) = (shaped(|shape| shape.tiles = true), Host::scalar());
    let edges: [i16; 3] = [4095, -4095, 0];
    for (width, code) in [
        (Width::Four, 0_u8),
        (Width::Five, -16_i8 as u8),
        (Width::Eight, 127),
    ] {
        let mut w = Matrix::new(3, COLS, width).unwrap();
        w.codes = vec![code; 3 * COLS / if width == Width::Four { 2 } else { 1 }];
        w.multipliers = edges.iter().flat_map(|m| vec![*m; COLS / 32]).collect();
        if width == Width::Five {
            w.offsets = edges
                .iter()
                .flat_map(|m| vec![-m.signum() * 32767; COLS / 32])
                .collect();
        }
        w.exponents = vec![0; 3];
        w.check().unwrap();
        // 32639 in every column, of either sign, then numbers whose low bytes are all -128.
        let row = |value: f32| vec![value; COLS];
        let mut x = [row(32639.0), row(-32639.0), row(-32640.0 + 256.0), row(128.0)].concat();
        x[3 * COLS] = 32639.0;
        x.extend(std::iter::repeat_n(1.0, 29 * COLS));
        for profile in [Profile::A16, Profile::A8] {
            let on = |x: &[f32]| device.quantise(&device.rows(COLS, x.to_vec()), profile);
            let got = device
                .read(&device.linear(&device.matrix(&w).unwrap(), &on(&x), None))
                .unwrap();
            let truth = host.quantise(&host.rows(COLS, x.clone()), profile);
            let truth = host
                .read(&host.linear(&host.matrix(&w).unwrap(), &truth, None))
                .unwrap();
            assert!(got == truth, "{width:?} {profile:?}");
            assert!(got.iter().any(|v| v.abs() > 1e12) && got.iter().any(|v| *v < -1e12));
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

/// A workgroup smaller than a subgroup leaves lanes out of its sums: as wrong as a bad driver would be.
#[test]
fn a_device_that_differs_is_refused() {
    if !present() || gpu::devices().unwrap()[0].subgroup <= 4 {
        return;
    }
    let device = shaped(|shape| (shape.workgroup, shape.lanes, shape.subgroup) = (4, 4, true));
    let error = device.prove().unwrap_err().to_string();
    assert!(error.contains("refused") && error.contains("differs"), "{error}");
}

/// Even a device that was lost while it proved itself: it is opened anew.
#[test]
fn a_form_that_fails_gives_way_to_a_plainer_one() {
    if !present() {
        return;
    }
    let lost = shaped(|shape| shape.tiles = true);
    lost.lose("its driver failed");
    let shape = lost.shape();
    let device = lost.proved(0).unwrap();
    assert_eq!(
        device.shape(),
        Shape {
            tiles: false,
            ..shape
        }
    );
    conforms(&device, 5, 10_000);
    if gpu::devices().unwrap()[0].subgroup > 4 {
        let wrong = shaped(|shape| (shape.workgroup, shape.lanes, shape.subgroup) = (4, 4, true));
        let device = wrong.proved(0).unwrap();
        assert!(!device.shape().subgroup && !device.shape().soft);
    }
}

/// Attention over what was stored, after so many steps that nobody has read yet and before uploads of other things.
fn attended<B: Backend>(backend: &B, steps: usize) -> Vec<f32> {
    let shape = CacheShape {
        layers: 1,
        heads: 1,
        dim: 32,
        pages: 8,
    };
    let mut cache = backend.cache(shape).unwrap();
    let numbers = |from: usize| (0..3 * 32).map(|i| ((i * 37 + from) % 19) as f32 - 9.0).collect();
    let [q, k, v] = [1, 5, 11].map(|from| backend.rows(32, numbers(from)));
    let place = |position| Place {
        sequence: 0,
        position,
        from: 0,
        to: position + 1,
    };
    // The page is the last one: any other word in its place is another page.
    let batch = Batch {
        places: (0..3).map(place).collect(),
        tables: vec![vec![7]],
    };
    let (mut x, one) = (backend.rows(1, vec![0.0]), backend.rows(1, vec![1.0]));
    (0..steps).for_each(|_| backend.add(&mut x, &one));
    let heads = Heads {
        query: 1,
        kv: 1,
        dim: 32,
        scale: 0.1,
        cap: 0.0,
        profile: Profile::A16,
    };
    let spoil = || drop(backend.rows(1, vec![0.0; 1000]));
    backend.store(&mut cache, 0, &k, &v, &batch);
    spoil();
    let seen = backend.attend(&q, &cache, 0, &heads, &batch);
    spoil();
    backend.take(seen).unwrap()
}

/// A list that grows too long is run between two operators, never between two steps of one that share what was uploaded.
#[test]
fn a_long_list_of_steps_gives_the_same_bits() {
    if !present() {
        return;
    }
    let (device, expected) = (shaped(|_| {}), attended(&Host::scalar(), 0));
    for missing in 0..14 {
        assert_eq!(attended(&device, 8192 - missing), expected, "{missing}");
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
