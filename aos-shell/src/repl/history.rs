//! The history of a process: one file, one JSON string a line, written before a line is evaluated.
//!
//! Not here: the search; reedline's list in memory does that. The invariant: a line that was taken is
//! in the file before anything else happens, whole, however many lines it has.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use reedline::{FileBackedHistory, History, HistoryItem, HistoryItemId, HistorySessionId, SearchQuery};

use super::desk::{Desk, Mode};

/// Entries kept.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// A history with a file.
pub(crate) struct Journal {
    desk: Arc<Desk>,
    entries: FileBackedHistory,
    file: Option<File>,
    newest: Option<String>,
}

impl Journal {
    /// Opens the history in a file, or one that is forgotten.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(crate) fn open(desk: Arc<Desk>, path: Option<&Path>) -> io::Result<Journal> {
        let entries = FileBackedHistory::new(ENTRIES_MAX).map_err(io::Error::other)?;
        let mut journal = Journal {
            desk,
            entries,
            file: None,
            newest: None,
        };
        if let Some(path) = path {
            journal.read(path)?;
        }
        Ok(journal)
    }

    fn read(&mut self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let lines = read_lines(path)?;
        if lines.len() > ENTRIES_MAX * 2 {
            rewrite(path, &lines[lines.len() - ENTRIES_MAX..])?;
        }
        for line in lines {
            self.newest = Some(line.clone());
            let item = HistoryItem::from_command_line(line);
            self.entries.save(item).map_err(io::Error::other)?;
        }
        let mut file = private().append(true).open(path)?;
        if !ends_with_line_end(path)? {
            file.write_all(b"\n")?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// One write, so that two shells on one process do not mix their lines.
    fn write(&mut self, line: &str) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut entry = serde_json::to_string(line)?;
        entry.push('\n');
        file.write_all(entry.as_bytes())
    }
}

/// Histories may hold secrets.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A line that was cut by a crash is left out.
fn read_lines(path: &Path) -> io::Result<Vec<String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(lines.collect())
}

/// What a crash cut must not run into what comes next.
fn ends_with_line_end(path: &Path) -> io::Result<bool> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.last().is_none_or(|byte| *byte == b'\n'))
}

fn rewrite(path: &Path, lines: &[String]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = private().write(true).truncate(true).open(&beside)?;
    for line in lines {
        writeln!(file, "{}", serde_json::to_string(line)?)?;
    }
    std::fs::rename(beside, path)
}

impl History for Journal {
    fn save(&mut self, item: HistoryItem) -> reedline::Result<HistoryItem> {
        let line = &item.command_line;
        let is_kept = self.desk.mode() == Mode::Lua && !line.trim().is_empty();
        if !is_kept {
            return Ok(item);
        }
        if self.newest.as_ref() != Some(line) {
            self.write(line)?;
            self.newest = Some(line.clone());
        }
        self.entries.save(item)
    }

    fn load(&self, id: HistoryItemId) -> reedline::Result<HistoryItem> {
        self.entries.load(id)
    }

    fn count(&self, query: SearchQuery) -> reedline::Result<i64> {
        self.entries.count(query)
    }

    fn search(&self, query: SearchQuery) -> reedline::Result<Vec<HistoryItem>> {
        self.entries.search(query)
    }

    fn update(
        &mut self,
        id: HistoryItemId,
        updater: &dyn Fn(HistoryItem) -> HistoryItem,
    ) -> reedline::Result<()> {
        self.entries.update(id, updater)
    }

    fn clear(&mut self) -> reedline::Result<()> {
        self.entries.clear()
    }

    fn delete(&mut self, id: HistoryItemId) -> reedline::Result<()> {
        self.entries.delete(id)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn session(&self) -> Option<HistorySessionId> {
        None
    }
}

#[cfg(test)]
mod tests {
    use reedline::SearchDirection;

    use super::*;

    fn all(journal: &Journal) -> Vec<String> {
        let query = SearchQuery::everything(SearchDirection::Forward, None);
        let items = journal.search(query).expect("searched");
        items.into_iter().map(|item| item.command_line).collect()
    }

    fn open(path: &Path) -> Journal {
        let desk = Arc::new(Desk::default());
        Journal::open(desk, Some(path)).expect("opened")
    }

    #[test]
    fn entries_survive_without_being_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history/pid");
        let mut journal = open(&path);
        for line in ["x = 1", "x = 1", "f(\n  '<\\n>'\n)", "é"] {
            journal.save(HistoryItem::from_command_line(line)).expect("saved");
        }
        std::mem::forget(journal);
        assert_eq!(all(&open(&path)), ["x = 1", "f(\n  '<\\n>'\n)", "é"]);
    }

    #[test]
    fn a_cut_entry_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pid");
        std::fs::write(&path, "\"one\"\n\"tw").expect("written");
        let mut journal = open(&path);
        journal
            .save(HistoryItem::from_command_line("three"))
            .expect("saved");
        drop(journal);
        assert_eq!(all(&open(&path)), ["one", "three"]);
    }

    #[test]
    fn answers_to_questions_are_not_kept() {
        let desk = Arc::new(Desk::default());
        let mut journal = Journal::open(Arc::clone(&desk), None).expect("opened");
        desk.begin(Mode::Plain, None);
        journal.save(HistoryItem::from_command_line("y")).expect("saved");
        assert_eq!(all(&journal), Vec::<String>::new());
    }
}
