//! Where a process begins that has nothing on this machine: at a permanent checkpoint that its log confirms.
//!
//! A checkpoint is confirmed when evaluating the log from the one before it gives the state that it says. Evaluation
//! then goes on in the state that was computed here. Not here: what makes a checkpoint (`publish`).
//! Invariant: no checkpoint is a base unless a signer that is built on signed it; what does not come out of the log is
//! remembered and left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use spec::contract::Answer;
use spec::{Address, ProcessId};

use super::Known;
use super::find::{self, Candidate};
use crate::checkpoint::Stand;
use crate::error::Error;
use crate::program::Program;
use crate::runner::{Live, Runner};
use crate::runtime::{Machine, State};
use crate::shared::Shared;

/// Checkpoints looked at before a log is replayed from its beginning.
const CANDIDATES_MAX: usize = 64;

/// What came of looking for checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The one that evaluation began at.
    pub begun_at: Option<Known>,
    /// The newest one that came out of the log.
    pub confirmed: Option<Known>,
    /// Those that did not.
    pub wrong: Vec<Known>,
    /// Slots evaluated to find out.
    pub evaluated: u64,
}

struct Search<'a> {
    shared: &'a Arc<Shared>,
    program: &'a Arc<Program>,
    report: Report,
}

/// Looks for a confirmed state not later than `last`; `None` sends the caller to the log's beginning.
pub fn begin<'a>(
    shared: &'a Arc<Shared>,
    program: &'a Arc<Program>,
    last: u64,
) -> BoxFuture<'a, (Option<Live>, Report)> {
    // Boxed: what confirms is a runner too, though one that is awake and looks for nothing.
    Box::pin(async move {
        let mut search = Search {
            shared,
            program,
            report: Report::default(),
        };
        let begun = search.run(last).await.unwrap_or_else(|refusal| {
            let process = program.key.process;
            tracing::warn!(%process, "permanent checkpoints are left out, the log is replayed: {refusal}");
            None
        });
        (begun, search.report)
    })
}

/// Whose checkpoints may be built on.
pub async fn signers(shared: &Shared, process: ProcessId) -> Answer<BTreeSet<Address>> {
    let mut signers = shared.checkpointing.signers();
    signers.extend(shared.config.permanent.signers.iter().copied());
    if shared.config.permanent.trusts_scheduler {
        let slot0 = shared.scheduler.process(process).await?;
        let scheduler = slot0.assignment.item.owner_address();
        signers.extend(find::named_by(shared, scheduler).await?);
    }
    Ok(signers)
}

