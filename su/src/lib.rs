//! The scheduler unit: gives each message a slot in its process's log, and serves that log.
//!
//! Not here: what a message means. The scheduler reads the tags it must check and nothing more. The
//! invariants: a slot is answered only once it is durable; slots of a process are gapless and its
//! timestamps strictly increase; the index is derived from the log and may be deleted.

pub mod assign;
pub mod authority;
pub mod belongings;
pub mod bench;
pub mod bench_upload;
pub mod check;
pub mod clock;
pub mod config;
mod copies;
pub mod error;
pub mod http;
pub mod index;
pub mod journal;
pub mod note;
mod read;
mod rebuild;
pub mod resume;
mod writer;

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use spec::assignment::MODULE_USED;
use spec::contract::{
    Answer, Class, Content, Field, LogEntry, LogPage, Permanent, Scheduled, Scheduler, Span, Stored, Tick,
};
use spec::{Address, DataItem, ItemId, ProcessId, Refusal, Signer, Tag, Tags};

pub use config::Config;
pub use error::Error;

use crate::assign::Ask;
use crate::authority::Authority;
use crate::belongings::Belongings;
use crate::check::Wish;
use crate::clock::{Clock, Heights, WallClock};
use crate::error::Result;
use crate::index::{Index, Key};
use crate::journal::Journal;
use crate::read::Reader;
use crate::writer::{Work, Writer};

/// What else slot 0's assignment says about a new process: the engine epoch, and other decisions
/// taken at spawn. A refusal refuses the spawn. A tag `Storage` among them decides the class.
pub type BootTags = Arc<dyn Fn(DataItem) -> BootDecision + Send + Sync>;

/// A decision under way; it may have to look into the weave.
pub type BootDecision = Pin<Box<dyn Future<Output = Answer<Tags>> + Send>>;

/// What a scheduler works with.
pub struct Parts {
    /// The scheduler's key.
    pub signer: Arc<Signer>,
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// Where items to assign are found.
    pub permanent: Arc<dyn Permanent>,
    /// The wall clock, in ms; see [`clock::wall_clock`].
    pub now: WallClock,
    /// Block height at a moment.
    pub heights: Heights,
    /// The value of slot 0's tag `Chain`; says how heights follow from time.
    pub chain: String,
    /// Further tags of slot 0's assignment.
    pub boot_tags: BootTags,
    /// Where the items of processes go that do not say so themselves.
    pub class: Class,
    /// Finds what must be in a process's class beside its log.
    pub belongings: Arc<dyn Belongings>,
}

/// A running scheduler.
pub struct Su {
    config: Config,
    address: Address,
    writer: Mutex<Option<Arc<Writer>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    reader: Reader,
    permanent: Arc<dyn Permanent>,
    chain: String,
    boot_tags: BootTags,
    class: Class,
    belongings: Arc<dyn Belongings>,
    authority: Arc<Authority>,
    /// Nothing gets a slot until somebody says that it may.
    is_suspended: bool,
}

impl Su {
    /// Opens the scheduler of a data folder: brings its index (`cache/su.redb`) up to the log's end
    /// and starts the writer.
    ///
    /// # Errors
    /// A log that contradicts itself, or an index that cannot be written.
    pub fn open(config: Config, data: &Path, parts: Parts) -> Result<Arc<Su>> {
        let index = Arc::new(open_index(&config, data, &*parts.journal)?);
        let replayed = rebuild::catch_up(&index, &*parts.journal)?;
        if replayed > 0 {
            tracing::info!(replayed, "the scheduler's index was brought up to the log's end");
        }
        let Parts {
            signer,
            journal,
            permanent,
            now,
            heights,
            chain,
            boot_tags,
            class,
            belongings,
        } = parts;
        let past = index.past();
        let is_suspended = past.turns.is_suspended();
        let authority = match is_suspended {
            // Nothing is signed until somebody resumes, and that needs the key.
            true => Authority::told(signer, &*journal, past.turns)?,
            false => Authority::read(signer, &*journal, past.turns)?,
        };
        let authority = Arc::new(authority);
        let clock = Clock::new(now, heights, config.lease_ms, past);
        if is_suspended {
            tracing::warn!("{SUSPENDED}");
        }
        let parts = writer::Parts {
            authority: authority.clone(),
            belongings: belongings.clone(),
            journal: journal.clone(),
            index: index.clone(),
            clock,
        };
        let (writer, thread) = Writer::start(parts, &config)?;
        let reader = Reader {
            journal,
            index,
            page_bytes_max: config.page_bytes_max,
        };
        Ok(Arc::new(Su {
            config,
            address: authority.address(),
            writer: Mutex::new(Some(Arc::new(writer))),
            thread: Mutex::new(Some(thread)),
            reader,
            permanent,
            chain,
            boot_tags,
            class,
            belongings,
            authority,
            is_suspended,
        }))
    }

    /// The account that signs assignments.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The accounts that signed assignments before [`Su::address`] did, oldest first.
    pub fn predecessors(&self) -> Vec<Address> {
        self.authority.predecessors()
    }

    /// The epoch of the assignments it makes.
    pub fn epoch(&self) -> u64 {
        self.authority.epoch()
    }

