//! Which models are loaded: each once however many ids lead to it, as many as the memory set for them holds, the longest
//! unused leaving first.
//!
//! Not here: what loading is. Invariant: a model somebody asks is never taken away, what all take together never exceeds
//! the limit by these estimates, and files that are equal are one model: ids are looked up by the BLAKE3 of their bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::load::Loader;
use super::model::Model;
use super::{Blob, ModelRef, Refusal, Standing};
use crate::Profile;

/// Refused models that are remembered, so that a broken one is not read again and again.
const REFUSED_MAX: usize = 256;

/// Ids that are remembered beside what they lead to; one that is forgotten is read again.
const NAMES_MAX: usize = 1024;

/// The models of a node.
pub struct Registry {
    loader: Loader,
    state: Mutex<State>,
}

type Slot = Arc<OnceLock<Result<Arc<Model>, Refusal>>>;

/// What a model is, whichever id it is asked by: its file's BLAKE3, and the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    hash: blake3::Hash,
    profile: Profile,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Name>,
    entries: HashMap<Key, Entry>,
    turn: u64,
}

/// An id that was asked for.
#[derive(Default)]
struct Name {
    leads: Arc<Leads>,
    /// When it was last asked for.
    turn: u64,
}

/// What an id leads to: found by whoever asks for it first.
#[derive(Default)]
struct Leads {
    hash: OnceLock<Result<blake3::Hash, Refusal>>,
    /// The bytes that were read to find it, until they are loaded.
    read: Mutex<Option<Blob>>,
    /// Whether the bytes under the id turned out to be others later.
    is_stale: AtomicBool,
}

impl Leads {
    fn take(&self) -> Option<Blob> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A model loaded, being loaded, or refused.
#[derive(Default)]
struct Entry {
    slot: Slot,
    /// The id it was first asked by.
    id: String,
    /// Bytes set aside for it.
    bytes: u64,
    /// When it was last asked for.
    turn: u64,
}

impl Entry {
    /// Whether it is loaded and nobody asks it now.
    fn is_idle(&self) -> bool {
        // The slot's own is the only one, and nobody is about to take another: that needs the state's lock.
        Arc::strong_count(&self.slot) == 1
            && matches!(self.slot.get(), Some(Ok(model)) if Arc::strong_count(model) == 1)
    }

    fn is_refused(&self) -> bool {
        matches!(self.slot.get(), Some(Err(_)))
    }

