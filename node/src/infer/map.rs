//! A file's bytes, mapped: a model is read where the system already holds it.
//!
//! Not here: what is in it. Invariant: the bytes stay where they are as long as the [`Map`] lives. A file that somebody
//! shortens while it is mapped ends the program, as with every reader that maps; models are replaced, not rewritten.
#![allow(unsafe_code, reason = "mapping a file has no safe form")]

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::slice;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped file.
pub struct Map {
    at: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is private and read-only; nothing here changes it before it is dropped.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps a file that is not empty.
    pub fn open(path: &Path) -> Result<Map> {
        let file = File::open(path)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(Error::other)?;
        if length == 0 {
            return Err(Error::new(ErrorKind::InvalidData, "the file is empty"));
        }
        let (protection, flags) = (ProtFlags::READ, MapFlags::PRIVATE);
        // SAFETY: the system chooses a free place; nothing that exists is touched.
        let at = unsafe { mmap(null_mut(), length, protection, flags, &file, 0)? };
        let at = NonNull::new(at.cast()).ok_or_else(|| Error::other("mapped nowhere"))?;
        Ok(Map { at, length })
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: so many readable bytes are mapped there until `self` is dropped.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.length) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and nobody borrows from it any more.
        let unmapped = unsafe { munmap(self.at.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 5000]).unwrap();
        assert_eq!(Map::open(&path).unwrap().as_ref(), [7; 5000]);
        std::fs::write(&path, []).unwrap();
        assert!(Map::open(&path).is_err());
    }
}