    /// Whether nothing gets a slot: the folder was made from what was published, and nobody has said
    /// that it may go on.
    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    /// Whether a process is permanent, or on its way there: by its spawn, or by its owner's later word.
    pub fn is_permanent(&self, process: ProcessId) -> bool {
        let first = self.reader.at(process, Some(0));
        first.is_ok_and(|first| self.reader.is_permanent(&first.assignment).unwrap_or(false))
    }

    /// The scheduler's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Finishes what is queued, stops the writer and writes the index out. Later requests are
    /// refused. Blocks; call it once no request is under way.
    ///
    /// # Errors
    /// If the index could not be written; the next start rebuilds it then.
    pub fn close(&self) -> Result<()> {
        drop(self.writer.lock().expect("no holder of this lock panics").take());
        if let Some(thread) = self.thread.lock().expect("no holder of this lock panics").take() {
            thread
                .join()
                .map_err(|_| Error::Thread("the writer panicked".into()))?;
        }
        self.reader.index.close()
    }

    fn writer(&self) -> Answer<Arc<Writer>> {
        let writer = self.writer.lock().expect("no holder of this lock panics").clone();
        writer.ok_or_else(|| Error::Closed.into())
    }

    /// Checks an item's signature and answers by what it is known again, if it was pushed. Much
    /// data is hashed on a helper thread.
    async fn verify(&self, process: ProcessId, item: &DataItem) -> Answer<Option<Key>> {
        let large = item.data_len() > self.config.inline_verify_bytes_max as u64;
        if !large || (item.is_verified() && !check::is_pushed(item)) {
            return verify(process, item);
        }
        let item = item.clone();
        let done = tokio::task::spawn_blocking(move || verify(process, &item)).await;
        done.unwrap_or_else(|error| Err(Refusal::internal(error.to_string())))
    }

    async fn spawn_work(&self, item: DataItem) -> Answer<Work> {
        if self.config.strict_scheduler {
            check::names_scheduler(&item, self.address)?;
        }
        if let Some(id) = check::on_boot(&item)? {
            let fetched = self.permanent.fetch(id).await;
            fetched.map_err(|refusal| {
                Refusal::new(
                    refusal.kind,
                    "no-on-boot",
                    format!("the item {id} of the tag On-Boot: {refusal}"),
                )
            })?;
        }
        let mut notes = (self.boot_tags)(item.clone()).await?;
        let decided = spec::tags::first(&notes, "Storage").and_then(check::class_of);
        let class = decided.map_or_else(|| check::class(&item, self.class), Ok)?;
        let mut needs = copies::needs(item.tags());
        let used = spec::tags::first(&notes, MODULE_USED);
        needs.extend(used.and_then(|id| id.parse::<ItemId>().ok()));
        if class == Class::Permanent {
            self.check_private(&needs).await?;
        }
        self.belongings.keep(needs, class).await?;
        for (name, value) in [
            ("Chain", self.chain.as_str()),
            ("Storage", check::class_name(class)),
        ] {
            if spec::tags::first(&notes, name).is_none() {
                notes.push(Tag::new(name, value));
            }
        }
        Ok(Work {
            process: item.id().into(),
            subject: item.id(),
            spawn: Some(class),
            item: Some(item),
            pushed: None,
            widens: false,
            ask: Ask {
                notes,
                ..Ask::default()
            },
        })
    }

    /// Refuses to make anything permanent by naming it that is on this machine alone and not the namer's to publish.
    async fn check_private(&self, ids: &[ItemId]) -> Answer<()> {
        let is_local = |process| self.reader.is_local(process);
        let private = self.belongings.private(ids, &is_local).await?;
        let Some(id) = private.first() else { return Ok(()) };
        let text = format!(
            "{id} is kept on this machine: it belongs to a local process, or was brought to stay; whoever has it makes it \
             permanent by posting it to /tx/arweave"
        );
        Err(Refusal::invalid("is-local", text))
    }

    /// A suspended scheduler still tells a message that has its slot from one that has none.
    fn check_suspended(&self, process: ProcessId, id: ItemId, pushed: Option<Key>) -> Answer<()> {
        if !self.is_suspended {
            return Ok(());
        }
        let view = self.reader.index.view()?;
        if view.place(Key::of_id(process, id))?.is_some() {
            return Err(writer::message_exists());
        }
        let is_known = pushed.map(|key| view.place(key)).transpose()?.flatten();
        match is_known {
            Some(_) => Err(writer::deep_hash_exists()),
            None => Err(Refusal::busy("scheduling-suspended", SUSPENDED)),
        }
    }

    /// Whether a message turns its process permanent: its owner sent it, and the process is local.
    ///
    /// # Errors
    /// The owner asks for a process whose log is another scheduler's to publish.
    fn may_widen(&self, process: ProcessId, item: &DataItem) -> Answer<bool> {
        // An unknown process is refused in its turn.
        let Ok(first) = self.reader.at(process, Some(0)) else {
            return Ok(false);
        };
        let owner = match &first.content {
            Content::Item(process) => process.owner(),
            Content::Withheld(process) => process.owner(),
            Content::Elsewhere => return Ok(false),
        };
        if owner != item.owner() || self.reader.is_permanent(&first.assignment)? {
            return Ok(false);
        }
        check::widenable(&first.assignment)?;
        Ok(true)
    }

