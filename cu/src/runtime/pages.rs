//! The runtime's only unsafe code: linear memories as mappings, and what only the kernel can tell.
//!
//! A linear memory is a reservation of 4 GiB and a guard. Its pages are anonymous, or private views of a state file
//! (see `anchor`), so that going back to a saved state is a new mapping and saving is a copy of touched pages only.
//! One page past the 32-bit space is the safepoint: compiled code reads it, and stops where it is made unreadable.
//!
//! Not here: any decision. Invariant: nothing outside a region's own reservation is ever mapped or protected.
#![allow(
    unsafe_code,
    reason = "mapping memory and loading compiled code have no safe form"
)]

use crate::rewrite::guard::SAFEPOINT_OFFSET;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// The unit of tracking, hashing and storing.
pub const PAGE: usize = 4096;
/// Address space of one linear memory.
pub const RESERVATION: usize = 4 << 30;
/// Unmapped space after it. Compiled code leaves bounds checks out because of it.
pub const GUARD: usize = 32 << 20;
/// The page that safepoints read: the access is at index `u32::MAX` plus the static offset.
const SAFEPOINT: usize = (u32::MAX as usize + SAFEPOINT_OFFSET as usize) & !(PAGE - 1);
const _: () = assert!(SAFEPOINT > RESERVATION && SAFEPOINT + PAGE <= RESERVATION + GUARD);

/// A run of pages: first index, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the first page.
    pub start: usize,
    /// Pages.
    pub len: usize,
}

impl Run {
    /// Index past the last page.
    pub fn end(self) -> usize {
        self.start + self.len
    }
}

/// The address space of one linear memory.
#[derive(Debug)]
pub struct Region {
    base: *mut u8,
    bytes: AtomicUsize,
}

// SAFETY: the pointer is to a mapping owned by the region for its whole life; the methods only call the kernel with
// ranges of it. Reads and writes of the contents go through the store that owns the memory.
unsafe impl Send for Region {}
// SAFETY: as above; `bytes` is atomic.
unsafe impl Sync for Region {}

