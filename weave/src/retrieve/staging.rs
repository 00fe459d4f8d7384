//! Where a rebuild keeps what it has verified until the whole log is there: `DATA/rebuild`.
//!
//! Not here: what is verified. The invariant: `DATA/log` appears by one rename, whole; a rebuild that is killed at any
//! moment goes on from the segment files it had named.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use spec::carrier::Draft;
use spec::contract::Class;
use spec::{Bundle, DataItem, ItemId};

use super::check::{check_file, records, unpack};
use super::{Checked, Error, Result};
use crate::chain::Chain;
use crate::config::Config;
use crate::error::At;
use crate::frame::{self, GROUP_LEN, GroupHead, SEGMENT_VERSION, SegmentHead};
use crate::log::{Log, system_clock};
use crate::record::{Note, NoteKind, Record};
use crate::segment::{self, Content, Segment, Span, sync_folder};
use crate::weave::lock;

/// The rebuild's folder in the data folder.
const FOLDER: &str = "rebuild";
/// Its file that says whose log it is.
const OF: &str = "of";
/// Files made for segments that no carrier brings. Their count is the word of whoever signed the newest one.
const STAND_INS_MAX: u64 = 1_000_000;
/// Notes of one group of the log.
const GROUP_MAX: usize = 1024;
/// What may lie in a data folder beside a rebuild.
const BESIDE: [&str; 4] = ["keys", "lock", FOLDER, "cache"];

/// The folder of one rebuild. It keeps other nodes out of the data folder.
pub struct Staging {
    data: PathBuf,
    log: PathBuf,
    known: Mutex<Known>,
    /// Held while a segment's files are written, by the rest of its number: two histories may claim one number.
    writing: [Mutex<()>; 16],
    _lock: File,
}

/// The segments kept: each file is of one segment item.
#[derive(Default)]
struct Known {
    by_item: HashMap<ItemId, u64>,
    by_number: HashMap<u64, ItemId>,
}

impl Known {
    /// A file under a number takes the place of the one before it.
    fn put(&mut self, item: ItemId, number: u64) {
        if let Some(before) = self.by_number.insert(number, item) {
            self.by_item.remove(&before);
        }
        self.by_item.insert(item, number);
    }
}

/// What a rebuild had done when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// Some segments, perhaps none.
    Segments(usize),
    /// The log is in its place.
    Log,
}

impl Staging {
    /// Begins a rebuild in a data folder, or goes on with the one there. `of` says whose log it is.
    ///
    /// # Errors
    /// A folder with a log of its own or another rebuild; another node uses it; the operating system's refusal.
    pub fn open(data: &Path, of: &str) -> Result<(Staging, Staged)> {
        let folder = data.join(FOLDER);
        let goes_on = folder.exists();
        if !goes_on {
            check_empty(data)?;
        }
        let log = folder.join("log");
        make(data)?;
        make(&folder)?;
        let lock = lock(data)?;
        let is_placed = data.join("log").exists();
        if !is_placed {
            make(&log)?;
            sweep(&log)?;
        }
        name(&folder, of)?;
        let known = if is_placed {
            Known::default()
        } else {
            closing_items(&log)?
        };
        let staged = if is_placed {
            Staged::Log
        } else {
            Staged::Segments(known.by_item.len())
        };
        let staging = Staging {
            data: data.into(),
            log,
            known: Mutex::new(known),
            writing: Default::default(),
            _lock: lock,
        };
        Ok((staging, staged))
    }

    /// Whether a data folder holds a rebuild whose log is not in its place yet: no node may begin a log there.
    pub fn is_unfinished(data: &Path) -> bool {
        data.join(FOLDER).exists() && !data.join("log").exists()
    }

