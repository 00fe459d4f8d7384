//! The GGUF reader against files that somebody broke: no panic, no growth, a refusal that says what.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::gguf::{Gguf, Value};
use support::forge::{self, Shape};

#[test]
fn a_file_reads_back() {
    let bytes = forge::llama(&Shape::tiny(), "Q8_0");
    let file = Gguf::parse(&bytes).unwrap();
    assert_eq!(file.text("general.architecture"), Some("llama"));
    assert_eq!(file.value("llama.block_count"), Some(Value::Whole(2)));
    assert_eq!(
        file.list("tokenizer.ggml.tokens").unwrap().texts().count(),
        Shape::tiny().vocabulary
    );
    let shape = Shape::tiny();
    assert!(
        file.matrix("token_embd.weight", shape.vocabulary, shape.width)
            .is_ok()
    );
    assert!(
        file.matrix("token_embd.weight", shape.vocabulary + 1, shape.width)
            .is_err()
    );
    assert!(file.vector("output_norm.weight", shape.width).is_ok());
}

#[test]
fn every_cut_is_refused_or_read() {
    let bytes = forge::llama(&Shape::tiny(), "Q4_0");
    for length in (0..bytes.len() - 1).step_by(7) {
        assert!(
            Gguf::parse(&bytes[..length]).is_err(),
            "{length} bytes of {}",
            bytes.len()
        );
    }
}

#[test]
fn numbers_written_in_a_file_do_not_make_it_grow() {
    let bytes = forge::llama(&Shape::tiny(), "Q8_0");
    for at in [8, 16] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Gguf::parse(&bytes).unwrap_err().to_string().contains("limit"));
    }
}
