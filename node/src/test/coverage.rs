//! Which lines of processes' Lua files were run, and how often; written as LCOV.
//!
//! The engine records lines inside of the process; here they are taken out and added up. Only files that were
//! loaded by name count. Not here: the specs' own lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use spec::Outcome;

use super::birth::error_text;
use super::delivery::printed;

/// Times a line was run, by file and line.
#[derive(Default, Clone, Debug)]
pub struct Coverage {
    hits: BTreeMap<String, BTreeMap<u32, u64>>,
}

/// A file's part of a report.
#[derive(Debug, PartialEq, Eq)]
pub struct FileLines {
    /// The file.
    pub path: String,
    /// Lines that can run, each with how often it did.
    pub lines: BTreeMap<u32, u64>,
}

impl FileLines {
    /// Lines that were run.
    pub fn hit(&self) -> usize {
        self.lines.values().filter(|times| **times > 0).count()
    }
}

impl Coverage {
    /// Lua that starts the recorder of a process.
    pub const ON: &str = "require('weft').lines(true) ";
    /// Lua that answers what was recorded since the last time.
    pub const TAKE: &str = "local out = {} for name, lines in pairs(require('weft').lines_take()) do \
        if name:sub(1, 1) == '@' then for line, times in pairs(lines) do \
        out[#out + 1] = ('%d %d %s'):format(line, times, name:sub(2)) end end end return table.concat(out, '\\n') .. '\\n'";

    /// Adds what a process answered to [`Coverage::TAKE`].
    ///
    /// # Errors
    /// If its module has no recorder.
    pub fn add(&mut self, answer: &Outcome) -> Result<(), String> {
        if let Some(error) = error_text(answer) {
            return Err(format!("this module cannot count lines: {error}"));
        }
        for line in printed(answer)?.lines().filter(|line| !line.is_empty()) {
            let mut words = line.splitn(3, ' ');
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
            let (Some(at), Some(times)) = (number(), number()) else {
                return Err(format!("the recorder answered `{line}`"));
            };
            let path = words.next().unwrap_or("").to_owned();
            *self.hits.entry(path).or_default().entry(at as u32).or_default() += times;
        }
        Ok(())
    }

    /// Adds what another file's processes ran.
    pub fn merge(&mut self, other: Coverage) {
        for (path, lines) in other.hits {
            let mine = self.hits.entry(path).or_default();
            for (line, times) in lines {
                *mine.entry(line).or_default() += times;
            }
        }
    }

    /// Every file with all lines that can run.
    ///
    /// # Errors
    /// If a file is no longer what it was.
    pub fn files(&self) -> Result<Vec<FileLines>, String> {
        let mut files = Vec::new();
        for (path, hits) in &self.hits {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            let possible = lines_of(&text, Path::new(path))?;
            let count = |line| (line, hits.get(&line).copied().unwrap_or(0));
            files.push(FileLines {
                path: path.clone(),
                lines: possible.into_iter().map(count).collect(),
            });
        }
        Ok(files)
    }
}

/// The report in the format of LCOV.
pub fn lcov(files: &[FileLines]) -> String {
    let mut out = String::new();
    for file in files {
        let _ = writeln!(out, "TN:\nSF:{}", file.path);
        for (line, times) in &file.lines {
            let _ = writeln!(out, "DA:{line},{times}");
        }
        let _ = writeln!(out, "LF:{}\nLH:{}\nend_of_record", file.lines.len(), file.hit());
    }
    out
}

/// The lines of a source that can run, as its compiled form says.
fn lines_of(text: &str, path: &Path) -> Result<Vec<u32>, String> {
    let lua = mlua::Lua::new();
    let chunk = lua.load(text).set_name(super::bundle::chunk_name(Some(path)));
    let function = chunk
        .into_function()
        .map_err(|error| super::bundle::plain(&error))?;
    let mut lines = dump::lines(&function.dump(false)).ok_or("the compiled form is not as expected")?;
    lines.sort_unstable();
    lines.dedup();
    Ok(lines)
}