impl Region {
    fn reserve(bytes: usize) -> io::Result<Region> {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(
                std::ptr::null_mut(),
                RESERVATION + GUARD,
                libc::PROT_NONE,
                flags,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let region = Region {
            base: base.cast(),
            bytes: AtomicUsize::new(0),
        };
        region.grow(bytes)?;
        region.open_safepoint()?;
        Ok(region)
    }

    /// Bytes that are accessible now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: usize) -> io::Result<()> {
        assert!(
            bytes <= RESERVATION && bytes.is_multiple_of(PAGE),
            "a linear memory grows by whole pages within 4 GiB"
        );
        let old = self.bytes();
        if bytes > old {
            self.protect(old, bytes - old, libc::PROT_READ | libc::PROT_WRITE)?;
            self.bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Lets safepoints pass.
    pub fn open_safepoint(&self) -> io::Result<()> {
        self.protect(SAFEPOINT, PAGE, libc::PROT_READ)
    }

    /// Makes the next safepoint trap.
    pub fn close_safepoint(&self) -> io::Result<()> {
        self.protect(SAFEPOINT, PAGE, libc::PROT_NONE)
    }

    fn protect(&self, at: usize, bytes: usize, how: libc::c_int) -> io::Result<()> {
        assert!(at + bytes <= RESERVATION + GUARD, "inside the reservation");
        // SAFETY: the range is inside this region's own reservation (asserted).
        let r = unsafe { libc::mprotect(self.base.add(at).cast(), bytes, how) };
        if r == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Puts private views of a state file's pages in place of whatever stands there.
    pub fn view(&self, file: &File, run: Run) -> io::Result<()> {
        assert!(run.end() * PAGE <= self.bytes(), "a view lies inside the memory");
        // SAFETY: the range is inside this region's accessible part (asserted) and belongs to no Rust object: the
        // caller holds the store exclusively, so no slice of the memory is alive.
        let at = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
            let how = libc::PROT_READ | libc::PROT_WRITE;
            let to = self.base.add(run.start * PAGE).cast();
            libc::mmap(
                to,
                run.len * PAGE,
                how,
                flags,
                file.as_raw_fd(),
                (run.start * PAGE) as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Forgets every private page: anonymous pages become zero, viewed pages what the state file holds.
    pub fn forget_private(&self) -> io::Result<()> {
        // SAFETY: as for `view`; the contents change as if the module had written them.
        let r = unsafe { libc::madvise(self.base.cast(), self.bytes(), libc::MADV_DONTNEED) };
        if r == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Pages that may differ from what `forget_private` would leave: those with a private copy in memory or swap.
    /// Where the kernel does not tell, all of them.
    pub fn private_runs(&self) -> Vec<Run> {
        let pages = self.bytes() / PAGE;
        self.read_pagemap(pages)
            .unwrap_or_else(|_| vec![Run { start: 0, len: pages }])
    }

    /// `/proc/self/pagemap` has eight bytes a page: bit 63 present, 62 swapped, 61 a page of a file.
    fn read_pagemap(&self, pages: usize) -> io::Result<Vec<Run>> {
        #[cfg(test)]
        if tests::HIDDEN.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let map = File::open("/proc/self/pagemap")?;
        let first = self.base as usize / PAGE;
        let mut buffer = vec![0u8; 8 * pages.min(1 << 15)];
        let (mut runs, mut done) = (Vec::<Run>::new(), 0);
        while done < pages {
            let now = (pages - done).min(1 << 15);
            map.read_exact_at(&mut buffer[..now * 8], ((first + done) * 8) as u64)?;
            for (i, entry) in buffer[..now * 8].as_chunks::<8>().0.iter().enumerate() {
                if is_private(u64::from_le_bytes(*entry)) {
                    push_page(&mut runs, done + i);
                }
            }
            done += now;
        }
        Ok(runs)
    }
}

fn is_private(entry: u64) -> bool {
    entry >> 62 != 0 && entry & (1 << 61) == 0
}

/// Adds a page behind the last run.
pub fn push_page(runs: &mut Vec<Run>, page: usize) {
    match runs.last_mut() {
        Some(run) if run.end() == page => run.len += 1,
        _ => runs.push(Run { start: page, len: 1 }),
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the whole reservation is this region's; whoever used the memory is gone, as it held the region.
        unsafe { libc::munmap(self.base.cast(), RESERVATION + GUARD) };
    }
}

/// Hands regions to the engine and remembers them, so that their owner can find them.
#[derive(Debug, Default)]
pub struct Regions {
    made: Mutex<HashMap<usize, Weak<Region>>>,
}

impl Regions {
    /// The region of the memory that starts at `base`.
    pub fn of(&self, base: *const u8) -> Option<Arc<Region>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.remove(&(base as usize)).and_then(|r| r.upgrade())
    }
}

/// The engine's side of a region.
struct Linear(Arc<Region>);

// SAFETY: the memory is page aligned, followed by a guard that stays unmapped but for the safepoint page, which no
// guest address reaches: static offsets are bounded below it by the rewrite, and other code is not compiled.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        self.0.bytes()
    }

    fn byte_capacity(&self) -> usize {
        RESERVATION
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        self.0.grow(new_size).map_err(wasmtime::Error::new)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base
    }
}

/// Makes linear memories for an engine.
#[derive(Debug)]
pub struct Creator(pub Arc<Regions>);

// SAFETY: each memory is a region of its own with the reservation and guard that the engine was configured for;
// a request for more is refused.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if reserved.is_some_and(|r| r > RESERVATION) || guard > GUARD || minimum > RESERVATION {
            return Err("a memory beyond 4 GiB".into());
        }
        let region = Arc::new(Region::reserve(minimum).map_err(|e| e.to_string())?);
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|_, r| r.strong_count() > 0);
        made.insert(region.base as usize, Arc::downgrade(&region));
        Ok(Box::new(Linear(region)))
    }
}

