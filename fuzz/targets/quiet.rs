//! Panics of the tokenizer library are caught and become refusals; the fuzzer would take each for a find.

use std::panic;
use std::sync::Once;

/// Lets the fuzzer see every panic but that library's.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let file = panic.location().map_or("", |place| place.file());
            if !file.contains("kitoken") {
                told(panic);
            }
        }));
    });
}
