//! Which models are loaded: each once, as many as the memory set for them holds, the longest unused leaving first.
//!
//! Not here: what loading is. Invariant: a model somebody asks is never taken away, and what all take together never
//! exceeds the limit by these estimates.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::load::Loader;
use super::model::Model;
use super::{ModelRef, Refusal, Standing};

/// Refused models that are remembered, so that a broken one is not read again and again.
const REFUSED_MAX: usize = 256;

/// The models of a node.
pub struct Registry {
    loader: Loader,
    state: Mutex<State>,
}

type Slot = Arc<OnceLock<Result<Arc<Model>, Refusal>>>;

#[derive(Default)]
struct State {
    entries: HashMap<ModelRef, Entry>,
    turn: u64,
}

/// A model loaded, being loaded, or refused.
#[derive(Default)]
struct Entry {
    slot: Slot,
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

    /// A model, loaded if it is not yet. Others that ask for it meanwhile wait.
    pub fn get(&self, model: &ModelRef) -> Result<Arc<Model>, Refusal> {
        let (slot, over) = self.slot(model);
        drop(over);
        let loaded = slot.get_or_init(|| self.load(model)).clone();
        if let Err(refusal) = &loaded {
            self.lock().failed(model, &slot, refusal);
        }
        loaded
    }

    /// A model's slot, and the entry it replaces where that one's worker ended.
    fn slot(&self, model: &ModelRef) -> (Slot, Option<Entry>) {
        let mut state = self.lock();
        state.turn += 1;
        let turn = state.turn;
        let over = match state.entries.get(model).is_some_and(Entry::is_over) {
            true => state.entries.remove(model),
            false => None,
        };
        let entry = state.entries.entry(model.clone()).or_default();
        entry.turn = turn;
        let slot = Arc::clone(&entry.slot);
        state.forget();
        (slot, over)
    }

    fn load(&self, model: &ModelRef) -> Result<Arc<Model>, Refusal> {
        let blob = self.loader.models.bytes(&model.id)?;
        let bytes = (*blob).as_ref();
        let footprint = self.loader.footprint(bytes)?;
        let evicted = self
            .lock()
            .make_room(model, footprint, self.loader.config.memory_bytes_max)?;
        // Their memory is free once their workers have ended.
        drop(evicted);
        Ok(Arc::new(self.loader.load(model, bytes, footprint)?))
    }

    /// The models that are loaded, by name.
    pub fn standing(&self) -> Vec<Standing> {
        // Under the lock and without a copy: whoever only looks must not keep a model from leaving.
        let state = self.lock();
        let loaded = state
            .entries
            .iter()
            .filter_map(|(model, entry)| match entry.slot.get() {
                Some(Ok(loaded)) => Some(stands(model.clone(), loaded)),
                _ => None,
            });
        let mut all: Vec<Standing> = loaded.collect();
        all.sort_by(|a, b| (&a.model.id, a.model.profile.name()).cmp(&(&b.model.id, b.model.profile.name())));
        all
    }
}

fn stands(model: ModelRef, loaded: &Model) -> Standing {
    let status = &loaded.status;
    Standing {
        model,
        device: status.device(),
        bytes: loaded.bytes,
        waiting: loaded.waiting(),
        running: status.running.load(Ordering::Relaxed),
        positions: status.room.load(Ordering::Relaxed),
        positions_free: status.free.load(Ordering::Relaxed),
    }
}

impl State {
    /// Sets bytes aside, taking idle models out if need be; the caller drops them outside the lock.
    fn make_room(&mut self, model: &ModelRef, bytes: u64, most: u64) -> Result<Vec<Entry>, Refusal> {
        if bytes > most {
            let why = format!("the model takes about {bytes} bytes, models may take {most}");
            return Err(Refusal::room(why));
        }
        let mut evicted = vec![];
        let others = |state: &State| state.entries.values().map(|entry| entry.bytes).sum::<u64>();
        while others(self) + bytes > most {
            let idle = self.entries.iter().filter(|(_, entry)| entry.is_idle());
            let oldest = idle
                .min_by_key(|(_, entry)| entry.turn)
                .map(|(model, _)| model.clone());
            let oldest =
                oldest.ok_or_else(|| Refusal::busy("other models are in use and take the memory"))?;
            evicted.extend(self.entries.remove(&oldest));
        }
        if let Some(entry) = self.entries.get_mut(model) {
            entry.bytes = bytes;
        }
        Ok(evicted)
    }

    /// A model that could not be loaded takes nothing; it is tried again unless that can never help.
    fn failed(&mut self, model: &ModelRef, slot: &Slot, refusal: &Refusal) {
        let Some(entry) = self.entries.get_mut(model) else {
            return;
        };
        if !Arc::ptr_eq(&entry.slot, slot) {
            return;
        }
        entry.bytes = 0;
        if let Refusal::Unavailable(_) = refusal {
            self.entries.remove(model);
        }
    }

    /// Forgets the oldest refusals beyond their limit.
    fn forget(&mut self) {
        let refused = self.entries.iter().filter(|(_, entry)| entry.is_refused());
        let mut refused: Vec<(u64, ModelRef)> = refused
            .map(|(model, entry)| (entry.turn, model.clone()))
            .collect();
        if refused.len() > REFUSED_MAX {
            refused.sort_by_key(|(turn, _)| *turn);
            self.entries.remove(&refused[0].1);
        }
    }
}
