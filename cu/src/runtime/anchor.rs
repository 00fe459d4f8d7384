//! A state to go back to: a file in memory with the pages, mapped privately under the live instance.
//!
//! Going back maps the file anew; saving copies only the pages that have a private copy. A file may be shared by
//! several instances: all processes of a module start from its boot anchor, and those that wake from images stand on
//! the module's dictionary, with the pages that differ as a patch. Then saving makes a file of its own.
//! Invariant: a shared file is never written.

use super::Error;
use super::Limits;
use super::host::HostState;
use super::layout::Rest;
use super::live::{Live, is_zero};
use super::module::Build;
use super::pages::{PAGE, Run, push_page, state_file};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Mappings that one instance may take; gaps between runs are closed until they fit.
const VIEWS_MAX: usize = 48;

#[derive(Clone)]
pub struct Anchor {
    file: Arc<File>,
    /// Runs of pages that the file holds; the others are zero.
    runs: Vec<Run>,
    /// What differs from the file.
    patch: Arc<Patch>,
    pub memory_bytes: u64,
    pub globals: Vec<u128>,
    pub host: HostState,
}

/// Pages in ascending order, and their bytes one after the other.
#[derive(Default)]
pub struct Patch {
    pub pages: Vec<usize>,
    pub bytes: Vec<u8>,
}

fn host(e: std::io::Error) -> Error {
    Error::Host(format!("state file: {e}"))
}

impl Anchor {
    /// Builds an anchor from pages in ascending order.
    pub fn from_pages<'a>(
        memory_bytes: u64,
        globals: Vec<u128>,
        state: HostState,
        pages: impl Iterator<Item = (usize, &'a [u8])>,
    ) -> Result<Anchor, Error> {
        let file = state_file().map_err(host)?;
        file.set_len(memory_bytes).map_err(host)?;
        let mut writer = Writer {
            file: &file,
            run: Vec::new(),
            start: 0,
            runs: Vec::new(),
        };
        for (page, bytes) in pages {
            writer.put(page, bytes).map_err(host)?;
        }
        let runs = writer.finish().map_err(host)?;
        Ok(Anchor {
            file: Arc::new(file),
            runs,
            patch: Arc::default(),
            memory_bytes,
            globals,
            host: state,
        })
    }

    /// A state that differs from this one's memory by a patch. Shares the file.
    pub fn patched(&self, rest: Rest, patch: Patch) -> Anchor {
        let pages = rest.memory_bytes as usize / PAGE;
        let inside = |run: &Run| Run {
            start: run.start,
            len: run.len.min(pages.saturating_sub(run.start)),
        };
        Anchor {
            file: self.file.clone(),
            runs: self.runs.iter().map(inside).filter(|run| run.len > 0).collect(),
            patch: Arc::new(patch),
            memory_bytes: rest.memory_bytes,
            globals: rest.globals,
            host: rest.host,
        }
    }

    /// The state of a live instance, and that instance moved onto it.
    pub fn take(live: &mut Live) -> Result<Anchor, Error> {
        let memory_bytes = live.memory_bytes();
        let (globals, state) = (live.globals(), live.host_state().clone());
        let runs = live.region.private_runs();
        let mut pages = Vec::new();
        live.for_nonzero_pages(&runs, |page, _| pages.push(page));
        let memory = live.memory();
        let pages = pages.into_iter().map(|p| (p, &memory[p * PAGE..(p + 1) * PAGE]));
        let anchor = Anchor::from_pages(memory_bytes, globals, state, pages)?;
        anchor.map(live)?;
        Ok(anchor)
    }

    /// Brings the anchor up to a live instance that stands on it.
    pub fn update(&mut self, live: &mut Live) -> Result<(), Error> {
        let private = live.region.private_runs();
        if Arc::get_mut(&mut self.file).is_none() {
            *self = self.copied(live, &private)?;
            return self.map(live);
        }
        let memory_bytes = live.memory_bytes();
        self.file.set_len(memory_bytes).map_err(host)?;
        let mut known = self.runs.iter().peekable();
        let mut added = Vec::new();
        for run in &private {
            let bytes = &live.memory()[run.start * PAGE..run.end() * PAGE];
            self.write_run(*run, bytes, &mut known, &mut added)?;
        }
        self.runs = merge(&self.runs, &added);
        // Its pages had private copies, so the file has them now.
        self.patch = Arc::default();
        self.memory_bytes = memory_bytes;
        self.globals = live.globals();
        self.host = live.host_state().clone();
        self.map(live)
    }

    /// Writes what changed of a run of private pages. Zero pages that the file does not hold stay holes.
    fn write_run(
        &self,
        run: Run,
        bytes: &[u8],
        known: &mut std::iter::Peekable<std::slice::Iter<'_, Run>>,
        added: &mut Vec<Run>,
    ) -> Result<(), Error> {
        for (i, page) in bytes.chunks_exact(PAGE).enumerate() {
            let index = run.start + i;
            while known.next_if(|r| r.end() <= index).is_some() {}
            let held = known.peek().is_some_and(|r| r.start <= index);
            if held || !is_zero(page) {
                self.file
                    .write_all_at(page, (index * PAGE) as u64)
                    .map_err(host)?;
                push_page(added, index);
            }
        }
        Ok(())
    }

