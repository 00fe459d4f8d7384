//! A decoder shared by many asks: each step evaluates the next token of every answer, and parts of waiting prompts.
//!
//! Not here: what an ask does with logits (`answer.rs`), who is next (`queue.rs`). Invariant: which asks share a step,
//! how prompts are cut, what prefix is reused, and what was started over never shows in an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::answer::{Event, Job, Work};
use super::model::Status;
use super::queue::Queue;
use super::worker::{Inbox, State};
use super::{Refusal, Unavailable};
use crate::backend::PAGE;
use crate::engine::{Logits, Part, ROWS_MAX, Sequence, Wanted};
use crate::error::Error;
use crate::generate::Decode;

/// Logits of a step beyond which tokens are chosen by several threads.
const LOGITS_SHARED: usize = 1 << 20;

/// Rows of a step that an asker's prompts have before anybody's have more.
const ROWS_SHARE: usize = ROWS_MAX / 16;

/// Loads the model again where it can be computed when its device was lost; `None` where the device was asked for by name.
pub type Reload<T> = Option<Box<dyn Fn() -> Result<T, Refusal> + Send>>;

/// A decoder's worker.
pub struct Decoding {
    pub engine: Box<dyn Decode>,
    pub reload: Reload<Box<dyn Decode>>,
    /// Asks being evaluated, in the order they were let in.
    pub batch: Vec<Job>,
    pub batch_max: usize,
    /// Threads that choose tokens.
    pub threads: usize,
    pub prefixes: Prefixes,
    pub status: Arc<Status>,
}

/// Sequences of asks that are done, whose pages a later ask may share; the longest unused first.
pub struct Prefixes {
    pub kept: VecDeque<Sequence>,
    pub most: usize,
}

impl Decoding {
    /// Works until the inbox is closed or the device lost.
    pub fn run(mut self, inbox: &Inbox<Job>) {
        while self.admit(inbox) {
            if let Err(refusal) = self.step(inbox) {
                // Whoever waits in the queue sees the worker gone.
                self.batch
                    .drain(..)
                    .for_each(|job| job.tell(Event::Refused(refusal.clone())));
                return;
            }
            self.status.running.store(self.batch.len(), Ordering::Relaxed);
            self.status.free.store(self.free(), Ordering::Relaxed);
        }
    }

    /// Positions free, those of kept prefixes included.
    fn free(&self) -> usize {
        let held = |sequence: &Sequence| sequence.tokens().len().next_multiple_of(PAGE);
        let kept: usize = self.prefixes.kept.iter().map(held).sum();
        // Shared pages count once too often; this figure is for people.
        (self.engine.free() + kept).min(self.status.room.load(Ordering::Relaxed))
    }

    /// Takes asks in as far as there is room, waiting while there are none; `false` when there will be none.
    fn admit(&mut self, inbox: &Inbox<Job>) -> bool {
        let mut state = match self.batch.is_empty() {
            false => inbox.lock(),
            true => match inbox.wait() {
                Some(state) => state,
                None => return false,
            },
        };
        for job in state.queue.cancelled() {
            job.tell(Event::Refused(Refusal::Unavailable(Unavailable::Cancelled)));
        }
        while self.batch.len() < self.batch_max || self.yield_one(&mut state) || self.yield_turn(&mut state) {
            let Some(job) = state.queue.pop() else { break };
            if !self.batch.is_empty() && !self.room_for(job.tokens.len() + 1) {
                state.queue.put_back(job);
                break;
            }
            self.start(job);
        }
        true
    }

    /// Sends an ask back to the queue if somebody waits who has none here while another has several.
    fn yield_one(&mut self, state: &mut State<Job>) -> bool {
        let idle = state.queue.next().is_some_and(|(_, running)| running == 0);
        match state.queue.busiest() {
            Some((asker, running)) if idle && running > 1 => {
                let newest = self.batch.iter().rposition(|job| job.asker == asker);
                let newest = newest.expect("who has asks running has them here");
                self.send_back(newest, &mut state.queue);
                true
            }
            _ => false,
        }
    }

    /// Sends the ask of whoever had most back to the queue, once it had its turn, if somebody waits who has none here and
    /// had less: with more askers than places all go on, in turns.
    fn yield_turn(&mut self, state: &mut State<Job>) -> bool {
        let Some((asker, 0)) = state.queue.next() else {
            return false;
        };
        let had = state.queue.served(asker);
        let served = |(at, job): (usize, &Job)| (state.queue.served(&job.asker), at);
        let turned = self.batch.iter().enumerate().filter(|(_, job)| job.had_turn());
        match turned.map(served).max() {
            Some((most, at)) if most > had => {
                self.send_back(at, &mut state.queue);
                true
            }
            _ => false,
        }
    }

