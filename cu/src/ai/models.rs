//! Models from permanent storage: the data of the item of an id, signed, registered on this node, or of the base layer;
//! before that, files of a folder that are named by their ids: `ID.item` is the signed item itself, others are the
//! operator's word like a registered item.
//! Not here: what a model is. Invariant: what is handed on under an id was proven as far as its kind can be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use inference::service::{Blob, Code, Models, Refusal as No, Unavailable};
use spec::contract::{Permanent, Stored};
use spec::{DataItem, ItemId, Kind};
use tokio::runtime::Handle;

/// How files are named that are whole items.
pub const ITEM: &str = "item";

/// How a file's bytes are had: read, or mapped by whoever may.
pub type Open = fn(&Path) -> io::Result<Blob>;

/// Models that a weave holds.
pub struct WeaveModels {
    permanent: Arc<dyn Permanent>,
    runtime: Handle,
    bytes_max: u64,
    folder: Option<PathBuf>,
    open: Open,
}

/// A file's bytes, as part of which an item's data is handed on.
struct Whole(Blob);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl WeaveModels {
    /// Models of that weave, read on that runtime, and of files `ID` or `ID.*` of a folder; larger ones are refused.
    pub fn new(
        permanent: Arc<dyn Permanent>,
        runtime: Handle,
        bytes_max: u64,
        folder: Option<PathBuf>,
    ) -> WeaveModels {
        WeaveModels {
            permanent,
            runtime,
            bytes_max,
            folder,
            open: |path| Ok(Arc::new(std::fs::read(path)?)),
        }
    }

    /// Has files opened otherwise than by reading them whole.
    pub fn opened_by(self, open: Open) -> WeaveModels {
        WeaveModels { open, ..self }
    }

    fn within(&self, bytes: u64) -> Result<(), No> {
        if bytes <= self.bytes_max {
            return Ok(());
        }
        let why = format!(
            "it has {bytes} bytes, `cu.inference.model_bytes_max` is {}",
            self.bytes_max
        );
        Err(No::room(why))
    }

    /// The file of an id, if there is one.
    fn file(&self, id: ItemId) -> Result<Option<Blob>, No> {
        let Some(path) = self
            .folder
            .as_deref()
            .and_then(|folder| named(folder, &id.to_string()))
        else {
            return Ok(None);
        };
        let broken = |error: std::io::Error| No::absent(format!("{}: {error}", path.display()));
        self.within(std::fs::metadata(&path).map_err(broken)?.len())?;
        let bytes = (self.open)(&path).map_err(broken)?;
        if path.extension().is_none_or(|extension| extension != ITEM) {
            return Ok(Some(bytes));
        }
        let item = DataItem::parse_verified(Bytes::from_owner(Whole(bytes)))
            .map_err(|error| No::absent(format!("{}: {error}", path.display())))?;
        match item.id() == id {
            true => Ok(Some(Arc::new(item.data()))),
            false => Err(No::absent(format!("{} is item {}", path.display(), item.id()))),
        }
    }

    /// Reads on the runtime, waits here: the caller's thread may be anybody's.
    fn fetch(&self, id: ItemId) -> Result<Stored, No> {
        let (permanent, (reply, answer)) = (self.permanent.clone(), mpsc::sync_channel(1));
        self.runtime.spawn(async move {
            // Who asked may have gone with the node.
            let _ = reply.send(permanent.fetch(id).await);
        });
        let fetched = answer.recv().map_err(|_| No::Unavailable(Unavailable::Closed))?;
        fetched.map_err(|refusal| match refusal.kind {
            Kind::Busy => No::busy(refusal.text),
            _ => No::absent(refusal.text),
        })
    }
}

impl Models for WeaveModels {
    fn bytes(&self, id: &str) -> Result<Blob, No> {
        let named: ItemId = id
            .parse()
            .map_err(|_| No::certain(Code::Invalid, format!("`{id}` is no id of an item")))?;
        if let Some(file) = self.file(named)? {
            return Ok(file);
        }
        let stored = self.fetch(named)?;
        if stored.id() != named {
            return Err(No::absent(format!(
                "the weave answers with {} instead",
                stored.id()
            )));
        }
        if let Some(item) = stored.item() {
            item.verify().map_err(No::absent)?;
        }
        let data = stored
            .data()
            .ok_or_else(|| No::absent("its data was withheld, or has not come yet"))?;
        self.within(data.len() as u64)?;
        Ok(Arc::new(data))
    }
}

/// A file of a folder whose name is an id, up to a point; the signed item before others.
fn named(folder: &Path, id: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    files
        .into_iter()
        .filter(|path| path.file_stem().is_some_and(|stem| stem == id))
        .max_by_key(|path| path.extension().is_some_and(|extension| extension == ITEM))
}
