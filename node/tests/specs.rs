//! `weft test` and `weft new` as a person meets them, and the specs of everything in `processes`.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use support::weft;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn fixtures() -> PathBuf {
    root().join("node/tests/fixtures")
}

fn run(folder: &Path, args: &[&str]) -> Output {
    weft().current_dir(folder).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs tests that must all pass; answers standard output.
fn passes(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
    text(&output.stdout)
}

fn json(folder: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let output = run(folder, &[&["test", "--json"], args].concat());
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).unwrap(),
    )
}

/// Each test as `name: status`.
fn statuses(report: &Value) -> Vec<String> {
    let files = report["files"].as_array().unwrap().iter();
    let tests = files.flat_map(|file| file["tests"].as_array().unwrap());
    let line = |test: &Value| {
        let names: Vec<_> = test["names"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_str().unwrap())
            .collect();
        format!("{}: {}", names.join(" > "), test["status"].as_str().unwrap())
    };
    tests.map(line).collect()
}

#[test]
fn the_specs_of_our_processes_pass() {
    passes(&root(), &["test", "processes"]);
}

#[test]
fn the_words_of_busted_and_the_helpers_for_processes_hold() {
    let (code, report) = json(&fixtures(), &["specs"]);
    let bad: Vec<_> = statuses(&report)
        .into_iter()
        .filter(|s| s.ends_with("failed") || s.ends_with("error"))
        .collect();
    assert!(bad.is_empty() && code == Some(0), "{bad:?}");
    assert!(
        report["pending"] == 3 && report["passed"].as_u64().unwrap() > 45,
        "{report}"
    );
}

#[test]
fn failures_are_told_with_place_and_cause() {
    let (code, report) = json(&fixtures(), &["failing", "--timeout", "1"]);
    assert_eq!(code, Some(1));
    let tests: Vec<&Value> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|f| f["tests"].as_array().unwrap())
        .collect();
    let told: Vec<_> = tests
        .iter()
        .map(|test| {
            let message = test["message"]
                .as_str()
                .unwrap_or("")
                .lines()
                .last()
                .unwrap_or("")
                .to_owned();
            let status = test["status"].as_str().unwrap().to_owned();
            (test["at"]["line"].as_u64().unwrap_or(0), status, message)
        })
        .collect();
    let expected = [
        (5, "failed", "  at .alice: expected 90, got 100"),
        (10, "failed", "passed:   false"),
        (
            17,
            "error",
            "failing/fails_spec.lua:17: attempt to index a nil value (local 'nothing')",
        ),
        (
            22,
            "error",
            "failing/broken_process.lua:4: attempt to index a nil value (local 'nothing')",
        ),
        (26, "error", "{ code = 7 }"),
        (31, "failed", "passed:   false"),
        (35, "error", "failing/fails_spec.lua:35: at the end"),
        (39, "error", "the test runs for more than 1 s (--timeout)"),
        (0, "passed", ""),
        (47, "error", "failing/fails_spec.lua:47: in the block"),
        (51, "error", "failing/fails_spec.lua:51: in the setup"),
        (
            3,
            "error",
            "failing/syntax_spec.lua:3: unexpected symbol near '='",
        ),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((line, status, message), (at, wanted, end)) in told.iter().zip(expected) {
        assert!(
            *line == at && status == wanted && message.ends_with(end),
            "{line} {status} {message}, not {end}"
        );
    }
}

#[test]
fn people_see_the_code_and_the_place_in_the_process() {
    let output = run(
        &fixtures(),
        &["test", "failing", "--filter", "errors of a process"],
    );
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    for part in [
        "error failures > may be errors of a process, with its own file and line\n  failing/fails_spec.lua:22\n",
        "  >   22 |     p:eval(\"Break()\")\n",
        "  failing/broken_process.lua:4\n",
        "  >    4 |   return nothing.field\n",
    ] {
        assert!(said.contains(part), "{said}\nlacks {part}");
    }
    assert!(!said.contains('\x1b'), "no colours where nobody looks");
}

