//! A node in this program: all units in process, in a folder that goes with it or is kept.
//!
//! The invariant: what is temporary is removed when the command ends, however it ends short of a kill;
//! what a kill left behind the next start removes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aos_shell::error::Problem;
use aos_shell::{Facts, Node};
use spec::Signer;

use crate::assemble;
use crate::cli::Role;
use crate::config::Config;

/// What temporary folders are named by.
const PREFIX: &str = "weft-temporary-";
/// Age after which a folder without a lock was left behind, in s.
const SETTLED_S: u64 = 60;

/// Room that a node for one question needs, in bytes: its log is laid out in pieces of 16 MiB.
const ROOM_BYTES: u64 = 256 << 20;

/// The units, and where they keep things.
pub struct Local {
    /// The units.
    pub node: Arc<assemble::Node>,
    /// Their settings.
    pub config: Config,
    folder: Folder,
}

enum Folder {
    Temporary(PathBuf),
    Kept,
}

impl Local {
    /// A node for one question: its data goes with it, and is kept in memory where the system offers some,
    /// so that nothing waits for a disk that nobody will read again.
    pub async fn brief(listen: Option<SocketAddr>) -> Result<Local, Problem> {
        let memory = Path::new("/dev/shm");
        match has_room(memory) {
            true => Local::temporary(memory, listen).await,
            false => Local::sitting(listen).await,
        }
    }

    /// A node for a sitting: its data goes with it.
    pub async fn sitting(listen: Option<SocketAddr>) -> Result<Local, Problem> {
        Local::temporary(&std::env::temp_dir(), listen).await
    }

    async fn temporary(parent: &Path, listen: Option<SocketAddr>) -> Result<Local, Problem> {
        sweep(parent);
        let folder = fresh_folder(parent).map_err(|error| {
            Problem::new(
                "file",
                format!("cannot make a folder in {}: {error}", parent.display()),
            )
        })?;
        Local::open(folder.clone(), Folder::Temporary(folder), listen).await
    }

    /// A node on a folder that stays.
    pub async fn kept(folder: &Path, listen: Option<SocketAddr>) -> Result<Local, Problem> {
        Local::open(folder.to_path_buf(), Folder::Kept, listen).await
    }

    async fn open(data: PathBuf, folder: Folder, listen: Option<SocketAddr>) -> Result<Local, Problem> {
        let mut config = Config {
            data: Some(data),
            listen,
            roles: vec![Role::Mu, Role::Su, Role::Cu, Role::Gateway],
            ..Config::default()
        };
        config.cu.modules = cache_folder();
        let node = assemble::Node::open(&config).await;
        let node = node.map_err(|error| {
            if let Folder::Temporary(path) = &folder {
                let _ = std::fs::remove_dir_all(path);
            }
            Problem::new("file", format!("{error:#}"))
        })?;
        Ok(Local {
            node: Arc::new(node),
            config,
            folder,
        })
    }

    /// The node as a client sees it.
    pub fn client(&self) -> Arc<Node> {
        let here = "a local node runs all units";
        let node = &self.node;
        let facts = Facts {
            url: None,
            scheduler: node.addresses.su.expect(here),
            authority: node.addresses.mu.expect(here),
            kernel: Some(cu::kernel_id()),
        };
        Arc::new(Node::in_process(
            node.weave.clone().expect(here),
            node.su.clone().expect(here),
            node.cu.clone().expect(here),
            node.mu.clone().expect(here),
            facts,
        ))
    }

    /// A key that lives as long as the node's data: the messenger's own would make every message trusted.
    pub fn signer(&self) -> Arc<Signer> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the node's own keys were made from it a moment ago");
        Arc::new(Signer::ed25519(&seed))
    }

    /// Where the data is, if it stays.
    pub fn kept_at(&self) -> Option<&Path> {
        match self.folder {
            Folder::Temporary(_) => None,
            Folder::Kept => Some(&self.node.data),
        }
    }

    /// Stops the units in order, unless all they would write is about to go.
    pub async fn close(self) {
        if matches!(self.folder, Folder::Kept) {
            self.node.close().await;
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Folder::Temporary(path) = &self.folder {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Whether a folder can be written to and has room for a short life.
fn has_room(folder: &Path) -> bool {
    let room = rustix::fs::statvfs(folder).map(|stat| stat.f_bavail * stat.f_frsize);
    is_writable(folder) && room.is_ok_and(|bytes| bytes >= ROOM_BYTES)
}

fn is_writable(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

fn fresh_folder(parent: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    let name = format!(
        "{PREFIX}{}-{:016x}",
        std::process::id(),
        u64::from_le_bytes(bytes)
    );
    let folder = parent.join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

/// Removes folders whose program is gone: nobody holds the lock in them, and nobody is about to.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let age = entry.metadata().and_then(|meta| meta.modified()).ok();
        let age = age.and_then(|modified| modified.elapsed().ok());
        if is_ours && age.is_some_and(|age| age.as_secs() > SETTLED_S) && is_free(&entry.path()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn is_free(folder: &Path) -> bool {
    match std::fs::File::open(folder.join("lock")) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Where compiled modules are kept between programs: the folder that caches of programs lie in.
fn cache_folder() -> Option<PathBuf> {
    let folder = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(folder), _) if !folder.is_empty() => PathBuf::from(folder),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache"),
        _ => return None,
    };
    let folder = folder.join("weft").join("modules");
    crate::assemble::make_private(&folder).ok()?;
    is_writable(&folder).then_some(folder)
}