    fn is_over(&self) -> bool {
        matches!(self.slot.get(), Some(Ok(model)) if model.is_over())
    }
}

impl Registry {
    pub fn new(loader: Loader) -> Registry {
        Registry {
            loader,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A model, loaded if it is not yet. Others that ask for it meanwhile wait, by whichever id.
    pub fn get(&self, model: &ModelRef) -> Result<Arc<Model>, Refusal> {
        let leads = self.lock().name(&model.id);
        let found = self.follow(model, &leads);
        if !leads.is_stale.load(Ordering::Relaxed) {
            return found;
        }
        // Its file was replaced by another since it was read: it is that other one.
        let leads = self.lock().name(&model.id);
        self.follow(model, &leads)
    }

    /// The model that an id leads to.
    fn follow(&self, model: &ModelRef, leads: &Arc<Leads>) -> Result<Arc<Model>, Refusal> {
        let found = leads.hash.get_or_init(|| self.read(model, leads)).clone();
        let hash = found.inspect_err(|_| self.lock().unnamed(&model.id, leads))?;
        let key = Key {
            hash,
            profile: model.profile,
        };
        let (slot, over) = self.lock().slot(key, &model.id);
        drop(over);
        let loaded = slot.get_or_init(|| self.load(model, key, leads)).clone();
        drop(leads.take());
        if let Err(refusal) = &loaded {
            self.lock().failed(key, &slot, refusal);
        }
        loaded
    }

    /// Reads what lies under an id, to know it by its content.
    fn read(&self, model: &ModelRef, leads: &Leads) -> Result<blake3::Hash, Refusal> {
        let blob = self.loader.models.bytes(&model.id)?;
        let bytes = (*blob).as_ref();
        if let Ok(footprint) = self.loader.footprint(bytes) {
            // Before all of it is read.
            within(footprint, self.loader.config.memory_bytes_max)?;
        }
        let hash = blake3::hash(bytes);
        *leads.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(blob);
        Ok(hash)
    }

    fn load(&self, model: &ModelRef, key: Key, leads: &Arc<Leads>) -> Result<Arc<Model>, Refusal> {
        let read = leads.take();
        let (is_known, blob) = match read {
            Some(read) => (true, read),
            None => (false, self.loader.models.bytes(&model.id)?),
        };
        let bytes = (*blob).as_ref();
        let footprint = self.loader.footprint(bytes)?;
        let evicted = self
            .lock()
            .make_room(key, footprint, self.loader.config.memory_bytes_max)?;
        // Their memory is free once their workers have ended.
        drop(evicted);
        if !is_known && blake3::hash(bytes) != key.hash {
            leads.is_stale.store(true, Ordering::Relaxed);
            self.lock().unnamed(&model.id, leads);
            return Err(Refusal::busy("the model's file was replaced by another"));
        }
        Ok(Arc::new(self.loader.load(model, bytes, key.hash, footprint)?))
    }

    /// The models that are loaded, by the ids they were first asked by.
    pub fn standing(&self) -> Vec<Standing> {
        // Under the lock and without a copy: whoever only looks must not keep a model from leaving.
        let state = self.lock();
        let loaded = state
            .entries
            .iter()
            .filter_map(|(key, entry)| match entry.slot.get() {
                Some(Ok(loaded)) => Some(stands(state.ids(*key, entry), key.profile, entry, loaded)),
                _ => None,
            });
        let mut all: Vec<Standing> = loaded.collect();
        all.sort_by(|a, b| (&a.model.id, a.model.profile.name()).cmp(&(&b.model.id, b.model.profile.name())));
        all
    }
}

/// Refuses what is larger than all models together may be.
fn within(bytes: u64, most: u64) -> Result<(), Refusal> {
    match bytes > most {
        true => {
            let why = format!("the model takes about {bytes} bytes, models may take {most}");
            Err(Refusal::room(why))
        }
        false => Ok(()),
    }
}

fn stands(ids: Vec<String>, profile: Profile, entry: &Entry, loaded: &Model) -> Standing {
    let status = &loaded.status;
    Standing {
        model: ModelRef {
            id: entry.id.clone(),
            profile,
        },
        ids,
        device: status.device(),
        bytes: loaded.bytes,
        waiting: loaded.waiting(),
        running: status.running.load(Ordering::Relaxed),
        positions: status.room.load(Ordering::Relaxed),
        positions_free: status.free.load(Ordering::Relaxed),
    }
}

impl State {
    /// What an id leads to, to be found yet where nobody asked for it.
    fn name(&mut self, id: &str) -> Arc<Leads> {
        self.turn += 1;
        let turn = self.turn;
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(id) {
            let oldest = self.names.iter().min_by_key(|(_, name)| name.turn);
            let oldest = oldest.map(|(id, _)| id.clone()).expect("there is more than none");
            self.names.remove(&oldest);
        }
        let name = self.names.entry(id.to_owned()).or_default();
        name.turn = turn;
        Arc::clone(&name.leads)
    }

    /// Forgets where an id leads.
    fn unnamed(&mut self, id: &str, leads: &Arc<Leads>) {
        if self
            .names
            .get(id)
            .is_some_and(|name| Arc::ptr_eq(&name.leads, leads))
        {
            self.names.remove(id);
        }
    }

    /// A model's slot, and the entry it replaces where that one's worker ended.
    fn slot(&mut self, key: Key, id: &str) -> (Slot, Option<Entry>) {
        self.turn += 1;
        let turn = self.turn;
        let over = match self.entries.get(&key).is_some_and(Entry::is_over) {
            true => self.entries.remove(&key),
            false => None,
        };
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            id: id.to_owned(),
            ..Entry::default()
        });
        entry.turn = turn;
        let slot = Arc::clone(&entry.slot);
        self.forget();
        (slot, over)
    }

    /// The ids that lead to a model, as far as they were asked for.
    fn ids(&self, key: Key, entry: &Entry) -> Vec<String> {
        let leads = |name: &Name| matches!(name.leads.hash.get(), Some(Ok(hash)) if *hash == key.hash);
        let named = self.names.iter().filter(|(_, name)| leads(name));
        let mut ids: Vec<String> = named.map(|(id, _)| id.clone()).collect();
        ids.push(entry.id.clone());
        ids.sort();
        ids.dedup();
        ids
    }

    /// Sets bytes aside, taking idle models out if need be; the caller drops them outside the lock.
    fn make_room(&mut self, key: Key, bytes: u64, most: u64) -> Result<Vec<Entry>, Refusal> {
        within(bytes, most)?;
        let mut evicted = vec![];
        let others = |state: &State| state.entries.values().map(|entry| entry.bytes).sum::<u64>();
        while others(self) + bytes > most {
            let idle = self.entries.iter().filter(|(_, entry)| entry.is_idle());
            let oldest = idle.min_by_key(|(_, entry)| entry.turn).map(|(key, _)| *key);
            let oldest =
                oldest.ok_or_else(|| Refusal::busy("other models are in use and take the memory"))?;
            evicted.extend(self.entries.remove(&oldest));
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.bytes = bytes;
        }
        Ok(evicted)
    }

    /// A model that could not be loaded takes nothing; it is tried again unless that can never help.
    fn failed(&mut self, key: Key, slot: &Slot, refusal: &Refusal) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if !Arc::ptr_eq(&entry.slot, slot) {
            return;
        }
        entry.bytes = 0;
        if let Refusal::Unavailable(_) = refusal {
            self.entries.remove(&key);
        }
    }

    /// Forgets the oldest refusals beyond their limit.
    fn forget(&mut self) {
        let refused = self.entries.iter().filter(|(_, entry)| entry.is_refused());
        let mut refused: Vec<(u64, Key)> = refused.map(|(key, entry)| (entry.turn, *key)).collect();
        if refused.len() > REFUSED_MAX {
            refused.sort_by_key(|(turn, _)| *turn);
            self.entries.remove(&refused[0].1);
        }
    }
}
