//! The file system that a module sees: files in memory, a few folders and devices. Part of a process's state.
//!
//! Not here: guest memory, system call numbers. Invariant: contents and open files are a function of the calls made
//! and bounded in size; nothing of the host's file system, clock or randomness shows.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that all files of a process may hold.
pub const DISK_BYTES_MAX: u64 = 64 << 20;
/// Files and folders, and open files, of a process: each.
pub const ENTRIES_MAX: usize = 4096;

/// Error numbers as the modules' C library knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u16);

pub const EACCES: Errno = Errno(2);
pub const EBADF: Errno = Errno(8);
pub const EBUSY: Errno = Errno(10);
pub const EEXIST: Errno = Errno(20);
pub const EINVAL: Errno = Errno(28);
pub const EISDIR: Errno = Errno(31);
pub const EMFILE: Errno = Errno(33);
pub const ENOENT: Errno = Errno(44);
pub const ENOSPC: Errno = Errno(51);
pub const ENOTDIR: Errno = Errno(54);
pub const ENOTEMPTY: Errno = Errno(55);
pub const ENOTTY: Errno = Errno(59);
pub const EPERM: Errno = Errno(63);
pub const ERANGE: Errno = Errno(68);
pub const ESPIPE: Errno = Errno(70);

pub type Result<T> = std::result::Result<T, Errno>;

/// Open flags of the modules' C library.
const O_ACCESS: i32 = 3;
const O_CREATE: i32 = 0x40;
const O_EXCLUSIVE: i32 = 0x80;
const O_TRUNCATE: i32 = 0x200;
const O_APPEND: i32 = 0x400;
const O_FOLDER: i32 = 0x10000;

const FOLDERS: [&str; 7] = ["/", "/tmp", "/home", "/home/web_user", "/dev", "/proc", "/data"];

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Folder,
    File(u64),
    Device(Device),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Reads end at once, writes vanish.
    Null,
    /// As `Null`, and a terminal.
    Terminal,
    /// A fixed stream that restarts at each open.
    Random,
}

/// An open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub node: Node,
    pub path: String,
    pub position: u64,
    pub flags: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    names: BTreeMap<String, Node>,
    files: BTreeMap<u64, Arc<Vec<u8>>>,
    open: BTreeMap<u32, Open>,
    next_file: u64,
}

/// What `stat` tells.
pub struct Status {
    pub mode: u32,
    pub size: u64,
    pub number: u64,
}

impl Default for Disk {
    fn default() -> Disk {
        let mut names: BTreeMap<String, Node> =
            FOLDERS.iter().map(|f| (f.to_string(), Node::Folder)).collect();
        for (name, device) in [
            ("null", Device::Null),
            ("random", Device::Random),
            ("urandom", Device::Random),
        ] {
            names.insert(format!("/dev/{name}"), Node::Device(device));
        }
        for name in ["tty", "tty1", "stdin", "stdout", "stderr"] {
            names.insert(format!("/dev/{name}"), Node::Device(Device::Terminal));
        }
        let mut disk = Disk {
            names,
            files: BTreeMap::new(),
            open: BTreeMap::new(),
            next_file: 1,
        };
        for (fd, flags) in [(0, 0), (1, 1), (2, 1)] {
            disk.open.insert(
                fd,
                Open {
                    node: Node::Device(Device::Terminal),
                    path: "/dev/tty".into(),
                    position: 0,
                    flags,
                },
            );
        }
        disk
    }
}

