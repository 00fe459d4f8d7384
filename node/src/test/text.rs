//! The report for people: a line for each file, then each failure with its place, its code and what differs.
//! Not here: forms for machines. Colours only where a person looks.

use std::fmt::Write;
use std::path::Path;

use super::coverage::FileLines;
use super::report::{Counts, FileReport, Place, Report, Status, TestReport};

/// Lines of code shown before and after the one that matters.
const AROUND: usize = 2;
/// Most failures that are shown whole.
const SHOWN_MAX: usize = 50;
/// Most tests named that fail like one that is shown.
const ALIKE_MAX: usize = 5;

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With colours.
    pub has_colours: bool,
    /// Every test by name.
    pub is_verbose: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        match self.has_colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
    fn good(self, text: &str) -> String {
        self.paint("32", text)
    }
    fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }
    fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
    fn waiting(self, text: &str) -> String {
        self.paint("33", text)
    }
}

/// The whole report.
pub fn write(report: &Report, coverage: Option<&[FileLines]>, style: Style) -> String {
    let mut out = String::new();
    for file in &report.files {
        file_line(&mut out, file, style);
    }
    let groups = alike(report.tests().filter(|test| test.status.is_bad()));
    for group in groups.iter().take(SHOWN_MAX) {
        failure(&mut out, group, style);
    }
    if groups.len() > SHOWN_MAX {
        let _ = writeln!(out, "\n... and {} more", groups.len() - SHOWN_MAX);
    }
    if let Some(files) = coverage {
        lines_covered(&mut out, files);
    }
    summary(&mut out, report, style);
    out
}

fn file_line(out: &mut String, file: &FileReport, style: Style) {
    let counts = Counts::of(&file.tests);
    let is_bad = counts.failed + counts.errors > 0;
    let mark = if is_bad {
        style.bad("not ok")
    } else {
        style.good("ok    ")
    };
    let time = style.faint(&format!("{:.1} ms", file.elapsed_us as f64 / 1e3));
    let _ = writeln!(
        out,
        "{mark} {}  {}  {time}",
        file.file.display(),
        tests(counts.tests)
    );
    if !style.is_verbose {
        return;
    }
    for test in &file.tests {
        let mark = match test.status {
            Status::Passed => style.good("ok"),
            Status::Pending => style.waiting("pending"),
            Status::Failed => style.bad("failed"),
            Status::Error => style.bad("error"),
        };
        let time = style.faint(&format!("{:.2} ms", test.elapsed_us as f64 / 1e3));
        let _ = writeln!(out, "       {mark} {}  {time}", test.names.join(" > "));
        for line in test.printed.lines() {
            let _ = writeln!(out, "         | {line}");
        }
    }
}

fn tests(count: usize) -> String {
    format!("{count} test{}", if count == 1 { "" } else { "s" })
}

/// Failures at one place with one text together: they are one mistake, told once.
fn alike<'a>(tests: impl Iterator<Item = &'a TestReport>) -> Vec<Vec<&'a TestReport>> {
    let mut groups: Vec<Vec<&TestReport>> = Vec::new();
    for test in tests {
        let is_same = |group: &&mut Vec<&TestReport>| {
            let first = group[0];
            first.message == test.message && first.best_place() == test.best_place()
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.push(test),
            None => groups.push(vec![test]),
        }
    }
    groups
}

fn failure(out: &mut String, group: &[&TestReport], style: Style) {
    let test = group[0];
    let word = if test.status == Status::Failed {
        "failed"
    } else {
        "error"
    };
    let _ = writeln!(out, "\n{} {}", style.bad(word), test.names.join(" > "));
    if let Some(place) = test.best_place() {
        let _ = writeln!(out, "  {}:{}", place.file, place.line);
        frame(out, place, style);
    }
    let message = test.message.as_deref().unwrap_or("");
    for line in without_place(message, test.best_place()).lines() {
        let _ = writeln!(out, "  {line}");
    }
    if let Some(place) = place_in(message, test.best_place()) {
        let _ = writeln!(out, "  {}:{}", place.file, place.line);
        frame(out, &place, style);
    }
    for line in test.trace.as_deref().unwrap_or("").lines() {
        let _ = writeln!(out, "  {}", style.faint(line));
    }
    if !style.is_verbose {
        for line in test.printed.lines() {
            let _ = writeln!(out, "  | {line}");
        }
    }
    for other in group[1..].iter().take(ALIKE_MAX) {
        let _ = writeln!(out, "  also: {}", other.names.join(" > "));
    }
    if group.len() > ALIKE_MAX + 1 {
        let _ = writeln!(out, "  also: {} more", group.len() - ALIKE_MAX - 1);
    }
}

