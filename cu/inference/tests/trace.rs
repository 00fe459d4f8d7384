//! Traces: equal wherever they are made, and a wrong operator is named.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use inference::Profile;
use inference::backend::{Host, Level};
use inference::gguf::Gguf;
use inference::trace::{Trace, trace};
use support::forge::{self, Shape};

fn shape(family: &'static str) -> Shape {
    Shape {
        family,
        untied: family == "llama",
        ..Shape::tiny()
    }
}

fn of(host: Host, file: &[u8], tokens: &[u32]) -> Trace {
    trace(host, &Gguf::parse(file).unwrap(), Profile::A16, tokens).unwrap()
}

#[test]
fn honest_traces_are_equal_and_a_wrong_weight_is_named() {
    for (family, product) in [("llama", "product"), ("gemma2", "product")] {
        let file = forge::model(&shape(family), "Q8_0", 3);
        let tokens: Vec<u32> = (0..40).map(|i| i * 7 % 300).collect();
        let truth = of(Host::scalar(), &file, &tokens);
        let other = of(Host::new(Level::best(), 2), &file, &tokens);
        assert_eq!(truth, other);
        assert_eq!(truth.first_difference(&other).unwrap(), None);
        assert_eq!(
            (
                truth.steps[0].operator.as_str(),
                truth.steps.last().unwrap().layer
            ),
            ("embedding", 2)
        );
        // Another weight in the second layer's gate, and nowhere else.
        let mut wrong = file.clone();
        let parsed = Gguf::parse(&file).unwrap();
        let gate = parsed.range("blk.1.ffn_gate.weight").unwrap();
        wrong[gate.start + 2] ^= 0x40;
        let wrong = of(Host::scalar(), &wrong, &tokens);
        let first = truth.first_difference(&wrong).unwrap().unwrap();
        assert_eq!((first.layer, first.operator.as_str()), (1, product));
        let before = truth.steps.iter().take_while(|step| *step != first);
        assert_eq!(
            before
                .filter(|step| step.layer == 1 && step.operator == "attention")
                .count(),
            1
        );
        assert!(
            truth
                .first_difference(&of(Host::scalar(), &file, &tokens[1..]))
                .is_err()
        );
    }
}