/// Makes a path absolute and plain: no `.`, no `..`, no double or trailing slash.
pub fn absolute(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let from = if path.starts_with('/') { "" } else { folder };
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

impl Disk {
    /// Nothing was ever written or opened: what most processes have for ever.
    pub fn is_untouched(&self) -> bool {
        *self == Disk::default()
    }

    fn node(&self, path: &str) -> Result<&Node> {
        self.names.get(path).ok_or(ENOENT)
    }

    fn require_folder(&self, path: &str) -> Result<()> {
        if *self.node(path)? == Node::Folder {
            Ok(())
        } else {
            Err(ENOTDIR)
        }
    }

    fn stored_bytes(&self) -> u64 {
        self.files.values().map(|f| f.len() as u64).sum()
    }

    /// Opens a path; gives the descriptor.
    pub fn open(&mut self, path: &str, flags: i32) -> Result<u32> {
        if self.open.len() >= ENTRIES_MAX {
            return Err(EMFILE);
        }
        let node = match self.node(path) {
            Ok(_) if flags & (O_CREATE | O_EXCLUSIVE) == O_CREATE | O_EXCLUSIVE => return Err(EEXIST),
            Ok(node) => node.clone(),
            Err(_) if flags & O_CREATE != 0 => self.create(path)?,
            Err(e) => return Err(e),
        };
        match node {
            Node::Folder if flags & (O_ACCESS | O_TRUNCATE) != 0 => return Err(EISDIR),
            Node::File(_) | Node::Device(_) if flags & O_FOLDER != 0 => return Err(ENOTDIR),
            Node::File(file) if flags & O_TRUNCATE != 0 => {
                self.files.insert(file, Arc::default());
            }
            _ => {}
        }
        let flags = flags & !(O_CREATE | O_EXCLUSIVE | O_TRUNCATE);
        Ok(self.keep(
            0,
            Open {
                node,
                path: path.into(),
                position: 0,
                flags,
            },
        ))
    }

    fn create(&mut self, path: &str) -> Result<Node> {
        self.require_folder(parent(path))?;
        if self.names.len() >= ENTRIES_MAX {
            return Err(ENOSPC);
        }
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Arc::default());
        self.names.insert(path.into(), Node::File(file));
        Ok(Node::File(file))
    }

    /// Puts an open file at the first free descriptor from `least` on.
    fn keep(&mut self, least: u32, open: Open) -> u32 {
        let fd = (least..)
            .find(|fd| !self.open.contains_key(fd))
            .expect("fewer open files than numbers");
        self.open.insert(fd, open);
        fd
    }

    pub fn stream(&self, fd: i32) -> Result<&Open> {
        u32::try_from(fd)
            .ok()
            .and_then(|fd| self.open.get(&fd))
            .ok_or(EBADF)
    }

    fn stream_mut(&mut self, fd: i32) -> Result<&mut Open> {
        u32::try_from(fd)
            .ok()
            .and_then(|fd| self.open.get_mut(&fd))
            .ok_or(EBADF)
    }

    pub fn add_flags(&mut self, fd: i32, flags: i32) -> Result<()> {
        self.stream_mut(fd)?.flags |= flags;
        Ok(())
    }

    pub fn close(&mut self, fd: i32) -> Result<()> {
        self.stream(fd)?;
        self.open.remove(&(fd as u32));
        self.drop_unnamed();
        Ok(())
    }

    /// A copy of an open file at `least` or the first free descriptor after it.
    pub fn duplicate(&mut self, fd: i32, least: u32) -> Result<u32> {
        let open = self.stream(fd)?.clone();
        if self.open.len() >= ENTRIES_MAX || least as usize > ENTRIES_MAX {
            return Err(EMFILE);
        }
        Ok(self.keep(least, open))
    }

    /// A copy of an open file at exactly `to`, which is closed first.
    pub fn duplicate_onto(&mut self, fd: i32, to: i32) -> Result<u32> {
        let open = self.stream(fd)?.clone();
        let to = u32::try_from(to)
            .ok()
            .filter(|&to| (to as usize) < ENTRIES_MAX)
            .ok_or(EBADF)?;
        self.open.insert(to, open);
        self.drop_unnamed();
        Ok(to)
    }

    /// Forgets files that have neither a name nor an open descriptor.
    fn drop_unnamed(&mut self) {
        let is_file = |node: &Node, file: u64| *node == Node::File(file);
        let (names, open) = (&self.names, &self.open);
        self.files.retain(|&f, _| {
            names.values().any(|n| is_file(n, f)) || open.values().any(|o| is_file(&o.node, f))
        });
    }

    /// Reads at the file's position; fewer bytes at its end.
    pub fn read(&mut self, fd: i32, length: usize) -> Result<Vec<u8>> {
        let open = self.stream(fd)?;
        if open.flags & O_ACCESS == 1 {
            return Err(EBADF);
        }
        let at = open.position;
        let bytes = match open.node {
            Node::Folder => return Err(EISDIR),
            Node::Device(Device::Random) => (at..at + length as u64).map(fixed_byte).collect(),
            Node::Device(_) => Vec::new(),
            Node::File(file) => {
                let data = &self.files[&file];
                let start = data.len().min(at as usize);
                data[start..data.len().min(start + length)].to_vec()
            }
        };
        self.stream_mut(fd)?.position += bytes.len() as u64;
        Ok(bytes)
    }

    /// Writes at the file's position, or at its end where it was opened so.
    pub fn write(&mut self, fd: i32, bytes: &[u8]) -> Result<usize> {
        let open = self.stream(fd)?;
        if open.flags & O_ACCESS == 0 {
            return Err(EBADF);
        }
        let file = match open.node {
            Node::Folder => return Err(EISDIR),
            Node::Device(_) => return Ok(bytes.len()),
            Node::File(file) => file,
        };
        let at = if open.flags & O_APPEND != 0 {
            self.files[&file].len() as u64
        } else {
            open.position
        };
        let end = at + bytes.len() as u64;
        self.resize(file, end.max(self.files[&file].len() as u64))?;
        let data = Arc::make_mut(self.files.get_mut(&file).ok_or(EBADF)?);
        data[at as usize..end as usize].copy_from_slice(bytes);
        self.stream_mut(fd)?.position = end;
        Ok(bytes.len())
    }

    fn resize(&mut self, file: u64, length: u64) -> Result<()> {
        let old = self.files.get(&file).ok_or(EBADF)?.len() as u64;
        if length > old && self.stored_bytes() + (length - old) > DISK_BYTES_MAX {
            return Err(ENOSPC);
        }
        Arc::make_mut(self.files.get_mut(&file).ok_or(EBADF)?).resize(length as usize, 0);
        Ok(())
    }

    pub fn truncate(&mut self, fd: i32, length: i64) -> Result<()> {
        let length = u64::try_from(length).map_err(|_| EINVAL)?;
        match self.stream(fd)?.node {
            Node::File(file) => self.resize(file, length),
            _ => Err(EINVAL),
        }
    }

    /// Moves the position; gives the new one.
    pub fn seek(&mut self, fd: i32, offset: i64, whence: i32) -> Result<u64> {
        let open = self.stream(fd)?;
        let base = match (whence, &open.node) {
            (_, Node::Device(_)) => return Err(ESPIPE),
            (0, _) => 0,
            (1, _) => open.position,
            (2, Node::File(file)) => self.files[file].len() as u64,
            (2, _) => 0,
            _ => return Err(EINVAL),
        };
        let position = base
            .checked_add_signed(offset)
            .filter(|p| *p <= i64::MAX as u64)
            .ok_or(EINVAL)?;
        self.stream_mut(fd)?.position = position;
        Ok(position)
    }

    pub fn is_terminal(&self, fd: i32) -> Result<bool> {
        Ok(self.stream(fd)?.node == Node::Device(Device::Terminal))
    }

    pub fn status(&self, path: &str) -> Result<Status> {
        self.status_of(self.node(path)?)
    }

    pub fn status_of_stream(&self, fd: i32) -> Result<Status> {
        self.status_of(&self.stream(fd)?.node)
    }

    fn status_of(&self, node: &Node) -> Result<Status> {
        Ok(match node {
            Node::Folder => Status {
                mode: 0o40777,
                size: 4096,
                number: 1,
            },
            Node::Device(_) => Status {
                mode: 0o20666,
                size: 0,
                number: 2,
            },
            Node::File(file) => {
                let size = self.files.get(file).ok_or(ENOENT)?.len() as u64;
                Status {
                    mode: 0o100666,
                    size,
                    number: 16 + file,
                }
            }
        })
    }

    pub fn make_folder(&mut self, path: &str) -> Result<()> {
        if self.names.contains_key(path) {
            return Err(EEXIST);
        }
        self.require_folder(parent(path))?;
        if self.names.len() >= ENTRIES_MAX {
            return Err(ENOSPC);
        }
        self.names.insert(path.into(), Node::Folder);
        Ok(())
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = if path == "/" {
            "/".to_string()
        } else {
            format!("{path}/")
        };
        self.names
            .keys()
            .any(|n| n.len() > prefix.len() && n.starts_with(&prefix))
    }

    pub fn remove_folder(&mut self, path: &str) -> Result<()> {
        self.require_folder(path)?;
        if FOLDERS.contains(&path) {
            return Err(EBUSY);
        }
        if self.has_children(path) {
            return Err(ENOTEMPTY);
        }
        self.names.remove(path);
        Ok(())
    }

    pub fn unlink(&mut self, path: &str) -> Result<()> {
        match self.node(path)? {
            Node::Folder => Err(EISDIR),
            Node::Device(_) => Err(EPERM),
            Node::File(_) => {
                self.names.remove(path);
                self.drop_unnamed();
                Ok(())
            }
        }
    }

    /// Renames a file, or a folder without contents.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let node = self.node(from)?.clone();
        self.require_folder(parent(to))?;
        match (&node, self.names.get(to)) {
            (Node::Device(_), _) | (_, Some(Node::Device(_))) => return Err(EPERM),
            (Node::Folder, _) if FOLDERS.contains(&from) || self.has_children(from) => return Err(EBUSY),
            (Node::Folder, Some(_)) => return Err(EEXIST),
            (Node::File(_), Some(Node::Folder)) => return Err(EISDIR),
            _ => {}
        }
        self.names.remove(from);
        self.names.insert(to.into(), node);
        self.drop_unnamed();
        Ok(())
    }
}