    async fn entries(&self, process: ProcessId, span: Span, limit: usize) -> Answer<LogPage> {
        let plan = self
            .reader
            .plan(process, span, limit.min(self.config.page_entries_max))?;
        if plan.count() <= self.config.inline_entries_max {
            return self.reader.page(&plan);
        }
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.page(&plan)).await;
        read.unwrap_or_else(|error| Err(Refusal::internal(error.to_string())))
    }
}

/// What a suspended scheduler answers.
const SUSPENDED: &str = "scheduling is suspended: this data folder was made from what was published, and its scheduler \
     may have given slots that were not; make sure that it runs nowhere else, then start this node once with \
     --resume-scheduling";

impl Drop for Su {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!("{error}");
        }
    }
}

/// Opens the index; one that knows more than the log is of another log, and is built anew.
fn open_index(config: &Config, data: &Path, journal: &dyn Journal) -> Result<Index> {
    let folder = data.join("cache");
    std::fs::create_dir_all(&folder).map_err(Error::index)?;
    let path = folder.join("su.redb");
    let index = Index::open(&path, config)?;
    if index.cursor().is_none_or(|cursor| journal.read(cursor).is_ok()) {
        return Ok(index);
    }
    tracing::warn!("{} is of another log and is rebuilt", path.display());
    drop(index);
    std::fs::remove_file(&path).map_err(Error::index)?;
    Index::open(&path, config)
}

fn verify(process: ProcessId, item: &DataItem) -> Answer<Option<Key>> {
    item.verify()?;
    Ok(pushed(process, item))
}

/// By what a pushed message is known again in a process; nothing for what a user sent.
fn pushed(process: ProcessId, item: &DataItem) -> Option<Key> {
    let key = || Key::of_push(process, item.owner_address(), &spec::push_hash::push_hash(item));
    check::is_pushed(item).then(key)
}

/// An item may be assigned if the process will be able to read it.
fn assignable(stored: &Stored, exclude: &[Field]) -> Answer<()> {
    if stored.data().is_some() || exclude.contains(&Field::Data) {
        return Ok(());
    }
    let text = format!(
        "the data of {} was withheld; assign it with exclude=Data",
        stored.id()
    );
    Err(Refusal::invalid("no-data", text))
}

#[async_trait]
impl Scheduler for Su {
    async fn schedule(&self, item: DataItem) -> Answer<Scheduled> {
        // The order in which faults are named: signature, type, tags.
        let process = item
            .target()
            .map_or(item.id().into(), |target| ProcessId(*target));
        let pushed = self.verify(process, &item).await?;
        let wish = check::wish(&item)?;
        self.check_suspended(process, item.id(), pushed)?;
        let work = match wish {
            Wish::Spawn => self.spawn_work(item).await?,
            Wish::Message(process) => {
                let widens = check::asks_for_permanence(&item) && self.may_widen(process, &item)?;
                let notes = widens.then(|| Tag::new("Storage", check::class_name(Class::Permanent)));
                let ask = Ask {
                    message: Some(item.id()),
                    notes: notes.into_iter().collect(),
                    ..Ask::default()
                };
                Work {
                    process,
                    subject: item.id(),
                    item: Some(item),
                    spawn: None,
                    pushed,
                    widens,
                    ask,
                }
            }
        };
        self.writer()?.slot(work).await
    }

    async fn assign(
        &self,
        process: ProcessId,
        id: ItemId,
        _: bool,
        exclude: Vec<Field>,
    ) -> Answer<Scheduled> {
        // What the weave holds is there whether its bytes came in a bundle or in the base layer.
        let stored = self.permanent.fetch(id).await?;
        assignable(&stored, &exclude)?;
        let pushed = stored.item().and_then(|item| pushed(process, item));
        self.check_suspended(process, id, pushed)?;
        if !self.reader.is_local(process)? {
            self.check_private(&[id]).await?;
        }
        let exclude = Field::ALL
            .into_iter()
            .filter(|field| exclude.contains(field))
            .collect();
        let ask = Ask {
            message: Some(id),
            exclude,
            ..Ask::default()
        };
        let work = Work {
            process,
            subject: id,
            item: None,
            spawn: None,
            pushed,
            widens: false,
            ask,
        };
        self.writer()?.slot(work).await
    }

    async fn log(&self, process: ProcessId, span: Span, limit: usize) -> Answer<LogPage> {
        self.entries(process, span, limit).await
    }

    async fn message(&self, process: ProcessId, id: ItemId) -> Answer<LogEntry> {
        self.reader.message(process, id)
    }

    async fn latest(&self, process: ProcessId) -> Answer<LogEntry> {
        self.reader.at(process, None)
    }

    async fn process(&self, id: ProcessId) -> Answer<LogEntry> {
        self.reader.at(id, Some(0))
    }

    async fn tick(&self) -> Answer<Tick> {
        self.writer()?.tick().await
    }
}
