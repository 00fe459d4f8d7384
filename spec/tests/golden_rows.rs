//! The golden outcomes of aos are well-formed, complete, and their reader can tell right from wrong.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod golden;

use golden::Golden;
use serde_json::{Value, json};

fn golden() -> Golden {
    Golden::read(include_str!("../vectors/aos_golden.json"))
}

#[test]
fn every_row_is_there_and_says_something_of_every_build() {
    let golden = golden();
    let rows: Vec<&str> = golden.rows.iter().map(|row| row.row.as_str()).collect();
    for number in 0..=15 {
        assert!(
            rows.contains(&number.to_string().as_str()),
            "row {number} is missing"
        );
    }
    assert!(golden.about.contains("measured") && golden.modules.len() == 4);
    let env: Value = serde_json::from_str(golden.env.get()).unwrap();
    assert_eq!(env["Process"]["Id"], "P".repeat(43));
    for (index, row) in golden.rows.iter().enumerate() {
        assert!(!row.what.is_empty());
        let message: Value = serde_json::from_str(row.message.get()).unwrap();
        assert_eq!(
            message["Timestamp"],
            1_700_000_000_000u64 + index as u64,
            "row {}",
            row.row
        );
        assert_eq!(message["Target"], env["Process"]["Id"], "row {}", row.row);
        for module in golden.modules.keys() {
            let known = row.expect.iter().filter(|f| f.modules.contains(module)).count();
            assert!(known > 0, "row {} says nothing of {module}", row.row);
        }
        for fragment in &row.expect {
            assert!(
                fragment.at.starts_with('/') && !fragment.modules.is_empty(),
                "row {}",
                row.row
            );
            assert!(
                fragment
                    .modules
                    .iter()
                    .all(|module| golden.modules.contains_key(module))
            );
        }
    }
}

#[test]
fn the_reader_accepts_a_true_outcome_and_names_what_is_wrong_in_a_false_one() {
    let golden = golden();
    let row = golden.rows.iter().find(|row| row.row == "11").unwrap();
    let outcome = json!({"Assignments": [{"Processes": ["A"], "Message": "M"}]});
    assert!(row.failures("2.0.1", &outcome).is_empty());
    let failures = row.failures("2.0.1", &json!({"Assignments": []}));
    assert!(
        failures.len() == 1 && failures[0].contains("/Assignments"),
        "{failures:?}"
    );
    // An outcome that says nothing fails every row.
    for row in &golden.rows {
        let empty = row.failures("2.0.1", &Value::Null);
        let silent = row
            .expect
            .iter()
            .all(|f| matches!(f.check, golden::Check::Absent(true)));
        assert!(silent || !empty.is_empty(), "row {} asks nothing", row.row);
    }
}
