//! Images: a process's state as bytes to keep.
//!
//! ```text
//! "WEFTIMG1"                                   magic; a new layout gets a new last byte
//! module sha256 32, BLAKE3 of the epoch 32, BLAKE3 of the dictionary 32
//! memory bytes 8, clock 8
//! globals: count 4, 16 each
//! disk: length 4, bytes
//! runs: count 4, each first page 4 and pages 4; the top bit of the latter says "zero here, not so in the dictionary"
//! chunks of the pages of all other runs in order: compressed length 4, lz4 block
//! BLAKE3 of all before 32
//! ```
//! Numbers are little-endian. A page that no run names is what the module's dictionary has there. The dictionary is
//! the state after the boot message of a reference process: kept once per module, never stored, made again when needed.
//!
//! Invariant: decoding gives the encoded state or a refusal; a refusal means "replay the log".

use super::Error;
use super::anchor::{Anchor, Patch};
use super::engine::Engine;
use super::host::HostState;
use super::host::disk::Disk;
use super::live::Live;
use super::machine::Machine;
use super::module::{Module, boot_limits};
use super::pages::{PAGE, RESERVATION, Run, push_page};
use super::{ModuleFormat, frame};
use bytes::Bytes;
use lz4_flex::block::{compress_with_dict, decompress_with_dict};

const MAGIC: &[u8; 8] = b"WEFTIMG1";
const HASH: usize = 32;
/// Pages compressed together.
const CHUNK: usize = 4;
/// Pages of the dictionary that stand before and from a chunk's first page on, as far as lz4 can look back.
const CONTEXT_BEFORE: usize = 6;
const CONTEXT_FROM: usize = 9;
const ZERO_RUN: u32 = 1 << 31;

/// The reference process whose boot gives the dictionary.
const REFERENCE_ENV: &str = r#"{"Process":{"Id":"PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP","Owner":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Tags":[{"name":"Data-Protocol","value":"ao"},{"name":"Variant","value":"ao.TN.1"},{"name":"Type","value":"Process"},{"name":"Module","value":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"},{"name":"Scheduler","value":"SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"},{"name":"Name","value":"reference"}]},"Module":{"Id":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM","Owner":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Tags":[]}}"#;
const REFERENCE_BOOT: &str = r#"{"Id":"PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP","Signature":"","Data":" ","Owner":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Target":"PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP","Anchor":null,"From":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Tags":[{"name":"Data-Protocol","value":"ao"},{"name":"Variant","value":"ao.TN.1"},{"name":"Type","value":"Process"},{"name":"Module","value":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"},{"name":"Scheduler","value":"SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"},{"name":"Name","value":"reference"}],"Epoch":0,"Nonce":0,"Timestamp":1700000000000,"Block-Height":1500000,"Hash-Chain":"","Cron":false,"Read-Only":false}"#;

/// The pages that a module's images are stored against.
pub struct Dictionary {
    /// Runs of pages, and for each where its bytes start in `bytes`.
    runs: Vec<(Run, usize)>,
    bytes: Vec<u8>,
    hash: [u8; HASH],
    /// The same pages, to stand on.
    anchor: Anchor,
}

impl Dictionary {
    /// Boots the reference process. A module that cannot boot it has its own boot state as dictionary.
    pub fn of(module: &Module) -> Result<Dictionary, Error> {
        let mut machine = Machine::start(module, boot_limits(module.format()))?;
        let [boot, env] = [REFERENCE_BOOT, REFERENCE_ENV].map(|text| match module.format() {
            ModuleFormat::Lua => frame::of_json(text.as_bytes()).expect("our own JSON"),
            _ => text.into(),
        });
        match machine.call(&boot, &env)? {
            Ok(_) => machine.commit()?,
            Err(_) => machine.roll_back()?,
        }
        let (live, anchor) = machine.parts();
        let (mut runs, mut bytes) = (Vec::<Run>::new(), Vec::new());
        live.for_nonzero_pages(&anchor.live_runs(live), |page, data| {
            push_page(&mut runs, page);
            bytes.extend_from_slice(data);
        });
        let starts = runs
            .iter()
            .scan(0, |at, r| Some(std::mem::replace(at, *at + r.len * PAGE)));
        let starts: Vec<usize> = starts.collect();
        let runs: Vec<(Run, usize)> = runs.into_iter().zip(starts).collect();
        let mut hasher = blake3::Hasher::new();
        for (run, _) in &runs {
            hasher
                .update(&(run.start as u64).to_le_bytes())
                .update(&(run.len as u64).to_le_bytes());
        }
        let hash = *hasher.update(&bytes).finalize().as_bytes();
        let (memory_bytes, globals) = (live.memory_bytes(), live.globals());
        let mut dictionary = Dictionary {
            runs,
            bytes,
            hash,
            anchor: anchor.clone(),
        };
        let pages = dictionary
            .pages()
            .filter_map(|page| Some((page, dictionary.page(page)?)));
        dictionary.anchor = Anchor::from_pages(memory_bytes, globals, HostState::default(), pages)?;
        Ok(dictionary)
    }