    /// Frees an ask's pages, but for what a later one may share, and puts it back in line.
    fn send_back(&mut self, at: usize, queue: &mut Queue<Job>) {
        let mut job = self.batch.remove(at);
        self.keep(std::mem::take(&mut job.sequence));
        queue.put_back(job);
    }

    /// Makes room for so many positions out of kept prefixes; tells whether there is enough.
    fn room_for(&mut self, positions: usize) -> bool {
        let needed = positions.next_multiple_of(PAGE);
        while self.engine.free() < needed {
            match self.prefixes.kept.pop_front() {
                Some(sequence) => self.engine.end(sequence),
                None => return false,
            }
        }
        true
    }

    /// Lets an ask in, on the pages of whichever sequence begins like it.
    fn start(&mut self, mut job: Job) {
        job.let_in = job.tokens.len();
        let from = job.from();
        let common = |sequence: &Sequence| {
            let pairs = sequence.tokens().iter().zip(&job.tokens[..from]);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let kept = self.prefixes.kept.iter().map(common).enumerate();
        let kept = kept.max_by_key(|(_, length)| *length).unwrap_or((0, 0));
        let running = self.batch.iter().map(|job| common(&job.sequence)).enumerate();
        let running = running.max_by_key(|(_, length)| *length).unwrap_or((0, 0));
        if self.prefixes.most > 0 && kept.1.max(running.1) >= PAGE {
            job.sequence = match kept.1 >= running.1 {
                true => {
                    let sequence = self.prefixes.kept.remove(kept.0).expect("it was found there");
                    self.go_on(sequence, kept.1)
                }
                false => self.engine.fork(&self.batch[running.0].sequence, running.1),
            };
        }
        self.batch.push(job);
    }

    /// What an ask that has so many tokens in common with a kept sequence begins with.
    fn go_on(&mut self, sequence: Sequence, common: usize) -> Sequence {
        if sequence.tokens().len() == common {
            // It goes on where this one stopped, which a fork of whole pages would not; others fork it from the batch.
            return sequence;
        }
        let fork = self.engine.fork(&sequence, common);
        // What is used moves to the end, where it stays longest.
        self.prefixes.kept.push_back(sequence);
        fork
    }

    /// Keeps a sequence for asks that begin like it, instead of those it begins like.
    fn keep(&mut self, sequence: Sequence) {
        if self.prefixes.most == 0 || sequence.tokens().len() < PAGE {
            return self.engine.end(sequence);
        }
        let old = std::mem::take(&mut self.prefixes.kept);
        let covers = |old: &Sequence| sequence.tokens().starts_with(old.tokens());
        let (covered, kept): (VecDeque<_>, _) = old.into_iter().partition(covers);
        self.prefixes.kept = kept;
        self.prefixes.kept.push_back(sequence);
        covered.into_iter().for_each(|old| self.engine.end(old));
        while self.prefixes.kept.len() > self.prefixes.most {
            let oldest = self.prefixes.kept.pop_front().expect("it has more than none");
            self.engine.end(oldest);
        }
    }

    /// What each ask has in the next step: answers first, then prompts as rows are left.
    fn plan(&self, queue: &Queue<Job>) -> Vec<(usize, Wanted)> {
        let (mut rows, mut dealt) = (ROWS_MAX, vec![0; self.batch.len()]);
        let most = |at: usize| self.batch[at].plan(ROWS_MAX).0;
        let (writing, mut reading): (Vec<usize>, Vec<usize>) =
            (0..self.batch.len()).partition(|at| self.batch[*at].left() == 1);
        for at in writing {
            dealt[at] = most(at).min(rows);
            rows -= dealt[at];
        }
        // Who had least is first, of equals what is short; but nobody is left out for another's long prompt, so each
        // asker has its share before the rest goes round.
        reading.sort_by_key(|at| (queue.served(&self.batch[*at].asker), most(*at), *at));
        for share in [ROWS_SHARE, ROWS_MAX] {
            let mut had = HashMap::<&str, usize>::new();
            for at in &reading {
                let had = had.entry(&self.batch[*at].asker).or_default();
                let more = (most(*at) - dealt[*at]).min(share - *had).min(rows);
                dealt[*at] += more;
                *had += more;
                rows -= more;
            }
        }
        let planned = |(job, rows): (&Job, usize)| job.plan(rows);
        self.batch.iter().zip(dealt).map(planned).collect()
    }

    /// Positions that a plan takes from the free ones.
    fn needed(&self, plan: &[(usize, Wanted)]) -> usize {
        let whole = |n: usize| n.next_multiple_of(PAGE);
        let grows = |(job, (new, _)): (&Job, &(usize, Wanted))| {
            let length = job.sequence.tokens().len();
            whole(length + new) - whole(length)
        };
        self.batch.iter().zip(plan).map(grows).sum()
    }

    /// One step of everybody. Fails only where the device is lost for good.
    fn step(&mut self, inbox: &Inbox<Job>) -> Result<(), Refusal> {
        self.drop_cancelled(inbox);
        self.vector(inbox)?;
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut plan = self.plan(&inbox.lock().queue);
        while !self.room_for(self.needed(&plan)) {
            // The first ask alone always fits: longer ones than the cache were never let in.
            assert!(self.batch.len() > 1, "an ask beyond the cache was let in");
            self.send_back(self.batch.len() - 1, &mut inbox.lock().queue);
            plan = self.plan(&inbox.lock().queue);
        }
        let mut parts = vec![];
        for (job, (new, wanted)) in self.batch.iter_mut().zip(&plan).filter(|(_, (new, _))| *new > 0) {
            let start = job.sequence.tokens().len();
            parts.push(Part {
                sequence: &mut job.sequence,
                new: &job.tokens[start..start + new],
                wanted: *wanted,
            });
        }
        if parts.is_empty() {
            // Only vectors, which wait for room that no one here holds: the next turn has it.
            return Ok(());
        }
        match self.engine.step(&mut parts) {
            Ok(logits) => self.finish(inbox, &plan, logits),
            Err(error @ Error::Device { .. }) => return self.start_over(error),
            Err(error) => return Err(Refusal::evaluation(&error)),
        }
        Ok(())
    }

    /// Evaluates one text's vector, if one is wanted and there is room.
    fn vector(&mut self, inbox: &Inbox<Job>) -> Result<(), Refusal> {
        let wanted = |job: &Job| matches!(job.work, Work::Vector);
        let Some(at) = self.batch.iter().position(wanted) else {
            return Ok(());
        };
        let length = self.batch[at].tokens.len();
        if !self.room_for(length) {
            return Ok(());
        }
        let event = match self.engine.vector(&self.batch[at].tokens) {
            Ok(vector) => Event::Vector(vector),
            Err(error @ Error::Device { .. }) => return self.start_over(error),
            Err(error) => Event::Refused(Refusal::evaluation(&error)),
        };
        let job = self.batch.remove(at);
        let mut state = inbox.lock();
        state.queue.charge(&job.asker, length);
        state.queue.ended(&job.asker);
        job.tell(event);
        Ok(())
    }

    fn drop_cancelled(&mut self, inbox: &Inbox<Job>) {
        while let Some(at) = self.batch.iter().position(|job| job.cancel.is_cancelled()) {
            let job = self.batch.remove(at);
            inbox.lock().queue.ended(&job.asker);
            job.tell(Event::Refused(Refusal::Unavailable(Unavailable::Cancelled)));
            // It may have gone on a kept one, which others still begin like.
            self.keep(job.sequence);
        }
    }

    /// The device is gone and with it all that was evaluated: the asks go on from their tokens where they can.
    fn start_over(&mut self, error: Error) -> Result<(), Refusal> {
        let reload = self.reload.take().ok_or(error)?;
        self.engine = reload()?;
        self.prefixes.kept.clear();
        self.batch
            .iter_mut()
            .for_each(|job| job.sequence = Sequence::default());
        self.status.renamed(self.engine.device(), self.engine.free());
        Ok(())
    }

    /// Hands the logits to the asks and lets go of those that are done.
    fn finish(&mut self, inbox: &Inbox<Job>, plan: &[(usize, Wanted)], logits: Vec<Vec<Logits>>) {
        let mut logits = logits.into_iter();
        let of = |(new, _): &(usize, Wanted)| if *new > 0 { logits.next() } else { None };
        let logits: Vec<Vec<Logits>> = plan.iter().map(of).map(Option::unwrap_or_default).collect();
        let mut done = vec![false; self.batch.len()];
        let count: usize = logits.iter().flatten().map(|logits| logits.len()).sum();
        let share = match count > LOGITS_SHARED {
            true => self.batch.len().div_ceil(self.threads),
            false => self.batch.len().max(1),
        };
        let parts = self.batch.chunks_mut(share).zip(logits.chunks(share));
        std::thread::scope(|scope| {
            for (index, ((jobs, logits), done)) in parts.zip(done.chunks_mut(share)).enumerate() {
                let take = move || {
                    for ((job, logits), done) in jobs.iter_mut().zip(logits).zip(done) {
                        *done = job.take(logits);
                    }
                };
                match (index + 1) * share < plan.len() {
                    true => drop(scope.spawn(take)),
                    false => take(),
                }
            }
        });
        let mut state = inbox.lock();
        for (job, (new, _)) in self.batch.iter().zip(plan) {
            state.queue.charge(&job.asker, *new);
        }
        for at in (0..done.len()).rev().filter(|at| done[*at]) {
            let job = self.batch.remove(at);
            state.queue.ended(&job.asker);
            self.keep(job.sequence);
        }
    }
}
