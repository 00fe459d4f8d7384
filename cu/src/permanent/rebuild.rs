//! Brings processes back from their logs, and checks what was said of them: for the commands that rebuild and verify.
//!
//! Not here: where the logs come from. Invariant: an audit builds on no checkpoint and records nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use spec::contract::{Answer, Tick};
use spec::{Address, ProcessId, Refusal};
use tokio::sync::oneshot;

use super::confirm::Report;
use super::{Checkpointing, Known, Meter, confirm, find, locked};
use crate::Cu;
use crate::process::Command;
use crate::runner::{EVALUATIONS_DUE, Runner, Target};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Checkpoints of one process that an audit compares.
const AUDIT_MAX: usize = 65_536;

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub process: ProcessId,
    /// The slot that it has been evaluated up to.
    pub slot: u64,
    /// The last slot of its log.
    pub last: u64,
    /// Evaluations done so far.
    pub evaluated: u64,
}

/// Told of progress, on whatever thread.
pub type Tell<'a> = &'a (dyn Fn(&Progress) + Send + Sync);

/// A process that was brought back.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// Which.
    pub process: ProcessId,
    /// The last slot of its log.
    pub slot: u64,
    /// When that was.
    pub tick: Tick,
    /// Its state root.
    pub root: [u8; 32],
    /// The checkpoint that evaluation began at; `None`: the log's beginning, or a checkpoint on this machine.
    pub begun_at: Option<Known>,
    /// The newest checkpoint that came out of the log.
    pub confirmed: Option<Known>,
    /// Those that did not, or that could not be read.
    pub wrong: Vec<Known>,
    /// Evaluations.
    pub evaluated: u64,
    /// Time it took, in ms.
    pub elapsed_ms: u64,
}

/// What a whole log says of a process's checkpoints.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Which.
    pub process: ProcessId,
    /// The last slot.
    pub slot: u64,
    /// The state root there.
    pub root: [u8; 32],
    /// Evaluations.
    pub evaluated: u64,
    /// Checkpoints whose state comes out of the log.
    pub agree: Vec<Known>,
    /// Those that claim another one, and the one it is; `None` where the log never stands where they claim.
    pub differ: Vec<(Known, Option<[u8; 32]>)>,
    /// Those that agree by what they say, but whose state cannot be had, and why.
    pub unreadable: Vec<(Known, String)>,
    /// Those of other modules or engine epochs than this evaluation's: nothing can be said of them.
    pub foreign: Vec<Known>,
    /// Whose checkpoints a compute unit would build on.
    pub trusted: BTreeSet<Address>,
}

impl Audit {
    /// Whether a checkpoint that would be built on claims a state that the log does not lead to.
    pub fn is_wrong(&self) -> bool {
        self.differ
            .iter()
            .any(|(known, _)| self.trusted.contains(&known.signer))
    }
}

/// Shows a process's progress as long as it is there.
struct Shown<'a> {
    checkpointing: &'a Checkpointing,
    process: ProcessId,
    meter: Arc<Meter>,
}