/// A nameless file in memory that holds the pages of a state. Where memory files are forbidden, a deleted file.
pub fn state_file() -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated literal; the descriptor is checked before it is owned.
    unsafe {
        let fd = libc::memfd_create(c"weft-state".as_ptr(), libc::MFD_CLOEXEC);
        if fd >= 0 {
            return Ok(File::from_raw_fd(fd));
        }
        let folder = std::env::temp_dir();
        let folder = std::ffi::CString::new(folder.into_os_string().into_encoded_bytes())?;
        let fd = libc::open(
            folder.as_ptr(),
            libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC,
            0o600,
        );
        if fd >= 0 {
            Ok(File::from_raw_fd(fd))
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Turns the bytes of a compiled module back into code.
///
/// The bytes must be what this engine's `serialize` wrote: the caller has checked magic, version, key and checksum,
/// and the folder they come from is private to this user.
pub fn deserialize(engine: &wasmtime::Engine, bytes: &[u8]) -> wasmtime::Result<wasmtime::Module> {
    // SAFETY: see above; a foreign version is refused by the engine itself.
    unsafe { wasmtime::Module::deserialize(engine, bytes) }
}

/// Bytes of stack left below the caller on this thread; 0 where that is unknown.
pub fn stack_left() -> usize {
    thread_local!(static LOWEST: usize = lowest_stack_address());
    let here = 0u8;
    let here = (&raw const here) as usize;
    LOWEST.with(|lowest| {
        if *lowest == 0 {
            0
        } else {
            here.saturating_sub(*lowest)
        }
    })
}

fn lowest_stack_address() -> usize {
    // SAFETY: the attributes are initialised by `pthread_getattr_np` before they are read, and destroyed after.
    unsafe {
        let mut attributes = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) != 0 {
            return 0;
        }
        let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
        let ok = libc::pthread_attr_getstack(&attributes, &mut lowest, &mut size) == 0;
        libc::pthread_attr_destroy(&mut attributes);
        if ok { lowest as usize } else { 0 }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// Makes the kernel's page map unavailable, as in some containers.
    pub static HIDDEN: AtomicBool = AtomicBool::new(false);

    /// Writes one byte as the module would.
    fn poke(region: &Region, at: usize, value: u8) {
        assert!(at < region.bytes());
        // SAFETY: inside the accessible part (asserted), and nobody else uses this region.
        unsafe { region.base.add(at).write_volatile(value) };
    }

    fn peek(region: &Region, at: usize) -> u8 {
        assert!(at < region.bytes() || (SAFEPOINT..SAFEPOINT + PAGE).contains(&at));
        // SAFETY: readable memory of this region (asserted), and nobody else uses it.
        unsafe { region.base.add(at).read_volatile() }
    }

    #[test]
    fn touched_pages_are_found_forgotten_and_viewed() {
        let region = Region::reserve(64 * PAGE).unwrap();
        poke(&region, 3 * PAGE, 7);
        poke(&region, 10 * PAGE + 5, 8);
        let found = region.private_runs();
        let covers = |page: usize| found.iter().any(|r| r.start <= page && page < r.end());
        assert!(covers(3) && covers(10), "{found:?}");
        region.forget_private().unwrap();
        assert_eq!((peek(&region, 3 * PAGE), peek(&region, 10 * PAGE + 5)), (0, 0));

        let file = state_file().unwrap();
        file.set_len(64 * PAGE as u64).unwrap();
        file.write_all_at(&[9; PAGE], 20 * PAGE as u64).unwrap();
        region.view(&file, Run { start: 18, len: 6 }).unwrap();
        assert_eq!((peek(&region, 20 * PAGE), peek(&region, 19 * PAGE)), (9, 0));
        poke(&region, 20 * PAGE, 1);
        region.forget_private().unwrap();
        assert_eq!(peek(&region, 20 * PAGE), 9, "back to what the file holds");
    }

    #[test]
    fn the_safepoint_opens_and_closes() {
        let region = Region::reserve(PAGE).unwrap();
        assert_eq!(peek(&region, SAFEPOINT), 0);
        region.close_safepoint().unwrap();
        region.open_safepoint().unwrap();
        assert_eq!(peek(&region, SAFEPOINT), 0);
    }

    #[test]
    fn a_thread_knows_its_stack() {
        let left = std::thread::Builder::new()
            .stack_size(8 << 20)
            .spawn(stack_left)
            .unwrap()
            .join()
            .unwrap();
        assert!(left > 7 << 20 && left <= 9 << 20, "{left}");
    }
}
