//! Steps gathered until somebody reads, then run as one list; a list that was recorded before is submitted again.
//!
//! What changes from step to step (positions, page tables, inputs) travels in upload memory, so a decode step is the
//! same list every time. Not here: what the steps are. Invariant: after the first failure nothing is recorded, run or
//! answered any more: the device is given up, and whoever reads gets the error.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::vulkan::arena::{ALIGN, Arena, Range};
use crate::backend::vulkan::gpu::{Gpu, Kernel, Place, Recording, Run, Step, Words};
use crate::error::Error;

/// Words of one chunk of short-lived memory.
const CHUNK_WORDS: usize = 1 << 24;
/// Words of one chunk of upload memory.
const UPLOAD_WORDS: usize = 1 << 20;
/// Words of upload memory that one list may use before it is run.
const UPLOAD_WORDS_MAX: usize = 1 << 24;
/// Steps that may be gathered before what is uploaded next runs them.
const STEPS_MAX: usize = 8192;
/// Lists kept recorded.
const RECORDINGS_MAX: usize = 64;

/// The steps of one device.
#[derive(Debug)]
pub struct Stream {
    /// The device.
    pub gpu: Gpu,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    steps: Vec<Step>,
    arena: Arena,
    chunks: Vec<Words>,
    upload: Ring,
    download: Option<Words>,
    recorded: HashMap<Vec<Step>, Recording>,
    repeated: Option<(Vec<u32>, Words)>,
    replays: u64,
    lost: Option<String>,
}

/// Upload memory: chunks filled from the front, empty again after each run.
#[derive(Debug, Default)]
struct Ring {
    chunks: Vec<Words>,
    chunk: usize,
    at: usize,
    used: usize,
}

/// Short-lived device memory, taken back when dropped.
#[derive(Debug)]
pub struct Slot {
    /// The words asked for.
    pub words: Words,
    home: Option<(Arc<Stream>, Range)>,
}

/// Device memory that stays until it is dropped; lists that were recorded with it go with it.
#[derive(Debug)]
pub struct Kept {
    /// The words asked for.
    pub words: Words,
    home: Arc<Stream>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.home.state().recorded.clear();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((stream, range)) = &self.home {
            stream.state().arena.give(*range);
        }
    }
}