impl Search<'_> {
    async fn run(&mut self, last: u64) -> Answer<Option<Live>> {
        let process = self.program.key.process;
        let signers = signers(self.shared, process).await?;
        if signers.is_empty() {
            return Ok(None);
        }
        let mut all = find::candidates(self.shared, process, Some(&signers), CANDIDATES_MAX).await?;
        all.retain(|one| one.says.place.slot <= last && one.says.is_of(self.program));
        all.retain(|one| !self.shared.checkpointing.is_refused(one.id));
        if let Some(live) = self.at_once(&all).await? {
            return Ok(Some(live));
        }
        let (mut left, mut doubtful) = (&all[..], Vec::new());
        while let Some((target, earlier)) = left.split_first() {
            left = earlier;
            if find::stand(self.shared, &target.says).await?.is_none() {
                self.refuse(target, "its log never stands where it claims to");
                continue;
            }
            if let Some(live) = self.confirm(target, earlier, &doubtful).await? {
                return Ok(Some(live));
            }
            doubtful.push(target);
        }
        // None follows from another: they are not tried again, but for one that had none before it.
        let doubtful = doubtful.iter().filter(|_| self.report.evaluated > 0);
        doubtful.for_each(|one| self.shared.checkpointing.refuse(one.id));
        Ok(None)
    }

    /// This node's own newest one, where the operator wants it taken without a replay.
    async fn at_once(&mut self, all: &[Candidate]) -> Answer<Option<Live>> {
        let own = self.shared.checkpointing.own();
        let own = own.filter(|_| self.shared.config.permanent.takes_own_at_once);
        for one in all.iter().filter(|one| Some(one.signer) == own) {
            if let Some((_, live)) = self.load(one).await? {
                self.report.begun_at = Some(one.known());
                return Ok(Some(live));
            }
        }
        Ok(None)
    }

    /// The state of a checkpoint, if it can be had and stands in this log.
    async fn load(&mut self, one: &Candidate) -> Answer<Option<(Stand, Live)>> {
        let Some(stand) = find::stand(self.shared, &one.says).await? else {
            self.refuse(one, "its log never stands where it claims to");
            return Ok(None);
        };
        let state = match find::state(self.shared, self.program, one.id).await {
            Ok((_, state)) => state,
            Err(refusal) if refusal.is_retryable() => return Err(refusal),
            Err(refusal) => {
                self.refuse(one, &refusal.text);
                return Ok(None);
            }
        };
        let (program, at) = (self.program.clone(), stand.clone());
        let live = self.shared.pool.run(move || live(&program, &state, at)).await??;
        Ok(Some((stand, live)))
    }

    /// Evaluates from the newest earlier checkpoint that can be had to `target`; if its state comes out, on to those
    /// later ones that did not come out of the ones before them.
    async fn confirm(
        &mut self,
        target: &Candidate,
        earlier: &[Candidate],
        doubtful: &[&Candidate],
    ) -> Answer<Option<Live>> {
        let (mut base, rank) = (None, target.says.place.rank());
        for one in earlier.iter().filter(|one| one.says.place.rank() < rank) {
            if self.shared.checkpointing.is_refused(one.id) {
                continue;
            }
            if let Some((_, live)) = self.load(one).await? {
                base = Some((one, live));
                break;
            }
        }
        // From the log's beginning the caller goes by itself.
        let Some((one, live)) = base else { return Ok(None) };
        let mut runner = Runner::standing(self.shared.clone(), self.program.clone(), live);
        if !self.comes_out(&mut runner, target).await? {
            return Ok(None);
        }
        self.report.begun_at = Some(one.known());
        self.report.confirmed = Some(target.known());
        for later in doubtful
            .iter()
            .rev()
            .filter(|later| later.says.place.rank() > rank)
        {
            match self.comes_out(&mut runner, later).await? {
                true => self.report.confirmed = Some(later.known()),
                false => self.refuse(later, "its state does not come out of the log"),
            }
        }
        Ok(runner.into_live())
    }

    /// Whether a checkpoint's state is the one that evaluation leads to.
    async fn comes_out(&mut self, runner: &mut Runner, one: &Candidate) -> Answer<bool> {
        let before = runner.evaluated;
        let reached = runner.reach(&one.says.place).await;
        self.report.evaluated += runner.evaluated - before;
        let is_right = reached? && runner.root().await? == one.says.root;
        if !is_right {
            let process = self.program.key.process;
            tracing::warn!(%process, slot = one.says.place.slot, checkpoint = %one.id, signer = %one.signer,
                "evaluating from the checkpoint before leads to another state");
        }
        Ok(is_right)
    }

    fn refuse(&mut self, one: &Candidate, why: &str) {
        let process = self.program.key.process;
        tracing::warn!(%process, slot = one.says.place.slot, checkpoint = %one.id, signer = %one.signer,
            "permanent checkpoint refused: {why}");
        self.shared.checkpointing.refuse(one.id);
        self.report.wrong.push(one.known());
    }
}

/// A machine in the state of a checkpoint.
pub fn live(program: &Program, state: &State, stand: Stand) -> Result<Live, Error> {
    let machine = Machine::stand_on(&program.module, program.limits, state)?;
    Ok(Live::at(machine.asks(program.oracle.clone()), stand))
}
