//! Reads `vectors/aos_golden.json`: messages to an aos process, and what is known of each outcome.
//!
//! A test of any crate takes this file in by its path and holds an evaluator against it. Not here:
//! an evaluator, a module's bytes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Where the facts come from.
    pub about: String,
    /// The module builds that fragments name, and the format of each.
    pub modules: BTreeMap<String, String>,
    /// The second argument of every evaluation.
    pub env: Box<RawValue>,
    /// In the order of evaluation; the state of a row without an error goes into the next one.
    pub rows: Vec<Row>,
}

/// One message and what is known of its outcome.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name.
    pub row: String,
    /// What it shows.
    pub what: String,
    /// The first argument of the evaluation.
    pub message: Box<RawValue>,
    /// Parts of the outcome.
    pub expect: Vec<Fragment>,
}

/// One part of an outcome, and the builds it was seen on.
#[derive(Debug, Deserialize)]
pub struct Fragment {
    /// A JSON pointer into the outcome.
    pub at: String,
    /// What stands there.
    #[serde(flatten)]
    pub check: Check,
    /// Builds for which it holds.
    pub modules: Vec<String>,
}

/// What stands at a place of an outcome.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Exactly this.
    Is(Value),
    /// A text that starts so.
    Starts(String),
    /// A list of this length.
    Length(usize),
    /// A list of tags with this one among them.
    Tag(Value),
    /// Nothing.
    Absent(bool),
}

impl Golden {
    /// Reads the file's text.
    pub fn read(text: &str) -> Golden {
        let golden: Golden = serde_json::from_str(text).expect("the golden file is well-formed");
        let named = golden
            .rows
            .iter()
            .flat_map(|row| &row.expect)
            .flat_map(|fragment| &fragment.modules);
        let unknown: Vec<_> = named
            .filter(|module| !golden.modules.contains_key(*module))
            .collect();
        assert!(
            unknown.is_empty(),
            "{}: builds that are not listed: {unknown:?}",
            golden.about
        );
        golden
    }
}

impl Row {
    /// What a build's outcome should have shown and did not; empty if all is well.
    pub fn failures(&self, module: &str, outcome: &Value) -> Vec<String> {
        let known = self
            .expect
            .iter()
            .filter(|fragment| fragment.modules.iter().any(|m| m == module));
        let failed = known.filter(|fragment| !fragment.holds(outcome));
        let tell = |f: &Fragment| {
            let found = outcome.pointer(&f.at).unwrap_or(&Value::Null);
            format!(
                "row {} ({}) on {module}: {} should be {:?}, is {found}",
                self.row, self.what, f.at, f.check
            )
        };
        failed.map(tell).collect()
    }
}

impl Fragment {
    fn holds(&self, outcome: &Value) -> bool {
        let found = outcome.pointer(&self.at);
        match &self.check {
            Check::Is(value) => found == Some(value),
            Check::Starts(start) => found
                .and_then(Value::as_str)
                .is_some_and(|text| text.starts_with(start)),
            Check::Length(length) => found
                .and_then(Value::as_array)
                .is_some_and(|list| list.len() == *length),
            Check::Tag(tag) => found
                .and_then(Value::as_array)
                .is_some_and(|list| list.contains(tag)),
            Check::Absent(absent) => found.is_none() == *absent,
        }
    }
}
