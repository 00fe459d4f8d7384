//! Packed states: what a permanent checkpoint holds. The layout is drawn in spec/checkpoint.md.
//!
//! A state is packed against a base: the module's dictionary, or a state packed before. Changed pages are compressed
//! in groups, each with the base's pages of the same places before it as what zstd may refer to.
//! Not here: who signed it, which slot it is of. Invariant: unpacking gives a state or a refusal, in bounded memory,
//! whatever the bytes are; that it is the state that was packed is for its root to show.

use super::Error;
use super::anchor::{Anchor, Patch};
use super::dictionary::Dictionary;
use super::engine::Engine;
use super::host::disk::{self, Disk};
use super::layout::{Base, Difference, HASH, Reader, Rest, bad, opened, put32, seal};
use super::live::{Live, is_zero};
use super::module::Module;
use super::pages::PAGE;
use super::root;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use zstd_safe::{CCtx, CParameter, DCtx};

const MAGIC: &[u8; 8] = b"WEFTPAK1";
/// Pages compressed together.
const GROUP: usize = 1024;
/// A group and what stands before it fit a window of this size: 8 MiB.
const WINDOW_LOG: u32 = 23;
const _: () = assert!(2 * GROUP * PAGE <= 1 << WINDOW_LOG);
/// Beyond this level a checkpoint takes several times longer to make for a few percent.
const LEVEL: i32 = 3;
/// Longest written form of a disk: its files, their names, and what is open.
const DISK_BYTES_MAX: usize = 2 * disk::DISK_BYTES_MAX as usize;

/// A state at rest, away from any machine.
#[derive(Clone)]
pub struct State {
    dictionary: Arc<Dictionary>,
    rest: Rest,
    /// Pages that are not the dictionary's.
    own: BTreeMap<usize, Arc<[u8; PAGE]>>,
}

impl Base for State {
    fn page(&self, page: usize) -> Option<&[u8]> {
        if page >= self.pages_len() {
            return None;
        }
        match self.own.get(&page) {
            Some(own) => Some(&own[..]).filter(|own| !is_zero(own)),
            None => self.dictionary.page(page),
        }
    }

    fn pages(&self) -> impl Iterator<Item = usize> + '_ {
        let mut all: Vec<usize> = self.dictionary.pages().chain(self.own.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().filter(|page| self.page(*page).is_some())
    }
}

impl State {
    fn pages_len(&self) -> usize {
        self.rest.memory_bytes as usize / PAGE
    }

    /// Its root, as a machine in this state has it.
    pub fn root(&self) -> [u8; 32] {
        let pages = self.pages().filter_map(|page| Some((page, self.page(page)?)));
        root::of_pages(self.rest.memory_bytes, &self.rest.globals, &self.rest.host, pages)
    }

    /// Bytes of linear memory.
    pub fn memory_bytes(&self) -> u64 {
        self.rest.memory_bytes
    }

    pub(super) fn anchor(&self) -> Anchor {
        let mut patch = Patch::default();
        for (page, bytes) in self.own.range(..self.pages_len()) {
            patch.pages.push(*page);
            patch.bytes.extend_from_slice(&bytes[..]);
        }
        self.dictionary.anchor.patched(self.rest.clone(), patch)
    }
}

/// What the head of a packed state says of its base: the hash of the dictionary, or the root of a state.
fn base_hash(dictionary: &Dictionary, base: Option<&State>) -> [u8; HASH] {
    base.map_or(dictionary.hash, State::root)
}

fn header(module: &Module, base: [u8; HASH]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&module.sha256());
    out.extend_from_slice(blake3::hash(Engine::epoch_of(module.format()).as_bytes()).as_bytes());
    out.extend_from_slice(&base);
    out
}

/// Packs the state of a machine at rest.
pub fn pack(module: &Module, live: &mut Live, anchor: &Anchor, base: Option<&State>) -> Result<Bytes, Error> {
    let dictionary = module.dictionary()?;
    let runs = anchor.live_runs(live);
    let mut out = header(module, base_hash(&dictionary, base));
    Rest::put(live, &mut out);
    put_disk(&mut out, &live.host_state().disk)?;
    match base {
        None => put_pages(
            &mut out,
            live,
            &Difference::of(live, &runs, &*dictionary),
            &*dictionary,
        )?,
        Some(base) => put_pages(&mut out, live, &Difference::of(live, &runs, base), base)?,
    }
    Ok(seal(out))
}

