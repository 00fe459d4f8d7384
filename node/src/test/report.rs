//! What came of a run, and the forms it is written in that machines read: JUnit XML, TAP and JSON.
//! Not here: the form for people (`text.rs`). The order is that of files and of tests in them.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// How a test ended.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All it asserts held.
    Passed,
    /// An assertion did not hold.
    Failed,
    /// It ended by an error.
    Error,
    /// It is not written yet, or said that it cannot run.
    Pending,
}

impl Status {
    /// From the runner's own word.
    pub fn from_word(word: &str) -> Status {
        match word {
            "passed" => Status::Passed,
            "failed" => Status::Failed,
            "pending" => Status::Pending,
            _ => Status::Error,
        }
    }

    /// Whether the run is one that failed.
    pub fn is_bad(self) -> bool {
        matches!(self, Status::Failed | Status::Error)
    }
}

/// A place in a file.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// One test.
#[derive(Serialize, Clone, Debug)]
pub struct TestReport {
    /// Its blocks' names and its own.
    pub names: Vec<String>,
    /// How it ended.
    pub status: Status,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where it went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// How it came there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What it printed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub printed: String,
    /// How long it took, in microseconds.
    pub elapsed_us: u64,
}

impl TestReport {
    /// Its name in one line.
    pub fn name(&self) -> String {
        self.names.join(" ")
    }

    /// Where to look first.
    pub fn best_place(&self) -> Option<&Place> {
        self.at.as_ref().or(self.place.as_ref())
    }
}

/// One file.
#[derive(Serialize, Clone, Debug)]
pub struct FileReport {
    /// The file.
    pub file: PathBuf,
    /// Its tests.
    pub tests: Vec<TestReport>,
    /// How long it took, in microseconds.
    pub elapsed_us: u64,
}

/// All of it.
#[derive(Debug)]
pub struct Report {
    /// Each file.
    pub files: Vec<FileReport>,
    /// How long the run took.
    pub elapsed: Duration,
}

/// How many of each.
#[derive(Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub tests: usize,
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Ended by an error.
    pub errors: usize,
    /// Pending.
    pub pending: usize,
}

impl Counts {
    /// Of some tests.
    pub fn of<'a>(tests: impl IntoIterator<Item = &'a TestReport>) -> Counts {
        let mut counts = Counts::default();
        for test in tests {
            counts.tests += 1;
            *match test.status {
                Status::Passed => &mut counts.passed,
                Status::Failed => &mut counts.failed,
                Status::Error => &mut counts.errors,
                Status::Pending => &mut counts.pending,
            } += 1;
        }
        counts
    }
}

impl Report {
    /// Every test with its file.
    pub fn tests(&self) -> impl Iterator<Item = &TestReport> {
        self.files.iter().flat_map(|file| &file.tests)
    }

    /// How many of each.
    pub fn counts(&self) -> Counts {
        Counts::of(self.tests())
    }

    /// Tests per second of the whole run.
    pub fn rate(&self) -> f64 {
        self.counts().tests as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }

    /// The run as one JSON document.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            counts: Counts,
            seconds: f64,
            tests_per_second: f64,
            files: &'a [FileReport],
        }
        let whole = Whole {
            counts: self.counts(),
            seconds: self.elapsed.as_secs_f64(),
            tests_per_second: self.rate().round(),
            files: &self.files,
        };
        serde_json::to_string(&whole).expect("texts and numbers are JSON")
    }

    /// The run as TAP, version 14.
    pub fn tap(&self) -> String {
        let mut out = format!("TAP version 14\n1..{}\n", self.counts().tests);
        for (at, test) in self.tests().enumerate() {
            tap_line(&mut out, at + 1, test);
        }
        out
    }

    /// The run as JUnit XML.
    pub fn junit(&self) -> String {
        let counts = self.counts();
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            out,
            "<testsuites name=\"weft test\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.6}\">",
            counts.tests,
            counts.failed,
            counts.errors,
            counts.pending,
            self.elapsed.as_secs_f64()
        );
        for file in &self.files {
            junit_suite(&mut out, file);
        }
        out.push_str("</testsuites>\n");
        out
    }
}

/// A description must not hold a line end, nor a `#` that would begin a directive.
fn tap_text(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('#', "\\#")
        .replace(['\n', '\r'], " ")
}

