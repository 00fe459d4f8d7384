//! Any bytes as an encoder's package: no panic, and one that loads gives vectors on the grid.
#![no_main]

mod quiet;

use inference::Profile;
use inference::backend::Host;
use inference::encoder::Encoder;
use inference::math::canon;
use inference::package::Package;
use inference::safetensors::Safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    quiet::quiet();
    let Ok(file) = Safetensors::parse(input) else {
        return;
    };
    assert!(file.data().len() < input.len());
    let Ok(package) = Package::unpack(&file) else {
        return;
    };
    let (config, length) = (package.config.clone(), package.length);
    assert!((1..=config.max_position_embeddings).contains(&length));
    let tokens = package.tokenizer.encode_whole("a weft", length);
    let Ok(encoder) = Encoder::load(Host::scalar(), config, &file, Profile::A16, package.pooling) else {
        return;
    };
    // A tokenizer of another model may give tokens that this one has not: a refusal.
    for tokens in [tokens.unwrap_or_default(), vec![0]] {
        if let Ok(vectors) = encoder.embed(&[&tokens]) {
            assert_eq!(vectors[0].len(), encoder.config().hidden_size);
            assert!(vectors[0].iter().all(|v| v.to_bits() == canon(*v).to_bits()));
        }
    }
});
