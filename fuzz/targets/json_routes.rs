//! Any text as what clients and other nodes send to the JSON routes: queries, outcomes, keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::contract::Field;
use spec::outcome::{OutAssignment, OutMessage, Outcome};
use spec::{ItemId, ProcessId, Refusal, Signer};
use wire::server::Params;

fuzz_target!(|text: &str| {
    let params = Params::parse(text);
    let _ = (
        params.id::<ProcessId>("process-id"),
        params.number::<u64>("limit"),
    );
    let _ = params.get("exclude").map(Field::parse_list);
    assert_eq!(wire::server::decode(&wire::server::encode(text)), text);
    if let Ok(id) = text.parse::<ItemId>() {
        assert_eq!(id.to_string(), text, "an id has one text");
    }
    if let Ok(outcome) = serde_json::from_str::<Outcome>(text) {
        let _ = serde_json::from_str::<Vec<OutMessage>>(outcome.messages.get());
        let _ = serde_json::from_str::<Vec<OutAssignment>>(outcome.assignments.get());
        assert!(serde_json::to_string(&outcome).is_ok());
    }
    let _ = (
        serde_json::from_str::<OutMessage>(text),
        serde_json::from_str::<Refusal>(text),
    );
    let _ = Signer::from_jwk(text).map_err(|error| error.to_string());
});