/// Byte `at` of the stream behind the random devices: the same for everybody, for ever.
fn fixed_byte(at: u64) -> u8 {
    // The finalizer of a 64-bit mixer; the quality needed is "not all equal".
    let mut x = (at / 8).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    (x >> (8 * (at % 8))) as u8
}

// ---- as bytes ----

impl Disk {
    /// Everything, in a fixed order; the empty text for an untouched disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.is_untouched() {
            return out;
        }
        put(&mut out, self.next_file);
        put(&mut out, self.names.len() as u64);
        for (name, node) in &self.names {
            put_text(&mut out, name.as_bytes());
            put_node(&mut out, node);
        }
        put(&mut out, self.files.len() as u64);
        for (file, data) in &self.files {
            put(&mut out, *file);
            put_text(&mut out, data);
        }
        put(&mut out, self.open.len() as u64);
        for (fd, open) in &self.open {
            put(&mut out, *fd as u64);
            put_node(&mut out, &open.node);
            put_text(&mut out, open.path.as_bytes());
            put(&mut out, open.position);
            put(&mut out, open.flags as u32 as u64);
        }
        out
    }

    /// The reverse of `to_bytes`; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Disk> {
        if bytes.is_empty() {
            return Some(Disk::default());
        }
        let mut disk = Disk {
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            open: BTreeMap::new(),
            next_file: 0,
        };
        let mut r = Reader(bytes);
        disk.next_file = r.number()?;
        for _ in 0..r.count()? {
            disk.names.insert(r.text()?, r.node()?);
        }
        for _ in 0..r.count()? {
            disk.files.insert(r.number()?, Arc::new(r.bytes()?.to_vec()));
        }
        for _ in 0..r.count()? {
            let fd = u32::try_from(r.number()?).ok()?;
            let (node, path, position) = (r.node()?, r.text()?, r.number()?);
            disk.open.insert(
                fd,
                Open {
                    node,
                    path,
                    position,
                    flags: r.number()? as u32 as i32,
                },
            );
        }
        (r.0.is_empty() && disk.is_consistent()).then_some(disk)
    }

    fn is_consistent(&self) -> bool {
        let nodes = self.names.values().chain(self.open.values().map(|o| &o.node));
        let mut files = nodes.filter_map(|n| if let Node::File(f) = n { Some(*f) } else { None });
        files.all(|f| f < self.next_file && self.files.contains_key(&f))
    }
}