fn tap_line(out: &mut String, number: usize, test: &TestReport) {
    let ok = if test.status.is_bad() { "not ok" } else { "ok" };
    let skip = if test.status == Status::Pending {
        " # SKIP pending"
    } else {
        ""
    };
    let _ = writeln!(out, "{ok} {number} - {}{skip}", tap_text(&test.name()));
    if !test.status.is_bad() {
        return;
    }
    out.push_str("  ---\n");
    if let Some(place) = test.best_place() {
        // JSON texts are YAML texts.
        let _ = writeln!(out, "  file: {}\n  line: {}", json_text(&place.file), place.line);
    }
    let message = test.message.as_deref().unwrap_or("");
    let _ = writeln!(
        out,
        "  severity: {}",
        if test.status == Status::Failed {
            "fail"
        } else {
            "error"
        }
    );
    let _ = writeln!(out, "  message: {}\n  ...", json_text(message));
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// Text for XML 1.0: its five escapes; characters that it cannot hold become U+FFFD.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            c if (c as u32) < 0x20 || matches!(c as u32, 0xfffe | 0xffff) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn junit_suite(out: &mut String, file: &FileReport) {
    let counts = Counts::of(&file.tests);
    let name = xml(&file.file.display().to_string());
    let _ = writeln!(
        out,
        "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.6}\">",
        counts.tests,
        counts.failed,
        counts.errors,
        counts.pending,
        seconds(file.elapsed_us)
    );
    for test in &file.tests {
        junit_case(out, &name, test);
    }
    out.push_str("  </testsuite>\n");
}

fn junit_case(out: &mut String, suite: &str, test: &TestReport) {
    let place = test.place.as_ref();
    let line = place.map_or(String::new(), |place| {
        format!(" file=\"{}\" line=\"{}\"", xml(&place.file), place.line)
    });
    let _ = write!(
        out,
        "    <testcase classname=\"{suite}\" name=\"{}\"{line} time=\"{:.6}\">",
        xml(&test.name()),
        seconds(test.elapsed_us)
    );
    let message = test.message.as_deref().unwrap_or("");
    let first = xml(message.lines().next().unwrap_or(""));
    let at = test
        .best_place()
        .map_or(String::new(), |place| format!("{}:{}\n", place.file, place.line));
    let details = xml(&format!("{at}{message}\n{}", test.trace.as_deref().unwrap_or("")));
    let _ = match test.status {
        Status::Passed => Ok(()),
        Status::Pending => write!(out, "<skipped message=\"{first}\"/>"),
        Status::Failed => write!(
            out,
            "<failure message=\"{first}\" type=\"assertion\">{details}</failure>"
        ),
        Status::Error => write!(out, "<error message=\"{first}\" type=\"error\">{details}</error>"),
    };
    if !test.printed.is_empty() {
        let _ = write!(out, "<system-out>{}</system-out>", xml(&test.printed));
    }
    out.push_str("</testcase>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let test = |name: &str, status, message: Option<&str>| TestReport {
            names: vec!["a block".into(), name.into()],
            status,
            place: Some(Place {
                file: "a_spec.lua".into(),
                line: 3,
            }),
            message: message.map(str::to_owned),
            at: None,
            trace: None,
            printed: String::new(),
            elapsed_us: 1500,
        };
        let tests = vec![
            test("holds", Status::Passed, None),
            test(
                "#1 <breaks> & \"more\"",
                Status::Failed,
                Some("expected: 1\nbell \u{7}"),
            ),
            test("waits", Status::Pending, None),
        ];
        let file = FileReport {
            file: "a_spec.lua".into(),
            tests,
            elapsed_us: 4500,
        };
        Report {
            files: vec![file],
            elapsed: Duration::from_millis(5),
        }
    }

    #[test]
    fn tap_numbers_every_test_and_escapes_directives() {
        let expected = "TAP version 14\n1..3\nok 1 - a block holds\nnot ok 2 - a block \\#1 <breaks> & \"more\"\n  ---\n  file: \"a_spec.lua\"\n  line: 3\n  severity: fail\n  message: \"expected: 1\\nbell \\u0007\"\n  ...\nok 3 - a block waits # SKIP pending\n";
        assert_eq!(report().tap(), expected);
    }

    #[test]
    fn junit_escapes_what_xml_cannot_hold() {
        let xml = report().junit();
        assert!(xml.contains(r#"<testsuites name="weft test" tests="3" failures="1" errors="0" skipped="1" time="0.005000">"#), "{xml}");
        assert!(xml.contains(r#"name="a block #1 &lt;breaks&gt; &amp; &quot;more&quot;" file="a_spec.lua" line="3" time="0.001500"><failure message="expected: 1" type="assertion">a_spec.lua:3&#10;expected: 1&#10;bell "#), "{xml}");
        assert!(!xml.contains('\u{7}') && xml.contains("<skipped message=\"\"/>"));
    }

    #[test]
    fn json_counts_and_keeps_names() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(
            (&json["tests"], &json["failed"], &json["pending"]),
            (&3.into(), &1.into(), &1.into())
        );
        assert_eq!(json["tests_per_second"], 600.0);
        assert_eq!(json["files"][0]["tests"][0]["status"], "passed");
    }
}
