//! The cache of compiled modules: one file each, written whole or not at all, checked before it is trusted.
//! Not here: compiling. Invariant: rubbish in a file costs a compilation, nothing else.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: &[u8; 8] = b"WEFTCODE";
const VERSION: u32 = 1;
/// Magic, version, key, checksum.
const HEADER: usize = 8 + 4 + 32 + 32;

/// What a compiled module is a function of, as a key.
pub fn key(sha256: &[u8; 32], epoch: &str, format: &str, fueled: bool) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(sha256);
    for part in [epoch, format] {
        hasher
            .update(&(part.len() as u64).to_le_bytes())
            .update(part.as_bytes());
    }
    *hasher.update(&[fueled as u8]).finalize().as_bytes()
}

fn path(folder: &Path, key: &[u8; 32]) -> PathBuf {
    folder.join(format!("{}.code", blake3::Hash::from_bytes(*key).to_hex()))
}

/// The code under a key, if a whole and unharmed file of this version holds it.
pub fn read(folder: &Path, key: &[u8; 32]) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(path(folder, key)).ok()?;
    let header = bytes.get(..HEADER)?;
    let good = header[..8] == MAGIC[..]
        && header[8..12] == VERSION.to_le_bytes()
        && header[12..44] == key[..]
        && header[44..HEADER] == blake3::hash(&bytes[HEADER..]).as_bytes()[..];
    good.then(|| bytes.split_off(HEADER))
}

/// Keeps code under a key. A failure only means that it is compiled again.
pub fn write(folder: &Path, key: &[u8; 32], code: &[u8]) -> std::io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let unfinished = folder.join(format!("{}-{number}.tmp", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    let checksum = blake3::hash(code);
    let written = [MAGIC, &VERSION.to_le_bytes()[..], key, checksum.as_bytes(), code]
        .iter()
        .try_for_each(|b| file.write_all(b));
    let done = written.and_then(|()| std::fs::rename(&unfinished, path(folder, key)));
    if done.is_err() {
        std::fs::remove_file(&unfinished)?;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_rubbish_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (key_a, key_b) = (key(&[1; 32], "e", "f", false), key(&[1; 32], "e", "f", true));
        assert_ne!(key_a, key_b);
        assert_eq!(read(folder.path(), &key_a), None);
        write(folder.path(), &key_a, b"code").unwrap();
        assert_eq!(read(folder.path(), &key_a).as_deref(), Some(&b"code"[..]));
        let file = path(folder.path(), &key_a);
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(read(folder.path(), &key_a), None);
        std::fs::write(&file, b"short").unwrap();
        assert_eq!(read(folder.path(), &key_a), None);
        std::fs::copy(&file, path(folder.path(), &key_b)).unwrap();
        assert_eq!(read(folder.path(), &key_b), None);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            2,
            "no unfinished files stay"
        );
    }
}