/// A message without the place at its head, if that is shown already.
fn without_place<'a>(message: &'a str, shown: Option<&Place>) -> &'a str {
    let head = shown.map_or(String::new(), |place| format!("{}:{}: ", place.file, place.line));
    message.strip_prefix(&head).unwrap_or(message)
}

/// The first other place that an error names, such as `token.lua:12:`, whose file is here.
fn place_in(message: &str, shown: Option<&Place>) -> Option<Place> {
    let ends = message.match_indices(".lua:");
    let mut places = ends.filter_map(|(at, found)| {
        let start = message[..at]
            .rfind([' ', '\n', '\'', '"', '['])
            .map_or(0, |at| at + 1);
        let digits = message[at + found.len()..]
            .split(|c: char| !c.is_ascii_digit())
            .next()?;
        let file = format!("{}.lua", &message[start..at]);
        let line = digits.parse().ok()?;
        Path::new(&file).is_file().then_some(Place { file, line })
    });
    places.find(|place| Some(place) != shown)
}

/// The code around a place.
fn frame(out: &mut String, place: &Place, style: Style) {
    let Ok(text) = std::fs::read_to_string(&place.file) else {
        return;
    };
    let first = place.line.saturating_sub(AROUND).max(1);
    for (at, line) in text.lines().enumerate().skip(first - 1).take(AROUND * 2 + 1) {
        let number = at + 1;
        let row = format!("{number:>5} | {line}");
        match number == place.line {
            true => writeln!(out, "  {}{row}", style.bad(">")),
            false => writeln!(out, "  {}", style.faint(&format!(" {row}"))),
        }
        .ok();
    }
}

fn lines_covered(out: &mut String, files: &[FileLines]) {
    out.push_str("\ncoverage by line\n");
    for file in files {
        let (hit, all) = (file.hit(), file.lines.len());
        let share = hit as f64 * 100.0 / all.max(1) as f64;
        let missed: Vec<_> = file
            .lines
            .iter()
            .filter(|(_, times)| **times == 0)
            .map(|(line, _)| *line)
            .collect();
        let _ = writeln!(
            out,
            "  {share:5.1} %  {hit}/{all}  {}{}",
            file.path,
            missed_text(&missed)
        );
    }
}

/// Lines as ranges: `, not 3-5, 9`.
fn missed_text(lines: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *line => *end = *line,
            _ => ranges.push((*line, *line)),
        }
    }
    let show = |(start, end): &(u32, u32)| match start == end {
        true => start.to_string(),
        false => format!("{start}-{end}"),
    };
    let texts: Vec<_> = ranges.iter().map(show).collect();
    if texts.is_empty() {
        String::new()
    } else {
        format!("  not {}", texts.join(", "))
    }
}

fn summary(out: &mut String, report: &Report, style: Style) {
    let counts = report.counts();
    let mut parts = vec![style.good(&format!("{} passed", counts.passed))];
    if counts.failed > 0 {
        parts.push(style.bad(&format!("{} failed", counts.failed)));
    }
    if counts.errors > 0 {
        parts.push(style.bad(&format!("{} ended by an error", counts.errors)));
    }
    if counts.pending > 0 {
        parts.push(style.waiting(&format!("{} pending", counts.pending)));
    }
    let files = report.files.len();
    let _ = writeln!(
        out,
        "\n{}: {}  ({} file{}, {:.2} s, {:.0} tests/s)",
        tests(counts.tests),
        parts.join(", "),
        files,
        if files == 1 { "" } else { "s" },
        report.elapsed.as_secs_f64(),
        report.rate()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_lines_are_ranges() {
        assert_eq!(missed_text(&[1, 2, 3, 7, 9, 10]), "  not 1-3, 7, 9-10");
        assert_eq!(missed_text(&[]), "");
    }

    #[test]
    fn failures_that_are_alike_are_told_once() {
        let test = |name: &str, message: &str| TestReport {
            names: vec![name.into()],
            status: Status::Failed,
            place: None,
            message: Some(message.into()),
            at: None,
            trace: None,
            printed: String::new(),
            elapsed_us: 0,
        };
        let tests = [test("a", "x"), test("b", "y"), test("c", "x")];
        let groups = alike(tests.iter());
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        let mut out = String::new();
        let style = Style {
            has_colours: false,
            is_verbose: false,
        };
        failure(&mut out, &groups[0], style);
        assert_eq!(out, "\nfailed a\n  x\n  also: c\n");
    }

    #[test]
    fn a_place_in_a_message_is_found_only_if_the_file_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.lua");
        std::fs::write(&file, "x").unwrap();
        let text = format!("error: {}:7: boom", file.display());
        let place = place_in(&format!("gone.lua:3: {text}"), None).unwrap();
        assert_eq!(place.line, 7);
        assert_eq!(place_in(&text, Some(&place)), None);
        assert_eq!(place_in("gone.lua:7: boom, .lua:", None), None);
    }
}