    /// An anchor of its own for a live instance on a shared one.
    fn copied(&self, live: &mut Live, private: &[Run]) -> Result<Anchor, Error> {
        let all = merge(&self.runs, private);
        let (globals, state) = (live.globals(), live.host_state().clone());
        let mut pages = Vec::new();
        live.for_nonzero_pages(&all, |page, _| pages.push(page));
        let memory = live.memory();
        let pages = pages.into_iter().map(|p| (p, &memory[p * PAGE..(p + 1) * PAGE]));
        let mut copied = Anchor::from_pages(live.memory_bytes(), globals, state, pages)?;
        // Pages that were emptied too: where the new file were not mapped, the old one would show again.
        copied.runs = merge(&self.runs, &copied.runs);
        Ok(copied)
    }

    /// Puts a live instance's memory onto the file. Contents do not change if the file holds them already.
    fn map(&self, live: &mut Live) -> Result<(), Error> {
        for run in few(&self.runs) {
            live.region.view(&self.file, run).map_err(host)?;
        }
        live.region.forget_private().map_err(host)?;
        let patch = self.patch.bytes.as_chunks::<PAGE>().0;
        self.patch
            .pages
            .iter()
            .zip(patch)
            .for_each(|(page, bytes)| live.put_page(*page, bytes));
        Ok(())
    }

    /// A new instance in this state.
    pub fn resume(&self, build: &Build, limits: &Limits) -> Result<Live, Error> {
        let mut live = Live::new(build, limits)?;
        live.grow_to(self.memory_bytes)?;
        self.map(&mut live)?;
        live.set_globals(&self.globals)?;
        live.set_host_state(self.host.clone());
        Ok(live)
    }

    /// Runs of pages that may not be zero in an instance that stands on this anchor.
    pub fn live_runs(&self, live: &Live) -> Vec<Run> {
        merge(&self.runs, &live.region.private_runs())
    }
}

/// Writes pages to a file, neighbours together.
struct Writer<'a> {
    file: &'a File,
    run: Vec<u8>,
    start: usize,
    runs: Vec<Run>,
}

impl Writer<'_> {
    fn put(&mut self, page: usize, bytes: &[u8]) -> std::io::Result<()> {
        debug_assert_eq!(bytes.len(), PAGE);
        if page != self.start + self.run.len() / PAGE || self.run.len() >= 1 << 20 {
            self.flush()?;
            self.start = page;
        }
        self.run.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if !self.run.is_empty() {
            self.file.write_all_at(&self.run, (self.start * PAGE) as u64)?;
            for page in self.start..self.start + self.run.len() / PAGE {
                push_page(&mut self.runs, page);
            }
            self.run.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<Vec<Run>> {
        self.flush()?;
        Ok(self.runs)
    }
}

/// The union of two ascending lists of runs.
fn merge(a: &[Run], b: &[Run]) -> Vec<Run> {
    let mut all: Vec<Run> = a.iter().chain(b).copied().collect();
    all.sort_unstable_by_key(|r| r.start);
    let mut out: Vec<Run> = Vec::with_capacity(all.len());
    for run in all {
        match out.last_mut() {
            Some(last) if last.end() >= run.start => last.len = last.len.max(run.end() - last.start),
            _ => out.push(run),
        }
    }
    out
}

/// The same pages in at most `VIEWS_MAX` runs: the smallest gaps are closed. A hole in the file reads as zero.
fn few(runs: &[Run]) -> Vec<Run> {
    let mut gaps: Vec<usize> = runs.windows(2).map(|w| w[1].start - w[0].end()).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    let closes = gaps.get(VIEWS_MAX - 1).copied().unwrap_or(0);
    let mut out: Vec<Run> = Vec::new();
    for run in runs {
        match out.last_mut() {
            Some(last) if run.start - last.end() <= closes => last.len = run.end() - last.start,
            _ => out.push(*run),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: usize, len: usize) -> Run {
        Run { start, len }
    }

    #[test]
    fn merging_joins_overlaps_and_neighbours() {
        let merged = merge(&[run(0, 2), run(10, 5)], &[run(2, 1), run(12, 9), run(30, 1)]);
        assert_eq!(merged, [run(0, 3), run(10, 11), run(30, 1)]);
    }

    #[test]
    fn few_views_cover_every_page() {
        let runs: Vec<Run> = (0..500)
            .map(|i| run(i * (3 + i % 7) + 8 * i, 1 + i % 2))
            .collect();
        let runs = merge(&runs, &[]);
        let views = few(&runs);
        assert!(views.len() <= VIEWS_MAX, "{}", views.len());
        assert!(
            runs.iter()
                .all(|r| views.iter().any(|v| v.start <= r.start && r.end() <= v.end()))
        );
        assert_eq!(few(&[run(1, 2), run(9, 1)]), [run(1, 2), run(9, 1)]);
    }
}
