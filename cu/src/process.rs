//! The owner of one process: the only task that moves its state on, one command after the other.
//!
//! Invariant: while an owner is in the map of owners there is no other one of its process; it leaves the
//! map only without a machine and without commands waiting.

use std::sync::Arc;
use std::time::Duration;

use spec::ProcessId;
use spec::contract::Answer;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cron::Order;
use crate::owners::Handle;
use crate::permanent::confirm::Report;
use crate::runner::{Fork, Recorder, Runner, Target};
use crate::shared::Shared;

/// How long an owner without a machine stays.
const IDLE: Duration = Duration::from_secs(30);

/// Slots evaluated past the one whose outcome was asked for again.
const AGAIN_AHEAD: u64 = 256;

/// What an owner can be asked.
pub enum Command {
    /// To evaluate up to a point.
    CatchUp(Target, oneshot::Sender<Answer<()>>),
    /// To evaluate an earlier part of the log again, up to a slot at least: its outcomes are not here.
    Again(u64, oneshot::Sender<Answer<()>>),
    /// For a second machine: at the latest message, or right after a slot's message if it stands there.
    Fork(Option<u64>, oneshot::Sender<Answer<Option<Fork>>>),
    /// For what came of looking for permanent checkpoints when it woke.
    Report(oneshot::Sender<Report>),
    /// To keep the state in a checkpoint and let the machine go.
    Sleep(Option<oneshot::Sender<Answer<()>>>),
}

struct Owner {
    shared: Arc<Shared>,
    process: ProcessId,
    runner: Runner,
    /// Fills a gap in the outcomes, a part at a time.
    backfill: Option<Runner>,
    commands: mpsc::Receiver<Command>,
}

/// Starts the owner of a process.
pub fn start(shared: &Arc<Shared>, process: ProcessId) -> Handle {
    let (sender, commands) = mpsc::channel(shared.config.requests_max.max(1));
    let (progress, watched) = watch::channel(None);
    let recorder = Recorder {
        is_owner: true,
        results: shared.results.clone(),
        checkpoints: shared.checkpoints.clone(),
        progress,
    };
    let runner = Runner::new(shared.clone(), process, Some(recorder));
    let owner = Owner {
        shared: shared.clone(),
        process,
        runner,
        backfill: None,
        commands,
    };
    tokio::spawn(owner.run());
    Handle {
        commands: sender,
        progress: watched,
    }
}

impl Owner {
    async fn run(mut self) {
        loop {
            match tokio::time::timeout(IDLE, self.commands.recv()).await {
                Ok(Some(command)) => self.obey(command).await,
                Ok(None) => return,
                Err(_) => {}
            }
            let may_leave = !self.runner.is_live() && self.commands.is_empty();
            // Whoever sent a command meanwhile sees its answer dropped and asks the next owner.
            if may_leave && self.shared.owners.retire(self.process) {
                return;
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // A receiver that is gone does not wait any more; the work stays done.
        match command {
            Command::CatchUp(target, reply) => {
                let _ = reply.send(self.catch_up(target).await);
            }
            Command::Again(slot, reply) => {
                let _ = reply.send(self.again(slot).await);
            }
            Command::Fork(at, reply) => {
                let _ = reply.send(self.fork(at).await);
            }
            Command::Report(reply) => {
                let _ = reply.send(self.runner.take_report());
            }
            Command::Sleep(reply) => {
                let slept = self.sleep().await;
                if let Some(reply) = reply {
                    let _ = reply.send(slept);
                }
            }
        }
    }

    async fn catch_up(&mut self, target: Target) -> Answer<()> {
        let done = self.runner.catch_up(target).await;
        if !self.runner.is_live() {
            self.runner.give_up();
            self.shared.owners.forget(self.process);
        } else {
            self.shared.owners.touch(self.process, &self.shared.config);
        }
        done
    }

    /// Fills the outcomes up to a slot, and some more: who asks for one asks for the next one too. What holds the
    /// present state is left alone.
    async fn again(&mut self, slot: u64) -> Answer<()> {
        let present = self.runner.stand().map_or(slot, |stand| stand.slot.max(slot));
        let goes_on = |runner: &Runner| runner.stand().is_some_and(|stand| stand.slot < slot);
        let mut backfill = match self.backfill.take().filter(goes_on) {
            Some(backfill) => backfill,
            None => Runner::new(self.shared.clone(), self.process, Some(self.filler())),
        };
        backfill.wake(slot).await?;
        let until = slot.saturating_add(AGAIN_AHEAD).min(present);
        let done = backfill.catch_up(Target::Slot(until)).await;
        let is_over = backfill.stand().is_none_or(|stand| stand.slot >= present);
        self.backfill = Some(backfill).filter(|backfill| !is_over && backfill.is_live());
        done
    }

    fn filler(&self) -> Recorder {
        Recorder {
            is_owner: false,
            results: self.shared.results.clone(),
            checkpoints: self.shared.checkpoints.clone(),
            progress: watch::channel(None).0,
        }
    }

    async fn fork(&mut self, at: Option<u64>) -> Answer<Option<Fork>> {
        self.catch_up(at.map_or(Target::Latest, Target::Slot)).await?;
        let stand = self.runner.stand();
        let fits = |slot| stand.is_some_and(|stand| stand.slot == slot && stand.order() == Order::MESSAGE);
        if !at.is_none_or(fits) {
            return Ok(None);
        }
        self.runner.fork().await.map(Some)
    }

    async fn sleep(&mut self) -> Answer<()> {
        let slept = self.runner.sleep().await;
        self.shared.owners.forget(self.process);
        if let Err(refusal) = &slept {
            tracing::warn!(process = %self.process, "no checkpoint was written, the log will be replayed: {refusal}");
        }
        slept
    }
}