    fn page(&self, page: usize) -> Option<&[u8]> {
        let i = self.runs.partition_point(|(r, _)| r.end() <= page);
        let (run, at) = self.runs.get(i).filter(|(r, _)| r.start <= page)?;
        let at = at + (page - run.start) * PAGE;
        Some(&self.bytes[at..at + PAGE])
    }

    fn pages(&self) -> impl Iterator<Item = usize> + '_ {
        self.runs.iter().flat_map(|(r, _)| r.start..r.end())
    }

    /// What lz4 may refer to when it packs the chunk that starts at `page`.
    fn context(&self, page: usize) -> Vec<u8> {
        let around = page.saturating_sub(CONTEXT_BEFORE)..page + CONTEXT_FROM;
        let mut context = Vec::with_capacity((CONTEXT_BEFORE + CONTEXT_FROM) * PAGE);
        around
            .filter_map(|p| self.page(p))
            .for_each(|page| context.extend_from_slice(page));
        context
    }
}

/// The differences of a state from the dictionary.
#[derive(Default)]
struct Difference {
    data: Vec<usize>,
    zero: Vec<Run>,
}

impl Difference {
    fn of(live: &Live, runs: &[Run], dictionary: &Dictionary) -> Difference {
        let mut difference = Difference::default();
        let mut old = dictionary.pages().peekable();
        live.for_nonzero_pages(runs, |page, bytes| {
            while let Some(gone) = old.next_if(|p| *p < page) {
                push_page(&mut difference.zero, gone);
            }
            old.next_if_eq(&page);
            if dictionary.page(page) != Some(bytes) {
                difference.data.push(page);
            }
        });
        // A memory smaller than the dictionary's has nothing there.
        let pages = live.memory_bytes() as usize / PAGE;
        for gone in old.filter(|page| *page < pages) {
            push_page(&mut difference.zero, gone);
        }
        difference
    }
}

/// The state of a machine at rest.
pub fn encode(module: &Module, live: &mut Live, anchor: &Anchor) -> Result<Bytes, Error> {
    let dictionary = module.dictionary()?;
    let runs = anchor.live_runs(live);
    let difference = Difference::of(live, &runs, &dictionary);
    let mut out = header(module, &dictionary);
    put_state(&mut out, live);
    put_runs(&mut out, &difference);
    let memory = live.memory();
    for chunk in chunks(&difference.data) {
        // A chunk's pages are neighbours.
        let raw = &memory[chunk[0] * PAGE..(chunk[0] + chunk.len()) * PAGE];
        let packed = compress_with_dict(raw, &dictionary.context(chunk[0]));
        put32(&mut out, packed.len());
        out.extend_from_slice(&packed);
    }
    let checksum = blake3::hash(&out);
    out.extend_from_slice(checksum.as_bytes());
    Ok(out.into())
}

fn header(module: &Module, dictionary: &Dictionary) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&module.sha256());
    out.extend_from_slice(blake3::hash(Engine::epoch().as_bytes()).as_bytes());
    out.extend_from_slice(&dictionary.hash);
    out
}

fn put32(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n).expect("counts and lengths of a 4 GiB state fit 32 bits");
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_state(out: &mut Vec<u8>, live: &mut Live) {
    out.extend_from_slice(&live.memory_bytes().to_le_bytes());
    out.extend_from_slice(&live.host_state().clock.to_le_bytes());
    let globals = live.globals();
    put32(out, globals.len());
    globals
        .iter()
        .for_each(|g| out.extend_from_slice(&g.to_le_bytes()));
    let disk = live.host_state().disk.to_bytes();
    put32(out, disk.len());
    out.extend_from_slice(&disk);
}

fn put_runs(out: &mut Vec<u8>, difference: &Difference) {
    let mut data = Vec::new();
    difference.data.iter().for_each(|p| push_page(&mut data, *p));
    put32(out, data.len() + difference.zero.len());
    for run in &data {
        put32(out, run.start);
        put32(out, run.len);
    }
    for run in &difference.zero {
        put32(out, run.start);
        put32(out, run.len | ZERO_RUN as usize);
    }
}