    /// Keeps a verified segment. It counts once its name is durable.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn keep(&self, checked: &Checked, notes: &[Note]) -> Result<()> {
        let number = checked.segment.segment;
        let writing = &self.writing[(number % self.writing.len() as u64) as usize];
        let _writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
        put(&self.notes(number), &encode_notes(notes))?;
        let closing = [&checked.segment_item, &checked.digest_item];
        let rows = closing.map(|item| (item.bytes().len() as u64, item.id()));
        let mut items = Bundle::table(rows.into_iter()).to_vec();
        closing
            .iter()
            .for_each(|item| items.extend_from_slice(item.bytes()));
        put(&self.items(number), &items)?;
        put(&self.file(number), &checked.file)?;
        self.known().put(checked.segment_item.id(), number);
        Ok(())
    }

    /// A segment that was kept, if it is whole. Its signatures were checked before it was kept.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn read(&self, segment_item: ItemId) -> Result<Option<Checked>> {
        let number = self.known().by_item.get(&segment_item).copied();
        let Some(number) = number else {
            return Ok(None);
        };
        let path = self.file(number);
        if !path.exists() {
            return Ok(None);
        }
        let file: Bytes = fs::read(&path).at(&path, "read the segment")?.into();
        let closing = read_closing(&self.items(number))?;
        let kept = closing.and_then(|closing| again(closing, file));
        Ok(kept.filter(|kept| kept.segment_item.id() == segment_item))
    }

    /// Whether a segment that was kept is still there: a carrier of another history may have brought one of its number.
    pub(super) fn holds(&self, segment_item: ItemId) -> bool {
        self.known().by_item.contains_key(&segment_item)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self, number: u64) -> PathBuf {
        self.log.join(format!("{number:08}.notes"))
    }

    fn file(&self, number: u64) -> PathBuf {
        self.log.join(segment::file_name(number, Class::Permanent))
    }

    fn items(&self, number: u64) -> PathBuf {
        self.log.join(format!("{number:08}.items"))
    }

    /// Makes the log of the segments kept, which must be all, and puts it in its place. Numbers of segments that no
    /// carrier brings get stand-ins; `chain` says the genesis; `notes` are appended last.
    ///
    /// # Errors
    /// The operating system's refusal; segments that do not make a log.
    pub fn place(&self, numbers: &[u64], chain: &Chain, notes: Vec<Record>) -> Result<()> {
        assert!(
            numbers.is_sorted_by(|a, b| a < b),
            "segments are in order, each once"
        );
        self.drop_others(numbers)?;
        let is_born = self.stand_in(numbers, chain)?;
        let log = Log::open_with(&Config::default(), &self.log, system_clock(), None)?;
        let genesis = (!is_born).then(|| Record::Note(chain.note()));
        let mut records: Vec<Record> = genesis.into_iter().collect();
        for number in numbers {
            let path = self.notes(*number);
            let bytes = fs::read(&path).at(&path, "read the segment's notes")?;
            records.extend(decode_notes(&bytes.into()).into_iter().map(Record::Note));
            if records.len() >= GROUP_MAX {
                log.append(std::mem::take(&mut records), Class::Local).wait()?;
            }
        }
        records.extend(notes);
        log.append(records, Class::Local).wait()?;
        log.seal(Class::Local)?;
        drop(log);
        for number in numbers {
            for path in [self.items(*number), self.notes(*number)] {
                fs::remove_file(&path).at(&path, "remove what was kept beside a segment")?;
            }
        }
        sync_folder(&self.log)?;
        let place = self.data.join("log");
        fs::rename(&self.log, &place).at(&place, "put the log in its place")?;
        Ok(sync_folder(&self.data)?)
    }

    /// Removes segments of carriers that did not belong to the log after all.
    fn drop_others(&self, numbers: &[u64]) -> Result<()> {
        for number in self.known().by_number.keys() {
            if numbers.binary_search(number).is_err() {
                for path in [self.file(*number), self.items(*number), self.notes(*number)] {
                    let _ = fs::remove_file(path);
                }
            }
        }
        Ok(())
    }

    /// Whether the genesis stands in the stand-in of the first segment.
    fn stand_in(&self, numbers: &[u64], chain: &Chain) -> Result<bool> {
        let last = numbers.last().copied().unwrap_or(0);
        let (actual, limit) = (last.saturating_sub(numbers.len() as u64), STAND_INS_MAX);
        if actual > limit {
            let what = "the number of segments that no carrier brings";
            return Err(Error::Limit { what, actual, limit });
        }
        let missing = (1..last).filter(|number| numbers.binary_search(number).is_err());
        let mut is_born = false;
        for number in missing {
            let with_genesis = number == 1 && self.begins_after_genesis(numbers, chain)?;
            is_born |= with_genesis;
            self.make_stand_in(number, chain, with_genesis)?;
        }
        Ok(is_born)
    }

    /// Whether the first segment leaves the positions free that the genesis takes.
    fn begins_after_genesis(&self, numbers: &[u64], chain: &Chain) -> Result<bool> {
        let first = Segment::open(&self.file(numbers[0]))?.footer()?;
        let first = first.and_then(|content| content.spans.first().copied());
        let (group, _) = genesis_group(chain, 0);
        Ok(first.is_none_or(|span| span.logical >= group.len() as u64))
    }

    fn make_stand_in(&self, number: u64, chain: &Chain, with_genesis: bool) -> Result<()> {
        let head = SegmentHead {
            version: SEGMENT_VERSION,
            class: Class::Local,
            number,
            salt: segment::salt(number),
            created_ms: chain.start_of(1),
        };
        let path = self.log.join(segment::file_name(number, Class::Local));
        let stand_in = Segment::create(&path, head)?;
        let mut content = Content::empty();
        if with_genesis {
            let (group, note_at) = genesis_group(chain, head.salt);
            stand_in.write(&group, content.end)?;
            content.add(Span {
                logical: 0,
                len: group.len() as u64,
                at: content.end,
            });
            content.end += group.len() as u64;
            (content.last, content.records) = (Some(note_at), 1);
            (content.batch, content.time_ms) = (1, chain.start_of(1));
        }
        Ok(stand_in.seal(&content)?)
    }

    /// Ends the rebuild: nothing of it is left in the data folder.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn finish(self) -> Result<()> {
        let folder = self.data.join(FOLDER);
        fs::remove_dir_all(&folder).at(&folder, "remove the rebuild's folder")?;
        Ok(sync_folder(&self.data)?)
    }
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Staging").field(&self.log).finish()
    }
}