/// Reads line numbers out of a compiled chunk of Lua 5.3. Source: the layout that `string.dump` writes.
mod dump {
    /// Bytes before the first function: signature, version, format, check data, five sizes, two check numbers,
    /// and the number of upvalues.
    const HEADER: usize = 4 + 1 + 1 + 6 + 5 + 8 + 8 + 1;

    struct Reader<'a>(&'a [u8]);

    impl<'a> Reader<'a> {
        fn take(&mut self, count: usize) -> Option<&'a [u8]> {
            let (head, rest) = self.0.split_at_checked(count)?;
            self.0 = rest;
            Some(head)
        }
        fn byte(&mut self) -> Option<u8> {
            self.take(1).map(|bytes| bytes[0])
        }
        fn int(&mut self) -> Option<usize> {
            let bytes = self.take(4)?.try_into().ok()?;
            usize::try_from(i32::from_le_bytes(bytes)).ok()
        }
        /// A text: its length and one, in a byte or after 255 in eight.
        fn text(&mut self) -> Option<()> {
            let size = match self.byte()? {
                0 => return Some(()),
                255 => usize::try_from(u64::from_le_bytes(self.take(8)?.try_into().ok()?)).ok()?,
                size => usize::from(size),
            };
            self.take(size - 1).map(drop)
        }
        fn constants(&mut self) -> Option<()> {
            for _ in 0..self.int()? {
                match self.byte()? {
                    0 => {}
                    1 => drop(self.take(1)?),
                    3 | 19 => drop(self.take(8)?),
                    4 | 20 => self.text()?,
                    _ => return None,
                }
            }
            Some(())
        }
        fn function(&mut self, lines: &mut Vec<u32>) -> Option<()> {
            self.text()?;
            self.take(4 + 4 + 3)?;
            let code = self.int()?;
            self.take(code * 4)?;
            self.constants()?;
            let upvalues = self.int()?;
            self.take(upvalues * 2)?;
            for _ in 0..self.int()? {
                self.function(lines)?;
            }
            self.line_info(lines)?;
            for _ in 0..self.int()? {
                self.text()?;
                self.take(8)?;
            }
            for _ in 0..self.int()? {
                self.text()?;
            }
            Some(())
        }
        /// One line for each instruction. The last instruction returns, whether or not anything reaches it:
        /// it counts for nothing.
        fn line_info(&mut self, lines: &mut Vec<u32>) -> Option<()> {
            let count = self.int()?;
            for at in 0..count {
                let line = self.int()?;
                if at + 1 < count {
                    lines.push(line as u32);
                }
            }
            Some(())
        }
    }

    /// Every line with an instruction, unordered, with repeats.
    pub fn lines(chunk: &[u8]) -> Option<Vec<u32>> {
        let mut lines = Vec::new();
        Reader(chunk.get(HEADER..)?).function(&mut lines)?;
        Some(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_can_run_count() {
        let text = "local a = 1\n\n-- a comment\nlocal function f(x)\n  if x then\n    return 'yes'\n  end\n  return nil\nend\nf(a)\n";
        assert_eq!(lines_of(text, Path::new("x.lua")).unwrap(), [1, 5, 6, 8, 9, 10]);
        let long = format!(
            "local t = {{ {} }}\nreturn {:?}\n",
            "1.5, 'x', true, nil, 7, ".repeat(40),
            "y".repeat(300)
        );
        assert_eq!(lines_of(&long, Path::new("y.lua")).unwrap(), [1, 2]);
    }

    #[test]
    fn lcov_has_every_line_once() {
        let file = FileLines {
            path: "a.lua".into(),
            lines: [(1, 3), (2, 0)].into(),
        };
        assert_eq!(
            lcov(&[file]),
            "TN:\nSF:a.lua\nDA:1,3\nDA:2,0\nLF:2\nLH:1\nend_of_record\n"
        );
    }
}