fn put_disk(out: &mut Vec<u8>, disk: &Disk) -> Result<(), Error> {
    let bytes = disk.to_bytes();
    put32(out, bytes.len());
    put_frame(out, &bytes, &[])
}

fn put_pages(out: &mut Vec<u8>, live: &Live, difference: &Difference, base: &impl Base) -> Result<(), Error> {
    difference.put(out);
    let memory = live.memory();
    for group in difference.data.chunks(GROUP) {
        let mut raw = Vec::with_capacity(group.len() * PAGE);
        group
            .iter()
            .for_each(|page| raw.extend_from_slice(&memory[page * PAGE..(page + 1) * PAGE]));
        put_frame(out, &raw, &before(base, group))?;
    }
    Ok(())
}

/// The base's pages of the same places, as far as they are not zero.
fn before(base: &impl Base, group: &[usize]) -> Vec<u8> {
    let mut before = Vec::with_capacity(group.len() * PAGE);
    let pages = group.iter().filter_map(|page| base.page(*page));
    pages.for_each(|page| before.extend_from_slice(page));
    before
}

fn put_frame(out: &mut Vec<u8>, raw: &[u8], before: &[u8]) -> Result<(), Error> {
    let packed = compress(raw, before).map_err(|code| {
        let name = zstd_safe::get_error_name(code);
        Error::Host(format!("a state cannot be compressed: {name}"))
    })?;
    put32(out, packed.len());
    out.extend_from_slice(&packed);
    Ok(())
}

fn compress(raw: &[u8], before: &[u8]) -> Result<Vec<u8>, zstd_safe::ErrorCode> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(LEVEL))?;
    context.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    context.ref_prefix(before)?;
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
    context.compress2(&mut packed, raw)?;
    Ok(packed)
}

/// Unpacks exactly so many bytes.
fn take_frame(reader: &mut Reader<'_>, raw: usize, before: &[u8]) -> Result<Vec<u8>, Error> {
    let packed = reader.number()?;
    let packed = reader.take(packed)?;
    // The frame itself says how long it is, and may lie: nothing is written past what it may be.
    let mut unpacked = Vec::with_capacity(raw);
    let mut context = DCtx::create();
    let done = context
        .ref_prefix(before)
        .and_then(|_| context.decompress(&mut unpacked, packed));
    match done {
        Ok(_) if unpacked.len() == raw => Ok(unpacked),
        _ => Err(bad("a group of pages or its disk is damaged")),
    }
}

/// Unpacks a state that needs no more than `memory_bytes_max`. `base` must be the state that it was packed against.
pub fn unpack(
    module: &Module,
    memory_bytes_max: u64,
    base: Option<&State>,
    bytes: &[u8],
) -> Result<State, Error> {
    let dictionary = module.dictionary()?;
    let mut reader = Reader(opened(bytes, MAGIC)?);
    if reader.take(8 + 3 * HASH)? != header(module, base_hash(&dictionary, base)) {
        return Err(bad("it is of another module, engine epoch or base"));
    }
    let rest = Rest::read(&mut reader, take_disk)?;
    if rest.memory_bytes > memory_bytes_max {
        return Err(bad("it has more memory than the process may have"));
    }
    let difference = Difference::read(&mut reader, rest.memory_bytes as usize / PAGE)?;
    let mut own = base.map(|base| base.own.clone()).unwrap_or_default();
    own.split_off(&(rest.memory_bytes as usize / PAGE));
    static ZERO: std::sync::LazyLock<Arc<[u8; PAGE]>> = std::sync::LazyLock::new(|| Arc::new([0; PAGE]));
    own.extend(difference.zeros().map(|page| (page, ZERO.clone())));
    for group in difference.data.chunks(GROUP) {
        let before = match base {
            None => before(&*dictionary, group),
            Some(base) => before(base, group),
        };
        let raw = take_frame(&mut reader, group.len() * PAGE, &before)?;
        let pages = raw.as_chunks::<PAGE>().0.iter().map(|page| Arc::new(*page));
        own.extend(group.iter().copied().zip(pages));
    }
    reader.ended()?;
    Ok(State {
        dictionary,
        rest,
        own,
    })
}

fn take_disk(reader: &mut Reader<'_>) -> Result<Disk, Error> {
    let length = reader.number()?;
    if length > DISK_BYTES_MAX {
        return Err(bad("its disk is too large"));
    }
    let bytes = take_frame(reader, length, &[])?;
    Disk::from_bytes(&bytes).ok_or_else(|| bad("its disk is damaged"))
}