impl<'a> Shown<'a> {
    fn new(checkpointing: &'a Checkpointing, process: ProcessId) -> Shown<'a> {
        let meter = Arc::<Meter>::default();
        locked(&checkpointing.meters).insert(process, meter.clone());
        Shown {
            checkpointing,
            process,
            meter,
        }
    }

    fn progress(&self, last: u64) -> Progress {
        Progress {
            process: self.process,
            slot: self.meter.slot.load(std::sync::atomic::Ordering::Relaxed),
            last,
            evaluated: self.meter.evaluated.load(std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// Waits for work, telling how far it is.
    async fn tell<T>(&self, last: u64, tell: Tell<'_>, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(TELL_EVERY, &mut work).await {
                Ok(done) => {
                    tell(&self.progress(last));
                    return done;
                }
                Err(_) => tell(&self.progress(last)),
            }
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        locked(&self.checkpointing.meters).remove(&self.process);
    }
}

/// Refusals that only mean "ask again".
fn is_under_way(refusal: &Refusal) -> bool {
    refusal.code == EVALUATIONS_DUE
}

impl Cu {
    /// Brings processes back, `at_once` of them at a time (0: as many as threads): at a checkpoint that their log
    /// confirms if there is one, else from its beginning. Each is saved on this machine and put to sleep then.
    pub async fn rebuild(
        &self,
        processes: &[ProcessId],
        at_once: usize,
        tell: Tell<'_>,
    ) -> Vec<(ProcessId, Answer<Rebuilt>)> {
        let at_once = match at_once {
            0 => self.config().thread_count(),
            at_once => at_once,
        };
        let each = |process: ProcessId| async move { (process, self.rebuild_one(process, tell).await) };
        let all = futures_util::stream::iter(processes.iter().copied().map(each));
        all.buffer_unordered(at_once).collect().await
    }

    async fn rebuild_one(&self, process: ProcessId, tell: Tell<'_>) -> Answer<Rebuilt> {
        let started = Instant::now();
        let last = self.shared.scheduler.latest(process).await?.assignment.slot;
        let shown = Shown::new(&self.shared.checkpointing, process);
        let caught_up = async {
            loop {
                match self.catch_up(process, Target::Latest).await {
                    Err(refusal) if is_under_way(&refusal) => {}
                    done => return done,
                }
            }
        };
        shown.tell(last, tell, caught_up).await?;
        let report = self.ask(process, Command::Report).await?;
        let root = self.root(process).await?;
        let (reply, slept) = oneshot::channel();
        let owner = self.shared.owners.get(&self.shared, process);
        if owner.commands.send(Command::Sleep(Some(reply))).await.is_ok()
            && let Ok(slept) = slept.await
        {
            slept?;
        }
        let Report {
            begun_at,
            confirmed,
            wrong,
            ..
        } = report;
        let (slot, tick, root) = root;
        Ok(Rebuilt {
            process,
            slot,
            tick,
            root,
            begun_at,
            confirmed,
            wrong,
            evaluated: shown.progress(last).evaluated,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Slot, moment and root of the latest state.
    async fn root(&self, process: ProcessId) -> Answer<(u64, Tick, [u8; 32])> {
        let mut fork = self.fork(process, None).await?;
        let stand = fork.stand;
        let root = move || fork.machine.state_root();
        let root = self.shared.pool.run(root).await?.map_err(crate::Error::from)?;
        Ok((stand.slot, stand.tick, root))
    }

    /// Evaluates a whole log from slot 0 on a machine of its own and compares every permanent checkpoint found,
    /// whoever signed it.
    ///
    /// # Errors
    /// What scheduler or weave refuse; a log that breaks; a process whose module cannot run here.
    pub async fn audit(&self, process: ProcessId, tell: Tell<'_>) -> Answer<Audit> {
        let shared = &self.shared;
        let last = shared.scheduler.latest(process).await?.assignment.slot;
        let mut all = find::candidates(shared, process, None, AUDIT_MAX).await?;
        all.reverse();
        let shown = Shown::new(&shared.checkpointing, process);
        let mut runner = Runner::from_the_beginning(shared.clone(), process).await?;
        let mut audit = Audit {
            process,
            slot: last,
            root: [0; 32],
            evaluated: 0,
            agree: Vec::new(),
            differ: Vec::new(),
            unreadable: Vec::new(),
            foreign: Vec::new(),
            trusted: confirm::signers(shared, process).await?,
        };
        for one in &all {
            if !one.says.is_of(runner.program()?) {
                audit.foreign.push(one.known());
                continue;
            }
            // What claims a place that is not in this log is not evaluated for.
            let is_there = find::stand(shared, &one.says).await?.is_some();
            let reached = match is_there {
                true => shown.tell(last, tell, runner.reach(&one.says.place)).await?,
                false => false,
            };
            let root = if reached { Some(runner.root().await?) } else { None };
            match root {
                Some(root) if root == one.says.root => {
                    match find::state(shared, runner.program()?, one.id).await {
                        Ok(_) => audit.agree.push(one.known()),
                        Err(refusal) => audit.unreadable.push((one.known(), refusal.text)),
                    }
                }
                root => audit.differ.push((one.known(), root)),
            }
        }
        shown.tell(last, tell, runner.finish(last)).await?;
        (audit.root, audit.evaluated) = (runner.root().await?, runner.evaluated);
        Ok(audit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_checkpoint_makes_no_log_wrong() {
        let signer = Address([1; 32]);
        let known = Known {
            id: spec::ItemId([2; 32]),
            signer,
            slot: 7,
            timestamp_ms: 8,
            cron: None,
            root: [9; 32],
        };
        let mut audit = Audit {
            process: ProcessId([3; 32]),
            slot: 7,
            root: [4; 32],
            evaluated: 8,
            agree: Vec::new(),
            differ: vec![(known, Some([4; 32]))],
            unreadable: Vec::new(),
            foreign: Vec::new(),
            trusted: BTreeSet::new(),
        };
        assert!(!audit.is_wrong());
        audit.trusted.insert(signer);
        assert!(audit.is_wrong());
    }
}