fn put(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn put_node(out: &mut Vec<u8>, node: &Node) {
    put(
        out,
        match node {
            Node::Folder => 0,
            Node::Device(Device::Null) => 1,
            Node::Device(Device::Terminal) => 2,
            Node::Device(Device::Random) => 3,
            Node::File(file) => 4 + file,
        },
    );
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }

    fn count(&mut self) -> Option<u64> {
        self.number().filter(|n| *n <= ENTRIES_MAX as u64)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn node(&mut self) -> Option<Node> {
        Some(match self.number()? {
            0 => Node::Folder,
            1 => Node::Device(Device::Null),
            2 => Node::Device(Device::Terminal),
            3 => Node::Device(Device::Random),
            file => Node::File(file - 4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_read_renamed_and_kept_while_open() {
        let mut d = Disk::default();
        assert_eq!(d.open("/tmp/a", 0), Err(ENOENT));
        let fd = d.open("/tmp/a", O_CREATE | 2).unwrap() as i32;
        assert_eq!(fd, 3);
        assert_eq!(d.write(fd, b"hello"), Ok(5));
        assert_eq!(d.seek(fd, 1, 0), Ok(1));
        assert_eq!(d.read(fd, 3).unwrap(), b"ell");
        d.rename("/tmp/a", "/tmp/b").unwrap();
        d.unlink("/tmp/b").unwrap();
        assert_eq!(d.seek(fd, 0, 0), Ok(0));
        assert_eq!(d.read(fd, 9).unwrap(), b"hello");
        assert_eq!(d.stored_bytes(), 5);
        d.close(fd).unwrap();
        assert_eq!(d.stored_bytes(), 0);
    }

    #[test]
    fn bounds_and_modes_are_kept() {
        let mut d = Disk::default();
        let fd = d.open("/tmp/a", O_CREATE | 1).unwrap() as i32;
        assert_eq!(d.read(fd, 1), Err(EBADF));
        assert_eq!(d.truncate(fd, DISK_BYTES_MAX as i64 + 1), Err(ENOSPC));
        assert_eq!(d.write(99, b"x"), Err(EBADF));
        assert_eq!(d.remove_folder("/tmp"), Err(EBUSY));
        assert_eq!(d.open("/tmp/a", O_CREATE | O_EXCLUSIVE), Err(EEXIST));
        assert_eq!(d.open("/tmp/a/b", O_CREATE), Err(ENOTDIR));
    }

    #[test]
    fn random_is_fixed_and_restarts_at_each_open() {
        let mut d = Disk::default();
        let a = d.open("/dev/urandom", 0).unwrap() as i32;
        let first = d.read(a, 16).unwrap();
        assert_ne!(first, d.read(a, 16).unwrap());
        let b = d.open("/dev/random", 0).unwrap() as i32;
        assert_eq!(first, d.read(b, 16).unwrap());
    }

    #[test]
    fn bytes_round_trip_and_rubbish_is_refused() {
        let mut d = Disk::default();
        assert!(d.to_bytes().is_empty());
        let fd = d.open("/tmp/x", O_CREATE | 2).unwrap() as i32;
        d.write(fd, &[7; 100]).unwrap();
        d.make_folder("/tmp/f").unwrap();
        let bytes = d.to_bytes();
        assert_eq!(Disk::from_bytes(&bytes), Some(d));
        assert_eq!(Disk::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Disk::from_bytes(&[1; 9]), None);
    }

    #[test]
    fn paths_become_absolute() {
        assert_eq!(absolute("/tmp", "a/../b//c/."), "/tmp/b/c");
        assert_eq!(absolute("/tmp", "/x/"), "/x");
        assert_eq!(absolute("/", "../.."), "/");
    }
}