/// Chunks end where pages are not neighbours, so that one context fits the whole chunk.
fn chunks(pages: &[usize]) -> impl Iterator<Item = &[usize]> {
    pages
        .chunk_by(|a, b| a + 1 == *b)
        .flat_map(|run| run.chunks(CHUNK))
}

fn bad(what: &str) -> Error {
    Error::Image(what.into())
}

/// An anchor with the state of an image.
pub fn decode(module: &Module, image: &Bytes) -> Result<Anchor, Error> {
    let dictionary = module.dictionary()?;
    let end = image
        .len()
        .checked_sub(HASH)
        .ok_or_else(|| bad("it is too short"))?;
    let (body, checksum) = image.split_at(end);
    if body.get(..8) != Some(MAGIC) {
        return Err(bad("it does not start with the magic of this version"));
    }
    if blake3::hash(body).as_bytes()[..] != *checksum {
        return Err(bad("its checksum does not fit"));
    }
    let mut reader = Reader(body);
    if reader.take(8 + 3 * HASH)? != header(module, &dictionary) {
        return Err(bad("it is of another module, engine epoch or dictionary"));
    }
    let memory_bytes = u64::from_le_bytes(reader.array()?);
    if memory_bytes > RESERVATION as u64 || memory_bytes % 65536 != 0 {
        return Err(bad("its memory size is out of range"));
    }
    let clock = u64::from_le_bytes(reader.array()?);
    let globals = (0..reader.number()?)
        .map(|_| Ok(u128::from_le_bytes(reader.array()?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let disk = reader.number()?;
    let disk = Disk::from_bytes(reader.take(disk)?).ok_or_else(|| bad("its disk is damaged"))?;
    let pages = Pages::read(&mut reader, &dictionary, memory_bytes as usize / PAGE)?;
    let state = HostState { clock, disk };
    Ok(dictionary
        .anchor
        .patched(memory_bytes, globals, state, pages.into_patch()))
}

/// What an image holds of the memory.
struct Pages {
    data: Vec<usize>,
    bytes: Vec<u8>,
    zero: Vec<Run>,
}

impl Pages {
    fn read(reader: &mut Reader<'_>, dictionary: &Dictionary, pages: usize) -> Result<Pages, Error> {
        let (mut data, mut zero) = (Vec::new(), Vec::new());
        for _ in 0..reader.number()? {
            let (start, len) = (reader.number()?, reader.number()? as u32);
            let run = Run {
                start,
                len: (len & !ZERO_RUN) as usize,
            };
            if run.end() > pages {
                return Err(bad("a run of pages is outside the memory"));
            }
            if len & ZERO_RUN != 0 {
                zero.push(run)
            } else {
                data.extend(run.start..run.end())
            }
        }
        if !data.is_sorted_by(|a, b| a < b) || !zero.is_sorted_by_key(|r| r.start) {
            return Err(bad("its runs are out of order"));
        }
        let mut bytes = Vec::with_capacity(data.len() * PAGE);
        for chunk in chunks(&data) {
            let packed = reader.number()?;
            let raw = chunk.len() * PAGE;
            let unpacked = decompress_with_dict(reader.take(packed)?, raw, &dictionary.context(chunk[0]));
            let unpacked = unpacked.map_err(|_| bad("a chunk is damaged"))?;
            if unpacked.len() != raw {
                return Err(bad("a chunk has another length"));
            }
            bytes.extend_from_slice(&unpacked);
        }
        if reader.0.is_empty() {
            Ok(Pages { data, bytes, zero })
        } else {
            Err(bad("it is too long"))
        }
    }

    /// What differs from the dictionary, in order.
    fn into_patch(self) -> Patch {
        let mut patch = Patch::default();
        let mut zeros = self.zero.iter().flat_map(|r| r.start..r.end()).peekable();
        let mut put = |page: usize, bytes: &[u8]| {
            patch.pages.push(page);
            patch.bytes.extend_from_slice(bytes);
        };
        for (page, bytes) in self.data.iter().zip(self.bytes.as_chunks::<PAGE>().0) {
            while let Some(zero) = zeros.next_if(|zero| zero < page) {
                put(zero, &[0; PAGE]);
            }
            put(*page, bytes);
        }
        zeros.for_each(|zero| put(zero, &[0; PAGE]));
        patch
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self
            .0
            .split_at_checked(n)
            .ok_or_else(|| bad("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| bad("it ends too early"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn number(&mut self) -> Result<usize, Error> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }
}