impl Stream {
    /// An empty list for a device.
    pub fn new(gpu: Gpu) -> Stream {
        Stream {
            gpu,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Short-lived memory. After a failure it is memory that no step will touch.
    pub fn slot(self: &Arc<Self>, count: usize) -> Slot {
        let mut state = self.state();
        let taken = state.take(&self.gpu, count);
        match taken {
            Ok((words, range)) => Slot {
                words,
                home: Some((self.clone(), range)),
            },
            Err(error) => {
                state.fail(&error);
                let words = state.spare(&self.gpu);
                Slot { words, home: None }
            }
        }
    }

    /// Adds a dispatch.
    pub fn run(&self, kernel: Result<Kernel, Error>, bound: &[&Words], args: &[u32], groups: [u32; 3]) {
        let run = |kernel| Run {
            kernel,
            bound: bound.iter().map(|words| (*words).clone()).collect(),
            args: args.to_vec(),
            groups,
        };
        match kernel {
            Ok(kernel) => self.push(Step::Run(run(kernel))),
            Err(error) => self.state().fail(&error),
        }
    }

    /// Adds a step.
    pub fn push(&self, step: Step) {
        let mut state = self.state();
        if state.lost.is_none() {
            state.steps.push(step);
        }
    }

    /// Words for the steps that follow, until the next upload. After a failure, any words.
    ///
    /// A list that is long enough is run here and nowhere in between: then no step is still to come that reads words
    /// handed out before, and their memory is free.
    pub fn upload(&self, values: &mut dyn ExactSizeIterator<Item = u32>) -> Words {
        let mut state = self.state();
        if state.steps.len() >= STEPS_MAX || state.upload.used + values.len() > UPLOAD_WORDS_MAX {
            state.flush(&self.gpu);
        }
        match state.upload.put(&self.gpu, values) {
            Ok(words) => words,
            Err(error) => {
                state.fail(&error);
                state.spare(&self.gpu)
            }
        }
    }

    /// As [`Stream::upload`], for words that several steps of one run ask for in turn: a batch.
    pub fn upload_repeated(&self, values: Vec<u32>) -> Words {
        if let Some((last, words)) = &self.state().repeated
            && *last == values
        {
            return words.clone();
        }
        let words = self.upload(&mut values.iter().copied());
        self.state().repeated = Some((values, words.clone()));
        words
    }

    /// Runs everything gathered, and gives the words of a range.
    ///
    /// # Errors
    /// The device failed, now or before.
    pub fn read(&self, words: &Words) -> Result<Vec<u32>, Error> {
        let mut state = self.state();
        let count = words.len() as usize;
        let to = state
            .download(&self.gpu, count)
            .map_err(|error| state.fail(&error));
        if let (Ok(to), None) = (&to, &state.lost) {
            state.steps.push(Step::Copy(words.clone(), to.clone()));
        }
        state.flush(&self.gpu);
        match (to, &state.lost) {
            (Ok(to), None) => Ok(to.read().map_err(|e| self.gpu.error(e))?.to_vec()),
            (_, why) => Err(self.gpu.error(why.clone().unwrap_or_default())),
        }
    }

    /// Memory that stays, filled with these words.
    ///
    /// # Errors
    /// No room, or the device failed.
    pub fn resident(self: &Arc<Self>, values: &[u32]) -> Result<Kept, Error> {
        let kept = self.keep(values.len())?;
        let words = &kept.words;
        let mut at = 0;
        for part in values.chunks(UPLOAD_WORDS) {
            let from = self.upload(&mut part.iter().copied());
            let to = words.clone().slice(at as u64..(at + part.len()) as u64);
            self.push(Step::Copy(from, to));
            at += part.len();
        }
        self.alive().map(|()| kept)
    }

    /// Memory filled with zeros. It is short-lived memory all the same: a cache made for one pass comes to lie where
    /// the last pass had its own, and the pass is a replay.
    ///
    /// # Errors
    /// No room, or the device failed.
    pub fn zeros(self: &Arc<Self>, count: usize) -> Result<Slot, Error> {
        let slot = self.slot(count);
        self.push(Step::Zero(slot.words.clone()));
        self.alive().map(|()| slot)
    }

    fn keep(self: &Arc<Self>, count: usize) -> Result<Kept, Error> {
        Ok(Kept {
            words: self.gpu.words(Place::Device, count)?,
            home: self.clone(),
        })
    }

    fn alive(&self) -> Result<(), Error> {
        match &self.state().lost {
            Some(why) => Err(self.gpu.error(why)),
            None => Ok(()),
        }
    }

    /// Runs everything gathered and gives the device's ticks for it; nothing where it has no timestamps.
    ///
    /// # Errors
    /// The device failed, now or before.
    pub fn ticks(&self) -> Result<Option<u64>, Error> {
        let mut state = self.state();
        let steps = std::mem::take(&mut state.steps);
        let ticks = match &state.lost {
            Some(why) => Err(self.gpu.error(why)),
            None => self.gpu.ticks(&steps),
        };
        if let Err(error) = &ticks {
            state.fail(error);
        }
        state.empty();
        ticks
    }

    /// How many runs used a list recorded before.
    pub fn replays(&self) -> u64 {
        self.state().replays
    }

    /// Gives the device up: every later read is an error.
    pub fn lose(&self, why: &str) {
        self.state().fail(&self.gpu.error(why));
    }
}

impl State {
    fn fail(&mut self, error: &Error) {
        self.lost.get_or_insert(error.to_string());
        self.steps.clear();
    }

    fn take(&mut self, gpu: &Gpu, count: usize) -> Result<(Words, Range), Error> {
        let range = match self.arena.take(count) {
            Some(range) => range,
            None => {
                let words = CHUNK_WORDS.max(count.next_multiple_of(ALIGN));
                self.chunks.push(gpu.words(Place::Device, words)?);
                self.arena.grow(words);
                self.arena.take(count).expect("the new chunk holds it")
            }
        };
        let words = self.chunks[range.chunk].clone();
        Ok((
            words.slice(range.at as u64..(range.at + count.max(1)) as u64),
            range,
        ))
    }

    /// Any words at all; a device that has none left was given up before it had any.
    fn spare(&mut self, gpu: &Gpu) -> Words {
        if self.chunks.is_empty() {
            let words = gpu
                .words(Place::Download, ALIGN)
                .expect("a few words of host memory");
            return words;
        }
        self.chunks[0].clone()
    }

    fn download(&mut self, gpu: &Gpu, count: usize) -> Result<Words, Error> {
        if self
            .download
            .as_ref()
            .is_none_or(|words| (words.len() as usize) < count)
        {
            self.download = Some(gpu.words(Place::Download, count.next_power_of_two())?);
        }
        let words = self.download.clone().expect("made above");
        Ok(words.slice(0..count as u64))
    }

    fn flush(&mut self, gpu: &Gpu) {
        let steps = std::mem::take(&mut self.steps);
        if !steps.is_empty()
            && self.lost.is_none()
            && let Err(error) = self.replay(gpu, steps)
        {
            self.fail(&error);
        }
        self.empty();
    }

    fn empty(&mut self) {
        self.upload.empty();
        self.repeated = None;
    }

    fn replay(&mut self, gpu: &Gpu, steps: Vec<Step>) -> Result<(), Error> {
        if let Some(recording) = self.recorded.get(&steps) {
            self.replays += 1;
            return gpu.submit(recording);
        }
        let recording = gpu.record(&steps)?;
        gpu.submit(&recording)?;
        if self.recorded.len() == RECORDINGS_MAX {
            self.recorded.clear();
        }
        self.recorded.insert(steps, recording);
        Ok(())
    }
}

impl Ring {
    fn put(&mut self, gpu: &Gpu, values: &mut dyn ExactSizeIterator<Item = u32>) -> Result<Words, Error> {
        let count = values.len().max(1);
        let full = |ring: &Ring| ring.at + count > ring.chunks[ring.chunk].len() as usize;
        while self.chunk < self.chunks.len() && full(self) {
            self.chunk += 1;
            self.at = 0;
        }
        if self.chunk == self.chunks.len() {
            self.chunks
                .push(gpu.words(Place::Upload, count.max(UPLOAD_WORDS))?);
        }
        let words = self.chunks[self.chunk].clone();
        let words = words.slice(self.at as u64..(self.at + count) as u64);
        let mut to = words.write().map_err(|e| gpu.error(e))?;
        for (to, value) in to.iter_mut().zip(values) {
            *to = value;
        }
        drop(to);
        self.at = (self.at + count).next_multiple_of(ALIGN);
        self.used += count;
        Ok(words)
    }

    fn empty(&mut self) {
        (self.chunk, self.at, self.used) = (0, 0, 0);
    }
}

/// A part of a range; all of it where a failed device gave memory of another size.
pub fn part(words: &Words, at: usize, len: usize) -> Words {
    if at + len > words.len() as usize {
        return words.clone();
    }
    words.clone().slice(at as u64..(at + len) as u64)
}
