//! What both written forms of a state have in common: the part outside the pages, the runs of pages that differ from a
//! base, and a reader that never goes past the end. Numbers are little-endian.
//! Not here: how pages are compressed (`image` for this machine, `packed` for ever).

use super::Error;
use super::host::HostState;
use super::host::disk::Disk;
use super::live::Live;
use super::pages::{PAGE, RESERVATION, Run, push_page};

/// Bytes of a hash.
pub const HASH: usize = 32;
/// In a run's length: the run is zero here, and not so in the base.
const ZERO_RUN: u32 = 1 << 31;

/// Pages that a state is written down against.
pub trait Base {
    /// A page, unless it is all zero.
    fn page(&self, page: usize) -> Option<&[u8]>;
    /// The pages that are not all zero, ascending.
    fn pages(&self) -> impl Iterator<Item = usize> + '_;
}

/// What differs from a base: pages to write down, and pages that became zero.
#[derive(Default)]
pub struct Difference {
    pub data: Vec<usize>,
    pub zero: Vec<Run>,
}

impl Difference {
    /// Of a live instance whose non-zero pages all lie in `runs`.
    pub fn of(live: &Live, runs: &[Run], base: &impl Base) -> Difference {
        let mut difference = Difference::default();
        let mut old = base.pages().peekable();
        live.for_nonzero_pages(runs, |page, bytes| {
            while let Some(gone) = old.next_if(|p| *p < page) {
                push_page(&mut difference.zero, gone);
            }
            old.next_if_eq(&page);
            if base.page(page) != Some(bytes) {
                difference.data.push(page);
            }
        });
        // A memory smaller than the base's has nothing there.
        let pages = live.memory_bytes() as usize / PAGE;
        for gone in old.filter(|page| *page < pages) {
            push_page(&mut difference.zero, gone);
        }
        difference
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        let mut data = Vec::new();
        self.data.iter().for_each(|p| push_page(&mut data, *p));
        put32(out, data.len() + self.zero.len());
        for run in &data {
            put32(out, run.start);
            put32(out, run.len);
        }
        for run in &self.zero {
            put32(out, run.start);
            put32(out, run.len | ZERO_RUN as usize);
        }
    }

    /// Reads what `put` wrote; `pages` is how many the memory has. Costs memory for the pages that it names,
    /// which are `pages` at most.
    pub fn read(reader: &mut Reader<'_>, pages: usize) -> Result<Difference, Error> {
        let (mut data, mut zero) = (Vec::<Run>::new(), Vec::<Run>::new());
        for _ in 0..reader.number()? {
            let (start, len) = (reader.number()?, reader.number()? as u32);
            let run = Run {
                start,
                len: (len & !ZERO_RUN) as usize,
            };
            if run.end() > pages {
                return Err(bad("a run of pages is outside the memory"));
            }
            let runs = if len & ZERO_RUN != 0 { &mut zero } else { &mut data };
            if run.len == 0 || runs.last().is_some_and(|last| run.start < last.end()) {
                return Err(bad("its runs are out of order"));
            }
            runs.push(run);
        }
        let data = data.iter().flat_map(|run| run.start..run.end()).collect();
        Ok(Difference { data, zero })
    }

    /// The pages that became zero, ascending.
    pub fn zeros(&self) -> impl Iterator<Item = usize> + '_ {
        self.zero.iter().flat_map(|run| run.start..run.end())
    }
}

/// What of a state is not in its pages.
#[derive(Clone)]
pub struct Rest {
    pub memory_bytes: u64,
    pub globals: Vec<u128>,
    pub host: HostState,
}

impl Rest {
    /// Memory size, clock and globals; the disk is written by its own rule.
    pub fn put(live: &mut Live, out: &mut Vec<u8>) {
        out.extend_from_slice(&live.memory_bytes().to_le_bytes());
        out.extend_from_slice(&live.host_state().clock.to_le_bytes());
        let globals = live.globals();
        put32(out, globals.len());
        globals
            .iter()
            .for_each(|g| out.extend_from_slice(&g.to_le_bytes()));
    }

    /// Reads what `put` wrote, and the disk as `disk` reads it.
    pub fn read<'a>(
        reader: &mut Reader<'a>,
        disk: impl FnOnce(&mut Reader<'a>) -> Result<Disk, Error>,
    ) -> Result<Rest, Error> {
        let memory_bytes = u64::from_le_bytes(reader.array()?);
        if memory_bytes > RESERVATION as u64 || memory_bytes % 65536 != 0 {
            return Err(bad("its memory size is out of range"));
        }
        let clock = u64::from_le_bytes(reader.array()?);
        let globals = (0..reader.number()?)
            .map(|_| Ok(u128::from_le_bytes(reader.array()?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let disk = disk(reader)?;
        Ok(Rest {
            memory_bytes,
            globals,
            host: HostState { clock, disk },
        })
    }
}

/// Why bytes are no state.
pub fn bad(what: &str) -> Error {
    Error::Image(what.into())
}

pub fn put32(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n).expect("counts and lengths of a 4 GiB state fit 32 bits");
    out.extend_from_slice(&n.to_le_bytes());
}

/// Ends what was written with its BLAKE3.
pub fn seal(mut out: Vec<u8>) -> bytes::Bytes {
    let checksum = blake3::hash(&out);
    out.extend_from_slice(checksum.as_bytes());
    out.into()
}

/// The bytes before the BLAKE3 at the end, if that fits and they begin with the magic.
pub fn opened<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Result<&'a [u8], Error> {
    let end = bytes
        .len()
        .checked_sub(HASH)
        .ok_or_else(|| bad("it is too short"))?;
    let (body, checksum) = bytes.split_at(end);
    if body.get(..8) != Some(magic) {
        return Err(bad("it does not start with the magic of this version"));
    }
    if blake3::hash(body).as_bytes()[..] != *checksum {
        return Err(bad("its checksum does not fit"));
    }
    Ok(body)
}

/// What is left to read.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self
            .0
            .split_at_checked(n)
            .ok_or_else(|| bad("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| bad("it ends too early"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn number(&mut self) -> Result<usize, Error> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// Nothing may be left at the end.
    pub fn ended(&self) -> Result<(), Error> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(bad("it is too long")),
        }
    }
}
