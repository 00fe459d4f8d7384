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
use super::dictionary::Dictionary;
use super::engine::Engine;
use super::host::disk::Disk;
use super::layout::{Difference, HASH, Reader, Rest, bad, opened, put32, seal};
use super::live::Live;
use super::module::Module;
use super::pages::PAGE;
use bytes::Bytes;
use lz4_flex::block::{compress_with_dict, decompress_with_dict};

const MAGIC: &[u8; 8] = b"WEFTIMG1";
/// Pages compressed together.
const CHUNK: usize = 4;

/// The state of a machine at rest.
pub fn encode(module: &Module, live: &mut Live, anchor: &Anchor) -> Result<Bytes, Error> {
    let dictionary = module.dictionary()?;
    let runs = anchor.live_runs(live);
    let difference = Difference::of(live, &runs, &*dictionary);
    let mut out = header(module, &dictionary);
    Rest::put(live, &mut out);
    let disk = live.host_state().disk.to_bytes();
    put32(&mut out, disk.len());
    out.extend_from_slice(&disk);
    difference.put(&mut out);
    let memory = live.memory();
    for chunk in chunks(&difference.data) {
        // A chunk's pages are neighbours.
        let raw = &memory[chunk[0] * PAGE..(chunk[0] + chunk.len()) * PAGE];
        let packed = compress_with_dict(raw, &dictionary.context(chunk[0]));
        put32(&mut out, packed.len());
        out.extend_from_slice(&packed);
    }
    Ok(seal(out))
}

fn header(module: &Module, dictionary: &Dictionary) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&module.sha256());
    out.extend_from_slice(blake3::hash(Engine::epoch_of(module.format()).as_bytes()).as_bytes());
    out.extend_from_slice(&dictionary.hash);
    out
}

/// Chunks end where pages are not neighbours, so that one context fits the whole chunk.
fn chunks(pages: &[usize]) -> impl Iterator<Item = &[usize]> {
    pages
        .chunk_by(|a, b| a + 1 == *b)
        .flat_map(|run| run.chunks(CHUNK))
}

/// An anchor with the state of an image.
pub fn decode(module: &Module, image: &Bytes) -> Result<Anchor, Error> {
    let dictionary = module.dictionary()?;
    let mut reader = Reader(opened(image, MAGIC)?);
    if reader.take(8 + 3 * HASH)? != header(module, &dictionary) {
        return Err(bad("it is of another module, engine epoch or dictionary"));
    }
    let rest = Rest::read(&mut reader, |reader| {
        let length = reader.number()?;
        Disk::from_bytes(reader.take(length)?).ok_or_else(|| bad("its disk is damaged"))
    })?;
    let difference = Difference::read(&mut reader, rest.memory_bytes as usize / PAGE)?;
    let bytes = unpack(&mut reader, &dictionary, &difference.data)?;
    let patch = patch(&difference, bytes);
    Ok(dictionary.anchor.patched(rest, patch))
}

/// The bytes of the pages, one after the other.
fn unpack(reader: &mut Reader<'_>, dictionary: &Dictionary, data: &[usize]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(data.len() * PAGE);
    for chunk in chunks(data) {
        let packed = reader.number()?;
        let raw = chunk.len() * PAGE;
        let unpacked = decompress_with_dict(reader.take(packed)?, raw, &dictionary.context(chunk[0]));
        let unpacked = unpacked.map_err(|_| bad("a chunk is damaged"))?;
        if unpacked.len() != raw {
            return Err(bad("a chunk has another length"));
        }
        bytes.extend_from_slice(&unpacked);
    }
    reader.ended()?;
    Ok(bytes)
}

/// What differs from the dictionary, in order.
fn patch(difference: &Difference, bytes: Vec<u8>) -> Patch {
    let mut patch = Patch::default();
    let mut zeros = difference.zeros().peekable();
    let mut put = |page: usize, bytes: &[u8]| {
        patch.pages.push(page);
        patch.bytes.extend_from_slice(bytes);
    };
    for (page, bytes) in difference.data.iter().zip(bytes.as_chunks::<PAGE>().0) {
        while let Some(zero) = zeros.next_if(|zero| zero < page) {
            put(zero, &[0; PAGE]);
        }
        put(*page, bytes);
    }
    zeros.for_each(|zero| put(zero, &[0; PAGE]));
    patch
}