/// The group that a log begins with, at position 0, and the position of its note.
fn genesis_group(chain: &Chain, salt: u32) -> (Vec<u8>, u64) {
    let (time_ms, note) = (chain.start_of(1), Record::Note(chain.note()));
    let mut body = Vec::new();
    frame::put_record(&mut body, &note, time_ms, salt);
    let at = Content::empty().end;
    let head = GroupHead {
        time_ms,
        records: 1,
        body_len: body.len() as u64,
        batch: 1,
        batch_at: at,
        at,
        logical: 0,
    };
    let mut group = Vec::new();
    head.put(&mut group, salt);
    group.extend_from_slice(&body);
    (group, GROUP_LEN as u64)
}

/// Notes as they are kept: kind u16, length u32, body.
fn encode_notes(notes: &[Note]) -> Vec<u8> {
    let mut out = Vec::new();
    for note in notes {
        out.extend_from_slice(&note.kind.0.to_le_bytes());
        let len = u32::try_from(note.body.len()).expect("a note is far below 4 GiB");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&note.body);
    }
    out
}

/// They were written whole: a file gets its name only then.
fn decode_notes(bytes: &Bytes) -> Vec<Note> {
    let (mut notes, mut at) = (Vec::new(), 0);
    while at + 6 <= bytes.len() {
        let kind = NoteKind(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let len = frame::u32_at(bytes, at + 2) as usize;
        let body = bytes.slice(at + 6..at + 6 + len);
        notes.push(Note { kind, body });
        at += 6 + len;
    }
    assert_eq!(at, bytes.len(), "notes fill their file");
    notes
}

fn make(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    Ok(made.at(folder, "create the folder")?)
}

/// Refuses a data folder that holds anything which a rebuild could mix with.
fn check_empty(data: &Path) -> Result<()> {
    if !data.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(data).at(data, "list the folder")? {
        let found = entry.at(data, "list the folder")?.file_name();
        let is_beside = BESIDE.iter().any(|name| *found == **name);
        if !is_beside || (found == *"cache") {
            return Err(Error::NotEmpty {
                folder: data.display().to_string(),
                found: found.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// Writes down whose log it is, or compares. A rebuild that has kept nothing may become another one: a mistyped wallet
/// costs no folder.
fn name(folder: &Path, of: &str) -> Result<()> {
    let (path, log) = (folder.join(OF), folder.join("log"));
    let is_bare = fs::read_dir(&log).is_ok_and(|mut kept| kept.next().is_none());
    match fs::read_to_string(&path) {
        Ok(found) if found == of => Ok(()),
        Ok(_) if is_bare => put(&path, of.as_bytes()),
        Ok(found) => Err(Error::Other {
            folder: folder.display().to_string(),
            found,
            wanted: of.into(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => put(&path, of.as_bytes()),
        Err(error) => Ok(Err(error).at(&path, "read whose log is rebuilt")?),
    }
}

/// Writes a file whole under its name, durably.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    // Not `.tmp`: two files of one segment differ in their ends only.
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft).at(&draft, "create the file")?;
    file.write_all(bytes).at(&draft, "write the file")?;
    file.sync_all().at(&draft, "sync the file")?;
    fs::rename(&draft, path).at(path, "name the file")?;
    Ok(sync_folder(path.parent().expect("it lies in a folder"))?)
}

/// Removes what an interrupted rebuild left half done: drafts, and local segments, which are made last.
fn sweep(log: &Path) -> Result<()> {
    for entry in fs::read_dir(log).at(log, "list the folder")? {
        let path = entry.at(log, "list the folder")?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if name.ends_with(".new") || name.ends_with(".tmp") || name.ends_with("-local.seg") {
            fs::remove_file(&path).at(&path, "remove the draft")?;
        }
    }
    Ok(())
}

/// The closing items of the segments kept, by the segment item's id.
fn closing_items(log: &Path) -> Result<Known> {
    let mut known = Known::default();
    for entry in fs::read_dir(log).at(log, "list the folder")? {
        let path = entry.at(log, "list the folder")?.path();
        if path.extension().is_some_and(|extension| extension == "items")
            && let Some([segment_item, _]) = read_closing(&path)?
            && let Ok(draft) = Draft::read(&segment_item)
        {
            known.put(segment_item.id(), draft.segment);
        }
    }
    Ok(known)
}

/// The two closing items of a carrier as they were kept; `None` if they are not whole.
fn read_closing(path: &Path) -> Result<Option<[DataItem; 2]>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error).at(path, "read the closing items")?,
    };
    let items = Bundle::parse(&bytes).ok().map(|bundle| bundle.items);
    let items: Option<[DataItem; 2]> = items.and_then(|items| items.try_into().ok());
    Ok(items.filter(|items| items.iter().all(|item| item.verify().is_ok())))
}

/// A segment as it was when it was kept, if the file is still the one its segment item speaks of.
fn again([segment_item, digest_item]: [DataItem; 2], file: Bytes) -> Option<Checked> {
    let segment = Draft::read(&segment_item).ok()?;
    check_file(&file, &segment).ok()?;
    let ranges = unpack(&segment.data).ok()?.ranges;
    let records = records(&file, None).ok()?;
    Some(Checked {
        segment,
        segment_item,
        digest_item,
        ranges,
        file,
        records,
        own: Vec::new(),
    })
}