#[test]
fn one_seed_is_one_run() {
    let printed = |seed: &str| {
        let (_, report) = json(
            &fixtures(),
            &["specs/process_spec.lua", "--filter", "ids", "--seed", seed],
        );
        assert_eq!(report["tests"], 1);
        report["files"][0]["tests"][0]["printed"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(printed("7"), printed("7"));
    assert_ne!(printed("7"), printed("8"));
}

#[test]
fn nothing_to_run_is_a_mistake_of_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    for (args, said) in [
        (&["test"][..], "no *_spec.lua under ."),
        (&["test", "gone"][..], "gone is not there"),
        (&["test", "--coverag"][..], "--coverage"),
        (&["new", "../x"][..], "cannot be a project's name"),
    ] {
        let output = run(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).contains(said),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    let output = run(&fixtures(), &["test", "specs", "--filter", "no such test"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn machines_read_tap_and_junit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.xml");
    let tap = text(
        &run(
            &fixtures(),
            &[
                "test",
                "--tap",
                "--junit",
                file.to_str().unwrap(),
                "specs",
                "failing",
                "--timeout",
                "1",
            ],
        )
        .stdout,
    );
    let mut lines = tap.lines();
    assert_eq!(lines.next(), Some("TAP version 14"));
    let count: usize = lines
        .next()
        .unwrap()
        .strip_prefix("1..")
        .unwrap()
        .parse()
        .unwrap();
    let results: Vec<_> = lines
        .filter(|line| line.starts_with("ok ") || line.starts_with("not ok "))
        .collect();
    assert_eq!(results.len(), count);
    for (at, line) in results.iter().enumerate() {
        assert!(line.contains(&format!("ok {} - ", at + 1)), "{line}");
    }
    let xml = std::fs::read_to_string(file).unwrap();
    assert_eq!(well_formed(&xml), count);
}

/// Checks that elements nest; answers how many test cases there are.
fn well_formed(xml: &str) -> usize {
    let mut open = Vec::new();
    let mut cases = 0;
    let body = xml
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
        .unwrap();
    for part in body.split('<').skip(1) {
        let (tag, rest) = part.split_once('>').unwrap();
        assert!(!rest.contains('>'), "a bare > after <{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        cases += usize::from(name == "testcase" && !tag.starts_with('/'));
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name), "{xml}"),
            (false, true) => {}
            (false, false) => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
    cases
}

#[test]
fn lines_of_processes_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lcov.info");
    let coverage = format!("--coverage={}", file.display());
    let said = passes(
        &fixtures(),
        &[
            "test",
            "specs/process_spec.lua",
            "--filter",
            "whatever turn",
            &coverage,
        ],
    );
    let lcov = std::fs::read_to_string(file).unwrap();
    let of = |path: &str| {
        let start = lcov
            .find(&format!("SF:{path}\n"))
            .unwrap_or_else(|| panic!("no {path} in {lcov}"));
        lcov[start..].split("end_of_record").next().unwrap().to_owned()
    };
    let counter = of("specs/counter.lua");
    // Three tests with two messages each; the handler that nobody calls is not run.
    assert!(
        counter.contains("DA:5,6\n") && counter.contains("DA:10,0\n"),
        "{counter}"
    );
    let step = of("specs/step.lua");
    assert!(step.contains("DA:5,3\n") && step.contains("DA:7,3\n"), "{step}");
    assert!(said.contains("specs/counter.lua  not 10\n"), "{said}");
}

#[test]
fn new_projects_pass_their_tests_and_overwrite_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for template in ["token", "chat", "blank"] {
        let name = format!("my-{template}");
        passes(folder.path(), &["new", &name, "--template", template]);
        let project = folder.path().join(&name);
        let said = passes(&project, &["test"]);
        assert!(said.contains("passed") && !said.contains("pending"), "{said}");
        for file in [
            ".luarc.json",
            "library/ao.lua",
            "library/spec.lua",
            "README.md",
            ".github/workflows/test.yml",
        ] {
            assert!(project.join(file).is_file(), "{name}/{file}");
        }
        let luarc = std::fs::read(project.join(".luarc.json")).unwrap();
        assert!(serde_json::from_slice::<Value>(&luarc).is_ok());
        let again = run(folder.path(), &["new", &name]);
        assert_eq!(again.status.code(), Some(2));
        assert!(text(&again.stderr).contains("is there already"));
    }
}

#[test]
fn the_benchmark_runs() {
    let said = passes(&root(), &["bench", "test", "--tests", "20", "--runs", "1"]);
    assert!(
        said.contains("20 tests, each one message to a forked process: "),
        "{said}"
    );
}
